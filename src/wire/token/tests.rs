use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, date_time_ymd};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;

use super::*;
use crate::endpoint::{SecretSource, TokenEndpoint};
use crate::runtime::tasks::TaskScope;

fn jwt(subject: &str, lives: f64) -> String {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("the clock is right").as_secs_f64();
    let part = |json: serde_json::Value| URL_SAFE_NO_PAD.encode(json.to_string());
    let claims = serde_json::json!({ "sub": subject, "exp": now + lives });
    format!("{}.{}.", part(serde_json::json!({ "alg": "none" })), part(claims))
}

fn tokens(source: TokenSource) -> Tokens {
    Tokens::new("lyon".into(), source)
}

async fn refused(source: TokenSource, parts: &[&str]) {
    let error = tokens(source).token().await.expect_err("no token");
    for part in ["lyon"].iter().chain(parts) {
        assert!(error.message.contains(part), "{part} is not in: {error}");
    }
    assert!(!error.message.contains("hush"), "a secret is shown: {error}");
}

fn shell(script: &str) -> TokenSource {
    TokenSource::Command(["sh", "-c", script].map(str::to_owned).to_vec())
}

#[tokio::test]
async fn a_file_is_read_again_once_most_of_the_tokens_life_is_over() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("token");
    let written = |text: String| std::fs::write(&file, text).expect("writable");
    written(jwt("first", 0.5) + "\n");
    let tokens = tokens(TokenSource::File(file.clone()));
    let first = tokens.token().await.expect("a token");
    assert_eq!(first.principal, "first");
    written(jwt("second", 3600.0));
    assert_eq!(tokens.token().await.expect("a token").principal, "first", "it is still good");
    tokio::time::sleep_until(tokio::time::Instant::now() + Duration::from_millis(420)).await;
    assert_eq!(tokens.token().await.expect("a token").principal, "second");
    written(jwt("third", 3600.0));
    assert_eq!(tokens.token().await.expect("a token").principal, "second");
    tokens.forget().await;
    assert_eq!(tokens.token().await.expect("a token").principal, "third", "brokers had refused the one before");
}

#[tokio::test]
async fn the_last_token_is_used_while_there_is_no_new_one() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("token");
    std::fs::write(&file, jwt("first", 1.0)).expect("writable");
    let tokens = tokens(TokenSource::File(file.clone()));
    let first = tokens.token().await.expect("a token");
    std::fs::remove_file(&file).expect("it was there");
    while SystemTime::now() < first.expires - Duration::from_millis(100) {
        assert_eq!(tokens.token().await.expect("the last one"), first);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    while SystemTime::now() < first.expires {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let error = tokens.token().await.expect_err("it has expired");
    assert!(error.message.contains("clusters.lyon.security.token.file"), "{error}");
}

#[tokio::test]
async fn what_is_no_token_or_none_any_more_is_refused_without_showing_it() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = |name: &str, text: &str| {
        let file = directory.path().join(name);
        std::fs::write(&file, text).expect("writable");
        TokenSource::File(file)
    };
    let key = "clusters.lyon.security.token.file";
    refused(file("empty", "\n"), &[key, "gives no token"]).await;
    refused(file("words", "hush hush"), &[key, "gives no token"]).await;
    refused(file("injection", "hush\u{1}auth=x"), &[key, "gives no token"]).await;
    refused(file("old", &jwt("hush", -60.0)), &[key, "expired 60 s ago"]).await;
    refused(TokenSource::File("/nowhere/token".into()), &[key, "/nowhere/token"]).await;
}

#[tokio::test]
async fn a_program_prints_a_token_and_its_failures_are_told_without_its_words() {
    let printed = tokens(shell(&format!("echo; echo {}; echo", jwt("printed", 60.0)))).token().await.expect("a token");
    assert_eq!(printed.principal, "printed");
    let opaque = tokens(shell("echo 0123-abc")).token().await.expect("a token that is no JWT");
    assert_eq!((opaque.text.reveal(), opaque.principal.as_str()), ("0123-abc", "unknown"));
    let key = "clusters.lyon.security.token.command";
    refused(shell("echo hush; echo hush >&2; exit 3"), &[key, "sh failed", "3"]).await;
    refused(TokenSource::Command(vec!["/nowhere/token-tool".into()]), &[key, "/nowhere/token-tool"]).await;
}

#[tokio::test(start_paused = true)]
async fn a_program_that_takes_too_long_is_killed() {
    // `exec`: a shell that is killed leaves what it has started behind.
    refused(shell("exec sleep 3600"), &["clusters.lyon.security.token.command", "was killed"]).await;
}

/// An endpoint that gives each caller what `answer` makes of the request.
async fn endpoint(answer: impl Fn(&str) -> String + Send + Sync + 'static) -> (TokenEndpoint, TaskScope) {
    endpoint_behind(None, answer).await
}

/// The same behind TLS.
async fn endpoint_behind(
    tls: Option<TlsAcceptor>,
    answer: impl Fn(&str) -> String + Send + Sync + 'static,
) -> (TokenEndpoint, TaskScope) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let scheme = if tls.is_some() { "https" } else { "http" };
    let url = format!("{scheme}://{}/oauth2/token", listener.local_addr().expect("bound"));
    let scope = TaskScope::new();
    scope.spawn_until_stopped(async move {
        while let Ok((stream, _)) = listener.accept().await {
            match &tls {
                None => converse(stream, &answer).await,
                // Who does not trust us hangs up.
                Some(tls) => {
                    if let Ok(stream) = tls.accept(stream).await {
                        converse(stream, &answer).await;
                    }
                }
            }
        }
    });
    let endpoint = TokenEndpoint {
        url: url.parse().expect("a URL"),
        ca: None,
        client_id: "twin:log".into(),
        client_secret: SecretSource::Known(Secret::new("hush & tell")),
        scope: Some("kafka all&more".into()),
    };
    (endpoint, scope)
}

async fn converse(mut stream: impl AsyncRead + AsyncWrite + Unpin, answer: &(impl Fn(&str) -> String + Sync)) {
    let mut request = Vec::new();
    // The body is the last thing, and it ends with the scope.
    while !request.ends_with(b"kafka+all%26more") {
        let mut some = [0; 1024];
        match stream.read(&mut some).await {
            Ok(read @ 1..) => request.extend_from_slice(&some[..read]),
            _ => return,
        }
    }
    let text = answer(&String::from_utf8(request).expect("text"));
    stream.write_all(text.as_bytes()).await.expect("the asker waits");
}

fn http(status: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

#[tokio::test]
async fn an_endpoint_is_asked_once_for_all_who_wait_by_the_client_credentials_grant() {
    let asked = Arc::new(AtomicUsize::new(0));
    let count = asked.clone();
    let (endpoint, scope) = endpoint(move |request| {
        count.fetch_add(1, Ordering::Relaxed);
        let basic = STANDARD.encode("twin%3Alog:hush+%26+tell");
        assert!(request.starts_with("POST /oauth2/token HTTP/1.1\r\n"), "{request}");
        assert!(request.contains(&format!("Basic {basic}")), "{request}");
        assert!(request.ends_with("grant_type=client_credentials&scope=kafka+all%26more"), "{request}");
        http("200 OK", r#"{ "access_token": "opaque", "token_type": "Bearer", "expires_in": 300 }"#)
    })
    .await;
    let tokens = tokens(TokenSource::Endpoint(endpoint));
    let both = futures::future::join(tokens.token(), tokens.token()).await;
    let (one, other) = (both.0.expect("a token"), both.1.expect("a token"));
    assert_eq!((one.text.reveal(), &one), ("opaque", &other));
    let left = one.expires.duration_since(SystemTime::now()).expect("it has not expired");
    assert!((290..=300).contains(&left.as_secs()), "{left:?}");
    assert_eq!(asked.load(Ordering::Relaxed), 1);
    scope.stop().await;
}

#[tokio::test]
async fn an_endpoint_that_refuses_or_is_not_there_is_named_and_nothing_it_says_is_repeated() {
    let secret = r#"{ "error": "hush & tell" }"#;
    for (answer, key, kind) in [
        (http("401 Unauthorized", secret), "token.client_id", ErrorKind::Denied),
        (http("503 Service Unavailable", secret), "token.endpoint", ErrorKind::Retryable),
        (http("200 OK", secret), "token.endpoint", ErrorKind::Retryable),
    ] {
        let (endpoint, scope) = endpoint(move |_| answer.clone()).await;
        let url = endpoint.url.to_string();
        let error = tokens(TokenSource::Endpoint(endpoint)).token().await.expect_err("no token");
        assert_eq!(error.kind, kind, "{error}");
        assert!(error.message.contains(key) && error.message.contains(&url), "{error}");
        assert!(!error.message.contains("hush"), "{error}");
        scope.stop().await;
    }
    let (gone, scope) = endpoint(|_| String::new()).await;
    scope.stop().await;
    refused(TokenSource::Endpoint(gone.clone()), &["token.endpoint", "cannot ask"]).await;
    let unreadable = TokenEndpoint { client_secret: SecretSource::File(Path::new("/nowhere/secret").into()), ..gone };
    refused(TokenSource::Endpoint(unreadable), &["token.client_secret", "/nowhere/secret"]).await;
}

/// An authority in `directory`, and what a server shows that it has signed for these names.
fn authority(directory: &Path, name: &str, expired: bool) -> (std::path::PathBuf, TlsAcceptor) {
    let made = "rcgen makes keys and certificates from these parameters";
    let mut authority = CertificateParams::new(Vec::new()).expect(made);
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let issuer = CertifiedIssuer::self_signed(authority, KeyPair::generate().expect(made)).expect(made);
    let mut certificate = CertificateParams::new(vec![name.to_owned()]).expect(made);
    if expired {
        (certificate.not_before, certificate.not_after) = (date_time_ymd(2020, 1, 1), date_time_ymd(2021, 1, 1));
    }
    let key = KeyPair::generate().expect(made);
    let certificate = certificate.signed_by(&key, &issuer).expect(made);
    let file = directory.join(format!("{name}-{expired}.pem"));
    std::fs::write(&file, issuer.pem()).expect("writable");
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()));
    let config = config.with_safe_default_protocol_versions().expect("versions").with_no_client_auth();
    let key = PrivateKeyDer::try_from(key.serialize_der()).expect("a PKCS #8 key");
    let config = config.with_single_cert(vec![certificate.der().clone()], key).expect("key and certificate fit");
    (file, TlsAcceptor::from(Arc::new(config)))
}

#[tokio::test]
async fn an_endpoint_behind_tls_is_asked_where_its_authority_is_trusted_and_named_with_the_cause_where_not() {
    let directory = tempfile::tempdir().expect("a directory");
    let given = |_: &str| http("200 OK", r#"{ "access_token": "opaque" }"#);
    let (good, acceptor) = authority(directory.path(), "127.0.0.1", false);
    let (endpoint, scope) = endpoint_behind(Some(acceptor), given).await;
    let trusting = |ca: Option<&Path>| TokenEndpoint { ca: ca.map(Into::into), ..endpoint.clone() };
    let token = tokens(TokenSource::Endpoint(trusting(Some(&good)))).token().await.expect("a token");
    assert_eq!(token.text.reveal(), "opaque");

    let (foreign, _) = authority(directory.path(), "foreign", false);
    let url = endpoint.url.to_string();
    let not_trusted = TokenSource::Endpoint(trusting(Some(&foreign)));
    let error = tokens(not_trusted.clone()).token().await.expect_err("not trusted");
    assert_eq!(error.kind, ErrorKind::Denied, "waiting does not help: {error}");
    refused(not_trusted, &["clusters.lyon.security.token.endpoint", "token.ca", &url]).await;
    refused(TokenSource::Endpoint(trusting(Some(Path::new("/nowhere/ca.pem")))), &["token.ca", "/nowhere/ca.pem"])
        .await;
    scope.stop().await;
    for (name, expired, said) in [("127.0.0.1", true, "expired"), ("elsewhere.example", false, "name")] {
        let (ca, acceptor) = authority(directory.path(), name, expired);
        let (endpoint, scope) = endpoint_behind(Some(acceptor), given).await;
        let url = endpoint.url.to_string();
        refused(TokenSource::Endpoint(TokenEndpoint { ca: Some(ca), ..endpoint }), &[&url, said]).await;
        scope.stop().await;
    }
}
