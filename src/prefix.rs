//! Dropping all keys that begin alike: as an invalidation of one key, for many at once.
//!
//! This process forgets them twice, before the server is asked and after it has answered, for the
//! reasons that `write` gives. On the server the leases go first and then the values, step by step. When the
//! server does not answer to the end, the prefix is pending: this process does not use L2 for its keys
//! until all of it was dropped.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use tiered_tiers::{Progress, TierError};

use crate::{
    Ack, Cleared, Error, Key,
    bus::{Bus, Change},
    key::Prefix,
    pending::Word,
    replay,
    stack::Stack,
};

/// Drops every key that begins with the bytes of `prefix`. `progress` is told how many have gone from L2
/// so far.
pub(crate) async fn invalidate(
    stack: &Arc<Stack>,
    prefix: &Key,
    progress: Progress<'_>,
) -> Result<Cleared, Error> {
    prefix.check()?;
    let prefix = Prefix::of(prefix);
    if stack.is_alone() {
        return Ok(Cleared { l1: forget(stack, &prefix), l2: 0, ack: Ack::Done });
    }
    if let Some(l2) = stack.l2.as_ref().filter(|l2| !l2.clears()) {
        return Err(refused(l2.name()));
    }
    stack.require_runtime()?;
    Bus::listen(stack);
    let sweep = Sweep { stack, prefix: &prefix, ended: false };
    let l1 = forget(stack, &prefix);
    let dropped = AtomicU64::new(0);
    let count = |step: u64| progress(dropped.fetch_add(step, Ordering::Relaxed) + step);
    let cleared = match &stack.l2 {
        Some(l2) => match l2.clear(&prefix.wire(&stack.namespace), &count).await {
            // It has learnt so only now.
            Err(TierError::Unsupported(_)) => {
                sweep.end();
                return Err(refused(l2.name()));
            }
            cleared => cleared,
        },
        None => Ok(()),
    };
    let ack = match cleared {
        Ok(()) => match stack.announce(&[Change::Prefix(&prefix)], &mut stack.budget()).await {
            Ok(()) => Ack::Done,
            Err(_) => {
                replay::queue_untold(stack, Word::Prefix(prefix.clone()), None);
                Ack::Pending
            }
        },
        Err(_) => sweep.queue(),
    };
    // Not counted: what came back for a moment was counted before.
    forget(stack, &prefix);
    sweep.end();
    if ack == Ack::Done {
        replay::start(stack);
    }
    Ok(Cleared { l1, l2: dropped.into_inner(), ack })
}

fn refused(tier: &str) -> Error {
    Error::config(format!(
        "the tier {tier} cannot drop keys that begin alike: put a version into them, by Key::version or \
         Builder::namespace_version, and count it up"
    ))
}

/// An invalidation under way. Dropped midway, by a cancelled future, it leaves the prefix pending.
struct Sweep<'a> {
    stack: &'a Arc<Stack>,
    prefix: &'a Prefix,
    ended: bool,
}

impl Sweep<'_> {
    fn queue(&self) -> Ack {
        replay::queue_prefix(self.stack, self.prefix);
        Ack::Pending
    }

    fn end(mut self) {
        self.ended = true;
    }
}

impl Drop for Sweep<'_> {
    fn drop(&mut self) {
        if !self.ended {
            self.queue();
            forget(self.stack, self.prefix);
        }
    }
}

/// Overtakes all loads of the prefix's keys, and forgets what L1 has of them; says how many those were.
pub(crate) fn forget(stack: &Stack, prefix: &Prefix) -> u64 {
    stack.fence.advance_where(|key| prefix.covers(key));
    stack.flights.detach_where(|key| prefix.covers(key.local()));
    let Some(l1) = stack.l1.as_deref() else { return 0 };
    // After the loads were overtaken: what one of them has put in before is found here.
    prefix.local().map(|prefix| l1.remove_prefix(prefix)).sum()
}
