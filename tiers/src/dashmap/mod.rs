//! [`DashMap`]: L1 on the `dashmap` crate, with a bound and an eviction of our own.
//!
//! DashMap neither bounds nor evicts. Here the weight of an entry is *reserved* in one atomic total
//! before the map is touched, and given back after the entry left it, so the total is at every
//! instant at least what the map holds, and never above the bound. Where there is no room, a few
//! sampled entries are compared and the worst goes: an expired one, else the least recently used.
//! That is Redis's approximated LRU (<https://redis.io/docs/latest/develop/reference/eviction/>);
//! an exact list of uses would need a lock on every hit.
//!
//! No guard of the map is held while another key, or a lock of the ring, is touched.

mod ring;

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use ::dashmap::Entry;
use foldhash::fast::RandomState;

use self::ring::{Key, Ring};
use crate::{Clock, ConfigError, LocalEntry, LocalTier, bound::Bound};

/// Evictions for one insert, at most; then the entry is given up.
const EVICTIONS: usize = 1_024;
/// Samples for one insert that may find nothing to evict, as when others were quicker.
const FRUITLESS: usize = 16;
/// The longest life; more would overflow an `Instant`.
const LONGEST: Duration = Duration::from_secs(100 * 365 * 24 * 60 * 60);

/// An in-process tier on [dashmap](https://docs.rs/dashmap): a quick hit, a strict bound.
///
/// It never holds more than its bound, expired entries counted, at any instant and under any
/// concurrency. The price is that an insert into a full tier evicts before it returns, and that
/// one which finds no room after some tries is not kept; the key's old entry is gone then too. An
/// entry heavier than the whole bound is not kept.
///
/// ```
/// use tiered_tiers::{DashMap, LocalTier};
///
/// let l1 = DashMap::weighted(64 * 1024 * 1024);
/// assert!(l1.check().is_ok());
/// assert!(DashMap::new(0).check().is_err());
/// ```
pub struct DashMap {
    map: Map,
    ring: Ring,
    bound: Bound,
    /// The weight of all entries in the map, and of those about to be put there.
    reserved: AtomicU64,
    /// The number of entries, or a moment long more; the map's own count locks every shard of it.
    count: AtomicUsize,
    /// Counts inserts; what "recently used" is measured by.
    ticks: AtomicU64,
    clock: Clock,
}

/// The map: its keys are shared with the ring of candidates.
type Map = ::dashmap::DashMap<Key, Slot, RandomState>;

/// What the map keeps of one key.
struct Slot {
    entry: LocalEntry,
    cost: u64,
    expires: Instant,
    used: AtomicU64,
}

/// How an attempt to store an entry ended.
enum Attempt {
    /// It is in the map.
    Stored,
    /// It is not: the bound has no room for it.
    NoRoom,
}

impl DashMap {
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
        Self {
            map: Map::with_hasher(RandomState::default()),
            ring: Ring::default(),
            bound,
            reserved: AtomicU64::new(0),
            count: AtomicUsize::new(0),
            ticks: AtomicU64::new(1),
            clock: Clock::system(),
        }
    }

    /// Stores the slot if the bound has room for it, in one look at the map.
    fn attempt(&self, key: &Key, entry: &LocalEntry, cost: u64, expires: Instant) -> Attempt {
        let used = AtomicU64::new(self.ticks.fetch_add(1, Ordering::Relaxed) + 1);
        let slot = Slot { entry: entry.clone(), cost, expires, used };
        let replaced = match self.map.entry(Arc::clone(key)) {
            Entry::Occupied(mut old) => {
                let old_cost = old.get().cost;
                // Only the difference is needed: the old entry's room is this one's already.
                if !self.reserve(cost.saturating_sub(old_cost)) {
                    return Attempt::NoRoom;
                }
                let replaced = old.insert(slot);
                self.give_back(old_cost.saturating_sub(cost));
                Some(replaced)
            }
            Entry::Vacant(place) => {
                if !self.reserve(cost) {
                    return Attempt::NoRoom;
                }
                self.count.fetch_add(1, Ordering::AcqRel);
                place.insert(slot);
                None
            }
        };
        // Only now, without a guard: the old value's destructor is the application's code, and the
        // ring has a lock. A candidate is pushed after its entry stands in the map; the other way
        // round it could be taken for a left-over and the entry could never be evicted.
        if replaced.is_none() {
            let entries = self.count.load(Ordering::Relaxed);
            self.ring.push(Arc::clone(key), entries, |key| self.stands(key));
        }
        Attempt::Stored
    }

    /// Takes `cost` from what the bound still allows, or nothing.
    fn reserve(&self, cost: u64) -> bool {
        let limit = self.bound.limit();
        self.reserved
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |total| {
                total.checked_add(cost).filter(|total| *total <= limit)
            })
            .is_ok()
    }

    fn give_back(&self, cost: u64) {
        if cost > 0 {
            self.reserved.fetch_sub(cost, Ordering::AcqRel);
        }
    }

    /// Drops the worst of a few sampled entries. Returns whether one was dropped.
    fn evict(&self) -> bool {
        let now = self.clock.now();
        let mut worst: Option<(u64, Key)> = None;
        for key in self.ring.sample(|key| self.stands(key)) {
            let Some(rank) = self.rank(&key, now) else { continue };
            if worst.as_ref().is_none_or(|(least, _)| rank < *least) {
                worst = Some((rank, key));
            }
        }
        worst.is_some_and(|(_, key)| self.drop_entry(&key, |stored| Arc::ptr_eq(stored, &key)))
    }

    /// How soon an entry should go, least first: an expired one at once, else by its last use.
    fn rank(&self, key: &Key, now: Instant) -> Option<u64> {
        let slot = self.map.get(&**key)?;
        Some(if slot.expires <= now { 0 } else { slot.used.load(Ordering::Relaxed) })
    }

    /// Whether this very key object is in the map, and not only an equal one: each entry has one
    /// candidate in the ring, however often its key was removed and inserted again.
    fn stands(&self, key: &Key) -> bool {
        self.map.get(&**key).is_some_and(|slot| Arc::ptr_eq(slot.key(), key))
    }

    /// Takes an entry out and gives its weight back. Its candidate in the ring is a left-over then.
    fn drop_entry(&self, key: &[u8], which: impl FnOnce(&Key) -> bool) -> bool {
        let removed = self.map.remove_if(key, |stored, _| which(stored));
        if let Some((_, slot)) = &removed {
            self.count.fetch_sub(1, Ordering::AcqRel);
            self.give_back(slot.cost);
        }
        removed.is_some()
    }
}

impl fmt::Debug for DashMap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DashMap")
            .field("bound", &self.bound)
            .field("reserved", &self.reserved.load(Ordering::Acquire))
            .finish_non_exhaustive()
    }
}

impl LocalTier for DashMap {
    fn name(&self) -> &'static str {
        "dashmap"
    }

    fn get(&self, key: &[u8]) -> Option<LocalEntry> {
        let slot = self.map.get(key)?;
        if slot.expires <= self.clock.now() {
            return None;
        }
        let tick = self.ticks.load(Ordering::Relaxed);
        // A store dirties the cache line that every core reads; one per tick is enough.
        if slot.used.load(Ordering::Relaxed) != tick {
            slot.used.store(tick, Ordering::Relaxed);
        }
        Some(slot.entry.clone())
    }

    fn insert(&self, key: &[u8], entry: LocalEntry, weight: u64, life: Duration) {
        let cost = self.bound.cost(weight);
        let expires = self.clock.now() + life.min(LONGEST);
        if cost <= self.bound.limit() {
            let shared: Key = key.into();
            let mut fruitless = 0;
            for _ in 0..EVICTIONS {
                match self.attempt(&shared, &entry, cost, expires) {
                    Attempt::Stored => return,
                    Attempt::NoRoom if self.evict() => {}
                    Attempt::NoRoom if fruitless < FRUITLESS => fruitless += 1,
                    Attempt::NoRoom => break,
                }
            }
        }
        self.remove(key);
    }

    fn remove(&self, key: &[u8]) {
        self.drop_entry(key, |_| true);
    }

    fn remove_prefix(&self, prefix: &[u8]) -> u64 {
        // Two steps: a removed value must not die under the map's locks.
        let keys = self.map.iter().map(|slot| Arc::clone(slot.key()));
        let keys: Vec<Key> = keys.filter(|key| key.starts_with(prefix)).collect();
        keys.iter().filter(|key| self.drop_entry(key, |_| true)).count() as u64
    }

    fn clear(&self) {
        // The values die after the map's locks are released: their destructors are the
        // application's code. The weight is given back last, when nothing stands for it any more.
        let (mut values, mut freed) = (Vec::new(), 0);
        self.map.retain(|_, slot| {
            values.push(slot.entry.value.take());
            freed += slot.cost;
            false
        });
        self.count.fetch_sub(values.len(), Ordering::AcqRel);
        self.give_back(freed);
        self.ring.purge(|key| self.stands(key));
    }

    fn is_weighted(&self) -> bool {
        self.bound.is_weight()
    }

    fn entries(&self) -> u64 {
        self.count.load(Ordering::Acquire) as u64
    }

    fn check(&self) -> Result<(), ConfigError> {
        self.bound.check("DashMap")
    }
}

#[cfg(test)]
mod tests {
    use std::any::TypeId;

    use super::*;
    use crate::LocalMeta;

    const LIFE: Duration = Duration::from_secs(60);

    fn entry(value: u32) -> LocalEntry {
        let now = Instant::now();
        let meta = LocalMeta {
            born: now,
            fresh_until: now,
            stale_until: now,
            proven_until: now,
            generation: 0,
            type_id: TypeId::of::<u32>(),
            schema: 0,
            source_version: 0,
        };
        LocalEntry { value: Some(Arc::new(value)), meta, marks: None }
    }

    fn weight_in_map(tier: &DashMap) -> u64 {
        tier.map.iter().map(|slot| slot.cost).sum()
    }

    #[test]
    fn counts_survive_keys_that_come_and_go() {
        let tier = DashMap::weighted(50);
        for round in 0..20_000_u32 {
            let key = format!("k{}", fastrand::u8(..12));
            match fastrand::u8(..10) {
                0..3 => tier.remove(key.as_bytes()),
                3 if round % 64 == 0 => tier.clear(),
                _ => tier.insert(key.as_bytes(), entry(round), fastrand::u64(..20), LIFE),
            }
            assert_eq!(tier.reserved.load(Ordering::Acquire), weight_in_map(&tier));
            assert_eq!(tier.count.load(Ordering::Acquire), tier.map.len());
        }
        for key in 0..12 {
            tier.remove(format!("k{key}").as_bytes());
        }
        assert_eq!(tier.reserved.load(Ordering::Acquire), 0);
    }

    #[test]
    fn the_ring_stays_within_twice_the_map() {
        let tier = DashMap::new(10_000);
        for round in 0..100_000_u32 {
            let key = format!("k{}", round % 1_000);
            tier.insert(key.as_bytes(), entry(round), 1, LIFE);
            if round % 3 != 0 {
                tier.remove(key.as_bytes());
            }
            assert!(tier.ring.len() <= 2 * tier.map.len() + 8 * 70, "{}", tier.ring.len());
        }
        tier.clear();
        assert_eq!(tier.ring.len(), 0);
    }

    #[test]
    fn every_entry_has_a_candidate_and_can_be_evicted() {
        let tier = DashMap::new(500);
        for round in 0..2_000_u32 {
            let key = format!("k{}", round % 700);
            tier.insert(key.as_bytes(), entry(round), 1, LIFE);
            if round % 5 == 0 {
                tier.remove(key.as_bytes());
            }
        }
        while tier.evict() {}
        assert_eq!(tier.map.len(), 0);
    }

    #[test]
    fn a_value_whose_destructor_uses_the_tier_does_not_deadlock() {
        struct Nosy(std::sync::Weak<DashMap>);
        impl Drop for Nosy {
            fn drop(&mut self) {
                if let Some(tier) = self.0.upgrade() {
                    tier.get(b"k");
                    tier.remove(b"other");
                }
            }
        }
        let tier = Arc::new(DashMap::new(1));
        let nosy = || LocalEntry { value: Some(Arc::new(Nosy(Arc::downgrade(&tier)))), ..entry(0) };
        tier.insert(b"k", nosy(), 1, LIFE);
        tier.insert(b"k", nosy(), 1, LIFE);
        tier.insert(b"l", nosy(), 1, LIFE);
        tier.clear();
        tier.insert(b"k", nosy(), 1, LIFE);
        tier.remove(b"k");
        assert_eq!(tier.entries(), 0);
    }
}
