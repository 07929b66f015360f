//! Requests that no honest client sends.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use bytes::Bytes;
use http::{Method, StatusCode};
use oci::Digest;
use serde_json::json;
use serve::body;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::server::{Server, ask, descriptor, manifest};

/// Sends bytes as they are; returns the first line of what comes back.
async fn raw(server: &Server, text: &str) -> String {
    let mut stream = tokio::net::TcpStream::connect(server.address).await.unwrap();
    stream.write_all(text.as_bytes()).await.unwrap();
    let mut answer = vec![0; 4096];
    let length = stream.read(&mut answer).await.unwrap();
    String::from_utf8_lossy(&answer[..length]).lines().next().unwrap_or_default().to_owned()
}

#[tokio::test]
async fn no_path_leads_out_of_the_registry() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path()).await;
    std::fs::write(dir.path().join("secret"), "secret").unwrap();
    for path in [
        "/v2/../../secret",
        "/v2/a/blobs/../../../secret",
        "/v2/a/blobs/sha256:../../../secret",
        "/v2/%2e%2e/%2e%2e/secret/manifests/x",
        "/v2/a/manifests/..%2f..%2f..%2fsecret",
        "/v2/a/blobs/uploads/..%2f..%2findex%2findex.journal",
        "/v2/a/blobs/uploads/../../lock",
        "//v2/a/tags/list",
        "/v2/a\\..\\b/tags/list",
    ] {
        for method in ["GET", "PUT", "PATCH", "DELETE"] {
            let line = raw(&server, &format!("{method} {path} HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n")).await;
            let status: u16 = line.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
            assert!((400..500).contains(&status), "{method} {path}: {line}");
        }
    }
    assert_eq!(std::fs::read(dir.path().join("secret")).unwrap(), b"secret");
    let tag = server.put_manifest("a", "..", "{}").await;
    assert_eq!(tag.status, StatusCode::BAD_REQUEST);
    server.stop().await;
}

/// Files below a directory, with their sizes.
fn files(dir: &Path) -> BTreeMap<PathBuf, u64> {
    let mut found = BTreeMap::new();
    let mut left = vec![dir.to_owned()];
    while let Some(dir) = left.pop() {
        for entry in std::fs::read_dir(&dir).unwrap() {
            let entry = entry.unwrap();
            match entry.file_type().unwrap().is_dir() {
                true => left.push(entry.path()),
                false => drop(found.insert(entry.path(), entry.metadata().unwrap().len())),
            }
        }
    }
    found
}

#[tokio::test]
async fn names_of_repositories_and_tags_that_lead_elsewhere_are_refused_wherever_they_stand() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path()).await;
    server.push_image("team/app", "good", b"layer").await;
    let before = files(dir.path());
    let layer = Digest::sha256(b"layer");
    let text = manifest(&[b"layer"]).to_string();
    let long = "a/".repeat(128) + "a";
    for name in
        ["..", ".", "a/..", "../a", "a/../team/app", "a/./b", "a//b", ".hidden", "a/.b", "A", "a..b", "a%00b", &long]
    {
        for encoded in [name.to_owned(), name.replace('.', "%2e").replace('/', "%2f")] {
            let at = |rest: &str| format!("/v2/{encoded}/{rest}");
            for (method, path, body) in [
                (Method::PUT, at("manifests/1"), text.as_str()),
                (Method::PUT, at(&format!("manifests/{}", Digest::sha256(text.as_bytes()))), text.as_str()),
                (Method::POST, at("blobs/uploads/"), ""),
                (Method::POST, at(&format!("blobs/uploads/?digest={layer}")), "layer"),
                (Method::POST, at(&format!("blobs/uploads/?mount={layer}&from=team/app")), ""),
                (Method::GET, at("tags/list"), ""),
                (Method::GET, at("manifests/good"), ""),
                (Method::GET, at(&format!("blobs/{layer}")), ""),
                (Method::GET, at(&format!("referrers/{layer}")), ""),
                (Method::DELETE, at("manifests/good"), ""),
            ] {
                let reply = server.ask(method.clone(), &path, &[], body.to_owned()).await;
                let code = reply.code();
                assert!(reply.status.is_client_error(), "{method} {path}: {}", reply.status);
                assert!(["NAME_INVALID", "NAME_UNKNOWN"].contains(&code.as_str()), "{method} {path}: {code}");
            }
        }
        // As what a blob is taken from it is a repository that has none.
        let mount = format!("/v2/team/app/blobs/uploads/?mount={}&from={name}", Digest::sha256(b"far"));
        let reply = server.ask(Method::POST, &mount, &[], "").await;
        assert!(reply.status == StatusCode::ACCEPTED || reply.status.is_client_error(), "{mount}: {}", reply.status);
    }
    let tall = "t".repeat(129);
    for tag in ["..", ".", ".hidden", "%2e%2e", "..%2f..%2fx", "a%2fb", "-a", "a%00b", "a%5cb", "a%20b", &tall] {
        let reply = server.put_manifest("team/app", tag, &text).await;
        assert_eq!((reply.status, reply.code().as_str()), (StatusCode::BAD_REQUEST, "NAME_INVALID"), "{tag}");
        let whole = Digest::sha256(text.as_bytes());
        let reply = server.put_manifest("team/app", &format!("{whole}?tag={tag}"), &text).await;
        assert_eq!((reply.status, reply.code().as_str()), (StatusCode::BAD_REQUEST, "NAME_INVALID"), "?tag={tag}");
    }
    for digest in ["sha256:..", "sha256:../../../../etc/passwd", "sha256:..%2f..%2fx", "../x:00", "sha256:", ":"] {
        let digest = digest.replace('/', "%2f");
        for path in [
            format!("/v2/team/app/blobs/{digest}"),
            format!("/v2/team/app/manifests/{digest}"),
            format!("/v2/team/app/referrers/{digest}"),
        ] {
            let reply = server.get(&path).await;
            assert_eq!((reply.status, reply.code().as_str()), (StatusCode::BAD_REQUEST, "DIGEST_INVALID"), "{path}");
        }
        let path = format!("/v2/team/app/blobs/uploads/?digest={digest}");
        assert_eq!(server.ask(Method::POST, &path, &[], "layer").await.code(), "DIGEST_INVALID", "{path}");
    }
    assert_eq!(server.get("/v2/_catalog").await.json()["repositories"], json!(["team/app"]));
    let after = files(dir.path());
    assert!(
        after.keys().all(|path| before.contains_key(path) || path.starts_with(dir.path().join("content"))),
        "{after:?}"
    );
    server.stop().await;
}

#[tokio::test]
async fn indexes_of_indexes_are_kept_and_removed_however_deep_they_are() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path()).await;
    let mut inner = manifest(&[b"layer"]).to_string();
    server.push_image("team/app", "0", b"layer").await;
    let mut kind = oci::media::OCI_MANIFEST;
    for depth in 1..=200 {
        let index = json!({
            "schemaVersion": 2, "mediaType": oci::media::OCI_INDEX, "manifests": [descriptor(kind, inner.as_bytes())],
        });
        (inner, kind) = (index.to_string(), oci::media::OCI_INDEX);
        let reply = server.put_manifest("team/app", &depth.to_string(), &inner).await;
        assert_eq!(reply.status, StatusCode::CREATED, "{depth}: {:?}", reply.body);
    }
    assert_eq!(server.get("/v2/team/app/manifests/200").await.body, inner.as_bytes());
    // From the inside out: what refers to something is no reason to keep it, as with any registry.
    for depth in 0..=200 {
        let reply = server.get(&format!("/v2/team/app/manifests/{depth}")).await;
        let digest = Digest::sha256(&reply.body);
        let path = format!("/v2/team/app/manifests/{digest}");
        assert_eq!(server.ask(Method::DELETE, &path, &[], "").await.status, StatusCode::ACCEPTED, "{depth}");
    }
    assert_eq!(server.get("/v2/team/app/manifests/200").await.status, StatusCode::NOT_FOUND);
    server.stop().await;
}

#[tokio::test]
async fn manifests_that_lie_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path()).await;
    server.push_image("a", "good", b"layer").await;
    let mut size = manifest(&[b"layer"]);
    size["layers"][0]["size"] = json!(4);
    let mut huge = manifest(&[b"layer"]);
    huge["layers"][0]["size"] = json!(u64::MAX);
    let mut both = manifest(&[b"layer"]);
    both["manifests"] = json!([]);
    let itself = {
        // An index cannot hold its own digest; the closest is one that is not there.
        let entry = json!({"mediaType": oci::media::OCI_INDEX, "digest": Digest::sha256(b"self"), "size": 100});
        json!({"schemaVersion": 2, "mediaType": oci::media::OCI_INDEX, "manifests": [entry]})
    };
    for (what, document, code) in [
        ("size", size, "MANIFEST_INVALID"),
        ("huge size", huge, "MANIFEST_INVALID"),
        ("image and index", both, "MANIFEST_INVALID"),
        ("index of what is not there", itself, "MANIFEST_BLOB_UNKNOWN"),
        ("list", json!([]), "MANIFEST_INVALID"),
    ] {
        let reply = server.put_manifest("a", "bad", &document.to_string()).await;
        assert_eq!((reply.status, reply.code().as_str()), (StatusCode::BAD_REQUEST, code), "{what}");
    }
    let other = server.put_manifest("a", Digest::sha256(b"x").as_str(), &manifest(&[b"layer"]).to_string()).await;
    assert_eq!(other.code(), "DIGEST_INVALID");
    let kind = [("content-type", oci::media::DOCKER_MANIFEST)];
    let text = manifest(&[b"layer"]).to_string();
    assert_eq!(server.ask(Method::PUT, "/v2/a/manifests/bad", &kind, text).await.code(), "MANIFEST_INVALID");
    assert_eq!(server.get("/v2/a/manifests/bad").await.status, StatusCode::NOT_FOUND);
    server.stop().await;
}

#[tokio::test]
async fn deep_and_endless_documents_end() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path()).await;
    let deep = format!("{{\"layers\":{}", "[".repeat(1_000_000));
    assert_eq!(server.put_manifest("a", "v1", &deep).await.code(), "MANIFEST_INVALID");
    let large = server.put_manifest("a", "v1", &" ".repeat((4 << 20) + 1)).await;
    assert_eq!(large.status, StatusCode::PAYLOAD_TOO_LARGE);
    // 100 MB of JSON, sent as long as anybody takes it.
    let endless = futures::stream::iter((0..100).map(|_| Ok(Bytes::from(vec![b' '; 1 << 20]))));
    let reply = ask(server.address, Method::PUT, "/v2/a/manifests/v1", &[], body::stream(endless)).await;
    assert!(reply.is_err() || reply.is_ok_and(|reply| reply.status == StatusCode::PAYLOAD_TOO_LARGE));
    // A client that says nothing more is not waited for.
    let silent = body::stream(futures::stream::pending());
    let reply = ask(server.address, Method::PUT, "/v2/a/manifests/v1", &[], silent).await.unwrap();
    assert_eq!(reply.code(), "MANIFEST_INVALID");
    server.stop().await;
}

#[tokio::test]
async fn content_with_another_digest_is_never_there() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::beside_node(dir.path()).await;
    let digest = Digest::sha256(b"other");
    let whole = server.ask(Method::POST, &format!("/v2/a/blobs/uploads/?digest={digest}"), &[], "content").await;
    assert_eq!((whole.status, whole.code().as_str()), (StatusCode::BAD_REQUEST, "DIGEST_INVALID"));
    let begun = server.ask(Method::POST, "/v2/a/blobs/uploads/", &[], "").await;
    let end = format!("{}?digest={digest}", begun.header("location"));
    assert_eq!(server.ask(Method::PUT, &end, &[], "content").await.code(), "DIGEST_INVALID");
    assert_eq!(server.get(&format!("/v2/a/blobs/{digest}")).await.status, StatusCode::NOT_FOUND);
    for place in ["/v2/a/blobs/uploads/00", "/v2/a/blobs/uploads/00000000000000000000000000000000"] {
        assert_eq!(server.ask(Method::PATCH, place, &[], "x").await.code(), "BLOB_UPLOAD_UNKNOWN");
    }
    for range in ["5", "5-", "9-5", "a-b", "18446744073709551615-18446744073709551615"] {
        let begun = server.ask(Method::POST, "/v2/a/blobs/uploads/", &[], "").await;
        let reply = server.ask(Method::PATCH, begun.header("location"), &[("content-range", range)], "x").await;
        assert!(reply.status.is_client_error(), "{range}: {}", reply.status);
    }
    server.stop().await;
}

#[tokio::test]
async fn a_push_that_breaks_off_leaves_what_came_and_can_go_on() {
    // The larger one is read off the client's connection by whoever writes content.
    for (beside_node, length) in [(false, 1_000_000), (true, 1_000_000), (false, 3_000_000), (true, 3_000_000)] {
        let sent = length / 5 * 3;
        let dir = tempfile::tempdir().unwrap();
        let server = match beside_node {
            true => Server::beside_node(dir.path()).await,
            false => Server::start(dir.path()).await,
        };
        let begun = server.ask(Method::POST, "/v2/a/blobs/uploads/", &[], "").await;
        let place = begun.header("location").to_owned();
        let mut stream = tokio::net::TcpStream::connect(server.address).await.unwrap();
        let head = format!("PATCH {place} HTTP/1.1\r\nhost: x\r\ncontent-length: {length}\r\n\r\n");
        stream.write_all(head.as_bytes()).await.unwrap();
        stream.write_all(&vec![b'x'; sent]).await.unwrap();
        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
        drop(stream);
        let mut here = 0;
        for _ in 0..50 {
            let told = server.get(&place).await;
            here = told.header("range").rsplit('-').next().unwrap().parse::<usize>().unwrap_or(0);
            if told.status == StatusCode::NO_CONTENT && here > 0 {
                break;
            }
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
        assert!(here > 0 && here < sent, "{here} of {sent}");
        let rest = vec![b'x'; length - here - 1];
        let digest = Digest::sha256(&vec![b'x'; length]);
        let done = server.ask(Method::PUT, &format!("{place}?digest={digest}"), &[], rest).await;
        assert_eq!(done.status, StatusCode::CREATED, "beside node: {beside_node}, {here} of {length}: {:?}", done.body);
        server.stop().await;
    }
}
