//! The App Store: what it signs, and its server for questions about transactions, once for those that were
//! paid and once for the sandbox.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use hyper::Method;
use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode, decode_header};
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, PublicKeyData};
use serde_json::{Value, json};

use super::{
    super::token::now,
    APP, Answer, AppleRefunds, Authority, Call,
    asked::{Asked, Target},
    chain::pem,
    desk::Desk,
};

/// Who issued the key to ask with.
pub(super) const ISSUER: &str = "57246542-96fe-1a63-e053-0824d011072a";
/// The key to ask with.
pub(super) const KEY_ID: &str = "2X9R4HXF34";
const AUDIENCE: &str = "appstoreconnect-v1";
/// Longest time a token to ask with may be good for, in seconds.
const TOKEN_LIFETIME_MOST: u64 = 3_600;
/// How far clocks may differ, in seconds.
const CLOCK_TOLERANCE: u64 = 60;

/// Which of Apple's servers knows a transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Market {
    /// Where it costs money.
    Production,
    /// Where it is a test.
    Sandbox,
}

/// The store.
#[derive(Debug)]
pub(crate) struct Apple {
    desk: Arc<Desk>,
    /// What it tells of money that goes back.
    pub(crate) refunds: AppleRefunds,
    /// Who signs for it.
    pub(crate) authority: Authority,
    key: KeyPair,
    transactions: Mutex<BTreeMap<(Market, String), String>>,
}

/// What a sandbox purchase of one of a product says, which a test may change.
pub(crate) fn consumable(id: &str, product: &str) -> Value {
    let now_ms = now() * 1_000;
    json!({
        "transactionId": id,
        "originalTransactionId": id,
        "bundleId": APP,
        "productId": product,
        "purchaseDate": now_ms,
        "originalPurchaseDate": now_ms,
        "quantity": 1,
        "type": "Consumable",
        "inAppOwnershipType": "PURCHASED",
        "signedDate": now_ms,
        "environment": "Sandbox",
        "transactionReason": "PURCHASE",
        "storefront": "JPN",
        "storefrontId": "143462",
        "price": 300_000,
        "currency": "JPY",
        "appTransactionId": "704000000000000001",
    })
}

impl Apple {
    pub(super) fn new(desk: Arc<Desk>) -> Self {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).expect("a key");
        let refunds = AppleRefunds::new(Arc::clone(&desk));
        Self { desk, refunds, authority: Authority::new(), key, transactions: Mutex::default() }
    }

    /// The key to ask with, as a `.p8` file holds it.
    pub(super) fn private_key(&self) -> String {
        pem("PRIVATE KEY", self.key.serialized_der())
    }

    /// What the store signs, as it should be.
    pub(crate) fn signed(&self, payload: &Value) -> String {
        self.authority.chain.sign(payload)
    }

    /// Has a server know a transaction, and answer it with this signed text.
    pub(crate) fn sell(&self, market: Market, id: &str, signed: &str) {
        let mut transactions = self.transactions.lock().unwrap_or_else(PoisonError::into_inner);
        transactions.insert((market, id.to_owned()), signed.to_owned());
    }

    pub(super) fn target(&self, market: Market, asked: &Asked) -> Option<Target> {
        let production = market == Market::Production;
        if asked.method == Method::POST && asked.path == "/inApps/v1/notifications/test" {
            return Some(Target::plain(if production {
                Call::TestNotification
            } else {
                Call::SandboxTestNotification
            }));
        }
        let Some(id) = asked.path.strip_prefix("/inApps/v1/transactions/") else {
            return self.refunds.target(market, asked);
        };
        if asked.method != Method::GET || id.contains('/') {
            return None;
        }
        let call = if production { Call::Transaction } else { Call::SandboxTransaction };
        Some(Target { call, subject: asked.segment(id, &self.desk), product: None })
    }

    /// Checks what every call needs.
    pub(super) fn refusal(&self, asked: &Asked, call: Call) -> Option<Answer> {
        let wrong = if is_of_refunds(call) {
            self.refunds.problem(asked, call)
        } else {
            let body = String::from_utf8_lossy(&asked.body);
            (!body.is_empty()).then(|| format!("the body is {body:?}"))
        };
        if let Some(wrong) = wrong {
            self.desk.fault(format!("{}: {wrong}", asked.line()));
        }
        match self.token_problem(asked) {
            Ok(true) => return None,
            Ok(false) => {}
            Err(problem) => self.desk.fault(format!("{}: {problem}", asked.line())),
        }
        Some(unauthenticated())
    }

    /// Whether a token is of today; an error says what else is wrong with it.
    fn token_problem(&self, asked: &Asked) -> Result<bool, String> {
        let token = asked.bearer().ok_or("no token")?;
        let header = decode_header(token).map_err(|error| error.to_string())?;
        if header.kid.as_deref() != Some(KEY_ID) {
            return Err(format!("kid {:?}", header.kid));
        }
        let key = pem("PUBLIC KEY", &self.key.subject_public_key_info());
        let key = DecodingKey::from_ec_pem(key.as_bytes()).expect("a key");
        let mut rules = Validation::new(Algorithm::ES256);
        rules.validate_exp = false;
        rules.set_required_spec_claims(&["aud", "exp", "iss"]);
        rules.set_audience(&[AUDIENCE]);
        rules.set_issuer(&[ISSUER]);
        let decoded = decode::<Value>(token, &key, &rules);
        let claims = decoded.map_err(|error| error.to_string())?.claims;
        if claims["bid"] != APP {
            return Err(format!("bid {}", claims["bid"]));
        }
        let exp = claims["exp"].as_u64().ok_or("exp is no number")?;
        let now = self.desk.now();
        // Tokens may do without, and are then measured by today.
        let iat = claims["iat"].as_u64().unwrap_or(now);
        if exp <= iat || exp - iat > TOKEN_LIFETIME_MOST {
            return Err(format!("good from {iat} to {exp}"));
        }
        Ok(exp > now && iat <= now + CLOCK_TOLERANCE)
    }

    pub(super) fn carry_out(&self, market: Market, asked: &Asked, target: &Target) -> Answer {
        let transactions = self.transactions.lock().unwrap_or_else(PoisonError::into_inner);
        let transaction = transactions.get(&(market, target.subject.clone()));
        if is_of_refunds(target.call) {
            return self.refunds.carry_out(market, asked, target, transaction.is_some());
        }
        if target.call != Call::Transaction && target.call != Call::SandboxTransaction {
            let token = "8f1c0c7e-1b0a-4f6e-9a53-0d7a5ad0a5a1_1795766400000";
            return Answer::json(200, &json!({"testNotificationToken": token}));
        }
        match transaction {
            Some(signed) => Answer::json(200, &json!({"signedTransactionInfo": signed})),
            None => Answer::apple(404, 4_040_010, "Transaction id not found."),
        }
    }
}

fn is_of_refunds(call: Call) -> bool {
    use Call::{Consumption, History, SandboxConsumption, SandboxHistory};
    matches!(call, History | SandboxHistory | Consumption | SandboxConsumption)
}

/// What Apple answers to a token it does not believe, or an app that has not been released.
pub(crate) fn unauthenticated() -> Answer {
    Answer::text(401, "text/plain", "Unauthenticated\n\n")
}
