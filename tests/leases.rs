//! The lease as the single flight of all processes: one load for each key, and nobody waits for long, or for ever.
//!
//! Caches over one L2 stand for processes; one scenario kills a real one.

use std::{
    process::Stdio,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tiered::{
    Ack, CacheStrategy, Error, Jitter, Outcome, Tiered,
    tiers::{Clock, Memory, Moka, Redis, RemoteTier},
};
use tiered_tiers::testing::{Fault, Faulty, Plan, RedisServer};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::Command,
    sync::{Semaphore, oneshot},
    time::Instant,
};

use crate::support::{DbDown, SECOND, State, db_down, eventually, node, rig, rig_with};

scenarios! {
    processes_share_a_load_over_redis,
    a_load_that_was_given_up_holds_nobody_up,
    a_load_that_outlives_its_lease_is_not_stored,
}

/// How long a process may take to notice what another has done.
const NOTICE: Duration = Duration::from_millis(200);
const LEASE: Duration = Duration::from_secs(5);

/// A load that begins, and ends when it is told.
struct Slow {
    begun: Semaphore,
    go: Semaphore,
    loads: AtomicUsize,
}

impl Slow {
    fn new() -> Arc<Self> {
        let (begun, go) = (Semaphore::new(0), Semaphore::new(0));
        Arc::new(Self { begun, go, loads: AtomicUsize::new(0) })
    }

    async fn load(&self) -> Result<u32, DbDown> {
        self.loads.fetch_add(1, Ordering::SeqCst);
        self.begun.add_permits(1);
        self.go.acquire().await.unwrap().forget();
        Ok(1)
    }

    async fn begun(&self) {
        self.begun.acquire().await.unwrap().forget();
    }

    fn end(&self) {
        self.go.add_permits(1);
    }
}

async fn load(cache: &Tiered, value: u32) -> (u32, Outcome) {
    let request = cache.key("k");
    let answer = request.load(|_| async { Ok::<_, DbDown>(Some(value)) }).await.unwrap();
    (*answer.value.unwrap(), answer.outcome)
}

/// `holder` is in the middle of a load of `k`.
async fn loading(holder: &Tiered) -> (Arc<Slow>, tokio::task::JoinHandle<Result<Arc<u32>, Error>>) {
    let (slow, holder) = (Slow::new(), holder.clone());
    let own = Arc::clone(&slow);
    let task = tokio::spawn(async move { holder.get_or_load("k", || own.load()).await });
    slow.begun().await;
    (slow, task)
}

#[tokio::test(start_paused = true)]
async fn another_process_load_is_waited_for_and_shared() {
    let rig = rig();
    let others: Vec<_> = (0..7).map(|_| node(&rig.l2, &rig.clock, |builder| builder)).collect();
    let (slow, task) = loading(&rig.cache).await;
    let waiting = futures_util::future::join_all(others.iter().flat_map(|other| {
        (0..20).map(|_| async { *other.get_or_load("k", db_down::<u32>).await.unwrap() })
    }));
    let ending = async {
        tokio::time::sleep(3 * SECOND).await;
        slow.end();
        Instant::now()
    };
    let (values, ended) = tokio::join!(waiting, ending);
    assert!(values.iter().all(|value| *value == 1));
    assert!(ended.elapsed() <= NOTICE, "{:?}", ended.elapsed());
    assert_eq!(*task.await.unwrap().unwrap(), 1);
    for other in &others {
        let stats = other.stats();
        assert_eq!((stats.loads, stats.lease_waits, stats.unstored_loads), (0, 1, 0));
        assert_eq!(stats.hit_l2 + stats.shared, 20, "{stats:?}");
    }
}

/// Each question of a wait has a budget of its own: all of them together take longer than one.
#[tokio::test(start_paused = true)]
async fn a_long_wait_for_another_process_does_not_spend_the_budget() {
    let tier = Faulty::new(Memory::new());
    tier.plan(Plan::Always(Fault::Delay(Duration::from_millis(20))));
    let over = || Tiered::new(Moka::new(10), tier.clone()).build().unwrap();
    let (holder, other) = (over(), over());
    let (slow, task) = loading(&holder).await;
    let ending = async {
        tokio::time::sleep(4 * SECOND).await;
        slow.end();
    };
    let (loaded, ()) = tokio::join!(load(&other, 2), ending);
    assert_eq!(loaded, (1, Outcome::HitL2));
    assert_eq!(other.stats().loads, 0);
    task.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_wait_ends_at_its_limit_and_what_is_loaded_then_is_not_stored() {
    for wait_for in [None, Some(SECOND), Some(Duration::ZERO)] {
        let rig = rig();
        let configure = |builder: tiered::Builder<_>| match wait_for {
            Some(time) => builder.wait_for(time),
            None => builder,
        };
        let other = node(&rig.l2, &rig.clock, configure);
        let (slow, task) = loading(&rig.cache).await;
        let start = Instant::now();
        let waited = tokio::time::timeout(60 * SECOND, load(&other, 2)).await;
        assert_eq!(waited.expect("the wait has no end"), (2, Outcome::Load));
        assert_eq!(start.elapsed(), wait_for.unwrap_or(LEASE));
        assert_eq!(other.stats().unstored_loads, 1);
        // It serves what it has loaded, and the server gets what the holder loads.
        assert_eq!(load(&other, 3).await, (2, Outcome::HitL1));
        slow.end();
        task.await.unwrap().unwrap();
        assert_eq!(*other.key("k").skip_l1().get::<u32>().await.unwrap().unwrap(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn who_has_a_stale_value_serves_it_and_does_not_wait() {
    for (in_l1, detached) in [(false, false), (false, true), (true, false), (true, true)] {
        let rig = rig_with(|builder| builder.stale_for(60 * SECOND));
        let stale =
            |builder: tiered::Builder<_>| builder.stale_for(60 * SECOND).local_for(120 * SECOND);
        let other = node(&rig.l2, &rig.clock, stale);
        let _ = rig.cache.set("k", 7_u32).await.unwrap();
        if in_l1 {
            assert_eq!(load(&other, 2).await, (7, Outcome::HitL2));
        }
        rig.clock.advance(61 * SECOND);
        let (slow, task) = loading(&rig.cache).await;
        let start = Instant::now();
        let value = if detached {
            let request = other.key("k");
            *request.detached(|| async { Ok::<_, DbDown>(2_u32) }).await.unwrap()
        } else {
            load(&other, 2).await.0
        };
        assert_eq!((value, start.elapsed()), (7, Duration::ZERO), "{in_l1} {detached}");
        tokio::time::sleep(SECOND).await;
        let stats = other.stats();
        assert_eq!((stats.stale, stats.loads), (1, 0), "{in_l1} {detached}");
        slow.end();
        task.await.unwrap().unwrap();
        assert_eq!(load(&other, 2).await, (1, Outcome::HitL2));
        other.shutdown().await;
    }
}

/// With a server, for a command that was given up may still be on its way.
async fn a_load_that_was_given_up_holds_nobody_up() {
    let server = RedisServer::start().await.unwrap();
    let over = || {
        let redis = Redis::new(&server.url()).unwrap();
        Tiered::new(Moka::new(10), redis).lease_for(60 * SECOND).build().unwrap()
    };
    let (holder, other) = (over(), over());
    for is_other in [true, false] {
        let (_slow, task) = loading(&holder).await;
        task.abort();
        let _ = task.await;
        let next = if is_other { &other } else { &holder };
        let start = std::time::Instant::now();
        assert_eq!(load(next, 2).await, (2, Outcome::Load));
        assert!(start.elapsed() < 20 * SECOND, "{:?}", start.elapsed());
        assert_eq!(next.stats().unstored_loads, 0);
        assert_eq!(other.invalidate("k").await.unwrap(), Ack::Done);
        assert_eq!(holder.invalidate("k").await.unwrap(), Ack::Done);
    }
}

/// Wherever it is given up: each future is polled so often and then dropped.
#[tokio::test(start_paused = true)]
async fn wherever_a_load_is_given_up_the_next_one_need_not_wait() {
    for polls in 0..40 {
        let rig = rig();
        let other = node(&rig.l2, &rig.clock, |builder| builder);
        rig.l2.switch(State::Held);
        let mut loading = Box::pin(rig.cache.get_or_load("k", || async {
            tokio::task::yield_now().await;
            Ok::<_, DbDown>(1_u32)
        }));
        let mut done = false;
        for _ in 0..polls {
            rig.l2.admit(1);
            done |= futures_util::poll!(&mut loading).is_ready();
            if done {
                break;
            }
        }
        drop(loading);
        rig.l2.switch(State::Up);
        rig.l2.admit(100);
        let start = Instant::now();
        let (value, _) = load(&other, 2).await;
        assert!(value == 2 || done || polls > 2, "{polls}");
        assert!(start.elapsed() <= NOTICE, "{polls}: {:?}", start.elapsed());
        assert_eq!(other.stats().unstored_loads, 0, "{polls}");
        if done {
            return;
        }
    }
    panic!("it never ended");
}

#[tokio::test(start_paused = true)]
async fn a_load_that_fails_frees_the_others_at_once() {
    let rig = rig();
    let other = node(&rig.l2, &rig.clock, |builder| builder);
    let (go, may_go) = oneshot::channel::<()>();
    let holder = rig.cache.clone();
    let failing = tokio::spawn(async move {
        let load = || async {
            may_go.await.unwrap();
            Err::<u32, _>(DbDown)
        };
        holder.get_or_load("k", load).await
    });
    eventually("it holds the lease", || rig.l2.operations() >= 2).await;
    let ending = async {
        tokio::time::sleep(SECOND).await;
        go.send(()).unwrap();
        Instant::now()
    };
    let (loaded, ended) = tokio::join!(load(&other, 2), ending);
    assert_eq!(loaded, (2, Outcome::Load));
    assert!(ended.elapsed() <= NOTICE, "{:?}", ended.elapsed());
    assert!(failing.await.unwrap().is_err());
    assert_eq!((other.stats().unstored_loads, other.stats().lease_waits), (0, 1));
}

#[tokio::test(start_paused = true)]
async fn who_is_to_ask_the_database_does_not_wait() {
    let loader = || async { Ok::<_, DbDown>(2_u32) };
    for strategy in [CacheStrategy::Invalidate, CacheStrategy::Bypass] {
        for is_many in [false, true] {
            let rig = rig();
            let other = node(&rig.l2, &rig.clock, |builder| builder);
            let (slow, task) = loading(&rig.cache).await;
            let start = Instant::now();
            if is_many {
                let many = |_: Vec<&'static str>| async { Ok::<_, DbDown>([("k", 2_u32)]) };
                let request = other.keys(["k"]).strategy(strategy);
                request.get_or_load(many).await.remove(0).unwrap();
            } else {
                other.key("k").strategy(strategy).get_or_load(loader).await.unwrap();
            }
            assert_eq!(start.elapsed(), Duration::ZERO, "{strategy:?}");
            slow.end();
            assert_eq!(*task.await.unwrap().unwrap(), 1);
            // The late fill was refused.
            let stored = other.key("k").skip_l1().get::<u32>().await.unwrap();
            assert_eq!(stored.as_deref(), Some(&2), "{strategy:?}");
        }
    }
}

async fn a_load_that_outlives_its_lease_is_not_stored() {
    let clock = Clock::manual();
    let memory = Memory::new().clock(clock.clone());
    let server = RedisServer::start().await.unwrap();
    let redis = || -> Arc<dyn RemoteTier> { Arc::new(Redis::new(&server.url()).unwrap()) };
    let lease = Duration::from_millis(150);
    for is_real in [false, true] {
        let over = || {
            let l2 = if is_real { redis() } else { Arc::new(memory.clone()) };
            let builder = Tiered::new(Moka::new(10), l2).clock(clock.clone()).lease_for(lease);
            builder.wait_for(60 * SECOND).jitter(Jitter::none()).build().unwrap()
        };
        let (holder, other) = (over(), over());
        // The holder's runtime stands still in the middle of the load: nothing renews its lease.
        let (loaded, is_loaded) = std::sync::mpsc::channel::<()>();
        let (begun, has_begun) = oneshot::channel();
        let late = {
            let holder = holder.clone();
            std::thread::Builder::new().spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
                runtime.unwrap().block_on(holder.get_or_load("k", || async move {
                    begun.send(()).unwrap();
                    is_loaded.recv().unwrap();
                    Ok::<_, DbDown>(1_u32)
                }))
            })
        };
        has_begun.await.unwrap();
        clock.advance(lease);
        assert_eq!(load(&other, 2).await, (2, Outcome::Load), "real: {is_real}");
        assert_eq!(other.stats().unstored_loads, 0);
        loaded.send(()).unwrap();
        assert_eq!(*late.unwrap().join().unwrap().unwrap(), 1);
        assert_eq!(holder.stats().refused_fills, 1, "real: {is_real}");
        assert_eq!(*other.key("k").skip_l1().get::<u32>().await.unwrap().unwrap(), 2);
    }
}

/// Two processes, each of which loads what the other wants next.
#[tokio::test(start_paused = true)]
async fn batches_of_crossing_keys_do_not_wait_for_each_other() {
    let rig = rig();
    let other = node(&rig.l2, &rig.clock, |builder| builder);
    let barrier = tokio::sync::Barrier::new(2);
    let loader = |missing: Vec<u32>| {
        let barrier = &barrier;
        async move {
            barrier.wait().await;
            Ok::<_, DbDown>(missing.into_iter().map(|key| (key, key)).collect::<Vec<_>>())
        }
    };
    let batch = async |cache: &Tiered, first: [u32; 1], rest: [u32; 2]| {
        // It holds the first, and wants both.
        let held = cache.keys(first).get_or_load(loader);
        let both = async {
            tokio::task::yield_now().await;
            cache.keys(rest).get_or_load(loader).await
        };
        tokio::join!(held, both)
    };
    let start = Instant::now();
    let (a, b) = tokio::join!(batch(&rig.cache, [1], [1, 2]), batch(&other, [2], [2, 1]));
    assert!(a.1.iter().chain(&b.1).all(Result::is_ok));
    assert!(start.elapsed() <= NOTICE, "{:?}", start.elapsed());
    for cache in [&rig.cache, &other] {
        assert_eq!((cache.stats().loads, cache.stats().unstored_loads), (1, 0));
    }
}

#[tokio::test(start_paused = true)]
async fn a_foreign_load_does_not_hold_up_a_batches_own() {
    let rig = rig();
    let other = node(&rig.l2, &rig.clock, |builder| builder);
    let (slow, task) = loading(&rig.cache).await;
    let begun = Semaphore::new(0);
    let batch = other.keys(["k", "m", "n"]).get_or_load(|missing: Vec<&'static str>| {
        begun.add_permits(1);
        async move {
            assert_eq!(missing, ["m", "n"]);
            Ok::<_, DbDown>(missing.into_iter().map(|key| (key, 2_u32)).collect::<Vec<_>>())
        }
    });
    let start = Instant::now();
    let rest = async {
        begun.acquire().await.unwrap().forget();
        assert_eq!(start.elapsed(), Duration::ZERO);
        // They are there for all, while the batch still waits.
        eventually("stored", || rig.l2.operations() >= 8).await;
        assert_eq!(*rig.cache.get::<u32>("m").await.unwrap().unwrap(), 2);
        slow.end();
    };
    let (values, ()) = tokio::join!(batch, rest);
    let values: Vec<u32> = values.into_iter().map(|value| *value.unwrap().unwrap()).collect();
    assert_eq!(values, [1, 2, 2]);
    task.await.unwrap().unwrap();
}

/// Who shares a batch's wait for another process does not wait for what that batch loads.
#[tokio::test(start_paused = true)]
async fn a_batches_own_load_does_not_hold_up_who_waits_for_a_foreign_one() {
    let rig = rig();
    let other = node(&rig.l2, &rig.clock, |builder| builder);
    let (slow, task) = loading(&rig.cache).await;
    let own = Slow::new();
    let batch = {
        let (other, own) = (other.clone(), Arc::clone(&own));
        tokio::spawn(async move {
            let loader = |_: Vec<&'static str>| {
                let own = Arc::clone(&own);
                async move { Ok::<_, DbDown>([("m", own.load().await?)]) }
            };
            other.keys(["k", "m"]).get_or_load(loader).await
        })
    };
    own.begun().await;
    let start = Instant::now();
    slow.end();
    let single = tokio::time::timeout(SECOND, other.get_or_load("k", db_down::<u32>)).await;
    assert_eq!(*single.expect("it waits for the batch").unwrap(), 1);
    assert!(start.elapsed() <= NOTICE);
    own.end();
    assert!(batch.await.unwrap().into_iter().all(|value| value.is_ok()));
    task.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_remembered_absence_does_not_end_the_wait_for_a_value() {
    let rig = rig();
    let other = node(&rig.l2, &rig.clock, |builder| builder);
    let absent = || async { Ok::<Option<u32>, DbDown>(None) };
    assert_eq!(rig.cache.get_or_load_opt("k", absent).await.unwrap(), None);
    let (slow, task) = loading(&rig.cache).await;
    let start = Instant::now();
    assert_eq!(other.get_or_load_opt("k", absent).await.unwrap(), None);
    assert_eq!((other.stats().negative, start.elapsed()), (1, Duration::ZERO));
    let ending = async {
        tokio::time::sleep(SECOND).await;
        slow.end();
    };
    let (value, ()) = tokio::join!(other.get_or_load("k", db_down::<u32>), ending);
    assert_eq!(*value.unwrap(), 1);
    task.await.unwrap().unwrap();
}

/// The same value has the same bytes; an entry that has just ended is seen by its bytes.
#[tokio::test(start_paused = true)]
async fn the_same_value_loaded_anew_is_shared_too() {
    let rig = rig();
    // The absence is what was judged before, and the next one is equal to it.
    let other = node(&rig.l2, &rig.clock, |builder| builder);
    let stale = |builder: tiered::Builder<_>| builder.stale_for(60 * SECOND);
    let (holder, next) = (node(&rig.l2, &rig.clock, stale), node(&rig.l2, &rig.clock, stale));
    drop(other);
    assert_eq!(load(&holder, 1).await, (1, Outcome::Load));
    rig.clock.advance(61 * SECOND);
    // `next` has seen the stale entry, and stands before its lease, when `holder` loads the same value.
    rig.l2.switch(State::Gated);
    let refreshed = async {
        eventually("it has looked", || rig.l2.operations() >= 4).await;
        rig.l2.switch(State::Up);
        let request = holder.key("k").strategy(CacheStrategy::Bypass);
        request.get_or_load(|| async { Ok::<_, DbDown>(1_u32) }).await.unwrap();
        rig.l2.admit(1);
    };
    let ((value, outcome), ()) = tokio::join!(load(&next, 2), refreshed);
    assert_eq!((value, outcome), (1, Outcome::HitL2));
    assert_eq!(next.stats().loads, 0);
}

#[tokio::test(start_paused = true)]
async fn callers_that_are_dropped_while_they_wait_leave_nothing_behind() {
    let rig = rig();
    let other = node(&rig.l2, &rig.clock, |builder| builder);
    let (slow, task) = loading(&rig.cache).await;
    for _ in 0..20 {
        let wait = Duration::from_millis(fastrand::u64(..150));
        assert!(tokio::time::timeout(wait, load(&other, 2)).await.is_err());
        let batch = other
            .keys(["k"])
            .get_or_load(|_: Vec<&'static str>| async { Ok::<_, DbDown>([("k", 2_u32)]) });
        assert!(tokio::time::timeout(wait, batch).await.is_err());
    }
    // One of several: another goes on in its place.
    let (first, second) = (other.clone(), other.clone());
    let first = tokio::spawn(async move { load(&first, 2).await });
    tokio::task::yield_now().await;
    let second = tokio::spawn(async move { load(&second, 2).await });
    tokio::time::sleep(NOTICE).await;
    first.abort();
    slow.end();
    let start = Instant::now();
    assert_eq!(second.await.unwrap().0, 1);
    assert!(start.elapsed() <= NOTICE);
    task.await.unwrap().unwrap();
    assert_eq!(other.stats().loads, 0);
    assert!(format!("{other:?}").contains("flights: 0"), "{other:?}");
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_in_the_middle_of_a_wait_leaves_no_task() {
    let tasks = || tokio::runtime::Handle::current().metrics().num_alive_tasks();
    let rig = rig();
    let other = node(&rig.l2, &rig.clock, |builder| builder);
    let (slow, task) = loading(&rig.cache).await;
    let before = tasks();
    let waiting = other.key("k").detached(|| async { Ok::<_, DbDown>(2_u32) });
    let ending = async {
        tokio::time::sleep(SECOND).await;
        other.shutdown().await;
        tasks()
    };
    let (value, left) = tokio::join!(waiting, ending);
    assert!(matches!(value, Err(Error::Repository(_))), "{value:?}");
    assert_eq!(left, before);
    // And one in the middle of a load gives the lease up before it returns.
    slow.end();
    task.await.unwrap().unwrap();
    let own = Slow::new();
    let loads = Arc::clone(&own);
    let loading = other.key("m").detached(move || async move { loads.load().await });
    let ending = async {
        own.begun().await;
        other.shutdown().await;
        tasks()
    };
    let (value, left) = tokio::join!(loading, ending);
    assert!(matches!(value, Err(Error::Repository(_))), "{value:?}");
    assert_eq!(left, before - 1);
    let start = Instant::now();
    let answer = rig.cache.get_or_load("m", || async { Ok::<_, DbDown>(3_u32) }).await;
    assert_eq!((*answer.unwrap(), start.elapsed()), (3, Duration::ZERO));
}

#[tokio::test(start_paused = true)]
async fn a_server_that_hangs_during_a_wait_costs_one_budget() {
    for state in [State::Hanging, State::Failing] {
        let rig = rig();
        let other = node(&rig.l2, &rig.clock, |builder| builder);
        let (slow, task) = loading(&rig.cache).await;
        let hang = async {
            tokio::time::sleep(SECOND).await;
            rig.l2.switch(state);
            Instant::now()
        };
        let (loaded, hung) = tokio::join!(load(&other, 2), hang);
        assert_eq!(loaded, (2, Outcome::Load));
        assert!(hung.elapsed() <= NOTICE + Duration::from_millis(250), "{:?}", hung.elapsed());
        assert_eq!(other.stats().unstored_loads, 1);
        rig.l2.switch(State::Up);
        slow.end();
        task.await.unwrap().unwrap();
    }
}

async fn processes_share_a_load_over_redis() {
    let server = RedisServer::start().await.unwrap();
    let caches: Vec<_> = (0..4)
        .map(|_| Tiered::new(Moka::new(10), Redis::new(&server.url()).unwrap()).build().unwrap())
        .collect();
    let loads = AtomicUsize::new(0);
    let each = caches.iter().map(|cache| async {
        let load = || async {
            loads.fetch_add(1, Ordering::SeqCst);
            tokio::time::sleep(Duration::from_millis(50)).await;
            Ok::<_, DbDown>(1_u32)
        };
        *cache.get_or_load("k", load).await.unwrap()
    });
    let values = futures_util::future::join_all(each).await;
    assert_eq!((values, loads.into_inner()), (vec![1; 4], 1));
    assert_eq!(server.keys_without_expiry().await.unwrap(), Vec::<Vec<u8>>::new());
}

const HOLDER: &str = "TIERED_TEST_HOLDER";

/// The process that is killed by the scenario below; for nobody else it does anything.
#[tokio::test]
#[ignore = "run by another test, as a process of its own"]
async fn holder() {
    let Ok(url) = std::env::var(HOLDER) else { return };
    let cache = Tiered::new(Moka::new(10), Redis::new(&url).unwrap()).lease_for(2 * SECOND);
    let cache = cache.build().unwrap();
    let load = || async {
        eprintln!("it loads");
        tokio::time::sleep(60 * SECOND).await;
        Ok::<_, DbDown>(1_u32)
    };
    let _ = cache.get_or_load("k", load).await;
}

#[tokio::test]
async fn a_process_that_is_killed_costs_its_lease() {
    let server = RedisServer::start().await.unwrap();
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "leases::holder", "--ignored", "--nocapture"])
        .env(HOLDER, server.url())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    while lines.next_line().await.unwrap().expect("it ended") != "it loads" {}
    let redis = Redis::new(&server.url()).unwrap();
    let other = Tiered::new(Moka::new(10), redis).wait_for(60 * SECOND).build().unwrap();
    let waiting = tokio::spawn({
        let other = other.clone();
        async move { load(&other, 2).await }
    });
    eventually("it waits", || other.stats().lease_waits == 1).await;
    child.kill().await.unwrap();
    let killed = std::time::Instant::now();
    assert_eq!(waiting.await.unwrap(), (2, Outcome::Load));
    // Its lease, and wide room for a busy machine.
    assert!(killed.elapsed() < 2 * SECOND + 10 * SECOND, "{:?}", killed.elapsed());
    assert_eq!(other.stats().unstored_loads, 0);
    assert_eq!(*other.key("k").skip_l1().get::<u32>().await.unwrap().unwrap(), 2);
}
