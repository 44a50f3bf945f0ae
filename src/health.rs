//! How the tiers are: for a service's health endpoint.

use std::time::Duration;

use tiered_tiers::TierError;

/// The state of a cache and its tiers.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Health {
    /// The local tier, if there is one.
    pub l1: Option<TierHealth>,
    /// The remote tier, if there is one.
    pub l2: Option<TierHealth>,
    /// The bus, if there is one.
    pub bus: Option<BusHealth>,
    /// Invalidations that the server has not confirmed yet.
    pub pending: usize,
    /// Whether the cache is switched on.
    pub enabled: bool,
}

impl Health {
    /// Whether every tier answers, the bus is heard, and nothing is pending. A service works without that, slower.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        let up = |tier: &Option<TierHealth>| tier.as_ref().is_none_or(|tier| tier.down.is_none());
        let heard = self.bus.as_ref().is_none_or(BusHealth::is_heard);
        up(&self.l1) && up(&self.l2) && heard && self.pending == 0
    }
}

/// The state of one tier.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct TierHealth {
    /// The tier's name: `"redis"`.
    pub name: &'static str,
    /// Why it gives no answer; `None` if it does.
    pub down: Option<TierError>,
    /// How long it took to answer, or not to; at most the cache's budget.
    pub latency: Duration,
    /// About how many entries it holds, where that is known.
    pub entries: Option<u64>,
}

/// The state of the bus.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct BusHealth {
    /// The bus' name: `"redis"`.
    pub name: &'static str,
    /// Whether somebody listens: from the first use of the cache on.
    pub listening: bool,
    /// How long ago it was last proven that nothing is missed; `None` while nobody listens, and after something may have
    /// been missed.
    pub proven: Option<Duration>,
    /// How long ago that may be at most: with an older proof L1 asks L2.
    pub max_staleness: Duration,
}

impl BusHealth {
    /// Whether it is heard, or nobody listens yet.
    #[must_use]
    pub fn is_heard(&self) -> bool {
        !self.listening || self.proven.is_some_and(|age| age <= self.max_staleness)
    }
}
