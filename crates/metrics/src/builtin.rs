//! What is collected in a cluster without a line of configuration.
//!
//! | job | from |
//! |---|---|
//! | `kubelet` | the node's own API: itself, its containers (`/metrics/cadvisor`), its probes |
//! | `node-exporter` | the node's own API: the machine (`/metrics/host`) |
//! | `kube-proxy`, `coredns` | the node's own API: service tables, names |
//! | `apiserver`, `kube-scheduler`, `kube-controller-manager`, `kube-state-metrics` | the API server, which has a page for each |
//! | `kubernetes-pods` | pods with `prometheus.io/scrape: "true"`, as `prometheus.io/scheme`, `/port` and `/path` say |
//! | others | parts of Madang that have a listener of their own |
//!
//! Labels are those that kube-prometheus gives, since the public rules and dashboards ask for them. Objects of the operator's
//! kinds come beside these (see [`crate::operator`]).

use std::path::PathBuf;

use serde_json::{Value, json};

use crate::config::{Config, scrape::Scrape, units::Span};

/// How often targets are scraped that say nothing else.
pub const INTERVAL: Span = Span::seconds(15);
/// How long a scrape may take.
pub const TIMEOUT: Span = Span::seconds(10);

/// How parts of Madang are asked.
#[derive(Clone, Debug)]
pub struct Identity {
    /// The cluster's authority.
    pub authority: PathBuf,
    /// A client's certificate.
    pub certificate: PathBuf,
    /// Its key.
    pub key: PathBuf,
}

/// A part of Madang with a listener of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// The job.
    pub job: String,
    /// Host and port.
    pub address: String,
    /// Whether it speaks TLS and knows certificates.
    pub tls: bool,
}

/// The jobs.
pub fn jobs(identity: &Identity, parts: &[Part]) -> Result<Vec<Scrape>, String> {
    let file = |path: &PathBuf| path.to_string_lossy().into_owned();
    let tls = |name: Option<&str>| {
        let mut tls = json!({
            "ca_file": file(&identity.authority), "cert_file": file(&identity.certificate), "key_file": file(&identity.key),
        });
        if let Some(name) = name {
            tls["server_name"] = name.into();
        }
        tls
    };
    let fixed = |label: &str, value: &str| json!({"target_label": label, "replacement": value});
    let copied = |source: &str, target: &str| json!({"source_labels": [source], "target_label": target});
    let node = |pool: &str, job: &str, path: &str, extra: Vec<Value>| {
        let mut relabel = vec![
            fixed("job", job),
            fixed("namespace", "kube-system"),
            fixed("endpoint", "https-metrics"),
            copied("__meta_kubernetes_node_name", "node"),
        ];
        relabel.extend(extra);
        json!({
            "job_name": pool, "scheme": "https", "metrics_path": path, "tls_config": tls(None),
            "honor_labels": true, "track_timestamps_staleness": true,
            "kubernetes_sd_configs": [{"role": "node"}], "relabel_configs": relabel,
        })
    };
    let of_kubelet = || vec![fixed("service", "kubelet"), copied("__metrics_path__", "metrics_path")];
    let of_machine = || vec![fixed("container", "node-exporter"), copied("__meta_kubernetes_node_name", "instance")];
    let mut all = vec![
        node("kubelet", "kubelet", "/metrics", of_kubelet()),
        node("kubelet/cadvisor", "kubelet", "/metrics/cadvisor", of_kubelet()),
        node("kubelet/probes", "kubelet", "/metrics/probes", of_kubelet()),
        node("node-exporter", "node-exporter", "/metrics/host", of_machine()),
        node("kube-proxy", "kube-proxy", "/metrics/kube-proxy", vec![fixed("service", "kube-proxy")]),
        node("coredns", "coredns", "/metrics/coredns", vec![fixed("service", "kube-dns")]),
    ];
    // The API server has one page for itself and one for each of the programs that run beside it.
    for (job, path) in [
        ("apiserver", "/metrics"),
        ("kube-scheduler", "/metrics/kube-scheduler"),
        ("kube-controller-manager", "/metrics/kube-controller-manager"),
        ("kube-state-metrics", "/metrics/kube-state-metrics"),
    ] {
        let (namespace, service) = if job == "apiserver" { ("default", "kubernetes") } else { ("kube-system", job) };
        all.push(json!({
            "job_name": job, "scheme": "https", "metrics_path": path, "tls_config": tls(Some("kubernetes")),
            "honor_labels": job == "kube-state-metrics",
            "kubernetes_sd_configs": [{"role": "endpointslice", "namespaces": {"names": ["default"]}}],
            "relabel_configs": [
                {
                    "action": "keep", "regex": "kubernetes;https",
                    "source_labels": ["__meta_kubernetes_service_name", "__meta_kubernetes_endpointslice_port_name"],
                },
                fixed("namespace", namespace),
                fixed("service", service),
                fixed("endpoint", "https"),
            ],
        }));
    }
    for part in parts {
        let mut job = json!({
            "job_name": part.job, "honor_labels": true, "static_configs": [{"targets": [part.address], "labels": {"namespace": "madang-system"}}],
        });
        if part.tls {
            job["scheme"] = "https".into();
            job["tls_config"] = tls(None);
        }
        all.push(job);
    }
    all.push(pods());
    let text = json!({
        "global": {"scrape_interval": INTERVAL.to_string(), "scrape_timeout": TIMEOUT.to_string(), "keep_dropped_targets": 100},
        "scrape_configs": all,
    });
    Config::parse(&text.to_string(), |_| None).map(|config| config.scrape_configs)
}

/// Pods that ask for it. Anybody who may run a pod may ask, so what one may cost is bounded.
fn pods() -> Value {
    let note = |name: &str| format!("__meta_kubernetes_pod_annotation_prometheus_io_{name}");
    json!({
        "job_name": "kubernetes-pods",
        "body_size_limit": "64MiB", "sample_limit": 200_000, "label_limit": 128, "label_name_length_limit": 1024,
        "label_value_length_limit": 4096,
        "kubernetes_sd_configs": [{"role": "pod"}],
        "relabel_configs": [
            {"action": "keep", "source_labels": [note("scrape")], "regex": "true"},
            {"action": "drop", "source_labels": ["__meta_kubernetes_pod_phase"], "regex": "Pending|Succeeded|Failed|Completed"},
            {"action": "drop", "source_labels": ["__meta_kubernetes_pod_container_init"], "regex": "true"},
            {"source_labels": [note("scheme")], "regex": "(https?)", "target_label": "__scheme__"},
            {"source_labels": [note("path")], "regex": "(.+)", "target_label": "__metrics_path__"},
            {
                "source_labels": [note("port"), "__meta_kubernetes_pod_ip"],
                "regex": "(\\d+);(([A-Fa-f0-9]{1,4}::?){1,7}[A-Fa-f0-9]{1,4})", "replacement": "[$2]:$1",
                "target_label": "__address__",
            },
            {
                "source_labels": [note("port"), "__meta_kubernetes_pod_ip"],
                "regex": "(\\d+);((([0-9]+?)(\\.|$)){4})", "replacement": "$2:$1", "target_label": "__address__",
            },
            // A container without ports, where nobody says which: there is nothing to ask.
            {"action": "keep", "source_labels": ["__address__"], "regex": ".*:\\d+"},
            {"source_labels": ["__meta_kubernetes_namespace"], "target_label": "namespace"},
            {"source_labels": ["__meta_kubernetes_pod_name"], "target_label": "pod"},
            {"source_labels": ["__meta_kubernetes_pod_node_name"], "target_label": "node"},
            {"source_labels": ["__meta_kubernetes_pod_label_app_kubernetes_io_name"], "regex": "(.+)", "target_label": "app"},
        ],
    })
}

/// What `user` needs in the cluster: the kinds, and the right to read what targets are made of.
pub fn objects(user: &str) -> Vec<Value> {
    let mut objects = Vec::new();
    let read = ["get", "list", "watch"];
    objects.push(json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": "madang:metrics"},
        "rules": [
            {
                "apiGroups": [""], "verbs": read,
                "resources": ["nodes", "pods", "services", "endpoints", "namespaces"],
            },
            {"apiGroups": [""], "resources": ["nodes/metrics", "nodes/stats"], "verbs": ["get"]},
            {"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": read},
            {"apiGroups": ["networking.k8s.io"], "resources": ["ingresses"], "verbs": read},
            {"apiGroups": ["apps"], "resources": ["replicasets"], "verbs": read},
            {"apiGroups": ["batch"], "resources": ["jobs"], "verbs": read},
            {
                "apiGroups": [crate::kinds::GROUP], "verbs": read,
                "resources": [
                    "alertmanagerconfigs", "podmonitors", "probes", "prometheusrules", "scrapeconfigs", "servicemonitors",
                ],
            },
            {"nonResourceURLs": ["/metrics", "/metrics/*"], "verbs": ["get"]},
        ],
    }));
    objects.push(json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding", "metadata": {"name": "madang:metrics"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "madang:metrics"},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": user}],
    }));
    let all = ["get", "list", "watch", "create", "update", "patch", "delete", "deletecollection"];
    for (name, verbs, aggregate) in [("view", &read[..], "view"), ("edit", &all[..], "edit")] {
        objects.push(json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole",
            "metadata": {
                "name": format!("madang:monitoring:{name}"),
                "labels": {format!("rbac.authorization.k8s.io/aggregate-to-{aggregate}"): "true"},
            },
            "rules": [{"apiGroups": [crate::kinds::GROUP], "resources": ["*"], "verbs": verbs}],
        }));
    }
    objects.extend(crate::kinds::definitions());
    objects
}

#[cfg(test)]
mod tests {
    use tsdb::labels::Labels;

    use super::*;
    use crate::scrape::target::{Fate, Plan, decide};

    fn built() -> Vec<Scrape> {
        let identity =
            Identity { authority: "/p/ca.crt".into(), certificate: "/p/c.crt".into(), key: "/p/c.key".into() };
        let part = Part { job: "prometheus".into(), address: "127.0.0.1:9090".into(), tls: false };
        jobs(&identity, &[part]).unwrap()
    }

    fn plan(job: &str, labels: &[(&str, &str)]) -> Option<Plan> {
        let jobs = built();
        let job = jobs.iter().find(|found| found.job_name == job).unwrap();
        let labels = labels.iter().map(|(name, value)| (format!("__{name}"), *value));
        match decide(&Labels::from_pairs(labels), &Labels::empty(), job).unwrap() {
            Fate::Scraped(plan) => Some(*plan),
            Fate::Dropped(_) => None,
        }
    }

    #[test]
    fn nodes_are_asked_under_the_labels_of_the_public_rules() {
        let labels = [("address__", "192.0.2.1:10250"), ("meta_kubernetes_node_name", "n1")];
        let cadvisor = plan("kubelet/cadvisor", &labels).unwrap();
        assert_eq!(cadvisor.url, "https://192.0.2.1:10250/metrics/cadvisor");
        assert_eq!((cadvisor.labels.get("job"), cadvisor.labels.get("metrics_path")), ("kubelet", "/metrics/cadvisor"));
        assert_eq!(cadvisor.labels.get("node"), "n1");
        assert_eq!(cadvisor.interval, INTERVAL.0);
        let host = plan("node-exporter", &labels).unwrap();
        assert_eq!((host.labels.get("instance"), host.labels.get("job")), ("n1", "node-exporter"));
    }

    #[test]
    fn annotations_say_which_pods_are_asked_and_how() {
        let base = [
            ("meta_kubernetes_pod_annotation_prometheus_io_scrape", "true"),
            ("meta_kubernetes_pod_ip", "10.42.0.7"),
            ("meta_kubernetes_pod_name", "web"),
            ("meta_kubernetes_namespace", "shop"),
            ("meta_kubernetes_pod_phase", "Running"),
        ];
        let with = |more: &[(&'static str, &'static str)]| plan("kubernetes-pods", &[&base[..], more].concat());
        let found = with(&[("address__", "10.42.0.7:80")]).unwrap();
        assert_eq!(found.url, "http://10.42.0.7:80/metrics");
        assert_eq!((found.labels.get("pod"), found.labels.get("namespace")), ("web", "shop"));
        let found = with(&[
            ("address__", "10.42.0.7"),
            ("meta_kubernetes_pod_annotation_prometheus_io_port", "9100"),
            ("meta_kubernetes_pod_annotation_prometheus_io_path", "/m"),
            ("meta_kubernetes_pod_annotation_prometheus_io_scheme", "https"),
        ]);
        assert_eq!(found.unwrap().url, "https://10.42.0.7:9100/m");
        assert!(with(&[("address__", "10.42.0.7")]).is_none());
        assert!(plan("kubernetes-pods", &[("address__", "10.42.0.7:80")]).is_none());
    }

    #[test]
    fn objects_for_the_cluster_have_kinds_and_names() {
        for object in objects("system:madang:edge") {
            assert!(object["kind"].is_string() && object["metadata"]["name"].is_string(), "{object}");
        }
    }
}
