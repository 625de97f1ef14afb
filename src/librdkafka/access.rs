//! How librdkafka reaches a cluster: the shared `security` section in its own property names.

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::config::RDKafkaLogLevel;
use sha2::{Digest, Sha256};

use crate::endpoint::{BearerTokens, Error, ErrorKind, Mechanism, Result, Security};

/// A cluster as the configuration names it.
#[derive(Clone)]
pub struct ClusterAccess {
    /// Alias, for messages.
    pub alias: String,
    /// `host:port`, separated by commas.
    pub bootstrap: String,
    /// How to connect safely.
    pub security: Security,
    /// Hands out tokens, with OAUTHBEARER.
    pub tokens: Option<Arc<dyn BearerTokens>>,
}

impl fmt::Debug for ClusterAccess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { alias, bootstrap, security, .. } = self;
        f.debug_struct("ClusterAccess")
            .field("alias", alias)
            .field("bootstrap", bootstrap)
            .field("security", security)
            .finish_non_exhaustive()
    }
}

/// A hash of credentials, to tell whether they were replaced.
#[derive(PartialEq, Eq)]
pub(super) struct Credentials([u8; 32]);

/// Longest wait for one answer of a broker; must stay below the transaction time-out.
pub(super) const SOCKET_TIMEOUT: Duration = Duration::from_secs(6);

impl ClusterAccess {
    /// The properties every client of this cluster starts from.
    ///
    /// # Errors
    /// `Denied`, naming the cluster and the setting, when the security section is incomplete.
    pub(super) fn client_config(&self) -> Result<ClientConfig> {
        let mut config = ClientConfig::new();
        config
            .set_log_level(RDKafkaLogLevel::Warning)
            .set("client.id", "twinlog-ledger")
            .set("bootstrap.servers", &self.bootstrap)
            .set("socket.timeout.ms", SOCKET_TIMEOUT.as_millis().to_string())
            .set("socket.keepalive.enable", "true")
            .set("socket.nagle.disable", "true")
            .set("reconnect.backoff.ms", "50")
            .set("reconnect.backoff.max.ms", "2000")
            .set("allow.auto.create.topics", "false")
            // How long a topic created a moment ago may be missing from a broker's metadata; 30 s by default.
            .set("topic.metadata.propagation.max.ms", "5000")
            .set("enable.metrics.push", "false");
        self.secure(&mut config)?;
        Ok(config)
    }

    /// What a client made now would know of the files it reads; `None` while one of them cannot be read.
    pub(super) fn credentials(&self) -> Option<Credentials> {
        let Security { ca, identity, password, .. } = &self.security;
        let mut hash = Sha256::new();
        let files = [ca.as_ref(), identity.as_ref().map(|i| &i.certificate), identity.as_ref().map(|i| &i.key)];
        for file in files.into_iter().flatten() {
            hash.update(std::fs::read(file).ok()?);
        }
        if let Some(password) = password {
            hash.update(password.read().ok()?.reveal());
        }
        Some(Credentials(hash.finalize().into()))
    }

    fn secure(&self, config: &mut ClientConfig) -> Result<()> {
        use crate::endpoint::Protocol;
        let security = &self.security;
        config.set(
            "security.protocol",
            match security.protocol {
                Protocol::Plaintext => "plaintext",
                Protocol::Ssl => "ssl",
                Protocol::SaslPlaintext => "sasl_plaintext",
                Protocol::SaslSsl => "sasl_ssl",
            },
        );
        if security.protocol.uses_tls() {
            // Both stacks check the broker's name; librdkafka's own default has changed between versions.
            config.set("ssl.endpoint.identification.algorithm", "https");
            match &security.ca {
                Some(file) => config.set("ssl.ca.location", self.path(file, "ca")?),
                // The vendored OpenSSL has no roots of its own: look where the machine keeps them.
                None => config.set("ssl.ca.location", "probe"),
            };
            if let Some(identity) = &security.identity {
                config
                    .set("ssl.certificate.location", self.path(&identity.certificate, "certificate")?)
                    .set("ssl.key.location", self.path(&identity.key, "key")?);
            }
        }
        if security.protocol.uses_sasl() {
            let mechanism = security.mechanism.ok_or_else(|| self.incomplete("security.mechanism is missing"))?;
            config.set("sasl.mechanism", mechanism.name());
            if mechanism == Mechanism::OauthBearer {
                // The token itself comes by a callback: see `Login`.
                return match &self.tokens {
                    Some(_) => Ok(()),
                    None => Err(self.incomplete("security.token is missing")),
                };
            }
            let username =
                security.username.as_deref().ok_or_else(|| self.incomplete("security.username is missing"))?;
            let password = security.password.as_ref().ok_or_else(|| self.incomplete("security.password is missing"))?;
            let password = password.read().map_err(|why| self.incomplete(&format!("security.password: {why}")))?;
            config.set("sasl.username", username).set("sasl.password", password.reveal());
        }
        Ok(())
    }

    fn path<'a>(&self, file: &'a Path, key: &str) -> Result<&'a str> {
        file.to_str().ok_or_else(|| self.incomplete(&format!("security.{key} is not valid UTF-8")))
    }

    fn incomplete(&self, what: &str) -> Error {
        Error::new(ErrorKind::Denied, format!("clusters.{}.{what} (protocol {:?})", self.alias, self.security.protocol))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::endpoint::{Identity, Protocol, Secret, SecretSource};

    fn access(security: Security) -> ClusterAccess {
        ClusterAccess { alias: "lyon".into(), bootstrap: "127.0.0.1:1".into(), security, tokens: None }
    }

    #[test]
    fn a_sasl_ssl_section_becomes_librdkafkas_properties() {
        let config = access(Security {
            protocol: Protocol::SaslSsl,
            ca: Some("/etc/twinlog/ca.pem".into()),
            identity: Some(Identity { certificate: "/etc/twinlog/us.pem".into(), key: "/etc/twinlog/us.key".into() }),
            mechanism: Some(Mechanism::ScramSha512),
            username: Some("twinlog".into()),
            password: Some(SecretSource::Known(Secret::new("hush"))),
            token: None,
        })
        .client_config()
        .unwrap();
        let expected = [
            ("security.protocol", "sasl_ssl"),
            ("ssl.ca.location", "/etc/twinlog/ca.pem"),
            ("ssl.certificate.location", "/etc/twinlog/us.pem"),
            ("ssl.key.location", "/etc/twinlog/us.key"),
            ("sasl.mechanism", "SCRAM-SHA-512"),
            ("sasl.username", "twinlog"),
            ("sasl.password", "hush"),
        ];
        for (key, value) in expected {
            assert_eq!(config.get(key), Some(value), "{key}");
        }
    }

    #[test]
    fn a_missing_password_is_named_with_its_cluster() {
        let security = Security {
            protocol: Protocol::SaslPlaintext,
            mechanism: Some(Mechanism::Plain),
            username: Some("twinlog".into()),
            ..Security::default()
        };
        let error = access(security).client_config().unwrap_err();
        assert_eq!(error.kind, ErrorKind::Denied);
        assert!(error.message.contains("lyon") && error.message.contains("security.password"), "{error}");
    }
}
