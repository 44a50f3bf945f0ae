//! Changing how values are stored over a warm cache; what a hostile server can do; what is refused
//! at `build()`.

use bytes::Bytes;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use tiered::{
    Builder, Error, Json, MessagePack, Outcome, Postcard, SealKey, Sealed, Tiered, Zstd,
    codecs::{Codec, CodecFor, CodecId, DecodeError, EncodeError},
    tiers::{Clock, Memory, Moka, Redis, RemoteTier, testing::RedisServer},
};

use crate::support::{DbDown, SECOND};

scenarios! {
    a_codec_is_changed_over_a_warm_cache,
    a_codec_from_elsewhere_is_left_behind,
    a_codec_that_nobody_knows_is_a_counted_miss,
    a_sealing_cache_believes_nothing_unsealed,
    a_service_moves_to_sealing_and_changes_its_key,
    an_absence_is_sealed_too,
    contains_believes_what_a_read_believes,
    values_swapped_in_redis_are_misses,
    a_bomb_on_the_server_is_a_counted_miss,
    what_cannot_be_encoded_faithfully_is_returned_and_not_stored,
}

const SECRET: [u8; 32] = *b"a key that is 32 bytes of ascii!";

/// A value that compresses.
fn text(name: &str) -> String {
    format!("{name} ").repeat(200)
}

/// Caches over one embedded server.
struct Server {
    memory: Memory,
    clock: Clock,
}

impl Server {
    fn start() -> Self {
        let clock = Clock::manual();
        Self { memory: Memory::new().clock(clock.clone()), clock }
    }

    fn builder<C>(&self, codec: C) -> Builder<C> {
        Tiered::new(Moka::new(100), self.memory.clone()).clock(self.clock.clone()).codec(codec)
    }

    fn cache<C: CodecFor<()>>(&self, codec: C) -> Tiered<C> {
        self.builder(codec).build().unwrap()
    }

    async fn raw(&self, key: &str) -> Bytes {
        self.memory.get(key.as_bytes()).await.unwrap().unwrap().bytes
    }
}

/// Whether a new process of this codec finds the value.
async fn finds<C>(server: &Server, codec: C, key: &str, value: &str) -> bool
where
    C: CodecFor<()> + CodecFor<String>,
{
    let cache = server.builder(codec).build().unwrap();
    let answer = cache.key(key).lookup::<String>().await.unwrap();
    match answer.outcome {
        Outcome::HitL2 => assert_eq!(*answer.value.unwrap(), text(value)),
        Outcome::Miss => assert_eq!(cache.stats().decode_failures, 1),
        outcome => panic!("{outcome}"),
    }
    answer.outcome == Outcome::HitL2
}

async fn a_codec_is_changed_over_a_warm_cache() {
    let server = Server::start();
    let _ = server.cache(Postcard).set("postcard", text("a")).await.unwrap();
    let _ = server.cache(MessagePack).set("messagepack", text("b")).await.unwrap();
    let _ = server.cache(Json).set("json", text("c")).await.unwrap();
    let _ = server.cache(Zstd::new(Json)).set("zstd", text("d")).await.unwrap();
    let sizes = [server.raw("tiered:json").await.len(), server.raw("tiered:zstd").await.len()];
    assert!(sizes[1] * 4 < sizes[0], "{sizes:?}");
    for (key, value) in [("postcard", "a"), ("messagepack", "b"), ("json", "c"), ("zstd", "d")] {
        assert!(finds(&server, Postcard, key, value).await, "{key}");
        assert!(finds(&server, MessagePack, key, value).await, "{key}");
        assert!(finds(&server, Json, key, value).await, "{key}");
        assert!(finds(&server, Zstd::new(Postcard), key, value).await, "{key}");
    }
}

/// A codec of somebody else's making: JSON under another number.
#[derive(Clone, Debug)]
struct House(u8);

impl Codec for House {
    fn id(&self) -> CodecId {
        CodecId(self.0)
    }
    fn encode<T: Serialize + ?Sized>(
        &self,
        value: &T,
        out: &mut Vec<u8>,
    ) -> Result<(), EncodeError> {
        Codec::encode(&Json, value, out)
    }
    fn decode<T: DeserializeOwned>(&self, payload: &[u8]) -> Result<T, DecodeError> {
        Codec::decode(&Json, payload)
    }
}

async fn a_codec_from_elsewhere_is_left_behind() {
    let server = Server::start();
    let _ = server.cache(House(200)).set("k", text("a")).await.unwrap();
    assert!(finds(&server, House(200), "k", "a").await);
    let both = server.builder(Postcard).also_reads(House(200)).build().unwrap();
    assert_eq!(*both.get::<String>("k").await.unwrap().unwrap(), text("a"));

    let refused = |built: Result<Tiered<_>, Error>| match built {
        Err(error @ Error::Config(_)) => std::error::Error::source(&error).unwrap().to_string(),
        other => panic!("{other:?}"),
    };
    let message = refused(server.builder(House(1)).build().map(|_| unreachable_cache()));
    assert!(message.contains("id 1") && message.contains("128"), "{message}");
    let clash = server.builder(House(200)).also_reads(House(200)).build();
    let message = refused(clash.map(|_| unreachable_cache()));
    assert!(message.contains("200") && message.contains("another id"), "{message}");
}

/// Only for its type.
fn unreachable_cache() -> Tiered {
    Tiered::new(Moka::new(1), Memory::new()).build().unwrap()
}

async fn a_codec_that_nobody_knows_is_a_counted_miss() {
    let server = Server::start();
    let _ = server.cache(House(200)).set("k", text("a")).await.unwrap();
    assert!(!finds(&server, Postcard, "k", "a").await);
    let cache = server.cache(Postcard);
    let load = || async { Ok::<_, DbDown>(text("b")) };
    cache.get_or_load("k", load).await.unwrap();
    assert!(finds(&server, House(200), "k", "b").await, "it was overwritten, and is read by both");
}

fn sealing(id: u32) -> Sealed<Zstd<Postcard>> {
    let mut key = SECRET;
    key[0] = id as u8;
    Sealed::new(Zstd::new(Postcard), SealKey::new(id, key))
}

async fn a_sealing_cache_believes_nothing_unsealed() {
    let server = Server::start();
    let _ = server.cache(Postcard).set("k", text("a")).await.unwrap();
    assert!(!finds(&server, sealing(1), "k", "a").await, "a downgrade");
    let _ = server.cache(sealing(1)).set("k", text("b")).await.unwrap();
    assert!(finds(&server, sealing(1), "k", "b").await);
    assert!(!finds(&server, Postcard, "k", "b").await, "it has no key");
    assert!(!finds(&server, sealing(2), "k", "b").await, "it has another key");
    let raw = server.raw("tiered:k").await;
    assert!(!raw.windows(4).any(|window| window == b"b b "), "it can be read on the server");
    // Under another key, and in another namespace, it is nothing.
    server.memory.set(b"tiered:other", raw.clone(), SECOND).await.unwrap();
    assert!(!finds(&server, sealing(1), "other", "b").await);
}

async fn a_service_moves_to_sealing_and_changes_its_key() {
    let server = Server::start();
    let _ = server.cache(Json).set("plain", text("a")).await.unwrap();
    assert!(finds(&server, sealing(1).accept_unsealed(), "plain", "a").await);
    let _ = server.cache(sealing(1)).set("old", text("b")).await.unwrap();
    let mut key = SECRET;
    key[0] = 1;
    let rotated = || sealing(2).old_key(SealKey::new(1, key));
    assert!(finds(&server, rotated(), "old", "b").await);
    let _ = server.cache(rotated()).set("new", text("c")).await.unwrap();
    assert!(finds(&server, sealing(2), "new", "c").await, "the newest key writes");
    assert!(!finds(&server, sealing(1), "new", "c").await);
}

async fn an_absence_is_sealed_too() {
    let server = Server::start();
    let absent = || async { Ok::<Option<String>, DbDown>(None) };
    server.cache(Postcard).get_or_load_opt("k", absent).await.unwrap();
    let outcome = |answer: tiered::Answer<String>| answer.outcome;
    let cache = server.cache(sealing(1));
    assert_eq!(outcome(cache.key("k").lookup().await.unwrap()), Outcome::Miss);
    cache.get_or_load_opt("k", absent).await.unwrap();
    let other = server.cache(sealing(1));
    assert_eq!(outcome(other.key("k").lookup().await.unwrap()), Outcome::Negative);
    let plain = server.cache(Postcard);
    assert_eq!(outcome(plain.key("k").lookup().await.unwrap()), Outcome::Miss);
}

async fn contains_believes_what_a_read_believes() {
    let server = Server::start();
    let _ = server.cache(Postcard).set("k", text("a")).await.unwrap();
    assert!(server.cache(Json).contains("k").await.unwrap());
    assert!(!server.cache(sealing(1)).contains("k").await.unwrap());
}

async fn values_swapped_in_redis_are_misses() {
    let redis = RedisServer::start().await.unwrap();
    let open = || Tiered::new(Moka::new(100), Redis::new(&redis.url()).unwrap());
    let plain = open().namespace("plain").build().unwrap();
    let sealed = open().namespace("sealed").codec(sealing(1)).build().unwrap();
    for (key, value) in [("a", "first"), ("b", "second")] {
        let _ = plain.set(key, text(value)).await.unwrap();
        let _ = sealed.set(key, text(value)).await.unwrap();
    }
    let client = redis::Client::open(redis.url()).unwrap();
    let mut connection = client.get_multiplexed_async_connection().await.unwrap();
    for space in ["plain", "sealed"] {
        let name = |key: &str| format!("{space}:{key}");
        for (from, to) in
            [(name("a"), "spare".into()), (name("b"), name("a")), ("spare".into(), name("b"))]
        {
            let moved: String =
                redis::cmd("RENAME").arg(from).arg(to).query_async(&mut connection).await.unwrap();
            assert_eq!(moved, "OK");
        }
    }
    let plain = open().namespace("plain").build().unwrap();
    let sealed = open().namespace("sealed").codec(sealing(1)).build().unwrap();
    for key in ["a", "b"] {
        assert_eq!(plain.get::<String>(key).await.unwrap(), None);
        assert_eq!(sealed.get::<String>(key).await.unwrap(), None);
    }
    assert_eq!((plain.stats().decode_failures, sealed.stats().decode_failures), (2, 2));
}

async fn a_bomb_on_the_server_is_a_counted_miss() {
    #[derive(Debug, Serialize, Deserialize)]
    struct Deep(Vec<Deep>);
    let server = Server::start();
    // A writer that bounds nothing, and speaks for this program's own codec.
    #[derive(Clone, Debug)]
    struct Raw(&'static [u8]);
    impl Codec for Raw {
        fn id(&self) -> CodecId {
            CodecId::JSON
        }
        fn encode<T: Serialize + ?Sized>(
            &self,
            _: &T,
            out: &mut Vec<u8>,
        ) -> Result<(), EncodeError> {
            for _ in 0..1_000_000 {
                out.extend_from_slice(self.0);
            }
            Ok(())
        }
        fn decode<T: DeserializeOwned>(&self, _: &[u8]) -> Result<T, DecodeError> {
            Err(DecodeError::Trailing)
        }
    }
    let meta = tiered::codecs::envelope::Meta { fresh_ms: 60_000, ..Default::default() };
    let bytes = Raw(b"[").pack(&meta, b"tiered:k", Some(&Deep(vec![]))).unwrap();
    server.memory.set(b"tiered:k", bytes.into(), SECOND).await.unwrap();
    let cache = server.cache(Postcard);
    assert_eq!(cache.key("k").lookup::<Deep>().await.unwrap().outcome, Outcome::Miss);
    assert_eq!(cache.stats().decode_failures, 1);
}

async fn what_cannot_be_encoded_faithfully_is_returned_and_not_stored() {
    let server = Server::start();
    let cache = server.cache(Json);
    let load = || async { Ok::<_, DbDown>(Some(None::<u32>)) };
    let value = cache.get_or_load::<Option<Option<u32>>, _, _, _>("k", load).await.unwrap();
    assert_eq!(*value, Some(None));
    assert_eq!(server.memory.get(b"tiered:k").await.unwrap(), None);
    let set = cache.set("k", f64::NAN).await;
    assert!(matches!(set, Err(Error::Serialization(_))), "{set:?}");
}
