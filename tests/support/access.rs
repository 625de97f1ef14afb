//! Users, certificates and the listener settings of a secured cluster.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, KeyUsagePurpose, date_time_ymd,
};
use serde_json::json;

use super::scratch::replace;

const MADE: &str = "rcgen makes keys and certificates from these parameters";

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
    authority: Authority,
}

/// Whoever signs a cluster's certificates.
type Authority = CertifiedIssuer<'static, KeyPair>;

/// What a broker's certificate is like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Validity {
    /// In force, for 127.0.0.1 and localhost.
    Good,
    /// For these names, some years ago.
    Expired,
    /// In force, for another host.
    OtherName,
}

/// Makes an authority, a broker certificate for 127.0.0.1 and localhost, and one for clients in `directory`.
pub fn certificates(directory: &Path) -> Certificates {
    let mut authority = CertificateParams::new(Vec::new()).expect(MADE);
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    authority.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    authority.distinguished_name.push(DnType::CommonName, "Twinlog test authority");
    let authority = CertifiedIssuer::self_signed(authority, KeyPair::generate().expect(MADE)).expect(MADE);
    let at = |name: &str| directory.join(name);
    let (ca, broker, client, client_key) = (at("ca.pem"), at("broker.pem"), at("client.pem"), at("client.key"));
    replace(&ca, &authority.pem());
    let files = Certificates { ca, broker, client, client_key, authority };
    files.renew_brokers(Validity::Good);
    files.renew_clients();
    files
}

impl Certificates {
    /// Writes another key and certificate for the brokers, who read them when they start.
    pub fn renew_brokers(&self, validity: Validity) {
        let names: &[&str] = match validity {
            Validity::Good | Validity::Expired => &["localhost", "127.0.0.1"],
            Validity::OtherName => &["elsewhere.example"],
        };
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut broker = CertificateParams::new(names).expect(MADE);
        if validity == Validity::Expired {
            (broker.not_before, broker.not_after) = (date_time_ymd(2020, 1, 1), date_time_ymd(2021, 1, 1));
        }
        let key = KeyPair::generate().expect(MADE);
        let signed = broker.signed_by(&key, &self.authority).expect(MADE);
        replace(&self.broker, &format!("{}{}{}", key.serialize_pem(), signed.pem(), self.authority.pem()));
    }

    /// Writes another key and certificate for clients.
    pub fn renew_clients(&self) {
        self.renew_clients_by(self);
    }

    /// The same from another cluster's authority, which nobody trusts here.
    pub fn renew_clients_by(&self, other: &Certificates) {
        let mut client = CertificateParams::new(Vec::new()).expect(MADE);
        client.distinguished_name.push(DnType::CommonName, "twinlog");
        let key = KeyPair::generate().expect(MADE);
        let signed = client.signed_by(&key, &other.authority).expect(MADE);
        replace(&self.client_key, &key.serialize_pem());
        replace(&self.client, &signed.pem());
    }
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
