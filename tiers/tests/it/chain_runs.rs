//! Two tiers in a row whose servers become another run in the middle of an operation: no copy is taken for one
//! of the run that it is not of.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use tiered_tiers::{
    Abilities, Claim, Fill, Found, HoldEnd, Incarnation, Lease, LeaseToken, Memory, Progress,
    RemoteTier, TierError,
};

const LIFE: Duration = Duration::from_secs(600);

/// A server that keeps all it has when it is restarted, which happens just before an operation if it is told so.
#[derive(Clone, Debug)]
struct Restarting {
    inner: Memory,
    run: Arc<AtomicU64>,
    /// Before which operation it is restarted.
    before: Arc<std::sync::Mutex<Option<&'static str>>>,
}

impl Restarting {
    fn new() -> Self {
        Self { inner: Memory::new(), run: Arc::new(AtomicU64::new(1)), before: Arc::default() }
    }

    fn restart(&self) {
        self.run.fetch_add(1, Ordering::SeqCst);
    }

    fn restart_before(&self, operation: &'static str) {
        *self.before.lock().unwrap() = Some(operation);
    }

    fn run(&self) -> Option<Incarnation> {
        Some(Incarnation::new(self.run.load(Ordering::SeqCst)))
    }

    fn begin(&self, operation: &'static str) {
        let mut before = self.before.lock().unwrap();
        if *before == Some(operation) {
            *before = None;
            self.restart();
        }
    }

    fn told(&self, found: Option<Found>) -> Option<Found> {
        found.map(|found| Found { incarnation: self.run(), ..found })
    }
}

#[async_trait]
impl RemoteTier for Restarting {
    fn name(&self) -> &'static str {
        "restarting"
    }
    async fn get(&self, key: &[u8]) -> Result<Option<Found>, TierError> {
        self.begin("get");
        self.inner.get(key).await.map(|found| self.told(found))
    }
    async fn lease(
        &self,
        key: &[u8],
        token: LeaseToken,
        life: Duration,
        claim: Claim,
    ) -> Result<Lease, TierError> {
        self.begin("lease");
        Ok(match self.inner.lease(key, token, life, claim).await? {
            Lease::Granted(found) => Lease::Granted(self.told(found)),
            Lease::Held(found) => Lease::Held(self.told(found)),
            Lease::OnHold => Lease::OnHold,
        })
    }
    async fn fill(
        &self,
        key: &[u8],
        token: LeaseToken,
        bytes: Bytes,
        life: Duration,
    ) -> Result<Fill, TierError> {
        self.begin("fill");
        self.inner.fill(key, token, bytes, life).await
    }
    async fn release(&self, key: &[u8], token: LeaseToken) -> Result<(), TierError> {
        self.inner.release(key, token).await
    }
    async fn renew(
        &self,
        key: &[u8],
        token: LeaseToken,
        life: Duration,
    ) -> Result<bool, TierError> {
        self.inner.renew(key, token, life).await
    }
    async fn hold(&self, key: &[u8], token: LeaseToken, life: Duration) -> Result<(), TierError> {
        self.inner.hold(key, token, life).await
    }
    async fn renew_hold(
        &self,
        key: &[u8],
        token: LeaseToken,
        life: Duration,
    ) -> Result<bool, TierError> {
        self.inner.renew_hold(key, token, life).await
    }
    async fn end_hold(
        &self,
        key: &[u8],
        token: LeaseToken,
        lease: Option<(LeaseToken, Duration)>,
    ) -> Result<HoldEnd, TierError> {
        self.inner.end_hold(key, token, lease).await
    }
    async fn incarnation(&self, _: &[u8]) -> Result<Option<Incarnation>, TierError> {
        Ok(self.run())
    }
    async fn set(&self, key: &[u8], bytes: Bytes, life: Duration) -> Result<Fill, TierError> {
        self.begin("set");
        self.inner.set(key, bytes, life).await
    }
    async fn delete(&self, key: &[u8]) -> Result<(), TierError> {
        self.inner.delete(key).await
    }
    async fn clear(&self, prefix: &[u8], progress: Progress<'_>) -> Result<(), TierError> {
        self.inner.clear(prefix, progress).await
    }
    async fn ping(&self) -> Result<(), TierError> {
        Ok(())
    }
    fn abilities(&self) -> Abilities {
        let mut abilities = self.inner.abilities();
        abilities.tells_runs = true;
        abilities
    }
}

fn pair() -> (Restarting, Restarting) {
    (Restarting::new(), Restarting::new())
}

fn value() -> Bytes {
    Bytes::from_static(b"v")
}

#[tokio::test]
async fn a_tier_of_runs_conforms_alone_and_in_a_row() {
    let (near, far) = pair();
    tiered_tiers::testing::remote_tier_conforms(Arc::new(near.clone())).await;
    tiered_tiers::testing::remote_tier_conforms(Arc::new(near.then(far))).await;
    let three = Restarting::new().then(Restarting::new()).then(Restarting::new());
    tiered_tiers::testing::remote_tier_conforms(Arc::new(three)).await;
}

/// What a copy says of the far run is what the far server would say, whenever that is restarted.
#[tokio::test]
async fn a_copy_is_of_the_far_run_that_stored_it() {
    for operation in ["fill", "set"] {
        let (near, far) = pair();
        let chain = near.clone().then(far.clone());
        let token = LeaseToken::random();
        chain.lease(b"k", token, LIFE, Claim::IfFree).await.unwrap();
        let asked = chain.incarnation(b"k").await.unwrap();
        far.restart_before(operation);
        let stored = match operation {
            "fill" => chain.fill(b"k", token, value(), LIFE).await,
            _ => chain.set(b"k", value(), LIFE).await,
        };
        assert_eq!(stored, Ok(Fill::Stored));
        assert!(near.inner.get(b"k").await.unwrap().is_some(), "there is a copy");
        let copy = chain.get(b"k").await.unwrap().unwrap();
        assert_eq!(copy.incarnation, far.run(), "{operation}");
        assert_ne!(copy.incarnation, asked);
    }
}

/// A lease near that came back with a restart makes no copy of the run after it.
#[tokio::test]
async fn a_copy_is_of_the_near_run_before_its_lease() {
    for is_batch in [false, true] {
        let (near, far) = pair();
        let chain = near.clone().then(far.clone());
        far.set(b"k", value(), LIFE).await.unwrap();
        near.restart_before("lease");
        if is_batch {
            assert!(chain.get_many(&[b"k"]).await.remove(0).unwrap().is_some());
        } else {
            assert!(chain.get(b"k").await.unwrap().is_some());
        }
        assert!(near.inner.get(b"k").await.unwrap().is_some(), "there is a copy");
        far.delete(b"k").await.unwrap();
        assert_eq!(chain.get(b"k").await, Ok(None), "and it is none");
    }
}

#[tokio::test]
async fn a_copy_of_an_earlier_near_run_is_replaced() {
    for is_batch in [false, true] {
        let (near, far) = pair();
        let chain = near.clone().then(far.clone());
        chain.set(b"k", Bytes::from_static(b"old"), LIFE).await.unwrap();
        far.set(b"k", value(), LIFE).await.unwrap();
        near.restart();
        far.restart();
        for _ in 0..2 {
            let found = if is_batch {
                chain.get_many(&[b"k"]).await.remove(0)
            } else {
                chain.get(b"k").await
            };
            let found = found.unwrap().unwrap();
            assert_eq!((found.bytes, found.incarnation), (value(), far.run()));
        }
        let far_run = far.run();
        far.delete(b"k").await.unwrap();
        far.restart();
        let copy = chain.get(b"k").await.unwrap().unwrap();
        assert_eq!(copy.incarnation, far_run, "a copy tells the run that gave it");
    }
}
