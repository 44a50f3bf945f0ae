//! What could not be written, and why: each value once, to whoever asked to be told.

use std::{fmt, panic::AssertUnwindSafe, sync::Arc, time::Duration};

use super::SinkError;

/// Values that the sink has not taken.
///
/// The cache shows them no longer, unless they wait in a journal for the next start.
#[non_exhaustive]
pub struct Loss<K, V> {
    /// The values with their keys. None for [`LossReason::Unreadable`], of which there are neither.
    pub entries: Vec<(K, Arc<V>)>,
    /// How many they are.
    pub count: usize,
    /// Why.
    pub reason: LossReason,
    /// Whether they are in the journal still: then the next start tries again, unless a newer value of the key was
    /// written meanwhile.
    pub in_journal: bool,
}

impl<K, V> fmt::Debug for Loss<K, V> {
    /// Keys and values may be of people: none is shown.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Loss")
            .field("count", &self.count)
            .field("reason", &self.reason)
            .field("in_journal", &self.in_journal)
            .finish_non_exhaustive()
    }
}

/// Why values were not written.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum LossReason {
    /// The sink failed as often as it may: its last error.
    Failed(SinkError),
    /// The sink said that to try again would not help.
    Refused(SinkError),
    /// The sink took longer than this, the last time that it may.
    TimedOut(Duration),
    /// The sink panicked, the last time that it may; with its message, where that was a string.
    Panicked(String),
    /// It was shut down, or its last handle was dropped, and its time was over first.
    Closed,
    /// Another process owns the journal now, and the values in it.
    TakenOver,
    /// The journal holds them in a form that this program cannot read: another version's, or damaged.
    Unreadable,
}

impl LossReason {
    /// Whether to try again would not help.
    pub(super) fn is_final(&self) -> bool {
        matches!(self, Self::Refused(_))
    }

    /// Whether two values were lost by one and the same.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Failed(one), Self::Failed(other))
            | (Self::Refused(one), Self::Refused(other)) => one.is_same(other),
            _ => self.as_str() == other.as_str(),
        }
    }

    /// The reason's name in logs: `"failed"`.
    #[must_use]
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Failed(_) => "failed",
            Self::Refused(_) => "refused",
            Self::TimedOut(_) => "timed_out",
            Self::Panicked(_) => "panicked",
            Self::Closed => "closed",
            Self::TakenOver => "taken_over",
            Self::Unreadable => "unreadable",
        }
    }
}

/// Who is told of losses.
pub(super) type OnLoss<K, V> = Box<dyn Fn(Loss<K, V>) + Send + Sync>;

/// Tells of a loss. What listens may panic; that is its own affair.
pub(super) fn tell<K, V>(on_loss: Option<&OnLoss<K, V>>, loss: Loss<K, V>) {
    if let Some(on_loss) = on_loss {
        let _ = std::panic::catch_unwind(AssertUnwindSafe(|| on_loss(loss)));
    }
}
