//! Several caches that stand for processes: one server, one bus, one clock that stands still.

use std::time::Duration;

use tiered::{
    Builder, Jitter, Postcard, Tiered,
    tiers::{Bus, Clock, LocalBus, Memory, Moka},
};
use tiered_tiers::testing::FaultyBus;

use super::{SECOND, Switchable, eventually};

/// What they share.
pub struct Net {
    pub clock: Clock,
    pub l2: Switchable,
    pub bus: FaultyBus<LocalBus>,
}

impl Net {
    pub fn new() -> Self {
        let clock = Clock::manual();
        let l2 = Switchable::new(Memory::new().clock(clock.clone()));
        Self { clock, l2, bus: FaultyBus::seeded(LocalBus::new(), 7) }
    }

    pub fn node(&self) -> Tiered {
        self.node_with(|builder| builder)
    }

    pub fn node_with(
        &self,
        configure: impl FnOnce(Builder<Postcard>) -> Builder<Postcard>,
    ) -> Tiered {
        self.node_on(self.bus.clone(), configure)
    }

    /// One with another way to the bus.
    pub fn node_on(
        &self,
        bus: impl Bus,
        configure: impl FnOnce(Builder<Postcard>) -> Builder<Postcard>,
    ) -> Tiered {
        let builder = Tiered::new(Moka::new(10_000), self.l2.clone())
            .bus(bus)
            .clock(self.clock.clone())
            .jitter(Jitter::none())
            .fresh_for(60 * SECOND);
        configure(builder).build().unwrap()
    }
}

/// How long ago the bus proved that a cache misses nothing, in seconds.
pub async fn proven<C>(cache: &Tiered<C>) -> Option<f64> {
    Some(cache.health().await.bus?.proven?.as_secs_f64())
}

/// Waits until a cache listens, and is proven as of now.
pub async fn listens(cache: &Tiered) {
    // The first use begins it, whatever it is.
    let _ = cache.key("nothing").lookup::<u32>().await;
    reproven(cache).await;
}

/// Waits until it is proven as of now, by a clock that stands still.
pub async fn reproven<C>(cache: &Tiered<C>) {
    let start = std::time::Instant::now();
    while proven(cache).await != Some(0.0) {
        assert!(start.elapsed() < 20 * SECOND, "the bus does not prove it");
        // A real wait, as of `eventually`.
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// Waits until a cache has heard so many messages.
pub async fn has_heard<C>(cache: &Tiered<C>, messages: u64) {
    eventually("it is heard", || cache.stats().bus_heard >= messages).await;
    assert_eq!(cache.stats().bus_heard, messages);
}

/// What L1 serves by itself.
pub async fn in_l1(cache: &Tiered, key: &str) -> Option<u32> {
    cache.key(key).skip_l2().get::<u32>().await.unwrap().map(|value| *value)
}
