//! A remote tier that fails, hangs or stops at a gate, as a test switches it.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::future::join_all;
use tiered::tiers::{
    Abilities, Claim, Fill, Found, HoldEnd, Incarnation, Lease, LeaseToken, Memory, Progress,
    RemoteTier, TierError,
};
use tokio::sync::Semaphore;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    Up,
    Failing,
    /// Only what is done to a key's second slot fails.
    FailingBeside,
    /// Only what is done to the records of tags fails.
    FailingTags,
    Hanging,
    /// Each operation takes effect, and then waits for `admit`.
    Gated,
    /// Each operation waits for `admit`, and then takes effect.
    Held,
    /// Only what is done to a key's second slot waits, and is counted.
    HeldBeside,
}

#[derive(Clone, Debug)]
pub struct Switchable {
    inner: Memory,
    state: Arc<Mutex<State>>,
    gate: Arc<Semaphore>,
    operations: Arc<AtomicUsize>,
    distrusted: Arc<AtomicUsize>,
    gets: Arc<AtomicUsize>,
    batches: Arc<AtomicUsize>,
    unclearable: bool,
    /// The run of its server that it tells; 0 for none.
    run: Arc<AtomicU64>,
    /// It has to ask for it.
    asks: Arc<AtomicBool>,
    /// What becomes of renewals, and how many there were.
    renewal: Arc<Mutex<Option<Result<bool, TierError>>>>,
    renewals: Arc<AtomicUsize>,
}

impl Switchable {
    pub fn new(inner: Memory) -> Self {
        Self {
            inner,
            state: Arc::new(Mutex::new(State::Up)),
            gate: Arc::new(Semaphore::new(0)),
            operations: Arc::default(),
            distrusted: Arc::default(),
            gets: Arc::default(),
            batches: Arc::default(),
            unclearable: false,
            run: Arc::default(),
            asks: Arc::default(),
            renewal: Arc::default(),
            renewals: Arc::default(),
        }
    }

    /// From now on every renewal of a lease comes to this.
    pub fn renews(&self, renewal: Result<bool, TierError>) {
        *self.renewal.lock().unwrap() = Some(renewal);
    }

    /// How often a lease was to be renewed.
    pub fn renewals(&self) -> usize {
        self.renewals.load(Ordering::SeqCst)
    }

    /// How often it was told that it gave what was not the key's.
    pub fn distrusted(&self) -> usize {
        self.distrusted.load(Ordering::SeqCst)
    }

    /// How often one key was read.
    pub fn gets(&self) -> usize {
        self.gets.load(Ordering::SeqCst)
    }

    /// How often it was asked about several keys at once.
    pub fn batches(&self) -> usize {
        self.batches.load(Ordering::SeqCst)
    }

    /// The same as a tier that cannot clear.
    pub fn unclearable(mut self) -> Self {
        self.unclearable = true;
        self
    }

    /// From now on it is that run of its server that answers, with all that was there before.
    pub fn restart(&self, run: u64) {
        self.run.store(run, Ordering::SeqCst);
    }

    /// From now on it has to ask for the run, which takes a moment.
    pub fn asks_for_its_run(&self) {
        self.asks.store(true, Ordering::SeqCst);
    }

    fn told(&self) -> Option<Incarnation> {
        Some(self.run.load(Ordering::SeqCst)).filter(|run| *run != 0).map(Incarnation::new)
    }

    fn by_this_run(&self, found: Option<Found>) -> Option<Found> {
        found.map(|found| Found { incarnation: self.told(), ..found })
    }

    pub fn switch(&self, state: State) {
        *self.state.lock().unwrap() = state;
    }

    /// Lets `operations` gated operations go.
    pub fn admit(&self, operations: usize) {
        self.gate.add_permits(operations);
    }

    /// Takes back what was let go and not used.
    pub fn drain(&self) {
        self.gate.forget_permits(usize::MAX);
    }

    pub fn operations(&self) -> usize {
        self.operations.load(Ordering::SeqCst)
    }

    /// Operations on a key's second slot follow those on its main one: they are neither counted nor
    /// held up, unless the state says so.
    async fn pass<R>(
        &self,
        key: &[u8],
        operation: impl Future<Output = R>,
    ) -> Result<R, TierError> {
        let state = *self.state.lock().unwrap();
        let beside = key.ends_with(b"%beside");
        if beside == (state == State::HeldBeside) {
            self.operations.fetch_add(1, Ordering::SeqCst);
        }
        match state {
            State::Held | State::Gated if beside => Ok(operation.await),
            State::FailingBeside if beside => Err(TierError::Unreachable("switched off".into())),
            State::HeldBeside if !beside => Ok(operation.await),
            State::FailingTags if key.windows(4).any(|part| part == b"%tag") => {
                Err(TierError::Unreachable("switched off".into()))
            }
            State::Up | State::FailingBeside | State::FailingTags => Ok(operation.await),
            State::Failing => Err(TierError::Unreachable("switched off".into())),
            State::Hanging => std::future::pending().await,
            State::Held | State::HeldBeside => {
                self.gate.acquire().await.unwrap().forget();
                Ok(operation.await)
            }
            State::Gated => {
                let result = operation.await;
                self.gate.acquire().await.unwrap().forget();
                Ok(result)
            }
        }
    }
}

#[async_trait]
impl RemoteTier for Switchable {
    fn name(&self) -> &'static str {
        "switchable"
    }
    async fn get(&self, key: &[u8]) -> Result<Option<Found>, TierError> {
        self.gets.fetch_add(1, Ordering::SeqCst);
        self.pass(key, self.inner.get(key)).await?.map(|found| self.by_this_run(found))
    }
    async fn get_many(&self, keys: &[&[u8]]) -> Vec<Result<Option<Found>, TierError>> {
        self.batches.fetch_add(1, Ordering::SeqCst);
        let each = keys.iter().map(|key| self.pass(key, self.inner.get(key)));
        let got = join_all(each).await.into_iter().map(|got| got.and_then(|got| got));
        got.map(|got| got.map(|found| self.by_this_run(found))).collect()
    }
    async fn incarnation(&self, _: &[u8]) -> Result<Option<Incarnation>, TierError> {
        if self.told().is_none() {
            return Ok(None);
        }
        if self.asks.load(Ordering::SeqCst) {
            tokio::task::yield_now().await;
        }
        let state = *self.state.lock().unwrap();
        match state {
            State::Failing => Err(TierError::Unreachable("switched off".into())),
            State::Hanging => std::future::pending().await,
            _ => Ok(self.told()),
        }
    }
    async fn set_many(&self, entries: &[(&[u8], Bytes, Duration)]) -> Vec<Result<Fill, TierError>> {
        self.batches.fetch_add(1, Ordering::SeqCst);
        let each = entries
            .iter()
            .map(|(key, bytes, life)| self.pass(key, self.inner.set(key, bytes.clone(), *life)));
        join_all(each).await.into_iter().map(|set| set.and_then(|set| set)).collect()
    }
    async fn delete_many(&self, keys: &[&[u8]]) -> Vec<Result<(), TierError>> {
        self.batches.fetch_add(1, Ordering::SeqCst);
        let each = keys.iter().map(|key| self.pass(key, self.inner.delete(key)));
        join_all(each)
            .await
            .into_iter()
            .map(|deleted| deleted.and_then(|deleted| deleted))
            .collect()
    }
    async fn lease(
        &self,
        key: &[u8],
        token: LeaseToken,
        life: Duration,
        claim: Claim,
    ) -> Result<Lease, TierError> {
        Ok(match self.pass(key, self.inner.lease(key, token, life, claim)).await?? {
            Lease::Granted(found) => Lease::Granted(self.by_this_run(found)),
            Lease::Held(found) => Lease::Held(self.by_this_run(found)),
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
        self.pass(key, self.inner.fill(key, token, bytes, life)).await?
    }
    async fn release(&self, key: &[u8], token: LeaseToken) -> Result<(), TierError> {
        self.pass(key, self.inner.release(key, token)).await?
    }
    async fn renew(
        &self,
        key: &[u8],
        token: LeaseToken,
        life: Duration,
    ) -> Result<bool, TierError> {
        self.renewals.fetch_add(1, Ordering::SeqCst);
        let renewal = self.renewal.lock().unwrap().clone();
        match renewal {
            Some(renewal) => renewal,
            None => self.pass(key, self.inner.renew(key, token, life)).await?,
        }
    }
    async fn hold(&self, key: &[u8], token: LeaseToken, life: Duration) -> Result<(), TierError> {
        self.pass(key, self.inner.hold(key, token, life)).await?
    }
    async fn renew_hold(
        &self,
        key: &[u8],
        token: LeaseToken,
        life: Duration,
    ) -> Result<bool, TierError> {
        self.pass(key, self.inner.renew_hold(key, token, life)).await?
    }
    async fn end_hold(
        &self,
        key: &[u8],
        token: LeaseToken,
        lease: Option<(LeaseToken, Duration)>,
    ) -> Result<HoldEnd, TierError> {
        self.pass(key, self.inner.end_hold(key, token, lease)).await?
    }
    async fn set(&self, key: &[u8], bytes: Bytes, life: Duration) -> Result<Fill, TierError> {
        self.pass(key, self.inner.set(key, bytes, life)).await?
    }
    async fn delete(&self, key: &[u8]) -> Result<(), TierError> {
        self.pass(key, self.inner.delete(key)).await?
    }
    fn distrust(&self) {
        self.distrusted.fetch_add(1, Ordering::SeqCst);
    }
    fn abilities(&self) -> Abilities {
        let mut abilities = self.inner.abilities();
        abilities.clears = !self.unclearable;
        abilities
    }
    async fn clear(&self, prefix: &[u8], progress: Progress<'_>) -> Result<(), TierError> {
        if self.unclearable {
            return Err(TierError::Unsupported("switched off".into()));
        }
        self.pass(prefix, self.inner.clear(prefix, progress)).await?
    }
    async fn ping(&self) -> Result<(), TierError> {
        self.pass(b"", self.inner.ping()).await?
    }
}
