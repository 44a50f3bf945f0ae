//! Sealing: what is read back, and what the bytes are, told apart from the crate's own code.

use chacha20poly1305::{
    KeyInit, XChaCha20Poly1305,
    aead::{AeadInOut, inout::InOutBuf},
};
use tiered_codecs::{
    CodecFor, DecodeError, Packing, Postcard, SealKey, Sealed, Zstd,
    envelope::{self, Extensions, Header, Refusal, SealNote},
};

use super::{Order, order};
use crate::support::{
    KEY, encode, meta, pack, pack_none, read, read_at, seal_key, sealed, sealed_zstd, sum, zstd,
    zstd_sealed,
};

const SEALED: DecodeError = DecodeError::Refused(Refusal::Sealed);

/// What the tests seal with, by its bytes.
fn cipher() -> XChaCha20Poly1305 {
    let key: [u8; 32] = std::array::from_fn(|at| at as u8);
    XChaCha20Poly1305::new(&key.into())
}

/// What is authenticated besides the payload, as `docs/envelope.md` says it.
fn associated(entry: &[u8], payload_len: usize, key: &[u8]) -> Vec<u8> {
    let key_len = (key.len() as u64).to_le_bytes();
    let tail = &entry[64 + payload_len..];
    [b"tiered entry 1", &key_len[..], key, &entry[8..64], tail].concat()
}

#[test]
fn a_sealed_entry_is_what_the_specification_says() {
    for (packing, value) in [(&sealed(), order()), (&sealed(), Order { lines: vec![], ..order() })]
    {
        let entry = pack(packing, &value);
        let opened = envelope::open(&entry, KEY, 1 << 20).unwrap();
        let note = opened.extensions.seal.unwrap();
        assert_eq!(note.key_id, 5);
        let (payload, tag) = opened.payload.split_last_chunk::<16>().unwrap();
        let mut plain = payload.to_vec();
        let data = associated(&entry, opened.payload.len(), KEY);
        cipher()
            .decrypt_inout_detached(
                &note.nonce.into(),
                &data,
                InOutBuf::from(plain.as_mut_slice()),
                tag.into(),
            )
            .unwrap();
        assert_eq!(plain, encode(&Postcard, &value).unwrap());
    }
}

/// An entry sealed by hand, with `plain` for its payload and `later` behind the known extensions.
fn by_hand(header: Header, plain: &[u8], later: &[u8]) -> Vec<u8> {
    let header = Header { sealed: true, ..header };
    let note = SealNote { key_id: 5, nonce: [7; 24] };
    let mut entry = envelope::begin(0);
    entry.extend_from_slice(plain);
    entry.extend_from_slice(&[0; 16]);
    let len = plain.len() + 16;
    envelope::finish(
        &mut entry,
        &header,
        &Extensions { seal: Some(note), ..Extensions::default() },
        KEY,
    );
    entry.extend_from_slice(later);
    let data = associated(&entry, len, KEY);
    let payload = InOutBuf::from(&mut entry[64..64 + plain.len()]);
    let tag = cipher().encrypt_inout_detached(&note.nonce.into(), &data, payload).unwrap();
    entry[64 + plain.len()..64 + len].copy_from_slice(&tag);
    sum(entry, KEY)
}

fn header() -> Header {
    Header {
        codec: Packing::id(&Postcard),
        negative: false,
        compressed: false,
        sealed: true,
        shape: CodecFor::<Order>::shape(&Postcard),
        meta: meta(),
    }
}

#[test]
fn what_another_program_seals_by_the_specification_is_read() {
    let plain = encode(&Postcard, &order()).unwrap();
    assert_eq!(read(&sealed(), &by_hand(header(), &plain, b"")), Ok(Some(order())));
    // A later writer's extension is skipped, and authenticated.
    let later = by_hand(header(), &plain, &[99, 2, 0, b'o', b'k']);
    assert_eq!(read(&sealed(), &later), Ok(Some(order())));
    let mut changed = later;
    *changed.last_mut().unwrap() ^= 1;
    assert_eq!(read::<Order>(&sealed(), &sum(changed, KEY)), Err(SEALED));
}

#[test]
fn a_sealed_negative_entry_holds_nothing() {
    let negative = Header { negative: true, ..header() };
    assert_eq!(read::<Order>(&sealed(), &by_hand(negative, b"", b"")), Ok(None));
    let there = read::<Order>(&sealed(), &by_hand(negative, b"x", b""));
    assert_eq!(there, Err(DecodeError::Refused(Refusal::Length)));
}

#[test]
fn a_sealed_payload_shorter_than_a_tag_is_refused() {
    let note = SealNote { key_id: 5, nonce: [7; 24] };
    for len in 0..16 {
        let mut entry = envelope::begin(0);
        entry.resize(64 + len, 0);
        let extensions = Extensions { seal: Some(note), ..Extensions::default() };
        envelope::finish(&mut entry, &header(), &extensions, KEY);
        assert_eq!(read::<Order>(&sealed(), &entry), Err(SEALED), "{len} bytes");
    }
}

#[test]
fn none_is_sealed_and_read() {
    fn comes_back(packing: &impl Packing) {
        let entry = pack_none::<Order>(packing);
        assert!(envelope::open(&entry, KEY, 1024).unwrap().header.sealed);
        assert_eq!(read::<Order>(packing, &entry), Ok(None));
    }
    comes_back(&sealed());
    comes_back(&sealed_zstd());
    comes_back(&zstd_sealed());
}

#[test]
fn what_is_not_sealed_is_refused_unless_it_may_be() {
    for entry in [pack(&Postcard, &order()), pack(&zstd(), &order()), pack_none::<Order>(&Postcard)]
    {
        assert_eq!(read::<Order>(&sealed(), &entry), Err(SEALED));
        assert_eq!(read::<Order>(&zstd_sealed(), &entry), Err(SEALED));
        let expected = read::<Order>(&Postcard, &entry);
        assert_eq!(read::<Order>(&sealed().accept_unsealed(), &entry), expected);
        assert!(expected.is_ok());
    }
}

#[test]
fn what_is_sealed_is_refused_without_its_key() {
    let none = pack_none::<Order>(&sealed());
    for entry in [pack(&sealed(), &order()), none] {
        assert_eq!(read::<Order>(&Postcard, &entry), Err(SEALED));
        assert_eq!(read::<Order>(&zstd(), &entry), Err(SEALED));
        let key: [u8; 32] = std::array::from_fn(|at| at as u8 ^ u8::from(at == 31));
        for other in [
            SealKey::new(5, [1; 32]), // the id, and another key
            SealKey::new(5, key),     // of which a bit is another
            SealKey::new(6, std::array::from_fn(|at| at as u8)), // the key, and another id
        ] {
            let other = Sealed::new(Postcard, other);
            assert_eq!(read::<Order>(&other, &entry), Err(SEALED));
            assert_eq!(read::<Order>(&other.accept_unsealed(), &entry), Err(SEALED));
        }
    }
}

#[test]
fn an_old_key_reads_and_does_not_write() {
    let newest = SealKey::new(9, [9; 32]);
    let rotated = Sealed::new(Postcard, newest.clone()).old_key(seal_key());
    assert_eq!(read(&rotated, &pack(&sealed(), &order())), Ok(Some(order())));
    let entry = pack(&rotated, &order());
    assert_eq!(read(&Sealed::new(Postcard, newest), &entry), Ok(Some(order())));
    assert_eq!(read::<Order>(&sealed(), &entry), Err(SEALED));
}

#[test]
fn no_two_entries_are_alike() {
    let nonce =
        |entry: &[u8]| envelope::open(entry, KEY, 1 << 20).unwrap().extensions.seal.unwrap().nonce;
    let entries: Vec<Vec<u8>> = (0..100).map(|_| pack(&sealed(), &order())).collect();
    let nonces: std::collections::HashSet<_> = entries.iter().map(|entry| nonce(entry)).collect();
    assert_eq!(nonces.len(), 100);
    assert!(entries.windows(2).all(|two| two[0][64..80] != two[1][64..80]));
    assert_ne!(pack_none::<Order>(&sealed()), pack_none::<Order>(&sealed()));
}

#[test]
fn an_entry_is_sealed_to_its_whole_key() {
    // The namespace is the key's beginning; these differ in it, in the rest, and in where it ends.
    let entry = pack(&sealed(), &order());
    for key in [
        &b"shoq:user:1"[..],
        b"shop:user:2",
        b"shop:user:",
        b"shop:user:1\0",
        b"shop:user:1TIER",
        b"hop:user:1",
        b"",
    ] {
        let moved = sum(entry.clone(), key);
        assert!(read_at::<Order>(&Postcard, &moved, key).is_err());
        assert_eq!(read_at::<Order>(&sealed(), &moved, key), Err(SEALED), "{}", key.escape_ascii());
        // Unsealed it would have been believed.
        let unsealed = sum(pack(&Postcard, &order()), key);
        assert_eq!(read_at(&Postcard, &unsealed, key), Ok(Some(order())));
    }
}

#[test]
fn sealing_and_compressing_are_the_same_in_either_order() {
    let inside = Sealed::new(Zstd::new(Postcard).threshold(0), seal_key());
    let outside = Zstd::new(Sealed::new(Postcard, seal_key())).threshold(0);
    let [one, other] = [pack(&inside, &order()), pack(&outside, &order())];
    assert_eq!(one.len(), other.len());
    assert_eq!(read(&outside, &one), Ok(Some(order())));
    assert_eq!(read(&inside, &other), Ok(Some(order())));
    // It is compressed first: what is encrypted does not shrink.
    assert!(one.len() + 50 < pack(&sealed(), &order()).len());
}

#[test]
fn a_value_of_any_length_is_sealed() {
    for len in [0, 1, 15, 16, 17, 63, 64, 65, 4096, 1 << 20] {
        let value = vec![7_u8; len];
        assert_eq!(read(&sealed(), &pack(&sealed(), &value)), Ok(Some(value)));
    }
}
