//! [`Tally`]: what was counted, as lines that processes send each other.

use std::fmt::Write;

use crate::histogram::Histogram;

macro_rules! names {
    ($(#[$doc:meta])* $kind:ident { $($(#[$of:meta])* $variant:ident = $name:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) enum $kind { $($(#[$of])* $variant,)* }

        impl $kind {
            const ALL: &'static [(Self, &'static str)] = &[$((Self::$variant, $name),)*];
        }
    };
}

names! {
    /// What is counted.
    Count {
        /// Reads that were judged: each of those below, down to `Past`.
        Reads = "reads",
        /// Served by L1.
        Local = "local",
        /// Served by the server, or shared with somebody whom it served.
        Remote = "remote",
        /// Loaded by the reader itself.
        Loaded = "loaded",
        /// Served somebody else's load.
        Shared = "shared",
        /// Served by any of these: the short forms of a read, and batches, do not tell.
        Somewhere = "somewhere",
        /// Served past its freshness or proof, while it was refreshed or because all else failed.
        Past = "past",
        /// Reads that found nothing.
        Missed = "missed",
        /// Reads that were given up midway.
        GivenUp = "given_up",
        /// Reads that failed as the database did.
        DatabaseFailed = "database_failed",
        /// Reads that failed though the database did not.
        Failed = "failed",
        /// Reads that took longer than 20 ms.
        Slow = "slow",
        /// Looks into L2.
        Looks = "looks",
        /// Looks that found nothing.
        Absent = "absent",
        /// Looks that got no answer.
        Silent = "silent",
        /// Looks after everything was quiet.
        LastLooks = "last_looks",
        /// Values that were acknowledged to be gone from L2, and were there.
        StaleFills = "stale_fills",
        /// Reads that missed an invalidation or a write of their own process.
        Forgotten = "forgotten",
        /// Reads whose own load was older than they.
        LateLoads = "late_loads",
        /// Values of another key, damaged, or never written.
        Wrong = "wrong",
        /// L1's answers that were stale for too long.
        TooStale = "too_stale",
        /// Invalidations and writes that were final.
        Acked = "acked",
        /// Those that were not.
        Pending = "pending",
        /// Those that were given up midway.
        Dropped = "dropped",
        /// Those that failed.
        Refused = "refused",
    }
}

names! {
    /// What is measured, in nanoseconds.
    Measure {
        /// How stale L1's answers were when they were asked for, if they were.
        StaleLocal = "stale_local",
        /// The same at their end, of reads that took less than 20 ms.
        StaleLocalAfter = "stale_local_after",
        /// How stale what was shared with others was.
        StaleShared = "stale_shared",
        /// How stale what came from somewhere was.
        StaleSomewhere = "stale_somewhere",
        /// How stale what was served past its freshness was.
        StalePast = "stale_past",
        /// How long reads took that did not end at once.
        Walk = "walk",
    }
}

/// Counts and measures.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tally {
    counts: [u64; Count::ALL.len()],
    measures: [Histogram; Measure::ALL.len()],
}

impl Tally {
    pub(crate) fn count(&mut self, count: Count) {
        self.counts[count as usize] += 1;
    }

    pub(crate) fn measure(&mut self, measure: Measure, nanoseconds: u64) {
        self.measures[measure as usize].add(nanoseconds);
    }

    pub(crate) fn of(&self, count: Count) -> u64 {
        self.counts[count as usize]
    }

    pub(crate) fn measured(&self, measure: Measure) -> &Histogram {
        &self.measures[measure as usize]
    }

    pub(crate) fn clear(&mut self) {
        self.counts = [0; Count::ALL.len()];
        self.measures.iter_mut().for_each(Histogram::clear);
    }

    pub(crate) fn merge(&mut self, other: &Self) {
        for (own, others) in self.counts.iter_mut().zip(&other.counts) {
            *own += others;
        }
        for (own, others) in self.measures.iter_mut().zip(&other.measures) {
            own.merge(others);
        }
    }

    /// As words: `name=value`, without those that are zero.
    pub(crate) fn line(&self) -> String {
        let mut line = String::new();
        for (count, name) in Count::ALL.iter().filter(|(count, _)| self.of(*count) > 0) {
            // Into a string nothing fails.
            let _ = write!(line, " {name}={}", self.of(*count));
        }
        for (measure, name) in Measure::ALL {
            let measured = self.measured(*measure);
            if measured.count() > 0 {
                let _ = write!(line, " {name}=");
                let _ = measured.write(&mut line);
            }
        }
        line
    }

    /// What [`line`](Self::line) made. `None` for a line that was cut short.
    pub(crate) fn read(line: &str) -> Option<Self> {
        let mut tally = Self::default();
        for word in line.split_whitespace() {
            let (name, value) = word.split_once('=')?;
            if let Some((count, _)) = Count::ALL.iter().find(|(_, known)| *known == name) {
                tally.counts[*count as usize] = value.parse().ok()?;
            } else {
                let (measure, _) = Measure::ALL.iter().find(|(_, known)| *known == name)?;
                tally.measures[*measure as usize] = Histogram::read(value)?;
            }
        }
        Some(tally)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tally_survives_the_way_and_adds_up() {
        let mut tally = Tally::default();
        tally.count(Count::Reads);
        tally.count(Count::Refused);
        tally.measure(Measure::Walk, 1_000_000);
        let mut read = Tally::read(&tally.line()).unwrap();
        read.merge(&tally);
        assert_eq!((read.of(Count::Reads), read.of(Count::Refused)), (2, 2));
        assert_eq!(read.measured(Measure::Walk).count(), 2);
        assert_eq!(read.measured(Measure::Walk).max(), 1_000_000);
        assert_eq!(read.of(Count::Wrong), 0);
        assert!(Tally::read("reads=1 wal").is_none());
    }
}
