//! The connections of one tokio runtime to one server: each for one operation at a time.
//!
//! A place is waited for, then an idle connection is taken, the youngest, or a new one dialled: old ones stay
//! for the fills that need one. One whose operation failed, or was dropped midway, is closed: an answer may
//! still be on its way on it.
//!
//! A name may come to mean another server, and the former one live on. Two servers under one name would each
//! have values that were deleted on the other. So connections lead to the [`Peer`] that was dialled last, and
//! those that do not are closed.

use std::{
    io,
    net::SocketAddr,
    panic::AssertUnwindSafe,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures_util::FutureExt;
use tokio::{
    sync::{Semaphore, SemaphorePermit},
    time::{Instant, timeout, timeout_at},
};

use super::{
    budget::Budget,
    connection::Connection,
    exchange::{Answer, Command},
    leases::Origin,
    options::Options,
};
use crate::TierError;

/// So long after a failed dial others fail with its error instead of dialling themselves.
const REMEMBERED: Duration = Duration::from_millis(50);

/// The connections to one server.
#[derive(Debug)]
pub(super) struct Pool {
    address: Arc<str>,
    peer: Arc<Peer>,
    places: Semaphore,
    idle: Mutex<Vec<Connection>>,
    failure: Mutex<Option<(Instant, TierError)>>,
}

/// Where the last dial to a server landed, on whichever runtime.
#[derive(Debug, Default)]
pub(super) struct Peer(Mutex<Option<(SocketAddr, Instant)>>);

/// A connection out of a pool. Dropped, it is closed.
#[derive(Debug)]
pub(super) struct Lent<'a> {
    pool: &'a Pool,
    connection: Connection,
    _place: SemaphorePermit<'a>,
}

/// What came of commands.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) answers: Vec<Answer>,
    pub(super) origin: Origin,
}

impl Pool {
    /// A pool without connections yet.
    pub(super) fn new(address: &str, peer: Arc<Peer>, options: &Options) -> Self {
        Self {
            address: address.into(),
            peer,
            places: Semaphore::new(options.connections.clamp(1, 1 << 16)),
            idle: Mutex::default(),
            failure: Mutex::default(),
        }
    }

    /// A connection, dialled if none is idle.
    pub(super) async fn lend(&self, budget: &mut Budget) -> Result<Lent<'_>, TierError> {
        let place = self.place(budget).await?;
        let connection = match self.take(|_| true) {
            Some(connection) => connection,
            None => self.dial(budget).await?,
        };
        Ok(Lent { pool: self, connection, _place: place })
    }

    /// An idle connection to the server that gave a lease, from before it: the server was not restarted
    /// since.
    pub(super) async fn lend_as_of(
        &self,
        origin: &Origin,
        budget: &Budget,
    ) -> Result<Option<Lent<'_>>, TierError> {
        let place = self.place(budget).await?;
        let connection = self.take(|connection| connection.was_open_at(origin));
        Ok(connection.map(|connection| Lent { pool: self, connection, _place: place }))
    }

    /// Sends commands in one piece, and gives their answers, and whence they came.
    pub(super) async fn ask(
        &self,
        budget: &mut Budget,
        commands: &[Command],
    ) -> Result<Asked, TierError> {
        let mut lent = self.lend(budget).await?;
        let origin = lent.origin();
        let answers = lent.ask(budget, commands).await?;
        lent.give_back();
        Ok(Asked { answers, origin })
    }

    async fn place(&self, budget: &Budget) -> Result<SemaphorePermit<'_>, TierError> {
        match timeout_at(budget.until(), self.places.acquire()).await {
            Ok(Ok(place)) => Ok(place),
            Ok(Err(_)) | Err(_) => Err(TierError::Timeout),
        }
    }

    /// The youngest idle connection, of those that will do.
    fn take(&self, will_do: impl Fn(&Connection) -> bool) -> Option<Connection> {
        let mut idle = self.idle();
        let peer = self.peer.last();
        idle.retain(|connection| Some(connection.peer()) == peer);
        loop {
            let fit = idle.iter().enumerate().filter(|(_, connection)| will_do(connection));
            let (at, _) = fit.max_by_key(|(_, connection)| connection.dialled())?;
            let connection = idle.swap_remove(at);
            if connection.is_quiet() {
                return Some(connection);
            }
        }
    }

    /// A panic (name resolution wants a thread, and there may be none) is a failed dial.
    async fn dial(&self, budget: &mut Budget) -> Result<Connection, TierError> {
        if let Some(error) = self.recent_failure() {
            return Err(error);
        }
        let start = Instant::now();
        let dialling = Connection::dial(&*self.address, self.peer.last());
        let dialled = timeout(budget.for_dial(), AssertUnwindSafe(dialling).catch_unwind()).await;
        budget.dialled(start);
        let error = match dialled {
            Ok(Ok(Ok(connection))) if self.peer.landed(connection.peer(), start) => {
                return Ok(connection);
            }
            Ok(Ok(Ok(_))) => return Err(TierError::Unreachable("its name has moved".into())),
            Ok(Ok(Err(error))) => match error.kind() {
                io::ErrorKind::TimedOut => TierError::Timeout,
                kind => TierError::Unreachable(kind.to_string()),
            },
            Ok(Err(_)) => TierError::Unreachable("the dial panicked".into()),
            Err(_) => TierError::Timeout,
        };
        *self.failure() = Some((Instant::now(), error.clone()));
        Err(error)
    }

    fn recent_failure(&self) -> Option<TierError> {
        let failure = self.failure();
        let (at, error) = failure.as_ref()?;
        (at.elapsed() < REMEMBERED).then(|| error.clone())
    }

    fn failure(&self) -> MutexGuard<'_, Option<(Instant, TierError)>> {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Connection>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Lent<'_> {
    /// Whence a lease comes that is asked for now.
    pub(super) fn origin(&self) -> Origin {
        Origin { asked: Instant::now(), peer: self.connection.peer() }
    }

    /// Sends commands in one piece, and gives their answers. After an error it is of no more use.
    pub(super) async fn ask(
        &mut self,
        budget: &Budget,
        commands: &[Command],
    ) -> Result<Vec<Answer>, TierError> {
        let answered = timeout_at(budget.until(), self.connection.exchange(commands)).await;
        answered.unwrap_or(Err(TierError::Timeout))
    }

    /// All that was asked is answered.
    pub(super) fn give_back(self) {
        self.pool.idle().push(self.connection);
    }
}

impl Peer {
    fn last(&self) -> Option<SocketAddr> {
        self.lock().map(|(peer, _)| peer)
    }

    /// A dial that began at `began` has landed; not if one that began later has landed elsewhere.
    fn landed(&self, peer: SocketAddr, began: Instant) -> bool {
        let mut last = self.lock();
        if last.is_some_and(|(other, later)| other != peer && later > began) {
            return false;
        }
        let later = last.map_or(began, |(_, later)| later.max(began));
        *last = Some((peer, later));
        true
    }

    fn lock(&self) -> MutexGuard<'_, Option<(SocketAddr, Instant)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(all(test, feature = "testing"))]
#[allow(clippy::disallowed_methods, clippy::unwrap_used, reason = "a test has its runtime")]
mod tests {
    use super::*;
    use crate::{memcached::key::Spelling, testing::MemcachedServer};

    const MOST: Duration = Duration::from_secs(5);

    fn options() -> Options {
        Options { response_timeout: MOST, connect_timeout: MOST, ..Options::default() }
    }

    /// A pool on a name that means the first of two servers.
    async fn of_two_servers() -> ([MemcachedServer; 2], Pool) {
        let servers =
            [MemcachedServer::start().await.unwrap(), MemcachedServer::start().await.unwrap()];
        let pool = Pool::new(&servers[0].address(), Arc::default(), &options());
        (servers, pool)
    }

    async fn ask(pool: &Pool, command: Command) -> Result<Asked, TierError> {
        pool.ask(&mut Budget::new(&options()), &[command]).await
    }

    /// What is deleted on the new server is not read from the former one, which lives on.
    #[tokio::test]
    async fn a_name_that_moved_leaves_no_connection_to_the_former_server() {
        let ([first, second], mut pool) = of_two_servers().await;
        let key = Spelling::of(b"k");
        let before = ask(&pool, Command::look(&key)).await.unwrap().origin;
        assert_eq!(first.ask("set k 1 600 3\r\nold").await.unwrap(), "STORED");
        pool.address = second.address().into();
        // One to each server, if both are taken at once: it was idle, and the other is dialled.
        let mut budget = Budget::new(&options());
        let idle = pool.lend(&mut budget).await.unwrap();
        let dialled = pool.lend(&mut budget).await.unwrap();
        assert_ne!(idle.connection.peer(), dialled.connection.peer());
        idle.give_back();
        dialled.give_back();
        for _ in 0..4 {
            let both = futures_util::future::join(
                ask(&pool, Command::look(&key)),
                ask(&pool, Command::look(&key)),
            );
            for asked in <[_; 2]>::from(both.await) {
                let asked = asked.unwrap();
                assert_ne!(asked.origin.peer, before.peer);
                assert!(asked.answers.into_iter().all(|answer| answer.found().is_none()));
            }
        }
        // And a lease of the former one is fenced by no connection to the new one.
        let fence = pool.lend_as_of(&before, &budget).await.unwrap();
        assert!(fence.is_none(), "{fence:?}");
        let since = Origin { asked: Instant::now(), peer: before.peer };
        assert!(pool.lend_as_of(&since, &budget).await.unwrap().is_none());
    }

    /// Another runtime's pool has seen the move first.
    #[tokio::test]
    async fn a_name_that_moved_has_moved_for_every_runtime() {
        let ([first, second], pool) = of_two_servers().await;
        let other = Pool::new(&second.address(), Arc::clone(&pool.peer), &options());
        let key = Spelling::of(b"k");
        let peer = ask(&pool, Command::look(&key)).await.unwrap().origin.peer;
        assert_eq!(pool.peer.last(), Some(peer));
        ask(&other, Command::look(&key)).await.unwrap();
        assert!(pool.take(|_| true).is_none(), "an idle connection to the former server");
        assert!(other.take(|_| true).is_some());
        drop(first);
    }

    /// A dial that was slow to land where the name used to lead.
    #[tokio::test]
    async fn a_late_dial_does_not_lead_back() {
        let (peer, began) = (Peer::default(), Instant::now());
        let [former, new] = [1, 2].map(|port| SocketAddr::from(([127, 0, 0, 1], port)));
        assert!(peer.landed(new, began + MOST));
        assert!(!peer.landed(former, began));
        assert!(peer.landed(new, began));
        assert_eq!(peer.last(), Some(new));
        assert!(peer.landed(former, began + MOST * 2));
        assert_eq!(peer.last(), Some(former));
    }

    /// Of several addresses of a name the one that was dialled before is dialled again.
    #[tokio::test]
    async fn of_several_addresses_the_known_one_is_dialled() {
        let servers =
            [MemcachedServer::start().await.unwrap(), MemcachedServer::start().await.unwrap()];
        let peers = servers.each_ref().map(|server| server.address().parse().unwrap());
        for known in peers {
            let connection = Connection::dial(&peers[..], Some(known)).await.unwrap();
            assert_eq!(connection.peer(), known);
        }
    }
}
