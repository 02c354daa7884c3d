//! Google Play: its access tokens, and the calls of `androidpublisher` that are about one-time purchases.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use hyper::Method;
use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode, decode_header};
use serde_json::{Value, json};
use url::form_urlencoded;

use super::{
    APP, Answer, Call, GooglePurchase, GoogleRefunds,
    asked::{Asked, Target},
    desk::Desk,
};

const ACCOUNT: &str = "billing@noteapp.iam.gserviceaccount.com";
const KEY_ID: &str = "0123456789abcdef";
const SCOPE: &str = "https://www.googleapis.com/auth/androidpublisher";
const GRANT: &str = "urn:ietf:params:oauth:grant-type:jwt-bearer";
/// Longest time an assertion may be good for, in seconds.
const ASSERTION_LIFETIME_MOST: u64 = 3_600;
/// How far clocks may differ, in seconds.
const CLOCK_TOLERANCE: u64 = 300;
/// What access tokens begin with; their number follows.
const ACCESS: &str = "ya29.stand-in-";

/// The store.
#[derive(Debug)]
pub(crate) struct Google {
    desk: Arc<Desk>,
    /// What it gives back.
    pub(crate) refunds: GoogleRefunds,
    token_uri: String,
    books: Mutex<Books>,
}

#[derive(Debug, Default)]
struct Books {
    purchases: BTreeMap<String, GooglePurchase>,
    /// Access tokens that were given out.
    given: u64,
    /// How many of them are no longer good.
    revoked: u64,
}

impl Google {
    pub(super) fn new(desk: Arc<Desk>, address: SocketAddr) -> Self {
        let refunds = GoogleRefunds::new(Arc::clone(&desk));
        let token_uri = format!("http://{address}/token");
        Self { desk, refunds, token_uri, books: Mutex::default() }
    }

    fn books(&self) -> MutexGuard<'_, Books> {
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The key file of the account that may ask.
    pub(super) fn service_account(&self) -> String {
        let key = include_str!("../../keys/rsa.pem");
        let account = json!({
            "type": "service_account",
            "project_id": "noteapp",
            "private_key_id": KEY_ID,
            "private_key": key,
            "client_email": ACCOUNT,
            "token_uri": self.token_uri,
        });
        account.to_string()
    }

    /// Makes a purchase known, or known anew.
    pub(crate) fn sell(&self, purchase: GooglePurchase) {
        self.books().purchases.insert(purchase.token.clone(), purchase);
    }

    /// Whether a purchase is acknowledged and whether it is consumed.
    pub(crate) fn delivered(&self, token: &str) -> (bool, bool) {
        let books = self.books();
        let purchase = books.purchases.get(token).expect("it was sold");
        (purchase.acknowledged, purchase.consumed)
    }

    /// Takes back every access token that was given out.
    pub(crate) fn revoke_access(&self) {
        let mut books = self.books();
        books.revoked = books.given;
    }

    pub(super) fn target(&self, asked: &Asked) -> Option<Target> {
        if asked.method == Method::POST && asked.path == "/token" {
            return Some(Target::plain(Call::AccessToken));
        }
        let path = asked.path.strip_prefix("/androidpublisher/v3/applications/")?;
        let segments: Vec<_> = path.split('/').collect();
        if segments.first().is_some_and(|package| asked.segment(package, &self.desk) != APP) {
            self.desk.fault(format!("{}: another app's package", asked.line()));
        }
        let read = asked.method == Method::GET;
        match segments[1..] {
            ["purchases", "productsv2", "tokens", token] if read => {
                let subject = asked.segment(token, &self.desk);
                Some(Target { call: Call::Purchase, subject, product: None })
            }
            ["purchases", "products", product, "tokens", last] if asked.method == Method::POST => {
                let (token, verb) = last.rsplit_once(':')?;
                let call = match verb {
                    "acknowledge" => Call::Acknowledge,
                    "consume" => Call::Consume,
                    _ => return None,
                };
                let subject = asked.segment(token, &self.desk);
                Some(Target { call, subject, product: Some(asked.segment(product, &self.desk)) })
            }
            _ => self.refunds.target(asked, &segments[1..]),
        }
    }

    /// Checks what all calls but the first need, and the body.
    pub(super) fn refusal(&self, asked: &Asked, target: &Target) -> Option<Answer> {
        let wrong = match target.call {
            Call::AccessToken => return None,
            Call::Voided | Call::Review => self.refunds.problem(asked, target.call),
            Call::Acknowledge if asked.is_json() && asked.json() == json!({}) => None,
            _ if target.call != Call::Acknowledge && asked.body.is_empty() => None,
            _ => Some(format!("the body is {:?}", String::from_utf8_lossy(&asked.body))),
        };
        if let Some(wrong) = wrong {
            self.desk.fault(format!("{}: {wrong}", asked.line()));
        }
        let number = asked.bearer().and_then(|token| token.strip_prefix(ACCESS)?.parse().ok());
        let books = self.books();
        if !number.is_some_and(|number| (1..=books.given).contains(&number)) {
            self.desk.fault(format!("{}: no access token of ours", asked.line()));
        } else if number.is_some_and(|number| number > books.revoked) {
            return None;
        }
        let message = "Request had invalid authentication credentials.";
        Some(Answer::google(401, "global", "authError", message))
    }

    pub(super) fn carry_out(&self, asked: &Asked, target: &Target) -> Answer {
        match target.call {
            Call::AccessToken => self.give_access(asked),
            Call::Voided | Call::Review => self.refunds.carry_out(asked, target),
            Call::Purchase => match self.books().purchases.get(&target.subject) {
                Some(purchase) => Answer::json(200, &purchase.word()),
                None => unknown(),
            },
            _ => self.deliver(target),
        }
    }

    fn deliver(&self, target: &Target) -> Answer {
        let mut books = self.books();
        let Some(purchase) = books.purchases.get_mut(&target.subject) else { return unknown() };
        if !purchase.items.iter().any(|(product, _)| Some(product) == target.product.as_ref()) {
            let message = "The purchase token does not match the product ID.";
            let reason = "purchaseTokenDoesNotMatchProductId";
            return Answer::google(400, "androidpublisher", reason, message);
        }
        let consumes = target.call == Call::Consume;
        let done = if consumes { purchase.consumed } else { purchase.acknowledged };
        if purchase.state != "PURCHASED" || done {
            let message = "The purchase is not in a valid state to perform the desired operation.";
            return Answer::google(400, "androidpublisher", "invalidPurchaseState", message);
        }
        purchase.acknowledged = true;
        purchase.consumed |= consumes;
        Answer::empty(204)
    }

    fn give_access(&self, asked: &Asked) -> Answer {
        match self.assertion_problem(asked) {
            Ok(true) => {}
            Ok(false) => {
                let body = json!({
                    "error": "invalid_grant",
                    "error_description": "Invalid JWT: Token must be a short-lived token",
                });
                return Answer::json(400, &body);
            }
            Err(problem) => {
                self.desk.fault(format!("{}: {problem}", asked.line()));
                return Answer::json(401, &json!({"error": "invalid_client"}));
            }
        }
        let mut books = self.books();
        books.given += 1;
        let token = format!("{ACCESS}{}", books.given);
        let body = json!({"access_token": token, "expires_in": 3_599, "token_type": "Bearer"});
        Answer::json(200, &body)
    }

    /// Whether an assertion is of today; an error says what else is wrong with it.
    fn assertion_problem(&self, asked: &Asked) -> Result<bool, String> {
        if asked.content_type.as_deref() != Some("application/x-www-form-urlencoded") {
            return Err(format!("sent as {:?}", asked.content_type));
        }
        let fields: BTreeMap<_, _> = form_urlencoded::parse(&asked.body).collect();
        if fields.get("grant_type").map(|grant| &**grant) != Some(GRANT) {
            return Err("another grant_type".to_owned());
        }
        let assertion = fields.get("assertion").ok_or("no assertion")?;
        let header = decode_header(&**assertion).map_err(|error| error.to_string())?;
        if header.kid.is_some_and(|kid| kid != KEY_ID) {
            return Err("another kid".to_owned());
        }
        let key = DecodingKey::from_rsa_pem(include_bytes!("../../keys/rsa.pub.pem"));
        let mut rules = Validation::new(Algorithm::RS256);
        rules.validate_exp = false;
        rules.set_required_spec_claims(&["aud", "exp", "iss"]);
        rules.set_audience(&[&self.token_uri]);
        rules.set_issuer(&[ACCOUNT]);
        let claims = decode::<Value>(&**assertion, &key.expect("a key"), &rules)
            .map_err(|error| error.to_string())?
            .claims;
        if claims["scope"] != SCOPE {
            return Err(format!("scope {}", claims["scope"]));
        }
        let (Some(iat), Some(exp)) = (claims["iat"].as_u64(), claims["exp"].as_u64()) else {
            return Err("iat or exp is missing".to_owned());
        };
        if exp <= iat || exp - iat > ASSERTION_LIFETIME_MOST {
            return Err(format!("good from {iat} to {exp}"));
        }
        let now = self.desk.now();
        Ok(exp > now && iat <= now + CLOCK_TOLERANCE)
    }
}

fn unknown() -> Answer {
    let message = "The purchase token was not found.";
    Answer::google(404, "global", "purchaseTokenNotFound", message)
}
