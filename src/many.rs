//! The walk of many reads at once: each in its own flight, their steps taken together.
//!
//! A batch leads the flights that nobody flies yet, and ends all of these before it waits for those of
//! others. Two batches that wait for a key of each other's therefore never wait for ever: what a batch
//! leads needs nothing of what it waits for. The same holds for a flight that falls to it while it
//! waits: it is led to its end before any further waiting.
//!
//! Rejected: a task that gathers single loads for a moment, as data loaders do. Every load would wait
//! for company, and a loader could borrow nothing.

use std::{sync::Arc, time::Duration};

use futures_util::{
    StreamExt,
    future::{FutureExt, join_all},
    stream::FuturesUnordered,
};
use tiered_codecs::CodecFor;
use tokio::time::Instant;

use crate::{
    Error, Key,
    error::LoadAborted,
    fill::Leading,
    flight::{Role, Waited, Waiter},
    load::{self, BatchLoader, Wanted},
    request::{Options, Told, Upgrade},
    stack::{Course, Kind, Landed, Leader, Stack, Walked},
    walk::{self, Walk},
    write,
};

/// What all reads of a batch have in common.
pub(crate) struct Many<'a, C> {
    pub(crate) stack: &'a Arc<Stack>,
    pub(crate) codec: &'a C,
    pub(crate) options: &'a Options,
    pub(crate) upgrade: Option<Upgrade<C>>,
}

/// A read of the batch that goes past L1, and how it has ended.
struct Read<C> {
    walk: Walk<C>,
    /// The place of its key among those of the batch.
    place: usize,
    ended: Option<Walked>,
}

/// A flight that the batch leads, by its read.
type Lead = (usize, Leader);
type Wait = (usize, Waiter<Key, Course, Walked>);
/// A flight under way.
type Flying<'a, C> = (usize, Leading<'a, C>);

/// Reads distinct keys, through the cache only if there is no loader. One answer for each.
pub(crate) async fn walk<T, C>(
    many: Many<'_, C>,
    keys: &[Key],
    loader: Option<&mut BatchLoader<'_, T>>,
) -> Vec<Walked>
where
    T: Send + Sync + 'static,
    C: CodecFor<T> + Clone + Send + Sync + 'static,
{
    let Many { stack, codec, options, upgrade } = many;
    let (mut begun, mut reads) = (Vec::with_capacity(keys.len()), Vec::new());
    for (place, key) in keys.iter().enumerate() {
        begun.push(match walk::begin::<T>(stack, key, options, Wanted::Any) {
            Ok(Some(landed)) => Some(Ok(landed)),
            Err(error) => Some(Err(error)),
            Ok(None) => {
                let options = options.clone();
                let walk = Walk::new::<T>(stack, codec, key.clone(), options, upgrade, Wanted::Any);
                reads.push(Read { walk, place, ended: None });
                None
            }
        });
    }
    let loader = loader.filter(|_| options.strategy.plan().load);
    match outset(stack, options, &reads, loader.is_some()).await {
        Outset::Ended(error) => end_all(&mut reads, |_| Err(error.clone())),
        Outset::Missed => end_all(&mut reads, |walk| Ok(walk.miss())),
        Outset::SwitchedOff => load_unstored(stack, &mut reads, loader).await,
        Outset::Fly => fly(&mut reads, loader).await,
    }
    let mut ended = reads.into_iter().map(|Read { walk, ended, .. }| {
        walk.finish(ended.unwrap_or_else(|| Err(Error::loader(LoadAborted))))
    });
    begun.into_iter().filter_map(|begun| begun.or_else(|| ended.next())).collect()
}

/// How the reads past L1 begin.
enum Outset {
    /// The call cannot work.
    Ended(Error),
    /// There is nowhere to look, and nothing to load with.
    Missed,
    /// The cache is switched off: they are loaded, and that is all.
    SwitchedOff,
    /// They take their seats.
    Fly,
}

async fn outset<C>(
    stack: &Arc<Stack>,
    options: &Options,
    reads: &[Read<C>],
    loads: bool,
) -> Outset {
    if !loads && (!stack.is_enabled() || stack.l2.is_none() || options.skip_l2) {
        return Outset::Missed;
    }
    if let Err(error) = stack.require_runtime() {
        return Outset::Ended(error);
    }
    if loads && options.strategy.plan().drop_first {
        let keys: Vec<Key> = reads.iter().map(|read| read.walk.key.clone()).collect();
        // Pending is fine here: what is loaded now is not stored in L2 before the delete.
        let dropped = write::invalidate_many(stack, &keys).await;
        if let Some(error) = dropped.into_iter().find_map(Result::err) {
            return Outset::Ended(error);
        }
    }
    if stack.is_enabled() { Outset::Fly } else { Outset::SwitchedOff }
}

fn end_all<C>(reads: &mut [Read<C>], how: impl Fn(&Walk<C>) -> Walked) {
    for read in reads {
        read.ended = Some(how(&read.walk));
    }
}

/// A load by a cache that is switched off.
async fn load_unstored<T, C>(
    stack: &Stack,
    reads: &mut [Read<C>],
    loader: Option<&mut BatchLoader<'_, T>>,
) where
    T: Send + Sync + 'static,
{
    let Some(loader) = loader.filter(|_| !reads.is_empty()) else { return };
    let wanted = reads.iter().map(|read| read.place).collect();
    let mut loaded = load::run_batch(loader, wanted, stack.load_timeout, &stack.meter).await;
    for Read { walk, ended, .. } in reads {
        *ended = Some(match &mut loaded {
            Ok(found) => Ok(walk.unkept(found.remove(&walk.key))),
            Err(error) => Err(error.clone()),
        });
    }
}

/// Seats all reads, leads those that are this batch's to lead, and waits for the others.
async fn fly<T, C>(reads: &mut [Read<C>], mut loader: Option<&mut BatchLoader<'_, T>>)
where
    T: Send + Sync + 'static,
    C: CodecFor<T> + Clone + Send + Sync + 'static,
{
    let kind = if loader.is_some() { Kind::Load } else { Kind::Lookup };
    let (mut leads, waits) = seat::<T, C>(reads, kind);
    let start = Instant::now();
    let mut waiting = FuturesUnordered::new();
    for (at, waiter) in waits {
        waiting.push(async move { (at, waiter.wait().await) });
    }
    loop {
        let ended = match &mut loader {
            Some(loader) => lead(reads, leads, Some(&mut **loader), start.elapsed()).await,
            None => lead::<T, C>(reads, leads, None, start.elapsed()).await,
        };
        for (at, walked) in ended {
            put(reads, at, walked);
        }
        leads = Vec::new();
        while let Some((at, waited)) = waiting.next().await {
            sort(reads, &mut leads, at, waited);
            if !leads.is_empty() {
                break;
            }
        }
        // Those that fell to it at the same time: a batch that was dropped leaves all of its own.
        while let Some(Some((at, waited))) = waiting.next().now_or_never() {
            sort(reads, &mut leads, at, waited);
        }
        if leads.is_empty() {
            return;
        }
    }
}

fn put<C>(reads: &mut [Read<C>], at: usize, walked: Walked) {
    if let Some(read) = reads.get_mut(at) {
        read.ended = Some(walked);
    }
}

fn sort<C>(
    reads: &mut [Read<C>],
    leads: &mut Vec<Lead>,
    at: usize,
    waited: Waited<Key, Course, Walked>,
) {
    match waited {
        Waited::Landed(walked) => put(reads, at, walked.map(Landed::shared)),
        Waited::Lead(leader) => leads.push((at, leader)),
    }
}

fn seat<T: 'static, C>(reads: &[Read<C>], kind: Kind) -> (Vec<Lead>, Vec<Wait>) {
    let (mut leads, mut waits) = (Vec::new(), Vec::new());
    for (at, Read { walk, .. }) in reads.iter().enumerate() {
        let (flights, course) = (&walk.stack.flights, walk.course::<T>(kind));
        if !walk.plan.join {
            leads.push((at, flights.solo(&walk.key, &course)));
            continue;
        }
        match flights.join(&walk.key, &course) {
            Role::Lead(leader) => leads.push((at, leader)),
            Role::Wait(waiter) => {
                walk.stack.meter.coalesced();
                waits.push((at, waiter));
            }
        }
    }
    (leads, waits)
}

/// Leads flights to their ends, step by step: the same steps as of a single read.
async fn lead<T, C>(
    reads: &[Read<C>],
    leads: Vec<Lead>,
    loader: Option<&mut BatchLoader<'_, T>>,
    waited: Duration,
) -> Vec<(usize, Walked)>
where
    T: Send + Sync + 'static,
    C: CodecFor<T> + Clone + Send + Sync + 'static,
{
    let mut ended = Vec::with_capacity(leads.len());
    let mut flying: Vec<Flying<'_, C>> = Vec::with_capacity(leads.len());
    for (at, leader) in leads {
        if let Some(read) = reads.get(at) {
            flying.push((at, Leading::begin(&read.walk, leader, waited)));
        }
    }
    let Some((stack, plan)) = flying.first().map(|(_, first)| (&first.walk.stack, first.walk.plan))
    else {
        return ended;
    };
    if plan.read {
        fetch(stack, &mut flying, waited).await;
        let mut looks = Vec::with_capacity(flying.len());
        for (at, leading) in flying {
            looks.push(async move { (at, leading.look::<T>(false).await) });
        }
        flying = sift(join_all(looks).await, &mut ended);
    }
    let Some(loader) = loader else {
        ended.extend(flying.into_iter().map(|(at, leading)| (at, leading.give_up())));
        return ended;
    };
    let mut leases = Vec::with_capacity(flying.len());
    for (at, leading) in flying {
        leases.push(async move { (at, leading.lease::<T>().await) });
    }
    flying = sift(join_all(leases).await, &mut ended);
    if flying.is_empty() {
        return ended;
    }
    let wanted = flying.iter().filter_map(|(at, _)| Some(reads.get(*at)?.place)).collect();
    let begun = stack.clock.now();
    let mut loaded = load::run_batch(loader, wanted, stack.load_timeout, &stack.meter).await;
    let mut ends = Vec::with_capacity(flying.len());
    for (at, leading) in flying {
        let loaded = match &mut loaded {
            Ok(found) => Ok(found.remove(&leading.walk.key)),
            Err(error) => Err(error.clone()),
        };
        ends.push(async move { (at, leading.end(loaded, Told::default(), begun).await) });
    }
    ended.extend(join_all(ends).await);
    ended
}

/// Those that go on; those that landed have ended.
fn sift<'a, C>(
    steps: Vec<(usize, crate::fill::Step<'a, C>)>,
    ended: &mut Vec<(usize, Walked)>,
) -> Vec<Flying<'a, C>> {
    let mut flying = Vec::with_capacity(steps.len());
    for (at, step) in steps {
        match step {
            std::ops::ControlFlow::Break(walked) => ended.push((at, walked)),
            std::ops::ControlFlow::Continue(leading) => flying.push((at, leading)),
        }
    }
    flying
}

/// Looks into L2 for all of them in one operation. Each goes on with what that has left of the budget.
async fn fetch<C>(stack: &Stack, flying: &mut [Flying<'_, C>], waited: Duration) {
    let Some(l2) = &stack.l2 else { return };
    let (mut sessions, mut keys) = (Vec::new(), Vec::new());
    for (_, leading) in flying {
        let Some(session) = &mut leading.session else { continue };
        if let Some(key) = session.fetchable(leading.walk) {
            sessions.push(session);
            keys.push(key);
        }
    }
    if keys.is_empty() {
        return;
    }
    let keys: Vec<&[u8]> = keys.iter().map(Vec::as_slice).collect();
    let (asked, mut budget) = (stack.clock.now(), l2.budget_after(waited));
    let found = l2.get_many(&keys, &mut budget).await;
    for (session, found) in sessions.into_iter().zip(found) {
        session.fetched(asked, found, budget);
    }
}
