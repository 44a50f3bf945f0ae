//! Storing values in all tiers.
//!
//! What is stored is stamped with a run of the server that is asked for before it; see `restarts`. It is asked after
//! the first local drop, unless the tier knows without asking anybody.

use std::{pin::pin, sync::Arc};

use futures_util::FutureExt;
use tiered_codecs::CodecFor;
use tiered_tiers::{Fill, TierError};

use super::{Draft, Overwrite, announce, invalidate, invalidate_many};
use crate::{
    Ack, Error, Key, bus::Change, l2::Budget, request::Options, restarts::stamp, stack::Stack,
    tags::Stamps, versions::Slot, writers::versioned,
};

/// What entries are stamped with, before they are written. One for which the run of the server cannot be had is
/// stamped with none: it will be a miss, where it is stored at all.
pub(crate) async fn stamps(
    stack: &Arc<Stack>,
    options: &Options,
    keys: &[&Key],
    mut budget: Budget,
) -> Result<Vec<Stamps>, TierError> {
    let budget = &mut budget;
    let Some(l2) = stack.l2.as_ref().filter(|_| !options.skip_l2) else {
        return Ok(vec![Stamps::default(); keys.len()]);
    };
    if tokio::runtime::Handle::try_current().is_err() {
        return Err(TierError::NoRuntime);
    }
    let stamps = stack.stamps(&stack.with_namespace(&options.tags), budget).await?;
    let home =
        |key: &&Key| Slot::home(options.schema).key(&key.wire(&stack.namespace)).into_owned();
    let homes: Vec<Vec<u8>> = keys.iter().map(home).collect();
    let homes: Vec<&[u8]> = homes.iter().map(Vec::as_slice).collect();
    let runs = l2.incarnations(&homes, budget).await;
    let stamped = |run| stamps.clone().in_run(stamp(run));
    Ok(runs.into_iter().map(stamped).collect())
}

/// Stores a value in all tiers.
pub(crate) async fn set<T, C>(
    stack: &Arc<Stack>,
    codec: &C,
    key: &Key,
    options: &Options,
    value: Arc<T>,
) -> Result<Ack, Error>
where
    T: Send + Sync + 'static,
    C: CodecFor<T>,
{
    if !stack.is_enabled() {
        // What is cached is old now; it must not be there when the cache is switched on again.
        return invalidate(stack, key).await;
    }
    options.check()?;
    let marks = stack.tags.marks(&options.tags);
    let draft =
        |value, stamps| Draft::new(stack, codec, options, key, value, marks.clone(), stamps);
    let keys = [key];
    let mut asked = pin!(stamps(stack, options, &keys, stack.budget()));
    if let Some(stamps) = asked.as_mut().now_or_never() {
        return store(draft(value, stamps.map(first))?, None).await;
    }
    // Before there is an answer: this process forgets at once, and a call that is dropped has invalidated the key. But a
    // value that cannot be stored changes nothing.
    drop(draft(Arc::clone(&value), Ok(Stamps::default()))?);
    let overwrite = (options.source_version == 0).then(|| Overwrite::begin(stack, key));
    let stamps = asked.await;
    store(draft(value, stamps.map(first))?, overwrite).await
}

/// A value about to be stored, stamped as of now.
pub(crate) async fn prepare<'a, T, C>(
    stack: &'a Arc<Stack>,
    codec: &C,
    options: &'a Options,
    key: &'a Key,
    value: Arc<T>,
) -> Result<Draft<'a, T>, Error>
where
    T: Send + Sync + 'static,
    C: CodecFor<T>,
{
    options.check()?;
    let marks = stack.tags.marks(&options.tags);
    let stamps = stamps(stack, options, &[key], stack.budget()).await;
    Draft::new(stack, codec, options, key, value, marks, stamps.map(first))
}

/// The stamps of the only key.
fn first(stamps: Vec<Stamps>) -> Stamps {
    stamps.into_iter().next().unwrap_or_default()
}

/// Stores a draft in all tiers. Its overwriting may have begun.
pub(crate) async fn store<'a, T: Send + Sync + 'static>(
    draft: Draft<'a, T>,
    begun: Option<Overwrite<'a>>,
) -> Result<Ack, Error> {
    let Draft { stack, key, options, .. } = draft;
    if !stack.is_enabled() {
        return invalidate(stack, key).await;
    }
    if options.source_version != 0 {
        return versioned::set(draft, stack.budget()).await;
    }
    if stack.is_alone() {
        return Ok(draft.keep_here());
    }
    let overwrite = begun.unwrap_or_else(|| Overwrite::begin(stack, key));
    let mut budget = stack.budget();
    let stored = match (&stack.l2, &draft.packed, &draft.refused) {
        (_, _, Some(error)) => Err(error.clone()),
        (Some(l2), Some(bytes), None) if !options.skip_l2 => {
            let (slot, life) = (Slot::home(options.schema), draft.entry.life());
            l2.set(&draft.wire, slot, bytes.clone(), life, &mut budget).await
        }
        (Some(l2), ..) => l2.delete(&draft.wire, &mut budget).await.map(|()| Fill::Skipped),
        (None, ..) => Ok(Fill::Skipped),
    };
    let filled = stored.as_ref().ok().copied();
    let stored = match stored {
        Ok(fill) => stack.announce(&[Change::Key(key)], &mut budget).await.map(|()| fill),
        failed => failed,
    };
    match draft.end(overwrite, filled, stored) {
        Some(ack) => Ok(ack),
        None => invalidate(stack, key).await,
    }
}

/// Stores values under distinct keys in all tiers, in one operation on L2. One answer for each.
pub(crate) async fn set_many<T, C>(
    stack: &Arc<Stack>,
    codec: &C,
    options: &Options,
    entries: Vec<(&Key, Arc<T>)>,
) -> Vec<Result<Ack, Error>>
where
    T: Send + Sync + 'static,
    C: CodecFor<T>,
{
    if !stack.is_enabled() {
        let keys: Vec<Key> = entries.into_iter().map(|(key, _)| key.clone()).collect();
        return invalidate_many(stack, &keys).await;
    }
    let mut budget = stack.budget();
    let keys: Vec<&Key> = entries.iter().map(|(key, _)| *key).collect();
    let marks = stack.tags.marks(&options.tags);
    let mut asked = pin!(stamps(stack, options, &keys, stack.budget()));
    let (stamped, mut begun) = match asked.as_mut().now_or_never() {
        Some(stamped) => (stamped, Vec::new()),
        None => {
            // As in `set`: before there is an answer.
            let mut begun = Vec::with_capacity(keys.len());
            for (key, value) in &entries {
                let (key, stamps) = (*key, Ok(Stamps::default()));
                let draft = Draft::new(stack, codec, options, key, Arc::clone(value), None, stamps);
                let is_sound = draft.is_ok() && options.source_version == 0;
                begun.push(is_sound.then(|| Overwrite::begin(stack, key)));
            }
            (asked.await, begun)
        }
    };
    begun.resize_with(keys.len(), || None);
    let (stamps, refused) = match stamped {
        Ok(stamps) => (stamps, None),
        Err(error) => (vec![Stamps::default(); keys.len()], Some(error)),
    };
    let mut drafts = Vec::with_capacity(entries.len());
    for ((key, value), stamps) in entries.into_iter().zip(stamps) {
        drafts.push(Draft::new(stack, codec, options, key, value, marks.clone(), Ok(stamps)));
    }
    if options.source_version != 0 {
        return versioned::set_many(stack, drafts).await;
    }
    if stack.is_alone() {
        return drafts.into_iter().map(|draft| Ok(draft?.keep_here())).collect();
    }
    let sound: Vec<&Draft<'_, T>> = drafts.iter().flatten().collect();
    let begun = begun.into_iter().zip(&drafts).filter(|(_, draft)| draft.is_ok());
    let overwrites: Vec<_> = begun
        .zip(&sound)
        .map(|((begun, _), draft)| begun.unwrap_or_else(|| Overwrite::begin(stack, draft.key)))
        .collect();
    let mut stored: Vec<Result<Fill, TierError>> = match (&refused, &stack.l2) {
        (Some(error), _) => sound.iter().map(|_| Err(error.clone())).collect(),
        (None, None) => sound.iter().map(|_| Ok(Fill::Skipped)).collect(),
        (None, Some(l2)) if options.skip_l2 => {
            let wires: Vec<_> = sound.iter().map(|draft| draft.wire.clone()).collect();
            let dropped = l2.delete_many(&wires, &mut budget).await;
            dropped.into_iter().map(|dropped| dropped.map(|()| Fill::Skipped)).collect()
        }
        (None, Some(l2)) => {
            let mut stores = Vec::with_capacity(sound.len());
            for Draft { wire, packed, entry, .. } in &sound {
                let bytes = packed.clone().unwrap_or_default();
                stores.push((wire.as_slice(), bytes, entry.life()));
            }
            l2.set_many(&stores, Slot::home(options.schema), &mut budget).await
        }
    };
    let keys: Vec<&Key> = sound.iter().map(|draft| draft.key).collect();
    let filled: Vec<Option<Fill>> = stored.iter().map(|fill| fill.as_ref().ok().copied()).collect();
    announce(stack, &keys, &mut stored, &mut budget).await;
    let (mut ended, mut overlapped) = (Vec::with_capacity(sound.len()), Vec::new());
    let answers = filled.into_iter().zip(stored);
    for ((draft, overwrite), (filled, stored)) in sound.into_iter().zip(overwrites).zip(answers) {
        let ack = draft.end(overwrite, filled, stored);
        if ack.is_none() {
            overlapped.push(draft.key.clone());
        }
        ended.push(ack);
    }
    let mut overlapped = invalidate_many(stack, &overlapped).await.into_iter();
    let mut ended = ended
        .into_iter()
        .map(|ack| ack.map(Ok).or_else(|| overlapped.next()).unwrap_or(Ok(Ack::Pending)));
    let answer =
        |draft: Result<_, Error>| draft.and_then(|_| ended.next().unwrap_or(Ok(Ack::Pending)));
    drafts.into_iter().map(answer).collect()
}
