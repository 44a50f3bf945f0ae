//! Values to bytes and back.
//!
//! Three things, none of which knows a tier or the engine:
//!
//! - a [`Codec`] turns values into bytes and back: [`Postcard`], [`MessagePack`], [`Json`]. A
//!   [`Packing`] is a codec, perhaps in [`Zstd`] (compressed) or [`Sealed`] (encrypted);
//! - a [`Shape`] is the fingerprint of a type, as serde sees it, so that a struct which changed
//!   never decodes an entry of its former self;
//! - the [`envelope`] around the bytes says what they are and proves that they are whole and belong
//!   to their key.
//!
//! [`CodecFor`] is what the engine calls, and leads through all three:
//!
//! ```
//! # #[cfg(feature = "postcard")] {
//! use tiered_codecs::{CodecFor, Postcard, envelope::Meta};
//!
//! let value = (7, "seven".to_owned());
//! let meta = Meta { schema: 1, fresh_ms: 300_000, ..Meta::default() };
//! let bytes = Postcard.pack(&meta, b"shop:user:7", Some(&value)).unwrap();
//!
//! let unpacked = CodecFor::<(u32, String)>::unpack(&Postcard, &bytes, b"shop:user:7", 1 << 20).unwrap();
//! unpacked.header.accept(1, CodecFor::<(u32, String)>::shape(&Postcard)).unwrap();
//! let read: (u32, String) = CodecFor::decode(&Postcard, &unpacked).unwrap();
//! assert_eq!(read, value);
//! # }
//! ```
//!
//! A new codec is one file here that implements [`Codec`], and a line in `builtin.rs`. In the source, a
//! value goes `codec_for` → `packing` (the stages) → a codec → `compression` → `sealing` → `envelope`;
//! `guard` bounds what a codec does not.

mod also;
mod builtin;
mod codec;
mod codec_for;
#[cfg(feature = "zstd")]
mod compression;
pub mod envelope;
mod forms;
#[cfg(any(feature = "postcard", feature = "messagepack", feature = "json"))]
mod guard;
#[cfg(feature = "json")]
mod json;
mod known;
#[cfg(feature = "messagepack")]
mod message_pack;
mod old;
mod packing;
#[cfg(any(feature = "zstd", feature = "seal"))]
mod pool;
#[cfg(feature = "postcard")]
mod postcard;
#[cfg(feature = "seal")]
mod sealed;
#[cfg(feature = "seal")]
mod sealing;
mod shape;
#[cfg(feature = "testing")]
pub mod testing;
#[cfg(feature = "zstd")]
mod zstd;

#[cfg(feature = "json")]
pub use self::json::Json;
#[cfg(feature = "messagepack")]
pub use self::message_pack::MessagePack;
#[cfg(feature = "postcard")]
pub use self::postcard::Postcard;
#[cfg(feature = "zstd")]
pub use self::zstd::Zstd;
pub use self::{
    also::Also,
    codec::{Codec, CodecId, DecodeError, EncodeError},
    codec_for::{CodecFor, NoCodec},
    old::OldValue,
    packing::{Packing, Unpacked},
    shape::Shape,
};
#[cfg(feature = "seal")]
pub use self::{sealed::Sealed, sealing::SealKey};
