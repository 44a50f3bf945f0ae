//! One log of a bus: messages in a chain, and a head that says which is the last.
//!
//! Each message carries a random token and its predecessor's. The head holds the last token; both are written in one
//! step. So a reader can prove that it has missed nothing, which an empty answer alone does not: a log that was
//! trimmed, dropped or flushed, or whose ids went back with the server's clock, also answers with nothing.

use std::collections::VecDeque;

use crate::Incarnation;

/// A place in a log; a later one is greater.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position(pub u64, pub u64);

/// A message in its chain.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Link<M, K> {
    /// Its place.
    pub at: Position,
    /// The token of the message before it.
    pub previous: K,
    /// Its own token.
    pub token: K,
    /// What it says.
    pub message: M,
}

/// What a log had to say, all of it at one moment.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Polled<M, K> {
    /// The run of the server that answered, if it can tell.
    pub run: Option<Incarnation>,
    /// The token of the last message; `None` if the log has lost it.
    pub head: Option<K>,
    /// The messages after the place that was asked for, in their order.
    pub links: Vec<Link<M, K>>,
    /// There are more of them: the answer was cut.
    pub has_more: bool,
    /// The last place of the log, where it was opened.
    pub last: Position,
}

/// A log as its server has it. `M` is a message, `K` a token.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Log<M, K> {
    links: VecDeque<Link<M, K>>,
    head: Option<K>,
    next: u64,
    bound: usize,
}

impl<M: Clone, K: Clone + PartialEq> Log<M, K> {
    /// An empty log that keeps at most so many messages.
    pub fn new(bound: usize) -> Self {
        Self { links: VecDeque::new(), head: None, next: 1, bound }
    }

    /// Appends a message under a new token. A log that has lost its head begins a new chain, for which `origin`
    /// stands before the first message: nobody knows that token.
    pub fn append(&mut self, message: M, token: K, origin: K) {
        let previous = self.head.replace(token.clone()).unwrap_or(origin);
        self.links.push_back(Link { at: Position(self.next, 0), previous, token, message });
        self.next += 1;
        while self.links.len() > self.bound {
            self.links.pop_front();
        }
    }

    /// Where the log ends. One that has no head gets `token` for one.
    pub fn open(&mut self, token: K) -> Polled<M, K> {
        let head = self.head.get_or_insert(token).clone();
        let last = Position(self.next - 1, 0);
        Polled { run: None, head: Some(head), links: Vec::new(), has_more: false, last }
    }

    /// At most `most` messages after a place, and the head.
    pub fn poll(&self, after: Position, most: usize) -> Polled<M, K> {
        let mut later = self.links.iter().filter(|link| link.at > after);
        let links: Vec<_> = later.by_ref().take(most).cloned().collect();
        let has_more = later.next().is_some();
        let last = Position(self.next - 1, 0);
        Polled { run: None, head: self.head.clone(), links, has_more, last }
    }

    /// Loses what an eviction, a flush or an expiry takes: its messages, its head, or both.
    pub fn lose(&mut self, messages: bool, head: bool) {
        if messages {
            self.links.clear();
        }
        if head {
            self.head = None;
        }
    }
}
