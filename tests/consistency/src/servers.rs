//! [`Servers`]: L2, with a bad link for each worker; or a primary with its replicas and sentinels.

use anyhow::Result;
use tiered_tiers::testing::{LinkFault, Proxy, RedisSentinel, RedisServer};

use crate::mode::Mode;

/// What the workers share.
#[derive(Debug)]
pub(crate) enum Servers {
    Single { server: RedisServer, links: Vec<Proxy> },
    Group(Box<RedisSentinel>),
}

impl Servers {
    pub(crate) async fn start(mode: Mode, workers: u64, seed: u64) -> Result<Self> {
        match mode {
            Mode::Fence | Mode::Local | Mode::Bus(_) | Mode::Lies => {
                let (server, mut links) = (RedisServer::start().await?, Vec::new());
                for worker in 0..workers {
                    links.push(Proxy::seeded(server.port(), seed ^ worker).await?);
                }
                Ok(Self::Single { server, links })
            }
            Mode::Failover => Ok(Self::Group(Box::new(RedisSentinel::start().await?))),
        }
    }

    /// The servers by a worker's own link. A group has no links: its sentinels tell the servers' own addresses.
    pub(crate) fn url(&self, worker: u64) -> String {
        match self {
            Self::Single { links, .. } => match links.get(worker as usize) {
                Some(link) => format!("redis://{}/", link.address()),
                None => self.direct(),
            },
            Self::Group(_) => self.direct(),
        }
    }

    /// The servers by a good link.
    pub(crate) fn direct(&self) -> String {
        match self {
            Self::Single { server, .. } => server.url(),
            Self::Group(group) => group.url(),
        }
    }

    /// Something happens to the link of a worker, or to all of them; nothing happens any more with no fault.
    pub(crate) fn inject(&self, worker: Option<u64>, fault: Option<LinkFault>) {
        let Self::Single { links, .. } = self else { return };
        let whose = |number: usize| worker.is_none_or(|worker| worker == number as u64);
        for (_, link) in links.iter().enumerate().filter(|(number, _)| whose(*number)) {
            match fault {
                Some(fault) => link.inject(fault),
                None => link.heal(),
            }
        }
    }

    /// The next request of a worker is thrown away.
    pub(crate) fn cut(&self, worker: u64) {
        if let Self::Single { links, .. } = self
            && let Some(link) = links.get(worker as usize)
        {
            link.cut_next_request();
        }
    }
}
