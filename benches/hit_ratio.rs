//! How many reads each L1 answers when it is too small for all: recorded traces, replayed against
//! every local tier at four sizes, beside the optimum, which knows the future (Belady 1966).
//!
//! `cargo bench --bench hit_ratio -- web07.txt.gz oltp.txt.gz`; a trace has a number a line, the key
//! that was asked for, and may be compressed by gzip. The sizes are 2, 5, 10 and 20 in a hundred of
//! the keys that the trace has.
#![allow(missing_docs, clippy::unwrap_used, clippy::cast_precision_loss, reason = "a benchmark")]

use std::{
    any::TypeId,
    collections::{BTreeSet, HashMap},
    env, fs,
    io::{self, Read},
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use flate2::read::GzDecoder;
use tiered::tiers::{DashMap, LocalEntry, LocalMeta, LocalTier, Moka, Quick};

const LIFE: Duration = Duration::from_secs(3600);
/// The sizes, in hundredths of the keys.
const SIZES: [usize; 4] = [2, 5, 10, 20];

/// A tier by its name, made for a number of entries.
type Contender = (&'static str, fn(u64) -> Box<dyn LocalTier>);

const CONTENDERS: [Contender; 4] = [
    ("Moka", |size| Box::new(Moka::new(size))),
    ("DashMap", |size| Box::new(DashMap::new(size))),
    ("Quick", |size| Box::new(Quick::new(size))),
    ("quick_cache", |size| Box::new(QuickCache::new(size))),
];

fn main() {
    let paths: Vec<String> = env::args().skip(1).filter(|path| !path.starts_with("--")).collect();
    if paths.is_empty() {
        println!("nothing to replay: give the paths of traces, a key a line, .gz or not");
    }
    for path in paths {
        match trace(Path::new(&path)) {
            Ok(trace) => compare(&path, &trace),
            Err(error) => println!("{path}: {error}"),
        }
    }
}

/// The keys of a trace, numbered from 0 in the order of their first use.
fn trace(path: &Path) -> io::Result<Vec<usize>> {
    let mut text = String::new();
    let file = fs::File::open(path)?;
    if path.extension().is_some_and(|extension| extension == "gz") {
        GzDecoder::new(file).read_to_string(&mut text)?;
    } else {
        io::BufReader::new(file).read_to_string(&mut text)?;
    }
    let mut numbers = HashMap::new();
    let number = |key| {
        let next = numbers.len();
        *numbers.entry(key).or_insert(next)
    };
    Ok(text.split_whitespace().map(number).collect())
}

fn compare(path: &str, trace: &[usize]) {
    let keys = trace.iter().max().map_or(0, |most| most + 1);
    let sizes = SIZES.map(|hundredths| keys * hundredths / 100);
    let name = Path::new(path).file_name().unwrap_or_default().display();
    println!("\n{name}: {} reads of {keys} keys; hits of a hundred reads", trace.len());
    line("entries", sizes.map(|size| size.to_string()));
    for (name, tier) in CONTENDERS {
        line(name, sizes.map(|size| percent(replay(&*tier(size as u64), trace), trace)));
    }
    line("optimum", sizes.map(|size| percent(optimum(size, trace), trace)));
}

fn line(name: &str, figures: [String; 4]) {
    let [a, b, c, d] = figures;
    println!("{name:12} {a:>8} {b:>8} {c:>8} {d:>8}");
}

fn percent(hits: usize, trace: &[usize]) -> String {
    format!("{:.1}", hits as f64 * 100.0 / trace.len() as f64)
}

/// The hits of a tier that is given what it lacks.
fn replay(tier: &dyn LocalTier, trace: &[usize]) -> usize {
    let now = Instant::now();
    let meta = LocalMeta {
        born: now,
        fresh_until: now + LIFE,
        stale_until: now + LIFE,
        proven_until: now + LIFE,
        generation: 0,
        type_id: TypeId::of::<u64>(),
        schema: 0,
        source_version: 0,
    };
    let entry = LocalEntry { value: Some(Arc::new(0_u64)), meta, marks: None };
    let read = |key: &&usize| {
        let key = key.to_be_bytes();
        let hit = tier.get(&key).is_some();
        if !hit {
            tier.insert(&key, entry.clone(), 1, LIFE);
        }
        hit
    };
    trace.iter().filter(read).count()
}

/// The hits of whoever lets go of what is needed again the latest.
fn optimum(size: usize, trace: &[usize]) -> usize {
    let mut next = vec![usize::MAX; trace.len()];
    let mut seen = HashMap::new();
    for (at, key) in trace.iter().enumerate().rev() {
        next[at] = seen.insert(key, at).unwrap_or(usize::MAX - key);
    }
    // The entries by the time of their next use, which is theirs alone.
    let mut held = BTreeSet::new();
    let mut hits = 0;
    for (at, next) in next.into_iter().enumerate() {
        hits += usize::from(held.remove(&at));
        held.insert(next);
        if held.len() > size {
            held.pop_last();
        }
    }
    hits
}

/// The crate `quick_cache`, without a life for its entries: what [`Quick`] is measured by.
#[derive(Debug)]
struct QuickCache(quick_cache::sync::Cache<Box<[u8]>, LocalEntry>);

impl QuickCache {
    fn new(size: u64) -> Self {
        Self(quick_cache::sync::Cache::new(usize::try_from(size).unwrap()))
    }
}

impl LocalTier for QuickCache {
    fn name(&self) -> &'static str {
        "quick_cache"
    }

    fn get(&self, key: &[u8]) -> Option<LocalEntry> {
        self.0.get(key)
    }

    fn insert(&self, key: &[u8], entry: LocalEntry, _: u64, _: Duration) {
        self.0.insert(key.into(), entry);
    }

    fn remove(&self, key: &[u8]) {
        self.0.remove(key);
    }

    fn clear(&self) {
        self.0.clear();
    }

    fn entries(&self) -> u64 {
        self.0.len() as u64
    }
}
