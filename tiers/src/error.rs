//! What can go wrong in a tier: a refused configuration, or an operation that had no answer.

/// A configuration that cannot work. The message names the value and the way out.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ConfigError(String);

impl ConfigError {
    /// A refusal with its message. The message must hold no secret.
    pub fn new(message: impl Into<String>) -> Self {
        Self(message.into())
    }
}

/// Why a remote tier gave no answer. To the engine each of these is a miss with a reason.
///
/// Messages hold no secret: neither credentials nor values nor keys.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TierError {
    /// No connection could be made, or it broke.
    #[error("unreachable: {0}")]
    Unreachable(String),
    /// No answer within the deadline, waiting for a place on a connection included.
    #[error("no answer within the deadline")]
    Timeout,
    /// The server answered with an error: out of memory, wrong password, loading, read-only.
    #[error("refused by the server: {0}")]
    Refused(String),
    /// The server's answer was not of the expected form.
    #[error("unexpected answer: {0}")]
    Protocol(String),
    /// The tier cannot do that at all.
    #[error("this tier cannot do that: {0}")]
    Unsupported(String),
    /// The operation was called outside a tokio runtime, which this tier needs.
    #[error("called outside a tokio runtime: use this tier from an async context of tokio")]
    NoRuntime,
}

impl TierError {
    /// A short label for metrics.
    #[must_use]
    pub fn label(&self) -> &'static str {
        match self {
            Self::Unreachable(_) => "unreachable",
            Self::Timeout => "timeout",
            Self::Refused(_) => "refused",
            Self::Protocol(_) => "protocol",
            Self::Unsupported(_) => "unsupported",
            Self::NoRuntime => "no_runtime",
        }
    }
}
