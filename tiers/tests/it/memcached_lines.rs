//! Memcached's connections: what ends them, whose answers they believe, how long a call may take on them.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use tiered_tiers::{
    Claim, Fill, LeaseToken, Memcached, RemoteTier, TierError,
    testing::{LinkFault, MemcachedServer, Proxy},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

use crate::timed;

const LIFE: Duration = Duration::from_secs(600);
const VALUE: Bytes = Bytes::from_static(b"v");

/// A server, or a proxy out of step, that says the same to everything.
async fn says(answer: &'static str) -> Memcached {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut buffer = [0; 1_024];
                while let Ok(1..) = stream.read(&mut buffer).await {
                    let _ = stream.write_all(answer.as_bytes()).await;
                }
            });
        }
    });
    Memcached::new(&address).unwrap()
}

#[tokio::test]
async fn a_delete_believes_no_answer_but_its_own() {
    for answer in
        ["EN\r\nEN\r\n", "MN\r\nMN\r\n", "HD\r\nHD\r\n", "HD O7\r\nHD O8\r\n", "NF\r\nNF\r\n"]
    {
        let tier = says(answer).await;
        let deleted = tier.delete(b"k").await;
        assert!(matches!(deleted, Err(TierError::Protocol(_))), "{answer:?}: {deleted:?}");
        assert!(tier.delete_many(&[b"k"]).await[0].is_err(), "{answer:?}");
        assert!(tier.set(b"k", VALUE, LIFE).await.is_err(), "{answer:?}");
        let lease = tier.lease(b"k", LeaseToken::random(), LIFE, Claim::IfFree).await;
        assert!(lease.is_err(), "{answer:?}");
    }
}

#[tokio::test]
async fn a_ping_believes_no_answer_but_its_own() {
    for answer in ["EN\r\n", "HD\r\n", "HD O0\r\n", "NF O0\r\n", "MN\r\nMN\r\n", "VA 1\r\nx\r\n"] {
        let pong = says(answer).await.ping().await;
        assert!(matches!(pong, Err(TierError::Protocol(_))), "{answer:?}: {pong:?}");
    }
    assert_eq!(says("MN\r\n").await.ping().await, Ok(()));
}

/// An answer too many has come along with the one that was asked for: it would be the next one's.
#[tokio::test]
async fn an_answer_too_many_ends_its_connection() {
    let tier = says("EN\r\nVA 1 f1 t9 O1\r\nx\r\n").await;
    for _ in 0..3 {
        let found = tier.get(b"k").await;
        assert!(matches!(found, Err(TierError::Protocol(_))), "{found:?}");
    }
}

/// A line without an end, and a value that is announced and does not come.
#[tokio::test]
async fn an_endless_answer_is_an_error() {
    static ENDLESS: [u8; 8_192] = [b'x'; 8_192];
    let tier = says(std::str::from_utf8(&ENDLESS).unwrap()).await;
    assert!(matches!(tier.get(b"k").await, Err(TierError::Protocol(_))));
    let tier = says("VA 1000000000 f1 t9 O0\r\n").await;
    assert_eq!(tier.get(b"k").await, Err(TierError::Timeout));
}

/// Each chunk of a batch answers within the deadline, and all of them together do not.
#[tokio::test]
async fn a_slow_server_costs_a_batch_one_deadline() {
    let server = MemcachedServer::start().await.unwrap();
    let proxy = Proxy::before(server.port()).await.unwrap();
    let tier = Memcached::new(&proxy.address()).unwrap();
    let names: Vec<String> = (0..8_000).map(|number| format!("k{number}")).collect();
    let keys: Vec<&[u8]> = names.iter().map(|name| name.as_bytes()).collect();
    let entries: Vec<_> = keys.iter().map(|key| (*key, VALUE, LIFE)).collect();
    tier.ping().await.unwrap();
    proxy.inject(LinkFault::Delay(Duration::from_millis(100)));
    let (got, took) = timed(tier.get_many(&keys)).await;
    assert!(took < Duration::from_millis(1_200), "get_many took {took:?}");
    assert_eq!(got.last(), Some(&Err(TierError::Timeout)));
    let (set, took) = timed(tier.set_many(&entries)).await;
    assert!(took < Duration::from_millis(1_200), "set_many took {took:?}");
    assert_eq!(set.last(), Some(&Err(TierError::Timeout)));
    let (deleted, took) = timed(tier.delete_many(&keys)).await;
    assert!(took < Duration::from_millis(1_200), "delete_many took {took:?}");
    assert_eq!(deleted.last(), Some(&Err(TierError::Timeout)));
}

/// A set over a slow line that loses each of its tries to another writer.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_set_that_keeps_losing_costs_one_deadline() {
    let server = MemcachedServer::start().await.unwrap();
    let proxy = Proxy::before(server.port()).await.unwrap();
    let timeout = Duration::from_millis(500);
    let tier = Memcached::new(&proxy.address()).unwrap().response_timeout(timeout);
    let direct = Arc::new(Memcached::new(&server.address()).unwrap());
    tier.ping().await.unwrap();
    let writer = tokio::spawn({
        let direct = Arc::clone(&direct);
        async move {
            loop {
                let _ = direct.delete(b"k").await;
                tokio::task::yield_now().await;
            }
        }
    });
    // Twenty parts of the value, of 20 ms each.
    proxy.inject(LinkFault::Throttle(50 * 1_024));
    let (set, took) = timed(tier.set(b"k", Bytes::from(vec![7; 20 * 1_024]), LIFE)).await;
    writer.abort();
    assert!(took < Duration::from_millis(1_300), "{set:?} took {took:?}");
    assert_ne!(set, Ok(Fill::Stored));
}
