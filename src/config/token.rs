//! `token = { … }`: where the tokens of OAUTHBEARER come from.

use hyper::Uri;

use super::cluster::readable;
use super::secret::secret_source;
use super::section::Section;
use crate::endpoint::{TokenEndpoint, TokenSource};

const HOW: &str = "write { file = \"path\" }, { command = [\"program\", \"argument\"] } or { endpoint = \"https://…\", \
                   client_id = \"…\", client_secret = { … } }";

/// Reads where tokens come from.
pub(super) fn token_source(section: &mut Section<'_>) -> Option<TokenSource> {
    let table = section.read("token", |section, value| Ok(section.inner("token", value)))?;
    let given = ["file", "command", "endpoint"].into_iter().filter(|key| table.gives(key)).collect::<Vec<_>>();
    let [kind] = given[..] else {
        section.refuse("token", HOW);
        return None;
    };
    read(table, kind)
}

/// `None`: a problem was reported under its own key.
fn read(mut table: Section<'_>, kind: &str) -> Option<TokenSource> {
    let source = match kind {
        "file" => readable(&mut table, "file").map(TokenSource::File),
        "command" => {
            let words = table.texts("command");
            if words.as_ref().is_some_and(|words| words.first().is_none_or(String::is_empty)) {
                table.refuse("command", "names no program");
            }
            words.map(TokenSource::Command)
        }
        _ => endpoint(&mut table).map(TokenSource::Endpoint),
    };
    table.finish();
    source
}

fn endpoint(table: &mut Section<'_>) -> Option<TokenEndpoint> {
    let url = table.read("endpoint", |_, value| address(&super::section::text(value)?));
    let ca = readable(table, "ca");
    let client_id = table.required("client_id", |table, key| table.text(key));
    let client_secret = table.required("client_secret", |table, key| secret_source(table, key));
    let scope = table.text("scope");
    Some(TokenEndpoint { url: url?, ca, client_id: client_id?, client_secret: client_secret?, scope })
}

fn address(url: &str) -> Result<Uri, String> {
    let hint = "expected a URL such as \"https://login.example.com/oauth2/token\"";
    let url: Uri = url.parse().map_err(|error| format!("{hint}: {error}"))?;
    let host = url.host().filter(|host| !host.is_empty()).ok_or(hint)?;
    if url.authority().is_some_and(|authority| authority.as_str().contains('@')) {
        return Err(format!("{hint}: name and secret do not belong into it: see client_id and client_secret"));
    }
    let loopback = matches!(host, "localhost" | "127.0.0.1" | "[::1]");
    match url.scheme_str() {
        Some("https") => Ok(url),
        Some("http") if loopback => Ok(url),
        Some("http") => Err("sends the client's secret in the clear: use https".to_owned()),
        _ => Err(hint.to_owned()),
    }
}
