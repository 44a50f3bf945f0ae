//! Slots that move from node to node, while they are used and while they are cleared.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use tiered_tiers::{
    Claim, Fill, HoldEnd, Lease, LeaseToken, Redis, RemoteTier, TierError,
    testing::remote_tier_conforms,
};

use super::{LIFE, cluster_share, key_of, keys_of, serving, slot};
use crate::{load::Load, timed, wait};

/// Its keys' slots stay open all the time: some of each slot's keys are here, some there, some nowhere.
#[tokio::test]
async fn redis_cluster_conforms_while_its_slots_are_on_their_way() {
    let (cluster, tier) = serving().await;
    let mut slots: Vec<u16> = [
        "k",
        "f",
        "e",
        "c",
        "s",
        "there",
        "short",
        "longer",
        "shorter",
        "huge",
        "a",
        "other",
        "plain:1",
        "",
        "h",
        "r",
        "rt",
        "hr",
        "he",
        "hd",
        "two",
        "h 1\r\n%\u{ff}",
        "beside",
    ]
    .map(|key| slot(key.as_bytes()))
    .to_vec();
    slots.sort_unstable();
    slots.dedup();
    for slot in slots {
        let from = cluster.owner(slot).await.unwrap();
        cluster.open_slot(slot, (from + 1) % 3).await.unwrap();
    }
    remote_tier_conforms(tier).await;
}

/// Each operation on a key whose slot is open, wherever its value and its lease are at that moment.
#[tokio::test]
async fn every_operation_is_served_while_a_slot_is_open() {
    let (cluster, tier) = serving().await;
    let wanted = slot(b"moving");
    let keys = keys_of(wanted, "m", 12);
    let value = |text: &str| Bytes::copy_from_slice(text.as_bytes());
    let early = LeaseToken::random();
    for key in &keys[..10] {
        tier.set(key.as_bytes(), value("old"), LIFE).await.unwrap();
    }
    // One lease beside its value, and one alone.
    for key in [&keys[0], &keys[10]] {
        tier.lease(key.as_bytes(), early, LIFE, Claim::IfFree).await.unwrap();
    }
    let from = cluster.owner(wanted).await.unwrap();
    let to = (from + 1) % 3;
    cluster.open_slot(wanted, to).await.unwrap();
    for step in 0..3 {
        for key in &keys[1..10] {
            let (key, token) = (key.as_bytes(), LeaseToken::random());
            assert_eq!(tier.set(key, value("set"), LIFE).await, Ok(Fill::Stored), "{step}");
            assert_eq!(tier.get(key).await.unwrap().unwrap().bytes, "set");
            let lease = tier.lease(key, token, LIFE, Claim::IfFree).await.unwrap();
            assert!(matches!(lease, Lease::Granted(Some(found)) if found.bytes == "set"));
            let other = tier.lease(key, LeaseToken::random(), LIFE, Claim::IfFree).await.unwrap();
            assert!(matches!(other, Lease::Held(Some(_))));
            assert_eq!(tier.fill(key, token, value("fill"), LIFE).await, Ok(Fill::Stored));
            assert_eq!(tier.get(key).await.unwrap().unwrap().bytes, "fill");
            assert_eq!(tier.fill(key, token, value("twice"), LIFE).await, Ok(Fill::Refused));
            tier.lease(key, token, LIFE, Claim::IfFree).await.unwrap();
            tier.delete(key).await.unwrap();
            assert_eq!(tier.fill(key, token, value("late"), LIFE).await, Ok(Fill::Refused));
            assert_eq!(tier.get(key).await, Ok(None));
            tier.lease(key, token, LIFE, Claim::IfFree).await.unwrap();
            tier.release(key, token).await.unwrap();
            assert_eq!(tier.fill(key, token, value("late"), LIFE).await, Ok(Fill::Refused));
            tier.set(key, value("old"), LIFE).await.unwrap();
        }
        cluster.carry_keys(wanted, to, 3).await.unwrap();
    }
    // A lease from before the move that is still where it was, without a value beside it.
    let alone = keys[10].as_bytes();
    let (filled, took) = timed(tier.fill(alone, early, value("v"), LIFE)).await;
    assert!(took < Duration::from_millis(500), "{took:?}");
    let is_stored = filled == Ok(Fill::Stored);
    assert!(is_stored || filled == Err(TierError::Refused("TRYAGAIN".into())), "{filled:?}");
    let next = LeaseToken::random();
    let lease = tier.lease(alone, next, LIFE, Claim::IfFree).await;
    assert!(matches!(lease, Ok(Lease::Granted(_))), "nobody waits for it: {lease:?}");
    tier.release(alone, next).await.unwrap();
    let names: Vec<&[u8]> = keys.iter().map(String::as_bytes).collect();
    let found = tier.get_many(&names).await;
    assert!(found.iter().all(Result::is_ok), "{found:?}");
    assert_eq!(found.iter().flatten().flatten().count(), 10 + usize::from(is_stored));
    assert_eq!(tier.delete_many(&names[1..]).await, vec![Ok(()); 11]);
    assert_eq!(tier.get_many(&names[1..]).await, vec![Ok(None); 11]);
    while cluster.carry_keys(wanted, to, 10).await.unwrap() > 0 {}
    cluster.close_slot(wanted, to).await.unwrap();
    let kept = tier.fill(keys[0].as_bytes(), early, value("new"), LIFE).await;
    assert_eq!(kept, Ok(Fill::Stored), "its lease has moved with it");
    assert_eq!(tier.get(keys[0].as_bytes()).await.unwrap().unwrap().bytes, "new");
}

/// Holds from before the move and since, wherever they and their key's value and lease are at that moment.
#[tokio::test]
async fn holds_stand_while_a_slot_is_open() {
    let (cluster, tier) = serving().await;
    let wanted = slot(b"moving");
    let keys = keys_of(wanted, "h", 8);
    let value = |text: &str| Bytes::copy_from_slice(text.as_bytes());
    let [early, load] = [LeaseToken::random(), LeaseToken::random()];
    // Before the move: holds, leases beside values, and nothing.
    for (number, key) in keys.iter().enumerate() {
        match number % 3 {
            0 => tier.hold(key.as_bytes(), early, LIFE).await.unwrap(),
            1 => {
                tier.set(key.as_bytes(), value("old"), LIFE).await.unwrap();
                tier.lease(key.as_bytes(), load, LIFE, Claim::IfFree).await.unwrap();
            }
            _ => {}
        }
    }
    let to = (cluster.owner(wanted).await.unwrap() + 1) % 3;
    cluster.open_slot(wanted, to).await.unwrap();
    for step in 0..4 {
        for (number, key) in keys.iter().enumerate() {
            let (key, why) = (key.as_bytes(), format!("{number} at step {step}"));
            let [hold, other, lease] =
                [LeaseToken::random(), LeaseToken::random(), LeaseToken::random()];
            let was_held = step == 0 && number % 3 == 0;
            if step == 0 && number % 3 == 1 {
                assert_eq!(tier.renew(key, load, LIFE).await, Ok(true), "{why}");
            }
            tier.hold(key, hold, LIFE).await.unwrap();
            assert_eq!(tier.renew(key, load, LIFE).await, Ok(false), "{why}");
            assert_eq!(tier.fill(key, load, value("old"), LIFE).await, Ok(Fill::Refused), "{why}");
            assert_eq!(tier.get(key).await, Ok(None), "{why}");
            for claim in [Claim::IfFree, Claim::ByForce] {
                let asked = tier.lease(key, LeaseToken::random(), LIFE, claim).await;
                assert_eq!(asked, Ok(Lease::OnHold), "{why}");
            }
            assert_eq!(tier.set(key, value("set"), LIFE).await, Ok(Fill::Refused), "{why}");
            assert_eq!(tier.get(key).await, Ok(None), "{why}");
            if was_held {
                let end = tier.end_hold(key, early, Some((lease, LIFE))).await;
                assert_eq!(end, Ok(HoldEnd::Overlapped), "{why}");
                let asked = tier.lease(key, LeaseToken::random(), LIFE, Claim::ByForce).await;
                assert_eq!(asked, Ok(Lease::OnHold), "{why}: the first to end opened it");
            }
            assert_eq!(tier.renew_hold(key, hold, LIFE).await, Ok(true), "{why}");
            let end = tier.end_hold(key, hold, Some((lease, LIFE))).await;
            assert_eq!(end, Ok(HoldEnd::Overlapped), "{why}: a set came");
            assert_eq!(tier.renew_hold(key, hold, LIFE).await, Ok(false), "{why}: it has ended");
            let asked = tier.lease(key, LeaseToken::random(), LIFE, Claim::ByForce).await;
            assert_eq!(asked, Ok(Lease::OnHold), "{why}: it is back");
            assert_eq!(tier.end_hold(key, hold, None).await, Ok(HoldEnd::Overlapped), "{why}");
            tier.hold(key, hold, LIFE).await.unwrap();
            let end = tier.end_hold(key, hold, Some((lease, LIFE))).await;
            assert_eq!(end, Ok(HoldEnd::Alone), "{why}");
            let fill = tier.fill(key, lease, value("mine"), LIFE).await;
            assert_eq!(fill, Ok(Fill::Stored), "{why}");
            assert_eq!(tier.end_hold(key, other, Some((lease, LIFE))).await, Ok(HoldEnd::Lost));
            assert_eq!(tier.fill(key, lease, value("v"), LIFE).await, Ok(Fill::Refused), "{why}");
            assert_eq!(tier.get(key).await, Ok(None), "{why}");
            let open = tier.lease(key, load, LIFE, Claim::IfFree).await;
            assert_eq!(open, Ok(Lease::Granted(None)), "{why}");
        }
        // The next step finds leases of `load`, some of which have been carried over.
        cluster.carry_keys(wanted, to, 3).await.unwrap();
    }
    tier.hold(keys[0].as_bytes(), early, LIFE).await.unwrap();
    while cluster.carry_keys(wanted, to, 10).await.unwrap() > 0 {}
    cluster.close_slot(wanted, to).await.unwrap();
    let asked = tier.lease(keys[0].as_bytes(), load, LIFE, Claim::IfFree).await;
    assert_eq!(asked, Ok(Lease::OnHold), "it was carried over too");
    let end = tier.end_hold(keys[0].as_bytes(), early, None).await;
    assert_eq!(
        end,
        Ok(HoldEnd::Alone),
        "by force it has not been leased since it was carried over"
    );
}

/// Holds that began before the move and end after it; what happens meanwhile is done in steps.
#[tokio::test]
async fn a_hold_outlasts_a_move_alone_unless_somebody_writes() {
    let (cluster, tier) = serving().await;
    let wanted = slot(b"moving");
    let keys = keys_of(wanted, "a", 6);
    let [hold, other, lease] = [LeaseToken::random(), LeaseToken::random(), LeaseToken::random()];
    for key in &keys {
        tier.hold(key.as_bytes(), hold, LIFE).await.unwrap();
    }
    let to = (cluster.owner(wanted).await.unwrap() + 1) % 3;
    cluster.open_slot(wanted, to).await.unwrap();
    for step in 0..2 {
        for (number, key) in keys.iter().enumerate() {
            let key = key.as_bytes();
            assert_eq!(tier.renew_hold(key, hold, LIFE).await, Ok(true), "{number}, {step}");
            match number {
                0 | 1 => {}
                2 => tier.delete(key).await.unwrap(),
                3 => _ = tier.set(key, Bytes::new(), LIFE).await.unwrap(),
                4 => assert_eq!(tier.end_hold(key, other, None).await, Ok(HoldEnd::Lost)),
                _ => {
                    tier.hold(key, other, LIFE).await.unwrap();
                    let end = tier.end_hold(key, other, None).await;
                    assert_eq!(end, Ok(HoldEnd::Overlapped));
                }
            }
        }
        cluster.carry_keys(wanted, to, 5).await.unwrap();
    }
    while cluster.carry_keys(wanted, to, 10).await.unwrap() > 0 {}
    cluster.close_slot(wanted, to).await.unwrap();
    for (number, key) in keys.iter().enumerate() {
        let key = key.as_bytes();
        assert_eq!(tier.renew_hold(key, hold, LIFE).await, Ok(true), "{number}");
        let end = tier.end_hold(key, hold, Some((lease, LIFE))).await;
        let expected = if number < 2 { HoldEnd::Alone } else { HoldEnd::Overlapped };
        assert_eq!(end, Ok(expected), "{number}");
        let is_stored = tier.fill(key, lease, Bytes::new(), LIFE).await == Ok(Fill::Stored);
        assert_eq!(is_stored, number < 2, "{number}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slots_move_under_load_and_nobody_notices() {
    let (cluster, tier) = serving().await;
    let moving = [slot(b"one"), slot(b"two"), slot(b"three")];
    let mut keys: Vec<String> = moving.iter().flat_map(|slot| keys_of(*slot, "m", 5)).collect();
    keys.extend((0..10).map(|number| format!("still{number}")));
    let load = Load::start(tier, keys, false);
    load.goes_on(200).await;
    for round in 0..12 {
        let slot = moving[round % 3];
        let to = (cluster.owner(slot).await.unwrap() + 1 + round % 2) % 3;
        cluster.open_slot(slot, to).await.unwrap();
        load.goes_on(100).await;
        while cluster.carry_keys(slot, to, 2).await.unwrap() > 0 {
            load.goes_on(20).await;
        }
        cluster.close_slot(slot, to).await.unwrap();
        load.goes_on(50).await;
    }
    let done = load.done();
    let errors: Vec<_> = load.end().await.into_values().flatten().collect();
    // Only a lease from before a move, whose value is not there, may have to be given up.
    assert!(
        errors.iter().all(|(what, error)| {
            *what == "fill" && *error == TierError::Refused("TRYAGAIN".into())
        }),
        "{errors:?}"
    );
    assert!(errors.len() <= 24, "{} of {done} operations failed: {errors:?}", errors.len());
}

/// A map that is wrong about many slots is put right by the answers, at no caller's cost.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stale_map_costs_no_operation() {
    let (cluster, tier) = serving().await;
    let mut keys = Vec::new();
    for number in 0..25 {
        let key = key_of(0, &format!("k{number}:"));
        tier.set(key.as_bytes(), Bytes::from(key.clone()), LIFE).await.unwrap();
        keys.push(key);
    }
    for (number, key) in keys.iter().enumerate() {
        cluster.move_slot(slot(key.as_bytes()), 1 + number % 2).await.unwrap();
    }
    let reads = keys.iter().cycle().take(400).map(|key| {
        let (tier, key) = (Arc::clone(&tier), key.clone());
        tokio::spawn(async move {
            assert_eq!(tier.get(key.as_bytes()).await.unwrap().unwrap().bytes, key);
        })
    });
    for read in reads.collect::<Vec<_>>() {
        read.await.unwrap();
    }
    let refusals = cluster.node(0).info("total_error_replies").await.unwrap();
    for key in keys.iter().cycle().take(200) {
        assert!(tier.get(key.as_bytes()).await.unwrap().is_some());
    }
    let more = cluster.node(0).info("total_error_replies").await.unwrap() - refusals;
    assert!(more < 10, "what was learnt is forgotten: {more}");
    let other = Redis::new(&cluster.url()).unwrap();
    other.ping().await.unwrap();
    for key in &keys {
        cluster.move_slot(slot(key.as_bytes()), 0).await.unwrap();
    }
    let names: Vec<&[u8]> = keys.iter().map(String::as_bytes).collect();
    assert!(other.get_many(&names).await.into_iter().all(|found| found.unwrap().is_some()));
    assert!(tier.delete_many(&names).await.into_iter().all(|dropped| dropped.is_ok()));
    assert_eq!(other.get_many(&names).await, vec![Ok(None); 25]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_cleared_while_slots_move_is_gone() {
    let (cluster, tier) = serving().await;
    let cluster = Arc::new(cluster);
    let moving = slot(b"one");
    let mut keys = keys_of(moving, "p:", 60);
    keys.extend((0..1_500).map(|number| format!("p:x{number}")));
    let entries: Vec<(&[u8], Bytes, Duration)> =
        keys.iter().map(|key| (key.as_bytes(), Bytes::from_static(b"v"), LIFE)).collect();
    let names: Vec<&[u8]> = keys.iter().map(String::as_bytes).collect();
    let (mut cleared, mut refused) = (0, 0);
    let ends = Arc::new(AtomicBool::new(false));
    let mover = tokio::spawn({
        let (cluster, ends) = (Arc::clone(&cluster), Arc::clone(&ends));
        async move {
            let mut moves = 0;
            while !ends.load(Ordering::Relaxed) {
                let to = (cluster.owner(moving).await.unwrap() + 1) % 3;
                cluster.open_slot(moving, to).await.unwrap();
                while cluster.carry_keys(moving, to, 7).await.unwrap() > 0 {}
                cluster.close_slot(moving, to).await.unwrap();
                moves += 1;
                wait(moves % 7 * 10).await;
            }
            moves
        }
    });
    for _ in 0..15 {
        for set in tier.set_many(&entries).await {
            assert_eq!(set, Ok(Fill::Stored));
        }
        let (outcome, took) = timed(tier.clear(b"p:", &|_| {})).await;
        assert!(took < Duration::from_secs(10), "{took:?}");
        match outcome {
            Ok(()) => cleared += 1,
            Err(TierError::Refused(why)) => {
                assert!(why.starts_with("TRYAGAIN") || why.starts_with("CLUSTERDOWN"), "{why}");
                refused += 1;
                continue;
            }
            other => panic!("{other:?}"),
        }
        let found = tier.get_many(&names).await;
        let left = found.iter().filter(|found| **found != Ok(None)).count();
        assert_eq!(left, 0, "keys are left after a clear that reports success");
    }
    ends.store(true, Ordering::Relaxed);
    let moves = mover.await.unwrap();
    assert!(cleared >= 5 && moves >= 5, "{cleared} cleared, {refused} refused, {moves} moves");
}

/// A slot goes from a node whose walk has just begun to one whose walk is over.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_that_a_walk_missed_are_found_by_the_next() {
    let (cluster, tier) = serving().await;
    let moving = (5_000..5_400).find(|slot| cluster_share(*slot) == 0).unwrap();
    let client = redis::Client::open(cluster.node(0).url()).unwrap();
    let mut direct = client.get_multiplexed_async_connection().await.unwrap();
    let own = keys_of(moving, "p:", 60);
    let others = (0..90_000).map(|number| format!("p:{number}"));
    let others = others.filter(|key| cluster_share(slot(key.as_bytes())) == 0);
    let mut sets = redis::Pipeline::new();
    for key in own.iter().cloned().chain(others) {
        sets.cmd("SET").arg(key).arg("v").arg("EX").arg(600).ignore();
    }
    let () = sets.query_async(&mut direct).await.unwrap();
    let (begun, has_begun) = tokio::sync::watch::channel(false);
    let mover = async {
        has_begun.clone().wait_for(|begun| *begun).await.unwrap();
        cluster.open_slot(moving, 1).await.unwrap();
        while cluster.carry_keys(moving, 1, 100).await.unwrap() > 0 {}
        cluster.close_slot(moving, 1).await.unwrap();
    };
    let progress = |_| _ = begun.send(true);
    let clear = tier.clear(b"p:", &progress);
    let (cleared, ()) = futures_util::future::join(clear, mover).await;
    cleared.unwrap();
    let names: Vec<&[u8]> = own.iter().map(String::as_bytes).collect();
    assert_eq!(tier.get_many(&names).await, vec![Ok(None); 60]);
}

/// What the database holds, and which of its versions an invalidation was acknowledged for.
#[derive(Debug, Default)]
struct Truth {
    version: AtomicU64,
    acknowledged: AtomicU64,
}

/// Loads race with invalidations and writes, and slots move under both. Once an invalidation is acknowledged,
/// nothing that was loaded before it is ever read.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_fence_holds_while_slots_move() {
    let (cluster, tier) = serving().await;
    let moving = [slot(b"one"), slot(b"two")];
    let ends = Arc::new(AtomicBool::new(false));
    let stored = Arc::new(AtomicU64::new(0));
    let mut tasks = Vec::new();
    for key in moving.iter().flat_map(|slot| keys_of(*slot, "m", 3)) {
        let truth = Arc::new(Truth::default());
        for loader in 0..3_u64 {
            let (tier, key, truth) = (Arc::clone(&tier), key.clone(), Arc::clone(&truth));
            let (ends, stored) = (Arc::clone(&ends), Arc::clone(&stored));
            tasks.push(tokio::spawn(async move {
                while !ends.load(Ordering::SeqCst) {
                    let token = LeaseToken::random();
                    let claim = if loader == 0 { Claim::ByForce } else { Claim::IfFree };
                    let life = Duration::from_millis(200);
                    let lease = tier.lease(key.as_bytes(), token, life, claim).await;
                    if let Ok(Lease::Granted(_)) = lease {
                        let loaded = truth.version.load(Ordering::SeqCst);
                        wait(loaded % 4).await;
                        let bytes = Bytes::from(loaded.to_string());
                        if tier.fill(key.as_bytes(), token, bytes, LIFE).await == Ok(Fill::Stored) {
                            stored.fetch_add(1, Ordering::SeqCst);
                        }
                    }
                    let least = truth.acknowledged.load(Ordering::SeqCst);
                    if let Ok(Some(found)) = tier.get(key.as_bytes()).await {
                        let read: u64 = std::str::from_utf8(&found.bytes).unwrap().parse().unwrap();
                        assert!(read >= least, "{key}: {read} after {least} was acknowledged");
                    }
                }
            }));
        }
        let (tier, ends) = (Arc::clone(&tier), Arc::clone(&ends));
        tasks.push(tokio::spawn(async move {
            while !ends.load(Ordering::SeqCst) {
                let version = truth.version.fetch_add(1, Ordering::SeqCst) + 1;
                let is_done = if version % 3 == 0 {
                    let bytes = Bytes::from(version.to_string());
                    tier.set(key.as_bytes(), bytes, LIFE).await.is_ok()
                } else {
                    tier.delete(key.as_bytes()).await.is_ok()
                };
                if is_done {
                    truth.acknowledged.store(version, Ordering::SeqCst);
                }
                wait(version % 5).await;
            }
        }));
    }
    for round in 0..40 {
        let slot = moving[round % 2];
        let to = (cluster.owner(slot).await.unwrap() + 1 + round % 2) % 3;
        cluster.open_slot(slot, to).await.unwrap();
        wait(20).await;
        while cluster.carry_keys(slot, to, 1).await.unwrap() > 0 {
            wait(3).await;
        }
        cluster.close_slot(slot, to).await.unwrap();
        wait(10).await;
    }
    ends.store(true, Ordering::SeqCst);
    for task in tasks {
        task.await.unwrap();
    }
    let stored = stored.load(Ordering::SeqCst);
    assert!(stored > 200, "only {stored} loads were stored");
}
