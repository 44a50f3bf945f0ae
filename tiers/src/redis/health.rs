//! One line in the log when the server goes away, one when it is back, and no more.
//!
//! Rejected: a line for each failed operation, which turns an outage of the cache into one of the
//! logs. The state belongs to the tier, not to a connection: one server, one story.

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::time::Instant;

use super::options::Options;
use crate::TierError;

/// After a line "answers again", so long no new "unreachable": a server at its limit of clients
/// answers some and refuses others, many times a second.
const CALM: Duration = Duration::from_secs(10);

/// Whether the server was last seen to answer, as far as the log knows.
#[derive(Debug, Default)]
pub(super) struct Health {
    away: AtomicBool,
    recovered: Mutex<Option<Instant>>,
}

impl Health {
    /// Notes an answer; logs the first after an outage.
    pub(super) fn answered(&self, options: &Options) {
        if self.away.load(Ordering::Relaxed) && self.away.swap(false, Ordering::AcqRel) {
            *self.recovered() = Some(Instant::now());
            tracing::info!(host = %options.host, port = options.port, "redis answers again");
        }
    }

    /// Notes that no connection could be made or kept; logs the first of an outage.
    pub(super) fn lost(&self, options: &Options, error: &TierError) {
        if self.recovered().is_some_and(|at| at.elapsed() < CALM) {
            return;
        }
        if !self.away.swap(true, Ordering::AcqRel) {
            tracing::warn!(
                host = %options.host, port = options.port, %error,
                "redis is unreachable; said once until it answers again"
            );
        }
    }

    fn recovered(&self) -> std::sync::MutexGuard<'_, Option<Instant>> {
        self.recovered.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
