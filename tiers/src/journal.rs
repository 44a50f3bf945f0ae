//! What a write-behind keeps its values in until the database has them, so that a process that is killed loses
//! none.
//!
//! A log with one owner. What is appended stays until it is acknowledged, and an owner that begins reads back what its
//! predecessor has left. The alternative, many consumers that share one log, loses the order of a key's
//! values, for one of them may write an old value after another has written the newer one.

use std::{fmt, fmt::Debug, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;

use crate::{ConfigError, TierError};

/// A value to be kept. Opaque bytes, which the engine checks when it reads them back.
#[derive(Clone, PartialEq, Eq)]
pub struct Record {
    /// The value's key in the cache, as servers see it.
    pub key: Bytes,
    /// The key by which the database knows the value, packed.
    pub id: Bytes,
    /// The value, packed.
    pub value: Bytes,
}

impl fmt::Debug for Record {
    /// Keys and values may be of people: none is shown.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Record").field("bytes", &self.value.len()).finish_non_exhaustive()
    }
}

/// A record that was read back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Logged {
    /// Where it is. A record that was appended later has a greater one.
    pub position: u64,
    /// What was appended.
    pub record: Record,
}

/// Why a journal did not do what it was asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum JournalError {
    /// Another process owns it, and is alive or died a moment ago.
    #[error("another process owns this journal")]
    Taken,
    /// It holds as much as it may, none of it acknowledged. Nothing was appended.
    #[error("the journal is full")]
    Full,
    /// Its server gave no answer, or another one than is understood.
    #[error("the journal's server failed")]
    Failed(#[from] TierError),
}

/// A log of values that the database does not have yet.
///
/// Used by one caller at a time, but that [`acknowledge`](Self::acknowledge) and [`renew`](Self::renew) may come while
/// another call is under way. Every operation ends by a deadline of its own; each is cancel-safe, in that the journal
/// stays usable, and the operation either takes effect or not.
#[async_trait]
pub trait Journal: Send + Sync + Debug + 'static {
    /// A short name for logs: `"redis"`.
    fn name(&self) -> &'static str;

    /// Makes this the journal's owner, for [`lease_for`](Self::lease_for). An owner whose time is over, and who
    /// has not renewed it, can be replaced; it appends and acknowledges nothing more then, however late its
    /// commands arrive.
    ///
    /// # Errors
    /// [`JournalError::Taken`] if another owner's time is not over.
    async fn open(&self) -> Result<(), JournalError>;

    /// Records behind `after` in their order, some of them; none if there are no more. 0 is before the first.
    async fn read(&self, after: u64) -> Result<Vec<Logged>, JournalError>;

    /// Appends records behind all others, all of them or none; their positions come in their order.
    ///
    /// One that failed may have taken effect, at once or later. What it has appended is gone, and stays away, when a
    /// later one has succeeded.
    ///
    /// # Errors
    /// [`JournalError::Full`] rather than to drop what is not acknowledged; [`JournalError::Taken`] if this is not the
    /// owner.
    async fn append(&self, records: &[Record]) -> Result<Vec<u64>, JournalError>;

    /// Drops records, which the database has or which newer ones have replaced. One that is gone is no error.
    async fn acknowledge(&self, positions: &[u64]) -> Result<(), JournalError>;

    /// Stays the owner for another [`lease_for`](Self::lease_for).
    ///
    /// # Errors
    /// [`JournalError::Taken`] if another has become it.
    async fn renew(&self) -> Result<(), JournalError>;

    /// Is the owner no more; the next one need not wait.
    async fn close(&self) -> Result<(), JournalError>;

    /// How long an owner that does not renew is believed to be alive.
    fn lease_for(&self) -> Duration;

    /// Checks the configuration; called once, when a write-behind is built. Touches no network.
    ///
    /// # Errors
    /// A [`ConfigError`] that names the value and the way out.
    fn check(&self) -> Result<(), ConfigError> {
        Ok(())
    }
}
