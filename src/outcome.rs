//! How a read ended, and the value with what is known of it.

use std::{sync::Arc, time::Duration};

/// The one way in which a logical read ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Outcome {
    /// A fresh value from this process.
    HitL1,
    /// A fresh value from the cache server, or shared with a caller who read it there.
    HitL2,
    /// A value past its freshness, because the load failed or while a refresh runs behind.
    Stale,
    /// The remembered answer "there is none".
    Negative,
    /// This caller's load, whether it found a value or not.
    Load,
    /// Another caller's load.
    Shared,
    /// The cache had nothing and the database was not to be asked.
    Miss,
    /// An error.
    Error,
}

/// What an invalidation of a prefix has dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Cleared {
    /// Entries of L1, as far as it can tell.
    pub l1: u64,
    /// Entries of L2. A key has two where two versions of a service share a cache.
    pub l2: u64,
    /// Whether these were all. If it is pending, L2 gave no answer midway; this process drops the rest as soon as
    /// it can, and does not use L2 for keys of that prefix until then.
    pub ack: Ack,
}

impl Outcome {
    /// All outcomes, in the order of their declaration.
    pub const ALL: [Self; 8] = [
        Self::HitL1,
        Self::HitL2,
        Self::Stale,
        Self::Negative,
        Self::Load,
        Self::Shared,
        Self::Miss,
        Self::Error,
    ];

    /// The outcome's name in metrics, logs and headers: `"hit_l1"`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::HitL1 => "hit_l1",
            Self::HitL2 => "hit_l2",
            Self::Stale => "stale",
            Self::Negative => "negative",
            Self::Load => "load",
            Self::Shared => "shared",
            Self::Miss => "miss",
            Self::Error => "error",
        }
    }

    /// Whether the answer came out of the cache.
    #[must_use]
    pub fn is_hit(self) -> bool {
        matches!(self, Self::HitL1 | Self::HitL2 | Self::Stale | Self::Negative)
    }
}

impl std::fmt::Display for Outcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A read's value, if there is one, with what is known of it.
#[derive(Debug)]
#[non_exhaustive]
pub struct Answer<T> {
    /// The value; `None` if there is none, or if the cache had none and nothing was loaded.
    pub value: Option<Arc<T>>,
    /// How the read ended; never [`Outcome::Error`].
    pub outcome: Outcome,
    /// Time since the value was loaded or set; zero for a load of this call.
    pub age: Duration,
    /// Time until it is stale; zero if it is. What was loaded past all tiers has one, too.
    pub remaining: Duration,
}

impl<T> Clone for Answer<T> {
    fn clone(&self) -> Self {
        Self { value: self.value.clone(), ..*self }
    }
}

/// What became of a write or an invalidation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Ack {
    /// It is final: nothing loaded before it will be stored after it, in any tier.
    Done,
    /// It is final in this process. The cache server could not be reached: the key is queued, and
    /// this process neither reads nor fills it there until the server has dropped its entry.
    Pending,
    /// A value of a newer version of the source is stored already
    /// ([`source_version`](crate::Request::source_version)): nothing was changed.
    Superseded,
}
