//! One request and its answer on the connections to one server, and what the outcome says of them.

use std::{sync::Arc, time::Duration};

use ::redis::Value;
use tokio::time::Instant;

use super::{
    budget::Budget,
    connection::{Connection, Failure, Request},
    pool::Pool,
};
use crate::TierError;

/// Younger connections to a read-only server are kept: redialling at every write helps nobody.
const READ_ONLY_GRACE: Duration = Duration::from_secs(1);

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
    ) -> Result<Value, TierError> {
        let connection = self.connection(budget).await?;
        match self.ask_on(&connection, request, budget).await {
            Err(Failure::Broken(_)) if repeat == Repeat::Once => {
                let connection = self.connection(budget).await?;
                settled(self.ask_on(&connection, request, budget).await)
            }
            answer => settled(answer),
        }
    }

    /// Sends a request on this connection, and notes what that says of it.
    pub(super) async fn ask_on(
        &self,
        connection: &Arc<Connection>,
        request: &Request,
        budget: &mut Budget,
    ) -> Result<Value, Failure> {
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
        answer
    }
}

/// The failure of a request as the caller is told of it.
pub(super) fn settled(answer: Result<Value, Failure>) -> Result<Value, TierError> {
    answer.map_err(|failure| match failure {
        Failure::Late => TierError::Timeout,
        Failure::Broken(error) => error,
    })
}

fn is_read_only(value: &Value) -> bool {
    matches!(value, Value::ServerError(error) if error.code() == "READONLY")
}
