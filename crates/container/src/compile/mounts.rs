//! Mount options to attributes.

use oci_spec::runtime::{Mount as SpecMount, Spec};

use super::{Error, id_map, invalid, text};
use crate::{
    cgroup::{Path, Version, directory_text},
    plan::{Hierarchy, Mount, Source},
};

/// `MOUNT_ATTR_…`.
const RDONLY: u64 = 0x1;
const NOSUID: u64 = 0x2;
const NODEV: u64 = 0x4;
const NOEXEC: u64 = 0x8;
/// All that say when access times are written.
pub const ATIME: u64 = 0x70;
const NOATIME: u64 = 0x10;
const STRICTATIME: u64 = 0x20;
const NODIRATIME: u64 = 0x80;
const NOSYMFOLLOW: u64 = 0x20_0000;

/// What an option sets and clears; with an `r` in front, on everything below as well.
const ATTRIBUTES: [(&str, u64, u64); 18] = [
    ("ro", RDONLY, 0),
    ("rw", 0, RDONLY),
    ("nosuid", NOSUID, 0),
    ("suid", 0, NOSUID),
    ("nodev", NODEV, 0),
    ("dev", 0, NODEV),
    ("noexec", NOEXEC, 0),
    ("exec", 0, NOEXEC),
    ("noatime", NOATIME, ATIME),
    ("atime", 0, ATIME),
    ("relatime", 0, ATIME),
    ("norelatime", STRICTATIME, ATIME),
    ("strictatime", STRICTATIME, ATIME),
    ("nostrictatime", 0, ATIME),
    ("nodiratime", NODIRATIME, 0),
    ("diratime", 0, NODIRATIME),
    ("nosymfollow", NOSYMFOLLOW, 0),
    ("symfollow", 0, NOSYMFOLLOW),
];

/// `MS_…` of a propagation, and whether it is for everything below.
pub fn propagation(name: &str) -> Option<(u64, bool)> {
    let (short, below) = match name {
        "private" | "slave" | "shared" | "unbindable" => (name, false),
        _ => (name.strip_prefix('r')?, true),
    };
    let kind = match short {
        "private" => libc::MS_PRIVATE,
        "slave" => libc::MS_SLAVE,
        "shared" => libc::MS_SHARED,
        "unbindable" => libc::MS_UNBINDABLE,
        _ => return None,
    };
    Some((kind, below))
}

/// All mounts of a specification.
pub fn all(spec: &Spec, version: &Version, group: Option<&Path>, own_cgroup: bool) -> Result<Vec<Mount>, Error> {
    let mut mounts = Vec::new();
    for mount in spec.mounts().iter().flatten() {
        mounts.push(one(mount, version, group, own_cgroup)?);
    }
    Ok(mounts)
}

fn one(spec: &SpecMount, version: &Version, group: Option<&Path>, own_cgroup: bool) -> Result<Mount, Error> {
    let to = match text(spec.destination())? {
        to if to.starts_with('/') => to,
        // Runtimes have always taken a relative one from the root.
        to => format!("/{to}"),
    };
    let kind = spec.typ().clone().unwrap_or_default();
    let from = spec.source().as_deref().map(text).transpose()?.unwrap_or_default();
    let mut mount = Mount { kind, from, to, ..Mount::default() };
    mount.set_source(if mount.kind == "bind" { Source::Bind } else { Source::New });
    for option in spec.options().iter().flatten() {
        take(&mut mount, option)?;
    }
    if matches!(mount.kind.as_str(), "cgroup" | "cgroup2") && mount.source() == Source::New {
        mount.set_source(Source::Cgroup);
        mount.options.clear();
        cgroup(&mut mount, version, group, own_cgroup)?;
    }
    mount.uids = spec.uid_mappings().iter().flatten().map(id_map).collect();
    mount.gids = spec.gid_mappings().iter().flatten().map(id_map).collect();
    mount.mapped |= !mount.uids.is_empty() || !mount.gids.is_empty();
    if mount.mapped && (mount.source() != Source::Bind || mount.uids.is_empty() != mount.gids.is_empty()) {
        return invalid(format!("mount at {}: only binds are mapped, and users and groups together", mount.to));
    }
    match mount.source() {
        Source::Bind if !mount.from.starts_with('/') => {
            invalid(format!("bind mount at {}: source {:?} is not absolute", mount.to, mount.from))
        }
        Source::New if mount.kind.is_empty() => invalid(format!("mount at {} has no type", mount.to)),
        _ => Ok(mount),
    }
}

fn take(mount: &mut Mount, option: &str) -> Result<(), Error> {
    let attribute = |name: &str| ATTRIBUTES.iter().find(|(known, ..)| *known == name);
    match option {
        "defaults" | "" => {}
        "bind" => mount.set_source(Source::Bind),
        "rbind" => {
            mount.set_source(Source::Bind);
            mount.recursive = true;
        }
        "remount" => mount.set_source(Source::Remount),
        "tmpcopyup" => mount.copy_up = true,
        "idmap" | "ridmap" => (mount.mapped, mount.map_below) = (true, option == "ridmap"),
        _ => {
            if let Some(&(_, set, clear)) = attribute(option) {
                mount.clear = mount.clear & !set | clear;
                mount.set = mount.set & !clear | set;
            } else if let Some(&(_, set, clear)) = option.strip_prefix('r').and_then(attribute) {
                mount.clear_below = mount.clear_below & !set | clear;
                mount.set_below = mount.set_below & !clear | set;
            } else if let Some((kind, below)) = propagation(option) {
                mount.propagation = kind;
                mount.propagation_below = below;
            } else if option.contains('\0') {
                return invalid(format!("mount option {option:?} contains a zero byte"));
            } else {
                mount.options.push(option.to_owned());
            }
        }
    }
    Ok(())
}

/// What is mounted at a container's `/sys/fs/cgroup`: the machine's version, whatever the specification calls it.
fn cgroup(mount: &mut Mount, version: &Version, group: Option<&Path>, own: bool) -> Result<(), Error> {
    let directory = |root: &std::path::Path| match group {
        Some(group) if !own => directory_text(&root.join(group.as_str())),
        _ => directory_text(root),
    };
    match version {
        Version::V2(root) => {
            mount.kind = "cgroup2".into();
            if !own {
                mount.set_source(Source::Bind);
                mount.from = directory(root)?;
                mount.recursive = true;
            }
        }
        Version::V1(hierarchies) => {
            mount.kind = "cgroup".into();
            for hierarchy in hierarchies.iter() {
                let name = hierarchy.mount.file_name().and_then(|name| name.to_str()).unwrap_or("cgroup");
                let option = match &hierarchy.name {
                    Some(name) => format!("name={name}"),
                    None => hierarchy.controllers.join(","),
                };
                // Who finds version 2 mounted takes it for the one that limits.
                if hierarchy.unified {
                    continue;
                }
                // In the others the container has no group of its own: what would be bound is the machine's whole tree.
                if !own && !hierarchy.used() {
                    continue;
                }
                mount.hierarchies.push(Hierarchy {
                    name: name.into(),
                    option,
                    directory: if own { String::new() } else { directory(&hierarchy.mount)? },
                    unified: hierarchy.unified,
                });
            }
        }
    }
    Ok(())
}
