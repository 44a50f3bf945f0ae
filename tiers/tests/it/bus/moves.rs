//! Logs that change their server: slots that move, primaries that die behind sentinels and in a cluster.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU16, Ordering},
    },
    time::{Duration, Instant},
};

use tiered_tiers::{
    Bus, LogName, RedisBus, TierError,
    protocol::Void,
    testing::{RedisCluster, RedisSentinel, RedisServer},
};

use super::{
    model::{Audit, Ledger},
    reader::{Admin, LOG, Reader, STREAM, messages, patient, say},
};
use crate::{servers::Scripted, timed, wait};

/// A step while servers are replaced: one dial, one answer, and wide room for a busy machine.
const DEADLINE: Duration = Duration::from_secs(5);

async fn on_a_cluster() -> (RedisCluster, RedisBus, u16) {
    let cluster = RedisCluster::start().await.unwrap();
    let bus = patient(&cluster.url()).bus();
    let mut admin = Admin::of(cluster.node(0)).await;
    let slot = admin.ask(&["CLUSTER", "KEYSLOT", STREAM]).await;
    (cluster, bus, slot)
}

/// Asks until the reader's view is proven, and appends until that works; fails when it takes long.
async fn settles(reader: &mut Reader, bus: &dyn Bus) {
    let start = Instant::now();
    loop {
        let (appended, took) = timed(bus.append(LOG, &messages(&["m"]))).await;
        assert!(took < DEADLINE, "an append took {took:?}");
        let (step, took) = timed(reader.wait(bus, Duration::from_millis(10))).await;
        assert!(took < DEADLINE, "a poll took {took:?}");
        if appended.is_ok() && step.is_ok_and(|step| step.proven.is_some()) {
            return;
        }
        assert!(start.elapsed() < Duration::from_secs(15), "it does not settle");
        wait(10).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_is_followed_to_the_node_that_its_slot_moves_to() {
    let (cluster, bus, slot) = on_a_cluster().await;
    let mut reader = Reader::open(&bus).await;
    say(&bus, &["one"]).await;
    reader.catches_up(&bus).await;
    for _ in 0..3 {
        let from = cluster.owner(slot).await.unwrap();
        let to = (from + 1) % 3;
        // Half of the log is here and half of it there: errors, and no proof.
        cluster.open_slot(slot, to).await.unwrap();
        cluster.carry_keys(slot, to, 1).await.unwrap();
        for _ in 0..3 {
            let (step, took) = timed(reader.step(&bus)).await;
            assert!(matches!(step, Err(TierError::Refused(_))), "{step:?}");
            assert!(took < DEADLINE, "{took:?}");
        }
        while cluster.carry_keys(slot, to, 10).await.unwrap() > 0 {}
        cluster.close_slot(slot, to).await.unwrap();
        say(&bus, &["moved"]).await;
        reader.notices(&bus, &[Void::OtherRun], "on another node").await;
    }
    // One that waits goes on waiting at the other node.
    let to = (cluster.owner(slot).await.unwrap() + 1) % 3;
    let ((step, took), ()) =
        tokio::join!(timed(reader.wait(&bus, Duration::from_secs(30))), async {
            wait(100).await;
            cluster.move_slot(slot, to).await.unwrap();
            wait(1_500).await;
            say(&bus, &["there"]).await;
        });
    assert!(took < Duration::from_secs(10), "{took:?}: {step:?}");
    assert_eq!(step.unwrap().void, Some(Void::OtherRun));
    settles(&mut reader, &bus).await;
}

/// Publishers, and readers under audit, while a slot travels and a primary dies.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_believed_that_a_cluster_has_lost() {
    let (mut cluster, bus, slot) = on_a_cluster().await;
    let (bus, ledger) = (Arc::new(bus), Arc::new(Ledger::default()));
    let publishing = {
        let (bus, ledger) = (Arc::clone(&bus), Arc::clone(&ledger));
        tokio::spawn(async move {
            loop {
                ledger.publish(&*bus, 2).await;
                wait(2).await;
            }
        })
    };
    let reading = {
        let (bus, ledger) = (Arc::clone(&bus), Arc::clone(&ledger));
        tokio::spawn(async move {
            let mut audit = Audit::default();
            // Until nobody publishes any more.
            let mut seen = (0, Instant::now());
            while seen.1.elapsed() < Duration::from_secs(1) {
                if audit.step(&ledger, &*bus, Duration::from_millis(20)).await
                    && ledger.len() > seen.0
                {
                    seen = (ledger.len(), Instant::now());
                } else if ledger.len() > seen.0 {
                    seen.1 = Instant::now();
                }
                wait(2).await;
            }
            audit
        })
    };
    for _ in 0..6 {
        wait(150).await;
        let to = (cluster.owner(slot).await.unwrap() + 1) % 3;
        cluster.move_slot(slot, to).await.unwrap();
    }
    wait(300).await;
    let primary = cluster.owner(slot).await.unwrap();
    cluster.kill(primary).unwrap();
    cluster.promoted(primary).await.unwrap();
    wait(1_000).await;
    publishing.abort();
    let audit = reading.await.unwrap();
    println!("{} proven, {} checked, {} voids", audit.proven, audit.checked, audit.voids);
    assert!(audit.proven > 50 && audit.checked > 100 && audit.voids > 7, "{audit:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_logs_of_a_topic_are_shared_out_over_a_cluster() {
    let cluster = RedisCluster::start().await.unwrap();
    let bus = patient(&cluster.url()).bus().logs(8);
    for index in 0..8 {
        bus.append(LogName { topic: "shop", index }, &messages(&["m"])).await.unwrap();
    }
    let mut loads = Vec::new();
    for node in 0..3 {
        let mut admin = Admin::of(cluster.node(node)).await;
        let keys: Vec<String> = admin.ask(&["KEYS", "{shop%bus:*}:log"]).await;
        let heads: Vec<String> = admin.ask(&["KEYS", "{shop%bus:*}:head"]).await;
        assert_eq!(keys.len(), heads.len(), "a head is where its stream is");
        loads.push(keys.len());
    }
    assert_eq!(loads.iter().sum::<usize>(), 8);
    assert!(loads.iter().filter(|load| **load > 0).count() > 1, "all on one node: {loads:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn behind_sentinels_a_reader_goes_on_at_the_next_primary() {
    let mut group = RedisSentinel::start().await.unwrap();
    let bus = patient(&group.url()).bus();
    let mut reader = Reader::open(&bus).await;
    say(&bus, &["one"]).await;
    reader.catches_up(&bus).await;
    let primary = group.primary().await.unwrap();
    group.kill(primary).unwrap();
    let (step, took) = timed(reader.wait(&bus, Duration::from_secs(30))).await;
    assert!(step.is_err() && took < DEADLINE, "{took:?}: {step:?}");
    group.promoted(primary).await.unwrap();
    settles(&mut reader, &bus).await;
    assert!(!reader.told.contains(&"one".to_owned()), "it was told of the other server");
    group.restart(primary).await.unwrap();
    reader.catches_up(&bus).await;
}

/// The old primary is alive, and says nothing that counts once the sentinels name another.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_primary_that_was_replaced_in_good_order_is_left() {
    let group = RedisSentinel::start().await.unwrap();
    let bus = patient(&group.url()).bus();
    let mut reader = Reader::open(&bus).await;
    say(&bus, &["one"]).await;
    reader.catches_up(&bus).await;
    let primary = group.primary().await.unwrap();
    group.fail_over().await.unwrap();
    let next = group.promoted(primary).await.unwrap();
    let direct = patient(&group.server(next).url()).bus();
    let start = Instant::now();
    // What is said at the new one arrives.
    while !reader.told.contains(&"there".to_owned()) {
        assert!(start.elapsed() < Duration::from_secs(12), "it stays where it was");
        let _ = direct.append(LOG, &messages(&["there"])).await;
        let (_, took) = timed(reader.wait(&bus, Duration::from_millis(200))).await;
        assert!(took < DEADLINE, "{took:?}");
    }
    settles(&mut reader, &bus).await;
}

/// What the old primary says to a poll that was waiting at it comes too late to count.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_poll_at_a_primary_that_is_replaced_meanwhile_proves_nothing() {
    let (old, new) = (RedisServer::start().await.unwrap(), RedisServer::start().await.unwrap());
    let named = Arc::new(AtomicU16::new(old.port()));
    let asked = Arc::clone(&named);
    let sentinel = Scripted::start(move |_, _| {
        let port = asked.load(Ordering::SeqCst).to_string();
        format!("*2\r\n$9\r\n127.0.0.1\r\n${}\r\n{port}\r\n", port.len())
    });
    let sentinel = sentinel.await;
    let url = format!("redis+sentinel://127.0.0.1:{}/mymaster", sentinel.port);
    let bus = patient(&url).bus();
    let mut reader = Reader::open(&bus).await;
    reader.catches_up(&bus).await;
    let (step, ()) = tokio::join!(reader.wait(&bus, Duration::from_secs(5)), async {
        wait(100).await;
        named.store(new.port(), Ordering::SeqCst);
    });
    assert!(matches!(step, Err(TierError::Unreachable(_))), "{step:?}");
    reader.notices(&bus, &[Void::OtherRun, Void::Headless], "at the new one").await;
    let told: u64 = Admin::of(&new).await.ask(&["XLEN", STREAM]).await;
    assert_eq!(told, 1, "it was said at the new one");
}
