//! The journal's side of a write-behind: who owns it, what it is told, and what is read back.
//!
//! Acknowledgements go out in the order in which they arose: if the newer of two values of a key were dropped from the
//! journal and the older one not, a restart would write the older one.

use std::{
    collections::HashSet,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tiered_tiers::{Journal, JournalError, Logged, TierError};
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::{
    batch::tell,
    drain::clear,
    forms::Forms,
    inbox::Inbox,
    loss::{Loss, LossReason},
    shared::{PATIENCE, Shared},
};
use crate::{Error, sync::Mutex};

/// How many acknowledgements go out in one piece.
pub(super) const ACKS: usize = 1_000;
/// How often one who waits for a journal asks again.
const AGAIN: Duration = Duration::from_millis(200);

/// A journal and what is under way there.
pub(super) struct Book<K, V, C> {
    pub(super) journal: Box<dyn Journal>,
    pub(super) forms: Forms<K, V, C>,
    pub(super) inbox: Mutex<Inbox<K, V, C>>,
    is_open: AtomicBool,
    opening: tokio::sync::Mutex<()>,
    acknowledging: tokio::sync::Mutex<()>,
}

impl<K, V, C> Book<K, V, C> {
    pub(super) fn new(journal: Box<dyn Journal>, forms: Forms<K, V, C>) -> Self {
        Self {
            journal,
            forms,
            inbox: Mutex::new(Inbox::new()),
            is_open: AtomicBool::new(false),
            opening: tokio::sync::Mutex::default(),
            acknowledging: tokio::sync::Mutex::default(),
        }
    }

    pub(super) fn is_open(&self) -> bool {
        self.is_open.load(Ordering::Acquire)
    }

    pub(super) fn close(&self) {
        self.is_open.store(false, Ordering::Release);
    }
}

/// An operation of the journal; not for ever.
pub(super) async fn bounded<R>(
    operation: impl Future<Output = Result<R, JournalError>>,
) -> Result<R, JournalError> {
    timeout(PATIENCE, operation).await.unwrap_or(Err(TierError::Timeout.into()))
}

/// What a caller is told.
pub(super) fn told(error: JournalError) -> Error {
    match error {
        JournalError::Full => Error::Overloaded,
        JournalError::Failed(error) => Error::Backend(error),
        error => Error::Backend(TierError::Refused(error.to_string())),
    }
}

/// Owns the journal, and has queued what was in it; if it does not yet. Of how many keys.
pub(super) async fn open<K, V, C>(shared: &Shared<K, V, C>) -> Result<usize, Error>
where
    K: Clone,
{
    let Some(book) = shared.book.as_ref().filter(|book| !book.is_open()) else { return Ok(0) };
    let Ok(_opening) = timeout(PATIENCE, book.opening.lock()).await else {
        return Err(Error::Overloaded);
    };
    if book.is_open() {
        return Ok(0);
    }
    read(shared, book).await.map_err(told)
}

/// As [`open`], and waits for as long as a predecessor that was killed is believed to be alive.
pub(super) async fn open_in_time<K, V, C>(shared: &Shared<K, V, C>) -> Result<usize, Error>
where
    K: Clone,
{
    let Some(book) = &shared.book else { return Ok(0) };
    let deadline = Instant::now() + book.journal.lease_for() + PATIENCE;
    loop {
        match open(shared).await {
            Err(Error::Backend(_)) if Instant::now() < deadline => sleep(AGAIN).await,
            opened => return opened,
        }
    }
}

async fn read<K, V, C>(
    shared: &Shared<K, V, C>,
    book: &Book<K, V, C>,
) -> Result<usize, JournalError>
where
    K: Clone,
{
    bounded(book.journal.open()).await?;
    let ((stack, codec), mut after) = (shared.cache.parts(), 0);
    // Queued only when all is there: a half that is read again would be taken for newer values.
    let (mut found, mut unreadable) = (Vec::new(), Vec::new());
    loop {
        let page = bounded(book.journal.read(after)).await?;
        let Some(last) = page.last() else { break };
        after = last.position;
        for Logged { position, record } in page {
            let schema = shared.options.schema;
            match (book.forms.read)(codec, &record, schema, stack.max_entry_bytes) {
                Some((id, value)) => found.push((id, Arc::new(value), position)),
                None => unreadable.push((record.key, position)),
            }
        }
    }
    let (mut keys, lost) = (HashSet::new(), unreadable.len());
    {
        let mut state = shared.state.lock();
        for (key, position) in unreadable {
            state.left.entry(key.to_vec()).or_default().push(position);
        }
    }
    for (id, value, position) in found {
        let key = (shared.key_of)(&id);
        keys.insert(key.clone());
        // Of one that has ended meanwhile it stays in the journal.
        let _ = shared.queue(key, id, value, Some(position));
    }
    book.is_open.store(true, Ordering::Release);
    shared.wake.notify_one();
    if lost > 0 {
        let reason = LossReason::Unreadable;
        tell(shared, Loss { entries: Vec::new(), count: lost, reason, in_journal: true });
    }
    Ok(keys.len())
}

/// Tells the journal what it need not keep, as far as it answers. One at a time, the oldest first.
pub(super) async fn acknowledge<K: Clone, V, C>(shared: &Shared<K, V, C>) {
    let Some(book) = &shared.book else { return };
    let _one_at_a_time = book.acknowledging.lock().await;
    loop {
        let done: Vec<u64> = shared.state.lock().done.iter().take(ACKS).copied().collect();
        if done.is_empty() {
            return;
        }
        match bounded(book.journal.acknowledge(&done)).await {
            Ok(()) => {
                let sent: HashSet<u64> = done.into_iter().collect();
                shared.state.lock().done.retain(|position| !sent.contains(position));
            }
            Err(JournalError::Taken) => return taken_over(shared),
            Err(_) => return,
        }
    }
}

/// Stays the owner, for as long as it is polled.
pub(super) async fn keep<K: Clone, V, C>(shared: &Shared<K, V, C>) {
    let Some(book) = &shared.book else { return std::future::pending().await };
    let every = book.journal.lease_for() / 3;
    let mut next = Instant::now() + every;
    loop {
        let is_time = timeout_at(next, shared.written.notified()).await.is_err();
        if is_time {
            next = Instant::now() + every;
            // A server that gives no answer takes nothing away: what is queued is written.
            if book.is_open() && bounded(book.journal.renew()).await == Err(JournalError::Taken) {
                taken_over(shared);
            }
        }
        acknowledge(shared).await;
    }
}

/// Another process owns the journal, and writes what is in it.
pub(super) fn taken_over<K: Clone, V, C>(shared: &Shared<K, V, C>) {
    let Some(book) = &shared.book else { return };
    book.close();
    {
        let mut state = shared.state.lock();
        (state.done, state.left) = Default::default();
    }
    clear(shared, LossReason::TakenOver);
}

/// Leaves the journal to whoever comes next.
pub(super) async fn leave<K: Clone, V, C>(shared: &Shared<K, V, C>, book: &Book<K, V, C>) {
    if book.is_open() {
        acknowledge(shared).await;
        book.close();
        // Without an answer the next one waits for as long as this one is believed to be alive.
        let _ = bounded(book.journal.close()).await;
    }
}
