//! How much a local tier may hold: a number of entries, or a sum of their weights.
//!
//! One type for every local tier, so that a bound of zero is refused by all of them in the same
//! words. Rejected: a tier without a bound; an L1 that grows until the process dies is a leak.

use crate::ConfigError;

/// The bound of a local tier.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bound {
    /// At most so many entries; weights do not count.
    Entries(u64),
    /// At most so much weight in total.
    Weight(u64),
}

impl Bound {
    /// The largest total this bound allows.
    pub(crate) fn limit(self) -> u64 {
        match self {
            Self::Entries(limit) | Self::Weight(limit) => limit,
        }
    }

    /// What an entry of `weight` counts; never nothing, for every entry takes room.
    pub(crate) fn cost(self, weight: u64) -> u64 {
        match self {
            Self::Entries(_) => 1,
            Self::Weight(_) => weight.max(1),
        }
    }

    /// Whether weights count.
    pub(crate) fn is_weight(self) -> bool {
        matches!(self, Self::Weight(_))
    }

    /// Refuses a bound that can hold nothing. `tier` is the type's name, as users write it.
    pub(crate) fn check(self, tier: &str) -> Result<(), ConfigError> {
        let (call, unit) = match self {
            Self::Entries(0) => ("new", "entries"),
            Self::Weight(0) => ("weighted", "units of weight"),
            Self::Entries(_) | Self::Weight(_) => return Ok(()),
        };
        Err(ConfigError::new(format!(
            "{tier}::{call}(0) holds 0 {unit}: give it at least 1, or leave the tier out of the cache"
        )))
    }
}
