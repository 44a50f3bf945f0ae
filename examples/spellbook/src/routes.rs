//! The paths and their handlers.
//!
//! Reads go through the cache and say how they ended in the header `x-cache`: one spell by its id, a list
//! by its query. Every change drops all lists, for nobody knows which of them it concerns. A cache that
//! cannot do that (memcached's servers do not know their keys) keeps no lists.

use axum::{
    Json, Router,
    extract::{DefaultBodyLimit, Query, State, rejection::QueryRejection},
    http::{
        HeaderValue, Method, StatusCode, Uri,
        header::{CONTENT_TYPE, LOCATION},
    },
    middleware,
    response::{IntoResponse, Response},
    routing::get,
};
use tiered::CacheStrategy;

use crate::{
    app::App,
    error::{ApiError, X_CACHE},
    health::health,
    input::{JsonBody, MAX_BODY, NewDamage, NewSpell, SpellId},
    list::ListQuery,
    observe,
    spell::Spell,
};

/// The service.
pub fn router(app: App) -> Router {
    Router::new()
        .route("/spells", get(list).post(create))
        .route("/spells/{id}", get(show).put(update).delete(remove))
        .route("/health", get(health))
        .route("/metrics", get(metrics))
        .fallback(unknown_path)
        .method_not_allowed_fallback(wrong_method)
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .layer(middleware::from_fn(observe::log_request))
        .with_state(app)
}

async fn list(
    State(app): State<App>,
    query: Result<Query<ListQuery>, QueryRejection>,
) -> Result<Response, ApiError> {
    let Query(query) = query.map_err(|refused| ApiError::invalid(refused.body_text()))?;
    let (list, store) = (query.checked()?, app.store.clone());
    if !app.cache.can_invalidate_prefix() {
        return Ok(Json(store.list(list).await?).into_response());
    }
    let load = move |_| async move { store.list(list).await.map(Some) };
    let answer = app.cache.key(list.key()).load_detached(load).await?;
    let source = HeaderValue::from_static(answer.outcome.as_str());
    Ok(([(X_CACHE, source)], Json(answer.value.as_deref())).into_response())
}

async fn show(State(app): State<App>, SpellId(id): SpellId) -> Result<Response, ApiError> {
    let answer = app.spells.read::<Spell>(&id, CacheStrategy::Refresh).await?;
    let Some(spell) = answer.value else {
        return Err(ApiError::no_spell(id).outcome(answer.outcome));
    };
    let source = HeaderValue::from_static(answer.outcome.as_str());
    Ok(([(X_CACHE, source)], Json(&*spell)).into_response())
}

async fn create(
    State(app): State<App>,
    JsonBody(spell): JsonBody<NewSpell>,
) -> Result<Response, ApiError> {
    let (name, damage) = spell.checked()?;
    let spell = app.changes.create(name, damage).await?;
    let location = [(LOCATION, format!("/spells/{}", spell.id))];
    Ok((StatusCode::CREATED, location, Json(spell)).into_response())
}

async fn update(
    State(app): State<App>,
    SpellId(id): SpellId,
    JsonBody(damage): JsonBody<NewDamage>,
) -> Result<Json<Spell>, ApiError> {
    let spell = app.changes.update(id, damage.checked()?).await?;
    spell.map(Json).ok_or_else(|| ApiError::no_spell(id))
}

async fn remove(State(app): State<App>, SpellId(id): SpellId) -> Result<StatusCode, ApiError> {
    if app.changes.delete(id).await? {
        Ok(StatusCode::NO_CONTENT)
    } else {
        Err(ApiError::no_spell(id))
    }
}

async fn metrics(State(app): State<App>) -> impl IntoResponse {
    ([(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], app.metrics.render())
}

async fn unknown_path(uri: Uri) -> ApiError {
    ApiError::new(StatusCode::NOT_FOUND, format!("there is nothing at {}", uri.path()))
}

async fn wrong_method(method: Method, uri: Uri) -> ApiError {
    let message = format!("{} takes no {method}", uri.path());
    ApiError::new(StatusCode::METHOD_NOT_ALLOWED, message)
}
