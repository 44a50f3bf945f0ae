//! Writing: `set` and `invalidate`, which win over everything that began before them.
//!
//! [`Overwrite`] is what all of them do to this process, [`Draft`] a value on its way, [`set`] stores it.

mod draft;
mod overwrite;
mod set;

use std::sync::Arc;

use tiered_tiers::TierError;

use crate::{
    Ack, Error, Key,
    bus::{Bus, Change},
    l2::{Budget, PIECE},
    stack::Stack,
};

pub(crate) use self::{
    draft::Draft,
    overwrite::Overwrite,
    set::{prepare, set, set_many, stamps, store},
};

/// Drops a key from all tiers.
pub(crate) async fn invalidate(stack: &Arc<Stack>, key: &Key) -> Result<Ack, Error> {
    key.check()?;
    if stack.is_alone() {
        stack.drop_local(key);
        return Ok(Ack::Done);
    }
    require(stack)?;
    let overwrite = Overwrite::begin(stack, key);
    let mut budget = stack.budget();
    let dropped = stack.drop_on_server(key, &mut budget).await;
    let told = match &dropped {
        Ok(()) => stack.announce(&[Change::Key(key)], &mut budget).await,
        Err(error) => Err(error.clone()),
    };
    Ok(invalidated(overwrite, dropped.is_ok(), told.is_ok()))
}

/// Ends an invalidation that has got so far.
fn invalidated(overwrite: Overwrite<'_>, is_dropped: bool, is_told: bool) -> Ack {
    let (stack, key) = (overwrite.stack, overwrite.key);
    match (is_dropped, is_told) {
        (true, true) => {
            overwrite.done(|_| stack.remove_local(key));
            Ack::Done
        }
        (true, false) => {
            overwrite.untold(|_| stack.remove_local(key));
            Ack::Pending
        }
        (false, _) => overwrite.pending(|_| stack.remove_local(key)),
    }
}

/// Drops distinct keys from all tiers, in one operation on L2. One answer for each.
pub(crate) async fn invalidate_many(stack: &Arc<Stack>, keys: &[Key]) -> Vec<Result<Ack, Error>> {
    let checked: Vec<_> =
        keys.iter().map(|key| key.check().and_then(|()| require(stack))).collect();
    let sound = || keys.iter().zip(&checked).filter(|(_, checked)| checked.is_ok());
    if stack.is_alone() {
        sound().for_each(|(key, _)| stack.drop_local(key));
        return checked.into_iter().map(|checked| checked.map(|()| Ack::Done)).collect();
    }
    let overwrites: Vec<_> = sound().map(|(key, _)| Overwrite::begin(stack, key)).collect();
    let mut budget = stack.budget();
    let mut deleted = match &stack.l2 {
        Some(l2) => {
            let wires: Vec<_> = sound().map(|(key, _)| key.wire(&stack.namespace)).collect();
            l2.delete_many(&wires, &mut budget).await
        }
        None => overwrites.iter().map(|_| Ok(())).collect(),
    };
    let keys: Vec<&Key> = overwrites.iter().map(|overwrite| overwrite.key).collect();
    let dropped: Vec<bool> = deleted.iter().map(Result::is_ok).collect();
    announce(stack, &keys, &mut deleted, &mut budget).await;
    let ended = overwrites.into_iter().zip(dropped).zip(deleted);
    let ended =
        ended.map(|((overwrite, dropped), told)| invalidated(overwrite, dropped, told.is_ok()));
    spread(checked, ended)
}

/// The answers of those that were sound, among the errors of the others.
pub(super) fn spread<S>(
    checked: Vec<Result<S, Error>>,
    mut ended: impl Iterator<Item = Ack>,
) -> Vec<Result<Ack, Error>> {
    let mut answer = |_| ended.next().unwrap_or(Ack::Pending);
    checked.into_iter().map(|checked| checked.map(&mut answer)).collect()
}

pub(crate) fn require(stack: &Arc<Stack>) -> Result<(), Error> {
    if stack.is_alone() {
        return Ok(());
    }
    stack.require_runtime()?;
    Bus::listen(stack);
    Ok(())
}

/// Tells the other processes of those keys that the server has changed. What they were not told of has failed.
pub(crate) async fn announce<R>(
    stack: &Stack,
    keys: &[&Key],
    changed: &mut [Result<R, TierError>],
    budget: &mut Budget,
) {
    if stack.bus.is_none() {
        return;
    }
    let mut done: Vec<_> =
        keys.iter().zip(changed).filter(|(_, changed)| changed.is_ok()).collect();
    let mut told = Ok(());
    for (count, piece) in done.chunks_mut(PIECE).enumerate() {
        // As on L2, each piece has a budget of its own, and one that fails is the last.
        if count > 0 || budget.is_spent() {
            *budget = stack.budget();
        }
        if told.is_ok() {
            let changes: Vec<_> = piece.iter().map(|(key, _)| Change::Key(key)).collect();
            told = stack.announce(&changes, budget).await;
        }
        if let Err(error) = &told {
            piece.iter_mut().for_each(|(_, changed)| **changed = Err(error.clone()));
        }
    }
}
