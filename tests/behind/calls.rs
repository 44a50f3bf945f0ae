//! Calls that cannot work, that are dropped, and caches that have not everything.

use super::*;

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
