//! How to reach a cluster safely: one description that feeds both client stacks.

use std::fmt;
use std::fs;
use std::path::PathBuf;

use crate::endpoint::TokenSource;

/// A value that never shows itself.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps a secret text.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text itself; hand it only to what must know it.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[secret]")
    }
}

/// Where a secret comes from. One in a file is read again for each authentication, so that it can be replaced while
/// Twinlog runs; a variable of the environment cannot change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SecretSource {
    /// Known since the start.
    Known(Secret),
    /// In this file, which may be replaced.
    File(PathBuf),
}

impl SecretSource {
    /// The secret as it is now. A line end behind it, as editors leave it, does not belong to it.
    ///
    /// # Errors
    /// Names the file when it cannot be read or is empty.
    pub fn read(&self) -> std::result::Result<Secret, String> {
        let file = match self {
            SecretSource::Known(secret) => return Ok(secret.clone()),
            SecretSource::File(file) => file,
        };
        let text = fs::read_to_string(file).map_err(|error| format!("cannot read {}: {error}", file.display()))?;
        match text.trim_end_matches(['\r', '\n']) {
            "" => Err(format!("file {} is empty", file.display())),
            secret => Ok(Secret::new(secret)),
        }
    }
}

/// Who we are by TLS: two PEM files, read again for each new connection when they have changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The certificate, with the intermediate ones behind it.
    pub certificate: PathBuf,
    /// Its private key, not encrypted.
    pub key: PathBuf,
}

/// Everything needed to connect to a cluster.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Security {
    /// Transport and whether SASL is spoken.
    pub protocol: Protocol,
    /// PEM file with the trusted certificate authorities; the machine's own roots when absent.
    pub ca: Option<PathBuf>,
    /// What we show to brokers that want a certificate of their clients.
    pub identity: Option<Identity>,
    /// SASL mechanism; required with the SASL protocols.
    pub mechanism: Option<Mechanism>,
    /// SASL user name.
    pub username: Option<String>,
    /// SASL password.
    pub password: Option<SecretSource>,
    /// Where the tokens come from with OAUTHBEARER, in place of user name and password.
    pub token: Option<TokenSource>,
}

/// Kafka's `security.protocol`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Protocol {
    /// Plain TCP.
    #[default]
    Plaintext,
    /// TLS.
    Ssl,
    /// SASL over plain TCP.
    SaslPlaintext,
    /// SASL over TLS.
    SaslSsl,
}

impl Protocol {
    /// Whether the transport is TLS.
    pub fn uses_tls(self) -> bool {
        matches!(self, Protocol::Ssl | Protocol::SaslSsl)
    }

    /// Whether SASL is spoken.
    pub fn uses_sasl(self) -> bool {
        matches!(self, Protocol::SaslPlaintext | Protocol::SaslSsl)
    }
}

/// SASL mechanisms both stacks speak.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mechanism {
    /// PLAIN (RFC 4616).
    Plain,
    /// SCRAM-SHA-256 (RFC 5802, 7677).
    ScramSha256,
    /// SCRAM-SHA-512.
    ScramSha512,
    /// OAUTHBEARER (RFC 7628).
    OauthBearer,
}

impl Mechanism {
    /// The registered name.
    pub fn name(self) -> &'static str {
        match self {
            Mechanism::Plain => "PLAIN",
            Mechanism::ScramSha256 => "SCRAM-SHA-256",
            Mechanism::ScramSha512 => "SCRAM-SHA-512",
            Mechanism::OauthBearer => "OAUTHBEARER",
        }
    }
}
