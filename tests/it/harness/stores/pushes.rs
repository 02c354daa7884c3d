//! What the stores push: Google's messages, with the tokens that prove them and the keys of these, and Apple's
//! notifications. To whom they are pushed, and how that is answered, does not belong here.

use std::{
    io::{Read, Write},
    net::TcpListener,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode, jwk::Jwk};
use serde_json::{Value, json};

use super::{super::token::now, APP};
use crate::harness::Launch;

/// For whom Google's tokens are.
pub(crate) const AUDIENCE: &str = "https://billing.example/api/billing/notifications/google";
/// Who pushes.
pub(crate) const ACCOUNT: &str = "push@noteapp.iam.gserviceaccount.com";
/// What pushes.
pub(crate) const SUBSCRIPTION: &str = "projects/noteapp/subscriptions/play";
/// The app's Apple ID.
pub(crate) const APPLE_ID: u64 = 1_234_567_890;

/// Whoever signs Google's tokens, and serves the keys to them. It lasts as long as the test's process.
#[derive(Debug)]
pub(crate) struct Pusher {
    url: String,
    state: Arc<Mutex<State>>,
}

#[derive(Debug)]
struct State {
    /// The names of the one key that it has.
    ids: Vec<&'static str>,
    is_broken: bool,
    fetches: usize,
}

impl Pusher {
    /// One whose key is called so.
    pub(crate) fn new(id: &'static str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let url = format!("http://{}", listener.local_addr().expect("it is bound"));
        let state = State { ids: vec![id], is_broken: false, fetches: 0 };
        let state = Arc::new(Mutex::new(state));
        let served = Arc::clone(&state);
        thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.expect("a connection");
                let mut request = [0; 4_096];
                let length = stream.read(&mut request).expect("a request");
                let asks_for_keys = request[..length].starts_with(b"GET /oauth2/v3/certs HTTP/1.1");
                let mut state = served.lock().unwrap_or_else(PoisonError::into_inner);
                state.fetches += 1;
                let status = match state.is_broken {
                    true => "500 Internal Server Error",
                    false if asks_for_keys => "200 OK",
                    false => "404 Not Found",
                };
                let body = key_set(&state.ids).to_string();
                let length = body.len();
                let answer = format!(
                    "HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
                );
                stream.write_all(answer.as_bytes()).expect("it is read");
            }
        });
        Self { url, state }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Calls its key by these names from now on.
    pub(crate) fn rotate(&self, ids: &[&'static str]) {
        self.state().ids = ids.to_vec();
    }

    /// Whether it fails to serve its keys from now on.
    pub(crate) fn is_broken(&self, is_broken: bool) {
        self.state().is_broken = is_broken;
    }

    /// How often it was asked.
    pub(crate) fn fetches(&self) -> usize {
        self.state().fetches
    }

    /// What tells a service of it.
    pub(crate) fn settings(&self) -> [(&'static str, &str); 4] {
        [
            ("BILLING_GOOGLE_JWKS_URL", &self.url),
            ("BILLING_GOOGLE_PUSH_AUDIENCE", AUDIENCE),
            ("BILLING_GOOGLE_PUSH_ACCOUNT", ACCOUNT),
            ("BILLING_GOOGLE_PUSH_SUBSCRIPTION", SUBSCRIPTION),
        ]
    }

    /// Has a service take what it proves.
    pub(crate) fn known_to(&self, launch: Launch) -> Launch {
        self.settings().into_iter().fold(launch, |launch, (name, value)| launch.set(name, value))
    }
}

fn key() -> EncodingKey {
    EncodingKey::from_rsa_pem(include_bytes!("../../keys/rsa.pem")).expect("a key")
}

fn key_set(ids: &[&str]) -> Value {
    let jwk = |id: &&str| {
        let mut jwk = Jwk::from_encoding_key(&key(), Algorithm::RS256).expect("a key");
        jwk.common.key_id = Some((*id).to_owned());
        jwk
    };
    json!({"keys": ids.iter().map(jwk).collect::<Vec<_>>()})
}

/// What Google's token says.
pub(crate) fn push_claims() -> Value {
    json!({
        "iss": "https://accounts.google.com",
        "aud": AUDIENCE,
        "azp": "1234567890",
        "sub": "1234567890",
        "email": ACCOUNT,
        "email_verified": true,
        "iat": now(),
        "exp": now() + 3_600,
    })
}

/// The `Authorization` of a push, with the key of this name.
pub(crate) fn push_proof(id: &str, claims: &Value) -> String {
    let header = Header { kid: Some(id.to_owned()), ..Header::new(Algorithm::RS256) };
    format!("Bearer {}", encode(&header, claims, &key()).expect("it signs"))
}

/// What Pub/Sub pushes, with this id.
pub(crate) fn pushed(id: &str, told: &Value) -> Value {
    json!({
        "message": {
            "attributes": {},
            "data": BASE64_STANDARD.encode(told.to_string()),
            "messageId": id,
            "message_id": id,
            "publishTime": "2026-11-27T09:00:01.5Z",
            "publish_time": "2026-11-27T09:00:01.5Z",
        },
        "subscription": SUBSCRIPTION,
    })
}

/// What Google tells in a message: of one kind, with this content.
pub(crate) fn play_notification(kind: &str, content: Value) -> Value {
    let time = (now() * 1_000).to_string();
    let mut told = json!({"version": "1.0", "packageName": APP, "eventTimeMillis": time});
    told[kind] = content;
    told
}

/// That a purchase was paid.
pub(crate) fn play_purchase(token: &str, product: &str) -> Value {
    let content = json!({
        "version": "1.0", "notificationType": 1, "purchaseToken": token, "sku": product,
    });
    play_notification("oneTimeProductNotification", content)
}

/// That a purchase was refunded whole.
pub(crate) fn play_void(token: &str, order: &str) -> Value {
    let content =
        json!({"purchaseToken": token, "orderId": order, "productType": 2, "refundType": 1});
    play_notification("voidedPurchaseNotification", content)
}

/// What Apple signs to tell of a signed transaction.
pub(crate) fn app_store_notification(kind: &str, id: &str, signed_transaction: &str) -> Value {
    json!({
        "notificationType": kind,
        "notificationUUID": id,
        "data": {
            "appAppleId": APPLE_ID,
            "bundleId": APP,
            "bundleVersion": "12",
            "environment": "Sandbox",
            "signedTransactionInfo": signed_transaction,
        },
        "version": "2.0",
        "signedDate": now() * 1_000,
    })
}
