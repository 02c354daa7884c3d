//! Tokens that come back: of consumptions, and as credits.

use tracing::info;

use super::{BillingService, Caller, ServiceError, code};
use crate::domain::{Actor, Applied, Keyed, ReturnTokens, Returned, Reverse, Reversed};

impl BillingService {
    /// Gives tokens of a consumption back to its model.
    ///
    /// # Errors
    /// [`ServiceError::Ledger`], with a [`Refusal`](crate::domain::Refusal) where a rule says no.
    pub(crate) async fn reverse(
        &self,
        caller: Caller,
        keyed: Option<Keyed>,
        reverse: Reverse,
    ) -> Result<Applied<Reversed>, ServiceError> {
        let Caller { user, actor, request_id, .. } = caller;
        let (consumption, reason) = (reverse.consumption, reverse.reason.clone());
        let result = self.apply(actor, &user, keyed, reverse).await;
        let reversed = result.as_ref().ok().map(|applied| &applied.outcome);
        self.count(&result, |operations| {
            if let Some(Reversed { model, tokens, .. }) = reversed {
                operations.reversed(model.as_str(), tokens.get().unsigned_abs());
            }
        });
        info!(
            user = user.as_str(),
            actor = actor.map(Actor::name),
            transaction = consumption,
            model = reversed.map(|reversed| reversed.model.as_str()),
            tokens = reversed.map(|reversed| reversed.tokens.get()),
            remaining = reversed.map(|reversed| reversed.remaining.get()),
            reason = reason.as_str(),
            result = code(&result),
            id = &*request_id,
            "reversal"
        );
        result
    }

    /// Turns a model's unused tokens back into credits.
    ///
    /// # Errors
    /// [`ServiceError::Ledger`], with a [`Refusal`](crate::domain::Refusal) where a rule says no.
    pub(crate) async fn return_tokens(
        &self,
        caller: Caller,
        keyed: Option<Keyed>,
        unused: ReturnTokens,
    ) -> Result<Applied<Returned>, ServiceError> {
        let Caller { user, actor, request_id, .. } = caller;
        let model = unused.model.clone();
        let result = self.apply(actor, &user, keyed, unused).await;
        let returned = result.as_ref().ok().map(|applied| &applied.outcome);
        self.count(&result, |operations| {
            let credits = returned.map_or(0, |returned| returned.credits.get().unsigned_abs());
            operations.credits_returned.inc_by(credits);
        });
        info!(
            user = user.as_str(),
            actor = actor.map(Actor::name),
            model = model.as_str(),
            tokens = returned.map(|returned| returned.tokens.get()),
            credits = returned.map(|returned| returned.credits.get()),
            balance = returned.map(|returned| returned.balance.get()),
            result = code(&result),
            id = &*request_id,
            "return"
        );
        result
    }
}
