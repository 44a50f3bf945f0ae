//! [`Redis`]: L2 on a Redis server, over connections of its own.
//!
//! The story of an operation: [`Runtimes`] finds the pool of the caller's tokio runtime, [`pool`] a
//! connection, dialled if need be, [`connection`] sends the request and waits for its answer, all
//! within one [`budget`]; [`reply`] turns the answer into the contract's words. [`script`] holds
//! what must be atomic, [`clear`] the walk over a prefix.
//!
//! Rejected: redis-rs's `ConnectionManager`. During an outage it hangs for seconds beyond its
//! response timeout, it panics outside a runtime, and it reconnects without telling.
//!
//! # What may be repeated
//!
//! A request on a connection that breaks has an unknown fate: not sent, executed, or, when the
//! connection died on the way and not at the server, *still to be executed*. So one is repeated
//! only if a late first copy does no harm. `get` and `ping` change nothing; `delete`, `release` and
//! the first half of `set` (with a new token each time) only ever take something away. A late copy
//! of `lease` would put its token back after an invalidation had removed it, and then a late fill
//! would pass the fence: not repeated. A repeated `fill` would find its own token gone and report
//! `Refused` for a value that is stored: not repeated. Both cost one unstored load, and rarely: a
//! connection known to be closed is replaced before anything is sent on it.

mod budget;
mod clear;
mod connection;
mod endpoint;
mod options;
mod pool;
mod reply;
mod script;
#[cfg(feature = "redis-tls")]
mod tls;

use std::{fmt, sync::Arc, time::Duration};

use ::redis::{Cmd, Value, cmd};
use async_trait::async_trait;
use bytes::Bytes;
use tokio::time::Instant;

use self::{
    budget::Budget,
    clear::Walk,
    connection::{Connection, Failure, Request},
    options::{Options, Secret},
    pool::Pool,
    script::{DISPLACE, FILL, LEASE, RELEASE, Script, lease_key, millis},
};
use crate::{
    Claim, ConfigError, Fill, Found, Lease, LeaseToken, Progress, RemoteTier, TierError,
    runtimes::Runtimes,
};

/// Younger connections to a read-only server are kept: redialling at every write helps nobody.
const READ_ONLY_GRACE: Duration = Duration::from_secs(1);

/// A remote tier on a Redis server, 6.2 or newer.
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
    options: Options,
    runtimes: Runtimes<Pool>,
}

/// Whether a request is sent again when its connection broke under it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Repeat {
    /// Once: a late first copy does no harm.
    Once,
    /// Never.
    Never,
}

impl Redis {
    /// A tier on the server at `url`: `redis://[user:password@]host[:port][/database]`, the same with
    /// `rediss://` for TLS (feature `redis-tls`), or `redis+unix:///path[?db=number]` for a unix socket. Valkey
    /// speaks the same, and its schemes are known.
    ///
    /// Over TLS the server's certificate is checked against the authorities that the system believes, or
    /// those given to `certificate_authority`.
    ///
    /// # Errors
    /// A [`ConfigError`] for a URL that cannot be used. It quotes nothing of the URL.
    pub fn new(url: &str) -> Result<Self, ConfigError> {
        Ok(Self { options: Options::from_url(url)?, runtimes: Runtimes::default() })
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

    /// The same tier with other options; connections made with the old ones are left.
    fn with(mut self, change: impl FnOnce(&mut Options)) -> Self {
        change(&mut self.options);
        self.runtimes = Runtimes::default();
        self
    }

    fn budget(&self) -> Budget {
        Budget::new(&self.options)
    }

    /// Passes an outcome on. An answer of an unexpected form was one to another request.
    fn judged<R>(&self, outcome: Result<R, TierError>) -> Result<R, TierError> {
        if matches!(outcome, Err(TierError::Protocol(_))) {
            self.distrust();
        }
        outcome
    }

    /// The connections of the caller's runtime.
    fn pool(&self) -> Result<Arc<Pool>, TierError> {
        self.runtimes.pool(|| Pool::new(&self.options))
    }

    async fn connection(
        &self,
        pool: &Pool,
        budget: &mut Budget,
    ) -> Result<Arc<Connection>, TierError> {
        pool.connection(&self.options, budget).await
    }

    /// Sends a request on some connection, and once more if that is allowed and it broke.
    async fn ask(
        &self,
        request: &Request,
        repeat: Repeat,
        budget: &mut Budget,
    ) -> Result<Value, TierError> {
        let pool = self.pool()?;
        let connection = self.connection(&pool, budget).await?;
        match self.ask_on(&connection, &pool, request, budget).await {
            Err(Failure::Broken(_)) if repeat == Repeat::Once => {
                let connection = self.connection(&pool, budget).await?;
                settled(self.ask_on(&connection, &pool, request, budget).await)
            }
            answer => settled(answer),
        }
    }

    /// Sends a request on this connection, and notes what that says of it.
    async fn ask_on(
        &self,
        connection: &Arc<Connection>,
        pool: &Pool,
        request: &Request,
        budget: &mut Budget,
    ) -> Result<Value, Failure> {
        let start = Instant::now();
        let answer = connection.ask(request, budget.for_answer()).await;
        budget.answered(start);
        match &answer {
            Ok(value) => {
                // A primary that was demoted: the name may lead to the new one by now.
                if is_read_only(value) && connection.age() > READ_ONLY_GRACE {
                    pool.discard(connection);
                }
            }
            Err(Failure::Broken(_)) => pool.discard(connection),
            Err(Failure::Late) => {}
        }
        answer
    }

    /// Runs a script, by its digest if the server knows it.
    async fn run(
        &self,
        script: &Script,
        key: &[u8],
        arguments: &[&[u8]],
        repeat: Repeat,
        budget: &mut Budget,
    ) -> Result<Value, TierError> {
        let by_digest = Request::Single(script.by_digest(key, arguments));
        match self.ask(&by_digest, repeat, budget).await.and_then(reply::accepted) {
            Err(TierError::Refused(code)) if code == "NOSCRIPT" => {
                let by_source = Request::Single(script.by_source(key, arguments));
                self.ask(&by_source, repeat, budget).await.and_then(reply::accepted)
            }
            answer => answer,
        }
    }

    /// The fill, on what is left of the budget.
    async fn fill_within(
        &self,
        key: &[u8],
        token: LeaseToken,
        bytes: &[u8],
        life: Duration,
        budget: &mut Budget,
    ) -> Result<Fill, TierError> {
        let life = millis(life);
        let arguments: [&[u8]; 3] = [token.as_bytes(), bytes, life.as_bytes()];
        let answer = self.run(&FILL, key, &arguments, Repeat::Never, budget).await?;
        Ok(match self.judged(reply::integer(answer))? {
            0 => Fill::Refused,
            _ => Fill::Stored,
        })
    }

    /// Drops the value and takes the lease by force, under a token that nobody had before.
    ///
    /// Each attempt has a token of its own: a late copy of a failed one must not put the token of
    /// the one that is filled with back in place.
    async fn displace(&self, key: &[u8], budget: &mut Budget) -> Result<LeaseToken, TierError> {
        // As long as the fill may be on its way; a `set` that fails halfway holds others up so long.
        let life = millis(self.options.response_timeout.saturating_mul(2));
        let mut attempts = 0;
        loop {
            let token = LeaseToken::random();
            let arguments: [&[u8]; 2] = [token.as_bytes(), life.as_bytes()];
            attempts += 1;
            match self.run(&DISPLACE, key, &arguments, Repeat::Never, budget).await {
                Err(TierError::Unreachable(_)) if attempts == 1 => {}
                answer => return answer.map(|_| token),
            }
        }
    }

    /// Drops what a walk comes by. Each round trip has a budget of its own.
    async fn drop_all(
        &self,
        pool: &Pool,
        mut walk: Walk,
        progress: Progress<'_>,
    ) -> Result<(), TierError> {
        while let Some(scan) = walk.scan() {
            let connection = Arc::clone(&walk.connection);
            let step = |command: Cmd| {
                let connection = Arc::clone(&connection);
                async move {
                    let request = Request::Single(command);
                    settled(self.ask_on(&connection, pool, &request, &mut self.budget()).await)
                        .and_then(reply::accepted)
                }
            };
            if let Some(unlink) = walk.unlink(step(scan).await?)? {
                let dropped = self.judged(reply::integer(step(unlink).await?))?;
                progress(u64::try_from(dropped).unwrap_or_default());
            }
        }
        Ok(())
    }
}

fn settled(answer: Result<Value, Failure>) -> Result<Value, TierError> {
    answer.map_err(|failure| match failure {
        Failure::Late => TierError::Timeout,
        Failure::Broken(error) => error,
    })
}

fn is_read_only(value: &Value) -> bool {
    matches!(value, Value::ServerError(error) if error.code() == "READONLY")
}

impl fmt::Debug for Redis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.options.fmt(f)
    }
}

#[async_trait]
impl RemoteTier for Redis {
    fn name(&self) -> &'static str {
        "redis"
    }

    async fn get(&self, key: &[u8]) -> Result<Option<Found>, TierError> {
        let mut both = ::redis::Pipeline::with_capacity(2);
        both.cmd("PTTL").arg(key).cmd("GET").arg(key);
        let request = Request::Several(both);
        let answer = self.ask(&request, Repeat::Once, &mut self.budget()).await?;
        self.judged(reply::array(answer).and_then(|[pttl, value]| reply::found(pttl, value)))
    }

    async fn lease(
        &self,
        key: &[u8],
        token: LeaseToken,
        life: Duration,
        claim: Claim,
    ) -> Result<Lease, TierError> {
        let life = millis(life);
        let force: &[u8] = match claim {
            Claim::ByForce => b"1",
            Claim::IfFree => b"0",
        };
        let arguments: [&[u8]; 3] = [token.as_bytes(), life.as_bytes(), force];
        let answer = self.run(&LEASE, key, &arguments, Repeat::Never, &mut self.budget()).await?;
        self.judged(reply::lease(answer))
    }

    async fn fill(
        &self,
        key: &[u8],
        token: LeaseToken,
        bytes: Bytes,
        life: Duration,
    ) -> Result<Fill, TierError> {
        self.fill_within(key, token, &bytes, life, &mut self.budget()).await
    }

    async fn release(&self, key: &[u8], token: LeaseToken) -> Result<(), TierError> {
        let arguments: [&[u8]; 1] = [token.as_bytes()];
        self.run(&RELEASE, key, &arguments, Repeat::Once, &mut self.budget()).await.map(drop)
    }

    /// Two round trips: the value goes and the lease is taken by force, then the fill. A refused
    /// fill means that a concurrent writer won, and is no error.
    async fn set(&self, key: &[u8], bytes: Bytes, life: Duration) -> Result<Fill, TierError> {
        let mut budget = self.budget();
        let token = self.displace(key, &mut budget).await?;
        self.fill_within(key, token, &bytes, life, &mut budget).await
    }

    async fn delete(&self, key: &[u8]) -> Result<(), TierError> {
        let mut unlink = cmd("UNLINK");
        unlink.arg(key).arg(lease_key(key));
        let request = Request::Single(unlink);
        let answer = self.ask(&request, Repeat::Once, &mut self.budget()).await?;
        self.judged(reply::integer(answer)).map(drop)
    }

    async fn clear(&self, prefix: &[u8], progress: Progress<'_>) -> Result<(), TierError> {
        let pool = self.pool()?;
        let connection = self.connection(&pool, &mut self.budget()).await?;
        let leases = Walk::leases(Arc::clone(&connection), prefix);
        self.drop_all(&pool, leases, &|_| {}).await?;
        self.drop_all(&pool, Walk::values(connection, prefix), progress).await
    }

    async fn ping(&self) -> Result<(), TierError> {
        let request = Request::Single(cmd("PING"));
        let answer = self.ask(&request, Repeat::Once, &mut self.budget()).await?;
        reply::accepted(answer).map(drop)
    }

    fn distrust(&self) {
        if let Ok(pool) = self.pool() {
            pool.distrust();
        }
    }

    fn check(&self) -> Result<(), ConfigError> {
        self.options.check()
    }
}
