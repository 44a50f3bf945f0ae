//! A cache of one key: a source that only its version is kept of, L1, and the fence between them.
//!
//! L1's lock is the standard library's and never held while another task may run, so that watching
//! adds no schedules of its own. Reading and writing the source are steps of their own.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::Fencing;
use crate::sync::{AtomicU64, Ordering};

/// The key, by its hash.
pub(super) const HASH: u64 = 1;

pub(super) struct Model<F: Fencing> {
    pub(super) fence: F::Fence,
    /// What the database, or the cache server, has.
    source: AtomicU64,
    local: Mutex<Local>,
}

/// L1, and the oldest version that it may have.
#[derive(Default)]
struct Local {
    version: Option<u64>,
    floor: u64,
}

impl<F: Fencing> Model<F> {
    pub(super) fn new() -> Arc<Self> {
        let (source, local) = (AtomicU64::new(0), Mutex::default());
        Arc::new(Self { fence: F::fence(), source, local })
    }

    /// A read that misses: capture, read the source, admit.
    pub(super) fn load(&self) {
        let ticket = F::capture(&self.fence, HASH);
        let version = self.source.load(Ordering::SeqCst);
        F::admit(&ticket, || self.put(version));
    }

    /// A write to the source whose writer then invalidates.
    pub(super) fn update(&self) {
        self.source.fetch_add(1, Ordering::SeqCst);
        self.invalidate();
    }

    pub(super) fn invalidate(&self) {
        let seen = self.source.load(Ordering::SeqCst);
        F::advance(&self.fence, HASH, || self.clear());
        self.acknowledge(seen);
    }

    /// A write through the cache: drop, capture, write the source, supersede. Not `answered`, the
    /// source may have it or not.
    pub(super) fn set(&self, answered: bool) {
        F::advance(&self.fence, HASH, || self.clear());
        let ticket = F::capture(&self.fence, HASH);
        let version = self.source.fetch_add(1, Ordering::SeqCst) + 1;
        F::supersede(&ticket, |alone| match alone && answered {
            true => self.put(version),
            false => self.clear(),
        });
        self.acknowledge(version);
    }

    /// To be called when nobody reads or writes any more.
    pub(super) fn close(&self) {
        let source = self.source.load(Ordering::SeqCst);
        let version = self.local().version;
        assert!(
            version.is_none_or(|version| version == source),
            "L1 keeps {version:?}, the source has {source}"
        );
        assert_eq!(F::slots(&self.fence), 0, "a slot was left behind");
    }

    fn local(&self) -> MutexGuard<'_, Local> {
        self.local.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn put(&self, version: u64) {
        let mut local = self.local();
        local.version = Some(version);
        let floor = local.floor;
        drop(local);
        assert!(version >= floor, "version {version} got into L1 after {floor} was acknowledged");
    }

    fn clear(&self) {
        self.local().version = None;
    }

    fn acknowledge(&self, floor: u64) {
        let mut local = self.local();
        local.floor = local.floor.max(floor);
        let version = local.version;
        let floor = local.floor;
        drop(local);
        assert!(
            version.is_none_or(|version| version >= floor),
            "L1 still has {version:?}, and {floor} was acknowledged"
        );
    }
}
