//! Credits bought in an app store.

use std::marker::PhantomData;

use axum::{body::Body, extract::State, http::Request, response::Response};
use serde::Serialize;
use utoipa::{
    ToSchema,
    openapi::{RefOr, schema::Schema},
};

use super::{
    allocations::CREDITS,
    body::read_json,
    code::refusals,
    description::{Kind, Optional, Text, Verbatim, body},
    error::ApiError,
    fields::Field,
    idempotency::{RequestKey, answer},
    json::Members,
    problem::{Problem, Problems},
    schemas::balance as balance_schema,
    state::Service,
};
use crate::{
    domain::{
        Credits, PURCHASE_TOKEN_MAX_CHARS, Purchase, PurchaseRecord, PurchaseToken,
        STORE_TRANSACTION_ID_MAX_CHARS, StoreTransactionId, TokenForm, hash,
    },
    service::{Brought, Caller, Label},
};

body! {
    /// A purchase in the app store.
    AddCredits {
        credits: Credits = CREDITS,
        purchase_record: (String, Record) = Verbatim(PhantomData::<fn() -> Record>),
    }
}

/// Grants credits once, to one user.
const STORE_TRANSACTION_ID: Optional<StoreTransactionId> =
    Optional(Text { max_chars: STORE_TRANSACTION_ID_MAX_CHARS, make: StoreTransactionId::new });

/// The same, for a client that has no id of it yet.
const PURCHASE_TOKEN: Optional<PurchaseToken> =
    Optional(Text { max_chars: PURCHASE_TOKEN_MAX_CHARS, make: PurchaseToken::new });

body! {
    /// What the app store said. Any object; kept to the letter.
    Record {
        transaction_id("transactionId"): Option<StoreTransactionId> = STORE_TRANSACTION_ID,
        purchase_token("purchaseToken"): Option<PurchaseToken> = PURCHASE_TOKEN,
    }
}

body! {
    /// A purchase that its store confirms.
    AddConfirmed {
        credits: Credits = CREDITS,
        purchase_record: (String, Proven) = Verbatim(PhantomData::<fn() -> Proven>),
    }
}

body! {
    /// The same, with what proves it.
    Proven {
        transaction_id("transactionId"): Option<StoreTransactionId> = STORE_TRANSACTION_ID,
        purchase_token("purchaseToken"): PurchaseToken = Proof,
    }
}

/// A token of a form that one of the stores gives.
struct Proof;

impl Proof {
    const TEXT: Text<PurchaseToken> =
        Text { max_chars: PURCHASE_TOKEN_MAX_CHARS, make: PurchaseToken::new };
}

impl Kind for Proof {
    type Value = PurchaseToken;

    fn read(&self, field: Field<'_>) -> Result<PurchaseToken, Problems> {
        let loc = field.loc();
        let token = Self::TEXT.read(field)?;
        match TokenForm::of(token.as_str()) {
            Some(_) => Ok(token),
            None => Err(Problem::new("value_error", loc, NO_TOKEN).into()),
        }
    }

    fn schema(&self) -> RefOr<Schema> {
        Kind::schema(&Self::TEXT)
    }
}

/// What is said of a token that no store gives.
const NO_TOKEN: &str = "Value error, must be the purchaseToken as the app store's library gives it";

impl From<AddConfirmed> for Brought {
    /// The token is a secret, and a store's signature is nobody's business: the record has its hash instead.
    fn from(body: AddConfirmed) -> Self {
        let (text, record) = body.purchase_record;
        let token = record.purchase_token;
        let members = Members::parse(&text).expect("the record was read as an object");
        let product = members.get("productId").and_then(|id| serde_json::from_str(id.get()).ok());
        let kept = members.without(token.as_str(), &hash(token.as_str()));
        Self {
            token,
            record: PurchaseRecord::new(kept),
            label: Label { credits: body.credits, product, transaction_id: record.transaction_id },
            actor: None,
        }
    }
}

impl From<AddCredits> for Purchase {
    fn from(body: AddCredits) -> Self {
        let (text, record) = body.purchase_record;
        Self {
            credits: body.credits,
            store_transaction_id: record.transaction_id,
            token: record.purchase_token,
            record: PurchaseRecord::new(text),
        }
    }
}

#[derive(Serialize, ToSchema)]
struct CreditsAdded {
    success: bool,
    #[schema(schema_with = balance_schema)]
    new_balance: Credits,
}

refusals!(NotValid, "It can never become valid.", ["invalid_receipt"]);
refusals!(Granted, "Somebody else got this purchase.", ["purchase_already_processed"]);

/// Buy credits
///
/// A purchase is granted once, to one user, by its `transactionId` or its `purchaseToken`. Repeated by this user
/// it changes nothing and is answered with `Idempotency-Replayed: true`.
///
/// Where the stores confirm purchases (`BILLING_RECEIPTS`), `purchaseToken` is required, and its store and the table of
/// products say what is granted: all else in the request is a label. What may still come to be granted is answered with
/// 503, and is granted also if nobody asks again.
#[utoipa::path(
    post, path = "/api/billing/credits/add", tag = "changes", security(("bearer" = [])),
    request_body(content = AddCredits, example = json!({
        "credits": 300,
        "purchase_record": {"productId": "noteapp.credits.small", "transactionId": "GPA.1111"},
    })),
    responses(
        (status = 200, description = "The credits are there.", body = CreditsAdded,
            example = json!({"success": true, "new_balance": 300})),
        NotValid,
        Granted,
    ),
)]
pub(super) async fn add_credits(
    State(service): Service,
    caller: Caller,
    key: RequestKey,
    request: Request<Body>,
) -> Result<Response, ApiError> {
    let json = read_json(request).await?;
    let applied = if service.confirms_purchases() {
        let (body, keyed) = key.read::<AddConfirmed>(&json)?;
        service.add_confirmed(caller, keyed, body.into()).await?
    } else {
        let (body, keyed) = key.read::<AddCredits>(&json)?;
        service.add_credits(caller, keyed, body.into()).await?
    };
    Ok(answer(applied, |new_balance| CreditsAdded { success: true, new_balance }))
}
