//! SCRAM (RFC 5802, RFC 7677), client side, without channel binding; no I/O.
//!
//! Kafka takes the password's UTF-8 bytes as they are (no SASLprep), and so does this.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use hmac::digest::crypto_common::BlockSizeUser;
use hmac::{Mac, SimpleHmac};
use sha2::{Digest, Sha256, Sha512};
use subtle::ConstantTimeEq;

/// Kafka's minimum; fewer would make the password cheap to guess for whoever stands between.
const FEWEST_ITERATIONS: u32 = 4096;
/// Above any setting of Kafka's (16,384); more would let a hostile server burn our CPU.
const MOST_ITERATIONS: u32 = 200_000;

/// Which hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Hash {
    /// SCRAM-SHA-256.
    Sha256,
    /// SCRAM-SHA-512.
    Sha512,
}

/// Why an exchange failed.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// The server's word, such as a wrong password.
    Refused(String),
    /// The server breaks the protocol, or does not know the password itself: not the cluster it claims to be.
    Untrusted(&'static str),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Refused(why) => f.write_str(why),
            Failure::Untrusted(why) => write!(f, "the server is not to be trusted: {why}"),
        }
    }
}

/// An exchange that has begun.
pub(super) struct Exchange {
    hash: Hash,
    password: String,
    nonce: String,
    first_bare: String,
}

/// An exchange whose server still has to prove itself.
pub(super) struct Proving {
    server_signature: Vec<u8>,
}

impl Exchange {
    /// Begins; `nonce` must be fresh and printable without a comma.
    pub(super) fn new(hash: Hash, username: &str, password: &str, nonce: &str) -> Self {
        let username = username.replace('=', "=3D").replace(',', "=2C");
        let first_bare = format!("n={username},r={nonce}");
        Self { hash, password: password.to_owned(), nonce: nonce.to_owned(), first_bare }
    }

    /// The first message to the server.
    pub(super) fn first_message(&self) -> String {
        format!("n,,{}", self.first_bare)
    }

    /// Answers the server's first message with the final one.
    pub(super) fn answer(self, server_first: &[u8]) -> Result<(String, Proving), Failure> {
        let untrusted = Failure::Untrusted;
        let server_first = std::str::from_utf8(server_first).map_err(|_| untrusted("its message is not text"))?;
        if let Some(error) = attribute(server_first, 'e') {
            return Err(Failure::Refused(error.to_owned()));
        }
        let nonce = attribute(server_first, 'r').ok_or(untrusted("it sent no nonce"))?;
        if !nonce.starts_with(&self.nonce) || nonce.len() == self.nonce.len() {
            return Err(untrusted("its nonce does not extend ours"));
        }
        let salt = attribute(server_first, 's').and_then(|s| BASE64.decode(s).ok());
        let salt = salt.filter(|s| !s.is_empty()).ok_or(untrusted("it sent no salt"))?;
        let iterations = attribute(server_first, 'i').and_then(|i| i.parse::<u32>().ok());
        let iterations = iterations.ok_or(untrusted("it sent no iteration count"))?;
        if !(FEWEST_ITERATIONS..=MOST_ITERATIONS).contains(&iterations) {
            return Err(untrusted("its iteration count is outside 4096–200000"));
        }
        let without_proof = format!("c=biws,r={nonce}");
        let message = format!("{},{server_first},{without_proof}", self.first_bare);
        let (proof, server_signature) = match self.hash {
            Hash::Sha256 => keys::<Sha256>(self.password.as_bytes(), &salt, iterations, message.as_bytes()),
            Hash::Sha512 => keys::<Sha512>(self.password.as_bytes(), &salt, iterations, message.as_bytes()),
        };
        Ok((format!("{without_proof},p={}", BASE64.encode(proof)), Proving { server_signature }))
    }
}

impl Proving {
    /// Checks the server's final message: only who knows the password's keys can have signed it.
    pub(super) fn verify(self, server_final: &[u8]) -> Result<(), Failure> {
        let untrusted = Failure::Untrusted;
        let server_final = std::str::from_utf8(server_final).map_err(|_| untrusted("its message is not text"))?;
        if let Some(error) = attribute(server_final, 'e') {
            return Err(Failure::Refused(error.to_owned()));
        }
        let signature = attribute(server_final, 'v').and_then(|v| BASE64.decode(v).ok());
        let signature = signature.ok_or(untrusted("it sent no signature"))?;
        match bool::from(signature.ct_eq(&self.server_signature)) {
            true => Ok(()),
            false => Err(untrusted("its signature is wrong")),
        }
    }
}

fn attribute(message: &str, name: char) -> Option<&str> {
    message.split(',').find_map(|part| part.strip_prefix(name)?.strip_prefix('='))
}

/// The client's proof and the signature the server must show.
fn keys<D>(password: &[u8], salt: &[u8], iterations: u32, message: &[u8]) -> (Vec<u8>, Vec<u8>)
where
    D: Digest + BlockSizeUser + Clone + Sync,
{
    let mut salted = vec![0; <D as Digest>::output_size()];
    pbkdf2::pbkdf2::<SimpleHmac<D>>(password, salt, iterations, &mut salted).expect("HMAC takes keys of any length");
    let client_key = sign::<D>(&salted, b"Client Key");
    let client_signature = sign::<D>(&D::digest(&client_key), message);
    let proof = client_key.iter().zip(&client_signature).map(|(key, signature)| key ^ signature).collect();
    let server_signature = sign::<D>(&sign::<D>(&salted, b"Server Key"), message);
    (proof, server_signature)
}

fn sign<D: Digest + BlockSizeUser>(key: &[u8], message: &[u8]) -> Vec<u8> {
    let mut mac = SimpleHmac::<D>::new_from_slice(key).expect("HMAC takes keys of any length");
    mac.update(message);
    mac.finalize().into_bytes().to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 7677, section 3.
    const SERVER_FIRST: &[u8] =
        b"r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096";

    // Calculated with Python's hashlib from the same challenge.
    const SHA_512_PROOF: &str =
        "p=gMGXRcevScNtxZ6/8lQYpGtnsNAc3mGcmNomv+xnoOMw+3R2xNJdMNnzMlTN8PPC6wdp6dybEmDYXYTxwnYPJQ==";
    const SHA_512_SIGNATURE: &str =
        "v=ZQnYEgWQMFmmsM8aQMF0nDDCy/AgCzkwk8CmMZYcMg0vSVlKDanekLtifDSeVGT4+5ZxXnJq199RVG2rR7N7Zw==";

    fn begin(hash: Hash) -> Exchange {
        Exchange::new(hash, "user", "pencil", "rOprNGfwEbeRWgbNEkqO")
    }

    #[test]
    fn the_vector_of_rfc_7677_comes_out() {
        let exchange = begin(Hash::Sha256);
        assert_eq!(exchange.first_message(), "n,,n=user,r=rOprNGfwEbeRWgbNEkqO");
        let (last, proving) = exchange.answer(SERVER_FIRST).expect("a valid challenge");
        assert_eq!(
            last,
            "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
        );
        proving.verify(b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=").expect("the server's signature");
    }

    #[test]
    fn sha_512_agrees_with_an_independent_calculation() {
        let (last, proving) = begin(Hash::Sha512).answer(SERVER_FIRST).expect("a valid challenge");
        assert!(last.ends_with(SHA_512_PROOF), "{last}");
        proving.verify(SHA_512_SIGNATURE.as_bytes()).expect("the server's signature");
    }

    #[test]
    fn a_server_that_does_not_know_the_password_is_not_trusted() {
        let (_, proving) = begin(Hash::Sha256).answer(SERVER_FIRST).expect("a valid challenge");
        let forged = proving.verify(b"v=AAAATRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=");
        assert_eq!(forged, Err(Failure::Untrusted("its signature is wrong")));
    }

    #[test]
    fn hostile_challenges_are_refused_before_any_work() {
        let challenges: [&[u8]; 8] = [
            b"r=rOprNGfwEbeRWgbNEkqOx,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=1",
            b"r=rOprNGfwEbeRWgbNEkqOx,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4294967295",
            b"r=rOprNGfwEbeRWgbNEkqO,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096",
            b"r=other,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096",
            b"r=rOprNGfwEbeRWgbNEkqOx,s=,i=4096",
            b"r=rOprNGfwEbeRWgbNEkqOx,s=???,i=4096",
            b"",
            b"\xff\xfe",
        ];
        for challenge in challenges {
            let answered = begin(Hash::Sha256).answer(challenge).err();
            assert!(matches!(answered, Some(Failure::Untrusted(_))), "{:?}: {answered:?}", challenge);
        }
        let refused = begin(Hash::Sha256).answer(b"e=unknown-user").err();
        assert_eq!(refused, Some(Failure::Refused("unknown-user".into())));
    }

    #[test]
    fn commas_and_equals_signs_in_names_are_escaped() {
        let exchange = Exchange::new(Hash::Sha256, "a=b,c", "p", "n");
        assert_eq!(exchange.first_message(), "n,,n=a=3Db=2Cc,r=n");
    }
}
