//! The last half of step 6: the fenced store into L2, and what a `Bypass` has to do beside it.

use std::time::{Duration, Instant};

use bytes::Bytes;
use tiered_codecs::CodecFor;
use tiered_tiers::{Fill, TierError};

use super::{Granted, Session, Token};
use crate::{
    bus::Change,
    entry::Entry,
    fence::Ticket,
    meter::{Op, OpResult, Tier},
    pending::Word,
    replay,
    tags::Stamps,
    walk::Walk,
};

impl Session<'_> {
    /// Tells the other processes that the key was written.
    pub(super) async fn tell<C>(&mut self, walk: &Walk<C>) -> Result<(), TierError> {
        walk.stack.announce(&[Change::Key(&walk.key)], &mut self.budget).await
    }

    /// Until when an entry that is stored now may live: away from home, no longer than what has its
    /// home. Then whoever finds the home free again need not look elsewhere.
    pub(crate) fn lives_until(&self) -> Option<Instant> {
        self.course.taken_until()
    }

    /// The last half of step 6: the fenced store into L2.
    pub(crate) async fn store<C>(
        &mut self,
        walk: &Walk<C>,
        lease: &mut Granted,
        (ticket, packed, life): (Ticket, Option<Bytes>, Duration),
        mut other: Option<OtherSlot<'_, C>>,
    ) {
        let (meter, slot) = (&walk.stack.meter, lease.slot);
        let holds = ticket.holds() && !walk.stack.is_held(&walk.key);
        match packed {
            // An invalidation that could not reach the server left the lease standing there: not then.
            Some(bytes) if holds => {
                let Token { key, token, .. } = &lease.token;
                let filled = self.l2.fill(key, *token, bytes, life, &mut self.budget).await;
                if filled.is_ok() {
                    lease.token.settle();
                }
                // Refused or failed: counted, and no concern of the caller. But for a `Bypass`, which is a write.
                let Some(other) = &mut other else { return };
                let key = slot.other().key(&self.wire);
                other.is_old = match filled {
                    Ok(Fill::Stored) => match self.l2.drop_slot(&key, &mut self.budget).await {
                        Ok(()) => {
                            if self.tell(walk).await.is_err() {
                                let word = Word::Key(walk.key.clone());
                                replay::queue_untold(&walk.stack, word, None);
                            }
                            false
                        }
                        Err(_) => true,
                    },
                    // Overtaken: what is there now may be newer. Or its lease ran out, and it is not.
                    Ok(Fill::Refused) => walk.stack.clock.now() >= lease.ends,
                    // It keeps no such value; what was there may be there still.
                    Ok(Fill::Skipped) | Err(_) => true,
                };
                return;
            }
            Some(_) => meter.op(Tier::L2, Op::Fill, OpResult::Refused),
            None => meter.op(Tier::L2, Op::Fill, OpResult::Skipped),
        }
        let Some(other) = &mut other else {
            self.release(lease).await;
            return;
        };
        other.is_old = walk.stack.drop_shared(&walk.key, &mut self.budget).await.is_err();
        lease.token.settle();
    }
}

/// What else there is of a key that a `Bypass` fills: in its other slot, and in other processes. The database was asked
/// because the cache was not to be trusted, so all that is older than what the call has seen. Dropped while it is old, by
/// a failure or a cancelled future, it leaves the key to be invalidated.
pub(crate) struct OtherSlot<'a, C> {
    walk: &'a Walk<C>,
    is_old: bool,
}

impl<'a, C> OtherSlot<'a, C> {
    pub(crate) fn new(walk: &'a Walk<C>) -> Self {
        Self { walk, is_old: true }
    }
}

impl<C> Drop for OtherSlot<'_, C> {
    fn drop(&mut self) {
        if self.is_old {
            replay::queue(&self.walk.stack, &self.walk.key);
        }
    }
}

/// The entry for L2; `None`, with a word in the log, if it cannot be encoded or is too large.
pub(crate) fn pack<T, C>(
    walk: &Walk<C>,
    entry: &Entry<T>,
    stamps: &Stamps,
    wire: &[u8],
) -> Option<Bytes>
where
    T: Send + Sync + 'static,
    C: CodecFor<T>,
{
    let Walk { stack, codec, options, .. } = walk;
    let packed = entry.pack(stack, codec, options, stamps, wire);
    if let Err(error) = &packed {
        tracing::debug!(cache = &*stack.name, %error, "a value was not stored in L2");
    }
    packed.ok()
}
