//! What is written, when, and in which order.

use super::*;

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
