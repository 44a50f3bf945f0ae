//! The checked frame around every stored value; its table is in `docs/envelope.md`.
//!
//! Fixed 64 bytes, then the payload, then extensions: what a writer knows only once the payload is
//! written needs no place kept in front of it. The checksum comes first and covers all that follows and
//! the key, and it is verified before any other field is believed: damage is never mistaken for
//! drift. Lifetimes are durations, for no two machines' clocks agree.
//!
//! Rejected: a header encoded by a codec of its own. It would be a few bytes shorter, but its fields
//! would have no fixed place, and a reader of another version could not tell damage from news.

mod extensions;
mod refusal;

use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

pub use self::{
    extensions::{Extensions, MAX_TAGS_LEN, SealNote},
    refusal::Refusal,
};
use crate::{CodecId, Shape};

/// Bytes before the payload; all that a value costs without extensions.
pub const HEADER_LEN: usize = 64;

/// The bytes 8..12 of every envelope, in every format version.
const MAGIC: [u8; 4] = *b"TIER";
/// The one format version this reader knows.
const FORMAT: u8 = 1;
/// The flag of a negative entry.
const NEGATIVE: u16 = 1;
/// The flag of a compressed payload.
const COMPRESSED: u16 = 1 << 1;
/// The flag of a payload that was encrypted.
const SEALED: u16 = 1 << 2;
/// The longest lifetime that fits, in milliseconds: about 34 years.
const MAX_MS: u64 = (1 << 40) - 1;
/// The last moment that fits, in milliseconds since 1970: in about 8,900 years.
const MAX_STORED_MS: u64 = (1 << 48) - 1;

/// What an envelope says of its payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// The codec that wrote the payload.
    pub codec: CodecId,
    /// Whether this is the remembered answer "there is none"; the payload is then empty.
    pub negative: bool,
    /// Whether the payload is compressed.
    pub compressed: bool,
    /// Whether the payload is encrypted.
    pub sealed: bool,
    /// The fingerprint of the value's type.
    pub shape: Shape,
    /// What the writer says of the entry.
    pub meta: Meta,
}

/// What the writer of an entry says of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Meta {
    /// The entity's declared schema version.
    pub schema: u32,
    /// How long the value was fresh from when it was stored, in milliseconds (40 bits).
    pub fresh_ms: u64,
    /// How long after that it may stand in for a failing load, in milliseconds (40 bits).
    pub stale_ms: u64,
    /// When it was stored by the server's clock, in milliseconds since 1970 (48 bits); 0 when not
    /// known.
    pub stored_ms: u64,
    /// The server's incarnation it was written under; 0 when not known.
    pub incarnation: u64,
    /// The source's version of the value; 0 when not known.
    pub source_version: u64,
}

/// An envelope that was opened: whole, and of this key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Opened<'a> {
    /// What it says of the payload.
    pub header: Header,
    /// What else it says.
    pub extensions: Extensions<'a>,
    /// The value's bytes; as they were written, so compressed or encrypted if the header says so.
    pub payload: &'a [u8],
    /// The stored bytes that an encryption must vouch for: header and extensions.
    pub vouched: [&'a [u8]; 2],
}

impl Header {
    /// Compares what is stored with what the reader expects: the schema version, then the shape.
    ///
    /// # Errors
    /// [`Refusal::OlderSchema`], [`Refusal::NewerSchema`] or [`Refusal::Shape`], the first that
    /// applies.
    pub fn accept(&self, schema: u32, shape: Shape) -> Result<(), Refusal> {
        if self.meta.schema < schema {
            return Err(Refusal::OlderSchema);
        }
        if self.meta.schema > schema {
            return Err(Refusal::NewerSchema);
        }
        if self.shape != shape {
            return Err(Refusal::Shape);
        }
        Ok(())
    }

    fn flags(&self) -> u16 {
        let flag = |set, flag| if set { flag } else { 0 };
        flag(self.negative, NEGATIVE)
            | flag(self.compressed, COMPRESSED)
            | flag(self.sealed, SEALED)
    }

    /// The header's bytes before a payload of `payload_len` bytes, the checksum's place empty.
    pub(crate) fn bytes(&self, payload_len: usize) -> [u8; HEADER_LEN] {
        let Meta { schema, fresh_ms, stale_ms, stored_ms, incarnation, source_version } = self.meta;
        // A length that does not fit is written as one that cannot add up: see `finish`.
        let payload_len = u32::try_from(payload_len).unwrap_or(u32::MAX);
        let mut out = [0; HEADER_LEN];
        out[8..12].copy_from_slice(&MAGIC);
        out[12] = FORMAT;
        out[13] = self.codec.0;
        out[14..16].copy_from_slice(&self.flags().to_le_bytes());
        out[16..20].copy_from_slice(&schema.to_le_bytes());
        out[20..24].copy_from_slice(&payload_len.to_le_bytes());
        out[24..32].copy_from_slice(&self.shape.value().to_le_bytes());
        out[32..37].copy_from_slice(&fresh_ms.min(MAX_MS).to_le_bytes()[..5]);
        out[37..42].copy_from_slice(&stale_ms.min(MAX_MS).to_le_bytes()[..5]);
        out[42..48].copy_from_slice(&stored_ms.min(MAX_STORED_MS).to_le_bytes()[..6]);
        out[48..56].copy_from_slice(&incarnation.to_le_bytes());
        out[56..64].copy_from_slice(&source_version.to_le_bytes());
        out
    }
}

/// The beginning of an envelope: the header's place, kept, and room for a payload of `expected`
/// bytes. The payload is appended to it, and then [`finish`] is called.
#[must_use]
pub fn begin(expected: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(HEADER_LEN + expected);
    bytes.resize(HEADER_LEN, 0);
    bytes
}

/// Ends an envelope that [`begin`] began: everything behind the header's place is the payload. The
/// bytes are written once and never moved but by the vector's growth.
///
/// Times that do not fit are stored as the largest that do. A payload of more than [`u32::MAX`] bytes yields an envelope that no reader opens
/// ([`Refusal::Length`]): whoever stores it has a far lower limit and checks the length.
pub fn finish(bytes: &mut Vec<u8>, header: &Header, extensions: &Extensions<'_>, key: &[u8]) {
    // A writer that shortened the vector wrote an empty payload, not a broken header.
    bytes.resize(bytes.len().max(HEADER_LEN), 0);
    let head = header.bytes(bytes.len() - HEADER_LEN);
    extensions.append(bytes);
    if let Some(place) = bytes.first_chunk_mut() {
        *place = head;
    }
    let sum = checksum(bytes, key);
    if let Some(place) = bytes.first_chunk_mut() {
        *place = sum.to_le_bytes();
    }
}

/// Opens an envelope: checks that it is whole, of this key, and of a format this reader knows. What
/// it holds is not looked at; [`Header::accept`] says whether it is what the reader wants.
///
/// # Errors
/// A [`Refusal`], the first that applies of: [`Truncated`](Refusal::Truncated),
/// [`TooLarge`](Refusal::TooLarge) (more than `limit` bytes in all),
/// [`Checksum`](Refusal::Checksum), [`Foreign`](Refusal::Foreign), [`Format`](Refusal::Format),
/// [`Flags`](Refusal::Flags), [`Length`](Refusal::Length), [`Extension`](Refusal::Extension).
pub fn open<'a>(bytes: &'a [u8], key: &[u8], limit: usize) -> Result<Opened<'a>, Refusal> {
    let Some((head, body)) = bytes.split_first_chunk::<HEADER_LEN>() else {
        return Err(Refusal::Truncated);
    };
    if bytes.len() > limit {
        return Err(Refusal::TooLarge);
    }
    let mut fields = Fields(head);
    if u64::from_le_bytes(fields.take()) != checksum(bytes, key) {
        return Err(Refusal::Checksum);
    }
    if fields.take() != MAGIC {
        return Err(Refusal::Foreign);
    }
    if fields.take() != [FORMAT] {
        return Err(Refusal::Format);
    }
    let [codec] = fields.take();
    let flags = u16::from_le_bytes(fields.take());
    let has = |flag| flags & flag != 0;
    let (negative, compressed, sealed) = (has(NEGATIVE), has(COMPRESSED), has(SEALED));
    if flags & !(NEGATIVE | COMPRESSED | SEALED) != 0 || (negative && compressed) {
        return Err(Refusal::Flags);
    }
    let schema = u32::from_le_bytes(fields.take());
    let payload_len = u32::from_le_bytes(fields.take());
    let shape = Shape::from_value(u64::from_le_bytes(fields.take()));
    let fresh_ms = fields.number::<5>();
    let stale_ms = fields.number::<5>();
    let stored_ms = fields.number::<6>();
    let incarnation = u64::from_le_bytes(fields.take());
    let source_version = u64::from_le_bytes(fields.take());

    let (payload, tail) = usize::try_from(payload_len)
        .ok()
        .and_then(|len| body.split_at_checked(len))
        .ok_or(Refusal::Length)?;
    if negative && !sealed && !payload.is_empty() {
        return Err(Refusal::Length);
    }
    let extensions = Extensions::read(tail)?;
    if extensions.seal.is_some() != sealed || (extensions.dictionary.is_some() && !compressed) {
        return Err(Refusal::Extension);
    }
    let meta = Meta { schema, fresh_ms, stale_ms, stored_ms, incarnation, source_version };
    let header = Header { codec: CodecId(codec), negative, compressed, sealed, shape, meta };
    let vouched = [head.get(8..).unwrap_or_default(), tail];
    Ok(Opened { header, extensions, payload, vouched })
}

/// The checksum of an envelope: over everything behind it, seeded by the key.
fn checksum(bytes: &[u8], key: &[u8]) -> u64 {
    xxh3_64_with_seed(bytes.get(8..).unwrap_or_default(), xxh3_64(key))
}

/// The header's fields, taken from front to back.
struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    /// The next `N` bytes; zeros behind the end, which the header's fixed length rules out.
    fn take<const N: usize>(&mut self) -> [u8; N] {
        let Some((field, rest)) = self.0.split_first_chunk() else {
            return [0; N];
        };
        self.0 = rest;
        *field
    }

    /// The next `N` bytes, at most eight, as a number.
    fn number<const N: usize>(&mut self) -> u64 {
        let mut wide = [0; 8];
        for (to, from) in wide.iter_mut().zip(self.take::<N>()) {
            *to = from;
        }
        u64::from_le_bytes(wide)
    }
}
