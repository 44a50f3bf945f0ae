//! [`Memory`]: L2 inside this process, for doctests, examples, tests and a first run.
//!
//! The whole contract of a remote tier with no server behind it: what is granted and what is refused decides
//! [`Record`](crate::protocol::Record), by this tier's [`Clock`]. One mutex around all of them; every step under it is
//! short, and nothing is awaited while it is held. Rejected: shards, which would let it be quick enough to be mistaken
//! for an L1.
//!
//! Order of eviction: what has expired, then values by their deadline, leases and holds last. Those are the
//! shortest-lived by far; were they evicted by deadline alike, a full store would drop every lease
//! before its fill and could never take a new value.

mod store;

use std::{
    fmt,
    ops::Bound,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use async_trait::async_trait;
use bytes::Bytes;

use self::store::{Record, Store, end, found};
use crate::{
    Claim, Clock, ConfigError, Fill, Found, HoldEnd, Lease, LeaseToken, Progress, RemoteTier,
    TierError, protocol::Granted,
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

    /// Bounds the store to `max_bytes`: keys, values, and 128 bytes for each value, lease and hold.
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
        let until = end(now, life);
        let (granted, found) = store.put(
            key,
            now,
            |record| (record.lease(now, token, until, claim), found(record, now)),
            |record, (granted, _)| *granted != Granted::Yes || record.guards() > 0,
        )?;
        Ok(match granted {
            Granted::Yes => Lease::Granted(found),
            Granted::Held => Lease::Held(found),
            Granted::OnHold => Lease::OnHold,
        })
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
        let fill = |record: &mut Record| record.fill(now, &token, bytes, end(now, life));
        store.put(key, now, fill, is_stored).map(filled)
    }

    async fn release(&self, key: &[u8], token: LeaseToken) -> Result<(), TierError> {
        let (mut store, now) = self.swept();
        store.step(key, now, |record| record.release(now, &token));
        Ok(())
    }

    async fn renew(
        &self,
        key: &[u8],
        token: LeaseToken,
        life: Duration,
    ) -> Result<bool, TierError> {
        let (mut store, now) = self.swept();
        Ok(store.step(key, now, |record| record.renew(now, &token, end(now, life))))
    }

    async fn hold(&self, key: &[u8], token: LeaseToken, life: Duration) -> Result<(), TierError> {
        let (mut store, now) = self.swept();
        // A life of nothing holds nothing, and is no hold that was refused.
        let until = end(now, life.max(Duration::from_nanos(1)));
        let hold = |record: &mut Record| record.hold(now, token, until);
        store.put(key, now, hold, |record, ()| record.is_held_by(now, &token))
    }

    async fn renew_hold(
        &self,
        key: &[u8],
        token: LeaseToken,
        life: Duration,
    ) -> Result<bool, TierError> {
        let (mut store, now) = self.swept();
        let until = end(now, life.max(Duration::from_nanos(1)));
        let renew = |record: &mut Record| record.renew_hold(now, token, until);
        store.put(key, now, renew, |record, _| record.is_held_by(now, &token))
    }

    async fn end_hold(
        &self,
        key: &[u8],
        token: LeaseToken,
        lease: Option<(LeaseToken, Duration)>,
    ) -> Result<HoldEnd, TierError> {
        let (mut store, now) = self.swept();
        let lease = lease.map(|(token, life)| (token, end(now, life)));
        Ok(store.step(key, now, |record| record.end_hold(now, &token, lease)))
    }

    async fn set(&self, key: &[u8], bytes: Bytes, life: Duration) -> Result<Fill, TierError> {
        let bytes = Bytes::copy_from_slice(&bytes);
        let (mut store, now) = self.swept();
        let set = |record: &mut Record| record.set(now, bytes, end(now, life));
        store.put(key, now, set, is_stored).map(filled)
    }

    async fn delete(&self, key: &[u8]) -> Result<(), TierError> {
        let (mut store, now) = self.swept();
        store.step(key, now, Record::delete);
        Ok(())
    }

    /// A key's value and lease go in one step; others come in between the steps.
    async fn clear(&self, prefix: &[u8], progress: Progress<'_>) -> Result<(), TierError> {
        let now = self.clock.now();
        let (dropped, mut next) = self.lock().clear_step(prefix, Bound::Included(prefix), now);
        told(dropped, progress);
        while let Some(from) = next {
            let (dropped, then) = self.lock().clear_step(prefix, Bound::Excluded(&from), now);
            told(dropped, progress);
            next = then;
        }
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

/// Whether what was to be stored is there; it is no matter whether something was not to be stored.
fn is_stored(record: &Record, stored: &bool) -> bool {
    !stored || record.stored().is_some()
}

fn filled(stored: bool) -> Fill {
    if stored { Fill::Stored } else { Fill::Refused }
}

fn told(dropped: usize, progress: Progress<'_>) {
    if dropped > 0 {
        progress(dropped as u64);
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
        assert_eq!(tier.lock().values(), 0);
    }
}
