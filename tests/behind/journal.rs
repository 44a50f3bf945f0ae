//! The journal: what it is told, when it fails, and what it gives back.

mod paper;

use tiered::tiers::{ConfigError, Journal, JournalError, Logged, Record, TierError};

use self::paper::{Paper, Weather};
use super::*;

fn journaled(rig: &Rig, db: &Db, paper: &Paper) -> (Behind, Losses) {
    let own = Paper { sheet: Arc::clone(&paper.sheet), owner: paper.owner };
    behind_with(rig, db, |builder| builder.journal(own))
}

/// A process that is killed: its task and its memory are gone at once.
async fn killed(rig: &Rig, db: &Db, paper: &Paper, sets: &[(u32, u64)]) {
    let (behind, _) = journaled(rig, db, paper);
    for (key, value) in sets {
        set(&behind, *key, *value).await;
    }
    // Whatever its end would do, nobody hears of it.
    paper.with(|sheet| sheet.owner = 0);
    drop(behind);
    tokio::time::sleep(20 * SECOND).await;
    paper.bury();
}

#[tokio::test(start_paused = true)]
async fn a_value_is_in_the_journal_until_the_database_has_it() {
    let (rig, db, paper) = (rig(), Db::new().gated(), Paper::new());
    let (behind, losses) = journaled(&rig, &db, &paper);
    set(&behind, 1, 1).await;
    assert_eq!(paper.len(), 1);
    eventually("the write", || db.begun() == 1).await;
    assert_eq!(paper.len(), 1, "acknowledged before it was written");
    db.admit(1);
    eventually("the acknowledgement", || paper.len() == 0).await;
    assert!(behind.shutdown().await.is_whole());
    assert!(!paper.with(|sheet| sheet.is_held), "the next one would have to wait");
    assert_eq!(losses.all(), []);
}

#[tokio::test(start_paused = true)]
async fn the_next_process_writes_what_a_killed_one_has_left_before_newer_values() {
    let (rig, db, paper) = (rig(), Db::new().gated(), Paper::new());
    killed(&rig, &db, &paper, &[(1, 1), (2, 2), (1, 11), (3, 3), (4, 4)]).await;
    assert!(db.writes().is_empty());
    let (behind, losses) = journaled(&rig, &db, &paper.next());
    assert_eq!(behind.recover().await.unwrap(), 4, "of the key set twice the newer one is kept");
    assert_eq!(behind.get(&1).await.unwrap().as_deref(), Some(&11));
    set(&behind, 2, 22).await;
    db.admit(9);
    assert!(behind.flush().await.is_whole());
    assert_eq!(db.writes().concat().len(), 4, "{:?}", db.writes());
    let rows = [1, 2, 3, 4].map(|key| db.row(key));
    assert_eq!(rows, [Some(11), Some(22), Some(3), Some(4)]);
    eventually("the acknowledgement", || paper.len() == 0).await;
    assert_eq!(losses.all(), []);
    assert_eq!(behind.recover().await.unwrap(), 0);
}

#[tokio::test(start_paused = true)]
async fn the_first_set_reads_the_journal_too() {
    let (rig, db, paper) = (rig(), Db::new().gated(), Paper::new());
    killed(&rig, &db, &paper, &[(1, 1), (2, 2)]).await;
    let (behind, _) = journaled(&rig, &db, &paper.next());
    set(&behind, 1, 11).await;
    db.admit(9);
    assert!(behind.flush().await.is_whole());
    assert_eq!((db.row(1), db.row(2)), (Some(11), Some(2)));
    assert_eq!(
        db.writes().concat().len(),
        2,
        "the old value of the key was written: {:?}",
        db.writes()
    );
}

#[tokio::test(start_paused = true)]
async fn a_journal_that_gives_no_answer_refuses_the_set_and_nothing_is_changed() {
    for weather in [Weather::Down, Weather::Deaf, Weather::Hung] {
        for is_open in [false, true] {
            let (rig, db, paper) = (rig(), Db::new(), Paper::new());
            let (behind, _) = journaled(&rig, &db, &paper);
            if is_open {
                behind.recover().await.unwrap();
            }
            paper.weather(weather);
            let refused = behind.set(1, 1).await;
            assert!(matches!(refused, Err(Error::Backend(_))), "{weather:?}: {refused:?}");
            assert_eq!(rig.cache.get::<u64>(1).await.unwrap(), None, "cached: {weather:?}");
            tokio::time::sleep(10 * SECOND).await;
            assert_eq!((behind.stats().queued, db.row(1)), (0, None), "queued: {weather:?}");
            paper.weather(Weather::Fair);
            set(&behind, 2, 2).await;
            assert!(behind.flush().await.is_whole());
            assert_eq!(db.writes(), [[(2, 2)]], "{weather:?}");
            eventually("an empty journal", || paper.len() == 0).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_full_journal_refuses_a_set_and_drops_nothing() {
    let (rig, db, paper) = (rig(), Db::new().gated(), Paper::new());
    paper.with(|sheet| sheet.bound = 3);
    let (behind, losses) = journaled(&rig, &db, &paper);
    for key in 0..3 {
        set(&behind, key, 1).await;
    }
    assert!(matches!(behind.set(9, 1).await, Err(Error::Overloaded)));
    assert_eq!((rig.cache.get::<u64>(9).await.unwrap(), paper.len()), (None, 3));
    db.admit(9);
    assert!(behind.flush().await.is_whole());
    set(&behind, 9, 1).await;
    assert!(behind.shutdown().await.is_whole());
    assert_eq!(losses.all(), []);
}

#[tokio::test(start_paused = true)]
async fn a_key_that_is_set_often_does_not_fill_the_journal() {
    let (rig, db, paper) = (rig(), Db::new().gated(), Paper::new());
    paper.with(|sheet| sheet.bound = 10);
    let (behind, _) = journaled(&rig, &db, &paper);
    for value in 0..500 {
        set(&behind, 1, value).await;
    }
    db.admit(9);
    assert!(behind.shutdown().await.is_whole());
    assert_eq!((db.row(1), paper.len()), (Some(499), 0));
}

#[tokio::test(start_paused = true)]
async fn what_was_given_up_stays_in_the_journal_until_a_newer_value_comes() {
    let (rig, db, paper) = (rig(), Db::new(), Paper::new());
    db.mood(Mood::Down);
    let (behind, losses) = journaled(&rig, &db, &paper);
    set(&behind, 1, 1).await;
    set(&behind, 2, 2).await;
    eventually("the losses", || behind.stats().lost == 2).await;
    assert_eq!(losses.all(), [(1, "failed"), (2, "failed")]);
    assert_eq!(paper.len(), 2);
    db.mood(Mood::Well);
    set(&behind, 1, 11).await;
    assert!(behind.shutdown().await.is_whole());
    assert_eq!(paper.len(), 1, "the old value would be written over the newer one");
    let (behind, _) = journaled(&rig, &db, &paper.next());
    assert_eq!(behind.recover().await.unwrap(), 1);
    assert!(behind.shutdown().await.is_whole());
    assert_eq!((db.row(1), db.row(2), paper.len()), (Some(11), Some(2), 0));
}

#[tokio::test(start_paused = true)]
async fn what_was_refused_for_good_is_not_kept() {
    let (rig, db, paper) = (rig(), Db::new(), Paper::new());
    db.mood(Mood::Refusing(1));
    let (behind, losses) = journaled(&rig, &db, &paper);
    set(&behind, 1, 1).await;
    assert_eq!(behind.shutdown().await.lost, 1);
    assert_eq!((losses.all(), paper.len()), (vec![(1, "refused")], 0));
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_that_cannot_write_leaves_it_to_the_next_one() {
    let (rig, db, paper) = (rig(), Db::new(), Paper::new());
    db.mood(Mood::Hanging);
    let kept = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&kept);
    let (behind, _) = behind_with(&rig, &db, |builder| {
        let own = Paper { sheet: Arc::clone(&paper.sheet), owner: paper.owner };
        let note = move |loss: Loss<u32, u64>| {
            assert!(loss.in_journal);
            count.fetch_add(loss.count, Ordering::SeqCst);
        };
        builder.journal(own).on_loss(note).retries(1_000)
    });
    set(&behind, 1, 1).await;
    assert_eq!(behind.shutdown().await.lost, 1);
    assert_eq!((kept.load(Ordering::SeqCst), paper.len()), (1, 1));
    assert_eq!(rig.cache.get::<u64>(1).await.unwrap().as_deref(), Some(&1), "it will be written");
    db.mood(Mood::Well);
    let (behind, _) = journaled(&rig, &db, &paper.next());
    assert_eq!(behind.recover().await.unwrap(), 1);
    assert!(behind.shutdown().await.is_whole());
    assert_eq!((db.row(1), paper.len()), (Some(1), 0));
}

#[tokio::test(start_paused = true)]
async fn acknowledgements_that_failed_come_again_and_never_the_newer_one_alone() {
    let (rig, db, paper) = (rig(), Db::new(), Paper::new());
    let (behind, _) = journaled(&rig, &db, &paper);
    set(&behind, 1, 1).await;
    paper.weather(Weather::Down);
    eventually("the write", || db.row(1) == Some(1)).await;
    tokio::time::sleep(SECOND).await;
    assert_eq!(paper.len(), 1);
    paper.weather(Weather::Fair);
    set(&behind, 1, 2).await;
    eventually("the write", || db.row(1) == Some(2)).await;
    eventually("the acknowledgements", || paper.len() == 0).await;
}

#[tokio::test(start_paused = true)]
async fn a_journal_has_one_owner() {
    let (rig, db, paper) = (rig(), Db::new(), Paper::new());
    let (first, losses) = journaled(&rig, &db, &paper);
    set(&first, 1, 1).await;
    let (second, _) = journaled(&rig, &db, &paper.next());
    let refused = second.set(2, 2).await.unwrap_err();
    let Error::Backend(TierError::Refused(why)) = &refused else { panic!("{refused:?}") };
    assert!(why.contains("another process"), "{why}");
    let start = tokio::time::Instant::now();
    assert!(second.recover().await.is_err(), "it waits, but not for one that lives");
    assert!(start.elapsed() >= 3 * SECOND && start.elapsed() < 20 * SECOND);
    set(&first, 3, 3).await;
    assert!(first.shutdown().await.is_whole());
    set(&second, 2, 2).await;
    assert!(second.shutdown().await.is_whole());
    assert_eq!(losses.all(), []);
}

#[tokio::test(start_paused = true)]
async fn one_whose_journal_was_taken_writes_no_more() {
    let (rig, db, paper) = (rig(), Db::new(), Paper::new());
    db.mood(Mood::Down);
    let (first, losses) = behind_with(&rig, &db, |builder| {
        let own = Paper { sheet: Arc::clone(&paper.sheet), owner: paper.owner };
        builder.journal(own).retries(1_000)
    });
    set(&first, 1, 1).await;
    set(&first, 2, 2).await;
    // It was believed to be dead.
    paper.bury();
    let (second, _) =
        behind_with(&rig, &db, |builder| builder.journal(paper.next()).retries(1_000));
    assert_eq!(second.recover().await.unwrap(), 2);
    eventually("the loss", || losses.all().len() == 2).await;
    assert_eq!(losses.all(), [(1, "taken_over"), (2, "taken_over")]);
    assert!(matches!(first.set(1, 9).await, Err(Error::Backend(_))));
    db.mood(Mood::Well);
    set(&second, 1, 11).await;
    assert!(second.flush().await.is_whole());
    tokio::time::sleep(10 * SECOND).await;
    assert_eq!((db.row(1), db.row(2)), (Some(11), Some(2)));
    assert!(second.shutdown().await.is_whole());
    set(&first, 1, 9).await;
    assert!(first.shutdown().await.is_whole());
    assert_eq!((db.row(1), paper.len()), (Some(9), 0));
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_read_back_is_reported_kept_and_replaced() {
    let (rig, db, paper) = (rig(), Db::new(), Paper::new());
    let old = rig.cache.write_behind(|_: Vec<(u32, Arc<String>)>| async { Err(DbDown) });
    let own = Paper { sheet: Arc::clone(&paper.sheet), owner: paper.owner };
    let old = old.journal(own).flush_within(SECOND).build().unwrap();
    let _ = old.set(1, "another shape".into()).await.unwrap();
    let _ = old.set(2, "another shape".into()).await.unwrap();
    assert_eq!(old.shutdown().await.lost, 2);
    let told = Arc::new(Mutex::new(Vec::new()));
    let note = Arc::clone(&told);
    let (behind, _) = behind_with(&rig, &db, |builder| {
        let note = move |loss: Loss<u32, u64>| {
            note.lock().unwrap().push((loss.count, loss.reason.as_str(), loss.in_journal));
        };
        builder.journal(paper.next()).on_loss(note)
    });
    assert_eq!(behind.recover().await.unwrap(), 0);
    assert_eq!(*told.lock().unwrap(), [(2, "unreadable", true)]);
    assert_eq!(paper.len(), 2);
    set(&behind, 1, 1).await;
    assert!(behind.shutdown().await.is_whole());
    assert_eq!(paper.len(), 1, "an older value of a key that was written since");
}

#[tokio::test(start_paused = true)]
async fn callers_at_once_share_an_append() {
    let (rig, db, paper) = (rig(), Db::new(), Paper::new());
    let (behind, _) = journaled(&rig, &db, &paper);
    behind.recover().await.unwrap();
    let calls: Vec<_> = (0..100)
        .map(|key| {
            let behind = behind.clone();
            tokio::spawn(async move { behind.set(key, 1).await.unwrap() })
        })
        .collect();
    for call in calls {
        call.await.unwrap();
    }
    let appends = paper.with(|sheet| sheet.appends.clone());
    assert_eq!(appends.iter().sum::<usize>(), 100);
    assert!(appends.len() < 20, "{appends:?}");
    assert!(behind.shutdown().await.is_whole());
    assert_eq!(db.rows.lock().unwrap().len(), 100);
}

#[tokio::test(start_paused = true)]
async fn callers_that_wait_for_the_journal_have_their_places_in_the_queue() {
    let (rig, db, paper) = (rig(), Db::new().gated(), Paper::new());
    let (behind, _) =
        behind_with(&rig, &db, |builder| builder.journal(paper.next()).max_pending(5));
    behind.recover().await.unwrap();
    let calls: Vec<_> = (0..50)
        .map(|key| {
            let behind = behind.clone();
            tokio::spawn(async move { behind.set(key, 1).await.is_ok() })
        })
        .collect();
    let mut taken = 0;
    for call in calls {
        taken += usize::from(call.await.unwrap());
    }
    assert_eq!((taken, behind.stats().queued, paper.len()), (5, 5, 5));
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_goes_away_leaves_queue_and_journal_alike() {
    for polls in 0..6 {
        let (rig, db, paper) = (rig(), Db::new().gated(), Paper::new());
        let (behind, _) = journaled(&rig, &db, &paper);
        behind.recover().await.unwrap();
        {
            let mut call = std::pin::pin!(behind.set(1, 1));
            for _ in 0..polls {
                if futures_util::poll!(call.as_mut()).is_ready() {
                    break;
                }
                tokio::task::yield_now().await;
            }
        }
        tokio::time::sleep(10 * MS).await;
        assert_eq!(behind.stats().queued, paper.len(), "{polls}");
        db.admit(9);
        assert!(behind.flush().await.is_whole());
        eventually("an empty journal", || paper.len() == 0).await;
    }
}

#[test]
fn a_journal_that_cannot_work_is_refused() {
    #[derive(Debug)]
    struct Bad(Paper);
    #[async_trait::async_trait]
    impl Journal for Bad {
        fn name(&self) -> &'static str {
            "bad"
        }
        async fn open(&self) -> Result<(), JournalError> {
            self.0.open().await
        }
        async fn read(&self, after: u64) -> Result<Vec<Logged>, JournalError> {
            self.0.read(after).await
        }
        async fn append(&self, records: &[Record]) -> Result<Vec<u64>, JournalError> {
            self.0.append(records).await
        }
        async fn acknowledge(&self, positions: &[u64]) -> Result<(), JournalError> {
            self.0.acknowledge(positions).await
        }
        async fn renew(&self) -> Result<(), JournalError> {
            self.0.renew().await
        }
        async fn close(&self) -> Result<(), JournalError> {
            self.0.close().await
        }
        fn lease_for(&self) -> Duration {
            SECOND
        }
        fn check(&self) -> Result<(), ConfigError> {
            Err(ConfigError::new("no"))
        }
    }
    let rig = rig();
    let bad = rig.cache.write_behind(Db::new()).journal(Bad(Paper::new()));
    assert!(matches!(bad.build(), Err(Error::Config(_))));
    let bare = tiered::Tiered::local(tiered::tiers::Moka::new(9)).build().unwrap();
    let built = bare.write_behind(Db::new()).journal(Paper::new()).build();
    assert!(matches!(built, Err(Error::Config(_))), "nothing can be packed");
    let packed =
        tiered::Tiered::local(tiered::tiers::Moka::new(9)).codec(Postcard).build().unwrap();
    packed.write_behind(Db::new()).journal(Paper::new()).build().unwrap();
}
