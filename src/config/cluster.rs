//! `[clusters.<alias>]`: where a cluster is and how to reach it safely.

use std::fs::File;
use std::path::PathBuf;

use super::secret::secret_source;
use super::section::{Section, text};
use super::token::token_source;
use crate::endpoint::{Identity, Mechanism, Protocol, Security};

/// One cluster. Its alias is a label of this file only; what identifies it is the `cluster.id` its brokers report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClusterConfig {
    /// `host:port`, several separated by commas. Any one that answers is enough: the brokers name the others.
    pub bootstrap: String,
    /// The rack (availability zone) that Twinlog runs in, as the brokers' `broker.rack` names it: where they choose by it
    /// (`replica.selector.class`, KIP-392), partitions are read from a replica there.
    pub rack: Option<String>,
    /// Transport and credentials.
    pub security: Security,
}

impl ClusterConfig {
    pub(super) fn read(mut section: Section<'_>) -> Self {
        let bootstrap = section.required("bootstrap", |section, key| section.text(key)).unwrap_or_default();
        if let Some(bad) = bootstrap.split(',').find(|address| !bootstrap.is_empty() && !is_address(address.trim())) {
            section.refuse("bootstrap", format!("{bad:?} is not host:port"));
        }
        let rack = section.text("rack");
        let security = read_security(section.section("security"));
        section.finish();
        Self { bootstrap, rack, security }
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
    let for_sasl: Vec<_> = ["mechanism", "username", "password", "token"].into_iter().filter(gives).collect();

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
            ("oauthbearer", Mechanism::OauthBearer),
        ],
    );
    let username = section.text("username");
    let password = secret_source(&mut section, "password");
    let token = token_source(&mut section);

    // A protocol that was itself refused says nothing about the other keys.
    let protocol_known = protocol.is_some() || !has_protocol;
    let protocol = protocol.unwrap_or_default();
    if protocol_known {
        for key in for_tls.into_iter().filter(|_| !protocol.uses_tls()) {
            let name = name_of(protocol);
            section.refuse(key, format!("has no effect with protocol {name}: choose \"ssl\" or \"sasl_ssl\""));
        }
        let (wanted, unused): (&[&str], &[&str]) = match mechanism {
            _ if !protocol.uses_sasl() => (&[], &["mechanism", "username", "password", "token"]),
            Some(Mechanism::OauthBearer) => (&["token"], &["username", "password"]),
            _ => (&["mechanism", "username", "password"], &["token"]),
        };
        for key in wanted.iter().filter(|key| !for_sasl.contains(key)) {
            section.refuse(key, format!("is required with {}", reason(protocol, mechanism)));
        }
        for key in unused.iter().filter(|key| for_sasl.contains(key)) {
            let choose = match (protocol.uses_sasl(), *key) {
                (false, _) => "protocol \"sasl_ssl\" or \"sasl_plaintext\"",
                (true, "token") => "mechanism \"oauthbearer\"",
                (true, _) => "mechanism \"plain\" or one of SCRAM",
            };
            section.refuse(key, format!("has no effect with {}: choose {choose}", reason(protocol, mechanism)));
        }
    }
    section.finish();
    Security { protocol, ca, identity, mechanism, username, password, token }
}

/// The path under `key`, of a file that can be read now.
pub(super) fn readable(section: &mut Section<'_>, key: &'static str) -> Option<PathBuf> {
    section.read(key, |section, value| {
        let path = section.loading().resolve(&text(value)?);
        File::open(&path).map_err(|error| format!("cannot read {}: {error}", path.display()))?;
        Ok(path)
    })
}

/// What makes a key necessary or useless.
fn reason(protocol: Protocol, mechanism: Option<Mechanism>) -> String {
    match mechanism {
        Some(Mechanism::OauthBearer) if protocol.uses_sasl() => "mechanism oauthbearer".to_owned(),
        _ => format!("protocol {}", name_of(protocol)),
    }
}

fn name_of(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Plaintext => "plaintext",
        Protocol::Ssl => "ssl",
        Protocol::SaslPlaintext => "sasl_plaintext",
        Protocol::SaslSsl => "sasl_ssl",
    }
}
