//! A storm on few keys of a memcached: loads under leases of both kinds, sets, deletes and reads of several
//! processes, a quarter of them dropped midway, while the server is frozen and restarted. Nothing older than
//! what was acknowledged is read. `TIERED_TURNS` is the number of turns of each task.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use fastrand::Rng;
use tiered_tiers::{
    Claim, Fill, HoldEnd, Lease, LeaseToken, Memcached, RemoteTier, testing::MemcachedServer,
};
use tokio::sync::Mutex;

use crate::{late::scheduled, wait};

const LIFE: Duration = Duration::from_secs(600);
const TASKS: u64 = 20;

/// A key and what the database has of it.
#[derive(Debug, Default)]
struct Row {
    version: AtomicU64,
    /// The version of the last change that the cache has acknowledged.
    floor: AtomicU64,
    writer: Mutex<()>,
}

/// What was done.
#[derive(Debug, Default)]
struct Counts {
    acknowledged: AtomicU64,
    alone: AtomicU64,
    filled: AtomicU64,
    read: AtomicU64,
}

struct Task {
    number: u64,
    random: Rng,
    tier: Arc<Memcached>,
    rows: Arc<[Row; 4]>,
    counts: Arc<Counts>,
}

impl Task {
    async fn turn(&mut self) {
        let at = self.random.usize(..self.rows.len());
        match self.number % 5 {
            0 if self.random.bool() => self.write_on_hold(at).await,
            0 | 1 => self.write(at).await,
            2 | 3 => self.load(at).await,
            _ => self.read(at).await,
        }
    }

    /// The operation's outcome, unless it is dropped.
    async fn perhaps<T>(&self, turns: usize, operation: impl Future<Output = T>) -> Option<T> {
        tokio::select! { biased; outcome = operation => Some(outcome), () = scheduled(turns) => None }
    }

    fn turns(&mut self) -> usize {
        if self.random.u8(..4) == 0 { self.random.usize(..6) } else { usize::MAX }
    }

    async fn write(&mut self, at: usize) {
        let (turns, is_set) = (self.turns(), self.random.bool());
        let rows = Arc::clone(&self.rows);
        let _one = rows[at].writer.lock().await;
        let version = rows[at].version.fetch_add(1, Ordering::SeqCst) + 1;
        let (name, tier) = (format!("k{at}"), Arc::clone(&self.tier));
        let operation = async {
            match is_set {
                true => tier.set(name.as_bytes(), bytes(at, version), LIFE).await.is_ok(),
                false => tier.delete(name.as_bytes()).await.is_ok(),
            }
        };
        if self.perhaps(turns, operation).await == Some(true) {
            rows[at].floor.fetch_max(version, Ordering::SeqCst);
            self.counts.acknowledged.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// As those do who write a source: a hold, the write, and the hold's end.
    async fn write_on_hold(&mut self, at: usize) {
        let (before, turns) = (self.turns(), self.turns());
        let rows = Arc::clone(&self.rows);
        let _one = rows[at].writer.lock().await;
        let (name, tier) = (format!("k{at}"), Arc::clone(&self.tier));
        let (hold, lease) = (LeaseToken::random(), LeaseToken::random());
        // One that is not held is written all the same, and ends with the same drops.
        let taken = tier.hold(name.as_bytes(), hold, Duration::from_secs(1));
        let _ = self.perhaps(before, taken).await;
        let version = rows[at].version.fetch_add(1, Ordering::SeqCst) + 1;
        scheduled(self.random.usize(..20)).await;
        let end = tier.end_hold(name.as_bytes(), hold, Some((lease, Duration::from_secs(2))));
        if let Some(Ok(end)) = self.perhaps(turns, end).await {
            rows[at].floor.fetch_max(version, Ordering::SeqCst);
            self.counts.acknowledged.fetch_add(1, Ordering::Relaxed);
            if end == HoldEnd::Alone {
                self.counts.alone.fetch_add(1, Ordering::Relaxed);
                let _ = tier.fill(name.as_bytes(), lease, bytes(at, version), LIFE).await;
            }
        }
    }

    async fn load(&mut self, at: usize) {
        let claim = if self.random.bool() { Claim::IfFree } else { Claim::ByForce };
        let (name, token) = (format!("k{at}"), LeaseToken::random());
        let lease = self.tier.lease(name.as_bytes(), token, Duration::from_secs(2), claim).await;
        if let Ok(Lease::Granted(_)) = lease {
            let version = self.rows[at].version.load(Ordering::SeqCst);
            scheduled(self.random.usize(..20)).await;
            let turns = self.turns();
            let _ = self.tier.renew(name.as_bytes(), token, Duration::from_secs(2)).await;
            let tier = Arc::clone(&self.tier);
            let fill = tier.fill(name.as_bytes(), token, bytes(at, version), LIFE);
            if self.perhaps(turns, fill).await == Some(Ok(Fill::Stored)) {
                self.counts.filled.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    async fn read(&mut self, at: usize) {
        let least = self.rows[at].floor.load(Ordering::SeqCst);
        let (turns, name, tier) = (self.turns(), format!("k{at}"), Arc::clone(&self.tier));
        if let Some(Ok(Some(found))) = self.perhaps(turns, tier.get(name.as_bytes())).await {
            let text = String::from_utf8(found.bytes.to_vec()).unwrap();
            let (of, version) = text.split_once(':').unwrap();
            assert_eq!(of, at.to_string(), "another key's value");
            let version: u64 = version.parse().unwrap();
            assert!(version >= least, "k{at}: {version} after {least} was acknowledged");
            self.counts.read.fetch_add(1, Ordering::Relaxed);
        }
    }
}

fn bytes(at: usize, version: u64) -> Bytes {
    Bytes::from(format!("{at}:{version}"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_older_than_what_was_acknowledged_is_read() {
    let turns: u64 =
        std::env::var("TIERED_TURNS").map_or(6_000, |turns| turns.parse().expect("a number"));
    let mut server = MemcachedServer::start().await.unwrap();
    let process = |connections| {
        let tier = Memcached::new(&server.address()).unwrap().connections(connections);
        Arc::new(tier.response_timeout(Duration::from_millis(50)))
    };
    let processes = [process(1), process(2), process(3), process(16)];
    let (rows, counts) = (Arc::<[Row; 4]>::default(), Arc::<Counts>::default());
    let tasks: Vec<_> = (0..TASKS)
        .map(|number| {
            let tier = Arc::clone(&processes[number as usize % processes.len()]);
            let (rows, counts) = (Arc::clone(&rows), Arc::clone(&counts));
            let mut task = Task { number, random: Rng::with_seed(number), tier, rows, counts };
            tokio::spawn(async move {
                for _ in 0..turns {
                    task.turn().await;
                }
            })
        })
        .collect();
    let mut round = 0;
    while !tasks.iter().all(tokio::task::JoinHandle::is_finished) {
        // Now and then, and not after so many turns: a real wait.
        wait(40).await;
        round += 1;
        match round % 8 {
            0 => server.restart().await.unwrap(),
            4 => {
                server.freeze().unwrap();
                wait(20).await;
                server.thaw().unwrap();
            }
            _ => {}
        }
    }
    for task in tasks {
        task.await.unwrap();
    }
    println!("{counts:?}");
    for count in [&counts.acknowledged, &counts.filled, &counts.read] {
        // How much of each there is depends on the machine; that there is some is enough.
        assert!(count.load(Ordering::Relaxed) > turns / 100, "{counts:?}");
    }
}
