use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;

use super::*;
use crate::runtime::tasks::TaskScope;

/// A TLS server on loopback whose certificate is for `name`, and its authority as a PEM file.
struct Server {
    address: String,
    authority: std::path::PathBuf,
    scope: TaskScope,
    _directory: TempDir,
}

async fn server(name: &str) -> Server {
    let made = "rcgen makes keys and certificates from these parameters";
    let mut authority = CertificateParams::new(Vec::new()).expect(made);
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(authority, KeyPair::generate().expect(made)).expect(made);
    let key = KeyPair::generate().expect(made);
    let certificate =
        CertificateParams::new(vec![name.to_owned()]).expect(made).signed_by(&key, &authority).expect(made);
    let directory = TempDir::new().expect("a directory");
    let file = directory.path().join("ca.pem");
    std::fs::write(&file, authority.pem()).expect("writable");

    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(
            vec![certificate.der().clone()],
            PrivateKeyDer::try_from(key.serialize_der()).expect("a PKCS #8 key"),
        )
        .expect("key and certificate fit");
    let (acceptor, listener) =
        (TlsAcceptor::from(Arc::new(config)), TcpListener::bind("127.0.0.1:0").await.expect("a port"));
    let address = listener.local_addr().expect("bound").to_string();
    let scope = TaskScope::new();
    scope.spawn_until_stopped(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let _ = acceptor.accept(stream).await;
        }
    });
    Server { address, authority: file, scope, _directory: directory }
}

async fn enter(server: &Server, host: &str, ca: Option<&Path>) -> Result<()> {
    let security = Security { ca: ca.map(Path::to_owned), ..Security::default() };
    let tls = Tls::new(&"lyon".into(), &security)?;
    let stream = TcpStream::connect(&server.address).await.expect("somebody listens");
    tls.connect(host, &server.address, stream).await.map(drop)
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
        enter(&server, name, Some(&server.authority)).await.expect("in");
        server.scope.stop().await;
    }
}

#[tokio::test]
async fn an_unknown_authority_names_cluster_broker_and_key() {
    let (server, other) = (server("localhost").await, server("localhost").await);
    let error = enter(&server, "localhost", Some(&other.authority)).await.expect_err("not trusted");
    held(error, &["cluster lyon", &server.address, "clusters.lyon.security.ca"]);
    server.scope.stop().await;
    other.scope.stop().await;
}

#[tokio::test]
async fn a_wrong_name_names_cluster_broker_name_and_key() {
    let server = server("elsewhere.example").await;
    let error = enter(&server, "localhost", Some(&server.authority)).await.expect_err("another name");
    held(error, &["cluster lyon", &server.address, "`localhost`", "clusters.lyon.bootstrap"]);
    server.scope.stop().await;
}

#[tokio::test]
async fn a_file_that_is_missing_or_holds_no_certificate_names_key_and_file() {
    let server = server("localhost").await;
    let empty = server.authority.with_file_name("empty.pem");
    std::fs::write(&empty, "nothing here").expect("writable");
    for file in [&empty, Path::new("/nowhere/ca.pem")] {
        let error = enter(&server, "localhost", Some(file)).await.expect_err("no authority");
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
    let security = Security { ca: Some(server.authority.clone()), ..Security::default() };
    let tls = Tls::new(&"lyon".into(), &security).expect("an authority");
    let stream = TcpStream::connect(&address).await.expect("somebody listens");
    let error = tls.connect("localhost", &address, stream).await.map(drop).expect_err("no TLS there");
    held(error, &["cluster lyon", &address, "clusters.lyon.security.protocol"]);
    scope.stop().await;
    server.scope.stop().await;
}
