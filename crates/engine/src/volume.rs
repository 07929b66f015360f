//! Volumes: directories that outlive containers.
//!
//! ```text
//! DIR/volumes/NAME/volume.json    driver, options, labels
//!                  _data/         what containers see
//! ```
//!
//! A volume with the options `type`, `o` and `device` is mounted on `_data` when the first container that uses it starts, and
//! unmounted when it is removed.

use std::{
    collections::BTreeMap,
    ffi::CString,
    fs,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::SystemTime,
};

use anyhow::Context as _;
use http::{Method, Response};
use rustix::mount::{MountFlags, UnmountFlags};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use serve::Body;

use crate::{
    Engine, answer,
    call::{Call, Query, Version},
    disk,
    error::{Error, Result},
    filter::Filters,
    model, route,
    system::timestamp,
};

/// Marks volumes that nobody named.
pub const ANONYMOUS: &str = "com.docker.volume.anonymous";
const DATA: &str = "_data";

/// A volume.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Volume {
    /// Its name.
    pub name: String,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// `type`, `o`, `device`; or none.
    pub options: BTreeMap<String, String>,
    /// When it was made.
    pub created_at: SystemTime,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct CreateRequest {
    name: String,
    driver: String,
    driver_opts: BTreeMap<String, String>,
    labels: BTreeMap<String, String>,
}

/// All volumes.
#[derive(Debug)]
pub struct Volumes {
    dir: PathBuf,
    all: Mutex<BTreeMap<String, Arc<Volume>>>,
    /// Held while volumes come and go.
    changes: tokio::sync::Mutex<()>,
}

impl Volumes {
    /// Takes up what is in `dir`.
    pub fn open(dir: PathBuf) -> anyhow::Result<Self> {
        disk::private_directory(&dir)?;
        let mut all = BTreeMap::new();
        for path in disk::directories(&dir)? {
            match disk::read::<Volume>(&path.join("volume.json"))? {
                Some(volume) => drop(all.insert(volume.name.clone(), Arc::new(volume))),
                // Made, but never acknowledged.
                None => disk::remove_directory(&path)?,
            }
        }
        Ok(Self { dir, all: Mutex::new(all), changes: tokio::sync::Mutex::default() })
    }

    fn all(&self) -> MutexGuard<'_, BTreeMap<String, Arc<Volume>>> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A volume by name.
    pub fn get(&self, name: &str) -> Option<Arc<Volume>> {
        self.all().get(name).cloned()
    }

    /// Volumes by name.
    pub fn list(&self) -> Vec<Arc<Volume>> {
        self.all().values().cloned().collect()
    }

    /// Where containers find a volume's files.
    pub fn data(&self, name: &str) -> PathBuf {
        self.dir.join(name).join(DATA)
    }

    /// The volume of that name, made if need be; whether it was made.
    pub async fn ensure(
        &self,
        name: &str,
        labels: BTreeMap<String, String>,
        options: BTreeMap<String, String>,
    ) -> Result<(Arc<Volume>, bool)> {
        check_name(name)?;
        check_options(&options)?;
        let _changes = self.changes.lock().await;
        if let Some(volume) = self.get(name) {
            if !options.is_empty() && options != volume.options {
                return Err(Error::conflict(format!(
                    "create {name}: conflict: volume name must be unique: it is there with other options"
                )));
            }
            return Ok((volume, false));
        }
        let volume = Volume { name: name.to_owned(), labels, options, created_at: SystemTime::now() };
        let (dir, written) = (self.dir.join(name), volume.clone());
        disk::blocking(move || {
            fs::create_dir_all(dir.join(DATA)).with_context(|| format!("make volume {}", written.name))?;
            disk::write(&dir.join("volume.json"), &written)
        })
        .await?;
        let volume = Arc::new(volume);
        self.all().insert(name.to_owned(), volume.clone());
        Ok((volume, true))
    }

    /// Removes a volume that nobody uses; whether it was there.
    pub async fn remove(&self, name: &str) -> Result<bool> {
        let _changes = self.changes.lock().await;
        if self.get(name).is_none() {
            return Ok(false);
        }
        let dir = self.dir.join(name);
        disk::blocking(move || {
            unmount(&dir.join(DATA))?;
            disk::remove_directory(&dir)
        })
        .await?;
        self.all().remove(name);
        Ok(true)
    }

    /// Mounts what the options say, where it is not mounted yet.
    pub fn mount(&self, volume: &Volume) -> anyhow::Result<()> {
        let Some(device) = volume.options.get("device") else { return Ok(()) };
        let target = self.data(&volume.name);
        if is_mounted(&target)? {
            return Ok(());
        }
        let kind = volume.options.get("type").map(String::as_str).unwrap_or_default();
        let (flags, propagation, data) = mount_options(volume.options.get("o").map(String::as_str).unwrap_or_default());
        let what = || format!("mount volume {}: {device} of type {kind}", volume.name);
        let text = CString::new(data).with_context(what)?;
        let text = (!text.is_empty()).then_some(text);
        if flags.contains(MountFlags::BIND) {
            rustix::mount::mount_bind(device.as_str(), &target).with_context(what)?;
            if flags != MountFlags::BIND {
                rustix::mount::mount_remount(&target, flags, c"").with_context(what)?;
            }
        } else {
            rustix::mount::mount(device.as_str(), &target, kind, flags, text.as_deref()).with_context(what)?;
        }
        if let Some(propagation) = propagation {
            rustix::mount::mount_change(&target, propagation).with_context(what)?;
        }
        Ok(())
    }
}

/// Mount flags, propagation, and what is left for the file system.
fn mount_options(text: &str) -> (MountFlags, Option<rustix::mount::MountPropagationFlags>, String) {
    use rustix::mount::MountPropagationFlags as Propagation;
    let (mut flags, mut propagation, mut rest) = (MountFlags::empty(), None, Vec::new());
    for option in text.split(',').filter(|option| !option.is_empty()) {
        match option {
            "bind" => flags |= MountFlags::BIND,
            "rbind" => flags |= MountFlags::BIND,
            "ro" => flags |= MountFlags::RDONLY,
            "rw" | "defaults" => {}
            "nosuid" => flags |= MountFlags::NOSUID,
            "nodev" => flags |= MountFlags::NODEV,
            "noexec" => flags |= MountFlags::NOEXEC,
            "noatime" => flags |= MountFlags::NOATIME,
            "relatime" => flags |= MountFlags::RELATIME,
            "sync" => flags |= MountFlags::SYNCHRONOUS,
            "private" => propagation = Some(Propagation::PRIVATE),
            "shared" => propagation = Some(Propagation::SHARED),
            "slave" => propagation = Some(Propagation::DOWNSTREAM),
            other => rest.push(other),
        }
    }
    (flags, propagation, rest.join(","))
}

fn is_mounted(path: &Path) -> anyhow::Result<bool> {
    use std::os::unix::fs::MetadataExt as _;
    let table = fs::read_to_string("/proc/self/mountinfo").context("read mounts")?;
    let text = path.to_string_lossy();
    let listed = table.lines().any(|line| line.split(' ').nth(4) == Some(&text));
    Ok(listed && path.metadata().is_ok_and(|found| found.is_dir() && found.nlink() > 0))
}

fn unmount(path: &Path) -> anyhow::Result<()> {
    match rustix::mount::unmount(path, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW) {
        Ok(()) | Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOENT) => Ok(()),
        Err(error) => Err(error).with_context(|| format!("unmount {}", path.display())),
    }
}

/// Names as upstream takes them: they become names of directories.
pub fn check_name(name: &str) -> Result<()> {
    let first = name.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric());
    let rest = name.bytes().skip(1).all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-'));
    if first && rest && (2..=255).contains(&name.len()) && !name.ends_with(".gone") {
        return Ok(());
    }
    Err(Error::invalid(format!(
        "create {name}: \"{name}\" includes invalid characters for a local volume name, only \"[a-zA-Z0-9][a-zA-Z0-9_.-]\" \
         are allowed. If you intended to pass a host directory, use absolute path"
    )))
}

fn check_options(options: &BTreeMap<String, String>) -> Result<()> {
    if let Some(unknown) = options.keys().find(|name| !matches!(name.as_str(), "type" | "o" | "device" | "size")) {
        return Err(Error::invalid(format!("invalid option: {unknown:?}")));
    }
    if options.contains_key("size") {
        return Err(Error::invalid("quota size requested but no quota support"));
    }
    if options.contains_key("device") && !options.contains_key("type") && !options.contains_key("o") {
        return Err(Error::invalid("missing required option: \"type\""));
    }
    Ok(())
}

/// Answers requests below `/volumes`.
pub(crate) async fn answer(engine: &Engine, mut call: Call) -> Result<Response<Body>> {
    let path: Vec<String> = call.path.split_off(1);
    let path: Vec<&str> = path.iter().map(String::as_str).collect();
    match (&call.method, path.as_slice()) {
        (&Method::GET, []) => list(engine, &call),
        (&Method::POST, ["create"]) => create(engine, &mut call).await,
        (&Method::POST, ["prune"]) => prune(engine, &call.query, call.version).await,
        (&Method::PUT, [_]) => Err(Error::new(
            http::StatusCode::SERVICE_UNAVAILABLE,
            "volume update only valid for cluster volumes, but swarm is unavailable",
        )),
        (&Method::GET, [name]) => {
            let volume = engine.volumes().get(name).ok_or_else(|| missing(name))?;
            answer::json(&shown(engine, &volume))
        }
        (&Method::DELETE, [name]) => {
            if engine.volumes().get(name).is_none() {
                return if call.query.flag("force") { Ok(answer::done()) } else { Err(missing(name)) };
            }
            let users = users(engine, name);
            if !users.is_empty() {
                return Err(Error::conflict(format!("remove {name}: volume is in use - [{}]", users.join(", "))));
            }
            engine.volumes().remove(name).await?;
            tell(engine, "destroy", name);
            Ok(answer::done())
        }
        _ => Err(route::unknown()),
    }
}

fn missing(name: &str) -> Error {
    Error::missing(format!("get {name}: no such volume"))
}

/// Tells of what happened to a volume.
pub(crate) fn tell(engine: &Engine, action: &str, name: &str) {
    engine.events().tell("volume", action, name, BTreeMap::from([("driver".into(), "local".into())]));
}

/// Containers that mention a volume.
pub(crate) fn users(engine: &Engine, name: &str) -> Vec<String> {
    let uses =
        |record: &model::record::Record| record.mounts.iter().any(|mount| mount.kind == "volume" && mount.name == name);
    engine.containers().all().iter().map(|container| container.record()).filter(uses).map(|record| record.id).collect()
}

fn shown(engine: &Engine, volume: &Volume) -> Value {
    json!({
        "CreatedAt": timestamp(volume.created_at),
        "Driver": "local",
        "Labels": if volume.labels.is_empty() { Value::Null } else { json!(volume.labels) },
        "Mountpoint": engine.volumes().data(&volume.name),
        "Name": volume.name,
        "Options": if volume.options.is_empty() { Value::Null } else { json!(volume.options) },
        "Scope": "local",
    })
}

async fn create(engine: &Engine, call: &mut Call) -> Result<Response<Body>> {
    let request: CreateRequest = model::lenient(call.json_or_default().await?)?;
    if !matches!(request.driver.as_str(), "" | "local" | "default") {
        return Err(Error::missing(format!(
            "error looking up volume plugin {0}: plugin \"{0}\" not found",
            request.driver
        )));
    }
    let mut labels = request.labels;
    let name = if request.name.is_empty() {
        labels.insert(ANONYMOUS.into(), String::new());
        runtime::record::new_id()?
    } else {
        request.name
    };
    let (volume, made) = engine.volumes().ensure(&name, labels, request.driver_opts).await?;
    if made {
        tell(engine, "create", &name);
    }
    answer::created(&shown(engine, &volume))
}

fn list(engine: &Engine, call: &Call) -> Result<Response<Body>> {
    let filters = Filters::of(&call.query, &["dangling", "driver", "label", "label!", "name"])?;
    let dangling = filters.flag("dangling")?;
    let mut found: Vec<Value> = Vec::new();
    for volume in engine.volumes().list() {
        let passes = filters.any("name", |part| volume.name.contains(part))
            && filters.any("driver", |driver| driver == "local")
            && filters.labels(&volume.labels)
            && dangling.is_none_or(|dangling| users(engine, &volume.name).is_empty() == dangling);
        if passes {
            found.push(shown(engine, &volume));
        }
    }
    answer::json(&json!({"Volumes": found, "Warnings": null}))
}

async fn prune(engine: &Engine, query: &Query, version: Version) -> Result<Response<Body>> {
    let filters = Filters::of(query, &["all", "label", "label!"])?;
    // Until 1.42 volumes with names were meant too.
    let all = filters.flag("all")?.unwrap_or(version < 42);
    let (mut deleted, mut bytes) = (Vec::new(), 0);
    for volume in engine.volumes().list() {
        let anonymous = volume.labels.contains_key(ANONYMOUS);
        if !(all || anonymous) || !filters.labels(&volume.labels) || !users(engine, &volume.name).is_empty() {
            continue;
        }
        let data = engine.volumes().data(&volume.name);
        let size = disk::blocking(move || Ok(image::image::Usage::below(&data).bytes)).await?;
        if engine.volumes().remove(&volume.name).await? {
            tell(engine, "destroy", &volume.name);
            bytes += size;
            deleted.push(volume.name.clone());
        }
    }
    let attributes = BTreeMap::from([("reclaimed".to_owned(), bytes.to_string())]);
    engine.events().tell("volume", "prune", "", attributes);
    answer::json(&json!({"VolumesDeleted": deleted, "SpaceReclaimed": bytes}))
}

/// Volumes with their sizes, for `GET /system/df`.
pub(crate) async fn usage(engine: &Engine) -> Result<Vec<Value>> {
    let mut found = Vec::new();
    for volume in engine.volumes().list() {
        let data = engine.volumes().data(&volume.name);
        let size = disk::blocking(move || Ok(image::image::Usage::below(&data).bytes)).await?;
        let mut one = shown(engine, &volume);
        one["UsageData"] = json!({"Size": size, "RefCount": users(engine, &volume.name).len()});
        found.push(one);
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_could_lead_elsewhere_are_refused() {
        for good in ["data", "a.b-c_d", "0x"] {
            assert!(check_name(good).is_ok(), "{good}");
        }
        for bad in ["", "a", ".x", "../x", "a/b", "a b", "x.gone", "-a"] {
            assert!(check_name(bad).is_err(), "{bad}");
        }
    }

    #[tokio::test]
    async fn volumes_are_found_again_and_made_once() {
        let dir = tempfile::tempdir().unwrap();
        let volumes = Volumes::open(dir.path().join("v")).unwrap();
        assert!(volumes.ensure("data", BTreeMap::new(), BTreeMap::new()).await.unwrap().1);
        assert!(!volumes.ensure("data", BTreeMap::new(), BTreeMap::new()).await.unwrap().1);
        let other =
            BTreeMap::from([("type".to_owned(), "tmpfs".to_owned()), ("device".to_owned(), "tmpfs".to_owned())]);
        assert_eq!(volumes.ensure("data", BTreeMap::new(), other).await.unwrap_err().status, 409);
        fs::create_dir_all(dir.path().join("v/half/_data")).unwrap();
        let again = Volumes::open(dir.path().join("v")).unwrap();
        assert_eq!(again.list().len(), 1);
        assert!(!dir.path().join("v/half").exists());
        assert!(again.remove("data").await.unwrap() && !again.remove("data").await.unwrap());
    }
}
