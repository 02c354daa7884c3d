//! The App Store Server API: how it is asked, and what its refusals mean. A transaction is looked up by its id, for
//! which Apple answers with one that it has signed. What is signed is judged elsewhere.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use chrono::{DateTime, TimeDelta, Utc};
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use reqwest::header::{self, HeaderValue};
use serde::{Deserialize, Serialize};

use super::consumption::never_taken;
use crate::{
    domain::Environment,
    metrics::{Metrics, StoreCall},
    outgoing::{Outgoing, Reply, Request, Site, segment},
    stores::{StoreError, counted},
};

/// Who the API's tokens are for.
const AUDIENCE: &str = "appstoreconnect-v1";
/// How far our clock may be ahead of Apple's.
const CLOCK_LEEWAY: TimeDelta = TimeDelta::seconds(30);
/// How long a token is good for; Apple's own libraries take as long.
const LIFETIME: TimeDelta = TimeDelta::minutes(5);
/// How long one request may take: two of them fit into the time of a purchase.
const REQUEST_TIMEOUT: Duration = Duration::from_millis(2_400);
/// How long one request for a list may take, for which nobody waits.
const LIST_TIMEOUT: Duration = Duration::from_secs(10);

/// Apple's number for a text that is no transaction's id. It is the only permanent one for a purchase.
const INVALID_TRANSACTION_ID: i64 = 4_000_006;
/// Apple's number for a transaction that it does not know.
const TRANSACTION_NOT_FOUND: i64 = 4_040_010;
/// Apple's number for an app that it does not know.
const APP_NOT_FOUND: i64 = 4_040_003;
/// Apple's number for an app that has no address for notifications.
const NO_NOTIFICATION_URL: i64 = 4_040_007;

/// A key of the App Store Server API.
#[derive(Debug, Clone)]
pub(crate) struct ApiKey {
    issuer_id: String,
    key_id: String,
    key: EncodingKey,
}

/// Where the API is, by environment.
#[derive(Debug, Clone)]
pub(crate) struct Sites {
    /// For purchases that were paid.
    pub(crate) production: Site,
    /// For test purchases.
    pub(crate) sandbox: Site,
}

/// The App Store Server API, for one app.
#[derive(Debug)]
pub(crate) struct AppleApi {
    bundle_id: String,
    key: ApiKey,
    sites: Sites,
    client: Outgoing,
    clock: fn() -> DateTime<Utc>,
    metrics: Option<Arc<Metrics>>,
}

/// What Apple says of a transaction's id.
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum Found {
    /// A signed transaction, still to be verified.
    Signed(String),
    /// There can be no such transaction; a constant sentence for the log says why.
    Never(&'static str),
}

/// Why Apple did not do what it was asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Refusal {
    /// The id is none.
    Malformed,
    /// It does not know the transaction, in this environment.
    Unknown,
    /// Our token is not taken, in this environment.
    Unidentified,
    /// It does not know the app, in this environment.
    NoApp,
    /// The app has no address for notifications.
    NoNotifications,
    /// It will never take this answer to its question; a constant sentence says why.
    NotTaken(&'static str),
    /// Anything else, which may pass.
    Error(StoreError),
}

#[derive(Serialize)]
struct Claims<'a> {
    iss: &'a str,
    iat: i64,
    exp: i64,
    aud: &'a str,
    bid: &'a str,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct TransactionInfo {
    signed_transaction_info: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ErrorBody {
    error_code: Option<i64>,
}

impl std::fmt::Debug for Found {
    /// A signed transaction is as good as a purchase, so it is not shown.
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Signed(_) => formatter.write_str("Signed"),
            Self::Never(reason) => formatter.debug_tuple("Never").field(reason).finish(),
        }
    }
}

impl ApiKey {
    /// A key as App Store Connect makes it: its issuer, its id, and a `.p8` file, which is tried.
    ///
    /// # Errors
    /// A sentence about the file, in one line and without anything of it.
    pub(crate) fn new(issuer_id: String, key_id: String, p8: &[u8]) -> Result<Self, String> {
        let key = EncodingKey::from_ec_pem(p8).map_err(|_| {
            "holds no private key in PEM, as a .p8 file of App Store Connect does".to_owned()
        })?;
        let key = Self { issuer_id, key_id, key };
        key.token("", DateTime::UNIX_EPOCH)?;
        Ok(key)
    }

    /// What proves at `now` who asks, for the app `bundle_id`.
    ///
    /// # Errors
    /// A sentence when the key can't sign.
    fn token(&self, bundle_id: &str, now: DateTime<Utc>) -> Result<String, String> {
        let mut header = Header::new(Algorithm::ES256);
        header.kid = Some(self.key_id.clone());
        let issued_at = now.checked_sub_signed(CLOCK_LEEWAY).unwrap_or(now).timestamp();
        let claims = Claims {
            iss: &self.issuer_id,
            iat: issued_at,
            exp: issued_at.saturating_add(LIFETIME.num_seconds()),
            aud: AUDIENCE,
            bid: bundle_id,
        };
        encode(&header, &claims, &self.key)
            .map_err(|_| "holds a private key that is not of the curve P-256".to_owned())
    }
}

impl Sites {
    const fn of(&self, environment: Environment) -> &Site {
        match environment {
            Environment::Production => &self.production,
            Environment::Sandbox => &self.sandbox,
        }
    }
}

impl AppleApi {
    /// Without a connection yet.
    pub(crate) fn new(
        bundle_id: String,
        key: ApiKey,
        sites: Sites,
        client: Outgoing,
        clock: fn() -> DateTime<Utc>,
        metrics: Option<Arc<Metrics>>,
    ) -> Self {
        if let Some(metrics) = &metrics {
            metrics.stores.expect("apple");
        }
        Self { bundle_id, key, sites, client, clock, metrics }
    }

    /// The signed transaction with this id. Where its environment is not known, production is asked first, then
    /// the sandbox; also where production does not take our token, as it does before an app's first release.
    ///
    /// # Errors
    /// [`StoreError`], [`StoreError::Unknown`] when no environment that may have it does.
    pub(crate) async fn transaction(
        &self,
        id: &str,
        environment: Option<Environment>,
    ) -> Result<Found, StoreError> {
        if environment == Some(Environment::Sandbox) {
            return found(self.look_up(id, Environment::Sandbox).await);
        }
        let asked_at = Instant::now();
        let first = self.look_up_uncounted(id, Environment::Production).await;
        let count = |outcome| self.count(StoreCall::AppleTransaction, outcome, asked_at);
        let name = first.as_ref().err().map_or("ok", Refusal::name);
        let elsewhere = match &first {
            Err(Refusal::Unknown) => environment.is_none(),
            Err(Refusal::Unidentified) => true,
            _ => false,
        };
        if !elsewhere {
            count(name);
            return found(first);
        }
        let second = self.look_up(id, Environment::Sandbox).await;
        let is_unreleased = first == Err(Refusal::Unidentified) && second.is_ok();
        count(if is_unreleased { StoreError::Unreleased.name() } else { name });
        match (first, second) {
            // The sandbox has no say in what production may know.
            (Err(Refusal::Unidentified), Err(Refusal::Unknown)) => {
                found(Err(Refusal::Unidentified))
            }
            (_, second) => found(second),
        }
    }

    /// Tries the key, by asking for a test notification. A line for each thing tried.
    pub(crate) async fn check(&self) -> Vec<Result<String, String>> {
        let mut lines = vec![Ok(format!("Apple: the key {} can sign", self.key.key_id))];
        let production = self.test_notification(Environment::Production).await;
        if production != Err(Refusal::Unidentified) {
            lines.push(told(Environment::Production, production));
            return lines;
        }
        let sandbox = self.test_notification(Environment::Sandbox).await;
        if sandbox == Err(Refusal::Unidentified) {
            lines.push(told(Environment::Production, production));
        } else {
            lines.push(Ok(
                "Apple, production: it does not take the key, which is as it must be until \
                           the app's first release, and wrong after that"
                    .to_owned(),
            ));
            lines.push(told(Environment::Sandbox, sandbox));
        }
        lines
    }

    async fn look_up(&self, id: &str, environment: Environment) -> Result<Found, Refusal> {
        let asked_at = Instant::now();
        let found = self.look_up_uncounted(id, environment).await;
        let outcome = found.as_ref().err().map_or("ok", Refusal::name);
        self.count(StoreCall::AppleTransaction, outcome, asked_at);
        found
    }

    async fn look_up_uncounted(
        &self,
        id: &str,
        environment: Environment,
    ) -> Result<Found, Refusal> {
        let path = format!("/inApps/v1/transactions/{}", segment(id));
        let signed = |body: &[u8]| {
            let info: Option<TransactionInfo> = serde_json::from_slice(body).ok();
            let signed = info.and_then(|info| info.signed_transaction_info);
            signed.filter(|signed| !signed.is_empty()).map(Found::Signed)
        };
        self.send(StoreCall::AppleTransaction, environment, &path, Request::get, signed).await
    }

    async fn test_notification(&self, environment: Environment) -> Result<(), Refusal> {
        let call = StoreCall::AppleTestNotification;
        let path = "/inApps/v1/notifications/test";
        let post = |url| Request::post(url, "");
        let taken = |body: &[u8]| match serde_json::from_slice(body) {
            Ok(serde_json::Value::Object(_)) => Some(()),
            _ => None,
        };
        self.ask(call, environment, path, post, taken).await
    }

    pub(super) async fn ask<T>(
        &self,
        call: StoreCall,
        environment: Environment,
        path: &str,
        request: impl FnOnce(reqwest::Url) -> Request,
        read: impl FnOnce(&[u8]) -> Option<T>,
    ) -> Result<T, Refusal> {
        let asked_at = Instant::now();
        let asked = self.send(call, environment, path, request, read).await;
        self.count(call, asked.as_ref().err().map_or("ok", Refusal::name), asked_at);
        asked
    }

    pub(super) fn count(&self, call: StoreCall, outcome: &str, asked_at: Instant) {
        counted(self.metrics.as_deref(), call, outcome, asked_at);
    }

    /// Asks without counting it.
    pub(super) async fn send<T>(
        &self,
        call: StoreCall,
        environment: Environment,
        path: &str,
        request: impl FnOnce(reqwest::Url) -> Request,
        read: impl FnOnce(&[u8]) -> Option<T>,
    ) -> Result<T, Refusal> {
        let url = self.sites.of(environment).at(path).map_err(unreachable)?;
        let request = request(url).with(header::AUTHORIZATION, self.authorization()?);
        let is_list = call == StoreCall::AppleHistory;
        let time_limit = if is_list { LIST_TIMEOUT } else { REQUEST_TIMEOUT };
        match self.client.send(request.within(time_limit)).await {
            Err(reason) => Err(unreachable(reason)),
            Ok(reply) if !reply.status.is_success() => Err(Refusal::of(&reply)),
            Ok(reply) => read(&reply.body)
                .ok_or_else(|| unreachable("it answered with what can't be read".to_owned())),
        }
    }

    fn authorization(&self) -> Result<HeaderValue, Refusal> {
        let refused = |reason| Refusal::Error(StoreError::Refused(reason));
        let token = self.key.token(&self.bundle_id, (self.clock)());
        let token =
            token.map_err(|reason| refused(format!("BILLING_APPLE_PRIVATE_KEY {reason}")))?;
        let mut value = HeaderValue::from_str(&format!("Bearer {token}"))
            .map_err(|_| refused("the API's token can't be sent".to_owned()))?;
        value.set_sensitive(true);
        Ok(value)
    }
}

impl Refusal {
    /// What an answer other than success means.
    fn of(reply: &Reply) -> Self {
        let status = reply.status.as_u16();
        let body: Option<ErrorBody> = serde_json::from_slice(&reply.body).ok();
        let code = body.and_then(|body| body.error_code);
        match (status, code) {
            (400, Some(INVALID_TRANSACTION_ID)) => Self::Malformed,
            (401, _) => Self::Unidentified,
            (404, Some(TRANSACTION_NOT_FOUND)) => Self::Unknown,
            (404, Some(APP_NOT_FOUND)) => Self::NoApp,
            (404, Some(NO_NOTIFICATION_URL)) => Self::NoNotifications,
            (400, Some(code)) if let Some(why) = never_taken(code) => Self::NotTaken(why),
            // Its `Retry-After` is a point in time, in milliseconds, and not needed.
            (429, _) => Self::Error(StoreError::Limited),
            (_, Some(code)) => {
                unreachable(format!("it answered with status {status}, error {code}"))
            }
            (_, None) => unreachable(format!("it answered with status {status}")),
        }
    }

    /// Its name in metrics.
    pub(super) const fn name(&self) -> &'static str {
        match self {
            Self::Malformed | Self::NotTaken(_) => "never",
            Self::Unknown => "unknown",
            Self::Unidentified => "refused",
            Self::NoApp => "unreachable",
            Self::NoNotifications => "other",
            Self::Error(error) => error.name(),
        }
    }

    pub(super) fn into_error(self) -> StoreError {
        match self {
            Self::Error(error) => error,
            Self::Unknown => StoreError::Unknown,
            Self::Unidentified => StoreError::Refused(UNIDENTIFIED.to_owned()),
            Self::NoApp => StoreError::Unreachable("it knows no such app".to_owned()),
            Self::Malformed => StoreError::Unreachable("it does not take the id".to_owned()),
            Self::NoNotifications => {
                StoreError::Unreachable("it has no address for notifications".to_owned())
            }
            Self::NotTaken(why) => StoreError::Unreachable(why.to_owned()),
        }
    }
}

const UNIDENTIFIED: &str = "it does not take the key: BILLING_APPLE_ISSUER_ID, BILLING_APPLE_KEY_ID and \
    BILLING_APPLE_PRIVATE_KEY must be as App Store Connect > Users and Access > Integrations > In-App Purchase \
    shows them, BILLING_APPLE_BUNDLE_ID an app of that team, and this machine's clock right";

fn found(answer: Result<Found, Refusal>) -> Result<Found, StoreError> {
    match answer {
        Ok(found) => Ok(found),
        Err(Refusal::Malformed) => Ok(Found::Never("Apple says that the id is none")),
        Err(refusal) => Err(refusal.into_error()),
    }
}

/// A line about a test notification.
fn told(environment: Environment, asked: Result<(), Refusal>) -> Result<String, String> {
    let name = environment.name();
    match asked {
        Ok(()) => Ok(format!("Apple, {name}: it takes the key, and sends a test notification")),
        Err(Refusal::NoNotifications) => Ok(format!(
            "Apple, {name}: it takes the key; no address for notifications is set in App Store Connect > \
             App Information > App Store Server Notifications"
        )),
        Err(refusal) => Err(format!("Apple, {name}: {}", refusal.into_error())),
    }
}

fn unreachable(reason: String) -> Refusal {
    Refusal::Error(StoreError::Unreachable(reason))
}

#[cfg(test)]
mod tests {
    use axum::{Router, http::StatusCode, routing::get};
    use jsonwebtoken::{DecodingKey, Validation, decode, decode_header};
    use serde_json::{Value, json};
    use tokio::net::TcpListener;

    use super::*;

    const EC: &str = include_str!("../../../tests/it/keys/ec.pem");
    const EC_PUBLIC: &str = include_str!("../../../tests/it/keys/ec.pub.pem");

    fn key() -> ApiKey {
        ApiKey::new("issuer".to_owned(), "KEY1".to_owned(), EC.as_bytes()).expect("a key")
    }

    #[test]
    fn a_token_says_who_asks_for_which_app_and_for_five_minutes() {
        let now = DateTime::from_timestamp(1_795_766_400, 0).expect("a time");
        let token = key().token("com.example.app", now).expect("signed");
        let header = decode_header(&token).expect("a token");
        assert_eq!((header.kid.as_deref(), header.typ.as_deref()), (Some("KEY1"), Some("JWT")));
        let mut validation = Validation::new(Algorithm::ES256);
        validation.set_audience(&["appstoreconnect-v1"]);
        validation.validate_exp = false;
        let public = DecodingKey::from_ec_pem(EC_PUBLIC.as_bytes()).expect("a key");
        let claims = decode::<Value>(&token, &public, &validation).expect("it verifies").claims;
        let expected = json!({
            "iss": "issuer",
            "iat": 1_795_766_370_i64,
            "exp": 1_795_766_670_i64,
            "aud": "appstoreconnect-v1",
            "bid": "com.example.app",
        });
        assert_eq!(claims, expected);
    }

    #[test]
    fn a_bad_key_is_one_line_that_tells_nothing_of_it() {
        let rsa = include_str!("../../../tests/it/keys/rsa.pem");
        for p8 in [rsa, EC_PUBLIC, "", "nothing", &EC[..EC.len() / 2]] {
            let made = ApiKey::new("issuer".to_owned(), "KEY1".to_owned(), p8.as_bytes());
            let line = made.expect_err("it can't sign");
            assert!(!line.contains('\n') && !line.contains("BEGIN"), "{line}");
        }
        assert!(!format!("{:?}", key()).contains("PRIVATE"));
    }

    #[test]
    fn each_answer_is_in_its_class() {
        let body = |code: i64| format!(r#"{{"errorCode":{code},"errorMessage":"A sentence."}}"#);
        for (status, body, name) in [
            (400, body(4_000_006), "never"),
            (400, body(4_000_000), "unreachable"),
            (400, body(4_000_008), "unreachable"),
            (400, body(4_040_010), "unreachable"),
            (404, body(4_000_006), "unreachable"),
            (401, String::new(), "refused"),
            (401, "Unauthenticated\n".to_owned(), "refused"),
            (404, body(4_040_010), "unknown"),
            (404, body(4_040_003), "unreachable"),
            (404, "<html>".to_owned(), "unreachable"),
            (429, body(4_290_000), "limited"),
            (500, body(5_000_001), "unreachable"),
            (503, String::new(), "unreachable"),
            (302, String::new(), "unreachable"),
            (400, r#"{"errorCode":4000006,"errorCode":4000006}"#.to_owned(), "unreachable"),
            (400, r#"{"errorCode":4000006e999}"#.to_owned(), "unreachable"),
        ] {
            let status = StatusCode::from_u16(status).expect("a status");
            let refusal = Refusal::of(&Reply { status, body: body.clone().into_bytes() });
            assert_eq!(refusal.name(), name, "{status} {body}");
        }
    }

    type Answer = (u16, &'static str);

    const SIGNED: Answer = (200, r#"{"signedTransactionInfo":"a.b.c"}"#);
    const UNKNOWN: Answer =
        (404, r#"{"errorCode":4040010,"errorMessage":"Transaction id not found."}"#);
    const MALFORMED: Answer =
        (400, r#"{"errorCode":4000006,"errorMessage":"Invalid transaction id."}"#);
    const UNIDENTIFIED: Answer = (401, "");
    const BROKEN: Answer = (200, "<html></html>");

    async fn site((status, body): Answer) -> Site {
        let status = StatusCode::from_u16(status).expect("a status");
        let answer = get(move || async move { (status, body) });
        let router = Router::new().route("/inApps/v1/transactions/42", answer);
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port is free");
        let address = listener.local_addr().expect("it is bound");
        tokio::spawn(async move { axum::serve(listener, router).await });
        format!("http://{address}").parse().expect("an origin")
    }

    #[tokio::test]
    async fn the_sandbox_is_asked_where_production_can_not_know() {
        let (production, sandbox) = (Some(Environment::Production), Some(Environment::Sandbox));
        // Environment, production's answer, the sandbox's, what comes out.
        for (environment, first, second, name) in [
            (None, SIGNED, BROKEN, "signed"),
            (None, UNKNOWN, SIGNED, "signed"),
            (None, UNIDENTIFIED, SIGNED, "signed"),
            (None, UNKNOWN, UNKNOWN, "unknown"),
            (None, UNIDENTIFIED, UNIDENTIFIED, "refused"),
            (None, UNIDENTIFIED, UNKNOWN, "refused"),
            (None, UNKNOWN, UNIDENTIFIED, "refused"),
            (None, MALFORMED, SIGNED, "never"),
            (None, UNKNOWN, MALFORMED, "never"),
            (None, BROKEN, SIGNED, "unreachable"),
            (None, UNKNOWN, BROKEN, "unreachable"),
            (production, SIGNED, BROKEN, "signed"),
            (production, UNKNOWN, SIGNED, "unknown"),
            (production, UNIDENTIFIED, SIGNED, "signed"),
            (sandbox, BROKEN, SIGNED, "signed"),
            (sandbox, SIGNED, UNKNOWN, "unknown"),
            (sandbox, SIGNED, UNIDENTIFIED, "refused"),
        ] {
            let sites = Sites { production: site(first).await, sandbox: site(second).await };
            let client = Outgoing::new().expect("there are authorities");
            let bundle = "com.example.app".to_owned();
            let api = AppleApi::new(bundle, key(), sites, client, || DateTime::UNIX_EPOCH, None);
            let outcome = match api.transaction("42", environment).await {
                Ok(Found::Signed(signed)) => {
                    assert_eq!(signed, "a.b.c");
                    "signed"
                }
                Ok(Found::Never(_)) => "never",
                Err(error) => error.name(),
            };
            assert_eq!(outcome, name, "{environment:?} {first:?} {second:?}");
        }
    }
}
