//! Write-behind: a value that is lost unseen, written twice in the wrong order, or hidden by the old one.

mod calls;
mod ends;
mod journal;
mod kill;
mod losses;
mod order;
mod reads;

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tiered::{
    Ack, Error, Failed, Loss, LossReason, Postcard, WriteBehind, WriteBehindBuilder, WriteSink,
};
use tokio::sync::Semaphore;

use crate::support::{DbDown, Rig, SECOND, State, eventually, node, rig};

const MS: Duration = Duration::from_millis(1);

type Builder = WriteBehindBuilder<u32, u64, Postcard>;
type Behind = WriteBehind<u32, u64>;

/// Rows that are written together.
type Batch = Vec<(u32, u64)>;

/// What the sink does with the next write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mood {
    Well,
    /// Everything fails.
    Down,
    /// Never answers.
    Hanging,
    Panicking,
    /// These values fail, with all that are in their batch.
    Poisoned(u64),
    /// These values fail, and only they.
    Picky(u64),
    /// These values are refused for good, and only they.
    Refusing(u64),
}

/// A database that remembers all that was ever written to it.
#[derive(Clone, Debug)]
struct Db {
    rows: Arc<Mutex<HashMap<u32, u64>>>,
    writes: Arc<Mutex<Vec<Batch>>>,
    tried: Arc<AtomicUsize>,
    mood: Arc<Mutex<Mood>>,
    /// Permits for writes, where there are so many that none is wanting.
    gate: Arc<Semaphore>,
    begun: Arc<AtomicUsize>,
}

impl Db {
    fn new() -> Self {
        Self {
            rows: Arc::default(),
            writes: Arc::default(),
            tried: Arc::default(),
            mood: Arc::new(Mutex::new(Mood::Well)),
            gate: Arc::new(Semaphore::new(1 << 20)),
            begun: Arc::default(),
        }
    }

    /// Its writes wait for `admit`.
    fn gated(self) -> Self {
        Self { gate: Arc::new(Semaphore::new(0)), ..self }
    }

    fn admit(&self, writes: usize) {
        self.gate.add_permits(writes);
    }

    fn mood(&self, mood: Mood) {
        *self.mood.lock().unwrap() = mood;
    }

    fn put(&self, key: u32, value: u64) {
        self.rows.lock().unwrap().insert(key, value);
    }

    fn row(&self, key: u32) -> Option<u64> {
        self.rows.lock().unwrap().get(&key).copied()
    }

    /// What was written, batch by batch.
    fn writes(&self) -> Vec<Batch> {
        self.writes.lock().unwrap().clone()
    }

    fn tried(&self) -> usize {
        self.tried.load(Ordering::SeqCst)
    }

    /// Writes that have begun, and may wait at the gate.
    fn begun(&self) -> usize {
        self.begun.load(Ordering::SeqCst)
    }

    async fn load(&self, key: u32) -> Result<u64, DbDown> {
        self.row(key).ok_or(DbDown)
    }

    fn keep(&self, batch: Batch) {
        let mut rows = self.rows.lock().unwrap();
        rows.extend(batch.iter().copied());
        self.writes.lock().unwrap().push(batch);
    }
}

impl WriteSink<u32, u64> for Db {
    async fn write(&self, batch: Vec<(u32, Arc<u64>)>) -> Result<(), Failed> {
        self.begun.fetch_add(1, Ordering::SeqCst);
        self.gate.acquire().await.unwrap().forget();
        self.tried.fetch_add(1, Ordering::SeqCst);
        let batch: Batch = batch.into_iter().map(|(key, value)| (key, *value)).collect();
        let mood = *self.mood.lock().unwrap();
        let at = |poison| batch.iter().position(|(_, value)| *value == poison);
        match mood {
            Mood::Well => {}
            Mood::Down => return Err(DbDown.into()),
            Mood::Hanging => std::future::pending().await,
            Mood::Panicking => panic!("a row of lead"),
            Mood::Poisoned(poison) => {
                if at(poison).is_some() {
                    return Err(DbDown.into());
                }
            }
            Mood::Picky(poison) | Mood::Refusing(poison) => {
                if let Some(place) = at(poison) {
                    let mut rest = batch.clone();
                    rest.remove(place);
                    self.keep(rest);
                    let failed = Failed::at([place], DbDown);
                    let is_final = mood == Mood::Refusing(poison);
                    return Err(if is_final { failed.for_good() } else { failed });
                }
            }
        }
        self.keep(batch);
        Ok(())
    }
}

/// What was reported as lost: values with their reasons.
#[derive(Clone, Debug, Default)]
struct Losses(Arc<Mutex<Vec<(u64, LossReason)>>>);

impl Losses {
    fn note(&self, loss: &Loss<u32, u64>) {
        assert_eq!(loss.count, loss.entries.len());
        let values = loss.entries.iter().map(|(_, value)| (**value, loss.reason.clone()));
        self.0.lock().unwrap().extend(values);
    }

    /// The values, each with its reason's name, in their order.
    fn all(&self) -> Vec<(u64, &'static str)> {
        let losses = self.0.lock().unwrap();
        let mut all: Vec<_> =
            losses.iter().map(|(value, reason)| (*value, reason.as_str())).collect();
        all.sort_unstable();
        all
    }
}

fn behind_with(rig: &Rig, db: &Db, change: impl FnOnce(Builder) -> Builder) -> (Behind, Losses) {
    let losses = Losses::default();
    let noted = losses.clone();
    let builder = rig
        .cache
        .write_behind(db.clone())
        .every(50 * MS)
        .retries(3)
        .backoff(100 * MS, SECOND)
        .write_timeout(SECOND)
        .flush_within(5 * SECOND)
        .on_loss(move |loss| noted.note(&loss));
    (change(builder).build().unwrap(), losses)
}

fn behind(rig: &Rig, db: &Db) -> (Behind, Losses) {
    behind_with(rig, db, |builder| builder)
}

async fn set(behind: &Behind, key: u32, value: u64) {
    assert_eq!(behind.set(key, value).await.unwrap(), Ack::Done);
}
