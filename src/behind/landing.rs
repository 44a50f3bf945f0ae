//! Putting the cache right around a write, so that no tier keeps what the database had before it.
//!
//! While a value is on its way to the database, the cache's entry may be lost (evicted, expired, dropped), and a
//! load then brings the database's old value back. So the write is fenced as a load is: before it, the
//! key's lease is taken by force, which refuses every older load's fill; after it, the value fills under that
//! lease. Where that does not work, for the lease is gone or the server silent, the key is invalidated: the database is
//! right by then. Setting it once more instead would win over an invalidation by somebody who has changed the
//! database since.

use std::sync::Arc;

use tiered_codecs::CodecFor;
use tiered_tiers::{Claim, Fill, Lease, TierError};

use super::{queue::Item, shared::Shared};
use crate::{
    Key,
    bus::Change,
    fence::Ticket,
    pending::Standing,
    replay,
    session::Token,
    stack::Stack,
    tags::{Marks, Stamps},
    versions::Slot,
    write::{self, Draft},
};

/// A key whose value is being written.
pub(super) struct Landing {
    ticket: Ticket,
    /// From before the lease, and the marks from before them.
    marks: Option<Marks>,
    stamps: Result<Stamps, TierError>,
    /// Given up with it, so that nobody waits for a write that has failed.
    lease: Option<Token>,
}

impl Landing {
    /// Before the write. `None` if a newer value waits, whose own landing will do.
    pub(super) async fn begin<K, V, C>(shared: &Shared<K, V, C>, key: &Key) -> Option<Self>
    where
        K: Clone,
    {
        // In turn: a lease taken in the middle of a `set` would refuse it.
        let _turn = shared.turn(key).await.ok()?;
        if shared.is_outdated(key) {
            return None;
        }
        let (stack, _) = shared.cache.parts();
        let ticket = stack.capture(key);
        let marks = stack.tags.marks(&shared.options.tags);
        let stamps = write::stamps(stack, &shared.options, &[key], stack.budget()).await;
        let stamps = stamps.map(|stamps| stamps.into_iter().next().unwrap_or_default());
        let lease = take_lease(stack, key, Slot::home(shared.options.schema)).await;
        Some(Self { ticket, marks, stamps, lease })
    }

    /// After the write: the cache has this value now, or none, and the key has left the queue.
    pub(super) async fn end<K, V, C>(
        landing: Option<Self>,
        shared: &Shared<K, V, C>,
        key: &Key,
        item: &Item<K, V>,
    ) where
        K: Clone,
        V: Send + Sync + 'static,
        C: CodecFor<V>,
    {
        let (stack, _) = shared.cache.parts();
        let mut unsettled = Unsettled { stack, key, is_settled: false };
        let turn = shared.turn(key).await;
        if !shared.is_outdated(key) {
            let is_kept = match (&turn, landing) {
                (Ok(_), Some(landing)) => landing.keep(shared, key, &item.value).await,
                _ => false,
            };
            if !is_kept {
                drop_key(stack, key).await;
            }
        }
        unsettled.is_settled = true;
        // Under the turn: who sets the key next finds it as it is.
        let mut state = shared.state.lock();
        state.queue.end(key);
        state.done.extend(item.position);
    }

    /// Whether the cache has the value in all its tiers, and nothing older can come.
    async fn keep<K, V, C>(mut self, shared: &Shared<K, V, C>, key: &Key, value: &Arc<V>) -> bool
    where
        K: Clone,
        V: Send + Sync + 'static,
        C: CodecFor<V>,
    {
        let (stack, codec) = shared.cache.parts();
        if self.stamps.is_err() {
            return false;
        }
        let (value, marks, stamps) = (Arc::clone(value), self.marks.clone(), self.stamps.clone());
        let draft = Draft::new(stack, codec, &shared.options, key, value, marks, stamps);
        let Some(draft) = draft.ok().filter(|_| stack.is_enabled()) else { return false };
        if let Some(l2) = &stack.l2 {
            let (Some(lease), Some(bytes)) = (&mut self.lease, draft.packed()) else {
                return false;
            };
            if !self.ticket.holds() {
                return false;
            }
            let (wire, home) = (key.wire(&stack.namespace), Slot::home(shared.options.schema));
            let (mut budget, life) = (l2.budget(), draft.life());
            let filled = l2.fill(&home.key(&wire), lease.token, bytes, life, &mut budget).await;
            if filled.is_ok() {
                lease.settle();
            }
            let is_stored = matches!(filled, Ok(Fill::Stored));
            if !is_stored || l2.drop_slot(&home.other().key(&wire), &mut budget).await.is_err() {
                return false;
            }
        }
        // Another process may have loaded the old value into its L1 meanwhile.
        let mut budget = stack.budget();
        if stack.announce(&[Change::Key(key)], &mut budget).await.is_err() {
            return false;
        }
        let mut is_last = false;
        self.ticket.supersede(|holds| {
            is_last = holds;
            draft.keep(holds, true);
        });
        stack.flights.detach(key);
        is_last
    }
}

/// The key's lease, whoever has it.
async fn take_lease(stack: &Arc<Stack>, key: &Key, home: Slot) -> Option<Token> {
    let l2 = stack.l2.as_ref()?;
    if !stack.is_enabled() || stack.pending.standing(key) != Standing::Clear {
        return None;
    }
    let key = home.key(&key.wire(&stack.namespace)).into_owned();
    let mut lease = Token::new(stack, &key);
    match l2.lease(&key, lease.token, Claim::ByForce, &mut l2.budget()).await {
        Ok(Lease::Granted(_)) => Some(lease),
        Ok(Lease::Held(_) | Lease::OnHold) => {
            lease.settle();
            None
        }
        Err(_) => None,
    }
}

/// Drops a key from all tiers, now or as soon as the server answers.
pub(super) async fn drop_key(stack: &Arc<Stack>, key: &Key) {
    // An error is of a key or a runtime that could not have been set.
    let _ = write::invalidate(stack, key).await;
}

/// Drops distinct keys likewise.
pub(super) async fn drop_keys(stack: &Arc<Stack>, keys: &[Key]) {
    let _ = write::invalidate_many(stack, keys).await;
}

/// A key that was written, and is not put right in the cache yet. Dropped so, it is invalidated.
struct Unsettled<'a> {
    stack: &'a Arc<Stack>,
    key: &'a Key,
    is_settled: bool,
}

impl Drop for Unsettled<'_> {
    fn drop(&mut self) {
        if !self.is_settled {
            self.stack.drop_local(self.key);
            if !self.stack.is_alone() {
                replay::queue(self.stack, self.key);
            }
        }
    }
}
