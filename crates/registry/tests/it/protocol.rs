//! Pushing, pulling, listing and deleting, as the specification says.

use std::time::Duration;

use http::{Method, StatusCode};
use http_body_util::BodyExt;
use oci::Digest;
use registry::{auth::Door, cache::Cache};
use serde_json::json;
use serve::body;

use crate::server::{Server, bytes, descriptor, manifest};

#[tokio::test]
async fn an_image_comes_back_as_it_was_pushed() {
    for beside_node in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        let server = match beside_node {
            true => Server::beside_node(dir.path()).await,
            false => Server::start(dir.path()).await,
        };
        let layer = bytes(1, 3_000_000);
        let digest = server.push_image("team/app", "v1", &layer).await;
        let by_tag = server.get("/v2/team/app/manifests/v1").await;
        assert_eq!(by_tag.header("docker-content-digest"), digest.as_str());
        assert_eq!(by_tag.header("content-type"), oci::media::OCI_MANIFEST);
        assert_eq!(server.get(&format!("/v2/team/app/manifests/{digest}")).await.body, by_tag.body);
        let blob = format!("/v2/team/app/blobs/{}", Digest::sha256(&layer));
        assert!(server.get(&blob).await.body == layer);
        let head = server.ask(Method::HEAD, &blob, &[], "").await;
        assert_eq!((head.status, head.header("content-length")), (StatusCode::OK, "3000000"));
        let part = server.ask(Method::GET, &blob, &[("range", "bytes=131000-1310009")], "").await;
        assert_eq!(part.header("content-range"), "bytes 131000-1310009/3000000");
        assert!(part.status == StatusCode::PARTIAL_CONTENT && part.body == layer[131_000..1_310_010]);
        let none = server.ask(Method::GET, &blob, &[("range", "bytes=3000000-")], "").await;
        assert_eq!((none.status, none.header("content-range")), (StatusCode::RANGE_NOT_SATISFIABLE, "bytes */3000000"));
        let known = server.ask(Method::GET, &blob, &[("if-none-match", head.header("etag"))], "").await;
        assert_eq!(known.status, StatusCode::NOT_MODIFIED);
        server.stop().await;
    }
}

#[tokio::test]
async fn an_upload_goes_on_where_it_stopped() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::beside_node(dir.path()).await;
    let content = bytes(2, 100_000);
    let begun = server.ask(Method::POST, "/v2/a/blobs/uploads/", &[], "").await;
    assert_eq!(begun.status, StatusCode::ACCEPTED);
    let place = begun.header("location").to_owned();
    let first = server.ask(Method::PATCH, &place, &[("content-range", "0-49999")], content[..50_000].to_vec()).await;
    assert_eq!((first.status, first.header("range")), (StatusCode::ACCEPTED, "0-49999"));
    let gap = server.ask(Method::PATCH, &place, &[("content-range", "60000-99999")], content[60_000..].to_vec()).await;
    assert_eq!((gap.status, gap.header("range")), (StatusCode::RANGE_NOT_SATISFIABLE, "0-49999"));
    let told = server.get(&place).await;
    assert_eq!((told.status, told.header("range")), (StatusCode::NO_CONTENT, "0-49999"));
    let lie = server.ask(Method::PATCH, &place, &[("content-range", "50000-50009")], "x").await;
    assert_eq!((lie.status, lie.code().as_str()), (StatusCode::BAD_REQUEST, "SIZE_INVALID"));
    let digest = Digest::sha256(&content);
    let end = format!("{place}?digest={digest}");
    let done = server.ask(Method::PUT, &end, &[("content-range", "50000-99999")], content[50_000..].to_vec()).await;
    assert_eq!((done.status, done.header("location")), (StatusCode::CREATED, &*format!("/v2/a/blobs/{digest}")));
    assert!(server.get(&format!("/v2/a/blobs/{digest}")).await.body == content);
    assert_eq!(server.get(&place).await.code(), "BLOB_UPLOAD_UNKNOWN");
    server.stop().await;
}

#[tokio::test]
async fn a_blob_is_mounted_from_another_repository_and_private_to_those_that_have_it() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path()).await;
    let digest = server.push_blob("a", b"layer").await;
    assert_eq!(server.get(&format!("/v2/b/blobs/{digest}")).await.code(), "NAME_UNKNOWN");
    let mounted = server.ask(Method::POST, &format!("/v2/b/blobs/uploads/?mount={digest}&from=a"), &[], "").await;
    assert_eq!(mounted.status, StatusCode::CREATED);
    assert_eq!(&server.get(&format!("/v2/b/blobs/{digest}")).await.body[..], b"layer");
    let missing = server.ask(Method::POST, &format!("/v2/c/blobs/uploads/?mount={digest}&from=x"), &[], "").await;
    assert_eq!(missing.status, StatusCode::ACCEPTED);
    assert!(missing.header("location").starts_with("/v2/c/blobs/uploads/"));
    server.stop().await;
}

#[tokio::test]
async fn tags_and_repositories_are_listed_page_by_page() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path()).await;
    for tag in ["c", "a", "b"] {
        server.push_image("one", tag, b"layer").await;
    }
    server.push_image("two", "a", b"layer").await;
    let page = server.get("/v2/one/tags/list?n=2").await;
    assert_eq!(page.json(), json!({"name": "one", "tags": ["a", "b"]}));
    assert_eq!(page.header("link"), "</v2/one/tags/list?n=2&last=b>; rel=\"next\"");
    let page = server.get("/v2/one/tags/list?n=2&last=b").await;
    assert_eq!((page.json()["tags"].clone(), page.header("link")), (json!(["c"]), ""));
    assert_eq!(server.get("/v2/_catalog").await.json(), json!({"repositories": ["one", "two"]}));
    assert_eq!(server.get("/v2/none/tags/list").await.code(), "NAME_UNKNOWN");
    assert_eq!(server.get("/v2/one/tags/list?n=x").await.status, StatusCode::BAD_REQUEST);
    server.stop().await;
}

#[tokio::test]
async fn what_is_about_a_manifest_is_listed_with_it() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path()).await;
    let subject = server.push_image("a", "v1", b"layer").await;
    for (kind, note) in [("application/sbom", "one"), ("application/signature", "two")] {
        let mut about = manifest(&[]);
        about["artifactType"] = kind.into();
        about["annotations"] = json!({"note": note});
        about["subject"] = json!({"mediaType": oci::media::OCI_MANIFEST, "digest": subject, "size": 1});
        let text = about.to_string();
        let reply = server.put_manifest("a", Digest::sha256(text.as_bytes()).as_str(), &text).await;
        assert_eq!((reply.status, reply.header("oci-subject")), (StatusCode::CREATED, subject.as_str()));
    }
    let all = server.get(&format!("/v2/a/referrers/{subject}")).await;
    assert_eq!(all.header("content-type"), oci::media::OCI_INDEX);
    assert_eq!(all.json()["manifests"].as_array().unwrap().len(), 2);
    let some = server.get(&format!("/v2/a/referrers/{subject}?artifactType=application%2Fsbom")).await;
    assert_eq!(some.header("oci-filters-applied"), "artifactType");
    assert_eq!(some.json()["manifests"][0]["annotations"], json!({"note": "one"}));
    assert_eq!(some.json()["manifests"].as_array().unwrap().len(), 1);
    let none = server.get(&format!("/v2/x/referrers/{subject}")).await;
    assert_eq!((none.status, none.json()["manifests"].clone()), (StatusCode::OK, json!([])));
    server.stop().await;
}

#[tokio::test]
async fn what_is_deleted_is_gone_and_its_space_is_freed() {
    let dir = tempfile::tempdir().unwrap();
    let grace = Duration::from_millis(50);
    let server = Server::with(dir.path(), grace, Door::open(), Cache::default()).await;
    let layer = bytes(3, 10_000);
    let digest = server.push_image("a", "v1", &layer).await;
    server.push_image("b", "v1", &layer).await;
    let blob = Digest::sha256(&layer);
    let file = image::content::path(&dir.path().join("content"), &blob);
    let gone = server.ask(Method::DELETE, "/v2/a/manifests/v1", &[], "").await;
    assert_eq!(gone.status, StatusCode::ACCEPTED);
    assert_eq!(server.get("/v2/a/manifests/v1").await.code(), "MANIFEST_UNKNOWN");
    assert_eq!(server.get(&format!("/v2/a/manifests/{digest}")).await.status, StatusCode::OK);
    assert_eq!(server.ask(Method::DELETE, "/v2/a/manifests/v1", &[], "").await.status, StatusCode::NOT_FOUND);
    for repository in ["a", "b"] {
        tokio::time::sleep(grace * 2).await;
        server.registry.collect().await.unwrap();
        assert_eq!(server.get(&format!("/v2/b/blobs/{blob}")).await.status, StatusCode::OK);
        assert!(file.exists());
        let path = format!("/v2/{repository}/manifests/{digest}");
        assert_eq!(server.ask(Method::DELETE, &path, &[], "").await.status, StatusCode::ACCEPTED);
    }
    tokio::time::sleep(grace * 2).await;
    server.registry.collect().await.unwrap();
    assert!(!file.exists());
    assert_eq!(server.get("/v2/_catalog").await.json(), json!({"repositories": []}));
    server.stop().await;
}

#[tokio::test]
async fn collection_takes_nothing_from_pushes_under_way() {
    let dir = tempfile::tempdir().unwrap();
    let grace = Duration::from_millis(400);
    let server = Server::with(dir.path(), grace, Door::open(), Cache::default()).await;
    tokio::time::sleep(grace).await;
    let collecting = async {
        for _ in 0..60 {
            server.registry.collect().await.unwrap();
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    // Each image is pushed as clients do: look, send what is missing, then the manifest; and deleted again, so that the
    // same blobs become garbage over and over.
    let pushing = |number: usize| {
        let server = &server;
        async move {
            let repository = format!("r{number}");
            for _ in 0..6 {
                for content in [&b"{}"[..], b"shared layer"] {
                    let path = format!("/v2/{repository}/blobs/{}", Digest::sha256(content));
                    if server.ask(Method::HEAD, &path, &[], "").await.status != StatusCode::OK {
                        server.push_blob(&repository, content).await;
                    }
                }
                tokio::time::sleep(Duration::from_millis(30)).await;
                let text = manifest(&[b"shared layer"]).to_string();
                let put = server.put_manifest(&repository, "v", &text).await;
                assert_eq!(put.status, StatusCode::CREATED, "{:?}", put.body);
                let path = format!("/v2/{repository}/manifests/{}", Digest::sha256(text.as_bytes()));
                for content in [&b"{}"[..], b"shared layer"] {
                    let blob = server.get(&format!("/v2/{repository}/blobs/{}", Digest::sha256(content))).await;
                    assert_eq!(&blob.body[..], content);
                }
                assert_eq!(server.ask(Method::DELETE, &path, &[], "").await.status, StatusCode::ACCEPTED);
                tokio::time::sleep(Duration::from_millis(100 * number as u64)).await;
            }
        }
    };
    tokio::join!(collecting, pushing(1), pushing(2), pushing(3), pushing(4));
    tokio::time::sleep(grace * 2).await;
    server.registry.collect().await.unwrap();
    assert_eq!(std::fs::read_dir(dir.path().join("content/blobs/sha256")).unwrap().count(), 0);
    server.stop().await;
}

#[tokio::test]
async fn an_index_needs_its_manifests_and_a_manifest_its_blobs() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path()).await;
    let missing = server.put_manifest("a", "v1", &manifest(&[b"layer"]).to_string()).await;
    assert_eq!((missing.status, missing.code().as_str()), (StatusCode::BAD_REQUEST, "MANIFEST_BLOB_UNKNOWN"));
    server.push_image("a", "v1", b"layer").await;
    let image = manifest(&[b"layer"]).to_string();
    let index = |content: &str| {
        let entry = descriptor(oci::media::OCI_MANIFEST, content.as_bytes());
        json!({"schemaVersion": 2, "mediaType": oci::media::OCI_INDEX, "manifests": [entry]}).to_string()
    };
    assert_eq!(server.put_manifest("a", "all", &index(&image)).await.status, StatusCode::CREATED);
    assert_eq!(server.put_manifest("a", "all", &index("other")).await.code(), "MANIFEST_BLOB_UNKNOWN");
    // What another repository has counts as little as nothing.
    assert_eq!(server.put_manifest("b", "all", &index(&image)).await.code(), "MANIFEST_BLOB_UNKNOWN");
    server.stop().await;
}

#[tokio::test]
async fn many_push_the_same_blob_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::beside_node(dir.path()).await;
    let content = bytes(4, 1_000_000);
    let pushes = (0..16).map(|number| {
        let (server, content) = (&server, &content);
        async move { server.push_image(&format!("r{}", number % 4), &format!("t{number}"), content).await }
    });
    futures::future::join_all(pushes).await;
    let uploads = std::fs::read_dir(dir.path().join("content/uploads")).unwrap().count();
    assert_eq!(uploads, 0);
    assert!(server.get(&format!("/v2/r3/blobs/{}", Digest::sha256(&content))).await.body == content);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn large_blobs_arrive_whole_and_their_connection_goes_on() {
    for beside_node in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        let server = match beside_node {
            true => Server::beside_node(dir.path()).await,
            false => Server::start(dir.path()).await,
        };
        let stream = tokio::net::TcpStream::connect(server.address).await.unwrap();
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(hyper_util::rt::TokioIo::new(stream)).await.unwrap();
        let task = task::Task::root("client");
        task.spawn("connection", async move { drop(connection.await) });
        for (seed, length) in [(1, 5_000_000), (2, 300), (3, 1 << 20), (4, (3 << 20) + 1)] {
            let content = bytes(seed, length);
            let digest = Digest::sha256(&content);
            let path = format!("/v2/a/blobs/uploads/?digest={digest}");
            let request = http::Request::post(path).header("host", "x").body(body::full(content.clone())).unwrap();
            sender.ready().await.unwrap();
            let answer = sender.send_request(request).await.unwrap();
            assert_eq!(answer.status(), StatusCode::CREATED, "beside node: {beside_node}, {length} bytes");
            answer.into_body().collect().await.unwrap();
            let reply = server.get(&format!("/v2/a/blobs/{digest}")).await;
            assert!(reply.body == content, "beside node: {beside_node}, {length} bytes");
        }
        server.stop().await;
    }
}

#[tokio::test]
async fn what_is_asked_is_counted_by_what_it_is_and_not_by_what_clients_write() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path()).await;
    server.push_image("team/app", "v1", b"layer").await;
    server.get("/v2/team/app/manifests/v1").await;
    server.get("/v2/team/app/manifests/none").await;
    server.ask(Method::from_bytes(b"BREW").unwrap(), "/v2/team/app/tags/list", &[], "").await;
    let page = server.get("/metrics").await;
    assert!(page.header("content-type").starts_with("text/plain; version=0.0.4"));
    let text = String::from_utf8(page.body.to_vec()).unwrap();
    for line in [
        "registry_http_requests_total{code=\"200\",handler=\"manifest\",method=\"get\"} 1",
        "registry_http_requests_total{code=\"404\",handler=\"manifest\",method=\"get\"} 1",
        "registry_http_requests_total{code=\"201\",handler=\"blob_upload\",method=\"post\"} 2",
        "registry_http_requests_total{code=\"405\",handler=\"tags\",method=\"other\"} 1",
        "registry_http_in_flight_requests{handler=\"manifest\"} 0",
        "registry_http_in_flight_requests{handler=\"metrics\"} 1",
        "madang_registry_repositories 1",
        "madang_registry_manifests 1",
        "madang_registry_tags 1",
    ] {
        assert!(text.lines().any(|written| written == line), "{line}\n{text}");
    }
    server.stop().await;
}
