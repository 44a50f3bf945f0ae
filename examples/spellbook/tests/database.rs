//! The database stopped, or frozen, or gone together with Redis.

use std::{path::Path, time::Duration};

use rustix::process::Signal;
use serde_json::json;
use sqlx::Executor;
use tiered_tiers::testing::RedisServer;

use crate::support::{BOUND, Client, Postgres, Program, Reply, until, within};

/// The most that an answer without a database may take: its own limit, and wide room.
const UNAVAILABLE: Duration = Duration::from_secs(2 + 4);

fn unavailable(reply: Reply) -> Reply {
    let reply = reply.expect(503).in_time(UNAVAILABLE);
    assert!(reply.header("retry-after").unwrap().parse::<u32>().unwrap() >= 1);
    reply
}

/// Spells 1 and 2 and the absence of 99 are cached, and 5 is not.
async fn serves_what_is_cached(service: &Client) {
    for id in [1, 2] {
        let reply = service.spell(id).await.expect(200).in_time(BOUND);
        assert!(reply.source().starts_with("hit_"), "{reply:?}");
    }
    service.spell(99).await.expect(404).in_time(BOUND).from("negative");
    unavailable(service.spell(5).await).from("error");
    unavailable(service.get("/spells").await);
    unavailable(service.post(json!({ "name": "Ward", "damage": 1 })).await);
    unavailable(service.put(6, 1).await);
    unavailable(service.delete(6).await);
    let health = service.get("/health").await.in_time(UNAVAILABLE);
    assert_eq!((health.status.as_u16(), &health.body()["status"]), (503, &json!("down")));
    service.get("/metrics").await.expect(200).in_time(BOUND);
    service.spell(1).await.expect(200).in_time(BOUND);
}

async fn start(directory: &Path, database: &str, redis: &str) -> Program {
    Program::start(directory, &[("DATABASE_URL", database), ("REDIS_URL", redis)]).await
}

async fn warm(service: &Client) {
    for id in [1, 2] {
        service.spell(id).await.expect(200).from("load");
    }
    service.spell(99).await.expect(404).from("load");
}

async fn recovers(service: &Client) {
    until("the database serves again", async || {
        (service.spell(5).await.status == 200).then_some(())
    })
    .await;
    until("and takes changes", async || (service.put(7, 77).await.status == 200).then_some(()))
        .await;
    assert_eq!(service.spell(7).await.damage(), 77);
}

#[tokio::test]
async fn the_database_is_killed() {
    let directory = tempfile::tempdir().unwrap();
    let mut postgres = Postgres::start().await;
    let redis = RedisServer::start().await.unwrap();
    let service = start(directory.path(), &postgres.url(), &redis.url()).await;
    warm(&service).await;
    postgres.kill();
    serves_what_is_cached(&service).await;
    postgres.resume().await;
    recovers(&service).await;
    service.stop().await;
}

#[tokio::test]
async fn the_database_is_frozen() {
    let directory = tempfile::tempdir().unwrap();
    let postgres = Postgres::start().await;
    let redis = RedisServer::start().await.unwrap();
    let service = start(directory.path(), &postgres.url(), &redis.url()).await;
    warm(&service).await;
    postgres.freeze();
    serves_what_is_cached(&service).await;
    postgres.thaw();
    recovers(&service).await;
    service.stop().await;
}

#[tokio::test]
async fn a_change_that_is_made_after_its_client_was_told_no_is_seen() {
    let directory = tempfile::tempdir().unwrap();
    let postgres = Postgres::start().await;
    let service = Program::start(directory.path(), &[("DATABASE_URL", &postgres.url())]).await;
    let before = service.spell(8).await.from("load").damage();
    // Somebody else's transaction holds the row.
    let mut other = postgres.connect().await;
    other.execute("BEGIN; UPDATE spell SET damage = 1 WHERE id = 8").await.unwrap();
    unavailable(service.put(8, 888).await);
    assert_eq!(service.spell(8).await.damage(), before);
    other.execute("ROLLBACK").await.unwrap();
    until("the change is made", async || {
        (service.get("/spells").await.expect(200).body()[7]["damage"] == 888).then_some(())
    })
    .await;
    within(Duration::from_secs(5), "and the cache is told of it", async || {
        (service.spell(8).await.damage() == 888).then_some(())
    })
    .await;
    service.stop().await;
}

#[tokio::test]
async fn a_query_that_hangs_is_given_up() {
    let directory = tempfile::tempdir().unwrap();
    let postgres = Postgres::start().await;
    let service = Program::start(directory.path(), &[("DATABASE_URL", &postgres.url())]).await;
    warm(&service).await;
    let mut other = postgres.connect().await;
    other.execute("BEGIN; LOCK TABLE spell IN ACCESS EXCLUSIVE MODE").await.unwrap();
    unavailable(service.spell(5).await).from("error");
    unavailable(service.get("/spells").await);
    service.spell(1).await.expect(200).in_time(BOUND).from("hit_l1");
    other.execute("ROLLBACK").await.unwrap();
    recovers(&service).await;
    service.stop().await;
}

#[tokio::test]
async fn a_frozen_database_does_not_hold_up_the_shutdown() {
    let directory = tempfile::tempdir().unwrap();
    let postgres = Postgres::start().await;
    let mut service = Program::start(directory.path(), &[("DATABASE_URL", &postgres.url())]).await;
    service.spell(1).await.expect(200);
    postgres.freeze();
    let (read, change) = tokio::join!(service.spell(5), service.put(1, 1));
    unavailable(read);
    unavailable(change);
    service.signal(Signal::TERM);
    assert!(service.ended(Duration::from_secs(15)).await.success());
}

#[tokio::test]
async fn the_database_and_redis_are_stopped() {
    let directory = tempfile::tempdir().unwrap();
    let mut postgres = Postgres::start().await;
    let mut redis = RedisServer::start().await.unwrap();
    let service = start(directory.path(), &postgres.url(), &redis.url()).await;
    warm(&service).await;
    postgres.kill();
    redis.kill().unwrap();
    service.spell(1).await.expect(200).in_time(BOUND).from("hit_l1");
    unavailable(service.spell(5).await).from("error");
    unavailable(service.put(1, 1).await);
    unavailable(service.get("/spells").await);
    // All of them at once: nothing queues up behind the others.
    let readers = (0..40).map(|id| {
        let service = Client::clone(&service);
        tokio::spawn(async move { service.spell(1_000 + id).await })
    });
    for reader in readers.collect::<Vec<_>>() {
        unavailable(reader.await.unwrap());
    }
    postgres.resume().await;
    redis.restart().await.unwrap();
    recovers(&service).await;
    service.stop().await;
}

#[tokio::test]
async fn the_database_and_redis_are_frozen() {
    let directory = tempfile::tempdir().unwrap();
    let postgres = Postgres::start().await;
    let redis = RedisServer::start().await.unwrap();
    let service = start(directory.path(), &postgres.url(), &redis.url()).await;
    warm(&service).await;
    postgres.freeze();
    redis.freeze().unwrap();
    service.spell(1).await.expect(200).in_time(BOUND).from("hit_l1");
    unavailable(service.spell(5).await).from("error");
    unavailable(service.delete(6).await);
    postgres.thaw();
    redis.thaw().unwrap();
    recovers(&service).await;
    service.stop().await;
}
