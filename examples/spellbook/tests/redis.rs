//! Whatever happens to Redis: right answers, in time.

use std::{path::Path, time::Duration};

use serde_json::json;
use tiered_tiers::testing::RedisServer;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::Instant,
};

use crate::support::{BOUND, Client, Program, until, within};

async fn start(directory: &Path, redis: &str) -> Program {
    Program::start(directory, &[("REDIS_URL", redis), ("RUST_LOG", "debug")]).await
}

/// One command, sent behind the service's back.
async fn ask(redis: &RedisServer, command: &str) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", redis.port())).await.unwrap();
    stream.write_all(format!("{command}\r\nQUIT\r\n").as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer.strip_suffix("+OK\r\n").unwrap_or(&answer).trim_end().to_owned()
}

/// Everything a service does, each step right and in time, with an L2 that may be of no use.
/// Uses spells 1 to 3 and leaves 1 at 501, 2 deleted, 3 as it was.
async fn works(service: &Client) {
    let bounded = |reply: crate::support::Reply| reply.in_time(BOUND);
    bounded(service.spell(3).await.expect(200));
    bounded(service.spell(3).await.expect(200)).from("hit_l1");
    for damage in [500, 501] {
        assert_eq!(bounded(service.put(1, damage).await).damage(), damage);
        assert_eq!(bounded(service.spell(1).await).damage(), damage);
    }
    bounded(service.spell(2).await.expect(200));
    bounded(service.delete(2).await.expect(204));
    bounded(service.spell(2).await.expect(404));
    let next = service.get("/spells").await.body();
    let next = next.as_array().unwrap().last().unwrap()["id"].as_i64().unwrap() + 1;
    bounded(service.spell(next).await.expect(404));
    bounded(service.spell(next).await.expect(404)).from("negative");
    let created = bounded(service.post(json!({ "name": "Ward", "damage": 7 })).await.expect(201));
    assert_eq!(created.body()["id"], next);
    assert_eq!(bounded(service.spell(next).await).damage(), 7);
}

/// Redis works for this service again: a second one finds there what this one loads.
async fn recovers(service: &Client, directory: &Path, redis: &RedisServer) {
    until("nothing is pending, and L2 is up", async || {
        let health = service.get("/health").await.expect(200).body();
        (health["status"] == "ok").then_some(())
    })
    .await;
    // Fills L2 with what L1 would not ask it for.
    service.put(4, 404).await.expect(200);
    service.spell(4).await.expect(200).from("load");
    let other = start(directory, &redis.url()).await;
    assert_eq!(other.spell(4).await.from("hit_l2").damage(), 404);
    assert_eq!(other.spell(1).await.damage(), 501);
    other.spell(2).await.expect(404);
    other.stop().await;
    let immortal = redis.keys_without_expiry().await.unwrap();
    assert!(immortal.is_empty(), "{immortal:?}");
}

#[tokio::test]
async fn redis_is_killed_and_comes_back_empty() {
    let directory = tempfile::tempdir().unwrap();
    let mut redis = RedisServer::start().await.unwrap();
    let service = start(directory.path(), &redis.url()).await;
    for id in [1, 2, 5] {
        service.spell(id).await.expect(200).from("load");
    }
    redis.kill().unwrap();
    works(&service).await;
    let health = service.get("/health").await.expect(200).body();
    assert_eq!((&health["status"], &health["l2"]["up"]), (&json!("degraded"), &json!(false)));
    redis.restart().await.unwrap();
    recovers(&service, directory.path(), &redis).await;
    service.stop().await;
}

#[tokio::test]
async fn redis_is_restarted_empty_under_the_service() {
    let directory = tempfile::tempdir().unwrap();
    let mut redis = RedisServer::start().await.unwrap();
    let service = start(directory.path(), &redis.url()).await;
    for id in [1, 2, 3, 5] {
        service.spell(id).await.expect(200).from("load");
    }
    redis.restart().await.unwrap();
    service.spell(5).await.expect(200).from("hit_l1");
    works(&service).await;
    recovers(&service, directory.path(), &redis).await;
    service.stop().await;
}

#[tokio::test]
async fn redis_is_frozen() {
    let directory = tempfile::tempdir().unwrap();
    let redis = RedisServer::start().await.unwrap();
    let service = start(directory.path(), &redis.url()).await;
    for id in [1, 2, 5] {
        service.spell(id).await.expect(200).from("load");
    }
    redis.freeze().unwrap();
    works(&service).await;
    let health = service.get("/health").await.expect(200).in_time(BOUND).body();
    assert_eq!(health["status"], "degraded");
    assert!(health["pending_invalidations"].as_i64().unwrap() > 0, "{health}");
    redis.thaw().unwrap();
    recovers(&service, directory.path(), &redis).await;
    service.stop().await;
}

#[tokio::test]
async fn a_deletion_while_redis_is_frozen_holds_after_the_thaw() {
    let directory = tempfile::tempdir().unwrap();
    let redis = RedisServer::start().await.unwrap();
    let service = start(directory.path(), &redis.url()).await;
    let other = start(directory.path(), &redis.url()).await;
    service.spell(3).await.expect(200).from("load");
    other.spell(1).await.expect(200).from("load");
    assert_eq!(ask(&redis, "EXISTS spellbook:spell:3").await, ":1");

    redis.freeze().unwrap();
    service.delete(3).await.expect(204).in_time(BOUND);
    service.spell(3).await.expect(404).in_time(BOUND);
    redis.thaw().unwrap();
    let thawed = Instant::now();

    service.spell(3).await.expect(404).in_time(BOUND);
    // Seen from outside, so that the first read of the other process is one that can go wrong: it
    // has nothing of spell 3 in its L1.
    within(Duration::from_secs(1), "L2 forgets the spell", async || {
        service.spell(3).await.expect(404);
        let bytes = ask(&redis, "GET spellbook:spell:3").await;
        // Gone, or by now a negative entry, which is shorter than the name alone.
        (bytes == "$-1" || !bytes.contains("Lightning Bolt")).then_some(())
    })
    .await;
    other.spell(3).await.expect(404).in_time(BOUND);
    assert!(thawed.elapsed() < Duration::from_secs(5));
    service.spell(3).await.expect(404);
    service.stop().await;
    other.stop().await;
}

#[tokio::test]
async fn redis_refuses_the_password() {
    let directory = tempfile::tempdir().unwrap();
    let redis = RedisServer::builder().password("sesame").start().await.unwrap();
    let wrong = format!("redis://:hunter2@127.0.0.1:{}", redis.port());
    let service = start(directory.path(), &wrong).await;
    works(&service).await;
    let health = service.get("/health").await.expect(200);
    assert_eq!(health.body()["status"], "degraded");
    assert!(!health.text.contains("hunter2") && !service.log().contains("hunter2"));
    // A password that the server takes makes the same spells whole again.
    let right = format!("redis://:sesame@127.0.0.1:{}", redis.port());
    let other = start(directory.path(), &right).await;
    assert_eq!(other.spell(1).await.from("load").damage(), 501);
    assert!(!other.log().contains("sesame"));
    other.stop().await;
    service.stop().await;
}

#[tokio::test]
async fn redis_is_out_of_memory() {
    let directory = tempfile::tempdir().unwrap();
    let redis = RedisServer::start().await.unwrap();
    let service = start(directory.path(), &redis.url()).await;
    for id in [1, 2, 5] {
        service.spell(id).await.expect(200).from("load");
    }
    assert_eq!(ask(&redis, "CONFIG SET maxmemory 1").await, "+OK");
    works(&service).await;
    assert_eq!(ask(&redis, "CONFIG SET maxmemory 0").await, "+OK");
    recovers(&service, directory.path(), &redis).await;
    service.stop().await;
}

#[tokio::test]
async fn redis_was_never_there() {
    let directory = tempfile::tempdir().unwrap();
    let mut redis = RedisServer::start().await.unwrap();
    redis.kill().unwrap();
    let service = start(directory.path(), &redis.url()).await;
    works(&service).await;
    redis.restart().await.unwrap();
    recovers(&service, directory.path(), &redis).await;
    service.stop().await;
}
