//! What pages load besides themselves: part of the program, under names that change with what is in them, so that
//! browsers need not ask twice.

use std::{collections::HashMap, io::Write, sync::LazyLock};

use axum::{
    extract::{Path, rejection::PathRejection},
    http::{HeaderMap, HeaderName, HeaderValue, header},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use flate2::{Compression, write::GzEncoder};
use sha2::{Digest, Sha256};

use super::failure::Failure;

const CSS: &str = "text/css; charset=utf-8";
const JAVASCRIPT: &str = "text/javascript; charset=utf-8";
const SVG: &str = "image/svg+xml";
/// Bytes of the hash that a name shows.
const HASH_BYTES: usize = 8;
/// A year: what is under such a name never changes.
const FOREVER: (HeaderName, &str) = (header::CACHE_CONTROL, "public, max-age=31536000, immutable");

/// The addresses of the assets.
#[derive(Debug)]
pub(super) struct Assets {
    pub(super) style: String,
    pub(super) htmx: String,
    pub(super) chart: String,
    pub(super) script: String,
    pub(super) icon: String,
    files: HashMap<String, File>,
}

#[derive(Debug)]
struct File {
    kind: &'static str,
    plain: Bytes,
    packed: Bytes,
}

/// Packed when the first page is looked at: most services are started without them.
pub(super) static ASSETS: LazyLock<Assets> = LazyLock::new(|| {
    let mut files = HashMap::new();
    let mut add = |name: &str, end: &str, kind, contents: &[&'static str]| {
        let plain = contents.concat();
        let file = format!("{name}.{}.{end}", hash(plain.as_bytes()));
        let address = format!("/assets/{file}");
        let packed = packed(plain.as_bytes());
        files.insert(file, File { kind, plain: Bytes::from(plain), packed });
        address
    };
    let style =
        [include_str!("assets/vendor/uplot-1.6.32.min.css"), include_str!("assets/pages.css")];
    Assets {
        style: add("pages", "css", CSS, &style),
        htmx: add("htmx", "js", JAVASCRIPT, &[include_str!("assets/vendor/htmx-2.0.11.min.js")]),
        chart: add("uplot", "js", JAVASCRIPT, &[include_str!("assets/vendor/uplot-1.6.32.min.js")]),
        script: add("pages", "js", JAVASCRIPT, &[include_str!("assets/pages.js")]),
        icon: add("icon", "svg", SVG, &[include_str!("assets/icon.svg")]),
        files,
    }
});

fn hash(contents: &[u8]) -> String {
    let digest = Sha256::digest(contents);
    let mut start = [0; HASH_BYTES];
    start.copy_from_slice(&digest[..HASH_BYTES]);
    format!("{:016x}", u64::from_be_bytes(start))
}

fn packed(contents: &[u8]) -> Bytes {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    let written = encoder.write_all(contents).and_then(|()| encoder.finish());
    Bytes::from(written.expect("memory can be written to"))
}

/// An asset. It tells nothing about the service, so it needs no session: the login shows some.
pub(super) async fn asset(
    file: Result<Path<String>, PathRejection>,
    headers: HeaderMap,
) -> Result<Response, Failure> {
    let file = file.ok().and_then(|Path(name)| ASSETS.files.get(&name)).ok_or(Failure::NotFound)?;
    let accepted = headers.get(header::ACCEPT_ENCODING).and_then(|value| value.to_str().ok());
    let takes_gzip = accepted.is_some_and(|accepted| {
        accepted.split(',').any(|coding| coding.trim().eq_ignore_ascii_case("gzip"))
    });
    let kind = (header::CONTENT_TYPE, file.kind);
    let body = if takes_gzip { file.packed.clone() } else { file.plain.clone() };
    let mut response = ([kind, FOREVER], body).into_response();
    let headers = response.headers_mut();
    headers.insert(header::VARY, HeaderValue::from_static("accept-encoding"));
    if takes_gzip {
        headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    }
    Ok(response)
}
