//! Counting: what every cache counts for itself, and the same through the `metrics` facade.
//!
//! Handles are made once, when the cache is built: a cached handle costs two nanoseconds where a
//! lookup by labels costs a hundred. They belong to the recorder installed by then, so install it
//! first. [`Stats`] needs no recorder.

#[cfg(feature = "metrics")]
mod facade;

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use tiered_tiers::protocol::Void;

use crate::{Outcome, Stats};

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
        Incarnation = "incarnation",
        Lease = "lease",
        Renew = "renew",
        Hold = "hold",
        EndHold = "end_hold",
        Fill = "fill",
        Release = "release",
        Set = "set",
        Delete = "delete",
        Clear = "clear",
        Ping = "ping",
        Tag = "tag",
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
        OnHold = "on_hold",
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
    lease_waits: AtomicU64,
    unstored_loads: AtomicU64,
    bus_heard: AtomicU64,
    bus_voids: AtomicU64,
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
            lease_waits: AtomicU64::new(0),
            unstored_loads: AtomicU64::new(0),
            bus_heard: AtomicU64::new(0),
            bus_voids: AtomicU64::new(0),
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
            OpResult::Refused if op == Op::Fill => bump(&self.refused_fills),
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

    /// Counts a read that began to wait for another process' load.
    pub(crate) fn lease_wait(&self) {
        bump(&self.lease_waits);
        #[cfg(feature = "metrics")]
        self.facade.lease_wait();
    }

    /// Counts a load that may not be stored in L2.
    pub(crate) fn unstored_load(&self) {
        bump(&self.unstored_loads);
        #[cfg(feature = "metrics")]
        self.facade.unstored_load();
    }

    /// Counts messages of the bus.
    pub(crate) fn bus_heard(&self, messages: u64) {
        self.bus_heard.fetch_add(messages, Ordering::Relaxed);
        #[cfg(feature = "metrics")]
        self.facade.bus_heard(messages);
    }

    /// Counts that L1 was voided.
    pub(crate) fn bus_void(&self, why: Void) {
        bump(&self.bus_voids);
        #[cfg(feature = "metrics")]
        self.facade.bus_void(match why {
            Void::Opened => "opened",
            Void::Gap => "gap",
            Void::Headless => "headless",
            Void::OtherRun => "other_run",
        });
        #[cfg(not(feature = "metrics"))]
        let _ = why;
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
            lease_waits: read(&self.lease_waits),
            unstored_loads: read(&self.unstored_loads),
            bus_heard: read(&self.bus_heard),
            bus_voids: read(&self.bus_voids),
        }
    }
}

fn bump(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

fn read(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

#[cfg(test)]
mod tests {
    use super::*;

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
