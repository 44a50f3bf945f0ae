//! Opening the database: waiting for it, making the table, and the pool.

use std::time::Duration;

use sqlx::{ConnectOptions, Connection, postgres::PgPoolOptions, sqlite::SqlitePoolOptions};
use tokio::time::{Instant, sleep};

use crate::{
    config::Database,
    schema,
    store::{CONNECT_WITHIN, READ_WITHIN, Store, StoreError, bounded},
};

/// How long a start waits for a database that does not answer.
const START_WITHIN: Duration = Duration::from_secs(10);
/// Connections of the pool.
const CONNECTIONS: u32 = 8;

impl Store {
    /// Opens the database and makes the table if it is not there. Waits up to ten seconds for a
    /// server that cannot be reached: services and their databases are often started together.
    ///
    /// # Errors
    /// [`StoreError`] when it refuses, or cannot be reached in time.
    pub async fn open(database: Database) -> Result<Self, StoreError> {
        let deadline = Instant::now() + START_WITHIN;
        let mut told = false;
        loop {
            let error = match bounded(READ_WITHIN, prepare(&database)).await {
                Ok(()) => break,
                Err(error) => error,
            };
            if Instant::now() > deadline || !error.may_pass() {
                return Err(error);
            }
            if !std::mem::replace(&mut told, true) {
                tracing::warn!(%error, "waiting up to ten seconds for the database");
            }
            sleep(Duration::from_millis(250)).await;
        }
        Ok(match database {
            Database::Sqlite(options) => Self::Sqlite(
                SqlitePoolOptions::new()
                    .max_connections(CONNECTIONS)
                    .acquire_timeout(CONNECT_WITHIN)
                    .connect_lazy_with(*options),
            ),
            Database::Postgres(options) => Self::Postgres(
                PgPoolOptions::new()
                    .max_connections(CONNECTIONS)
                    .acquire_timeout(CONNECT_WITHIN)
                    .connect_lazy_with(*options),
            ),
        })
    }
}

impl StoreError {
    /// Whether waiting may help, while the service starts: not against a wrong password or a
    /// database that does not exist.
    fn may_pass(&self) -> bool {
        match self {
            Self::Late(_) | Self::Failed(sqlx::Error::Io(_)) => true,
            // "The database system is starting up", "too many clients", SQLite's "busy", "locked".
            Self::Failed(sqlx::Error::Database(error)) => {
                matches!(
                    error.code().as_deref(),
                    Some("57P03" | "53300" | "5" | "6" | "261" | "517")
                )
            }
            Self::Failed(_) => false,
        }
    }
}

/// Makes the table, over a connection of its own, whose errors say more than a pool's.
async fn prepare(database: &Database) -> Result<(), sqlx::Error> {
    match database {
        Database::Sqlite(options) => {
            let mut connection = options.connect().await?;
            schema::sqlite(&mut connection).await?;
            connection.close().await
        }
        Database::Postgres(options) => {
            let mut connection = options.connect().await?;
            schema::postgres(&mut connection).await?;
            connection.close().await
        }
    }
}
