//! Values to bytes and back.
//!
//! Three things, none of which knows a tier or the engine:
//!
//! - a [`Codec`] turns values into bytes: [`Postcard`];
//! - a [`Shape`] is the fingerprint of a type, as serde sees it, so that a struct which changed
//!   never decodes an entry of its former self;
//! - the [`envelope`] around the bytes says what they are and proves that they are whole and belong
//!   to their key.
//!
//! ```
//! # #[cfg(feature = "postcard")] {
//! use tiered_codecs::{Codec, CodecFor, Postcard, envelope::{self, Expected, Header}};
//!
//! let (codec, schema) = (Codec::id(&Postcard), 1);
//! let shape = CodecFor::<(u32, String)>::shape(&Postcard);
//! let header = Header {
//!     codec, schema, shape,
//!     negative: false,
//!     fresh_ms: 300_000,
//!     stale_ms: 0,
//!     incarnation: 0,
//!     source_version: 0,
//! };
//! let value = (7, "seven".to_owned());
//! let bytes = envelope::seal(&header, b"key", |out| Codec::encode(&Postcard, &value, out)).unwrap();
//!
//! let opened = envelope::open(&bytes, b"key", 1 << 20).unwrap();
//! opened.header.accept(&Expected { codec, schema, shape }).unwrap();
//! assert_eq!(Codec::decode::<(u32, String)>(&Postcard, opened.payload), Ok(value));
//! # }
//! ```
//!
//! A new codec is one file here that implements [`Codec`].

mod codec;
pub mod envelope;
#[cfg(feature = "postcard")]
mod guard;
#[cfg(feature = "postcard")]
mod postcard;
mod shape;

#[cfg(feature = "postcard")]
pub use self::postcard::Postcard;
pub use self::{
    codec::{Codec, CodecFor, CodecId, DecodeError, EncodeError, NoCodec},
    shape::Shape,
};
