//! Redis Cluster: slots that move under load, primaries that die, and nodes that lie.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use tiered_tiers::{
    Claim, Fill, Lease, LeaseToken, Redis, RemoteTier, TierError,
    testing::{RedisCluster, remote_tier_conforms},
};
use tokio::task::JoinHandle;

use crate::{servers::Scripted, timed, wait};

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
    let mine = |key: &String| usize::from(slot(key.as_bytes())) * 3 / 16_384 == node;
    (0_u64..).map(|number| format!("{prefix}{number}")).find(mine).unwrap()
}

/// Waits until the key can be set; fails when that takes long.
async fn serves_key(tier: &dyn RemoteTier, key: &str) {
    let start = Instant::now();
    while tier.set(key.as_bytes(), Bytes::from_static(b"v"), LIFE).await.is_err() {
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
