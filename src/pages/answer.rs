//! A page on its way to the browser.

use askama::Template;
use axum::{
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};

use super::failure::Failure;

pub(super) const HTML: &str = "text/html; charset=utf-8";

/// A page, filled in.
pub(super) struct Page<T>(pub(super) T);

impl<T: Template> IntoResponse for Page<T> {
    fn into_response(self) -> Response {
        match self.0.render() {
            Ok(page) => {
                ([(header::CONTENT_TYPE, HeaderValue::from_static(HTML))], page).into_response()
            }
            Err(error) => Failure::Internal(error.to_string()).into_response(),
        }
    }
}

/// A form that comes back because something in it is wrong.
pub(super) fn sent_back<T: Template>(page: T) -> Response {
    (StatusCode::UNPROCESSABLE_ENTITY, Page(page)).into_response()
}
