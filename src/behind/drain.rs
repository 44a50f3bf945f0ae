//! The task that drains the queue: on the caller's runtime, from the first `set` to `shutdown`, or to the end of
//! the last handle.
//!
//! It dies with its runtime, and what it was writing waits again; the next call on another runtime starts it anew.

use std::{pin::pin, sync::Arc};

use futures_util::future::{Either, select};
use tiered_codecs::CodecFor;
use tokio::{
    runtime::Handle,
    time::{Instant, sleep_until, timeout_at},
};

use super::{
    batch::{self, report},
    book, landing,
    loss::LossReason,
    shared::{Rest, Shared, bump},
};

/// What is to be done next.
enum Step<K, V> {
    Write(Rest<K, V>),
    /// Nothing, until then or until it is woken.
    Wait(Option<Instant>),
    End,
}

/// Starts the task, if nobody has; says whether there is one, or nothing left for it.
pub(super) fn start<K, V, C>(shared: &Arc<Shared<K, V, C>>) -> bool
where
    K: Clone + Send + Sync + 'static,
    V: Send + Sync + 'static,
    C: CodecFor<V>,
{
    let Ok(runtime) = Handle::try_current() else { return false };
    {
        let mut state = shared.state.lock();
        if state.has_ended || state.is_running {
            return true;
        }
        state.is_running = true;
    }
    // Not under the lock: a runtime that is ending drops the task at once.
    let running = Running { shared: Arc::clone(shared) };
    runtime.spawn(run(running));
    true
}

/// The claim on the queue. Dropped with the task, whatever ends it.
struct Running<K: Clone, V, C> {
    shared: Arc<Shared<K, V, C>>,
}

impl<K: Clone, V, C> Drop for Running<K, V, C> {
    fn drop(&mut self) {
        let mut state = self.shared.state.lock();
        state.is_running = false;
        let abandoned = state.queue.abandon(Instant::now());
        let coalesced = abandoned.into_iter().map(|pushed| state.note(pushed)).sum();
        let is_orphaned = state.is_orphaned;
        drop(state);
        bump(&self.shared.counts.coalesced, coalesced);
        if is_orphaned {
            end(&self.shared);
        }
        self.shared.changed.notify_waiters();
    }
}

async fn run<K, V, C>(running: Running<K, V, C>)
where
    K: Clone + Send + Sync + 'static,
    V: Send + Sync + 'static,
    C: CodecFor<V>,
{
    let shared = &*running.shared;
    // The keeper has no end of its own.
    let _ = select(pin!(write_all(shared)), pin!(book::keep(shared))).await;
    match &shared.book {
        None => forget(shared).await,
        Some(book) => book::leave(shared, book).await,
    }
    end(shared);
}

/// Writes, until it is to end.
async fn write_all<K, V, C>(shared: &Shared<K, V, C>)
where
    K: Clone + Send + Sync + 'static,
    V: Send + Sync + 'static,
    C: CodecFor<V>,
{
    loop {
        match step(shared) {
            Step::Write(batch) => {
                let (writing, cut) = (pin!(batch::write(shared, batch)), pin!(deadline(shared)));
                if let Either::Right(_) = select(writing, cut).await {
                    return;
                }
                shared.changed.notify_waiters();
            }
            Step::Wait(until) => wait(shared, until).await,
            Step::End => return,
        }
    }
}

fn step<K: Clone, V, C>(shared: &Shared<K, V, C>) -> Step<K, V> {
    let (now, rules) = (Instant::now(), &shared.rules);
    let mut state = shared.state.lock();
    let closing = state.closing;
    if closing.is_some_and(|deadline| state.is_idle() || deadline <= now) {
        return Step::End;
    }
    let is_hurry = closing.is_some() || state.hurrying > 0;
    let at_most = |attempts| rules.at_most(attempts);
    let batch = state.queue.take(now, rules.batch, at_most, is_hurry);
    if !batch.is_empty() {
        return Step::Write(batch);
    }
    Step::Wait([state.queue.next_due(now, rules.batch), closing].into_iter().flatten().min())
}

async fn wait<K, V, C>(shared: &Shared<K, V, C>, until: Option<Instant>) {
    let woken = shared.wake.notified();
    match until {
        // Whichever comes first.
        Some(until) => drop(timeout_at(until, woken).await),
        None => woken.await,
    }
}

/// Waits for the end of the time that a shutdown leaves.
async fn deadline<K, V, C>(shared: &Shared<K, V, C>) {
    loop {
        let closing = shared.state.lock().closing;
        match closing {
            Some(deadline) => return sleep_until(deadline).await,
            None => shared.wake.notified().await,
        }
    }
}

/// The cache no longer shows what the database will never have.
async fn forget<K: Clone, V, C>(shared: &Shared<K, V, C>) {
    let keys = shared.state.lock().queue.keys();
    let (stack, _) = shared.cache.parts();
    if !keys.is_empty() {
        landing::drop_keys(stack, &keys).await;
    }
}

/// Ends it: what is left is reported.
pub(super) fn end<K: Clone, V, C>(shared: &Shared<K, V, C>) {
    shared.state.lock().has_ended = true;
    clear(shared, LossReason::Closed);
    shared.state.lock().is_over = true;
    shared.changed.notify_waiters();
}

/// Takes everything out, and reports it: without a pause, so that nothing is taken out and not reported.
pub(super) fn clear<K: Clone, V, C>(shared: &Shared<K, V, C>, reason: LossReason) {
    let (stack, _) = shared.cache.parts();
    let rest = shared.state.lock().queue.take_all();
    if !rest.is_empty() {
        let in_journal = shared.book.is_some();
        if !in_journal {
            rest.iter().for_each(|(key, _)| stack.drop_local(key));
        }
        let entries = rest.into_iter().map(|(_, item)| (item.id, item.value)).collect();
        report(shared, entries, reason, in_journal);
    }
    shared.changed.notify_waiters();
}
