//! What operators may do, and that to everybody else none of it is there.

mod balances;
mod door;
mod erasures;
mod freezes;
mod prices;

use std::sync::atomic::{AtomicU64, Ordering};

use reqwest::Method;
use serde_json::Value;

use crate::harness::{Client, Engine, Reply, Server, token::SECRET};

const OPERATOR: &str = "operator-token-0123456789-abcdefg";
const BACKEND: &str = "backend-token-0123456789-abcdefgh";
const LOGINS: [(&str, &str); 5] = [
    ("BILLING_AUTH", "jwt"),
    ("BILLING_JWT_SECRET", SECRET),
    ("BILLING_BACKEND_TOKEN", BACKEND),
    ("BILLING_OPERATOR_TOKEN", OPERATOR),
    ("BILLING_ALLOW_RESET", "true"),
];
const MODEL: &str = "gemini-2.0-flash";

/// A server with logins, and clients to talk to it.
struct Service {
    server: Server,
    client: Client,
}

impl Service {
    fn start(engine: Engine) -> Self {
        Self::start_with(engine, &[])
    }

    fn start_with(engine: Engine, settings: &[(&str, &str)]) -> Self {
        let server = Server::start_with(engine, &[&LOGINS[..], settings].concat());
        let client = server.client();
        Self { server, client }
    }

    /// A user's app.
    fn app(&self, user: &str) -> Client {
        self.client.of(user)
    }

    /// What the operator is answered at a path below the operator's, with a body where there is one.
    async fn operate(&self, method: Method, path: &str, body: &Value) -> Reply {
        Reply::to(operator(&self.client, method, path, body)).await
    }

    async fn get(&self, path: &str) -> Reply {
        self.operate(Method::GET, path, &Value::Null).await
    }

    async fn post(&self, path: &str, body: &Value) -> Reply {
        self.operate(Method::POST, path, body).await
    }

    /// The lines of the log, newest first.
    async fn log(&self, query: &str) -> Vec<Value> {
        self.get(&format!("/log{query}")).await.ok()["items"].as_array().expect("items").clone()
    }
}

/// A request of the operator's.
fn operator(client: &Client, method: Method, path: &str, body: &Value) -> reqwest::RequestBuilder {
    let path = format!("/api/billing/operator{path}");
    let request = client.request(method, &path).bearer_auth(OPERATOR);
    if body.is_null() { request } else { request.json(body) }
}

/// A key that was not used before.
fn new_key() -> String {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    format!("key-{}", NEXT.fetch_add(1, Ordering::Relaxed))
}

fn code(reply: &Reply) -> (u16, String) {
    let code = reply.json()["code"].as_str().unwrap_or_default().to_owned();
    (reply.status, code)
}
