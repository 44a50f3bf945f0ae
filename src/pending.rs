//! Invalidations that the cache server has not confirmed yet.
//!
//! While a key is pending this process neither reads nor fills it in L2. Before it does, and as
//! soon as the server answers again, the delete is replayed. The same holds for all keys of a pending
//! prefix, but that one single key does not replay it: it takes as long as it takes. The queue is bounded; when it flows
//! over, single keys are given up and the whole namespace is cleared instead, and until then L2 is
//! neither read nor filled.
//!
//! What the server has done is not done again: the others have yet to be told of it, and that is all. Were it done again until
//! they are, nobody could store anything while the bus is away.
//!
//! The queue lives in memory: a process that dies with it leaves the server's entries to their
//! expiry.

use std::{
    collections::HashMap,
    hash::Hash,
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
    /// What the server has done, and the other processes have yet to be told of.
    untold: HashMap<Word, u64>,
    prefixes: Vec<(Prefix, u64, Instant)>,
    tags: Vec<(Tag, u64)>,
    /// Set by an overflow: the number of the last one, and when it was.
    void: Option<(u64, Instant)>,
    count: u64,
    /// With which of many the next step of the replay begins.
    turn: usize,
    replaying: bool,
}

/// What the other processes are to be told of.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Word {
    Key(Key),
    Prefix(Prefix),
    Tag(Tag),
    All,
}

impl State {
    /// Gives single keys up, and voids the namespace. Says whether it was not void before.
    fn overflow(&mut self, now: Instant) -> bool {
        // What is invalidated now may be newer than what a clear under way has seen.
        let first = self.void.replace((self.count, now)).is_none();
        (self.keys, self.prefixes, self.tags) = (HashMap::new(), Vec::new(), Vec::new());
        // What the server has done before is told now: a tier that cannot clear stays void for as long as anything lives.
        if self.untold.keys().any(|word| *word != Word::All) {
            self.tell_all();
        }
        first
    }

    /// Tells of everything instead of each. It is a new word: one that is on its way may have been said too early.
    fn tell_all(&mut self) {
        self.count += 1;
        self.untold = HashMap::from([(Word::All, self.count)]);
    }

    /// Takes out what the server was to do, if it is the same still.
    fn take(&mut self, word: &Word, count: u64) -> bool {
        let before = self.waiting();
        match word {
            Word::Key(key) if self.keys.get(key) == Some(&count) => drop(self.keys.remove(key)),
            Word::Key(_) => {}
            Word::Prefix(prefix) => {
                self.prefixes.retain(|(known, of, _)| known != prefix || *of != count);
            }
            Word::Tag(tag) => self.tags.retain(|(known, of)| known != tag || *of != count),
            Word::All => self.void = self.void.filter(|(of, _)| *of != count),
        }
        self.waiting() < before
    }

    /// Whether the server has yet to do it: then the others are told when it has. That of a void may be long after.
    fn waits_for(&self, word: &Word) -> bool {
        match word {
            Word::Key(key) => self.keys.contains_key(key),
            Word::Prefix(prefix) => self.prefixes.iter().any(|(known, ..)| known == prefix),
            Word::Tag(tag) => self.tags.iter().any(|(known, _)| known == tag),
            Word::All => false,
        }
    }

    /// Takes note of what the others are to be told of.
    fn tell(&mut self, word: Word, count: u64, bound: usize) {
        let is_full = self.keys.len() + self.untold.len() >= bound;
        if word == Word::All || (is_full && !self.untold.contains_key(&word)) {
            self.tell_all();
        } else {
            self.untold.insert(word, count);
        }
    }

    /// How many steps the server has yet to do.
    fn waiting(&self) -> usize {
        self.keys.len() + self.prefixes.len() + self.tags.len() + usize::from(self.void.is_some())
    }

    fn is_empty(&self) -> bool {
        self.waiting() == 0 && self.untold.is_empty()
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
    /// Delete these keys.
    Delete(Vec<(Key, u64)>),
    /// Give this tag another generation.
    ChangeTag(Tag, u64),
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
        state.untold.remove(&Word::Key(key.clone()));
        let is_full = state.keys.len() + state.untold.len() >= self.bound;
        if is_full && !state.keys.contains_key(&key) && !state.untold.is_empty() {
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

    /// The server has done what `word` says after invalidation `count` was queued; the others have yet to be told.
    pub(crate) fn dropped(&self, word: Word, count: u64) {
        let mut state = self.state.lock();
        if state.take(&word, count) {
            state.tell(word, count, self.bound);
        }
    }

    /// The others have yet to be told of what the server has just done: of all that was queued up to invalidation
    /// `before` too.
    pub(crate) fn untold_yet(&self, word: Word, before: Option<u64>) {
        let mut state = self.state.lock();
        self.any.store(true, Ordering::Release);
        if before.is_some_and(|count| state.take(&word, count)) || !state.waits_for(&word) {
            state.count += 1;
            let count = state.count;
            state.tell(word, count, self.bound);
        }
    }

    /// The others have been told.
    pub(crate) fn told(&self, words: &[(Word, u64)]) {
        let mut state = self.state.lock();
        for (word, count) in words {
            if state.untold.get(word) == Some(count) {
                state.untold.remove(word);
            }
        }
        self.any.store(!state.is_empty(), Ordering::Release);
    }

    /// Queues all keys of a prefix at `now`. Says whether this overflowed the queue.
    pub(crate) fn push_prefix(&self, prefix: Prefix, now: Instant) -> bool {
        let mut state = self.state.lock();
        self.any.store(true, Ordering::Release);
        state.count += 1;
        let count = state.count;
        state.prefixes.retain(|(known, ..)| *known != prefix);
        state.untold.remove(&Word::Prefix(prefix.clone()));
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
        state.untold.remove(&Word::Tag(tag.clone()));
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

    /// The server has dropped the entry of `key` after invalidation `count` was queued, and the others were told.
    pub(crate) fn confirm(&self, key: &Key, count: u64) {
        let mut state = self.state.lock();
        let word = Word::Key(key.clone());
        if !state.take(&word, count) && state.untold.get(&word) == Some(&count) {
            state.untold.remove(&word);
        }
        self.any.store(!state.is_empty(), Ordering::Release);
    }

    /// What the server is to do next: some of the keys, and all of the rest.
    pub(crate) fn next(&self, most: usize) -> Vec<Task> {
        let mut state = self.state.lock();
        state.turn = state.turn.wrapping_add(most);
        if let Some((count, since)) = state.void {
            return vec![Task::Clear(count, since)];
        }
        let keys = some(&state.keys, state.turn, most);
        let prefix = |(prefix, count, since): &(Prefix, u64, Instant)| {
            Task::DeletePrefix(prefix.clone(), *count, *since)
        };
        let tag = |(tag, count): &(Tag, u64)| Task::ChangeTag(tag.clone(), *count);
        // Keys first: they are quick, and a prefix may be refused for ever.
        let keys = (!keys.is_empty()).then_some(Task::Delete(keys)).into_iter();
        keys.chain(state.tags.iter().map(tag)).chain(state.prefixes.iter().map(prefix)).collect()
    }

    /// Some of what the others are to be told.
    pub(crate) fn untold(&self, most: usize) -> Vec<(Word, u64)> {
        let state = self.state.lock();
        some(&state.untold, state.turn, most)
    }

    /// The number of keys waiting; a prefix and a voided namespace count as one.
    pub(crate) fn len(&self) -> usize {
        let state = self.state.lock();
        state.waiting() + state.untold.len()
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

/// Some of many, by turns: those that fail again and again hold up no others.
fn some<K: Clone + Eq + Hash>(many: &HashMap<K, u64>, turn: usize, most: usize) -> Vec<(K, u64)> {
    let first = turn.checked_rem(many.len()).unwrap_or(0);
    let in_turn = many.iter().skip(first).chain(many.iter().take(first));
    in_turn.take(most).map(|(what, count)| (what.clone(), *count)).collect()
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
        pending.dropped(Word::All, count);
        assert_eq!(
            pending.standing(&Key::from(4)),
            Standing::Void,
            "a clear before it is not enough"
        );
    }

    #[test]
    fn what_the_server_has_dropped_is_only_told_and_all_of_it_when_it_is_too_much() {
        let pending = Pending::new(2);
        let (one, two) = (Key::from(1), Key::from(2));
        assert!(!pending.push(one.clone(), Instant::now()));
        let Standing::Delete(first) = pending.standing(&one) else { panic!("not pending") };
        pending.dropped(Word::Key(one.clone()), first);
        assert_eq!(pending.standing(&one), Standing::Clear);
        assert!(pending.next(9).is_empty() && !pending.is_empty());
        // Queued anew: it is to be dropped anew, and what was on its way to be told is not enough.
        assert!(!pending.push(one.clone(), Instant::now()));
        pending.told(&[(Word::Key(one.clone()), first)]);
        assert_eq!((pending.next(9).len(), pending.untold(9).len()), (1, 0));
        // One of which the server has yet to hear is told of when it has.
        pending.untold_yet(Word::Key(one.clone()), Some(first));
        assert_eq!(pending.untold(9), []);
        pending.untold_yet(Word::Key(two), None);
        pending.untold_yet(Word::Key(Key::from(3)), None);
        let all = pending.untold(9);
        assert!(matches!(&all[..], [(Word::All, _)]), "{all:?}");
        let Standing::Delete(second) = pending.standing(&one) else { panic!("not pending") };
        pending.dropped(Word::Key(one), second);
        pending.told(&pending.untold(9));
        pending.told(&all);
        assert!(pending.is_empty());
    }

    #[test]
    fn what_the_server_has_done_is_told_while_the_namespace_is_void() {
        let pending = Pending::new(2);
        pending.untold_yet(Word::Key(Key::from(1)), None);
        for key in 2..9 {
            pending.push(Key::from(key), Instant::now());
        }
        let all = pending.untold(9);
        assert!(matches!(&all[..], [(Word::All, _)]), "what was untold before: {all:?}");
        pending.told(&all);
        pending.untold_yet(Word::Key(Key::from(1)), None);
        let told = pending.untold(9);
        assert!(matches!(&told[..], [(Word::Key(_), _)]), "{told:?}");
        pending.told(&told);
        assert_eq!(pending.standing(&Key::from(1)), Standing::Void);
        let Some(Task::Clear(count, _)) = pending.next(9).pop() else { panic!("no clear") };
        pending.dropped(Word::All, count);
        pending.told(&pending.untold(9));
        assert!(pending.is_empty());
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
