//! What the header's fields hold, and what they do with what does not fit.

use proptest::prelude::*;
use tiered_codecs::{
    CodecId, Shape,
    envelope::{Extensions, HEADER_LEN, Header, Meta, Opened, Refusal, SealNote, open},
};

use super::{KEY, entry, entry_of, header, seal_note};

/// The header of an entry of `header`, read back.
fn back(header: &Header) -> Header {
    open(&entry(header, b""), KEY, 64).unwrap().header
}

#[test]
fn lifetimes_saturate_at_40_bits() {
    let longest = (1 << 40) - 1;
    for (given, kept) in [(longest, longest), (longest + 1, longest), (u64::MAX, longest)] {
        let meta = Meta { fresh_ms: given, ..header().meta };
        assert_eq!(back(&Header { meta, ..header() }).meta, Meta { fresh_ms: kept, ..meta });
        let meta = Meta { stale_ms: given, ..header().meta };
        assert_eq!(back(&Header { meta, ..header() }).meta, Meta { stale_ms: kept, ..meta });
    }
}

#[test]
fn the_moment_of_storing_saturates_at_48_bits() {
    let last = (1 << 48) - 1;
    for (given, kept) in [(last, last), (last + 1, last), (u64::MAX, last)] {
        let meta = Meta { stored_ms: given, ..header().meta };
        assert_eq!(back(&Header { meta, ..header() }).meta, Meta { stored_ms: kept, ..meta });
    }
}

#[test]
fn the_other_fields_hold_all_their_bits() {
    for meta in [
        Meta::default(),
        Meta {
            schema: u32::MAX,
            incarnation: u64::MAX,
            source_version: u64::MAX,
            ..Meta::default()
        },
    ] {
        assert_eq!(back(&Header { meta, ..header() }).meta, meta);
    }
    for codec in 0..=u8::MAX {
        assert_eq!(back(&Header { codec: CodecId(codec), ..header() }).codec, CodecId(codec));
    }
    for shape in [0, 1, u64::MAX] {
        let shape = Shape::from_value(shape);
        assert_eq!(back(&Header { shape, ..header() }).shape, shape);
    }
}

#[test]
fn a_negative_entry_is_empty() {
    let negative = Header { negative: true, ..header() };
    let empty = entry(&negative, b"");
    let opened = open(&empty, KEY, 64).unwrap();
    assert_eq!((opened.header, opened.payload), (negative, &b""[..]));
    assert_eq!(open(&entry(&negative, b"x"), KEY, 1024), Err(Refusal::Length));
}

#[test]
fn a_sealed_negative_entry_has_a_payload_only_its_key_can_judge() {
    let negative = Header { negative: true, sealed: true, ..header() };
    let extensions = Extensions { seal: Some(seal_note()), ..Extensions::default() };
    let entry = entry_of(&negative, &extensions, KEY, b"a tag, presumably");
    let opened = open(&entry, KEY, 1024).unwrap();
    assert_eq!((opened.header, opened.payload), (negative, &b"a tag, presumably"[..]));
}

#[test]
fn a_reader_accepts_what_it_expects() {
    let header = header();
    let other = Shape::from_value(1);
    assert_eq!(header.accept(7, header.shape), Ok(()));
    assert_eq!(header.accept(8, header.shape), Err(Refusal::OlderSchema));
    assert_eq!(header.accept(6, header.shape), Err(Refusal::NewerSchema));
    assert_eq!(header.accept(7, other), Err(Refusal::Shape));
    // The schema is compared first: a newer one must be seen for what it is.
    assert_eq!(header.accept(8, other), Err(Refusal::OlderSchema));
    assert_eq!(header.accept(6, other), Err(Refusal::NewerSchema));
}

#[test]
fn a_negative_entry_is_accepted_alike_and_of_any_codec() {
    let negative = Header { negative: true, codec: CodecId(99), ..header() };
    assert_eq!(negative.accept(7, negative.shape), Ok(()));
    assert_eq!(negative.accept(8, negative.shape), Err(Refusal::OlderSchema));
    assert_eq!(negative.accept(6, negative.shape), Err(Refusal::NewerSchema));
    assert_eq!(negative.accept(7, Shape::from_value(1)), Err(Refusal::Shape));
}

proptest! {
    #[test]
    fn anything_finished_is_opened(
        key in proptest::collection::vec(any::<u8>(), 0..300),
        payload in proptest::collection::vec(any::<u8>(), 0..2000),
        (codec, compressed, sealed) in any::<(u8, bool, bool)>(),
        shape: u64,
        schema: u32,
        fresh_ms in 0_u64..1 << 40,
        stale_ms in 0_u64..1 << 40,
        stored_ms in 0_u64..1 << 48,
        (incarnation, source_version) in any::<(u64, u64)>(),
        (dictionary, key_id, nonce) in any::<(Option<u64>, u32, [u8; 24])>(),
        tags in proptest::collection::vec(any::<u8>(), 0..40),
    ) {
        let header = Header {
            codec: CodecId(codec),
            negative: payload.is_empty() && !compressed,
            compressed,
            sealed,
            shape: Shape::from_value(shape),
            meta: Meta { schema, fresh_ms, stale_ms, stored_ms, incarnation, source_version },
        };
        let extensions = Extensions {
            dictionary: dictionary.filter(|_| compressed),
            seal: sealed.then_some(SealNote { key_id, nonce }),
            tags: &tags,
        };
        let entry = entry_of(&header, &extensions, &key, &payload);
        let vouched = [&entry[8..HEADER_LEN], &entry[HEADER_LEN + payload.len()..]];
        prop_assert_eq!(
            open(&entry, &key, entry.len()),
            Ok(Opened { header, extensions, payload: &payload, vouched })
        );
    }
}
