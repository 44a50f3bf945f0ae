//! A warm cache survives a change of its packing: what one wrote, another reads, if it can know
//! how.

use tiered_codecs::{
    Also, Codec, CodecFor, CodecId, DecodeError, Json, MessagePack, Packing, Postcard, SealKey,
    Sealed, Zstd, envelope::Refusal,
};

use super::{Order, order};
use crate::support::{
    DICTIONARY, Inverted, KEY, also, pack, pack_none, read, seal_key, sealed, sealed_zstd, zstd,
    zstd_sealed, zstd_with_dictionary,
};

/// How an entry was written.
#[derive(Clone, Copy, Debug, PartialEq)]
enum How {
    Plain,
    Compressed,
    WithDictionary,
    Foreign,
    Sealed,
    SealedWithDictionary,
}

/// An entry by each packing, and a negative one.
fn written() -> Vec<(How, Vec<u8>, Vec<u8>)> {
    fn by(how: How, packing: &impl Packing) -> (How, Vec<u8>, Vec<u8>) {
        (how, pack(packing, &order()), pack_none::<Order>(packing))
    }
    vec![
        by(How::Plain, &Postcard),
        by(How::Plain, &MessagePack),
        by(How::Plain, &Json),
        by(How::Plain, &Zstd::new(Json).threshold(1 << 20)),
        by(How::Plain, &Also::new(Json, Inverted(200))),
        by(How::Compressed, &zstd()),
        by(How::Compressed, &Zstd::new(MessagePack).threshold(0)),
        by(How::Compressed, &Zstd::new(Json).threshold(0).level(19)),
        by(How::Compressed, &Zstd::new(Json).threshold(0).level(-5)),
        by(How::WithDictionary, &zstd_with_dictionary()),
        by(How::Foreign, &Inverted(200)),
        by(How::Foreign, &also()),
        by(How::Sealed, &sealed()),
        by(How::Sealed, &sealed_zstd()),
        by(How::SealedWithDictionary, &zstd_sealed()),
    ]
}

/// Reads all that was written, and has `reads` say which of it is understood, `refusal` why the
/// rest is not. Negative entries are understood wherever they are believed.
fn reads(packing: &impl Packing, reads: &[How], refusal: impl Fn(How) -> Refusal) {
    for (how, entry, none) in written() {
        let there = read::<Order>(packing, &entry);
        let nothing = read::<Order>(packing, &none);
        if reads.contains(&how) {
            assert_eq!(there, Ok(Some(order())), "{how:?} by {packing:?}");
            assert_eq!(nothing, Ok(None), "{how:?} by {packing:?}");
        } else {
            let refusal = refusal(how);
            assert_eq!(there, Err(DecodeError::Refused(refusal)), "{how:?} by {packing:?}");
            match refusal {
                Refusal::Sealed => assert_eq!(nothing, Err(DecodeError::Refused(refusal))),
                _ => assert_eq!(nothing, Ok(None), "{how:?} by {packing:?}"),
            }
        }
    }
}

/// Why a packing without keys refuses what it cannot read.
fn without_keys(how: How) -> Refusal {
    match how {
        How::Foreign => Refusal::Codec,
        How::WithDictionary => Refusal::Dictionary,
        _ => Refusal::Sealed,
    }
}

#[test]
fn every_codec_reads_what_the_others_wrote_compressed_or_not() {
    let all = [How::Plain, How::Compressed];
    reads(&Postcard, &all, without_keys);
    reads(&MessagePack, &all, without_keys);
    reads(&Json, &all, without_keys);
    reads(&zstd(), &all, without_keys);
    reads(&Zstd::new(Json), &all, without_keys);
    reads(&zstd().dictionary(b"some other dictionary".to_vec()), &all, without_keys);
    reads(&Also::new(Postcard, Inverted(222)), &all, without_keys);
}

#[test]
fn a_foreign_codec_reads_what_this_crates_wrote_too() {
    let all = [How::Plain, How::Compressed, How::Foreign];
    reads(&Inverted(200), &all, without_keys);
    reads(&Also::new(Postcard, Inverted(200)), &all, without_keys);
    reads(&Also::new(Also::new(Json, Inverted(201)), Inverted(200)), &all, without_keys);
    reads(&also(), &all, without_keys);
    // With another id it is another codec.
    reads(&Inverted(201), &[How::Plain, How::Compressed], without_keys);
}

#[test]
fn a_dictionary_is_read_by_whoever_has_it() {
    let all = [How::Plain, How::Compressed, How::WithDictionary];
    reads(&zstd_with_dictionary(), &all, without_keys);
    reads(&Zstd::new(MessagePack).dictionary(DICTIONARY), &all, without_keys);
    reads(&zstd().old_dictionary(DICTIONARY), &all, without_keys);
    let moved_on = zstd().dictionary(b"a newer dictionary".to_vec()).old_dictionary(DICTIONARY);
    reads(&moved_on.clone(), &all, without_keys);
    reads(&Also::new(moved_on, Inverted(222)), &all, without_keys);
    let several = zstd().old_dictionary(b"one".to_vec()).old_dictionary(DICTIONARY);
    reads(&several, &all, without_keys);
}

#[test]
fn what_is_sealed_is_read_with_its_key_and_nothing_else_is() {
    let refusal = |how| match how {
        How::SealedWithDictionary => Refusal::Dictionary,
        _ => Refusal::Sealed,
    };
    reads(&sealed(), &[How::Sealed], refusal);
    reads(&sealed_zstd(), &[How::Sealed], refusal);
    reads(&zstd_sealed(), &[How::Sealed, How::SealedWithDictionary], refusal);
    reads(
        &Sealed::new(zstd_with_dictionary(), seal_key()),
        &[How::Sealed, How::SealedWithDictionary],
        refusal,
    );
    reads(&Also::new(sealed(), Inverted(200)), &[How::Sealed], refusal);
}

#[test]
fn what_is_sealed_is_read_with_an_old_key() {
    let refusal = |how| match how {
        How::SealedWithDictionary => Refusal::Dictionary,
        _ => Refusal::Sealed,
    };
    let newer = SealKey::new(6, [6; 32]);
    reads(&Sealed::new(Json, newer.clone()).old_key(seal_key()), &[How::Sealed], refusal);
    let oldest = SealKey::new(1, [1; 32]);
    let several = Sealed::new(Json, newer.clone()).old_key(oldest).old_key(seal_key());
    reads(&several, &[How::Sealed], refusal);
    // And not without it.
    reads(&Sealed::new(Json, newer), &[], |_| Refusal::Sealed);
}

#[test]
fn a_service_that_moves_to_sealing_reads_both() {
    let moving = Sealed::new(zstd_with_dictionary(), seal_key()).accept_unsealed();
    let all =
        [How::Plain, How::Compressed, How::WithDictionary, How::Sealed, How::SealedWithDictionary];
    reads(&moving, &all, |_| Refusal::Codec);
    // What it writes is sealed.
    let entry = pack(&moving, &order());
    assert_eq!(read::<Order>(&zstd_with_dictionary(), &entry), Err(Refusal::Sealed.into()));
    assert_eq!(read(&zstd_sealed(), &entry), Ok(Some(order())));
}

#[test]
fn an_entry_that_claims_to_be_another_codecs_is_no_value() {
    // Nothing says whose bytes these are but the id.
    let mut bytes = Vec::new();
    Codec::encode(&Json, &order(), &mut bytes).unwrap();
    for id in [CodecId::POSTCARD, CodecId::MESSAGE_PACK] {
        let there = Packing::decode::<Order>(&Json, id, &bytes);
        assert!(matches!(there, Err(DecodeError::Payload(_))), "{id:?}: {there:?}");
    }
}

#[test]
fn a_negative_entry_is_read_whoever_wrote_it() {
    let none = pack_none::<Order>(&Inverted(250));
    assert_eq!(read::<Order>(&Postcard, &none), Ok(None));
    let unpacked = CodecFor::<Order>::unpack(&Postcard, &none, KEY, 1 << 20).unwrap();
    assert_eq!(unpacked.header.codec, CodecId(250));
    assert!(CodecFor::<Order>::decode(&Postcard, &unpacked).is_err());
}
