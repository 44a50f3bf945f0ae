//! Each of our tiers runs the conformance suite of L2; what is particular to one follows.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use tiered_tiers::{
    Memcached, Memory, Redis, RemoteTier,
    testing::{MemcachedServer, RedisServer, remote_tier_conforms},
};

const LIFE: Duration = Duration::from_secs(600);

#[tokio::test]
async fn memory_conforms_on_one_thread() {
    remote_tier_conforms(Arc::new(Memory::new())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn memory_conforms_on_several_threads() {
    remote_tier_conforms(Arc::new(Memory::new())).await;
}

#[tokio::test]
async fn redis_conforms_on_one_thread() {
    let server = RedisServer::start().await.unwrap();
    remote_tier_conforms(Arc::new(Redis::new(&server.url()).unwrap())).await;
    assert_eq!(server.keys_without_expiry().await.unwrap(), Vec::<Vec<u8>>::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_conforms_on_several_threads() {
    let server = RedisServer::start().await.unwrap();
    remote_tier_conforms(Arc::new(Redis::new(&server.url()).unwrap().connections(4).database(0)))
        .await;
    assert_eq!(server.keys_without_expiry().await.unwrap(), Vec::<Vec<u8>>::new());
}

#[tokio::test]
async fn redis_reports_a_key_that_lives_for_ever_and_its_tester_finds_it() {
    let server = RedisServer::start().await.unwrap();
    let client = redis::Client::open(server.url()).unwrap();
    let mut connection = client.get_multiplexed_async_connection().await.unwrap();
    let () = redis::cmd("SET").arg("ever").arg("v").query_async(&mut connection).await.unwrap();
    let tier = Redis::new(&server.url()).unwrap();
    assert_eq!(tier.get(b"ever").await.unwrap().unwrap().remaining, None);
    assert_eq!(server.keys_without_expiry().await.unwrap(), vec![b"ever".to_vec()]);
}

#[tokio::test]
async fn redis_databases_are_apart() {
    let server = RedisServer::start().await.unwrap();
    let third = Redis::new(&format!("{}3", server.url())).unwrap();
    let fourth = Redis::new(&server.url()).unwrap().database(4);
    third.set(b"k", Bytes::from_static(b"3"), LIFE).await.unwrap();
    assert_eq!(fourth.get(b"k").await, Ok(None));
    assert!(third.get(b"k").await.unwrap().is_some());
}

#[tokio::test]
async fn memcached_conforms_on_one_thread() {
    let server = MemcachedServer::start().await.unwrap();
    remote_tier_conforms(Arc::new(Memcached::new(&server.address()).unwrap())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_memcacheds_conform_on_several_threads() {
    let mut servers = Vec::new();
    for _ in 0..3 {
        servers.push(MemcachedServer::start().await.unwrap());
    }
    let addresses: Vec<String> = servers.iter().map(MemcachedServer::address).collect();
    let tier = Memcached::new(&addresses.join(",")).unwrap().connections(2);
    remote_tier_conforms(Arc::new(tier)).await;
}
