//! The packings that targets write and read with, prepared once.

use std::sync::LazyLock;

use serde::{Serialize, de::DeserializeOwned};
use tiered_codecs::{
    Codec, CodecId, DecodeError, EncodeError, Json, MessagePack, Postcard, SealKey, Sealed, Zstd,
    envelope::Meta,
};

/// The key that entries are stored under.
pub const KEY: &[u8] = b"shop:cart:7";
/// What entries say of themselves.
pub const META: Meta = Meta {
    schema: 1,
    fresh_ms: 300_000,
    stale_ms: 3_600_000,
    stored_ms: 1_800_000_000_000,
    incarnation: 0x1122_3344_5566_7788,
    source_version: 9,
};
/// To how much a payload may expand: little, so that the bound is met.
pub const MAX_EXPANDED: usize = 64 << 10;
/// A dictionary of bytes that resemble what is packed.
pub const RAW_DICTIONARY: &[u8] = include_bytes!("../dictionaries/zstd_raw.bin");
/// A dictionary that `zstd --train` made, with tables of its own.
pub const TRAINED_DICTIONARY: &[u8] = include_bytes!("../dictionaries/zstd_trained.bin");
/// What seals; its number is 1.
pub const SECRET: [u8; 32] = *b"a secret of thirty-two bytes....";
/// What sealed before; its number is 2.
pub const OLD_SECRET: [u8; 32] = *b"another one of thirty-two bytes.";

/// A codec that is chosen at run time: with it, a type's code is there once and not once a packing.
#[derive(Clone, Copy, Debug)]
pub enum AnyCodec {
    /// Compact, without names.
    Postcard,
    /// Compact, with names.
    MessagePack,
    /// For people.
    Json,
}

impl Codec for AnyCodec {
    fn id(&self) -> CodecId {
        match self {
            Self::Postcard => CodecId::POSTCARD,
            Self::MessagePack => CodecId::MESSAGE_PACK,
            Self::Json => CodecId::JSON,
        }
    }

    #[inline(never)]
    fn encode<T: Serialize + ?Sized>(
        &self,
        value: &T,
        out: &mut Vec<u8>,
    ) -> Result<(), EncodeError> {
        match self {
            Self::Postcard => Codec::encode(&Postcard, value, out),
            Self::MessagePack => Codec::encode(&MessagePack, value, out),
            Self::Json => Codec::encode(&Json, value, out),
        }
    }

    #[inline(never)]
    fn decode<T: DeserializeOwned>(&self, payload: &[u8]) -> Result<T, DecodeError> {
        match self {
            Self::Postcard => Codec::decode(&Postcard, payload),
            Self::MessagePack => Codec::decode(&MessagePack, payload),
            Self::Json => Codec::decode(&Json, payload),
        }
    }
}

/// The codecs.
pub static CODECS: [AnyCodec; 3] = [AnyCodec::Postcard, AnyCodec::MessagePack, AnyCodec::Json];
/// Each compressed: plainly, with a dictionary, with a trained one.
pub static COMPRESSED: LazyLock<[Zstd<AnyCodec>; 3]> = LazyLock::new(|| {
    let compressed = |codec| Zstd::new(codec).level(1).threshold(32).max_expanded(MAX_EXPANDED);
    [
        compressed(AnyCodec::Postcard),
        compressed(AnyCodec::MessagePack).dictionary(RAW_DICTIONARY),
        compressed(AnyCodec::Json).dictionary(TRAINED_DICTIONARY).old_dictionary(RAW_DICTIONARY),
    ]
});
/// Each compressed and sealed.
pub static SEALED: LazyLock<[Sealed<Zstd<AnyCodec>>; 3]> = LazyLock::new(|| {
    COMPRESSED.clone().map(|compressed| {
        Sealed::new(compressed, SealKey::new(1, SECRET)).old_key(SealKey::new(2, OLD_SECRET))
    })
});

/// Runs an expression with the packing of a number.
macro_rules! with_packing {
    ($which:expr, $packing:ident => $run:expr) => {{
        let which = usize::from($which);
        match which % 3 {
            0 => {
                let $packing = &$crate::packings::CODECS[which / 3 % 3];
                $run
            }
            1 => {
                let $packing = &$crate::packings::COMPRESSED[which / 3 % 3];
                $run
            }
            _ => {
                let $packing = &$crate::packings::SEALED[which / 3 % 3];
                $run
            }
        }
    }};
}

pub(crate) use with_packing;
