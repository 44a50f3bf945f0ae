//! Logging in with any password, and showing it to nobody.

use bytes::Bytes;
use std::time::Duration;
use tiered_tiers::{Redis, RemoteTier, TierError, testing::RedisServer};

/// Every byte outside letters and digits percent-encoded, as a careful user would.
fn encoded(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            byte if byte.is_ascii_alphanumeric() => char::from(byte).to_string(),
            byte => format!("%{byte:02X}"),
        })
        .collect()
}

fn at(server: &RedisServer, credentials: &str) -> String {
    format!("redis://{credentials}@127.0.0.1:{}/", server.port())
}

#[tokio::test]
async fn passwords_of_any_characters_work_both_ways() {
    for password in [
        "plain",
        "@:/#%?",
        "a\"b'c\\d",
        "two words",
        "line\nbreak",
        "--option",
        "p%40q",
        "naïve-ß-🔑",
    ] {
        let server = RedisServer::builder().password(password).start().await.unwrap();
        let chained = Redis::new(&server.url()).unwrap().password(password);
        chained.ping().await.unwrap_or_else(|error| panic!("{password:?} chained: {error}"));
        let url = at(&server, &format!(":{}", encoded(password)));
        let in_url = Redis::new(&url).unwrap();
        in_url.ping().await.unwrap_or_else(|error| panic!("{password:?} in the URL: {error}"));
        let named = Redis::new(&server.url()).unwrap().username("default").password(password);
        named.ping().await.unwrap_or_else(|error| panic!("{password:?} with a user: {error}"));
        named.set(b"k", Bytes::new(), Duration::from_secs(9)).await.unwrap();
        assert!(server.keys_without_expiry().await.unwrap().is_empty());
    }
}

#[tokio::test]
async fn wrong_credentials_are_refused_with_the_code_alone() {
    let server = RedisServer::builder().password("right").start().await.unwrap();
    let open = RedisServer::start().await.unwrap();
    let tiers = [
        ("WRONGPASS", Redis::new(&server.url()).unwrap().password("hunter2")),
        ("WRONGPASS", Redis::new(&at(&server, "hunter1:hunter2")).unwrap()),
        ("NOAUTH", Redis::new(&server.url()).unwrap()),
        ("ERR", Redis::new(&open.url()).unwrap().password("hunter2")),
        ("ERR", Redis::new(&open.url()).unwrap().database(9_999)),
    ];
    for (code, tier) in tiers {
        for _ in 0..2 {
            match tier.get(b"k").await {
                Err(TierError::Refused(message)) => {
                    assert!(message.starts_with(code), "{message} is not {code}");
                    assert!(!message.contains("hunter"), "{message}");
                }
                other => panic!("{code}: {other:?}"),
            }
        }
    }
}

#[tokio::test]
async fn credentials_are_in_no_debug_output_and_in_no_error() {
    let mut server = RedisServer::builder().password("right").start().await.unwrap();
    let tiers = [
        Redis::new(&at(&server, "hunter1:hunter2")).unwrap(),
        Redis::new(&server.url()).unwrap().username("hunter1").password("hunter2"),
        Redis::new(&server.url()).unwrap().username("hunter1"),
    ];
    for tier in &tiers {
        let shown = format!("{tier:?} {tier:#?} {:?}", tier.check());
        assert!(!shown.contains("hunter"), "{shown}");
        assert!(
            shown.contains("127.0.0.1") && shown.contains(&server.port().to_string()),
            "{shown}"
        );
        assert!(shown.contains("connections: 2") && shown.contains("250ms"), "{shown}");
        for outcome in [tier.ping().await, tier.delete(b"k").await] {
            let shown = format!("{outcome:?} {}", outcome.clone().unwrap_err());
            assert!(!shown.contains("hunter"), "{shown}");
        }
    }
    server.kill().unwrap();
    for tier in &tiers {
        let outcome = tier.ping().await;
        let shown = format!("{outcome:?} {}", outcome.clone().unwrap_err());
        assert!(!shown.contains("hunter"), "{shown}");
    }
}
