//! The tools for bad days: do they do what they say?

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use tiered_tiers::{
    Memcached, Memory, Redis, RemoteTier, TierError,
    testing::{
        Fault, Faulty, LinkFault, MemcachedServer, Plan, Proxy, RedisServer, remote_tier_conforms,
    },
};

use crate::{servers::stat, through, timed, wait};

const LIFE: Duration = Duration::from_secs(600);

async fn stored() -> Faulty<Memory> {
    let tier = Faulty::new(Memory::new());
    for key in [b"a", b"b"] {
        tier.set(key, Bytes::copy_from_slice(key), LIFE).await.unwrap();
    }
    tier
}

async fn read(tier: &Faulty<Memory>, key: &[u8]) -> Result<Option<Bytes>, TierError> {
    Ok(tier.get(key).await?.map(|found| found.bytes))
}

#[tokio::test]
async fn without_a_plan_it_is_what_it_holds() {
    remote_tier_conforms(Arc::new(Faulty::new(Memory::new()))).await;
}

#[tokio::test(start_paused = true)]
async fn each_fault_is_what_it_says() {
    let tier = stored().await;
    tier.plan(Plan::Always(Fault::Error(TierError::Timeout)));
    assert_eq!(tier.delete(b"a").await, Err(TierError::Timeout));
    tier.plan(Plan::Always(Fault::DropAfterSend));
    assert!(matches!(tier.delete(b"b").await, Err(TierError::Unreachable(_))));
    tier.plan(Plan::Never);
    assert_eq!(read(&tier, b"a").await, Ok(Some("a".into())), "it was not executed");
    assert_eq!(read(&tier, b"b").await, Ok(None), "it was");
    tier.plan(Plan::Always(Fault::Delay(LIFE)));
    let start = tokio::time::Instant::now();
    assert_eq!(read(&tier, b"a").await, Ok(Some("a".into())));
    assert!(start.elapsed() >= LIFE);
    tier.plan(Plan::Always(Fault::Hang));
    assert!(tokio::time::timeout(LIFE, tier.get(b"a")).await.is_err());
}

#[tokio::test]
async fn a_wrong_value_is_another_keys_or_damaged() {
    let tier = stored().await;
    tier.plan(Plan::Always(Fault::WrongValue));
    assert_eq!(read(&tier, b"a").await, Ok(Some(Bytes::from_static(b"`"))), "a bit is flipped");
    assert_eq!(read(&tier, b"b").await, Ok(Some("a".into())), "the other key's");
    assert_eq!(read(&tier, b"none").await, Ok(None));
}

#[tokio::test]
async fn a_countdown_strikes_once_and_a_seed_strikes_again_alike() {
    let tier = stored().await;
    let error = Fault::Error(TierError::Timeout);
    tier.plan(Plan::After(2, error.clone()));
    let mut outcomes = Vec::new();
    for _ in 0..5 {
        outcomes.push(tier.get(b"a").await.is_ok());
    }
    assert_eq!(outcomes, [true, true, false, true, true]);
    let mut runs = Vec::new();
    for seed in [7, 7, 8] {
        let faults = vec![error.clone(), Fault::WrongValue];
        tier.plan(Plan::Seeded { seed, percent: 50, faults });
        let mut run = Vec::new();
        for _ in 0..100 {
            run.push(read(&tier, b"a").await);
        }
        let struck = run.iter().filter(|read| **read != Ok(Some("a".into()))).count();
        assert!((25..75).contains(&struck), "{struck}");
        runs.push(run);
    }
    assert!(runs[0] == runs[1] && runs[0] != runs[2]);
}

#[tokio::test]
async fn each_fault_of_a_link_is_felt_and_healed() {
    let server = RedisServer::start().await.unwrap();
    let direct = Redis::new(&server.url()).unwrap();
    let keys = [b"a", b"b", b"c"];
    let value = |key: &[u8]| Bytes::from(key.repeat(50_000));
    for key in keys {
        direct.set(key, value(key), LIFE).await.unwrap();
    }
    for fault in [
        LinkFault::Delay(Duration::from_secs(5)),
        LinkFault::Throttle(10_000),
        LinkFault::Reset,
        LinkFault::BlackHole,
        LinkFault::Truncate,
        LinkFault::ShiftReplies,
        LinkFault::FlipBits,
        LinkFault::HoldRequests,
    ] {
        let proxy = Proxy::before(server.port()).await.unwrap();
        let open = || Redis::new(&through(&proxy)).unwrap().connections(1);
        let tier = open();
        let is_right = async |tier: &Redis, key: &[u8; 1]| {
            let (got, took) = timed(tier.get(key)).await;
            assert!(took < Duration::from_secs(2), "{fault:?}: {took:?}");
            got.is_ok_and(|found| found.is_some_and(|found| found.bytes == value(key)))
        };
        assert!(is_right(&tier, b"a").await);
        proxy.inject(fault);
        let mut round = 0;
        while is_right(&tier, keys[round % 3]).await {
            round += 1;
            assert!(round < 300, "{fault:?} of seed {} is not felt", proxy.seed());
        }
        proxy.heal();
        let (start, fresh) = (Instant::now(), open());
        while !is_right(&fresh, b"a").await {
            assert!(start.elapsed() < Duration::from_secs(2), "{fault:?} is not healed");
            wait(10).await;
        }
    }
}

/// What it held is let go with it.
#[tokio::test]
async fn a_proxy_dropped_while_it_holds_leaves_no_connection() {
    let server = MemcachedServer::start().await.unwrap();
    for _ in 0..20 {
        let proxy = Proxy::before(server.port()).await.unwrap();
        let tier = Memcached::new(&proxy.address()).unwrap();
        let tier = tier.response_timeout(Duration::from_millis(50));
        let _ = tier.ping().await;
        proxy.inject(LinkFault::HoldRequests);
        assert!(tier.ping().await.is_err());
    }
    let start = Instant::now();
    while stat(&server, "curr_connections").await > 4 {
        assert!(start.elapsed() < Duration::from_secs(10), "connections are left");
        wait(10).await;
    }
}
