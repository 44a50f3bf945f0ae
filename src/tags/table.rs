//! Counters that L1's entries are checked against: no lock, no allocation, one look for each tag.

use std::sync::Arc;

use xxhash_rust::xxh3::xxh3_64;

use super::Tag;
use crate::sync::{AtomicU64, Ordering};

const PLACES: usize = 4_096;

/// How often the tags of each place were invalidated, as far as this process knows.
#[derive(Debug)]
pub(super) struct Table {
    counts: Vec<AtomicU64>,
    bumps: AtomicU64,
}

/// The places of an entry's tags, with their counts from before its load.
pub(crate) type Marks = Arc<[(u32, u64)]>;

impl Default for Table {
    fn default() -> Self {
        let counts = (0..PLACES).map(|_| AtomicU64::new(0)).collect();
        Self { counts, bumps: AtomicU64::new(0) }
    }
}

impl Table {
    fn place(tag: &str) -> u32 {
        // The remainder is below the length.
        (xxh3_64(tag.as_bytes()) % PLACES as u64) as u32
    }

    fn count(&self, place: u32) -> u64 {
        self.counts.get(place as usize).map_or(0, |count| count.load(Ordering::Acquire))
    }

    pub(super) fn marks(&self, tags: &[Tag]) -> Option<Marks> {
        let mark = |tag: &Tag| {
            let place = Self::place(tag);
            (place, self.count(place))
        };
        (!tags.is_empty()).then(|| tags.iter().map(mark).collect())
    }

    pub(super) fn counts(&self, tags: &[Tag]) -> Vec<u64> {
        tags.iter().map(|tag| self.count(Self::place(tag))).collect()
    }

    pub(super) fn stand(&self, marks: &Marks) -> bool {
        marks.iter().all(|(place, count)| self.count(*place) == *count)
    }

    pub(super) fn bump(&self, tag: &str) {
        // In this order: who finds the place counted up in its marks, and then compares, finds this counted up, too.
        self.bumps.fetch_add(1, Ordering::AcqRel);
        if let Some(count) = self.counts.get(Self::place(tag) as usize) {
            count.fetch_add(1, Ordering::AcqRel);
        }
    }

    /// How often any of them was.
    pub(super) fn bumps(&self) -> u64 {
        self.bumps.load(Ordering::Acquire)
    }
}
