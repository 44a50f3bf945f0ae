//! What clients are told when something fails: a status and `{"error": "..."}`, always.

use axum::{
    Json,
    http::{HeaderName, HeaderValue, StatusCode, header::RETRY_AFTER},
    response::{IntoResponse, Response},
};
use serde_json::json;
use tiered::Outcome;

use crate::store::StoreError;

/// The header that says where the answer to a read came from.
pub const X_CACHE: HeaderName = HeaderName::from_static("x-cache");

/// How long clients should wait before they ask again, in seconds.
const RETRY_SECONDS: &str = "1";

/// An answer that is no success.
#[derive(Clone, Debug)]
pub struct ApiError {
    status: StatusCode,
    message: String,
    outcome: Option<Outcome>,
}

impl ApiError {
    /// An answer of this status with this reason.
    pub fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self { status, message: message.into(), outcome: None }
    }

    /// There is no such spell.
    #[must_use]
    pub fn no_spell(id: i64) -> Self {
        Self::new(StatusCode::NOT_FOUND, format!("there is no spell {id}"))
    }

    /// What was sent is understood and cannot be used.
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, message)
    }

    /// How the read ended that this is the answer to: becomes the header `x-cache`.
    #[must_use]
    pub fn outcome(mut self, outcome: Outcome) -> Self {
        self.outcome = Some(outcome);
        self
    }

    fn unavailable(message: &str) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, message)
    }
}

/// A list or a change that the database did not answer.
impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        tracing::warn!(%error, "answering 503");
        Self::unavailable(
            "the database gives no answer; a change may or may not have been made, or be made yet",
        )
    }
}

/// A read of one spell that neither the cache nor the database could answer. A cache server that
/// fails never ends here: then the database is asked.
impl From<tiered::Error> for ApiError {
    fn from(error: tiered::Error) -> Self {
        let answer = match error.loader_error::<StoreError>() {
            Some(error) => {
                tracing::warn!(%error, "answering 503");
                Self::unavailable("the spell is not cached, and the database gives no answer")
            }
            None => {
                tracing::error!(%error, "a read failed");
                Self::new(StatusCode::INTERNAL_SERVER_ERROR, "the spell could not be read")
            }
        };
        answer.outcome(Outcome::Error)
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut response = (self.status, Json(json!({ "error": self.message }))).into_response();
        if self.status == StatusCode::SERVICE_UNAVAILABLE {
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static(RETRY_SECONDS));
        }
        if let Some(outcome) = self.outcome {
            response.headers_mut().insert(X_CACHE, HeaderValue::from_static(outcome.as_str()));
        }
        response
    }
}
