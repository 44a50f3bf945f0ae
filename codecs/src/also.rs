//! Reading what another codec wrote: a codec from elsewhere that a service is leaving behind.

use serde::{Serialize, de::DeserializeOwned};

use crate::{Codec, CodecId, DecodeError, EncodeError, Packing, forms::Forms};

/// Writes as `P`, and reads what `P` reads and what the codec `D` wrote. This crate's own codecs
/// need none of it: where they are compiled in, they are read anyhow.
#[derive(Clone, Debug)]
pub struct Also<P, D> {
    inner: P,
    old: D,
}

impl<P: Packing, D: Codec> Also<P, D> {
    /// Writes as `inner`, and also reads `old`.
    pub fn new(inner: P, old: D) -> Self {
        Self { inner, old }
    }
}

impl<P: Packing, D: Codec> Packing for Also<P, D> {
    fn id(&self) -> CodecId {
        self.inner.id()
    }

    fn encode_forms<T: Serialize + ?Sized>(
        &self,
        value: &T,
        out: &mut Vec<u8>,
        forms: Forms,
    ) -> Result<Forms, EncodeError> {
        self.inner.encode_forms(value, out, forms)
    }

    fn decode<T: DeserializeOwned>(&self, id: CodecId, payload: &[u8]) -> Result<T, DecodeError> {
        if id == Codec::id(&self.old) {
            Codec::decode(&self.old, payload)
        } else {
            self.inner.decode(id, payload)
        }
    }

    fn decode_forms<T: DeserializeOwned>(
        &self,
        payload: &[u8],
        forms: Forms,
    ) -> Result<(T, Forms), DecodeError> {
        self.inner.decode_forms(payload, forms)
    }

    fn check(&self) -> Result<(), String> {
        self.inner.check()?;
        self.old.check()?;
        let id = Codec::id(&self.old);
        if self.inner.foreign().contains(&id) {
            return Err(format!(
                "two codecs have the id {}, the one to read besides is {:?}: nobody could tell \
                 whose an entry is; give one of them another id",
                id.0, self.old
            ));
        }
        Ok(())
    }

    fn foreign(&self) -> Vec<CodecId> {
        let mut ids = self.inner.foreign();
        ids.extend(self.old.foreign());
        ids
    }

    #[cfg(feature = "zstd")]
    fn compression(&self) -> Option<&crate::compression::Compression> {
        self.inner.compression()
    }

    #[cfg(feature = "seal")]
    fn keys(&self) -> Option<&crate::sealing::Keys> {
        self.inner.keys()
    }
}
