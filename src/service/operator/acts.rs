//! What an operator changes, each with its line in the log, and that log. What an act means is `domain`'s.

use tracing::{info, warn};

use super::super::{BillingService, ServiceError, code};
use crate::{
    domain::{
        ActedOn, Actor, Applied, Approve, Booked, ByOperator, ChosenPurchase, Credits, Environment,
        Keyed, LogFilter, LogPage, Logged, ModelId, OperatorAct, PricePage, PurchaseState,
        RefundPurchase, Refusal, Reject, Retry, TrackedPurchase, UserId,
    },
    ledger::LedgerError,
};

/// What an operator decides about a purchase.
#[derive(Debug, Clone, Copy)]
pub(crate) enum PurchaseAct {
    /// To grant it, for so many credits if not for what it is worth.
    Approve(Option<Credits>),
    Reject,
    Retry,
    /// To take back what was granted, or so much of it.
    Refund(Option<Credits>),
}

impl BillingService {
    /// Purchases that the stores confirm, the newest first, and whether there are older ones: at most `limit`, with
    /// ids below `before`.
    ///
    /// # Errors
    /// [`ServiceError::Database`] when the database can't be read.
    pub(crate) async fn purchases(
        &self,
        state: Option<PurchaseState>,
        limit: u16,
        before: Option<i64>,
    ) -> Result<(Vec<TrackedPurchase>, bool), ServiceError> {
        // One more than asked for tells whether there are more.
        let mut found = self.reader.purchases(state, limit.saturating_add(1), before).await?;
        let more = found.len() > usize::from(limit);
        found.truncate(limit.into());
        Ok((found, more))
    }

    /// One purchase.
    ///
    /// # Errors
    /// [`ServiceError::Ledger`] with [`Refusal::PurchaseNotFound`], and [`ServiceError::Database`] when the database
    /// can't be read.
    pub(crate) async fn purchase(&self, id: i64) -> Result<TrackedPurchase, ServiceError> {
        let found = self.reader.purchase(id).await?;
        found.ok_or_else(|| LedgerError::Refused(Refusal::PurchaseNotFound).into())
    }

    /// Has a decision about a purchase carried out, and tells what the purchase is then.
    ///
    /// # Errors
    /// [`ServiceError::Ledger`], with a [`Refusal`] where a rule says no, and [`ServiceError::Database`] when the
    /// database can't be read.
    pub(crate) async fn decide_purchase(
        &self,
        by: ByOperator,
        keyed: Option<Keyed>,
        id: i64,
        act: PurchaseAct,
    ) -> Result<Applied<TrackedPurchase>, ServiceError> {
        let known = self.purchase(id).await?;
        let purchase = ChosenPurchase { id, key: known.key.clone() };
        let user = known.user.clone().unwrap_or_else(UserId::operators);
        let applied = match act {
            PurchaseAct::Approve(credits) => {
                let store_transaction_id = known.shown_id();
                let token_name = known.record_token_name();
                let act = Approve { purchase, store_transaction_id, token_name, credits };
                self.operate(by, &user, keyed, act).await?
            }
            PurchaseAct::Reject => self.operate(by, &user, keyed, Reject(purchase)).await?,
            PurchaseAct::Retry => self.operate(by, &user, keyed, Retry(purchase)).await?,
            PurchaseAct::Refund(credits) => {
                self.operate(by, &user, keyed, RefundPurchase { purchase, credits }).await?
            }
        };
        let Applied { outcome: ActedOn { purchase, booked }, replayed } = applied;
        if !replayed {
            self.tell_of_booking(&purchase, &user, booked);
        }
        let (user, verified) = (known.user, known.verified);
        Ok(Applied { outcome: TrackedPurchase { user, verified, ..*purchase }, replayed })
    }

    /// The same lines and counts as when a store says so.
    fn tell_of_booking(&self, purchase: &TrackedPurchase, user: &UserId, booked: Booked) {
        let Booked { granted, taken, missing } = booked;
        let (granted, taken, missing) = (granted.get(), taken.get(), missing.get());
        let (hash, purchase_id) = (purchase.key.short_hash(), purchase.id);
        let is_test = purchase.environment == Some(Environment::Sandbox);
        if granted > 0 {
            let (user, credits) = (user.as_str(), granted);
            info!(purchase = hash, purchase_id, user, credits, is_test, "purchase granted");
        }
        if taken > 0 || missing > 0 {
            let (store, state) = (purchase.store.name(), purchase.state.name());
            info!(
                purchase = hash,
                purchase_id,
                store,
                state,
                taken,
                missing,
                given_back = 0,
                "a refund is booked"
            );
        }
        if missing > 0 {
            warn!(
                purchase = hash,
                purchase_id,
                shortfall = missing,
                "what was refunded was used up"
            );
        }
        if let (Some(metrics), false) = (&self.metrics, is_test) {
            metrics.operations.credits_purchased.inc_by(granted.unsigned_abs());
            metrics.operations.credits_refunded.inc_by(taken.unsigned_abs());
            metrics.operations.credits_shortfall.inc_by(missing.unsigned_abs());
        }
    }

    /// Has an act carried out on a user's account, and written into the operators' log with it.
    ///
    /// # Errors
    /// [`ServiceError::Ledger`], with a [`Refusal`] where a rule says no: nothing is written then.
    pub(crate) async fn operate<A: OperatorAct>(
        &self,
        by: ByOperator,
        user: &UserId,
        keyed: Option<Keyed>,
        act: A,
    ) -> Result<Applied<A::Outcome>, ServiceError> {
        let ByOperator { operator, reason, request_id } = by.clone();
        let result = self.apply(Some(Actor::Operator), user, keyed, Logged { act, by }).await;
        self.count(&result, |_| {});
        info!(
            action = A::ACTION,
            user = A::OF_ACCOUNT.then(|| user.as_str()),
            operator = &*operator,
            reason = reason.as_str(),
            result = code(&result),
            id = &*request_id,
            "operator"
        );
        result
    }

    /// A page of the operators' log, newest first.
    ///
    /// # Errors
    /// [`ServiceError::Ledger`] with [`Refusal::UserNotFound`], and [`ServiceError::Database`] when the database
    /// can't be read.
    pub(crate) async fn operator_log(&self, filter: &LogFilter) -> Result<LogPage, ServiceError> {
        if let Some(user) = &filter.user {
            self.check_known(user).await?;
        }
        Ok(self.reader.operator_log(filter).await?)
    }

    /// A page of the changes of a model's price, newest first: at most `limit`, with ids below `before`.
    ///
    /// # Errors
    /// [`ServiceError::Database`] when the database can't be read.
    pub(crate) async fn price_history(
        &self,
        model: &ModelId,
        limit: u16,
        before: Option<i64>,
    ) -> Result<PricePage, ServiceError> {
        Ok(self.reader.price_history(model, limit, before).await?)
    }

    /// Finds that somebody has seen this user.
    ///
    /// # Errors
    /// [`ServiceError::Ledger`] with [`Refusal::UserNotFound`], and [`ServiceError::Database`] when the database
    /// can't be read.
    pub(crate) async fn check_known(&self, user: &UserId) -> Result<(), ServiceError> {
        if self.reader.knows(user).await? {
            Ok(())
        } else {
            Err(LedgerError::Refused(Refusal::UserNotFound).into())
        }
    }
}
