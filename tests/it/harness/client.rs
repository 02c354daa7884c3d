//! A well-behaved client: one method per call of the API, and the plain requests below them.

use std::{net::SocketAddr, time::Instant};

use reqwest::{Method, header::HeaderMap};
use serde_json::{Value, json};

use super::{
    Engine, PATIENCE, eventually,
    token::{claims, token},
};

/// What every path of the API starts with.
const API: &str = "/api/billing";

/// Talks to one server; clones share the connections.
#[derive(Debug, Clone)]
pub(crate) struct Client {
    http: reqwest::Client,
    origin: String,
    token: Option<String>,
}

/// An answer, read to its end.
#[derive(Debug)]
pub(crate) struct Reply {
    /// The HTTP status.
    pub(crate) status: u16,
    /// The headers.
    pub(crate) headers: HeaderMap,
    /// The body.
    pub(crate) text: String,
}

impl Client {
    pub(crate) fn new(address: SocketAddr) -> Self {
        let http = reqwest::Client::builder().no_proxy().build().expect("a client can be made");
        Self { http, origin: format!("http://{address}"), token: None }
    }

    /// The same with a token of this user's.
    pub(crate) fn of(&self, user: &str) -> Self {
        Self { token: Some(token(&claims(user))), ..self.clone() }
    }

    /// A request that a test completes; `path` is the whole path.
    pub(crate) fn request(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        let request = self.http.request(method, format!("{}{path}", self.origin));
        match &self.token {
            Some(token) => request.bearer_auth(token),
            None => request,
        }
    }

    /// GETs a path below `/api/billing`.
    pub(crate) async fn get(&self, path: &str) -> Reply {
        Reply::to(self.request(Method::GET, &format!("{API}{path}"))).await
    }

    /// POSTs JSON to a path below `/api/billing`.
    pub(crate) async fn post(&self, path: &str, body: &Value) -> Reply {
        Reply::to(self.request(Method::POST, &format!("{API}{path}")).json(body)).await
    }

    /// POSTs bytes, called JSON, to a path below `/api/billing`.
    pub(crate) async fn post_bytes(&self, path: &str, body: impl Into<Vec<u8>>) -> Reply {
        self.post_as(path, "application/json", body).await
    }

    /// POSTs bytes with a content type to a path below `/api/billing`.
    pub(crate) async fn post_as(
        &self,
        path: &str,
        content_type: &str,
        body: impl Into<Vec<u8>>,
    ) -> Reply {
        let request = self.request(Method::POST, &format!("{API}{path}"));
        Reply::to(request.header("content-type", content_type).body(body.into())).await
    }

    /// POSTs JSON under an idempotency key.
    pub(crate) async fn post_keyed(&self, key: &str, path: &str, body: &Value) -> Reply {
        let request = self.request(Method::POST, &format!("{API}{path}"));
        Reply::to(request.header("idempotency-key", key).json(body)).await
    }

    /// Buys credits.
    pub(crate) async fn add(&self, credits: i64, transaction_id: &str) -> Reply {
        self.post("/credits/add", &purchase(credits, transaction_id)).await
    }

    /// Turns credits into tokens.
    pub(crate) async fn allocate(&self, items: &[(&str, i64)]) -> Reply {
        let allocations: Vec<Value> = items
            .iter()
            .map(|(model, credits)| json!({"model_id": model, "credits": credits}))
            .collect();
        self.post("/credits/allocate", &json!({ "allocations": allocations })).await
    }

    /// Uses up tokens.
    pub(crate) async fn consume(&self, model: &str, input: i64, output: i64) -> Reply {
        self.post("/tokens/consume", &consumption(model, input, output)).await
    }

    /// The balance, which must be there.
    pub(crate) async fn balance(&self) -> Value {
        self.get("/balance").await.ok()
    }

    /// Credits for `credits`, all spent on `model`.
    pub(crate) async fn buy_tokens(&self, model: &str, credits: i64) {
        self.add(credits, &format!("tokens of {model} for {credits}")).await.ok();
        self.allocate(&[(model, credits)]).await.ok();
    }
}

/// The body of a purchase, with a token of its own, or without one where it has no id.
pub(crate) fn purchase(credits: i64, transaction_id: &str) -> Value {
    let token = match transaction_id {
        "" => String::new(),
        id => format!("a-secret-token of {id}"),
    };
    json!({
        "credits": credits,
        "purchase_record": {
            "productId": "noteapp.credits.small",
            "transactionId": transaction_id,
            "purchaseToken": token,
            "purchaseDate": "2026-11-23T10:30:00Z",
            "amount": credits,
            "creditsAdded": credits,
        },
    })
}

/// The body of a consumption.
pub(crate) fn consumption(model: &str, input: i64, output: i64) -> Value {
    json!({"model_id": model, "input_tokens": input, "output_tokens": output})
}

impl Reply {
    /// The answer to a request, which must come.
    pub(crate) async fn to(request: reqwest::RequestBuilder) -> Self {
        Self::try_to(request).await.expect("the service answers")
    }

    /// The answer to a request of a service that may end.
    pub(crate) async fn try_to(request: reqwest::RequestBuilder) -> reqwest::Result<Self> {
        let response = request.send().await?;
        let status = response.status().as_u16();
        let headers = response.headers().clone();
        Ok(Self { status, headers, text: response.text().await? })
    }

    /// The body as JSON.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// The body of a success.
    pub(crate) fn ok(&self) -> Value {
        assert_eq!(self.status, 200, "{self:?}");
        self.json()
    }

    /// Checks status and body.
    pub(crate) fn is(&self, status: u16, body: &Value) {
        assert_eq!((self.status, &self.json()), (status, body), "{self:?}");
    }

    /// Whether the call had to wait so long that it was never begun.
    fn was_never_begun(&self) -> bool {
        self.status == 503 && self.json()["code"] == "overloaded"
    }

    /// Whether it was given before, and is only told again.
    pub(crate) fn is_replayed(&self) -> bool {
        self.header("idempotency-replayed") == Some("true")
    }

    /// A header as text, when it is there.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().expect("a visible header"))
    }
}

/// The answer to a call that is made again as long as it had to wait too long to be begun.
pub(crate) async fn begun<F: Future<Output = Reply>>(call: impl Fn() -> F) -> Reply {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let reply = call().await;
        if !reply.was_never_begun() {
            return reply;
        }
        assert!(Instant::now() < deadline, "it is never begun");
    }
}

/// The answer to a call that is made again as long as it can't be carried out now.
pub(crate) async fn settled(call: impl AsyncFn() -> Reply) -> Reply {
    eventually("it is carried out", async || {
        let reply = call().await;
        assert!(reply.status != 503 || reply.header("retry-after").is_some(), "{reply:?}");
        (reply.status != 503).then_some(reply)
    })
    .await
}

/// The answer to a call once its database is there again: who was refused a connection leaves a server alone for a
/// moment, and a file is opened at once.
pub(crate) async fn reached(engine: Engine, call: impl AsyncFn() -> Reply) -> Reply {
    match engine {
        Engine::Sqlite => begun(|| call()).await,
        Engine::Postgres => settled(call).await,
    }
}
