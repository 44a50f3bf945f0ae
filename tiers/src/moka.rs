//! [`Moka`]: L1 on the `moka` crate, with its TinyLFU admission and its timer wheel.
//!
//! Moka only stores. Its own `get_with` is not used: an invalidation during such a load does not
//! cancel it, and the loader dies with its caller; flights and fences are the engine's. The slot
//! holds the entry itself and not an `Arc` of it: a hit copies a few cache lines and touches one
//! reference count, where an `Arc` around it would touch three.
//!
//! Moka counts weights behind the operations. An entry that is replaced by one of another weight, and removed
//! before the maintenance comes to it, is added with its old weight and taken off with its new one (0.12.16),
//! and the sum drifts from what is held, until the bound is exceeded manifold or nothing is kept any more. So
//! where weights count, nothing is replaced: the old entry is removed, and then the new one inserted, one
//! caller at a time for each key. A `get` between the two finds nothing, as it may: an entry can go at any
//! moment. And what is heavier than the whole bound is no business of moka's.

use std::{
    fmt,
    hash::BuildHasher,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use foldhash::fast::RandomState;
use moka::{Expiry, sync::Cache};

use crate::{ConfigError, LocalEntry, LocalTier, bound::Bound};

/// The longest life moka is asked for; its clock counts nanoseconds in 64 bits.
const LONGEST: Duration = Duration::from_secs(100 * 365 * 24 * 60 * 60);

/// An in-process tier on [moka](https://docs.rs/moka): keeps what is asked for often.
///
/// The bound is moka's: maintenance runs along with the operations, so for a moment the tier may
/// hold as many entries too many as moka buffers writes (a few hundred). An entry heavier than the
/// whole bound is not kept. Expiry runs on the machine's clock, whatever the engine's clock is.
///
/// ```
/// use tiered_tiers::{LocalTier, Moka};
///
/// let l1 = Moka::new(100_000);
/// assert!(l1.check().is_ok());
/// assert!(Moka::new(0).check().is_err());
/// ```
pub struct Moka {
    cache: Cache<Key, Slot, RandomState>,
    bound: Bound,
    /// Whose turn it is to insert, by a key's hash; none where weights do not count.
    turns: Box<[Mutex<()>]>,
    hasher: RandomState,
}

/// Inserts under way at once, at most, where weights count.
const TURNS: usize = 256;

/// A key, owned by the cache.
type Key = Box<[u8]>;

/// What moka keeps of one key.
#[derive(Clone)]
struct Slot {
    entry: LocalEntry,
    cost: u32,
    life: Duration,
}

/// The expiry of each entry: the life it was inserted with.
struct OwnLife;

impl Expiry<Key, Slot> for OwnLife {
    fn expire_after_create(&self, _: &Key, slot: &Slot, _: Instant) -> Option<Duration> {
        Some(slot.life)
    }

    /// The new entry's life; moka's default would keep the deadline of the replaced one.
    fn expire_after_update(
        &self,
        _: &Key,
        slot: &Slot,
        _: Instant,
        _: Option<Duration>,
    ) -> Option<Duration> {
        Some(slot.life)
    }
}

impl Moka {
    /// A tier of at most `max_entries` entries.
    #[must_use]
    pub fn new(max_entries: u64) -> Self {
        Self::bounded(Bound::Entries(max_entries))
    }

    /// A tier whose entries weigh at most `max_weight` together, by the weights that
    /// [`insert`](LocalTier::insert) is told. Their keys and what moka keeps of each are not counted: some
    /// hundred bytes and the key's length for each entry, which is most of it where values are small or
    /// absent. Where keys can be long or values tiny, bound the entries instead ([`new`](Self::new)).
    ///
    /// One entry's weight is counted up to `u32::MAX`, which is as far as moka counts.
    #[must_use]
    pub fn weighted(max_weight: u64) -> Self {
        Self::bounded(Bound::Weight(max_weight))
    }

    fn bounded(bound: Bound) -> Self {
        let cache = Cache::builder()
            .name("tiered-l1")
            .max_capacity(bound.limit())
            .weigher(|_: &Key, slot: &Slot| slot.cost)
            .expire_after(OwnLife)
            .build_with_hasher(RandomState::default());
        let turns = if bound.is_weight() { TURNS } else { 0 };
        let turns = (0..turns).map(|_| Mutex::default()).collect();
        Self { cache, bound, turns, hasher: RandomState::default() }
    }

    /// The turn of a key, where weights count.
    fn turn(&self, key: &[u8]) -> Option<MutexGuard<'_, ()>> {
        let hash = self.bound.is_weight().then(|| self.hasher.hash_one(key))?;
        let turn = self.turns.get(usize::try_from(hash >> 32).ok()? % TURNS)?;
        Some(turn.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl fmt::Debug for Moka {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Moka")
            .field("bound", &self.bound)
            .field("entries", &self.cache.entry_count())
            .finish()
    }
}

impl LocalTier for Moka {
    fn name(&self) -> &'static str {
        "moka"
    }

    fn get(&self, key: &[u8]) -> Option<LocalEntry> {
        self.cache.get(key).map(|slot| slot.entry)
    }

    fn insert(&self, key: &[u8], entry: LocalEntry, weight: u64, life: Duration) {
        let cost = self.bound.cost(weight);
        let turn = self.turn(key);
        if turn.is_some() {
            self.cache.invalidate(key);
        }
        if cost <= self.bound.limit() {
            let cost = u32::try_from(cost).unwrap_or(u32::MAX);
            self.cache.insert(key.into(), Slot { entry, cost, life: life.min(LONGEST) });
        }
    }

    fn remove(&self, key: &[u8]) {
        self.cache.invalidate(key);
    }

    fn remove_prefix(&self, prefix: &[u8]) -> u64 {
        let keys = self.cache.iter().map(|(key, _)| key);
        keys.filter(|key| key.starts_with(prefix)).map(|key| self.remove(&key)).count() as u64
    }

    fn clear(&self) {
        self.cache.invalidate_all();
    }

    fn is_weighted(&self) -> bool {
        self.bound.is_weight()
    }

    /// The number of entries, after the maintenance that was due.
    fn entries(&self) -> u64 {
        self.cache.run_pending_tasks();
        self.cache.entry_count()
    }

    fn check(&self) -> Result<(), ConfigError> {
        self.bound.check("Moka")
    }
}
