//! Replaying pending invalidations as soon as the cache server answers again.
//!
//! A task that lives only while something is pending. It holds the cache weakly, so that it ends
//! with the last handle.

use std::{
    sync::{Arc, Weak},
    time::{Duration, Instant},
};

use tiered_tiers::TierError;

use crate::{
    Key,
    bus::Change,
    key::Prefix,
    l2::{Budget, L2},
    pending::Task,
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

/// Replays some; says whether the server answered. A server that cannot drop by prefix is waited for until
/// all that may be stale there has expired.
async fn step(stack: &Stack) -> bool {
    let mut all_answered = true;
    for task in stack.pending.next(STEP) {
        match task {
            Task::Delete(key, count) => {
                if drop_pending(stack, &key, count, &mut stack.budget()).await.is_err() {
                    return false;
                }
                if stack.announce(&[Change::Key(&key)], &mut stack.budget()).await.is_err() {
                    all_answered = false;
                    continue;
                }
                stack.pending.confirm(&key, count);
            }
            Task::Tell(key, count) => {
                if stack.announce(&[Change::Key(&key)], &mut stack.budget()).await.is_err() {
                    return false;
                }
                stack.pending.confirm(&key, count);
            }
            Task::TellAll(count) => {
                if stack.announce(&[Change::All], &mut stack.budget()).await.is_err() {
                    return false;
                }
                stack.pending.confirm_all_told(count);
            }
            Task::ChangeTag(tag, count) => {
                if tags::change(stack, &tag, &mut stack.budget()).await.is_err() {
                    return false;
                }
                // Once: changed again and again until they are told, it would drop everybody's entries each time.
                stack.pending.changed(&tag, count);
                if stack.announce(&[Change::Tag(&tag)], &mut stack.budget()).await.is_err() {
                    all_answered = false;
                    continue;
                }
                stack.pending.confirm_tag(&tag, count);
            }
            Task::TellTag(tag, count) => {
                if stack.announce(&[Change::Tag(&tag)], &mut stack.budget()).await.is_err() {
                    return false;
                }
                stack.pending.confirm_tag(&tag, count);
            }
            Task::DeletePrefix(prefix, count, since) => {
                let wire = prefix.wire(&stack.namespace);
                let is_gone = clear(stack, &wire, Change::Prefix(&prefix), since).await;
                if is_gone {
                    stack.pending.confirm_prefix(&prefix, count);
                }
                all_answered &= is_gone;
            }
            Task::Clear(count, since) => {
                let wire = format!("{}:", stack.namespace);
                let is_gone = clear(stack, wire.as_bytes(), Change::All, since).await;
                if is_gone {
                    stack.pending.confirm_clear(count);
                }
                all_answered &= is_gone;
            }
        }
    }
    all_answered
}

/// Drops a pending key from L2, once. From then on L2 is used for it again; the other processes may have yet to be told:
/// were it dropped again until they are, nobody could store it while the bus is away.
pub(crate) async fn drop_pending(
    stack: &Stack,
    key: &Key,
    count: u64,
    budget: &mut Budget,
) -> Result<(), TierError> {
    if let Some(l2) = &stack.l2 {
        l2.delete(&key.wire(&stack.namespace), budget).await?;
    }
    match stack.bus {
        Some(_) => stack.pending.dropped(key, count),
        None => stack.pending.confirm(key, count),
    }
    Ok(())
}

/// Drops what begins with `prefix` from L2, or waits until it has expired there, and then tells the other
/// processes. Says whether that is done.
async fn clear(stack: &Stack, prefix: &[u8], change: Change<'_>, since: Instant) -> bool {
    let is_gone = match &stack.l2 {
        Some(l2) => drop_prefix(l2, prefix).await.unwrap_or_else(|| {
            stack.clock.now().saturating_duration_since(since) >= l2.longest_life()
        }),
        None => true,
    };
    is_gone && stack.announce(&[change], &mut stack.budget()).await.is_ok()
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
