//! Pods that each level of the Pod Security Standards lets pass and refuses.

use serde_json::json;

use super::*;

fn pod(context: Value, container: Value) -> Value {
    json!({"metadata": {}, "spec": {"securityContext": context, "containers": [{"name": "c", "securityContext": container}]}})
}

fn broken(level: Level, minor: Option<u32>, pod: &Value) -> String {
    Standard { level, minor }.broken(View::new(pod)).map(|broken| broken.to_string()).unwrap_or_default()
}

fn hardened() -> Value {
    pod(
        json!({"runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}}),
        json!({"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"], "add": ["NET_BIND_SERVICE"]}}),
    )
}

#[test]
fn a_plain_pod_is_baseline_and_a_hardened_one_restricted() {
    let plain = pod(json!({}), json!({}));
    assert_eq!(broken(Level::Baseline, None, &plain), "");
    assert_eq!(
        broken(Level::Restricted, None, &plain),
        "allowPrivilegeEscalation != false (container \"c\" must set securityContext.allowPrivilegeEscalation=false), \
         unrestricted capabilities (container \"c\" must set securityContext.capabilities.drop=[\"ALL\"]), \
         runAsNonRoot != true (pod or container \"c\" must set securityContext.runAsNonRoot=true), \
         seccompProfile (pod or container \"c\" must set securityContext.seccompProfile.type to \"RuntimeDefault\" or \
         \"Localhost\")"
    );
    assert_eq!(broken(Level::Restricted, None, &hardened()), "");
    assert_eq!(broken(Level::Privileged, None, &pod(json!({}), json!({"privileged": true}))), "");
}

#[test]
fn each_rule_finds_its_case() {
    let with = |member: &str, value: Value| {
        let mut pod = hardened();
        pod["spec"][member] = value;
        pod
    };
    for (level, made, text) in [
        (Level::Baseline, pod(json!({}), json!({"privileged": true})), "privileged (container \"c\" must not set"),
        (Level::Baseline, with("hostPID", json!(true)), "host namespaces (hostPID=true)"),
        (
            Level::Baseline,
            with("volumes", json!([{"name": "v", "hostPath": {"path": "/"}}])),
            "hostPath volumes (volume \"v\")",
        ),
        (
            Level::Restricted,
            with("volumes", json!([{"name": "v", "nfs": {}}, {"name": "w", "emptyDir": {}}])),
            "restricted volume types (volume \"v\" uses restricted volume type \"nfs\")",
        ),
        (
            Level::Baseline,
            with("containers", json!([{"name": "c", "ports": [{"hostPort": 80}, {"hostPort": 443}]}])),
            "hostPort (container \"c\" uses hostPorts 443, 80)",
        ),
        (
            Level::Baseline,
            with("containers", json!([{"name": "c", "livenessProbe": {"httpGet": {"host": "h"}}}])),
            "probe or lifecycle host (container \"c\" uses probe or lifecycle host \"h\")",
        ),
        (
            Level::Baseline,
            pod(json!({}), json!({"capabilities": {"add": ["SYS_ADMIN"]}})),
            "must not include \"SYS_ADMIN\"",
        ),
        (
            Level::Baseline,
            pod(json!({"sysctls": [{"name": "kernel.msgmax"}]}), json!({})),
            "forbidden sysctls (kernel.msgmax)",
        ),
        (
            Level::Baseline,
            pod(json!({}), json!({"procMount": "Unmasked"})),
            "securityContext.procMount to \"Unmasked\"",
        ),
        (
            Level::Baseline,
            pod(json!({"seLinuxOptions": {"user": "u", "type": "x"}}), json!({})),
            "seLinuxOptions (pod set forbidden securityContext.seLinuxOptions: type \"x\"; user may not be set)",
        ),
        (
            Level::Baseline,
            pod(json!({"seccompProfile": {"type": "Unconfined"}}), json!({})),
            "seccompProfile (pod must not set securityContext.seccompProfile.type to \"Unconfined\")",
        ),
        (
            Level::Baseline,
            pod(json!({"appArmorProfile": {"type": "Unconfined"}}), json!({})),
            "forbidden AppArmor profile (pod",
        ),
        (
            Level::Baseline,
            pod(json!({}), json!({"windowsOptions": {"hostProcess": true}})),
            "hostProcess (container \"c\"",
        ),
        (Level::Restricted, pod(json!({"runAsUser": 0}), json!({})), "runAsUser=0 (pod must not set runAsUser=0)"),
    ] {
        let found = broken(level, None, &made);
        assert!(found.contains(text), "{found:?} lacks {text:?}");
    }
}

#[test]
fn older_versions_know_fewer_rules() {
    let sysctl = pod(json!({"sysctls": [{"name": "net.ipv4.tcp_rmem"}]}), json!({}));
    assert_eq!(broken(Level::Baseline, Some(32), &sysctl), "");
    assert!(!broken(Level::Baseline, Some(31), &sysctl).is_empty());
    let root = pod(json!({"runAsUser": 0, "runAsNonRoot": true}), json!({}));
    assert!(!broken(Level::Restricted, Some(22), &root).contains("runAsUser=0"));
}

#[test]
fn labels_choose_the_policy() {
    let of = |labels: Value| policy(&json!({"metadata": {"labels": labels}}));
    assert_eq!(of(json!({})).0.enforce.level, Level::Privileged);
    let (chosen, faults) = of(json!({
        "pod-security.kubernetes.io/enforce": "baseline", "pod-security.kubernetes.io/enforce-version": "v1.30",
    }));
    assert!(faults.is_empty());
    assert_eq!(chosen.enforce.to_string(), "baseline:v1.30");
    assert_eq!(chosen.warn.to_string(), "baseline:v1.30", "whoever makes controllers is told what is enforced");
    let (chosen, faults) =
        of(json!({"pod-security.kubernetes.io/enforce": "odd", "pod-security.kubernetes.io/warn-version": "1"}));
    assert_eq!((chosen.enforce.level, chosen.warn.level), (Level::Restricted, Level::Privileged));
    assert_eq!(faults.len(), 2);
}

#[test]
fn only_images_and_new_containers_matter_in_updates() {
    let mut new = hardened();
    new["metadata"]["labels"] = json!({"a": "b"});
    assert!(!is_significant(&new, &hardened()));
    new["spec"]["containers"][0]["image"] = "other".into();
    assert!(is_significant(&new, &hardened()));
    let mut debugged = hardened();
    debugged["spec"]["ephemeralContainers"] = json!([{"name": "d", "image": "i"}]);
    assert!(is_significant(&debugged, &hardened()));
}
