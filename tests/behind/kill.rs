//! A process that is killed, and a journal on a real server.
//!
//! The child is this very test binary, asked for one test, which is nothing unless it is asked for by a variable.

use std::{
    io::{BufRead, BufReader, Read},
    process::{Child, ChildStdout, Command, Stdio},
};

use tiered::{
    Jitter, Tiered,
    tiers::{Moka, Redis, RedisJournal},
};
use tiered_tiers::testing::RedisServer;

use super::*;

const URL: &str = "TIERED_TEST_KILL_URL";

fn cache(url: &str) -> Tiered {
    let redis = Redis::new(url).unwrap();
    Tiered::new(Moka::new(1_000), redis).jitter(Jitter::none()).build().unwrap()
}

/// A database that outlives the processes: a hash on the server, and a list of all that was ever written.
#[derive(Clone)]
struct Table {
    client: redis::Client,
    /// How long a batch takes.
    pause: Duration,
}

impl Table {
    fn new(url: &str, pause: Duration) -> Self {
        Self { client: redis::Client::open(url).unwrap(), pause }
    }

    async fn ask<R: redis::FromRedisValue>(&self, command: &redis::Cmd) -> R {
        let mut connection = self.client.get_multiplexed_async_connection().await.unwrap();
        command.query_async(&mut connection).await.unwrap()
    }

    async fn row(&self, key: u32) -> Option<u64> {
        self.ask(redis::cmd("HGET").arg("table").arg(key)).await
    }

    async fn writes(&self) -> Vec<(u32, u64)> {
        let all: Vec<String> = self.ask(redis::cmd("LRANGE").arg("log").arg(0).arg(-1)).await;
        let pair = |line: &String| {
            let (key, value) = line.split_once('=').unwrap();
            (key.parse().unwrap(), value.parse().unwrap())
        };
        all.iter().map(pair).collect()
    }

    async fn journal_len(&self) -> usize {
        self.ask(redis::cmd("XLEN").arg("{%journal:orders}:s")).await
    }
}

impl WriteSink<u32, u64> for Table {
    async fn write(&self, batch: Vec<(u32, Arc<u64>)>) -> Result<(), Failed> {
        // A real wait: processes are killed in the middle of it.
        tokio::time::sleep(self.pause).await;
        for (key, value) in batch {
            let mut both = redis::pipe();
            both.atomic().hset("table", key, *value).rpush("log", format!("{key}={value}"));
            let mut connection = self.client.get_multiplexed_async_connection().await?;
            both.query_async::<()>(&mut connection).await?;
        }
        Ok(())
    }
}

fn over(url: &str, pause: Duration, lease: Duration) -> Behind {
    // On a busy machine a server's answer may take its time; that is not what is tested.
    let redis = Redis::new(url).unwrap().response_timeout(4 * SECOND);
    let journal = redis.journal("orders").unwrap().lease_for(lease);
    let builder = cache(url).write_behind(Table::new(url, pause)).journal(journal);
    builder.batch(8).every(5 * MS).backoff(10 * MS, SECOND).build().unwrap()
}

/// Not a test of its own: what the child does until it is killed.
#[tokio::test]
async fn the_child() {
    let Ok(url) = std::env::var(URL) else { return };
    let behind = over(&url, 200 * MS, 2 * SECOND);
    println!("\nrecovered {}", behind.recover().await.unwrap());
    for round in 1.. {
        for key in 0..20 {
            let _ = behind.set(key, round).await.unwrap();
            // The parent believes what it has read: the set has returned.
            println!("\nset {key} {round}");
        }
    }
}

/// Dropped, it is ended by its own number.
struct Running {
    child: Child,
    lines: BufReader<ChildStdout>,
}

impl Running {
    fn start(url: &str) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "behind::kill::the_child", "--nocapture", "--test-threads=1"])
            .env(URL, url)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap());
        Self { child, lines }
    }

    /// Reads so many sets, kills it in the middle of the next one, and reads what it had said until then.
    fn kill_after(mut self, sets: usize, newest: &mut HashMap<u32, u64>) {
        let mut line = String::new();
        let mut count = 0;
        while count < sets {
            line.clear();
            assert_ne!(self.lines.read_line(&mut line).unwrap(), 0, "the child ended by itself");
            count += usize::from(note(&line, newest));
        }
        // SIGKILL.
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        let mut rest = String::new();
        self.lines.read_to_string(&mut rest).unwrap();
        // A line that was cut off is none.
        let whole = rest.rfind('\n').map_or("", |end| &rest[..end]);
        for line in whole.lines() {
            note(line, newest);
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn note(line: &str, newest: &mut HashMap<u32, u64>) -> bool {
    let Some(set) = line.trim().strip_prefix("set ") else { return false };
    let (key, value) = set.split_once(' ').unwrap();
    newest.insert(key.parse().unwrap(), value.parse().unwrap());
    true
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_that_is_killed_in_the_middle_loses_nothing() {
    let server = RedisServer::start().await.unwrap();
    let table = Table::new(&server.url(), Duration::ZERO);
    let mut newest = HashMap::new();
    for sets in [7, 33, 150] {
        // Rounds begin anew with each child.
        table.ask::<()>(&redis::cmd("FLUSHALL")).await;
        newest.clear();
        Running::start(&server.url()).kill_after(sets, &mut newest);
        let behind = over(&server.url(), Duration::ZERO, 2 * SECOND);
        let found = behind.recover().await.unwrap();
        assert!(found > 0, "a write takes so long that some had not ended");
        assert!(behind.flush().await.is_whole());
        for (key, value) in &newest {
            // The set that was under way when it was killed may be there, too.
            let row = table.row(*key).await;
            assert!(
                row == Some(*value) || row == Some(value + 1),
                "{key}: {row:?}, {value} was set"
            );
        }
        for key in 0..20 {
            let writes = table.writes().await;
            let values: Vec<u64> =
                writes.iter().filter(|(of, _)| *of == key).map(|(_, value)| *value).collect();
            assert!(values.is_sorted(), "an old value after a newer one: {values:?}");
        }
        assert!(behind.shutdown().await.is_whole());
        assert_eq!(table.journal_len().await, 0);
    }
}

#[tokio::test]
async fn a_dead_journal_server_refuses_a_set_and_nothing_is_changed() {
    let mut server = RedisServer::start().await.unwrap();
    let (db, rig) = (Db::new(), rig());
    let journal = RedisJournal::new(&server.url(), "orders").unwrap();
    let behind = rig.cache.write_behind(db.clone()).journal(journal).every(5 * MS).build().unwrap();
    set(&behind, 1, 1).await;
    assert!(behind.flush().await.is_whole());
    server.kill().unwrap();
    let refused = behind.set(1, 2).await.unwrap_err();
    assert!(matches!(refused, Error::Backend(_)), "{refused:?}");
    assert_eq!(rig.cache.get::<u64>(1).await.unwrap().as_deref(), Some(&1), "cached");
    assert_eq!(behind.stats().queued, 0, "queued");
    server.restart().await.unwrap();
    let mut set = behind.set(1, 3).await;
    for _ in 0..100 {
        if set.is_ok() {
            break;
        }
        // A real wait: for connections to a real server.
        tokio::time::sleep(20 * MS).await;
        set = behind.set(1, 3).await;
    }
    set.unwrap();
    assert!(behind.shutdown().await.is_whole());
    assert_eq!(db.writes(), [[(1, 1)], [(1, 3)]]);
}

#[tokio::test]
async fn values_queued_when_the_journals_server_dies_are_written_all_the_same() {
    let mut server = RedisServer::start().await.unwrap();
    let (db, rig) = (Db::new().gated(), rig());
    let journal = RedisJournal::new(&server.url(), "orders").unwrap();
    let builder = rig.cache.write_behind(db.clone()).journal(journal).every(5 * MS);
    let behind = builder.flush_within(5 * SECOND).build().unwrap();
    set(&behind, 1, 1).await;
    server.kill().unwrap();
    db.admit(9);
    assert!(behind.flush().await.is_whole());
    assert_eq!(db.row(1), Some(1));
    assert!(behind.shutdown().await.is_whole());
}
