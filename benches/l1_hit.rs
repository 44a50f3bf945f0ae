//! What the engine costs on an L1 hit: `cache.get` against the tier alone and the bare map, with the
//! same keys and values, zipf-distributed over 10,000 keys, read by one thread and by two.
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
    any::TypeId,
    hint::black_box,
    sync::{Arc, Barrier},
    thread,
    time::{Duration, Instant},
};

use futures_util::FutureExt;
use tiered::{
    Key, Tiered,
    tiers::{DashMap, LocalEntry, LocalMeta, LocalTier, Memory, Moka, Quick},
};

const KEYS: usize = 10_000;
const READS: usize = 100_000;
const ROUNDS: usize = 31;
const LIFE: Duration = Duration::from_secs(3600);

#[derive(Clone, serde::Serialize, serde::Deserialize)]
struct User {
    id: u64,
    name: String,
}

type Read<'a> = dyn Fn(&str) -> Option<Arc<User>> + Sync + 'a;

/// A way to read, and who it is compared with: the contender of that name is its bare library.
struct Contender<'a> {
    name: &'static str,
    bare: &'static str,
    read: Box<Read<'a>>,
}

fn main() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let _entered = runtime.enter();
    let keys: Vec<String> = (0..KEYS).map(|id| format!("user:{id}")).collect();
    let user = |id: usize| User { id: id as u64, name: format!("user number {id}") };
    let room = KEYS * 2;

    let moka = moka::sync::Cache::<String, Arc<User>>::new(room as u64);
    let moka_ttl =
        moka::sync::Cache::builder().max_capacity(room as u64).time_to_live(LIFE).build();
    let moka_fast = moka::sync::Cache::builder()
        .max_capacity(room as u64)
        .time_to_live(LIFE)
        .build_with_hasher(foldhash::fast::RandomState::default());
    let dashmap = dashmap::DashMap::<String, Arc<User>>::new();
    let quick_cache = quick_cache::sync::Cache::<String, Arc<User>>::new(room);
    let tiers: [Box<dyn LocalTier>; 3] = [
        Box::new(Moka::new(room as u64)),
        Box::new(DashMap::new(room as u64)),
        Box::new(Quick::new(room as u64)),
    ];
    let [over_moka, over_dashmap, over_quick] = [
        Tiered::new(Moka::new(room as u64), Memory::new()),
        Tiered::new(DashMap::new(room as u64), Memory::new()),
        Tiered::new(Quick::new(room as u64), Memory::new()),
    ]
    .map(|builder| builder.local_for(LIFE).build().unwrap());
    for (id, key) in keys.iter().enumerate() {
        let value = Arc::new(user(id));
        moka.insert(key.clone(), Arc::clone(&value));
        moka_ttl.insert(key.clone(), Arc::clone(&value));
        moka_fast.insert(key.clone(), Arc::clone(&value));
        dashmap.insert(key.clone(), Arc::clone(&value));
        quick_cache.insert(key.clone(), Arc::clone(&value));
        for tier in &tiers {
            tier.insert(key.as_bytes(), entry(Arc::clone(&value)), 1, LIFE);
        }
        for cache in [&over_moka, &over_dashmap, &over_quick] {
            let _ = cache.set(key, user(id)).now_or_never().unwrap().unwrap();
        }
    }

    let [moka_tier, dashmap_tier, quick_tier] = &tiers;
    let (m, d, q) = ("moka, as it comes", "dashmap, as it comes", "quick_cache, as it comes");
    let mut contenders: Vec<Contender<'_>> = Vec::new();
    macro_rules! contender {
        ($bare:expr, $name:expr, $read:expr) => {
            contenders.push(Contender { name: $name, bare: $bare, read: Box::new($read) });
        };
    }
    contender!(m, m, |key| moka.get(key));
    contender!(m, "moka, time to live", |key| moka_ttl.get(key));
    contender!(m, "moka, time to live, foldhash", |key| moka_fast.get(key));
    contender!(m, "the tier Moka", |key| alone(&**moka_tier, key));
    contender!(m, "tiered over Moka, get", |key| get(&over_moka, key));
    contender!(m, "tiered over Moka, get_or_load", |key| get_or_load(&over_moka, key));
    contender!(d, d, |key| dashmap.get(key).map(|value| Arc::clone(&value)));
    contender!(d, "the tier DashMap", |key| alone(&**dashmap_tier, key));
    contender!(d, "tiered over DashMap, get", |key| get(&over_dashmap, key));
    contender!(d, "tiered over DashMap, get_or_load", |key| get_or_load(&over_dashmap, key));
    contender!(q, q, |key| quick_cache.get(key));
    contender!(q, "the tier Quick", |key| alone(&**quick_tier, key));
    contender!(q, "tiered over Quick, get", |key| get(&over_quick, key));
    contender!(q, "tiered over Quick, get_or_load", |key| get_or_load(&over_quick, key));

    let order = zipf();
    for threads in [1, 2] {
        report(threads, &contenders, &medians(threads, &contenders, &keys, &order));
    }
}

/// The median time of one read by each contender, in nanoseconds, while `threads` read.
fn medians(
    threads: usize,
    contenders: &[Contender<'_>],
    keys: &[String],
    order: &[usize],
) -> Vec<f64> {
    let mut times = vec![Vec::with_capacity(ROUNDS); contenders.len()];
    for _ in 0..=ROUNDS {
        for (times, contender) in times.iter_mut().zip(contenders) {
            times.push(round(threads, contender, keys, order).as_secs_f64() * 1e9 / READS as f64);
        }
    }
    let median = |mut times: Vec<f64>| {
        // The first round warms up.
        times.remove(0);
        times.sort_by(f64::total_cmp);
        times[times.len() / 2]
    };
    times.into_iter().map(median).collect()
}

/// How long the slowest of the threads takes for all reads.
fn round(threads: usize, contender: &Contender<'_>, keys: &[String], order: &[usize]) -> Duration {
    let read_all = |offset: usize| {
        let start = Instant::now();
        for &index in order[offset..].iter().chain(&order[..offset]) {
            black_box((contender.read)(&keys[index]).unwrap().id);
        }
        start.elapsed()
    };
    if threads == 1 {
        return read_all(0);
    }
    let start = Barrier::new(threads);
    thread::scope(|scope| {
        let reader = |number: usize| {
            let (start, read_all) = (&start, &read_all);
            scope.spawn(move || {
                start.wait();
                read_all(number * READS / threads)
            })
        };
        let readers: Vec<_> = (0..threads).map(reader).collect();
        readers.into_iter().map(|reader| reader.join().unwrap()).max().unwrap_or_default()
    })
}

fn report(threads: usize, contenders: &[Contender<'_>], medians: &[f64]) {
    let time = |name: &str| {
        let at = contenders.iter().position(|contender| contender.name == name).unwrap();
        medians[at]
    };
    println!("\n{threads} thread(s){:>33} {:>12} {:>13}", "ns/hit", "of its bare", "of bare moka");
    for (contender, median) in contenders.iter().zip(medians) {
        let Contender { name, bare, .. } = contender;
        let moka = time("moka, as it comes");
        println!("{name:36} {median:8.1} {:12.2} {:13.2}", median / time(bare), median / moka);
    }
}

fn entry(value: Arc<User>) -> LocalEntry {
    let (now, end) = (Instant::now(), Instant::now() + LIFE);
    let meta = LocalMeta {
        born: now,
        fresh_until: end,
        stale_until: end,
        proven_until: end,
        generation: 0,
        type_id: TypeId::of::<User>(),
        schema: 0,
        source_version: 0,
    };
    LocalEntry { value: Some(value), meta, marks: None }
}

fn alone(tier: &dyn LocalTier, key: &str) -> Option<Arc<User>> {
    tier.get(key.as_bytes())?.value?.downcast().ok()
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
