//! System call filters that users bring, in the OCI form or in that of container engines, which say beside each rule for
//! which machines and capabilities it holds.
//!
//! <https://docs.docker.com/engine/security/seccomp/>,
//! <https://github.com/opencontainers/runtime-spec/blob/main/config-linux.md#seccomp>

use std::{collections::BTreeSet, path::Path};

use anyhow::{Context as _, Result};
use oci_spec::runtime::LinuxSeccomp;
use serde_json::{Value, json};

/// Reads a profile of a user: the OCI form, or the engines' with `archMap`, `includes` and `excludes`.
pub fn read_profile(path: &Path, capabilities: &BTreeSet<String>) -> Result<LinuxSeccomp> {
    let text = std::fs::read(path).with_context(|| format!("read seccomp profile {}", path.display()))?;
    let mut profile: Value =
        serde_json::from_slice(&text).with_context(|| format!("decode seccomp profile {}", path.display()))?;
    let Some(fields) = profile.as_object_mut() else {
        anyhow::bail!("seccomp profile {} is not an object", path.display());
    };
    fields.remove("archMap");
    fields.remove("architectures");
    if let Some(Value::Array(rules)) = fields.get_mut("syscalls") {
        rules.retain(|rule| applies(rule, capabilities));
        for rule in rules.iter_mut().filter_map(Value::as_object_mut) {
            if let Some(name) = rule.remove("name") {
                rule.insert("names".into(), json!([name]));
            }
            for key in ["includes", "excludes", "comment"] {
                rule.remove(key);
            }
        }
    }
    serde_json::from_value(profile).with_context(|| format!("read seccomp profile {}", path.display()))
}

/// Whether a rule's `includes` and `excludes` admit this machine and these capabilities.
fn applies(rule: &Value, capabilities: &BTreeSet<String>) -> bool {
    let list = |side: &str, key: &str| -> Vec<String> {
        let values = rule[side][key].as_array();
        values.into_iter().flatten().filter_map(|value| value.as_str().map(str::to_owned)).collect()
    };
    let arch = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    let wanted = list("includes", "caps");
    let arches = list("includes", "arches");
    wanted.iter().all(|capability| capabilities.contains(capability))
        && (arches.is_empty() || arches.iter().any(|known| known == arch))
        && !list("excludes", "caps").iter().any(|capability| capabilities.contains(capability))
        && !list("excludes", "arches").iter().any(|known| known == arch)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_of_engines_profiles_are_chosen_by_capability() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("profile.json");
        let text = json!({
            "defaultAction": "SCMP_ACT_ALLOW",
            "archMap": [{"architecture": "SCMP_ARCH_X86_64"}],
            "syscalls": [
                {"name": "chmod", "action": "SCMP_ACT_ERRNO"},
                {"names": ["mkdir"], "action": "SCMP_ACT_ERRNO", "includes": {"caps": ["CAP_SYS_ADMIN"]}},
                {"names": ["rmdir"], "action": "SCMP_ACT_ERRNO", "excludes": {"caps": ["CAP_SYS_ADMIN"]}, "comment": ""},
            ],
        });
        std::fs::write(&path, text.to_string()).unwrap();
        let profile = read_profile(&path, &BTreeSet::new()).unwrap();
        let names: Vec<_> = profile.syscalls().iter().flatten().flat_map(|rule| rule.names().clone()).collect();
        assert_eq!(names, ["chmod", "rmdir"]);
    }
}
