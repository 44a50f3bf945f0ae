//! What a load comes to: its flight lands, L1 gets the value, and what is left to do on L2 follows.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use tiered_codecs::CodecFor;

use super::{Leading, Obstacle};
use crate::{
    Error,
    entry::Entry,
    fence::Ticket,
    request::Told,
    session::{Granted, OtherSlot, Session, pack},
    stack::Walked,
    walk::Walk,
};

impl<'a, C> Leading<'a, C> {
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
        let l2_failed = session.as_ref().map_or(walk.stack.l2.is_none(), Session::is_silent);
        let now = walk.stack.clock.now();
        let walked = fallback
            .filter(|_| ticket.holds())
            .or_else(|| walk.fallback())
            .or_else(|| walk.last_resort(l2_failed))
            .filter(|landed| now < landed.usable_until)
            .filter(|landed| walk.stack.tags.stand(landed.marks.as_ref()))
            .ok_or(error);
        leader.land(walked.clone());
        let rest = session.zip(lease);
        let rest =
            rest.map(|(session, lease)| Rest { walk, session, lease, entry: None, other: None });
        (walked, rest)
    }

    fn keep<T>(self, value: Option<T>, told: Told, begun: Instant) -> (Walked, Option<Rest<'a, C>>)
    where
        T: Send + Sync + 'static,
        C: CodecFor<T>,
    {
        let Self { walk, leader, mut ticket, session, lease, obstacle, depends, .. } = self;
        let stack = &walk.stack;
        if obstacle.is_some() {
            stack.meter.unstored_load();
        }
        let entry = Entry::new(stack, &walk.options, told, value.map(Arc::new));
        // What is loaded while a writer holds the key may be old when the writer ends, and nobody would drop it.
        let is_kept = obstacle != Some(Obstacle::Hold) && !depends.is_unkept;
        let l1 = stack.l1(walk.options.skip_l1).filter(|_| is_kept);
        let is_stored = lease.is_some() && !depends.is_unstored;
        let weighed = l1.is_some() && stack.is_l1_weighted() && entry.needs_weighing();
        let stored = match session.as_ref().and_then(Session::lives_until) {
            Some(moment) => &entry.capped(moment),
            None => &entry,
        };
        let packed = match &session {
            Some(session) if weighed || is_stored => {
                pack(walk, stored, &depends.stamps, session.wire())
            }
            // Past L2, and only for its weight.
            None if weighed && stack.l2.is_some() => {
                pack(walk, &entry, &depends.stamps, &walk.key.wire(&stack.namespace))
            }
            _ => None,
        };
        let life = stored.life();
        if l1.is_some() {
            // Whether a writer holds the key is not known where L2 was silent, nor would its end be heard.
            let is_known = obstacle != Some(Obstacle::Silence);
            let generation = if is_known { ticket.generation } else { 0 };
            let (begun, marks) = ((begun, generation), depends.marks);
            let keep = entry.local(stack, &walk.options, begun, marks, packed.as_ref());
            if walk.plan.join {
                stack.keep_local(&walk.key, &ticket, keep);
            } else if stack.replace_local(&walk.key, &ticket, keep) {
                // Its own step has overtaken the ticket; the store wants one that holds.
                ticket = stack.capture(&walk.key);
            }
        }
        let is_alone = match &session {
            // Without a lease, and with an L2 that has not failed, the key is a newer version's, or a writer's.
            Some(session) => lease.is_none() && !session.has_failed(),
            None => stack.l2.is_some() || stack.bus.is_none(),
        };
        let other = (!walk.plan.join && !is_alone).then(|| OtherSlot::new(walk));
        let landed = entry.landed();
        leader.land(Ok(landed.clone()));
        let rest = session.zip(lease).map(|(session, lease)| Rest {
            walk,
            session,
            lease,
            entry: Some((ticket, packed.filter(|_| is_stored), life)),
            other,
        });
        (Ok(landed), rest)
    }
}

/// What a leader that has landed has left to do on L2: to store the entry, or to give the lease up.
/// Dropped before it is done, it gives the lease up behind the caller's back.
pub(crate) struct Rest<'a, C> {
    walk: &'a Walk<C>,
    pub(crate) session: Session<'a>,
    lease: Granted,
    entry: Option<(Ticket, Option<Bytes>, Duration)>,
    /// Of a `Bypass`.
    other: Option<OtherSlot<'a, C>>,
}

impl<C> Rest<'_, C> {
    pub(crate) async fn finish(mut self) {
        match self.entry {
            Some(entry) => {
                self.session.store(self.walk, &mut self.lease, entry, self.other).await;
            }
            None => self.session.release(&mut self.lease).await,
        }
    }
}
