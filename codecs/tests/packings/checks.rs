//! What cannot work is refused before the first value, by a sentence that names it and the way out.

use std::fmt::Debug;

use serde::{Serialize, de::DeserializeOwned};
use tiered_codecs::{
    Also, Codec, CodecFor, CodecId, DecodeError, EncodeError, Json, MessagePack, Packing, Postcard,
    SealKey, Sealed, Zstd,
};

use crate::support::{DICTIONARY, Inverted, KEY, also, meta, seal_key, sealed, zstd, zstd_sealed};

#[track_caller]
fn works(packing: &impl Packing) {
    assert_eq!(Packing::check(packing), Ok(()));
    assert_eq!(CodecFor::<u8>::check(packing), Ok(()));
}

/// It is refused, and all of `words` are said.
#[track_caller]
fn refused(packing: &impl Packing, words: &[&str]) {
    let sentence = Packing::check(packing).unwrap_err();
    for word in words {
        assert!(sentence.contains(word), "{word:?} is not in: {sentence}");
    }
    assert_eq!(CodecFor::<u8>::check(packing), Err(sentence));
}

#[test]
fn this_crates_codecs_work() {
    works(&Postcard);
    works(&MessagePack);
    works(&Json);
    works(&zstd_sealed());
    works(&also());
    works(&Also::new(Also::new(Postcard, Json), MessagePack));
}

#[test]
fn a_codec_from_elsewhere_needs_an_id_from_128_on() {
    for id in [128, 200, 255] {
        works(&Inverted(id));
    }
    for id in [0, 1, 2, 3, 4, 127] {
        let words = [&format!("Inverted({id})"), &format!("id {id}"), "from 128 to 255"];
        let words = words.map(|word| word as &str);
        refused(&Inverted(id), &words);
        // Wherever it is.
        refused(&Zstd::new(Inverted(id)), &words);
        refused(&Sealed::new(Inverted(id), seal_key()), &words);
        refused(&Also::new(Inverted(id), Json), &words);
        refused(&Also::new(Json, Inverted(id)), &words);
        refused(&Also::new(Also::new(Json, Inverted(id)), Inverted(200)), &words);
    }
}

/// A codec that passes itself off as another.
#[derive(Clone, Debug)]
struct Imposter;

impl Codec for Imposter {
    fn id(&self) -> CodecId {
        CodecId::POSTCARD
    }
    fn encode<T: Serialize + ?Sized>(&self, _: &T, _: &mut Vec<u8>) -> Result<(), EncodeError> {
        Ok(())
    }
    fn decode<T: DeserializeOwned>(&self, _: &[u8]) -> Result<T, DecodeError> {
        Err(DecodeError::Trailing)
    }
}

#[test]
fn a_codec_from_elsewhere_cannot_take_this_crates_ids() {
    refused(&Imposter, &["Imposter", "id 1", "from 128 to 255"]);
    refused(&Also::new(Postcard, Imposter), &["Imposter", "id 1"]);
}

#[test]
fn two_codecs_of_one_id_are_refused() {
    let words = ["two codecs have the id 200", "Inverted(200)", "another id"];
    refused(&Also::new(Inverted(200), Inverted(200)), &words);
    refused(&Also::new(Zstd::new(Inverted(200)), Inverted(200)), &words);
    refused(&Also::new(Sealed::new(Inverted(200), seal_key()), Inverted(200)), &words);
    refused(&Also::new(Also::new(Postcard, Inverted(200)), Inverted(200)), &words);
    refused(&Also::new(Zstd::new(Also::new(Inverted(200), Inverted(201))), Inverted(200)), &words);
    refused(&Also::new(Also::new(Inverted(200), Inverted(201)), Inverted(201)), &["the id 201"]);
    refused(&Sealed::new(Also::new(Inverted(200), Inverted(200)), seal_key()), &words);
    works(&Also::new(Also::new(Inverted(200), Inverted(201)), Inverted(202)));
}

#[test]
fn a_stage_that_is_there_twice_is_refused() {
    // Only one of the two would do anything.
    let sealed_twice = ["Sealed in Sealed", "old_key"];
    refused(&Sealed::new(sealed(), SealKey::new(6, [6; 32])), &sealed_twice);
    refused(&Sealed::new(Zstd::new(sealed()), SealKey::new(6, [6; 32])), &sealed_twice);
    refused(&Zstd::new(zstd()), &["Zstd in Zstd"]);
    let deep = Zstd::new(Also::new(Sealed::new(zstd(), seal_key()), Inverted(200)));
    refused(&deep, &["Zstd in Zstd"]);
}

#[test]
fn zstds_level_must_be_one_of_zstds() {
    let levels = zstd::compression_level_range();
    for level in [*levels.start(), -7, -1, 0, 1, 3, 19, *levels.end()] {
        works(&Zstd::new(Postcard).level(level));
    }
    for level in [*levels.start() - 1, *levels.end() + 1, i32::MIN, i32::MAX] {
        refused(
            &Zstd::new(Postcard).level(level),
            &["level", &level.to_string(), &levels.start().to_string(), &levels.end().to_string()],
        );
    }
    refused(&Sealed::new(Zstd::new(Postcard).level(99), seal_key()), &["level is 99"]);
    refused(&Also::new(Zstd::new(Postcard).level(99), Inverted(200)), &["level is 99"]);
}

#[test]
fn zstds_bound_must_be_one() {
    for bytes in [1 << 10, 32 << 20, 1 << 30] {
        works(&Zstd::new(Postcard).max_expanded(bytes));
    }
    for bytes in [0, 1, (1 << 10) - 1, (1 << 30) + 1, usize::MAX] {
        let words = ["max_expanded", &bytes.to_string(), "1 KiB to 1 GiB", "32 << 20"];
        refused(&Zstd::new(Postcard).max_expanded(bytes), &words);
    }
}

#[test]
fn zstds_dictionary_must_be_one() {
    works(&Zstd::new(Postcard).dictionary(DICTIONARY));
    works(&Zstd::new(Postcard).old_dictionary(DICTIONARY));
    // Any bytes are a dictionary, unless they say that they were trained.
    works(&Zstd::new(Postcard).dictionary(b"what values often say".to_vec()));
    let cut = &DICTIONARY[..20];
    for broken in [&b""[..], cut] {
        let words = ["dictionary is empty or broken", "zstd --train"];
        refused(&Zstd::new(Postcard).dictionary(broken), &words);
        refused(&Zstd::new(Postcard).old_dictionary(broken), &words);
        refused(&zstd().dictionary(DICTIONARY).old_dictionary(broken), &words);
    }
}

#[test]
fn a_seal_key_must_be_secret() {
    let words = ["seal key 9", "all zeros", "openssl rand 32"];
    refused(&Sealed::new(Postcard, SealKey::new(9, [0; 32])), &words);
    refused(&sealed().old_key(SealKey::new(9, [0; 32])), &words);
    let mut almost = [0; 32];
    almost[31] = 1;
    works(&Sealed::new(Postcard, SealKey::new(0, almost)));
}

#[test]
fn a_seal_keys_id_must_be_its_own() {
    let key = |id, byte| SealKey::new(id, [byte; 32]);
    let words = ["two seal keys have the id 5", "each its own"];
    refused(&Sealed::new(Postcard, key(5, 1)).old_key(key(5, 2)), &words);
    refused(&Sealed::new(Postcard, key(5, 1)).old_key(key(5, 1)), &words);
    refused(&Sealed::new(Postcard, key(4, 1)).old_key(key(5, 2)).old_key(key(5, 3)), &words);
    works(&Sealed::new(Postcard, key(4, 1)).old_key(key(5, 2)).old_key(key(6, 3)));
    refused(&Zstd::new(Sealed::new(Postcard, key(5, 1)).old_key(key(5, 2))), &words);
    refused(&Also::new(Sealed::new(Postcard, key(5, 1)).old_key(key(5, 2)), Inverted(200)), &words);
}

/// A codec that does not keep to the contract: it takes the buffer for its own.
#[derive(Clone, Debug)]
struct Clears;

impl Codec for Clears {
    fn id(&self) -> CodecId {
        CodecId(210)
    }
    fn encode<T: Serialize + ?Sized>(&self, _: &T, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        out.clear();
        out.push(1);
        Ok(())
    }
    fn decode<T: DeserializeOwned>(&self, _: &[u8]) -> Result<T, DecodeError> {
        Err(DecodeError::Trailing)
    }
}

#[test]
fn a_codec_that_shortens_the_buffer_writes_no_entry() {
    let packed = |packing: &dyn Fn() -> Result<Vec<u8>, EncodeError>| packing().unwrap_err().0;
    let reason = packed(&|| Clears.pack(&meta(), KEY, Some(&1_u8)));
    assert!(reason.contains("shortened the buffer"), "{reason}");
    let sealed = Sealed::new(Clears, seal_key());
    let reason = packed(&|| sealed.pack(&meta(), KEY, Some(&1_u8)));
    assert!(reason.contains("shortened the buffer"), "{reason}");
}
