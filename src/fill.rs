//! Steps 3 to 6 of a read, walked by a flight's leader: L2, the lease, the load, the stores.
//!
//! The flight lands as soon as L1 has the value; the store in L2 follows and delays only the
//! leader. When L2 failed on the way there is no lease, so nothing is stored there and no second
//! budget is spent. Each step is a method of [`Leading`], so that a batch can walk many leaders from
//! step to step together.
//!
//! The lease is the single flight of all processes. Who gets it loads, and renews it meanwhile; the others serve
//! what is stale if they have it, else wait for the value, and after too long a wait load for themselves and store
//! nothing. They ask at growing intervals: a value that appears says nothing on the bus, which carries changes only.

use std::{
    convert::Infallible,
    future::pending,
    mem,
    ops::ControlFlow,
    pin::pin,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use futures_util::future::{Either, select};
use tiered_codecs::CodecFor;
use tiered_tiers::Claim;

use crate::{
    Error,
    entry::Entry,
    fence::Ticket,
    flight::Role,
    load::{self, Loader},
    read::Local,
    request::{LoadContext, Told},
    session::{Granted, Leased, Look, OtherSlot, Session, pack},
    stack::{Landed, Leader, Walked},
    tags::{Before, Marks, Stamps, Tag},
    walk::{self, Walk},
};

/// How long a leader waits before it asks again what another process' load has come to, at first and at most.
const SHORTEST_PAUSE: Duration = Duration::from_millis(4);
const LONGEST_PAUSE: Duration = Duration::from_millis(100);

/// How a leader goes about it.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Filling {
    /// Look into the cache first.
    pub(crate) read: bool,
    /// Land with a stale value from L2 and load behind it.
    pub(crate) behind: bool,
    /// The time that the caller has waited for others' walks: it comes off the budget.
    pub(crate) waited: Duration,
}

/// Leads a walk through the cache only.
pub(crate) async fn look<T, C>(walk: &Walk<C>, leader: Leader, waited: Duration) -> Walked
where
    T: Send + Sync + 'static,
    C: CodecFor<T>,
{
    match Leading::begin(walk, leader, waited).look::<T>(false).await {
        ControlFlow::Break(walked) => walked,
        ControlFlow::Continue(leading) => leading.give_up(),
    }
}

/// Leads a walk that loads if it must.
pub(crate) async fn run<T, C>(
    walk: &Walk<C>,
    leader: Leader,
    loader: Loader<'_, T>,
    filling: Filling,
) -> Walked
where
    T: Send + Sync + 'static,
    C: CodecFor<T>,
{
    let mut leading = Leading::begin(walk, leader, filling.waited);
    if filling.read {
        leading = match leading.look::<T>(filling.behind).await {
            ControlFlow::Break(walked) => return walked,
            ControlFlow::Continue(leading) => leading,
        };
    }
    leading = match leading.lease::<T>().await {
        ControlFlow::Break(walked) => return walked,
        ControlFlow::Continue(leading) => leading,
    };
    if leading.waits() {
        leading = match leading.wait::<T>().await {
            ControlFlow::Break(walked) => return walked,
            ControlFlow::Continue(leading) => leading,
        };
    }
    let (stack, context) = (&walk.stack, LoadContext::default());
    let begun = stack.clock.now();
    let loading = load::run(loader, context.clone(), stack.load_timeout, &stack.meter);
    let loaded = leading.renewing(loading).await;
    let told = context.told();
    if loaded.is_ok() {
        leading.reveal(&told).await;
    }
    let (walked, rest) = leading.end(loaded, told, begun);
    if let Some(rest) = rest {
        rest.finish().await;
    }
    walked
}

/// A leader on its way. Dropped midway, it leaves the flight to a waiter.
pub(crate) struct Leading<'a, C> {
    pub(crate) walk: &'a Walk<C>,
    leader: Leader,
    ticket: Ticket,
    pub(crate) session: Option<Session<'a>>,
    /// What L2 had to serve when the load fails.
    fallback: Option<Landed>,
    lease: Option<Granted>,
    /// Why it has no lease.
    obstacle: Option<Obstacle>,
    /// What the entry depends on, as it was before the load: in L2, and in L1.
    depends: Depends,
    /// It has looked into the cache.
    looked: bool,
}

/// What an entry depends on.
#[derive(Default)]
struct Depends {
    stamps: Stamps,
    marks: Option<Marks>,
    before: Before,
    /// What the load has revealed may have been invalidated since it began: not kept in L1.
    is_unkept: bool,
    /// Nor in L2.
    is_unstored: bool,
}

/// Why a leader got no lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Obstacle {
    /// Another process loads.
    Load,
    /// A writer holds the key.
    Hold,
    /// L2 has not said.
    Silence,
}

/// What a step came to: the flight has landed, or the next step is to be taken.
pub(crate) type Step<'a, C> = ControlFlow<Walked, Leading<'a, C>>;

impl<'a, C> Leading<'a, C> {
    pub(crate) fn begin(walk: &'a Walk<C>, leader: Leader, waited: Duration) -> Self {
        // In this order: what is invalidated from here on is not kept.
        let ticket = walk.stack.capture(&walk.key);
        let session = Session::open(walk, waited);
        Self {
            walk,
            leader,
            ticket,
            session,
            fallback: None,
            lease: None,
            obstacle: None,
            depends: Depends::default(),
            looked: false,
        }
    }

    fn land(self, landed: Landed) -> Step<'a, C> {
        self.leader.land(Ok(landed.clone()));
        ControlFlow::Break(Ok(landed))
    }

    /// Ends a walk through the cache only, which has found nothing.
    pub(crate) fn give_up(self) -> Walked {
        let walked = match self.session.and_then(Session::into_failure) {
            Some(error) => Err(Error::Backend(error)),
            None => Ok(self.walk.miss()),
        };
        self.leader.land(walked.clone());
        walked
    }

    /// Steps 1 (again: somebody may just have landed) to 4. With `behind` a stale value lands, and
    /// the load goes on behind it.
    pub(crate) async fn look<T>(mut self, behind: bool) -> Step<'a, C>
    where
        T: Send + Sync + 'static,
        C: CodecFor<T>,
    {
        let Walk { stack, key, options, wanted, .. } = self.walk;
        self.looked = true;
        match walk::local_again::<T>(stack, key, options) {
            Local::Fresh(landed) if landed.suits(*wanted) => return self.land(landed),
            _ => {}
        }
        let found = match &mut self.session {
            Some(session) => session.find::<T, C>(self.walk, &self.ticket).await,
            None => Look::Absent,
        };
        match found {
            Look::Found(landed) => return self.land(landed),
            Look::Stale(landed) if behind => {
                let course = self.leader.course();
                self.leader.land(Ok(landed.clone()));
                match stack.flights.join(key, &course) {
                    Role::Lead(next) => self.leader = next,
                    // Somebody else came first and refreshes it.
                    Role::Wait(_) => return ControlFlow::Break(Ok(landed)),
                }
                self.fallback = Some(landed);
            }
            Look::Stale(landed) => self.fallback = Some(landed),
            Look::Absent => {}
        }
        ControlFlow::Continue(self)
    }

    /// The first half of step 6: the lease, or what came meanwhile.
    pub(crate) async fn lease<T>(mut self) -> Step<'a, C>
    where
        T: Send + Sync + 'static,
        C: CodecFor<T>,
    {
        if !self.ticket.holds() {
            // Overtaken while it looked: what it saw is no fallback, but what it loads now is good.
            self.ticket = self.walk.stack.capture(&self.walk.key);
            self.fallback = None;
        }
        let Walk { stack, options, .. } = self.walk;
        let (marks, before) = (stack.tags.marks(&options.tags), stack.before_local_load());
        self.depends = Depends { marks, before, ..Depends::default() };
        let claim = if self.walk.plan.join { Claim::IfFree } else { Claim::ByForce };
        let leased = match &mut self.session {
            Some(session) => {
                session.lease::<T, C>(self.walk, &self.ticket, claim, self.looked).await
            }
            None => return ControlFlow::Continue(self),
        };
        self.obstacle = match leased {
            Leased::Found(landed) => return self.land(landed),
            Leased::Granted(lease) => self.take(lease).await,
            Leased::Held => Some(Obstacle::Load),
            Leased::OnHold => Some(Obstacle::Hold),
            Leased::Nothing => Some(Obstacle::Silence),
        };
        ControlFlow::Continue(self)
    }

    /// Takes the lease, and then the generations of what the entry depends on: before the load, and as late as that.
    async fn take(&mut self, lease: Granted) -> Option<Obstacle> {
        let session = self.session.as_mut()?;
        match session.before_load(self.walk).await {
            Ok((stamps, before)) => {
                (self.depends.stamps, self.depends.before) = (stamps, before);
                self.depends.stamps.run = lease.stamp;
                self.lease = Some(lease);
                None
            }
            // It could not be stored: the lease is given up as it is dropped.
            Err(_) => Some(Obstacle::Silence),
        }
    }

    /// Takes what the load has revealed of the entry's tags.
    async fn reveal(&mut self, told: &Told) {
        let Depends { stamps, marks, before, .. } = &self.depends;
        let new = told.tags.iter().filter(|tag| !stamps.has(tag)).cloned().collect::<Vec<Tag>>();
        if new.is_empty() && !told.has_bad_tag {
            return;
        }
        let local = self.walk.stack.revealed_marks(before, &new).filter(|_| !told.has_bad_tag);
        let (is_unkept, marks) = match (local, marks) {
            (None, _) => (true, None),
            (Some(new), None) => (false, Some(new)),
            (Some(new), Some(known)) => (false, Some(known.iter().chain(&*new).copied().collect())),
        };
        let shared = match (&mut self.session, &self.lease) {
            (Some(session), Some(_)) if !told.has_bad_tag => {
                session.revealed(self.walk, before, &new).await
            }
            _ => None,
        };
        (self.depends.is_unkept, self.depends.marks) = (is_unkept, marks);
        match shared {
            Some(new) => self.depends.stamps = mem::take(&mut self.depends.stamps).and(new),
            None => self.depends.is_unstored = true,
        }
    }

    /// Whether another process loads what this read may share.
    pub(crate) fn waits(&self) -> bool {
        self.obstacle == Some(Obstacle::Load) && self.walk.plan.read
    }

    /// Lands with what is stale, or waits for another process' load: for its value, for its lease, or until the
    /// wait takes too long.
    pub(crate) async fn wait<T>(mut self) -> Step<'a, C>
    where
        T: Send + Sync + 'static,
        C: CodecFor<T>,
    {
        let Walk { stack, .. } = self.walk;
        if let Some(landed) = self.stale() {
            return self.land(landed);
        }
        stack.meter.lease_wait();
        let start = tokio::time::Instant::now();
        let mut pause = SHORTEST_PAUSE;
        while self.waits() {
            let left = stack.wait_for.saturating_sub(start.elapsed());
            if left.is_zero() {
                break;
            }
            // Processes that began to wait together do not ask together.
            tokio::time::sleep(pause.mul_f64(0.5 + fastrand::f64()).min(left)).await;
            pause = (pause * 3 / 2).min(LONGEST_PAUSE);
            if let Some(session) = &mut self.session {
                session.refresh_budget();
            }
            self = match self.lease::<T>().await {
                ControlFlow::Break(walked) => return ControlFlow::Break(walked),
                ControlFlow::Continue(leading) => leading,
            };
        }
        ControlFlow::Continue(self)
    }

    /// A stale value that may be served.
    fn stale(&self) -> Option<Landed> {
        let fallback = self.fallback.clone().filter(|_| self.ticket.holds());
        let now = self.walk.stack.clock.now();
        fallback.or_else(|| self.walk.fallback()).filter(|landed| {
            now < landed.usable_until && self.walk.stack.tags.stand(landed.marks.as_ref())
        })
    }

    /// Runs a load, and renews the lease meanwhile. A loader that blocks its thread keeps it from being renewed.
    pub(crate) async fn renewing<R>(&mut self, loading: impl Future<Output = R>) -> R {
        match select(pin!(loading), pin!(self.renew())).await {
            Either::Left((loaded, _)) => loaded,
            Either::Right((never, _)) => match never {},
        }
    }

    /// Renews the lease, if there is one; never ends.
    pub(crate) async fn renew(&mut self) -> Infallible {
        match (&self.session, &mut self.lease) {
            (Some(session), Some(lease)) => session.renew(&self.walk.stack.clock, lease).await,
            _ => pending().await,
        }
    }

    /// The other half: lands with what was loaded since `begun`, or with what else there is to serve. What is
    /// left to do on L2 comes back, to be done by whoever waits for nothing any more.
    pub(crate) fn end<T>(
        self,
        loaded: Result<Option<T>, Error>,
        told: Told,
        begun: Instant,
    ) -> (Walked, Option<Rest<'a, C>>)
    where
        T: Send + Sync + 'static,
        C: CodecFor<T>,
    {
        match loaded {
            Ok(value) => self.keep(value, told, begun),
            Err(error) => self.fail(error),
        }
    }

    fn fail(self, error: Error) -> (Walked, Option<Rest<'a, C>>) {
        let Self { walk, leader, ticket, session, fallback, lease, .. } = self;
        let l2_failed = session.as_ref().map_or(walk.stack.l2.is_none(), Session::is_silent);
        let now = walk.stack.clock.now();
        let walked = fallback
            .filter(|_| ticket.holds())
            .or_else(|| walk.fallback())
            .or_else(|| walk.last_resort(l2_failed))
            .filter(|landed| now < landed.usable_until)
            .filter(|landed| walk.stack.tags.stand(landed.marks.as_ref()))
            .ok_or(error);
        leader.land(walked.clone());
        let rest = session.zip(lease);
        let rest =
            rest.map(|(session, lease)| Rest { walk, session, lease, entry: None, other: None });
        (walked, rest)
    }

    fn keep<T>(self, value: Option<T>, told: Told, begun: Instant) -> (Walked, Option<Rest<'a, C>>)
    where
        T: Send + Sync + 'static,
        C: CodecFor<T>,
    {
        let Self { walk, leader, mut ticket, session, lease, obstacle, depends, .. } = self;
        let stack = &walk.stack;
        if obstacle.is_some() {
            stack.meter.unstored_load();
        }
        let entry = Entry::new(stack, &walk.options, told, value.map(Arc::new));
        // What is loaded while a writer holds the key may be old when the writer ends, and nobody would drop it.
        let is_kept = obstacle != Some(Obstacle::Hold) && !depends.is_unkept;
        let l1 = stack.l1(walk.options.skip_l1).filter(|_| is_kept);
        let is_stored = lease.is_some() && !depends.is_unstored;
        let weighed = l1.is_some() && stack.is_l1_weighted() && entry.needs_weighing();
        let stored = match session.as_ref().and_then(Session::lives_until) {
            Some(moment) => &entry.capped(moment),
            None => &entry,
        };
        let packed = match &session {
            Some(session) if weighed || is_stored => {
                pack(walk, stored, &depends.stamps, session.wire())
            }
            // Past L2, and only for its weight.
            None if weighed && stack.l2.is_some() => {
                pack(walk, &entry, &depends.stamps, &walk.key.wire(&stack.namespace))
            }
            _ => None,
        };
        let life = stored.life();
        if l1.is_some() {
            // Whether a writer holds the key is not known where L2 was silent, nor would its end be heard.
            let is_known = obstacle != Some(Obstacle::Silence);
            let generation = if is_known { ticket.generation } else { 0 };
            let (begun, marks) = ((begun, generation), depends.marks);
            let keep = entry.local(stack, &walk.options, begun, marks, packed.as_ref());
            if walk.plan.join {
                stack.keep_local(&walk.key, &ticket, keep);
            } else if stack.replace_local(&walk.key, &ticket, keep) {
                // Its own step has overtaken the ticket; the store wants one that holds.
                ticket = stack.capture(&walk.key);
            }
        }
        let is_alone = match &session {
            // Without a lease, and with an L2 that has not failed, the key is a newer version's, or a writer's.
            Some(session) => lease.is_none() && !session.has_failed(),
            None => stack.l2.is_some() || stack.bus.is_none(),
        };
        let other = (!walk.plan.join && !is_alone).then(|| OtherSlot::new(walk));
        let landed = entry.landed();
        leader.land(Ok(landed.clone()));
        let rest = session.zip(lease).map(|(session, lease)| Rest {
            walk,
            session,
            lease,
            entry: Some((ticket, packed.filter(|_| is_stored), life)),
            other,
        });
        (Ok(landed), rest)
    }
}

/// What a leader that has landed has left to do on L2: to store the entry, or to give the lease up.
/// Dropped before it is done, it leaves the lease to run out.
pub(crate) struct Rest<'a, C> {
    walk: &'a Walk<C>,
    pub(crate) session: Session<'a>,
    lease: Granted,
    entry: Option<(Ticket, Option<Bytes>, Duration)>,
    /// Of a `Bypass`.
    other: Option<OtherSlot<'a, C>>,
}

impl<C> Rest<'_, C> {
    pub(crate) async fn finish(mut self) {
        match self.entry {
            Some(entry) => {
                self.session.store(self.walk, &mut self.lease, entry, self.other).await;
            }
            None => self.session.release(&mut self.lease).await,
        }
    }
}
