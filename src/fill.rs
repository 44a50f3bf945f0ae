//! Steps 3 to 6 of a read, walked by a flight's leader: L2, the lease, the load, the stores.
//!
//! The flight lands as soon as L1 has the value; the store in L2 follows and delays only the
//! leader. When L2 failed on the way there is no lease, so nothing is stored there and no second
//! budget is spent.

use std::{
    any::TypeId,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use tiered_codecs::{CodecFor, envelope::Meta};
use tiered_tiers::{Claim, Found, Lease, LeaseToken, TierError};

use crate::{
    Error,
    entry::Entry,
    fence::Ticket,
    flight::Role,
    l2::{Budget, L2},
    load::{self, Loader},
    meter::{Op, OpResult, Tier},
    read::{self, Keep, Local, Remote},
    replay,
    request::LoadContext,
    stack::{Landed, Leader, Walked},
    versions::{Course, Slot},
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
    /// The key on the server. What lies in either of its slots is bound to it.
    wire: Vec<u8>,
    /// Where a load is stored.
    course: Course,
    budget: Budget,
    /// The bytes that were judged already.
    seen: Option<Bytes>,
    failure: Option<TierError>,
    /// L2 has said what it has: what it has not may have been invalidated.
    answered: bool,
}

impl Session<'_> {
    /// The slot in which a load can be stored.
    fn slot(&self) -> Option<Slot> {
        self.course.slot.filter(|_| self.failure.is_none())
    }

    async fn release(&mut self, slot: Slot, token: LeaseToken) {
        self.l2.release(&slot.key(&self.wire), token, &mut self.budget).await;
    }
}

/// Leads a walk through the cache only.
pub(crate) async fn look<T, C>(walk: &Walk<C>, leader: Leader, waited: Duration) -> Walked
where
    T: Send + Sync + 'static,
    C: CodecFor<T>,
{
    let ticket = walk.stack.capture(&walk.key);
    let mut session = session::<T, C>(walk, waited);
    let walked = match find::<T, C>(walk, &ticket, &mut session).await {
        Look::Found(landed) | Look::Upgraded(landed, _) => Ok(landed),
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
    let mut session = session::<T, C>(walk, filling.waited);
    let mut leader = leader;
    let mut fallback = None;

    if filling.read {
        match find::<T, C>(walk, &ticket, &mut session).await {
            Look::Found(landed) => {
                leader.land(Ok(landed.clone()));
                return Ok(landed);
            }
            Look::Upgraded(landed, older) => {
                leader.land(Ok(landed.clone()));
                if let Some(session) = &mut session {
                    replace::<T, C>(walk, session, &ticket, landed.clone(), &older).await;
                }
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
        Leased::Token(slot, token) => Some((slot, token)),
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
            if let (Some(session), Some((slot, token))) = (&mut session, token) {
                session.release(slot, token).await;
            }
            walked
        }
        Ok(value) => {
            let entry = Entry::new(stack, &walk.options, context.told(), value.map(Arc::new));
            let l1 = stack.l1(walk.options.skip_l1);
            let weighed = l1.is_some() && stack.is_l1_weighted() && entry.needs_weighing();
            let packed = match &session {
                Some(session) if weighed || token.is_some() => pack(walk, &entry, &session.wire),
                // Past L2, and only for its weight.
                None if weighed && stack.l2.is_some() => {
                    pack(walk, &entry, &walk.key.wire(&stack.namespace))
                }
                _ => None,
            };
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
            if let (Some(session), Some(token)) = (&mut session, token) {
                store(walk, session, token, &ticket, packed, entry.life()).await;
            }
            Ok(landed)
        }
    }
}

fn session<'a, T: 'static, C>(walk: &'a Walk<C>, waited: Duration) -> Option<Session<'a>> {
    let stack = &walk.stack;
    let l2 = stack.l2.as_ref().filter(|_| !walk.options.skip_l2)?;
    let own = (TypeId::of::<T>(), walk.options.schema);
    Some(Session {
        l2,
        wire: walk.key.wire(&stack.namespace),
        course: stack.versions.course(own, stack.clock.now()),
        budget: l2.budget_after(waited),
        seen: None,
        failure: None,
        answered: false,
    })
}

enum Look {
    Found(Landed),
    /// Found, and made out of an older version's entry, which said so of itself.
    Upgraded(Landed, Meta),
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
    for slot in [Slot::Main, Slot::Beside] {
        let asked = stack.clock.now();
        let got = session.l2.get(&slot.key(&session.wire), &mut session.budget).await;
        session.answered = got.is_ok();
        let look = match got {
            Ok(Some(found)) => judge::<T, C>(walk, ticket, session, slot, asked, found, true),
            Ok(None) => Look::Absent,
            Err(error) => {
                session.failure = Some(error);
                return Look::Absent;
            }
        };
        if !matches!(look, Look::Absent) || !session.course.look_beside {
            return look;
        }
    }
    Look::Absent
}

/// Step 4, for what `get` or `lease` returned.
fn judge<T, C>(
    walk: &Walk<C>,
    ticket: &Ticket,
    session: &mut Session<'_>,
    slot: Slot,
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
    let (look, landed, keep): (fn(Landed) -> Look, _, _) = match remote {
        Remote::Fresh(landed, keep) => (Look::Found, landed, keep),
        Remote::Stale(landed, keep) => (Look::Stale, landed, keep),
        Remote::Upgraded(landed, keep, meta) => {
            keep_found(walk, ticket, keep, keep_it);
            return Look::Upgraded(landed, meta);
        }
        Remote::Other(version) => {
            session.course.meet(slot, version);
            return Look::Absent;
        }
        Remote::Absent => return Look::Absent,
    };
    if !landed.suits(walk.wanted) {
        return Look::Absent;
    }
    keep_found(walk, ticket, keep, keep_it);
    look(landed)
}

/// Puts what L2 had into L1.
fn keep_found<C>(walk: &Walk<C>, ticket: &Ticket, keep: Keep, keep_it: bool) {
    if keep_it && walk.stack.l1(walk.options.skip_l1).is_some() {
        let weight = walk.options.weight.unwrap_or(keep.1);
        walk.stack.keep_local(&walk.key, ticket, (keep.0, weight));
    }
}

enum Leased {
    Token(Slot, LeaseToken),
    /// A value came since it was looked for.
    Found(Landed),
    /// No lease: L2 is not there, failed, belongs to newer versions, or another process loads.
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
    let Some(session) = session.as_mut().filter(|session| session.slot().is_some()) else {
        return Leased::Nothing;
    };
    let stack = &walk.stack;
    if let Err(error) =
        read::settle(stack, session.l2, &walk.key, &session.wire, &mut session.budget).await
    {
        session.failure = Some(error);
        return Leased::Nothing;
    }
    // At most twice: another version may have come into the main slot meanwhile.
    while let Some(slot) = session.slot() {
        let token = LeaseToken::random();
        let asked = stack.clock.now();
        let key = slot.key(&session.wire);
        let (granted, found) = match session.l2.lease(&key, token, claim, &mut session.budget).await
        {
            Ok(Lease::Granted(found)) => (true, found),
            Ok(Lease::Held(found)) => (false, found),
            Err(error) => {
                session.failure = Some(error);
                return Leased::Nothing;
            }
        };
        // A caller that asked for a load has no use for what is stored, but must not overwrite
        // what another version wrote.
        let look = match found {
            Some(found) => judge::<T, C>(walk, ticket, session, slot, asked, found, read),
            None => Look::Absent,
        };
        let landed = match look {
            Look::Found(landed) | Look::Upgraded(landed, _) if read => Some(landed),
            _ => None,
        };
        let moved = session.course.slot != Some(slot);
        if granted && (landed.is_some() || moved) {
            session.release(slot, token).await;
        }
        return match landed {
            Some(landed) => Leased::Found(landed),
            None if moved => continue,
            None if granted => Leased::Token(slot, token),
            None => Leased::Nothing,
        };
    }
    Leased::Nothing
}

/// Puts what was made of an older version's entry in its place, if it is still there: then nothing
/// has invalidated it since it was read, and nothing can from here on without revoking the lease.
async fn replace<T, C>(
    walk: &Walk<C>,
    session: &mut Session<'_>,
    ticket: &Ticket,
    landed: Landed,
    older: &Meta,
) where
    T: Send + Sync + 'static,
    C: CodecFor<T>,
{
    let Some(value) = landed.into_value::<T>() else { return };
    let (slot, token) = (Slot::Main, LeaseToken::random());
    let leased = session.l2.lease(&session.wire, token, Claim::IfFree, &mut session.budget).await;
    let Ok(Lease::Granted(found)) = leased else { return };
    let same = found.filter(|found| session.seen.as_ref() == Some(&found.bytes));
    let entry = Entry::upgraded(&walk.stack, value, older);
    match same.and_then(|found| found.remaining).zip(pack(walk, &entry, &session.wire)) {
        Some((life, bytes)) => {
            store(walk, session, (slot, token), ticket, Some(bytes), life).await;
        }
        None => session.release(slot, token).await,
    }
}

/// The last half of step 6: the fenced store into L2.
async fn store<C>(
    walk: &Walk<C>,
    session: &mut Session<'_>,
    (slot, token): (Slot, LeaseToken),
    ticket: &Ticket,
    packed: Option<Bytes>,
    life: Duration,
) {
    let meter = &walk.stack.meter;
    let holds = ticket.holds();
    match packed {
        // An invalidation that could not reach the server left the lease standing there: not then.
        Some(bytes) if holds => {
            // Refused or failed: counted, and no concern of the caller.
            let key = slot.key(&session.wire);
            let _ = session.l2.fill(&key, token, bytes, life, &mut session.budget).await;
            return;
        }
        Some(_) => meter.op(Tier::L2, Op::Fill, OpResult::Refused),
        None => meter.op(Tier::L2, Op::Fill, OpResult::Skipped),
    }
    if walk.plan.join {
        session.release(slot, token).await;
    } else if session.l2.delete(&session.wire, &mut session.budget).await.is_err() {
        // The database was asked because the cache was not to be trusted: what the server has is
        // older than what this call has seen.
        replay::queue(&walk.stack, &walk.key);
    }
}

/// The entry for L2; `None`, with a word in the log, if it cannot be encoded or is too large.
fn pack<T, C>(walk: &Walk<C>, entry: &Entry<T>, wire: &[u8]) -> Option<Bytes>
where
    T: Send + Sync + 'static,
    C: CodecFor<T>,
{
    let Walk { stack, codec, options, .. } = walk;
    let packed = entry.pack(stack, codec, options, wire);
    if let Err(error) = &packed {
        tracing::debug!(cache = &*stack.name, %error, "a value was not stored in L2");
    }
    packed.ok()
}
