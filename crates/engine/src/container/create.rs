//! Making a container: the request, the image's defaults, and what is refused.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    os::{
        fd::AsRawFd as _,
        unix::fs::{MetadataExt as _, PermissionsExt as _, lchown, symlink},
    },
    path::Path,
    sync::Arc,
    time::SystemTime,
};

use anyhow::Context as _;
use http::Response;
use image::Image;
use oci::index::Machine;
use rustix::fs::{Mode, OFlags};
use serde::Deserialize;
use serde_json::{Value, json};
use serve::Body;

use crate::{
    Engine, answer,
    call::Call,
    container::{
        Container,
        files::Root,
        mounts::{self, Wanted},
        policy,
    },
    disk,
    error::{Error, Result},
    model::{
        self,
        config::{Config, Healthcheck, Member},
        host::HostConfig,
        record::{Endpoint, MountPoint, Record, State},
    },
    volume,
};

/// Bytes of `/dev/shm` where nobody says otherwise.
const SHM: i64 = 64 << 20;
/// The least memory that a container can be held to.
const LEAST_MEMORY: i64 = 6 << 20;
/// Bytes of a name.
const NAME: usize = 255;

/// What only this request has beside the configuration.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Beside {
    host_config: HostConfig,
    networking_config: NetworkingConfig,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct NetworkingConfig {
    endpoints_config: BTreeMap<String, Endpoint>,
}

/// `POST /containers/create`.
pub(crate) async fn answer(engine: &Engine, call: &mut Call) -> Result<Response<Body>> {
    let mut body: Value = call.json().await?;
    // An endpoint without settings is one all the same.
    if let Some(Value::Object(endpoints)) = body.pointer_mut("/NetworkingConfig/EndpointsConfig") {
        endpoints.values_mut().filter(|endpoint| endpoint.is_null()).for_each(|endpoint| *endpoint = json!({}));
    }
    let config: Config = model::lenient(body.clone())?;
    let beside: Beside = model::lenient(body)?;
    let name = call.query.filled("name").map(str::to_owned);
    if let Some(platform) = call.query.filled("platform") {
        check_platform(engine, &config.image, platform)?;
    }
    let (container, warnings) =
        create(engine, name, config, beside.host_config, beside.networking_config.endpoints_config).await?;
    answer::created(&json!({"Id": container.id, "Warnings": warnings}))
}

/// Whether the image is one for the platform that the request names; one that is not here is looked for later.
fn check_platform(engine: &Engine, name: &str, platform: &str) -> Result<()> {
    let wanted = Machine::parse(platform).ok_or_else(|| Error::invalid(format!("invalid platform {platform:?}")))?;
    let Some(image) = engine.images().get(name) else { return Ok(()) };
    let (os, architecture) = (image.config.os().to_string(), image.config.architecture().to_string());
    let fits = os == wanted.os && architecture == wanted.architecture;
    if fits {
        return Ok(());
    }
    Err(Error::missing(format!(
        "image with reference {name} was found but its platform ({os}/{architecture}) does not match the specified \
         platform ({}/{})",
        wanted.os, wanted.architecture
    )))
}

/// Makes a container that is not started.
pub async fn create(
    engine: &Engine,
    name: Option<String>,
    mut config: Config,
    mut host: HostConfig,
    endpoints: BTreeMap<String, Endpoint>,
) -> Result<(Arc<Container>, Vec<String>)> {
    if config.image.is_empty() {
        return Err(Error::invalid("no image specified"));
    }
    let image = engine.images().get(&config.image);
    let image = image.ok_or_else(|| Error::missing(format!("No such image: {}", with_tag(&config.image))))?;
    merge(&mut config, &image);
    merge_health(&mut config, &document(engine, &image).await?);
    let mut warnings = complete(&mut host)?;
    check(engine, &config, &host, &mut warnings)?;
    let id = runtime::record::new_id()?;
    let name = take_name(engine, name, &id)?;
    let made = make(engine, &id, &name, config, host, endpoints, &image).await;
    match made {
        Ok(container) => {
            container.tell(engine, "create", &[]);
            Ok((container, warnings))
        }
        Err(error) => {
            engine.containers().release(&name, &id);
            undo(engine, &id).await;
            Err(error)
        }
    }
}

async fn make(
    engine: &Engine,
    id: &str,
    name: &str,
    mut config: Config,
    host: HostConfig,
    endpoints: BTreeMap<String, Endpoint>,
    image: &Image,
) -> Result<Arc<Container>> {
    if config.hostname.is_empty() {
        config.hostname = match host.network_mode.as_str() {
            "host" => engine.settings().name.clone(),
            _ => id.chars().take(12).collect(),
        };
    }
    let wanted = mounts::wanted(&config, &host, |other| {
        let other = engine.containers().find(other)?;
        Ok(other.look(|record| record.mounts.clone()))
    })?;
    let networks = engine.networks().endpoints(engine, &host, &config, endpoints)?;
    let dir = engine.container_dir(id);
    disk::blocking(move || disk::private_directory(&dir)).await?;
    let snapshot = engine.images().snapshot(image, &Engine::snapshot_name(id)).await?;
    let root = Arc::new(disk::blocking(move || Root::of_snapshot(&snapshot)).await?);
    let mut points = Vec::new();
    for wanted in wanted.into_values() {
        points.push(provide(engine, wanted, &host, &root).await?);
    }
    let record = Record {
        id: id.to_owned(),
        name: name.to_owned(),
        created_at: SystemTime::now(),
        image: image.id.to_string(),
        config,
        host,
        mounts: points,
        networks,
        state: State::default(),
    };
    let container = Arc::new(Container::new(record));
    container.save(engine).await?;
    engine.containers().keep(container.clone());
    Ok(container)
}

/// Takes back what was made for a container that came to nothing.
async fn undo(engine: &Engine, id: &str) {
    if let Err(error) = engine.images().release(&Engine::snapshot_name(id)).await {
        tracing::warn!(container = id, error = format!("{error:#}"), "remove files of a container");
    }
    let dir = engine.container_dir(id);
    if let Err(error) = disk::blocking(move || disk::remove_directory(&dir)).await {
        tracing::warn!(container = id, error = format!("{error:#}"), "remove the directory of a container");
    }
}

/// Makes what a mount needs: the volume and its first files, the directory to bind.
async fn provide(engine: &Engine, wanted: Wanted, host: &HostConfig, root: &Arc<Root>) -> Result<MountPoint> {
    let Wanted { mut point, make_source, labels, options } = wanted;
    match point.kind.as_str() {
        "bind" if make_source => {
            let source = point.source.clone();
            disk::blocking(move || match Path::new(&source).symlink_metadata() {
                Ok(_) => Ok(()),
                Err(_) => fs::create_dir_all(&source).with_context(|| format!("make {source} to bind")),
            })
            .await?;
        }
        "volume" => {
            let mut labels = labels;
            if point.name.is_empty() {
                point.name = runtime::record::new_id()?;
                labels.insert(volume::ANONYMOUS.into(), String::new());
            }
            let (made, new) = engine.volumes().ensure(&point.name, labels, options).await?;
            if new {
                volume::tell(engine, "create", &point.name);
            }
            let data = engine.volumes().data(&point.name);
            point.source = data.to_string_lossy().into_owned();
            let longer = host.mounts.iter().find(|mount| mounts::clean(&mount.target) == point.destination);
            let no_copy = point.mode.split(',').any(|option| option == "nocopy")
                || longer.and_then(|mount| mount.volume_options.as_ref()).is_some_and(|options| options.no_copy);
            if !no_copy {
                let (engine, root, to) = (engine.clone(), root.clone(), point.destination.clone());
                disk::blocking(move || {
                    engine.volumes().mount(&made)?;
                    fill(&root, &to, &data).with_context(|| format!("copy {to} of the image into volume {}", made.name))
                })
                .await?;
            }
        }
        "image" => {
            let mounted = engine.images().get(&point.name);
            let mounted = mounted.ok_or_else(|| Error::missing(format!("No such image: {}", with_tag(&point.name))))?;
            let [layer] = mounted.layers.as_slice() else {
                return Err(Error::unsupported(format!(
                    "mount image {}: only images of one layer can be mounted",
                    point.name
                )));
            };
            let below = host.mounts.iter().find(|mount| mounts::clean(&mount.target) == point.destination);
            let below = below.and_then(|mount| mount.image_options.clone()).unwrap_or_default().subpath;
            point.source = layer.join(below).to_string_lossy().into_owned();
        }
        _ => {}
    }
    Ok(point)
}

/// Copies what the image has at `path` into an empty volume.
fn fill(root: &Root, path: &str, data: &Path) -> anyhow::Result<()> {
    if fs::read_dir(data)?.next().is_some() {
        return Ok(());
    }
    let source = match root.open(path, OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty()) {
        Ok(source) => source,
        Err(rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR) => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    copy_into(Path::new(&format!("/proc/self/fd/{}", source.as_raw_fd())), data)
}

/// Copies the entries of a directory, and its owner and mode.
fn copy_into(from: &Path, to: &Path) -> anyhow::Result<()> {
    let metadata = fs::metadata(from)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        let metadata = fs::symlink_metadata(&source)?;
        let kind = metadata.file_type();
        if kind.is_dir() {
            fs::create_dir(&target)?;
            copy_into(&source, &target)?;
            continue;
        }
        if kind.is_symlink() {
            symlink(fs::read_link(&source)?, &target)?;
        } else if kind.is_file() {
            fs::copy(&source, &target)?;
        } else {
            let mode = Mode::from_raw_mode(metadata.mode());
            let kind = rustix::fs::FileType::from_raw_mode(metadata.mode());
            rustix::fs::mknodat(rustix::fs::CWD, &target, kind, mode, metadata.rdev())?;
        }
        lchown(&target, Some(metadata.uid()), Some(metadata.gid()))?;
        if !kind.is_symlink() {
            fs::set_permissions(&target, fs::Permissions::from_mode(metadata.mode() & 0o7777))?;
        }
    }
    lchown(to, Some(metadata.uid()), Some(metadata.gid()))?;
    fs::set_permissions(to, fs::Permissions::from_mode(metadata.mode() & 0o7777))?;
    Ok(())
}

/// A name of an image as errors show it.
fn with_tag(name: &str) -> String {
    let last = name.rsplit('/').next().unwrap_or(name);
    if last.contains(':') || name.contains('@') { name.to_owned() } else { format!("{name}:latest") }
}

/// Whether a container may be called so.
pub(crate) fn check_name(name: &str) -> Result<()> {
    let bytes = name.as_bytes();
    let good = bytes.first().is_some_and(u8::is_ascii_alphanumeric)
        && (2..=NAME).contains(&bytes.len())
        && bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-'));
    if good {
        return Ok(());
    }
    Err(Error::invalid(format!("Invalid container name ({name}), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed")))
}

fn take_name(engine: &Engine, wanted: Option<String>, id: &str) -> Result<String> {
    if let Some(wanted) = wanted {
        let name = wanted.strip_prefix('/').unwrap_or(&wanted);
        check_name(name)?;
        engine.containers().reserve(name, id)?;
        return Ok(name.to_owned());
    }
    const FIRST: &[&str] = &[
        "amber", "brisk", "calm", "deft", "early", "fair", "glad", "hardy", "ivory", "jolly", "keen", "lively", "mild",
        "noble", "open", "plain", "quick", "ready", "sunny", "tidy", "upper", "vivid", "warm", "young",
    ];
    const SECOND: &[&str] = &[
        "acorn", "birch", "cedar", "daisy", "elm", "fern", "ginkgo", "hazel", "iris", "juniper", "kelp", "lotus",
        "maple", "nettle", "oak", "pine", "quince", "reed", "sage", "thyme", "umbel", "violet", "willow", "yarrow",
    ];
    let digits: Vec<usize> = id.bytes().map(usize::from).collect();
    let at = |index: usize, list: &'static [&'static str]| {
        let number = digits.iter().skip(index).step_by(2).fold(0usize, |sum, digit| sum.wrapping_mul(31) + digit);
        list[number % list.len()]
    };
    let name = format!("{}_{}", at(0, FIRST), at(1, SECOND));
    match engine.containers().reserve(&name, id) {
        Ok(()) => Ok(name),
        Err(_) => {
            let name = format!("{name}_{}", &id[..6]);
            engine.containers().reserve(&name, id)?;
            Ok(name)
        }
    }
}

/// The image's configuration as it is: what engines know beyond the specification is in it too.
async fn document(engine: &Engine, image: &Image) -> Result<Value> {
    let path = engine.images().blob(&image.id);
    let path = path.with_context(|| format!("the configuration of image {} is gone", image.id))?;
    Ok(disk::blocking(move || disk::read(&path)).await?.unwrap_or_default())
}

/// Fills in what the image says.
fn merge(config: &mut Config, image: &Image) {
    let of_image = runtime::image_config(image);
    let more = image.config.config();
    if config.user.is_empty() {
        config.user = of_image.user;
    }
    let names: BTreeSet<String> =
        config.env.iter().map(|pair| pair.split('=').next().unwrap_or_default().to_owned()).collect();
    let mut env = of_image.env;
    env.retain(|pair| !names.contains(pair.split('=').next().unwrap_or_default()));
    env.append(&mut config.env);
    // A name alone takes the image's away.
    env.retain(|pair| pair.contains('='));
    config.env = env;
    let is_empty = |words: &Option<Vec<String>>| words.as_ref().is_none_or(Vec::is_empty);
    if is_empty(&config.entrypoint) {
        if is_empty(&config.cmd) {
            config.cmd = Some(of_image.cmd).filter(|words| !words.is_empty());
        }
        config.entrypoint = Some(of_image.entrypoint).filter(|words| !words.is_empty());
    } else if config.entrypoint.as_deref() == Some(&[String::new()]) {
        config.entrypoint = None;
    }
    if config.working_dir.is_empty() {
        config.working_dir = of_image.working_dir;
    }
    if config.stop_signal.is_empty() {
        config.stop_signal = of_image.stop_signal;
    }
    for path in of_image.volumes {
        config.volumes.entry(path).or_insert(Member {});
    }
    if let Some(more) = more {
        for port in more.exposed_ports().iter().flatten() {
            let port = if port.contains('/') { port.clone() } else { format!("{port}/tcp") };
            config.exposed_ports.entry(port).or_insert(Member {});
        }
        for (name, value) in more.labels().iter().flatten() {
            config.labels.entry(name.clone()).or_insert_with(|| value.clone());
        }
    }
}

/// The image's health check, where the request leaves it or parts of it out.
fn merge_health(config: &mut Config, document: &Value) {
    let of_image = document.pointer("/config/Healthcheck").cloned();
    let Some(of_image) = of_image.and_then(|value| model::lenient::<Healthcheck>(value).ok()) else { return };
    let Some(own) = &mut config.healthcheck else {
        config.healthcheck = Some(of_image);
        return;
    };
    if own.test.is_empty() {
        own.test = of_image.test;
    }
    for (own, of_image) in [
        (&mut own.interval, of_image.interval),
        (&mut own.timeout, of_image.timeout),
        (&mut own.start_period, of_image.start_period),
        (&mut own.start_interval, of_image.start_interval),
        (&mut own.retries, of_image.retries),
    ] {
        if *own == 0 {
            *own = of_image;
        }
    }
}

/// Fills in what the request leaves out; gives warnings.
fn complete(host: &mut HostConfig) -> Result<Vec<String>> {
    let default = |text: &mut String, value: &str| {
        if text.is_empty() || text == "default" {
            value.clone_into(text);
        }
    };
    default(&mut host.network_mode, "bridge");
    default(&mut host.ipc_mode, "private");
    default(&mut host.cgroupns_mode, "private");
    default(&mut host.log_config.kind, "json-file");
    default(&mut host.restart_policy.name, "no");
    if host.shm_size == 0 {
        host.shm_size = SHM;
    }
    if host.resources.memory > 0 && host.resources.memory_swap == 0 {
        host.resources.memory_swap = host.resources.memory.saturating_mul(2);
    }
    if host.privileged {
        (host.masked_paths, host.readonly_paths) = (Some(Vec::new()), Some(Vec::new()));
    }
    let list = |names: &[&str]| Some(names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>());
    let unconfined = host.security_opt.iter().flatten().any(|option| option == "systempaths=unconfined");
    if host.masked_paths.is_none() {
        host.masked_paths = if unconfined { Some(Vec::new()) } else { list(runtime::spec::MASKED) };
    }
    if host.readonly_paths.is_none() {
        host.readonly_paths = if unconfined { Some(Vec::new()) } else { list(runtime::spec::READONLY) };
    }
    Ok(Vec::new())
}

fn check(engine: &Engine, config: &Config, host: &HostConfig, warnings: &mut Vec<String>) -> Result<()> {
    let empty = |words: &Option<Vec<String>>| words.as_ref().is_none_or(Vec::is_empty);
    if empty(&config.entrypoint) && empty(&config.cmd) {
        return Err(Error::invalid("no command specified"));
    }
    if !config.working_dir.is_empty() && !config.working_dir.starts_with('/') {
        return Err(Error::invalid(format!(
            "the working directory '{}' is invalid, it needs to be an absolute path",
            config.working_dir
        )));
    }
    if !config.stop_signal.is_empty() {
        signal(&config.stop_signal)?;
    }
    if let Some(bad) = config.env.iter().find(|pair| pair.starts_with('=')) {
        return Err(Error::invalid(format!("invalid environment variable: {bad}")));
    }
    for port in config.exposed_ports.keys().chain(host.port_bindings.keys()) {
        port_of(port)?;
    }
    check_health(config.healthcheck.as_ref())?;
    policy::check(&host.restart_policy, host.auto_remove).map_err(Error::invalid)?;
    check_resources(&host.resources)?;
    if !matches!(host.log_config.kind.as_str(), "json-file" | "local" | "none") {
        return Err(Error::invalid(format!("logger: no log driver named '{}' is registered", host.log_config.kind)));
    }
    super::start::log_limits(&host.log_config)?;
    if !matches!(host.runtime.as_str(), "" | "madang" | "runc" | "io.containerd.runc.v2") {
        return Err(Error::invalid(format!("unknown or invalid runtime name: {}", host.runtime)));
    }
    if let Some(request) = host.resources.device_requests.iter().flatten().next() {
        let driver = request["Driver"].as_str().unwrap_or_default();
        let capabilities = &request["Capabilities"];
        return Err(Error::invalid(format!(
            "could not select device driver {driver:?} with capabilities: {capabilities}"
        )));
    }
    if !host.storage_opt.is_empty() {
        return Err(Error::invalid(
            "--storage-opt is supported only for overlay over xfs with 'pquota' mount option: there are no quotas here",
        ));
    }
    if !matches!(host.volume_driver.as_str(), "" | "local") {
        let driver = &host.volume_driver;
        return Err(Error::missing(format!("error looking up volume plugin {driver}: plugin \"{driver}\" not found")));
    }
    if !matches!(host.userns_mode.as_str(), "" | "host") {
        return Err(Error::invalid(format!("invalid USER mode: {}", host.userns_mode)));
    }
    if !matches!(host.uts_mode.as_str(), "" | "host") {
        return Err(Error::invalid(format!("invalid UTS mode: {}", host.uts_mode)));
    }
    if !matches!(host.cgroupns_mode.as_str(), "private" | "host") {
        return Err(Error::invalid(format!("invalid cgroup namespace mode: {}", host.cgroupns_mode)));
    }
    for (mode, own) in
        [(&host.pid_mode, &["", "host"][..]), (&host.ipc_mode, &["private", "shareable", "host", "none"])]
    {
        match mode.strip_prefix("container:") {
            Some(other) => drop(engine.containers().find(other)?),
            None if own.contains(&mode.as_str()) => {}
            None => return Err(Error::invalid(format!("invalid namespace mode: {mode}"))),
        }
    }
    let publishes = host.port_bindings.values().any(|list| !list.is_empty()) || host.publish_all_ports;
    if publishes && (host.network_mode.starts_with("container:")) {
        return Err(Error::invalid("conflicting options: port publishing and the container type network mode"));
    }
    if publishes && host.network_mode == "host" {
        warnings.push("Published ports are discarded when using host network mode".into());
    }
    super::spec::check(engine, host)
}

fn check_health(check: Option<&Healthcheck>) -> Result<()> {
    let Some(check) = check else { return Ok(()) };
    for (name, nanoseconds) in [
        ("Interval", check.interval),
        ("Timeout", check.timeout),
        ("StartPeriod", check.start_period),
        ("StartInterval", check.start_interval),
    ] {
        if nanoseconds != 0 && nanoseconds < 1_000_000 {
            return Err(Error::invalid(format!("{name} in Healthcheck cannot be less than 1ms")));
        }
    }
    if check.retries < 0 {
        return Err(Error::invalid("Retries in Healthcheck cannot be negative"));
    }
    match check.test.first().map(String::as_str) {
        None | Some("NONE" | "CMD" | "CMD-SHELL") => Ok(()),
        Some(other) => Err(Error::invalid(format!("Unknown healthcheck type '{other}' (expected 'CMD')"))),
    }
}

/// Limits that contradict one another or that no machine has.
pub(crate) fn check_resources(limits: &model::host::Resources) -> Result<()> {
    let refuse = |message: &str| Err(Error::invalid(message));
    if limits.memory != 0 && limits.memory < LEAST_MEMORY {
        return refuse("Minimum memory limit allowed is 6MB");
    }
    if limits.memory == 0 && limits.memory_swap > 0 {
        return refuse("You should always set the Memory limit when using Memoryswap limit, see usage");
    }
    if limits.memory > 0 && limits.memory_swap > 0 && limits.memory_swap < limits.memory {
        return refuse("Minimum memoryswap limit should be larger than memory limit, see usage");
    }
    if limits.memory > 0 && limits.memory_reservation > limits.memory {
        return refuse("Minimum memory limit can not be less than memory reservation limit, see usage");
    }
    if limits.memory_swappiness.is_some_and(|value| !(-1..=100).contains(&value)) {
        return refuse("Invalid value for memory swappiness: valid memory swappiness range is 0-100");
    }
    if limits.nano_cpus > 0 && (limits.cpu_period > 0 || limits.cpu_quota > 0) {
        return refuse("Conflicting options: Nano CPUs and CPU Period cannot both be set");
    }
    let processors = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let most = i64::try_from(processors).unwrap_or(1).saturating_mul(1_000_000_000);
    if limits.nano_cpus < 0 || limits.nano_cpus > most {
        return Err(Error::invalid(format!(
            "range of CPUs is from 0.01 to {processors}.00, as there are only {processors} CPUs available"
        )));
    }
    if limits.cpu_period > 0 && !(1_000..=1_000_000).contains(&limits.cpu_period) {
        return refuse("CPU cfs period can not be less than 1ms (i.e. 1000) or larger than 1s (i.e. 1000000)");
    }
    if limits.cpu_quota > 0 && limits.cpu_quota < 1000 {
        return refuse("CPU cfs quota can not be less than 1ms (i.e. 1000)");
    }
    if limits.blkio_weight > 0 && !(10..=1000).contains(&limits.blkio_weight) {
        return refuse("Range of blkio weight is from 10 to 1000");
    }
    Ok(())
}

/// `PORT[/PROTOCOL]`.
pub(crate) fn port_of(text: &str) -> Result<(u16, &str)> {
    let (port, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    let bad = || Error::invalid(format!("invalid port specification: \"{text}\""));
    if !matches!(protocol, "tcp" | "udp" | "sctp") {
        return Err(bad());
    }
    Ok((port.parse().map_err(|_| bad())?, protocol))
}

/// A signal by name or number.
pub(crate) fn signal(text: &str) -> Result<i32> {
    runtime::signal_number(text).map_err(|_| Error::invalid(format!("invalid signal: {text}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_ports_and_limits_are_checked() {
        for (name, good) in [("web", true), ("a", false), ("-x", false), ("a/b", false), ("a.b_c-1", true), ("", false)]
        {
            assert_eq!(check_name(name).is_ok(), good, "{name}");
        }
        assert_eq!(port_of("80/udp").unwrap(), (80, "udp"));
        assert_eq!(port_of("80").unwrap(), (80, "tcp"));
        for bad in ["", "x/tcp", "70000/tcp", "80/icmp"] {
            assert!(port_of(bad).is_err(), "{bad}");
        }
        let limits = |change: fn(&mut model::host::Resources)| {
            let mut limits = model::host::Resources::default();
            change(&mut limits);
            check_resources(&limits).is_ok()
        };
        assert!(limits(|_| {}));
        assert!(!limits(|limits| limits.memory = 1));
        assert!(!limits(|limits| (limits.memory, limits.memory_swap) = (64 << 20, 32 << 20)));
        assert!(!limits(|limits| limits.memory_swap = 64 << 20));
        assert!(!limits(|limits| (limits.nano_cpus, limits.cpu_quota) = (1, 2000)));
    }

    #[test]
    fn what_is_left_out_gets_upstreams_defaults() {
        let mut host = HostConfig::default();
        host.resources.memory = 64 << 20;
        complete(&mut host).unwrap();
        assert_eq!((host.network_mode.as_str(), host.shm_size), ("bridge", 64 << 20));
        assert_eq!(host.memory_swap, 128 << 20);
        assert!(host.masked_paths.unwrap().contains(&"/proc/kcore".to_owned()));
    }
}
