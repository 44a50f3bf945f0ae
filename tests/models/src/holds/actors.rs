//! All steps: those of clients, of messages that are late, of the clock and of the server.

use crate::{Token, answers::LIFE, record::Key};

use super::{
    Entry, Holds, State,
    faults::Fault,
    loads::{self, Load},
    writers::{self, Write, Writer},
};

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
            loads::steps(state.run, *loader, |step| acts.push(Act::Load(place, step)));
        }
    }
    for (place, writer) in state.writers.iter().enumerate() {
        if place == 0 || state.writers[place - 1] != *writer {
            writers::steps(
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
/// Takes a step.
pub(super) fn run<R: Key<Entry>>(model: &Holds<R>, state: &mut State<R>, act: Act) {
    match act {
        Act::Load(place, step) => {
            state.loaders[place] = loads::take(state, state.loaders[place], step)
        }
        Act::Write(place, step) => {
            state.writers[place] = writers::take(model, state, state.writers[place], step);
        }
        Act::Arrives(place) => match state.late[place].take() {
            Some(Message::Hold { token }) => writers::hold(state, token),
            Some(Message::RenewHold { token }) => writers::renew(model, state, token),
            Some(Message::EndHold { token, lease }) => {
                writers::end_hold(state, token, lease);
            }
            Some(Message::Delete) => writers::delete(state),
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
