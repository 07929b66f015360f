//! Samples: what is collected without configuration, and what objects ask for.

use crate::shared::{cluster, space};

/// A busybox that exposes one metric at `/metrics` of port 9100. Its server knows no type for the file, so the monitor says
/// which form it has.
fn exposes(name: &str, annotations: &str) -> String {
    let script = "mkdir /www; printf '# TYPE e2e_answers counter\\ne2e_answers{kind=\"all\"} 42\\n' > /www/metrics; trap 'exit 0' TERM; httpd -f -p 9100 -h /www & wait";
    format!(
        "{{apiVersion: v1, kind: Pod, metadata: {{name: {name}, labels: {{app: {name}}}, annotations: {{{annotations}}}}}, spec: {{terminationGracePeriodSeconds: 1, containers: [{{name: main, image: 'test.madang.dev/busybox:1', command: [sh, -c, {}], ports: [{{name: metrics, containerPort: 9100}}]}}]}}}}",
        serde_json::Value::from(script)
    )
}

/// What the query API answers.
fn query(expression: &str) -> String {
    let cluster = cluster().unwrap();
    let ports = std::fs::read_to_string(cluster.run_dir().join("ports.json")).unwrap();
    let ports: serde_json::Value = serde_json::from_str(&ports).unwrap();
    let url = format!("http://127.0.0.1:{}/api/v1/query", ports["prometheus"]);
    let mut curl = cluster.place.command("curl");
    let asked = curl.args(["--silent", "--max-time", "5", "--data-urlencode", &format!("query={expression}"), &url]);
    String::from_utf8_lossy(&asked.output().unwrap().stdout).into_owned()
}

/// Asks until the answer holds a text.
#[track_caller]
pub fn until(expression: &str, wanted: &str) {
    let mut last = String::new();
    for _ in 0..90 {
        last = query(expression);
        if last.contains(wanted) {
            return;
        }
        std::thread::sleep(std::time::Duration::from_secs(1));
    }
    panic!("{expression}: {last}");
}

#[test]
fn a_service_monitor_has_the_pods_behind_its_service_scraped() {
    let Some(kubectl) = space("monitor") else { return };
    kubectl.apply(&exposes("web", ""));
    kubectl.apply("{apiVersion: v1, kind: Service, metadata: {name: web, labels: {team: a}}, spec: {selector: {app: web}, ports: [{name: metrics, port: 9100}]}}");
    kubectl.until(&["get", "crd", "servicemonitors.monitoring.coreos.com"], |out| out.contains("servicemonitors"));
    kubectl.apply("{apiVersion: monitoring.coreos.com/v1, kind: ServiceMonitor, metadata: {name: web}, spec: {selector: {matchLabels: {team: a}}, fallbackScrapeProtocol: PrometheusText0.0.4, endpoints: [{port: metrics, interval: 1s, scrapeTimeout: 1s}], targetLabels: [team]}}");
    let namespace = kubectl.field("pod/web", "{.metadata.namespace}");
    let series =
        format!("e2e_answers{{namespace=\"{namespace}\",job=\"web\",pod=\"web\",endpoint=\"metrics\",team=\"a\"}}");
    until(&series, "\"42\"");
    until(&format!("up{{namespace=\"{namespace}\",service=\"web\"}}"), "\"1\"");
    // When the object goes, so do its series.
    kubectl.run(&["delete", "servicemonitor", "web"]).good();
    until(&format!("absent({series})"), "\"1\"");
}

#[test]
fn nodes_and_the_api_server_are_scraped_without_configuration() {
    let Some(_kubectl) = space("builtin") else { return };
    until("up{job=\"kubelet\",metrics_path=\"/metrics\"}", "\"1\"");
    until("up{job=\"apiserver\"}", "\"1\"");
    until("count(apiserver_request_total) > bool 0", "\"1\"");
    until("up{job=\"prometheus\"}", "\"1\"");
}

#[test]
fn usage_is_shown_and_a_metric_of_its_pods_scales_a_deployment() {
    let Some(kubectl) = space("scaled") else { return };
    let pod: serde_json::Value = serde_saphyr::from_str(&exposes("web", "")).unwrap();
    let mut spec = pod["spec"].clone();
    spec["containers"][0]["resources"] = serde_json::json!({"requests": {"cpu": "10m"}});
    let deployment = serde_json::json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"},
        "spec": {
            "selector": {"matchLabels": {"app": "web"}},
            "template": {"metadata": {"labels": {"app": "web"}}, "spec": spec},
        },
    });
    kubectl.apply(&deployment.to_string());
    kubectl.apply("{apiVersion: v1, kind: Service, metadata: {name: web, labels: {team: b}}, spec: {selector: {app: web}, ports: [{name: metrics, port: 9100}]}}");
    kubectl.until(&["get", "crd", "servicemonitors.monitoring.coreos.com"], |out| out.contains("servicemonitors"));
    kubectl.apply("{apiVersion: monitoring.coreos.com/v1, kind: ServiceMonitor, metadata: {name: web}, spec: {selector: {matchLabels: {team: b}}, fallbackScrapeProtocol: PrometheusText0.0.4, endpoints: [{port: metrics, interval: 1s, scrapeTimeout: 1s}]}}");
    // 42 a pod where 20 are wanted: as many as are allowed.
    kubectl.apply("{apiVersion: autoscaling/v2, kind: HorizontalPodAutoscaler, metadata: {name: web}, spec: {scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: web}, maxReplicas: 2, metrics: [{type: Pods, pods: {metric: {name: e2e_answers}, target: {type: AverageValue, averageValue: '20'}}}]}}");
    kubectl.until(&["get", "apiservice", "v1beta1.metrics.k8s.io", "v1beta2.custom.metrics.k8s.io"], |out| {
        out.matches("True").count() == 2
    });
    kubectl.until(&["get", "deployment", "web", "-o", "jsonpath={.spec.replicas}"], |out| out == "2");
    let top = kubectl.until(&["top", "pods", "--containers", "--no-headers"], |out| out.lines().count() == 2);
    assert!(top.lines().all(|line| line.contains("main") && line.contains("Mi")), "{top}");
    kubectl.until(&["top", "nodes", "--no-headers"], |out| out.contains("node-1") && out.contains('%'));
    let one = kubectl.run(&["top", "pods", "--selector=app=none"]).good();
    assert!(one.trim().is_empty() || one.contains("No resources"), "{one}");
    // Nobody but the API server may ask.
    let cluster = cluster().unwrap();
    let ports = std::fs::read_to_string(cluster.run_dir().join("ports.json")).unwrap();
    let ports: serde_json::Value = serde_json::from_str(&ports).unwrap();
    let address = kubectl.run(&["get", "node", "node-1", "-o", "jsonpath={.status.addresses[0].address}"]).good();
    let url = format!("https://{address}:{}/apis/metrics.k8s.io/v1beta1/nodes", ports["prometheus"]);
    let pki = cluster.data_dir().join("pki");
    let mut curl = cluster.place.command("curl");
    curl.args(["--silent", "--max-time", "5", "--insecure", "--write-out", "%{http_code}", "--output", "/dev/null"]);
    curl.args(["--header", "X-Remote-User: admin", "--header", "X-Remote-Group: system:masters"]);
    curl.arg("--cert").arg(pki.join("admin.crt")).arg("--key").arg(pki.join("admin.key")).arg(url);
    assert_eq!(String::from_utf8_lossy(&curl.output().unwrap().stdout), "401");
}
