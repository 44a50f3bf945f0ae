//! What L2 is good for in one walk: it is looked into, leased, and filled.
//!
//! One budget for all of it, and the first failure ends it: then there is no lease, nothing is stored,
//! and no second budget is spent. Which of a key's two slots is read and filled is told by `versions`.

use std::time::{Duration, Instant};

use bytes::Bytes;
use tiered_codecs::{CodecFor, envelope::Meta};
use tiered_tiers::{Claim, Found, Lease, LeaseToken, TierError};

use crate::{
    entry::Entry,
    fence::Ticket,
    l2::{Budget, L2},
    meter::{Op, OpResult, Tier},
    read::{self, Keep, Remote},
    replay,
    stack::Landed,
    versions::{Course, Slot},
    walk::Walk,
};

/// L2 in one walk.
pub(crate) struct Session<'a> {
    l2: &'a L2,
    /// The key on the server. What lies in either of its slots is bound to it.
    wire: Vec<u8>,
    /// Where a load is stored.
    course: Course,
    budget: Budget,
    /// The bytes that were judged already, in either slot.
    seen_main: Option<Bytes>,
    seen_beside: Option<Bytes>,
    failure: Option<TierError>,
    /// L2 has said what it has: what it has not may have been invalidated.
    answered: bool,
}

/// What L2 has.
pub(crate) enum Look {
    Found(Landed),
    /// Found, and made out of an older version's entry, which said so of itself.
    Upgraded(Landed, Older),
    Stale(Landed),
    Absent,
}

/// The entry that a value was made of.
pub(crate) struct Older {
    slot: Slot,
    meta: Meta,
}

/// What came of asking for a lease.
pub(crate) enum Leased {
    Token(Slot, LeaseToken),
    /// A value came since it was looked for.
    Found(Landed),
    /// No lease: L2 is not there, failed, belongs to newer versions, or another process loads.
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
        })
    }

    /// The key on the server.
    pub(crate) fn wire(&self) -> &[u8] {
        &self.wire
    }

    /// Whether L2 has failed and said nothing.
    pub(crate) fn is_silent(&self) -> bool {
        self.failure.is_some() && !self.answered
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
        let settled =
            read::settle(&walk.stack, self.l2, &walk.key, &self.wire, &mut self.budget).await;
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
        let (look, keep) = self.look::<T, C>(walk, home).await;
        let (look, keep) = match look {
            Look::Absent if self.failure.is_some() => (Look::Absent, None),
            Look::Absent if self.course.is_taken() => self.look::<T, C>(walk, home.other()).await,
            Look::Absent if walk.upgrade.is_some() => {
                // The version before this one lives there; nothing else is wanted from there.
                match self.look::<T, C>(walk, home.other()).await {
                    (look @ Look::Upgraded(..), keep) => (look, keep),
                    _ => (Look::Absent, None),
                }
            }
            look => (look, keep),
        };
        if let Some(keep) = keep {
            keep_found(walk, ticket, keep);
        }
        look
    }

    /// What is in a slot, judged.
    async fn look<T, C>(&mut self, walk: &Walk<C>, slot: Slot) -> (Look, Option<Keep>)
    where
        T: Send + Sync + 'static,
        C: CodecFor<T>,
    {
        let asked = walk.stack.clock.now();
        let got = self.l2.get(&slot.key(&self.wire), &mut self.budget).await;
        self.answered = got.is_ok();
        match got {
            Ok(found) => self.judge::<T, C>(walk, slot, asked, found),
            Err(error) => {
                self.failure = Some(error);
                (Look::Absent, None)
            }
        }
    }

    /// Step 4, for what `get` or `lease` returned; what L1 is to keep of it comes along. What was
    /// judged already is absent.
    fn judge<T, C>(
        &mut self,
        walk: &Walk<C>,
        slot: Slot,
        asked: Instant,
        found: Option<Found>,
    ) -> (Look, Option<Keep>)
    where
        T: Send + Sync + 'static,
        C: CodecFor<T>,
    {
        let Some(found) = found.filter(|found| !self.has_seen(slot, Some(found))) else {
            return (Look::Absent, None);
        };
        let remote = read::open::<T, C>(walk, &self.wire, asked, &found);
        *self.seen(slot) = Some(found.bytes);
        let (look, keep) = match remote {
            Remote::Fresh(landed, keep) => (Look::Found(landed), keep),
            Remote::Stale(landed, keep) => (Look::Stale(landed), keep),
            Remote::Upgraded(landed, keep, meta) => {
                (Look::Upgraded(landed, Older { slot, meta }), keep)
            }
            Remote::Other(version) => {
                self.course.meet(slot, version);
                return (Look::Absent, None);
            }
            Remote::Absent => return (Look::Absent, None),
        };
        if look.suits(walk) { (look, Some(keep)) } else { (Look::Absent, None) }
    }

    /// The bytes that were judged in a slot.
    fn seen(&mut self, slot: Slot) -> &mut Option<Bytes> {
        match slot {
            Slot::Main => &mut self.seen_main,
            Slot::Beside => &mut self.seen_beside,
        }
    }

    /// Whether a slot holds what was judged there.
    fn has_seen(&mut self, slot: Slot, found: Option<&Found>) -> bool {
        self.seen(slot).as_ref() == found.map(|found| &found.bytes)
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
            let (token, asked) = (LeaseToken::random(), walk.stack.clock.now());
            let key = slot.key(&self.wire);
            let (granted, found) = match self.l2.lease(&key, token, claim, &mut self.budget).await {
                Ok(Lease::Granted(found)) => (true, found),
                Ok(Lease::Held(found)) => (false, found),
                Err(error) => {
                    self.failure = Some(error);
                    return Leased::Nothing;
                }
            };
            let (look, keep) = match claim {
                Claim::IfFree => self.judge::<T, C>(walk, slot, asked, found),
                // A write: whatever is there goes.
                Claim::ByForce => (Look::Absent, None),
            };
            let landed = match look {
                Look::Found(landed) | Look::Upgraded(landed, _) if read => Some(landed),
                _ => None,
            };
            let moved = self.course.slot() != Some(slot);
            if granted && (landed.is_some() || moved) {
                self.release(slot, token).await;
            }
            return match landed {
                Some(landed) => {
                    if let Some(keep) = keep {
                        keep_found(walk, ticket, keep);
                    }
                    Leased::Found(landed)
                }
                None if moved => continue,
                None if granted => Leased::Token(slot, token),
                None => Leased::Nothing,
            };
        }
        Leased::Nothing
    }

    /// Gives a lease up.
    pub(crate) async fn release(&mut self, slot: Slot, token: LeaseToken) {
        self.l2.release(&slot.key(&self.wire), token, &mut self.budget).await;
    }

    /// Stores what was made of an older version's entry, if that is still there: then nothing has
    /// invalidated it since it was read, and nothing can from here on without revoking the lease.
    pub(crate) async fn keep_upgraded<T, C>(
        &mut self,
        walk: &Walk<C>,
        ticket: &Ticket,
        landed: Landed,
        older: &Older,
    ) where
        T: Send + Sync + 'static,
        C: CodecFor<T>,
    {
        let (Some(value), Some(slot)) = (landed.into_value::<T>(), self.slot()) else { return };
        let (key, token) = (slot.key(&self.wire).into_owned(), LeaseToken::random());
        let leased = self.l2.lease(&key, token, Claim::IfFree, &mut self.budget).await;
        let Ok(Lease::Granted(mut found)) = leased else { return };
        let mut is_same = self.has_seen(slot, found.as_ref());
        if is_same && older.slot != slot {
            let key = older.slot.key(&self.wire).into_owned();
            found = self.l2.get(&key, &mut self.budget).await.unwrap_or_default();
            is_same = self.has_seen(older.slot, found.as_ref());
        }
        let entry = Entry::upgraded(&walk.stack, value, &older.meta);
        let life = found.filter(|_| is_same).and_then(|found| found.remaining);
        match life.zip(pack(walk, &entry, &self.wire)) {
            Some((life, bytes)) => {
                self.store(walk, (slot, token), ticket, Some(bytes), life).await;
            }
            None => self.release(slot, token).await,
        }
    }

    /// The last half of step 6: the fenced store into L2.
    pub(crate) async fn store<C>(
        &mut self,
        walk: &Walk<C>,
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
                let key = slot.key(&self.wire);
                let filled = self.l2.fill(&key, token, bytes, life, &mut self.budget).await;
                if !walk.plan.join && filled.is_ok() {
                    // As `set` does: what the other slot has is older than this.
                    let _ =
                        self.l2.drop_slot(&slot.other().key(&self.wire), &mut self.budget).await;
                }
                return;
            }
            Some(_) => meter.op(Tier::L2, Op::Fill, OpResult::Refused),
            None => meter.op(Tier::L2, Op::Fill, OpResult::Skipped),
        }
        if walk.plan.join {
            self.release(slot, token).await;
        } else if self.l2.delete(&self.wire, &mut self.budget).await.is_err() {
            // The database was asked because the cache was not to be trusted: what the server has is
            // older than what this call has seen.
            replay::queue(&walk.stack, &walk.key);
        }
    }
}

impl Look {
    /// Whether the walk's caller can use it.
    fn suits<C>(&self, walk: &Walk<C>) -> bool {
        match self {
            Self::Found(landed) | Self::Upgraded(landed, _) | Self::Stale(landed) => {
                landed.suits(walk.wanted)
            }
            Self::Absent => true,
        }
    }
}

/// Puts what L2 had into L1.
fn keep_found<C>(walk: &Walk<C>, ticket: &Ticket, (entry, weight): Keep) {
    if walk.stack.l1(walk.options.skip_l1).is_some() {
        let weight = walk.options.weight.unwrap_or(weight);
        walk.stack.keep_local(&walk.key, ticket, (entry, weight));
    }
}

/// The entry for L2; `None`, with a word in the log, if it cannot be encoded or is too large.
pub(crate) fn pack<T, C>(walk: &Walk<C>, entry: &Entry<T>, wire: &[u8]) -> Option<Bytes>
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
