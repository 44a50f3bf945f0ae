//! Waiting for the load of another process.
//!
//! The lease is the single flight of all processes. Who gets it loads, and renews it meanwhile; the others serve
//! what is stale if they have it, else wait for the value, and after too long a wait load for themselves and store
//! nothing. They ask at growing intervals: a value that appears says nothing on the bus, which carries changes only.

use std::{ops::ControlFlow, time::Duration};

use tiered_codecs::CodecFor;

use super::{Leading, Obstacle, Step};
use crate::{stack::Landed, walk::Walk};

/// How long a leader waits before it asks again what another process' load has come to, at first and at most.
const SHORTEST_PAUSE: Duration = Duration::from_millis(4);
const LONGEST_PAUSE: Duration = Duration::from_millis(100);

impl<'a, C> Leading<'a, C> {
    /// Whether another process loads what this read may share.
    pub(crate) fn waits(&self) -> bool {
        self.obstacle == Some(Obstacle::Load) && self.walk.plan.read
    }

    /// Lands with what is stale, or waits for another process' load: for its value, for its lease, or until the
    /// wait takes too long.
    pub(crate) async fn wait<T>(mut self) -> Step<'a, C>
    where
        T: Send + Sync + 'static,
        C: CodecFor<T>,
    {
        let Walk { stack, .. } = self.walk;
        if let Some(landed) = self.stale() {
            return self.land(landed);
        }
        stack.meter.lease_wait();
        let start = tokio::time::Instant::now();
        let mut pause = SHORTEST_PAUSE;
        while self.waits() {
            let left = stack.wait_for.saturating_sub(start.elapsed());
            if left.is_zero() {
                break;
            }
            // Processes that began to wait together do not ask together.
            tokio::time::sleep(pause.mul_f64(0.5 + fastrand::f64()).min(left)).await;
            pause = (pause * 3 / 2).min(LONGEST_PAUSE);
            if let Some(session) = &mut self.session {
                session.refresh_budget();
            }
            self = match self.lease::<T>().await {
                ControlFlow::Break(walked) => return ControlFlow::Break(walked),
                ControlFlow::Continue(leading) => leading,
            };
        }
        ControlFlow::Continue(self)
    }

    /// A stale value that may be served.
    pub(super) fn stale(&self) -> Option<Landed> {
        let fallback = self.fallback.clone().filter(|_| self.ticket.holds());
        let now = self.walk.stack.clock.now();
        fallback.or_else(|| self.walk.fallback()).filter(|landed| {
            now < landed.usable_until && self.walk.stack.tags.stand(landed.marks.as_ref())
        })
    }
}
