//! A pod's volumes: made before its containers start, kept current while it runs, taken down when it ends.
//!
//! ```text
//! PODS/UID/volumes/kubernetes.io~KIND/NAME      layout as upstream's
//!          volume-subpaths/NAME/CONTAINER/N     parts of volumes, bound so that nobody can swap links
//!          logs/CONTAINER/N.log
//! RUN/UID/NAME                                  Secrets and projections: in memory, never on disk
//! ```
//!
//! In reading order: [`files`] says what is in volumes made of API data, [`atomic`] writes them, [`disk`] makes the others,
//! [`claim`] finds those that are claimed.

pub mod files;

pub mod atomic;

pub mod disk;

pub mod claim;

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, anyhow, bail};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, Pod, Volume, VolumeMount};
use runtime::description::{Mount, Propagation};

use crate::{
    env::{Objects, expand},
    field::Source,
    resources,
};

/// Where the volumes of one pod are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Its directory.
    pub dir: PathBuf,
    /// Where its file system in memory is mounted.
    pub memory: PathBuf,
    /// Below it are the directories of volumes that were made for claims.
    pub provisioned: PathBuf,
    /// The directory of its socket for builds; none where nothing builds here.
    pub socket: Option<PathBuf>,
}

/// Everything that making volumes takes.
#[derive(Clone, Copy)]
pub struct Make<'a> {
    /// Where to.
    pub place: &'a Place,
    /// The pod's fields.
    pub fields: Source<'a>,
    /// ConfigMaps and Secrets.
    pub objects: &'a dyn Objects,
    /// Tokens, trust bundles, certificates.
    pub credentials: files::Credentials<'a>,
    /// Images that are mounted as volumes: by volume name, unpacked layers, the topmost first.
    pub images: &'a BTreeMap<String, Vec<PathBuf>>,
    /// What claims are bound to, by volume name.
    pub claims: &'a BTreeMap<String, claim::Claimed>,
    /// The time.
    pub now: Timestamp,
    /// Is told of each volume that took work: how long, and whether it went well.
    pub took: &'a dyn Fn(&Volume, Duration, bool),
}

/// Objects that a pod refers to: names of ConfigMaps and of Secrets.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct References {
    /// ConfigMaps.
    pub config_maps: Vec<String>,
    /// Secrets, those for pulling images not among them.
    pub secrets: Vec<String>,
}

/// The objects that a pod's volumes and environment refer to.
pub fn references(pod: &Pod) -> References {
    let mut found = References::default();
    let Some(spec) = &pod.spec else { return found };
    for volume in spec.volumes.iter().flatten() {
        found.config_maps.extend(volume.config_map.iter().map(|source| source.name.clone()));
        found.secrets.extend(volume.secret.iter().filter_map(|source| source.secret_name.clone()));
        let parts = volume.projected.iter().flat_map(|source| source.sources.iter().flatten());
        for part in parts {
            found.config_maps.extend(part.config_map.iter().map(|source| source.name.clone()));
            found.secrets.extend(part.secret.iter().map(|source| source.name.clone()));
        }
    }
    let names = spec.init_containers.iter().flatten().chain(&spec.containers).map(|container| &container.name);
    let ephemeral = spec.ephemeral_containers.iter().flatten().map(|container| &container.name);
    for name in names.chain(ephemeral) {
        let Some(container) = crate::pod::state::container_spec(pod, name) else { continue };
        let container = container.to_container();
        for from in container.env_from.iter().flatten() {
            found.config_maps.extend(from.config_map_ref.iter().map(|reference| reference.name.clone()));
            found.secrets.extend(from.secret_ref.iter().map(|reference| reference.name.clone()));
        }
        for from in container.env.iter().flatten().filter_map(|variable| variable.value_from.as_ref()) {
            found.config_maps.extend(from.config_map_key_ref.iter().map(|reference| reference.name.clone()));
            found.secrets.extend(from.secret_key_ref.iter().map(|reference| reference.name.clone()));
        }
    }
    for list in [&mut found.config_maps, &mut found.secrets] {
        list.sort();
        list.dedup();
        list.retain(|name| !name.is_empty());
    }
    found
}

/// The group that the pod's volumes belong to.
fn group(pod: &Pod) -> Option<u32> {
    let context = pod.spec.as_ref()?.security_context.as_ref()?;
    u32::try_from(context.fs_group?).ok()
}

/// The user that all containers run as, where the spec says so for all alike.
fn common_user(pod: &Pod) -> Option<u32> {
    let spec = pod.spec.as_ref()?;
    let outer = spec.security_context.as_ref().and_then(|context| context.run_as_user);
    let of =
        |container: &Container| container.security_context.as_ref().and_then(|context| context.run_as_user).or(outer);
    let mut users = spec.init_containers.iter().flatten().chain(&spec.containers).map(of);
    let first = users.next()??;
    users.all(|user| user == Some(first)).then(|| u32::try_from(first).ok()).flatten()
}

/// Where a volume lies; none for one that the pod does not have or that is of no kind known here.
pub fn path(place: &Place, volume: &Volume) -> Option<PathBuf> {
    let on_disk = |kind: &str| Some(place.dir.join("volumes").join(format!("kubernetes.io~{kind}")).join(&volume.name));
    let in_memory = || Some(place.memory.join(&volume.name));
    if let Some(source) = &volume.host_path {
        return Some(PathBuf::from(&source.path));
    }
    if volume.empty_dir.is_some() {
        on_disk("empty-dir")
    } else if volume.config_map.is_some() {
        on_disk("configmap")
    } else if volume.downward_api.is_some() {
        on_disk("downward-api")
    } else if volume.image.is_some() {
        on_disk("image")
    } else if volume.persistent_volume_claim.is_some() || volume.ephemeral.is_some() {
        on_disk("local-volume")
    } else if volume.secret.is_some() || volume.projected.is_some() {
        in_memory()
    } else if is_build_socket(volume) {
        place.socket.clone()
    } else {
        None
    }
}

/// The driver that a volume names which is a socket for builds; the engine answers on it.
const BUILD_DRIVER: &str = "build.madang.dev";

fn is_build_socket(volume: &Volume) -> bool {
    volume.csi.as_ref().is_some_and(|source| source.driver == BUILD_DRIVER)
}

/// Makes all volumes of a pod, or brings those that exist up to date. Returns whether something changed.
/// The error is what the event shows.
pub fn make(input: &Make<'_>) -> Result<bool> {
    let mut changed = false;
    let spec = input.fields.pod.spec.as_ref();
    for volume in spec.and_then(|spec| spec.volumes.as_deref()).unwrap_or_default() {
        let began = Instant::now();
        let made = make_one(input, volume);
        // What was there already took no operation.
        if !matches!(made, Ok(false)) {
            (input.took)(volume, began.elapsed(), made.is_ok());
        }
        changed |=
            made.map_err(|error| anyhow!("MountVolume.SetUp failed for volume {:?} : {error:#}", volume.name))?;
    }
    Ok(changed)
}

fn make_one(input: &Make<'_>, volume: &Volume) -> Result<bool> {
    let pod = input.fields.pod;
    let group = group(pod);
    let Some(path) = path(input.place, volume) else { bail!("{}", unsupported(volume)) };
    if let Some(source) = &volume.host_path {
        disk::host_path(&path, source.type_.as_deref().unwrap_or(""))?;
        return Ok(false);
    }
    if let Some(source) = &volume.empty_dir {
        if path.exists() && (source.medium.as_deref() != Some("Memory") || disk::is_mount_point(&path)) {
            return Ok(false);
        }
        let limit = source.size_limit.as_ref().map(|limit| resources::units(Some(limit))).filter(|limit| *limit > 0);
        let memory = source.medium.as_deref() == Some("Memory");
        let pod_limit = spec_memory(pod);
        let size = [limit, pod_limit].into_iter().flatten().min().map(i64::unsigned_abs);
        disk::empty_dir(&path, memory, size, group)?;
        return Ok(true);
    }
    if volume.image.is_some() {
        return mount_image(input, &volume.name, &path);
    }
    if let Some(claimed) = input.claims.get(&volume.name) {
        return mount_claimed(input, claimed, &path);
    }
    if is_build_socket(volume) {
        // The engine puts the socket there, now or later, and takes the directory away with the pod.
        let made = !path.exists();
        fs::create_dir_all(&path).with_context(|| format!("make {}", path.display()))?;
        return Ok(made);
    }
    let files = if let Some(source) = &volume.config_map {
        files::config_map(source, input.objects)?
    } else if let Some(source) = &volume.downward_api {
        files::downward(source, input.fields)?
    } else if let Some(source) = &volume.secret {
        files::secret(source, input.objects)?
    } else if let Some(source) = &volume.projected {
        let readers = files::Readers { user: common_user(pod), group: group.is_some() };
        files::projected(&volume.name, source, input.objects, input.fields, input.credentials, readers)?
    } else {
        bail!("{}", unsupported(volume));
    };
    let memory = &input.place.memory;
    if path.starts_with(memory) && !disk::is_mount_point(memory) {
        fs::create_dir_all(memory).with_context(|| format!("make {}", memory.display()))?;
        disk::mount_memory(memory, None, 0o755)?;
    }
    atomic::write(&path, &files, group, input.now)
}

fn spec_memory(pod: &Pod) -> Option<i64> {
    resources::pod(pod.spec.as_ref()?).memory
}

fn mount_image(input: &Make<'_>, name: &str, path: &Path) -> Result<bool> {
    if disk::is_mount_point(path) {
        return Ok(false);
    }
    let layers = input.images.get(name).context("its image is not present")?;
    fs::create_dir_all(path).with_context(|| format!("make {}", path.display()))?;
    let flags = rustix::mount::MountFlags::RDONLY | rustix::mount::MountFlags::NODEV;
    if let [layer] = layers.as_slice() {
        disk::bind(layer, path, true)?;
        return Ok(true);
    }
    let lowers: Vec<_> = layers.iter().map(|layer| layer.to_string_lossy()).collect();
    let options = std::ffi::CString::new(format!("lowerdir={}", lowers.join(":"))).context("mount options")?;
    rustix::mount::mount("overlay", path, "overlay", flags, Some(options.as_c_str()))
        .with_context(|| format!("mount image at {}", path.display()))?;
    Ok(true)
}

/// Makes what a claim is bound to visible among the pod's volumes.
fn mount_claimed(input: &Make<'_>, claimed: &claim::Claimed, path: &Path) -> Result<bool> {
    if disk::is_mount_point(path) {
        return Ok(false);
    }
    let source = &claimed.path;
    match &claimed.kind {
        claim::Kind::HostPath(kind) => disk::host_path(source, kind)?,
        claim::Kind::Local => {
            if source.starts_with(&input.place.provisioned) {
                disk::provisioned(source)?;
            }
            disk::host_path(source, "Directory").with_context(|| format!("local volume {}", source.display()))?;
            if let Some(group) = group(input.fields.pod).filter(|_| !claimed.read_only) {
                disk::give_to_group(source, group, on_mismatch(input.fields.pod))?;
            }
        }
    }
    disk::bind(source, path, claimed.read_only)?;
    Ok(true)
}

fn on_mismatch(pod: &Pod) -> bool {
    let context = pod.spec.as_ref().and_then(|spec| spec.security_context.as_ref());
    context.and_then(|context| context.fs_group_change_policy.as_deref()) == Some("OnRootMismatch")
}

fn unsupported(volume: &Volume) -> String {
    let kind = match volume {
        Volume { csi: Some(_), .. } => "csi",
        Volume { nfs: Some(_), .. } => "nfs",
        Volume { iscsi: Some(_), .. } => "iscsi",
        _ => "this kind",
    };
    format!("volumes of {kind} are not supported by this node")
}

/// What a container sees of the pod's volumes. `env` are its variables, for `subPathExpr`. Parts of volumes are bound anew.
pub fn mounts(place: &Place, pod: &Pod, container: &Container, env: &[(String, String)]) -> Result<Vec<Mount>> {
    let volumes = pod.spec.as_ref().and_then(|spec| spec.volumes.as_deref()).unwrap_or_default();
    let mut list = Vec::new();
    for (index, mount) in container.volume_mounts.iter().flatten().enumerate() {
        let volume = volumes
            .iter()
            .find(|volume| volume.name == mount.name)
            .with_context(|| format!("volume {:?} of a mount does not exist", mount.name))?;
        let Some(mut source) = path(place, volume) else { bail!("{}", unsupported(volume)) };
        if let Some(part) = part(mount, env)? {
            let target =
                place.dir.join("volume-subpaths").join(&mount.name).join(&container.name).join(index.to_string());
            disk::sub_path(&source, &part, &target).with_context(|| {
                format!("failed to prepare subPath for volumeMount {:?} of container {:?}", mount.name, container.name)
            })?;
            source = target;
        }
        let claimed = volume.persistent_volume_claim.is_some() || volume.ephemeral.is_some();
        let readonly =
            mount.read_only == Some(true) || always_readonly(volume) || (claimed && disk::is_read_only(&source));
        let recursive = matches!(mount.recursive_read_only.as_deref(), Some("Enabled" | "IfPossible"));
        list.push(Mount {
            source,
            target: PathBuf::from("/").join(&mount.mount_path),
            readonly,
            recursive_readonly: readonly && recursive,
            propagation: match mount.mount_propagation.as_deref() {
                Some("HostToContainer") => Propagation::HostToContainer,
                Some("Bidirectional") => Propagation::Bidirectional,
                _ => Propagation::Private,
            },
            unmapped: false,
        });
    }
    Ok(list)
}

/// Volumes of API data refuse writes, images too.
fn always_readonly(volume: &Volume) -> bool {
    volume.config_map.is_some()
        || volume.secret.is_some()
        || volume.projected.is_some()
        || volume.downward_api.is_some()
        || volume.image.is_some()
        || is_build_socket(volume)
}

fn part(mount: &VolumeMount, env: &[(String, String)]) -> Result<Option<String>> {
    if let Some(text) = mount.sub_path_expr.as_deref().filter(|text| !text.is_empty()) {
        let value = |name: &str| env.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone());
        let missing = std::cell::Cell::new(false);
        let expanded = expand(text, |name| {
            let found = value(name);
            missing.set(missing.get() || found.is_none());
            found
        });
        if missing.get() {
            bail!("missing value for {text:?}");
        }
        if expanded.starts_with('/') || expanded.split('/').any(|part| part == "..") {
            bail!("subPathExpr {text:?} must be a relative path within the volume");
        }
        return Ok(Some(expanded));
    }
    Ok(mount.sub_path.clone().filter(|text| !text.is_empty()))
}

/// Takes a pod's volumes down; the machine's own directories stay.
pub fn unmount(place: &Place) -> Result<()> {
    disk::unmount_below(&place.dir)?;
    disk::unmount_below(&place.memory)?;
    remove_dir(&place.memory)?;
    for name in ["volumes", "volume-subpaths"] {
        remove_dir(&place.dir.join(name))?;
    }
    Ok(())
}

/// Removes everything of a pod, logs included.
pub fn remove(place: &Place) -> Result<()> {
    unmount(place)?;
    remove_dir(&place.dir)
}

fn remove_dir(path: &Path) -> Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("remove {}", path.display()))
        }
        _ => Ok(()),
    }
}

/// The tokens that a pod's volumes hold: audience and seconds.
pub fn tokens(pod: &Pod) -> Vec<(String, i64)> {
    let volumes = pod.spec.as_ref().and_then(|spec| spec.volumes.as_deref()).unwrap_or_default();
    let sources = volumes.iter().filter_map(|volume| volume.projected.as_ref()).flat_map(|source| &source.sources);
    let parts = sources.flatten().filter_map(|part| part.service_account_token.as_ref());
    parts.map(|token| (token.audience.clone().unwrap_or_default(), token.expiration_seconds.unwrap_or(3600))).collect()
}

/// The earliest time at which a token of the pod should be replaced, given when it was made: after 80% of its life.
pub fn token_refresh(pod: &Pod, made: Timestamp) -> Option<Timestamp> {
    let seconds = tokens(pod).into_iter().map(|(_, seconds)| seconds.clamp(600, 24 * 3600)).min()?;
    made.checked_add(jiff::SignedDuration::from_secs(seconds * 4 / 5)).ok()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn references_are_gathered_from_volumes_and_environment() {
        let pod: Pod = serde_json::from_value(json!({"spec": {
            "volumes": [
                {"name": "a", "configMap": {"name": "m1"}}, {"name": "b", "secret": {"secretName": "s1"}},
                {"name": "c", "projected": {"sources": [{"configMap": {"name": "m2"}}, {"secret": {"name": "s1"}}]}},
            ],
            "containers": [{"name": "x", "envFrom": [{"configMapRef": {"name": "m1"}}],
                "env": [{"name": "E", "valueFrom": {"secretKeyRef": {"name": "s2", "key": "k"}}}]}],
        }}))
        .unwrap();
        let found = references(&pod);
        assert_eq!(found.config_maps, ["m1", "m2"]);
        assert_eq!(found.secrets, ["s1", "s2"]);
    }

    #[test]
    fn parts_of_volumes_may_be_named_by_variables() {
        let env = [("POD".to_owned(), "web-0".to_owned()), ("UP".to_owned(), "..".to_owned())];
        let mount = |text: &str| -> VolumeMount {
            serde_json::from_value(json!({"name": "v", "mountPath": "/v", "subPathExpr": text})).unwrap()
        };
        assert_eq!(part(&mount("logs/$(POD)"), &env).unwrap().as_deref(), Some("logs/web-0"));
        assert!(part(&mount("$(NONE)"), &env).is_err());
        assert!(part(&mount("a/$(UP)"), &env).is_err());
    }

    #[test]
    fn tokens_are_replaced_after_four_fifths_of_their_life() {
        let pod: Pod = serde_json::from_value(json!({"spec": {"containers": [], "volumes": [{"name": "t", "projected":
            {"sources": [{"serviceAccountToken": {"path": "token", "expirationSeconds": 3600}}]}}]}}))
        .unwrap();
        let made = Timestamp::from_second(0).unwrap();
        assert_eq!(token_refresh(&pod, made), Some(Timestamp::from_second(2880).unwrap()));
    }
}
