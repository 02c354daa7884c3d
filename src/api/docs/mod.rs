//! `/openapi.json`, and Swagger UI at `/docs` to read and try it. Everything comes out of the binary.

mod archive;

use std::{
    collections::HashMap,
    sync::{Arc, LazyLock},
};

use axum::{
    extract::{Path, State, rejection::PathRejection},
    http::{HeaderMap, HeaderName, Uri, header},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use utoipa::{
    IntoParams,
    openapi::{
        OpenApi, Required,
        path::{Parameter, ParameterBuilder, ParameterIn},
    },
};
use utoipa_axum::{router::OpenApiRouter, routes};
use utoipa_swagger_ui_vendored::SWAGGER_UI_VENDORED;

use super::{code::refusals, description::one_of, document::finished, error::ApiError};
use crate::http::Admission;

const JAVASCRIPT: &str = "text/javascript; charset=utf-8";
const STARTER: &str = "swagger-initializer.js";
/// What of Swagger UI the page needs, with its type.
const FROM_ARCHIVE: [(&str, &str); 3] = [
    ("swagger-ui-bundle.js", JAVASCRIPT),
    ("swagger-ui.css", "text/css; charset=utf-8"),
    ("favicon-32x32.png", "image/png"),
];
/// Nothing of another host, whatever a future Swagger UI would like to load. It styles itself inline.
const POLICY: (HeaderName, &str) = (
    header::CONTENT_SECURITY_POLICY,
    "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; object-src 'none'; \
     base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
);

/// Unpacked when the page is first looked at: most services are started without it.
static ASSETS: LazyLock<HashMap<&str, (&str, Bytes)>> = LazyLock::new(assets);

/// The document as it is sent: to everybody, and to operators who ask for theirs.
#[derive(Debug, Clone)]
pub(super) struct Document {
    public: Bytes,
    operators: Bytes,
    admission: Arc<Admission>,
}

impl Document {
    /// What everybody may know, and what only operators do.
    pub(super) fn new(
        public: OpenApi,
        about_operators: OpenApi,
        admission: Arc<Admission>,
    ) -> Self {
        let mut operators = public.clone();
        operators.merge(about_operators);
        let [public, operators] =
            [public, operators].map(|document| finished(document, admission.authentication()));
        Self { public, operators, admission }
    }
}

/// The assets' path, as the document shows it.
struct AssetPath;

impl IntoParams for AssetPath {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        let names = FROM_ARCHIVE.iter().map(|(name, _)| *name).chain([STARTER]);
        let parameter = ParameterBuilder::new()
            .name("file")
            .parameter_in(ParameterIn::Path)
            .required(Required::True)
            .schema(Some(one_of(names)));
        vec![parameter.build()]
    }
}

/// Both addresses, and the page's assets.
pub(super) fn routes() -> OpenApiRouter<Document> {
    OpenApiRouter::new().routes(routes!(openapi)).routes(routes!(page)).routes(routes!(asset))
}

fn assets() -> HashMap<&'static str, (&'static str, Bytes)> {
    let mut assets = HashMap::from([(
        STARTER,
        (JAVASCRIPT, Bytes::from_static(include_bytes!("swagger-initializer.js"))),
    )]);
    for (name, media_type) in FROM_ARCHIVE {
        let end = format!("/dist/{name}");
        let bytes = archive::file(SWAGGER_UI_VENDORED, &end).expect("Swagger UI has this file");
        assets.insert(name, (media_type, Bytes::from(bytes)));
    }
    assets
}

/// This document
#[utoipa::path(
    get, path = "/openapi.json", tag = "documentation",
    responses((status = 200, description = "The API as OpenAPI 3.1.", body = serde_json::Value)),
)]
async fn openapi(State(document): State<Document>, uri: Uri, headers: HeaderMap) -> Response {
    let Document { public, operators, admission } = document;
    let mut asked = form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes());
    // To whoever is no operator the parameter means nothing.
    let document = if asked.any(|(name, value)| name == "role" && value == "operator")
        && admission.operator(&headers, &axum::http::Extensions::new()).await.is_some()
    {
        operators
    } else {
        public
    };
    ([(header::CONTENT_TYPE, "application/json")], document).into_response()
}

/// The page to read it on
#[utoipa::path(
    get, path = "/docs", tag = "documentation",
    responses((status = 200, description = "Swagger UI.", body = String, content_type = "text/html")),
)]
async fn page() -> Response {
    let html = include_str!("index.html");
    ([(header::CONTENT_TYPE, "text/html; charset=utf-8"), POLICY], html).into_response()
}

refusals!(NoSuchFile, "The page has no such file.", ["Not Found"]);

/// A file that the page loads
#[utoipa::path(
    get, path = "/docs/{file}", tag = "documentation", params(AssetPath),
    responses(
        (status = 200, description = "The file.", content(
            (String = "text/javascript"), (String = "text/css"), (Vec<u8> = "image/png"),
        )),
        NoSuchFile,
    ),
)]
async fn asset(file: Result<Path<String>, PathRejection>) -> Result<Response, ApiError> {
    // Unpacking takes a while, and requests share the threads.
    let assets = tokio::task::spawn_blocking(|| &*ASSETS)
        .await
        .map_err(|error| ApiError::Internal(error.to_string()))?;
    let (media_type, bytes) =
        file.ok().and_then(|Path(file)| assets.get(file.as_str())).ok_or(ApiError::NotFound)?;
    Ok(([(header::CONTENT_TYPE, *media_type)], bytes.clone()).into_response())
}
