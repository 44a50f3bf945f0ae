//! Steps 3 to 6 of a read, walked by a flight's leader: L2, the lease, the load, the stores.
//!
//! The flight lands as soon as L1 has the value; the store in L2 follows and delays only the
//! leader. When L2 failed on the way there is no lease, so nothing is stored there and no second
//! budget is spent.

use std::{sync::Arc, time::Duration};

use tiered_codecs::CodecFor;
use tiered_tiers::Claim;

use crate::{
    Error,
    entry::Entry,
    fence::Ticket,
    flight::Role,
    load::{self, Loader},
    read::Local,
    request::LoadContext,
    session::{Leased, Look, Session, pack},
    stack::{Leader, Walked},
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
    let ticket = walk.stack.capture(&walk.key);
    let mut session = Session::open(walk, waited);
    let walked = match find::<T, C>(walk, &ticket, &mut session).await {
        Look::Found(landed) => Ok(landed),
        Look::Stale(_) | Look::Absent => match session.and_then(Session::into_failure) {
            Some(error) => Err(Error::Backend(error)),
            None => Ok(walk.miss()),
        },
    };
    leader.land(walked.clone());
    walked
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
    let stack = &walk.stack;
    let mut ticket = stack.capture(&walk.key);
    let mut session = Session::open(walk, filling.waited);
    let mut leader = leader;
    let mut fallback = None;

    if filling.read {
        match find::<T, C>(walk, &ticket, &mut session).await {
            Look::Found(landed) => {
                leader.land(Ok(landed.clone()));
                return Ok(landed);
            }
            Look::Stale(landed) if filling.behind => {
                let course = leader.course();
                leader.land(Ok(landed.clone()));
                match stack.flights.join(&walk.key, &course) {
                    Role::Lead(next) => leader = next,
                    // Somebody else came first and refreshes it.
                    Role::Wait(_) => return Ok(landed),
                }
                fallback = Some(landed);
            }
            Look::Stale(landed) => fallback = Some(landed),
            Look::Absent => {}
        }
    }

    if !ticket.holds() {
        // Overtaken while it looked: what it saw is no fallback, but what it loads now is good.
        ticket = stack.capture(&walk.key);
        fallback = None;
    }

    let claim = if walk.plan.join { Claim::IfFree } else { Claim::ByForce };
    let leased = match &mut session {
        Some(session) => session.lease::<T, C>(walk, &ticket, claim, filling.read).await,
        None => Leased::Nothing,
    };
    let lease = match leased {
        Leased::Found(landed) => {
            leader.land(Ok(landed.clone()));
            return Ok(landed);
        }
        Leased::Granted(lease) => Some(lease),
        Leased::Nothing => None,
    };

    let context = LoadContext::default();
    let begun = stack.clock.now();
    let loaded = load::run(loader, context.clone(), stack.load_timeout, &stack.meter).await;
    match loaded {
        Err(error) => {
            let l2_failed = session.as_ref().is_some_and(Session::is_silent);
            let now = stack.clock.now();
            let walked = fallback
                .filter(|_| ticket.holds())
                .or_else(|| walk.fallback())
                .or_else(|| walk.last_resort(l2_failed))
                .filter(|landed| now < landed.usable_until)
                .ok_or(error);
            leader.land(walked.clone());
            if let (Some(session), Some(lease)) = (&mut session, lease) {
                session.release(&lease).await;
            }
            walked
        }
        Ok(value) => {
            let entry = Entry::new(stack, &walk.options, context.told(), value.map(Arc::new));
            let l1 = stack.l1(walk.options.skip_l1);
            let weighed = l1.is_some() && stack.is_l1_weighted() && entry.needs_weighing();
            let stored = match session.as_ref().and_then(Session::lives_until) {
                Some(moment) => &entry.capped(moment),
                None => &entry,
            };
            let packed = match &session {
                Some(session) if weighed || lease.is_some() => pack(walk, stored, session.wire()),
                // Past L2, and only for its weight.
                None if weighed && stack.l2.is_some() => {
                    pack(walk, &entry, &walk.key.wire(&stack.namespace))
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
            if let (Some(session), Some(lease)) = (&mut session, lease) {
                session.store(walk, &lease, &ticket, packed, life).await;
            }
            Ok(landed)
        }
    }
}

/// Steps 1 (again: somebody may just have landed) to 4.
async fn find<T, C>(walk: &Walk<C>, ticket: &Ticket, session: &mut Option<Session<'_>>) -> Look
where
    T: Send + Sync + 'static,
    C: CodecFor<T>,
{
    match walk::local_again::<T>(&walk.stack, &walk.key, &walk.options) {
        Local::Fresh(landed) if landed.suits(walk.wanted) => return Look::Found(landed),
        _ => {}
    }
    match session {
        Some(session) => session.find::<T, C>(walk, ticket).await,
        None => Look::Absent,
    }
}
