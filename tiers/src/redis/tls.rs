//! TLS, by rustls: whom to believe, and who to be.
//!
//! The provider of its cryptography is named here, so an application need not install one for its whole
//! process. Nothing switches the check of certificates off.

use std::{
    fmt,
    sync::{Arc, OnceLock},
};

use tokio::net::TcpStream;
use tokio_rustls::{
    TlsConnector,
    client::TlsStream,
    rustls::{
        ClientConfig, RootCertStore,
        crypto::ring::default_provider,
        pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
    },
};

use super::options::Secret;
use crate::{ConfigError, TierError};

/// What TLS is spoken with.
#[derive(Clone, Default)]
pub(super) struct Tls {
    /// The authorities that are believed, in PEM; the system's, without.
    authorities: Option<Vec<u8>>,
    /// A certificate and its key, in PEM, for servers that ask who comes.
    identity: Option<(Vec<u8>, Secret)>,
    /// Made of these when it is first needed, once for all servers.
    connector: Arc<OnceLock<Result<TlsConnector, ConfigError>>>,
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls")
            .field("own_authorities", &self.authorities.is_some())
            .field("has_identity", &self.identity.is_some())
            .finish()
    }
}

impl Tls {
    pub(super) fn believe(&mut self, authorities: Vec<u8>) {
        *self = Self {
            authorities: Some(authorities),
            identity: self.identity.take(),
            ..Self::default()
        };
    }

    pub(super) fn identify(&mut self, certificate: Vec<u8>, key: Secret) {
        let authorities = self.authorities.take();
        *self = Self { authorities, identity: Some((certificate, key)), ..Self::default() };
    }

    /// Refuses what cannot be read. Reads the system's certificates, if those are meant.
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        self.connector().map(drop)
    }

    /// Speaks TLS over a stream to `host`.
    pub(super) async fn over(
        &self,
        stream: TcpStream,
        host: &str,
    ) -> Result<TlsStream<TcpStream>, TierError> {
        let unreachable = |words: String| TierError::Unreachable(words);
        let connector = self.connector().map_err(|error| unreachable(error.to_string()))?;
        let name = ServerName::try_from(host.to_owned()).map_err(|_| {
            unreachable("the host's name is none that a certificate can have".into())
        })?;
        // What goes wrong is said by rustls: it knows names and certificates, and no secret.
        connector
            .connect(name, stream)
            .await
            .map_err(|error| unreachable(format!("no TLS with the server: {error}")))
    }

    fn connector(&self) -> Result<TlsConnector, ConfigError> {
        self.connector.get_or_init(|| self.connect_with()).clone()
    }

    fn connect_with(&self) -> Result<TlsConnector, ConfigError> {
        let refused = |what: &str| ConfigError::new(format!("Redis::{what}"));
        let mut roots = RootCertStore::empty();
        match &self.authorities {
            Some(pem) => {
                for certificate in certificates(pem) {
                    let certificate = certificate.map_err(|()| {
                        refused("certificate_authority cannot be read: give certificates in PEM")
                    })?;
                    roots.add(certificate).map_err(|_| {
                        refused("certificate_authority holds a certificate that is none of an authority")
                    })?;
                }
                if roots.is_empty() {
                    return Err(refused(
                        "certificate_authority holds no certificate: give it in PEM",
                    ));
                }
            }
            None => {
                roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
                if roots.is_empty() {
                    return Err(refused(
                        "new was given rediss://, and this system has no certificates of authorities: install \
                         them (ca-certificates), or give your own to .certificate_authority(..)",
                    ));
                }
            }
        }
        let config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|_| refused("new found no version of TLS to speak"))?
            .with_root_certificates(roots);
        let config = match &self.identity {
            None => config.with_no_client_auth(),
            Some((pem, key)) => {
                let unread = || {
                    refused("client_certificate cannot be read: give certificate and key in PEM")
                };
                let chain =
                    certificates(pem).collect::<Result<Vec<_>, ()>>().map_err(|()| unread())?;
                let key = PrivateKeyDer::from_pem_slice(key.expose()).map_err(|_| unread())?;
                config.with_client_auth_cert(chain, key).map_err(|_| unread())?
            }
        };
        Ok(TlsConnector::from(Arc::new(config)))
    }
}

fn certificates(pem: &[u8]) -> impl Iterator<Item = Result<CertificateDer<'static>, ()>> + '_ {
    CertificateDer::pem_slice_iter(pem).map(|certificate| certificate.map_err(drop))
}
