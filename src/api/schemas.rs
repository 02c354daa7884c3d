//! The shapes of requests and errors for the OpenAPI document. Requests are read in `fields` and `query`;
//! the limits shown here are the very ones they are held against.

#![expect(dead_code, reason = "these types are only looked at, never made")]

use utoipa::{
    IntoParams, Number, ToSchema,
    openapi::{
        KnownFormat, Object, ObjectBuilder, SchemaFormat,
        schema::{AdditionalProperties, Array, ArrayBuilder, OneOfBuilder, Schema, Type},
    },
};

use super::{
    ALLOCATIONS_MAX, CREDITS, TOKENS,
    problem::{Lowest, Problem, Range},
    query::{BEFORE, DEFAULT_LIMIT, LIMIT},
};
use crate::domain::{
    Credits, EntryKind, IDEMPOTENCY_KEY_MAX_CHARS, MODEL_ID_MAX_CHARS,
    STORE_TRANSACTION_ID_MAX_CHARS,
};

/// What a price may be: the lowest is the domain's, the highest its integers'.
const PRICE: Range = Range { lowest: Lowest::From(1), highest: i64::MAX };
/// Balances, of credits as of tokens.
const BALANCE: Range = Range { lowest: Lowest::From(0), highest: Credits::MAX.get() };
/// Anything but control characters.
const NO_CONTROL_CHARACTERS: &str = r"^[^\u0000-\u001F\u007F-\u009F]*$";
const VISIBLE_ASCII: &str = "^[!-~]+$";

fn integer(range: Range) -> ObjectBuilder {
    let integer = ObjectBuilder::new()
        .schema_type(Type::Integer)
        .format(Some(SchemaFormat::KnownFormat(KnownFormat::Int64)))
        .maximum(Some(Number::from(range.highest)));
    match range.lowest {
        Lowest::Above(bound) => integer.exclusive_minimum(Some(Number::from(bound))),
        Lowest::From(bound) => integer.minimum(Some(Number::from(bound))),
    }
}

fn text(max_chars: usize, pattern: &str) -> ObjectBuilder {
    ObjectBuilder::new()
        .schema_type(Type::String)
        .max_length(Some(max_chars))
        .pattern(Some(pattern))
}

fn credits() -> Object {
    integer(CREDITS).build()
}

fn tokens() -> Object {
    integer(TOKENS).build()
}

/// Of credits or tokens.
pub(super) fn balance() -> Object {
    integer(BALANCE).build()
}

/// Tokens by model.
pub(super) fn balances() -> Object {
    ObjectBuilder::new()
        .schema_type(Type::Object)
        .additional_properties(Some(AdditionalProperties::RefOr(Schema::from(balance()).into())))
        .build()
}

fn price() -> Object {
    integer(PRICE).build()
}

/// A transaction's id; also what `before` may be.
pub(super) fn transaction_id() -> Object {
    integer(BEFORE).build()
}

fn limit() -> Object {
    integer(LIMIT).default(Some(DEFAULT_LIMIT.into())).build()
}

pub(super) fn model_id() -> Object {
    text(MODEL_ID_MAX_CHARS, NO_CONTROL_CHARACTERS).min_length(Some(1)).build()
}

/// A model, or none.
pub(super) fn optional_model_id() -> Schema {
    OneOfBuilder::new()
        .item(ObjectBuilder::new().schema_type(Type::Null))
        .item(model_id())
        .build()
        .into()
}

/// What happened in a transaction.
pub(super) fn kind() -> Object {
    let names = EntryKind::ALL.map(EntryKind::name);
    ObjectBuilder::new().schema_type(Type::String).enum_values(Some(names)).build()
}

fn store_transaction_id() -> Schema {
    OneOfBuilder::new()
        .item(ObjectBuilder::new().schema_type(Type::Null))
        .item(text(STORE_TRANSACTION_ID_MAX_CHARS, NO_CONTROL_CHARACTERS))
        .build()
        .into()
}

fn allocations() -> Array {
    ArrayBuilder::new()
        .items(utoipa::openapi::Ref::from_schema_name("AllocationItem"))
        .min_items(Some(1))
        .max_items(Some(ALLOCATIONS_MAX))
        .build()
}

/// The value of an `Idempotency-Key` header.
pub(super) fn idempotency_key() -> Object {
    text(IDEMPOTENCY_KEY_MAX_CHARS, VISIBLE_ASCII).min_length(Some(1)).build()
}

/// A purchase in the app store.
#[derive(ToSchema)]
pub(super) struct AddCredits {
    /// Credits bought.
    #[schema(schema_with = credits)]
    credits: i64,
    purchase_record: Record,
}

/// What the app store said. Any object; kept to the letter.
#[derive(ToSchema)]
struct Record {
    /// Grants credits once, to one user; `null` and `""` are as if it were missing.
    #[schema(schema_with = store_transaction_id, required = false)]
    #[serde(rename = "transactionId")]
    transaction_id: String,
}

/// Credits to be turned into tokens: all items in their order, or none.
#[derive(ToSchema)]
pub(super) struct Allocate {
    #[schema(schema_with = allocations)]
    allocations: Vec<AllocationItem>,
}

/// Credits for one model.
#[derive(ToSchema)]
pub(super) struct AllocationItem {
    #[schema(schema_with = model_id)]
    model_id: String,
    #[schema(schema_with = credits)]
    credits: i64,
}

/// What a chat used. Both together leave the model's balance.
#[derive(ToSchema)]
pub(super) struct Consume {
    #[schema(schema_with = model_id)]
    model_id: String,
    #[schema(schema_with = tokens)]
    input_tokens: i64,
    #[schema(schema_with = tokens)]
    output_tokens: i64,
}

/// Filters of the history.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct HistoryQuery {
    /// Most transactions of the page.
    #[param(schema_with = limit, required = false)]
    limit: i64,
    /// Only ids below this one.
    #[param(schema_with = transaction_id, required = false)]
    before: i64,
    /// Only this kind.
    #[param(schema_with = kind, required = false)]
    r#type: String,
    /// Only this model.
    #[param(schema_with = model_id, required = false)]
    model_id: String,
}

/// Prices by model.
#[derive(ToSchema)]
pub(super) struct Prices(std::collections::BTreeMap<String, ModelPrice>);

/// What a model costs.
#[derive(ToSchema)]
pub(super) struct ModelPrice {
    /// Credits per million tokens.
    #[schema(schema_with = price)]
    price_per_m_token: i64,
    category: CategoryName,
}

/// What a model is for.
#[derive(ToSchema)]
#[schema(rename_all = "lowercase")]
pub(super) enum CategoryName {
    Quick,
    Think,
}

/// The service works.
#[derive(ToSchema)]
pub(super) struct Health {
    status: String,
    service: String,
}

/// What a probe is answered.
#[derive(ToSchema)]
pub(super) struct Probe {
    status: String,
}

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

/// A user's data is gone.
#[derive(ToSchema)]
pub(super) struct Erased {
    success: bool,
    message: String,
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
