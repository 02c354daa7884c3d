//! Finding a user.

use askama::Template;
use axum::extract::RawQuery;
use serde::Deserialize;

use super::{
    answer::Page,
    calls::Call,
    failure::Failure,
    forms::Fields,
    frame::{Frame, Section},
    links, numbers,
    visitor::Visitor,
};

/// Users of a page.
const USERS: &str = "50";

/// A user of the list, as the API tells it.
#[derive(Debug, Deserialize)]
struct Found {
    user_id: String,
    credits: i64,
    frozen: bool,
    created_at: Option<String>,
}

#[derive(Template)]
#[template(path = "users.html")]
struct UsersPage {
    frame: Frame,
    query: String,
    users: Vec<Found>,
    older: Option<String>,
}

/// The page.
pub(super) async fn page(
    visitor: Visitor,
    RawQuery(query): RawQuery,
) -> Result<Page<impl Template>, Failure> {
    let fields = Fields::of_query(query.as_deref());
    let (query, before) = (fields.get("query"), fields.get("before"));
    let asked = [("limit", USERS), ("query", query), ("before", before)];
    let call = Call::get(links::with("/api/billing/operator/users", &asked));
    let (users, next) = visitor.list(call).await?;
    let older = next.map(|next| links::with("/users", &[("query", query), ("before", &next)]));
    let frame = Frame::new(&visitor, Section::Users, visitor.words.users);
    Ok(Page(UsersPage { frame, query: query.to_owned(), users, older }))
}
