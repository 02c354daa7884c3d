//! The way in and out: the operator's token for a session, and back. And the language, which may be chosen by those who
//! are not in yet.

use std::time::Instant;

use askama::Template;
use axum::{
    extract::{RawQuery, State},
    http::{Extensions, HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use tracing::{info, warn};

use super::{
    answer::Page,
    assets::{ASSETS, Assets},
    cookies,
    forms::Fields,
    links,
    room::Room,
    visitor::see,
    words::Words,
};
use crate::{
    api::Language,
    domain::UserId,
    http::{Peer, RequestId},
};

#[derive(Template)]
#[template(path = "login.html")]
struct LoginPage {
    words: &'static Words,
    assets: &'static Assets,
    /// Where it leads.
    to: String,
    here: String,
    problem: Option<&'static str>,
}

impl LoginPage {
    fn new(words: &'static Words, to: &str, problem: Option<&'static str>) -> Self {
        let here = links::with("/login", &[("to", to)]);
        Self { words, assets: &ASSETS, to: to.to_owned(), here, problem }
    }
}

/// The form; who is in already goes on.
pub(super) async fn page(
    State(room): State<Room>,
    headers: HeaderMap,
    RawQuery(query): RawQuery,
) -> Response {
    let query = Fields::of_query(query.as_deref());
    let to = links::local(query.get("to"));
    let secret = cookies::session(&headers);
    if secret.is_some_and(|secret| room.sessions.visit(secret, room.now()).is_some()) {
        return see(to);
    }
    Page(LoginPage::new(room.words(&headers), to, None)).into_response()
}

/// Begins a session for the bearer of an operator's token.
pub(super) async fn log_in(
    State(room): State<Room>,
    headers: HeaderMap,
    extensions: Extensions,
    form: Fields,
) -> Response {
    let words = room.words(&headers);
    let (to, peer) = (links::local(form.get("to")), extensions.get::<Peer>());
    let again = |status: StatusCode, problem| {
        (status, Page(LoginPage::new(words, to, Some(problem)))).into_response()
    };
    if would_be_lost(&headers) {
        return again(StatusCode::FORBIDDEN, words.needs_https);
    }
    if let Err(wait) = room.attempts.take(&peer, Instant::now()) {
        let mut response = again(StatusCode::TOO_MANY_REQUESTS, words.too_many_attempts);
        let seconds = wait.as_secs().saturating_add(1);
        response.headers_mut().insert(header::RETRY_AFTER, seconds.into());
        return response;
    }
    let id = extensions.get::<RequestId>().map(|RequestId(id)| &**id);
    let address = peer.map(tracing::field::display);
    match room.authentication.operator(form.get("token")).await {
        Ok(Some(login)) => {
            room.attempts.give_back(&peer);
            info!(user = login.user().map(UserId::as_str), address, id, "an operator logged in");
            if let Some(old) = cookies::session(&headers) {
                room.sessions.end(old);
            }
            let secret = room.sessions.begin(login, room.now());
            let mut response = see(to);
            let cookie = cookies::keep_session(&headers, &secret);
            response.headers_mut().insert(header::SET_COOKIE, cookie);
            response
        }
        Ok(None) => {
            warn!(address, id, "a wrong token at the admin pages");
            again(StatusCode::FORBIDDEN, words.wrong_token)
        }
        Err(_) => {
            room.attempts.give_back(&peer);
            again(StatusCode::SERVICE_UNAVAILABLE, words.login_unavailable)
        }
    }
}

/// Whether the browser would not keep the session: it has to be secure, and the page came without TLS.
fn would_be_lost(headers: &HeaderMap) -> bool {
    let origin = headers.get(header::ORIGIN).and_then(|origin| origin.to_str().ok());
    !cookies::is_local(headers) && origin.is_some_and(|origin| origin.starts_with("http://"))
}

/// Ends the session.
pub(super) async fn log_out(State(room): State<Room>, headers: HeaderMap) -> Response {
    if let Some(secret) = cookies::session(&headers) {
        room.sessions.end(secret);
    }
    let mut response = see("/login");
    response.headers_mut().insert(header::SET_COOKIE, cookies::forget_session(&headers));
    response
}

/// Has the browser keep a language, and shows the page again.
pub(super) async fn choose_language(headers: HeaderMap, form: Fields) -> Response {
    let mut response = see(links::local(form.get("to")));
    if let Ok(language) = form.get("language").parse::<Language>() {
        let cookie: HeaderValue = cookies::keep_language(&headers, Words::of(language).language);
        response.headers_mut().insert(header::SET_COOKIE, cookie);
    }
    response
}
