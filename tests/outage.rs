//! A server that is dead, hung or lying: one budget at the most, no error, no task left over.

use std::time::{Duration, Instant};

use tiered::{
    Ack, Error, Jitter, Outcome, Tiered,
    tiers::{Memory, Moka, Redis},
};
use tiered_tiers::testing::RedisServer;

use crate::support::{DbDown, State, rig};

scenarios! {
    a_cache_over_a_dead_server_builds_and_works,
    an_invalidation_while_the_server_is_frozen_holds_after_the_thaw,
    a_server_that_comes_back_empty_is_filled_again,
}

fn over(server: &RedisServer) -> Tiered {
    let redis = Redis::new(&server.url()).unwrap();
    Tiered::new(Moka::new(100), redis).jitter(Jitter::none()).build().unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_hung_server_costs_a_read_one_budget_and_the_store_after_it_none() {
    let rig = rig();
    rig.l2.switch(State::Hanging);
    let start = tokio::time::Instant::now();
    let value = rig.cache.get_or_load("k", || async { Ok::<_, DbDown>(1_u32) }).await;
    assert_eq!(*value.unwrap(), 1);
    assert_eq!(start.elapsed(), Duration::from_millis(250));
    assert_eq!(rig.l2.operations(), 1, "no lease and no store were tried");
    let hit = rig.cache.key("k").lookup::<u32>().await.unwrap();
    assert_eq!(hit.outcome, Outcome::HitL1);
}

#[tokio::test(start_paused = true)]
async fn operations_of_one_read_share_its_budget() {
    let rig = rig();
    rig.l2.switch(State::Gated);
    let admit = async {
        tokio::time::sleep(Duration::from_millis(200)).await;
        // The get is let go; the lease may only have what is left.
        rig.l2.admit(1);
    };
    let start = tokio::time::Instant::now();
    let load = rig.cache.get_or_load("k", || async { Ok::<_, DbDown>(1_u32) });
    let (value, ()) = tokio::join!(load, admit);
    assert_eq!(*value.unwrap(), 1);
    assert_eq!(start.elapsed(), Duration::from_millis(250));
}

#[tokio::test(start_paused = true)]
async fn a_waiter_has_its_answer_while_the_leader_still_stores() {
    let rig = rig();
    let leader = async {
        let value = rig.cache.get_or_load("k", || async {
            rig.l2.switch(State::Hanging);
            tokio::time::sleep(Duration::from_millis(10)).await;
            Ok::<_, DbDown>(1_u32)
        });
        value.await.unwrap();
        tokio::time::Instant::now()
    };
    let waiter = async {
        tokio::task::yield_now().await;
        let answer =
            rig.cache.key("k").load(|_| async { Ok::<_, DbDown>(Some(2_u32)) }).await.unwrap();
        assert_eq!(answer.outcome, Outcome::Shared);
        tokio::time::Instant::now()
    };
    let (leader, waiter) = tokio::join!(leader, waiter);
    assert!(leader - waiter >= Duration::from_millis(200), "{:?}", leader - waiter);
}

async fn a_cache_over_a_dead_server_builds_and_works() {
    let redis = Redis::new("redis://127.0.0.1:1/").unwrap();
    let cache = Tiered::new(Moka::new(100), redis).build().unwrap();
    let value = cache.get_or_load("k", || async { Ok::<_, DbDown>(1_u32) }).await;
    assert_eq!(*value.unwrap(), 1);
    assert_eq!(cache.get::<u32>("k").await.unwrap().as_deref(), Some(&1));
    assert!(matches!(cache.get::<u32>("other").await, Err(Error::Backend(_))));
    assert_eq!(cache.invalidate("k").await.unwrap(), Ack::Pending);
    assert!(cache.health().await.l2.unwrap().down.is_some());
}

#[tokio::test]
async fn an_outage_is_said_once() {
    let log = crate::support::Log::capture();
    let rig = rig();
    rig.l2.switch(State::Failing);
    for key in 0..50 {
        rig.cache.get_or_load(key, || async { Ok::<_, DbDown>(1_u32) }).await.unwrap();
    }
    rig.l2.switch(State::Up);
    rig.cache.get_or_load("k", || async { Ok::<_, DbDown>(1_u32) }).await.unwrap();
    let lines = log.lines();
    let count = |text: &str| lines.iter().filter(|line| line.contains(text)).count();
    assert_eq!(count("the cache server fails"), 1, "{lines:?}");
    assert_eq!(count("works again"), 1, "{lines:?}");
}

#[tokio::test(start_paused = true)]
async fn a_server_that_fails_every_other_time_does_not_flood_the_log() {
    let log = crate::support::Log::capture();
    let rig = rig();
    for key in 0..500 {
        rig.l2.switch(if key % 2 == 0 { State::Failing } else { State::Up });
        rig.cache.get_or_load(key, || async { Ok::<_, DbDown>(1_u32) }).await.unwrap();
        tokio::time::advance(Duration::from_millis(20)).await;
    }
    // Ten seconds: one outage and one recovery, perhaps the beginning of the next.
    assert!(log.lines().len() <= 4, "{:?}", log.lines());
}

#[tokio::test]
async fn a_dead_servers_one_line_names_no_password() {
    let log = crate::support::Log::capture();
    let redis = Redis::new("redis://user:hunter2secret@127.0.0.1:1/").unwrap();
    let cache = Tiered::new(Moka::new(100), redis).build().unwrap();
    for key in 0..5 {
        cache.get_or_load(key, || async { Ok::<_, DbDown>(1_u32) }).await.unwrap();
    }
    let lines = log.lines();
    let warnings = lines.iter().filter(|line| line.starts_with("WARN")).count();
    assert_eq!(warnings, 1, "{lines:?}");
    assert!(!lines.concat().contains("hunter2secret"));
    assert!(!format!("{cache:?}").contains("hunter2secret"));
}

async fn an_invalidation_while_the_server_is_frozen_holds_after_the_thaw() {
    let server = RedisServer::start().await.unwrap();
    let (cache, other) = (over(&server), over(&server));
    let _ = other.set("k", 1_u32).await.unwrap();
    assert_eq!(cache.get::<u32>("k").await.unwrap().as_deref(), Some(&1));
    server.freeze().unwrap();
    assert_eq!(cache.invalidate("k").await.unwrap(), Ack::Pending);
    server.thaw().unwrap();
    assert_eq!(cache.get::<u32>("k").await.unwrap(), None);
    let thawed = Instant::now();
    while over(&server).get::<u32>("k").await.unwrap().is_some() {
        assert!(thawed.elapsed() < Duration::from_secs(10), "the replay never came");
    }
    assert_eq!(server.keys_without_expiry().await.unwrap(), Vec::<Vec<u8>>::new());
}

async fn a_server_that_comes_back_empty_is_filled_again() {
    let mut server = RedisServer::start().await.unwrap();
    let cache = over(&server);
    let _ = cache.set("k", 1_u32).await.unwrap();
    server.kill().unwrap();
    cache.key("k").skip_l1().get_or_load(|| async { Ok::<_, DbDown>(2_u32) }).await.unwrap();
    server.restart().await.unwrap();
    let start = Instant::now();
    loop {
        let request = cache.key("k").skip_l1();
        request.get_or_load(|| async { Ok::<_, DbDown>(3_u32) }).await.unwrap();
        if over(&server).get::<u32>("k").await.unwrap().as_deref() == Some(&3) {
            break;
        }
        assert!(start.elapsed() < Duration::from_secs(10), "it never recovered");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(server.keys_without_expiry().await.unwrap(), Vec::<Vec<u8>>::new());
}

#[test]
fn successive_runtimes_redial_instead_of_hanging() {
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let first = runtime();
    let server = first.block_on(RedisServer::start()).unwrap();
    let cache = over(&server);
    let _ = first.block_on(cache.set("k", 1_u32)).unwrap();
    for round in 0..3 {
        let next = runtime();
        let start = Instant::now();
        let value = next.block_on(cache.key("k").skip_l1().get::<u32>()).unwrap();
        assert_eq!(value.as_deref(), Some(&1), "round {round}");
        assert!(start.elapsed() < Duration::from_secs(3));
    }
    let value = first.block_on(cache.key("k").skip_l1().get::<u32>()).unwrap();
    assert_eq!(value.as_deref(), Some(&1));
}

#[test]
fn outside_any_runtime_there_is_a_clear_error() {
    use futures_util::FutureExt;
    let cache = Tiered::new(Moka::new(10), Memory::new()).build().unwrap();
    let text = |error: Error| format!("{:#}", anyhow::Error::new(error));
    let load = cache.get_or_load("k", || async { Ok::<_, DbDown>(1_u32) }).now_or_never().unwrap();
    assert!(text(load.unwrap_err()).contains("outside a tokio runtime"));
    let get = cache.get::<u32>("k").now_or_never().unwrap();
    assert!(text(get.unwrap_err()).contains("outside a tokio runtime"));
    let set = cache.set("k", 1_u32).now_or_never().unwrap();
    assert!(text(set.unwrap_err()).contains("outside a tokio runtime"));
    let dropped = cache.invalidate("k").now_or_never().unwrap();
    assert!(text(dropped.unwrap_err()).contains("outside a tokio runtime"));
    let ping = cache.ping().now_or_never().unwrap();
    assert!(text(ping.unwrap_err()).contains("outside a tokio runtime"));
    let local = Tiered::local(Moka::new(10)).build().unwrap();
    let detached =
        local.key("k").detached(|| async { Ok::<_, DbDown>(1_u32) }).now_or_never().unwrap();
    assert!(text(detached.unwrap_err()).contains("outside a tokio runtime"));
}

#[tokio::test]
async fn an_idle_cache_owns_no_task() {
    let tasks = || tokio::runtime::Handle::current().metrics().num_alive_tasks();
    let before = tasks();
    let rig = rig();
    rig.cache.get_or_load("k", || async { Ok::<_, DbDown>(1_u32) }).await.unwrap();
    rig.cache.key("d").detached(|| async { Ok::<_, DbDown>(1_u32) }).await.unwrap();
    rig.l2.switch(State::Failing);
    let _ = rig.cache.invalidate("k").await.unwrap();
    assert!(tasks() > before, "the replay is a task while something is pending");
    rig.l2.switch(State::Up);
    crate::support::eventually("all tasks ended", || tasks() == before).await;

    // Over Redis nothing but the client's connection drivers.
    let server = RedisServer::start().await.unwrap();
    let before = tasks();
    let cache = over(&server);
    assert_eq!(tasks(), before, "a cache that was not used yet");
    cache.get_or_load("k", || async { Ok::<_, DbDown>(1_u32) }).await.unwrap();
    for key in 0..20 {
        cache.get_or_load(key, || async { Ok::<_, DbDown>(1_u32) }).await.unwrap();
    }
    // Two connections with at most one driver each.
    assert!(tasks() - before <= 2, "{} tasks", tasks() - before);
    drop(cache);
    crate::support::eventually("the drivers ended with the cache", || tasks() == before).await;
}

#[tokio::test]
async fn the_last_handles_drop_ends_the_replay() {
    let tasks = || tokio::runtime::Handle::current().metrics().num_alive_tasks();
    let before = tasks();
    let rig = rig();
    rig.l2.switch(State::Failing);
    let _ = rig.cache.invalidate("k").await.unwrap();
    drop(rig);
    crate::support::eventually("the replay ended", || tasks() == before).await;
}
