//! Secrets are referred to, never written into the file: `{ env = "NAME" }` or `{ file = "path" }`.

use std::fs;

use config::{Value, ValueKind};

use super::section::{Section, from_environment};
use crate::endpoint::Secret;

const HOW: &str = "write { env = \"NAME\" } to take it from that environment variable, or { file = \"path\" } to take it \
                   from that file";

/// Reads the secret under `key`. A `TWINLOG__…` override may be the secret itself, since it is not in the file.
pub(super) fn secret(section: &mut Section<'_>, key: &'static str) -> Option<Secret> {
    section.read(key, |section, value| resolve(section, key, value)).flatten()
}

/// `Ok(None)`: a problem within the reference was reported under its own key.
fn resolve(section: &Section<'_>, key: &str, value: Value) -> Result<Option<Secret>, String> {
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

fn from_variable(section: &Section<'_>, name: &str) -> Result<Secret, String> {
    let value = section.loading().environment().get(name);
    let value = value.ok_or_else(|| format!("environment variable {name} is not set (or not UTF-8)"))?;
    not_empty(value.to_owned(), &format!("environment variable {name}"))
}

/// A line end behind the secret, as editors leave it, does not belong to it.
fn from_file(section: &Section<'_>, path: &str) -> Result<Secret, String> {
    let path = section.loading().resolve(path);
    let text = fs::read_to_string(&path).map_err(|error| format!("cannot read {}: {error}", path.display()))?;
    not_empty(text.trim_end_matches(['\r', '\n']).to_owned(), &format!("file {}", path.display()))
}

fn not_empty(secret: String, place: &str) -> Result<Secret, String> {
    if secret.is_empty() { Err(format!("{place} is empty")) } else { Ok(Secret::new(secret)) }
}
