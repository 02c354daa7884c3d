//! The shapes that several resources share, and those of errors, for the OpenAPI document.

#![expect(dead_code, reason = "these types are only looked at, never made")]

use utoipa::{
    PartialSchema, ToSchema,
    openapi::{Object, RefOr, schema::Schema},
};

use super::{
    description::{integer, one_of, text},
    problem::{Lowest, Problem, Range},
};
use crate::domain::{Category, Credits, IDEMPOTENCY_KEY_MAX_CHARS};

/// Balances, of credits as of tokens.
const BALANCE: Range = Range { lowest: Lowest::From(0), highest: Credits::MAX.get() };
const VISIBLE_ASCII: &str = "^[!-~]+$";

/// Of credits or tokens.
pub(super) fn balance() -> Object {
    integer(BALANCE).build()
}

/// The value of an `Idempotency-Key` header.
pub(super) fn idempotency_key() -> Object {
    text(IDEMPOTENCY_KEY_MAX_CHARS, VISIBLE_ASCII).min_length(Some(1)).build()
}

/// What a model is for.
pub(super) struct CategoryName;

impl PartialSchema for CategoryName {
    fn schema() -> RefOr<Schema> {
        let names = [Category::Quick, Category::Think].map(Category::name);
        one_of(names).description(Some("What a model is for.")).into()
    }
}

impl ToSchema for CategoryName {}

/// The service does not work, or not in time; only the former has a `status`.
#[derive(ToSchema)]
pub(super) struct Unhealthy {
    detail: String,
    code: UnavailableCode,
    #[schema(required = false)]
    status: String,
    #[schema(required = false)]
    service: String,
}

/// An error without a code.
#[derive(ToSchema)]
pub(super) struct PlainError {
    detail: String,
}

/// An error that programs tell by its code.
#[derive(ToSchema)]
pub(super) struct CodedError {
    detail: String,
    code: Code,
}

/// Why not, for programs; never changes.
#[derive(ToSchema)]
#[schema(rename_all = "snake_case")]
enum Code {
    Unauthorized,
    RateLimited,
    ResetDisabled,
    PurchaseAlreadyProcessed,
    InvalidIdempotencyKey,
    IdempotencyKeyReused,
    InvalidCategory,
}

/// A rule says no; `detail` is a sentence for the user.
#[derive(ToSchema)]
pub(super) struct Refused {
    detail: String,
    code: RefusalCode,
    /// Credits or tokens asked for.
    required: Option<i64>,
    /// Credits or tokens there are; tokens still free in a full category.
    available: Option<i64>,
    model_id: Option<String>,
    category: Option<CategoryName>,
    /// Most tokens of the category.
    limit: Option<i64>,
    /// The largest amount of credits for this model whose tokens still fit.
    max_credits: Option<i64>,
}

/// Which rule.
#[derive(ToSchema)]
#[schema(rename_all = "snake_case")]
enum RefusalCode {
    InsufficientCredits,
    ModelNotPriced,
    CapacityExceeded,
    AllocationTooSmall,
    NoTokenBalance,
    InsufficientTokens,
}

/// Not now. The same request may pass after `Retry-After` seconds.
#[derive(ToSchema)]
pub(super) struct Unavailable {
    detail: String,
    code: UnavailableCode,
}

/// Why not now.
#[derive(ToSchema)]
#[schema(rename_all = "snake_case")]
enum UnavailableCode {
    Overloaded,
    DatabaseUnavailable,
    ShuttingDown,
    DeadlineExceeded,
    RequestTimeout,
    BalanceOverflow,
}

/// Everything that is wrong with a request, as pydantic v2 words it.
#[derive(ToSchema)]
pub(super) struct ValidationError {
    detail: Vec<Problem>,
}

/// A malformed request, or one whose `Idempotency-Key` can't be used.
#[derive(ToSchema)]
#[serde(untagged)]
pub(super) enum Unprocessable {
    Problems(ValidationError),
    Key(CodedError),
}
