//! What clients send: extractors that answer every mistake with a reason in JSON.

use axum::{
    Json,
    body::Body,
    extract::{FromRequest, FromRequestParts, Path, Request},
    http::{StatusCode, request::Parts},
};
use serde::{Deserialize, de::DeserializeOwned};

use crate::error::ApiError;

/// The most characters a name may have.
pub const MAX_NAME: usize = 100;
/// The most damage a spell may do.
pub const MAX_DAMAGE: i64 = i32::MAX as i64;
/// The most bytes a body may have.
pub const MAX_BODY: usize = 16 * 1024;

/// The body of `POST /spells`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewSpell {
    name: String,
    damage: i64,
}

/// The body of `PUT /spells/{id}`.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewDamage {
    damage: i64,
}

impl NewSpell {
    /// The name, without spaces around it, and the damage.
    ///
    /// # Errors
    /// An [`ApiError`] that says what is wrong with them.
    pub fn checked(self) -> Result<(String, i64), ApiError> {
        let name = self.name.trim();
        if name.is_empty() {
            return Err(ApiError::invalid("name is empty"));
        }
        if name.chars().count() > MAX_NAME {
            return Err(ApiError::invalid(format!("name is longer than {MAX_NAME} characters")));
        }
        // PostgreSQL keeps no NUL in a text, and nobody wants the others in a name.
        if name.chars().any(char::is_control) {
            return Err(ApiError::invalid("name holds a control character"));
        }
        Ok((name.to_owned(), checked_damage(self.damage)?))
    }
}

impl NewDamage {
    /// The damage.
    ///
    /// # Errors
    /// An [`ApiError`] that says what is wrong with it.
    pub fn checked(self) -> Result<i64, ApiError> {
        checked_damage(self.damage)
    }
}

fn checked_damage(damage: i64) -> Result<i64, ApiError> {
    if (0..=MAX_DAMAGE).contains(&damage) {
        Ok(damage)
    } else {
        Err(ApiError::invalid(format!("damage must be from 0 to {MAX_DAMAGE}")))
    }
}

/// A JSON object in the body.
#[derive(Clone, Copy, Debug)]
pub struct JsonBody<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for JsonBody<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        let (parts, body) = request.into_parts();
        let bytes =
            axum::body::Bytes::from_request(Request::from_parts(parts.clone(), body), state)
                .await
                .map_err(|refused| ApiError::new(refused.status(), refused.body_text()))?;
        // serde would take an array for a struct.
        let is_array = bytes.trim_ascii_start().starts_with(b"[");
        let again = Request::from_parts(parts, Body::from(bytes));
        let Json(value) = Json::from_request(again, state)
            .await
            .map_err(|refused| ApiError::new(refused.status(), refused.body_text()))?;
        if is_array {
            return Err(ApiError::invalid("the body must be a JSON object"));
        }
        Ok(Self(value))
    }
}

/// The `{id}` of a path: digits only, from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SpellId(pub i64);

impl<S: Send + Sync> FromRequestParts<S> for SpellId {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let Path(text) = Path::<String>::from_request_parts(parts, state)
            .await
            .map_err(|refused| ApiError::new(refused.status(), refused.body_text()))?;
        // `parse` alone would take "+1" for another spelling of 1.
        let digits = text.bytes().all(|byte| byte.is_ascii_digit());
        match text.parse() {
            Ok(id) if digits && id > 0 => Ok(Self(id)),
            _ => Err(ApiError::new(
                StatusCode::BAD_REQUEST,
                "the id of a spell is a whole number from 1",
            )),
        }
    }
}
