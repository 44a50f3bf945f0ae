//! The options of the tier, and what memcached makes of lifetimes.

use std::time::Duration;

use crate::ConfigError;

/// The most connections one runtime may hold to a server.
const MAX_CONNECTIONS: usize = 1_024;
/// From here on memcached takes a number for a date, in seconds.
pub(super) const LONGEST: u64 = 30 * 24 * 60 * 60;
/// The remaining life is reported a second short, so one of a second would be none.
pub(super) const SHORTEST: u64 = 2;
/// The longest value that the client reads.
const MAX_VALUE_BYTES: usize = 1 << 30;

#[derive(Clone, Debug)]
pub(super) struct Options {
    pub(super) connections: usize,
    pub(super) connect_timeout: Duration,
    pub(super) response_timeout: Duration,
    pub(super) max_value_bytes: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            connections: 16,
            connect_timeout: Duration::from_millis(500),
            response_timeout: Duration::from_millis(250),
            max_value_bytes: (1 << 20) - (1 << 10),
        }
    }
}

impl Options {
    /// Refuses options that cannot work.
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        let error = |message: String| Err(ConfigError::new(message));
        if self.connections == 0 || self.connections > MAX_CONNECTIONS {
            return error(format!(
                "Memcached::connections({}) cannot work: choose 1 to {MAX_CONNECTIONS}, 16 suit most",
                self.connections
            ));
        }
        if self.connect_timeout.is_zero() {
            return error("Memcached::connect_timeout(0) lets no dial succeed: try 500 ms".into());
        }
        if self.response_timeout.is_zero() {
            return error("Memcached::response_timeout(0) lets no answer in: try 250 ms".into());
        }
        if self.max_value_bytes == 0 || self.max_value_bytes > MAX_VALUE_BYTES {
            return error(format!(
                "Memcached::max_value_bytes({}) cannot work: choose up to {MAX_VALUE_BYTES}, and no more than \
                 the server's own limit (-I, 1 MiB unless told)",
                self.max_value_bytes
            ));
        }
        Ok(())
    }
}

/// A life in the server's seconds; `None` for one too short to be stored.
pub(super) fn life(life: Duration) -> Option<u32> {
    let seconds = u32::try_from(life.as_secs().min(LONGEST)).ok()?;
    (u64::from(seconds) >= SHORTEST).then_some(seconds)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lives_are_whole_seconds_and_never_dates() {
        for (given, stored) in [
            (Duration::ZERO, None),
            (Duration::from_millis(1_999), None),
            (Duration::from_millis(2_000), Some(2)),
            (Duration::from_millis(2_999), Some(2)),
            (Duration::from_secs(LONGEST), Some(2_592_000)),
            (Duration::from_secs(LONGEST + 1), Some(2_592_000)),
            (Duration::MAX, Some(2_592_000)),
        ] {
            assert_eq!(life(given), stored, "{given:?}");
        }
    }

    #[test]
    fn options_that_cannot_work_are_refused_with_a_way_out() {
        let broken: [fn(&mut Options); 6] = [
            |o| o.connections = 0,
            |o| o.connections = MAX_CONNECTIONS + 1,
            |o| o.connect_timeout = Duration::ZERO,
            |o| o.response_timeout = Duration::ZERO,
            |o| o.max_value_bytes = 0,
            |o| o.max_value_bytes = MAX_VALUE_BYTES + 1,
        ];
        for change in broken {
            let mut options = Options::default();
            assert_eq!(options.check(), Ok(()));
            change(&mut options);
            assert!(options.check().unwrap_err().to_string().contains("Memcached::"));
        }
    }
}
