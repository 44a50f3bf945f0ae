//! The time one operation has: some for a dial, if it needs one, and some for the answers.
//!
//! Two purses, so that a slow dial does not eat the time for the answer, and both are finite: no
//! operation takes longer than `connect_timeout` and `response_timeout` together, however many
//! round trips and repetitions it makes.

use std::time::Duration;

use tokio::time::Instant;

use super::options::Options;

/// What is left to one operation.
#[derive(Clone, Debug)]
pub(super) struct Budget {
    dial: Duration,
    answer: Duration,
}

impl Budget {
    /// The whole budget of an operation.
    pub(super) fn new(options: &Options) -> Self {
        Self { dial: options.connect_timeout, answer: options.response_timeout }
    }

    /// The same for one that the server may keep waiting for so long.
    pub(super) fn and_wait(self, wait: Duration) -> Self {
        Self { answer: self.answer.saturating_add(wait), ..self }
    }

    /// What is left for dialling, or for waiting until another has dialled.
    pub(super) fn for_dial(&self) -> Duration {
        self.dial
    }

    /// What is left for answers.
    pub(super) fn for_answer(&self) -> Duration {
        self.answer
    }

    /// Notes that everything since `start` was dialling.
    pub(super) fn dialled(&mut self, start: Instant) {
        self.dial = self.dial.saturating_sub(start.elapsed());
    }

    /// Notes that everything since `start` was waiting for an answer.
    pub(super) fn answered(&mut self, start: Instant) {
        self.answer = self.answer.saturating_sub(start.elapsed());
    }

    /// One of so many equal parts of what is left.
    pub(super) fn part(&self, of: usize) -> Self {
        let of = u32::try_from(of.max(1)).unwrap_or(u32::MAX);
        Self { dial: self.dial / of, answer: self.answer / of }
    }

    /// Notes what was taken out of a part of it.
    pub(super) fn spent(&mut self, part: &Self, left: &Self) {
        self.dial = self.dial.saturating_sub(part.dial.saturating_sub(left.dial));
        self.answer = self.answer.saturating_sub(part.answer.saturating_sub(left.answer));
    }
}
