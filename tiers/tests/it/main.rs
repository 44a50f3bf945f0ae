//! What the tiers promise, and what tries to break it.
//!
//! | file | what it holds |
//! |---|---|
//! | `local.rs` | Moka, DashMap and Quick under the conformance suite of L1 |
//! | `broken.rs` | that the suite of L1 finds the faults of a broken tier |
//! | `broken_remote.rs` | that the suite of L2 finds the faults of broken batches |
//! | `broken_holds.rs` | that it finds the faults of broken renewals and holds |
//! | `quick.rs` | what Quick does with the dead, the heavy and the unevenly spread |
//! | `moka.rs` | what Moka makes of weights that change, and of entries that are too heavy |
//! | `bounds.rs` | L1 and Memory under pressure: bounds, eviction, threads |
//! | `remote.rs` | the conformance suite of L2, run by Memory, real Redis and memcached servers, on both runtimes |
//! | `chain.rs` | two and three tiers as one: the suite, copies and their lives, tiers that are dead or hang |
//! | `fenced_chain.rs` | each interleaving of the fence between two tiers |
//! | `chain_runs.rs` | two tiers whose servers are restarted in the middle of an operation |
//! | `chain_storms.rs` | random ones, over two tiers, three, and zones |
//! | `wire.rs` | a tier at the end of a bad line, whose commands arrive late |
//! | `outage.rs` | Redis killed, restarted, frozen, half-open, full, behind a proxy that lies dead |
//! | `cluster.rs` | Redis Cluster: slots that move, primaries that die, nodes that lie |
//! | `sentinel.rs` | a primary behind sentinels, replaced under load |
//! | `runs.rs` | which run of a server an answer is of, after restarts and promotions |
//! | `handed_in.rs` | connections that the application made |
//! | `redis_batches.rs` | several Redis keys at once, on one server and on many |
//! | `bus/` | the suite of buses, run by each of them; what a log on Redis loses, and how that is noticed |
//! | `journal.rs` | a journal in a Redis Stream: its order, its owners, appends that arrive late |
//! | `faulty.rs` | the tools for bad days, the faulty tier and the proxy: do they do what they say? |
//! | `login.rs` | passwords of every kind, and that none is ever shown |
//! | `late.rs` | commands that execute after their caller gave up; futures dropped at any moment; before either server |
//! | `memcached.rs` | what is particular to memcached: seconds, sizes, numbers that begin anew, shares |
//! | `memcached_fills.rs` | fills on memcached whose connection, number or token is gone, and leases asked for at once |
//! | `memcached_holds.rs` | holds and renewals on memcached, others between any two of their commands |
//! | `memcached_storm.rs` | a storm of everything on few keys of a memcached that is frozen and restarted |
//! | `memcached_lines.rs` | memcached's connections: foreign answers, slow lines, one deadline for a call |
//! | `batches.rs` | several keys at once on memcached: shares, failures and drops in the middle of a pipeline |
//! | `pressure.rs` | Redis short of memory, under each of its policies |
//! | `runtimes.rs` | successive runtimes, no runtime, a thousand first users |
//! | `tls.rs` | Redis over TLS and over a unix socket, and as a user of an access list |
//! | `load.rs` | a load whose every answer is known, for the tests of many servers |
//! | `stepper.rs` | a line to a memcached that lets commands through one by one |
//! | `servers.rs` | real servers of either kind, so that one test serves both |

// Tests start threads and runtimes of their own, wait for real servers, and end with a panic.
#![allow(clippy::disallowed_methods, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod batches;
mod bounds;
mod broken;
mod broken_holds;
mod broken_remote;
mod bus;
mod chain;
mod chain_runs;
mod chain_storms;
mod cluster;
mod faulty;
mod fenced_chain;
mod handed_in;
mod journal;
mod late;
mod load;
mod local;
mod login;
mod memcached;
mod memcached_fills;
mod memcached_holds;
mod memcached_lines;
mod memcached_storm;
mod moka;
mod outage;
mod pressure;
mod quick;
mod redis_batches;
mod remote;
mod runs;
mod runtimes;
mod sentinel;
mod servers;
mod stepper;
mod tls;
mod wire;

use std::{
    future::Future,
    time::{Duration, Instant},
};

use tiered_tiers::{LeaseToken, LocalEntry, LocalMeta, RemoteTier, testing::Proxy};

/// An L1 entry that holds a number.
fn entry(value: u64) -> LocalEntry {
    let now = Instant::now();
    let meta = LocalMeta {
        born: now,
        fresh_until: now,
        stale_until: now,
        proven_until: now,
        generation: 0,
        type_id: std::any::TypeId::of::<u64>(),
        schema: 7,
        source_version: 0,
    };
    LocalEntry { value: Some(std::sync::Arc::new(value)), meta, marks: None }
}

/// The number in an L1 entry.
fn number(entry: LocalEntry) -> u64 {
    *entry.value.unwrap().downcast::<u64>().unwrap()
}

/// The URL of a Redis behind a proxy.
fn through(proxy: &Proxy) -> String {
    format!("redis://{}/", proxy.address())
}

/// A real wait; the servers in these tests have no clock of ours.
async fn wait(millis: u64) {
    tokio::time::sleep(Duration::from_millis(millis)).await;
}

/// Waits until the tier answers again; fails when that takes longer than a second and some room.
async fn heals(tier: &dyn RemoteTier) {
    let start = Instant::now();
    while tier.ping().await.is_err() {
        assert!(start.elapsed() < Duration::from_millis(1_500), "still not healed");
        wait(10).await;
    }
}

/// The future's output, and how long it took.
async fn timed<T>(future: impl Future<Output = T>) -> (T, Duration) {
    let start = Instant::now();
    let output = future.await;
    (output, start.elapsed())
}

/// Every operation of the contract once; the errors of those that failed.
async fn every_operation(
    tier: &dyn RemoteTier,
) -> Vec<(&'static str, tiered_tiers::TierError, Duration)> {
    let (token, life) = (LeaseToken::random(), Duration::from_secs(5));
    let bytes = bytes::Bytes::from_static(b"v");
    let mut failed = Vec::new();
    macro_rules! run {
        ($name:literal, $operation:expr) => {
            let (outcome, took) = timed($operation).await;
            assert!(took < Duration::from_millis(1_800), "{} took {took:?}", $name);
            if let Err(error) = outcome {
                failed.push(($name, error, took));
            }
        };
    }
    run!("get", tier.get(b"k"));
    run!("lease", tier.lease(b"k", token, life, tiered_tiers::Claim::IfFree));
    run!("fill", tier.fill(b"k", token, bytes.clone(), life));
    run!("release", tier.release(b"k", token));
    run!("renew", tier.renew(b"k", token, life));
    run!("hold", tier.hold(b"k", token, life));
    run!("renew_hold", tier.renew_hold(b"k", token, life));
    run!("end_hold", tier.end_hold(b"k", token, Some((token, life))));
    run!("set", tier.set(b"k", bytes, life));
    run!("delete", tier.delete(b"k"));
    run!("clear", tier.clear(b"k", &|_| {}));
    run!("ping", tier.ping());
    failed
}
