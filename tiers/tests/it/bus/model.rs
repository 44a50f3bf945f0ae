//! What publishers know and what a reader may believe: everything that was acknowledged before a poll was sent, when
//! that poll proves its reader's view.

use std::{
    collections::HashSet,
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use tiered_tiers::{
    Bus, LeaseToken, LogName, TierError,
    protocol::{Ask, Follower, Void},
};

use super::reader::LOG;

/// Every message, and when its append began and was acknowledged, by a clock that only counts.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    clock: AtomicU64,
    messages: Mutex<Vec<Message>>,
}

#[derive(Clone, Copy, Debug)]
struct Message {
    begun: u64,
    acknowledged: Option<u64>,
}

impl Ledger {
    fn now(&self) -> u64 {
        self.clock.fetch_add(1, Ordering::SeqCst)
    }

    /// Appends so many new messages in one piece, and notes what is known of them.
    pub(super) async fn publish(&self, bus: &dyn Bus, count: usize) -> bool {
        self.publish_to(bus, LOG, count).await.is_ok()
    }

    pub(super) async fn publish_to(
        &self,
        bus: &dyn Bus,
        log: LogName<'_>,
        count: usize,
    ) -> Result<(), TierError> {
        let begun = Message { begun: self.now(), acknowledged: None };
        let first = {
            let mut messages = self.messages.lock().unwrap();
            let first = messages.len();
            messages.resize(first + count, begun);
            first
        };
        let words = (first..first + count).map(|number| Bytes::from(number.to_string()));
        bus.append(log, &words.collect::<Vec<_>>()).await?;
        let now = Some(self.now());
        for message in &mut self.messages.lock().unwrap()[first..first + count] {
            message.acknowledged = now;
        }
        Ok(())
    }

    pub(super) fn len(&self) -> usize {
        self.messages.lock().unwrap().len()
    }
}

/// A reader whose every step is held against the ledger.
#[derive(Debug, Default)]
pub(super) struct Audit {
    follower: Follower<LeaseToken>,
    /// When the answer came that opened the log.
    opened: u64,
    told: HashSet<usize>,
    pub(super) proven: u64,
    pub(super) voids: u64,
    pub(super) errors: u64,
    /// Messages that a proof was checked for.
    pub(super) checked: u64,
    /// All before it are checked since the log was opened.
    from: usize,
}

impl Audit {
    /// Asks once, and checks what the answer claims; says whether it proves the reader's view.
    pub(super) async fn step(&mut self, ledger: &Ledger, bus: &dyn Bus, wait: Duration) -> bool {
        let sent = ledger.now();
        let polled = match self.follower.ask() {
            Ask::Open => bus.open(LOG).await,
            Ask::After(at) => bus.poll(LOG, at, wait).await,
        };
        let Ok(polled) = polled else {
            self.errors += 1;
            return false;
        };
        let answered = ledger.now();
        let step = self.follower.answered(sent, polled);
        if let Some(void) = step.void {
            self.voids += 1;
            self.told.clear();
            self.from = 0;
            if void == Void::Opened {
                self.opened = answered;
            }
        }
        for message in step.messages {
            let number: usize = std::str::from_utf8(&message).unwrap().parse().unwrap();
            assert!(number < ledger.len(), "nobody has said {number}");
            self.told.insert(number);
        }
        let Some(sent) = step.proven else { return false };
        self.proven += 1;
        self.check(ledger, sent);
        true
    }

    /// What was acknowledged before the poll was sent was told, or may have been there when the log was opened.
    fn check(&mut self, ledger: &Ledger, sent: u64) {
        let messages = ledger.messages.lock().unwrap();
        let mut all_known = true;
        for (number, message) in messages.iter().enumerate().skip(self.from) {
            let is_known = message.begun <= self.opened || self.told.contains(&number);
            if message.acknowledged.is_some_and(|acknowledged| acknowledged < sent) {
                assert!(
                    is_known,
                    "{number} was acknowledged and not told, and the view is called proven: \
                     {message:?}, opened at {}, sent at {sent}",
                    self.opened
                );
                self.checked += u64::from(self.told.contains(&number));
            }
            all_known &= is_known;
            if all_known {
                self.from = number + 1;
            }
        }
    }
}
