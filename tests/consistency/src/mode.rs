//! [`Mode`]: how the workers' caches are put together, and what is promised of them.

use std::time::Duration;

use anyhow::{Result, bail};
use tiered::{
    Builder, Postcard, Tiered,
    tiers::{Quick, Redis},
};

/// How long L1 may serve what it has without asking, in a run: ten times shorter than by default, so that
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
    /// As `Local`, by links that lie.
    Lies,
    /// As `Local`, over a primary with replicas and sentinels that is replaced again and again.
    Failover,
    // The modes with a bus belong here: all messages arriving, half of them, none. Each needs a name in `ALL`,
    // a cache in `cache`, and Δ as the bound in `local_bound`.
}

impl Mode {
    pub(crate) const ALL: [Self; 4] = [Self::Fence, Self::Local, Self::Lies, Self::Failover];

    pub(crate) fn named(name: &str) -> Result<Self> {
        match Self::ALL.into_iter().find(|mode| mode.name() == name) {
            Some(mode) => Ok(mode),
            None => bail!("there is no mode {name}; there are fence, local, lies, failover, all"),
        }
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Fence => "fence",
            Self::Local => "local",
            Self::Lies => "lies",
            Self::Failover => "failover",
        }
    }

    /// The cache of a worker, over the servers at `url`.
    pub(crate) fn cache(self, url: &str) -> Result<Tiered> {
        let l2 = Redis::new(url)?;
        let builder = match self {
            Self::Fence => Tiered::remote(l2),
            Self::Local | Self::Lies | Self::Failover => Tiered::new(Quick::new(100_000), l2),
        };
        Ok(common(builder).local_for(LOCAL_FOR).build()?)
    }

    /// A cache that shows what is in L2 to whoever shares it with nobody.
    pub(crate) fn glass(url: &str) -> Result<Tiered> {
        Ok(common(Tiered::remote(Redis::new(url)?)).build()?)
    }

    /// How stale L1's answers may be; `None` where there is no L1.
    pub(crate) fn local_bound(self) -> Option<Duration> {
        match self {
            Self::Fence => None,
            Self::Local | Self::Lies | Self::Failover => Some(LOCAL_FOR),
        }
    }

    /// How stale L1's answers may be when neither L2 nor the database gives one.
    pub(crate) fn last_bound(self) -> Duration {
        self.local_bound().unwrap_or_default() * 2
    }

    /// Whether what was acknowledged stays so: a failover may lose it, and a lie may acknowledge what was never
    /// done.
    pub(crate) fn keeps_what_it_acknowledged(self) -> bool {
        matches!(self, Self::Fence | Self::Local)
    }
}

fn common(builder: Builder<Postcard>) -> Builder<Postcard> {
    builder.namespace("history").fresh_for(Duration::from_secs(30)).lease_for(LEASE_FOR)
}
