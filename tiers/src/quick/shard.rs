//! One part of the keys: a table, two queues, and the decision who goes.
//!
//! The policy is S3-FIFO (Yang et al., "FIFO queues are all you need for cache eviction", SOSP 2023)
//! with two changes that the traces in `docs/choosing-l1.md` asked for: one use suffices to leave
//! the trial, and a shard that fills up takes entries without one.

use std::time::Instant;

use hashbrown::HashTable;

use super::{
    ghosts::Ghosts,
    nodes::{Node, Nodes, Queue},
};
use crate::LocalEntry;

/// The part of the weight that entries on trial may take: one in so many.
const TRIAL: u64 = 10;
/// Entries that one eviction spares, at most; then the next goes, used or not. It bounds the time
/// for which the shard is locked.
const SPARED: usize = 64;

/// One shard.
#[derive(Default)]
pub(super) struct Shard {
    table: HashTable<u32>,
    nodes: Nodes,
    ghosts: Ghosts,
    /// The next place that [`sweep`](Self::sweep) looks at.
    hand: u32,
}

impl Shard {
    pub(super) fn len(&self) -> usize {
        self.table.len()
    }

    pub(super) fn weight(&self) -> u64 {
        self.nodes.weight(Queue::Cold) + self.nodes.weight(Queue::Hot)
    }

    pub(super) fn get(&self, hash: u64, key: &[u8]) -> Option<&Node> {
        self.nodes.get(self.find(hash, key)?)
    }

    /// The keys that begin with `prefix`.
    pub(super) fn keys_with(&self, prefix: &[u8]) -> Vec<Box<[u8]>> {
        let keys = self.table.iter().filter_map(|id| Some(&self.nodes.get(*id)?.key));
        keys.filter(|key| key.starts_with(prefix)).cloned().collect()
    }

    fn find(&self, hash: u64, key: &[u8]) -> Option<u32> {
        let same = |id: &u32| {
            self.nodes.get(*id).is_some_and(|node| node.hash == hash && *node.key == *key)
        };
        self.table.find(hash, same).copied()
    }

    /// Whether it cannot take an entry more, whatever the bound.
    pub(super) fn is_full(&self) -> bool {
        self.nodes.is_full()
    }

    /// Stores the entry of a key that has none. `share` is this shard's part of the bound.
    pub(super) fn add(&mut self, node: Node, share: u64) {
        let hash = node.hash;
        let filling =
            self.nodes.weight(Queue::Hot).saturating_add(node.cost) <= share - share / TRIAL;
        let proven = self.ghosts.recall(hash, self.table.len());
        let queue = if proven || filling { Queue::Hot } else { Queue::Cold };
        let id = self.nodes.add(node, queue);
        let nodes = &self.nodes;
        self.table.insert_unique(hash, id, |id| nodes.get(*id).map_or(0, |node| node.hash));
        self.ghosts.reserve(self.table.len());
    }

    /// Puts another entry into the place of a key's old one, which keeps its standing. Returns the
    /// old entry.
    pub(super) fn replace(
        &mut self,
        hash: u64,
        key: &[u8],
        entry: LocalEntry,
        expires: Instant,
        cost: u64,
    ) -> Option<LocalEntry> {
        let id = self.find(hash, key)?;
        self.nodes.reweigh(id, cost);
        let node = self.nodes.get_mut(id)?;
        node.expires = expires;
        Some(std::mem::replace(&mut node.entry, entry))
    }

    /// Takes a key's entry out, if it is one of those.
    pub(super) fn remove_if(
        &mut self,
        hash: u64,
        key: &[u8],
        which: impl FnOnce(&Node) -> bool,
    ) -> Option<Node> {
        let id = self.find(hash, key)?;
        self.nodes.get(id).filter(|node| which(node))?;
        self.take(id)
    }

    /// Takes a key's entry out if its life has ended.
    pub(super) fn remove_dead(&mut self, hash: u64, key: &[u8], now: Instant) -> Option<Node> {
        let node = self.remove_if(hash, key, |node| node.expires <= now)?;
        self.bury(&node);
        Some(node)
    }

    /// Looks at the next place of all, in turn, and takes out what has died there.
    pub(super) fn sweep(&mut self, now: Instant) -> Option<Node> {
        let id = self.hand;
        self.hand = if id.saturating_add(1) < self.nodes.places() { id + 1 } else { 0 };
        self.nodes.get(id).filter(|node| node.expires <= now)?;
        let node = self.take(id)?;
        self.bury(&node);
        Some(node)
    }

    /// Takes out the entry that is worth least: a dead one that is met, else the oldest that was
    /// not used since it was last looked at.
    pub(super) fn evict(&mut self, now: Instant) -> Option<Node> {
        for spared in 0..=SPARED {
            let id = self.candidate()?;
            let node = self.nodes.get_mut(id)?;
            let queue = node.queue;
            let used = match queue {
                Queue::Cold => node.spend_uses(),
                Queue::Hot => node.spend_use(),
            };
            if node.expires <= now {
                let node = self.take(id)?;
                self.bury(&node);
                return Some(node);
            }
            if !used || spared == SPARED {
                if queue == Queue::Cold {
                    let hash = node.hash;
                    self.ghosts.remember(hash);
                }
                return self.take(id);
            }
            self.nodes.move_to(id, Queue::Hot);
        }
        None
    }

    /// Whose turn it is: those on trial, while they have more than their part.
    fn candidate(&self) -> Option<u32> {
        let cold = self.nodes.weight(Queue::Cold);
        let (first, second) = if cold >= (self.weight() / TRIAL).max(1) {
            (Queue::Cold, Queue::Hot)
        } else {
            (Queue::Hot, Queue::Cold)
        };
        self.nodes.oldest(first).or_else(|| self.nodes.oldest(second))
    }

    /// An entry whose life has ended was not let go for lack of merit: loaded again, it stands where
    /// it stood.
    fn bury(&mut self, dead: &Node) {
        if dead.queue == Queue::Hot {
            self.ghosts.remember(dead.hash);
        }
    }

    fn take(&mut self, id: u32) -> Option<Node> {
        let hash = self.nodes.get(id)?.hash;
        if let Ok(found) = self.table.find_entry(hash, |other| *other == id) {
            found.remove();
        }
        self.nodes.take(id)
    }

    /// Places for entries, taken and free.
    #[cfg(test)]
    pub(super) fn places(&self) -> u32 {
        self.nodes.places()
    }

    #[cfg(test)]
    pub(super) fn assert_whole(&self) {
        self.nodes.assert_whole();
        assert_eq!(
            self.table.len(),
            self.table.iter().filter_map(|id| self.nodes.get(*id)).count()
        );
        for id in &self.table {
            let node = self.nodes.get(*id).unwrap();
            assert_eq!(self.find(node.hash, &node.key), Some(*id));
        }
    }
}
