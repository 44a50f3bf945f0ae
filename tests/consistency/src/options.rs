//! [`Options`] of a run.

use std::time::Duration;

use anyhow::{Result, ensure};

use crate::{arguments::Arguments, mode::Mode};

/// What is to be run.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    /// All of it, in equal parts for each mode. Starting and coming to rest are not in it.
    pub(crate) time: Duration,
    pub(crate) seed: u64,
    pub(crate) modes: Vec<Mode>,
    pub(crate) workers: u64,
    pub(crate) readers: u64,
    pub(crate) writers: u64,
    pub(crate) lookers: u64,
    pub(crate) keys: u32,
    pub(crate) pause: u64,
    /// Whether an acknowledgement is forged, which must be found.
    pub(crate) forge: bool,
}

impl Options {
    pub(crate) fn read(words: impl IntoIterator<Item = String>) -> Result<Self> {
        let mut words = Arguments::read(words, &["forge"])?;
        let mode: Option<String> = words.take("mode")?;
        let options = Self {
            time: Duration::from_secs(words.next("SECONDS")?.unwrap_or(240)),
            seed: words.next("SEED")?.unwrap_or_else(|| fastrand::u64(..1_000_000)),
            modes: match mode.as_deref() {
                None | Some("all") => Mode::ALL.to_vec(),
                Some(name) => vec![Mode::named(name)?],
            },
            workers: words.take("workers")?.unwrap_or(4),
            readers: words.take("readers")?.unwrap_or(8),
            writers: words.take("writers")?.unwrap_or(3),
            lookers: words.take("lookers")?.unwrap_or(2),
            keys: words.take("keys")?.unwrap_or(256),
            pause: words.take("pause")?.unwrap_or(0),
            forge: words.take("forge")?.unwrap_or(false),
        };
        words.end()?;
        ensure!(options.workers > 0 && options.workers <= 64, "--workers can be 1 to 64");
        ensure!(options.keys >= 16 && options.keys <= 65_536, "--keys can be 16 to 65536");
        ensure!(options.readers.max(options.writers) <= 1_024, "that is too many tasks");
        Ok(options)
    }
}
