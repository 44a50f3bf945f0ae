//! Flushes, shutdowns, last handles, and runtimes that go away.

use super::*;

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
