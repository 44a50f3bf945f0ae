//! Lists of spells: what is asked for, and the key under which the answer is cached.

use serde::Deserialize;
use tiered::{CacheEntity, Key};

use crate::{error::ApiError, input::MAX_DAMAGE, spell::Spell};

/// The most spells that one list may have.
const MOST: i64 = 1_000;

/// The query of `GET /spells?…`. What is left out does not count.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ListQuery {
    min_damage: Option<i64>,
    max_damage: Option<i64>,
    limit: Option<i64>,
}

/// A list that can be had: of damages within bounds, so many at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct List {
    pub(crate) min_damage: i64,
    pub(crate) max_damage: i64,
    pub(crate) limit: i64,
}

impl ListQuery {
    /// The list that is asked for.
    ///
    /// # Errors
    /// An [`ApiError`] that says what is wrong with the query.
    pub fn checked(self) -> Result<List, ApiError> {
        let limit = self.limit.unwrap_or(MOST);
        if !(1..=MOST).contains(&limit) {
            return Err(ApiError::invalid(format!("limit must be from 1 to {MOST}")));
        }
        let (min, max) = (self.min_damage.unwrap_or(0), self.max_damage.unwrap_or(MAX_DAMAGE));
        Ok(List { min_damage: min.max(0), max_damage: max.min(MAX_DAMAGE), limit })
    }
}

impl List {
    /// `spell:list:<digest>`: the same for every spelling of one query.
    #[must_use]
    pub fn key(&self) -> Key {
        let Self { min_damage, max_damage, limit } = self;
        let key = Key::list(Spell::cache_prefix()).param("min_damage", min_damage);
        key.param("max_damage", max_damage).param("limit", limit).into()
    }

    /// What the keys of all lists begin with.
    #[must_use]
    pub fn keys() -> Key {
        Key::lists(Spell::cache_prefix())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_list_has_one_key_however_it_is_asked_for() {
        let list = |query: ListQuery| query.checked().unwrap();
        let all = list(ListQuery::default());
        let spelled_out =
            ListQuery { min_damage: Some(-5), max_damage: Some(i64::MAX), limit: Some(MOST) };
        assert_eq!(all.key(), list(spelled_out).key());
        let strong = list(ListQuery { min_damage: Some(50), ..ListQuery::default() });
        assert_ne!(all.key(), strong.key());
        assert!(strong.key().as_bytes().starts_with(b"spell:list:"));
        assert!(strong.key().as_bytes().starts_with(List::keys().as_bytes()));
    }

    #[test]
    fn a_limit_out_of_bounds_is_refused() {
        for limit in [0, -1, MOST + 1, i64::MAX] {
            assert!(ListQuery { limit: Some(limit), ..ListQuery::default() }.checked().is_err());
        }
    }
}
