//! A shard behind its lock, and what leaves it.

use std::sync::{
    PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard,
    atomic::{AtomicU64, Ordering},
};

use super::shard::Shard;
use crate::Value;

/// A shard and its lock, on cache lines of their own.
#[repr(align(128))]
#[derive(Default)]
pub(super) struct Cell {
    shard: RwLock<Shard>,
    /// What the shard weighs, to be read without its lock.
    pub(super) weight: AtomicU64,
}

impl Cell {
    // A shard that a panic left behind is whole: nothing under its lock is the application's code.
    pub(super) fn read(&self) -> RwLockReadGuard<'_, Shard> {
        self.shard.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn write(&self) -> RwLockWriteGuard<'_, Shard> {
        self.shard.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Shows what the shard weighs now.
    pub(super) fn note(&self, shard: &Shard) {
        self.weight.store(shard.weight(), Ordering::Relaxed);
    }
}

/// What left a shard, kept until its lock is released: the values' destructors are the
/// application's code. The first has a place here, so that the usual insert allocates nothing for it.
#[derive(Default)]
pub(super) struct Gone {
    first: Option<(Box<[u8]>, Value)>,
    more: Vec<(Box<[u8]>, Value)>,
}

impl Gone {
    pub(super) fn push(&mut self, gone: (Box<[u8]>, Value)) {
        match self.first {
            None => self.first = Some(gone),
            Some(_) => self.more.push(gone),
        }
    }
}
