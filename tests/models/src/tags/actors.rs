//! What loads and writers do, step by step.

use tiered_tiers::protocol::{Change, Look};

use crate::{Token, tagging::Tagging};

use super::{Entry, Server, State, Tags, Which, faults::Fault, incarnation, present};

/// A load. The run is that of the entry's server, as it was told before it began.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Loader<L> {
    Idle,
    /// Its tag is known, and so is the tag's generation.
    Known {
        run: u8,
        generation: Token,
        version: Option<u8>,
    },
    /// Its tag is not known; the epoch is.
    Unknown {
        run: u8,
        epoch: Token,
    },
    /// It has loaded, and looks at what its value depends on.
    Looking {
        run: u8,
        version: u8,
        load: L,
    },
    /// It has what it needs to store its value.
    Sealed {
        run: u8,
        version: u8,
        generation: Token,
    },
    Gone,
}

/// Who commits and invalidates the tag.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Writer {
    Idle,
    /// So many of its changes are made.
    Changing {
        version: u8,
        made: u8,
    },
    Gone,
}

/// A step. A client is named by its place among its like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Act {
    Load(usize, Load),
    Write(usize, Write),
    /// A change that nobody waits for is made.
    Arrives(Change),
    Evict(Which),
    Save(Which),
    /// A server is lost, and comes back with nothing, or with what is on its disk.
    Restart {
        which: Which,
        old: bool,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Load {
    /// The run of the entry's server was told at some time before, and may be over.
    Begin {
        knows: bool,
        run: u8,
    },
    Read,
    Look,
    Store,
    Crash,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Write {
    Commit,
    /// The run of the record's server was told at some time before, and may be over.
    Change {
        run: u8,
    },
    /// The message is late, and sent once more.
    ChangeLate,
    Crash,
}

/// All steps that may come next.
pub(super) fn acts<T: Tagging>(model: &Tags<T>, state: &State<T>, acts: &mut Vec<Act>) {
    for (place, loader) in state.loaders.iter().enumerate() {
        // Of several that have not begun only one.
        if *loader == Loader::Idle && state.loaders[..place].contains(loader) {
            continue;
        }
        load_steps(state.entry.run, loader, |step| acts.push(Act::Load(place, step)));
    }
    for (place, writer) in state.writers.iter().enumerate() {
        if place > 0 && state.writers[place - 1] == *writer {
            continue;
        }
        match *writer {
            Writer::Idle => acts.push(Act::Write(place, Write::Commit)),
            Writer::Changing { made, .. } => {
                let run = match T::order()[usize::from(made)] {
                    Change::Epoch => state.epoch.run,
                    Change::Generation => state.generation.run,
                };
                acts.extend((0..=run).map(|run| Act::Write(place, Write::Change { run })));
                if state.repeats < model.bounds.late {
                    acts.push(Act::Write(place, Write::ChangeLate));
                }
                acts.push(Act::Write(place, Write::Crash));
            }
            Writer::Gone => {}
        }
    }
    let [generations, epochs] = state.late;
    acts.extend((generations > 0).then_some(Act::Arrives(Change::Generation)));
    acts.extend((epochs > 0).then_some(Act::Arrives(Change::Epoch)));
    if state.evictions < model.bounds.evictions {
        acts.extend(state.generation.record.map(|_| Act::Evict(Which::Generation)));
        acts.extend(state.epoch.record.map(|_| Act::Evict(Which::Epoch)));
    }
    if state.restarts < model.bounds.restarts {
        loss(Which::Entry, &state.entry, acts);
        loss(Which::Generation, &state.generation, acts);
        loss(Which::Epoch, &state.epoch, acts);
    }
}

/// A restart with nothing saved is one with nothing, and with something saved one of before it was.
fn loss<V>(which: Which, server: &Server<V>, acts: &mut Vec<Act>) {
    if server.saved.is_some() {
        acts.push(Act::Restart { which, old: true });
        return;
    }
    acts.push(Act::Restart { which, old: false });
    acts.extend(server.record.as_ref().map(|_| Act::Save(which)));
}

fn load_steps<L>(run: u8, loader: &Loader<L>, mut may: impl FnMut(Load)) {
    match loader {
        Loader::Idle => {
            for knows in [true, false] {
                (0..=run).for_each(|run| may(Load::Begin { knows, run }));
            }
            return;
        }
        Loader::Known { version: None, .. } | Loader::Unknown { .. } => may(Load::Read),
        Loader::Known { .. } | Loader::Looking { .. } => may(Load::Look),
        Loader::Sealed { .. } => may(Load::Store),
        Loader::Gone => return,
    }
    may(Load::Crash);
}

/// Takes a step.
pub(super) fn run<T: Tagging>(model: &Tags<T>, state: &mut State<T>, act: Act) {
    match act {
        Act::Load(place, step) => {
            let loader = std::mem::replace(&mut state.loaders[place], Loader::Gone);
            state.loaders[place] = load(model, state, loader, step);
        }
        Act::Write(place, step) => {
            state.writers[place] = write(model, state, state.writers[place], step);
        }
        Act::Arrives(change) => {
            state.late[usize::from(change == Change::Epoch)] -= 1;
            let run = server(state, change).run;
            make(model, state, change, run);
        }
        Act::Evict(which) => {
            state.evictions += 1;
            match which {
                Which::Entry => state.entry.record = None,
                Which::Generation => state.generation.record = None,
                Which::Epoch => state.epoch.record = None,
            }
        }
        Act::Save(which) => match which {
            Which::Entry => state.entry.saved = state.entry.record,
            Which::Generation => state.generation.saved = state.generation.record,
            Which::Epoch => state.epoch.saved = state.epoch.record,
        },
        Act::Restart { which, old } => {
            state.restarts += 1;
            match which {
                Which::Entry => state.entry.restart(old),
                Which::Generation => state.generation.restart(old),
                Which::Epoch => state.epoch.restart(old),
            }
        }
    }
}

fn server<T: Tagging>(state: &mut State<T>, change: Change) -> &mut Server<T::Generation> {
    match change {
        Change::Epoch => &mut state.epoch,
        Change::Generation => &mut state.generation,
    }
}

/// Puts another generation in place.
fn make<T: Tagging>(model: &Tags<T>, state: &mut State<T>, change: Change, run: u8) -> Token {
    let token = match model.has(Fault::Counter) {
        true => present::<T>(server(state, change)).unwrap_or(0) + 1,
        false => {
            state.drawn += 1;
            state.drawn
        }
    };
    server(state, change).record = Some(T::generation(token, incarnation(run)));
    token
}

/// The generation that is in place; one that is missing is made.
fn read<T: Tagging>(model: &Tags<T>, state: &mut State<T>, change: Change) -> Token {
    let server = server(state, change);
    let run = server.run;
    present::<T>(server).unwrap_or_else(|| make(model, state, change, run))
}

fn load<T: Tagging>(
    model: &Tags<T>,
    state: &mut State<T>,
    loader: Loader<T::Revealing>,
    step: Load,
) -> Loader<T::Revealing> {
    let source = state.source;
    match (step, loader) {
        (Load::Begin { knows: true, run }, _) => {
            let generation = read(model, state, Change::Generation);
            Loader::Known { run, generation, version: None }
        }
        (Load::Begin { knows: false, run }, _) => {
            Loader::Unknown { run, epoch: read(model, state, Change::Epoch) }
        }
        (Load::Read, Loader::Known { run, generation, .. })
            if !model.has(Fault::GenerationAfterLoad) =>
        {
            Loader::Sealed { run, version: source, generation }
        }
        (Load::Read, Loader::Known { run, generation, .. }) => {
            Loader::Known { run, generation, version: Some(source) }
        }
        (Load::Look, Loader::Known { run, version: Some(version), .. }) => {
            Loader::Sealed { run, version, generation: read(model, state, Change::Generation) }
        }
        (Load::Read, Loader::Unknown { run, epoch }) => {
            Loader::Looking { run, version: source, load: T::revealing(epoch) }
        }
        (Load::Look, Loader::Looking { run, version, mut load })
            if model.has(Fault::EpochFirst) =>
        {
            T::generations(&mut load, Vec::new());
            let epoch = read(model, state, Change::Epoch);
            match T::epoch(load, epoch) {
                Some(_) => Loader::Known { run, generation: 0, version: Some(version) },
                None => Loader::Gone,
            }
        }
        (Load::Look, Loader::Looking { run, version, mut load }) => match T::look(&load) {
            Look::Generations => {
                let generation = read(model, state, Change::Generation);
                if model.has(Fault::NoEpoch) {
                    return Loader::Sealed { run, version, generation };
                }
                T::generations(&mut load, vec![generation]);
                Loader::Looking { run, version, load }
            }
            Look::Epoch => {
                let epoch = read(model, state, Change::Epoch);
                match T::epoch(load, epoch).as_deref() {
                    Some([generation]) => Loader::Sealed { run, version, generation: *generation },
                    _ => Loader::Gone,
                }
            }
        },
        (Load::Store, Loader::Sealed { run, version, generation }) => {
            state.entry.record = Some(Entry { version, generation, run });
            Loader::Gone
        }
        _ => Loader::Gone,
    }
}

fn write<T: Tagging>(model: &Tags<T>, state: &mut State<T>, writer: Writer, step: Write) -> Writer {
    match (step, writer) {
        (Write::Commit, _) => {
            state.source += 1;
            Writer::Changing { version: state.source, made: 0 }
        }
        (Write::Change { run }, Writer::Changing { version, made }) => {
            make(model, state, T::order()[usize::from(made)], run);
            if made == 0 {
                return Writer::Changing { version, made: 1 };
            }
            state.floor = state.floor.max(version);
            Writer::Gone
        }
        (Write::ChangeLate, Writer::Changing { made, .. }) => {
            state.repeats += 1;
            let change = T::order()[usize::from(made)];
            state.late[usize::from(change == Change::Epoch)] += 1;
            writer
        }
        _ => Writer::Gone,
    }
}
