//! The candidates for eviction: every key of the map once, in no order, ready to be sampled.
//!
//! DashMap offers no random entry without its raw, unsafe interface, so the keys are kept a second
//! time (shared, not copied) in vectors, where picking at random is an index. Keys that left the
//! map stay behind as left-overs; sampling throws out those it meets, and a vector that holds more
//! than twice its part of the map is swept. Rejected: walking the map from a random shard, which
//! favours whatever lies first in its table.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A key, shared by the map and the ring.
pub(super) type Key = Arc<[u8]>;

/// Vectors, so that inserts on several cores rarely wait for each other; one candidate of each is
/// compared for an eviction.
const SHARDS: usize = 8;
/// A vector of so many candidates gives all of them: a tiny tier evicts exactly.
const FEW: usize = 4;
/// Left-overs a vector may hold beyond twice its part of the map.
const SLACK: usize = 64;

/// The candidates.
#[derive(Default)]
pub(super) struct Ring {
    shards: [Mutex<Vec<Key>>; SHARDS],
}

impl Ring {
    /// Adds the candidate of an entry that is in the map now, where `entries` are. `stands` tells
    /// whether a candidate's entry is still there.
    pub(super) fn push(&self, key: Key, entries: usize, stands: impl Fn(&Key) -> bool) {
        // At random and not in turn: keys whose lives follow a period of their own would pile up
        // in one vector, which would then be swept at every push.
        let Some(shard) = self.shards.get(fastrand::usize(..SHARDS)) else { return };
        let mut keys = lock(shard);
        keys.push(key);
        if keys.len() > entries / SHARDS * 2 + SLACK {
            keys.retain(stands);
        }
    }

    /// A few candidates whose entries were in the map a moment ago: one from each vector, or all
    /// that a vector has, when they are few.
    ///
    /// Never from one vector alone: its part of the map would wander off at random, and a vector
    /// with little left in it would give up what is in daily use.
    pub(super) fn sample(&self, stands: impl Fn(&Key) -> bool) -> Vec<Key> {
        let mut sample = Vec::with_capacity(SHARDS);
        for shard in &self.shards {
            let mut keys = lock(shard);
            if keys.len() <= FEW {
                keys.retain(&stands);
                sample.extend(keys.iter().cloned());
                continue;
            }
            while !keys.is_empty() {
                let index = fastrand::usize(..keys.len());
                match keys.get(index) {
                    Some(key) if stands(key) => {
                        sample.push(Arc::clone(key));
                        break;
                    }
                    _ => _ = keys.swap_remove(index),
                }
            }
        }
        sample
    }

    /// Throws out every left-over.
    pub(super) fn purge(&self, stands: impl Fn(&Key) -> bool) {
        for shard in &self.shards {
            let mut keys = lock(shard);
            keys.retain(&stands);
            keys.shrink_to_fit();
        }
    }

    /// The number of candidates, left-overs included.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.shards.iter().map(|shard| lock(shard).len()).sum()
    }
}

/// The vector; one that a panic left behind is whole, for every step leaves it so.
fn lock(shard: &Mutex<Vec<Key>>) -> MutexGuard<'_, Vec<Key>> {
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}
