//! What the engine costs on an L1 hit: `cache.get` against the bare map with the same keys and
//! values, zipf-distributed over 10,000 keys.
//!
//! Rounds are interleaved and the median of each contender is taken, so a noisy machine disturbs
//! all alike; the ratios are the result. `cargo bench --bench l1_hit`.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::disallowed_methods,
    clippy::cast_precision_loss,
    reason = "a benchmark"
)]

use std::{
    hint::black_box,
    sync::Arc,
    time::{Duration, Instant},
};

use futures_util::FutureExt;
use tiered::{
    Key, Tiered,
    tiers::{DashMap, Memory, Moka},
};

const KEYS: usize = 10_000;
const READS: usize = 100_000;
const ROUNDS: usize = 31;

#[derive(Clone, serde::Serialize, serde::Deserialize)]
struct User {
    id: u64,
    name: String,
}

type Contender<'a> = (&'static str, Box<dyn Fn(&str) -> Option<Arc<User>> + 'a>);

fn main() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let _entered = runtime.enter();
    let keys: Vec<String> = (0..KEYS).map(|id| format!("user:{id}")).collect();
    let user = |id: usize| User { id: id as u64, name: format!("user number {id}") };

    let moka = moka::sync::Cache::<String, Arc<User>>::new(KEYS as u64 * 2);
    let moka_ttl = moka::sync::Cache::builder()
        .max_capacity(KEYS as u64 * 2)
        .time_to_live(Duration::from_secs(3600))
        .build();
    let moka_fast = moka::sync::Cache::builder()
        .max_capacity(KEYS as u64 * 2)
        .time_to_live(Duration::from_secs(3600))
        .build_with_hasher(foldhash::fast::RandomState::default());
    let dashmap = dashmap::DashMap::<String, Arc<User>>::new();
    let over_moka = Tiered::new(Moka::new(KEYS as u64 * 2), Memory::new());
    let over_moka = over_moka.local_for(Duration::from_secs(3600)).build().unwrap();
    let over_dashmap = Tiered::new(DashMap::new(KEYS as u64 * 2), Memory::new());
    let over_dashmap = over_dashmap.local_for(Duration::from_secs(3600)).build().unwrap();
    for (id, key) in keys.iter().enumerate() {
        let value = Arc::new(user(id));
        moka.insert(key.clone(), Arc::clone(&value));
        moka_ttl.insert(key.clone(), Arc::clone(&value));
        moka_fast.insert(key.clone(), Arc::clone(&value));
        dashmap.insert(key.clone(), value);
        for cache in [&over_moka, &over_dashmap] {
            let _ = cache.set(key, user(id)).now_or_never().unwrap().unwrap();
        }
    }

    let contenders: Vec<Contender<'_>> = vec![
        ("moka, as it comes", Box::new(|key| moka.get(key))),
        ("moka, time to live", Box::new(|key| moka_ttl.get(key))),
        ("moka, time to live, foldhash", Box::new(|key| moka_fast.get(key))),
        ("tiered over Moka, get", Box::new(|key| get(&over_moka, key))),
        ("tiered over Moka, get_or_load", Box::new(|key| get_or_load(&over_moka, key))),
        ("dashmap, as it comes", Box::new(|key| dashmap.get(key).map(|value| Arc::clone(&value)))),
        ("tiered over DashMap, get", Box::new(|key| get(&over_dashmap, key))),
        ("tiered over DashMap, get_or_load", Box::new(|key| get_or_load(&over_dashmap, key))),
    ];

    let order = zipf();
    let mut times = vec![Vec::with_capacity(ROUNDS); contenders.len()];
    for _ in 0..=ROUNDS {
        for (times, (_, read)) in times.iter_mut().zip(&contenders) {
            let start = Instant::now();
            for &index in &order {
                black_box(read(&keys[index]).unwrap().id);
            }
            times.push(start.elapsed().as_secs_f64() * 1e9 / READS as f64);
        }
    }
    let medians: Vec<f64> = times
        .into_iter()
        .map(|mut times| {
            // The first round warms up.
            times.remove(0);
            times.sort_by(f64::total_cmp);
            times[times.len() / 2]
        })
        .collect();
    println!(
        "{:36} {:>8} {:>15} {:>15} {:>15}",
        "", "ns/hit", "of bare moka", "with ttl", "of dashmap"
    );
    for ((name, _), median) in contenders.iter().zip(&medians) {
        println!(
            "{name:36} {median:8.1} {:15.2} {:15.2} {:15.2}",
            median / medians[0],
            median / medians[1],
            median / medians[5],
        );
    }
}

fn get(cache: &Tiered, key: &str) -> Option<Arc<User>> {
    cache.get::<User>(Key::from(key)).now_or_never()?.ok()?
}

fn get_or_load(cache: &Tiered, key: &str) -> Option<Arc<User>> {
    let load = || async { Err::<User, _>("every read is a hit") };
    cache.get_or_load(key, load).now_or_never()?.ok()
}

/// Key indices with a zipf distribution of exponent 1, from a fixed seed.
fn zipf() -> Vec<usize> {
    let weights: Vec<f64> = (1..=KEYS).map(|rank| 1.0 / rank as f64).collect();
    let total: f64 = weights.iter().sum();
    let mut reached = 0.0;
    let cumulated: Vec<f64> = weights
        .iter()
        .map(|weight| {
            reached += weight / total;
            reached
        })
        .collect();
    let mut random = fastrand::Rng::with_seed(7);
    let draw = |_| {
        let point = random.f64();
        cumulated.partition_point(|&end| end < point).min(KEYS - 1)
    };
    (0..READS).map(draw).collect()
}
