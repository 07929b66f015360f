//! Pods that run: how long it takes from their creation until a watch shows them running.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::{api, connection::Connection, kubeconfig::Server, samples::Samples};

const PODS: &str = "/api/v1/namespaces/default/pods";
/// How long anything here may take.
const PATIENCE: Duration = Duration::from_secs(300);
/// Connections that create pods at once.
const WORKERS: usize = 16;

fn pod(name: &str, image: &str, group: &str) -> Vec<u8> {
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": { "name": name, "labels": { "load": group } },
        "spec": {
            "terminationGracePeriodSeconds": 0,
            "containers": [{ "name": "main", "image": image, "imagePullPolicy": "Never" }],
        },
    });
    pod.to_string().into_bytes()
}

/// A watch of the pods with a label.
struct Watch {
    connection: Connection,
    pending: Vec<u8>,
}

/// What a watch told: the pod's name, its phase, and whether it is gone.
struct Seen {
    name: String,
    phase: String,
    gone: bool,
}

impl Watch {
    async fn begin(server: &Server, group: &str) -> Result<Self> {
        let (mut connection, mut answer) = (Connection::open(server).await?, Vec::new());
        let path = format!("{PODS}?labelSelector=load%3D{group}");
        let code = connection.request("GET", &path, b"", &mut answer).await?;
        let list: Value = serde_json::from_slice(&answer).with_context(|| format!("list pods: {code}"))?;
        let revision = list["metadata"]["resourceVersion"].as_str().context("a list without resourceVersion")?;
        connection.watch(&format!("{path}&watch=true&resourceVersion={revision}")).await?;
        Ok(Self { connection, pending: Vec::new() })
    }

    async fn next(&mut self) -> Result<Seen> {
        let line = self.connection.event(&mut self.pending).await?;
        let event: Value = serde_json::from_slice(&line)?;
        let object = &event["object"];
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        if event["type"] == "ERROR" {
            bail!("watch: {object}");
        }
        let seen = Seen {
            name: text(&object["metadata"]["name"]),
            phase: text(&object["status"]["phase"]),
            gone: event["type"] == "DELETED",
        };
        if seen.phase == "Failed" {
            bail!("pod {} failed: {}", seen.name, object["status"]);
        }
        Ok(seen)
    }
}

async fn expect(connection: &mut Connection, method: &str, path: &str, body: &[u8], code: u16) -> Result<()> {
    let mut answer = Vec::new();
    let got = connection.request(method, path, body, &mut answer).await?;
    if got != code {
        bail!("{method} {path}: {got} {}", String::from_utf8_lossy(&answer));
    }
    Ok(())
}

/// Creates `count` pods, each after the one before ran and went; the time from before the POST to the event that shows it
/// running.
pub async fn in_turn(server: &Server, image: &str, count: usize) -> Result<Value> {
    api::account(server).await?;
    let group = format!("turn-{}", std::process::id());
    let (mut watch, mut connection) = (Watch::begin(server, &group).await?, Connection::open(server).await?);
    let mut samples = Samples::default();
    let all = async {
        // The first one warms up and is not counted.
        for index in 0..=count {
            let name = format!("{group}-{index}");
            let sent = Instant::now();
            expect(&mut connection, "POST", PODS, &pod(&name, image, &group), 201).await?;
            while watch.next().await?.phase != "Running" {}
            if index > 0 {
                samples.add(sent.elapsed());
            }
            expect(&mut connection, "DELETE", &format!("{PODS}/{name}"), b"", 200).await?;
            while !watch.next().await?.gone {}
        }
        Ok::<_, anyhow::Error>(())
    };
    tokio::time::timeout(PATIENCE, all).await.context("pods do not get to run")??;
    Ok(json!({ "count": count, "all_ms": samples.all(), "ms": samples.places() }))
}

/// Creates `count` pods at once; the time from before the first POST until all run.
pub async fn together(server: &Server, image: &str, count: usize, delete: bool) -> Result<Value> {
    api::account(server).await?;
    let group = format!("all-{}", std::process::id());
    let mut watch = Watch::begin(server, &group).await?;
    let mut connections = Vec::new();
    for _ in 0..WORKERS {
        connections.push(Connection::open(server).await?);
    }
    let started = Instant::now();
    let mut workers = JoinSet::new();
    for (worker, mut connection) in connections.into_iter().enumerate() {
        let (group, image) = (group.clone(), image.to_owned());
        workers.spawn(async move {
            for index in (worker..count).step_by(WORKERS) {
                let name = format!("{group}-{index}");
                expect(&mut connection, "POST", PODS, &pod(&name, &image, &group), 201).await?;
            }
            Ok::<_, anyhow::Error>(())
        });
    }
    let mut running = BTreeSet::new();
    let all = async {
        while running.len() < count {
            let seen = watch.next().await?;
            if seen.phase == "Running" {
                running.insert(seen.name);
            }
        }
        Ok::<_, anyhow::Error>(())
    };
    let waited = tokio::time::timeout(PATIENCE, all).await;
    while let Some(ended) = workers.join_next().await {
        ended??;
    }
    waited.with_context(|| format!("{} of {count} pods run", running.len()))??;
    let seconds = started.elapsed().as_secs_f64();
    let mut gone = None;
    if delete {
        let started = Instant::now();
        let mut connection = Connection::open(server).await?;
        expect(&mut connection, "DELETE", &format!("{PODS}?labelSelector=load%3D{group}"), b"", 200).await?;
        let all = async {
            while !running.is_empty() {
                let seen = watch.next().await?;
                if seen.gone {
                    running.remove(&seen.name);
                }
            }
            Ok::<_, anyhow::Error>(())
        };
        tokio::time::timeout(PATIENCE, all).await.context("pods do not go")??;
        gone = Some(started.elapsed().as_secs_f64());
    }
    Ok(json!({ "count": count, "seconds": seconds, "gone_seconds": gone }))
}
