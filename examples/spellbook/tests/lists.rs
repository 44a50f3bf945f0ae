//! `GET /spells?…`: lists are cached by their query, and every change drops all of them.

use serde_json::{Value, json};
use tiered_tiers::testing::{MemcachedServer, RedisServer};

use crate::support::{BOUND, Client, Postgres, Program, Reply, until};

const STRONG: &str = "/spells?min_damage=50";

/// The ids in a list.
fn ids(list: &Reply) -> Vec<i64> {
    let spells = list.clone().expect(200).body();
    spells.as_array().unwrap().iter().map(|spell| spell["id"].as_i64().unwrap()).collect()
}

/// The ids of all spells whose damage is at least 50, as the whole list says.
async fn strong(service: &Client) -> Vec<i64> {
    let all = service.get("/spells").await.expect(200).body();
    let strong =
        all.as_array().unwrap().iter().filter(|spell| spell["damage"].as_i64() >= Some(50));
    strong.map(|spell: &Value| spell["id"].as_i64().unwrap()).collect()
}

#[tokio::test]
async fn a_list_is_cached_until_the_next_change_on_sqlite() {
    let directory = tempfile::tempdir().unwrap();
    let service = Program::start(directory.path(), &[]).await;
    until_the_next_change(&service).await;
}

#[tokio::test]
async fn a_list_is_cached_until_the_next_change_on_postgres() {
    let (server, directory) = (Postgres::start().await, tempfile::tempdir().unwrap());
    let url = server.url();
    let service = Program::start(directory.path(), &[("DATABASE_URL", &url)]).await;
    until_the_next_change(&service).await;
}

async fn until_the_next_change(service: &Client) {
    let first = service.get(STRONG).await.expect(200).from("load");
    assert_eq!(ids(&first), strong(service).await);
    service.get(STRONG).await.expect(200).from("hit_l1");
    let created = service.post(json!({ "name": "Comet", "damage": 900 })).await.expect(201).body();
    let id = created["id"].as_i64().unwrap();
    let list = service.get(STRONG).await.expect(200).from("load");
    assert!(ids(&list).contains(&id));
    assert_eq!(ids(&list), strong(service).await);
    service.put(id, 1).await.expect(200);
    let list = service.get(STRONG).await.expect(200).from("load");
    assert!(!ids(&list).contains(&id));
    service.put(id, 901).await.expect(200);
    assert!(ids(&service.get(STRONG).await.from("load")).contains(&id));
    service.delete(id).await;
    let list = service.get(STRONG).await.expect(200).from("load");
    assert!(!ids(&list).contains(&id));
    // Nothing was changed: nothing is dropped.
    service.get(STRONG).await.from("hit_l1");
    service.put(12_345, 7).await.expect(404);
    assert_eq!(ids(&service.get(STRONG).await), strong(service).await);
}

#[tokio::test]
async fn a_query_is_the_same_however_it_is_spelled() {
    let directory = tempfile::tempdir().unwrap();
    let service = Program::start(directory.path(), &[]).await;
    let whole = service.get("/spells").await.expect(200).from("load");
    for same in ["/spells?", "/spells?min_damage=0", "/spells?limit=1000&max_damage=2147483647"] {
        assert_eq!(service.get(same).await.expect(200).from("hit_l1").text, whole.text, "{same}");
    }
    service.get("/spells?min_damage=10&max_damage=60").await.expect(200).from("load");
    service.get("/spells?max_damage=60&min_damage=10").await.expect(200).from("hit_l1");
    assert_eq!(ids(&service.get("/spells?limit=2").await.from("load")), [1, 2]);
    let nothing = service.get("/spells?min_damage=9&max_damage=3").await.expect(200);
    assert!(ids(&nothing).is_empty());
}

#[tokio::test]
async fn a_query_that_cannot_be_used_is_answered_with_a_reason() {
    let directory = tempfile::tempdir().unwrap();
    let service = Program::start(directory.path(), &[]).await;
    for query in [
        "limit=0",
        "limit=1001",
        "limit=-1",
        "limit=x",
        "limit=",
        "limit=1&limit=2",
        "damage=3",
        "min_damage=99999999999999999999",
        "min_damage=1.5",
        "%FF=1",
        "*",
    ] {
        let refused = service.get(&format!("/spells?{query}")).await.expect(422).body();
        assert!(refused["error"].as_str().is_some_and(|why| !why.is_empty()), "{query}");
    }
}

#[tokio::test]
async fn processes_share_lists_and_a_change_drops_them_for_all() {
    let (server, directory) = (RedisServer::start().await.unwrap(), tempfile::tempdir().unwrap());
    let settings = [("REDIS_URL", server.url())];
    let settings = settings.each_ref().map(|(name, value)| (*name, value.as_str()));
    let first = Program::start(directory.path(), &settings).await;
    first.get(STRONG).await.expect(200).from("load");
    // The first answers before it has stored.
    let second = until("it is stored", async || {
        let other = Program::start(directory.path(), &settings).await;
        (other.get(STRONG).await.expect(200).source() == "hit_l2").then_some(other)
    })
    .await;
    // What the second has in its own first tier it may keep for ten seconds; Redis has nothing more.
    let weak = strong(&first).await[0];
    first.put(weak, 1).await.expect(200);
    let third = Program::start(directory.path(), &settings).await;
    let list = third.get(STRONG).await.expect(200).from("load");
    assert!(!ids(&list).contains(&weak));
    drop(second);
}

#[tokio::test]
async fn lists_are_right_while_redis_is_dead_and_after() {
    let (server, directory) = (RedisServer::start().await.unwrap(), tempfile::tempdir().unwrap());
    let url = server.url();
    let service = Program::start(directory.path(), &[("REDIS_URL", &url)]).await;
    service.get(STRONG).await.expect(200);
    server.freeze().unwrap();
    let weak = strong(&service).await[0];
    service.put(weak, 1).await.in_time(BOUND).expect(200);
    let list = service.get(STRONG).await.in_time(BOUND).expect(200);
    assert!(!ids(&list).contains(&weak), "an old list while Redis is frozen");
    server.thaw().unwrap();
    until("what is pending was replayed", async || {
        let health = service.get("/health").await.expect(200).body();
        (health["pending_invalidations"] == 0).then_some(())
    })
    .await;
    let other = Program::start(directory.path(), &[("REDIS_URL", &url)]).await;
    assert!(!ids(&other.get(STRONG).await).contains(&weak), "it was in Redis all the same");
}

/// Its servers do not know their keys: a list could not be dropped.
#[tokio::test]
async fn over_memcached_lists_come_from_the_database() {
    let (server, directory) =
        (MemcachedServer::start().await.unwrap(), tempfile::tempdir().unwrap());
    let address = server.address();
    let service = Program::start(directory.path(), &[("MEMCACHED_URL", &address)]).await;
    for damage in [80, 10, 90] {
        service.put(2, damage).await.expect(200);
        let list = service.get(STRONG).await.expect(200);
        assert_eq!(list.header("x-cache"), None);
        assert_eq!(ids(&list).contains(&2), damage >= 50);
    }
}
