//! Bus: publishers that delete and then append a message, and processes that follow the log and keep an L1.
//!
//! What L2 and the source give to a load is taken from the model of the fill: nothing older than what was deleted
//! last. The clock runs for ever: a moment is known by its age, and all ages above Δ are one.
//!
//! An entry of L1 is served while it is proven: a poll that was sent no longer than Δ ago counted, and the view was
//! not void since the entry's load began; or the load itself began no longer than Δ ago.

mod faults;
mod log;
mod publisher;
mod reader;

use std::{
    fmt::{self, Display},
    marker::PhantomData,
};

use stateright::{Model, Property};

use crate::{
    Catch, Figures, exhaust,
    follower::{Following, shipped::Follower},
    hunt::Seen,
};

pub use faults::mutants;

use faults::Fault;
use log::Server;
use publisher::{Publish, Publisher};
use reader::{Poll, Reader};

/// How large a search is.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Those who invalidate, at most 3.
    pub publishers: usize,
    /// Those who follow the log and keep an L1. One is enough: nothing that one does changes what another sees, but that who
    /// finds a log without a head makes one, and that is no other than what an append makes.
    pub readers: usize,
    /// Messages to the log that are sent again, while the first may still be on its way.
    pub late: u8,
    /// Messages for other keys.
    pub others: u8,
    /// How often the log loses its messages, its head, or both.
    pub losses: u8,
    /// How often the server is lost.
    pub restarts: u8,
    /// Δ, in ticks, at most 2.
    pub delta: u8,
    /// Messages that the log keeps.
    pub kept: usize,
    /// Messages in an answer.
    pub piece: usize,
}

impl Bounds {
    /// One of each kind, and nothing goes wrong.
    const CALM: Self = Self {
        publishers: 1,
        readers: 1,
        late: 0,
        others: 0,
        losses: 0,
        restarts: 0,
        delta: 1,
        kept: 2,
        piece: 1,
    };
    /// What every run of the tests searches.
    pub const SMALL: &[Self] = &[
        Self { publishers: 2, ..Self::CALM },
        Self { others: 1, losses: 1, ..Self::CALM },
        Self { others: 1, restarts: 1, ..Self::CALM },
        Self { late: 1, losses: 1, ..Self::CALM },
    ];
    /// What takes its time.
    pub const FULL: &[Self] = &[
        Self { publishers: 3, losses: 1, ..Self::CALM },
        Self { publishers: 3, restarts: 1, ..Self::CALM },
        Self { publishers: 2, losses: 1, restarts: 1, ..Self::CALM },
        Self { publishers: 2, losses: 1, delta: 2, ..Self::CALM },
        Self { late: 1, others: 1, losses: 1, restarts: 1, ..Self::CALM },
    ];
}

impl Display for Bounds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { publishers, readers, late, others, losses, restarts, delta, kept, piece } = self;
        write!(
            f,
            "{publishers} publishers, {readers} followers, {late} repeated and {others} other messages, "
        )?;
        write!(
            f,
            "{losses} losses, {restarts} restarts; Δ of {delta}, {kept} messages kept, {piece} in an answer"
        )
    }
}

/// Searches the shipped follower.
///
/// # Errors
/// What does not hold.
pub fn check(bounds: Bounds, threads: usize) -> Result<Figures, Catch> {
    exhaust(Bus::<Follower<_>>::new(bounds, None), threads)
}

/// The model, over a copy of the follower.
#[derive(Debug)]
struct Bus<F> {
    bounds: Bounds,
    fault: Option<Fault>,
    seen: Seen,
    follower: PhantomData<fn() -> F>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct State<F> {
    /// The newest version in the source.
    source: u8,
    /// The newest that was deleted in L2.
    deleted: u8,
    server: Server,
    publishers: [Publisher; 3],
    readers: Vec<Reader<F>>,
    /// The newest version that was acknowledged, by now, one tick ago, and so on.
    acknowledged: [u8; 4],
}

/// A step. A client is named by its place among its like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Act {
    Publish(usize, Publish),
    Read(usize, reader::Step),
    /// A message that nobody waits for reaches the log.
    Arrives,
    /// Somebody invalidates another key.
    Other,
    Tick,
    Lose {
        messages: bool,
        head: bool,
    },
    Save,
    Restart {
        old: bool,
    },
}

impl<F: Following> Bus<F> {
    fn new(bounds: Bounds, fault: Option<Fault>) -> Self {
        Self { bounds, fault, seen: Seen::default(), follower: PhantomData }
    }

    fn has(&self, fault: Fault) -> bool {
        self.fault == Some(fault)
    }

    /// What was acknowledged before `now - Δ`.
    fn floor(&self, state: &State<F>) -> u8 {
        state.acknowledged[usize::from(self.bounds.delta) + 1]
    }

    fn run(&self, state: &mut State<F>, act: Act) {
        match act {
            Act::Publish(place, step) => {
                let publisher = state.publishers[place];
                state.publishers[place] = self.publish(state, publisher, step);
            }
            Act::Read(place, step) => {
                state.readers[place].run(self, &mut state.server, step);
            }
            Act::Arrives => {
                state.server.late -= 1;
                state.server.append(true);
            }
            Act::Other => {
                state.server.others += 1;
                state.server.append(false);
            }
            Act::Tick => {
                let oldest = self.bounds.delta + 1;
                state.readers.iter_mut().for_each(|reader| reader.grow_older(oldest));
                for age in (0..usize::from(oldest)).rev() {
                    let newer = state.acknowledged[age];
                    state.acknowledged[age + 1] = newer;
                }
            }
            Act::Lose { messages, head } => state.server.lose(messages, head),
            Act::Save => state.server.save(),
            Act::Restart { old } => state.server.restart(old, self.bounds.kept),
        }
    }
}

impl<F> State<F> {
    /// Only the order of versions counts: the state that stands for all that are like this one.
    fn represent(&mut self) {
        let mut all = vec![&mut self.source, &mut self.deleted];
        all.extend(&mut self.acknowledged);
        all.extend(self.publishers.iter_mut().filter_map(|publisher| match publisher {
            Publisher::Committed { version } | Publisher::Half { version } => Some(version),
            Publisher::Idle | Publisher::Gone => None,
        }));
        all.extend(self.readers.iter_mut().flat_map(Reader::versions));
        let known = all.iter().fold(0_u8, |known, version| known | 1 << **version);
        for version in all {
            *version = (known & ((1 << *version) - 1)).count_ones() as u8;
        }
        self.publishers.sort_unstable();
    }
}

impl<F: Following> Model for Bus<F> {
    type State = State<F>;
    type Action = Act;

    fn init_states(&self) -> Vec<State<F>> {
        let mut publishers = [Publisher::Gone; 3];
        publishers.iter_mut().take(self.bounds.publishers).for_each(|one| *one = Publisher::Idle);
        publishers.sort_unstable();
        vec![State {
            source: 0,
            deleted: 0,
            server: Server::new(self.bounds.kept),
            publishers,
            readers: vec![Reader::new(self.bounds.delta + 1); self.bounds.readers],
            acknowledged: [0; 4],
        }]
    }

    fn actions(&self, state: &State<F>, acts: &mut Vec<Act>) {
        let Bounds { late, others, losses, restarts, .. } = self.bounds;
        let has_room = state.server.repeats < late;
        for (place, publisher) in state.publishers.iter().enumerate() {
            if place == 0 || state.publishers[place - 1] != *publisher {
                let may = |step| acts.push(Act::Publish(place, step));
                self.publish_steps(*publisher, has_room, may);
            }
        }
        for (place, reader) in state.readers.iter().enumerate() {
            let versions = state.deleted..=state.source;
            reader.steps(self, versions, |step| acts.push(Act::Read(place, step)));
        }
        acts.push(Act::Tick);
        if state.server.late > 0 {
            acts.push(Act::Arrives);
        }
        if state.server.others < others {
            acts.push(Act::Other);
        }
        if state.server.losses < losses {
            let what = [(true, false), (false, true), (true, true)];
            acts.extend(what.map(|(messages, head)| Act::Lose { messages, head }));
        }
        if state.server.restarts < restarts {
            match state.server.is_saved() {
                true => acts.push(Act::Restart { old: true }),
                false => {
                    acts.push(Act::Restart { old: false });
                    if state.server != Server::new(self.bounds.kept) {
                        acts.push(Act::Save);
                    }
                }
            }
        }
    }

    fn next_state(&self, state: &State<F>, act: Act) -> Option<State<F>> {
        let mut next = state.clone();
        self.run(&mut next, act);
        next.readers.iter_mut().for_each(|reader| reader.forget(self.bounds.delta + 1));
        next.represent();
        (next != *state).then_some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always(
                "nothing is served Δ after it was invalidated",
                |model, state: &State<F>| {
                    let floor = model.floor(state);
                    let mut served = state.readers.iter().filter_map(|reader| reader.served(model));
                    served.all(|version| version >= floor)
                },
            ),
            Property::sometimes(
                "an entry is served by the log's proof",
                |model: &Self, state: &State<F>| {
                    model.seen.first(0, || {
                        let delta = model.bounds.delta;
                        let is_old = |reader: &Reader<F>| {
                            reader.entry.is_some_and(|entry| entry.age > delta)
                        };
                        let mut old = state.readers.iter().filter(|reader| is_old(reader));
                        old.any(|reader| reader.served(model).is_some() && model.floor(state) > 0)
                    })
                },
            ),
            Property::sometimes(
                "an old entry is there and not served",
                |model: &Self, state: &State<F>| {
                    model.seen.first(1, || {
                        let is_old = |reader: &&Reader<F>| {
                            reader.entry.is_some_and(|entry| entry.version < model.floor(state))
                        };
                        state.readers.iter().any(|reader| is_old(&reader))
                    })
                },
            ),
            Property::sometimes(
                "a load is overtaken by a message or a void",
                |model: &Self, state: &State<F>| {
                    model.seen.first(2, || {
                        let lost = |reader: &Reader<F>| {
                            reader.load.is_some_and(|load| !load.holds && load.version.is_some())
                        };
                        state.readers.iter().any(lost)
                    })
                },
            ),
            Property::sometimes(
                "an answer is older than what it does not know",
                |model: &Self, state: &State<F>| {
                    model.seen.first(3, || {
                    let is_late = |reader: &Reader<F>| matches!(&reader.poll, Poll::Answered { age, .. } if *age > 0);
                    state.acknowledged[0] > state.acknowledged[1] && state.readers.iter().any(is_late)
                })
                },
            ),
        ]
    }
}
