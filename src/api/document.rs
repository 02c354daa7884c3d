//! What all endpoints have in common, added to what each says of itself in `routes`: the errors any
//! request can meet, the headers of every answer, who may ask.

use bytes::Bytes;
use serde_json::json;
use utoipa::{
    OpenApi,
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
    problem::{Problem, Step},
    schemas::{ValidationError, errors, idempotency_key},
};
use crate::http::{Authentication, BODY_LIMIT_BYTES, HEADER_LIMIT_BYTES};

/// The security scheme's name in the document.
const BEARER: &str = "bearer";
const IDEMPOTENCY_KEY: &str = "IdempotencyKey";
const ACCEPT_LANGUAGE: &str = "AcceptLanguage";
const JSON: &str = "application/json";

/// What `routes` begins with.
#[derive(OpenApi)]
#[openapi(
    info(title = "token-billing"),
    servers((url = ".", description = "Where this document came from, also behind a proxy's prefix")),
    components(schemas(Problem, ValidationError)),
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
    let with_tokens = !matches!(authentication, Authentication::None);
    for item in document.paths.paths.values_mut() {
        item.get.iter_mut().for_each(|operation| complete(operation, with_tokens));
        item.post.iter_mut().for_each(|operation| {
            accept_keys(operation);
            complete(operation, with_tokens);
        });
    }
    let components = document.components.get_or_insert_default();
    add_shared(components);
    if with_tokens {
        let scheme = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).bearer_format("JWT").build();
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

/// Adds what any request can meet, unless the endpoint says more of it itself.
fn complete(operation: &mut Operation, with_tokens: bool) {
    if !with_tokens {
        operation.security = None;
    }
    let language = Ref::new(format!("#/components/parameters/{ACCEPT_LANGUAGE}"));
    operation.parameters.get_or_insert_default().push(RefOr::Ref(language));
    let mut shared = vec!["405", "413", "431", "500", "503"];
    if operation.security.is_some() {
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
    let malformed = if operation.request_body.is_some() { "Unprocessable" } else { "UnusableKey" };
    let responses = &mut operation.responses.responses;
    responses.insert("422".to_owned(), RefOr::Ref(Ref::from_response_name(malformed)));
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
        "405" => "MethodNotAllowed",
        "413" => "BodyTooLarge",
        "415" => "UnsupportedMediaType",
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
    let bad_key = "The `Idempotency-Key` is malformed, or was used for another request.";
    let is_of_key = |entry: &Entry| entry.status.as_str() == "422";
    add(components, "UnusableKey", "422", code::response(bad_key, is_of_key));
    let mut problems = Content::new(Some(Ref::from_schema_name("Unprocessable")));
    problems.example = Some(json!({"detail": [Problem::missing(vec![Step::from("body")])]}));
    let malformed = "Malformed, or the `Idempotency-Key` can't be used. Every problem is listed.";
    let malformed = ResponseBuilder::new().description(malformed).content(JSON, problems).build();
    add(components, "Unprocessable", "422", malformed);
}

fn add(components: &mut Components, name: &str, status: &str, mut response: Response) {
    add_headers(status, &mut response);
    if status == "429" {
        add_rate_limit_headers(&mut response, "\"user\";r=0;t=1");
    }
    components.responses.insert(name.to_owned(), RefOr::T(response));
}
