//! Encryption around a codec: what [`Sealed`] is told; the stage itself is in `sealing.rs`.

use serde::{Serialize, de::DeserializeOwned};

use crate::{
    CodecId, DecodeError, EncodeError, Packing,
    forms::Forms,
    sealing::{Keys, SealKey},
};

/// Writes as `C`, encrypted and authenticated by XChaCha20-Poly1305, and believes nothing else: an
/// entry that is not sealed is a miss, a negative one too.
///
/// Whoever can write to the cache server can then neither read values, nor make up, change, move or
/// downgrade entries. What remains: entries can be deleted, put back as they once were, and their
/// lengths be seen (which, with compression, says something of what is in them).
///
/// To change the key: give all services the new one by [`old_key`](Self::old_key), then make it the
/// one that writes, then drop the old one when its last entries have expired.
///
/// ```
/// # #[cfg(feature = "postcard")] {
/// use tiered_codecs::{Postcard, SealKey, Sealed};
/// # let (new, old) = ([1; 32], [2; 32]);
/// let codec = Sealed::new(Postcard, SealKey::new(2, new)).old_key(SealKey::new(1, old));
/// # let _ = codec;
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Sealed<C> {
    inner: C,
    keys: Keys,
}

impl<C: Packing> Sealed<C> {
    /// Seals what `inner` writes with `key`.
    pub fn new(inner: C, key: SealKey) -> Self {
        Self { inner, keys: Keys { newest: key, old: Vec::new(), accept_unsealed: false } }
    }

    /// Also reads what was sealed with another key: one that is going, or one that is coming.
    #[must_use]
    pub fn old_key(mut self, key: SealKey) -> Self {
        self.keys.old.push(key);
        self
    }

    /// Also reads entries that are not sealed, for as long as a service moves to sealing. While it
    /// is set, whoever can write to the server can make up entries.
    #[must_use]
    pub fn accept_unsealed(mut self) -> Self {
        self.keys.accept_unsealed = true;
        self
    }
}

impl<C: Packing> Packing for Sealed<C> {
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
        self.inner.decode(id, payload)
    }

    fn decode_forms<T: DeserializeOwned>(
        &self,
        payload: &[u8],
        forms: Forms,
    ) -> Result<(T, Forms), DecodeError> {
        self.inner.decode_forms(payload, forms)
    }

    fn check(&self) -> Result<(), String> {
        self.keys.check()?;
        if self.inner.keys().is_some() {
            return Err(
                "Sealed in Sealed: an entry is sealed once; give the other key by old_key".into()
            );
        }
        self.inner.check()
    }

    fn foreign(&self) -> Vec<CodecId> {
        self.inner.foreign()
    }

    #[cfg(feature = "zstd")]
    fn compression(&self) -> Option<&crate::compression::Compression> {
        self.inner.compression()
    }

    fn keys(&self) -> Option<&Keys> {
        Some(&self.keys)
    }
}
