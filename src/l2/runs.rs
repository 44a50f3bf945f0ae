//! The runs of the server: what is stored is stamped with one, see `restarts`.

use std::{panic::AssertUnwindSafe, sync::atomic::Ordering};

use futures_util::{FutureExt, future::join_all};
use tiered_tiers::{Incarnation, TierError};

use super::{Budget, L2, PIECE};
use crate::meter::{Op, OpResult, Tier};

impl L2 {
    /// The run of the server that `key` is stored on. A tier asks somebody only once in a while.
    ///
    /// A success says nothing of the server's health: it may be known without asking.
    pub(crate) async fn incarnation(
        &self,
        key: &[u8],
        budget: &mut Budget,
    ) -> Result<Option<Incarnation>, TierError> {
        if let Some(known) = self.known_incarnation(key) {
            self.heard(known);
            return Ok(known);
        }
        let asked = self.bounded(Op::Incarnation, budget, self.tier.incarnation(key)).await;
        let asked = asked.and_then(|asked| asked);
        match &asked {
            Ok(run) => self.heard(*run),
            Err(error) => self.fail(error, budget),
        }
        asked
    }

    /// The same, if it is known without waiting.
    pub(crate) fn known_incarnation(&self, key: &[u8]) -> Option<Option<Incarnation>> {
        // A tier of somebody else's making may panic.
        let asked = AssertUnwindSafe(self.tier.incarnation(key)).catch_unwind();
        asked.now_or_never()?.ok()?.ok()
    }

    /// Of several keys. One of which it cannot be had has none: what is stamped by none is a miss later.
    pub(crate) async fn incarnations(
        &self,
        keys: &[&[u8]],
        budget: &mut Budget,
    ) -> Vec<Option<Incarnation>> {
        let mut runs = Vec::with_capacity(keys.len());
        for piece in keys.chunks(PIECE) {
            let asked = join_all(piece.iter().map(|key| self.tier.incarnation(key)));
            match self.bounded(Op::Incarnation, budget, asked).await {
                Ok(asked) => runs.extend(asked.into_iter().map(|run| run.ok().flatten())),
                Err(error) => {
                    self.fail(&error, budget);
                    break;
                }
            }
        }
        runs.resize(keys.len(), None);
        runs
    }

    /// Says once that the server does not tell what it should.
    fn heard(&self, run: Option<Incarnation>) {
        if run.is_none()
            && self.tier.abilities().tells_runs
            && !self.is_untold.swap(true, Ordering::Relaxed)
        {
            tracing::warn!(
                cache = &*self.cache,
                tier = self.name(),
                "the cache server does not tell its runs, so old data that it brings back after a restart is \
                 believed: allow its user what the tier asks for (INFO, of Redis)"
            );
        }
    }

    fn fail(&self, error: &TierError, budget: &mut Budget) {
        let result = if *error == TierError::Timeout { OpResult::Timeout } else { OpResult::Error };
        self.meter.op(Tier::L2, Op::Incarnation, result);
        *budget = Budget::SPENT;
        self.tell(Some(error));
    }
}
