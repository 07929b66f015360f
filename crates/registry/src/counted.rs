//! `/metrics`: what is asked and answered, under the names that distribution's registry gives it, and what is kept.
//! <https://distribution.github.io/distribution/about/configuration/#prometheus>

use std::time::Instant;

use counts::{
    counter::{Counts, USUAL},
    page::{self, Page},
    process,
};
use http::{Method, Response, StatusCode, header, request::Parts};
use http_body::Body as _;
use serve::{Body, body};

use crate::{Registry, route::Route};

/// Upper bounds of sizes: a kibibyte, doubled, in bytes.
const SIZES: &[f64] = &[
    1024.0,
    4096.0,
    16384.0,
    65536.0,
    262_144.0,
    1_048_576.0,
    4_194_304.0,
    16_777_216.0,
    67_108_864.0,
    268_435_456.0,
    1_073_741_824.0,
    4_294_967_296.0,
];

/// One request, from when it came until it was answered.
pub(crate) struct Counted<'a> {
    counts: &'a Counts,
    handler: &'static str,
    method: &'static str,
    size: f64,
    since: Instant,
}

impl<'a> Counted<'a> {
    /// Begins to count a request.
    pub fn begin(counts: &'a Counts, request: &Parts) -> Self {
        let handler = match Route::parse(request.uri.path()) {
            Ok(Route::Root) => "base",
            Ok(Route::Token) => "token",
            Ok(Route::Metrics) => "metrics",
            Ok(Route::Catalog) => "catalog",
            Ok(Route::Tags(_)) => "tags",
            Ok(Route::Manifest(..)) => "manifest",
            Ok(Route::Blob(..)) => "blob",
            Ok(Route::Uploads(_)) => "blob_upload",
            Ok(Route::Upload(..)) => "blob_upload_chunk",
            Ok(Route::Referrers(..)) => "referrers",
            Err(_) => "none",
        };
        // Methods are the client's text: only those that mean something become series.
        let method = match request.method {
            Method::GET => "get",
            Method::HEAD => "head",
            Method::PUT => "put",
            Method::POST => "post",
            Method::PATCH => "patch",
            Method::DELETE => "delete",
            _ => "other",
        };
        counts.change_by("registry_http_in_flight_requests", &[("handler", handler)], 1.0);
        let size = request.headers.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
        Self { counts, handler, method, size: size.unwrap_or(0.0), since: Instant::now() }
    }

    /// Counts what it was answered with. The body of the answer may still be on its way.
    pub fn answered(self, response: &Response<Body>) {
        let (handler, method) = (("handler", self.handler), ("method", self.method));
        let status = response.status().as_str().to_owned();
        self.counts.add("registry_http_requests_total", &[("code", &status), handler, method]);
        let labels = [handler, method];
        let took = self.since.elapsed().as_secs_f64();
        self.counts.observe("registry_http_request_duration_seconds", USUAL, &labels, took);
        self.counts.observe("registry_http_request_size_bytes", SIZES, &[handler], self.size);
        let announced =
            response.headers().get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
        let size = announced.or_else(|| response.body().size_hint().exact().map(|size| size as f64));
        if let Some(size) = size.filter(|_| self.method != "head") {
            self.counts.observe("registry_http_response_size_bytes", SIZES, &[handler], size);
        }
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        // Also where nobody waits for the answer any more.
        self.counts.change_by("registry_http_in_flight_requests", &[("handler", self.handler)], -1.0);
    }
}

/// Counts that a document of another registry was asked for, and whether it was here.
pub(crate) fn copy(counts: &Counts, kind: &'static str, here: bool) {
    let labels = [("type", kind)];
    counts.add("registry_proxy_requests_total", &labels);
    counts.add(if here { "registry_proxy_hits_total" } else { "registry_proxy_misses_total" }, &labels);
}

/// The page.
pub(crate) fn page(registry: &Registry) -> Response<Body> {
    let mut page = Page::default();
    registry.0.counts.write(&mut page, "registry_");
    {
        let state = registry.0.index.state();
        let (mut manifests, mut tags) = (0, 0);
        for repository in state.repositories.values() {
            manifests += repository.manifests.len();
            tags += repository.tags.len();
        }
        page.gauge("madang_registry_repositories", &[], state.repositories.len());
        page.gauge("madang_registry_manifests", &[], manifests);
        page.gauge("madang_registry_tags", &[], tags);
    }
    process::write(&mut page);
    let mut response = Response::new(body::full(page.text()));
    *response.status_mut() = StatusCode::OK;
    response.headers_mut().insert(header::CONTENT_TYPE, http::HeaderValue::from_static(page::MEDIA_TYPE));
    response
}
