//! Invalidation by prefix: what it leaves, what it takes too much, what comes back.

use std::{
    pin::pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tiered::{
    Ack, CacheEntity, Error, Key, Tiered,
    tiers::{
        DashMap, Memcached, Memory, Moka, Redis, TierError,
        testing::{Fault, Faulty, Plan, RedisServer},
    },
};
use tokio::sync::Notify;

use crate::support::{DbDown, Rig, State, eventually, node, rig, rig_with};

scenarios! {
    a_prefix_takes_its_own_and_nothing_else,
    a_star_is_a_star,
    an_empty_prefix_is_the_whole_namespace,
    loads_under_way_are_refused_in_both_tiers,
    a_load_of_another_key_is_not_refused,
    lists_and_versions_go_with_their_prefix,
    progress_adds_up,
    while_l2_is_down_a_prefix_is_pending,
    a_dropped_invalidation_leaves_its_prefix_pending,
    an_invalidation_that_fails_midway_says_so,
    a_prefix_that_stays_pending_holds_up_no_single_key,
    a_tier_that_learns_late_that_it_cannot,
    what_comes_back_for_a_moment_is_counted_once,
    more_pending_prefixes_than_are_kept_void_the_namespace,
    a_cache_without_l2,
    a_tier_that_cannot_says_so_and_changes_nothing,
    a_value_read_while_the_server_is_cleared_does_not_stay,
    a_new_version_of_the_namespace_sees_nothing_of_the_old_one,
}

async fn fill(cache: &Tiered, keys: &[&str]) {
    for ack in cache.set_many(keys.iter().map(|key| (*key, (*key).to_owned()))).await {
        assert_eq!(ack.unwrap(), Ack::Done);
    }
}

/// Which of the keys a cache has.
async fn kept<'a>(cache: &Tiered, keys: &[&'a str]) -> Vec<&'a str> {
    let read = cache.get_many::<String, _>(keys.iter().copied()).await;
    let found = keys.iter().zip(read).filter(|(_, value)| value.as_ref().unwrap().is_some());
    found.map(|(key, _)| *key).collect()
}

const KEYS: [&str; 9] = ["p:", "p:1", "p:1:2", "p:*", "p", "p;1", "q:p:1", "", "P:1"];
const OTHERS: [&str; 5] = ["p", "p;1", "q:p:1", "", "P:1"];

async fn a_prefix_takes_its_own_and_nothing_else() {
    for skip_l1 in [false, true] {
        let rig = rig();
        fill(&rig.cache, &KEYS).await;
        let cleared = rig.cache.invalidate_prefix("p:").await.unwrap();
        assert_eq!((cleared.l1, cleared.l2, cleared.ack), (4, 4, Ack::Done));
        if skip_l1 {
            let other = node(&rig.l2, &rig.clock, |builder| builder);
            assert_eq!(kept(&other, &KEYS).await, OTHERS);
        } else {
            assert_eq!(kept(&rig.cache, &KEYS).await, OTHERS);
        }
    }
}

async fn redis() -> (RedisServer, Tiered) {
    let server = RedisServer::start().await.unwrap();
    // Thousands of keys are written on a machine that has other things to do.
    let patience = Duration::from_secs(20);
    let tier = Redis::new(&server.url()).unwrap().response_timeout(patience);
    let builder = Tiered::new(Moka::new(10_000), tier).namespace("glob*").budget(patience);
    let cache = builder.build().unwrap();
    (server, cache)
}

/// In Redis itself, where prefixes become patterns.
async fn a_star_is_a_star() {
    let (_server, cache) = redis().await;
    let hard = ["*", "?", "[a]", "[^a]", "\\", "\\*", "a*b", "[a-z]", "{x}", "\r\n*", "%", "é*"];
    let others = ["x", "a", "axb", "b", "\\x", "]", "}", "\r\nx", "%2A", "é"];
    let all: Vec<&str> = hard.iter().chain(&others).copied().collect();
    for star in hard {
        fill(&cache, &all).await;
        let cleared = cache.invalidate_prefix(star).await.unwrap();
        let begins: Vec<&str> = all.iter().copied().filter(|key| key.starts_with(star)).collect();
        assert_eq!(cleared.l2, begins.len() as u64, "{star:?} drops itself and what begins so");
        let left: Vec<&str> = all.iter().copied().filter(|key| !key.starts_with(star)).collect();
        let other = cache.keys(all.clone()).skip_l1().get::<String>().await;
        let found = all.iter().zip(other).filter(|(_, value)| value.as_ref().unwrap().is_some());
        assert_eq!(found.map(|(key, _)| *key).collect::<Vec<_>>(), left, "after {star:?}");
        assert_eq!(kept(&cache, &all).await, left, "after {star:?}");
    }
}

async fn an_empty_prefix_is_the_whole_namespace() {
    let rig = rig();
    fill(&rig.cache, &KEYS).await;
    let stranger = node(&rig.l2, &rig.clock, |builder| builder.namespace("tieredx"));
    fill(&stranger, &KEYS).await;
    let cleared = rig.cache.invalidate_prefix("").await.unwrap();
    assert_eq!(cleared.l2, KEYS.len() as u64);
    assert!(kept(&rig.cache, &KEYS).await.is_empty());
    let stranger = node(&rig.l2, &rig.clock, |builder| builder.namespace("tieredx"));
    assert_eq!(kept(&stranger, &KEYS).await, KEYS, "another namespace is left alone");
}

/// A load that waits at a gate.
#[derive(Clone, Default)]
struct Gate {
    begun: Arc<Notify>,
    open: Arc<Notify>,
}

impl Gate {
    async fn load(&self, value: &str) -> Result<String, DbDown> {
        self.begun.notify_one();
        self.open.notified().await;
        Ok(value.to_owned())
    }
}

async fn loads_under_way_are_refused_in_both_tiers() {
    for key in ["p:1", "p:2"] {
        let (rig, gate) = (rig(), Gate::default());
        let load = rig.cache.get_or_load(key, || gate.load("old"));
        let overtake = async {
            gate.begun.notified().await;
            let cleared = rig.cache.invalidate_prefix("p:").await.unwrap();
            assert_eq!(cleared.ack, Ack::Done);
            // Those who come later do not share the load from before.
            let late = rig.cache.get_or_load(key, || async { Ok::<_, DbDown>("new".to_owned()) });
            assert_eq!(*late.await.unwrap(), "new");
            gate.open.notify_one();
        };
        let (old, ()) = tokio::join!(load, overtake);
        assert_eq!(*old.unwrap(), "old", "who asked before gets what was then");
        assert_eq!(*rig.cache.get::<String>(key).await.unwrap().unwrap(), "new");
        let other = node(&rig.l2, &rig.clock, |builder| builder);
        assert_eq!(*other.get::<String>(key).await.unwrap().unwrap(), "new");
    }
}

async fn a_load_of_another_key_is_not_refused() {
    let (rig, gate) = (rig(), Gate::default());
    let load = rig.cache.get_or_load("q:1", || gate.load("kept"));
    let beside = async {
        gate.begun.notified().await;
        let _ = rig.cache.invalidate_prefix("p:").await.unwrap();
        gate.open.notify_one();
    };
    let (value, ()) = tokio::join!(load, beside);
    assert_eq!(*value.unwrap(), "kept");
    assert_eq!(kept(&rig.cache, &["q:1"]).await, ["q:1"]);
    let other = node(&rig.l2, &rig.clock, |builder| builder);
    assert_eq!(kept(&other, &["q:1"]).await, ["q:1"]);
}

#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
struct Post(u64);

impl CacheEntity for Post {
    type Key = u64;
    fn cache_key(&self) -> u64 {
        self.0
    }
    fn cache_prefix() -> &'static str {
        "my posts"
    }
}

async fn lists_and_versions_go_with_their_prefix() {
    let (_server, cache) = redis().await;
    let page = |page: u8| Key::from(Key::list("my posts").param("page", page));
    let post = || Key::entity::<Post>(&1);
    let keys = [page(1), page(2), post(), post().version(3), Key::from("my posts:1:v3")];
    let put = async || {
        for ack in cache.set_many(keys.iter().map(|key| (key.clone(), 7_u8))).await {
            assert_eq!(ack.unwrap(), Ack::Done);
        }
    };
    let left = async || {
        let near = cache.get_many::<u8, _>(keys.clone()).await;
        let far = cache.keys(keys.clone()).skip_l1().get::<u8>().await;
        let both: Vec<_> = near
            .into_iter()
            .zip(far)
            .map(|(near, far)| (near.unwrap().is_some(), far.unwrap().is_some()))
            .collect();
        assert!(both.iter().all(|(near, far)| near == far), "{both:?}");
        both.into_iter().map(|(near, _)| near).collect::<Vec<_>>()
    };
    put().await;
    assert_eq!(left().await, [true; 5]);
    let cleared = cache.invalidate_prefix(Key::lists("my posts")).await.unwrap();
    assert_eq!((cleared.l1, cleared.l2), (2, 2));
    assert_eq!(left().await, [false, false, true, true, true]);
    put().await;
    let cleared = cache.invalidate_prefix(Key::entities::<Post>()).await.unwrap();
    assert_eq!((cleared.l1, cleared.l2), (4, 4));
    assert_eq!(left().await, [false, false, false, false, true], "another key, which looks alike");
}

async fn progress_adds_up() {
    let (_server, cache) = redis().await;
    let keys: Vec<String> = (0..5_000).map(|id| format!("p:{id}")).collect();
    for ack in cache.set_many(keys.iter().map(|key| (key, 1_u8))).await {
        assert_eq!(ack.unwrap(), Ack::Done);
    }
    let told = Mutex::new(Vec::new());
    let progress = |gone| told.lock().unwrap().push(gone);
    let cleared = cache.invalidate_prefix_with("p:", progress).await.unwrap();
    assert_eq!((cleared.l2, cleared.ack), (5_000, Ack::Done));
    let told = told.into_inner().unwrap();
    assert!(told.len() > 5, "in steps: {told:?}");
    assert!(told.is_sorted() && told.last() == Some(&5_000), "{told:?}");
}

async fn while_l2_is_down_a_prefix_is_pending() {
    let rig = rig();
    fill(&rig.cache, &KEYS).await;
    rig.l2.switch(State::Failing);
    let cleared = rig.cache.invalidate_prefix("p:").await.unwrap();
    assert_eq!((cleared.l1, cleared.l2, cleared.ack), (4, 0, Ack::Pending));
    assert_eq!(rig.cache.health().await.pending, 1);
    rig.l2.switch(State::Up);
    // Until it is replayed nothing is read that it covers; what it does not cover is.
    let others = rig.cache.keys(OTHERS).skip_l1().get::<String>().await;
    assert!(others.into_iter().all(|value| value.unwrap().is_some()));
    match rig.cache.key("p:1").skip_l1().get::<String>().await {
        Ok(value) => assert!(value.is_none(), "it came back"),
        Err(error) => assert!(matches!(error, Error::Backend(_))),
    }
    // A load is not stored before.
    let load = || async { Ok::<_, DbDown>("new".to_owned()) };
    assert_eq!(*rig.cache.get_or_load("p:1", load).await.unwrap(), "new");
    while rig.cache.health().await.pending > 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let other = node(&rig.l2, &rig.clock, |builder| builder);
    for key in KEYS {
        let value = other.get::<String>(key).await.unwrap();
        match value.as_deref().map(String::as_str) {
            None => assert!(key.starts_with("p:"), "{key:?} was lost"),
            Some("new") => assert_eq!(key, "p:1", "it was replayed before the load"),
            Some(_) => assert!(!key.starts_with("p:"), "{key:?} came back"),
        }
    }
}

async fn a_dropped_invalidation_leaves_its_prefix_pending() {
    let rig = rig();
    fill(&rig.cache, &KEYS).await;
    let before = rig.l2.operations();
    rig.l2.switch(State::Held);
    {
        let mut sweep = pin!(rig.cache.invalidate_prefix("p:"));
        let begun = async { eventually("it clears", || rig.l2.operations() > before).await };
        tokio::select! {
            _ = &mut sweep => panic!("it is held up"),
            () = begun => {}
        }
    }
    rig.l2.switch(State::Up);
    // The replay may be held up too.
    rig.l2.admit(100);
    while rig.cache.health().await.pending > 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let other = node(&rig.l2, &rig.clock, |builder| builder);
    assert_eq!(kept(&rig.cache, &KEYS).await, OTHERS);
    assert_eq!(kept(&other, &KEYS).await, OTHERS);
}

/// The server dies after the first steps.
async fn an_invalidation_that_fails_midway_says_so() {
    let (server, cache) = redis().await;
    let server = Mutex::new(server);
    let keys: Vec<String> = (0..5_000).map(|id| format!("p:{id}")).collect();
    for ack in cache.set_many(keys.iter().map(|key| (key, 1_u8))).await {
        assert_eq!(ack.unwrap(), Ack::Done);
    }
    let last = AtomicU64::new(0);
    let progress = |gone| {
        last.store(gone, Ordering::SeqCst);
        if gone > 1_000 {
            server.lock().unwrap().kill().unwrap();
        }
    };
    let cleared = cache.invalidate_prefix_with("p:", progress).await.unwrap();
    assert_eq!(cleared.ack, Ack::Pending);
    assert_eq!(cleared.l2, last.into_inner(), "the count is of what has gone");
    assert!((1_000..5_000).contains(&cleared.l2), "{cleared:?}");
    assert_eq!(cache.health().await.pending, 1);
}

async fn admin(server: &RedisServer) -> redis::aio::MultiplexedConnection {
    let client = redis::Client::open(server.url()).unwrap();
    client.get_multiplexed_async_connection().await.unwrap()
}

/// A server whose access list has no SCAN.
async fn a_prefix_that_stays_pending_holds_up_no_single_key() {
    let server = RedisServer::start().await.unwrap();
    let mut admin = admin(&server).await;
    let rules = ["SETUSER", "app", "on", "nopass", "~*", "+@all", "-scan"];
    redis::cmd("ACL").arg(&rules).exec_async(&mut admin).await.unwrap();
    let tier = || Redis::new(&server.url()).unwrap().username("app").password("any");
    let cache = || Tiered::new(Moka::new(100), tier()).build().unwrap();
    let (cache, other) = (cache(), cache());
    fill(&cache, &["p:1", "q:1"]).await;
    assert_eq!(cache.invalidate_prefix("p:").await.unwrap().ack, Ack::Pending);
    server.freeze().unwrap();
    assert_eq!(cache.invalidate("q:1").await.unwrap(), Ack::Pending);
    server.thaw().unwrap();
    // The other process reads it until it is replayed.
    while other.key("q:1").skip_l1().get::<String>().await.is_ok_and(|value| value.is_some()) {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    // Only the prefix is left.
    while cache.health().await.pending > 1 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// As a cluster's client that the application has made: that it cannot, it says when it is asked to.
async fn a_tier_that_learns_late_that_it_cannot() {
    let tier = Faulty::new(Memory::new());
    let cache = Tiered::new(Moka::new(100), tier.clone()).build().unwrap();
    fill(&cache, &["p:1"]).await;
    let unsupported = TierError::Unsupported("not here".into());
    tier.plan(Plan::After(0, Fault::Error(unsupported)));
    assert!(matches!(cache.invalidate_prefix("p:").await, Err(Error::Config(_))));
    assert_eq!(cache.health().await.pending, 0, "it would be pending for ever");
    assert_eq!(kept(&cache, &["p:1"]).await, ["p:1"]);
}

async fn what_comes_back_for_a_moment_is_counted_once() {
    let rig = rig();
    fill(&rig.cache, &["p:1"]).await;
    let before = rig.l2.operations();
    rig.l2.switch(State::Held);
    let sweep = rig.cache.invalidate_prefix("p:");
    let read = async {
        eventually("the clear waits", || rig.l2.operations() > before).await;
        rig.l2.switch(State::Up);
        assert!(rig.cache.get::<String>("p:1").await.unwrap().is_some(), "not yet invalidated");
        rig.l2.admit(1);
    };
    let (cleared, ()) = tokio::join!(sweep, read);
    let cleared = cleared.unwrap();
    assert_eq!((cleared.l1, cleared.l2), (1, 1));
}

async fn more_pending_prefixes_than_are_kept_void_the_namespace() {
    let rig = rig();
    fill(&rig.cache, &KEYS).await;
    rig.l2.switch(State::Failing);
    for prefix in 0..40 {
        let cleared = rig.cache.invalidate_prefix(format_args!("{prefix}:")).await.unwrap();
        assert_eq!(cleared.ack, Ack::Pending);
    }
    assert!(rig.cache.health().await.pending <= 17);
    rig.l2.switch(State::Up);
    while rig.cache.health().await.pending > 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let other = node(&rig.l2, &rig.clock, |builder| builder);
    assert!(kept(&other, &KEYS).await.is_empty(), "the whole namespace is cleared instead");
}

async fn a_cache_without_l2() {
    let cache = Tiered::local(DashMap::new(100)).build().unwrap();
    for key in KEYS {
        assert_eq!(cache.set(key, 1_u8).await.unwrap(), Ack::Done);
    }
    let cleared = cache.invalidate_prefix("p:").await.unwrap();
    assert_eq!((cleared.l1, cleared.l2, cleared.ack), (4, 0, Ack::Done));
    for key in KEYS {
        let found = cache.get::<u8>(key).await.unwrap().is_some();
        assert_eq!(found, !key.starts_with("p:"), "{key:?}");
    }
}

async fn a_tier_that_cannot_says_so_and_changes_nothing() {
    // Nothing listens there, and nothing is asked.
    let tier = Memcached::new("127.0.0.1:1").unwrap();
    let cache = Tiered::new(Moka::new(100), tier).build().unwrap();
    let error = cache.invalidate_prefix("p:").await.unwrap_err();
    let Error::Config(reason) = &error else { panic!("{error:?}") };
    let reason = reason.to_string();
    assert!(reason.contains("memcached") && reason.contains("Key::version"), "{reason}");

    let rig = rig();
    let memory = Memory::new();
    let unclearable = crate::support::Switchable::new(memory).unclearable();
    let cache = Tiered::new(Moka::new(100), unclearable).build().unwrap();
    fill(&cache, &KEYS).await;
    assert!(matches!(cache.invalidate_prefix("p:").await, Err(Error::Config(_))));
    assert_eq!(kept(&cache, &KEYS).await, KEYS);
    assert!(matches!(
        rig.cache.invalidate_prefix("x".repeat(70_000)).await,
        Err(Error::InvalidKey(_))
    ));
}

/// Reads that fall between the two local drops: what they put into L1 may be old.
async fn a_value_read_while_the_server_is_cleared_does_not_stay() {
    let Rig { cache, l2, clock, .. } = rig();
    let other = node(&l2, &clock, |builder| builder);
    fill(&other, &["p:1"]).await;
    let before = l2.operations();
    l2.switch(State::Held);
    let sweep = cache.invalidate_prefix("p:");
    let read = async {
        eventually("the clear waits", || l2.operations() > before).await;
        // This one is let through before the clear.
        l2.switch(State::Up);
        assert!(cache.get::<String>("p:1").await.unwrap().is_some(), "not yet invalidated");
        l2.admit(1);
    };
    let (cleared, ()) = tokio::join!(sweep, read);
    assert_eq!(cleared.unwrap().ack, Ack::Done);
    assert!(cache.get::<String>("p:1").await.unwrap().is_none(), "it stayed in L1");
}

async fn a_new_version_of_the_namespace_sees_nothing_of_the_old_one() {
    let rig = rig_with(|builder| builder.namespace("shop"));
    fill(&rig.cache, &KEYS).await;
    let second =
        node(&rig.l2, &rig.clock, |builder| builder.namespace("shop").namespace_version(2));
    assert!(kept(&second, &KEYS).await.is_empty());
    fill(&second, &["p:1"]).await;
    let spelled = node(&rig.l2, &rig.clock, |builder| builder.namespace("shop%v2"));
    assert!(kept(&spelled, &KEYS).await.is_empty(), "no namespace spells a version");
    assert_eq!(second.invalidate_prefix("").await.unwrap().l2, 1);
    let first = node(&rig.l2, &rig.clock, |builder| builder.namespace("shop"));
    assert_eq!(kept(&first, &KEYS).await, KEYS);
}
