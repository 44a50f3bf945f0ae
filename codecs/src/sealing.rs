//! The encryption stage: XChaCha20-Poly1305, from the crate `chacha20poly1305`.
//!
//! The nonce is random, 192 bits, so that no counter has to survive a restart. The associated data is
//! everything that is not encrypted: the key under which the entry is stored (its namespace included),
//! the header and the extensions. So no part of an entry can be moved to another.

use std::{borrow::Cow, fmt};

use chacha20poly1305::{
    KeyInit, XChaCha20Poly1305,
    aead::{AeadInOut, inout::InOutBuf},
};

use crate::{
    EncodeError,
    envelope::{Extensions, HEADER_LEN, Header, Opened, Refusal, SealNote},
    pool,
};

/// The bytes of an authentication tag, behind what was encrypted.
const TAG_LEN: usize = 16;
/// What the associated data begins with: these bytes are authenticated for this purpose only.
const CONTEXT: &[u8] = b"tiered entry 1";

/// A secret key of 256 bits with the number that entries name it by. `Debug` shows the number only;
/// memory is wiped when the last clone is dropped.
#[derive(Clone)]
pub struct SealKey {
    id: u32,
    cipher: XChaCha20Poly1305,
    is_zero: bool,
}

impl SealKey {
    /// The key `id`. Take the bytes from a random source or a key service, never from a password:
    /// they must be 256 bits that nobody can guess. An id is for one key only, for ever.
    #[must_use]
    pub fn new(id: u32, key: [u8; 32]) -> Self {
        Self { id, cipher: XChaCha20Poly1305::new(&key.into()), is_zero: key == [0; 32] }
    }
}

impl fmt::Debug for SealKey {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "SealKey({}, ..)", self.id)
    }
}

/// The keys of a packing that seals.
#[derive(Clone, Debug)]
pub struct Keys {
    pub(crate) newest: SealKey,
    /// Those that are only read.
    pub(crate) old: Vec<SealKey>,
    pub(crate) accept_unsealed: bool,
}

impl Keys {
    /// Encrypts the payload of an entry that ends with it, and says so in its header and
    /// extensions, which are complete but for that.
    pub(crate) fn seal(
        &self,
        bytes: &mut Vec<u8>,
        header: &mut Header,
        extensions: &mut Extensions<'_>,
        key: &[u8],
    ) -> Result<(), EncodeError> {
        let mut nonce = [0; _];
        getrandom::fill(&mut nonce)
            .map_err(|_| EncodeError("the system has no random numbers to seal with".into()))?;
        header.sealed = true;
        extensions.seal = Some(SealNote { key_id: self.newest.id, nonce });
        let payload = bytes.get_mut(HEADER_LEN..).unwrap_or_default();
        let head = header.bytes(payload.len() + TAG_LEN);
        let tag = pool::with_buffer(|tail| {
            extensions.append(tail);
            let vouched = [head.get(8..).unwrap_or_default(), tail];
            associated(key, &vouched, |data| {
                let payload = InOutBuf::from(payload);
                self.newest.cipher.encrypt_inout_detached(&nonce.into(), data, payload)
            })
        });
        let tag = tag.map_err(|_| EncodeError("too long to be sealed".into()))?;
        bytes.extend_from_slice(&tag);
        Ok(())
    }

    /// The payload of an entry, authenticated and decrypted.
    pub(crate) fn unseal<'a>(
        &self,
        opened: &Opened<'a>,
        key: &[u8],
    ) -> Result<Cow<'a, [u8]>, Refusal> {
        let Some(SealNote { key_id, nonce }) = opened.extensions.seal else {
            return match self.accept_unsealed {
                true => Ok(Cow::Borrowed(opened.payload)),
                false => Err(Refusal::Sealed),
            };
        };
        let mut keys = std::iter::once(&self.newest).chain(&self.old);
        let known = keys.find(|known| known.id == key_id).ok_or(Refusal::Sealed)?;
        let (sealed, tag) = opened.payload.split_last_chunk::<TAG_LEN>().ok_or(Refusal::Sealed)?;
        let mut payload = sealed.to_vec();
        associated(key, &opened.vouched, |data| {
            let payload = InOutBuf::from(payload.as_mut_slice());
            known.cipher.decrypt_inout_detached(&nonce.into(), data, payload, tag.into())
        })
        .map_err(|_| Refusal::Sealed)?;
        if opened.header.negative && !payload.is_empty() {
            return Err(Refusal::Length);
        }
        Ok(Cow::Owned(payload))
    }

    pub(crate) fn check(&self) -> Result<(), String> {
        let all = || std::iter::once(&self.newest).chain(&self.old);
        if let Some(zero) = all().find(|key| key.is_zero) {
            return Err(format!(
                "the seal key {} is all zeros: give 32 random bytes (openssl rand 32)",
                zero.id
            ));
        }
        let twice = all().find(|key| all().filter(|other| other.id == key.id).count() > 1);
        match twice {
            None => Ok(()),
            Some(key) => Err(format!(
                "two seal keys have the id {}: nobody could tell which one sealed an entry; give \
                 each its own",
                key.id
            )),
        }
    }
}

/// Runs `run` over the associated data of an entry: all of it that is not encrypted.
fn associated<R>(key: &[u8], vouched: &[&[u8]; 2], run: impl FnOnce(&[u8]) -> R) -> R {
    pool::with_buffer(|data| {
        data.extend_from_slice(CONTEXT);
        // The header's length is fixed, and it names the payload's: with the key's, all parts are
        // where they are and nowhere else.
        data.extend_from_slice(&(key.len() as u64).to_le_bytes());
        data.extend_from_slice(key);
        for part in vouched {
            data.extend_from_slice(part);
        }
        run(data)
    })
}
