//! A checker of histories: several processes of a service over real servers that fail, and what they may read.
//!
//! `tiered-consistency [SECONDS] [SEED] [--mode MODE]` starts servers, a database and
//! workers, lets them suffer by a schedule drawn from the seed, and prints a line for each promise. What is
//! checked, and what that proves, is told in `docs/consistency.md`.
//!
//! In the source: [`run`] is the story of one mode; [`faults`] draws the schedule and [`stage`] carries it out on
//! the [`servers`], the [`fleet`] of workers and the [`database`]. A [`worker`] reads, writes and looks, and [`judge`]s
//! what it is given by the [`ledger`]. [`report`] says what came of it.

mod arguments;
mod clock;
mod database;
mod epochs;
mod faults;
mod fleet;
mod histogram;
mod judge;
mod keys;
mod ledger;
mod link;
mod mode;
mod options;
mod report;
mod run;
mod servers;
mod stage;
mod tally;
mod value;
mod wire;
mod worker;

use std::process::ExitCode;

use anyhow::Result;
use tracing_subscriber::EnvFilter;

use self::options::Options;

fn main() -> ExitCode {
    let log = tracing_subscriber::fmt().with_env_filter(EnvFilter::from_default_env());
    log.with_writer(std::io::stderr).init();
    match start() {
        Ok(code) => code,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::from(2)
        }
    }
}

/// 0 if every promise was kept, 1 if one was broken, and an error if there was nothing to be seen.
fn start() -> Result<ExitCode> {
    let mut words = std::env::args().skip(1).peekable();
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    let runtime = runtime.worker_threads(2).enable_all().build()?;
    if words.next_if_eq("worker").is_some() {
        let settings = worker::Settings::read(words)?;
        let worked = runtime.block_on(worker::run(settings));
        // Without waiting for the thread that reads the standard input.
        runtime.shutdown_background();
        return worked.map(|()| ExitCode::SUCCESS);
    }
    let options = Options::read(words)?;
    let is_kept = runtime.block_on(run::all(&options))?;
    Ok(if is_kept { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
