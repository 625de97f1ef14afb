//! `[clusters.<alias>]`: where a cluster is and how to reach it safely.

use std::fs::File;

use super::secret::secret;
use super::section::{Section, text};
use crate::endpoint::{Mechanism, Protocol, Security};

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
    let [has_protocol, has_ca, has_mechanism, has_username, has_password] =
        ["protocol", "ca", "mechanism", "username", "password"].map(|key| section.gives(key));

    let protocol = section.choice(
        "protocol",
        &[
            ("plaintext", Protocol::Plaintext),
            ("ssl", Protocol::Ssl),
            ("sasl_plaintext", Protocol::SaslPlaintext),
            ("sasl_ssl", Protocol::SaslSsl),
        ],
    );
    let ca = section.read("ca", |section, value| {
        let path = section.loading().resolve(&text(value)?);
        File::open(&path).map_err(|error| format!("cannot read {}: {error}", path.display()))?;
        Ok(path)
    });
    let mechanism = section.choice(
        "mechanism",
        &[
            ("plain", Mechanism::Plain),
            ("scram-sha-256", Mechanism::ScramSha256),
            ("scram-sha-512", Mechanism::ScramSha512),
        ],
    );
    let username = section.text("username");
    let password = secret(&mut section, "password");

    // A protocol that was itself refused says nothing about the other keys.
    let protocol_known = protocol.is_some() || !has_protocol;
    let protocol = protocol.unwrap_or_default();
    if protocol_known {
        let name = name_of(protocol);
        if has_ca && !protocol.uses_tls() {
            section.refuse("ca", format!("has no effect with protocol {name}: choose \"ssl\" or \"sasl_ssl\""));
        }
        for (key, has) in [("mechanism", has_mechanism), ("username", has_username), ("password", has_password)] {
            if protocol.uses_sasl() && !has {
                section.refuse(key, format!("is required with protocol {name}"));
            }
            if !protocol.uses_sasl() && has {
                section.refuse(
                    key,
                    format!("has no effect with protocol {name}: choose \"sasl_ssl\" or \"sasl_plaintext\""),
                );
            }
        }
    }
    section.finish();
    Security { protocol, ca, mechanism, username, password }
}

fn name_of(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Plaintext => "plaintext",
        Protocol::Ssl => "ssl",
        Protocol::SaslPlaintext => "sasl_plaintext",
        Protocol::SaslSsl => "sasl_ssl",
    }
}
