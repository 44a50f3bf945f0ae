//! The process: its start, its settings, a second one beside it, a next one after it, its end.

use std::{fs, time::Duration};

use rustix::process::Signal;
use serde_json::json;
use tiered_tiers::{Redis, RemoteTier, testing::RedisServer};

use crate::support::{Client, PATIENCE, Postgres, Program, locked, refused, until};

#[tokio::test]
async fn a_restart_finds_the_cache_as_it_was() {
    let directory = tempfile::tempdir().unwrap();
    let redis = RedisServer::start().await.unwrap();
    let url = redis.url();
    let settings = [("REDIS_URL", url.as_str())];
    let first = Program::start(directory.path(), &settings).await;
    let spell = first.spell(1).await.expect(200).from("load").body();
    first.spell(99).await.expect(404).from("load");
    first.stop().await;
    let next = Program::start(directory.path(), &settings).await;
    assert_eq!(next.spell(1).await.expect(200).from("hit_l2").body(), spell);
    assert_eq!(next.spell(1).await.expect(200).from("hit_l1").body(), spell);
    next.spell(99).await.expect(404).from("negative");
    next.stop().await;
}

/// A load is answered before it is on the server, where it follows at once.
async fn is_on(redis: &RedisServer, id: u64) {
    let tier = Redis::new(&redis.url()).unwrap();
    let key = format!("spellbook:spell:{id}");
    let stored = async || tier.get(key.as_bytes()).await.unwrap();
    until("the load is stored in Redis", stored).await;
}

#[tokio::test]
async fn two_processes_share_redis_and_the_database() {
    let directory = tempfile::tempdir().unwrap();
    let redis = RedisServer::start().await.unwrap();
    let url = redis.url();
    let settings = [("REDIS_URL", url.as_str())];
    // At once: both want to make the table.
    let (one, two) = tokio::join!(
        Program::start(directory.path(), &settings),
        Program::start(directory.path(), &settings)
    );
    let list = one.get("/spells").await.expect(200).body();
    assert_eq!(list.as_array().unwrap().len(), 8);
    one.spell(1).await.expect(200).from("load");
    is_on(&redis, 1).await;
    two.spell(1).await.expect(200).from("hit_l2");
    // What one changes, two sees, but for what two has in its L1.
    one.spell(2).await.expect(200).from("load");
    one.put(2, 222).await.expect(200);
    assert_eq!(two.spell(2).await.from("load").damage(), 222);
    is_on(&redis, 2).await;
    assert_eq!(one.spell(2).await.from("hit_l2").damage(), 222);
    // An absence that one remembers ends with what two creates, in L2 at once.
    one.spell(9).await.expect(404).from("load");
    let created = two.post(json!({ "name": "Ward", "damage": 1 })).await.expect(201).body();
    assert_eq!(created["id"], 9);
    two.spell(9).await.expect(200).from("load");
    // In the L1 of the other one within the ten seconds that it trusts itself.
    two.put(1, 111).await.expect(200);
    until("the change reaches the other L1", async || {
        (one.spell(1).await.damage() == 111 && one.spell(9).await.status == 200).then_some(())
    })
    .await;
    one.stop().await;
    two.stop().await;
}

#[tokio::test]
async fn requests_under_way_finish_before_the_end() {
    for signal in [Signal::TERM, Signal::INT] {
        let directory = tempfile::tempdir().unwrap();
        let mut service = Program::start(directory.path(), &[]).await;
        service.spell(1).await.expect(200);
        let lock = locked(directory.path()).await;
        let client = Client::clone(&service);
        let mut change = tokio::spawn(async move { client.put(1, 321).await });
        // It cannot end while the lock is held; this gives it the time to get there.
        assert!(tokio::time::timeout(Duration::from_millis(300), &mut change).await.is_err());
        service.signal(signal);
        until("no new connection is taken", async || {
            let fresh = Client::http(service.address());
            fresh.send(axum::http::Method::GET, "/spells/1", None).await.err()
        })
        .await;
        drop(lock);
        assert_eq!(change.await.unwrap().damage(), 321);
        assert!(service.ended(PATIENCE).await.success(), "{}", service.log());
    }
}

#[tokio::test]
async fn an_idle_connection_does_not_hold_up_the_end() {
    let directory = tempfile::tempdir().unwrap();
    let mut service = Program::start(directory.path(), &[]).await;
    let address = service.address().strip_prefix("http://").unwrap().to_owned();
    let _idle = tokio::net::TcpStream::connect(address).await.unwrap();
    service.spell(1).await.expect(200);
    service.signal(Signal::TERM);
    assert!(service.ended(Duration::from_secs(15)).await.success(), "{}", service.log());
}

#[tokio::test]
async fn a_bad_setting_ends_the_process_with_its_name_and_no_secret() {
    let directory = tempfile::tempdir().unwrap();
    for (name, value) in [
        ("PORT", "hunter2"),
        ("PORT", "65536"),
        ("REDIS_URL", "hunter2"),
        ("REDIS_URL", "rediss://:hunter2@127.0.0.1/x"),
        ("DATABASE_URL", "hunter2"),
        ("DATABASE_URL", "mysql://root:hunter2@127.0.0.1/spells"),
        ("DATABASE_URL", "postgres://root:hunter2@127.0.0.1:port/spells"),
        ("DATABASE_URL", "sqlite:no/such/directory/spellbook.db"),
        ("RUST_LOG", "hunter2=hunter2=hunter2"),
    ] {
        let (code, message) = refused(directory.path(), &[(name, value)]).await;
        assert_eq!(code, Some(1), "{name}={value}: {message}");
        assert!(message.contains(name) && !message.contains("hunter2"), "{message}");
        assert!(!message.contains("panicked"), "{message}");
    }
}

#[tokio::test]
async fn a_database_that_refuses_the_password_ends_the_process() {
    let directory = tempfile::tempdir().unwrap();
    let postgres = Postgres::start().await;
    let url = postgres.url_with("hunter2");
    let (code, message) = refused(directory.path(), &[("DATABASE_URL", &url)]).await;
    assert_eq!(code, Some(1));
    assert!(message.contains("DATABASE_URL") && message.contains("password"), "{message}");
    assert!(!message.contains("hunter2"), "{message}");
}

#[tokio::test]
async fn the_start_waits_for_the_database_a_while() {
    let directory = tempfile::tempdir().unwrap();
    let mut postgres = Postgres::start().await;
    postgres.kill();
    let url = postgres.url();
    let settings = [("DATABASE_URL", url.as_str())];
    let (service, ()) =
        tokio::join!(Program::start(directory.path(), &settings), postgres.resume());
    service.spell(1).await.expect(200);
    service.stop().await;
    postgres.kill();
    let (code, message) = refused(directory.path(), &settings).await;
    assert_eq!(code, Some(1));
    assert!(message.contains("DATABASE_URL") && !message.contains("open-sesame"), "{message}");
}

#[tokio::test]
async fn a_port_in_use_ends_the_process() {
    let directory = tempfile::tempdir().unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let (code, message) = refused(directory.path(), &[("PORT", &port)]).await;
    assert_eq!(code, Some(1));
    assert!(message.contains("PORT") && message.contains(&port), "{message}");
}

#[tokio::test]
async fn the_file_dotenv_fills_in_what_the_environment_leaves_out() {
    let directory = tempfile::tempdir().unwrap();
    let dotenv = directory.path().join(".env");
    fs::write(&dotenv, "# ours\nPORT=notaport\nDATABASE_URL=sqlite:other.db\n").unwrap();
    let service = Program::start(directory.path(), &[("PORT", "0")]).await;
    assert!(directory.path().join("other.db").exists());
    service.stop().await;
    fs::write(&dotenv, "DATABASE_URL=\"hunter2\nREDIS_URL=hunter2 hunter2\n").unwrap();
    let (code, message) = refused(directory.path(), &[]).await;
    assert_eq!(code, Some(1));
    assert!(message.contains(".env") && !message.contains("hunter2"), "{message}");
}
