//! The admin pages: who gets in, what the browser is told, and that what they show and do is the API's.

mod acts;
mod guards;
mod login;

use crate::harness::{Browser, Engine, Server};

const OPERATOR: &str = "operator-token-0123456789-abcdefg";
const SETTINGS: [(&str, &str); 2] =
    [("BILLING_ADMIN_LISTEN", "127.0.0.1:0"), ("BILLING_OPERATOR_TOKEN", OPERATOR)];
/// Every page that shows something.
const PAGES: [&str; 17] = [
    "/",
    "/users",
    "/user?id=default_user",
    "/user/ledger.csv?id=default_user",
    "/user/grant",
    "/user/adjust?id=default_user",
    "/user/erase?id=default_user",
    "/purchases",
    "/purchase?id=1",
    "/purchase/approve?id=1",
    "/prices",
    "/price?model=gemini-2.0-flash",
    "/product?new=yes",
    "/reports",
    "/log",
    "/system",
    "/no-such-page",
];
/// Everything that a form is sent to.
const FORMS: [&str; 8] = [
    "/user/grant",
    "/user/adjust",
    "/user/erase",
    "/purchase/approve",
    "/price",
    "/product",
    "/verify",
    "/logout",
];

/// A service with pages, and a browser of somebody who is in.
async fn entered(engine: Engine) -> (Server, Browser) {
    let server = Server::start_with(engine, &SETTINGS);
    let mut browser = Browser::of(&server);
    assert_eq!(browser.log_in(OPERATOR).await.status, 303);
    (server, browser)
}
