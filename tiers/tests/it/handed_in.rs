//! Connections that the application made: each kind of redis-rs's, through the suite and through bad days.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use redis::{
    AsyncConnectionConfig, Client,
    aio::{ConnectionLike, ConnectionManager, ConnectionManagerConfig, MultiplexedConnection},
    cluster::ClusterClient,
};
use tiered_tiers::{
    Fill, LeaseToken, Redis, RemoteTier, TierError,
    testing::{LinkFault, Proxy, RedisCluster, RedisServer, remote_tier_conforms},
};

use crate::{every_operation, timed, wait};

const LIFE: Duration = Duration::from_secs(600);

async fn plain(url: &str) -> MultiplexedConnection {
    let config = AsyncConnectionConfig::new().set_response_timeout(None);
    let client = Client::open(url).unwrap();
    client.get_multiplexed_async_connection_with_config(&config).await.unwrap()
}

async fn conforms(connection: impl ConnectionLike + Clone + Send + Sync + 'static) {
    let tier = Redis::from_connection(connection).response_timeout(Duration::from_secs(1));
    remote_tier_conforms(Arc::new(tier)).await;
}

#[tokio::test]
async fn a_multiplexed_connection_conforms() {
    let server = RedisServer::start().await.unwrap();
    conforms(plain(&server.url()).await).await;
    conforms(plain(&format!("{}?protocol=resp3", server.url())).await).await;
}

#[tokio::test]
async fn a_managed_connection_conforms() {
    let server = RedisServer::start().await.unwrap();
    let client = Client::open(server.url()).unwrap();
    conforms(ConnectionManager::new(client).await.unwrap()).await;
}

#[tokio::test]
async fn a_clusters_client_conforms_and_is_not_cleared() {
    let cluster = RedisCluster::start().await.unwrap();
    for protocol in ["", "?protocol=resp3"] {
        let seeds: Vec<_> =
            (0..3).map(|node| format!("{}{protocol}", cluster.node(node).url())).collect();
        let client = ClusterClient::new(seeds).unwrap();
        let connection = client.get_async_connection().await.unwrap();
        let tier =
            Arc::new(Redis::from_connection(connection).response_timeout(Duration::from_secs(1)));
        let refused = tier.clear(b"", &|_| {}).await;
        assert!(matches!(refused, Err(TierError::Unsupported(_))), "{refused:?}");
        assert!(!tier.abilities().clears);
        remote_tier_conforms(tier.clone()).await;
        let keys: Vec<&[u8]> = vec![b"a", b"b", b"c", b"none"];
        for key in &keys[..3] {
            tier.set(key, Bytes::copy_from_slice(key), LIFE).await.unwrap();
        }
        let found = tier.get_many(&keys).await;
        for (key, found) in keys.iter().zip(found) {
            let found = found.unwrap().map(|found| found.bytes);
            assert_eq!(found.as_deref(), (key != b"none").then_some(*key));
        }
        assert_eq!(tier.delete_many(&keys).await, vec![Ok(()); 4]);
    }
    // A connection to one node of it: a walk there would see a third, and report success.
    let node = Redis::from_connection(plain(&cluster.node(0).url()).await);
    let refused = node.clear(b"", &|_| {}).await;
    assert!(matches!(refused, Err(TierError::Unsupported(_))), "{refused:?}");
}

/// The tier's own deadline holds, whatever the connection's is.
#[tokio::test]
async fn a_frozen_server_is_not_waited_for() {
    let server = RedisServer::start().await.unwrap();
    let tier = Redis::from_connection(plain(&server.url()).await)
        .response_timeout(Duration::from_millis(100));
    tier.ping().await.unwrap();
    server.freeze().unwrap();
    let (outcome, took) = timed(tier.get(b"k")).await;
    assert_eq!(outcome, Err(TierError::Timeout));
    assert!(took < Duration::from_millis(400), "{took:?}");
    let failed = every_operation(&tier).await;
    assert!(failed.len() == 12 && failed.iter().all(|(_, error, _)| *error == TierError::Timeout));
    server.thaw().unwrap();
    wait(50).await;
    assert_eq!(every_operation(&tier).await, [], "it is as good as before");
}

/// What is lost is not sent again: only the connection knows whether it was.
#[tokio::test]
async fn nothing_is_repeated() {
    let server = RedisServer::start().await.unwrap();
    let proxy = Proxy::before(server.port()).await.unwrap();
    let client = Client::open(format!("redis://{}/", proxy.address())).unwrap();
    let config = ConnectionManagerConfig::new().set_number_of_retries(3);
    let connection = ConnectionManager::new_with_config(client, config).await.unwrap();
    let tier = Redis::from_connection(connection).response_timeout(Duration::from_secs(1));
    tier.ping().await.unwrap();
    for _ in 0..3 {
        proxy.cut_next_request();
        assert!(matches!(tier.get(b"k").await, Err(TierError::Unreachable(_))));
        // The manager reconnects by itself.
        let start = std::time::Instant::now();
        while tier.ping().await.is_err() {
            assert!(start.elapsed() < Duration::from_secs(5), "the manager has given up");
            wait(10).await;
        }
        proxy.cut_next_request();
        let set = tier.set(b"k", Bytes::from_static(b"v"), LIFE).await;
        assert!(matches!(set, Err(TierError::Unreachable(_))), "{set:?}");
        while tier.ping().await.is_err() {
            assert!(start.elapsed() < Duration::from_secs(5), "the manager has given up");
            wait(10).await;
        }
    }
}

/// A manager mends itself between two steps of a walk; the cursor of the old server means nothing to the new.
#[tokio::test]
async fn a_walk_does_not_go_on_at_another_server() {
    let (first, second) =
        (RedisServer::start().await.unwrap(), RedisServer::start().await.unwrap());
    let proxy = Arc::new(Proxy::before(first.port()).await.unwrap());
    let direct = Redis::new(&first.url()).unwrap();
    let keys: Vec<String> = (0..3_000).map(|number| format!("p:{number}")).collect();
    let entries: Vec<(&[u8], Bytes, Duration)> =
        keys.iter().map(|key| (key.as_bytes(), Bytes::new(), LIFE)).collect();
    for tier in [&direct, &Redis::new(&second.url()).unwrap()] {
        assert!(tier.set_many(&entries).await.into_iter().all(|set| set == Ok(Fill::Stored)));
    }
    let switched = Switching {
        first: plain(&format!("redis://{}/", proxy.address())).await,
        second: plain(&second.url()).await,
        steps: Arc::default(),
    };
    let tier = Redis::from_connection(switched).response_timeout(Duration::from_secs(1));
    let cleared = tier.clear(b"p:", &|_| {}).await;
    assert!(
        matches!(&cleared, Err(TierError::Unreachable(why)) if why.contains("replaced")),
        "{cleared:?}"
    );
    proxy.inject(LinkFault::Reset);
    let plain = Redis::from_connection(plain(&second.url()).await);
    plain.clear(b"p:", &|_| {}).await.unwrap();
    assert_eq!(plain.get(b"p:1").await, Ok(None));
}

/// A connection that leads elsewhere from its tenth request on.
#[derive(Clone)]
struct Switching {
    first: MultiplexedConnection,
    second: MultiplexedConnection,
    steps: Arc<std::sync::atomic::AtomicUsize>,
}

impl Switching {
    fn now(&mut self) -> &mut MultiplexedConnection {
        let step = self.steps.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        if step < 10 { &mut self.first } else { &mut self.second }
    }
}

impl ConnectionLike for Switching {
    fn req_packed_command<'a>(
        &'a mut self,
        command: &'a redis::Cmd,
    ) -> redis::RedisFuture<'a, redis::Value> {
        self.now().req_packed_command(command)
    }

    fn req_packed_commands<'a>(
        &'a mut self,
        commands: &'a redis::Pipeline,
        offset: usize,
        count: usize,
    ) -> redis::RedisFuture<'a, Vec<redis::Value>> {
        self.now().req_packed_commands(commands, offset, count)
    }

    fn get_db(&self) -> i64 {
        0
    }
}

/// The codes of refusals survive, and nothing else of them.
#[tokio::test]
async fn a_refusal_is_told_by_its_code() {
    let server = RedisServer::start().await.unwrap();
    let mut connection = plain(&server.url()).await;
    let tier = Redis::from_connection(connection.clone());
    let () =
        redis::cmd("LPUSH").arg("list").arg("hunter2").query_async(&mut connection).await.unwrap();
    assert_eq!(tier.get(b"list").await, Err(TierError::Refused("WRONGTYPE".into())));
    let () = redis::cmd("SCRIPT").arg("FLUSH").query_async(&mut connection).await.unwrap();
    assert_eq!(tier.release(b"k", LeaseToken::random()).await, Ok(()));
    assert!(!format!("{tier:?}").contains("127.0.0.1"));
}
