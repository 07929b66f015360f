//! Packets: Services by name and address, from pods and from the machine.

use crate::shared::{cluster, pod, space};

const WEB: &str = "mkdir /www; hostname > /www/index.html; exec httpd -f -p 8080 -h /www";
const CLIENT: &str = "trap 'exit 0' TERM; while true; do sleep 1 & wait; done";

#[test]
fn services_are_reached_by_name_address_and_node_port() {
    let Some(kubectl) = space("net") else { return };
    kubectl.apply(&pod("web", WEB));
    kubectl.apply(&pod("client", CLIENT));
    kubectl.run(&["expose", "pod", "web", "--port=80", "--target-port=8080", "--type=NodePort"]).good();
    kubectl.run(&["wait", "--for=condition=Ready", "pod/web", "pod/client", "--timeout=30s"]).good();
    let get = |url: &str| {
        vec![
            "exec".to_owned(),
            "client".into(),
            "--".into(),
            "wget".into(),
            "-q".into(),
            "-T2".into(),
            "-O-".into(),
            url.to_owned(),
        ]
    };
    let fetch = |url: &str| {
        let arguments = get(url);
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        kubectl.until(&arguments, |out| out == "web\n")
    };
    let namespace = kubectl.field("pod/web", "{.metadata.namespace}");
    fetch("http://web/");
    fetch(&format!("http://web.{namespace}.svc.cluster.local/"));
    fetch(&format!("http://{}/", kubectl.field("service/web", "{.spec.clusterIP}")));
    fetch(&format!("http://{}:8080/", kubectl.field("pod/web", "{.status.podIP}")));
    // A pod reaches itself through its Service.
    kubectl.until(&["exec", "web", "--", "wget", "-q", "-T2", "-O-", "http://web/"], |out| out == "web\n");
    let place = &cluster().unwrap().place;
    let from_machine = |host: &str, port: &str| {
        let mut get = place.command("/bin/busybox");
        let got = get.args(["wget", "-q", "-T2", "-O-", &format!("http://{host}:{port}/")]).output().unwrap();
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
        last = kubectl.run(&["exec", "client", "--", "wget", "-q", "-T2", "-O-", &format!("http://{address}/")]).bad();
        if last.contains("refused") {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
    panic!("{last}");
}
