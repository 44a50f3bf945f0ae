//! What a write-behind counts, and how a flush ended.

/// A snapshot of a write-behind's counters since it was built.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct BehindStats {
    /// Keys that wait or are being written, now.
    pub queued: usize,
    /// Values taken by `set`.
    pub set: u64,
    /// Values that the sink has written.
    pub written: u64,
    /// Values that were not written because a newer one of their key was.
    pub coalesced: u64,
    /// Writes of a value that failed and were to be tried again.
    pub retried: u64,
    /// Values that were reported as lost.
    pub lost: u64,
    /// Calls of `set` that were refused, for the queue was full.
    pub overloaded: u64,
}

/// How a flush or a shutdown ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
#[must_use = "it may have ended with values that are not written"]
pub struct Flushed {
    /// Values that were reported as lost while it lasted.
    pub lost: u64,
    /// Values that are queued still: its time was over first.
    pub left: usize,
}

impl Flushed {
    /// Whether everything was written.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.lost == 0 && self.left == 0
    }
}
