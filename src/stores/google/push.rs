//! What Google pushes: whether a message is Google's and for us, and in what envelope it comes. Who sends it is
//! judged in `push_token`, what it tells is read in `push_message`.
//!
//! A message that will never be taken is passed over as if it had been: whatever is not answered with success comes
//! back for a week.

use base64::{
    Engine, alphabet,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use chrono::{DateTime, Utc};
use serde::Deserialize;
use serde_json::Value;

use super::{push_message, push_token::Pushers};
use crate::{
    domain::{Message, MessageId, Store},
    outgoing::{Outgoing, Site},
    stores::{PassedOver, Understood, Unreadable},
};

/// How messages that are pushed come.
const WAY: &str = "google:push";
/// Most characters of an id that the log repeats; Google's have some 16 digits.
const ID_MAX_CHARS: usize = 128;

/// What proves that a message is Google's and for us.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PushSettings {
    /// `aud` of the token.
    pub audience: String,
    /// `email` of the token: the service account that the subscription pushes as.
    pub account: String,
    /// The subscription, as `projects/…/subscriptions/…`.
    pub subscription: String,
    /// Where the keys of tokens are.
    pub keys: Site,
}

/// Reads what Google pushes.
#[derive(Debug)]
pub(crate) struct Push {
    pushers: Pushers,
    subscription: String,
}

/// A message as Pub/Sub pushes it. Its id comes under two names, both the same.
#[derive(Deserialize)]
struct Pushed {
    message: Envelope,
    subscription: Option<String>,
}

#[derive(Deserialize)]
struct Envelope {
    data: Option<String>,
    #[serde(rename = "messageId")]
    id: Option<Value>,
    #[serde(rename = "message_id")]
    id_too: Option<Value>,
}

impl Push {
    /// Takes messages that are proved as the settings say.
    ///
    /// # Errors
    /// A sentence when the keys have no address.
    pub(crate) fn new(settings: PushSettings, client: Outgoing) -> Result<Self, String> {
        let PushSettings { audience, account, subscription, keys } = settings;
        Ok(Self { pushers: Pushers::new(audience, account, &keys, client)?, subscription })
    }

    /// What a message tells of the app with that package name.
    ///
    /// # Errors
    /// [`Unreadable`] when it is not proved, or can't be now.
    pub(super) async fn read(
        &self,
        authorization: Option<&str>,
        body: &[u8],
        package: &str,
        now: DateTime<Utc>,
    ) -> Result<Understood, Unreadable> {
        self.pushers.judge(authorization, now).await?;
        let Ok(pushed) = serde_json::from_slice::<Pushed>(body) else {
            return Ok(Err(passed_over(None, "its body is no message of Pub/Sub's")));
        };
        let Some(id) = pushed.message.id() else {
            return Ok(Err(passed_over(None, "it has no id")));
        };
        let told = if pushed.subscription.as_ref() == Some(&self.subscription) {
            pushed.message.data().and_then(|data| push_message::read(&data, package))
        } else {
            Err("it is of another subscription than BILLING_GOOGLE_PUSH_SUBSCRIPTION")
        };
        Ok(match told {
            Ok(event) => Ok(Message { id: MessageId::new(WAY, &id), store: Store::Google, event }),
            Err(why) => Err(passed_over(Some(id), why)),
        })
    }
}

const fn passed_over(id: Option<String>, why: &'static str) -> PassedOver {
    PassedOver { store: Store::Google, id, kind: None, why, is_strange: false }
}

impl Envelope {
    /// By which a message is known that comes again.
    fn id(&self) -> Option<String> {
        let text = |id: &Value| match id {
            Value::String(text) => Some(text.clone()),
            Value::Number(number) => Some(number.to_string()),
            _ => None,
        };
        let is_one = |id: &String| {
            (1..=ID_MAX_CHARS).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_graphic())
        };
        self.id.as_ref().or(self.id_too.as_ref()).and_then(text).filter(is_one)
    }

    fn data(&self) -> Result<Vec<u8>, &'static str> {
        let data = self.data.as_deref().ok_or("it is empty")?;
        decoded(data).ok_or("its data is not base64")
    }
}

/// Base64 of either alphabet, with or without padding.
fn decoded(text: &str) -> Option<Vec<u8>> {
    const LENIENT: GeneralPurposeConfig =
        GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
    const STANDARD: GeneralPurpose = GeneralPurpose::new(&alphabet::STANDARD, LENIENT);
    const URL_SAFE: GeneralPurpose = GeneralPurpose::new(&alphabet::URL_SAFE, LENIENT);
    STANDARD.decode(text).or_else(|_| URL_SAFE.decode(text)).ok()
}
