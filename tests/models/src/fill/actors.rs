//! What loads and writers do, step by step.

use tiered_tiers::{Claim, protocol::Granted};

use crate::{Token, answers::LIFE, record::Key};

use super::{
    Fill,
    faults::Fault,
    server::{Entry, Message, Origin, State},
};

/// A load.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Loader {
    Idle,
    Leased {
        run: u8,
        token: Token,
    },
    Loaded {
        run: u8,
        token: Token,
        version: u8,
    },
    /// It is done, has given up, or is dead.
    Gone,
}

/// A writer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Writer {
    Idle,
    Committed {
        version: u8,
    },
    /// It has deleted, and will do so once more: a fault.
    Deleted {
        version: u8,
    },
    Displaced {
        version: u8,
        run: u8,
        token: Token,
    },
    Gone,
}

impl Loader {
    pub(super) fn token_mut(&mut self) -> Option<&mut Token> {
        match self {
            Self::Leased { token, .. } | Self::Loaded { token, .. } => Some(token),
            _ => None,
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
            Self::Displaced { token, .. } => Some(token),
            _ => None,
        }
    }

    pub(super) fn version_mut(&mut self) -> Option<&mut u8> {
        match self {
            Self::Committed { version }
            | Self::Deleted { version }
            | Self::Displaced { version, .. } => Some(version),
            Self::Idle | Self::Gone => None,
        }
    }
}

/// A step. A client is named by its place among its like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Act {
    Load(usize, Load),
    Write(usize, Write),
    /// A message that nobody waits for is executed.
    Arrives(usize),
    Tick,
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
    Renew,
    /// The message is late, and the load goes on.
    RenewLate,
    Release,
    Crash,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Write {
    Commit,
    Delete,
    /// It is executed, and its answer is lost.
    DeleteUnheard,
    /// The message is late, and sent once more.
    DeleteLate,
    /// It was told the server's run at some time before, which may be over.
    Displace {
        run: u8,
    },
    /// The message is late, and sent once more with another token.
    DisplaceLate,
    Fill,
    /// The message is late, and the writer gives up.
    FillLate,
    Crash,
}

/// All steps that may come next.
pub(super) fn acts<R: Key<Entry>>(model: &Fill<R>, state: &State<R>, acts: &mut Vec<Act>) {
    let late = state.late.iter().flatten().count();
    let has_room = late < model.bounds.late;
    each(&state.loaders, |place, loader| {
        load_steps(state.run, loader, has_room, |step| acts.push(Act::Load(place, step)))
    });
    each(&state.writers, |place, writer| {
        write_steps(state.run, writer, has_room, |step| acts.push(Act::Write(place, step)))
    });
    let messages = state.late.iter().enumerate().filter(|(_, message)| message.is_some());
    acts.extend(messages.map(|(place, _)| Act::Arrives(place)));
    // A restart with nothing saved is one with nothing, and with something saved one of before it was.
    let may_restart = state.restarts < model.bounds.restarts;
    if may_restart && state.saved.is_none() {
        acts.push(Act::Restart { old: false });
        if model.bounds.tells_run && state.key != R::default() {
            acts.push(Act::Save);
        }
    }
    if may_restart && state.saved.is_some() {
        acts.push(Act::Restart { old: true });
    }
    if (!model.is_plain || state.ticks < LIFE) && state.is_leased() {
        acts.push(Act::Tick);
    }
}

/// Each client, but of several that are alike only one.
fn each<C: Copy + PartialEq>(clients: &[C], mut steps: impl FnMut(usize, C)) {
    for (place, client) in clients.iter().enumerate() {
        if place == 0 || clients[place - 1] != *client {
            steps(place, *client);
        }
    }
}

fn load_steps(run: u8, loader: Loader, has_room: bool, mut may: impl FnMut(Load)) {
    match loader {
        Loader::Idle => {
            for by_force in [false, true] {
                (0..=run).for_each(|run| may(Load::Lease { run, by_force }));
            }
            return;
        }
        Loader::Leased { .. } => [Load::Read, Load::Release].into_iter().for_each(&mut may),
        Loader::Loaded { .. } => may(Load::Fill),
        Loader::Gone => return,
    }
    may(Load::Renew);
    if has_room {
        may(Load::RenewLate);
    }
    may(Load::Crash);
}

fn write_steps(run: u8, writer: Writer, has_room: bool, mut may: impl FnMut(Write)) {
    match writer {
        Writer::Idle => return may(Write::Commit),
        Writer::Committed { .. } => {
            [Write::Delete, Write::DeleteUnheard].into_iter().for_each(&mut may);
            (0..=run).for_each(|run| may(Write::Displace { run }));
            if has_room {
                [Write::DeleteLate, Write::DisplaceLate].into_iter().for_each(&mut may);
            }
        }
        Writer::Deleted { .. } => may(Write::Delete),
        Writer::Displaced { .. } => {
            may(Write::Fill);
            if has_room {
                may(Write::FillLate);
            }
        }
        Writer::Gone => return,
    }
    may(Write::Crash);
}

/// Takes a step.
pub(super) fn run<R: Key<Entry>>(model: &Fill<R>, state: &mut State<R>, act: Act) {
    match act {
        Act::Load(place, step) => {
            let loader = state.loaders[place];
            state.loaders[place] = load(model, state, loader, step);
        }
        Act::Write(place, step) => {
            let writer = state.writers[place];
            state.writers[place] = write(model, state, writer, step);
        }
        Act::Arrives(place) => {
            if let Some(message) = state.late[place].take() {
                execute(model, state, message);
            }
        }
        Act::Tick => {
            state.now += 1;
            state.ticks += 1;
        }
        Act::Save => state.saved = Some(state.key.clone()),
        Act::Restart { old } => {
            let saved = state.saved.take();
            state.key = saved.filter(|_| old).unwrap_or_default();
            state.restarts += 1;
            state.counter = 0;
            if model.bounds.tells_run {
                state.run += 1;
            }
        }
    }
}

fn load<R: Key<Entry>>(
    model: &Fill<R>,
    state: &mut State<R>,
    loader: Loader,
    step: Load,
) -> Loader {
    match (step, loader) {
        (Load::Lease { run, by_force }, _) => {
            let token = token(model, state);
            match execute(model, state, Message::Lease { token, by_force }) {
                true => Loader::Leased { run, token },
                false => Loader::Gone,
            }
        }
        (Load::Read, Loader::Leased { run, token }) => {
            Loader::Loaded { run, token, version: state.source }
        }
        (Load::Fill, Loader::Loaded { run, token, version }) => {
            let run = if model.has(Fault::RunAfterLoad) { state.run } else { run };
            let entry = Entry { version, run, origin: Origin::Loaded };
            execute(model, state, Message::Fill { token, entry });
            Loader::Gone
        }
        (Load::Renew, Loader::Leased { token, .. } | Loader::Loaded { token, .. }) => {
            execute(model, state, Message::Renew { token });
            loader
        }
        (Load::RenewLate, Loader::Leased { token, .. } | Loader::Loaded { token, .. }) => {
            state.leave(Message::Renew { token });
            loader
        }
        (Load::Release, Loader::Leased { token, .. }) => {
            execute(model, state, Message::Release { token });
            Loader::Gone
        }
        _ => Loader::Gone,
    }
}

fn write<R: Key<Entry>>(
    model: &Fill<R>,
    state: &mut State<R>,
    writer: Writer,
    step: Write,
) -> Writer {
    match (step, writer) {
        (Write::Commit, _) => {
            state.source += 1;
            Writer::Committed { version: state.source }
        }
        (Write::Delete, Writer::Committed { version }) if model.has(Fault::DoubleDelete) => {
            execute(model, state, Message::Delete);
            Writer::Deleted { version }
        }
        (Write::Delete, Writer::Committed { version } | Writer::Deleted { version }) => {
            execute(model, state, Message::Delete);
            state.floor = state.floor.max(version);
            state.ruled_out |= state.ended;
            Writer::Gone
        }
        (Write::DeleteUnheard, _) => {
            execute(model, state, Message::Delete);
            Writer::Gone
        }
        (Write::DeleteLate, _) => {
            state.leave(Message::Delete);
            writer
        }
        (Write::Displace { run }, Writer::Committed { version }) => {
            let token = token(model, state);
            execute(model, state, Message::Displace { token });
            Writer::Displaced { version, run, token }
        }
        (Write::DisplaceLate, _) => {
            let token = token(model, state);
            state.leave(Message::Displace { token });
            writer
        }
        (Write::Fill | Write::FillLate, Writer::Displaced { version, run, token }) => {
            let entry = Entry { version, run, origin: Origin::Set };
            let message = Message::Fill { token, entry };
            state.ended |= 1 << version;
            if step == Write::FillLate {
                state.leave(message);
            } else {
                execute(model, state, message);
                // It wins over every load that began before, whichever `set` it lost to.
                state.floor = state.floor.max(version);
            }
            Writer::Gone
        }
        (_, Writer::Displaced { version, .. }) => {
            state.ended |= 1 << version;
            Writer::Gone
        }
        _ => Writer::Gone,
    }
}

/// A new token.
fn token<R: Key<Entry>>(model: &Fill<R>, state: &mut State<R>) -> Token {
    match model.fault {
        Some(Fault::TokenPerProcess) => 0,
        Some(Fault::CounterToken) => {
            state.counter += 1;
            state.counter
        }
        _ => state.fresh(),
    }
}

/// The server executes a message. Says whether it granted or stored what was asked for.
fn execute<R: Key<Entry>>(model: &Fill<R>, state: &mut State<R>, message: Message) -> bool {
    let State { key, now, .. } = state;
    let (now, end) = (*now, *now + LIFE);
    match message {
        // Nobody needs one.
        Message::Lease { .. } if model.has(Fault::DoubleDelete) => true,
        Message::Lease { token, by_force } => {
            let claim = if by_force { Claim::ByForce } else { Claim::IfFree };
            key.lease(now, token, end, claim) == Granted::Yes
        }
        Message::Renew { token } => key.renew(now, token, end),
        Message::Fill { token, entry } if model.has(Fault::DoubleDelete) => {
            key.lease(now, token, end, Claim::ByForce) == Granted::Yes
                && key.fill(now, token, entry)
        }
        Message::Fill { token, entry }
            if entry.origin == Origin::Set && model.has(Fault::SetKeepsLease) =>
        {
            let stands = (0..token).find(|other| key.is_leased_to(now, *other));
            key.lease(now, token, end, Claim::ByForce);
            key.fill(now, token, entry);
            stands.is_none_or(|stands| key.lease(now, stands, end, Claim::ByForce) == Granted::Yes)
        }
        Message::Fill { token, entry } => key.fill(now, token, entry),
        Message::Release { token } => {
            key.release(now, token);
            true
        }
        Message::Delete => {
            key.delete();
            true
        }
        Message::Displace { .. } if model.has(Fault::SetKeepsLease) => true,
        Message::Displace { token } => {
            key.delete();
            key.lease(now, token, end, Claim::ByForce) == Granted::Yes
        }
    }
}
