//! Invalidations that the cache server has not confirmed yet.
//!
//! While a key is pending this process neither reads nor fills it in L2. Before it does, and as
//! soon as the server answers again, the delete is replayed. The same holds for all keys of a pending
//! prefix, but that one single key does not replay it: it takes as long as it takes. The queue is bounded; when it flows
//! over, single keys are given up and the whole namespace is cleared instead, and until then L2 is
//! neither read nor filled.
//!
//! The queue lives in memory: a process that dies with it leaves the server's entries to their
//! expiry.

use std::{
    collections::HashMap,
    sync::atomic::{AtomicBool, Ordering},
    time::Instant,
};

use crate::{Key, key::Prefix, sync::Mutex, tags::Tag};

/// How many prefixes may be pending; more void the namespace. Every read compares its key with each.
const PREFIXES: usize = 16;
/// How many tags may be pending; more void the namespace.
const TAGS: usize = 64;

/// Unconfirmed invalidations of one cache.
#[derive(Debug)]
pub(crate) struct Pending {
    state: Mutex<State>,
    bound: usize,
    /// Whether there may be something, for those who only ask.
    any: AtomicBool,
}

#[derive(Debug, Default)]
struct State {
    /// Which the server has yet to drop.
    keys: HashMap<Key, u64>,
    /// Which it has dropped, and the other processes have yet to be told of.
    untold: HashMap<Key, u64>,
    /// They are to be told that everything has changed, because there were too many of those.
    all_untold: Option<u64>,
    prefixes: Vec<(Prefix, u64, Instant)>,
    tags: Vec<(Tag, u64)>,
    /// Which have another generation, and the other processes have yet to be told of.
    untold_tags: Vec<(Tag, u64)>,
    /// Set by an overflow: the number of the last one, and when it was.
    void: Option<(u64, Instant)>,
    count: u64,
    replaying: bool,
}

impl State {
    /// Gives single keys up, and voids the namespace. Says whether it was not void before.
    fn overflow(&mut self, now: Instant) -> bool {
        // What is invalidated now may be newer than what a clear under way has seen.
        let first = self.void.replace((self.count, now)).is_none();
        (self.keys, self.prefixes, self.tags) = (HashMap::new(), Vec::new(), Vec::new());
        (self.untold, self.untold_tags, self.all_untold) = (HashMap::new(), Vec::new(), None);
        first
    }

    /// Tells of everything instead of single keys, if there are any.
    fn tell_all(&mut self) {
        if !self.untold.is_empty() || !self.untold_tags.is_empty() {
            (self.untold, self.untold_tags) = (HashMap::new(), Vec::new());
            self.all_untold = Some(self.count);
        }
    }

    fn is_empty(&self) -> bool {
        self.void.is_none()
            && self.keys.is_empty()
            && self.untold.is_empty()
            && self.all_untold.is_none()
            && self.prefixes.is_empty()
            && self.tags.is_empty()
            && self.untold_tags.is_empty()
    }
}

/// What stands in the way of using L2 for a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// Nothing.
    Clear,
    /// The key's delete must be replayed first. The number tells this invalidation from a later one.
    Delete(u64),
    /// A prefix of the key's must be cleared first.
    Prefix,
    /// The namespace must be cleared first.
    Void,
}

/// One step of the replay.
#[derive(Debug)]
pub(crate) enum Task {
    /// Delete this key.
    Delete(Key, u64),
    /// Tell the others of this key.
    Tell(Key, u64),
    /// Tell them that everything has changed.
    TellAll(u64),
    /// Give this tag another generation.
    ChangeTag(Tag, u64),
    /// Tell the others of this tag.
    TellTag(Tag, u64),
    /// Drop what begins with this prefix, which has been pending since then.
    DeletePrefix(Prefix, u64, Instant),
    /// Clear the namespace, which has been void since then.
    Clear(u64, Instant),
}

impl Pending {
    pub(crate) fn new(bound: usize) -> Self {
        Self { state: Mutex::default(), bound, any: AtomicBool::new(false) }
    }

    /// Whether nothing is pending.
    pub(crate) fn is_empty(&self) -> bool {
        !self.any.load(Ordering::Acquire)
    }

    /// Queues a key at `now`. Says whether this overflowed the queue.
    pub(crate) fn push(&self, key: Key, now: Instant) -> bool {
        let mut state = self.state.lock();
        self.any.store(true, Ordering::Release);
        state.count += 1;
        let count = state.count;
        state.untold.remove(&key);
        if state.keys.len() + state.untold.len() >= self.bound && !state.keys.contains_key(&key) {
            // A bus that is away costs no more than one message, in the end.
            state.tell_all();
        }
        if state.void.is_some()
            || (state.keys.len() >= self.bound && !state.keys.contains_key(&key))
        {
            return state.overflow(now);
        }
        state.keys.insert(key, count);
        false
    }

    /// The server has dropped the entry of `key` after invalidation `count` was queued; the others have yet to be
    /// told.
    pub(crate) fn dropped(&self, key: &Key, count: u64) {
        let mut state = self.state.lock();
        if state.keys.get(key) == Some(&count) {
            state.keys.remove(key);
            state.untold.insert(key.clone(), count);
        }
    }

    /// The others have been told of everything, after `count`.
    pub(crate) fn confirm_all_told(&self, count: u64) {
        let mut state = self.state.lock();
        if state.all_untold == Some(count) {
            state.all_untold = None;
            self.any.store(!state.is_empty(), Ordering::Release);
        }
    }

    /// Queues all keys of a prefix at `now`. Says whether this overflowed the queue.
    pub(crate) fn push_prefix(&self, prefix: Prefix, now: Instant) -> bool {
        let mut state = self.state.lock();
        self.any.store(true, Ordering::Release);
        state.count += 1;
        let count = state.count;
        state.prefixes.retain(|(known, ..)| *known != prefix);
        if state.void.is_some() || state.prefixes.len() >= PREFIXES {
            return state.overflow(now);
        }
        state.prefixes.push((prefix, count, now));
        false
    }

    /// Queues a tag at `now`. Says whether this overflowed the queue.
    pub(crate) fn push_tag(&self, tag: Tag, now: Instant) -> bool {
        let mut state = self.state.lock();
        self.any.store(true, Ordering::Release);
        state.count += 1;
        let count = state.count;
        state.tags.retain(|(known, _)| *known != tag);
        state.untold_tags.retain(|(known, _)| *known != tag);
        if state.tags.len() + state.untold_tags.len() >= TAGS {
            state.tell_all();
        }
        if state.void.is_some() || state.tags.len() >= TAGS {
            return state.overflow(now);
        }
        state.tags.push((tag, count));
        false
    }

    /// Whether an invalidation of a tag is pending: what the server has under it is not to be believed.
    pub(crate) fn has_tag(&self, tag: &Tag) -> bool {
        !self.is_empty() && self.state.lock().tags.iter().any(|(known, _)| known == tag)
    }

    /// The server has given `tag` another generation after invalidation `count` was queued; the others have yet to be
    /// told.
    pub(crate) fn changed(&self, tag: &Tag, count: u64) {
        let mut state = self.state.lock();
        let State { tags, untold_tags, .. } = &mut *state;
        if let Some(place) = tags.iter().position(|(known, of)| known == tag && *of == count) {
            untold_tags.push(tags.swap_remove(place));
        }
    }

    /// And the others have been told.
    pub(crate) fn confirm_tag(&self, tag: &Tag, count: u64) {
        let mut state = self.state.lock();
        state.untold_tags.retain(|(known, of)| known != tag || *of != count);
        self.any.store(!state.is_empty(), Ordering::Release);
    }

    pub(crate) fn standing(&self, key: &Key) -> Standing {
        if self.is_empty() {
            return Standing::Clear;
        }
        let state = self.state.lock();
        if state.void.is_some() {
            return Standing::Void;
        }
        if state.prefixes.iter().any(|(prefix, ..)| prefix.covers(key.local())) {
            return Standing::Prefix;
        }
        state.keys.get(key).map_or(Standing::Clear, |count| Standing::Delete(*count))
    }

    /// The server has dropped the entry of `key` after invalidation `count` was queued.
    pub(crate) fn confirm(&self, key: &Key, count: u64) {
        let mut state = self.state.lock();
        let State { keys, untold, .. } = &mut *state;
        for waiting in [keys, untold] {
            if waiting.get(key) == Some(&count) {
                waiting.remove(key);
            }
        }
        self.any.store(!state.is_empty(), Ordering::Release);
    }

    /// The server has dropped what begins with `prefix` after invalidation `count` was queued.
    pub(crate) fn confirm_prefix(&self, prefix: &Prefix, count: u64) {
        let mut state = self.state.lock();
        state.prefixes.retain(|(known, of, _)| known != prefix || *of != count);
        self.any.store(!state.is_empty(), Ordering::Release);
    }

    /// The server has cleared the namespace after overflow `count`.
    pub(crate) fn confirm_clear(&self, count: u64) {
        let mut state = self.state.lock();
        if state.void.is_some_and(|(of, _)| of == count) {
            state.void = None;
            self.any.store(!state.is_empty(), Ordering::Release);
        }
    }

    /// A number of the next steps to replay.
    pub(crate) fn next(&self, most: usize) -> Vec<Task> {
        let state = self.state.lock();
        match state.void {
            Some((count, since)) => vec![Task::Clear(count, since)],
            None => {
                let key = |(key, count): (&Key, &u64)| Task::Delete(key.clone(), *count);
                let prefix = |(prefix, count, since): &(Prefix, u64, Instant)| {
                    Task::DeletePrefix(prefix.clone(), *count, *since)
                };
                // Keys first: they are quick, and a prefix may be refused for ever.
                let keys = state.keys.iter().take(most).map(key);
                let tag = |(tag, count): &(Tag, u64)| Task::ChangeTag(tag.clone(), *count);
                let tags = state.tags.iter().map(tag);
                let tell = |(key, count): (&Key, &u64)| Task::Tell(key.clone(), *count);
                let untold = state.untold.iter().take(most).map(tell);
                let untold = untold.chain(state.all_untold.map(Task::TellAll));
                let tell = |(tag, count): &(Tag, u64)| Task::TellTag(tag.clone(), *count);
                let untold = untold.chain(state.untold_tags.iter().map(tell));
                keys.chain(tags).chain(untold).chain(state.prefixes.iter().map(prefix)).collect()
            }
        }
    }

    /// The number of keys waiting; a prefix and a voided namespace count as one.
    pub(crate) fn len(&self) -> usize {
        let state = self.state.lock();
        state.keys.len()
            + state.untold.len()
            + usize::from(state.all_untold.is_some())
            + state.prefixes.len()
            + state.tags.len()
            + state.untold_tags.len()
            + usize::from(state.void.is_some())
    }

    /// Claims the replay if there is something to do and nobody does it.
    pub(crate) fn claim_replay(&self) -> bool {
        let mut state = self.state.lock();
        let idle = !state.replaying && !state.is_empty();
        state.replaying |= idle;
        idle
    }

    /// Ends the replay if there is nothing left to do, in one step with looking.
    pub(crate) fn finish_replay(&self) -> bool {
        let mut state = self.state.lock();
        let empty = state.is_empty();
        state.replaying &= !empty;
        empty
    }

    /// The replay ended before its work did: its runtime went away.
    pub(crate) fn abandon_replay(&self) {
        self.state.lock().replaying = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_stands_until_its_last_invalidation_is_confirmed() {
        let pending = Pending::new(8);
        let key = Key::from("a");
        assert!(!pending.push(key.clone(), Instant::now()));
        let Standing::Delete(first) = pending.standing(&key) else { panic!("not pending") };
        assert!(!pending.push(key.clone(), Instant::now()));
        pending.confirm(&key, first);
        assert!(matches!(pending.standing(&key), Standing::Delete(second) if second > first));
        assert_eq!(pending.standing(&Key::from("b")), Standing::Clear);
    }

    #[test]
    fn an_overflow_voids_the_namespace_until_a_later_clear() {
        let pending = Pending::new(2);
        assert!(!pending.push(Key::from(1), Instant::now()));
        assert!(!pending.push(Key::from(2), Instant::now()));
        assert!(
            !pending.push(Key::from(2), Instant::now()),
            "a key already queued needs no more room"
        );
        assert!(pending.push(Key::from(3), Instant::now()));
        assert_eq!(pending.standing(&Key::from("never seen")), Standing::Void);
        let Some(Task::Clear(count, _)) = pending.next(9).pop() else { panic!("no clear") };
        assert!(!pending.push(Key::from(4), Instant::now()), "told once");
        pending.confirm_clear(count);
        assert_eq!(
            pending.standing(&Key::from(4)),
            Standing::Void,
            "a clear before it is not enough"
        );
    }

    #[test]
    fn one_replay_at_a_time_and_none_for_nothing() {
        let pending = Pending::new(8);
        assert!(!pending.claim_replay());
        pending.push(Key::from(1), Instant::now());
        assert!(pending.claim_replay());
        assert!(!pending.claim_replay());
        assert!(!pending.finish_replay());
        pending.abandon_replay();
        assert!(pending.claim_replay());
    }
}
