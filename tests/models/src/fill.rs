//! Fill: one key on a server, loads that store what they read, and writers that commit and then delete or `set`.
//!
//! A load asks for the run of the server, takes the lease, reads the source, and fills under the run it was told. A
//! writer commits to the source; then it deletes, or it displaces (drops the value, takes the lease by force) and
//! fills with its own. Any of their messages may come late, when its sender has given up. The server may come back
//! empty, or with what it had at some moment before.
//!
//! What is believed is what a reader would take: an entry of the server's present run.

mod actors;
mod faults;
mod quotient;
mod server;

use std::{
    fmt::{self, Display},
    marker::PhantomData,
};

use stateright::{Model, Property};

use crate::{
    Catch, Figures, exhaust,
    hunt::Seen,
    record::{Key, shipped::Record},
};

pub use faults::mutants;

use actors::{Act, Loader};
use faults::Fault;
use server::{Entry, Message, Origin, State};

/// How large a search is.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Loads, at most 3.
    pub loaders: usize,
    /// Writers, at most 3.
    pub writers: usize,
    /// Messages that are on their way without their sender at once, at most 3.
    pub late: usize,
    /// How often the server is lost.
    pub restarts: u8,
    /// The server tells its run, and may come back with old data; else it comes back empty.
    pub tells_run: bool,
}

impl Bounds {
    /// What every run of the tests searches.
    pub const SMALL: &[Self] = &[Self::TELLING, Self { tells_run: false, ..Self::TELLING }];
    /// What takes its time.
    pub const FULL: &[Self] = &[
        Self { loaders: 3, writers: 3, late: 2, ..Self::TELLING },
        Self { loaders: 3, writers: 3, late: 2, tells_run: false, ..Self::TELLING },
        Self { loaders: 3, restarts: 2, ..Self::TELLING },
    ];
    const TELLING: Self = Self { loaders: 2, writers: 2, late: 1, restarts: 1, tells_run: true };
}

impl Display for Bounds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { loaders, writers, late, restarts, tells_run } = self;
        write!(f, "{loaders} loads, {writers} writers, {late} late messages, {restarts} restarts")?;
        if *tells_run { Ok(()) } else { f.write_str(" of a server that does not tell its run") }
    }
}

/// Searches the shipped record.
///
/// # Errors
/// What does not hold.
pub fn check(bounds: Bounds, threads: usize) -> Result<Figures, Catch> {
    exhaust(Fill::<Record<_, _, _>>::new(bounds, None, false), threads)
}

/// The model, over a copy of the record.
#[derive(Debug)]
struct Fill<R> {
    bounds: Bounds,
    fault: Option<Fault>,
    /// States are as they are, and not one for all that are alike.
    is_plain: bool,
    seen: Seen,
    record: PhantomData<fn() -> R>,
}

impl<R: Key<Entry>> Fill<R> {
    fn new(bounds: Bounds, fault: Option<Fault>, is_plain: bool) -> Self {
        Self { bounds, fault, is_plain, seen: Seen::default(), record: PhantomData }
    }

    fn has(&self, fault: Fault) -> bool {
        self.fault == Some(fault)
    }

    /// What a reader would take.
    fn believed<'s>(&self, state: &'s State<R>) -> Option<&'s Entry> {
        let entry = state.key.value(state.now)?;
        let any_run = !self.bounds.tells_run || self.has(Fault::NoIncarnation);
        Some(entry).filter(|entry| any_run || entry.run == state.run)
    }

    fn is_sound(&self, state: &State<R>) -> bool {
        self.believed(state).is_none_or(|entry| match entry.origin {
            Origin::Loaded => entry.version >= state.floor,
            Origin::Set => state.ruled_out & (1 << entry.version) == 0,
        })
    }
}

impl<R: Key<Entry>> Model for Fill<R> {
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
                "nothing loaded before an acknowledged delete is believed",
                |model: &Self, state| model.is_sound(state),
            ),
            Property::sometimes("a load is overtaken", |model: &Self, state: &State<R>| {
                model.seen.first(0, || {
                    state.loaders.iter().any(|loader| match *loader {
                        Loader::Loaded { token, version, .. } => {
                            version < state.floor && !state.key.is_leased_to(state.now, token)
                        }
                        _ => false,
                    })
                })
            }),
            Property::sometimes(
                "a load is believed after a delete",
                |model: &Self, state: &State<R>| {
                    let is_new = |entry: &Entry| entry.origin == Origin::Loaded && state.floor > 0;
                    model.seen.first(1, || model.believed(state).is_some_and(is_new))
                },
            ),
            Property::sometimes("what was set is believed", |model: &Self, state: &State<R>| {
                let is_set = |entry: &Entry| entry.origin == Origin::Set;
                model.seen.first(2, || model.believed(state).is_some_and(is_set))
            }),
            Property::sometimes(
                "a late fill finds its token gone",
                |model: &Self, state: &State<R>| {
                    model.seen.first(3, || {
                        state.late.iter().flatten().any(|message| match *message {
                            Message::Fill { token, entry } => {
                                entry.version < state.floor
                                    && !state.key.is_leased_to(state.now, token)
                            }
                            _ => false,
                        })
                    })
                },
            ),
            Property::sometimes(
                "a lease runs out under its load",
                |model: &Self, state: &State<R>| {
                    model.seen.first(4, || {
                        // Nobody else did anything.
                        let is_idle = |loader: &&Loader| **loader == Loader::Idle;
                        let idle = state.loaders.iter().filter(is_idle).count();
                        (state.source, state.restarts, state.late) == (0, 0, [None; 3])
                            && idle + 1 == model.bounds.loaders
                            && state.loaders.iter().any(|loader| match *loader {
                                Loader::Loaded { token, .. } => {
                                    !state.key.is_leased_to(state.now, token)
                                }
                                _ => false,
                            })
                    })
                },
            ),
        ];
        if self.bounds.tells_run {
            all.push(Property::sometimes(
                "an old value comes back",
                |model: &Self, state: &State<R>| {
                    let is_old = |entry: &Entry| entry.version < state.floor;
                    model.seen.first(5, || state.key.value(state.now).is_some_and(is_old))
                },
            ));
            all.push(Property::sometimes(
                "an old lease comes back",
                |model: &Self, state: &State<R>| {
                    model.seen.first(6, || {
                        state.loaders.iter().any(|loader| match *loader {
                            Loader::Loaded { run, token, version } => {
                                run != state.run
                                    && version < state.floor
                                    && state.key.is_leased_to(state.now, token)
                            }
                            _ => false,
                        })
                    })
                },
            ));
        }
        all
    }
}
