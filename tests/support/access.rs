//! Users, certificates and the listener settings of a secured cluster.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, KeyUsagePurpose};
use serde_json::json;

/// A user of a secured cluster, known to SCRAM-SHA-512, SCRAM-SHA-256 and PLAIN.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// Its name; the principal is `User:name`.
    pub name: String,
    /// Its password.
    pub password: String,
}

impl User {
    /// A user.
    pub fn new(name: &str, password: &str) -> User {
        User { name: name.to_owned(), password: password.to_owned() }
    }
}

/// Certificates written for a cluster.
#[derive(Debug)]
pub struct Certificates {
    /// The authority, PEM: what clients trust.
    pub ca: PathBuf,
    /// Key and certificate of every broker, PEM.
    pub broker: PathBuf,
    /// A certificate for clients, PEM.
    pub client: PathBuf,
    /// Its key, PEM.
    pub client_key: PathBuf,
}

/// Makes an authority, a broker certificate for 127.0.0.1 and localhost, and one for clients in `directory`.
pub fn certificates(directory: &Path) -> Certificates {
    let made = "rcgen makes keys and certificates from these parameters";
    let mut authority = CertificateParams::new(Vec::new()).expect(made);
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    authority.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    authority.distinguished_name.push(DnType::CommonName, "Twinlog test authority");
    let authority = CertifiedIssuer::self_signed(authority, KeyPair::generate().expect(made)).expect(made);
    let key = KeyPair::generate().expect(made);
    let broker = CertificateParams::new(vec!["localhost".to_owned(), "127.0.0.1".to_owned()]).expect(made);
    let broker = broker.signed_by(&key, &authority).expect(made);
    let client_key = KeyPair::generate().expect(made);
    let mut client = CertificateParams::new(Vec::new()).expect(made);
    client.distinguished_name.push(DnType::CommonName, "twinlog");
    let client = client.signed_by(&client_key, &authority).expect(made);
    let at = |name: &str| directory.join(name);
    let files = Certificates {
        ca: at("ca.pem"),
        broker: at("broker.pem"),
        client: at("client.pem"),
        client_key: at("client.key"),
    };
    let write = |file: &Path, text: String| fs::write(file, text).expect("the scratch directory can be written");
    write(&files.ca, authority.pem());
    write(&files.broker, format!("{}{}{}", key.serialize_pem(), broker.pem(), authority.pem()));
    write(&files.client, client.pem());
    write(&files.client_key, client_key.serialize_pem());
    files
}

fn own(key: &str) -> String {
    format!("listener.name.client.{key}")
}

fn key_store(certificates: &Certificates) -> [(String, String); 2] {
    [
        (own("ssl.keystore.type"), "PEM".into()),
        (own("ssl.keystore.location"), certificates.broker.display().to_string()),
    ]
}

/// Broker properties for a CLIENT listener in SSL that wants certificates of its own authority.
pub fn mutual_tls(certificates: &Certificates) -> Vec<(String, String)> {
    let more = [
        (own("ssl.truststore.type"), "PEM".into()),
        (own("ssl.truststore.location"), certificates.ca.display().to_string()),
        (own("ssl.client.auth"), "required".into()),
    ];
    key_store(certificates).into_iter().chain(more).collect()
}

/// Broker properties for a CLIENT listener in SASL_SSL that takes unsigned tokens ([`unsigned_token`]).
pub fn tokens(certificates: &Certificates) -> Vec<(String, String)> {
    // The option is for the brokers' own login, which nobody uses but which must not fail.
    let module = "org.apache.kafka.common.security.oauthbearer.OAuthBearerLoginModule";
    let more = [
        ("sasl.enabled.mechanisms".to_owned(), "OAUTHBEARER".to_owned()),
        (own("oauthbearer.sasl.jaas.config"), format!("{module} required unsecuredLoginStringClaim_sub=\"broker\";")),
    ];
    key_store(certificates).into_iter().chain(more).collect()
}

/// A token that nobody has signed: brokers of a test take it.
pub fn unsigned_token(principal: &str, lives: Duration) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("the clock is right").as_secs_f64();
    let claims = json!({ "sub": principal, "iat": now, "exp": now + lives.as_secs_f64() });
    let part = |json: &serde_json::Value| URL_SAFE_NO_PAD.encode(json.to_string());
    format!("{}.{}.", part(&json!({ "alg": "none" })), part(&claims))
}

/// Broker properties for a CLIENT listener in SASL_SSL and an authorizer that knows these users but gives no rights.
///
/// ANONYMOUS is a super user: it is who comes in by the PLAINTEXT listeners, the brokers themselves and the oracles.
pub fn passwords(certificates: &Certificates, users: &[User]) -> Vec<(String, String)> {
    let scram = "org.apache.kafka.common.security.scram.ScramLoginModule required;";
    let mut plain = "org.apache.kafka.common.security.plain.PlainLoginModule required".to_owned();
    for user in users {
        plain += &format!(" user_{}=\"{}\"", user.name, user.password);
    }
    let more = [
        ("sasl.enabled.mechanisms".into(), "SCRAM-SHA-512,SCRAM-SHA-256,PLAIN".into()),
        (own("scram-sha-512.sasl.jaas.config"), scram.into()),
        (own("scram-sha-256.sasl.jaas.config"), scram.into()),
        (own("plain.sasl.jaas.config"), plain + ";"),
        ("authorizer.class.name".into(), "org.apache.kafka.metadata.authorizer.StandardAuthorizer".into()),
        ("super.users".into(), "User:ANONYMOUS;User:admin".into()),
    ];
    key_store(certificates).into_iter().chain(more).collect()
}

/// Arguments that make StorageTool write the users' SCRAM credentials.
pub fn scram_arguments(users: &[User]) -> Vec<String> {
    let credential = |user: &User, mechanism: &str| {
        let (name, password) = (&user.name, &user.password);
        ["--add-scram".to_owned(), format!("{mechanism}=[name={name},iterations=4096,password={password}]")]
    };
    users.iter().flat_map(|u| [credential(u, "SCRAM-SHA-512"), credential(u, "SCRAM-SHA-256")]).flatten().collect()
}
