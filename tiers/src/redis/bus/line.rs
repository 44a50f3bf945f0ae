//! Connections for one question at a time: a question may wait at the server, and whatever is sent behind it waits
//! with it.
//!
//! So whoever asks takes a line for himself, and gives it back with its answer. A line whose question was given up
//! (deadline, dropped future, failure) is closed: its answer is still to come, and would hold up the next.
//! Rejected: a line for each log, which two readers of one log would have to share.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use ::redis::{Pipeline, Value};
use tokio::time::{Instant, timeout};

use super::{
    super::{
        budget::Budget,
        connection::{Connection, Failure, Request},
        endpoint::{Address, Endpoint},
        options::Options,
        pool,
        script::millis,
    },
    MAX_LOGS,
};
use crate::{Incarnation, TierError};

/// A connection that is one asker's for now, and the run of the server behind it.
#[derive(Debug)]
pub(super) struct Line {
    connection: Connection,
    /// The node of a cluster that it leads to.
    node: Option<Address>,
    /// The log that was asked about last.
    log: Vec<u8>,
    run: Incarnation,
}

/// The lines of one runtime that nobody uses now.
#[derive(Debug)]
pub(super) struct Lines {
    options: Arc<Options>,
    idle: Mutex<Vec<Line>>,
}

impl Lines {
    pub(super) fn new(options: &Arc<Options>) -> Self {
        Self { options: Arc::clone(options), idle: Mutex::default() }
    }

    /// A line that was used before, if there is one that is not known to be closed. The log's own, if it can be: where
    /// a server does not tell its run, another line is another run.
    pub(super) fn idle(&self, node: Option<&Address>, log: &[u8]) -> Option<Line> {
        let mut idle = self.lock();
        idle.retain(|line| !line.is_closed());
        let leads_there = |line: &Line| line.node.as_ref() == node;
        let own = idle.iter().position(|line| leads_there(line) && line.log == log);
        let at = own.or_else(|| idle.iter().position(leads_there))?;
        let mut line = idle.swap_remove(at);
        drop(idle);
        if own.is_none() {
            line.log = log.to_vec();
        }
        Some(line)
    }

    /// A new line.
    pub(super) async fn dialled(
        &self,
        node: Option<&Address>,
        log: &[u8],
        budget: &mut Budget,
    ) -> Result<Line, TierError> {
        let options = match node {
            Some(node) => Arc::new(self.options.moved_to(Endpoint::Tcp(node.clone()))),
            None => Arc::clone(&self.options),
        };
        let (start, patience) = (Instant::now(), budget.for_dial());
        let dialling = timeout(patience, async {
            let connection = pool::dial(options).await?;
            let run = run(&connection);
            Ok(Line { connection, node: node.cloned(), log: log.to_vec(), run })
        });
        let dialled = dialling.await;
        budget.dialled(start);
        dialled.unwrap_or(Err(TierError::Timeout))
    }

    /// Takes a line back whose question is answered.
    pub(super) fn give_back(&self, line: Line) {
        let mut idle = self.lock();
        if idle.len() < MAX_LOGS {
            idle.push(line);
        }
    }

    /// Closes the lines to where one has just failed: they may be as dead, and each would cost a deadline.
    pub(super) fn distrust(&self, node: Option<&Address>) {
        self.lock().retain(|line| line.node.as_ref() != node);
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Line>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Line {
    /// Sends a request and waits for its answer.
    pub(super) async fn ask(
        &self,
        request: &Request,
        budget: &mut Budget,
    ) -> Result<Value, Failure> {
        let start = Instant::now();
        let answer = self.connection.ask(request, budget.for_answer()).await;
        budget.answered(start);
        answer
    }

    /// Lets both keys of a log live for so long; says whether the line is free again.
    pub(super) async fn renew(
        &self,
        keys: [&[u8]; 2],
        life: Duration,
        budget: &mut Budget,
    ) -> bool {
        let mut both = Pipeline::with_capacity(2);
        for key in keys {
            both.cmd("PEXPIRE").arg(key).arg(millis(life));
        }
        self.ask(&Request::Several(both), budget).await.is_ok()
    }

    /// The run of the server that it leads to.
    pub(super) fn run(&self) -> Incarnation {
        self.run
    }

    /// Whether it is closed, or leads to a primary that was replaced.
    pub(super) fn is_closed(&self) -> bool {
        self.connection.is_closed()
    }
}

/// The run of the server behind a connection. Where it does not tell, each connection
/// is taken for another: a restart would else go unnoticed.
fn run(connection: &Connection) -> Incarnation {
    connection.run().unwrap_or_else(|| Incarnation::new(fastrand::u64(..)))
}
