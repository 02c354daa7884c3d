//! Tokens that chats use up.

use tracing::info;

use super::{BillingService, Caller, ServiceError, code};
use crate::domain::{Actor, Applied, Consume, Consumed, Keyed, ModelId, Usage};

impl BillingService {
    /// Uses up a chat's tokens; returns how many of its model remain, and the entry.
    ///
    /// # Errors
    /// [`ServiceError::Ledger`], with a [`Refusal`](crate::domain::Refusal) where a rule says no.
    pub(crate) async fn consume(
        &self,
        caller: Caller,
        keyed: Option<Keyed>,
        model: ModelId,
        usage: Usage,
    ) -> Result<Applied<Consumed>, ServiceError> {
        let Caller { user, actor, request_id, .. } = caller;
        let tokens = usage.total().get();
        let result = self.apply(actor, &user, keyed, Consume { model: model.clone(), usage }).await;
        self.count(&result, |operations| {
            operations.consumed(model.as_str(), tokens.unsigned_abs());
        });
        let remaining = result.as_ref().ok().map(|applied| applied.outcome.remaining.get());
        info!(
            user = user.as_str(),
            actor = actor.map(Actor::name),
            model = model.as_str(),
            tokens,
            remaining,
            result = code(&result),
            id = &*request_id,
            "consumption"
        );
        result
    }
}
