//! A bad network between the cache and its server, by a seeded proxy: whatever it does, no wrong value,
//! no call beyond the deadline, and all is well within a second of its healing.
//!
//! A failure prints its seed; `TIERED_SEED=…` runs with it again.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use tiered::{
    Ack, Outcome, Tiered,
    tiers::{Memcached, Redis, RemoteTier},
};
use tiered_tiers::testing::{LinkFault, MemcachedServer, Proxy, RedisServer};

/// Reads that go on while the fault lasts.
const TASKS: usize = 8;
const KEYS: usize = 40;
/// How long a fault lasts.
const FAULT: Duration = Duration::from_millis(700);
/// For how long a read waits for another's load, where the server says that there is one.
const WAIT: Duration = Duration::from_secs(1);
/// That, one budget, and a dial: with wide room for a busy machine.
const DEADLINE: Duration = Duration::from_millis(2_500);
/// A second, and some room.
const HEALED: Duration = Duration::from_millis(1_500);

macro_rules! links {
    ($($name:ident: $fault:expr),+ $(,)?) => {
        mod redis {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                let server = super::RedisServer::start().await.unwrap();
                super::survives(server.port(), super::over_redis, $fault).await;
            })+
        }
        mod memcached {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                let server = super::MemcachedServer::start().await.unwrap();
                super::survives(server.port(), super::over_memcached, $fault).await;
            })+
        }
    };
}

links! {
    delay: super::LinkFault::Delay(std::time::Duration::from_millis(400)),
    throttle: super::LinkFault::Throttle(2_000),
    reset: super::LinkFault::Reset,
    black_hole: super::LinkFault::BlackHole,
    truncate: super::LinkFault::Truncate,
    shifted_replies: super::LinkFault::ShiftReplies,
    flipped_bits: super::LinkFault::FlipBits,
    held_requests: super::LinkFault::HoldRequests,
}

fn over_redis(port: u16) -> Arc<dyn RemoteTier> {
    Arc::new(Redis::new(&format!("redis://127.0.0.1:{port}/")).unwrap())
}

fn over_memcached(port: u16) -> Arc<dyn RemoteTier> {
    Arc::new(Memcached::new(&format!("127.0.0.1:{port}")).unwrap())
}

/// What the database has under a key; it never changes, so whatever else is read is wrong.
fn value(key: usize) -> String {
    format!("value of {key}: {}", "x".repeat(key * 7))
}

async fn read(cache: &Tiered, key: usize, seed: u64) -> Outcome {
    let start = Instant::now();
    let load = |_| async { Ok::<_, std::io::Error>(Some(value(key))) };
    let answer = cache.key(key).load(load).await.unwrap();
    let took = start.elapsed();
    assert!(took < DEADLINE, "a read took {took:?}, seed {seed}");
    assert_eq!(answer.value.as_deref(), Some(&value(key)), "seed {seed}");
    answer.outcome
}

async fn survives(server: u16, tier: fn(u16) -> Arc<dyn RemoteTier>, fault: LinkFault) {
    let given = std::env::var("TIERED_SEED").ok().map(|seed| seed.parse().unwrap());
    let seed = given.unwrap_or_else(|| fastrand::u64(..));
    let proxy = Proxy::seeded(server, seed).await.unwrap();
    let cache = Tiered::remote(tier(proxy.port())).wait_for(WAIT).build().unwrap();
    for key in 0..KEYS {
        read(&cache, key, seed).await;
    }
    proxy.inject(fault);
    let end = Instant::now() + FAULT;
    let tasks: Vec<_> = (0..TASKS)
        .map(|task| {
            let cache = cache.clone();
            tokio::spawn(async move {
                let mut random = fastrand::Rng::with_seed(seed ^ task as u64);
                while Instant::now() < end {
                    let key = random.usize(..KEYS);
                    let start = Instant::now();
                    match random.u8(..10) {
                        0 => drop(cache.invalidate(key).await.unwrap()),
                        1 => drop(cache.set(key, value(key)).await.unwrap()),
                        // Dropped midway.
                        2 => {
                            let patience = Duration::from_micros(random.u64(..2_000));
                            let read = cache.get::<String>(key);
                            if let Ok(Ok(Some(found))) = tokio::time::timeout(patience, read).await
                            {
                                assert_eq!(*found, value(key), "seed {seed}");
                            }
                        }
                        _ => drop(read(&cache, key, seed).await),
                    }
                    assert!(start.elapsed() < DEADLINE, "{:?}, seed {seed}", start.elapsed());
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    proxy.heal();
    let healed = Instant::now();
    // A replayed invalidation may still be on its way to a key that is set anew.
    while cache.health().await.pending > 0 {
        assert!(healed.elapsed() < HEALED, "invalidations are pending still, seed {seed}");
    }
    // Every key is stored again, and found again.
    for key in 0..KEYS {
        loop {
            let stored = cache.set(key, value(key)).await.unwrap() == Ack::Done;
            if stored && read(&cache, key, seed).await == Outcome::HitL2 {
                break;
            }
            let since = healed.elapsed();
            assert!(since < HEALED, "key {key} is not healed after {since:?}, seed {seed}");
        }
    }
    // And nothing of what was said is misplaced for good. A delete that was held up on the way may have come
    // after all, and taken a value along: once.
    for key in 0..KEYS {
        if read(&cache, key, seed).await != Outcome::HitL2 {
            assert_eq!(read(&cache, key, seed).await, Outcome::HitL2, "key {key}, seed {seed}");
        }
    }
}
