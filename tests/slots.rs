//! A key's two slots: what lies in the one must not be taken for what lies in the other, nor outlive it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tiered::{
    Ack, CacheEntity, CacheStrategy, DataRepository, OldValue, Outcome, Tiered,
    tiers::{
        Claim, Fill, Found, HoldEnd, Lease, LeaseToken, Memory, Moka, Progress, RemoteTier,
        TierError,
    },
};
use tokio::sync::Semaphore;

use crate::support::{DbDown, Rig, SECOND, Source, State, node, rig_with};

/// No server fails here: on a busy machine the usual budget may be over before anything went wrong.
const PATIENCE: Duration = Duration::from_secs(10);

fn patient() -> Rig {
    rig_with(|builder| builder.budget(PATIENCE))
}

scenarios! {
    entities_of_two_versions_in_a_row_load_at_most_twice_as_much,
    an_entity_is_stored_while_a_newer_version_is_beside,
    an_upgrade_is_not_stored_after_an_acknowledged_invalidation,
    nor_the_other_way_round,
    a_value_that_is_gone_at_home_is_no_last_resort_when_the_other_slot_fails,
    a_bypass_that_cannot_drop_the_other_slot_leaves_nothing_old,
    an_absence_is_not_followed_by_an_older_value,
    a_newer_value_is_not_followed_by_an_older_one,
    an_entry_away_from_home_lives_no_longer_than_what_has_its_home,
    a_stale_older_entry_stands_in_for_a_failing_load,
    a_fresh_entry_of_the_last_version_goes_before_a_stale_one_of_the_version_before,
    a_bypass_whose_lease_ran_out_leaves_nothing_old,
    a_set_is_not_dropped_by_a_bypass_that_it_overtook,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct A {
    a: u64,
}
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct B {
    b: u32,
}

/// Versions 1 to 3 of an entity `e:1`; 2 and 3 upgrade nothing unless told.
macro_rules! entity {
    ($name:ident, $field:ident, $schema:literal, $($upgrade:item)?) => {
        #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
        struct $name {
            $field: u64,
        }
        impl CacheEntity for $name {
            type Key = u64;
            const SCHEMA_VERSION: u32 = $schema;
            fn cache_key(&self) -> u64 {
                1
            }
            fn cache_prefix() -> &'static str {
                "e"
            }
            $($upgrade)?
        }
        impl DataRepository<$name> for Db {
            type Error = DbDown;
            async fn fetch_by_id(&self, _: &u64) -> Result<Option<$name>, DbDown> {
                if self.1.load(Ordering::SeqCst) {
                    return Err(DbDown);
                }
                let number = self.0.load().await.unwrap() as u64;
                Ok(Some($name { $field: number }))
            }
        }
    };
}

#[derive(Clone, Debug, Default)]
struct Db(Source, Arc<AtomicBool>);

entity!(E0, zero, 0,);
entity!(
    E1,
    one,
    1,
    fn upgrade<D: OldValue>(_: u32, old: D) -> Option<Self> {
        old.read::<E0>().map(|old| Self { one: old.zero })
    }
);
entity!(
    E2,
    two,
    2,
    fn upgrade<D: OldValue>(version: u32, old: D) -> Option<Self> {
        match version {
            0 => old.read::<E0>().map(|old| Self { two: old.zero }),
            _ => old.read::<E1>().map(|old| Self { two: old.one }),
        }
    }
);
// Two versions of an entity without an upgrade.
entity!(P1, first, 1,);
entity!(P2, second, 2,);

async fn fetch<T>(cache: &Tiered, db: &Db) -> (Option<Arc<T>>, Outcome)
where
    T: CacheEntity<Key = u64>,
    Db: DataRepository<T>,
    tiered::Postcard: tiered::codecs::CodecFor<T>,
{
    let repository = cache.repository(Arc::new(db.clone()));
    let answer = repository.read::<T>(&1, CacheStrategy::Refresh).await.unwrap();
    (answer.value, answer.outcome)
}

async fn entity_loads(newer: usize) -> usize {
    let (rig, db) = (patient(), Db::default());
    let nodes: Vec<Tiered> = (0..6)
        .map(|_| {
            node(&rig.l2, &rig.clock, |builder| builder.budget(PATIENCE).fresh_for(100 * SECOND))
        })
        .collect();
    for _ in 0..40 {
        for (at, cache) in nodes.iter().enumerate() {
            // In the caller, which waits until what it loaded is stored.
            let strategy = CacheStrategy::Refresh;
            if at < newer {
                cache.execute(&mut Feeder::<P2>(None), &db, strategy).await.unwrap();
            } else {
                cache.execute(&mut Feeder::<P1>(None), &db, strategy).await.unwrap();
            }
        }
        rig.clock.advance(12 * SECOND);
    }
    db.0.asked()
}

async fn entities_of_two_versions_in_a_row_load_at_most_twice_as_much() {
    let steady = entity_loads(0).await;
    for newer in [1, 3, 5] {
        let mixed = entity_loads(newer).await;
        println!("{newer} of 6 are newer: {mixed} loads, steady {steady}");
        assert!(mixed <= 2 * steady, "{mixed} loads instead of {steady}, {newer} of 6 are newer");
    }
}

async fn an_entity_is_stored_while_a_newer_version_is_beside() {
    let (rig, db) = (patient(), Db::default());
    fetch::<P2>(&rig.cache, &db).await;
    fetch::<P1>(&node(&rig.l2, &rig.clock, |builder| builder.budget(PATIENCE)), &db).await;
    let third = node(&rig.l2, &rig.clock, |builder| builder.budget(PATIENCE));
    assert_eq!(fetch::<P1>(&third, &db).await.1, Outcome::HitL2);
}

/// Deletes in one slot say that they have come, and wait.
#[derive(Clone, Debug)]
struct Slow {
    memory: Memory,
    /// What the keys end with whose deletes are slow.
    beside: bool,
    deletes: Arc<AtomicBool>,
    come: Arc<Semaphore>,
    go: Arc<Semaphore>,
    /// A get in the other version's slot, with a lease standing, says that it has come and waits.
    fills: Arc<AtomicBool>,
}

impl Slow {
    fn new(memory: Memory, beside: bool) -> Self {
        let semaphore = || Arc::new(Semaphore::new(0));
        let (come, go) = (semaphore(), semaphore());
        Self { memory, beside, deletes: Arc::default(), come, go, fills: Arc::default() }
    }
}

#[async_trait]
impl RemoteTier for Slow {
    fn name(&self) -> &'static str {
        "slow"
    }
    async fn get(&self, key: &[u8]) -> Result<Option<Found>, TierError> {
        self.memory.get(key).await
    }
    async fn lease(
        &self,
        key: &[u8],
        token: LeaseToken,
        life: Duration,
        claim: Claim,
    ) -> Result<Lease, TierError> {
        self.memory.lease(key, token, life, claim).await
    }
    async fn fill(
        &self,
        key: &[u8],
        token: LeaseToken,
        bytes: Bytes,
        life: Duration,
    ) -> Result<Fill, TierError> {
        if self.fills.load(Ordering::SeqCst) {
            self.come.add_permits(1);
            self.go.acquire().await.unwrap().forget();
        }
        self.memory.fill(key, token, bytes, life).await
    }
    async fn release(&self, key: &[u8], token: LeaseToken) -> Result<(), TierError> {
        self.memory.release(key, token).await
    }
    async fn renew(
        &self,
        key: &[u8],
        token: LeaseToken,
        life: Duration,
    ) -> Result<bool, TierError> {
        self.memory.renew(key, token, life).await
    }
    async fn hold(&self, key: &[u8], token: LeaseToken, life: Duration) -> Result<(), TierError> {
        self.memory.hold(key, token, life).await
    }
    async fn renew_hold(
        &self,
        key: &[u8],
        token: LeaseToken,
        life: Duration,
    ) -> Result<bool, TierError> {
        self.memory.renew_hold(key, token, life).await
    }
    async fn end_hold(
        &self,
        key: &[u8],
        token: LeaseToken,
        lease: Option<(LeaseToken, Duration)>,
    ) -> Result<HoldEnd, TierError> {
        self.memory.end_hold(key, token, lease).await
    }
    async fn set(&self, key: &[u8], bytes: Bytes, life: Duration) -> Result<Fill, TierError> {
        self.memory.set(key, bytes, life).await
    }
    async fn delete(&self, key: &[u8]) -> Result<(), TierError> {
        if self.deletes.load(Ordering::SeqCst) && key.ends_with(b"%beside") == self.beside {
            self.come.add_permits(1);
            self.go.acquire().await.unwrap().forget();
        }
        self.memory.delete(key).await
    }
    async fn clear(&self, prefix: &[u8], progress: Progress<'_>) -> Result<(), TierError> {
        self.memory.clear(prefix, progress).await
    }
    async fn ping(&self) -> Result<(), TierError> {
        Ok(())
    }
}

async fn an_upgrade_is_not_stored_after_an_acknowledged_invalidation() {
    overtaken_upgrade::<E1, E2>(true).await;
}
async fn nor_the_other_way_round() {
    overtaken_upgrade::<E0, E1>(false).await;
}

/// An invalidation drops the new version's slot (with its lease) first and the old one's second. In
/// between, the new version leases its slot, sees the old entry unchanged, and fills after all.
async fn overtaken_upgrade<Old, New>(beside: bool)
where
    Old: CacheEntity<Key = u64>,
    New: CacheEntity<Key = u64> + Serialize + for<'de> Deserialize<'de> + std::fmt::Debug,
    Db: DataRepository<Old> + DataRepository<New>,
    tiered::Postcard: tiered::codecs::CodecFor<Old> + tiered::codecs::CodecFor<New>,
{
    let (slow, db) = (Slow::new(Memory::new(), beside), Db::default());
    let open = || Tiered::new(Moka::new(100), slow.clone()).budget(10 * SECOND).build().unwrap();
    let (invalidator, upgrader, third) = (open(), open(), open());
    fetch::<Old>(&open(), &db).await;
    // 1. An invalidation has dropped the new version's slot and not yet the older one's.
    slow.deletes.store(true, Ordering::SeqCst);
    db.0.put(1);
    let invalidation = tokio::spawn(async move { invalidator.invalidate("e:1").await.unwrap() });
    slow.come.acquire().await.unwrap().forget();
    for _ in 0..50 {
        tokio::task::yield_now().await;
    }
    // 2. Another process upgrades the old entry, as far as to its fill.
    slow.fills.store(true, Ordering::SeqCst);
    let upgrade = tokio::spawn({
        let (upgrader, db) = (upgrader.clone(), db.clone());
        async move { fetch::<New>(&upgrader, &db).await.1 }
    });
    // It waits for its fill; a version that stores no such thing never comes here.
    let _ =
        tokio::time::timeout(SECOND, slow.come.acquire()).await.map(|come| come.unwrap().forget());
    // 3. The invalidation is done.
    slow.deletes.store(false, Ordering::SeqCst);
    slow.fills.store(false, Ordering::SeqCst);
    slow.go.add_permits(1);
    tokio::time::sleep(Duration::from_millis(20)).await;
    slow.go.add_permits(1);
    assert_eq!(invalidation.await.unwrap(), Ack::Done);
    // 4. And whatever was under way has ended.
    let _ = upgrade.await.unwrap();
    tokio::time::sleep(Duration::from_millis(50)).await;
    let found = third.key("e:1").schema(New::SCHEMA_VERSION).get::<New>().await.unwrap();
    // On a busy machine it may have come after both drops, and loaded.
    let new = <Db as DataRepository<New>>::fetch_by_id(&db, &1).await.unwrap();
    if let Some(found) = found {
        assert_eq!(format!("{found:?}"), format!("{:?}", new.unwrap()), "from before");
    }
}

async fn a_value_that_is_gone_at_home_is_no_last_resort_when_the_other_slot_fails() {
    let (rig, db) = (patient(), Db::default());
    let reader = node(&rig.l2, &rig.clock, |builder| builder.budget(PATIENCE));
    fetch::<E2>(&reader, &db).await;
    db.0.put(1);
    assert_eq!(rig.cache.invalidate("e:1").await.unwrap(), Ack::Done);
    // L1 has to ask L2 from here on; L2 says that its entry is gone.
    rig.clock.advance(11 * SECOND);
    rig.l2.switch(State::FailingBeside);
    db.1.store(true, Ordering::SeqCst);
    let mut feeder = Feeder::<E2>(None);
    let answer = reader.execute(&mut feeder, &db, CacheStrategy::Refresh).await;
    assert!(answer.is_err(), "{answer:?}: {:?} was invalidated", feeder.0);
}

struct Feeder<T>(Option<T>);
impl<T: CacheEntity<Key = u64>> tiered::CacheFeed<T> for Feeder<T> {
    fn entity_id(&mut self) -> u64 {
        1
    }
    fn feed(&mut self, entity: Option<T>) {
        self.0 = entity;
    }
}

async fn load_a(cache: &Tiered, schema: u32, source: &Source) -> u64 {
    let load = || async { source.load().await.map(|n| A { a: n as u64 }) };
    cache.key("k").schema(schema).get_or_load(load).await.unwrap().a
}
async fn load_b(cache: &Tiered, schema: u32, source: &Source) -> u32 {
    let load = || async { source.load().await.map(|n| B { b: n as u32 }) };
    cache.key("k").schema(schema).get_or_load(load).await.unwrap().b
}

async fn a_bypass_that_cannot_drop_the_other_slot_leaves_nothing_old() {
    let (rig, source) = (patient(), Source::default());
    load_a(&rig.cache, 1, &source).await;
    source.put(1);
    rig.l2.switch(State::FailingBeside);
    let load = || async { source.load().await.map(|n| B { b: n as u32 }) };
    let bypass = rig.cache.key("k").schema(2).strategy(CacheStrategy::Bypass);
    assert_eq!(bypass.get_or_load(load).await.unwrap().b, 1);
    rig.l2.switch(State::Up);
    replayed(&rig.cache).await;
    let third = node(&rig.l2, &rig.clock, |builder| builder.budget(PATIENCE));
    assert_eq!(load_a(&third, 1, &source).await, 1, "`set` would be pending, and replayed");
}

/// Waits until nothing is pending.
async fn replayed(cache: &Tiered) {
    while cache.health().await.pending > 0 {
        tokio::task::yield_now().await;
    }
}

/// Of two unlike shapes, A has the home until it expires; B has worked in the other slot.
async fn an_absence_is_not_followed_by_an_older_value() {
    let (rig, source) = (patient(), Source::default());
    let fresh = || node(&rig.l2, &rig.clock, |builder| builder.budget(PATIENCE));
    load_a(&fresh(), 1, &source).await;
    rig.clock.advance(30 * SECOND);
    load_b(&fresh(), 1, &source).await;
    rig.clock.advance(30 * SECOND);
    // A's entry has expired, and the row is gone. B sees that, and so does A.
    let none = || async { Ok::<_, DbDown>(None::<B>) };
    let request = |cache: &Tiered| {
        let cache = cache.clone();
        async move { cache.key("k").schema(1).get_or_load_opt(none).await.unwrap() }
    };
    let b = fresh();
    let short = b.key("k").schema(1).negative_for(5 * SECOND);
    assert_eq!(short.get_or_load_opt(none).await.unwrap(), None);
    rig.clock.advance(6 * SECOND);
    let none_a = || async { Ok::<_, DbDown>(None::<A>) };
    assert_eq!(fresh().key("k").schema(1).get_or_load_opt(none_a).await.unwrap(), None);
    assert_eq!(request(&b).await, None, "the row is gone, and this very process knew");
}

/// Versions that share a home, the newer one put back and deployed again.
async fn a_newer_value_is_not_followed_by_an_older_one() {
    let (rig, source) = (patient(), Source::default());
    let fresh = || node(&rig.l2, &rig.clock, |builder| builder.budget(PATIENCE));
    load_b(&fresh(), 3, &source).await;
    rig.clock.advance(30 * SECOND);
    load_a(&fresh(), 1, &source).await;
    rig.clock.advance(31 * SECOND);
    source.put(1);
    let old = fresh();
    assert_eq!(load_a(&old, 1, &source).await, 1);
    load_b(&fresh(), 3, &source).await;
    rig.clock.advance(11 * SECOND);
    assert_eq!(load_a(&old, 1, &source).await, 1, "the same process, when its L1 asks again");
}

async fn an_entry_away_from_home_lives_no_longer_than_what_has_its_home() {
    let (rig, source) = (patient(), Source::default());
    let fresh = || node(&rig.l2, &rig.clock, |builder| builder.budget(PATIENCE));
    load_a(&fresh(), 1, &source).await;
    rig.clock.advance(30 * SECOND);
    let b = fresh();
    load_b(&b, 1, &source).await;
    let own = |cache: Tiered| async move { cache.key("k").schema(1).lookup::<B>().await.unwrap() };
    let found = own(fresh()).await;
    assert_eq!((found.age, found.remaining), (Duration::ZERO, 30 * SECOND));
    // In L1 it has its whole life.
    assert_eq!(own(b).await.remaining, 60 * SECOND);
    rig.clock.advance(31 * SECOND);
    assert!(!fresh().contains("k").await.unwrap());
}

async fn a_stale_older_entry_stands_in_for_a_failing_load() {
    let (rig, db) = (patient(), Db::default());
    let fresh =
        || node(&rig.l2, &rig.clock, |builder| builder.budget(PATIENCE).stale_for(3600 * SECOND));
    fetch::<E1>(&fresh(), &db).await;
    rig.clock.advance(70 * SECOND);
    db.1.store(true, Ordering::SeqCst);
    // Two versions ago it does: at home it is upgraded and stale.
    let mut feeder = Feeder::<E2>(None);
    let outcome = fresh().execute(&mut feeder, &db, CacheStrategy::Refresh).await;
    assert_eq!(outcome.map_err(|error| error.to_string()), Ok(Outcome::Stale));
}

async fn a_fresh_entry_of_the_last_version_goes_before_a_stale_one_of_the_version_before() {
    let (rig, db) = (patient(), Db::default());
    let fresh =
        || node(&rig.l2, &rig.clock, |builder| builder.budget(PATIENCE).stale_for(3600 * SECOND));
    fetch::<E0>(&fresh(), &db).await;
    rig.clock.advance(70 * SECOND);
    db.0.put(1);
    let last = fresh();
    // The first is answered with the stale one, and refreshed behind.
    while fetch::<E1>(&last, &db).await.0.unwrap().one == 0 {
        tokio::task::yield_now().await;
    }
    let (value, outcome) = fetch::<E2>(&fresh(), &db).await;
    assert_eq!((value.unwrap().two, outcome), (1, Outcome::HitL2));
}

async fn a_bypass_whose_lease_ran_out_leaves_nothing_old() {
    let (rig, source) = (patient(), Source::default());
    load_a(&rig.cache, 1, &source).await;
    let load = || async {
        source.put(1);
        // Longer than `lease_for`.
        rig.clock.advance(6 * SECOND);
        source.load().await.map(|n| A { a: n as u64 })
    };
    let bypass = rig.cache.key("k").schema(1).strategy(CacheStrategy::Bypass);
    assert_eq!(bypass.get_or_load(load).await.unwrap().a, 1);
    replayed(&rig.cache).await;
    let third = node(&rig.l2, &rig.clock, |builder| builder.budget(PATIENCE));
    assert_eq!(load_a(&third, 1, &source).await, 1, "it drops the other slot, and not its home");
}

async fn a_set_is_not_dropped_by_a_bypass_that_it_overtook() {
    let (rig, source) = (patient(), Source::default());
    let other = node(&rig.l2, &rig.clock, |builder| builder.budget(PATIENCE));
    let load = || async {
        let seen = source.load().await.map(|n| B { b: n as u32 });
        source.put(1);
        assert_eq!(other.key("k").schema(1).set(A { a: 1 }).await.unwrap(), Ack::Done);
        seen
    };
    let bypass = rig.cache.key("k").schema(2).strategy(CacheStrategy::Bypass);
    bypass.get_or_load(load).await.unwrap();
    let third = node(&rig.l2, &rig.clock, |builder| builder.budget(PATIENCE));
    let found = third.key("k").schema(1).get::<A>().await.unwrap();
    assert_eq!(found.as_deref(), Some(&A { a: 1 }), "its own fill was refused");
}
