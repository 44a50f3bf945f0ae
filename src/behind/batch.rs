//! One batch: written, and what came of each value.

use std::{future::Future, panic::AssertUnwindSafe, sync::Arc};

use futures_util::{FutureExt, StreamExt, stream};
use tiered_codecs::CodecFor;
use tokio::time::{Instant, timeout};

use super::{
    landing::{self, Landing},
    loss::{self, Loss, LossReason},
    queue::Item,
    shared::{Rest, Shared, bump},
    sink::Failed,
};
use crate::{Key, error::LoaderPanicked};

/// How many keys of a batch the cache is asked about at once.
const AT_ONCE: usize = 64;

type Entries<K, V> = Vec<(K, Arc<V>)>;

/// What the sink said.
enum Verdict {
    Written,
    Failed(Failed),
    TimedOut,
    Panicked(String),
}

/// Writes a batch, and deals with each of its values.
pub(super) async fn write<K, V, C>(shared: &Shared<K, V, C>, batch: Rest<K, V>)
where
    K: Clone + Send + Sync + 'static,
    V: Send + Sync + 'static,
    C: CodecFor<V>,
{
    let begun = batch.iter().map(|(key, _)| Landing::begin(shared, key)).collect();
    let landings = in_order(begun).await;
    let verdict = ask(shared, &batch).await;
    let (mut written, mut lost, mut again) = (Vec::new(), Vec::new(), None);
    for (place, ((key, item), landing)) in batch.into_iter().zip(landings).enumerate() {
        match verdict.at(place, shared) {
            None => written.push((key, item, landing)),
            Some((reason, is_final)) if is_final || item.attempts >= shared.rules.retries => {
                lost.push((key, item, reason));
            }
            Some(_) => {
                // All of a batch have failed equally often. They wait equally long too, to be written together again.
                let at =
                    *again.get_or_insert_with(|| Instant::now() + shared.rules.wait(item.attempts));
                retry(shared, &key, at);
            }
        }
    }
    let ended = written.iter_mut().map(|(key, item, landing)| async {
        Landing::end(landing.take(), shared, key, item).await;
        bump(&shared.counts.written, 1);
    });
    in_order(ended.collect()).await;
    give_up(shared, lost).await;
    shared.written.notify_one();
}

/// Asks the sink: its panic is caught, and its time is bounded.
async fn ask<K, V, C>(shared: &Shared<K, V, C>, batch: &[(Key, Item<K, V>)]) -> Verdict
where
    K: Clone + Send + Sync + 'static,
    V: Send + Sync + 'static,
{
    // The sink is called inside the future, so a panic on the way to its future is caught too.
    let asking = async {
        let entry = |(_, item): &(Key, Item<K, V>)| (item.id.clone(), Arc::clone(&item.value));
        shared.sink.write_boxed(batch.iter().map(entry).collect()).await
    };
    let asking = AssertUnwindSafe(asking).catch_unwind();
    match timeout(shared.rules.write_timeout, asking).await {
        Ok(Ok(Ok(()))) => Verdict::Written,
        Ok(Ok(Err(failed))) => Verdict::Failed(failed),
        Ok(Err(panic)) => Verdict::Panicked(LoaderPanicked::from_payload(&*panic).message),
        Err(_) => Verdict::TimedOut,
    }
}

impl Verdict {
    /// Why the entry at a place was not written, and whether that is final.
    fn at<K, V, C>(&self, place: usize, shared: &Shared<K, V, C>) -> Option<(LossReason, bool)> {
        match self {
            Self::Written => None,
            Self::TimedOut => Some((LossReason::TimedOut(shared.rules.write_timeout), false)),
            Self::Panicked(message) => Some((LossReason::Panicked(message.clone()), false)),
            Self::Failed(failed) => failed.cause(place).map(|cause| {
                let error = cause.error.clone();
                let is_final = cause.is_final;
                let reason = if is_final { LossReason::Refused } else { LossReason::Failed };
                (reason(error), is_final)
            }),
        }
    }
}

fn retry<K: Clone, V, C>(shared: &Shared<K, V, C>, key: &Key, at: Instant) {
    let mut state = shared.state.lock();
    let pushed = state.queue.retry(key, at);
    let coalesced = state.note(pushed);
    drop(state);
    bump(&shared.counts.retried, 1);
    bump(&shared.counts.coalesced, coalesced);
}

/// Reports what is lost; the cache shows it no longer.
async fn give_up<K, V, C>(shared: &Shared<K, V, C>, lost: Vec<(Key, Item<K, V>, LossReason)>)
where
    K: Clone,
{
    let (stack, _) = shared.cache.parts();
    let dropped = lost.iter().map(|(key, ..)| async {
        let _turn = shared.turn(key).await;
        if !shared.is_outdated(key) {
            landing::drop_key(stack, key).await;
        }
    });
    in_order(dropped.collect()).await;
    // From here on without a pause: what has left the queue is reported.
    let mut groups: Vec<(LossReason, Entries<K, V>)> = Vec::new();
    for (key, item, reason) in lost {
        let mut state = shared.state.lock();
        let is_outdated = state.queue.is_outdated(&key);
        if !state.queue.end(&key) {
            // Reported already, by whoever took it out.
            continue;
        }
        match item.position {
            // Nothing that comes later makes it welcome.
            Some(position) if is_outdated || reason.is_final() => state.done.push(position),
            Some(position) => {
                let wire = key.wire(&stack.namespace);
                state.left.entry(wire).or_default().push(position);
            }
            None => {}
        }
        drop(state);
        if is_outdated {
            bump(&shared.counts.coalesced, 1);
            continue;
        }
        let entry = (item.id, item.value);
        match groups.iter_mut().find(|(known, _)| known.is_same(&reason)) {
            Some((_, entries)) => entries.push(entry),
            None => groups.push((reason, vec![entry])),
        }
    }
    for (reason, entries) in groups {
        let in_journal = shared.book.is_some() && !reason.is_final();
        report(shared, entries, reason, in_journal);
    }
}

/// Reports values that are lost, or that only the journal has.
pub(super) fn report<K, V, C>(
    shared: &Shared<K, V, C>,
    entries: Entries<K, V>,
    reason: LossReason,
    in_journal: bool,
) {
    let count = entries.len();
    tell(shared, Loss { entries, count, reason, in_journal });
}

/// Counts a loss, logs it, at most once a second, and tells whoever listens.
pub(super) fn tell<K, V, C>(shared: &Shared<K, V, C>, loss: Loss<K, V>) {
    let (stack, _) = shared.cache.parts();
    bump(&shared.counts.lost, loss.count);
    if let Some(unlogged) = shared.log.turn(stack.clock.now()) {
        tracing::error!(
            cache = &*stack.name,
            count = loss.count,
            reason = loss.reason.as_str(),
            in_journal = loss.in_journal,
            unlogged,
            "values were not written to the database"
        );
    }
    loss::tell(shared.on_loss.as_ref(), loss);
}

/// Runs some at once; the results come in their order.
async fn in_order<F: Future>(futures: Vec<F>) -> Vec<F::Output> {
    stream::iter(futures).buffered(AT_ONCE).collect().await
}
