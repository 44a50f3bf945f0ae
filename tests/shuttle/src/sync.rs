//! The locks that the shipped files get here: shuttle's, behind the surface of the cache's own
//! `sync` module.
//!
//! shuttle lets another task run before a lock is taken and before it is given back, but not right
//! after that. The signal of a flight is tokio's own `Notify`, which shuttle knows nothing of: its
//! wakers work, but nothing could happen between giving back a lock and the signal that follows,
//! and a waiter that registers too late would go unnoticed. So a guard here lets another task run
//! after it has given back the lock, too. Then each use of the signal stands alone between two such
//! points, and what happens inside of it need not be taken apart: that is `Notify`'s contract. A
//! `Notify` of our own would be taken apart, but would test itself instead of the one that ships.

use std::ops::{Deref, DerefMut};

pub(crate) use shuttle::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};
use shuttle::sync::{PoisonError, atomic::AtomicBool};

/// A mutex that knows no poison.
#[derive(Debug, Default)]
pub(crate) struct Mutex<T> {
    inner: shuttle::sync::Mutex<T>,
    point: AtomicBool,
}

impl<T> Mutex<T> {
    pub(crate) fn new(value: T) -> Self {
        Self { inner: shuttle::sync::Mutex::new(value), point: AtomicBool::new(false) }
    }

    pub(crate) fn lock(&self) -> Guard<'_, T> {
        let held = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        Guard { held, _after: Point(&self.point) }
    }
}

/// The held lock. Its fields are dropped in order: the lock is given back, then others may run.
pub(crate) struct Guard<'a, T> {
    held: shuttle::sync::MutexGuard<'a, T>,
    _after: Point<'a>,
}

impl<T> Deref for Guard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.held
    }
}

impl<T> DerefMut for Guard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.held
    }
}

/// Lets another task run when it is dropped. A load does so without asking to be put last, as a
/// yield would.
struct Point<'a>(&'a AtomicBool);

impl Drop for Point<'_> {
    fn drop(&mut self) {
        self.0.load(Ordering::SeqCst);
    }
}
