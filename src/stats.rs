//! A cache's counters as a snapshot, for those who run no recorder.

/// A snapshot of a cache's counters since it was built.
///
/// The first eight are the outcomes of logical reads; each read that was not dropped midway is in
/// exactly one of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Fresh values from this process.
    pub hit_l1: u64,
    /// Fresh values from the cache server.
    pub hit_l2: u64,
    /// Stale values served.
    pub stale: u64,
    /// Remembered absences served.
    pub negative: u64,
    /// Reads that loaded.
    pub load: u64,
    /// Reads that shared another read's load.
    pub shared: u64,
    /// Reads that found nothing and were not to load.
    pub miss: u64,
    /// Reads that ended in an error.
    pub error: u64,
    /// Loads, background refreshes included.
    pub loads: u64,
    /// Loads that failed, panicked or timed out.
    pub load_failures: u64,
    /// Reads that waited for another read's walk.
    pub coalesced: u64,
    /// Stored entries that were refused: damaged, of another version, shape or codec, or of an earlier run of the
    /// server.
    pub decode_failures: u64,
    /// Values that could not be encoded or were too large, and so were not stored in L2.
    pub skipped_stores: u64,
    /// Fills that came too late, counted for each tier: overtaken by an invalidation or a write, or,
    /// in L2, after their lease had ended.
    pub refused_fills: u64,
    /// Reads that waited for another process' load of their key.
    pub lease_waits: u64,
    /// Loads without a lease, which are not stored in L2: another process was loading the key for too long, a writer
    /// held it, or L2 gave no answer.
    pub unstored_loads: u64,
    /// Messages heard on the bus, this cache's own included.
    pub bus_heard: u64,
    /// How often all that L1 had lost the bus' proof: once when it begins to listen, and whenever it may have missed a
    /// message.
    pub bus_voids: u64,
}

impl Stats {
    /// All logical reads.
    #[must_use]
    pub fn reads(&self) -> u64 {
        self.hits() + self.load + self.shared + self.miss + self.error
    }

    /// Reads answered by the cache.
    #[must_use]
    pub fn hits(&self) -> u64 {
        self.hit_l1 + self.hit_l2 + self.stale + self.negative
    }

    /// The share of reads answered by the cache, 0 to 1; 0 when there were none.
    #[must_use]
    pub fn hit_rate(&self) -> f64 {
        share(self.hits(), self.reads())
    }

    /// The share of reads answered fresh by L1, 0 to 1; 0 when there were none.
    #[must_use]
    pub fn l1_hit_rate(&self) -> f64 {
        share(self.hit_l1, self.reads())
    }

    /// The share of reads answered fresh by L2, 0 to 1; 0 when there were none.
    #[must_use]
    pub fn l2_hit_rate(&self) -> f64 {
        share(self.hit_l2, self.reads())
    }
}

#[allow(clippy::cast_precision_loss, reason = "a rate needs no more than 52 bits")]
fn share(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_of_nothing_are_zero() {
        let stats = Stats::default();
        assert_eq!((stats.hit_rate(), stats.l1_hit_rate(), stats.l2_hit_rate()), (0.0, 0.0, 0.0));
    }
}
