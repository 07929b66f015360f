//! Runs of a pipeline: how long one takes from its creation to its end, and how many end in a minute.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use crate::{connection::Connection, kubeconfig::Server, samples::Samples};

const RUNS: &str = "/apis/madang.dev/v1alpha1/namespaces/default/pipelineruns";
/// How long anything here may take.
const PATIENCE: Duration = Duration::from_secs(600);

struct Watch {
    connection: Connection,
    pending: Vec<u8>,
}

impl Watch {
    async fn begin(server: &Server) -> Result<Self> {
        let (mut connection, mut answer) = (Connection::open(server).await?, Vec::new());
        let code = connection.request("GET", RUNS, b"", &mut answer).await?;
        let list: Value = serde_json::from_slice(&answer).with_context(|| format!("list runs: {code}"))?;
        let revision = list["metadata"]["resourceVersion"].as_str().context("a list without resourceVersion")?;
        connection.watch(&format!("{RUNS}?watch=true&resourceVersion={revision}")).await?;
        Ok(Self { connection, pending: Vec::new() })
    }

    /// The next run that has ended, which must have ended well.
    async fn ended(&mut self) -> Result<String> {
        loop {
            let line = self.connection.event(&mut self.pending).await?;
            let event: Value = serde_json::from_slice(&line)?;
            let status = &event["object"]["status"];
            match status["result"].as_str() {
                None if event["type"] == "ERROR" => bail!("watch: {event}"),
                None => {}
                Some("SUCCESS") => {
                    return Ok(event["object"]["metadata"]["name"].as_str().unwrap_or_default().to_owned());
                }
                Some(other) => bail!("a run ended with {other}: {}", status["message"]),
            }
        }
    }
}

async fn create(connection: &mut Connection, pipeline: &str, name: &str) -> Result<()> {
    let run = json!({
        "apiVersion": "madang.dev/v1alpha1", "kind": "PipelineRun", "metadata": { "name": name },
        "spec": { "pipelineRef": { "name": pipeline } },
    });
    let mut answer = Vec::new();
    match connection.request("POST", RUNS, run.to_string().as_bytes(), &mut answer).await? {
        201 => Ok(()),
        code => bail!("POST {RUNS}: {code} {}", String::from_utf8_lossy(&answer)),
    }
}

/// Runs one after the other; from before the POST to the event that says that it has ended.
pub async fn in_turn(server: &Server, pipeline: &str, count: usize) -> Result<Value> {
    let (mut watch, mut connection) = (Watch::begin(server).await?, Connection::open(server).await?);
    let mut samples = Samples::default();
    let all = async {
        // The first one warms up and is not counted.
        for index in 0..=count {
            let name = format!("turn-{}-{index}", std::process::id());
            let sent = Instant::now();
            create(&mut connection, pipeline, &name).await?;
            while watch.ended().await? != name {}
            if index > 0 {
                samples.add(sent.elapsed());
            }
        }
        Ok::<_, anyhow::Error>(())
    };
    tokio::time::timeout(PATIENCE, all).await.context("runs do not end")??;
    Ok(json!({ "count": count, "all_ms": samples.all(), "ms": samples.places() }))
}

/// Runs as many at a time as `at_once` until `count` have ended; how many that are in a minute.
pub async fn together(server: &Server, pipeline: &str, count: usize, at_once: usize) -> Result<Value> {
    let (mut watch, mut connection) = (Watch::begin(server).await?, Connection::open(server).await?);
    let started = Instant::now();
    let all = async {
        let (mut next, mut under_way) = (0, BTreeSet::new());
        while next < count || !under_way.is_empty() {
            while next < count && under_way.len() < at_once {
                let name = format!("many-{}-{next}", std::process::id());
                create(&mut connection, pipeline, &name).await?;
                under_way.insert(name);
                next += 1;
            }
            under_way.remove(&watch.ended().await?);
        }
        Ok::<_, anyhow::Error>(())
    };
    tokio::time::timeout(PATIENCE, all).await.context("runs do not end")??;
    let seconds = started.elapsed().as_secs_f64();
    Ok(json!({ "count": count, "at_once": at_once, "seconds": seconds, "a_minute": count as f64 * 60.0 / seconds }))
}
