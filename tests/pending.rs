//! Invalidations while the server is away: queued, bounded, replayed; never lost, never forever.

use futures_util::FutureExt;
use tiered::{Ack, Outcome, Tiered};

use crate::support::{DbDown, SECOND, State, eventually, node, rig, rig_with};

scenarios! {
    an_invalidation_without_a_server_holds_here_at_once_and_everywhere_when_it_is_back,
    a_pending_key_is_neither_read_from_the_server_nor_filled_there,
    a_set_without_a_server_is_served_here_and_the_old_value_nowhere,
    a_later_success_ends_the_waiting,
    too_many_pending_invalidations_clear_the_namespace,
    a_server_that_cannot_be_cleared_is_left_alone_until_all_has_expired,
    a_load_that_began_before_a_pending_invalidation_does_not_fill_the_server,
}

async fn replayed(cache: &Tiered) {
    eventually("replayed", || {
        cache.health().now_or_never().is_some_and(|health| health.pending == 0)
    })
    .await;
}

async fn an_invalidation_without_a_server_holds_here_at_once_and_everywhere_when_it_is_back() {
    for state in [State::Failing, State::Hanging] {
        let rig = rig();
        let other = node(&rig.l2, &rig.clock, |builder| builder);
        let _ = other.set("k", 1_u32).await.unwrap();
        assert!(rig.cache.get::<u32>("k").await.unwrap().is_some());
        rig.l2.switch(state);
        assert_eq!(rig.cache.invalidate("k").await.unwrap(), Ack::Pending);
        rig.l2.switch(State::Up);
        // By itself: nobody reads the key in this process.
        replayed(&rig.cache).await;
        let third = node(&rig.l2, &rig.clock, |builder| builder);
        assert_eq!(third.get::<u32>("k").await.unwrap(), None, "{state:?}");
    }
}

async fn a_pending_key_is_neither_read_from_the_server_nor_filled_there() {
    let rig = rig();
    let _ = rig.cache.set("k", 1_u32).await.unwrap();
    rig.l2.switch(State::Failing);
    assert_eq!(rig.cache.invalidate("k").await.unwrap(), Ack::Pending);
    let loaded = rig.cache.key("k").load(|_| async { Ok::<_, DbDown>(Some(2_u32)) }).await.unwrap();
    assert_eq!((loaded.value.as_deref(), loaded.outcome), (Some(&2), Outcome::Load));
    rig.clock.advance(11 * SECOND);
    rig.l2.switch(State::Up);
    // The delete goes first, so the old value is not read.
    assert_eq!(rig.cache.get::<u32>("k").await.unwrap(), None);
    assert_eq!(rig.cache.health().await.pending, 0);
}

async fn a_set_without_a_server_is_served_here_and_the_old_value_nowhere() {
    let rig = rig();
    let _ = rig.cache.set("k", 1_u32).await.unwrap();
    rig.l2.switch(State::Failing);
    assert_eq!(rig.cache.set("k", 2_u32).await.unwrap(), Ack::Pending);
    assert_eq!(rig.cache.get::<u32>("k").await.unwrap().as_deref(), Some(&2));
    rig.l2.switch(State::Up);
    replayed(&rig.cache).await;
    let other = node(&rig.l2, &rig.clock, |builder| builder);
    assert_eq!(other.get::<u32>("k").await.unwrap(), None);
}

async fn a_later_success_ends_the_waiting() {
    let rig = rig();
    for set in [false, true] {
        rig.l2.switch(State::Failing);
        assert_eq!(rig.cache.invalidate("k").await.unwrap(), Ack::Pending);
        rig.l2.switch(State::Up);
        let ack =
            if set { rig.cache.set("k", 1_u32).await } else { rig.cache.invalidate("k").await };
        assert_eq!(ack.unwrap(), Ack::Done);
        assert_eq!(rig.cache.health().await.pending, 0);
    }
    assert_eq!(rig.cache.get::<u32>("k").await.unwrap().as_deref(), Some(&1));
}

async fn too_many_pending_invalidations_clear_the_namespace() {
    let rig = rig_with(|builder| builder.max_pending(4));
    let stranger = node(&rig.l2, &rig.clock, |builder| builder.namespace("stranger"));
    let _ = stranger.set(0, 0_u32).await.unwrap();
    for key in 0..8 {
        let _ = rig.cache.set(key, key).await.unwrap();
    }
    rig.l2.switch(State::Failing);
    for key in 0..6 {
        assert_eq!(rig.cache.invalidate(key).await.unwrap(), Ack::Pending);
    }
    rig.clock.advance(11 * SECOND);
    rig.l2.switch(State::Up);
    // Whether the clear has happened yet or not, nothing invalidated is read.
    for key in 0..6 {
        let value =
            rig.cache.key(key).load(|_| async { Ok::<_, DbDown>(Some(100)) }).await.unwrap();
        assert_eq!(value.value.as_deref(), Some(&100));
    }
    replayed(&rig.cache).await;
    let other = node(&rig.l2, &rig.clock, |builder| builder);
    for key in 0..8 {
        assert!(other.get::<i32>(key).await.unwrap().is_none_or(|value| *value == 100));
    }
    assert!(stranger.key(0).skip_l1().get::<u32>().await.unwrap().is_some());
}

async fn a_server_that_cannot_be_cleared_is_left_alone_until_all_has_expired() {
    let rig = rig();
    let l2 = rig.l2.clone().unclearable();
    let cache = node(&l2, &rig.clock, |builder| builder.max_pending(4).stale_for(30 * SECOND));
    let long = cache.key("long").fresh_for(100 * SECOND);
    assert_eq!(long.set(0_i32).await.unwrap(), Ack::Done);
    l2.switch(State::Failing);
    for key in 0..6 {
        assert_eq!(cache.invalidate(key).await.unwrap(), Ack::Pending);
    }
    l2.switch(State::Up);
    // Whatever was stored, with the longest life that this cache has given, may still be there.
    let before = l2.operations();
    rig.clock.advance(129 * SECOND);
    for _ in 0..20 {
        assert_eq!(cache.key("long").skip_l1().lookup::<i32>().await.ok().map(|a| a.value), None);
        tokio::time::sleep(std::time::Duration::from_millis(2)).await;
    }
    assert_eq!((l2.operations(), cache.health().await.pending), (before, 1));
    rig.clock.advance(2 * SECOND);
    replayed(&cache).await;
    assert_eq!(cache.set("new", 1).await.unwrap(), Ack::Done);
    assert_eq!(cache.key("new").skip_l1().get::<i32>().await.unwrap().as_deref(), Some(&1));
}

async fn a_load_that_began_before_a_pending_invalidation_does_not_fill_the_server() {
    let rig = rig();
    let value = rig
        .cache
        .get_or_load("k", || async {
            rig.l2.switch(State::Failing);
            assert_eq!(rig.cache.invalidate("k").await.unwrap(), Ack::Pending);
            rig.l2.switch(State::Up);
            Ok::<_, DbDown>(1_u32)
        })
        .await;
    assert_eq!(*value.unwrap(), 1);
    // Before anything is replayed.
    let other = node(&rig.l2, &rig.clock, |builder| builder);
    assert_eq!(other.get::<u32>("k").await.unwrap(), None);
    assert_eq!(rig.cache.get::<u32>("k").await.unwrap(), None);
}
