//! Redis over TLS, with an authority of our own, over a unix socket, and as a user of an access list.

use std::{fs, path::Path, time::Duration};

use bytes::Bytes;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use tiered_tiers::{
    Redis, RemoteTier, TierError,
    testing::{RedisCluster, RedisServer, RedisServerBuilder, bus_conforms, remote_tier_conforms},
};

use crate::heals;

const LIFE: Duration = Duration::from_secs(600);
/// For what is not about deadlines, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(2);

/// An authority, and what it has signed.
struct Certificates {
    authority: String,
    server: (String, String),
    client: (String, String),
}

fn certificates() -> Certificates {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    // OpenSSL takes an issuer of its subject's name for the subject itself.
    params.distinguished_name.push(DnType::CommonName, "an authority");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let signed = |name: &str| {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &authority).unwrap();
        (certificate.pem(), key.serialize_pem())
    };
    let (server, client) = (signed("127.0.0.1"), signed("client.example"));
    Certificates { authority: authority.pem(), server, client }
}

/// Lines of `redis.conf` by which a server has its certificate.
fn settings(
    certificates: &Certificates,
    directory: &Path,
    clients: &str,
) -> [(&'static str, String); 4] {
    let file = |name: &str, text: &str| {
        let path = directory.join(name);
        fs::write(&path, text).unwrap();
        path.to_string_lossy().into_owned()
    };
    [
        ("tls-cert-file", file("server.crt", &certificates.server.0)),
        ("tls-key-file", file("server.key", &certificates.server.1)),
        ("tls-ca-cert-file", file("ca.crt", &certificates.authority)),
        ("tls-auth-clients", clients.to_owned()),
    ]
}

/// A server that speaks TLS on a second port, which is returned.
async fn serving(
    certificates: &Certificates,
    directory: &Path,
    clients: &str,
) -> (RedisServer, u16) {
    let settings = settings(certificates, directory, clients);
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let mut builder = RedisServer::builder().config("tls-port", &port.to_string());
    for (name, value) in &settings {
        builder = builder.config(name, value);
    }
    let server = builder.start().await.unwrap();
    (server, port)
}

fn scratch() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

#[tokio::test]
async fn redis_conforms_over_tls() {
    let (directory, certificates) = (scratch(), certificates());
    let (mut server, port) = serving(&certificates, directory.path(), "no").await;
    let tier =
        Redis::new(&format!("rediss://127.0.0.1:{port}/")).unwrap().response_timeout(PATIENCE);
    let tier = std::sync::Arc::new(tier.certificate_authority(certificates.authority));
    remote_tier_conforms(tier.clone()).await;
    bus_conforms(&tier.bus()).await;
    server.restart().await.unwrap();
    heals(&*tier).await;
}

/// Every node is dialled where it speaks TLS, and its certificate is checked as the first one's is.
#[tokio::test]
async fn redis_cluster_conforms_over_tls() {
    let (directory, certificates) = (scratch(), certificates());
    let settings = settings(&certificates, directory.path(), "no");
    let settings = settings.each_ref().map(|(name, value)| (*name, value.as_str()));
    let cluster = RedisCluster::start_with(&settings).await.unwrap();
    let tier = Redis::new(&cluster.tls_url()).unwrap().response_timeout(PATIENCE);
    let tier = tier.certificate_authority(certificates.authority);
    bus_conforms(&tier.bus().logs(3)).await;
    remote_tier_conforms(std::sync::Arc::new(tier)).await;
    let strict = Redis::new(&cluster.tls_url()).unwrap();
    let refused = strict.get(b"k").await;
    assert!(matches!(refused, Err(TierError::Unreachable(_))), "{refused:?}");
}

#[tokio::test]
async fn a_server_that_asks_who_comes_is_told() {
    let (directory, certificates) = (scratch(), certificates());
    let (_server, port) = serving(&certificates, directory.path(), "yes").await;
    let open = || {
        let tier = Redis::new(&format!("rediss://127.0.0.1:{port}/")).unwrap();
        tier.certificate_authority(certificates.authority.clone())
    };
    let refused = open().ping().await;
    assert!(matches!(refused, Err(TierError::Unreachable(_))), "{refused:?}");
    let (certificate, key) = certificates.client.clone();
    let known = open().client_certificate(certificate, key);
    known.ping().await.unwrap();
    assert!(!format!("{known:?}").contains("PRIVATE"));
}

#[tokio::test]
async fn a_certificate_of_another_authority_or_name_is_refused() {
    let (directory, ours, theirs) = (scratch(), certificates(), certificates());
    let (_server, port) = serving(&ours, directory.path(), "no").await;
    let stranger = Redis::new(&format!("rediss://127.0.0.1:{port}/")).unwrap();
    let error = stranger.certificate_authority(theirs.authority).ping().await.unwrap_err();
    assert!(error.to_string().contains("certificate"), "{error}");
    // The certificate is for the address, not for the name.
    let named = Redis::new(&format!("rediss://localhost:{port}/")).unwrap();
    let error = named.certificate_authority(ours.authority.clone()).ping().await.unwrap_err();
    assert!(error.to_string().contains("certificate"), "{error}");
    // The system's authorities do not know ours.
    let system = Redis::new(&format!("rediss://127.0.0.1:{port}/")).unwrap();
    if system.check().is_ok() {
        assert!(system.ping().await.is_err());
    }
    // And without TLS the port understands nothing.
    let plain = Redis::new(&format!("redis://127.0.0.1:{port}/")).unwrap();
    assert!(plain.ping().await.is_err());
}

#[tokio::test]
async fn certificates_that_cannot_be_read_are_refused_when_the_cache_is_built() {
    let Certificates { authority, server: (certificate, key), .. } = certificates();
    let open = || Redis::new("rediss://127.0.0.1/").unwrap();
    assert_eq!(open().certificate_authority(authority.clone()).check(), Ok(()));
    let broken = authority.replace("MII", "!!!");
    for (tier, what) in [
        (open().certificate_authority("hunter2"), "certificate_authority"),
        (open().certificate_authority(broken), "certificate_authority"),
        (
            open()
                .certificate_authority(authority.clone())
                .client_certificate(certificate, "hunter2"),
            "client_certificate",
        ),
        (
            open().certificate_authority(authority.clone()).client_certificate("hunter2", key),
            "client_certificate",
        ),
        (
            Redis::new("redis+unix:///hunter2").unwrap().certificate_authority(authority),
            "unix socket",
        ),
    ] {
        let error = tier.check().unwrap_err().to_string();
        assert!(error.contains(what) && !error.contains("hunter2"), "{error}");
    }
}

fn with_socket(directory: &Path) -> (RedisServerBuilder, String) {
    let path = directory.join("redis.sock");
    let path = path.to_string_lossy();
    (RedisServer::builder().config("unixsocket", &path), format!("redis+unix://{path}"))
}

#[tokio::test]
async fn redis_conforms_over_a_unix_socket() {
    let directory = scratch();
    let (builder, url) = with_socket(directory.path());
    let mut server = builder.start().await.unwrap();
    let tier = std::sync::Arc::new(Redis::new(&url).unwrap().response_timeout(PATIENCE));
    remote_tier_conforms(tier.clone()).await;
    bus_conforms(&tier.bus()).await;
    let third = Redis::new(&format!("{url}?db=3")).unwrap();
    third.set(b"k", Bytes::from_static(b"3"), LIFE).await.unwrap();
    assert_eq!(tier.get(b"k").await, Ok(None));
    server.kill().unwrap();
    assert!(matches!(tier.ping().await, Err(TierError::Unreachable(_))));
    server.restart().await.unwrap();
    heals(&*tier).await;
}

#[tokio::test]
async fn a_user_of_an_access_list_sees_its_keys_only() {
    let server = RedisServer::start().await.unwrap();
    let client = redis::Client::open(server.url()).unwrap();
    let mut admin = client.get_multiplexed_async_connection().await.unwrap();
    let mut rules = redis::cmd("ACL");
    rules.arg("SETUSER").arg("cache").arg("on").arg(">hunter2").arg("~shop:*").arg("~{shop:*");
    rules.arg("+@all").arg("-@admin");
    let () = rules.query_async(&mut admin).await.unwrap();
    let tier = Redis::new(&server.url()).unwrap().username("cache").password("hunter2");
    assert!(tier.set(b"shop:k", Bytes::from_static(b"v"), LIFE).await.is_ok());
    assert!(tier.get(b"shop:k").await.unwrap().is_some());
    tier.delete(b"shop:k").await.unwrap();
    assert_eq!(tier.get(b"other:k").await, Err(TierError::Refused("NOPERM".into())));
    let wrong = Redis::new(&server.url()).unwrap().username("cache").password("wrong");
    assert!(matches!(wrong.ping().await, Err(TierError::Refused(_))));
}
