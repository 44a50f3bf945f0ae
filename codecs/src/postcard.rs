//! The default codec: [postcard](https://docs.rs/postcard), compact and fast, not self-describing.
//!
//! Its bytes carry no names and no types, so it relies on the [`Shape`](crate::Shape) in the
//! envelope to never meet another type's. Postcard alone trusts its input with depth and with counts
//! of values that take no bytes; decoding therefore runs behind a guard (`guard.rs`).

use postcard::ser_flavors::Flavor;
use serde::{Serialize, de::DeserializeOwned};

use crate::{Codec, CodecId, DecodeError, EncodeError, guard};

/// The codec of the crate `postcard`.
///
/// A value nested deeper than 128 containers encodes, but is refused when decoded, and so is one
/// with far more parts than bytes: see [`Codec::decode`]'s bounds.
#[derive(Clone, Copy, Debug, Default)]
pub struct Postcard;

impl Codec for Postcard {
    fn id(&self) -> CodecId {
        CodecId(1)
    }

    fn encode<T: Serialize + ?Sized>(
        &self,
        value: &T,
        out: &mut Vec<u8>,
    ) -> Result<(), EncodeError> {
        postcard::serialize_with_flavor(value, Append(out))
            .map_err(|error| EncodeError(error.to_string()))
    }

    fn decode<T: DeserializeOwned>(&self, payload: &[u8]) -> Result<T, DecodeError> {
        let mut reader = postcard::Deserializer::from_bytes(payload);
        let value = guard::deserialize(&mut reader, payload.len())
            .map_err(|error| DecodeError::Payload(error.to_string()))?;
        let rest = reader.finalize().map_err(|error| DecodeError::Payload(error.to_string()))?;
        match rest.len() {
            0 => Ok(value),
            more => Err(DecodeError::Trailing(more)),
        }
    }
}

/// Postcard's output, straight into the caller's buffer. `postcard::to_extend` wants to own what it
/// writes to, and loses it on an error.
struct Append<'a>(&'a mut Vec<u8>);

impl Flavor for Append<'_> {
    type Output = ();

    fn try_push(&mut self, byte: u8) -> postcard::Result<()> {
        self.0.push(byte);
        Ok(())
    }

    fn try_extend(&mut self, bytes: &[u8]) -> postcard::Result<()> {
        self.0.extend_from_slice(bytes);
        Ok(())
    }

    fn finalize(self) -> postcard::Result<()> {
        Ok(())
    }
}
