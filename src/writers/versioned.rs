//! Storing a value whose version in the source is known: an older one never replaces a newer one.
//!
//! On the server it is compared under the lease:
//!
//! 1. The lease of the value's slot is taken by force, and what is there comes with it.
//! 2. Then, and not before, the other slot is read.
//! 3. Is what is in either newer, the lease is given up. Else the value is stored, if the token still stands, and the other slot
//!    is dropped with its lease.
//!
//! Of two writes in one slot the second's step 1 takes the first's token away, or sees its value. Of two in different
//! slots, the older one is left only if it was stored after the newer one had dropped its slot; but that drop took its
//! token away, unless that was taken later still, and then step 2 has seen the newer one. Both can go, when each drops the
//! other: then nothing is left, and nothing that is old.
//!
//! Rejected: to compare and then `set`, which another write comes between; and a script on the server that compares, which
//! would have to read envelopes, and memcached has none.

use std::{sync::Arc, time::Duration};

use futures_util::future::{BoxFuture, join_all};
use tiered_codecs::envelope;
use tiered_tiers::{Claim, Fill, Found, Lease, TierError};
use tokio::time::{Instant, sleep, timeout};

use crate::{
    Ack, Error,
    bus::Change,
    l2::{Budget, L2},
    read,
    session::Token,
    stack::Stack,
    versions::Slot,
    write::{self, Draft, Overwrite},
};

/// How often it is tried in all, when other processes take the lease away.
const ATTEMPTS: u32 = 8;
/// How long it waits before it tries again, at first; twice as long each time.
const PAUSE: Duration = Duration::from_millis(1);
/// How many of several are under way at once.
const AT_ONCE: usize = 64;

/// What storing came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stored {
    /// It is there; or nothing is, where it is not to be stored or cannot be.
    Yes,
    /// A newer one is there.
    Superseded,
    /// A writer holds the key: nothing is there.
    OnHold,
    /// Others came in between, each time.
    Overtaken,
}

/// Stores a draft in all tiers, unless a newer version is there.
pub(crate) async fn set<T>(draft: Draft<'_, T>, budget: Budget) -> Result<Ack, Error>
where
    T: Send + Sync + 'static,
{
    let Draft { stack, key, .. } = draft;
    if draft.is_superseded_here() {
        return Ok(Ack::Superseded);
    }
    if stack.is_alone() {
        return Ok(draft.keep_here());
    }
    let mut budget = budget;
    let overwrite = Overwrite::begin(stack, key);
    let stored = store(&draft, &mut budget).await;
    let is_stored = matches!(stored, Ok(Stored::Yes));
    let stored = match stored {
        Ok(Stored::Yes) => {
            stack.announce(&[Change::Key(key)], &mut budget).await.map(|()| Stored::Yes)
        }
        stored => stored,
    };
    Ok(match stored {
        Ok(Stored::Yes) => {
            // Other writes of this process came in between, perhaps: the server has decided which is left.
            overwrite.done(|holds| draft.keep(holds, true));
            Ack::Done
        }
        Ok(Stored::Superseded) => {
            overwrite.unchanged(|_| {});
            Ack::Superseded
        }
        Ok(Stored::OnHold) => {
            overwrite.unchanged(|_| stack.remove_local(key));
            Ack::Done
        }
        Ok(Stored::Overtaken) => {
            overwrite.done(|_| stack.remove_local(key));
            return write::invalidate(stack, key).await;
        }
        // The server has it, and the others could not be told.
        Err(_) if is_stored => {
            overwrite.untold(|holds| draft.keep(holds, false));
            Ack::Pending
        }
        Err(_) => overwrite.pending(|holds| draft.keep(holds, false)),
    })
}

/// The same for drafts of distinct keys. One answer for each.
pub(crate) async fn set_many<T>(
    stack: &Arc<Stack>,
    drafts: Vec<Result<Draft<'_, T>, Error>>,
) -> Vec<Result<Ack, Error>>
where
    T: Send + Sync + 'static,
{
    let (mut acks, mut drafts) = (Vec::with_capacity(drafts.len()), drafts.into_iter());
    let mut budget = stack.budget();
    while acks.len() < acks.capacity() && drafts.len() > 0 {
        let mut piece: Vec<BoxFuture<'_, Result<Ack, Error>>> = Vec::with_capacity(AT_ONCE);
        for draft in drafts.by_ref().take(AT_ONCE) {
            piece.push(match draft {
                Ok(draft) => Box::pin(set(draft, budget)),
                Err(error) => Box::pin(async { Err(error) }),
            });
        }
        let ended = join_all(piece).await;
        if ended.iter().any(|ack| matches!(ack, Ok(Ack::Pending))) {
            // A server that hangs costs one budget, however many keys there are.
            budget = Budget::SPENT;
        }
        acks.extend(ended);
    }
    acks
}

async fn store<T>(draft: &Draft<'_, T>, budget: &mut Budget) -> Result<Stored, TierError>
where
    T: Send + Sync + 'static,
{
    let stack = draft.stack;
    let Some(l2) = &stack.l2 else { return Ok(Stored::Yes) };
    draft.refused.clone().map_or(Ok(()), Err)?;
    let start = Instant::now();
    let turn = timeout(budget.left(), stack.turns.of(draft.key).lock()).await;
    budget.spend(start.elapsed(), turn.is_ok());
    let _turn = turn.map_err(|_| TierError::Timeout)?;
    // What is to be dropped is compared with nothing.
    read::settle(stack, draft.key, budget).await?;
    for attempt in 0..ATTEMPTS {
        if attempt > 0 {
            // Processes that were overtaken together do not try again together.
            sleep((PAUSE * 2_u32.pow(attempt)).mul_f64(fastrand::f64())).await;
        }
        if let Some(stored) = attempt_to_store(draft, l2, budget).await? {
            return Ok(stored);
        }
    }
    Ok(Stored::Overtaken)
}

/// `None` if it was overtaken.
async fn attempt_to_store<T>(
    draft: &Draft<'_, T>,
    l2: &L2,
    budget: &mut Budget,
) -> Result<Option<Stored>, TierError>
where
    T: Send + Sync + 'static,
{
    let slot = Slot::home(draft.options.schema);
    let (home, other) = (slot.key(&draft.wire), slot.other().key(&draft.wire));
    let mut lease = Token::new(draft.stack, &home);
    let at_home = match l2.lease(&home, lease.token, Claim::ByForce, budget).await? {
        Lease::Granted(found) => found,
        Lease::Held(_) => {
            lease.settle();
            return Ok(None);
        }
        Lease::OnHold => {
            lease.settle();
            return Ok(Some(Stored::OnHold));
        }
    };
    let elsewhere = l2.get(&other, budget).await?;
    if version(draft, &at_home).max(version(draft, &elsewhere)) > draft.options.source_version {
        l2.release(&home, lease.token, budget).await;
        lease.settle();
        return Ok(Some(Stored::Superseded));
    }
    let bytes = draft.packed.as_ref().filter(|_| !draft.options.skip_l2);
    let filled = match bytes {
        Some(bytes) => {
            l2.fill(&home, lease.token, bytes.clone(), draft.entry.life(), budget).await?
        }
        None => Fill::Skipped,
    };
    match filled {
        Fill::Stored => l2.drop_slot(&other, budget).await?,
        Fill::Skipped => l2.delete(&draft.wire, budget).await?,
        Fill::Refused => {}
    }
    lease.settle();
    Ok((filled != Fill::Refused).then_some(Stored::Yes))
}

/// The version of what is stored in a slot, whatever its schema; 0 for none, or one that is not known.
fn version<T>(draft: &Draft<'_, T>, found: &Option<Found>) -> u64 {
    let most = draft.stack.max_entry_bytes;
    let opened =
        found.as_ref().and_then(|found| envelope::open(&found.bytes, &draft.wire, most).ok());
    opened.map_or(0, |opened| opened.header.meta.source_version)
}
