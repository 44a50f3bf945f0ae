//! Steps 3 to 6 of a read, walked by a flight's leader: L2, the lease, the load, the stores.
//!
//! The flight lands as soon as L1 has the value; the store in L2 follows and delays only the
//! leader. When L2 failed on the way there is no lease, so nothing is stored there and no second
//! budget is spent.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use tiered_codecs::CodecFor;
use tiered_tiers::{Claim, Found, Lease, LeaseToken, TierError};

use crate::{
    Error,
    entry::Entry,
    fence::Ticket,
    flight::Role,
    l2::{Budget, L2},
    load::{self, Loader},
    meter::{Op, OpResult, Tier},
    read::{self, Local, Remote},
    replay,
    request::LoadContext,
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

/// What L2 is good for in this walk.
struct Session<'a> {
    l2: &'a L2,
    wire: Vec<u8>,
    budget: Budget,
    /// The bytes that were judged already.
    seen: Option<Bytes>,
    failure: Option<TierError>,
    /// L2 has said what it has: what it has not may have been invalidated.
    answered: bool,
    /// A newer version of this program owns the entry.
    newer: bool,
}

impl Session<'_> {
    fn is_usable(&self) -> bool {
        self.failure.is_none() && !self.newer
    }
}

/// Leads a walk through the cache only.
pub(crate) async fn look<T, C>(walk: &Walk<C>, leader: Leader, waited: Duration) -> Walked
where
    T: Send + Sync + 'static,
    C: CodecFor<T>,
{
    let ticket = walk.stack.capture(&walk.key);
    let mut session = session(walk, waited);
    let walked = match find::<T, C>(walk, &ticket, &mut session).await {
        Look::Found(landed) => Ok(landed),
        Look::Stale(_) | Look::Absent => match session.and_then(|session| session.failure) {
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
    let mut session = session(walk, filling.waited);
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
    let token = match lease::<T, C>(walk, &ticket, &mut session, claim, filling.read).await {
        Leased::Found(landed) => {
            leader.land(Ok(landed.clone()));
            return Ok(landed);
        }
        Leased::Token(token) => Some(token),
        Leased::Nothing => None,
    };

    let context = LoadContext::default();
    let begun = stack.clock.now();
    let loaded = load::run(loader, context.clone(), stack.load_timeout, &stack.meter).await;
    match loaded {
        Err(error) => {
            let l2_failed = session
                .as_ref()
                .is_some_and(|session| session.failure.is_some() && !session.answered);
            let now = stack.clock.now();
            let walked = fallback
                .filter(|_| ticket.holds())
                .or_else(|| walk.fallback())
                .or_else(|| walk.last_resort(l2_failed))
                .filter(|landed| now < landed.usable_until)
                .ok_or(error);
            leader.land(walked.clone());
            if let (Some(session), Some(token)) = (&mut session, token) {
                session.l2.release(&session.wire, token, &mut session.budget).await;
            }
            walked
        }
        Ok(value) => {
            let entry = Entry::new(stack, &walk.options, context.told(), value.map(Arc::new));
            let l1 = stack.l1(walk.options.skip_l1);
            let weighed = l1.is_some() && stack.is_l1_weighted() && entry.needs_weighing();
            let sealed = match &session {
                Some(session) if weighed || token.is_some() => seal(walk, &entry, &session.wire),
                // Past L2, and only for its weight.
                None if weighed && stack.l2.is_some() => {
                    seal(walk, &entry, &walk.key.wire(&stack.namespace))
                }
                _ => None,
            };
            if l1.is_some() {
                let keep = entry.local(stack, &walk.options, begun, sealed.as_ref());
                if walk.plan.join {
                    stack.keep_local(&walk.key, &ticket, keep);
                } else if stack.replace_local(&walk.key, &ticket, keep) {
                    // Its own step has overtaken the ticket; the store wants one that holds.
                    ticket = stack.capture(&walk.key);
                }
            }
            let landed = entry.landed();
            leader.land(Ok(landed.clone()));
            if let (Some(session), Some(token)) = (&mut session, token) {
                store(walk, session, token, &ticket, sealed, entry.life()).await;
            }
            Ok(landed)
        }
    }
}

fn session<C>(walk: &Walk<C>, waited: Duration) -> Option<Session<'_>> {
    let l2 = walk.stack.l2.as_ref().filter(|_| !walk.options.skip_l2)?;
    Some(Session {
        l2,
        wire: walk.key.wire(&walk.stack.namespace),
        budget: l2.budget_after(waited),
        seen: None,
        failure: None,
        answered: false,
        newer: false,
    })
}

enum Look {
    Found(Landed),
    Stale(Landed),
    Absent,
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
    let Some(session) = session else { return Look::Absent };
    let stack = &walk.stack;
    if let Err(error) =
        read::settle(stack, session.l2, &walk.key, &session.wire, &mut session.budget).await
    {
        session.failure = Some(error);
        return Look::Absent;
    }
    let asked = stack.clock.now();
    let got = session.l2.get(&session.wire, &mut session.budget).await;
    session.answered = got.is_ok();
    match got {
        Ok(Some(found)) => judge::<T, C>(walk, ticket, session, asked, found, true),
        Ok(None) => Look::Absent,
        Err(error) => {
            session.failure = Some(error);
            Look::Absent
        }
    }
}

/// Step 4, for what `get` or `lease` returned.
fn judge<T, C>(
    walk: &Walk<C>,
    ticket: &Ticket,
    session: &mut Session<'_>,
    asked: Instant,
    found: Found,
    keep_it: bool,
) -> Look
where
    T: Send + Sync + 'static,
    C: CodecFor<T>,
{
    if session.seen.as_ref() == Some(&found.bytes) {
        return Look::Absent;
    }
    let remote = read::open::<T, C>(walk, &session.wire, asked, &found);
    session.seen = Some(found.bytes);
    let (landed, keep, is_fresh) = match remote {
        Remote::Fresh(landed, keep) => (landed, keep, true),
        Remote::Stale(landed, keep) => (landed, keep, false),
        Remote::Newer => {
            session.newer = true;
            return Look::Absent;
        }
        Remote::Absent => return Look::Absent,
    };
    if !landed.suits(walk.wanted) {
        return Look::Absent;
    }
    if keep_it && walk.stack.l1(walk.options.skip_l1).is_some() {
        let weight = walk.options.weight.unwrap_or(keep.1);
        walk.stack.keep_local(&walk.key, ticket, (keep.0, weight));
    }
    if is_fresh { Look::Found(landed) } else { Look::Stale(landed) }
}

enum Leased {
    Token(LeaseToken),
    /// A value came since it was looked for.
    Found(Landed),
    /// No lease: L2 is not there, failed, belongs to a newer version, or another process loads.
    Nothing,
}

/// The first half of step 6.
async fn lease<T, C>(
    walk: &Walk<C>,
    ticket: &Ticket,
    session: &mut Option<Session<'_>>,
    claim: Claim,
    read: bool,
) -> Leased
where
    T: Send + Sync + 'static,
    C: CodecFor<T>,
{
    let Some(session) = session.as_mut().filter(|session| session.is_usable()) else {
        return Leased::Nothing;
    };
    let stack = &walk.stack;
    if let Err(error) =
        read::settle(stack, session.l2, &walk.key, &session.wire, &mut session.budget).await
    {
        session.failure = Some(error);
        return Leased::Nothing;
    }
    let token = LeaseToken::random();
    let asked = stack.clock.now();
    let (granted, found) =
        match session.l2.lease(&session.wire, token, claim, &mut session.budget).await {
            Ok(Lease::Granted(found)) => (true, found),
            Ok(Lease::Held(found)) => (false, found),
            Err(error) => {
                session.failure = Some(error);
                return Leased::Nothing;
            }
        };
    // A caller that asked for a load has no use for what is stored, but must not overwrite what a
    // newer version wrote.
    if let Some(found) = found {
        let look = judge::<T, C>(walk, ticket, session, asked, found, read);
        if session.newer || (read && matches!(look, Look::Found(_))) {
            if granted {
                session.l2.release(&session.wire, token, &mut session.budget).await;
            }
            return match look {
                Look::Found(landed) if read => Leased::Found(landed),
                _ => Leased::Nothing,
            };
        }
    }
    if granted { Leased::Token(token) } else { Leased::Nothing }
}

/// The last half of step 6: the fenced store into L2.
async fn store<C>(
    walk: &Walk<C>,
    session: &mut Session<'_>,
    token: LeaseToken,
    ticket: &Ticket,
    sealed: Option<Bytes>,
    life: Duration,
) {
    let meter = &walk.stack.meter;
    let holds = ticket.holds();
    match sealed {
        // An invalidation that could not reach the server left the lease standing there: not then.
        Some(bytes) if holds => {
            // Refused or failed: counted, and no concern of the caller.
            let _ = session.l2.fill(&session.wire, token, bytes, life, &mut session.budget).await;
            return;
        }
        Some(_) => meter.op(Tier::L2, Op::Fill, OpResult::Refused),
        None => meter.op(Tier::L2, Op::Fill, OpResult::Skipped),
    }
    if walk.plan.join {
        session.l2.release(&session.wire, token, &mut session.budget).await;
    } else if session.l2.delete(&session.wire, &mut session.budget).await.is_err() {
        // The database was asked because the cache was not to be trusted: what the server has is
        // older than what this call has seen.
        replay::queue(&walk.stack, &walk.key);
    }
}

/// The entry for L2; `None`, with a word in the log, if it cannot be encoded or is too large.
fn seal<T, C>(walk: &Walk<C>, entry: &Entry<T>, wire: &[u8]) -> Option<Bytes>
where
    T: Send + Sync + 'static,
    C: CodecFor<T>,
{
    let Walk { stack, codec, options, .. } = walk;
    let sealed = entry.seal(stack, codec, options, wire);
    if let Err(error) = &sealed {
        tracing::debug!(cache = &*stack.name, %error, "a value was not stored in L2");
    }
    sealed.ok()
}
