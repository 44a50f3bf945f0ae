//! One process of a test: started with files of its own, ended by its own number.
//!
//! Signals are sent by the shell's own `kill`, so that no `unsafe` and no further crate is needed for
//! two of them.
//!
//! A test that is killed, or aborts, drops nothing. So beside each server a shell waits for the end of a pipe
//! whose other end only this process has, and then ends the server. Rejected: the parent-death signal, which
//! takes `unsafe`, and which comes when the *thread* ends that started the server.

use std::{
    fs, io,
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use tokio::time::{Instant, sleep, timeout};

/// How long a server may take until it answers.
const PATIENCE: Duration = Duration::from_secs(20);

/// A program and where it comes from.
#[derive(Clone, Copy, Debug)]
pub(super) struct Program {
    pub(super) name: &'static str,
    /// The Debian package that holds it.
    pub(super) package: &'static str,
}

/// A server process with its files in a temporary directory. Dropping it ends exactly this process and
/// removes the directory.
#[derive(Debug)]
pub(super) struct Process {
    program: Program,
    directory: PathBuf,
    child: Option<Child>,
    /// Ends the child, if this process cannot.
    watch: Option<Child>,
}

impl Process {
    /// A process that does not run yet.
    pub(super) fn new(program: Program) -> io::Result<Self> {
        let number = fastrand::u64(..);
        let name = format!("tiered-{}-{}-{number:016x}", program.name, std::process::id());
        let directory = std::env::temp_dir().join(name);
        fs::create_dir(&directory)?;
        Ok(Self { program, directory, child: None, watch: None })
    }

    pub(super) fn directory(&self) -> &Path {
        &self.directory
    }

    /// Starts the process and waits until `serves` says that the one of this number does, and not another
    /// on its port; ends it again if it does not.
    pub(super) async fn launch(
        &mut self,
        arguments: &[String],
        serves: impl AsyncFn(u32) -> bool,
    ) -> io::Result<()> {
        let log = fs::File::create(self.log())?;
        let Program { name, package } = self.program;
        let child = Command::new(name)
            .args(arguments)
            .current_dir(&self.directory)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .map_err(|error| match error.kind() {
                io::ErrorKind::NotFound => io::Error::new(
                    error.kind(),
                    format!("{name} is not installed: apt-get install {package}"),
                ),
                _ => error,
            })?;
        let number = child.id();
        self.child = Some(child);
        let answers = match self.watch(number) {
            Ok(()) => self.until(number, serves).await,
            Err(error) => Err(error),
        };
        if answers.is_err() {
            self.kill()?;
        }
        answers
    }

    /// Ends the process at once, as a crash would (`SIGKILL`). Does nothing to one that has ended.
    pub(super) fn kill(&mut self) -> io::Result<()> {
        // Before the child's number can become another's.
        if let Some(mut watch) = self.watch.take() {
            let _ = watch.kill();
            let _ = watch.wait();
        }
        if let Some(mut child) = self.child.take() {
            child.kill()?;
            child.wait()?;
        }
        Ok(())
    }

    /// Sends a signal to it, by its number.
    pub(super) fn signal(&self, name: &str) -> io::Result<()> {
        let Some(child) = &self.child else {
            return Err(io::Error::other(format!("this {} has ended", self.program.name)));
        };
        let status = Command::new("sh")
            .args(["-c", "kill -s \"$0\" \"$1\"", name, &child.id().to_string()])
            .status()?;
        if status.success() { Ok(()) } else { Err(io::Error::other("the signal was refused")) }
    }

    /// Has the child ended, and its files removed, when this process is no more.
    fn watch(&mut self, number: u32) -> io::Result<()> {
        let script = "read _; kill -s KILL \"$0\"; rm -rf -- \"$1\"";
        let watch = Command::new("sh")
            .args(["-c", script, &number.to_string()])
            .arg(&self.directory)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        self.watch = Some(watch);
        Ok(())
    }

    async fn until(&mut self, number: u32, serves: impl AsyncFn(u32) -> bool) -> io::Result<()> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(child) = &mut self.child
                && child.try_wait()?.is_some()
            {
                return Err(self.failed("ended at once"));
            }
            if timeout(Duration::from_secs(1), serves(number)).await.is_ok_and(|serves| serves) {
                return Ok(());
            }
            if Instant::now() > deadline {
                return Err(self.failed("does not answer"));
            }
            // A real wait: for a process, which knows no clock of ours.
            sleep(Duration::from_millis(5)).await;
        }
    }

    fn failed(&self, how: &str) -> io::Error {
        let log = fs::read_to_string(self.log()).unwrap_or_default();
        io::Error::other(format!("{} {how}; its log:\n{log}", self.program.name))
    }

    fn log(&self) -> PathBuf {
        self.directory.join("log")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // A frozen process dies of SIGKILL too, but its parent may wait longer for it.
        if self.child.is_some() {
            let _ = self.signal("CONT");
        }
        let _ = self.kill();
        let _ = fs::remove_dir_all(&self.directory);
    }
}

/// Waits until something is so.
pub(super) async fn eventually(what: &str, is_so: impl AsyncFn() -> bool) -> io::Result<()> {
    let deadline = Instant::now() + PATIENCE;
    while !timeout(Duration::from_secs(1), is_so()).await.is_ok_and(|is_so| is_so) {
        if Instant::now() > deadline {
            return Err(io::Error::new(io::ErrorKind::TimedOut, format!("{what} does not happen")));
        }
        // A real wait: for processes, which know no clock of ours.
        sleep(Duration::from_millis(10)).await;
    }
    Ok(())
}

/// A port that was free a moment ago.
pub(super) fn free_port() -> io::Result<u16> {
    Ok(TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port())
}

/// Starts something on a free port, and on another if somebody was quicker to take it.
pub(super) async fn on_a_free_port<T>(start: impl AsyncFn(u16) -> io::Result<T>) -> io::Result<T> {
    let mut last = io::Error::other("no port was tried");
    for _ in 0..5 {
        match start(free_port()?).await {
            Ok(started) => return Ok(started),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(error),
            Err(error) => last = error,
        }
    }
    Err(last)
}
