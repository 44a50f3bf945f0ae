//! Tags: what entries depend on, so that all of them can be dropped at once without being known.
//!
//! Each tag has a *generation* in L2, a random number. An entry carries the generations of its tags as they were
//! *before* its load, and is served only while they are the same. To invalidate a tag is to give it another generation: one
//! step, however many entries there are. A generation that was lost (evicted, expired, of another run of the server)
//! is made anew, and never the same: that costs warmth and nothing else.
//!
//! What a load reveals only in its value has no generation from before the load. For it there is the *epoch*, one for
//! the namespace, which every invalidation of any tag changes first. Four steps, and why they are in this order:
//!
//! 1. The load reads the epoch, then the source. It learns its tags, reads their generations, then the epoch again.
//! 2. An invalidation changes the epoch, then the tag's generation.
//! 3. If the load has read the new generation, the epoch was changed before that: its second look finds it changed,
//!    and the entry is not kept.
//! 4. If it has read the old generation, the entry is refused from then on.
//!
//! In L1 an entry keeps places in a table of counters instead, which cost a look each: a heard invalidation counts one
//! of them up. Tags that share a place share their invalidations there, and L2 is asked.
//!
//! Rejected: sets of keys for each tag. They grow without bound, and a set that lost a member (or was evicted) lets
//! entries live on.

mod known;
mod names;
mod stamps;
mod table;

pub(crate) use self::{
    names::{Tag, TagNames},
    stamps::Stamps,
    table::Marks,
};
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Instant,
};

use tiered_tiers::{
    TierError,
    protocol::{self, Look, Revealing},
};

use self::{known::Known, table::Table};
use crate::{
    Ack, Error,
    bus::{Bus, Change},
    l2::Budget,
    pending::Word,
    replay,
    stack::Stack,
};

/// The generation of a tag, or the epoch of a namespace.
pub(crate) type Generation = [u8; 16];

/// What one cache knows of tags.
#[derive(Debug, Default)]
pub(crate) struct Tags {
    table: Table,
    known: Known,
    /// Whether some load has revealed tags: then loads begin with the epoch.
    reveals: AtomicBool,
}

/// What was so before a load began.
#[derive(Debug, Default)]
pub(crate) struct Before {
    /// How many invalidations of tags this process had seen.
    bumps: u64,
    /// The namespace's epoch, if it was asked for.
    epoch: Option<Generation>,
}

impl Tags {
    /// Where an entry of these tags is looked up in L1; `None` for one without tags. Taken before its load.
    pub(crate) fn marks(&self, tags: &[Tag]) -> Option<Marks> {
        self.table.marks(tags)
    }

    /// Whether nothing that an entry depends on was invalidated since its marks were taken.
    pub(crate) fn stand(&self, marks: Option<&Marks>) -> bool {
        marks.is_none_or(|marks| self.table.stand(marks))
    }

    /// A tag was invalidated: entries of L1 that depend on it are not served any more.
    pub(crate) fn bump(&self, tag: &str) {
        self.table.bump(tag);
        self.known.forget(tag);
    }
}

/// Gives a tag another generation, here and everywhere.
pub(crate) async fn invalidate(stack: &Arc<Stack>, tag: &Tag) -> Result<Ack, Error> {
    if stack.is_alone() {
        drop_local(stack, tag);
        return Ok(Ack::Done);
    }
    stack.require_runtime()?;
    Bus::listen(stack);
    let mut change = Changing { stack, tag, ended: false };
    drop_local(stack, tag);
    let mut budget = stack.budget();
    let changed = change_generation(stack, tag, &mut budget).await;
    let told = match &changed {
        Ok(()) => stack.announce(&[Change::Tag(tag)], &mut budget).await.is_ok(),
        Err(_) => false,
    };
    change.ended = true;
    match (&changed, told) {
        (Ok(()), true) => replay::start(stack),
        (Ok(()), false) => replay::queue_untold(stack, Word::Tag(tag.clone()), None),
        (Err(_), _) => replay::queue_tag(stack, tag),
    }
    // Again, and after it is queued: a load may have read the old generation since.
    drop_local(stack, tag);
    Ok(if told { Ack::Done } else { Ack::Pending })
}

/// An invalidation under way. Dropped midway, by a cancelled future, it leaves the tag pending.
struct Changing<'a> {
    stack: &'a Arc<Stack>,
    tag: &'a Tag,
    ended: bool,
}

impl Drop for Changing<'_> {
    fn drop(&mut self) {
        if !self.ended {
            replay::queue_tag(self.stack, self.tag);
            drop_local(self.stack, self.tag);
        }
    }
}

/// The tag's entries in L1 are not served any more, and nobody joins a load that may be of one.
fn drop_local(stack: &Stack, tag: &Tag) {
    stack.tags.bump(tag);
    if tag.is_namespace() {
        // They carry no mark of it, to be one lighter.
        stack.fence.advance_all();
        if let Some(l1) = stack.l1.as_deref() {
            l1.remove_prefix(b"");
        }
    }
    stack.flights.detach_where(|_| true);
}

/// Another process has given a tag another generation.
pub(crate) fn heard(stack: &Stack, tag: &Tag) {
    drop_local(stack, tag);
}

/// The epoch first, then the generation.
pub(crate) async fn change_generation(
    stack: &Stack,
    tag: &Tag,
    budget: &mut Budget,
) -> Result<(), TierError> {
    if let Some(l2) = &stack.l2 {
        for changed in protocol::Change::ORDER {
            let key = match changed {
                protocol::Change::Epoch => names::epoch_key(&stack.namespace),
                protocol::Change::Generation => tag.record(&stack.namespace),
            };
            l2.new_generation(&key, budget).await?;
        }
    }
    Ok(())
}

impl Stack {
    /// The tags of an entry besides those that the caller names: with a bus the whole namespace is one.
    pub(crate) fn with_namespace(&self, tags: &TagNames) -> TagNames {
        let mut tags = tags.clone();
        if self.bus.is_some() && self.l2.is_some() {
            tags.push(Tag::namespace());
        }
        tags
    }

    /// Whether an entry says that it depends on the namespace, where that is asked for. One that does not comes from a
    /// process without a bus: nobody could tell whether the namespace was cleared since.
    pub(crate) fn is_of_namespace(&self, stamps: &Stamps) -> bool {
        self.with_namespace(&TagNames::default()).iter().all(|tag| stamps.has(tag))
    }

    /// The generations of tags, as stamps for an entry whose load has not begun.
    pub(crate) async fn stamps(
        &self,
        tags: &[Tag],
        budget: &mut Budget,
    ) -> Result<Stamps, TierError> {
        let (generations, _) = self.generations(tags, budget).await?;
        Ok(Stamps::new(tags, &generations))
    }

    /// Whether an entry's stamps are those of now. If so, until when that is proven at most, where it was not asked
    /// of L2 just now.
    pub(crate) async fn verify(
        &self,
        stamps: &Stamps,
        budget: &mut Budget,
    ) -> Result<Option<Option<Instant>>, TierError> {
        let (generations, until) = self.generations(stamps.tags(), budget).await?;
        if until.is_none() || stamps.are(&generations) {
            return Ok(stamps.are(&generations).then_some(until));
        }
        // A record that was evicted, and made anew by others, says nothing on the bus.
        stamps.tags().iter().for_each(|tag| self.tags.known.forget(tag));
        let (generations, until) = self.generations(stamps.tags(), budget).await?;
        Ok(stamps.are(&generations).then_some(until))
    }

    /// The generations of tags: as the bus proves them, or as L2 has them. With them, until when the bus has proven
    /// them if it was not L2 that was asked.
    async fn generations(
        &self,
        tags: &[Tag],
        budget: &mut Budget,
    ) -> Result<(Vec<Generation>, Option<Instant>), TierError> {
        let Some(l2) = self.l2.as_ref().filter(|_| !tags.is_empty()) else {
            return Ok((Vec::new(), None));
        };
        let now = self.clock.now();
        // Before L2 is asked, and before it is looked what is pending: what changes from here on is not remembered.
        let (proof, counts) = (self.proof(), self.tags.table.counts(tags));
        if tags.iter().any(|tag| self.pending.has_tag(tag)) {
            return Err(TierError::Unreachable("an invalidation of a tag is pending".into()));
        }
        if let Some(proof) = proof.filter(|proof| now < proof.until)
            && let Some(known) = self.tags.known.of(tags, proof.generation, &counts)
        {
            return Ok((known, Some(proof.until)));
        }
        let records: Vec<_> = tags.iter().map(|tag| tag.record(&self.namespace)).collect();
        let generations = l2.generations(&records, budget).await?;
        // A copy may be older than what the bus has said.
        if let Some(proof) = proof.filter(|_| !l2.copies()) {
            self.tags.known.remember(tags, proof.generation, &counts, &generations);
        }
        Ok((generations, None))
    }

    /// What is so before a load begins.
    pub(crate) async fn before_load(&self, budget: &mut Budget) -> Result<Before, TierError> {
        let bumps = self.tags.table.bumps();
        let epoch = match &self.l2 {
            Some(l2) if self.tags.reveals.load(Ordering::Relaxed) => {
                Some(l2.generation(&names::epoch_key(&self.namespace), budget).await?)
            }
            _ => None,
        };
        Ok(Before { bumps, epoch })
    }

    /// What is so before a load whose value is not stored in L2.
    pub(crate) fn before_local_load(&self) -> Before {
        Before { bumps: self.tags.table.bumps(), epoch: None }
    }

    /// Marks for tags that a load has revealed, unless one of them may have been invalidated since it began.
    pub(crate) fn revealed_marks(&self, before: &Before, tags: &[Tag]) -> Option<Marks> {
        let marks = self.tags.marks(tags);
        marks.filter(|_| self.tags.table.bumps() == before.bumps)
    }

    /// Stamps for tags that a load has revealed; `None` if they may have been invalidated since it began, or if that
    /// cannot be told, for no load had revealed any before this one.
    pub(crate) async fn revealed_stamps(
        &self,
        before: &Before,
        tags: &[Tag],
        budget: &mut Budget,
    ) -> Result<Option<Stamps>, TierError> {
        let Some(l2) = &self.l2 else { return Ok(Some(Stamps::default())) };
        self.tags.reveals.store(true, Ordering::Relaxed);
        let Some(epoch) = before.epoch else { return Ok(None) };
        let mut revealing = Revealing::new(epoch);
        while revealing.look() == Look::Generations {
            // Of L2 itself: what the bus has proven may be as old as a proof.
            let records: Vec<_> = tags.iter().map(|tag| tag.record(&self.namespace)).collect();
            revealing.generations(l2.generations(&records, budget).await?);
        }
        let now = l2.generation(&names::epoch_key(&self.namespace), budget).await?;
        Ok(revealing.epoch(&now).map(|generations| Stamps::new(tags, &generations)))
    }
}
