//! A process that follows the log, loads, and serves from its L1.

use std::ops::RangeInclusive;

use tiered_tiers::protocol::{Ask, Polled};

use crate::{Token, follower::Following};

use super::{Bus, faults::Fault, log::Server};

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Reader<F> {
    follower: F,
    /// How long ago the last poll that counted was sent.
    proof: u8,
    pub(super) poll: Poll,
    pub(super) load: Option<Load>,
    pub(super) entry: Option<Entry>,
}

/// A question to the log. There is one at a time, and one that is given up never counts.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Poll {
    No,
    Sent { age: u8, ask: Ask },
    Answered { age: u8, polled: Polled<bool, Token> },
}

/// A load under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Load {
    /// How long ago it began.
    age: u8,
    /// Nothing has overtaken its ticket.
    pub(super) holds: bool,
    pub(super) version: Option<u8>,
}

/// What L1 has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Entry {
    pub(super) version: u8,
    /// How long ago its load began.
    pub(super) age: u8,
    /// The view was not void since then.
    in_view: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    Send,
    /// The server answers. The answer is on its way.
    Answer,
    Receive,
    GiveUp,
    /// It takes the answer to a question that it gave up for one to a question that it asks now: a fault.
    Mistake,
    Begin,
    Load {
        version: u8,
    },
    Store,
    /// The load fails, or its caller goes away.
    Drop,
}

impl<F: Following> Reader<F> {
    pub(super) fn new(oldest: u8) -> Self {
        Self { follower: F::default(), proof: oldest, poll: Poll::No, load: None, entry: None }
    }

    /// What it serves, if it serves anything.
    pub(super) fn served(&self, model: &Bus<F>) -> Option<u8> {
        let (entry, delta) = (self.entry?, model.bounds.delta);
        let is_proven = entry.age <= delta || entry.in_view && self.proof <= delta;
        is_proven.then_some(entry.version)
    }

    pub(super) fn grow_older(&mut self, oldest: u8) {
        let older = |age: &mut u8| *age = (*age + 1).min(oldest);
        older(&mut self.proof);
        self.load.iter_mut().for_each(|load| older(&mut load.age));
        self.entry.iter_mut().for_each(|entry| older(&mut entry.age));
        match &mut self.poll {
            Poll::No => {}
            Poll::Sent { age, .. } | Poll::Answered { age, .. } => older(age),
        }
    }

    pub(super) fn steps(
        &self,
        model: &Bus<F>,
        versions: RangeInclusive<u8>,
        mut may: impl FnMut(Step),
    ) {
        match self.poll {
            Poll::No => may(Step::Send),
            Poll::Sent { .. } => [Step::Answer, Step::GiveUp].into_iter().for_each(&mut may),
            Poll::Answered { .. } => {
                [Step::Receive, Step::GiveUp].into_iter().for_each(&mut may);
                if model.has(Fault::AbandonedCounts) {
                    may(Step::Mistake);
                }
            }
        }
        match self.load {
            None => may(Step::Begin),
            Some(Load { version: None, .. }) => {
                versions.for_each(|version| may(Step::Load { version }));
                may(Step::Drop);
            }
            Some(_) => [Step::Store, Step::Drop].into_iter().for_each(may),
        }
    }

    pub(super) fn run(&mut self, model: &Bus<F>, server: &mut Server, step: Step) {
        match step {
            Step::Send => self.poll = Poll::Sent { age: 0, ask: self.follower.ask() },
            Step::Answer => {
                if let Poll::Sent { age, ask } = self.poll {
                    let polled = server.answer(ask, model.bounds.piece);
                    self.poll = Poll::Answered { age, polled };
                }
            }
            Step::Receive => {
                if let Poll::Answered { age, polled } = std::mem::replace(&mut self.poll, Poll::No)
                {
                    self.receive(model, age, polled);
                }
            }
            Step::GiveUp => self.poll = Poll::No,
            Step::Mistake => {
                if let Poll::Answered { age, .. } = &mut self.poll {
                    *age = 0;
                }
            }
            Step::Begin => self.load = Some(Load { age: 0, holds: true, version: None }),
            Step::Load { version } => {
                if let Some(load) = &mut self.load {
                    load.version = Some(version);
                }
            }
            Step::Store => {
                if let Some(Load { age, holds, version: Some(version) }) = self.load.take()
                    && (holds || model.has(Fault::TicketAfterLoad))
                {
                    self.entry = Some(Entry { version, age, in_view: true });
                }
            }
            Step::Drop => self.load = None,
        }
    }

    fn receive(&mut self, model: &Bus<F>, age: u8, polled: Polled<bool, Token>) {
        let sent = if model.has(Fault::ProofAtReceiveTime) { 0 } else { age };
        let step = self.follower.answered(sent, polled);
        if step.void.is_some() {
            self.proof = model.bounds.delta + 1;
            self.entry.iter_mut().for_each(|entry| entry.in_view = false);
            if !model.has(Fault::VoidKeepsLoads) {
                self.overtake();
            }
        }
        if step.messages.contains(&true) {
            self.entry = None;
            if !model.has(Fault::MessageKeepsLoads) {
                self.overtake();
            }
        }
        self.proof = step.proven.unwrap_or(self.proof);
    }

    fn overtake(&mut self) {
        self.load.iter_mut().for_each(|load| load.holds = false);
    }
}

impl<F> Reader<F> {
    /// What will never be served is as good as not there.
    pub(super) fn forget(&mut self, oldest: u8) {
        if self.entry.is_some_and(|entry| !entry.in_view && entry.age == oldest) {
            self.entry = None;
        }
    }

    pub(super) fn versions(&mut self) -> impl Iterator<Item = &mut u8> {
        let loaded = self.load.iter_mut().filter_map(|load| load.version.as_mut());
        loaded.chain(self.entry.iter_mut().map(|entry| &mut entry.version))
    }
}
