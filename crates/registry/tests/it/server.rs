//! A registry on a port of loopback, and a client that sends one request at a time.

use std::{net::SocketAddr, path::Path, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::BodyExt;
use hyper_util::rt::TokioIo;
use image::content::{Content, Options};
use oci::Digest;
use registry::{
    Registry,
    auth::Door,
    blobs::{Blobs, Node, door},
    cache::Cache,
    registry::Settings,
};
use serve::{Body, body};
use task::Task;
use tokio::net::{TcpListener, TcpStream, UnixListener};

/// What registries are called, those that keep copies excepted.
pub const NAME: &str = "registry.test";

pub struct Server {
    pub registry: Registry,
    pub address: SocketAddr,
    task: Task,
}

/// An answer, read whole.
pub struct Reply {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Reply {
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    /// The code of the first error.
    pub fn code(&self) -> String {
        self.json()["errors"][0]["code"].as_str().unwrap_or_default().to_owned()
    }
}

impl Server {
    /// A registry with content of its own below `dir`.
    pub async fn start(dir: &Path) -> Self {
        Self::with(dir, Duration::from_secs(3600), Door::open(), Cache::default()).await
    }

    pub async fn with(dir: &Path, grace: Duration, door: Door, cache: Cache) -> Self {
        let content = Content::open(&dir.join("content"), Options::default()).await.unwrap();
        Self::over(dir, grace, door, cache, Blobs::Own(content), TcpListener::bind("127.0.0.1:0").await.unwrap()).await
    }

    /// The same, its content kept by another part over a socket.
    pub async fn beside_node(dir: &Path) -> Self {
        let content = Content::open(&dir.join("content"), Options::default()).await.unwrap();
        let socket = dir.join("content.sock");
        let task = Task::root("node");
        task.spawn("door", door::serve(task.clone(), UnixListener::bind(&socket).unwrap(), content));
        let blobs = Blobs::Node(Node::new(&dir.join("content"), &socket));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        Self::over(dir, Duration::from_secs(3600), Door::open(), Cache::default(), blobs, listener).await
    }

    pub async fn over(
        dir: &Path,
        grace: Duration,
        door: Door,
        cache: Cache,
        blobs: Blobs,
        listener: TcpListener,
    ) -> Self {
        let task = Task::root("test");
        let name = if cache.origins.is_empty() { NAME } else { "copies.test" };
        let settings = Settings { grace, stall: Duration::from_secs(2), ..Settings::new(dir.join("index"), name) };
        let registry = Registry::open(&task, settings, blobs, cache).await.unwrap();
        let address = listener.local_addr().unwrap();
        let front = registry.clone();
        let handler = move |request: Request<Body>| {
            let (registry, door) = (front.clone(), door.clone());
            async move { registry.answer(&door, request).await }
        };
        task.spawn("listener", serve::http::serve(task.clone(), listener, None, Default::default(), handler));
        Self { registry, address, task }
    }

    pub async fn stop(self) {
        self.task.drain(Duration::from_secs(5)).await;
    }

    pub async fn ask(&self, method: Method, path: &str, headers: &[(&str, &str)], content: impl Into<Bytes>) -> Reply {
        ask(self.address, method, path, headers, body::full(content)).await.unwrap()
    }

    pub async fn get(&self, path: &str) -> Reply {
        self.ask(Method::GET, path, &[], "").await
    }

    /// Pushes a blob in one request.
    pub async fn push_blob(&self, repository: &str, content: &[u8]) -> Digest {
        let digest = Digest::sha256(content);
        let path = format!("/v2/{repository}/blobs/uploads/?digest={digest}");
        let reply = self.ask(Method::POST, &path, &[], content.to_vec()).await;
        assert_eq!(reply.status, StatusCode::CREATED, "{:?}", reply.body);
        digest
    }

    /// Pushes an image of one layer; returns its manifest's digest.
    pub async fn push_image(&self, repository: &str, tag: &str, layer: &[u8]) -> Digest {
        self.push_blob(repository, b"{}").await;
        self.push_blob(repository, layer).await;
        let manifest = manifest(&[layer]).to_string();
        let reply = self.put_manifest(repository, tag, &manifest).await;
        assert_eq!(reply.status, StatusCode::CREATED, "{:?}", reply.body);
        Digest::sha256(manifest.as_bytes())
    }

    pub async fn put_manifest(&self, repository: &str, target: &str, manifest: &str) -> Reply {
        let path = format!("/v2/{repository}/manifests/{target}");
        self.ask(Method::PUT, &path, &[], manifest.to_owned()).await
    }
}

/// A manifest of layers, with the configuration `{}`.
pub fn manifest(layers: &[&[u8]]) -> serde_json::Value {
    let layers: Vec<_> = layers.iter().map(|layer| descriptor(oci::media::OCI_LAYER, layer)).collect();
    serde_json::json!({
        "schemaVersion": 2, "mediaType": oci::media::OCI_MANIFEST,
        "config": descriptor(oci::media::OCI_CONFIG, b"{}"), "layers": layers,
    })
}

pub fn descriptor(media_type: &str, content: &[u8]) -> serde_json::Value {
    serde_json::json!({"mediaType": media_type, "digest": Digest::sha256(content), "size": content.len()})
}

/// One request on a connection of its own.
pub async fn ask(
    address: SocketAddr,
    method: Method,
    path: &str,
    headers: &[(&str, &str)],
    content: Body,
) -> anyhow::Result<Reply> {
    let stream = TcpStream::connect(address).await?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let task = Task::root("client");
    task.spawn("connection", async move { drop(connection.await) });
    let mut request = Request::builder().method(method).uri(path).header("host", address.to_string());
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let answer = sender.send_request(request.body(content).unwrap()).await?;
    let (parts, content) = answer.into_parts();
    Ok(Reply { status: parts.status, headers: parts.headers, body: content.collect().await?.to_bytes() })
}

/// Bytes that differ by `seed`.
pub fn bytes(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}
