//! Wherever Redis lives: a cluster, behind sentinels, over TLS with an authority of one's own.

use std::{fs, path::Path};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use tiered_tiers::testing::{RedisCluster, RedisSentinel, RedisServer};

use crate::support::{BOUND, Program, until};

/// Two processes share what one has loaded, and what the other changes.
async fn is_shared(directory: &Path, settings: &[(&str, &str)]) {
    let first = Program::start(directory, settings).await;
    let health = first.get("/health").await.expect(200).body();
    assert_eq!((&health["status"], &health["l2"]["name"]), (&"ok".into(), &"redis".into()));
    for id in 1..=8 {
        first.spell(id).await.expect(200);
    }
    first.get("/spells?limit=3").await.expect(200);
    // The first answers before it has stored.
    let second = until("all of it is stored", async || {
        let other = Program::start(directory, settings).await;
        let mut sources = vec![other.get("/spells?limit=3").await.expect(200)];
        for id in 1..=8 {
            sources.push(other.spell(id).await.expect(200));
        }
        sources.iter().all(|reply| reply.source() == "hit_l2").then_some(other)
    })
    .await;
    for id in 1..=3 {
        second.put(id, 70 + id).await.expect(200);
    }
    let third = Program::start(directory, settings).await;
    for id in 1..=3 {
        assert_eq!(third.spell(id).await.expect(200).from("load").damage(), 70 + id);
    }
    let list = third.get("/spells?limit=3").await.expect(200).from("load").body();
    assert_eq!(list[2]["damage"], 73);
}

#[tokio::test]
async fn a_cluster() {
    let (cluster, directory) = (RedisCluster::start().await.unwrap(), tempfile::tempdir().unwrap());
    is_shared(directory.path(), &[("REDIS_URL", &cluster.url())]).await;
}

#[tokio::test]
async fn a_primary_behind_sentinels_and_its_successor() {
    let (mut sentinels, directory) =
        (RedisSentinel::start().await.unwrap(), tempfile::tempdir().unwrap());
    let url = sentinels.url();
    is_shared(directory.path(), &[("REDIS_URL", &url)]).await;
    let service = Program::start(directory.path(), &[("REDIS_URL", &url)]).await;
    service.spell(1).await.expect(200);
    let primary = sentinels.primary().await.unwrap();
    sentinels.kill(primary).unwrap();
    assert_eq!(service.put(1, 401).await.in_time(BOUND).expect(200).damage(), 401);
    assert_eq!(service.spell(1).await.in_time(BOUND).expect(200).damage(), 401);
    sentinels.promoted(primary).await.unwrap();
    until("it works over the successor", async || {
        let health = service.get("/health").await.expect(200).body();
        (health["status"] == "ok" && health["pending_invalidations"] == 0).then_some(())
    })
    .await;
    let other = Program::start(directory.path(), &[("REDIS_URL", &url)]).await;
    assert_eq!(other.spell(1).await.expect(200).damage(), 401, "the successor had the old one");
}

#[tokio::test]
async fn over_tls() {
    let directory = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = directory.path().join(name);
        fs::write(&path, text).unwrap();
        path.to_string_lossy().into_owned()
    };
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    // OpenSSL takes an issuer of its subject's name for the subject itself.
    params.distinguished_name.push(DnType::CommonName, "an authority");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
    let certificate = params.signed_by(&key, &authority).unwrap();
    let authorities = file("ca.crt", &authority.pem());
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let _server = RedisServer::builder()
        .config("tls-port", &port.to_string())
        .config("tls-cert-file", &file("server.crt", &certificate.pem()))
        .config("tls-key-file", &file("server.key", &key.serialize_pem()))
        .config("tls-ca-cert-file", &authorities)
        .config("tls-auth-clients", "no")
        .start()
        .await
        .unwrap();
    let url = format!("rediss://127.0.0.1:{port}/");
    let settings = [("REDIS_URL", url.as_str()), ("REDIS_CA_FILE", authorities.as_str())];
    is_shared(directory.path(), &settings).await;
    // Without the authority it is not believed, and the service goes on without it.
    let doubting = Program::start(directory.path(), &[("REDIS_URL", &url)]).await;
    doubting.spell(1).await.in_time(BOUND).expect(200).from("load");
    let health = doubting.get("/health").await.expect(200).body();
    assert_eq!(health["status"], "degraded");
}
