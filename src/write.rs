//! Writing: `set` and `invalidate`, which win over everything that began before them.
//!
//! What is stored is stamped with a run of the server that is asked for before it; see `restarts`. It is asked after
//! the first local drop, unless the tier knows without asking anybody.
//!
//! The local drop happens twice. The first makes this process forget at once, even if the server
//! hangs. The second, after the server has answered, overtakes reads that began in between: they
//! may have seen the server's old value.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use futures_util::FutureExt;
use tiered_codecs::CodecFor;
use tiered_tiers::{Fill, TierError};

use crate::{
    Ack, Error, Key,
    bus::{Bus, Change},
    entry::Entry,
    fence::Ticket,
    l2::{Budget, PIECE},
    pending::Standing,
    replay,
    request::{Options, Told},
    restarts::stamp,
    stack::Stack,
    tags::{Marks, Stamps},
    versions::Slot,
    writers::versioned,
};

/// Drops a key from all tiers.
pub(crate) async fn invalidate(stack: &Arc<Stack>, key: &Key) -> Result<Ack, Error> {
    key.check()?;
    if stack.is_alone() {
        stack.drop_local(key);
        return Ok(Ack::Done);
    }
    require(stack)?;
    let overwrite = Overwrite::begin(stack, key);
    let dropped = stack.drop_shared(key, &mut stack.budget()).await;
    Ok(match dropped {
        Ok(()) => {
            overwrite.done(|_| stack.remove_local(key));
            Ack::Done
        }
        Err(_) => overwrite.pending(|_| stack.remove_local(key)),
    })
}

/// Drops distinct keys from all tiers, in one operation on L2. One answer for each.
pub(crate) async fn invalidate_many(stack: &Arc<Stack>, keys: &[Key]) -> Vec<Result<Ack, Error>> {
    let checked: Vec<_> =
        keys.iter().map(|key| key.check().and_then(|()| require(stack))).collect();
    let sound = || keys.iter().zip(&checked).filter(|(_, checked)| checked.is_ok());
    if stack.is_alone() {
        sound().for_each(|(key, _)| stack.drop_local(key));
        return checked.into_iter().map(|checked| checked.map(|()| Ack::Done)).collect();
    }
    let overwrites: Vec<_> = sound().map(|(key, _)| Overwrite::begin(stack, key)).collect();
    let mut budget = stack.budget();
    let mut deleted = match &stack.l2 {
        Some(l2) => {
            let wires: Vec<_> = sound().map(|(key, _)| key.wire(&stack.namespace)).collect();
            l2.delete_many(&wires, &mut budget).await
        }
        None => overwrites.iter().map(|_| Ok(())).collect(),
    };
    let keys: Vec<&Key> = overwrites.iter().map(|overwrite| overwrite.key).collect();
    announce(stack, &keys, &mut deleted, &mut budget).await;
    let ended = overwrites.into_iter().zip(deleted).map(|(overwrite, deleted)| {
        let key = overwrite.key;
        match deleted {
            Ok(()) => {
                overwrite.done(|_| stack.remove_local(key));
                Ack::Done
            }
            Err(_) => overwrite.pending(|_| stack.remove_local(key)),
        }
    });
    spread(checked, ended)
}

/// The answers of those that were sound, among the errors of the others.
fn spread<S>(
    checked: Vec<Result<S, Error>>,
    mut ended: impl Iterator<Item = Ack>,
) -> Vec<Result<Ack, Error>> {
    let mut answer = |_| ended.next().unwrap_or(Ack::Pending);
    checked.into_iter().map(|checked| checked.map(&mut answer)).collect()
}

pub(crate) fn require(stack: &Arc<Stack>) -> Result<(), Error> {
    if stack.is_alone() {
        return Ok(());
    }
    stack.require_runtime()?;
    Bus::listen(stack);
    Ok(())
}

/// Tells the other processes of those keys that the server has changed. What they were not told of has failed.
pub(crate) async fn announce<R>(
    stack: &Stack,
    keys: &[&Key],
    changed: &mut [Result<R, TierError>],
    budget: &mut Budget,
) {
    if stack.bus.is_none() {
        return;
    }
    let mut done: Vec<_> =
        keys.iter().zip(changed).filter(|(_, changed)| changed.is_ok()).collect();
    let mut told = Ok(());
    for (count, piece) in done.chunks_mut(PIECE).enumerate() {
        // As on L2, each piece has a budget of its own, and one that fails is the last.
        if count > 0 || budget.is_spent() {
            *budget = stack.budget();
        }
        if told.is_ok() {
            let changes: Vec<_> = piece.iter().map(|(key, _)| Change::Key(key)).collect();
            told = stack.announce(&changes, budget).await;
        }
        if let Err(error) = &told {
            piece.iter_mut().for_each(|(_, changed)| **changed = Err(error.clone()));
        }
    }
}

/// A value about to be stored.
pub(crate) struct Draft<'a, T> {
    pub(crate) stack: &'a Arc<Stack>,
    pub(crate) key: &'a Key,
    pub(crate) options: &'a Options,
    pub(crate) entry: Entry<T>,
    pub(crate) wire: Vec<u8>,
    pub(crate) packed: Option<Bytes>,
    /// When it began, and the generation of the bus' view then.
    begun: (Instant, u64),
    stamps: Stamps,
    marks: Option<Marks>,
    /// Why what it is to be stamped with cannot be had: then L2 cannot store it.
    pub(crate) refused: Option<TierError>,
}

impl<'a, T: Send + Sync + 'static> Draft<'a, T> {
    /// Before anything is changed: a value that cannot be stored loses nothing. The marks are from before the stamps.
    pub(crate) fn new<C: CodecFor<T>>(
        stack: &'a Arc<Stack>,
        codec: &C,
        options: &'a Options,
        key: &'a Key,
        value: Arc<T>,
        marks: Option<Marks>,
        stamps: Result<Stamps, TierError>,
    ) -> Result<Self, Error> {
        key.check()?;
        options.check()?;
        require(stack)?;
        let begun = (stack.clock.now(), stack.generation());
        let (stamps, refused) = match stamps {
            Ok(stamps) => (stamps, None),
            Err(error) => (Stamps::default(), Some(error)),
        };
        let entry = Entry::new(stack, options, Told::default(), Some(value));
        let wire = key.wire(&stack.namespace);
        let packed = match &stack.l2 {
            Some(_) if !options.skip_l2 => Some(
                entry.pack(stack, codec, options, &stamps, &wire).map_err(Error::Serialization)?,
            ),
            // For its weight.
            Some(_) if stack.is_l1_weighted() && entry.needs_weighing() => {
                entry.pack(stack, codec, options, &stamps, &wire).ok()
            }
            _ => None,
        };
        Ok(Self { stack, key, options, entry, wire, packed, begun, stamps, marks, refused })
    }

    /// Lets it begin now.
    pub(crate) fn restart(&mut self) {
        self.begun = (self.stack.clock.now(), self.stack.generation());
        self.entry.restart(self.begun.0);
    }

    /// Puts it into L1, if it may and `holds`; else L1 has nothing. What the server has not confirmed has no proof but
    /// its own.
    pub(crate) fn keep(&self, holds: bool, is_confirmed: bool) {
        let Self { stack, key, options, begun: (begun, generation), .. } = self;
        if holds && self.is_superseded_here() {
            // A read has found it on the server since.
        } else if holds && !options.skip_l1 {
            let begun = (*begun, if is_confirmed { *generation } else { 0 });
            let marks = self.marks.clone();
            let keep = self.entry.local(stack, options, begun, marks, self.packed.as_ref());
            stack.insert_local(key, keep);
        } else {
            stack.remove_local(key);
        }
    }

    /// Its bytes for L2, if there is one.
    pub(crate) fn packed(&self) -> Option<Bytes> {
        self.packed.clone()
    }

    /// Its bytes, whether there is an L2 or not.
    pub(crate) fn pack<C: CodecFor<T>>(&self, codec: &C) -> Result<Bytes, Error> {
        let Self { stack, options, entry, stamps, wire, packed, .. } = self;
        match packed {
            Some(bytes) => Ok(bytes.clone()),
            None => entry.pack(stack, codec, options, stamps, wire).map_err(Error::Serialization),
        }
    }

    /// Its key on a server.
    pub(crate) fn wire(&self) -> &[u8] {
        &self.wire
    }

    /// How long L2 is to keep it.
    pub(crate) fn life(&self) -> Duration {
        self.entry.life()
    }

    /// Stores it where there are no others.
    pub(crate) fn keep_here(&self) -> Ack {
        let mut is_newest = true;
        self.stack.fence.advance(self.key.fingerprint(), || {
            is_newest = !self.is_superseded_here();
            self.keep(true, true);
        });
        self.stack.flights.detach(self.key);
        if is_newest { Ack::Done } else { Ack::Superseded }
    }

    /// Whether L1 has a newer version.
    pub(crate) fn is_superseded_here(&self) -> bool {
        let version = self.options.source_version;
        version != 0 && self.stack.local_version(self.key) > version
    }

    /// Ends the write as L2 has answered. `None` if another write of this key was under way in this
    /// process: nobody knows which of the two the server executed last. Both see this, and both must
    /// invalidate the key, which then has neither's value.
    fn end(&self, overwrite: Overwrite<'_>, stored: Result<Fill, TierError>) -> Option<Ack> {
        match stored {
            Err(_) => Some(overwrite.pending(|holds| self.keep(holds, false))),
            // Another process' write came after it, or another's write of the source is under way. Or it was one of this
            // process, which may have ended as the last: its own beginning was before this one's end.
            Ok(Fill::Refused) => {
                let is_alone = overwrite.done(|_| self.stack.remove_local(self.key));
                is_alone.then_some(Ack::Done)
            }
            Ok(Fill::Stored | Fill::Skipped) => {
                overwrite.done(|holds| self.keep(holds, true)).then_some(Ack::Done)
            }
        }
    }
}

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
    let asked = || stamps(stack, options, &keys, stack.budget());
    if let Some(stamps) = asked().now_or_never() {
        return store(draft(value, stamps.map(first))?, None).await;
    }
    // Before anybody is asked: this process forgets at once, and a call that is dropped has invalidated the key. But a
    // value that cannot be stored changes nothing.
    drop(draft(Arc::clone(&value), Ok(Stamps::default()))?);
    let overwrite = (options.source_version == 0).then(|| Overwrite::begin(stack, key));
    let stamps = asked().await;
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
    let stored = match stored {
        Ok(fill) => stack.announce(&[Change::Key(key)], &mut budget).await.map(|()| fill),
        failed => failed,
    };
    match draft.end(overwrite, stored) {
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
    let asked = || stamps(stack, options, &keys, stack.budget());
    let (stamped, mut begun) = match asked().now_or_never() {
        Some(stamped) => (stamped, Vec::new()),
        None => {
            // As in `set`: before anybody is asked.
            let mut begun = Vec::with_capacity(keys.len());
            for (key, value) in &entries {
                let (key, stamps) = (*key, Ok(Stamps::default()));
                let draft = Draft::new(stack, codec, options, key, Arc::clone(value), None, stamps);
                let is_sound = draft.is_ok() && options.source_version == 0;
                begun.push(is_sound.then(|| Overwrite::begin(stack, key)));
            }
            (asked().await, begun)
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
    announce(stack, &keys, &mut stored, &mut budget).await;
    let (mut ended, mut overlapped) = (Vec::with_capacity(sound.len()), Vec::new());
    for ((draft, overwrite), stored) in sound.into_iter().zip(overwrites).zip(stored) {
        let ack = draft.end(overwrite, stored);
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

/// A key that is being overwritten. Dropped midway, by a panic or a cancelled future, it leaves
/// the key invalidated: nobody knows what the server has done.
pub(crate) struct Overwrite<'a> {
    stack: &'a Arc<Stack>,
    pub(crate) key: &'a Key,
    ticket: Ticket,
    before: Standing,
    ended: bool,
}

impl<'a> Overwrite<'a> {
    pub(crate) fn begin(stack: &'a Arc<Stack>, key: &'a Key) -> Self {
        stack.drop_local(key);
        let ticket = stack.capture(key);
        Self { stack, key, ticket, before: stack.pending.standing(key), ended: false }
    }

    /// The server is asked now: what is pending at this moment is done with its answer.
    pub(crate) fn refresh(&mut self) {
        self.before = self.stack.pending.standing(self.key);
    }

    /// Whether nothing has overtaken it.
    pub(crate) fn holds(&self) -> bool {
        self.ticket.holds()
    }

    /// The server has answered. `local` changes L1, and is told whether no other write of this key
    /// was under way; so is the caller.
    pub(crate) fn done(mut self, local: impl FnOnce(bool)) -> bool {
        if let Standing::Delete(count) = self.before {
            self.stack.pending.confirm(self.key, count);
        }
        replay::start(self.stack);
        self.end(local)
    }

    /// The server has not answered.
    pub(crate) fn pending(mut self, local: impl FnOnce(bool)) -> Ack {
        replay::queue(self.stack, self.key);
        self.end(local);
        Ack::Pending
    }

    fn end(&mut self, local: impl FnOnce(bool)) -> bool {
        self.ended = true;
        let mut held = false;
        self.ticket.supersede(|holds| {
            held = holds;
            local(holds);
        });
        self.stack.flights.detach(self.key);
        held
    }
}

impl Drop for Overwrite<'_> {
    fn drop(&mut self) {
        if !self.ended {
            replay::queue(self.stack, self.key);
            self.end(|_| self.stack.remove_local(self.key));
        }
    }
}
