//! Two versions of one program over one cache, as a deployment has them: they must neither fight
//! over entries nor load more than each for itself.

use serde::{Deserialize, Serialize};
use tiered::{
    Ack, CacheEntity, CacheFeed, CacheStrategy, DataRepository, Jitter, OldValue, Outcome,
    Postcard, Tiered,
    tiers::{Memory, RemoteTier},
};

use crate::support::{DbDown, Rig, SECOND, Source, node, rig};

scenarios! {
    half_a_deployment_loads_at_most_twice_as_much,
    half_a_deployment_of_an_undeclared_change_loads_at_most_twice_as_much,
    a_version_never_replaces_a_newer_ones_entry,
    a_value_of_another_shape_is_left_alone_and_worked_beside,
    an_invalidation_drops_what_both_versions_have,
    an_invalidation_overtakes_a_load_beside,
    a_set_drops_what_the_other_version_has,
    a_set_beside_a_newer_version_leaves_it_nothing_old,
    after_a_rollback_the_older_version_has_the_key_again,
    of_three_versions_none_fails,
    an_older_entry_is_upgraded_without_a_load,
    an_upgrade_keeps_the_entrys_age,
    an_upgrade_that_declines_or_panics_loads,
    an_upgrade_that_was_overtaken_is_not_stored,
    an_absence_is_not_upgraded,
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
    }
    // Lifetimes that are drawn at random scatter the figure by a few in a hundred.
    let steady = loads::<First, First>(0, Jitter::default()).await;
    let half = loads::<First, Second>(6, Jitter::default()).await;
    assert!(half * 100 <= steady * 210, "{half} loads instead of {steady}");
}

async fn half_a_deployment_of_an_undeclared_change_loads_at_most_twice_as_much() {
    let steady = loads::<First, First>(0, Jitter::none()).await;
    let half = loads::<First, Undeclared>(6, Jitter::none()).await;
    assert!(half <= 2 * steady, "{half} loads instead of {steady}");
}

async fn stored(memory: &Memory, key: &str) -> Vec<u8> {
    memory.get(key.as_bytes()).await.unwrap().map_or(Vec::new(), |found| found.bytes.to_vec())
}

async fn a_version_never_replaces_a_newer_ones_entry() {
    let (rig, source) = (rig(), Source::default());
    let old = node(&rig.l2, &rig.clock, |builder| builder);
    read::<Second>(&rig.cache, "k", &source).await;
    let newer = stored(&rig.memory, "tiered:k").await;
    for strategy in [CacheStrategy::Refresh, CacheStrategy::Bypass] {
        let request = old.key("k").schema(1).strategy(strategy).skip_l1();
        request.get_or_load(|| async { source.load().await.map(First::of) }).await.unwrap();
        assert_eq!(stored(&rig.memory, "tiered:k").await, newer, "{strategy:?}");
    }
    // And it shares what it loaded with those of its own version.
    let third = node(&rig.l2, &rig.clock, |builder| builder);
    assert_eq!(outcome::<First>(&third, "k").await, Outcome::HitL2);
    assert_eq!(outcome::<Second>(&third, "k").await, Outcome::HitL2);
}

async fn a_value_of_another_shape_is_left_alone_and_worked_beside() {
    let (rig, source) = (rig(), Source::default());
    read::<First>(&rig.cache, "k", &source).await;
    let first = stored(&rig.memory, "tiered:k").await;
    let other = node(&rig.l2, &rig.clock, |builder| builder);
    read::<Undeclared>(&other, "k", &source).await;
    assert_eq!(stored(&rig.memory, "tiered:k").await, first);
    let third = node(&rig.l2, &rig.clock, |builder| builder);
    assert_eq!(outcome::<First>(&third, "k").await, Outcome::HitL2);
    assert_eq!(outcome::<Undeclared>(&third, "k").await, Outcome::HitL2);
    assert_eq!(source.asked(), 2);
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

async fn a_set_beside_a_newer_version_leaves_it_nothing_old() {
    let (rig, ..) = both_versions().await;
    // This one has met the newer version, and leaves it the main slot.
    let _ = rig.cache.key("k").schema(1).set(First::of(5)).await.unwrap();
    let fresh = node(&rig.l2, &rig.clock, |builder| builder);
    assert_eq!(outcome::<Second>(&fresh, "k").await, Outcome::Miss);
    let own = node(&rig.l2, &rig.clock, |builder| builder);
    assert_eq!(
        rig.cache.key("k").schema(1).skip_l1().get::<First>().await.unwrap().unwrap().count,
        5
    );
    drop(own);
}

async fn after_a_rollback_the_older_version_has_the_key_again() {
    let (rig, source, _) = both_versions().await;
    rig.clock.advance(7200 * SECOND);
    read::<First>(&rig.cache, "k", &source).await;
    let fresh = node(&rig.l2, &rig.clock, |builder| builder);
    assert_eq!(outcome::<First>(&fresh, "k").await, Outcome::HitL2);
    assert!(!stored(&rig.memory, "tiered:k").await.is_empty());
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
        let name = ["Ada Lovelace", "Plato", "Panic Now"].get(*id as usize);
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
    // It is stored: another process finds it as one of its own, without the upgrade.
    let third = node(&rig.l2, &rig.clock, |builder| builder);
    let found = third.key("user:0").schema(2).get::<User>().await.unwrap();
    assert_eq!(found.as_deref(), Some(&ada));
    assert_eq!(users.0.asked(), 1);
}

async fn an_upgrade_keeps_the_entrys_age() {
    let (rig, users) = (rig(), Users::default());
    user::<UserV1>(&rig.cache, 0, &users).await;
    rig.clock.advance(40 * SECOND);
    let new = node(&rig.l2, &rig.clock, |builder| builder);
    user::<User>(&new, 0, &users).await;
    for cache in [new, node(&rig.l2, &rig.clock, |builder| builder)] {
        let answer = cache.key("user:0").schema(2).lookup::<User>().await.unwrap();
        assert_eq!((answer.age, answer.remaining), (40 * SECOND, 20 * SECOND));
    }
    rig.clock.advance(20 * SECOND);
    let late = node(&rig.l2, &rig.clock, |builder| builder);
    assert_eq!(user::<User>(&late, 0, &users).await.1, Outcome::Load);
}

async fn an_upgrade_that_declines_or_panics_loads() {
    let (rig, users) = (rig(), Users::default());
    for id in [1, 2] {
        user::<UserV1>(&rig.cache, id, &users).await;
        let new = node(&rig.l2, &rig.clock, |builder| builder);
        let (found, outcome) = user::<User>(&new, id, &users).await;
        assert_eq!((found.unwrap().first.as_str(), outcome), ("loaded", Outcome::Load));
        assert_eq!(new.stats().decode_failures, 1);
        let third = node(&rig.l2, &rig.clock, |builder| builder);
        assert_eq!(user::<User>(&third, id, &users).await.1, Outcome::HitL2, "it was replaced");
    }
}

async fn an_upgrade_that_was_overtaken_is_not_stored() {
    let (rig, users) = (rig(), Users::default());
    user::<UserV1>(&rig.cache, 0, &users).await;
    let new = node(&rig.l2, &rig.clock, |builder| builder);
    rig.l2.switch(crate::support::State::Gated);
    let before = rig.l2.operations();
    let read = user::<User>(&new, 0, &users);
    let invalidate = async {
        crate::support::eventually("it has read", || rig.l2.operations() == before + 1).await;
        rig.l2.switch(crate::support::State::Up);
        assert_eq!(rig.cache.invalidate("user:0").await.unwrap(), Ack::Done);
        rig.l2.admit(1);
    };
    let ((found, _), ()) = tokio::join!(read, invalidate);
    assert_eq!(found.unwrap().first, "Ada", "it began before the invalidation");
    let third = node(&rig.l2, &rig.clock, |builder| builder);
    assert_eq!(outcome_of_user(&third).await, Outcome::Miss);
}

async fn outcome_of_user(cache: &Tiered) -> Outcome {
    cache.key("user:0").schema(2).lookup::<User>().await.unwrap().outcome
}

async fn an_absence_is_not_upgraded() {
    let (rig, users) = (rig(), Users::default());
    assert_eq!(user::<UserV1>(&rig.cache, 9, &users).await, (None, Outcome::Load));
    let new = node(&rig.l2, &rig.clock, |builder| builder);
    assert_eq!(user::<User>(&new, 9, &users).await.1, Outcome::Load);
}
