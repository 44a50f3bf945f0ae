//! What L2 is good for in one walk: it is looked into, leased, and filled.
//!
//! One budget for all of it, and the first failure ends it: then there is no lease, nothing is stored,
//! and no second budget is spent. Which of a key's two slots is read and filled is told by `versions`.

use std::{
    convert::Infallible,
    future::pending,
    mem,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use tiered_codecs::CodecFor;
use tiered_tiers::{Claim, Clock, Fill, Found, Lease, LeaseToken, TierError};

use crate::{
    bus::Change,
    entry::Entry,
    fence::Ticket,
    l2::{Budget, L2},
    meter::{Op, OpResult, Tier},
    pending::Standing,
    read::{self, Dated, Keep, Remote},
    replay,
    restarts::stamp,
    stack::{Landed, Stack},
    tags::{Before, Stamps, Tag},
    versions::{Course, Slot},
    walk::Walk,
};

/// How often a lease is renewed, three times in its life: a loader that hangs does not keep a key from being stored
/// for ever.
const RENEWALS: usize = 36;

/// L2 in one walk.
pub(crate) struct Session<'a> {
    l2: &'a L2,
    /// The key on the server. What lies in either of its slots is bound to it.
    wire: Vec<u8>,
    /// Where a load is stored.
    course: Course,
    budget: Budget,
    /// What was judged already, in either slot.
    seen_main: Option<Found>,
    seen_beside: Option<Found>,
    failure: Option<TierError>,
    /// L2 has said what it has: what it has not may have been invalidated.
    answered: bool,
    /// What a batch has got for it already, from its home, and when that was asked.
    fetched: Option<(Instant, Result<Option<Found>, TierError>)>,
}

/// What L2 has.
pub(crate) enum Look {
    Found(Landed),
    Stale(Landed),
    Absent,
}

/// A lease of this walk's.
pub(crate) struct Granted {
    slot: Slot,
    token: Token,
    /// The run of the server that was asked for before it, for what is stored under it.
    pub(crate) stamp: u64,
    /// When it runs out, at the earliest.
    ends: Instant,
}

/// A token that may stand on the server. Dropped before that is settled, by a failure or a cancelled future, it
/// is given up behind the caller's back: else everybody would wait until it runs out.
pub(crate) struct Token {
    stack: Arc<Stack>,
    key: Vec<u8>,
    pub(crate) token: LeaseToken,
    is_settled: bool,
}

impl Token {
    pub(crate) fn new(stack: &Arc<Stack>, key: &[u8]) -> Self {
        let (stack, key) = (Arc::clone(stack), key.to_vec());
        Self { stack, key, token: LeaseToken::random(), is_settled: false }
    }

    /// It does not stand any more, or never did.
    pub(crate) fn settle(&mut self) {
        self.is_settled = true;
    }
}

impl Drop for Token {
    fn drop(&mut self) {
        if self.is_settled {
            return;
        }
        let (stack, key, token) = (Arc::clone(&self.stack), mem::take(&mut self.key), self.token);
        // Outside a runtime it runs out by itself.
        let _ = self.stack.spawn(async move {
            if let Some(l2) = &stack.l2 {
                l2.release(&key, token, &mut l2.budget()).await;
            }
        });
    }
}

/// What came of asking for a lease.
pub(crate) enum Leased {
    Granted(Granted),
    /// A value came since it was looked for.
    Found(Landed),
    /// Another process loads.
    Held,
    /// A writer holds the key.
    OnHold,
    /// No lease: L2 failed, or the key belongs to newer versions.
    Nothing,
}

impl<'a> Session<'a> {
    /// The session of a walk that uses L2. The time that its caller has `waited` comes off.
    pub(crate) fn open<C>(walk: &'a Walk<C>, waited: Duration) -> Option<Self> {
        let stack = &walk.stack;
        let l2 = stack.l2.as_ref().filter(|_| !walk.options.skip_l2)?;
        Some(Self {
            l2,
            wire: walk.key.wire(&stack.namespace),
            course: Course::new(walk.options.schema),
            budget: l2.budget_after(waited),
            seen_main: None,
            seen_beside: None,
            failure: None,
            answered: false,
            fetched: None,
        })
    }

    /// The key on the server.
    pub(crate) fn wire(&self) -> &[u8] {
        &self.wire
    }

    /// The key of its home on the server, if a batch may get what is there for it: nothing has to be done
    /// first.
    pub(crate) fn fetchable<C>(&self, walk: &Walk<C>) -> Option<Vec<u8>> {
        let is_clear = walk.stack.pending.standing(&walk.key) == Standing::Clear;
        is_clear.then(|| self.course.home().key(&self.wire).into_owned())
    }

    /// Takes what a batch has got for it.
    pub(crate) fn fetched(&mut self, asked: Instant, found: Result<Option<Found>, TierError>) {
        self.fetched = Some((asked, found));
    }

    /// A batch has so much of the budget left for it.
    pub(crate) fn limit(&mut self, budget: Budget) {
        self.budget = budget;
    }

    /// Whether L2 has failed and said nothing.
    pub(crate) fn is_silent(&self) -> bool {
        self.failure.is_some() && !self.answered
    }

    /// Whether L2 has failed, whatever it said before.
    pub(crate) fn has_failed(&self) -> bool {
        self.failure.is_some()
    }

    /// Why L2 failed, if it did.
    pub(crate) fn into_failure(self) -> Option<TierError> {
        self.failure
    }

    /// The slot in which a load can be stored.
    fn slot(&self) -> Option<Slot> {
        self.course.slot().filter(|_| self.failure.is_none())
    }

    /// Replays what is pending for the key. Whether L2 may be used then.
    async fn settle<C>(&mut self, walk: &Walk<C>) -> bool {
        let settled = read::settle(&walk.stack, &walk.key, &mut self.budget).await;
        self.failure = settled.err();
        self.failure.is_none()
    }

    /// Steps 3 and 4.
    pub(crate) async fn find<T, C>(&mut self, walk: &Walk<C>, ticket: &Ticket) -> Look
    where
        T: Send + Sync + 'static,
        C: CodecFor<T>,
    {
        if !self.settle(walk).await {
            return Look::Absent;
        }
        let home = self.course.home();
        let at_home = match self.get(walk, home).await {
            Ok((asked, found)) => self.judge::<T, C>(walk, home, asked, found),
            Err(()) => return Look::Absent,
        };
        self.answered = true;
        let best = match at_home {
            Some(own) if !own.is_upgraded => Some(own),
            older => {
                let elsewhere = self.find_elsewhere::<T, C>(walk).await;
                // What is elsewhere is the version before this one, and newer.
                elsewhere.filter(|dated| dated.is_fresh || older.is_none()).or(older)
            }
        };
        let Some(best) = best else { return Look::Absent };
        let Some(Dated { landed, keep, is_fresh, .. }) = self.verified(walk, best).await else {
            return Look::Absent;
        };
        keep_found(walk, ticket, keep);
        if is_fresh { Look::Found(landed) } else { Look::Stale(landed) }
    }

    /// The same, unless something that it depends on was invalidated since its load began.
    async fn verified<C>(&mut self, walk: &Walk<C>, mut dated: Dated) -> Option<Dated> {
        let stack = &walk.stack;
        if !stack.is_of_namespace(&dated.stamps) {
            return None;
        }
        if dated.stamps.is_empty() {
            return Some(dated);
        }
        // Before the generations are asked for: what is invalidated from here on is not kept.
        let marks = stack.tags.marks(dated.stamps.tags());
        match stack.verify(&dated.stamps, &mut self.budget).await {
            Ok(verified) => {
                let proven_until = &mut dated.keep.0.meta.proven_until;
                *proven_until = verified?.map_or(*proven_until, |until| until.min(*proven_until));
            }
            Err(error) => {
                self.budget = Budget::SPENT;
                self.failure = Some(error);
                self.answered = false;
                return None;
            }
        }
        (dated.landed.marks, dated.keep.0.marks) = (marks.clone(), marks);
        Some(dated)
    }

    /// Takes the generations of an entry's tags, before its load, and what else is so before it.
    pub(crate) async fn before_load<C>(
        &mut self,
        walk: &Walk<C>,
    ) -> Result<(Stamps, Before), TierError> {
        let (stack, budget) = (&walk.stack, &mut self.budget);
        let asked = async {
            let before = stack.before_load(budget).await?;
            let tags = stack.with_namespace(&walk.options.tags);
            Ok((stack.stamps(&tags, budget).await?, before))
        };
        let asked = asked.await;
        self.failure = asked.as_ref().err().cloned();
        asked
    }

    /// The generations of tags that a load has revealed; `None` if they may not be the ones from before it.
    pub(crate) async fn revealed<C>(
        &mut self,
        walk: &Walk<C>,
        before: &Before,
        tags: &[Tag],
    ) -> Option<Stamps> {
        walk.stack.revealed_stamps(before, tags, &mut self.budget).await.ok().flatten()
    }

    /// What the other slot has for this version: its own entry, if its home is taken; else one of the
    /// version before it, which can be made into its own.
    async fn find_elsewhere<T, C>(&mut self, walk: &Walk<C>) -> Option<Dated>
    where
        T: Send + Sync + 'static,
        C: CodecFor<T>,
    {
        let slot = self.course.home().other();
        if self.course.is_taken() {
            // Its own is there or nowhere.
            self.answered = false;
            let (asked, found) = self.get(walk, slot).await.ok()?;
            self.answered = true;
            return self.judge::<T, C>(walk, slot, asked, found);
        }
        walk.upgrade?;
        let (asked, found) = self.get(walk, slot).await.ok()?;
        let older = read::open_older::<T, C>(walk, &self.wire, asked, found.as_ref()?)?;
        older.landed.suits(walk.wanted).then_some(older)
    }

    /// What is in a slot, and when it was asked.
    async fn get<C>(&mut self, walk: &Walk<C>, slot: Slot) -> Result<(Instant, Option<Found>), ()> {
        let fetched = self.fetched.take().filter(|_| slot == self.course.home());
        let (asked, got) = match fetched {
            Some(fetched) => fetched,
            None => {
                let asked = walk.stack.clock.now();
                (asked, self.l2.get(&slot.key(&self.wire), &mut self.budget).await)
            }
        };
        got.map(|found| (asked, found)).map_err(|error| {
            self.budget = Budget::SPENT;
            self.failure = Some(error);
        })
    }

    /// Step 4, for what `get` or `lease` returned. What was judged already is absent.
    fn judge<T, C>(
        &mut self,
        walk: &Walk<C>,
        slot: Slot,
        asked: Instant,
        found: Option<Found>,
    ) -> Option<Dated>
    where
        T: Send + Sync + 'static,
        C: CodecFor<T>,
    {
        let seen = match slot {
            Slot::Main => &mut self.seen_main,
            Slot::Beside => &mut self.seen_beside,
        };
        let found =
            found.filter(|found| !seen.as_ref().is_some_and(|seen| is_same(seen, found)))?;
        let remote = read::open::<T, C>(walk, &self.wire, asked, &found);
        *seen = Some(found);
        match remote {
            Remote::Found(dated) => dated.landed.suits(walk.wanted).then_some(*dated),
            Remote::Other(version, remaining) => {
                self.course.meet(slot, version, asked + remaining);
                None
            }
            Remote::Absent => None,
        }
    }

    /// The first half of step 6.
    pub(crate) async fn lease<T, C>(
        &mut self,
        walk: &Walk<C>,
        ticket: &Ticket,
        claim: Claim,
        read: bool,
    ) -> Leased
    where
        T: Send + Sync + 'static,
        C: CodecFor<T>,
    {
        if self.slot().is_none() || !self.settle(walk).await {
            return Leased::Nothing;
        }
        // At most twice: its home may have been taken meanwhile.
        while let Some(slot) = self.slot() {
            let key = slot.key(&self.wire);
            let stamp = match self.l2.incarnation(&key, &mut self.budget).await {
                Ok(run) => stamp(run),
                Err(error) => {
                    self.failure = Some(error);
                    return Leased::Nothing;
                }
            };
            let (mut token, asked) = (Token::new(&walk.stack, &key), walk.stack.clock.now());
            let leased = self.l2.lease(&key, token.token, claim, &mut self.budget).await;
            let (granted, found) = match leased {
                Ok(Lease::Granted(found)) => (true, found),
                Ok(Lease::Held(found)) => {
                    token.settle();
                    (false, found)
                }
                Ok(Lease::OnHold) => {
                    token.settle();
                    return Leased::OnHold;
                }
                Err(error) => {
                    self.failure = Some(error);
                    return Leased::Nothing;
                }
            };
            let found = match claim {
                Claim::IfFree => self.judge::<T, C>(walk, slot, asked, found),
                // A write: whatever is there goes.
                Claim::ByForce => None,
            };
            let landed = match found.filter(|found| read && found.is_fresh) {
                Some(found) => self.verified(walk, found).await,
                None => None,
            };
            let moved = self.course.slot() != Some(slot);
            if granted && (landed.is_some() || moved) {
                self.give_up(&mut token).await;
            }
            return match landed {
                Some(Dated { landed, keep, .. }) => {
                    keep_found(walk, ticket, keep);
                    Leased::Found(landed)
                }
                None if moved => continue,
                None if granted => {
                    let ends = asked + self.l2.lease_for();
                    Leased::Granted(Granted { slot, token, stamp, ends })
                }
                None => Leased::Held,
            };
        }
        Leased::Nothing
    }

    /// Spends a budget of its own on what comes next: whoever waits for another process has not been waiting for
    /// the server.
    pub(crate) fn refresh_budget(&mut self) {
        if self.failure.is_none() {
            self.budget = self.l2.budget();
        }
    }

    /// Renews a lease until it is lost, or for [`RENEWALS`] times; never ends.
    pub(crate) async fn renew(&self, clock: &Clock, lease: &mut Granted) -> Infallible {
        let lease_for = self.l2.lease_for();
        let Token { key, token, .. } = &lease.token;
        for _ in 0..RENEWALS {
            tokio::time::sleep(lease_for / 3).await;
            let asked = clock.now();
            match self.l2.renew(key, *token, &mut self.l2.budget()).await {
                Ok(true) => lease.ends = asked + lease_for,
                Ok(false) | Err(TierError::Unsupported(_)) => break,
                // It stands for a while yet, and is tried again.
                Err(_) => {}
            }
        }
        pending().await
    }

    /// Tells the other processes that the key was written.
    async fn tell<C>(&mut self, walk: &Walk<C>) -> Result<(), TierError> {
        walk.stack.announce(&[Change::Key(&walk.key)], &mut self.budget).await
    }

    /// Gives a lease up.
    pub(crate) async fn release(&mut self, lease: &mut Granted) {
        self.give_up(&mut lease.token).await;
    }

    async fn give_up(&mut self, token: &mut Token) {
        if self.budget.is_spent() {
            // It is given up behind the caller's back, as it is dropped.
            return;
        }
        self.l2.release(&token.key, token.token, &mut self.budget).await;
        token.settle();
    }

    /// Until when an entry that is stored now may live: away from home, no longer than what has its
    /// home. Then whoever finds the home free again need not look elsewhere.
    pub(crate) fn lives_until(&self) -> Option<Instant> {
        self.course.taken_until()
    }

    /// The last half of step 6: the fenced store into L2.
    pub(crate) async fn store<C>(
        &mut self,
        walk: &Walk<C>,
        lease: &mut Granted,
        (ticket, packed, life): (Ticket, Option<Bytes>, Duration),
        mut other: Option<OtherSlot<'_, C>>,
    ) {
        let (meter, slot) = (&walk.stack.meter, lease.slot);
        let holds = ticket.holds() && !walk.stack.is_held(&walk.key);
        match packed {
            // An invalidation that could not reach the server left the lease standing there: not then.
            Some(bytes) if holds => {
                let Token { key, token, .. } = &lease.token;
                let filled = self.l2.fill(key, *token, bytes, life, &mut self.budget).await;
                if filled.is_ok() {
                    lease.token.settle();
                }
                // Refused or failed: counted, and no concern of the caller. But for a `Bypass`, which is a write.
                let Some(other) = &mut other else { return };
                let key = slot.other().key(&self.wire);
                other.is_old = match filled {
                    Ok(Fill::Stored) => {
                        let dropped = self.l2.drop_slot(&key, &mut self.budget).await;
                        dropped.is_err() || self.tell(walk).await.is_err()
                    }
                    // Overtaken: what is there now may be newer. Or its lease ran out, and it is not.
                    Ok(Fill::Refused) => walk.stack.clock.now() >= lease.ends,
                    // It keeps no such value; what was there may be there still.
                    Ok(Fill::Skipped) | Err(_) => true,
                };
                return;
            }
            Some(_) => meter.op(Tier::L2, Op::Fill, OpResult::Refused),
            None => meter.op(Tier::L2, Op::Fill, OpResult::Skipped),
        }
        let Some(other) = &mut other else {
            self.release(lease).await;
            return;
        };
        other.is_old = walk.stack.drop_shared(&walk.key, &mut self.budget).await.is_err();
        lease.token.settle();
    }
}

/// What else there is of a key that a `Bypass` fills: in its other slot, and in other processes. The database was asked
/// because the cache was not to be trusted, so all that is older than what the call has seen. Dropped while it is old, by
/// a failure or a cancelled future, it leaves the key to be invalidated.
pub(crate) struct OtherSlot<'a, C> {
    walk: &'a Walk<C>,
    is_old: bool,
}

impl<'a, C> OtherSlot<'a, C> {
    pub(crate) fn new(walk: &'a Walk<C>) -> Self {
        Self { walk, is_old: true }
    }
}

impl<C> Drop for OtherSlot<'_, C> {
    fn drop(&mut self) {
        if self.is_old {
            replay::queue(&self.walk.stack, &self.walk.key);
        }
    }
}

/// Puts what L2 had into L1.
fn keep_found<C>(walk: &Walk<C>, ticket: &Ticket, (mut entry, weight): Keep) {
    entry.meta.generation = ticket.generation;
    if walk.stack.l1(walk.options.skip_l1).is_some() {
        let weight = walk.options.weight.unwrap_or(weight);
        walk.stack.keep_local(&walk.key, ticket, (entry, weight));
    }
}

/// Whether an entry is one that was seen before. The same value, loaded anew, has the same bytes, and lives longer.
fn is_same(seen: &Found, found: &Found) -> bool {
    seen.bytes == found.bytes && found.remaining <= seen.remaining
}

/// The entry for L2; `None`, with a word in the log, if it cannot be encoded or is too large.
pub(crate) fn pack<T, C>(
    walk: &Walk<C>,
    entry: &Entry<T>,
    stamps: &Stamps,
    wire: &[u8],
) -> Option<Bytes>
where
    T: Send + Sync + 'static,
    C: CodecFor<T>,
{
    let Walk { stack, codec, options, .. } = walk;
    let packed = entry.pack(stack, codec, options, stamps, wire);
    if let Err(error) = &packed {
        tracing::debug!(cache = &*stack.name, %error, "a value was not stored in L2");
    }
    packed.ok()
}
