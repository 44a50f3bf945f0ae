//! The README's example, compiled and run: the same lines stand here and there.

use tiered_tiers::testing::RedisServer;

scenarios! {
    the_readmes_example_is_this_one_and_works_without_a_server,
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
    // The example begins.
    use std::time::Duration;
    use tiered::{Postcard, Tiered, tiers::{Moka, Redis}};

    let cache = Tiered::new(Moka::new(100_000), Redis::new("redis://127.0.0.1/")?) // dials on first use
        .codec(Postcard)
        .namespace("shop")
        .fresh_for(Duration::from_secs(300))
        .stale_for(Duration::from_secs(3_600))
        .build()?;

    let user = cache.get_or_load("user:1", || async { db.user(1).await }).await?; // Arc<User>
    cache.invalidate("user:1").await?; // final: no load that began before can bring the old value back
    // The example ends.
    Ok(user)
}

async fn the_readmes_example_is_this_one_and_works_without_a_server() {
    let source = include_str!("readme.rs");
    let (_, rest) = source.split_once("// The example begins.\n").unwrap();
    let (lines, _) = rest.split_once("    // The example ends.\n").unwrap();
    let lines: Vec<&str> =
        lines.lines().map(|line| line.strip_prefix("    ").unwrap_or(line)).collect();
    let readme = include_str!("../README.md");
    let (_, rest) = readme.split_once("```rust\n").unwrap();
    let (block, _) = rest.split_once("```\n").unwrap();
    assert_eq!(block.lines().collect::<Vec<_>>(), lines);
    // Whether a server happens to be there or not.
    assert_eq!(example(&Db).await.unwrap().name, "Ada");
}

async fn the_readmes_table_of_outages_holds_for_a_server_that_comes_back() {
    use tiered::{
        Ack, Tiered,
        tiers::{Moka, Redis},
    };
    let mut server = RedisServer::start().await.unwrap();
    let cache = Tiered::new(Moka::new(10), Redis::new(&server.url()).unwrap()).build().unwrap();
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
