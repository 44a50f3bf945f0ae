//! Commands that execute after their caller gave up, and futures dropped at any moment.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use tiered_tiers::{
    Claim, Fill, HoldEnd, Lease, LeaseToken, TierError,
    testing::{LinkFault, Proxy},
};

use crate::{
    heals,
    servers::{Kind, each_server},
    wait,
};

each_server! {
    a_set_that_timed_out_does_not_resurrect_its_value,
    a_set_that_arrives_after_a_delete_stores_nothing,
    a_fill_that_arrives_after_a_delete_stores_nothing,
    a_renewal_that_arrives_after_a_delete_brings_no_lease_back,
    what_arrives_late_of_a_hold_grants_nothing,
    no_reply_goes_to_the_wrong_key_when_futures_are_dropped,
    a_storm_of_dropped_reads_mixes_nothing_up,
    an_operation_can_be_dropped_at_every_await,
}

const LIFE: Duration = Duration::from_secs(600);

/// A set begins. The server freezes at some moment of it, and the set's deadline passes. The server thaws
/// and executes what is in its sockets, late. A delete is acknowledged, perhaps before that, over another
/// connection. From then on the value may not come back.
async fn a_set_that_timed_out_does_not_resurrect_its_value(kind: Kind) {
    let server = kind.start().await;
    for round in 0..40_u64 {
        let timeout = Duration::from_millis(15);
        let tier = kind.tier(server.port(), timeout);
        let key = format!("k{round}");
        // Both connections are dialled and both know the scripts.
        for _ in 0..2 {
            let _ = tier.set(key.as_bytes(), Bytes::from_static(b"old"), LIFE).await;
        }
        let sets: Vec<_> = (0..2)
            .map(|_| {
                let (tier, key) = (Arc::clone(&tier), key.clone());
                tokio::spawn(async move {
                    let late = Bytes::from_static(b"late");
                    while tier.set(key.as_bytes(), late.clone(), LIFE).await.is_ok() {}
                })
            })
            .collect();
        tokio::time::sleep(Duration::from_micros(round % 10 * 200)).await;
        server.freeze().unwrap();
        wait(30).await;
        for set in sets {
            if round % 3 == 0 {
                set.abort();
            }
            let _ = set.await;
        }
        if round % 8 == 0 {
            // Long enough for the connections to be judged dead: abandoned, with requests in them.
            wait(1_100).await;
            let _ = tier.ping().await;
        }
        if round % 2 == 0 {
            drop(tier);
        }
        server.thaw().unwrap();
        let deleter = server.tier();
        heals(&*deleter).await;
        deleter.delete(key.as_bytes()).await.unwrap();
        for _ in 0..10 {
            assert_eq!(deleter.get(key.as_bytes()).await, Ok(None), "round {round}: it is back");
            wait(2).await;
        }
    }
}

/// The same with the order forced: a frozen server reads its old sockets first when it thaws, a slow
/// network need not. The requests of sets are held back on their way, wherever each of them is; the
/// delete goes past them and is acknowledged; then they arrive.
async fn a_set_that_arrives_after_a_delete_stores_nothing(kind: Kind) {
    let server = kind.start().await;
    let direct = server.tier();
    for round in 0..80_u64 {
        let proxy = Proxy::before(server.port()).await.unwrap();
        let tier = kind.tier(proxy.port(), Duration::from_millis(15));
        let key = format!("k{round}");
        for _ in 0..2 {
            let _ = tier.set(key.as_bytes(), Bytes::from_static(b"old"), LIFE).await;
        }
        let sets: Vec<_> = (0..2)
            .map(|_| {
                let (tier, key) = (Arc::clone(&tier), key.clone());
                tokio::spawn(async move {
                    // Only the first that gives up: another after it would drop what it left.
                    let late = Bytes::from_static(b"late");
                    while tier.set(key.as_bytes(), late.clone(), LIFE).await.is_ok() {}
                })
            })
            .collect();
        tokio::time::sleep(Duration::from_micros(round % 12 * 150)).await;
        proxy.inject(LinkFault::HoldRequests);
        wait(20).await;
        for set in sets {
            set.abort();
            let _ = set.await;
        }
        if round % 2 == 0 {
            drop(tier);
        }
        direct.delete(key.as_bytes()).await.unwrap();
        proxy.heal();
        for _ in 0..5 {
            wait(2).await;
            assert_eq!(direct.get(key.as_bytes()).await, Ok(None), "round {round}: it is back");
        }
    }
}

/// The same for a fill whose answer never came.
async fn a_fill_that_arrives_after_a_delete_stores_nothing(kind: Kind) {
    let server = kind.start().await;
    let direct = server.tier();
    // Now the server knows the script, and a late call by its digest is executed.
    direct.set(b"k", Bytes::new(), LIFE).await.unwrap();
    for round in 0..20_u64 {
        let proxy = Proxy::before(server.port()).await.unwrap();
        let tier = kind.tier(proxy.port(), Duration::from_millis(100));
        let (key, token) = (format!("k{round}"), LeaseToken::random());
        let lease = tier.lease(key.as_bytes(), token, LIFE, Claim::IfFree).await;
        assert_eq!(lease, Ok(Lease::Granted(None)));
        proxy.inject(LinkFault::HoldRequests);
        let fill = tier.fill(key.as_bytes(), token, Bytes::from_static(b"late"), LIFE).await;
        assert!(matches!(fill, Err(TierError::Timeout)), "{fill:?}");
        direct.delete(key.as_bytes()).await.unwrap();
        proxy.heal();
        wait(10).await;
        assert_eq!(direct.get(key.as_bytes()).await, Ok(None), "round {round}");
    }
}

/// And for a renewal.
async fn a_renewal_that_arrives_after_a_delete_brings_no_lease_back(kind: Kind) {
    let server = kind.start().await;
    let direct = server.tier();
    let warm = LeaseToken::random();
    direct.lease(b"k", warm, LIFE, Claim::IfFree).await.unwrap();
    direct.renew(b"k", warm, LIFE).await.unwrap();
    for round in 0..10_u64 {
        let proxy = Proxy::before(server.port()).await.unwrap();
        let tier = kind.tier(proxy.port(), Duration::from_millis(400));
        let (key, token) = (format!("k{round}"), LeaseToken::random());
        let lease = tier.lease(key.as_bytes(), token, LIFE, Claim::IfFree).await;
        assert_eq!(lease, Ok(Lease::Granted(None)));
        proxy.inject(LinkFault::HoldRequests);
        let renewed = tier.renew(key.as_bytes(), token, LIFE).await;
        assert_eq!(renewed, Err(TierError::Timeout));
        direct.delete(key.as_bytes()).await.unwrap();
        proxy.heal();
        wait(10).await;
        let next = direct.lease(key.as_bytes(), LeaseToken::random(), LIFE, Claim::IfFree).await;
        assert_eq!(next, Ok(Lease::Granted(None)), "round {round}");
        let fill = tier.fill(key.as_bytes(), token, Bytes::new(), LIFE).await;
        assert_ne!(fill, Ok(Fill::Stored), "round {round}");
    }
}

/// A hold, or the end of one, whose answer never came, and that is executed after others have gone on.
async fn what_arrives_late_of_a_hold_grants_nothing(kind: Kind) {
    let server = kind.start().await;
    let direct = server.tier();
    let warm = LeaseToken::random();
    direct.hold(b"k", warm, LIFE).await.unwrap();
    direct.end_hold(b"k", warm, None).await.unwrap();
    for round in 0..10_u64 {
        let proxy = Proxy::before(server.port()).await.unwrap();
        let tier = kind.tier(proxy.port(), Duration::from_millis(400));
        let (name, token, lease) =
            (format!("k{round}"), LeaseToken::random(), LeaseToken::random());
        let (key, is_end) = (name.as_bytes(), round % 2 == 0);
        if is_end {
            tier.hold(key, token, LIFE).await.unwrap();
        }
        proxy.inject(LinkFault::HoldRequests);
        let given_up = match is_end {
            true => tier.end_hold(key, token, Some((lease, LIFE))).await.map(drop),
            false => tier.hold(key, token, Duration::from_millis(300)).await,
        };
        assert_eq!(given_up, Err(TierError::Timeout));
        // The next writer comes and goes.
        let next = LeaseToken::random();
        direct.hold(key, next, LIFE).await.unwrap();
        proxy.heal();
        wait(10).await;
        let asked = direct.lease(key, LeaseToken::random(), LIFE, Claim::ByForce).await;
        assert_eq!(asked, Ok(Lease::OnHold), "round {round}: the next writer holds");
        assert_ne!(direct.end_hold(key, next, None).await, Ok(HoldEnd::Lost), "round {round}");
        let fill = tier.fill(key, lease, Bytes::new(), LIFE).await;
        assert_ne!(fill, Ok(Fill::Stored), "round {round}");
        assert_eq!(direct.get(key).await, Ok(None), "round {round}");
    }
}

async fn no_reply_goes_to_the_wrong_key_when_futures_are_dropped(kind: Kind) {
    let server = kind.start().await;
    let tier = server.tier();
    const KEYS: usize = 200;
    for key in 0..KEYS {
        let text = Bytes::from(format!("value of {key}"));
        tier.set(format!("k{key}").as_bytes(), text, LIFE).await.unwrap();
    }
    let tasks: Vec<_> = (0..16_usize)
        .map(|task| {
            let tier = Arc::clone(&tier);
            tokio::spawn(async move {
                let mut answered = 0;
                for round in 0..1_000_usize {
                    let key = (task * 31 + round * 7) % KEYS;
                    let name = format!("k{key}");
                    // One in four is waited for; the others are dropped after a few turns of the
                    // scheduler, which come at any moment of the request's way.
                    let turns = if round % 4 == 0 { usize::MAX } else { (round * 13 + task) % 50 };
                    let get = tokio::select! {
                        biased;
                        outcome = tier.get(name.as_bytes()) => Some(outcome),
                        () = scheduled(turns) => None,
                    };
                    if let Some(outcome) = get {
                        let found = outcome.unwrap().expect("the value is there");
                        assert_eq!(found.bytes, format!("value of {key}"), "another key's value");
                        answered += 1;
                    }
                }
                answered
            })
        })
        .collect();
    let mut answered = 0;
    for task in tasks {
        answered += task.await.unwrap();
    }
    assert!((4_000..16_000).contains(&answered), "{answered}: nothing was dropped, or everything");
    for key in 0..KEYS {
        let found = tier.get(format!("k{key}").as_bytes()).await.unwrap().unwrap();
        assert_eq!(found.bytes, format!("value of {key}"));
    }
}

/// Reads of distinct keys, half of them dropped at a random moment. `TIERED_STORM` says how many; a million
/// take a minute or two.
async fn a_storm_of_dropped_reads_mixes_nothing_up(kind: Kind) {
    const TASKS: usize = 64;
    let reads: usize =
        std::env::var("TIERED_STORM").map_or(30_000, |reads| reads.parse().expect("a number"));
    let server = kind.start().await;
    let tier = kind.tier(server.port(), Duration::from_secs(5));
    let tasks: Vec<_> = (0..TASKS)
        .map(|task| {
            let tier = Arc::clone(&tier);
            tokio::spawn(async move {
                let (mut answered, mut random) = (0, fastrand::Rng::with_seed(task as u64));
                for key in (task..reads).step_by(TASKS) {
                    let name = format!("k{key}");
                    let text = Bytes::from(format!("value of {key}"));
                    let set = tier.set(name.as_bytes(), text.clone(), LIFE).await;
                    assert_eq!(set, Ok(Fill::Stored));
                    let turns = if random.bool() { usize::MAX } else { random.usize(..2) };
                    let get = tokio::select! {
                        biased;
                        outcome = tier.get(name.as_bytes()) => Some(outcome),
                        () = scheduled(turns) => None,
                    };
                    if let Some(outcome) = get {
                        let found = outcome.unwrap().expect("the value is there");
                        assert_eq!(found.bytes, text, "another key's value");
                        answered += 1;
                    }
                }
                answered
            })
        })
        .collect();
    let mut answered = 0;
    for task in tasks {
        answered += task.await.unwrap();
    }
    let dropped = reads - answered;
    println!("{kind:?}: {reads} reads, {dropped} dropped");
    assert!(dropped > reads / 4 && answered >= reads / 3, "{dropped} dropped of {reads}");
}

/// So many turns of the scheduler.
pub(crate) async fn scheduled(turns: usize) {
    for _ in 0..turns {
        tokio::task::yield_now().await;
    }
}

/// Dropped after each of their polls in turn: every await in an operation is a place to stop.
async fn an_operation_can_be_dropped_at_every_await(kind: Kind) {
    use std::task::Poll;
    let server = kind.start().await;
    for polls in 0..12 {
        let tier = server.tier();
        let mut set = tier.set(b"k", Bytes::from_static(b"v"), LIFE);
        let mut left = polls;
        std::future::poll_fn(|context| {
            if left == 0 {
                return Poll::Ready(());
            }
            left -= 1;
            set.as_mut().poll(context).map(drop)
        })
        .await;
        drop(set);
        drop(tier.lease(b"k", LeaseToken::random(), LIFE, Claim::IfFree));
        tier.delete(b"k").await.unwrap();
        wait(5).await;
        assert_eq!(tier.get(b"k").await, Ok(None), "after {polls} polls");
        let token = LeaseToken::random();
        tier.lease(b"k", token, LIFE, Claim::ByForce).await.unwrap();
        assert_eq!(tier.fill(b"k", token, Bytes::new(), LIFE).await, Ok(Fill::Stored));
    }
}
