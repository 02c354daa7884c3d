//! The shapes that several resources share, and those of errors, for the OpenAPI document.

use axum::http::StatusCode;
use utoipa::{
    PartialSchema, ToSchema,
    openapi::{
        KnownFormat, Object, ObjectBuilder, Ref, RefOr, SchemaFormat,
        schema::{AdditionalProperties, ArrayBuilder, OneOfBuilder, Schema, SchemaType, Type},
    },
};

use super::{
    code::{Entry, catalogue},
    description::{integer, null, one_of, text},
    problem::{Lowest, Problem, Range},
};
use crate::domain::{Category, Credits, HoldStatus, IDEMPOTENCY_KEY_MAX_CHARS, USER_ID_MAX_CHARS};

/// Balances, of credits as of tokens.
const BALANCE: Range = Range { lowest: Lowest::From(0), highest: Credits::MAX.get() };
const VISIBLE_ASCII: &str = "^[!-~]+$";
const VISIBLE_ASCII_OR_ESCAPES: &str = "^([!-$&-~]|%[0-9A-Fa-f]{2})+$";
/// Most characters of a user's name where each takes four bytes, and each byte three characters.
const USER_ENCODED_MAX_CHARS: usize = 12 * USER_ID_MAX_CHARS;

/// Of credits or tokens.
pub(super) fn balance() -> Object {
    integer(BALANCE).build()
}

/// The value of an `Idempotency-Key` header.
pub(super) fn idempotency_key() -> Object {
    text(IDEMPOTENCY_KEY_MAX_CHARS, VISIBLE_ASCII).min_length(Some(1)).build()
}

/// The value of a `Billing-User` header.
pub(super) fn billing_user() -> Object {
    text(USER_ENCODED_MAX_CHARS, VISIBLE_ASCII_OR_ESCAPES).min_length(Some(1)).build()
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

/// What a hold is.
pub(super) struct HoldStatusName;

impl PartialSchema for HoldStatusName {
    fn schema() -> RefOr<Schema> {
        let names = HoldStatus::ALL.map(HoldStatus::name);
        one_of(names).description(Some("What a hold is now.")).into()
    }
}

impl ToSchema for HoldStatusName {}

/// An object with any names, each with what has the schema of this name.
pub(super) fn map_of(schema: &str, about: &str) -> Object {
    ObjectBuilder::new()
        .schema_type(Type::Object)
        .description(Some(about))
        .additional_properties(Some(AdditionalProperties::RefOr(
            Ref::from_schema_name(schema).into(),
        )))
        .property_names(Some(Schema::from(Object::with_type(Type::String))))
        .build()
}

/// Everything that is wrong with a request, as pydantic v2 words it.
pub(super) struct ValidationError;

impl PartialSchema for ValidationError {
    fn schema() -> RefOr<Schema> {
        let problems = ArrayBuilder::new().items(Ref::from_schema_name(Problem::name()));
        let about = "Everything that is wrong with a request, as pydantic v2 words it.";
        object(about).property("detail", problems).required("detail").into()
    }
}

impl ToSchema for ValidationError {}

/// What errors look like, by the schemas' names. Their codes are those of the catalogue.
pub(super) fn errors() -> [(&'static str, RefOr<Schema>); 9] {
    let detail = |about| object(about).property("detail", text_schema()).required("detail");
    let coded = |about, codes| {
        detail(about).property("code", Ref::from_schema_name(codes)).required("code")
    };
    let codes = |about: &str, is_one: fn(&Entry) -> bool| {
        let mut codes: Vec<_> = catalogue().filter(is_one).filter_map(|entry| entry.code).collect();
        codes.dedup();
        one_of(codes).description(Some(about)).into()
    };
    let later = |entry: &Entry| entry.status == StatusCode::SERVICE_UNAVAILABLE;
    let unhealthy = "The service does not work, or not in time; only the former has a `status`.";
    let unprocessable = "A malformed request, or one whose `Idempotency-Key` can't be used.";
    [
        ("PlainError", detail("An error without a code.").into()),
        ("CodedError", coded("An error that programs tell by its code.", "Code").into()),
        (
            "Refused",
            refused(coded("A rule says no; `detail` is a sentence for the user.", "RefusalCode")),
        ),
        (
            "Unavailable",
            coded(
                "Not now. The same request may pass after `Retry-After` seconds.",
                "UnavailableCode",
            )
            .into(),
        ),
        (
            "Unhealthy",
            coded(unhealthy, "UnavailableCode")
                .property("status", text_schema())
                .property("service", text_schema())
                .into(),
        ),
        (
            "Unprocessable",
            Schema::from(
                OneOfBuilder::new()
                    .item(Ref::from_schema_name(ValidationError::name()))
                    .item(Ref::from_schema_name("CodedError"))
                    .description(Some(unprocessable)),
            )
            .into(),
        ),
        (
            "Code",
            codes("Why not, for programs; never changes.", |entry| {
                entry.status != StatusCode::SERVICE_UNAVAILABLE && !entry.has_fields()
            }),
        ),
        (
            "RefusalCode",
            codes("Which rule.", |entry| {
                entry.status != StatusCode::SERVICE_UNAVAILABLE && entry.has_fields()
            }),
        ),
        ("UnavailableCode", codes("Why not now.", later)),
    ]
}

/// What refusals tell besides, each as far as it matters.
fn refused(object: ObjectBuilder) -> RefOr<Schema> {
    let number = |about: &str| {
        ObjectBuilder::new()
            .schema_type(SchemaType::from_iter([Type::Integer, Type::Null]))
            .format(Some(SchemaFormat::KnownFormat(KnownFormat::Int64)))
            .description(Some(about))
    };
    let text = ObjectBuilder::new().schema_type(SchemaType::from_iter([Type::String, Type::Null]));
    let category =
        OneOfBuilder::new().item(Ref::from_schema_name(CategoryName::name())).item(null());
    let status =
        OneOfBuilder::new().item(Ref::from_schema_name(HoldStatusName::name())).item(null());
    object
        .property("required", number("Credits or tokens asked for."))
        .property(
            "available",
            number("Credits or tokens there are; tokens still free in a full category."),
        )
        .property("model_id", text)
        .property(
            "state",
            text_schema().description(Some("The state of the purchase, for operators.")),
        )
        .property("price_per_m_token", number("Today's price, for operators."))
        .property("category", category)
        .property("status", status)
        .property("limit", number("Most tokens of the category, or most holds."))
        .property(
            "reversible_tokens",
            number("Tokens of the consumption that may still be reversed."),
        )
        .property(
            "max_credits",
            number("The largest amount of credits for this model whose tokens still fit."),
        )
        .into()
}

fn object(about: &str) -> ObjectBuilder {
    ObjectBuilder::new().schema_type(Type::Object).description(Some(about))
}

fn text_schema() -> ObjectBuilder {
    ObjectBuilder::new().schema_type(Type::String)
}
