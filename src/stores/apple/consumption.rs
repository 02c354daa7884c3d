//! Apple's question how much of a transaction was used, before it decides on a refund, and our answer to it. What
//! the answer is, and whether the user consented to it, does not belong here.

use serde::Serialize;

use super::api::{AppleApi, Refusal};
use crate::{
    domain::{Environment, WHOLE_MILLIUNITS},
    metrics::StoreCall,
    outgoing::{Request, segment},
    stores::{Answered, RefundPreference, StoreError},
};

/// The answer, as `Send Consumption Information` takes it since version 2. Without a preference Apple decides alone.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Answer {
    customer_consented: bool,
    sample_content_provided: bool,
    delivery_status: &'static str,
    consumption_percentage: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    refund_preference: Option<&'static str>,
}

impl AppleApi {
    /// Tells Apple how much of a transaction was used, in thousandths of a percent; nothing, where it was not
    /// delivered. Apple is told that the user consented, so nobody may be told of who did not. A later answer
    /// replaces it. What was not delivered nobody may prefer to keep the money of.
    ///
    /// # Errors
    /// [`StoreError`] when it must be told later.
    pub(crate) async fn consumption_answer(
        &self,
        environment: Environment,
        id: &str,
        delivered: bool,
        used_milliunits: u32,
        preference: RefundPreference,
    ) -> Result<Answered, StoreError> {
        let used = used_milliunits.min(WHOLE_MILLIUNITS);
        let answer = Answer {
            customer_consented: true,
            sample_content_provided: false,
            delivery_status: if delivered { "DELIVERED" } else { "UNDELIVERED_OTHER" },
            consumption_percentage: if delivered { used } else { 0 },
            refund_preference: delivered.then(|| preference_name(preference)).flatten(),
        };
        let body = serde_json::to_vec(&answer).expect("texts and numbers are JSON");
        let path = format!("/inApps/v2/transactions/consumption/{}", segment(id));
        let put = |url| Request::put(url, body).of_type("application/json");
        let call = StoreCall::AppleConsumption;
        match self.ask(call, environment, &path, put, |_| Some(())).await {
            Ok(()) => Ok(Answered::Taken),
            Err(Refusal::NotTaken(why)) => Ok(Answered::Final(why)),
            Err(Refusal::Malformed) => Ok(Answered::Final("Apple says that the id is none")),
            Err(Refusal::Unknown) => Ok(Answered::Final("Apple does not know the transaction")),
            Err(refusal) => Err(refusal.into_error()),
        }
    }
}

const fn preference_name(preference: RefundPreference) -> Option<&'static str> {
    match preference {
        RefundPreference::Nothing => None,
        RefundPreference::Decline => Some("DECLINE"),
        RefundPreference::Grant => Some("GRANT_FULL"),
    }
}

/// Why Apple will never take an answer that it refused with status 400 and this number.
pub(super) const fn never_taken(code: i64) -> Option<&'static str> {
    Some(match code {
        4_000_035 => "Apple does not take it that the user consented",
        4_000_036 => "Apple does not take what is said of the delivery",
        4_000_041 => "Apple does not take what is said of free samples",
        4_000_047 => "Apple takes no answers about such a transaction",
        4_000_048 => "Apple takes no answers under such an id",
        _ => return None,
    })
}
