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
