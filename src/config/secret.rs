//! Secrets are referred to, never written into the file: `{ env = "NAME" }` or `{ file = "path" }`.

use config::{Value, ValueKind};

use super::section::{Section, from_environment};
use crate::endpoint::{Secret, SecretSource};

const HOW: &str = "write { env = \"NAME\" } to take it from that environment variable, or { file = \"path\" } to take it \
                   from that file";

/// Reads the secret under `key` for good. A `TWINLOG__…` override may be the secret itself, since it is not in the file.
pub(super) fn secret(section: &mut Section<'_>, key: &'static str) -> Option<Secret> {
    section.read(key, |section, value| resolve(section, key, value)?.map(|source| source.read()).transpose()).flatten()
}

/// Reads where the secret under `key` is, and that it is there now.
pub(super) fn secret_source(section: &mut Section<'_>, key: &'static str) -> Option<SecretSource> {
    section.read(key, |section, value| resolve(section, key, value)).flatten()
}

/// `Ok(None)`: a problem within the reference was reported under its own key.
fn resolve(section: &Section<'_>, key: &str, value: Value) -> Result<Option<SecretSource>, String> {
    let overridden = from_environment(&value);
    match value.kind {
        ValueKind::String(secret) if overridden => not_empty(secret, "the variable").map(Some),
        ValueKind::Table(_) => {
            let mut reference = section.inner(key, value);
            let found = match reference.either("env", "file") {
                Some("env") => reference.text("env").map(|name| from_variable(section, &name)),
                Some(_) => reference.text("file").map(|path| from_file(section, &path)),
                None => return Err(HOW.to_owned()),
            };
            reference.finish();
            found.transpose()
        }
        _ => Err(format!("a secret does not stand in the file: {HOW}")),
    }
}

fn from_variable(section: &Section<'_>, name: &str) -> Result<SecretSource, String> {
    let value = section.loading().environment().get(name);
    let value = value.ok_or_else(|| format!("environment variable {name} is not set (or not UTF-8)"))?;
    not_empty(value.to_owned(), &format!("environment variable {name}"))
}

fn from_file(section: &Section<'_>, path: &str) -> Result<SecretSource, String> {
    let source = SecretSource::File(section.loading().resolve(path));
    source.read().map(|_| source)
}

fn not_empty(secret: String, place: &str) -> Result<SecretSource, String> {
    if secret.is_empty() { Err(format!("{place} is empty")) } else { Ok(SecretSource::Known(Secret::new(secret))) }
}
