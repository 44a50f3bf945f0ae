//! [`Memory`]: L2 inside this process, for doctests, examples, tests and a first run.
//!
//! The whole contract of a remote tier with no server behind it: leases with an expiry of their
//! own, fenced fills, real expiry by its [`Clock`]. One mutex around two ordered maps, and one
//! index of all deadlines; every step under it is short, and nothing is awaited while it is held.
//! Rejected: shards, which would let it be quick enough to be mistaken for an L1.
//!
//! Order of eviction: expired entries, then values by their deadline, leases last. Leases are the
//! shortest-lived by far; were they evicted by deadline alike, a full store would drop every lease
//! before its fill and could never take a new value.

mod store;

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use async_trait::async_trait;
use bytes::Bytes;

use self::store::{Kind, Store};
use crate::{
    Claim, Clock, ConfigError, Fill, Found, Lease, LeaseToken, Progress, RemoteTier, TierError,
};

/// An embedded remote tier: no server, no runtime, nothing to configure.
///
/// A clone is the same store, so two caches with clones of one `Memory` share their L2 as two
/// processes share a server. Everything is gone with the last clone.
///
/// ```
/// use tiered_tiers::Memory;
///
/// let l2 = Memory::new().max_bytes(64 * 1024 * 1024);
/// let same_store = l2.clone();
/// ```
#[derive(Clone, Default)]
pub struct Memory {
    store: Arc<Mutex<Store>>,
    clock: Clock,
}

impl Memory {
    /// An empty store of at most 256 MiB, on the machine's clock.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Bounds the store to `max_bytes`: values, keys and 128 bytes for each entry, leases included.
    /// Set it before the first clone is used; it holds for all of them.
    #[must_use]
    pub fn max_bytes(self, max_bytes: usize) -> Self {
        self.lock().max_bytes = max_bytes;
        self
    }

    /// Lets entries expire by `clock`. Clones made before keep theirs.
    #[must_use]
    pub fn clock(mut self, clock: Clock) -> Self {
        self.clock = clock;
        self
    }

    /// The store. One that a panic left behind is taken as it is: every step leaves it consistent
    /// enough to go on, and a cache may lose entries.
    fn lock(&self) -> MutexGuard<'_, Store> {
        self.store.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The store with a handful of expired entries swept out, and the present instant.
    fn swept(&self) -> (MutexGuard<'_, Store>, Instant) {
        let now = self.clock.now();
        let mut store = self.lock();
        store.sweep(now);
        (store, now)
    }

    /// Drops the entries of one kind under `prefix`, letting others in between the steps.
    fn clear_kind(&self, kind: Kind, prefix: &[u8], progress: Progress<'_>) {
        let mut from: Option<Arc<[u8]>> = Some(prefix.into());
        while let Some(begin) = from {
            let (removed, next) = self.lock().clear_step(kind, prefix, &begin);
            if removed > 0 {
                progress(removed as u64);
            }
            from = next;
        }
    }
}

impl fmt::Debug for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let store = self.lock();
        f.debug_struct("Memory")
            .field("values", &store.values())
            .field("bytes", &store.bytes())
            .field("max_bytes", &store.max_bytes)
            .finish_non_exhaustive()
    }
}

#[async_trait]
impl RemoteTier for Memory {
    fn name(&self) -> &'static str {
        "memory"
    }

    async fn get(&self, key: &[u8]) -> Result<Option<Found>, TierError> {
        let (store, now) = self.swept();
        Ok(store.found(key, now))
    }

    async fn lease(
        &self,
        key: &[u8],
        token: LeaseToken,
        life: Duration,
        claim: Claim,
    ) -> Result<Lease, TierError> {
        let (mut store, now) = self.swept();
        let free = match claim {
            Claim::ByForce => true,
            Claim::IfFree => store.is_free_for(key, token, now),
        };
        if !free {
            return Ok(Lease::Held(store.found(key, now)));
        }
        store.put(Kind::Lease, key, Bytes::copy_from_slice(token.as_bytes()), now, life)?;
        Ok(Lease::Granted(store.found(key, now)))
    }

    async fn fill(
        &self,
        key: &[u8],
        token: LeaseToken,
        bytes: Bytes,
        life: Duration,
    ) -> Result<Fill, TierError> {
        // A copy: a slice of the caller's larger buffer would keep all of that alive, uncounted.
        let bytes = Bytes::copy_from_slice(&bytes);
        let (mut store, now) = self.swept();
        if !store.holds(key, token, now) {
            return Ok(Fill::Refused);
        }
        store.remove(Kind::Lease, key);
        store.put(Kind::Value, key, bytes, now, life)?;
        Ok(Fill::Stored)
    }

    async fn release(&self, key: &[u8], token: LeaseToken) -> Result<(), TierError> {
        let (mut store, now) = self.swept();
        if store.holds(key, token, now) {
            store.remove(Kind::Lease, key);
        }
        Ok(())
    }

    async fn set(&self, key: &[u8], bytes: Bytes, life: Duration) -> Result<Fill, TierError> {
        let bytes = Bytes::copy_from_slice(&bytes);
        let (mut store, now) = self.swept();
        store.remove(Kind::Lease, key);
        store.remove(Kind::Value, key);
        store.put(Kind::Value, key, bytes, now, life)?;
        Ok(Fill::Stored)
    }

    async fn delete(&self, key: &[u8]) -> Result<(), TierError> {
        let (mut store, _) = self.swept();
        store.remove(Kind::Lease, key);
        store.remove(Kind::Value, key);
        Ok(())
    }

    async fn clear(&self, prefix: &[u8], progress: Progress<'_>) -> Result<(), TierError> {
        self.clear_kind(Kind::Lease, prefix, &|_| {});
        self.clear_kind(Kind::Value, prefix, progress);
        Ok(())
    }

    async fn ping(&self) -> Result<(), TierError> {
        Ok(())
    }

    fn check(&self) -> Result<(), ConfigError> {
        if self.lock().max_bytes == 0 {
            return Err(ConfigError::new(
                "Memory::max_bytes(0) holds nothing: give it some bytes, or leave the tier out",
            ));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_under_the_lock_does_not_spread() {
        let tier = Memory::new();
        let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let _held = tier.store.lock();
            panic!("while the lock was held");
        }));
        assert!(panicked.is_err() && tier.store.is_poisoned());
        assert_eq!(tier.check(), Ok(()));
        tier.clear_kind(Kind::Value, b"", &|_| {});
    }
}
