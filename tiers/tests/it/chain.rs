//! Two and three remote tiers as one.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use tiered_tiers::{
    Chain, Claim, Clock, Fill, Found, Lease, LeaseToken, Memcached, Memory, Redis, RemoteTier,
    TierError,
    testing::{Fault, Faulty, MemcachedServer, Plan, RedisServer, remote_tier_conforms},
};
use tokio::time::Instant;

use crate::wait;

const LIFE: Duration = Duration::from_secs(600);
const SECOND: Duration = Duration::from_secs(1);
const VALUE: Bytes = Bytes::from_static(b"v");

async fn redis() -> (RedisServer, Redis) {
    let server = RedisServer::start().await.unwrap();
    let tier = Redis::new(&server.url()).unwrap();
    (server, tier)
}

async fn memcached() -> (MemcachedServer, Memcached) {
    let server = MemcachedServer::start().await.unwrap();
    let tier = Memcached::new(&server.address()).unwrap();
    (server, tier)
}

/// A bound on the near tier that a busy machine does not meet.
fn patient<N: RemoteTier, F: RemoteTier>(chain: Chain<N, F>) -> Arc<Chain<N, F>> {
    Arc::new(chain.near_within(5 * SECOND))
}

#[tokio::test]
async fn memory_before_memory_conforms() {
    remote_tier_conforms(Arc::new(Memory::new().then(Memory::new()))).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn memory_before_memory_conforms_with_short_copies_on_several_threads() {
    remote_tier_conforms(Arc::new(Memory::new().then(Memory::new()).near_for(2 * SECOND))).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_before_redis_conforms() {
    let ((near, one), (far, two)) = (redis().await, redis().await);
    remote_tier_conforms(patient(one.then(two))).await;
    for server in [near, far] {
        assert_eq!(server.keys_without_expiry().await.unwrap(), Vec::<Vec<u8>>::new());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_before_memcached_conforms() {
    let ((_near, near), (_far, far)) = (redis().await, memcached().await);
    remote_tier_conforms(patient(near.then(far))).await;
}

#[tokio::test]
async fn memcached_before_redis_conforms() {
    let ((_near, near), (_far, far)) = (memcached().await, redis().await);
    remote_tier_conforms(patient(near.then(far).near_for(30 * SECOND))).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_tiers_conform() {
    let ((_a, middle), (_b, far)) = (memcached().await, redis().await);
    remote_tier_conforms(patient(Memory::new().then(middle).then(far))).await;
}

#[tokio::test]
async fn a_dead_near_tier_fails_writes_and_no_reads() {
    let chain: Arc<dyn RemoteTier> =
        Arc::new(Redis::new("redis://127.0.0.1:1/").unwrap().then(Memory::new()));
    assert_eq!(chain.get(b"k").await, Ok(None));
    assert!(chain.set(b"k", VALUE, LIFE).await.is_err());
    assert_eq!(chain.get(b"k").await.unwrap().unwrap().bytes, VALUE, "far has it");
    let (token, other) = (LeaseToken::random(), LeaseToken::random());
    assert!(matches!(chain.lease(b"k", token, LIFE, Claim::IfFree).await, Ok(Lease::Granted(_))));
    assert!(matches!(chain.lease(b"k", other, LIFE, Claim::IfFree).await, Ok(Lease::Held(_))));
    chain.release(b"k", token).await.unwrap();
    assert!(chain.delete(b"k").await.is_err() && chain.ping().await.is_err());
    assert_eq!(chain.get(b"k").await, Ok(None));
    assert!(chain.clear(b"", &|_| {}).await.is_err());
}

/// A tier of its own kind beside the chain, to look behind it.
type Peek = Arc<dyn RemoteTier>;

async fn remaining(tier: &Peek, key: &[u8]) -> Option<Duration> {
    tier.get(key).await.unwrap().map(|found| found.remaining.unwrap())
}

async fn copies_live_no_longer_than_their_originals(near: [Peek; 2], far: [Peek; 2]) {
    let ([near, near_peek], [far, far_peek]) = (near, far);
    let chain = near.then(far).near_within(5 * SECOND);
    let keys: [&[u8]; 3] = [b"one", b"two", b"three"];
    for key in keys {
        far_peek.set(key, VALUE, 10 * SECOND).await.unwrap();
    }
    // The servers' clocks are their own: a real wait.
    wait(1_200).await;
    let left = remaining(&far_peek, b"one").await.unwrap();
    assert!(left < 9 * SECOND, "{left:?}");
    assert_eq!(chain.get(b"one").await.unwrap().unwrap().bytes, VALUE);
    assert!(chain.get_many(&keys).await.iter().all(|found| matches!(found, Ok(Some(_)))));
    for key in keys {
        let copied = remaining(&near_peek, key).await.expect("a copy was left");
        assert!(copied <= left && copied > 3 * SECOND, "{copied:?} of {left:?}");
        let read = chain.get(key).await.unwrap().unwrap().remaining.unwrap();
        assert!(read <= left, "{read:?} of {left:?}");
    }
    // From the copy alone.
    far_peek.delete(b"one").await.unwrap();
    assert!(chain.get(b"one").await.unwrap().is_some());
    chain.delete(b"one").await.unwrap();
    assert_eq!(remaining(&near_peek, b"one").await, None);
    let gone = chain.delete_many(&keys).await;
    assert_eq!(gone, [Ok(()), Ok(()), Ok(())]);
    for key in keys {
        assert!(remaining(&near_peek, key).await.is_none());
        assert!(remaining(&far_peek, key).await.is_none());
    }
}

#[tokio::test]
async fn copies_in_redis_live_no_longer_than_in_memcached() {
    let ((_near, near), (_far, far)) = (redis().await, memcached().await);
    let (near, far): (Peek, Peek) = (Arc::new(near), Arc::new(far));
    copies_live_no_longer_than_their_originals([near.clone(), near], [far.clone(), far]).await;
}

#[tokio::test]
async fn copies_in_memcached_live_no_longer_than_in_redis() {
    let ((_near, near), (_far, far)) = (memcached().await, redis().await);
    let (near, far): (Peek, Peek) = (Arc::new(near), Arc::new(far));
    copies_live_no_longer_than_their_originals([near.clone(), near], [far.clone(), far]).await;
}

#[tokio::test(start_paused = true)]
async fn the_time_that_the_far_tier_took_comes_off_a_copys_life() {
    let (near, far) = (Memory::new(), Faulty::new(Memory::new()));
    let chain = near.clone().then(far.clone());
    far.set(b"k", VALUE, LIFE).await.unwrap();
    far.plan(Plan::Always(Fault::Delay(60 * SECOND)));
    chain.get(b"k").await.unwrap().unwrap();
    let copied = near.get(b"k").await.unwrap().unwrap().remaining.unwrap();
    assert!(copied <= LIFE - 60 * SECOND && copied > LIFE - 70 * SECOND, "{copied:?}");
}

#[tokio::test]
async fn a_value_that_lives_for_ever_is_not_copied() {
    let ((_server, near), (server, far)) = (memcached().await, memcached().await);
    let near = Arc::new(near);
    let chain = Arc::clone(&near).then(far);
    assert_eq!(server.ask("set k 1 0 1\r\nx").await.unwrap(), "STORED");
    for _ in 0..2 {
        assert_eq!(chain.get(b"k").await.unwrap().unwrap().remaining, None);
        let [one] = &chain.get_many(&[b"k"]).await[..] else { panic!("one answer") };
        assert_eq!(one.as_ref().unwrap().as_ref().unwrap().bytes, "x");
        assert_eq!(near.get(b"k").await, Ok(None));
        let free = near.lease(b"k", LeaseToken::random(), SECOND, Claim::IfFree).await;
        assert!(matches!(free, Ok(Lease::Granted(None))), "its lease was given up");
        near.delete(b"k").await.unwrap();
    }
}

#[tokio::test]
async fn a_copy_that_is_kept_for_less_reports_the_life_of_its_original() {
    let clock = Clock::manual();
    let memory = || Memory::new().clock(clock.clone());
    let (near, far) = (memory(), memory());
    let chain = near.clone().then(far.clone()).near_for(10 * SECOND);
    let token = LeaseToken::random();
    let ways: [&str; 3] = ["set", "filled", "copied"];
    chain.set(b"set", VALUE, LIFE).await.unwrap();
    chain.lease(b"filled", token, LIFE, Claim::IfFree).await.unwrap();
    assert_eq!(chain.fill(b"filled", token, VALUE, LIFE).await, Ok(Fill::Stored));
    far.set(b"copied", VALUE, LIFE).await.unwrap();
    chain.get(b"copied").await.unwrap().unwrap();
    clock.advance(4 * SECOND);
    for way in ways {
        let raw = near.get(way.as_bytes()).await.unwrap().unwrap().remaining.unwrap();
        assert!(raw <= 6 * SECOND && raw > 5 * SECOND, "{way}: {raw:?}");
        // Behind the chain's back, to know that it is the copy that is read.
        far.delete(way.as_bytes()).await.unwrap();
        let found = chain.get(way.as_bytes()).await.unwrap().unwrap();
        assert_eq!(found.bytes, VALUE);
        let left = found.remaining.unwrap();
        assert!(left <= LIFE - 4 * SECOND && left > LIFE - 5 * SECOND, "{way}: {left:?}");
    }
    clock.advance(6 * SECOND);
    for way in ways {
        assert_eq!(chain.get(way.as_bytes()).await, Ok(None), "{way}");
    }
}

/// What a plain tier has stored near is read as it is; and what the chain stores there, by a plain tier.
#[tokio::test]
async fn whole_copies_can_be_read_without_the_chain() {
    let (near, far) = (Memory::new(), Memory::new());
    let chain = near.clone().then(far);
    chain.set(b"a", VALUE, LIFE).await.unwrap();
    assert_eq!(near.get(b"a").await.unwrap().unwrap().bytes, VALUE);
    near.set(b"b", VALUE, LIFE).await.unwrap();
    assert_eq!(chain.get(b"b").await.unwrap().unwrap().bytes, VALUE);
}

#[tokio::test]
async fn what_the_near_tier_does_not_keep_is_kept_far_and_nothing_old_is_near() {
    let (_server, near) = memcached().await;
    let near = Arc::new(near.max_value_bytes(1_000));
    let chain = Arc::clone(&near).then(Memory::new()).near_within(5 * SECOND);
    let long = Bytes::from(vec![7; 2_000]);
    for (bytes, life) in [(long, LIFE), (VALUE, SECOND)] {
        let token = LeaseToken::random();
        chain.set(b"k", Bytes::from_static(b"old"), LIFE).await.unwrap();
        assert!(near.get(b"k").await.unwrap().is_some());
        assert_eq!(chain.set(b"k", bytes.clone(), life).await, Ok(Fill::Stored));
        assert_eq!(near.get(b"k").await, Ok(None));
        assert_eq!(chain.get(b"k").await.unwrap().unwrap().bytes, bytes);
        chain.set(b"k", Bytes::from_static(b"old"), LIFE).await.unwrap();
        chain.lease(b"k", token, LIFE, Claim::ByForce).await.unwrap();
        assert_eq!(chain.fill(b"k", token, bytes.clone(), life).await, Ok(Fill::Stored));
        assert_eq!(chain.get(b"k").await.unwrap().unwrap().bytes, bytes);
    }
    assert_eq!(near.get(b"k").await, Ok(None));
}

#[tokio::test]
async fn a_copy_that_is_not_what_far_has_is_dropped_when_a_lease_shows_it() {
    let (near, far) = (Memory::new(), Memory::new());
    let chain = near.clone().then(far.clone());
    let other = Memory::new().then(far);
    chain.set(b"k", Bytes::from_static(b"stale"), LIFE).await.unwrap();
    other.set(b"k", VALUE, LIFE).await.unwrap();
    assert_eq!(chain.get(b"k").await.unwrap().unwrap().bytes, "stale", "the limit of coherence");
    let token = LeaseToken::random();
    match chain.lease(b"k", token, LIFE, Claim::IfFree).await.unwrap() {
        Lease::Granted(Some(found)) => assert_eq!(found.bytes, VALUE),
        other => panic!("{other:?}"),
    }
    chain.release(b"k", token).await.unwrap();
    assert_eq!(near.get(b"k").await, Ok(None));
    assert_eq!(chain.get(b"k").await.unwrap().unwrap().bytes, VALUE);
    let copy = near.get(b"k").await.unwrap().unwrap();
    assert_eq!(copy.bytes, VALUE);
    // And an equal one stays.
    chain.lease(b"k", token, LIFE, Claim::IfFree).await.unwrap();
    assert!(near.get(b"k").await.unwrap().is_some());
}

#[tokio::test]
async fn a_batch_reads_copies_and_originals_in_order_and_leaves_copies() {
    let (near, far) = (Memory::new(), Faulty::new(Memory::new()));
    let chain = near.clone().then(far.clone());
    let names: Vec<String> = (0..300).map(|number| format!("k{number}")).collect();
    for (number, name) in names.iter().enumerate() {
        let value = Bytes::from(name.clone());
        match number % 3 {
            0 => drop(near.set(name.as_bytes(), value, LIFE).await.unwrap()),
            1 => drop(far.set(name.as_bytes(), value, LIFE).await.unwrap()),
            _ => {}
        }
    }
    let mut keys: Vec<&[u8]> = names.iter().map(|name| name.as_bytes()).collect();
    keys.extend([&b"k1"[..], b"k2", b"k1", b"k0"]);
    for round in 0..2 {
        let found = chain.get_many(&keys).await;
        assert_eq!(found.len(), keys.len());
        for (key, found) in keys.iter().zip(found) {
            let number: usize = std::str::from_utf8(&key[1..]).unwrap().parse().unwrap();
            let found = found.unwrap().map(|found| found.bytes);
            assert_eq!(found.as_deref(), (number % 3 < 2).then_some(*key), "round {round}");
        }
        for (number, key) in keys.iter().enumerate().take(names.len()) {
            let copied = near.get(key).await.unwrap().is_some();
            assert_eq!(copied, number % 3 < 2, "{number}");
        }
    }
    assert_eq!(chain.get_many(&[]).await, []);
    // A failure far is the failure of the keys that are not near.
    far.plan(Plan::Always(Fault::Error(TierError::Timeout)));
    let found = chain.get_many(&[b"k0", b"absent", b"k1"]).await;
    assert!(matches!(found[..], [Ok(Some(_)), Err(TierError::Timeout), Ok(Some(_))]), "{found:?}");
    let deleted = chain.delete_many(&[b"k0", b"k1"]).await;
    assert!(deleted.iter().all(Result::is_err));
    assert_eq!(near.get(b"k0").await, Ok(None), "it was tried");
}

#[tokio::test(start_paused = true)]
async fn a_near_tier_that_hangs_costs_a_read_its_allowance_and_a_write_its_own_deadline() {
    let (near, far) = (Faulty::new(Memory::new()), Memory::new());
    let chain = near.clone().then(far.clone()).near_within(Duration::from_millis(70));
    far.set(b"k", VALUE, LIFE).await.unwrap();
    let took = async |outcome: &mut dyn FnMut(usize)| {
        let began = Instant::now();
        assert_eq!(chain.get(b"k").await.unwrap().unwrap().bytes, VALUE);
        outcome(near.operations() as usize);
        began.elapsed()
    };
    // At its look, at the lease of the copy, at the copy; never more than the one allowance.
    for before in 0..3 {
        near.inner().delete(b"k").await.unwrap();
        near.plan(Plan::Always(Fault::Delay(Duration::from_millis(10))));
        let started = near.operations();
        near.plan(Plan::After(before, Fault::Hang));
        let took = took(&mut |operations| {
            assert_eq!(operations as u64, started + before + 1, "it is asked no more");
        })
        .await;
        assert_eq!(took, Duration::from_millis(70), "after {before}");
        near.plan(Plan::Never);
    }
    near.plan(Plan::Always(Fault::Hang));
    let began = Instant::now();
    let many: Vec<Vec<u8>> = (0..500).map(|number| format!("k{number}").into_bytes()).collect();
    let keys: Vec<&[u8]> = many.iter().map(Vec::as_slice).collect();
    assert!(chain.get_many(&keys).await.iter().all(|found| *found == Ok(None)));
    assert_eq!(began.elapsed(), Duration::from_millis(70));
    // A lease looks near only when there is something to compare.
    let token = LeaseToken::random();
    let lease = chain.lease(b"none", token, LIFE, Claim::IfFree).await;
    assert_eq!((lease, began.elapsed()), (Ok(Lease::Granted(None)), Duration::from_millis(70)));
    let delete = tokio::time::timeout(LIFE, chain.delete(b"k")).await;
    assert!(delete.is_err(), "a delete waits for the near tier, which has its own deadline");
    assert_eq!(far.get(b"k").await, Ok(None));
}

/// Slow is not dead: what a near tier needs is counted over all of a read's steps, and not over the far tier's.
#[tokio::test(start_paused = true)]
async fn the_allowance_is_the_near_tiers_own() {
    let (near, far) = (Faulty::new(Memory::new()), Faulty::new(Memory::new()));
    let chain = near.clone().then(far.clone());
    far.set(b"k", VALUE, LIFE).await.unwrap();
    far.plan(Plan::Always(Fault::Delay(SECOND)));
    for (each, is_copied) in [(15, true), (20, false)] {
        near.inner().delete(b"k").await.unwrap();
        near.plan(Plan::Always(Fault::Delay(Duration::from_millis(each))));
        chain.get(b"k").await.unwrap().unwrap();
        let copy = near.inner().get(b"k").await.unwrap();
        assert_eq!(copy.is_some(), is_copied, "three steps of {each} ms");
    }
}

#[tokio::test(start_paused = true)]
async fn of_three_tiers_the_middle_one_answers_when_the_first_hangs() {
    let tier = || Faulty::new(Memory::new());
    let (first, middle, last) = (tier(), tier(), tier());
    let chain = first.clone().then(middle.clone()).then(last.clone());
    chain.set(b"k", VALUE, LIFE).await.unwrap();
    for tier in [first.inner(), middle.inner(), last.inner()] {
        assert!(tier.get(b"k").await.unwrap().is_some());
    }
    first.plan(Plan::Always(Fault::Hang));
    middle.plan(Plan::Always(Fault::Delay(Duration::from_millis(20))));
    let asked = last.operations();
    let began = Instant::now();
    assert!(chain.get(b"k").await.unwrap().is_some());
    assert_eq!((began.elapsed(), last.operations()), (Duration::from_millis(70), asked));
    // From the last into both.
    first.plan(Plan::Never);
    middle.plan(Plan::Never);
    for tier in [first.inner(), middle.inner()] {
        tier.delete(b"k").await.unwrap();
    }
    assert!(chain.get(b"k").await.unwrap().is_some());
    for tier in [first.inner(), middle.inner()] {
        assert!(tier.get(b"k").await.unwrap().is_some());
    }
    chain.delete(b"k").await.unwrap();
    for tier in [first.inner(), middle.inner(), last.inner()] {
        assert_eq!(tier.get(b"k").await, Ok(None));
    }
}

#[tokio::test]
async fn a_clear_tells_of_the_far_values_and_clears_both() {
    let (near, far) = (Memory::new(), Memory::new());
    let chain = near.clone().then(far.clone());
    for number in 0..1_234 {
        let key = format!("k{number}");
        chain.set(key.as_bytes(), VALUE, LIFE).await.unwrap();
        near.set(format!("near{number}").as_bytes(), VALUE, LIFE).await.unwrap();
    }
    let told = Mutex::new(Vec::new());
    chain.clear(b"", &|step| told.lock().unwrap().push(step)).await.unwrap();
    let told = told.into_inner().unwrap();
    assert_eq!(told.iter().sum::<u64>(), 1_234);
    assert!(told.len() > 5, "the near tier's steps are told too: {told:?}");
    assert_eq!((near.get(b"near7").await, far.get(b"k7").await), (Ok(None), Ok(None)));
    let (_server, memcached) = memcached().await;
    for chain in [
        Box::new(near.clone().then(Memcached::new("127.0.0.1:1").unwrap())) as Box<dyn RemoteTier>,
        Box::new(memcached.then(far.clone())),
    ] {
        assert!(!chain.abilities().clears);
        far.set(b"k", VALUE, LIFE).await.unwrap();
        let refused = chain.clear(b"", &|_| {}).await;
        assert!(matches!(refused, Err(TierError::Unsupported(_))), "{refused:?}");
        assert!(far.get(b"k").await.unwrap().is_some(), "nothing was touched");
    }
}

#[tokio::test]
async fn a_chain_is_checked_as_its_parts_are() {
    let chain = || Memory::new().then(Memory::new());
    assert_eq!(chain().check(), Ok(()));
    let memcached = || Memcached::new("127.0.0.1:1").unwrap();
    for (broken, words) in [
        (chain().near_within(Duration::ZERO).check(), "near_within"),
        (chain().near_for(Duration::ZERO).check(), "near_for"),
        (memcached().then(Memory::new()).near_for(SECOND).check(), "near_for"),
        (Memory::new().max_bytes(0).then(Memory::new()).check(), "max_bytes"),
        (Memory::new().then(Memory::new().max_bytes(0)).check(), "max_bytes"),
    ] {
        assert!(broken.unwrap_err().to_string().contains(words), "{words}");
    }
    let abilities = memcached().then(Memory::new()).abilities();
    assert_eq!((abilities.tick, abilities.shortest_life), (SECOND, Duration::ZERO));
    assert_eq!((abilities.longest_value, abilities.longest_life), (usize::MAX, Duration::MAX));
    let abilities = Memory::new().then(memcached()).abilities();
    assert_eq!((abilities.tick, abilities.shortest_life), (SECOND, 2 * SECOND));
    assert_eq!(abilities.longest_life, Duration::from_secs(30 * 24 * 60 * 60));
    // Each of the two can be down.
    for down in [0, 1] {
        let tiers = [Faulty::new(Memory::new()), Faulty::new(Memory::new())];
        tiers[down].plan(Plan::Always(Fault::Error(TierError::Timeout)));
        let [near, far] = tiers;
        assert_eq!(near.then(far).ping().await, Err(TierError::Timeout));
    }
}

/// What lives longer than the far tier keeps anything reports no more than the far tier would.
#[tokio::test]
async fn no_copy_lives_longer_than_the_far_tier_keeps_anything() {
    let (_server, far) = memcached().await;
    let longest = far.abilities().longest_life;
    let chain = Memory::new().then(far).near_within(5 * SECOND);
    chain.set(b"k", VALUE, 2 * longest).await.unwrap();
    let left = chain.get(b"k").await.unwrap().unwrap().remaining.unwrap();
    assert!(left <= longest && left > longest - LIFE, "{left:?}");
}

#[test]
fn outside_any_runtime_embedded_tiers_work_as_ever() {
    use futures_util::FutureExt;
    let (near, far) = (Memory::new(), Memory::new());
    let chain = near.clone().then(far.clone());
    let set = chain.set(b"k", VALUE, LIFE).now_or_never().unwrap();
    assert_eq!(set, Ok(Fill::Stored));
    near.delete(b"k").now_or_never().unwrap().unwrap();
    let found: Option<Found> = chain.get(b"k").now_or_never().unwrap().unwrap();
    assert_eq!(found.unwrap().bytes, VALUE);
    let many = chain.get_many(&[b"k", b"none"]).now_or_never().unwrap();
    assert!(many.iter().all(Result::is_ok));
    assert!(near.get(b"k").now_or_never().unwrap().unwrap().is_some());
    let redis = Redis::new("redis://127.0.0.1:1/").unwrap().then(far);
    let found = redis.get(b"k").now_or_never().unwrap();
    assert!(found.unwrap().is_some(), "the far tier needs no runtime");
}
