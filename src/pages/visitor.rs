//! Whoever has a session: the extractor that every page begins with, and where all others are sent.

use std::sync::Arc;

use axum::{
    extract::FromRequestParts,
    http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, header, request::Parts},
    response::{IntoResponse, Response},
};

use super::{cookies, failure::Failure, links, room::Room, words::Words};
use crate::http::{Login, RequestId};

/// What htmx sends along with its requests, and what has it go to another page as a whole.
const PART: HeaderName = HeaderName::from_static("hx-request");
const GO_TO: HeaderName = HeaderName::from_static("hx-redirect");

/// Somebody with a session.
pub(super) struct Visitor {
    pub(super) room: Room,
    pub(super) login: Login,
    pub(super) words: &'static Words,
    /// The page asked for, with its query.
    pub(super) here: String,
    pub(super) request_id: Option<Arc<str>>,
}

impl FromRequestParts<Room> for Visitor {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, room: &Room) -> Result<Self, Response> {
        let here = parts.uri.path_and_query().map_or("/", |path| path.as_str()).to_owned();
        let secret = cookies::session(&parts.headers);
        let login = secret.and_then(|secret| room.sessions.visit(secret, room.now()));
        let Some(login) = login else {
            // What was to be done is not done after the login: it begins at the page.
            let to = if parts.method == Method::GET { &here } else { "/" };
            return Err(to_login(&parts.headers, to));
        };
        let request_id = parts.extensions.get::<RequestId>().map(|RequestId(id)| Arc::clone(id));
        let words = room.words(&parts.headers);
        Ok(Self { room: room.clone(), login, words, here, request_id })
    }
}

fn to_login(headers: &HeaderMap, to: &str) -> Response {
    let login = links::with("/login", &[("to", to)]);
    if !headers.contains_key(PART) {
        return see(&login);
    }
    let mut response = StatusCode::UNAUTHORIZED.into_response();
    if let Ok(login) = HeaderValue::try_from(login) {
        response.headers_mut().insert(GO_TO, login);
    }
    response
}

/// Sends a browser to another page of ours.
pub(super) fn see(page: &str) -> Response {
    let mut response = StatusCode::SEE_OTHER.into_response();
    let page = HeaderValue::try_from(page).unwrap_or(HeaderValue::from_static("/"));
    response.headers_mut().insert(header::LOCATION, page);
    response
}

/// Whatever is no page. Who has no session is not told so.
pub(super) async fn nothing_here(_: Visitor, _: Uri) -> Failure {
    Failure::NotFound
}
