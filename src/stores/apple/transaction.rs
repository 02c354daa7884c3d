//! The payload of a transaction that Apple signed, and what it means. Whether Apple signed it is `signed`'s.
//!
//! A purchase is only refused for good for reasons on a list; whatever else is odd is not understood, and waits.
//! The fields are described at Apple's `JWSTransactionDecodedPayload`.

use serde::{Deserialize, Serialize};
use serde_json::{Number, Value};

use super::signed::{self, Payload, Unproven};
use crate::domain::{
    AppleTold, Environment, PaidPurchase, PurchasedItem, Store, StoreRefund, StoreWord,
    WHOLE_MILLIUNITS,
};

/// Most pieces of one purchase. Apple sells ten at most.
const QUANTITY_MAX: u32 = 1_000;
/// Most characters of an account; Apple takes UUIDs only.
const ACCOUNT_MAX_CHARS: usize = 128;
/// Letters of a currency.
const CURRENCY_LETTERS: usize = 3;

/// What we read and keep of a transaction: neither a signature nor what belongs to a device is in it.
///
/// Where a field decides, its type is Apple's; where it is only kept, it may be anything.
#[derive(Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Transaction {
    #[serde(rename = "transactionId", skip_serializing_if = "Option::is_none")]
    id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    original_transaction_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    bundle_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    product_id: Option<String>,
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    kind: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    environment: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    quantity: Option<Number>,
    #[serde(skip_serializing_if = "Option::is_none")]
    in_app_ownership_type: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    app_account_token: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    revocation_date: Option<Number>,
    #[serde(skip_serializing_if = "Option::is_none")]
    revocation_type: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    revocation_percentage: Option<Number>,
    #[serde(skip_serializing_if = "Option::is_none")]
    revocation_reason: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    purchase_date: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    signed_date: Option<Value>,
    #[serde(rename = "transactionReason", skip_serializing_if = "Option::is_none")]
    reason: Option<Value>,
    /// Of all pieces together.
    #[serde(skip_serializing_if = "Option::is_none")]
    price: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    currency: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    storefront: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    offer_type: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    offer_identifier: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    offer_discount_type: Option<Value>,
}

impl Payload for Transaction {
    fn environment(&self) -> Option<&str> {
        self.environment.as_deref()
    }
}

impl Transaction {
    /// What it means for the app with that bundle id.
    pub(super) fn says(self, bundle_id: &str) -> Result<StoreWord, Unproven> {
        let judged = self.environment_of(bundle_id).and_then(|environment| {
            self.is_sold_to_the_payer()?;
            self.is_not_revoked()?;
            self.paid(environment)
        });
        match judged {
            Ok(paid) => Ok(StoreWord::Paid(Box::new(paid))),
            Err(Unpaid::Never(reason)) => Ok(StoreWord::Never(reason)),
            Err(Unpaid::Strange(reason)) => Err(Unproven::Strange(reason)),
        }
    }

    /// What it tells of a purchase of the app with that bundle id, also of one that is refunded whole.
    pub(super) fn tells(&self, bundle_id: &str) -> Result<AppleTold, Unpaid> {
        let environment = self.environment_of(bundle_id)?;
        self.is_sold_to_the_payer()?;
        let signed_at = number(self.signed_date.as_ref()).and_then(signed::time);
        Ok(AppleTold {
            paid: Box::new(self.paid(environment)?),
            signed_at: signed_at.ok_or(Unpaid::Strange("it does not say when it was signed"))?,
            notified_at: None,
        })
    }

    /// Where it was sold, if it was for our app.
    fn environment_of(&self, bundle_id: &str) -> Result<Environment, Unpaid> {
        if given(self.bundle_id.as_deref(), "it names no bundle")? != bundle_id {
            return Err(Unpaid::Never("it is for another app"));
        }
        let name = given(self.environment.as_deref(), "it names no environment")?;
        match signed::environment(name) {
            Some(environment) => Ok(environment),
            None => Err(Unpaid::Strange("its environment is unknown")),
        }
    }

    /// Only what is used up can be credits. Apple lets families share other kinds only.
    fn is_sold_to_the_payer(&self) -> Result<(), Unpaid> {
        match given(self.kind.as_deref(), "it names no kind of product")? {
            "Consumable" => {}
            "Non-Consumable" | "Auto-Renewable Subscription" | "Non-Renewing Subscription" => {
                return Err(Unpaid::Never("it is for another kind of product"));
            }
            _ => return Err(Unpaid::Strange("its kind of product is unknown")),
        }
        match self.in_app_ownership_type.as_deref() {
            None | Some("PURCHASED") => Ok(()),
            Some("FAMILY_SHARED") => Err(Unpaid::Never("a consumable can't be shared")),
            Some(_) => Err(Unpaid::Strange("its ownership is unknown")),
        }
    }

    /// What the family's sharing gave and took was never paid for. A refund of a type that is not known may not be one
    /// for good.
    fn is_not_revoked(&self) -> Result<(), Unpaid> {
        match self.revocation_type.as_deref() {
            None | Some("REFUND_FULL" | "REFUND_PRORATED") => Ok(()),
            Some("FAMILY_REVOKE") => Err(Unpaid::Never("it was revoked")),
            Some(_) => Err(Unpaid::Strange("what was refunded of it can't be read")),
        }
    }

    /// How much of it is refunded, in thousandths of a percent. Older refunds have neither a type nor a percentage,
    /// and are whole; so is one of a type that Apple comes to use, unless it says otherwise: it is told once.
    fn refunded_milliunits(&self) -> Result<u32, Unpaid> {
        let kind = self.revocation_type.as_deref();
        let percentage = self.revocation_percentage.as_ref();
        if self.revocation_date.is_none() && kind.is_none() && percentage.is_none() {
            return Ok(0);
        }
        let share = percentage.map(signed::whole);
        let share = share.map(|share| share.and_then(|share| u32::try_from(share).ok()));
        match (kind, share) {
            (Some("REFUND_FULL" | "FAMILY_REVOKE"), _) | (_, None) => Ok(WHOLE_MILLIUNITS),
            (_, Some(Some(share))) => Ok(share.min(WHOLE_MILLIUNITS)),
            (_, Some(None)) => Err(Unpaid::Strange("what was refunded of it can't be read")),
        }
    }

    fn paid(&self, environment: Environment) -> Result<PaidPurchase, Unpaid> {
        let store_id = given(self.id.as_deref(), "it has no id")?;
        let original_id = self.original_transaction_id.as_deref();
        if ![Some(store_id), original_id].into_iter().flatten().all(signed::is_transaction_id) {
            return Err(Unpaid::Strange("its id is not of digits"));
        }
        let product = given(self.product_id.as_deref(), "it names no product")?;
        let item = PurchasedItem::new(product, self.pieces()?)
            .map_err(|_| Unpaid::Strange("its product's name can't be one"))?;
        Ok(PaidPurchase {
            store: Store::Apple,
            environment,
            store_id: Some(store_id.to_owned()),
            original_id: original_id.map(str::to_owned),
            items: vec![item],
            account: self.account()?,
            purchased_at: number(self.purchase_date.as_ref()).and_then(signed::time),
            price_milliunits: number(self.price.as_ref())
                .and_then(signed::whole)
                .filter(|price| *price >= 0),
            currency: self.currency(),
            acknowledged: true,
            consumed: true,
            said_at: number(self.signed_date.as_ref()).and_then(signed::time),
            refund: StoreRefund {
                milliunits: self.refunded_milliunits()?,
                ..StoreRefund::default()
            },
            verified: serde_json::to_string(self).expect("texts and numbers are JSON"),
        })
    }

    fn pieces(&self) -> Result<u32, Unpaid> {
        let Some(quantity) = &self.quantity else { return Ok(1) };
        signed::whole(quantity)
            .and_then(|quantity| u32::try_from(quantity).ok())
            .filter(|quantity| (1..=QUANTITY_MAX).contains(quantity))
            .ok_or(Unpaid::Strange("its quantity can't be one"))
    }

    /// Whom the app named to Apple. It decides whether the purchase is held, so it is never guessed at.
    fn account(&self) -> Result<Option<String>, Unpaid> {
        let account = self.app_account_token.as_deref().filter(|account| !account.is_empty());
        if account.is_some_and(|account| {
            account.len() > ACCOUNT_MAX_CHARS || account.chars().any(char::is_control)
        }) {
            return Err(Unpaid::Strange("its account can't be one"));
        }
        Ok(account.map(str::to_owned))
    }

    fn currency(&self) -> Option<String> {
        let currency = self.currency.as_ref()?.as_str()?;
        let is_one = currency.len() == CURRENCY_LETTERS
            && currency.bytes().all(|letter| letter.is_ascii_uppercase());
        is_one.then(|| currency.to_owned())
    }
}

/// Why a transaction is nothing paid.
pub(super) enum Unpaid {
    /// It can never become valid.
    Never(&'static str),
    /// It is not understood.
    Strange(&'static str),
}

fn given<'a>(text: Option<&'a str>, missing: &'static str) -> Result<&'a str, Unpaid> {
    text.filter(|text| !text.is_empty()).ok_or(Unpaid::Strange(missing))
}

fn number(value: Option<&Value>) -> Option<&Number> {
    match value {
        Some(Value::Number(number)) => Some(number),
        _ => None,
    }
}
