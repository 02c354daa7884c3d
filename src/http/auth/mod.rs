//! Who may ask: nobody has to log in, or a JSON Web Token says who it is, or a static token what it is. Where
//! the keys come from is told by the settings; which algorithm counts follows from the key, never from a token.

mod issuer;
mod login;
mod named_user;
mod static_tokens;
mod verifier;

use axum::http::{HeaderMap, header};

use super::refusals::Refusal;
use crate::{
    domain::Role,
    key_sets::{self, Unfetched},
};
pub(crate) use issuer::Issuer;
pub(crate) use login::{Admitted, Denied, Login};
pub(crate) use named_user::{BILLING_USER, NoName};
pub(crate) use static_tokens::StaticTokens;
pub(crate) use verifier::{Expected, Verifier};

/// Least bytes of a shared secret: as many as the hash has.
const SECRET_MIN_BYTES: usize = 32;

/// How callers prove who they are.
#[derive(Debug)]
pub(crate) struct Authentication {
    users: UserLogins,
    /// What their bearers are.
    static_tokens: Vec<(Role, StaticTokens)>,
}

/// Whether users have to say who they are.
#[derive(Debug)]
pub(crate) enum UserLogins {
    /// Everyone is the default user.
    None,
    /// A token says who it is, signed with one of these keys.
    Keys(Vec<Verifier>),
    /// A token says who it is, and by which key of the set.
    KeySet(Box<Issuer>),
}

/// Why it is not known who asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unidentified {
    /// There is no token, or it proves nothing. Why is not told.
    Unauthorized,
    /// The keys to judge the token with can't be had now.
    LoginUnavailable,
}

impl From<Denied> for Refusal {
    fn from(reason: Denied) -> Self {
        match reason {
            Denied::Unidentified(Unidentified::Unauthorized) => Self::Unauthorized,
            Denied::Unidentified(Unidentified::LoginUnavailable) => Self::LoginUnavailable,
            Denied::Unnamed(reason) => Self::UserUnnamed(reason),
            Denied::Forbidden => Self::Forbidden,
        }
    }
}

impl From<Unfetched> for Unidentified {
    fn from(_: Unfetched) -> Self {
        Self::LoginUnavailable
    }
}

impl UserLogins {
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
        let verifier = Verifier::of_public_key(key_sets::from_pem(pem)?, expected);
        Ok(Self::Keys(vec![verifier]))
    }
}

impl Authentication {
    /// Users log in so, and our own servers by static tokens.
    pub(crate) fn new(
        users: UserLogins,
        backend: Option<StaticTokens>,
        operator: Option<StaticTokens>,
    ) -> Self {
        let roles = [(Role::Backend, backend), (Role::Operator, operator)];
        let static_tokens = roles.into_iter().filter_map(|(role, tokens)| Some((role, tokens?)));
        Self { users, static_tokens: static_tokens.collect() }
    }

    /// Whether nobody has to log in.
    pub(crate) const fn is_open(&self) -> bool {
        matches!(self.users, UserLogins::None)
    }

    /// Whether tokens can be judged: the keys are there, or can be fetched now.
    pub(crate) async fn can_judge(&self) -> bool {
        match &self.users {
            UserLogins::None | UserLogins::Keys(_) => true,
            UserLogins::KeySet(issuer) => issuer.can_judge().await,
        }
    }

    /// Whether anybody can be an operator: by a static token, or by one that says so.
    pub(crate) fn knows_operators(&self) -> bool {
        let fixed = self.static_tokens.iter().any(|(role, _)| *role == Role::Operator);
        fixed
            || matches!(&self.users, UserLogins::KeySet(_))
            || matches!(&self.users, UserLogins::Keys(keys) if !keys.is_empty())
    }

    /// The operator whose token this is, if it is one's.
    ///
    /// # Errors
    /// [`Unidentified::LoginUnavailable`] when that can't be found out now.
    pub(crate) async fn operator(&self, token: &str) -> Result<Option<Login>, Unidentified> {
        let login = match (self.static_role(token), &self.users) {
            (Some(role), _) => Some(Login::of_role(role)),
            (None, UserLogins::None) => None,
            (None, UserLogins::Keys(verifiers)) => {
                verifiers.iter().find_map(|verifier| verifier.login(token))
            }
            (None, UserLogins::KeySet(issuer)) => issuer.login(token).await?,
        };
        Ok(login.filter(|login| login.role() == Role::Operator))
    }

    /// Who sent these headers.
    pub(super) async fn login(&self, headers: &HeaderMap) -> Result<Login, Unidentified> {
        let token = bearer_token(headers);
        if let Some(role) = token.and_then(|token| self.static_role(token)) {
            return Ok(Login::of_role(role));
        }
        let token = || token.ok_or(Unidentified::Unauthorized);
        let login = match &self.users {
            UserLogins::None => Some(Login::of_anyone()),
            UserLogins::Keys(verifiers) => {
                let token = token()?;
                verifiers.iter().find_map(|verifier| verifier.login(token))
            }
            UserLogins::KeySet(issuer) => issuer.login(token()?).await?,
        };
        login.ok_or(Unidentified::Unauthorized)
    }

    /// What the bearer of a static token is.
    fn static_role(&self, token: &str) -> Option<Role> {
        let known = self.static_tokens.iter().find(|(_, tokens)| tokens.contain(token));
        known.map(|(role, _)| *role)
    }
}

/// Whom somebody acts for who sent these headers.
pub(super) fn acting_for(
    login: &Result<Login, Unidentified>,
    headers: &HeaderMap,
) -> Result<Admitted, Denied> {
    let login = login.as_ref().map_err(|reason| Denied::Unidentified(*reason))?;
    login.acting_for(named_user::named_user(headers))
}

/// The token of the one `Authorization` header.
fn bearer_token(headers: &HeaderMap) -> Option<&str> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let (Some(value), None) = (values.next(), values.next()) else { return None };
    let (scheme, token) = value.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then_some(token.trim())
}
