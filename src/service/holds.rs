//! Tokens that are put aside for chats whose length is not known yet: made, settled, given up, and looked at.

use chrono::{DateTime, TimeDelta, Utc};
use tracing::{info, warn};
use uuid::Uuid;

use super::{BillingService, Caller, ServiceError, code};
use crate::{
    domain::{
        Account, Actor, Applied, Hold, HoldId, Keyed, ModelId, OpenHold, OpenedHold, Refusal,
        Release, ReleaseHold, SettleHold, Settlement, Tokens, Usage, UserId,
    },
    ledger::LedgerError,
};

/// A hold that somebody asks for.
#[derive(Debug, Clone)]
pub(crate) struct NewHold {
    pub model: ModelId,
    pub tokens: Tokens,
    /// How many will do, where there are fewer.
    pub min_tokens: Option<Tokens>,
    pub ttl: TimeDelta,
}

impl BillingService {
    /// Puts tokens aside.
    ///
    /// # Errors
    /// [`ServiceError::Ledger`], with a [`Refusal`] where a rule says no.
    pub(crate) async fn hold(
        &self,
        caller: Caller,
        keyed: Option<Keyed>,
        new: NewHold,
    ) -> Result<Applied<OpenedHold>, ServiceError> {
        let Caller { user, actor, request_id, .. } = caller;
        let NewHold { model, tokens, min_tokens, ttl } = new;
        let id = HoldId::new(Uuid::now_v7());
        let max_holds = self.max_holds;
        let operation = OpenHold { id, model: model.clone(), tokens, min_tokens, ttl, max_holds };
        let result = self.apply(actor, &user, keyed, operation).await;
        self.count(&result, |operations| {
            operations.holds_opened.inc();
        });
        let hold = result.as_ref().ok().map(|applied| &applied.outcome.hold);
        info!(
            user = user.as_str(),
            actor = actor.map(Actor::name),
            model = model.as_str(),
            tokens = tokens.get(),
            held = hold.map(|hold| hold.held_tokens.get()),
            hold = hold.map(|hold| tracing::field::display(hold.id)),
            result = code(&result),
            id = &*request_id,
            "hold"
        );
        result
    }

    /// Takes what a chat used of its hold, and gives the rest back.
    ///
    /// # Errors
    /// [`ServiceError::Ledger`], with a [`Refusal`] where a rule says no.
    pub(crate) async fn settle_hold(
        &self,
        caller: Caller,
        keyed: Option<Keyed>,
        id: HoldId,
        usage: Usage,
    ) -> Result<Applied<Settlement>, ServiceError> {
        let Caller { user, actor, request_id, .. } = caller;
        let result = self.apply(actor, &user, keyed, SettleHold { id, usage }).await;
        let settled = result.as_ref().ok().map(|applied| &applied.outcome);
        self.count(&result, |operations| {
            operations.holds_settled.inc();
            if let Some(settled) = settled {
                let consumed = settled.consumed.get().unsigned_abs();
                operations.consumed(settled.model.as_str(), consumed);
                operations.tokens_shortfall.inc_by(settled.shortfall.get().unsigned_abs());
            }
        });
        info!(
            user = user.as_str(),
            actor = actor.map(Actor::name),
            model = settled.map(|settled| settled.model.as_str()),
            hold = %id,
            tokens = settled.map(|settled| settled.consumed.get()),
            shortfall = settled.map(|settled| settled.shortfall.get()),
            remaining = settled.map(|settled| settled.remaining.get()),
            result = code(&result),
            id = &*request_id,
            "settlement"
        );
        if let Ok(Applied { outcome, replayed: false }) = &result
            && outcome.shortfall > Tokens::ZERO
        {
            let shortfall = outcome.shortfall.get();
            warn!(user = user.as_str(), hold = %id, shortfall, "more was used than there was");
        }
        result
    }

    /// Gives a hold up.
    ///
    /// # Errors
    /// [`ServiceError::Ledger`], with a [`Refusal`] where a rule says no.
    pub(crate) async fn release_hold(
        &self,
        caller: Caller,
        keyed: Option<Keyed>,
        id: HoldId,
    ) -> Result<Applied<Release>, ServiceError> {
        let Caller { user, actor, request_id, .. } = caller;
        let result = self.apply(actor, &user, keyed, ReleaseHold { id }).await;
        self.count(&result, |operations| {
            operations.holds_released.inc();
        });
        let released = result.as_ref().ok().map(|applied| applied.outcome.released.get());
        info!(
            user = user.as_str(),
            actor = actor.map(Actor::name),
            hold = %id,
            released,
            result = code(&result),
            id = &*request_id,
            "release"
        );
        result
    }

    /// The user's holds that count, the oldest first.
    ///
    /// # Errors
    /// [`ServiceError::Database`] when the database can't be read.
    pub(crate) async fn holds(&self, user: &UserId) -> Result<Vec<OpenedHold>, ServiceError> {
        let now = self.ledger.now();
        let account = self.reader.account_with_holds(user, now, None).await?;
        let holds = account.holds().counting(now);
        Ok(holds.into_iter().map(|hold| seen(&account, hold, now)).collect())
    }

    /// One of the user's holds, whether or not it counts.
    ///
    /// # Errors
    /// [`ServiceError::Ledger`] with [`Refusal::HoldNotFound`], and [`ServiceError::Database`] when the database
    /// can't be read.
    pub(crate) async fn find_hold(
        &self,
        user: &UserId,
        id: HoldId,
    ) -> Result<OpenedHold, ServiceError> {
        let now = self.ledger.now();
        let account = self.reader.account_with_holds(user, now, Some(id)).await?;
        let hold = account.holds().get(id).ok_or(LedgerError::Refused(Refusal::HoldNotFound))?;
        Ok(seen(&account, hold, now))
    }
}

/// A hold as it is now, with what is free now.
pub(super) fn seen(account: &Account, hold: &Hold, now: DateTime<Utc>) -> OpenedHold {
    let available = account.available(&hold.model, now);
    OpenedHold { hold: Hold { status: hold.status_at(now), ..hold.clone() }, available }
}
