//! L1, the contract: live values in this process, behind synchronous calls.
//!
//! A tier holds what it is given until its bound or the entry's life ends, and hands it back as it
//! was. It judges nothing: the engine decides by [`LocalMeta`] whether an entry may be served, so a
//! tier's own expiry only reclaims memory. The rejected alternative, generic tiers holding `T`,
//! would need one cache for each type of an application.

use std::{
    any::Any,
    fmt::Debug,
    sync::Arc,
    time::{Duration, Instant},
};

use crate::ConfigError;

/// A live value of any type; `None` is a negative entry, the remembered answer "there is none".
pub type Value = Option<Arc<dyn Any + Send + Sync>>;

/// What L1 keeps of one key.
#[derive(Clone, Debug)]
pub struct LocalEntry {
    /// The value, or a negative entry.
    pub value: Value,
    /// What the engine judges it by.
    pub meta: LocalMeta,
    /// Where the engine looks up whether what the entry depends on still stands: places and counts.
    pub marks: Option<Arc<[(u32, u64)]>>,
}

/// What the engine judges an entry by. All instants are of the engine's [`Clock`](crate::Clock).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LocalMeta {
    /// When the value was loaded (or set), as far as is known.
    pub born: Instant,
    /// Until when the value is fresh.
    pub fresh_until: Instant,
    /// Until when the value may stand in where all else fails; it is forgotten then. Over a shared L2
    /// that can be before `fresh_until`.
    pub stale_until: Instant,
    /// Until when L1 may serve it without asking L2, whatever is heard on the bus.
    pub proven_until: Instant,
    /// The generation of the bus' view that it was kept under, which may prove it for longer; 0 for none.
    pub generation: u64,
    /// The type of the value; negative entries have one too.
    pub type_id: std::any::TypeId,
    /// The schema version it was stored under.
    pub schema: u32,
    /// The version of it in the source; 0 when not known.
    pub source_version: u64,
}

/// A bounded, synchronous store of live values.
///
/// The engine calls `insert` and `remove` under a lock of the key's: they must not call the cache
/// back, and neither may the `Drop` of a value.
///
/// Every operation is quick, never blocks on input or output, and is linearizable per key: a `get`
/// that begins after `insert` or `remove` returned sees its effect (or, after an insert, nothing:
/// a tier may evict or refuse an entry at any time).
pub trait LocalTier: Send + Sync + Debug + 'static {
    /// A short name for metrics and health: `"moka"`.
    fn name(&self) -> &'static str;

    /// The entry under `key`, if the tier still has it. Must not allocate.
    fn get(&self, key: &[u8]) -> Option<LocalEntry>;

    /// Stores `entry` for `life`, replacing what was there, its life included. `weight` counts
    /// against the bound of a tier that is bounded by weight.
    fn insert(&self, key: &[u8], entry: LocalEntry, weight: u64, life: Duration);

    /// Forgets `key`.
    fn remove(&self, key: &[u8]);

    /// Forgets every key that begins with `prefix`, and says about how many those were; those inserted
    /// meanwhile may stay. It may look at all that it holds. A tier that cannot tell forgets
    /// everything, as this does unless it is implemented.
    fn remove_prefix(&self, prefix: &[u8]) -> u64 {
        let _ = prefix;
        let entries = self.entries();
        self.clear();
        entries
    }

    /// Forgets everything.
    fn clear(&self);

    /// Whether its bound is one of weight, so that weights matter.
    fn is_weighted(&self) -> bool {
        false
    }

    /// About how many entries it holds.
    fn entries(&self) -> u64;

    /// Checks the configuration; called once, when a cache is built.
    ///
    /// # Errors
    /// A [`ConfigError`] that names the value and the way out.
    fn check(&self) -> Result<(), ConfigError> {
        Ok(())
    }
}
