//! Many keys in one call: each key is a read or a write of its own, and they share their round trips.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use futures_util::future::{join, join_all};
use tiered::{
    Ack, CacheStrategy, Error, LoaderPanicked, Outcome, Tiered,
    tiers::{
        Claim, Fill, Found, HoldEnd, Lease, LeaseToken, Memory, Moka, Progress, RemoteTier,
        TierError,
    },
};
use tokio::sync::{Notify, Semaphore};

use crate::support::{DbDown, Rig, SECOND, State, eventually, node, rig, rig_with};

scenarios! {
    what_is_missing_is_loaded_in_one_load,
    answers_come_in_the_callers_order_with_duplicates,
    nothing_and_one_are_batches_too,
    what_does_not_exist_is_remembered,
    one_look_into_l2_for_all_of_them,
    two_batches_that_cross_end_both,
    a_single_read_and_a_batch_share_a_load,
    a_batch_that_goes_away_leaves_its_keys_to_those_who_wait,
    batches_that_go_away_in_turn_end_for_the_last,
    a_key_that_falls_to_a_batch_is_loaded_before_it_waits_on,
    writes_of_many_drop_what_another_version_has,
    a_batch_whose_loader_is_busy_is_not_waited_for,
    a_failing_load_fails_its_keys_alone,
    a_failing_load_is_stood_in_for_by_stale_values,
    a_panicking_loader_fails_its_keys_and_no_other_call,
    a_load_that_takes_too_long,
    an_invalid_key_fails_alone,
    an_invalidation_under_way_refuses_one_key_of_the_batch,
    l2_that_hangs_costs_a_batch_one_budget,
    a_tier_that_answers_too_few_is_believed_in_nothing,
    the_strategies_hold_for_batches,
    a_cache_that_is_switched_off_loads_and_stores_nothing,
    a_cache_without_l2,
    writes_of_many,
    the_last_value_of_a_key_set_twice_counts,
    a_value_that_cannot_be_stored_loses_nothing_and_fails_alone,
    writes_while_l2_is_down_are_pending,
    a_dropped_write_of_many_leaves_all_of_them_invalidated,
    as_many_values_as_keys,
    batches_count_as_reads,
    what_else_a_loader_returns_is_left,
}

/// A database of numbers below a hundred, that remembers what it was asked for.
#[derive(Clone, Default)]
struct Numbers {
    asked: Arc<std::sync::Mutex<Vec<Vec<u32>>>>,
}

impl Numbers {
    async fn load(&self, ids: Vec<u32>) -> Result<HashMap<u32, u64>, DbDown> {
        self.asked.lock().unwrap().push(ids.clone());
        tokio::task::yield_now().await;
        Ok(ids.into_iter().filter(|id| *id < 100).map(|id| (id, u64::from(id) * 10)).collect())
    }

    fn asked(&self) -> Vec<Vec<u32>> {
        self.asked.lock().unwrap().clone()
    }
}

fn values(answers: Vec<Result<Option<Arc<u64>>, Error>>) -> Vec<Option<u64>> {
    answers.into_iter().map(|answer| answer.unwrap().map(|value| *value)).collect()
}

fn done(acks: Vec<Result<Ack, Error>>) -> bool {
    acks.into_iter().all(|ack| ack.unwrap() == Ack::Done)
}

async fn what_is_missing_is_loaded_in_one_load() {
    let (rig, db) = (rig(), Numbers::default());
    let load = |ids: Vec<u32>| db.load(ids);
    rig.cache.set_many([(2, 20_u64), (4, 40)]).await;
    let read = rig.cache.get_or_load_many(1..=5, load).await;
    assert_eq!(values(read), [Some(10), Some(20), Some(30), Some(40), Some(50)]);
    assert_eq!(db.asked(), [vec![1, 3, 5]]);
    assert_eq!(rig.cache.stats().loads, 1);
    let read = rig.cache.get_or_load_many(1..=5, load).await;
    assert_eq!(values(read), [Some(10), Some(20), Some(30), Some(40), Some(50)]);
    assert_eq!(db.asked().len(), 1, "nothing was missing");
    // Another process finds them all in L2.
    let other = node(&rig.l2, &rig.clock, |builder| builder);
    assert_eq!(values(other.get_many(1..=5).await), [10, 20, 30, 40, 50].map(Some));
    assert_eq!(other.stats().hit_l2, 5);
}

async fn answers_come_in_the_callers_order_with_duplicates() {
    let (rig, db) = (rig(), Numbers::default());
    let keys = [7, 3, 7, 101, 3, 1, 101];
    let expected = [Some(70), Some(30), Some(70), None, Some(30), Some(10), None];
    let read = rig.cache.get_or_load_many(keys, |ids| db.load(ids)).await;
    assert_eq!(values(read), expected);
    assert_eq!(db.asked(), [vec![7, 3, 101, 1]], "each once");
    assert_eq!(values(rig.cache.get_many(keys).await), expected);
}

async fn nothing_and_one_are_batches_too() {
    let (rig, db) = (rig(), Numbers::default());
    let none: [u32; 0] = [];
    assert!(rig.cache.get_or_load_many(none, |ids| db.load(ids)).await.is_empty());
    assert!(rig.cache.get_many::<u64, _>(none).await.is_empty());
    assert!(rig.cache.set_many::<u64, u32>([]).await.is_empty());
    assert!(rig.cache.invalidate_many(none).await.is_empty());
    assert!(db.asked().is_empty());
    assert_eq!(values(rig.cache.get_or_load_many([8], |ids| db.load(ids)).await), [Some(80)]);
    assert_eq!(values(rig.cache.get_many([8]).await), [Some(80)]);
    assert!(done(rig.cache.invalidate_many([8]).await));
    assert_eq!(values(rig.cache.get_many([8]).await), [None]);
}

async fn what_does_not_exist_is_remembered() {
    let (rig, db) = (rig(), Numbers::default());
    for _ in 0..2 {
        let read = rig.cache.get_or_load_many([500, 1], |ids| db.load(ids)).await;
        assert_eq!(values(read), [None, Some(10)]);
    }
    assert_eq!(db.asked(), [vec![500, 1]]);
    let answers = rig.cache.keys([500]).lookup::<u64>().await;
    assert_eq!(answers.into_iter().next().unwrap().unwrap().outcome, Outcome::Negative);
}

async fn one_look_into_l2_for_all_of_them() {
    let rig = rig();
    rig.cache.set_many((0..200_u32).map(|id| (id, u64::from(id)))).await;
    let other = node(&rig.l2, &rig.clock, |builder| builder);
    let (gets, batches) = (rig.l2.gets(), rig.l2.batches());
    assert_eq!(values(other.get_many(0..200_u32).await).len(), 200);
    assert_eq!((rig.l2.gets() - gets, rig.l2.batches() - batches), (0, 1));
}

/// A loader of a batch that says when it has begun, and waits at a gate.
#[derive(Clone)]
struct Gate {
    open: Arc<Semaphore>,
    begun: Arc<Notify>,
    loads: Arc<AtomicUsize>,
}

impl Gate {
    fn closed() -> Self {
        Self { open: Arc::new(Semaphore::new(0)), begun: Arc::default(), loads: Arc::default() }
    }

    async fn load(&self, ids: Vec<u32>) -> Result<Vec<(u32, u64)>, DbDown> {
        self.loads.fetch_add(1, Ordering::SeqCst);
        self.begun.notify_one();
        self.open.acquire().await.unwrap().forget();
        Ok(ids.into_iter().map(|id| (id, u64::from(id) * 10)).collect())
    }
}

/// Each waits for a key that the other loads.
async fn two_batches_that_cross_end_both() {
    let (rig, left, right) = (rig(), Gate::closed(), Gate::closed());
    let (one, other) = (rig.cache.clone(), rig.cache.clone());
    let first = async { one.get_or_load_many([1, 2], |ids| left.load(ids)).await };
    let second = async {
        left.begun.notified().await;
        other.get_or_load_many([3, 2, 1], |ids| right.load(ids)).await
    };
    let third = async {
        right.begun.notified().await;
        let gate = Gate::closed();
        gate.open.add_permits(1);
        let read = rig.cache.get_or_load_many([2, 3, 4], |ids| gate.load(ids)).await;
        assert_eq!(gate.loads.load(Ordering::SeqCst), 1, "only 4 was nobody's");
        read
    };
    let release = async {
        eventually("they wait for each other", || rig.cache.stats().coalesced == 4).await;
        left.open.add_permits(1);
        right.open.add_permits(1);
    };
    let (first, second, third, ()) = tokio::join!(first, second, third, release);
    assert_eq!(values(first), [Some(10), Some(20)]);
    assert_eq!(values(second), [Some(30), Some(20), Some(10)]);
    assert_eq!(values(third), [Some(20), Some(30), Some(40)]);
    assert_eq!(rig.cache.stats().loads, 3);
}

async fn a_single_read_and_a_batch_share_a_load() {
    let (rig, gate) = (rig(), Gate::closed());
    let cache = &rig.cache;
    let single = cache.get_or_load(2, || async {
        let found = gate.load(vec![2]).await?;
        Ok::<_, DbDown>(found[0].1)
    });
    let batch = async {
        gate.begun.notified().await;
        let rest = Gate::closed();
        rest.open.add_permits(1);
        cache.get_or_load_many([1, 2, 3], |ids| rest.load(ids)).await
    };
    let release = async {
        eventually("the batch waits for one", || cache.stats().coalesced == 1).await;
        gate.open.add_permits(1);
    };
    let (single, batch, ()) = tokio::join!(single, batch, release);
    assert_eq!(*single.unwrap(), 20);
    assert_eq!(values(batch), [Some(10), Some(20), Some(30)]);
    assert_eq!((cache.stats().loads, cache.stats().shared), (2, 1));

    // And the other way round.
    let gate = Gate::closed();
    let batch = cache.get_or_load_many([7, 8], |ids| gate.load(ids));
    let single = async {
        gate.begun.notified().await;
        cache.get_or_load(8, || async { Err::<u64, _>(DbDown) }).await
    };
    let release = async {
        eventually("the single one waits", || cache.stats().coalesced == 2).await;
        gate.open.add_permits(1);
    };
    let (batch, single, ()) = tokio::join!(batch, single, release);
    assert_eq!(values(batch), [Some(70), Some(80)]);
    assert_eq!(*single.unwrap(), 80);
}

async fn a_batch_that_goes_away_leaves_its_keys_to_those_who_wait() {
    let (rig, gate, db) = (rig(), Gate::closed(), Numbers::default());
    let (cache, leader) = (rig.cache.clone(), rig.cache.clone());
    let first = gate.clone();
    let leading = tokio::spawn(async move {
        leader.get_or_load_many([1, 2, 3], |ids| first.load(ids)).await;
    });
    gate.begun.notified().await;
    let waiting = async {
        let singles = [1_u32, 2].map(|id| {
            let db = db.clone();
            let cache = cache.clone();
            async move {
                let load = || async { Ok::<_, DbDown>(db.load(vec![id]).await?[&id]) };
                Some(*cache.get_or_load(id, load).await.unwrap())
            }
        });
        let batch = async { values(cache.get_or_load_many([3, 2, 4], |ids| db.load(ids)).await) };
        join(join_all(singles), batch).await
    };
    let drop_leader = async {
        eventually("they wait", || cache.stats().coalesced == 4).await;
        leading.abort();
    };
    let ((singles, batch), ()) = join(waiting, drop_leader).await;
    assert_eq!(singles, [Some(10), Some(20)]);
    assert_eq!(batch, [Some(30), Some(20), Some(40)]);
    let mut loaded = db.asked().concat();
    loaded.sort_unstable();
    assert_eq!(loaded, [1, 2, 3, 4], "each key was loaded once more");
}

/// Every batch wants the same keys, and all but the last are dropped in the middle of their loads.
async fn batches_that_go_away_in_turn_end_for_the_last() {
    let (rig, gate) = (rig(), Gate::closed());
    let keys = || 0..50_u32;
    let mut batches = Vec::new();
    for _ in 0..8 {
        let (cache, gate) = (rig.cache.clone(), gate.clone());
        batches.push(tokio::spawn(async move {
            cache.get_or_load_many(keys(), |ids| gate.load(ids)).await
        }));
    }
    let last = batches.pop().unwrap();
    // Those that lead some of the keys are dropped one by one; the rest falls to others.
    for batch in batches {
        let loads = gate.loads.load(Ordering::SeqCst);
        batch.abort();
        let _ = batch.await;
        tokio::task::yield_now().await;
        assert!(gate.loads.load(Ordering::SeqCst) >= loads);
    }
    gate.open.add_permits(1_000);
    assert_eq!(values(last.await.unwrap()).len(), 50);
    assert_eq!(
        values(rig.cache.get_many(keys()).await),
        keys().map(|id| Some(u64::from(id) * 10)).collect::<Vec<_>>()
    );
}

/// Else two batches could hold what the other waits for.
async fn a_key_that_falls_to_a_batch_is_loaded_before_it_waits_on() {
    let (rig, stuck, gone, db) = (rig(), Gate::closed(), Gate::closed(), Numbers::default());
    let lead = |id: u32, gate: &Gate| {
        let (cache, gate) = (rig.cache.clone(), gate.clone());
        tokio::spawn(async move { cache.get_or_load_many([id], |ids| gate.load(ids)).await })
    };
    let (_stuck, going) = (lead(1, &stuck), lead(2, &gone));
    stuck.begun.notified().await;
    gone.begun.notified().await;
    let (cache, load) = (rig.cache.clone(), db.clone());
    let batch =
        tokio::spawn(async move { cache.get_or_load_many([1, 2], |ids| load.load(ids)).await });
    eventually("it waits for both", || rig.cache.stats().coalesced == 2).await;
    going.abort();
    eventually("one of them is loaded", || db.asked() == [[2]]).await;
    let second = rig.cache.get_or_load(2, || async { Err::<u64, _>(DbDown) }).await;
    assert_eq!(*second.unwrap(), 20, "others have it while the batch waits on");
    stuck.open.add_permits(1);
    assert_eq!(values(batch.await.unwrap()), [Some(10), Some(20)]);
}

/// What a batch loads is made of a key that falls to the same batch meanwhile.
async fn a_batch_whose_loader_is_busy_is_not_waited_for() {
    let (rig, second, third) = (rig(), Gate::closed(), Gate::closed());
    let lead = |id: u32, gate: &Gate| {
        let (cache, gate) = (rig.cache.clone(), gate.clone());
        tokio::spawn(async move { cache.get_or_load_many([id], |ids| gate.load(ids)).await })
    };
    let (two, three) = (lead(2, &second), lead(3, &third));
    second.begun.notified().await;
    third.begun.notified().await;
    let cache = rig.cache.clone();
    let batch = tokio::spawn(async move {
        let load = async |ids: Vec<u32>| {
            if ids == [2] {
                let of = cache.get_or_load(3, || async { Err::<u64, _>(DbDown) }).await;
                assert_eq!(*of.unwrap(), 30);
            }
            Ok::<_, DbDown>(ids.into_iter().map(|id| (id, u64::from(id) * 10)).collect::<Vec<_>>())
        };
        cache.get_or_load_many([2, 3], load).await
    });
    eventually("it waits for both", || rig.cache.stats().coalesced == 2).await;
    two.abort();
    eventually("its loader waits for 3", || rig.cache.stats().coalesced == 3).await;
    three.abort();
    assert_eq!(values(batch.await.unwrap()), [Some(20), Some(30)]);
}

async fn writes_of_many_drop_what_another_version_has() {
    let rig = rig();
    for id in [1, 2] {
        assert_eq!(rig.cache.key(id).schema(1).set(7_u64).await.unwrap(), Ack::Done);
    }
    assert!(done(rig.cache.set_many([(1, 10_u64)]).await));
    assert!(done(rig.cache.invalidate_many([2]).await));
    let read = rig.cache.keys([1, 2]).schema(1).skip_l1().get::<u64>().await;
    assert_eq!(values(read), [None, None], "the other slot's value is older");
    assert_eq!(values(rig.cache.keys([1, 2]).skip_l1().get().await), [Some(10), None]);
}

async fn a_failing_load_fails_its_keys_alone() {
    let rig = rig();
    rig.cache.set_many([(1, 10_u64)]).await;
    let fail = |_: Vec<u32>| async { Err::<Vec<(u32, u64)>, _>(DbDown) };
    let read = rig.cache.get_or_load_many([1, 2, 3], fail).await;
    assert_eq!(read[0].as_ref().unwrap().as_deref(), Some(&10));
    for answer in &read[1..] {
        let error = answer.as_ref().unwrap_err();
        assert_eq!(error.loader_error::<DbDown>(), Some(&DbDown), "the loader's own error");
    }
    // Nothing is remembered of it, and its leases are given back.
    let db = Numbers::default();
    let read = rig.cache.get_or_load_many([1, 2, 3], |ids| db.load(ids)).await;
    assert_eq!(values(read), [Some(10), Some(20), Some(30)]);
    let other = node(&rig.l2, &rig.clock, |builder| builder);
    assert_eq!(values(other.get_many([1, 2, 3]).await), [Some(10), Some(20), Some(30)]);
}

async fn a_failing_load_is_stood_in_for_by_stale_values() {
    let rig = rig_with(|builder| builder.stale_for(600 * SECOND));
    rig.cache.set_many([(1, 10_u64), (2, 20)]).await;
    rig.clock.advance(61 * SECOND);
    let fail = |_: Vec<u32>| async { Err::<Vec<(u32, u64)>, _>(DbDown) };
    let read = rig.cache.keys([1, 2, 3]).load(fail).await;
    for (answer, value) in read.iter().zip([10, 20]) {
        let answer = answer.as_ref().unwrap();
        assert_eq!((answer.outcome, answer.value.as_deref()), (Outcome::Stale, Some(&value)));
    }
    assert!(matches!(read[2], Err(Error::Repository(_))));
    // From L2 too.
    let other = node(&rig.l2, &rig.clock, |builder| builder.stale_for(600 * SECOND));
    let read = other.get_or_load_many([1, 2], fail).await;
    assert_eq!(values(read), [Some(10), Some(20)]);
}

async fn a_panicking_loader_fails_its_keys_and_no_other_call() {
    let rig = rig();
    let panics = |ids: Vec<u32>| async move {
        assert!(ids.is_empty(), "a loader that panics");
        Ok::<Vec<(u32, u64)>, DbDown>(Vec::new())
    };
    for answer in rig.cache.get_or_load_many([1, 2], panics).await {
        let error = answer.unwrap_err();
        assert!(error.loader_error::<LoaderPanicked>().is_some(), "{error:?}");
    }
    let at_once = |ids: Vec<u32>| -> std::future::Ready<Result<Vec<(u32, u64)>, DbDown>> {
        panic!("before there is a future of {ids:?}")
    };
    assert!(rig.cache.get_or_load_many([1, 2], at_once).await.iter().all(Result::is_err));
    let db = Numbers::default();
    let read = rig.cache.get_or_load_many([1, 2], |ids| db.load(ids)).await;
    assert_eq!(values(read), [Some(10), Some(20)]);
}

async fn a_load_that_takes_too_long() {
    let rig = rig_with(|builder| builder.load_timeout(Duration::from_millis(5)));
    let gate = Gate::closed();
    let read = rig.cache.get_or_load_many([1, 2], |ids| gate.load(ids)).await;
    assert!(read.iter().all(|answer| matches!(answer, Err(Error::Timeout(_)))));
}

async fn an_invalid_key_fails_alone() {
    let rig = rig();
    let long = "x".repeat(70_000);
    let keys = ["a", &long, "b"];
    let load = |keys: Vec<&'static str>| async move {
        Ok::<_, DbDown>(keys.into_iter().map(|key| (key, 1_u64)).collect::<Vec<_>>())
    };
    let keys = keys.map(|key| -> &'static str { Box::leak(key.to_owned().into_boxed_str()) });
    let read = rig.cache.get_or_load_many(keys, load).await;
    assert!(read[0].is_ok() && read[2].is_ok());
    assert!(matches!(read[1], Err(Error::InvalidKey(_))));
    let acks = rig.cache.set_many(keys.map(|key| (key, 2_u64))).await;
    assert!(acks[0].is_ok() && acks[2].is_ok() && matches!(acks[1], Err(Error::InvalidKey(_))));
    let acks = rig.cache.invalidate_many(keys).await;
    assert!(acks[0].is_ok() && acks[2].is_ok() && matches!(acks[1], Err(Error::InvalidKey(_))));
    assert_eq!(values(rig.cache.get_many(["a", "b"]).await), [None, None]);
}

async fn an_invalidation_under_way_refuses_one_key_of_the_batch() {
    let (rig, gate) = (rig(), Gate::closed());
    let batch = rig.cache.get_or_load_many([1, 2, 3], |ids| gate.load(ids));
    let overtake = async {
        gate.begun.notified().await;
        assert_eq!(rig.cache.invalidate(2).await.unwrap(), Ack::Done);
        gate.open.add_permits(1);
    };
    let (read, ()) = join(batch, overtake).await;
    assert_eq!(values(read), [Some(10), Some(20), Some(30)], "those who asked before get it");
    assert_eq!(values(rig.cache.get_many([1, 2, 3]).await), [Some(10), None, Some(30)]);
    let other = node(&rig.l2, &rig.clock, |builder| builder);
    assert_eq!(values(other.get_many([1, 2, 3]).await), [Some(10), None, Some(30)]);
}

async fn l2_that_hangs_costs_a_batch_one_budget() {
    let rig = rig_with(|builder| builder.budget(Duration::from_millis(100)));
    let db = Numbers::default();
    rig.l2.switch(State::Hanging);
    let start = std::time::Instant::now();
    let read = rig.cache.get_or_load_many(0..50, |ids| db.load(ids)).await;
    assert_eq!(values(read).len(), 50);
    assert!(start.elapsed() < Duration::from_secs(5), "50 keys, and one budget");
    assert_eq!(db.asked().len(), 1);
    let read = rig.cache.get_many::<u64, _>(100..150).await;
    assert!(read.iter().all(|answer| matches!(answer, Err(Error::Backend(_)))));
    let acks = rig.cache.invalidate_many(0..50).await;
    assert!(acks.iter().all(|ack| *ack.as_ref().unwrap() == Ack::Pending));
    assert!(start.elapsed() < Duration::from_secs(15));
}

/// A tier that takes its time for each key, or forgets to delete one, and to answer for it.
#[derive(Clone, Debug)]
struct Odd {
    memory: Memory,
    /// For each key of a batch, and for each other operation.
    takes: Duration,
    forgets: bool,
}

impl Odd {
    fn forgetful() -> Self {
        Self { memory: Memory::new(), takes: Duration::ZERO, forgets: true }
    }

    async fn wait(&self, keys: usize) {
        tokio::time::sleep(self.takes * u32::try_from(keys).unwrap()).await;
    }
}

#[async_trait::async_trait]
impl RemoteTier for Odd {
    fn name(&self) -> &'static str {
        "odd"
    }
    async fn get(&self, key: &[u8]) -> Result<Option<Found>, TierError> {
        self.wait(1).await;
        self.memory.get(key).await
    }
    async fn lease(
        &self,
        key: &[u8],
        token: LeaseToken,
        life: Duration,
        claim: Claim,
    ) -> Result<Lease, TierError> {
        self.wait(300).await;
        self.memory.lease(key, token, life, claim).await
    }
    async fn fill(
        &self,
        key: &[u8],
        token: LeaseToken,
        bytes: Bytes,
        life: Duration,
    ) -> Result<Fill, TierError> {
        self.wait(300).await;
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
        self.memory.delete(key).await
    }
    async fn get_many(&self, keys: &[&[u8]]) -> Vec<Result<Option<Found>, TierError>> {
        self.wait(keys.len()).await;
        self.memory.get_many(keys).await
    }
    async fn set_many(&self, entries: &[(&[u8], Bytes, Duration)]) -> Vec<Result<Fill, TierError>> {
        self.wait(entries.len() / 2).await;
        self.memory.set_many(entries).await
    }
    async fn delete_many(&self, keys: &[&[u8]]) -> Vec<Result<(), TierError>> {
        self.wait(keys.len() / 2).await;
        let mut answers = Vec::new();
        for key in keys.iter().filter(|key| !self.forgets || !key.ends_with(b":a")) {
            answers.push(self.memory.delete(key).await);
        }
        answers
    }
    async fn clear(&self, prefix: &[u8], progress: Progress<'_>) -> Result<(), TierError> {
        self.memory.clear(prefix, progress).await
    }
    async fn ping(&self) -> Result<(), TierError> {
        Ok(())
    }
}

/// A server that works is not given up because it was asked for much.
#[tokio::test(start_paused = true)]
async fn many_keys_are_no_outage() {
    // All of it takes a second and more, and the budget is 250 ms.
    let takes = Duration::from_micros(100);
    let odd = Odd { memory: Memory::new(), takes, forgets: false };
    let cache = || Tiered::new(Moka::new(100_000), odd.clone()).build().unwrap();
    let (cache, other, keys) = (cache(), cache(), 0..10_000_u32);
    let load = async |ids: Vec<u32>| Ok::<_, DbDown>(ids.into_iter().map(|id| (id, u64::from(id))));
    let read = cache.get_or_load_many(keys.clone(), load).await;
    assert!(read.into_iter().all(|value| value.unwrap().is_some()));
    let read = other.get_many::<u64, _>(keys.clone()).await;
    assert!(values(read).iter().all(Option::is_some), "some were not stored");
    assert!(done(cache.set_many(keys.clone().map(|id| (id, 1_u64))).await));
    assert!(done(cache.invalidate_many(keys.clone()).await));
    let read = cache.keys(keys).skip_l1().get::<u64>().await;
    assert!(values(read).iter().all(Option::is_none));
}

async fn a_tier_that_answers_too_few_is_believed_in_nothing() {
    let tiers: [Arc<dyn RemoteTier>; 3] = [
        Arc::new(Odd::forgetful()),
        Arc::new(Memory::new().then(Odd::forgetful())),
        Arc::new(Odd::forgetful().then(Memory::new())),
    ];
    for tier in tiers {
        let cache = Tiered::new(Moka::new(100), tier).build().unwrap();
        for key in ["a", "b", "c"] {
            assert_eq!(cache.set(key, 1_u64).await.unwrap(), Ack::Done);
        }
        for ack in cache.invalidate_many(["a", "b", "c"]).await {
            assert_eq!(ack.unwrap(), Ack::Pending, "nobody knows whose answer is missing");
        }
        assert_eq!(values(cache.get_many(["a", "b", "c"]).await), [None; 3]);
    }
}

/// What a call over a hung server takes, by tokio's clock.
async fn took(rig: &Rig, call: impl AsyncFnOnce(&Tiered)) -> Duration {
    let start = tokio::time::Instant::now();
    call(&rig.cache).await;
    start.elapsed()
}

#[tokio::test(start_paused = true)]
async fn one_budget_whatever_precedes_the_load() {
    let budget = Duration::from_millis(250);
    let load = async |ids: Vec<u32>| Ok::<_, DbDown>(ids.into_iter().map(|id| (id, 1_u64)));
    let rig = rig_with(|builder| builder.budget(budget));
    rig.l2.switch(State::Hanging);
    let invalidate = async |cache: &Tiered| {
        let keys = cache.keys(0..2_000_u32).strategy(CacheStrategy::Invalidate);
        assert!(keys.get_or_load(load).await.iter().all(Result::is_ok));
    };
    assert_eq!(took(&rig, invalidate).await, budget, "a drop, and then a load");
    rig.cache.shutdown().await;
    let one_pending = async |cache: &Tiered| {
        assert!(cache.get_or_load_many(1_990..2_010, load).await.iter().all(Result::is_ok));
        assert!(cache.get_or_load_many(2_500..9_000, load).await.iter().all(Result::is_ok));
    };
    assert!(took(&rig, one_pending).await <= budget * 2, "two calls");
}

/// Each sees that the other has overtaken it, and the server hangs before they can invalidate.
#[tokio::test(start_paused = true)]
async fn overlapping_writes_of_many_cost_one_budget_more() {
    let budget = Duration::from_millis(250);
    let rig = rig_with(|builder| builder.budget(budget));
    let entries = |value: u64| (0..40_u32).map(move |key| (key, value));
    rig.l2.switch(State::HeldBeside);
    let both = async |cache: &Tiered| {
        let go_on = async {
            eventually("both wait to drop the other slots", || rig.l2.operations() >= 80).await;
            rig.l2.switch(State::Hanging);
            rig.l2.admit(80);
        };
        let (one, two, ()) =
            tokio::join!(cache.set_many(entries(1)), cache.set_many(entries(2)), go_on);
        let is_pending = |ack: &Result<Ack, Error>| *ack.as_ref().unwrap() == Ack::Pending;
        assert!(one.iter().zip(&two).all(|(one, two)| is_pending(one) || is_pending(two)));
    };
    assert!(took(&rig, both).await <= budget * 3);
    rig.l2.switch(State::Up);
    let read = rig.cache.keys(0..40_u32).skip_l1().get::<u64>().await;
    assert!(values(read).iter().all(Option::is_none));
}

async fn the_strategies_hold_for_batches() {
    let (rig, db) = (rig(), Numbers::default());
    let read = |strategy| rig.cache.keys([1, 2]).strategy(strategy).get_or_load(|ids| db.load(ids));
    assert_eq!(values(read(CacheStrategy::Fresh).await), [None, None]);
    assert!(db.asked().is_empty(), "Fresh never loads");
    rig.cache.set_many([(1, 1_u64), (2, 2)]).await;
    assert_eq!(values(read(CacheStrategy::Fresh).await), [Some(1), Some(2)]);
    assert_eq!(values(read(CacheStrategy::Refresh).await), [Some(1), Some(2)]);
    for strategy in [CacheStrategy::Bypass, CacheStrategy::Invalidate] {
        rig.cache.set_many([(1, 1_u64), (2, 2)]).await;
        let before = db.asked().len();
        assert_eq!(values(read(strategy).await), [Some(10), Some(20)]);
        assert_eq!(db.asked().len(), before + 1);
        let other = node(&rig.l2, &rig.clock, |builder| builder);
        assert_eq!(values(other.get_many([1, 2]).await), [Some(10), Some(20)], "{strategy:?}");
    }
    let fail = |_: Vec<u32>| async { Err::<Vec<(u32, u64)>, _>(DbDown) };
    let failed = rig.cache.keys([1, 2]).strategy(CacheStrategy::Bypass).get_or_load(fail).await;
    assert!(failed.iter().all(Result::is_err), "Bypass serves nothing that is cached");
}

async fn a_cache_that_is_switched_off_loads_and_stores_nothing() {
    let (rig, db) = (rig(), Numbers::default());
    rig.cache.set_enabled(false);
    for _ in 0..2 {
        let read = rig.cache.get_or_load_many([1, 2, 1], |ids| db.load(ids)).await;
        assert_eq!(values(read), [Some(10), Some(20), Some(10)]);
    }
    assert_eq!(db.asked(), [vec![1, 2], vec![1, 2]]);
    assert_eq!(values(rig.cache.get_many([1]).await), [None]);
    assert!(done(rig.cache.set_many([(1, 1_u64)]).await));
    rig.cache.set_enabled(true);
    assert_eq!(values(rig.cache.get_many([1, 2]).await), [None, None]);
}

async fn a_cache_without_l2() {
    let (cache, db) = (Tiered::local(Moka::new(100)).build().unwrap(), Numbers::default());
    let read = cache.get_or_load_many([1, 2, 500], |ids| db.load(ids)).await;
    assert_eq!(values(read), [Some(10), Some(20), None]);
    assert!(done(cache.set_many([(2, 2_u64), (3, 3)]).await));
    assert_eq!(values(cache.get_many([1, 2, 3, 4]).await), [Some(10), Some(2), Some(3), None]);
    assert!(done(cache.invalidate_many([1, 2]).await));
    assert_eq!(values(cache.get_many([1, 2, 3]).await), [None, None, Some(3)]);
}

async fn writes_of_many() {
    let rig = rig();
    let entries = || (0..300_u32).map(|id| (id, u64::from(id)));
    let batches = rig.l2.batches();
    assert!(done(rig.cache.set_many(entries()).await));
    assert!(rig.l2.batches() - batches <= 2, "one store, and one drop of the other slots");
    let other = node(&rig.l2, &rig.clock, |builder| builder);
    for cache in [&rig.cache, &other] {
        let read = values(cache.get_many(0..300_u32).await);
        assert_eq!(read, entries().map(|(_, value)| Some(value)).collect::<Vec<_>>());
    }
    assert!(done(rig.cache.invalidate_many(0..300_u32).await));
    let third = node(&rig.l2, &rig.clock, |builder| builder);
    assert!(values(rig.cache.get_many(0..300_u32).await).iter().all(Option::is_none));
    assert!(values(third.get_many(0..300_u32).await).iter().all(Option::is_none));
    // With options.
    let keys = rig.cache.keys([1, 2]).fresh_for(5 * SECOND);
    assert!(done(keys.set([1_u64, 2]).await));
    rig.clock.advance(6 * SECOND);
    assert_eq!(values(rig.cache.get_many([1, 2]).await), [None, None]);
}

async fn the_last_value_of_a_key_set_twice_counts() {
    let rig = rig();
    let acks = rig.cache.set_many([("a", 1_u64), ("b", 2), ("a", 3)]).await;
    assert_eq!(acks.len(), 3);
    assert!(done(acks));
    assert_eq!(values(rig.cache.get_many(["a", "b"]).await), [Some(3), Some(2)]);
}

async fn a_value_that_cannot_be_stored_loses_nothing_and_fails_alone() {
    let rig = rig_with(|builder| builder.max_entry_bytes(1_024));
    let text = |length| "x".repeat(length);
    assert!(done(rig.cache.set_many([("a", text(1)), ("b", text(2))]).await));
    let acks = rig.cache.set_many([("a", text(3)), ("b", text(5_000)), ("c", text(4))]).await;
    assert!(acks[0].is_ok() && acks[2].is_ok());
    assert!(matches!(acks[1], Err(Error::Serialization(_))));
    let read = rig.cache.get_many::<String, _>(["a", "b", "c"]).await;
    let lengths = read.into_iter().map(|answer| answer.unwrap().unwrap().len());
    assert_eq!(lengths.collect::<Vec<_>>(), [3, 2, 4]);
}

async fn writes_while_l2_is_down_are_pending() {
    let rig = rig();
    rig.cache.set_many([(1, 1_u64), (2, 2)]).await;
    rig.l2.switch(State::Failing);
    let acks = rig.cache.set_many([(1, 10_u64)]).await;
    assert_eq!(*acks[0].as_ref().unwrap(), Ack::Pending);
    let acks = rig.cache.invalidate_many([2]).await;
    assert_eq!(*acks[0].as_ref().unwrap(), Ack::Pending);
    rig.l2.switch(State::Up);
    let read = rig.cache.keys([1, 2]).skip_l1().get::<u64>().await;
    assert_eq!(values(read), [None, None], "replayed before it is read");
    while rig.cache.health().await.pending > 0 {
        tokio::task::yield_now().await;
    }
}

async fn a_dropped_write_of_many_leaves_all_of_them_invalidated() {
    let rig = rig();
    rig.cache.set_many([(1, 1_u64), (2, 2), (3, 3)]).await;
    rig.l2.switch(State::Hanging);
    {
        let write = rig.cache.set_many([(1, 10_u64), (2, 20)]);
        let drop_it = tokio::time::timeout(Duration::from_millis(20), write).await;
        assert!(drop_it.is_err(), "it hangs");
    }
    rig.l2.switch(State::Up);
    let read = rig.cache.keys([1, 2, 3]).skip_l1().get::<u64>().await;
    assert_eq!(values(read), [None, None, Some(3)]);
}

async fn as_many_values_as_keys() {
    let rig = rig();
    rig.cache.set_many([("a", 1_u64)]).await;
    let acks = rig.cache.keys(["a", "b"]).set([5_u64]).await;
    assert_eq!(acks.len(), 2);
    for ack in acks {
        let message = format!("{:?}", ack.unwrap_err());
        assert!(message.contains("2 keys") && message.contains("1 value"), "{message}");
    }
    assert_eq!(values(rig.cache.get_many(["a", "b"]).await), [Some(1), None], "nothing changed");
}

async fn batches_count_as_reads() {
    let (rig, db) = (rig(), Numbers::default());
    rig.cache.set_many([(1, 1_u64)]).await;
    rig.cache.get_or_load_many([1, 2, 500], |ids| db.load(ids)).await;
    rig.cache.get_many::<u64, _>([1, 500, 7]).await;
    let stats = rig.cache.stats();
    let counts = (stats.hit_l1, stats.load, stats.negative, stats.miss, stats.loads);
    assert_eq!(counts, (2, 2, 1, 1, 1));
}

async fn what_else_a_loader_returns_is_left() {
    let rig = rig();
    let generous = |_: Vec<u32>| async {
        Ok::<_, DbDown>((0..10_u32).map(|id| (id, 7_u64)).collect::<Vec<_>>())
    };
    assert_eq!(values(rig.cache.get_or_load_many([3, 20], generous).await), [Some(7), None]);
    assert_eq!(values(rig.cache.get_many([4]).await), [None]);
}

#[tokio::test]
async fn batches_of_a_cache_over_memory_alone() {
    let (cache, db) = (Tiered::remote(Memory::new()).build().unwrap(), Numbers::default());
    for _ in 0..2 {
        let read = cache.get_or_load_many(0..10, |ids| db.load(ids)).await;
        assert_eq!(values(read).len(), 10);
    }
    assert_eq!(db.asked().len(), 1);
}
