//! The packings that targets write and read with, prepared once.

use std::sync::LazyLock;

use tiered_codecs::{Json, MessagePack, Postcard, SealKey, Sealed, Zstd, envelope::Meta};

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

/// Compressed.
pub static COMPRESSED: LazyLock<Zstd<Postcard>> =
    LazyLock::new(|| Zstd::new(Postcard).level(1).threshold(32).max_expanded(MAX_EXPANDED));
/// Compressed with a trained dictionary.
pub static WITH_DICTIONARY: LazyLock<Zstd<Json>> = LazyLock::new(|| {
    Zstd::new(Json)
        .level(1)
        .threshold(32)
        .max_expanded(MAX_EXPANDED)
        .dictionary(TRAINED_DICTIONARY)
        .old_dictionary(RAW_DICTIONARY)
});
/// Compressed with a plain dictionary, and sealed.
pub static SEALED: LazyLock<Sealed<Zstd<MessagePack>>> = LazyLock::new(|| {
    let inner = Zstd::new(MessagePack).level(1).threshold(32).max_expanded(MAX_EXPANDED);
    let inner = inner.dictionary(RAW_DICTIONARY);
    Sealed::new(inner, SealKey::new(1, SECRET)).old_key(SealKey::new(2, OLD_SECRET))
});

/// Runs an expression with the packing of a number. They are of the crate's own codecs only: one from
/// elsewhere, even one that calls these, does not tell what it writes, and nothing of it is proven.
macro_rules! with_packing {
    ($which:expr, $packing:ident => $run:expr) => {
        $crate::packings::with_packing!(
            @ $which, $packing, $run;
            0 tiered_codecs::Postcard, 1 tiered_codecs::MessagePack, 2 tiered_codecs::Json,
            3 *$crate::packings::COMPRESSED, 4 *$crate::packings::WITH_DICTIONARY,
            5 *$crate::packings::SEALED
        )
    };
    (@ $which:expr, $packing:ident, $run:expr; $($number:literal $place:expr),*) => {
        match $which % 6 {
            $($number => {
                let $packing = &$place;
                $run
            })*
            _ => {}
        }
    };
}

pub(crate) use with_packing;
