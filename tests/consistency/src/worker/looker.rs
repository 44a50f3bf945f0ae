//! [`Looker`]: looks past L1, at what the server has.
//!
//! Over a cache of its own, one look at a time: nothing is shared with a walk that began earlier. So what it is
//! given was read at the server after it asked, and there everything acknowledged is final.

use std::{collections::HashMap, sync::Arc, time::Duration};

use fastrand::Rng;
use tiered::Tiered;
use tokio::time::sleep;

use super::world::{Notes, World, random};
use crate::{
    clock::{MILLISECOND, now},
    judge::{Read, Verdict, judge},
    keys,
    tally::Count,
    value::Stored,
};

#[derive(Debug)]
pub(crate) struct Looker {
    world: Arc<World>,
    /// `None` for one that cannot be built, which the worker's own cache would have told of.
    glass: Option<Tiered>,
    notes: Notes,
    random: Rng,
    /// Keys with the acknowledgement that was told to have come to nothing.
    undone: HashMap<u32, u64>,
}

impl Looker {
    pub(crate) fn new(world: &Arc<World>, number: u64) -> Self {
        Self {
            world: Arc::clone(world),
            glass: world.settings.mode.glass(&world.settings.direct).ok(),
            notes: Notes::new(world),
            random: random(&world.settings, 3, number),
            undone: HashMap::new(),
        }
    }

    pub(crate) async fn run(mut self) {
        while !self.world.is_quiet() {
            let keys = self.world.settings.keys;
            let key = match self.random.bool() {
                true => self.random.u32(..keys),
                false => keys::hot(&mut self.random, keys),
            };
            self.look(key).await;
            sleep(Duration::from_micros(self.random.u64(..1_000))).await;
        }
    }

    pub(crate) async fn look_at_last(&mut self, key: u32) {
        self.notes.count(Count::LastLooks);
        self.look(key).await;
    }

    async fn look(&mut self, key: u32) {
        let Some(glass) = &self.glass else { return };
        let from = now();
        let found = glass.key(self.world.key(key)).get::<Stored>().await;
        self.notes.count(Count::Looks);
        match found {
            Ok(Some(stored)) => self.see(key, from, &stored),
            Ok(None) => self.notes.count(Count::Absent),
            Err(_) => self.notes.count(Count::Silent),
        }
        self.notes.at(now());
    }

    fn see(&mut self, key: u32, from: u64, stored: &Stored) {
        let version = stored.version;
        if !stored.is_of(key) {
            let what =
                format_args!("wrong value in L2: key {key} holds what is not its own, at {from}");
            return self.notes.violation(Count::Wrong, what);
        }
        match judge(&self.world.ledger, Read { key, version, from }) {
            Ok(Verdict::Fresh) => {}
            Ok(Verdict::Stale(stale)) => {
                if self.undone.insert(key, stale.version) != Some(stale.version) {
                    self.world.say(format_args!("undone {key}:{}", stale.version));
                }
                self.notes.violation(
                    Count::StaleFills,
                    format_args!(
                    "stale fill: L2 holds version {version} of key {key} at {from}; version {} was acknowledged at \
                     {}, {} ms earlier",
                    stale.version,
                    stale.since,
                    stale.by / MILLISECOND
                    ),
                );
            }
            Ok(Verdict::Invented { committed }) => self.notes.violation(
                Count::Wrong,
                format_args!("wrong value in L2: version {version} of key {key} at {from}; the last was {committed}"),
            ),
            Err(error) => self.notes.violation(Count::Wrong, format_args!("the ledger failed: {error}")),
        }
    }
}
