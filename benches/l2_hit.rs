//! What a hit in L2 costs: through the cache, which reads, checks and decodes, through the tier alone,
//! and by the bare client, at 1, 64 and 512 tasks, on Redis and on memcached.
//!
//! Starts servers of its own. Rounds are interleaved; the ratios of the medians are the result.
//! `cargo bench --bench l2_hit`.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::disallowed_methods,
    clippy::cast_precision_loss,
    reason = "a benchmark"
)]

use std::{sync::Arc, time::Instant};

use memcache::exp::AsyncMetaClient;
use redis::{aio::MultiplexedConnection, cmd};
use tiered::{
    Tiered,
    tiers::{Memcached, Redis, RemoteTier},
};
use tiered_tiers::testing::{MemcachedServer, RedisServer};

const READS: usize = 20_000;
const ROUNDS: usize = 11;
/// Connections to memcached, for the bare client and for ours: each carries one operation at a time.
const CONNECTIONS: usize = 16;

/// One way to read.
#[derive(Clone)]
enum Way {
    Redis(MultiplexedConnection),
    Memcached(Arc<AsyncMetaClient>),
    Tier(Arc<dyn RemoteTier>),
    Cache(Tiered),
}

impl Way {
    /// Reads the key of a task, for the cache would share one read among all who want the same.
    async fn read(&mut self, key: &str) {
        let wire = || format!("tiered:{key}");
        let length = match self {
            Self::Redis(connection) => {
                let value: Vec<u8> = cmd("GET").arg(wire()).query_async(connection).await.unwrap();
                value.len()
            }
            Self::Memcached(client) => {
                client.get(wire()).send().await.unwrap().value.unwrap().len()
            }
            Self::Tier(tier) => tier.get(wire().as_bytes()).await.unwrap().unwrap().bytes.len(),
            Self::Cache(cache) => cache.get::<Vec<u8>>(key).await.unwrap().unwrap().len(),
        };
        assert!(length >= 200);
    }
}

fn main() {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let server = RedisServer::start().await.unwrap();
        let client = redis::Client::open(server.url()).unwrap();
        let bare = client.get_multiplexed_async_connection().await.unwrap();
        let tier: Arc<dyn RemoteTier> = Arc::new(Redis::new(&server.url()).unwrap().connections(1));
        compare("redis", Way::Redis(bare), tier).await;

        let server = MemcachedServer::start().await.unwrap();
        let bare = AsyncMetaClient::connect(server.address()).await.unwrap();
        let tier: Arc<dyn RemoteTier> =
            Arc::new(Memcached::new(&server.address()).unwrap().connections(CONNECTIONS));
        compare("memcached", Way::Memcached(Arc::new(bare)), tier).await;
    });
}

async fn compare(name: &str, bare: Way, tier: Arc<dyn RemoteTier>) {
    let cache = Tiered::remote(Arc::clone(&tier)).build().unwrap();
    for task in 0..512 {
        let _ = cache.set(format!("key{task}"), vec![7_u8; 200]).await.unwrap();
    }
    let ways = [bare, Way::Tier(tier), Way::Cache(cache)];
    println!("{name:>10} {:>12} {:>12} {:>12}   of the client", "client/s", "tier/s", "cache/s");
    for tasks in [1, 64, 512] {
        let mut rates = [(); 3].map(|()| Vec::with_capacity(ROUNDS));
        for round in 0..=ROUNDS {
            for (way, rates) in ways.iter().zip(&mut rates) {
                let rate = rate(way, tasks).await;
                // The first round warms up.
                if round > 0 {
                    rates.push(rate);
                }
            }
        }
        let [bare, tier, cache] = rates.map(|mut rates| {
            rates.sort_by(f64::total_cmp);
            rates[rates.len() / 2]
        });
        println!(
            "{tasks:10} {bare:12.0} {tier:12.0} {cache:12.0}   {:.2}, {:.2}",
            tier / bare,
            cache / bare
        );
    }
}

/// Reads a second, by so many tasks.
async fn rate(way: &Way, tasks: usize) -> f64 {
    let each = (READS / tasks).max(1);
    let start = Instant::now();
    let mut set = tokio::task::JoinSet::new();
    for task in 0..tasks {
        let (mut way, key) = (way.clone(), format!("key{task}"));
        set.spawn(async move {
            for _ in 0..each {
                way.read(&key).await;
            }
        });
    }
    set.join_all().await;
    (each * tasks) as f64 / start.elapsed().as_secs_f64()
}
