//! Single flight: stampedes, callers that go away, loaders that panic.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures_util::future::join_all;
use tiered::{
    Error, LoadAborted, LoaderPanicked, Outcome, Tiered,
    tiers::{Memory, Moka},
};
use tokio::sync::{Notify, Semaphore};

use crate::support::{DbDown, State, eventually, rig};

scenarios! {
    ten_thousand_misses_are_one_load,
    a_leader_that_goes_away_hands_over_to_a_waiter,
    a_detached_load_outlives_its_caller,
    a_panicking_loader_gives_everybody_a_typed_error_and_leaves_nothing_behind,
    an_erring_loader_gives_everybody_its_own_error,
    a_caller_after_an_invalidation_does_not_share_the_load_before_it,
    a_bypass_shares_nobodys_load,
    a_value_is_wanted_by_one_and_an_absence_shared_with_another,
    lookups_of_one_key_share_one_round_trip,
    shutdown_ends_detached_loads_within_the_budget,
}

const CALLERS: usize = 10_000;

fn cache() -> Tiered {
    Tiered::new(Moka::new(1_000), Memory::new()).build().unwrap()
}

/// A loader that waits at a gate and counts.
#[derive(Clone)]
struct Gate {
    open: Arc<Semaphore>,
    loads: Arc<AtomicUsize>,
    begun: Arc<Notify>,
}

impl Gate {
    fn closed() -> Self {
        Self { open: Arc::new(Semaphore::new(0)), loads: Arc::default(), begun: Arc::default() }
    }

    async fn load(&self, value: u32) -> Result<u32, DbDown> {
        self.loads.fetch_add(1, Ordering::SeqCst);
        self.begun.notify_one();
        self.open.acquire().await.unwrap().forget();
        Ok(value)
    }

    fn loads(&self) -> usize {
        self.loads.load(Ordering::SeqCst)
    }
}

async fn ten_thousand_borrowed() {
    let (cache, gate) = (cache(), Gate::closed());
    let calls = (0..CALLERS).map(|_| cache.get_or_load("hot", || gate.load(7)));
    let release = async {
        eventually("all wait", || cache.stats().coalesced as usize == CALLERS - 1).await;
        gate.open.add_permits(1);
    };
    let (values, ()) = tokio::join!(join_all(calls), release);
    assert!(values.into_iter().all(|value| *value.unwrap() == 7));
    assert_eq!(gate.loads(), 1);
    let stats = cache.stats();
    assert_eq!((stats.load, stats.shared as usize), (1, CALLERS - 1));
}

async fn ten_thousand_detached() {
    let (cache, gate) = (cache(), Gate::closed());
    let mut calls = tokio::task::JoinSet::new();
    for _ in 0..CALLERS {
        let (cache, gate) = (cache.clone(), gate.clone());
        calls.spawn(async move {
            cache.key("hot").detached(move || async move { gate.load(7).await }).await
        });
    }
    eventually("all wait", || cache.stats().coalesced as usize == CALLERS - 1).await;
    gate.open.add_permits(1);
    assert!(calls.join_all().await.into_iter().all(|value| *value.unwrap() == 7));
    assert_eq!(gate.loads(), 1);
    let stats = cache.stats();
    assert_eq!((stats.load, stats.shared as usize), (1, CALLERS - 1));
}

async fn ten_thousand_misses_are_one_load() {
    ten_thousand_borrowed().await;
    ten_thousand_detached().await;
}

async fn a_leader_that_goes_away_hands_over_to_a_waiter() {
    let (cache, gate) = (cache(), Gate::closed());
    let leader = tokio::spawn({
        let (cache, gate) = (cache.clone(), gate.clone());
        async move { cache.get_or_load("k", || gate.load(1)).await }
    });
    gate.begun.notified().await;
    let waiter = tokio::spawn({
        let (cache, gate) = (cache.clone(), gate.clone());
        async move { cache.get_or_load("k", || gate.load(2)).await }
    });
    eventually("it waits", || cache.stats().coalesced == 1).await;
    leader.abort();
    gate.begun.notified().await;
    gate.open.add_permits(1);
    assert_eq!(*waiter.await.unwrap().unwrap(), 2);
    assert_eq!(gate.loads(), 2);
}

async fn a_detached_load_outlives_its_caller() {
    let (cache, gate) = (cache(), Gate::closed());
    let caller = tokio::spawn({
        let (cache, gate) = (cache.clone(), gate.clone());
        async move { cache.key("k").detached(move || async move { gate.load(1).await }).await }
    });
    gate.begun.notified().await;
    caller.abort();
    assert!(caller.await.unwrap_err().is_cancelled());
    gate.open.add_permits(1);
    eventually("it is stored", || {
        futures_util::FutureExt::now_or_never(cache.get::<u32>("k"))
            .is_some_and(|value| value.unwrap().is_some())
    })
    .await;
    assert_eq!(gate.loads(), 1);
}

async fn a_panicking_loader_gives_everybody_a_typed_error_and_leaves_nothing_behind() {
    for detached in [false, true] {
        let (cache, gate) = (cache(), Gate::closed());
        let call = || {
            let gate = gate.clone();
            let load = move || async move {
                gate.load(0).await?;
                if gate.loads() > 0 {
                    panic!("the loader's own words");
                }
                Ok::<u32, DbDown>(0)
            };
            let cache = cache.clone();
            async move {
                let request = cache.key("k");
                if detached {
                    request.detached(load).await
                } else {
                    request.get_or_load(load).await
                }
            }
        };
        let release = async {
            eventually("all wait", || cache.stats().coalesced == 2).await;
            gate.open.add_permits(1);
        };
        let (a, b, c, ()) = tokio::join!(call(), call(), call(), release);
        for result in [a, b, c] {
            let error = result.unwrap_err();
            let panicked = error.loader_error::<LoaderPanicked>().unwrap();
            assert_eq!(panicked.message, "the loader's own words");
        }
        let value = cache.get_or_load("k", || async { Ok::<_, DbDown>(9_u32) }).await;
        assert_eq!(*value.unwrap(), 9);
    }
}

async fn an_erring_loader_gives_everybody_its_own_error() {
    let (cache, gate) = (cache(), Gate::closed());
    let call = || {
        cache.get_or_load("k", || async {
            gate.load(0).await?;
            Err::<u32, _>(DbDown)
        })
    };
    let release = async {
        eventually("all wait", || cache.stats().coalesced == 2).await;
        gate.open.add_permits(1);
    };
    let (a, b, c, ()) = tokio::join!(call(), call(), call(), release);
    for result in [a, b, c] {
        assert_eq!(result.unwrap_err().loader_error::<DbDown>(), Some(&DbDown));
    }
    assert_eq!(gate.loads(), 1);
    assert_eq!(cache.stats().error, 3);
}

async fn a_caller_after_an_invalidation_does_not_share_the_load_before_it() {
    let (cache, old, new) = (cache(), Gate::closed(), Gate::closed());
    new.open.add_permits(1);
    let before = cache.get_or_load("k", || old.load(1));
    let rest = async {
        old.begun.notified().await;
        let _ = cache.invalidate("k").await.unwrap();
        let after = *cache.get_or_load("k", || new.load(2)).await.unwrap();
        old.open.add_permits(1);
        after
    };
    let (before, after) = tokio::join!(before, rest);
    assert_eq!((*before.unwrap(), after), (1, 2));
    assert_eq!(cache.get::<u32>("k").await.unwrap().as_deref(), Some(&2));
}

async fn a_bypass_shares_nobodys_load() {
    let (cache, gate) = (cache(), Gate::closed());
    let shared = cache.get_or_load("k", || gate.load(1));
    let bypass = async {
        gate.begun.notified().await;
        let request = cache.key("k").strategy(tiered::CacheStrategy::Bypass);
        let value = request.get_or_load(|| async { Ok::<_, DbDown>(2_u32) }).await;
        gate.open.add_permits(1);
        *value.unwrap()
    };
    let (_, bypass) = tokio::join!(shared, bypass);
    assert_eq!(bypass, 2);
}

async fn a_value_is_wanted_by_one_and_an_absence_shared_with_another() {
    let (cache, gate) = (cache(), Gate::closed());
    let optional = cache.get_or_load_opt("k", || async {
        gate.load(0).await?;
        Ok::<Option<u32>, DbDown>(None)
    });
    let required = async {
        gate.begun.notified().await;
        cache.get_or_load("k", || async { Ok::<_, DbDown>(5_u32) }).await
    };
    let release = async {
        eventually("it waits", || cache.stats().coalesced == 1).await;
        gate.open.add_permits(1);
    };
    let (optional, required, ()) = tokio::join!(optional, required, release);
    assert_eq!(optional.unwrap(), None);
    assert_eq!(*required.unwrap(), 5);
}

async fn lookups_of_one_key_share_one_round_trip() {
    let rig = rig();
    rig.l2.switch(State::Gated);
    let calls = (0..100).map(|_| rig.cache.get::<u32>("k"));
    let release = async {
        eventually("all wait", || rig.cache.stats().coalesced == 99).await;
        rig.l2.admit(1);
    };
    let (values, ()) = tokio::join!(join_all(calls), release);
    assert!(values.into_iter().all(|value| value.unwrap().is_none()));
    assert_eq!(rig.l2.operations(), 1);
}

#[tokio::test]
async fn a_slow_load_ends_with_its_deadline() {
    tokio::time::pause();
    let cache = Tiered::local(Moka::new(10)).load_timeout(Duration::from_secs(2)).build().unwrap();
    let error = cache
        .get_or_load("k", || async {
            tokio::time::sleep(Duration::from_secs(3600)).await;
            Ok::<_, DbDown>(1_u32)
        })
        .await
        .unwrap_err();
    assert!(matches!(error, Error::Timeout(time) if time == Duration::from_secs(2)));
}

#[test]
fn a_detached_load_whose_runtime_went_away_says_so_and_hangs_nobody() {
    let cache = cache();
    let gate = Gate::closed();
    let (one, two) =
        (tokio::runtime::Runtime::new().unwrap(), tokio::runtime::Runtime::new().unwrap());
    // The load's task is one's, its caller is two's.
    let entered = one.enter();
    let mut call = Box::pin({
        let (cache, gate) = (cache.clone(), gate.clone());
        async move { cache.key("k").detached(move || async move { gate.load(1).await }).await }
    });
    assert!(futures_util::FutureExt::now_or_never(&mut call).is_none());
    one.block_on(gate.begun.notified());
    drop(entered);
    one.shutdown_timeout(Duration::from_secs(5));
    let error = two.block_on(call).unwrap_err();
    assert_eq!(error.loader_error::<LoadAborted>(), Some(&LoadAborted));
    let value = two.block_on(cache.get_or_load("k", || async { Ok::<_, DbDown>(3_u32) }));
    assert_eq!(*value.unwrap(), 3);
}

async fn shutdown_ends_detached_loads_within_the_budget() {
    let (cache, gate) = (cache(), Gate::closed());
    let call = tokio::spawn({
        let (cache, gate) = (cache.clone(), gate.clone());
        async move { cache.key("k").detached(move || async move { gate.load(1).await }).await }
    });
    gate.begun.notified().await;
    cache.shutdown().await;
    let error = call.await.unwrap().unwrap_err();
    assert_eq!(error.loader_error::<LoadAborted>(), Some(&LoadAborted));
    let value = cache.key("k").load(|_| async { Ok::<_, DbDown>(Some(3_u32)) }).await.unwrap();
    assert_eq!(value.outcome, Outcome::Load);
}
