//! [`Fleet`]: the workers' processes.

use std::{
    collections::HashSet,
    process::Stdio,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use rustix::process::{Pid, Signal, kill_process};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    process::{Child, ChildStdin, ChildStdout, Command},
    time::{Instant, sleep},
};

use crate::{tally::Tally, worker::Settings};

/// How long all workers may take to do what they were told.
const PATIENCE: Duration = Duration::from_secs(60);
/// How many violations are kept in full.
const KEPT: usize = 50;
/// How many acknowledgements that came to nothing are told apart.
const MOST: usize = 100_000;

/// What the workers have told, all together.
#[derive(Debug, Default)]
pub(crate) struct Told {
    pub(crate) tally: Tally,
    pub(crate) violations: Vec<String>,
    /// Workers that ended although nobody had killed them.
    pub(crate) deaths: u64,
    /// Keys and versions whose acknowledgement L2 has belied.
    pub(crate) undone: HashSet<String>,
    quiet: usize,
    verified: usize,
}

/// Workers with the numbers from 0 on. Dropping it kills them.
#[derive(Debug)]
pub(crate) struct Fleet {
    settings: Vec<Settings>,
    workers: Vec<Option<Worker>>,
    told: Arc<Mutex<Told>>,
    starts: u64,
}

#[derive(Debug)]
struct Worker {
    process: Child,
    commands: ChildStdin,
    /// Ends the worker, even a stopped one, if this process is killed.
    watch: Child,
    is_to_end: Arc<AtomicBool>,
}

impl Fleet {
    pub(crate) fn start(settings: Vec<Settings>) -> Result<Self> {
        let workers = settings.iter().map(|_| None).collect();
        let mut fleet = Self { settings, workers, told: Arc::default(), starts: 0 };
        for number in 0..fleet.settings.len() {
            fleet.launch(number as u64)?;
        }
        Ok(fleet)
    }

    /// Starts a worker that was killed.
    pub(crate) fn launch(&mut self, number: u64) -> Result<()> {
        let mut settings = self.settings.get(number as usize).context("no such worker")?.clone();
        // One that is started again does other things.
        settings.seed ^= self.starts << 40;
        self.starts += 1;
        let mut process = Command::new(std::env::current_exe()?)
            .arg("worker")
            .args(settings.words())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let watch = Command::new("sh")
            .args(["-c", "read _; kill -s KILL \"$0\""])
            .arg(process.id().context("a worker ended at once")?.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()?;
        let commands = process.stdin.take().context("no standard input")?;
        let output = process.stdout.take().context("no standard output")?;
        let is_to_end = Arc::new(AtomicBool::new(false));
        tokio::spawn(listen(output, Arc::clone(&self.told), Arc::clone(&is_to_end)));
        if let Some(place) = self.workers.get_mut(number as usize) {
            *place = Some(Worker { process, commands, watch, is_to_end });
        }
        Ok(())
    }

    /// Ends a worker at once (`SIGKILL`).
    pub(crate) async fn kill(&mut self, number: u64) -> Result<()> {
        let Some(mut worker) = self.workers.get_mut(number as usize).and_then(Option::take) else {
            return Ok(());
        };
        worker.is_to_end.store(true, Ordering::SeqCst);
        // Before the worker's number can become another's.
        worker.watch.kill().await?;
        Ok(worker.process.kill().await?)
    }

    /// Sends a worker a signal.
    pub(crate) fn signal(&self, number: u64, signal: Signal) -> Result<()> {
        let worker = self.workers.get(number as usize).and_then(Option::as_ref);
        let Some(id) = worker.and_then(|worker| worker.process.id()) else { return Ok(()) };
        let id = Pid::from_raw(i32::try_from(id)?).context("no process")?;
        Ok(kill_process(id, signal)?)
    }

    /// Has all workers end their work and come to rest.
    pub(crate) async fn be_quiet(&mut self) -> Result<()> {
        self.tell("quiet\n").await?;
        self.until("are quiet", |told| told.quiet).await
    }

    /// Has all workers look at everything once more.
    pub(crate) async fn verify(&mut self) -> Result<()> {
        self.tell("verify\n").await?;
        self.until("have looked at everything", |told| told.verified).await
    }

    /// Ends all workers. What they have told.
    pub(crate) async fn end(mut self) -> Result<Told> {
        for number in 0..self.workers.len() {
            self.kill(number as u64).await?;
        }
        Ok(std::mem::take(&mut *lock(&self.told)))
    }

    async fn tell(&mut self, command: &str) -> Result<()> {
        for worker in self.workers.iter_mut().flatten() {
            worker.commands.write_all(command.as_bytes()).await.context("a worker has ended")?;
        }
        Ok(())
    }

    async fn until(&self, what: &str, how_many: impl Fn(&Told) -> usize) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        while how_many(&lock(&self.told)) < self.workers.len() {
            ensure!(lock(&self.told).deaths == 0, "a worker ended by itself");
            ensure!(Instant::now() < deadline, "not all workers {what}");
            // A real wait: for processes, which know no clock of ours.
            sleep(Duration::from_millis(10)).await;
        }
        Ok(())
    }
}

fn lock(told: &Mutex<Told>) -> MutexGuard<'_, Told> {
    told.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Takes down what a worker tells, until it ends.
async fn listen(output: ChildStdout, told: Arc<Mutex<Told>>, is_to_end: Arc<AtomicBool>) {
    let mut lines = BufReader::new(output).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        let mut told = lock(&told);
        match line.split_once(' ').unwrap_or((&line, "")) {
            // The last line of one that was killed may be cut short.
            ("tally", words) => {
                if let Some(tally) = Tally::read(words) {
                    told.tally.merge(&tally);
                }
            }
            ("broken", what) if told.violations.len() < KEPT => told.violations.push(what.into()),
            ("undone", which) if told.undone.len() < MOST => {
                told.undone.insert(which.into());
            }
            ("quiet", _) => told.quiet += 1,
            ("verified", _) => told.verified += 1,
            _ => {}
        }
    }
    if !is_to_end.load(Ordering::SeqCst) {
        lock(&told).deaths += 1;
    }
}
