//! Why a browser gets no page, and the page it gets instead.

use askama::Template;
use axum::{
    body::Body,
    extract::{Request, State},
    http::{HeaderValue, StatusCode, header},
    middleware::Next,
    response::{IntoResponse, Response},
};

use super::{
    answer::HTML,
    assets::{ASSETS, Assets},
    guard::headed,
    room::Room,
    words::Words,
};
use crate::{
    api::Language,
    http::{Cause, Finish, Refusal},
};

/// Why there is no page.
#[derive(Debug, Clone)]
pub(super) enum Failure {
    /// There is nothing at this address, or nobody of this name.
    NotFound,
    MethodNotAllowed,
    /// A form that another site's page sent, or something that is no browser's.
    Foreign,
    /// What was sent is no form, or did not arrive.
    NoForm,
    TooLarge,
    /// It may pass, with what the API says of it.
    Unavailable(String),
    /// The API refuses, with what it says.
    Refused(StatusCode, String),
    /// A bug, with what the log says of it.
    Internal(String),
    Panicked(String),
    DeadlinePassed,
}

impl Failure {
    const fn status(&self) -> StatusCode {
        match self {
            Self::NotFound => StatusCode::NOT_FOUND,
            Self::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            Self::Foreign => StatusCode::FORBIDDEN,
            Self::NoForm => StatusCode::BAD_REQUEST,
            Self::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Unavailable(_) | Self::DeadlinePassed => StatusCode::SERVICE_UNAVAILABLE,
            Self::Refused(status, _) => *status,
            Self::Internal(_) | Self::Panicked(_) => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    fn title(&self, words: &'static Words) -> &'static str {
        match self {
            Self::NotFound => words.not_found,
            Self::Foreign
            | Self::NoForm
            | Self::MethodNotAllowed
            | Self::TooLarge
            | Self::Refused(..) => words.not_done,
            Self::Unavailable(_) | Self::DeadlinePassed => words.unavailable,
            Self::Internal(_) | Self::Panicked(_) => words.broken,
        }
    }

    fn text<'a>(&'a self, words: &'static Words) -> &'a str {
        match self {
            Self::NotFound => words.not_found_text,
            Self::MethodNotAllowed | Self::NoForm => words.no_form_text,
            Self::Foreign => words.foreign_text,
            Self::TooLarge => words.too_large_text,
            Self::Unavailable(text) | Self::Refused(_, text) => text,
            Self::DeadlinePassed => words.deadline_text,
            Self::Internal(_) | Self::Panicked(_) => words.broken_text,
        }
    }
}

/// An answer without its page: in which language it is written is known further out.
impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let mut response = self.status().into_response();
        if let Self::Internal(cause) | Self::Panicked(cause) = &self {
            response.extensions_mut().insert(Cause(cause.clone()));
        }
        if matches!(self, Self::TooLarge | Self::NoForm) {
            response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        response.extensions_mut().insert(self);
        response
    }
}

#[derive(Template)]
#[template(path = "failure.html")]
struct FailurePage<'a> {
    words: &'static Words,
    assets: &'static Assets,
    title: &'static str,
    text: &'a str,
    status: u16,
}

fn written(mut response: Response, words: &'static Words) -> Response {
    let Some(failure) = response.extensions_mut().remove::<Failure>() else { return response };
    let (title, text) = (failure.title(words), failure.text(words));
    let page =
        FailurePage { words, assets: &ASSETS, title, text, status: failure.status().as_u16() };
    let page = page.render().unwrap_or_else(|_| title.to_owned());
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(HTML));
    headers.remove(header::CONTENT_LENGTH);
    *response.body_mut() = Body::from(page);
    response
}

/// Writes the page of whatever failed, and gives every answer the headers of all.
pub(super) async fn dressed(State(room): State<Room>, request: Request, next: Next) -> Response {
    let words = room.words(request.headers());
    headed(written(next.run(request).await, words))
}

/// How the transport's refusals are answered.
pub(super) fn worded(refusal: Refusal) -> Response {
    let failure = match refusal {
        Refusal::HeadersTooLarge | Refusal::BodyTooLarge => Failure::TooLarge,
        Refusal::DeadlinePassed => Failure::DeadlinePassed,
        Refusal::Panicked(cause) => Failure::Panicked(cause),
        Refusal::Unauthorized
        | Refusal::LoginUnavailable
        | Refusal::UserUnnamed(_)
        | Refusal::Forbidden
        | Refusal::TooManyRequests(_) => Failure::Foreign,
    };
    failure.into_response()
}

/// Writes what the transport refuses, in the language of the browser or else in this one.
pub(super) fn finishing(default: Language) -> Finish {
    match default {
        Language::Japanese => |accepted, response| {
            headed(written(response, Words::accepted(accepted, Language::Japanese)))
        },
        Language::English => |accepted, response| {
            headed(written(response, Words::accepted(accepted, Language::English)))
        },
    }
}
