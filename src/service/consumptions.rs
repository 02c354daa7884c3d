//! Tokens that chats use up.

use tracing::info;

use super::{BillingService, Caller, ServiceError, code};
use crate::domain::{Applied, Consume, Keyed, ModelId, Tokens, Usage};

impl BillingService {
    /// Uses up a chat's tokens; returns how many of its model remain.
    ///
    /// # Errors
    /// [`ServiceError::Ledger`], with a [`Refusal`](crate::domain::Refusal) where a rule says no.
    pub(crate) async fn consume(
        &self,
        caller: Caller,
        keyed: Option<Keyed>,
        model: ModelId,
        usage: Usage,
    ) -> Result<Applied<Tokens>, ServiceError> {
        let Caller { user, request_id } = caller;
        let tokens = usage.total().get();
        let result = self.apply(&user, keyed, Consume { model: model.clone(), usage }).await;
        self.count(&result, |operations| {
            operations.consumed(model.as_str(), tokens.unsigned_abs());
        });
        let remaining = result.as_ref().ok().map(|applied| applied.outcome.get());
        info!(
            user = user.as_str(),
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
