//! The fence: what was invalidated does not come back, in L1, in L2, or from behind.

use tiered::{
    Ack, CacheStrategy, Outcome, Tiered,
    tiers::{Moka, Redis},
};
use tiered_tiers::testing::RedisServer;
use tokio::sync::oneshot;

use crate::support::{DbDown, SECOND, State, eventually, node, rig, rig_with};

scenarios! {
    a_load_overtaken_by_an_invalidation_is_stored_nowhere,
    a_load_overtaken_by_a_set_does_not_replace_it,
    a_load_overtaken_by_another_process_is_not_stored_on_the_server,
    a_load_overtaken_on_a_real_redis_is_stored_nowhere,
    a_read_that_saw_the_old_value_on_the_server_does_not_bring_it_back,
    a_refresh_behind_that_is_overtaken_is_stored_nowhere,
    concurrent_sets_leave_the_tiers_agreeing,
    a_cancelled_invalidation_still_invalidates,
    an_invalidation_under_way_holds_here_before_the_server_answers,
    a_caller_after_an_invalidation_does_not_share_a_read_that_began_during_it,
    the_strategy_invalidate_drops_before_it_loads,
}

/// Runs `overtake` while a load of `k` that will find 1 is under way, in the ways a load can run.
async fn load_overtaken<F: Future<Output = ()>>(
    cache: &Tiered,
    detached: bool,
    overtake: impl FnOnce() -> F,
) -> u32 {
    let (begun, has_begun) = oneshot::channel();
    let (go, may_go) = oneshot::channel::<()>();
    let load = move || async move {
        begun.send(()).unwrap();
        may_go.await.unwrap();
        Ok::<_, DbDown>(1_u32)
    };
    let call = async {
        let request = cache.key("k");
        *if detached { request.detached(load).await } else { request.get_or_load(load).await }
            .unwrap()
    };
    let rest = async {
        has_begun.await.unwrap();
        overtake().await;
        go.send(()).unwrap();
    };
    tokio::join!(call, rest).0
}

async fn a_load_overtaken_by_an_invalidation_is_stored_nowhere() {
    for detached in [false, true] {
        let rig = rig();
        let value = load_overtaken(&rig.cache, detached, || async {
            assert_eq!(rig.cache.invalidate("k").await.unwrap(), Ack::Done);
        })
        .await;
        assert_eq!(value, 1, "the caller gets what it loaded");
        assert_eq!(rig.cache.get::<u32>("k").await.unwrap(), None);
    }
}

async fn a_load_overtaken_by_a_set_does_not_replace_it() {
    for detached in [false, true] {
        let rig = rig();
        load_overtaken(&rig.cache, detached, || async {
            assert_eq!(rig.cache.set("k", 2_u32).await.unwrap(), Ack::Done);
        })
        .await;
        for skip_l1 in [false, true] {
            let request = rig.cache.key("k");
            let request = if skip_l1 { request.skip_l1() } else { request };
            assert_eq!(request.get::<u32>().await.unwrap().as_deref(), Some(&2));
        }
    }
}

async fn a_load_overtaken_by_another_process_is_not_stored_on_the_server() {
    for set in [false, true] {
        let rig = rig();
        let other = node(&rig.l2, &rig.clock, |builder| builder);
        load_overtaken(&rig.cache, false, || async {
            if set {
                assert_eq!(other.set("k", 2_u32).await.unwrap(), Ack::Done);
            } else {
                assert_eq!(other.invalidate("k").await.unwrap(), Ack::Done);
            }
        })
        .await;
        let third = node(&rig.l2, &rig.clock, |builder| builder);
        assert_eq!(third.get::<u32>("k").await.unwrap().as_deref(), set.then_some(&2));
        assert_eq!(rig.cache.stats().refused_fills, 1);
        // Without a bus this process' L1 may serve what it loaded, but not for long.
        rig.clock.advance(11 * SECOND);
        assert_eq!(rig.cache.get::<u32>("k").await.unwrap().as_deref(), set.then_some(&2));
    }
}

async fn a_load_overtaken_on_a_real_redis_is_stored_nowhere() {
    let server = RedisServer::start().await.unwrap();
    let make = || Tiered::new(Moka::new(100), Redis::new(&server.url()).unwrap()).build().unwrap();
    let (cache, other) = (make(), make());
    for detached in [false, true] {
        load_overtaken(&cache, detached, || async {
            assert_eq!(other.invalidate("k").await.unwrap(), Ack::Done);
        })
        .await;
        assert_eq!(make().get::<u32>("k").await.unwrap(), None);
        load_overtaken(&make(), detached, || async {
            assert_eq!(other.set("k", 2_u32).await.unwrap(), Ack::Done);
        })
        .await;
        assert_eq!(make().get::<u32>("k").await.unwrap().as_deref(), Some(&2));
        assert_eq!(other.invalidate("k").await.unwrap(), Ack::Done);
        assert_eq!(cache.invalidate("k").await.unwrap(), Ack::Done);
    }
    let _ = cache.set("last", 1_u32).await.unwrap();
    assert_eq!(server.keys_without_expiry().await.unwrap(), Vec::<Vec<u8>>::new());
}

/// A reader that has seen the server's old value before the delete must not put it into L1 after.
async fn a_read_that_saw_the_old_value_on_the_server_does_not_bring_it_back() {
    let rig = rig();
    let other = node(&rig.l2, &rig.clock, |builder| builder);
    let _ = other.set("k", 1_u32).await.unwrap();
    rig.l2.switch(State::Gated);
    let read = rig.cache.get::<u32>("k");
    let finish = async {
        eventually("the read is at the server", || rig.l2.operations() == 2).await;
        rig.l2.switch(State::Up);
        assert_eq!(rig.cache.invalidate("k").await.unwrap(), Ack::Done);
        rig.l2.admit(1);
    };
    let (seen, ()) = tokio::join!(read, finish);
    assert_eq!(seen.unwrap().as_deref(), Some(&1), "it began before the invalidation");
    assert_eq!(rig.cache.get::<u32>("k").await.unwrap(), None);
}

async fn a_refresh_behind_that_is_overtaken_is_stored_nowhere() {
    let rig = rig_with(|builder| builder.stale_for(600 * SECOND).local_for(3600 * SECOND));
    let _ = rig.cache.set("k", 0_u32).await.unwrap();
    rig.clock.advance(61 * SECOND);
    let (begun, has_begun) = oneshot::channel();
    let (go, may_go) = oneshot::channel::<()>();
    let stale = rig
        .cache
        .key("k")
        .load_detached(move |_| async move {
            begun.send(()).unwrap();
            may_go.await.unwrap();
            Ok::<_, DbDown>(Some(1_u32))
        })
        .await
        .unwrap();
    assert_eq!((stale.value.as_deref(), stale.outcome), (Some(&0), Outcome::Stale));
    has_begun.await.unwrap();
    assert_eq!(rig.cache.invalidate("k").await.unwrap(), Ack::Done);
    go.send(()).unwrap();
    eventually("the refresh ended", || {
        rig.cache.stats().loads == 1 && rig.cache.stats().refused_fills > 0
    })
    .await;
    assert_eq!(rig.cache.get::<u32>("k").await.unwrap(), None);
}

/// Of two concurrent writes in one process, L1 must not end with the one that L2 has not.
async fn concurrent_sets_leave_the_tiers_agreeing() {
    let rig = rig();
    rig.l2.switch(State::Gated);
    let first = rig.cache.set("k", 1_u32);
    let second = async {
        eventually("the first has reached the server", || rig.l2.operations() == 1).await;
        rig.cache.set("k", 2_u32).await
    };
    let release = async {
        eventually("both have reached the server", || rig.l2.operations() == 2).await;
        rig.l2.switch(State::Up);
        rig.l2.admit(2);
    };
    let (first, second, ()) = tokio::join!(first, second, release);
    assert_eq!((first.unwrap(), second.unwrap()), (Ack::Done, Ack::Done));
    // Nobody knows which one the server executed last, so neither is kept.
    assert_eq!(rig.cache.get::<u32>("k").await.unwrap(), None);
    assert_eq!(rig.cache.key("k").skip_l1().get::<u32>().await.unwrap(), None);
}

async fn a_cancelled_invalidation_still_invalidates() {
    let rig = rig();
    let _ = rig.cache.set("k", 1_u32).await.unwrap();
    rig.l2.switch(State::Hanging);
    {
        let mut call = std::pin::pin!(rig.cache.invalidate("k"));
        assert!(futures_util::poll!(&mut call).is_pending());
    }
    assert_eq!(rig.cache.health().await.pending, 1);
    rig.l2.switch(State::Up);
    assert_eq!(rig.cache.get::<u32>("k").await.unwrap(), None);
    let other = node(&rig.l2, &rig.clock, |builder| builder);
    assert_eq!(other.get::<u32>("k").await.unwrap(), None);
}

async fn the_strategy_invalidate_drops_before_it_loads() {
    let rig = rig();
    let _ = rig.cache.set("k", 1_u32).await.unwrap();
    let request = rig.cache.key("k").strategy(CacheStrategy::Invalidate);
    request.get_or_load::<u32, _, _, _>(crate::support::db_down).await.unwrap_err();
    let other = node(&rig.l2, &rig.clock, |builder| builder);
    assert_eq!(rig.cache.get::<u32>("k").await.unwrap(), None);
    assert_eq!(other.get::<u32>("k").await.unwrap(), None);
}

async fn an_invalidation_under_way_holds_here_before_the_server_answers() {
    let rig = rig();
    let _ = rig.cache.set("k", 1_u32).await.unwrap();
    rig.l2.switch(State::Hanging);
    let mut call = std::pin::pin!(rig.cache.invalidate("k"));
    assert!(futures_util::poll!(&mut call).is_pending());
    let mut read = std::pin::pin!(rig.cache.get::<u32>("k"));
    assert!(futures_util::poll!(&mut read).is_pending(), "it asks the server, L1 has nothing");
}

async fn a_caller_after_an_invalidation_does_not_share_a_read_that_began_during_it() {
    let rig = rig();
    let other = node(&rig.l2, &rig.clock, |builder| builder);
    let _ = other.set("k", 1_u32).await.unwrap();
    rig.l2.switch(State::Held);
    let mut invalidate = std::pin::pin!(rig.cache.invalidate("k"));
    assert!(futures_util::poll!(&mut invalidate).is_pending());
    // It finds the old value on the server, and its answer is slow.
    rig.l2.switch(State::Gated);
    let mut during = std::pin::pin!(rig.cache.get::<u32>("k"));
    assert!(futures_util::poll!(&mut during).is_pending());
    rig.l2.admit(1);
    assert_eq!(invalidate.await.unwrap(), Ack::Done);
    rig.l2.switch(State::Up);
    let mut after = std::pin::pin!(rig.cache.get::<u32>("k"));
    let std::task::Poll::Ready(after) = futures_util::poll!(&mut after) else {
        panic!("it waits for the read that began before the invalidation was done")
    };
    assert_eq!(after.unwrap(), None);
    rig.l2.admit(1);
    assert_eq!(during.await.unwrap().as_deref(), Some(&1));
    assert_eq!(rig.cache.get::<u32>("k").await.unwrap(), None);
}
