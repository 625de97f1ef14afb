//! `[clusters.<alias>]`: where a cluster is and how to reach it safely.

use std::fs::File;
use std::path::PathBuf;

use super::secret::secret_source;
use super::section::{Section, text};
use crate::endpoint::{Identity, Mechanism, Protocol, Security};

/// One cluster. Its alias is a label of this file only; what identifies it is the `cluster.id` its brokers report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClusterConfig {
    /// `host:port`, several separated by commas. Any one that answers is enough: the brokers name the others.
    pub bootstrap: String,
    /// Transport and credentials.
    pub security: Security,
}

impl ClusterConfig {
    pub(super) fn read(mut section: Section<'_>) -> Self {
        let bootstrap = section.required("bootstrap", |section, key| section.text(key)).unwrap_or_default();
        if let Some(bad) = bootstrap.split(',').find(|address| !bootstrap.is_empty() && !is_address(address.trim())) {
            section.refuse("bootstrap", format!("{bad:?} is not host:port"));
        }
        let security = read_security(section.section("security"));
        section.finish();
        Self { bootstrap, security }
    }
}

fn is_address(address: &str) -> bool {
    let Some((host, port)) = address.rsplit_once(':') else { return false };
    let bare_ipv6 = host.contains(':') && !(host.starts_with('[') && host.ends_with(']'));
    !host.is_empty() && !bare_ipv6 && !host.contains('/') && port.parse::<u16>().is_ok_and(|port| port > 0)
}

fn read_security(mut section: Section<'_>) -> Security {
    let gives = |key: &&str| section.gives(key);
    let has_protocol = section.gives("protocol");
    let for_tls: Vec<_> = ["ca", "certificate", "key"].into_iter().filter(gives).collect();
    let for_sasl: Vec<_> = ["mechanism", "username", "password"].into_iter().filter(gives).collect();

    let protocol = section.choice(
        "protocol",
        &[
            ("plaintext", Protocol::Plaintext),
            ("ssl", Protocol::Ssl),
            ("sasl_plaintext", Protocol::SaslPlaintext),
            ("sasl_ssl", Protocol::SaslSsl),
        ],
    );
    let ca = readable(&mut section, "ca");
    let (certificate, key) = (readable(&mut section, "certificate"), readable(&mut section, "key"));
    for (one, other) in [("certificate", "key"), ("key", "certificate")] {
        if for_tls.contains(&one) && !for_tls.contains(&other) {
            section.refuse(other, format!("is required with {one}: a certificate and its key go together"));
        }
    }
    let identity = certificate.zip(key).map(|(certificate, key)| Identity { certificate, key });
    let mechanism = section.choice(
        "mechanism",
        &[
            ("plain", Mechanism::Plain),
            ("scram-sha-256", Mechanism::ScramSha256),
            ("scram-sha-512", Mechanism::ScramSha512),
        ],
    );
    let username = section.text("username");
    let password = secret_source(&mut section, "password");

    // A protocol that was itself refused says nothing about the other keys.
    let protocol_known = protocol.is_some() || !has_protocol;
    let protocol = protocol.unwrap_or_default();
    if protocol_known {
        let name = name_of(protocol);
        for key in for_tls.into_iter().filter(|_| !protocol.uses_tls()) {
            section.refuse(key, format!("has no effect with protocol {name}: choose \"ssl\" or \"sasl_ssl\""));
        }
        for key in ["mechanism", "username", "password"] {
            match (protocol.uses_sasl(), for_sasl.contains(&key)) {
                (true, false) => section.refuse(key, format!("is required with protocol {name}")),
                (false, true) => section.refuse(
                    key,
                    format!("has no effect with protocol {name}: choose \"sasl_ssl\" or \"sasl_plaintext\""),
                ),
                _ => {}
            }
        }
    }
    section.finish();
    Security { protocol, ca, identity, mechanism, username, password }
}

/// The path under `key`, of a file that can be read now.
fn readable(section: &mut Section<'_>, key: &'static str) -> Option<PathBuf> {
    section.read(key, |section, value| {
        let path = section.loading().resolve(&text(value)?);
        File::open(&path).map_err(|error| format!("cannot read {}: {error}", path.display()))?;
        Ok(path)
    })
}

fn name_of(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Plaintext => "plaintext",
        Protocol::Ssl => "ssl",
        Protocol::SaslPlaintext => "sasl_plaintext",
        Protocol::SaslSsl => "sasl_ssl",
    }
}
