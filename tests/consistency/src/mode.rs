//! [`Mode`]: how the workers' caches are put together, and what is promised of them.

use std::{sync::Arc, time::Duration};

use anyhow::{Result, bail};
use tiered::{
    Builder, Postcard, Tiered,
    tiers::{Memcached, Quick, Redis, RemoteTier},
};
use tiered_tiers::testing::{BusFault, FaultyBus};

/// How long L1 may serve what it has without asking, or hearing of the bus, in a run: ten times shorter than by default, so that
/// there is much to see.
const LOCAL_FOR: Duration = Duration::from_secs(1);
/// How long a lease lasts in a run: slow loads outlast it.
const LEASE_FOR: Duration = Duration::from_secs(1);

/// Which tiers there are, and what becomes of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// L2 only: nothing stands between the readers and the fence.
    Fence,
    /// L1 over L2, which hears nothing of other processes.
    Local,
    /// L1 over L2, and a bus of which so many messages in a hundred are lost on their way.
    Bus(u8),
    /// L1 over L2 and a bus, on a server that is short of memory, and evicts by one policy after the other.
    Pressure,
    /// As `Local`, over memcached.
    Memcached,
    /// As `Local`, by links that lie.
    Lies,
    /// As `Local`, over a primary that dies, and a replica that takes its place without the last writes.
    Failover,
    /// As `Local`, over a primary, replicas and sentinels, which replace also a primary that lives: then there are two for a moment.
    Sentinels,
}

impl Mode {
    pub(crate) const ALL: [Self; 10] = [
        Self::Fence,
        Self::Local,
        Self::Bus(0),
        Self::Bus(50),
        Self::Bus(100),
        Self::Pressure,
        Self::Memcached,
        Self::Failover,
        Self::Lies,
        Self::Sentinels,
    ];

    pub(crate) fn named(name: &str) -> Result<Self> {
        match Self::ALL.into_iter().find(|mode| mode.name() == name) {
            Some(mode) => Ok(mode),
            None => bail!(
                "there is no mode {name}; there are fence, local, bus, bus-half, bus-deaf, pressure, memcached, failover, lies, sentinels, all"
            ),
        }
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Fence => "fence",
            Self::Local => "local",
            Self::Bus(0) => "bus",
            Self::Bus(100) => "bus-deaf",
            Self::Bus(_) => "bus-half",
            Self::Pressure => "pressure",
            Self::Memcached => "memcached",
            Self::Lies => "lies",
            Self::Failover => "failover",
            Self::Sentinels => "sentinels",
        }
    }

    /// The cache of a worker, over the servers at `url`.
    pub(crate) fn cache(self, url: &str) -> Result<Tiered> {
        let l2 = self.l2(url)?;
        let builder = match self {
            Self::Fence => Tiered::remote(l2),
            Self::Bus(lost) => {
                let bus = FaultyBus::new(Redis::new(url)?.bus());
                bus.inject(BusFault::LoseMessages(lost));
                Tiered::new(Quick::new(100_000), l2).bus(bus).max_staleness(LOCAL_FOR)
            }
            Self::Pressure => Tiered::new(Quick::new(100_000), l2)
                .bus(Redis::new(url)?.bus())
                .max_staleness(LOCAL_FOR),
            _ => Tiered::new(Quick::new(100_000), l2),
        };
        Ok(common(builder).local_for(LOCAL_FOR).last_resort_for(LOCAL_FOR).build()?)
    }

    /// A cache that shows what is in L2 to whoever shares it with nobody.
    pub(crate) fn glass(self, url: &str) -> Result<Tiered> {
        Ok(common(Tiered::remote(self.l2(url)?)).build()?)
    }

    fn l2(self, url: &str) -> Result<Arc<dyn RemoteTier>> {
        Ok(match self {
            Self::Memcached => Arc::new(Memcached::new(url)?),
            _ => Arc::new(Redis::new(url)?),
        })
    }

    /// How stale L1's answers may be; `None` where there is no L1.
    pub(crate) fn local_bound(self) -> Option<Duration> {
        match self {
            Self::Fence => None,
            _ => Some(LOCAL_FOR),
        }
    }

    /// How stale L1's answers may be when neither L2 nor the database gives one.
    pub(crate) fn last_bound(self) -> Duration {
        self.local_bound().unwrap_or_default() * 2
    }

    /// Whether what was acknowledged stays so: a primary that was deposed and does not know it acknowledges what the new one
    /// never hears of, and a lie what was never done.
    pub(crate) fn keeps_what_it_acknowledged(self) -> bool {
        !matches!(self, Self::Lies | Self::Sentinels)
    }
}

fn common(builder: Builder<Postcard>) -> Builder<Postcard> {
    builder.namespace("history").fresh_for(Duration::from_secs(30)).lease_for(LEASE_FOR)
}
