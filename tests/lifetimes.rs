//! How long entries live: freshness, staleness, jitter, L1's share of it.

use std::{collections::HashSet, sync::Arc, time::Duration};

use tiered::{
    Error, Jitter, Outcome, Tiered,
    tiers::{Clock, DashMap, Memory, Moka},
};

use tokio::sync::Semaphore;

use crate::support::{DbDown, SECOND, State, db_down, eventually, node, rig, rig_with};

scenarios! {
    an_entry_is_gone_when_its_time_is_over_in_every_tier,
    an_overwritten_entry_lives_its_new_life_longer_or_shorter,
    a_stale_value_stands_in_for_a_failing_load_until_its_time_is_over,
    a_stale_value_is_served_at_once_to_detached_loaders_and_refreshed_behind,
    many_stale_readers_start_one_refresh,
    an_l1_over_a_shared_server_asks_it_again_after_ten_seconds,
    what_l1_cannot_prove_any_more_is_served_only_when_everything_else_fails,
    the_loader_can_set_its_entrys_lifetime,
    entries_written_together_do_not_expire_together,
    lifetimes_that_cannot_work_are_refused_with_the_value_and_the_way_out,
}

async fn an_entry_is_gone_when_its_time_is_over_in_every_tier() {
    let rig = rig();
    let _ = rig.cache.set("k", 1_u32).await.unwrap();
    rig.clock.advance(60 * SECOND - SECOND / 1000);
    assert!(rig.cache.get::<u32>("k").await.unwrap().is_some());
    rig.clock.advance(SECOND / 1000);
    assert!(rig.cache.get::<u32>("k").await.unwrap().is_none());
    assert!(!rig.cache.contains("k").await.unwrap());
    assert!(rig.cache.key("k").skip_l1().get::<u32>().await.unwrap().is_none());
}

async fn an_overwritten_entry_lives_its_new_life_longer_or_shorter() {
    for (first, second) in [(5, 50), (50, 5)] {
        let clock = Clock::manual();
        let caches = [
            Tiered::local(Moka::new(10))
                .clock(clock.clone())
                .jitter(Jitter::none())
                .build()
                .unwrap(),
            Tiered::local(DashMap::new(10).with_clock(clock.clone()))
                .clock(clock.clone())
                .jitter(Jitter::none())
                .build()
                .unwrap(),
        ];
        for cache in &caches {
            let _ = cache.key("k").fresh_for(first * SECOND).set(1_u32).await.unwrap();
            let _ = cache.key("k").fresh_for(second * SECOND).set(2_u32).await.unwrap();
        }
        clock.advance(20 * SECOND);
        for cache in &caches {
            assert_eq!(cache.get::<u32>("k").await.unwrap().is_some(), second > 20, "{cache:?}");
        }
    }
}

async fn a_stale_value_stands_in_for_a_failing_load_until_its_time_is_over() {
    let rig = rig_with(|builder| builder.stale_for(600 * SECOND));
    let _ = rig.cache.set("k", 1_u32).await.unwrap();
    rig.clock.advance(61 * SECOND);
    assert_eq!(rig.cache.get::<u32>("k").await.unwrap(), None, "get serves what is fresh");
    // From L1 here, from L2 in another process.
    let other = node(&rig.l2, &rig.clock, |builder| builder);
    for cache in [&rig.cache, &other] {
        let answer = cache.key("k").load::<u32, _, _, _>(|_| db_down()).await.unwrap();
        assert_eq!((answer.value.as_deref(), answer.outcome), (Some(&1), Outcome::Stale));
        assert!(answer.remaining.is_zero());
    }
    rig.clock.advance(600 * SECOND);
    for cache in [&rig.cache, &other] {
        cache.get_or_load::<u32, _, _, _>("k", db_down).await.unwrap_err();
    }
}

async fn a_stale_value_is_served_at_once_to_detached_loaders_and_refreshed_behind() {
    for from_l2 in [false, true] {
        let rig = rig_with(|builder| builder.stale_for(600 * SECOND).local_for(3600 * SECOND));
        let _ = rig.cache.set("k", 1_u32).await.unwrap();
        rig.clock.advance(61 * SECOND);
        let cache =
            if from_l2 { node(&rig.l2, &rig.clock, |builder| builder) } else { rig.cache.clone() };
        let stale = cache.key("k").load_detached(|_| async { Ok::<_, DbDown>(Some(2_u32)) }).await;
        let stale = stale.unwrap();
        assert_eq!((stale.value.as_deref(), stale.outcome), (Some(&1), Outcome::Stale));
        eventually("refreshed", || cache.stats().loads == 1).await;
        eventually("stored", || {
            futures_util::FutureExt::now_or_never(cache.get::<u32>("k"))
                .is_some_and(|value| value.unwrap().as_deref() == Some(&2))
        })
        .await;
        cache.shutdown().await;
        let third = node(&rig.l2, &rig.clock, |builder| builder);
        assert_eq!(third.get::<u32>("k").await.unwrap().as_deref(), Some(&2));
    }
}

async fn many_stale_readers_start_one_refresh() {
    let rig = rig_with(|builder| builder.stale_for(600 * SECOND).local_for(3600 * SECOND));
    let _ = rig.cache.set("k", 1_u32).await.unwrap();
    rig.clock.advance(61 * SECOND);
    let gate = Arc::new(Semaphore::new(0));
    for _ in 0..100 {
        let gate = Arc::clone(&gate);
        let stale = rig.cache.key("k").load_detached(move |_| async move {
            gate.acquire().await.unwrap().forget();
            Ok::<_, DbDown>(Some(2_u32))
        });
        assert_eq!(stale.await.unwrap().outcome, Outcome::Stale);
    }
    gate.add_permits(100);
    rig.cache.shutdown().await;
    assert_eq!(rig.cache.stats().loads, 1);
}

async fn an_l1_over_a_shared_server_asks_it_again_after_ten_seconds() {
    let rig = rig();
    let other = node(&rig.l2, &rig.clock, |builder| builder);
    let _ = rig.cache.set("k", 1_u32).await.unwrap();
    let _ = other.set("k", 2_u32).await.unwrap();
    assert_eq!(rig.cache.get::<u32>("k").await.unwrap().as_deref(), Some(&1));
    rig.clock.advance(10 * SECOND);
    let answer = rig.cache.key("k").lookup::<u32>().await.unwrap();
    assert_eq!((answer.value.as_deref(), answer.outcome), (Some(&2), Outcome::HitL2));
}

async fn what_l1_cannot_prove_any_more_is_served_only_when_everything_else_fails() {
    let rig = rig();
    let _ = rig.cache.set("k", 1_u32).await.unwrap();
    rig.clock.advance(11 * SECOND);
    rig.l2.switch(State::Failing);
    assert!(matches!(rig.cache.get::<u32>("k").await, Err(Error::Backend(_))));
    let answer = rig.cache.key("k").load::<u32, _, _, _>(|_| db_down()).await.unwrap();
    assert_eq!((answer.value.as_deref(), answer.outcome), (Some(&1), Outcome::Stale));
    let answer = rig.cache.key("k").load(|_| async { Ok::<_, DbDown>(Some(2_u32)) }).await.unwrap();
    assert_eq!((answer.value.as_deref(), answer.outcome), (Some(&2), Outcome::Load));
}

async fn the_loader_can_set_its_entrys_lifetime() {
    let rig = rig();
    let load = |context: tiered::LoadContext| async move {
        context.fresh_for(5 * SECOND);
        Ok::<_, DbDown>(Some(1_u32))
    };
    rig.cache.key("k").fresh_for(1000 * SECOND).load(load).await.unwrap();
    assert_eq!(rig.cache.key("k").lookup::<u32>().await.unwrap().remaining, 5 * SECOND);
    rig.clock.advance(5 * SECOND);
    assert!(rig.cache.get::<u32>("k").await.unwrap().is_none());
    rig.cache
        .key("k")
        .load(|context| async move {
            context.stale_for(60 * SECOND);
            Ok::<_, DbDown>(Some(1_u32))
        })
        .await
        .unwrap();
    rig.clock.advance(100 * SECOND);
    let stale = rig.cache.key("k").load::<u32, _, _, _>(|_| db_down()).await.unwrap();
    assert_eq!(stale.outcome, Outcome::Stale);
}

async fn entries_written_together_do_not_expire_together() {
    let clock = Clock::manual();
    let cache = Tiered::new(Moka::new(1_000), Memory::new().clock(clock.clone()))
        .clock(clock.clone())
        .fresh_for(100 * SECOND)
        .build()
        .unwrap();
    let mut lives = HashSet::new();
    for key in 0..200 {
        let _ = cache.set(key, key).await.unwrap();
        let remaining = cache.key(key).lookup::<i32>().await.unwrap().remaining;
        assert!(remaining >= 90 * SECOND && remaining <= 100 * SECOND, "{remaining:?}");
        lives.insert(remaining.as_millis());
    }
    assert!(lives.len() > 150, "{} different lives", lives.len());
}

async fn lifetimes_that_cannot_work_are_refused_with_the_value_and_the_way_out() {
    let text = |error: Error| format!("{:#}", anyhow::Error::new(error));
    let build =
        |configure: fn(tiered::Builder<tiered::Postcard>) -> tiered::Builder<tiered::Postcard>| {
            text(configure(Tiered::new(Moka::new(10), Memory::new())).build().unwrap_err())
        };
    assert!(build(|builder| builder.fresh_for(Duration::ZERO)).contains("fresh_for is 0ns"));
    assert!(build(|builder| builder.fresh_for(SECOND * 1_000_000_000)).contains("ten years"));
    assert!(build(|builder| builder.negative_for(Duration::ZERO)).contains("negative_for is 0ns"));
    assert!(build(|builder| builder.local_for(Duration::ZERO)).contains("local_for is 0ns"));
    assert!(build(|builder| builder.budget(Duration::ZERO)).contains("budget is 0ns"));
    assert!(build(|builder| builder.lease_for(Duration::ZERO)).contains("lease_for is 0ns"));
    assert!(build(|builder| builder.load_timeout(Duration::ZERO)).contains("load_timeout is 0"));
    assert!(build(|builder| builder.max_pending(0)).contains("max_pending is 0"));
    assert!(build(|builder| builder.max_entry_bytes(1)).contains("max_entry_bytes is 1"));
    assert!(build(|builder| builder.namespace("")).contains("namespace has 0 bytes"));
    assert!(build(|builder| builder.jitter(Jitter::shorten(2.0))).contains("Jitter::shorten(0.1)"));
    assert!(Tiered::new(Moka::new(0), Memory::new()).build().is_err());

    let rig = rig();
    let request = rig.cache.key("k").fresh_for(Duration::ZERO);
    assert!(matches!(request.set(1_u32).await, Err(Error::Config(_))));
    let request = rig.cache.key("k").negative_for(Duration::ZERO);
    assert!(matches!(request.get_or_load::<u32, _, _, _>(db_down).await, Err(Error::Config(_))));
}
