//! The database's old value, which must not come back.

use super::*;

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
    let cached = rig.cache.get::<u64>(1).await.unwrap();
    assert_eq!(cached.as_deref(), Some(&2), "the write gave way to an older load");
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

/// The write has failed and waits to be tried again: whoever misses the entry meanwhile need not wait for its lease.
#[tokio::test(start_paused = true)]
async fn a_write_that_failed_keeps_nobody_from_loading() {
    let (rig, db) = (rig(), Db::new());
    db.put(1, 1);
    db.mood(Mood::Down);
    let (behind, _) = behind_with(&rig, &db, |builder| {
        builder.fresh_for(SECOND).backoff(60 * SECOND, 60 * SECOND)
    });
    set(&behind, 1, 2).await;
    eventually("the write", || db.tried() == 1).await;
    tokio::time::sleep(10 * MS).await;
    // The entry is over, and a lease would not be.
    rig.clock.advance(2 * SECOND);
    let elsewhere = node(&rig.l2, &rig.clock, |builder| builder);
    assert_eq!(*elsewhere.get_or_load(1, || db.load(1)).await.unwrap(), 1);
    let stats = elsewhere.stats();
    assert_eq!((stats.lease_waits, stats.unstored_loads), (0, 0));
}
