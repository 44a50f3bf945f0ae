//! What is particular to memcached: its seconds, its sizes, its numbers that begin anew, its shares.

use std::time::Duration;

use bytes::Bytes;
use tiered_tiers::{
    Claim, Fill, Lease, LeaseToken, Memcached, RemoteTier, TierError, testing::MemcachedServer,
};

use crate::{heals, timed, wait};

const LIFE: Duration = Duration::from_secs(600);
const VALUE: Bytes = Bytes::from_static(b"v");

async fn serving() -> (MemcachedServer, Memcached) {
    let server = MemcachedServer::start().await.unwrap();
    let tier = Memcached::new(&server.address()).unwrap();
    (server, tier)
}

/// After a restart the numbers begin at 1: a fill from before would find its own number again.
#[tokio::test]
async fn a_fill_from_before_a_restart_stores_nothing() {
    let (mut server, tier) = serving().await;
    let (before, after) = (LeaseToken::random(), LeaseToken::random());
    assert_eq!(tier.lease(b"k", before, LIFE, Claim::IfFree).await, Ok(Lease::Granted(None)));
    server.restart().await.unwrap();
    heals(&tier).await;
    // The same commands in the same order: the stub has the number that the first one had.
    assert_eq!(tier.lease(b"k", after, LIFE, Claim::IfFree).await, Ok(Lease::Granted(None)));
    let cas = server.ask("mg k c").await.unwrap();
    assert_eq!(tier.fill(b"k", before, VALUE, LIFE).await, Ok(Fill::Refused), "{cas}");
    assert_eq!(tier.get(b"k").await, Ok(None));
    assert_eq!(tier.fill(b"k", after, VALUE, LIFE).await, Ok(Fill::Stored));
}

#[tokio::test]
async fn after_a_restart_the_first_operation_succeeds() {
    let (mut server, tier) = serving().await;
    for _ in 0..3 {
        tier.set(b"k", VALUE, LIFE).await.unwrap();
        server.restart().await.unwrap();
        wait(20).await;
        assert_eq!(
            tier.get(b"k").await,
            Ok(None),
            "closed connections are seen before they are used"
        );
    }
}

#[tokio::test]
async fn a_dead_server_costs_its_share_of_the_keys() {
    let mut servers = Vec::new();
    for _ in 0..3 {
        servers.push(MemcachedServer::start().await.unwrap());
    }
    let addresses: Vec<String> = servers.iter().map(MemcachedServer::address).collect();
    let tier = Memcached::new(&addresses.join(",")).unwrap();
    let keys: Vec<String> = (0..300).map(|key| format!("k{key}")).collect();
    for key in &keys {
        assert_eq!(tier.set(key.as_bytes(), VALUE, LIFE).await, Ok(Fill::Stored));
    }
    servers.pop();
    let mut lost = 0;
    for key in &keys {
        let (found, took) = timed(tier.get(key.as_bytes())).await;
        assert!(took < Duration::from_millis(600), "{took:?}");
        match found {
            Ok(found) => assert_eq!(found.unwrap().bytes, VALUE),
            Err(error) => {
                assert!(matches!(error, TierError::Unreachable(_)), "{error:?}");
                lost += 1;
            }
        }
    }
    assert!((50..150).contains(&lost), "{lost} of 300 keys");
    assert!(tier.ping().await.is_err(), "one of them is down");
}

#[tokio::test]
async fn a_frozen_server_costs_no_more_than_the_deadline() {
    let (server, tier) = serving().await;
    tier.ping().await.unwrap();
    server.freeze().unwrap();
    // One of its threads may be at work still.
    wait(20).await;
    let (outcome, took) = timed(tier.get(b"k")).await;
    assert_eq!(outcome, Err(TierError::Timeout));
    assert!(took < Duration::from_millis(900), "{took:?}");
    server.thaw().unwrap();
    heals(&tier).await;
    assert_eq!(tier.set(b"k", VALUE, LIFE).await, Ok(Fill::Stored));
}

/// More callers than connections wait for a place, and none is lost.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn callers_beyond_the_connections_wait() {
    let server = MemcachedServer::start().await.unwrap();
    let tier = Memcached::new(&server.address()).unwrap().connections(2);
    let tier = std::sync::Arc::new(tier);
    let tasks: Vec<_> = (0..200)
        .map(|key| {
            let tier = std::sync::Arc::clone(&tier);
            tokio::spawn(async move {
                let key = format!("k{key}");
                tier.set(key.as_bytes(), Bytes::from(key.clone()), LIFE).await?;
                tier.get(key.as_bytes()).await.map(|found| assert_eq!(found.unwrap().bytes, key))
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap().unwrap();
    }
    let curr = server.ask("stats").await.unwrap();
    assert!(curr.starts_with("STAT"), "{curr}");
}

/// The server's limit is lower than the tier believes.
#[tokio::test]
async fn a_value_that_the_server_finds_too_large_is_skipped() {
    let server = MemcachedServer::start_with(&["-I", "512k"]).await.unwrap();
    let tier = Memcached::new(&server.address()).unwrap();
    let large = Bytes::from(vec![7; 600_000]);
    tier.set(b"k", VALUE, LIFE).await.unwrap();
    assert_eq!(tier.set(b"k", large.clone(), LIFE).await, Ok(Fill::Skipped));
    assert_eq!(tier.get(b"k").await, Ok(None), "the old value is gone");
    let token = LeaseToken::random();
    tier.lease(b"k", token, LIFE, Claim::IfFree).await.unwrap();
    assert_eq!(tier.fill(b"k", token, large, LIFE).await, Ok(Fill::Skipped));
    assert_eq!(tier.set(b"k", VALUE, LIFE).await, Ok(Fill::Stored));
}

/// A full server evicts, leases too; that costs warmth only.
#[tokio::test]
async fn a_full_server_goes_on() {
    let server = MemcachedServer::start_with(&["-m", "2"]).await.unwrap();
    let tier = Memcached::new(&server.address()).unwrap();
    for key in 0..200_u32 {
        let token = LeaseToken::random();
        let key = format!("k{key}");
        let Lease::Granted(None) =
            tier.lease(key.as_bytes(), token, LIFE, Claim::IfFree).await.unwrap()
        else {
            panic!("{key} is held")
        };
        let fill = tier.fill(key.as_bytes(), token, Bytes::from(vec![7; 100_000]), LIFE).await;
        assert_eq!(fill, Ok(Fill::Stored));
    }
    let mut kept = 0;
    for key in 0..200_u32 {
        kept += usize::from(tier.get(format!("k{key}").as_bytes()).await.unwrap().is_some());
    }
    assert!((1..200).contains(&kept), "{kept}");
}

#[tokio::test]
async fn what_is_stored_by_others_is_no_value() {
    let (server, tier) = serving().await;
    assert_eq!(server.ask("set k 0 600 1\r\nx").await.unwrap(), "STORED");
    assert_eq!(tier.get(b"k").await, Ok(None));
    // One that lives for ever is told by its missing life.
    assert_eq!(server.ask("set k 1 0 1\r\nx").await.unwrap(), "STORED");
    assert_eq!(tier.get(b"k").await.unwrap().unwrap().remaining, None);
}

#[tokio::test]
async fn nothing_of_a_key_becomes_a_command() {
    let (server, tier) = serving().await;
    tier.set(b"safe", VALUE, LIFE).await.unwrap();
    for key in ["x\r\nflush_all\r\n", "x\nflush_all\n", "x flush_all", "x\0\r\nmd safe\r\n"] {
        assert_eq!(tier.set(key.as_bytes(), VALUE, LIFE).await, Ok(Fill::Stored));
        assert!(tier.get(key.as_bytes()).await.unwrap().is_some());
        tier.delete(key.as_bytes()).await.unwrap();
    }
    assert!(tier.get(b"safe").await.unwrap().is_some());
    assert_eq!(server.ask("mg safe s").await.unwrap(), "HD s1");
}
