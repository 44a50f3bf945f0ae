//! Which run of its server a connection leads to.
//!
//! Two names make a run. The *run id* is the process's own: another one after each start. The *replication id* is
//! the history's that its data is of: a replica has its primary's, and takes a new one when it is promoted. A
//! run id alone would not do: a primary that is demoted takes over its successor's data, and when it is promoted again
//! without a restart it has its old run id. Nor would a replication id: after a start it may be the one of before.
//!
//! Both are read in the dial's own round trip, so before anything is read. A process keeps its run id, but its
//! role may change while connections to it stay open (a cluster breaks none). So one request a second on each connection
//! takes the question for the replication id along, in front of its own, and what the connection knows is never older than
//! that. Rejected: to ask with each request, which costs the server more than a `GET` does; and to know the
//! run by pool, whose other connections may lead to the run before.
//!
//! A server changes its replication id also when its first replica comes, and when its last has been gone for
//! `repl-backlog-ttl` (an hour). That is another run for nothing: everything is a miss once, and nothing is believed
//! that should not be.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use ::redis::{Cmd, Pipeline, Value, cmd};
use xxhash_rust::xxh3::xxh3_64;

use super::{connection::Request, handed_in::info, reply};
use crate::{Incarnation, TierError};

/// How old what a connection knows may be.
const LOOK: Duration = Duration::from_secs(1);

/// The run of the server behind a connection, as far as that knows.
#[derive(Debug, Default)]
pub(super) struct Run {
    /// The process; `None` from a server that does not say, which is then not asked again.
    process: Option<String>,
    /// The number of the run; 0 when it is not known.
    number: AtomicU64,
    /// When it was asked last, in milliseconds of the connection's life.
    looked: AtomicU64,
}

impl Run {
    /// Adds the questions for a run to a greeting; there are two.
    pub(super) fn ask(greeting: &mut Pipeline) {
        // Two commands: before 7.0 a server takes one section at a time.
        greeting.add_command(question("server")).add_command(question("replication"));
    }

    /// The run that the answers tell of. A user who may not ask, and a server without such names, is no failure.
    pub(super) fn told(server: &Value, replication: &Value) -> Self {
        let process = info(server, "run_id").filter(|id| !id.is_empty()).map(str::to_owned);
        let run = Self { process, ..Self::default() };
        match run.number(replication) {
            0 => Self::default(),
            number => Self { number: AtomicU64::new(number), ..run },
        }
    }

    /// The run, if it is known.
    pub(super) fn known(&self) -> Option<Incarnation> {
        match self.number.load(Ordering::Relaxed) {
            0 => None,
            number => Some(Incarnation::new(number)),
        }
    }

    /// Whether what is known is too old, on a connection of this `age`.
    pub(super) fn is_due(&self, age: Duration) -> bool {
        let due = self.looked.load(Ordering::Relaxed).saturating_add(millis(LOOK));
        self.process.is_some() && millis(age) >= due
    }

    /// Whether the next request is the one that asks again.
    pub(super) fn takes_a_look(&self, age: Duration) -> bool {
        let last = self.looked.load(Ordering::Relaxed);
        self.is_due(age)
            && self
                .looked
                .compare_exchange(last, millis(age), Ordering::Relaxed, Ordering::Relaxed)
                .is_ok()
    }

    /// The look had no answer: the next request takes one.
    pub(super) fn was_not_told(&self) {
        self.looked.store(0, Ordering::Relaxed);
    }

    /// Takes the answer to the question out of those to a [`looking`] request.
    pub(super) fn hear(&self, request: &Request, answer: Value) -> Result<Value, TierError> {
        let Value::Array(answers) = answer else { return Err(reply::unexpected("not an array")) };
        let mut answers = answers.into_iter();
        let replication = answers.next().ok_or_else(|| reply::unexpected("array length"))?;
        self.number.store(self.number(&replication), Ordering::Relaxed);
        match request {
            Request::Single(_) => answers.next().ok_or_else(|| reply::unexpected("array length")),
            Request::Several(_) => Ok(Value::Array(answers.collect())),
        }
    }

    fn number(&self, replication: &Value) -> u64 {
        let history = info(replication, "master_replid").filter(|id| !id.is_empty());
        let (Some(process), Some(history)) = (&self.process, history) else { return 0 };
        Incarnation::new(xxh3_64(format!("{process} {history}").as_bytes())).get()
    }
}

/// The request with the question for the run in front.
pub(super) fn looking(request: &Request) -> Request {
    let mut commands = Pipeline::new();
    commands.add_command(question("replication"));
    match request {
        Request::Single(command) => {
            commands.add_command(command.clone());
        }
        Request::Several(several) => {
            several.cmd_iter().for_each(|command| {
                commands.add_command(command.clone());
            });
        }
    }
    Request::Several(commands)
}

fn question(section: &str) -> Cmd {
    let mut question = cmd("INFO");
    question.arg(section);
    question
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn says(text: &str) -> Value {
        Value::BulkString(text.as_bytes().to_vec())
    }

    fn run(server: &str, replication: &str) -> Option<Incarnation> {
        Run::told(&says(server), &says(replication)).known()
    }

    #[test]
    fn a_run_is_a_process_and_a_history() {
        let first = run("# Server\r\nrun_id:aa\r\n", "role:master\r\nmaster_replid:11\r\n");
        assert!(first.is_some());
        assert_eq!(first, run("run_id:aa\r\nx:1\r\n", "master_replid:11\r\nmaster_replid2:00\r\n"));
        assert_ne!(first, run("run_id:bb\r\n", "master_replid:11\r\n"), "it was started again");
        assert_ne!(first, run("run_id:aa\r\n", "master_replid:22\r\n"), "it was promoted again");
        for (server, replication) in [
            ("", "master_replid:11"),
            ("run_id:aa", ""),
            ("run_id:", "master_replid:11"),
            ("run_id:aa", "master_replid2:11"),
        ] {
            let untold = Run::told(&says(server), &says(replication));
            assert_eq!(untold.known(), None, "{server} {replication}");
            assert!(!untold.is_due(Duration::MAX), "it is not asked again");
        }
        assert!(Run::told(&Value::Nil, &says("master_replid:11")).known().is_none());
    }

    #[test]
    fn one_request_a_second_asks_again() {
        let run = Run::told(&says("run_id:aa"), &says("master_replid:11"));
        let (first, get) = (run.known(), Request::Single(cmd("GET")));
        assert!(!run.takes_a_look(LOOK / 2));
        assert!(run.takes_a_look(LOOK) && !run.takes_a_look(LOOK));
        run.was_not_told();
        assert!(run.takes_a_look(LOOK + LOOK / 2), "the answer was lost");
        let answer = Value::Array(vec![says("master_replid:22"), Value::Int(7)]);
        assert_eq!(run.hear(&get, answer), Ok(Value::Int(7)));
        assert!(run.known().is_some() && run.known() != first);
        assert!(run.hear(&get, Value::Array(vec![])).is_err());
        assert!(run.hear(&get, Value::Array(vec![Value::Nil])).is_err());
    }
}
