//! How the queue is drained: in which pieces, how patiently, and the check that this can work.

use std::time::Duration;

use crate::Error;

/// What the builder was told.
#[derive(Clone, Debug)]
pub(super) struct Rules {
    pub(super) max_pending: usize,
    pub(super) batch: usize,
    pub(super) every: Duration,
    pub(super) retries: u32,
    pub(super) backoff: (Duration, Duration),
    pub(super) write_timeout: Duration,
    pub(super) flush_within: Duration,
}

impl Rules {
    /// How many values of so many failed writes may be written together: ever fewer, and in the last try each alone.
    /// Then one that the database refuses takes no other along.
    #[allow(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a batch is far smaller than 2^52, and so is its root"
    )]
    pub(super) fn at_most(&self, attempts: u32) -> usize {
        let left = 1.0 - f64::from(attempts) / f64::from(self.retries.max(1));
        (self.batch as f64).powf(left.clamp(0.0, 1.0)).ceil() as usize
    }

    /// How long to wait after a write that was the `attempts`th to fail: doubled each time, and spread, so that
    /// many processes do not come back together.
    pub(super) fn wait(&self, attempts: u32) -> Duration {
        let (first, longest) = self.backoff;
        let doubled = first.saturating_mul(1_u32.checked_shl(attempts).unwrap_or(u32::MAX));
        doubled.min(longest).mul_f64(0.5 + 0.5 * fastrand::f64())
    }
}

impl Rules {
    /// Refuses what cannot work.
    pub(super) fn check(&self) -> Result<(), Error> {
        let refuse = |message: String| Err(Error::config(message));
        let most = Duration::from_secs(3_600);
        if self.batch == 0 || self.batch > 1_000_000 {
            return refuse(format!(
                "batch is {}: give 1 to 1,000,000 values, e.g. 100",
                self.batch
            ));
        }
        if self.max_pending == 0 {
            return refuse("max_pending is 0: no value could be set; give e.g. 10_000".into());
        }
        if self.retries > 1_000 {
            return refuse(format!("retries is {}: give at most 1,000, e.g. 16", self.retries));
        }
        let (first, longest) = self.backoff;
        if first.is_zero() || first > longest || longest > most {
            return refuse(format!(
                "backoff is {first:?} to {longest:?}: give a first wait above 0 and a longest one that is no \
                 shorter, an hour at most, e.g. 100 ms and 30 s"
            ));
        }
        for (name, time) in [
            ("every", self.every),
            ("write_timeout", self.write_timeout),
            ("flush_within", self.flush_within),
        ] {
            if time.is_zero() || time > most {
                return refuse(format!("{name} is {time:?}: give 1 ms to an hour"));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules() -> Rules {
        Rules {
            max_pending: 10,
            batch: 100,
            every: Duration::from_millis(50),
            retries: 4,
            backoff: (Duration::from_millis(100), Duration::from_secs(2)),
            write_timeout: Duration::from_secs(1),
            flush_within: Duration::from_secs(1),
        }
    }

    #[test]
    fn retries_are_ever_smaller_and_the_last_is_of_one() {
        let sizes: Vec<_> = (0..=5).map(|attempts| rules().at_most(attempts)).collect();
        assert_eq!(sizes, [100, 32, 10, 4, 1, 1]);
        assert_eq!(Rules { retries: 0, ..rules() }.at_most(0), 100);
    }

    #[test]
    fn waits_double_up_to_the_longest_and_are_spread() {
        for (attempts, least, most) in
            [(0, 50, 100), (1, 100, 200), (4, 800, 1_600), (99, 1_000, 2_000)]
        {
            for _ in 0..100 {
                let wait = rules().wait(attempts).as_millis();
                assert!((least..=most).contains(&wait), "{attempts}: {wait}");
            }
        }
    }
}
