//! Every way to write, one after the other, by processes whose ways to the server and to the bus fail now and then: a
//! process never reads what is older than what it has changed itself; nobody finds in L2 what is older than what was
//! acknowledged; and when all works again, everybody has the last value.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tiered::{
    Ack, CacheStrategy, Jitter, Outcome, Tiered,
    tiers::{Clock, LocalBus, Memory, Moka, TierError},
};
use tiered_tiers::testing::{BusFault, Fault, Faulty, FaultyBus, Plan};

use tokio::task::JoinSet;

use crate::support::{DbDown, SECOND, eventually, listens};

const NODES: usize = 3;
const KEYS: usize = 4;

struct Node {
    cache: Tiered,
    l2: Faulty<Memory>,
    bus: FaultyBus<LocalBus>,
    /// Of each key, what this process must not fall behind.
    own: [u64; KEYS],
}

struct World {
    clock: Clock,
    nodes: Vec<Node>,
    /// What the database has of each key, and what was acknowledged.
    source: Arc<[AtomicU64; KEYS]>,
    done: [u64; KEYS],
    version: u64,
    seed: u64,
    log: Vec<String>,
    slow: JoinSet<()>,
}

impl World {
    async fn new(seed: u64) -> Self {
        let clock = Clock::manual();
        let (memory, bus) = (Memory::new().clock(clock.clone()), LocalBus::new());
        let mut nodes = Vec::new();
        for _ in 0..NODES {
            let (l2, bus) = (Faulty::new(memory.clone()), FaultyBus::new(bus.clone()));
            let cache = Tiered::new(Moka::new(100), l2.clone())
                .bus(bus.clone())
                .clock(clock.clone())
                .jitter(Jitter::none())
                .fresh_for(600 * SECOND)
                .max_pending(3)
                .build()
                .unwrap();
            listens(&cache).await;
            nodes.push(Node { cache, l2, bus, own: [0; KEYS] });
        }
        let (source, done) = (Arc::default(), [0; KEYS]);
        Self { clock, nodes, source, done, version: 0, seed, log: Vec::new(), slow: JoinSet::new() }
    }

    /// What the database has.
    fn has(&self, key: usize) -> u64 {
        self.source[key].load(Ordering::SeqCst)
    }

    /// Lets the ways of a process fail, or work.
    fn shake(&self, random: &mut fastrand::Rng, at: usize) {
        let node = &self.nodes[at];
        let error = || TierError::Unreachable("down".into());
        node.l2.plan(match random.u8(..6) {
            0 => Plan::Always(Fault::Error(error())),
            1 => Plan::Always(Fault::DropAfterSend),
            2 => Plan::After(random.u64(..6), Fault::Hang),
            3 => Plan::After(random.u64(..6), Fault::DropAfterSend),
            _ => Plan::Never,
        });
        match random.u8(..6) {
            0 => node.bus.inject(BusFault::Error(error())),
            1 => node.bus.inject(BusFault::DropAfterSend),
            2 => node.bus.inject(BusFault::Hang),
            _ => node.bus.heal(),
        }
    }

    async fn change(&mut self, random: &mut fastrand::Rng, at: usize) {
        let key = random.usize(..KEYS);
        self.version += 1;
        let version = self.version;
        let cache = self.nodes[at].cache.clone();
        let (name, tag) = (key.to_string(), [format!("t{key}")]);
        let kind = random.u8(..12);
        // Of a change by prefix all keys are meant, of the others one.
        let meant = if kind == 8 || kind == 9 { 0..KEYS } else { key..key + 1 };
        for key in meant.clone() {
            self.source[key].store(version, Ordering::SeqCst);
        }
        let write = async || Ok::<_, DbDown>(());
        let request = || cache.key(&*name).tags(&tag);
        let ended = async {
            Some(match kind {
                0 => cache.invalidate(&*name).await.unwrap(),
                1 => cache.invalidate_many([&*name]).await.remove(0).unwrap(),
                2 => request().set(version).await.unwrap(),
                3 => request().skip_l1().set(version).await.unwrap(),
                4 => request().skip_l2().set(version).await.unwrap(),
                5 => request().source_version(version).set(version).await.unwrap(),
                6 => cache.keys([&*name]).tags(&tag).set([version]).await.remove(0).unwrap(),
                7 => cache.invalidate_tag(&tag[0]).await.unwrap(),
                8 => cache.invalidate_prefix("").await.unwrap().ack,
                9 => cache.clear().await.unwrap(),
                10 => cache.invalidate_after(&*name, write).await.unwrap().ack,
                _ => request().write_through(version, |_| write()).await.unwrap().ack,
            })
        };
        // It may be dropped midway: then it has begun, or nothing was changed.
        let ack = match random.u8(..5) {
            0 => {
                let time = Duration::from_millis(random.u64(1..300));
                tokio::time::timeout(time, ended).await.unwrap_or(None)
            }
            _ => ended.await,
        };
        self.log.push(format!("{at}: {kind} of {name} to {version}: {ack:?}"));
        for key in meant {
            if ack.is_some() {
                self.nodes[at].own[key] = version;
            }
            // Of a tag the others know for a while what the bus had proven.
            if ack == Some(Ack::Done) && kind != 7 && kind != 9 {
                self.done[key] = version;
            }
        }
    }

    async fn read(&mut self, random: &mut fastrand::Rng, at: usize) {
        let key = random.usize(..KEYS);
        let (node, value) = (&self.nodes[at], self.has(key));
        let (name, tag) = (key.to_string(), [format!("t{key}")]);
        let past_l1 = random.bool();
        let request = node.cache.key(&*name).tags(&tag);
        let request = if past_l1 { request.skip_l1() } else { request };
        let strategy = *random
            .choice(&[
                CacheStrategy::Refresh,
                CacheStrategy::Refresh,
                CacheStrategy::Invalidate,
                CacheStrategy::Bypass,
            ])
            .unwrap();
        let load = |_| async { Ok::<_, DbDown>(Some(value)) };
        let read = request.strategy(strategy).load::<u64, _, _, _>(load).await.unwrap();
        let (got, outcome) = (*read.value.unwrap(), read.outcome);
        self.log.push(format!("{at}: read {name} {strategy:?} {past_l1}: {outcome:?} {got}"));
        // What its process began to load before it may share.
        let least = if past_l1 && outcome != Outcome::Shared {
            node.own[key].max(self.done[key])
        } else {
            node.own[key]
        };
        assert!(got >= least, "{got} < {least}, seed {}: {:#?}", self.seed, self.log);
    }

    /// Begins to load what the database has, which takes a while: longer than a lease lasts, perhaps.
    fn load_slowly(&mut self, random: &mut fastrand::Rng, at: usize) {
        let (key, cache) = (random.usize(..KEYS), self.nodes[at].cache.clone());
        let (source, time) =
            (Arc::clone(&self.source), Duration::from_millis(random.u64(1..1_000)));
        let strategy = match random.u8(..4) {
            0 => CacheStrategy::Bypass,
            1 => CacheStrategy::Invalidate,
            _ => CacheStrategy::Refresh,
        };
        let load = move || async move {
            let value = source[key].load(Ordering::SeqCst);
            tokio::time::sleep(time).await;
            Ok::<_, DbDown>(value)
        };
        self.log.push(format!("{at}: loads {key} slowly, {strategy:?}"));
        self.slow.spawn(async move {
            let tag = [format!("t{key}")];
            let request = cache.key(key.to_string()).tags(&tag).strategy(strategy);
            let _ = request.get_or_load(load).await.unwrap();
        });
    }

    /// All works again.
    async fn ends(&mut self) {
        while let Some(ended) = self.slow.join_next().await {
            ended.unwrap();
        }
        for node in &self.nodes {
            node.l2.plan(Plan::Never);
            node.bus.heal();
        }
        for node in &self.nodes {
            let what = format!("nothing is pending: {} {:#?}", self.seed, self.log);
            eventually(&what, || format!("{:?}", node.cache).contains("pending: 0")).await;
        }
        self.clock.advance(11 * SECOND);
        for node in &self.nodes {
            listens(&node.cache).await;
        }
        for (at, node) in self.nodes.iter().enumerate() {
            for key in 0..KEYS {
                let value = self.has(key);
                let load = || async { Ok::<_, DbDown>(value) };
                let got = *node.cache.get_or_load(key.to_string(), load).await.unwrap();
                // Of a change that was dropped before it began nobody has heard.
                let least = self.nodes.iter().map(|node| node.own[key]).max().unwrap();
                assert!(
                    got >= least,
                    "{at}: {key}: {got} < {least}, {}: {:#?}",
                    self.seed,
                    self.log
                );
            }
        }
    }
}

async fn storm(seed: u64) {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut world = World::new(seed).await;
    for _ in 0..60 {
        let at = random.usize(..NODES);
        match random.u8(..9) {
            0 | 1 => world.shake(&mut random, at),
            2..=4 => world.change(&mut random, at).await,
            5 => tokio::time::sleep(Duration::from_millis(random.u64(..400))).await,
            6 => world.load_slowly(&mut random, at),
            _ => world.read(&mut random, at).await,
        }
    }
    world.ends().await;
}

#[tokio::test(start_paused = true)]
async fn whatever_fails_the_last_value_is_what_is_left() {
    let seeds = std::env::var("DISORDER").ok().and_then(|seeds| seeds.parse().ok()).unwrap_or(40);
    for seed in 0..seeds {
        storm(seed).await;
    }
}
