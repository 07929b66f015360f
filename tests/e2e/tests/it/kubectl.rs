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
    // The other outputs: templates, tables sorted and with labels, everything of a namespace, changes as they come.
    let go = "--output=go-template={{range .items}}{{.metadata.name}}={{.status.phase}}{{end}}";
    assert_eq!(kubectl.run(&["get", "pods", go]).good(), "one=Running");
    let dir = std::env::temp_dir().join(format!("madang-template-{}", std::process::id()));
    std::fs::write(&dir, "{.metadata.name}").unwrap();
    let path = format!("--output=jsonpath-file={}", dir.display());
    assert_eq!(kubectl.run(&["get", "pod", "one", &path]).good(), "one");
    std::fs::write(&dir, "NAME          NODE\nmetadata.name spec.nodeName\n").unwrap();
    let columns = format!("--output=custom-columns-file={}", dir.display());
    assert_eq!(kubectl.run(&["get", "pods", &columns]).good(), "NAME   NODE\none    node-1\n");
    std::fs::remove_file(&dir).unwrap();
    assert_eq!(
        kubectl.run(&["get", "pod", "one", "--output=jsonpath-as-json={.metadata.name}"]).good().trim(),
        "[\n    \"one\"\n]"
    );
    let labelled =
        kubectl.run(&["get", "pods", "--show-labels", "--label-columns=app", "--sort-by=.metadata.name"]).good();
    assert!(labelled.contains("APP") && labelled.contains("app=one"), "{labelled}");
    assert!(kubectl.run(&["get", "pods", "--no-headers"]).good().starts_with("one "));
    assert_eq!(kubectl.run(&["get", "pods", "--field-selector=status.phase=Pending", "-o", "name"]).good(), "");
    assert!(kubectl.run(&["get", "pods", "--all-namespaces"]).good().contains("NAMESPACE"));
    assert!(kubectl.run(&["get", "all"]).good().contains("pod/one"));
    // Bounded, so that a change that does not come fails rather than hangs.
    let watched = ["get", "pods", "--watch", "--output-watch-events", "--output=name", "--request-timeout=60s"];
    let mut child = kubectl.command(&watched).stdout(std::process::Stdio::piped()).spawn().unwrap();
    let mut lines = std::io::BufRead::lines(std::io::BufReader::new(child.stdout.take().unwrap()));
    assert!(lines.next().unwrap().unwrap().contains("pod/one"), "the pod comes first");
    kubectl.run(&["label", "pod", "one", "seen=yes"]).good();
    assert!(lines.next().unwrap().unwrap().contains("pod/one"), "and then its change");
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(kubectl.run(&["describe", "node", "node-1"]).good().contains("Allocatable:"));
    assert!(kubectl.run(&["events"]).good().contains("Scheduled"));
    let one = kubectl.run(&["events", "--for=pod/one", "--types=Normal", "--output=json"]).good();
    let one: serde_json::Value = serde_json::from_str(&one).unwrap();
    assert!(
        one["items"].as_array().is_some_and(|items| items.iter().all(|item| item["involvedObject"]["name"] == "one"))
    );
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
    let taken = kubectl.run(&["label", "configmap", "settings", "tier=db"]).bad();
    assert!(taken.contains("already has a value"), "{taken}");
    kubectl.run(&["label", "configmap", "settings", "tier=db", "--overwrite"]).good();
    kubectl.run(&["label", "configmap", "settings", "tier-"]).good();
    kubectl.run(&["annotate", "configmap", "settings", "note-"]).good();
    assert_eq!(kubectl.field("configmap/settings", "{.metadata.labels}{.metadata.annotations.note}"), "");
    let dry = kubectl.with_input(&["apply", "--dry-run=server", "--filename", "-"], &map("three")).good();
    assert!(dry.contains("server dry run"), "{dry}");
    assert_eq!(kubectl.field("configmap/settings", "{.data.key}"), "");
    let mut edit = kubectl.command(&["edit", "configmap", "settings"]);
    let edited = edit.env("KUBE_EDITOR", "sed -i s/more:/less:/").output().unwrap();
    assert!(edited.status.success(), "{}", String::from_utf8_lossy(&edited.stderr));
    assert_eq!(kubectl.field("configmap/settings", "{.data.less}"), "x");
    kubectl.run(&["create", "secret", "generic", "pass", "--from-literal=word=open"]).good();
    assert_eq!(kubectl.field("secret/pass", "{.data.word}"), "b3Blbg==");
    let replaced = "{apiVersion: v1, kind: ConfigMap, metadata: {name: settings}, data: {only: this}}";
    kubectl.with_input(&["replace", "--filename", "-"], replaced).good();
    assert_eq!(kubectl.field("configmap/settings", "{.data}"), r#"{"only":"this"}"#);
    kubectl.run(&["delete", "configmap", "settings"]).good();
    assert!(kubectl.run(&["get", "configmap", "settings"]).bad().contains("not found"));
    assert!(kubectl.run(&["delete", "configmap", "settings", "--ignore-not-found"]).good().is_empty());
    kubectl.run(&["delete", "secret", "--all"]).good();
    assert!(kubectl.run(&["get", "secret", "pass"]).bad().contains("not found"));
}

#[test]
fn create_makes_each_kind_that_it_knows() {
    let Some(kubectl) = space("create") else { return };
    let image = format!("--image={IMAGE}");
    let cases: &[(&[&str], &str, &str)] = &[
        (&["configmap", "a", "--from-literal=k=v"], "configmap/a", "{.data.k}"),
        (&["secret", "generic", "b", "--from-literal=k=v"], "secret/b", "{.data.k}"),
        (&["secret", "docker-registry", "c", "--docker-username=u", "--docker-password=p"], "secret/c", "{.type}"),
        (&["serviceaccount", "d"], "serviceaccount/d", "{.metadata.name}"),
        (&["role", "e", "--verb=get", "--resource=pods"], "role/e", "{.rules[0].verbs[0]}"),
        (&["rolebinding", "f", "--clusterrole=view", "--user=ann"], "rolebinding/f", "{.subjects[0].name}"),
        (&["deployment", "g", &image, "--replicas=0"], "deployment/g", "{.spec.replicas}"),
        (&["service", "clusterip", "h", "--tcp=80:8080"], "service/h", "{.spec.ports[0].targetPort}"),
        (&["service", "nodeport", "i", "--tcp=80"], "service/i", "{.spec.type}"),
        (&["service", "externalname", "j", "--external-name=example.org"], "service/j", "{.spec.externalName}"),
    ];
    let expected =
        ["v", "dg==", "kubernetes.io/dockerconfigjson", "d", "get", "ann", "0", "8080", "NodePort", "example.org"];
    for ((words, object, path), expected) in cases.iter().zip(expected) {
        kubectl.run(&[&["create"], *words].concat()).good();
        assert_eq!(kubectl.field(object, path), expected, "{words:?}");
        let again = kubectl.run(&[&["create"], *words].concat()).bad();
        assert!(again.contains("already exists"), "{again}");
    }
    let token = kubectl.run(&["create", "token", "d", "--duration=10m"]).good();
    assert_eq!(token.trim().split('.').count(), 3, "{token}");
}

#[test]
fn wait_returns_when_it_is_so_or_says_that_it_is_not() {
    let Some(kubectl) = space("wait") else { return };
    kubectl.apply(&pod("one", SLEEP));
    kubectl.run(&["wait", "--for=jsonpath={.status.phase}=Running", "pod/one", "--timeout=30s"]).good();
    kubectl.run(&["wait", "--for=condition=Ready", "pod", "--all", "--timeout=30s"]).good();
    let not = kubectl.run(&["wait", "--for=condition=Ready=false", "pod/one", "--timeout=1s"]).bad();
    assert!(not.contains("timed out"), "{not}");
    kubectl.run(&["delete", "pod", "one", "--wait=false"]).good();
    kubectl.run(&["wait", "--for=delete", "pod/one", "--timeout=30s"]).good();
    kubectl.run(&["wait", "--for=create", "configmap/kube-root-ca.crt", "--timeout=10s"]).good();
}

#[test]
fn a_running_process_is_attached_to() {
    let Some(kubectl) = space("attach") else { return };
    let reads = pod("one", "while read -r line; do echo got $line; done")
        .replace("    command:", "    stdin: true\n    command:");
    kubectl.apply(&reads);
    kubectl.run(&["wait", "--for=condition=Ready", "pod/one", "--timeout=30s"]).good();
    let mut attach = kubectl.command(&["attach", "-i", "--quiet", "one"]);
    let mut child = attach.stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    std::io::Write::write_all(&mut stdin, b"words\n").unwrap();
    let mut line = String::new();
    std::io::BufRead::read_line(&mut std::io::BufReader::new(child.stdout.take().unwrap()), &mut line).unwrap();
    assert_eq!(line, "got words\n");
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(kubectl.until(&["logs", "one"], |out| !out.is_empty()).contains("got words"));
}

#[test]
fn parts_of_a_deployment_are_set_one_by_one() {
    let Some(kubectl) = space("set") else { return };
    let image = format!("--image={IMAGE}");
    kubectl.run(&["create", "deployment", "web", &image, "--replicas=0"]).good();
    kubectl.run(&["create", "service", "clusterip", "web", "--tcp=80"]).good();
    kubectl.run(&["create", "serviceaccount", "robot"]).good();
    let container = |path: &str| kubectl.field("deployment/web", &format!("{{.spec.template.spec.{path}}}"));
    kubectl.run(&["set", "image", "deployment/web", "busybox=other:1"]).good();
    assert_eq!(container("containers[0].image"), "other:1");
    kubectl.run(&["set", "resources", "deployment/web", "--limits=cpu=200m,memory=64Mi", "--requests=cpu=100m"]).good();
    assert_eq!(container("containers[0].resources.limits.memory"), "64Mi");
    kubectl.run(&["set", "env", "deployment/web", "A=b", "C=d"]).good();
    assert_eq!(container("containers[0].env[*].name"), "A C");
    kubectl.run(&["set", "env", "deployment/web", "A-"]).good();
    assert_eq!(container("containers[0].env[*].name"), "C");
    kubectl.run(&["set", "serviceaccount", "deployment/web", "robot"]).good();
    assert_eq!(container("serviceAccountName"), "robot");
    kubectl.run(&["set", "selector", "service/web", "app=other"]).good();
    assert_eq!(kubectl.field("service/web", "{.spec.selector.app}"), "other");
    kubectl.run(&["create", "rolebinding", "look", "--clusterrole=view", "--user=ann"]).good();
    kubectl.run(&["set", "subject", "rolebinding/look", "--user=bob"]).good();
    assert_eq!(kubectl.field("rolebinding/look", "{.subjects[*].name}"), "ann bob");
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
    let rights = kubectl.run(&["auth", "can-i", "--list", account]).good();
    assert!(rights.contains("configmaps") && rights.contains("[get list]"), "{rights}");
    let namespaced = kubectl.run(&["api-resources", "--namespaced=false", "--output=name"]).good();
    assert!(namespaced.contains("nodes") && !namespaced.lines().any(|line| line == "pods"), "{namespaced}");
    let apps = kubectl.run(&["api-resources", "--api-group=apps", "--verbs=list,get", "--no-headers"]).good();
    assert!(apps.lines().any(|line| line.starts_with("deployments") && line.contains("deploy")), "{apps}");
    assert!(kubectl.run(&["cluster-info"]).good().contains("Kubernetes control plane"));
}
