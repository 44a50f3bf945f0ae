//! A process that follows a log, and knows until when its view of it is proven.
//!
//! A poll *counts* when every message that it brought was applied and the head is the last of them. Then nothing
//! that was in the log when the poll was *sent* is unknown here. When it was answered would prove too much: the
//! server may have answered long before. A chain that is broken, a head that is gone, or another run of the server
//! *void* the view: something may have been missed. The follower then opens the log anew, at its end as it is then, and
//! what was known before is not proven by that.
//!
//! The log is never followed from "whatever comes next": what comes between two such questions would be lost unseen.

use std::mem;

use super::{Polled, Position};
use crate::Incarnation;

/// A process' view of one log. `K` is a token, `T` a moment of its own clock.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Follower<K> {
    state: State<K>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum State<K> {
    Closed,
    Open { at: Position, last: K, run: Option<Incarnation> },
}

/// What to ask the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Ask {
    /// Where it ends.
    Open,
    /// What is after this place.
    After(Position),
}

/// What an answer comes to, to be done in this order.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Step<M, T> {
    /// First: nothing known before is proven any more.
    pub void: Option<Void>,
    /// Then: the messages, in their order.
    pub messages: Vec<M>,
    /// Last: everything that was in the log at this moment is known.
    pub proven: Option<T>,
}

/// Why a view is void.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Void {
    /// It was opened: what was before is not known.
    Opened,
    /// A message's predecessor, or the head, is not the last message seen.
    Gap,
    /// The log has no head.
    Headless,
    /// The server is not the one it was.
    OtherRun,
}

impl<K> Default for Follower<K> {
    fn default() -> Self {
        Self { state: State::Closed }
    }
}

impl<K: PartialEq> Follower<K> {
    /// What to ask next.
    pub fn ask(&self) -> Ask {
        match &self.state {
            State::Closed => Ask::Open,
            State::Open { at, .. } => Ask::After(*at),
        }
    }

    /// Takes an answer to what [`ask`](Self::ask) said, which was sent at `sent`.
    pub fn answered<M, T>(&mut self, sent: T, polled: Polled<M, K>) -> Step<M, T> {
        let taken = match mem::replace(&mut self.state, State::Closed) {
            State::Closed => self.open(polled),
            State::Open { at, last, run } => self.follow(at, last, run, polled),
        };
        match taken {
            Ok((void, messages, is_whole)) => {
                Step { void, messages, proven: is_whole.then_some(sent) }
            }
            Err(void) => Step { void: Some(void), messages: Vec::new(), proven: None },
        }
    }

    fn open<M>(&mut self, polled: Polled<M, K>) -> Result<(Option<Void>, Vec<M>, bool), Void> {
        let last = polled.head.ok_or(Void::Headless)?;
        self.state = State::Open { at: polled.last, last, run: polled.run };
        Ok((Some(Void::Opened), Vec::new(), true))
    }

    fn follow<M>(
        &mut self,
        mut at: Position,
        mut last: K,
        run: Option<Incarnation>,
        polled: Polled<M, K>,
    ) -> Result<(Option<Void>, Vec<M>, bool), Void> {
        if polled.run != run {
            return Err(Void::OtherRun);
        }
        let head = polled.head.ok_or(Void::Headless)?;
        let mut messages = Vec::with_capacity(polled.links.len());
        for link in polled.links {
            if link.previous != last {
                return Err(Void::Gap);
            }
            (at, last) = (link.at, link.token);
            messages.push(link.message);
        }
        if !polled.has_more && head != last {
            return Err(Void::Gap);
        }
        self.state = State::Open { at, last, run };
        Ok((None, messages, !polled.has_more))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::Log;

    fn step(log: &mut Log<u8, u32>, follower: &mut Follower<u32>, sent: u8) -> Step<u8, u8> {
        let polled = match follower.ask() {
            Ask::Open => log.open(1_000),
            Ask::After(at) => log.poll(at, 2),
        };
        follower.answered(sent, polled)
    }

    #[test]
    fn only_a_whole_answer_counts_and_as_of_when_it_was_asked() {
        let (mut log, mut follower) = (Log::new(10), Follower::default());
        let opened = step(&mut log, &mut follower, 1);
        assert_eq!((opened.void, opened.proven), (Some(Void::Opened), Some(1)));
        (1..=3).for_each(|token| log.append(token as u8, token, 0));
        let first = step(&mut log, &mut follower, 2);
        assert_eq!((first.messages, first.proven), (vec![1, 2], None));
        let second = step(&mut log, &mut follower, 3);
        assert_eq!((second.messages, second.proven), (vec![3], Some(3)));
    }

    #[test]
    fn what_a_log_loses_is_noticed() {
        type Lose = fn(&mut Log<u8, u32>);
        let lose: [(Lose, Void); 4] = [
            (|log| log.lose(true, false), Void::Gap),
            (|log| log.lose(false, true), Void::Headless),
            (|log| *log = Log::new(10), Void::Headless),
            (
                |log| {
                    *log = Log::new(10);
                    log.append(9, 9, 77);
                },
                Void::Gap,
            ),
        ];
        for (lose, why) in lose {
            let (mut log, mut follower) = (Log::new(10), Follower::default());
            log.append(1, 1, 0);
            step(&mut log, &mut follower, 1);
            log.append(2, 2, 0);
            lose(&mut log);
            let lost = step(&mut log, &mut follower, 2);
            assert_eq!((lost.void, lost.proven), (Some(why), None));
            let opened = step(&mut log, &mut follower, 3);
            assert_eq!((opened.void, opened.proven), (Some(Void::Opened), Some(3)));
        }
    }
}
