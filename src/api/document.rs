//! What all endpoints have in common, added to what each says of itself in `routes`: the errors any
//! request can meet, the headers of every answer, who may ask.

use bytes::Bytes;
use serde_json::json;
use utoipa::{
    OpenApi, ToSchema,
    openapi::{
        Components, Content, Header, ObjectBuilder, Ref, RefOr, Required, Response,
        ResponseBuilder,
        path::{Operation, ParameterBuilder, ParameterIn},
        schema::Type,
        security::{HttpAuthScheme, HttpBuilder, SecurityScheme},
    },
};

use super::{
    code::{self, Entry, catalogue},
    error::RETRY_AFTER_SECONDS,
    language::Language,
    operator::PREFIX,
    problem::{Problem, Step},
    schemas::{ValidationError, billing_user, errors, idempotency_key},
    wallet::WalletTokens,
};
use crate::http::{Authentication, BODY_LIMIT_BYTES, HEADER_LIMIT_BYTES};

/// The security scheme's name in the document.
const BEARER: &str = "bearer";
const IDEMPOTENCY_KEY: &str = "IdempotencyKey";
const ACCEPT_LANGUAGE: &str = "AcceptLanguage";
const BILLING_USER: &str = "BillingUser";
const JSON: &str = "application/json";

/// Who is what, by the token it sends.
const WHO_LOGS_IN: &str = "A user's token is a JSON Web Token, and good for the user's own account. Of a backend its \
                           `scope` holds `billing:backend`, of an operator `billing:operator`; or it is a static \
                           token of theirs, which has no user of its own. They act for the user that `Billing-User` \
                           names.";

/// What `routes` begins with.
#[derive(OpenApi)]
#[openapi(
    info(title = "token-billing"),
    servers((url = ".", description = "Where this document came from, also behind a proxy's prefix")),
    // A map names what is in it, which utoipa does not look up.
    components(schemas(Problem, ValidationError, WalletTokens)),
    tags(
        (name = "account", description = "What a user has, and had"),
        (name = "changes", description = "Each at most once under an `Idempotency-Key`"),
        (name = "service", description = "The same for everyone"),
        (name = "documentation", description = "What you are reading"),
    ),
)]
pub(super) struct Outline;

/// The finished document as JSON.
pub(super) fn finished(
    mut document: utoipa::openapi::OpenApi,
    authentication: &Authentication,
) -> Bytes {
    let with_tokens = !authentication.is_open();
    let about_operators = document.paths.paths.keys().any(|path| path.starts_with(PREFIX));
    for (path, item) in &mut document.paths.paths {
        let whom =
            if path.starts_with(PREFIX) { Whom::Operators } else { Whom::All { with_tokens } };
        item.get.iter_mut().for_each(|operation| complete(operation, whom));
        for operation in item.post.iter_mut().chain(&mut item.put).chain(&mut item.delete) {
            accept_keys(operation);
            complete(operation, whom);
        }
    }
    let components = document.components.get_or_insert_default();
    add_shared(components);
    if with_tokens || about_operators {
        let scheme = HttpBuilder::new()
            .scheme(HttpAuthScheme::Bearer)
            .bearer_format("JWT")
            .description(Some(WHO_LOGS_IN))
            .build();
        components.add_security_scheme(BEARER, SecurityScheme::Http(scheme));
    }
    Bytes::from(document.to_json().expect("the document has only text keys"))
}

/// Adds what a request can meet that counts under the rate limit.
pub(super) fn add_rate_limit(document: &mut utoipa::openapi::OpenApi) {
    for item in document.paths.paths.values_mut() {
        for operation in item.get.iter_mut().chain(&mut item.post) {
            let reference = RefOr::Ref(Ref::from_response_name(name("429")));
            operation.responses.responses.insert("429".to_owned(), reference);
        }
    }
}

/// For whom an endpoint is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Whom {
    /// For everybody, who may have to log in.
    All { with_tokens: bool },
    /// For operators, who always have to.
    Operators,
}

/// Adds what any request can meet, unless the endpoint says more of it itself.
fn complete(operation: &mut Operation, whom: Whom) {
    let mut shared = vec!["405", "413", "431", "500", "503"];
    // Whoever must say who it is has an account; what operators ask names it.
    if operation.security.is_some() && whom != Whom::Operators {
        let user = Ref::new(format!("#/components/parameters/{BILLING_USER}"));
        operation.parameters.get_or_insert_default().push(RefOr::Ref(user));
        shared.extend(["403", "422"]);
    }
    if whom == (Whom::All { with_tokens: false }) {
        operation.security = None;
    }
    let language = Ref::new(format!("#/components/parameters/{ACCEPT_LANGUAGE}"));
    operation.parameters.get_or_insert_default().push(RefOr::Ref(language));
    if operation.security.is_some() && whom != Whom::Operators {
        shared.push("401");
    }
    if operation.request_body.is_some() {
        shared.push("415");
    }
    let responses = &mut operation.responses.responses;
    for status in shared {
        let reference = RefOr::Ref(Ref::from_response_name(name(status)));
        responses.entry(status.to_owned()).or_insert(reference);
    }
    let limited = responses.contains_key("429");
    for (status, response) in responses {
        if let RefOr::T(response) = response {
            add_headers(status, response);
            if limited && status == "200" {
                add_rate_limit_headers(response, "\"user\";r=19;t=2");
            }
        }
    }
}

/// A POST may say which request it is.
fn accept_keys(operation: &mut Operation) {
    let reference = Ref::new(format!("#/components/parameters/{IDEMPOTENCY_KEY}"));
    operation.parameters.get_or_insert_default().push(RefOr::Ref(reference));
    let responses = &mut operation.responses.responses;
    responses.insert("422".to_owned(), RefOr::Ref(Ref::from_response_name("Unprocessable")));
    if let Some(RefOr::T(success)) = responses.get_mut("200") {
        let description = "`true` when this is what the key's first request was answered";
        let replayed = header(text().enum_values(Some(["true"])), description);
        success.headers.insert("Idempotency-Replayed".to_owned(), replayed);
    }
}

fn add_headers(status: &str, response: &mut Response) {
    let description =
        "The request's id: the client's own where it may stand in a log, else a new one";
    response.headers.insert("X-Request-Id".to_owned(), header(text(), description));
    if catalogue().any(|entry| entry.status.as_str() == status && entry.is_translated()) {
        let tags = text().enum_values(Some(Language::ALL.map(Language::tag)));
        let language = header(tags, "The language of a text that a person may read");
        response.headers.insert("Content-Language".to_owned(), language);
    }
    let (name, schema, description) = match status {
        "401" => ("WWW-Authenticate", text().enum_values(Some(["Bearer"])), "How to prove it"),
        "405" => ("Allow", text(), "The methods that the path has"),
        "429" | "503" => (
            "Retry-After",
            text().pattern(Some("^[0-9]+$")).examples([RETRY_AFTER_SECONDS.to_string()]),
            "Seconds until another try",
        ),
        _ => return,
    };
    response.headers.insert(name.to_owned(), header(schema, description));
}

/// Where there is no limit, neither is there one of these.
fn add_rate_limit_headers(response: &mut Response, left: &str) {
    let policy = "At most `q` requests at once, there again after `w` seconds";
    let standing =
        "`r` requests are left, which last `t` seconds at the rate that goes on for ever";
    for (name, example, description) in
        [("RateLimit-Policy", "\"user\";q=20;w=2", policy), ("RateLimit", left, standing)]
    {
        response.headers.insert(name.to_owned(), header(text().examples([example]), description));
    }
}

fn text() -> ObjectBuilder {
    ObjectBuilder::new().schema_type(Type::String)
}

fn header(schema: ObjectBuilder, description: &str) -> RefOr<Header> {
    let mut header = Header::new(schema);
    header.description = Some(description.to_owned());
    RefOr::T(header)
}

/// A shared answer's name.
fn name(status: &str) -> &'static str {
    match status {
        "401" => "Unauthorized",
        "403" => "Forbidden",
        "405" => "MethodNotAllowed",
        "413" => "BodyTooLarge",
        "415" => "UnsupportedMediaType",
        "422" => "UserUnnamed",
        "429" => "TooManyRequests",
        "431" => "HeadersTooLarge",
        "503" => "Unavailable",
        _ => "InternalError",
    }
}

fn add_shared(components: &mut Components) {
    let key = ParameterBuilder::new()
        .name("Idempotency-Key")
        .parameter_in(ParameterIn::Header)
        .required(Required::False)
        .description(Some("Names this request among the user's; repeated, it changes nothing"))
        .schema(Some(idempotency_key()))
        .example(Some(json!("chat-42")))
        .build();
    components.parameters.insert(IDEMPOTENCY_KEY.to_owned(), RefOr::T(key));

    let user = ParameterBuilder::new()
        .name("Billing-User")
        .parameter_in(ParameterIn::Header)
        .required(Required::False)
        .description(Some(
            "Whose account it is, of a backend or an operator: a user's name of at most 128 characters, \
             percent-encoded UTF-8 where it isn't visible ASCII. Without it a token acts for its own user; a \
             static one has none and must name one. An app may name its own user only",
        ))
        .schema(Some(billing_user()))
        .example(Some(json!("user-42")))
        .build();
    components.parameters.insert(BILLING_USER.to_owned(), RefOr::T(user));

    let language = ParameterBuilder::new()
        .name("Accept-Language")
        .parameter_in(ParameterIn::Header)
        .required(Required::False)
        .description(Some(
            "The language of texts for people: Japanese or English, the better of the two",
        ))
        .schema(Some(text()))
        .build();
    components.parameters.insert(ACCEPT_LANGUAGE.to_owned(), RefOr::T(language));

    for (name, schema) in errors() {
        components.schemas.insert(name.to_owned(), schema);
    }
    let too_much = format!("The body has more than {BODY_LIMIT_BYTES} bytes.");
    let long_head = format!("The headers have more than {HEADER_LIMIT_BYTES} bytes.");
    for (status, description) in [
        ("401", "No token, or one that proves nothing."),
        ("405", "The path has other methods."),
        ("413", &too_much),
        ("415", "The body is not called `application/json`."),
        ("429", "More requests than the rate limit allows, where there is one. Nothing was done."),
        ("431", &long_head),
        ("500", "A bug. The log has the cause under the request's id."),
        ("503", "Not now; the same request may pass later."),
    ] {
        let is_one = |entry: &Entry| entry.status.as_str() == status && !entry.has_fields();
        add(components, name(status), status, code::response(description, is_one));
    }
    let forbidden = "The account is another's, or this kind of login is not enough.";
    let is_forbidden = |entry: &Entry| entry.code == Some("forbidden");
    add(components, name("403"), "403", code::response(forbidden, is_forbidden));
    let mut problems = Content::new(Some(Ref::from_schema_name("Unprocessable")));
    problems.example = Some(json!({"detail": [Problem::missing(vec![Step::from("body")])]}));
    let malformed = "Malformed, or the `Idempotency-Key` can't be used. Every problem is listed.";
    let malformed = ResponseBuilder::new().description(malformed).content(JSON, problems).build();
    add(components, "Unprocessable", "422", malformed);
    let mut problems = Content::new(Some(Ref::from_schema_name(ValidationError::name())));
    let loc = ["header", "billing-user"].map(Step::from).to_vec();
    problems.example = Some(json!({"detail": [Problem::missing(loc)]}));
    let unnamed = "The `Billing-User` header is malformed, or must be there.";
    let unnamed = ResponseBuilder::new().description(unnamed).content(JSON, problems).build();
    add(components, name("422"), "422", unnamed);
}

fn add(components: &mut Components, name: &str, status: &str, mut response: Response) {
    add_headers(status, &mut response);
    if status == "429" {
        add_rate_limit_headers(&mut response, "\"user\";r=0;t=1");
    }
    components.responses.insert(name.to_owned(), RefOr::T(response));
}
