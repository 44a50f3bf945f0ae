//! What loads do, step by step.

use tiered_tiers::{Claim, protocol::Granted};

use crate::{Token, answers::LIFE, record::Key};

use super::{Entry, State};

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
/// A step of a load.
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
/// All steps that may come next.
pub(super) fn steps(run: u8, loader: Loader, mut may: impl FnMut(Load)) {
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
/// Takes a step.
pub(super) fn take<R: Key<Entry>>(state: &mut State<R>, loader: Loader, step: Load) -> Loader {
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
