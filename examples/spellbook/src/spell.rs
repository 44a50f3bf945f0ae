//! A spell: the row, the JSON, and the cached entity are one struct.
//!
//! A service with richer answers would keep a type for each. Here one is enough, and it shows how
//! little a cached type needs: serde, a key and a prefix.

use serde::{Deserialize, Serialize};
use tiered::{CacheEntity, DataRepository};

use crate::store::{Store, StoreError};

/// A row of the table `spell`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, sqlx::FromRow)]
pub struct Spell {
    /// Given by the database, from 1, never twice.
    pub id: i64,
    /// What it is called.
    pub name: String,
    /// How much it hurts.
    pub damage: i64,
    /// When it was written down, in milliseconds since 1970.
    pub created_at: i64,
    /// When it was last changed, in milliseconds since 1970.
    pub updated_at: i64,
}

impl CacheEntity for Spell {
    type Key = i64;

    fn cache_key(&self) -> i64 {
        self.id
    }

    fn cache_prefix() -> &'static str {
        "spell"
    }
}

/// What the cache asks when it has no answer. `None` becomes a negative entry: an id that does not
/// exist is not looked up again at each request.
impl DataRepository<Spell> for Store {
    type Error = StoreError;

    async fn fetch_by_id(&self, id: &i64) -> Result<Option<Spell>, StoreError> {
        self.find(*id).await
    }
}
