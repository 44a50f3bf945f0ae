//! Tags: writers that commit and then invalidate a tag, and loads of values that depend on it.
//!
//! The entry, the tag's generation and the namespace's epoch are on a server each: of the servers of a cluster any one may be
//! lost alone. A load knows its tag before it begins, or learns it from the value. Nothing else fences it here: a
//! load stores what it has, and a generation must do it all.

mod actors;
mod faults;

use std::{
    fmt::{self, Display},
    marker::PhantomData,
};

use stateright::{Model, Property};

use crate::{
    Catch, Figures, Incarnation, Token, exhaust,
    hunt::Seen,
    tagging::{Tagging, shipped::Text},
};

pub use faults::mutants;

use actors::{Act, Loader, Writer};
use faults::Fault;

/// How large a search is.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Loads, at most 3.
    pub loaders: usize,
    /// Writers, at most 3.
    pub writers: usize,
    /// Changes of a generation that are sent again, while the first may still be on its way.
    pub late: u8,
    /// How often a generation, or the epoch, is evicted.
    pub evictions: u8,
    /// How often one of the servers is lost.
    pub restarts: u8,
}

impl Bounds {
    /// What every run of the tests searches.
    pub const SMALL: &[Self] = &[
        Self { loaders: 2, writers: 2, late: 1, evictions: 0, restarts: 0 },
        Self { loaders: 1, writers: 2, late: 0, evictions: 1, restarts: 1 },
    ];
    /// What takes its time.
    pub const FULL: &[Self] = &[
        Self { loaders: 3, writers: 3, late: 0, evictions: 0, restarts: 0 },
        Self { loaders: 3, writers: 2, late: 1, evictions: 0, restarts: 0 },
        Self { loaders: 2, writers: 2, late: 1, evictions: 1, restarts: 1 },
    ];
}

impl Display for Bounds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { loaders, writers, late, evictions, restarts } = self;
        write!(
            f,
            "{loaders} loads, {writers} writers, {late} repeated changes, {evictions} evictions, {restarts} restarts"
        )
    }
}

/// Searches the shipped decisions.
///
/// # Errors
/// What does not hold.
pub fn check(bounds: Bounds, threads: usize) -> Result<Figures, Catch> {
    exhaust(Tags::<Text>::new(bounds, None), threads)
}

/// The model, over a copy of the decisions.
#[derive(Debug)]
struct Tags<T> {
    bounds: Bounds,
    fault: Option<Fault>,
    seen: Seen,
    decisions: PhantomData<fn() -> T>,
}

/// What is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Entry {
    version: u8,
    generation: Token,
    /// The run of the server that its load knew.
    run: u8,
}

/// A server with one record, and its run.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Server<V> {
    record: Option<V>,
    /// What it has written to its disk.
    saved: Option<V>,
    run: u8,
}

/// One of the servers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Which {
    Entry,
    Generation,
    Epoch,
}

#[derive(Debug)]
struct State<T: Tagging> {
    /// The newest version in the source.
    source: u8,
    entry: Server<Entry>,
    generation: Server<T::Generation>,
    epoch: Server<T::Generation>,
    loaders: [Loader<T::Revealing>; 3],
    writers: [Writer; 3],
    /// Changes of the generation, and of the epoch, that are on their way without their sender.
    late: [u8; 2],
    repeats: u8,
    evictions: u8,
    restarts: u8,
    /// The last token that was drawn.
    drawn: Token,
    /// The newest version that was acknowledged.
    floor: u8,
}

// By hand, for a derived one would want all of this of the decisions.
impl<T: Tagging> Clone for State<T> {
    fn clone(&self) -> Self {
        Self {
            entry: self.entry.clone(),
            generation: self.generation.clone(),
            epoch: self.epoch.clone(),
            loaders: self.loaders.clone(),
            ..*self
        }
    }
}

impl<T: Tagging> State<T> {
    fn parts(&self) -> impl PartialEq + std::hash::Hash + '_ {
        let servers = (&self.entry, &self.generation, &self.epoch);
        let counts = (self.source, self.late, self.repeats, self.evictions, self.restarts);
        (servers, &self.loaders, self.writers, counts, self.drawn, self.floor)
    }
}

impl<T: Tagging> PartialEq for State<T> {
    fn eq(&self, other: &Self) -> bool {
        self.entry == other.entry
            && self.generation == other.generation
            && self.epoch == other.epoch
            && self.loaders == other.loaders
            && self.writers == other.writers
            && (self.source, self.late, self.repeats) == (other.source, other.late, other.repeats)
            && (self.evictions, self.restarts) == (other.evictions, other.restarts)
            && (self.drawn, self.floor) == (other.drawn, other.floor)
    }
}

impl<T: Tagging> Eq for State<T> {}

impl<T: Tagging> std::hash::Hash for State<T> {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.parts().hash(state);
    }
}

impl<V: Copy> Server<V> {
    fn new() -> Self {
        Self { record: None, saved: None, run: 0 }
    }

    fn restart(&mut self, old: bool) {
        self.record = self.saved.take().filter(|_| old);
        self.run += 1;
    }
}

/// A run as the protocol knows it.
fn incarnation(run: u8) -> Option<Incarnation> {
    Some(Incarnation::new(u64::from(run) + 1))
}

impl<T: Tagging> Tags<T> {
    fn new(bounds: Bounds, fault: Option<Fault>) -> Self {
        Self { bounds, fault, seen: Seen::default(), decisions: PhantomData }
    }

    fn has(&self, fault: Fault) -> bool {
        self.fault == Some(fault)
    }

    /// What a reader would take: an entry of the present run, under the present generation.
    fn believed<'s>(&self, state: &'s State<T>) -> Option<&'s Entry> {
        let generation = present::<T>(&state.generation)?;
        let entry = state.entry.record.as_ref()?;
        (entry.generation == generation && entry.run == state.entry.run).then_some(entry)
    }
}

/// The token of a record, if it is of the present run.
fn present<T: Tagging>(server: &Server<T::Generation>) -> Option<Token> {
    T::in_run(server.record?, incarnation(server.run))
}

impl<T: Tagging> Model for Tags<T> {
    type State = State<T>;
    type Action = Act;

    fn init_states(&self) -> Vec<State<T>> {
        let (mut loaders, mut writers) = ([const { Loader::Gone }; 3], [Writer::Gone; 3]);
        loaders.iter_mut().take(self.bounds.loaders).for_each(|loader| *loader = Loader::Idle);
        writers.iter_mut().take(self.bounds.writers).for_each(|writer| *writer = Writer::Idle);
        writers.sort_unstable();
        vec![State {
            source: 0,
            entry: Server::new(),
            generation: Server::new(),
            epoch: Server::new(),
            loaders,
            writers,
            late: [0; 2],
            repeats: 0,
            evictions: 0,
            restarts: 0,
            drawn: 0,
            floor: 0,
        }]
    }

    fn actions(&self, state: &State<T>, acts: &mut Vec<Act>) {
        actors::acts(self, state, acts);
    }

    fn next_state(&self, state: &State<T>, act: Act) -> Option<State<T>> {
        let mut next = state.clone();
        actors::run(self, &mut next, act);
        next.writers.sort_unstable();
        (next != *state).then_some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        let mut all = vec![
            Property::always(
                "nothing loaded before an acknowledged invalidation is believed",
                |model: &Self, state: &State<T>| {
                    model.believed(state).is_none_or(|entry| entry.version >= state.floor)
                },
            ),
            Property::sometimes(
                "a load is believed after an invalidation",
                |model: &Self, state: &State<T>| {
                    model.seen.first(0, || state.floor > 0 && model.believed(state).is_some())
                },
            ),
            Property::sometimes(
                "an old entry is not believed",
                |model: &Self, state: &State<T>| {
                    model.seen.first(1, || {
                        let is_old = |entry: Entry| {
                            entry.version < state.floor && entry.run == state.entry.run
                        };
                        state.entry.record.is_some_and(is_old)
                            && present::<T>(&state.generation).is_some()
                    })
                },
            ),
            Property::sometimes(
                "a load reveals its tag and is believed",
                |model: &Self, state: &State<T>| {
                    model.seen.first(2, || {
                        let is_known = |loader: &Loader<_>| matches!(loader, Loader::Known { .. });
                        let is_idle = |loader: &Loader<_>| *loader == Loader::Idle;
                        let epoch = present::<T>(&state.epoch);
                        // Who has asked for the epoch if not a load that reveals.
                        epoch.is_some()
                            && state.source == 0
                            && model.believed(state).is_some()
                            && !state.loaders.iter().any(is_known)
                            && state.loaders.iter().filter(|loader| is_idle(loader)).count() + 1
                                == model.bounds.loaders
                    })
                },
            ),
            Property::sometimes(
                "a load reveals its tag and finds another epoch",
                |model: &Self, state: &State<T>| {
                    model.seen.first(3, || {
                        let epoch = present::<T>(&state.epoch);
                        state.loaders.iter().any(|loader| match loader {
                            Loader::Looking { load, version, .. } if *version < state.source => {
                                epoch.is_some_and(|epoch| {
                                    T::epoch(load.clone(), epoch).is_none()
                                        && T::look(load) == tiered_tiers::protocol::Look::Epoch
                                })
                            }
                            _ => false,
                        })
                    })
                },
            ),
        ];
        if self.bounds.restarts > 0 {
            all.push(Property::sometimes(
                "an old generation comes back",
                |model: &Self, state: &State<T>| {
                    model.seen.first(4, || {
                        state.generation.record.is_some()
                            && present::<T>(&state.generation).is_none()
                            && state.floor > 0
                    })
                },
            ));
        }
        all
    }
}
