//! Replaying pending invalidations as soon as the cache server answers again.
//!
//! A task that lives only while something is pending. It holds the cache weakly, so that it ends
//! with the last handle.

use std::{
    collections::BTreeMap,
    sync::{Arc, Weak},
    time::{Duration, Instant},
};

use tiered_tiers::TierError;

use crate::{
    Key,
    bus::Change,
    key::Prefix,
    l2::{Budget, L2},
    pending::{Task, Word},
    stack::Stack,
    tags::{self, Tag},
};

const SHORTEST_WAIT: Duration = Duration::from_millis(25);
const LONGEST_WAIT: Duration = Duration::from_millis(250);
const STEP: usize = 256;

/// Queues the invalidation of a key that the server has not confirmed.
pub(crate) fn queue(stack: &Arc<Stack>, key: &Key) {
    let overflowed = stack.pending.push(key.clone(), stack.clock.now());
    begin(stack, overflowed);
}

/// Queues the invalidation of a prefix that the server has not confirmed.
pub(crate) fn queue_prefix(stack: &Arc<Stack>, prefix: &Prefix) {
    let overflowed = stack.pending.push_prefix(prefix.clone(), stack.clock.now());
    begin(stack, overflowed);
}

/// Queues the invalidation of a tag that the server has not confirmed.
pub(crate) fn queue_tag(stack: &Arc<Stack>, tag: &Tag) {
    let overflowed = stack.pending.push_tag(tag.clone(), stack.clock.now());
    begin(stack, overflowed);
}

/// Queues the word to the others of what the server has just done, and of what was pending `before`.
pub(crate) fn queue_untold(stack: &Arc<Stack>, word: Word, before: Option<u64>) {
    stack.pending.untold_yet(word, before);
    start(stack);
}

fn begin(stack: &Arc<Stack>, overflowed: bool) {
    if overflowed {
        match &stack.l2 {
            Some(l2) if !l2.clears() => tracing::warn!(
                cache = &*stack.name,
                tier = l2.name(),
                for_at_least = ?l2.longest_life(),
                "too many invalidations are pending, and this tier cannot be cleared: L2 is not used until what is \
                 stored there has expired"
            ),
            _ => tracing::warn!(
                cache = &*stack.name,
                "too many invalidations are pending: L2 is not used until its namespace is cleared"
            ),
        }
    }
    start(stack);
}

/// Starts the task, if there is something to do and nobody does it.
pub(crate) fn start(stack: &Arc<Stack>) {
    if !stack.pending.is_empty() && stack.pending.claim_replay() {
        let running = Running { stack: Arc::downgrade(stack), claimed: true };
        // Outside a runtime the claim falls with the task: the next use of L2 on one starts it.
        let _ = stack.spawn(run(running));
    }
}

/// The claim on the replay: given back if the task is dropped before its work is done.
struct Running {
    stack: Weak<Stack>,
    claimed: bool,
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.claimed
            && let Some(stack) = self.stack.upgrade()
        {
            stack.pending.abandon_replay();
        }
    }
}

async fn run(mut running: Running) {
    let mut wait = SHORTEST_WAIT;
    loop {
        let Some(stack) = running.stack.upgrade() else { return };
        let answered = step(&stack).await;
        if stack.pending.finish_replay() {
            // Given back in one step with finding nothing to do: doing it again could take it from
            // a task that was started since.
            running.claimed = false;
            return;
        }
        drop(stack);
        if answered {
            wait = SHORTEST_WAIT;
        } else {
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(LONGEST_WAIT);
        }
    }
}

/// Replays some; says whether all of it was answered. What fails holds up nothing else: it may be one of several servers
/// that is away. A server that cannot drop by prefix is waited for until all that may be stale there has expired.
async fn step(stack: &Stack) -> bool {
    let mut all_answered = true;
    for task in stack.pending.next(STEP) {
        all_answered &= match task {
            Task::Delete(keys) => drop_keys(stack, keys).await,
            Task::ChangeTag(tag, count) => {
                let changed = tags::change_generation(stack, &tag, &mut stack.budget()).await;
                done_if(changed.is_ok(), stack, Word::Tag(tag), count)
            }
            Task::DeletePrefix(prefix, count, since) => {
                let is_gone = clear(stack, &prefix.wire(&stack.namespace), since).await;
                done_if(is_gone, stack, Word::Prefix(prefix), count)
            }
            Task::Clear(count, since) => {
                let wire = format!("{}:", stack.namespace);
                let is_gone = clear(stack, wire.as_bytes(), since).await;
                done_if(is_gone, stack, Word::All, count)
            }
        };
    }
    // What the server has done just now is among it.
    all_answered & tell(stack).await
}

/// Takes note of what the server has done.
fn done(stack: &Stack, word: Word, count: u64) {
    match stack.bus {
        Some(_) => stack.pending.dropped(word, count),
        None => {
            stack.pending.dropped(word.clone(), count);
            stack.pending.told(&[(word, count)]);
        }
    }
}

fn done_if(is_done: bool, stack: &Stack, word: Word, count: u64) -> bool {
    if is_done {
        done(stack, word, count);
    }
    is_done
}

/// Drops pending keys from L2, in one operation.
async fn drop_keys(stack: &Stack, keys: Vec<(Key, u64)>) -> bool {
    let dropped = match &stack.l2 {
        Some(l2) => {
            let wires: Vec<_> = keys.iter().map(|(key, _)| key.wire(&stack.namespace)).collect();
            l2.delete_many(&wires, &mut stack.budget()).await
        }
        None => keys.iter().map(|_| Ok(())).collect(),
    };
    let mut all_dropped = true;
    for ((key, count), dropped) in keys.into_iter().zip(dropped) {
        all_dropped &= done_if(dropped.is_ok(), stack, Word::Key(key), count);
    }
    all_dropped
}

/// Tells the other processes of what the server has done: each log of the bus by itself.
async fn tell(stack: &Stack) -> bool {
    let mut logs: BTreeMap<usize, Vec<(Word, u64)>> = BTreeMap::new();
    for (word, count) in stack.pending.untold(STEP) {
        let log = stack.bus.as_ref().map_or(0, |bus| bus.log_of(&change(&word)));
        logs.entry(log).or_default().push((word, count));
    }
    let mut all_told = true;
    for words in logs.into_values() {
        let changes: Vec<_> = words.iter().map(|(word, _)| change(word)).collect();
        match stack.announce(&changes, &mut stack.budget()).await {
            Ok(()) => stack.pending.told(&words),
            Err(_) => all_told = false,
        }
    }
    all_told
}

fn change(word: &Word) -> Change<'_> {
    match word {
        Word::Key(key) => Change::Key(key),
        Word::Prefix(prefix) => Change::Prefix(prefix),
        Word::Tag(tag) => Change::Tag(tag),
        Word::All => Change::All,
    }
}

/// Drops a pending key from L2, once: from then on L2 is used for it again, though the other processes may have yet to be
/// told.
pub(crate) async fn drop_pending(
    stack: &Stack,
    key: &Key,
    count: u64,
    budget: &mut Budget,
) -> Result<(), TierError> {
    if let Some(l2) = &stack.l2 {
        l2.delete(&key.wire(&stack.namespace), budget).await?;
    }
    done(stack, Word::Key(key.clone()), count);
    Ok(())
}

/// Drops what begins with `prefix` from L2, or waits until it has expired there. Says whether that is done.
async fn clear(stack: &Stack, prefix: &[u8], since: Instant) -> bool {
    match &stack.l2 {
        Some(l2) => drop_prefix(l2, prefix).await.unwrap_or_else(|| {
            stack.clock.now().saturating_duration_since(since) >= l2.longest_life()
        }),
        None => true,
    }
}

/// Whether all of it is gone; `None` from a tier that cannot do that.
async fn drop_prefix(l2: &L2, prefix: &[u8]) -> Option<bool> {
    if !l2.clears() {
        return None;
    }
    match l2.clear(prefix, &|_| {}).await {
        Err(TierError::Unsupported(_)) => None,
        cleared => Some(cleared.is_ok()),
    }
}
