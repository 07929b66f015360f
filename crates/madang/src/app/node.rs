//! The role `node`: runtime, network, DNS and pods in one privileged process.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    os::{fd::OwnedFd, unix::fs::PermissionsExt},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, Result};
use client::connection::Credentials;
use container::{cgroup, shim};
use image::{
    content::Content,
    pull::Registries,
    unpack::{Unpacker, run_confined},
};
use network::Network;
use runtime::Runtime;
use task::Task;

use super::Ready;
use crate::{
    config::{Config, GIT, REGISTRY},
    images,
    oci_runtime::SHIM,
    pki,
    sockets::{Sockets, listen_on},
};

/// Bytes of a container's log file before the next is begun, and files kept: upstream's defaults.
const LOG_BYTES: u64 = 10 << 20;
const LOG_FILES: u32 = 5;
/// How long processes of a removed control group may take to die.
const GROUP: Duration = Duration::from_secs(10);
/// Where the machine says which servers it asks for names.
const RESOLV_CONF: &str = "/etc/resolv.conf";
/// Where the shims of the engine listen, below the run directory.
const ENGINE: &str = "engine";
/// Where Docker's clients find the engine.
const ENGINE_SOCKET: &str = "docker.sock";

/// Starts everything; the role is ready once the node is.
pub async fn start(task: &Task, config: &Config, mut sockets: Sockets) -> Result<Ready> {
    let files = pki::Files::of(config);
    let store = open_images(config).await?;
    let registries = Arc::new(registries(config)?);
    images::serve(task, &config.run_dir, &store, &registries)?;
    if sockets.has("content") {
        let content = Content::open(&config.content_dir(), content_options(config)).await?;
        let door = task.child("content");
        task.spawn("content", registry::blobs::door::serve(door, sockets.unix("content")?, content));
    }
    if config.with("pipeline") {
        super::step::load(&store).await?;
    }
    let runtime = open_runtime(task, config, store).await?;
    let engine = match config.with("engine") {
        true => Some(open_engine(task, config, &runtime, &registries).await?),
        false => None,
    };
    let credentials =
        Credentials::Certificate { chain: files.read("node/client.crt")?, key: files.read("node/client.key")? };
    let authority = files.read("ca.crt")?;
    let client = client::connection::https_as("kubelet", &config.api_url(), &authority, &credentials)?;
    let builds = engine.map(|engine| serve_builds(task, config, &files, engine, &client, &registries)).transpose()?;
    let settings = node::config::Config {
        name: config.node_name.clone(),
        ip: config.node_ip,
        labels: BTreeMap::new(),
        pods_dir: config.data_dir.join("pods"),
        volumes_dir: config.data_dir.join("volumes"),
        seccomp_dir: config.data_dir.join("seccomp"),
        max_pods: config.max_pods,
        cluster_dns: config.dns_address(),
        cluster_domain: config.cluster_domain.clone(),
        instance: config.instance.clone(),
        cluster_cidr: config.cluster_cidr.to_string(),
        service_cidr: config.service_cidr.to_string(),
        api_port: config.port("node"),
        build_sockets: builds.is_some().then(|| build_sockets(config)),
        builds,
        resolv_conf: PathBuf::from(RESOLV_CONF),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        registries,
        certificates_end: [end_of(&files.read("node/client.crt")?), end_of(&files.read("node/kubelet.crt")?)],
    };
    let dns = config.with("dns");
    let (udp, tcp): (Vec<OwnedFd>, Vec<OwnedFd>) =
        if dns { (vec![sockets.take("dns-udp")?], vec![sockets.take("dns-tcp")?]) } else { (Vec::new(), Vec::new()) };
    let sockets = node::node::Sockets {
        api: sockets.take("node")?.into(),
        api_tls: serve::tls::server_config(
            &files.read("node/kubelet.crt")?,
            &files.read("node/kubelet.key")?,
            Some(&authority),
        )?,
        dns_udp: udp.into_iter().map(Into::into).collect(),
        dns_tcp: tcp.into_iter().map(Into::into).collect(),
    };
    let node = node::node::Node::start(task, settings, client, runtime, sockets)?;
    let (ready, answered) = tokio::sync::oneshot::channel();
    task.spawn("ready", async move {
        node.ready().await;
        let _ = ready.send(());
    });
    Ok(answered)
}

/// When a certificate ends; its own authority has made it, so that one that cannot be read says nothing here.
fn end_of(pem: &[u8]) -> Option<jiff::Timestamp> {
    let (_, pem) = x509_parser::pem::parse_x509_pem(pem).ok()?;
    let end = pem.parse_x509().ok()?.validity().not_after.timestamp();
    jiff::Timestamp::from_second(end).ok()
}

/// Content is written here and read by the role edge; what the node's own images have is linked.
fn content_options(config: &Config) -> image::content::Options {
    image::content::Options {
        readers: Some(config.edge_uid),
        twin: Some(config.data_dir.join("images/blobs")),
        ..image::content::Options::default()
    }
}

async fn open_images(config: &Config) -> Result<image::Store> {
    let unpacker =
        Unpacker::Child { program: PathBuf::from("/proc/self/exe"), arguments: vec![OsString::from("unpack")] };
    let mut options = image::store::Options::new(unpacker);
    options.twin = config
        .with("registry")
        .then(|| image::store::Twin { registry: REGISTRY.to_owned(), content: config.content_dir() });
    image::Store::open(&config.data_dir.join("images"), options).await
}

async fn open_runtime(task: &Task, config: &Config, store: image::Store) -> Result<Runtime> {
    let settings = runtime::service::Config {
        dir: config.data_dir.join("runtime"),
        run_dir: config.run_dir.join("shims"),
        cgroup_root: config.cgroup_root.clone(),
        log_bytes: LOG_BYTES,
        log_files: LOG_FILES,
    };
    Runtime::open(task, settings, store, shim::Binary::from_bytes(SHIM)?).await
}

/// The engine takes up its containers and answers on its socket.
async fn open_engine(
    task: &Task,
    config: &Config,
    runtime: &Runtime,
    registries: &Arc<Registries>,
) -> Result<engine::Engine> {
    let settings = engine::Settings {
        dir: config.data_dir.join("engine"),
        run_dir: config.run_dir.join(ENGINE),
        cgroup_root: format!("{}/engine", config.cgroup_root),
        name: config.node_name.clone(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        instance: config.instance.clone(),
        resolv_conf: PathBuf::from(RESOLV_CONF),
    };
    let path = config.run_dir.join(ENGINE_SOCKET);
    let listener = listen_on(&path)?;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o660))?;
    let below = task.child("engine");
    let engine = engine::Engine::open(&below, settings, runtime.clone(), registries.clone()).await?;
    task.spawn("engine", engine::serve(below, listener, engine.clone()));
    Ok(engine)
}

/// Where sockets of pods that build are.
fn build_sockets(config: &Config) -> PathBuf {
    config.run_dir.join("builds")
}

/// Carries out `Build` objects, and gives pods sockets to build through; who answers for builds on the node's API.
fn serve_builds(
    task: &Task,
    config: &Config,
    files: &pki::Files,
    engine: engine::Engine,
    node: &kube::Client,
    registries: &Registries,
) -> Result<node::config::Builds> {
    let (chain, key) = (files.read("node/engine.crt")?, files.read("node/engine.key")?);
    let credentials = Credentials::Certificate { chain, key };
    let client =
        client::connection::https_as("madang-engine", &config.api_url(), &files.read("ca.crt")?, &credentials)?;
    let registries = Arc::new(registries.without_credentials());
    let of_pods = engine::pods::Settings {
        node: config.node_name.clone(),
        dir: build_sockets(config),
        registry: REGISTRY.to_owned(),
        git: GIT.to_owned(),
        registries: registries.clone(),
    };
    engine::pods::start(&task.child("sockets"), engine.clone(), node.clone(), of_pods);
    let settings = engine::objects::Settings {
        node: config.node_name.clone(),
        cgroup_root: config.cgroup_root.clone(),
        registry: REGISTRY.to_owned(),
        git: GIT.to_owned(),
        registries,
    };
    let builds = engine::objects::start(&task.child("builds"), engine, client, settings);
    Ok(node::config::Builds(Arc::new(move |request| {
        let builds = builds.clone();
        Box::pin(async move { builds.answer(request).await })
    })))
}

/// What `registries.yaml` says, and the cluster's own registry.
fn registries(config: &Config) -> Result<Registries> {
    let mut registries = super::read_registries(config)?;
    if config.with("registry") {
        let files = pki::Files::of(config);
        let authority = format!("{}:{}", config.node_ip, config.port("registry"));
        registries.built_in(
            REGISTRY,
            &authority,
            ["ca.crt", "node/client.crt", "node/client.key"].map(|f| files.path(f)),
        );
        for origin in &config.registry_cache {
            registries.copied(origin, &authority);
        }
    }
    if config.with("pipeline") && config.with("console") {
        let authority = format!("{}:{}", config.node_ip, config.port("console"));
        registries.served(GIT, &authority, pki::Files::of(config).path("ca.crt"));
    }
    Ok(registries)
}

/// What the hidden command `unpack` does: reads a layer from standard input in a confined process.
pub fn unpack() -> std::process::ExitCode {
    run_confined()
}

/// Ends every container of the instance and removes its links, tables, mounts and control groups. The server must not run.
pub async fn remove_everything(task: &Task, config: &Config) -> Result<()> {
    let runtime = open_runtime(task, config, open_images(config).await?).await?;
    for sandbox in runtime.list_sandboxes() {
        let id = &sandbox.record.id;
        runtime.stop_pod_sandbox(id).await.with_context(|| format!("stop sandbox {id}"))?;
        runtime.remove_pod_sandbox(id).await.with_context(|| format!("remove sandbox {id}"))?;
    }
    engine::container::restore::end_all(task, &config.run_dir.join(ENGINE)).await.context("end containers")?;
    for name in [config.instance.clone(), engine::networks_of(&config.instance)] {
        Network::remove_leftovers(&name).await.context("remove links and tables")?;
    }
    let version = cgroup::Version::detect().context("detect control groups")?;
    remove_group(&version, &cgroup::Path::new(&config.cgroup_root)?)?;
    unmount_below(&config.data_dir)?;
    // Volumes that are kept in memory lie beside the sockets.
    unmount_below(&config.run_dir)
}

/// Removes a control group and those below it; whatever still runs in them is killed.
fn remove_group(version: &cgroup::Version, path: &cgroup::Path) -> Result<()> {
    let group = cgroup::Group::open(version, path);
    if !group.exists() {
        return Ok(());
    }
    group.kill(GROUP);
    for child in group.children() {
        remove_group(version, &path.join(&child)?)?;
    }
    group.remove(GROUP).with_context(|| format!("remove control group {}", path.as_str()))
}

/// Unmounts what volumes have left below a directory, innermost first.
fn unmount_below(dir: &std::path::Path) -> Result<()> {
    let table = std::fs::read_to_string("/proc/self/mountinfo").context("read mounts")?;
    let mut mounts: Vec<PathBuf> = table
        .lines()
        .filter_map(|line| line.split(' ').nth(4))
        .map(|path| PathBuf::from(path.replace("\\040", " ").replace("\\011", "\t").replace("\\134", "\\")))
        .filter(|path| path.starts_with(dir) && path != dir)
        .collect();
    mounts.sort();
    for path in mounts.into_iter().rev() {
        rustix::mount::unmount(&path, rustix::mount::UnmountFlags::DETACH)
            .with_context(|| format!("unmount {}", path.display()))?;
    }
    Ok(())
}
