//! What a caller can be told, and how a loader's own error comes back to it.
//!
//! A failing tier is an outcome and not an error: only [`CacheStrategy::Fresh`](crate::CacheStrategy)
//! reports one. A loader's error is kept as the value it was, not as text: every waiter of a shared
//! load gets it back through [`Error::loader_error`]. Boxing it as `dyn Error` instead would lose
//! `anyhow::Error`, which does not downcast once boxed.

use std::{any::Any, fmt, sync::Arc, time::Duration};

use tiered_codecs::{DecodeError, EncodeError};
use tiered_tiers::{ConfigError, TierError};

/// Everything that can go wrong for a caller. Cheap to clone: waiters of one load share it.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The cache server failed. Only `Fresh` (`get`), `contains` and `ping` report this.
    #[error("the cache server failed")]
    Backend(#[source] TierError),
    /// The loader or the repository failed, or panicked. See [`Error::loader_error`].
    #[error("the load failed")]
    Repository(#[source] LoadError),
    /// The write of the source failed, or panicked. See [`Error::loader_error`].
    #[error("the write failed")]
    Write(#[source] LoadError),
    /// The value given to `set` cannot be encoded; nothing was changed.
    #[error("the value cannot be stored")]
    Serialization(#[source] EncodeError),
    /// A stored entry could not be decoded. Never the outcome of a read.
    #[error("the stored entry cannot be decoded")]
    Deserialization(#[source] DecodeError),
    /// A stored entry has another schema version. Never the outcome of a read.
    #[error("the stored entry has schema version {stored}, expected {expected}")]
    VersionMismatch {
        /// The version in the entry.
        stored: u32,
        /// The reader's version.
        expected: u32,
    },
    /// The load took longer than the cache's `load_timeout`.
    #[error("the load took longer than {0:?}")]
    Timeout(Duration),
    /// More loads, or more values of a [`WriteBehind`](crate::WriteBehind), wait for the database than were
    /// configured to.
    #[error("too much is waiting for the database")]
    Overloaded,
    /// The key cannot be used.
    #[error("invalid key: {0}")]
    InvalidKey(&'static str),
    /// The configuration, or the way of calling, cannot work.
    #[error("configuration")]
    Config(#[from] ConfigError),
}

impl Error {
    /// The loader's own error, if this is one of type `E`: for the leader of a shared load and for
    /// each of its waiters. A loader that panicked shows as [`LoaderPanicked`]. Likewise the own error of a write of the
    /// source.
    ///
    /// `E` is the type in the loader's `Result`, `anyhow::Error` included.
    #[must_use]
    pub fn loader_error<E: 'static>(&self) -> Option<&E> {
        match self {
            Self::Repository(error) | Self::Write(error) => error.value.downcast_ref(),
            _ => None,
        }
    }

    pub(crate) fn config(message: impl Into<String>) -> Self {
        Self::Config(ConfigError::new(message))
    }

    pub(crate) fn loader<E>(error: E) -> Self
    where
        E: fmt::Display + fmt::Debug + Send + Sync + 'static,
    {
        Self::Repository(LoadError::new(error))
    }

    pub(crate) fn write<E>(error: E) -> Self
    where
        E: fmt::Display + fmt::Debug + Send + Sync + 'static,
    {
        Self::Write(LoadError::new(error))
    }
}

/// The error of a loader, or of a write of the source. Its `Display` is the loader's error's own; `anyhow` errors show their
/// whole chain.
#[derive(Clone)]
pub struct LoadError {
    text: Arc<str>,
    value: Arc<dyn Any + Send + Sync>,
}

impl LoadError {
    fn new<E>(error: E) -> Self
    where
        E: fmt::Display + fmt::Debug + Send + Sync + 'static,
    {
        Self { text: format!("{error:#}").into(), value: Arc::new(error) }
    }
}

impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("LoadError").field(&self.text).finish()
    }
}

impl std::error::Error for LoadError {}

/// A loader, or a write of the source, panicked; the panic was caught, and the load's leader and its waiters get this.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the loader panicked: {message}")]
pub struct LoaderPanicked {
    /// The panic's message, where it was a string.
    pub message: String,
}

/// The task of a detached load was ended before its loader: its runtime went away, the cache was
/// shut down, or something other than the loader panicked in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the load's task was ended before the load")]
pub struct LoadAborted;

impl LoaderPanicked {
    pub(crate) fn from_payload(payload: &(dyn Any + Send)) -> Self {
        let message = payload
            .downcast_ref::<&str>()
            .map(|text| (*text).to_owned())
            .or_else(|| payload.downcast_ref::<String>().cloned())
            .unwrap_or_else(|| "(no message)".to_owned());
        Self { message }
    }
}

#[cfg(test)]
mod tests {
    use std::error::Error as _;

    use super::*;

    #[test]
    fn a_loaders_error_comes_back_as_the_value_it_was() {
        let error = Error::loader(std::io::Error::other("disk"));
        assert_eq!(error.loader_error::<std::io::Error>().unwrap().to_string(), "disk");
        assert!(error.loader_error::<fmt::Error>().is_none());
        assert_eq!(error.source().unwrap().to_string(), "disk");
    }

    #[test]
    fn an_anyhow_error_comes_back_with_its_chain() {
        let cause = anyhow::anyhow!("row").context("table");
        let error = Error::loader(cause).clone();
        let back = error.loader_error::<anyhow::Error>().unwrap();
        assert_eq!(back.root_cause().to_string(), "row");
        assert_eq!(error.source().unwrap().to_string(), "table: row");
    }
}
