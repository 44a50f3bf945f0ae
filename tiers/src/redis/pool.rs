//! The connections of one tokio runtime, made when they are first needed and replaced when broken.
//!
//! Each slot has its dial: a future behind a mutex, so that a thousand first users make one dial. The
//! one who holds the turn drives it; dropped, it leaves the dial where it is, and the next one goes
//! on with it. So a server that takes longer to reach than any caller waits is reached all the same, as
//! long as callers keep coming.
//! Rejected: dialling in a task of our own; this crate spawns nothing but connections, and
//! what watches over one.

use std::{
    fmt,
    future::Future,
    panic::AssertUnwindSafe,
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError, RwLock,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures_util::FutureExt;
use tokio::time::{Instant, timeout};

use super::{
    budget::Budget,
    connection::Connection,
    options::{MAX_CONNECTIONS, Options},
};
use crate::TierError;

/// So long after a failed dial others fail with its error instead of dialling themselves.
const REMEMBERED: Duration = Duration::from_millis(50);

/// So long a connection is trusted whatever it answers.
const TRUSTED: Duration = Duration::from_millis(500);

/// The connections of one runtime to one server.
#[derive(Debug)]
pub(super) struct Pool {
    options: Arc<Options>,
    slots: Box<[Slot]>,
    next: AtomicUsize,
    failure: Mutex<Option<(Instant, TierError)>>,
}

/// A place for one connection.
#[derive(Default)]
struct Slot {
    connection: RwLock<Option<Arc<Connection>>>,
    dial: tokio::sync::Mutex<Option<Dial>>,
}

/// A dial under way; it ends by itself within `connect_timeout`.
pub(super) type Dial = Pin<Box<dyn Future<Output = Result<Connection, TierError>> + Send>>;

impl fmt::Debug for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Slot").field("connection", &self.connection).finish_non_exhaustive()
    }
}

impl Pool {
    /// A pool without connections yet.
    pub(super) fn new(options: Arc<Options>) -> Self {
        let slots = options.connections.clamp(1, MAX_CONNECTIONS);
        Self {
            options,
            slots: (0..slots).map(|_| Slot::default()).collect(),
            next: AtomicUsize::new(0),
            failure: Mutex::new(None),
        }
    }

    /// A connection that is not known to be broken, dialled if need be.
    pub(super) async fn connection(
        &self,
        budget: &mut Budget,
    ) -> Result<Arc<Connection>, TierError> {
        let index = self.next.fetch_add(1, Ordering::Relaxed) % self.slots.len().max(1);
        let Some(slot) = self.slots.get(index) else {
            return Err(TierError::Unreachable("no connections are configured".into()));
        };
        if let Some(connection) = slot.usable() {
            return Ok(connection);
        }
        let start = Instant::now();
        let dialled = self.dialled(slot, budget.for_dial()).await;
        budget.dialled(start);
        dialled
    }

    /// Takes a connection out of the pool; requests under way on it may still finish.
    pub(super) fn discard(&self, connection: &Arc<Connection>) {
        for slot in &self.slots {
            slot.discard(connection);
        }
    }

    /// Takes all connections out of the pool but the youngest: one that was dialled since then cannot be
    /// the one that mixed its answers up, and what is damaged on the server would redial at every read.
    pub(super) fn distrust(&self) {
        for slot in &self.slots {
            if let Some(connection) = slot.usable()
                && connection.age() >= TRUSTED
            {
                slot.discard(&connection);
            }
        }
    }

    /// Waits for the slot's turn and drives its dial, unless another has dialled, or failed to,
    /// meanwhile.
    async fn dialled(&self, slot: &Slot, patience: Duration) -> Result<Arc<Connection>, TierError> {
        if let Some(error) = self.recent_failure() {
            return self.any().ok_or(error);
        }
        let driving = async {
            let mut turn = slot.dial.lock().await;
            if let Some(connection) = slot.usable() {
                return Ok(connection);
            }
            if let Some(error) = self.recent_failure() {
                return Err(error);
            }
            let resumed = turn.is_some();
            let mut ended =
                turn.get_or_insert_with(|| dial(Arc::clone(&self.options))).as_mut().await;
            if resumed && matches!(ended, Err(TierError::Timeout)) {
                // Its time ran out while nobody drove it, which says nothing of the server.
                *turn = None;
                ended = turn.get_or_insert_with(|| dial(Arc::clone(&self.options))).as_mut().await;
            }
            *turn = None;
            match ended {
                Ok(connection) => {
                    let connection = Arc::new(connection);
                    slot.put(Arc::clone(&connection));
                    Ok(connection)
                }
                Err(error) => {
                    *self.failure() = Some((Instant::now(), error.clone()));
                    Err(error)
                }
            }
        };
        match timeout(patience, driving).await {
            Ok(Ok(connection)) => Ok(connection),
            Ok(Err(error)) => self.any().ok_or(error),
            Err(_) => self.any().ok_or(TierError::Timeout),
        }
    }

    /// Any usable connection of the pool: better than none, when a new one cannot be had.
    pub(super) fn any(&self) -> Option<Arc<Connection>> {
        self.slots.iter().find_map(|slot| slot.usable())
    }

    fn recent_failure(&self) -> Option<TierError> {
        let failure = self.failure();
        let (at, error) = failure.as_ref()?;
        (at.elapsed() < REMEMBERED).then(|| error.clone())
    }

    fn failure(&self) -> std::sync::MutexGuard<'_, Option<(Instant, TierError)>> {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Dials, within `connect_timeout`. A panic (name resolution wants a thread, and there may be none) is
/// a failed dial: the future stays in its slot, and must not be polled after it.
pub(super) fn dial(options: Arc<Options>) -> Dial {
    Box::pin(async move {
        let dialling = AssertUnwindSafe(Connection::dial(&options)).catch_unwind();
        match timeout(options.connect_timeout, dialling).await {
            Ok(Ok(dialled)) => dialled,
            Ok(Err(_)) => Err(TierError::Unreachable("the dial panicked".into())),
            Err(_) => Err(TierError::Timeout),
        }
    })
}

impl Slot {
    /// The slot's connection, unless it is closed or silent; then the slot is emptied.
    fn usable(&self) -> Option<Arc<Connection>> {
        let connection =
            self.connection.read().unwrap_or_else(PoisonError::into_inner).as_ref().cloned()?;
        if connection.is_closed() || connection.is_silent() {
            self.discard(&connection);
            return None;
        }
        Some(connection)
    }

    fn put(&self, connection: Arc<Connection>) {
        *self.connection.write().unwrap_or_else(PoisonError::into_inner) = Some(connection);
    }

    fn discard(&self, connection: &Arc<Connection>) {
        let mut held = self.connection.write().unwrap_or_else(PoisonError::into_inner);
        if held.as_ref().is_some_and(|held| Arc::ptr_eq(held, connection)) {
            *held = None;
        }
    }
}
