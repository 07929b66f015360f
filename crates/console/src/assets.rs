//! The pages: files that Vite has built, embedded as gzip, and the headers that keep other sites' scripts out.
//!
//! Every path that names no file is a view of the one page. Files below `assets/` carry a digest in their name and are kept
//! by browsers for a year; the page itself is asked for again each time.

use std::io::Read;

use bytes::Bytes;
use flate2::read::GzDecoder;
use http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use serve::{Body, body};
use sha2::{Digest, Sha256};

include!(concat!(env!("OUT_DIR"), "/embedded.rs"));

/// What stands where no pages were built.
const MISSING: &str = "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>Madang</title>\
<h1>This program was built without its console</h1>\
<p>Build the pages with <code>cargo xtask ui</code>, then build the program again.</p></html>";

/// Scripts only from here and none inline, no request to another host, in nobody's frame. Styles may be inline: the terminal
/// and the editor make theirs while they run.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; \
font-src 'self'; connect-src 'self'; manifest-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// The file at `path`, or the page.
pub fn answer(path: &str, headers: &HeaderMap) -> Response<Body> {
    let wanted = path.trim_start_matches('/');
    let find = |name: &str| ASSETS.iter().find(|(own, _)| *own == name).copied();
    let Some((name, zipped)) = find(wanted).or_else(|| find("index.html").filter(|_| !is_file(wanted))) else {
        let (status, text) = match ASSETS {
            [] => (StatusCode::OK, MISSING),
            _ => (StatusCode::NOT_FOUND, "<!doctype html><title>Not found</title>There is no such file."),
        };
        return page(status, "text/html; charset=utf-8", Bytes::from_static(text.as_bytes()));
    };
    let tag = tag(zipped);
    if headers.get(header::IF_NONE_MATCH).is_some_and(|known| known.as_bytes() == tag.as_bytes()) {
        let mut response = page(StatusCode::NOT_MODIFIED, kind(name), Bytes::new());
        put(&mut response, header::ETAG, &tag);
        return response;
    }
    let takes = |value: &HeaderValue| value.to_str().is_ok_and(|text| text.contains("gzip"));
    let zips = headers.get_all(header::ACCEPT_ENCODING).iter().any(takes);
    let mut response = match zips {
        true => page(StatusCode::OK, kind(name), Bytes::from_static(zipped)),
        false => {
            let mut plain = Vec::new();
            if let Err(error) = GzDecoder::new(zipped).read_to_end(&mut plain) {
                tracing::error!(%error, name, "embedded file is damaged");
            }
            page(StatusCode::OK, kind(name), plain.into())
        }
    };
    if zips {
        put(&mut response, header::CONTENT_ENCODING, "gzip");
    }
    put(&mut response, header::VARY, "accept-encoding");
    put(&mut response, header::ETAG, &tag);
    if name.starts_with("assets/") {
        put(&mut response, header::CACHE_CONTROL, "public, max-age=31536000, immutable");
    }
    response
}

/// Whether a path names a file rather than a view: views have no dot in their last part, but names of objects may.
fn is_file(path: &str) -> bool {
    path.starts_with("assets/") || (!path.contains('/') && path.contains('.'))
}

fn tag(bytes: &[u8]) -> String {
    let digest = Sha256::digest(bytes);
    format!("\"{}\"", digest[..8].iter().map(|byte| format!("{byte:02x}")).collect::<String>())
}

fn page(status: StatusCode, kind: &'static str, bytes: Bytes) -> Response<Body> {
    let mut response = Response::new(body::full(bytes));
    *response.status_mut() = status;
    put(&mut response, header::CONTENT_TYPE, kind);
    put(&mut response, header::CACHE_CONTROL, "no-cache");
    put(&mut response, header::CONTENT_SECURITY_POLICY, POLICY);
    put(&mut response, header::X_CONTENT_TYPE_OPTIONS, "nosniff");
    put(&mut response, header::REFERRER_POLICY, "no-referrer");
    put(&mut response, header::X_FRAME_OPTIONS, "DENY");
    response
}

fn put(response: &mut Response<Body>, name: header::HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        response.headers_mut().insert(name, value);
    }
}

fn kind(name: &str) -> &'static str {
    match name.rsplit('.').next().unwrap_or_default() {
        "html" => "text/html; charset=utf-8",
        "js" => "text/javascript; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "svg" => "image/svg+xml",
        "png" => "image/png",
        "json" | "webmanifest" => "application/json",
        _ => "application/octet-stream",
    }
}
