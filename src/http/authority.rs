//! Who may change something.

use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use subtle::ConstantTimeEq;

use super::Served;
use super::answer::Refusal;

/// Lets a request to a verb pass, or answers it.
pub(super) async fn check(State(served): State<Served>, request: Request, next: Next) -> Response {
    match may_change(&served, request.headers()) {
        Ok(()) => next.run(request).await,
        Err(refusal) => refusal.into_response(),
    }
}

fn may_change(served: &Served, headers: &HeaderMap) -> Result<(), Refusal> {
    // A browser sends `Origin` with every POST: a page somebody has open must not pause a link on their loopback.
    if headers.contains_key(header::ORIGIN) {
        return Err(Refusal(StatusCode::FORBIDDEN, "verbs are not served to web pages".to_owned()));
    }
    let Some(token) = &served.token else {
        return if served.on_loopback {
            Ok(())
        } else {
            Err(Refusal(
                StatusCode::FORBIDDEN,
                "verbs need a token here: set http.token, or listen on a loopback address".to_owned(),
            ))
        };
    };
    let given = headers.get(header::AUTHORIZATION).and_then(|value| value.as_bytes().strip_prefix(b"Bearer "));
    match given {
        Some(given) if bool::from(given.ct_eq(token.reveal().as_bytes())) => Ok(()),
        Some(_) => Err(Refusal(StatusCode::UNAUTHORIZED, "the bearer token is not the one of http.token".to_owned())),
        None => Err(Refusal(StatusCode::UNAUTHORIZED, "verbs need the bearer token of http.token".to_owned())),
    }
}
