//! The same service over memcached.

use tiered_tiers::testing::MemcachedServer;

use crate::support::{BOUND, Program, until};

#[tokio::test]
async fn two_processes_share_what_one_has_loaded() {
    let directory = tempfile::tempdir().unwrap();
    let (one, two) =
        (MemcachedServer::start().await.unwrap(), MemcachedServer::start().await.unwrap());
    let servers = format!("{},{}", one.address(), two.address());
    let settings = [("MEMCACHED_URL", servers.as_str())];
    let first = Program::start(directory.path(), &settings).await;
    for id in 1..=3 {
        first.spell(id).await.expect(200).from("load");
    }
    let second = Program::start(directory.path(), &settings).await;
    for id in 1..=3 {
        // The first answers before it has stored.
        until("it is stored", async || {
            let reply = second.spell(id).await.expect(200);
            (reply.source() != "load").then_some(())
        })
        .await;
    }
    second.put(1, 77).await.expect(200);
    let third = Program::start(directory.path(), &settings).await;
    assert_eq!(third.spell(1).await.expect(200).damage(), 77);
}

#[tokio::test]
async fn a_dead_memcached_costs_no_answer() {
    let directory = tempfile::tempdir().unwrap();
    let mut server = MemcachedServer::start().await.unwrap();
    let address = server.address();
    let service = Program::start(directory.path(), &[("MEMCACHED_URL", &address)]).await;
    service.spell(1).await.expect(200);
    server.kill().unwrap();
    assert_eq!(service.put(1, 501).await.in_time(BOUND).expect(200).damage(), 501);
    assert_eq!(service.spell(1).await.in_time(BOUND).expect(200).damage(), 501);
    service.spell(2).await.in_time(BOUND).expect(200);
    server.restart().await.unwrap();
    until("it works again", async || {
        let health = service.get("/health").await.expect(200).body();
        (health["status"] == "ok").then_some(())
    })
    .await;
    assert_eq!(service.spell(1).await.expect(200).damage(), 501);
}
