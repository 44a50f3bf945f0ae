//! [`RedisCluster`]: six `redis-server` processes of one test that make a cluster.
//!
//! It is formed by the cluster's own commands: `redis-cli --cluster create` waits for whole seconds, and asks.

use std::{io, ops::Range};

use futures_util::future::try_join_all;

use super::{
    RedisServer,
    process::{eventually, free_port},
};

/// How many primaries there are, and as many replicas.
const PRIMARIES: usize = 3;

/// A Redis Cluster that belongs to the test: nodes 0 to 2 begin as primaries, 3 to 5 as their replicas, in this
/// order. Its nodes fail over on their own after a good second. A part of the slots without a primary does not
/// stop the rest (`cluster-require-full-coverage no`). Dropping it ends all of it.
///
/// ```no_run
/// # async fn test() -> std::io::Result<()> {
/// use tiered_tiers::{Redis, testing::RedisCluster};
///
/// let mut cluster = RedisCluster::start().await?;
/// let l2 = Redis::new(&cluster.url()).map_err(std::io::Error::other)?;
/// cluster.move_slot(1234, 2).await?;
/// cluster.kill(0)?;
/// cluster.promoted(0).await?;
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct RedisCluster {
    nodes: Vec<RedisServer>,
    /// Where each speaks TLS, if they were given certificates.
    tls_ports: Vec<u16>,
    ids: Vec<String>,
}

impl RedisCluster {
    /// Starts one with nothing configured.
    ///
    /// # Errors
    /// When `redis-server` is missing (the message says how to install it) or no cluster comes up.
    pub async fn start() -> io::Result<Self> {
        Self::start_with(&[]).await
    }

    /// Starts one with these lines of `redis.conf` on every node, as in `("requirepass", "secret")`. With a
    /// `tls-cert-file` among them the nodes speak TLS with each other, and with clients on ports of their own too.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub async fn start_with(settings: &[(&str, &str)]) -> io::Result<Self> {
        let mut last = io::Error::other("no ports were tried");
        for _ in 0..3 {
            match Self::form(settings).await {
                Ok(cluster) => return Ok(cluster),
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(error),
                // Somebody may have been quicker to take a port.
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    async fn form(settings: &[(&str, &str)]) -> io::Result<Self> {
        let buses: Vec<u16> = (0..2 * PRIMARIES).map(|_| free_port()).collect::<io::Result<_>>()?;
        let is_tls = settings.iter().any(|(name, _)| *name == "tls-cert-file");
        let tls_ports: Vec<u16> =
            buses.iter().filter(|_| is_tls).map(|_| free_port()).collect::<io::Result<_>>()?;
        let started = buses.iter().enumerate().map(|(index, bus)| {
            let tls = tls_ports.get(index).copied();
            node(*bus, tls, settings)
        });
        let nodes = try_join_all(started).await?;
        let mut ids = Vec::new();
        for (index, node) in nodes.iter().enumerate() {
            ids.push(node.command(&["CLUSTER", "MYID"]).await?);
            let epoch = (index + 1).to_string();
            node.command::<()>(&["CLUSTER", "SET-CONFIG-EPOCH", &epoch]).await?;
        }
        let cluster = Self { nodes, tls_ports, ids };
        for (index, node) in cluster.nodes.iter().enumerate() {
            if index < PRIMARIES {
                let Range { start, end } = share(index);
                let (first, last) = (start.to_string(), (end - 1).to_string());
                node.command::<()>(&["CLUSTER", "ADDSLOTSRANGE", &first, &last]).await?;
            }
            // Each pair is introduced: hearsay takes a second.
            for (other, bus) in cluster.nodes.iter().zip(&buses).skip(index + 1) {
                let (port, bus) = (other.port().to_string(), bus.to_string());
                node.command::<()>(&["CLUSTER", "MEET", "127.0.0.1", &port, &bus]).await?;
            }
        }
        let count = cluster.nodes.len().to_string();
        for node in &cluster.nodes {
            let known = async || says(node, "CLUSTER", "INFO", "cluster_known_nodes", &count).await;
            eventually("a meeting of all nodes", known).await?;
        }
        for (replica, primary) in cluster.nodes.iter().skip(PRIMARIES).zip(&cluster.ids) {
            let joins =
                async || replica.command::<()>(&["CLUSTER", "REPLICATE", primary]).await.is_ok();
            eventually("a replica's joining", joins).await?;
        }
        for (index, node) in cluster.nodes.iter().enumerate() {
            let is_whole = async || {
                says(node, "CLUSTER", "INFO", "cluster_state", "ok").await
                    && (index < PRIMARIES
                        || says(node, "INFO", "replication", "master_link_status", "up").await)
                    && cluster.knows_every_owner(node).await
            };
            eventually("a whole cluster", is_whole).await?;
        }
        Ok(cluster)
    }

    /// Whether a node has heard of all slots' owners and all replicas.
    async fn knows_every_owner(&self, node: &RedisServer) -> bool {
        let Ok(nodes) = node.command::<String>(&["CLUSTER", "NODES"]).await else { return false };
        let replicas = nodes.lines().filter(|line| line.contains("slave")).count();
        replicas == PRIMARIES && says(node, "CLUSTER", "INFO", "cluster_slots_ok", "16384").await
    }

    /// The URL of the cluster, without credentials, by all of its nodes.
    #[must_use]
    pub fn url(&self) -> String {
        let nodes = self.nodes.iter().map(|node| format!("127.0.0.1:{}", node.port()));
        format!("redis+cluster://{}", nodes.collect::<Vec<_>>().join(","))
    }

    /// The same over TLS, for a cluster that was given certificates.
    #[must_use]
    pub fn tls_url(&self) -> String {
        let nodes = self.tls_ports.iter().map(|port| format!("127.0.0.1:{port}"));
        format!("rediss+cluster://{}", nodes.collect::<Vec<_>>().join(","))
    }

    /// A node, to look into it or to freeze it.
    ///
    /// # Panics
    /// When there is none of this number.
    #[must_use]
    pub fn node(&self, node: usize) -> &RedisServer {
        #[allow(clippy::expect_used, reason = "that is how a test fails")]
        self.nodes.get(node).expect("there are six nodes")
    }

    /// The slot of a key.
    ///
    /// # Errors
    /// When no node can be asked.
    pub async fn slot_of(&self, key: &str) -> io::Result<u16> {
        self.node(0).command(&["CLUSTER", "KEYSLOT", key]).await
    }

    /// The node that has a slot, as the node itself says.
    ///
    /// # Errors
    /// When no node that runs has it.
    pub async fn owner(&self, slot: u16) -> io::Result<usize> {
        for (index, node) in self.nodes.iter().enumerate() {
            let Ok(nodes) = node.command::<String>(&["CLUSTER", "NODES"]).await else { continue };
            let own = nodes.lines().find(|line| line.contains("myself,master"));
            let mut shares = own.unwrap_or_default().split(' ').skip(8);
            let has = shares.any(|share| {
                let (first, last) = share.split_once('-').unwrap_or((share, share));
                matches!((first.parse(), last.parse()), (Ok(first), Ok(last)) if (first..=last).contains(&slot))
            });
            if has {
                return Ok(index);
            }
        }
        Err(io::Error::other("no node has that slot"))
    }

    /// The node that has a slot, as some node sees it.
    ///
    /// # Errors
    /// When that node cannot be asked, or knows of none.
    pub async fn owner_as_seen_by(&self, node: usize, slot: u16) -> io::Result<usize> {
        let shares: Vec<Vec<::redis::Value>> =
            self.node(node).command(&["CLUSTER", "SLOTS"]).await?;
        for share in shares {
            if let [
                ::redis::Value::Int(first),
                ::redis::Value::Int(last),
                ::redis::Value::Array(owner),
                ..,
            ] = share.as_slice()
                && (*first..=*last).contains(&i64::from(slot))
                && let Some(::redis::Value::Int(port)) = owner.get(1)
            {
                let at = self.nodes.iter().position(|node| i64::from(node.port()) == *port);
                return at.ok_or_else(|| io::Error::other("a node from elsewhere"));
            }
        }
        Err(io::Error::other("no node has that slot"))
    }

    /// Moves a slot with its keys to another primary.
    ///
    /// # Errors
    /// When a node cannot be asked, or refuses.
    pub async fn move_slot(&self, slot: u16, to: usize) -> io::Result<()> {
        self.open_slot(slot, to).await?;
        while self.carry_keys(slot, to, 10).await? > 0 {}
        self.close_slot(slot, to).await
    }

    /// Begins to move a slot: it stays open until it is closed.
    ///
    /// # Errors
    /// As [`move_slot`](Self::move_slot).
    pub async fn open_slot(&self, slot: u16, to: usize) -> io::Result<()> {
        let from = self.owner(slot).await?;
        let (slot, source, target) = (slot.to_string(), self.id(from)?, self.id(to)?);
        let words = ["CLUSTER", "SETSLOT", &slot, "IMPORTING", source];
        self.node(to).command::<()>(&words).await?;
        let words = ["CLUSTER", "SETSLOT", &slot, "MIGRATING", target];
        self.node(from).command::<()>(&words).await
    }

    /// Carries some keys of an open slot over; returns how many.
    ///
    /// # Errors
    /// As [`move_slot`](Self::move_slot).
    pub async fn carry_keys(&self, slot: u16, to: usize, count: usize) -> io::Result<usize> {
        let from = self.owner(slot).await?;
        let (slot, count) = (slot.to_string(), count.to_string());
        let words = ["CLUSTER", "GETKEYSINSLOT", &slot, &count];
        let keys: Vec<Vec<u8>> = self.node(from).command(&words).await?;
        if !keys.is_empty() {
            let mut migrate = ::redis::cmd("MIGRATE");
            migrate.arg("127.0.0.1").arg(self.node(to).port()).arg("").arg(0).arg(5_000);
            if let Some(password) = self.node(to).password() {
                migrate.arg("AUTH").arg(password);
            }
            migrate.arg("KEYS").arg(&keys);
            // Those that expired meanwhile are not there to be carried, which is no error.
            let _: ::redis::Value =
                super::admin::ask(&mut self.node(from).connection().await?, &migrate).await?;
        }
        Ok(keys.len())
    }

    /// Ends the move of a slot: it is the target's now.
    ///
    /// # Errors
    /// As [`move_slot`](Self::move_slot).
    pub async fn close_slot(&self, slot: u16, to: usize) -> io::Result<()> {
        let from = self.owner(slot).await?;
        let (slot, target) = (slot.to_string(), self.id(to)?);
        let words = ["CLUSTER", "SETSLOT", &slot, "NODE", target];
        self.node(to).command::<()>(&words).await?;
        self.node(from).command::<()>(&words).await
    }

    /// Ends a node's process, as a crash would.
    ///
    /// # Errors
    /// When the system refuses the signal.
    pub fn kill(&mut self, node: usize) -> io::Result<()> {
        self.nodes.get_mut(node).map_or(Ok(()), RedisServer::kill)
    }

    /// Starts a node again that was killed; it remembers the cluster, and no keys.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub async fn restart(&mut self, node: usize) -> io::Result<()> {
        match self.nodes.get_mut(node) {
            Some(node) => node.restart().await,
            None => Ok(()),
        }
    }

    /// Has the replica of a primary take its place although it is well.
    ///
    /// # Errors
    /// When it cannot be asked, or refuses.
    pub async fn fail_over(&self, primary: usize) -> io::Result<()> {
        let replica = (primary + PRIMARIES) % self.nodes.len();
        self.node(replica).command(&["CLUSTER", "FAILOVER"]).await
    }

    /// Waits until the first replica of a primary is one itself, and every node that answers knows it; returns
    /// which that is.
    ///
    /// # Errors
    /// When that does not happen in twenty seconds.
    pub async fn promoted(&self, primary: usize) -> io::Result<usize> {
        let replica = (primary + PRIMARIES) % self.nodes.len();
        let has_slots = format!("{} ", self.id(replica)?);
        for node in &self.nodes {
            if node.command::<()>(&["PING"]).await.is_err() {
                continue;
            }
            let is_known = async || {
                let nodes = node.command::<String>(&["CLUSTER", "NODES"]).await;
                nodes.is_ok_and(|nodes| {
                    let line = nodes.lines().find(|line| line.starts_with(&has_slots));
                    line.is_some_and(|line| {
                        line.contains("master") && line.split(' ').nth(8).is_some()
                    })
                })
            };
            eventually("a promotion", is_known).await?;
        }
        Ok(replica)
    }

    fn id(&self, node: usize) -> io::Result<&String> {
        self.ids.get(node).ok_or_else(|| io::Error::other("there are six nodes"))
    }
}

async fn node(bus: u16, tls: Option<u16>, settings: &[(&str, &str)]) -> io::Result<RedisServer> {
    let mut builder = RedisServer::builder()
        .config("cluster-enabled", "yes")
        .config("cluster-port", &bus.to_string())
        .config("cluster-node-timeout", "1200")
        .config("cluster-require-full-coverage", "no")
        .config("cluster-allow-replica-migration", "no")
        .config("cluster-replica-validity-factor", "0")
        .config("repl-diskless-sync-delay", "0");
    if let Some(port) = tls {
        builder = builder
            .config("tls-port", &port.to_string())
            .config("tls-cluster", "yes")
            .config("tls-replication", "yes");
    }
    for (name, value) in settings {
        builder = match *name {
            "requirepass" => builder.password(value).config("masterauth", value),
            name => builder.config(name, value),
        };
    }
    builder.start().await
}

/// The slots that a primary begins with.
fn share(primary: usize) -> Range<usize> {
    primary * 16_384 / PRIMARIES..(primary + 1) * 16_384 / PRIMARIES
}

/// Whether a node says of itself that a field has this value.
pub(super) async fn says(
    node: &RedisServer,
    verb: &str,
    about: &str,
    field: &str,
    value: &str,
) -> bool {
    let Ok(text) = node.command::<String>(&[verb, about]).await else { return false };
    text.lines().any(|line| {
        line.split_once(':').is_some_and(|(name, is)| name == field && is.trim() == value)
    })
}
