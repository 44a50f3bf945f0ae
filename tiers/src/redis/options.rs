//! Where the server is and how patiently it is asked: the URL, taken apart, and the options.
//!
//! The URL is read here and not by redis-rs: its errors cannot say what is wrong, and a URL whose
//! password holds a raw `/` or `#` must be refused without any part of it showing up in the
//! message, for that part may be half of the password.

use std::{fmt, time::Duration};

use url::{Host, Url};

use super::endpoint::Endpoint;
#[cfg(feature = "redis-tls")]
use super::tls::Tls;
use crate::ConfigError;

/// The most connections one runtime may hold.
pub(super) const MAX_CONNECTIONS: usize = 1_024;
/// What every refusal of a URL ends with.
const FORM: &str = "write redis://[user:password@]host[:port][/database], or rediss:// for TLS, or \
                    redis+unix:///path, with special characters of user and password percent-encoded, or give \
                    them to .username() and .password()";

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
    /// Takes a URL apart. No part of it is ever quoted in the error.
    pub(super) fn from_url(text: &str) -> Result<Self, ConfigError> {
        // The parser would drop these without a word, and a password with them.
        if text.chars().any(|c| c.is_control() || c == ' ') {
            return Err(refused("holds a space or a control character"));
        }
        let url = Url::parse(text).map_err(|error| refused(&format!("does not parse: {error}")))?;
        let is_tls = match url.scheme() {
            "redis" | "valkey" => false,
            "rediss" | "valkeys" if cfg!(feature = "redis-tls") => true,
            "rediss" | "valkeys" => {
                return Err(refused("asks for TLS: switch the feature `redis-tls` on"));
            }
            #[cfg(unix)]
            "unix" | "redis+unix" | "valkey+unix" => return Self::from_socket(&url),
            _ => return Err(refused("has another scheme than redis://")),
        };
        if url.query().is_some() || url.fragment().is_some() {
            return Err(refused("holds a '?' or a '#', which mean nothing here"));
        }
        let host = match url.host() {
            Some(Host::Domain("")) | None => return Err(refused("names no host")),
            Some(Host::Domain(name)) => decoded(name)
                .and_then(|bytes| String::from_utf8(bytes).ok())
                .ok_or_else(|| refused("names a host that is no text"))?,
            Some(Host::Ipv4(address)) => address.to_string(),
            Some(Host::Ipv6(address)) => address.to_string(),
        };
        let port = match url.port() {
            Some(0) => return Err(refused("names port 0")),
            port => port.unwrap_or(6379),
        };
        let _ = is_tls;
        Ok(Self {
            #[cfg(feature = "redis-tls")]
            tls: is_tls.then(Tls::default),
            database: database(url.path())?,
            username: secret(url.username(), "username")?,
            password: secret(url.password().unwrap_or_default(), "password")?,
            ..Self::at(Endpoint::Tcp(host, port))
        })
    }

    /// A unix socket, by its path; `?db=` tells the database.
    #[cfg(unix)]
    fn from_socket(url: &Url) -> Result<Self, ConfigError> {
        use std::os::unix::ffi::OsStringExt;
        let path = decoded(url.path()).unwrap_or_default();
        if url.has_host() || url.fragment().is_some() || !path.starts_with(b"/") || path == b"/" {
            return Err(refused("names no path of a socket"));
        }
        let number = match url.query().map(|query| query.split_once('=')) {
            None => 0,
            Some(Some(("db", number))) => database(number)?,
            Some(_) => return Err(refused("holds a '?' with something else than db=number")),
        };
        let path = std::ffi::OsString::from_vec(path);
        Ok(Self { database: number, ..Self::at(Endpoint::Unix(path.into())) })
    }

    fn at(endpoint: Endpoint) -> Self {
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

fn refused(why: &str) -> ConfigError {
    ConfigError::new(format!("the Redis URL {why}: {FORM}"))
}

fn database(path: &str) -> Result<u32, ConfigError> {
    let number = path.strip_prefix('/').unwrap_or(path);
    if number.is_empty() {
        return Ok(0);
    }
    // Only digits: "+1" parses as a number too, and may be a piece of a password all the same.
    if !number.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(refused("has a path that is no database number"));
    }
    number.parse().map_err(|_| refused("has too large a database number"))
}

fn secret(text: &str, what: &str) -> Result<Option<Secret>, ConfigError> {
    let bytes = decoded(text).ok_or_else(|| {
        refused(&format!("has a '%' in the {what} that begins no percent-encoded byte"))
    })?;
    Ok((!bytes.is_empty()).then(|| Secret::new(bytes)))
}

/// The bytes of percent-encoded text; `None` if a `%` is not followed by two hexadecimal digits.
fn decoded(text: &str) -> Option<Vec<u8>> {
    let mut bytes = text.bytes();
    let mut decoded = Vec::with_capacity(text.len());
    while let Some(byte) = bytes.next() {
        decoded.push(match byte {
            b'%' => hex(bytes.next()?)? << 4 | hex(bytes.next()?)?,
            byte => byte,
        });
    }
    Some(decoded)
}

fn hex(digit: u8) -> Option<u8> {
    (digit as char).to_digit(16).and_then(|value| u8::try_from(value).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(url: &str) -> Options {
        Options::from_url(url).unwrap()
    }

    fn tcp(host: &str, port: u16) -> Endpoint {
        Endpoint::Tcp(host.into(), port)
    }

    #[cfg(unix)]
    #[test]
    fn a_socket_is_told_by_its_path() {
        for (url, path, database) in [
            ("redis+unix:///run/redis.sock", "/run/redis.sock", 0),
            ("unix:///a%20b?db=7", "/a b", 7),
            ("valkey+unix:///x", "/x", 0),
        ] {
            let options = options(url);
            assert_eq!(options.endpoint, Endpoint::Unix(path.into()));
            assert_eq!(options.database, database);
        }
    }

    #[test]
    fn a_url_is_taken_apart() {
        let plain = options("redis://127.0.0.1/");
        assert!(plain.username.is_none() && plain.password.is_none());
        assert_eq!((plain.endpoint, plain.database), (tcp("127.0.0.1", 6379), 0));
        let full = options("redis://us%3Aer:p%40ss%00%FF@cache.example:7000/3");
        assert_eq!((full.endpoint, full.database), (tcp("cache.example", 7000), 3));
        assert_eq!(full.username, Some(Secret::new("us:er")));
        assert_eq!(full.password, Some(Secret::new(b"p@ss\0\xff".as_slice())));
        assert_eq!(options("valkey://[::1]:6380").endpoint, tcp("::1", 6380));
        assert_eq!(options("redis://:only@host").password, Some(Secret::new("only")));
    }

    #[test]
    fn a_wrong_url_is_refused_without_a_piece_of_it() {
        for url in [
            "rediss://:hunter2@host/x",
            "http://:hunter2@host",
            "hunter2",
            "redis://:hunter2%zz@host",
            "redis://:hunter2%2",
            "redis://:hunter2%2@host",
            "redis://:hunter2/more@host",
            "redis://user:123/hunter2@host",
            "redis://user:123/4567@hunter2",
            "redis://:hunter2#x@host",
            "redis://user:123?hunter2@host",
            "redis://user:123#hunter2@host",
            "redis://:hunter2\n@host",
            "redis://:hunter2 @host",
            "redis://:hunter2@",
            "redis://:hunter2@host:99999",
            "redis://:hunter2@host:0",
            "redis://:hunter2@host/x",
            "redis://:hunter2@host/-1",
            "redis://:hunter2@host/99999999999",
            "redis:hunter2",
            "unix://hunter2",
            "unix:///",
            "unix:///a?hunter2",
            "unix:///a?db=hunter2",
            "redis+unix://hunter2/a",
        ] {
            let error = Options::from_url(url).expect_err(url).to_string();
            assert!(!error.contains("hunter") && !error.contains("4567"), "{url}: {error}");
            assert!(error.contains("redis://[user:password@]host"), "{url}: {error}");
        }
    }

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
            let mut options = options("redis://host");
            assert_eq!(options.check(), Ok(()));
            change(&mut options);
            let error = options.check().unwrap_err().to_string();
            assert!(error.contains("Redis") && !error.contains("hunter2"), "{error}");
        }
    }
}
