//! What it costs to ask Redis for a value's remaining life beside the value: `PTTL` and `GET` in one
//! round trip against a bare `GET`, at 1, 64 and 512 readers of one connection.
//!
//! Starts a server of its own. Rounds are interleaved; the ratios of the medians are the result.
//! `cargo bench --bench l2_read`.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::disallowed_methods,
    clippy::cast_precision_loss,
    reason = "a benchmark"
)]

use std::time::Instant;

use redis::{aio::MultiplexedConnection, cmd, pipe};
use tiered::tiers::{Redis, RemoteTier};
use tiered_tiers::testing::RedisServer;

const READS: usize = 20_000;
const ROUNDS: usize = 15;

#[derive(Clone, Copy)]
enum Way {
    Get,
    PttlAndGet,
    Tier,
}

fn main() {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(compare());
}

async fn compare() {
    let server = RedisServer::start().await.unwrap();
    let client = redis::Client::open(server.url()).unwrap();
    let mut connection = client.get_multiplexed_async_connection().await.unwrap();
    let value = vec![7_u8; 200];
    let set = cmd("SET").arg("key").arg(&value).arg("PX").arg(3_600_000).to_owned();
    let _: () = set.query_async(&mut connection).await.unwrap();
    let tier: &'static Redis =
        Box::leak(Box::new(Redis::new(&server.url()).unwrap().connections(1)));
    tier.ping().await.unwrap();
    let ways = [Way::Get, Way::PttlAndGet, Way::Tier];
    println!("{:>8} {:>12} {:>12} {:>12}   of GET", "readers", "GET/s", "PTTL+GET/s", "tier/s");
    for readers in [1, 64, 512] {
        let mut rates = [(); 3].map(|()| Vec::with_capacity(ROUNDS));
        for round in 0..=ROUNDS {
            for (way, rates) in ways.into_iter().zip(&mut rates) {
                let rate = rate(way, readers, &connection, tier).await;
                // The first round warms up.
                if round > 0 {
                    rates.push(rate);
                }
            }
        }
        let [get, pttl, tier] = rates.map(|mut rates| {
            rates.sort_by(f64::total_cmp);
            rates[rates.len() / 2]
        });
        println!(
            "{readers:8} {get:12.0} {pttl:12.0} {tier:12.0}   {:.2}, {:.2}",
            pttl / get,
            tier / get
        );
    }
}

/// Reads a second, with so many readers of one connection.
async fn rate(
    way: Way,
    readers: usize,
    connection: &MultiplexedConnection,
    tier: &'static Redis,
) -> f64 {
    let each = (READS / readers).max(1);
    let start = Instant::now();
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..readers {
        let mut connection = connection.clone();
        tasks.spawn(async move {
            for _ in 0..each {
                match way {
                    Way::Get => {
                        let value: Vec<u8> =
                            cmd("GET").arg("key").query_async(&mut connection).await.unwrap();
                        assert_eq!(value.len(), 200);
                    }
                    Way::PttlAndGet => {
                        let mut both = pipe();
                        both.cmd("PTTL").arg("key").cmd("GET").arg("key");
                        let (_, value): (i64, Vec<u8>) =
                            both.query_async(&mut connection).await.unwrap();
                        assert_eq!(value.len(), 200);
                    }
                    Way::Tier => {
                        let found = tier.get(b"key").await.unwrap().unwrap();
                        assert_eq!(found.bytes.len(), 200);
                    }
                }
            }
        });
    }
    tasks.join_all().await;
    (each * readers) as f64 / start.elapsed().as_secs_f64()
}
