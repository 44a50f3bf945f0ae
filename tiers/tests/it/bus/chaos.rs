//! Readers while accidents of every kind befall the log: whatever a step calls proven is checked against what
//! publishers know.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use fastrand::Rng;
use tiered_tiers::{
    Bus, LocalBus, Redis, TierError,
    testing::{BusFault, FaultyBus, RedisServer},
};
use tokio::task::JoinHandle;

use super::{
    model::{Audit, Ledger},
    reader::{Admin, Entries, HEAD, LOG, Reader, STREAM, messages, patient},
};
use crate::wait;

const TIME: Duration = Duration::from_secs(4);

/// What is put back from a copy; both together would be an older log, whole, and only another run tells of that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum PutBack {
    Stream,
    Head,
}

/// Publishers and readers that go on until they are told to end.
struct Crowd {
    ends: Arc<AtomicBool>,
    publishers: Vec<JoinHandle<()>>,
    readers: Vec<JoinHandle<Audit>>,
    acknowledged: Arc<AtomicU64>,
}

impl Crowd {
    fn start(bus: &Arc<dyn Bus>, seed: u64) -> Self {
        let (ledger, ends) = (Arc::new(Ledger::default()), Arc::new(AtomicBool::new(false)));
        let acknowledged = Arc::new(AtomicU64::new(0));
        let publishers = (0..3).map(|publisher| {
            let (bus, ledger, ends) = (Arc::clone(bus), Arc::clone(&ledger), Arc::clone(&ends));
            let acknowledged = Arc::clone(&acknowledged);
            let mut random = Rng::with_seed(seed ^ publisher);
            tokio::spawn(async move {
                while !ends.load(Ordering::SeqCst) {
                    let count = random.usize(1..6);
                    if ledger.publish(&*bus, count).await {
                        acknowledged.fetch_add(count as u64, Ordering::SeqCst);
                    }
                    wait(random.u64(..8)).await;
                }
            })
        });
        let readers = [(0, 0), (0, 5), (10, 40), (60, 0)].into_iter().map(|(nap, patience)| {
            let (bus, ledger, ends) = (Arc::clone(bus), Arc::clone(&ledger), Arc::clone(&ends));
            tokio::spawn(async move {
                let mut audit = Audit::default();
                while !ends.load(Ordering::SeqCst) {
                    audit.step(&ledger, &*bus, Duration::from_millis(patience)).await;
                    wait(nap).await;
                }
                // In peace everybody comes to know everything.
                let start = Instant::now();
                while !audit.step(&ledger, &*bus, Duration::ZERO).await {
                    assert!(start.elapsed() < Duration::from_secs(10), "{audit:?}");
                    wait(10).await;
                }
                audit
            })
        });
        Self { publishers: publishers.collect(), readers: readers.collect(), ends, acknowledged }
    }

    /// Ends it all; fails where anything was believed that was not so, or too little happened.
    async fn end(self, what: &str) -> u64 {
        self.ends.store(true, Ordering::SeqCst);
        for publisher in self.publishers {
            publisher.await.unwrap();
        }
        let mut voids = 0;
        for reader in self.readers {
            let audit = reader.await.unwrap();
            println!(
                "{what}: {} proven, {} voids, {} errors, {} messages checked",
                audit.proven, audit.voids, audit.errors, audit.checked
            );
            assert!(audit.proven > 3, "{what}: hardly anything was proven: {audit:?}");
            voids += audit.voids;
        }
        let acknowledged = self.acknowledged.load(Ordering::SeqCst);
        println!("{what}: {acknowledged} messages acknowledged");
        assert!(acknowledged > 100, "{what}: hardly anything was published: {acknowledged}");
        voids
    }
}

/// An accident. Whatever the server says to it: the key may not be there.
async fn happen(admin: &mut Admin, random: &mut Rng, put_back: PutBack, copies: &mut Vec<Vec<u8>>) {
    let number = random.u32(1..20).to_string();
    let key = if random.bool() { STREAM } else { HEAD };
    let copied = if put_back == PutBack::Stream { STREAM } else { HEAD };
    let words: &[&str] = match random.u8(..16) {
        0 => &["DEL", STREAM],
        1 => &["DEL", HEAD],
        2 => &["DEL", STREAM, HEAD],
        3 => &["XTRIM", STREAM, "MAXLEN", "0"],
        4 => &["XTRIM", STREAM, "MAXLEN", &number],
        5 => &["FLUSHALL"],
        6 => &["PEXPIRE", key, "3"],
        7 => &["SET", HEAD, "a head that is none, and long enough", "EX", "60"],
        8 => &["XADD", STREAM, "*", "field", "value"],
        9 => &["CLIENT", "KILL", "TYPE", "NORMAL"],
        10 => &["SCRIPT", "FLUSH"],
        11 => &["XSETID", STREAM, "99999999999999-0"],
        12 => {
            let entries: Result<Entries, _> =
                admin.try_ask(&["XREVRANGE", STREAM, "+", "-", "COUNT", "3"]).await;
            if let Some((id, _)) = random.choice(entries.unwrap_or_default()) {
                let _ = admin.try_ask::<redis::Value>(&["XDEL", STREAM, &id]).await;
            }
            return;
        }
        _ => {
            let copy = admin.try_ask::<Option<Vec<u8>>>(&["DUMP", copied]).await;
            if let Ok(Some(copy)) = copy
                // One of an empty log goes with a stream that is gone.
                && !copy.windows(3).any(|part| part == b"0-0")
            {
                copies.push(copy);
            }
            if let Some(copy) = random.choice(&*copies) {
                let restore: [&[u8]; 5] =
                    [b"RESTORE", copied.as_bytes(), b"60000", copy, b"REPLACE"];
                let _ = admin.try_ask::<redis::Value>(&restore).await;
            }
            return;
        }
    };
    let _ = admin.try_ask::<redis::Value>(words).await;
}

/// However many append while others look, nobody is told of a loss that is none.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_peace_nothing_is_void() {
    let server = RedisServer::start().await.unwrap();
    let bus: Arc<dyn Bus> = Arc::new(patient(&server.url()).bus());
    let crowd = Crowd::start(&bus, 7);
    let readers = crowd.readers.len();
    wait(2_500).await;
    assert_eq!(crowd.end("peace").await, readers as u64, "beyond the first opening");
}

async fn accidents(put_back: PutBack) {
    let seed = fastrand::u64(..);
    println!("seed {seed}, which puts back {put_back:?}");
    let server = RedisServer::start().await.unwrap();
    let bus: Arc<dyn Bus> = Arc::new(Redis::new(&server.url()).unwrap().bus().max_messages(1_000));
    let crowd = Crowd::start(&bus, seed);
    let (mut random, mut copies, mut number) = (Rng::with_seed(seed), Vec::new(), 0);
    let (mut admin, start) = (Admin::of(&server).await, Instant::now());
    while start.elapsed() < TIME {
        if admin.try_ask::<redis::Value>(&["PING"]).await.is_err() {
            admin = Admin::of(&server).await;
        }
        happen(&mut admin, &mut random, put_back, &mut copies).await;
        number += 1;
        wait(random.u64(..30)).await;
    }
    let voids = crowd.end(&format!("{number} accidents, seed {seed}")).await;
    assert!(voids > 8, "hardly any accident was noticed: {voids}, seed {seed}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn accidents_and_streams_that_come_back() {
    accidents(PutBack::Stream).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn accidents_and_heads_that_come_back() {
    accidents(PutBack::Head).await;
}

/// A server that is killed at any moment and comes back empty, or with an old copy.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_comes_and_goes() {
    let seed = fastrand::u64(..);
    let mut server = RedisServer::builder().config("save", "3600 1").start().await.unwrap();
    let bus: Arc<dyn Bus> = Arc::new(Redis::new(&server.url()).unwrap().bus());
    let (crowd, mut random) = (Crowd::start(&bus, seed), Rng::with_seed(seed));
    let (mut restarts, start) = (0, Instant::now());
    while start.elapsed() < TIME {
        wait(random.u64(..200)).await;
        if random.bool() {
            Admin::of(&server).await.does(&["SAVE"]).await;
        }
        wait(random.u64(..50)).await;
        server.restart().await.unwrap();
        restarts += 1;
    }
    let voids = crowd.end(&format!("{restarts} restarts, seed {seed}")).await;
    assert!(voids > restarts, "{restarts} restarts and {voids} voids, seed {seed}");
}

/// A server that is too small, and throws keys away at random.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_evicts() {
    let seed = fastrand::u64(..);
    let server = RedisServer::builder()
        .config("maxmemory-policy", "allkeys-random")
        .config("maxmemory-clients", "0")
        .start()
        .await
        .unwrap();
    let bus: Arc<dyn Bus> = Arc::new(Redis::new(&server.url()).unwrap().bus());
    let crowd = Crowd::start(&bus, seed);
    let (mut admin, mut random) = (Admin::of(&server).await, Rng::with_seed(seed));
    wait(200).await;
    let room = server.info("used_memory").await.unwrap() + 300_000;
    admin.does(&["CONFIG", "SET", "maxmemory", &room.to_string()]).await;
    let (start, value) = (Instant::now(), "v".repeat(20_000));
    while start.elapsed() < TIME
        || server.info("evicted_keys").await.unwrap() < 200 && start.elapsed() < TIME * 5
    {
        let key = random.u32(..40).to_string();
        let _ = admin.try_ask::<redis::Value>(&["SET", &key, &value, "EX", "60"]).await;
        wait(random.u64(..3)).await;
    }
    let evicted = server.info("evicted_keys").await.unwrap();
    admin.does(&["CONFIG", "SET", "maxmemory", "0"]).await;
    let voids = crowd.end(&format!("{evicted} evictions, seed {seed}")).await;
    assert!(evicted > 100 && voids > 4, "{evicted} evictions, {voids} voids, seed {seed}");
}

/// The bus that tests of caches use loses what it is told to, and no follower believes it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bus_that_loses_messages() {
    for fault in [
        BusFault::LoseMessages(20),
        BusFault::LoseAll,
        BusFault::DropAfterSend,
        BusFault::Error(TierError::Timeout),
        BusFault::Delay(Duration::from_millis(20)),
        BusFault::Hang,
    ] {
        let seed = fastrand::u64(..);
        let faulty = FaultyBus::seeded(LocalBus::new(), seed);
        let bus: Arc<dyn Bus> = Arc::new(faulty.clone());
        let crowd = Crowd::start(&bus, seed);
        for _ in 0..10 {
            faulty.inject_some(fault.clone(), 40);
            wait(80).await;
            faulty.heal();
            wait(20).await;
        }
        let voids = crowd.end(&format!("{fault:?}, seed {seed}")).await;
        let loses = matches!(fault, BusFault::LoseMessages(_) | BusFault::LoseAll);
        assert_eq!(faulty.lost() > 0, loses, "{fault:?}");
        assert_eq!(voids > 4, loses, "{fault:?}: beyond the first opening {voids} voids");
    }
}

#[tokio::test]
async fn a_faulty_bus_does_what_it_is_told() {
    let bus = FaultyBus::seeded(LocalBus::new(), 7);
    let mut reader = Reader::open(&bus).await;
    bus.inject(BusFault::LoseAppends);
    bus.append(LOG, &messages(&["never made"])).await.unwrap();
    bus.heal();
    reader.catches_up(&bus).await;
    assert_eq!((reader.told.len(), bus.lost()), (0, 1));

    bus.append(LOG, &messages(&["one"])).await.unwrap();
    reader.catches_up(&bus).await;
    bus.inject(BusFault::RepeatAnswers);
    let again = reader.step(&bus).await.unwrap();
    assert!(again.void.is_some(), "a message that comes again is out of its chain");
    bus.heal();
    reader.step(&bus).await.unwrap();
    reader.catches_up(&bus).await;

    bus.inject(BusFault::DropAfterSend);
    assert!(bus.append(LOG, &messages(&["made"])).await.is_err());
    bus.heal();
    reader.catches_up(&bus).await;
    assert_eq!(reader.told, ["made"]);

    bus.inject(BusFault::Hang);
    let (polled, ()) = tokio::join!(reader.step(&bus), async {
        tokio::task::yield_now().await;
        bus.inner().append(LOG, &messages(&["meanwhile"])).await.unwrap();
        bus.heal();
    });
    assert_eq!(polled.unwrap().messages, ["meanwhile"]);
    assert_eq!(bus.operations(), 11);
}
