//! What loads and writers do, step by step.

use tiered_tiers::{
    Claim,
    protocol::{Granted, HoldEnd},
};

use crate::{Token, answers::LIFE, record::Key};

use super::{Entry, Holds, State, faults::Fault};

/// A load.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Loader {
    Idle,
    Leased {
        run: u8,
        token: Token,
    },
    Loaded {
        version: u8,
        run: u8,
        token: Token,
    },
    /// It is done, has given up, or is dead.
    Gone,
}

/// A writer. The run is the server's as it knew it before anything else.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Writer {
    Idle,
    /// Its hold stands for so long, as far as it knows. It is answered for, or it may come late.
    Held {
        left: u8,
        is_answered: bool,
        run: u8,
        token: Token,
    },
    /// It has written without a hold.
    Committed {
        version: u8,
    },
    /// It has written under its hold, or without it.
    Written {
        is_covered: bool,
        is_answered: bool,
        version: u8,
        run: u8,
        token: Token,
    },
    /// It was alone, and has a lease for what it has written.
    Filling {
        version: u8,
        run: u8,
        token: Token,
    },
    Gone,
}

/// A message that is late. Its sender has sent another, or does without.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Message {
    Hold {
        token: Token,
    },
    RenewHold {
        token: Token,
    },
    /// With a token of its own for the lease that it asks for, if it does.
    EndHold {
        token: Token,
        lease: Option<Token>,
    },
    Delete,
}

/// A step. A client is named by its place among its like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Act {
    Load(usize, Load),
    Write(usize, Write),
    /// A message that nobody waits for is executed.
    Arrives(usize),
    Tick,
    /// The server drops a lease or a hold before its time.
    Evict,
    /// The server writes to its disk what it has.
    Save,
    /// The server is lost, and comes back with nothing, or with what is on its disk.
    Restart {
        old: bool,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Load {
    /// It was told the server's run at some time before, which may be over.
    Lease {
        run: u8,
        by_force: bool,
    },
    Read,
    Fill,
    Crash,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Write {
    /// It was told the server's run at some time before, which may be over.
    Hold {
        run: u8,
    },
    /// The message is late, and the writer goes on.
    HoldLate,
    Renew,
    RenewLate,
    Commit,
    Delete,
    /// It is executed, and its answer is lost.
    DeleteUnheard,
    /// The message is late, and sent once more.
    DeleteLate,
    End {
        through: bool,
    },
    EndUnheard {
        through: bool,
    },
    EndLate {
        through: bool,
    },
    Fill,
    Crash,
}

impl Loader {
    pub(super) fn token_mut(&mut self) -> Option<&mut Token> {
        match self {
            Self::Leased { token, .. } | Self::Loaded { token, .. } => Some(token),
            Self::Idle | Self::Gone => None,
        }
    }

    pub(super) fn version_mut(&mut self) -> Option<&mut u8> {
        match self {
            Self::Loaded { version, .. } => Some(version),
            _ => None,
        }
    }
}

impl Writer {
    pub(super) fn token_mut(&mut self) -> Option<&mut Token> {
        match self {
            Self::Held { token, .. }
            | Self::Written { token, .. }
            | Self::Filling { token, .. } => Some(token),
            _ => None,
        }
    }

    pub(super) fn version_mut(&mut self) -> Option<&mut u8> {
        match self {
            Self::Committed { version }
            | Self::Written { version, .. }
            | Self::Filling { version, .. } => Some(version),
            _ => None,
        }
    }

    /// Whether it has written what no hold covers, and has not ended that.
    pub(super) fn is_open(&self) -> bool {
        matches!(self, Self::Committed { .. } | Self::Written { is_covered: false, .. })
    }
}

impl Message {
    pub(super) fn tokens_mut(&mut self) -> impl Iterator<Item = &mut Token> {
        let (token, lease) = match self {
            Self::Hold { token } | Self::RenewHold { token } => (Some(token), None),
            Self::EndHold { token, lease } => (Some(token), lease.as_mut()),
            Self::Delete => (None, None),
        };
        token.into_iter().chain(lease)
    }
}

/// All steps that may come next.
pub(super) fn acts<R: Key<Entry>>(model: &Holds<R>, state: &State<R>, acts: &mut Vec<Act>) {
    let has_room = state.late.iter().flatten().count() < model.bounds.late;
    for (place, loader) in state.loaders.iter().enumerate() {
        if place == 0 || state.loaders[place - 1] != *loader {
            load_steps(state.run, *loader, |step| acts.push(Act::Load(place, step)));
        }
    }
    for (place, writer) in state.writers.iter().enumerate() {
        if place == 0 || state.writers[place - 1] != *writer {
            write_steps(
                state.run,
                *writer,
                has_room,
                model.has(Fault::UnansweredWritesThrough),
                |step| acts.push(Act::Write(place, step)),
            );
        }
    }
    let messages = state.late.iter().enumerate().filter(|(_, message)| message.is_some());
    acts.extend(messages.map(|(place, _)| Act::Arrives(place)));
    // A restart with nothing saved is one with nothing, and with something saved one of before it was.
    if state.run < model.bounds.restarts {
        match state.saved {
            Some(_) => acts.push(Act::Restart { old: true }),
            None => acts.push(Act::Restart { old: false }),
        }
        if state.saved.is_none() && state.key != R::default() {
            acts.push(Act::Save);
        }
    }
    if state.evictions < model.bounds.evictions {
        acts.push(Act::Evict);
    }
    if !model.is_plain || state.ticks < LIFE {
        acts.push(Act::Tick);
    }
}

fn load_steps(run: u8, loader: Loader, mut may: impl FnMut(Load)) {
    match loader {
        Loader::Idle => {
            for by_force in [false, true] {
                (0..=run).for_each(|run| may(Load::Lease { run, by_force }));
            }
            return;
        }
        Loader::Leased { .. } => may(Load::Read),
        Loader::Loaded { .. } => may(Load::Fill),
        Loader::Gone => return,
    }
    may(Load::Crash);
}

fn write_steps(
    run: u8,
    writer: Writer,
    has_room: bool,
    unanswered_writes_through: bool,
    mut may: impl FnMut(Write),
) {
    let mut late = Vec::new();
    match writer {
        Writer::Idle => {
            may(Write::Commit);
            (0..=run).for_each(|run| may(Write::Hold { run }));
            if has_room {
                may(Write::HoldLate);
            }
            return;
        }
        Writer::Held { .. } => {
            [Write::Commit, Write::Renew].into_iter().for_each(&mut may);
            late.push(Write::RenewLate);
        }
        Writer::Committed { .. } => {
            [Write::Delete, Write::DeleteUnheard].into_iter().for_each(&mut may);
            late.push(Write::DeleteLate);
        }
        Writer::Written { is_answered, .. } => {
            may(Write::Renew);
            late.push(Write::RenewLate);
            let throughs = if is_answered || unanswered_writes_through { 2 } else { 1 };
            for through in [false, true].into_iter().take(throughs) {
                may(Write::End { through });
                may(Write::EndUnheard { through });
                late.push(Write::EndLate { through });
            }
        }
        Writer::Filling { .. } => may(Write::Fill),
        Writer::Gone => return,
    }
    if has_room {
        late.into_iter().for_each(&mut may);
    }
    may(Write::Crash);
}

/// Takes a step.
pub(super) fn run<R: Key<Entry>>(model: &Holds<R>, state: &mut State<R>, act: Act) {
    match act {
        Act::Load(place, step) => state.loaders[place] = load(state, state.loaders[place], step),
        Act::Write(place, step) => {
            state.writers[place] = write(model, state, state.writers[place], step);
        }
        Act::Arrives(place) => match state.late[place].take() {
            Some(Message::Hold { token }) => hold(state, token),
            Some(Message::RenewHold { token }) => renew(model, state, token),
            Some(Message::EndHold { token, lease }) => {
                end_hold(state, token, lease);
            }
            Some(Message::Delete) => delete(state),
            None => {}
        },
        Act::Tick => {
            state.now += 1;
            state.ticks += 1;
            for writer in &mut state.writers {
                if let Writer::Held { left, .. } = writer {
                    *left = left.saturating_sub(1);
                }
            }
        }
        Act::Evict => {
            state.evictions += 1;
            state.key.evict_guard();
            let State { key, now, writers, .. } = state;
            for writer in writers {
                if let Writer::Held { left, token, .. } = writer
                    && !key.is_held_by(*now, *token)
                {
                    *left = 0;
                }
            }
        }
        Act::Save => state.saved = Some(state.key.clone()),
        Act::Restart { old } => {
            let saved = state.saved.take();
            state.key = saved.filter(|_| old).unwrap_or_default();
            state.run += 1;
            for writer in &mut state.writers {
                if let Writer::Held { left, .. } = writer {
                    *left = 0;
                }
            }
        }
    }
}

fn load<R: Key<Entry>>(state: &mut State<R>, loader: Loader, step: Load) -> Loader {
    let now = state.now;
    match (step, loader) {
        (Load::Lease { run, by_force }, _) => {
            let token = state.fresh();
            let claim = if by_force { Claim::ByForce } else { Claim::IfFree };
            match state.key.lease(now, token, now + LIFE, claim) {
                Granted::Yes => Loader::Leased { run, token },
                Granted::Held | Granted::OnHold => Loader::Gone,
            }
        }
        (Load::Read, Loader::Leased { run, token }) => {
            Loader::Loaded { version: state.source, run, token }
        }
        (Load::Fill, Loader::Loaded { version, run, token }) => {
            state.key.fill(now, token, Entry { version, run, is_written: false });
            Loader::Gone
        }
        _ => Loader::Gone,
    }
}

fn write<R: Key<Entry>>(
    model: &Holds<R>,
    state: &mut State<R>,
    writer: Writer,
    step: Write,
) -> Writer {
    let now = state.now;
    match (step, writer) {
        (Write::Hold { run }, _) => {
            let token = state.fresh();
            hold(state, token);
            if model.has(Fault::HoldTwice) {
                leave(state, Message::Hold { token });
            }
            Writer::Held { left: LIFE, is_answered: true, run, token }
        }
        (Write::HoldLate, _) => {
            let token = state.fresh();
            leave(state, Message::Hold { token });
            Writer::Held { left: 0, is_answered: false, run: state.run, token }
        }
        (Write::Renew, Writer::Held { is_answered, run, token, .. }) => {
            renew(model, state, token);
            Writer::Held { left: LIFE, is_answered, run, token }
        }
        (Write::Renew, Writer::Written { token, .. }) => {
            renew(model, state, token);
            writer
        }
        (Write::RenewLate, Writer::Held { token, .. } | Writer::Written { token, .. }) => {
            leave(state, Message::RenewHold { token });
            writer
        }
        (Write::Commit, _) => {
            state.source += 1;
            let version = state.source;
            match writer {
                Writer::Held { left, is_answered, run, token } => {
                    Writer::Written { is_covered: left > 0, is_answered, version, run, token }
                }
                _ => Writer::Committed { version },
            }
        }
        (Write::Delete, Writer::Committed { version }) => {
            delete(state);
            state.floor = state.floor.max(version);
            Writer::Gone
        }
        (Write::DeleteUnheard, _) => {
            delete(state);
            Writer::Gone
        }
        (Write::DeleteLate, _) => {
            leave(state, Message::Delete);
            writer
        }
        (Write::End { through }, Writer::Written { version, run, token, .. }) => {
            let lease = through.then(|| state.fresh());
            let end = end_hold(state, token, lease);
            state.floor = state.floor.max(version);
            let is_alone = end == HoldEnd::Alone || model.has(Fault::NeverAsksWhetherAlone);
            match lease.filter(|_| is_alone) {
                Some(token) => Writer::Filling { version, run, token },
                None => Writer::Gone,
            }
        }
        (Write::EndUnheard { through }, Writer::Written { token, .. }) => {
            let lease = through.then(|| state.fresh());
            end_hold(state, token, lease);
            Writer::Gone
        }
        (Write::EndLate { through }, Writer::Written { token, .. }) => {
            let lease = through.then(|| state.fresh());
            leave(state, Message::EndHold { token, lease });
            writer
        }
        (Write::Fill, Writer::Filling { version, run, token }) => {
            let run = if model.has(Fault::RunAfterHold) { state.run } else { run };
            let entry = Entry { version, run, is_written: true };
            if model.has(Fault::NeverAsksWhetherAlone) {
                state.key.lease(now, token, now + LIFE, Claim::IfFree);
            }
            state.key.fill(now, token, entry);
            Writer::Gone
        }
        _ => {
            state.is_exposed |= writer.is_open();
            Writer::Gone
        }
    }
}

fn leave<R>(state: &mut State<R>, message: Message) {
    if let Some(place) = state.late.iter_mut().find(|place| place.is_none()) {
        *place = Some(message);
    }
}

fn delete<R: Key<Entry>>(state: &mut State<R>) {
    state.key.delete();
    state.is_exposed = false;
}

fn hold<R: Key<Entry>>(state: &mut State<R>, token: Token) {
    // One that begins is one more reason to load anew, for everybody.
    state.is_exposed &= state.key.is_held_by(state.now, token);
    state.key.hold(state.now, token, state.now + LIFE);
}

fn renew<R: Key<Entry>>(model: &Holds<R>, state: &mut State<R>, token: Token) {
    match model.has(Fault::RenewalBegins) {
        true => state.key.hold(state.now, token, state.now + LIFE),
        false => state.key.renew_hold(state.now, token, state.now + LIFE),
    }
}

fn end_hold<R: Key<Entry>>(state: &mut State<R>, token: Token, lease: Option<Token>) -> HoldEnd {
    state.key.end_hold(state.now, token, lease.map(|lease| (lease, state.now + LIFE)))
}
