//! The database: SQLite or PostgreSQL, behind the same five queries.
//!
//! An enum of two pools. The statements are spelled so that both understand them, so each is
//! written once. Rejected: `sqlx::Any`, through which SQLite's own settings cannot be reached.
//!
//! Nothing here waits without a bound: neither for a connection, nor for an answer on one, which a
//! frozen server would never give.

use std::{
    future::Future,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use sqlx::{PgPool, SqlitePool};
use tokio::time::timeout;

use crate::{list::List, spell::Spell};

/// How long a read may take, waiting for a connection included.
pub const READ_WITHIN: Duration = Duration::from_secs(2);
/// How long a write may take. Longer than any client waits: see [`change`](crate::change).
pub const WRITE_WITHIN: Duration = Duration::from_secs(30);
/// How long to wait for a connection of the pool, dialling included.
pub(crate) const CONNECT_WITHIN: Duration = Duration::from_secs(1);

/// The database. Clones share one pool.
#[derive(Clone, Debug)]
pub enum Store {
    /// A file, in this process.
    Sqlite(SqlitePool),
    /// A server.
    Postgres(PgPool),
}

/// Why the database gave no answer. To clients each of these is "try again".
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// It took too long.
    #[error("the database gave no answer within {0:?}")]
    Late(Duration),
    /// It failed, or could not be reached.
    #[error("the database failed: {0}")]
    Failed(#[from] sqlx::Error),
}

/// The same query for both databases.
macro_rules! on {
    ($store:expr, $pool:ident => $query:expr) => {
        match $store {
            Store::Sqlite($pool) => $query.await,
            Store::Postgres($pool) => $query.await,
        }
    };
}

impl Store {
    /// Its name, for people.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Sqlite(_) => "sqlite",
            Self::Postgres(_) => "postgres",
        }
    }

    /// The spells of a list, by id.
    ///
    /// # Errors
    /// [`StoreError`] when the database gives no answer.
    pub async fn list(&self, list: List) -> Result<Vec<Spell>, StoreError> {
        let query = "SELECT id, name, damage, created_at, updated_at FROM spell \
                     WHERE damage BETWEEN $1 AND $2 ORDER BY id LIMIT $3";
        let List { min_damage, max_damage, limit } = list;
        bounded(READ_WITHIN, async {
            on!(self, pool => {
                sqlx::query_as(query).bind(min_damage).bind(max_damage).bind(limit).fetch_all(pool)
            })
        })
        .await
    }

    /// One spell, or `None` if there is none of this id.
    ///
    /// # Errors
    /// [`StoreError`] when the database gives no answer.
    pub async fn find(&self, id: i64) -> Result<Option<Spell>, StoreError> {
        let query = "SELECT id, name, damage, created_at, updated_at FROM spell WHERE id = $1";
        bounded(READ_WITHIN, async {
            on!(self, pool => sqlx::query_as(query).bind(id).fetch_optional(pool))
        })
        .await
    }

    /// Writes a spell down; it has been committed when this returns.
    ///
    /// # Errors
    /// [`StoreError`] when the database gives no answer. It may have been written all the same.
    pub async fn create(&self, name: &str, damage: i64) -> Result<Spell, StoreError> {
        let query = "INSERT INTO spell (name, damage, created_at, updated_at) \
                     VALUES ($1, $2, $3, $3) \
                     RETURNING id, name, damage, created_at, updated_at";
        bounded(WRITE_WITHIN, async {
            let now = now();
            on!(self, pool => {
                sqlx::query_as(query).bind(name).bind(damage).bind(now).fetch_one(pool)
            })
        })
        .await
    }

    /// Changes a spell's damage; it has been committed when this returns. `None` if there is none
    /// of this id.
    ///
    /// # Errors
    /// [`StoreError`] when the database gives no answer. It may have been changed all the same.
    pub async fn update(&self, id: i64, damage: i64) -> Result<Option<Spell>, StoreError> {
        let query = "UPDATE spell SET damage = $2, updated_at = $3 WHERE id = $1 \
                     RETURNING id, name, damage, created_at, updated_at";
        bounded(WRITE_WITHIN, async {
            let now = now();
            on!(self, pool => {
                sqlx::query_as(query).bind(id).bind(damage).bind(now).fetch_optional(pool)
            })
        })
        .await
    }

    /// Removes a spell; that has been committed when this returns. `false` if there was none.
    ///
    /// # Errors
    /// [`StoreError`] when the database gives no answer. It may be gone all the same.
    pub async fn delete(&self, id: i64) -> Result<bool, StoreError> {
        let query = "DELETE FROM spell WHERE id = $1 RETURNING id";
        let gone: Option<i64> = bounded(WRITE_WITHIN, async {
            on!(self, pool => sqlx::query_scalar(query).bind(id).fetch_optional(pool))
        })
        .await?;
        Ok(gone.is_some())
    }

    /// A round trip.
    ///
    /// # Errors
    /// [`StoreError`] when the database gives no answer.
    pub async fn ping(&self) -> Result<(), StoreError> {
        let one = bounded(READ_WITHIN, async {
            on!(self, pool => sqlx::query_scalar::<_, i32>("SELECT 1").fetch_one(pool))
        });
        one.await.map(drop)
    }

    /// Gives all connections back; those that a frozen server holds are left behind.
    pub async fn close(&self) {
        let closed = async {
            match self {
                Self::Sqlite(pool) => pool.close().await,
                Self::Postgres(pool) => pool.close().await,
            }
        };
        let _ = timeout(CONNECT_WITHIN, closed).await;
    }
}

pub(crate) async fn bounded<T>(
    within: Duration,
    query: impl Future<Output = Result<T, sqlx::Error>>,
) -> Result<T, StoreError> {
    match timeout(within, query).await {
        Ok(answer) => Ok(answer?),
        Err(_) => Err(StoreError::Late(within)),
    }
}

/// Now, in milliseconds since 1970, as the rows have it.
pub(crate) fn now() -> i64 {
    let elapsed = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(elapsed.as_millis()).unwrap_or(i64::MAX)
}
