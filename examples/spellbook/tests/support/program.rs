//! [`Program`]: the service as a process, in a directory of its own, on a port of its own.

use std::{
    fs,
    ops::Deref,
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, Command},
    time::timeout,
};

use super::{Client, PATIENCE};

/// A running service; dropping it ends its process.
pub(crate) struct Program {
    client: Client,
    address: String,
    process: Child,
    log: PathBuf,
}

impl Program {
    /// Starts the service with these settings in `directory`, which gets its database and its log.
    pub(crate) async fn start(directory: &Path, settings: &[(&str, &str)]) -> Self {
        static STARTED: AtomicU32 = AtomicU32::new(0);
        let number = STARTED.fetch_add(1, Ordering::Relaxed);
        let log = directory.join(format!("spellbook-{number}.log"));
        let mut command = command(directory, settings);
        command.stdout(Stdio::piped()).stderr(fs::File::create(&log).unwrap());
        let mut process = command.spawn().unwrap();
        let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let line = timeout(PATIENCE, lines.next_line()).await;
        let text = || fs::read_to_string(&log).unwrap();
        let line = line.unwrap_or_else(|_| panic!("no line on stdout; log:\n{}", text())).unwrap();
        let line = line.unwrap_or_else(|| panic!("it ended at once; log:\n{}", text()));
        let address = line.strip_prefix("listening on ").expect(&line).to_owned();
        Self { client: Client::http(&address), address, process, log }
    }

    /// `http://127.0.0.1:port`.
    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// What it has logged.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap()
    }

    /// Sends a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        let id = i32::try_from(self.process.id().expect("it has ended")).unwrap();
        kill_process(Pid::from_raw(id).unwrap(), signal).unwrap();
    }

    /// Waits for its end.
    pub(crate) async fn ended(&mut self, within: Duration) -> ExitStatus {
        let ended = timeout(within, self.process.wait()).await;
        ended.unwrap_or_else(|_| panic!("still runs after {within:?}:\n{}", self.log())).unwrap()
    }

    /// Ends it as a supervisor does, and waits for that.
    pub(crate) async fn stop(mut self) {
        self.signal(Signal::TERM);
        assert!(self.ended(PATIENCE).await.success(), "{}", self.log());
    }
}

impl Deref for Program {
    type Target = Client;

    fn deref(&self) -> &Client {
        &self.client
    }
}

/// Starts a service that must refuse to start: its exit code, and what it says on stderr.
pub(crate) async fn refused(directory: &Path, settings: &[(&str, &str)]) -> (Option<i32>, String) {
    let mut command = command(directory, settings);
    let output = command.stdout(Stdio::piped()).stderr(Stdio::piped()).output();
    let output = timeout(PATIENCE, output).await.expect("it did not end").unwrap();
    assert!(output.stdout.is_empty(), "{output:?}");
    (output.status.code(), String::from_utf8(output.stderr).unwrap())
}

/// With nothing in its environment but what is given: the developer's own settings stay out.
fn command(directory: &Path, settings: &[(&str, &str)]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_spellbook"));
    command.env_clear().env("PORT", "0").envs(settings.iter().copied());
    command.current_dir(directory).stdin(Stdio::null()).kill_on_drop(true);
    command
}
