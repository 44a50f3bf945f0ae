//! The first half of step 6: the lease, what is taken under it before a load, and its renewal meanwhile.

use std::{convert::Infallible, future::pending, mem, sync::Arc, time::Instant};

use tiered_codecs::CodecFor;
use tiered_tiers::{Claim, Clock, Lease, LeaseToken, TierError};

use super::{Session, look::keep_found};
use crate::{
    fence::Ticket,
    read::Dated,
    restarts::stamp,
    stack::{Landed, Stack},
    tags::{Before, Stamps, Tag},
    versions::Slot,
    walk::Walk,
};

/// How often a lease is renewed, three times in its life: a loader that hangs does not keep a key from being stored
/// for ever.
const RENEWALS: usize = 36;

/// A lease of this walk's.
pub(crate) struct Granted {
    pub(super) slot: Slot,
    pub(super) token: Token,
    /// The run of the server that was asked for before it, for what is stored under it.
    pub(crate) stamp: u64,
    /// When it runs out, at the earliest.
    pub(super) ends: Instant,
}

/// A token that may stand on the server. Dropped before that is settled, by a failure or a cancelled future, it
/// is given up behind the caller's back: else everybody would wait until it runs out.
pub(crate) struct Token {
    stack: Arc<Stack>,
    pub(super) key: Vec<u8>,
    pub(crate) token: LeaseToken,
    is_settled: bool,
}

impl Token {
    pub(crate) fn new(stack: &Arc<Stack>, key: &[u8]) -> Self {
        let (stack, key) = (Arc::clone(stack), key.to_vec());
        Self { stack, key, token: LeaseToken::random(), is_settled: false }
    }

    /// It does not stand any more, or never did.
    pub(crate) fn settle(&mut self) {
        self.is_settled = true;
    }
}

impl Drop for Token {
    fn drop(&mut self) {
        if self.is_settled {
            return;
        }
        let (stack, key, token) = (Arc::clone(&self.stack), mem::take(&mut self.key), self.token);
        // Outside a runtime it runs out by itself.
        let _ = self.stack.spawn(async move {
            if let Some(l2) = &stack.l2 {
                l2.release(&key, token, &mut l2.budget()).await;
            }
        });
    }
}

/// What came of asking for a lease.
pub(crate) enum Leased {
    Granted(Granted),
    /// A value came since it was looked for.
    Found(Landed),
    /// Another process loads.
    Held,
    /// A writer holds the key.
    OnHold,
    /// No lease: L2 failed, or the key belongs to newer versions.
    Nothing,
}

impl Session<'_> {
    /// The first half of step 6.
    pub(crate) async fn lease<T, C>(
        &mut self,
        walk: &Walk<C>,
        ticket: &Ticket,
        claim: Claim,
        read: bool,
    ) -> Leased
    where
        T: Send + Sync + 'static,
        C: CodecFor<T>,
    {
        if self.slot().is_none() || !self.settle(walk).await {
            return Leased::Nothing;
        }
        // At most twice: its home may have been taken meanwhile.
        while let Some(slot) = self.slot() {
            let key = slot.key(&self.wire);
            let stamp = match self.l2.incarnation(&key, &mut self.budget).await {
                Ok(run) => stamp(run),
                Err(error) => {
                    self.failure = Some(error);
                    return Leased::Nothing;
                }
            };
            let (mut token, asked) = (Token::new(&walk.stack, &key), walk.stack.clock.now());
            let leased = self.l2.lease(&key, token.token, claim, &mut self.budget).await;
            let (granted, found) = match leased {
                Ok(Lease::Granted(found)) => (true, found),
                Ok(Lease::Held(found)) => {
                    token.settle();
                    (false, found)
                }
                Ok(Lease::OnHold) => {
                    token.settle();
                    return Leased::OnHold;
                }
                Err(error) => {
                    self.failure = Some(error);
                    return Leased::Nothing;
                }
            };
            let found = match claim {
                Claim::IfFree => self.judge::<T, C>(walk, slot, asked, found),
                // A write: whatever is there goes.
                Claim::ByForce => None,
            };
            let landed = match found.filter(|found| read && found.is_fresh) {
                Some(found) => self.verified(walk, found).await,
                None => None,
            };
            let moved = self.course.slot() != Some(slot);
            if granted && (landed.is_some() || moved) {
                self.give_up(&mut token).await;
            }
            return match landed {
                Some(Dated { landed, keep, .. }) => {
                    keep_found(walk, ticket, keep);
                    Leased::Found(landed)
                }
                None if moved => continue,
                None if granted => {
                    let ends = asked + self.l2.lease_for();
                    Leased::Granted(Granted { slot, token, stamp, ends })
                }
                None => Leased::Held,
            };
        }
        Leased::Nothing
    }

    /// Takes the generations of an entry's tags, before its load, and what else is so before it.
    pub(crate) async fn before_load<C>(
        &mut self,
        walk: &Walk<C>,
    ) -> Result<(Stamps, Before), TierError> {
        let (stack, budget) = (&walk.stack, &mut self.budget);
        let asked = async {
            let before = stack.before_load(budget).await?;
            let tags = stack.with_namespace(&walk.options.tags);
            Ok((stack.stamps(&tags, budget).await?, before))
        };
        let asked = asked.await;
        self.failure = asked.as_ref().err().cloned();
        asked
    }

    /// The generations of tags that a load has revealed; `None` if they may not be the ones from before it.
    pub(crate) async fn revealed<C>(
        &mut self,
        walk: &Walk<C>,
        before: &Before,
        tags: &[Tag],
    ) -> Option<Stamps> {
        walk.stack.revealed_stamps(before, tags, &mut self.budget).await.ok().flatten()
    }

    /// Renews a lease until it is lost, or for [`RENEWALS`] times; never ends.
    pub(crate) async fn renew(&self, clock: &Clock, lease: &mut Granted) -> Infallible {
        let lease_for = self.l2.lease_for();
        let Token { key, token, .. } = &lease.token;
        for _ in 0..RENEWALS {
            tokio::time::sleep(lease_for / 3).await;
            let asked = clock.now();
            match self.l2.renew(key, *token, &mut self.l2.budget()).await {
                Ok(true) => lease.ends = asked + lease_for,
                Ok(false) | Err(TierError::Unsupported(_)) => break,
                // It stands for a while yet, and is tried again.
                Err(_) => {}
            }
        }
        pending().await
    }

    /// Gives a lease up.
    pub(crate) async fn release(&mut self, lease: &mut Granted) {
        self.give_up(&mut lease.token).await;
    }

    async fn give_up(&mut self, token: &mut Token) {
        if self.budget.is_spent() {
            // It is given up behind the caller's back, as it is dropped.
            return;
        }
        self.l2.release(&token.key, token.token, &mut self.budget).await;
        token.settle();
    }
}
