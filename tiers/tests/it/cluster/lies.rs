//! Nodes that answer nonsense, by malice or by mistake, and those that put off or break off.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use tiered_tiers::{
    Claim, Fill, LeaseToken, Redis, RemoteTier, TierError,
    testing::{Proxy, RedisServer},
};

use super::LIFE;
use crate::{every_operation, servers::Scripted, timed};

fn text(text: &str) -> String {
    format!("${}\r\n{text}\r\n", text.len())
}

/// A map by which every slot is at this port.
fn all_at(port: u16) -> String {
    format!("*1\r\n*3\r\n:0\r\n:16383\r\n*2\r\n{}:{port}\r\n", text("127.0.0.1"))
}

/// Nodes that answer nonsense, by malice or by mistake: an error, in time, and no panic.
#[tokio::test]
async fn hostile_answers_end_in_an_error() {
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let silent = silent.local_addr().unwrap().port();
    let answers: Vec<(&str, String)> = vec![
        ("a loop", "-MOVED 1 :SELF\r\n".into()),
        ("a loop of asking", "-ASK 1 127.0.0.1:SELF\r\n".into()),
        ("garbage", "-MOVED hunter2\r\n".into()),
        ("no port", "-MOVED 1 127.0.0.1:\r\n".into()),
        ("another garbage", "-ASK 1 \u{f6}:1\r\n".into()),
        ("nothing", "-MOVED\r\n".into()),
        ("a closed port", format!("-MOVED 1 127.0.0.1:{closed}\r\n")),
        ("a silent port", format!("-MOVED 1 127.0.0.1:{silent}\r\n")),
        ("for ever down", "-CLUSTERDOWN hunter2\r\n".into()),
        ("for ever not yet", "-TRYAGAIN hunter2\r\n".into()),
        ("for ever loading", "-LOADING hunter2\r\n".into()),
        ("no script", "-NOSCRIPT hunter2\r\n".into()),
        ("another kind", "+OK\r\n".into()),
    ];
    for (what, answer) in answers {
        let node = Scripted::start(move |said, port| match said {
            "CLUSTER SLOTS" => all_at(port),
            _ => answer.replace("SELF", &port.to_string()),
        });
        let node = node.await;
        let tier = Redis::cluster([format!("redis://127.0.0.1:{}", node.port)]).unwrap();
        let failed = every_operation(&tier).await;
        assert!(failed.len() >= 6, "{what}: {failed:?}");
        assert!(!format!("{failed:?}").contains("hunter2"), "{failed:?}");
        if what == "a loop" {
            assert_eq!(tier.get(b"k").await, Err(TierError::Refused("MOVED".into())));
        }
        let (many, took) = timed(tier.get_many(&[b"a", b"b"])).await;
        assert!(many.iter().all(Result::is_err), "{what}: {many:?}");
        assert!(took < Duration::from_secs(3), "{what} took {took:?}");
    }
}

#[tokio::test]
async fn a_hostile_map_ends_in_an_error() {
    let node = |port: &str| format!("*2\r\n{}:{port}\r\n", text("127.0.0.1"));
    let many = (0..3_000)
        .map(|slot| format!("*3\r\n:{slot}\r\n:{slot}\r\n{}", node(&(slot + 1).to_string())));
    for map in [
        "*0\r\n".to_owned(),
        "*-1\r\n".into(),
        "+OK\r\n".into(),
        "-ERR hunter2\r\n".into(),
        "*1\r\n*0\r\n".into(),
        "*1\r\n:1\r\n".into(),
        format!("*1\r\n*3\r\n:0\r\n:16384\r\n{}", node("1")),
        format!("*1\r\n*3\r\n:-1\r\n:5\r\n{}", node("1")),
        format!("*1\r\n*3\r\n:0\r\n:5\r\n{}", node("70000")),
        format!("*1\r\n*3\r\n:0\r\n:5\r\n{}", node("0")),
        format!("*3000\r\n{}", many.collect::<String>()),
    ] {
        let answer = map.clone();
        let node = Scripted::start(move |_, _| answer.clone()).await;
        let tier = Redis::cluster([format!("redis://127.0.0.1:{}", node.port)]).unwrap();
        let failed = every_operation(&tier).await;
        assert_eq!(failed.len(), 12, "{map}: {failed:?}");
        assert!(!format!("{failed:?}").contains("hunter2"), "{failed:?}");
    }
}

/// Sent to a new node each time: only so many are followed, and only so many remembered.
#[tokio::test]
async fn a_chase_from_node_to_node_ends() {
    let node = Scripted::start(|said, port| match said {
        "CLUSTER SLOTS" => all_at(port),
        _ => format!("-MOVED 1 127.0.0.{}:{port}\r\n", 2 + fastrand::u8(..250)),
    });
    let node = node.await;
    let tier = Redis::cluster([format!("redis://127.0.0.1:{}", node.port)]).unwrap();
    for _ in 0..20 {
        let (outcome, took) = timed(tier.get(b"k")).await;
        assert!(outcome.is_err());
        assert!(took < Duration::from_secs(2), "{took:?}");
    }
}

/// Each says that nothing was executed, so even a fill is sent again.
#[tokio::test]
async fn what_is_put_off_is_sent_again() {
    for code in ["CLUSTERDOWN", "LOADING", "MASTERDOWN", "READONLY"] {
        let asked = Arc::new(AtomicUsize::new(0));
        let node = Scripted::start({
            let asked = Arc::clone(&asked);
            move |said, port| match said {
                "CLUSTER SLOTS" => all_at(port),
                said if said.starts_with("INFO") => "-ERR\r\n".into(),
                _ if asked.fetch_add(1, Ordering::SeqCst) < 2 => format!("-{code} wait\r\n"),
                _ => ":1\r\n".into(),
            }
        });
        let node = node.await;
        let tier = Redis::cluster([format!("redis://127.0.0.1:{}", node.port)]).unwrap();
        let fill = tier.fill(b"k", LeaseToken::random(), Bytes::new(), LIFE).await;
        assert_eq!(fill, Ok(Fill::Stored), "{code}");
        assert_eq!(asked.load(Ordering::SeqCst), 3, "{code}");
    }
}

/// The request's fate is unknown then: the rules of a single server hold for a node too.
#[tokio::test]
async fn cut_in_the_middle_of_a_request() {
    let server = RedisServer::start().await.unwrap();
    let proxy = Proxy::before(server.port()).await.unwrap();
    let port = proxy.port();
    let seed = Scripted::start(move |_, _| all_at(port)).await;
    let tier = Redis::cluster([format!("redis://127.0.0.1:{}", seed.port)]).unwrap().connections(1);
    let (token, value) = (LeaseToken::random(), Bytes::from_static(b"v"));
    tier.set(b"k", value.clone(), LIFE).await.unwrap();
    proxy.cut_next_request();
    assert_eq!(tier.get(b"k").await.unwrap().unwrap().bytes, "v");
    proxy.cut_next_request();
    assert_eq!(tier.get_many(&[b"k", b"none"]).await.len(), 2);
    proxy.cut_next_request();
    tier.release(b"k", token).await.unwrap();
    proxy.cut_next_request();
    tier.delete(b"k").await.unwrap();
    proxy.cut_next_request();
    tier.set(b"k", value.clone(), LIFE).await.unwrap();
    proxy.cut_next_request();
    let lease = tier.lease(b"k", token, LIFE, Claim::IfFree).await;
    assert!(matches!(lease, Err(TierError::Unreachable(_))), "{lease:?}");
    tier.lease(b"k", token, LIFE, Claim::IfFree).await.unwrap();
    proxy.cut_next_request();
    let fill = tier.fill(b"k", token, value, LIFE).await;
    assert!(matches!(fill, Err(TierError::Unreachable(_))), "{fill:?}");
    assert!(tier.get(b"k").await.is_ok());
}
