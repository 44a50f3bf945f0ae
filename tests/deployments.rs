//! Two versions of one program over one cache, as a deployment has them: they must neither fight
//! over entries nor load more than each for itself.

use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tiered::{
    Ack, CacheEntity, CacheFeed, CacheStrategy, DataRepository, Jitter, OldValue, Outcome,
    Postcard, Tiered,
    tiers::{Claim, Lease, LeaseToken, Memory, RemoteTier},
};

use crate::support::{DbDown, Rig, SECOND, Source, State, eventually, node, rig};

scenarios! {
    half_a_deployment_loads_at_most_twice_as_much,
    half_a_deployment_of_an_undeclared_change_loads_at_most_twice_as_much,
    a_version_never_replaces_a_newer_ones_entry,
    versions_in_a_row_never_meet,
    a_bypass_leaves_the_other_version_nothing_old,
    a_value_of_another_shape_is_left_alone_and_worked_beside,
    a_home_that_is_taken_meanwhile_is_left_without_a_lease,
    an_invalidation_drops_what_both_versions_have,
    an_invalidation_overtakes_a_load_beside,
    a_set_drops_what_the_other_version_has,
    a_set_of_either_version_leaves_the_other_nothing_old,
    a_second_slot_that_cannot_be_reached_makes_a_write_pending,
    after_a_rollback_the_older_version_still_has_its_entries,
    a_rollback_over_two_versions_does_not_stick,
    of_three_versions_none_fails,
    an_older_entry_is_upgraded_without_a_load,
    an_upgrade_keeps_the_entrys_age,
    an_upgrade_that_declines_panics_or_mistakes_the_key_loads,
    what_was_left_in_the_other_slot_is_no_last_word,
    an_entry_of_two_versions_ago_is_upgraded,
    a_first_version_does_not_look_for_older_ones,
    an_absence_is_not_upgraded,
    an_older_entry_of_an_earlier_run_is_not_upgraded,
}

/// What a version of the program reads: a number, in a form of its own.
trait Form: Serialize + for<'de> Deserialize<'de> + Send + Sync + 'static {
    const SCHEMA: u32;
    fn of(number: usize) -> Self;
    fn number(&self) -> usize;
}

macro_rules! form {
    ($name:ident: $field:ident $type:ty, schema $schema:literal) => {
        #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
        struct $name {
            $field: $type,
        }
        impl Form for $name {
            const SCHEMA: u32 = $schema;
            fn of(number: usize) -> Self {
                Self { $field: number as $type }
            }
            fn number(&self) -> usize {
                self.$field as usize
            }
        }
    };
}

form!(First: count u32, schema 1);
form!(Second: total u64, schema 2);
form!(Third: sum i64, schema 3);
// A change that nobody declared.
form!(Undeclared: counted u16, schema 1);

async fn read<F: Form>(cache: &Tiered, key: &str, source: &Source) -> usize {
    let request = cache.key(key).schema(F::SCHEMA);
    let value = request.get_or_load(|| async { source.load().await.map(F::of) }).await;
    value.unwrap().number()
}

async fn outcome<F: Form>(cache: &Tiered, key: &str) -> Outcome {
    cache.key(key).schema(F::SCHEMA).lookup::<F>().await.unwrap().outcome
}

/// Loads of twelve nodes, `others` of them of another version, that read ten keys for 20 minutes;
/// now and then a key is invalidated by whichever node.
async fn loads<F: Form, G: Form>(others: usize, jitter: Jitter) -> usize {
    const NODES: usize = 12;
    let (rig, source) = (rig(), Source::default());
    let nodes: Vec<Tiered> = (0..NODES)
        .map(|_| {
            node(&rig.l2, &rig.clock, |builder| {
                builder.jitter(jitter.clone()).fresh_for(100 * SECOND)
            })
        })
        .collect();
    for round in 0..100_usize {
        for step in 0..NODES {
            let at = (step * 7 + round * 5) % NODES;
            for key in 0..10 {
                let key = format!("{key}");
                let seen = if at < others {
                    read::<G>(&nodes[at], &key, &source).await
                } else {
                    read::<F>(&nodes[at], &key, &source).await
                };
                assert_eq!(seen, 0);
            }
        }
        if round % 10 == 3 {
            let ack = nodes[round % NODES].invalidate(round % 7).await.unwrap();
            assert_eq!(ack, Ack::Done);
        }
        rig.clock.advance(12 * SECOND);
    }
    assert!(nodes.iter().all(|node| node.stats().error == 0));
    source.asked()
}

async fn half_a_deployment_loads_at_most_twice_as_much() {
    let steady = loads::<First, First>(0, Jitter::none()).await;
    for others in [1, 6, 11] {
        let mixed = loads::<First, Second>(others, Jitter::none()).await;
        assert!(mixed <= 2 * steady, "{mixed} loads instead of {steady}, {others} of 12 are newer");
        // Two versions that share a home: once more for each entry that the newer one replaces.
        let skipped = loads::<First, Third>(others, Jitter::none()).await;
        assert!(
            skipped <= 3 * steady,
            "{skipped} loads instead of {steady}, {others} are newer by 2"
        );
    }
    // Lifetimes that are drawn at random scatter the figure by a few in a hundred.
    let steady = loads::<First, First>(0, Jitter::default()).await;
    let half = loads::<First, Second>(6, Jitter::default()).await;
    assert!(half * 100 <= steady * 210, "{half} loads instead of {steady}");
}

async fn half_a_deployment_of_an_undeclared_change_loads_at_most_twice_as_much() {
    let steady = loads::<First, First>(0, Jitter::none()).await;
    for others in [1, 6, 11] {
        let mixed = loads::<First, Undeclared>(others, Jitter::none()).await;
        assert!(mixed <= 2 * steady, "{mixed} loads instead of {steady}, {others} of 12 are other");
    }
}

async fn stored(memory: &Memory, key: &str) -> Vec<u8> {
    memory.get(key.as_bytes()).await.unwrap().map_or(Vec::new(), |found| found.bytes.to_vec())
}

/// The keys of the slots in which odd and even versions are at home.
const ODD: &str = "tiered:k%beside";
const EVEN: &str = "tiered:k";

async fn a_version_never_replaces_a_newer_ones_entry() {
    let (rig, source) = (rig(), Source::default());
    let old = node(&rig.l2, &rig.clock, |builder| builder);
    read::<Third>(&rig.cache, "k", &source).await;
    let newer = stored(&rig.memory, ODD).await;
    for strategy in [CacheStrategy::Refresh, CacheStrategy::Fresh] {
        let request = old.key("k").schema(1).strategy(strategy).skip_l1();
        let read =
            request.get_or_load_opt(|| async { source.load().await.map(|n| Some(First::of(n))) });
        read.await.unwrap();
        assert_eq!(stored(&rig.memory, ODD).await, newer, "{strategy:?}");
    }
    // And it shares what it loaded with those of its own version.
    let third = node(&rig.l2, &rig.clock, |builder| builder);
    assert_eq!(outcome::<First>(&third, "k").await, Outcome::HitL2);
    assert_eq!(outcome::<Third>(&third, "k").await, Outcome::HitL2);
    // The newer one does replace the older.
    let _ = rig.cache.invalidate("k").await.unwrap();
    read::<First>(&third, "k", &source).await;
    let older = stored(&rig.memory, ODD).await;
    read::<Third>(&third, "k", &source).await;
    assert_ne!(stored(&rig.memory, ODD).await, older);
    assert_eq!(stored(&rig.memory, EVEN).await, b"", "it did not need the other slot");
}

async fn versions_in_a_row_never_meet() {
    let (rig, source) = (rig(), Source::default());
    read::<First>(&rig.cache, "k", &source).await;
    read::<Second>(&rig.cache, "k", &source).await;
    let (first, second) = (stored(&rig.memory, ODD).await, stored(&rig.memory, EVEN).await);
    for _ in 0..5 {
        rig.clock.advance(11 * SECOND);
        read::<First>(&rig.cache, "k", &source).await;
        read::<Second>(&rig.cache, "k", &source).await;
        assert_eq!(stored(&rig.memory, ODD).await, first);
        assert_eq!(stored(&rig.memory, EVEN).await, second);
    }
    assert_eq!((source.asked(), rig.cache.stats().decode_failures), (2, 0));
}

async fn a_bypass_leaves_the_other_version_nothing_old() {
    for none in [false, true] {
        let (rig, source, _) = both_versions().await;
        source.put(1);
        let load = || async { source.load().await.map(|n| (!none).then(|| First::of(n))) };
        let request = rig.cache.key("k").schema(1).strategy(CacheStrategy::Bypass);
        assert_eq!(request.get_or_load_opt(load).await.unwrap().is_none(), none);
        let fresh = node(&rig.l2, &rig.clock, |builder| builder);
        assert_eq!(outcome::<Second>(&fresh, "k").await, Outcome::Miss);
        let own = if none { Outcome::Negative } else { Outcome::HitL2 };
        assert_eq!(outcome::<First>(&fresh, "k").await, own);
    }
    // Nor another shape of its own version, whose home it is too.
    let (rig, source) = (rig(), Source::default());
    read::<First>(&rig.cache, "k", &source).await;
    let load = || async { source.load().await.map(Undeclared::of) };
    let request = rig.cache.key("k").schema(1).strategy(CacheStrategy::Bypass);
    request.get_or_load(load).await.unwrap();
    let fresh = node(&rig.l2, &rig.clock, |builder| builder);
    assert_eq!(outcome::<First>(&fresh, "k").await, Outcome::Miss);
    assert_eq!(outcome::<Undeclared>(&fresh, "k").await, Outcome::HitL2);
}

async fn a_value_of_another_shape_is_left_alone_and_worked_beside() {
    let (rig, source) = (rig(), Source::default());
    read::<First>(&rig.cache, "k", &source).await;
    let first = stored(&rig.memory, ODD).await;
    let other = node(&rig.l2, &rig.clock, |builder| builder);
    read::<Undeclared>(&other, "k", &source).await;
    assert_eq!(stored(&rig.memory, ODD).await, first);
    let third = node(&rig.l2, &rig.clock, |builder| builder);
    assert_eq!(outcome::<First>(&third, "k").await, Outcome::HitL2);
    assert_eq!(outcome::<Undeclared>(&third, "k").await, Outcome::HitL2);
    assert_eq!(source.asked(), 2);
}

async fn a_home_that_is_taken_meanwhile_is_left_without_a_lease() {
    let (rig, source) = (rig(), Source::default());
    read::<Third>(&rig.cache, "k", &source).await;
    let newer = rig.memory.get(ODD.as_bytes()).await.unwrap().unwrap().bytes;
    assert_eq!(rig.cache.invalidate("k").await.unwrap(), Ack::Done);
    let old = node(&rig.l2, &rig.clock, |builder| builder);
    rig.l2.switch(State::HeldBeside);
    let before = rig.l2.operations();
    let load = read::<First>(&old, "k", &source);
    let taken = async {
        rig.l2.admit(1);
        eventually("it asks for a lease", || rig.l2.operations() == before + 2).await;
        rig.l2.switch(State::Up);
        rig.memory.set(ODD.as_bytes(), newer.clone(), 60 * SECOND).await.unwrap();
        rig.l2.admit(1);
    };
    tokio::join!(load, taken);
    assert_eq!(stored(&rig.memory, ODD).await, newer);
    assert_ne!(stored(&rig.memory, EVEN).await, b"", "it went on in the other slot");
    let token = LeaseToken::random();
    let lease = rig.memory.lease(ODD.as_bytes(), token, SECOND, Claim::IfFree).await.unwrap();
    assert!(matches!(lease, Lease::Granted(_)), "it left its lease behind");
}

/// A key that two versions have loaded, and a third cache that has none of it in L1.
async fn both_versions() -> (Rig, Source, Tiered) {
    let (rig, source) = (rig(), Source::default());
    read::<Second>(&rig.cache, "k", &source).await;
    read::<First>(&rig.cache, "k", &source).await;
    let other = node(&rig.l2, &rig.clock, |builder| builder);
    (rig, source, other)
}

async fn an_invalidation_drops_what_both_versions_have() {
    let (rig, _, other) = both_versions().await;
    assert_eq!(other.invalidate("k").await.unwrap(), Ack::Done);
    let fresh = node(&rig.l2, &rig.clock, |builder| builder);
    assert_eq!(outcome::<First>(&fresh, "k").await, Outcome::Miss);
    assert_eq!(outcome::<Second>(&fresh, "k").await, Outcome::Miss);
}

async fn an_invalidation_overtakes_a_load_beside() {
    let (rig, source) = (rig(), Source::default());
    read::<Second>(&rig.cache, "k", &source).await;
    let old = node(&rig.l2, &rig.clock, |builder| builder);
    let load = || async {
        let seen = source.load().await.map(First::of);
        source.put(1);
        assert_eq!(rig.cache.invalidate("k").await.unwrap(), Ack::Done);
        seen
    };
    let seen = old.key("k").schema(1).get_or_load(load).await.unwrap();
    assert_eq!(seen.number(), 0, "it began before the invalidation");
    let third = node(&rig.l2, &rig.clock, |builder| builder);
    assert_eq!(outcome::<First>(&third, "k").await, Outcome::Miss, "a stale fill");
    assert_eq!(outcome::<Second>(&third, "k").await, Outcome::Miss);
}

async fn a_set_drops_what_the_other_version_has() {
    let (rig, _, other) = both_versions().await;
    let set = other.key("k").schema(2).set(Second::of(5)).await;
    assert_eq!(set.unwrap(), Ack::Done);
    let fresh = node(&rig.l2, &rig.clock, |builder| builder);
    assert_eq!(outcome::<First>(&fresh, "k").await, Outcome::Miss);
    assert_eq!(fresh.key("k").schema(2).get::<Second>().await.unwrap().unwrap().total, 5);
}

async fn a_set_of_either_version_leaves_the_other_nothing_old() {
    let (rig, ..) = both_versions().await;
    let _ = rig.cache.key("k").schema(1).set(First::of(5)).await.unwrap();
    let fresh = node(&rig.l2, &rig.clock, |builder| builder);
    assert_eq!(outcome::<Second>(&fresh, "k").await, Outcome::Miss);
    assert_eq!(fresh.key("k").schema(1).get::<First>().await.unwrap().unwrap().count, 5);
    let _ = rig.cache.key("k").schema(2).set(Second::of(6)).await.unwrap();
    let fresh = node(&rig.l2, &rig.clock, |builder| builder);
    assert_eq!(outcome::<First>(&fresh, "k").await, Outcome::Miss);
    assert_eq!(fresh.key("k").schema(2).get::<Second>().await.unwrap().unwrap().total, 6);
}

async fn a_second_slot_that_cannot_be_reached_makes_a_write_pending() {
    for set in [false, true] {
        let (rig, source, _) = both_versions().await;
        rig.l2.switch(State::FailingBeside);
        let ack = if set {
            rig.cache.key("k").schema(2).set(Second::of(5)).await
        } else {
            rig.cache.invalidate("k").await
        };
        assert_eq!(ack.unwrap(), Ack::Pending, "the first version's entry is still there");
        rig.l2.switch(State::Up);
        source.put(7);
        assert_eq!(read::<First>(&rig.cache, "k", &source).await, 7, "replayed before it is read");
    }
}

async fn after_a_rollback_the_older_version_still_has_its_entries() {
    let (rig, ..) = both_versions().await;
    let back = node(&rig.l2, &rig.clock, |builder| builder);
    assert_eq!(outcome::<First>(&back, "k").await, Outcome::HitL2);
    // But none that is older than a write of the newer version.
    let _ = rig.cache.key("k").schema(2).set(Second::of(5)).await.unwrap();
    let back = node(&rig.l2, &rig.clock, |builder| builder);
    assert_eq!(outcome::<First>(&back, "k").await, Outcome::Miss);
}

async fn a_rollback_over_two_versions_does_not_stick() {
    let (rig, source) = (rig(), Source::default());
    read::<Third>(&rig.cache, "k", &source).await;
    read::<First>(&rig.cache, "k", &source).await;
    assert_ne!(stored(&rig.memory, EVEN).await, b"", "its home is taken");
    rig.clock.advance(7200 * SECOND);
    read::<First>(&rig.cache, "k", &source).await;
    assert_ne!(stored(&rig.memory, ODD).await, b"", "it is at home again");
    assert_eq!(stored(&rig.memory, EVEN).await, b"");
}

async fn of_three_versions_none_fails() {
    let (rig, source) = (rig(), Source::default());
    for round in 0..5 {
        source.put(round);
        for _ in 0..2 {
            for cache in [&rig.cache, &node(&rig.l2, &rig.clock, |builder| builder)] {
                assert_eq!(read::<Third>(cache, "k", &source).await, round);
                assert_eq!(read::<First>(cache, "k", &source).await, round);
                assert_eq!(read::<Second>(cache, "k", &source).await, round);
            }
        }
        assert_eq!(rig.cache.invalidate("k").await.unwrap(), Ack::Done);
    }
}

/// A user, as the first version of the program stored it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct UserV1 {
    id: u64,
    name: String,
}

/// A user of today, with a first and a last name.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct User {
    id: u64,
    first: String,
    last: String,
}

impl CacheEntity for UserV1 {
    type Key = u64;
    const SCHEMA_VERSION: u32 = 1;
    fn cache_key(&self) -> u64 {
        self.id
    }
    fn cache_prefix() -> &'static str {
        "user"
    }
}

impl CacheEntity for User {
    type Key = u64;
    const SCHEMA_VERSION: u32 = 2;
    fn cache_key(&self) -> u64 {
        self.id
    }
    fn cache_prefix() -> &'static str {
        "user"
    }
    fn upgrade<D: OldValue>(version: u32, old: D) -> Option<Self> {
        assert_eq!(version, 1);
        assert_eq!(old.read::<u64>(), None, "it is no number");
        let UserV1 { id, name } = old.read()?;
        assert_ne!(name, "Panic Now");
        let (first, last) = name.split_once(' ')?;
        let id = if first == "Somebody" { id + 1 } else { id };
        Some(Self { id, first: first.into(), last: last.into() })
    }
}

/// A table of users, in either form.
#[derive(Default)]
struct Users(Source);

impl DataRepository<UserV1> for Users {
    type Error = DbDown;
    async fn fetch_by_id(&self, id: &u64) -> Result<Option<UserV1>, DbDown> {
        let _ = self.0.load().await;
        let name = ["Ada Lovelace", "Plato", "Panic Now", "Somebody Else"].get(*id as usize);
        Ok(name.map(|name| UserV1 { id: *id, name: (*name).to_owned() }))
    }
}

impl DataRepository<User> for Users {
    type Error = DbDown;
    async fn fetch_by_id(&self, id: &u64) -> Result<Option<User>, DbDown> {
        let _ = self.0.load().await;
        Ok(Some(User { id: *id, first: "loaded".into(), last: "anew".into() }))
    }
}

/// Takes one user.
struct Feeder<T>(u64, Option<T>);

impl<T: CacheEntity<Key = u64>> CacheFeed<T> for Feeder<T> {
    fn entity_id(&mut self) -> u64 {
        self.0
    }
    fn feed(&mut self, entity: Option<T>) {
        self.1 = entity;
    }
}

async fn user<T>(cache: &Tiered, id: u64, users: &Users) -> (Option<T>, Outcome)
where
    T: CacheEntity<Key = u64>,
    Users: DataRepository<T>,
    Postcard: tiered::codecs::CodecFor<T>,
{
    let mut feeder = Feeder(id, None);
    let outcome = cache.execute(&mut feeder, users, CacheStrategy::Refresh).await.unwrap();
    (feeder.1, outcome)
}

async fn an_older_entry_is_upgraded_without_a_load() {
    let (rig, users) = (rig(), Users::default());
    user::<UserV1>(&rig.cache, 0, &users).await;
    let ada = User { id: 0, first: "Ada".into(), last: "Lovelace".into() };
    let new = node(&rig.l2, &rig.clock, |builder| builder);
    assert_eq!(user::<User>(&new, 0, &users).await, (Some(ada.clone()), Outcome::HitL2));
    assert_eq!(new.stats().decode_failures, 0);
    // Another process makes its own of it, for as long as the older entry lives.
    let third = node(&rig.l2, &rig.clock, |builder| builder);
    assert_eq!(user::<User>(&third, 0, &users).await, (Some(ada.clone()), Outcome::HitL2));
    assert_eq!(stored(&rig.memory, "tiered:user:0").await, b"");
    assert_eq!(users.0.asked(), 1);
}

/// Neither is the version's own, and nor is what makes it.
async fn an_older_entry_of_an_earlier_run_is_not_upgraded() {
    for same in [true, false] {
        let (rig, users) = (rig(), Users::default());
        rig.l2.restart(1);
        user::<UserV1>(&rig.cache, 0, &users).await;
        rig.l2.restart(if same { 1 } else { 2 });
        let new = node(&rig.l2, &rig.clock, |builder| builder);
        let outcome = if same { Outcome::HitL2 } else { Outcome::Load };
        assert_eq!(user::<User>(&new, 0, &users).await.1, outcome);
    }
}

async fn an_upgrade_keeps_the_entrys_age() {
    let (rig, users) = (rig(), Users::default());
    user::<UserV1>(&rig.cache, 0, &users).await;
    rig.clock.advance(40 * SECOND);
    for _ in 0..2 {
        let cache = node(&rig.l2, &rig.clock, |builder| builder);
        user::<User>(&cache, 0, &users).await;
        let answer = cache.key("user:0").schema(2).lookup::<User>().await.unwrap();
        assert_eq!((answer.age, answer.remaining), (40 * SECOND, 20 * SECOND));
    }
    rig.clock.advance(20 * SECOND);
    let late = node(&rig.l2, &rig.clock, |builder| builder);
    assert_eq!(user::<User>(&late, 0, &users).await.1, Outcome::Load);
}

async fn an_upgrade_that_declines_panics_or_mistakes_the_key_loads() {
    let (rig, users) = (rig(), Users::default());
    for id in [1, 2, 3] {
        user::<UserV1>(&rig.cache, id, &users).await;
        let new = node(&rig.l2, &rig.clock, |builder| builder);
        let (found, outcome) = user::<User>(&new, id, &users).await;
        assert_eq!((found.unwrap().first.as_str(), outcome), ("loaded", Outcome::Load));
        assert_eq!(new.stats().decode_failures, 0, "the older version's entry is in order");
        let third = node(&rig.l2, &rig.clock, |builder| builder);
        assert_eq!(user::<User>(&third, id, &users).await.1, Outcome::HitL2, "it was stored");
    }
}

/// What a process of that version has stored under `user:0`.
async fn entry<T>(value: T) -> Bytes
where
    T: CacheEntity + Serialize + for<'de> Deserialize<'de>,
{
    let rig = rig();
    let request = rig.cache.key("user:0").schema(T::SCHEMA_VERSION);
    assert_eq!(request.set(value).await.unwrap(), Ack::Done);
    let slot = if T::SCHEMA_VERSION == 2 { "tiered:user:0" } else { "tiered:user:0%beside" };
    rig.memory.get(slot.as_bytes()).await.unwrap().unwrap().bytes
}

async fn what_was_left_in_the_other_slot_is_no_last_word() {
    // Of this version, from when its home was taken; since then, home has been emptied.
    let own = entry(User { id: 0, first: "Grace".into(), last: "Hopper".into() }).await;
    let (rig, users) = (rig(), Users::default());
    rig.memory.set(b"tiered:user:0%beside", own, 60 * SECOND).await.unwrap();
    let (found, outcome) = user::<User>(&rig.cache, 0, &users).await;
    assert_eq!((found.unwrap().first.as_str(), outcome), ("loaded", Outcome::Load));
}

async fn an_entry_of_two_versions_ago_is_upgraded() {
    let (rig, source) = (rig(), Source::default());
    // The first version of a number, under the key of the third.
    let _ = rig.cache.key("number:1").schema(1).set(First::of(5)).await.unwrap();
    let users = Numbers(source.clone());
    for _ in 0..2 {
        let node = node(&rig.l2, &rig.clock, |builder| builder).repository(Arc::new(users.clone()));
        let answer = node.read::<Number>(&1, CacheStrategy::Refresh).await.unwrap();
        assert_eq!((answer.value.as_deref(), answer.outcome), (Some(&Number(5)), Outcome::HitL2));
        assert_eq!(source.asked(), 0);
        assert_eq!(stored(&rig.memory, "tiered:number:1").await, b"");
    }
}

/// The third version of a number.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Number(usize);

impl CacheEntity for Number {
    type Key = u64;
    const SCHEMA_VERSION: u32 = 3;
    fn cache_key(&self) -> u64 {
        1
    }
    fn cache_prefix() -> &'static str {
        "number"
    }
    fn upgrade<D: OldValue>(_: u32, old: D) -> Option<Self> {
        old.read::<First>().map(|old| Self(old.number()))
    }
}

#[derive(Clone, Debug)]
struct Numbers(Source);

impl DataRepository<Number> for Numbers {
    type Error = std::io::Error;
    async fn fetch_by_id(&self, _: &u64) -> Result<Option<Number>, std::io::Error> {
        self.0.load().await.map(|n| Some(Number(n)))
    }
}

async fn a_first_version_does_not_look_for_older_ones() {
    #[derive(Clone, Debug, Serialize, Deserialize)]
    struct Plain;
    impl CacheEntity for Plain {
        type Key = u64;
        fn cache_key(&self) -> u64 {
            1
        }
        fn cache_prefix() -> &'static str {
            "plain"
        }
    }
    struct None;
    impl DataRepository<Plain> for None {
        type Error = DbDown;
        async fn fetch_by_id(&self, _: &u64) -> Result<Option<Plain>, DbDown> {
            Ok(Option::None)
        }
    }
    let rig = rig();
    rig.l2.switch(State::FailingBeside);
    let cache = rig.cache.repository(Arc::new(None));
    let answer = cache.read::<Plain>(&1, CacheStrategy::Fresh).await;
    assert_eq!(answer.unwrap().outcome, Outcome::Miss, "it would have failed beside");
}

async fn an_absence_is_not_upgraded() {
    let (rig, users) = (rig(), Users::default());
    assert_eq!(user::<UserV1>(&rig.cache, 9, &users).await, (None, Outcome::Load));
    let new = node(&rig.l2, &rig.clock, |builder| builder);
    assert_eq!(user::<User>(&new, 9, &users).await.1, Outcome::Load);
}
