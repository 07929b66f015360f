//! The server is killed; containers, logs, exit codes and objects are as they were.

use std::time::Duration;

use crate::shared::{fresh, pod};

#[test]
fn containers_outlive_the_server_and_their_logs_and_codes_are_complete() {
    let Some(mut cluster) = fresh(1, &[]) else { return };
    let kubectl = cluster.kubectl("default");
    kubectl.until(&["get", "serviceaccount", "default", "--ignore-not-found", "-o", "name"], |out| !out.is_empty());
    kubectl.apply(&pod("counter", "i=0; while true; do i=$((i+1)); echo $i; sleep 0.05; done"));
    kubectl.apply(&pod("ending", "sleep 3; exit 5"));
    kubectl.run(&["create", "secret", "generic", "word", "--from-literal=word=plaintext-to-look-for"]).good();
    kubectl.run(&["wait", "--for=condition=Ready", "pod/counter", "pod/ending", "--timeout=30s"]).good();
    let id = kubectl.field("pod/counter", "{.status.containerStatuses[0].containerID}");
    kubectl
        .run(&["run", "nowhere", "--image=none", "--overrides={\"spec\":{\"nodeSelector\":{\"no\":\"such\"}}}"])
        .good();
    let refused = ["get", "pod", "nowhere", "-o", "jsonpath={.status.conditions[?(@.type==\"PodScheduled\")].reason}"];
    kubectl.until(&refused, |out| out == "Unschedulable");
    let nowhere = kubectl.field("pod/nowhere", "{.metadata.resourceVersion}");
    let data = cluster.data_dir();
    cluster.kill().unwrap();
    std::thread::sleep(Duration::from_secs(4));
    for (word, found) in [("plaintext-to-look-for", false), ("cGxhaW50ZXh0LXRvLWxvb2stZm9y", false), ("counter", true)]
    {
        let grep = std::process::Command::new("grep").args(["-rqa", word]).arg(data.join("store")).status().unwrap();
        assert_eq!(grep.success(), found, "{word} in the store");
    }
    cluster.serve().unwrap();
    let kubectl = cluster.kubectl("default");
    let code = "jsonpath={.status.containerStatuses[0].state.terminated.exitCode}";
    kubectl.until(&["get", "pod", "ending", "-o", code], |out| out == "5");
    assert_eq!(kubectl.field("pod/counter", "{.status.containerStatuses[0].containerID}"), id);
    assert_eq!(kubectl.field("pod/counter", "{.status.containerStatuses[0].restartCount}"), "0");
    let log = kubectl.run(&["logs", "counter"]).good();
    for (n, line) in (1..).zip(log.lines()) {
        assert_eq!(line, n.to_string(), "a line is missing");
    }
    assert!(log.lines().count() > 60, "{}", log.lines().count());
    assert_eq!(kubectl.field("secret/word", "{.data.word}"), "cGxhaW50ZXh0LXRvLWxvb2stZm9y");
    kubectl.run(&["exec", "counter", "--", "true"]).good();
    let moved = kubectl.field("pod/nowhere", "{.metadata.resourceVersion}");
    assert_eq!(moved, nowhere, "the node said in between that it was not ready, and the pod was looked at anew");
    // The next one waits until the roles of this one have given up its ports and its state.
    cluster.kill_supervisor().unwrap();
    cluster.serve().unwrap();
    let kubectl = cluster.kubectl("default");
    assert_eq!(kubectl.field("pod/counter", "{.status.containerStatuses[0].containerID}"), id);
}

#[test]
fn a_backup_is_restored_and_a_second_instance_disturbs_nobody() {
    let flags =
        ["--cluster-cidr", "10.52.0.0/16", "--service-cidr", "10.53.0.0/16", "--port", "api=0", "--port", "node=0"];
    let Some(mut cluster) = fresh(2, &flags) else { return };
    let kubectl = cluster.kubectl("default");
    kubectl.run(&["create", "configmap", "kept", "--from-literal=a=b"]).good();
    let file = cluster.data_dir().join("backup");
    let backup = cluster.madang("backup").arg(&file).output().unwrap();
    assert!(backup.status.success(), "{}", String::from_utf8_lossy(&backup.stderr));
    kubectl.run(&["create", "configmap", "lost"]).good();
    cluster.stop().unwrap();
    let restore = cluster.madang("restore").arg(&file).output().unwrap();
    assert!(restore.status.success(), "{}", String::from_utf8_lossy(&restore.stderr));
    cluster.serve().unwrap();
    let kubectl = cluster.kubectl("default");
    assert_eq!(kubectl.field("configmap/kept", "{.data.a}"), "b");
    assert!(kubectl.run(&["get", "configmap", "lost"]).bad().contains("not found"));
}
