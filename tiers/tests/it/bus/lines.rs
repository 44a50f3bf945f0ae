//! The way between a bus and its server: cut, silent, slow, lying; and the connections that polls leave behind.

use std::time::{Duration, Instant};

use tiered_tiers::{
    Bus, Redis, RedisBus, TierError,
    testing::{LinkFault, Proxy, RedisServer},
};
use tokio::time::timeout;

use super::{
    model::{Audit, Ledger},
    reader::{Admin, Entries, HEAD, LOG, Reader, STREAM, messages, patient, say, serving},
};
use crate::{through, timed, wait};

/// `connect_timeout` and `response_timeout`, and wide room for a busy machine.
const DEADLINE: Duration = Duration::from_millis(4_000);

async fn behind_a_proxy() -> (RedisServer, Proxy, RedisBus) {
    let server = RedisServer::start().await.unwrap();
    let proxy = Proxy::before(server.port()).await.unwrap();
    let tier = Redis::new(&through(&proxy)).unwrap();
    let bus = tier.response_timeout(Duration::from_millis(600)).bus();
    (server, proxy, bus)
}

/// Fails when it takes longer than a second and wide room for a busy machine.
async fn heals(reader: &mut Reader, bus: &dyn Bus) {
    let start = Instant::now();
    while reader.step(bus).await.is_err() || bus.append(LOG, &messages(&["m"])).await.is_err() {
        assert!(start.elapsed() < Duration::from_secs(4), "still not healed");
        wait(10).await;
    }
}

#[tokio::test]
async fn a_reader_that_was_cut_off_hears_what_came_meanwhile() {
    let (server, proxy, bus) = behind_a_proxy().await;
    let direct = patient(&server.url()).bus();
    let mut reader = Reader::open(&bus).await;
    let mut expected = Vec::new();
    for number in 0..6 {
        proxy.inject(LinkFault::BlackHole);
        assert_eq!(reader.step(&bus).await.map(drop), Err(TierError::Timeout));
        let word = number.to_string();
        say(&direct, &[&word]).await;
        expected.push(word);
        proxy.heal();
        reader.catches_up(&bus).await;
        assert_eq!(reader.told, expected);
    }
    // Killed by the server while it waits: the same poll goes on over another connection.
    let mut admin = Admin::of(&server).await;
    let (step, ()) = tokio::join!(reader.wait(&bus, Duration::from_secs(10)), async {
        let me: u64 = admin.ask(&["CLIENT", "ID"]).await;
        wait(100).await;
        let clients: String = admin.ask(&["CLIENT", "LIST", "TYPE", "NORMAL"]).await;
        for client in clients.lines() {
            let id = client.strip_prefix("id=").and_then(|line| line.split(' ').next()).unwrap();
            if id != me.to_string() {
                admin.does(&["CLIENT", "KILL", "ID", id]).await;
            }
        }
        say(&direct, &["last"]).await;
    });
    assert_eq!(step.unwrap().messages, ["last"]);
}

#[tokio::test]
async fn a_silent_line_ends_by_its_deadline_and_is_left() {
    let (_server, proxy, bus) = behind_a_proxy().await;
    let mut reader = Reader::open(&bus).await;
    say(&bus, &["one"]).await;
    reader.catches_up(&bus).await;
    for wait in [Duration::ZERO, Duration::from_millis(700)] {
        proxy.inject(LinkFault::BlackHole);
        let (polled, took) = timed(reader.wait(&bus, wait)).await;
        assert_eq!(polled.map(drop), Err(TierError::Timeout));
        assert!(took < wait + DEADLINE, "{took:?}");
        let (appended, took) = timed(bus.append(LOG, &messages(&["m"]))).await;
        assert_eq!(appended, Err(TierError::Timeout));
        assert!(took < DEADLINE, "{took:?}");
        let (opened, took) = timed(bus.open(LOG)).await;
        assert_eq!(opened.map(drop), Err(TierError::Timeout));
        assert!(took < DEADLINE, "{took:?}");
        proxy.heal();
        heals(&mut reader, &bus).await;
    }
}

#[tokio::test]
async fn a_frozen_server_and_a_dead_one() {
    let mut server = RedisServer::start().await.unwrap();
    let bus = Redis::new(&server.url()).unwrap().bus();
    let mut reader = Reader::open(&bus).await;
    server.freeze().unwrap();
    let (polled, took) = timed(reader.wait(&bus, Duration::from_millis(300))).await;
    assert_eq!(polled.map(drop), Err(TierError::Timeout));
    assert!(took < DEADLINE, "{took:?}");
    server.thaw().unwrap();
    heals(&mut reader, &bus).await;
    server.kill().unwrap();
    for _ in 0..3 {
        let (polled, took) = timed(reader.wait(&bus, Duration::from_secs(30))).await;
        assert!(matches!(polled, Err(TierError::Unreachable(_))), "{polled:?}");
        assert!(took < DEADLINE, "{took:?}");
    }
    server.restart().await.unwrap();
    heals(&mut reader, &bus).await;
}

/// The message is there once or twice, and its reader is told of no loss.
#[tokio::test]
async fn an_append_that_is_cut_is_made_again() {
    let (server, proxy, bus) = behind_a_proxy().await;
    let direct = patient(&server.url()).bus();
    let mut reader = Reader::open(&direct).await;
    say(&bus, &["one"]).await;
    for _ in 0..5 {
        proxy.cut_next_request();
        say(&bus, &["two"]).await;
    }
    reader.catches_up(&direct).await;
    assert_eq!(reader.told, ["one", "two", "two", "two", "two", "two"]);
    // An answer is lost: the first copy was executed.
    proxy.inject(LinkFault::Truncate);
    let mut copies = 0;
    for number in 0..200 {
        let word = number.to_string();
        if bus.append(LOG, &messages(&[&word])).await.is_err() {
            // The pool remembers for a moment that a dial has failed.
            wait(60).await;
            continue;
        }
        reader.catches_up(&direct).await;
        copies = reader.told.iter().filter(|told| **told == word).count();
        if copies > 1 {
            break;
        }
    }
    assert_eq!(copies, 2, "none was repeated");
    let entries: Entries = Admin::of(&server).await.ask(&["XRANGE", STREAM, "-", "+"]).await;
    let mut tokens: Vec<_> = entries.iter().map(|(_, fields)| &fields[3]).collect();
    tokens.sort();
    tokens.dedup();
    assert_eq!(tokens.len(), entries.len(), "a token came twice");
}

/// An answer that no line carries in time would be asked for again and again.
#[tokio::test]
async fn long_messages_get_through_a_narrow_line() {
    let server = RedisServer::start().await.unwrap();
    let proxy = Proxy::before(server.port()).await.unwrap();
    let tier = Redis::new(&through(&proxy)).unwrap();
    let bus = tier.response_timeout(Duration::from_secs(1)).bus();
    let direct = patient(&server.url()).bus();
    let mut reader = Reader::open(&bus).await;
    // So many come at once that the next piece would be the largest.
    say(&direct, &["short"; 3_000]).await;
    reader.catches_up(&bus).await;
    let long = "l".repeat(100_000);
    say(&direct, &[long.as_str(); 40]).await;
    proxy.inject(LinkFault::Throttle(1_000_000));
    let start = Instant::now();
    while reader.told.len() < 3_040 {
        let _ = reader.step(&bus).await;
        assert!(start.elapsed() < Duration::from_secs(60), "{} have come", reader.told.len());
    }
}

/// What a reader that was dropped has asked for holds nobody up, and its connection is gone.
#[tokio::test]
async fn polls_that_are_dropped_leave_nothing_behind() {
    let (server, bus, mut admin) = serving().await;
    let mut reader = Reader::open(&bus).await;
    reader.catches_up(&bus).await;
    let before = server.info("connected_clients").await.unwrap();
    for _ in 0..20 {
        let waiting = reader.wait(&bus, Duration::from_secs(50));
        assert!(timeout(Duration::from_millis(20), waiting).await.is_err());
        let (next, took) = timed(reader.step(&bus)).await;
        assert!(next.is_ok() && took < DEADLINE, "{took:?}");
    }
    let start = Instant::now();
    while server.info("blocked_clients").await.unwrap() > 0
        || server.info("connected_clients").await.unwrap() > before
    {
        assert!(start.elapsed() < Duration::from_secs(10), "connections are left");
        wait(10).await;
    }
    // One after another, they all use one.
    let dials = server.info("total_connections_received").await.unwrap();
    for _ in 0..50 {
        reader.wait(&bus, Duration::from_millis(1)).await.unwrap();
    }
    let looks = 1;
    assert_eq!(server.info("total_connections_received").await.unwrap(), dials + looks);
    // Appends do not wait behind a poll that waits.
    let (polled, took) = timed(async {
        let polled = reader.wait(&bus, Duration::from_secs(50));
        tokio::join!(polled, say(&bus, &["now"])).0
    })
    .await;
    assert_eq!(polled.unwrap().messages, ["now"]);
    assert!(took < DEADLINE, "{took:?}");
    admin.does(&["DEL", STREAM, HEAD]).await;
}

/// What an answer proves is proven by an answer to this question, and not to one before.
#[tokio::test]
async fn a_line_that_lies_proves_nothing_wrong() {
    for (fault, steps) in [
        (LinkFault::ShiftReplies, 200),
        (LinkFault::Truncate, 150),
        (LinkFault::Reset, 150),
        (LinkFault::Delay(Duration::from_millis(30)), 40),
        (LinkFault::Throttle(20_000), 40),
    ] {
        let (server, proxy, bus) = behind_a_proxy().await;
        let direct = patient(&server.url()).bus();
        let (ledger, mut audit) = (Ledger::default(), Audit::default());
        audit.step(&ledger, &bus, Duration::ZERO).await;
        proxy.inject(fault);
        for number in 0..steps {
            // Sometimes nothing comes: an answer of nothing must not stand for a later one.
            if number % 3 > 0 {
                ledger.publish(&direct, 1).await;
            }
            audit.step(&ledger, &bus, Duration::from_millis(number % 4)).await;
        }
        proxy.heal();
        wait(60).await;
        let start = Instant::now();
        while !audit.step(&ledger, &bus, Duration::ZERO).await {
            assert!(start.elapsed() < DEADLINE, "{fault:?}, seed {}", proxy.seed());
        }
        assert!(audit.proven > 10, "{fault:?}: {audit:?}, seed {}", proxy.seed());
    }
}

/// A line lives on the runtime that dialled it, and dies with it.
#[test]
fn each_runtime_has_lines_of_its_own() {
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (for_servers, mut told) = (runtime(), Vec::new());
    let server = for_servers.block_on(RedisServer::start()).unwrap();
    let bus = patient(&server.url()).bus();
    let mut reader = runtime().block_on(Reader::open(&bus));
    for number in 0..3 {
        let word = number.to_string();
        runtime().block_on(say(&bus, &[&word]));
        runtime().block_on(reader.catches_up(&bus));
        told.push(word);
    }
    assert_eq!(reader.told, told);
    let nowhere = futures_util::FutureExt::now_or_never(bus.open(LOG));
    assert_eq!(nowhere.unwrap().map(drop), Err(TierError::NoRuntime));
}
