//! The connections of one tokio runtime to one server: each for one operation at a time.
//!
//! A place is waited for, then an idle connection is taken, the one used last, or a new one dialled. One
//! whose operation failed, or was dropped midway, is closed: an answer may still be on its way on it.

use std::{
    io,
    net::TcpStream as Socket,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use memcache::exp::AsyncMetaConnection;
use tokio::{
    net::TcpStream,
    sync::{Semaphore, SemaphorePermit},
    time::{Instant, timeout},
};

use super::{
    exchange::{Answer, Command, exchange},
    options::Options,
};
use crate::TierError;

/// So long after a failed dial others fail with its error instead of dialling themselves.
const REMEMBERED: Duration = Duration::from_millis(50);

/// The connections to one server.
#[derive(Debug)]
pub(super) struct Pool {
    places: Semaphore,
    idle: Mutex<Vec<Connection>>,
    failure: Mutex<Option<(Instant, TierError)>>,
}

/// A connection and when it was open.
struct Connection {
    stream: AsyncMetaConnection,
    /// The same socket, to see whether the server has closed it.
    socket: Socket,
    dialled: Instant,
    /// Commands so far.
    asked: u64,
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connection").field("dialled", &self.dialled).finish_non_exhaustive()
    }
}

impl Pool {
    /// A pool without connections yet.
    pub(super) fn new(options: &Options) -> Self {
        Self {
            places: Semaphore::new(options.connections.clamp(1, 1 << 16)),
            idle: Mutex::default(),
            failure: Mutex::default(),
        }
    }

    /// Sends commands in one piece, and gives their answers, and when they were sent.
    pub(super) async fn ask(
        &self,
        address: &str,
        options: &Options,
        commands: &[Command],
    ) -> Result<(Vec<Answer>, Instant), TierError> {
        let mut patience = options.response_timeout;
        let start = Instant::now();
        let _place = self.place(patience).await?;
        patience = patience.saturating_sub(start.elapsed());
        let connection = match self.take(|_| true) {
            Some(connection) => connection,
            None => self.dial(address, options).await?,
        };
        let sent = Instant::now();
        self.ask_on(connection, patience, commands).await.map(|answers| (answers, sent))
    }

    /// Sends `first`, and on the same connection what `then` makes of its answers.
    pub(super) async fn ask_twice(
        &self,
        address: &str,
        options: &Options,
        first: &[Command],
        then: impl FnOnce(Vec<Answer>) -> Result<Vec<Command>, TierError>,
    ) -> Result<Vec<Answer>, TierError> {
        let _place = self.place(options.response_timeout).await?;
        let mut connection = match self.take(|_| true) {
            Some(connection) => connection,
            None => self.dial(address, options).await?,
        };
        let Connection { stream, asked, .. } = &mut connection;
        let both = async {
            let second = then(exchange(stream, asked, first).await?)?;
            exchange(stream, asked, &second).await
        };
        let answers =
            timeout(options.response_timeout, both).await.unwrap_or(Err(TierError::Timeout))?;
        self.idle().push(connection);
        Ok(answers)
    }

    /// As [`ask`](Self::ask), on a connection that was open at `moment`, if there is one.
    pub(super) async fn ask_as_of(
        &self,
        moment: Instant,
        options: &Options,
        commands: &[Command],
    ) -> Result<Option<Vec<Answer>>, TierError> {
        let mut patience = options.response_timeout;
        let start = Instant::now();
        let _place = self.place(patience).await?;
        patience = patience.saturating_sub(start.elapsed());
        let Some(connection) = self.take(|connection| connection.dialled <= moment) else {
            return Ok(None);
        };
        self.ask_on(connection, patience, commands).await.map(Some)
    }

    async fn ask_on(
        &self,
        mut connection: Connection,
        patience: Duration,
        commands: &[Command],
    ) -> Result<Vec<Answer>, TierError> {
        let Connection { stream, asked, .. } = &mut connection;
        let answered = timeout(patience, exchange(stream, asked, commands)).await;
        let answers = answered.unwrap_or(Err(TierError::Timeout))?;
        self.idle().push(connection);
        Ok(answers)
    }

    async fn place(&self, patience: Duration) -> Result<SemaphorePermit<'_>, TierError> {
        match timeout(patience, self.places.acquire()).await {
            Ok(Ok(place)) => Ok(place),
            Ok(Err(_)) | Err(_) => Err(TierError::Timeout),
        }
    }

    /// The idle connection that was used last, of those that will do.
    fn take(&self, will_do: impl Fn(&Connection) -> bool) -> Option<Connection> {
        let mut idle = self.idle();
        while let Some(at) = idle.iter().rposition(&will_do) {
            let connection = idle.remove(at);
            if connection.is_quiet() {
                return Some(connection);
            }
        }
        None
    }

    async fn dial(&self, address: &str, options: &Options) -> Result<Connection, TierError> {
        if let Some(error) = self.recent_failure() {
            return Err(error);
        }
        let connected = timeout(options.connect_timeout, TcpStream::connect(address)).await;
        let connected = connected.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
        match connected.and_then(Connection::over) {
            Ok(connection) => Ok(connection),
            Err(error) => {
                let error = match error.kind() {
                    io::ErrorKind::TimedOut => TierError::Timeout,
                    kind => TierError::Unreachable(kind.to_string()),
                };
                *self.failure() = Some((Instant::now(), error.clone()));
                Err(error)
            }
        }
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

impl Connection {
    fn over(stream: TcpStream) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        let stream = stream.into_std()?;
        let socket = stream.try_clone()?;
        let stream = AsyncMetaConnection::from_stream(TcpStream::from_std(stream)?);
        Ok(Self { stream, socket, dialled: Instant::now(), asked: 0 })
    }

    /// Whether it is open and nothing is on its way: what lies idle has no answer to expect. One
    /// system call.
    fn is_quiet(&self) -> bool {
        let peeked = self.socket.peek(&mut [0]);
        peeked.is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
    }
}
