//! Where the servers are, told by a URL, and every form of it.
//!
//! The URL is read here and not by redis-rs: its errors cannot say what is wrong, and a URL whose
//! password holds a raw `/` or `#` must be refused without any part of it showing up in the
//! message, for that part may be half of the password. Several hosts are split at their commas
//! before any parser sees them: to a parser of URLs they are one host with a strange port.

use url::{Host, Url};

#[cfg(feature = "redis-tls")]
use super::tls::Tls;
use super::{
    endpoint::{Address, Endpoint},
    options::{Options, Secret},
    sentinel::Sentinels,
};
use crate::ConfigError;

/// What every refusal of a URL ends with.
const FORM: &str = "write redis://[user:password@]host[:port][/database], or rediss:// for TLS, or \
                    redis+unix:///path, or redis+cluster://[user:password@]host:port,host:port, or \
                    redis+sentinel://[user:password@]host:port,host:port/name[/database], with special \
                    characters of user and password percent-encoded, or give them to .username() and .password()";

/// The most seeds or sentinels that may be named.
const MAX_HOSTS: usize = 64;

/// A URL of one server, taken apart.
struct Parts {
    is_tls: bool,
    host: String,
    port: Option<u16>,
    username: Option<Secret>,
    password: Option<Secret>,
    path: String,
}

/// Takes a URL of any form apart. No part of it is ever quoted in the error.
pub(super) fn options(text: &str) -> Result<Options, ConfigError> {
    let (scheme, rest) = text.split_once(':').unwrap_or_default();
    let plain = match scheme {
        "redis+cluster" | "redis+sentinel" => "redis",
        "rediss+cluster" | "rediss+sentinel" => "rediss",
        #[cfg(unix)]
        "unix" | "redis+unix" | "valkey+unix" => return socket(text),
        _ => {
            let parts = Parts::of(text)?;
            let number = database(&parts.path)?;
            let address = parts.address(6379);
            return Ok(Options { database: number, ..parts.options(Endpoint::Tcp(address)) });
        }
    };
    let rest = rest.strip_prefix("//").ok_or_else(|| refused("names no host"))?;
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at_checked(end).unwrap_or((rest, ""));
    let (login, hosts) = match authority.rsplit_once('@') {
        Some((login, hosts)) => (format!("{login}@"), hosts),
        None => (String::new(), authority),
    };
    let each = hosts.split(',').map(|host| Parts::of(&format!("{plain}://{host}")));
    let hosts = each.take(MAX_HOSTS + 1).collect::<Result<Vec<_>, _>>()?;
    let named = Parts::of(&format!("{plain}://{login}host{path}"))?;
    if scheme.ends_with("+cluster") {
        if !named.path.trim_matches('/').is_empty() {
            return Err(refused("names a database: a cluster has one only"));
        }
        let endpoint = Endpoint::Cluster(addresses(&hosts, 6379)?.into());
        return Ok(named.options(endpoint));
    }
    let path = named.path.trim_start_matches('/');
    let (service, number) = path.split_once('/').unwrap_or((path, ""));
    let sentinels = Sentinels::new(addresses(&hosts, 26379)?, checked_service(service)?);
    let number = database(number)?;
    Ok(Options { database: number, ..named.options(Endpoint::Sentinels(sentinels.into())) })
}

/// The options of a cluster, by the URLs of some of its nodes.
pub(super) fn cluster<U: AsRef<str>>(
    seeds: impl IntoIterator<Item = U>,
) -> Result<Options, ConfigError> {
    let (seeds, login) = alike(seeds)?;
    let endpoint = Endpoint::Cluster(addresses(&seeds, 6379)?.into());
    Ok(login.options(endpoint))
}

/// The options of the primary called `service`, by the URLs of its sentinels; what those hold of a login
/// is the sentinels'.
pub(super) fn sentinels<U: AsRef<str>>(
    sentinels: impl IntoIterator<Item = U>,
    service: &str,
) -> Result<Options, ConfigError> {
    let (hosts, login) = alike(sentinels)?;
    let mut sentinels = Sentinels::new(addresses(&hosts, 26379)?, checked_service(service)?);
    sentinels.username = login.username.clone();
    sentinels.password = login.password.clone();
    let servers = Parts { username: None, password: None, ..login };
    Ok(servers.options(Endpoint::Sentinels(sentinels.into())))
}

/// Several URLs that differ in their hosts only, and one that has the login, if any has.
fn alike<U: AsRef<str>>(
    urls: impl IntoIterator<Item = U>,
) -> Result<(Vec<Parts>, Parts), ConfigError> {
    let parts = urls.into_iter().take(MAX_HOSTS + 1).map(|url| Parts::of(url.as_ref()));
    let parts = parts.collect::<Result<Vec<_>, _>>()?;
    let with_login = parts.iter().find(|parts| parts.password.is_some());
    let Some(model) = with_login.or(parts.first()) else {
        return Err(refused("list is empty: name at least one"));
    };
    let model = Parts { path: String::new(), host: String::new(), ..model.clone_parts() };
    for parts in &parts {
        if parts.is_tls != model.is_tls {
            return Err(refused("list mixes redis:// and rediss://"));
        }
        let login = (&parts.username, &parts.password);
        if login != (&None, &None) && login != (&model.username, &model.password) {
            return Err(refused("list holds different users or passwords"));
        }
        if !parts.path.trim_matches('/').is_empty() {
            return Err(refused("list holds one with a path: name hosts and ports only"));
        }
    }
    Ok((parts, model))
}

fn addresses(hosts: &[Parts], port: u16) -> Result<Vec<Address>, ConfigError> {
    if hosts.len() > MAX_HOSTS {
        return Err(refused(&format!("names more than {MAX_HOSTS} hosts: a few are enough")));
    }
    let mut addresses: Vec<Address> = Vec::new();
    for host in hosts {
        let address = host.address(port);
        if !addresses.contains(&address) {
            addresses.push(address);
        }
    }
    Ok(addresses)
}

/// The name under which sentinels watch a primary: they allow no other characters.
fn checked_service(name: &str) -> Result<String, ConfigError> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
    if name.is_empty() || !name.bytes().all(plain) {
        return Err(refused(
            "has no name of a primary, in letters, digits and .-_, for its sentinels",
        ));
    }
    Ok(name.to_owned())
}

impl Parts {
    /// Takes the URL of one server apart.
    fn of(text: &str) -> Result<Self, ConfigError> {
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
        if url.port() == Some(0) {
            return Err(refused("names port 0"));
        }
        Ok(Self {
            is_tls,
            host,
            port: url.port(),
            username: secret(url.username(), "username")?,
            password: secret(url.password().unwrap_or_default(), "password")?,
            path: url.path().to_owned(),
        })
    }

    fn clone_parts(&self) -> Self {
        let Self { is_tls, port, .. } = *self;
        let (host, path) = (self.host.clone(), self.path.clone());
        let (username, password) = (self.username.clone(), self.password.clone());
        Self { is_tls, host, port, username, password, path }
    }

    fn address(&self, port: u16) -> Address {
        Address { host: self.host.clone(), port: self.port.unwrap_or(port) }
    }

    fn options(self, endpoint: Endpoint) -> Options {
        Options {
            #[cfg(feature = "redis-tls")]
            tls: self.is_tls.then(Tls::default),
            username: self.username,
            password: self.password,
            ..Options::at(endpoint)
        }
    }
}

/// A unix socket, by its path; `?db=` tells the database.
#[cfg(unix)]
fn socket(text: &str) -> Result<Options, ConfigError> {
    use std::os::unix::ffi::OsStringExt;
    if text.chars().any(|c| c.is_control() || c == ' ') {
        return Err(refused("holds a space or a control character"));
    }
    let url = Url::parse(text).map_err(|error| refused(&format!("does not parse: {error}")))?;
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
    Ok(Options { database: number, ..Options::at(Endpoint::Unix(path.into())) })
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

    fn opened(url: &str) -> Options {
        options(url).unwrap()
    }

    impl PartialEq for Endpoint {
        fn eq(&self, other: &Self) -> bool {
            format!("{self:?}") == format!("{other:?}")
        }
    }

    fn tcp(host: &str, port: u16) -> Endpoint {
        Endpoint::Tcp(address(host, port))
    }

    fn address(host: &str, port: u16) -> Address {
        Address { host: host.into(), port }
    }

    #[cfg(unix)]
    #[test]
    fn a_socket_is_told_by_its_path() {
        for (url, path, database) in [
            ("redis+unix:///run/redis.sock", "/run/redis.sock", 0),
            ("unix:///a%20b?db=7", "/a b", 7),
            ("valkey+unix:///x", "/x", 0),
        ] {
            let options = opened(url);
            assert_eq!(options.endpoint, Endpoint::Unix(path.into()));
            assert_eq!(options.database, database);
        }
    }

    #[test]
    fn a_url_is_taken_apart() {
        let plain = opened("redis://127.0.0.1/");
        assert!(plain.username.is_none() && plain.password.is_none());
        assert_eq!((plain.endpoint, plain.database), (tcp("127.0.0.1", 6379), 0));
        let full = opened("redis://us%3Aer:p%40ss%00%FF@cache.example:7000/3");
        assert_eq!((full.endpoint, full.database), (tcp("cache.example", 7000), 3));
        assert_eq!(full.username, Some(Secret::new("us:er")));
        assert_eq!(full.password, Some(Secret::new(b"p@ss\0\xff".as_slice())));
        assert_eq!(opened("valkey://[::1]:6380").endpoint, tcp("::1", 6380));
        assert_eq!(opened("redis://:only@host").password, Some(Secret::new("only")));
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
            "redis+cluster://:hunter2/more@host:1,host:2",
            "redis+cluster://user:123/hunter2@host",
            "redis+cluster://:hunter2@host:1,,host:2",
            "redis+cluster://:hunter2@host:1,host:99999",
            "redis+cluster://:hunter2@host/3",
            "redis+cluster://:hun,ter2@host:1#x",
            "redis+cluster://",
            "redis+sentinel://:hunter2@host:1,host:2",
            "redis+sentinel://user:123/4567@hunter2",
            "redis+sentinel://:hunter2@host/name/x",
            "redis+sentinel://:hunter2@host/na%20me",
            "redis+sentinel://:hunter2@host?name=hunter2",
        ] {
            let error = options(url).expect_err(url).to_string();
            assert!(!error.contains("hunter") && !error.contains("4567"), "{url}: {error}");
            assert!(error.contains("redis://[user:password@]host"), "{url}: {error}");
        }
    }

    #[test]
    fn a_cluster_is_told_by_some_of_its_nodes() {
        for url in [
            "redis+cluster://us%3Aer:p%40s,s@a:7000,[::1],a:7000,b.example:7001",
            "redis+cluster://us%3Aer:p%40s,s@a:7000,[::1]:6379,b.example:7001/",
        ] {
            let options = opened(url);
            let nodes = [address("a", 7000), address("::1", 6379), address("b.example", 7001)];
            assert_eq!(options.endpoint, Endpoint::Cluster(nodes.as_slice().into()));
            assert_eq!(options.username, Some(Secret::new("us:er")));
            assert_eq!(options.password, Some(Secret::new("p@s,s")));
        }
        let listed = cluster(["redis://a:7000", "redis://:p@b"]).unwrap();
        let nodes = [address("a", 7000), address("b", 6379)];
        assert_eq!(listed.endpoint, Endpoint::Cluster(nodes.as_slice().into()));
        assert_eq!(listed.password, Some(Secret::new("p")));
    }

    #[test]
    fn sentinels_are_told_with_the_name_of_their_primary() {
        let options = opened("redis+sentinel://u:p@a:1,b/my.master-1/3");
        let Endpoint::Sentinels(sentinels) = &options.endpoint else { panic!("{options:?}") };
        assert_eq!(sentinels.addresses, [address("a", 1), address("b", 26379)]);
        assert_eq!((sentinels.service.as_str(), options.database), ("my.master-1", 3));
        assert_eq!(options.password, Some(Secret::new("p")));
        assert!(sentinels.password.is_none());
        let options = sentinels_of(&["redis://:s@a", "redis://b:2"]);
        let Endpoint::Sentinels(sentinels) = &options.endpoint else { panic!("{options:?}") };
        assert_eq!(sentinels.addresses, [address("a", 26379), address("b", 2)]);
        assert_eq!(sentinels.password, Some(Secret::new("s")));
        assert!(options.password.is_none());
    }

    fn sentinels_of(urls: &[&str]) -> Options {
        sentinels(urls, "name").unwrap()
    }

    #[test]
    fn lists_that_contradict_themselves_are_refused() {
        let none: [&str; 0] = [];
        let lists: [&[&str]; 6] = [
            &none,
            &["redis://a", "rediss://b"],
            &["redis://:hunter2@a", "redis://:hunter3@b"],
            &["redis://a/1"],
            &["redis://a", "redis+unix:///b"],
            &["a:7000"],
        ];
        for list in lists {
            let error = cluster(list).unwrap_err().to_string();
            assert!(!error.contains("hunter"), "{error}");
            assert!(sentinels(list, "name").is_err(), "{list:?}");
        }
        for name in ["", "a b", "a/b", "a@b"] {
            assert!(sentinels(["redis://a"], name).is_err(), "{name}");
        }
    }
}
