//! The contract between values and bytes.
//!
//! [`Codec`] is what one implements: generic over serde's types, static, no boxing. [`CodecFor`] is
//! what the engine asks for: "this codec carries this type". The second exists so that a cache
//! without an L2 ([`NoCodec`]) takes types that know nothing of serde.

use std::fmt::Debug;

use serde::{Serialize, de::DeserializeOwned};

use crate::Shape;

/// Names a codec inside the envelope. 0 to 127 are this crate's; 128 to 255 are for others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct CodecId(pub u8);

/// A value could not be encoded. The message comes from the codec's library.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the value cannot be encoded: {0}")]
pub struct EncodeError(pub String);

/// A payload could not be decoded.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// The payload is no value of this type.
    #[error("the payload is no value of this type: {0}")]
    Payload(String),
    /// Bytes follow the value.
    #[error("{0} bytes follow the value")]
    Trailing(usize),
}

/// Turns values into bytes and back.
pub trait Codec: Clone + Debug + Send + Sync + 'static {
    /// The codec's name inside the envelope.
    fn id(&self) -> CodecId;

    /// Appends `value` to `out`. On an error `out` may hold a part of it.
    ///
    /// # Errors
    /// [`EncodeError`] if the codec cannot express the value.
    fn encode<T: Serialize + ?Sized>(
        &self,
        value: &T,
        out: &mut Vec<u8>,
    ) -> Result<(), EncodeError>;

    /// Decodes a value that must fill `payload` to the last byte. The payload's length is bounded
    /// by the caller; time and memory must be bounded by it.
    ///
    /// # Errors
    /// [`DecodeError`], for any bytes that are no value: never a panic.
    fn decode<T: DeserializeOwned>(&self, payload: &[u8]) -> Result<T, DecodeError>;
}

/// "This codec carries `T`": implemented for every [`Codec`] and every serde type, and for
/// [`NoCodec`] and every type.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot carry `{T}`",
    note = "derive `serde::Serialize` and `serde::Deserialize` for it, or use a cache without an L2 (`Tiered::local`)"
)]
pub trait CodecFor<T: 'static>: Clone + Debug + Send + Sync + 'static {
    /// The codec's name inside the envelope.
    fn id(&self) -> CodecId;
    /// The fingerprint of `T`.
    fn shape(&self) -> Shape;
    /// Appends `value` to `out`.
    ///
    /// # Errors
    /// As [`Codec::encode`].
    fn encode(&self, value: &T, out: &mut Vec<u8>) -> Result<(), EncodeError>;
    /// Decodes `payload`.
    ///
    /// # Errors
    /// As [`Codec::decode`].
    fn decode(&self, payload: &[u8]) -> Result<T, DecodeError>;
}

impl<T, C> CodecFor<T> for C
where
    C: Codec,
    T: Serialize + DeserializeOwned + 'static,
{
    fn id(&self) -> CodecId {
        Codec::id(self)
    }
    fn shape(&self) -> Shape {
        Shape::of::<T>()
    }
    fn encode(&self, value: &T, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        Codec::encode(self, value, out)
    }
    fn decode(&self, payload: &[u8]) -> Result<T, DecodeError> {
        Codec::decode(self, payload)
    }
}

/// The codec of a cache that has no L2: it carries every type because it encodes none.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoCodec;

impl<T: 'static> CodecFor<T> for NoCodec {
    fn id(&self) -> CodecId {
        CodecId(0)
    }
    fn shape(&self) -> Shape {
        Shape::untraced()
    }
    fn encode(&self, _: &T, _: &mut Vec<u8>) -> Result<(), EncodeError> {
        Err(EncodeError("this cache has no codec".into()))
    }
    fn decode(&self, _: &[u8]) -> Result<T, DecodeError> {
        Err(DecodeError::Payload("this cache has no codec".into()))
    }
}
