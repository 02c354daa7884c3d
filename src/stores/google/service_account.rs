//! The key file of Google's service account: whether it can be used, and what is signed with it. Who asks for
//! access with that, and when, is `access_token`'s.

use chrono::{DateTime, TimeDelta, Utc};
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use reqwest::Url;
use serde::{Deserialize, Serialize};

use crate::outgoing;

/// Where access tokens are asked for, unless the file says otherwise.
const TOKEN_URI: &str = "https://oauth2.googleapis.com/token";
/// What is asked for: purchases of the Play Store.
const SCOPE: &str = "https://www.googleapis.com/auth/androidpublisher";
/// The kind of key that signs for itself.
const KIND: &str = "service_account";
/// How far our clock may be ahead of Google's.
const CLOCK_LEEWAY: TimeDelta = TimeDelta::seconds(30);
/// How long an assertion is good for; Google takes an hour at most.
const LIFETIME: TimeDelta = TimeDelta::hours(1);

/// Who asks Google.
#[derive(Debug, Clone)]
pub(crate) struct ServiceAccount {
    email: String,
    key_id: Option<String>,
    key: EncodingKey,
    /// As the file has it: Google compares it letter by letter.
    audience: String,
    token_url: Url,
}

/// A key file as the Cloud Console makes it, as far as it matters.
#[derive(Deserialize)]
struct KeyFile {
    #[serde(rename = "type")]
    kind: Option<String>,
    client_email: Option<String>,
    private_key: Option<String>,
    private_key_id: Option<String>,
    token_uri: Option<String>,
}

#[derive(Serialize)]
struct Claims<'a> {
    iss: &'a str,
    scope: &'a str,
    aud: &'a str,
    iat: i64,
    exp: i64,
}

impl ServiceAccount {
    /// Reads a key file, and tries the key.
    ///
    /// # Errors
    /// A sentence about the file, in one line and without anything of its values.
    pub(crate) fn from_json(json: &[u8]) -> Result<Self, String> {
        let file: KeyFile = serde_json::from_slice(json).map_err(|error| {
            format!("is no JSON key of a service account (line {})", error.line())
        })?;
        if let Some(kind) = file.kind
            && kind != KIND
        {
            return Err("is a key of another type than service_account".to_owned());
        }
        let email = file.client_email.filter(|email| email.contains('@'));
        let email = email.ok_or("has no client_email; is it a service account's key?")?;
        let pem = file.private_key.ok_or("has no private_key")?;
        let key = EncodingKey::from_rsa_pem(pem.as_bytes())
            .map_err(|_| "has a private_key that is no RSA key in PEM")?;
        let audience = file.token_uri.unwrap_or_else(|| TOKEN_URI.to_owned());
        let token_url = outgoing::address(&audience)
            .map_err(|reason| format!("has a token_uri that {reason}"))?;
        let key_id = file.private_key_id.filter(|id| !id.is_empty());
        let account = Self { email, key_id, key, audience, token_url };
        account.assertion(DateTime::UNIX_EPOCH)?;
        Ok(account)
    }

    /// Its name.
    pub(crate) fn email(&self) -> &str {
        &self.email
    }

    /// Where access tokens are asked for.
    pub(super) const fn token_url(&self) -> &Url {
        &self.token_url
    }

    /// What proves at `now` who asks (RFC 7523).
    ///
    /// # Errors
    /// A sentence when the key can't sign.
    pub(super) fn assertion(&self, now: DateTime<Utc>) -> Result<String, String> {
        let mut header = Header::new(Algorithm::RS256);
        header.kid.clone_from(&self.key_id);
        let issued_at = now.checked_sub_signed(CLOCK_LEEWAY).unwrap_or(now).timestamp();
        let claims = Claims {
            iss: &self.email,
            scope: SCOPE,
            aud: &self.audience,
            iat: issued_at,
            exp: issued_at.saturating_add(LIFETIME.num_seconds()),
        };
        encode(&header, &claims, &self.key).map_err(|_| {
            "has a private_key that can't sign; RSA keys of 2,048 bits or more can".to_owned()
        })
    }
}

#[cfg(test)]
pub(super) mod tests {
    use jsonwebtoken::{DecodingKey, Validation, decode, decode_header};
    use serde_json::{Value, json};

    use super::*;

    const RSA: &str = include_str!("../../../tests/it/keys/rsa.pem");
    const RSA_PKCS1: &str = include_str!("../../../tests/it/keys/rsa.pkcs1.pem");
    const RSA_PUBLIC: &str = include_str!("../../../tests/it/keys/rsa.pub.pem");
    const EC: &str = include_str!("../../../tests/it/keys/ec.pem");

    fn file() -> Value {
        json!({
            "type": "service_account",
            "client_email": "billing@example.iam.gserviceaccount.com",
            "private_key": RSA,
            "private_key_id": "k1",
            "auth_uri": "https://accounts.example",
        })
    }

    fn without(name: &str) -> Value {
        let mut file = file();
        file.as_object_mut().expect("an object").remove(name);
        file
    }

    fn with(name: &str, value: impl Into<Value>) -> Value {
        let mut file = file();
        file[name] = value.into();
        file
    }

    fn read(file: &Value) -> Result<ServiceAccount, String> {
        ServiceAccount::from_json(file.to_string().as_bytes())
    }

    /// An account whose access tokens come from `token_uri`.
    pub(in super::super) fn account(token_uri: &str) -> ServiceAccount {
        read(&with("token_uri", token_uri)).expect("a key file")
    }

    #[test]
    fn an_assertion_says_who_asks_for_what_and_how_long() {
        for (file, kid) in [
            (file(), Some("k1")),
            (without("private_key_id"), None),
            (without("type"), Some("k1")),
            (with("private_key", RSA_PKCS1), Some("k1")),
        ] {
            let now = DateTime::from_timestamp(1_795_766_400, 0).expect("a time");
            let assertion = read(&file).and_then(|account| account.assertion(now)).expect("signed");
            assert_eq!(decode_header(&assertion).expect("a token").kid.as_deref(), kid);
            let mut validation = Validation::new(Algorithm::RS256);
            validation.set_audience(&[TOKEN_URI]);
            validation.validate_exp = false;
            let key = DecodingKey::from_rsa_pem(RSA_PUBLIC.as_bytes()).expect("a key");
            let token =
                decode::<Value>(&assertion, &key, &validation).expect("its own key verifies");
            let expected = json!({
                "iss": "billing@example.iam.gserviceaccount.com",
                "scope": "https://www.googleapis.com/auth/androidpublisher",
                "aud": "https://oauth2.googleapis.com/token",
                "iat": 1_795_766_370_i64,
                "exp": 1_795_769_970_i64,
            });
            assert_eq!(token.claims, expected);
        }
    }

    #[test]
    fn a_bad_file_is_one_line_that_tells_nothing_of_the_key() {
        for (file, reason) in [
            (json!("-----BEGIN PRIVATE KEY-----"), "is no JSON key"),
            (json!([]), "is no JSON key"),
            (with("type", "authorized_user"), "another type"),
            (without("client_email"), "no client_email"),
            (with("client_email", ""), "no client_email"),
            (without("private_key"), "no private_key"),
            (with("private_key", "secret"), "no RSA key"),
            (with("private_key", EC), "no RSA key"),
            (with("private_key", RSA_PUBLIC), "private_key"),
            (with("private_key", 5), "is no JSON key"),
            (with("token_uri", "http://login.example/token"), "token_uri"),
            (with("token_uri", "token"), "token_uri"),
        ] {
            let line = read(&file).expect_err("it can't be used");
            assert!(line.contains(reason), "{line}");
            assert!(!line.contains('\n') && !line.contains("BEGIN"), "{line}");
        }
        assert!(ServiceAccount::from_json(b"").is_err());
        assert!(!format!("{:?}", account(TOKEN_URI)).contains("PRIVATE KEY"));
    }
}
