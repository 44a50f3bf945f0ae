//! The checked frame around every stored value; its table is in `docs/envelope.md`.
//!
//! Fixed 64 bytes, then extensions, then the payload. The checksum comes first and covers all that
//! follows and the key, and it is verified before any other field is believed: damage is never
//! mistaken for drift. Lifetimes are durations, for no two machines' clocks agree.
//!
//! Rejected: a header encoded by a codec of its own. It would be a few bytes shorter, but its fields
//! would have no fixed place, and a reader of another version could not tell damage from news.

use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

use crate::{CodecId, DecodeError, Shape};

/// Bytes before extensions and payload.
pub const HEADER_LEN: usize = 64;

/// The bytes 8..12 of every envelope, in every format version.
const MAGIC: [u8; 4] = *b"TIER";
/// The one format version this reader knows.
const FORMAT: u8 = 1;
/// The flag of a negative entry.
const NEGATIVE: u16 = 1;
/// The longest lifetime that fits, in milliseconds: about 8,900 years.
const MAX_MS: u64 = (1 << 48) - 1;
/// What [`seal`] reserves behind the header, so that a small payload never reallocates.
const FIRST_GUESS: usize = 192;

/// What an envelope says of its payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// The codec that wrote the payload.
    pub codec: CodecId,
    /// Whether this is the remembered answer "there is none"; the payload is then empty.
    pub negative: bool,
    /// The entity's declared schema version.
    pub schema: u32,
    /// The fingerprint of the value's type.
    pub shape: Shape,
    /// How long the value was fresh from when it was stored, in milliseconds (48 bits).
    pub fresh_ms: u64,
    /// How long after that it may stand in for a failing load, in milliseconds (48 bits).
    pub stale_ms: u64,
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
    /// The value's bytes.
    pub payload: &'a [u8],
}

/// What a reader accepts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Expected {
    /// The reader's codec.
    pub codec: CodecId,
    /// The reader's schema version.
    pub schema: u32,
    /// The reader's fingerprint of the type.
    pub shape: Shape,
}

/// Why stored bytes were not believed. One variant per reason; [`label`](Self::label) names it in
/// metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// Fewer bytes than a header.
    #[error("shorter than a header")]
    Truncated,
    /// More bytes than the reader's limit.
    #[error("longer than the limit")]
    TooLarge,
    /// The checksum does not match: damaged, or the value of another key.
    #[error("damaged, or another key's value")]
    Checksum,
    /// No envelope of ours.
    #[error("not an envelope")]
    Foreign,
    /// A format version this reader does not know.
    #[error("unknown format version")]
    Format,
    /// A flag this reader does not know.
    #[error("unknown flag")]
    Flags,
    /// Lengths that do not add up.
    #[error("inconsistent lengths")]
    Length,
    /// Written by another codec.
    #[error("another codec")]
    Codec,
    /// Written under an older schema version.
    #[error("older schema version")]
    OlderSchema,
    /// Written under a newer schema version.
    #[error("newer schema version")]
    NewerSchema,
    /// Written for a type of another shape.
    #[error("another shape")]
    Shape,
}

impl Refusal {
    /// The reason's name in metrics: short, snake case, never changed.
    #[must_use]
    pub fn label(&self) -> &'static str {
        match self {
            Self::Truncated => "truncated",
            Self::TooLarge => "too_large",
            Self::Checksum => "checksum",
            Self::Foreign => "foreign",
            Self::Format => "format",
            Self::Flags => "flags",
            Self::Length => "length",
            Self::Codec => "codec",
            Self::OlderSchema => "older_schema",
            Self::NewerSchema => "newer_schema",
            Self::Shape => "shape",
        }
    }
}

impl DecodeError {
    /// The reason's name in metrics: short, snake case, never changed.
    #[must_use]
    pub fn label(&self) -> &'static str {
        match self {
            Self::Payload(_) => "payload",
            Self::Trailing(_) => "trailing",
        }
    }
}

impl Header {
    /// Compares what is stored with what the reader expects: the codec, then the schema version,
    /// then the shape. A negative entry has no payload, so any codec's will do.
    ///
    /// # Errors
    /// [`Refusal::Codec`], [`Refusal::OlderSchema`], [`Refusal::NewerSchema`] or
    /// [`Refusal::Shape`], the first that applies.
    pub fn accept(&self, expected: &Expected) -> Result<(), Refusal> {
        if !self.negative && self.codec != expected.codec {
            return Err(Refusal::Codec);
        }
        if self.schema < expected.schema {
            return Err(Refusal::OlderSchema);
        }
        if self.schema > expected.schema {
            return Err(Refusal::NewerSchema);
        }
        if self.shape != expected.shape {
            return Err(Refusal::Shape);
        }
        Ok(())
    }

    /// The header's bytes from the magic on; the checksum is put before them last.
    fn write(&self, payload_len: usize, out: &mut [u8; HEADER_LEN]) {
        // A length that does not fit is written as one that cannot add up: see `seal`.
        let payload_len = u32::try_from(payload_len).unwrap_or(u32::MAX);
        let flags = if self.negative { NEGATIVE } else { 0 };
        out[8..12].copy_from_slice(&MAGIC);
        out[12] = FORMAT;
        out[13] = self.codec.0;
        out[14..16].copy_from_slice(&flags.to_le_bytes());
        out[16..20].copy_from_slice(&self.schema.to_le_bytes());
        out[20..24].copy_from_slice(&payload_len.to_le_bytes());
        out[24..32].copy_from_slice(&self.shape.value().to_le_bytes());
        out[32..38].copy_from_slice(&u48(self.fresh_ms));
        out[38..44].copy_from_slice(&u48(self.stale_ms));
        out[44..48].copy_from_slice(&0u32.to_le_bytes());
        out[48..56].copy_from_slice(&self.incarnation.to_le_bytes());
        out[56..64].copy_from_slice(&self.source_version.to_le_bytes());
    }
}

/// Seals a value: `payload` appends its bytes behind the place kept for the header, which is then
/// written in front of them. The bytes are written once and never moved but by the vector's growth.
///
/// Lifetimes of more than 48 bits are stored as the longest that fit. A payload of more than
/// [`u32::MAX`] bytes yields an envelope that no reader opens ([`Refusal::Length`]): whoever stores
/// it has a far lower limit and checks the length of the result.
///
/// # Errors
/// Whatever `payload` returns.
pub fn seal<E>(
    header: &Header,
    key: &[u8],
    payload: impl FnOnce(&mut Vec<u8>) -> Result<(), E>,
) -> Result<Vec<u8>, E> {
    let mut bytes = Vec::with_capacity(HEADER_LEN + FIRST_GUESS);
    bytes.resize(HEADER_LEN, 0);
    payload(&mut bytes)?;
    // A closure that shortened the vector sealed an empty payload, not a broken header.
    bytes.resize(bytes.len().max(HEADER_LEN), 0);
    let payload_len = bytes.len() - HEADER_LEN;
    if let Some(head) = bytes.first_chunk_mut() {
        header.write(payload_len, head);
    }
    let sum = checksum(&bytes, key);
    if let Some(place) = bytes.first_chunk_mut() {
        *place = sum.to_le_bytes();
    }
    Ok(bytes)
}

/// Opens an envelope: checks that it is whole, of this key, and of a format this reader knows. What
/// it holds is not looked at; [`Header::accept`] says whether it is what the reader wants.
///
/// # Errors
/// A [`Refusal`], the first that applies of: [`Truncated`](Refusal::Truncated),
/// [`TooLarge`](Refusal::TooLarge) (more than `limit` bytes in all),
/// [`Checksum`](Refusal::Checksum), [`Foreign`](Refusal::Foreign), [`Format`](Refusal::Format),
/// [`Flags`](Refusal::Flags), [`Length`](Refusal::Length).
pub fn open<'a>(bytes: &'a [u8], key: &[u8], limit: usize) -> Result<Opened<'a>, Refusal> {
    let Some((head, body)) = bytes.split_first_chunk::<HEADER_LEN>() else {
        return Err(Refusal::Truncated);
    };
    if bytes.len() > limit {
        return Err(Refusal::TooLarge);
    }
    let mut head = Fields(head);
    if u64::from_le_bytes(head.take()) != checksum(bytes, key) {
        return Err(Refusal::Checksum);
    }
    if head.take() != MAGIC {
        return Err(Refusal::Foreign);
    }
    if head.take() != [FORMAT] {
        return Err(Refusal::Format);
    }
    let [codec] = head.take();
    let flags = u16::from_le_bytes(head.take());
    if flags & !NEGATIVE != 0 {
        return Err(Refusal::Flags);
    }
    let negative = flags & NEGATIVE != 0;
    let schema = u32::from_le_bytes(head.take());
    let payload_len = u32::from_le_bytes(head.take());
    let shape = Shape::from_value(u64::from_le_bytes(head.take()));
    let fresh_ms = wide(head.take());
    let stale_ms = wide(head.take());
    let extensions_len = u32::from_le_bytes(head.take());
    let incarnation = u64::from_le_bytes(head.take());
    let source_version = u64::from_le_bytes(head.take());

    let (extensions, payload) = usize::try_from(extensions_len)
        .ok()
        .and_then(|len| body.split_at_checked(len))
        .ok_or(Refusal::Length)?;
    if usize::try_from(payload_len) != Ok(payload.len())
        || (negative && !payload.is_empty())
        || !extensions_add_up(extensions)
    {
        return Err(Refusal::Length);
    }
    let header = Header {
        codec: CodecId(codec),
        negative,
        schema,
        shape,
        fresh_ms,
        stale_ms,
        incarnation,
        source_version,
    };
    Ok(Opened { header, payload })
}

/// The checksum of an envelope: over everything behind it, seeded by the key.
fn checksum(bytes: &[u8], key: &[u8]) -> u64 {
    xxh3_64_with_seed(bytes.get(8..).unwrap_or_default(), xxh3_64(key))
}

/// Whether extensions are a whole number of `[kind u8][length u16][bytes]`. None is known to this
/// version, so all are skipped.
fn extensions_add_up(mut rest: &[u8]) -> bool {
    while let Some((&[_kind, low, high], behind)) = rest.split_first_chunk() {
        match behind.split_at_checked(u16::from_le_bytes([low, high]).into()) {
            Some((_, next)) => rest = next,
            None => return false,
        }
    }
    rest.is_empty()
}

/// The low 48 bits of a lifetime, saturating.
fn u48(ms: u64) -> [u8; 6] {
    let [a, b, c, d, e, f, _, _] = ms.min(MAX_MS).to_le_bytes();
    [a, b, c, d, e, f]
}

/// A lifetime from its 48 bits.
fn wide([a, b, c, d, e, f]: [u8; 6]) -> u64 {
    u64::from_le_bytes([a, b, c, d, e, f, 0, 0])
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
}
