//! One question about a log and its answer, wherever the log is.

use std::{sync::Arc, time::Duration};

use ::redis::Value;

use super::{
    super::{
        budget::Budget,
        connection::{Failure, Request},
        endpoint::Address,
        exchange::settled,
        options::Options,
        reply,
        script::Script,
        servers::Servers,
    },
    line::{Line, Lines},
    look::Look,
    piece::Piece,
    script::LOOK,
};
use crate::TierError;

/// So many times a question is sent, at most: another node has the log, or a line that was idle is dead.
const TRIES: usize = 4;

/// The servers of one runtime, and the lines to them.
#[derive(Debug)]
pub(super) struct Reach {
    /// Who has which log; and the connections for what does not wait.
    pub(super) servers: Servers,
    pub(super) lines: Lines,
    pub(super) piece: Piece,
}

/// What is asked about a log.
#[derive(Debug)]
pub(super) enum Question<'a> {
    /// To run a script, with these arguments.
    Run(&'a Script, &'a [&'a [u8]]),
    /// To look at it, when there is a message to see, or this time is over.
    Look(Look, Duration),
}

impl Reach {
    pub(super) fn new(options: &Arc<Options>) -> Self {
        Self { servers: Servers::new(options), lines: Lines::new(options), piece: Piece::new() }
    }

    /// Asks on a line of its own; the line comes with the answer, to be given back if that is what it should be.
    pub(super) async fn ask(
        &self,
        keys: [&[u8]; 2],
        question: &Question<'_>,
        spare: Duration,
        budget: &mut Budget,
    ) -> Result<(Value, Line), TierError> {
        let [key, _] = keys;
        let mut node = self.node_of(key, budget).await?;
        let mut last = TierError::Timeout;
        for _ in 0..TRIES {
            let idle = self.lines.idle(node.as_ref(), key);
            let was_idle = idle.is_some();
            let line = match idle {
                Some(line) => line,
                None => match self.lines.dialled(node.as_ref(), key, budget).await {
                    Ok(line) => line,
                    Err(error) => {
                        last = error;
                        let Some(next) = self.instead(key, node.as_ref(), budget).await else {
                            break;
                        };
                        node = Some(next);
                        continue;
                    }
                },
            };
            match line.put(keys, question, spare, budget).await {
                Ok(answer) => match self.moved_to(key, &answer, node.as_ref()) {
                    None if line.is_closed() => {
                        return Err(TierError::Unreachable("the server is being replaced".into()));
                    }
                    None => return Ok((answer, line)),
                    Some(moved) => {
                        self.lines.give_back(line);
                        last = TierError::Refused("MOVED".into());
                        node = Some(moved?);
                    }
                },
                Err(failure) => {
                    self.lines.distrust(node.as_ref());
                    let is_broken = matches!(failure, Failure::Broken(_));
                    last = settled::<()>(Err(failure)).err().unwrap_or(TierError::Timeout);
                    if !(is_broken && was_idle) {
                        break;
                    }
                }
            }
        }
        self.distrust_map();
        Err(last)
    }

    /// The node that has a log; none where there is one server.
    async fn node_of(&self, key: &[u8], budget: &mut Budget) -> Result<Option<Address>, TierError> {
        match &self.servers {
            Servers::One(_) => Ok(None),
            Servers::Cluster(cluster) => cluster.node_of(key, budget).await.map(Some),
            Servers::HandedIn(_) => Err(TierError::Unsupported(super::OWN_CONNECTIONS.into())),
        }
    }

    async fn instead(
        &self,
        key: &[u8],
        failed: Option<&Address>,
        budget: &mut Budget,
    ) -> Option<Address> {
        match &self.servers {
            Servers::Cluster(cluster) => cluster.instead(key, failed?, budget).await,
            _ => None,
        }
    }

    fn moved_to(
        &self,
        key: &[u8],
        answer: &Value,
        asked: Option<&Address>,
    ) -> Option<Result<Address, TierError>> {
        match &self.servers {
            Servers::Cluster(cluster) => cluster.moved_to(key, answer, asked?),
            _ => None,
        }
    }

    fn distrust_map(&self) {
        if let Servers::Cluster(cluster) = &self.servers {
            cluster.distrust_map();
        }
    }
}

impl Line {
    /// Puts a question. Of the time that is left, `spare` is not for waiting.
    async fn put(
        &self,
        keys: [&[u8]; 2],
        question: &Question<'_>,
        spare: Duration,
        budget: &mut Budget,
    ) -> Result<Value, Failure> {
        let (look, wait) = match question {
            Question::Run(script, arguments) => {
                return self.execute(script, keys, arguments, budget).await;
            }
            Question::Look(look, wait) => (look, *wait),
        };
        let wait = budget.for_answer().saturating_sub(spare).min(wait);
        let request = Request::Several(look.commands(keys, wait));
        let Value::Array(answers) = self.ask(&request, budget).await? else {
            return Err(Failure::Broken(reply::unexpected("not an array")));
        };
        let outcome = Look::outcome(answers);
        if !has_code(&outcome, "OOM") {
            return Ok(outcome);
        }
        let (place, count) = (look.place(), look.count().to_string());
        let arguments: [&[u8]; 3] = [look.asked.as_bytes(), place.as_bytes(), count.as_bytes()];
        self.execute(&LOOK, keys, &arguments, budget).await
    }

    /// Runs a script, by its digest if the server knows it.
    async fn execute(
        &self,
        script: &Script,
        keys: [&[u8]; 2],
        arguments: &[&[u8]],
        budget: &mut Budget,
    ) -> Result<Value, Failure> {
        let by_digest = Request::Single(script.by_digest(&keys, arguments));
        let answer = self.ask(&by_digest, budget).await?;
        if !has_code(&answer, "NOSCRIPT") {
            return Ok(answer);
        }
        let by_source = Request::Single(script.by_source(&keys, arguments));
        self.ask(&by_source, budget).await
    }
}

/// Whether the server refuses with this code.
fn has_code(answer: &Value, code: &str) -> bool {
    matches!(answer, Value::ServerError(error) if error.code() == code)
}
