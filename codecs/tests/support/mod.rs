//! What the tests of codecs and packings share.
#![allow(dead_code, unused_macros, unused_imports, reason = "each test binary uses a part of it")]

use std::fmt::Debug;

use serde::{Serialize, de::DeserializeOwned};
use tiered_codecs::{
    Also, Codec, CodecFor, CodecId, DecodeError, EncodeError, Json, MessagePack, Packing, Postcard,
    SealKey, Sealed, Zstd,
    envelope::{self, Meta},
};
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

pub(crate) const KEY: &[u8] = b"shop:user:1";

/// A trained dictionary; the golden entries' too.
pub(crate) const DICTIONARY: &[u8] = include_bytes!("../../../tests/golden/dictionary.bin");

/// What may be stored, read and compared.
pub(crate) trait Value: Serialize + DeserializeOwned + Debug + PartialEq + 'static {}
impl<T: Serialize + DeserializeOwned + Debug + PartialEq + 'static> Value for T {}

/// A meta in which no two bytes are alike by chance.
pub(crate) fn meta() -> Meta {
    Meta {
        schema: 7,
        fresh_ms: 300_000,
        stale_ms: 3_600_000,
        stored_ms: 0x3132_3334_3536,
        incarnation: 0x1112_1314_1516_1718,
        source_version: 0x2122_2324_2526_2728,
    }
}

/// Puts the right checksum of `key` before an entry.
pub(crate) fn sum(mut entry: Vec<u8>, key: &[u8]) -> Vec<u8> {
    let sum = xxh3_64_with_seed(&entry[8..], xxh3_64(key));
    entry[..8].copy_from_slice(&sum.to_le_bytes());
    entry
}

/// An entry of `value`.
pub(crate) fn pack<T: Value>(packing: &impl Packing, value: &T) -> Vec<u8> {
    packing.pack(&meta(), KEY, Some(value)).unwrap()
}

/// A negative entry.
pub(crate) fn pack_none<T: Value>(packing: &impl Packing) -> Vec<u8> {
    packing.pack(&meta(), KEY, None::<&T>).unwrap()
}

/// Reads an entry as the engine does; `None` if it is negative.
pub(crate) fn read<T: Value>(
    packing: &impl Packing,
    bytes: &[u8],
) -> Result<Option<T>, DecodeError> {
    read_at(packing, bytes, KEY)
}

/// Reads an entry of `key` as the engine does.
pub(crate) fn read_at<T: Value>(
    packing: &impl Packing,
    bytes: &[u8],
    key: &[u8],
) -> Result<Option<T>, DecodeError> {
    let unpacked = CodecFor::<T>::unpack(packing, bytes, key, 1 << 26)?;
    unpacked.header.accept(meta().schema, CodecFor::<T>::shape(packing))?;
    if unpacked.header.negative {
        return Ok(None);
    }
    CodecFor::<T>::decode(packing, &unpacked).map(Some)
}

/// The payload of `value`: what the codec alone writes.
pub(crate) fn encode<T: Serialize>(
    packing: &impl Packing,
    value: &T,
) -> Result<Vec<u8>, EncodeError> {
    let mut out = Vec::new();
    Packing::encode(packing, value, &mut out).map(|()| out)
}

/// Decodes a payload.
pub(crate) fn decode<T: DeserializeOwned>(
    packing: &impl Packing,
    bytes: &[u8],
) -> Result<T, DecodeError> {
    Packing::decode(packing, packing.id(), bytes)
}

/// A codec from elsewhere: JSON, each byte turned over.
#[derive(Clone, Debug)]
pub(crate) struct Inverted(pub(crate) u8);

impl Codec for Inverted {
    fn id(&self) -> CodecId {
        CodecId(self.0)
    }

    fn encode<T: Serialize + ?Sized>(
        &self,
        value: &T,
        out: &mut Vec<u8>,
    ) -> Result<(), EncodeError> {
        let begin = out.len();
        Codec::encode(&Json, value, out)?;
        out[begin..].iter_mut().for_each(|byte| *byte = !*byte);
        Ok(())
    }

    fn decode<T: DeserializeOwned>(&self, payload: &[u8]) -> Result<T, DecodeError> {
        let payload: Vec<u8> = payload.iter().map(|byte| !byte).collect();
        Codec::decode(&Json, &payload)
    }
}

/// Postcard in zstd, whatever its length.
pub(crate) fn zstd() -> Zstd<Postcard> {
    Zstd::new(Postcard).threshold(0)
}

/// The same with a dictionary.
pub(crate) fn zstd_with_dictionary() -> Zstd<Postcard> {
    zstd().dictionary(DICTIONARY)
}

/// The key that the packings here seal with.
pub(crate) fn seal_key() -> SealKey {
    SealKey::new(5, std::array::from_fn(|at| at as u8))
}

pub(crate) fn sealed() -> Sealed<Postcard> {
    Sealed::new(Postcard, seal_key())
}

pub(crate) fn sealed_zstd() -> Sealed<Zstd<Json>> {
    Sealed::new(Zstd::new(Json).threshold(0), seal_key())
}

/// All there is: `Zstd` outside `Sealed`, which is the same as inside.
pub(crate) fn zstd_sealed() -> Zstd<Sealed<MessagePack>> {
    Zstd::new(Sealed::new(MessagePack, seal_key())).threshold(0).dictionary(DICTIONARY)
}

pub(crate) fn also() -> Also<Zstd<Inverted>, Inverted> {
    Also::new(Zstd::new(Inverted(200)).threshold(0), Inverted(201))
}

/// Makes a test of each function for each codec.
macro_rules! every_codec {
    ($($test:ident)*) => {
        $crate::support::tests_of!(postcard, tiered_codecs::Postcard, $($test)*);
        $crate::support::tests_of!(message_pack, tiered_codecs::MessagePack, $($test)*);
        $crate::support::tests_of!(json, tiered_codecs::Json, $($test)*);
    };
}

/// Makes a test of each function for each codec and each kind of packing.
macro_rules! every_packing {
    ($($test:ident)*) => {
        $crate::support::every_codec!($($test)*);
        $crate::support::tests_of!(foreign, $crate::support::Inverted(200), $($test)*);
        $crate::support::tests_of!(zstd, $crate::support::zstd(), $($test)*);
        $crate::support::tests_of!(
            zstd_with_dictionary, $crate::support::zstd_with_dictionary(), $($test)*
        );
        $crate::support::tests_of!(sealed, $crate::support::sealed(), $($test)*);
        $crate::support::tests_of!(sealed_zstd, $crate::support::sealed_zstd(), $($test)*);
        $crate::support::tests_of!(zstd_sealed, $crate::support::zstd_sealed(), $($test)*);
        $crate::support::tests_of!(also, $crate::support::also(), $($test)*);
    };
}

/// A module of tests, each of which gives `packing` to a function of its name.
macro_rules! tests_of {
    ($name:ident, $packing:expr, $($test:ident)*) => {
        mod $name {
            $(
                #[test]
                fn $test() {
                    super::$test(&$packing);
                }
            )*
        }
    };
}

pub(crate) use {every_codec, every_packing, tests_of};
