//! Buses: the suite, run by each of them, and what befalls a log on real servers.

mod chaos;
mod lines;
mod losses;
mod model;
mod moves;
mod reader;
mod volume;

use tiered_tiers::{
    Bus, LocalBus,
    testing::{FaultyBus, RedisCluster, RedisServer, bus_conforms},
};

use self::reader::patient;

#[tokio::test]
async fn the_local_bus_conforms_on_one_thread() {
    bus_conforms(&LocalBus::new()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_faulty_bus_without_faults_conforms() {
    bus_conforms(&FaultyBus::new(LocalBus::new())).await;
}

#[tokio::test]
async fn the_redis_bus_conforms_on_one_thread() {
    let server = RedisServer::start().await.unwrap();
    bus_conforms(&patient(&server.url()).bus()).await;
    assert_eq!(server.keys_without_expiry().await.unwrap(), Vec::<Vec<u8>>::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_redis_bus_conforms_on_several_threads_with_several_logs() {
    let server = RedisServer::start().await.unwrap();
    let bus = patient(&server.url()).database(3).bus().logs(4).max_messages(10_000);
    bus_conforms(&FaultyBus::new(bus)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_redis_bus_conforms_on_a_cluster() {
    let cluster = RedisCluster::start().await.unwrap();
    let bus = patient(&cluster.url()).bus().logs(4);
    bus_conforms(&bus).await;
    for node in 0..3 {
        let node = cluster.node(node);
        assert_eq!(node.keys_without_expiry().await.unwrap(), Vec::<Vec<u8>>::new());
    }
}

/// Whoever holds the bus as a trait object has it whole.
#[tokio::test]
async fn a_shared_bus_conforms() {
    let bus: std::sync::Arc<dyn Bus> = std::sync::Arc::new(LocalBus::new());
    bus_conforms(&bus).await;
}
