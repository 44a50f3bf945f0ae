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
    /// Drops both slots of each of `wires`, and holds them. Once for a token: for longer they are renewed.
    pub(crate) async fn hold(
        &self,
        wires: &[Vec<u8>],
        token: LeaseToken,
        life: Duration,
        budget: &mut Budget,
    ) -> Vec<Result<(), TierError>> {
        let held = self.hold_each(wires, token, life, false, budget).await;
        held.into_iter().map(|held| held.map(drop)).collect()
    }

    /// Drops both slots of each of `wires`, and holds them for longer; says of each whether it was held until now.
    pub(crate) async fn renew_hold(
        &self,
        wires: &[Vec<u8>],
        token: LeaseToken,
        life: Duration,
        budget: &mut Budget,
    ) -> Vec<Result<bool, TierError>> {
        self.hold_each(wires, token, life, true, budget).await
    }

    async fn hold_each(
        &self,
        wires: &[Vec<u8>],
        token: LeaseToken,
        life: Duration,
        is_renewal: bool,
        budget: &mut Budget,
    ) -> Vec<Result<bool, TierError>> {
        let mut held = Vec::with_capacity(wires.len());
        for piece in wires.chunks(PIECE) {
            self.replenish(budget, !held.is_empty());
            let mut keys: Vec<BoxFuture<'_, _>> = Vec::with_capacity(piece.len());
            for wire in piece {
                keys.push(Box::pin(self.hold_slots(wire, token, life, is_renewal)));
            }
            let hold = in_order(keys);
            let seen = |stood: &bool| if *stood { OpResult::Ok } else { OpResult::Refused };
            held.extend(self.run_many(Op::Hold, budget, piece.len(), hold, seen).await);
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
        is_renewal: bool,
    ) -> Result<bool, TierError> {
        let beside = Slot::Beside.key(wire);
        let hold = |key| self.hold_slot(key, token, life, is_renewal);
        let (main, beside) = join(hold(wire), hold(&beside)).await;
        Ok(main? & beside?)
    }

    async fn hold_slot(
        &self,
        key: &[u8],
        token: LeaseToken,
        life: Duration,
        is_renewal: bool,
    ) -> Result<bool, TierError> {
        let held = match is_renewal {
            true => self.tier.renew_hold(key, token, life).await,
            false => self.tier.hold(key, token, life).await.map(|()| true),
        };
        match held {
            Err(TierError::Unsupported(_)) => self.tier.delete(key).await.map(|()| !is_renewal),
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
