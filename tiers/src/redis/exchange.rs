//! One request and its answer on the connections to one server, and what the outcome says of them.

use std::{sync::Arc, time::Duration};

use ::redis::{Value, cmd};
use tokio::time::Instant;

use super::{
    budget::Budget,
    connection::{Connection, Failure, Request},
    pool::Pool,
    reply,
};
use crate::{Incarnation, TierError};

/// Younger connections to a read-only server are kept: redialling at every write helps nobody.
const READ_ONLY_GRACE: Duration = Duration::from_secs(1);

/// What a server has answered, and in which run.
#[derive(Clone, Debug)]
pub(super) struct Answer {
    pub(super) value: Value,
    /// The run that the very connection led to over which it came; `None` if that does not know.
    pub(super) run: Option<Incarnation>,
}

impl Answer {
    /// The answer, unless it is the server's refusal.
    pub(super) fn accepted(self) -> Result<Self, TierError> {
        Ok(Self { value: reply::accepted(self.value)?, run: self.run })
    }

    /// The number that it is.
    pub(super) fn integer(self) -> Result<i64, TierError> {
        reply::integer(self.value)
    }
}

/// Whether a request is sent again when its connection broke under it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Repeat {
    /// Once: a late first copy does no harm.
    Once,
    /// Never.
    Never,
}

impl Pool {
    /// Sends a request on some connection, and once more if that is allowed and it broke.
    pub(super) async fn ask(
        &self,
        request: &Request,
        repeat: Repeat,
        budget: &mut Budget,
    ) -> Result<Answer, TierError> {
        let connection = self.connection(budget).await?;
        match self.ask_on(&connection, request, budget).await {
            Err(Failure::Broken(_)) if repeat == Repeat::Once => {
                let connection = self.connection(budget).await?;
                settled(self.ask_on(&connection, request, budget).await)
            }
            answer => settled(answer),
        }
    }

    /// The run of the server behind the connection that a request would take. It is known without a round trip
    /// but once a second.
    pub(super) async fn run(&self, budget: &mut Budget) -> Result<Option<Incarnation>, TierError> {
        let connection = self.connection(budget).await?;
        if !connection.is_due() {
            return Ok(connection.run());
        }
        let ping = Request::Single(cmd("PING"));
        match self.ask_on(&connection, &ping, budget).await {
            Err(Failure::Broken(_)) => Ok(self.ask(&ping, Repeat::Never, budget).await?.run),
            answer => Ok(settled(answer)?.run),
        }
    }

    /// Sends a request on this connection, and notes what that says of it.
    pub(super) async fn ask_on(
        &self,
        connection: &Arc<Connection>,
        request: &Request,
        budget: &mut Budget,
    ) -> Result<Answer, Failure> {
        let start = Instant::now();
        let answer = connection.ask(request, budget.for_answer()).await;
        budget.answered(start);
        match &answer {
            Ok(value) => {
                // A primary that was demoted: the name may lead to the new one by now.
                if is_read_only(value) && connection.age() > READ_ONLY_GRACE {
                    self.discard(connection);
                }
            }
            Err(Failure::Broken(_)) => self.discard(connection),
            Err(Failure::Late) => {}
        }
        answer.map(|value| Answer { value, run: connection.run() })
    }
}

/// The failure of a request as the caller is told of it.
pub(super) fn settled<R>(answer: Result<R, Failure>) -> Result<R, TierError> {
    answer.map_err(|failure| match failure {
        Failure::Late => TierError::Timeout,
        Failure::Broken(error) => error,
    })
}

fn is_read_only(value: &Value) -> bool {
    matches!(value, Value::ServerError(error) if error.code() == "READONLY")
}
