//! How an entry gets in: room is taken for it first, and where there is none, made.

use std::{sync::atomic::Ordering, time::Instant};

use super::{
    Quick,
    cell::{Cell, Gone},
    nodes::Node,
    shard::Shard,
};
use crate::LocalEntry;

/// Places an insert looks at for a dead entry.
const SWEPT: usize = 4;
/// Entries evicted under one lock, at most.
const BATCH: usize = 32;
/// Attempts to make room that may find nothing to evict, as when others were quicker.
const FRUITLESS: usize = 16;

/// How an attempt to store an entry ended.
enum Attempt {
    /// It is in its shard.
    Stored,
    /// Some were evicted, and more must be.
    More,
    /// There is no room, and it is not for this shard to make some.
    NoRoom,
}

/// What an insert brings.
pub(super) struct New<'a> {
    pub(super) key: &'a [u8],
    pub(super) hash: u64,
    pub(super) entry: LocalEntry,
    pub(super) cost: u64,
    pub(super) expires: Instant,
    pub(super) now: Instant,
}

impl Quick {
    /// Stores an entry that the bound allows; says whether there was room for it in the end.
    pub(super) fn store(&self, cell: &Cell, new: &New<'_>) -> bool {
        // Enough to evict everything once, each shard's last batch being a small one. Where others
        // take the room as it is made, that is enough of it.
        let batches = self.room.entries() / BATCH as u64 + 2 * self.cells.len() as u64;
        let (mut batches, mut fruitless) = (batches, FRUITLESS);
        while batches > 0 && fruitless > 0 {
            match self.attempt(cell, new) {
                Attempt::Stored => return true,
                Attempt::More => batches -= 1,
                Attempt::NoRoom if self.evict_elsewhere(new.now, new.cost) => batches -= 1,
                Attempt::NoRoom => fruitless -= 1,
            }
        }
        false
    }

    /// Stores the entry if there is room, or where this shard has too much makes some.
    fn attempt(&self, cell: &Cell, new: &New<'_>) -> Attempt {
        let mut gone = Gone::default();
        let mut shard = cell.write();
        for _ in 0..SWEPT {
            if let Some(dead) = shard.sweep(new.now) {
                self.leave(dead, &mut gone);
            }
        }
        for _ in 0..BATCH {
            // Asked for each time: the key's own old entry may be what was evicted.
            let old = shard.get(new.hash, new.key).map(|node| node.cost);
            // Only the difference is needed: the old entry's room is this one's already.
            let more = new.cost.saturating_sub(old.unwrap_or(0));
            if (old.is_some() || !shard.is_full()) && self.room.take(more) {
                self.put(&mut shard, new, old, &mut gone);
                cell.note(&shard);
                return Attempt::Stored;
            }
            // Who has more than its share pays; if that is not this shard, it is another.
            let pays = shard.weight().saturating_add(more) > self.share;
            let Some(node) = pays.then(|| shard.evict(new.now)).flatten() else {
                cell.note(&shard);
                return Attempt::NoRoom;
            };
            self.leave(node, &mut gone);
        }
        cell.note(&shard);
        Attempt::More
    }

    /// Puts an entry into its shard; the room for it is taken.
    fn put(&self, shard: &mut Shard, new: &New<'_>, old: Option<u64>, gone: &mut Gone) {
        let New { key, hash, cost, expires, .. } = *new;
        if let Some(old) = old {
            let replaced = shard.replace(hash, key, new.entry.clone(), expires, cost);
            self.room.give_back(old.saturating_sub(cost));
            gone.push((Box::default(), replaced.and_then(|entry| entry.value)));
            return;
        }
        self.room.came();
        let node = Node::new(key, hash, new.entry.clone(), expires, cost);
        shard.add(node, self.share);
    }

    /// Evicts from the shard that holds most; says whether that gave any room.
    fn evict_elsewhere(&self, now: Instant, cost: u64) -> bool {
        let heaviest = self.cells.iter().max_by_key(|cell| cell.weight.load(Ordering::Relaxed));
        let Some(cell) = heaviest else { return false };
        let mut gone = Gone::default();
        let mut shard = cell.write();
        let before = shard.weight();
        for _ in 0..BATCH {
            let Some(node) = shard.evict(now) else { break };
            self.leave(node, &mut gone);
            if before - shard.weight() >= cost {
                break;
            }
        }
        cell.note(&shard);
        before > shard.weight()
    }
}
