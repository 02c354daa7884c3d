//! What Apple tells without being asked: a signed notification with a signed transaction in it. Whether both are
//! Apple's is judged by `verifier`, what a transaction means by `transaction`; what follows is decided elsewhere.
//!
//! A notification that Apple signed and that tells nothing to us is passed over as if it had been taken: nothing is
//! gained by having it sent again. Its fields are described at Apple's `responseBodyV2DecodedPayload`.

use chrono::{DateTime, Utc};
use serde::Deserialize;
use serde_json::Value;

use super::{
    Apple,
    signed::{self, Payload, Unproven},
    transaction::{Transaction, Unpaid},
};
use crate::{
    domain::{AppleTold, Message, MessageId, Store, StoreEvent},
    stores::{PassedOver, Understood, Unreadable},
};

/// How notifications come, pushed or found in Apple's list of them: their ids are the same.
const WAY: &str = "apple";
/// Most characters of an id; Apple's are UUIDs.
const ID_MAX_CHARS: usize = 128;

/// What Apple sends.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Body {
    signed_payload: String,
}

/// What is signed in it. Which of the last three is there depends on the type; only `data` can be of a purchase.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Notification {
    #[serde(rename = "notificationType")]
    kind: Option<String>,
    #[serde(rename = "notificationUUID")]
    id: Option<String>,
    signed_date: Option<Value>,
    data: Option<Data>,
    summary: Option<Value>,
    app_data: Option<Value>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Data {
    app_apple_id: Option<Value>,
    bundle_id: Option<String>,
    environment: Option<String>,
    signed_transaction_info: Option<String>,
}

impl Payload for Notification {
    fn environment(&self) -> Option<&str> {
        let other =
            || self.summary.as_ref().or(self.app_data.as_ref())?.get("environment")?.as_str();
        self.data.as_ref().map_or_else(other, |data| data.environment.as_deref())
    }
}

/// Why a notification tells nothing.
enum Untold {
    /// It is not proved.
    Unproven(Unproven),
    /// It does not concern us.
    PassedOver(&'static str),
}

impl From<Unproven> for Untold {
    fn from(unproven: Unproven) -> Self {
        Self::Unproven(unproven)
    }
}

impl From<Unpaid> for Untold {
    fn from(unpaid: Unpaid) -> Self {
        match unpaid {
            Unpaid::Never(why) => Self::PassedOver(why),
            Unpaid::Strange(why) => Self::Unproven(Unproven::Strange(why)),
        }
    }
}

impl Apple {
    /// What the body of a notification tells.
    pub(in crate::stores) fn read_notification(
        &self,
        body: &[u8],
        now: DateTime<Utc>,
    ) -> Result<Understood, Unreadable> {
        let Body { signed_payload } = serde_json::from_slice(body)
            .map_err(|_| Unreadable::Unproven("it has no signedPayload"))?;
        self.message(&signed_payload, now).map_err(|unproven| {
            Unreadable::Unproven(match unproven {
                Unproven::Forged(why) | Unproven::Strange(why) => why,
                Unproven::Chain { reason, .. } => reason,
            })
        })
    }

    /// What a signed notification tells.
    ///
    /// # Errors
    /// [`Unproven::Forged`] or [`Unproven::Chain`] when it, or the transaction in it, is not proved to be Apple's.
    pub(in crate::stores) fn message(
        &self,
        signed_payload: &str,
        now: DateTime<Utc>,
    ) -> Result<Understood, Unproven> {
        let passed_over = |notification: Option<&Notification>, why, is_strange| {
            let id = notification.and_then(Notification::id).map(str::to_owned);
            let kind = notification.and_then(|notification| notification.kind.clone());
            Ok(Err(PassedOver { store: Store::Apple, id, kind, why, is_strange }))
        };
        let notification: Notification = match self.verifier.payload(signed_payload, now) {
            Err(Unproven::Strange(why)) => return passed_over(None, why, true),
            payload => payload?,
        };
        match self.event(&notification, now) {
            Ok(event) => {
                let id = notification.id().expect("what has no id tells of no event");
                let id = MessageId::new(WAY, id);
                Ok(Ok(Message { id, store: Store::Apple, event }))
            }
            Err(Untold::PassedOver(why)) => passed_over(Some(&notification), why, false),
            Err(Untold::Unproven(Unproven::Strange(why))) => {
                passed_over(Some(&notification), why, true)
            }
            Err(Untold::Unproven(unproven)) => Err(unproven),
        }
    }

    fn event(&self, notification: &Notification, now: DateTime<Utc>) -> Result<StoreEvent, Untold> {
        let event = match notification.kind.as_deref() {
            Some("ONE_TIME_CHARGE" | "REFUND" | "REFUND_REVERSED" | "REFUND_DECLINED") => {
                StoreEvent::AppleTransaction
            }
            Some("CONSUMPTION_REQUEST") => StoreEvent::AppleConsumption,
            Some("TEST") => return Err(Untold::PassedOver("it is a test")),
            _ => return Err(Untold::PassedOver("it is of a type that does not concern us")),
        };
        notification.id().ok_or(Unproven::Strange("it has no id"))?;
        let data = notification.data.as_ref().ok_or(Unproven::Strange("it has no data"))?;
        let notified_at = notification.signed_at();
        let told = self.told(data, now)?;
        Ok(event(AppleTold { notified_at, ..told }))
    }

    fn told(&self, data: &Data, now: DateTime<Utc>) -> Result<AppleTold, Untold> {
        let bundle_id = self.verifier.bundle_id();
        if data.bundle_id.as_deref() != Some(bundle_id) {
            return Err(Untold::PassedOver("it is of another app than BILLING_APPLE_BUNDLE_ID"));
        }
        if !self.is_ours(data.app_apple_id.as_ref()) {
            return Err(Untold::PassedOver("it is of another app than BILLING_APPLE_APP_ID"));
        }
        let environment = data.environment.as_deref().and_then(signed::environment);
        let environment = environment.ok_or(Unproven::Strange("its environment is unknown"))?;
        let jws = data.signed_transaction_info.as_deref();
        let jws = jws.ok_or(Unproven::Strange("it has no transaction"))?;
        let told = self.verifier.payload::<Transaction>(jws, now)?.tells(bundle_id)?;
        if told.environment() != environment {
            let why = "the transaction in it is of another environment";
            return Err(Unproven::Strange(why).into());
        }
        Ok(told)
    }

    /// Whether an app's id is that of ours. The sandbox does not know it.
    fn is_ours(&self, app_id: Option<&Value>) -> bool {
        let (Some(app_id), Some(ours)) = (app_id, self.app_id) else { return true };
        app_id.as_u64() == Some(ours) || app_id.as_str() == Some(ours.to_string().as_str())
    }
}

impl Notification {
    /// When Apple signed it. Where it comes again, that may be later than the first time.
    fn signed_at(&self) -> Option<DateTime<Utc>> {
        match &self.signed_date {
            Some(Value::Number(ms)) => signed::time(ms),
            _ => None,
        }
    }

    /// By which a notification is known that comes again.
    fn id(&self) -> Option<&str> {
        self.id.as_deref().filter(|id| {
            (1..=ID_MAX_CHARS).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_graphic())
        })
    }
}
