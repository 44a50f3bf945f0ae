//! [`World`]: what the tasks of a worker share, and [`Notes`], what each of them notes down.

use std::{
    fmt,
    io::Write,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use anyhow::Result;
use fastrand::Rng;
use tiered::{Key, Tiered};

use super::Settings;
use crate::{
    clock::{MILLISECOND, now},
    ledger::Ledger,
    link::Link,
    tally::{Count, Measure, Tally},
};

/// How many violations are told in full.
const TOLD: usize = 20;

#[derive(Debug)]
pub(crate) struct World {
    pub(crate) settings: Settings,
    pub(crate) cache: Tiered,
    pub(crate) ledger: Ledger,
    pub(crate) link: Link,
    /// What this process itself has invalidated or written: it must not be served older.
    pub(crate) floors: Vec<AtomicU64>,
    names: Vec<Key>,
    told: Mutex<(Tally, usize)>,
    quiet: AtomicBool,
}

impl World {
    pub(crate) fn new(settings: Settings) -> Result<Self> {
        Ok(Self {
            cache: settings.mode.cache(&settings.url)?,
            ledger: Ledger::open(&settings.ledger)?,
            link: Link::to(settings.socket.clone()),
            floors: (0..settings.keys).map(|_| AtomicU64::new(0)).collect(),
            names: (0..settings.keys).map(|key| Key::from(format_args!("key:{key}"))).collect(),
            told: Mutex::default(),
            quiet: AtomicBool::new(false),
            settings,
        })
    }

    /// The key of this number.
    pub(crate) fn key(&self, number: u32) -> &Key {
        &self.names[number as usize]
    }

    pub(crate) fn floor(&self, key: u32) -> u64 {
        self.floors[key as usize].load(Ordering::SeqCst)
    }

    pub(crate) fn raise_floor(&self, key: u32, version: u64) {
        self.floors[key as usize].fetch_max(version, Ordering::SeqCst);
    }

    pub(crate) fn be_quiet(&self) {
        self.quiet.store(true, Ordering::SeqCst);
    }

    pub(crate) fn is_quiet(&self) -> bool {
        self.quiet.load(Ordering::Relaxed)
    }

    /// Tells the orchestrator what was counted since the last time.
    pub(crate) fn tell(&self) {
        let tally = {
            let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
            std::mem::take(&mut told.0)
        };
        self.say(format_args!("tally{}", tally.line()));
    }

    /// Says a line. Whoever listens no more has ended this worker.
    pub(crate) fn say(&self, line: impl fmt::Display) {
        let _ = writeln!(std::io::stdout().lock(), "{line}");
    }
}

/// What a task notes down: handed over every so often.
#[derive(Debug)]
pub(crate) struct Notes {
    world: Arc<World>,
    tally: Tally,
    handed_over: u64,
}

impl Notes {
    pub(crate) fn new(world: &Arc<World>) -> Self {
        Self { world: Arc::clone(world), tally: Tally::default(), handed_over: now() }
    }

    pub(crate) fn count(&mut self, count: Count) {
        self.tally.count(count);
    }

    pub(crate) fn measure(&mut self, measure: Measure, nanoseconds: u64) {
        self.tally.measure(measure, nanoseconds);
    }

    /// Counts a violation, and tells of it unless many were told.
    pub(crate) fn violation(&mut self, count: Count, what: impl fmt::Display) {
        self.tally.count(count);
        let mut told = self.world.told.lock().unwrap_or_else(PoisonError::into_inner);
        told.1 += 1;
        if told.1 <= TOLD {
            drop(told);
            self.world.say(format_args!("broken {what}"));
        }
    }

    /// It is so late: hands over what there is, if there is much.
    pub(crate) fn at(&mut self, now: u64) {
        if now.saturating_sub(self.handed_over) > 20 * MILLISECOND {
            self.hand_over();
            self.handed_over = now;
        }
    }

    fn hand_over(&mut self) {
        let mut told = self.world.told.lock().unwrap_or_else(PoisonError::into_inner);
        told.0.merge(&self.tally);
        self.tally.clear();
    }
}

impl Drop for Notes {
    fn drop(&mut self) {
        self.hand_over();
    }
}

/// A task's own source of chance: the same in each run of a seed, and another after each restart.
pub(crate) fn random(settings: &Settings, kind: u64, number: u64) -> Rng {
    let place = settings.number << 32 | kind << 16 | number;
    Rng::with_seed(settings.seed ^ place.wrapping_mul(0x9E37_79B9_7F4A_7C15))
}
