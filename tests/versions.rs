//! Entries of one version in two slots, and values whose two forms differ: what must not be hidden,
//! misread or refused.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tiered::{
    Ack, CacheStrategy, Jitter, Outcome, Tiered,
    tiers::{
        Claim, Fill, Found, HoldEnd, Lease, LeaseToken, Memory, Moka, Progress, RemoteTier,
        TierError,
    },
};

use tokio::sync::Semaphore;

use crate::support::{DbDown, Rig, SECOND, Source, node, rig};

scenarios! {
    a_bypass_beside_is_not_hidden_by_an_older_entry_of_its_own_version,
    an_absence_beside_is_not_hidden_by_a_stale_entry,
    a_refreshed_value_is_not_followed_by_the_stale_one,
    a_value_beside_is_not_hidden_by_a_remembered_absence,
    a_damaged_entry_does_not_stick,
    a_form_is_not_proven_by_its_namesake,
    an_encode_error_shows_no_value,
    loads_in_half_a_deployment_with_stale_values_and_absences,
    a_tuple_read_through_a_buffer_is_stored,
    an_upgrade_is_not_made_from_what_a_bypass_replaced,
    what_was_set_beside_is_found_by_every_process_of_that_version,
    contains_sees_what_is_beside,
    a_writer_that_never_reads_costs_no_third_load,
    a_set_by_a_writer_that_never_reads_costs_one_load,
    a_deployment_that_begins_to_seal_does_not_fight,
    a_damaged_entry_is_counted_once,
    overlapping_sets_of_two_versions_leave_one_value_at_most,
    a_bypass_of_one_version_drops_the_others_absent_row,
}

/// Where the first version's entry of `k` lies.
const HOME: &[u8] = b"tiered:k%beside";

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct V1 {
    count: u32,
}
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct V2 {
    total: u64,
}

async fn v1(cache: &Tiered, key: &str, source: &Source) -> u32 {
    let load = || async { source.load().await.map(|n| V1 { count: n as u32 }) };
    cache.key(key).schema(1).get_or_load(load).await.unwrap().count
}
async fn v2(cache: &Tiered, key: &str, source: &Source) -> u64 {
    let load = || async { source.load().await.map(|n| V2 { total: n as u64 }) };
    cache.key(key).schema(2).get_or_load(load).await.unwrap().total
}

/// A key `k` that the first version has stored, and a cache of the first version that shares another
/// key with the second.
async fn met(stale: Duration) -> (Rig, Source, Tiered) {
    let (rig, source) = (rig(), Source::default());
    let old = node(&rig.l2, &rig.clock, |builder| builder.stale_for(stale));
    v1(&old, "k", &source).await;
    v2(&rig.cache, "x", &source).await;
    let met = node(&rig.l2, &rig.clock, |builder| builder.stale_for(stale));
    v1(&met, "x", &source).await;
    (rig, source, met)
}

async fn a_bypass_beside_is_not_hidden_by_an_older_entry_of_its_own_version() {
    let (rig, source, met) = met(Duration::ZERO).await;
    source.put(1);
    let load = || async { source.load().await.map(|n| V1 { count: n as u32 }) };
    let request = met.key("k").schema(1).strategy(CacheStrategy::Bypass);
    assert_eq!(request.get_or_load(load).await.unwrap().count, 1);
    assert_eq!(v1(&met, "k", &source).await, 1);
    rig.clock.advance(11 * SECOND);
    assert_eq!(v1(&met, "k", &source).await, 1, "the same process, when its L1 asks again");
    let third = node(&rig.l2, &rig.clock, |builder| builder);
    assert_eq!(v1(&third, "k", &source).await, 1, "another process");
}

async fn an_absence_beside_is_not_hidden_by_a_stale_entry() {
    let (rig, _, met) = met(3600 * SECOND).await;
    rig.clock.advance(70 * SECOND);
    let none = || async { Ok::<_, DbDown>(None::<V1>) };
    let gone = met.key("k").schema(1).get_or_load_opt(none).await.unwrap();
    assert_eq!(gone, None, "the row is gone");
    let third = node(&rig.l2, &rig.clock, |builder| builder.stale_for(3600 * SECOND));
    let answer = third.key("k").schema(1).load_detached(move |_| none()).await.unwrap();
    assert_eq!((answer.value, answer.outcome), (None, Outcome::Negative));
}

async fn a_refreshed_value_is_not_followed_by_the_stale_one() {
    let (rig, source, met) = met(3600 * SECOND).await;
    rig.clock.advance(70 * SECOND);
    source.put(1);
    assert_eq!(v1(&met, "k", &source).await, 1, "loaded anew");
    let third = node(&rig.l2, &rig.clock, |builder| builder.stale_for(3600 * SECOND));
    let found = third.key("k").schema(1).lookup::<V1>().await.unwrap();
    assert_eq!(found.outcome, Outcome::HitL2, "a fresh one is stored beside");
    let source2 = source.clone();
    let load = move |_| async move { source2.load().await.map(|n| Some(V1 { count: n as u32 })) };
    let fourth = node(&rig.l2, &rig.clock, |builder| builder.stale_for(3600 * SECOND));
    let answer = fourth.key("k").schema(1).load_detached(load).await.unwrap();
    assert_eq!(answer.value.unwrap().count, 1);
}

async fn a_value_beside_is_not_hidden_by_a_remembered_absence() {
    let (rig, source, met) = met(Duration::ZERO).await;
    let old = node(&rig.l2, &rig.clock, |builder| builder);
    let none = || async { Ok::<_, DbDown>(None::<V1>) };
    assert_eq!(old.key("n").schema(1).get_or_load_opt(none).await.unwrap(), None);
    assert_eq!(v1(&met, "n", &source).await, 0, "the row is there now");
    let third = node(&rig.l2, &rig.clock, |builder| builder);
    let found = third.key("n").schema(1).lookup::<V1>().await.unwrap();
    assert_eq!(found.outcome, Outcome::HitL2);
}

async fn a_damaged_entry_does_not_stick() {
    let (rig, source, met) = met(Duration::ZERO).await;
    let damaged = Bytes::from(vec![7; 100]);
    rig.memory.set(HOME, damaged.clone(), 3600 * SECOND).await.unwrap();
    v1(&met, "k", &source).await;
    for _ in 0..5 {
        rig.clock.advance(11 * SECOND);
        v1(&met, "k", &source).await;
    }
    let found = rig.memory.get(HOME).await.unwrap();
    let stuck = found.is_some_and(|found| found.bytes == damaged);
    assert!(!stuck, "still there after six reads; {} refusals", met.stats().decode_failures);
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum Good {
    Other,
    On,
}
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum Bad {
    #[serde(skip_deserializing)]
    #[allow(dead_code)]
    Legacy,
    On,
    Off,
}
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Both {
    good: Good,
    bad: Option<Bad>,
}

async fn a_form_is_not_proven_by_its_namesake() {
    let rig = rig();
    let _ = rig.cache.set("a", Both { good: Good::On, bad: None }).await.unwrap();
    let value = Both { good: Good::On, bad: Some(Bad::On) };
    let set = rig.cache.set("b", value.clone()).await;
    let third = node(&rig.l2, &rig.clock, |builder| builder);
    let found = third.get::<Both>("b").await.unwrap();
    assert!(set.is_err() || found.as_deref() == Some(&value), "{value:?} came back as {found:?}");
}

async fn an_encode_error_shows_no_value() {
    #[derive(Clone, Debug, Serialize, Deserialize)]
    struct Login {
        #[serde(deserialize_with = "number")]
        password: String,
    }
    fn number<'de, D: serde::Deserializer<'de>>(from: D) -> Result<String, D::Error> {
        u32::deserialize(from).map(|number| number.to_string())
    }
    let key = tiered::SealKey::new(1, *b"a key that is 32 bytes of ascii!");
    let codec = tiered::Sealed::new(tiered::Json, key);
    let cache = Tiered::new(Moka::new(10), Memory::new()).codec(codec).build().unwrap();
    let error = cache.set("k", Login { password: "hunter2".into() }).await.unwrap_err();
    let mut text = format!("{error} {error:?}");
    let mut source = std::error::Error::source(&error);
    while let Some(error) = source {
        text.push_str(&error.to_string());
        source = error.source();
    }
    assert!(!text.contains("hunter2"), "{text}");
}

/// Detached readers of values that go stale, and of absences.
async fn stale_loads(others: usize, some: bool) -> usize {
    let (rig, source) = (rig(), Source::default());
    let nodes: Vec<Tiered> = (0..6)
        .map(|_| {
            node(&rig.l2, &rig.clock, |builder| {
                builder.fresh_for(100 * SECOND).stale_for(1000 * SECOND)
            })
        })
        .collect();
    for round in 0..100_usize {
        for (at, cache) in nodes.iter().enumerate() {
            for key in 0..5 {
                let source = source.clone();
                if at < others {
                    let load = move |_| async move {
                        source.load().await.map(|n| some.then_some(V2 { total: n as u64 }))
                    };
                    cache.key(key).schema(2).load_detached(load).await.unwrap();
                } else {
                    let load = move |_| async move {
                        source.load().await.map(|n| some.then_some(V1 { count: n as u32 }))
                    };
                    cache.key(key).schema(1).load_detached(load).await.unwrap();
                }
                // What runs behind is stored before the next one reads.
                cache.shutdown().await;
            }
        }
        let _ = nodes[round % 6].invalidate(round % 5).await.unwrap();
        rig.clock.advance(12 * SECOND);
    }
    source.asked()
}

async fn loads_in_half_a_deployment_with_stale_values_and_absences() {
    for some in [true, false] {
        let steady = stale_loads(0, some).await;
        for others in [1, 3, 5] {
            let mixed = stale_loads(others, some).await;
            println!("{some} {others}: {mixed} of {steady}");
            assert!(mixed <= 2 * steady, "{mixed} loads instead of {steady}, {others} {some}");
        }
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum Move {
    Two(u8, u8),
    Three(u8, u8, u8),
}
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind")]
enum Event {
    Moved { by: Move },
}
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Game {
    last: Move,
    event: Event,
}

async fn a_tuple_read_through_a_buffer_is_stored() {
    let cache = Tiered::new(Moka::new(10), Memory::new()).codec(tiered::Json).build().unwrap();
    let event = Event::Moved { by: Move::Three(1, 2, 3) };
    let game = Game { last: Move::Two(1, 2), event };
    let text = serde_json::to_string(&game).unwrap();
    assert_eq!(serde_json::from_str::<Game>(&text).unwrap(), game, "it comes back");
    assert_eq!(cache.set("k", game).await.unwrap(), Ack::Done);
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct New(u64);
impl tiered::CacheEntity for New {
    type Key = u32;
    const SCHEMA_VERSION: u32 = 2;
    fn cache_key(&self) -> u32 {
        1
    }
    fn cache_prefix() -> &'static str {
        "n"
    }
    fn upgrade<D: tiered::OldValue>(_: u32, old: D) -> Option<Self> {
        old.read::<V1>().map(|old| Self(old.count.into()))
    }
}
struct Db(Source);
impl tiered::DataRepository<New> for Db {
    type Error = std::io::Error;
    async fn fetch_by_id(&self, _: &u32) -> Result<Option<New>, std::io::Error> {
        self.0.load().await.map(|n| Some(New(n as u64)))
    }
}

async fn an_upgrade_is_not_made_from_what_a_bypass_replaced() {
    let (rig, source) = (rig(), Source::default());
    let (old, met) = (
        node(&rig.l2, &rig.clock, |builder| builder),
        node(&rig.l2, &rig.clock, |builder| builder),
    );
    v1(&old, "n:1", &source).await;
    v2(&rig.cache, "x", &source).await;
    v1(&met, "x", &source).await;
    source.put(1);
    let load = || async { source.load().await.map(|n| V1 { count: n as u32 }) };
    let request = met.key("n:1").schema(1).strategy(CacheStrategy::Bypass);
    assert_eq!(request.get_or_load(load).await.unwrap().count, 1);
    let new = node(&rig.l2, &rig.clock, |builder| builder);
    let answer = new.repository(Arc::new(Db(source.clone())));
    let answer = answer.read::<New>(&1, CacheStrategy::Refresh).await.unwrap();
    assert_eq!(answer.value.as_deref(), Some(&New(1)), "{:?}", answer.outcome);
}

async fn what_was_set_beside_is_found_by_every_process_of_that_version() {
    let (rig, _, met) = met(Duration::ZERO).await;
    let ack = met.key("session").schema(1).set(V1 { count: 5 }).await.unwrap();
    assert_eq!(ack, Ack::Done);
    let other = node(&rig.l2, &rig.clock, |builder| builder);
    let found = other.key("session").schema(1).get::<V1>().await.unwrap();
    assert_eq!(found.as_deref(), Some(&V1 { count: 5 }));
}

async fn contains_sees_what_is_beside() {
    let (rig, _, met) = met(Duration::ZERO).await;
    let _ = met.key("session").schema(1).set(V1 { count: 5 }).await.unwrap();
    assert!(met.contains("session").await.unwrap(), "out of L1");
    rig.clock.advance(11 * SECOND);
    assert!(met.contains("session").await.unwrap(), "out of L2");
}

async fn writes(second: bool) -> usize {
    let (rig, source) = (rig(), Source::default());
    let open = || node(&rig.l2, &rig.clock, |builder| builder.jitter(Jitter::none()));
    let (writer, readers) = (open(), [open(), open(), open(), open()]);
    for round in 0..50 {
        source.put(round);
        let load = || async { source.load().await.map(|n| V1 { count: n as u32 }) };
        let request = writer.key("k").schema(1).strategy(CacheStrategy::Invalidate);
        request.get_or_load(load).await.unwrap();
        rig.clock.advance(11 * SECOND);
        for (at, reader) in readers.iter().enumerate() {
            if second && at % 2 == 0 {
                assert_eq!(v2(reader, "k", &source).await as usize, round);
            } else {
                assert_eq!(v1(reader, "k", &source).await as usize, round);
            }
        }
        rig.clock.advance(11 * SECOND);
    }
    source.asked()
}

async fn a_writer_that_never_reads_costs_no_third_load() {
    let (steady, mixed) = (writes(false).await, writes(true).await);
    assert!(mixed <= 2 * steady, "{mixed} loads instead of {steady}");
}

/// Loads of a plain process of schema version 1, and of one that seals under `schema`.
async fn sealing_loads(schema: u32) -> usize {
    let clock = tiered::tiers::Clock::manual();
    let (memory, source) = (Memory::new().clock(clock.clone()), Source::default());
    let key = tiered::SealKey::new(1, *b"a key that is 32 bytes of ascii!");
    let seal = tiered::Sealed::new(tiered::Postcard, key).accept_unsealed();
    let open =
        || Tiered::new(Moka::new(100), memory.clone()).clock(clock.clone()).jitter(Jitter::none());
    let (plain, sealed) = (open().build().unwrap(), open().codec(seal).build().unwrap());
    for _ in 0..20 {
        v1(&plain, "k", &source).await;
        let load = || async { source.load().await.map(|n| V1 { count: n as u32 }) };
        sealed.key("k").schema(schema).get_or_load(load).await.unwrap();
        clock.advance(11 * SECOND);
    }
    source.asked()
}

async fn a_deployment_that_begins_to_seal_does_not_fight() {
    assert_eq!(sealing_loads(1).await, 1, "what the plain one writes, both read");
    assert_eq!(sealing_loads(2).await, 2, "each has its own");
    assert_eq!(sealing_loads(3).await, 3, "the newer one replaces the plain one's once");
}

async fn a_set_by_a_writer_that_never_reads_costs_one_load() {
    let (rig, source) = (rig(), Source::default());
    let open = || node(&rig.l2, &rig.clock, |builder| builder.jitter(Jitter::none()));
    let (writer, old, new) = (open(), open(), open());
    for round in 0..50 {
        source.put(round);
        let _ = writer.key("k").schema(1).set(V1 { count: round as u32 }).await.unwrap();
        rig.clock.advance(11 * SECOND);
        v2(&new, "k", &source).await;
        v1(&old, "k", &source).await;
        rig.clock.advance(11 * SECOND);
    }
    let asked = source.asked();
    assert!(asked <= 50, "{asked} loads for 50 writes of the very value");
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Undeclared {
    counted: u16,
}

async fn a_damaged_entry_is_counted_once() {
    let (rig, source) = (rig(), Source::default());
    v1(&rig.cache, "k", &source).await;
    rig.memory.set(b"tiered:k", Bytes::from(vec![7; 100]), 3600 * SECOND).await.unwrap();
    let new = node(&rig.l2, &rig.clock, |builder| builder);
    let load = || async { source.load().await.map(|n| Undeclared { counted: n as u16 }) };
    new.key("k").schema(1).get_or_load(load).await.unwrap();
    assert_eq!(new.stats().decode_failures, 2, "its home is taken, and the other slot is damaged");
    let third = node(&rig.l2, &rig.clock, |builder| builder);
    let found = third.key("k").schema(1).lookup::<Undeclared>().await.unwrap();
    assert_eq!(found.outcome, Outcome::HitL2);
}

/// `set` on a second slot says that it has come, and waits.
#[derive(Clone, Debug)]
struct SlowBeside(Memory, Arc<Semaphore>, Arc<Semaphore>);

#[async_trait]
impl RemoteTier for SlowBeside {
    fn name(&self) -> &'static str {
        "slow"
    }
    async fn get(&self, key: &[u8]) -> Result<Option<Found>, TierError> {
        self.0.get(key).await
    }
    async fn lease(
        &self,
        key: &[u8],
        token: LeaseToken,
        life: Duration,
        claim: Claim,
    ) -> Result<Lease, TierError> {
        self.0.lease(key, token, life, claim).await
    }
    async fn fill(
        &self,
        key: &[u8],
        token: LeaseToken,
        bytes: Bytes,
        life: Duration,
    ) -> Result<Fill, TierError> {
        self.0.fill(key, token, bytes, life).await
    }
    async fn release(&self, key: &[u8], token: LeaseToken) -> Result<(), TierError> {
        self.0.release(key, token).await
    }
    async fn renew(
        &self,
        key: &[u8],
        token: LeaseToken,
        life: Duration,
    ) -> Result<bool, TierError> {
        self.0.renew(key, token, life).await
    }
    async fn hold(&self, key: &[u8], token: LeaseToken, life: Duration) -> Result<(), TierError> {
        self.0.hold(key, token, life).await
    }
    async fn renew_hold(
        &self,
        key: &[u8],
        token: LeaseToken,
        life: Duration,
    ) -> Result<bool, TierError> {
        self.0.renew_hold(key, token, life).await
    }
    async fn end_hold(
        &self,
        key: &[u8],
        token: LeaseToken,
        lease: Option<(LeaseToken, Duration)>,
    ) -> Result<HoldEnd, TierError> {
        self.0.end_hold(key, token, lease).await
    }
    async fn set(&self, key: &[u8], bytes: Bytes, life: Duration) -> Result<Fill, TierError> {
        if key.ends_with(b"%beside") {
            self.2.add_permits(1);
            self.1.acquire().await.unwrap().forget();
        }
        self.0.set(key, bytes, life).await
    }
    async fn delete(&self, key: &[u8]) -> Result<(), TierError> {
        self.0.delete(key).await
    }
    async fn clear(&self, prefix: &[u8], progress: Progress<'_>) -> Result<(), TierError> {
        self.0.clear(prefix, progress).await
    }
    async fn ping(&self) -> Result<(), TierError> {
        Ok(())
    }
}

async fn overlapping_sets_of_two_versions_leave_one_value_at_most() {
    let slow = SlowBeside(Memory::new(), Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(0)));
    let open = || Tiered::new(Moka::new(100), slow.clone()).budget(10 * SECOND).build().unwrap();
    let (first, second, source) = (open(), open(), Source::default());
    v2(&second, "k", &source).await;
    v1(&first, "k", &source).await;
    // 1. The first version's store is on its way.
    let task = tokio::spawn({
        let first = first.clone();
        async move { first.key("k").schema(1).set(V1 { count: 1 }).await.unwrap() }
    });
    slow.2.acquire().await.unwrap().forget();
    // 2. The second version's set comes and goes.
    assert_eq!(second.key("k").schema(2).set(V2 { total: 2 }).await.unwrap(), Ack::Done);
    // 3. It arrives.
    slow.1.add_permits(1);
    assert_eq!(task.await.unwrap(), Ack::Done);
    let (one, two) = (open(), open());
    let old = one.key("k").schema(1).skip_l1();
    let old = old.get::<V1>().await.unwrap().map(|value| u64::from(value.count));
    let new = two.key("k").schema(2).get::<V2>().await.unwrap().map(|value| value.total);
    assert!(old.is_none() || new.is_none() || old == new, "{old:?} and {new:?}");
}

async fn a_bypass_of_one_version_drops_the_others_absent_row() {
    let (rig, source) = (rig(), Source::default());
    v2(&rig.cache, "k", &source).await;
    v1(&rig.cache, "k", &source).await;
    let none = || async { Ok::<_, DbDown>(None::<V2>) };
    let request = rig.cache.key("k").schema(2).strategy(CacheStrategy::Bypass);
    assert_eq!(request.get_or_load_opt(none).await.unwrap(), None);
    let third = node(&rig.l2, &rig.clock, |builder| builder);
    let found = third.key("k").schema(1).get::<V1>().await.unwrap();
    assert_eq!(found, None, "None replaces whatever the cache held, under every strategy");
}
