//! [`Servers`]: L2, with a bad link for each worker: one server, or a pair of which one follows the other; or a group
//! with sentinels.

use std::time::Duration;

use anyhow::Result;
use tiered_tiers::testing::{LinkFault, MemcachedServer, Proxy, RedisSentinel, RedisServer};

use tokio::time::sleep;

use crate::mode::Mode;

/// The memory of a server that is short of it: its own, its clients', and a few hundred entries.
const FULL: &str = "6mb";

/// What the workers share.
#[derive(Debug)]
pub(crate) enum Servers {
    Single { server: RedisServer, links: Vec<Proxy> },
    Memcached { server: MemcachedServer, links: Vec<Proxy> },
    Pair(Box<Pair>),
    Group(Box<RedisSentinel>),
}

impl Servers {
    pub(crate) async fn start(mode: Mode, workers: u64, seed: u64) -> Result<Self> {
        match mode {
            Mode::Fence | Mode::Local | Mode::Bus(_) | Mode::Lies => {
                let server = RedisServer::start().await?;
                let links = links(server.port(), workers, seed).await?;
                Ok(Self::Single { server, links })
            }
            Mode::Pressure => {
                let server = RedisServer::builder().config("maxmemory", FULL);
                let server = server.config("maxmemory-policy", "allkeys-random").start().await?;
                let links = links(server.port(), workers, seed).await?;
                Ok(Self::Single { server, links })
            }
            Mode::Memcached => {
                let server = MemcachedServer::start().await?;
                let links = links(server.port(), workers, seed).await?;
                Ok(Self::Memcached { server, links })
            }
            Mode::Failover => Ok(Self::Pair(Box::new(Pair::start(workers, seed).await?))),
            Mode::Sentinels => Ok(Self::Group(Box::new(RedisSentinel::start().await?))),
        }
    }

    /// The servers by a worker's own link. A group has no links: its sentinels tell the servers' own addresses.
    pub(crate) fn url(&self, worker: u64) -> String {
        match (self, self.links().get(worker as usize)) {
            (Self::Memcached { .. }, Some(link)) => link.address(),
            (_, Some(link)) => by(link),
            (_, None) => self.direct(),
        }
    }

    /// The servers by a good link.
    pub(crate) fn direct(&self) -> String {
        match self {
            Self::Single { server, .. } => server.url(),
            Self::Memcached { server, .. } => server.address(),
            Self::Pair(pair) => by(&pair.good_link),
            Self::Group(group) => group.url(),
        }
    }

    /// Something happens to the link of a worker, or to all of them; nothing happens any more with no fault.
    pub(crate) fn inject(&self, worker: Option<u64>, fault: Option<LinkFault>) {
        let whose = |number: usize| worker.is_none_or(|worker| worker == number as u64);
        for (_, link) in self.links().iter().enumerate().filter(|(number, _)| whose(*number)) {
            match fault {
                Some(fault) => link.inject(fault),
                None => link.heal(),
            }
        }
    }

    /// The next request of a worker is thrown away.
    pub(crate) fn cut(&self, worker: u64) {
        if let Some(link) = self.links().get(worker as usize) {
            link.cut_next_request();
        }
    }

    /// The workers' own links.
    fn links(&self) -> &[Proxy] {
        match self {
            Self::Single { links, .. } | Self::Memcached { links, .. } => links,
            Self::Pair(pair) => &pair.links,
            Self::Group(_) => &[],
        }
    }
}

/// A primary and its replica, at one address that leads to whichever is the primary.
#[derive(Debug)]
pub(crate) struct Pair {
    servers: [RedisServer; 2],
    primary: usize,
    /// What the replica follows the primary by.
    copying: Proxy,
    links: Vec<Proxy>,
    good_link: Proxy,
}

impl Pair {
    async fn start(workers: u64, seed: u64) -> Result<Self> {
        let server = || RedisServer::builder().config("repl-diskless-sync-delay", "0").start();
        let servers = [server().await?, server().await?];
        let port = servers[0].port();
        let links = links(port, workers, seed).await?;
        let (copying, good_link) = (Proxy::before(port).await?, Proxy::before(port).await?);
        let pair = Self { servers, primary: 0, copying, links, good_link };
        pair.follow(1).await?;
        Ok(pair)
    }

    /// A server becomes the replica of the other.
    async fn follow(&self, replica: usize) -> Result<()> {
        let port = self.copying.port().to_string();
        Ok(self.servers[replica].execute(&["REPLICAOF", "127.0.0.1", &port]).await?)
    }

    /// The replica hears nothing for so long; then the primary dies, and the replica takes its place with what it
    /// has. Never are there two.
    pub(crate) async fn fail_over(&mut self, lag: Duration) -> Result<()> {
        self.copying.inject(LinkFault::BlackHole);
        sleep(lag).await;
        let (old, new) = (self.primary, 1 - self.primary);
        self.servers[old].kill()?;
        self.servers[new].execute(&["REPLICAOF", "NO", "ONE"]).await?;
        let all = self.links.iter().chain([&self.good_link, &self.copying]);
        all.for_each(|link| link.lead_to(self.servers[new].port()));
        self.primary = new;
        self.copying.heal();
        self.servers[old].restart().await?;
        self.follow(old).await
    }
}

/// A link to the server at `port` for each worker.
async fn links(port: u16, workers: u64, seed: u64) -> Result<Vec<Proxy>> {
    let mut links = Vec::new();
    for worker in 0..workers {
        links.push(Proxy::seeded(port, seed ^ worker).await?);
    }
    Ok(links)
}

/// The address of a link.
fn by(link: &Proxy) -> String {
    format!("redis://{}/", link.address())
}
