//! Tokens as the app's login service would issue them.

use std::time::{SystemTime, UNIX_EPOCH};

use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use serde_json::{Value, json};

/// What a service under test knows tokens by.
pub(crate) const SECRET: &str = "a shared secret of thirty-two bytes";

#[expect(clippy::disallowed_methods, reason = "tokens are only good for a time")]
pub(crate) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs()
}

/// What the app's tokens say.
pub(crate) fn claims(user: &str) -> Value {
    json!({"sub": user, "device_id": "d-1", "type": "access", "exp": now() + 600, "iat": now()})
}

/// A token signed with a secret.
pub(crate) fn signed(algorithm: Algorithm, claims: &Value, secret: &[u8]) -> String {
    encode(&Header::new(algorithm), claims, &EncodingKey::from_secret(secret)).expect("it signs")
}

/// A token signed with the [`SECRET`].
pub(crate) fn token(claims: &Value) -> String {
    signed(Algorithm::HS256, claims, SECRET.as_bytes())
}
