//! Holds of writers, on both of a key's slots.
//!
//! A tier that knows no holds only drops the entry, before the write and after it. The fence still refuses what was
//! loaded in between; but a writer that dies between its commit and the second drop leaves what others have loaded.

use std::time::Duration;

use futures_util::future::{BoxFuture, join, join_all};
use tiered_tiers::{LeaseToken, TierError, protocol::HoldEnd};

use super::{Budget, L2, PIECE};
use crate::{
    meter::{Op, OpResult},
    versions::Slot,
};

/// How many keys are under way at once.
const AT_ONCE: usize = 64;

impl L2 {
    /// Drops both slots of each of `wires`, and holds them, or holds them for longer.
    pub(crate) async fn hold(
        &self,
        wires: &[Vec<u8>],
        token: LeaseToken,
        life: Duration,
        budget: &mut Budget,
    ) -> Vec<Result<(), TierError>> {
        let mut held = Vec::with_capacity(wires.len());
        for piece in wires.chunks(PIECE) {
            self.replenish(budget, !held.is_empty());
            let mut keys: Vec<BoxFuture<'_, _>> = Vec::with_capacity(piece.len());
            for wire in piece {
                keys.push(Box::pin(self.hold_slots(wire, token, life)));
            }
            let hold = in_order(keys);
            held.extend(
                self.run_many(Op::Hold, budget, piece.len(), hold, |()| OpResult::Ok).await,
            );
        }
        held
    }

    /// Drops both slots of each of `wires`, and this writer's holds. With a `lease` that is granted in the same step for
    /// one of the slots, if the hold was alone there.
    pub(crate) async fn end_hold(
        &self,
        wires: &[Vec<u8>],
        token: LeaseToken,
        lease: Option<(Slot, LeaseToken)>,
        budget: &mut Budget,
    ) -> Vec<Result<HoldEnd, TierError>> {
        let mut ended = Vec::with_capacity(wires.len());
        for piece in wires.chunks(PIECE) {
            self.replenish(budget, !ended.is_empty());
            let mut keys: Vec<BoxFuture<'_, _>> = Vec::with_capacity(piece.len());
            for wire in piece {
                keys.push(Box::pin(self.end_slots(wire, token, lease)));
            }
            let end = in_order(keys);
            let seen = |end: &HoldEnd| match end {
                HoldEnd::Alone => OpResult::Ok,
                HoldEnd::Overlapped => OpResult::Held,
                HoldEnd::Lost => OpResult::Refused,
            };
            ended.extend(self.run_many(Op::EndHold, budget, piece.len(), end, seen).await);
        }
        ended
    }

    async fn hold_slots(
        &self,
        wire: &[u8],
        token: LeaseToken,
        life: Duration,
    ) -> Result<(), TierError> {
        let beside = Slot::Beside.key(wire);
        let hold = |key| self.hold_slot(key, token, life);
        let (main, beside) = join(hold(wire), hold(&beside)).await;
        main.and(beside)
    }

    async fn hold_slot(
        &self,
        key: &[u8],
        token: LeaseToken,
        life: Duration,
    ) -> Result<(), TierError> {
        match self.tier.hold(key, token, life).await {
            Err(TierError::Unsupported(_)) => self.tier.delete(key).await,
            held => held,
        }
    }

    async fn end_slots(
        &self,
        wire: &[u8],
        token: LeaseToken,
        lease: Option<(Slot, LeaseToken)>,
    ) -> Result<HoldEnd, TierError> {
        let end = |slot: Slot| async move {
            let lease = lease.filter(|(at, _)| *at == slot).map(|(_, token)| token);
            self.end_slot(&slot.key(wire), token, lease).await
        };
        let (main, beside) = join(end(Slot::Main), end(Slot::Beside)).await;
        // A writer that came in between holds one of them only: whoever was not alone in both was not alone.
        Ok(match (main?, beside?) {
            (HoldEnd::Alone, HoldEnd::Alone) => HoldEnd::Alone,
            (HoldEnd::Lost, _) | (_, HoldEnd::Lost) => HoldEnd::Lost,
            _ => HoldEnd::Overlapped,
        })
    }

    async fn end_slot(
        &self,
        key: &[u8],
        token: LeaseToken,
        lease: Option<LeaseToken>,
    ) -> Result<HoldEnd, TierError> {
        let lease = lease.map(|token| (token, self.lease_for));
        match self.tier.end_hold(key, token, lease).await {
            Err(TierError::Unsupported(_)) => self.tier.delete(key).await.map(|()| HoldEnd::Lost),
            ended => ended,
        }
    }
}

async fn in_order<R>(mut operations: Vec<BoxFuture<'_, R>>) -> Vec<R> {
    let mut results = Vec::with_capacity(operations.len());
    while !operations.is_empty() {
        let rest = operations.split_off(operations.len().min(AT_ONCE));
        results.extend(join_all(operations).await);
        operations = rest;
    }
    results
}
