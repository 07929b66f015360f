//! Paths that name no resource: health, version, discovery, OpenAPI, metrics, the index, token discovery.

use std::sync::Arc;

use api::status::Status;
use http::{HeaderValue, Method, Response, header};
use serde_json::json;
use serve::{body, body::Body};

use crate::{call::Call, discovery, encode, openapi, server::Server};

/// The version of the API that is served.
pub const VERSION: (&str, &str, &str) = ("1", "37", "v1.37.1");

/// Checks of the health endpoints; each is one path below them.
const CHECKS: [&str; 6] =
    ["ping", "log", "etcd", "informer-sync", "poststarthook/rbac/bootstrap-roles", "poststarthook/crd-informer-synced"];

/// Answers them all.
pub async fn answer(server: &Arc<Server>, call: &Call) -> Result<Response<Body>, Status> {
    let path = call.info.path.as_str();
    let trimmed = path.trim_end_matches('/');
    if !matches!(call.parts.method, Method::GET | Method::HEAD) {
        return Err(Status::method_not_allowed());
    }
    if let Some(response) = health(server, call, trimmed).await {
        return Ok(response);
    }
    if let Some(response) = discovery::answer(server, call, trimmed)? {
        return Ok(response);
    }
    if let Some(response) = openapi::answer(server, call, trimmed)? {
        return Ok(response);
    }
    if let Some(write) = trimmed.strip_prefix("/metrics/").and_then(|name| server.config.pages.0.get(name)) {
        return Ok(page(call, write().await));
    }
    match trimmed {
        "" => Ok(index(server, call)),
        "/version" => {
            let (major, minor, version) = VERSION;
            let value = json!({
                "major": major, "minor": minor, "emulationMajor": major, "emulationMinor": minor,
                "minCompatibilityMajor": major, "minCompatibilityMinor": "36",
                "gitVersion": version, "gitCommit": "", "gitTreeState": "clean", "buildDate": "1970-01-01T00:00:00Z",
                "goVersion": "", "compiler": "rustc", "platform": format!("linux/{}", architecture()),
            });
            Ok(call.answer(200, json_type(), encode::json(&value, true)))
        }
        "/metrics" => {
            let registry = server.feed.registry();
            let objects = registry.stored().filter_map(|resource| {
                let name = resource.versions.first()?.kind.resource().to_string();
                Some((name, resource.cache.len()))
            });
            let mut objects: Vec<_> = objects.collect();
            objects.sort();
            let apis = server.aggregator.all(server);
            // Those that are served here always answer.
            let own = registry.stored().flat_map(|resource| &resource.versions);
            let own = own.map(|served| (format!("{}.{}", served.kind.version, served.kind.group), true));
            let others = apis.iter().map(|api| (api.name.clone(), api.available));
            let apis: std::collections::BTreeMap<_, _> = own.chain(others).collect();
            let apis: Vec<_> = apis.into_iter().collect();
            Ok(page(call, server.metrics.page(&objects, &apis)))
        }
        "/.well-known/openid-configuration" => {
            let value = server.tokens.configuration(&server.config);
            Ok(cached(call.answer(200, json_type(), encode::json(&value, false))))
        }
        "/openid/v1/jwks" => {
            let kind = HeaderValue::from_static("application/jwk-set+json");
            Ok(cached(call.answer(200, kind, encode::json(&server.tokens.key_set(), false))))
        }
        _ => Err(Status::no_such_resource()),
    }
}

fn page(call: &Call, page: counts::page::Page) -> Response<Body> {
    call.answer(200, HeaderValue::from_static(counts::page::MEDIA_TYPE), page.text().into())
}

fn json_type() -> HeaderValue {
    HeaderValue::from_static("application/json")
}

fn cached(mut response: Response<Body>) -> Response<Body> {
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("public, max-age=3600"));
    response
}

/// The machine as Go calls it.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

async fn health(server: &Server, call: &Call, path: &str) -> Option<Response<Body>> {
    let mut parts = path.trim_start_matches('/').splitn(2, '/');
    let endpoint = parts.next().filter(|name| matches!(*name, "healthz" | "livez" | "readyz"))?;
    let check = parts.next();
    let store = server.feed.store().revision().await.is_ok();
    let works = |name: &str| match name {
        "etcd" => store,
        "informer-sync" => endpoint == "livez" || server.is_ready(),
        _ => true,
    };
    let text = HeaderValue::from_static("text/plain; charset=utf-8");
    let mut response = match check {
        Some(check) if CHECKS.contains(&check) => {
            let (code, body) = if works(check) { (200, "ok") } else { (500, "internal server error: failed") };
            call.answer(code, text, body.into())
        }
        Some(_) => return None,
        None => {
            let excluded: Vec<&str> = call.query.all("exclude").collect();
            let failed = CHECKS.iter().any(|name| !excluded.contains(name) && !works(name));
            let verbose = call.query.get("verbose").is_some();
            let mut body = String::new();
            if failed || verbose {
                for name in CHECKS {
                    body.push_str(&match (excluded.contains(&name), works(name)) {
                        (true, _) => format!("[+]{name} excluded: ok\n"),
                        (false, true) => format!("[+]{name} ok\n"),
                        (false, false) => format!("[-]{name} failed: reason withheld\n"),
                    });
                }
                body.push_str(&format!("{endpoint} check {}\n", if failed { "failed" } else { "passed" }));
            } else {
                body.push_str("ok");
            }
            call.answer(if failed { 500 } else { 200 }, text, body.into())
        }
    };
    response.headers_mut().insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    Some(response)
}

fn index(server: &Server, call: &Call) -> Response<Body> {
    let mut paths: Vec<String> =
        ["/.well-known/openid-configuration", "/api", "/api/v1", "/apis"].map(str::to_owned).into();
    for (group, versions) in discovery::groups(&server.feed.registry()) {
        if group.is_empty() {
            continue;
        }
        paths.push(format!("/apis/{group}"));
        paths.extend(versions.iter().map(|version| format!("/apis/{group}/{version}")));
    }
    for endpoint in ["healthz", "livez", "readyz"] {
        paths.push(format!("/{endpoint}"));
        paths.extend(CHECKS.iter().map(|check| format!("/{endpoint}/{check}")));
    }
    paths.extend(["/metrics", "/openapi/v2", "/openapi/v3", "/openid/v1/jwks", "/version"].map(str::to_owned));
    paths.sort();
    let mut response = Response::new(body::full(encode::json(&json!({ "paths": paths }), true)));
    response.headers_mut().insert(header::CONTENT_TYPE, json_type());
    call.decorate(&mut response);
    response
}
