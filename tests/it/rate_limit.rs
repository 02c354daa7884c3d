//! The rate limit: who is over it, what they are told, and who is not hindered by it.
//!
//! How long anything takes is nobody's business here: each test sends so many requests at once, as often
//! as it takes, that some are over a limit of one per second.

use futures_util::future::join_all;
use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};

use crate::harness::{
    Client, Engine, Reply, Server,
    client::purchase,
    eventually, on_both_engines,
    token::{SECRET, claims, token},
};

on_both_engines![
    a_burst_passes_and_what_is_above_does_nothing,
    users_do_not_use_up_each_others_budgets,
    bad_tokens_use_up_their_addresss_budget_and_nobody_elses,
    prices_count_for_the_user_where_there_is_one,
    probes_and_the_documentation_are_never_limited,
    pages_of_other_origins_can_read_what_is_left,
    by_default_there_is_no_limit,
    the_document_tells_which_calls_are_limited,
];

const AT_ONCE: usize = 20;
const LIMIT: (&str, &str) = ("BILLING_RATE_LIMIT", "1");
const TOKENS: [(&str, &str); 3] = [LIMIT, ("BILLING_AUTH", "jwt"), ("BILLING_JWT_SECRET", SECRET)];
/// Has the app take a purchase for done.
const FINAL_WORDS: [&str; 4] = ["409", "already processed", "400", "Invalid receipt"];

fn get(client: &Client, path: &str) -> RequestBuilder {
    client.request(Method::GET, path)
}

fn balance_of(client: &Client, user: &str) -> RequestBuilder {
    get(client, "/api/billing/balance").bearer_auth(token(&claims(user)))
}

/// The answers to many of these requests, the last ones being over the limit.
async fn until_refused(request: impl Fn() -> RequestBuilder) -> Vec<Reply> {
    let mut replies = Vec::new();
    eventually("a request is over the limit", async || {
        replies.extend(join_all((0..AT_ONCE).map(|_| Reply::to(request()))).await);
        replies.iter().any(|reply| reply.status == 429).then_some(())
    })
    .await;
    replies
}

/// Checks that each answer has this status and is within the policy, or is refused in its name; returns how
/// many were within.
fn check(replies: &[Reply], status: u16, policy: &str, detail: &str) -> usize {
    let (refused, within): (Vec<_>, Vec<_>) = replies.iter().partition(|reply| reply.status == 429);
    let quota = format!("\"{policy}\";q=2;w=2");
    for reply in &refused {
        reply.is(429, &json!({"detail": detail, "code": "rate_limited"}));
        assert_eq!(reply.header("retry-after"), Some("1"), "{reply:?}");
        assert_eq!(reply.header("ratelimit-policy"), Some(quota.as_str()), "{reply:?}");
        let used_up = format!("\"{policy}\";r=0;t=1");
        assert_eq!(reply.header("ratelimit"), Some(used_up.as_str()), "{reply:?}");
    }
    for reply in &within {
        assert_eq!(reply.status, status, "{reply:?}");
        assert_eq!(reply.header("ratelimit-policy"), Some(quota.as_str()), "{reply:?}");
        let left = ["r=1", "r=0"].map(|left| format!("\"{policy}\";{left};t=1"));
        assert!(left.iter().any(|left| reply.header("ratelimit") == Some(left)), "{reply:?}");
    }
    within.len()
}

const OF_USER: &str = "リクエストが多すぎます。少し待ってからもう一度お試しください";
const OF_ADDRESS: &str =
    "有効なトークンのないリクエストが多すぎます。少し待つか、ログインし直してください";

async fn a_burst_passes_and_what_is_above_does_nothing(engine: Engine) {
    let server = Server::start_with(engine, &[LIMIT]);
    let client = server.client();
    let add = || {
        let request = client.request(Method::POST, "/api/billing/credits/add");
        request.json(&purchase(1, ""))
    };
    let replies = until_refused(add).await;
    let bought = check(&replies, 200, "user", OF_USER);
    assert!(bought >= 2, "{bought}");
    let kept = server.database().texts("SELECT type FROM transactions").await;
    assert_eq!(kept.len(), bought, "what was refused was not written");
    for text in [OF_USER, OF_ADDRESS] {
        assert!(FINAL_WORDS.iter().all(|word| !text.contains(word)), "{text}");
    }
    eventually("there is something left again", async || {
        (Reply::to(add()).await.status == 200).then_some(())
    })
    .await;
}

async fn users_do_not_use_up_each_others_budgets(engine: Engine) {
    let server = Server::start_with(engine, &TOKENS);
    let client = server.client();
    let replies = until_refused(|| balance_of(&client, "ann")).await;
    assert!(check(&replies, 200, "user", OF_USER) >= 2);
    for user in ["bob", "eve"] {
        let reply = Reply::to(balance_of(&client, user)).await;
        assert_eq!(check(&[reply], 200, "user", ""), 1, "{user}");
    }
}

async fn bad_tokens_use_up_their_addresss_budget_and_nobody_elses(engine: Engine) {
    let server = Server::start_with(engine, &TOKENS);
    let client = server.client();
    let guess = || get(&client, "/api/billing/balance").bearer_auth("a guess");
    let replies = until_refused(guess).await;
    assert!(check(&replies, 401, "address", OF_ADDRESS) >= 2);
    let reply = Reply::to(balance_of(&client, "ann")).await;
    assert_eq!(check(&[reply], 200, "user", ""), 1, "the same address with a good token");
}

async fn prices_count_for_the_user_where_there_is_one(engine: Engine) {
    let server = Server::start_with(engine, &TOKENS);
    let client = server.client();
    let prices = || get(&client, "/api/billing/pricing");
    let replies = until_refused(prices).await;
    assert!(check(&replies, 200, "address", OF_ADDRESS) >= 2);
    let replies = until_refused(|| prices().bearer_auth(token(&claims("ann")))).await;
    assert!(check(&replies, 200, "user", OF_USER) >= 2);
}

async fn probes_and_the_documentation_are_never_limited(engine: Engine) {
    let server = Server::start_with(engine, &[LIMIT]);
    let client = server.client();
    for path in ["/livez", "/readyz", "/api/billing/health", "/openapi.json", "/docs"] {
        for reply in join_all((0..AT_ONCE).map(|_| Reply::to(get(&client, path)))).await {
            assert_eq!((reply.status, reply.header("ratelimit")), (200, None), "{path}");
        }
    }
    // Neither did they use up what there is for others.
    let reply = Reply::to(get(&client, "/api/billing/balance")).await;
    assert_eq!(reply.header("ratelimit"), Some("\"user\";r=1;t=1"), "{reply:?}");
}

async fn pages_of_other_origins_can_read_what_is_left(engine: Engine) {
    let page = "https://app.example";
    let server = Server::start_with(engine, &[LIMIT, ("BILLING_CORS_ORIGINS", page)]);
    let client = server.client();
    let asked = join_all((0..AT_ONCE).map(|_| {
        let request = client.request(Method::OPTIONS, "/api/billing/balance");
        let request = request.header("access-control-request-method", "GET");
        Reply::to(request.header("origin", page))
    }));
    for reply in asked.await {
        assert_eq!((reply.status, reply.header("ratelimit")), (200, None), "{reply:?}");
    }
    let balance = || get(&client, "/api/billing/balance").header("origin", page);
    for reply in until_refused(balance).await {
        assert_eq!(reply.header("access-control-allow-origin"), Some(page), "{reply:?}");
        let exposed = reply.header("access-control-expose-headers").unwrap_or_default();
        assert!(exposed.contains("ratelimit,ratelimit-policy"), "{exposed}");
    }
}

async fn by_default_there_is_no_limit(engine: Engine) {
    let server = Server::start(engine);
    let client = server.client();
    let balance = || Reply::to(get(&client, "/api/billing/balance"));
    for reply in join_all((0..10 * AT_ONCE).map(|_| balance())).await {
        assert_eq!(reply.status, 200, "{reply:?}");
        for header in ["ratelimit", "ratelimit-policy", "retry-after"] {
            assert_eq!(reply.header(header), None, "{header}");
        }
    }
}

async fn the_document_tells_which_calls_are_limited(engine: Engine) {
    let server = Server::start(engine);
    let document: Value = Reply::to(get(&server.client(), "/openapi.json")).await.ok();
    for (path, item) in document["paths"].as_object().expect("paths") {
        let limited = path.starts_with("/api/billing/") && path != "/api/billing/health";
        for operation in item.as_object().expect("an item").values() {
            let responses = &operation["responses"];
            assert_eq!(responses.get("429").is_some(), limited, "{path}");
            let told = responses["200"]["headers"].get("RateLimit").is_some();
            assert_eq!(told, limited, "{path}");
        }
    }
}
