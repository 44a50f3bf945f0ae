//! [`Memcached`]: L2 on memcached servers, by the meta protocol.
//!
//! The story of an operation: [`key`] spells the key for the wire, [`servers`] picks its server, [`pool`]
//! finds a [`connection`] of the caller's runtime, dialled if need be, which sends commands in one
//! piece and reads their answers ([`exchange`]) within one [`budget`], and [`tier`] turns those into the
//! contract's words; [`fill`] does so for what becomes of a lease, [`holds`] for the holds of writers, and [`batch`]
//! for several keys.
//!
//! # The fence, without scripts
//!
//! memcached changes one item at a time, so the lease is two items. The *lease item* holds the token
//! and keeps others from loading too. What fences is the *compare-and-swap number* of the value's
//! own item, for which a missing value is given an empty place, a *stub*: a fill stores only if that
//! number is still the one that was read with the lease. Whatever happens to the item in between
//! changes it or takes the item away: `delete`, `set`, another fill, a lease by force, eviction, the end of
//! its life.
//!
//! - The numbers begin anew with the server. So a fill uses a connection that was open when its lease
//!   was asked for: a server that restarted has closed it.
//! - If none is idle, or the number is another, which the end of the old value's life can do as well, the
//!   token decides: the fill reads the number that is there now, *then* finds its token still standing, and
//!   stores under that number. `delete` and `set` take the token away before they touch the value, and a
//!   claim by force changes the token before the number. So whoever comes between is seen at the one or
//!   at the other; and a server that restarted has no token.
//! - A fill that neither the number nor the token can fence, for the lease was evicted, is an error and
//!   not [`Fill::Refused`]: nobody has overtaken it, and what is there may be old.
//! - The numbers and the lease's age are kept in this process, by token. A token that is not known
//!   here, or whose time is over, fills nothing.
//! - `set` drops the value, which leaves a stub, and fills that: a store that arrives late finds another
//!   number.
//! - A renewal stores the token anew, for longer, if the lease item still has the number that it was seen with: a lease
//!   that was dropped has none, and a late renewal brings nothing back. It changes that number, so while one is on its
//!   way, or was lost, the fill goes by the token. The value's number is not touched.
//! - The holds of writers are items too; [`holds`] tells each interleaving.
//!
//! Rejected: the client's own pool, which hides the connection; `gat` and touch, which renew what an
//! invalidation may have dropped, or another has taken since; and `flush_all`, which is not ours to send.

mod batch;
mod budget;
mod connection;
mod exchange;
mod fill;
mod holds;
mod key;
mod leases;
mod options;
mod pool;
mod servers;
mod tier;

use std::{fmt, sync::Arc, time::Duration};

use bytes::Bytes;

use self::{
    budget::Budget,
    exchange::{Answer, Command},
    holds::emptied_number,
    key::Spelling,
    leases::Leases,
    options::Options,
    pool::{Asked, Pool},
    servers::Servers,
};
use crate::{ConfigError, Fill, TierError, runtimes::Runtimes};

/// A remote tier on one or several memcached servers, 1.6.12 or newer.
///
/// Each key has its server, by rendezvous hashing over the addresses as they are written: all processes
/// must write them alike. A server that is down costs its share of the keys and no more; they are *not*
/// moved to others, for a value that was invalidated elsewhere would come back with the server.
///
/// A name must mean one server, to all processes, at any time: a `delete` reaches the server that the name
/// means then, and a value on another of that name outlives it. So no round-robin names. When a name moves, a
/// tier leaves the former server as soon as one of its dials lands on the new one; until then, and as long as
/// other processes have not, each sees what its own has.
///
/// memcached counts whole seconds. A value whose life is under 2 s is not stored and lives in L1 alone;
/// one over 30 days is stored for 30 days; others lose the fraction. The remaining life that `get`
/// reports is up to one second short of the true one.
///
/// A value longer than [`max_value_bytes`](Self::max_value_bytes) is not stored ([`Fill::Skipped`]). memcached
/// evicts what it needs room for, leases among it, and that costs warmth and nothing else. It knows no
/// prefixes: [`clear`](crate::RemoteTier::clear) is refused ([`TierError::Unsupported`]). Connections are plain
/// TCP, without authentication.
///
/// # What memcached cannot give
///
/// A [hold](crate::RemoteTier::hold) is an item like any other. One that the server evicts is lost: what others load
/// from then on may be stored, old or new, until the hold's end drops it and says [`HoldEnd::Lost`](crate::HoldEnd). So it
/// is when the server restarts. Give it room enough that what lives for seconds is not evicted.
///
/// At most eight writers hold a key at once; to more of them it is refused ([`TierError::Refused`]). Where it is not
/// certain that a hold was alone, as when a load asked for the lease by force meanwhile, its end says that it
/// overlapped. A hold stands up to two seconds longer than told, and a day at most.
///
/// Making one touches neither a runtime nor the network. Each tokio runtime that uses the tier gets
/// connections of its own, each for one operation at a time, and one task, with whose end they are closed.
/// Dropping an operation's future closes its connection, and harms nobody.
///
/// No call takes longer than [`connect_timeout`](Self::connect_timeout) and
/// [`response_timeout`](Self::response_timeout) together, one of several keys included.
///
/// ```
/// use tiered_tiers::Memcached;
///
/// let one = Memcached::new("127.0.0.1:11211")?;
/// let several = Memcached::new("cache-1:11211,cache-2:11211")?.connections(32);
/// # Ok::<(), tiered_tiers::ConfigError>(())
/// ```
pub struct Memcached {
    options: Options,
    servers: Servers,
    runtimes: Runtimes<Vec<Pool>>,
    leases: Leases,
}

/// How often a `set` tries, when others write the same key at the same moment.
const ATTEMPTS: usize = 4;
/// The client flags of a value; a stub has none.
const VALUE: u32 = 1;

impl Memcached {
    /// A tier on the servers at `addresses`, `host:port` each, separated by commas; the port is 11211
    /// unless told.
    ///
    /// # Errors
    /// A [`ConfigError`] that tells which of the addresses cannot be one, by its place; it may hold a
    /// password, and is not quoted.
    pub fn new(addresses: &str) -> Result<Self, ConfigError> {
        Ok(Self {
            servers: Servers::from_list(addresses)?,
            options: Options::default(),
            runtimes: Runtimes::default(),
            leases: Leases::default(),
        })
    }

    /// The most connections to each server, for each runtime, 1 to 1,024. Default: 16. They are dialled
    /// as they are needed; each carries one operation at a time.
    #[must_use]
    pub fn connections(self, connections: usize) -> Self {
        self.with(|options| options.connections = connections)
    }

    /// How long a call may dial, name resolution included. Default: 500 ms.
    #[must_use]
    pub fn connect_timeout(self, timeout: Duration) -> Self {
        self.with(|options| options.connect_timeout = timeout)
    }

    /// How long a call waits for a free connection and for its answers, all of them. Default: 250 ms. For
    /// batches of more than a few thousand keys, or of megabytes, give it more.
    #[must_use]
    pub fn response_timeout(self, timeout: Duration) -> Self {
        self.with(|options| options.response_timeout = timeout)
    }

    /// The longest value that is stored, in bytes. Default: 1 MiB less 1 KiB, for memcached's own limit (`-I`) is
    /// 1 MiB, its bookkeeping and the key included.
    #[must_use]
    pub fn max_value_bytes(self, bytes: usize) -> Self {
        self.with(|options| options.max_value_bytes = bytes)
    }

    /// The same tier with other options; connections made with the old ones are left.
    fn with(mut self, change: impl FnOnce(&mut Options)) -> Self {
        change(&mut self.options);
        self.runtimes = Runtimes::default();
        self
    }

    /// Sends commands in one piece to the server of number `server`.
    async fn ask(&self, server: usize, commands: &[Command]) -> Result<Asked, TierError> {
        let pools = self.pools()?;
        pool(&pools, server)?.ask(&mut self.budget(), commands).await
    }

    /// The pools of this runtime, one for each server.
    fn pools(&self) -> Result<Arc<Vec<Pool>>, TierError> {
        let pool = |(address, peer)| Pool::new(address, peer, &self.options);
        self.runtimes.pool_until_its_end(|| self.servers.each().map(pool).collect())
    }

    fn budget(&self) -> Budget {
        Budget::new(&self.options)
    }

    /// The life of a stub, in seconds: as long as the fill of it may be on its way.
    fn stub(&self) -> u32 {
        leases::seconds(self.options.response_timeout.saturating_mul(2))
    }

    /// Two round trips, as often as others write the same key at the same moment.
    async fn set_one(
        &self,
        key: &Spelling,
        bytes: Bytes,
        seconds: u32,
        mut budget: Budget,
    ) -> Result<Fill, TierError> {
        let pools = self.pools()?;
        let pool = pool(&pools, self.servers.of(key))?;
        let empty = Command::empty(key, self.stub());
        for _ in 0..ATTEMPTS {
            let mut lent = pool.lend(&mut budget).await?;
            let emptied = lent.ask(&budget, &empty).await?;
            let Some(cas) = emptied_number(&emptied)? else {
                lent.give_back();
                return Ok(Fill::Refused);
            };
            let fill = Command::fill(key, cas, bytes.clone(), seconds);
            let filled = match lent.ask(&budget, &[fill, Command::delete_lease(key)]).await {
                Err(error) if is_too_large(&error) => return Ok(Fill::Skipped),
                filled => filled?,
            };
            lent.give_back();
            if filled.first().is_some_and(Answer::is_done) {
                return Ok(Fill::Stored);
            }
        }
        Ok(Fill::Refused)
    }

    /// Whether the value may lie here, and for how many seconds.
    fn storable(&self, bytes: &Bytes, life: Duration) -> Option<u32> {
        (bytes.len() <= self.options.max_value_bytes).then(|| options::life(life)).flatten()
    }
}

/// The pool of a server, by its number.
fn pool(pools: &[Pool], server: usize) -> Result<&Pool, TierError> {
    pools.get(server).ok_or_else(servers::none)
}

/// The server's limit (`-I`) is lower than ours; it has dropped what it had.
fn is_too_large(error: &TierError) -> bool {
    matches!(error, TierError::Refused(words) if words.contains("too large"))
}

impl fmt::Debug for Memcached {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Memcached")
            .field("servers", &self.servers)
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}
