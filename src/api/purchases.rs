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
        Credits, Purchase, PurchaseRecord, STORE_TRANSACTION_ID_MAX_CHARS, StoreTransactionId,
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

body! {
    /// What the app store said. Any object; kept to the letter.
    Record {
        transaction_id("transactionId"): Option<StoreTransactionId> = STORE_TRANSACTION_ID,
    }
}

impl From<AddCredits> for Purchase {
    fn from(body: AddCredits) -> Self {
        let (text, record) = body.purchase_record;
        Self {
            credits: body.credits,
            store_transaction_id: record.transaction_id,
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

refusals!(Granted, "This store transaction was granted before.", ["purchase_already_processed"]);

/// Buy credits
///
/// A store transaction grants credits once, to one user.
#[utoipa::path(
    post, path = "/api/billing/credits/add", tag = "changes", security(("bearer" = [])),
    request_body(content = AddCredits, example = json!({
        "credits": 100,
        "purchase_record": {"productId": "noteapp.credits.small", "transactionId": "GPA.1111"},
    })),
    responses(
        (status = 200, description = "The credits are there.", body = CreditsAdded,
            example = json!({"success": true, "new_balance": 100})),
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
