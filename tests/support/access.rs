//! Users, certificates and the listener settings of a secured cluster.

use std::fs;
use std::path::{Path, PathBuf};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, KeyUsagePurpose};

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
}

/// Makes an authority and a broker certificate for 127.0.0.1 and localhost in `directory`.
pub fn certificates(directory: &Path) -> Certificates {
    let made = "rcgen makes keys and certificates from these parameters";
    let mut authority = CertificateParams::new(Vec::new()).expect(made);
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    authority.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    authority.distinguished_name.push(rcgen::DnType::CommonName, "Twinlog test authority");
    let authority = CertifiedIssuer::self_signed(authority, KeyPair::generate().expect(made)).expect(made);
    let key = KeyPair::generate().expect(made);
    let broker = CertificateParams::new(vec!["localhost".to_owned(), "127.0.0.1".to_owned()]).expect(made);
    let broker = broker.signed_by(&key, &authority).expect(made);
    let files = Certificates { ca: directory.join("ca.pem"), broker: directory.join("broker.pem") };
    fs::write(&files.ca, authority.pem()).expect("the scratch directory can be written");
    fs::write(&files.broker, format!("{}{}{}", key.serialize_pem(), broker.pem(), authority.pem()))
        .expect("the scratch directory can be written");
    files
}

/// Broker properties for a CLIENT listener in SASL_SSL and an authorizer that knows these users but gives no rights.
///
/// ANONYMOUS is a super user: it is who comes in by the PLAINTEXT listeners, the brokers themselves and the oracles.
pub fn properties(certificates: &Certificates, users: &[User]) -> Vec<(String, String)> {
    let scram = "org.apache.kafka.common.security.scram.ScramLoginModule required;";
    let mut plain = "org.apache.kafka.common.security.plain.PlainLoginModule required".to_owned();
    for user in users {
        plain += &format!(" user_{}=\"{}\"", user.name, user.password);
    }
    let own = |key: &str| format!("listener.name.client.{key}");
    vec![
        (own("ssl.keystore.type"), "PEM".into()),
        (own("ssl.keystore.location"), certificates.broker.display().to_string()),
        ("sasl.enabled.mechanisms".into(), "SCRAM-SHA-512,SCRAM-SHA-256,PLAIN".into()),
        (own("scram-sha-512.sasl.jaas.config"), scram.into()),
        (own("scram-sha-256.sasl.jaas.config"), scram.into()),
        (own("plain.sasl.jaas.config"), plain + ";"),
        ("authorizer.class.name".into(), "org.apache.kafka.metadata.authorizer.StandardAuthorizer".into()),
        ("super.users".into(), "User:ANONYMOUS;User:admin".into()),
    ]
}

/// Arguments that make StorageTool write the users' SCRAM credentials.
pub fn scram_arguments(users: &[User]) -> Vec<String> {
    let credential = |user: &User, mechanism: &str| {
        let (name, password) = (&user.name, &user.password);
        ["--add-scram".to_owned(), format!("{mechanism}=[name={name},iterations=4096,password={password}]")]
    };
    users.iter().flat_map(|u| [credential(u, "SCRAM-SHA-512"), credential(u, "SCRAM-SHA-256")]).flatten().collect()
}
