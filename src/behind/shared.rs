//! What the handles and the task that drains share.

use std::{
    collections::HashMap,
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{
    sync::Notify,
    time::{Instant, timeout},
};

use super::{
    BehindStats,
    book::Book,
    loss::OnLoss,
    queue::{Item, Pushed, Queue},
    rules::Rules,
    sink::AnySink,
    turns::{Turn, Turns},
};
use crate::{Error, Key, Tiered, request::Options, stack::DecodeLog, sync::Mutex};

/// How long a call waits for others that set the same key, and for the journal.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);

/// The state of the queue and of its task.
#[derive(Debug)]
pub(super) struct State<K, V> {
    pub(super) queue: Queue<K, V>,
    /// Places of the queue that calls under way will take.
    reserved: usize,
    /// Calls that wait for a flush.
    pub(super) hurrying: usize,
    /// Where the journal has what it need not keep, the oldest first.
    pub(super) done: Vec<u64>,
    /// Where the journal has what was given up, or could not be read, by key: until a newer value comes.
    pub(super) left: HashMap<Vec<u8>, Vec<u64>>,
    /// Nothing is taken any more, and what is left then is lost.
    pub(super) closing: Option<Instant>,
    /// The last handle is gone.
    pub(super) is_orphaned: bool,
    /// Nobody writes any more.
    pub(super) has_ended: bool,
    /// And what was left then is reported.
    pub(super) is_over: bool,
    pub(super) is_running: bool,
}

/// What was counted.
#[derive(Debug, Default)]
pub(super) struct Counts {
    pub(super) written: AtomicU64,
    pub(super) coalesced: AtomicU64,
    pub(super) retried: AtomicU64,
    pub(super) lost: AtomicU64,
    pub(super) overloaded: AtomicU64,
}

pub(super) struct Shared<K, V, C> {
    pub(super) cache: Tiered<C>,
    pub(super) options: Options,
    pub(super) sink: Box<dyn AnySink<K, V>>,
    pub(super) key_of: Box<dyn Fn(&K) -> Key + Send + Sync>,
    pub(super) on_loss: Option<OnLoss<K, V>>,
    pub(super) rules: Rules,
    pub(super) book: Option<Book<K, V, C>>,
    pub(super) state: Mutex<State<K, V>>,
    pub(super) turns: Turns,
    /// There is something to do for the task.
    pub(super) wake: Notify,
    /// There is something that the journal need not keep any more.
    pub(super) written: Notify,
    /// The task has done something.
    pub(super) changed: Notify,
    pub(super) counts: Counts,
    pub(super) log: DecodeLog,
}

impl<K, V, C> fmt::Debug for Shared<K, V, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WriteBehind")
            .field("cache", &self.cache)
            .field("rules", &self.rules)
            .finish_non_exhaustive()
    }
}

/// A place in the queue, given back unless it is taken.
pub(super) struct Room<K, V, C> {
    shared: Arc<Shared<K, V, C>>,
}

impl<K: Clone, V> State<K, V> {
    pub(super) fn new() -> Self {
        Self {
            queue: Queue::new(),
            reserved: 0,
            hurrying: 0,
            done: Vec::new(),
            left: HashMap::new(),
            closing: None,
            is_orphaned: false,
            has_ended: false,
            is_over: false,
            is_running: false,
        }
    }

    /// Notes that a value made way for a newer one, if it did: 1, or else 0.
    pub(super) fn note(&mut self, pushed: Pushed) -> usize {
        let Pushed::Replaced(position) = pushed else { return 0 };
        self.done.extend(position);
        1
    }

    /// Whether nothing waits, and nobody is about to change that.
    pub(super) fn is_idle(&self) -> bool {
        self.queue.len() == 0 && self.reserved == 0
    }
}

impl<K: Clone, V, C> Shared<K, V, C> {
    /// Waits for the turn of a key; not for ever.
    pub(super) async fn turn(&self, key: &Key) -> Result<Turn<'_>, Error> {
        timeout(PATIENCE, self.turns.take(key)).await.map_err(|_| Error::Overloaded)
    }

    /// Refuses those who come after a shutdown.
    pub(super) fn check_open(&self) -> Result<(), Error> {
        if self.state.lock().closing.is_some() { Err(closed()) } else { Ok(()) }
    }

    /// A place for a key, if there is one.
    pub(super) fn room(self: &Arc<Self>, key: &Key) -> Result<Room<K, V, C>, Error> {
        let mut state = self.state.lock();
        if state.closing.is_some() {
            return Err(closed());
        }
        let taken = state.queue.len() + state.reserved;
        if taken >= self.rules.max_pending && !state.queue.contains(key) {
            drop(state);
            bump(&self.counts.overloaded, 1);
            return Err(Error::Overloaded);
        }
        state.reserved += 1;
        drop(state);
        Ok(Room { shared: Arc::clone(self) })
    }

    /// Whether a newer value of the key waits.
    pub(super) fn is_outdated(&self, key: &Key) -> bool {
        self.state.lock().queue.is_outdated(key)
    }

    /// Queues a value; of one that has ended nobody would write it.
    pub(super) fn queue(
        &self,
        key: Key,
        id: K,
        value: Arc<V>,
        position: Option<u64>,
    ) -> Result<(), Error> {
        let due = Instant::now() + self.rules.every;
        let (stack, _) = self.cache.parts();
        let mut state = self.state.lock();
        if state.has_ended {
            return Err(closed());
        }
        if !state.left.is_empty() {
            let older = state.left.remove(&key.wire(&stack.namespace));
            state.done.extend(older.unwrap_or_default());
        }
        let pushed = state.queue.push(key, id, value, position, due);
        let coalesced = state.note(pushed);
        let is_news = state.queue.is_news(self.rules.batch);
        drop(state);
        bump(&self.counts.coalesced, coalesced);
        if is_news {
            self.wake.notify_one();
        }
        Ok(())
    }

    /// Takes no more; what is left after `flush_within` is lost.
    pub(super) fn close(&self) {
        let now = Instant::now();
        let mut state = self.state.lock();
        state.closing.get_or_insert(now + self.rules.flush_within);
        state.queue.hurry(now);
        drop(state);
        self.wake.notify_one();
    }

    /// Values that were lost so far.
    pub(super) fn lost(&self) -> u64 {
        self.counts.lost.load(Ordering::Relaxed)
    }

    pub(super) fn stats(&self) -> BehindStats {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let (queued, set) = {
            let state = self.state.lock();
            (state.queue.len(), state.queue.count())
        };
        BehindStats {
            queued,
            set,
            written: read(&self.counts.written),
            coalesced: read(&self.counts.coalesced),
            retried: read(&self.counts.retried),
            lost: read(&self.counts.lost),
            overloaded: read(&self.counts.overloaded),
        }
    }
}

impl<K: Clone, V, C> Room<K, V, C> {
    /// Queues a value here.
    pub(super) fn push(
        self,
        key: Key,
        id: K,
        value: Arc<V>,
        position: Option<u64>,
    ) -> Result<(), Error> {
        self.shared.queue(key, id, value, position)
    }
}

impl<K, V, C> Drop for Room<K, V, C> {
    fn drop(&mut self) {
        let mut state = self.shared.state.lock();
        state.reserved -= 1;
        let is_awaited = state.closing.is_some() && state.reserved == 0;
        drop(state);
        if is_awaited {
            self.shared.wake.notify_one();
        }
    }
}

/// The values that were taken out, to be reported.
pub(super) type Rest<K, V> = Vec<(Key, Item<K, V>)>;

pub(super) fn bump(counter: &AtomicU64, by: usize) {
    counter.fetch_add(by as u64, Ordering::Relaxed);
}

fn closed() -> Error {
    Error::config("this write-behind was shut down: it takes no more values")
}
