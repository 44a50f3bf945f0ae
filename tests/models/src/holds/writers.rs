//! What writers do, step by step.

use tiered_tiers::{Claim, protocol::HoldEnd};

use crate::{Token, answers::LIFE, record::Key};

use super::{Entry, Holds, State, actors::Message, faults::Fault};

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
/// A step of a writer.
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
/// All steps that may come next.
pub(super) fn steps(
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
pub(super) fn take<R: Key<Entry>>(
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

pub(super) fn delete<R: Key<Entry>>(state: &mut State<R>) {
    state.key.delete();
    state.is_exposed = false;
}

pub(super) fn hold<R: Key<Entry>>(state: &mut State<R>, token: Token) {
    // One that begins is one more reason to load anew, for everybody.
    state.is_exposed &= state.key.is_held_by(state.now, token);
    state.key.hold(state.now, token, state.now + LIFE);
}

pub(super) fn renew<R: Key<Entry>>(model: &Holds<R>, state: &mut State<R>, token: Token) {
    match model.has(Fault::RenewalBegins) {
        true => state.key.hold(state.now, token, state.now + LIFE),
        false => state.key.renew_hold(state.now, token, state.now + LIFE),
    }
}

pub(super) fn end_hold<R: Key<Entry>>(
    state: &mut State<R>,
    token: Token,
    lease: Option<Token>,
) -> HoldEnd {
    state.key.end_hold(state.now, token, lease.map(|lease| (lease, state.now + LIFE)))
}
