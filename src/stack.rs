//! The tiers of one cache with the mechanisms around them: what all the paths share.

use std::{
    any::TypeId,
    collections::HashSet,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use tiered_codecs::Shape;
use tiered_tiers::{Clock, LocalEntry, LocalMeta, LocalTier, TierError, Value};

use crate::{
    Error, Key,
    bus::{Bus, Change, Proof},
    fence::{Fence, Ticket},
    flight::{self, Flights},
    freshness::{self, Verdict},
    l2::{Budget, L2},
    meter::{Meter, Op, OpResult, Tier},
    outcome::Outcome,
    pending::Pending,
    read::Keep,
    request::Lifetimes,
    restarts::Restarts,
    sync::Mutex,
    tags::{Marks, Tags},
    writers::{LocalHolds, Turns},
};

/// What a flight is about, besides its key.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Course {
    pub(crate) type_id: TypeId,
    pub(crate) schema: u32,
    pub(crate) kind: Kind,
}

/// What kind of walk it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Kind {
    /// Looks into the cache only.
    Lookup,
    /// Loads if the cache has nothing.
    Load,
}

/// How a walk ended: what its callers share. The value's type is the course's.
#[derive(Clone, Debug)]
pub(crate) struct Landed {
    pub(crate) value: Value,
    pub(crate) outcome: Outcome,
    pub(crate) born: Instant,
    pub(crate) fresh_until: Instant,
    /// Until when it may stand in for a failing load.
    pub(crate) usable_until: Instant,
    /// When it was judged: its age and remaining time are told as of then.
    pub(crate) seen: Instant,
    /// What it depends on: looked up again where it is kept for later.
    pub(crate) marks: Option<Marks>,
}

pub(crate) type Walked = Result<Landed, Error>;
pub(crate) type Leader = flight::Leader<Key, Course, Walked>;

/// One cache without its codec, shared by all clones of the handle.
#[derive(Debug)]
pub(crate) struct Stack {
    pub(crate) name: Arc<str>,
    /// In its wire form.
    pub(crate) namespace: String,
    pub(crate) l1: Option<Box<dyn LocalTier>>,
    pub(crate) l2: Option<L2>,
    pub(crate) bus: Option<Bus>,
    pub(crate) fence: Arc<Fence>,
    pub(crate) flights: Arc<Flights<Key, Course, Walked>>,
    pub(crate) pending: Pending,
    pub(crate) tags: Tags,
    /// The keys that writers of this process hold, and for how long.
    pub(crate) holds: LocalHolds,
    pub(crate) hold_for: Duration,
    /// Whose turn it is to store a value of a known version.
    pub(crate) turns: Turns,
    pub(crate) meter: Arc<Meter>,
    pub(crate) clock: Clock,
    /// The budget where there is no L2 to give one.
    pub(crate) budget: Duration,
    pub(crate) lifetimes: Lifetimes,
    pub(crate) restarts: Restarts,
    /// How long L1 may serve an entry without asking L2 or hearing of the bus; `None` if there is neither.
    pub(crate) local_for: Option<Duration>,
    /// How long L1 may serve it after that when L2 gives no answer.
    pub(crate) last_resort_for: Duration,
    /// How long a read waits for another process' load.
    pub(crate) wait_for: Duration,
    pub(crate) load_timeout: Option<Duration>,
    pub(crate) max_entry_bytes: usize,
    pub(crate) enabled: AtomicBool,
    pub(crate) decode_log: DecodeLog,
    /// The types of which the log has said that their shape cannot be traced whole.
    pub(crate) untraced: Mutex<HashSet<TypeId>>,
    /// The background tasks under way; `shutdown` ends them.
    pub(crate) tasks: Mutex<tokio::task::JoinSet<()>>,
}

impl Stack {
    pub(crate) fn is_enabled(&self) -> bool {
        self.enabled.load(Ordering::Relaxed)
    }

    /// The tier if it is there, and the call may use it.
    pub(crate) fn l1(&self, skip: bool) -> Option<&dyn LocalTier> {
        if skip { None } else { self.l1.as_deref() }
    }

    /// Whether weights count in L1.
    pub(crate) fn is_l1_weighted(&self) -> bool {
        self.l1.as_deref().is_some_and(LocalTier::is_weighted)
    }

    /// Looks into L1, whatever the entry's age, and counts nothing.
    pub(crate) fn peek(&self, key: &Key, type_id: TypeId, schema: u32) -> Option<LocalEntry> {
        self.l1
            .as_deref()?
            .get(key.local())
            .filter(|entry| entry.meta.type_id == type_id && entry.meta.schema == schema)
    }

    /// Looks into L1, whatever the entry's age.
    pub(crate) fn local(&self, key: &Key, type_id: TypeId, schema: u32) -> Option<LocalEntry> {
        let found = self.peek(key, type_id, schema);
        if self.l1.is_some() {
            let result = if found.is_some() { OpResult::Hit } else { OpResult::Miss };
            self.meter.op(Tier::L1, Op::Get, result);
        }
        found
    }

    /// The version of the source that L1 has a value of; 0 for none, or one that is not known.
    pub(crate) fn local_version(&self, key: &Key) -> u64 {
        let entry = self.l1.as_deref().and_then(|l1| l1.get(key.local()));
        entry.map_or(0, |entry| entry.meta.source_version)
    }

    /// What the bus proves. Taken before L1 is looked into.
    pub(crate) fn proof(&self) -> Option<Proof> {
        self.bus.as_ref().map(|bus| bus.view.proof())
    }

    /// Judges an entry of L1 that was looked for after the proof was taken.
    pub(crate) fn judge(&self, meta: &LocalMeta, proof: Option<Proof>, now: Instant) -> Verdict {
        freshness::judge(meta, now, proof, self.last_resort_for)
    }

    /// Puts an entry into L1 unless its load was overtaken.
    pub(crate) fn keep_local(&self, key: &Key, ticket: &Ticket, keep: Keep) {
        let kept = ticket.admit(|| self.insert_local(key, keep));
        self.meter.op(Tier::L1, Op::Fill, if kept { OpResult::Stored } else { OpResult::Refused });
    }

    /// Puts an entry into L1, and overtakes all loads that are under way; if it was overtaken itself,
    /// nobody knows which is the newer, and L1 has neither. Says whether it was the newer.
    pub(crate) fn replace_local(&self, key: &Key, ticket: &Ticket, keep: Keep) -> bool {
        let mut held = false;
        ticket.supersede(|holds| {
            held = holds;
            if holds {
                self.insert_local(key, keep);
            } else {
                self.remove_local(key);
            }
        });
        held
    }

    /// Whether a writer of this process holds the key.
    pub(crate) fn is_held(&self, key: &Key) -> bool {
        self.holds.stands(key.fingerprint(), self.clock.now())
    }

    /// Puts an entry into L1, whatever is under way: under the fence only. Not while a writer holds the key: then L1 has
    /// nothing.
    pub(crate) fn insert_local(&self, key: &Key, (entry, weight): Keep) {
        if let Some(l1) = self.l1.as_deref() {
            if self.is_held(key) {
                l1.remove(key.local());
                return;
            }
            let life = entry.meta.stale_until.saturating_duration_since(self.clock.now());
            l1.insert(key.local(), entry, weight, life);
        }
    }

    /// Overtakes everything this process has under way for a key, and drops it from L1.
    pub(crate) fn drop_local(&self, key: &Key) {
        self.fence.advance(key.fingerprint(), || {
            if let Some(l1) = self.l1.as_deref() {
                l1.remove(key.local());
            }
        });
        self.flights.detach(key);
    }

    pub(crate) fn remove_local(&self, key: &Key) {
        if let Some(l1) = self.l1.as_deref() {
            l1.remove(key.local());
            self.meter.op(Tier::L1, Op::Delete, OpResult::Ok);
        }
    }

    /// Overtakes everything that is under way, and leaves what L1 has to its own proofs.
    pub(crate) fn forget_all(&self) {
        self.fence.advance_all();
        self.flights.detach_where(|_| true);
        if let Some(bus) = &self.bus {
            bus.view.forget();
        }
    }

    pub(crate) fn capture(&self, key: &Key) -> Ticket {
        let mut ticket = self.fence.capture(key.fingerprint(), key.local());
        ticket.generation = self.generation();
        ticket
    }

    /// The generation of the bus' view that what is read from now on belongs to; 0 without a bus.
    pub(crate) fn generation(&self) -> u64 {
        self.bus.as_ref().map_or(0, |bus| bus.view.generation())
    }

    /// The budget of one logical operation.
    pub(crate) fn budget(&self) -> Budget {
        self.l2.as_ref().map_or(Budget::of(self.budget), L2::budget)
    }

    /// Drops a key from L2, and then tells the other processes.
    pub(crate) async fn drop_shared(
        &self,
        key: &Key,
        budget: &mut Budget,
    ) -> Result<(), TierError> {
        self.drop_on_server(key, budget).await?;
        self.announce(&[Change::Key(key)], budget).await
    }

    /// Drops a key from L2, if there is one.
    pub(crate) async fn drop_on_server(
        &self,
        key: &Key,
        budget: &mut Budget,
    ) -> Result<(), TierError> {
        match &self.l2 {
            Some(l2) => l2.delete(&key.wire(&self.namespace), budget).await,
            None => Ok(()),
        }
    }

    /// Tells the other processes of changes that the server has done.
    pub(crate) async fn announce(
        &self,
        changes: &[Change<'_>],
        budget: &mut Budget,
    ) -> Result<(), TierError> {
        match &self.bus {
            Some(bus) => bus.announce(&self.name, changes, budget).await,
            None => Ok(()),
        }
    }

    /// Whether there is nobody else to tell, and nothing else to change.
    pub(crate) fn is_alone(&self) -> bool {
        self.l2.is_none() && self.bus.is_none()
    }

    /// Deadlines need tokio's timers; without a runtime they would panic.
    pub(crate) fn require_runtime(&self) -> Result<(), Error> {
        let needed = !self.is_alone() || self.load_timeout.is_some();
        if needed && tokio::runtime::Handle::try_current().is_err() {
            return Err(Error::config(
                "a cache with an L2, a bus or a load timeout was used outside a tokio runtime: call it \
                 from an async context of tokio, or build it with Tiered::local(..)",
            ));
        }
        Ok(())
    }

    /// Counts a refused entry, and logs the reason with a hash of the key, at most once a second.
    pub(crate) fn refused(&self, key: &Key, reason: &'static str) {
        self.meter.decode_failure(reason);
        if let Some(unlogged) = self.decode_log.turn(self.clock.now()) {
            tracing::warn!(
                cache = &*self.name,
                reason,
                key = format_args!("#{:016x}", key.fingerprint()),
                unlogged,
                "a stored entry was refused; it counts as a miss"
            );
        }
    }

    /// Says in the log, once for each type, that its shape could not be traced whole.
    pub(crate) fn tell_of_untraced<T: 'static>(&self, shape: Shape) {
        if !shape.is_complete() && self.untraced.lock().insert(TypeId::of::<T>()) {
            tracing::warn!(
                cache = &*self.name,
                r#type = std::any::type_name::<T>(),
                "not every change of this type can be noticed: raise its schema version by hand \
                 when its fields change"
            );
        }
    }

    /// Runs `future` in the background until it ends or the cache is shut down.
    pub(crate) fn spawn(
        &self,
        future: impl Future<Output = ()> + Send + 'static,
    ) -> Result<(), Error> {
        let Ok(handle) = tokio::runtime::Handle::try_current() else {
            return Err(Error::config(
                "a detached load was asked for outside a tokio runtime: call it from an async \
                 context of tokio, or use get_or_load, which runs in its caller",
            ));
        };
        let mut tasks = self.tasks.lock();
        while tasks.try_join_next().is_some() {}
        tasks.spawn_on(future, &handle);
        Ok(())
    }
}

/// At most one log line a second.
#[derive(Debug, Default)]
pub(crate) struct DecodeLog {
    last: Mutex<Option<Instant>>,
    unlogged: AtomicU64,
}

impl DecodeLog {
    /// Whether it is time for a line, with the number of those left out since the last one.
    pub(crate) fn turn(&self, now: Instant) -> Option<u64> {
        let mut last = self.last.lock();
        if last.is_some_and(|last| now.saturating_duration_since(last) < Duration::from_secs(1)) {
            self.unlogged.fetch_add(1, Ordering::Relaxed);
            return None;
        }
        *last = Some(now);
        Some(self.unlogged.swap(0, Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_of_decode_failures_is_one_line_a_second() {
        let log = DecodeLog::default();
        let start = Instant::now();
        assert_eq!(log.turn(start), Some(0));
        for _ in 0..1_000 {
            assert_eq!(log.turn(start + Duration::from_millis(900)), None);
        }
        assert_eq!(log.turn(start + Duration::from_millis(1_100)), Some(1_000));
    }
}
