//! Holds: writers that hold the key while they write the source, writers that do not, and loads.
//!
//! A hold covers a commit that lands within it, by the server's clock. A writer may die at every step, its hold may run
//! out, and its messages may come late or twice; but a tier never sends the first message of a hold again. A writer whose
//! hold gets no answer writes all the same, and ends it. One that writes *through* asks for a lease when its hold ends,
//! if that was answered for, and fills with what it wrote if it was alone. Others hold nothing: they commit and delete.
//!
//! What must hold is much: unless a commit that no hold covers waits for its delete (or its writer has died
//! before that), what is believed is what the source has, at every moment.

mod actors;
mod faults;
mod loads;
mod quotient;
mod writers;

use std::{
    fmt::{self, Display},
    marker::PhantomData,
};

use stateright::{Model, Property};

use crate::{
    Catch, Figures, Tick, Token, exhaust,
    hunt::Seen,
    record::{Key, shipped::Record},
};

pub use faults::mutants;

use actors::{Act, Message};
use faults::Fault;
use loads::Loader;
use writers::Writer;

/// How large a search is.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Loads, at most 3.
    pub loaders: usize,
    /// Writers, at most 3.
    pub writers: usize,
    /// Messages that are on their way without their sender at once, at most 2.
    pub late: usize,
    /// How often a lease or a hold is evicted.
    pub evictions: u8,
    /// How often the server is lost.
    pub restarts: u8,
}

impl Bounds {
    /// What every run of the tests searches.
    pub const SMALL: &[Self] = &[
        Self { loaders: 2, ..Self::CALM },
        Self { loaders: 1, late: 1, ..Self::CALM },
        Self { loaders: 1, evictions: 1, ..Self::CALM },
        Self { loaders: 1, restarts: 1, ..Self::CALM },
    ];
    /// What takes its time.
    pub const FULL: &[Self] = &[
        Self { loaders: 3, writers: 3, evictions: 1, ..Self::CALM },
        Self { loaders: 3, writers: 3, late: 1, ..Self::CALM },
        Self { loaders: 2, late: 2, ..Self::CALM },
        Self { loaders: 2, writers: 3, restarts: 1, ..Self::CALM },
        Self { loaders: 2, late: 1, evictions: 1, restarts: 1, ..Self::CALM },
    ];
    /// Two writers, and nothing else.
    const CALM: Self = Self { loaders: 0, writers: 2, late: 0, evictions: 0, restarts: 0 };
}

impl Display for Bounds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { loaders, writers, late, evictions, restarts } = self;
        write!(f, "{loaders} loads, {writers} writers, {late} late messages, ")?;
        write!(f, "{evictions} evictions, {restarts} restarts")
    }
}

/// Searches the shipped record.
///
/// # Errors
/// What does not hold.
pub fn check(bounds: Bounds, threads: usize) -> Result<Figures, Catch> {
    exhaust(Holds::<Record<_, _, _>>::new(bounds, None, false), threads)
}

/// The model, over a copy of the record.
#[derive(Debug)]
struct Holds<R> {
    bounds: Bounds,
    fault: Option<Fault>,
    /// States are as they are, and not one for all that are alike.
    is_plain: bool,
    seen: Seen,
    record: PhantomData<fn() -> R>,
}

/// What is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Entry {
    version: u8,
    /// The run of the server that its sender knew.
    run: u8,
    /// A writer's own, and no load's.
    is_written: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct State<R> {
    /// The newest version in the source.
    source: u8,
    now: Tick,
    ticks: u8,
    run: u8,
    key: R,
    /// What the server has written to its disk.
    saved: Option<R>,
    loaders: [Loader; 3],
    writers: [Writer; 3],
    late: [Option<Message>; 2],
    evictions: u8,
    /// The newest version that was acknowledged.
    floor: u8,
    /// Somebody died between a commit that no hold covered and its delete, and nobody has deleted since.
    is_exposed: bool,
}

impl<R: Key<Entry>> State<R> {
    fn new(bounds: &Bounds) -> Self {
        let (mut loaders, mut writers) = ([Loader::Gone; 3], [Writer::Gone; 3]);
        loaders.iter_mut().take(bounds.loaders).for_each(|loader| *loader = Loader::Idle);
        writers.iter_mut().take(bounds.writers).for_each(|writer| *writer = Writer::Idle);
        let mut state = Self {
            source: 0,
            now: 0,
            ticks: 0,
            run: 0,
            key: R::default(),
            saved: None,
            loaders,
            writers,
            late: [None; 2],
            evictions: 0,
            floor: 0,
            is_exposed: false,
        };
        state.sort();
        state
    }

    /// Clients of a kind are alike.
    fn sort(&mut self) {
        self.loaders.sort_unstable();
        self.writers.sort_unstable();
        self.late.sort_unstable();
    }

    /// What a reader would take.
    fn believed(&self) -> Option<&Entry> {
        self.key.value(self.now).filter(|entry| entry.run == self.run)
    }

    /// Whether every commit is covered by a hold, or was followed by a delete.
    fn is_covered(&self) -> bool {
        !self.is_exposed && !self.writers.iter().any(|writer| writer.is_open())
    }

    /// A token that nobody knows.
    fn fresh(&self) -> Token {
        let mut copy = (self.loaders, self.writers, self.late);
        let loaders = copy.0.iter_mut().filter_map(Loader::token_mut);
        let writers = copy.1.iter_mut().filter_map(Writer::token_mut);
        let late = copy.2.iter_mut().flatten().flat_map(Message::tokens_mut);
        let known: Vec<Token> = loaders.chain(writers).chain(late).map(|token| *token).collect();
        let stands =
            |key: &R, token| key.is_leased_to(self.now, token) || key.is_held_by(self.now, token);
        let is_known = |token: &Token| {
            known.contains(token)
                || stands(&self.key, *token)
                || self.saved.as_ref().is_some_and(|saved| stands(saved, *token))
        };
        (0..Token::MAX).find(|token| !is_known(token)).unwrap_or(Token::MAX)
    }
}

impl<R: Key<Entry>> Holds<R> {
    fn new(bounds: Bounds, fault: Option<Fault>, is_plain: bool) -> Self {
        Self { bounds, fault, is_plain, seen: Seen::default(), record: PhantomData }
    }

    fn has(&self, fault: Fault) -> bool {
        self.fault == Some(fault)
    }
}

impl<R: Key<Entry>> Model for Holds<R> {
    type State = State<R>;
    type Action = Act;

    fn init_states(&self) -> Vec<State<R>> {
        vec![State::new(&self.bounds)]
    }

    fn actions(&self, state: &State<R>, acts: &mut Vec<Act>) {
        actors::acts(self, state, acts);
    }

    fn next_state(&self, state: &State<R>, act: Act) -> Option<State<R>> {
        let mut next = state.clone();
        actors::run(self, &mut next, act);
        match self.is_plain {
            true => next.sort(),
            false => quotient::representative(&mut next),
        }
        (next != *state).then_some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        let mut all = vec![
            Property::always(
                "nothing older than what was acknowledged is believed",
                |_, state: &State<R>| {
                    state.believed().is_none_or(|entry| entry.version >= state.floor)
                },
            ),
            Property::always("what is believed is what the source has", |_, state: &State<R>| {
                !state.is_covered()
                    || state.believed().is_none_or(|entry| entry.version == state.source)
            }),
            Property::sometimes(
                "what was written through is believed",
                |model: &Self, state: &State<R>| {
                    model.seen.first(0, || state.believed().is_some_and(|entry| entry.is_written))
                },
            ),
            Property::sometimes(
                "what was loaded after a write is believed",
                |model: &Self, state: &State<R>| {
                    model.seen.first(1, || {
                        state.believed().is_some_and(|entry| !entry.is_written && entry.version > 0)
                    })
                },
            ),
            Property::sometimes(
                "a load is overtaken by a hold",
                |model: &Self, state: &State<R>| {
                    model.seen.first(2, || {
                        let lost = |loader: &Loader| match *loader {
                            Loader::Loaded { token, version, .. } => {
                                version < state.source && !state.key.is_leased_to(state.now, token)
                            }
                            _ => false,
                        };
                        state.loaders.iter().any(lost)
                    })
                },
            ),
            Property::sometimes(
                "two hold at once, and one has written",
                |model: &Self, state: &State<R>| {
                    model.seen.first(3, || {
                        let holds = |writer: &&Writer| match **writer {
                            Writer::Held { token, .. } | Writer::Written { token, .. } => {
                                state.key.is_held_by(state.now, token)
                            }
                            _ => false,
                        };
                        state.writers.iter().filter(holds).count() > 1 && state.source > 0
                    })
                },
            ),
            Property::sometimes(
                "a hold runs out over a commit",
                |model: &Self, state: &State<R>| {
                    model.seen.first(4, || {
                        let over = |writer: &Writer| match *writer {
                            Writer::Written { token, is_covered, .. } => {
                                is_covered
                                    && state.run == 0
                                    && !state.key.is_held_by(state.now, token)
                            }
                            _ => false,
                        };
                        state.writers.iter().any(over)
                    })
                },
            ),
            Property::sometimes(
                "a written value is overtaken",
                |model: &Self, state: &State<R>| {
                    model.seen.first(5, || {
                        let lost = |writer: &Writer| match *writer {
                            Writer::Filling { token, version, .. } => {
                                version < state.source && !state.key.is_leased_to(state.now, token)
                            }
                            _ => false,
                        };
                        state.writers.iter().any(lost)
                    })
                },
            ),
        ];
        if self.bounds.evictions > 0 {
            all.push(Property::sometimes(
                "a key is open under a writer, and filled",
                |model: &Self, state: &State<R>| {
                    model.seen.first(7, || {
                        let lost = |writer: &Writer| {
                            matches!(writer, Writer::Held { left: 0, is_answered: true, .. })
                        };
                        state.evictions > 0
                            && state.believed().is_some()
                            && state.writers.iter().any(lost)
                    })
                },
            ));
        }
        if self.bounds.restarts > 0 {
            all.push(Property::sometimes(
                "a hold is lost with the server",
                |model: &Self, state: &State<R>| {
                    model.seen.first(6, || {
                        let lost = |writer: &Writer| match *writer {
                            Writer::Held { run, left, token, is_answered: true } => {
                                run < state.run
                                    && left == 0
                                    && !state.key.is_held_by(state.now, token)
                            }
                            _ => false,
                        };
                        state.writers.iter().any(lost)
                    })
                },
            ));
        }
        all
    }
}
