//! What a codec must do, as a test that any codec can run: ours do, and so can yours.

#![allow(
    clippy::expect_used,
    clippy::missing_panics_doc,
    clippy::panic,
    clippy::unwrap_used,
    reason = "that is how a test fails"
)]

use std::{collections::BTreeMap, fmt::Debug};

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::{CodecFor, Packing, envelope::Meta};

const KEY: &[u8] = b"shop:user:1";
const LIMIT: usize = 1 << 20;

/// Runs the conformance suite against a codec, or one in `Zstd`, `Sealed` or `Also`: values of every kind
/// come back equal, alone and in an entry; encoding appends; what was cut, or has something behind it, or
/// belongs to another key, is no value; damaged bytes panic nowhere.
///
/// ```
/// # #[cfg(feature = "postcard")]
/// tiered_codecs::testing::codec_conforms(&tiered_codecs::Postcard);
/// ```
///
/// # Panics
/// When the codec does something else; the message tells what.
pub fn codec_conforms<P: Packing>(codec: &P) {
    assert_eq!(codec.check(), Ok(()), "its configuration");
    for value in [everything(), Everything::default()] {
        comes_back(codec, &value);
    }
    comes_back(codec, &());
    comes_back(codec, &u64::MAX);
    comes_back(codec, &String::new());
    comes_back(codec, &vec![7_u8; 100_000]);
    comes_back(codec, &vec![Some(Part::Unit), None]);
    comes_back(codec, &BTreeMap::from([(1_u32, "one".to_owned()), (2, String::new())]));
    refuses_what_is_not_whole(codec);
    survives_damage(codec);
}

/// A value of every kind that serde knows.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Everything {
    signed: (i8, i16, i32, i64, i128),
    unsigned: (u8, u16, u32, u64, u128),
    floats: (f32, f64),
    letter: char,
    truth: bool,
    text: String,
    unit: (),
    marker: Marker,
    id: Id,
    parts: Vec<Part>,
    by_name: BTreeMap<String, Part>,
    by_number: BTreeMap<i64, [u8; 3]>,
    some: Option<String>,
    none: Option<u8>,
    result: Option<Result<u8, String>>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Marker;

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Id(u64);

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum Part {
    Unit,
    Newtype(u8),
    Tuple(u8, i16),
    Struct { name: String, parts: Vec<Part> },
    Nested(Box<Part>),
}

fn everything() -> Everything {
    let nested = Part::Nested(Box::new(Part::Tuple(1, -2)));
    let parts = vec![Part::Unit, Part::Newtype(255), nested];
    let named = Part::Struct { name: "\u{0}\n\"".into(), parts: parts.clone() };
    Everything {
        signed: (i8::MIN, i16::MIN, i32::MIN, i64::MIN, i128::MIN),
        unsigned: (u8::MAX, u16::MAX, u32::MAX, u64::MAX, u128::MAX),
        floats: (-0.0, f64::MIN_POSITIVE),
        letter: '\u{10ffff}',
        truth: true,
        text: "a \"text\", \u{1f980}".into(),
        unit: (),
        marker: Marker,
        id: Id(7),
        by_name: BTreeMap::from([(String::new(), Part::Unit), ("null".into(), named.clone())]),
        parts: [parts, vec![named]].concat(),
        by_number: BTreeMap::from([(-1, [1, 2, 3]), (i64::MAX, [0; 3])]),
        some: Some(String::new()),
        none: None,
        result: Some(Err("no".into())),
    }
}

/// A value comes back, out of the codec's bytes behind others, and out of an entry.
fn comes_back<P, T>(codec: &P, value: &T)
where
    P: Packing,
    T: Serialize + DeserializeOwned + Debug + PartialEq + 'static,
{
    let mut out = b"before".to_vec();
    codec.encode(value, &mut out).unwrap_or_else(|error| panic!("{error}: {value:?}"));
    let payload = out.strip_prefix(b"before").expect("encoding appends to the buffer");
    let read = codec.decode::<T>(codec.id(), payload);
    assert_eq!(read.as_ref(), Ok(value), "out of the codec's own bytes");
    let entry = packed(codec, value);
    assert_eq!(opened::<P, T>(codec, &entry, KEY).as_ref(), Some(value), "out of an entry");
    assert_eq!(opened::<P, T>(codec, &entry, b"shop:user:2"), None, "under another key");
}

fn packed<P: Packing, T: Serialize + DeserializeOwned + 'static>(codec: &P, value: &T) -> Vec<u8> {
    let meta = Meta { fresh_ms: 60_000, ..Meta::default() };
    codec.pack(&meta, KEY, Some(value)).expect("what is encoded is packed")
}

fn opened<P, T>(codec: &P, entry: &[u8], key: &[u8]) -> Option<T>
where
    P: Packing,
    T: Serialize + DeserializeOwned + 'static,
{
    let unpacked = CodecFor::<T>::unpack(codec, entry, key, LIMIT).ok()?;
    unpacked.header.accept(0, CodecFor::<T>::shape(codec)).ok()?;
    CodecFor::<T>::decode(codec, &unpacked).ok()
}

/// Neither a part of a value nor a value with something behind it is one; nor is a part of an entry.
fn refuses_what_is_not_whole<P: Packing>(codec: &P) {
    let value = everything();
    let (mut payload, entry) = (Vec::new(), packed(codec, &value));
    codec.encode(&value, &mut payload).expect("it was encoded before");
    for len in 0..payload.len() {
        let cut = payload.get(..len).unwrap_or_default();
        let read = codec.decode::<Everything>(codec.id(), cut);
        assert!(read.is_err(), "{len} bytes of {} were read", payload.len());
    }
    for len in 0..entry.len() {
        let cut = entry.get(..len).unwrap_or_default();
        assert!(opened::<P, Everything>(codec, cut, KEY).is_none(), "{len} bytes of an entry");
    }
    payload.push(b'7');
    assert!(codec.decode::<Everything>(codec.id(), &payload).is_err(), "a byte too many was read");
}

/// Whatever a byte is changed into: no panic, and of an entry nothing.
fn survives_damage<P: Packing>(codec: &P) {
    let value = everything();
    let (mut payload, entry) = (Vec::new(), packed(codec, &value));
    codec.encode(&value, &mut payload).expect("it was encoded before");
    for at in 0..payload.len() {
        for change in [1, 0x80, 0xff] {
            let mut damaged = payload.clone();
            if let Some(byte) = damaged.get_mut(at) {
                *byte ^= change;
            }
            // Bytes without an envelope may mean another value.
            let _ = codec.decode::<Everything>(codec.id(), &damaged);
        }
    }
    for bit in 0..entry.len() * 8 {
        let mut damaged = entry.clone();
        if let Some(byte) = damaged.get_mut(bit / 8) {
            *byte ^= 1 << (bit % 8);
        }
        assert!(opened::<P, Everything>(codec, &damaged, KEY).is_none(), "with bit {bit} flipped");
    }
}
