//! The compression stage: zstd, bounded on the way out.
//!
//! Contexts are kept between uses, which saves a third of the time. Every frame declares its length, so
//! the reader refuses before it allocates; a frame that declares none, or lies, is refused too.

use std::{
    fmt,
    io::Cursor,
    sync::{Arc, OnceLock},
};

use xxhash_rust::xxh3::xxh3_64;
use zstd::zstd_safe::{self, CCtx, CDict, DCtx, DDict, get_error_name};

use crate::{
    DecodeError, EncodeError,
    envelope::{self, Refusal},
    pool::{self, Pool},
};

/// To how many bytes a payload may expand unless told.
pub(crate) const MAX_EXPANDED: usize = 32 << 20;

/// The contexts of all readers.
static READERS: Pool<DCtx<'static>> = Pool::new();

/// How a packing compresses.
#[derive(Clone, Debug)]
pub struct Compression {
    pub(crate) level: i32,
    pub(crate) threshold: usize,
    pub(crate) max_expanded: usize,
    pub(crate) dictionary: Option<Arc<Dictionary>>,
    /// Those that are only read.
    pub(crate) old_dictionaries: Vec<Arc<Dictionary>>,
    writers: Writers,
}

impl Compression {
    pub(crate) fn new() -> Self {
        Self {
            level: zstd::DEFAULT_COMPRESSION_LEVEL,
            threshold: 256,
            max_expanded: MAX_EXPANDED,
            dictionary: None,
            old_dictionaries: Vec::new(),
            writers: Writers(Arc::new(Pool::new())),
        }
    }

    /// The dictionary that it writes with.
    pub(crate) fn dictionary(&self) -> Option<u64> {
        self.dictionary.as_ref().map(|dictionary| dictionary.id)
    }

    /// The beginning of an envelope with what `encode` writes, compressed or, if that is no gain,
    /// as it is. Says whether it is compressed.
    pub(crate) fn begin(
        &self,
        encode: impl FnOnce(&mut Vec<u8>) -> Result<(), EncodeError>,
    ) -> Result<(Vec<u8>, bool), EncodeError> {
        pool::with_buffer(|raw| {
            encode(raw)?;
            if raw.len() > self.max_expanded {
                return Err(EncodeError(format!(
                    "it takes {} bytes before compression, and max_expanded is {}",
                    raw.len(),
                    self.max_expanded
                )));
            }
            if raw.len() >= self.threshold {
                let bytes = self.compress(raw).map_err(|code| EncodeError(said(code)))?;
                if bytes.len() - envelope::HEADER_LEN < raw.len() {
                    return Ok((bytes, true));
                }
            }
            let mut bytes = envelope::begin(raw.len());
            bytes.extend_from_slice(raw);
            Ok((bytes, false))
        })
    }

    /// The beginning of an envelope with `raw`, compressed.
    fn compress(&self, raw: &[u8]) -> Result<Vec<u8>, usize> {
        let mut bytes = envelope::begin(zstd_safe::compress_bound(raw.len()));
        let mut writer = self.writers.0.take().or_else(CCtx::try_create).ok_or(NO_MEMORY)?;
        let mut end = Cursor::new(&mut bytes);
        end.set_position(envelope::HEADER_LEN as u64);
        match &self.dictionary {
            None => writer.compress(&mut end, raw, self.level)?,
            Some(dictionary) => {
                let prepared = dictionary.writer(self.level).ok_or(NO_MEMORY)?;
                writer.compress_using_cdict(&mut end, raw, prepared)?
            }
        };
        self.writers.0.put(writer);
        // What was reserved is the worst case; entries are kept.
        bytes.shrink_to_fit();
        Ok(bytes)
    }

    /// The prepared dictionary of an id.
    fn reader(&self, id: u64) -> Option<&DDict<'static>> {
        let mut known = self.dictionary.iter().chain(&self.old_dictionaries);
        known.find(|dictionary| dictionary.id == id)?.reader()
    }

    pub(crate) fn check(&self) -> Result<(), String> {
        let levels = zstd::compression_level_range();
        if !levels.contains(&self.level) {
            return Err(format!(
                "zstd's level is {}: give {} to {}, e.g. {}",
                self.level,
                levels.start(),
                levels.end(),
                zstd::DEFAULT_COMPRESSION_LEVEL
            ));
        }
        if self.max_expanded < 1024 || self.max_expanded > 1 << 30 {
            return Err(format!(
                "zstd's max_expanded is {} bytes: give 1 KiB to 1 GiB, e.g. 32 << 20",
                self.max_expanded
            ));
        }
        let broken = |dictionary: &Arc<Dictionary>| {
            dictionary.reader().is_none() || dictionary.writer(self.level).is_none()
        };
        if self.dictionary.iter().chain(&self.old_dictionaries).any(broken) {
            return Err("a zstd dictionary is empty or broken: give the bytes that the training \
                        wrote (zstd --train, or zstd::dict)"
                .into());
        }
        Ok(())
    }
}

/// Runs `decode` over what `payload` decompresses to.
pub(crate) fn expanded<T>(
    settings: Option<&Compression>,
    dictionary: Option<u64>,
    payload: &[u8],
    decode: impl FnOnce(&[u8]) -> Result<T, DecodeError>,
) -> Result<T, DecodeError> {
    let broken = |what: &str| DecodeError::Compression(what.to_owned());
    let limit = settings.map_or(MAX_EXPANDED, |settings| settings.max_expanded);
    let declared = zstd_safe::get_frame_content_size(payload)
        .map_err(|_| broken("no zstd frame"))?
        .ok_or_else(|| broken("a frame without its length"))?;
    let len = usize::try_from(declared)
        .ok()
        .filter(|len| *len <= limit)
        .ok_or(DecodeError::TooLarge { limit })?;
    let dictionary = match dictionary {
        None => None,
        Some(id) => Some(settings.and_then(|it| it.reader(id)).ok_or(Refusal::Dictionary)?),
    };
    pool::with_buffer(|raw| {
        raw.try_reserve_exact(len).map_err(|_| broken("no memory"))?;
        let mut reader =
            READERS.take().or_else(DCtx::try_create).ok_or_else(|| broken("no memory"))?;
        let written = match dictionary {
            None => reader.decompress(raw, payload),
            Some(dictionary) => reader.decompress_using_ddict(raw, payload, dictionary),
        };
        READERS.put(reader);
        match written {
            Ok(written) if written == len => decode(raw),
            Ok(_) => Err(broken("a frame that lies about its length")),
            Err(code) => Err(DecodeError::Compression(said(code))),
        }
    })
}

/// A dictionary, named by the hash of its bytes: one of other bytes is another.
pub(crate) struct Dictionary {
    pub(crate) id: u64,
    bytes: Vec<u8>,
    writer: OnceLock<Option<CDict<'static>>>,
    reader: OnceLock<Option<DDict<'static>>>,
}

impl Dictionary {
    pub(crate) fn new(bytes: Vec<u8>) -> Self {
        let id = xxh3_64(&bytes);
        Self { id, bytes, writer: OnceLock::new(), reader: OnceLock::new() }
    }

    /// Prepared at the first call, for its level.
    fn writer(&self, level: i32) -> Option<&CDict<'static>> {
        let make = || CDict::try_create(&self.bytes, level).filter(|_| !self.bytes.is_empty());
        self.writer.get_or_init(make).as_ref()
    }

    fn reader(&self) -> Option<&DDict<'static>> {
        let make = || DDict::try_create(&self.bytes).filter(|_| !self.bytes.is_empty());
        self.reader.get_or_init(make).as_ref()
    }

    /// The same, not prepared yet.
    pub(crate) fn anew(&self) -> Self {
        Self::new(self.bytes.clone())
    }
}

impl fmt::Debug for Dictionary {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "Dictionary(#{:016x}, {} bytes)", self.id, self.bytes.len())
    }
}

/// The contexts of one packing's writers: they grow with the level.
#[derive(Clone)]
struct Writers(Arc<Pool<CCtx<'static>>>);

impl fmt::Debug for Writers {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("Writers")
    }
}

/// zstd's code for an allocation that failed: `ZSTD_error_memory_allocation`, negated.
const NO_MEMORY: usize = 64_usize.wrapping_neg();

fn said(code: usize) -> String {
    get_error_name(code).to_owned()
}
