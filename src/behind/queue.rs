//! What waits to be written: of each key the newest value, and what of it is being written now.
//!
//! A key is in one line at most: with the *fresh*, first come, first served; or with those to be tried *again*, by
//! their time. While a value of it is being written it is in none, and a newer one waits for the end:
//! so no two writes of a key ever overlap, and an old value is never written after a newer one.
//!
//! No clock, no lock, no await: all of that is its callers'.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    sync::Arc,
};

use tokio::time::Instant;

use crate::Key;

/// A value on its way.
#[derive(Debug)]
pub(super) struct Item<K, V> {
    pub(super) id: K,
    pub(super) value: Arc<V>,
    /// Writes that failed.
    pub(super) attempts: u32,
    /// The number of the oldest `set` that waits for this write.
    pub(super) since: u64,
    /// Where the journal has it.
    pub(super) position: Option<u64>,
}

impl<K: Clone, V> Clone for Item<K, V> {
    fn clone(&self) -> Self {
        Self { id: self.id.clone(), value: Arc::clone(&self.value), ..*self }
    }
}

/// A key that something waits for.
#[derive(Debug)]
struct Slot<K, V> {
    writing: Option<Item<K, V>>,
    waiting: Option<Item<K, V>>,
    /// When what waits is to be written, if it is fresh.
    due: Instant,
}

/// What became of a value that was pushed, or failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pushed {
    /// It waits.
    Waits,
    /// A newer value takes its place; this is where the journal has the older one.
    Replaced(Option<u64>),
}

#[derive(Debug)]
pub(super) struct Queue<K, V> {
    slots: HashMap<Key, Slot<K, V>>,
    fresh: VecDeque<Key>,
    again: BTreeMap<(Instant, u64), Key>,
    /// `set` calls so far.
    count: u64,
    lined_up: u64,
    /// Whose turn it is, where both lines have something.
    again_next: bool,
}

impl<K: Clone, V> Queue<K, V> {
    pub(super) fn new() -> Self {
        let (slots, fresh, again) = Default::default();
        Self { slots, fresh, again, count: 0, lined_up: 0, again_next: true }
    }

    /// Keys that wait or are being written.
    pub(super) fn len(&self) -> usize {
        self.slots.len()
    }

    pub(super) fn contains(&self, key: &Key) -> bool {
        self.slots.contains_key(key)
    }

    /// The newest value of a key.
    pub(super) fn newest(&self, key: &Key) -> Option<&Arc<V>> {
        let slot = self.slots.get(key)?;
        slot.waiting.as_ref().or(slot.writing.as_ref()).map(|item| &item.value)
    }

    /// Whether a newer value waits for the one that is being written.
    pub(super) fn is_outdated(&self, key: &Key) -> bool {
        self.slots.get(key).is_some_and(|slot| slot.waiting.is_some())
    }

    /// The keys of all that is here.
    pub(super) fn keys(&self) -> Vec<Key> {
        self.slots.keys().cloned().collect()
    }

    /// Whether the last value that was pushed changes what is to be written next, and when.
    pub(super) fn is_news(&self, most: usize) -> bool {
        self.fresh.len() == 1 || self.fresh.len() == most
    }

    /// The number of the last `set`.
    pub(super) fn count(&self) -> u64 {
        self.count
    }

    /// Keys for which a `set` up to this one has not ended.
    pub(super) fn not_done(&self, count: u64) -> usize {
        let is_older =
            |item: &Option<Item<K, V>>| item.as_ref().is_some_and(|item| item.since <= count);
        self.slots
            .values()
            .filter(|slot| is_older(&slot.writing) || is_older(&slot.waiting))
            .count()
    }

    /// Queues a value, to be written when it is `due` at the latest.
    pub(super) fn push(
        &mut self,
        key: Key,
        id: K,
        value: Arc<V>,
        position: Option<u64>,
        due: Instant,
    ) -> Pushed {
        self.count += 1;
        let mut item = Item { id, value, attempts: 0, since: self.count, position };
        match self.slots.get_mut(&key) {
            Some(slot) => {
                let older = slot.waiting.take();
                item.since = older.as_ref().map_or(item.since, |older| older.since);
                if older.is_none() {
                    slot.due = due;
                }
                slot.waiting = Some(item);
                older.map_or(Pushed::Waits, |older| Pushed::Replaced(older.position))
            }
            None => {
                self.slots.insert(key.clone(), Slot { writing: None, waiting: Some(item), due });
                self.fresh.push_back(key);
                Pushed::Waits
            }
        }
    }

    /// The next batch, if one is to be written now: `most` fresh values, or those of them that are there when the
    /// first is due, or at once if there is a `hurry`; or values that failed equally often, as many as
    /// `at_most` says of such.
    pub(super) fn take(
        &mut self,
        now: Instant,
        most: usize,
        at_most: impl Fn(u32) -> usize,
        hurry: bool,
    ) -> Vec<(Key, Item<K, V>)> {
        let again = self.again.first_key_value().is_some_and(|((due, _), _)| *due <= now);
        let fresh = self.fresh_due(now, most).is_some_and(|due| hurry || due <= now);
        let keys = match (again, fresh) {
            (false, false) => return Vec::new(),
            (true, fresh) if self.again_next || !fresh => self.take_again(now, at_most),
            _ => self.fresh.drain(..most.min(self.fresh.len())).collect(),
        };
        self.again_next = !(again && self.again_next);
        let start = |key: Key| {
            let slot = self.slots.get_mut(&key)?;
            let item = slot.waiting.take()?;
            slot.writing = Some(item.clone());
            Some((key, item))
        };
        keys.into_iter().filter_map(start).collect()
    }

    fn take_again(&mut self, now: Instant, at_most: impl Fn(u32) -> usize) -> Vec<Key> {
        let attempts = |key: &Key| {
            let waiting = self.slots.get(key).and_then(|slot| slot.waiting.as_ref());
            waiting.map_or(0, |item| item.attempts)
        };
        let due = || self.again.iter().take_while(|((due, _), _)| *due <= now);
        let Some(class) = due().next().map(|(_, key)| attempts(key)) else { return Vec::new() };
        let alike = due().filter(|(_, key)| attempts(key) == class);
        let places: Vec<_> = alike.take(at_most(class).max(1)).map(|(place, _)| *place).collect();
        places.iter().filter_map(|place| self.again.remove(place)).collect()
    }

    /// When the first of the fresh is to be written; at once if a batch is full.
    fn fresh_due(&self, now: Instant, most: usize) -> Option<Instant> {
        let slot = self.slots.get(self.fresh.front()?)?;
        Some(if self.fresh.len() >= most { now } else { slot.due })
    }

    /// When there is something to write next.
    pub(super) fn next_due(&self, now: Instant, most: usize) -> Option<Instant> {
        let again = self.again.first_key_value().map(|((due, _), _)| *due);
        [self.fresh_due(now, most), again].into_iter().flatten().min()
    }

    /// Whatever is to be tried again is to be tried at once.
    pub(super) fn hurry(&mut self, now: Instant) {
        for ((_, number), key) in std::mem::take(&mut self.again) {
            self.again.insert((now, number), key);
        }
    }

    /// The value that was being written is dealt with: written or lost. Says whether it was still here.
    pub(super) fn end(&mut self, key: &Key) -> bool {
        let Some(slot) = self.slots.get_mut(key) else { return false };
        if slot.writing.take().is_none() {
            return false;
        }
        if slot.waiting.is_some() {
            self.fresh.push_back(key.clone());
        } else {
            self.slots.remove(key);
        }
        true
    }

    /// The value that was being written failed, and is to be tried again then, if no newer one waits; that
    /// one is tried then in its place.
    pub(super) fn retry(&mut self, key: &Key, at: Instant) -> Pushed {
        let Some(slot) = self.slots.get_mut(key) else { return Pushed::Waits };
        let Some(mut failed) = slot.writing.take() else { return Pushed::Waits };
        self.lined_up += 1;
        self.again.insert((at, self.lined_up), key.clone());
        match &mut slot.waiting {
            Some(newer) => {
                newer.since = failed.since;
                Pushed::Replaced(failed.position)
            }
            None => {
                failed.attempts += 1;
                slot.waiting = Some(failed);
                Pushed::Waits
            }
        }
    }

    /// Whatever is being written waits again: whoever wrote it is gone. Where the journal has those that a newer
    /// value replaces.
    pub(super) fn abandon(&mut self, now: Instant) -> Vec<Pushed> {
        let is_writing =
            |(key, slot): (&Key, &Slot<K, V>)| slot.writing.is_some().then(|| key.clone());
        let keys: Vec<Key> = self.slots.iter().filter_map(is_writing).collect();
        keys.iter().map(|key| self.retry(key, now)).collect()
    }

    /// Everything, which is then no longer here.
    pub(super) fn take_all(&mut self) -> Vec<(Key, Item<K, V>)> {
        (self.fresh, self.again) = Default::default();
        let newest = |(key, slot): (Key, Slot<K, V>)| Some((key, slot.waiting.or(slot.writing)?));
        self.slots.drain().filter_map(newest).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// What was set and written, for one key after another.
    #[derive(Default)]
    struct Model {
        set: HashMap<u64, u64>,
        written: HashMap<u64, u64>,
        writing: HashMap<Key, (u64, u64)>,
    }

    /// Random steps, and after each of them what must hold.
    fn storm(seed: u64) {
        let (mut random, mut queue) = (fastrand::Rng::with_seed(seed), Queue::new());
        let (mut model, mut now) = (Model::default(), Instant::now());
        let (mut value, mut positions) = (0, Vec::new());
        let mut note = |pushed| match pushed {
            Pushed::Replaced(position) => positions.extend(position),
            Pushed::Waits => {}
        };
        for _ in 0..300 {
            now += Duration::from_millis(random.u64(..20));
            match random.u8(..8) {
                0..=2 => {
                    let id = random.u64(..6);
                    value += 1;
                    model.set.insert(id, value);
                    let due = now + Duration::from_millis(10);
                    note(queue.push(Key::from(id), id, Arc::new(value), Some(value), due));
                }
                3 | 4 => {
                    let batch = queue.take(
                        now,
                        4,
                        |attempts| if attempts > 2 { 1 } else { 3 },
                        random.bool(),
                    );
                    for (key, item) in batch {
                        assert!(
                            *item.value > model.written.get(&item.id).copied().unwrap_or(0),
                            "{seed}"
                        );
                        let other = model.writing.insert(key, (item.id, *item.value));
                        assert_eq!(other, None, "two writes of a key at once: {seed}");
                    }
                }
                5 | 6 => {
                    for (key, (id, value)) in std::mem::take(&mut model.writing) {
                        if random.bool() {
                            model.written.insert(id, value);
                            assert!(queue.end(&key));
                        } else {
                            note(queue.retry(&key, now + Duration::from_millis(random.u64(..30))));
                        }
                    }
                }
                _ => {
                    model.writing.clear();
                    queue.abandon(now).into_iter().for_each(&mut note);
                }
            }
            for (id, newest) in &model.set {
                let queued = queue.newest(&Key::from(id)).map(|value| **value);
                let is_written = model.written.get(id) == Some(newest);
                assert_eq!(queued, (!is_written).then_some(*newest), "{seed}");
            }
        }
        model.writing.clear();
        queue.abandon(now).into_iter().for_each(&mut note);
        while queue.len() > 0 {
            now += Duration::from_secs(1);
            for (key, item) in queue.take(now, 4, |_| 2, false) {
                model.written.insert(item.id, *item.value);
                queue.end(&key);
            }
        }
        assert_eq!(model.written, model.set, "{seed}");
        assert_eq!(queue.not_done(u64::MAX), 0);
        let is_newest = |position: &u64| model.set.values().any(|newest| newest == position);
        assert!(!positions.iter().any(is_newest), "{seed}");
    }

    #[test]
    fn the_newest_value_is_written_last_whatever_happens() {
        (0..500).for_each(storm);
    }
}
