//! Google's access token: when it is asked for, kept, renewed and thrown away. What is asked with it does not
//! belong here.

use std::{
    sync::{Arc, PoisonError, RwLock},
    time::{Duration, Instant},
};

use chrono::{DateTime, Utc};
use reqwest::header::HeaderValue;
use serde::Deserialize;
use tokio::sync::{Mutex, OwnedMutexGuard};
use tracing::warn;

use super::{lenient::Whole, service_account::ServiceAccount};
use crate::{
    metrics::{Metrics, StoreCall},
    outgoing::{Outgoing, Reply, Request},
    stores::{StoreError, counted},
};

/// With so much left, or less, the next one is asked for; the old one is used meanwhile.
const RENEWED_WITH: Duration = Duration::from_mins(5);
/// With so much left, or less, it is not used any more: a request takes its time.
const USABLE_WITH: Duration = Duration::from_secs(5);
/// How long to wait after a first try that failed; each further one that fails doubles it.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// Longest wait after a try that failed.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// How long tokens are not thrown away after a new one was not taken either.
const RESIGNED_FOR: Duration = Duration::from_mins(1);
/// Longest life of a token that is believed; Google's live for an hour.
const LIFETIME_MAX: Duration = Duration::from_hours(24);
/// Most characters of Google's name of an error that are repeated.
const CODE_MAX_CHARS: usize = 40;

/// The access token of a service account.
#[derive(Debug)]
pub(super) struct AccessTokens {
    issuer: Arc<Issuer>,
    tries: Arc<Mutex<Tries>>,
}

/// An access token, as the header that shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct AccessToken(HeaderValue);

/// Where the token comes from, and the one that did.
#[derive(Debug)]
struct Issuer {
    account: ServiceAccount,
    client: Outgoing,
    clock: fn() -> DateTime<Utc>,
    metrics: Option<Arc<Metrics>>,
    held: RwLock<Held>,
}

#[derive(Debug, Default)]
struct Held {
    token: Option<(AccessToken, Instant)>,
    /// Until when tokens that are not taken are kept all the same.
    resigned_until: Option<Instant>,
}

/// How the last tries went.
#[derive(Debug, Default)]
struct Tries {
    /// Since the last success.
    failed: Option<Failed>,
}

#[derive(Debug)]
struct Failed {
    at: Instant,
    pause: Duration,
    error: StoreError,
}

/// What to do with a token.
#[derive(Debug, PartialEq, Eq)]
enum Use {
    /// Use it.
    AsItIs,
    /// Use it, and ask for the next one.
    AndRenew,
    /// Wait for the next one.
    NoMore,
}

#[derive(Deserialize)]
struct Granted {
    access_token: Option<String>,
    /// In seconds.
    expires_in: Option<Whole>,
}

#[derive(Deserialize)]
struct Denied {
    error: Option<String>,
}

impl AccessToken {
    /// What the header `Authorization` must say.
    pub(super) fn header(&self) -> HeaderValue {
        self.0.clone()
    }

    fn new(token: &str) -> Option<Self> {
        let mut value = HeaderValue::from_str(&format!("Bearer {token}")).ok()?;
        value.set_sensitive(true);
        Some(Self(value))
    }
}

impl AccessTokens {
    /// Without a token yet.
    pub(super) fn new(
        account: ServiceAccount,
        client: Outgoing,
        clock: fn() -> DateTime<Utc>,
        metrics: Option<Arc<Metrics>>,
    ) -> Self {
        let issuer = Issuer { account, client, clock, metrics, held: RwLock::default() };
        Self { issuer: Arc::new(issuer), tries: Arc::default() }
    }

    /// Whose they are.
    pub(super) fn email(&self) -> &str {
        self.issuer.account.email()
    }

    /// A token that is good for a request. One task at a time asks for the next.
    pub(super) async fn get(&self) -> Result<AccessToken, StoreError> {
        match self.issuer.usable() {
            Some((token, Use::AsItIs)) => Ok(token),
            Some((token, _)) => {
                if let Ok(tries) = Arc::clone(&self.tries).try_lock_owned() {
                    // Whoever had the lock just now may have brought the next one.
                    let due = self.issuer.usable().is_none_or(|(_, use_)| use_ != Use::AsItIs);
                    if due && tries.resting().is_none() {
                        tokio::spawn(Arc::clone(&self.issuer).renew(tries));
                    }
                }
                Ok(token)
            }
            None => self.next().await,
        }
    }

    /// The next token.
    async fn next(&self) -> Result<AccessToken, StoreError> {
        // Whoever waits here for another's try finds what it brought.
        let tries = Arc::clone(&self.tries).lock_owned().await;
        if let Some((token, _)) = self.issuer.usable() {
            return Ok(token);
        }
        if let Some(error) = tries.resting() {
            return Err(error.clone());
        }
        // On a task of its own: whoever asked may go away, and what is fetched must not go with them.
        let fetching = tokio::spawn(Arc::clone(&self.issuer).renew(tries));
        fetching.await.unwrap_or_else(|_| Err(unreachable("asking for access broke off")))
    }

    /// Throws a token away that was not taken, so that another is asked for. Returns whether it was.
    pub(super) fn forget(&self, refused: &AccessToken) -> bool {
        let mut held = self.issuer.held.write().unwrap_or_else(PoisonError::into_inner);
        if held.resigned_until.is_some_and(|until| Instant::now() < until) {
            return false;
        }
        if held.token.as_ref().is_some_and(|(token, _)| token == refused) {
            held.token = None;
        }
        true
    }

    /// A new token was not taken either: another one would not help.
    pub(super) fn resign(&self) {
        let mut held = self.issuer.held.write().unwrap_or_else(PoisonError::into_inner);
        held.resigned_until = Instant::now().checked_add(RESIGNED_FOR);
    }
}

impl Tries {
    /// Why it must not be tried again yet.
    fn resting(&self) -> Option<&StoreError> {
        let failed = self.failed.as_ref()?;
        (failed.at.elapsed() < failed.pause).then_some(&failed.error)
    }
}

impl Issuer {
    /// The token, unless it is of no more use.
    fn usable(&self) -> Option<(AccessToken, Use)> {
        let held = self.held.read().unwrap_or_else(PoisonError::into_inner);
        let (token, expires_at) = held.token.as_ref()?;
        match use_with(expires_at.saturating_duration_since(Instant::now())) {
            Use::NoMore => None,
            use_ => Some((token.clone(), use_)),
        }
    }

    /// Asks for the next token, and takes note of how that went.
    async fn renew(
        self: Arc<Self>,
        mut tries: OwnedMutexGuard<Tries>,
    ) -> Result<AccessToken, StoreError> {
        let asked_at = Instant::now();
        let asked = self.ask().await;
        let outcome = asked.as_ref().err().map_or("ok", StoreError::name);
        counted(self.metrics.as_deref(), StoreCall::GoogleAccessToken, outcome, asked_at);
        match asked {
            Ok((token, lifetime)) => {
                let expires_at = asked_at.checked_add(lifetime).unwrap_or(asked_at);
                let mut held = self.held.write().unwrap_or_else(PoisonError::into_inner);
                held.token = Some((token.clone(), expires_at));
                tries.failed = None;
                Ok(token)
            }
            Err(error) => {
                let pause = tries.failed.as_ref().map_or(FIRST_PAUSE, |failed| {
                    failed.pause.saturating_mul(2).min(LONGEST_PAUSE)
                });
                warn!(%error, pause_s = pause.as_secs(), "Google gives no access token");
                tries.failed = Some(Failed { at: Instant::now(), pause, error: error.clone() });
                Err(error)
            }
        }
    }

    async fn ask(&self) -> Result<(AccessToken, Duration), StoreError> {
        let assertion = self
            .account
            .assertion((self.clock)())
            .map_err(|reason| refused(&format!("BILLING_GOOGLE_SERVICE_ACCOUNT {reason}")))?;
        let form = form_urlencoded::Serializer::new(String::new())
            .append_pair("grant_type", "urn:ietf:params:oauth:grant-type:jwt-bearer")
            .append_pair("assertion", &assertion)
            .finish();
        let request = Request::post(self.account.token_url().clone(), form)
            .of_type("application/x-www-form-urlencoded");
        granted(&self.client.send(request).await.map_err(StoreError::Unreachable)?)
    }
}

fn use_with(left: Duration) -> Use {
    if left > RENEWED_WITH {
        Use::AsItIs
    } else if left > USABLE_WITH {
        Use::AndRenew
    } else {
        Use::NoMore
    }
}

/// The token of an answer, and how long it lives.
fn granted(reply: &Reply) -> Result<(AccessToken, Duration), StoreError> {
    match reply.status.as_u16() {
        200 => {}
        429 => return Err(StoreError::Limited),
        400 | 401 | 403 => return Err(denied(reply)),
        status => return Err(unreachable(&format!("access was answered with status {status}"))),
    }
    let granted: Granted = serde_json::from_slice(&reply.body)
        .map_err(|_| unreachable("the answer about access can't be read"))?;
    let token = granted.access_token.filter(|token| !token.is_empty());
    let token = token.and_then(|token| AccessToken::new(&token));
    let token = token.ok_or_else(|| unreachable("the answer about access has no access_token"))?;
    // A token without an end would never be renewed.
    let lifetime = granted
        .expires_in
        .and_then(|seconds| u64::try_from(seconds.0).ok())
        .filter(|seconds| *seconds > 0)
        .ok_or_else(|| unreachable("the answer about access has no expires_in"))?;
    Ok((token, Duration::from_secs(lifetime).min(LIFETIME_MAX)))
}

fn denied(reply: &Reply) -> StoreError {
    let denied: Option<Denied> = serde_json::from_slice(&reply.body).ok();
    let is_name = |code: &String| {
        code.len() <= CODE_MAX_CHARS
            && code.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_')
    };
    match denied.and_then(|denied| denied.error).filter(is_name).as_deref() {
        Some("invalid_grant") => refused(
            "it takes no signature of the service account (invalid_grant): set this machine's clock \
             right, or put a key into BILLING_GOOGLE_SERVICE_ACCOUNT that was not deleted or switched off",
        ),
        Some(code) => refused(&format!(
            "it gives no access to the service account ({code}): look at the account and the key in \
             BILLING_GOOGLE_SERVICE_ACCOUNT"
        )),
        None => unreachable(&format!("access was answered with status {}", reply.status.as_u16())),
    }
}

fn refused(reason: &str) -> StoreError {
    StoreError::Refused(reason.to_owned())
}

fn unreachable(reason: &str) -> StoreError {
    StoreError::Unreachable(reason.to_owned())
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use axum::{Router, http::StatusCode, routing::post};
    use futures_util::future::join_all;
    use tokio::{net::TcpListener, sync::Notify};

    use super::{super::service_account::tests::account, *};

    fn reply(status: u16, body: &str) -> Reply {
        let status = StatusCode::from_u16(status).expect("a status");
        Reply { status, body: body.as_bytes().to_vec() }
    }

    #[test]
    fn a_token_is_renewed_before_it_ends_and_not_used_at_its_end() {
        for (left_s, use_) in [
            (3_600, Use::AsItIs),
            (301, Use::AsItIs),
            (300, Use::AndRenew),
            (6, Use::AndRenew),
            (5, Use::NoMore),
            (0, Use::NoMore),
        ] {
            assert_eq!(use_with(Duration::from_secs(left_s)), use_, "{left_s}");
        }
    }

    #[test]
    fn what_is_no_token_with_an_end_is_an_error() {
        for (body, lifetime_s) in [
            (r#"{"access_token":"a","expires_in":3599,"token_type":"Bearer"}"#, Some(3_599)),
            (r#"{"access_token":"a","expires_in":"3599"}"#, Some(3_599)),
            (r#"{"access_token":"a","expires_in":99999999999}"#, Some(86_400)),
            (r#"{"access_token":"a"}"#, None),
            (r#"{"access_token":"a","expires_in":0}"#, None),
            (r#"{"access_token":"a","expires_in":-1}"#, None),
            (r#"{"access_token":"a","expires_in":1e400}"#, None),
            (r#"{"access_token":"","expires_in":3599}"#, None),
            (r#"{"access_token":"a\nb","expires_in":3599}"#, None),
            (r#"{"expires_in":3599}"#, None),
            (r#"{"access_token":"a","access_token":"b","expires_in":3599}"#, None),
            ("<html></html>", None),
            ("", None),
        ] {
            let granted = granted(&reply(200, body));
            let error = granted.as_ref().err().map(StoreError::name);
            let lifetime = granted.map(|(_, lifetime)| lifetime.as_secs()).ok();
            assert_eq!(lifetime, lifetime_s, "{body}");
            assert_eq!(error, lifetime_s.is_none().then_some("unreachable"), "{body}");
        }
    }

    #[test]
    fn what_google_says_no_with_is_told_from_what_is_broken() {
        for (status, body, name) in [
            (400, r#"{"error":"invalid_grant","error_description":"Invalid JWT"}"#, "refused"),
            (401, r#"{"error":"invalid_client"}"#, "refused"),
            (400, r#"{"error":{"code":400}}"#, "unreachable"),
            (400, "<html>", "unreachable"),
            (429, "", "limited"),
            (302, "", "unreachable"),
            (500, r#"{"error":"internal_failure"}"#, "unreachable"),
            (503, "", "unreachable"),
        ] {
            let error = granted(&reply(status, body)).expect_err("no token");
            assert_eq!(error.name(), name, "{status} {body}");
        }
        let error = granted(&reply(400, r#"{"error":"invalid_grant"}"#)).expect_err("no token");
        let text = error.to_string();
        assert!(
            text.contains("clock") && text.contains("BILLING_GOOGLE_SERVICE_ACCOUNT"),
            "{text}"
        );
    }

    /// Tokens from a server that answers with the status and the body of `answer` by the number of the try.
    async fn tokens(answer: fn(usize) -> (u16, String)) -> (AccessTokens, Arc<AtomicUsize>) {
        let tries = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&tries);
        let answers = move || {
            let (status, body) = answer(counted.fetch_add(1, Ordering::SeqCst));
            async move { (StatusCode::from_u16(status).expect("a status"), body) }
        };
        (served(Router::new().route("/token", post(answers))).await, tries)
    }

    async fn served(router: Router) -> AccessTokens {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port is free");
        let address = listener.local_addr().expect("it is bound");
        tokio::spawn(async move { axum::serve(listener, router).await });
        let account = account(&format!("http://{address}/token"));
        let client = Outgoing::new().expect("there are authorities");
        AccessTokens::new(account, client, || DateTime::UNIX_EPOCH, None)
    }

    fn lasting(lifetime_s: u64, number: usize) -> (u16, String) {
        (200, format!(r#"{{"access_token":"token-{number}","expires_in":{lifetime_s}}}"#))
    }

    #[tokio::test]
    async fn many_who_wait_share_one_token() {
        let (tokens, tries) = tokens(|number| lasting(3_600, number)).await;
        let all = join_all((0..20).map(|_| tokens.get())).await;
        let first = all[0].clone().expect("a token");
        assert!(all.iter().all(|token| token.as_ref() == Ok(&first)), "{all:?}");
        assert_eq!(first.header().to_str().ok(), Some("Bearer token-0"));
        assert!(!format!("{first:?}").contains("token-0"));
        assert_eq!(tries.load(Ordering::SeqCst), 1);
    }

    #[tokio::test]
    async fn one_that_ends_soon_is_used_until_the_next_is_there() {
        let (tokens, tries) =
            tokens(|number| lasting(if number == 0 { 200 } else { 3_600 }, number)).await;
        let first = tokens.get().await.expect("a token");
        assert_eq!(tokens.get().await, Ok(first.clone()), "the old one is used meanwhile");
        // The task that asks for the next one has the lock until it is there.
        while tokens.get().await.as_ref() == Ok(&first) {
            tokio::task::yield_now().await;
        }
        let next = tokens.get().await.expect("a token");
        assert_eq!(next.header().to_str().ok(), Some("Bearer token-1"));
        assert_eq!(tries.load(Ordering::SeqCst), 2);
    }

    /// Has the last failure be so long ago, and its pause be so long; returns the pause it had.
    async fn pretend(tokens: &AccessTokens, ago: Duration, pause: Duration) -> Duration {
        let mut tries = tokens.tries.lock().await;
        let failed = tries.failed.as_mut().expect("it failed");
        failed.at = failed.at.checked_sub(ago).expect("the machine runs for longer");
        std::mem::replace(&mut failed.pause, pause)
    }

    #[tokio::test]
    async fn a_broken_account_is_not_asked_for_every_purchase() {
        let (tokens, tries) = tokens(|_| (400, r#"{"error":"invalid_grant"}"#.to_owned())).await;
        let refused = tokens.get().await.expect_err("it is broken");
        assert!(matches!(refused, StoreError::Refused(_)), "{refused}");
        assert_eq!(pretend(&tokens, Duration::ZERO, LONGEST_PAUSE).await, FIRST_PAUSE);
        let all = join_all((0..20).map(|_| tokens.get())).await;
        assert!(all.iter().all(|token| token.as_ref() == Err(&refused)), "{all:?}");
        assert_eq!(tries.load(Ordering::SeqCst), 1);
    }

    #[tokio::test]
    async fn the_pauses_of_a_broken_account_grow_to_half_a_minute() {
        let (tokens, tries) = tokens(|_| (500, String::new())).await;
        assert!(tokens.get().await.is_err());
        for (pause_s, next_s) in [(1, 2), (2, 4), (16, 30), (30, 30)] {
            let pause = Duration::from_secs(pause_s);
            pretend(&tokens, pause, pause).await;
            assert!(tokens.get().await.is_err());
            let next = pretend(&tokens, Duration::ZERO, pause).await;
            assert_eq!(next, Duration::from_secs(next_s));
        }
        assert_eq!(tries.load(Ordering::SeqCst), 5);
    }

    #[tokio::test]
    async fn a_token_that_is_not_taken_is_replaced_but_not_for_ever() {
        let (tokens, tries) = tokens(|number| lasting(3_600, number)).await;
        let first = tokens.get().await.expect("a token");
        assert!(tokens.forget(&first));
        let second = tokens.get().await.expect("a token");
        assert_ne!(first, second);
        assert!(tokens.forget(&first), "another was told of it too late");
        assert_eq!(tokens.get().await.as_ref(), Ok(&second));
        tokens.resign();
        assert!(!tokens.forget(&second));
        assert_eq!(tokens.get().await, Ok(second));
        assert_eq!(tries.load(Ordering::SeqCst), 2);
    }

    #[tokio::test]
    async fn a_caller_who_goes_away_takes_nothing_along() {
        let (arrived, go_on) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let (here, there) = (Arc::clone(&arrived), Arc::clone(&go_on));
        let tries = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&tries);
        let answer = move || {
            counted.fetch_add(1, Ordering::SeqCst);
            let (here, there) = (Arc::clone(&here), Arc::clone(&there));
            async move {
                here.notify_one();
                there.notified().await;
                lasting(3_600, 0).1
            }
        };
        let tokens = served(Router::new().route("/token", post(answer))).await;
        tokio::select! {
            _ = tokens.get() => panic!("it was not answered yet"),
            () = arrived.notified() => {}
        }
        go_on.notify_one();
        assert!(tokens.get().await.is_ok());
        assert_eq!(tries.load(Ordering::SeqCst), 1);
    }
}
