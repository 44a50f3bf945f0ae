//! The envelope: whole, of its key and of its reader, or refused for the right reason.

use std::convert::Infallible;

use proptest::prelude::*;
use tiered_codecs::{
    CodecId, DecodeError, Shape,
    envelope::{Expected, HEADER_LEN, Header, Opened, Refusal, open, seal},
};
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

const KEY: &[u8] = b"shop:user:1";

/// A header in which no two bytes are alike by chance.
fn header() -> Header {
    Header {
        codec: CodecId(1),
        negative: false,
        schema: 7,
        shape: Shape::from_value(0x0102_0304_0506_0708),
        fresh_ms: 300_000,
        stale_ms: 3_600_000,
        incarnation: 0x1112_1314_1516_1718,
        source_version: 0x2122_2324_2526_2728,
    }
}

/// Seals `payload`, which cannot fail.
fn sealed(header: &Header, key: &[u8], payload: &[u8]) -> Vec<u8> {
    let bytes = seal(header, key, |out| {
        out.extend_from_slice(payload);
        Ok::<_, Infallible>(())
    });
    bytes.unwrap_or_else(|never| match never {})
}

/// A sealed entry with other bytes at `at`, under a checksum that is right again.
fn resealed(at: usize, bytes: &[u8]) -> Vec<u8> {
    let mut entry = sealed(&header(), KEY, b"payload");
    entry[at..at + bytes.len()].copy_from_slice(bytes);
    sum(entry)
}

/// Puts the right checksum before an entry.
fn sum(mut entry: Vec<u8>) -> Vec<u8> {
    let sum = xxh3_64_with_seed(&entry[8..], xxh3_64(KEY));
    entry[..8].copy_from_slice(&sum.to_le_bytes());
    entry
}

/// A sealed entry with extensions.
fn extended(extensions: &[u8], claimed: u32) -> Vec<u8> {
    let mut entry = sealed(&header(), KEY, b"payload");
    entry.splice(HEADER_LEN..HEADER_LEN, extensions.iter().copied());
    entry[44..48].copy_from_slice(&claimed.to_le_bytes());
    sum(entry)
}

#[test]
fn a_value_costs_64_bytes() {
    assert_eq!(HEADER_LEN, 64);
    assert_eq!(sealed(&header(), KEY, b"payload").len(), 64 + 7);
    assert_eq!(sealed(&header(), KEY, b"").len(), 64);
}

#[test]
fn the_layout_is_pinned() {
    let entry = sealed(&header(), KEY, b"payload");
    let hex: String = entry.iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(
        hex,
        concat!(
            "0182342801f8e2f9", // checksum
            "54494552",         // magic
            "0101",             // format version, codec
            "0000",             // flags
            "07000000",         // schema
            "07000000",         // payload length
            "0807060504030201", // shape
            "e09304000000",     // fresh
            "80ee36000000",     // stale
            "00000000",         // extensions length
            "1817161514131211", // incarnation
            "2827262524232221", // source version
            "7061796c6f6164",   // payload
        )
    );
}

#[test]
fn what_was_sealed_is_opened() {
    let entry = sealed(&header(), KEY, b"payload");
    let opened = Opened { header: header(), payload: b"payload" };
    assert_eq!(open(&entry, KEY, entry.len()), Ok(opened));
}

#[test]
fn a_flipped_bit_is_damage_wherever_it_is() {
    let entry = sealed(&header(), KEY, b"a payload of some length");
    for bit in 0..entry.len() * 8 {
        let mut damaged = entry.clone();
        damaged[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(open(&damaged, KEY, 1024), Err(Refusal::Checksum), "bit {bit}");
    }
}

#[test]
fn a_cut_entry_is_refused_wherever_it_is_cut() {
    let entry = sealed(&header(), KEY, b"a payload of some length");
    for len in 0..entry.len() {
        let refusal = if len < HEADER_LEN { Refusal::Truncated } else { Refusal::Checksum };
        assert_eq!(open(&entry[..len], KEY, 1024), Err(refusal), "{len} bytes");
    }
    let longer = [&entry[..], b"\0"].concat();
    assert_eq!(open(&longer, KEY, 1024), Err(Refusal::Checksum));
}

#[test]
fn another_keys_value_is_refused() {
    let entry = sealed(&header(), KEY, b"payload");
    for key in [&b"shop:user:2"[..], b"shop:user:", b"shop:user:1\0", b""] {
        assert_eq!(open(&entry, key, 1024), Err(Refusal::Checksum));
    }
}

#[test]
fn the_limit_counts_the_whole_entry() {
    let entry = sealed(&header(), KEY, b"payload");
    assert!(open(&entry, KEY, entry.len()).is_ok());
    assert_eq!(open(&entry, KEY, entry.len() - 1), Err(Refusal::TooLarge));
}

#[test]
fn each_wrong_field_has_its_reason() {
    assert_eq!(open(&resealed(8, b"TEAR"), KEY, 1024), Err(Refusal::Foreign));
    assert_eq!(open(&resealed(12, &[2]), KEY, 1024), Err(Refusal::Format));
    assert_eq!(open(&resealed(12, &[0]), KEY, 1024), Err(Refusal::Format));
    for bit in 1..16 {
        let flags = (1u16 << bit).to_le_bytes();
        assert_eq!(open(&resealed(14, &flags), KEY, 1024), Err(Refusal::Flags), "bit {bit}");
    }
    for len in [0u32, 6, 8, u32::MAX] {
        assert_eq!(open(&resealed(20, &len.to_le_bytes()), KEY, 1024), Err(Refusal::Length));
    }
    for len in [1u32, 7, 8, u32::MAX] {
        assert_eq!(open(&resealed(44, &len.to_le_bytes()), KEY, 1024), Err(Refusal::Length));
    }
}

#[test]
fn the_earlier_reason_wins() {
    let wrong = resealed(8, b"TEAR\xff\xff\xff\xff");
    assert_eq!(open(&wrong, KEY, 1024), Err(Refusal::Foreign));
    let wrong = resealed(12, &[9, 9, 9, 9]);
    assert_eq!(open(&wrong, KEY, 1024), Err(Refusal::Format));
    assert_eq!(open(&[0; 100], KEY, 64), Err(Refusal::TooLarge));
    assert_eq!(open(&[0; 10], KEY, 1), Err(Refusal::Truncated));
    assert_eq!(open(&[0; 100], KEY, 1024), Err(Refusal::Checksum));
}

#[test]
fn extensions_of_a_later_writer_are_skipped() {
    for extensions in [&[9, 0, 0][..], &[9, 2, 0, b'a', b'b'], &[9, 1, 0, b'a', 10, 0, 0]] {
        let entry = extended(extensions, extensions.len().try_into().unwrap());
        let opened = open(&entry, KEY, 1024).unwrap();
        assert_eq!(opened, Opened { header: header(), payload: b"payload" });
    }
}

#[test]
fn extensions_that_do_not_add_up_are_refused() {
    for extensions in [&[9][..], &[9, 0], &[9, 1, 0], &[9, 0, 1, b'a'], &[9, 0, 0, 9]] {
        let entry = extended(extensions, extensions.len().try_into().unwrap());
        assert_eq!(open(&entry, KEY, 1024), Err(Refusal::Length), "{extensions:?}");
    }
    assert_eq!(open(&extended(&[9, 0, 0], 2), KEY, 1024), Err(Refusal::Length));
    assert_eq!(open(&extended(&[9, 0, 0], 4), KEY, 1024), Err(Refusal::Length));
}

#[test]
fn a_negative_entry_is_empty() {
    let negative = Header { negative: true, ..header() };
    let entry = sealed(&negative, KEY, b"");
    assert_eq!(open(&entry, KEY, 64), Ok(Opened { header: negative, payload: b"" }));
    assert_eq!(open(&sealed(&negative, KEY, b"x"), KEY, 1024), Err(Refusal::Length));
}

#[test]
fn lifetimes_saturate() {
    let longest = (1 << 48) - 1;
    for (given, kept) in [(longest, longest), (longest + 1, longest), (u64::MAX, longest)] {
        let header = Header { fresh_ms: given, stale_ms: given, ..header() };
        let entry = sealed(&header, KEY, b"");
        let opened = open(&entry, KEY, 64).unwrap().header;
        assert_eq!(opened, Header { fresh_ms: kept, stale_ms: kept, ..header });
    }
}

#[test]
fn a_failed_payload_is_the_callers_error() {
    assert_eq!(seal(&header(), KEY, |_| Err("no")), Err("no"));
}

#[test]
fn a_payload_that_shortens_the_buffer_is_empty() {
    let entry = seal(&header(), KEY, |out| {
        out.clear();
        out.push(1);
        Ok::<_, Infallible>(())
    });
    let entry = entry.unwrap();
    assert_eq!(open(&entry, KEY, 64).unwrap().payload, b"");
}

#[test]
fn a_reader_accepts_what_it_expects() {
    let header = header();
    let expected = Expected { codec: header.codec, schema: header.schema, shape: header.shape };
    assert_eq!(header.accept(&expected), Ok(()));
    let codec = Expected { codec: CodecId(2), ..expected };
    assert_eq!(header.accept(&codec), Err(Refusal::Codec));
    let newer = Expected { schema: 8, ..expected };
    assert_eq!(header.accept(&newer), Err(Refusal::OlderSchema));
    let older = Expected { schema: 6, ..expected };
    assert_eq!(header.accept(&older), Err(Refusal::NewerSchema));
    let shape = Expected { shape: Shape::from_value(1), ..expected };
    assert_eq!(header.accept(&shape), Err(Refusal::Shape));

    let all = Expected { codec: CodecId(2), schema: 8, shape: Shape::from_value(1) };
    assert_eq!(header.accept(&all), Err(Refusal::Codec));
    assert_eq!(header.accept(&Expected { codec: header.codec, ..all }), Err(Refusal::OlderSchema));

    // "None" is the same in every codec.
    let negative = Header { negative: true, ..header };
    assert_eq!(negative.accept(&codec), Ok(()));
    assert_eq!(negative.accept(&newer), Err(Refusal::OlderSchema));
    assert_eq!(negative.accept(&shape), Err(Refusal::Shape));
}

#[test]
fn reasons_have_names() {
    let names = [
        (Refusal::Truncated, "truncated"),
        (Refusal::TooLarge, "too_large"),
        (Refusal::Checksum, "checksum"),
        (Refusal::Foreign, "foreign"),
        (Refusal::Format, "format"),
        (Refusal::Flags, "flags"),
        (Refusal::Length, "length"),
        (Refusal::Codec, "codec"),
        (Refusal::OlderSchema, "older_schema"),
        (Refusal::NewerSchema, "newer_schema"),
        (Refusal::Shape, "shape"),
    ];
    for (refusal, name) in names {
        assert_eq!(refusal.label(), name);
    }
    assert_eq!(DecodeError::Payload(String::new()).label(), "payload");
    assert_eq!(DecodeError::Trailing(1).label(), "trailing");
}

proptest! {
    #[test]
    fn anything_sealed_is_opened(
        key in proptest::collection::vec(any::<u8>(), 0..300),
        payload in proptest::collection::vec(any::<u8>(), 0..2000),
        codec: u8,
        schema: u32,
        shape: u64,
        fresh_ms in 0u64..1 << 48,
        stale_ms in 0u64..1 << 48,
        incarnation: u64,
        source_version: u64,
    ) {
        let header = Header {
            codec: CodecId(codec),
            negative: payload.is_empty(),
            schema,
            shape: Shape::from_value(shape),
            fresh_ms,
            stale_ms,
            incarnation,
            source_version,
        };
        let entry = sealed(&header, &key, &payload);
        prop_assert_eq!(entry.len(), HEADER_LEN + payload.len());
        prop_assert_eq!(
            open(&entry, &key, entry.len()),
            Ok(Opened { header, payload: &payload })
        );
    }

    #[test]
    fn any_bytes_under_a_right_checksum_are_safe(
        mut entry in proptest::collection::vec(any::<u8>(), 64..400),
        ours: bool,
    ) {
        if ours {
            entry[8..16].copy_from_slice(b"TIER\x01\x01\0\0");
        }
        let entry = sum(entry);
        if let Ok(opened) = open(&entry, KEY, 1024) {
            prop_assert!(entry.ends_with(opened.payload));
        }
    }
}
