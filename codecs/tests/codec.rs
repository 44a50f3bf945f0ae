//! What every codec must do, whatever bytes it is given.

#![cfg(feature = "postcard")]

use std::{
    collections::{BTreeMap, HashSet},
    fmt::Debug,
    time::{Duration, Instant},
};

use proptest::prelude::*;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use tiered_codecs::{Codec, CodecFor, CodecId, DecodeError, EncodeError, NoCodec, Postcard};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Value {
    number: i64,
    text: String,
    list: Vec<Part>,
    map: BTreeMap<String, u128>,
    unit: (),
    tuple: (char, f64, Option<bool>),
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum Part {
    Unit,
    Newtype(u8),
    Tuple(u8, i16),
    Struct { name: String },
    Nested(Box<Part>),
}

/// The value with one of everything.
fn value() -> Value {
    let nested = Part::Nested(Box::new(Part::Tuple(1, -2)));
    Value {
        number: -1,
        text: "text".into(),
        list: vec![Part::Unit, Part::Newtype(1), Part::Struct { name: "n".into() }, nested],
        map: BTreeMap::from([("key".into(), u128::MAX)]),
        unit: (),
        tuple: ('c', 0.5, Some(true)),
    }
}

/// `value`, encoded.
fn encoded<T: Serialize>(codec: &impl Codec, value: &T) -> Vec<u8> {
    let mut out = Vec::new();
    assert_eq!(Codec::encode(codec, value, &mut out), Ok(()));
    out
}

/// Decodes `bytes`, which must be quick whatever comes of it.
fn decoded<T: DeserializeOwned>(codec: &impl Codec, bytes: &[u8]) -> Result<T, DecodeError> {
    let start = Instant::now();
    let result = Codec::decode(codec, bytes);
    assert!(start.elapsed() < Duration::from_secs(1), "took {:?}", start.elapsed());
    result
}

/// What every codec must do.
fn conforms(codec: &impl Codec) {
    let bytes = encoded(codec, &value());
    assert_eq!(decoded(codec, &bytes), Ok(value()));
    appends(codec, &value());
    appends(codec, &());
    for len in 0..bytes.len() {
        assert!(decoded::<Value>(codec, &bytes[..len]).is_err(), "cut to {len} bytes");
    }
    let trailed = [&bytes[..], &[0, 0]].concat();
    assert_eq!(decoded::<Value>(codec, &trailed), Err(DecodeError::Trailing(2)));
}

/// Encoding leaves alone what is there.
fn appends<T: Serialize + DeserializeOwned + Debug + PartialEq>(codec: &impl Codec, value: &T) {
    let mut out = b"before".to_vec();
    assert_eq!(Codec::encode(codec, value, &mut out), Ok(()));
    let payload = out.strip_prefix(b"before").unwrap_or_default();
    assert_eq!(decoded::<T>(codec, payload).as_ref(), Ok(value));
}

#[test]
fn postcard_conforms() {
    assert_eq!(Codec::id(&Postcard), CodecId(1));
    conforms(&Postcard);
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct List {
    next: Option<Box<List>>,
}

/// A list of so many nodes.
fn list(len: usize) -> List {
    (1..len).fold(List::default(), |next, _| List { next: Some(Box::new(next)) })
}

#[test]
fn a_deep_value_does_not_overflow_the_stack() {
    // A node nests twice: its struct, and the option around the next.
    assert!(decoded::<List>(&Postcard, &encoded(&Postcard, &list(64))).is_ok());
    let deep = decoded::<List>(&Postcard, &encoded(&Postcard, &list(65)));
    assert!(matches!(deep, Err(DecodeError::Payload(_))));
    let hostile = decoded::<List>(&Postcard, &vec![1; 1 << 20]);
    assert!(matches!(hostile, Err(DecodeError::Payload(_))));
}

#[derive(Debug, Serialize, Deserialize)]
enum Deep {
    Newtype(Box<Deep>),
    Tuple(Box<Deep>, Box<Deep>),
    Struct { inner: Box<Deep> },
    Seq(Vec<Deep>),
    Map(BTreeMap<u8, Deep>),
}

#[test]
fn no_kind_of_nesting_overflows_the_stack() {
    for kind in 0..3 {
        assert!(decoded::<Deep>(&Postcard, &vec![kind; 1 << 20]).is_err());
    }
    for bytes in [&[3, 1][..], &[4, 1, 0]] {
        assert!(decoded::<Deep>(&Postcard, &bytes.repeat(1 << 18)).is_err());
    }
}

#[test]
fn a_few_bytes_do_not_announce_work_without_end() {
    let two_thousand_million = [0x80, 0xa8, 0xd6, 0xb9, 0x07];
    assert!(decoded::<Vec<()>>(&Postcard, &two_thousand_million).is_err());
    assert!(decoded::<Vec<[(); 32]>>(&Postcard, &two_thousand_million).is_err());
    assert!(decoded::<HashSet<()>>(&Postcard, &two_thousand_million).is_err());
    assert!(decoded::<Vec<u64>>(&Postcard, &two_thousand_million).is_err());
    let honest = vec![(); 10_000];
    assert_eq!(decoded(&Postcard, &encoded(&Postcard, &honest)), Ok(honest));
}

#[test]
fn a_long_list_is_no_attack() {
    let long: Vec<u32> = (0..200_000).collect();
    assert_eq!(decoded(&Postcard, &encoded(&Postcard, &long)), Ok(long));
}

#[test]
fn a_value_that_cannot_be_encoded_is_an_error() {
    #[derive(Serialize)]
    struct Flat {
        #[serde(flatten)]
        map: BTreeMap<String, u8>,
    }
    let flat = Flat { map: BTreeMap::from([("key".into(), 1)]) };
    assert!(Codec::encode(&Postcard, &flat, &mut Vec::new()).is_err());
}

#[test]
fn no_codec_carries_everything_and_encodes_nothing() {
    struct Opaque;
    let codec: &dyn Fn() -> Result<(), EncodeError> =
        &|| CodecFor::encode(&NoCodec, &Opaque, &mut Vec::new());
    assert!(codec().is_err());
    assert!(CodecFor::<Opaque>::decode(&NoCodec, &[]).is_err());
    assert!(CodecFor::<Opaque>::shape(&NoCodec).is_complete());
}

proptest! {
    #[test]
    fn any_bytes_decode_safely(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = decoded::<Value>(&Postcard, &bytes);
        let _ = decoded::<Deep>(&Postcard, &bytes);
        let _ = decoded::<Vec<Vec<String>>>(&Postcard, &bytes);
    }

    #[test]
    fn any_value_comes_back(number: i64, text: String, tuple: (char, f64, Option<bool>)) {
        let value = Value { number, text, tuple, ..value() };
        let back = decoded::<Value>(&Postcard, &encoded(&Postcard, &value));
        prop_assert_eq!(back, Ok(value));
    }
}
