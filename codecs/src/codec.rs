//! The contract between values and bytes: what one implements to add a codec.
//!
//! Generic over serde's types, static, no boxing. What surrounds a codec (compression, sealing,
//! choosing the decoder by the id in the envelope) is the [packing](crate::Packing)'s, so that a codec
//! is two functions and a number. Rejected: codecs as trait objects, which would cost every value a
//! detour through `erased_serde`.

use std::fmt::Debug;

use serde::{Serialize, de::DeserializeOwned};

use crate::{envelope::Refusal, forms::Forms};

/// Names a codec inside the envelope. 1 to 127 are this crate's; [`FIRST_FOREIGN`](Self::FIRST_FOREIGN)
/// to 255 are for others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct CodecId(pub u8);

impl CodecId {
    /// The first id that a codec from elsewhere may have.
    pub const FIRST_FOREIGN: Self = Self(128);
    /// `Postcard`'s.
    pub const POSTCARD: Self = Self(1);
    /// `MessagePack`'s.
    pub const MESSAGE_PACK: Self = Self(2);
    /// `Json`'s.
    pub const JSON: Self = Self(3);

    /// Whether it is for codecs from elsewhere.
    pub(crate) fn is_foreign(self) -> bool {
        self.0 >= Self::FIRST_FOREIGN.0
    }
}

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
    #[error("bytes follow the value")]
    Trailing,
    /// The payload does not decompress.
    #[error("the payload does not decompress: {0}")]
    Compression(String),
    /// The payload would decompress to more than the reader's limit.
    #[error("the payload would decompress to more than {limit} bytes")]
    TooLarge {
        /// The reader's limit, in bytes.
        limit: usize,
    },
    /// Nothing here can decode it.
    #[error("{0}")]
    Refused(#[from] Refusal),
}

impl DecodeError {
    /// The reason's name in metrics: short, snake case, never changed.
    #[must_use]
    pub fn label(&self) -> &'static str {
        match self {
            Self::Payload(_) => "payload",
            Self::Trailing => "trailing",
            Self::Compression(_) => "compression",
            Self::TooLarge { .. } => "too_large",
            Self::Refused(refusal) => refusal.label(),
        }
    }
}

/// Turns values into bytes and back.
///
/// ```
/// use serde::{Serialize, de::DeserializeOwned};
/// use tiered_codecs::{Codec, CodecId, DecodeError, EncodeError};
/// # #[cfg(feature = "json")] {
/// /// JSON that people can read.
/// #[derive(Clone, Debug)]
/// struct Pretty;
///
/// impl Codec for Pretty {
///     fn id(&self) -> CodecId {
///         CodecId(200)
///     }
///     fn encode<T: Serialize + ?Sized>(&self, value: &T, out: &mut Vec<u8>) -> Result<(), EncodeError> {
///         serde_json::to_writer_pretty(out, value).map_err(|error| EncodeError(error.to_string()))
///     }
///     fn decode<T: DeserializeOwned>(&self, payload: &[u8]) -> Result<T, DecodeError> {
///         serde_json::from_slice(payload).map_err(|error| DecodeError::Payload(error.to_string()))
///     }
/// }
/// # }
/// ```
pub trait Codec: Clone + Debug + Send + Sync + 'static {
    /// The codec's name inside the envelope: one from [`CodecId::FIRST_FOREIGN`] on, and never
    /// another codec's, nor this one's own when its bytes change their meaning.
    fn id(&self) -> CodecId;

    /// Appends `value` to `out`, and leaves alone what is there. On an error `out` may hold a part
    /// of it.
    ///
    /// # Errors
    /// [`EncodeError`] if the codec cannot express the value so that it comes back equal.
    fn encode<T: Serialize + ?Sized>(
        &self,
        value: &T,
        out: &mut Vec<u8>,
    ) -> Result<(), EncodeError>;

    /// As [`encode`](Self::encode), and tells `forms` which structs and variants are written, so that
    /// it can be seen once whether they come back.
    ///
    /// # Errors
    /// As [`encode`](Self::encode).
    #[doc(hidden)]
    fn encode_forms<T: Serialize + ?Sized>(
        &self,
        value: &T,
        out: &mut Vec<u8>,
        forms: Forms,
    ) -> Result<Forms, EncodeError> {
        self.encode(value, out).map(|()| forms)
    }

    /// As [`decode`](Self::decode), and tells `forms` which tuples are read.
    ///
    /// # Errors
    /// As [`decode`](Self::decode).
    #[doc(hidden)]
    fn decode_forms<T: DeserializeOwned>(
        &self,
        payload: &[u8],
        forms: Forms,
    ) -> Result<(T, Forms), DecodeError> {
        self.decode(payload).map(|value| (value, forms))
    }

    /// Decodes a value that must fill `payload` to the last byte. The payload's length is bounded
    /// by the caller; time, memory and depth must be bounded by it, as far as `T` lets them: an
    /// untagged enum that tries several variants which hold it takes time exponential in the depth.
    ///
    /// # Errors
    /// [`DecodeError`], for any bytes that are no value: never a panic.
    fn decode<T: DeserializeOwned>(&self, payload: &[u8]) -> Result<T, DecodeError>;
}
