//! Blobs in a bucket, with a server that does as much of S3 as the registry asks for.

use std::{
    collections::BTreeMap,
    path::Path,
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::BodyExt;
use image::{
    content::{Content, Options},
    pull::Pull,
};
use oci::Digest;
use registry::{
    auth::Door,
    blobs::{Blobs, bucket::Bucket},
    cache::Cache,
};
use serve::{Body, body};
use task::Task;
use tokio::net::TcpListener;

use crate::server::{Server, bytes};

/// What the bucket `images` holds, and the uploads in parts under way.
#[derive(Default)]
struct Held {
    objects: BTreeMap<String, Bytes>,
    uploads: BTreeMap<String, BTreeMap<u32, Bytes>>,
    /// Requests of this method fail from now on.
    broken: Option<Method>,
    parts: usize,
}

type Shared = Arc<Mutex<Held>>;

fn xml(text: String) -> Response<Body> {
    Response::builder().header(header::CONTENT_TYPE, "application/xml").body(body::full(text)).unwrap()
}

fn status(status: StatusCode) -> Response<Body> {
    Response::builder().status(status).body(body::empty()).unwrap()
}

fn object(content: &Bytes, range: Option<&str>) -> Response<Body> {
    let whole = 0..content.len();
    let range = range.and_then(|range| {
        let (first, last) = range.strip_prefix("bytes=")?.split_once('-')?;
        Some(first.parse().ok()?..(last.parse::<usize>().ok()? + 1).min(content.len()))
    });
    let mut response =
        Response::builder().header(header::ETAG, "\"e\"").header("last-modified", "Sat, 21 Nov 2026 10:00:00 GMT");
    if let Some(range) = &range {
        let of = format!("bytes {}-{}/{}", range.start, range.end - 1, content.len());
        response = response.status(StatusCode::PARTIAL_CONTENT).header(header::CONTENT_RANGE, of);
    }
    let range = range.unwrap_or(whole);
    response.header(header::CONTENT_LENGTH, range.len()).body(body::full(content.slice(range))).unwrap()
}

async fn answer(held: Shared, request: Request<Body>) -> Response<Body> {
    let (parts, content) = request.into_parts();
    let content = content.collect().await.unwrap().to_bytes();
    let signed = parts.headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if !signed.starts_with("AWS4-HMAC-SHA256 Credential=key/") {
        return status(StatusCode::FORBIDDEN);
    }
    let query: BTreeMap<String, String> = parts
        .uri
        .query()
        .unwrap_or_default()
        .split('&')
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
        .map(|(key, value)| (key.to_owned(), value.replace("%2F", "/").replace("%3A", ":")))
        .collect();
    let Some(key) = parts.uri.path().strip_prefix("/images") else { return status(StatusCode::NOT_FOUND) };
    let key = key.trim_start_matches('/').to_owned();
    let mut held = held.lock().unwrap();
    if held.broken.as_ref() == Some(&parts.method) {
        return status(StatusCode::FORBIDDEN);
    }
    let upload = query.get("uploadId").cloned();
    match (&parts.method, upload) {
        (&Method::GET, _) if key.is_empty() => {
            let prefix = query.get("prefix").cloned().unwrap_or_default();
            let found = held.objects.iter().filter(|(key, _)| key.starts_with(&prefix));
            let contents: String = found
                .map(|(key, content)| {
                    format!(
                        "<Contents><Key>{key}</Key><Size>{}</Size><LastModified>2026-11-21T10:00:00.000Z</LastModified>\
                         <ETag>e</ETag></Contents>",
                        content.len()
                    )
                })
                .collect();
            xml(format!("<ListBucketResult><IsTruncated>false</IsTruncated>{contents}</ListBucketResult>"))
        }
        (&Method::GET | &Method::HEAD, _) => match held.objects.get(&key) {
            None => status(StatusCode::NOT_FOUND),
            Some(content) => {
                let range = parts.headers.get(header::RANGE).and_then(|range| range.to_str().ok());
                let mut response = object(content, range);
                if parts.method == Method::HEAD {
                    *response.body_mut() = body::empty();
                }
                response
            }
        },
        (&Method::POST, None) => {
            let id = format!("upload{}", held.uploads.len());
            held.uploads.insert(id.clone(), BTreeMap::new());
            xml(format!(
                "<InitiateMultipartUploadResult><Bucket>images</Bucket><Key>{key}</Key><UploadId>{id}</UploadId>\
                 </InitiateMultipartUploadResult>"
            ))
        }
        (&Method::PUT, Some(id)) => {
            let number = query["partNumber"].parse().unwrap();
            held.parts += 1;
            held.uploads.get_mut(&id).unwrap().insert(number, content);
            let mut response = status(StatusCode::OK);
            response.headers_mut().insert(header::ETAG, format!("\"{number}\"").parse().unwrap());
            response
        }
        (&Method::POST, Some(id)) => {
            let whole: Vec<u8> = held.uploads.remove(&id).unwrap().into_values().flatten().collect();
            held.objects.insert(key.clone(), whole.into());
            xml(format!(
                "<CompleteMultipartUploadResult><Bucket>images</Bucket><Key>{key}</Key><ETag>\"e\"</ETag>\
                 </CompleteMultipartUploadResult>"
            ))
        }
        (&Method::DELETE, Some(id)) => {
            held.uploads.remove(&id);
            status(StatusCode::NO_CONTENT)
        }
        (&Method::PUT, None) => {
            held.objects.insert(key, content);
            let mut response = status(StatusCode::OK);
            response.headers_mut().insert(header::ETAG, "\"e\"".parse().unwrap());
            response
        }
        (&Method::DELETE, None) => {
            held.objects.remove(&key);
            status(StatusCode::NO_CONTENT)
        }
        _ => status(StatusCode::METHOD_NOT_ALLOWED),
    }
}

struct Place {
    held: Shared,
    endpoint: String,
    task: Task,
}

async fn bucket() -> Place {
    let (task, held) = (Task::root("s3"), Shared::default());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let shared = held.clone();
    let handler = move |request| answer(shared.clone(), request);
    task.spawn("s3", serve::http::serve(task.clone(), listener, None, Default::default(), handler));
    Place { held, endpoint, task }
}

async fn registry(dir: &Path, place: &Place, grace: Duration) -> Server {
    let staging = Content::open(&dir.join("content"), Options::default()).await.unwrap();
    let settings = [
        ("aws_endpoint", place.endpoint.as_str()),
        ("aws_access_key_id", "key"),
        ("aws_secret_access_key", "secret"),
        ("aws_region", "here"),
    ];
    let settings = settings.map(|(key, value)| (key.to_owned(), value.to_owned()));
    let bucket = Bucket::open(&"s3://images/of/tests".parse().unwrap(), &settings, &Pull::default(), staging).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    Server::over(dir, grace, Door::open(), Cache::default(), Blobs::Bucket(bucket), listener).await
}

fn key(digest: &Digest) -> String {
    format!("of/tests/blobs/sha256/{}", digest.hex())
}

#[tokio::test(flavor = "multi_thread")]
async fn images_are_kept_in_a_bucket_and_nothing_of_them_here() {
    let (dir, place) = (tempfile::tempdir().unwrap(), bucket().await);
    let server = registry(dir.path(), &place, Duration::from_secs(3600)).await;
    let layer = bytes(1, 300_000);
    let image = server.push_image("team/app", "v1", &layer).await;
    // More than a part, so that it goes in three.
    let large = bytes(2, (20 << 20) + 17);
    let digest = server.push_blob("team/app", &large).await;
    assert_eq!(place.held.lock().unwrap().parts, 3);
    assert_eq!(server.get("/v2/team/app/manifests/v1").await.header("docker-content-digest"), image.as_str());
    assert!(server.get(&format!("/v2/team/app/blobs/{}", Digest::sha256(&layer))).await.body == layer);
    let path = format!("/v2/team/app/blobs/{digest}");
    assert!(server.get(&path).await.body == large);
    let part = server.ask(Method::GET, &path, &[("range", "bytes=9000000-9000009")], "").await;
    assert_eq!((part.status, &part.body[..]), (StatusCode::PARTIAL_CONTENT, &large[9_000_000..9_000_010]));
    let head = server.ask(Method::HEAD, &path, &[], "").await;
    assert_eq!(head.header("content-length"), large.len().to_string());
    assert!(place.held.lock().unwrap().objects.contains_key(&key(&digest)));
    assert_eq!(std::fs::read_dir(dir.path().join("content/blobs/sha256")).unwrap().count(), 0);
    server.stop().await;
    // The index is on this machine; content is found again.
    let server = registry(dir.path(), &place, Duration::from_secs(3600)).await;
    assert!(server.get(&path).await.body == large);
    server.stop().await;
    place.task.drain(Duration::from_secs(1)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_bucket_did_not_take_was_not_pushed() {
    let (dir, place) = (tempfile::tempdir().unwrap(), bucket().await);
    let server = registry(dir.path(), &place, Duration::from_secs(3600)).await;
    let content = bytes(3, 1000);
    let path = format!("/v2/a/blobs/uploads/?digest={}", Digest::sha256(&content));
    place.held.lock().unwrap().broken = Some(Method::PUT);
    let refused = server.ask(Method::POST, &path, &[], content.clone()).await;
    assert_eq!(refused.status, StatusCode::INTERNAL_SERVER_ERROR);
    assert_eq!(server.get(&format!("/v2/a/blobs/{}", Digest::sha256(&content))).await.status, StatusCode::NOT_FOUND);
    place.held.lock().unwrap().broken = None;
    assert_eq!(server.ask(Method::POST, &path, &[], content).await.status, StatusCode::CREATED);
    server.stop().await;
    place.task.drain(Duration::from_secs(1)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nothing_refers_to_is_removed_from_the_bucket() {
    let (dir, place) = (tempfile::tempdir().unwrap(), bucket().await);
    let server = registry(dir.path(), &place, Duration::from_secs(2)).await;
    let kept = bytes(4, 1000);
    let image = server.push_image("a", "v1", &kept).await;
    let gone = server.push_blob("a", b"nothing refers to this").await;
    let deleted = server.ask(Method::DELETE, &format!("/v2/a/blobs/{gone}"), &[], "").await;
    assert_eq!(deleted.status, StatusCode::ACCEPTED);
    // The registry collects by itself once the grace has passed.
    let objects = || -> Vec<String> { place.held.lock().unwrap().objects.keys().cloned().collect() };
    for _ in 0..300 {
        if !objects().contains(&key(&gone)) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let objects = objects();
    assert!(!objects.contains(&key(&gone)), "{objects:?}");
    for digest in [&image, &Digest::sha256(&kept)] {
        assert!(objects.contains(&key(digest)), "{digest}: {objects:?}");
    }
    server.stop().await;
    place.task.drain(Duration::from_secs(1)).await;
}

#[test]
fn places_are_read_as_people_write_them() {
    for text in ["s3://images", "s3://images/", "s3://images/a/b"] {
        assert!(text.parse::<registry::blobs::bucket::Place>().is_ok(), "{text}");
    }
    for text in ["images", "s3://", "s3:///a", "http://images/a", "s3://im ages", "s3://images/a//b"] {
        assert!(text.parse::<registry::blobs::bucket::Place>().is_err(), "{text}");
    }
}
