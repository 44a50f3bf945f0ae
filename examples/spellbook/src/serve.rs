//! The process: start, serve, stop.

use std::{
    future::{Future, IntoFuture},
    io::{self, Write},
    net::Ipv4Addr,
    time::Duration,
};

use axum::serve::ListenerExt;
use tokio::{
    net::TcpListener,
    signal::unix::{Signal, SignalKind, signal},
    time::sleep,
};
use tokio_util::sync::CancellationToken;

use crate::{
    app::{self, App},
    config::{Config, ConfigError},
    observe, routes,
    store::{Store, StoreError},
};

/// How long requests under way may take to finish once the process is told to stop. More than any
/// handler takes, so only clients that do not read their answers are cut off.
const GRACE: Duration = Duration::from_secs(5);

/// Why the process could not start, or ended. Holds no secret.
#[derive(Debug, thiserror::Error)]
pub enum Fatal {
    /// A setting cannot be used.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The cache was put together wrongly.
    #[error("the cache: {0}")]
    Cache(#[from] tiered::Error),
    /// The database refused, or was not there within ten seconds.
    #[error("starting without a database is of no use: {0}; check DATABASE_URL")]
    Database(#[from] StoreError),
    /// The port cannot be had.
    #[error("cannot listen on 127.0.0.1:{port}: {source}; choose another PORT")]
    Port {
        /// The port that was asked for.
        port: u16,
        /// What the system says.
        source: io::Error,
    },
    /// Logging, metrics, signals: things that go wrong only when something is badly broken.
    #[error("{0}")]
    Setup(String),
    /// The listener failed.
    #[error("serving ended: {0}")]
    Serving(#[from] io::Error),
}

/// Runs the service as the environment says, until SIGINT or SIGTERM.
///
/// # Errors
/// [`Fatal`] when it cannot start.
pub async fn run() -> Result<(), Fatal> {
    let config = Config::from_env()?;
    observe::logging(&config.log).map_err(Fatal::Setup)?;
    let stop = stop_signal().map_err(|error| Fatal::Setup(format!("signals: {error}")))?;
    tokio::pin!(stop);

    // Before the cache is built, which makes its counters then.
    let metrics = observe::metrics().map_err(|error| Fatal::Setup(error.to_string()))?;
    let cache = app::cache(config.shared)?;
    let store = tokio::select! {
        store = Store::open(config.database) => store?,
        () = &mut stop => return Ok(()),
    };
    let app = App::new(cache, store, metrics.clone());

    let port = config.port;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port))
        .await
        .map_err(|source| Fatal::Port { port, source })?;
    let address = listener.local_addr()?;
    // Whoever started the process may have closed its end; that is no reason to end.
    let _ = writeln!(io::stdout(), "listening on http://{address}");

    tokio::select! {
        served = serve(listener, app.clone(), stop) => served?,
        () = observe::upkeep(metrics) => {}
    }
    app.shutdown().await;
    tracing::info!("stopped");
    Ok(())
}

/// Serves until `stop`, and then until the requests under way have finished or [`GRACE`] is over.
async fn serve(
    listener: TcpListener,
    app: App,
    stop: impl Future<Output = ()>,
) -> Result<(), io::Error> {
    let listener = listener.tap_io(|stream| {
        // Small answers, sent at once; a stream that refuses works all the same.
        let _ = stream.set_nodelay(true);
    });
    let stopping = CancellationToken::new();
    let server = axum::serve(listener, routes::router(app))
        .with_graceful_shutdown(stopping.clone().cancelled_owned())
        .into_future();
    let patience = async {
        stop.await;
        tracing::info!("stopping");
        stopping.cancel();
        sleep(GRACE).await;
        tracing::warn!("cutting off requests that do not finish");
    };
    tokio::select! {
        served = server => served,
        () = patience => Ok(()),
    }
}

/// Ends with the first SIGINT or SIGTERM. The handlers stand when this returns, so a signal that
/// comes before the future is polled is not lost.
fn stop_signal() -> io::Result<impl Future<Output = ()>> {
    let mut interrupt: Signal = signal(SignalKind::interrupt())?;
    let mut terminate: Signal = signal(SignalKind::terminate())?;
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    })
}
