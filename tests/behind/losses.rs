//! What cannot be written.

use super::*;

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
