//! What coherence costs: a look, a miss with its fill, a set and an invalidation with the fence, the run's stamp and the bus, against
//! the bare client that has none of it; and how long an acknowledged invalidation takes to every other node's L1.
//!
//! Starts a server of its own. Rounds are interleaved; the ratios of the medians are the result.
//! `cargo bench --bench coherence`.
#![allow(missing_docs, clippy::unwrap_used, clippy::disallowed_methods, reason = "a benchmark")]

use std::{
    convert::Infallible,
    sync::Arc,
    time::{Duration, Instant},
};

use futures_util::future::join_all;
use redis::{Cmd, Value, aio::MultiplexedConnection, cmd};
use tiered::{
    Ack, Tiered,
    tiers::{Quick, Redis},
};
use tiered_tiers::testing::RedisServer;

const ROUNDS: usize = 31;
/// Operations in a round.
const KEYS: u64 = 64;
/// Nodes that hear of an invalidation.
const NODES: usize = 7;
const INVALIDATIONS: u64 = 2_000;
const VALUE: [u8; 200] = [7; 200];

fn main() {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let server = RedisServer::start().await.unwrap();
        costs(&server).await;
        spreads(&server).await;
    });
}

/// A cache, with a bus or without.
fn cache(server: &RedisServer, namespace: &str, has_bus: bool) -> Tiered {
    let redis = Redis::new(&server.url()).unwrap().connections(1);
    let bus = redis.bus();
    let builder = Tiered::new(Quick::new(100_000), redis).namespace(namespace);
    let builder = if has_bus { builder.bus(bus) } else { builder };
    builder.budget(Duration::from_secs(5)).build().unwrap()
}

/// What is timed.
#[derive(Clone, Copy)]
enum Operation {
    Look,
    Miss,
    Set,
    Invalidate,
}

impl Operation {
    const ALL: [Self; 4] = [Self::Look, Self::Miss, Self::Set, Self::Invalidate];

    fn name(self) -> &'static str {
        match self {
            Self::Look => "a look that finds nothing, of GET",
            Self::Miss => "a miss, its load and its fill, of GET and SET",
            Self::Set => "a set, of SET",
            Self::Invalidate => "an invalidation, of UNLINK",
        }
    }

    /// As the bare client does it, unfenced.
    async fn bare(self, client: MultiplexedConnection, key: u64) {
        let name = format!("bare:{key}");
        let (mut get, mut set, mut unlink) = (cmd("GET"), cmd("SET"), cmd("UNLINK"));
        set.arg(&name).arg(&VALUE[..]).arg("EX").arg(300);
        match self {
            // A key that is not there in any round.
            Self::Look => assert!(!is_there(&client, get.arg(format!("none:{key}"))).await),
            Self::Miss => {
                assert!(!is_there(&client, get.arg(&name)).await);
                is_there(&client, &set).await;
            }
            Self::Set => {
                is_there(&client, &set).await;
            }
            Self::Invalidate => {
                let gone: u64 = unlink.arg(&name).query_async(&mut client.clone()).await.unwrap();
                assert_eq!(gone, 1);
            }
        }
    }

    async fn cached(self, cache: &Tiered, key: u64) {
        match self {
            Self::Look => {
                let found = cache.get::<Vec<u8>>(format!("none:{key}")).await.unwrap();
                assert!(found.is_none());
            }
            Self::Miss => miss(cache, key).await,
            Self::Set => assert_eq!(cache.set(key, VALUE.to_vec()).await.unwrap(), Ack::Done),
            Self::Invalidate => assert_eq!(cache.invalidate(key).await.unwrap(), Ack::Done),
        }
    }
}

async fn is_there(client: &MultiplexedConnection, command: &Cmd) -> bool {
    command.query_async::<Value>(&mut client.clone()).await.unwrap() != Value::Nil
}

async fn costs(server: &RedisServer) {
    let client = redis::Client::open(server.url()).unwrap();
    let bare = client.get_multiplexed_async_connection().await.unwrap();
    let (fenced, told) = (cache(server, "fenced", false), cache(server, "told", true));
    println!("{:48} one by one: µs  fenced  and told   {KEYS} at once: µs  fenced  and told", "");
    let mut rows = Operation::ALL.map(|_| Vec::new());
    for at_once in [1, KEYS] {
        let mut times = Operation::ALL.map(|_| [(); 3].map(|()| Vec::with_capacity(ROUNDS)));
        for round in 0..=ROUNDS {
            let first = (round as u64 + 1) * 10_000 + at_once * 1_000_000;
            for (operation, times) in Operation::ALL.into_iter().zip(&mut times) {
                let took = [
                    timed(at_once, first, |key| operation.bare(bare.clone(), key)).await,
                    timed(at_once, first, |key| operation.cached(&fenced, key)).await,
                    timed(at_once, first, |key| operation.cached(&told, key)).await,
                ];
                // The first round warms up.
                if round > 0 {
                    times.iter_mut().zip(took).for_each(|(times, took)| times.push(took));
                }
            }
        }
        for (row, times) in rows.iter_mut().zip(times) {
            let [bare, fenced, told] = times.map(|mut times| {
                times.sort_by(f64::total_cmp);
                times[times.len() / 2] / KEYS as f64
            });
            row.extend([bare * 1e6, fenced / bare, told / bare]);
        }
    }
    for (operation, row) in Operation::ALL.into_iter().zip(rows) {
        let [bare, fenced, told, bares, fenceds, tolds] = row[..] else { unreachable!() };
        println!(
            "{:48} {bare:14.1} {fenced:7.2} {told:9.2} {bares:17.1} {fenceds:7.2} {tolds:9.2}",
            operation.name()
        );
    }
}

/// Runs an operation for each key of a round, so many at once.
async fn timed<F: Future<Output = ()>>(
    at_once: u64,
    first: u64,
    operation: impl Fn(u64) -> F,
) -> f64 {
    let start = Instant::now();
    let keys: Vec<u64> = (first..first + KEYS).collect();
    for keys in keys.chunks(usize::try_from(at_once).unwrap()) {
        join_all(keys.iter().map(|key| operation(*key))).await;
    }
    start.elapsed().as_secs_f64()
}

async fn miss(cache: &Tiered, key: u64) {
    cache.get_or_load(key, || async { Ok::<_, Infallible>(VALUE.to_vec()) }).await.unwrap();
}

/// From the acknowledgement of an invalidation to the moment when a node's L1 does not serve the value.
async fn spreads(server: &RedisServer) {
    let writer = cache(server, "spread", true);
    let nodes: Vec<Tiered> = (0..NODES).map(|_| cache(server, "spread", true)).collect();
    for node in nodes.iter().chain([&writer]) {
        drop(node.get::<Vec<u8>>("nothing").await);
        while node.health().await.bus.unwrap().proven.is_none() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
    let mut took = Vec::with_capacity(NODES * INVALIDATIONS as usize);
    for key in 0..INVALIDATIONS {
        for node in &nodes {
            miss(node, key).await;
        }
        let key = Arc::<str>::from(key.to_string());
        // Each looks all the time, without asking L2: what it sees is its L1.
        let watching: Vec<_> = nodes
            .iter()
            .map(|node| {
                let (node, key) = (node.clone(), Arc::clone(&key));
                tokio::spawn(async move {
                    let look = || node.key(&*key).skip_l2().get::<Vec<u8>>();
                    while look().await.unwrap().is_some() {
                        tokio::task::yield_now().await;
                    }
                    Instant::now()
                })
            })
            .collect();
        assert_eq!(writer.invalidate(&*key).await.unwrap(), Ack::Done);
        let acked = Instant::now();
        for node in watching {
            took.push(node.await.unwrap().saturating_duration_since(acked));
        }
    }
    took.sort();
    let at = |share: f64| took[((took.len() - 1) as f64 * share) as usize];
    println!(
        "from an acknowledged invalidation to {NODES} other nodes' L1, {INVALIDATIONS} times: \
         p50 {:?}, p99 {:?}, max {:?}",
        at(0.5),
        at(0.99),
        at(1.0)
    );
}
