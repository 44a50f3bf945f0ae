//! The suite: every codec and every packing runs it.

use std::{
    collections::BTreeMap,
    fmt::Debug,
    net::{IpAddr, SocketAddr},
};

use proptest::prelude::*;
use serde::{Deserialize, Serialize};
use tiered_codecs::{
    CodecFor, CodecId, DecodeError, EncodeError, Json, MessagePack, NoCodec, OldValue, Packing,
    Postcard,
    envelope::{self, HEADER_LEN, Meta, Refusal},
};

use uuid::Uuid;

use crate::support::{KEY, decode, encode, every_packing, meta, pack, pack_none, read};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Everything {
    numbers: (i8, i16, i32, i64, i128, u8, u16, u32, u64, u128),
    floats: (f32, f64),
    text: String,
    letter: char,
    truth: bool,
    unit: (),
    marker: Marker,
    id: Id,
    #[serde(with = "serde_bytes")]
    bytes: Vec<u8>,
    list: Vec<Part>,
    by_name: BTreeMap<String, Part>,
    by_number: BTreeMap<i64, [u8; 3]>,
    some: Option<Option<char>>,
    none: Option<Option<char>>,
    result: Result<u8, String>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Marker;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Id(u64);

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum Part {
    Unit,
    Newtype(u8),
    Tuple(u8, i16),
    Struct { name: String, parts: Vec<Part> },
    Nested(Box<Part>),
}

/// A value with one of everything.
fn everything() -> Everything {
    let nested = Part::Nested(Box::new(Part::Tuple(1, -2)));
    let parts = vec![Part::Unit, Part::Newtype(255), nested];
    Everything {
        numbers: (
            i8::MIN,
            i16::MIN,
            i32::MIN,
            i64::MIN,
            i128::MIN,
            u8::MAX,
            u16::MAX,
            u32::MAX,
            u64::MAX,
            u128::MAX,
        ),
        floats: (-0.0, f64::MIN_POSITIVE),
        text: "a \"text\", \u{0} and \u{1f980}".into(),
        letter: '\u{10ffff}',
        truth: true,
        unit: (),
        marker: Marker,
        id: Id(7),
        bytes: vec![0, 0xff, 0x80],
        list: vec![Part::Unit, Part::Struct { name: String::new(), parts: parts.clone() }],
        by_name: parts.into_iter().zip(["null", "", "\n"]).map(|(p, n)| (n.into(), p)).collect(),
        by_number: BTreeMap::from([(-1, [1, 2, 3]), (i64::MAX, [0; 3])]),
        some: Some(Some('c')),
        none: None,
        result: Err("no".into()),
    }
}

#[cfg(feature = "testing")]
mod public {
    use serde::{Serialize, de::DeserializeOwned};
    use tiered_codecs::{Codec, CodecId, DecodeError, EncodeError, Json};

    use super::the_public_suite_passes;
    use crate::support::every_packing;

    every_packing! { the_public_suite_passes }

    /// JSON with a fault.
    #[derive(Clone, Copy, Debug)]
    enum Broken {
        Overwrites,
        IgnoresTheRest,
        TakesPartsForValues,
        Panics,
        ReservedId,
    }

    impl Codec for Broken {
        fn id(&self) -> CodecId {
            CodecId(if matches!(self, Self::ReservedId) { 100 } else { 200 })
        }

        fn encode<T: Serialize + ?Sized>(
            &self,
            value: &T,
            out: &mut Vec<u8>,
        ) -> Result<(), EncodeError> {
            if matches!(self, Self::Overwrites) {
                out.fill(0);
            }
            Codec::encode(&Json, value, out)
        }

        fn decode<T: DeserializeOwned>(&self, payload: &[u8]) -> Result<T, DecodeError> {
            match self {
                Self::IgnoresTheRest => {
                    let mut text = serde_json::Deserializer::from_slice(payload);
                    T::deserialize(&mut text)
                        .map_err(|error| DecodeError::Payload(error.to_string()))
                }
                Self::TakesPartsForValues if payload.len() % 7 == 3 => {
                    Codec::decode(&Json, &[payload, b"\"}".as_slice()].concat())
                        .or_else(|_| Codec::decode(&Json, b"null"))
                        .or_else(|_| Codec::decode(&Json, payload))
                        .or_else(|_| Codec::decode(&Json, EMPTY))
                }
                Self::Panics => Ok(Codec::decode(&Json, payload).expect("it is in order")),
                _ => Codec::decode(&Json, payload),
            }
        }
    }

    /// What a lenient codec makes of what it cannot read.
    const EMPTY: &[u8] = br#"{"signed":[0,0,0,0,0],"unsigned":[0,0,0,0,0],"floats":[0.0,0.0],
        "letter":"x","truth":false,"text":"","unit":null,"marker":null,"id":0,"parts":[],"by_name":{},
        "by_number":{},"some":null,"none":null,"result":null}"#;

    #[test]
    fn the_public_suite_finds_what_is_broken() {
        for broken in [
            Broken::Overwrites,
            Broken::IgnoresTheRest,
            Broken::TakesPartsForValues,
            Broken::Panics,
            Broken::ReservedId,
        ] {
            let suite = || tiered_codecs::testing::codec_conforms(&broken);
            assert!(std::panic::catch_unwind(suite).is_err(), "{broken:?} passes");
        }
    }
}

every_packing! {
    what_is_encoded_decodes
    what_is_packed_is_read
    types_that_ask_whether_people_read_it_come_back
    encoding_leaves_alone_what_is_there
    a_payload_that_was_cut_is_no_value
    an_entry_whose_payload_was_cut_is_refused
    bytes_behind_the_value_are_seen
    none_is_packed_and_read
    overhead_is_bounded
    the_header_says_what_the_writer_said
    an_unknown_codec_is_refused
    any_bytes_decode_safely
    any_change_of_a_payload_decodes_safely
    checks_out
}

/// The part of it that anybody's codec can run.
#[cfg(feature = "testing")]
fn the_public_suite_passes(packing: &impl Packing) {
    tiered_codecs::testing::codec_conforms(packing);
}

fn what_is_encoded_decodes(packing: &impl Packing) {
    let bytes = encode(packing, &everything()).unwrap();
    assert_eq!(decode(packing, &bytes), Ok(everything()));
}

fn what_is_packed_is_read(packing: &impl Packing) {
    for value in
        [everything(), Everything { list: Vec::new(), text: "x".repeat(5000), ..everything() }]
    {
        assert_eq!(read(packing, &pack(packing, &value)), Ok(Some(value)));
    }
    assert_eq!(read(packing, &pack(packing, &())), Ok(Some(())));
    assert_eq!(read(packing, &pack(packing, &7_u8)), Ok(Some(7_u8)));
    assert_eq!(read(packing, &pack(packing, &String::new())), Ok(Some(String::new())));
}

/// These write themselves as text for people, as bytes for programs.
fn types_that_ask_whether_people_read_it_come_back(packing: &impl Packing) {
    let value: (IpAddr, SocketAddr, Uuid, Option<IpAddr>) = (
        IpAddr::from([1, 2, 3, 4]),
        SocketAddr::from(([0, 0, 0, 0, 0, 0, 0, 1], 443)),
        Uuid::from_u128(7),
        Some(IpAddr::from([0; 16])),
    );
    assert_eq!(read(packing, &pack(packing, &value)), Ok(Some(value)));
}

fn encoding_leaves_alone_what_is_there(packing: &impl Packing) {
    fn appends<T: crate::support::Value>(packing: &impl Packing, value: &T) {
        let mut out = b"before".to_vec();
        assert!(Packing::encode(packing, value, &mut out).is_ok());
        let payload = out.strip_prefix(b"before").unwrap();
        assert_eq!(decode::<T>(packing, payload).as_ref(), Ok(value));
    }
    appends(packing, &everything());
    appends(packing, &());
    appends(packing, &vec![Part::Unit; 3]);
}

fn a_payload_that_was_cut_is_no_value(packing: &impl Packing) {
    let bytes = encode(packing, &everything()).unwrap();
    for len in 0..bytes.len() {
        assert!(
            matches!(decode::<Everything>(packing, &bytes[..len]), Err(DecodeError::Payload(_))),
            "cut to {len} of {} bytes",
            bytes.len()
        );
    }
}

/// Makes another entry of one, with another payload.
fn with_payload(entry: &[u8], payload: impl FnOnce(&[u8]) -> Vec<u8>) -> Vec<u8> {
    let opened = envelope::open(entry, KEY, 1 << 20).unwrap();
    let mut bytes = envelope::begin(0);
    bytes.extend(payload(opened.payload));
    envelope::finish(&mut bytes, &opened.header, &opened.extensions, KEY);
    bytes
}

fn an_entry_whose_payload_was_cut_is_refused(packing: &impl Packing) {
    let entry = pack(packing, &everything());
    assert_eq!(read(packing, &with_payload(&entry, <[u8]>::to_vec)), Ok(Some(everything())));
    let payload_len = envelope::open(&entry, KEY, 1 << 20).unwrap().payload.len();
    for len in 0..payload_len {
        let cut = with_payload(&entry, |payload| payload[..len].to_vec());
        assert!(read::<Everything>(packing, &cut).is_err(), "cut to {len} of {payload_len} bytes");
    }
}

fn bytes_behind_the_value_are_seen(packing: &impl Packing) {
    let bytes = encode(packing, &everything()).unwrap();
    // Space around a JSON text is a part of it.
    let space = |byte: u8| match packing.id().0 {
        3 => b" \t\r\n".contains(&byte),
        200 => b" \t\r\n".contains(&!byte),
        _ => false,
    };
    for byte in (0..=u8::MAX).filter(|byte| !space(*byte)) {
        let trailed = [&bytes[..], &[byte]].concat();
        let there = decode::<Everything>(packing, &trailed);
        assert_eq!(there, Err(DecodeError::Trailing), "byte {byte:#04x}");
    }
    let twice = bytes.repeat(2);
    assert_eq!(decode::<Everything>(packing, &twice), Err(DecodeError::Trailing));
    let entry = with_payload(&pack(packing, &everything()), |payload| [payload, b"x"].concat());
    assert!(read::<Everything>(packing, &entry).is_err());
}

fn none_is_packed_and_read(packing: &impl Packing) {
    let entry = pack_none::<Everything>(packing);
    assert_eq!(read::<Everything>(packing, &entry), Ok(None));
    let unpacked = CodecFor::<Everything>::unpack(packing, &entry, KEY, 1 << 20).unwrap();
    assert!(unpacked.header.negative && !unpacked.header.compressed);
    assert_eq!(CodecFor::<Everything>::old(packing, &unpacked).read::<()>(), None);
}

/// A value costs 64 bytes; a dictionary's id 11 more; a seal 31, and the tag's 16.
fn overhead_is_bounded(packing: &impl Packing) {
    for entry in [pack(packing, &everything()), pack_none::<Everything>(packing)] {
        let opened = envelope::open(&entry, KEY, 1 << 20).unwrap();
        let header = opened.header;
        let extensions = 11 * usize::from(opened.extensions.dictionary.is_some())
            + 31 * usize::from(header.sealed);
        assert_eq!(HEADER_LEN, 64);
        assert_eq!(entry.len() - opened.payload.len(), 64 + extensions);
        let tag = 16 * usize::from(header.sealed);
        if header.negative {
            assert_eq!(opened.payload.len(), tag);
        } else if !header.compressed {
            let bytes = encode(packing, &everything()).unwrap();
            assert_eq!(opened.payload.len(), bytes.len() + tag);
        }
    }
}

fn the_header_says_what_the_writer_said(packing: &impl Packing) {
    for (entry, negative) in
        [(pack(packing, &everything()), false), (pack_none::<Everything>(packing), true)]
    {
        let unpacked = CodecFor::<Everything>::unpack(packing, &entry, KEY, entry.len()).unwrap();
        assert_eq!(unpacked.header.meta, meta());
        assert_eq!(unpacked.header.codec, packing.id());
        assert_eq!(unpacked.header.shape, CodecFor::<Everything>::shape(packing));
        assert_eq!(unpacked.header.negative, negative);
        let limit = CodecFor::<Everything>::unpack(packing, &entry, KEY, entry.len() - 1);
        assert_eq!(limit.unwrap_err(), Refusal::TooLarge);
    }
}

fn an_unknown_codec_is_refused(packing: &impl Packing) {
    let bytes = encode(packing, &everything()).unwrap();
    for id in [0, 4, 77, 127, 128, 199, 202, 255] {
        let there = Packing::decode::<Everything>(packing, CodecId(id), &bytes);
        assert_eq!(there, Err(DecodeError::Refused(Refusal::Codec)), "codec {id}");
    }
}

fn any_bytes_decode_safely(packing: &impl Packing) {
    proptest!(|(bytes in proptest::collection::vec(any::<u8>(), 0..200))| {
        let _ = decode::<Everything>(packing, &bytes);
        let _ = decode::<Part>(packing, &bytes);
        let _ = decode::<Vec<Vec<String>>>(packing, &bytes);
        let entry = with_payload(&pack(packing, &()), |_| bytes);
        let _ = read::<Everything>(packing, &entry);
    });
}

fn any_change_of_a_payload_decodes_safely(packing: &impl Packing) {
    let entry = pack(packing, &everything());
    let len = envelope::open(&entry, KEY, 1 << 20).unwrap().payload.len();
    for at in 0..len {
        for change in [0x01, 0x80, 0xff] {
            let changed = with_payload(&entry, |payload| {
                let mut payload = payload.to_vec();
                payload[at] ^= change;
                payload
            });
            // It may be another value. That is what the checksum is for.
            let _ = read::<Everything>(packing, &changed);
        }
    }
}

fn checks_out(packing: &impl Packing) {
    assert_eq!(Packing::check(packing), Ok(()));
    assert_eq!(CodecFor::<Everything>::check(packing), Ok(()));
}

#[test]
fn ids_never_change() {
    assert_eq!(Packing::id(&Postcard), CodecId(1));
    assert_eq!(Packing::id(&MessagePack), CodecId(2));
    assert_eq!(Packing::id(&Json), CodecId(3));
    assert_eq!(CodecId::FIRST_FOREIGN, CodecId(128));
}

#[test]
fn payloads_never_change() {
    let part = Part::Struct { name: "n".into(), parts: vec![Part::Unit, Part::Tuple(1, -2)] };
    assert_eq!(encode(&Postcard, &part).unwrap(), b"\x03\x01n\x02\x00\x02\x01\x03");
    let message = b"\x81\xa6Struct\x82\xa4name\xa1n\xa5parts\x92\xa4Unit\x81\xa5Tuple\x92\x01\xfe";
    assert_eq!(encode(&MessagePack, &part).unwrap(), message);
    let text = br#"{"Struct":{"name":"n","parts":["Unit",{"Tuple":[1,-2]}]}}"#;
    assert_eq!(encode(&Json, &part).unwrap(), text);
}

#[test]
fn no_codec_carries_everything_and_encodes_nothing() {
    #[derive(Debug)]
    struct Opaque;
    let entry = pack(&Postcard, &());
    let unpacked = CodecFor::<()>::unpack(&Postcard, &entry, KEY, 1 << 20).unwrap();
    assert_eq!(CodecFor::<Opaque>::check(&NoCodec), Ok(()));
    assert!(CodecFor::<Opaque>::shape(&NoCodec).is_complete());
    let packed = CodecFor::pack(&NoCodec, &Meta::default(), KEY, Some(&Opaque));
    assert_eq!(packed, Err(EncodeError("this cache has no codec".into())));
    assert!(CodecFor::<Opaque>::pack(&NoCodec, &Meta::default(), KEY, None).is_err());
    let unpack = CodecFor::<Opaque>::unpack(&NoCodec, &entry, KEY, 1 << 20);
    assert_eq!(unpack.unwrap_err(), Refusal::Codec);
    let decoded = CodecFor::<Opaque>::decode(&NoCodec, &unpacked);
    assert_eq!(decoded.unwrap_err(), DecodeError::Refused(Refusal::Codec));
    assert_eq!(CodecFor::<Opaque>::old(&NoCodec, &unpacked).read::<()>(), None);
}
