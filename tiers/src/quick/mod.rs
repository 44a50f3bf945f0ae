//! [`Quick`]: L1 with an eviction of its own, for a quick hit and a high hit ratio at once.
//!
//! The keys are spread over shards, each behind a lock that reads share. A hit is a look into a
//! table and a copy; what an eviction must know of it is one small counter, which stops counting at
//! two. So hits neither queue up, as in moka, whose policy replays a log of them, nor need a second
//! structure, as in [`DashMap`](crate::DashMap), which samples.
//!
//! **The bound** is one total for all shards, reserved before an entry is stored. A shard that has
//! more than its share pays for what comes next; so an uneven spread of keys costs nothing, and an
//! entry may be as heavy as the whole bound.
//!
//! **The dead** are taken out in three places: by the `get` that finds one; by every insert, which
//! looks at the next few places of its shard, dead or not; and by an eviction that meets one. So
//! the dead keep live ones out only until a quarter as many entries as a shard has places were
//! inserted into it. A tier into which nothing is inserted keeps its dead, within its bound.
//!
//! **Rejected:** the crate `quick_cache`. Its hit is the quickest there is, and its eviction alike;
//! but it knows no expiry and has no cursor, so the dead could only be found by a walk over
//! everything under its locks, or by a second structure of keys; it refuses what is heavier than one
//! shard's part; what it remembers of those it let go takes as much memory as entries. The figures
//! are in `docs/choosing-l1.md`. A timer wheel for the dead was rejected too: it must be kept up with
//! on every insert and removal, for entries most of which are evicted before their time.

mod cell;
mod ghosts;
mod insert;
mod nodes;
mod room;
mod shard;
#[cfg(test)]
mod tests;

use std::{fmt, hash::BuildHasher, thread, time::Duration};

use foldhash::fast::RandomState;

use self::{
    cell::{Cell, Gone},
    insert::New,
    nodes::Node,
    room::Room,
    shard::Shard,
};
use crate::{Clock, ConfigError, LocalEntry, LocalTier, bound::Bound};

/// Shards for each core, so that two cores rarely want the same one.
const SHARDS_A_CORE: usize = 4;
/// Shards, at most.
const MOST_SHARDS: usize = 256;
/// A shard's share of the bound, at least: a policy needs some entries to choose among.
const LEAST_SHARE: u64 = 256;
/// The longest life; more would overflow an `Instant`.
const LONGEST: Duration = Duration::from_secs(100 * 365 * 24 * 60 * 60);

/// An in-process tier of the library's own: quick hits, a high hit ratio, a strict bound.
///
/// It never holds more than its bound, expired entries counted, at any instant and under any
/// concurrency. Under memory pressure it keeps what is asked for more than once, and lets pass by
/// what a scan asks for. An entry heavier than the whole bound is not kept, and neither is, under
/// heavy contention, one that finds no room after some tries; the key's old entry is gone then too.
///
/// ```
/// use tiered_tiers::{LocalTier, Quick};
///
/// let l1 = Quick::weighted(64 * 1024 * 1024);
/// assert!(l1.check().is_ok());
/// assert!(Quick::new(0).check().is_err());
/// ```
pub struct Quick {
    cells: Box<[Cell]>,
    hasher: RandomState,
    room: Room,
    /// Each shard's part of the bound.
    share: u64,
    clock: Clock,
}

impl Quick {
    /// A tier of at most `max_entries` entries.
    #[must_use]
    pub fn new(max_entries: u64) -> Self {
        Self::bounded(Bound::Entries(max_entries))
    }

    /// A tier whose entries weigh at most `max_weight` together, by the weights that
    /// [`insert`](LocalTier::insert) is told. Their keys and the tier's own record of each are not counted:
    /// some hundred bytes and the key's length for each entry, which is most of it where values are small or
    /// absent. Where keys can be long or values tiny, bound the entries instead ([`new`](Self::new)).
    #[must_use]
    pub fn weighted(max_weight: u64) -> Self {
        Self::bounded(Bound::Weight(max_weight))
    }

    /// Lets entries expire by `clock` instead of the machine's.
    #[must_use]
    pub fn with_clock(mut self, clock: Clock) -> Self {
        self.clock = clock;
        self
    }

    fn bounded(bound: Bound) -> Self {
        let cores = thread::available_parallelism().map_or(1, usize::from);
        let wanted = cores.saturating_mul(SHARDS_A_CORE).min(MOST_SHARDS);
        let useful = usize::try_from(bound.limit() / LEAST_SHARE).unwrap_or(usize::MAX);
        // A power of two, for a key's shard is some bits of its hash.
        let shards = 1 << wanted.min(useful).max(1).ilog2();
        Self {
            cells: (0..shards).map(|_| Cell::default()).collect(),
            hasher: RandomState::default(),
            room: Room::new(bound),
            share: bound.limit() / shards as u64,
            clock: Clock::system(),
        }
    }

    /// A key's hash, and its shard.
    fn locate(&self, key: &[u8]) -> Option<(u64, &Cell)> {
        let hash = self.hasher.hash_one(key);
        // The table within the shard goes by the lowest bits and by the highest.
        let cell = (hash >> 32) as usize & (self.cells.len() - 1);
        Some((hash, self.cells.get(cell)?))
    }

    /// Gives back the room of an entry that has left its shard.
    fn leave(&self, node: Node, gone: &mut Gone) {
        self.room.left(1, node.cost);
        gone.push((node.key, node.entry.value));
    }

    /// Takes one entry out of its shard.
    fn take_out(&self, cell: &Cell, which: impl FnOnce(&mut Shard) -> Option<Node>) {
        // Declared before the lock, to be dropped after it; so everywhere here.
        let mut gone = Gone::default();
        let mut shard = cell.write();
        if let Some(node) = which(&mut shard) {
            self.leave(node, &mut gone);
            cell.note(&shard);
        }
    }
}

impl fmt::Debug for Quick {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Quick")
            .field("bound", &self.room.bound())
            .field("reserved", &self.room.taken())
            .finish_non_exhaustive()
    }
}

impl LocalTier for Quick {
    fn name(&self) -> &'static str {
        "quick"
    }

    fn get(&self, key: &[u8]) -> Option<LocalEntry> {
        let (hash, cell) = self.locate(key)?;
        // Before the lock, which is held the shorter for it.
        let now = self.clock.now();
        let shard = cell.read();
        let node = shard.get(hash, key)?;
        if node.expires > now {
            node.touch();
            return Some(node.entry.clone());
        }
        drop(shard);
        self.take_out(cell, |shard| shard.remove_dead(hash, key, now));
        None
    }

    fn insert(&self, key: &[u8], entry: LocalEntry, weight: u64, life: Duration) {
        let Some((hash, cell)) = self.locate(key) else { return };
        let cost = self.room.bound().cost(weight);
        let now = self.clock.now();
        let new = New { key, hash, entry, cost, expires: now + life.min(LONGEST), now };
        if cost > self.room.bound().limit() || !self.store(cell, &new) {
            self.remove(key);
        }
    }

    fn remove(&self, key: &[u8]) {
        let Some((hash, cell)) = self.locate(key) else { return };
        self.take_out(cell, |shard| shard.remove_if(hash, key, |_| true));
    }

    fn remove_prefix(&self, prefix: &[u8]) -> u64 {
        let mut removed = 0;
        for cell in &self.cells {
            let keys = cell.read().keys_with(prefix);
            removed += keys.len() as u64;
            keys.iter().for_each(|key| self.remove(key));
        }
        removed
    }

    fn clear(&self) {
        for cell in &self.cells {
            let mut shard = cell.write();
            let cleared = std::mem::take(&mut *shard);
            cell.note(&shard);
            drop(shard);
            self.room.left(cleared.len() as u64, cleared.weight());
        }
    }

    fn is_weighted(&self) -> bool {
        self.room.bound().is_weight()
    }

    fn entries(&self) -> u64 {
        self.room.entries()
    }

    fn check(&self) -> Result<(), ConfigError> {
        self.room.bound().check("Quick")
    }
}
