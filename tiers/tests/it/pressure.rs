//! Redis short of memory, under each of its policies: what it evicts, or refuses, costs warmth and never a promise.
//!
//! - A value that is evicted is a miss.
//! - A lease that is evicted refuses its fill: nobody is there whom it could have overtaken, and it is not tried.
//! - A hold that is evicted opens its key early: it can be leased, and what was loaded then, old or new, stored, before
//!   the writer is through. The hold's end still drops that, and the lease of who has not filled yet; and it says that it
//!   was lost. So from the acknowledgement on, nobody reads anything older.
//! - A server that evicts nothing refuses leases and values, takes holds all the same, and lets go of what it has.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use fastrand::Rng;
use futures_util::future::join_all;
use redis::aio::MultiplexedConnection;
use tiered_tiers::{
    Claim, Fill, HoldEnd, Lease, LeaseToken, Redis, RemoteTier, TierError, testing::RedisServer,
};
use tokio::sync::Mutex;

/// Of those that a test looks at; those that are to push them out have a longer one.
const LIFE: Duration = Duration::from_secs(900);
const LONGER: Duration = Duration::from_secs(3_000);
const OLD: Bytes = Bytes::from_static(b"old");

macro_rules! each_policy {
    ($($name:ident: $policy:literal),+ $(,)?) => {
        $(mod $name {
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn evictions_break_no_promise() {
                super::evictions_break_no_promise($policy).await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn an_evicted_lease_refuses_its_fill_and_an_evicted_hold_is_lost() {
                super::what_is_evicted_is_told($policy).await;
            }
        })+
    };
}

each_policy! {
    allkeys_lru: "allkeys-lru",
    allkeys_lfu: "allkeys-lfu",
    allkeys_random: "allkeys-random",
    volatile_lru: "volatile-lru",
    volatile_lfu: "volatile-lfu",
    volatile_random: "volatile-random",
    volatile_ttl: "volatile-ttl",
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn noeviction_breaks_no_promise() {
    evictions_break_no_promise("noeviction").await;
}

struct Small {
    server: RedisServer,
    tier: Arc<Redis>,
    direct: MultiplexedConnection,
    next: u64,
}

/// A server that has room for a few hundred of the values that fill it.
async fn small(policy: &str) -> Small {
    let builder = RedisServer::builder().config("maxmemory", "4mb");
    let server = builder.config("maxmemory-policy", policy).start().await.unwrap();
    let tier =
        Arc::new(Redis::new(&server.url()).unwrap().response_timeout(Duration::from_secs(5)));
    let client = redis::Client::open(server.url()).unwrap();
    let direct = client.get_multiplexed_async_connection().await.unwrap();
    Small { server, tier, direct, next: 0 }
}

fn filling() -> Bytes {
    Bytes::from(vec![7; 8_000])
}

impl Small {
    /// Sets other keys until this one is gone. They live longer and are read more often, for the policies that ask.
    async fn evict(&mut self, key: &str) {
        for _ in 0..400 {
            let names: Vec<String> = (1..=25).map(|n| format!("x{}", self.next + n)).collect();
            self.next += 25;
            for name in &names {
                self.tier.set(name.as_bytes(), filling(), LONGER).await.unwrap();
            }
            let names: Vec<&[u8]> = names.iter().map(String::as_bytes).collect();
            for _ in 0..6 {
                self.tier.get_many(&names).await;
            }
            let exists = redis::cmd("EXISTS").arg(key).query_async(&mut self.direct).await;
            if exists == Ok(0) {
                return;
            }
        }
        panic!("{key} is not evicted");
    }

    /// Makes room, so that nothing more is evicted.
    async fn relieve(&self) {
        let names: Vec<String> = (0..=self.next).map(|number| format!("x{number}")).collect();
        let names: Vec<&[u8]> = names.iter().map(String::as_bytes).collect();
        self.tier.delete_many(&names).await;
    }
}

async fn granted(tier: &Redis, key: &[u8]) -> LeaseToken {
    let token = LeaseToken::random();
    let lease = tier.lease(key, token, LIFE, Claim::IfFree).await;
    assert!(matches!(lease, Ok(Lease::Granted(_))), "{lease:?}");
    token
}

async fn what_is_evicted_is_told(policy: &str) {
    let mut small = small(policy).await;
    let tier = Arc::clone(&small.tier);
    // A lease.
    let lease = granted(&tier, b"k").await;
    small.evict("{k}:l").await;
    small.relieve().await;
    assert_eq!(tier.renew(b"k", lease, LIFE).await, Ok(false), "a renewal brings it back");
    assert_eq!(tier.fill(b"k", lease, OLD, LIFE).await, Ok(Fill::Refused));
    assert_eq!(tier.get(b"k").await, Ok(None));
    let next = granted(&tier, b"k").await;
    assert_eq!(tier.fill(b"k", lease, OLD, LIFE).await, Ok(Fill::Refused), "another's");
    assert_eq!(tier.fill(b"k", next, OLD, LIFE).await, Ok(Fill::Stored));
    // A hold, while which the source is written.
    let (hold, end_lease) = (LeaseToken::random(), LeaseToken::random());
    tier.hold(b"k", hold, LIFE).await.unwrap();
    small.evict("{k}:h").await;
    small.relieve().await;
    let early = granted(&tier, b"k").await;
    let stored = tier.fill(b"k", early, OLD, LIFE).await;
    assert_eq!(stored, Ok(Fill::Stored), "the key can be leased before the writer's end");
    let late = granted(&tier, b"k").await;
    let end = tier.end_hold(b"k", hold, Some((end_lease, LIFE))).await;
    assert_eq!(end, Ok(HoldEnd::Lost));
    assert_eq!(tier.get(b"k").await, Ok(None), "what was filled meanwhile is gone");
    for token in [late, end_lease] {
        assert_eq!(tier.fill(b"k", token, OLD, LIFE).await, Ok(Fill::Refused), "nor comes back");
    }
    // Its mark alone: whether somebody came cannot be told.
    tier.hold(b"k", hold, LIFE).await.unwrap();
    let dropped = redis::cmd("DEL").arg("{k}:l").query_async(&mut small.direct).await;
    assert_eq!(dropped, Ok(1));
    assert_eq!(tier.renew_hold(b"k", hold, LIFE).await, Ok(true), "it stands");
    let end = tier.end_hold(b"k", hold, Some((end_lease, LIFE))).await;
    assert_eq!(end, Ok(HoldEnd::Overlapped));
    // Two holds of a key are one item, and go together.
    let other = LeaseToken::random();
    for hold in [hold, other] {
        tier.hold(b"k", hold, LIFE).await.unwrap();
    }
    small.evict("{k}:h").await;
    small.relieve().await;
    for hold in [hold, other] {
        assert_eq!(tier.end_hold(b"k", hold, None).await, Ok(HoldEnd::Lost));
    }
    assert_eq!(small.server.keys_without_expiry().await.unwrap(), Vec::<Vec<u8>>::new());
}

/// A key and what its source has.
#[derive(Debug, Default)]
struct Row {
    version: AtomicU64,
    /// The version of the last write that was acknowledged.
    floor: AtomicU64,
    writer: Mutex<()>,
}

#[derive(Debug, Default)]
struct Counts {
    written: AtomicU64,
    lost: AtomicU64,
    filled: AtomicU64,
    read: AtomicU64,
    failed: AtomicU64,
}

fn bytes(version: u64) -> Bytes {
    let mut bytes = version.to_be_bytes().to_vec();
    bytes.resize(2_000, 0);
    bytes.into()
}

struct Task {
    random: Rng,
    tier: Arc<Redis>,
    rows: Arc<[Row; 4]>,
    counts: Arc<Counts>,
}

impl Task {
    async fn turn(&mut self) {
        let at = self.random.usize(..self.rows.len());
        let key = format!("k{at}").into_bytes();
        match self.random.u8(..4) {
            0 => self.write(at, &key).await,
            1 | 2 => self.load(at, &key).await,
            _ => self.read(at, &key).await,
        }
    }

    /// As those do who write a source: a hold, the write, and the hold's end, which counts from its answer on.
    async fn write(&mut self, at: usize, key: &[u8]) {
        let (rows, counts) = (Arc::clone(&self.rows), Arc::clone(&self.counts));
        let _one = rows[at].writer.lock().await;
        let (hold, lease) = (LeaseToken::random(), LeaseToken::random());
        let is_held = self.tier.hold(key, hold, LIFE).await.is_ok();
        self.pause().await;
        let version = rows[at].version.fetch_add(1, Ordering::SeqCst) + 1;
        self.pause().await;
        let ended = match is_held {
            true => self.tier.end_hold(key, hold, Some((lease, LIFE))).await,
            // It writes all the same, and deletes.
            false => self.tier.delete(key).await.map(|()| HoldEnd::Lost),
        };
        match ended {
            Err(_) => _ = counts.failed.fetch_add(1, Ordering::Relaxed),
            Ok(end) => {
                rows[at].floor.fetch_max(version, Ordering::SeqCst);
                counts.written.fetch_add(1, Ordering::Relaxed);
                counts.lost.fetch_add(u64::from(end == HoldEnd::Lost), Ordering::Relaxed);
                if end == HoldEnd::Alone {
                    let _ = self.tier.fill(key, lease, bytes(version), LIFE).await;
                }
            }
        }
    }

    async fn load(&mut self, at: usize, key: &[u8]) {
        let token = LeaseToken::random();
        let claim = if self.random.bool() { Claim::IfFree } else { Claim::ByForce };
        if let Ok(Lease::Granted(_)) = self.tier.lease(key, token, LIFE, claim).await {
            let version = self.rows[at].version.load(Ordering::SeqCst);
            self.pause().await;
            let _ = self.tier.renew(key, token, LIFE).await;
            self.pause().await;
            if self.tier.fill(key, token, bytes(version), LIFE).await == Ok(Fill::Stored) {
                self.counts.filled.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    async fn read(&mut self, at: usize, key: &[u8]) {
        let least = self.rows[at].floor.load(Ordering::SeqCst);
        if let Ok(Some(found)) = self.tier.get(key).await {
            let version = u64::from_be_bytes(found.bytes[..8].try_into().unwrap());
            assert!(version >= least, "k{at}: {version} after {least} was acknowledged");
            self.counts.read.fetch_add(1, Ordering::Relaxed);
        }
    }

    async fn pause(&mut self) {
        for _ in 0..self.random.usize(..30) {
            tokio::task::yield_now().await;
        }
    }
}

/// Writers, loads and reads of few keys, while others fill the server.
async fn evictions_break_no_promise(policy: &str) {
    let small = small(policy).await;
    let (rows, counts) = (Arc::<[Row; 4]>::default(), Arc::<Counts>::default());
    let ends = Arc::new(AtomicBool::new(false));
    let filler = tokio::spawn({
        let (tier, ends) = (Arc::clone(&small.tier), Arc::clone(&ends));
        async move {
            let mut refused = 0;
            for round in 0_u64.. {
                if ends.load(Ordering::Relaxed) {
                    break;
                }
                let names: Vec<String> =
                    (0..20).map(|n| format!("x{}", round % 100 * 20 + n)).collect();
                // A server that evicts nothing is full for a while, and then has room for a while.
                if round % 100 == 99 {
                    let all: Vec<String> = (0..2_000).map(|n| format!("x{n}")).collect();
                    let all: Vec<&[u8]> = all.iter().map(String::as_bytes).collect();
                    tier.delete_many(&all).await;
                }
                // Some live longer than what they push out, and some do not.
                let life = LIFE * u32::try_from(round % 3).unwrap() + Duration::from_secs(300);
                let sets = names.iter().map(|name| tier.set(name.as_bytes(), filling(), life));
                let refusals = join_all(sets)
                    .await
                    .into_iter()
                    .filter(|set| matches!(set, Err(TierError::Refused(code)) if code == "OOM"));
                refused += refusals.count();
            }
            refused
        }
    });
    let tasks: Vec<_> = (0..8)
        .map(|seed| {
            let (tier, rows, counts) =
                (Arc::clone(&small.tier), Arc::clone(&rows), Arc::clone(&counts));
            let mut task = Task { random: Rng::with_seed(seed), tier, rows, counts };
            tokio::spawn(async move {
                for _ in 0..700 {
                    task.turn().await;
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    ends.store(true, Ordering::Relaxed);
    let refused = filler.await.unwrap();
    let evicted = small.server.info("evicted_keys").await.unwrap();
    println!("{policy}: {counts:?}, {evicted} evicted, {refused} refused");
    match policy {
        "noeviction" => assert!(refused > 0, "it was never full"),
        _ => assert!(evicted > 500, "it was never full: {evicted}"),
    }
    for count in [&counts.written, &counts.filled, &counts.read] {
        assert!(count.load(Ordering::Relaxed) > 20, "{counts:?}");
    }
    assert_eq!(small.server.keys_without_expiry().await.unwrap(), Vec::<Vec<u8>>::new());
}

/// A server that evicts nothing and is full: what takes away still works, holds come, stand and end, and of what is
/// refused nothing is left.
#[tokio::test]
async fn a_full_server_refuses_and_lets_go() {
    let mut small = small("noeviction").await;
    let tier = Arc::clone(&small.tier);
    let (hold, token, lease) = (LeaseToken::random(), LeaseToken::random(), LeaseToken::random());
    tier.hold(b"held", hold, LIFE).await.unwrap();
    let leased = granted(&tier, b"leased").await;
    tier.set(b"old", OLD, LIFE).await.unwrap();
    let limit = async |direct: &mut MultiplexedConnection, bytes: &str| {
        let mut set = redis::cmd("CONFIG");
        set.arg("SET").arg("maxmemory").arg(bytes).query_async::<()>(direct).await.unwrap();
    };
    limit(&mut small.direct, "100kb").await;
    let oom = TierError::Refused("OOM".into());
    let asked = tier.lease(b"other", token, LIFE, Claim::IfFree).await;
    assert_eq!(asked, Err(oom.clone()));
    assert_eq!(tier.set(b"old", OLD, LIFE).await, Err(oom.clone()));
    assert_eq!(tier.get(b"old").await, Ok(None), "it may have been written since");
    // Holds are small, and a script that drops something first is let through.
    tier.hold(b"old", token, LIFE).await.unwrap();
    for key in [b"held".as_slice(), b"old"] {
        for claim in [Claim::IfFree, Claim::ByForce] {
            assert_eq!(tier.lease(key, lease, LIFE, claim).await, Ok(Lease::OnHold));
        }
        assert_eq!(tier.set(key, OLD, LIFE).await, Ok(Fill::Refused));
    }
    assert_eq!(tier.renew(b"leased", leased, LIFE).await, Ok(true));
    assert_eq!(tier.fill(b"leased", leased, OLD, LIFE).await, Err(oom.clone()));
    assert_eq!(tier.end_hold(b"old", token, None).await, Ok(HoldEnd::Overlapped), "a set came");
    tier.hold(b"old", token, LIFE).await.unwrap();
    assert_eq!(tier.renew_hold(b"old", token, LIFE).await, Ok(true));
    let end = tier.end_hold(b"old", token, Some((lease, LIFE))).await;
    assert_eq!(end, Ok(HoldEnd::Alone), "there is room for its mark");
    assert_eq!(tier.fill(b"old", lease, OLD, LIFE).await, Err(oom));
    let end = tier.end_hold(b"held", hold, Some((lease, LIFE))).await;
    assert_eq!(end, Ok(HoldEnd::Overlapped), "a set came here too");
    limit(&mut small.direct, "4mb").await;
    for key in [b"held".as_slice(), b"leased", b"other", b"old"] {
        assert_eq!(tier.get(key).await, Ok(None));
        granted(&tier, key).await;
    }
}
