//! Which server a key lives on.
//!
//! Rendezvous hashing (Thaler and Ravishankar, 1998): every server scores the key, the highest has it.
//! A server that is added or taken away moves its own share of the keys alone. The client's own router
//! is not used: it hashes by what Rust's standard library may change, and two processes that disagree on
//! a key's server would not see each other's invalidations.

use std::sync::Arc;

use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::{key::Spelling, pool::Peer};
use crate::{ConfigError, TierError};

/// The servers, as they were written.
#[derive(Clone, Debug)]
pub(super) struct Servers(Vec<Server>);

#[derive(Clone, Debug)]
struct Server {
    address: String,
    seed: u64,
    /// Of all runtimes' connections.
    peer: Arc<Peer>,
}

/// What every refusal of a list ends with.
const FORM: &str = "write host:port,host:port; the port may be left out";

impl Servers {
    /// Reads a comma-separated list.
    pub(super) fn from_list(list: &str) -> Result<Self, ConfigError> {
        let mut servers = Vec::<Server>::new();
        for (place, written) in (1..).zip(list.split(',').map(str::trim)) {
            // An address may hold a password, so its place is all that is told of it.
            let refused =
                |why| ConfigError::new(format!("memcached address number {place} {why}: {FORM}"));
            let address = address(written).map_err(refused)?;
            if servers.iter().any(|server| server.address == address) {
                return Err(refused("is there twice"));
            }
            let seed = xxh3_64_with_seed(address.as_bytes(), 0);
            servers.push(Server { address, seed, peer: Arc::default() });
        }
        Ok(Self(servers))
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// Each server's address, and where its dials land.
    pub(super) fn each(&self) -> impl Iterator<Item = (&str, Arc<Peer>)> {
        self.0.iter().map(|server| (server.address.as_str(), Arc::clone(&server.peer)))
    }

    /// The number of the server that has a key.
    pub(super) fn of(&self, key: &Spelling) -> usize {
        let score = |server: &Server| xxh3_64_with_seed(&key.value, server.seed);
        let best = self.0.iter().enumerate().max_by_key(|(_, server)| score(server));
        best.map_or(0, |(number, _)| number)
    }
}

/// There is no server of that number; there always is.
pub(super) fn none() -> TierError {
    TierError::Unreachable("no server is configured".into())
}

/// `host:port`, whatever was left out.
fn address(written: &str) -> Result<String, &'static str> {
    if written.is_empty() {
        return Err("is empty");
    }
    if written.contains("://") || written.contains(['@', '/', ' ']) {
        return Err("is no host:port");
    }
    let (host, port) = match written.rsplit_once(':') {
        // An IPv6 address without a port ends with its bracket.
        Some((host, port)) if !port.ends_with(']') => (host, port),
        _ => (written, "11211"),
    };
    let is_v6 = host.starts_with('[') && host.ends_with(']');
    if host.is_empty() || (host.contains(':') && !is_v6) {
        return Err("is no host:port");
    }
    match port.parse::<u16>() {
        Ok(port) if port != 0 => Ok(format!("{host}:{port}")),
        _ => Err("has no port between 1 and 65535"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_or_refused() {
        let servers = Servers::from_list("a, b:7 ,[::1]:9,[::2]").unwrap();
        let written: Vec<&str> = servers.each().map(|(address, _)| address).collect();
        assert_eq!(written, ["a:11211", "b:7", "[::1]:9", "[::2]:11211"]);
        for list in ["", "a,", "a:0", "a:70000", "a:x", ":1", "memcache://a:1", "a,a:11211", "::1"]
        {
            let error = Servers::from_list(list).unwrap_err().to_string();
            assert!(error.contains("host:port"), "{error}");
        }
    }

    #[test]
    fn a_refused_address_is_not_quoted() {
        for list in [
            "memcached://user:hunter2@host:11211",
            "a,user:hunter2@host",
            "a,b,hunter2:x",
            "a,hunter2 host",
            "hunter2:1,hunter2:1",
        ] {
            let error = Servers::from_list(list).unwrap_err().to_string();
            let place = format!("number {}", list.split(',').count());
            assert!(!error.contains("hunter2") && error.contains(&place), "{error}");
        }
    }

    #[test]
    fn a_server_that_goes_moves_its_own_keys_alone() {
        let all = Servers::from_list("a,b,c,d").unwrap();
        let fewer = Servers::from_list("d,a,c").unwrap();
        let address = |servers: &Servers, server: usize| servers.0[server].address.clone();
        let mut counts = [0; 4];
        for number in 0..10_000 {
            let key = Spelling::of(format!("shop:user:{number}").as_bytes());
            let (before, after) = (all.of(&key), fewer.of(&key));
            counts[before] += 1;
            if address(&all, before) != "b:11211" {
                assert_eq!(address(&all, before), address(&fewer, after));
            }
        }
        assert!(counts.iter().all(|count| (2_250..2_750).contains(count)), "{counts:?}");
    }

    #[test]
    fn a_keys_server_is_the_same_in_every_build() {
        let servers = Servers::from_list("a,b,c,d").unwrap();
        let of = |key: &[u8]| servers.of(&Spelling::of(key));
        let golden: Vec<usize> =
            ["user:1", "user:2", "user:3", "user:4", "user:5"].map(|key| of(key.as_bytes())).into();
        assert_eq!(golden, [1, 3, 2, 1, 3]);
    }
}
