//! The bus, the contract: logs of messages that every process of a service follows.
//!
//! An invalidation is a message; whoever follows drops what it has of that key. A bus delivers in order and can tell
//! that nothing was missed; it needs not be quick, and a message may come twice. See [`protocol`](crate::protocol)
//! for the chain by which followers know that they are not missing one.
//!
//! A bus has several *logs* where its servers are several: a message goes to one of them, and everybody follows all.
//!
//! Rejected: publish and subscribe. A subscriber that was away does not know what it has missed, nor that it was away.

use std::{fmt::Debug, sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;

use crate::{
    ConfigError, LeaseToken, TierError,
    protocol::{Polled, Position},
};

/// What a poll of a bus brings.
pub type BusPolled = Polled<Bytes, LeaseToken>;

/// A log by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct LogName<'a> {
    /// Whose messages they are: a cache's namespace in its wire form.
    pub topic: &'a str,
    /// Which of the bus' logs, below [`Bus::logs`].
    pub index: usize,
}

/// Chained logs of messages, shared by processes.
///
/// Every operation is cancel-safe and ends by the bus' own deadlines, at the latest; `poll` after `wait` and them.
#[async_trait]
pub trait Bus: Send + Sync + Debug + 'static {
    /// A short name for metrics and health: `"redis"`.
    fn name(&self) -> &'static str;

    /// How many logs a topic has; the same in every process.
    fn logs(&self) -> usize {
        1
    }

    /// Appends messages to a log, in one step. When it returns they are there; after an error they may or may not be.
    async fn append(&self, log: LogName<'_>, messages: &[Bytes]) -> Result<(), TierError>;

    /// Where a log ends. One that has lost its head, or never had one, gets a new one.
    async fn open(&self, log: LogName<'_>) -> Result<BusPolled, TierError>;

    /// What a log has after a place: links and head as they are at one moment. If it has nothing, it waits for
    /// up to `wait`.
    async fn poll(
        &self,
        log: LogName<'_>,
        after: Position,
        wait: Duration,
    ) -> Result<BusPolled, TierError>;

    /// Checks the configuration; called once, when a cache is built. Touches no network.
    ///
    /// # Errors
    /// A [`ConfigError`] that names the value and the way out.
    fn check(&self) -> Result<(), ConfigError> {
        Ok(())
    }
}

/// A bus that is shared, or whose kind is chosen at run time.
#[async_trait]
impl<B: Bus + ?Sized> Bus for Arc<B> {
    fn name(&self) -> &'static str {
        (**self).name()
    }

    fn logs(&self) -> usize {
        (**self).logs()
    }

    async fn append(&self, log: LogName<'_>, messages: &[Bytes]) -> Result<(), TierError> {
        (**self).append(log, messages).await
    }

    async fn open(&self, log: LogName<'_>) -> Result<BusPolled, TierError> {
        (**self).open(log).await
    }

    async fn poll(
        &self,
        log: LogName<'_>,
        after: Position,
        wait: Duration,
    ) -> Result<BusPolled, TierError> {
        (**self).poll(log, after, wait).await
    }

    fn check(&self) -> Result<(), ConfigError> {
        (**self).check()
    }
}
