//! One question about a log and its answer, wherever the log is.

use std::{sync::Arc, time::Duration};

use ::redis::{Cmd, Pipeline, Value, cmd};

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
};
use crate::{TierError, protocol::Position};

/// So many times a question is sent, at most: another node has the log, or a line that was idle is dead.
const TRIES: usize = 4;

/// The servers of one runtime, and the lines to them.
#[derive(Debug)]
pub(super) struct Reach {
    /// Who has which log; and the connections for what does not wait.
    pub(super) servers: Servers,
    pub(super) lines: Lines,
}

/// A script about a log, and what the server is to wait for before it runs it.
#[derive(Debug)]
pub(super) struct Question<'a> {
    pub(super) script: &'a Script,
    pub(super) keys: [&'a [u8]; 2],
    pub(super) arguments: &'a [&'a [u8]],
    /// A message after this place, for so long.
    pub(super) wait: Option<(Position, Duration)>,
}

impl Reach {
    pub(super) fn new(options: &Arc<Options>) -> Self {
        Self { servers: Servers::new(options), lines: Lines::new(options) }
    }

    /// Asks on a line of its own; the line comes with the answer, to be given back if that is what it should be.
    pub(super) async fn ask(
        &self,
        question: &Question<'_>,
        spare: Duration,
        budget: &mut Budget,
    ) -> Result<(Value, Line), TierError> {
        let [key, _] = question.keys;
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
            match line.put(question, spare, budget).await {
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
    /// Puts a question, the script by its digest if the server knows it. Of the time that is left, `spare` is not for
    /// waiting.
    async fn put(
        &self,
        question: &Question<'_>,
        spare: Duration,
        budget: &mut Budget,
    ) -> Result<Value, Failure> {
        let by_digest = question.script.by_digest(&question.keys, question.arguments);
        let patience = budget.for_answer().saturating_sub(spare);
        let request = match question.wait {
            Some((after, wait)) if !wait.min(patience).is_zero() => {
                let mut both = Pipeline::with_capacity(2);
                let [stream, _] = question.keys;
                both.add_command(wake_up(stream, after, wait.min(patience)));
                both.add_command(by_digest);
                Request::Several(both)
            }
            _ => Request::Single(by_digest),
        };
        let answer = match self.ask(&request, budget).await? {
            Value::Array(answers) if matches!(request, Request::Several(_)) => {
                let [woken, answer] = answers.try_into().map_err(|_| strange("two answers"))?;
                // What it brought is not looked at, but a refusal is one.
                if let Value::ServerError(_) = woken { woken } else { answer }
            }
            answer => answer,
        };
        match &answer {
            Value::ServerError(error) if error.code() == "NOSCRIPT" => {
                let by_source = question.script.by_source(&question.keys, question.arguments);
                self.ask(&Request::Single(by_source), budget).await
            }
            _ => Ok(answer),
        }
    }
}

/// Has the server wait for a message after a place, and tell one.
fn wake_up(stream: &[u8], after: Position, wait: Duration) -> Cmd {
    // Nought would be for ever.
    let millis = u64::try_from(wait.as_millis()).unwrap_or(1).max(1);
    let mut read = cmd("XREAD");
    read.arg("COUNT").arg(1).arg("BLOCK").arg(millis);
    read.arg("STREAMS").arg(stream).arg(id(after));
    read
}

/// A place as streams have them.
pub(super) fn id(Position(millis, number): Position) -> String {
    format!("{millis}-{number}")
}

fn strange(what: &str) -> Failure {
    Failure::Broken(reply::unexpected(what))
}
