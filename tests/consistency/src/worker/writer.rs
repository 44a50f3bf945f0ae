//! [`Writer`]: changes the database, and then invalidates what the caches have of it.
//!
//! An invalidation that was final is written down with the time of its return. One that is pending, or was given
//! up midway, binds this process only.

use std::{sync::Arc, time::Duration};

use fastrand::Rng;
use futures_util::future::join;
use tiered::{Ack, Error};
use tokio::time::{sleep, timeout};

use super::world::{Notes, World, random};
use crate::{
    clock::now,
    keys::{self, Habit},
    tally::Count,
    value::Stored,
};

/// Keys of a batch.
const BATCH: usize = 6;
/// How long a writer rests between two changes, at most.
const REST: Duration = Duration::from_millis(20);

#[derive(Debug)]
pub(crate) struct Writer {
    world: Arc<World>,
    number: u64,
    notes: Notes,
    random: Rng,
}

impl Writer {
    pub(crate) fn new(world: &Arc<World>, number: u64) -> Self {
        let random = random(&world.settings, 2, number);
        Self { world: Arc::clone(world), number, notes: Notes::new(world), random }
    }

    pub(crate) async fn run(mut self) {
        while !self.world.is_quiet() {
            let key = self.choose();
            match (Habit::of(key), self.random.u32(..100)) {
                (Habit::Written, _) if !self.owns(key) => continue,
                (Habit::Written, 0..60) => self.set(key).await,
                (Habit::Written, 60..85) => self.set_twice(key).await,
                (Habit::Tagged, 0..95) => self.invalidate_tag(key).await,
                (_, 0..5) => self.give_up(key).await,
                (_, 5..10) => self.invalidate_many(key).await,
                // One after the other, without a rest.
                (_, 10..12) => {
                    for _ in 0..10 {
                        self.invalidate(key).await;
                    }
                }
                _ => self.invalidate(key).await,
            }
            self.notes.at(now());
            sleep(REST.mul_f64(self.random.f64())).await;
        }
    }

    fn choose(&mut self) -> u32 {
        let keys = self.world.settings.keys;
        match self.random.bool() {
            true => self.random.u32(..keys),
            false => keys::hot(&mut self.random, keys),
        }
    }

    /// Whether this writer, and no other of any worker, writes this key.
    fn owns(&self, key: u32) -> bool {
        let settings = &self.world.settings;
        let place = settings.number * settings.writers + self.number;
        u64::from(key / 16) % (settings.workers * settings.writers) == place
    }

    async fn invalidate(&mut self, key: u32) {
        let world = Arc::clone(&self.world);
        let Ok(version) = world.link.commit(key).await else { return };
        let answer = world.cache.invalidate(world.key(key)).await;
        self.note(key, version, now(), answer).await;
    }

    async fn invalidate_tag(&mut self, key: u32) {
        let world = Arc::clone(&self.world);
        let Ok(version) = world.link.commit(key).await else { return };
        let answer = world.cache.invalidate_tag(keys::tag(key).0).await;
        self.note(key, version, now(), answer).await;
    }

    async fn set(&mut self, key: u32) {
        let world = Arc::clone(&self.world);
        let Ok(version) = world.link.commit(key).await else { return };
        let answer = world.cache.set(world.key(key), Stored::new(key, version)).await;
        self.note(key, version, now(), answer).await;
    }

    /// Two writes at once: nobody knows which the server executes last, so neither may be left unless it is the
    /// newer.
    async fn set_twice(&mut self, key: u32) {
        let world = Arc::clone(&self.world);
        let (Ok(older), Ok(newer)) = (world.link.commit(key).await, world.link.commit(key).await)
        else {
            return;
        };
        let set = |version| world.cache.set(world.key(key), Stored::new(key, version));
        let (first, last) = join(set(older), set(newer)).await;
        // Only now: what the older one stores before it returns is nobody's fault.
        match first {
            Ok(Ack::Done | Ack::Superseded) => self.note(key, newer, now(), last).await,
            Ok(Ack::Pending) => self.note(key, newer, now(), last.and(Ok(Ack::Pending))).await,
            Err(_) => self.note(key, older, now(), first).await,
        }
    }

    /// Its caller does not wait for the end: the key is invalidated all the same.
    async fn give_up(&mut self, key: u32) {
        let world = Arc::clone(&self.world);
        let Ok(version) = world.link.commit(key).await else { return };
        let patience = Duration::from_micros(self.random.u64(..2_000));
        match timeout(patience, world.cache.invalidate(world.key(key))).await {
            Ok(answer) => self.note(key, version, now(), answer).await,
            Err(_) => {
                world.raise_floor(key, version);
                self.notes.count(Count::Dropped);
            }
        }
    }

    async fn invalidate_many(&mut self, first: u32) {
        let world = Arc::clone(&self.world);
        let mut keys = vec![first];
        for _ in 1..BATCH {
            let key = self.choose();
            if Habit::of(key) != Habit::Written && !keys.contains(&key) {
                keys.push(key);
            }
        }
        let mut changed = Vec::with_capacity(keys.len());
        for key in keys {
            if let Ok(version) = world.link.commit(key).await {
                changed.push((key, version));
            }
        }
        let names = changed.iter().map(|(key, _)| world.key(*key));
        let answers = world.cache.invalidate_many(names).await;
        let returned = now();
        for ((key, version), answer) in changed.into_iter().zip(answers) {
            self.note(key, version, returned, answer).await;
        }
    }

    /// Writes down what became of a version's invalidation, which has returned by then.
    async fn note(&mut self, key: u32, version: u64, returned: u64, answer: Result<Ack, Error>) {
        match answer {
            Ok(ack) => {
                self.world.raise_floor(key, version);
                match ack {
                    // Of sets without a version none is superseded.
                    Ack::Done | Ack::Superseded => {
                        self.world.link.acked(key, version, returned).await;
                        self.notes.count(Count::Acked);
                    }
                    Ack::Pending => self.notes.count(Count::Pending),
                }
            }
            Err(error) => {
                let what = format_args!(
                    "error: an invalidation of key {key} failed at {returned}: {error}"
                );
                self.notes.violation(Count::Refused, what);
            }
        }
    }
}
