//! What many keys in one call save: hits in L2, and misses that load and store, of 10, 100 and 1,000 keys;
//! against as many single calls at once, and for hits against the bare client's own batch.
//!
//! Starts servers of its own. Rounds are interleaved; the ratios of the medians are the result.
//! `cargo bench --bench batch`.
#![allow(missing_docs, clippy::unwrap_used, clippy::disallowed_methods, reason = "a benchmark")]

use std::{
    convert::Infallible,
    sync::Arc,
    time::{Duration, Instant},
};

use futures_util::future::join_all;
use redis::{aio::MultiplexedConnection, cmd};
use tiered::{
    Tiered,
    tiers::{Memcached, Redis, RemoteTier},
};
use tiered_tiers::testing::{MemcachedServer, RedisServer};

const ROUNDS: usize = 21;

fn main() {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let server = RedisServer::start().await.unwrap();
        let client = redis::Client::open(server.url()).unwrap();
        let bare = client.get_multiplexed_async_connection().await.unwrap();
        compare("redis", Arc::new(Redis::new(&server.url()).unwrap()), Some(bare)).await;
        let server = MemcachedServer::start().await.unwrap();
        compare("memcached", Arc::new(Memcached::new(&server.address()).unwrap()), None).await;
    });
}

async fn compare(name: &str, tier: Arc<dyn RemoteTier>, bare: Option<MultiplexedConnection>) {
    // A thousand single calls at once take longer than the budget of one.
    let cache = Tiered::remote(tier).budget(Duration::from_secs(10)).build().unwrap();
    println!("{name:>10}   hits: batch / singles, / bare MGET   misses: batch / singles");
    for keys in [10, 100, 1_000_u64] {
        for ack in cache.set_many((0..keys).map(|key| (key, vec![7_u8; 200]))).await {
            let _ = ack.unwrap();
        }
        let mut times = [(); 5].map(|()| Vec::with_capacity(ROUNDS));
        for round in 0..=ROUNDS {
            let took = [
                time(hits(&cache, keys)).await,
                time(single_hits(&cache, keys)).await,
                time(bare_hits(bare.clone(), keys)).await,
                time(misses(&cache, round as u64 * 2, keys)).await,
                time(single_misses(&cache, round as u64 * 2 + 1, keys)).await,
            ];
            // The first round warms up.
            if round > 0 {
                times.iter_mut().zip(took).for_each(|(times, took)| times.push(took));
            }
        }
        let [batch, singles, mget, misses, single_misses] = times.map(|mut times| {
            times.sort_by(f64::total_cmp);
            times[times.len() / 2]
        });
        let of_bare = if bare.is_some() { format!("{:.2}", batch / mget) } else { "-".to_owned() };
        println!(
            "{keys:10}   {:.2}, {of_bare} ({:.0} us)   {:.2} ({:.0} us)",
            batch / singles,
            batch * 1e6,
            misses / single_misses,
            misses * 1e6
        );
    }
}

async fn time(work: impl Future<Output = usize>) -> f64 {
    let start = Instant::now();
    assert!(work.await > 0);
    start.elapsed().as_secs_f64()
}

async fn hits(cache: &Tiered, keys: u64) -> usize {
    let read = cache.get_many::<Vec<u8>, _>(0..keys).await;
    read.into_iter().map(|value| value.unwrap().unwrap().len()).sum()
}

async fn single_hits(cache: &Tiered, keys: u64) -> usize {
    let read = join_all((0..keys).map(|key| cache.get::<Vec<u8>>(key))).await;
    read.into_iter().map(|value| value.unwrap().unwrap().len()).sum()
}

async fn bare_hits(bare: Option<MultiplexedConnection>, keys: u64) -> usize {
    let Some(mut bare) = bare else { return 1 };
    let mut mget = cmd("MGET");
    (0..keys).for_each(|key| {
        mget.arg(format!("tiered:{key}"));
    });
    let values: Vec<Vec<u8>> = mget.query_async(&mut bare).await.unwrap();
    values.iter().map(Vec::len).sum()
}

/// Keys that nobody has asked for before.
fn new_keys(round: u64, keys: u64) -> impl Iterator<Item = u64> {
    let first = (round + 1) * 1_000_000 + keys * 10;
    first..first + keys
}

async fn misses(cache: &Tiered, round: u64, keys: u64) -> usize {
    let load = async |missing: Vec<u64>| {
        Ok::<_, Infallible>(missing.into_iter().map(|key| (key, vec![7_u8; 200])))
    };
    let read = cache.get_or_load_many(new_keys(round, keys), load).await;
    read.into_iter().map(|value| value.unwrap().unwrap().len()).sum()
}

async fn single_misses(cache: &Tiered, round: u64, keys: u64) -> usize {
    let load = || async { Ok::<_, Infallible>(vec![7_u8; 200]) };
    let read = new_keys(round, keys).map(|key| cache.get_or_load(key, load));
    join_all(read).await.into_iter().map(|value| value.unwrap().len()).sum()
}
