//! [`Redis`]: L2 on Redis: one server, a cluster, a primary behind sentinels, or whatever a connection of
//! the application's leads to.
//!
//! The story of an operation: [`tier`] (or [`batch`], for several keys) says it in the protocol's words;
//! [`Runtimes`] finds the [`servers`] of the caller's tokio runtime; [`pool`] finds a connection to the one that is
//! meant, dialled if need be, through [`sentinel`]s perhaps; [`exchange`] and [`connection`] send the request
//! and wait for its answer, all within one [`budget`]; [`reply`] turns the answer into the contract's words.
//! [`run`] tells which run of its server a connection leads to, [`script`] holds what must be atomic, [`clear`] the walk over a prefix, [`cluster`] what many nodes ask
//! for, [`handed_in`] what can be done over a connection that is not ours. [`bus`] carries messages between
//! processes, over connections of its own. [`journal`] is no tier, and uses the tier's connections.
//!
//! Rejected: redis-rs's `ConnectionManager`. During an outage it hangs for seconds beyond its
//! response timeout, it panics outside a runtime, and it reconnects without telling.
//!
//! # What may be repeated
//!
//! A request on a connection that breaks has an unknown fate: not sent, executed, or, when the
//! connection died on the way and not at the server, *still to be executed*. So one is repeated
//! only if a late first copy does no harm. `get` and `ping` change nothing; `delete`, `release` and
//! the first half of `set` (with a new token each time) only ever take something away, and `renew` only lets a
//! lease live that still stands: where it was dropped there is nothing whose life a late copy could make another, and
//! where it stands the copy can do no more than end it early, which refuses a fill. `end_hold` takes away like
//! `delete`; its repeat may find the hold gone by its first copy, and calls that `Lost`; and a first copy that comes
//! after it finds no hold that a lease would follow. A late copy
//! of `lease` would put its token back after an invalidation had removed it, and then a late fill
//! would pass the fence: not repeated. A repeated `fill` would find its own token gone and report
//! `Refused` for a value that is stored: not repeated. Both cost one unstored load, and rarely: a
//! connection known to be closed is replaced before anything is sent on it. A late copy of `hold` would hold a key
//! whose writer is through, for the hold's whole life: not repeated.

mod batch;
mod budget;
mod bus;
mod clear;
mod cluster;
mod connection;
mod endpoint;
mod exchange;
mod handed_in;
mod journal;
mod options;
mod pool;
mod reply;
mod run;
mod script;
mod sentinel;
mod servers;
mod tier;
#[cfg(feature = "redis-tls")]
mod tls;
mod url;

use std::{fmt, sync::Arc, time::Duration};

use ::redis::aio::ConnectionLike;

pub use self::bus::RedisBus;
pub use self::journal::RedisJournal;
use self::{
    endpoint::Endpoint,
    handed_in::HandedIn,
    options::{Options, Secret},
    servers::Servers,
};
use crate::{ConfigError, TierError, runtimes::Runtimes};

/// A remote tier on Redis, 6.2 or newer: one server, a cluster, or a primary behind sentinels.
///
/// Making one touches neither a runtime nor the network: the first operation dials. Each tokio
/// runtime that uses the tier gets connections of its own. An operation takes at most
/// `response_timeout`, and `connect_timeout` more if it had to dial; dropping its future harms
/// nobody. It needs a runtime with the time and I/O drivers enabled, as `#[tokio::main]` makes it.
///
/// `set` makes two round trips, for the fence's sake; `clear` as many as the keyspace asks for,
/// each within `response_timeout`. A life under a millisecond is stored as one.
///
/// The remaining life that `get` reports was read just before the value, in the same round trip. If
/// the value is replaced between the two, it belongs to the replaced value: such a value was stored
/// that moment, so a reader who knows its full life takes the lesser of the two.
///
/// # What a failover loses
///
/// Redis copies to replicas after it has answered. A replica that is promoted may lack the last writes: a fill
/// that is lost is a miss, a lease that is lost refuses its fill, but a `delete` that is lost brings the old
/// value back for the rest of its life, or until the next write. So does a server that is restarted with an old
/// snapshot. What it answers then is of another run: [`Found::incarnation`](crate::Found::incarnation) tells, by the
/// `run_id` and the `master_replid` of each connection's server, and the engine does not believe what was stored in
/// an earlier one. For a user who may not ask for `INFO`, and over a connection that was handed in, nothing is told.
///
/// A primary that was cut off and is still written to answers under its own run, as long as it answers
/// (`min-replicas-to-write` bounds that).
///
/// ```
/// use std::time::Duration;
/// use tiered_tiers::Redis;
///
/// let l2 = Redis::new("redis://127.0.0.1/")?
///     .password("any characters: @:/#%?")
///     .response_timeout(Duration::from_millis(100));
/// # Ok::<(), tiered_tiers::ConfigError>(())
/// ```
pub struct Redis {
    options: Arc<Options>,
    runtimes: Runtimes<Servers>,
}

impl Redis {
    /// A tier on the servers at `url`:
    ///
    /// - `redis://[user:password@]host[:port][/database]`, one server;
    /// - `redis+unix:///path[?db=number]`, one server on a unix socket;
    /// - `redis+cluster://[user:password@]host:port,host:port`, a cluster, as by [`cluster`](Self::cluster);
    /// - `redis+sentinel://[user:password@]host:port,host:port/name[/database]`, the primary that these sentinels
    ///   call by that name, as by [`sentinel`](Self::sentinel); user and password are the server's.
    ///
    /// With `rediss` for `redis` over TLS (feature `redis-tls`). Valkey speaks the same, and its schemes for one
    /// server are known.
    ///
    /// Over TLS the server's certificate is checked against the authorities that the system believes, or
    /// those given to `certificate_authority`.
    ///
    /// # Errors
    /// A [`ConfigError`] for a URL that cannot be used. It quotes nothing of the URL.
    pub fn new(url: &str) -> Result<Self, ConfigError> {
        url::options(url).map(Self::with_options)
    }

    /// A tier on a Redis Cluster, by the URLs of some of its nodes, as `redis://host:port` or `rediss://host:port`;
    /// they need not be all, for one that answers tells of the others. The same user and password go to every
    /// node. Each node gets [`connections`](Self::connections) of its own when it is first needed.
    ///
    /// A slot that moves to another node is followed, and its keys stay in use while it moves. A primary that is
    /// gone costs its own slots' operations until a replica is promoted. `clear` walks over all primaries, and
    /// again if slots moved meanwhile; it fails if that does not end, or if some slot has no primary. `ping`
    /// says that some node answers and calls the cluster whole, not that every node does.
    ///
    /// ```
    /// use tiered_tiers::Redis;
    ///
    /// let l2 = Redis::cluster(["redis://10.0.0.1:7000", "redis://10.0.0.2:7000"])?.password("secret");
    /// # Ok::<(), tiered_tiers::ConfigError>(())
    /// ```
    ///
    /// # Errors
    /// As [`new`](Self::new); and for URLs that differ in more than their hosts, or none at all.
    pub fn cluster<U: AsRef<str>>(seeds: impl IntoIterator<Item = U>) -> Result<Self, ConfigError> {
        url::cluster(seeds).map(Self::with_options)
    }

    /// A tier on the primary that sentinels call `name`, by the URLs of the sentinels (`rediss://` is spoken with
    /// sentinels and servers alike). A user and a password in these URLs are the sentinels';
    /// [`username`](Self::username) and [`password`](Self::password) are the server's.
    ///
    /// All sentinels are asked at each dial. The server they name must say itself that it is a primary.
    ///
    /// ```
    /// use tiered_tiers::Redis;
    ///
    /// let sentinels = ["redis://10.0.0.1:26379", "redis://10.0.0.2:26379", "redis://10.0.0.3:26379"];
    /// let l2 = Redis::sentinel(sentinels, "mymaster")?;
    /// # Ok::<(), tiered_tiers::ConfigError>(())
    /// ```
    ///
    /// # Errors
    /// As [`cluster`](Self::cluster); and for a name that sentinels allow none of.
    pub fn sentinel<U: AsRef<str>>(
        sentinels: impl IntoIterator<Item = U>,
        name: &str,
    ) -> Result<Self, ConfigError> {
        url::sentinels(sentinels, name).map(Self::with_options)
    }

    /// A tier over a connection of the application's own: a `MultiplexedConnection`, `ConnectionManager` or
    /// `ClusterConnection` of the crate `redis`, version 1, or a wrapper around one. Of the options only
    /// [`response_timeout`](Self::response_timeout) means anything here.
    ///
    /// The connection reconnects as it likes; nothing is sent twice by the tier. A client that repeats requests by
    /// itself (`ClusterConnection` does after failures, sixteen times unless told otherwise) may execute a lease
    /// twice, and the fence is then only as good as its repeats are few: [`cluster`](Self::cluster) knows what may
    /// be repeated. `clear` is refused as unsupported over a client of a cluster, which the first
    /// `ping` finds out. A connection belongs to the runtime that made it, and so does this tier then.
    ///
    /// ```no_run
    /// # async fn connect() -> Result<(), redis::RedisError> {
    /// use tiered_tiers::Redis;
    ///
    /// let client = redis::Client::open("redis://127.0.0.1/")?;
    /// let connection = client.get_multiplexed_async_connection().await?;
    /// let l2 = Redis::from_connection(connection);
    /// # Ok(()) }
    /// ```
    #[must_use]
    pub fn from_connection(
        connection: impl ConnectionLike + Clone + Send + Sync + 'static,
    ) -> Self {
        let endpoint = Endpoint::HandedIn(HandedIn::new(connection));
        Self::with_options(Options::at(endpoint))
    }

    fn with_options(options: Options) -> Self {
        Self { options: Arc::new(options), runtimes: Runtimes::default() }
    }

    /// The user to log in at sentinels as; it needs a password too. Default: the sentinels' URLs', or the default
    /// user. Without sentinels it means nothing.
    #[must_use]
    pub fn sentinel_username(self, username: impl Into<String>) -> Self {
        let username = Secret::new(username.into());
        self.with_sentinels(|sentinels| sentinels.username = Some(username))
    }

    /// The password of the sentinels, which need not be the servers'. Default: the sentinels' URLs', or none.
    /// Without sentinels it means nothing.
    #[must_use]
    pub fn sentinel_password(self, password: impl Into<String>) -> Self {
        let password = Secret::new(password.into());
        self.with_sentinels(|sentinels| sentinels.password = Some(password))
    }

    fn with_sentinels(self, change: impl FnOnce(&mut sentinel::Sentinels)) -> Self {
        self.with(|options| {
            if let Endpoint::Sentinels(sentinels) = &mut options.endpoint {
                change(Arc::make_mut(sentinels));
            }
        })
    }

    /// The user to log in as; it needs a password too. Default: the URL's, or the default user.
    #[must_use]
    pub fn username(self, username: impl Into<String>) -> Self {
        self.with(|options| options.username = Some(Secret::new(username.into())))
    }

    /// The password, in any characters and not percent-encoded. Default: the URL's, or none.
    #[must_use]
    pub fn password(self, password: impl Into<String>) -> Self {
        self.with(|options| options.password = Some(Secret::new(password.into())))
    }

    /// The number of the database. Default: the URL's, or 0.
    #[must_use]
    pub fn database(self, database: u32) -> Self {
        self.with(|options| options.database = database)
    }

    /// The authorities that are believed, as PEM, instead of the system's. Switches TLS on.
    #[cfg(feature = "redis-tls")]
    #[must_use]
    pub fn certificate_authority(self, pem: impl Into<Vec<u8>>) -> Self {
        self.with(|options| options.tls.get_or_insert_default().believe(pem.into()))
    }

    /// A certificate and its private key, as PEM, for a server that asks who comes. Switches TLS on.
    #[cfg(feature = "redis-tls")]
    #[must_use]
    pub fn client_certificate(
        self,
        certificate: impl Into<Vec<u8>>,
        private_key: impl Into<Vec<u8>>,
    ) -> Self {
        let key = Secret::new(private_key);
        self.with(|options| options.tls.get_or_insert_default().identify(certificate.into(), key))
    }

    /// Connections for each runtime, 1 to 1,024. Default: 2. Each carries any number of operations
    /// at once; a second keeps the others moving while a large value is on its way.
    #[must_use]
    pub fn connections(self, connections: usize) -> Self {
        self.with(|options| options.connections = connections)
    }

    /// How long a dial may take, name resolution and login included. Default: 500 ms.
    #[must_use]
    pub fn connect_timeout(self, timeout: Duration) -> Self {
        self.with(|options| options.connect_timeout = timeout)
    }

    /// How long an operation waits for its answers, all of them together. Default: 250 ms.
    #[must_use]
    pub fn response_timeout(self, timeout: Duration) -> Self {
        self.with(|options| options.response_timeout = timeout)
    }

    /// A bus on the same servers, with the options as they are now and connections of its own: see [`RedisBus`].
    #[must_use]
    pub fn bus(&self) -> RedisBus {
        RedisBus::new(&self.options)
    }

    /// The same tier with other options; connections made with the old ones are left.
    fn with(mut self, change: impl FnOnce(&mut Options)) -> Self {
        change(Arc::make_mut(&mut self.options));
        self.runtimes = Runtimes::default();
        self
    }

    /// The servers, as the caller's runtime reaches them.
    fn servers(&self) -> Result<Arc<Servers>, TierError> {
        self.runtimes.pool(|| Servers::new(&self.options))
    }
}

impl fmt::Debug for Redis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.options.fmt(f)
    }
}
