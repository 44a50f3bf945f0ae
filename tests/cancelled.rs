//! Futures that are dropped midway, after each number of polls: what was begun is not half done for good.
//!
//! B has an old value of `k` in its L1, and the server has it too. A changes it, and is dropped on the way.

use std::{pin::Pin, time::Duration};

use bytes::Bytes;
use futures_util::FutureExt;
use tiered::{
    CacheStrategy, Outcome, Tiered,
    tiers::{Bus, BusPolled, LocalBus, LogName, TierError, protocol::Position},
};
use tiered_tiers::testing::{BusFault, FaultyBus};
use tokio::time::Instant;

use crate::support::{DbDown, Net, SECOND, State, eventually, in_l1, listens};

/// A bus whose appends are taken in steps: one before it is made, and one after.
#[derive(Debug)]
struct Stepped(LocalBus);

#[async_trait::async_trait]
impl Bus for Stepped {
    fn name(&self) -> &'static str {
        "stepped"
    }
    async fn append(&self, log: LogName<'_>, messages: &[Bytes]) -> Result<(), TierError> {
        tokio::task::yield_now().await;
        let appended = self.0.append(log, messages).await;
        tokio::task::yield_now().await;
        appended
    }
    async fn open(&self, log: LogName<'_>) -> Result<BusPolled, TierError> {
        self.0.open(log).await
    }
    async fn poll(
        &self,
        log: LogName<'_>,
        after: Position,
        wait: Duration,
    ) -> Result<BusPolled, TierError> {
        self.0.poll(log, after, wait).await
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Call {
    Invalidate,
    InvalidateMany,
    InvalidatePrefix,
    Set,
    SetMany,
    StrategyInvalidate,
    Bypass,
    BypassMany,
    BypassUnencodable,
}

impl Call {
    const ALL: [Self; 9] = [
        Self::Invalidate,
        Self::InvalidateMany,
        Self::InvalidatePrefix,
        Self::Set,
        Self::SetMany,
        Self::StrategyInvalidate,
        Self::Bypass,
        Self::BypassMany,
        Self::BypassUnencodable,
    ];

    /// Whether it has begun to change the key with its first step. The others begin when their load has ended.
    fn changes_first(self) -> bool {
        !matches!(self, Self::Bypass | Self::BypassMany | Self::BypassUnencodable)
    }

    fn make(self, cache: &Tiered) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        let loader = || async {
            tokio::task::yield_now().await;
            Ok::<_, DbDown>(2_u32)
        };
        let bypass = CacheStrategy::Bypass;
        Box::pin(async move {
            match self {
                Self::Invalidate => drop(cache.invalidate("k").await),
                Self::InvalidateMany => drop(cache.invalidate_many(["j", "k"]).await),
                Self::InvalidatePrefix => drop(cache.invalidate_prefix("k").await),
                Self::Set => drop(cache.set("k", 2_u32).await),
                Self::SetMany => drop(cache.set_many([("j", 2_u32), ("k", 2)]).await),
                Self::StrategyInvalidate => {
                    let request = cache.key("k").strategy(CacheStrategy::Invalidate);
                    drop(request.get_or_load(loader).await);
                }
                Self::Bypass => {
                    drop(cache.key("k").strategy(bypass).get_or_load(loader).await);
                }
                Self::BypassMany => {
                    let loader = |missing: Vec<String>| async move {
                        Ok::<_, DbDown>(
                            missing.into_iter().map(|key| (key, 2_u32)).collect::<Vec<_>>(),
                        )
                    };
                    let keys = ["j", "k"].map(str::to_owned);
                    drop(cache.keys(keys).strategy(bypass).get_or_load(loader).await);
                }
                Self::BypassUnencodable => {
                    let request = cache.key("k").strategy(bypass);
                    let loader = || async { Ok::<_, DbDown>(vec![0_u8; 100_000]) };
                    drop(request.get_or_load(loader).await);
                }
            }
        })
    }
}

/// Whether it had come to its end after so many polls.
async fn dropped_after(call: Call, state: State, polls: usize) -> bool {
    let net = Net::new();
    let bus = || Stepped(net.bus.inner().clone());
    let a = net.node_on(bus(), |builder| builder.max_entry_bytes(10_000));
    let b = net.node_on(bus(), |builder| builder);
    listens(&b).await;
    let old = b.key("k").get_or_load(|| async { Ok::<_, DbDown>(1_u32) }).await.unwrap();
    assert_eq!(*old, 1);
    net.l2.switch(state);
    let mut calling = call.make(&a);
    let mut done = false;
    for _ in 0..polls {
        net.l2.admit(1);
        done = futures_util::poll!(&mut calling).is_ready();
        if done {
            break;
        }
        tokio::task::yield_now().await;
    }
    drop(calling);
    net.l2.switch(State::Up);
    net.l2.admit(10_000);
    let at = format!("{call:?}, {state:?}, {polls} polls");
    eventually(&format!("nothing is pending: {at}"), || {
        a.health().now_or_never().is_some_and(|health| health.pending == 0)
    })
    .await;
    let has_changed = match call {
        Call::BypassUnencodable => a.key("k").skip_l2().get::<Vec<u8>>().await.unwrap().is_some(),
        _ => in_l1(&a, "k").await == Some(2),
    };
    if has_changed || done || (call.changes_first() && polls > 0) {
        let start = std::time::Instant::now();
        while in_l1(&b, "k").await == Some(1) {
            assert!(start.elapsed() < 10 * SECOND, "B was never told: {at}");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let shared = b.key("k").skip_l1().get::<u32>().await.unwrap();
        assert!(shared.is_none_or(|value| *value != 1), "the server has it still: {at}");
    }
    assert!(format!("{a:?}").contains("flights: 0"), "{at}: {a:?}");
    // And nobody waits for whom it was.
    let start = Instant::now();
    let answer = b.key("k").skip_l1().load(|_| async { Ok::<_, DbDown>(Some(3_u32)) }).await;
    assert!(matches!(answer.unwrap().outcome, Outcome::Load | Outcome::HitL2), "{at}");
    assert!(start.elapsed() <= Duration::from_millis(50), "{at}: {:?}", start.elapsed());
    done
}

#[tokio::test(start_paused = true)]
async fn nothing_is_lost_with_a_future_that_is_dropped_midway() {
    for call in Call::ALL {
        for state in [State::Held, State::Gated] {
            let mut polls = 0;
            while !dropped_after(call, state, polls).await {
                polls += 1;
                assert!(polls < 200, "{call:?} never ends");
            }
            assert!(polls >= 3, "{call:?} ends after {polls} polls: nothing was tried");
        }
    }
}

/// Those that it had not come to yet are changed in its own L1 already.
#[tokio::test(start_paused = true)]
async fn a_batch_is_dropped_before_all_of_it_is_stored() {
    let net = Net::new();
    let broken = FaultyBus::new(net.bus.inner().clone());
    let (a, b) = (net.node_on(broken.clone(), |builder| builder), net.node());
    listens(&b).await;
    let load = async |cache: &Tiered, strategy, value: u32| {
        let loader = |missing: Vec<u32>| async move {
            let found = missing.into_iter().map(move |key| (key, value));
            Ok::<_, DbDown>(found.collect::<Vec<_>>())
        };
        let request = cache.keys(0..1_200_u32).strategy(strategy);
        request.get_or_load(loader).await.into_iter().for_each(|value| drop(value.unwrap()));
    };
    load(&b, CacheStrategy::Refresh, 1).await;
    broken.inject(BusFault::Hang);
    let bypass = load(&a, CacheStrategy::Bypass, 2);
    assert!(tokio::time::timeout(Duration::from_millis(100), bypass).await.is_err());
    broken.heal();
    assert_eq!(in_l1(&a, "1199").await, Some(2));
    eventually("nothing is pending", || {
        a.health().now_or_never().is_some_and(|health| health.pending == 0)
    })
    .await;
    eventually("all of it is heard", || b.stats().bus_heard >= 1_200).await;
    for key in [0, 600, 1_199] {
        assert_eq!(in_l1(&b, &key.to_string()).await, None, "{key}");
        let shared = b.key(key).skip_l1().get::<u32>().await.unwrap();
        assert!(shared.is_none_or(|value| *value == 2), "{key}");
    }
}
