//! Who may ask: nobody has to log in, or a JSON Web Token says who it is. Where the keys come from is told
//! by the settings; which algorithm counts follows from the key, never from a token.

mod key_set;
mod public_key;
mod verifier;

use axum::http::{HeaderMap, header};

use super::refusals::Refusal;
use crate::domain::UserId;
pub(crate) use key_set::KeySet;
pub(crate) use verifier::{Expected, Verifier};

/// Least bytes of a shared secret: as many as the hash has.
const SECRET_MIN_BYTES: usize = 32;

/// Whether callers have to say who they are.
#[derive(Debug)]
pub(crate) enum Authentication {
    /// Everyone is the default user.
    None,
    /// A token says who it is, signed with one of these keys.
    Keys(Vec<Verifier>),
    /// A token says who it is, and by which key of the set.
    KeySet(Box<KeySet>),
}

/// Why it is not known who asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unidentified {
    /// There is no token, or it proves nothing. Why is not told.
    Unauthorized,
    /// The keys to judge the token with can't be had now.
    LoginUnavailable,
}

impl From<Unidentified> for Refusal {
    fn from(reason: Unidentified) -> Self {
        match reason {
            Unidentified::Unauthorized => Self::Unauthorized,
            Unidentified::LoginUnavailable => Self::LoginUnavailable,
        }
    }
}

impl Authentication {
    /// Takes HS256 tokens made with any of these secrets, separated by commas.
    ///
    /// # Errors
    /// A sentence when one of them can't be what is meant.
    pub(crate) fn with_secrets(secrets: &str, expected: &Expected) -> Result<Self, String> {
        let verifier = |secret: &str| {
            let quoted = secret.len() > 1
                && ['"', '\'']
                    .iter()
                    .any(|quote| secret.starts_with(*quote) && secret.ends_with(*quote));
            if quoted || secret.trim() != secret || secret.contains(char::is_control) {
                return Err(
                    "a secret has quotes or white space around it; leave them out".to_owned()
                );
            }
            if secret.len() < SECRET_MIN_BYTES {
                return Err(format!("each secret must have at least {SECRET_MIN_BYTES} bytes"));
            }
            Ok(Verifier::of_secret(secret.as_bytes(), expected))
        };
        secrets.split(',').map(verifier).collect::<Result<_, _>>().map(Self::Keys)
    }

    /// Takes tokens made with the private half of this PEM key: RS256, ES256 or EdDSA, as the key is.
    ///
    /// # Errors
    /// A sentence when it is no such key.
    pub(crate) fn with_public_key(pem: &[u8], expected: &Expected) -> Result<Self, String> {
        public_key::verifier(pem, expected).map(|verifier| Self::Keys(vec![verifier]))
    }

    /// Whether tokens can be judged: the keys are there, or can be fetched now.
    pub(crate) async fn can_judge(&self) -> bool {
        match self {
            Self::None | Self::Keys(_) => true,
            Self::KeySet(keys) => keys.can_be_had().await,
        }
    }

    /// Who sent these headers.
    pub(super) async fn user(&self, headers: &HeaderMap) -> Result<UserId, Unidentified> {
        let token = || bearer_token(headers).ok_or(Unidentified::Unauthorized);
        let user = match self {
            Self::None => Some(UserId::default_user()),
            Self::Keys(verifiers) => {
                let token = token()?;
                verifiers.iter().find_map(|verifier| verifier.user(token))
            }
            Self::KeySet(keys) => keys.user(token()?).await?,
        };
        user.ok_or(Unidentified::Unauthorized)
    }
}

/// The token of the one `Authorization` header.
fn bearer_token(headers: &HeaderMap) -> Option<&str> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let (Some(value), None) = (values.next(), values.next()) else { return None };
    let (scheme, token) = value.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then_some(token.trim())
}
