//! Packets: Services by name and address, from pods and from the machine.

use crate::shared::{cluster, pod, space};

const WEB: &str = "mkdir /www; hostname > /www/index.html; exec httpd -f -p 8080 -h /www";
/// Debian's static busybox has a wget that crashes.
fn get(host: &str, port: &str) -> String {
    format!("printf 'GET / HTTP/1.0\\r\\n\\r\\n' | nc -w 2 {host} {port}")
}

const CLIENT: &str = "trap 'exit 0' TERM; while true; do sleep 1 & wait; done";

#[test]
fn services_are_reached_by_name_address_and_node_port() {
    let Some(kubectl) = space("net") else { return };
    kubectl.apply(&pod("web", WEB));
    kubectl.apply(&pod("client", CLIENT));
    kubectl.run(&["expose", "pod", "web", "--port=80", "--target-port=8080", "--type=NodePort"]).good();
    kubectl.run(&["wait", "--for=condition=Ready", "pod/web", "pod/client", "--timeout=30s"]).good();
    let fetch = |host: &str, port: &str| {
        kubectl.until(&["exec", "client", "--", "sh", "-c", &get(host, port)], |out| out.ends_with("web\n"))
    };
    let namespace = kubectl.field("pod/web", "{.metadata.namespace}");
    fetch("web", "80");
    fetch(&format!("web.{namespace}.svc.cluster.local"), "80");
    fetch(&kubectl.field("service/web", "{.spec.clusterIP}"), "80");
    fetch(&kubectl.field("pod/web", "{.status.podIP}"), "8080");
    // A pod reaches itself through its Service; its own name is that of the pod, in its hosts file.
    let address = kubectl.field("service/web", "{.spec.clusterIP}");
    kubectl.until(&["exec", "web", "--", "sh", "-c", &get(&address, "80")], |out| out.ends_with("web\n"));
    let place = &cluster().unwrap().place;
    let from_machine = |host: &str, port: &str| {
        let mut curl = place.command("curl");
        let got = curl.args(["--silent", "--max-time", "5", &format!("http://{host}:{port}/")]).output().unwrap();
        String::from_utf8_lossy(&got.stdout).into_owned()
    };
    assert_eq!(from_machine(&kubectl.field("service/web", "{.spec.clusterIP}"), "80"), "web\n");
    assert_eq!(from_machine(&place.address, &kubectl.field("service/web", "{.spec.ports[0].nodePort}")), "web\n");
}

#[test]
fn names_follow_the_specification() {
    let Some(kubectl) = space("dns") else { return };
    kubectl.apply(&pod("client", CLIENT));
    kubectl.apply("{apiVersion: v1, kind: Service, metadata: {name: outside}, spec: {type: ExternalName, externalName: kubernetes.default.svc.cluster.local}}");
    kubectl.apply("{apiVersion: v1, kind: Service, metadata: {name: group}, spec: {clusterIP: None, selector: {app: client}, ports: [{port: 1}]}}");
    kubectl.run(&["wait", "--for=condition=Ready", "pod/client", "--timeout=30s"]).good();
    let address = kubectl.field("pod/client", "{.status.podIP}");
    let look = |name: &str, expected: &str| {
        kubectl.until(&["exec", "client", "--", "nslookup", name], |out| out.contains(expected));
    };
    look("kubernetes.default.svc.cluster.local", "10.43.0.1");
    let namespace = kubectl.field("service/group", "{.metadata.namespace}");
    look(&format!("group.{namespace}.svc.cluster.local"), &address);
    look(&format!("outside.{namespace}.svc.cluster.local"), "10.43.0.1");
    assert!(!kubectl.run(&["exec", "client", "--", "nslookup", "no-such-name.default.svc.cluster.local"]).ok);
}

#[test]
fn a_service_without_endpoints_refuses() {
    let Some(kubectl) = space("refuse") else { return };
    kubectl.apply(&pod("client", CLIENT));
    kubectl.run(&["create", "service", "clusterip", "nobody", "--tcp=80"]).good();
    kubectl.run(&["wait", "--for=condition=Ready", "pod/client", "--timeout=30s"]).good();
    let address = kubectl.field("service/nobody", "{.spec.clusterIP}");
    let mut last = String::new();
    for _ in 0..20 {
        last = kubectl.run(&["exec", "client", "--", "sh", "-c", &get(&address, "80")]).err;
        if last.contains("refused") {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
    panic!("{last}");
}
