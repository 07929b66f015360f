//! Security contexts of pods and containers: users, groups, profiles, kernel parameters.

use std::collections::BTreeSet;

use serde_json::Value;

use super::super::{Errors, Path, format};
use super::volume::local_path;
use crate::meta::View;

/// `securityContext` of a pod.
pub fn of_pod(context: View<'_>, spec: View<'_>, path: &Path<'_>, errors: &mut Errors) {
    ids(context, &["fsGroup", "runAsUser", "runAsGroup"], path, errors);
    for (position, group) in context.list("supplementalGroups").enumerate() {
        let group = group.as_int().unwrap_or(0);
        for fault in format::id_number(group) {
            errors.invalid(&path.child("supplementalGroups").index(position), group, fault);
        }
    }
    sysctls(context, spec, &path.child("sysctls"), errors);
    choice(context, "fsGroupChangePolicy", &["Always", "OnRootMismatch"], path, errors);
    seccomp(context.at("seccompProfile"), &path.child("seccompProfile"), errors);
    apparmor(context.at("appArmorProfile"), &path.child("appArmorProfile"), errors);
    choice(context, "supplementalGroupsPolicy", &["Merge", "Strict"], path, errors);
    choice(context, "seLinuxChangePolicy", &["MountOption", "Recursive"], path, errors);
}

/// `securityContext` of a container.
pub fn of_container(context: View<'_>, host_users: bool, path: &Path<'_>, errors: &mut Errors) {
    if !context.exists() {
        return;
    }
    ids(context, &["runAsUser", "runAsGroup"], path, errors);
    if context.has("procMount") {
        let mount = context.text("procMount");
        choice(context, "procMount", &["Default", "Unmasked"], path, errors);
        if host_users && mount == "Unmasked" {
            errors.invalid(&path.child("procMount"), mount, "`hostUsers` must be false to use `Unmasked`");
        }
    }
    seccomp(context.at("seccompProfile"), &path.child("seccompProfile"), errors);
    if context.bool("allowPrivilegeEscalation") == Some(false) {
        if context.is("privileged") {
            let detail = "cannot set `allowPrivilegeEscalation` to false and `privileged` to true";
            errors.invalid(path, context.value().clone(), detail);
        }
        let added = context.at("capabilities").list("add");
        for _ in added.filter(|capability| capability.string() == "CAP_SYS_ADMIN") {
            let detail = "cannot set `allowPrivilegeEscalation` to false and `capabilities.Add` CAP_SYS_ADMIN";
            errors.invalid(path, context.value().clone(), detail);
        }
    }
    apparmor(context.at("appArmorProfile"), &path.child("appArmorProfile"), errors);
}

fn ids(context: View<'_>, members: &[&str], path: &Path<'_>, errors: &mut Errors) {
    for member in members {
        if let Some(id) = context.int(member) {
            for fault in format::id_number(id) {
                errors.invalid(&path.child(member), id, fault);
            }
        }
    }
}

fn choice(context: View<'_>, member: &str, allowed: &[&str], path: &Path<'_>, errors: &mut Errors) {
    if context.has(member) && !allowed.contains(&context.text(member)) {
        errors.not_supported(&path.child(member), context.text(member), allowed);
    }
}

fn seccomp(profile: View<'_>, path: &Path<'_>, errors: &mut Errors) {
    if !profile.exists() {
        return;
    }
    let kind = profile.text("type");
    match kind {
        "Localhost" | "RuntimeDefault" | "Unconfined" => {}
        "" => errors.required(&path.child("type"), "type is required when seccompProfile is set"),
        other => {
            errors.not_supported(&path.child("type"), other, &["Localhost", "RuntimeDefault", "Unconfined"]);
        }
    }
    let at = path.child("localhostProfile");
    match (kind == "Localhost", profile.has("localhostProfile")) {
        (true, false) => errors.required(&at, "must be set when seccomp type is Localhost"),
        (true, true) => local_path(profile.text("localhostProfile"), &at, errors),
        (false, true) => {
            errors.invalid(&at, profile.value().clone(), "can only be set when seccomp type is Localhost");
        }
        (false, false) => {}
    }
}

fn apparmor(profile: View<'_>, path: &Path<'_>, errors: &mut Errors) {
    const LONGEST: usize = 4095;
    if !profile.exists() {
        return;
    }
    let at = path.child("localhostProfile");
    let local = profile.at("localhostProfile");
    match profile.text("type") {
        "Localhost" if !local.exists() => errors.required(&at, "must be set when AppArmor type is Localhost"),
        "Localhost" => {
            let name = local.string();
            if name.trim() != name {
                errors.invalid(&at, name, "must not be padded with whitespace");
            } else if name.is_empty() {
                errors.required(&at, "must be set when AppArmor type is Localhost");
            }
            if name.len() > LONGEST {
                errors.too_long(&at, LONGEST);
            }
        }
        "RuntimeDefault" | "Unconfined" if local.exists() => {
            errors.invalid(&at, local.value().clone(), "can only be set when AppArmor type is Localhost");
        }
        "RuntimeDefault" | "Unconfined" => {}
        "" => errors.required(&path.child("type"), "type is required when appArmorProfile is set"),
        other => {
            errors.not_supported(&path.child("type"), other, &["Localhost", "RuntimeDefault", "Unconfined"]);
        }
    }
}

fn sysctls(context: View<'_>, spec: View<'_>, path: &Path<'_>, errors: &mut Errors) {
    let mut seen = BTreeSet::new();
    for (position, sysctl) in context.list("sysctls").enumerate() {
        let at = path.index(position);
        let (name, at) = (sysctl.text("name"), at.child("name"));
        if name.is_empty() {
            errors.required(&at, "");
        } else if !is_sysctl(name) {
            let detail = "must have at most 253 characters and match regex \
                          ^([a-z0-9]([-_a-z0-9]*[a-z0-9])?[\\./])*[a-z0-9]([-_a-z0-9]*[a-z0-9])?$";
            errors.invalid(&at, name, detail);
        } else if seen.contains(name) {
            errors.duplicate(&at, name);
        }
        match namespace_of(name) {
            "net" if spec.is("hostNetwork") => {
                errors.invalid(&at, name, "may not be specified when 'hostNetwork' is true");
            }
            "ipc" if spec.is("hostIPC") => errors.invalid(&at, name, "may not be specified when 'hostIPC' is true"),
            _ => {}
        }
        seen.insert(name);
    }
}

fn is_sysctl(name: &str) -> bool {
    let is_segment = |segment: &str| {
        let bytes = segment.as_bytes();
        let letter = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        !bytes.is_empty()
            && bytes.iter().all(|byte| letter(*byte) || matches!(byte, b'-' | b'_'))
            && letter(bytes[0])
            && letter(bytes[bytes.len() - 1])
    };
    name.len() <= 253 && name.split(['.', '/']).all(is_segment)
}

/// The kernel namespace that a parameter belongs to; "" if it is the whole machine's.
fn namespace_of(name: &str) -> &'static str {
    let name = name.replace('/', ".");
    if name.starts_with("net.") {
        "net"
    } else if matches!(name.as_str(), "kernel.sem")
        || name.starts_with("kernel.shm")
        || name.starts_with("kernel.msg")
        || name.starts_with("fs.mqueue.")
    {
        "ipc"
    } else {
        ""
    }
}

/// What only the other operating system's pods have.
pub fn operating_system(spec: View<'_>, path: &Path<'_>, errors: &mut Errors) {
    let os = spec.at("os");
    if !os.exists() {
        return;
    }
    match os.text("name") {
        "" => errors.required(&path.child("os").child("name"), ""),
        "linux" => linux(spec, path, errors),
        "windows" => windows(spec, path, errors),
        other => errors.not_supported(&path.child("os"), other, &["linux", "windows"]),
    }
}

fn linux(spec: View<'_>, path: &Path<'_>, errors: &mut Errors) {
    const DETAIL: &str = "windows options cannot be set for a linux pod";
    if spec.at("securityContext").has("windowsOptions") {
        errors.forbidden(&path.child("securityContext").child("windowsOptions"), DETAIL);
    }
    super::each_container(spec, path, &mut |container, at| {
        if container.at("securityContext").has("windowsOptions") {
            errors.forbidden(&at.child("securityContext").child("windowsOptions"), DETAIL);
        }
    });
}

fn windows(spec: View<'_>, path: &Path<'_>, errors: &mut Errors) {
    const DETAIL: &str = "cannot be set for a windows pod";
    const OF_POD: &[&str] = &[
        "appArmorProfile",
        "seLinuxOptions",
        "seccompProfile",
        "fsGroup",
        "fsGroupChangePolicy",
        "sysctls",
        "runAsUser",
        "runAsGroup",
        "supplementalGroups",
        "supplementalGroupsPolicy",
        "seLinuxChangePolicy",
    ];
    const OF_CONTAINER: &[&str] = &[
        "appArmorProfile",
        "seLinuxOptions",
        "seccompProfile",
        "capabilities",
        "readOnlyRootFilesystem",
        "privileged",
        "allowPrivilegeEscalation",
        "procMount",
        "runAsUser",
        "runAsGroup",
    ];
    let forbid = |context: View<'_>, members: &[&str], at: &Path<'_>, errors: &mut Errors| {
        for member in members.iter().filter(|member| is_set(context.at(member).value())) {
            errors.forbidden(&at.child("securityContext").child(member), DETAIL);
        }
    };
    forbid(spec.at("securityContext"), OF_POD, path, errors);
    for (member, set) in [
        ("hostUsers", spec.has("hostUsers")),
        ("hostPID", spec.is("hostPID")),
        ("hostIPC", spec.is("hostIPC")),
        ("shareProcessNamespace", spec.has("shareProcessNamespace")),
    ] {
        if set {
            errors.forbidden(&path.child(member), DETAIL);
        }
    }
    super::each_container(spec, path, &mut |container, at| {
        forbid(container.at("securityContext"), OF_CONTAINER, at, errors);
    });
}

fn is_set(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Array(items) => !items.is_empty(),
        _ => true,
    }
}
