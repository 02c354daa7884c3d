//! What the operator does to balances: credits that are given, and balances that are put right.

use tracing::info;

use super::{BillingService, Caller, ServiceError, code};
use crate::domain::{Actor, Adjust, Adjusted, Adjustment, Applied, GiveCredits, Given, Keyed};

impl BillingService {
    /// Gives credits to a user, who may be new, as the operator.
    ///
    /// # Errors
    /// [`ServiceError::Ledger`], with a [`Refusal`](crate::domain::Refusal) where a rule says no.
    #[expect(dead_code, reason = "no route leads here yet")]
    pub(crate) async fn give_credits(
        &self,
        caller: Caller,
        keyed: Option<Keyed>,
        gift: GiveCredits,
    ) -> Result<Applied<Given>, ServiceError> {
        let Caller { user, request_id, .. } = caller;
        let (credits, reason) = (gift.credits, gift.reason.clone());
        let result = self.apply(Some(Actor::Operator), &user, keyed, gift).await;
        self.count(&result, |_| {});
        let given = result.as_ref().ok().map(|applied| applied.outcome);
        info!(
            user = user.as_str(),
            actor = Actor::Operator.name(),
            credits = credits.get(),
            balance = given.map(|given| given.credits.get()),
            bonus = given.map(|given| given.bonus.get()),
            reason = reason.as_str(),
            result = code(&result),
            id = &*request_id,
            "grant"
        );
        result
    }

    /// Puts a user's credits, or tokens of one model, right, as the operator.
    ///
    /// # Errors
    /// [`ServiceError::Ledger`], with a [`Refusal`](crate::domain::Refusal) where a rule says no.
    #[expect(dead_code, reason = "no route leads here yet")]
    pub(crate) async fn adjust(
        &self,
        caller: Caller,
        keyed: Option<Keyed>,
        adjust: Adjust,
    ) -> Result<Applied<Adjusted>, ServiceError> {
        let Caller { user, request_id, .. } = caller;
        let Adjust { adjustment, reason } = adjust.clone();
        let result = self.apply(Some(Actor::Operator), &user, keyed, adjust).await;
        self.count(&result, |_| {});
        let (model, credits_delta, tokens_delta) = match &adjustment {
            Adjustment::Credits(delta) => (None, Some(delta.get()), None),
            Adjustment::Tokens { model, delta } => (Some(model.as_str()), None, Some(delta.get())),
        };
        let adjusted = result.as_ref().ok().map(|applied| applied.outcome);
        info!(
            user = user.as_str(),
            actor = Actor::Operator.name(),
            model,
            credits_delta,
            tokens_delta,
            balance = adjusted.map(|adjusted| adjusted.credits.get()),
            remaining = adjusted.and_then(|adjusted| adjusted.tokens).map(i64::from),
            reason = reason.as_str(),
            result = code(&result),
            id = &*request_id,
            "adjustment"
        );
        result
    }
}
