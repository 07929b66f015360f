//! Bare puts to etcd: what an API server that keeps its objects there cannot be faster than.
//!
//! The two messages are those of etcd's v3 protocol, <https://etcd.io/docs/v3.6/learning/api/>, as far as they are used.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use bytes::Bytes;
use http::uri::PathAndQuery;
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tonic::{Request, client::Grpc, transport::Endpoint};
use tonic_prost::ProstCodec;

use crate::samples::Samples;

#[derive(Clone, PartialEq, prost::Message)]
struct PutRequest {
    #[prost(bytes = "bytes", tag = "1")]
    key: Bytes,
    #[prost(bytes = "bytes", tag = "2")]
    value: Bytes,
}

#[derive(Clone, PartialEq, prost::Message)]
struct PutResponse {}

/// Puts values of a kilobyte under new keys, on `connections` connections for `seconds`.
pub async fn puts(endpoint: String, connections: usize, seconds: u64) -> Result<Value> {
    let endpoint = Endpoint::from_shared(endpoint)?.tcp_nodelay(true);
    let mut open = Vec::with_capacity(connections);
    for _ in 0..connections {
        open.push(Grpc::new(endpoint.connect().await.context("connect to etcd")?));
    }
    let value = Bytes::from(vec![b'x'; 1024]);
    let (next, run, started) = (Arc::new(AtomicUsize::new(0)), std::process::id(), Instant::now());
    let mut workers = JoinSet::new();
    for mut client in open {
        let (next, value) = (next.clone(), value.clone());
        workers.spawn(async move {
            let mut samples = Samples::default();
            while started.elapsed() < Duration::from_secs(seconds) {
                let index = next.fetch_add(1, Ordering::Relaxed);
                let put = PutRequest { key: format!("/load/{run}/{index}").into(), value: value.clone() };
                let sent = Instant::now();
                client.ready().await.context("etcd is not ready")?;
                let codec = ProstCodec::<PutRequest, PutResponse>::default();
                let path = PathAndQuery::from_static("/etcdserverpb.KV/Put");
                client.unary(Request::new(put), path, codec).await.context("put")?;
                samples.add(sent.elapsed());
            }
            Ok::<_, anyhow::Error>(samples)
        });
    }
    let mut samples = Samples::default();
    while let Some(ended) = workers.join_next().await {
        samples.merge(ended??);
    }
    let (done, seconds) = (samples.len(), started.elapsed().as_secs_f64());
    Ok(json!({
        "connections": connections, "done": done, "seconds": seconds, "rate": done as f64 / seconds, "ms": samples.places(),
    }))
}
