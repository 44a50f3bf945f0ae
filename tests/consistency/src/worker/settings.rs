//! [`Settings`] of a worker, as they go over the command line.

use std::path::PathBuf;

use anyhow::Result;

use crate::{arguments::Arguments, mode::Mode};

/// What a worker is told when it starts.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) mode: Mode,
    /// The servers, by this worker's own bad link.
    pub(crate) url: String,
    /// The servers, by a good one.
    pub(crate) direct: String,
    pub(crate) socket: PathBuf,
    pub(crate) ledger: PathBuf,
    pub(crate) keys: u32,
    /// Its number, of so many workers.
    pub(crate) number: u64,
    pub(crate) workers: u64,
    pub(crate) seed: u64,
    pub(crate) readers: u64,
    pub(crate) writers: u64,
    pub(crate) lookers: u64,
    /// How long a reader rests after 64 reads, in microseconds.
    pub(crate) pause: u64,
}

impl Settings {
    pub(crate) fn words(&self) -> Vec<String> {
        let pairs = [
            ("mode", self.mode.name().to_owned()),
            ("url", self.url.clone()),
            ("direct", self.direct.clone()),
            ("socket", self.socket.to_string_lossy().into_owned()),
            ("ledger", self.ledger.to_string_lossy().into_owned()),
            ("keys", self.keys.to_string()),
            ("number", self.number.to_string()),
            ("workers", self.workers.to_string()),
            ("seed", self.seed.to_string()),
            ("readers", self.readers.to_string()),
            ("writers", self.writers.to_string()),
            ("lookers", self.lookers.to_string()),
            ("pause", self.pause.to_string()),
        ];
        pairs.into_iter().flat_map(|(name, value)| [format!("--{name}"), value]).collect()
    }

    pub(crate) fn read(words: impl IntoIterator<Item = String>) -> Result<Self> {
        let mut words = Arguments::read(words, &[])?;
        let settings = Self {
            mode: Mode::named(&words.need::<String>("mode")?)?,
            url: words.need("url")?,
            direct: words.need("direct")?,
            socket: words.need("socket")?,
            ledger: words.need("ledger")?,
            keys: words.need("keys")?,
            number: words.need("number")?,
            workers: words.need("workers")?,
            seed: words.need("seed")?,
            readers: words.need("readers")?,
            writers: words.need("writers")?,
            lookers: words.need("lookers")?,
            pause: words.need("pause")?,
        };
        words.end()?;
        Ok(settings)
    }
}
