//! Redis Cluster: slots that move under load, primaries that die, and nodes that lie.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use tiered_tiers::{
    Claim, Fill, Lease, LeaseToken, Redis, RemoteTier, TierError,
    testing::{RedisCluster, RedisServer, remote_tier_conforms},
};

use crate::{every_operation, load::Load, servers::Scripted, timed, wait};

const LIFE: Duration = Duration::from_secs(600);

async fn serving() -> (RedisCluster, Arc<Redis>) {
    let cluster = RedisCluster::start().await.unwrap();
    let tier = Redis::new(&cluster.url()).unwrap();
    tier.ping().await.unwrap();
    (cluster, Arc::new(tier))
}

/// The slot of a key without braces, by the specification's own words.
fn slot(key: &[u8]) -> u16 {
    let mut crc = 0_u16;
    for byte in key {
        crc ^= u16::from(*byte) << 8;
        for _ in 0..8 {
            crc = if crc & 0x8000 == 0 { crc << 1 } else { (crc << 1) ^ 0x1021 };
        }
    }
    crc % 16_384
}

/// Keys of one slot.
fn keys_of(wanted: u16, prefix: &str, count: usize) -> Vec<String> {
    let keys = (0_u64..).map(|number| format!("{prefix}{number}"));
    keys.filter(|key| slot(key.as_bytes()) == wanted).take(count).collect()
}

/// A key that this node has in the beginning.
fn key_of(node: usize, prefix: &str) -> String {
    let mine = |key: &String| cluster_share(slot(key.as_bytes())) == node;
    (0_u64..).map(|number| format!("{prefix}{number}")).find(mine).unwrap()
}

/// Waits until the key is served by somebody who may write; fails when that takes long.
async fn serves_key(tier: &dyn RemoteTier, key: &str) {
    let start = Instant::now();
    while tier.release(key.as_bytes(), LeaseToken::random()).await.is_err() {
        assert!(start.elapsed() < Duration::from_secs(8), "{key} is still not served");
        wait(20).await;
    }
}

#[tokio::test]
async fn redis_cluster_conforms_on_one_thread() {
    let (cluster, tier) = serving().await;
    remote_tier_conforms(tier).await;
    for node in 0..3 {
        let node = cluster.node(node);
        assert_eq!(node.keys_without_expiry().await.unwrap(), Vec::<Vec<u8>>::new());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_cluster_conforms_on_several_threads_with_a_password() {
    let cluster = RedisCluster::start_with(&[("requirepass", "pass:word")]).await.unwrap();
    let seeds = (0..3).map(|node| format!("redis://127.0.0.1:{}", cluster.node(node).port()));
    let tier = Redis::cluster(seeds).unwrap().password("pass:word").connections(1);
    remote_tier_conforms(Arc::new(tier)).await;
    let wrong = Redis::new(&cluster.url()).unwrap().password("hunter2");
    assert_eq!(wrong.get(b"k").await, Err(TierError::Refused("WRONGPASS to AUTH".into())));
}

/// Its keys' slots stay open all the time: some of each slot's keys are here, some there, some nowhere.
#[tokio::test]
async fn redis_cluster_conforms_while_its_slots_are_on_their_way() {
    let (cluster, tier) = serving().await;
    let mut slots: Vec<u16> = [
        "k", "f", "e", "c", "s", "there", "short", "longer", "shorter", "huge", "a", "other",
        "plain:1", "",
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
async fn a_primary_is_killed_under_load_and_replaced() {
    let (mut cluster, tier) = serving().await;
    let keys: Vec<String> =
        (0..24).map(|number| key_of(number % 3, &format!("k{number}:"))).collect();
    let load = Load::start(tier.clone(), keys.clone(), true);
    load.goes_on(500).await;
    cluster.kill(0).unwrap();
    load.goes_on(500).await;
    cluster.promoted(0).await.unwrap();
    for key in keys.iter().step_by(3) {
        serves_key(&*tier, key).await;
    }
    let errors = load.errors();
    assert!(!errors.is_empty(), "a dead node's keys cannot be served");
    for (key, errors) in &errors {
        // The connections to the others, and the map, are as they were.
        assert_eq!(cluster_share(slot(key.as_bytes())), 0, "{key}: {errors:?}");
    }
    load.goes_on(500).await;
    let late = load.errors();
    assert!(late.values().flatten().count() <= 8, "it is not healed: {late:?}");
    cluster.restart(0).await.unwrap();
    load.goes_on(500).await;
    assert_eq!(tier.ping().await, Ok(()));
    load.end().await;
}

/// Replaced while it is well: it says where its slots are, and no operation fails.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_primary_is_replaced_in_good_order() {
    let (cluster, tier) = serving().await;
    let keys: Vec<String> =
        (0..24).map(|number| key_of(number % 3, &format!("k{number}:"))).collect();
    let load = Load::start(tier, keys, true);
    load.goes_on(300).await;
    cluster.fail_over(0).await.unwrap();
    cluster.promoted(0).await.unwrap();
    load.goes_on(500).await;
    let errors: Vec<_> = load.end().await.into_values().flatten().collect();
    assert!(errors.len() <= 24, "{} errors: {errors:?}", errors.len());
}

/// A node that says nothing is no reason for the others to wait; it is replaced all the same.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_frozen_primary_is_replaced() {
    let (cluster, tier) = serving().await;
    let (dead, living) = (key_of(1, "a"), key_of(2, "b"));
    for key in [&dead, &living] {
        serves_key(&*tier, key).await;
    }
    cluster.node(1).freeze().unwrap();
    let (lost, took) = timed(tier.get(dead.as_bytes())).await;
    assert_eq!(lost, Err(TierError::Timeout));
    assert!(took < Duration::from_millis(900), "{took:?}");
    assert!(tier.get(living.as_bytes()).await.is_ok());
    tier.ping().await.unwrap();
    cluster.node(4).info("cluster_enabled").await.unwrap();
    let start = Instant::now();
    while cluster.owner_as_seen_by(2, slot(dead.as_bytes())).await.unwrap() != 4 {
        assert!(start.elapsed() < Duration::from_secs(15), "no promotion");
        assert!(tier.get(living.as_bytes()).await.is_ok());
        wait(20).await;
    }
    serves_key(&*tier, &dead).await;
    cluster.node(1).thaw().unwrap();
    serves_key(&*tier, &dead).await;
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

/// The node that has a slot in the beginning.
fn cluster_share(slot: u16) -> usize {
    (0..3).rev().find(|node| usize::from(slot) >= node * 16_384 / 3).unwrap()
}

#[tokio::test]
async fn a_clear_tells_of_all_it_dropped_and_fails_without_a_primary() {
    let (mut cluster, tier) = serving().await;
    let keys: Vec<String> = (0..3_000).map(|number| format!("p:{number}")).collect();
    let entries: Vec<(&[u8], Bytes, Duration)> =
        keys.iter().map(|key| (key.as_bytes(), Bytes::new(), LIFE)).collect();
    tier.set_many(&entries).await;
    let dropped = std::sync::atomic::AtomicU64::new(0);
    tier.clear(b"p:", &|more| _ = dropped.fetch_add(more, Ordering::Relaxed)).await.unwrap();
    assert_eq!(dropped.into_inner(), 3_000);
    cluster.kill(2).unwrap();
    assert!(tier.clear(b"p:", &|_| {}).await.is_err(), "what the dead one has is not cleared");
}

fn text(text: &str) -> String {
    format!("${}\r\n{text}\r\n", text.len())
}

/// A map by which every slot is at this port.
fn all_at(port: u16) -> String {
    format!("*1\r\n*3\r\n:0\r\n:16383\r\n*2\r\n{}:{port}\r\n", text("127.0.0.1"))
}

/// Nodes that answer nonsense, by malice or by mistake: an error, in time, and no panic.
#[tokio::test]
async fn hostile_answers_end_in_an_error() {
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let silent = silent.local_addr().unwrap().port();
    let answers: Vec<(&str, String)> = vec![
        ("a loop", "-MOVED 1 :SELF\r\n".into()),
        ("a loop of asking", "-ASK 1 127.0.0.1:SELF\r\n".into()),
        ("garbage", "-MOVED hunter2\r\n".into()),
        ("no port", "-MOVED 1 127.0.0.1:\r\n".into()),
        ("another garbage", "-ASK 1 \u{f6}:1\r\n".into()),
        ("nothing", "-MOVED\r\n".into()),
        ("a closed port", format!("-MOVED 1 127.0.0.1:{closed}\r\n")),
        ("a silent port", format!("-MOVED 1 127.0.0.1:{silent}\r\n")),
        ("for ever down", "-CLUSTERDOWN hunter2\r\n".into()),
        ("for ever not yet", "-TRYAGAIN hunter2\r\n".into()),
        ("for ever loading", "-LOADING hunter2\r\n".into()),
        ("no script", "-NOSCRIPT hunter2\r\n".into()),
        ("another kind", "+OK\r\n".into()),
    ];
    for (what, answer) in answers {
        let node = Scripted::start(move |said, port| match said {
            "CLUSTER SLOTS" => all_at(port),
            _ => answer.replace("SELF", &port.to_string()),
        });
        let node = node.await;
        let tier = Redis::cluster([format!("redis://127.0.0.1:{}", node.port)]).unwrap();
        let failed = every_operation(&tier).await;
        assert!(failed.len() >= 6, "{what}: {failed:?}");
        assert!(!format!("{failed:?}").contains("hunter2"), "{failed:?}");
        if what == "a loop" {
            assert_eq!(tier.get(b"k").await, Err(TierError::Refused("MOVED".into())));
        }
        let (many, took) = timed(tier.get_many(&[b"a", b"b"])).await;
        assert!(many.iter().all(Result::is_err), "{what}: {many:?}");
        assert!(took < Duration::from_secs(3), "{what} took {took:?}");
    }
}

#[tokio::test]
async fn a_hostile_map_ends_in_an_error() {
    let node = |port: &str| format!("*2\r\n{}:{port}\r\n", text("127.0.0.1"));
    let many = (0..3_000)
        .map(|slot| format!("*3\r\n:{slot}\r\n:{slot}\r\n{}", node(&(slot + 1).to_string())));
    for map in [
        "*0\r\n".to_owned(),
        "*-1\r\n".into(),
        "+OK\r\n".into(),
        "-ERR hunter2\r\n".into(),
        "*1\r\n*0\r\n".into(),
        "*1\r\n:1\r\n".into(),
        format!("*1\r\n*3\r\n:0\r\n:16384\r\n{}", node("1")),
        format!("*1\r\n*3\r\n:-1\r\n:5\r\n{}", node("1")),
        format!("*1\r\n*3\r\n:0\r\n:5\r\n{}", node("70000")),
        format!("*1\r\n*3\r\n:0\r\n:5\r\n{}", node("0")),
        format!("*3000\r\n{}", many.collect::<String>()),
    ] {
        let answer = map.clone();
        let node = Scripted::start(move |_, _| answer.clone()).await;
        let tier = Redis::cluster([format!("redis://127.0.0.1:{}", node.port)]).unwrap();
        let failed = every_operation(&tier).await;
        assert_eq!(failed.len(), 8, "{map}: {failed:?}");
        assert!(!format!("{failed:?}").contains("hunter2"), "{failed:?}");
    }
}

/// Sent to a new node each time: only so many are followed, and only so many remembered.
#[tokio::test]
async fn a_chase_from_node_to_node_ends() {
    let node = Scripted::start(|said, port| match said {
        "CLUSTER SLOTS" => all_at(port),
        _ => format!("-MOVED 1 127.0.0.{}:{port}\r\n", 2 + fastrand::u8(..250)),
    });
    let node = node.await;
    let tier = Redis::cluster([format!("redis://127.0.0.1:{}", node.port)]).unwrap();
    for _ in 0..20 {
        let (outcome, took) = timed(tier.get(b"k")).await;
        assert!(outcome.is_err());
        assert!(took < Duration::from_secs(2), "{took:?}");
    }
}

#[tokio::test]
async fn a_server_that_is_no_cluster_is_told_so() {
    let server = RedisServer::start().await.unwrap();
    let tier = Redis::cluster([server.url()]).unwrap();
    let error = tier.get(b"k").await.unwrap_err();
    assert_eq!(error, TierError::Refused("ERR to CLUSTER SLOTS: no cluster".into()));
}

/// Seeds that are dead, silent, or no cluster cost a part of the first operation's time.
#[tokio::test]
async fn one_living_seed_is_enough() {
    let cluster = RedisCluster::start().await.unwrap();
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let seeds = [closed, silent.local_addr().unwrap().port(), cluster.node(4).port()];
    for turn in 0..3 {
        let mut seeds = seeds.map(|port| format!("redis://127.0.0.1:{port}"));
        seeds.rotate_left(turn);
        let tier = Redis::cluster(seeds).unwrap();
        let (outcome, took) = timed(tier.get(b"k")).await;
        assert_eq!(outcome, Ok(None));
        assert!(took < Duration::from_millis(1_500), "{took:?}");
        assert_eq!(every_operation(&tier).await, []);
    }
}
