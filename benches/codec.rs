//! What the packing costs beside the bare codec libraries: a struct of about 200 bytes and a list of
//! about 40 KB, written and read.
//!
//! Writing bare is into a reused buffer; the checksum that the envelope owes is measured by itself, and
//! so is the envelope without what stands between a codec and its library: guards, stages, shapes.
//! Rounds are interleaved and the median of each contender is taken; the ratios are the result.
//! `cargo bench --bench codec --features messagepack,json,zstd,seal`.
#![allow(missing_docs, clippy::unwrap_used, clippy::disallowed_methods, reason = "a benchmark")]

use std::{hint::black_box, time::Instant};

use serde::{Serialize, de::DeserializeOwned};
use tiered::{
    Json, MessagePack, Postcard, SealKey, Sealed, Zstd,
    codecs::{
        CodecFor,
        envelope::{self, Extensions, Meta},
    },
};
use xxhash_rust::xxh3::xxh3_64;

const KEY: &[u8] = b"shop:user:1";
const LIMIT: usize = 1 << 20;
const ROUNDS: usize = 41;
const META: Meta = Meta {
    schema: 1,
    fresh_ms: 300_000,
    stale_ms: 0,
    stored_ms: 0,
    incarnation: 0,
    source_version: 0,
};

#[derive(Serialize, serde::Deserialize)]
struct User {
    id: u64,
    name: String,
    email: String,
    address: Address,
    roles: Vec<Role>,
    balance: i64,
    active: bool,
    note: Option<String>,
}

#[derive(Serialize, serde::Deserialize)]
struct Address {
    street: String,
    city: String,
    zip: u32,
}

#[derive(Serialize, serde::Deserialize)]
enum Role {
    Reader,
    Editor { since: u32 },
}

fn user(id: u64) -> User {
    User {
        id,
        name: format!("Ada King Lovelace the {id}th"),
        email: format!("ada.lovelace+{id}@example.org"),
        address: Address {
            street: "12 St James's Square, second floor, to the left".into(),
            city: "London, United Kingdom".into(),
            zip: 40_213,
        },
        roles: vec![Role::Reader, Role::Editor { since: 1843 }],
        balance: -123_456_789,
        active: true,
        note: Some("prefers to be written to, and not to be called".into()),
    }
}

/// Something to be timed, and how often it is done in a round.
struct Contender<'a> {
    name: String,
    work: Box<dyn FnMut() + 'a>,
}

fn contender<'a>(name: impl Into<String>, work: impl FnMut() + 'a) -> Contender<'a> {
    Contender { name: name.into(), work: Box::new(work) }
}

/// Medians in nanoseconds, of rounds that take turns.
fn medians(contenders: &mut [Contender<'_>], times: u32) -> Vec<f64> {
    let mut all = vec![Vec::with_capacity(ROUNDS); contenders.len()];
    for _ in 0..=ROUNDS {
        for (all, Contender { work, .. }) in all.iter_mut().zip(contenders.iter_mut()) {
            let start = Instant::now();
            (0..times).for_each(|_| work());
            all.push(start.elapsed().as_secs_f64() * 1e9 / f64::from(times));
        }
    }
    let median = |mut times: Vec<f64>| {
        // The first round warms up.
        times.remove(0);
        times.sort_by(f64::total_cmp);
        times[times.len() / 2]
    };
    all.into_iter().map(median).collect()
}

fn main() {
    compare("a struct", &user(7), 2_000);
    let list: Vec<User> = (0..200).map(user).collect();
    compare("a list", &list, 20);
}

fn compare<T: Serialize + DeserializeOwned + 'static>(what: &str, value: &T, times: u32) {
    let postcard = postcard::to_allocvec(value).unwrap();
    let messagepack = rmp_serde::to_vec_named(value).unwrap();
    let json = serde_json::to_vec(value).unwrap();
    let zstd = zstd::bulk::compress(&postcard, 3).unwrap();
    let enveloped = Postcard.pack(&META, KEY, Some(value)).unwrap();
    let header = envelope::open(&enveloped, KEY, LIMIT).unwrap().header;
    let sealing = || Sealed::new(Postcard, SealKey::new(1, [7; 32]));
    println!(
        "\n{what}: {} bytes by postcard, {} by MessagePack, {} by JSON, {} by postcard and zstd",
        postcard.len(),
        messagepack.len(),
        json.len(),
        zstd.len()
    );

    println!("{:34} {:>10} {:>12} {:>12}", "written", "ns", "of bare", "owing xxh3");
    let mut compressor = zstd::bulk::Compressor::new(3).unwrap();
    let mut out = vec![0; zstd::zstd_safe::compress_bound(postcard.len())];
    let mut buffers: Vec<Vec<u8>> = (0..4).map(|_| Vec::with_capacity(LIMIT)).collect();
    let [b1, b2, b3, b4] = &mut buffers[..] else { return };
    let mut contenders = vec![
        contender("xxh3 over postcard's bytes", || {
            black_box(xxh3_64(black_box(&postcard)));
        }),
        contender("postcard", || {
            b1.clear();
            let flavor = postcard::ser_flavors::ExtendFlavor::new(std::mem::take(b1));
            *b1 = postcard::serialize_with_flavor(black_box(value), flavor).unwrap();
        }),
        contender("  in an envelope, nothing else", || {
            let mut bytes = envelope::begin(postcard.len());
            let flavor = postcard::ser_flavors::ExtendFlavor::new(std::mem::take(&mut bytes));
            bytes = postcard::serialize_with_flavor(black_box(value), flavor).unwrap();
            envelope::finish(&mut bytes, &header, &Extensions::default(), KEY);
            black_box(bytes);
        }),
        contender("  Postcard, packed", pack(Postcard, value)),
        contender("rmp-serde", || {
            b2.clear();
            value.serialize(&mut rmp_serde::Serializer::new(&mut *b2).with_struct_map()).unwrap();
        }),
        contender("  MessagePack, packed", pack(MessagePack, value)),
        contender("serde_json", || {
            b3.clear();
            serde_json::to_writer(&mut *b3, black_box(value)).unwrap();
        }),
        contender("  Json, packed", pack(Json, value)),
        contender("postcard and zstd", || {
            b4.clear();
            let flavor = postcard::ser_flavors::ExtendFlavor::new(std::mem::take(b4));
            *b4 = postcard::serialize_with_flavor(black_box(value), flavor).unwrap();
            black_box(compressor.compress_to_buffer(b4, &mut out[..]).unwrap());
        }),
        contender("  Zstd<Postcard>, packed", pack(Zstd::new(Postcard).threshold(0), value)),
        contender("  Sealed<Postcard>, packed", pack(sealing(), value)),
        contender("a new buffer of that size", || {
            black_box(Vec::<u8>::with_capacity(64 + postcard.len()));
        }),
    ];
    let found = medians(&mut contenders, times);
    report(&contenders, &found, &[(2, 1), (3, 1), (5, 4), (7, 6), (9, 8), (10, 1)]);
    drop(contenders);

    println!("{:34} {:>10} {:>12} {:>12}", "read", "ns", "of bare", "owing xxh3");
    let mut decompressor = zstd::bulk::Decompressor::new().unwrap();
    let mut raw = vec![0; postcard.len()];
    let mut contenders = vec![
        contender("xxh3 over postcard's bytes", || {
            black_box(xxh3_64(black_box(&postcard)));
        }),
        contender("postcard", || {
            black_box(postcard::from_bytes::<T>(black_box(&postcard)).unwrap());
        }),
        contender("  in an envelope, nothing else", || {
            let opened = envelope::open(black_box(&enveloped), KEY, LIMIT).unwrap();
            black_box(postcard::from_bytes::<T>(opened.payload).unwrap());
        }),
        contender("  Postcard, unpacked", unpack::<_, T>(Postcard, value)),
        contender("rmp-serde", || {
            black_box(rmp_serde::from_slice::<T>(black_box(&messagepack)).unwrap());
        }),
        contender("  MessagePack, unpacked", unpack::<_, T>(MessagePack, value)),
        contender("serde_json", || {
            black_box(serde_json::from_slice::<T>(black_box(&json)).unwrap());
        }),
        contender("  Json, unpacked", unpack::<_, T>(Json, value)),
        contender("postcard and zstd", || {
            decompressor.decompress_to_buffer(black_box(&zstd), &mut raw[..]).unwrap();
            black_box(postcard::from_bytes::<T>(&raw).unwrap());
        }),
        contender(
            "  Zstd<Postcard>, unpacked",
            unpack::<_, T>(Zstd::new(Postcard).threshold(0), value),
        ),
        contender("  Sealed<Postcard>, unpacked", unpack::<_, T>(sealing(), value)),
    ];
    let found = medians(&mut contenders, times);
    report(&contenders, &found, &[(2, 1), (3, 1), (5, 4), (7, 6), (9, 8), (10, 1)]);
}

fn pack<'a, T: 'static, C: CodecFor<T>>(codec: C, value: &'a T) -> impl FnMut() + 'a {
    move || {
        black_box(codec.pack(&META, KEY, Some(black_box(value))).unwrap());
    }
}

fn unpack<C: CodecFor<T>, T: 'static>(codec: C, value: &T) -> impl FnMut() {
    let bytes = codec.pack(&META, KEY, Some(value)).unwrap();
    move || {
        let unpacked = codec.unpack(black_box(&bytes), KEY, LIMIT).unwrap();
        unpacked.header.accept(1, codec.shape()).unwrap();
        black_box(codec.decode(&unpacked).unwrap());
    }
}

/// Prints all, and for each pair what the first costs of the second: as it is, and of the second
/// with the time of the checksum, which the envelope owes whatever it does.
fn report(contenders: &[Contender<'_>], found: &[f64], pairs: &[(usize, usize)]) {
    for (at, (Contender { name, .. }, median)) in contenders.iter().zip(found).enumerate() {
        match pairs.iter().find(|(ours, _)| *ours == at) {
            Some((_, bare)) => {
                let (bare, xxh3) = (found[*bare], found[0]);
                println!(
                    "{name:34} {median:10.0} {:12.2} {:12.2}",
                    median / bare,
                    median / (bare + xxh3)
                );
            }
            None => println!("{name:34} {median:10.0}"),
        }
    }
}
