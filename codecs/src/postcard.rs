//! The default codec: [postcard](https://docs.rs/postcard), compact and fast, not self-describing.
//!
//! Its bytes carry no names and no types, so it relies on the [`Shape`](crate::Shape) in the
//! envelope to never meet another type's. Postcard alone trusts its input with depth and with counts
//! of values that take no bytes; decoding therefore runs behind a guard (`guard.rs`).

use postcard::ser_flavors::Flavor;
use serde::{Serialize, de::DeserializeOwned};

use crate::{Codec, CodecId, DecodeError, EncodeError, forms::Forms, guard};

/// The codec of the crate `postcard`.
///
/// Refuses to encode what it could not read back: values nested deeper than 120 containers, values
/// with far more parts than bytes, and fields left out by `skip_serializing_if`. Types that ask the
/// format what comes next (`flatten`, untagged and internally tagged enums, `serde_json::Value`)
/// need a codec that describes itself: [`MessagePack`](crate::MessagePack) or
/// [`Json`](crate::Json).
#[derive(Clone, Copy, Debug, Default)]
pub struct Postcard;

struct Rules;

impl guard::Rules for Rules {
    const BARE_OPTIONS: bool = false;
    const NIL_UNIT_STRUCTS: bool = false;
    const FINITE_FLOATS: bool = false;
    const POSITIONAL: bool = true;
    const WIDE_FLOATS: bool = false;
}

impl Codec for Postcard {
    fn id(&self) -> CodecId {
        CodecId::POSTCARD
    }

    fn encode<T: Serialize + ?Sized>(
        &self,
        value: &T,
        out: &mut Vec<u8>,
    ) -> Result<(), EncodeError> {
        self.encode_forms(value, out, Forms::default()).map(drop)
    }

    fn encode_forms<T: Serialize + ?Sized>(
        &self,
        value: &T,
        out: &mut Vec<u8>,
        forms: Forms,
    ) -> Result<Forms, EncodeError> {
        guard::serialize::<Rules, _, _>(value, out, forms, |out, value| {
            postcard::serialize_with_flavor(&value, Append(out))
        })
    }

    fn decode<T: DeserializeOwned>(&self, payload: &[u8]) -> Result<T, DecodeError> {
        self.decode_forms(payload, Forms::default()).map(|(value, _)| value)
    }

    fn decode_forms<T: DeserializeOwned>(
        &self,
        payload: &[u8],
        forms: Forms,
    ) -> Result<(T, Forms), DecodeError> {
        let mut reader = postcard::Deserializer::from_bytes(payload);
        let value = guard::deserialize(&mut reader, payload.len(), forms)?;
        let rest = reader.finalize().map_err(|error| DecodeError::Payload(error.to_string()))?;
        if rest.is_empty() { Ok(value) } else { Err(DecodeError::Trailing) }
    }
}

/// Postcard's output, straight into the caller's buffer. `postcard::to_extend` wants to own what it
/// writes to, and loses it on an error.
struct Append<'a>(&'a mut Vec<u8>);

impl Flavor for Append<'_> {
    type Output = ();

    #[inline]
    fn try_push(&mut self, byte: u8) -> postcard::Result<()> {
        self.0.push(byte);
        Ok(())
    }

    #[inline]
    fn try_extend(&mut self, bytes: &[u8]) -> postcard::Result<()> {
        self.0.extend_from_slice(bytes);
        Ok(())
    }

    fn finalize(self) -> postcard::Result<()> {
        Ok(())
    }
}
