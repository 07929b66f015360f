//! The role `edge`: what faces users, in one unprivileged process. Now: the registry and metrics.

use std::sync::Arc;

use access::gate::Gate;
use anyhow::Result;
use client::connection::Credentials;
use image::{
    content::{self, Content},
    pull::Pull,
};
use metrics::{
    Metrics,
    alerting::Alerts,
    builtin,
    discover::{Cluster, kubernetes::caches::Caches},
    scrape::Scraper,
};
use registry::{
    Registry,
    auth::{Door, Guard},
    blobs::{Blobs, Node},
    cache::Cache,
    registry::Settings,
};
use rustls::ServerConfig;
use serve::{Body, http::Limits};
use task::Task;
use tokio::net::TcpListener;

use super::Ready;
use crate::{
    config::{Config, REGISTRY},
    pki,
    sockets::Sockets,
};

/// Starts everything; returns when registry and metrics answer.
pub async fn start(task: &Task, config: &Config, mut sockets: Sockets) -> Result<Ready> {
    let files = pki::Files::of(config);
    let authority = files.read("ca.crt")?;
    let credentials =
        Credentials::Certificate { chain: files.read("edge/client.crt")?, key: files.read("edge/client.key")? };
    let client = client::connection::https(&config.api_url(), &authority, &credentials)?;
    let gate = Gate::new(client.clone());
    if config.with("metrics") {
        let caches = Caches::new(task, client.clone());
        let cluster = Cluster { caches, namespace: super::cluster::NAMESPACE.to_owned() };
        let (metrics, alerts, scraper) = start_metrics(task, config, cluster).await?;
        let local =
            metrics::web::door::Door { gate: Some(gate.clone()), open: !config.loopback_auth, local_only: true };
        let listener = sockets.tcp("prometheus")?;
        let own = (!config.loopback_auth).then(|| listener.local_addr()).transpose()?;
        listen_metrics(task, listener, None, metrics.clone(), local);
        metrics::alerting::follow::start(task, client.clone(), alerts);
        collect(task, &files, client, scraper, own)?;
        if sockets.has("prometheus-tls") {
            let tls = server_tls(&files, &authority)?;
            let outside = metrics::web::door::Door { gate: Some(gate.clone()), open: false, local_only: false };
            listen_metrics(task, sockets.tcp("prometheus-tls")?, Some(tls), metrics, outside);
        }
    }
    if config.with("registry") {
        let guard = Guard::new(gate, REGISTRY)?;
        let dir = config.data_dir.join("registry");
        let blobs = match config.only {
            // Without a node beside it, it keeps content itself.
            Some(_) => Blobs::Own(Content::open(&dir.join("content"), content::Options::default()).await?),
            None => Blobs::Node(Node::new(&config.content_dir(), &config.content_socket())),
        };
        let registry = Registry::open(task, Settings::new(dir, REGISTRY), blobs, cache(config)?).await?;
        let local = Door {
            guard: Some(guard.clone()),
            anonymous_pull: !config.loopback_auth,
            local_only: true,
            scheme: "http",
        };
        listen(task, sockets.tcp("registry")?, None, registry.clone(), local);
        if sockets.has("registry-tls") {
            let tls = server_tls(&files, &authority)?;
            let outside = Door { guard: Some(guard), anonymous_pull: false, local_only: false, scheme: "https" };
            listen(task, sockets.tcp("registry-tls")?, Some(tls), registry, outside);
        }
    }
    let (ready, answered) = tokio::sync::oneshot::channel();
    let _ = ready.send(());
    Ok(answered)
}

fn server_tls(files: &pki::Files, authority: &[u8]) -> Result<Arc<ServerConfig>> {
    let (certificate, key) = (files.read("edge/server.crt")?, files.read("edge/server.key")?);
    Ok(serve::tls::server_config(&certificate, &key, Some(authority))?)
}

/// Opens the samples of the cluster.
async fn start_metrics(task: &Task, config: &Config, cluster: Cluster) -> Result<(Metrics, Alerts, Arc<Scraper>)> {
    let mut settings = metrics::settings::Settings::new(config.data_dir.join("metrics"));
    settings.web.remote_write_receiver = true;
    settings.web.admin = true;
    let opening = task.clone();
    let metrics = tokio::task::spawn_blocking(move || Metrics::open(&opening, settings)).await??;
    let (alerts, scraper) = metrics::start::start(&metrics, Some(cluster)).await?;
    Ok((metrics, alerts, scraper))
}

/// Begins to collect from the cluster: what is built in, and what its objects ask for.
fn collect(
    task: &Task,
    files: &pki::Files,
    client: kube::Client,
    scraper: Arc<Scraper>,
    own: Option<std::net::SocketAddr>,
) -> Result<()> {
    let identity = builtin::Identity {
        authority: files.path("ca.crt"),
        certificate: files.path("edge/client.crt"),
        key: files.path("edge/client.key"),
    };
    let part = |address: std::net::SocketAddr| builtin::Part {
        job: "prometheus".to_owned(),
        address: address.to_string(),
        tls: false,
    };
    let parts: Vec<builtin::Part> = own.map(part).into_iter().collect();
    scraper.apply("standard", builtin::jobs(&identity, &parts).map_err(anyhow::Error::msg)?);
    metrics::operator::start(task, client, scraper);
    Ok(())
}

fn listen_metrics(
    task: &Task,
    listener: TcpListener,
    tls: Option<Arc<ServerConfig>>,
    metrics: Metrics,
    door: metrics::web::door::Door,
) {
    let handler = move |request: http::Request<Body>| {
        let (metrics, door) = (metrics.clone(), door.clone());
        async move { metrics.answer(&door, request).await }
    };
    let listening = task.child("metrics listener");
    task.spawn("listener", serve::http::serve(listening, listener, tls, Limits::default(), handler));
}

fn listen(task: &Task, listener: TcpListener, tls: Option<Arc<ServerConfig>>, registry: Registry, door: Door) {
    let handler = move |request: http::Request<Body>| {
        let (registry, door) = (registry.clone(), door.clone());
        async move { registry.answer(&door, request).await }
    };
    let listening = task.child("registry listener");
    task.spawn("listener", serve::http::serve(listening, listener, tls, Limits::default(), handler));
}

/// What copies are kept of, and how their origins are reached.
fn cache(config: &Config) -> Result<Cache> {
    if config.registry_cache.is_empty() {
        return Ok(Cache::default());
    }
    let registries = Arc::new(super::read_registries(config)?);
    Ok(Cache { origins: config.registry_cache.clone(), pull: Arc::new(Pull { registries, ..Pull::default() }) })
}
