//! Everything against a plain map: 256 runs of 200 operations over two handles on one L2, two types
//! under one key, injected faults and a clock that the run moves.
//!
//! The model is the database: one version number per key, which only grows, and beside it, for each
//! handle, what that handle may still be told. A read must give, of its own type, a version that
//!
//! - is no older than the key's last acknowledged invalidation through the reading handle, and
//! - is no older than the last one through the other handle, once L1's ten seconds are over (or
//!   twenty, where it is served stale because all else failed), and
//! - was the database's (or a `set`'s) within the entry's whole life.

use std::collections::HashMap;

use proptest::prelude::*;
use serde::{Deserialize, Serialize};
use tiered::{
    Ack, Answer, CacheEntity, CacheFeed, CacheStrategy, DataRepository, Error, Outcome, Tiered,
};

use crate::support::{DbDown, Rig, SECOND, State, node, rig_with};

const KEYS: u8 = 3;

/// A value of the first type.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Left(u64);
/// A value of the second type, of another shape.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Right {
    version: u64,
    note: String,
}

trait Versioned: Clone + Serialize + for<'de> Deserialize<'de> + Send + Sync + 'static {
    fn of(version: u64) -> Self;
    fn version(&self) -> u64;
}
impl Versioned for Left {
    fn of(version: u64) -> Self {
        Self(version)
    }
    fn version(&self) -> u64 {
        self.0
    }
}
impl Versioned for Right {
    fn of(version: u64) -> Self {
        Self { version, note: "right".into() }
    }
    fn version(&self) -> u64 {
        self.version
    }
}

#[derive(Clone, Debug)]
enum Op {
    Get {
        node: bool,
        key: u8,
        right: bool,
    },
    Load {
        node: bool,
        key: u8,
        right: bool,
        kind: Kind,
        strategy: CacheStrategy,
        skip: Skip,
    },
    /// Changes the database and invalidates.
    Write {
        node: bool,
        key: u8,
        absent: bool,
    },
    /// Changes the database and sets the new value.
    Set {
        node: bool,
        key: u8,
        right: bool,
        skip: Skip,
    },
    /// The same of many keys, in any order and any number.
    GetMany {
        node: bool,
        keys: Vec<u8>,
        right: bool,
    },
    LoadMany {
        node: bool,
        keys: Vec<u8>,
        right: bool,
        strategy: CacheStrategy,
        skip: Skip,
    },
    WriteMany {
        node: bool,
        keys: Vec<u8>,
        absent: bool,
    },
    SetMany {
        node: bool,
        keys: Vec<u8>,
        right: bool,
        skip: Skip,
    },
    Contains {
        node: bool,
        key: u8,
    },
    /// Through the entity layer.
    Execute {
        node: bool,
        key: u8,
        strategy: CacheStrategy,
    },
    /// Looks at the tiers: ping, health, stats.
    Look {
        node: bool,
    },
    Shutdown {
        node: bool,
    },
    Enable {
        node: bool,
        on: bool,
    },
    Advance {
        tenths: u16,
    },
    Fault(State),
    Database {
        up: bool,
    },
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    Borrowed,
    Optional,
    Detached,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Skip {
    Nothing,
    L1,
    L2,
}

fn op() -> impl Strategy<Value = Op> {
    let key = || 0..KEYS;
    let keys = || prop::collection::vec(0..KEYS, 0..6);
    let skip = || prop_oneof![6 => Just(Skip::Nothing), 1 => Just(Skip::L1), 1 => Just(Skip::L2)];
    let kind = prop_oneof![Just(Kind::Borrowed), Just(Kind::Optional), Just(Kind::Detached)];
    let strategy = || {
        prop_oneof![
            5 => Just(CacheStrategy::Refresh),
            1 => Just(CacheStrategy::Fresh),
            1 => Just(CacheStrategy::Invalidate),
            1 => Just(CacheStrategy::Bypass),
        ]
    };
    prop_oneof![
        6 => (any::<bool>(), key(), any::<bool>()).prop_map(|(node, key, right)| Op::Get { node, key, right }),
        10 => (any::<bool>(), key(), any::<bool>(), kind, strategy(), skip())
            .prop_map(|(node, key, right, kind, strategy, skip)| Op::Load { node, key, right, kind, strategy, skip }),
        5 => (any::<bool>(), key(), prop::bool::weighted(0.3)).prop_map(|(node, key, absent)| Op::Write { node, key, absent }),
        4 => (any::<bool>(), key(), any::<bool>(), skip()).prop_map(|(node, key, right, skip)| Op::Set { node, key, right, skip }),
        3 => (any::<bool>(), keys(), any::<bool>()).prop_map(|(node, keys, right)| Op::GetMany { node, keys, right }),
        5 => (any::<bool>(), keys(), any::<bool>(), strategy(), skip())
            .prop_map(|(node, keys, right, strategy, skip)| Op::LoadMany { node, keys, right, strategy, skip }),
        2 => (any::<bool>(), keys(), prop::bool::weighted(0.3)).prop_map(|(node, keys, absent)| Op::WriteMany { node, keys, absent }),
        2 => (any::<bool>(), keys(), any::<bool>(), skip()).prop_map(|(node, keys, right, skip)| Op::SetMany { node, keys, right, skip }),
        2 => (any::<bool>(), key()).prop_map(|(node, key)| Op::Contains { node, key }),
        3 => (any::<bool>(), key(), strategy()).prop_map(|(node, key, strategy)| Op::Execute { node, key, strategy }),
        1 => any::<bool>().prop_map(|node| Op::Look { node }),
        1 => any::<bool>().prop_map(|node| Op::Shutdown { node }),
        1 => (any::<bool>(), prop::bool::weighted(0.8)).prop_map(|(node, on)| Op::Enable { node, on }),
        4 => (1_u16..150).prop_map(|tenths| Op::Advance { tenths }),
        2 => prop_oneof![3 => Just(State::Up), 1 => Just(State::Failing), 1 => Just(State::Hanging)].prop_map(Op::Fault),
        1 => prop::bool::weighted(0.8).prop_map(|up| Op::Database { up }),
    ]
}

/// What is true of one key.
#[derive(Clone, Debug, Default)]
struct Truth {
    version: u64,
    exists: bool,
    /// Per node: the oldest version it may still be told.
    floor: [u64; 2],
    /// Floors that come into force when the other node's L1 had to ask again.
    coming: Vec<(usize, u64, u64)>,
}

/// What the entity layer reads.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Entity {
    id: u8,
    version: u64,
}

impl CacheEntity for Entity {
    type Key = u8;
    fn cache_key(&self) -> u8 {
        self.id
    }
    fn cache_prefix() -> &'static str {
        "entity"
    }
}

struct Repository(Result<Option<Entity>, DbDown>);

impl DataRepository<Entity> for Repository {
    type Error = DbDown;
    async fn fetch_by_id(&self, _: &u8) -> Result<Option<Entity>, DbDown> {
        self.0.clone()
    }
}

struct Feeder {
    id: u8,
    fed: Option<Option<Entity>>,
}

impl CacheFeed<Entity> for Feeder {
    fn entity_id(&mut self) -> u8 {
        self.id
    }
    fn feed(&mut self, entity: Option<Entity>) {
        self.fed = Some(entity);
    }
}

struct Run {
    rig: Rig,
    nodes: [Tiered; 2],
    truths: HashMap<u8, Truth>,
    database_up: bool,
    state: State,
    /// Tenths of seconds since the start.
    now: u64,
}

impl Run {
    fn new() -> Self {
        let configure = |builder: tiered::Builder<tiered::Postcard>| {
            builder.stale_for(30 * SECOND).negative_for(20 * SECOND)
        };
        let rig = rig_with(configure);
        let nodes = [rig.cache.clone(), node(&rig.l2, &rig.clock, configure)];
        let truths = (0..KEYS).map(|key| (key, Truth::default())).collect();
        Self { rig, nodes, truths, database_up: true, state: State::Up, now: 0 }
    }

    fn truth(&mut self, key: u8) -> &mut Truth {
        self.truths.get_mut(&key).unwrap()
    }

    /// The oldest version of a key that one node may be told at this moment. A stale one is
    /// excused for another ten seconds.
    fn floor(&mut self, key: u8, node: usize, stale: bool) -> u64 {
        let now = self.now - if stale { self.now.min(100) } else { 0 };
        let truth = self.truth(key);
        let came = truth.coming.iter().filter(|(whose, from, _)| *whose == node && *from <= now);
        came.map(|(_, _, floor)| *floor).fold(truth.floor[node], u64::max)
    }

    /// The database has a new version; an invalidation or a set went out through `node`.
    fn changed(&mut self, key: u8, node: usize, exists: bool, ack: Ack) {
        let now = self.now;
        let truth = self.truth(key);
        truth.exists = exists;
        let version = truth.version;
        // In this process it is final at once, Done or Pending.
        truth.floor[node] = version;
        if ack == Ack::Done {
            truth.coming.push((1 - node, now + 100, version));
        }
    }

    fn check(&mut self, key: u8, node: usize, seen: Option<u64>, outcome: Outcome, what: &str) {
        let floor = self.floor(key, node, outcome == Outcome::Stale);
        let newest = self.truth(key).version;
        if let Some(version) = seen {
            assert!(
                version >= floor,
                "{what}: version {version} came back after {floor} was final"
            );
            assert!(version <= newest, "{what}: version {version} was never written");
        }
    }

    async fn step(&mut self, op: Op) {
        match op {
            Op::Get { node, key, right } => {
                let index = usize::from(node);
                let seen = if right {
                    self.nodes[index]
                        .get::<Right>(key)
                        .await
                        .map(|value| value.map(|value| value.version()))
                } else {
                    self.nodes[index]
                        .get::<Left>(key)
                        .await
                        .map(|value| value.map(|value| value.version()))
                };
                match seen {
                    Ok(seen) => self.check(key, index, seen, Outcome::HitL1, "get"),
                    Err(Error::Backend(_)) => {
                        assert_ne!(self.state, State::Up, "an error without a fault")
                    }
                    Err(error) => panic!("{error:?}"),
                }
            }
            Op::Load { node, key, right, kind, strategy, skip } => {
                if right {
                    self.load::<Right>(usize::from(node), key, kind, strategy, skip).await;
                } else {
                    self.load::<Left>(usize::from(node), key, kind, strategy, skip).await;
                }
            }
            Op::Write { node, key, absent } => {
                self.truth(key).version += 1;
                let ack = self.nodes[usize::from(node)].invalidate(key).await.unwrap();
                assert!(ack == Ack::Done || self.state != State::Up);
                self.changed(key, usize::from(node), !absent, ack);
            }
            Op::Set { node, key, right, skip } => {
                let index = usize::from(node);
                self.truth(key).version += 1;
                let version = self.truth(key).version;
                let request = self.nodes[index].key(key);
                let request = match skip {
                    Skip::Nothing => request,
                    Skip::L1 => request.skip_l1(),
                    Skip::L2 => request.skip_l2(),
                };
                let ack = if right {
                    request.set(Right::of(version)).await
                } else {
                    request.set(Left::of(version)).await
                };
                let ack = ack.unwrap();
                // Switched off, it only drops what is cached, which is no less an invalidation.
                self.changed(key, index, true, ack);
            }
            Op::GetMany { node, keys, right } => {
                let fresh = CacheStrategy::Fresh;
                self.load_many_of(usize::from(node), keys, right, fresh, Skip::Nothing).await;
            }
            Op::LoadMany { node, keys, right, strategy, skip } => {
                self.load_many_of(usize::from(node), keys, right, strategy, skip).await;
            }
            Op::WriteMany { node, keys, absent } => {
                keys.iter().for_each(|key| self.truth(*key).version += 1);
                let acks = self.nodes[usize::from(node)].invalidate_many(keys.clone()).await;
                assert_eq!(acks.len(), keys.len());
                for (key, ack) in keys.into_iter().zip(acks) {
                    let ack = ack.unwrap();
                    assert!(ack == Ack::Done || self.state != State::Up);
                    self.changed(key, usize::from(node), !absent, ack);
                }
            }
            Op::SetMany { node, keys, right, skip } => {
                let index = usize::from(node);
                // The last one of a key counts, and is the database's.
                keys.iter().for_each(|key| self.truth(*key).version += 1);
                let versions: Vec<u64> = keys.iter().map(|key| self.truth(*key).version).collect();
                let request = self.nodes[index].keys(keys.clone());
                let request = match skip {
                    Skip::Nothing => request,
                    Skip::L1 => request.skip_l1(),
                    Skip::L2 => request.skip_l2(),
                };
                let acks = if right {
                    request.set(versions.into_iter().map(Right::of)).await
                } else {
                    request.set(versions.into_iter().map(Left::of)).await
                };
                assert_eq!(acks.len(), keys.len());
                for (key, ack) in keys.into_iter().zip(acks) {
                    self.changed(key, index, true, ack.unwrap());
                }
            }
            Op::Contains { node, key } => match self.nodes[usize::from(node)].contains(key).await {
                Ok(_) => {}
                Err(Error::Backend(_)) => assert_ne!(self.state, State::Up),
                Err(error) => panic!("{error:?}"),
            },
            Op::Execute { node, key, strategy } => {
                self.execute(usize::from(node), key, strategy).await
            }
            Op::Look { node } => {
                let node = &self.nodes[usize::from(node)];
                assert_eq!(node.ping().await.is_ok(), self.state == State::Up);
                let health = node.health().await;
                assert_eq!(health.l2.unwrap().down.is_none(), self.state == State::Up);
                assert!((0.0..=1.0).contains(&node.stats().hit_rate()));
            }
            Op::Shutdown { node } => self.nodes[usize::from(node)].shutdown().await,
            Op::Enable { node, on } => self.nodes[usize::from(node)].set_enabled(on),
            Op::Advance { tenths } => {
                self.now += u64::from(tenths);
                self.rig.clock.advance(SECOND / 10 * u32::from(tenths));
            }
            Op::Fault(state) => {
                self.state = state;
                self.rig.l2.switch(state);
            }
            Op::Database { up } => self.database_up = up,
        }
    }

    /// A read through the entity layer, of an entity whose key is the model's.
    async fn execute(&mut self, node: usize, key: u8, strategy: CacheStrategy) {
        let truth = self.truth(key).clone();
        let up = self.database_up;
        let found = truth.exists.then_some(Entity { id: key, version: truth.version });
        let repository = Repository(if up { Ok(found) } else { Err(DbDown) });
        let mut feeder = Feeder { id: key, fed: None };
        let result = self.nodes[node].execute(&mut feeder, &repository, strategy).await;
        match result {
            Ok(outcome) => {
                let seen = feeder.fed.unwrap().map(|entity| entity.version);
                // Entities have keys of their own, which no `Write` invalidates.
                assert!(seen.is_none_or(|version| version <= truth.version));
                if outcome == Outcome::Load {
                    assert!(up);
                    assert_eq!(seen, truth.exists.then_some(truth.version));
                }
            }
            Err(error) => {
                assert!(feeder.fed.is_none(), "nothing is fed after an error");
                let backend = matches!(error, Error::Backend(_));
                assert!(if backend { strategy == CacheStrategy::Fresh } else { !up }, "{error:?}");
            }
        }
    }

    async fn load_many_of(
        &mut self,
        node: usize,
        keys: Vec<u8>,
        right: bool,
        strategy: CacheStrategy,
        skip: Skip,
    ) {
        if right {
            self.load_many::<Right>(node, keys, strategy, skip).await;
        } else {
            self.load_many::<Left>(node, keys, strategy, skip).await;
        }
    }

    async fn load_many<T: Versioned>(
        &mut self,
        node: usize,
        keys: Vec<u8>,
        strategy: CacheStrategy,
        skip: Skip,
    ) {
        let (up, truths) = (self.database_up, self.truths.clone());
        let load = |ids: Vec<u8>| {
            let exists = |id: &u8| truths[id].exists;
            let found = |id| (id, T::of(truths[&id].version));
            let found: Vec<_> = ids.into_iter().filter(exists).map(found).collect();
            async move { if up { Ok(found) } else { Err(DbDown) } }
        };
        let request = self.nodes[node].keys(keys.clone()).strategy(strategy);
        let request = match skip {
            Skip::Nothing => request,
            Skip::L1 => request.skip_l1(),
            Skip::L2 => request.skip_l2(),
        };
        let answers = request.load(load).await;
        assert_eq!(answers.len(), keys.len());
        for (key, answer) in keys.into_iter().zip(answers) {
            self.judge(answer, key, node, strategy, up);
        }
    }

    async fn load<T: Versioned>(
        &mut self,
        node: usize,
        key: u8,
        kind: Kind,
        strategy: CacheStrategy,
        skip: Skip,
    ) {
        let truth = self.truth(key).clone();
        let (up, in_database) = (self.database_up, truth.exists.then_some(truth.version));
        let load = move || async move { if up { Ok(in_database.map(T::of)) } else { Err(DbDown) } };
        let request = self.nodes[node].key(key).strategy(strategy);
        let request = match skip {
            Skip::Nothing => request,
            Skip::L1 => request.skip_l1(),
            Skip::L2 => request.skip_l2(),
        };
        let answer = match kind {
            Kind::Borrowed => request.load(|_| load()).await,
            Kind::Optional => {
                request
                    .load(|context| async move {
                        context.weight(3);
                        load().await
                    })
                    .await
            }
            Kind::Detached => request.load_detached(move |_| load()).await,
        };
        self.judge(answer, key, node, strategy, up);
    }

    fn judge<T: Versioned>(
        &mut self,
        answer: Result<Answer<T>, Error>,
        key: u8,
        node: usize,
        strategy: CacheStrategy,
        up: bool,
    ) {
        match answer {
            Ok(answer) => {
                let seen = answer.value.as_ref().map(|value| value.version());
                self.check(key, node, seen, answer.outcome, &format!("load, {:?}", answer.outcome));
                if answer.outcome == Outcome::Load {
                    assert!(up, "a load without a database");
                    let truth = self.truth(key);
                    assert_eq!(seen, truth.exists.then_some(truth.version));
                }
                if strategy == CacheStrategy::Fresh {
                    assert_ne!(answer.outcome, Outcome::Load, "Fresh never asks the database");
                }
            }
            Err(Error::Backend(_)) => {
                assert_eq!(strategy, CacheStrategy::Fresh, "only Fresh reports the server");
                assert_ne!(self.state, State::Up);
            }
            Err(error) if error.loader_error::<DbDown>().is_some() => assert!(!up),
            Err(error) => panic!("{error:?}"),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, max_shrink_iters: 20_000, ..ProptestConfig::default() })]

    #[test]
    fn two_handles_do_what_a_plain_map_would(ops in prop::collection::vec(op(), 200)) {
        // Tokio's clock is paused: a hung server costs its budget in no time.
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .start_paused(true)
            .build()
            .unwrap();
        runtime.block_on(async {
            let mut run = Run::new();
            for op in ops {
                run.step(op).await;
            }
            // Healed, everything pending goes out, and both nodes agree with the database.
            run.step(Op::Fault(State::Up)).await;
            for node in &run.nodes {
                node.set_enabled(true);
            }
            while run.nodes[0].health().await.pending + run.nodes[1].health().await.pending > 0 {
                tokio::time::sleep(SECOND / 10).await;
            }
            run.step(Op::Advance { tenths: 1000 }).await;
            for key in 0..KEYS {
                let truth = run.truth(key).clone();
                for node in &run.nodes {
                    let load = || async { Ok::<_, DbDown>(truth.exists.then(|| Left::of(truth.version))) };
                    let value = node.get_or_load_opt(key, load).await.unwrap();
                    assert_eq!(value.map(|value| value.0), truth.exists.then_some(truth.version));
                }
                let stats = run.nodes[0].stats();
                assert!(stats.hit_rate() <= 1.0);
            }
        });
    }
}
