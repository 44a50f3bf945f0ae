//! Random damage of golden entries, and forging: none is read as what it was not.
//!
//! `TIERED_MUTATIONS` says how many, `TIERED_SEED` repeats a run.

use std::{collections::HashSet, env, time::Instant};

use fastrand::Rng;
use tiered_codecs::CodecFor;

use super::{
    entries::reader,
    index::{self, Golden},
    order::Order,
};
use crate::support::sum;

/// How many, unless told.
const MUTATIONS: u32 = 1_000_000;

/// A golden entry with its bytes.
struct Entry {
    golden: Golden,
    bytes: Vec<u8>,
}

fn entries() -> Vec<Entry> {
    let entry = |golden: Golden| Entry { bytes: golden.bytes(), golden };
    index::all().into_iter().map(entry).collect()
}

/// A number told by the environment.
fn told<T: std::str::FromStr>(name: &str) -> Option<T> {
    let text = env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} is no number: {text}")))
}

/// A range of an entry, of at most `most` bytes.
fn range(random: &mut Rng, len: usize, most: usize) -> std::ops::Range<usize> {
    let start = random.usize(..=len);
    start..start + random.usize(..=(len - start).min(most))
}

/// Damages `bytes` once.
fn mutate(random: &mut Rng, bytes: &mut Vec<u8>, all: &[Entry]) {
    let at = range(random, bytes.len(), 24);
    match random.u8(..8) {
        0 => {
            for _ in 0..random.u8(1..9) {
                let bit = random.usize(..bytes.len().max(1) * 8);
                if let Some(byte) = bytes.get_mut(bit / 8) {
                    *byte ^= 1 << (bit % 8);
                }
            }
        }
        1 => bytes[at].fill_with(|| random.u8(..)),
        2 => bytes[at].fill(random.choice([0, 0xff, 0x7f, 0x80]).unwrap_or_default()),
        3 => drop(bytes.drain(at)),
        4 => bytes.truncate(at.start),
        5 => {
            let again = bytes[at.clone()].to_vec();
            bytes.splice(at.start..at.start, again);
        }
        // A part of another, in the same place or elsewhere.
        6 => {
            let other = &all[random.usize(..all.len())].bytes;
            let from = range(random, other.len(), 80);
            let to = if random.bool() { from.start.min(bytes.len()) } else { at.start };
            let end = if random.bool() { to } else { (to + from.len()).min(bytes.len()) };
            bytes.splice(to..end, other[from].iter().copied());
        }
        // Its beginning, and another's end: at the payload, or anywhere.
        _ => {
            let other = &all[random.usize(..all.len())].bytes;
            let cut = if random.bool() { 64 } else { random.usize(..=bytes.len()) };
            bytes.truncate(cut);
            bytes.extend_from_slice(&other[cut.min(other.len())..]);
        }
    }
}

/// Has so many mutated entries judged, each beside the golden one it was, if `forge` makes of it
/// another than every genuine one.
fn each(count: u32, forge: fn(Vec<u8>, &[u8]) -> Vec<u8>, mut judge: impl FnMut(&Golden, Vec<u8>)) {
    let seed = told("TIERED_SEED").unwrap_or_else(|| fastrand::u64(..));
    println!("TIERED_SEED={seed}, {count} mutations");
    let mut random = Rng::with_seed(seed);
    let all = entries();
    let genuine: HashSet<(&[u8], &[u8])> =
        all.iter().map(|it| (it.bytes.as_slice(), it.golden.key.as_slice())).collect();
    let start = Instant::now();
    for _ in 0..count {
        let entry = &all[random.usize(..all.len())];
        let mut bytes = entry.bytes.clone();
        for _ in 0..random.u8(1..4) {
            mutate(&mut random, &mut bytes, &all);
        }
        let key = entry.golden.key.as_slice();
        let bytes = forge(bytes, key);
        if !genuine.contains(&(bytes.as_slice(), key)) {
            judge(&entry.golden, bytes);
        }
    }
    println!("in {:?}", start.elapsed());
}

#[test]
fn no_random_damage_is_read() {
    let reader = reader();
    let count = told("TIERED_MUTATIONS").unwrap_or(MUTATIONS);
    each(
        count,
        |bytes, _| bytes,
        |golden, bytes| {
            let there = CodecFor::<Order>::unpack(&reader, &bytes, &golden.key, 1 << 20);
            assert!(there.is_err(), "{} became {bytes:02x?}", golden.name);
        },
    );
}

/// Whoever writes the right checksum writes what is read, but for what is sealed.
#[test]
fn no_forged_entry_passes_for_a_sealed_one() {
    let reader = reader();
    let count = told("TIERED_MUTATIONS").unwrap_or(MUTATIONS) / 10;
    let right_sum = |mut bytes: Vec<u8>, key: &[u8]| {
        bytes.resize(bytes.len().max(64), 0);
        sum(bytes, key)
    };
    each(count, right_sum, |golden, bytes| {
        if let Ok(unpacked) = CodecFor::<Order>::unpack(&reader, &bytes, &golden.key, 1 << 20) {
            assert!(!unpacked.header.sealed, "{} became {bytes:02x?}", golden.name);
            // Whatever it is, it is no panic.
            let _ = CodecFor::<Order>::decode(&reader, &unpacked);
        }
    });
}
