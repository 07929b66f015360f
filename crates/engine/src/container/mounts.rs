//! What is mounted in a container: binds, volumes and file systems in memory, from the several ways of asking for them.
//!
//! ```text
//! volumes-from  <  binds, mounts, tmpfs  <  the image's volumes (where nothing else is)
//! ```
//!
//! Specification: <https://docs.docker.com/engine/storage/>.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Component, Path, PathBuf},
};

use serde_json::{Value, json};

use crate::{
    Engine,
    error::{Error, Result},
    model::{
        config::Config,
        host::{HostConfig, Mount},
        record::{MountPoint, Record},
    },
    volume,
};

/// A mount that was asked for.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Wanted {
    pub(crate) point: MountPoint,
    /// A bind whose source is made where it is missing.
    pub(crate) make_source: bool,
    /// Labels and options of a volume that is made.
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) options: BTreeMap<String, String>,
}

const PROPAGATIONS: &[&str] = &["private", "rprivate", "shared", "rshared", "slave", "rslave"];

/// A path in a container: absolute, without `.` and `..`, not the root itself.
pub(crate) fn target(path: &str) -> Result<String> {
    let bad = |why: &str| Error::invalid(format!("invalid mount path: '{path}' {why}"));
    if !path.starts_with('/') {
        return Err(bad("mount path must be absolute"));
    }
    let clean = clean(path);
    if clean == "/" {
        return Err(Error::invalid("invalid specification: destination can't be '/'"));
    }
    Ok(clean)
}

/// A path without `.`, `..` and doubled slashes, which never leads above the root.
pub(crate) fn clean(path: &str) -> String {
    let mut parts = Vec::new();
    for part in Path::new(path).components() {
        match part {
            Component::Normal(part) => parts.push(part.to_string_lossy()),
            Component::ParentDir => drop(parts.pop()),
            _ => {}
        }
    }
    format!("/{}", parts.join("/"))
}

/// `SOURCE:TARGET[:OPTIONS]`.
pub(crate) fn bind(text: &str) -> Result<Wanted> {
    let bad = || Error::invalid(format!("invalid volume specification: '{text}'"));
    let parts: Vec<&str> = text.split(':').collect();
    let (source, to, mode) = match parts.as_slice() {
        [to] => ("", *to, ""),
        [source, to] => (*source, *to, ""),
        [source, to, mode] => (*source, *to, *mode),
        _ => return Err(bad()),
    };
    if parts.len() > 1 && source.is_empty() {
        return Err(bad());
    }
    let mut point = MountPoint { destination: target(to)?, mode: mode.to_owned(), rw: true, ..MountPoint::default() };
    let is_bind = source.starts_with('/');
    for option in mode.split(',').filter(|option| !option.is_empty()) {
        match option {
            "ro" => point.rw = false,
            "rw" | "z" | "Z" | "nocopy" | "cached" | "consistent" | "delegated" | "default" => {}
            propagation if PROPAGATIONS.contains(&propagation) && is_bind => {
                propagation.clone_into(&mut point.propagation)
            }
            _ => return Err(Error::invalid(format!("invalid mode: {mode}"))),
        }
    }
    if is_bind {
        point.kind = "bind".into();
        point.source = clean(source);
        if point.propagation.is_empty() {
            point.propagation = "rprivate".into();
        }
    } else {
        point.kind = "volume".into();
        if !source.is_empty() {
            volume::check_name(source)?;
        }
        source.clone_into(&mut point.name);
        point.driver = "local".into();
        if point.mode.is_empty() {
            point.mode = "z".into();
        }
    }
    Ok(Wanted { point, make_source: true, labels: BTreeMap::new(), options: BTreeMap::new() })
}

/// The longer form.
pub(crate) fn mount(mount: &Mount) -> Result<Wanted> {
    let bad = |why: &str| Error::invalid(format!("invalid mount config for type \"{}\": {why}", mount.kind));
    if mount.target.is_empty() {
        return Err(bad("field Target must not be empty"));
    }
    let mut point = MountPoint {
        kind: mount.kind.clone(),
        destination: target(&mount.target)?,
        rw: !mount.read_only,
        ..MountPoint::default()
    };
    let mut wanted =
        Wanted { point: MountPoint::default(), make_source: false, labels: BTreeMap::new(), options: BTreeMap::new() };
    match mount.kind.as_str() {
        "bind" => {
            if mount.source.is_empty() {
                return Err(bad("field Source must not be empty"));
            }
            if !mount.source.starts_with('/') {
                return Err(bad(&format!("invalid mount path: '{}' mount path must be absolute", mount.source)));
            }
            let options = mount.bind_options.clone().unwrap_or_default();
            if !options.propagation.is_empty() && !PROPAGATIONS.contains(&options.propagation.as_str()) {
                return Err(bad(&format!("invalid propagation mode: {}", options.propagation)));
            }
            point.source = clean(&mount.source);
            point.propagation =
                if options.propagation.is_empty() { "rprivate".into() } else { options.propagation.clone() };
            wanted.make_source = options.create_mountpoint;
            if !options.create_mountpoint && !Path::new(&point.source).exists() {
                return Err(bad(&format!("bind source path does not exist: {}", point.source)));
            }
        }
        "volume" => {
            let options = mount.volume_options.clone().unwrap_or_default();
            if !mount.source.is_empty() {
                volume::check_name(&mount.source)?;
            }
            subpath(&options.subpath)?;
            let driver = options.driver_config.unwrap_or_default();
            if !matches!(driver.name.as_str(), "" | "local") {
                return Err(Error::missing(format!(
                    "error looking up volume plugin {0}: plugin \"{0}\" not found",
                    driver.name
                )));
            }
            point.name.clone_from(&mount.source);
            point.driver = "local".into();
            point.mode = "z".into();
            (wanted.labels, wanted.options) = (options.labels, driver.options);
        }
        "tmpfs" => {
            if !mount.source.is_empty() {
                return Err(bad("field Source must not be specified"));
            }
        }
        "image" => {
            if mount.source.is_empty() {
                return Err(bad("field Source must not be empty"));
            }
            subpath(&mount.image_options.clone().unwrap_or_default().subpath)?;
            point.name.clone_from(&mount.source);
            point.rw = false;
        }
        "" => return Err(Error::invalid("mount type unknown: \"\"")),
        other => return Err(Error::invalid(format!("mount type unknown: {other:?}"))),
    }
    Ok(Wanted { point, ..wanted })
}

fn subpath(path: &str) -> Result<()> {
    let inside = Path::new(path).components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
    if inside { Ok(()) } else { Err(Error::invalid("subpath must be a relative path within the volume")) }
}

/// Everything that a container wants mounted, by target. `others` finds the mounts of other containers.
pub(crate) fn wanted(
    config: &Config,
    host: &HostConfig,
    others: impl Fn(&str) -> Result<Vec<MountPoint>>,
) -> Result<BTreeMap<String, Wanted>> {
    let mut found = BTreeMap::new();
    for from in host.volumes_from.iter().flatten() {
        let (container, mode) = from.split_once(':').unwrap_or((from, ""));
        if !matches!(mode, "" | "ro" | "rw" | "z" | "Z") {
            return Err(Error::invalid(format!("invalid mode for volumes-from: {mode}")));
        }
        for mut point in others(container)? {
            point.rw &= mode != "ro";
            let wanted = Wanted { point, make_source: false, labels: BTreeMap::new(), options: BTreeMap::new() };
            found.insert(wanted.point.destination.clone(), wanted);
        }
    }
    let mut own = BTreeSet::new();
    let asked = host.binds.iter().flatten().map(|text| bind(text)).chain(host.mounts.iter().map(mount));
    for wanted in asked {
        let wanted = wanted?;
        let to = wanted.point.destination.clone();
        if !own.insert(to.clone()) {
            return Err(Error::invalid(format!("Duplicate mount point: {to}")));
        }
        found.insert(to, wanted);
    }
    for path in host.tmpfs.keys() {
        let to = target(path)?;
        if !own.insert(to.clone()) {
            return Err(Error::invalid(format!("Duplicate mount point: {to}")));
        }
        // Shown nowhere else, as upstream has it.
        found.remove(&to);
    }
    for text in config.volumes.keys() {
        let wanted = bind(text)?;
        let to = wanted.point.destination.clone();
        if !own.contains(&to) && !found.contains_key(&to) {
            found.insert(to, wanted);
        }
    }
    Ok(found)
}

/// The mounts of a container as the runtime specification has them, outer ones first. `volume_dir` is where a volume's files
/// are, `image_dir` where an image's are seen.
pub(crate) fn of_spec(engine: &Engine, record: &Record) -> anyhow::Result<Vec<(String, Value)>> {
    let mut list = Vec::new();
    for point in &record.mounts {
        let longer = record.host.mounts.iter().find(|mount| clean(&mount.target) == point.destination);
        let spec = match point.kind.as_str() {
            "tmpfs" => tmpfs_of(longer, point),
            _ => bind_of(engine, longer, point)?,
        };
        list.push((point.destination.clone(), spec));
    }
    for (path, options) in &record.host.tmpfs {
        let mut given: Vec<&str> = options.split(',').filter(|option| !option.is_empty()).collect();
        if !given.iter().any(|option| matches!(*option, "exec" | "noexec")) {
            given.push("noexec");
        }
        let options: Vec<&str> = ["nosuid", "nodev"].into_iter().chain(given).collect();
        let to = clean(path);
        list.push((to.clone(), json!({"destination": to, "type": "tmpfs", "source": "tmpfs", "options": options})));
    }
    list.sort_by_key(|(to, _)| to.matches('/').count());
    Ok(list)
}

fn tmpfs_of(longer: Option<&Mount>, point: &MountPoint) -> Value {
    let given = longer.and_then(|mount| mount.tmpfs_options.clone()).unwrap_or_default();
    let mut options = vec!["nosuid".to_owned(), "nodev".into(), if point.rw { "rw" } else { "ro" }.into()];
    if !given.options.iter().any(|option| option.first().is_some_and(|name| name == "exec")) {
        options.push("noexec".into());
    }
    if given.size_bytes > 0 {
        options.push(format!("size={}", given.size_bytes));
    }
    if given.mode != 0 {
        options.push(format!("mode={:o}", given.mode & 0o7777));
    }
    options.extend(given.options.iter().map(|option| option.join("=")));
    json!({"destination": point.destination, "type": "tmpfs", "source": "tmpfs", "options": options})
}

fn bind_of(engine: &Engine, longer: Option<&Mount>, point: &MountPoint) -> anyhow::Result<Value> {
    let mut source = PathBuf::from(&point.source);
    if let Some(volume) = longer.and_then(|mount| mount.volume_options.as_ref())
        && !volume.subpath.is_empty()
    {
        source = inside(&source, &volume.subpath)?;
    }
    if point.kind == "volume"
        && let Some(volume) = engine.volumes().get(&point.name)
    {
        engine.volumes().mount(&volume)?;
    }
    let bind = longer.and_then(|mount| mount.bind_options.clone()).unwrap_or_default();
    let propagation = if point.propagation.is_empty() { "rprivate" } else { &point.propagation };
    let access = match (point.rw, bind.read_only_non_recursive || bind.non_recursive) {
        (true, _) => "rw",
        (false, true) => "ro",
        (false, false) => "rro",
    };
    let kind = if bind.non_recursive { "bind" } else { "rbind" };
    Ok(
        json!({"destination": point.destination, "type": "bind", "source": source, "options": [kind, propagation, access]}),
    )
}

/// A directory within another, no link on the way leading out of it.
fn inside(root: &Path, below: &str) -> anyhow::Result<PathBuf> {
    use anyhow::Context as _;
    let real = root.join(below).canonicalize().with_context(|| format!("subpath {below} of {}", root.display()))?;
    anyhow::ensure!(real.starts_with(root.canonicalize()?), "subpath {below} leads out of {}", root.display());
    Ok(real)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn none(name: &str) -> Result<Vec<MountPoint>> {
        Err(Error::missing(name))
    }

    #[test]
    fn binds_are_read_in_all_their_forms() {
        for (text, kind, source, name, rw, propagation) in [
            ("/a:/b", "bind", "/a", "", true, "rprivate"),
            ("/a/../c:/b:ro,rslave", "bind", "/c", "", false, "rslave"),
            ("data:/b", "volume", "", "data", true, ""),
            ("data:/b/:nocopy,ro", "volume", "", "data", false, ""),
            ("/b", "volume", "", "", true, ""),
        ] {
            let point = bind(text).unwrap().point;
            assert_eq!(point.destination, "/b", "{text}");
            let found = (point.kind.as_str(), point.source.as_str(), point.name.as_str(), point.rw);
            assert_eq!((found, point.propagation.as_str()), ((kind, source, name, rw), propagation), "{text}");
        }
        for text in ["", "a:b", "/a:/", ":/b", "/a:/b:what", "data:/b:rshared", "/a:/b:ro:x", "../x:/b", "/a:/../.."] {
            assert!(bind(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_target_is_given_once_and_the_images_volumes_come_last() {
        let mut config = Config::default();
        config.volumes.insert("/data".into(), Default::default());
        config.volumes.insert("/other".into(), Default::default());
        let mut host = HostConfig { binds: Some(vec!["/a:/data".into()]), ..HostConfig::default() };
        let found = wanted(&config, &host, none).unwrap();
        assert_eq!(found["/data"].point.kind, "bind");
        assert_eq!(found["/other"].point.kind, "volume");
        host.tmpfs.insert("/data/".into(), String::new());
        assert_eq!(wanted(&config, &host, none).unwrap_err().message, "Duplicate mount point: /data");
    }

    #[test]
    fn mounts_of_others_are_taken_over_read_only_if_asked() {
        let host = HostConfig { volumes_from: Some(vec!["web:ro".into()]), ..HostConfig::default() };
        let others = |_: &str| {
            Ok(vec![MountPoint { kind: "volume".into(), destination: "/data".into(), rw: true, ..Default::default() }])
        };
        let found = wanted(&Config::default(), &host, others).unwrap();
        assert!(!found["/data"].point.rw);
        assert!(wanted(&Config::default(), &host, none).is_err());
    }
}
