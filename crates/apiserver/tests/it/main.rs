//! The server as clients see it: in process, without sockets, on a store in a temporary directory.
#![allow(missing_docs, reason = "tests")]

mod access;
mod admission;
mod apply;
mod bad_input;
mod certificates;
mod connect;
mod custom;
mod kubectl;
mod lists;
mod objects;
mod pods;
mod services;
mod watches;
mod webhooks;

use std::time::Duration;

use apiserver::{ApiServer, Config, User};
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::BodyExt;
use serde_json::{Value, json};
use serve::body::{self, Body};
use store::Store;
use task::Task;

/// A running server. Its directory goes with it.
pub struct Cluster {
    pub server: ApiServer,
    pub store: Store,
    pub task: Task,
    pub dir: tempfile::TempDir,
}

/// An answer, read whole.
#[derive(Debug)]
pub struct Answer {
    pub code: u16,
    pub headers: http::HeaderMap,
    pub bytes: Bytes,
}

impl Answer {
    /// The body as JSON.
    pub fn value(&self) -> Value {
        serde_json::from_slice(&self.bytes).unwrap_or_else(|_| panic!("{:?}", self.bytes))
    }

    /// The message of a Status.
    pub fn message(&self) -> String {
        self.value()["message"].as_str().unwrap_or_default().to_owned()
    }

    /// The object of a request that went well.
    #[track_caller]
    pub fn ok(self) -> Value {
        assert!(self.code < 300, "{} {:?}", self.code, self.bytes);
        self.value()
    }

    /// A refusal with that code, reason and part of the message.
    #[track_caller]
    pub fn refused(self, code: u16, reason: &str, text: &str) {
        let value = self.value();
        assert_eq!((self.code, value["reason"].as_str().unwrap_or_default()), (code, reason), "{value}");
        assert!(self.message().contains(text), "{:?} lacks {text:?}", self.message());
        assert_eq!(value["kind"], "Status");
    }
}

/// The settings that tests share.
pub fn config(dir: &std::path::Path) -> Config {
    let mut config = Config::in_dir(dir);
    config.token_file = Some(dir.join("tokens"));
    config
}

impl Cluster {
    pub async fn start() -> Self {
        Self::start_in(tempfile::tempdir().unwrap()).await
    }

    pub async fn start_in(dir: tempfile::TempDir) -> Self {
        Self::start_as(dir, |_| ()).await
    }

    /// A new one with other settings.
    pub async fn start_with(change: impl FnOnce(&mut Config)) -> Self {
        Self::start_as(tempfile::tempdir().unwrap(), change).await
    }

    async fn start_as(dir: tempfile::TempDir, change: impl FnOnce(&mut Config)) -> Self {
        std::fs::write(dir.path().join("tokens"), "alice-token,alice,1,\"readers\"\n").unwrap();
        std::fs::create_dir_all(dir.path().join("store")).unwrap();
        let store = Store::embedded(&dir.path().join("store"), store::embedded::Options::default()).await.unwrap();
        let task = Task::root("test");
        let mut config = config(dir.path());
        change(&mut config);
        let server = ApiServer::start(task.clone(), config, store.clone()).await.unwrap();
        assert!(server.ready());
        let cluster = Self { server, store, task, dir };
        // What controllers do elsewhere.
        for namespace in ["default", "kube-system"] {
            let path = format!("/api/v1/namespaces/{namespace}/serviceaccounts");
            let account = json!({"metadata": {"name": "default"}});
            let _ = cluster.post(&path, account).await;
        }
        cluster
    }

    /// Ends the server and its store, and keeps the directory.
    pub async fn stop(self) -> tempfile::TempDir {
        self.task.drain(Duration::from_secs(5)).await;
        self.dir
    }

    pub async fn raw(&self, user: Option<User>, request: Request<Body>) -> Response<Body> {
        let mut request = request;
        if let Some(user) = user {
            request.extensions_mut().insert(user);
        }
        self.server.handle(request).await
    }

    pub async fn send(&self, user: Option<User>, request: Request<Body>) -> Answer {
        let response = self.raw(user, request).await;
        let (parts, body) = response.into_parts();
        let bytes = tokio::time::timeout(Duration::from_secs(20), body.collect()).await.expect("an answer that ends");
        Answer { code: parts.status.as_u16(), headers: parts.headers, bytes: bytes.unwrap().to_bytes() }
    }

    pub async fn call(&self, method: &str, path: &str, body: Value) -> Answer {
        self.as_user(&admin(), method, path, body).await
    }

    pub async fn as_user(&self, user: &User, method: &str, path: &str, body: Value) -> Answer {
        let bytes = if body.is_null() { Bytes::new() } else { Bytes::from(body.to_string()) };
        let kind = if method == "PATCH" {
            if body.is_array() { "application/json-patch+json" } else { "application/merge-patch+json" }
        } else {
            "application/json"
        };
        self.send(Some(user.clone()), request(method, path, &[("content-type", kind)], bytes)).await
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.call("GET", path, Value::Null).await
    }

    pub async fn post(&self, path: &str, body: Value) -> Answer {
        self.call("POST", path, body).await
    }

    pub async fn put(&self, path: &str, body: Value) -> Answer {
        self.call("PUT", path, body).await
    }

    pub async fn patch(&self, path: &str, body: Value) -> Answer {
        self.call("PATCH", path, body).await
    }

    pub async fn delete(&self, path: &str) -> Answer {
        self.call("DELETE", path, Value::Null).await
    }

    /// A ConfigMap in `default`.
    pub async fn config_map(&self, name: &str) -> Value {
        let body = json!({"metadata": {"name": name, "labels": {"app": name}}, "data": {"k": "v"}});
        self.post("/api/v1/namespaces/default/configmaps", body).await.ok()
    }
}

/// Somebody who may do everything.
pub fn admin() -> User {
    User::new("admin", &["system:masters"])
}

pub fn request(method: &str, path: &str, headers: &[(&str, &str)], bytes: impl Into<Bytes>) -> Request<Body> {
    let mut builder = Request::builder().method(method).uri(path);
    for (name, value) in headers {
        builder = builder.header(*name, *value);
    }
    builder.body(body::full(bytes.into())).unwrap()
}

/// A pod that is well-formed.
pub fn pod(name: &str) -> Value {
    json!({"metadata": {"name": name}, "spec": {"containers": [{"name": "c", "image": "busybox"}]}})
}
