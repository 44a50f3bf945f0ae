//! Counting: what every cache counts for itself, and the same through the `metrics` facade.
//!
//! Handles are made once, when the cache is built: a cached handle costs two nanoseconds where a
//! lookup by labels costs a hundred. They belong to the recorder installed by then, so install it
//! first. [`Stats`] needs no recorder.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use crate::Outcome;

/// Defines an enum whose variants are label values.
macro_rules! labels {
    ($(#[$doc:meta])* $name:ident { $($variant:ident = $label:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) enum $name { $($variant),+ }
        impl $name {
            #[cfg(feature = "metrics")]
            const LABELS: &[&str] = &[$($label),+];
        }
    };
}

labels! {
    /// An operation on a tier.
    Op {
        Get = "get",
        Lease = "lease",
        Fill = "fill",
        Release = "release",
        Set = "set",
        Delete = "delete",
        Clear = "clear",
        Ping = "ping",
    }
}

labels! {
    /// How an operation on a tier ended.
    OpResult {
        Ok = "ok",
        Hit = "hit",
        Miss = "miss",
        Granted = "granted",
        Held = "held",
        Stored = "stored",
        Refused = "refused",
        Skipped = "skipped",
        Timeout = "timeout",
        Error = "error",
    }
}

labels! {
    /// How a load ended.
    LoadResult {
        Value = "value",
        Absent = "absent",
        Error = "error",
        Panic = "panic",
        Timeout = "timeout",
    }
}

/// Which tier an operation was on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tier {
    L1,
    L2,
}

/// The counters of one cache.
#[derive(Debug)]
pub(crate) struct Meter {
    outcomes: [AtomicU64; Outcome::ALL.len()],
    loads: AtomicU64,
    load_failures: AtomicU64,
    coalesced: AtomicU64,
    decode_failures: AtomicU64,
    skipped_stores: AtomicU64,
    refused_fills: AtomicU64,
    #[cfg(feature = "metrics")]
    facade: facade::Facade,
}

impl Meter {
    pub(crate) fn new(cache: &str, l1: Option<&'static str>, l2: Option<&'static str>) -> Self {
        #[cfg(not(feature = "metrics"))]
        let _ = (cache, l1, l2);
        Self {
            outcomes: Default::default(),
            loads: AtomicU64::new(0),
            load_failures: AtomicU64::new(0),
            coalesced: AtomicU64::new(0),
            decode_failures: AtomicU64::new(0),
            skipped_stores: AtomicU64::new(0),
            refused_fills: AtomicU64::new(0),
            #[cfg(feature = "metrics")]
            facade: facade::Facade::new(cache, l1, l2),
        }
    }

    /// Counts the end of a logical read.
    pub(crate) fn request(&self, outcome: Outcome) {
        bump(&self.outcomes[outcome as usize]);
        #[cfg(feature = "metrics")]
        self.facade.request(outcome);
    }

    pub(crate) fn op(&self, tier: Tier, op: Op, result: OpResult) {
        match result {
            OpResult::Refused => bump(&self.refused_fills),
            OpResult::Skipped => bump(&self.skipped_stores),
            _ => {}
        }
        #[cfg(feature = "metrics")]
        self.facade.op(tier, op, result);
        #[cfg(not(feature = "metrics"))]
        let _ = (tier, op);
    }

    pub(crate) fn op_time(&self, op: Op, took: Duration) {
        #[cfg(feature = "metrics")]
        self.facade.op_time(op, took);
        #[cfg(not(feature = "metrics"))]
        let _ = (op, took);
    }

    pub(crate) fn load(&self, result: LoadResult, took: Duration) {
        bump(&self.loads);
        if !matches!(result, LoadResult::Value | LoadResult::Absent) {
            bump(&self.load_failures);
        }
        #[cfg(feature = "metrics")]
        self.facade.load(result, took);
        #[cfg(not(feature = "metrics"))]
        let _ = took;
    }

    pub(crate) fn coalesced(&self) {
        bump(&self.coalesced);
        #[cfg(feature = "metrics")]
        self.facade.coalesced();
    }

    pub(crate) fn decode_failure(&self, reason: &'static str) {
        bump(&self.decode_failures);
        #[cfg(feature = "metrics")]
        self.facade.decode_failure(reason);
        #[cfg(not(feature = "metrics"))]
        let _ = reason;
    }

    pub(crate) fn stats(&self) -> Stats {
        let outcome = |outcome: Outcome| read(&self.outcomes[outcome as usize]);
        Stats {
            hit_l1: outcome(Outcome::HitL1),
            hit_l2: outcome(Outcome::HitL2),
            stale: outcome(Outcome::Stale),
            negative: outcome(Outcome::Negative),
            load: outcome(Outcome::Load),
            shared: outcome(Outcome::Shared),
            miss: outcome(Outcome::Miss),
            error: outcome(Outcome::Error),
            loads: read(&self.loads),
            load_failures: read(&self.load_failures),
            coalesced: read(&self.coalesced),
            decode_failures: read(&self.decode_failures),
            skipped_stores: read(&self.skipped_stores),
            refused_fills: read(&self.refused_fills),
        }
    }
}

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
    /// Stored entries that were refused: damaged, of another version, shape or codec.
    pub decode_failures: u64,
    /// Values that could not be encoded or were too large, and so were not stored in L2.
    pub skipped_stores: u64,
    /// Fills that came too late: overtaken by an invalidation or a write.
    pub refused_fills: u64,
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

fn bump(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

fn read(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

#[cfg(feature = "metrics")]
mod facade {
    //! The same counts as Prometheus-style series.

    use std::{fmt, time::Duration};

    use metrics::{
        Counter, Histogram, SharedString, counter, describe_counter, describe_histogram, histogram,
    };

    use super::{LoadResult, Op, OpResult, Tier};
    use crate::Outcome;

    pub(super) struct Facade {
        requests: Vec<Counter>,
        l1_ops: Vec<Counter>,
        l2_ops: Vec<Counter>,
        op_seconds: Vec<Histogram>,
        load_seconds: Vec<Histogram>,
        coalesced: Counter,
        cache: SharedString,
    }

    impl fmt::Debug for Facade {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.debug_struct("Facade").finish_non_exhaustive()
        }
    }

    impl Facade {
        pub(super) fn new(cache: &str, l1: Option<&'static str>, l2: Option<&'static str>) -> Self {
            describe();
            let cache = SharedString::from(cache.to_owned());
            let ops = |tier: Option<&'static str>| -> Vec<Counter> {
                let Some(tier) = tier else { return Vec::new() };
                let pairs = Op::LABELS
                    .iter()
                    .flat_map(|op| OpResult::LABELS.iter().map(move |result| (*op, *result)));
                pairs
                    .map(|(op, result)| {
                        if possible(op, result) {
                            counter!("tiered_tier_ops_total", "cache" => cache.clone(), "tier" => tier, "op" => op, "result" => result)
                        } else {
                            Counter::noop()
                        }
                    })
                    .collect()
            };
            let op_seconds = |tier: &'static str| {
                let timer = |op: &&'static str| histogram!("tiered_tier_op_seconds", "cache" => cache.clone(), "tier" => tier, "op" => *op);
                Op::LABELS.iter().map(timer).collect()
            };
            Self {
                requests: Outcome::ALL
                    .iter()
                    .map(|outcome| counter!("tiered_requests_total", "cache" => cache.clone(), "outcome" => outcome.as_str()))
                    .collect(),
                l1_ops: ops(l1),
                l2_ops: ops(l2),
                op_seconds: l2.map(op_seconds).unwrap_or_default(),
                load_seconds: LoadResult::LABELS
                    .iter()
                    .map(|result| histogram!("tiered_load_seconds", "cache" => cache.clone(), "result" => *result))
                    .collect(),
                coalesced: counter!("tiered_loads_coalesced_total", "cache" => cache.clone()),
                cache,
            }
        }

        pub(super) fn request(&self, outcome: Outcome) {
            if let Some(counter) = self.requests.get(outcome as usize) {
                counter.increment(1);
            }
        }

        pub(super) fn op(&self, tier: Tier, op: Op, result: OpResult) {
            let counters = match tier {
                Tier::L1 => &self.l1_ops,
                Tier::L2 => &self.l2_ops,
            };
            let place = op as usize * OpResult::LABELS.len() + result as usize;
            if let Some(counter) = counters.get(place) {
                counter.increment(1);
            }
        }

        pub(super) fn op_time(&self, op: Op, took: Duration) {
            if let Some(histogram) = self.op_seconds.get(op as usize) {
                histogram.record(took);
            }
        }

        pub(super) fn load(&self, result: LoadResult, took: Duration) {
            if let Some(histogram) = self.load_seconds.get(result as usize) {
                histogram.record(took);
            }
        }

        pub(super) fn coalesced(&self) {
            self.coalesced.increment(1);
        }

        /// Rare, and with many reasons: looked up each time.
        pub(super) fn decode_failure(&self, reason: &'static str) {
            counter!("tiered_decode_failures_total", "cache" => self.cache.clone(), "reason" => reason).increment(1);
        }
    }

    /// Keeps series that can never count out of the exposition.
    fn possible(op: &str, result: &str) -> bool {
        match result {
            "timeout" | "error" => true,
            "ok" => matches!(op, "release" | "set" | "delete" | "clear" | "ping"),
            "hit" | "miss" => op == "get",
            "granted" | "held" => op == "lease",
            "stored" | "refused" => op == "fill",
            "skipped" => matches!(op, "fill" | "set"),
            _ => false,
        }
    }

    fn describe() {
        describe_counter!("tiered_requests_total", "Logical reads by outcome.");
        describe_counter!("tiered_tier_ops_total", "Operations on a tier by result.");
        describe_histogram!(
            "tiered_tier_op_seconds",
            metrics::Unit::Seconds,
            "Time of operations on the remote tier."
        );
        describe_histogram!(
            "tiered_load_seconds",
            metrics::Unit::Seconds,
            "Time of loads by result."
        );
        describe_counter!(
            "tiered_decode_failures_total",
            "Stored entries that were refused, by reason."
        );
        describe_counter!(
            "tiered_loads_coalesced_total",
            "Reads that waited for another read's walk."
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_of_nothing_are_zero() {
        let stats = Stats::default();
        assert_eq!((stats.hit_rate(), stats.l1_hit_rate(), stats.l2_hit_rate()), (0.0, 0.0, 0.0));
    }

    #[test]
    fn each_outcome_has_its_own_counter() {
        let meter = Meter::new("test", None, None);
        for (times, outcome) in Outcome::ALL.into_iter().enumerate() {
            (0..=times).for_each(|_| meter.request(outcome));
        }
        let stats = meter.stats();
        let counts = [
            stats.hit_l1,
            stats.hit_l2,
            stats.stale,
            stats.negative,
            stats.load,
            stats.shared,
            stats.miss,
            stats.error,
        ];
        assert_eq!(counts, [1, 2, 3, 4, 5, 6, 7, 8]);
        assert_eq!(stats.reads(), 36);
        assert!((stats.hit_rate() - 10.0 / 36.0).abs() < 1e-12);
    }
}
