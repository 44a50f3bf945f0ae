//! The README's example, compiled and run: the same lines stand here and there.

use tiered_tiers::testing::RedisServer;

scenarios! {
    the_readmes_examples_are_these_and_work_without_a_server,
    the_readmes_table_of_outages_holds_for_a_server_that_comes_back,
}

#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
struct User {
    name: String,
}

struct Db;

impl Db {
    async fn user(&self, _: u64) -> Result<User, std::io::Error> {
        Ok(User { name: "Ada".into() })
    }
}

#[rustfmt::skip]
async fn example(db: &Db) -> Result<std::sync::Arc<User>, tiered::Error> {
    // An example begins.
    use std::time::Duration;
    use tiered::{Postcard, Tiered, tiers::{Quick, Redis}};

    let cache = Tiered::new(Quick::new(100_000), Redis::new("redis://127.0.0.1/")?) // dials on first use
        .codec(Postcard)
        .namespace("shop")
        .fresh_for(Duration::from_secs(300))
        .stale_for(Duration::from_secs(3_600))
        .build()?;

    let user = cache.get_or_load("user:1", || async { db.user(1).await }).await?; // Arc<User>
    cache.invalidate("user:1").await?; // final: no load that began before can bring the old value back
    // An example ends.
    Ok(user)
}

#[rustfmt::skip]
fn chained() -> Result<(), tiered::Error> {
    use std::time::Duration;
    use tiered::{Tiered, tiers::{Memcached, Quick, Redis, RemoteTier}};
    // An example begins.
    let near = Memcached::new("cache.zone-a:11211")?;
    let far = Redis::new("redis://cache.region/")?;
    let l2 = near.then(far).near_for(Duration::from_secs(30)); // `RemoteTier::then`; three are a.then(b).then(c)
    let cache = Tiered::new(Quick::new(100_000), l2).build()?;
    // An example ends.
    drop(cache);
    Ok(())
}

#[rustfmt::skip]
fn sealed(key: [u8; 32], url: &str) -> Result<(), tiered::Error> {
    use tiered::{Postcard, SealKey, Sealed, Tiered, Zstd, tiers::{Quick, Redis}};
    // An example begins.
    let codec = Sealed::new(Zstd::new(Postcard), SealKey::new(1, key)); // key: [u8; 32], from a secret store
    let cache = Tiered::new(Quick::new(100_000), Redis::new(url)?).codec(codec).build()?;
    // An example ends.
    drop(cache);
    Ok(())
}

/// The pieces of `text` between two marks, without what each line of it begins with.
fn between<'a>(text: &'a str, begin: &str, end: &str, indent: &str) -> Vec<Vec<&'a str>> {
    let pieces = text.split(begin).skip(1).filter_map(|rest| rest.split_once(end));
    let line = |line: &'a str| line.strip_prefix(indent).unwrap_or(line);
    pieces.map(|(piece, _)| piece.lines().map(line).collect()).collect()
}

async fn the_readmes_examples_are_these_and_work_without_a_server() {
    let (ours, _) = include_str!("readme.rs").split_once("/// The pieces").unwrap();
    let ours = between(ours, "// An example begins.\n", "    // An example ends.\n", "    ");
    let readme = between(include_str!("../README.md"), "```rust\n", "```\n", "");
    assert_eq!(readme, ours);
    assert_eq!(ours.len(), 3);
    chained().unwrap();
    sealed([1; 32], "redis://127.0.0.1/").unwrap();
    // Whether a server happens to be there or not.
    assert_eq!(example(&Db).await.unwrap().name, "Ada");
}

async fn the_readmes_table_of_outages_holds_for_a_server_that_comes_back() {
    use tiered::{
        Ack, Tiered,
        tiers::{Quick, Redis},
    };
    let mut server = RedisServer::start().await.unwrap();
    let cache = Tiered::new(Quick::new(10), Redis::new(&server.url()).unwrap()).build().unwrap();
    let db = Db;
    cache.get_or_load("user:1", || async { db.user(1).await }).await.unwrap();
    server.kill().unwrap();
    assert_eq!(cache.invalidate("user:1").await.unwrap(), Ack::Pending);
    assert_eq!(
        cache.get_or_load("user:2", || async { db.user(2).await }).await.unwrap().name,
        "Ada"
    );
    server.restart().await.unwrap();
    crate::support::eventually("the server has the invalidation", || {
        format!("{cache:?}").contains("pending: 0")
    })
    .await;
}
