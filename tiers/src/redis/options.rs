//! How patiently and as whom the servers are asked, and the check that this can work.

use std::{fmt, time::Duration};

use super::endpoint::Endpoint;
#[cfg(feature = "redis-tls")]
use super::tls::Tls;
use crate::ConfigError;

/// The most connections one runtime may hold to one server.
pub(super) const MAX_CONNECTIONS: usize = 1_024;

/// What a connection is made from.
#[derive(Clone)]
pub(super) struct Options {
    pub(super) endpoint: Endpoint,
    #[cfg(feature = "redis-tls")]
    pub(super) tls: Option<Tls>,
    pub(super) database: u32,
    pub(super) username: Option<Secret>,
    pub(super) password: Option<Secret>,
    pub(super) connections: usize,
    pub(super) connect_timeout: Duration,
    pub(super) response_timeout: Duration,
}

/// Bytes that are shown to the server and to nobody else.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Secret(Vec<u8>);

impl Secret {
    pub(super) fn new(bytes: impl Into<Vec<u8>>) -> Self {
        Self(bytes.into())
    }

    pub(super) fn expose(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("..")
    }
}

impl Options {
    /// The defaults, for a place.
    pub(super) fn at(endpoint: Endpoint) -> Self {
        Self {
            endpoint,
            #[cfg(feature = "redis-tls")]
            tls: None,
            database: 0,
            username: None,
            password: None,
            connections: 2,
            connect_timeout: Duration::from_millis(500),
            response_timeout: Duration::from_millis(250),
        }
    }

    /// The same, for another place.
    pub(super) fn moved_to(&self, endpoint: Endpoint) -> Self {
        Self { endpoint, ..self.clone() }
    }

    /// Refuses options that cannot work.
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        let error = |message: String| Err(ConfigError::new(message));
        if self.connections == 0 || self.connections > MAX_CONNECTIONS {
            return error(format!(
                "Redis::connections({}) cannot work: choose 1 to {MAX_CONNECTIONS}, 2 suit most",
                self.connections
            ));
        }
        if self.connect_timeout.is_zero() {
            return error("Redis::connect_timeout(0) lets no dial succeed: try 500 ms".into());
        }
        if self.response_timeout.is_zero() {
            return error("Redis::response_timeout(0) lets no answer in: try 250 ms".into());
        }
        if self.username.is_some() && self.password.is_none() {
            return error("Redis has a username without a password: add .password(..)".into());
        }
        match &self.endpoint {
            Endpoint::Sentinels(sentinels)
                if sentinels.username.is_some() && sentinels.password.is_none() =>
            {
                return error("Redis has a sentinel_username without a sentinel_password".into());
            }
            Endpoint::Cluster(_) if self.database != 0 => {
                return error(
                    "Redis::database cannot work with a cluster, which has one only".into(),
                );
            }
            _ => {}
        }
        #[cfg(feature = "redis-tls")]
        if let Some(tls) = &self.tls {
            #[cfg(unix)]
            if matches!(self.endpoint, Endpoint::Unix(_)) {
                return error(
                    "Redis has certificates for a unix socket, which speaks no TLS: leave them out"
                        .into(),
                );
            }
            tls.check()?;
        }
        Ok(())
    }
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Redis")
            .field("endpoint", &self.endpoint)
            .field("database", &self.database)
            .field("connections", &self.connections)
            .field("connect_timeout", &self.connect_timeout)
            .field("response_timeout", &self.response_timeout)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::{super::url::options, *};

    #[test]
    fn options_that_cannot_work_are_refused_with_a_way_out() {
        let broken: [fn(&mut Options); 5] = [
            |o| o.connections = 0,
            |o| o.connections = MAX_CONNECTIONS + 1,
            |o| o.connect_timeout = Duration::ZERO,
            |o| o.response_timeout = Duration::ZERO,
            |o| o.username = Some(Secret::new("hunter2")),
        ];
        for change in broken {
            let mut options = options("redis://host").unwrap();
            assert_eq!(options.check(), Ok(()));
            change(&mut options);
            let error = options.check().unwrap_err().to_string();
            assert!(error.contains("Redis") && !error.contains("hunter2"), "{error}");
        }
    }
}
