//! [`Reader`]: reads through the worker's cache, in all the ways there are.

use std::{
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use fastrand::Rng;
use tiered::{Answer, CacheStrategy, Error, Key, Outcome, Request};
use tokio::{
    task::yield_now,
    time::{sleep, timeout},
};

use super::{
    landing::{How, Landing},
    world::{Notes, World, random},
};
use crate::{
    clock::now,
    keys::{self, Habit},
    link::DatabaseFailed,
    tally::Count,
    value::Stored,
};

/// Reads between two rests.
const ROW: usize = 64;
/// Keys of a batch.
const BATCH: usize = 8;

#[derive(Debug)]
pub(crate) struct Reader {
    world: Arc<World>,
    notes: Notes,
    random: Rng,
}

impl Reader {
    pub(crate) fn new(world: &Arc<World>, number: u64) -> Self {
        let random = random(&world.settings, 1, number);
        Self { world: Arc::clone(world), notes: Notes::new(world), random }
    }

    pub(crate) async fn run(mut self) {
        while !self.world.is_quiet() {
            for _ in 0..ROW {
                self.read().await;
            }
            match self.world.settings.pause {
                0 => yield_now().await,
                pause => sleep(Duration::from_micros(self.random.u64(..2 * pause))).await,
            }
        }
    }

    async fn read(&mut self) {
        let key = keys::hot(&mut self.random, self.world.settings.keys);
        let roll = self.random.u32(..1_000);
        match (Habit::of(key), roll) {
            (_, 0..40) => self.look(key).await,
            (Habit::Tagged, _) => self.read_tagged(key).await,
            (Habit::Volatile, 40..500) => self.read_behind(key).await,
            (Habit::Volatile, _) => self.read_briefly(key).await,
            (Habit::Fickle, 40..240) => self.give_up(key).await,
            (Habit::Forced, 40..240) => self.force(key, CacheStrategy::Bypass).await,
            (Habit::Forced, 240..290) => self.force(key, CacheStrategy::Invalidate).await,
            (_, 40..45) => self.read_many(key).await,
            (_, 45..145) => self.read_with_outcome(key).await,
            _ => self.read_plainly(key).await,
        }
    }

    /// The short form, which does not tell how it ended. What is there at once came out of L1.
    pub(crate) async fn read_plainly(&mut self, key: u32) {
        let world = Arc::clone(&self.world);
        let landing = Landing::begin(&world, key);
        let (has_asked, has_loaded) = (AtomicBool::new(false), AtomicBool::new(false));
        let read = world.cache.get_or_load(world.key(key), || async {
            has_asked.store(true, Ordering::Relaxed);
            let loaded = load(&world, key, is_counted(key)).await;
            has_loaded.store(loaded.is_ok(), Ordering::Relaxed);
            loaded
        });
        let (found, at_once) = polled(read).await;
        let has_asked = has_asked.load(Ordering::Relaxed);
        let how = match (has_loaded.load(Ordering::Relaxed), at_once && !has_asked) {
            (true, _) => How::Loaded,
            (false, true) if world.settings.mode.local_bound().is_some() => How::Local,
            (false, _) => How::Somewhere,
        };
        self.land(landing, found.map(|stored| Some((stored, how))));
    }

    async fn read_with_outcome(&mut self, key: u32) {
        let world = Arc::clone(&self.world);
        let landing = Landing::begin(&world, key);
        let read = world.cache.key(world.key(key));
        let found = read.load(async |_| load(&world, key, is_counted(key)).await.map(Some)).await;
        self.land(landing, found.map(told));
    }

    async fn read_tagged(&mut self, key: u32) {
        let world = Arc::clone(&self.world);
        let landing = Landing::begin(&world, key);
        let (tag, is_revealed) = keys::tag(key);
        let read = world.cache.key(world.key(key));
        let read = if is_revealed { read } else { read.tags([&tag]) };
        let found = read.load(async |context| {
            let loaded = load(&world, key, false).await?;
            if is_revealed {
                context.tags([&tag]);
            }
            Ok::<_, DatabaseFailed>(Some(loaded))
        });
        let found = found.await;
        self.land(landing, found.map(told));
    }

    /// The database is never asked.
    async fn look(&mut self, key: u32) {
        let world = Arc::clone(&self.world);
        let landing = Landing::begin(&world, key);
        let found = world.cache.key(world.key(key)).lookup::<Stored>().await;
        // The one way to read that reports a failing server.
        if !matches!(found, Err(Error::Backend(_))) {
            self.land(landing, found.map(told));
        }
    }

    async fn read_briefly(&mut self, key: u32) {
        let world = Arc::clone(&self.world);
        let landing = Landing::begin(&world, key);
        let read = briefly(world.cache.key(world.key(key)));
        let found = read.load(async |_| load(&world, key, false).await.map(Some)).await;
        self.land(landing, found.map(told));
    }

    async fn read_behind(&mut self, key: u32) {
        let world = Arc::clone(&self.world);
        let landing = Landing::begin(&world, key);
        let own = Arc::clone(&world);
        let read = briefly(world.cache.key(world.key(key)));
        let found = read
            .load_detached(move |_| async move { load(&own, key, false).await.map(Some) })
            .await;
        self.land(landing, found.map(told));
    }

    /// Whoever loaded it did so after this call had begun.
    async fn force(&mut self, key: u32, strategy: CacheStrategy) {
        let world = Arc::clone(&self.world);
        let landing = Landing::begin(&world, key);
        let read = world.cache.key(world.key(key)).strategy(strategy);
        let found = read.load(async |_| load(&world, key, false).await.map(Some)).await;
        let forced = |answer| told(answer).map(|(stored, _)| (stored, How::Loaded));
        self.land(landing, found.map(forced));
    }

    /// Its caller does not wait for the end.
    async fn give_up(&mut self, key: u32) {
        let world = Arc::clone(&self.world);
        let landing = Landing::begin(&world, key);
        let read = world.cache.key(world.key(key));
        let read = read.load(async |_| load(&world, key, false).await.map(Some));
        let patience = Duration::from_micros(self.random.u64(..3_000));
        match timeout(patience, read).await {
            Ok(found) => self.land(landing, found.map(told)),
            Err(_) => self.notes.count(Count::GivenUp),
        }
    }

    async fn read_many(&mut self, first: u32) {
        let world = Arc::clone(&self.world);
        let mut landings = vec![Landing::begin(&world, first)];
        for _ in 1..BATCH {
            let key = keys::hot(&mut self.random, world.settings.keys);
            if Habit::of(key) == Habit::Plain && landings.iter().all(|landing| landing.key != key) {
                landings.push(Landing::begin(&world, key));
            }
        }
        let keys: Vec<u32> = landings.iter().map(|landing| landing.key).collect();
        let has_asked = AtomicBool::new(false);
        let named = keys.iter().map(|key| Named(*key, world.key(*key).clone()));
        let found = world.cache.get_or_load_many(named, async |missing: Vec<Named>| {
            has_asked.store(true, Ordering::Relaxed);
            let mut loaded = Vec::with_capacity(missing.len());
            for named in missing {
                let stored = load(&world, named.0, is_counted(named.0)).await?;
                loaded.push((named, stored));
            }
            Ok::<_, DatabaseFailed>(loaded)
        });
        let (found, at_once) = polled(found).await;
        let is_local = at_once
            && !has_asked.load(Ordering::Relaxed)
            && world.settings.mode.local_bound().is_some();
        let how = if is_local { How::Local } else { How::Somewhere };
        for (landing, found) in landings.into_iter().zip(found) {
            self.land(landing, found.map(|found| found.map(|stored| (stored, how))));
        }
    }

    fn land(&mut self, landing: Landing, found: Result<Option<(Arc<Stored>, How)>, Error>) {
        let until = now();
        match found {
            Ok(Some((stored, how))) => {
                landing.judge(&self.world, &mut self.notes, &stored, how, until)
            }
            Ok(None) => self.notes.count(Count::Missed),
            Err(error) if error.loader_error::<DatabaseFailed>().is_some() => {
                self.notes.count(Count::DatabaseFailed);
            }
            Err(error) => self.notes.violation(
                Count::Failed,
                format_args!("error: a read of key {} failed at {until}: {error}", landing.key),
            ),
        }
        self.notes.at(until);
    }
}

/// A key of a batch.
#[derive(Clone, Debug)]
struct Named(u32, Key);

impl From<Named> for Key {
    fn from(named: Named) -> Self {
        named.1
    }
}

async fn load(world: &World, key: u32, counted: bool) -> Result<Stored, DatabaseFailed> {
    Ok(Stored::new(key, world.link.load(key, counted).await?))
}

fn is_counted(key: u32) -> bool {
    Habit::of(key) == Habit::Plain
}

fn briefly<'a, C>(request: Request<'a, C>) -> Request<'a, C> {
    request.fresh_for(Duration::from_millis(300)).stale_for(Duration::from_secs(2))
}

fn told(answer: Answer<Stored>) -> Option<(Arc<Stored>, How)> {
    let how = match answer.outcome {
        Outcome::HitL1 => How::Local,
        Outcome::HitL2 => How::Remote,
        Outcome::Load => How::Loaded,
        Outcome::Shared => How::Shared,
        _ => How::Past,
    };
    answer.value.map(|stored| (stored, how))
}

/// What a future says, and whether it said so when it was first asked.
async fn polled<F: Future>(future: F) -> (F::Output, bool) {
    let (mut future, mut polls) = (pin!(future), 0);
    let output = std::future::poll_fn(|context| {
        polls += 1;
        future.as_mut().poll(context)
    });
    let output = output.await;
    (output, polls == 1)
}
