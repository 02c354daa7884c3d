//! The admin pages: what an operator sees and does in a browser. They are a client of the API like any other, only
//! within the process: every number they show is the API's, and whatever they change could be changed with curl.
//! Nothing here knows SQL, the ledger or a rule of billing.

mod answer;
mod assets;
mod attempts;
mod calls;
mod changes;
mod charts;
mod cookies;
mod failure;
mod forms;
mod frame;
mod guard;
mod ledger;
mod links;
mod log;
mod login;
mod numbers;
mod overview;
mod prices;
mod products;
mod purchase_acts;
mod purchases;
mod reports;
mod room;
mod sessions;
mod system;
mod user;
mod user_acts;
mod users;
mod visitor;
mod words;

use std::{sync::Arc, time::Duration};

use axum::{
    Router,
    middleware::{from_fn, from_fn_with_state},
    routing::{get, post},
};
use chrono::{DateTime, Utc};
use tower_http::compression::CompressionLayer;

use crate::{
    api::Language,
    http::{self, ApiHeaders, Authentication, LongBodies},
};
use failure::{Failure, finishing, worded};
use room::Room;

/// Most connections to the pages.
pub(crate) const CONNECTION_LIMIT: usize = 256;
/// How long such a connection may be idle.
pub(crate) const KEEP_ALIVE: Duration = Duration::from_secs(75);

/// The pages over an API, which speak `language` to browsers that ask for none.
pub(crate) fn pages(
    api: http::Api,
    authentication: Arc<Authentication>,
    language: Language,
    clock: fn() -> DateTime<Utc>,
) -> http::Api {
    http::Api {
        router: router(Room::new(api, authentication, language, clock)),
        wording: worded,
        finish: finishing(language),
        headers: ApiHeaders { sent: &[], exposed: &[] },
        long_bodies: LongBodies { paths: &[], limit_bytes: http::BODY_LIMIT_BYTES },
    }
}

fn router(room: Room) -> Router {
    Router::new()
        .route("/", get(overview::page))
        .route("/users", get(users::page))
        .route("/user", get(user::page))
        .route("/user/ledger.csv", get(user::csv))
        .route("/user/{act}", get(user_acts::form).post(user_acts::send))
        .route("/purchases", get(purchases::page))
        .route("/purchase", get(purchases::one))
        .route("/purchase/{act}", get(purchase_acts::form).post(purchase_acts::send))
        .route("/prices", get(prices::page))
        .route("/price", get(prices::form).post(prices::send))
        .route("/product", get(products::form).post(products::send))
        .route("/reports", get(reports::page))
        .route("/log", get(log::page))
        .route("/system", get(system::page))
        .route("/verify", post(system::verify))
        .route("/login", get(login::page).post(login::log_in))
        .route("/logout", post(login::log_out))
        .route("/language", post(login::choose_language))
        .route("/assets/{file}", get(assets::asset))
        .fallback(visitor::nothing_here)
        .method_not_allowed_fallback(async || Failure::MethodNotAllowed)
        .layer(from_fn(guard::from_our_pages))
        .layer(from_fn_with_state(room.clone(), failure::dressed))
        .layer(CompressionLayer::new())
        .with_state(room)
}
