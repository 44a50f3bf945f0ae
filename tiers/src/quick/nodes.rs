//! The entries of one shard in one vector, linked into two queues by their numbers.
//!
//! Numbers instead of pointers keep this free of `unsafe`; a number that leads nowhere ends the walk
//! instead of the process.

use std::{
    sync::atomic::{AtomicU8, Ordering},
    time::Instant,
};

use crate::LocalEntry;

/// The number that is none.
const NONE: u32 = u32::MAX;
/// Uses are counted up to here: what an entry can be asked for beyond it earns no longer a stay.
const MOST_USES: u8 = 2;

/// Which queue an entry stands in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Queue {
    /// On trial: new, and not asked for yet as far as the queue knows.
    Cold,
    /// Proven.
    Hot,
}

/// One entry.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) key: Box<[u8]>,
    pub(super) hash: u64,
    pub(super) entry: LocalEntry,
    pub(super) expires: Instant,
    pub(super) cost: u64,
    uses: AtomicU8,
    pub(super) queue: Queue,
    /// Its neighbours: who came before it, and after.
    before: u32,
    after: u32,
}

impl Node {
    pub(super) fn new(
        key: &[u8],
        hash: u64,
        entry: LocalEntry,
        expires: Instant,
        cost: u64,
    ) -> Self {
        Self {
            key: key.into(),
            hash,
            entry,
            expires,
            cost,
            uses: AtomicU8::new(0),
            queue: Queue::Cold,
            before: NONE,
            after: NONE,
        }
    }

    /// Counts a use. Two at once may count as one; nothing is written once the count is full, so
    /// the cores do not fight over what all of them read.
    pub(super) fn touch(&self) {
        let uses = self.uses.load(Ordering::Relaxed);
        if uses < MOST_USES {
            self.uses.store(uses + 1, Ordering::Relaxed);
        }
    }

    /// Takes one use off, and says whether there was one.
    pub(super) fn spend_use(&mut self) -> bool {
        let uses = self.uses.get_mut();
        let had = *uses > 0;
        *uses = uses.saturating_sub(1);
        had
    }

    /// Forgets all uses, and says whether there were any.
    pub(super) fn spend_uses(&mut self) -> bool {
        std::mem::take(self.uses.get_mut()) > 0
    }
}

/// The ends of a queue, and what its entries weigh.
#[derive(Debug)]
struct Ends {
    oldest: u32,
    newest: u32,
    weight: u64,
}

impl Default for Ends {
    fn default() -> Self {
        Self { oldest: NONE, newest: NONE, weight: 0 }
    }
}

/// A place for an entry. The free ones are a list, so that taking an entry out allocates nothing.
#[derive(Debug)]
enum Place {
    Free { next: u32 },
    Taken(Node),
}

/// The entries.
#[derive(Debug)]
pub(super) struct Nodes {
    places: Vec<Place>,
    free: u32,
    cold: Ends,
    hot: Ends,
}

impl Default for Nodes {
    fn default() -> Self {
        Self { places: Vec::new(), free: NONE, cold: Ends::default(), hot: Ends::default() }
    }
}

impl Nodes {
    /// Places, those that are free included: every entry's number is below.
    pub(super) fn places(&self) -> u32 {
        u32::try_from(self.places.len()).unwrap_or(NONE)
    }

    pub(super) fn get(&self, id: u32) -> Option<&Node> {
        match self.places.get(id as usize)? {
            Place::Taken(node) => Some(node),
            Place::Free { .. } => None,
        }
    }

    pub(super) fn get_mut(&mut self, id: u32) -> Option<&mut Node> {
        match self.places.get_mut(id as usize)? {
            Place::Taken(node) => Some(node),
            Place::Free { .. } => None,
        }
    }

    pub(super) fn oldest(&self, queue: Queue) -> Option<u32> {
        let id = self.ends(queue).oldest;
        (id != NONE).then_some(id)
    }

    pub(super) fn weight(&self, queue: Queue) -> u64 {
        self.ends(queue).weight
    }

    /// Whether all numbers are given away.
    pub(super) fn is_full(&self) -> bool {
        self.free == NONE && self.places() == NONE
    }

    /// Puts an entry at the end of a queue.
    pub(super) fn add(&mut self, node: Node, queue: Queue) -> u32 {
        let id = match self.places.get_mut(self.free as usize) {
            Some(place) => {
                let id = self.free;
                if let Place::Free { next } = std::mem::replace(place, Place::Taken(node)) {
                    self.free = next;
                }
                id
            }
            None => {
                self.places.push(Place::Taken(node));
                self.places() - 1
            }
        };
        self.link(id, queue);
        id
    }

    /// Takes an entry out.
    pub(super) fn take(&mut self, id: u32) -> Option<Node> {
        self.unlink(id);
        let place =
            self.places.get_mut(id as usize).filter(|place| matches!(place, Place::Taken(_)))?;
        let Place::Taken(node) = std::mem::replace(place, Place::Free { next: self.free }) else {
            return None;
        };
        self.free = id;
        Some(node)
    }

    /// Moves an entry to the end of a queue.
    pub(super) fn move_to(&mut self, id: u32, queue: Queue) {
        self.unlink(id);
        self.link(id, queue);
    }

    /// Changes what an entry counts.
    pub(super) fn reweigh(&mut self, id: u32, cost: u64) {
        let Some(node) = self.get_mut(id) else { return };
        let (queue, old) = (node.queue, std::mem::replace(&mut node.cost, cost));
        let ends = self.ends_mut(queue);
        ends.weight = ends.weight - old + cost;
    }

    fn ends(&self, queue: Queue) -> &Ends {
        match queue {
            Queue::Cold => &self.cold,
            Queue::Hot => &self.hot,
        }
    }

    fn ends_mut(&mut self, queue: Queue) -> &mut Ends {
        match queue {
            Queue::Cold => &mut self.cold,
            Queue::Hot => &mut self.hot,
        }
    }

    /// Links an entry that stands in no queue.
    fn link(&mut self, id: u32, queue: Queue) {
        let newest = self.ends(queue).newest;
        let Some(node) = self.get_mut(id) else { return };
        (node.queue, node.before, node.after) = (queue, newest, NONE);
        let cost = node.cost;
        match self.get_mut(newest) {
            Some(last) => last.after = id,
            None => self.ends_mut(queue).oldest = id,
        }
        let ends = self.ends_mut(queue);
        ends.newest = id;
        ends.weight += cost;
    }

    fn unlink(&mut self, id: u32) {
        let Some(node) = self.get(id) else { return };
        let (queue, before, after, cost) = (node.queue, node.before, node.after, node.cost);
        match self.get_mut(before) {
            Some(node) => node.after = after,
            None => self.ends_mut(queue).oldest = after,
        }
        match self.get_mut(after) {
            Some(node) => node.before = before,
            None => self.ends_mut(queue).newest = before,
        }
        self.ends_mut(queue).weight -= cost;
    }

    /// Checks every link against every entry.
    #[cfg(test)]
    pub(super) fn assert_whole(&self) {
        let mut linked = 0;
        for queue in [Queue::Cold, Queue::Hot] {
            let (mut before, mut at, mut weight) = (NONE, self.ends(queue).oldest, 0);
            while let Some(node) = self.get(at) {
                assert_eq!((node.queue, node.before), (queue, before));
                weight += node.cost;
                linked += 1;
                (before, at) = (at, node.after);
            }
            assert_eq!((at, before), (NONE, self.ends(queue).newest));
            assert_eq!(weight, self.ends(queue).weight);
        }
        let mut free = 0;
        let mut at = self.free;
        while let Some(Place::Free { next }) = self.places.get(at as usize) {
            (at, free) = (*next, free + 1);
        }
        assert_eq!((at, linked + free), (NONE, self.places.len()));
    }
}
