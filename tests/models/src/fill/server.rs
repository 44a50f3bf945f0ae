//! The source, the server, and all that is under way.

use crate::{Tick, Token, record::Key};

use super::{
    Bounds,
    actors::{Loader, Writer},
};

/// What is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Entry {
    pub(super) version: u8,
    /// The run of the server that its sender knew.
    pub(super) run: u8,
    pub(super) origin: Origin,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Origin {
    Loaded,
    Set,
}

/// A message to the server. One whose sender waits for no answer may be executed at any later time.
///
/// Of the late ones only those are written down after which their sender does something else. That a load's lease
/// or fill is late, and the load has given up, is no different from a load that is slow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Message {
    Lease { token: Token, by_force: bool },
    Renew { token: Token },
    Fill { token: Token, entry: Entry },
    Release { token: Token },
    Delete,
    Displace { token: Token },
}

impl Message {
    pub(super) fn token_mut(&mut self) -> Option<&mut Token> {
        match self {
            Self::Lease { token, .. }
            | Self::Renew { token }
            | Self::Fill { token, .. }
            | Self::Release { token }
            | Self::Displace { token } => Some(token),
            Self::Delete => None,
        }
    }

    pub(super) fn version_mut(&mut self) -> Option<&mut u8> {
        match self {
            Self::Fill { entry, .. } => Some(&mut entry.version),
            _ => None,
        }
    }

    pub(super) fn entry(self) -> Option<Entry> {
        match self {
            Self::Fill { entry, .. } => Some(entry),
            _ => None,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct State<R> {
    /// The newest version in the source.
    pub(super) source: u8,
    pub(super) now: Tick,
    pub(super) ticks: u8,
    /// The server's run.
    pub(super) run: u8,
    pub(super) restarts: u8,
    pub(super) key: R,
    /// What the server has written to its disk.
    pub(super) saved: Option<R>,
    /// The server's own counter: none of the protocol's, but of a fault's.
    pub(super) counter: u8,
    pub(super) loaders: [Loader; 3],
    pub(super) writers: [Writer; 3],
    pub(super) late: [Option<Message>; 3],
    /// The newest version that was acknowledged: nothing older may be stored by a load.
    pub(super) floor: u8,
    /// The versions whose `set` has ended, well or not.
    pub(super) ended: u8,
    /// Those whose `set` had ended before a delete that was acknowledged.
    pub(super) ruled_out: u8,
}

impl<R: Key<Entry>> State<R> {
    pub(super) fn new(bounds: &Bounds) -> Self {
        let mut state = Self {
            source: 0,
            now: 0,
            ticks: 0,
            run: 0,
            restarts: 0,
            key: R::default(),
            saved: None,
            counter: 0,
            loaders: [Loader::Gone; 3],
            writers: [Writer::Gone; 3],
            late: [None; 3],
            floor: 0,
            ended: 0,
            ruled_out: 0,
        };
        state.loaders.iter_mut().take(bounds.loaders).for_each(|loader| *loader = Loader::Idle);
        state.writers.iter_mut().take(bounds.writers).for_each(|writer| *writer = Writer::Idle);
        state.sort();
        state
    }

    /// Leaves a message on its way.
    pub(super) fn leave(&mut self, message: Message) {
        if let Some(place) = self.late.iter_mut().find(|place| place.is_none()) {
            *place = Some(message);
        }
    }

    /// Whether some lease stands.
    pub(super) fn is_leased(&self) -> bool {
        let stands = |key: &R| (0..16).any(|token| key.is_leased_to(self.now, token));
        stands(&self.key) || self.saved.as_ref().is_some_and(stands)
    }

    /// Clients of a kind are alike.
    pub(super) fn sort(&mut self) {
        self.loaders.sort_unstable();
        self.writers.sort_unstable();
        self.late.sort_unstable();
    }

    /// A token that nobody knows.
    pub(super) fn fresh(&self) -> Token {
        let (mut loaders, mut writers, mut late) = (self.loaders, self.writers, self.late);
        let mut known: Vec<Token> = Vec::with_capacity(9);
        known.extend(loaders.iter_mut().filter_map(Loader::token_mut).map(|token| *token));
        known.extend(writers.iter_mut().filter_map(Writer::token_mut).map(|token| *token));
        let late = late.iter_mut().flatten();
        known.extend(late.filter_map(Message::token_mut).map(|token| *token));
        let is_known = |token: Token| {
            known.contains(&token)
                || self.key.is_leased_to(self.now, token)
                || self.saved.as_ref().is_some_and(|saved| saved.is_leased_to(self.now, token))
        };
        (0..Token::MAX).find(|token| !is_known(*token)).unwrap_or(Token::MAX)
    }
}
