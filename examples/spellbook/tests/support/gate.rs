//! [`Gate`]: an L2 whose next invalidation stands still until the test lets it go on.
//!
//! This freezes a handler between its commit and its invalidation, without a hook in the service.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use tiered::tiers::{
    Claim, Fill, Found, HoldEnd, Lease, LeaseToken, Memory, Progress, RemoteTier, TierError,
};
use tokio::sync::Semaphore;

/// An embedded L2 with a gate before `delete`. Clones are the same gate and the same store.
#[derive(Clone, Debug)]
pub(crate) struct Gate {
    tier: Memory,
    armed: Arc<AtomicBool>,
    arrived: Arc<Semaphore>,
    opened: Arc<Semaphore>,
}

impl Gate {
    pub(crate) fn new(tier: Memory) -> Self {
        let none = || Arc::new(Semaphore::new(0));
        Self { tier, armed: Arc::default(), arrived: none(), opened: none() }
    }

    /// Holds the next invalidation, and only that.
    pub(crate) fn arm(&self) {
        self.armed.store(true, Ordering::SeqCst);
    }

    /// Waits until an invalidation is held: its change has been committed.
    pub(crate) async fn holds_one(&self) {
        let arrived = tokio::time::timeout(super::PATIENCE, self.arrived.acquire()).await;
        arrived.expect("nothing was invalidated").unwrap().forget();
    }

    /// Lets it go on.
    pub(crate) fn open(&self) {
        self.opened.add_permits(1);
    }
}

#[async_trait]
impl RemoteTier for Gate {
    fn name(&self) -> &'static str {
        "gate"
    }

    async fn get(&self, key: &[u8]) -> Result<Option<Found>, TierError> {
        self.tier.get(key).await
    }

    async fn lease(
        &self,
        key: &[u8],
        token: LeaseToken,
        life: Duration,
        claim: Claim,
    ) -> Result<Lease, TierError> {
        self.tier.lease(key, token, life, claim).await
    }

    async fn fill(
        &self,
        key: &[u8],
        token: LeaseToken,
        bytes: Bytes,
        life: Duration,
    ) -> Result<Fill, TierError> {
        self.tier.fill(key, token, bytes, life).await
    }

    async fn release(&self, key: &[u8], token: LeaseToken) -> Result<(), TierError> {
        self.tier.release(key, token).await
    }

    async fn renew(
        &self,
        key: &[u8],
        token: LeaseToken,
        life: Duration,
    ) -> Result<bool, TierError> {
        self.tier.renew(key, token, life).await
    }

    async fn hold(&self, key: &[u8], token: LeaseToken, life: Duration) -> Result<(), TierError> {
        self.tier.hold(key, token, life).await
    }

    async fn renew_hold(
        &self,
        key: &[u8],
        token: LeaseToken,
        life: Duration,
    ) -> Result<bool, TierError> {
        self.tier.renew_hold(key, token, life).await
    }

    async fn end_hold(
        &self,
        key: &[u8],
        token: LeaseToken,
        lease: Option<(LeaseToken, Duration)>,
    ) -> Result<HoldEnd, TierError> {
        self.tier.end_hold(key, token, lease).await
    }

    async fn set(&self, key: &[u8], bytes: Bytes, life: Duration) -> Result<Fill, TierError> {
        self.tier.set(key, bytes, life).await
    }

    async fn delete(&self, key: &[u8]) -> Result<(), TierError> {
        if self.armed.swap(false, Ordering::SeqCst) {
            self.arrived.add_permits(1);
            self.opened.acquire().await.unwrap().forget();
        }
        self.tier.delete(key).await
    }

    async fn clear(&self, prefix: &[u8], progress: Progress<'_>) -> Result<(), TierError> {
        self.tier.clear(prefix, progress).await
    }

    async fn ping(&self) -> Result<(), TierError> {
        self.tier.ping().await
    }
}
