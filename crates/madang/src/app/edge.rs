//! The role `edge`: what faces users, in one unprivileged process. Now: the registry, the gateway, metrics, the console and Git.

use std::{net::SocketAddr, sync::Arc};

use access::gate::Gate;
use anyhow::Result;
use client::connection::Credentials;
use console::{
    console::{Console, Entrance, Settings as ConsoleSettings},
    session::Place,
};
use image::{
    content::{self, Content},
    pull::Pull,
};
use metrics::{
    Metrics,
    adapter::Adapter,
    alerting::Alerts,
    builtin,
    discover::{Cluster, kubernetes::caches::Caches},
    scrape::Scraper,
};
use pipeline::{jenkins::Jenkins, operate::Pipelines, repositories::Repositories};
use registry::{
    Registry,
    auth::{Door, Guard},
    blobs::{Blobs, Node, bucket::Bucket},
    cache::Cache,
    registry::Settings,
};
use release::prometheus::Prometheus;
use rustls::{ServerConfig, pki_types::ServerName};
use serve::{Body, http::Limits, tunnel::Target};
use task::Task;
use tokio::net::TcpListener;

use super::Ready;
use crate::{
    config::{Config, REGISTRY},
    pki,
    sockets::Sockets,
};

/// Starts everything; returns when all of them answer.
pub async fn start(task: &Task, config: &Config, mut sockets: Sockets) -> Result<Ready> {
    let files = pki::Files::of(config);
    let authority = files.read("ca.crt")?;
    let credentials =
        Credentials::Certificate { chain: files.read("edge/client.crt")?, key: files.read("edge/client.key")? };
    let client = client::connection::https(&config.api_url(), &authority, &credentials)?;
    let gate = Gate::new(client.clone());
    let repositories = config
        .with("pipeline")
        .then(|| Repositories::start(task, config.data_dir.join("git"), client.clone(), gate.clone()));
    let pipelines = match &repositories {
        Some(repositories) => {
            let below = task.child("pipelines");
            let commands = client::exec::Commands::new(&below, &config.api_url(), &authority, &credentials)?;
            let reach = pipeline::reach::Reach::new(&below, &authority, &credentials)?;
            let settings = pipeline_settings(config, &authority, &sockets);
            Some(Pipelines::start(&below, settings, client.clone(), (commands, reach), repositories.clone()))
        }
        None => None,
    };
    let counted = pipelines.clone();
    if config.with("console") {
        let parts = repositories.zip(pipelines).map(|(repositories, pipelines)| {
            let jenkins = jenkins(config, gate.clone(), &authority, &pipelines);
            Parts { repositories, pipelines, jenkins }
        });
        start_console(task, config, &mut sockets, gate.clone(), &authority, parts)?;
    }
    let mut parts = Vec::new();
    if config.with("gateway") {
        let tls = server_tls(&files, &authority)?;
        let shown = super::gateways::start(task, config, &mut sockets, client.clone(), tls).await?;
        parts.push(part("gateway", shown.to_string(), true));
    }
    if let Some(pipelines) = counted {
        let tls = server_tls(&files, &authority)?;
        let shown = super::shown::show(task, tls, move |page| pipelines.write_counts(page)).await?;
        parts.push(part("pipelines", shown.to_string(), true));
    }
    if config.with("metrics") {
        let caches = Caches::new(task, client.clone());
        let cluster = Cluster { caches, namespace: super::cluster::NAMESPACE.to_owned() };
        let listener = sockets.tcp("prometheus")?;
        let address = listener.local_addr()?;
        let (metrics, alerts, scraper) = start_metrics(task, config, cluster, address).await?;
        let local =
            metrics::web::door::Door { gate: Some(gate.clone()), open: !config.loopback_auth, local_only: true };
        if !config.loopback_auth {
            parts.push(part("prometheus", address.to_string(), false));
        }
        parts.extend(registry_part(config, &sockets));
        listen_metrics(task, listener, None, metrics.clone(), local);
        if config.with("gateway") {
            start_releases(task, config, &sockets, &client, address)?;
        }
        metrics::alerting::follow::start(task, client.clone(), alerts);
        let adapter = Adapter::new(metrics.clone(), client.clone());
        collect(task, &files, client, scraper, &parts)?;
        if sockets.has("prometheus-tls") {
            // The API server shows the certificate of its front proxy when it hands a request on.
            let tls = server_tls(&files, &[authority.as_slice(), &files.read("front-proxy-ca.crt")?].concat())?;
            let outside = metrics::web::door::Door { gate: Some(gate.clone()), open: false, local_only: false };
            listen_metrics(task, sockets.tcp("prometheus-tls")?, Some((tls, adapter)), metrics, outside);
        }
    }
    if config.with("registry") {
        let guard = Guard::new(gate, REGISTRY)?;
        let dir = config.data_dir.join("registry");
        let own = async || Content::open(&dir.join("content"), content::Options::default()).await;
        let blobs = match (&config.registry_bucket, &config.only) {
            (Some(place), _) => {
                let pull = Pull { registries: Arc::new(super::read_registries(config)?), ..Pull::default() };
                Blobs::Bucket(Bucket::open(&place.parse()?, &[], &pull, own().await?)?)
            }
            // Without a node beside it, it keeps content itself.
            (None, Some(_)) => Blobs::Own(own().await?),
            (None, None) => Blobs::Node(Node::new(&config.content_dir(), &config.content_socket())),
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

/// Starts releases, which ask Prometheus' API at `local` where that is open, and else on the node's address with a certificate.
fn start_releases(
    task: &Task,
    config: &Config,
    sockets: &Sockets,
    client: &kube::Client,
    local: SocketAddr,
) -> Result<()> {
    let task = task.child("releases");
    let prometheus = match config.loopback_auth {
        false => Prometheus::new(&task, local),
        true if sockets.has("prometheus-tls") => {
            let files = pki::Files::of(config);
            let (chain, key) = (files.read("edge/client.crt")?, files.read("edge/client.key")?);
            let tls = serve::tls::client_config(&files.read("ca.crt")?, Some((&chain, &key)), &["http/1.1"])?;
            Prometheus::secure(&task, SocketAddr::from((config.node_ip, local.port())), tls)
        }
        true => {
            tracing::warn!(
                "releases wait: --loopback-auth closes 9090 to them, and there is no other address to ask at"
            );
            return Ok(());
        }
    };
    release::run::run(&task, client, prometheus);
    Ok(())
}

/// What pipelines have at the console's port.
#[derive(Clone)]
struct Parts {
    repositories: Repositories,
    pipelines: Pipelines,
    jenkins: Jenkins,
}

/// Jenkins' remote API, which writes with its callers' own tokens.
fn jenkins(config: &Config, gate: Gate, authority: &[u8], pipelines: &Pipelines) -> Jenkins {
    let (server, authority) = (config.api_url(), authority.to_vec());
    let connect = move |token: &str| {
        let credentials = Credentials::Token(token.to_owned());
        Ok(client::connection::https(&server, &authority, &credentials)?)
    };
    let (known, runs) = (pipelines.pipelines().clone(), pipelines.runs().clone());
    Jenkins::new(gate, known, runs, pipelines.records().clone(), Arc::new(connect))
}

/// Namespace and name of a pipeline, of which a forge tells: `/pipelines/NAMESPACE/NAME/webhook`.
fn of_hook(path: &str) -> Option<(String, String)> {
    let rest = path.strip_prefix("/pipelines/")?.strip_suffix("/webhook")?;
    let (namespace, name) = rest.split_once('/').filter(|(_, name)| !name.contains('/'))?;
    Some((namespace.to_owned(), name.to_owned()))
}

fn pipeline_settings(config: &Config, authority: &[u8], sockets: &Sockets) -> pipeline::operate::Settings {
    let registry = config.with("registry") && sockets.has("registry-tls");
    pipeline::operate::Settings {
        dir: config.data_dir.join("pipelines"),
        interpreter: vec!["/proc/self/exe".into(), "interpret".into()],
        step_image: super::step::image(),
        url: format!("http://127.0.0.1:{}", config.port("console")),
        api: config.api_url(),
        authority: authority.to_vec(),
        builds: config.with("engine"),
        registry: REGISTRY.to_owned(),
        registry_address: registry.then(|| (config.node_ip.to_string(), config.port("registry"))),
    }
}

/// Starts the web interface on loopback, and with TLS on the node's address.
fn start_console(
    task: &Task,
    config: &Config,
    sockets: &mut Sockets,
    gate: Gate,
    authority: &[u8],
    behind: Option<Parts>,
) -> Result<()> {
    let files = pki::Files::of(config);
    let tls = serve::tls::client_config(authority, None, &["http/1.1"])?;
    let target = |host: String, port: u16, name: String| -> Result<Target> {
        Ok(Target { host, port, tls: Some((tls.clone(), ServerName::try_from(name)?)) })
    };
    let local = "127.0.0.1".to_owned();
    // The door on the node's address asks who somebody is, which the open one on loopback does not.
    let prometheus = match config.with("metrics") {
        false => None,
        true if config.node_ip.is_loopback() => {
            Some(Target { host: local.clone(), port: config.port("prometheus"), tls: None })
        }
        true => {
            let address = config.node_ip.to_string();
            Some(target(address.clone(), config.port("prometheus"), address)?)
        }
    };
    let parts = ["registry", "engine", "metrics", "gateway", "pipeline"];
    let settings = ConsoleSettings {
        place: Place::of(&config.data_dir),
        api: target(local.clone(), config.port("api"), local)?,
        prometheus,
        dashboards: config.data_dir.join("dashboards"),
        parts: parts.iter().filter(|part| config.with(part)).map(|part| (*part).to_owned()).collect(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
    };
    let console = Console::open(task, gate.clone(), settings)?;
    listen_console(task, sockets.tcp("console")?, None, (gate.clone(), console.clone()), behind.clone());
    if sockets.has("console-tls") {
        let tls = server_tls(&files, authority)?;
        listen_console(task, sockets.tcp("console-tls")?, Some(tls), (gate, console), behind);
    }
    Ok(())
}

/// The repository's path in a request for one: below `/git`, or of the host `git.…`.
fn of_git<T>(request: &http::Request<T>) -> Option<String> {
    let host = request.headers().get(http::header::HOST).and_then(|host| host.to_str().ok());
    let host = host.or_else(|| request.uri().authority().map(|authority| authority.as_str())).unwrap_or_default();
    let path = request.uri().path();
    let below = path.strip_prefix("/git").filter(|rest| rest.starts_with('/'));
    below.or_else(|| host.starts_with("git.madang").then_some(path)).map(str::to_owned)
}

fn listen_console(
    task: &Task,
    listener: TcpListener,
    tls: Option<Arc<ServerConfig>>,
    (gate, console): (Gate, Console),
    behind: Option<Parts>,
) {
    let entrance = Entrance { local_only: tls.is_none(), secure: tls.is_some() };
    let handler = move |request: http::Request<Body>| {
        let (gate, console, behind) = (gate.clone(), console.clone(), behind.clone());
        async move {
            let Some(Parts { repositories, pipelines, jenkins }) = behind else {
                return console.answer(entrance, request).await;
            };
            if let Some(path) = of_git(&request) {
                return repositories.answer(&path, request).await;
            }
            if let Some((namespace, name)) = of_hook(request.uri().path()) {
                return pipelines.starter().hook(&namespace, &name, request).await;
            }
            let below = request.uri().path().strip_prefix("/jenkins").map(str::to_owned);
            if let Some(path) = below.filter(|path| path.is_empty() || path.starts_with('/')) {
                return jenkins.answer(&path, entrance.secure, request).await;
            }
            // What runs have left; pages of pipelines are elsewhere. A browser's cookie becomes the token of whoever is signed in.
            let path = request.uri().path().strip_prefix("/pipelines/").map(str::to_owned);
            match path.filter(|rest| rest.contains('/')) {
                Some(path) => match console.admitted(entrance, request) {
                    Ok(request) => Console::passed(pipelines.answer(&gate, &path, request).await),
                    Err(refusal) => *refusal,
                },
                None => console.answer(entrance, request).await,
            }
        }
    };
    let listening = task.child("console listener");
    task.spawn("listener", serve::http::serve(listening, listener, tls, Limits::default(), handler));
}

fn part(job: &str, address: String, tls: bool) -> builtin::Part {
    builtin::Part { job: job.to_owned(), address, tls }
}

/// Where the registry's figures are: on loopback where that is open, else with a certificate on the node's address.
fn registry_part(config: &Config, sockets: &Sockets) -> Option<builtin::Part> {
    let port = config.port("registry");
    match () {
        () if !config.with("registry") => None,
        () if !config.loopback_auth => Some(part("registry", format!("127.0.0.1:{port}"), false)),
        () if sockets.has("registry-tls") => Some(part("registry", format!("{}:{port}", config.node_ip), true)),
        () => None,
    }
}

fn server_tls(files: &pki::Files, authority: &[u8]) -> Result<Arc<ServerConfig>> {
    let (certificate, key) = (files.read("edge/server.crt")?, files.read("edge/server.key")?);
    Ok(serve::tls::server_config(&certificate, &key, Some(authority))?)
}

/// Opens the samples of the cluster.
async fn start_metrics(
    task: &Task,
    config: &Config,
    cluster: Cluster,
    address: SocketAddr,
) -> Result<(Metrics, Alerts, Arc<Scraper>)> {
    let mut settings = metrics::settings::Settings::new(config.data_dir.join("metrics"));
    // Links in alerts lead there.
    settings.external_url = format!("http://{address}");
    settings.web.remote_write_receiver = true;
    settings.web.otlp_receiver = true;
    settings.query.give_back = Some(super::give_back);
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
    parts: &[builtin::Part],
) -> Result<()> {
    let identity = builtin::Identity {
        authority: files.path("ca.crt"),
        certificate: files.path("edge/client.crt"),
        key: files.path("edge/client.key"),
    };
    scraper.apply("standard", builtin::jobs(&identity, parts).map_err(anyhow::Error::msg)?);
    metrics::operator::start(task, client, scraper);
    Ok(())
}

fn listen_metrics(
    task: &Task,
    listener: TcpListener,
    outside: Option<(Arc<ServerConfig>, Adapter)>,
    metrics: Metrics,
    door: metrics::web::door::Door,
) {
    let (tls, adapter) = outside.unzip();
    let handler = move |request: http::Request<Body>| {
        let (metrics, door, adapter) = (metrics.clone(), door.clone(), adapter.clone());
        async move {
            match adapter.filter(|_| request.uri().path().starts_with("/apis/")) {
                Some(adapter) => adapter.answer(request).await,
                None => metrics.answer(&door, request).await,
            }
        }
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
