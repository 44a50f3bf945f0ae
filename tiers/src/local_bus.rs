//! [`LocalBus`]: a bus inside this process, for several caches of one program and for tests.
//!
//! The log of the protocol behind a mutex, and a signal for those who wait. It knows no failures of its own; see
//! [`testing`](crate::testing) for a bus that loses what it is told to.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::Notify;

use crate::{
    Bus, BusPolled, LeaseToken, LogName, TierError,
    protocol::{Log, Position},
};

/// Messages that a log keeps.
const BOUND: usize = 65_536;
/// Messages in one answer.
const PIECE: usize = 1_024;

/// A bus in this process. A clone is the same bus.
///
/// ```
/// use tiered_tiers::LocalBus;
///
/// let bus = LocalBus::new();
/// let same_bus = bus.clone();
/// ```
#[derive(Clone, Default)]
pub struct LocalBus {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    logs: Mutex<HashMap<(String, usize), Log<Bytes, LeaseToken>>>,
    appended: Notify,
}

impl LocalBus {
    /// A bus with no messages.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    fn with<R>(&self, name: LogName<'_>, step: impl FnOnce(&mut Log<Bytes, LeaseToken>) -> R) -> R {
        let mut logs = self.lock();
        step(logs.entry((name.topic.to_owned(), name.index)).or_insert_with(|| Log::new(BOUND)))
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<(String, usize), Log<Bytes, LeaseToken>>> {
        self.shared.logs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for LocalBus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LocalBus").field("logs", &self.lock().len()).finish_non_exhaustive()
    }
}

#[async_trait]
impl Bus for LocalBus {
    fn name(&self) -> &'static str {
        "local"
    }

    async fn append(&self, log: LogName<'_>, messages: &[Bytes]) -> Result<(), TierError> {
        self.with(log, |log| {
            for message in messages {
                log.append(message.clone(), LeaseToken::random(), LeaseToken::random());
            }
        });
        self.shared.appended.notify_waiters();
        Ok(())
    }

    async fn open(&self, log: LogName<'_>) -> Result<BusPolled, TierError> {
        Ok(self.with(log, |log| log.open(LeaseToken::random())))
    }

    async fn poll(
        &self,
        log: LogName<'_>,
        after: Position,
        wait: Duration,
    ) -> Result<BusPolled, TierError> {
        let appended = self.shared.appended.notified();
        let polled = self.with(log, |log| log.poll(after, PIECE));
        if wait.is_zero() || !polled.links.is_empty() {
            return Ok(polled);
        }
        // Messages of another log may wake it: it has waited less, and asks again.
        let _ = tokio::time::timeout(wait, appended).await;
        Ok(self.with(log, |log| log.poll(after, PIECE)))
    }
}
