//! Redis going away in every manner: each operation ends in time, and all is well soon after.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use tiered_tiers::{
    Claim, Fill, HoldEnd, Lease, LeaseToken, Redis, RemoteTier, TierError,
    testing::{LinkFault, Proxy, RedisServer},
};

use crate::{every_operation, heals, through, timed, wait};

const LIFE: Duration = Duration::from_secs(600);

async fn serving() -> (RedisServer, Redis) {
    let server = RedisServer::start().await.unwrap();
    let tier = Redis::new(&server.url()).unwrap();
    assert_eq!(every_operation(&tier).await, []);
    (server, tier)
}

#[tokio::test]
async fn killed_and_restarted() {
    let (mut server, tier) = serving().await;
    server.kill().unwrap();
    let failed = every_operation(&tier).await;
    assert_eq!(failed.len(), 12, "{failed:?}");
    for (name, error, took) in failed {
        assert!(matches!(error, TierError::Unreachable(_)), "{name}: {error:?}");
        assert!(took < Duration::from_millis(100), "{name} took {took:?} to be refused");
    }
    server.restart().await.unwrap();
    heals(&tier).await;
    // The restarted server knows no script.
    assert_eq!(every_operation(&tier).await, []);
}

/// The driver of a connection knows that the server closed it: nothing is sent into the grave.
#[tokio::test]
async fn after_a_restart_not_one_operation_fails() {
    let (mut server, tier) = serving().await;
    for _ in 0..5 {
        server.restart().await.unwrap();
        wait(20).await;
        let token = LeaseToken::random();
        tier.lease(b"k", token, LIFE, Claim::IfFree).await.unwrap();
        server.restart().await.unwrap();
        wait(20).await;
        assert_eq!(tier.fill(b"k", token, Bytes::new(), LIFE).await, Ok(Fill::Refused));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_under_load_the_repeatable_operations_are_repeated() {
    let (mut server, tier) = serving().await;
    let tier = Arc::new(tier);
    for _ in 0..5 {
        let gets: Vec<_> = (0..64)
            .map(|key| {
                let tier = Arc::clone(&tier);
                tokio::spawn(async move {
                    for _ in 0..200 {
                        let (outcome, took) = timed(tier.get(format!("k{key}").as_bytes())).await;
                        assert!(took < Duration::from_millis(1_500), "{took:?}");
                        drop(outcome);
                    }
                })
            })
            .collect();
        wait(5).await;
        server.restart().await.unwrap();
        for get in gets {
            get.await.unwrap();
        }
        heals(&*tier).await;
    }
}

/// The request's fate is unknown then: only what does no harm twice is sent again.
#[tokio::test]
async fn cut_in_the_middle_of_a_request() {
    let server = RedisServer::start().await.unwrap();
    let proxy = Proxy::before(server.port()).await.unwrap();
    let tier = Redis::new(&through(&proxy)).unwrap().connections(1);
    let (token, value) = (LeaseToken::random(), Bytes::from_static(b"v"));
    tier.set(b"k", value.clone(), LIFE).await.unwrap();
    proxy.cut_next_request();
    assert_eq!(tier.get(b"k").await.unwrap().unwrap().bytes, "v");
    proxy.cut_next_request();
    tier.ping().await.unwrap();
    proxy.cut_next_request();
    tier.release(b"k", token).await.unwrap();
    proxy.cut_next_request();
    tier.delete(b"k").await.unwrap();
    proxy.cut_next_request();
    tier.set(b"k", value.clone(), LIFE).await.unwrap();
    assert!(tier.get(b"k").await.unwrap().is_some());
    proxy.cut_next_request();
    let lease = tier.lease(b"k", token, LIFE, Claim::IfFree).await;
    assert!(matches!(lease, Err(TierError::Unreachable(_))), "{lease:?}");
    tier.lease(b"k", token, LIFE, Claim::IfFree).await.unwrap();
    proxy.cut_next_request();
    assert_eq!(tier.renew(b"k", token, LIFE).await, Ok(true));
    proxy.cut_next_request();
    let hold = tier.hold(b"held", token, LIFE).await;
    assert!(matches!(hold, Err(TierError::Unreachable(_))), "{hold:?}");
    let lease = tier.lease(b"held", token, LIFE, Claim::IfFree).await;
    assert_eq!(lease, Ok(Lease::Granted(None)), "a late one would hold it for nobody");
    tier.hold(b"held", token, LIFE).await.unwrap();
    proxy.cut_next_request();
    assert_eq!(tier.end_hold(b"held", token, None).await, Ok(HoldEnd::Alone));
    proxy.cut_next_request();
    let fill = tier.fill(b"k", token, value.clone(), LIFE).await;
    assert!(matches!(fill, Err(TierError::Unreachable(_))), "{fill:?}");
    tier.ping().await.unwrap();
    proxy.cut_next_request();
    assert!(tier.clear(b"k", &|_| {}).await.is_err(), "a walk cut in two cannot report success");
    tier.clear(b"k", &|_| {}).await.unwrap();
    assert_eq!(tier.get(b"k").await, Ok(None));
}

#[tokio::test]
async fn frozen_and_thawed() {
    let (server, tier) = serving().await;
    server.freeze().unwrap();
    let failed = every_operation(&tier).await;
    assert_eq!(failed.len(), 12, "{failed:?}");
    assert!(failed.iter().all(|(_, error, _)| *error == TierError::Timeout), "{failed:?}");
    let (outcome, took) = timed(tier.get(b"k")).await;
    assert_eq!(outcome, Err(TierError::Timeout));
    assert!(took < Duration::from_millis(900), "{took:?}");
    server.thaw().unwrap();
    heals(&tier).await;
    assert_eq!(every_operation(&tier).await, []);
}

#[tokio::test]
async fn never_there() {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let tier = Redis::new(&format!("redis://127.0.0.1:{port}")).unwrap();
    let failed = every_operation(&tier).await;
    assert!(failed.iter().all(|(_, error, _)| matches!(error, TierError::Unreachable(_))));
    let nowhere = Redis::new("redis://no-such-host.invalid").unwrap();
    let error = nowhere.ping().await.unwrap_err();
    assert!(matches!(error, TierError::Unreachable(_) | TierError::Timeout), "{error:?}");
    assert!(!error.to_string().contains("no-such-host"));
}

/// A peer that accepts and says nothing: only the connect timeout ends the dial.
#[tokio::test]
async fn accepted_and_never_greeted() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("redis://127.0.0.1:{}", listener.local_addr().unwrap().port());
    let tier = Redis::new(&url).unwrap().connect_timeout(Duration::from_millis(100));
    let (outcome, took) = timed(tier.get(b"k")).await;
    assert_eq!(outcome, Err(TierError::Timeout));
    assert!((Duration::from_millis(90)..Duration::from_millis(400)).contains(&took), "{took:?}");
    // Remembered: the next does not wait as long again.
    let (outcome, took) = timed(tier.get(b"k")).await;
    assert_eq!(outcome, Err(TierError::Timeout));
    assert!(took < Duration::from_millis(40), "{took:?}");
}

#[tokio::test]
async fn half_open() {
    let server = RedisServer::start().await.unwrap();
    let proxy = Proxy::before(server.port()).await.unwrap();
    let tier = Redis::new(&through(&proxy)).unwrap().connections(1);
    tier.ping().await.unwrap();
    proxy.inject(LinkFault::BlackHole);
    let (outcome, took) = timed(tier.get(b"k")).await;
    assert_eq!(outcome, Err(TierError::Timeout));
    assert!(took < Duration::from_millis(600), "{took:?}");
    proxy.heal();
    assert_eq!(proxy.dials(), 1);
    heals(&tier).await;
    assert_eq!(proxy.dials(), 2, "one dial heals it");
    assert_eq!(every_operation(&tier).await, []);
}

/// Callers with less patience than the tier: their dropped futures must not hide the silence.
#[tokio::test]
async fn half_open_under_impatient_callers() {
    let server = RedisServer::start().await.unwrap();
    let proxy = Proxy::before(server.port()).await.unwrap();
    let tier = Redis::new(&through(&proxy)).unwrap().connections(1);
    tier.ping().await.unwrap();
    proxy.inject(LinkFault::BlackHole);
    let lost = tokio::time::timeout(Duration::from_millis(50), tier.ping()).await;
    assert!(lost.is_err());
    proxy.heal();
    let start = std::time::Instant::now();
    while tokio::time::timeout(Duration::from_millis(50), tier.ping()).await.is_err() {
        assert!(start.elapsed() < Duration::from_secs(2), "the dead connection is still in use");
    }
}

#[tokio::test]
async fn out_of_memory() {
    let server = RedisServer::builder()
        .config("maxmemory", "1mb")
        .config("maxmemory-policy", "noeviction")
        .start()
        .await
        .unwrap();
    let tier = Redis::new(&server.url()).unwrap();
    let refused = |what: &str, error: TierError| {
        assert_eq!(error, TierError::Refused("OOM".into()), "{what}");
    };
    let token = LeaseToken::random();
    let big = Bytes::from(vec![7; 4_000_000]);
    // Redis 7 itself uses about a megabyte, so the bound may be reached at once.
    match tier.lease(b"k", token, LIFE, Claim::IfFree).await {
        Err(error) => refused("lease", error),
        Ok(_) => match tier.fill(b"k", token, big.clone(), LIFE).await {
            Err(error) => refused("fill", error),
            Ok(fill) => assert_eq!(fill, Fill::Stored),
        },
    }
    refused("set", tier.set(b"k", big, LIFE).await.unwrap_err());
    tier.ping().await.unwrap();
    tier.delete(b"k").await.unwrap();
    tier.release(b"k", token).await.unwrap();
    tier.clear(b"k", &|_| {}).await.unwrap();
}

/// A refused fill that kept its lease would make everybody else wait for the lease's end.
#[tokio::test]
async fn a_fill_without_room_gives_its_lease_up() {
    let (server, tier) = serving().await;
    let (token, next) = (LeaseToken::random(), LeaseToken::random());
    tier.lease(b"k", token, LIFE, Claim::IfFree).await.unwrap();
    let client = redis::Client::open(server.url()).unwrap();
    let admin = client.get_multiplexed_async_connection().await.unwrap();
    let config = |value: &str| {
        let command = redis::cmd("CONFIG").arg("SET").arg("maxmemory").arg(value).to_owned();
        let mut admin = admin.clone();
        async move { command.query_async::<()>(&mut admin).await.unwrap() }
    };
    config("1").await;
    let refused = tier.fill(b"k", token, Bytes::from_static(b"v"), LIFE).await;
    assert_eq!(refused, Err(TierError::Refused("OOM".into())));
    config("0").await;
    let lease = tier.lease(b"k", next, LIFE, Claim::IfFree).await;
    assert_eq!(lease, Ok(tiered_tiers::Lease::Granted(None)));
    tier.set(b"k", Bytes::from_static(b"old"), LIFE).await.unwrap();
    config("1").await;
    let refused = tier.set(b"k", Bytes::from_static(b"new"), LIFE).await;
    assert_eq!(refused, Err(TierError::Refused("OOM".into())));
    assert_eq!(tier.get(b"k").await, Ok(None), "what a set failed to replace is gone all the same");
}

#[tokio::test]
async fn one_connection_too_many_is_shared_instead() {
    let server = RedisServer::builder().config("maxclients", "1").start().await.unwrap();
    // The last look of the starter may still be counted as a client.
    wait(50).await;
    let tier = Redis::new(&server.url()).unwrap().connections(4);
    for _ in 0..20 {
        tier.ping().await.unwrap();
    }
}

/// A server that takes longer to reach than any one caller waits: they go on with one dial.
#[tokio::test]
async fn a_dial_outlives_the_patience_of_its_callers() {
    let server = RedisServer::start().await.unwrap();
    let proxy = Proxy::before(server.port()).await.unwrap();
    proxy.inject(LinkFault::HoldRequests);
    let tier = Redis::new(&through(&proxy)).unwrap().connections(1).connect_timeout(LIFE);
    for _ in 0..4 {
        let impatient = tokio::time::timeout(Duration::from_millis(20), tier.ping()).await;
        assert!(impatient.is_err());
    }
    proxy.heal();
    heals(&tier).await;
    assert_eq!(proxy.dials(), 1);
}

/// What was read was another key's: the connections are replaced, but those that are too young for it.
#[tokio::test]
async fn distrusted_connections_are_replaced() {
    let server = RedisServer::start().await.unwrap();
    let proxy = Proxy::before(server.port()).await.unwrap();
    let tier = Redis::new(&through(&proxy)).unwrap().connections(1);
    tier.ping().await.unwrap();
    tier.distrust();
    tier.ping().await.unwrap();
    assert_eq!(proxy.dials(), 1, "what is damaged on the server would redial at every read");
    wait(550).await;
    tier.distrust();
    tier.ping().await.unwrap();
    assert_eq!(proxy.dials(), 2);
}
