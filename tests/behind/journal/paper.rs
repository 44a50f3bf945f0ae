//! A journal in memory, which fails as it is told.

use std::collections::BTreeMap;

use tiered::tiers::{Journal, JournalError, Logged, Record, TierError};

use super::*;

/// What a log does with what it is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Weather {
    Fair,
    /// Nothing takes effect.
    Down,
    /// Everything takes effect, and no answer comes.
    Deaf,
    /// No answer comes, ever.
    Hung,
}

/// A journal in memory. Clones that are opened are owners of their own, as processes are.
#[derive(Debug)]
pub(super) struct Paper {
    pub(super) sheet: Arc<Mutex<Sheet>>,
    pub(super) owner: u64,
}

#[derive(Debug)]
pub(super) struct Sheet {
    pub(super) records: BTreeMap<u64, Record>,
    pub(super) last: u64,
    pub(super) doubtful: Vec<u64>,
    pub(super) owner: u64,
    pub(super) is_held: bool,
    pub(super) bound: usize,
    pub(super) weather: Weather,
    /// Records in each append.
    pub(super) appends: Vec<usize>,
}

impl Paper {
    pub(super) fn new() -> Self {
        let sheet = Sheet {
            records: BTreeMap::new(),
            last: 0,
            doubtful: Vec::new(),
            owner: 0,
            is_held: false,
            bound: 1_000,
            weather: Weather::Fair,
            appends: Vec::new(),
        };
        Self { sheet: Arc::new(Mutex::new(sheet)), owner: 1 }
    }

    /// The same journal, for another process.
    pub(super) fn next(&self) -> Self {
        Self { sheet: Arc::clone(&self.sheet), owner: self.owner + 1 }
    }

    pub(super) fn with<R>(&self, change: impl FnOnce(&mut Sheet) -> R) -> R {
        change(&mut self.sheet.lock().unwrap())
    }

    pub(super) fn len(&self) -> usize {
        self.with(|sheet| sheet.records.len())
    }

    pub(super) fn weather(&self, weather: Weather) {
        self.with(|sheet| sheet.weather = weather);
    }

    /// The owner is dead, and so long that nobody believes in it.
    pub(super) fn bury(&self) {
        self.with(|sheet| sheet.is_held = false);
    }

    async fn ask<R>(
        &self,
        operation: impl FnOnce(&mut Sheet) -> Result<R, JournalError>,
    ) -> Result<R, JournalError> {
        let no_answer = || Err(TierError::Timeout.into());
        match self.with(|sheet| sheet.weather) {
            Weather::Fair => self.with(operation),
            Weather::Down => no_answer(),
            Weather::Deaf => self.with(operation).and_then(|_| no_answer()),
            Weather::Hung => std::future::pending().await,
        }
    }

    async fn own<R>(
        &self,
        operation: impl FnOnce(&mut Sheet) -> Result<R, JournalError>,
    ) -> Result<R, JournalError> {
        let is_owner = |sheet: &mut Sheet| {
            if sheet.owner == self.owner { operation(sheet) } else { Err(JournalError::Taken) }
        };
        self.ask(is_owner).await
    }
}

#[async_trait::async_trait]
impl Journal for Paper {
    fn name(&self) -> &'static str {
        "paper"
    }
    async fn open(&self) -> Result<(), JournalError> {
        let open = |sheet: &mut Sheet| {
            if sheet.is_held && sheet.owner != self.owner {
                return Err(JournalError::Taken);
            }
            (sheet.owner, sheet.is_held) = (self.owner, true);
            Ok(())
        };
        self.ask(open).await
    }
    async fn read(&self, after: u64) -> Result<Vec<Logged>, JournalError> {
        let read = |sheet: &mut Sheet| {
            let page = sheet.records.range(after + 1..).take(3);
            Ok(page
                .map(|(position, record)| Logged { position: *position, record: record.clone() })
                .collect())
        };
        self.ask(read).await
    }
    async fn append(&self, records: &[Record]) -> Result<Vec<u64>, JournalError> {
        let append = |sheet: &mut Sheet| {
            for doubtful in std::mem::take(&mut sheet.doubtful) {
                sheet.records.remove(&doubtful);
            }
            if sheet.records.len() + records.len() > sheet.bound {
                return Err(JournalError::Full);
            }
            sheet.appends.push(records.len());
            let first = sheet.last + 1;
            sheet.last += records.len() as u64;
            let positions: Vec<u64> = (first..=sheet.last).collect();
            sheet.records.extend(positions.iter().copied().zip(records.iter().cloned()));
            if sheet.weather == Weather::Deaf {
                sheet.doubtful.extend(&positions);
            }
            Ok(positions)
        };
        self.own(append).await
    }
    async fn acknowledge(&self, positions: &[u64]) -> Result<(), JournalError> {
        let acknowledge = |sheet: &mut Sheet| {
            positions.iter().for_each(|position| drop(sheet.records.remove(position)));
            Ok(())
        };
        self.own(acknowledge).await
    }
    async fn renew(&self) -> Result<(), JournalError> {
        self.own(|_| Ok(())).await
    }
    async fn close(&self) -> Result<(), JournalError> {
        let close = |sheet: &mut Sheet| {
            sheet.is_held = false;
            Ok(())
        };
        self.own(close).await
    }
    fn lease_for(&self) -> Duration {
        3 * SECOND
    }
}
