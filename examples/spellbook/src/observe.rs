//! Seeing what goes on: the log on stderr, and metrics for Prometheus.

use std::time::{Duration, Instant};

use axum::{extract::Request, middleware::Next, response::Response};
use metrics_exporter_prometheus::{BuildError, PrometheusBuilder, PrometheusHandle};
use tracing_subscriber::EnvFilter;

use crate::error::X_CACHE;

/// Upper bounds of the histograms' buckets, in seconds: L1 is in the first, the budget in the last
/// but four.
const SECONDS: [f64; 12] =
    [0.000_1, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5];
/// How often samples are put into their buckets; until then they take memory.
const UPKEEP: Duration = Duration::from_secs(5);

/// Begins to log to stderr what passes `filter`.
///
/// # Errors
/// A message about a filter that cannot be used.
pub fn logging(filter: &str) -> Result<(), String> {
    let filter = EnvFilter::try_new(filter)
        .map_err(|_| "RUST_LOG is no filter: write info, or spellbook=debug,tiered=debug")?;
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    log.try_init().map_err(|error| format!("the log cannot be set up: {error}"))
}

/// Installs the recorder of this process. Call it before a cache is built: a cache's counters
/// belong to the recorder installed by then.
///
/// # Errors
/// When there is a recorder already.
pub fn metrics() -> Result<PrometheusHandle, BuildError> {
    PrometheusBuilder::new().set_buckets(&SECONDS)?.install_recorder()
}

/// Keeps the memory that samples take bounded when nobody asks for `/metrics`. Never ends.
pub async fn upkeep(metrics: PrometheusHandle) {
    let mut ticks = tokio::time::interval(UPKEEP);
    loop {
        ticks.tick().await;
        metrics.run_upkeep();
    }
}

/// One line of debug log for each request.
pub async fn log_request(request: Request, next: Next) -> Response {
    let start = Instant::now();
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let response = next.run(request).await;
    let source = response.headers().get(X_CACHE).and_then(|source| source.to_str().ok());
    tracing::debug!(
        %method,
        path,
        status = response.status().as_u16(),
        source = source.unwrap_or("-"),
        time = ?start.elapsed(),
        "request"
    );
    response
}
