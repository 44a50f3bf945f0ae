//! A `set` that is dropped at each of its steps, over real servers: what is left is the old value, the new one, or none;
//! what is invalidated then stays so; and nobody waits for whom it was.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use tiered::{
    Ack, Outcome, Tiered,
    tiers::{Bus, LocalBus, Memcached, Memory, Moka, Redis, RemoteTier},
};
use tiered_tiers::testing::{MemcachedServer, RedisServer};

use crate::support::{DbDown, SECOND, eventually, proven};

/// A future that is dropped when it was polled so often: at once, or when it could go on.
struct Limited<F> {
    future: Option<Pin<Box<F>>>,
    left: usize,
    is_late: bool,
}

impl<F: Future> Future for Limited<F> {
    /// `None` if it was dropped.
    type Output = Option<F::Output>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        if self.left > 0 {
            self.left -= 1;
            let Some(future) = &mut self.future else { return Poll::Ready(None) };
            if let Poll::Ready(output) = future.as_mut().poll(context) {
                return Poll::Ready(Some(output));
            }
            if self.left > 0 || self.is_late {
                return Poll::Pending;
            }
        }
        self.future = None;
        Poll::Ready(None)
    }
}

#[derive(Clone, Copy, Debug)]
enum Call {
    Set,
    Tagged,
    PastL1,
    PastL2,
    Versioned,
    Many,
    ManyTagged,
}

impl Call {
    const ALL: [Self; 7] = [
        Self::Set,
        Self::Tagged,
        Self::PastL1,
        Self::PastL2,
        Self::Versioned,
        Self::Many,
        Self::ManyTagged,
    ];

    async fn make(self, cache: &Tiered, key: &str) -> Ack {
        let request = cache.key(key);
        let tag = [format!("of {key}")];
        let acks = match self {
            Self::Set => return request.set(2_u32).await.unwrap(),
            Self::Tagged => return request.tags(tag).set(2_u32).await.unwrap(),
            Self::PastL1 => return request.skip_l1().set(2_u32).await.unwrap(),
            Self::PastL2 => return request.skip_l2().set(2_u32).await.unwrap(),
            Self::Versioned => return request.source_version(2).set(2_u32).await.unwrap(),
            Self::Many => cache.keys([key, "j"]).set(vec![2_u32, 2]).await,
            Self::ManyTagged => cache.keys([key, "j"]).tags(tag).set(vec![2_u32, 2]).await,
        };
        acks.into_iter().next().unwrap().unwrap()
    }
}

/// What follows.
#[derive(Clone, Copy, Debug)]
enum Then {
    Nothing,
    Invalidated,
    InvalidatedElsewhere,
}

struct Stage {
    what: &'static str,
    a: Tiered,
    b: Tiered,
    has_bus: bool,
    keys: AtomicUsize,
    _servers: (Option<RedisServer>, Option<MemcachedServer>),
}

impl Stage {
    fn new(what: &'static str, l2: Arc<dyn RemoteTier>, bus: Option<Arc<dyn Bus>>) -> Self {
        let node = || {
            let builder = Tiered::new(Moka::new(10_000), Arc::clone(&l2));
            let builder = builder.budget(5 * SECOND).lease_for(SECOND).fresh_for(600 * SECOND);
            match &bus {
                Some(bus) => builder.bus(Arc::clone(bus)).build().unwrap(),
                None => builder.build().unwrap(),
            }
        };
        let has_bus = bus.is_some();
        let (a, b, keys) = (node(), node(), AtomicUsize::new(0));
        Self { what, a, b, has_bus, keys, _servers: (None, None) }
    }

    fn with(mut self, redis: Option<RedisServer>, memcached: Option<MemcachedServer>) -> Self {
        self._servers = (redis, memcached);
        self
    }
}

async fn redis() -> (RedisServer, Redis) {
    let server = RedisServer::start().await.unwrap();
    let tier = Redis::new(&server.url()).unwrap().response_timeout(5 * SECOND);
    (server, tier)
}

async fn memcached() -> (MemcachedServer, Memcached) {
    let server = MemcachedServer::start().await.unwrap();
    let tier = Memcached::new(&server.address()).unwrap();
    (server, tier)
}

async fn shared(cache: &Tiered, key: &str) -> Option<u32> {
    cache.key(key).skip_l1().get::<u32>().await.unwrap().map(|value| *value)
}

/// Whether it had come to its end.
async fn drops(stage: &Stage, call: Call, polls: usize, is_late: bool, then: Then) -> bool {
    let Stage { a, b, .. } = stage;
    let key = format!("k{}", stage.keys.fetch_add(1, Ordering::Relaxed));
    let at = format!("{}: {call:?}, {polls} polls, late: {is_late}, {then:?}", stage.what);
    for cache in [b, a] {
        let old = cache.get_or_load(&*key, || async { Ok::<_, DbDown>(1_u32) });
        assert_eq!(*old.await.unwrap(), 1);
    }
    let future = Some(Box::pin(call.make(a, &key)));
    let ended = Limited { future, left: polls, is_late }.await;
    if let Some(ack) = ended {
        assert_eq!(ack, Ack::Done, "{at}");
    }
    match then {
        Then::Nothing => {}
        Then::Invalidated => assert_eq!(a.invalidate(&*key).await.unwrap(), Ack::Done, "{at}"),
        Then::InvalidatedElsewhere => {
            assert_eq!(b.invalidate(&*key).await.unwrap(), Ack::Done, "{at}");
        }
    }
    let is_invalidated = !matches!(then, Then::Nothing);
    // Of what is found at once nothing may be older than that; nor later, when all that is on its way has come.
    for _ in 0..2 {
        let found = shared(b, &key).await;
        assert!(found.is_none() || !is_invalidated, "{found:?}: {at}");
        if let Then::Invalidated = then {
            assert_eq!(a.get::<u32>(&*key).await.unwrap(), None, "{at}");
        }
        eventually("nothing is pending", || format!("{a:?}").contains("pending: 0")).await;
        // A real wait: what was sent by a future that was dropped comes when it comes.
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    let found = shared(b, &key).await;
    let begun = polls > 0 && !matches!(call, Call::Versioned);
    match found {
        Some(1) => assert!(!begun && !is_invalidated, "the old value: {at}"),
        Some(2) => assert!(polls > 0 && !is_invalidated, "{at}"),
        Some(other) => panic!("{other}: {at}"),
        None => {}
    }
    if stage.has_bus && found != Some(1) {
        let start = std::time::Instant::now();
        while b.key(&*key).skip_l2().get::<u32>().await.unwrap().is_some_and(|value| *value == 1) {
            assert!(start.elapsed() < 20 * SECOND, "B was never told: {at}");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
    if found.is_none() {
        // What is loaded now is stored: no lease is left. But one whose command came later than its end, for its time.
        let start = std::time::Instant::now();
        loop {
            let load = |_| async { Ok::<_, DbDown>(Some(3_u32)) };
            let loaded = b.key(&*key).skip_l1().load(load).await.unwrap();
            assert!(matches!(loaded.outcome, Outcome::Load | Outcome::HitL2), "{at}");
            assert_eq!(loaded.value.as_deref(), Some(&3), "{at}");
            if shared(a, &key).await == Some(3) {
                break;
            }
            assert!(start.elapsed() < 20 * SECOND, "it is never stored again: {at}");
        }
        assert!(start.elapsed() < 5 * SECOND, "{:?}: {at}", start.elapsed());
    }
    ended.is_some()
}

async fn a_set_is_dropped_everywhere(stage: Stage) {
    if stage.has_bus {
        for cache in [&stage.a, &stage.b] {
            let _ = cache.key("nothing").lookup::<u32>().await;
            let start = std::time::Instant::now();
            while proven(cache).await.is_none() {
                assert!(start.elapsed() < 20 * SECOND, "the bus does not prove it");
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
    }
    for call in Call::ALL {
        for then in [Then::Nothing, Then::Invalidated, Then::InvalidatedElsewhere] {
            for is_late in [false, true] {
                let mut polls = 0;
                while !drops(&stage, call, polls, is_late, then).await {
                    polls += 1;
                    assert!(polls < 100, "{call:?} never ends");
                }
                assert!(polls >= 1, "{call:?} ends after {polls} polls: nothing was tried");
            }
        }
    }
}

#[tokio::test]
async fn a_set_is_dropped_at_each_step_over_redis() {
    let (server, redis) = redis().await;
    a_set_is_dropped_everywhere(
        Stage::new("redis", Arc::new(redis), None).with(Some(server), None),
    )
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_set_is_dropped_at_each_step_over_redis_with_a_bus() {
    let (server, redis) = redis().await;
    let bus = Arc::new(redis.bus());
    let stage = Stage::new("redis and a bus", Arc::new(redis), Some(bus));
    a_set_is_dropped_everywhere(stage.with(Some(server), None)).await;
}

#[tokio::test]
async fn a_set_is_dropped_at_each_step_over_memcached() {
    let (server, memcached) = memcached().await;
    let stage = Stage::new("memcached", Arc::new(memcached), None);
    a_set_is_dropped_everywhere(stage.with(None, Some(server))).await;
}

#[tokio::test]
async fn a_set_is_dropped_at_each_step_over_two_servers() {
    let ((near_server, near), (far_server, far)) = (memcached().await, redis().await);
    let stage = Stage::new("memcached, redis and a bus", Arc::new(near.then(far)), {
        Some(Arc::new(LocalBus::new()))
    });
    a_set_is_dropped_everywhere(stage.with(Some(far_server), Some(near_server))).await;
}

#[tokio::test]
async fn a_set_is_dropped_at_each_step_over_a_copy_in_the_process() {
    let (server, far) = redis().await;
    let stage = Stage::new("memory and redis", Arc::new(Memory::new().then(far)), None);
    a_set_is_dropped_everywhere(stage.with(Some(server), None)).await;
}
