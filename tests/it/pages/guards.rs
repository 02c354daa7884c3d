//! What the browser is told of every page, and which forms count.

use std::collections::BTreeSet;

use reqwest::{
    Method,
    header::{ACCEPT_LANGUAGE, HeaderMap, HeaderValue},
};

use super::{FORMS, OPERATOR, PAGES, SETTINGS, entered};
use crate::harness::{Browser, Engine, Reply, Server, browser::filled};

const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; \
                      connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

fn is_guarded(reply: &Reply) {
    assert_eq!(reply.header("content-security-policy"), Some(POLICY), "{reply:?}");
    assert_eq!(reply.header("x-content-type-options"), Some("nosniff"));
    assert_eq!(reply.header("referrer-policy"), Some("same-origin"));
    assert_eq!(reply.header("cross-origin-resource-policy"), Some("same-origin"));
    assert_eq!(reply.header("access-control-allow-origin"), None);
}

#[tokio::test]
async fn every_answer_tells_the_browser_what_it_may_do() {
    let settings = [&SETTINGS[..], &[("BILLING_CORS_ORIGINS", "https://app.example")]].concat();
    let server = Server::start_with(Engine::Sqlite, &settings);
    let mut browser = Browser::of(&server);
    for round in ["a stranger", "an operator"] {
        for page in PAGES.into_iter().chain(["/login", "/assets/none.css"]) {
            let reply = browser.request(Method::GET, page).header("origin", "https://app.example");
            let reply = Reply::to(reply).await;
            is_guarded(&reply);
            assert_eq!(reply.header("cache-control"), Some("no-store"), "{round}, {page}");
        }
        browser.log_in(OPERATOR).await;
    }
    let long = browser.request(Method::GET, "/").header("x", "x".repeat(70_000));
    let long = Reply::to(long).await;
    assert_eq!(long.status, 413);
    is_guarded(&long);
}

#[tokio::test]
async fn a_form_of_another_origin_is_refused() {
    let (server, browser) = entered(Engine::Sqlite).await;
    let address = server.wait_for_log("admin=");
    let (_, host) = address.rsplit_once("admin=").expect("just looked for");
    let ours = format!("http://{}", host.trim());
    let send = async |form: &str, headers: &[(&str, &str)]| {
        let request = browser.request(Method::POST, form);
        let request = headers.iter().fold(request, |it, (name, value)| it.header(*name, *value));
        Reply::to(filled(request, &[("id", "default_user")])).await
    };
    for form in FORMS.into_iter().chain(["/login", "/language"]) {
        for headers in [
            &[][..],
            &[("sec-fetch-site", "cross-site")],
            &[("sec-fetch-site", "same-site")],
            &[("sec-fetch-site", "none")],
            &[("sec-fetch-site", "cross-site"), ("origin", ours.as_str())],
            &[("origin", "https://evil.example")],
            &[("origin", "null")],
        ] {
            let reply = send(form, headers).await;
            assert_eq!(reply.status, 403, "{form} {headers:?}");
            assert!(reply.header("set-cookie").is_none(), "{form}");
        }
    }
    assert_eq!(browser.open("/login").await.status, 303, "still in");
    assert_eq!(send("/language", &[("origin", &ours)]).await.status, 303);
}

#[tokio::test]
async fn nothing_is_done_by_opening_a_page() {
    let (server, browser) = entered(Engine::Sqlite).await;
    for form in ["/logout", "/verify", "/language"] {
        let reply = browser.open(form).await;
        assert_eq!(reply.status, 405, "{form}");
    }
    for method in [Method::PUT, Method::DELETE, Method::PATCH] {
        let request = browser.request(method, "/price").header("sec-fetch-site", "same-origin");
        assert_eq!(Reply::to(request).await.status, 405);
    }
    assert_eq!(browser.open("/login").await.status, 303, "still in");
    drop(server);
}

#[tokio::test]
async fn what_is_no_form_is_refused() {
    let (_server, browser) = entered(Engine::Sqlite).await;
    let send = |kind: &str, body: Vec<u8>| {
        let request = browser.request(Method::POST, "/price").header("content-type", kind);
        Reply::to(request.header("sec-fetch-site", "same-origin").body(body))
    };
    assert_eq!(send("application/json", b"{}".to_vec()).await.status, 400);
    assert_eq!(send("multipart/form-data; boundary=x", b"--x--".to_vec()).await.status, 400);
    let kind = "application/x-www-form-urlencoded";
    assert_eq!(send(kind, vec![b'a'; 70_000]).await.status, 413);
}

/// The addresses in `src` and `href` of a page.
fn loads(page: &str) -> BTreeSet<String> {
    let parts = page.split("src=\"").skip(1).chain(page.split("href=\"").skip(1));
    let addresses = parts.filter_map(|rest| rest.split('"').next());
    addresses.filter(|address| address.starts_with("/assets/")).map(str::to_owned).collect()
}

#[tokio::test]
async fn assets_never_change_and_are_small() {
    let (_server, browser) = entered(Engine::Sqlite).await;
    let mut assets = loads(&browser.open("/users").await.text);
    assets.extend(loads(&browser.open("/").await.text));
    let mut bytes = 0;
    for asset in &assets {
        let plain = browser.open(asset).await;
        assert_eq!(plain.header("cache-control"), Some("public, max-age=31536000, immutable"));
        is_guarded(&plain);
        let packed = browser.request(Method::GET, asset).header("accept-encoding", "gzip");
        let packed = packed.send().await.expect("the service answers");
        assert_eq!(packed.headers()["content-encoding"], "gzip", "{asset}");
        bytes += packed.bytes().await.expect("its body").len();
        let (name, _) = asset.rsplit_once('.').expect("an ending");
        let changed = asset.replace(name, &format!("{name}0"));
        assert_ne!(browser.open(&changed).await.status, 200);
    }
    assert!(!assets.is_empty() && bytes < 100_000, "{bytes} bytes in {assets:?}");
}

#[tokio::test]
async fn nothing_stands_in_a_page_that_its_policy_forbids() {
    let (_server, browser) = entered(Engine::Sqlite).await;
    for page in PAGES.into_iter().chain(["/login"]) {
        let text = browser.open(page).await.text;
        for forbidden in
            ["<style", " style=", "javascript:", " onclick", "http://", "https://", "<script>"]
        {
            assert!(!text.contains(forbidden), "{forbidden} in {page}");
        }
    }
}

#[tokio::test]
async fn the_language_is_the_browsers_until_one_is_chosen() {
    let (_server, mut browser) = entered(Engine::Sqlite).await;
    let text = browser.open("/no-such-page").await.text;
    assert!(
        text.contains("<html lang=\"en\">") && text.contains("There is no such page"),
        "{text}"
    );
    let likes = HeaderMap::from_iter([(ACCEPT_LANGUAGE, HeaderValue::from_static("fr, ja;q=0.9"))]);
    let japanese = browser.request(Method::GET, "/no-such-page").headers(likes);
    assert!(Reply::to(japanese).await.text.contains("<html lang=\"ja\">"));
    let reply = browser.send("/language", &[("language", "ja"), ("to", "/users?query=a")]).await;
    assert_eq!(reply.header("location"), Some("/users?query=a"));
    let text = browser.open("/no-such-page").await.text;
    assert!(text.contains("<html lang=\"ja\">") && text.contains("見つかりません"), "{text}");
}
