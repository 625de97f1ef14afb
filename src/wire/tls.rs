//! TLS to a broker: trusted authorities from a PEM file or the machine, host names checked, failures explained.

use std::io;
use std::path::Path;
use std::sync::Arc;

use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{CertificateError, ClientConfig, Error as TlsError, RootCertStore, crypto::ring};

use crate::endpoint::{Error, ErrorKind, Result, Security};

/// What a cluster's connections need for TLS, read once.
#[derive(Clone)]
pub(super) struct Tls {
    alias: Arc<str>,
    connector: TlsConnector,
}

impl Tls {
    /// Reads the trusted authorities.
    ///
    /// # Errors
    /// `Denied`, naming the config key, when the file cannot be read or holds no certificate.
    pub(super) fn new(alias: &Arc<str>, security: &Security) -> Result<Self> {
        let roots = match &security.ca {
            Some(file) => {
                roots_of(file).map_err(|why| denied(alias, format!("clusters.{alias}.security.ca: {why}")))?
            }
            None => native_roots(alias)?,
        };
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("the ring provider has cipher suites for TLS 1.2 and 1.3")
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Self { alias: alias.clone(), connector: TlsConnector::from(Arc::new(config)) })
    }

    /// Shakes hands over a fresh connection to `host`, whose certificate must be valid for that name.
    pub(super) async fn connect(&self, host: &str, address: &str, stream: TcpStream) -> Result<TlsStream<TcpStream>> {
        let name = ServerName::try_from(host.to_owned())
            .map_err(|_| denied(&self.alias, format!("broker {address}: `{host}` is not a name TLS can check")))?;
        self.connector.connect(name, stream).await.map_err(|e| explain(&self.alias, host, address, &e))
    }
}

fn denied(alias: &str, why: impl std::fmt::Display) -> Error {
    Error::new(ErrorKind::Denied, format!("cluster {alias}: {why}"))
}

fn roots_of(file: &Path) -> Result<RootCertStore, String> {
    let pem = std::fs::read(file).map_err(|e| format!("cannot read {}: {e}", file.display()))?;
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&pem) {
        let certificate = certificate.map_err(|e| format!("{} is not PEM: {e}", file.display()))?;
        roots
            .add(certificate)
            .map_err(|e| format!("{} holds a certificate that cannot be used: {e}", file.display()))?;
    }
    if roots.is_empty() { Err(format!("{} holds no certificate in PEM form", file.display())) } else { Ok(roots) }
}

fn native_roots(alias: &str) -> Result<RootCertStore> {
    let mut roots = RootCertStore::empty();
    let found = rustls_native_certs::load_native_certs();
    // A machine's store often holds single certificates rustls cannot use; the others still count.
    roots.add_parsable_certificates(found.certs);
    if roots.is_empty() {
        let why = "this machine has no trusted authorities; name a PEM file in";
        return Err(denied(alias, format!("{why} clusters.{alias}.security.ca")));
    }
    Ok(roots)
}

fn explain(alias: &str, host: &str, address: &str, error: &io::Error) -> Error {
    let tls = error.get_ref().and_then(|inner| inner.downcast_ref::<TlsError>());
    let at = format!("broker {address}");
    match tls {
        // A bad signature: the authority's name is known here, but with another key, as when it was made anew.
        Some(TlsError::InvalidCertificate(CertificateError::UnknownIssuer | CertificateError::BadSignature)) => denied(
            alias,
            format!(
                "{at}: its certificate comes from an authority that is not trusted here; put that authority's PEM file \
                 into clusters.{alias}.security.ca"
            ),
        ),
        Some(TlsError::InvalidCertificate(
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
        )) => denied(
            alias,
            format!(
                "{at}: its certificate is not valid for the name `{host}`; use a name from the certificate in \
                 clusters.{alias}.bootstrap and in the brokers' advertised.listeners, or issue it for `{host}`"
            ),
        ),
        Some(TlsError::InvalidCertificate(CertificateError::Expired | CertificateError::ExpiredContext { .. })) => {
            denied(alias, format!("{at}: its certificate has expired (or this machine's clock is wrong)"))
        }
        Some(TlsError::InvalidCertificate(why)) => denied(alias, format!("{at}: its certificate is refused: {why}")),
        Some(TlsError::InvalidMessage(_)) => {
            denied(alias, format!("{at} does not answer in TLS; check the port and clusters.{alias}.security.protocol"))
        }
        Some(other) => denied(alias, format!("{at}: TLS failed: {other}; see clusters.{alias}.security")),
        None => {
            Error::new(ErrorKind::Retryable, format!("cluster {alias}: {at}: lost during the TLS handshake: {error}"))
        }
    }
}

#[cfg(test)]
#[path = "tls_tests.rs"]
mod tests;
