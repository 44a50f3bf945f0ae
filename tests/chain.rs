//! Three tiers and more: L1 before a near server before a far one, `Tiered::new(l1, near.then(far))`.

use std::{sync::Arc, time::Duration};

use futures_util::FutureExt;
use tiered::{
    Ack, Answer,
    CacheStrategy::{self, Bypass, Fresh, Invalidate, Refresh},
    Error, Jitter, Outcome, Tiered,
    tiers::{Clock, Memcached, Memory, Moka, Redis, RemoteTier},
};
use tiered_tiers::testing::{MemcachedServer, RedisServer};
use tokio::time::Instant;

use crate::support::{DbDown, SECOND, Source, State, Switchable, db_down, eventually};

scenarios! {
    a_read_goes_down_and_leaves_copies_on_its_way_up,
    real_servers_in_a_row_are_read_filled_and_invalidated_as_one,
    a_short_copy_is_as_fresh_as_its_original,
    a_stale_copy_beside_a_fresh_original_is_replaced_without_a_load,
    an_invalidation_that_does_not_reach_the_near_server_is_pending_and_its_value_is_not_read,
    a_bypass_that_cannot_settle_the_near_server_leaves_nothing_old,
}

/// Makes one of two servers.
type Chained = fn(Redis, Memcached) -> Arc<dyn RemoteTier>;

/// The value in the cache, and the one in the database.
const CACHED: u32 = 1;
const STORED: u32 = 2;

struct Rig {
    near: Switchable,
    near_store: Memory,
    far: Switchable,
    far_store: Memory,
    clock: Clock,
}

fn rig() -> Rig {
    let clock = Clock::manual();
    let store = || Memory::new().clock(clock.clone());
    let (near_store, far_store) = (store(), store());
    let (near, far) = (Switchable::new(near_store.clone()), Switchable::new(far_store.clone()));
    Rig { near, near_store, far, far_store, clock }
}

impl Rig {
    /// A process over both servers.
    fn node(&self) -> Tiered {
        self.over(self.near.clone().then(self.far.clone()))
    }

    fn over(&self, l2: impl RemoteTier) -> Tiered {
        let builder = Tiered::new(Moka::new(1_000), l2).clock(self.clock.clone());
        builder
            .jitter(Jitter::none())
            .fresh_for(60 * SECOND)
            .stale_for(600 * SECOND)
            .build()
            .unwrap()
    }

    /// What lies in each of the two.
    async fn lies(&self, key: &str) -> [bool; 2] {
        let wire = format!("tiered:{key}");
        let near = self.near_store.get(wire.as_bytes()).await.unwrap();
        let far = self.far_store.get(wire.as_bytes()).await.unwrap();
        [near.is_some(), far.is_some()]
    }
}

async fn replayed(cache: &Tiered) {
    eventually("replayed", || {
        cache.health().now_or_never().is_some_and(|health| health.pending == 0)
    })
    .await;
}

async fn load(cache: &Tiered, value: u32) -> Answer<u32> {
    cache.key("k").load(|_| async move { Ok::<_, DbDown>(Some(value)) }).await.unwrap()
}

async fn a_read_goes_down_and_leaves_copies_on_its_way_up() {
    let rig = rig();
    let elsewhere = rig.over(rig.far_store.clone());
    assert_eq!(elsewhere.set("k", CACHED).await.unwrap(), Ack::Done);
    assert_eq!(rig.lies("k").await, [false, true]);
    let cache = rig.node();
    let answer = load(&cache, STORED).await;
    assert_eq!((answer.value.as_deref(), answer.outcome), (Some(&CACHED), Outcome::HitL2));
    assert_eq!(rig.lies("k").await, [true, true]);
    // The same zone, another process: from the near server alone.
    rig.far.switch(State::Failing);
    assert_eq!(load(&rig.node(), STORED).await.outcome, Outcome::HitL2);
    rig.far.switch(State::Up);
    assert_eq!(load(&cache, STORED).await.outcome, Outcome::HitL1);
    assert_eq!(cache.invalidate("k").await.unwrap(), Ack::Done);
    assert_eq!(rig.lies("k").await, [false, false]);
    assert_eq!(load(&cache, STORED).await.outcome, Outcome::Load);
    assert_eq!(rig.lies("k").await, [true, true]);
    assert_eq!(load(&rig.node(), 3).await.value.as_deref(), Some(&STORED));
    assert!(cache.health().await.is_whole());
}

async fn real_servers_in_a_row_are_read_filled_and_invalidated_as_one() {
    let (redis, memcached) =
        (RedisServer::start().await.unwrap(), MemcachedServer::start().await.unwrap());
    // A busy machine is not what is tested.
    let near = || Redis::new(&redis.url()).unwrap().response_timeout(5 * SECOND);
    let far = || Memcached::new(&memcached.address()).unwrap().response_timeout(5 * SECOND);
    let chains: [Chained; 3] = [
        |redis, memcached| Arc::new(redis.then(memcached)),
        |redis, memcached| Arc::new(memcached.then(redis)),
        |redis, memcached| Arc::new(Memory::new().then(redis).then(memcached)),
    ];
    for (number, chain) in chains.iter().enumerate() {
        let node = || {
            let builder = Tiered::new(Moka::new(100), chain(near(), far()));
            builder.namespace(format!("chain-{number}")).budget(20 * SECOND).build().unwrap()
        };
        let (cache, source) = (node(), Source::default());
        for key in 0..40 {
            source.put(key);
            assert_eq!(*cache.get_or_load(key, || source.load()).await.unwrap(), key);
        }
        let other = node();
        for key in 0..40 {
            let read = other.key(key).load(|_| async { Ok::<_, DbDown>(Some(99_usize)) }).await;
            let read = read.unwrap();
            assert_eq!((read.value.as_deref(), read.outcome), (Some(&key), Outcome::HitL2));
        }
        for key in 0..20_usize {
            assert_eq!(cache.invalidate(key).await.unwrap(), Ack::Done);
            assert_eq!(cache.set(key + 20, 100 + key).await.unwrap(), Ack::Done);
        }
        let third = node();
        for key in 0..20_usize {
            // With a near tier of its own there is nothing to know of these.
            assert_eq!(third.get::<usize>(key).await.unwrap(), None);
            let set = third.get::<usize>(key + 20).await.unwrap();
            assert_eq!(set.as_deref(), Some(&(100 + key)));
        }
        assert_eq!(source.asked(), 40);
    }
    assert_eq!(redis.keys_without_expiry().await.unwrap(), Vec::<Vec<u8>>::new());
}

async fn a_short_copy_is_as_fresh_as_its_original() {
    let rig = rig();
    let near = rig.near.clone().then(rig.far.clone()).near_for(10 * SECOND);
    let cache = rig.over(near);
    let _ = cache.set("k", CACHED).await.unwrap();
    rig.clock.advance(5 * SECOND);
    rig.far.switch(State::Failing);
    let answer = cache.key("k").skip_l1().lookup::<u32>().await.unwrap();
    assert_eq!((answer.value.as_deref(), answer.outcome), (Some(&CACHED), Outcome::HitL2));
    rig.clock.advance(6 * SECOND);
    assert_eq!(rig.lies("k").await, [false, true]);
    rig.far.switch(State::Up);
    // Copied again when it is old: no fresher than its original.
    rig.clock.advance(45 * SECOND);
    assert_eq!(cache.key("k").skip_l1().lookup::<u32>().await.unwrap().outcome, Outcome::HitL2);
    assert_eq!(rig.lies("k").await, [true, true]);
    rig.clock.advance(5 * SECOND);
    let stale = cache.key("k").skip_l1().load::<u32, _, _, _>(|_| db_down()).await.unwrap();
    assert_eq!(stale.outcome, Outcome::Stale, "61 s old, in the near server for 5");
}

async fn a_stale_copy_beside_a_fresh_original_is_replaced_without_a_load() {
    let rig = rig();
    let cache = rig.node();
    let _ = cache.set("k", CACHED).await.unwrap();
    rig.clock.advance(70 * SECOND);
    // A process of another zone has loaded it anew.
    let elsewhere = rig.over(Memory::new().then(rig.far_store.clone()));
    assert_eq!(load(&elsewhere, STORED).await.outcome, Outcome::Load);
    for _ in 0..2 {
        let answer = load(&cache, 3).await;
        assert_eq!(answer.value.as_deref(), Some(&STORED), "{:?}", answer.outcome);
    }
    let asked = rig.far.operations();
    for _ in 0..2 {
        let answer = cache.key("k").skip_l1().lookup::<u32>().await.unwrap();
        assert_eq!(answer.value.as_deref(), Some(&STORED));
    }
    assert_eq!(rig.far.operations(), asked + 1, "copied by the first of the two");
}

async fn an_invalidation_that_does_not_reach_the_near_server_is_pending_and_its_value_is_not_read()
{
    for state in [State::Failing, State::Hanging] {
        let rig = rig();
        let cache = rig.node();
        let _ = cache.set("k", CACHED).await.unwrap();
        rig.near.switch(state);
        assert_eq!(cache.invalidate("k").await.unwrap(), Ack::Pending);
        assert_eq!(rig.lies("k").await, [true, false], "{state:?}");
        // The near server is back with what it had; the invalidation goes first.
        rig.near.switch(State::Up);
        assert_eq!(cache.key("k").skip_l1().get::<u32>().await.unwrap(), None, "{state:?}");
        replayed(&cache).await;
        assert_eq!(rig.lies("k").await, [false, false]);
        assert_eq!(rig.node().get::<u32>("k").await.unwrap(), None);

        // And by itself, if nobody reads it.
        let _ = cache.set("k", CACHED).await.unwrap();
        rig.near.switch(state);
        assert_eq!(cache.set("k", STORED).await.unwrap(), Ack::Pending);
        assert_eq!(cache.get::<u32>("k").await.unwrap().as_deref().filter(|v| **v == CACHED), None);
        rig.near.switch(State::Up);
        replayed(&cache).await;
        assert_eq!(rig.lies("k").await, [false, false]);
    }
}

async fn a_bypass_that_cannot_settle_the_near_server_leaves_nothing_old() {
    let rig = rig();
    let cache = rig.node();
    let _ = cache.set("k", CACHED).await.unwrap();
    let request = cache.key("k").strategy(Bypass);
    let near = rig.near.clone();
    let load = |_| async move {
        near.switch(State::Failing);
        Ok::<_, DbDown>(Some(STORED))
    };
    assert_eq!(request.load(load).await.unwrap().value.as_deref(), Some(&STORED));
    assert_eq!(cache.health().await.pending, 1);
    rig.near.switch(State::Up);
    let read = cache.key("k").skip_l1().get::<u32>().await.unwrap();
    assert_ne!(read.as_deref(), Some(&CACHED));
    let other = rig.node().get::<u32>("k").await.unwrap();
    assert_ne!(other.as_deref(), Some(&CACHED));
}

/// What is broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Broken {
    Nothing,
    Near(State),
    Far(State),
}

/// Where the value is before the read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cached {
    Near,
    Far,
    Nowhere,
}

/// What each strategy gives, and the milliseconds that it may take at most, L1 being empty.
fn expected(
    strategy: CacheStrategy,
    broken: Broken,
    cached: Cached,
    database_up: bool,
) -> (&'static str, u64) {
    let loaded = if database_up { "loaded" } else { "repository" };
    let in_reach = match (broken, cached) {
        (_, Cached::Nowhere) | (Broken::Far(_), Cached::Far) => false,
        (_, Cached::Near | Cached::Far) => true,
    };
    let hung = matches!(broken, Broken::Near(State::Hanging) | Broken::Far(State::Hanging));
    let outcome = match strategy {
        Fresh | Refresh if in_reach => "hit",
        Fresh if matches!(broken, Broken::Far(_)) => "backend",
        Fresh => "nothing",
        _ => loaded,
    };
    let takes = match (broken, outcome, strategy) {
        _ if !hung => 0,
        (Broken::Near(_), "hit" | "nothing", _) => 50,
        (Broken::Far(_), "hit", _) => 0,
        // One budget to drop it, one for the load's lease and store.
        (_, _, Invalidate) => 500,
        _ => 250,
    };
    (outcome, takes)
}

#[tokio::test(start_paused = true)]
async fn what_each_strategy_gives_while_one_of_the_two_is_dead_or_hangs() {
    let mut longest = Duration::ZERO;
    for broken in [
        Broken::Nothing,
        Broken::Near(State::Failing),
        Broken::Near(State::Hanging),
        Broken::Far(State::Failing),
        Broken::Far(State::Hanging),
    ] {
        for cached in [Cached::Near, Cached::Far, Cached::Nowhere] {
            for strategy in [Fresh, Refresh, Invalidate, Bypass] {
                for database_up in [true, false] {
                    let rig = rig();
                    let _ = match cached {
                        Cached::Near => rig.node().set("k", CACHED).await.unwrap(),
                        Cached::Far => {
                            rig.over(rig.far_store.clone()).set("k", CACHED).await.unwrap()
                        }
                        Cached::Nowhere => Ack::Done,
                    };
                    match broken {
                        Broken::Nothing => {}
                        Broken::Near(state) => rig.near.switch(state),
                        Broken::Far(state) => rig.far.switch(state),
                    }
                    let cache = rig.node();
                    let load = move |_| async move {
                        if database_up { Ok(Some(STORED)) } else { db_down().await }
                    };
                    let began = Instant::now();
                    let answer = cache.key("k").strategy(strategy).load(load).await;
                    let took = began.elapsed();
                    longest = longest.max(took);
                    let case = format!("{broken:?}, {cached:?}, {strategy:?}, {database_up}");
                    let outcome = match &answer {
                        Ok(Answer { value: Some(value), .. }) if **value == CACHED => "hit",
                        Ok(Answer { value: Some(_), .. }) => "loaded",
                        Ok(Answer { value: None, .. }) => "nothing",
                        Err(Error::Backend(_)) => "backend",
                        Err(error) if error.loader_error::<DbDown>().is_some() => "repository",
                        Err(error) => panic!("{case}: {error:?}"),
                    };
                    let (expected, millis) = expected(strategy, broken, cached, database_up);
                    assert_eq!(outcome, expected, "{case}");
                    // The timer of a paused clock counts whole milliseconds.
                    let most = Duration::from_millis(millis + 4);
                    assert!(took <= most, "{case}: {took:?}");
                }
            }
        }
    }
    assert!(longest >= Duration::from_millis(250), "nothing hung: {longest:?}");
}
