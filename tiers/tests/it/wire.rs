//! [`Wire`]: a tier at the end of a bad line. Its commands travel in tasks of their own, so one whose caller
//! gave up is executed all the same, late.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use fastrand::Rng;
use tiered_tiers::{
    Abilities, Claim, Fill, Found, HoldEnd, Lease, LeaseToken, Memory, Progress, RemoteTier,
    TierError,
};
use tokio::sync::Semaphore;

/// What the line does to commands, in a hundred.
#[derive(Clone, Debug)]
pub(crate) struct Weather {
    random: Rng,
    /// Fail and are not executed.
    pub(crate) refused: u8,
    /// Are executed, and their answers are lost.
    pub(crate) lost: u8,
    /// Arrive after up to a few seconds instead of milliseconds.
    pub(crate) late: u8,
}

impl Weather {
    pub(crate) fn seeded(seed: u64) -> Self {
        Self { random: Rng::with_seed(seed), refused: 4, lost: 4, late: 4 }
    }

    fn delay(&mut self) -> Duration {
        let late = self.random.u8(..100) < self.late;
        Duration::from_micros(self.random.u64(..if late { 4_000_000 } else { 3_000 }))
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Wire {
    pub(crate) inner: Memory,
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    weather: Mutex<Option<Weather>>,
    /// The next command of a name waits here; or its answer, where it says so.
    held: Mutex<HashMap<&'static str, (Arc<Semaphore>, bool)>>,
    /// Those of which one waits, and may go.
    waiting: Mutex<HashMap<&'static str, Arc<Semaphore>>>,
    /// These fail and are not executed.
    broken: Mutex<Vec<&'static str>>,
    executed: Mutex<HashMap<&'static str, usize>>,
}

impl Wire {
    pub(crate) fn to(inner: Memory) -> Self {
        Self { inner, shared: Arc::default() }
    }

    pub(crate) fn weather(&self, weather: Option<Weather>) {
        *self.shared.weather.lock().unwrap() = weather;
    }

    /// The next command of this name waits until it is let go.
    pub(crate) fn hold(&self, name: &'static str) {
        self.shared.held.lock().unwrap().insert(name, (Arc::new(Semaphore::new(0)), false));
    }

    /// The next command of this name is executed, and its answer waits until it is let go.
    pub(crate) fn hold_answer(&self, name: &'static str) {
        self.shared.held.lock().unwrap().insert(name, (Arc::new(Semaphore::new(0)), true));
    }

    /// Waits until the held one is on its way.
    pub(crate) async fn is_held(&self, name: &'static str) {
        while !self.shared.waiting.lock().unwrap().contains_key(name) {
            tokio::task::yield_now().await;
        }
    }

    /// Lets it go, and waits until it was executed.
    pub(crate) async fn let_go(&self, name: &'static str) {
        let before = self.executed(name);
        self.shared.waiting.lock().unwrap().remove(name).unwrap().add_permits(1);
        while self.executed(name) == before {
            tokio::task::yield_now().await;
        }
    }

    pub(crate) fn breaks(&self, name: &'static str) {
        self.shared.broken.lock().unwrap().push(name);
    }

    pub(crate) fn mended(&self) {
        self.shared.broken.lock().unwrap().clear();
    }

    /// How many commands of this name were executed.
    pub(crate) fn executed(&self, name: &str) -> usize {
        self.shared.executed.lock().unwrap().get(name).copied().unwrap_or_default()
    }

    async fn run<R, O>(&self, name: &'static str, operation: O) -> Result<R, TierError>
    where
        R: Send + 'static,
        O: Future<Output = Result<R, TierError>> + Send + 'static,
    {
        let failed = || Err(TierError::Unreachable("a bad line".into()));
        let (mut there, mut back, mut refused, mut lost) = Default::default();
        if let Some(weather) = &mut *self.shared.weather.lock().unwrap() {
            (there, back) = (weather.delay(), weather.delay());
            let lot = weather.random.u8(..100);
            refused = lot < weather.refused;
            lost = !refused && lot < weather.refused + weather.lost;
        }
        refused |= self.shared.broken.lock().unwrap().contains(&name);
        if refused {
            return failed();
        }
        let gate = self.shared.held.lock().unwrap().remove(name);
        let shared = Arc::clone(&self.shared);
        let travels = tokio::spawn(async move {
            let wait = async |is_answer: bool| {
                if let Some((gate, _)) = gate.as_ref().filter(|(_, held)| *held == is_answer) {
                    shared.waiting.lock().unwrap().insert(name, Arc::clone(gate));
                    gate.acquire().await.unwrap().forget();
                }
            };
            tokio::time::sleep(there).await;
            wait(false).await;
            let answer = operation.await;
            wait(true).await;
            *shared.executed.lock().unwrap().entry(name).or_default() += 1;
            tokio::time::sleep(back).await;
            answer
        });
        let answer = travels.await.unwrap();
        if lost { failed() } else { answer }
    }
}

#[async_trait]
impl RemoteTier for Wire {
    fn name(&self) -> &'static str {
        "wire"
    }

    async fn get(&self, key: &[u8]) -> Result<Option<Found>, TierError> {
        let (inner, key) = (self.inner.clone(), key.to_vec());
        self.run("get", async move { inner.get(&key).await }).await
    }

    async fn lease(
        &self,
        key: &[u8],
        token: LeaseToken,
        life: Duration,
        claim: Claim,
    ) -> Result<Lease, TierError> {
        let (inner, key) = (self.inner.clone(), key.to_vec());
        self.run("lease", async move { inner.lease(&key, token, life, claim).await }).await
    }

    async fn fill(
        &self,
        key: &[u8],
        token: LeaseToken,
        bytes: Bytes,
        life: Duration,
    ) -> Result<Fill, TierError> {
        let (inner, key) = (self.inner.clone(), key.to_vec());
        self.run("fill", async move { inner.fill(&key, token, bytes, life).await }).await
    }

    async fn release(&self, key: &[u8], token: LeaseToken) -> Result<(), TierError> {
        let (inner, key) = (self.inner.clone(), key.to_vec());
        self.run("release", async move { inner.release(&key, token).await }).await
    }

    async fn renew(
        &self,
        key: &[u8],
        token: LeaseToken,
        life: Duration,
    ) -> Result<bool, TierError> {
        let (inner, key) = (self.inner.clone(), key.to_vec());
        self.run("renew", async move { inner.renew(&key, token, life).await }).await
    }

    async fn hold(&self, key: &[u8], token: LeaseToken, life: Duration) -> Result<(), TierError> {
        let (inner, key) = (self.inner.clone(), key.to_vec());
        self.run("hold", async move { inner.hold(&key, token, life).await }).await
    }

    async fn renew_hold(
        &self,
        key: &[u8],
        token: LeaseToken,
        life: Duration,
    ) -> Result<bool, TierError> {
        let (inner, key) = (self.inner.clone(), key.to_vec());
        self.run("renew_hold", async move { inner.renew_hold(&key, token, life).await }).await
    }

    async fn end_hold(
        &self,
        key: &[u8],
        token: LeaseToken,
        lease: Option<(LeaseToken, Duration)>,
    ) -> Result<HoldEnd, TierError> {
        let (inner, key) = (self.inner.clone(), key.to_vec());
        self.run("end_hold", async move { inner.end_hold(&key, token, lease).await }).await
    }

    /// As the contract wants it of a tier whose commands may be late: the lease by force, and the fill.
    async fn set(&self, key: &[u8], bytes: Bytes, life: Duration) -> Result<Fill, TierError> {
        let token = LeaseToken::random();
        let (inner, owned) = (self.inner.clone(), key.to_vec());
        let force = Duration::from_secs(2);
        let displaced = async move {
            let lease = inner.lease(&owned, token, force, Claim::ByForce).await?;
            // What a writer holds may hold nothing.
            if lease == Lease::OnHold {
                inner.delete(&owned).await.map(|()| lease)
            } else {
                Ok(lease)
            }
        };
        match self.run("set", displaced).await? {
            Lease::OnHold => Ok(Fill::Refused),
            _ => self.fill(key, token, bytes, life).await,
        }
    }

    async fn delete(&self, key: &[u8]) -> Result<(), TierError> {
        let (inner, key) = (self.inner.clone(), key.to_vec());
        self.run("delete", async move { inner.delete(&key).await }).await
    }

    async fn clear(&self, prefix: &[u8], progress: Progress<'_>) -> Result<(), TierError> {
        let (inner, prefix) = (self.inner.clone(), prefix.to_vec());
        let told = Arc::new(Mutex::new(Vec::new()));
        let tell = Arc::clone(&told);
        let clear =
            async move { inner.clear(&prefix, &|step| tell.lock().unwrap().push(step)).await };
        self.run("clear", clear).await?;
        told.lock().unwrap().drain(..).for_each(progress);
        Ok(())
    }

    async fn ping(&self) -> Result<(), TierError> {
        let inner = self.inner.clone();
        self.run("ping", async move { inner.ping().await }).await
    }

    fn abilities(&self) -> Abilities {
        self.inner.abilities()
    }
}
