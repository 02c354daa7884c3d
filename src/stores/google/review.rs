//! Google's question how much of an order was used, before it decides on a chargeback, and our answer to it. What
//! the answer is does not belong here.

use std::sync::atomic::Ordering;

use serde::Serialize;

use super::{Google, Refusal};
use crate::{
    domain::WHOLE_MILLIUNITS,
    metrics::StoreCall,
    outgoing::{Request, segment},
    stores::{Answered, RefundPreference, StoreError},
};

/// The answer, as `orders.reviewrefund` takes it.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Answer<'a> {
    pending_refund_token: &'a str,
    sample_content_provided: bool,
    refund_preference: &'static str,
    consumption_percentage_milliunits: u32,
}

impl Google {
    /// Tells Google how much of an order was used, in thousandths of a percent; nothing for free, and what is preferred.
    /// It counts the first answer, and takes all later ones, so it may be told again. Google documents no refusals of
    /// its own here: only those that name what can't change are final, and all else may pass until its deadline.
    ///
    /// # Errors
    /// [`StoreError`] when it must be told later.
    pub(crate) async fn review_answer(
        &self,
        order: &str,
        pending_refund_token: &str,
        used_milliunits: u32,
        preference: RefundPreference,
    ) -> Result<Answered, StoreError> {
        let url = self.url(&format!("/orders/{}:reviewrefund", segment(order)))?;
        let answer = Answer {
            pending_refund_token,
            sample_content_provided: false,
            refund_preference: preference_name(preference),
            consumption_percentage_milliunits: used_milliunits.min(WHOLE_MILLIUNITS),
        };
        let body = serde_json::to_vec(&answer).expect("texts and numbers are JSON");
        let request = || Request::post(url.clone(), body.clone()).of_type("application/json");
        let told = self.ask(StoreCall::GoogleReview, request, |_| Ok(())).await;
        match told {
            Ok(()) => Ok(Answered::Taken),
            Err(Refusal::Malformed) => Ok(Answered::Final("Google says that its review is none")),
            Err(Refusal::State) => Ok(Answered::Final("Google says that its review is over")),
            Err(Refusal::Unknown) => Ok(Answered::Final("Google does not know the order any more")),
            // Else it may be our package that is wrong.
            Err(Refusal::Missing) if self.package_is_ours.load(Ordering::Relaxed) => {
                Ok(Answered::Final("Google knows no such order"))
            }
            Err(refusal) => Err(refusal.into_error()),
        }
    }
}

const fn preference_name(preference: RefundPreference) -> &'static str {
    match preference {
        RefundPreference::Nothing => "NEUTRAL",
        RefundPreference::Decline => "DECLINE",
        RefundPreference::Grant => "APPROVE",
    }
}
