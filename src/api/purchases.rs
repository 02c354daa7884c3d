//! Credits bought in an app store.

use std::marker::PhantomData;

use axum::{body::Body, extract::State, http::Request, response::Response};
use serde::Serialize;
use utoipa::ToSchema;

use super::{
    allocations::CREDITS,
    body::read_json,
    code::refusals,
    description::{Optional, Text, Verbatim, body},
    error::ApiError,
    idempotency::{RequestKey, answer},
    schemas::balance as balance_schema,
    state::Service,
};
use crate::{
    domain::{
        Credits, PURCHASE_TOKEN_MAX_CHARS, Purchase, PurchaseRecord, PurchaseToken,
        STORE_TRANSACTION_ID_MAX_CHARS, StoreTransactionId,
    },
    service::Caller,
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

refusals!(Granted, "Somebody else got this purchase.", ["purchase_already_processed"]);

/// Buy credits
///
/// A purchase is granted once, to one user, by its `transactionId` or its `purchaseToken`. Repeated by this user
/// it changes nothing and is answered with `Idempotency-Replayed: true`.
#[utoipa::path(
    post, path = "/api/billing/credits/add", tag = "changes", security(("bearer" = [])),
    request_body(content = AddCredits, example = json!({
        "credits": 300,
        "purchase_record": {"productId": "noteapp.credits.small", "transactionId": "GPA.1111"},
    })),
    responses(
        (status = 200, description = "The credits are there.", body = CreditsAdded,
            example = json!({"success": true, "new_balance": 300})),
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
    let (body, keyed) = key.read::<AddCredits>(&json)?;
    let applied = service.add_credits(caller, keyed, body.into()).await?;
    Ok(answer(applied, |new_balance| CreditsAdded { success: true, new_balance }))
}
