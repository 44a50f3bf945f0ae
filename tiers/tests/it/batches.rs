//! Several keys at once on memcached: pipelines, their shares, and what goes wrong in the middle of one.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use tiered_tiers::{
    Claim, Fill, Found, Lease, LeaseToken, Memcached, RemoteTier, TierError,
    testing::{LinkFault, MemcachedServer, Proxy},
};

use crate::{heals, late::scheduled, servers::stat, timed, wait};

const LIFE: Duration = Duration::from_secs(600);

fn names(count: usize) -> Vec<String> {
    (0..count).map(|number| format!("k{number}")).collect()
}

fn keys(names: &[String]) -> Vec<&[u8]> {
    names.iter().map(|name| name.as_bytes()).collect()
}

fn entries<'a>(keys: &[&'a [u8]]) -> Vec<(&'a [u8], Bytes, Duration)> {
    keys.iter().map(|key| (*key, Bytes::copy_from_slice(key), LIFE)).collect()
}

/// Whether it is the key's own value.
fn is_own(key: &[u8], found: &Result<Option<Found>, TierError>) -> bool {
    matches!(found, Ok(Some(found)) if found.bytes == key)
}

async fn several(count: usize) -> (Vec<MemcachedServer>, Memcached) {
    let mut servers = Vec::new();
    for _ in 0..count {
        servers.push(MemcachedServer::start().await.unwrap());
    }
    let addresses: Vec<String> = servers.iter().map(MemcachedServer::address).collect();
    let tier = Memcached::new(&addresses.join(",")).unwrap();
    (servers, tier)
}

#[tokio::test]
async fn a_batch_is_a_pipeline_to_each_server() {
    let (servers, tier) = several(3).await;
    let names = names(2_000);
    let keys = keys(&names);
    assert!(tier.set_many(&entries(&keys)).await.iter().all(|set| *set == Ok(Fill::Stored)));
    let found = tier.get_many(&keys).await;
    assert!(keys.iter().zip(&found).all(|(key, found)| is_own(key, found)));
    assert!(tier.delete_many(&keys).await.iter().all(Result::is_ok));
    assert!(tier.get_many(&keys).await.iter().all(|found| *found == Ok(None)));
    // One after the other on one connection: it is free between the chunks, and no more are dialled.
    for server in &servers {
        let dialled = stat(server, "total_connections").await;
        assert!(dialled < 10, "{dialled} connections for three batches");
    }
}

#[tokio::test]
async fn a_dead_server_fails_its_own_keys_of_a_batch() {
    let (mut servers, tier) = several(2).await;
    let names = names(1_000);
    let keys = keys(&names);
    tier.set_many(&entries(&keys)).await;
    servers[1].kill().unwrap();
    let share = |failed: Vec<bool>| {
        let lost = failed.iter().filter(|failed| **failed).count();
        assert!((350..650).contains(&lost), "{lost} of 1000 keys");
        failed
    };
    let (found, took) = timed(tier.get_many(&keys)).await;
    assert!(took < Duration::from_millis(1_200), "{took:?}");
    let lost = share(found.iter().map(Result::is_err).collect());
    for ((key, found), lost) in keys.iter().zip(&found).zip(&lost) {
        assert!(*lost || is_own(key, found));
    }
    let set = tier.set_many(&entries(&keys)).await;
    assert_eq!(share(set.iter().map(Result::is_err).collect()), lost);
    let deleted = tier.delete_many(&keys).await;
    assert_eq!(share(deleted.iter().map(Result::is_err).collect()), lost);
    servers[1].restart().await.unwrap();
    heals(&tier).await;
    assert!(tier.get_many(&keys).await.iter().all(|found| *found == Ok(None)));
}

#[tokio::test]
async fn a_frozen_server_costs_a_batch_one_deadline() {
    let (servers, tier) = several(2).await;
    let names = names(3_000);
    let keys = keys(&names);
    tier.set_many(&entries(&keys)).await;
    servers[0].freeze().unwrap();
    // One of its threads may be at work still.
    wait(20).await;
    let (found, took) = timed(tier.get_many(&keys)).await;
    assert!(took < Duration::from_millis(900), "{took:?}");
    for (key, found) in keys.iter().zip(&found) {
        assert!(is_own(key, found) || *found == Err(TierError::Timeout), "{found:?}");
    }
    servers[0].thaw().unwrap();
    heals(&tier).await;
    let found = tier.get_many(&keys).await;
    assert!(keys.iter().zip(&found).all(|(key, found)| is_own(key, found)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn batches_dropped_midway_mix_nothing_up() {
    let (_servers, tier) = several(2).await;
    let (tier, names) = (Arc::new(tier.response_timeout(Duration::from_secs(5))), names(600));
    tier.set_many(&entries(&keys(&names))).await;
    let tasks: Vec<_> = (0..8_u64)
        .map(|task| {
            let (tier, names) = (Arc::clone(&tier), names.clone());
            tokio::spawn(async move {
                let (keys, mut random) = (keys(&names), fastrand::Rng::with_seed(task));
                let (mut whole, mut dropped) = (0, 0);
                for _ in 0..60 {
                    let from = random.usize(..300);
                    let some = &keys[from..from + random.usize(1..300)];
                    // Half of them are dropped after a few turns of the scheduler.
                    let turns = if random.bool() { usize::MAX } else { random.usize(..4) };
                    if random.u8(..4) == 0 {
                        let entries = entries(some);
                        tokio::select! {
                            biased;
                            _ = tier.set_many(&entries) => {}
                            () = scheduled(turns) => {}
                        }
                        continue;
                    }
                    let found = tokio::select! {
                        biased;
                        found = tier.get_many(some) => found,
                        () = scheduled(turns) => {
                            dropped += 1;
                            continue;
                        }
                    };
                    for (key, found) in some.iter().zip(&found) {
                        // Gone for a moment while somebody else sets it.
                        let is_right = is_own(key, found) || *found == Ok(None);
                        assert!(is_right, "{key:?}: {found:?}");
                    }
                    whole += 1;
                }
                (whole, dropped)
            })
        })
        .collect();
    let (mut whole, mut dropped) = (0, 0);
    for task in tasks {
        let (more_whole, more_dropped) = task.await.unwrap();
        whole += more_whole;
        dropped += more_dropped;
    }
    assert!(whole > 50 && dropped > 20, "{whole} whole, {dropped} dropped");
    let keys = keys(&names);
    assert!(tier.set_many(&entries(&keys)).await.iter().all(|set| *set == Ok(Fill::Stored)));
    let found = tier.get_many(&keys).await;
    assert!(keys.iter().zip(&found).all(|(key, found)| is_own(key, found)));
}

/// A batch of values is on its way when its caller gives up; it arrives after a delete was acknowledged.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_that_arrives_after_a_delete_stores_nothing() {
    let (servers, direct) = several(1).await;
    let names = names(20);
    let keys = keys(&names);
    for round in 0..40_u64 {
        let proxy = Proxy::before(servers[0].port()).await.unwrap();
        let tier = Memcached::new(&proxy.address()).unwrap();
        let tier = Arc::new(tier.response_timeout(Duration::from_millis(15)));
        tier.set_many(&entries(&keys)).await;
        let setting = {
            let (tier, names) = (Arc::clone(&tier), names.clone());
            tokio::spawn(async move {
                let keys = self::keys(&names);
                while tier.set_many(&entries(&keys)).await.iter().all(Result::is_ok) {}
            })
        };
        tokio::time::sleep(Duration::from_micros(round % 12 * 150)).await;
        proxy.inject(LinkFault::HoldRequests);
        wait(20).await;
        setting.abort();
        let _ = setting.await;
        assert!(direct.delete_many(&keys).await.iter().all(Result::is_ok));
        proxy.heal();
        for _ in 0..5 {
            wait(2).await;
            let found = direct.get_many(&keys).await;
            assert!(found.iter().all(|found| *found == Ok(None)), "round {round}: {found:?}");
        }
    }
}

#[tokio::test]
async fn one_value_that_the_server_finds_too_large_fails_no_other() {
    let server = MemcachedServer::start_with(&["-I", "512k"]).await.unwrap();
    let tier = Memcached::new(&server.address()).unwrap();
    let (small, large) = (Bytes::from_static(b"v"), Bytes::from(vec![7; 600_000]));
    let names = names(9);
    let keys = keys(&names);
    tier.set_many(&entries(&keys)).await;
    let entries: Vec<_> = keys
        .iter()
        .enumerate()
        .map(|(number, key)| (*key, if number == 4 { large.clone() } else { small.clone() }, LIFE))
        .collect();
    let set = tier.set_many(&entries).await;
    for (number, (set, found)) in set.iter().zip(tier.get_many(&keys).await).enumerate() {
        let found = found.unwrap().map(|found| found.bytes);
        let expected =
            if number == 4 { (Fill::Skipped, None) } else { (Fill::Stored, Some(&small)) };
        assert_eq!((set.clone().unwrap(), found.as_ref()), expected, "{number}");
    }
}

/// What this tier does not keep takes the old value away, among others that it keeps.
#[tokio::test]
async fn unkept_values_of_a_batch_are_skipped_in_their_places() {
    let (_servers, tier) = several(2).await;
    let tier = tier.max_value_bytes(1_000);
    let names = names(30);
    let keys = keys(&names);
    tier.set_many(&entries(&keys)).await;
    let token = LeaseToken::random();
    let lease = tier.lease(keys[0], token, LIFE, Claim::IfFree).await;
    assert!(matches!(lease, Ok(Lease::Granted(Some(_)))));
    let entries: Vec<_> = keys
        .iter()
        .enumerate()
        .map(|(number, key)| match number % 3 {
            0 => (*key, Bytes::from(vec![7; 1_001]), LIFE),
            1 => (*key, Bytes::from_static(b"v"), Duration::from_secs(1)),
            _ => (*key, Bytes::from_static(b"new"), LIFE),
        })
        .collect();
    let set = tier.set_many(&entries).await;
    for (number, (set, found)) in set.iter().zip(tier.get_many(&keys).await).enumerate() {
        let is_kept = number % 3 == 2;
        assert_eq!(*set, Ok(if is_kept { Fill::Stored } else { Fill::Skipped }), "{number}");
        assert_eq!(found.unwrap().is_some(), is_kept, "{number}");
    }
    let fill = tier.fill(keys[0], token, Bytes::from_static(b"stale"), LIFE).await;
    assert_eq!(fill, Ok(Fill::Refused));
}

/// More batches than connections: each waits for its place, chunk by chunk, and single reads come between.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn batches_share_few_connections_with_single_reads() {
    let (_servers, tier) = several(1).await;
    let tier = Arc::new(tier.connections(2).response_timeout(Duration::from_secs(5)));
    let names = names(1_500);
    let batches: Vec<_> = (0..8)
        .map(|_| {
            let (tier, names) = (Arc::clone(&tier), names.clone());
            tokio::spawn(async move {
                let keys = keys(&names);
                let set = tier.set_many(&entries(&keys)).await;
                // Of writes at once of one key, one wins.
                assert!(set.iter().all(|set| set.is_ok()), "{set:?}");
                assert!(tier.get_many(&keys).await.iter().all(Result::is_ok));
            })
        })
        .collect();
    for _ in 0..50 {
        assert!(tier.get(b"k7").await.is_ok());
    }
    for batch in batches {
        batch.await.unwrap();
    }
}
