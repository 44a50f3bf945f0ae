//! A run: the story of each mode, from its servers' start to its report.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use tempfile::TempDir;
use tokio::time::{sleep, sleep_until};

use crate::{
    database::{Database, Seen},
    faults::Schedule,
    fleet::{Fleet, Told},
    mode::Mode,
    options::Options,
    report,
    servers::Servers,
    stage::{Faults, Stage},
    worker::Settings,
};

/// What one mode came to.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) mode: Mode,
    /// The time for which it was worked.
    pub(crate) time: Duration,
    pub(crate) told: Told,
    pub(crate) seen: Seen,
    /// For how long a process stood still at most.
    pub(crate) longest_stop: Duration,
    pub(crate) faults: Faults,
}

/// Runs all modes and prints their reports; says whether every promise was kept.
pub(crate) async fn all(options: &Options) -> Result<bool> {
    let time = options.time / u32::try_from(options.modes.len()).unwrap_or(1).max(1);
    let mut is_kept = true;
    for mode in &options.modes {
        let outcome = run(*mode, time, options).await;
        let outcome =
            outcome.with_context(|| format!("mode {}, seed {}", mode.name(), options.seed))?;
        is_kept &= report::print(&outcome, options);
    }
    println!("{}", report::command(options));
    Ok(is_kept)
}

async fn run(mode: Mode, time: Duration, options: &Options) -> Result<Outcome> {
    let directory = directory()?;
    let mut stage = set(mode, options, directory.path()).await?;
    let schedule = Schedule::draw(options.seed, mode, time, options.workers);
    let begun = Instant::now();
    let end = tokio::time::Instant::now() + time;
    let forge = options.forge.then_some(end - time / 2);
    let faults = stage.play(&schedule, forge).await?;
    sleep_until(end).await;
    let time = begun.elapsed();
    let Stage { servers, database, mut fleet } = stage;
    fleet.be_quiet().await?;
    // What L1 may still serve by right is over then.
    sleep(mode.local_bound().unwrap_or_default() + Duration::from_millis(200)).await;
    fleet.verify().await?;
    let told = fleet.end().await?;
    let seen = database.end().context("the ledger cannot be written")?;
    drop(servers);
    let longest_stop = schedule.longest_stop();
    Ok(Outcome { mode, time, told, seen, longest_stop, faults })
}

async fn set(mode: Mode, options: &Options, directory: &Path) -> Result<Stage> {
    let servers = Servers::start(mode, options.workers, options.seed).await?;
    let (socket, ledger) = (directory.join("socket"), directory.join("ledger"));
    let database = Database::serve(&socket, &ledger, options.keys, options.seed)?;
    let settings = (0..options.workers).map(|number| Settings {
        mode,
        url: servers.url(number),
        direct: servers.direct(),
        socket: socket.clone(),
        ledger: ledger.clone(),
        keys: options.keys,
        number,
        workers: options.workers,
        seed: options.seed,
        readers: options.readers,
        writers: options.writers,
        lookers: options.lookers,
        pause: options.pause,
    });
    let fleet = Fleet::start(settings.collect())?;
    Ok(Stage { servers, database, fleet })
}

/// In memory where there is such a place: the ledger is written all the time.
fn directory() -> Result<TempDir> {
    let mut builder = tempfile::Builder::new();
    builder.prefix("tiered-consistency-");
    let memory = Path::new("/dev/shm");
    let made = if memory.is_dir() { builder.tempdir_in(memory) } else { builder.tempdir() };
    made.context("no place for the ledger")
}
