//! [`Postgres`]: a PostgreSQL server of one test.
//!
//! Its programs refuse to run as root; a test that does (in a container, say) starts them as the
//! user `postgres`, or `nobody`.

use std::{
    env, fs,
    net::TcpListener,
    os::unix::{fs::chown, process::CommandExt},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use rustix::process::{Pid, Signal, geteuid, kill_process};
use spellbook::config::Database;
use sqlx::{ConnectOptions, Connection, PgConnection, postgres::PgConnectOptions};

use super::{database, until};

const PASSWORD: &str = "open-sesame";
const MISSING: &str =
    "PostgreSQL is not installed: apt-get install postgresql; its service need not run";

/// A server on a free loopback port, with its files in a temporary directory. Dropping it ends it
/// and removes them.
pub(crate) struct Postgres {
    programs: PathBuf,
    user: Option<(u32, u32)>,
    files: tempfile::TempDir,
    port: u16,
    process: Option<Child>,
}

impl Postgres {
    /// Makes an empty database and starts its server.
    pub(crate) async fn start() -> Self {
        let files = tempfile::Builder::new().prefix("spellbook-postgres-").tempdir().unwrap();
        let user = geteuid().is_root().then(unprivileged);
        if let Some((user, group)) = user {
            chown(files.path(), Some(user), Some(group)).unwrap();
        }
        let mut server = Self { programs: programs(), user, files, port: 0, process: None };
        let password = server.files.path().join("password");
        fs::write(&password, PASSWORD).unwrap();
        let made = server
            .command("initdb")
            .args(["--no-sync", "--auth=scram-sha-256", "--username=spellbook", "--locale=C"])
            .args(["--encoding=UTF8", "--no-instructions", "--pgdata", "data", "--pwfile"])
            .arg(&password)
            .output()
            .unwrap();
        assert!(made.status.success(), "initdb failed: {made:?}");
        server.port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        server.resume().await;
        server
    }

    /// Its URL, with the password.
    pub(crate) fn url(&self) -> String {
        self.url_with(PASSWORD)
    }

    /// Its URL, with some password.
    pub(crate) fn url_with(&self, password: &str) -> String {
        format!("postgres://spellbook:{password}@127.0.0.1:{}/postgres", self.port)
    }

    /// A connection of the test's own.
    pub(crate) async fn connect(&self) -> PgConnection {
        self.options().connect().await.unwrap()
    }

    fn options(&self) -> PgConnectOptions {
        let Database::Postgres(options) = database(&self.url()) else { unreachable!() };
        *options
    }

    /// Stops it at once, as a power cut would.
    pub(crate) fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            // Its immediate shutdown, which takes the children along.
            let _ = kill_process(pid(process.id()), Signal::QUIT);
            let _ = process.wait();
        }
    }

    /// Starts it again, and waits until it answers.
    pub(crate) async fn resume(&mut self) {
        let log = fs::File::create(self.files.path().join("log")).unwrap();
        let process = self
            .command("postgres")
            .args(["-D", "data", "-p", &self.port.to_string(), "-h", "127.0.0.1"])
            .args(["-c", "unix_socket_directories=", "-c", "fsync=off", "-c", "max_connections=50"])
            .args(["-c", "shared_buffers=16MB", "-c", "autovacuum=off"])
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        self.process = Some(process);
        let options = self.options();
        until("PostgreSQL answers", async || {
            let connection = options.connect().await.ok()?;
            connection.close().await.ok()
        })
        .await;
    }

    /// Stops every process of it without ending any: connections stay, nothing is answered.
    pub(crate) fn freeze(&self) {
        self.signal(Signal::STOP);
    }

    /// Lets it go on.
    pub(crate) fn thaw(&self) {
        self.signal(Signal::CONT);
    }

    fn signal(&self, signal: Signal) {
        let Some(process) = &self.process else { return };
        // The parent first: frozen, it makes no more children.
        kill_process(pid(process.id()), signal).unwrap();
        for child in children(process.id()) {
            // One that has ended meanwhile.
            let _ = kill_process(pid(child), signal);
        }
    }

    fn command(&self, name: &str) -> Command {
        let mut command = Command::new(self.programs.join(name));
        command.current_dir(self.files.path()).env_clear().env("LC_ALL", "C");
        if let Some((user, group)) = self.user {
            command.uid(user).gid(group);
        }
        command
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        self.thaw();
        self.kill();
    }
}

fn pid(id: u32) -> Pid {
    Pid::from_raw(i32::try_from(id).unwrap()).unwrap()
}

/// The processes whose parent is `id`.
fn children(id: u32) -> Vec<u32> {
    let processes = fs::read_dir("/proc").unwrap().flatten();
    processes
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(|child: &u32| {
            let stat = fs::read_to_string(format!("/proc/{child}/stat")).unwrap_or_default();
            // After the name, which may hold anything: state, parent.
            let parent = stat.rsplit(')').next().and_then(|rest| rest.split_whitespace().nth(1));
            parent.and_then(|parent| parent.parse().ok()) == Some(id)
        })
        .collect()
}

/// Where `initdb` is: on the `PATH`, or where Debian keeps it, the newest first.
fn programs() -> PathBuf {
    let path = env::var_os("PATH").unwrap_or_default();
    let mut debian: Vec<PathBuf> = fs::read_dir("/usr/lib/postgresql")
        .map(|versions| versions.flatten().map(|entry| entry.path().join("bin")).collect())
        .unwrap_or_default();
    let version = |bin: &PathBuf| -> Option<u32> {
        bin.parent().and_then(Path::file_name)?.to_str()?.parse().ok()
    };
    debian.sort_by_key(|bin| std::cmp::Reverse(version(bin)));
    env::split_paths(&path).chain(debian).find(|bin| bin.join("initdb").exists()).expect(MISSING)
}

/// User and group of somebody without privileges.
fn unprivileged() -> (u32, u32) {
    let users = fs::read_to_string("/etc/passwd").unwrap();
    let find = |name: &str| {
        let line = users.lines().find(|line| line.split(':').next() == Some(name))?;
        let mut numbers = line.split(':').skip(2).map(str::parse);
        Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
    };
    find("postgres").or_else(|| find("nobody")).expect("there is no user postgres, nor nobody")
}
