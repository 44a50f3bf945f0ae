//! What a log loses, or gets back that it should not, on one server: each reader notices, and begins anew.

use tiered_tiers::{
    Bus, Redis, TierError,
    protocol::{Position, Void},
    testing::{RedisServer, bus_conforms},
};

use super::reader::{Admin, Entries, HEAD, LOG, Reader, STREAM, messages, patient, say, serving};
use crate::wait;

const ANY: &[Void] = &[Void::Gap, Void::Headless];

#[tokio::test]
async fn whatever_goes_of_a_log_its_reader_notices() {
    let (_server, bus, mut admin) = serving().await;
    let losses: [&[&[&str]]; 9] = [
        &[&["DEL", STREAM]],
        &[&["DEL", HEAD]],
        &[&["DEL", STREAM, HEAD]],
        &[&["XTRIM", STREAM, "MAXLEN", "0"]],
        &[&["FLUSHALL"]],
        &[&["XTRIM", STREAM, "MAXLEN", "0"], &["DEL", HEAD]],
        &[&["SET", HEAD, "hunter2", "EX", "60"]],
        &[&["DEL", HEAD], &["RPUSH", HEAD, "hunter2"], &["EXPIRE", HEAD, "60"]],
        &[&["PEXPIRE", HEAD, "0"], &["PEXPIRE", STREAM, "0"]],
    ];
    for loss in losses {
        for later in ["nothing", "a message", "another reader"] {
            let what = format!("{loss:?}, then {later}");
            admin.does(&["FLUSHALL"]).await;
            let mut reader = Reader::open(&bus).await;
            if later != "another reader" {
                say(&bus, &["read"]).await;
            }
            reader.catches_up(&bus).await;
            say(&bus, &["lost"]).await;
            for command in loss {
                admin.does(command).await;
            }
            match later {
                "a message" => say(&bus, &["later"]).await,
                "another reader" => drop(Reader::open(&bus).await),
                _ => {}
            }
            reader.notices(&bus, ANY, &what).await;
        }
    }
}

/// A stream that was trimmed to nothing by its cap or by hand has lost nothing to whoever has read it all.
#[tokio::test]
async fn what_was_read_may_go() {
    let (_server, bus, mut admin) = serving().await;
    let mut reader = Reader::open(&bus).await;
    say(&bus, &["one", "two"]).await;
    reader.catches_up(&bus).await;
    admin.does(&["XTRIM", STREAM, "MAXLEN", "0"]).await;
    reader.catches_up(&bus).await;
    say(&bus, &["three"]).await;
    reader.catches_up(&bus).await;
    assert_eq!(reader.told, ["one", "two", "three"]);
}

/// One entry out of many, whichever it is.
#[tokio::test]
async fn a_single_message_that_is_gone_is_missed() {
    let (_server, bus, mut admin) = serving().await;
    for gone in 0..3 {
        let mut reader = Reader::open(&bus).await;
        say(&bus, &["one", "two", "three"]).await;
        let entries: Entries = admin.ask(&["XREVRANGE", STREAM, "+", "-", "COUNT", "3"]).await;
        admin.does(&["XDEL", STREAM, &entries[gone].0]).await;
        reader.notices(&bus, &[Void::Gap], &format!("message {gone} from behind")).await;
    }
}

#[tokio::test]
async fn a_reader_that_falls_behind_the_cap_notices() {
    let (_server, bus, mut admin) = serving().await;
    let bus = bus.max_messages(1_000);
    let mut reader = Reader::open(&bus).await;
    for _ in 0..30 {
        say(&bus, &["m"; 100]).await;
    }
    let kept: u64 = admin.ask(&["XLEN", STREAM]).await;
    assert!((1_000..1_200).contains(&kept), "{kept} messages are kept");
    reader.notices(&bus, &[Void::Gap], "trimmed").await;
}

/// The server's clock goes back, and the stream has been dropped: new messages get ids before the old ones.
#[tokio::test]
async fn ids_that_go_back_are_noticed() {
    for dropped in [&["DEL", STREAM, HEAD][..], &["DEL", STREAM]] {
        let (_server, bus, mut admin) = serving().await;
        say(&bus, &["first"]).await;
        admin.does(&["XSETID", STREAM, "99999999999999-7"]).await;
        let mut reader = Reader::open(&bus).await;
        say(&bus, &["read"]).await;
        reader.catches_up(&bus).await;
        admin.does(dropped).await;
        say(&bus, &["lost"]).await;
        reader.notices(&bus, &[Void::Gap], &format!("{dropped:?}")).await;
    }
}

/// A stream or a head that is put back from a copy, by itself.
#[tokio::test]
async fn half_a_log_that_comes_back_is_noticed() {
    for (key, also) in [
        (STREAM, None),
        (HEAD, None),
        (HEAD, Some(["DEL", STREAM].as_slice())),
        (HEAD, Some(&["XTRIM", STREAM, "MAXLEN", "0"])),
    ] {
        for later in [false, true] {
            let (_server, bus, mut admin) = serving().await;
            let mut reader = Reader::open(&bus).await;
            say(&bus, &["read"]).await;
            reader.catches_up(&bus).await;
            let copy: Vec<u8> = admin.ask(&["DUMP", key]).await;
            say(&bus, &["lost"]).await;
            let restore = [b"RESTORE", key.as_bytes(), b"60000", &copy, b"REPLACE"];
            let () = admin.try_ask(&restore).await.unwrap();
            if let Some(also) = also {
                admin.does(also).await;
            }
            if later {
                say(&bus, &["later"]).await;
            }
            reader.notices(&bus, ANY, &format!("{key} and {also:?}, later: {later}")).await;
        }
    }
}

/// What somebody else has put there, who spelled the key.
#[tokio::test]
async fn strangers_in_a_stream_do_not_stop_it() {
    let (_server, bus, mut admin) = serving().await;
    let mut reader = Reader::open(&bus).await;
    for stranger in [&["field", "value"][..], &["p", "1", "t", "2", "m", "3"]] {
        admin.does(&[&["XADD", STREAM, "*"], stranger].concat()).await;
        reader.notices(&bus, ANY, "a stranger at the end").await;
        admin.does(&[&["XADD", STREAM, "*"], stranger].concat()).await;
        say(&bus, &["behind it"]).await;
        reader.notices(&bus, ANY, "a stranger before a message").await;
    }
    // A key that is no stream is nobody's log, until it is gone.
    admin.does(&["SET", STREAM, "v", "EX", "60"]).await;
    let wrong = Err(TierError::Refused("WRONGTYPE".into()));
    assert_eq!(bus.append(LOG, &messages(&["m"])).await, wrong);
    assert_eq!(reader.step(&bus).await.map(drop), wrong);
    admin.does(&["DEL", STREAM]).await;
    reader.notices(&bus, ANY, "another key is gone").await;
}

#[tokio::test]
async fn a_server_that_comes_back_is_another() {
    for (saves, later) in [(false, false), (false, true), (true, false), (true, true)] {
        let what = format!("with an old copy: {saves}, then a message: {later}");
        let mut server = RedisServer::builder().config("save", "3600 1").start().await.unwrap();
        let bus = patient(&server.url()).bus();
        let mut reader = Reader::open(&bus).await;
        say(&bus, &["read"]).await;
        reader.catches_up(&bus).await;
        if saves {
            Admin::of(&server).await.does(&["SAVE"]).await;
        }
        say(&bus, &["lost"]).await;
        server.kill().unwrap();
        for _ in 0..2 {
            assert!(reader.step(&bus).await.is_err(), "{what}");
        }
        server.restart().await.unwrap();
        if later {
            // The pool may remember for a moment that nobody was there.
            wait(60).await;
            say(&bus, &["later"]).await;
        }
        reader.notices(&bus, &[Void::OtherRun], &what).await;
    }
}

/// The copy has just what the reader knows: only the run tells.
#[tokio::test]
async fn a_server_that_comes_back_with_what_was_known_is_another_all_the_same() {
    let mut server = RedisServer::builder().config("save", "3600 1").start().await.unwrap();
    let bus = patient(&server.url()).bus();
    let mut reader = Reader::open(&bus).await;
    say(&bus, &["read"]).await;
    reader.catches_up(&bus).await;
    Admin::of(&server).await.does(&["SAVE"]).await;
    server.restart().await.unwrap();
    wait(60).await;
    reader.notices(&bus, &[Void::OtherRun], "restarted").await;
}

#[tokio::test]
async fn a_replica_proves_nothing() {
    let (_server, bus, mut admin) = serving().await;
    let mut reader = Reader::open(&bus).await;
    say(&bus, &["one"]).await;
    // Of nobody: it keeps its data, and takes no writes.
    admin.does(&["REPLICAOF", "127.0.0.1", "1"]).await;
    let refused = Err(TierError::Refused("READONLY".into()));
    assert_eq!(reader.step(&bus).await.map(drop), refused);
    assert_eq!(bus.append(LOG, &messages(&["m"])).await, refused);
    assert_eq!(bus.open(LOG).await.map(drop), refused);
    admin.does(&["REPLICAOF", "NO", "ONE"]).await;
    // Its history is another now.
    let mut reader = Reader::open(&bus).await;
    reader.catches_up(&bus).await;
    admin.does(&["CONFIG", "SET", "min-replicas-to-write", "1"]).await;
    let refused = Err(TierError::Refused("NOREPLICAS".into()));
    assert_eq!(reader.step(&bus).await.map(drop), refused);
    admin.does(&["CONFIG", "SET", "min-replicas-to-write", "0"]).await;
    reader.catches_up(&bus).await;
}

#[tokio::test]
async fn a_full_server_refuses_messages_and_is_followed_all_the_same() {
    let (_server, bus, mut admin) = serving().await;
    let mut reader = Reader::open(&bus).await;
    say(&bus, &["one"]).await;
    admin.does(&["CONFIG", "SET", "maxmemory", "1"]).await;
    let refused = bus.append(LOG, &messages(&["m", "m"])).await;
    assert_eq!(refused, Err(TierError::Refused("OOM".into())));
    reader.catches_up(&bus).await;
    reader.wait(&bus, std::time::Duration::from_millis(20)).await.unwrap();
    assert_eq!(Reader::open(&bus).await.told, [""; 0]);
    let seen = bus.poll(LOG, Position::default(), std::time::Duration::ZERO).await.unwrap();
    assert_eq!((seen.links.len(), seen.has_more, seen.head.is_some()), (1, false, true));
    admin.does(&["DEL", STREAM]).await;
    assert_eq!(reader.step(&bus).await.unwrap().void, Some(Void::Headless));
    assert_eq!(bus.open(LOG).await.map(drop), Err(TierError::Refused("OOM".into())));
    admin.does(&["CONFIG", "SET", "maxmemory", "0"]).await;
    reader.opens(&bus).await;
    say(&bus, &["two"]).await;
    reader.catches_up(&bus).await;
    assert_eq!(reader.told, ["two"]);
}

#[tokio::test]
async fn both_keys_live_a_day_longer_than_anybody_cares() {
    let (server, bus, mut admin) = serving().await;
    let hours = async |admin: &mut Admin, key| {
        let life: i64 = admin.ask(&["PTTL", key]).await;
        (life + 1_800_000) / 3_600_000
    };
    let mut reader = Reader::open(&bus).await;
    assert_eq!(hours(&mut admin, HEAD).await, 24);
    say(&bus, &["one"]).await;
    for (left, becomes) in [("72000", 20), ("46800", 13), ("39600", 24), ("10", 24)] {
        admin.does(&["EXPIRE", HEAD, left]).await;
        admin.does(&["EXPIRE", STREAM, left]).await;
        reader.catches_up(&bus).await;
        for key in [HEAD, STREAM] {
            assert_eq!(hours(&mut admin, key).await, becomes, "{key} with {left} s");
        }
    }
    admin.does(&["PERSIST", HEAD]).await;
    reader.catches_up(&bus).await;
    assert_eq!(hours(&mut admin, HEAD).await, 24, "what would live for ever");
    for act in [0, 1] {
        admin.does(&["EXPIRE", HEAD, "10"]).await;
        admin.does(&["EXPIRE", STREAM, "10"]).await;
        if act == 0 {
            say(&bus, &["two"]).await;
        } else {
            Reader::open(&bus).await;
        }
        for key in [HEAD, STREAM] {
            assert_eq!(hours(&mut admin, key).await, 24, "{key} after {act}");
        }
    }
    assert_eq!(server.keys_without_expiry().await.unwrap(), Vec::<Vec<u8>>::new());
}

/// What is used of the server, and no more: the list that the documentation gives.
#[tokio::test]
async fn a_user_of_an_access_list_may_follow_what_is_its_own() {
    let (server, _, mut admin) = serving().await;
    let rules = "on >hunter2 resetkeys ~{shop%bus:* -@all +auth +select +ping +evalsha +eval +get +set \
        +pexpire +pttl +xadd +xtrim +xrange +xread +xinfo|stream +multi +exec +echo +info";
    let words: Vec<&str> = ["ACL", "SETUSER", "bus"].into_iter().chain(rules.split(' ')).collect();
    admin.does(&words.into_iter().filter(|word| !word.is_empty()).collect::<Vec<_>>()).await;
    let bus = patient(&server.url()).username("bus").password("hunter2").bus();
    let mut reader = Reader::open(&bus).await;
    say(&bus, &["one"]).await;
    reader.wait(&bus, std::time::Duration::from_secs(1)).await.unwrap();
    assert_eq!(reader.told, ["one"]);
    let other = tiered_tiers::LogName { topic: "other", index: 0 };
    let refused = bus.open(other).await;
    assert!(matches!(refused, Err(TierError::Refused(_))), "{refused:?}");
    reader.catches_up(&bus).await;
    // A server that does not tell its run: what is said on another connection may be another's.
    admin.does(&["ACL", "SETUSER", "bus", "-info"]).await;
    reader.catches_up(&bus).await;
    admin.does(&["CLIENT", "KILL", "USER", "bus"]).await;
    reader.notices(&bus, &[Void::OtherRun], "another connection").await;
}

#[tokio::test]
async fn a_bus_needs_connections_of_its_own_and_numbers_that_can_work() {
    let (server, bus, _) = serving().await;
    let client = redis::Client::open(server.url()).unwrap();
    let connection = client.get_multiplexed_async_connection().await.unwrap();
    let handed_in = Redis::from_connection(connection).bus();
    let error = handed_in.check().unwrap_err().to_string();
    assert!(error.contains("Redis::new(url)"), "{error}");
    assert!(matches!(handed_in.open(LOG).await, Err(TierError::Unsupported(_))));
    let appended = handed_in.append(LOG, &messages(&["m"])).await;
    assert!(matches!(appended, Err(TierError::Unsupported(_))));
    for (bus, what) in [
        (bus, None),
        (patient(&server.url()).bus().logs(0), Some("logs(0)")),
        (patient(&server.url()).bus().logs(65), Some("logs(65)")),
        (patient(&server.url()).bus().max_messages(999), Some("max_messages(999)")),
        (patient(&server.url()).username("me").bus(), Some("without a password")),
    ] {
        let checked = bus.check().map_err(|error| error.to_string());
        match what {
            None => assert_eq!(checked, Ok(())),
            Some(what) => assert!(checked.unwrap_err().contains(what), "{what}"),
        }
    }
    let secret = patient(&server.url()).password("hunter2").bus();
    assert!(!format!("{secret:?}").contains("hunter2"));
    // The suite's topics are far from what a bus is used for; this is one that engines give.
    bus_conforms(&patient(&server.url()).bus().logs(64)).await;
}
