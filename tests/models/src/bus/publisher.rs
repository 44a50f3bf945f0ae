//! Who invalidates: it deletes in L2, and then appends a message.

use crate::follower::Following;

use super::{Bus, State, faults::Fault};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Publisher {
    Idle,
    Committed {
        version: u8,
    },
    /// The first of its two steps is done.
    Half {
        version: u8,
    },
    Gone,
}

/// A step of a publisher.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Publish {
    Commit,
    Delete,
    Append,
    /// It is executed, and its answer is lost.
    AppendUnheard,
    /// The message is late, and sent once more.
    AppendLate,
    Crash,
}

impl<F: Following> Bus<F> {
    /// All steps of a publisher that may come next.
    pub(super) fn publish_steps(
        &self,
        publisher: Publisher,
        has_room: bool,
        mut may: impl FnMut(Publish),
    ) {
        let first = matches!(publisher, Publisher::Committed { .. });
        match publisher {
            Publisher::Idle => return may(Publish::Commit),
            Publisher::Gone => return,
            _ if first != self.has(Fault::MessageBeforeDelete) => may(Publish::Delete),
            _ => {
                [Publish::Append, Publish::AppendUnheard].into_iter().for_each(&mut may);
                if has_room {
                    may(Publish::AppendLate);
                }
            }
        }
        may(Publish::Crash);
    }

    /// Takes a step.
    pub(super) fn publish(
        &self,
        state: &mut State<F>,
        publisher: Publisher,
        step: Publish,
    ) -> Publisher {
        match (step, publisher) {
            (Publish::Commit, _) => {
                state.source += 1;
                return Publisher::Committed { version: state.source };
            }
            (Publish::AppendLate, _) => {
                state.server.late += 1;
                state.server.repeats += 1;
                return publisher;
            }
            (Publish::Crash, _) => return Publisher::Gone,
            (Publish::Delete, Publisher::Committed { version } | Publisher::Half { version }) => {
                state.deleted = state.deleted.max(version);
            }
            (Publish::Append | Publish::AppendUnheard, _) => state.server.append(true),
            (Publish::Delete, _) => {}
        }
        match publisher {
            Publisher::Committed { version } => Publisher::Half { version },
            Publisher::Half { version } => {
                if step != Publish::AppendUnheard {
                    state.acknowledged[0] = state.acknowledged[0].max(version);
                }
                Publisher::Gone
            }
            other => other,
        }
    }
}
