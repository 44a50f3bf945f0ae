//! Bugs that were, each under its symptom.

use std::{
    fmt,
    future::poll_fn,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::Poll,
    time::Duration,
};

use bytes::Bytes;
use futures_util::future::{join, maybe_done};

use tiered::{
    Ack, CacheStrategy, Error, Jitter, Outcome, Tiered,
    tiers::{
        Claim, Clock, DashMap, Fill, Found, HoldEnd, Lease, LeaseToken, Memory, Moka, Progress,
        Redis, RemoteTier, TierError,
    },
};
use tiered_tiers::testing::{BusFault, FaultyBus, RedisServer};
use tokio::sync::oneshot;

use crate::support::{DbDown, SECOND, Source, State, db_down, eventually, node, rig, rig_with};

scenarios! {
    a_stale_value_from_before_an_invalidation_is_not_served_to_a_caller_after_it,
    a_waiter_does_not_carry_its_stale_value_over_an_invalidation,
    a_load_under_way_does_not_outlive_a_set_on_a_switched_off_cache,
    a_key_whose_display_fails_does_not_hit_anothers_value,
    a_slow_load_does_not_keep_what_was_replaced_elsewhere_for_longer_than_told,
    a_replay_that_was_shut_down_goes_on_with_the_next_traffic,
    a_weight_bound_holds_while_the_server_is_down,
    an_overtaken_load_leaves_no_lease_behind,
    a_bypass_is_not_overwritten_by_an_older_read,
    a_set_that_is_overtaken_on_its_way_to_the_server_is_not_left_there,
    calls_that_cannot_work_are_counted,
    a_panicking_tier_is_a_failing_one,
    l1_does_not_stand_in_for_what_l2_says_is_gone,
    l1_does_not_stand_in_for_what_a_full_l2_says_is_gone,
    two_bypasses_at_once_do_not_bring_the_old_value_back,
    a_bypass_that_cannot_be_stored_leaves_no_older_value,
    a_thousand_waiters_of_an_absence_load_once,
    a_stale_value_does_not_stand_in_past_its_time,
    what_cannot_be_weighed_stays_out_of_a_weight_bound,
}

async fn a_stale_value_from_before_an_invalidation_is_not_served_to_a_caller_after_it() {
    let rig = rig_with(|builder| builder.stale_for(600 * SECOND));
    let other = node(&rig.l2, &rig.clock, |builder| builder.stale_for(600 * SECOND));
    let _ = other.set("k", 1_u32).await.unwrap();
    rig.clock.advance(61 * SECOND);
    rig.l2.switch(State::Gated);
    let before = rig.l2.operations();
    let (begun, has_begun) = oneshot::channel();
    let (go, may_go) = oneshot::channel::<()>();
    let cache = rig.cache.clone();
    let first = tokio::spawn(async move {
        let load = move |_| async move {
            begun.send(()).unwrap();
            may_go.await.unwrap();
            Err::<Option<u32>, _>(DbDown)
        };
        cache.key("k").load_detached(load).await
    });
    eventually("it asks the server", || rig.l2.operations() == before + 1).await;
    rig.l2.switch(State::Up);
    assert_eq!(rig.cache.invalidate("k").await.unwrap(), Ack::Done);
    rig.l2.admit(1);
    has_begun.await.unwrap();
    assert_eq!(first.await.unwrap().unwrap().outcome, Outcome::Stale, "it began before");
    let cache = rig.cache.clone();
    let late = tokio::spawn(async move {
        cache.key("k").load(|_| async { Ok::<_, DbDown>(Some(2_u32)) }).await
    });
    eventually("it waits for the load behind", || rig.cache.stats().coalesced == 1).await;
    go.send(()).unwrap();
    let late = late.await.unwrap();
    assert!(late.is_err(), "{late:?}");
}

async fn a_waiter_does_not_carry_its_stale_value_over_an_invalidation() {
    let rig = rig_with(|builder| builder.stale_for(600 * SECOND).local_for(3600 * SECOND));
    let _ = rig.cache.set("k", 1_u32).await.unwrap();
    rig.clock.advance(61 * SECOND);
    let (absent, is_absent) = oneshot::channel::<()>();
    let (fail, may_fail) = oneshot::channel::<()>();
    let (begun, has_begun) = oneshot::channel::<()>();
    let cache = rig.cache.clone();
    let optional = tokio::spawn(async move {
        let load = || async {
            is_absent.await.unwrap();
            Ok::<Option<u32>, DbDown>(None)
        };
        cache.get_or_load_opt("k", load).await
    });
    eventually("it loads", || format!("{:?}", rig.cache).contains("flights: 1")).await;
    let cache = rig.cache.clone();
    let required = tokio::spawn(async move {
        let load = || async {
            begun.send(()).unwrap();
            may_fail.await.unwrap();
            Err::<u32, _>(DbDown)
        };
        cache.get_or_load("k", load).await
    });
    eventually("it waits", || rig.cache.stats().coalesced == 1).await;
    assert_eq!(rig.cache.invalidate("k").await.unwrap(), Ack::Done);
    absent.send(()).unwrap();
    has_begun.await.unwrap();
    let cache = rig.cache.clone();
    let late = tokio::spawn(async move {
        cache.key("k").load(|_| async { Ok::<_, DbDown>(Some(2_u32)) }).await
    });
    eventually("it waits", || rig.cache.stats().coalesced == 2).await;
    fail.send(()).unwrap();
    optional.await.unwrap().unwrap();
    required.await.unwrap().unwrap_err();
    late.await.unwrap().unwrap_err();
}

async fn a_load_under_way_does_not_outlive_a_set_on_a_switched_off_cache() {
    let rig = rig();
    let value = rig.cache.get_or_load("k", || async {
        rig.cache.set_enabled(false);
        assert_eq!(rig.cache.set("k", 2_u32).await.unwrap(), Ack::Done);
        Ok::<_, DbDown>(1_u32)
    });
    assert_eq!(*value.await.unwrap(), 1);
    rig.cache.set_enabled(true);
    assert_eq!(rig.cache.get::<u32>("k").await.unwrap(), None);
    let other = node(&rig.l2, &rig.clock, |builder| builder);
    assert_eq!(other.get::<u32>("k").await.unwrap(), None);
}

/// Spells another key, and then says that it failed to.
struct Half;

impl fmt::Display for Half {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("user:1")?;
        Err(fmt::Error)
    }
}

async fn a_key_whose_display_fails_does_not_hit_anothers_value() {
    let rig = rig();
    let _ = rig.cache.set("user:1", 7_u32).await.unwrap();
    assert!(matches!(rig.cache.get::<u32>(Half).await, Err(Error::InvalidKey(_))));
    let load = || async { Ok::<_, DbDown>(1_u32) };
    assert!(matches!(rig.cache.get_or_load(Half, load).await, Err(Error::InvalidKey(_))));
}

#[tokio::test(start_paused = true)]
async fn a_read_that_waited_for_another_has_no_second_budget() {
    let rig = rig();
    rig.l2.switch(State::Hanging);
    let optional = rig.cache.get_or_load_opt("k", || async { Ok::<Option<u32>, DbDown>(None) });
    let required = async {
        tokio::task::yield_now().await;
        let start = tokio::time::Instant::now();
        rig.cache.get_or_load("k", || async { Ok::<_, DbDown>(5_u32) }).await.unwrap();
        assert!(start.elapsed() <= Duration::from_millis(260), "{:?}", start.elapsed());
    };
    let (optional, ()) = tokio::join!(optional, required);
    assert_eq!(optional.unwrap(), None);
}

async fn a_slow_load_does_not_keep_what_was_replaced_elsewhere_for_longer_than_told() {
    let rig = rig();
    let other = node(&rig.l2, &rig.clock, |builder| builder);
    let load = || async {
        assert_eq!(other.set("k", 2_u32).await.unwrap(), Ack::Done);
        rig.clock.advance(9 * SECOND);
        Ok::<_, DbDown>(1_u32)
    };
    assert_eq!(*rig.cache.get_or_load("k", load).await.unwrap(), 1);
    rig.clock.advance(SECOND);
    assert_eq!(rig.cache.get::<u32>("k").await.unwrap().as_deref(), Some(&2));
}

async fn a_replay_that_was_shut_down_goes_on_with_the_next_traffic() {
    let rig = rig();
    let _ = rig.cache.set("k", 1_u32).await.unwrap();
    rig.l2.switch(State::Failing);
    assert_eq!(rig.cache.invalidate("k").await.unwrap(), Ack::Pending);
    rig.cache.shutdown().await;
    rig.l2.switch(State::Up);
    rig.cache.get::<u32>("something else").await.unwrap();
    eventually("replayed", || format!("{:?}", rig.cache).contains("pending: 0")).await;
    let other = node(&rig.l2, &rig.clock, |builder| builder);
    assert_eq!(other.get::<u32>("k").await.unwrap(), None);
}

async fn a_weight_bound_holds_while_the_server_is_down() {
    let rig = rig();
    for state in [State::Up, State::Failing] {
        rig.l2.switch(state);
        let cache = Tiered::new(DashMap::weighted(100_000), rig.l2.clone()).build().unwrap();
        for key in 0..100 {
            let load = || async { Ok::<_, DbDown>("x".repeat(10_000)) };
            cache.get_or_load(key, load).await.unwrap();
        }
        let entries = cache.health().await.l1.unwrap().entries.unwrap();
        assert!((1..=9).contains(&entries), "{state:?}: {entries} entries of 10 kB in 100 kB");
    }
}

async fn an_overtaken_load_leaves_no_lease_behind() {
    let rig = rig();
    rig.l2.switch(State::Gated);
    let before = rig.l2.operations();
    let cache = rig.cache.clone();
    let load =
        tokio::spawn(
            async move { cache.get_or_load("k", || async { Ok::<_, DbDown>(1_u32) }).await },
        );
    eventually("it asks the server", || rig.l2.operations() == before + 1).await;
    rig.l2.switch(State::Up);
    assert_eq!(rig.cache.invalidate("k").await.unwrap(), Ack::Done);
    rig.l2.admit(1);
    load.await.unwrap().unwrap();
    // It loaded after the invalidation, so what it found is good, and stored.
    let other = node(&rig.l2, &rig.clock, |builder| builder);
    assert_eq!(other.get::<u32>("k").await.unwrap().as_deref(), Some(&1));
}

async fn a_bypass_is_not_overwritten_by_an_older_read() {
    let rig = rig();
    let other = node(&rig.l2, &rig.clock, |builder| builder);
    let _ = other.set("k", 1_u32).await.unwrap();
    rig.l2.switch(State::Gated);
    let before = rig.l2.operations();
    let cache = rig.cache.clone();
    let read = tokio::spawn(async move { cache.get::<u32>("k").await });
    eventually("it asks the server", || rig.l2.operations() == before + 1).await;
    rig.l2.switch(State::Up);
    let bypass = rig.cache.key("k").strategy(CacheStrategy::Bypass);
    bypass.get_or_load(|| async { Ok::<_, DbDown>(2_u32) }).await.unwrap();
    rig.l2.admit(1);
    read.await.unwrap().unwrap();
    assert_eq!(rig.cache.get::<u32>("k").await.unwrap().as_deref(), Some(&2));
}

async fn a_set_that_is_overtaken_on_its_way_to_the_server_is_not_left_there() {
    let rig = rig();
    rig.l2.switch(State::Held);
    let before = rig.l2.operations();
    let cache = rig.cache.clone();
    let set = tokio::spawn(async move { cache.set("k", 1_u32).await });
    eventually("it is on its way", || rig.l2.operations() == before + 1).await;
    rig.l2.switch(State::Up);
    assert_eq!(rig.cache.invalidate("k").await.unwrap(), Ack::Done);
    rig.l2.admit(1);
    assert_eq!(set.await.unwrap().unwrap(), Ack::Done);
    assert_eq!(rig.cache.get::<u32>("k").await.unwrap(), None);
    let other = node(&rig.l2, &rig.clock, |builder| builder);
    assert_eq!(other.get::<u32>("k").await.unwrap(), None);
}

async fn calls_that_cannot_work_are_counted() {
    let rig = rig();
    rig.cache.get::<u32>(Half).await.unwrap_err();
    let request = rig.cache.key("k").fresh_for(Duration::ZERO);
    request.get_or_load(|| async { Ok::<_, DbDown>(1_u32) }).await.unwrap_err();
    assert_eq!(rig.cache.stats().error, 2);
}

/// A tier of somebody else's making.
#[derive(Debug)]
struct Panicking;

#[async_trait::async_trait]
impl RemoteTier for Panicking {
    fn name(&self) -> &'static str {
        "panicking"
    }
    async fn get(&self, _: &[u8]) -> Result<Option<Found>, TierError> {
        panic!("get")
    }
    async fn lease(
        &self,
        _: &[u8],
        _: LeaseToken,
        _: Duration,
        _: Claim,
    ) -> Result<Lease, TierError> {
        panic!("lease")
    }
    async fn fill(
        &self,
        _: &[u8],
        _: LeaseToken,
        _: Bytes,
        _: Duration,
    ) -> Result<Fill, TierError> {
        panic!("fill")
    }
    async fn release(&self, _: &[u8], _: LeaseToken) -> Result<(), TierError> {
        panic!("release")
    }
    async fn renew(&self, _: &[u8], _: LeaseToken, _: Duration) -> Result<bool, TierError> {
        panic!("renew")
    }
    async fn hold(&self, _: &[u8], _: LeaseToken, _: Duration) -> Result<(), TierError> {
        panic!("hold")
    }
    async fn renew_hold(&self, _: &[u8], _: LeaseToken, _: Duration) -> Result<bool, TierError> {
        panic!("renew_hold")
    }
    async fn end_hold(
        &self,
        _: &[u8],
        _: LeaseToken,
        _: Option<(LeaseToken, Duration)>,
    ) -> Result<HoldEnd, TierError> {
        panic!("end_hold")
    }
    async fn set(&self, _: &[u8], _: Bytes, _: Duration) -> Result<Fill, TierError> {
        panic!("set")
    }
    async fn delete(&self, _: &[u8]) -> Result<(), TierError> {
        panic!("delete")
    }
    async fn clear(&self, _: &[u8], _: Progress<'_>) -> Result<(), TierError> {
        panic!("clear")
    }
    async fn ping(&self) -> Result<(), TierError> {
        panic!("ping")
    }
}

async fn a_panicking_tier_is_a_failing_one() {
    let cache = Tiered::new(Moka::new(10), Panicking).build().unwrap();
    let load = || async { Ok::<_, DbDown>(1_u32) };
    assert_eq!(*cache.get_or_load("a", load).await.unwrap(), 1);
    assert_eq!(*cache.key("b").detached(load).await.unwrap(), 1);
    assert_eq!(cache.set("k", 1_u32).await.unwrap(), Ack::Pending);
    assert!(matches!(cache.ping().await, Err(Error::Backend(_))));
}

async fn l1_does_not_stand_in_for_what_l2_says_is_gone() {
    let rig = rig();
    let other = node(&rig.l2, &rig.clock, |builder| builder);
    let _ = rig.cache.set("k", 1_u32).await.unwrap();
    assert_eq!(other.invalidate("k").await.unwrap(), Ack::Done);
    rig.clock.advance(11 * SECOND);
    rig.cache.get_or_load::<u32, _, _, _>("k", db_down).await.unwrap_err();
}

#[test]
fn shutdown_outside_a_runtime_does_not_panic() {
    use futures_util::FutureExt;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let cache = Tiered::new(Moka::new(10), Memory::new()).jitter(Jitter::none()).build().unwrap();
    runtime.block_on(cache.key("k").detached(|| async { Ok::<_, DbDown>(1_u32) })).unwrap();
    assert!(cache.shutdown().now_or_never().is_some());
}

/// Answers reads and refuses leases, as a server without memory does.
#[derive(Clone, Debug)]
struct Full(Memory, Arc<AtomicBool>);

#[async_trait::async_trait]
impl RemoteTier for Full {
    fn name(&self) -> &'static str {
        "full"
    }
    async fn get(&self, key: &[u8]) -> Result<Option<Found>, TierError> {
        self.0.get(key).await
    }
    async fn lease(
        &self,
        key: &[u8],
        token: LeaseToken,
        life: Duration,
        claim: Claim,
    ) -> Result<Lease, TierError> {
        if self.1.load(Ordering::SeqCst) {
            return Err(TierError::Refused("OOM".into()));
        }
        self.0.lease(key, token, life, claim).await
    }
    async fn fill(
        &self,
        key: &[u8],
        token: LeaseToken,
        bytes: Bytes,
        life: Duration,
    ) -> Result<Fill, TierError> {
        self.0.fill(key, token, bytes, life).await
    }
    async fn release(&self, key: &[u8], token: LeaseToken) -> Result<(), TierError> {
        self.0.release(key, token).await
    }
    async fn renew(
        &self,
        key: &[u8],
        token: LeaseToken,
        life: Duration,
    ) -> Result<bool, TierError> {
        self.0.renew(key, token, life).await
    }
    async fn hold(&self, key: &[u8], token: LeaseToken, life: Duration) -> Result<(), TierError> {
        self.0.hold(key, token, life).await
    }
    async fn renew_hold(
        &self,
        key: &[u8],
        token: LeaseToken,
        life: Duration,
    ) -> Result<bool, TierError> {
        self.0.renew_hold(key, token, life).await
    }
    async fn end_hold(
        &self,
        key: &[u8],
        token: LeaseToken,
        lease: Option<(LeaseToken, Duration)>,
    ) -> Result<HoldEnd, TierError> {
        self.0.end_hold(key, token, lease).await
    }
    async fn set(&self, key: &[u8], bytes: Bytes, life: Duration) -> Result<Fill, TierError> {
        self.0.set(key, bytes, life).await
    }
    async fn delete(&self, key: &[u8]) -> Result<(), TierError> {
        self.0.delete(key).await
    }
    async fn clear(&self, prefix: &[u8], progress: Progress<'_>) -> Result<(), TierError> {
        self.0.clear(prefix, progress).await
    }
    async fn ping(&self) -> Result<(), TierError> {
        Ok(())
    }
}

async fn l1_does_not_stand_in_for_what_a_full_l2_says_is_gone() {
    let clock = Clock::manual();
    let is_full = Arc::new(AtomicBool::new(false));
    let l2 = Full(Memory::new().clock(clock.clone()), Arc::clone(&is_full));
    let make = || Tiered::new(Moka::new(100), l2.clone()).clock(clock.clone()).build().unwrap();
    let (cache, other) = (make(), make());
    let _ = cache.set("k", 1_u32).await.unwrap();
    assert_eq!(other.invalidate("k").await.unwrap(), Ack::Done);
    clock.advance(11 * SECOND);
    is_full.store(true, Ordering::SeqCst);
    cache.get_or_load::<u32, _, _, _>("k", db_down).await.unwrap_err();
}

async fn two_bypasses_at_once_do_not_bring_the_old_value_back() {
    let rig = rig();
    let _ = rig.cache.set("k", 1_u32).await.unwrap();
    let bypass = |go: oneshot::Receiver<()>| {
        let cache = rig.cache.clone();
        tokio::spawn(async move {
            let load = || async {
                go.await.unwrap();
                Ok::<_, DbDown>(2_u32)
            };
            cache.key("k").strategy(CacheStrategy::Bypass).get_or_load(load).await
        })
    };
    let before = rig.l2.operations();
    let (first, may_first) = oneshot::channel();
    let first_load = bypass(may_first);
    eventually("it has its lease", || rig.l2.operations() == before + 1).await;
    let (second, may_second) = oneshot::channel();
    let second_load = bypass(may_second);
    eventually("it has its lease", || rig.l2.operations() == before + 2).await;
    first.send(()).unwrap();
    assert_eq!(*first_load.await.unwrap().unwrap(), 2);
    second.send(()).unwrap();
    assert_eq!(*second_load.await.unwrap().unwrap(), 2);
    let other = node(&rig.l2, &rig.clock, |builder| builder);
    for cache in [&rig.cache, &other] {
        assert!(cache.get::<u32>("k").await.unwrap().is_none_or(|value| *value == 2));
    }
}

async fn a_bypass_that_cannot_be_stored_leaves_no_older_value() {
    let rig = rig_with(|builder| builder.max_entry_bytes(1024));
    let _ = rig.cache.set("k", "old".to_owned()).await.unwrap();
    let bypass = rig.cache.key("k").strategy(CacheStrategy::Bypass);
    bypass.get_or_load(|| async { Ok::<_, DbDown>("x".repeat(5_000)) }).await.unwrap();
    rig.clock.advance(11 * SECOND);
    assert_eq!(rig.cache.get::<String>("k").await.unwrap(), None);
}

async fn a_thousand_waiters_of_an_absence_load_once() {
    let rig = rig();
    let (absent, is_absent) = oneshot::channel::<()>();
    let cache = rig.cache.clone();
    let optional = tokio::spawn(async move {
        let load = || async {
            is_absent.await.unwrap();
            Ok::<Option<usize>, DbDown>(None)
        };
        cache.get_or_load_opt("k", load).await
    });
    eventually("it loads", || format!("{:?}", rig.cache).contains("flights: 1")).await;
    let source = Source::default();
    let mut waiting = tokio::task::JoinSet::new();
    for _ in 0..1_000 {
        let (cache, source) = (rig.cache.clone(), source.clone());
        waiting.spawn(async move { cache.get_or_load("k", || source.load()).await });
    }
    eventually("all wait", || rig.cache.stats().coalesced == 1_000).await;
    absent.send(()).unwrap();
    optional.await.unwrap().unwrap();
    for value in waiting.join_all().await {
        value.unwrap();
    }
    assert_eq!(source.asked(), 1);
}

async fn a_stale_value_does_not_stand_in_past_its_time() {
    let rig = rig_with(|builder| builder.stale_for(5 * SECOND).local_for(3600 * SECOND));
    let _ = rig.cache.set("k", 1_u32).await.unwrap();
    rig.clock.advance(61 * SECOND);
    let slow = || async {
        rig.clock.advance(600 * SECOND);
        db_down().await
    };
    rig.cache.get_or_load::<u32, _, _, _>("k", slow).await.unwrap_err();
}

async fn what_cannot_be_weighed_stays_out_of_a_weight_bound() {
    let rig = rig();
    let build = || Tiered::new(DashMap::weighted(100_000), rig.l2.clone());
    let entries = async |cache: &Tiered| cache.health().await.l1.unwrap().entries.unwrap();
    let small = build().max_entry_bytes(5_000).build().unwrap();
    let skipping = build().build().unwrap();
    for key in 0..100 {
        let load = || async { Ok::<_, DbDown>("x".repeat(10_000)) };
        small.get_or_load(key, load).await.unwrap();
        let _ = skipping.key(key).skip_l2().set("x".repeat(10_000)).await.unwrap();
    }
    assert!(entries(&small).await <= 9 && entries(&skipping).await <= 9);
}

#[tokio::test(start_paused = true)]
async fn a_caller_who_takes_over_from_a_slow_load_still_asks_a_healthy_server() {
    let rig = rig();
    let cache = rig.cache.clone();
    let leader = tokio::spawn(async move {
        let load = || async {
            tokio::time::sleep(SECOND).await;
            Ok::<_, DbDown>(1_u32)
        };
        cache.get_or_load("k", load).await
    });
    tokio::time::sleep(Duration::from_millis(1)).await;
    let cache = rig.cache.clone();
    let waiter = tokio::spawn(async move { cache.get_or_load::<u32, _, _, _>("k", db_down).await });
    tokio::time::sleep(Duration::from_millis(300)).await;
    let other = node(&rig.l2, &rig.clock, |builder| builder);
    assert_eq!(other.set("k", 7_u32).await.unwrap(), Ack::Done);
    leader.abort();
    assert_eq!(*waiter.await.unwrap().unwrap(), 7);
}

#[tokio::test(start_paused = true)]
async fn each_strategy_spends_one_budget_on_a_hung_server() {
    use CacheStrategy::{Bypass, Fresh, Invalidate, Refresh};
    let rig = rig();
    rig.l2.switch(State::Hanging);
    for strategy in [Fresh, Refresh, Invalidate, Bypass] {
        let start = tokio::time::Instant::now();
        let request = rig.cache.key(format!("{strategy:?}")).strategy(strategy);
        let _ = request.load(|_| async { Ok::<_, DbDown>(Some(1_u32)) }).await;
        assert!(
            start.elapsed() <= Duration::from_millis(260),
            "{strategy:?} {:?}",
            start.elapsed()
        );
    }
}

/// Each begins before the other ends, so neither knows which was the last on the server; but one that the server refuses
/// was overtaken by the other, and may hear of it late.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_sets_at_once_whose_messages_are_slow_leave_no_value() {
    let server = RedisServer::start().await.unwrap();
    let patience = Duration::from_secs(10);
    let redis = Redis::new(&server.url()).unwrap().response_timeout(patience);
    let bus = FaultyBus::seeded(redis.bus(), 7);
    bus.inject_some(BusFault::Delay(Duration::from_millis(2)), 50);
    let cache = Tiered::new(Moka::new(100), redis).bus(bus).budget(patience).build().unwrap();
    for round in 0..300 {
        let mut first = pin!(maybe_done(cache.set("k", 1_usize)));
        let mut second = pin!(maybe_done(cache.set("k", 2_usize)));
        poll_fn(|context| {
            let _ = first.as_mut().poll(context);
            let _ = second.as_mut().poll(context);
            Poll::Ready(())
        })
        .await;
        // On a busy machine one may have ended before the other began.
        let overlapped = first.as_mut().output_mut().is_none();
        join(&mut first, &mut second).await;
        for ended in [first, second].into_iter().map(|set| set.take_output().unwrap()) {
            assert_eq!(ended.unwrap(), Ack::Done);
        }
        if !overlapped {
            continue;
        }
        let left = cache.key("k").skip_l1().get::<usize>().await.unwrap();
        assert_eq!(left, None, "round {round}");
    }
}
