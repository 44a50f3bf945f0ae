//! The time one call has: some for dials, if it needs any, and some for the answers.
//!
//! Two purses, so that a slow dial does not eat the time for the answer, and both are finite: no call takes
//! longer than `connect_timeout` and `response_timeout` together, however many keys it has and however often
//! it tries. Rejected: a deadline for each round trip, of which a batch makes as many as it has chunks.

use std::time::Duration;

use tokio::time::Instant;

use super::options::Options;

/// So long is for ever.
const FOR_EVER: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// What is left to one call. Copies of it run out at the same moment.
#[derive(Clone, Copy, Debug)]
pub(super) struct Budget {
    dial: Duration,
    until: Instant,
}

impl Budget {
    /// The whole budget of a call that begins now.
    pub(super) fn new(options: &Options) -> Self {
        let until = Instant::now() + options.response_timeout.min(FOR_EVER);
        Self { dial: options.connect_timeout.min(FOR_EVER), until }
    }

    /// What is left for dialling.
    pub(super) fn for_dial(&self) -> Duration {
        self.dial
    }

    /// When the last answer must be there.
    pub(super) fn until(&self) -> Instant {
        self.until
    }

    /// Notes that everything since `start` was dialling.
    pub(super) fn dialled(&mut self, start: Instant) {
        let took = start.elapsed().min(self.dial);
        self.dial -= took;
        self.until += took;
    }
}
