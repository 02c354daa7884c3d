//! How a page asks the API: within the process, as the operator who has the session. What the API says is taken as it
//! is; which page is made of it is the other files' business.

use axum::{
    body::Body,
    http::{HeaderValue, Method, Request, StatusCode, header},
    response::Response,
};
use http_body_util::BodyExt;
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::Value;
use tower_service::Service;

use super::{failure::Failure, forms::Fields, links, visitor::Visitor};
use crate::http::{BILLING_USER, LetIn, RequestId};

/// Why the API did not do what a page asked for.
#[derive(Debug)]
pub(super) struct Refused {
    pub(super) status: StatusCode,
    /// Its code for programs.
    pub(super) code: String,
    /// What it says to people, in their language.
    pub(super) text: String,
    /// What is wrong with single fields: their names, and what is said.
    pub(super) problems: Vec<(String, String)>,
}

#[derive(Deserialize)]
struct Problem {
    #[serde(default)]
    loc: Vec<Value>,
    #[serde(default)]
    msg: String,
}

impl Refused {
    fn of(status: StatusCode, told: &Value) -> Self {
        let text =
            |name: &str| told.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
        let problems =
            told.get("detail").and_then(|detail| Vec::<Problem>::deserialize(detail).ok());
        let problems: Vec<_> = problems
            .unwrap_or_default()
            .into_iter()
            .map(|Problem { loc, msg }| {
                let last = loc.iter().rev().find_map(Value::as_str);
                // As pydantic begins what a rule of ours says.
                let text = msg.strip_prefix("Value error, ").unwrap_or(&msg);
                (last.unwrap_or_default().to_owned(), text.to_owned())
            })
            .collect();
        let all = problems.iter().map(|(name, msg)| format!("{name}: {msg}")).collect::<Vec<_>>();
        let text_told = if all.is_empty() { text("detail") } else { all.join("; ") };
        Self { status, code: text("code"), text: text_told, problems }
    }
}

impl From<Refused> for Failure {
    fn from(refused: Refused) -> Self {
        let Refused { status, text, .. } = refused;
        match status {
            StatusCode::NOT_FOUND => Self::NotFound,
            StatusCode::SERVICE_UNAVAILABLE => Self::Unavailable(text),
            status if status.is_client_error() => Self::Refused(status, text),
            status => Self::Internal(format!("the API answered {status}: {text}")),
        }
    }
}

/// Something to ask the API.
#[derive(Debug)]
pub(super) struct Call {
    method: Method,
    path: String,
    user: Option<String>,
    accept: &'static str,
    key: Option<String>,
    body: Option<Value>,
}

impl Call {
    fn to(method: Method, path: String) -> Self {
        Self { method, path, user: None, accept: "application/json", key: None, body: None }
    }

    /// For something to be told.
    pub(super) fn get(path: impl Into<String>) -> Self {
        Self::to(Method::GET, path.into())
    }

    /// For something to be done, once under this key.
    pub(super) fn post(path: impl Into<String>, key: &str, body: Value) -> Self {
        let call = Self::to(Method::POST, path.into());
        Self { key: Some(key.to_owned()), body: Some(body), ..call }
    }

    /// The same with another method.
    pub(super) fn by(self, method: Method) -> Self {
        Self { method, ..self }
    }

    /// About a user's account.
    pub(super) fn about(self, user: &str) -> Self {
        Self { user: Some(links::segment(user)), ..self }
    }

    /// For a file of comma-separated values.
    pub(super) fn for_csv(self) -> Self {
        Self { accept: "text/csv", ..self }
    }

    fn request(self, visitor: &Visitor) -> Result<Request<Body>, Failure> {
        let mut builder = Request::builder()
            .method(self.method)
            .uri(self.path)
            .header(header::ACCEPT, self.accept)
            .header(header::ACCEPT_LANGUAGE, visitor.words.language);
        if let Some(user) = self.user {
            builder = builder.header(BILLING_USER, user);
        }
        if let Some(key) = self.key {
            builder = builder.header("idempotency-key", key);
        }
        let body = match self.body {
            Some(body) => {
                builder = builder.header(header::CONTENT_TYPE, "application/json");
                Body::from(body.to_string())
            }
            None => Body::empty(),
        };
        let request = builder.body(body).map_err(|_| Failure::NoForm)?;
        let (mut head, body) = request.into_parts();
        head.extensions.insert(LetIn(visitor.login.clone()));
        if let Some(id) = &visitor.request_id {
            head.extensions.insert(RequestId(id.clone()));
        }
        Ok(Request::from_parts(head, body))
    }
}

impl Visitor {
    /// What the API answers.
    pub(super) async fn answer(&self, call: Call) -> Result<Response, Failure> {
        let request = call.request(self)?;
        let mut router = self.room.api.router.clone();
        let response = match router.call(request).await {
            Ok(response) => response,
            Err(never) => match never {},
        };
        let language = HeaderValue::from_static(self.words.language);
        Ok((self.room.api.finish)(Some(&language), response))
    }

    /// What the API tells, as a page needs it, or why it does not.
    pub(super) async fn told<T: DeserializeOwned>(
        &self,
        call: Call,
    ) -> Result<Result<T, Refused>, Failure> {
        let path = call.path.clone();
        read(&path, self.answer(call).await?).await
    }

    /// A list of the API, and what its next part is asked for with, if there is one.
    pub(super) async fn list<T: DeserializeOwned>(
        &self,
        call: Call,
    ) -> Result<(Vec<T>, Option<String>), Failure> {
        let path = call.path.clone();
        let response = self.answer(call).await?;
        let next = response.headers().get(header::LINK).and_then(next_before);
        let Items { items } = read(&path, response).await??;
        Ok((items, next))
    }

    /// The same where a refusal leaves nothing to show.
    pub(super) async fn tell<T: DeserializeOwned>(&self, call: Call) -> Result<T, Failure> {
        Ok(self.told(call).await??)
    }
}

/// What a list of the API holds.
#[derive(Debug, Deserialize)]
pub(super) struct Items<T> {
    pub(super) items: Vec<T>,
}

/// Where the next part of a list begins, by its `Link`.
fn next_before(link: &HeaderValue) -> Option<String> {
    let (target, rest) = link.to_str().ok()?.strip_prefix('<')?.split_once('>')?;
    let (_, query) = target.split_once('?').filter(|_| rest.contains("next"))?;
    let before = Fields::of_query(Some(query)).get("before").to_owned();
    (!before.is_empty()).then_some(before)
}

async fn read<T: DeserializeOwned>(
    path: &str,
    response: Response,
) -> Result<Result<T, Refused>, Failure> {
    let broken = |why: String| Failure::Internal(format!("{path}: {why}"));
    let status = response.status();
    let body = response.into_body().collect().await.map_err(|error| broken(error.to_string()))?;
    let body = body.to_bytes();
    if status.is_success() {
        let told = serde_json::from_slice(&body).map_err(|error| broken(error.to_string()))?;
        return Ok(Ok(told));
    }
    Ok(Err(Refused::of(status, &serde_json::from_slice(&body).unwrap_or_default())))
}
