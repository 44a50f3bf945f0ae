//! Write-behind: a value that is lost unseen, written twice in the wrong order, or hidden by the old one.

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

#[tokio::test(start_paused = true)]
async fn the_cache_has_a_value_at_once_and_the_database_a_moment_later() {
    let (rig, db) = (rig(), Db::new());
    let (behind, losses) = behind(&rig, &db);
    set(&behind, 1, 10).await;
    assert_eq!(rig.cache.get::<u64>(1).await.unwrap().as_deref(), Some(&10));
    let elsewhere = node(&rig.l2, &rig.clock, |builder| builder);
    assert_eq!(elsewhere.get::<u64>(1).await.unwrap().as_deref(), Some(&10), "in L2 as well");
    assert_eq!(db.row(1), None);
    tokio::time::sleep(60 * MS).await;
    assert_eq!(db.row(1), Some(10));
    let stats = behind.stats();
    assert_eq!((stats.queued, stats.set, stats.written, stats.lost), (0, 1, 1, 0));
    assert_eq!(losses.all(), []);
}

#[tokio::test(start_paused = true)]
async fn of_several_values_of_a_key_only_the_last_is_written() {
    let (rig, db) = (rig(), Db::new());
    let (behind, _) = behind(&rig, &db);
    for value in 1..=100 {
        set(&behind, 1, value).await;
    }
    set(&behind, 2, 7).await;
    assert!(behind.flush().await.is_whole());
    assert_eq!(db.writes(), [[(1, 100), (2, 7)]]);
    assert_eq!((behind.stats().coalesced, behind.stats().written), (99, 2));
}

#[tokio::test(start_paused = true)]
async fn a_full_batch_is_written_at_once_and_the_rest_when_its_time_has_come() {
    let (rig, db) = (rig(), Db::new());
    let (behind, _) = behind_with(&rig, &db, |builder| builder.batch(4));
    let start = tokio::time::Instant::now();
    for key in 0..10 {
        set(&behind, key, 1).await;
    }
    eventually("two full batches", || db.writes().len() == 2).await;
    assert!(start.elapsed() < 50 * MS, "{:?}", start.elapsed());
    eventually("the rest", || db.writes().len() == 3).await;
    assert!(start.elapsed() >= 50 * MS);
    assert_eq!(db.writes().iter().map(Vec::len).collect::<Vec<_>>(), [4, 4, 2]);
}

#[tokio::test(start_paused = true)]
async fn a_newer_value_is_written_after_the_one_that_is_being_written() {
    let (rig, db) = (rig(), Db::new().gated());
    let (behind, _) = behind(&rig, &db);
    set(&behind, 1, 1).await;
    eventually("the first write", || db.begun() == 1).await;
    set(&behind, 1, 2).await;
    tokio::time::sleep(500 * MS).await;
    assert_eq!(db.begun(), 1, "two writes of a key at once");
    db.admit(2);
    assert!(behind.flush().await.is_whole());
    assert_eq!(db.writes(), [[(1, 1)], [(1, 2)]]);
}

#[tokio::test(start_paused = true)]
async fn an_old_value_that_failed_is_not_tried_again_over_a_newer_one() {
    for mood in [Mood::Down, Mood::Hanging, Mood::Panicking] {
        let (rig, db) = (rig(), Db::new().gated());
        db.mood(mood);
        let (behind, losses) = behind(&rig, &db);
        set(&behind, 1, 1).await;
        eventually("the first write", || db.begun() == 1).await;
        set(&behind, 1, 2).await;
        db.admit(1);
        eventually("the failure", || behind.stats().retried == 1).await;
        db.mood(Mood::Well);
        db.admit(9);
        assert!(behind.flush().await.is_whole());
        assert_eq!(db.writes(), [[(1, 2)]], "{mood:?}");
        assert_eq!(behind.stats().coalesced, 1);
        assert_eq!(losses.all(), []);
        assert_eq!(rig.cache.get::<u64>(1).await.unwrap().as_deref(), Some(&2));
    }
}

#[tokio::test(start_paused = true)]
async fn a_retried_value_is_written_before_one_that_is_set_later() {
    let (rig, db) = (rig(), Db::new());
    let (behind, _) = behind(&rig, &db);
    db.mood(Mood::Down);
    set(&behind, 1, 1).await;
    eventually("a failure", || behind.stats().retried == 1).await;
    db.mood(Mood::Well);
    eventually("the retry", || db.row(1) == Some(1)).await;
    set(&behind, 1, 2).await;
    assert!(behind.flush().await.is_whole());
    assert_eq!(db.writes(), [[(1, 1)], [(1, 2)]]);
}

#[tokio::test(start_paused = true)]
async fn a_full_queue_refuses_other_keys_and_nothing_is_changed() {
    let (rig, db) = (rig(), Db::new().gated());
    let (behind, losses) = behind_with(&rig, &db, |builder| builder.max_pending(3));
    for key in 0..3 {
        set(&behind, key, 1).await;
    }
    assert!(matches!(behind.set(9, 1).await, Err(Error::Overloaded)));
    assert_eq!(rig.cache.get::<u64>(9).await.unwrap(), None, "refused, and cached");
    set(&behind, 2, 2).await;
    assert_eq!((behind.stats().queued, behind.stats().overloaded), (3, 1));
    db.admit(9);
    assert!(behind.flush().await.is_whole());
    set(&behind, 9, 1).await;
    assert!(behind.shutdown().await.is_whole());
    assert_eq!((db.row(2), db.row(9)), (Some(2), Some(1)));
    assert_eq!(losses.all(), []);
}

#[tokio::test(start_paused = true)]
async fn callers_at_once_never_overfill_the_queue() {
    let (rig, db) = (rig(), Db::new().gated());
    let (behind, _) = behind_with(&rig, &db, |builder| builder.max_pending(5));
    let calls = (0..50).map(|key| {
        let behind = behind.clone();
        tokio::spawn(async move { behind.set(key, 1).await.is_ok() })
    });
    let calls: Vec<_> = calls.collect();
    let mut taken = 0;
    for call in calls {
        taken += usize::from(call.await.unwrap());
    }
    assert_eq!((taken, behind.stats().queued), (5, 5));
}

#[tokio::test(start_paused = true)]
async fn what_fails_for_good_is_reported_once_for_each_value_with_its_reason() {
    for (mood, reason) in
        [(Mood::Down, "failed"), (Mood::Hanging, "timed_out"), (Mood::Panicking, "panicked")]
    {
        let (rig, db) = (rig(), Db::new());
        db.mood(mood);
        let (behind, losses) = behind(&rig, &db);
        for key in 0..3 {
            set(&behind, key, 10 + u64::from(key)).await;
        }
        eventually("the losses", || behind.stats().lost == 3).await;
        assert_eq!(losses.all(), [(10, reason), (11, reason), (12, reason)], "{mood:?}");
        // One write of all, then ever smaller ones: 3, 3, 2 + 1, 1 + 1 + 1.
        assert_eq!(behind.stats().retried, 9);
        assert_eq!((behind.stats().queued, behind.stats().written), (0, 0));
        for key in 0..3_u32 {
            let cached = rig.cache.get::<u64>(key).await.unwrap();
            assert_eq!(cached, None, "the cache shows what the database will never have");
        }
        db.mood(Mood::Well);
        set(&behind, 0, 99).await;
        assert!(behind.shutdown().await.is_whole(), "{mood:?}");
        assert_eq!(db.writes(), [[(0, 99)]], "{mood:?}");
        assert_eq!(losses.all().len(), 3);
    }
}

#[tokio::test(start_paused = true)]
async fn a_sinks_own_error_comes_back_with_the_loss() {
    let (rig, db) = (rig(), Db::new());
    db.mood(Mood::Refusing(7));
    let (behind, losses) = behind(&rig, &db);
    set(&behind, 1, 7).await;
    let flushed = behind.flush().await;
    assert_eq!((flushed.lost, flushed.left), (1, 0));
    let reason = losses.0.lock().unwrap().pop().unwrap().1;
    let LossReason::Refused(error) = reason else { panic!("{reason:?}") };
    assert_eq!(error.downcast_ref::<DbDown>(), Some(&DbDown));
    assert_eq!(db.tried(), 1, "tried again for nothing");
}

#[tokio::test(start_paused = true)]
async fn one_bad_value_takes_no_other_along() {
    for mood in [Mood::Poisoned(13), Mood::Picky(13), Mood::Refusing(13)] {
        let (rig, db) = (rig(), Db::new());
        db.mood(mood);
        let (behind, losses) = behind(&rig, &db);
        for key in 0..50 {
            set(&behind, key, u64::from(key)).await;
        }
        eventually("the loss", || behind.stats().lost == 1).await;
        eventually("the others", || behind.stats().written == 49).await;
        let reason = if mood == Mood::Refusing(13) { "refused" } else { "failed" };
        assert_eq!(losses.all(), [(13, reason)], "{mood:?}");
        assert_eq!(db.row(13), None);
        assert!((0..50).filter(|key| *key != 13).all(|key| db.row(key).is_some()));
    }
}

#[tokio::test(start_paused = true)]
async fn a_listener_that_panics_takes_nothing_along() {
    let (rig, db) = (rig(), Db::new());
    db.mood(Mood::Refusing(1));
    let (behind, _) =
        behind_with(&rig, &db, |builder| builder.on_loss(|_| panic!("no more, please")));
    set(&behind, 1, 1).await;
    set(&behind, 2, 2).await;
    assert_eq!(behind.flush().await.lost, 1);
    set(&behind, 3, 3).await;
    assert!(behind.flush().await.is_whole());
    assert_eq!((db.row(2), db.row(3)), (Some(2), Some(3)));
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_writes_what_is_queued_and_takes_no_more() {
    let (rig, db) = (rig(), Db::new());
    let (behind, losses) = behind_with(&rig, &db, |builder| builder.every(SECOND).batch(10));
    for key in 0..25 {
        set(&behind, key, 1).await;
    }
    let start = tokio::time::Instant::now();
    assert!(behind.shutdown().await.is_whole());
    assert!(start.elapsed() < SECOND, "it waited for company");
    assert_eq!(db.rows.lock().unwrap().len(), 25);
    assert!(matches!(behind.set(1, 2).await, Err(Error::Config(_))));
    assert_eq!(rig.cache.get::<u64>(1).await.unwrap().as_deref(), Some(&1), "refused, and cached");
    assert!(behind.shutdown().await.is_whole(), "a second one has nothing to do");
    assert_eq!(losses.all(), []);
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_that_cannot_write_reports_in_time() {
    for mood in [Mood::Down, Mood::Hanging, Mood::Panicking] {
        let (rig, db) = (rig(), Db::new());
        db.mood(mood);
        let (behind, losses) =
            behind_with(&rig, &db, |builder| builder.retries(1_000).flush_within(3 * SECOND));
        set(&behind, 1, 1).await;
        set(&behind, 2, 2).await;
        let start = tokio::time::Instant::now();
        assert_eq!(behind.shutdown().await.lost, 2);
        assert!((3 * SECOND..4 * SECOND).contains(&start.elapsed()), "{:?}", start.elapsed());
        assert_eq!(losses.all(), [(1, "closed"), (2, "closed")], "{mood:?}");
        assert_eq!(rig.cache.get::<u64>(1).await.unwrap(), None);
        assert_eq!(behind.stats().queued, 0);
    }
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_does_not_wait_for_a_backoff() {
    let (rig, db) = (rig(), Db::new());
    db.mood(Mood::Down);
    let hour = 3_600 * SECOND;
    let (behind, losses) = behind_with(&rig, &db, |builder| builder.backoff(hour, hour));
    set(&behind, 1, 1).await;
    eventually("a failure", || behind.stats().retried == 1).await;
    db.mood(Mood::Well);
    assert!(behind.shutdown().await.is_whole());
    assert_eq!((db.row(1), losses.all()), (Some(1), vec![]));
}

#[tokio::test(start_paused = true)]
async fn a_flush_tells_what_is_left_and_waits_for_nothing_newer() {
    let (rig, db) = (rig(), Db::new().gated());
    let (behind, _) = behind_with(&rig, &db, |builder| builder.write_timeout(60 * SECOND));
    set(&behind, 1, 1).await;
    let flushed = behind.flush().await;
    assert_eq!((flushed.left, flushed.lost), (1, 0), "the sink waits at the gate");
    db.admit(1);
    let newer = async {
        tokio::task::yield_now().await;
        set(&behind, 2, 2).await;
    };
    let (flushed, ()) = tokio::join!(behind.flush(), newer);
    assert!(flushed.is_whole(), "{flushed:?}");
    assert_eq!(db.row(2), None);
}

#[tokio::test(start_paused = true)]
async fn the_end_of_the_last_handle_writes_what_is_queued() {
    let (rig, db) = (rig(), Db::new());
    let (behind, losses) = behind_with(&rig, &db, |builder| builder.every(60 * SECOND));
    let clone = behind.clone();
    set(&behind, 1, 1).await;
    drop(behind);
    tokio::time::sleep(SECOND).await;
    assert_eq!(db.row(1), None, "another handle is there");
    drop(clone);
    eventually("the write", || db.row(1) == Some(1)).await;
    assert_eq!(losses.all(), []);
}

#[tokio::test(start_paused = true)]
async fn the_end_of_the_last_handle_reports_what_it_cannot_write() {
    let (rig, db) = (rig(), Db::new());
    db.mood(Mood::Hanging);
    let (behind, losses) = behind_with(&rig, &db, |builder| builder.retries(1_000));
    set(&behind, 1, 1).await;
    drop(behind);
    eventually("the loss", || losses.all() == [(1, "closed")]).await;
    assert_eq!(rig.cache.get::<u64>(1).await.unwrap(), None);
}

/// Runs on a runtime of its own, which is gone then.
fn on_a_runtime<R>(future: impl Future<Output = R>) -> R {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(future)
}

#[test]
fn what_a_runtime_leaves_behind_the_next_one_writes() {
    let (rig, db) = (rig(), Db::new().gated());
    let (behind, losses) = behind(&rig, &db);
    on_a_runtime(async {
        set(&behind, 1, 1).await;
        set(&behind, 2, 2).await;
        eventually("the write", || db.begun() == 1).await;
        set(&behind, 2, 22).await;
    });
    db.admit(9);
    on_a_runtime(async {
        set(&behind, 3, 3).await;
        assert!(behind.flush().await.is_whole());
    });
    assert_eq!((db.row(1), db.row(2), db.row(3)), (Some(1), Some(22), Some(3)));
    assert!(!db.writes().concat().contains(&(2, 2)), "an old value, of which nobody knew");
    assert_eq!(losses.all(), []);
}

#[test]
fn what_nobody_can_write_any_more_is_reported() {
    let (rig, db) = (rig(), Db::new().gated());
    // The handle goes first, and the runtime with the task before its write has ended.
    let (first, losses) = behind(&rig, &db);
    on_a_runtime(async {
        set(&first, 1, 1).await;
        eventually("the write", || db.begun() == 1).await;
        drop(first);
    });
    assert_eq!(losses.all(), [(1, "closed")]);
    // The runtime goes first, and then the handle, where there is none.
    let (second, losses) = behind(&rig, &db);
    on_a_runtime(set(&second, 2, 2));
    assert_eq!(losses.all(), []);
    drop(second);
    assert_eq!(losses.all(), [(2, "closed")]);
}

#[tokio::test(start_paused = true)]
async fn a_read_through_the_handle_never_sees_the_database_before_the_write() {
    let (rig, db) = (rig(), Db::new().gated());
    db.put(1, 1);
    let (behind, _) = behind(&rig, &db);
    set(&behind, 1, 2).await;
    for during in ["before the write", "while it is written"] {
        // The entry is lost, as by eviction, and somebody loads the old value past the queue.
        let _ = rig.cache.invalidate(1).await.unwrap();
        assert_eq!(*rig.cache.get_or_load(1, || db.load(1)).await.unwrap(), 1);
        assert_eq!(*behind.get_or_load(&1, || db.load(1)).await.unwrap(), 2, "{during}");
        assert_eq!(behind.get(&1).await.unwrap().as_deref(), Some(&2), "{during}");
        assert_eq!(
            behind.get_or_load_opt(&1, || async { db_none() }).await.unwrap().as_deref(),
            Some(&2)
        );
        eventually("the write", || db.begun() == 1).await;
    }
    db.admit(1);
    assert!(behind.flush().await.is_whole());
    assert_eq!(
        *rig.cache.get_or_load(1, || db.load(1)).await.unwrap(),
        2,
        "the old value outlived the write"
    );
    let elsewhere = node(&rig.l2, &rig.clock, |builder| builder);
    assert_eq!(*elsewhere.get_or_load(1, || db.load(1)).await.unwrap(), 2, "in L2");
}

fn db_none() -> Result<Option<u64>, DbDown> {
    Ok(None)
}

#[tokio::test(start_paused = true)]
async fn a_load_that_saw_the_old_value_is_not_stored_after_the_write() {
    let (rig, db) = (rig(), Db::new().gated());
    db.put(1, 1);
    let (behind, _) = behind(&rig, &db);
    set(&behind, 1, 2).await;
    let _ = rig.cache.invalidate(1).await.unwrap();
    // Two loads read the old row before the write, here and in another process, and end after it.
    let elsewhere = node(&rig.l2, &rig.clock, |builder| builder);
    let late = Arc::new(Semaphore::new(0));
    let loads = [rig.cache.clone(), elsewhere.clone()].map(|cache| {
        let (db, late) = (db.clone(), Arc::clone(&late));
        tokio::spawn(async move {
            let load = || async {
                let row = db.load(1).await;
                late.acquire().await.unwrap().forget();
                row
            };
            cache.get_or_load(1, load).await.unwrap()
        })
    });
    eventually("the write", || db.begun() == 1).await;
    db.admit(1);
    assert!(behind.flush().await.is_whole());
    late.add_permits(2);
    for load in loads {
        load.await.unwrap();
    }
    assert_eq!(*rig.cache.get_or_load(1, || db.load(1)).await.unwrap(), 2, "in L1");
    rig.clock.advance(11 * SECOND);
    assert_eq!(*elsewhere.get_or_load(1, || db.load(1)).await.unwrap(), 2, "in L2");
    assert_eq!(*rig.cache.get_or_load(1, || db.load(1)).await.unwrap(), 2, "in L2, from here");
}

#[tokio::test(start_paused = true)]
async fn a_write_does_not_hide_what_somebody_else_has_changed_since() {
    let (rig, db) = (rig(), Db::new().gated());
    let (behind, _) = behind(&rig, &db);
    set(&behind, 1, 1).await;
    eventually("the write", || db.begun() == 1).await;
    // Another process changes the row after ours, and invalidates, before we have looked after the cache.
    let elsewhere = node(&rig.l2, &rig.clock, |builder| builder);
    rig.l2.switch(State::Held);
    db.admit(1);
    eventually("the fill", || db.row(1) == Some(1)).await;
    db.put(1, 99);
    rig.l2.switch(State::Up);
    assert_eq!(elsewhere.invalidate(1).await.unwrap(), Ack::Done);
    rig.l2.admit(99);
    assert!(behind.flush().await.is_whole());
    rig.clock.advance(11 * SECOND);
    assert_eq!(*rig.cache.get_or_load(1, || db.load(1)).await.unwrap(), 99);
}

#[tokio::test(start_paused = true)]
async fn a_set_that_overlaps_the_end_of_a_write_keeps_its_value() {
    for held in 0..6 {
        let (rig, db) = (rig(), Db::new().gated());
        let (behind, _) = behind(&rig, &db);
        set(&behind, 1, 1).await;
        eventually("the write", || db.begun() == 1).await;
        // What follows the write is held up before one operation or another.
        rig.l2.switch(State::Held);
        rig.l2.admit(held);
        db.admit(1);
        tokio::time::sleep(10 * MS).await;
        let newer = behind.clone();
        let call = tokio::spawn(async move { newer.set(1, 2).await.unwrap() });
        tokio::time::sleep(10 * MS).await;
        rig.l2.switch(State::Up);
        rig.l2.admit(99);
        assert_eq!(call.await.unwrap(), Ack::Done);
        let cached = rig.cache.get::<u64>(1).await.unwrap();
        assert_eq!(cached.as_deref(), Some(&2), "the newer value is gone ({held})");
        let elsewhere = node(&rig.l2, &rig.clock, |builder| builder);
        let cached = elsewhere.get::<u64>(1).await.unwrap();
        assert_eq!(cached.as_deref(), Some(&2), "the newer value is gone from L2 ({held})");
    }
}

#[tokio::test(start_paused = true)]
async fn sets_of_one_key_at_once_leave_the_last_in_queue_and_cache() {
    let (rig, db) = (rig(), Db::new().gated());
    let (behind, _) = behind(&rig, &db);
    let calls: Vec<_> = (1..=20)
        .map(|value| {
            let behind = behind.clone();
            tokio::spawn(async move { behind.set(1, value).await.unwrap() })
        })
        .collect();
    for call in calls {
        assert_eq!(call.await.unwrap(), Ack::Done);
    }
    let queued = behind.get(&1).await.unwrap().unwrap();
    assert_eq!(rig.cache.get::<u64>(1).await.unwrap(), Some(queued));
}

#[tokio::test(start_paused = true)]
async fn without_an_answer_from_l2_the_value_is_written_and_l2_not_used_until_it_is_right() {
    let (rig, db) = (rig(), Db::new());
    let (behind, losses) = behind(&rig, &db);
    set(&behind, 1, 1).await;
    assert!(behind.flush().await.is_whole());
    for state in [State::Failing, State::Hanging] {
        rig.l2.switch(state);
        assert_eq!(behind.set(1, 2).await.unwrap(), Ack::Pending);
        assert!(behind.flush().await.is_whole(), "{state:?}");
        assert_eq!(db.row(1), Some(2));
        rig.l2.switch(State::Up);
        let elsewhere = node(&rig.l2, &rig.clock, |builder| builder);
        assert_eq!(*rig.cache.get_or_load(1, || db.load(1)).await.unwrap(), 2);
        eventually_right(&elsewhere, &db).await;
    }
    assert_eq!(losses.all(), []);
}

/// L2 has no more than the database.
async fn eventually_right(cache: &tiered::Tiered, db: &Db) {
    for _ in 0..1_000 {
        let seen = cache.key(1).skip_l1().get_or_load(|| db.load(1)).await.unwrap();
        if Some(*seen) == db.row(1) {
            return;
        }
        tokio::time::sleep(MS).await;
    }
    panic!("the old value stays");
}

#[tokio::test]
async fn a_set_that_cannot_work_changes_nothing() {
    let (rig, db) = (rig(), Db::new());
    let (behind, _) = behind_with(&rig, &db, |builder| {
        builder.keyed(|id| tiered::Key::bytes(&vec![b'k'; *id as usize]))
    });
    assert!(matches!(behind.set(70_000, 1).await, Err(Error::InvalidKey(_))));
    assert_eq!((behind.stats().queued, behind.stats().set), (0, 0));
    let refused = |change: fn(Builder) -> Builder| {
        let built = change(rig.cache.write_behind(db.clone())).build();
        assert!(matches!(built, Err(Error::Config(_))));
    };
    refused(|builder| builder.batch(0));
    refused(|builder| builder.max_pending(0));
    refused(|builder| builder.every(Duration::ZERO));
    refused(|builder| builder.backoff(SECOND, MS));
    refused(|builder| builder.retries(1_001));
    refused(|builder| builder.write_timeout(Duration::MAX));
    refused(|builder| builder.fresh_for(Duration::ZERO));
}

#[test]
fn outside_a_runtime_a_set_says_so() {
    let (rig, db) = (rig(), Db::new());
    let (behind, _) = behind(&rig, &db);
    let said = futures_util::FutureExt::now_or_never(behind.set(1, 1)).unwrap();
    assert!(matches!(said, Err(Error::Config(_))));
    assert_eq!(behind.stats().set, 0);
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_goes_away_leaves_no_trace_or_a_written_value() {
    for polls in 0..12 {
        let (rig, db) = (rig(), Db::new());
        let (behind, _) = behind(&rig, &db);
        rig.l2.switch(State::Held);
        {
            let mut call = std::pin::pin!(behind.set(1, 1));
            for _ in 0..polls {
                if futures_util::poll!(call.as_mut()).is_ready() {
                    break;
                }
                rig.l2.admit(1);
                tokio::task::yield_now().await;
            }
        }
        rig.l2.switch(State::Up);
        rig.l2.admit(99);
        let taken = behind.stats().set;
        assert!(behind.flush().await.is_whole());
        assert_eq!(db.row(1), (taken == 1).then_some(1));
        let cached = rig.cache.get_or_load_opt(1, || async { Ok::<_, DbDown>(db.row(1)) });
        assert_eq!(cached.await.unwrap().as_deref().copied(), db.row(1));
    }
}

#[tokio::test(start_paused = true)]
async fn a_cache_that_is_switched_off_writes_and_shows_nothing_old() {
    let (rig, db) = (rig(), Db::new());
    let (behind, _) = behind(&rig, &db);
    set(&behind, 1, 1).await;
    assert!(behind.flush().await.is_whole());
    rig.cache.set_enabled(false);
    set(&behind, 1, 2).await;
    assert!(behind.flush().await.is_whole());
    rig.cache.set_enabled(true);
    assert_eq!(db.row(1), Some(2));
    assert_eq!(*rig.cache.get_or_load(1, || db.load(1)).await.unwrap(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_cache_without_a_server_needs_no_serde() {
    struct Plain(u64);
    let cache = tiered::Tiered::local(tiered::tiers::Moka::new(100)).build().unwrap();
    let written = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&written);
    let sink = move |batch: Vec<(String, Arc<Plain>)>| {
        let sum: u64 = batch.iter().map(|(_, value)| value.0).sum();
        count.fetch_add(usize::try_from(sum).unwrap(), Ordering::SeqCst);
        async { Ok::<_, DbDown>(()) }
    };
    let behind = cache.write_behind(sink).build().unwrap();
    assert_eq!(behind.set("a".to_owned(), Plain(3)).await.unwrap(), Ack::Done);
    assert!(behind.shutdown().await.is_whole());
    assert_eq!(written.load(Ordering::SeqCst), 3);
    assert_eq!(cache.get::<Plain>("a").await.unwrap().unwrap().0, 3);
}
