//! Objects that nothing acts on: how fast they are written, and read again.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::{Filling, connection::Connection, kubeconfig::Server, samples::Samples};

/// Bytes of a ConfigMap's value; with its metadata it has a kilobyte.
const VALUE: usize = 900;
/// Bytes of a pod's annotation.
const NOTE: usize = 620;
/// How long the ServiceAccount that pods need may take to appear.
const ACCOUNT: Duration = Duration::from_secs(30);

/// Creates ConfigMaps on `connections` connections for `seconds`.
pub async fn creates(server: &Server, connections: usize, seconds: u64) -> Result<Value> {
    let end = Duration::from_secs(seconds);
    work(server, connections, Filling::Configmaps, move |_, elapsed| elapsed < end).await
}

/// Creates `count` objects.
pub async fn fill(server: &Server, what: Filling, count: usize, connections: usize) -> Result<Value> {
    if matches!(what, Filling::Pods) {
        account(server).await?;
    }
    work(server, connections, what, move |index, _| index < count).await
}

/// Waits for the ServiceAccount without which no pod may be created.
pub async fn account(server: &Server) -> Result<()> {
    let mut connection = Connection::open(server).await?;
    let (path, started) = ("/api/v1/namespaces/default/serviceaccounts/default", Instant::now());
    let mut answer = Vec::new();
    while connection.request("GET", path, b"", &mut answer).await? != 200 {
        if started.elapsed() > ACCOUNT {
            bail!("no ServiceAccount default in the namespace default");
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Ok(())
}

async fn work<F>(server: &Server, connections: usize, what: Filling, go_on: F) -> Result<Value>
where
    F: Fn(usize, Duration) -> bool + Copy + Send + 'static,
{
    let mut open = Vec::with_capacity(connections);
    for _ in 0..connections {
        open.push(Connection::open(server).await?);
    }
    let (next, run, started) = (Arc::new(AtomicUsize::new(0)), std::process::id(), Instant::now());
    let mut workers = JoinSet::new();
    for mut connection in open {
        let next = next.clone();
        workers.spawn(async move {
            let (mut samples, mut answer) = (Samples::default(), Vec::new());
            loop {
                let index = next.fetch_add(1, Ordering::Relaxed);
                if !go_on(index, started.elapsed()) {
                    return Ok::<_, anyhow::Error>(samples);
                }
                let (path, body) = match what {
                    Filling::Configmaps => ("/api/v1/namespaces/default/configmaps", configmap(run, index)),
                    Filling::Pods => ("/api/v1/namespaces/default/pods", pod(run, index)),
                };
                let sent = Instant::now();
                let code = connection.request("POST", path, body.as_bytes(), &mut answer).await?;
                samples.add(sent.elapsed());
                if code != 201 {
                    bail!("POST {path}: {code} {}", String::from_utf8_lossy(&answer));
                }
            }
        });
    }
    let mut samples = Samples::default();
    while let Some(ended) = workers.join_next().await {
        samples.merge(ended??);
    }
    let (created, seconds) = (samples.len(), started.elapsed().as_secs_f64());
    Ok(json!({
        "connections": connections, "created": created, "seconds": seconds, "rate": created as f64 / seconds,
        "ms": samples.places(),
    }))
}

fn configmap(run: u32, index: usize) -> String {
    let value = "x".repeat(VALUE);
    format!(
        r#"{{"apiVersion":"v1","kind":"ConfigMap","metadata":{{"name":"load-{run}-{index}","namespace":"default"}},"data":{{"key":"{value}"}}}}"#
    )
}

fn pod(run: u32, index: usize) -> String {
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {
            "name": format!("load-{run}-{index}"), "namespace": "default",
            "labels": { "app": "load", "index": index.to_string() },
            // What other servers note in managedFields: 10,000 of these pods are the 24 MB that the target speaks of.
            "annotations": { "example.com/note": "x".repeat(NOTE) },
        },
        "spec": {
            "nodeSelector": { "no-such": "node" },
            "containers": [{
                "name": "main", "image": "example.com/load:1", "command": ["/bin/sleep", "1000"],
                "resources": { "requests": { "cpu": "10m", "memory": "16Mi" } },
            }],
        },
    });
    pod.to_string()
}

/// Gets `path` `times` times on one connection, after a first time that is not counted.
pub async fn list(server: &Server, path: &str, times: usize) -> Result<Value> {
    let mut connection = Connection::open(server).await?;
    let (mut samples, mut answer) = (Samples::default(), Vec::new());
    for turn in 0..=times {
        let sent = Instant::now();
        let code = connection.request("GET", path, b"", &mut answer).await?;
        if code != 200 {
            bail!("GET {path}: {code} {}", String::from_utf8_lossy(&answer));
        }
        if turn > 0 {
            samples.add(sent.elapsed());
        }
    }
    let list: Value = serde_json::from_slice(&answer).context("the answer is no JSON")?;
    let items = list["items"].as_array().map(Vec::len);
    Ok(json!({ "path": path, "bytes": answer.len(), "items": items, "times": times, "ms": samples.places() }))
}
