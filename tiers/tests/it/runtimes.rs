//! Whose runtime it is: successive ones, none, and a thousand callers at once on one.

use std::{
    future::Future,
    pin::pin,
    sync::Arc,
    task::{Context, Poll, Waker},
    time::Duration,
};

use bytes::Bytes;
use tiered_tiers::{
    Memcached, Redis, RemoteTier, TierError,
    testing::{MemcachedServer, Proxy, RedisServer},
};
use tokio::runtime::{Builder, Runtime};

use crate::{servers::stat, through, wait};

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

#[test]
fn successive_runtimes_dial_anew() {
    let outer = runtime();
    let server = outer.block_on(RedisServer::start()).unwrap();
    let tier = Redis::new(&server.url()).unwrap();
    for round in 0..100_u8 {
        let runtime = if round % 2 == 0 {
            runtime()
        } else {
            Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap()
        };
        runtime.block_on(async {
            tier.set(b"k", Bytes::copy_from_slice(&[round]), Duration::from_secs(9)).await.unwrap();
            assert_eq!(tier.get(b"k").await.unwrap().unwrap().bytes, [round].as_slice());
        });
    }
}

/// A runtime that nobody drives keeps its connections, and they serve when it is driven again.
#[test]
fn two_runtimes_at_once_do_not_share_connections() {
    let (first, second) = (runtime(), runtime());
    let server = first.block_on(RedisServer::start()).unwrap();
    let tier = Redis::new(&server.url()).unwrap().connections(1);
    for _ in 0..10 {
        first.block_on(tier.ping()).unwrap();
        second.block_on(tier.ping()).unwrap();
    }
}

#[test]
fn outside_a_runtime_is_an_error_and_no_panic() {
    let tier = Redis::new("redis://127.0.0.1:1/").unwrap();
    let mut context = Context::from_waker(Waker::noop());
    let mut get = pin!(tier.get(b"k"));
    assert_eq!(get.as_mut().poll(&mut context), Poll::Ready(Err(TierError::NoRuntime)));
    let mut clear = pin!(tier.clear(b"k", &|_| {}));
    assert_eq!(clear.as_mut().poll(&mut context), Poll::Ready(Err(TierError::NoRuntime)));
    let mut set = pin!(tier.set(b"k", Bytes::new(), Duration::from_secs(1)));
    assert_eq!(set.as_mut().poll(&mut context), Poll::Ready(Err(TierError::NoRuntime)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_first_users_share_the_dials() {
    let server = RedisServer::start().await.unwrap();
    for connections in [1, 3] {
        let proxy = Proxy::before(server.port()).await.unwrap();
        let tier = Arc::new(
            Redis::new(&through(&proxy))
                .unwrap()
                .connections(connections)
                .response_timeout(Duration::from_secs(5)),
        );
        let users: Vec<_> = (0..1_000)
            .map(|user| {
                let tier = Arc::clone(&tier);
                tokio::spawn(async move { tier.get(format!("k{user}").as_bytes()).await })
            })
            .collect();
        for user in users {
            assert_eq!(user.await.unwrap(), Ok(None));
        }
        assert_eq!(proxy.dials(), connections);
    }
}

/// After a failed dial the crowd shares its error too.
#[tokio::test]
async fn a_failed_dial_is_not_repeated_by_everybody() {
    let server = RedisServer::builder().password("right").start().await.unwrap();
    let proxy = Proxy::before(server.port()).await.unwrap();
    let tier = Arc::new(Redis::new(&through(&proxy)).unwrap().password("wrong").connections(1));
    let users: Vec<_> = (0..1_000)
        .map(|_| {
            let tier = Arc::clone(&tier);
            tokio::spawn(async move { tier.ping().await })
        })
        .collect();
    for user in users {
        assert!(matches!(user.await.unwrap(), Err(TierError::Refused(_))));
    }
    assert!(proxy.dials() <= 5, "{} dials", proxy.dials());
}

/// The one whose turn it is to dial is dropped: the next takes over, nobody waits for ever.
#[tokio::test]
async fn a_dropped_dialler_hands_its_turn_on() {
    let server = RedisServer::start().await.unwrap();
    let tier = Arc::new(Redis::new(&server.url()).unwrap().connections(1));
    for _ in 0..50 {
        let fresh = Arc::new(Redis::new(&server.url()).unwrap().connections(1));
        let mut diallers = Vec::new();
        for _ in 0..10 {
            let tier = Arc::clone(&fresh);
            diallers.push(tokio::spawn(async move { tier.ping().await }));
        }
        tokio::task::yield_now().await;
        for dialler in diallers.drain(..9) {
            dialler.abort();
        }
        diallers.pop().unwrap().await.unwrap().unwrap();
    }
    tier.ping().await.unwrap();
}

/// A runtime for each request, say: what it has dialled is closed when it ends.
#[test]
fn ended_runtimes_leave_no_connections_to_memcached() {
    let own = runtime();
    let server = own.block_on(MemcachedServer::start()).unwrap();
    let tier = Memcached::new(&server.address()).unwrap();
    let held = runtime();
    held.block_on(tier.ping()).unwrap();
    for round in 0..30 {
        let ended = if round % 2 == 0 {
            runtime()
        } else {
            Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap()
        };
        ended.block_on(async {
            let get = || tier.get(b"k");
            let all = tokio::join!(get(), get(), get(), get(), get(), get(), get(), get());
            assert_eq!(all.0, Ok(None));
        });
    }
    own.block_on(async {
        // One of the runtime that lives, one that asks; the server closes them when it comes to it.
        for _ in 0..500 {
            if stat(&server, "curr_connections").await <= 4 {
                return;
            }
            wait(10).await;
        }
        panic!("{} connections", stat(&server, "curr_connections").await);
    });
    held.block_on(tier.ping()).unwrap();
}

/// Name resolution takes a thread, and the system has none left.
#[test]
fn a_resolver_without_threads_is_an_error_and_no_panic() {
    let runtime =
        Builder::new_current_thread().enable_all().thread_stack_size(1 << 46).build().unwrap();
    let tiers: [&dyn RemoteTier; 2] =
        [&Memcached::new("localhost:1").unwrap(), &Redis::new("redis://localhost:1/").unwrap()];
    for tier in tiers {
        let pong = runtime.block_on(tier.ping());
        assert!(matches!(pong, Err(TierError::Unreachable(_))), "{}: {pong:?}", tier.name());
    }
}
