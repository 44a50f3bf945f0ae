//! The read path: which tier answers, what is counted, what the options do.

use tiered::{
    Ack, CacheStrategy, Error, Jitter, Outcome, Tiered,
    tiers::{Memory, Moka},
};

use crate::support::{DbDown, SECOND, Source, State, db_down, node, rig, rig_with};

scenarios! {
    a_value_is_loaded_once_then_comes_from_l1_then_from_l2_in_another_process,
    age_and_remaining_time_are_those_of_the_value_in_every_tier,
    an_absence_is_remembered_for_its_own_time_and_is_no_value,
    an_absence_replaces_a_value_under_every_strategy_that_loads,
    each_read_is_counted_once_under_its_outcome,
    a_skipped_tier_is_neither_read_nor_filled,
    a_cache_that_is_switched_off_loads_writes_nothing_and_still_invalidates,
    a_cache_in_this_process_only_needs_nothing_of_serde,
    a_cache_on_a_server_only_reads_it_every_time,
    two_types_under_one_key_never_see_each_others_value,
    an_unencodable_value_is_refused_by_set_and_returned_by_a_load,
    a_value_over_the_limit_is_refused_by_set_with_nothing_lost,
    a_failed_load_gives_its_lease_back,
    the_loaders_own_error_comes_back_and_the_strategy_fresh_has_no_value_to_give,
    ping_and_health_tell_each_tiers_state,
}

async fn a_value_is_loaded_once_then_comes_from_l1_then_from_l2_in_another_process() {
    let rig = rig();
    let source = Source::default();
    source.put(7);
    let first = rig.cache.key("k").load(|_| async { source.load().await.map(Some) }).await.unwrap();
    assert_eq!((first.value.as_deref(), first.outcome), (Some(&7), Outcome::Load));
    let again = rig.cache.key("k").lookup::<usize>().await.unwrap();
    assert_eq!((again.value.as_deref(), again.outcome), (Some(&7), Outcome::HitL1));

    let other = node(&rig.l2, &rig.clock, |builder| builder);
    let answer = other.key("k").load(|_| async { source.load().await.map(Some) }).await.unwrap();
    assert_eq!((answer.value.as_deref(), answer.outcome), (Some(&7), Outcome::HitL2));
    let answer = other.key("k").lookup::<usize>().await.unwrap();
    assert_eq!(answer.outcome, Outcome::HitL1);
    assert_eq!(source.asked(), 1);
}

async fn age_and_remaining_time_are_those_of_the_value_in_every_tier() {
    let rig = rig();
    let _ = rig.cache.set("k", 1_u32).await.unwrap();
    rig.clock.advance(5 * SECOND);
    let local = rig.cache.key("k").lookup::<u32>().await.unwrap();
    assert_eq!(
        (local.outcome, local.age, local.remaining),
        (Outcome::HitL1, 5 * SECOND, 55 * SECOND)
    );

    let other = node(&rig.l2, &rig.clock, |builder| builder);
    rig.clock.advance(5 * SECOND);
    let remote = other.key("k").lookup::<u32>().await.unwrap();
    assert_eq!(
        (remote.outcome, remote.age, remote.remaining),
        (Outcome::HitL2, 10 * SECOND, 50 * SECOND)
    );
    rig.clock.advance(5 * SECOND);
    let backfilled = other.key("k").lookup::<u32>().await.unwrap();
    assert_eq!((backfilled.outcome, backfilled.age), (Outcome::HitL1, 15 * SECOND));
    assert_eq!(backfilled.remaining, 45 * SECOND);
}

async fn an_absence_is_remembered_for_its_own_time_and_is_no_value() {
    let rig = rig_with(|builder| builder.negative_for(30 * SECOND));
    let source = Source::default();
    let absent = || async {
        source.load().await?;
        Ok::<Option<u32>, std::io::Error>(None)
    };
    let first = rig.cache.key("k").load(|_| absent()).await.unwrap();
    assert_eq!((first.value, first.outcome), (None, Outcome::Load));
    let second = rig.cache.key("k").load(|_| absent()).await.unwrap();
    assert_eq!((second.value, second.outcome), (None, Outcome::Negative));
    assert!(!rig.cache.contains("k").await.unwrap());
    let other = node(&rig.l2, &rig.clock, |builder| builder);
    assert_eq!(other.key("k").lookup::<u32>().await.unwrap().outcome, Outcome::Negative);
    assert!(!other.contains("k").await.unwrap());
    assert_eq!(source.asked(), 1);

    // get_or_load is for values that exist: it loads, and what it finds replaces the absence.
    let value = other.get_or_load("k", || async { Ok::<_, DbDown>(5_u32) }).await.unwrap();
    assert_eq!(*value, 5);
    assert_eq!(other.key("k").lookup::<u32>().await.unwrap().outcome, Outcome::HitL1);

    let _ = rig.cache.invalidate("k").await.unwrap();
    let _ = rig.cache.get_or_load_opt("k", absent).await.unwrap();
    rig.clock.advance(31 * SECOND);
    assert_eq!(rig.cache.key("k").load(|_| absent()).await.unwrap().outcome, Outcome::Load);
}

async fn an_absence_replaces_a_value_under_every_strategy_that_loads() {
    for strategy in [CacheStrategy::Refresh, CacheStrategy::Invalidate, CacheStrategy::Bypass] {
        let rig = rig();
        let _ = rig.cache.set("k", 1_u32).await.unwrap();
        if strategy == CacheStrategy::Refresh {
            rig.clock.advance(61 * SECOND);
        }
        let request = rig.cache.key("k").strategy(strategy);
        let gone = request.get_or_load_opt(|| async { Ok::<Option<u32>, DbDown>(None) }).await;
        assert_eq!(gone.unwrap(), None, "{strategy:?}");
        let other = node(&rig.l2, &rig.clock, |builder| builder);
        for cache in [&rig.cache, &other] {
            let answer = cache.key("k").lookup::<u32>().await.unwrap();
            assert_eq!((answer.value, answer.outcome), (None, Outcome::Negative), "{strategy:?}");
        }
    }
}

async fn each_read_is_counted_once_under_its_outcome() {
    let rig = rig_with(|builder| builder.stale_for(600 * SECOND));
    let ok = || async { Ok::<_, DbDown>(1_u32) };
    rig.cache.get_or_load("k", ok).await.unwrap();
    rig.cache.get_or_load("k", ok).await.unwrap();
    node(&rig.l2, &rig.clock, |builder| builder).get_or_load("k", ok).await.unwrap();
    rig.cache.get::<u32>("nothing").await.unwrap();
    rig.cache
        .get_or_load_opt::<u32, _, _, _>("absent", || async { Ok::<_, DbDown>(None) })
        .await
        .unwrap();
    rig.cache
        .get_or_load_opt::<u32, _, _, _>("absent", || async { Ok::<_, DbDown>(None) })
        .await
        .unwrap();
    rig.cache.get_or_load::<u32, _, _, _>("down", db_down).await.unwrap_err();
    rig.clock.advance(61 * SECOND);
    rig.cache.get_or_load::<u32, _, _, _>("k", db_down).await.unwrap();
    let stats = rig.cache.stats();
    assert_eq!((stats.hit_l1, stats.hit_l2, stats.stale, stats.negative), (1, 0, 1, 1));
    assert_eq!((stats.load, stats.shared, stats.miss, stats.error), (2, 0, 1, 1));
    assert_eq!(stats.reads(), 7);
    assert_eq!((stats.loads, stats.load_failures), (4, 2));
}

async fn a_skipped_tier_is_neither_read_nor_filled() {
    let rig = rig();
    let load = |value: u32| move || async move { Ok::<_, DbDown>(value) };
    rig.cache.key("a").skip_l1().get_or_load(load(1)).await.unwrap();
    assert_eq!(rig.cache.key("a").lookup::<u32>().await.unwrap().outcome, Outcome::HitL2);
    rig.cache.key("b").skip_l2().get_or_load(load(2)).await.unwrap();
    assert_eq!(rig.cache.key("b").lookup::<u32>().await.unwrap().outcome, Outcome::HitL1);
    assert_eq!(rig.cache.key("b").skip_l1().lookup::<u32>().await.unwrap().outcome, Outcome::Miss);

    // A set that skips a tier drops what that tier has: an older value must not come back.
    for skip_l1 in [true, false] {
        let _ = rig.cache.set("c", 1_u32).await.unwrap();
        let request = rig.cache.key("c");
        let request = if skip_l1 { request.skip_l1() } else { request.skip_l2() };
        assert_eq!(request.set(2_u32).await.unwrap(), Ack::Done);
        assert_eq!(rig.cache.get::<u32>("c").await.unwrap().as_deref(), Some(&2));
        rig.clock.advance(11 * SECOND);
        let later = rig.cache.get::<u32>("c").await.unwrap();
        assert_eq!(later.as_deref(), skip_l1.then_some(&2));
    }
}

async fn a_cache_that_is_switched_off_loads_writes_nothing_and_still_invalidates() {
    let rig = rig();
    let _ = rig.cache.set("kept", 1_u32).await.unwrap();
    let _ = rig.cache.set("set", 1_u32).await.unwrap();
    let _ = rig.cache.set("dropped", 1_u32).await.unwrap();
    rig.cache.set_enabled(false);
    assert!(!rig.cache.is_enabled());
    assert_eq!(rig.cache.get::<u32>("kept").await.unwrap(), None);
    assert!(!rig.cache.contains("kept").await.unwrap());
    let loaded =
        rig.cache.key("kept").load(|_| async { Ok::<_, DbDown>(Some(2_u32)) }).await.unwrap();
    assert_eq!((loaded.value.as_deref(), loaded.outcome), (Some(&2), Outcome::Load));
    assert_eq!(rig.cache.set("set", 3_u32).await.unwrap(), Ack::Done);
    assert_eq!(rig.cache.invalidate("dropped").await.unwrap(), Ack::Done);
    rig.cache.set_enabled(true);
    assert_eq!(rig.cache.get::<u32>("kept").await.unwrap().as_deref(), Some(&1));
    assert_eq!(rig.cache.get::<u32>("set").await.unwrap(), None, "the old value is not served");
    assert_eq!(rig.cache.get::<u32>("dropped").await.unwrap(), None);
    assert!(!rig_with(|builder| builder.enabled(false)).cache.is_enabled());
}

#[derive(Clone, Debug)]
struct Plain(u32);

async fn a_cache_in_this_process_only_needs_nothing_of_serde() {
    let cache = Tiered::local(Moka::new(100)).build().unwrap();
    let value = cache.get_or_load("k", || async { Ok::<_, DbDown>(Plain(3)) }).await.unwrap();
    assert_eq!(value.0, 3);
    assert_eq!(cache.get::<Plain>("k").await.unwrap().map(|value| value.0), Some(3));
    assert_eq!(cache.invalidate("k").await.unwrap(), Ack::Done);
    assert!(cache.get::<Plain>("k").await.unwrap().is_none());
    let _ = cache.set("k", Plain(4)).await.unwrap();
    assert_eq!(cache.get::<Plain>("k").await.unwrap().map(|value| value.0), Some(4));
}

#[test]
fn a_cache_in_this_process_only_needs_no_runtime() {
    let cache = Tiered::local(Moka::new(100)).build().unwrap();
    let value = futures_util::FutureExt::now_or_never(
        cache.get_or_load("k", || async { Ok::<_, DbDown>(Plain(3)) }),
    );
    assert_eq!(value.unwrap().unwrap().0, 3);
}

async fn a_cache_on_a_server_only_reads_it_every_time() {
    let cache = Tiered::remote(Memory::new()).jitter(Jitter::none()).build().unwrap();
    cache.get_or_load("k", || async { Ok::<_, DbDown>(1_u32) }).await.unwrap();
    for _ in 0..2 {
        assert_eq!(cache.key("k").lookup::<u32>().await.unwrap().outcome, Outcome::HitL2);
    }
}

async fn two_types_under_one_key_never_see_each_others_value() {
    let rig = rig();
    let _ = rig.cache.set("k", 1_u32).await.unwrap();
    assert_eq!(rig.cache.get::<String>("k").await.unwrap(), None);
    let _ = rig.cache.set("k", "text".to_owned()).await.unwrap();
    assert_eq!(rig.cache.get::<u32>("k").await.unwrap(), None);
    assert_eq!(rig.cache.get::<String>("k").await.unwrap().unwrap().as_str(), "text");
}

async fn an_unencodable_value_is_refused_by_set_and_returned_by_a_load() {
    use serde::{Deserialize, Serialize, Serializer, ser::Error as _};

    #[derive(Clone, Debug, Deserialize)]
    struct Refuses;
    impl Serialize for Refuses {
        fn serialize<S: Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
            Err(S::Error::custom("not today"))
        }
    }
    #[derive(Clone, Debug, Deserialize)]
    struct Panics;
    impl Serialize for Panics {
        fn serialize<S: Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
            panic!("never")
        }
    }

    let rig = rig();
    assert!(matches!(rig.cache.set("a", Refuses).await, Err(Error::Serialization(_))));
    assert!(matches!(rig.cache.set("b", Panics).await, Err(Error::Serialization(_))));
    rig.cache.get_or_load("a", || async { Ok::<_, DbDown>(Refuses) }).await.unwrap();
    rig.cache.get_or_load("b", || async { Ok::<_, DbDown>(Panics) }).await.unwrap();
    assert_eq!(rig.cache.stats().skipped_stores, 2);
    assert_eq!(rig.cache.key("a").lookup::<Refuses>().await.unwrap().outcome, Outcome::HitL1);
    assert_eq!(
        rig.cache.key("a").skip_l1().lookup::<Refuses>().await.unwrap().outcome,
        Outcome::Miss
    );
}

async fn a_value_over_the_limit_is_refused_by_set_with_nothing_lost() {
    let rig = rig_with(|builder| builder.max_entry_bytes(1024));
    let _ = rig.cache.set("k", "small".to_owned()).await.unwrap();
    let error = rig.cache.set("k", "x".repeat(2_000)).await.unwrap_err();
    let Error::Serialization(source) = &error else { panic!("{error:?}") };
    assert!(source.to_string().contains("max_entry_bytes is 1024"), "{source}");
    assert_eq!(rig.cache.get::<String>("k").await.unwrap().unwrap().as_str(), "small");
}

async fn a_failed_load_gives_its_lease_back() {
    let rig = rig();
    rig.cache.get_or_load::<u32, _, _, _>("k", db_down).await.unwrap_err();
    let other = node(&rig.l2, &rig.clock, |builder| builder);
    other.get_or_load("k", || async { Ok::<_, DbDown>(1_u32) }).await.unwrap();
    assert_eq!(rig.cache.key("k").lookup::<u32>().await.unwrap().outcome, Outcome::HitL2);
}

async fn the_loaders_own_error_comes_back_and_the_strategy_fresh_has_no_value_to_give() {
    let rig = rig();
    let error = rig.cache.get_or_load::<u32, _, _, _>("k", db_down).await.unwrap_err();
    assert_eq!(error.loader_error::<DbDown>(), Some(&DbDown));
    let anyhow = || async { Err::<u32, _>(anyhow::anyhow!("deep").context("high")) };
    let error = rig.cache.get_or_load("k", anyhow).await.unwrap_err();
    assert_eq!(error.loader_error::<anyhow::Error>().unwrap().root_cause().to_string(), "deep");

    let fresh = rig.cache.key("k").strategy(CacheStrategy::Fresh);
    assert!(matches!(fresh.get_or_load::<u32, _, _, _>(db_down).await, Err(Error::Config(_))));
    let fresh = rig.cache.key("k").strategy(CacheStrategy::Fresh);
    let none = fresh.get_or_load_opt::<u32, _, _, _>(|| async { Ok::<_, DbDown>(Some(1)) }).await;
    assert_eq!(none.unwrap(), None);
}

async fn ping_and_health_tell_each_tiers_state() {
    let rig = rig();
    let _ = rig.cache.set("k", 1_u32).await.unwrap();
    rig.cache.ping().await.unwrap();
    let health = rig.cache.health().await;
    assert!(health.is_whole());
    assert_eq!(health.l1.unwrap().name, "moka");
    assert_eq!(health.l2.unwrap().name, "switchable");
    rig.l2.switch(State::Failing);
    assert!(matches!(rig.cache.ping().await, Err(Error::Backend(_))));
    assert_eq!(rig.cache.invalidate("k").await.unwrap(), Ack::Pending);
    let health = rig.cache.health().await;
    assert!(!health.is_whole());
    assert!(health.l2.unwrap().down.is_some());
    assert_eq!(health.pending, 1);
}
