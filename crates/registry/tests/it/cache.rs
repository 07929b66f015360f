//! Copies of images elsewhere.

use std::{sync::Arc, time::Duration};

use http::{Method, StatusCode};
use image::pull::{Patience, Pull, Registries, Trust};
use oci::Digest;
use registry::{auth::Door, cache::Cache};

use crate::server::{Server, bytes};

async fn cached(dir: &std::path::Path, origin: &Server) -> Server {
    let mirrors = format!("mirrors: {{registry.test: {{endpoint: [\"http://{}\"]}}}}", origin.address);
    let pull = Pull {
        registries: Arc::new(Registries::parse(&mirrors).unwrap()),
        trust: Trust::Configured,
        patience: Patience { tries: 1, connect: Duration::from_secs(1), ..Patience::default() },
        ..Pull::default()
    };
    let cache = Cache { origins: vec!["registry.test".into()], pull: Arc::new(pull) };
    Server::with(dir, Duration::from_secs(3600), Door::open(), cache).await
}

#[tokio::test]
async fn an_image_elsewhere_is_fetched_once_and_served_when_the_origin_is_gone() {
    let (dirs, layer) = ([tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()], bytes(1, 2_000_000));
    let origin = Server::start(dirs[0].path()).await;
    let digest = origin.push_image("team/app", "v1", &layer).await;
    let server = cached(dirs[1].path(), &origin).await;
    let blob = format!("/v2/registry.test/team/app/blobs/{}", Digest::sha256(&layer));
    assert_eq!(server.get(&blob).await.status, StatusCode::NOT_FOUND, "nothing is fetched that nothing refers to");
    let manifest = server.get("/v2/team/app/manifests/v1?ns=registry.test").await;
    assert_eq!(manifest.header("docker-content-digest"), digest.as_str());
    let head = server.ask(Method::HEAD, &blob, &[], "").await;
    assert_eq!(head.header("content-length"), "2000000");
    let part = server.ask(Method::GET, &blob, &[("range", "bytes=5-9")], "").await;
    assert!(part.status == StatusCode::PARTIAL_CONTENT && part.body == layer[5..10]);
    let config = format!("/v2/registry.test/team/app/blobs/{}", Digest::sha256(b"{}"));
    assert_eq!(&server.get(&config).await.body[..], b"{}", "streamed while it is stored");
    let missing = server.get("/v2/registry.test/team/app/manifests/v2").await;
    assert_eq!(missing.code(), "MANIFEST_UNKNOWN");
    let push = server.ask(Method::POST, "/v2/registry.test/team/app/blobs/uploads/", &[], "").await;
    assert_eq!(push.status, StatusCode::METHOD_NOT_ALLOWED);
    origin.stop().await;
    assert!(server.get(&blob).await.body == layer);
    for path in
        ["/v2/registry.test/team/app/manifests/v1".to_owned(), format!("/v2/registry.test/team/app/manifests/{digest}")]
    {
        assert_eq!(server.get(&path).await.body, manifest.body, "{path}");
    }
    assert_eq!(server.get("/v2/x/manifests/v1?ns=other.test").await.code(), "NAME_UNKNOWN");
    server.stop().await;
}
