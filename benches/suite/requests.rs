//! What a load sends: texts made once, or made as they are needed. How they are sent belongs to `client.rs`.

use std::{
    hash::{BuildHasher, Hasher, RandomState},
    sync::Arc,
};

use anyhow::{Context, Result};
use jsonwebtoken::{EncodingKey, Header, encode};
use serde_json::json;

pub(crate) const CONSUME: &str = "/api/billing/tokens/consume";
pub(crate) const BALANCE: &str = "/api/billing/balance";
pub(crate) const TRANSACTIONS: &str = "/api/billing/transactions";
pub(crate) const ALLOCATE: &str = "/api/billing/credits/allocate";
pub(crate) const ADD_CREDITS: &str = "/api/billing/credits/add";
pub(crate) const HEALTH: &str = "/api/billing/health";

pub(crate) const MODEL: &str = "gemini-2.0-flash";
/// Worth 300 credits.
pub(crate) const PRODUCT: &str = "noteapp.credits.small";

/// A request without its headers.
#[derive(Debug, Clone)]
pub(crate) struct Call {
    method: &'static str,
    path: String,
    body: String,
}

impl Call {
    pub(crate) fn health() -> Self {
        Self::get(HEALTH.to_owned())
    }

    pub(crate) fn balance() -> Self {
        Self::get(BALANCE.to_owned())
    }

    /// A page of 100, the newest.
    pub(crate) fn first_page() -> Self {
        Self::get(TRANSACTIONS.to_owned())
    }

    /// A page of 100 below an id.
    pub(crate) fn page_before(id: u64) -> Self {
        Self::get(format!("{TRANSACTIONS}?before={id}"))
    }

    pub(crate) fn wallet() -> Self {
        Self::get("/api/billing/wallet".to_owned())
    }

    pub(crate) fn pricing() -> Self {
        Self::get("/api/billing/pricing".to_owned())
    }

    pub(crate) fn products() -> Self {
        Self::get("/api/billing/products".to_owned())
    }

    pub(crate) fn ledger() -> Self {
        Self::get("/api/billing/ledger".to_owned())
    }

    /// What was used from one day to another.
    pub(crate) fn usage(from: &str, to: &str, by: &str) -> Self {
        Self::get(format!("/api/billing/usage?from={from}&to={to}&by={by}"))
    }

    pub(crate) fn hold(model: &str) -> Self {
        Self::post("/api/billing/holds", format!(r#"{{"model_id":"{model}","tokens":8000}}"#))
    }

    /// By as much as a consumption takes. Which hold it is goes into its text.
    pub(crate) fn settle() -> Self {
        let body = r#"{"input_tokens":5000,"output_tokens":2000}"#.to_owned();
        Self::post(&format!("/api/billing/holds/{PLACE}/settle"), body)
    }

    pub(crate) fn consume(model: &str) -> Self {
        let body = format!(r#"{{"model_id":"{model}","input_tokens":5000,"output_tokens":2000}}"#);
        Self::post(CONSUME, body)
    }

    pub(crate) fn allocate(credits: u64) -> Self {
        let body = format!(r#"{{"allocations":[{{"model_id":"{MODEL}","credits":{credits}}}]}}"#);
        Self::post(ALLOCATE, body)
    }

    /// Of a store transaction that no other request has.
    pub(crate) fn add_credits(credits: u64) -> Self {
        let body = format!(
            r#"{{"credits":{credits},"purchase_record":{{"productId":"noteapp.credits.medium","transactionId":"{PLACE}"}}}}"#
        );
        Self::post(ADD_CREDITS, body)
    }

    /// Of a purchase at Google that no other request has.
    pub(crate) fn bring_google() -> Self {
        Self::bring(&format!("abcdefghijklmnopqrstuvwx.AO-J1O{:_<100}{PLACE}", ""))
    }

    /// Of the purchase that this token proves.
    pub(crate) fn bring(token: &str) -> Self {
        let body = format!(
            r#"{{"credits":300,"purchase_record":{{"productId":"{PRODUCT}","purchaseToken":"{token}"}}}}"#
        );
        Self::post(ADD_CREDITS, body)
    }

    /// What Apple signed is pushed.
    pub(crate) fn notify_apple(signed: &str) -> Self {
        let body = format!(r#"{{"signedPayload":"{signed}"}}"#);
        Self::post("/api/billing/notifications/apple", body)
    }

    fn get(path: String) -> Self {
        Self { method: "GET", path, body: String::new() }
    }

    fn post(path: &str, body: String) -> Self {
        Self { method: "POST", path: path.to_owned(), body }
    }

    pub(crate) fn path(&self) -> &str {
        &self.path
    }

    /// With header lines, each ended.
    pub(crate) fn with(&self, headers: &str) -> Text {
        let Self { method, path, body } = self;
        let bytes = format!(
            "{method} {path} HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\n\
             {headers}content-length: {}\r\n\r\n{body}",
            body.len()
        )
        .into_bytes();
        let place = bytes.windows(PLACE.len()).position(|text| text == PLACE.as_bytes());
        Text { bytes, place, writes: *method == "POST" }
    }
}

/// The header of a key that no other request has.
pub(crate) fn key_header() -> String {
    format!("idempotency-key: {PLACE}\r\n")
}

pub(crate) fn token_header(token: &str) -> String {
    format!("authorization: Bearer {token}\r\n")
}

/// A request as it is sent.
#[derive(Debug, Clone, Default)]
pub(crate) struct Text {
    bytes: Vec<u8>,
    /// Where characters belong that no other request has.
    place: Option<usize>,
    /// Whether a 200 means that a transaction is in the database.
    pub(crate) writes: bool,
}

impl Text {
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Writes the id that follows these characters in an answer into the place of this request.
    pub(crate) fn take_id(&mut self, before: &str, answer: &[u8]) -> Result<()> {
        let start = answer.windows(before.len()).position(|text| text == before.as_bytes());
        let start = start.map(|start| start.saturating_add(before.len()));
        let id = start.and_then(|start| answer.get(start..start.checked_add(PLACE.len())?));
        let place = self.place.and_then(|at| self.bytes.get_mut(at..at.checked_add(PLACE.len())?));
        let (place, id) = place.zip(id).context("no id, or no place for it")?;
        place.copy_from_slice(id);
        Ok(())
    }
}

/// 36 characters, as a UUID has.
const PLACE: &str = "000000000000000000000000000000000000";

/// The requests of a load.
#[derive(Clone)]
pub(crate) enum Requests {
    /// Each as often as any other.
    Any(Arc<[Text]>),
    /// Each once, in turn.
    Each(Arc<[Text]>),
    /// The same for the first so many numbered users, with a token each, and further headers.
    Users { call: Arc<Call>, users: u64, order: Order, headers: String },
}

/// Whose request is next.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Order {
    /// Anybody's.
    Random,
    /// One after the other's, from a number on.
    InTurnFrom(u64),
}

impl Requests {
    pub(crate) fn one(call: &Call, headers: &str) -> Self {
        Self::Any([call.with(headers)].into())
    }

    /// Consumptions of the users with these tokens.
    pub(crate) fn of(tokens: &[String]) -> Self {
        let text = |token: &String| Call::consume(MODEL).with(&token_header(token));
        Self::Any(tokens.iter().map(text).collect())
    }

    /// Writes the request of a number over what is in `text`.
    pub(crate) fn write(&self, number: u64, random: &mut Random, text: &mut Text) -> Result<()> {
        match self {
            Self::Any(texts) => {
                let count = u64::try_from(texts.len())?;
                let at = random.next().checked_rem(count).context("nothing to send")?;
                text.clone_from(texts.get(usize::try_from(at)?).context("nothing to send")?);
            }
            Self::Each(texts) => {
                text.clone_from(
                    texts.get(usize::try_from(number)?).context("nothing left to send")?,
                );
            }
            Self::Users { call, users, order, headers } => {
                let number = match order {
                    Order::Random => random.next(),
                    Order::InTurnFrom(first) => first.saturating_add(number),
                };
                let user = number.checked_rem(*users).context("nobody to send")?;
                let token = token_header(&token(&numbered_user(user))?);
                *text = call.with(&(token + headers));
            }
        }
        if let Some(place) = text.place {
            random.fill(&mut text.bytes[place..place.saturating_add(PLACE.len())]);
        }
        Ok(())
    }
}

pub(crate) fn numbered_user(number: u64) -> String {
    format!("user-{number:07}")
}

/// What the tokens are signed with that the load sends.
pub(crate) const SECRET: &str = "a secret of more than 32 bytes for a load only";

/// The settings of a service that takes them.
pub(crate) const WITH_TOKENS: [(&str, &str); 3] =
    [("BILLING_AUTH", "jwt"), ("BILLING_JWT_SECRET", SECRET), ("BILLING_RECEIPTS", "off")];

/// A token of `user` that lasts longer than a measurement.
pub(crate) fn token(user: &str) -> Result<String> {
    let key = EncodingKey::from_secret(SECRET.as_bytes());
    let claims = json!({"sub": user, "type": "access", "exp": 4_000_000_000_u64});
    Ok(encode(&Header::default(), &claims, &key)?)
}

/// `SplitMix64`: numbers without order, of which none comes twice. Cheap, because it is the client's work.
pub(crate) struct Random(u64);

impl Random {
    /// Every hasher of the standard library starts from other random keys.
    pub(crate) fn new() -> Self {
        Self(RandomState::new().build_hasher().finish())
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^ (bits >> 31)
    }

    /// What no other purchase is called.
    pub(crate) fn store_transaction_id(&mut self) -> String {
        let mut digits = [0; PLACE.len()];
        self.fill(&mut digits);
        digits.map(char::from).iter().collect()
    }

    /// Fills a place with hexadecimal digits.
    fn fill(&mut self, place: &mut [u8]) {
        for digits in place.chunks_mut(16) {
            let mut bits = self.next();
            for digit in digits {
                *digit = HEX_DIGITS[usize::try_from(bits & 15).unwrap_or_default()];
                bits >>= 4;
            }
        }
    }
}

const HEX_DIGITS: [u8; 16] = *b"0123456789abcdef";
