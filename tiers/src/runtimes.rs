//! Connections for each tokio runtime that uses a tier.
//!
//! A connection's task lives on the runtime that dialled it: it dies with that runtime, and hangs
//! while nobody drives it. So connections are never shared between runtimes: actix has one for each
//! worker, a test binary one for each test. Rejected: a runtime of our own, which the engine has
//! promised not to make.
//!
//! Tokio takes a runtime's id from a counter, so it is not used twice; its documentation reserves
//! the right to. Then a new runtime would find the closed connections of a dead one, and redial.

use std::sync::{
    Arc, PoisonError, RwLock,
    atomic::{AtomicU64, Ordering},
};

use tokio::runtime::{Handle, Id};

use crate::TierError;

/// Runtimes remembered; beyond, the one whose last operation is longest ago is forgotten.
const MAX_RUNTIMES: usize = 64;

/// The pools, by runtime.
#[derive(Debug)]
pub(crate) struct Runtimes<P> {
    known: RwLock<Vec<Known<P>>>,
    uses: AtomicU64,
}

/// A runtime and its pool.
#[derive(Debug)]
struct Known<P> {
    runtime: Id,
    pool: Arc<P>,
    used: AtomicU64,
}

impl<P> Default for Runtimes<P> {
    fn default() -> Self {
        Self { known: RwLock::default(), uses: AtomicU64::new(0) }
    }
}

impl<P> Runtimes<P> {
    /// The pool of the runtime this is called on, made if it has none.
    pub(crate) fn pool(&self, make: impl FnOnce() -> P) -> Result<Arc<P>, TierError> {
        let runtime = Handle::try_current().map_err(|_| TierError::NoRuntime)?.id();
        let use_number = self.uses.fetch_add(1, Ordering::Relaxed);
        let find = |known: &[Known<P>]| {
            let known = known.iter().find(|known| known.runtime == runtime)?;
            known.used.store(use_number, Ordering::Relaxed);
            Some(Arc::clone(&known.pool))
        };
        if let Some(pool) = find(&self.known.read().unwrap_or_else(PoisonError::into_inner)) {
            return Ok(pool);
        }
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(pool) = find(&known) {
            return Ok(pool);
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
        known.push(Known { runtime, pool: Arc::clone(&pool), used: AtomicU64::new(use_number) });
        Ok(pool)
    }
}
