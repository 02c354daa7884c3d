//! The way in: by which tokens, for how long, and what becomes of whoever tries.

use futures_util::future::join_all;
use serde_json::json;

use super::{OPERATOR, PAGES, SETTINGS, entered};
use crate::harness::{
    Browser, Engine, Launch, Server,
    clock::Clock,
    token::{SECRET, claims, now, token},
};

const BACKEND: &str = "backend-token-0123456789-abcdefgh";
const JWT: [(&str, &str); 3] =
    [("BILLING_AUTH", "jwt"), ("BILLING_JWT_SECRET", SECRET), ("BILLING_BACKEND_TOKEN", BACKEND)];
/// In seconds.
const MINUTE: i64 = 60;
/// The session's cookie on this machine.
const COOKIE: &str = "billing";

async fn is_in(browser: &Browser) -> bool {
    // A page that asks the API for nothing.
    browser.open("/login").await.status == 303
}

#[tokio::test]
async fn without_a_session_every_page_leads_to_the_login_and_back() {
    let server = Server::start_with(Engine::Sqlite, &SETTINGS);
    let mut browser = Browser::of(&server);
    for page in PAGES {
        let reply = browser.open(page).await;
        assert_eq!((reply.status, reply.text.as_str()), (303, ""), "{page}");
        let login = reply.header("location").expect("it leads somewhere").to_owned();
        let to: String = form_urlencoded::byte_serialize(page.as_bytes()).collect();
        assert_eq!(login, format!("/login?to={to}"), "{page}");
        let form = browser.open(&login).await;
        assert_eq!(form.status, 200);
        let hidden = format!("name=\"to\" value=\"{}\"", page.replace('&', "&#38;"));
        assert!(form.text.contains(&hidden), "{page}: {}", form.text);
    }
    let fields = [("token", OPERATOR), ("to", "/user?id=a%2Fb")];
    let reply = browser.send("/login", &fields).await;
    assert_eq!((reply.status, reply.header("location")), (303, Some("/user?id=a%2Fb")));
    for elsewhere in ["//evil.example", "https://evil.example", "/\\evil.example", ""] {
        let reply = browser.send("/login", &[("token", OPERATOR), ("to", elsewhere)]).await;
        assert_eq!(reply.header("location"), Some("/"), "{elsewhere}");
    }
    // A part of a page has the whole of it go there.
    let stranger = Browser::of(&server);
    let part =
        stranger.request(reqwest::Method::GET, "/users?query=a").header("hx-request", "true");
    let part = crate::harness::Reply::to(part).await;
    assert_eq!(part.status, 401);
    assert_eq!(part.header("hx-redirect"), Some("/login?to=%2Fusers%3Fquery%3Da"));
}

#[tokio::test]
async fn only_operators_get_in_and_the_others_learn_nothing() {
    let settings = [&SETTINGS[..], &JWT].concat();
    let server = Server::start_with(Engine::Sqlite, &settings);
    let mut operator = claims("olga");
    operator["scope"] = json!("billing:operator");
    for good in [OPERATOR.to_owned(), token(&operator)] {
        let mut browser = Browser::of(&server);
        assert_eq!(browser.log_in(&good).await.status, 303);
        assert!(is_in(&browser).await);
        assert_eq!(browser.cookies()[COOKIE].len(), 43, "256 bits");
    }
    let mut backend = claims("srv");
    backend["scope"] = json!("billing:backend");
    operator["exp"] = json!(now() - 60);
    let mut told = Vec::new();
    for bad in [BACKEND, "", &token(&claims("ann")), &token(&backend), &token(&operator)] {
        let mut browser = Browser::of(&server);
        let reply = browser.log_in(bad).await;
        assert_eq!(reply.status, 403, "{reply:?}");
        assert!(browser.cookies().is_empty() && !is_in(&browser).await);
        assert!(bad.is_empty() || !reply.text.contains(bad), "a token comes back");
        told.push(reply.text);
    }
    told.dedup();
    assert_eq!(told.len(), 1, "the same for all");
    assert!(told[0].contains("no operator&#39;s token"), "{}", told[0]);
}

#[tokio::test]
async fn wrong_tokens_slow_down_and_right_ones_do_not() {
    let server = Server::start_with(Engine::Sqlite, &SETTINGS);
    let mut browser = Browser::of(&server);
    for _ in 0..10 {
        assert_eq!(browser.log_in(OPERATOR).await.status, 303);
    }
    let tries = join_all((0..20).map(|number| {
        let mut browser = Browser::of(&server);
        async move { browser.log_in(&format!("guess {number}")).await }
    }));
    let tries = tries.await;
    let refused: Vec<_> = tries.iter().filter(|reply| reply.status == 403).collect();
    // One more comes back each twelve seconds.
    assert!((5..=8).contains(&refused.len()), "{} of 20 were looked at", refused.len());
    let limited = tries.iter().find(|reply| reply.status == 429).expect("some were not");
    let wait: u64 = limited.header("retry-after").and_then(|it| it.parse().ok()).expect("seconds");
    assert!((1..=60).contains(&wait), "{wait}");
    assert_eq!(browser.log_in(OPERATOR).await.status, 429, "guessing must not end with success");
    assert!(is_in(&browser).await, "sessions go on");
}

#[tokio::test]
async fn a_session_is_new_at_each_login_and_ends_with_the_logout() {
    let (server, mut browser) = entered(Engine::Sqlite).await;
    let first = browser.cookies()[COOKIE].clone();
    // Somebody else's value is not taken over.
    browser.cookies().insert(COOKIE.to_owned(), "planted".to_owned());
    assert!(!is_in(&browser).await);
    browser.log_in(OPERATOR).await;
    let second = browser.cookies()[COOKIE].clone();
    assert!(second != "planted" && second != first);
    let mut again = browser.clone();
    again.log_in(OPERATOR).await;
    assert!(!is_in(&browser).await, "the new one takes the place of the old");
    let kept = again.clone();
    let reply = again.send("/logout", &[]).await;
    assert_eq!((reply.status, reply.header("location")), (303, Some("/login")));
    assert!(again.cookies().is_empty());
    assert!(!is_in(&kept).await, "the value is good for nothing");
    browser.cookies().insert(COOKIE.to_owned(), first);
    assert!(is_in(&browser).await, "another session is not touched");
    drop(server);
}

#[tokio::test]
async fn a_session_ends_by_itself() {
    let clock = Clock::new();
    let launch =
        SETTINGS.iter().fold(Launch::new(), |launch, (name, value)| launch.set(name, *value));
    let server = Server::start_as(Engine::Sqlite, clock.given_to(launch));
    let mut browser = Browser::of(&server);
    browser.log_in(OPERATOR).await;
    let mut idle = Browser::of(&server);
    idle.log_in(OPERATOR).await;
    for minutes in (0..480).step_by(25) {
        clock.shift(minutes * MINUTE);
        assert!(is_in(&browser).await, "after {minutes} minutes of use");
    }
    assert!(!is_in(&idle).await, "after as long without any");
    clock.shift(481 * MINUTE);
    assert!(!is_in(&browser).await, "after eight hours");
}

#[tokio::test]
async fn a_session_ends_when_the_token_changes() {
    let (mut server, mut browser) = entered(Engine::Sqlite).await;
    let session = browser.cookies()[COOKIE].clone();
    server.stop().await;
    let new = "operator-token-that-replaces-it-all";
    server.start_again_with(&[("BILLING_OPERATOR_TOKEN", new)]);
    let mut browser = Browser::of(&server);
    browser.cookies().insert(COOKIE.to_owned(), session);
    assert!(!is_in(&browser).await);
    assert_eq!(browser.log_in(OPERATOR).await.status, 403);
    assert_eq!(browser.log_in(new).await.status, 303);
}

#[tokio::test]
async fn the_cookie_is_as_safe_as_the_way_it_goes() {
    use reqwest::Method;

    use crate::harness::{Reply, browser::filled};
    let server = Server::start_with(Engine::Sqlite, &SETTINGS);
    let browser = Browser::of(&server);
    let fields = [("token", OPERATOR)];
    let log_in = async |host: &str, origin: &str| {
        let request = browser.request(Method::POST, "/login").header("host", host);
        Reply::to(filled(request.header("origin", origin), &fields)).await
    };
    let reply = log_in("localhost:8443", "http://localhost:8443").await;
    let cookie = reply.header("set-cookie").expect("a cookie");
    assert!(
        cookie.starts_with("billing=") && cookie.ends_with("; Path=/; HttpOnly; SameSite=Strict"),
        "{cookie}"
    );
    let reply = log_in("admin.example", "https://admin.example").await;
    let cookie = reply.header("set-cookie").expect("a cookie");
    assert!(cookie.starts_with("__Host-billing="), "{cookie}");
    assert!(cookie.ends_with("; Path=/; HttpOnly; SameSite=Strict; Secure"), "{cookie}");
    let reply = log_in("10.0.0.7:8080", "http://10.0.0.7:8080").await;
    assert_eq!((reply.status, reply.header("set-cookie")), (403, None));
    assert!(reply.text.contains("plain http"), "{}", reply.text);
}

#[tokio::test]
async fn no_token_and_no_session_is_in_the_log() {
    let (mut server, mut browser) = entered(Engine::Sqlite).await;
    let session = browser.cookies()[COOKIE].clone();
    browser.log_in("a-wrong-token-that-nobody-may-see").await;
    browser.open("/users?query=somebody").await;
    let log = server.stop().await.join("\n");
    for secret in [OPERATOR, session.as_str(), "nobody-may-see", "somebody"] {
        assert!(!log.contains(secret), "{secret}: {log}");
    }
    assert!(log.contains("an operator logged in") && log.contains("a wrong token"), "{log}");
}

#[tokio::test]
async fn pages_need_a_token_and_are_not_there_unasked() {
    let directory = tempfile::TempDir::new().expect("a temporary directory can be made");
    let launch = Launch::new().set("BILLING_ADMIN_LISTEN", "127.0.0.1:0");
    let failed = launch.fail_to_start(directory.path());
    assert_eq!(failed.code, Some(2), "{failed:?}");
    assert!(failed.stderr[0].contains("BILLING_OPERATOR_TOKEN"), "{failed:?}");
    let server = Server::start_with(Engine::Sqlite, &SETTINGS[1..]);
    for page in ["/", "/login", "/users"] {
        let reply = crate::harness::Reply::to(server.client().request(reqwest::Method::GET, page));
        assert_eq!(reply.await.status, 404, "{page} at the API's socket");
    }
}
