//! How long entries live: defaults, presets and jitter.
//!
//! Every entry has a lifetime. Jitter spreads the lifetimes of entries that were written together,
//! so that they do not expire together and send their loads to the database in one wave.

use std::{ops::RangeInclusive, time::Duration};

use tiered_tiers::ConfigError;

/// 5 minutes: for what changes while people look at it.
pub const HOT: Duration = Duration::from_secs(5 * 60);
/// 1 hour.
pub const WARM: Duration = Duration::from_secs(60 * 60);
/// 24 hours.
pub const COLD: Duration = Duration::from_secs(24 * 60 * 60);
/// 7 days: for what changes with deployments.
pub const STATIC: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// The longest lifetime that may be asked for: ten years.
pub(crate) const LONGEST: Duration = Duration::from_secs(3650 * 24 * 60 * 60);
/// The shortest one: what servers can express.
pub(crate) const SHORTEST: Duration = Duration::from_millis(1);

/// By what factor an entry's fresh time is multiplied, drawn evenly from a range for each entry.
///
/// The default shortens by up to 10 %: an entry never lives longer than it was told to.
#[derive(Clone, Debug, PartialEq)]
pub struct Jitter(RangeInclusive<f64>);

impl Jitter {
    /// Lifetimes exactly as told.
    #[must_use]
    pub fn none() -> Self {
        Self(1.0..=1.0)
    }

    /// Shorter by nothing up to `share`: `shorten(0.1)` gives 90 to 100 %.
    #[must_use]
    pub fn shorten(share: f64) -> Self {
        Self(1.0 - share..=1.0)
    }

    /// Longer by `shares`: `lengthen(0.1..=0.2)` gives 110 to 120 %.
    #[must_use]
    pub fn lengthen(shares: RangeInclusive<f64>) -> Self {
        Self(1.0 + shares.start()..=1.0 + shares.end())
    }

    /// A factor of this jitter applied to `told`; never under a millisecond.
    pub(crate) fn apply(&self, told: Duration) -> Duration {
        let (low, high) = (*self.0.start(), *self.0.end());
        if low == 1.0 && high == 1.0 {
            return told;
        }
        told.mul_f64(low + (high - low) * fastrand::f64()).clamp(SHORTEST, LONGEST)
    }

    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        let (low, high) = (*self.0.start(), *self.0.end());
        // Written so that NaN is refused, too.
        if low > 0.0 && low <= high && high <= 2.0 {
            return Ok(());
        }
        Err(ConfigError::new(format!(
            "jitter multiplies lifetimes by {low} to {high}: give factors above 0 and up to 2, \
             the lower one first, e.g. Jitter::shorten(0.1) or Jitter::lengthen(0.1..=0.2)"
        )))
    }
}

impl Default for Jitter {
    fn default() -> Self {
        Self::shorten(0.1)
    }
}

/// Checks a lifetime that must not be zero.
pub(crate) fn check(name: &str, given: Duration) -> Result<(), ConfigError> {
    if given < SHORTEST {
        return Err(ConfigError::new(format!(
            "{name} is {given:?}: every entry lives at least 1 ms; to keep a call out of a tier \
             use skip_l1() or skip_l2()"
        )));
    }
    check_longest(name, given)
}

/// Checks a lifetime that may be zero.
pub(crate) fn check_longest(name: &str, given: Duration) -> Result<(), ConfigError> {
    if given > LONGEST {
        return Err(ConfigError::new(format!(
            "{name} is {given:?}: the longest lifetime is ten years ({LONGEST:?})"
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spread(jitter: &Jitter) -> (Duration, Duration) {
        let drawn: Vec<_> = (0..2_000).map(|_| jitter.apply(Duration::from_secs(100))).collect();
        (*drawn.iter().min().unwrap(), *drawn.iter().max().unwrap())
    }

    #[test]
    fn the_default_only_shortens_and_by_at_most_a_tenth() {
        let (low, high) = spread(&Jitter::default());
        assert!(low >= Duration::from_secs(90) && low < Duration::from_secs(92), "{low:?}");
        assert!(high <= Duration::from_secs(100) && high > Duration::from_secs(98), "{high:?}");
    }

    #[test]
    fn ten_to_twenty_percent_upward_can_be_said() {
        let (low, high) = spread(&Jitter::lengthen(0.1..=0.2));
        assert!(low >= Duration::from_millis(109_999), "{low:?}");
        assert!(high <= Duration::from_millis(120_001), "{high:?}");
    }

    #[test]
    fn a_jitter_that_cannot_work_is_refused_with_the_way_out() {
        for bad in [
            Jitter::shorten(1.0),
            Jitter::shorten(f64::NAN),
            Jitter::shorten(-0.5),
            Jitter::lengthen(0.1..=7.0),
        ] {
            assert!(bad.check().unwrap_err().to_string().contains("Jitter::shorten(0.1)"));
        }
        assert!(Jitter::none().check().is_ok());
    }
}
