//! What a token says of itself. Nothing is verified: that is for the brokers; we only plan by it.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

/// The claims that are of use here; absent in tokens that are no JWT.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Claims {
    pub(super) expires: Option<SystemTime>,
    pub(super) subject: Option<String>,
}

/// Reads the middle part of `header.payload.signature`.
pub(super) fn of(token: &str) -> Claims {
    let payload = || {
        let payload = token.split('.').nth(1)?.trim_end_matches('=');
        serde_json::from_slice::<serde_json::Value>(&URL_SAFE_NO_PAD.decode(payload).ok()?).ok()
    };
    let Some(payload) = payload() else { return Claims::default() };
    let expires = payload["exp"].as_f64().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    Claims {
        expires: expires.and_then(|since| UNIX_EPOCH.checked_add(since)),
        subject: payload["sub"].as_str().filter(|subject| !subject.contains('\0')).map(str::to_owned),
    }
}
