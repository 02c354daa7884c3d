//! The catalogue of errors: the status of each, its code for programs, its text and what else it tells. Answers,
//! the OpenAPI document and the README's table follow it. How an answer is written is in `error`.

use std::{borrow::Cow, collections::BTreeMap};

use axum::http::StatusCode;
use serde_json::{Map, Value, json};
use utoipa::openapi::{Content, Ref, RefOr, Response, ResponseBuilder, example::ExampleBuilder};

use super::{
    error::{ApiError, RETRY_AFTER_SECONDS},
    language::Language,
    problem::{Problem, Problems},
};
use crate::{
    database::DatabaseError,
    domain::{Category, Credits, HoldStatus, ModelId, Price, PurchaseState, Refusal, Tokens},
    http::{self, Subject},
    ledger::LedgerError,
    service::ServiceError,
};

/// What is answered instead of a success.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub(super) status: StatusCode,
    pub(super) code: Option<&'static str>,
    detail: Detail,
    /// The numbers and names in it, for programs.
    fields: Map<String, Value>,
}

#[derive(Debug, Clone)]
enum Detail {
    /// A text that programs know, in whatever language.
    Machine(&'static str),
    /// A text that a person may read, where `{name}` stands for a field.
    Person(Texts),
    /// For programs too.
    Problems(Problems),
}

#[derive(Debug, Clone, Copy)]
struct Texts {
    ja: &'static str,
    en: &'static str,
}

/// The members of a map that is written in place.
macro_rules! fields {
    ($($name:literal: $value:expr),+ $(,)?) => {
        Map::from_iter([$(($name.to_owned(), json!($value))),+])
    };
}

impl From<ApiError> for Entry {
    fn from(error: ApiError) -> Self {
        match error {
            ApiError::Unprocessable(problems) => {
                Self::new(StatusCode::UNPROCESSABLE_ENTITY, Detail::Problems(problems))
            }
            ApiError::NotFound => Self::machine(StatusCode::NOT_FOUND, "Not Found"),
            ApiError::MethodNotAllowed => {
                Self::machine(StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed")
            }
            ApiError::UnsupportedMediaType => Self::person(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "Content-Type には application/json を指定してください",
                "Unsupported media type, send Content-Type: application/json",
            ),
            ApiError::InvalidCategory => Self::person(
                StatusCode::BAD_REQUEST,
                "カテゴリーは 'quick' または 'think' である必要があります",
                "The category must be 'quick' or 'think'",
            )
            .code("invalid_category"),
            ApiError::InvalidIdempotencyKey => Self::person(
                StatusCode::UNPROCESSABLE_ENTITY,
                "Idempotency-Key ヘッダーが正しくありません。短い可視ASCII文字列を一つだけ指定してください",
                "The Idempotency-Key header must be given once, as a short text of visible ASCII characters",
            )
            .code("invalid_idempotency_key"),
            ApiError::BodyTooSlow => Self::unavailable(
                "リクエストの本文が時間内に届きませんでした。もう一度お試しください",
                "The request body did not arrive in time, please try again",
            )
            .code("request_timeout"),
            ApiError::DatabaseUnavailable => Self::database_unavailable(),
            ApiError::Unhealthy => Self::database_unavailable()
                .with(fields! { "status": "unavailable", "service": "billing" }),
            ApiError::Internal(_) => Self::internal(),
            ApiError::Transport(refusal) => Self::of_transport(&refusal),
            ApiError::Service(error) => Self::of_service(&error),
        }
    }
}

impl Entry {
    fn new(status: StatusCode, detail: Detail) -> Self {
        Self { status, code: None, detail, fields: Map::new() }
    }

    fn machine(status: StatusCode, text: &'static str) -> Self {
        Self::new(status, Detail::Machine(text))
    }

    fn person(status: StatusCode, ja: &'static str, en: &'static str) -> Self {
        Self::new(status, Detail::Person(Texts { ja, en }))
    }

    /// It may pass later.
    fn unavailable(ja: &'static str, en: &'static str) -> Self {
        Self::person(StatusCode::SERVICE_UNAVAILABLE, ja, en)
    }

    fn code(self, code: &'static str) -> Self {
        Self { code: Some(code), ..self }
    }

    fn with(self, fields: Map<String, Value>) -> Self {
        Self { fields, ..self }
    }

    fn internal() -> Self {
        Self::machine(StatusCode::INTERNAL_SERVER_ERROR, "Internal Server Error")
    }

    fn database_unavailable() -> Self {
        Self::of_service(&LedgerError::Unavailable.into())
    }

    fn of_transport(refusal: &http::Refusal) -> Self {
        match refusal {
            http::Refusal::BodyTooLarge => Self::person(
                StatusCode::PAYLOAD_TOO_LARGE,
                "リクエストの本文が大きすぎます",
                "Request body too large",
            ),
            http::Refusal::HeadersTooLarge => Self::person(
                StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
                "リクエストヘッダーが大きすぎます",
                "Request headers too large",
            ),
            // Always the same: whoever guesses tokens learns nothing from it.
            http::Refusal::Unauthorized => Self::machine(
                StatusCode::UNAUTHORIZED,
                "Invalid or expired token. Please login again.",
            )
            .code("unauthorized"),
            http::Refusal::LoginUnavailable => Self::unavailable(
                "ただいまログインを確認できません。少し待ってからもう一度お試しください",
                "The login can't be checked now, please try again in a moment",
            )
            .code("login_unavailable"),
            http::Refusal::UserUnnamed(reason) => {
                let problems = Problem::from(*reason).into();
                Self::new(StatusCode::UNPROCESSABLE_ENTITY, Detail::Problems(problems))
            }
            http::Refusal::Forbidden => Self::person(
                StatusCode::FORBIDDEN,
                "この操作を行う権限がありません",
                "This login is not allowed to do that",
            )
            .code("forbidden"),
            http::Refusal::TooManyRequests(subject) => {
                let (ja, en) = match subject {
                    Subject::User => (
                        "リクエストが多すぎます。少し待ってからもう一度お試しください",
                        "Too many requests, please wait a moment and try again",
                    ),
                    Subject::Address => (
                        "有効なトークンのないリクエストが多すぎます。少し待つか、ログインし直してください",
                        "Too many requests without a valid token, please wait a moment or login again",
                    ),
                };
                Self::person(StatusCode::TOO_MANY_REQUESTS, ja, en).code("rate_limited")
            }
            http::Refusal::DeadlinePassed => Self::unavailable(
                "処理に時間がかかりすぎました。残高を確認してからもう一度お試しください",
                "The request took too long, please check the balance and try again",
            )
            .code("deadline_exceeded"),
            http::Refusal::Panicked(_) => Self::internal(),
        }
    }

    fn of_service(error: &ServiceError) -> Self {
        let entry = match error {
            ServiceError::Ledger(LedgerError::Refused(refusal)) => Self::of_rule(refusal),
            ServiceError::Ledger(LedgerError::KeyReused) => Self::person(
                StatusCode::UNPROCESSABLE_ENTITY,
                "この Idempotency-Key は別のリクエストで使われています。新しいキーを送信してください",
                "This Idempotency-Key was used for another request; send a new key",
            ),
            ServiceError::Ledger(LedgerError::Overloaded) => Self::unavailable(
                "ただいま混み合っています。もう一度お試しください",
                "The service is busy, please try again",
            ),
            ServiceError::Ledger(LedgerError::Stopping) => Self::unavailable(
                "サービスを再起動しています。もう一度お試しください",
                "The service is restarting, please try again",
            ),
            ServiceError::Ledger(LedgerError::Unavailable)
            | ServiceError::Database(DatabaseError::Unavailable(_)) => Self::unavailable(
                "ただいまデータベースを利用できません。もう一度お試しください",
                "The database is not available, please try again",
            ),
            ServiceError::ResetDisabled => Self::machine(
                StatusCode::FORBIDDEN,
                "This endpoint is not available in production environment",
            ),
            ServiceError::Ledger(LedgerError::Failed(_)) | ServiceError::Database(_) => {
                return Self::internal();
            }
        };
        entry.code(error.code())
    }

    /// The sentences the app shows as they are.
    #[expect(clippy::too_many_lines, reason = "a table: each rule has its line")]
    fn of_rule(refusal: &Refusal) -> Self {
        let no = |ja, en| Self::person(StatusCode::BAD_REQUEST, ja, en);
        match refusal {
            Refusal::PurchaseAlreadyProcessed => {
                Self::machine(StatusCode::CONFLICT, "Purchase already processed")
            }
            Refusal::BalanceOverflow => Self::unavailable(
                "クレジット残高が上限に達するため、今は追加できません。残高を使ってからもう一度お試しください",
                "The credit balance would pass its limit, so nothing can be added now. Use some credits and try again",
            ),
            Refusal::InvalidReceipt => Self::machine(StatusCode::BAD_REQUEST, "Invalid receipt"),
            Refusal::PurchasePending => Self::unavailable(
                "お支払いがまだ完了していません。完了するとクレジットが追加されます",
                "The payment is not completed yet; the credits are added as soon as it is",
            ),
            Refusal::PurchaseInReview { .. } => Self::unavailable(
                "購入を確認しています。確認が終わるとクレジットが追加されます",
                "The purchase is being checked; the credits are added as soon as that is done",
            ),
            Refusal::StoreUnavailable => Self::unavailable(
                "ただいまストアに購入を確認できません。確認が取れるとクレジットが追加されます",
                "The store can't confirm the purchase now; the credits are added as soon as it does",
            ),
            Refusal::SandboxRefused => Self::unavailable(
                "テスト購入はこのサービスでは受け付けていません",
                "Test purchases are not accepted by this service",
            ),
            Refusal::StoreNotConfigured => Self::unavailable(
                "このストアでの購入は、まだ確認できるように設定されていません",
                "This service is not set up yet to confirm purchases of this store",
            ),
            Refusal::AccountFrozen => Self::person(
                StatusCode::FORBIDDEN,
                "このアカウントは一時停止されています。サポートにお問い合わせください",
                "This account is frozen; please contact support",
            ),
            Refusal::AccountErasing => Self::unavailable(
                "このアカウントは消去中です。終わるまで少し待ってからもう一度お試しください",
                "This account is being erased; please wait a moment until that is done and try again",
            ),
            Refusal::PaidBalanceRemains { credits, tokens_worth } => no(
                "購入分の残高があります: クレジット={credits}, トークン={tokens_worth}クレジット相当。放棄する場合は forfeit を true にしてください",
                "Paid credits or tokens are left: {credits} credits, tokens worth {tokens_worth} credits; if the user gives them up, send forfeit: true",
            )
            .with(fields! { "credits": credits, "tokens_worth": tokens_worth }),
            Refusal::UserNotFound => Self::person(
                StatusCode::NOT_FOUND,
                "このユーザーは見つかりません",
                "There is no such user",
            ),
            Refusal::PurchaseNotFound => Self::person(
                StatusCode::NOT_FOUND,
                "この購入は見つかりません",
                "There is no such purchase",
            ),
            Refusal::PurchaseState { state } => Self::person(
                StatusCode::CONFLICT,
                "この購入の今の状態では、この操作はできません",
                "That is not done to a purchase in the state it is in now",
            )
            .with(fields! { "state": state.name() }),
            Refusal::UnknownProduct => no(
                "商品のクレジット数がわかりません。商品を登録するか、credits を指定してください",
                "What the product is worth is not known; set the product, or send credits",
            ),
            Refusal::PriceJump { today } => no(
                "今日の価格 {price_per_m_token} の5倍を超えるか、5分の1を下回ります。確かなら confirm を true にしてください",
                "That is more than 5 times as much or as little as today's {price_per_m_token}; if it is meant, send confirm: true",
            )
            .with(fields! { "price_per_m_token": today }),
            Refusal::PriceChanged { today } => Self::person(
                StatusCode::CONFLICT,
                "その間に価格が変更されました。今の価格を確かめてください",
                "The price was changed meanwhile; look at today's",
            )
            .with(fields! {
                "price_per_m_token": today.map(Price::price_per_m_token),
                "category": today.map(Price::category),
            }),
            Refusal::InsufficientCredits { required, available } => no(
                "クレジット不足: 必要={required}, 残高={available}",
                "Not enough credits: {required} required, {available} available",
            )
            // At most 50 items of 10^9 credits each, or one amount.
            .with(fields! {
                "required": i64::try_from(*required).expect("a request's credits fit"),
                "available": available,
            }),
            Refusal::ModelNotPriced { model } => no(
                "モデル {model_id} の価格情報が見つかりません",
                "There is no price for model {model_id}",
            )
            .with(fields! { "model_id": model }),
            Refusal::CapacityExceeded { category, limit, available, max_credits } => no(
                "容量制限超過: {category}カテゴリーの上限は{limit}トークンです",
                "Capacity exceeded: category {category} takes at most {limit} tokens",
            )
            .with(fields! {
                "category": category, "limit": limit, "available": available,
                "max_credits": max_credits,
            }),
            Refusal::AllocationTooSmall { model } => no(
                "モデル {model_id} に割り当てるクレジットが少なすぎます。1トークンも購入できません",
                "Too few credits for model {model_id}: they don't buy a single token",
            )
            .with(fields! { "model_id": model }),
            Refusal::NoTokenBalance { model } => no(
                "モデル {model_id} のトークン残高がありません",
                "There are no tokens for model {model_id}",
            )
            .with(fields! { "model_id": model }),
            Refusal::TooManyHolds { limit } => no(
                "同時に確保できるのは{limit}件までです",
                "There can be only {limit} holds at a time",
            )
            .with(fields! { "limit": limit }),
            Refusal::HoldNotFound => Self::person(
                StatusCode::NOT_FOUND,
                "この確保は見つかりません",
                "There is no such hold",
            ),
            Refusal::HoldClosed { status } => Self::person(
                StatusCode::CONFLICT,
                "この確保はすでに終了しています",
                "The hold is closed already",
            )
            .with(fields! { "status": status.name() }),
            Refusal::InsufficientTokens { required, available } => no(
                "トークン不足: 必要={required}, 残高={available}",
                "Not enough tokens: {required} required, {available} available",
            )
            .with(fields! { "required": required, "available": available }),
            Refusal::TransactionNotFound => Self::person(
                StatusCode::NOT_FOUND,
                "この取引は見つかりません",
                "There is no such transaction",
            ),
            Refusal::NotReversible => {
                no("取り消せるのはトークンの消費だけです", "Only a consumption can be reversed")
            }
            // Without its number: no text of this status may look like what purchases are judged by.
            Refusal::AlreadyReversed { reversible } => Self::person(
                StatusCode::CONFLICT,
                "この消費から取り消せるトークンは、それだけ残っていません",
                "So many tokens of this consumption are not left to be reversed",
            )
            .with(fields! { "reversible_tokens": reversible }),
            Refusal::ReturnTooSmall { model } => no(
                "モデル {model_id} の未使用トークンが少なすぎます。1クレジットにもなりません",
                "Too few unused tokens of model {model_id}: they are not worth a single credit",
            )
            .with(fields! { "model_id": model }),
        }
    }

    /// What `Retry-After` tells, in seconds. Stores change their minds slowly, people and slow cards more so.
    pub(super) fn retry_after_seconds(&self) -> Option<u16> {
        if self.status != StatusCode::SERVICE_UNAVAILABLE {
            return None;
        }
        Some(match self.code {
            Some("store_unavailable" | "store_not_configured" | "account_erasing") => 30,
            Some("purchase_pending" | "purchase_in_review" | "sandbox_refused") => 3_600,
            _ => RETRY_AFTER_SECONDS,
        })
    }

    /// Whether its text depends on the language.
    pub(super) const fn is_translated(&self) -> bool {
        matches!(self.detail, Detail::Person(_))
    }

    /// Whether it tells more than its text and code.
    pub(super) fn has_fields(&self) -> bool {
        !self.fields.is_empty()
    }

    /// What programs tell it by.
    fn name(&self) -> &'static str {
        match (self.code, &self.detail) {
            (Some(code), _) => code,
            (None, Detail::Machine(text) | Detail::Person(Texts { en: text, .. })) => text,
            (None, Detail::Problems(_)) => "problems",
        }
    }

    /// The body of the answer.
    pub(super) fn body(self, language: Language) -> Value {
        let detail = match self.detail {
            Detail::Machine(text) => json!(text),
            Detail::Person(texts) => json!(filled(texts.of(language), &self.fields)),
            Detail::Problems(problems) => json!(problems),
        };
        let mut body = fields! { "detail": detail };
        body.extend(self.code.map(|code| ("code".to_owned(), json!(code))));
        body.extend(self.fields);
        body.into()
    }

    /// The schema of the body.
    fn schema(&self) -> &'static str {
        match (self.status, self.code) {
            (_, None) => "PlainError",
            (StatusCode::SERVICE_UNAVAILABLE, _) if self.has_fields() => "Unhealthy",
            (StatusCode::SERVICE_UNAVAILABLE, _) => "Unavailable",
            _ if self.has_fields() => "Refused",
            _ => "CodedError",
        }
    }
}

impl Texts {
    const fn of(self, language: Language) -> &'static str {
        match language {
            Language::Japanese => self.ja,
            Language::English => self.en,
        }
    }
}

/// The text with each `{name}` replaced by the field of that name.
fn filled(text: &'static str, fields: &Map<String, Value>) -> Cow<'static, str> {
    if fields.is_empty() {
        return text.into();
    }
    let mut filled = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('{') {
        let (name, after) = after.split_once('}').expect("texts close their braces");
        filled.push_str(before);
        match fields.get(name).expect("texts name fields that are told") {
            Value::String(value) => filled.push_str(value),
            value => filled.push_str(&value.to_string()),
        }
        rest = after;
    }
    filled.push_str(rest);
    filled.into()
}

/// Every error once, as an example: all that clients can meet but a 422's list.
pub(super) fn catalogue() -> impl Iterator<Item = Entry> {
    let model = |name: &str| ModelId::new(name).expect("a model's name");
    let credits = |amount| Credits::new(amount).expect("an amount");
    let tokens = |amount| Tokens::new(amount).expect("an amount");
    let refused = |refusal| ApiError::Service(LedgerError::Refused(refusal).into());
    let examples = [
        refused(Refusal::InsufficientCredits { required: 150, available: credits(100) }),
        refused(Refusal::ModelNotPriced { model: model("no-such-model") }),
        refused(Refusal::CapacityExceeded {
            category: Category::Quick,
            limit: tokens(5_000_000),
            available: tokens(3_000_000),
            max_credits: credits(225),
        }),
        refused(Refusal::AllocationTooSmall { model: model("dear-model") }),
        refused(Refusal::NoTokenBalance { model: model("no-such-model") }),
        refused(Refusal::InsufficientTokens { required: tokens(7_000), available: tokens(500) }),
        refused(Refusal::ReturnTooSmall { model: model("gemini-2.0-flash") }),
        refused(Refusal::NotReversible),
        refused(Refusal::TransactionNotFound),
        refused(Refusal::UserNotFound),
        refused(Refusal::AlreadyReversed { reversible: tokens(500) }),
        refused(Refusal::TooManyHolds { limit: 8 }),
        refused(Refusal::HoldNotFound),
        refused(Refusal::HoldClosed { status: HoldStatus::Released }),
        refused(Refusal::PurchaseNotFound),
        refused(Refusal::PurchaseState { state: PurchaseState::Granted }),
        refused(Refusal::UnknownProduct),
        refused(Refusal::PriceJump { today: 75 }),
        refused(Refusal::PriceChanged { today: Price::new(90, Category::Quick).ok() }),
        http::Refusal::Unauthorized.into(),
        http::Refusal::TooManyRequests(Subject::User).into(),
        http::Refusal::TooManyRequests(Subject::Address).into(),
        http::Refusal::Forbidden.into(),
        refused(Refusal::AccountFrozen),
        refused(Refusal::PaidBalanceRemains { credits: credits(120), tokens_worth: credits(75) }),
        ServiceError::ResetDisabled.into(),
        refused(Refusal::PurchaseAlreadyProcessed),
        refused(Refusal::InvalidReceipt),
        refused(Refusal::PurchasePending),
        refused(Refusal::StoreUnavailable),
        refused(Refusal::PurchaseInReview { for_operator: false }),
        refused(Refusal::SandboxRefused),
        refused(Refusal::StoreNotConfigured),
        ApiError::InvalidIdempotencyKey,
        ServiceError::from(LedgerError::KeyReused).into(),
        ApiError::InvalidCategory,
        ServiceError::from(LedgerError::Overloaded).into(),
        ApiError::DatabaseUnavailable,
        ApiError::Unhealthy,
        ServiceError::from(LedgerError::Stopping).into(),
        http::Refusal::DeadlinePassed.into(),
        ApiError::BodyTooSlow,
        refused(Refusal::BalanceOverflow),
        refused(Refusal::AccountErasing),
        http::Refusal::LoginUnavailable.into(),
        ApiError::NotFound,
        ApiError::MethodNotAllowed,
        http::Refusal::BodyTooLarge.into(),
        ApiError::UnsupportedMediaType,
        http::Refusal::HeadersTooLarge.into(),
        ApiError::Internal(String::new()),
    ];
    examples.into_iter().map(Entry::from)
}

/// How the document shows one answer that may be any of those chosen, which have one status.
pub(super) fn response(description: &str, chosen: impl Fn(&Entry) -> bool) -> Response {
    let mut chosen: Vec<Entry> = catalogue().filter(chosen).collect();
    chosen.dedup_by_key(|entry| entry.name());
    let first = chosen.first().expect("an answer that there is");
    let mut content = Content::new(Some(Ref::from_schema_name(first.schema())));
    if let [only] = &chosen[..] {
        content.example = Some(only.clone().body(Language::Japanese));
    } else {
        let example = |entry: Entry| {
            let name = entry.name().to_owned();
            let example = ExampleBuilder::new().value(Some(entry.body(Language::Japanese)));
            (name, RefOr::T(example.build()))
        };
        content.examples = chosen.into_iter().map(example).collect();
    }
    ResponseBuilder::new().description(description).content("application/json", content).build()
}

/// The answers of one endpoint's own: those called so, under their status.
pub(super) fn responses(
    description: &str,
    names: &[&str],
    fields: &[&str],
) -> BTreeMap<String, RefOr<Response>> {
    let is_one =
        |entry: &Entry| names.contains(&entry.name()) && entry.has_fields() != fields.is_empty();
    let first = catalogue().find(is_one).expect("an answer that there is");
    let response = response(description, is_one);
    BTreeMap::from([(first.status.as_str().to_owned(), RefOr::T(response))])
}

/// Declares what an endpoint answers instead of a success, as a type for its `responses`. Where it tells more
/// than a text and a code, `with fields` says so.
macro_rules! refusals {
    ($name:ident, $description:literal, [$($code:literal),+] $(, with $fields:ident)?) => {
        struct $name;

        impl utoipa::IntoResponses for $name {
            fn responses() -> std::collections::BTreeMap<
                String,
                utoipa::openapi::RefOr<utoipa::openapi::Response>,
            > {
                $crate::api::code::responses($description, &[$($code),+], &[$(stringify!($fields))?])
            }
        }
    };
}

pub(super) use refusals;

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::*;

    /// The text of an example in a language.
    fn detail(entry: &Entry, language: Language) -> String {
        entry.clone().body(language)["detail"].as_str().expect("a text").to_owned()
    }

    #[test]
    fn texts_that_the_app_judges_purchases_by_are_constant() {
        // 400 is not an answer to a purchase, and those with more members are not either.
        for entry in catalogue().filter(|entry| entry.status != StatusCode::BAD_REQUEST) {
            for language in Language::ALL {
                let text = detail(&entry, language);
                if text == "Purchase already processed" {
                    assert_eq!(entry.status, StatusCode::CONFLICT);
                    continue;
                }
                assert!(!text.contains(|c: char| c.is_numeric() || c == '{'), "{text}");
                for word in ["already processed", "Invalid receipt"] {
                    assert!(!text.contains(word), "{text}");
                }
                if let Detail::Person(texts) = entry.detail {
                    assert!(!texts.of(language).contains('{'), "{text}");
                }
            }
        }
    }

    #[test]
    fn texts_for_people_are_in_both_languages() {
        let japanese = |text: &str| {
            text.chars().any(|c| ('ぁ'..='ん').contains(&c) || ('一'..='龠').contains(&c))
        };
        for entry in catalogue().filter(Entry::is_translated) {
            assert!(japanese(&detail(&entry, Language::Japanese)), "{entry:?}");
            assert!(detail(&entry, Language::English).is_ascii(), "{entry:?}");
        }
    }

    #[test]
    fn what_stands_for_a_field_is_filled_in_once() {
        let fields = fields! { "model_id": "{limit}", "limit": 7 };
        assert_eq!(filled("{model_id}: {limit}.", &fields), "{limit}: 7.");
    }

    #[test]
    fn the_readme_lists_every_code_under_its_status() {
        let table = include_str!("../../README.md")
            .split_once("Every error is JSON with a `detail`:")
            .expect("the README has a table of errors")
            .1;
        let rows = table
            .lines()
            .skip_while(|line| !line.starts_with("| 4"))
            .take_while(|line| line.starts_with('|'));
        let mut listed = BTreeMap::<String, BTreeSet<String>>::new();
        for row in rows {
            let cells: Vec<&str> = row.trim_matches('|').split('|').map(str::trim).collect();
            let [statuses, _, codes] = cells[..] else { panic!("three cells: {row}") };
            for status in statuses.split(", ") {
                let codes = codes.split('`').skip(1).step_by(2).map(str::to_owned);
                listed.entry(status.to_owned()).or_default().extend(codes);
            }
        }
        let mut catalogued = BTreeMap::<String, BTreeSet<String>>::new();
        for entry in catalogue() {
            let codes = catalogued.entry(entry.status.as_str().to_owned()).or_default();
            codes.extend(entry.code.map(str::to_owned));
        }
        assert_eq!(listed, catalogued, "README.md and the catalogue");
    }
}
