//! Steps 3 and 4: what L2 has, in either of a key's slots, and whether it may be believed.

use std::time::Instant;

use tiered_codecs::CodecFor;
use tiered_tiers::Found;

use super::Session;
use crate::{
    fence::Ticket,
    l2::Budget,
    read::{self, Dated, Keep, Remote},
    stack::Landed,
    versions::Slot,
    walk::Walk,
};

/// What L2 has.
pub(crate) enum Look {
    Found(Landed),
    Stale(Landed),
    Absent,
}

impl Session<'_> {
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
    pub(super) async fn verified<C>(&mut self, walk: &Walk<C>, mut dated: Dated) -> Option<Dated> {
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

    /// Step 4, for what `get` or `lease` returned. What was judged already is absent.
    pub(super) fn judge<T, C>(
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
}

/// Puts what L2 had into L1.
pub(super) fn keep_found<C>(walk: &Walk<C>, ticket: &Ticket, (mut entry, weight): Keep) {
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
