//! What L2 is good for in one walk: it is looked into, leased, and filled.
//!
//! One budget for all of it, and the first failure ends it: then there is no lease, nothing is stored,
//! and no second budget is spent. Which of a key's two slots is read and filled is told by `versions`.

mod lease;
mod look;
mod store;

use std::time::{Duration, Instant};

use tiered_tiers::{Found, TierError};

use crate::{
    l2::{Budget, L2},
    pending::Standing,
    read,
    versions::{Course, Slot},
    walk::Walk,
};

pub(crate) use self::{
    lease::{Granted, Leased, Token},
    look::Look,
    store::{OtherSlot, pack},
};

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
    pub(super) fn slot(&self) -> Option<Slot> {
        self.course.slot().filter(|_| self.failure.is_none())
    }

    /// Replays what is pending for the key. Whether L2 may be used then.
    pub(super) async fn settle<C>(&mut self, walk: &Walk<C>) -> bool {
        let settled = read::settle(&walk.stack, &walk.key, &mut self.budget).await;
        self.failure = settled.err();
        self.failure.is_none()
    }

    /// What is in a slot, and when it was asked.
    pub(super) async fn get<C>(
        &mut self,
        walk: &Walk<C>,
        slot: Slot,
    ) -> Result<(Instant, Option<Found>), ()> {
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

    /// Spends a budget of its own on what comes next: whoever waits for another process has not been waiting for
    /// the server.
    pub(crate) fn refresh_budget(&mut self) {
        if self.failure.is_none() {
            self.budget = self.l2.budget();
        }
    }
}
