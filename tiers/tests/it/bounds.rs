//! Bounds under pressure: what a tier holds at most, and what it lets go first.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use bytes::Bytes;
use tiered_tiers::{
    Claim, Clock, DashMap, Fill, HoldEnd, Lease, LeaseToken, LocalTier, Memory, Moka, Quick,
    RemoteTier, TierError,
};

use crate::{entry, number};

const LIFE: Duration = Duration::from_secs(600);

#[test]
fn dashmap_and_quick_never_exceed_their_bound_under_concurrent_threads() {
    never_exceeds_its_bound(Arc::new(DashMap::new(100)), 100);
    never_exceeds_its_bound(Arc::new(Quick::new(100)), 100);
    // Of several shards, with a remainder.
    never_exceeds_its_bound(Arc::new(Quick::new(1_601)), 1_601);
}

#[test]
fn dashmap_and_quick_weigh_their_entries_and_refuse_what_cannot_fit() {
    weighs_its_entries(&DashMap::weighted(100));
    weighs_its_entries(&Quick::weighted(100));
}

#[test]
fn dashmap_and_quick_of_one_entry_hold_the_last() {
    holds_the_last(&DashMap::new(1));
    holds_the_last(&Quick::new(1));
}

#[test]
fn every_l1_keeps_what_is_used_when_a_scan_comes_by() {
    keeps_what_is_used(&DashMap::new(1_000));
    keeps_what_is_used(&Moka::new(1_000));
    keeps_what_is_used(&Quick::new(1_000));
}

/// `tier` is bounded by `bound` entries.
fn never_exceeds_its_bound(tier: Arc<dyn LocalTier>, bound: u64) {
    let done = Arc::new(AtomicBool::new(false));
    let watchers: Vec<_> = (0..2)
        .map(|_| {
            let (tier, done) = (Arc::clone(&tier), Arc::clone(&done));
            thread::spawn(move || {
                let mut most = 0;
                while !done.load(Ordering::Relaxed) {
                    most = most.max(tier.entries());
                }
                most
            })
        })
        .collect();
    let workers: Vec<_> = (0..4_u64)
        .map(|worker| {
            let tier = Arc::clone(&tier);
            thread::spawn(move || {
                let mut random = worker * 7_919 + 1;
                for round in 0..30_000_u64 {
                    random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                    let key = (random >> 33) % (4 * bound);
                    match random >> 60 {
                        0 => tier.remove(&key.to_be_bytes()),
                        1..6 => {
                            if let Some(found) = tier.get(&key.to_be_bytes()) {
                                assert_eq!(number(found), key, "another key's value");
                            }
                        }
                        _ => tier.insert(&key.to_be_bytes(), entry(key), 1, LIFE),
                    }
                    if round % 10_000 == 9_999 {
                        tier.clear();
                    }
                }
            })
        })
        .collect();
    for worker in workers {
        worker.join().unwrap();
    }
    done.store(true, Ordering::Relaxed);
    for watcher in watchers {
        let most = watcher.join().unwrap();
        assert!(most <= bound, "{most} entries");
    }
    assert!(tier.entries() <= bound);
    for key in 0..10 * bound {
        tier.insert(&key.to_be_bytes(), entry(key), 1, LIFE);
        assert!(tier.entries() <= bound);
    }
    assert_eq!(tier.entries(), bound, "the counts leaked: the tier does not fill up any more");
}

/// `tier` is bounded by a weight of 100.
fn weighs_its_entries(tier: &dyn LocalTier) {
    tier.insert(b"a", entry(1), 60, LIFE);
    tier.insert(b"b", entry(2), 60, LIFE);
    assert!(tier.get(b"a").is_none() && tier.get(b"b").is_some());
    tier.insert(b"b", entry(3), 101, LIFE);
    assert!(tier.get(b"b").is_none(), "the old entry survived one that could not be kept");
    tier.insert(b"c", entry(4), u64::MAX, LIFE);
    assert!(tier.get(b"c").is_none());
    for key in 0..200_u8 {
        tier.insert(&[key], entry(5), 0, LIFE);
    }
    assert_eq!(tier.entries(), 100, "an entry without weight takes room all the same");
    tier.insert(b"heavy", entry(6), 100, LIFE);
    assert_eq!((tier.entries(), tier.get(b"heavy").map(number)), (1, Some(6)));
}

/// `tier` is bounded by one entry.
fn holds_the_last(tier: &dyn LocalTier) {
    for key in 0..100_u8 {
        tier.insert(&[key % 3], entry(u64::from(key)), 1, LIFE);
        assert_eq!(tier.get(&[key % 3]).map(number), Some(u64::from(key)));
        assert_eq!(tier.entries(), 1);
    }
}

/// `tier` is bounded by a thousand entries.
fn keeps_what_is_used(tier: &dyn LocalTier) {
    for key in 0..100_u32 {
        tier.insert(&key.to_be_bytes(), entry(1), 1, LIFE);
    }
    for key in 100..20_000_u32 {
        tier.insert(&key.to_be_bytes(), entry(1), 1, LIFE);
        tier.get(&(key % 100).to_be_bytes());
    }
    let kept = (0..100_u32).filter(|key| tier.get(&key.to_be_bytes()).is_some()).count();
    assert!(kept > 90, "only {kept} of the 100 hot entries were kept");
}

#[test]
fn dashmap_lets_the_expired_go_first_and_then_the_least_recently_used() {
    let clock = Clock::manual();
    let tier = DashMap::new(4).with_clock(clock.clone());
    tier.insert(b"expired", entry(0), 1, Duration::from_secs(1));
    for (value, key) in [b"a", b"b", b"c"].iter().enumerate() {
        tier.insert(*key, entry(value as u64), 1, LIFE);
    }
    tier.get(b"expired");
    clock.advance(Duration::from_secs(2));
    assert!(tier.get(b"expired").is_none(), "an expired entry was returned");
    tier.insert(b"d", entry(3), 1, LIFE);
    assert!([b"a", b"b", b"c", b"d"].iter().all(|key| tier.get(*key).is_some()));
    for key in [b"a", b"c", b"d"] {
        tier.insert(b"tick", entry(9), 1, Duration::ZERO);
        tier.insert(key, entry(1), 1, LIFE);
    }
    let survivors = DashMap::new(3);
    for key in [b"a", b"b", b"c"] {
        survivors.insert(key, entry(1), 1, LIFE);
    }
    survivors.get(b"a");
    survivors.insert(b"d", entry(1), 1, LIFE);
    assert!(survivors.get(b"b").is_none(), "b was used longest ago");
    assert!([b"a", b"c", b"d"].iter().all(|key| survivors.get(*key).is_some()));
}

#[test]
fn moka_stays_near_its_bound() {
    let tier = Moka::new(100);
    for key in 0..10_000_u32 {
        tier.insert(&key.to_be_bytes(), entry(1), 1, LIFE);
    }
    assert!(tier.entries() <= 100, "{}", tier.entries());
    let tier = Moka::weighted(1_000);
    for key in 0..10_000_u32 {
        tier.insert(&key.to_be_bytes(), entry(1), 100, LIFE);
    }
    assert!(tier.entries() <= 10, "{}", tier.entries());
}

#[tokio::test]
async fn memory_stays_within_its_bytes_and_drops_the_soonest_to_expire() {
    let tier = Memory::new().max_bytes(10_000);
    let value = Bytes::from(vec![1; 1_000]);
    for (key, seconds) in [(b"a", 30), (b"b", 10), (b"c", 20)] {
        tier.set(key, value.clone(), Duration::from_secs(seconds)).await.unwrap();
    }
    for key in 0..6_u8 {
        tier.set(&[key], value.clone(), Duration::from_secs(100)).await.unwrap();
    }
    assert!(tier.get(b"b").await.unwrap().is_none(), "the soonest to expire was kept");
    assert!(tier.get(b"a").await.unwrap().is_some(), "more was dropped than was needed");
    let refused = tier.set(b"a", Bytes::from(vec![1; 10_001]), LIFE).await;
    assert!(matches!(refused, Err(TierError::Refused(_))), "{refused:?}");
    assert!(tier.get(b"a").await.unwrap().is_none());
    assert!(Memory::new().max_bytes(0).check().is_err());
    assert!(Memory::new().check().is_ok());
}

#[tokio::test]
async fn memory_counts_keys_and_leases() {
    let tier = Memory::new().max_bytes(100_000);
    for key in 0..2_000_u32 {
        let key = [key.to_be_bytes().as_slice(), &[0; 996]].concat();
        tier.lease(&key, LeaseToken::random(), LIFE, Claim::IfFree).await.unwrap();
        tier.set(&key, Bytes::new(), LIFE).await.unwrap();
    }
    let mut held = 0;
    for key in 0..2_000_u32 {
        let key = [key.to_be_bytes().as_slice(), &[0; 996]].concat();
        held += usize::from(tier.get(&key).await.unwrap().is_some());
    }
    assert!((50..=100).contains(&held), "{held} keys of 1,000 bytes in 100,000 bytes");
}

/// A lease is by far the first to expire; dropped first, a full store could never be filled again.
#[tokio::test]
async fn memory_when_full_still_takes_new_values() {
    let tier = Memory::new().max_bytes(5_000);
    let short = Duration::from_secs(1);
    for key in 0..50_u8 {
        // Two loads at a time: the lease of one must survive the other's.
        let (one, two) = ([key, 1], [key, 2]);
        let tokens = [LeaseToken::random(), LeaseToken::random()];
        for (key, token) in [one, two].iter().zip(tokens) {
            let granted = tier.lease(key, token, short, Claim::IfFree).await;
            assert!(matches!(granted, Ok(Lease::Granted(None))), "{granted:?}");
        }
        for (key, token) in [one, two].iter().zip(tokens) {
            let value = Bytes::from(vec![7; 1_000]);
            assert_eq!(tier.fill(key, token, value, LIFE).await, Ok(Fill::Stored));
            assert!(tier.get(key).await.unwrap().is_some());
        }
    }
}

/// Holds are the last to go, like leases; and what has no room by itself is refused, not half kept.
#[tokio::test]
async fn memory_when_full_keeps_holds_and_refuses_what_has_no_room() {
    let tier = Memory::new().max_bytes(5_000);
    let holds = [LeaseToken::random(), LeaseToken::random()];
    for hold in holds {
        tier.hold(b"held", hold, Duration::from_secs(10)).await.unwrap();
    }
    for key in 0..50_u8 {
        tier.set(&[key], Bytes::from(vec![7; 1_000]), LIFE).await.unwrap();
    }
    let lease = tier.lease(b"held", LeaseToken::random(), LIFE, Claim::ByForce).await;
    assert_eq!(lease, Ok(Lease::OnHold));
    for hold in holds {
        assert_eq!(tier.end_hold(b"held", hold, None).await, Ok(HoldEnd::Overlapped));
    }
    let (long, token) = ([7; 5_000], LeaseToken::random());
    let lease = tier.lease(&long, token, LIFE, Claim::IfFree).await;
    assert!(matches!(lease, Err(TierError::Refused(_))), "{lease:?}");
    let hold = tier.hold(&long, token, LIFE).await;
    assert!(matches!(hold, Err(TierError::Refused(_))), "{hold:?}");
    assert_eq!(tier.end_hold(&long, token, None).await, Ok(HoldEnd::Lost));
    // Holds of many keys: the first to end goes first, and its end says so.
    let (first, last) = (LeaseToken::random(), LeaseToken::random());
    tier.hold(b"first", first, Duration::from_secs(10)).await.unwrap();
    for key in 0..100_u8 {
        tier.hold(&[b'h', key], last, LIFE).await.unwrap();
    }
    assert_eq!(tier.end_hold(b"first", first, Some((last, LIFE))).await, Ok(HoldEnd::Lost));
    assert_eq!(tier.end_hold(&[b'h', 99], last, None).await, Ok(HoldEnd::Alone));
}

#[tokio::test]
async fn memory_goes_by_its_clock_and_shares_its_store() {
    let clock = Clock::manual();
    let tier = Memory::new().clock(clock.clone());
    let twin = tier.clone();
    tier.set(b"k", Bytes::from_static(b"v"), Duration::from_secs(10)).await.unwrap();
    clock.advance(Duration::from_secs(4));
    assert_eq!(twin.get(b"k").await.unwrap().unwrap().remaining, Some(Duration::from_secs(6)));
    let token = LeaseToken::random();
    tier.lease(b"k", token, Duration::from_secs(3), Claim::IfFree).await.unwrap();
    clock.advance(Duration::from_secs(3));
    assert_eq!(twin.fill(b"k", token, Bytes::new(), LIFE).await, Ok(Fill::Refused));
    clock.advance(Duration::from_secs(3));
    assert_eq!(twin.get(b"k").await, Ok(None));
}

#[test]
fn memory_needs_no_runtime() {
    use std::{future::Future, pin::pin, task};
    let tier = Memory::new();
    let mut set = pin!(tier.set(b"k", Bytes::new(), LIFE));
    let mut context = task::Context::from_waker(task::Waker::noop());
    assert!(matches!(set.as_mut().poll(&mut context), task::Poll::Ready(Ok(Fill::Stored))));
}
