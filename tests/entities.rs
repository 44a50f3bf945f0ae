//! The entity layer: the order of the hooks, refused entities, repositories of every kind.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tiered::{
    CacheEntity, CacheFeed, CacheStrategy, DataRepository, Error, Invalid, Key, Outcome, Tiered,
    tiers::{Memory, Moka},
};

use crate::support::{DbDown, SECOND, rig_with};

scenarios! {
    the_hooks_come_in_their_order,
    a_cached_entity_that_is_refused_is_loaded_anew,
    a_loaded_entity_that_is_refused_is_an_error_and_not_cached,
    the_strategies_reach_the_entity_layer,
    a_registered_repository_refreshes_behind,
    generic_code_over_a_repository_can_be_spawned,
    many_are_fetched_one_by_one_unless_the_repository_does_better,
    many_entities_are_fetched_together,
    a_prefix_cannot_reach_into_anothers_keys,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Spell {
    id: u64,
    damage: i32,
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

/// A repository of spells up to id 8; the damage is told at its making.
struct Book {
    damage: i32,
}

impl DataRepository<Spell> for Book {
    type Error = DbDown;
    async fn fetch_by_id(&self, id: &u64) -> Result<Option<Spell>, DbDown> {
        match *id {
            0 => Err(DbDown),
            1..=8 => Ok(Some(Spell { id: *id, damage: self.damage })),
            _ => Ok(None),
        }
    }
}

#[derive(Debug, Default)]
struct Recorder {
    id: u64,
    refuse_below: i32,
    calls: Vec<String>,
}

impl CacheFeed<Spell> for Recorder {
    fn entity_id(&mut self) -> u64 {
        self.calls.push("entity_id".into());
        self.id
    }
    fn feed(&mut self, entity: Option<Spell>) {
        self.calls.push(format!("feed {:?}", entity.map(|spell| spell.damage)));
    }
    fn validate(&mut self, entity: &Spell) -> Result<(), Invalid> {
        self.calls.push("validate".into());
        if entity.damage < self.refuse_below { Err(Invalid::new("too weak")) } else { Ok(()) }
    }
    fn on_hit(&mut self, _: &u64) {
        self.calls.push("on_hit".into());
    }
    fn on_miss(&mut self, _: &u64) {
        self.calls.push("on_miss".into());
    }
    fn on_loaded(&mut self, _: &Spell) {
        self.calls.push("on_loaded".into());
    }
}

fn cache() -> Tiered {
    Tiered::new(Moka::new(100), Memory::new()).build().unwrap()
}

/// Runs one `execute` borrowed or registered, and returns its result with the calls in order.
async fn execute(
    cache: &Tiered,
    registered: bool,
    (id, refuse_below): (u64, i32),
    damage: i32,
    strategy: CacheStrategy,
) -> (Result<Outcome, Error>, Vec<String>) {
    let mut feeder = Recorder { id, refuse_below, ..Recorder::default() };
    let book = Book { damage };
    let result = if registered {
        cache.repository(Arc::new(book)).execute(&mut feeder, strategy).await
    } else {
        cache.execute(&mut feeder, &book, strategy).await
    };
    (result, feeder.calls)
}

async fn the_hooks_come_in_their_order() {
    use CacheStrategy::{Fresh, Refresh};
    for registered in [false, true] {
        let cache = cache();
        let (outcome, calls) = execute(&cache, registered, (1, 0), 10, Fresh).await;
        assert_eq!(outcome.unwrap(), Outcome::Miss);
        assert_eq!(calls, ["entity_id", "on_miss", "feed None"]);
        let (outcome, calls) = execute(&cache, registered, (1, 0), 10, Refresh).await;
        assert_eq!(outcome.unwrap(), Outcome::Load);
        assert_eq!(calls, ["entity_id", "on_miss", "on_loaded", "validate", "feed Some(10)"]);
        let (outcome, calls) = execute(&cache, registered, (1, 0), 99, Refresh).await;
        assert_eq!(outcome.unwrap(), Outcome::HitL1);
        assert_eq!(calls, ["entity_id", "on_hit", "validate", "feed Some(10)"]);
        let (outcome, calls) = execute(&cache, registered, (9, 0), 10, Refresh).await;
        assert_eq!(outcome.unwrap(), Outcome::Load);
        assert_eq!(calls, ["entity_id", "on_miss", "feed None"]);
        let (outcome, calls) = execute(&cache, registered, (9, 0), 10, Refresh).await;
        assert_eq!(outcome.unwrap(), Outcome::Negative);
        assert_eq!(calls, ["entity_id", "on_hit", "feed None"]);
        let (outcome, calls) = execute(&cache, registered, (0, 0), 10, Refresh).await;
        assert_eq!(outcome.unwrap_err().loader_error::<DbDown>(), Some(&DbDown));
        assert_eq!(calls, ["entity_id"]);
    }
}

async fn a_cached_entity_that_is_refused_is_loaded_anew() {
    for registered in [false, true] {
        let cache = cache();
        execute(&cache, registered, (1, 0), 10, CacheStrategy::Refresh).await.0.unwrap();
        let (outcome, calls) =
            execute(&cache, registered, (1, 50), 99, CacheStrategy::Refresh).await;
        assert_eq!(outcome.unwrap(), Outcome::Load);
        let expected = [
            "entity_id",
            "on_hit",
            "validate",
            "on_miss",
            "on_loaded",
            "validate",
            "feed Some(99)",
        ];
        assert_eq!(calls, expected);
        // Under Fresh it is a miss, and gone.
        let (outcome, calls) = execute(&cache, registered, (1, 100), 0, CacheStrategy::Fresh).await;
        assert_eq!(outcome.unwrap(), Outcome::Miss);
        assert_eq!(calls, ["entity_id", "on_hit", "validate", "on_miss", "feed None"]);
        assert_eq!(cache.get::<Spell>(Key::entity::<Spell>(&1)).await.unwrap(), None);
    }
}

async fn a_loaded_entity_that_is_refused_is_an_error_and_not_cached() {
    for registered in [false, true] {
        let cache = cache();
        let (outcome, calls) =
            execute(&cache, registered, (1, 50), 10, CacheStrategy::Refresh).await;
        let error = outcome.unwrap_err();
        assert_eq!(error.loader_error::<Invalid>(), Some(&Invalid::new("too weak")));
        assert_eq!(calls, ["entity_id", "on_miss", "on_loaded", "validate"]);
        assert_eq!(cache.get::<Spell>(Key::entity::<Spell>(&1)).await.unwrap(), None);
    }
}

async fn the_strategies_reach_the_entity_layer() {
    let cache = cache();
    for (damage, strategy) in
        [(1, CacheStrategy::Refresh), (2, CacheStrategy::Invalidate), (3, CacheStrategy::Bypass)]
    {
        execute(&cache, false, (1, 0), damage, strategy).await.0.unwrap();
        let cached = cache.key(Key::entity::<Spell>(&1)).lookup::<Spell>().await.unwrap();
        assert_eq!(cached.value.unwrap().damage, damage, "{strategy:?}");
    }
}

async fn a_registered_repository_refreshes_behind() {
    let rig = rig_with(|builder| builder.stale_for(600 * SECOND).local_for(3600 * SECOND));
    let old = rig.cache.repository(Arc::new(Book { damage: 1 }));
    old.read::<Spell>(&1, CacheStrategy::Refresh).await.unwrap();
    rig.clock.advance(61 * SECOND);
    let new = rig.cache.repository(Arc::new(Book { damage: 2 }));
    let stale = new.read::<Spell>(&1, CacheStrategy::Refresh).await.unwrap();
    assert_eq!((stale.value.unwrap().damage, stale.outcome), (1, Outcome::Stale));
    rig.cache.shutdown().await;
    let fresh = new.read::<Spell>(&1, CacheStrategy::Refresh).await.unwrap();
    assert_eq!((fresh.value.unwrap().damage, fresh.outcome), (2, Outcome::HitL1));
}

async fn generic_code_over_a_repository_can_be_spawned() {
    async fn read<T, R, F>(cache: Tiered, repository: Arc<R>, mut feeder: F) -> F
    where
        T: CacheEntity + Serialize + for<'de> Deserialize<'de>,
        R: DataRepository<T> + 'static,
        F: CacheFeed<T> + 'static,
    {
        tokio::spawn(async move {
            cache.execute(&mut feeder, &*repository, CacheStrategy::Refresh).await.unwrap();
            cache
                .repository(repository)
                .execute(&mut feeder, CacheStrategy::Refresh)
                .await
                .unwrap();
            feeder
        })
        .await
        .unwrap()
    }
    let feeder = read::<Spell, _, _>(
        cache(),
        Arc::new(Book { damage: 4 }),
        Recorder { id: 3, ..Recorder::default() },
    )
    .await;
    assert_eq!(feeder.calls.last().unwrap(), "feed Some(4)");
}

async fn many_are_fetched_one_by_one_unless_the_repository_does_better() {
    let found = Book { damage: 1 }.fetch_by_ids(&[1, 9, 2]).await.unwrap();
    assert_eq!(found.iter().map(Spell::cache_key).collect::<Vec<_>>(), [1, 2]);
    assert!(Book { damage: 1 }.fetch_by_ids(&[1, 0]).await.is_err());
}

/// A repository that is asked for many at once, and remembers for which.
#[derive(Default)]
struct Shelf {
    asked: std::sync::Mutex<Vec<Vec<u64>>>,
}

impl DataRepository<Spell> for Shelf {
    type Error = DbDown;
    async fn fetch_by_id(&self, _: &u64) -> Result<Option<Spell>, DbDown> {
        panic!("one by one")
    }
    async fn fetch_by_ids(&self, ids: &[u64]) -> Result<Vec<Spell>, DbDown> {
        self.asked.lock().unwrap().push(ids.to_vec());
        // In an order of its own.
        Ok(ids.iter().rev().filter(|id| **id < 9).map(|id| Spell { id: *id, damage: 5 }).collect())
    }
}

async fn many_entities_are_fetched_together() {
    let rig = rig_with(|builder| builder);
    let shelf = Arc::new(Shelf::default());
    let known = rig.cache.key(Key::entity::<Spell>(&2)).set(Spell { id: 2, damage: 1 }).await;
    assert!(known.is_ok());
    let damages = |read: Vec<Result<Option<Arc<Spell>>, Error>>| -> Vec<_> {
        read.into_iter().map(|spell| spell.unwrap().map(|spell| spell.damage)).collect()
    };
    let ids = [3, 2, 9, 1, 3];
    let read = rig.cache.read_many(&ids, &*shelf, CacheStrategy::Refresh).await;
    assert_eq!(damages(read), [Some(5), Some(1), None, Some(5), Some(5)]);
    assert_eq!(*shelf.asked.lock().unwrap(), [vec![3, 9, 1]]);
    let repository = rig.cache.repository(Arc::clone(&shelf));
    let read = repository.read_many(&ids, CacheStrategy::Fresh).await;
    assert_eq!(damages(read), [Some(5), Some(1), None, Some(5), Some(5)]);
    let read = repository.read_many(&[2], CacheStrategy::Bypass).await;
    assert_eq!(damages(read), [Some(5)]);
    // The same entries as one by one.
    let one = repository.read(&3, CacheStrategy::Fresh).await.unwrap();
    assert_eq!(one.value.unwrap().damage, 5);
}

async fn a_prefix_cannot_reach_into_anothers_keys() {
    #[derive(Clone, Debug, Serialize, Deserialize)]
    struct Odd;
    impl CacheEntity for Odd {
        type Key = &'static str;
        fn cache_key(&self) -> &'static str {
            "1"
        }
        fn cache_prefix() -> &'static str {
            "a:b"
        }
    }
    assert_ne!(Key::entity::<Odd>(&"1"), Key::from("a:b:1"));
    assert_eq!(Key::entity::<Spell>(&1), Key::from("spell:1"));
}
