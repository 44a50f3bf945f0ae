//! Steps 3 to 6 of a read, walked by a flight's leader: L2, the lease, the load, the stores.
//!
//! The flight lands as soon as L1 has the value; the store in L2 follows and delays only the
//! leader. When L2 failed on the way there is no lease, so nothing is stored there and no second
//! budget is spent. Each step is a method of [`Leading`], so that a batch can walk many leaders from
//! step to step together.

use std::{
    ops::ControlFlow,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
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
    session::{Granted, Leased, Look, Session, pack},
    stack::{Landed, Leader, Walked},
    walk::{self, Walk},
};

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
    let (stack, context) = (&walk.stack, LoadContext::default());
    let begun = stack.clock.now();
    let loaded = load::run(loader, context.clone(), stack.load_timeout, &stack.meter).await;
    let (walked, rest) = leading.end(loaded, context.told(), begun);
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
    /// It has looked into the cache.
    looked: bool,
}

/// What a step came to: the flight has landed, or the next step is to be taken.
pub(crate) type Step<'a, C> = ControlFlow<Walked, Leading<'a, C>>;

impl<'a, C> Leading<'a, C> {
    pub(crate) fn begin(walk: &'a Walk<C>, leader: Leader, waited: Duration) -> Self {
        // In this order: what is invalidated from here on is not kept.
        let ticket = walk.stack.capture(&walk.key);
        let session = Session::open(walk, waited);
        Self { walk, leader, ticket, session, fallback: None, lease: None, looked: false }
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
        let claim = if self.walk.plan.join { Claim::IfFree } else { Claim::ByForce };
        let leased = match &mut self.session {
            Some(session) => {
                session.lease::<T, C>(self.walk, &self.ticket, claim, self.looked).await
            }
            None => Leased::Nothing,
        };
        match leased {
            Leased::Found(landed) => return self.land(landed),
            Leased::Granted(lease) => self.lease = Some(lease),
            Leased::Nothing => {}
        }
        ControlFlow::Continue(self)
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
        let l2_failed = session.as_ref().is_some_and(Session::is_silent);
        let now = walk.stack.clock.now();
        let walked = fallback
            .filter(|_| ticket.holds())
            .or_else(|| walk.fallback())
            .or_else(|| walk.last_resort(l2_failed))
            .filter(|landed| now < landed.usable_until)
            .ok_or(error);
        leader.land(walked.clone());
        let rest = session.zip(lease);
        (walked, rest.map(|(session, lease)| Rest { walk, session, lease, entry: None }))
    }

    fn keep<T>(self, value: Option<T>, told: Told, begun: Instant) -> (Walked, Option<Rest<'a, C>>)
    where
        T: Send + Sync + 'static,
        C: CodecFor<T>,
    {
        let Self { walk, leader, mut ticket, session, lease, .. } = self;
        let stack = &walk.stack;
        let entry = Entry::new(stack, &walk.options, told, value.map(Arc::new));
        let l1 = stack.l1(walk.options.skip_l1);
        let weighed = l1.is_some() && stack.is_l1_weighted() && entry.needs_weighing();
        let stored = match session.as_ref().and_then(Session::lives_until) {
            Some(moment) => &entry.capped(moment),
            None => &entry,
        };
        let packed = match &session {
            Some(session) if weighed || lease.is_some() => {
                pack(walk, stored, session.wire(), lease.map_or(0, |lease| lease.stamp))
            }
            // Past L2, and only for its weight.
            None if weighed && stack.l2.is_some() => {
                pack(walk, &entry, &walk.key.wire(&stack.namespace), 0)
            }
            _ => None,
        };
        let life = stored.life();
        if l1.is_some() {
            let keep = entry.local(stack, &walk.options, begun, packed.as_ref());
            if walk.plan.join {
                stack.keep_local(&walk.key, &ticket, keep);
            } else if stack.replace_local(&walk.key, &ticket, keep) {
                // Its own step has overtaken the ticket; the store wants one that holds.
                ticket = stack.capture(&walk.key);
            }
        }
        let landed = entry.landed();
        leader.land(Ok(landed.clone()));
        let rest = session.zip(lease).map(|(session, lease)| Rest {
            walk,
            session,
            lease,
            entry: Some((ticket, packed, life)),
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
}

impl<C> Rest<'_, C> {
    pub(crate) async fn finish(mut self) {
        match self.entry {
            Some((ticket, packed, life)) => {
                self.session.store(self.walk, &self.lease, &ticket, packed, life).await;
            }
            None => self.session.release(&self.lease).await,
        }
    }
}
