//! The walk of one read: who walks, who waits, who loads behind.
//!
//! The steps themselves are in `read` and `fill`; this file seats the callers in flights.

use std::{any::TypeId, sync::Arc, time::Duration};

use tiered_codecs::CodecFor;
use tiered_tiers::Value;
use tokio::time::Instant;

use crate::{
    Answer, Error, Key, Outcome,
    bus::Bus,
    error::LoadAborted,
    fence::Ticket,
    fill::{self, Filling},
    flight::{Role, Waited, Waiter},
    load::{self, Loader, Wanted},
    read::{self, Local},
    request::{LoadContext, Options, Upgrade},
    stack::{Course, Kind, Landed, Leader, Stack, Walked},
    strategy::Plan,
    write,
};

/// A read on its way past L1.
#[derive(Clone, Debug)]
pub(crate) struct Walk<C> {
    pub(crate) stack: Arc<Stack>,
    pub(crate) codec: C,
    pub(crate) key: Key,
    pub(crate) options: Options,
    pub(crate) upgrade: Option<Upgrade<C>>,
    pub(crate) plan: Plan,
    pub(crate) wanted: Wanted,
    /// What L1 had: nothing that could be served at once.
    local: Fallback,
    /// Captured before L1 was looked into: a key that was overtaken since has no fallback.
    ticket: Arc<Ticket>,
}

/// A value kept in case that all else fails.
#[derive(Clone, Debug)]
enum Fallback {
    None,
    /// It may be served at once if a refresh runs behind.
    Stale(Landed),
    /// It may be served only when L2 and the load fail.
    Unproven(Landed),
}

/// Begins a read: what L1 can answer is answered, and counted, without await or allocation. `None`
/// sends the call past L1.
pub(crate) fn begin<T: 'static>(
    stack: &Stack,
    key: &Key,
    options: &Options,
    wanted: Wanted,
) -> Result<Option<Landed>, Error> {
    if let Err(error) = key.check().and_then(|()| options.check()) {
        stack.meter.request(Outcome::Error);
        return Err(error);
    }
    if !reads_l1(stack, options) {
        return Ok(None);
    }
    match read::local(stack, key, TypeId::of::<T>(), options.schema) {
        Local::Fresh(landed) if landed.suits(wanted) => {
            stack.meter.request(landed.outcome);
            Ok(Some(landed))
        }
        _ => Ok(None),
    }
}

/// Looks into L1 again, as the options tell: somebody may have landed since.
pub(crate) fn local_again<T: 'static>(stack: &Stack, key: &Key, options: &Options) -> Local {
    if !reads_l1(stack, options) {
        return Local::Absent;
    }
    read::local_again(stack, key, TypeId::of::<T>(), options.schema)
}

/// Whether the options let a call look into L1.
fn reads_l1(stack: &Stack, options: &Options) -> bool {
    !options.skip_l1 && options.strategy.plan().read && stack.is_enabled()
}

impl Landed {
    /// Whether a caller can use it: not an absence, where a value is wanted.
    pub(crate) fn suits(&self, wanted: Wanted) -> bool {
        wanted == Wanted::Any || self.value.is_some()
    }

    /// The same, to one who waited for it.
    pub(crate) fn shared(self) -> Self {
        let outcome = match self.outcome {
            Outcome::Load => Outcome::Shared,
            outcome => outcome,
        };
        Self { outcome, ..self }
    }

    /// The value. The flight and the L1 entry are of this type, so the downcast always succeeds.
    pub(crate) fn into_value<T: Send + Sync + 'static>(self) -> Option<Arc<T>> {
        self.value.and_then(|value| value.downcast().ok())
    }

    /// What a caller is told of a walk.
    pub(crate) fn into_answer<T: Send + Sync + 'static>(self) -> Answer<T> {
        Answer {
            outcome: self.outcome,
            age: self.seen.saturating_duration_since(self.born),
            remaining: self.fresh_until.saturating_duration_since(self.seen),
            value: self.into_value(),
        }
    }
}

impl<C: Clone + Send + Sync + 'static> Walk<C> {
    pub(crate) fn new<T: 'static>(
        stack: &Arc<Stack>,
        codec: &C,
        key: Key,
        options: Options,
        upgrade: Option<Upgrade<C>>,
        wanted: Wanted,
    ) -> Self {
        Bus::listen(stack);
        // In this order: what is invalidated from here on is no fallback.
        let ticket = Arc::new(stack.capture(&key));
        let local = match local_again::<T>(stack, &key, &options) {
            Local::Stale(landed) => Fallback::Stale(landed),
            Local::Unproven(landed) => Fallback::Unproven(landed),
            Local::Fresh(_) | Local::Absent => Fallback::None,
        };
        let plan = options.strategy.plan();
        let (stack, codec) = (Arc::clone(stack), codec.clone());
        Self { stack, codec, key, options, upgrade, plan, wanted, local, ticket }
    }

    /// The cache only.
    pub(crate) async fn look<T>(self) -> Walked
    where
        T: Send + Sync + 'static,
        C: CodecFor<T>,
    {
        let walked = self.looking::<T>().await;
        self.finish(walked)
    }

    /// With a loader that may borrow: whoever leads walks in its own future.
    pub(crate) async fn borrowed<T>(self, loader: Loader<'_, T>) -> Walked
    where
        T: Send + Sync + 'static,
        C: CodecFor<T>,
    {
        let walked = self.walking(loader).await;
        self.finish(walked)
    }

    /// With a loader that borrows nothing: the walk is a task, and everybody waits for it.
    pub(crate) async fn detached<T>(self, loader: Loader<'static, T>) -> Walked
    where
        T: Send + Sync + 'static,
        C: CodecFor<T>,
    {
        let walked = self.sending(loader).await;
        self.finish(walked)
    }

    async fn looking<T>(&self) -> Walked
    where
        T: Send + Sync + 'static,
        C: CodecFor<T>,
    {
        if !self.stack.is_enabled() {
            return Ok(self.miss());
        }
        if self.stack.l2.is_none() || self.options.skip_l2 {
            return Ok(self.miss());
        }
        self.stack.require_runtime()?;
        let start = Instant::now();
        match self.join::<T>(Kind::Lookup).await {
            Seated::Landed(walked) => walked,
            Seated::Lead(leader) => fill::look::<T, C>(self, leader, start.elapsed()).await,
        }
    }

    async fn walking<T>(&self, loader: Loader<'_, T>) -> Walked
    where
        T: Send + Sync + 'static,
        C: CodecFor<T>,
    {
        let spent = match self.outset::<T>().await {
            Outset::Ended(walked) => return walked,
            Outset::SwitchedOff => return self.unstored(loader).await,
            Outset::Load(spent) => spent,
        };
        match self.seat::<T>(spent).await {
            (Seated::Landed(walked), _) => walked,
            (Seated::Lead(leader), filling) => fill::run(self, leader, loader, filling).await,
        }
    }

    async fn sending<T>(&self, loader: Loader<'static, T>) -> Walked
    where
        T: Send + Sync + 'static,
        C: CodecFor<T>,
    {
        let spent = match self.outset::<T>().await {
            Outset::Ended(walked) => return walked,
            Outset::SwitchedOff => return self.unstored(loader).await,
            Outset::Load(spent) => spent,
        };
        if let Some(landed) = self.fallback() {
            // Whoever refreshes it already, this caller does not wait.
            if let Role::Lead(leader) =
                self.stack.flights.join(&self.key, &self.course::<T>(Kind::Load))
            {
                let filling = Filling { read: true, ..Filling::default() };
                self.spawn(leader, loader, filling)?;
            }
            return Ok(landed);
        }
        match self.seat::<T>(spent).await {
            (Seated::Landed(walked), _) => walked,
            (Seated::Lead(leader), filling) => {
                let waiter = leader.waiter();
                self.spawn(leader, loader, Filling { behind: true, ..filling })?;
                self.wait_for_task(waiter).await
            }
        }
    }

    /// What precedes a load: the strategy's word, the deadlines' runtime, and the drop that
    /// `Invalidate` begins with.
    async fn outset<T>(&self) -> Outset
    where
        T: Send + Sync + 'static,
        C: CodecFor<T>,
    {
        if !self.plan.load {
            return Outset::Ended(self.looking::<T>().await);
        }
        if let Err(error) = self.stack.require_runtime() {
            return Outset::Ended(Err(error));
        }
        let start = Instant::now();
        if self.plan.drop_first {
            // Pending is fine here: what is loaded now is not stored in L2 before the delete.
            if let Err(error) = write::invalidate(&self.stack, &self.key).await {
                return Outset::Ended(Err(error));
            }
        }
        if self.stack.is_enabled() { Outset::Load(start.elapsed()) } else { Outset::SwitchedOff }
    }

    /// Takes a seat, and waits where somebody else walks.
    async fn seat<T: 'static>(&self, spent: Duration) -> (Seated, Filling) {
        let start = Instant::now();
        let mut filling = Filling { read: self.plan.read, waited: spent, ..Filling::default() };
        let course = self.course::<T>(Kind::Load);
        if !self.plan.join {
            return (Seated::Lead(self.stack.flights.solo(&self.key, &course)), filling);
        }
        loop {
            match self.join::<T>(Kind::Load).await {
                // Somebody's load found nothing, but this caller's finds or fails.
                Seated::Landed(Ok(landed)) if !landed.suits(self.wanted) => continue,
                seated => {
                    filling.waited = spent + start.elapsed();
                    return (seated, filling);
                }
            }
        }
    }

    async fn join<T: 'static>(&self, kind: Kind) -> Seated {
        match self.stack.flights.join(&self.key, &self.course::<T>(kind)) {
            Role::Lead(leader) => Seated::Lead(leader),
            Role::Wait(waiter) => {
                self.stack.meter.coalesced();
                match waiter.wait().await {
                    Waited::Lead(leader) => Seated::Lead(leader),
                    Waited::Landed(walked) => Seated::Landed(walked.map(Landed::shared)),
                }
            }
        }
    }

    fn spawn<T>(
        &self,
        leader: Leader,
        loader: Loader<'static, T>,
        filling: Filling,
    ) -> Result<(), Error>
    where
        T: Send + Sync + 'static,
        C: CodecFor<T>,
    {
        let walk = self.clone();
        self.stack.spawn(async move {
            // The result went to the flight.
            let _ = fill::run(&walk, leader, loader, filling).await;
        })
    }

    async fn wait_for_task(&self, waiter: Waiter<Key, Course, Walked>) -> Walked {
        match waiter.wait().await {
            Waited::Landed(walked) => walked,
            // The task, and the loader with it, ended with its runtime or with `shutdown`.
            Waited::Lead(_) => Err(Error::loader(LoadAborted)),
        }
    }

    /// A load by a cache that is switched off.
    async fn unstored<T: Send + Sync + 'static>(&self, loader: Loader<'_, T>) -> Walked {
        let stack = &self.stack;
        let value =
            load::run(loader, LoadContext::default(), stack.load_timeout, &stack.meter).await?;
        Ok(self.unkept(value))
    }
}

impl<C> Walk<C> {
    /// What L1 has to serve when the load fails.
    pub(crate) fn fallback(&self) -> Option<Landed> {
        match &self.local {
            Fallback::Stale(landed) if self.ticket.holds() => Some(landed.clone()),
            Fallback::None | Fallback::Stale(_) | Fallback::Unproven(_) => None,
        }
    }

    /// What L1 has to serve when the load and L2 fail. If L2 answered, and had nothing, then the
    /// entry may have been invalidated elsewhere.
    pub(crate) fn last_resort(&self, l2_failed: bool) -> Option<Landed> {
        match &self.local {
            Fallback::Unproven(landed) if l2_failed && self.ticket.holds() => Some(landed.clone()),
            _ => None,
        }
    }

    /// Neither found nor loaded.
    pub(crate) fn miss(&self) -> Landed {
        self.passing(None, Outcome::Miss)
    }

    /// What was loaded, and is kept nowhere.
    pub(crate) fn unkept<T: Send + Sync + 'static>(&self, value: Option<T>) -> Landed {
        self.passing(value.map(|value| Arc::new(value) as _), Outcome::Load)
    }

    fn passing(&self, value: Value, outcome: Outcome) -> Landed {
        let now = self.stack.clock.now();
        Landed {
            value,
            outcome,
            born: now,
            fresh_until: now,
            usable_until: now,
            seen: now,
            marks: None,
        }
    }

    pub(crate) fn course<T: 'static>(&self, kind: Kind) -> Course {
        Course { type_id: TypeId::of::<T>(), schema: self.options.schema, kind }
    }

    /// Counts how the read ended.
    pub(crate) fn finish(&self, walked: Walked) -> Walked {
        let outcome = walked.as_ref().map_or(Outcome::Error, |landed| landed.outcome);
        self.stack.meter.request(outcome);
        walked
    }
}

/// How a call with a loader begins.
enum Outset {
    /// It ended before it could load.
    Ended(Walked),
    /// The cache is switched off: it loads, and that is all.
    SwitchedOff,
    /// It takes a seat, having spent so long on dropping the entry.
    Load(Duration),
}

enum Seated {
    Lead(Leader),
    Landed(Walked),
}
