//! What the environment says: where the database and the cache server are, the port, the log filter.
//!
//! The file `.env` in the working directory, or above it, fills in what the environment leaves
//! out. It is read and not loaded: changing the environment of a process with threads is a race.
//!
//! URLs hold passwords, so no message quotes one, and `Debug` shows none.

use std::{collections::HashMap, env, fmt, str::FromStr, sync::Arc, time::Duration};

use sqlx::{
    postgres::PgConnectOptions,
    sqlite::{SqliteConnectOptions, SqliteJournalMode},
};
use tiered::tiers::{Memcached, Redis};

use crate::app::Shared;

/// The file that is opened when nothing is said.
const DEFAULT_DATABASE: &str = "sqlite:spellbook.db";
const DEFAULT_PORT: u16 = 3000;
const DEFAULT_LOG: &str = "info";
/// How long SQLite waits for another writer.
const BUSY: Duration = Duration::from_secs(2);

/// All there is to configure.
pub struct Config {
    /// Where the spells are kept.
    pub database: Database,
    /// The shared tier of the cache; without one it lives in this process.
    pub shared: Option<Shared>,
    /// The port on 127.0.0.1; 0 takes any that is free.
    pub port: u16,
    /// The log filter, as in `spellbook=debug,tiered=debug`.
    pub log: String,
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config")
            .field("database", &self.database)
            .field("shared", &self.shared)
            .field("port", &self.port)
            .field("log", &self.log)
            .finish()
    }
}

/// Where the spells are kept.
#[derive(Clone)]
pub enum Database {
    /// In a file.
    Sqlite(Box<SqliteConnectOptions>),
    /// On a PostgreSQL server.
    Postgres(Box<PgConnectOptions>),
}

impl fmt::Debug for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Sqlite(_) => "Sqlite(..)",
            Self::Postgres(_) => "Postgres(..)",
        })
    }
}

/// A setting that cannot be used. The message names it and the way out, and quotes no value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ConfigError(String);

impl Config {
    /// Reads the environment, and `.env` for what it leaves out.
    ///
    /// # Errors
    /// [`ConfigError`] for a value that cannot be used.
    pub fn from_env() -> Result<Self, ConfigError> {
        let file = dotenv()?;
        Self::from_lookup(|name| match env::var(name) {
            Ok(value) => Ok(Some(value)),
            Err(env::VarError::NotPresent) => Ok(file.get(name).cloned()),
            Err(env::VarError::NotUnicode(_)) => Err(ConfigError(format!("{name} is no text"))),
        })
    }

    /// Reads settings by their names. What is empty counts as not set.
    ///
    /// # Errors
    /// [`ConfigError`] for a value that cannot be used.
    pub fn from_lookup(
        lookup: impl Fn(&str) -> Result<Option<String>, ConfigError>,
    ) -> Result<Self, ConfigError> {
        let get = |name: &str| Ok(lookup(name)?.filter(|value| !value.is_empty()));
        Ok(Self {
            database: database(get("DATABASE_URL")?.as_deref().unwrap_or(DEFAULT_DATABASE))?,
            shared: shared(
                get("REDIS_URL")?.as_deref(),
                get("REDIS_CA_FILE")?.as_deref(),
                get("MEMCACHED_URL")?.as_deref(),
            )?,
            port: get("PORT")?.as_deref().map_or(Ok(DEFAULT_PORT), port)?,
            log: get("RUST_LOG")?.unwrap_or_else(|| DEFAULT_LOG.to_owned()),
        })
    }
}

fn database(url: &str) -> Result<Database, ConfigError> {
    let refused = |why: &str| {
        ConfigError(format!(
            "DATABASE_URL {why}: write postgres://user:password@host:port/database or \
             sqlite:path/to/file.db"
        ))
    };
    match url.split_once(':').map(|(scheme, _)| scheme) {
        Some("postgres" | "postgresql") => {
            let options = PgConnectOptions::from_str(url).map_err(|_| refused("does not parse"))?;
            Ok(Database::Postgres(Box::new(options)))
        }
        Some("sqlite") if url.contains(":memory:") => {
            Err(refused("asks for a database that is gone at the end, and Spellbook keeps its own"))
        }
        Some("sqlite") => {
            let path = url.trim_start_matches("sqlite:").trim_start_matches("//");
            if path.is_empty() {
                return Err(refused("names no file"));
            }
            let options =
                SqliteConnectOptions::from_str(url).map_err(|_| refused("does not parse"))?;
            let options = options
                .create_if_missing(true)
                .journal_mode(SqliteJournalMode::Wal)
                .busy_timeout(BUSY);
            Ok(Database::Sqlite(Box::new(options)))
        }
        _ => Err(refused("names no database that Spellbook knows")),
    }
}

fn shared(
    redis: Option<&str>,
    authorities: Option<&str>,
    memcached: Option<&str>,
) -> Result<Option<Shared>, ConfigError> {
    let refused = |name: &str, error| ConfigError(format!("{name} cannot be used: {error}"));
    Ok(match (redis, memcached) {
        (None, None) => None,
        (Some(url), None) => {
            let mut redis = Redis::new(url).map_err(|error| refused("REDIS_URL", error))?;
            if let Some(path) = authorities {
                let pem = std::fs::read(path).map_err(|error| {
                    ConfigError(format!("REDIS_CA_FILE cannot be read: {}", error.kind()))
                })?;
                redis = redis.certificate_authority(pem);
            }
            let bus = Some(redis.bus());
            Some(Shared { tier: Arc::new(redis), bus })
        }
        (None, Some(servers)) => {
            let memcached =
                Memcached::new(servers).map_err(|error| refused("MEMCACHED_URL", error))?;
            Some(Shared { tier: Arc::new(memcached), bus: None })
        }
        (Some(_), Some(_)) => {
            return Err(ConfigError(
                "REDIS_URL and MEMCACHED_URL are both set, and there is one cache: unset one of them".to_owned(),
            ));
        }
    })
}

fn port(text: &str) -> Result<u16, ConfigError> {
    text.parse().map_err(|_| {
        ConfigError("PORT is no port: write a number from 1 to 65535, or 0 for any".to_owned())
    })
}

/// The entries of `.env`; none if there is no such file.
fn dotenv() -> Result<HashMap<String, String>, ConfigError> {
    // The errors of the parser quote the line, and with it what may be a password.
    let unreadable = |_| ConfigError(".env cannot be read: write NAME=value lines".to_owned());
    match dotenvy::dotenv_iter() {
        Ok(entries) => entries.collect::<Result<_, _>>().map_err(unreadable),
        Err(error) if error.not_found() => Ok(HashMap::new()),
        Err(error) => Err(unreadable(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(settings: &[(&str, &str)]) -> Result<Config, ConfigError> {
        let settings: HashMap<_, _> = settings.iter().copied().collect();
        Config::from_lookup(|name| Ok(settings.get(name).map(|value| (*value).to_owned())))
    }

    #[test]
    fn nothing_set_needs_nothing_installed() {
        for nothing in [&[][..], &[("PORT", ""), ("REDIS_URL", ""), ("DATABASE_URL", "")]] {
            let config = config(nothing).unwrap();
            let Database::Sqlite(options) = config.database else { panic!("not SQLite") };
            assert_eq!(options.get_filename(), std::path::Path::new("spellbook.db"));
            assert!(config.shared.is_none());
            assert_eq!((config.port, config.log.as_str()), (3000, "info"));
        }
    }

    #[test]
    fn both_forms_of_a_sqlite_url_name_the_file() {
        for url in ["sqlite:a/b.db", "sqlite://a/b.db"] {
            let Database::Sqlite(options) = config(&[("DATABASE_URL", url)]).unwrap().database
            else {
                panic!("{url}")
            };
            assert_eq!(options.get_filename(), std::path::Path::new("a/b.db"));
        }
    }

    #[test]
    fn a_bad_value_is_refused_by_its_name_and_without_a_secret() {
        for (name, value) in [
            ("PORT", "hunter2"),
            ("PORT", "65536"),
            ("PORT", "-1"),
            ("REDIS_URL", "hunter2"),
            ("REDIS_URL", "http://:hunter2@host"),
            ("REDIS_URL", "redis://:hunter2@host/x"),
            ("REDIS_URL", "redis+cluster://:hunter2@host:1,:2"),
            ("REDIS_URL", "redis+cluster://:hunter2@/"),
            ("REDIS_URL", "redis+sentinel://:hunter2@host:1"),
            ("REDIS_URL", "redis+sentinel://:hunter2@host:1/name/hunter2"),
            ("MEMCACHED_URL", "host:1,hunter2:hunter2"),
            ("DATABASE_URL", "hunter2"),
            ("DATABASE_URL", "mysql://root:hunter2@host/spells"),
            ("DATABASE_URL", "postgres://root:hunter2@host:port/spells"),
            ("DATABASE_URL", "postgres://root:hunter2@host/spells?sslmode=hunter2"),
            ("DATABASE_URL", "sqlite:"),
            ("DATABASE_URL", "sqlite://"),
            ("DATABASE_URL", "sqlite::memory:"),
            ("DATABASE_URL", "sqlite:a.db?mode=hunter2"),
        ] {
            let error = config(&[(name, value)]).expect_err(value).to_string();
            assert!(error.contains(name) && !error.contains("hunter2"), "{value}: {error}");
        }
    }

    #[test]
    fn each_way_to_run_redis_has_a_url() {
        for url in [
            "redis://user:secret@host:6380/3",
            "rediss://host",
            "redis+unix:///run/redis.sock?db=2",
            "redis+cluster://user:secret@one:7000,two:7001",
            "rediss+cluster://one:7000",
            "redis+sentinel://user:secret@one:26379,two:26379/mymaster/1",
        ] {
            let shared = config(&[("REDIS_URL", url)]).unwrap().shared.expect(url);
            assert_eq!((shared.tier.name(), shared.bus.is_some()), ("redis", true));
            shared.tier.check().unwrap();
            assert!(!format!("{shared:?}").contains("secret"), "{shared:?}");
        }
        let missing = [("REDIS_URL", "rediss://host"), ("REDIS_CA_FILE", "no/such/file")];
        let error = config(&missing).unwrap_err().to_string();
        assert!(error.contains("REDIS_CA_FILE"), "{error}");
    }

    #[test]
    fn debug_shows_no_password() {
        let config = config(&[
            ("DATABASE_URL", "postgres://root:hunter2@host/spells"),
            ("REDIS_URL", "redis://:hunter2@host"),
        ]);
        assert!(!format!("{config:?}").contains("hunter2"));
    }
}
