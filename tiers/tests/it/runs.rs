//! Which run of a server an answer is of: after a restart, a promotion, over connections old and new.

use std::time::{Duration, Instant};

use bytes::Bytes;
use tiered_tiers::{
    Claim, Incarnation, Lease, LeaseToken, Redis, RemoteTier,
    testing::{RedisCluster, RedisSentinel, RedisServer},
};

use crate::{heals, servers::Scripted, wait};

const LIFE: Duration = Duration::from_secs(600);

/// What the tier says of `k` in every way it can, which must be one and the same.
async fn run(tier: &dyn RemoteTier) -> Option<Incarnation> {
    let told = tier.incarnation(b"k").await.unwrap();
    let lease = tier.lease(b"k", LeaseToken::random(), LIFE, Claim::ByForce).await.unwrap();
    let Lease::Granted(Some(leased)) = lease else { panic!("{lease:?}") };
    assert_eq!(leased.incarnation, told, "lease");
    for _ in 0..3 {
        assert_eq!(tier.get(b"k").await.unwrap().unwrap().incarnation, told, "get");
        for found in tier.get_many(&[b"k", b"k"]).await {
            assert_eq!(found.unwrap().unwrap().incarnation, told, "several at once");
        }
    }
    told
}

async fn put(tier: &dyn RemoteTier) {
    tier.set(b"k", Bytes::from_static(b"v"), LIFE).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_start_of_a_server_is_another_run() {
    let mut server = RedisServer::start().await.unwrap();
    let (tier, other) = (Redis::new(&server.url()).unwrap(), Redis::new(&server.url()).unwrap());
    put(&tier).await;
    let first = run(&tier).await;
    assert!(first.is_some());
    assert_eq!(run(&other).await, first, "another process agrees");
    let mut runs = vec![first];
    for _ in 0..2 {
        server.execute(&["SAVE"]).await.unwrap();
        server.restart().await.unwrap();
        heals(&tier).await;
        let next = run(&tier).await;
        assert!(next.is_some() && !runs.contains(&next), "with the same data it is another run");
        assert_eq!(run(&Redis::new(&server.url()).unwrap()).await, next);
        runs.push(next);
    }
}

/// A primary that becomes a replica and is promoted again, all without a restart. Connections to it stay open.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_promotion_without_a_restart_is_another_run_to_connections_that_stay_open() {
    let (server, upstream) =
        (RedisServer::start().await.unwrap(), RedisServer::start().await.unwrap());
    let tier = Redis::new(&server.url()).unwrap().connections(3);
    put(&tier).await;
    let first = run(&tier).await.unwrap();
    let dialled = server.info("total_connections_received").await.unwrap();
    let port = upstream.port().to_string();
    server.execute(&["REPLICAOF", "127.0.0.1", &port]).await.unwrap();
    server.execute(&["REPLICAOF", "NO", "ONE"]).await.unwrap();
    // A real wait: so long a connection believes what it knows.
    wait(1_050).await;
    put(&tier).await;
    let second = run(&tier).await.unwrap();
    assert_ne!(first, second);
    assert_eq!(run(&Redis::new(&server.url()).unwrap()).await, Some(second), "new ones agree");
    let ours = server.info("total_connections_received").await.unwrap() - dialled;
    assert!(ours <= 8, "the connections were left open: {ours} new ones");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_user_who_may_not_ask_for_the_run_works_without() {
    let server = RedisServer::start().await.unwrap();
    let rule = ["ACL", "SETUSER", "reader", "on", ">hunter2", "~*", "+@all", "-info"];
    server.execute(&rule).await.unwrap();
    let tier = Redis::new(&server.url()).unwrap().username("reader").password("hunter2");
    put(&tier).await;
    assert_eq!(run(&tier).await, None);
    wait(1_050).await;
    assert_eq!(run(&tier).await, None);
    assert_eq!(crate::every_operation(&tier).await, []);
}

#[tokio::test]
async fn a_server_that_says_nothing_of_its_runs_works_without() {
    for answer in ["-ERR unknown command\r\n", "$-1\r\n", "$2\r\nhi\r\n", "*0\r\n", ":1\r\n"] {
        let server = Scripted::start(move |said, _| match said {
            "PING" => "+PONG\r\n".into(),
            said if said.starts_with("INFO") => answer.into(),
            _ => "*2\r\n:5\r\n$1\r\nv\r\n".into(),
        });
        let server = server.await;
        let tier = Redis::new(&format!("redis://127.0.0.1:{}/", server.port)).unwrap();
        assert_eq!(tier.incarnation(b"k").await, Ok(None), "{answer}");
        assert_eq!(tier.ping().await, Ok(()));
    }
}

/// Back to the one that it was at first: nobody asked it meanwhile, and no connection to it broke.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_is_deposed_and_promoted_again_is_another_run() {
    let cluster = RedisCluster::start().await.unwrap();
    let tier = Redis::new(&cluster.url()).unwrap();
    put(&tier).await;
    let first = run(&tier).await.unwrap();
    let slot = cluster.slot_of("k").await.unwrap();
    let owner = cluster.owner(slot).await.unwrap();
    cluster.fail_over(owner).await.unwrap();
    let other = cluster.promoted(owner).await.unwrap();
    // It refuses, or gives up, until it has caught up with its successor.
    let start = Instant::now();
    while cluster.owner(slot).await.ok() != Some(owner) {
        assert!(start.elapsed() < Duration::from_secs(30), "it is not promoted again");
        let _ = cluster.fail_over(other).await;
        wait(200).await;
    }
    cluster.promoted(other).await.unwrap();
    wait(1_050).await;
    let second = run(&tier).await.unwrap();
    assert_ne!(first, second);
    assert_eq!(run(&Redis::new(&cluster.url()).unwrap()).await, Some(second));
}

/// The nodes' own answers count, whatever the map says.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slot_that_moves_is_of_the_run_of_where_it_is() {
    let cluster = RedisCluster::start().await.unwrap();
    let tier = Redis::new(&cluster.url()).unwrap();
    put(&tier).await;
    let first = run(&tier).await.unwrap();
    let slot = cluster.slot_of("k").await.unwrap();
    let to = (cluster.owner(slot).await.unwrap() + 1) % 3;
    cluster.open_slot(slot, to).await.unwrap();
    assert_eq!(tier.get(b"k").await.unwrap().unwrap().incarnation, Some(first), "still there");
    cluster.carry_keys(slot, to, 10).await.unwrap();
    let asked = tier.get(b"k").await.unwrap().unwrap().incarnation;
    assert!(asked.is_some() && asked != Some(first), "its target answers");
    cluster.close_slot(slot, to).await.unwrap();
    assert_eq!(tier.get(b"k").await.unwrap().unwrap().incarnation, asked);
    assert_eq!(run(&tier).await, asked);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_promoted_replica_is_another_run() {
    let mut group = RedisSentinel::start().await.unwrap();
    let tier = Redis::new(&group.url()).unwrap();
    put(&tier).await;
    let first = run(&tier).await.unwrap();
    let primary = group.primary().await.unwrap();
    group.kill(primary).unwrap();
    let next = group.promoted(primary).await.unwrap();
    heals(&tier).await;
    put(&tier).await;
    let second = run(&tier).await.unwrap();
    assert_ne!(first, second);
    let direct = Redis::new(&group.server(next).url()).unwrap();
    assert_eq!(run(&direct).await, Some(second));
}
