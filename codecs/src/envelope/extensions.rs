//! What an envelope says beyond its header: a sequence of `[kind u8][length u16][bytes]`.
//!
//! Readers skip the kinds they do not know, so a new extension may carry only what an entry can be
//! served without, or what a flag in the header announces. Those below are known to every reader of the format.

use super::Refusal;

/// The bytes of a seal's nonce.
pub(crate) const NONCE_LEN: usize = 24;

const DICTIONARY: u8 = 1;
const SEAL: u8 = 2;
const TAGS: u8 = 3;
/// The most bytes that an extension can have.
pub const MAX_TAGS_LEN: usize = u16::MAX as usize;

/// The extensions that this version knows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Extensions<'a> {
    /// The dictionary that the payload was compressed with, by the xxh3-64 of its bytes.
    pub dictionary: Option<u64>,
    /// What the payload was encrypted with.
    pub seal: Option<SealNote>,
    /// What the entry depends on, as the engine writes it; nothing for an entry without tags. At most
    /// [`MAX_TAGS_LEN`] bytes.
    pub tags: &'a [u8],
}

/// What a payload was encrypted with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SealNote {
    /// Which key.
    pub key_id: u32,
    /// The random nonce.
    pub nonce: [u8; NONCE_LEN],
}

impl<'a> Extensions<'a> {
    /// Appends them, in the order of their kinds.
    pub(crate) fn append(&self, out: &mut Vec<u8>) {
        if let Some(dictionary) = self.dictionary {
            put(out, DICTIONARY, &[&dictionary.to_le_bytes()]);
        }
        if let Some(SealNote { key_id, nonce }) = &self.seal {
            put(out, SEAL, &[&key_id.to_le_bytes(), nonce]);
        }
        if !self.tags.is_empty() {
            put(out, TAGS, &[self.tags]);
        }
    }

    /// Reads them out of an envelope's tail.
    ///
    /// # Errors
    /// [`Refusal::Length`] if they do not add up, [`Refusal::Extension`] for a known one that is
    /// not as it must be, or that is there twice.
    pub(crate) fn read(mut tail: &'a [u8]) -> Result<Self, Refusal> {
        let mut found = Self::default();
        while let Some((&[kind, low, high], behind)) = tail.split_first_chunk() {
            let len = u16::from_le_bytes([low, high]).into();
            let (bytes, next) = behind.split_at_checked(len).ok_or(Refusal::Length)?;
            tail = next;
            let is_new = match kind {
                DICTIONARY => {
                    let id = bytes.try_into().map(u64::from_le_bytes);
                    found.dictionary.replace(id.map_err(|_| Refusal::Extension)?).is_none()
                }
                SEAL => {
                    let note = SealNote::read(bytes).ok_or(Refusal::Extension)?;
                    found.seal.replace(note).is_none()
                }
                TAGS if bytes.is_empty() => return Err(Refusal::Extension),
                TAGS => std::mem::replace(&mut found.tags, bytes).is_empty(),
                _ => true,
            };
            if !is_new {
                return Err(Refusal::Extension);
            }
        }
        if tail.is_empty() { Ok(found) } else { Err(Refusal::Length) }
    }
}

impl SealNote {
    fn read(bytes: &[u8]) -> Option<Self> {
        let (key_id, nonce) = bytes.split_first_chunk()?;
        Some(Self { key_id: u32::from_le_bytes(*key_id), nonce: nonce.try_into().ok()? })
    }
}

/// Appends one extension.
fn put(out: &mut Vec<u8>, kind: u8, parts: &[&[u8]]) {
    let len: usize = parts.iter().map(|part| part.len()).sum();
    out.push(kind);
    // Every known kind has a few bytes, and tags are bounded by whoever writes them.
    out.extend_from_slice(&u16::try_from(len).unwrap_or(u16::MAX).to_le_bytes());
    for part in parts {
        out.extend_from_slice(part);
    }
}
