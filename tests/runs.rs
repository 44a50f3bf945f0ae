//! Entries of another run of the server, over an L2 whose runs a test counts up: each way in which one may be met.

use tiered::{
    Ack, CacheStrategy, Outcome, Restarts, Tiered,
    tiers::{Claim, Lease, LeaseToken, RemoteTier},
};

use crate::support::{Log, Rig, SECOND, Source, State, db_down, node, rig_with};

scenarios! {
    what_an_earlier_run_has_left_is_a_miss_in_every_way_of_reading,
    what_this_run_stores_is_a_hit_however_it_is_stored,
    a_value_that_comes_with_the_lease_is_judged_too,
    what_an_earlier_run_has_left_is_no_damage_and_no_warning,
    a_warm_entry_is_stale_for_what_is_left_of_its_life,
    a_warm_absence_is_a_miss,
    a_warm_entry_is_never_fresh_in_l1,
    entries_without_a_stamp_are_another_runs,
    a_tier_that_tells_no_runs_is_believed,
    a_run_that_cannot_be_had_costs_no_read_and_leaves_a_write_pending,
    a_value_that_cannot_be_stored_loses_nothing,
}

/// A cache whose server tells its runs, and has stored `k` in run 1.
fn rig(restarts: Restarts) -> Rig {
    let rig = rig_with(|builder| builder.restarts(restarts));
    rig.l2.restart(1);
    rig
}

fn other(rig: &Rig, restarts: Restarts) -> Tiered {
    node(&rig.l2, &rig.clock, |builder| builder.restarts(restarts))
}

async fn load(cache: &Tiered, source: &Source) -> Outcome {
    cache.key("k").load(|_| async { source.load().await.map(Some) }).await.unwrap().outcome
}

async fn what_an_earlier_run_has_left_is_a_miss_in_every_way_of_reading() {
    let rig = rig(Restarts::Strict);
    let source = Source::default();
    assert_eq!(load(&rig.cache, &source).await, Outcome::Load);
    let cache = || other(&rig, Restarts::Strict);
    assert!(cache().contains("k").await.unwrap());
    assert_eq!(load(&cache(), &source).await, Outcome::HitL2);
    rig.l2.restart(2);
    assert!(!cache().contains("k").await.unwrap());
    assert_eq!(cache().get::<usize>("k").await.unwrap(), None);
    assert_eq!(cache().keys(["k"]).get::<usize>().await.remove(0).unwrap(), None);
    let fresh = cache().key("k").strategy(CacheStrategy::Fresh).get_or_load(|| source.load()).await;
    assert!(fresh.is_err() || source.asked() == 1, "the database is not asked");
    cache().get_or_load::<usize, _, _, _>("k", db_down).await.unwrap_err();
    assert_eq!(load(&cache(), &source).await, Outcome::Load);
    assert_eq!(load(&cache(), &source).await, Outcome::HitL2, "it was overwritten");
    assert!(cache().contains("k").await.unwrap());
    // Back again: nobody's number comes twice, but an equal one is believed.
    rig.l2.restart(1);
    assert_eq!(load(&cache(), &source).await, Outcome::Load);
}

async fn what_this_run_stores_is_a_hit_however_it_is_stored() {
    for asks in [false, true] {
        let rig = rig(Restarts::Strict);
        if asks {
            rig.l2.asks_for_its_run();
        }
        let source = Source::default();
        let cache = &rig.cache;
        let _ = cache.set("set", 1_usize).await.unwrap();
        for ack in cache.keys(["many", "more"]).set([1_usize, 2]).await {
            assert_eq!(ack.unwrap(), Ack::Done);
        }
        cache.get_or_load("loaded", || source.load()).await.unwrap();
        let load = {
            let source = source.clone();
            move || async move { source.load().await }
        };
        cache.key("detached").detached(load).await.unwrap();
        let bypass = cache.key("bypass").strategy(CacheStrategy::Bypass);
        bypass.get_or_load(|| source.load()).await.unwrap();
        let load = async |keys: Vec<&'static str>| {
            Ok::<_, std::io::Error>(keys.into_iter().map(|key| (key, 1_usize)))
        };
        cache.keys(["batch", "batch too"]).get_or_load(load).await.remove(0).unwrap();
        cache.key("odd").schema(1).get_or_load(|| source.load()).await.unwrap();
        cache.shutdown().await;
        let other = other(&rig, Restarts::Strict);
        for key in ["set", "many", "more", "loaded", "detached", "bypass", "batch", "batch too"] {
            let found = other.key(key).lookup::<usize>().await.unwrap();
            assert_eq!(found.outcome, Outcome::HitL2, "{key}, asks: {asks}");
        }
        let odd = other.key("odd").schema(1).lookup::<usize>().await.unwrap();
        assert_eq!(odd.outcome, Outcome::HitL2);
        assert_eq!(other.stats().decode_failures, 0);
    }
}

/// A value that came since the look is taken with the lease; one of another run is not.
async fn a_value_that_comes_with_the_lease_is_judged_too() {
    for same in [true, false] {
        let rig = rig(Restarts::Strict);
        let (cache, source) = (other(&rig, Restarts::Strict), Source::default());
        // The look, the lease and the fill, one by one.
        rig.l2.switch(State::Held);
        let reading = async { load(&cache, &source).await };
        let storing = async {
            rig.l2.admit(1);
            crate::support::eventually("the lease", || rig.l2.operations() == 2).await;
            rig.l2.switch(State::Up);
            let _ = rig.cache.set("k", 5_usize).await.unwrap();
            if !same {
                rig.l2.restart(2);
            }
            rig.l2.admit(9);
        };
        let (outcome, ()) = tokio::join!(reading, storing);
        assert_eq!(outcome, if same { Outcome::HitL2 } else { Outcome::Load }, "same run: {same}");
    }
}

async fn what_an_earlier_run_has_left_is_no_damage_and_no_warning() {
    let rig = rig(Restarts::Strict);
    let source = Source::default();
    load(&rig.cache, &source).await;
    rig.l2.restart(2);
    let log = Log::capture();
    let cache = other(&rig, Restarts::Strict);
    assert_eq!(cache.get::<usize>("k").await.unwrap(), None);
    assert_eq!(load(&cache, &source).await, Outcome::Load);
    assert_eq!(rig.l2.distrusted(), 0);
    assert_eq!(cache.stats().decode_failures, 2, "one for each read");
    assert_eq!(log.lines(), Vec::<String>::new());
}

async fn a_warm_entry_is_stale_for_what_is_left_of_its_life() {
    let rig = rig(Restarts::Warm);
    let _ = rig.cache.set("k", 1_usize).await.unwrap();
    rig.clock.advance(20 * SECOND);
    rig.l2.restart(2);
    let cache = || other(&rig, Restarts::Warm);
    assert_eq!(cache().get::<usize>("k").await.unwrap(), None, "get serves what is fresh");
    assert!(!cache().contains("k").await.unwrap());
    let stale = cache().key("k").load::<usize, _, _, _>(|_| db_down()).await.unwrap();
    assert_eq!((stale.value.as_deref(), stale.outcome), (Some(&1), Outcome::Stale));
    assert!(stale.remaining.is_zero());
    assert_eq!(stale.age, 20 * SECOND);
    // Nothing was stored anew: its life ends when it always did, sixty seconds after its birth.
    rig.clock.advance(39 * SECOND);
    assert!(cache().key("k").load::<usize, _, _, _>(|_| db_down()).await.is_ok());
    rig.clock.advance(SECOND);
    cache().get_or_load::<usize, _, _, _>("k", db_down).await.unwrap_err();
}

async fn a_warm_absence_is_a_miss() {
    let rig = rig(Restarts::Warm);
    let none = || async { Ok::<_, std::io::Error>(None::<usize>) };
    assert_eq!(rig.cache.key("k").get_or_load_opt(none).await.unwrap(), None);
    rig.l2.restart(2);
    let cache = other(&rig, Restarts::Warm);
    cache.key("k").get_or_load_opt::<usize, _, _, _>(db_down).await.unwrap_err();
}

async fn a_warm_entry_is_never_fresh_in_l1() {
    let rig = rig(Restarts::Warm);
    let (cache, source) = (other(&rig, Restarts::Warm), Source::default());
    let _ = rig.cache.set("k", 1_usize).await.unwrap();
    rig.l2.restart(2);
    for _ in 0..3 {
        let stale = cache.key("k").load::<usize, _, _, _>(|_| db_down()).await.unwrap();
        assert_eq!(stale.outcome, Outcome::Stale);
        assert_eq!(cache.get::<usize>("k").await.unwrap(), None);
    }
    assert_eq!(load(&cache, &source).await, Outcome::Load);
    assert_eq!(load(&cache, &source).await, Outcome::HitL1);
    assert_eq!(load(&other(&rig, Restarts::Strict), &source).await, Outcome::HitL2);
}

async fn entries_without_a_stamp_are_another_runs() {
    let rig = rig(Restarts::Strict);
    rig.l2.restart(0);
    let _ = rig.cache.set("k", 1_usize).await.unwrap();
    rig.l2.restart(1);
    assert_eq!(other(&rig, Restarts::Strict).get::<usize>("k").await.unwrap(), None);
}

async fn a_tier_that_tells_no_runs_is_believed() {
    let rig = rig(Restarts::Strict);
    let _ = rig.cache.set("k", 1_usize).await.unwrap();
    rig.l2.restart(0);
    assert!(other(&rig, Restarts::Strict).get::<usize>("k").await.unwrap().is_some());
}

async fn a_run_that_cannot_be_had_costs_no_read_and_leaves_a_write_pending() {
    for state in [State::Failing, State::Hanging] {
        let rig = rig_with(|builder| builder.budget(SECOND / 10));
        rig.l2.restart(1);
        rig.l2.asks_for_its_run();
        let source = Source::default();
        rig.l2.switch(state);
        let start = std::time::Instant::now();
        assert_eq!(load(&rig.cache, &source).await, Outcome::Load);
        assert_eq!(rig.cache.set("k", 1_usize).await.unwrap(), Ack::Pending);
        for ack in rig.cache.keys(["k", "l"]).set([1_usize, 2]).await {
            assert_eq!(ack.unwrap(), Ack::Pending);
        }
        assert!(start.elapsed() < 5 * SECOND, "{:?}", start.elapsed());
    }
}

async fn a_value_that_cannot_be_stored_loses_nothing() {
    let rig = rig_with(|builder| builder.max_entry_bytes(1024));
    rig.l2.restart(1);
    rig.l2.asks_for_its_run();
    let _ = rig.cache.set("k", String::from("small")).await.unwrap();
    rig.cache.set("k", "x".repeat(2_000)).await.unwrap_err();
    assert_eq!(rig.cache.get::<String>("k").await.unwrap().as_deref(), Some(&"small".into()));
    let found = rig.l2.lease(b"tiered:k", LeaseToken::random(), SECOND, Claim::IfFree).await;
    assert!(matches!(found, Ok(Lease::Granted(Some(_)))));
}
