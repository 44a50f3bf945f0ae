//! What stands behind the payload: skipped, read, or refused.

use proptest::prelude::*;
use tiered_codecs::envelope::{Extensions, Refusal, SealNote, open};

use super::{COMPRESSED, KEY, SEALED, header, sum, with_tail};

/// An extension.
fn extension(kind: u8, bytes: &[u8]) -> Vec<u8> {
    let len = u16::try_from(bytes.len()).unwrap();
    [&[kind][..], &len.to_le_bytes(), bytes].concat()
}

fn dictionary() -> Vec<u8> {
    extension(1, &7_u64.to_le_bytes())
}

fn seal() -> Vec<u8> {
    extension(2, &[&5_u32.to_le_bytes()[..], &[8; 24]].concat())
}

/// What an entry with these flags and this tail says besides its header.
fn read(flags: u16, tail: &[&[u8]]) -> Result<Extensions<'static>, Refusal> {
    let entry = with_tail(flags, b"payload", &tail.concat()).leak();
    open(entry, KEY, 100_000).map(|it| it.extensions)
}

#[test]
fn tags_are_read_once_and_never_empty() {
    let tags = [3, 4, 0, b't', b'a', b'g', b's'];
    let read_tags = Extensions { tags: b"tags", ..NONE };
    assert_eq!(read(0, &[&tags]), Ok(read_tags));
    assert_eq!(read(COMPRESSED, &[&dictionary(), &tags]).map(|it| it.tags), Ok(&b"tags"[..]));
    assert_eq!(read(0, &[&tags, &tags]), Err(Refusal::Extension));
    assert_eq!(read(0, &[&[3, 0, 0]]), Err(Refusal::Extension));
    assert_eq!(read(0, &[&tags[..6]]), Err(Refusal::Length));
}

const NONE: Extensions<'static> = Extensions { dictionary: None, seal: None, tags: &[] };
const NOTE: SealNote = SealNote { key_id: 5, nonce: [8; 24] };

#[test]
fn each_is_read_where_its_flag_is_set() {
    let dictionary_read = Extensions { dictionary: Some(7), ..NONE };
    let seal_read = Extensions { seal: Some(NOTE), ..NONE };
    let both = Extensions { dictionary: Some(7), seal: Some(NOTE), ..Extensions::default() };
    assert_eq!(read(0, &[]), Ok(NONE));
    assert_eq!(read(COMPRESSED, &[]), Ok(NONE));
    assert_eq!(read(COMPRESSED, &[&dictionary()]), Ok(dictionary_read));
    assert_eq!(read(SEALED, &[&seal()]), Ok(seal_read));
    assert_eq!(read(COMPRESSED | SEALED, &[&seal()]), Ok(seal_read));
    // In whatever order.
    assert_eq!(read(COMPRESSED | SEALED, &[&dictionary(), &seal()]), Ok(both));
    assert_eq!(read(COMPRESSED | SEALED, &[&seal(), &dictionary()]), Ok(both));
}

#[test]
fn a_seal_and_its_flag_need_each_other() {
    assert_eq!(read(0, &[&seal()]), Err(Refusal::Extension));
    assert_eq!(read(COMPRESSED, &[&seal()]), Err(Refusal::Extension));
    assert_eq!(read(SEALED, &[]), Err(Refusal::Extension));
    assert_eq!(read(SEALED | COMPRESSED, &[&dictionary()]), Err(Refusal::Extension));
}

#[test]
fn a_dictionary_needs_what_is_compressed() {
    assert_eq!(read(0, &[&dictionary()]), Err(Refusal::Extension));
    assert_eq!(read(SEALED, &[&dictionary(), &seal()]), Err(Refusal::Extension));
}

#[test]
fn a_known_one_of_another_length_is_refused() {
    for len in (0..40).filter(|len| *len != 8) {
        let tail = extension(1, &vec![0; len]);
        assert_eq!(read(COMPRESSED, &[&tail]), Err(Refusal::Extension), "{len} bytes");
    }
    for len in (0..80).filter(|len| *len != 28) {
        let tail = extension(2, &vec![0; len]);
        assert_eq!(read(SEALED, &[&tail]), Err(Refusal::Extension), "{len} bytes");
    }
}

#[test]
fn a_known_one_that_is_there_twice_is_refused() {
    assert_eq!(read(COMPRESSED, &[&dictionary(), &dictionary()]), Err(Refusal::Extension));
    assert_eq!(read(SEALED, &[&seal(), &seal()]), Err(Refusal::Extension));
    let apart = [&seal()[..], &extension(9, b"ab"), &seal()];
    assert_eq!(read(SEALED, &apart), Err(Refusal::Extension));
}

#[test]
fn those_of_a_later_writer_are_skipped() {
    for kind in (0..=u8::MAX).filter(|kind| ![1, 2, 3].contains(kind)) {
        for bytes in [&b""[..], b"a", b"ab", &[1, 8, 0]] {
            assert_eq!(read(0, &[&extension(kind, bytes)]), Ok(NONE), "kind {kind}");
        }
    }
    let longest = extension(9, &vec![1; u16::MAX.into()]);
    assert_eq!(read(0, &[&longest]), Ok(NONE));
    assert_eq!(read(0, &[&extension(9, b"a"), &extension(9, b"a"), &extension(10, b"")]), Ok(NONE));
    let between = [&extension(9, b"a")[..], &seal(), &extension(0, b""), &dictionary()];
    let both = Extensions { dictionary: Some(7), seal: Some(NOTE), ..Extensions::default() };
    assert_eq!(read(COMPRESSED | SEALED, &between), Ok(both));
}

#[test]
fn a_skipped_one_changes_nothing_else() {
    let entry = with_tail(0, b"payload", &extension(9, b"later"));
    let opened = open(&entry, KEY, 1024).unwrap();
    assert_eq!((opened.header, opened.payload), (header(), &b"payload"[..]));
    // But an encryption vouches for it.
    assert_eq!(opened.vouched, [&entry[8..64], &entry[71..]]);
}

#[test]
fn those_that_do_not_add_up_are_refused() {
    for tail in [&[9][..], &[9, 0], &[9, 1, 0], &[9, 0, 1, b'a'], &[9, 0, 0, 9], &[9, 0, 0, 9, 9]] {
        assert_eq!(read(0, &[tail]), Err(Refusal::Length), "{tail:?}");
    }
    assert_eq!(read(0, &[&[9, 0xff, 0xff], &[0; 0xfffe]]), Err(Refusal::Length));
    // Known ones that end too early are no different.
    assert_eq!(read(COMPRESSED, &[&dictionary()[..10]]), Err(Refusal::Length));
    assert_eq!(read(SEALED, &[&seal()[..30]]), Err(Refusal::Length));
}

#[test]
fn a_payload_length_that_ends_elsewhere_makes_others_of_them() {
    let entry = with_tail(0, b"payload", &extension(9, b"ab"));
    for (len, result) in [
        (7_u32, Ok(b"payload".len())),
        (12, Ok(12)),               // all of it is payload
        (13, Err(Refusal::Length)), // more than there is
        (8, Err(Refusal::Length)),  // the tail begins in the extension
        (6, Err(Refusal::Length)),
    ] {
        let mut entry = entry.clone();
        entry[20..24].copy_from_slice(&len.to_le_bytes());
        let opened = open(&sum(entry.clone()), KEY, 1024).map(|it| it.payload.len());
        assert_eq!(opened, result, "{len} bytes");
    }
}

proptest! {
    #[test]
    fn any_tail_is_safe(flags in 0_u16..8, tail in proptest::collection::vec(0_u8..12, 0..60)) {
        let entry = with_tail(flags & !1, b"payload", &tail);
        if let Ok(opened) = open(&entry, KEY, 1024) {
            prop_assert_eq!(opened.payload, b"payload");
            prop_assert_eq!(opened.vouched[1], tail);
        }
    }
}
