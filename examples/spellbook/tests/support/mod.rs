//! What all tests need: the program as a process, a client, PostgreSQL, and waiting.

mod client;
mod gate;
mod postgres;
mod program;

use std::{path::Path, time::Duration};

use metrics_exporter_prometheus::PrometheusBuilder;
use spellbook::{
    app::App,
    config::{Config, Database},
    store::Store,
};
use sqlx::{ConnectOptions, Executor, SqliteConnection};
use tiered::Tiered;
use tokio::time::{Instant, sleep};

pub(crate) use self::{
    client::{Client, Reply},
    gate::Gate,
    postgres::Postgres,
    program::{Program, refused},
};

/// How long tests wait for what must happen.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// The most a read may take whose cache server is broken: the budget, and wide room for a busy
/// machine.
pub(crate) const BOUND: Duration = Duration::from_millis(250 + 2_000);

/// Asks again and again until the answer is `Some`.
pub(crate) async fn until<T>(what: &str, ask: impl AsyncFnMut() -> Option<T>) -> T {
    within(PATIENCE, what, ask).await
}

/// As [`until`], in less time.
pub(crate) async fn within<T>(
    patience: Duration,
    what: &str,
    mut ask: impl AsyncFnMut() -> Option<T>,
) -> T {
    let deadline = Instant::now() + patience;
    loop {
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(Instant::now() < deadline, "did not happen within {patience:?}: {what}");
        // A real wait: processes know no clock of ours.
        sleep(Duration::from_millis(10)).await;
    }
}

/// Opens a database file as the program does.
pub(crate) async fn sqlite(directory: &Path) -> Store {
    let url = format!("sqlite:{}", directory.join("spellbook.db").display());
    Store::open(database(&url)).await.unwrap()
}

/// What `DATABASE_URL` means.
pub(crate) fn database(url: &str) -> Database {
    let lookup = |name: &str| Ok((name == "DATABASE_URL").then(|| url.to_owned()));
    Config::from_lookup(lookup).unwrap().database
}

/// The service in this process, over a cache of the test's.
pub(crate) fn app(cache: Tiered, store: Store) -> App {
    App::new(cache, store, PrometheusBuilder::new().build_recorder().handle())
}

/// A connection that holds SQLite's write lock until it is dropped.
pub(crate) async fn locked(directory: &Path) -> SqliteConnection {
    let url = format!("sqlite:{}", directory.join("spellbook.db").display());
    let Database::Sqlite(options) = database(&url) else { unreachable!() };
    let mut connection = options.connect().await.unwrap();
    connection.execute("BEGIN IMMEDIATE").await.unwrap();
    connection
}
