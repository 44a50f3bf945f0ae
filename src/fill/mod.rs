//! Steps 3 to 6 of a read, walked by a flight's leader: L2, the lease, the load, the stores.
//!
//! The flight lands as soon as L1 has the value; the store in L2 follows and delays only the
//! leader. When L2 failed on the way there is no lease, so nothing is stored there and no second
//! budget is spent. Each step is a method of [`Leading`], so that a batch can walk many leaders from
//! step to step together.
//!
//! [`waiting`] is what happens while another process loads, [`landing`] what a load comes to.

mod landing;
mod waiting;

use std::{convert::Infallible, future::pending, mem, ops::ControlFlow, pin::pin, time::Duration};

use futures_util::future::{Either, select};
use tiered_codecs::CodecFor;
use tiered_tiers::Claim;

use crate::{
    Error,
    fence::Ticket,
    flight::Role,
    load::{self, Loader},
    read::Local,
    request::{LoadContext, Told},
    session::{Granted, Leased, Look, Session},
    stack::{Landed, Leader, Walked},
    tags::{Before, Marks, Stamps, Tag},
    walk::{self, Walk},
};

pub(crate) use self::landing::Rest;

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
}
