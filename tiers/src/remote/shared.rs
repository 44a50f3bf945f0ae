//! A tier that is shared, or whose kind is chosen at run time.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;

use crate::{ConfigError, TierError, protocol::HoldEnd};

use super::{Abilities, Claim, Fill, Found, Incarnation, Lease, LeaseToken, Progress, RemoteTier};

/// A tier that is shared, or whose kind is chosen at run time.
#[async_trait]
impl<T: RemoteTier + ?Sized> RemoteTier for Arc<T> {
    fn name(&self) -> &'static str {
        (**self).name()
    }

    async fn get(&self, key: &[u8]) -> Result<Option<Found>, TierError> {
        (**self).get(key).await
    }

    async fn lease(
        &self,
        key: &[u8],
        token: LeaseToken,
        life: Duration,
        claim: Claim,
    ) -> Result<Lease, TierError> {
        (**self).lease(key, token, life, claim).await
    }

    async fn fill(
        &self,
        key: &[u8],
        token: LeaseToken,
        bytes: Bytes,
        life: Duration,
    ) -> Result<Fill, TierError> {
        (**self).fill(key, token, bytes, life).await
    }

    async fn release(&self, key: &[u8], token: LeaseToken) -> Result<(), TierError> {
        (**self).release(key, token).await
    }

    async fn renew(
        &self,
        key: &[u8],
        token: LeaseToken,
        life: Duration,
    ) -> Result<bool, TierError> {
        (**self).renew(key, token, life).await
    }

    async fn hold(&self, key: &[u8], token: LeaseToken, life: Duration) -> Result<(), TierError> {
        (**self).hold(key, token, life).await
    }

    async fn renew_hold(
        &self,
        key: &[u8],
        token: LeaseToken,
        life: Duration,
    ) -> Result<bool, TierError> {
        (**self).renew_hold(key, token, life).await
    }

    async fn end_hold(
        &self,
        key: &[u8],
        token: LeaseToken,
        lease: Option<(LeaseToken, Duration)>,
    ) -> Result<HoldEnd, TierError> {
        (**self).end_hold(key, token, lease).await
    }

    async fn incarnation(&self, key: &[u8]) -> Result<Option<Incarnation>, TierError> {
        (**self).incarnation(key).await
    }

    async fn set(&self, key: &[u8], bytes: Bytes, life: Duration) -> Result<Fill, TierError> {
        (**self).set(key, bytes, life).await
    }

    async fn delete(&self, key: &[u8]) -> Result<(), TierError> {
        (**self).delete(key).await
    }

    async fn get_many(&self, keys: &[&[u8]]) -> Vec<Result<Option<Found>, TierError>> {
        (**self).get_many(keys).await
    }

    async fn set_many(&self, entries: &[(&[u8], Bytes, Duration)]) -> Vec<Result<Fill, TierError>> {
        (**self).set_many(entries).await
    }

    async fn delete_many(&self, keys: &[&[u8]]) -> Vec<Result<(), TierError>> {
        (**self).delete_many(keys).await
    }

    async fn clear(&self, prefix: &[u8], progress: Progress<'_>) -> Result<(), TierError> {
        (**self).clear(prefix, progress).await
    }

    async fn ping(&self) -> Result<(), TierError> {
        (**self).ping().await
    }

    fn distrust(&self) {
        (**self).distrust();
    }

    fn abilities(&self) -> Abilities {
        (**self).abilities()
    }

    fn check(&self) -> Result<(), ConfigError> {
        (**self).check()
    }
}
