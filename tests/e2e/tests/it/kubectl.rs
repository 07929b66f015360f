//! kubectl's everyday verbs, a case each.

use crate::shared::{IMAGE, pod, space};

/// Sleeps and ends at once when told to.
const SLEEP: &str = "trap 'exit 0' TERM; while true; do sleep 1 & wait; done";

#[test]
fn get_prints_every_form_and_describe_tells_the_rest() {
    let Some(kubectl) = space("get") else { return };
    kubectl.apply(&pod("one", SLEEP));
    kubectl.run(&["wait", "--for=condition=Ready", "pod/one", "--timeout=30s"]).good();
    let table = kubectl.run(&["get", "pods"]).good();
    assert!(table.starts_with("NAME") && table.contains("Running"), "{table}");
    assert!(kubectl.run(&["get", "pods", "--output=wide"]).good().contains("node-1"));
    assert_eq!(kubectl.run(&["get", "pods", "--output=name"]).good(), "pod/one\n");
    assert!(kubectl.run(&["get", "pod", "one", "--output=yaml"]).good().contains("kind: Pod"));
    let json: serde_json::Value =
        serde_json::from_str(&kubectl.run(&["get", "pod", "one", "--output=json"]).good()).unwrap();
    assert_eq!(json["status"]["phase"], "Running");
    assert_eq!(kubectl.field("pod/one", "{.spec.nodeName}"), "node-1");
    let columns = kubectl.run(&["get", "pods", "--output=custom-columns=N:.metadata.name,P:.status.phase"]).good();
    assert!(columns.contains("one") && columns.contains("Running"), "{columns}");
    assert!(kubectl.run(&["get", "pods", "--selector=app=none"]).good().is_empty());
    let described = kubectl.run(&["describe", "pod", "one"]).good();
    for expected in ["Successfully assigned", "Started", "Container ID:", "QoS Class:"] {
        assert!(described.contains(expected), "no {expected:?} in:\n{described}");
    }
    let missing = kubectl.run(&["get", "pod", "two"]).bad();
    assert!(missing.contains("(NotFound): pods \"two\" not found"), "{missing}");
    assert!(kubectl.run(&["describe", "node", "node-1"]).good().contains("Allocatable:"));
    assert!(kubectl.run(&["events"]).good().contains("Scheduled"));
}

#[test]
fn objects_are_applied_diffed_patched_edited_labelled_and_deleted() {
    let Some(kubectl) = space("apply") else { return };
    let map = |value: &str| {
        format!("{{apiVersion: v1, kind: ConfigMap, metadata: {{name: settings}}, data: {{key: {value}}}}}")
    };
    assert!(kubectl.apply(&map("one")).contains("created"));
    assert!(kubectl.apply(&map("one")).contains("unchanged"));
    let diff = kubectl.with_input(&["diff", "--filename", "-"], &map("two"));
    assert!(!diff.ok && diff.out.contains("+  key: two"), "{diff:?}");
    assert!(kubectl.apply(&map("two")).contains("configured"));
    kubectl.run(&["patch", "configmap", "settings", "--patch", r#"{"data":{"more":"x"}}"#]).good();
    kubectl.run(&["patch", "configmap", "settings", "--type=merge", "--patch", r#"{"data":{"key":null}}"#]).good();
    kubectl
        .run(&[
            "patch",
            "configmap",
            "settings",
            "--type=json",
            "--patch",
            r#"[{"op":"add","path":"/data/json","value":"y"}]"#,
        ])
        .good();
    assert_eq!(kubectl.field("configmap/settings", "{.data}"), r#"{"json":"y","more":"x"}"#);
    kubectl.run(&["label", "configmap", "settings", "tier=web"]).good();
    kubectl.run(&["annotate", "configmap", "settings", "note=kept"]).good();
    assert_eq!(kubectl.run(&["get", "configmaps", "-l", "tier in (web)", "-o", "name"]).good(), "configmap/settings\n");
    let mut edit = kubectl.command(&["edit", "configmap", "settings"]);
    let edited = edit.env("KUBE_EDITOR", "sed -i s/more:/less:/").output().unwrap();
    assert!(edited.status.success(), "{}", String::from_utf8_lossy(&edited.stderr));
    assert_eq!(kubectl.field("configmap/settings", "{.data.less}"), "x");
    kubectl.run(&["create", "secret", "generic", "pass", "--from-literal=word=open"]).good();
    assert_eq!(kubectl.field("secret/pass", "{.data.word}"), "b3Blbg==");
    kubectl.run(&["delete", "configmap", "settings"]).good();
    assert!(kubectl.run(&["get", "configmap", "settings"]).bad().contains("not found"));
}

#[test]
fn commands_run_in_containers_and_files_are_copied() {
    let Some(kubectl) = space("exec") else { return };
    kubectl.apply(&pod("one", SLEEP));
    kubectl.run(&["wait", "--for=condition=Ready", "pod/one", "--timeout=30s"]).good();
    assert_eq!(kubectl.run(&["exec", "one", "--", "echo", "hello"]).good(), "hello\n");
    assert_eq!(kubectl.with_input(&["exec", "-i", "one", "--", "cat"], "through stdin").good(), "through stdin");
    let failed = kubectl.run(&["exec", "one", "--", "sh", "-c", "echo oops >&2; exit 7"]);
    assert!(failed.err.contains("oops") && failed.err.contains("exit code 7"), "{failed:?}");
    let missing = kubectl.run(&["exec", "one", "--", "no-such-program"]).bad();
    assert!(missing.contains("executable file not found"), "{missing}");
    let dir = std::env::temp_dir().join(format!("madang-cp-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    let (there, back) = (dir.join("there"), dir.join("back"));
    std::fs::write(&there, "copied").unwrap();
    kubectl.run(&["cp", there.to_str().unwrap(), "one:/tmp/file"]).good();
    kubectl.run(&["cp", "one:/tmp/file", back.to_str().unwrap()]).good();
    assert_eq!(std::fs::read_to_string(&back).unwrap(), "copied");
    std::fs::remove_dir_all(dir).unwrap();
}

#[test]
fn logs_are_followed_cut_and_kept_of_the_run_before() {
    let Some(kubectl) = space("logs") else { return };
    kubectl.apply(&pod("counter", "for i in 1 2 3 4 5; do echo line $i; done; sleep 1; echo last"));
    let followed = kubectl.until(&["logs", "-f", "counter"], |out| out.contains("last"));
    assert_eq!(followed, "line 1\nline 2\nline 3\nline 4\nline 5\nlast\n");
    assert_eq!(kubectl.run(&["logs", "counter", "--tail=1"]).good(), "last\n");
    assert_eq!(kubectl.run(&["logs", "counter", "--limit-bytes=6"]).good(), "line 1");
    assert!(kubectl.run(&["logs", "counter", "--timestamps", "--tail=1"]).good().contains("Z last"));
    let restarting = pod("again", "echo run; exit 1").replace("restartPolicy: Never", "restartPolicy: Always");
    kubectl.apply(&restarting);
    kubectl.until(&["get", "pod", "again", "-o", "jsonpath={.status.containerStatuses[0].restartCount}"], |out| {
        out.parse::<u32>().is_ok_and(|count| count > 0)
    });
    assert_eq!(kubectl.until(&["logs", "again", "--previous"], |out| !out.is_empty()), "run\n");
}

#[test]
fn ports_are_forwarded_to_this_machine() {
    let Some(kubectl) = space("forward") else { return };
    kubectl.apply(&pod("web", "mkdir /www; echo forwarded > /www/index.html; exec httpd -f -p 8080 -h /www"));
    kubectl.run(&["wait", "--for=condition=Ready", "pod/web", "--timeout=30s"]).good();
    let mut forward = kubectl.command(&["port-forward", "pod/web", "18080:8080"]);
    let mut child = forward.stdout(std::process::Stdio::piped()).spawn().unwrap();
    let mut first = String::new();
    let mut out = std::io::BufReader::new(child.stdout.take().unwrap());
    std::io::BufRead::read_line(&mut out, &mut first).unwrap();
    assert!(first.contains("Forwarding from"), "{first}");
    let place = &crate::shared::cluster().unwrap().place;
    let mut curl = place.command("curl");
    let got = curl.args(["--silent", "--max-time", "5", "http://127.0.0.1:18080/"]).output().unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(String::from_utf8_lossy(&got.stdout), "forwarded\n", "{}", String::from_utf8_lossy(&got.stderr));
}

#[test]
fn run_attach_expose_scale_rollout_and_set_work_as_usual() {
    let Some(kubectl) = space("verbs") else { return };
    let image = format!("--image={IMAGE}");
    let ran =
        kubectl.with_input(&["run", "cat", "-i", "--rm", "--restart=Never", "--quiet", &image, "--", "cat"], "typed\n");
    assert!(ran.out.contains("typed"), "{ran:?}");
    kubectl.run(&["create", "deployment", "web", &image, "--port=8080", "--", "sh", "-c", SLEEP]).good();
    kubectl.run(&["rollout", "status", "deployment/web", "--timeout=60s"]).good();
    kubectl.run(&["expose", "deployment", "web", "--port=80", "--target-port=8080"]).good();
    assert_eq!(kubectl.field("service/web", "{.spec.ports[0].targetPort}"), "8080");
    kubectl.run(&["scale", "deployment/web", "--replicas=3"]).good();
    kubectl.until(&["get", "deployment", "web", "-o", "jsonpath={.status.readyReplicas}"], |out| out == "3");
    kubectl.run(&["set", "env", "deployment/web", "COLOUR=green"]).good();
    kubectl.run(&["rollout", "status", "deployment/web", "--timeout=60s"]).good();
    let history = kubectl.run(&["rollout", "history", "deployment/web"]).good();
    assert!(history.contains("1 ") && history.contains("2 "), "{history}");
    kubectl.run(&["rollout", "undo", "deployment/web"]).good();
    kubectl.run(&["rollout", "status", "deployment/web", "--timeout=60s"]).good();
    assert_eq!(kubectl.field("deployment/web", "{.spec.template.spec.containers[0].env}"), "");
    kubectl.run(&["rollout", "restart", "deployment/web"]).good();
    kubectl.run(&["rollout", "status", "deployment/web", "--timeout=60s"]).good();
    kubectl.run(&["delete", "deployment", "web"]).good();
    kubectl.until(&["get", "pods,replicasets", "-o", "name"], str::is_empty);
}

#[test]
fn rights_resources_and_discovery_are_told() {
    let Some(kubectl) = space("auth") else { return };
    assert_eq!(kubectl.run(&["auth", "can-i", "create", "pods"]).good(), "yes\n");
    let account = "--as=system:serviceaccount:default:default";
    assert!(!kubectl.run(&["auth", "can-i", "list", "secrets", account]).ok);
    kubectl.run(&["create", "role", "reader", "--verb=get,list", "--resource=configmaps"]).good();
    kubectl.run(&["create", "rolebinding", "reader", "--role=reader", "--serviceaccount=default:default"]).good();
    assert_eq!(kubectl.run(&["auth", "can-i", "list", "configmaps", account]).good(), "yes\n");
    let refused = kubectl.run(&["get", "secrets", account]).bad();
    assert!(refused.contains(r#"cannot list resource "secrets" in API group "" in the namespace"#), "{refused}");
    let resources = kubectl.run(&["api-resources"]).good();
    for expected in ["deployments", "customresourcedefinitions", "endpointslices", "leases"] {
        assert!(resources.contains(expected), "{expected}");
    }
    assert!(kubectl.run(&["api-versions"]).good().contains("apps/v1"));
    assert!(kubectl.run(&["version"]).good().contains("Server Version: v1.37"));
    assert!(kubectl.run(&["explain", "pod.spec.containers"]).good().contains("image"));
    assert!(kubectl.run(&["auth", "whoami"]).good().contains("system:masters"));
}
