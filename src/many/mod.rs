//! The walk of many reads at once: each in its own flight, their steps taken together.
//!
//! A batch leads the flights that nobody flies yet, and waits for those of others at the same time. So two
//! batches that wait for a key of each other's never wait for ever: what a batch leads needs nothing of
//! what it waits for. A flight that falls to it, because its leader was dropped, is led at once, even
//! while its loader is busy with others: whoever waits for that flight waits for this batch now.
//!
//! Rejected: a task that gathers single loads for a moment, as data loaders do. Every load would wait
//! for company, and a loader could borrow nothing.

mod pieces;

use std::{
    future::Future,
    ops::ControlFlow,
    pin::{Pin, pin},
    sync::Arc,
    time::Duration,
};

use futures_util::{
    StreamExt,
    future::{Either, FutureExt, join_all, select},
    stream::FuturesUnordered,
};
use tiered_codecs::CodecFor;
use tokio::time::Instant;

use self::pieces::{breathe, fetch, finish, step};
use crate::{
    Error, Key,
    error::LoadAborted,
    fill::{Leading, Step},
    flight::{Role, Waited, Waiter},
    load::{self, BatchLoader, Wanted},
    request::{Options, Told, Upgrade},
    stack::{Course, Kind, Landed, Leader, Stack, Walked},
    sync::Mutex,
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

/// A read of the batch that goes past L1.
struct Read<C> {
    walk: Walk<C>,
    /// The place of its key among those of the batch.
    place: usize,
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
        breathe(place).await;
        begun.push(match walk::begin::<T>(stack, key, options, Wanted::Any) {
            Ok(Some(landed)) => Some(Ok(landed)),
            Err(error) => Some(Err(error)),
            Ok(None) => {
                let options = options.clone();
                let walk = Walk::new::<T>(stack, codec, key.clone(), options, upgrade, Wanted::Any);
                reads.push(Read { walk, place });
                None
            }
        });
    }
    let loader = loader.filter(|_| options.strategy.plan().load);
    let start = Instant::now();
    let ended = match outset(stack, options, &reads, loader.is_some()).await {
        Outset::Ended(error) => reads.iter().map(|_| Some(Err(error.clone()))).collect(),
        Outset::Missed => reads.iter().map(|read| Some(Ok(read.walk.miss()))).collect(),
        Outset::SwitchedOff => load_unstored(stack, &reads, loader).await,
        Outset::Fly => fly(&reads, loader, start).await,
    };
    let mut ended = reads.iter().zip(ended).map(|(read, ended)| {
        read.walk.finish(ended.unwrap_or_else(|| Err(Error::loader(LoadAborted))))
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

/// A load by a cache that is switched off.
async fn load_unstored<T, C>(
    stack: &Stack,
    reads: &[Read<C>],
    loader: Option<&mut BatchLoader<'_, T>>,
) -> Vec<Option<Walked>>
where
    T: Send + Sync + 'static,
{
    let Some(loader) = loader.filter(|_| !reads.is_empty()) else { return Vec::new() };
    let (loader, wanted) = (Mutex::new(loader), reads.iter().map(|read| read.place).collect());
    let mut loaded = load::run_batch(&loader, wanted, stack.load_timeout, &stack.meter).await;
    let mut ended = |Read { walk, .. }: &Read<C>| match &mut loaded {
        Ok(found) => Some(Ok(walk.unkept(found.remove(&walk.key)))),
        Err(error) => Some(Err(error.clone())),
    };
    reads.iter().map(&mut ended).collect()
}

/// What a batch in flight learns.
enum Event<'a, C> {
    /// Somebody else's flight has landed, or fell to this batch.
    Waited(usize, Waited<Key, Course, Walked>),
    /// Flights that it led have ended; others are to be loaded, by this process or by another that has begun.
    Led(Vec<(usize, Walked)>, Vec<Flying<'a, C>>),
    /// One of those has ended, or is to be loaded now.
    Awaited(usize, Box<Step<'a, C>>),
}

/// Something under way.
type Working<'a, C> = Pin<Box<dyn Future<Output = Event<'a, C>> + Send + 'a>>;

/// Seats all reads, leads those that are this batch's to lead, and waits for the others, all at the same
/// time. The batch began at `start`.
async fn fly<T, C>(
    reads: &[Read<C>],
    loader: Option<&mut BatchLoader<'_, T>>,
    start: Instant,
) -> Vec<Option<Walked>>
where
    T: Send + Sync + 'static,
    C: CodecFor<T> + Clone + Send + Sync + 'static,
{
    let loader = loader.map(Mutex::new);
    let kind = if loader.is_some() { Kind::Load } else { Kind::Lookup };
    let (leads, waits) = seat::<T, C>(reads, kind);
    let mut ended: Vec<Option<Walked>> = reads.iter().map(|_| None).collect();
    let mut working: FuturesUnordered<Working<'_, C>> = FuturesUnordered::new();
    let led = |leads| -> Working<'_, C> {
        let (loader, waited) = (loader.as_ref(), start.elapsed());
        Box::pin(async move {
            let (ended, flying) = lead::<T, C>(reads, leads, loader.is_some(), waited).await;
            Event::Led(ended, flying)
        })
    };
    let loaded = |flying| -> Working<'_, C> {
        let loader = loader.as_ref();
        Box::pin(async move { Event::Led(load_all(reads, flying, loader).await, Vec::new()) })
    };
    for (at, waiter) in waits {
        working.push(Box::pin(async move { Event::Waited(at, waiter.wait().await) }));
    }
    working.push(led(leads));
    while let Some(event) = working.next().await {
        let (mut fallen, mut freed) = (Vec::new(), Vec::new());
        let mut next = Some(event);
        // With those that came at the same time: a batch that is dropped leaves all of its flights.
        while let Some(event) = next {
            match event {
                Event::Waited(at, Waited::Landed(walked)) => {
                    put(&mut ended, at, walked.map(Landed::shared));
                }
                Event::Waited(at, Waited::Lead(leader)) => fallen.push((at, leader)),
                Event::Led(walked, flying) => {
                    walked.into_iter().for_each(|(at, walked)| put(&mut ended, at, walked));
                    for (at, leading) in flying {
                        if !leading.waits() {
                            freed.push((at, leading));
                            continue;
                        }
                        let waits =
                            async move { Event::Awaited(at, Box::new(leading.wait::<T>().await)) };
                        working.push(Box::pin(waits));
                    }
                }
                Event::Awaited(at, step) => match *step {
                    ControlFlow::Break(walked) => put(&mut ended, at, walked),
                    ControlFlow::Continue(leading) => freed.push((at, leading)),
                },
            }
            next = working.next().now_or_never().flatten();
        }
        if !fallen.is_empty() {
            working.push(led(fallen));
        }
        if !freed.is_empty() {
            working.push(loaded(freed));
        }
    }
    ended
}

fn put(ended: &mut [Option<Walked>], at: usize, walked: Walked) {
    if let Some(place) = ended.get_mut(at) {
        *place = Some(walked);
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

/// Leads flights up to the load, step by step: the same steps as of a single read. Those that did not end on the way
/// come back. Whether this process loads them or another: none of them waits for the others.
async fn lead<'a, T, C>(
    reads: &'a [Read<C>],
    leads: Vec<Lead>,
    loads: bool,
    waited: Duration,
) -> (Vec<(usize, Walked)>, Vec<Flying<'a, C>>)
where
    T: Send + Sync + 'static,
    C: CodecFor<T> + Clone + Send + Sync + 'static,
{
    let mut ended = Vec::with_capacity(leads.len());
    let mut flying: Vec<Flying<'a, C>> = Vec::with_capacity(leads.len());
    for (count, (at, leader)) in leads.into_iter().enumerate() {
        breathe(count).await;
        if let Some(read) = reads.get(at) {
            flying.push((at, Leading::begin(&read.walk, leader, waited)));
        }
    }
    let Some((stack, plan)) = flying.first().map(|(_, first)| (&first.walk.stack, first.walk.plan))
    else {
        return (ended, Vec::new());
    };
    if plan.read {
        fetch(stack, &mut flying, waited).await;
        flying = step(stack, flying, &mut ended, |leading| leading.look::<T>(false).boxed()).await;
    }
    if !loads {
        ended.extend(flying.into_iter().map(|(at, leading)| (at, leading.give_up())));
        return (ended, Vec::new());
    }
    flying = step(stack, flying, &mut ended, |leading| leading.lease::<T>().boxed()).await;
    (ended, flying)
}

/// Loads what is missing, all of it in one load, and ends its flights.
async fn load_all<T, C>(
    reads: &[Read<C>],
    mut flying: Vec<Flying<'_, C>>,
    loader: Option<&Mutex<&mut BatchLoader<'_, T>>>,
) -> Vec<(usize, Walked)>
where
    T: Send + Sync + 'static,
    C: CodecFor<T> + Clone + Send + Sync + 'static,
{
    let mut ended = Vec::with_capacity(flying.len());
    let Some(stack) = flying.first().map(|(_, first)| &first.walk.stack) else { return ended };
    let Some(loader) = loader else { return ended };
    let wanted = flying.iter().filter_map(|(at, _)| Some(reads.get(*at)?.place)).collect();
    let begun = stack.clock.now();
    let loading = load::run_batch(loader, wanted, stack.load_timeout, &stack.meter);
    let mut loaded = renewing(&mut flying, loading).await;
    let mut rests = Vec::with_capacity(flying.len());
    for (count, (at, leading)) in flying.into_iter().enumerate() {
        breathe(count).await;
        let loaded = match &mut loaded {
            Ok(found) => Ok(found.remove(&leading.walk.key)),
            Err(error) => Err(error.clone()),
        };
        let (walked, rest) = leading.end(loaded, Told::default(), begun);
        ended.push((at, walked));
        rests.extend(rest);
    }
    finish(stack, rests).await;
    ended
}

/// Runs a load, and renews the leases of all of them meanwhile.
async fn renewing<C, R>(flying: &mut [Flying<'_, C>], loading: impl Future<Output = R>) -> R {
    let renewals = join_all(flying.iter_mut().map(|(_, leading)| leading.renew()));
    match select(pin!(loading), pin!(renewals)).await {
        Either::Left((loaded, _)) => loaded,
        // There was none to renew.
        Either::Right((_, loading)) => loading.await,
    }
}
