use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, date_time_ymd};
use tempfile::TempDir;
use tokio::io::AsyncReadExt;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::server::WebPkiClientVerifier;

use super::*;
use crate::endpoint::Identity;
use crate::runtime::tasks::TaskScope;

const MADE: &str = "rcgen makes keys and certificates from these parameters";

/// A TLS server on loopback with an authority of its own, whose files clients may use.
struct Server {
    address: String,
    authority: std::path::PathBuf,
    issuer: CertifiedIssuer<'static, KeyPair>,
    scope: TaskScope,
    directory: TempDir,
}

/// A server whose certificate is for `name`.
async fn server(name: &str) -> Server {
    server_with(CertificateParams::new(vec![name.to_owned()]).expect(MADE), false).await
}

async fn server_with(certificate: CertificateParams, wants_certificates: bool) -> Server {
    let mut authority = CertificateParams::new(Vec::new()).expect(MADE);
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let issuer = CertifiedIssuer::self_signed(authority, KeyPair::generate().expect(MADE)).expect(MADE);
    let key = KeyPair::generate().expect(MADE);
    let certificate = certificate.signed_by(&key, &issuer).expect(MADE);
    let directory = TempDir::new().expect("a directory");
    let file = directory.path().join("ca.pem");
    std::fs::write(&file, issuer.pem()).expect("writable");

    let ring = Arc::new(ring::default_provider());
    let config =
        ServerConfig::builder_with_provider(ring.clone()).with_safe_default_protocol_versions().expect("versions");
    let config = match wants_certificates {
        false => config.with_no_client_auth(),
        true => {
            let roots = Arc::new(roots_of(&file, issuer.pem().as_bytes()).expect("an authority"));
            let verifier = WebPkiClientVerifier::builder_with_provider(roots, ring).build().expect("roots");
            config.with_client_cert_verifier(verifier)
        }
    };
    let key = PrivateKeyDer::try_from(key.serialize_der()).expect("a PKCS #8 key");
    let config = config.with_single_cert(vec![certificate.der().clone()], key).expect("key and certificate fit");
    let (acceptor, listener) =
        (TlsAcceptor::from(Arc::new(config)), TcpListener::bind("127.0.0.1:0").await.expect("a port"));
    let address = listener.local_addr().expect("bound").to_string();
    let scope = TaskScope::new();
    scope.spawn_until_stopped(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let _ = acceptor.accept(stream).await;
        }
    });
    Server { address, authority: file, issuer, scope, directory }
}

impl Server {
    /// Writes a certificate of our own from this server's authority.
    fn identity(&self, name: &str) -> Identity {
        let at = |end: &str| self.directory.path().join(format!("{name}.{end}"));
        let identity = Identity { certificate: at("pem"), key: at("key") };
        let key = KeyPair::generate().expect(MADE);
        let certificate = CertificateParams::new(Vec::new()).expect(MADE).signed_by(&key, &self.issuer).expect(MADE);
        std::fs::write(&identity.certificate, certificate.pem()).expect("writable");
        std::fs::write(&identity.key, key.serialize_pem()).expect("writable");
        identity
    }
}

fn files(ca: &Path, identity: Option<Identity>) -> TlsFiles {
    TlsFiles::new("lyon".into(), Security { ca: Some(ca.to_owned()), identity, ..Security::default() })
}

/// Shakes hands and waits for the server to hang up, which is when it says what it thinks of us.
async fn enter_with(server: &Server, host: &str, files: &TlsFiles) -> Result<io::Result<()>> {
    let tls = files.now()?;
    let stream = TcpStream::connect(&server.address).await.expect("somebody listens");
    let mut stream = tls.connect(host, &server.address, stream).await?;
    Ok(match stream.read_u8().await {
        Err(error) if is_about_our_certificate(&error) => Err(error),
        _ => Ok(()),
    })
}

async fn enter(server: &Server, host: &str, ca: &Path) -> Result<()> {
    enter_with(server, host, &files(ca, None)).await.map(drop)
}

fn held(error: Error, parts: &[&str]) {
    assert_eq!(error.kind, ErrorKind::Denied, "{error}");
    for part in parts {
        assert!(error.message.contains(part), "{part} is not in: {error}");
    }
}

#[tokio::test]
async fn a_trusted_authority_and_the_right_name_let_us_in() {
    for name in ["localhost", "127.0.0.1"] {
        let server = server(name).await;
        enter(&server, name, &server.authority).await.expect("in");
        server.scope.stop().await;
    }
}

#[tokio::test]
async fn an_unknown_authority_names_cluster_broker_and_key() {
    let (server, other) = (server("localhost").await, server("localhost").await);
    let error = enter(&server, "localhost", &other.authority).await.expect_err("not trusted");
    held(error, &["cluster lyon", &server.address, "clusters.lyon.security.ca"]);
    server.scope.stop().await;
    other.scope.stop().await;
}

#[tokio::test]
async fn a_wrong_name_names_cluster_broker_name_and_key() {
    let server = server("elsewhere.example").await;
    let error = enter(&server, "localhost", &server.authority).await.expect_err("another name");
    held(error, &["cluster lyon", &server.address, "`localhost`", "clusters.lyon.bootstrap"]);
    server.scope.stop().await;
}

#[tokio::test]
async fn an_expired_certificate_is_told_as_such() {
    let mut expired = CertificateParams::new(vec!["localhost".to_owned()]).expect(MADE);
    (expired.not_before, expired.not_after) = (date_time_ymd(2020, 1, 1), date_time_ymd(2021, 1, 1));
    let server = server_with(expired, false).await;
    let error = enter(&server, "localhost", &server.authority).await.expect_err("expired");
    held(error, &["cluster lyon", &server.address, "has expired"]);
    server.scope.stop().await;
}

#[tokio::test]
async fn a_certificate_of_ours_is_shown_where_one_is_wanted() {
    let certificate = CertificateParams::new(vec!["localhost".to_owned()]).expect(MADE);
    let (server, other) = (server_with(certificate, true).await, server("localhost").await);
    let shown = async |identity| {
        let files = files(&server.authority, identity);
        enter_with(&server, "localhost", &files).await.expect("the server is trusted")
    };
    shown(Some(server.identity("us"))).await.expect("in");
    shown(None).await.expect_err("none is shown");
    shown(Some(other.identity("us"))).await.expect_err("another authority");
    server.scope.stop().await;
    other.scope.stop().await;
}

#[tokio::test]
async fn a_certificate_and_a_key_that_do_not_belong_together_name_the_key() {
    let server = server("localhost").await;
    let (ours, another) = (server.identity("us"), server.identity("them"));
    let mixed = Identity { certificate: ours.certificate.clone(), key: another.key };
    let why = files(&server.authority, Some(mixed.clone())).now().map(drop).expect_err("they do not fit");
    held(why, &["clusters.lyon.security.key", &mixed.key.display().to_string()]);
    let no_key = Identity { key: ours.certificate.clone(), ..ours };
    let why = files(&server.authority, Some(no_key)).now().map(drop).expect_err("not a key");
    held(why, &["clusters.lyon.security.key", "no private key"]);
    server.scope.stop().await;
}

#[tokio::test]
async fn replaced_files_count_for_the_next_connection_and_half_written_ones_do_not() {
    let (server, next) = (server("localhost").await, server("localhost").await);
    let ca = server.directory.path().join("trusted.pem");
    let trust = |from: &Path| assert!(std::fs::copy(from, &ca).expect("copied") > 0);
    trust(&server.authority);
    let (ours, files) = (server.identity("us"), files(&ca, Some(server.identity("us"))));
    enter_with(&server, "localhost", &files).await.expect("in").expect("welcome");
    held(enter_with(&next, "localhost", &files).await.map(drop).expect_err("not trusted"), &["security.ca"]);

    std::fs::write(&ours.key, "-----BEGIN PRIV").expect("writable");
    trust(&next.authority);
    enter_with(&server, "localhost", &files).await.expect("what was there before is used").expect("welcome");
    std::fs::remove_file(&ours.certificate).expect("it was there");
    enter_with(&server, "localhost", &files).await.expect("what was there before is used").expect("welcome");

    server.identity("us");
    enter_with(&next, "localhost", &files).await.expect("the new authority is trusted").expect("welcome");
    held(enter_with(&server, "localhost", &files).await.map(drop).expect_err("no longer trusted"), &["security.ca"]);
    server.scope.stop().await;
    next.scope.stop().await;
}

#[tokio::test]
async fn a_file_that_is_missing_or_holds_no_certificate_names_key_and_file() {
    let server = server("localhost").await;
    let empty = server.authority.with_file_name("empty.pem");
    std::fs::write(&empty, "nothing here").expect("writable");
    for file in [&empty, Path::new("/nowhere/ca.pem")] {
        let error = enter(&server, "localhost", file).await.expect_err("no authority");
        held(error, &["clusters.lyon.security.ca", &file.display().to_string()]);
    }
    server.scope.stop().await;
}

#[tokio::test]
async fn a_listener_without_tls_is_recognised() {
    let (address, scope) = crate::wire::broker_stub::serve(|mut peer| async move {
        peer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
        let _ = peer.next().await;
    })
    .await;
    let server = server("localhost").await;
    let tls = files(&server.authority, None).now().expect("an authority");
    let stream = TcpStream::connect(&address).await.expect("somebody listens");
    let error = tls.connect("localhost", &address, stream).await.map(drop).expect_err("no TLS there");
    held(error, &["cluster lyon", &address, "clusters.lyon.security.protocol"]);
    scope.stop().await;
    server.scope.stop().await;
}
