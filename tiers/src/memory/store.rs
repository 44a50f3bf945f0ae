//! What the mutex of [`Memory`](super::Memory) guards: two shelves, values and leases, one bound.
//!
//! Each shelf is ordered twice: by key, so that `clear` can walk a prefix, and by deadline, so that
//! the next to expire is at hand. A heap of deadlines would be quicker, but would keep an entry's
//! old deadline until it comes up.

use std::{
    collections::BTreeMap,
    ops::Bound,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;

use crate::{Found, LeaseToken, TierError};

/// Bytes counted for an entry beside its key and its value.
const OVERHEAD: usize = 128;
/// Expired entries of each kind dropped by one operation, at most.
const SWEEP: usize = 16;
/// Entries dropped by one step of `clear`, at most.
const CLEAR_STEP: usize = 500;
/// The longest life; more would overflow an `Instant`.
const LONGEST: Duration = Duration::from_secs(100 * 365 * 24 * 60 * 60);
/// What `max_bytes` is unless it is set.
const DEFAULT_MAX_BYTES: usize = 256 * 1024 * 1024;

/// What an entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Somebody's bytes.
    Value,
    /// The token of a load under way.
    Lease,
}

/// Values and leases under one bound of bytes.
pub(super) struct Store {
    values: Shelf,
    leases: Shelf,
    /// The bound; entries are evicted to stay within it.
    pub(super) max_bytes: usize,
}

impl Default for Store {
    fn default() -> Self {
        Self { values: Shelf::default(), leases: Shelf::default(), max_bytes: DEFAULT_MAX_BYTES }
    }
}

impl Store {
    /// The bytes that count against the bound.
    pub(super) fn bytes(&self) -> usize {
        self.values.bytes + self.leases.bytes
    }

    /// The number of values held, expired ones included.
    pub(super) fn values(&self) -> usize {
        self.values.entries.len()
    }

    /// The value under `key`, unless it has expired.
    pub(super) fn found(&self, key: &[u8], now: Instant) -> Option<Found> {
        let (bytes, remaining) = self.values.live(key, now)?;
        Some(Found { bytes: bytes.clone(), remaining: Some(remaining), incarnation: None })
    }

    /// Whether `token` stands on `key`.
    pub(super) fn holds(&self, key: &[u8], token: LeaseToken, now: Instant) -> bool {
        self.leases.live(key, now).is_some_and(|(held, _)| **held == *token.as_bytes())
    }

    /// Whether no other token than `token` stands on `key`.
    pub(super) fn is_free_for(&self, key: &[u8], token: LeaseToken, now: Instant) -> bool {
        self.leases.live(key, now).is_none_or(|(held, _)| **held == *token.as_bytes())
    }

    /// Stores an entry and evicts others until all fit. An entry that cannot fit is refused, and
    /// what was there before is gone all the same.
    pub(super) fn put(
        &mut self,
        kind: Kind,
        key: &[u8],
        bytes: Bytes,
        now: Instant,
        life: Duration,
    ) -> Result<(), TierError> {
        self.remove(kind, key);
        let size = cost(key, &bytes);
        if size > self.max_bytes {
            return Err(TierError::Refused("OOM: larger than max_bytes".into()));
        }
        self.make_room(self.max_bytes - size, now);
        self.shelf(kind).put(key, bytes, now + life.min(LONGEST));
        Ok(())
    }

    /// Drops an entry, if it is there.
    pub(super) fn remove(&mut self, kind: Kind, key: &[u8]) {
        self.shelf(kind).remove(key);
    }

    /// Drops a few expired entries of each kind.
    pub(super) fn sweep(&mut self, now: Instant) {
        for shelf in [&mut self.values, &mut self.leases] {
            for _ in 0..SWEEP {
                if !shelf.drop_expired(now) {
                    break;
                }
            }
        }
    }

    /// Drops some entries of `kind` under `prefix`, from the key `from` on. Returns how many, and where the
    /// next step has to begin, or `None` when there is nothing left.
    pub(super) fn clear_step(
        &mut self,
        kind: Kind,
        prefix: &[u8],
        from: &[u8],
    ) -> (usize, Option<Arc<[u8]>>) {
        let shelf = self.shelf(kind);
        let step: Vec<Arc<[u8]>> = shelf
            .entries
            .range::<[u8], _>((Bound::Included(from), Bound::Unbounded))
            .map(|(key, _)| key)
            .take_while(|key| key.starts_with(prefix))
            .take(CLEAR_STEP)
            .cloned()
            .collect();
        for key in &step {
            shelf.remove(key);
        }
        let removed = step.len();
        (removed, if removed < CLEAR_STEP { None } else { step.into_iter().next_back() })
    }

    /// Evicts until at most `target` bytes are held: expired entries, then the values that expire
    /// soonest, leases last (the head of the module says why).
    fn make_room(&mut self, target: usize, now: Instant) {
        while self.bytes() > target {
            let evicted = self.leases.drop_expired(now)
                || self.values.drop_soonest()
                || self.leases.drop_soonest();
            if !evicted {
                return;
            }
        }
    }

    fn shelf(&mut self, kind: Kind) -> &mut Shelf {
        match kind {
            Kind::Value => &mut self.values,
            Kind::Lease => &mut self.leases,
        }
    }
}

/// One stored entry. The number tells entries of one deadline apart.
struct Stored {
    bytes: Bytes,
    expires: Instant,
    number: u64,
}

/// The entries of one kind, by key and by deadline.
#[derive(Default)]
struct Shelf {
    entries: BTreeMap<Arc<[u8]>, Stored>,
    deadlines: BTreeMap<(Instant, u64), Arc<[u8]>>,
    bytes: usize,
    next_number: u64,
}

impl Shelf {
    fn live(&self, key: &[u8], now: Instant) -> Option<(&Bytes, Duration)> {
        let stored = self.entries.get(key)?;
        let remaining = stored.expires.saturating_duration_since(now);
        (!remaining.is_zero()).then_some((&stored.bytes, remaining))
    }

    fn put(&mut self, key: &[u8], bytes: Bytes, expires: Instant) {
        let (key, number): (Arc<[u8]>, _) = (key.into(), self.next_number);
        self.next_number += 1;
        self.bytes += cost(&key, &bytes);
        self.deadlines.insert((expires, number), Arc::clone(&key));
        self.entries.insert(key, Stored { bytes, expires, number });
    }

    fn remove(&mut self, key: &[u8]) {
        if let Some(stored) = self.entries.remove(key) {
            self.deadlines.remove(&(stored.expires, stored.number));
            self.bytes -= cost(key, &stored.bytes);
        }
    }

    /// Drops the entry that expires first, if it has expired. Returns whether it did.
    fn drop_expired(&mut self, now: Instant) -> bool {
        let expired = self.deadlines.first_key_value().is_some_and(|((at, _), _)| *at <= now);
        expired && self.drop_soonest()
    }

    /// Drops the entry that expires first. Returns whether there was one.
    fn drop_soonest(&mut self) -> bool {
        let Some((_, key)) = self.deadlines.pop_first() else { return false };
        if let Some(stored) = self.entries.remove(&key) {
            self.bytes -= cost(&key, &stored.bytes);
        }
        true
    }
}

/// What an entry counts against the bound.
fn cost(key: &[u8], bytes: &[u8]) -> usize {
    key.len() + bytes.len() + OVERHEAD
}
