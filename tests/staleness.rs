//! Bounded staleness: L1 serves a value for at most Δ after its invalidation was acknowledged anywhere, whatever
//! becomes of the messages.
//!
//! Time is the caches' own clock, which a scenario moves; tokio's stands still and jumps.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use tiered::{
    Ack, CacheStrategy, Error, Outcome, Tiered,
    tiers::{
        Bus, BusPolled, LocalBus, LocalEntry, LocalTier, LogName, Moka, TierError,
        protocol::Position,
    },
};
use tiered_tiers::testing::{BusFault, FaultyBus};
use tokio::sync::{Semaphore, mpsc};

use crate::support::{
    DbDown, Net, SECOND, State, db_down, has_heard, in_l1, listens, proven, reproven,
};

/// Δ, unless told.
const DELTA: Duration = Duration::from_secs(2);
const MILLI: Duration = Duration::from_millis(1);

async fn load(cache: &Tiered, key: &str, value: u32) -> (u32, Outcome) {
    let request = cache.key(key);
    let answer = request.load(|_| async { Ok::<_, DbDown>(Some(value)) }).await.unwrap();
    (*answer.value.unwrap(), answer.outcome)
}

/// From now on: a poll under way has its fate already, and is waited for.
async fn inject(net: &Net, fault: BusFault) {
    net.bus.inject(fault);
    tokio::time::sleep(DELTA).await;
}

/// An entry that the bus proves, 1.5 s younger than its own proof.
async fn proven_by_the_bus(net: &Net) -> Tiered {
    let cache = net.node();
    listens(&cache).await;
    load(&cache, "k", 1).await;
    net.clock.advance(1_500 * MILLI);
    reproven(&cache).await;
    cache
}

#[tokio::test(start_paused = true)]
async fn a_bus_that_works_proves_an_entry_for_all_its_life() {
    let net = Net::new();
    let cache = net.node();
    listens(&cache).await;
    load(&cache, "k", 1).await;
    for _ in 0..59 {
        net.clock.advance(SECOND);
        reproven(&cache).await;
        assert_eq!(in_l1(&cache, "k").await, Some(1));
    }
    net.clock.advance(SECOND);
    assert_eq!(in_l1(&cache, "k").await, None);
}

#[tokio::test(start_paused = true)]
async fn when_the_bus_is_dead_l1_serves_for_delta_and_then_asks() {
    for fault in [BusFault::Error(TierError::Timeout), BusFault::Hang] {
        let net = Net::new();
        let cache = proven_by_the_bus(&net).await;
        inject(&net, fault.clone()).await;
        net.clock.advance(DELTA - MILLI);
        assert_eq!(load(&cache, "k", 2).await, (1, Outcome::HitL1), "{fault:?}");
        net.clock.advance(MILLI);
        assert_eq!(load(&cache, "k", 2).await, (1, Outcome::HitL2), "{fault:?}");
        // Asked for, it is proven again, by itself.
        net.clock.advance(DELTA - MILLI);
        assert_eq!(load(&cache, "k", 2).await, (1, Outcome::HitL1));
        net.clock.advance(MILLI);
        assert_eq!(load(&cache, "k", 2).await, (1, Outcome::HitL2));
    }
}

#[tokio::test(start_paused = true)]
async fn when_all_is_dead_l1_is_the_last_resort_for_a_while() {
    let seconds = |seconds| Duration::from_secs(seconds);
    for (resort, fresh, lasts) in [
        (None, seconds(60), seconds(10)),
        (Some(seconds(3)), seconds(60), seconds(3)),
        (None, seconds(4), seconds(4)),
        (Some(Duration::ZERO), seconds(60), Duration::ZERO),
    ] {
        let net = Net::new();
        let cache = net.node_with(|builder| {
            // Stale entries are kept, so that their end comes from nothing else.
            let builder = builder.fresh_for(fresh).stale_for(seconds(60));
            if let Some(time) = resort { builder.last_resort_for(time) } else { builder }
        });
        listens(&cache).await;
        load(&cache, "k", 1).await;
        net.bus.inject(BusFault::Error(TierError::Timeout));
        net.l2.switch(State::Failing);
        net.clock.advance(DELTA);
        // The database is asked first.
        let resort = async |cache: &Tiered| {
            cache.key("k").load(|_| db_down::<Option<u32>>()).await.map(|answer| answer.outcome)
        };
        if lasts > Duration::ZERO {
            assert_eq!(resort(&cache).await.unwrap(), Outcome::Stale, "{lasts:?}");
            net.clock.advance(lasts - MILLI);
            assert_eq!(resort(&cache).await.unwrap(), Outcome::Stale, "{lasts:?}");
            net.clock.advance(MILLI);
        }
        assert!(matches!(resort(&cache).await, Err(Error::Repository(_))), "{lasts:?}");
        // And whoever asks the cache only is told that it cannot say.
        assert!(matches!(cache.get::<u32>("k").await, Err(Error::Backend(_))));
    }
}

#[tokio::test(start_paused = true)]
async fn what_l2_says_is_believed_rather_than_the_last_resort() {
    let net = Net::new();
    let (cache, other) = (net.node(), net.node());
    listens(&cache).await;
    load(&cache, "k", 1).await;
    inject(&net, BusFault::LoseAll).await;
    assert_eq!(other.invalidate("k").await.unwrap(), Ack::Done);
    net.clock.advance(DELTA);
    let answer = cache.key("k").load(|_| db_down::<Option<u32>>()).await;
    assert!(matches!(answer, Err(Error::Repository(_))), "{answer:?}");
}

#[tokio::test(start_paused = true)]
async fn lost_messages_cost_delta_and_no_more() {
    for fault in [BusFault::LoseMessages(50), BusFault::LoseMessages(100), BusFault::LoseAll] {
        let net = Net::new();
        let (cache, other) = (net.node(), net.node());
        listens(&cache).await;
        for key in 0..50 {
            load(&cache, &format!("k{key}"), 1).await;
        }
        // Proven by the bus alone.
        net.clock.advance(DELTA - MILLI);
        reproven(&cache).await;
        let voids = cache.stats().bus_voids;
        inject(&net, fault.clone()).await;
        for key in 0..50 {
            assert_eq!(other.invalidate(format!("k{key}")).await.unwrap(), Ack::Done);
        }
        tokio::time::sleep(2 * SECOND).await;
        assert!(cache.stats().bus_voids > voids, "{fault:?}: nobody noticed");
        net.clock.advance(DELTA);
        tokio::time::sleep(2 * SECOND).await;
        for key in 0..50 {
            assert_eq!(in_l1(&cache, &format!("k{key}")).await, None, "{fault:?}");
        }
        net.bus.heal();
        reproven(&cache).await;
        for key in 0..50 {
            assert_eq!(in_l1(&cache, &format!("k{key}")).await, None, "{fault:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_kept_before_a_void_is_not_proven_by_what_follows() {
    let net = Net::new();
    let cache = proven_by_the_bus(&net).await;
    let other = net.node();
    let voids = cache.stats().bus_voids;
    inject(&net, BusFault::LoseAll).await;
    assert_eq!(other.invalidate("else").await.unwrap(), Ack::Done);
    tokio::time::sleep(2 * SECOND).await;
    net.bus.heal();
    reproven(&cache).await;
    assert!(cache.stats().bus_voids > voids);
    net.clock.advance(499 * MILLI);
    reproven(&cache).await;
    assert_eq!(in_l1(&cache, "k").await, Some(1), "by its own proof");
    net.clock.advance(MILLI);
    reproven(&cache).await;
    assert_eq!(in_l1(&cache, "k").await, None);
    // What was asked for since is proven by the bus again.
    assert_eq!(load(&cache, "k", 2).await, (1, Outcome::HitL2));
    net.clock.advance(3 * SECOND);
    reproven(&cache).await;
    assert_eq!(in_l1(&cache, "k").await, Some(1));
}

/// Whether a writer holds the key is not known then, and its end would not be heard.
#[tokio::test(start_paused = true)]
async fn what_was_loaded_past_a_silent_server_is_proven_by_itself_alone() {
    let net = Net::new();
    let cache = net.node();
    listens(&cache).await;
    net.l2.switch(State::Failing);
    assert_eq!(load(&cache, "k", 1).await, (1, Outcome::Load));
    assert_eq!(cache.set("s", 1_u32).await.unwrap(), Ack::Pending);
    net.l2.switch(State::Up);
    net.clock.advance(DELTA - MILLI);
    reproven(&cache).await;
    assert_eq!((in_l1(&cache, "k").await, in_l1(&cache, "s").await), (Some(1), Some(1)));
    net.clock.advance(MILLI);
    reproven(&cache).await;
    assert_eq!((in_l1(&cache, "k").await, in_l1(&cache, "s").await), (None, None));
}

/// A bus whose answers are as old as a test wants.
#[derive(Debug)]
struct Slow {
    inner: LocalBus,
    answers: Arc<Semaphore>,
}

#[async_trait::async_trait]
impl Bus for Slow {
    fn name(&self) -> &'static str {
        "slow"
    }
    async fn append(&self, log: LogName<'_>, messages: &[Bytes]) -> Result<(), TierError> {
        self.inner.append(log, messages).await
    }
    async fn open(&self, log: LogName<'_>) -> Result<BusPolled, TierError> {
        self.inner.open(log).await
    }
    async fn poll(
        &self,
        log: LogName<'_>,
        after: Position,
        _: Duration,
    ) -> Result<BusPolled, TierError> {
        let polled = self.inner.poll(log, after, Duration::ZERO).await;
        self.answers.acquire().await.unwrap().forget();
        polled
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_proves_what_was_when_it_was_asked_for() {
    let net = Net::new();
    let answers = Arc::new(Semaphore::new(0));
    let bus = Slow { inner: LocalBus::new(), answers: Arc::clone(&answers) };
    let cache = net.node_on(bus, |builder| builder);
    listens(&cache).await;
    load(&cache, "k", 1).await;
    net.clock.advance(1_500 * MILLI);
    answers.add_permits(1);
    tokio::time::sleep(100 * MILLI).await;
    assert_eq!(proven(&cache).await, Some(1.5), "the answer was to a question of before");
    net.clock.advance(500 * MILLI);
    assert_eq!(in_l1(&cache, "k").await, None);
}

/// An L1 that stops in the middle of a look, with what it has found.
#[derive(Debug)]
struct Looking {
    inner: Moka,
    looks: mpsc::UnboundedSender<std::sync::mpsc::Sender<()>>,
}

impl LocalTier for Looking {
    fn name(&self) -> &'static str {
        "looking"
    }
    fn get(&self, key: &[u8]) -> Option<LocalEntry> {
        let found = self.inner.get(key);
        let (go, may_go) = std::sync::mpsc::channel();
        if key == b"k" && found.is_some() && self.looks.send(go).is_ok() {
            let _ = may_go.recv_timeout(Duration::from_secs(20));
        }
        found
    }
    fn insert(&self, key: &[u8], entry: LocalEntry, weight: u64, life: Duration) {
        self.inner.insert(key, entry, weight, life);
    }
    fn remove(&self, key: &[u8]) {
        self.inner.remove(key);
    }
    fn clear(&self) {
        self.inner.clear();
    }
    fn entries(&self) -> u64 {
        self.inner.entries()
    }
}

/// The proof is taken before L1 is looked into: a message may come, and be proven, right after the look.
#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn what_is_found_is_served_under_the_proof_of_before() {
    type Get = fn(Tiered) -> futures_util::future::BoxFuture<'static, Option<u32>>;
    let gets: [(&str, Get); 3] = [
        ("get", |b| Box::pin(async move { b.get::<u32>("k").await.unwrap().map(|value| *value) })),
        ("lookup", |b| {
            Box::pin(async move {
                let answer = b.key("k").lookup::<u32>().await.unwrap();
                answer.value.map(|value| *value)
            })
        }),
        ("contains", |b| Box::pin(async move { b.contains("k").await.unwrap().then_some(1) })),
    ];
    for (name, get) in gets {
        let net = Net::new();
        let (looks, mut looked) = mpsc::unbounded_channel();
        let l1 = Looking { inner: Moka::new(100), looks };
        let builder = Tiered::new(l1, net.l2.clone()).bus(net.bus.clone());
        let b = builder.clock(net.clock.clone()).build().unwrap();
        let a = net.node();
        listens(&b).await;
        load(&b, "k", 1).await;
        let reader = tokio::spawn(get(b.clone()));
        let go = looked.recv().await.unwrap();
        // It has found the entry. Now it is invalidated, heard of, and proven long after.
        assert_eq!(a.invalidate("k").await.unwrap(), Ack::Done);
        has_heard(&b, 1).await;
        net.clock.advance(3 * SECOND);
        reproven(&b).await;
        go.send(()).unwrap();
        tokio::spawn(async move {
            while let Some(go) = looked.recv().await {
                let _ = go.send(());
            }
        });
        assert_eq!(reader.await.unwrap(), None, "{name}");
    }
}

/// A version of each key, and when it was acknowledged.
#[derive(Default)]
struct Model {
    /// What the database has.
    source: u32,
    acked: Vec<(u32, Duration)>,
}

impl Model {
    /// The oldest version that may be served.
    fn oldest(&self, now: Duration) -> u32 {
        let seen = self.acked.iter().filter(|(_, at)| *at + DELTA <= now);
        seen.map(|(version, _)| *version).max().unwrap_or(0)
    }
}

const KEYS: usize = 6;

/// One run. What it did is printed when it fails.
async fn run(seed: u64) {
    let mut random = fastrand::Rng::with_seed(seed);
    let net = Net::new();
    let start = net.clock.now();
    let count = random.usize(2..=4);
    // Each has its own way to the bus.
    let ways: Vec<_> =
        (0..count).map(|_| FaultyBus::seeded(net.bus.inner().clone(), random.u64(..))).collect();
    let nodes: Vec<_> =
        ways.iter().map(|way| net.node_on(way.clone(), |builder| builder)).collect();
    let mut model: Vec<Model> = (0..KEYS).map(|_| Model::default()).collect();
    for step in 0..400 {
        let (at, node) = {
            let at = random.usize(..count);
            (at, &nodes[at])
        };
        let place = random.usize(..KEYS);
        let (key, now) = (format!("k{place}"), net.clock.now() - start);
        let source = model[place].source;
        match random.u32(..100) {
            0..45 => {
                let oldest = model[place].oldest(now);
                let request = node.key(&key);
                let loader = move || async move { Ok::<_, DbDown>(source) };
                let value = match random.u32(..4) {
                    0 => request.detached(loader).await.unwrap(),
                    1 => {
                        let many = move |missing: Vec<String>| async move {
                            let found = missing.into_iter().map(move |key| (key, source));
                            Ok::<_, DbDown>(found.collect::<Vec<_>>())
                        };
                        node.keys([key.clone()]).get_or_load(many).await.remove(0).unwrap().unwrap()
                    }
                    _ => request.get_or_load(loader).await.unwrap(),
                };
                assert!(
                    *value >= oldest,
                    "seed {seed}, step {step}: node {at} of {count} read version {value} of {key} at {now:?}, and \
                     {oldest} was acknowledged long before"
                );
            }
            45..60 => {
                model[place].source += 1;
                let version = model[place].source;
                let ack = match random.u32(..5) {
                    0 => node.set(&key, version).await.unwrap(),
                    1 => node.set_many([(&key, version)]).await.remove(0).unwrap(),
                    2 => node.invalidate_many([&key]).await.remove(0).unwrap(),
                    3 => node.invalidate_prefix(&key).await.unwrap().ack,
                    _ => node.invalidate(&key).await.unwrap(),
                };
                if ack == Ack::Done {
                    model[place].acked.push((version, now));
                }
            }
            60..65 => {
                let request = node.key(&key).strategy(CacheStrategy::Bypass);
                let value =
                    request.get_or_load(|| async { Ok::<_, DbDown>(source) }).await.unwrap();
                assert_eq!(*value, source);
            }
            65..85 => {
                net.clock.advance(Duration::from_millis(random.u64(..1_200)));
                tokio::time::sleep(Duration::from_millis(random.u64(..1_200))).await;
            }
            85..93 => {
                let fault = match random.u32(..8) {
                    0 => BusFault::LoseMessages(50),
                    1 => BusFault::LoseMessages(100),
                    2 => BusFault::LoseAll,
                    3 => BusFault::Error(TierError::Timeout),
                    4 => BusFault::Delay(Duration::from_millis(random.u64(..400))),
                    5 => BusFault::Hang,
                    6 => BusFault::DropAfterSend,
                    _ => BusFault::RepeatAnswers,
                };
                ways[at].inject_some(fault, random.u8(20..=100));
            }
            93..97 => ways[at].heal(),
            97 => net.l2.switch(State::Failing),
            98 => net.l2.switch(State::Up),
            _ => node.shutdown().await,
        }
    }
}

/// With `TIERED_SEED` that one alone.
#[tokio::test(start_paused = true)]
async fn no_read_is_older_than_what_was_acknowledged_before_delta() {
    if let Ok(seed) = std::env::var("TIERED_SEED") {
        return run(seed.parse().unwrap()).await;
    }
    let seed = fastrand::u64(..u64::MAX / 2);
    println!("seeds from {seed}");
    for seed in seed..seed + 150 {
        run(seed).await;
    }
}
