//! `GET /health`: whether requests can be answered, and by what.
//!
//! A cache server that is down makes the service slower, not unhealthy: the answer says
//! `degraded` and stays 200, so that nobody takes a working process out of service. Without the
//! database it is 503, though cached spells are still served.

use axum::{
    Json,
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde_json::{Value, json};
use tiered::TierHealth;

use crate::app::App;

/// Asks the database and both tiers, at the same time.
pub async fn health(State(app): State<App>) -> Response {
    let (database, cache) = tokio::join!(app.store.ping(), app.cache.health());
    let (code, status) = match (&database, cache.is_whole()) {
        (Err(_), _) => (StatusCode::SERVICE_UNAVAILABLE, "down"),
        (Ok(()), false) => (StatusCode::OK, "degraded"),
        (Ok(()), true) => (StatusCode::OK, "ok"),
    };
    let body = json!({
        "status": status,
        "database": { "name": app.store.name(), "up": database.is_ok() },
        "l1": cache.l1.as_ref().map(tier),
        "l2": cache.l2.as_ref().map(tier),
        "pending_invalidations": cache.pending,
    });
    (code, Json(body)).into_response()
}

fn tier(tier: &TierHealth) -> Value {
    json!({
        "name": tier.name,
        "up": tier.down.is_none(),
        "reason": tier.down.as_ref().map(ToString::to_string),
        "entries": tier.entries,
    })
}
