//! What an entry takes in each L1 besides its value: bytes from the allocator for a full tier of
//! keys of 16 bytes, through which ten times as many entries have passed.
//!
//! `cargo bench --bench l1_memory`. A bench of its own, for its allocator counts.
#![allow(missing_docs, clippy::cast_precision_loss, reason = "a benchmark")]

use std::{
    any::TypeId,
    sync::Arc,
    time::{Duration, Instant},
};

use tiered::tiers::{DashMap, LocalEntry, LocalMeta, LocalTier, Moka, Quick};

const LIFE: Duration = Duration::from_secs(3600);

fn main() {
    println!("{:10} {:>10} {:>10}   bytes an entry", "entries", "full", "used long");
    for size in [1_000, 100_000, 130_000] {
        println!("{size}");
        show("Moka", size, || Box::new(Moka::new(size)));
        show("DashMap", size, || Box::new(DashMap::new(size)));
        show("Quick", size, || Box::new(Quick::new(size)));
    }
}

fn show(name: &str, size: u64, make: impl Fn() -> Box<dyn LocalTier>) {
    let full = bytes(size, &make);
    let long = bytes(size * 10, &make);
    println!("  {name:8} {full:10.0} {long:10.0}");
}

/// Bytes for each entry that a tier holds after so many different ones were inserted.
fn bytes(inserted: u64, make: impl Fn() -> Box<dyn LocalTier>) -> f64 {
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
    let mut tier = None;
    let mut held = 0;
    let counts = allocation_counter::measure(|| {
        let filled = make();
        for key in 0..inserted {
            let key = format!("{key:016}");
            filled.insert(key.as_bytes(), entry.clone(), 1, LIFE);
            filled.get(key.as_bytes());
        }
        held = filled.entries();
        tier = Some(filled);
    });
    drop(tier);
    counts.bytes_current as f64 / held as f64
}
