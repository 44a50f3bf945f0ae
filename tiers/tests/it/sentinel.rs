//! A primary behind sentinels, replaced under load; and sentinels that are wrong, dead or silent.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use tiered_tiers::{
    Redis, RemoteTier, TierError,
    testing::{LinkFault, Proxy, RedisSentinel, RedisServer, remote_tier_conforms},
};

use crate::{every_operation, heals, load::Load, servers::Scripted, timed, wait};

const LIFE: Duration = Duration::from_secs(600);

fn keys() -> Vec<String> {
    (0..16).map(|number| format!("k{number}")).collect()
}

/// The URLs of sentinels at these ports.
fn at(ports: &[u16]) -> Vec<String> {
    ports.iter().map(|port| format!("redis://127.0.0.1:{port}")).collect()
}

/// What a sentinel says that calls the server at `port` the primary.
fn naming(port: u16) -> String {
    let port = port.to_string();
    format!("*2\r\n$9\r\n127.0.0.1\r\n${}\r\n{port}\r\n", port.len())
}

#[tokio::test]
async fn redis_conforms_behind_sentinels() {
    let group = RedisSentinel::start().await.unwrap();
    remote_tier_conforms(Arc::new(Redis::new(&group.url()).unwrap())).await;
    let primary = group.primary().await.unwrap();
    let immortal = group.server(primary).keys_without_expiry().await.unwrap();
    assert_eq!(immortal, Vec::<Vec<u8>>::new());
    let third = Redis::new(&format!("{}/3", group.url())).unwrap();
    third.set(b"k", Bytes::from_static(b"3"), LIFE).await.unwrap();
    assert_eq!(Redis::new(&group.url()).unwrap().get(b"k").await, Ok(None));
}

#[tokio::test]
async fn sentinels_and_servers_have_passwords_of_their_own() {
    let group = RedisSentinel::start_with(Some("hunter1"), Some("hunter2")).await.unwrap();
    let tier = || Redis::new(&group.url()).unwrap();
    tier().password("hunter1").sentinel_password("hunter2").ping().await.unwrap();
    let ports = group.sentinel_ports();
    let seeds = ports.iter().map(|port| format!("redis://:hunter2@127.0.0.1:{port}"));
    let by_list = Redis::sentinel(seeds, "mymaster").unwrap().password("hunter1");
    by_list.ping().await.unwrap();
    for (tier, code) in [
        (tier().password("hunter1"), "NOAUTH"),
        (tier().password("hunter1").sentinel_password("hunter3"), "WRONGPASS"),
        (tier().sentinel_password("hunter2"), "NOAUTH"),
        (tier().password("hunter3").sentinel_password("hunter2"), "WRONGPASS"),
        (tier().password("hunter1").sentinel_username("me").sentinel_password("no"), "WRONGPASS"),
    ] {
        let error = tier.ping().await.unwrap_err();
        assert!(matches!(&error, TierError::Refused(why) if why.starts_with(code)), "{error}");
        let shown = format!("{tier:?} {error:?} {error}");
        assert!(!shown.contains("hunter") && shown.contains("mymaster"), "{shown}");
    }
    assert!(tier().sentinel_username("me").check().is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_primary_is_killed_under_load_and_replaced() {
    let mut group = RedisSentinel::start().await.unwrap();
    let tier = Arc::new(Redis::new(&group.url()).unwrap());
    let load = Load::start(tier.clone(), keys(), true);
    load.goes_on(300).await;
    let primary = group.primary().await.unwrap();
    group.kill(primary).unwrap();
    group.promoted(primary).await.unwrap();
    heals(&*tier).await;
    assert!(!load.errors().is_empty(), "nobody was there for a second");
    load.goes_on(500).await;
    let late = load.errors();
    assert!(late.values().flatten().count() <= 16, "it is not healed: {late:?}");
    group.restart(primary).await.unwrap();
    load.goes_on(300).await;
    assert_eq!(every_operation(&*tier).await, []);
    load.end().await;
}

/// The old one goes on serving for a while, but nobody asks it any more.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_primary_is_replaced_in_good_order() {
    let group = RedisSentinel::start().await.unwrap();
    let tier = Arc::new(Redis::new(&group.url()).unwrap());
    let load = Load::start(tier.clone(), keys(), true);
    load.goes_on(300).await;
    let primary = group.primary().await.unwrap();
    group.fail_over().await.unwrap();
    let next = group.promoted(primary).await.unwrap();
    let direct = Redis::new(&group.server(next).url()).unwrap();
    let start = Instant::now();
    // Both of its connections.
    let mut arrived = 0;
    while arrived < 4 {
        assert!(start.elapsed() < Duration::from_secs(4), "it goes elsewhere");
        tier.set(b"there", Bytes::from_static(b"v"), LIFE).await.unwrap();
        arrived = if direct.get(b"there").await.unwrap().is_some() { arrived + 1 } else { 0 };
        direct.delete(b"there").await.unwrap();
        wait(10).await;
    }
    load.errors();
    load.goes_on(500).await;
    let late = load.end().await;
    assert!(late.is_empty(), "it is not healed: {late:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_frozen_primary_is_replaced() {
    let group = RedisSentinel::start().await.unwrap();
    let tier = Arc::new(Redis::new(&group.url()).unwrap());
    tier.ping().await.unwrap();
    let primary = group.primary().await.unwrap();
    let load = Load::start(tier.clone(), keys(), true);
    load.goes_on(100).await;
    group.server(primary).freeze().unwrap();
    group.promoted(primary).await.unwrap();
    heals(&*tier).await;
    group.server(primary).thaw().unwrap();
    load.goes_on(500).await;
    load.end().await;
    assert_eq!(every_operation(&*tier).await, []);
}

/// A sentinel that has missed the latest failover names a replica, which says that it is one.
#[tokio::test]
async fn a_stale_sentinel_is_not_believed() {
    let group = RedisSentinel::start().await.unwrap();
    let primary = group.primary().await.unwrap();
    let replica = group.server((primary + 1) % 3).port();
    let stale = Scripted::start(move |_, _| naming(replica)).await;
    let alone = Redis::sentinel(at(&[stale.port]), "mymaster").unwrap();
    let error = alone.set(b"k", Bytes::new(), LIFE).await.unwrap_err();
    assert!(error.to_string().contains("no primary"), "{error}");
    assert!(alone.get(b"k").await.is_err(), "a replica may not be read either");
    // The others are slower, so that it is heard first.
    let mut ports = vec![stale.port];
    let mut slow = Vec::new();
    for port in group.sentinel_ports() {
        let proxy = Proxy::before(port).await.unwrap();
        proxy.inject(LinkFault::Delay(Duration::from_millis(20)));
        ports.push(proxy.port());
        slow.push(proxy);
    }
    let tier = Redis::sentinel(at(&ports), "mymaster").unwrap();
    assert_eq!(every_operation(&tier).await, []);
}

/// What a sentinel says of the primary at `port`, of this configuration epoch.
fn naming_in(said: &str, port: u16, epoch: u32) -> String {
    match said.starts_with("SENTINEL MASTER ") {
        true => format!("*4\r\n$4\r\nname\r\n$1\r\nx\r\n$12\r\nconfig-epoch\r\n$1\r\n{epoch}\r\n"),
        false => naming(port),
    }
}

/// A primary that died, was replaced and started again says that it is one, until the sentinels make a replica of it; and so
/// do those sentinels say that have not heard of the other yet.
#[tokio::test]
async fn a_primary_that_was_deposed_is_not_gone_to() {
    let (old, new) = (RedisServer::start().await.unwrap(), RedisServer::start().await.unwrap());
    let (there, here) = (old.port(), new.port());
    let behind = async || Scripted::start(move |said, _| naming_in(said, there, 1)).await;
    let (one, two) = (behind().await, behind().await);
    let ahead = Scripted::start(move |said, _| naming_in(said, here, 2)).await;
    let slow = Proxy::before(ahead.port).await.unwrap();
    slow.inject(LinkFault::Delay(Duration::from_millis(20)));
    let ports = [one.port, two.port, slow.port()];
    let tier = Redis::sentinel(at(&ports), "mymaster").unwrap();
    tier.set(b"k", Bytes::new(), LIFE).await.unwrap();
    assert!(Redis::new(&new.url()).unwrap().get(b"k").await.unwrap().is_some());
    assert_eq!(Redis::new(&old.url()).unwrap().get(b"k").await, Ok(None));
    // Nor when the new one is dead: nothing is better than what is over.
    drop(new);
    assert!(Redis::sentinel(at(&ports), "mymaster").unwrap().get(b"k").await.is_err());
}

#[tokio::test]
async fn one_sentinel_that_knows_of_a_newer_primary_ends_a_connection() {
    let (old, new) = (RedisServer::start().await.unwrap(), RedisServer::start().await.unwrap());
    let (there, here) = (old.port(), new.port());
    let heard = Arc::new(AtomicBool::new(false));
    let quiet = Scripted::start(move |said, _| naming_in(said, there, 1)).await;
    let hears = Arc::clone(&heard);
    let knows = Scripted::start(move |said, _| match hears.load(Ordering::SeqCst) {
        true => naming_in(said, here, 2),
        false => naming_in(said, there, 1),
    });
    let knows = knows.await;
    let third = Scripted::start(move |said, _| naming_in(said, there, 1)).await;
    let ports = [quiet.port, knows.port, third.port];
    let tier = Redis::sentinel(at(&ports), "mymaster").unwrap().connections(1);
    tier.set(b"k", Bytes::new(), LIFE).await.unwrap();
    heard.store(true, Ordering::SeqCst);
    let left = async {
        while tier.get(b"k").await != Ok(None) {
            wait(50).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), left).await.unwrap();
    assert!(Redis::new(&old.url()).unwrap().get(b"k").await.unwrap().is_some());
}

/// After a failover those that have not heard of it yet may be most of them; the next dial would not believe them either.
#[tokio::test]
async fn sentinels_that_are_behind_do_not_end_a_connection_to_the_newest_primary() {
    let (old, new) = (RedisServer::start().await.unwrap(), RedisServer::start().await.unwrap());
    let way = Proxy::before(new.port()).await.unwrap();
    let (there, here) = (old.port(), way.port());
    let looks = Arc::new(AtomicUsize::new(0));
    let behind = || {
        let looks = Arc::clone(&looks);
        Scripted::start(move |said, _| {
            if said.starts_with("SENTINEL MASTER ") {
                looks.fetch_add(1, Ordering::SeqCst);
            }
            naming_in(said, there, 1)
        })
    };
    let (one, two) = (behind().await, behind().await);
    let ahead = Scripted::start(move |said, _| naming_in(said, here, 2)).await;
    let ports = [one.port, two.port, ahead.port];
    let tier = Redis::sentinel(at(&ports), "mymaster").unwrap().connections(1);
    tier.set(b"k", Bytes::new(), LIFE).await.unwrap();
    // The dial and three looks.
    let start = Instant::now();
    while looks.load(Ordering::SeqCst) < 8 {
        assert!(start.elapsed() < Duration::from_secs(20), "nobody looks");
        assert!(tier.get(b"k").await.unwrap().is_some());
        wait(50).await;
    }
    assert_eq!(way.dials(), 1, "it was left for what is over");
}

/// What the others name hangs, for its host is gone.
#[tokio::test]
async fn a_sentinel_that_is_late_and_knows_more_is_heard_all_the_same() {
    let new = RedisServer::start().await.unwrap();
    let gone = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (there, here) = (gone.local_addr().unwrap().port(), new.port());
    let behind = Scripted::start(move |said, _| naming_in(said, there, 1)).await;
    let ahead = Scripted::start(move |said, _| naming_in(said, here, 2)).await;
    let slow = Proxy::before(ahead.port).await.unwrap();
    slow.inject(LinkFault::HoldRequests);
    let tier = Redis::sentinel(at(&[behind.port, slow.port()]), "mymaster").unwrap();
    let tier = tier.connect_timeout(Duration::from_secs(8));
    let heals = async {
        let dialled = gone.accept().await.unwrap();
        slow.heal();
        dialled
    };
    let (pinged, _) = tokio::join!(tier.ping(), heals);
    assert_eq!(pinged, Ok(()));
}

/// Where the sentinels do not tell their epochs, for their login may not ask, most of them are believed and not the first.
#[tokio::test]
async fn without_epochs_most_sentinels_are_believed() {
    let (old, new) = (RedisServer::start().await.unwrap(), RedisServer::start().await.unwrap());
    let untold = |said: &str, port| match said.starts_with("SENTINEL MASTER ") {
        true => "-NOPERM this user has no permissions\r\n".to_owned(),
        false => naming(port),
    };
    let (there, here) = (old.port(), new.port());
    let behind = Scripted::start(move |said, _| untold(said, there)).await;
    let (mut ports, mut slow, mut ahead) = (vec![behind.port], Vec::new(), Vec::new());
    for _ in 0..2 {
        let sentinel = Scripted::start(move |said, _| untold(said, here)).await;
        let proxy = Proxy::before(sentinel.port).await.unwrap();
        proxy.inject(LinkFault::Delay(Duration::from_millis(20)));
        ports.push(proxy.port());
        slow.push(proxy);
        ahead.push(sentinel);
    }
    let tier = Redis::sentinel(at(&ports), "mymaster").unwrap();
    let tier = tier.connect_timeout(Duration::from_secs(8));
    tier.set(b"k", Bytes::new(), LIFE).await.unwrap();
    assert!(Redis::new(&new.url()).unwrap().get(b"k").await.unwrap().is_some());
    assert_eq!(Redis::new(&old.url()).unwrap().get(b"k").await, Ok(None));
}

#[tokio::test]
async fn one_living_sentinel_is_enough() {
    let mut group = RedisSentinel::start().await.unwrap();
    group.kill_sentinel(0).unwrap();
    group.kill_sentinel(1).unwrap();
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut ports = vec![silent.local_addr().unwrap().port()];
    ports.extend(group.sentinel_ports());
    let tier = Redis::sentinel(at(&ports), "mymaster").unwrap();
    let (outcome, took) = timed(tier.ping()).await;
    assert_eq!(outcome, Ok(()));
    assert!(took < Duration::from_millis(450), "a silent one was waited for: {took:?}");
}

/// Sentinels that answer nonsense: an error, in time, and no panic.
#[tokio::test]
async fn hostile_sentinels_end_in_an_error() {
    let server = RedisServer::start().await.unwrap();
    for (answer, why) in [
        ("*-1\r\n", "watch no primary of this name"),
        ("$-1\r\n", "watch no primary of this name"),
        ("-ERR hunter2\r\n", "ERR"),
        ("-IDONTKNOW hunter2\r\n", "IDONTKNOW"),
        ("+OK\r\n", "not an array"),
        ("*1\r\n$1\r\na\r\n", "array length"),
        ("*2\r\n$1\r\na\r\n$7\r\nhunter2\r\n", "no port"),
        ("*2\r\n$1\r\n\u{7f}\r\n$1\r\n1\r\n", "unreachable"),
        ("*2\r\n$0\r\n\r\n$1\r\n1\r\n", "unreachable"),
    ] {
        let sentinel = Scripted::start(move |_, _| answer.to_owned()).await;
        let tier = Redis::sentinel(at(&[sentinel.port]), "mymaster").unwrap();
        let failed = every_operation(&tier).await;
        assert_eq!(failed.len(), 12, "{answer}: {failed:?}");
        let shown = failed.iter().map(|(_, error, _)| error.to_string()).collect::<String>();
        assert!(shown.contains(why) && !shown.contains("hunter2"), "{answer}: {shown}");
    }
    // It leads to itself, which speaks of no role.
    let itself = Scripted::start(|said, port| match said {
        "ROLE" => "*0\r\n".into(),
        _ => naming(port),
    });
    let itself = itself.await;
    let tier = Redis::sentinel(at(&[itself.port]), "mymaster").unwrap();
    assert!(tier.ping().await.is_err());
    // A plain server is no sentinel.
    let tier = Redis::sentinel([server.url()], "mymaster").unwrap();
    assert_eq!(tier.ping().await, Err(TierError::Refused("ERR".into())));
}
