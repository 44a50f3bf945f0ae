//! What the mutex of [`Memory`](super::Memory) guards: a [`Record`] for each key, one bound for them all.
//!
//! The record decides; the store finds it, keeps to the bound, and forgets. Keys are ordered, so that `clear` can
//! walk a prefix, and there are two indexes by deadline: of values, and of *guards*, a key's leases and holds by the
//! first of them to end. A heap of deadlines would be quicker, but would keep an old deadline until it comes up; an
//! index of every hold by itself would be exact, for a set of which hardly any key has two.

use std::{
    collections::BTreeMap,
    ops::Bound,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;

use crate::{Found, LeaseToken, TierError, protocol};

/// A key's state.
pub(super) type Record = protocol::Record<Bytes, LeaseToken, Instant>;

/// Bytes counted for a value, a lease or a hold beside the key and the value's own.
const OVERHEAD: usize = 128;
/// Expired values, and expired guards, dropped by one operation, at most.
const SWEEP: usize = 16;
/// Keys looked at by one step of `clear`, at most.
const CLEAR_STEP: usize = 500;
/// The longest life; more would overflow an `Instant`.
const LONGEST: Duration = Duration::from_secs(100 * 365 * 24 * 60 * 60);
/// What `max_bytes` is unless it is set.
const DEFAULT_MAX_BYTES: usize = 256 * 1024 * 1024;

/// Records under one bound of bytes.
pub(super) struct Store {
    keys: BTreeMap<Arc<[u8]>, Kept>,
    values: Deadlines,
    guards: Deadlines,
    bytes: usize,
    next_number: u64,
    /// The bound; values, leases and holds are evicted to stay within it.
    pub(super) max_bytes: usize,
}

/// A key's record. The number tells keys of one deadline apart.
#[derive(Default)]
struct Kept {
    record: Record,
    number: u64,
}

/// Keys by a deadline.
type Deadlines = BTreeMap<(Instant, u64), Arc<[u8]>>;

impl Default for Store {
    fn default() -> Self {
        Self {
            keys: BTreeMap::new(),
            values: BTreeMap::new(),
            guards: BTreeMap::new(),
            bytes: 0,
            next_number: 0,
            max_bytes: DEFAULT_MAX_BYTES,
        }
    }
}

impl Store {
    /// The bytes that count against the bound.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// The number of values, expired ones included.
    pub(super) fn values(&self) -> usize {
        self.values.len()
    }

    /// The value under `key`, unless it has expired.
    pub(super) fn found(&self, key: &[u8], now: Instant) -> Option<Found> {
        found(&self.keys.get(key)?.record, now)
    }

    /// Lets a step decide on the key's record, and evicts others until all fit.
    pub(super) fn step<R>(
        &mut self,
        key: &[u8],
        now: Instant,
        step: impl FnOnce(&mut Record) -> R,
    ) -> R {
        self.keep(key, now, step, |_, answer| answer)
    }

    /// The same for a step that puts something there, which must still be there once all fit. What cannot fit is
    /// refused, and what was there before is gone all the same.
    pub(super) fn put<R>(
        &mut self,
        key: &[u8],
        now: Instant,
        step: impl FnOnce(&mut Record) -> R,
        is_there: impl FnOnce(&Record, &R) -> bool,
    ) -> Result<R, TierError> {
        self.keep(key, now, step, |record, answer| match is_there(record, &answer) {
            true => Ok(answer),
            false => Err(TierError::Refused("OOM: larger than max_bytes".into())),
        })
    }

    fn keep<R, A>(
        &mut self,
        key: &[u8],
        now: Instant,
        step: impl FnOnce(&mut Record) -> R,
        judge: impl FnOnce(&Record, R) -> A,
    ) -> A {
        let (key, mut kept) = self.take(key);
        let answer = step(&mut kept.record);
        // By itself it must fit: its own value goes first, as others' do.
        while cost(&key, &kept.record) > self.max_bytes
            && (kept.record.evict_value() || kept.record.evict_first_guard())
        {}
        self.make_room(self.max_bytes.saturating_sub(cost(&key, &kept.record)), now);
        let answer = judge(&kept.record, answer);
        self.put_back(key, kept, now);
        answer
    }

    /// Drops a few expired values and guards.
    pub(super) fn sweep(&mut self, now: Instant) {
        for _ in 0..SWEEP {
            let dropped = [self.drop_expired_value(now), self.drop_expired_guard(now)];
            if dropped == [false; 2] {
                break;
            }
        }
    }

    /// Drops the values and leases of some keys under `prefix`, from the key `from` on. Returns how many values
    /// there were, and where the next step has to begin, or `None` when there is nothing left.
    pub(super) fn clear_step(
        &mut self,
        prefix: &[u8],
        from: Bound<&[u8]>,
        now: Instant,
    ) -> (usize, Option<Arc<[u8]>>) {
        let step: Vec<Arc<[u8]>> = self
            .keys
            .range::<[u8], _>((from, Bound::Unbounded))
            .map(|(key, _)| key)
            .take_while(|key| key.starts_with(prefix))
            .take(CLEAR_STEP)
            .cloned()
            .collect();
        let values = self.values();
        for key in &step {
            self.step(key, now, Record::delete);
        }
        let next = if step.len() < CLEAR_STEP { None } else { step.into_iter().next_back() };
        (values - self.values(), next)
    }

    /// Evicts until at most `target` bytes are held: what has expired, then the values that expire soonest, leases
    /// and holds last (the head of the module above says why).
    fn make_room(&mut self, target: usize, now: Instant) {
        while self.bytes > target {
            let evicted =
                self.drop_expired_guard(now) || self.drop_first_value() || self.drop_first_guard();
            if !evicted {
                return;
            }
        }
    }

    /// Drops the value that expires first, if it has expired. Returns whether it did.
    fn drop_expired_value(&mut self, now: Instant) -> bool {
        has_expired(&self.values, now) && self.drop_first_value()
    }

    fn drop_first_value(&mut self) -> bool {
        let first = self.values.first_key_value().map(|(_, key)| Arc::clone(key));
        self.forget(first, |record| record.evict_value())
    }

    /// Drops the lease or hold that expires first, if it has expired. Returns whether it did.
    fn drop_expired_guard(&mut self, now: Instant) -> bool {
        has_expired(&self.guards, now) && self.drop_first_guard()
    }

    fn drop_first_guard(&mut self) -> bool {
        let first = self.guards.first_key_value().map(|(_, key)| Arc::clone(key));
        self.forget(first, |record| record.evict_first_guard())
    }

    /// Lets a key's record forget something.
    fn forget(&mut self, key: Option<Arc<[u8]>>, part: impl FnOnce(&mut Record) -> bool) -> bool {
        let Some(key) = key else { return false };
        let (key, mut kept) = self.take(&key);
        let forgot = part(&mut kept.record);
        self.insert(key, kept);
        forgot
    }

    /// Takes a key's record out of the store and its indexes; an empty one, if it has none.
    fn take(&mut self, key: &[u8]) -> (Arc<[u8]>, Kept) {
        let Some((key, kept)) = self.keys.remove_entry(key) else {
            self.next_number += 1;
            return (key.into(), Kept { number: self.next_number, ..Kept::default() });
        };
        self.bytes -= cost(&key, &kept.record);
        if let Some((_, end)) = kept.record.stored() {
            self.values.remove(&(end, kept.number));
        }
        if let Some(end) = kept.record.first_guard_end() {
            self.guards.remove(&(end, kept.number));
        }
        (key, kept)
    }

    fn put_back(&mut self, key: Arc<[u8]>, kept: Kept, now: Instant) {
        if !kept.record.is_empty(now) {
            self.insert(key, kept);
        }
    }

    fn insert(&mut self, key: Arc<[u8]>, kept: Kept) {
        let (value, guard) = (kept.record.stored(), kept.record.first_guard_end());
        if value.is_none() && guard.is_none() {
            return;
        }
        if let Some((_, end)) = value {
            self.values.insert((end, kept.number), Arc::clone(&key));
        }
        if let Some(end) = guard {
            self.guards.insert((end, kept.number), Arc::clone(&key));
        }
        self.bytes += cost(&key, &kept.record);
        self.keys.insert(key, kept);
    }
}

/// The value in a record, unless it has expired.
pub(super) fn found(record: &Record, now: Instant) -> Option<Found> {
    let (bytes, end) = record.value(now)?;
    let remaining = Some(end.saturating_duration_since(now));
    Some(Found { bytes: bytes.clone(), remaining, incarnation: None })
}

/// When a life that begins now ends.
pub(super) fn end(now: Instant, life: Duration) -> Instant {
    now + life.min(LONGEST)
}

fn has_expired(deadlines: &Deadlines, now: Instant) -> bool {
    deadlines.first_key_value().is_some_and(|((at, _), _)| *at <= now)
}

/// What a key counts against the bound; nothing, if there is nothing of it.
fn cost(key: &[u8], record: &Record) -> usize {
    let value = record.stored().map_or(0, |(bytes, _)| bytes.len() + OVERHEAD);
    let own = value + record.guards() * OVERHEAD;
    if own == 0 { 0 } else { key.len() + own }
}
