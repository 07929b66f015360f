//! Objects of the operator's kinds and the jobs that they are.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::{Value, json};
use tsdb::labels::Labels;

use super::*;
use crate::scrape::target::{Fate, decide};

fn object<N>(spec: Value) -> Object<N> {
    let metadata = ObjectMeta { name: Some("m".into()), namespace: Some("shop".into()), ..ObjectMeta::default() };
    Object::new(metadata, spec)
}

fn context(known: &Known) -> Context<'_> {
    Context { namespace: "shop", known, wanted: BTreeSet::new() }
}

fn service(spec: Value, known: &Known) -> Result<Vec<Scrape>, String> {
    monitor::service(&object(spec), &mut context(known)).and_then(|found| found.iter().map(job).collect())
}

fn decided(job: &Scrape, labels: &[(&str, &str)]) -> Option<(String, Labels)> {
    match decide(&Labels::from_pairs(labels.iter().copied()), &Labels::empty(), job).unwrap() {
        Fate::Scraped(plan) => Some((plan.url, plan.labels)),
        Fate::Dropped(_) => None,
    }
}

const BEHIND: &[(&str, &str)] = &[
    ("__address__", "10.42.0.7:9100"),
    ("__meta_kubernetes_namespace", "shop"),
    ("__meta_kubernetes_service_name", "web"),
    ("__meta_kubernetes_service_label_app_io_name", "web"),
    ("__meta_kubernetes_service_labelpresent_app_io_name", "true"),
    ("__meta_kubernetes_service_label_team", "a"),
    ("__meta_kubernetes_endpoint_port_name", "metrics"),
    ("__meta_kubernetes_endpoint_address_target_kind", "Pod"),
    ("__meta_kubernetes_endpoint_address_target_name", "web-1"),
    ("__meta_kubernetes_pod_name", "web-1"),
    ("__meta_kubernetes_pod_phase", "Running"),
    ("__meta_kubernetes_pod_container_name", "main"),
];

#[test]
fn a_service_monitor_is_a_job_an_endpoint_with_the_labels_of_the_operator() {
    let spec = json!({
        "selector": {"matchLabels": {"app.io/name": "web"}, "matchExpressions": [{"key": "app.io/name", "operator": "In", "values": ["web", "x.y"]}]},
        "endpoints": [
            {"port": "metrics", "interval": "30s", "path": "/m", "relabelings": [{"targetLabel": "own", "replacement": "v"}],
             "metricRelabelings": [{"sourceLabels": ["__name__"], "regex": "go_.*", "action": "Drop"}]},
            {"targetPort": 9100, "scheme": "HTTPS", "tlsConfig": {"insecureSkipVerify": true}},
        ],
        "targetLabels": ["team"], "jobLabel": "team", "sampleLimit": 10, "namespaceSelector": {"matchNames": ["shop", "other"]},
    });
    let jobs = service(spec, &Known::new()).unwrap();
    let [first, second] = &jobs[..] else { panic!("two jobs") };
    assert_eq!(first.job_name, "serviceMonitor/shop/m/0");
    assert_eq!((first.sample_limit, first.scrape_interval), (10, crate::config::units::Span::seconds(30)));
    assert_eq!(first.discovery.kubernetes[0].namespaces.names, ["shop", "other"]);
    assert_eq!(first.metric_relabel_configs.len(), 1);
    let (url, labels) = decided(first, BEHIND).unwrap();
    assert_eq!(url, "http://10.42.0.7:9100/m");
    let wanted = [
        ("container", "main"),
        ("endpoint", "metrics"),
        ("instance", "10.42.0.7:9100"),
        ("job", "a"),
        ("namespace", "shop"),
        ("own", "v"),
        ("pod", "web-1"),
        ("service", "web"),
        ("team", "a"),
    ];
    assert_eq!(labels, Labels::from_pairs(wanted));
    let without = |name: &str| BEHIND.iter().copied().filter(|pair| pair.0 != name).collect::<Vec<_>>();
    assert!(decided(first, &without("__meta_kubernetes_service_labelpresent_app_io_name")).is_none());
    assert!(decided(first, &without("__meta_kubernetes_endpoint_port_name")).is_none());
    let ended = [&without("__meta_kubernetes_pod_phase")[..], &[("__meta_kubernetes_pod_phase", "Failed")]].concat();
    assert!(decided(first, &ended).is_none());
    assert_eq!((second.scheme.as_str(), second.http.tls_config.insecure_skip_verify), ("https", true));
    assert!(decided(second, BEHIND).is_none());
    let numbered = [BEHIND, &[("__meta_kubernetes_pod_container_port_number", "9100")]].concat();
    assert_eq!(decided(second, &numbered).unwrap().1.get("endpoint"), "9100");
}

#[test]
fn pods_are_monitored_without_a_service() {
    let spec = json!({
        "selector": {"matchLabels": {"app": "web"}}, "namespaceSelector": {"any": true},
        "podMetricsEndpoints": [{"port": "metrics"}],
    });
    let found = monitor::pod(&object(spec), &mut context(&Known::new())).unwrap();
    let job = job(&found[0]).unwrap();
    assert!(job.discovery.kubernetes[0].namespaces.names.is_empty());
    let labels = [
        ("__address__", "10.42.0.7:9100"),
        ("__meta_kubernetes_namespace", "shop"),
        ("__meta_kubernetes_pod_name", "web-1"),
        ("__meta_kubernetes_pod_label_app", "web"),
        ("__meta_kubernetes_pod_labelpresent_app", "true"),
        ("__meta_kubernetes_pod_container_port_name", "metrics"),
    ];
    let (_, found) = decided(&job, &labels).unwrap();
    assert_eq!((found.get("job"), found.get("pod"), found.get("endpoint")), ("shop/m", "web-1", "metrics"));
}

#[test]
fn probes_ask_the_prober_about_each_target() {
    let spec = json!({
        "prober": {"url": "prober.shop:9115"}, "module": "http_2xx", "jobName": "look",
        "targets": {"staticConfig": {"static": ["https://example.io"], "labels": {"team": "a"}}},
    });
    let found = monitor::probe(&object(spec), &mut context(&Known::new())).unwrap();
    let job = job(&found[0]).unwrap();
    let group = &job.discovery.groups[0];
    let target = [("__address__", group.targets[0].as_str()), ("team", group.labels.get("team"))];
    let (url, labels) = decided(&job, &target).unwrap();
    assert_eq!(url, "http://prober.shop:9115/probe?module=http_2xx&target=https%3A%2F%2Fexample.io");
    assert_eq!((labels.get("instance"), labels.get("job")), ("https://example.io", "look"));
    let spec =
        json!({"prober": {"url": "p:1"}, "targets": {"ingress": {"selector": {"matchLabels": {"probe": "yes"}}}}});
    let found = monitor::probe(&object(spec), &mut context(&Known::new())).unwrap();
    let job = super::job(&found[0]).unwrap();
    let labels = [
        ("__address__", "a.io"),
        ("__meta_kubernetes_ingress_scheme", "https"),
        ("__meta_kubernetes_ingress_path", "/x"),
        ("__meta_kubernetes_ingress_name", "i"),
        ("__meta_kubernetes_ingress_label_probe", "yes"),
        ("__meta_kubernetes_ingress_labelpresent_probe", "true"),
    ];
    let (url, labels) = decided(&job, &labels).unwrap();
    assert_eq!((url.as_str(), labels.get("ingress")), ("http://p:1/probe?target=https%3A%2F%2Fa.io%2Fx", "i"));
}

#[test]
fn a_scrape_config_is_a_job_nearly_as_written() {
    let spec = json!({
        "jobName": "own", "metricsPath": "/m", "scrapeInterval": "20s", "scheme": "HTTPS", "params": {"a": ["b"]},
        "staticConfigs": [{"targets": ["x:1"], "labels": {"l": "v"}}],
        "httpSDConfigs": [{"url": "http://sd/", "refreshInterval": "30s"}],
        "kubernetesSDConfigs": [{"role": "Pod", "namespaces": {"ownNamespace": true}, "selectors": [{"role": "Pod", "label": "a=b"}]}],
        "dnsSDConfigs": [{"names": ["n"], "type": "A", "port": 9}],
        "relabelings": [{"targetLabel": "z", "replacement": "y"}],
    });
    let found = config::config(&object(spec), &mut context(&Known::new())).unwrap();
    let job = job(&found[0]).unwrap();
    assert_eq!(
        (job.job_name.as_str(), job.metrics_path.as_str(), job.scheme.as_str()),
        ("scrapeConfig/shop/m", "/m", "https")
    );
    assert_eq!(job.discovery.kubernetes[0].namespaces.names, ["shop"]);
    assert_eq!((job.discovery.http.len(), job.discovery.dns.len(), job.discovery.groups.len()), (1, 1, 1));
    let (_, labels) = decided(&job, &[("__address__", "x:1")]).unwrap();
    assert_eq!((labels.get("job"), labels.get("z")), ("own", "y"));
}

#[test]
fn objects_make_nobody_read_files_or_sockets() {
    let endpoint = |more: Value| {
        let mut endpoint = json!({"port": "x"});
        for (name, value) in more.as_object().unwrap() {
            endpoint[name] = value.clone();
        }
        service(json!({"selector": {}, "endpoints": [endpoint]}), &Known::new())
    };
    assert!(endpoint(json!({})).is_ok());
    for wrong in [
        json!({"bearerTokenFile": "/etc/passwd"}),
        json!({"tlsConfig": {"caFile": "/x"}}),
        json!({"tlsConfig": {"keyFile": "/x"}}),
    ] {
        assert!(endpoint(wrong.clone()).unwrap_err().contains("may not name files"), "{wrong}");
    }
    for wrong in [
        json!({"fileSDConfigs": [{"files": ["/x.json"]}]}),
        json!({"dockerSDConfigs": [{"host": "unix:///var/run/docker.sock"}]}),
        json!({"consulSDConfigs": [{"server": "x"}]}),
    ] {
        assert!(config::config(&object(wrong.clone()), &mut context(&Known::new())).is_err(), "{wrong}");
    }
}

#[test]
fn secrets_are_asked_for_once_and_used_when_they_are_known() {
    let spec = json!({"selector": {}, "endpoints": [{
        "port": "x", "basicAuth": {"username": {"name": "s", "key": "u"}, "password": {"name": "s", "key": "p"}},
    }]});
    let mut known = Known::new();
    let mut first = context(&known);
    monitor::service(&object(spec.clone()), &mut first).unwrap();
    let wanted: Vec<String> = first.wanted.iter().map(|one| one.key.clone()).collect();
    assert_eq!(wanted, ["p", "u"]);
    for one in std::mem::take(&mut first.wanted) {
        let text = format!("value of {}", one.key);
        known.insert(one, Ok(text));
    }
    let jobs = service(spec.clone(), &known).unwrap();
    let basic = jobs[0].http.basic_auth.clone().unwrap();
    assert_eq!((basic.username.as_str(), basic.password.0.as_str()), ("value of u", "value of p"));
    known.values_mut().for_each(|value| *value = Err("secret shop/s may not be read".into()));
    assert_eq!(service(spec, &known).unwrap_err(), "secret shop/s may not be read");
}
