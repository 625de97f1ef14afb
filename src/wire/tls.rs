//! TLS to a broker: trusted authorities from a PEM file or the machine, our own certificate where brokers ask for one,
//! host names checked, failures explained. The files are read again when they have changed.

use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio_rustls::rustls::{
    AlertDescription, CertificateError, ClientConfig, ConfigBuilder, Error as TlsError, RootCertStore,
    client::WantsClientCert, crypto::ring,
};

use crate::endpoint::{Error, ErrorKind, Result, Security};

/// The TLS settings of a cluster, as its files had them last.
pub(super) struct TlsFiles {
    alias: Arc<str>,
    security: Security,
    last: Mutex<Option<(Files, Tls)>>,
}

/// What stood in the files, in the order authorities, certificate, key. The contents tell a change for sure; times do not
/// where a file is replaced by a link to an older one.
#[derive(PartialEq, Eq)]
struct Files(Vec<Vec<u8>>);

impl TlsFiles {
    /// No I/O yet.
    pub(super) fn new(alias: Arc<str>, security: Security) -> Self {
        Self { alias, security, last: Mutex::default() }
    }

    /// What a new connection needs, from the files as they are now. Files that make no sense, such as a certificate whose
    /// key is still being written, do not replace those that did.
    ///
    /// # Errors
    /// `Denied`, naming the config key, when the first reading fails.
    pub(super) fn now(&self) -> Result<Tls> {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let read = self.read();
        if let (Ok(now), Some((then, tls))) = (&read, &*last)
            && now == then
        {
            return Ok(tls.clone());
        }
        let made = read.and_then(|files| Tls::new(&self.alias, &self.security, &files).map(|tls| (files, tls)));
        match (made, &*last) {
            (Ok((files, tls)), _) => {
                *last = Some((files, tls.clone()));
                Ok(tls)
            }
            (Err(error), Some((_, tls))) => {
                tracing::warn!(%error, "files for TLS have changed and cannot be used: those before stay in use");
                Ok(tls.clone())
            }
            (Err(error), None) => Err(error),
        }
    }

    fn read(&self) -> Result<Files> {
        let Security { ca, identity, .. } = &self.security;
        let identity = identity.as_ref();
        let named =
            [("ca", ca.as_ref()), ("certificate", identity.map(|i| &i.certificate)), ("key", identity.map(|i| &i.key))];
        let read = |(key, file): (&str, Option<&std::path::PathBuf>)| {
            file.map_or(Ok(Vec::new()), |file| {
                std::fs::read(file)
                    .map_err(|e| unusable(&self.alias, key, &format!("cannot read {}: {e}", file.display())))
            })
        };
        named.into_iter().map(read).collect::<Result<_>>().map(Files)
    }
}

/// What a connection needs for TLS.
#[derive(Clone)]
pub(super) struct Tls {
    alias: Arc<str>,
    has_identity: bool,
    connector: TlsConnector,
}

impl Tls {
    fn new(alias: &Arc<str>, security: &Security, Files(files): &Files) -> Result<Self> {
        let roots = match &security.ca {
            Some(file) => roots_of(file, &files[0]).map_err(|why| unusable(alias, "ca", &why))?,
            None => native_roots()
                .map_err(|why| denied(alias, format!("{why}; name a PEM file in clusters.{alias}.security.ca")))?,
        };
        let config = trusting(roots);
        let config = match &security.identity {
            None => config.with_no_client_auth(),
            Some(identity) => {
                let chain = certificates_of(&identity.certificate, &files[1])
                    .map_err(|why| unusable(alias, "certificate", &why))?;
                let key = PrivateKeyDer::from_pem_slice(&files[2]).map_err(|_| {
                    let why = "holds no private key in PEM form; an encrypted one cannot be read";
                    unusable(alias, "key", &format!("{} {why}", identity.key.display()))
                })?;
                config.with_client_auth_cert(chain, key).map_err(|e| {
                    let what =
                        format!("{} is not the key of {}", identity.key.display(), identity.certificate.display());
                    unusable(alias, "key", &format!("{what}, or of a kind that is not known here ({e})"))
                })?
            }
        };
        let has_identity = security.identity.is_some();
        Ok(Self { alias: alias.clone(), has_identity, connector: TlsConnector::from(Arc::new(config)) })
    }

    /// Shakes hands over a fresh connection to `host`, whose certificate must be valid for that name.
    pub(super) async fn connect(&self, host: &str, address: &str, stream: TcpStream) -> Result<TlsStream<TcpStream>> {
        let name = server_name(host).map_err(|why| denied(&self.alias, format!("broker {address}: {why}")))?;
        self.connector.connect(name, stream).await.map_err(|error| match is_about_our_certificate(&error) {
            true => {
                let advice = what_certificate_to_show(&self.alias, self.has_identity);
                denied(&self.alias, format!("broker {address}: {error}; {advice}"))
            }
            false => explain(&self.alias, host, address, &error),
        })
    }
}

fn denied(alias: &str, why: impl std::fmt::Display) -> Error {
    Error::new(ErrorKind::Denied, format!("cluster {alias}: {why}"))
}

fn unusable(alias: &str, key: &str, why: &str) -> Error {
    denied(alias, format!("clusters.{alias}.security.{key}: {why}"))
}

/// TLS to who is no broker: with these authorities, or the machine's.
pub(super) fn connector(ca: Option<&Path>) -> Result<TlsConnector, String> {
    let roots = match ca {
        Some(file) => {
            let pem = std::fs::read(file).map_err(|e| format!("cannot read {}: {e}", file.display()))?;
            roots_of(file, &pem)?
        }
        None => native_roots()?,
    };
    Ok(TlsConnector::from(Arc::new(trusting(roots).with_no_client_auth())))
}

/// The name a certificate must be for.
pub(super) fn server_name(host: &str) -> Result<ServerName<'static>, String> {
    ServerName::try_from(host.to_owned()).map_err(|_| format!("`{host}` is not a name TLS can check"))
}

fn trusting(roots: RootCertStore) -> ConfigBuilder<ClientConfig, WantsClientCert> {
    ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("the ring provider has cipher suites for TLS 1.2 and 1.3")
        .with_root_certificates(roots)
}

/// The certificates in the text of a file.
fn certificates_of(file: &Path, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let certificates = read.map_err(|e| format!("{} is not PEM: {e}", file.display()))?;
    match certificates.is_empty() {
        true => Err(format!("{} holds no certificate in PEM form", file.display())),
        false => Ok(certificates),
    }
}

fn roots_of(file: &Path, pem: &[u8]) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates_of(file, pem)? {
        roots
            .add(certificate)
            .map_err(|e| format!("{} holds a certificate that cannot be used: {e}", file.display()))?;
    }
    Ok(roots)
}

fn native_roots() -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    let found = rustls_native_certs::load_native_certs();
    // A machine's store often holds single certificates rustls cannot use; the others still count.
    roots.add_parsable_certificates(found.certs);
    if roots.is_empty() { Err("this machine has no trusted authorities".to_owned()) } else { Ok(roots) }
}

/// Whether the other side ended the connection because of our certificate, or for the want of one. In TLS 1.3 that comes
/// behind the handshake, in place of the first answer.
pub(super) fn is_about_our_certificate(error: &io::Error) -> bool {
    use AlertDescription as Alert;
    let tls = error.get_ref().and_then(|inner| inner.downcast_ref::<TlsError>());
    // Java says BadCertificate when it gets none.
    matches!(
        tls,
        Some(TlsError::AlertReceived(
            Alert::CertificateRequired
                | Alert::BadCertificate
                | Alert::UnsupportedCertificate
                | Alert::CertificateRevoked
                | Alert::CertificateExpired
                | Alert::CertificateUnknown
                | Alert::UnknownCA
                | Alert::DecryptError
                | Alert::AccessDenied
        ))
    )
}

/// What to do about that.
pub(super) fn what_certificate_to_show(alias: &str, has_identity: bool) -> String {
    let keys = format!("clusters.{alias}.security.certificate and clusters.{alias}.security.key");
    match has_identity {
        true => format!("{keys} must be in force and from an authority that the brokers trust"),
        false => format!("the brokers want a certificate of their clients: set {keys}"),
    }
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
