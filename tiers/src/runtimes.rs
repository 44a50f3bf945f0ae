//! Connections for each tokio runtime that uses a tier.
//!
//! A connection lives on the runtime that dialled it: it is dead with that runtime, and hangs while nobody
//! drives it. So connections are never shared between runtimes: actix has one for each
//! worker, a test binary one for each test. Rejected: a runtime of our own, which the engine has
//! promised not to make.
//!
//! Dead is not closed: what has no task of its own keeps its descriptors. Such pools are let go by a task that
//! each of their runtimes has, when that ends with its runtime.
//!
//! Tokio takes a runtime's id from a counter, so it is not used twice; its documentation reserves
//! the right to. Then a new runtime would find the closed connections of a dead one, and redial.

use std::sync::{
    Arc, PoisonError, RwLock,
    atomic::{AtomicU64, Ordering},
};

use tokio::{
    runtime::{Handle, Id},
    sync::oneshot,
};

use crate::TierError;

/// Runtimes remembered; beyond, the one whose last operation is longest ago is forgotten.
const MAX_RUNTIMES: usize = 64;

/// The pools, by runtime.
#[derive(Debug)]
pub(crate) struct Runtimes<P> {
    known: Arc<RwLock<Vec<Known<P>>>>,
    uses: AtomicU64,
}

/// A runtime and its pool.
#[derive(Debug)]
struct Known<P> {
    runtime: Id,
    pool: Arc<P>,
    used: AtomicU64,
    /// Dropped with it: then the task that waits for the runtime's end ends.
    _awaited: oneshot::Sender<()>,
}

impl<P> Default for Runtimes<P> {
    fn default() -> Self {
        Self { known: Arc::default(), uses: AtomicU64::new(0) }
    }
}

impl<P> Runtimes<P> {
    /// The pool of the runtime this is called on, made if it has none. It is forgotten when it is one of
    /// too many.
    #[cfg(feature = "redis")]
    pub(crate) fn pool(&self, make: impl FnOnce() -> P) -> Result<Arc<P>, TierError> {
        let runtime = Handle::try_current().map_err(|_| TierError::NoRuntime)?;
        Ok(self.find_or_make(runtime.id(), make).0)
    }

    /// As [`pool`](Self::pool), and it is forgotten when the runtime ends, at the latest.
    #[cfg(feature = "memcached")]
    pub(crate) fn pool_until_its_end(&self, make: impl FnOnce() -> P) -> Result<Arc<P>, TierError>
    where
        P: Send + Sync + 'static,
    {
        let runtime = Handle::try_current().map_err(|_| TierError::NoRuntime)?;
        let (pool, forgotten) = self.find_or_make(runtime.id(), make);
        if let Some(forgotten) = forgotten {
            let end = End { pool: Arc::downgrade(&pool), known: Arc::downgrade(&self.known) };
            // Its end is what it is for: on a runtime that is ending already, at once.
            runtime.spawn(async move {
                let _end = end;
                let _ = forgotten.await;
            });
        }
        Ok(pool)
    }

    /// The runtime's pool, and, if it is a new one, what tells when it is forgotten.
    fn find_or_make(
        &self,
        runtime: Id,
        make: impl FnOnce() -> P,
    ) -> (Arc<P>, Option<oneshot::Receiver<()>>) {
        let use_number = self.uses.fetch_add(1, Ordering::Relaxed);
        let find = |known: &[Known<P>]| {
            let known = known.iter().find(|known| known.runtime == runtime)?;
            known.used.store(use_number, Ordering::Relaxed);
            Some(Arc::clone(&known.pool))
        };
        if let Some(pool) = find(&self.known.read().unwrap_or_else(PoisonError::into_inner)) {
            return (pool, None);
        }
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(pool) = find(&known) {
            return (pool, None);
        }
        while known.len() >= MAX_RUNTIMES {
            let oldest = known
                .iter()
                .enumerate()
                .min_by_key(|(_, known)| known.used.load(Ordering::Relaxed))
                .map_or(0, |(index, _)| index);
            known.swap_remove(oldest);
        }
        let pool = Arc::new(make());
        let (awaited, forgotten) = oneshot::channel();
        known.push(Known {
            runtime,
            pool: Arc::clone(&pool),
            used: AtomicU64::new(use_number),
            _awaited: awaited,
        });
        (pool, Some(forgotten))
    }
}

/// Dropped when a runtime ends, or when its pool is forgotten.
#[cfg(feature = "memcached")]
struct End<P> {
    pool: std::sync::Weak<P>,
    known: std::sync::Weak<RwLock<Vec<Known<P>>>>,
}

#[cfg(feature = "memcached")]
impl<P> Drop for End<P> {
    fn drop(&mut self) {
        let Some(known) = self.known.upgrade() else { return };
        let mut known = known.write().unwrap_or_else(PoisonError::into_inner);
        let is_its = |known: &Known<P>| Arc::as_ptr(&known.pool) == self.pool.as_ptr();
        let at = known.iter().position(is_its);
        let ended = at.map(|at| known.swap_remove(at));
        // Its connections are closed when nobody waits for the others.
        drop(known);
        drop(ended);
    }
}
