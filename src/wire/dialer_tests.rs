use bytes::{BufMut, BytesMut};
use kafka_protocol::messages::list_groups_response::ListedGroup;
use kafka_protocol::messages::{
    ListGroupsRequest, ListGroupsResponse, SaslAuthenticateResponse, SaslHandshakeResponse,
};

use super::*;
use crate::endpoint::{Mechanism, Protocol, Secret, SecretSource};
use crate::wire::broker_stub::{offered, serve};

const OFFERS: &[(ApiKey, i16, i16)] = &[
    (ApiKey::ListGroups, 0, 9),
    (ApiKey::Metadata, 0, 2),
    (ApiKey::SaslHandshake, 0, 1),
    (ApiKey::SaslAuthenticate, 0, 2),
];

const SOON: Duration = Duration::from_secs(20);

async fn dial(to: &str, security: Security) -> Result<Connection> {
    let (host, port) = to.rsplit_once(':').expect("host:port");
    let address = Address { host: host.to_owned(), port: port.parse().expect("a port") };
    Dialer::new("lyon".into(), security, "twinlog-test").dial(&address, 7).await
}

fn group(name: usize) -> ListGroupsResponse {
    let group = ListedGroup::default().with_group_id(StrBytes::from_string(name.to_string()).into());
    ListGroupsResponse::default().with_groups(vec![group])
}

fn named(answer: &ListGroupsResponse) -> &str {
    answer.groups.first().map_or("", |group| group.group_id.as_str())
}

fn sasl(mechanism: Mechanism) -> Security {
    Security {
        protocol: Protocol::SaslPlaintext,
        mechanism: Some(mechanism),
        username: Some("paul".into()),
        password: Some(SecretSource::Known(Secret::new("open sesame"))),
        ..Security::default()
    }
}

/// What a call fails with when the broker answers it by a script; also holds that the connection ends.
async fn broken_by(frame: impl Fn(i32) -> Vec<u8> + Clone + Send + 'static) -> Error {
    let (at, broker) = serve(move |mut peer| {
        let frame = frame.clone();
        async move {
            peer.greet(OFFERS).await;
            let asked = peer.next().await.expect("a request");
            peer.write(&frame(asked.correlation)).await;
            let _ = peer.next().await;
        }
    })
    .await;
    let connection = dial(&at, Security::default()).await.expect("a greeting");
    let error = connection.call(ListGroupsRequest::default()).await.expect_err("a broken answer");
    timeout(SOON, connection.closed()).await.expect("the connection ends");
    assert!(connection.call(ListGroupsRequest::default()).await.is_err(), "it stays ended");
    broker.stop().await;
    error
}

fn frame(correlation: i32, body: &[u8]) -> Vec<u8> {
    let mut frame = BytesMut::new();
    frame.put_u32(body.len() as u32 + 4);
    frame.put_i32(correlation);
    frame.put_slice(body);
    frame.to_vec()
}

#[tokio::test]
async fn pipelined_answers_come_back_to_their_requests_in_order() {
    let (at, broker) = serve(|mut peer| async move {
        peer.greet(OFFERS).await;
        let mut asked = Vec::new();
        while asked.len() < 100 {
            asked.push(peer.next().await.expect("a request"));
        }
        for (name, asked) in asked.iter().enumerate() {
            peer.answer(asked, asked.version, &group(name)).await;
        }
        let _ = peer.next().await;
    })
    .await;
    let connection = dial(&at, Security::default()).await.expect("a greeting");
    assert_eq!(connection.version(ApiKey::ListGroups).expect("offered"), 5, "the highest both sides know");
    // All are queued before the first is awaited, and the broker answers none before it has all.
    let started: Vec<_> = (0..100).map(|_| connection.start(ListGroupsRequest::default(), SOON)).collect();
    for (name, answer) in started.into_iter().enumerate() {
        assert_eq!(named(&answer.await.expect("an answer")), name.to_string());
    }
    broker.stop().await;
}

#[tokio::test]
async fn a_broker_that_knows_only_version_0_of_the_greeting_is_understood() {
    let (at, broker) = serve(|mut peer| async move {
        let asked = peer.next().await.expect("ApiVersions");
        assert_eq!(asked.version, 3);
        peer.answer(&asked, 0, &offered(&[(ApiKey::ApiVersions, 0, 2)]).with_error_code(UNSUPPORTED_VERSION)).await;
        let asked = peer.next().await.expect("ApiVersions again");
        assert_eq!((asked.version, asked.body.len()), (0, 0));
        peer.answer(&asked, 0, &offered(&[(ApiKey::ListGroups, 0, 4)])).await;
        let _ = peer.next().await;
    })
    .await;
    let connection = dial(&at, Security::default()).await.expect("a greeting");
    assert_eq!(connection.version(ApiKey::ListGroups).expect("offered"), 4);
    broker.stop().await;
}

#[tokio::test]
async fn what_the_broker_does_not_offer_is_refused_by_name_without_asking() {
    let (at, broker) = serve(|mut peer| async move {
        peer.greet(OFFERS).await;
        assert!(peer.next().await.is_none(), "nothing is sent");
    })
    .await;
    let connection = dial(&at, Security::default()).await.expect("a greeting");
    for key in [ApiKey::Metadata, ApiKey::Fetch] {
        let error = connection.version(key).expect_err("not offered");
        assert_eq!(error.kind, ErrorKind::Unsupported);
        assert!(error.message.contains(&format!("{key:?}")) && error.message.contains("lyon"), "{error}");
    }
    drop(connection);
    broker.stop().await;
}

#[tokio::test]
async fn a_wrong_correlation_id_ends_the_connection() {
    let error = broken_by(|correlation| frame(correlation + 1, &[0; 16])).await;
    assert_eq!(error.kind, ErrorKind::Protocol, "{error}");
    assert!(error.message.contains("correlation"), "{error}");
}

#[tokio::test]
async fn a_frame_announced_beyond_the_cap_ends_the_connection_before_memory_is_taken() {
    let error = broken_by(|_| vec![0x7f, 0xff, 0xff, 0xff]).await;
    assert_eq!(error.kind, ErrorKind::Protocol, "{error}");
    let error = broken_by(|_| vec![0xff, 0xff, 0xff, 0xff]).await;
    assert_eq!(error.kind, ErrorKind::Protocol, "{error}");
}

#[tokio::test]
async fn a_hostile_array_length_is_an_error_and_takes_no_memory() {
    // ListGroups v5: tagged header, throttle, error code, then an array of 2³² − 2 groups.
    let body = [0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0x0f];
    let error = broken_by(move |correlation| frame(correlation, &body)).await;
    assert_eq!(error.kind, ErrorKind::Protocol, "{error}");
    assert!(error.message.contains("makes no sense"), "{error}");
}

#[tokio::test]
async fn a_frame_that_stops_halfway_is_a_lost_connection() {
    let (at, broker) = serve(|mut peer| async move {
        peer.greet(OFFERS).await;
        let asked = peer.next().await.expect("a request");
        peer.write(&frame(asked.correlation, &[0; 500])[..200]).await;
    })
    .await;
    let connection = dial(&at, Security::default()).await.expect("a greeting");
    let error = connection.call(ListGroupsRequest::default()).await.expect_err("half an answer");
    assert_eq!(error.kind, ErrorKind::Retryable, "{error}");
    assert!(connection.is_closed());
    broker.stop().await;
}

#[tokio::test]
async fn an_answer_nobody_asked_for_ends_the_connection() {
    let (at, broker) = serve(|mut peer| async move {
        peer.greet(OFFERS).await;
        peer.write(&frame(1, &[0; 16])).await;
        let _ = peer.next().await;
    })
    .await;
    let connection = dial(&at, Security::default()).await.expect("a greeting");
    timeout(SOON, connection.closed()).await.expect("the connection ends");
    broker.stop().await;
}

#[tokio::test]
async fn text_that_is_not_utf_8_spoils_one_answer_and_not_the_connection() {
    let (at, broker) = serve(|mut peer| async move {
        peer.greet(OFFERS).await;
        let asked = peer.next().await.expect("a request");
        let body = BytesMut::from(&[0, 0, 0, 0, 0, 0, 0, 2, 3, 0xff, 0xfe, 1, 1, 1, 0, 0][..]);
        peer.answer_raw(asked.correlation, &body).await;
        let asked = peer.next().await.expect("another request");
        peer.answer(&asked, asked.version, &group(2)).await;
        let _ = peer.next().await;
    })
    .await;
    let connection = dial(&at, Security::default()).await.expect("a greeting");
    let spoilt = connection.call(ListGroupsRequest::default()).await.expect_err("not text");
    assert_eq!(spoilt.kind, ErrorKind::Protocol, "{spoilt}");
    assert!(!connection.is_closed());
    assert_eq!(named(&connection.call(ListGroupsRequest::default()).await.expect("an answer")), "2");
    broker.stop().await;
}

#[tokio::test]
async fn a_request_that_times_out_ends_the_connection_for_all() {
    let (at, broker) = serve(|mut peer| async move {
        peer.greet(OFFERS).await;
        while peer.next().await.is_some() {}
    })
    .await;
    let connection = dial(&at, Security::default()).await.expect("a greeting");
    let patient = connection.start(ListGroupsRequest::default(), SOON);
    let hasty = connection.start(ListGroupsRequest::default(), Duration::from_millis(50));
    let error = hasty.await.expect_err("no answer");
    assert_eq!(error.kind, ErrorKind::Retryable);
    assert!(error.message.contains("ListGroups") && error.message.contains("broker 7"), "{error}");
    assert!(patient.await.is_err(), "whatever waits fails with it");
    assert!(connection.is_closed());
    broker.stop().await;
}

/// Else a connection whose other side has vanished would be asked again and again by whoever is quicker to give up.
#[tokio::test]
async fn a_request_that_nobody_waits_for_any_more_ends_the_connection_too_when_it_times_out() {
    let (at, broker) = serve(|mut peer| async move {
        peer.greet(OFFERS).await;
        let answered = peer.next().await.expect("a request");
        peer.answer(&answered, answered.version, &group(1)).await;
        while peer.next().await.is_some() {}
    })
    .await;
    let connection = dial(&at, Security::default()).await.expect("a greeting");
    let soon = Duration::from_millis(100);
    drop(connection.start(ListGroupsRequest::default(), soon));
    assert!(timeout(2 * soon, connection.closed()).await.is_err(), "that one was answered");
    drop(connection.start(ListGroupsRequest::default(), soon));
    timeout(SOON, connection.closed()).await.expect("the connection is given up");
    let error = connection.call(ListGroupsRequest::default()).await.expect_err("it has ended");
    assert!(error.message.contains("no answer to ListGroups"), "{error}");
    broker.stop().await;
}

#[tokio::test]
async fn dropping_a_connection_closes_it_and_fails_what_waits() {
    let (at, broker) = serve(|mut peer| async move {
        peer.greet(OFFERS).await;
        while peer.next().await.is_some() {}
    })
    .await;
    let connection = dial(&at, Security::default()).await.expect("a greeting");
    let waiting = connection.start(ListGroupsRequest::default(), SOON);
    drop(connection);
    assert_eq!(waiting.await.expect_err("closed").kind, ErrorKind::Retryable);
    broker.stop().await;
}

#[tokio::test]
async fn a_wrong_password_names_cluster_user_and_keys_and_never_the_password() {
    let (at, broker) = serve(|mut peer| async move {
        peer.greet(OFFERS).await;
        let asked = peer.next().await.expect("a handshake");
        peer.answer(&asked, asked.version, &SaslHandshakeResponse::default()).await;
        let asked = peer.next().await.expect("a password");
        assert!(asked.body.windows(11).any(|w| w == b"open sesame"), "PLAIN sends the password");
        let refusal = SaslAuthenticateResponse::default()
            .with_error_code(58)
            .with_error_message(Some(StrBytes::from_static_str("Invalid username or password")));
        peer.answer(&asked, asked.version, &refusal).await;
        let _ = peer.next().await;
    })
    .await;
    let error = dial(&at, sasl(Mechanism::Plain)).await.err().expect("a refusal");
    assert_eq!(error.kind, ErrorKind::Denied);
    for part in ["cluster lyon", "paul", "clusters.lyon.security.password", "Invalid username or password"] {
        assert!(error.message.contains(part), "{part} is not in: {error}");
    }
    assert!(!error.message.contains("open sesame"), "{error}");
    broker.stop().await;
}

#[tokio::test]
async fn a_mechanism_the_broker_lacks_is_refused_with_those_it_has() {
    let (at, broker) = serve(|mut peer| async move {
        peer.greet(OFFERS).await;
        let asked = peer.next().await.expect("a handshake");
        let refusal = SaslHandshakeResponse::default()
            .with_error_code(33)
            .with_mechanisms(vec![StrBytes::from_static_str("PLAIN")]);
        peer.answer(&asked, asked.version, &refusal).await;
        let _ = peer.next().await;
    })
    .await;
    let error = dial(&at, sasl(Mechanism::ScramSha512)).await.err().expect("a refusal");
    assert_eq!(error.kind, ErrorKind::Denied);
    assert!(error.message.contains("PLAIN") && error.message.contains("clusters.lyon.security.mechanism"), "{error}");
    broker.stop().await;
}

#[tokio::test]
async fn a_server_that_cannot_prove_it_knows_the_password_is_left() {
    let (at, broker) = serve(|mut peer| async move {
        peer.greet(OFFERS).await;
        let asked = peer.next().await.expect("a handshake");
        peer.answer(&asked, asked.version, &SaslHandshakeResponse::default()).await;
        let asked = peer.next().await.expect("a first message");
        let text = String::from_utf8_lossy(&asked.body).into_owned();
        let nonce = text.split("r=").nth(1).expect("a nonce").trim_end_matches('\0').to_owned();
        let challenge = format!("r={nonce}x,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096");
        let say = |text: String| SaslAuthenticateResponse::default().with_auth_bytes(text.into());
        peer.answer(&asked, asked.version, &say(challenge)).await;
        let asked = peer.next().await.expect("a proof");
        peer.answer(&asked, asked.version, &say("v=AAAA".into())).await;
        let _ = peer.next().await;
    })
    .await;
    let error = dial(&at, sasl(Mechanism::ScramSha256)).await.err().expect("a refusal");
    assert_eq!(error.kind, ErrorKind::Denied);
    assert!(error.message.contains("not to be trusted"), "{error}");
    broker.stop().await;
}

#[tokio::test]
async fn a_session_that_ends_is_renewed_in_time() {
    let (at, broker) = serve(|mut peer| async move {
        peer.greet(OFFERS).await;
        let asked = peer.next().await.expect("a handshake");
        peer.answer(&asked, asked.version, &SaslHandshakeResponse::default()).await;
        let asked = peer.next().await.expect("a password");
        peer.answer(&asked, asked.version, &SaslAuthenticateResponse::default().with_session_lifetime_ms(60_000)).await;
        let _ = peer.next().await;
    })
    .await;
    let connection = dial(&at, sasl(Mechanism::Plain)).await.expect("authenticated");
    let left = connection.renew_at().expect("a limit") - tokio::time::Instant::now();
    assert!(left < Duration::from_secs(52) && left > Duration::from_secs(30), "{left:?}");
    broker.stop().await;
}

#[tokio::test]
async fn a_listener_that_answers_in_tls_is_recognised() {
    let (at, broker) = serve(|mut peer| async move {
        let _ = peer.next().await;
        peer.write(&[0x15, 3, 3, 0, 2, 2, 70]).await;
        let _ = peer.next().await;
    })
    .await;
    let error = dial(&at, Security::default()).await.err().expect("no greeting");
    assert_eq!(error.kind, ErrorKind::Denied);
    assert!(error.message.contains("TLS") && error.message.contains("security.protocol"), "{error}");
    broker.stop().await;
}

#[tokio::test]
async fn nobody_listening_is_retryable_and_names_the_address() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let at = listener.local_addr().expect("bound").to_string();
    drop(listener);
    let error = dial(&at, Security::default()).await.err().expect("nobody there");
    assert_eq!(error.kind, ErrorKind::Retryable);
    assert!(error.message.contains(&at) && error.message.contains("lyon"), "{error}");
}
