//! The connections of one tokio runtime, made when they are first needed and replaced when broken.
//!
//! Each slot has its turn to dial: a mutex held while dialling, so that a thousand first users make
//! one dial, and a dialler that is dropped hands its turn to the next. Rejected: dialling in a task
//! of our own, which would survive its caller; this crate spawns nothing but connections.

use std::{
    sync::{
        Arc, Mutex, PoisonError, RwLock,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::time::{Instant, timeout};

use super::{
    budget::Budget,
    connection::Connection,
    health::Health,
    options::{MAX_CONNECTIONS, Options},
};
use crate::TierError;

/// So long after a failed dial others fail with its error instead of dialling themselves.
const REMEMBERED: Duration = Duration::from_millis(50);

/// The connections of one runtime.
#[derive(Debug)]
pub(super) struct Pool {
    slots: Box<[Slot]>,
    next: AtomicUsize,
    failure: Mutex<Option<(Instant, TierError)>>,
}

/// A place for one connection.
#[derive(Debug, Default)]
struct Slot {
    connection: RwLock<Option<Arc<Connection>>>,
    turn: tokio::sync::Mutex<()>,
}

impl Pool {
    /// A pool without connections yet.
    pub(super) fn new(options: &Options) -> Self {
        let slots = options.connections.clamp(1, MAX_CONNECTIONS);
        Self {
            slots: (0..slots).map(|_| Slot::default()).collect(),
            next: AtomicUsize::new(0),
            failure: Mutex::new(None),
        }
    }

    /// A connection that is not known to be broken, dialled if need be.
    pub(super) async fn connection(
        &self,
        options: &Options,
        health: &Health,
        budget: &mut Budget,
    ) -> Result<Arc<Connection>, TierError> {
        let index = self.next.fetch_add(1, Ordering::Relaxed) % self.slots.len().max(1);
        let Some(slot) = self.slots.get(index) else {
            return Err(TierError::Unreachable("no connections are configured".into()));
        };
        if let Some(connection) = slot.usable(options, health) {
            return Ok(connection);
        }
        let start = Instant::now();
        let dialled = self.dialled(slot, options, health, budget.for_dial()).await;
        budget.dialled(start);
        dialled
    }

    /// Takes a connection out of the pool; requests under way on it may still finish.
    pub(super) fn discard(&self, connection: &Arc<Connection>) {
        for slot in &self.slots {
            slot.discard(connection);
        }
    }

    /// Waits for the slot's turn and dials, unless another has dialled, or failed to, meanwhile.
    async fn dialled(
        &self,
        slot: &Slot,
        options: &Options,
        health: &Health,
        patience: Duration,
    ) -> Result<Arc<Connection>, TierError> {
        let start = Instant::now();
        if let Some(error) = self.recent_failure() {
            return self.any(options, health).ok_or(error);
        }
        let Ok(_turn) = timeout(patience, slot.turn.lock()).await else {
            return Err(TierError::Timeout);
        };
        if let Some(connection) = slot.usable(options, health) {
            return Ok(connection);
        }
        if let Some(error) = self.recent_failure() {
            return self.any(options, health).ok_or(error);
        }
        let left = patience.saturating_sub(start.elapsed());
        let error = match timeout(left, Connection::dial(options)).await {
            Ok(Ok(connection)) => {
                let connection = Arc::new(connection);
                slot.put(Arc::clone(&connection));
                return Ok(connection);
            }
            Ok(Err(error)) => error,
            // With most of the time spent on waiting for the turn, this says nothing of the server.
            Err(_) if left < options.connect_timeout / 2 => return Err(TierError::Timeout),
            Err(_) => TierError::Timeout,
        };
        *self.failure() = Some((Instant::now(), error.clone()));
        health.lost(options, &error);
        self.any(options, health).ok_or(error)
    }

    /// Any usable connection of the pool: better than none, when a new one cannot be had.
    fn any(&self, options: &Options, health: &Health) -> Option<Arc<Connection>> {
        self.slots.iter().find_map(|slot| slot.usable(options, health))
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

impl Slot {
    /// The slot's connection, unless it is closed or silent; then the slot is emptied.
    fn usable(&self, options: &Options, health: &Health) -> Option<Arc<Connection>> {
        let connection =
            self.connection.read().unwrap_or_else(PoisonError::into_inner).as_ref().cloned()?;
        if connection.is_closed() {
            self.discard(&connection);
            return None;
        }
        if connection.is_silent() {
            health.lost(options, &TierError::Timeout);
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
