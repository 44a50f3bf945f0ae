//! Several keys in one operation on L2: one that fails fails no other.
//!
//! Many keys take longer than one, so each [`PIECE`] of them has a budget of its own; but the first piece
//! that runs out of it ends the operation, and a hung server costs one budget however many keys there are.

use std::{future::Future, time::Duration};

use bytes::Bytes;
use tiered_tiers::{Fill, Found, TierError};

use super::{Budget, L2, filled, looked};
use crate::{
    meter::{Op, OpResult},
    versions::Slot,
};

/// How many keys a budget is for.
pub(crate) const PIECE: usize = 512;

impl L2 {
    /// As [`get`](Self::get), for several keys of the server's. One that fails fails no other.
    pub(crate) async fn get_many(
        &self,
        keys: &[&[u8]],
        budget: &mut Budget,
    ) -> Vec<Result<Option<Found>, TierError>> {
        let mut found = Vec::with_capacity(keys.len());
        for piece in keys.chunks(PIECE) {
            self.replenish(budget, !found.is_empty());
            let get = self.tier.get_many(piece);
            found.extend(self.run_many(Op::Get, budget, piece.len(), get, looked).await);
        }
        found
    }

    /// As [`set`](Self::set), for several keys, each with its bytes and their life.
    pub(crate) async fn set_many(
        &self,
        entries: &[(&[u8], Bytes, Duration)],
        slot: Slot,
        budget: &mut Budget,
    ) -> Vec<Result<Fill, TierError>> {
        let mut stored = Vec::with_capacity(entries.len());
        for piece in entries.chunks(PIECE) {
            self.replenish(budget, !stored.is_empty());
            stored.extend(self.set_piece(piece, slot, budget).await);
        }
        stored
    }

    async fn set_piece(
        &self,
        entries: &[(&[u8], Bytes, Duration)],
        slot: Slot,
        budget: &mut Budget,
    ) -> Vec<Result<Fill, TierError>> {
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
            let dropped = self.tier.delete_many(&others).await;
            if dropped.len() != others.len() {
                return Vec::new();
            }
            let mut dropped = dropped.into_iter();
            for stored in stored.iter_mut().filter(|stored| stored.is_ok()) {
                match dropped.next() {
                    Some(Ok(())) => {}
                    Some(Err(error)) => *stored = Err(error),
                    None => *stored = Err(miscounted()),
                }
            }
            stored
        };
        self.run_many(Op::Set, budget, entries.len(), set, filled).await
    }

    /// As [`delete`](Self::delete), for several keys.
    pub(crate) async fn delete_many(
        &self,
        wires: &[Vec<u8>],
        budget: &mut Budget,
    ) -> Vec<Result<(), TierError>> {
        let mut dropped = Vec::with_capacity(wires.len());
        for piece in wires.chunks(PIECE) {
            self.replenish(budget, !dropped.is_empty());
            dropped.extend(self.delete_piece(piece, budget).await);
        }
        dropped
    }

    async fn delete_piece(
        &self,
        wires: &[Vec<u8>],
        budget: &mut Budget,
    ) -> Vec<Result<(), TierError>> {
        let both = |wire| [Slot::Main.key(wire), Slot::Beside.key(wire)];
        let slots: Vec<_> = wires.iter().flat_map(|wire| both(wire)).collect();
        let keys: Vec<&[u8]> = slots.iter().map(|slot| &**slot).collect();
        let delete = async {
            let dropped = self.tier.delete_many(&keys).await;
            if dropped.len() != keys.len() {
                return Vec::new();
            }
            let mut dropped = dropped.into_iter();
            let mut pairs = Vec::with_capacity(wires.len());
            while let Some(main) = dropped.next() {
                pairs.push(main.and(dropped.next().unwrap_or_else(|| Err(miscounted()))));
            }
            pairs
        };
        self.run_many(Op::Delete, budget, wires.len(), delete, |()| OpResult::Ok).await
    }

    /// A budget for the next piece, unless the last one has spent its own.
    pub(super) fn replenish(&self, budget: &mut Budget, is_next: bool) {
        if is_next && !budget.is_spent() {
            *budget = self.budget();
        }
    }

    /// One answer for each of `count` keys; a failure of all is one of each.
    pub(super) async fn run_many<R>(
        &self,
        op: Op,
        budget: &mut Budget,
        count: usize,
        operation: impl Future<Output = Vec<Result<R, TierError>>>,
        seen: impl Fn(&R) -> OpResult,
    ) -> Vec<Result<R, TierError>> {
        let results = match self.bounded(op, budget, operation).await {
            Ok(results) if results.len() == count => results,
            // Whose answer is missing?
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
