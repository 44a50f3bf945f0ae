//! A key that is being overwritten: what this process forgets, and when.
//!
//! The local drop happens twice. The first makes this process forget at once, even if the server
//! hangs. The second, after the server has answered, overtakes reads that began in between: they
//! may have seen the server's old value.

use std::sync::Arc;

use crate::{
    Ack, Key,
    fence::Ticket,
    pending::{Standing, Word},
    replay,
    stack::Stack,
};

/// A key that is being overwritten. Dropped midway, by a panic or a cancelled future, it leaves
/// the key invalidated: nobody knows what the server has done.
pub(crate) struct Overwrite<'a> {
    pub(super) stack: &'a Arc<Stack>,
    pub(crate) key: &'a Key,
    ticket: Ticket,
    before: Standing,
    ended: bool,
}

impl<'a> Overwrite<'a> {
    pub(crate) fn begin(stack: &'a Arc<Stack>, key: &'a Key) -> Self {
        stack.drop_local(key);
        let ticket = stack.capture(key);
        Self { stack, key, ticket, before: stack.pending.standing(key), ended: false }
    }

    /// The server is asked now: what is pending at this moment is done with its answer.
    pub(crate) fn refresh(&mut self) {
        self.before = self.stack.pending.standing(self.key);
    }

    /// Whether nothing has overtaken it.
    pub(crate) fn holds(&self) -> bool {
        self.ticket.holds()
    }

    /// The server has answered. `local` changes L1, and is told whether no other write of this key
    /// was under way; so is the caller.
    pub(crate) fn done(mut self, local: impl FnOnce(bool)) -> bool {
        if let Standing::Delete(count) = self.before {
            self.stack.pending.confirm(self.key, count);
        }
        replay::start(self.stack);
        self.end(local)
    }

    /// Nothing was changed, and nobody was told: what is pending stays so.
    pub(crate) fn unchanged(mut self, local: impl FnOnce(bool)) {
        replay::start(self.stack);
        self.end(local);
    }

    /// The server has answered, and the others could not be told. Says what [`done`](Self::done) says.
    pub(crate) fn untold(mut self, local: impl FnOnce(bool)) -> bool {
        let before = if let Standing::Delete(count) = self.before { Some(count) } else { None };
        replay::queue_untold(self.stack, Word::Key(self.key.clone()), before);
        self.end(local)
    }

    /// The server has not answered.
    pub(crate) fn pending(mut self, local: impl FnOnce(bool)) -> Ack {
        replay::queue(self.stack, self.key);
        self.end(local);
        Ack::Pending
    }

    fn end(&mut self, local: impl FnOnce(bool)) -> bool {
        self.ended = true;
        let mut held = false;
        self.ticket.supersede(|holds| {
            held = holds;
            local(holds);
        });
        self.stack.flights.detach(self.key);
        held
    }
}

impl Drop for Overwrite<'_> {
    fn drop(&mut self) {
        if !self.ended {
            replay::queue(self.stack, self.key);
            self.end(|_| self.stack.remove_local(self.key));
        }
    }
}
