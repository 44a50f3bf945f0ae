//! [`Database`]: the truth. A version per key, in this process' memory, behind a socket for the workers.
//!
//! It alone writes the ledger. It also is as slow as it is told to: it reads at once and answers late, so that
//! what it says may be overtaken on the way.

use std::{
    io,
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use fastrand::Rng;
use tokio::{
    io::BufReader,
    net::{UnixListener, UnixStream},
    task::JoinHandle,
    time::sleep,
};

use crate::{
    clock,
    epochs::{Disturbances, Epoch, Epochs},
    ledger::{Acked, Head, Ledger},
    wire::{self, Reply, Request},
};

/// How loads fare just now.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Weather {
    /// The share of loads that are slow.
    pub(crate) slow: f64,
    /// How slow they are at most.
    pub(crate) up_to: Duration,
    /// The share of loads that fail.
    pub(crate) failing: f64,
}

impl Weather {
    /// Some are slow even then.
    pub(crate) const FAIR: Self =
        Self { slow: 0.02, up_to: Duration::from_millis(50), failing: 0.0 };
}

/// The database, as long as this handle lives.
#[derive(Debug)]
pub(crate) struct Database {
    state: Arc<Mutex<State>>,
    serving: JoinHandle<()>,
}

/// What a database has seen.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    /// The epochs that have ended.
    pub(crate) epochs: Epochs,
    /// All loads.
    pub(crate) loads: u64,
    /// The longest time for which one was kept waiting.
    pub(crate) longest_load: Duration,
}

#[derive(Debug)]
struct State {
    ledger: Ledger,
    keys: Vec<Row>,
    weather: Weather,
    disturbances: Disturbances,
    epochs: Epochs,
    loads: u64,
    /// The longest time for which a load was kept waiting.
    longest: Duration,
    random: Rng,
    broken: Option<io::Error>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Row {
    head: Head,
    acks: u64,
    epoch: Epoch,
}

impl Database {
    /// Serves at `socket` and writes the ledger at `ledger`. Every key begins with version 1.
    pub(crate) fn serve(socket: &Path, ledger: &Path, keys: u32, seed: u64) -> io::Result<Self> {
        let ledger = Ledger::create(ledger, keys)?;
        let head = Head { committed: 1, acked: 0 };
        (0..keys).try_for_each(|key| ledger.set_head(key, head))?;
        let state = Arc::new(Mutex::new(State {
            ledger,
            keys: vec![Row { head, ..Row::default() }; keys as usize],
            weather: Weather::FAIR,
            disturbances: Disturbances::default(),
            epochs: Epochs::default(),
            loads: 0,
            longest: Duration::ZERO,
            random: Rng::with_seed(seed),
            broken: None,
        }));
        let listener = UnixListener::bind(socket)?;
        let shared = Arc::clone(&state);
        let serving = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(attend(stream, Arc::clone(&shared)));
            }
        });
        Ok(Self { state, serving })
    }

    pub(crate) fn set_weather(&self, weather: Weather) {
        lock(&self.state).weather = weather;
    }

    /// Something breaks now.
    pub(crate) fn fault_begins(&self) {
        let mut state = lock(&self.state);
        state.disturbances.begun += 1;
        state.disturbances.lasting += 1;
    }

    /// It is whole again.
    pub(crate) fn fault_ends(&self) {
        let mut state = lock(&self.state);
        state.disturbances.lasting -= 1;
        state.disturbances.ended = clock::now();
    }

    /// Writes down an acknowledgement for every key. Nothing was invalidated: whoever checks must find that.
    pub(crate) fn forge(&self) {
        let mut state = lock(&self.state);
        for key in (0..).take(state.keys.len()) {
            if let Some(version) = state.answer(Request::Commit { key }) {
                state.answer(Request::Acked { key, version, at: clock::now() });
            }
        }
    }

    /// What it has seen, unless something went wrong with the ledger.
    pub(crate) fn end(self) -> io::Result<Seen> {
        let mut state = lock(&self.state);
        match state.broken.take() {
            Some(error) => Err(error),
            None => Ok(Seen {
                epochs: state.epochs.clone(),
                loads: state.loads,
                longest_load: state.longest,
            }),
        }
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn attend(stream: UnixStream, state: Arc<Mutex<State>>) {
    let mut stream = BufReader::new(stream);
    while let Some(request) = wire::receive(&mut stream).await {
        let (reply, wait) = {
            let mut state = lock(&state);
            let reply = state.answer(request);
            match request {
                Request::Load { .. } => state.under_way(reply),
                _ => (reply, None),
            }
        };
        if let Some(wait) = wait {
            sleep(wait).await;
        }
        if wire::answer(&mut stream, reply).await.is_err() {
            return;
        }
    }
}

impl State {
    fn answer(&mut self, request: Request) -> Reply {
        match self.try_answer(request) {
            Ok(reply) => reply,
            Err(error) => {
                self.broken = Some(error);
                None
            }
        }
    }

    fn try_answer(&mut self, request: Request) -> io::Result<Reply> {
        let (Request::Load { key, .. } | Request::Commit { key } | Request::Acked { key, .. }) =
            request;
        let Some(row) = self.keys.get_mut(key as usize) else { return Ok(None) };
        let now = clock::now();
        match request {
            Request::Load { counted, .. } => {
                self.loads += 1;
                if counted {
                    row.epoch.load();
                }
            }
            Request::Commit { .. } => {
                row.epoch.end(now, self.disturbances, &mut self.epochs);
                row.head.committed += 1;
                self.ledger.set_head(key, row.head)?;
            }
            Request::Acked { version, at, .. } => {
                self.ledger.set_acked(key, row.acks, Acked { version, at })?;
                row.acks += 1;
                row.head.acked = row.head.acked.max(version);
                self.ledger.set_head(key, row.head)?;
                if version == row.head.committed {
                    row.epoch.begin(now, self.disturbances);
                }
            }
        }
        Ok(Some(row.head.committed))
    }

    /// What becomes of a load's answer on its way.
    fn under_way(&mut self, reply: Reply) -> (Reply, Option<Duration>) {
        let Weather { slow, up_to, failing } = self.weather;
        let wait = (self.random.f64() < slow).then(|| up_to.mul_f64(self.random.f64()));
        self.longest = self.longest.max(wait.unwrap_or_default());
        (reply.filter(|_| self.random.f64() >= failing), wait)
    }
}
