//! Google Play: asked about a purchase by its token alone, and told that it was delivered; asked for what was
//! refunded, and told how much of it was used. What a purchase is worth, and when Google is asked again, does not
//! belong here.

mod access_token;
mod answers;
#[cfg(test)]
mod exchange_test;
mod lenient;
mod purchases;
mod push;
mod push_message;
#[cfg(test)]
mod push_test;
mod push_token;
#[cfg(test)]
mod refunds_test;
mod review;
mod service_account;
mod voided;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use chrono::{DateTime, TimeDelta, Utc};
use reqwest::{Url, header};
use tokio::time::sleep;

use access_token::AccessTokens;
use answers::Refusal;
pub(crate) use push::{Push, PushSettings};
pub(crate) use service_account::ServiceAccount;
pub(crate) use voided::VoidedPage;

use super::{StoreError, Understood, Unreadable, counted};
use crate::{
    domain::StoreWord,
    metrics::{Metrics, StoreCall},
    outgoing::{Outgoing, Request, Site, segment},
};

/// Pauses before a purchase that Google does not know is asked for again: it learns of a new one within a
/// second.
const GRACE_PAUSES: [Duration; 2] = [Duration::from_millis(250), Duration::from_millis(500)];
/// How long one request may take.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(3);
/// How long one request for a list may take, for which nobody waits.
const LIST_TIMEOUT: Duration = Duration::from_secs(10);
/// How far back the check of our rights looks; it is of no matter what it finds.
const CHECKED_SPAN: TimeDelta = TimeDelta::hours(1);

/// Google Play, for one app.
#[derive(Debug)]
pub(crate) struct Google {
    package: String,
    api: Site,
    client: Outgoing,
    clock: fn() -> DateTime<Utc>,
    tokens: AccessTokens,
    metrics: Option<Arc<Metrics>>,
    /// Whether a call for our package succeeded: it is no mistake, then, in our settings.
    package_is_ours: AtomicBool,
    /// What reads its notifications, if it pushes any.
    push: Option<Push>,
}

impl Google {
    /// Without a connection yet.
    pub(crate) fn new(
        package: String,
        account: ServiceAccount,
        api: Site,
        client: Outgoing,
        clock: fn() -> DateTime<Utc>,
        metrics: Option<Arc<Metrics>>,
    ) -> Self {
        if let Some(metrics) = &metrics {
            metrics.stores.expect("google");
        }
        let tokens = AccessTokens::new(account, client.clone(), clock, metrics.clone());
        let package_is_ours = AtomicBool::new(false);
        Self { package, api, client, clock, tokens, metrics, package_is_ours, push: None }
    }

    /// The same, with what reads its notifications.
    pub(crate) fn hearing(self, push: Option<Push>) -> Self {
        Self { push, ..self }
    }

    /// Whether it pushes notifications.
    pub(super) const fn is_heard(&self) -> bool {
        self.push.is_some()
    }

    /// What a pushed notification tells.
    pub(super) async fn read_push(
        &self,
        authorization: Option<&str>,
        body: &[u8],
        now: DateTime<Utc>,
    ) -> Result<Understood, Unreadable> {
        let push = self.push.as_ref().ok_or(Unreadable::NotSetUp)?;
        push.read(authorization, body, &self.package, now).await
    }

    /// What Google says of the purchase with this token, whatever product the client says that it is of. One
    /// that is not known is asked for again, twice; whoever waits sets the limit to all of it.
    ///
    /// # Errors
    /// [`StoreError`], [`StoreError::Unknown`] if it still is not known.
    pub(crate) async fn purchase(&self, token: &str) -> Result<StoreWord, StoreError> {
        let mut pauses = GRACE_PAUSES.into_iter();
        loop {
            match self.read(token).await {
                Ok(word) => return Ok(word),
                Err(Refusal::Unknown) => {}
                Err(Refusal::Malformed) => {
                    return Ok(StoreWord::Never("Google says that the token is none"));
                }
                Err(Refusal::OtherPackage) if self.package_is_ours.load(Ordering::Relaxed) => {
                    return Ok(StoreWord::Never("Google says that it is of another app"));
                }
                Err(refusal) => return Err(refusal.into_error()),
            }
            let Some(pause) = pauses.next() else { return Err(StoreError::Unknown) };
            sleep(pause).await;
        }
    }

    /// Tells Google that a purchase was delivered; one that it was told of, or that is void, is done.
    ///
    /// # Errors
    /// [`StoreError`] when it must be told later.
    pub(crate) async fn acknowledge(&self, product: &str, token: &str) -> Result<(), StoreError> {
        let url = self.change(product, token, "acknowledge")?;
        let request = || Request::post(url.clone(), "{}").of_type("application/json");
        let told = self.ask(StoreCall::GoogleAcknowledge, request, |_| Ok(())).await;
        self.done(told, token, |acknowledged, consumed| acknowledged || consumed).await
    }

    /// Tells Google that a product may be bought again; what is consumed, or void, is done.
    ///
    /// # Errors
    /// [`StoreError`] when it must be told later.
    pub(crate) async fn consume(&self, product: &str, token: &str) -> Result<(), StoreError> {
        let url = self.change(product, token, "consume")?;
        let request = || Request::post(url.clone(), "");
        let told = self.ask(StoreCall::GoogleConsume, request, |_| Ok(())).await;
        self.done(told, token, |_, consumed| consumed).await
    }

    /// Tries the account and its rights, without touching a purchase. A line for each thing tried; after one
    /// that fails the rest is not.
    pub(crate) async fn check(&self) -> Vec<Result<String, String>> {
        let email = self.tokens.email();
        let mut lines = vec![Ok(format!("Google: the key of {email} can sign"))];
        if let Err(error) = self.tokens.get().await {
            lines.push(Err(format!("Google: no access token: {error}")));
            return lines;
        }
        lines.push(Ok("Google: it gives access tokens to the account".to_owned()));
        let now = (self.clock)();
        let from = now.checked_sub_signed(CHECKED_SPAN).unwrap_or(now);
        lines.push(match self.voided_page(from, None, true).await {
            Ok(_) => Ok(format!(
                "Google: the account may read the orders of {} (that it may acknowledge them, \"Manage orders \
                 and subscriptions\", can't be tried)",
                self.package
            )),
            Err(error) => Err(format!("Google: the orders of {} can't be read: {error}", self.package)),
        });
        lines
    }

    async fn read(&self, token: &str) -> Result<StoreWord, Refusal> {
        let path = format!("/purchases/productsv2/tokens/{}", segment(token));
        let url = self.url(&path).map_err(Refusal::Error)?;
        let request = || Request::get(url.clone());
        self.ask(StoreCall::GooglePurchase, request, purchases::word).await
    }

    /// Whether a change is made, where Google may say that there is nothing to change any more.
    async fn done(
        &self,
        told: Result<(), Refusal>,
        token: &str,
        is_done: fn(acknowledged: bool, consumed: bool) -> bool,
    ) -> Result<(), StoreError> {
        let refusal = match told {
            Ok(()) => return Ok(()),
            Err(Refusal::State) => Refusal::State,
            Err(refusal) => return Err(refusal.into_error()),
        };
        match self.read(token).await.map_err(Refusal::into_error)? {
            StoreWord::Never(_) => Ok(()),
            StoreWord::Paid(purchase) if is_done(purchase.acknowledged, purchase.consumed) => {
                Ok(())
            }
            StoreWord::Paid(_) | StoreWord::Unpaid => Err(refusal.into_error()),
        }
    }

    /// Sends a request with an access token, and reads its answer. Where the token is not taken it tries
    /// another, once.
    async fn ask<T>(
        &self,
        call: StoreCall,
        request: impl Fn() -> Request,
        read: impl Fn(&[u8]) -> Result<T, StoreError>,
    ) -> Result<T, Refusal> {
        self.ask_naming(call, request, read, Refusal::name).await
    }

    /// The same; `name` is what a refusal is called in metrics.
    async fn ask_naming<T>(
        &self,
        call: StoreCall,
        request: impl Fn() -> Request,
        read: impl Fn(&[u8]) -> Result<T, StoreError>,
        name: fn(&Refusal) -> &'static str,
    ) -> Result<T, Refusal> {
        let is_list = call == StoreCall::GoogleVoided;
        let time_limit = if is_list { LIST_TIMEOUT } else { REQUEST_TIMEOUT };
        for is_last in [false, true] {
            let token = self.tokens.get().await.map_err(Refusal::Error)?;
            let request = request().within(time_limit);
            let asked_at = Instant::now();
            let asked = self.send(request.with(header::AUTHORIZATION, token.header()), &read).await;
            let outcome = asked.as_ref().err().map_or("ok", name);
            counted(self.metrics.as_deref(), call, outcome, asked_at);
            match asked {
                Err(Refusal::Unidentified) if is_last => self.tokens.resign(),
                Err(Refusal::Unidentified) if self.tokens.forget(&token) => {}
                answered => return answered,
            }
        }
        Err(Refusal::Unidentified)
    }

    async fn send<T>(
        &self,
        request: Request,
        read: impl Fn(&[u8]) -> Result<T, StoreError>,
    ) -> Result<T, Refusal> {
        let sent = self.client.send(request).await;
        let reply = sent.map_err(|reason| Refusal::Error(StoreError::Unreachable(reason)))?;
        if !reply.status.is_success() {
            return Err(Refusal::of(&reply));
        }
        let said = read(&reply.body).map_err(Refusal::Error)?;
        self.package_is_ours.store(true, Ordering::Relaxed);
        Ok(said)
    }

    fn change(&self, product: &str, token: &str, verb: &str) -> Result<Url, StoreError> {
        let (product, token) = (segment(product), segment(token));
        self.url(&format!("/purchases/products/{product}/tokens/{token}:{verb}"))
    }

    fn url(&self, path: &str) -> Result<Url, StoreError> {
        let package = segment(&self.package);
        let url = self.api.at(&format!("/androidpublisher/v3/applications/{package}{path}"));
        url.map_err(StoreError::Unreachable)
    }
}
