//! Several Redis keys at once, on one server and on many.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use tiered_tiers::{
    Claim, Fill, LeaseToken, Redis, RemoteTier, TierError,
    testing::{Proxy, RedisCluster, RedisServer},
};

use crate::{through, wait};

const LIFE: Duration = Duration::from_secs(600);

fn names(count: usize) -> Vec<String> {
    (0..count).map(|number| format!("key {number}")).collect()
}

fn refs(names: &[String]) -> Vec<&[u8]> {
    names.iter().map(String::as_bytes).collect()
}

/// Every value of its own length, one in ten absent, and one key asked for twice.
async fn several_keys_at_once(tier: &dyn RemoteTier) {
    let names = names(1_000);
    let value = |at: usize| Bytes::from(format!("{at}:{}", "x".repeat(at)));
    let stored = |at: usize| at % 10 != 3;
    let entries: Vec<(&[u8], Bytes, Duration)> = (0..1_000)
        .filter(|at| stored(*at))
        .map(|at| (names[at].as_bytes(), value(at), LIFE))
        .collect();
    for set in tier.set_many(&entries).await {
        assert_eq!(set, Ok(Fill::Stored));
    }
    let mut keys = refs(&names);
    keys.push(names[7].as_bytes());
    let found = tier.get_many(&keys).await;
    assert_eq!(found.len(), 1_001);
    for (at, found) in found.into_iter().enumerate() {
        let at = if at == 1_000 { 7 } else { at };
        let found = found.unwrap();
        assert_eq!(found.is_some(), stored(at), "{at}");
        if let Some(found) = found {
            assert_eq!(found.bytes, value(at), "another key's value");
            let remaining = found.remaining.unwrap();
            assert!(remaining <= LIFE && remaining > LIFE / 2, "{remaining:?}");
        }
    }
    let token = LeaseToken::random();
    tier.lease(keys[0], token, LIFE, Claim::IfFree).await.unwrap();
    let dropped = tier.delete_many(&keys[..600]).await;
    assert_eq!(dropped, vec![Ok(()); 600]);
    assert_eq!(tier.fill(keys[0], token, value(0), LIFE).await, Ok(Fill::Refused), "no lease left");
    for (at, found) in tier.get_many(&keys[..1_000]).await.into_iter().enumerate() {
        assert_eq!(found.unwrap().is_some(), at >= 600 && stored(at), "{at}");
    }
    assert!(tier.get_many(&[]).await.is_empty() && tier.delete_many(&[]).await.is_empty());
    tier.clear(b"", &|_| {}).await.unwrap();
}

#[tokio::test]
async fn on_one_server() {
    let server = RedisServer::start().await.unwrap();
    several_keys_at_once(&Redis::new(&server.url()).unwrap()).await;
}

#[tokio::test]
async fn on_a_cluster() {
    let cluster = RedisCluster::start().await.unwrap();
    several_keys_at_once(&Redis::new(&cluster.url()).unwrap()).await;
}

/// A handful of commands, not one for each key.
#[tokio::test]
async fn a_batch_is_few_commands() {
    let server = RedisServer::start().await.unwrap();
    let tier = Redis::new(&server.url()).unwrap();
    let names = names(500);
    let keys = refs(&names);
    tier.ping().await.unwrap();
    let before = server.info("total_commands_processed").await.unwrap();
    tier.get_many(&keys).await;
    let read = server.info("total_commands_processed").await.unwrap();
    tier.delete_many(&keys).await;
    let dropped = server.info("total_commands_processed").await.unwrap();
    // A PTTL each, an MGET for each piece, and the looks at the server themselves.
    assert!(read - before < 515, "{}", read - before);
    assert!(dropped - read < 15, "{}", dropped - read);
}

/// A key that holds no string, which no tier wrote, does not hurt its neighbours.
#[tokio::test]
async fn one_that_fails_fails_no_other() {
    let cluster = RedisCluster::start().await.unwrap();
    let client = redis::Client::open(cluster.node(0).url()).unwrap();
    let mut admin = client.get_multiplexed_async_connection().await.unwrap();
    let tier = Redis::new(&cluster.url()).unwrap();
    // Slot 0 of node 0: the key is "3560".
    let () = redis::cmd("LPUSH").arg("3560").arg("v").query_async(&mut admin).await.unwrap();
    tier.set(b"other", Bytes::from_static(b"v"), LIFE).await.unwrap();
    let found = tier.get_many(&[b"3560", b"other", b"none"]).await;
    assert_eq!(found[0], Err(TierError::Refused("WRONGTYPE".into())));
    assert_eq!(found[1].as_ref().unwrap().as_ref().unwrap().bytes, "v");
    assert_eq!(found[2], Ok(None));
}

/// The pieces of a batch break one by one, and are repeated like any read.
#[tokio::test]
async fn a_connection_that_breaks_under_a_batch_is_replaced() {
    let server = RedisServer::start().await.unwrap();
    let proxy = Proxy::before(server.port()).await.unwrap();
    let tier = Redis::new(&through(&proxy)).unwrap().connections(1);
    let names = names(200);
    let keys = refs(&names);
    tier.ping().await.unwrap();
    proxy.cut_next_request();
    assert_eq!(tier.get_many(&keys).await, vec![Ok(None); 200]);
    proxy.cut_next_request();
    assert_eq!(tier.delete_many(&keys).await, vec![Ok(()); 200]);
}

#[tokio::test]
async fn a_dead_server_fails_every_key_in_time() {
    let mut server = RedisServer::start().await.unwrap();
    let tier = Redis::new(&server.url()).unwrap();
    let names = names(2_000);
    let keys = refs(&names);
    tier.ping().await.unwrap();
    server.kill().unwrap();
    wait(20).await;
    let start = Instant::now();
    let found = tier.get_many(&keys).await;
    assert!(found.iter().all(|found| matches!(found, Err(TierError::Unreachable(_)))));
    assert_eq!(found.len(), 2_000);
    let dropped = tier.delete_many(&keys).await;
    assert!(dropped.len() == 2_000 && dropped.iter().all(Result::is_err));
    assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
}

/// What a node of a cluster has is lost with it, and nothing else.
#[tokio::test]
async fn a_dead_node_fails_its_own_keys_only() {
    let mut cluster = RedisCluster::start().await.unwrap();
    let tier = Arc::new(Redis::new(&cluster.url()).unwrap());
    let names = names(600);
    let keys = refs(&names);
    let entries: Vec<_> =
        names.iter().map(|name| (name.as_bytes(), Bytes::from_static(b"v"), LIFE)).collect();
    assert_eq!(tier.set_many(&entries).await, vec![Ok(Fill::Stored); 600]);
    cluster.kill(1).unwrap();
    let found = tier.get_many(&keys).await;
    let lost = found.iter().filter(|found| found.is_err()).count();
    assert!((100..300).contains(&lost), "{lost} of 600 are the dead node's");
    assert!(found.iter().flatten().all(Option::is_some));
    cluster.promoted(1).await.unwrap();
    let start = Instant::now();
    while tier.get_many(&keys).await.iter().any(Result::is_err) {
        assert!(start.elapsed() < Duration::from_secs(3), "still not healed");
        wait(20).await;
    }
}
