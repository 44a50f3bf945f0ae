//! Writers: what was loaded while the source was written is kept by nobody, however the writer ends.

use std::{
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::{FutureExt, poll};
use tiered::{
    Ack, Error, Key, LoaderPanicked, Outcome, Tiered,
    tiers::{
        Bus, BusPolled, LocalBus, LogName, Memcached, Memory, Moka, Redis, RemoteTier, TierError,
        protocol,
    },
};
use tiered_tiers::testing::{MemcachedServer, RedisServer};
use tokio::sync::{Mutex, oneshot};

use crate::support::{DbDown, Rig, SECOND, Source, State, eventually, node, rig, rig_with};

scenarios! {
    nobody_keeps_what_is_loaded_while_the_source_is_written,
    a_load_that_ends_after_the_writer_is_kept_by_nobody,
    a_load_of_another_schema_version_during_the_write_is_not_stored_either,
    of_two_writers_the_first_to_end_does_not_open_the_key,
    a_cache_without_a_server_keeps_nothing_meanwhile,
    a_change_is_announced_when_the_server_has_done_it,
    the_server_away_before_the_write,
    the_server_back_before_the_commit,
    an_answer_at_the_end_ends_the_waiting,
    the_server_away_after_the_write,
    a_hold_that_was_lost_is_no_excuse_for_the_old_value,
    a_write_that_fails_drops_the_key_and_opens_it,
    a_write_that_panics_leaves_the_key_held,
    a_writer_that_is_dropped_at_any_point_leaves_nothing_old,
    a_dropped_writer_in_a_cache_without_a_server_leaves_nothing_old,
    one_that_is_dropped_while_the_server_is_away_leaves_nothing_old,
    one_that_is_dropped_before_it_writes_opens_the_key,
    one_that_is_dropped_at_its_end_is_queued,
    several_keys_of_one_transaction,
    a_set_under_a_writer_stores_nothing,
    a_cache_that_is_switched_off_tells_the_others_all_the_same,
}

/// Reads through a cache, from the source if it must.
pub async fn read(cache: &Tiered, source: &Source) -> usize {
    *cache.get_or_load("k", || source.load()).await.unwrap()
}

/// The server, as many caches as are asked for, and whether they have a bus.
pub struct Stage {
    pub caches: Vec<Tiered>,
    what: &'static str,
    has_bus: bool,
    _servers: (Option<RedisServer>, Option<MemcachedServer>),
}

impl Stage {
    pub fn what(&self) -> &'static str {
        self.what
    }
}

/// Caches over each kind of L2, with and without a bus.
pub async fn stages(count: usize) -> Vec<Stage> {
    let over = |l2: Arc<dyn RemoteTier>, bus: Option<Arc<dyn Bus>>| {
        let caches = (0..count).map(|_| {
            let builder = Tiered::new(Moka::new(100), Arc::clone(&l2)).budget(5 * SECOND);
            match &bus {
                Some(bus) => builder.bus(Arc::clone(bus)).build().unwrap(),
                None => builder.build().unwrap(),
            }
        });
        caches.collect::<Vec<_>>()
    };
    let mut stages = Vec::new();
    for has_bus in [false, true] {
        let bus = has_bus.then(|| Arc::new(LocalBus::new()) as Arc<dyn Bus>);
        let caches = over(Arc::new(Memory::new()), bus);
        stages.push(Stage { caches, what: "memory", has_bus, _servers: (None, None) });
        let server = RedisServer::start().await.unwrap();
        let redis = Redis::new(&server.url()).unwrap().response_timeout(5 * SECOND);
        let bus = has_bus.then(|| Arc::new(redis.bus()) as Arc<dyn Bus>);
        let caches = over(Arc::new(redis), bus);
        stages.push(Stage { caches, what: "redis", has_bus, _servers: (Some(server), None) });
    }
    let server = MemcachedServer::start().await.unwrap();
    let caches = over(Arc::new(Memcached::new(&server.address()).unwrap()), None);
    let _servers = (None, Some(server));
    stages.push(Stage { caches, what: "memcached", has_bus: false, _servers });
    stages
}

async fn nobody_keeps_what_is_loaded_while_the_source_is_written() {
    for stage in stages(3).await {
        let (source, what) = (Source::default(), (stage.what, stage.has_bus));
        let [writer, reader, third] = &stage.caches[..] else { panic!("three") };
        source.put(1);
        // Without a bus L1 of another process may have it for a while.
        read(writer, &source).await;
        if stage.has_bus {
            read(reader, &source).await;
        }
        let write = || async {
            while reader.get::<usize>("k").await.unwrap().is_some() {
                assert!(stage.has_bus, "it never had it");
                // Until it has heard of it.
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            let asked = source.asked();
            for cache in &stage.caches {
                assert_eq!(read(cache, &source).await, 1, "not committed yet: {what:?}");
            }
            assert_eq!(source.asked(), asked + 3, "nobody has it any more: {what:?}");
            source.put(2);
            for cache in &stage.caches {
                assert_eq!(read(cache, &source).await, 2, "committed: {what:?}");
            }
            Ok::<_, DbDown>("rows")
        };
        let written = writer.invalidate_after("k", write).await.unwrap();
        assert_eq!((written.value, written.ack), ("rows", Ack::Done), "{what:?}");
        // What the bus says last may overtake the first reads: then they are not stored.
        let start = std::time::Instant::now();
        loop {
            let asked = source.asked();
            for cache in [reader, writer, third, reader] {
                assert_eq!(read(cache, &source).await, 2, "{what:?}");
            }
            if source.asked() == asked {
                break;
            }
            assert!(start.elapsed() < 20 * SECOND, "it is never cached again: {what:?}");
        }
    }
}

async fn a_load_that_ends_after_the_writer_is_kept_by_nobody() {
    for stage in stages(2).await {
        let what = (stage.what, stage.has_bus);
        let [writer, reader] = &stage.caches[..] else { panic!("two") };
        for loads in [writer, reader] {
            let source = Source::default();
            source.put(1);
            let (go, may_go) = oneshot::channel::<()>();
            let mut slow = None;
            let write = || async {
                let (begun, has_begun) = oneshot::channel();
                let (cache, old) = (loads.clone(), source.clone());
                slow = Some(tokio::spawn(async move {
                    let load = || async {
                        let old = old.load().await;
                        begun.send(()).unwrap();
                        may_go.await.unwrap();
                        old
                    };
                    *cache.get_or_load("k", load).await.unwrap()
                }));
                has_begun.await.unwrap();
                source.put(2);
                Ok::<_, DbDown>(())
            };
            let written = writer.invalidate_after("k", write).await.unwrap();
            assert_eq!(written.ack, Ack::Done);
            go.send(()).unwrap();
            assert_eq!(slow.unwrap().await.unwrap(), 1);
            for cache in [loads, writer, reader] {
                assert_eq!(read(cache, &source).await, 2, "{what:?}");
            }
            let _ = writer.invalidate("k").await.unwrap();
            let _ = reader.invalidate("k").await.unwrap();
        }
    }
}

async fn a_load_of_another_schema_version_during_the_write_is_not_stored_either() {
    let rig = rig();
    let other = node(&rig.l2, &rig.clock, |builder| builder);
    for schema in [0, 1] {
        let load = |value: u32| {
            other.key("k").schema(schema).load(move |_| async move { Ok::<_, DbDown>(Some(value)) })
        };
        let write = || async {
            load(1).await.unwrap();
            // The writer dies here, so to say: its hold has kept both slots empty.
            for wire in [&b"tiered:k"[..], b"tiered:k%beside"] {
                assert_eq!(rig.memory.get(wire).await.unwrap(), None, "schema {schema}");
            }
            Ok::<_, DbDown>(())
        };
        let _ = rig.cache.invalidate_after("k", write).await.unwrap();
        assert_eq!(load(2).await.unwrap().value.as_deref(), Some(&2));
    }
}

async fn of_two_writers_the_first_to_end_does_not_open_the_key() {
    for stage in stages(3).await {
        let [one, two, reader] = &stage.caches[..] else { panic!("three") };
        // The second is this process', too, or another's; and either ends first.
        for (second, first_ends_first) in [(two, true), (two, false), (one, true), (one, false)] {
            let source = Source::default();
            source.put(1);
            let write = |cache: &Tiered, value| {
                let (cache, source) = (cache.clone(), source.clone());
                let (begun, has_begun) = oneshot::channel::<()>();
                let (go, may_go) = oneshot::channel::<()>();
                let task = tokio::spawn(async move {
                    let write = || async {
                        begun.send(()).unwrap();
                        may_go.await.unwrap();
                        source.put(value);
                        Ok::<_, DbDown>(())
                    };
                    cache.invalidate_after("k", write).await.unwrap().ack
                });
                (task, go, has_begun)
            };
            let (first, go_first, begun) = write(one, 2);
            begun.await.unwrap();
            let (last, go_last, begun) = write(second, 3);
            begun.await.unwrap();
            let mut both = [(first, go_first), (last, go_last)];
            if !first_ends_first {
                both.reverse();
            }
            let [(ends, goes), (stays, goes_on)] = both;
            goes.send(()).unwrap();
            assert_eq!(ends.await.unwrap(), Ack::Done);
            let between = source.load().await.unwrap();
            for cache in &stage.caches {
                assert_eq!(read(cache, &source).await, between);
            }
            goes_on.send(()).unwrap();
            assert_eq!(stays.await.unwrap(), Ack::Done);
            for cache in [reader, one, two] {
                let now = if first_ends_first { 3 } else { 2 };
                assert_eq!(read(cache, &source).await, now, "{} {}", stage.what, stage.has_bus);
            }
            for cache in &stage.caches {
                let _ = cache.invalidate("k").await.unwrap();
            }
        }
    }
}

async fn a_cache_without_a_server_keeps_nothing_meanwhile() {
    let cache = Tiered::local(Moka::new(100)).build().unwrap();
    let (one, two) = (cache.clone(), cache.clone());
    let source = Source::default();
    source.put(1);
    let load = |cache: &Tiered<_>| {
        let (cache, source) = (cache.clone(), source.clone());
        async move { *cache.get_or_load("k", || source.load()).await.unwrap() }
    };
    assert_eq!(load(&cache).await, 1);
    let write = || async {
        assert_eq!(load(&one).await, 1);
        let inner = || async {
            source.put(2);
            Ok::<_, DbDown>(())
        };
        let _ = two.invalidate_after("k", inner).await.unwrap();
        assert_eq!(load(&one).await, 2);
        assert_eq!(one.set("k", 7_usize).await.unwrap(), Ack::Done);
        assert_eq!(one.get::<usize>("k").await.unwrap(), None, "the other writer holds it");
        source.put(3);
        Ok::<_, DbDown>(())
    };
    let _ = cache.invalidate_after("k", write).await.unwrap();
    let asked = source.asked();
    assert_eq!((load(&cache).await, load(&one).await), (3, 3));
    assert_eq!(source.asked(), asked + 1, "and it keeps again");
}

/// A bus that looks, at each announcement, what the server has then.
#[derive(Debug)]
struct Spy {
    bus: LocalBus,
    memory: Memory,
    seen: Mutex<Vec<bool>>,
}

#[async_trait]
impl Bus for Spy {
    fn name(&self) -> &'static str {
        "spy"
    }
    async fn append(&self, log: LogName<'_>, messages: &[Bytes]) -> Result<(), TierError> {
        let found = self.memory.get(b"tiered:k").await?;
        self.seen.lock().await.push(found.is_some());
        self.bus.append(log, messages).await
    }
    async fn open(&self, log: LogName<'_>) -> Result<BusPolled, TierError> {
        self.bus.open(log).await
    }
    async fn poll(
        &self,
        log: LogName<'_>,
        after: protocol::Position,
        wait: Duration,
    ) -> Result<BusPolled, TierError> {
        self.bus.poll(log, after, wait).await
    }
}

async fn a_change_is_announced_when_the_server_has_done_it() {
    let memory = Memory::new();
    let seen = Mutex::default();
    let spy = Arc::new(Spy { bus: LocalBus::new(), memory: memory.clone(), seen });
    let cache = Tiered::new(Moka::new(100), memory.clone()).bus(Arc::clone(&spy)).build().unwrap();
    let other = Tiered::remote(memory.clone()).build().unwrap();
    let _ = other.set("k", 1_u32).await.unwrap();
    let write = || async {
        assert_eq!(*spy.seen.lock().await, [false], "before the write");
        // A server that has lost the hold, and an old value since.
        memory.clear(b"", &|_| {}).await.unwrap();
        let _ = other.get_or_load("k", || async { Ok::<_, DbDown>(1_u32) }).await.unwrap();
        Ok::<_, DbDown>(())
    };
    let _ = cache.invalidate_after("k", write).await.unwrap();
    assert_eq!(*spy.seen.lock().await, [false, false], "after the write");
}

async fn replayed(cache: &Tiered) {
    let pending = || cache.health().now_or_never().is_some_and(|health| health.pending == 0);
    eventually("replayed", pending).await;
}

/// A rig whose server has the old value, 1, and another process over it.
async fn warm(source: &Source) -> (Rig, Tiered) {
    let rig = rig_with(|builder| builder.budget(SECOND / 10));
    source.put(1);
    let first = node(&rig.l2, &rig.clock, |builder| builder);
    let _ = first.set("k", 1_usize).await.unwrap();
    // Its own L1 has nothing.
    let other = node(&rig.l2, &rig.clock, |builder| builder);
    (rig, other)
}

async fn the_server_away_before_the_write() {
    for state in [State::Failing, State::Hanging] {
        let source = Source::default();
        let (rig, _) = warm(&source).await;
        assert_eq!(read(&rig.cache, &source).await, 1);
        rig.l2.switch(state);
        let write = || async {
            assert_eq!(rig.cache.health().await.pending, 1, "queued before it is written");
            assert_eq!(read(&rig.cache, &source).await, 1);
            source.put(2);
            assert_eq!(read(&rig.cache, &source).await, 2, "not kept here");
            Ok::<_, DbDown>(())
        };
        assert_eq!(rig.cache.invalidate_after("k", write).await.unwrap().ack, Ack::Pending);
        assert_eq!(read(&rig.cache, &source).await, 2);
        rig.l2.switch(State::Up);
        replayed(&rig.cache).await;
        let third = node(&rig.l2, &rig.clock, |builder| builder);
        assert_eq!(read(&third, &source).await, 2, "{state:?}");
    }
}

async fn the_server_back_before_the_commit() {
    let source = Source::default();
    let (rig, other) = warm(&source).await;
    rig.l2.switch(State::Failing);
    let write = || async {
        rig.l2.switch(State::Up);
        replayed(&rig.cache).await;
        // No hold stands there: others store what they load.
        assert_eq!(read(&other, &source).await, 1);
        source.put(2);
        Ok::<_, DbDown>(())
    };
    assert_eq!(rig.cache.invalidate_after("k", write).await.unwrap().ack, Ack::Done);
    assert_eq!(rig.cache.health().await.pending, 0);
    let third = node(&rig.l2, &rig.clock, |builder| builder);
    for cache in [&rig.cache, &third] {
        assert_eq!(read(cache, &source).await, 2);
    }
}

async fn an_answer_at_the_end_ends_the_waiting() {
    let source = Source::default();
    let (rig, _) = warm(&source).await;
    rig.l2.switch(State::Failing);
    let write = || async {
        rig.l2.switch(State::Up);
        Ok::<_, DbDown>(())
    };
    assert_eq!(rig.cache.invalidate_after("k", write).await.unwrap().ack, Ack::Done);
    assert_eq!(rig.cache.health().await.pending, 0);
}

async fn the_server_away_after_the_write() {
    for state in [State::Failing, State::Hanging] {
        let source = Source::default();
        let (rig, _) = warm(&source).await;
        let write = || async {
            source.put(2);
            rig.l2.switch(state);
            Ok::<_, DbDown>(())
        };
        assert_eq!(rig.cache.invalidate_after("k", write).await.unwrap().ack, Ack::Pending);
        assert_eq!(rig.cache.health().await.pending, 1);
        rig.l2.switch(State::Up);
        replayed(&rig.cache).await;
        let third = node(&rig.l2, &rig.clock, |builder| builder);
        for cache in [&rig.cache, &third] {
            assert_eq!(read(cache, &source).await, 2, "{state:?}");
        }
    }
}

/// Paused time, and the clock that goes with it: a write that takes twice its hold's life.
#[tokio::test(start_paused = true)]
async fn a_long_write_is_held_to_its_end() {
    let source = Source::default();
    let (rig, other) = warm(&source).await;
    let write = || async {
        for _ in 0..10 {
            tokio::time::sleep(2 * SECOND).await;
            rig.clock.advance(2 * SECOND);
        }
        assert_eq!(read(&other, &source).await, 1);
        assert_eq!(rig.memory.get(b"tiered:k").await.unwrap(), None, "nobody may store it");
        source.put(2);
        Ok::<_, DbDown>(())
    };
    let _ = rig.cache.invalidate_after("k", write).await.unwrap();
    assert_eq!(read(&other, &source).await, 2);
}

/// And one that never ends does not hold its key for ever.
#[tokio::test(start_paused = true)]
async fn a_write_that_hangs_is_given_up() {
    let source = Source::default();
    let (rig, other) = warm(&source).await;
    let hangs = rig.cache.invalidate_after("k", std::future::pending::<Result<(), DbDown>>);
    let reads = async {
        for _ in 0..200 {
            tokio::time::sleep(SECOND).await;
            rig.clock.advance(SECOND);
        }
        read(&other, &source).await;
        rig.memory.get(b"tiered:k").await.unwrap()
    };
    tokio::select! {
        _ = hangs => panic!("it hangs"),
        found = reads => assert!(found.is_some(), "the key is cached again"),
    }
}

async fn a_hold_that_was_lost_is_no_excuse_for_the_old_value() {
    let source = Source::default();
    let (rig, other) = warm(&source).await;
    let write = || async {
        // Its process stood still for longer than the hold.
        rig.clock.advance(11 * SECOND);
        assert_eq!(read(&other, &source).await, 1);
        assert!(rig.memory.get(b"tiered:k").await.unwrap().is_some(), "stored");
        source.put(2);
        Ok::<_, DbDown>(())
    };
    assert_eq!(rig.cache.invalidate_after("k", write).await.unwrap().ack, Ack::Done);
    let third = node(&rig.l2, &rig.clock, |builder| builder);
    assert_eq!(read(&third, &source).await, 2);
}

async fn a_write_that_fails_drops_the_key_and_opens_it() {
    let source = Source::default();
    let (rig, other) = warm(&source).await;
    let write = || async {
        // It was done, and its answer was lost.
        source.put(2);
        Err::<(), _>(DbDown)
    };
    let error = rig.cache.invalidate_after("k", write).await.unwrap_err();
    assert!(matches!(error, Error::Write(_)), "{error:?}");
    assert_eq!(error.loader_error(), Some(&DbDown));
    assert_eq!(read(&rig.cache, &source).await, 2);
    assert!(rig.memory.get(b"tiered:k").await.unwrap().is_some(), "it can be stored again");
    let kept = other.key("k").skip_l1().lookup::<usize>().await.unwrap();
    assert_eq!(kept.outcome, Outcome::HitL2);
}

async fn a_write_that_panics_leaves_the_key_held() {
    let source = Source::default();
    let (rig, other) = warm(&source).await;
    async fn write() -> Result<(), DbDown> {
        panic!("in the driver")
    }
    let error = rig.cache.invalidate_after("k", write).await.unwrap_err();
    assert_eq!(error.loader_error::<LoaderPanicked>().unwrap().message, "in the driver");
    replayed(&rig.cache).await;
    assert_eq!((read(&rig.cache, &source).await, read(&other, &source).await), (1, 1));
    // What it sent is committed yet.
    source.put(2);
    assert_eq!((read(&rig.cache, &source).await, read(&other, &source).await), (2, 2));
    rig.clock.advance(11 * SECOND);
    assert_eq!((read(&rig.cache, &source).await, read(&other, &source).await), (2, 2));
    assert!(rig.memory.get(b"tiered:k").await.unwrap().is_some(), "the hold has run out");
}

async fn a_writer_that_is_dropped_at_any_point_leaves_nothing_old() {
    let (mut polls, mut ended) = (0, false);
    while !ended {
        let source = Source::default();
        let (rig, other) = warm(&source).await;
        rig.l2.switch(State::Gated);
        let begun = AtomicBool::new(false);
        {
            let write = || async {
                begun.store(true, Ordering::SeqCst);
                tokio::task::yield_now().await;
                source.put(2);
                tokio::task::yield_now().await;
                Ok::<_, DbDown>(())
            };
            let mut writing = pin!(rig.cache.invalidate_after("k", write));
            for _ in 0..polls {
                ended = poll!(&mut writing).is_ready();
                rig.l2.admit(1);
                if ended {
                    break;
                }
            }
        }
        rig.l2.switch(State::Up);
        replayed(&rig.cache).await;
        let before = source.load().await.unwrap();
        for cache in [&rig.cache, &other] {
            assert_eq!(read(cache, &source).await, before, "after {polls} polls");
        }
        if begun.load(Ordering::SeqCst) && !ended && before == 1 {
            // What it sent is committed yet.
            source.put(2);
        }
        let now = source.load().await.unwrap();
        rig.clock.advance(11 * SECOND);
        let third = node(&rig.l2, &rig.clock, |builder| builder);
        for cache in [&third, &other, &rig.cache] {
            assert_eq!(read(cache, &source).await, now, "after {polls} polls");
        }
        polls += 1;
        assert!(polls < 100, "it never ends");
    }
    assert!(polls > 4, "it was dropped {polls} times");
}

async fn a_dropped_writer_in_a_cache_without_a_server_leaves_nothing_old() {
    let clock = tiered::tiers::Clock::manual();
    let cache = Tiered::local(Moka::new(100)).clock(clock.clone()).build().unwrap();
    let source = Source::default();
    source.put(1);
    {
        let never = std::future::pending::<Result<(), DbDown>>;
        let mut writing = pin!(cache.invalidate_after("k", never));
        assert!(poll!(&mut writing).is_pending());
    }
    let load = || async { *cache.get_or_load("k", || source.load()).await.unwrap() };
    assert_eq!(load().await, 1);
    source.put(2);
    assert_eq!(load().await, 2, "nothing is kept while it may be committed");
    clock.advance(11 * SECOND);
    let asked = source.asked();
    assert_eq!((load().await, load().await), (2, 2));
    assert_eq!(source.asked(), asked + 1);
}

async fn one_that_is_dropped_while_the_server_is_away_leaves_nothing_old() {
    let source = Source::default();
    let (rig, _) = warm(&source).await;
    rig.l2.switch(State::Failing);
    {
        let never = std::future::pending::<Result<(), DbDown>>;
        let mut writing = pin!(rig.cache.invalidate_after("k", never));
        assert!(poll!(&mut writing).is_pending());
    }
    rig.l2.switch(State::Up);
    replayed(&rig.cache).await;
    assert_eq!(read(&rig.cache, &source).await, 1);
    assert_eq!(rig.memory.get(b"tiered:k").await.unwrap(), None, "no hold stands but here");
    source.put(2);
    rig.clock.advance(11 * SECOND);
    assert_eq!(read(&rig.cache, &source).await, 2);
}

async fn one_that_is_dropped_before_it_writes_opens_the_key() {
    let source = Source::default();
    let (rig, _) = warm(&source).await;
    rig.l2.switch(State::Gated);
    {
        let never = || async { panic!("it is not written") as Result<(), DbDown> };
        let mut writing = pin!(rig.cache.invalidate_after("k", never));
        assert!(poll!(&mut writing).is_pending());
    }
    rig.l2.switch(State::Up);
    // The clock stands still: its hold does not run out.
    let start = std::time::Instant::now();
    loop {
        assert!(start.elapsed() < 20 * SECOND, "it stays on hold");
        let third = node(&rig.l2, &rig.clock, |builder| builder);
        assert_eq!(read(&third, &source).await, 1);
        if rig.memory.get(b"tiered:k").await.unwrap().is_some() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

async fn one_that_is_dropped_at_its_end_is_queued() {
    let source = Source::default();
    let (rig, other) = warm(&source).await;
    {
        let write = || async {
            // Its hold is lost, and others store what they load.
            rig.clock.advance(11 * SECOND);
            assert_eq!(read(&other, &source).await, 1);
            source.put(2);
            rig.l2.switch(State::Hanging);
            Ok::<_, DbDown>(())
        };
        let mut writing = pin!(rig.cache.invalidate_after("k", write));
        assert!(poll!(&mut writing).is_pending());
    }
    assert_eq!(rig.cache.health().await.pending, 1);
    assert_eq!(read(&rig.cache, &source).await, 2);
    rig.l2.switch(State::Up);
    replayed(&rig.cache).await;
    let third = node(&rig.l2, &rig.clock, |builder| builder);
    assert_eq!(read(&third, &source).await, 2);
}

async fn several_keys_of_one_transaction() {
    let rig = rig();
    let other = node(&rig.l2, &rig.clock, |builder| builder);
    for key in ["a", "b", "c"] {
        let _ = rig.cache.set(key, 1_u32).await.unwrap();
    }
    let load = |cache: &Tiered, key: &'static str| {
        let cache = cache.clone();
        async move { *cache.get_or_load(key, || async { Ok::<_, DbDown>(7_u32) }).await.unwrap() }
    };
    let write = || async {
        for key in ["a", "b"] {
            assert_eq!((load(&rig.cache, key).await, load(&other, key).await), (7, 7));
            let wire = format!("tiered:{key}");
            assert_eq!(rig.memory.get(wire.as_bytes()).await.unwrap(), None);
        }
        assert_eq!(load(&other, "c").await, 1);
        Ok::<_, DbDown>(3)
    };
    let written = rig.cache.keys(["a", "b", "a"]).invalidate_after(write).await.unwrap();
    assert_eq!((written.value, written.ack), (3, Ack::Done));
    for key in ["a", "b"] {
        assert_eq!(rig.cache.get::<u32>(key).await.unwrap(), None);
    }
    let never = || async { panic!("it is not written") as Result<(), DbDown> };
    let bad = Key::from("x".repeat(tiered::MAX_KEY_LEN + 1));
    let error = rig.cache.keys([Key::from("a"), bad]).invalidate_after(never).await.unwrap_err();
    assert!(matches!(error, Error::InvalidKey(_)));
    // One of them is not answered for.
    rig.l2.switch(State::Failing);
    let nothing = || async { Ok::<_, DbDown>(()) };
    assert_eq!(
        rig.cache.keys(["a", "b"]).invalidate_after(nothing).await.unwrap().ack,
        Ack::Pending
    );
    assert_eq!(rig.cache.health().await.pending, 2);
}

async fn a_set_under_a_writer_stores_nothing() {
    for stage in stages(2).await {
        let [writer, other] = &stage.caches[..] else { panic!("two") };
        for sets in [writer, other] {
            let write = || async {
                assert_eq!(sets.set("k", 1_usize).await.unwrap(), Ack::Done);
                for cache in [writer, other] {
                    assert_eq!(cache.get::<usize>("k").await.unwrap(), None, "{}", stage.what);
                }
                Ok::<_, DbDown>(())
            };
            let _ = writer.invalidate_after("k", write).await.unwrap();
        }
    }
}

async fn a_cache_that_is_switched_off_tells_the_others_all_the_same() {
    let source = Source::default();
    let (rig, other) = warm(&source).await;
    rig.cache.set_enabled(false);
    let write = || async {
        assert_eq!(rig.memory.get(b"tiered:k").await.unwrap(), None);
        source.put(2);
        Ok::<_, DbDown>(())
    };
    let _ = rig.cache.invalidate_after("k", write).await.unwrap();
    let _ =
        rig.cache.key("k").write_through(3_usize, |_| async { Ok::<_, DbDown>(()) }).await.unwrap();
    assert_eq!(rig.memory.get(b"tiered:k").await.unwrap(), None);
    rig.clock.advance(11 * SECOND);
    assert_eq!(read(&other, &source).await, 2);
}

#[test]
fn a_hold_that_cannot_work_is_refused_when_the_cache_is_built() {
    for (hold_for, is_ok) in [(SECOND / 100, false), (SECOND, true), (7_200 * SECOND, false)] {
        let built = Tiered::remote(Memory::new()).hold_for(hold_for).build();
        assert_eq!(built.is_ok(), is_ok, "{hold_for:?}");
    }
}
