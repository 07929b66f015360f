//! Security contexts of pod and container, merged into what the runtime is told.
//! <https://kubernetes.io/docs/tasks/configure-pod-container/security-context/>

use std::path::Path;

use anyhow::{Result, bail};
use k8s_openapi::api::core::v1::{Container, Pod, SeccompProfile};
use runtime::description::{GroupsPolicy, Seccomp, Security};

/// The runtime's view of a container's security. `image_user` is the image's user string; `profiles` the directory of
/// seccomp profiles that `localhostProfile` names.
pub fn of(pod: &Pod, container: &Container, image_user: &str, profiles: &Path) -> Result<Security> {
    let outer = pod.spec.as_ref().and_then(|spec| spec.security_context.clone()).unwrap_or_default();
    let inner = container.security_context.clone().unwrap_or_default();
    let privileged = inner.privileged == Some(true);
    let user = inner.run_as_user.or(outer.run_as_user);
    let group = inner.run_as_group.or(outer.run_as_group);
    if inner.run_as_non_root.or(outer.run_as_non_root) == Some(true) {
        check_non_root(container, user, image_user)?;
    }
    let id = |id: i64| u32::try_from(id).map_err(|_| anyhow::anyhow!("id {id} is out of range"));
    let mut supplemental_groups = Vec::new();
    for group in outer.supplemental_groups.iter().flatten().copied().chain(outer.fs_group) {
        supplemental_groups.push(id(group)?);
    }
    let capabilities = inner.capabilities.unwrap_or_default();
    let seccomp = match (privileged, inner.seccomp_profile.as_ref().or(outer.seccomp_profile.as_ref())) {
        (true, _) => Seccomp::Unconfined,
        (false, None) => Seccomp::RuntimeDefault,
        (false, Some(profile)) => seccomp(profile, profiles)?,
    };
    Ok(Security {
        user: user.map(id).transpose()?.map(|user| user.to_string()),
        group: group.map(id).transpose()?,
        supplemental_groups,
        groups_policy: match outer.supplemental_groups_policy.as_deref() {
            Some("Strict") => GroupsPolicy::Strict,
            _ => GroupsPolicy::Merge,
        },
        privileged,
        readonly_root: inner.read_only_root_filesystem == Some(true),
        no_new_privileges: inner.allow_privilege_escalation == Some(false),
        add_capabilities: capabilities.add.unwrap_or_default(),
        drop_capabilities: capabilities.drop.unwrap_or_default(),
        seccomp,
        unmasked_proc: inner.proc_mount.as_deref() == Some("Unmasked"),
    })
}

fn check_non_root(container: &Container, user: Option<i64>, image_user: &str) -> Result<()> {
    let name = &container.name;
    match user {
        Some(0) => bail!("container's runAsUser breaks non-root policy (container: {name})"),
        Some(_) => Ok(()),
        None => {
            let text = image_user.split(':').next().unwrap_or("");
            match text.parse::<u32>() {
                Ok(0) => bail!("container has runAsNonRoot and image will run as root (container: {name})"),
                Ok(_) => Ok(()),
                Err(_) if text.is_empty() || text == "root" => {
                    bail!("container has runAsNonRoot and image will run as root (container: {name})")
                }
                Err(_) => bail!(
                    "container has runAsNonRoot and image has non-numeric user ({text}), cannot verify user is non-root \
                     (container: {name})"
                ),
            }
        }
    }
}

fn seccomp(profile: &SeccompProfile, profiles: &Path) -> Result<Seccomp> {
    match profile.type_.as_str() {
        "Unconfined" => Ok(Seccomp::Unconfined),
        "Localhost" => match profile.localhost_profile.as_deref() {
            Some(name) if !name.is_empty() && !name.starts_with('/') && !name.split('/').any(|part| part == "..") => {
                Ok(Seccomp::Profile(profiles.join(name)))
            }
            _ => bail!("localhostProfile must be set if seccompProfile type is Localhost."),
        },
        _ => Ok(Seccomp::RuntimeDefault),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn merged(pod: Value, container: Value, image_user: &str) -> Result<Security> {
        let pod = serde_json::from_value(json!({"spec": {"containers": [], "securityContext": pod}})).unwrap();
        let container = serde_json::from_value(json!({"name": "a", "securityContext": container})).unwrap();
        of(&pod, &container, image_user, Path::new("/seccomp"))
    }

    #[test]
    fn the_container_comes_before_the_pod() {
        let security = merged(
            json!({"runAsUser": 1, "runAsGroup": 2, "supplementalGroups": [5], "fsGroup": 6,
                   "seccompProfile": {"type": "Unconfined"}}),
            json!({"runAsUser": 3, "allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}}),
            "",
        )
        .unwrap();
        assert_eq!(security.user.as_deref(), Some("3"));
        assert_eq!(security.group, Some(2));
        assert_eq!(security.supplemental_groups, [5, 6]);
        assert!(security.no_new_privileges);
        assert_eq!(security.seccomp, Seccomp::Unconfined);
        assert_eq!(security.drop_capabilities, ["ALL"]);
    }

    #[test]
    fn the_default_filter_applies_unless_said_otherwise() {
        assert_eq!(merged(json!({}), json!({}), "").unwrap().seccomp, Seccomp::RuntimeDefault);
        assert_eq!(merged(json!({}), json!({"privileged": true}), "").unwrap().seccomp, Seccomp::Unconfined);
        let local = json!({"seccompProfile": {"type": "Localhost", "localhostProfile": "a/b.json"}});
        assert_eq!(merged(json!({}), local, "").unwrap().seccomp, Seccomp::Profile("/seccomp/a/b.json".into()));
        let outside = json!({"seccompProfile": {"type": "Localhost", "localhostProfile": "../b.json"}});
        assert!(merged(json!({}), outside, "").is_err());
    }

    #[test]
    fn root_is_refused_where_it_must_not_be() {
        let cases = [
            (json!({"runAsUser": 0}), "", Some("breaks non-root policy")),
            (json!({"runAsUser": 7}), "root", None),
            (json!({}), "", Some("image will run as root")),
            (json!({}), "0:5", Some("image will run as root")),
            (json!({}), "1234", None),
            (json!({}), "web", Some("non-numeric user (web)")),
        ];
        for (container, image_user, wanted) in cases {
            let result = merged(json!({"runAsNonRoot": true}), container, image_user);
            match wanted {
                None => assert!(result.is_ok(), "{image_user}"),
                Some(text) => assert!(result.unwrap_err().to_string().contains(text), "{image_user}"),
            }
        }
    }
}
