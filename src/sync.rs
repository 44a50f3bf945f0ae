//! The locks of the mechanisms. The shuttle tests compile `flight.rs`, `fence.rs`, `bus/view.rs` and
//! `tags/table.rs` against a module of the same name that hands out shuttle's.

pub(crate) use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

/// A mutex that knows no poison: what it guards stays consistent at every point where a panic
/// can happen.
#[derive(Debug, Default)]
pub(crate) struct Mutex<T>(std::sync::Mutex<T>);

impl<T> Mutex<T> {
    pub(crate) fn new(value: T) -> Self {
        Self(std::sync::Mutex::new(value))
    }

    pub(crate) fn lock(&self) -> std::sync::MutexGuard<'_, T> {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}
