//! Records on their way into the journal: those that come together are appended together.
//!
//! A `set` hands its record in, and one task at a time appends what is there. It queues the values too, in the order in
//! which the journal has them, before their callers know; so what is queued and what is in the journal never differ,
//! whoever goes away midway. Appending in the caller's future would leave values in the journal that nobody writes.

use std::sync::Arc;

use tiered_tiers::{JournalError, Record, TierError};
use tokio::{sync::oneshot, time::timeout};

use super::{
    book::{ACKS, acknowledge, bounded, taken_over, told},
    shared::{PATIENCE, Room, Shared},
};
use crate::{Error, Key};

/// How many records are appended in one piece.
const TOGETHER: usize = 64;

/// What waits to be appended, and whether somebody is at it.
pub(super) struct Inbox<K, V, C> {
    waiting: Vec<Entry<K, V, C>>,
    is_read: bool,
}

impl<K, V, C> Inbox<K, V, C> {
    pub(super) fn new() -> Self {
        Self { waiting: Vec::new(), is_read: false }
    }
}

/// A value that is to be appended and queued.
pub(super) struct Entry<K, V, C> {
    pub(super) room: Room<K, V, C>,
    pub(super) key: Key,
    pub(super) id: K,
    pub(super) value: Arc<V>,
    pub(super) record: Record,
    pub(super) answer: oneshot::Sender<Result<(), Error>>,
}

/// Appends an entry with those of other callers, and queues it.
pub(super) async fn append<K, V, C>(
    shared: &Arc<Shared<K, V, C>>,
    entry: Entry<K, V, C>,
    answer: oneshot::Receiver<Result<(), Error>>,
) -> Result<(), Error>
where
    K: Clone + Send + Sync + 'static,
    V: Send + Sync + 'static,
    C: Send + Sync + 'static,
{
    let Some(book) = &shared.book else { return Ok(()) };
    let was_read = {
        let mut inbox = book.inbox.lock();
        inbox.waiting.push(entry);
        std::mem::replace(&mut inbox.is_read, true)
    };
    if !was_read {
        let reading = Reading { shared: Arc::clone(shared), is_claimed: true };
        tokio::spawn(read_inbox(reading));
    }
    match timeout(PATIENCE, answer).await {
        Ok(Ok(answer)) => answer,
        // Its runtime went away, or stands still.
        _ => Err(Error::Backend(TierError::Timeout)),
    }
}

/// The claim on the inbox. Dropped midway, with its runtime, it leaves the callers without an answer.
struct Reading<K, V, C> {
    shared: Arc<Shared<K, V, C>>,
    is_claimed: bool,
}

impl<K, V, C> Drop for Reading<K, V, C> {
    fn drop(&mut self) {
        if let Some(book) = self.shared.book.as_ref().filter(|_| self.is_claimed) {
            let mut inbox = book.inbox.lock();
            inbox.is_read = false;
            let unanswered = std::mem::take(&mut inbox.waiting);
            drop(inbox);
            drop(unanswered);
        }
    }
}

async fn read_inbox<K, V, C>(mut reading: Reading<K, V, C>)
where
    K: Clone,
{
    let shared = Arc::clone(&reading.shared);
    let shared = &*shared;
    let Some(book) = &shared.book else { return };
    loop {
        let entries = {
            let mut inbox = book.inbox.lock();
            // Who has gone away without an answer does not want it any more.
            inbox.waiting.retain(|entry| !entry.answer.is_closed());
            let together = inbox.waiting.len().min(TOGETHER);
            inbox.waiting.drain(..together).collect::<Vec<_>>()
        };
        if entries.is_empty() {
            let mut inbox = book.inbox.lock();
            if inbox.waiting.is_empty() {
                // Given back in one step with finding nothing.
                inbox.is_read = false;
                reading.is_claimed = false;
                return;
            }
            continue;
        }
        if shared.state.lock().done.len() >= ACKS {
            acknowledge(shared).await;
        }
        let records: Vec<Record> = entries.iter().map(|entry| entry.record.clone()).collect();
        let mut appended = bounded(book.journal.append(&records)).await;
        if appended == Err(JournalError::Full) && !shared.state.lock().done.is_empty() {
            acknowledge(shared).await;
            appended = bounded(book.journal.append(&records)).await;
        }
        match appended {
            Ok(positions) => {
                for (entry, position) in entries.into_iter().zip(positions) {
                    let Entry { room, key, id, value, answer, .. } = entry;
                    let queued = room.push(key, id, value, Some(position));
                    if queued.is_err() {
                        // It was shut down meanwhile, and its caller hears that nothing was changed.
                        shared.state.lock().done.push(position);
                        shared.written.notify_one();
                    }
                    // A caller that has gone knows nothing, and the value is written all the same.
                    let _ = answer.send(queued);
                }
            }
            Err(error) => {
                if error == JournalError::Taken {
                    taken_over(shared);
                }
                for entry in entries {
                    let _ = entry.answer.send(Err(told(error.clone())));
                }
            }
        }
    }
}
