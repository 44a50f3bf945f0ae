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
    lease_waits: Counter,
    unstored_loads: Counter,
    bus_heard: Counter,
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
            lease_waits: counter!("tiered_lease_waits_total", "cache" => cache.clone()),
            unstored_loads: counter!("tiered_loads_unstored_total", "cache" => cache.clone()),
            bus_heard: counter!("tiered_bus_messages_total", "cache" => cache.clone()),
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

    pub(super) fn lease_wait(&self) {
        self.lease_waits.increment(1);
    }

    pub(super) fn unstored_load(&self) {
        self.unstored_loads.increment(1);
    }

    pub(super) fn bus_heard(&self, messages: u64) {
        self.bus_heard.increment(messages);
    }

    /// Rare: looked up each time.
    pub(super) fn bus_void(&self, reason: &'static str) {
        counter!("tiered_bus_voids_total", "cache" => self.cache.clone(), "reason" => reason)
            .increment(1);
    }

    /// Rare, and with many reasons: looked up each time.
    pub(super) fn decode_failure(&self, reason: &'static str) {
        counter!("tiered_decode_failures_total", "cache" => self.cache.clone(), "reason" => reason)
            .increment(1);
    }
}

/// Keeps series that can never count out of the exposition.
fn possible(op: &str, result: &str) -> bool {
    match result {
        "timeout" | "error" => true,
        "ok" => matches!(op, "release" | "set" | "delete" | "clear" | "ping" | "tag"),
        "hit" | "miss" => op == "get",
        "granted" => matches!(op, "lease" | "renew"),
        "held" | "on_hold" => op == "lease",
        "stored" => matches!(op, "fill" | "set"),
        "refused" => matches!(op, "fill" | "renew" | "set"),
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
    describe_histogram!("tiered_load_seconds", metrics::Unit::Seconds, "Time of loads by result.");
    describe_counter!(
        "tiered_decode_failures_total",
        "Stored entries that were refused, by reason."
    );
    describe_counter!("tiered_loads_coalesced_total", "Reads that waited for another read's walk.");
    describe_counter!(
        "tiered_lease_waits_total",
        "Reads that waited for another process' load of the key."
    );
    describe_counter!(
        "tiered_loads_unstored_total",
        "Loads without a lease: not stored on the cache server."
    );
    describe_counter!("tiered_bus_messages_total", "Messages heard on the bus, own ones included.");
    describe_counter!(
        "tiered_bus_voids_total",
        "How often all of L1 lost the bus' proof, by reason."
    );
}
