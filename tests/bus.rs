//! The bus: what changes in one process reaches every other's L1, and costs nobody anything else.
//!
//! The clock of the caches stands still here, so that nothing but a message takes an entry from L1.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use futures_util::FutureExt;
use serde::{Deserialize, Serialize};
use tiered::{
    Ack, CacheEntity, CacheFeed, CacheStrategy, DataRepository, Error, Jitter, Outcome, Tiered,
    tiers::{
        Bus, BusPolled, Clock, Found, LocalBus, LogName, Memory, Moka, Redis, RemoteTier,
        TierError, protocol::Position,
    },
};
use tiered_tiers::testing::{BusFault, FaultyBus, RedisServer};
use tokio::sync::oneshot;

use crate::support::{
    DbDown, Net, SECOND, eventually, has_heard, in_l1, listens, proven, reproven,
};

scenarios! {
    every_change_reaches_the_others_over_a_local_bus,
    every_change_reaches_the_others_over_redis,
    a_load_that_is_invalidated_elsewhere_is_not_kept,
    a_bus_between_caches_without_a_server,
    a_listener_that_is_left_behind_begins_anew,
}

/// What the caches of a scenario share, of whatever kind.
struct World {
    _server: Option<RedisServer>,
    l2: Arc<dyn RemoteTier>,
    bus: Arc<dyn Bus>,
    clock: Clock,
}

impl World {
    fn local() -> Self {
        let clock = Clock::manual();
        let l2 = Arc::new(Memory::new().clock(clock.clone()));
        let bus = Arc::new(FaultyBus::new(LocalBus::new()));
        Self { _server: None, l2, bus, clock }
    }

    async fn redis() -> Self {
        let server = RedisServer::start().await.unwrap();
        let redis = Redis::new(&server.url()).unwrap();
        let bus = Arc::new(redis.bus().logs(3));
        Self { _server: Some(server), l2: Arc::new(redis), bus, clock: Clock::manual() }
    }

    fn node(&self) -> Tiered {
        Tiered::new(Moka::new(10_000), Arc::clone(&self.l2))
            .bus(Arc::clone(&self.bus))
            .clock(self.clock.clone())
            .budget(10 * SECOND)
            .jitter(Jitter::none())
            .build()
            .unwrap()
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Spell {
    id: u64,
    damage: u32,
}

impl CacheEntity for Spell {
    type Key = u64;
    fn cache_key(&self) -> u64 {
        self.id
    }
    fn cache_prefix() -> &'static str {
        "spell"
    }
}

/// The damage of all spells.
struct Book(u32);

impl DataRepository<Spell> for Book {
    type Error = DbDown;
    async fn fetch_by_id(&self, id: &u64) -> Result<Option<Spell>, DbDown> {
        Ok(Some(Spell { id: *id, damage: self.0 }))
    }
}

#[derive(Default)]
struct Feeder(Option<Spell>);

impl CacheFeed<Spell> for Feeder {
    fn entity_id(&mut self) -> u64 {
        1
    }
    fn feed(&mut self, entity: Option<Spell>) {
        self.0 = entity;
    }
}

async fn execute(cache: &Tiered, damage: u32, strategy: CacheStrategy) -> u32 {
    let mut feeder = Feeder::default();
    cache.execute(&mut feeder, &Book(damage), strategy).await.unwrap();
    feeder.0.unwrap().damage
}

async fn load(cache: &Tiered, key: &str, value: u32) -> Outcome {
    let request = cache.key(key);
    request.load(|_| async { Ok::<_, DbDown>(Some(value)) }).await.unwrap().outcome
}

/// The ways to change a key, each of which others must hear of.
#[derive(Clone, Copy, Debug)]
enum Change {
    Invalidate,
    Set,
    SetPast,
    SetMany,
    InvalidateMany,
    InvalidatePrefix,
    Bypass,
    BypassMany,
    StrategyInvalidate,
    StrategyInvalidateMany,
}

impl Change {
    fn is_strategy(self) -> bool {
        matches!(self, Self::StrategyInvalidate | Self::StrategyInvalidateMany)
    }

    const ALL: [Self; 10] = [
        Self::Invalidate,
        Self::Set,
        Self::SetPast,
        Self::SetMany,
        Self::InvalidateMany,
        Self::InvalidatePrefix,
        Self::Bypass,
        Self::BypassMany,
        Self::StrategyInvalidate,
        Self::StrategyInvalidateMany,
    ];

    /// Changes `k` to 2. Says what was acknowledged, if it is something that is.
    async fn make(self, cache: &Tiered) -> Ack {
        let loader = || async { Ok::<_, DbDown>(2_u32) };
        let many = |missing: Vec<&'static str>| async move {
            Ok::<_, DbDown>(missing.into_iter().map(|key| (key, 2_u32)).collect::<Vec<_>>())
        };
        let invalidate = CacheStrategy::Invalidate;
        match self {
            Self::Invalidate => cache.invalidate("k").await.unwrap(),
            Self::Set => cache.set("k", 2_u32).await.unwrap(),
            Self::SetPast => cache.key("k").skip_l2().set(2_u32).await.unwrap(),
            Self::SetMany => *cache.set_many([("k", 2_u32)]).await[0].as_ref().unwrap(),
            Self::InvalidateMany => *cache.invalidate_many(["k"]).await[0].as_ref().unwrap(),
            Self::InvalidatePrefix => cache.invalidate_prefix("k").await.unwrap().ack,
            Self::Bypass => {
                let request = cache.key("k").strategy(CacheStrategy::Bypass);
                request.get_or_load(loader).await.unwrap();
                Ack::Done
            }
            Self::BypassMany => {
                let request = cache.keys(["k"]).strategy(CacheStrategy::Bypass);
                request.get_or_load(many).await.remove(0).unwrap();
                Ack::Done
            }
            Self::StrategyInvalidate => {
                cache.key("k").strategy(invalidate).get_or_load(loader).await.unwrap();
                Ack::Done
            }
            Self::StrategyInvalidateMany => {
                let request = cache.keys(["k"]).strategy(invalidate);
                request.get_or_load(many).await.remove(0).unwrap();
                Ack::Done
            }
        }
    }
}

async fn every_change_reaches(world: World) {
    let (a, b) = (world.node(), world.node());
    listens(&a).await;
    listens(&b).await;
    let mut heard = 0;
    for change in Change::ALL {
        assert_eq!(a.invalidate("k").await.unwrap(), Ack::Done);
        has_heard(&b, heard + 1).await;
        load(&b, "k", 1).await;
        assert_eq!(in_l1(&b, "k").await, Some(1), "{change:?}");
        assert_eq!(change.make(&a).await, Ack::Done, "{change:?}");
        heard += 2;
        eventually(&format!("{change:?} is heard"), || b.stats().bus_heard == heard).await;
        assert_eq!(in_l1(&b, "k").await, None, "{change:?}");
        assert!(b.get::<u32>("k").await.unwrap().is_none_or(|value| *value == 2));
    }
    assert_eq!(execute(&b, 1, CacheStrategy::Refresh).await, 1);
    for (strategy, damage) in [(CacheStrategy::Invalidate, 2), (CacheStrategy::Bypass, 3)] {
        assert_eq!(execute(&a, damage, strategy).await, damage);
        heard += 1;
        has_heard(&b, heard).await;
        assert_eq!(execute(&b, 9, CacheStrategy::Refresh).await, damage, "{strategy:?}");
    }
    a.shutdown().await;
    b.shutdown().await;
}

async fn every_change_reaches_the_others_over_a_local_bus() {
    every_change_reaches(World::local()).await;
}

async fn every_change_reaches_the_others_over_redis() {
    every_change_reaches(World::redis().await).await;
}

async fn a_load_that_is_invalidated_elsewhere_is_not_kept() {
    for detached in [false, true] {
        let net = Net::new();
        let (a, b) = (net.node(), net.node());
        listens(&b).await;
        let (begun, has_begun) = oneshot::channel();
        let (go, may_go) = oneshot::channel::<()>();
        let loader = || async move {
            begun.send(()).unwrap();
            may_go.await.unwrap();
            Ok::<_, DbDown>(1_u32)
        };
        let loading = async {
            let request = b.key("k");
            if detached {
                request.detached(loader).await.unwrap()
            } else {
                request.get_or_load(loader).await.unwrap()
            }
        };
        let overtaking = async {
            has_begun.await.unwrap();
            assert_eq!(a.invalidate("k").await.unwrap(), Ack::Done);
            has_heard(&b, 1).await;
            go.send(()).unwrap();
        };
        assert_eq!(*tokio::join!(loading, overtaking).0, 1);
        assert_eq!(in_l1(&b, "k").await, None);
        assert_eq!(b.get::<u32>("k").await.unwrap(), None, "the fill was refused");
    }
}

/// `k` is old in B, and A overwrites it, or all keys: B may not share a load that began before.
#[tokio::test(start_paused = true)]
async fn who_comes_after_a_message_does_not_share_a_load_from_before_it() {
    let net = Net::new();
    let (a, b) = (net.node(), net.node());
    listens(&b).await;
    let (go, may_go) = oneshot::channel::<()>();
    let slow = b.get_or_load("k", || async {
        may_go.await.unwrap();
        Ok::<_, DbDown>(1_u32)
    });
    let after = async {
        eventually("it loads", || net.l2.operations() >= 3).await;
        assert_eq!(a.invalidate("k").await.unwrap(), Ack::Done);
        has_heard(&b, 1).await;
        let outcome = load(&b, "k", 2).await;
        go.send(()).unwrap();
        outcome
    };
    let both = tokio::time::timeout(60 * SECOND, async { tokio::join!(slow, after) }).await;
    let (slow, after) = both.expect("it waits for the load from before");
    assert_eq!((*slow.unwrap(), after), (1, Outcome::Load));
    assert_eq!(in_l1(&b, "k").await, Some(2));
}

#[tokio::test(start_paused = true)]
async fn plain_fills_are_nobodys_business() {
    let net = Net::new();
    let (a, b) = (net.node(), net.node());
    listens(&a).await;
    listens(&b).await;
    for key in 0..20 {
        load(&a, &format!("k{key}"), 1).await;
        a.key(format!("d{key}")).detached(|| async { Ok::<_, DbDown>(1_u32) }).await.unwrap();
        load(&b, &format!("k{key}"), 1).await;
    }
    let loader = |missing: Vec<u32>| async move {
        Ok::<_, DbDown>(missing.into_iter().map(|key| (key, 1_u32)).collect::<Vec<_>>())
    };
    a.get_or_load_many(0..20, loader).await.into_iter().for_each(|value| drop(value.unwrap()));
    assert_eq!(a.invalidate("last").await.unwrap(), Ack::Done);
    has_heard(&b, 1).await;
    assert_eq!(in_l1(&b, "k1").await, Some(1));
}

#[tokio::test(start_paused = true)]
async fn ones_own_messages_drop_nothing() {
    let net = Net::new();
    let a = net.node();
    listens(&a).await;
    let _ = a.set("k", 1_u32).await.unwrap();
    let _ = a.set_many([("m", 2_u32)]).await;
    has_heard(&a, 2).await;
    assert_eq!((in_l1(&a, "k").await, in_l1(&a, "m").await), (Some(1), Some(2)));
    // And what it proves of its own entries holds on.
    net.clock.advance(10 * SECOND);
    reproven(&a).await;
    assert_eq!(in_l1(&a, "k").await, Some(1));
}

/// An application that seeds its random numbers gives each of its processes the same ones.
#[tokio::test(start_paused = true)]
async fn processes_with_the_same_random_numbers_hear_each_other() {
    let net = Net::new();
    fastrand::seed(42);
    let a = net.node();
    fastrand::seed(42);
    let b = net.node();
    listens(&b).await;
    load(&b, "k", 1).await;
    assert_eq!(a.invalidate("k").await.unwrap(), Ack::Done);
    has_heard(&b, 1).await;
    assert_eq!(in_l1(&b, "k").await, None);
}

/// A bus that looks, at each message, at what the server has of `k`.
#[derive(Clone, Debug)]
struct Witness {
    inner: LocalBus,
    l2: Memory,
    seen: Arc<Mutex<Vec<Option<Found>>>>,
    /// As a server does one thing at a time: what each append takes.
    busy: Option<Arc<tokio::sync::Mutex<()>>>,
}

impl Witness {
    fn over(l2: &Memory) -> Self {
        Self { inner: LocalBus::new(), l2: l2.clone(), seen: Arc::default(), busy: None }
    }
}

#[async_trait::async_trait]
impl Bus for Witness {
    fn name(&self) -> &'static str {
        "witness"
    }
    async fn append(&self, log: LogName<'_>, messages: &[Bytes]) -> Result<(), TierError> {
        if let Some(busy) = &self.busy {
            let _turn = busy.lock().await;
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let seen = self.l2.get(b"tiered:k").await?;
        self.seen.lock().unwrap().push(seen);
        self.inner.append(log, messages).await
    }
    async fn open(&self, log: LogName<'_>) -> Result<BusPolled, TierError> {
        self.inner.open(log).await
    }
    async fn poll(
        &self,
        log: LogName<'_>,
        after: Position,
        wait: Duration,
    ) -> Result<BusPolled, TierError> {
        self.inner.poll(log, after, wait).await
    }
}

/// The delete precedes the message, and the message precedes the answer.
#[tokio::test(start_paused = true)]
async fn what_is_announced_is_done() {
    for change in Change::ALL {
        let l2 = Memory::new();
        let bus = Witness::over(&l2);
        let cache = Tiered::new(Moka::new(100), l2.clone()).bus(bus.clone()).build().unwrap();
        let _ = cache.set("k", 1_u32).await.unwrap();
        let old = l2.get(b"tiered:k").await.unwrap().unwrap().bytes;
        bus.seen.lock().unwrap().clear();
        change.make(&cache).await;
        let seen = std::mem::take(&mut *bus.seen.lock().unwrap());
        assert_eq!(seen.len(), 1, "{change:?}");
        assert!(seen.iter().flatten().all(|found| found.bytes != old), "{change:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_announced_is_pending_and_announced_later() {
    let faults = [BusFault::Error(TierError::Timeout), BusFault::Hang, BusFault::DropAfterSend];
    for (fault, change) in faults.iter().flat_map(|fault| Change::ALL.map(|change| (fault, change)))
    {
        let net = Net::new();
        // A's way to the bus is broken, and B's is not.
        let broken = FaultyBus::new(net.bus.inner().clone());
        let (a, b) = (net.node_on(broken.clone(), |builder| builder), net.node());
        listens(&b).await;
        load(&b, "k", 1).await;
        broken.inject(fault.clone());
        let start = tokio::time::Instant::now();
        let ack = change.make(&a).await;
        assert!(start.elapsed() <= Duration::from_millis(250), "{change:?}: one budget");
        let is_acknowledged =
            !matches!(change, Change::Bypass | Change::BypassMany) && !change.is_strategy();
        if is_acknowledged {
            assert_eq!(ack, Ack::Pending, "{fault:?} {change:?}");
        }
        assert_eq!(a.health().await.pending, 1, "{fault:?} {change:?}");
        broken.heal();
        eventually("it is heard", || b.stats().bus_heard >= 1).await;
        assert_eq!(in_l1(&b, "k").await, None, "{fault:?} {change:?}");
        eventually("nothing is pending", || {
            a.health().now_or_never().is_some_and(|health| health.pending == 0)
        })
        .await;
        assert!(b.get::<u32>("k").await.unwrap().is_none_or(|value| *value != 1));
    }
}

/// Far more keys than one budget is for.
#[tokio::test(start_paused = true)]
async fn many_keys_are_announced_with_many_budgets() {
    let busy = Some(Arc::new(tokio::sync::Mutex::new(())));
    let bus = Witness { busy, ..Witness::over(&Memory::new()) };
    let cache = Tiered::new(Moka::new(10), Memory::new()).bus(bus).build().unwrap();
    let acks = cache.invalidate_many(0..20_000_u32).await;
    let pending = acks.iter().filter(|ack| matches!(ack, Ok(Ack::Pending))).count();
    assert_eq!((acks.len(), pending), (20_000, 0));
}

#[tokio::test(start_paused = true)]
async fn a_hung_bus_costs_a_read_nothing() {
    let net = Net::new();
    let cache = net.node();
    net.bus.inject(BusFault::Hang);
    let start = tokio::time::Instant::now();
    assert_eq!(load(&cache, "k", 1).await, Outcome::Load);
    assert_eq!(load(&cache, "k", 2).await, Outcome::HitL1);
    assert_eq!(start.elapsed(), Duration::ZERO);
    assert_eq!(net.l2.gets(), 1);
}

async fn a_bus_between_caches_without_a_server() {
    let bus = LocalBus::new();
    let clock = Clock::manual();
    let node =
        || Tiered::local(Moka::new(100)).bus(bus.clone()).clock(clock.clone()).build().unwrap();
    let (a, b) = (node(), node());
    let get = async |cache: &Tiered<_>| cache.get::<u32>("k").await.unwrap().map(|value| *value);
    assert_eq!(get(&b).await, None);
    assert_eq!(get(&a).await, None);
    reproven(&a).await;
    reproven(&b).await;
    let mut heard = 0;
    for change in ["invalidate", "set", "invalidate_many", "prefix", "bypass", "strategy"] {
        let _ = b.set("k", 1_u32).await.unwrap();
        heard += 1;
        // Else it would overtake A's own write.
        has_heard(&a, heard).await;
        assert_eq!(get(&b).await, Some(1));
        let loader = || async { Ok::<_, DbDown>(2_u32) };
        match change {
            "invalidate" => assert_eq!(a.invalidate("k").await.unwrap(), Ack::Done),
            "set" => assert_eq!(a.set("k", 2_u32).await.unwrap(), Ack::Done),
            "invalidate_many" => drop(a.invalidate_many(["k"]).await),
            "prefix" => assert_eq!(a.invalidate_prefix("k").await.unwrap().ack, Ack::Done),
            "bypass" => {
                let request = a.key("k").strategy(CacheStrategy::Bypass);
                request.get_or_load(loader).await.unwrap();
            }
            _ => {
                let request = a.key("k").strategy(CacheStrategy::Invalidate);
                request.get_or_load(loader).await.unwrap();
            }
        }
        heard += 1;
        eventually(change, || b.stats().bus_heard == heard).await;
        assert_eq!(get(&b).await, None, "{change}");
    }
}

#[test]
fn listening_moves_to_another_runtime_when_its_own_ends() {
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let net = Net::new();
    let (a, b) = (net.node(), net.node());
    let first = runtime();
    first.block_on(listens(&b));
    first.block_on(load(&b, "k", 1));
    drop(first);
    let second = runtime();
    assert_eq!(second.block_on(proven(&b)), None, "nobody listens");
    // What was said meanwhile is not heard, and what was kept before is not proven by what follows.
    second.block_on(async { assert_eq!(a.invalidate("k").await.unwrap(), Ack::Done) });
    net.clock.advance(2 * SECOND);
    second.block_on(async {
        assert_eq!(in_l1(&b, "k").await, None);
        listens(&b).await;
        assert_eq!(in_l1(&b, "k").await, None);
        load(&b, "k", 2).await;
        let heard = b.stats().bus_heard;
        assert_eq!(a.invalidate("k").await.unwrap(), Ack::Done);
        has_heard(&b, heard + 1).await;
        assert_eq!(in_l1(&b, "k").await, None);
    });
}

/// A runtime that lives and is not driven cannot end its tasks.
#[test]
fn shutdown_does_not_wait_for_a_runtime_that_stands_still() {
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let net = Net::new();
    let cache = net.node();
    let (first, second) = (runtime(), runtime());
    first.block_on(listens(&cache));
    let ended = second.block_on(async { tokio::time::timeout(5 * SECOND, cache.shutdown()).await });
    assert!(ended.is_ok());
    // And what comes next listens again.
    second.block_on(listens(&cache));
    drop(first);
}

fn tasks() -> usize {
    tokio::runtime::Handle::current().metrics().num_alive_tasks()
}

#[tokio::test]
async fn nothing_is_left_of_a_cache_that_listened() {
    let before = tasks();
    for is_shut_down in [true, false] {
        let net = Net::new();
        let cache = net.node();
        assert_eq!(tasks(), before, "a cache that was not used yet");
        listens(&cache).await;
        assert!(tasks() > before);
        if is_shut_down {
            cache.shutdown().await;
            assert_eq!((tasks(), proven(&cache).await), (before, None));
        }
        drop(cache);
        eventually("all tasks ended", || tasks() == before).await;
    }
    let net = Net::new();
    let cache = crate::support::node(&net.l2, &net.clock, |builder| builder);
    load(&cache, "k", 1).await;
    assert_eq!(tasks(), before, "one without a bus has none");
}

#[tokio::test]
async fn no_connection_is_left_of_a_cache_that_listened() {
    let server = RedisServer::start().await.unwrap();
    let admin = redis::Client::open(server.url()).unwrap();
    let mut admin = admin.get_multiplexed_async_connection().await.unwrap();
    let mut connections = async || {
        let list: String = redis::cmd("CLIENT").arg("LIST").query_async(&mut admin).await.unwrap();
        list.lines().count()
    };
    let (alone, before) = (connections().await, tasks());
    let redis = Redis::new(&server.url()).unwrap();
    let bus = redis.bus();
    let cache = Tiered::new(Moka::new(10), redis).bus(bus).build().unwrap();
    load(&cache, "k", 1).await;
    while proven(&cache).await.is_none() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert!(connections().await > alone);
    drop(cache);
    eventually("all tasks ended", || tasks() == before).await;
    let start = std::time::Instant::now();
    while connections().await > alone {
        assert!(start.elapsed() < 10 * SECOND, "connections are left");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn health_tells_of_the_bus() {
    let net = Net::new();
    let cache = net.node();
    let health = cache.health().await;
    let bus = health.bus.as_ref().unwrap();
    assert_eq!((bus.name, bus.proven, health.is_whole()), ("local", None, true), "nobody listens");
    listens(&cache).await;
    assert!(cache.health().await.is_whole());
    net.bus.inject(BusFault::Error(TierError::Timeout));
    net.clock.advance(Duration::from_millis(1_900));
    assert!(cache.health().await.is_whole(), "{:?}", cache.health().await);
    net.clock.advance(3_600 * SECOND);
    let health = cache.health().await;
    assert_eq!(health.bus.as_ref().unwrap().proven.map(|age| age.as_secs()), Some(3_601));
    assert!(!health.is_whole(), "nothing was heard for an hour: {health:?}");
    net.bus.heal();
    reproven(&cache).await;
    assert!(cache.health().await.is_whole());
}

#[tokio::test(start_paused = true)]
async fn what_is_not_understood_forgets_everything() {
    let later = [2, 1, 0, 0, 0, 0, 0, 0, 0, 0, b'x'];
    let unknown = [1, 99, 0, 0, 0, 0, 0, 0, 0, 0];
    for message in [b"".as_slice(), b"\x01", &[0xff; 9], &later, &unknown] {
        let net = Net::new();
        let b = net.node();
        listens(&b).await;
        load(&b, "k", 1).await;
        net.clock.advance(Duration::from_millis(1_500));
        reproven(&b).await;
        let log = LogName { topic: "tiered", index: 0 };
        net.bus.inner().append(log, &[Bytes::copy_from_slice(message)]).await.unwrap();
        has_heard(&b, 1).await;
        reproven(&b).await;
        assert_eq!(in_l1(&b, "k").await, Some(1), "by its own proof");
        net.clock.advance(Duration::from_millis(500));
        assert_eq!(in_l1(&b, "k").await, None, "{message:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn namespaces_share_a_bus_and_nothing_else() {
    let net = Net::new();
    let (shop, other) = (net.node(), net.node_with(|builder| builder.namespace("other")));
    let version = net.node_with(|builder| builder.namespace_version(2));
    listens(&shop).await;
    load(&shop, "k", 1).await;
    for stranger in [&other, &version] {
        listens(stranger).await;
        assert_eq!(stranger.invalidate("k").await.unwrap(), Ack::Done);
        assert_eq!(stranger.invalidate_prefix("").await.unwrap().ack, Ack::Done);
        has_heard(stranger, 2).await;
    }
    reproven(&shop).await;
    assert_eq!((shop.stats().bus_heard, in_l1(&shop, "k").await), (0, Some(1)));
}

async fn a_listener_that_is_left_behind_begins_anew() {
    let net = Net::new();
    let slow = FaultyBus::new(net.bus.inner().clone());
    let b = net.node_on(slow.clone(), |builder| builder);
    listens(&b).await;
    load(&b, "k", 1).await;
    slow.inject(BusFault::Hang);
    let hung = slow.operations();
    eventually("it hangs", || slow.operations() > hung).await;
    let voids = b.stats().bus_voids;
    let message = Bytes::from_static(&[1, 1, 0, 0, 0, 0, 0, 0, 0, 0, b'k']);
    let log = LogName { topic: "tiered", index: 0 };
    for _ in 0..100 {
        net.bus.inner().append(log, &vec![message.clone(); 1_000]).await.unwrap();
    }
    net.clock.advance(2 * SECOND);
    assert_eq!(in_l1(&b, "k").await, None);
    slow.heal();
    reproven(&b).await;
    assert!(b.stats().bus_voids > voids);
    assert_eq!(in_l1(&b, "k").await, None);
    load(&b, "new", 1).await;
    net.clock.advance(SECOND);
    reproven(&b).await;
    net.clock.advance(SECOND);
    assert_eq!(in_l1(&b, "new").await, Some(1));
}

/// One that is slow and not too far behind hears all of it.
#[tokio::test(start_paused = true)]
async fn a_slow_listener_hears_everything() {
    let net = Net::new();
    let (a, b) = (net.node(), net.node());
    listens(&b).await;
    net.bus.inject_some(BusFault::Delay(Duration::from_millis(30)), 50);
    for round in 0..20 {
        for ack in a.invalidate_many((0..500).map(|key| round * 1_000 + key)).await {
            assert_eq!(ack.unwrap(), Ack::Done);
        }
    }
    has_heard(&b, 10_000).await;
    assert_eq!(b.stats().bus_voids, 1);
}

#[test]
fn a_bound_that_no_bus_could_keep_is_refused() {
    for time in [Duration::from_millis(100), Duration::ZERO, 3_601 * SECOND] {
        let builder = Tiered::new(Moka::new(10), Memory::new()).bus(LocalBus::new());
        let refused = builder.max_staleness(time).build().unwrap_err();
        let Error::Config(_) = &refused else { panic!("{refused:?}") };
        let text = format!("{:#}", anyhow::Error::new(refused));
        assert!(text.contains("max_staleness") && text.contains("500 ms"), "{text}");
    }
    let outside = Tiered::local(Moka::new(10)).bus(LocalBus::new()).build().unwrap();
    let refused = outside.invalidate("k").now_or_never().unwrap().unwrap_err();
    assert!(format!("{:#}", anyhow::Error::new(refused)).contains("a bus"));
}
