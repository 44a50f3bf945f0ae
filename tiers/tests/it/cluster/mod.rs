//! Redis Cluster: nodes that die, freeze, and are replaced; and what needs no accident.

mod lies;
mod moves;

use std::{
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use bytes::Bytes;
use tiered_tiers::{
    LeaseToken, Redis, RemoteTier, TierError,
    testing::{RedisCluster, RedisServer, remote_tier_conforms},
};

use crate::{every_operation, load::Load, timed, wait};

const LIFE: Duration = Duration::from_secs(600);

async fn serving() -> (RedisCluster, Arc<Redis>) {
    let cluster = RedisCluster::start().await.unwrap();
    let tier = Redis::new(&cluster.url()).unwrap();
    tier.ping().await.unwrap();
    (cluster, Arc::new(tier))
}

/// The slot of a key without braces, by the specification's own words.
fn slot(key: &[u8]) -> u16 {
    let mut crc = 0_u16;
    for byte in key {
        crc ^= u16::from(*byte) << 8;
        for _ in 0..8 {
            crc = if crc & 0x8000 == 0 { crc << 1 } else { (crc << 1) ^ 0x1021 };
        }
    }
    crc % 16_384
}

/// Keys of one slot.
fn keys_of(wanted: u16, prefix: &str, count: usize) -> Vec<String> {
    let keys = (0_u64..).map(|number| format!("{prefix}{number}"));
    keys.filter(|key| slot(key.as_bytes()) == wanted).take(count).collect()
}

/// A key that this node has in the beginning.
fn key_of(node: usize, prefix: &str) -> String {
    let mine = |key: &String| cluster_share(slot(key.as_bytes())) == node;
    (0_u64..).map(|number| format!("{prefix}{number}")).find(mine).unwrap()
}

/// Waits until the key is served by somebody who may write; fails when that takes long.
async fn serves_key(tier: &dyn RemoteTier, key: &str) {
    let start = Instant::now();
    while tier.release(key.as_bytes(), LeaseToken::random()).await.is_err() {
        assert!(start.elapsed() < Duration::from_secs(8), "{key} is still not served");
        wait(20).await;
    }
}

#[tokio::test]
async fn redis_cluster_conforms_on_one_thread() {
    let (cluster, tier) = serving().await;
    remote_tier_conforms(tier).await;
    for node in 0..3 {
        let node = cluster.node(node);
        assert_eq!(node.keys_without_expiry().await.unwrap(), Vec::<Vec<u8>>::new());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_cluster_conforms_on_several_threads_with_a_password() {
    let cluster = RedisCluster::start_with(&[("requirepass", "pass:word")]).await.unwrap();
    let seeds = (0..3).map(|node| format!("redis://127.0.0.1:{}", cluster.node(node).port()));
    let tier = Redis::cluster(seeds).unwrap().password("pass:word").connections(1);
    remote_tier_conforms(Arc::new(tier)).await;
    let wrong = Redis::new(&cluster.url()).unwrap().password("hunter2");
    assert_eq!(wrong.get(b"k").await, Err(TierError::Refused("WRONGPASS to AUTH".into())));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_primary_is_killed_under_load_and_replaced() {
    let (mut cluster, tier) = serving().await;
    let keys: Vec<String> =
        (0..24).map(|number| key_of(number % 3, &format!("k{number}:"))).collect();
    let load = Load::start(tier.clone(), keys.clone(), true);
    load.goes_on(500).await;
    cluster.kill(0).unwrap();
    load.goes_on(500).await;
    cluster.promoted(0).await.unwrap();
    for key in keys.iter().step_by(3) {
        serves_key(&*tier, key).await;
    }
    let errors = load.errors();
    assert!(!errors.is_empty(), "a dead node's keys cannot be served");
    for (key, errors) in &errors {
        // The connections to the others, and the map, are as they were.
        assert_eq!(cluster_share(slot(key.as_bytes())), 0, "{key}: {errors:?}");
    }
    load.goes_on(500).await;
    let late = load.errors();
    assert!(late.values().flatten().count() <= 8, "it is not healed: {late:?}");
    cluster.restart(0).await.unwrap();
    load.goes_on(500).await;
    assert_eq!(tier.ping().await, Ok(()));
    load.end().await;
}

/// Replaced while it is well: it says where its slots are, and no operation fails.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_primary_is_replaced_in_good_order() {
    let (cluster, tier) = serving().await;
    let keys: Vec<String> =
        (0..24).map(|number| key_of(number % 3, &format!("k{number}:"))).collect();
    let load = Load::start(tier, keys, true);
    load.goes_on(300).await;
    cluster.fail_over(0).await.unwrap();
    cluster.promoted(0).await.unwrap();
    load.goes_on(500).await;
    let errors: Vec<_> = load.end().await.into_values().flatten().collect();
    assert!(errors.len() <= 24, "{} errors: {errors:?}", errors.len());
}

/// A node that says nothing is no reason for the others to wait; it is replaced all the same.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_frozen_primary_is_replaced() {
    let (cluster, tier) = serving().await;
    let (dead, living) = (key_of(1, "a"), key_of(2, "b"));
    for key in [&dead, &living] {
        serves_key(&*tier, key).await;
    }
    cluster.node(1).freeze().unwrap();
    let (lost, took) = timed(tier.get(dead.as_bytes())).await;
    assert_eq!(lost, Err(TierError::Timeout));
    assert!(took < Duration::from_millis(900), "{took:?}");
    assert!(tier.get(living.as_bytes()).await.is_ok());
    tier.ping().await.unwrap();
    cluster.node(4).info("cluster_enabled").await.unwrap();
    let start = Instant::now();
    while cluster.owner_as_seen_by(2, slot(dead.as_bytes())).await.unwrap() != 4 {
        assert!(start.elapsed() < Duration::from_secs(15), "no promotion");
        assert!(tier.get(living.as_bytes()).await.is_ok());
        wait(20).await;
    }
    serves_key(&*tier, &dead).await;
    cluster.node(1).thaw().unwrap();
    serves_key(&*tier, &dead).await;
}

/// The node that has a slot in the beginning.
fn cluster_share(slot: u16) -> usize {
    (0..3).rev().find(|node| usize::from(slot) >= node * 16_384 / 3).unwrap()
}

#[tokio::test]
async fn a_clear_tells_of_all_it_dropped_and_fails_without_a_primary() {
    let (mut cluster, tier) = serving().await;
    let keys: Vec<String> = (0..3_000).map(|number| format!("p:{number}")).collect();
    let entries: Vec<(&[u8], Bytes, Duration)> =
        keys.iter().map(|key| (key.as_bytes(), Bytes::new(), LIFE)).collect();
    tier.set_many(&entries).await;
    let dropped = std::sync::atomic::AtomicU64::new(0);
    tier.clear(b"p:", &|more| _ = dropped.fetch_add(more, Ordering::Relaxed)).await.unwrap();
    assert_eq!(dropped.into_inner(), 3_000);
    cluster.kill(2).unwrap();
    assert!(tier.clear(b"p:", &|_| {}).await.is_err(), "what the dead one has is not cleared");
}

#[tokio::test]
async fn a_server_that_is_no_cluster_is_told_so() {
    let server = RedisServer::start().await.unwrap();
    let tier = Redis::cluster([server.url()]).unwrap();
    let error = tier.get(b"k").await.unwrap_err();
    assert_eq!(error, TierError::Refused("ERR to CLUSTER SLOTS: no cluster".into()));
}

#[tokio::test]
async fn a_node_that_is_taken_for_a_server_is_told_so() {
    let cluster = RedisCluster::start().await.unwrap();
    let tier = Redis::new(&cluster.node(0).url()).unwrap();
    let error = tier.get(key_of(1, "k").as_bytes()).await.unwrap_err();
    assert!(error.to_string().contains("use Redis::cluster"), "{error}");
}

/// Seeds that are dead, silent, or no cluster cost a part of the first operation's time.
#[tokio::test]
async fn one_living_seed_is_enough() {
    let cluster = RedisCluster::start().await.unwrap();
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let seeds = [closed, silent.local_addr().unwrap().port(), cluster.node(4).port()];
    for turn in 0..3 {
        let mut seeds = seeds.map(|port| format!("redis://127.0.0.1:{port}"));
        seeds.rotate_left(turn);
        let tier = Redis::cluster(seeds).unwrap();
        let (outcome, took) = timed(tier.get(b"k")).await;
        assert_eq!(outcome, Ok(None));
        assert!(took < Duration::from_millis(1_500), "{took:?}");
        assert_eq!(every_operation(&tier).await, []);
    }
}
