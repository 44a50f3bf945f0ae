//! Hostile keys: whatever a key is made of, what is stored under it is read back by it and by no other, and
//! nothing of it is a command to the server.

use std::{collections::HashSet, time::Duration};

use proptest::{
    collection::vec,
    prelude::*,
    sample::select,
    test_runner::{Config, TestCaseError, TestRunner},
};
use tiered::{
    Ack, Jitter, Key, Tiered,
    tiers::{Memcached, Memory, Moka, Redis, RemoteTier},
};
use tiered_tiers::testing::{MemcachedServer, RedisServer};

/// Parts that mean something to somebody: to a protocol, to the engine, to a pattern, to a reader.
const PARTS: [&[u8]; 40] = [
    b"",
    b"a",
    b"b",
    b"A",
    b":",
    b"::",
    b" ",
    b"\t",
    b"\r\n",
    b"\n",
    b"\0",
    b"\x7f",
    b"\xff",
    b"\x80",
    b"{",
    b"}",
    b"{a}",
    b"{a}:l",
    b":l",
    b"{tiered:a}:l",
    b"tiered:",
    b"tiered:a",
    b"%",
    b"%%",
    b"%2",
    b"%25",
    b"%7B",
    b"%7b",
    b"%7D:l",
    b"%20",
    b"%beside",
    b"%25beside",
    b"+",
    b"*",
    b"?[a]\\",
    b"\r\nflush_all\r\n",
    b" 0 0 1\r\n",
    b"\r\nFLUSHALL\r\n",
    b"{#}",
    b"\xf0\x9f\xa6\x80",
];

/// Each pair of these has been spelled alike by somebody.
const LOOK_ALIKES: [&[u8]; 34] = [
    b"",
    b"a",
    b"aa",
    b"A",
    b"a ",
    b" a",
    b"a\0",
    b"\0a",
    b"a\r\n",
    b"a\n",
    b"{a}",
    b"{a}:l",
    b"{tiered:a}:l",
    b"a:l",
    b"a%beside",
    b"a%25beside",
    b"a%2525beside",
    b"%7Ba%7D:l",
    b"%7ba%7d:l",
    b"a%20",
    b"a+",
    b"a%",
    b"a%0",
    b"a%00",
    b":a",
    b"tiered:a",
    b"a:b",
    b"a::b",
    b"a%3Ab",
    b"YQ==",
    b"\xc3\xa9",
    b"e\xcc\x81",
    b"\xe9",
    b"%C3%A9",
];

fn any_key() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        3 => vec(select(&PARTS[..]), 0..6).prop_map(|parts| parts.concat()),
        2 => vec(any::<u8>(), 0..40),
        1 => any::<u8>().prop_map(|byte| vec![byte]),
        1 => "\\PC{0,20}".prop_map(String::into_bytes),
        // About where a key is too long for memcached, with and without what is put before and behind.
        1 => (170_usize..260, select(&b"a \xff%"[..])).prop_map(|(length, byte)| vec![byte; length]),
        1 => (select(&b"a{\0"[..]), vec(any::<u8>(), 0..3)).prop_map(|(byte, end)| {
            [vec![byte; 10_240], end].concat()
        }),
    ]
}

/// What a change makes of a key: one that is hard to tell from it.
fn changed(key: &[u8], change: u8, at: usize) -> Vec<u8> {
    let mut key = key.to_vec();
    let at = at % (key.len() + 1);
    match change {
        0 => key.truncate(at),
        1 => key.insert(at, b'%'),
        2 => key.extend_from_slice(b"%beside"),
        3 => key.extend_from_slice(b":l"),
        4 => key = [b"{", key.as_slice(), b"}:l"].concat(),
        5 => key = key.escape_ascii().collect(),
        6 => key.make_ascii_uppercase(),
        _ => {
            if let Some(byte) = key.get_mut(at) {
                *byte ^= 1 << (change % 8);
            }
        }
    }
    key
}

/// Some keys and what is hard to tell from them, each with the schema version of its entry, which says in
/// which of a key's two slots that lies.
fn some_keys() -> impl Strategy<Value = Vec<(Vec<u8>, u32)>> {
    let family = (any_key(), vec((0_u8..16, any::<usize>()), 1..4));
    let family = family.prop_map(|(key, changes)| {
        let others = changes.into_iter().map(|(change, at)| changed(&key, change, at));
        let mut family: Vec<Vec<u8>> = others.collect();
        family.push(key);
        family
    });
    (vec(family, 1..4), vec(0_u32..2, 16)).prop_map(|(families, schemas)| {
        let keys: HashSet<Vec<u8>> = families.into_iter().flatten().collect();
        let mut keys: Vec<Vec<u8>> = keys.into_iter().collect();
        keys.sort();
        keys.into_iter().zip(schemas).collect()
    })
}

/// A name for a key that can be printed.
fn shown(key: &[u8]) -> String {
    let start = key.get(..60).unwrap_or(key);
    format!("\"{}\" of {} bytes", start.escape_ascii(), key.len())
}

async fn read(cache: &Tiered, key: &[u8], schema: u32) -> Option<Vec<u8>> {
    let request = cache.key(Key::bytes(key)).schema(schema).skip_l1();
    request.get::<Vec<u8>>().await.unwrap().map(|value| value.to_vec())
}

/// Stores each key under itself, and looks what each of them reads, while others come and go.
async fn each_is_its_own(cache: &Tiered, keys: &[(Vec<u8>, u32)]) -> Result<(), TestCaseError> {
    for (key, schema) in keys {
        prop_assert_eq!(read(cache, key, *schema).await, None, "before: {}", shown(key));
    }
    for (key, schema) in keys {
        let set = cache.key(Key::bytes(key)).schema(*schema).set(key.clone()).await;
        prop_assert_eq!(set.unwrap(), Ack::Done, "{}", shown(key));
    }
    for (key, schema) in keys {
        let found = read(cache, key, *schema).await;
        prop_assert!(found.as_ref() == Some(key), "set: {} is read as {:?}", shown(key), found);
    }
    for (number, (key, schema)) in keys.iter().enumerate() {
        prop_assert_eq!(cache.invalidate(Key::bytes(key)).await.unwrap(), Ack::Done);
        prop_assert_eq!(read(cache, key, *schema).await, None, "gone: {}", shown(key));
        for (other, schema) in keys.iter().skip(number + 1) {
            let found = read(cache, other, *schema).await;
            let is_there = found.as_ref() == Some(other);
            prop_assert!(is_there, "{} took {} with it", shown(key), shown(other));
        }
    }
    // By loads, which leave leases.
    for (key, schema) in keys {
        let load = async || Ok::<_, std::io::Error>(key.clone());
        let request = cache.key(Key::bytes(key)).schema(*schema).skip_l1();
        let value = request.get_or_load(load).await.unwrap();
        prop_assert!(*value == *key, "loaded: {}", shown(key));
    }
    for (key, schema) in keys {
        let found = read(cache, key, *schema).await;
        prop_assert!(found.as_ref() == Some(key), "loaded: {} is read as {:?}", shown(key), found);
        prop_assert_eq!(cache.invalidate(Key::bytes(key)).await.unwrap(), Ack::Done);
    }
    Ok(())
}

fn over(l2: impl RemoteTier) -> Tiered {
    Tiered::new(Moka::new(1_000), l2)
        .jitter(Jitter::none())
        // A busy machine is not what is tested.
        .budget(Duration::from_secs(10))
        .build()
        .unwrap()
}

/// Runs the fixed look-alikes, every byte, and then random families.
fn keys_are_apart<S>(cases: u32, tier: impl AsyncFnOnce() -> (Tiered, S)) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (cache, _server) = runtime.block_on(tier());
    let canary: &[u8] = b"canary";
    let _ = runtime.block_on(cache.set("canary", canary.to_vec())).unwrap();
    let bytes: Vec<Vec<u8>> = (0..=u8::MAX).map(|byte| vec![byte]).collect();
    let likes: Vec<Vec<u8>> = LOOK_ALIKES.iter().map(|key| key.to_vec()).collect();
    for keys in bytes.chunks(32).chain([&likes[..]]) {
        for schema in [0, 1] {
            let keys: Vec<_> = keys.iter().map(|key| (key.clone(), schema)).collect();
            runtime.block_on(each_is_its_own(&cache, &keys)).unwrap();
        }
    }
    let config = Config { cases, failure_persistence: None, ..Config::default() };
    let run = TestRunner::new(config).run(&some_keys(), |mut keys| {
        keys.retain(|(key, _)| key != canary);
        runtime.block_on(each_is_its_own(&cache, &keys))
    });
    run.unwrap_or_else(|error| panic!("{error}"));
    let canary_is = runtime.block_on(read(&cache, canary, 0));
    assert_eq!(canary_is.as_deref(), Some(canary), "a key became a command");
}

#[test]
fn keys_are_apart_on_memory() {
    keys_are_apart(256, async || (over(Memory::new()), ()));
}

#[test]
fn keys_are_apart_on_redis() {
    keys_are_apart(64, async || {
        let server = RedisServer::start().await.unwrap();
        let tier = Redis::new(&server.url()).unwrap().response_timeout(Duration::from_secs(5));
        (over(tier), server)
    });
}

#[test]
fn keys_are_apart_on_memcached() {
    keys_are_apart(64, async || {
        let server = MemcachedServer::start().await.unwrap();
        let tier = Memcached::new(&server.address()).unwrap();
        (over(tier.response_timeout(Duration::from_secs(5))), server)
    });
}

#[test]
fn keys_are_apart_on_a_chain() {
    keys_are_apart(64, async || {
        let near = Memory::new().then(Memory::new());
        (over(near.near_for(Duration::from_secs(60))), ())
    });
}
