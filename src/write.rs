//! Writing: `set` and `invalidate`, which win over everything that began before them.
//!
//! The local drop happens twice. The first makes this process forget at once, even if the server
//! hangs. The second, after the server has answered, overtakes reads that began in between: they
//! may have seen the server's old value.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use tiered_codecs::CodecFor;
use tiered_tiers::TierError;

use crate::{
    Ack, Error, Key,
    entry::Entry,
    fence::Ticket,
    pending::Standing,
    replay,
    request::{Options, Told},
    stack::Stack,
    versions::Slot,
};

/// Drops a key from all tiers.
pub(crate) async fn invalidate(stack: &Arc<Stack>, key: &Key) -> Result<Ack, Error> {
    key.check()?;
    let Some(l2) = &stack.l2 else {
        stack.drop_local(key);
        return Ok(Ack::Done);
    };
    stack.require_runtime()?;
    let overwrite = Overwrite::begin(stack, key);
    let deleted = l2.delete(&key.wire(&stack.namespace), &mut l2.budget()).await;
    Ok(match deleted {
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
    let Some(l2) = &stack.l2 else {
        sound().for_each(|(key, _)| stack.drop_local(key));
        return checked.into_iter().map(|checked| checked.map(|()| Ack::Done)).collect();
    };
    let overwrites: Vec<_> = sound().map(|(key, _)| Overwrite::begin(stack, key)).collect();
    let wires: Vec<_> = sound().map(|(key, _)| key.wire(&stack.namespace)).collect();
    let deleted = l2.delete_many(&wires, &mut l2.budget()).await;
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

fn require(stack: &Stack) -> Result<(), Error> {
    if stack.l2.is_some() { stack.require_runtime() } else { Ok(()) }
}

/// A value about to be stored.
pub(crate) struct Draft<'a, T> {
    stack: &'a Arc<Stack>,
    key: &'a Key,
    options: &'a Options,
    entry: Entry<T>,
    wire: Vec<u8>,
    packed: Option<Bytes>,
    begun: Instant,
}

impl<'a, T: Send + Sync + 'static> Draft<'a, T> {
    /// Before anything is changed: a value that cannot be stored loses nothing.
    pub(crate) fn new<C: CodecFor<T>>(
        stack: &'a Arc<Stack>,
        codec: &C,
        options: &'a Options,
        key: &'a Key,
        value: Arc<T>,
    ) -> Result<Self, Error> {
        key.check()?;
        options.check()?;
        require(stack)?;
        let entry = Entry::new(stack, options, Told::default(), Some(value));
        let wire = key.wire(&stack.namespace);
        let packed = match &stack.l2 {
            Some(_) if !options.skip_l2 => {
                Some(entry.pack(stack, codec, options, &wire).map_err(Error::Serialization)?)
            }
            // For its weight.
            Some(_) if stack.is_l1_weighted() && entry.needs_weighing() => {
                entry.pack(stack, codec, options, &wire).ok()
            }
            _ => None,
        };
        Ok(Self { stack, key, options, entry, wire, packed, begun: stack.clock.now() })
    }

    /// Its bytes for L2, if there is one.
    pub(crate) fn packed(&self) -> Option<Bytes> {
        self.packed.clone()
    }

    /// Its bytes, whether there is an L2 or not.
    pub(crate) fn pack<C: CodecFor<T>>(&self, codec: &C) -> Result<Bytes, Error> {
        let Self { stack, options, entry, wire, packed, .. } = self;
        match packed {
            Some(bytes) => Ok(bytes.clone()),
            None => entry.pack(stack, codec, options, wire).map_err(Error::Serialization),
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

    /// Puts it into L1, if it may and `holds`; else L1 has nothing.
    pub(crate) fn keep(&self, holds: bool) {
        let Self { stack, key, options, .. } = self;
        if holds && !options.skip_l1 {
            let keep = self.entry.local(stack, options, self.begun, self.packed.as_ref());
            stack.insert_local(key, keep);
        } else {
            stack.remove_local(key);
        }
    }

    /// Stores it where there is no L2.
    fn keep_here(&self) -> Ack {
        self.stack.fence.advance(self.key.fingerprint(), || self.keep(true));
        self.stack.flights.detach(self.key);
        Ack::Done
    }

    /// Ends the write as L2 has answered. `None` if another write of this key was under way in this
    /// process: nobody knows which of the two the server executed last. Both see this, and both must
    /// invalidate the key, which then has neither's value.
    fn end(&self, overwrite: Overwrite<'_>, stored: Result<(), TierError>) -> Option<Ack> {
        match stored {
            Err(_) => Some(overwrite.pending(|holds| self.keep(holds))),
            Ok(()) => overwrite.done(|holds| self.keep(holds)).then_some(Ack::Done),
        }
    }
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
    store(Draft::new(stack, codec, options, key, value)?).await
}

/// Stores a draft in all tiers.
pub(crate) async fn store<T: Send + Sync + 'static>(draft: Draft<'_, T>) -> Result<Ack, Error> {
    let Draft { stack, key, options, .. } = draft;
    if !stack.is_enabled() {
        return invalidate(stack, key).await;
    }
    let Some(l2) = &stack.l2 else { return Ok(draft.keep_here()) };
    let overwrite = Overwrite::begin(stack, key);
    let mut budget = l2.budget();
    let stored = match &draft.packed {
        Some(bytes) if !options.skip_l2 => {
            let (slot, life) = (Slot::home(options.schema), draft.entry.life());
            l2.set(&draft.wire, slot, bytes.clone(), life, &mut budget).await
        }
        _ => l2.delete(&draft.wire, &mut budget).await,
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
    let mut drafts = Vec::with_capacity(entries.len());
    for (key, value) in entries {
        drafts.push(Draft::new(stack, codec, options, key, value));
    }
    let Some(l2) = &stack.l2 else {
        return drafts.into_iter().map(|draft| Ok(draft?.keep_here())).collect();
    };
    let sound: Vec<&Draft<'_, T>> = drafts.iter().flatten().collect();
    let overwrites: Vec<_> = sound.iter().map(|draft| Overwrite::begin(stack, draft.key)).collect();
    let mut budget = l2.budget();
    let stored = if options.skip_l2 {
        let wires: Vec<_> = sound.iter().map(|draft| draft.wire.clone()).collect();
        l2.delete_many(&wires, &mut budget).await
    } else {
        let mut stores = Vec::with_capacity(sound.len());
        for Draft { wire, packed, entry, .. } in &sound {
            let bytes = packed.clone().unwrap_or_default();
            stores.push((wire.as_slice(), bytes, entry.life()));
        }
        l2.set_many(&stores, Slot::home(options.schema), &mut budget).await
    };
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
struct Overwrite<'a> {
    stack: &'a Arc<Stack>,
    key: &'a Key,
    ticket: Ticket,
    before: Standing,
    ended: bool,
}

impl<'a> Overwrite<'a> {
    fn begin(stack: &'a Arc<Stack>, key: &'a Key) -> Self {
        stack.drop_local(key);
        let ticket = stack.capture(key);
        Self { stack, key, ticket, before: stack.pending.standing(key), ended: false }
    }

    /// The server has answered. `local` changes L1, and is told whether no other write of this key
    /// was under way; so is the caller.
    fn done(mut self, local: impl FnOnce(bool)) -> bool {
        if let Standing::Delete(count) = self.before {
            self.stack.pending.confirm(self.key, count);
        }
        replay::start(self.stack);
        self.end(local)
    }

    /// The server has not answered.
    fn pending(mut self, local: impl FnOnce(bool)) -> Ack {
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
