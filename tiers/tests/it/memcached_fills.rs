//! Fills on memcached, whose fence is made of numbers, connections and tokens: each of them lost.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use tiered_tiers::{
    Claim, Fill, Lease, LeaseToken, Memcached, RemoteTier, testing::MemcachedServer,
};

use crate::{stepper::Stepper, wait};

const LIFE: Duration = Duration::from_secs(600);
const OLD: Bytes = Bytes::from_static(b"old");
const NEW: Bytes = Bytes::from_static(b"new");

async fn serving() -> (MemcachedServer, Arc<Memcached>) {
    let server = MemcachedServer::start().await.unwrap();
    let tier = Memcached::new(&server.address()).unwrap();
    (server, Arc::new(tier))
}

/// A lease beside an old value.
async fn leased(tier: &Memcached, claim: Claim) -> LeaseToken {
    tier.set(b"k", OLD, LIFE).await.unwrap();
    let token = LeaseToken::random();
    let lease = tier.lease(b"k", token, LIFE, claim).await.unwrap();
    assert!(matches!(lease, Lease::Granted(Some(_))), "{lease:?}");
    token
}

/// A read that is dropped after its first poll, and closes the only connection.
async fn drop_the_connection(tier: &Memcached) {
    tokio::select! { biased; _ = tier.get(b"other") => {}, () = async {} => {} }
}

async fn stored(tier: &Memcached) -> Option<Bytes> {
    tier.get(b"k").await.unwrap().map(|found| found.bytes)
}

#[tokio::test]
async fn a_fill_whose_connection_is_busy_is_stored() {
    let (_server, tier) = serving().await;
    for claim in [Claim::IfFree, Claim::ByForce] {
        let token = leased(&tier, claim).await;
        let (_, fill) = tokio::join!(tier.get(b"other"), tier.fill(b"k", token, NEW, LIFE));
        assert_eq!(fill, Ok(Fill::Stored), "{claim:?}");
        assert_eq!(stored(&tier).await, Some(NEW));
    }
}

#[tokio::test]
async fn a_fill_whose_connection_is_closed_is_stored() {
    let (server, tier) = serving().await;
    for claim in [Claim::IfFree, Claim::ByForce] {
        let token = leased(&tier, claim).await;
        drop_the_connection(&tier).await;
        assert_eq!(tier.fill(b"k", token, NEW, LIFE).await, Ok(Fill::Stored), "{claim:?}");
        assert_eq!(stored(&tier).await, Some(NEW));
        assert_eq!(server.ask("mg {k}:l").await.unwrap(), "EN", "the lease is given up");
    }
}

#[tokio::test]
async fn a_lease_whose_connection_is_closed_is_given_up() {
    let (server, tier) = serving().await;
    for way in 0..2 {
        let token = leased(&tier, Claim::IfFree).await;
        drop_the_connection(&tier).await;
        match way {
            0 => tier.release(b"k", token).await.unwrap(),
            _ => {
                let fill = tier.fill(b"k", token, NEW, Duration::from_millis(1)).await;
                assert_eq!(fill, Ok(Fill::Skipped));
            }
        }
        assert_eq!(server.ask("mg {k}:l").await.unwrap(), "EN");
    }
}

/// Each way to be overtaken, when no connection from before the lease is left.
#[tokio::test]
async fn a_fill_whose_connection_is_closed_is_still_fenced() {
    let (_server, tier) = serving().await;
    for way in 0..4 {
        let token = leased(&tier, Claim::IfFree).await;
        let left = match way {
            0 => {
                tier.delete(b"k").await.unwrap();
                None
            }
            1 => {
                tier.set(b"k", Bytes::from_static(b"set"), LIFE).await.unwrap();
                Some(Bytes::from_static(b"set"))
            }
            2 => {
                let forced = LeaseToken::random();
                tier.lease(b"k", forced, LIFE, Claim::ByForce).await.unwrap();
                tier.fill(b"k", forced, Bytes::from_static(b"forced"), LIFE).await.unwrap();
                Some(Bytes::from_static(b"forced"))
            }
            _ => {
                let forced = LeaseToken::random();
                tier.lease(b"k", forced, LIFE, Claim::ByForce).await.unwrap();
                Some(OLD)
            }
        };
        drop_the_connection(&tier).await;
        assert_eq!(tier.fill(b"k", token, NEW, LIFE).await, Ok(Fill::Refused), "{way}");
        assert_eq!(stored(&tier).await, left, "{way}");
        tier.delete(b"k").await.unwrap();
    }
}

/// The server has evicted the lease, and the connection is gone: nothing is left that could fence, but nobody
/// has overtaken it either. A load by force would leave the old value if it were told so.
#[tokio::test]
async fn a_fill_that_nothing_can_fence_is_an_error_and_not_overtaken() {
    let (server, tier) = serving().await;
    let token = leased(&tier, Claim::ByForce).await;
    assert_eq!(server.ask("md {k}:l").await.unwrap(), "HD");
    drop_the_connection(&tier).await;
    assert!(tier.fill(b"k", token, NEW, LIFE).await.is_err());
    assert_eq!(stored(&tier).await, Some(OLD));
    // With its connection the number is enough.
    let token = leased(&tier, Claim::ByForce).await;
    assert_eq!(server.ask("md {k}:l").await.unwrap(), "HD");
    assert_eq!(tier.fill(b"k", token, NEW, LIFE).await, Ok(Fill::Stored));
}

/// Callers with short deadlines drop reads all the time, and with them their connections.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fills_among_dropped_reads_are_stored() {
    let (_server, tier) = serving().await;
    let (stop, dropped) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let readers: Vec<_> = (0..4)
        .map(|_| {
            let (tier, stop, dropped) =
                (Arc::clone(&tier), Arc::clone(&stop), Arc::clone(&dropped));
            tokio::spawn(async move {
                while !stop.load(Ordering::SeqCst) {
                    tokio::select! {
                        biased;
                        _ = tier.get(b"x") => {}
                        () = tokio::task::yield_now() => {
                            dropped.fetch_add(1, Ordering::SeqCst);
                        }
                    }
                    for _ in 0..3 {
                        let _ = tier.get(b"x").await;
                    }
                }
            })
        })
        .collect();
    for number in 0..200 {
        let (key, token) = (format!("k{number}"), LeaseToken::random());
        tier.lease(key.as_bytes(), token, LIFE, Claim::IfFree).await.unwrap();
        let before = dropped.load(Ordering::SeqCst);
        while dropped.load(Ordering::SeqCst) < before + 20 {
            tokio::task::yield_now().await;
        }
        let fill = tier.fill(key.as_bytes(), token, NEW, LIFE).await;
        assert_eq!(fill, Ok(Fill::Stored), "{number}");
    }
    stop.store(true, Ordering::SeqCst);
    for reader in readers {
        reader.await.unwrap();
    }
}

/// Its old value's life ends while the load runs; somebody else may have asked for the lease since.
#[tokio::test]
async fn a_fill_whose_old_value_expired_meanwhile_is_stored() {
    let (_server, tier) = serving().await;
    for (is_asked_for, is_closed) in [(false, false), (true, false), (true, true)] {
        tier.set(b"k", OLD, Duration::from_secs(2)).await.unwrap();
        let token = LeaseToken::random();
        let lease = tier.lease(b"k", token, LIFE, Claim::IfFree).await.unwrap();
        assert!(matches!(lease, Lease::Granted(Some(_))), "{lease:?}");
        let start = Instant::now();
        while stored(&tier).await.is_some() {
            assert!(start.elapsed() < Duration::from_secs(20), "it does not expire");
            wait(50).await;
        }
        if is_asked_for {
            let held = tier.lease(b"k", LeaseToken::random(), LIFE, Claim::IfFree).await;
            assert_eq!(held, Ok(Lease::Held(None)));
        }
        if is_closed {
            drop_the_connection(&tier).await;
        }
        assert_eq!(tier.fill(b"k", token, NEW, LIFE).await, Ok(Fill::Stored));
        assert_eq!(stored(&tier).await, Some(NEW));
    }
}

/// It expired, and then the key was deleted, or set: late is late.
#[tokio::test]
async fn a_fill_whose_old_value_expired_is_still_fenced() {
    let (_server, tier) = serving().await;
    for is_set in [false, true] {
        let token = leased(&tier, Claim::IfFree).await;
        let left = is_set.then_some(OLD);
        tier.delete(b"k").await.unwrap();
        if is_set {
            tier.set(b"k", OLD, LIFE).await.unwrap();
        }
        // Whoever asks now makes a stub, or reads the number.
        let other = LeaseToken::random();
        tier.lease(b"k", other, LIFE, Claim::IfFree).await.unwrap();
        assert_eq!(tier.fill(b"k", token, NEW, LIFE).await, Ok(Fill::Refused));
        assert_eq!(stored(&tier).await, left);
    }
}

#[derive(Clone, Copy, Debug)]
struct Asked {
    token: LeaseToken,
    granted: bool,
}

/// Two processes ask for the lease of a key at once.
async fn both_ask(tiers: &[Arc<Memcached>; 2], key: &str, claims: [Claim; 2]) -> [Asked; 2] {
    let ask = |tier: &Arc<Memcached>, claim| {
        let (tier, key, token) = (Arc::clone(tier), key.to_owned(), LeaseToken::random());
        tokio::spawn(async move {
            let lease = tier.lease(key.as_bytes(), token, LIFE, claim).await.unwrap();
            Asked { token, granted: matches!(lease, Lease::Granted(_)) }
        })
    };
    let (one, two) = (ask(&tiers[0], claims[0]), ask(&tiers[1], claims[1]));
    [one.await.unwrap(), two.await.unwrap()]
}

/// Of a lease by force and one that was free, granted at once, the one by force stands.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_free_lease_and_one_by_force_are_not_both_good() {
    let (server, one) = serving().await;
    let two = Arc::new(Memcached::new(&server.address()).unwrap());
    let (tiers, mut both) = ([one, two], 0);
    for round in 0..2_000 {
        let key = format!("k{round}");
        let [free, forced] = both_ask(&tiers, &key, [Claim::IfFree, Claim::ByForce]).await;
        assert!(forced.granted);
        both += usize::from(free.granted);
        let fill = tiers[0].fill(key.as_bytes(), free.token, OLD, LIFE).await;
        assert_eq!(fill, Ok(Fill::Refused), "round {round}: {free:?}");
        let fill = tiers[1].fill(key.as_bytes(), forced.token, NEW, LIFE).await;
        assert_eq!(fill, Ok(Fill::Stored), "round {round}");
    }
    assert!(both > 0, "never at once");
}

/// Of two by force one stands, and can fill whatever the other has done to the number.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_leases_by_force_one_is_good() {
    let (server, one) = serving().await;
    let two = Arc::new(Memcached::new(&server.address()).unwrap());
    let tiers = [one, two];
    for round in 0..2_000 {
        let key = format!("k{round}");
        tiers[0].set(key.as_bytes(), OLD, LIFE).await.unwrap();
        let asked = both_ask(&tiers, &key, [Claim::ByForce; 2]).await;
        let mut stored = 0;
        for (tier, asked) in tiers.iter().zip(asked) {
            let fill = tier.fill(key.as_bytes(), asked.token, NEW, LIFE).await.unwrap();
            assert!(asked.granted || fill == Fill::Refused);
            stored += usize::from(fill == Fill::Stored);
        }
        assert_eq!(stored, 1, "round {round}: {asked:?}");
    }
}

/// A tier whose commands are let through one by one.
async fn stepped(server: &MemcachedServer) -> (Stepper, Arc<Memcached>) {
    let stepper = Stepper::before(server.port()).await;
    let tier = Memcached::new(&stepper.address()).unwrap();
    (stepper, Arc::new(tier.response_timeout(Duration::from_secs(20))))
}

/// 1. The fill has read the number, its token not yet. 2. A delete is acknowledged. 3. The fill goes on.
#[tokio::test]
async fn a_delete_between_a_fills_number_and_its_token_refuses_it() {
    let (server, direct) = serving().await;
    for commands in 1..=2 {
        let (stepper, tier) = stepped(&server).await;
        let token = leased(&tier, Claim::IfFree).await;
        drop_the_connection(&tier).await;
        stepper.is_left().await;
        stepper.hold_after(commands);
        let (fill, ()) = tokio::join!(tier.fill(b"k", token, NEW, LIFE), async {
            stepper.is_holding().await;
            direct.delete(b"k").await.unwrap();
            stepper.let_go();
        });
        assert_ne!(fill, Ok(Fill::Stored), "after {commands} commands");
        assert_eq!(stored(&direct).await, None, "after {commands} commands");
    }
}

/// 1. A delete has executed one of its two commands. 2. A fill from before it comes. 3. The delete is
/// acknowledged.
#[tokio::test]
async fn a_fill_in_the_middle_of_a_delete_does_not_outlive_it() {
    let (server, tier) = serving().await;
    for is_closed in [false, true] {
        let (stepper, deleter) = stepped(&server).await;
        let token = leased(&tier, Claim::IfFree).await;
        if is_closed {
            drop_the_connection(&tier).await;
        }
        stepper.hold_after(1);
        let (deleted, _) = tokio::join!(deleter.delete(b"k"), async {
            stepper.is_holding().await;
            let _ = tier.fill(b"k", token, NEW, LIFE).await;
            stepper.let_go();
        });
        assert_eq!(deleted, Ok(()));
        assert_eq!(stored(&tier).await, None, "closed: {is_closed}");
    }
}

/// The same with a set, after each of its commands.
#[tokio::test]
async fn a_fill_in_the_middle_of_a_set_does_not_outlive_it() {
    let (server, tier) = serving().await;
    for (commands, is_closed) in (1..=12).flat_map(|n| [(n, false), (n, true)]) {
        let (stepper, setter) = stepped(&server).await;
        let token = leased(&tier, Claim::IfFree).await;
        if is_closed {
            drop_the_connection(&tier).await;
        }
        stepper.hold_after(commands);
        let (set, _) = tokio::join!(setter.set(b"k", Bytes::from_static(b"set"), LIFE), async {
            stepper.is_holding().await;
            let _ = tier.fill(b"k", token, NEW, LIFE).await;
            stepper.let_go();
        });
        assert_eq!(set, Ok(Fill::Stored));
        let left = stored(&tier).await;
        assert_eq!(left.as_deref(), Some(&b"set"[..]), "{commands}, closed: {is_closed}");
    }
}

/// 1. A lease by force has executed some of its commands. 2. Another asks, free or by force, and fills.
/// 3. The first goes on, and fills, if its token stands.
#[tokio::test]
async fn of_leases_that_come_between_each_other_the_last_is_good() {
    let (server, tier) = serving().await;
    for (commands, claim) in (1..=3).flat_map(|n| [(n, Claim::IfFree), (n, Claim::ByForce)]) {
        let (stepper, forcer) = stepped(&server).await;
        tier.set(b"k", OLD, LIFE).await.unwrap();
        let (forced, other) = (LeaseToken::random(), LeaseToken::random());
        stepper.hold_after(commands);
        let (lease, granted) =
            tokio::join!(forcer.lease(b"k", forced, LIFE, Claim::ByForce), async {
                stepper.is_holding().await;
                let lease = tier.lease(b"k", other, LIFE, claim).await.unwrap();
                stepper.let_go();
                matches!(lease, Lease::Granted(_))
            });
        let is_forced = matches!(lease, Ok(Lease::Granted(_)));
        assert!(is_forced != granted, "{commands}, {claim:?}: {is_forced} and {granted}");
        let fill = tier.fill(b"k", other, NEW, LIFE).await.unwrap();
        assert_eq!(fill == Fill::Stored, granted, "{commands}, {claim:?}: {fill:?}");
        let fill = forcer.fill(b"k", forced, NEW, LIFE).await.unwrap();
        assert_eq!(fill == Fill::Stored, is_forced, "{commands}, {claim:?}: {fill:?}");
        tier.delete(b"k").await.unwrap();
    }
}

/// As above, on the connection of the lease, when the old value has expired: the fill's own pipeline looks for
/// number and token.
#[tokio::test]
async fn a_delete_in_the_middle_of_a_fill_whose_old_value_expired_is_final() {
    let (server, direct) = serving().await;
    for commands in 1..=3 {
        let (stepper, tier) = stepped(&server).await;
        let token = leased(&tier, Claim::IfFree).await;
        assert_eq!(server.ask("md k").await.unwrap(), "HD", "it expires");
        stepper.hold_after(commands);
        let (fill, ()) = tokio::join!(tier.fill(b"k", token, NEW, LIFE), async {
            stepper.is_holding().await;
            direct.delete(b"k").await.unwrap();
            stepper.let_go();
        });
        assert_ne!(fill, Ok(Fill::Stored), "after {commands} commands");
        assert_eq!(stored(&direct).await, None, "after {commands} commands");
    }
}
