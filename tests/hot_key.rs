//! One hot key, many tasks in many processes, over one real Redis: one load for each expiry, and not one more.
//!
//! The server counts the expiries, in `expired_keys`. What it counts there besides would be a lease that was left
//! standing. A round begins when the value has expired, and ends when every task has read the next one; were a machine
//! so slow that a value expires in the middle of a round, that would be one more expiry and one more load.

use std::{process::Stdio, time::Duration};

use redis::aio::MultiplexedConnection;
use tiered::{
    Jitter, Tiered,
    tiers::{Quick, Redis},
};
use tiered_tiers::testing::RedisServer;
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines},
    process::{Child, ChildStderr, Command},
    task::JoinSet,
};

const PROCESSES: usize = 8;
const TASKS: usize = 200;
const EXPIRIES: u64 = 100;
/// Longer than a round takes.
const FRESH_FOR: Duration = Duration::from_millis(300);

const READER: &str = "TIERED_TEST_READER";

async fn connect(url: &str) -> MultiplexedConnection {
    redis::Client::open(url).unwrap().get_multiplexed_async_connection().await.unwrap()
}

/// One of the processes; for nobody else it does anything.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "run by another test, as a process of its own"]
async fn reader() {
    let Ok(url) = std::env::var(READER) else { return };
    let source = connect(&url).await;
    let builder = Tiered::new(Quick::new(100), Redis::new(&url).unwrap())
        .namespace("hot")
        // What is tested is who loads, and not how long a machine takes to run all that.
        .budget(Duration::from_secs(10))
        .wait_for(Duration::from_secs(30))
        .jitter(Jitter::none())
        .fresh_for(FRESH_FOR);
    let cache = builder.build().unwrap();
    let mut commands = BufReader::new(tokio::io::stdin()).lines();
    eprintln!("ready");
    while commands.next_line().await.unwrap().is_some() {
        let mut readers = JoinSet::new();
        for _ in 0..TASKS {
            let (cache, mut source) = (cache.clone(), source.clone());
            readers.spawn(async move {
                let load = || async move {
                    let number = redis::cmd("INCR").arg("loads").query_async(&mut source).await?;
                    // A database takes its time.
                    tokio::time::sleep(Duration::from_millis(5)).await;
                    Ok::<u64, redis::RedisError>(number)
                };
                *cache.get_or_load("k", load).await.unwrap()
            });
        }
        let read = readers.join_all().await;
        let (least, most) = (read.iter().min().unwrap(), read.iter().max().unwrap());
        eprintln!("read {least} {most}");
    }
    let stats = cache.stats();
    eprintln!("unstored {}", stats.unstored_loads);
}

struct Reader {
    child: Child,
    lines: Lines<BufReader<ChildStderr>>,
}

impl Reader {
    fn start(url: &str) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "hot_key::reader", "--ignored", "--nocapture"])
            .env(READER, url)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stderr.take().unwrap()).lines();
        Self { child, lines }
    }

    async fn go(&mut self) {
        self.child.stdin.as_mut().unwrap().write_all(b"go\n").await.unwrap();
    }

    /// What it says, by its first word.
    async fn says(&mut self, word: &str) -> Vec<u64> {
        let line = self.lines.next_line().await.unwrap().expect("a reader ended");
        let mut words = line.split(' ');
        assert_eq!(words.next(), Some(word), "{line}");
        words.map(|word| word.parse().unwrap()).collect()
    }
}

async fn expired(admin: &mut MultiplexedConnection) -> u64 {
    let stats: String = redis::cmd("INFO").arg("stats").query_async(admin).await.unwrap();
    let line = stats.lines().find_map(|line| line.strip_prefix("expired_keys:"));
    line.unwrap().parse().unwrap()
}

async fn keys(admin: &mut MultiplexedConnection, command: &str, key: &str) -> Option<u64> {
    redis::cmd(command).arg(key).query_async(admin).await.unwrap()
}

#[tokio::test]
async fn a_hundred_expiries_of_a_hot_key_are_a_hundred_loads() {
    let server = RedisServer::start().await.unwrap();
    let mut admin = connect(&server.url()).await;
    let mut readers: Vec<_> = (0..PROCESSES).map(|_| Reader::start(&server.url())).collect();
    for reader in &mut readers {
        reader.says("ready").await;
    }
    let mut over = 0;
    while over < EXPIRIES {
        for reader in &mut readers {
            reader.go().await;
        }
        for reader in &mut readers {
            let read = reader.says("read").await;
            // Nobody has read what had expired before the round began.
            assert!(read.iter().all(|number| *number > over), "{read:?} after {over} expiries");
        }
        while keys(&mut admin, "EXISTS", "hot:k").await != Some(0) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        over = expired(&mut admin).await;
        assert_eq!(keys(&mut admin, "GET", "loads").await, Some(over), "after {over} expiries");
    }
    assert_eq!(over, EXPIRIES);
    for reader in &mut readers {
        drop(reader.child.stdin.take());
        assert_eq!(reader.says("unstored").await, [0]);
    }
}
