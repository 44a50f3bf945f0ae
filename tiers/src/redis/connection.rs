//! One connection: dialled here, asked by many at once, and judged when it falls silent.
//!
//! It is dialled by hand and not by redis-rs, for what only the owner of the driver task can know:
//! that task ends with the connection, so one that is known dead is replaced *before* a command
//! goes into it. Almost no command is then lost when a server restarts, and those that must not be
//! repeated (`fill`, `lease`) need not be.
//!
//! redis-rs matches replies to requests by order and lets the reply of a dropped request go by, so
//! a dropped future disturbs nobody.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use ::redis::{
    AsyncConnectionConfig, Cmd, Pipeline, RedisConnectionInfo, Value, aio::MultiplexedConnection,
};
use tokio::{
    task::JoinHandle,
    time::{Instant, timeout},
};

use super::{
    endpoint::{self, Endpoint},
    options::Options,
    reply,
    run::{Run, looking},
    sentinel::Watch,
};
use crate::{Incarnation, TierError};

/// Requests that may wait for the connection's task before senders wait themselves.
const BUFFER: usize = 512;
/// So long without any answer, with a request unanswered, and a connection is given up.
const SILENCE: Duration = Duration::from_secs(1);

/// What is sent in one piece.
#[derive(Clone, Debug)]
pub(super) enum Request {
    /// One command.
    Single(Cmd),
    /// Several commands; their replies come as one array.
    Several(Pipeline),
}

/// Why a request on this connection has no answer.
#[derive(Debug)]
pub(super) enum Failure {
    /// None came in time. The request may still be executed.
    Late,
    /// The connection is of no more use. The request may have been executed.
    Broken(TierError),
}

/// A connection and the task that drives it.
#[derive(Debug)]
pub(super) struct Connection {
    requests: MultiplexedConnection,
    driver: JoinHandle<()>,
    /// Who tells when it leads to the wrong server, if anybody does.
    watch: Option<Watch>,
    run: Run,
    born: Instant,
    /// Since when a request has been waiting with no answer to any: milliseconds after `born`, and
    /// one more, so that 0 can say "there is none".
    waiting_since: AtomicU64,
}

impl Connection {
    /// Dials, through the sentinels if there are any; authenticates, selects the database and waits for the
    /// server to say that it serves.
    pub(super) async fn dial(options: &Options) -> Result<Self, TierError> {
        match &options.endpoint {
            Endpoint::Sentinels(sentinels) => sentinels.dial(options).await,
            _ => Self::direct(options).await,
        }
    }

    /// Dials the server that is named itself.
    pub(super) async fn direct(options: &Options) -> Result<Self, TierError> {
        let stream = endpoint::open(options).await?;
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(None)
            .set_response_timeout(None)
            .set_pipeline_buffer_size(BUFFER);
        // No credentials for redis-rs: its greeting hides the server's error codes.
        let nothing = RedisConnectionInfo::default().set_skip_set_lib_name();
        let (requests, driver) = MultiplexedConnection::new_with_config(&nothing, stream, config)
            .await
            .map_err(|error| reply::broken(&error))?;
        let mut connection = Self {
            requests,
            driver: tokio::spawn(driver),
            watch: None,
            run: Run::default(),
            born: Instant::now(),
            waiting_since: AtomicU64::new(0),
        };
        connection.run = connection.greet(options).await?;
        Ok(connection)
    }

    /// The first words on a new connection; which run of the server it leads to is the answer.
    async fn greet(&self, options: &Options) -> Result<Run, TierError> {
        let mut greeting = Pipeline::new();
        let mut said = Vec::new();
        if let Some(password) = &options.password {
            said.push("AUTH");
            greeting.cmd("AUTH");
            if let Some(username) = &options.username {
                greeting.arg(username.expose());
            }
            greeting.arg(password.expose());
        }
        if options.database != 0 {
            said.push("SELECT");
            greeting.cmd("SELECT").arg(options.database);
        }
        said.push("PING");
        greeting.cmd("PING");
        Run::ask(&mut greeting);
        let count = greeting.len();
        let answers = self.requests.clone().send_packed_commands(&greeting, 0, count).await;
        let mut answers = answers.map_err(|error| reply::broken(&error))?.into_iter();
        for (command, answer) in said.into_iter().zip(&mut answers) {
            reply::accepted(answer).map_err(|error| match error {
                TierError::Refused(code) => TierError::Refused(format!("{code} to {command}")),
                error => error,
            })?;
        }
        let mut told = || answers.next().unwrap_or(Value::Nil);
        Ok(Run::told(&told(), &told()))
    }

    /// Asks, and waits for the answer at most `patience`. Cancel-safe: a request whose future is
    /// dropped may or may not be executed, and its reply is thrown away.
    pub(super) async fn ask(
        &self,
        request: &Request,
        patience: Duration,
    ) -> Result<Value, Failure> {
        let looks = self.run.takes_a_look(self.age());
        let waiting = Waiting { connection: self, since: Instant::now(), looks };
        let mut requests = self.requests.clone();
        let with_look = looks.then(|| looking(request));
        let answer = timeout(patience, async {
            match with_look.as_ref().unwrap_or(request) {
                Request::Single(command) => requests.send_packed_command(command).await,
                Request::Several(commands) => requests
                    .send_packed_commands(commands, 0, commands.len())
                    .await
                    .map(Value::Array),
            }
        });
        match answer.await {
            Ok(Ok(value)) => {
                waiting.answered();
                if looks {
                    self.run.hear(request, value).map_err(Failure::Broken)
                } else {
                    Ok(value)
                }
            }
            Ok(Err(error)) => Err(Failure::Broken(reply::broken(&error))),
            Err(_) => Err(Failure::Late),
        }
    }

    /// The same, until the watch is over.
    pub(super) fn watched(self, watch: Watch) -> Self {
        let mut connection = self;
        connection.watch = Some(watch);
        connection
    }

    /// Whether the connection's task has ended, for the peer closed it or its runtime is gone; or it leads
    /// to the wrong server by now.
    pub(super) fn is_closed(&self) -> bool {
        self.driver.is_finished() || self.watch.as_ref().is_some_and(Watch::is_over)
    }

    /// Whether requests have been going unanswered for longer than a living server may take.
    pub(super) fn is_silent(&self) -> bool {
        match self.waiting_since.load(Ordering::Relaxed) {
            0 => false,
            since => self.born + Duration::from_millis(since) + SILENCE < Instant::now(),
        }
    }

    /// The run of the server it leads to, as known for a second at most; `None` if the server does not say.
    pub(super) fn run(&self) -> Option<Incarnation> {
        self.run.known()
    }

    /// Whether the next request asks for the run anew.
    pub(super) fn is_due(&self) -> bool {
        self.run.is_due(self.age())
    }

    /// For how long it has been open.
    pub(super) fn age(&self) -> Duration {
        self.born.elapsed()
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

/// A request on its way. Dropped without an answer, whether by its deadline or with the caller's
/// future, it is held against the connection until some other request is answered.
struct Waiting<'a> {
    connection: &'a Connection,
    since: Instant,
    /// Whether it asks for the run, too.
    looks: bool,
}

impl Waiting<'_> {
    fn answered(self) {
        let since = &self.connection.waiting_since;
        if since.load(Ordering::Relaxed) != 0 {
            since.store(0, Ordering::Relaxed);
        }
        std::mem::forget(self);
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        if self.looks {
            self.connection.run.was_not_told();
        }
        let millis = self.since.saturating_duration_since(self.connection.born).as_millis();
        let since = u64::try_from(millis).unwrap_or(u64::MAX - 1) + 1;
        // Only the first counts; a later one must not put the judgement off.
        let _ = self.connection.waiting_since.compare_exchange(
            0,
            since,
            Ordering::Relaxed,
            Ordering::Relaxed,
        );
    }
}
