//! The local fence: what was loaded before an invalidation is not put into L1 after it.
//!
//! A load captures a [`Ticket`] before it reads anything. An invalidation or a write *advances* the
//! key, and an advanced key admits no older ticket. Admission and insertion happen under one lock,
//! and so do advance and removal, which leaves two orders and both are right:
//!
//! 1. admit, insert; advance, remove: the old value was there for a moment and is gone.
//! 2. advance, remove; admit says no: the old value never gets in.
//!
//! Only keys with a ticket outstanding have a slot, so the fence is exact at the cost of a small
//! map. Striped generations would need no map, but an invalidation would then refuse the loads of
//! every other key of its stripe.

use std::collections::HashMap;

use crate::sync::{Arc, Mutex};

const SHARDS: usize = 64;

/// The fence of one cache. Keys go by their hash: two keys of one hash only refuse each other's
/// loads.
#[derive(Debug)]
pub(crate) struct Fence {
    shards: Vec<Mutex<HashMap<u64, Slot>>>,
}

#[derive(Debug)]
struct Slot {
    tickets: usize,
    advances: u64,
    /// `None` where several keys have the hash.
    key: Option<Box<[u8]>>,
}

/// The state of a key before its load began. Outstanding tickets are counted; dropping gives back.
#[derive(Debug)]
pub(crate) struct Ticket {
    fence: Arc<Fence>,
    hash: u64,
    advances: u64,
    /// The generation of the bus' view it was captured under; 0 where there is no bus.
    pub(crate) generation: u64,
}

impl Fence {
    pub(crate) fn new() -> Arc<Self> {
        let shards = (0..SHARDS).map(|_| Mutex::default()).collect();
        Arc::new(Self { shards })
    }

    /// Takes the state of a key before anything of it is read.
    pub(crate) fn capture(self: &Arc<Self>, hash: u64, key: &[u8]) -> Ticket {
        let mut shard = self.shard(hash).lock();
        let new = || Slot { tickets: 0, advances: 0, key: Some(key.into()) };
        let slot = shard.entry(hash).or_insert_with(new);
        if slot.key.as_deref().is_some_and(|known| known != key) {
            slot.key = None;
        }
        slot.tickets += 1;
        let advances = slot.advances;
        drop(shard);
        Ticket { fence: Arc::clone(self), hash, advances, generation: 0 }
    }

    /// Overtakes all outstanding tickets of a key, and runs `change` in the same step.
    pub(crate) fn advance(&self, hash: u64, change: impl FnOnce()) {
        let mut shard = self.shard(hash).lock();
        if let Some(slot) = shard.get_mut(&hash) {
            slot.advances += 1;
        }
        change();
    }

    /// Overtakes all outstanding tickets of the keys that are `meant`, and perhaps of some more.
    pub(crate) fn advance_where(&self, meant: impl Fn(&[u8]) -> bool) {
        for shard in &self.shards {
            for slot in shard.lock().values_mut() {
                if slot.key.as_deref().is_none_or(&meant) {
                    slot.advances += 1;
                }
            }
        }
    }

    /// Overtakes all outstanding tickets.
    pub(crate) fn advance_all(&self) {
        self.advance_where(|_| true);
    }

    fn shard(&self, hash: u64) -> &Mutex<HashMap<u64, Slot>> {
        // The remainder is below the length.
        &self.shards[(hash % SHARDS as u64) as usize]
    }
}

impl Ticket {
    /// Whether nothing has overtaken this ticket.
    pub(crate) fn holds(&self) -> bool {
        self.admit(|| {})
    }

    /// Runs `insert` if nothing has overtaken this ticket; says whether it did.
    pub(crate) fn admit(&self, insert: impl FnOnce()) -> bool {
        let shard = self.fence.shard(self.hash).lock();
        let holds = shard.get(&self.hash).is_some_and(|slot| slot.advances == self.advances);
        if holds {
            insert();
        }
        holds
    }

    /// Overtakes all tickets of the key, this one included. `change` is told, in the same step,
    /// whether this ticket still held: of two writes at once neither may think it was the last.
    pub(crate) fn supersede(&self, change: impl FnOnce(bool)) {
        let mut shard = self.fence.shard(self.hash).lock();
        let mut holds = false;
        if let Some(slot) = shard.get_mut(&self.hash) {
            holds = slot.advances == self.advances;
            slot.advances += 1;
        }
        change(holds);
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let mut shard = self.fence.shard(self.hash).lock();
        if let Some(slot) = shard.get_mut(&self.hash) {
            slot.tickets -= 1;
            if slot.tickets == 0 {
                shard.remove(&self.hash);
            }
        }
    }
}
