//! Changes that the cache server has done, and the bus was not there to tell of: L2 is dropped from once, and then the
//! others are told, as soon as they can be.
//!
//! A's way to the bus is broken. B has the old value in its L1, and C loads the new one in between.

use std::{
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use futures_util::poll;
use tiered::{
    Ack, CacheStrategy, Jitter, Outcome, Tiered,
    tiers::{
        Bus, BusPolled, Clock, LocalBus, LogName, Memcached, Memory, Moka, Redis, RemoteTier,
        TierError, protocol::Position,
    },
};
use tiered_tiers::testing::{Fault, Faulty, MemcachedServer, Plan, RedisServer};

use crate::support::{DbDown, SECOND, State, Switchable, eventually, in_l1, listens};

scenarios! {
    what_l2_has_dropped_is_told_later_and_not_dropped_again,
    what_redis_has_dropped_is_told_later_and_not_dropped_again,
    what_l2_has_stored_is_told_later_and_not_dropped,
    a_namespace_that_was_cleared_is_told_later_and_not_cleared_again,
    what_a_reader_has_settled_is_not_dropped_again,
    what_is_done_before_and_while_a_namespace_is_void_is_told_all_the_same,
    a_server_that_stays_away_holds_up_no_key_of_another,
}

/// A bus on which nothing can be said while it is mute. It is heard all the same.
#[derive(Clone, Debug)]
struct Mute {
    bus: Arc<dyn Bus>,
    state: Arc<(AtomicBool, AtomicUsize)>,
    hangs: bool,
}

impl Mute {
    fn new(bus: &Arc<dyn Bus>, hangs: bool) -> Self {
        Self { bus: Arc::clone(bus), state: Arc::default(), hangs }
    }

    fn is_mute(&self, mute: bool) {
        self.state.0.store(mute, Ordering::SeqCst);
    }

    /// Waits until so many more messages were tried.
    async fn tried(&self, more: usize) {
        let before = self.state.1.load(Ordering::SeqCst);
        eventually("it tries to tell", || self.state.1.load(Ordering::SeqCst) >= before + more)
            .await;
    }
}

#[async_trait::async_trait]
impl Bus for Mute {
    fn name(&self) -> &'static str {
        "mute"
    }
    fn logs(&self) -> usize {
        self.bus.logs()
    }
    async fn append(&self, log: LogName<'_>, messages: &[Bytes]) -> Result<(), TierError> {
        if !self.state.0.load(Ordering::SeqCst) {
            return self.bus.append(log, messages).await;
        }
        self.state.1.fetch_add(1, Ordering::SeqCst);
        match self.hangs {
            true => std::future::pending().await,
            false => Err(TierError::Unreachable("it is mute".into())),
        }
    }
    async fn open(&self, log: LogName<'_>) -> Result<BusPolled, TierError> {
        self.bus.open(log).await
    }
    async fn poll(
        &self,
        log: LogName<'_>,
        after: Position,
        wait: Duration,
    ) -> Result<BusPolled, TierError> {
        self.bus.poll(log, after, wait).await
    }
}

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
        Self { _server: None, l2, bus: Arc::new(LocalBus::new()), clock }
    }

    async fn redis() -> Self {
        let server = RedisServer::start().await.unwrap();
        let redis = Redis::new(&server.url()).unwrap();
        let bus = Arc::new(redis.bus());
        Self { _server: Some(server), l2: Arc::new(redis), bus, clock: Clock::manual() }
    }

    fn node(&self) -> Tiered {
        self.node_over(Arc::clone(&self.l2), Arc::clone(&self.bus))
    }

    /// One with ways of its own.
    fn node_over(&self, l2: impl RemoteTier, bus: impl Bus) -> Tiered {
        self.node_within(Duration::from_millis(250), l2, bus)
    }

    fn node_within(&self, budget: Duration, l2: impl RemoteTier, bus: impl Bus) -> Tiered {
        Tiered::new(Moka::new(1_000), l2)
            .bus(bus)
            .budget(budget)
            .clock(self.clock.clone())
            .jitter(Jitter::none())
            .fresh_for(600 * SECOND)
            .max_pending(8)
            .build()
            .unwrap()
    }
}

async fn load(cache: &Tiered, key: &str, value: u32) -> (u32, Outcome) {
    let request = cache.key(key).tags(["t"]);
    let answer = request.load(|_| async { Ok::<_, DbDown>(Some(value)) }).await.unwrap();
    (*answer.value.unwrap(), answer.outcome)
}

async fn stored(cache: &Tiered, key: &str) -> Option<u32> {
    cache.key(key).skip_l1().get::<u32>().await.unwrap().map(|value| *value)
}

async fn nothing_is_pending(cache: &Tiered) {
    eventually("nothing is pending", || format!("{cache:?}").contains("pending: 0")).await;
}

async fn is_heard(cache: &Tiered, key: &str) {
    let start = std::time::Instant::now();
    while in_l1(cache, key).await.is_some() {
        assert!(start.elapsed() < 20 * SECOND, "it was never told");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

#[derive(Clone, Copy, Debug)]
enum Change {
    Invalidate,
    InvalidateMany,
    InvalidatePrefix,
    InvalidateTag,
    Clear,
}

impl Change {
    const ALL: [Self; 5] = [
        Self::Invalidate,
        Self::InvalidateMany,
        Self::InvalidatePrefix,
        Self::InvalidateTag,
        Self::Clear,
    ];

    async fn make(self, cache: &Tiered) -> Ack {
        match self {
            Self::Invalidate => cache.invalidate("k").await.unwrap(),
            Self::InvalidateMany => {
                cache.invalidate_many(["k", "j"]).await.into_iter().next().unwrap().unwrap()
            }
            Self::InvalidatePrefix => cache.invalidate_prefix("k").await.unwrap().ack,
            Self::InvalidateTag => cache.invalidate_tag("t").await.unwrap(),
            Self::Clear => cache.clear().await.unwrap(),
        }
    }
}

async fn is_told_later(world: World, hangs: &[bool]) {
    for (hangs, change) in hangs.iter().flat_map(|hangs| Change::ALL.map(|c| (*hangs, c))) {
        let at = format!("{change:?}, hangs: {hangs}");
        let mute = Mute::new(&world.bus, hangs);
        let (a, b, c) =
            (world.node_over(Arc::clone(&world.l2), mute.clone()), world.node(), world.node());
        listens(&a).await;
        listens(&b).await;
        b.clear().await.unwrap();
        assert_eq!(load(&b, "k", 1).await, (1, Outcome::Load), "{at}");
        mute.is_mute(true);
        assert_eq!(change.make(&a).await, Ack::Pending, "{at}");
        assert_eq!(load(&c, "k", 2).await, (2, Outcome::Load), "dropped: {at}");
        mute.tried(4).await;
        assert_eq!(stored(&world.node(), "k").await, Some(2), "dropped again: {at}");
        assert_eq!(stored(&a, "k").await, Some(2), "it uses L2 again: {at}");
        assert_eq!(in_l1(&b, "k").await, Some(1), "nobody has told: {at}");
        let keys = if let Change::InvalidateMany = change { 2 } else { 1 };
        assert_eq!(a.health().await.pending, keys, "{at}");
        mute.is_mute(false);
        nothing_is_pending(&a).await;
        is_heard(&b, "k").await;
        assert_eq!(load(&b, "k", 3).await, (2, Outcome::HitL2), "{at}");
    }
}

/// What is set stays where it is, likewise.
async fn what_l2_has_stored_is_told_later_and_not_dropped() {
    let world = World::local();
    for hangs in [false, true] {
        let mute = Mute::new(&world.bus, hangs);
        let (a, b) = (world.node_over(Arc::clone(&world.l2), mute.clone()), world.node());
        listens(&a).await;
        listens(&b).await;
        for way in 0..4 {
            let key = &*format!("{hangs} {way}");
            load(&b, key, 1).await;
            mute.is_mute(true);
            let ack = match way {
                0 => a.set(key, 2_u32).await.unwrap(),
                1 => a.set_many([(key, 2_u32)]).await.pop().unwrap().unwrap(),
                2 => a.key(key).source_version(7).set(2_u32).await.unwrap(),
                _ => {
                    let bypass = a.key(key).strategy(CacheStrategy::Bypass);
                    let loaded = bypass.load(|_| async { Ok::<_, DbDown>(Some(2_u32)) }).await;
                    assert_eq!(loaded.unwrap().outcome, Outcome::Load);
                    Ack::Pending
                }
            };
            assert_eq!(ack, Ack::Pending);
            mute.tried(4).await;
            assert_eq!(stored(&world.node(), key).await, Some(2), "dropped");
            assert_eq!((in_l1(&a, key).await, in_l1(&b, key).await), (Some(2), Some(1)));
            mute.is_mute(false);
            nothing_is_pending(&a).await;
            is_heard(&b, key).await;
            assert_eq!(stored(&b, key).await, Some(2));
        }
    }
}

async fn what_l2_has_dropped_is_told_later_and_not_dropped_again() {
    is_told_later(World::local(), &[false, true]).await;
}

async fn what_redis_has_dropped_is_told_later_and_not_dropped_again() {
    is_told_later(World::redis().await, &[false]).await;
}

async fn a_namespace_that_was_cleared_is_told_later_and_not_cleared_again() {
    let world = World::local();
    let (mute, l2) = (Mute::new(&world.bus, false), Faulty::new(Arc::clone(&world.l2)));
    let (a, b, c) = (world.node_over(l2.clone(), mute.clone()), world.node(), world.node());
    listens(&a).await;
    listens(&b).await;
    load(&b, "0", 1).await;
    mute.is_mute(true);
    l2.plan(Plan::Always(Fault::Error(TierError::Unreachable("switched off".into()))));
    for key in 0..20 {
        assert_eq!(a.invalidate(key).await.unwrap(), Ack::Pending);
    }
    assert_eq!(a.health().await.pending, 1, "all of it");
    l2.plan(Plan::Never);
    mute.tried(2).await;
    assert_eq!(load(&c, "0", 2).await, (2, Outcome::Load));
    mute.tried(4).await;
    assert_eq!(stored(&world.node(), "0").await, Some(2), "cleared again");
    assert_eq!(stored(&a, "0").await, Some(2), "it uses L2 again");
    assert_eq!(in_l1(&b, "0").await, Some(1));
    mute.is_mute(false);
    nothing_is_pending(&a).await;
    // "Everything" leaves what L1 has to its own proof: L2 was asked for it no longer ago than that.
    world.clock.advance(3 * SECOND);
    listens(&b).await;
    assert_eq!(load(&b, "0", 3).await, (2, Outcome::HitL2));
}

/// The replay takes many keys at a time, and waits for the bus in between.
async fn what_a_reader_has_settled_is_not_dropped_again() {
    let world = World::local();
    let (mute, l2) = (Mute::new(&world.bus, true), Faulty::new(Arc::clone(&world.l2)));
    let a = world.node_over(l2.clone(), mute.clone());
    listens(&a).await;
    l2.plan(Plan::Always(Fault::Error(TierError::Unreachable("switched off".into()))));
    for key in 0..6 {
        assert_eq!(a.invalidate(key).await.unwrap(), Ack::Pending);
    }
    mute.is_mute(true);
    l2.plan(Plan::Never);
    mute.tried(1).await;
    for key in 0..6 {
        load(&a, &key.to_string(), 2).await;
        assert_eq!(stored(&world.node(), &key.to_string()).await, Some(2));
    }
    mute.tried(8).await;
    for key in 0..6 {
        assert_eq!(stored(&world.node(), &key.to_string()).await, Some(2), "{key}");
    }
    mute.is_mute(false);
    nothing_is_pending(&a).await;
}

/// On a tier that cannot clear that is for as long as anything lives there.
async fn what_is_done_before_and_while_a_namespace_is_void_is_told_all_the_same() {
    let clock = Clock::manual();
    let memory = Memory::new().clock(clock.clone());
    let l2 = Switchable::new(memory.clone()).unclearable();
    let bus = Arc::new(LocalBus::new()) as Arc<dyn Bus>;
    let world = World { _server: None, l2: Arc::new(memory), bus, clock };
    let mute = Mute::new(&world.bus, false);
    let (a, b) = (world.node_over(l2.clone(), mute.clone()), world.node());
    listens(&a).await;
    listens(&b).await;
    load(&b, "before", 1).await;
    mute.is_mute(true);
    assert_eq!(a.invalidate("before").await.unwrap(), Ack::Pending);
    l2.switch(State::Failing);
    for key in 0..20 {
        assert_eq!(a.invalidate(key).await.unwrap(), Ack::Pending);
    }
    l2.switch(State::Up);
    mute.is_mute(false);
    eventually("only the void is left", || format!("{a:?}").contains("pending: 1")).await;
    world.clock.advance(3 * SECOND);
    listens(&b).await;
    assert_eq!(load(&b, "before", 2).await, (2, Outcome::Load));
    for change in [Change::Invalidate, Change::InvalidateTag] {
        load(&b, "k", 1).await;
        mute.is_mute(true);
        assert_eq!(change.make(&a).await, Ack::Pending, "{change:?}");
        mute.is_mute(false);
        is_heard(&b, "k").await;
    }
    eventually("the void is left", || format!("{a:?}").contains("pending: 1")).await;
}

/// Two servers, one of which is gone for good.
async fn a_server_that_stays_away_holds_up_no_key_of_another() {
    let (mut gone, alive) =
        (MemcachedServer::start().await.unwrap(), MemcachedServer::start().await.unwrap());
    let both = format!("{},{}", gone.address(), alive.address());
    let bus: Arc<dyn Bus> = Arc::new(LocalBus::new());
    let clock = Clock::manual();
    let mute = Mute::new(&bus, false);
    let node = |bus: Arc<dyn Bus>| {
        Tiered::new(Moka::new(1_000), Memcached::new(&both).unwrap())
            .bus(bus)
            .clock(clock.clone())
            .jitter(Jitter::none())
            .fresh_for(600 * SECOND)
            .budget(5 * SECOND)
            .build()
            .unwrap()
    };
    let (a, b) = (node(Arc::new(mute.clone())), node(bus));
    listens(&a).await;
    listens(&b).await;
    for key in 0..64_u32 {
        b.key(key).load(|_| async { Ok::<_, DbDown>(Some(1_u32)) }).await.unwrap();
    }
    mute.is_mute(true);
    for key in 0..64_u32 {
        assert_eq!(a.invalidate(key).await.unwrap(), Ack::Pending);
    }
    gone.kill().unwrap();
    for key in 0..64_u32 {
        assert_eq!(a.invalidate(key).await.unwrap(), Ack::Pending);
    }
    mute.is_mute(false);
    let left = async || {
        let mut left = 0;
        for key in 0..64 {
            left += usize::from(in_l1(&b, &key.to_string()).await.is_some());
        }
        left
    };
    // Of a key whose slots are both on the server that is there everybody hears.
    let here = async || {
        let mut here = Vec::new();
        for key in 0..64_u32 {
            if b.key(key).skip_l1().lookup::<u32>().await.is_ok() {
                here.push(key);
            }
        }
        here
    };
    assert!(!here().await.is_empty());
    let start = std::time::Instant::now();
    while left().await > 60 {
        assert!(start.elapsed() < 20 * SECOND, "{} of 64 were never told", left().await);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// What it was compared with was loaded, which nobody tells of.
#[tokio::test(start_paused = true)]
async fn a_set_that_is_refused_forgets_nothing_that_is_to_be_told() {
    let clock = Clock::manual();
    let memory = Memory::new().clock(clock.clone());
    let (l2, bus) = (Switchable::new(memory.clone()), Arc::new(LocalBus::new()) as Arc<dyn Bus>);
    let world = World { _server: None, l2: Arc::new(memory.clone()), bus, clock };
    let mute = Mute::new(&world.bus, false);
    let a = world.node_within(60 * SECOND, l2.clone(), mute.clone());
    let (b, c) = (world.node(), world.node());
    listens(&a).await;
    listens(&b).await;
    load(&b, "k", 1).await;
    mute.is_mute(true);
    l2.switch(State::Failing);
    assert_eq!(a.invalidate("k").await.unwrap(), Ack::Pending);
    l2.switch(State::Held);
    let mut older = pin!(a.key("k").source_version(5).set(5_u32));
    // It drops first what is pending, and so does the replay.
    let (mut steps, mut drops) = (0, 0);
    while drops < 2 {
        assert!(poll!(&mut older).is_pending() && steps < 100, "{steps}");
        l2.admit(1);
        for _ in 0..5 {
            tokio::task::yield_now().await;
            assert!(poll!(&mut older).is_pending());
        }
        drops += usize::from(memory.get(b"tiered:k").await.unwrap().is_none());
        steps += 1;
    }
    let loader = |context: tiered::LoadContext| async move {
        context.source_version(7);
        Ok::<_, DbDown>(Some(7_u32))
    };
    let loaded = c.key("k").load(loader).await.unwrap();
    assert_eq!(loaded.outcome, Outcome::Load);
    assert_eq!(stored(&world.node(), "k").await, Some(7), "after {steps} steps");
    l2.switch(State::Up);
    l2.admit(1_000);
    assert_eq!(older.await.unwrap(), Ack::Superseded);
    assert_eq!(a.health().await.pending, 1, "B was not told");
    mute.is_mute(false);
    nothing_is_pending(&a).await;
    is_heard(&b, "k").await;
    assert_eq!(stored(&b, "k").await, Some(7));
}
