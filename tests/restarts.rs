//! Servers that come back with old data: restarted with a snapshot, or replaced by a replica that lags. What was
//! invalidated stays so, to whoever reads, however he reads, over whatever connection.

use std::sync::Arc;

use tiered::{
    Ack, Builder, Outcome, Postcard, Restarts, Tiered,
    tiers::{Moka, Redis, RemoteTier},
};
use tiered_tiers::testing::{RedisCluster, RedisSentinel, RedisServer};
use tokio::sync::Semaphore;

use crate::support::{DbDown, Log, SECOND, Source, db_down, eventually};

/// Another process, so to say, with connections of its own.
fn node(url: &str, configure: impl FnOnce(Builder<Postcard>) -> Builder<Postcard>) -> Tiered {
    // Patient: a busy machine must not make a load out of what would be a hit.
    let l2 = Redis::new(url).unwrap().response_timeout(2 * SECOND).connect_timeout(2 * SECOND);
    configure(Tiered::new(Moka::new(1_000), l2).namespace("shop").budget(4 * SECOND))
        .build()
        .unwrap()
}

fn strict(url: &str) -> Tiered {
    node(url, |builder| builder)
}

/// A cache over two servers in a row.
fn in_a_row(near: &RedisServer, far: &RedisServer) -> Tiered {
    let tier = |server: &RedisServer| {
        let tier = Redis::new(&server.url()).unwrap();
        tier.response_timeout(2 * SECOND).connect_timeout(2 * SECOND)
    };
    let chain = tier(near).then(tier(far)).near_within(2 * SECOND);
    let cache = Tiered::new(Moka::new(1_000), chain).namespace("shop").budget(8 * SECOND);
    cache.build().unwrap()
}

/// Waits until the server is reached again, over each connection.
async fn is_up(caches: &[&Tiered]) {
    for cache in caches {
        let (start, mut reached) = (std::time::Instant::now(), 0);
        while reached < 4 {
            assert!(start.elapsed() < 20 * SECOND, "the server is not reached again");
            reached = if cache.ping().await.is_ok() { reached + 1 } else { 0 };
            // A real wait: for a server, which knows no clock of ours.
            tokio::time::sleep(SECOND / 100).await;
        }
    }
}

/// What the server itself holds under a key.
async fn holds(url: &str, key: &str) -> bool {
    Redis::new(url).unwrap().get(format!("shop:{key}").as_bytes()).await.unwrap().is_some()
}

/// Ways to read a key, all of which may find what the server has.
#[derive(Clone, Copy, Debug)]
enum Way {
    ThroughL1,
    PastL1,
    Batch,
    Detached,
}

async fn read(cache: &Tiered, key: &'static str, way: Way, source: &Source) -> (usize, Outcome) {
    let load = || {
        let source = source.clone();
        async move { source.load().await.map(Some) }
    };
    let answer = match way {
        Way::ThroughL1 => cache.key(key).load(|_| load()).await.unwrap(),
        Way::PastL1 => cache.key(key).skip_l1().load(|_| load()).await.unwrap(),
        Way::Detached => {
            let source = source.clone();
            let load = move |_| async move { source.load().await.map(Some) };
            cache.key(key).load_detached(load).await.unwrap()
        }
        Way::Batch => {
            let load = async |keys: Vec<&'static str>| {
                let value = source.load().await?;
                Ok::<_, std::io::Error>(keys.into_iter().map(move |key| (key, value)))
            };
            let answers = cache.keys([key]).skip_l1().load(load).await;
            answers.into_iter().next().unwrap().unwrap()
        }
    };
    (*answer.value.unwrap(), answer.outcome)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_invalidated_value_in_a_snapshot_is_not_resurrected() {
    let mut server = RedisServer::start().await.unwrap();
    let url = server.url();
    let (here, there, source) = (strict(&url), strict(&url), Source::default());
    source.put(1);
    let keys = ["a", "b", "c", "d", "e", "f", "g", "h"];
    for key in keys {
        assert_eq!(read(&here, key, Way::ThroughL1, &source).await, (1, Outcome::Load));
        assert_eq!(read(&there, key, Way::PastL1, &source).await, (1, Outcome::HitL2));
        assert_eq!(read(&there, key, Way::Batch, &source).await, (1, Outcome::HitL2));
    }
    server.execute(&["SAVE"]).await.unwrap();
    source.put(2);
    for key in keys {
        assert_eq!(here.invalidate(key).await.unwrap(), Ack::Done);
        assert!(!holds(&url, key).await);
    }
    server.restart().await.unwrap();
    is_up(&[&here, &there]).await;
    for key in keys {
        assert!(holds(&url, key).await, "the server has the old value again");
    }
    // Connections that were open before, and new ones.
    let fresh = strict(&url);
    for (key, cache, way) in [
        ("a", &here, Way::ThroughL1),
        ("b", &here, Way::Batch),
        ("c", &there, Way::PastL1),
        ("d", &there, Way::Batch),
        ("e", &fresh, Way::ThroughL1),
        ("f", &fresh, Way::Batch),
        ("g", &fresh, Way::Detached),
    ] {
        assert_eq!(read(cache, key, way, &source).await, (2, Outcome::Load), "{key} {way:?}");
        let others = [&here, &there, &fresh, &strict(&url)];
        for other in others {
            let hit = read(other, key, Way::PastL1, &source).await;
            assert_eq!(hit, (2, Outcome::HitL2), "it was loaded once, for all");
        }
    }
    for cache in [&here, &fresh] {
        assert_eq!(cache.key("h").skip_l1().get::<usize>().await.unwrap(), None, "reads alone");
        assert_eq!(cache.keys(["h"]).get::<usize>().await.remove(0).unwrap(), None);
        assert!(!cache.contains("h").await.unwrap());
    }
    assert!(holds(&url, "h").await, "and it is still there");
    assert!(fresh.stats().decode_failures >= 4, "they are counted");
}

/// The server comes back with the lease in its snapshot, so the fence lets the fill through.
async fn slow_load_across_a_restart(is_batch: bool) {
    let mut server = RedisServer::start().await.unwrap();
    let url = server.url();
    let (here, there, source) = (strict(&url), strict(&url), Source::default());
    is_up(&[&here, &there]).await;
    source.put(1);
    let (gate, begun) = (Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(0)));
    let slow = {
        let (cache, source) = (here.clone(), source.clone());
        let (gate, begun) = (Arc::clone(&gate), Arc::clone(&begun));
        tokio::spawn(async move {
            let load = async || {
                let seen = source.load().await;
                begun.add_permits(1);
                gate.acquire().await.unwrap().forget();
                seen
            };
            if is_batch {
                let load = async |keys: Vec<&'static str>| {
                    let value = load().await?;
                    Ok::<_, std::io::Error>(keys.into_iter().map(move |key| (key, value)))
                };
                let loaded = cache.keys(["k", "l"]).get_or_load(load).await;
                *loaded.into_iter().next().unwrap().unwrap().unwrap()
            } else {
                *cache.key("k").get_or_load(load).await.unwrap()
            }
        })
    };
    begun.acquire().await.unwrap().forget();
    server.execute(&["SAVE"]).await.unwrap();
    source.put(2);
    assert_eq!(there.invalidate("k").await.unwrap(), Ack::Done);
    server.restart().await.unwrap();
    is_up(&[&here, &there]).await;
    gate.add_permits(1);
    assert_eq!(slow.await.unwrap(), 1, "it began before the invalidation");
    assert!(holds(&url, "k").await, "its fill found the lease");
    for cache in [&there, &here, &strict(&url)] {
        assert_eq!(read(cache, "k", Way::PastL1, &source).await.0, 2, "and is not believed");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_load_whose_lease_was_resurrected_is_not_believed() {
    slow_load_across_a_restart(false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_load_of_many_whose_leases_were_resurrected_is_not_believed() {
    slow_load_across_a_restart(true).await;
}

/// A server that loses nothing when it dies.
async fn durable() -> RedisServer {
    let server = RedisServer::builder().config("appendonly", "yes");
    server.config("appendfsync", "always").start().await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_without_loss_empties_a_strict_cache() {
    let mut server = durable().await;
    let url = server.url();
    let (cache, source) = (strict(&url), Source::default());
    let _ = cache.set("set", 7_usize).await.unwrap();
    let _ = cache.keys(["many"]).set([7_usize]).await.remove(0).unwrap();
    read(&cache, "loaded", Way::ThroughL1, &source).await;
    let keys = ["set", "many", "loaded"];
    for key in keys {
        assert_eq!(read(&strict(&url), key, Way::PastL1, &source).await.1, Outcome::HitL2);
    }
    server.restart().await.unwrap();
    is_up(&[&cache]).await;
    for key in keys {
        assert!(holds(&url, key).await);
        let failed = cache.key(key).skip_l1().load::<usize, _, _, _>(|_| db_down()).await;
        assert!(failed.is_err(), "not even a failing load brings it back");
        assert_eq!(read(&cache, key, Way::PastL1, &source).await.1, Outcome::Load);
        assert_eq!(read(&strict(&url), key, Way::PastL1, &source).await.1, Outcome::HitL2);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_makes_a_warm_caches_entries_stale() {
    let mut server = durable().await;
    let url = server.url();
    let warm = || node(&url, |builder| builder.restarts(Restarts::Warm));
    let (before, source) = (warm(), Source::default());
    source.put(1);
    for key in ["fails", "behind", "batch"] {
        read(&before, key, Way::ThroughL1, &source).await;
    }
    server.restart().await.unwrap();
    is_up(&[&before]).await;
    source.put(2);
    for cache in [&before, &warm()] {
        // Read alone, they are not fresh.
        assert_eq!(cache.key("fails").skip_l1().get::<usize>().await.unwrap(), None);
        for _ in 0..2 {
            let stale = cache.key("fails").skip_l1().load::<usize, _, _, _>(|_| db_down()).await;
            let stale = stale.unwrap();
            assert_eq!((stale.value.as_deref(), stale.outcome), (Some(&1), Outcome::Stale));
            assert!(stale.remaining.is_zero());
        }
        let failing = async |_: Vec<&str>| Err::<Vec<(&str, usize)>, _>(DbDown);
        let stale = cache.keys(["batch"]).skip_l1().load(failing).await.remove(0).unwrap();
        assert_eq!((stale.value.as_deref(), stale.outcome), (Some(&1), Outcome::Stale));
    }
    let (cache, gate) = (warm(), Arc::new(Semaphore::new(0)));
    for _ in 0..2 {
        let (gate, source) = (Arc::clone(&gate), source.clone());
        let load = move |_| async move {
            gate.acquire().await.unwrap().forget();
            source.load().await.map(Some)
        };
        let stale = cache.key("behind").load_detached(load).await.unwrap();
        assert_eq!((stale.value.as_deref(), stale.outcome), (Some(&1), Outcome::Stale));
    }
    gate.add_permits(2);
    eventually("the refresh", || cache.stats().loads == 1).await;
    cache.shutdown().await;
    for key in ["fails", "behind"] {
        let next = warm();
        if key == "fails" {
            assert_eq!(read(&next, key, Way::ThroughL1, &source).await, (2, Outcome::Load));
        }
        assert_eq!(read(&warm(), key, Way::ThroughL1, &source).await, (2, Outcome::HitL2), "{key}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deletion_that_a_promoted_replica_lacks_is_not_undone() {
    let mut group = RedisSentinel::start().await.unwrap();
    let url = group.url();
    let (here, there, source) = (strict(&url), strict(&url), Source::default());
    source.put(1);
    for key in ["a", "b", "c"] {
        read(&here, key, Way::ThroughL1, &source).await;
        assert_eq!(read(&there, key, Way::PastL1, &source).await, (1, Outcome::HitL2));
    }
    let primary = group.primary().await.unwrap();
    group.server(primary).execute(&["WAIT", "2", "5000"]).await.unwrap();
    for replica in (0..3).filter(|server| *server != primary) {
        group.server(replica).stop_following().await.unwrap();
    }
    source.put(2);
    for key in ["a", "b", "c"] {
        assert_eq!(here.invalidate(key).await.unwrap(), Ack::Done);
    }
    group.kill(primary).unwrap();
    let next = group.promoted(primary).await.unwrap();
    is_up(&[&here, &there]).await;
    assert!(holds(&group.server(next).url(), "a").await, "the replica has not heard of it");
    assert_eq!(read(&here, "a", Way::ThroughL1, &source).await, (2, Outcome::Load));
    assert_eq!(read(&there, "b", Way::Batch, &source).await, (2, Outcome::Load));
    assert_eq!(read(&strict(&url), "c", Way::ThroughL1, &source).await, (2, Outcome::Load));
    assert_eq!(read(&strict(&url), "a", Way::PastL1, &source).await, (2, Outcome::HitL2));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deletion_that_a_clusters_promoted_replica_lacks_is_not_undone() {
    let mut cluster = RedisCluster::start().await.unwrap();
    let url = cluster.url();
    let (here, there, source) = (strict(&url), strict(&url), Source::default());
    source.put(1);
    let slot = cluster.slot_of("shop:k").await.unwrap();
    let owner = cluster.owner(slot).await.unwrap();
    read(&here, "k", Way::ThroughL1, &source).await;
    for way in [Way::PastL1, Way::Batch] {
        assert_eq!(read(&there, "k", way, &source).await, (1, Outcome::HitL2));
    }
    cluster.node(owner).execute(&["WAIT", "1", "5000"]).await.unwrap();
    cluster.node(owner + 3).stop_following().await.unwrap();
    source.put(2);
    assert_eq!(here.invalidate("k").await.unwrap(), Ack::Done);
    cluster.kill(owner).unwrap();
    cluster.promoted(owner).await.unwrap();
    let start = std::time::Instant::now();
    while Redis::new(&url).unwrap().get(b"shop:k").await.is_err() {
        assert!(start.elapsed() < 20 * SECOND);
        tokio::time::sleep(SECOND / 100).await;
    }
    assert!(holds(&url, "k").await, "the replica has not heard of it");
    assert_eq!(there.key("k").skip_l1().get::<usize>().await.unwrap(), None);
    assert_eq!(there.keys(["k"]).skip_l1().get::<usize>().await.remove(0).unwrap(), None);
    assert_eq!(read(&here, "k", Way::PastL1, &source).await, (2, Outcome::Load));
    for cache in [&here, &there, &strict(&url)] {
        assert_eq!(read(cache, "k", Way::PastL1, &source).await, (2, Outcome::HitL2));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_moves_with_its_slot_is_a_miss_and_is_loaded_once() {
    let cluster = RedisCluster::start().await.unwrap();
    let url = cluster.url();
    let (here, there, source) = (strict(&url), strict(&url), Source::default());
    read(&here, "k", Way::ThroughL1, &source).await;
    assert_eq!(read(&there, "k", Way::PastL1, &source).await.1, Outcome::HitL2);
    let slot = cluster.slot_of("shop:k").await.unwrap();
    let to = (cluster.owner(slot).await.unwrap() + 1) % 3;
    cluster.move_slot(slot, to).await.unwrap();
    assert!(holds(&url, "k").await, "it moved, too");
    // The first of them may not know yet where the slot is, and stamp it so: then the next one loads.
    let mut outcomes = Vec::new();
    while outcomes.last() != Some(&Outcome::HitL2) {
        for cache in [&here, &there] {
            outcomes.push(read(cache, "k", Way::PastL1, &source).await.1);
        }
        assert!(outcomes.len() < 8, "{outcomes:?}");
    }
    assert_eq!(outcomes.first(), Some(&Outcome::Load));
    for cache in [&here, &there, &strict(&url)] {
        assert_eq!(read(cache, "k", Way::PastL1, &source).await.1, Outcome::HitL2);
    }
}

/// Documented: whoever takes the right to ask away takes the protection away.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_the_right_to_ask_for_the_run_all_that_is_there_is_believed() {
    let mut server = durable().await;
    let rule = ["ACL", "SETUSER", "cache", "on", ">hunter2", "~*", "+@all", "-info"];
    server.execute(&rule).await.unwrap();
    let url = format!("redis://cache:hunter2@127.0.0.1:{}/", server.port());
    let (cache, source, log) = (strict(&url), Source::default(), Log::capture());
    for key in ["k", "l", "m"] {
        read(&cache, key, Way::ThroughL1, &source).await;
    }
    let lines = log.lines();
    assert!(lines.len() == 1 && lines[0].contains("does not tell its runs"), "{lines:?}");
    assert_eq!(read(&strict(&url), "k", Way::ThroughL1, &source).await.1, Outcome::HitL2);
    // Whoever may ask does not believe it.
    assert_eq!(read(&strict(&server.url()), "k", Way::ThroughL1, &source).await.1, Outcome::Load);
    server.restart().await.unwrap();
    server.execute(&rule).await.unwrap();
    is_up(&[&cache]).await;
    assert_eq!(read(&strict(&url), "k", Way::ThroughL1, &source).await.1, Outcome::HitL2);
}

/// Whichever of two servers in a row comes back with old data, and whatever that is.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn neither_of_two_servers_in_a_row_resurrects_a_value() {
    for is_near in [true, false] {
        let (mut near, mut far) =
            (RedisServer::start().await.unwrap(), RedisServer::start().await.unwrap());
        let cache = || in_a_row(&near, &far);
        let (here, there, source) = (cache(), cache(), Source::default());
        source.put(1);
        for key in ["a", "b", "c"] {
            read(&here, key, Way::ThroughL1, &source).await;
            assert_eq!(read(&there, key, Way::PastL1, &source).await, (1, Outcome::HitL2));
        }
        let again = if is_near { &mut near } else { &mut far };
        again.execute(&["SAVE"]).await.unwrap();
        source.put(2);
        for key in ["a", "b", "c"] {
            assert_eq!(here.invalidate(key).await.unwrap(), Ack::Done);
        }
        again.restart().await.unwrap();
        is_up(&[&here, &there]).await;
        let url = if is_near { near.url() } else { far.url() };
        for key in ["a", "b", "c"] {
            assert!(holds(&url, key).await, "it has the old one again");
        }
        let fresh = in_a_row(&near, &far);
        assert_eq!(read(&here, "a", Way::ThroughL1, &source).await, (2, Outcome::Load));
        assert_eq!(read(&there, "b", Way::Batch, &source).await, (2, Outcome::Load));
        assert_eq!(read(&fresh, "c", Way::PastL1, &source).await, (2, Outcome::Load));
        for cache in [&here, &there, &fresh, &in_a_row(&near, &far)] {
            for key in ["a", "b", "c"] {
                let found = read(cache, key, Way::PastL1, &source).await;
                assert_eq!(found, (2, Outcome::HitL2), "near: {is_near}");
            }
        }
    }
}

/// The far lease came back, and the fill passes the fence; what it leaves near is of the run before, too.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_load_across_a_restart_leaves_no_copy_that_is_believed() {
    for is_near in [true, false] {
        let (mut near, mut far) =
            (RedisServer::start().await.unwrap(), RedisServer::start().await.unwrap());
        let (here, there, source) =
            (in_a_row(&near, &far), in_a_row(&near, &far), Source::default());
        is_up(&[&here, &there]).await;
        source.put(1);
        let (gate, begun) = (Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(0)));
        let slow = {
            let (cache, source) = (here.clone(), source.clone());
            let (gate, begun) = (Arc::clone(&gate), Arc::clone(&begun));
            tokio::spawn(async move {
                let load = || async {
                    let seen = source.load().await;
                    begun.add_permits(1);
                    gate.acquire().await.unwrap().forget();
                    seen
                };
                *cache.key("k").get_or_load(load).await.unwrap()
            })
        };
        begun.acquire().await.unwrap().forget();
        let again = if is_near { &mut near } else { &mut far };
        again.execute(&["SAVE"]).await.unwrap();
        source.put(2);
        assert_eq!(there.invalidate("k").await.unwrap(), Ack::Done);
        again.restart().await.unwrap();
        is_up(&[&here, &there]).await;
        gate.add_permits(1);
        assert_eq!(slow.await.unwrap(), 1);
        assert_eq!(holds(&far.url(), "k").await, !is_near, "only the far lease counts");
        for cache in [&there, &here, &in_a_row(&near, &far)] {
            assert_eq!(read(cache, "k", Way::PastL1, &source).await.0, 2, "near: {is_near}");
        }
    }
}
