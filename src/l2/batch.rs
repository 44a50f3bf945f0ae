//! Several keys in one operation on L2: one that fails fails no other.

use std::{future::Future, time::Duration};

use bytes::Bytes;
use tiered_tiers::{Found, TierError};

use super::{Budget, L2, filled, looked};
use crate::{
    meter::{Op, OpResult},
    versions::Slot,
};

impl L2 {
    /// As [`get`](Self::get), for several keys of the server's. One that fails fails no other.
    pub(crate) async fn get_many(
        &self,
        keys: &[&[u8]],
        budget: &mut Budget,
    ) -> Vec<Result<Option<Found>, TierError>> {
        self.run_many(Op::Get, budget, keys.len(), self.tier.get_many(keys), looked).await
    }

    /// As [`set`](Self::set), for several keys, each with its bytes and their life.
    pub(crate) async fn set_many(
        &self,
        entries: &[(&[u8], Bytes, Duration)],
        slot: Slot,
        budget: &mut Budget,
    ) -> Vec<Result<(), TierError>> {
        let slots: Vec<_> = entries.iter().map(|(wire, ..)| slot.key(wire)).collect();
        let others: Vec<_> = entries.iter().map(|(wire, ..)| slot.other().key(wire)).collect();
        let mut homes = Vec::with_capacity(entries.len());
        for ((_, bytes, life), slot) in entries.iter().zip(&slots) {
            self.note_life(*life);
            homes.push((&**slot, bytes.clone(), *life));
        }
        let set = async {
            let mut stored = self.tier.set_many(&homes).await;
            let others = others.iter().zip(&stored).filter(|(_, stored)| stored.is_ok());
            let others: Vec<&[u8]> = others.map(|(other, _)| &**other).collect();
            let mut dropped = self.tier.delete_many(&others).await.into_iter();
            for stored in stored.iter_mut().filter(|stored| stored.is_ok()) {
                match dropped.next() {
                    Some(Ok(())) => {}
                    Some(Err(error)) => *stored = Err(error),
                    None => *stored = Err(miscounted()),
                }
            }
            stored
        };
        let stored = self.run_many(Op::Set, budget, entries.len(), set, filled).await;
        stored.into_iter().map(|stored| stored.map(drop)).collect()
    }

    /// As [`delete`](Self::delete), for several keys.
    pub(crate) async fn delete_many(
        &self,
        wires: &[Vec<u8>],
        budget: &mut Budget,
    ) -> Vec<Result<(), TierError>> {
        let both = |wire| [Slot::Main.key(wire), Slot::Beside.key(wire)];
        let slots: Vec<_> = wires.iter().flat_map(|wire| both(wire)).collect();
        let keys: Vec<&[u8]> = slots.iter().map(|slot| &**slot).collect();
        let delete = async {
            let mut dropped = self.tier.delete_many(&keys).await.into_iter();
            let mut pairs = Vec::with_capacity(wires.len());
            while let Some(main) = dropped.next() {
                pairs.push(main.and(dropped.next().unwrap_or_else(|| Err(miscounted()))));
            }
            pairs
        };
        self.run_many(Op::Delete, budget, wires.len(), delete, |()| OpResult::Ok).await
    }

    /// One answer for each of `count` keys; a failure of all is one of each.
    async fn run_many<R>(
        &self,
        op: Op,
        budget: &mut Budget,
        count: usize,
        operation: impl Future<Output = Vec<Result<R, TierError>>>,
        seen: impl Fn(&R) -> OpResult,
    ) -> Vec<Result<R, TierError>> {
        let results = match self.bounded(op, budget, operation).await {
            Ok(results) if results.len() == count => results,
            Ok(_) => (0..count).map(|_| Err(miscounted())).collect(),
            Err(error) => (0..count).map(|_| Err(error.clone())).collect(),
        };
        results.iter().for_each(|result| self.count(op, result, &seen));
        if count > 0 {
            self.tell(results.iter().find_map(|result| result.as_ref().err()));
        }
        results
    }
}

/// The tier did not answer for each key of a batch.
fn miscounted() -> TierError {
    TierError::Protocol("another number of answers than of keys".into())
}
