//! What the bound still allows: one total over all shards, taken before an entry is stored and given
//! back after it has left, so it is never less than what the shards hold, nor above the bound.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::bound::Bound;

/// The total.
#[derive(Debug)]
pub(super) struct Room {
    bound: Bound,
    taken: AtomicU64,
    entries: AtomicU64,
}

impl Room {
    pub(super) fn new(bound: Bound) -> Self {
        Self { bound, taken: AtomicU64::new(0), entries: AtomicU64::new(0) }
    }

    pub(super) fn bound(&self) -> Bound {
        self.bound
    }

    /// About how much is taken.
    pub(super) fn taken(&self) -> u64 {
        self.taken.load(Ordering::Acquire)
    }

    /// How many entries there are, or a moment long fewer.
    pub(super) fn entries(&self) -> u64 {
        self.entries.load(Ordering::Acquire)
    }

    /// Takes `cost` if the bound allows it, or nothing.
    pub(super) fn take(&self, cost: u64) -> bool {
        let limit = self.bound.limit();
        let more = |taken: u64| taken.checked_add(cost).filter(|taken| *taken <= limit);
        cost == 0 || self.taken.fetch_update(Ordering::AcqRel, Ordering::Acquire, more).is_ok()
    }

    /// Gives back what was taken.
    pub(super) fn give_back(&self, cost: u64) {
        if cost > 0 {
            self.taken.fetch_sub(cost, Ordering::AcqRel);
        }
    }

    /// Counts an entry for which room was taken.
    pub(super) fn came(&self) {
        self.entries.fetch_add(1, Ordering::AcqRel);
    }

    /// Gives back the room of entries that have left.
    pub(super) fn left(&self, entries: u64, cost: u64) {
        self.entries.fetch_sub(entries, Ordering::AcqRel);
        self.give_back(cost);
    }
}
