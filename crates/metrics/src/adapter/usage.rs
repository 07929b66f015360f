//! `metrics.k8s.io`: what pods and nodes use of processors and memory.
//!
//! Rates are over a minute, so that a pod has figures half a minute after its start.
//! <https://kubernetes.io/docs/reference/external-api/metrics.v1beta1/>

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde_json::{Value, json};
use tsdb::labels::Labels;

use super::{Adapter, Failure, Named, Query, list, matcher::quoted, resources, stamp};

/// The group.
pub const GROUP: &str = "metrics.k8s.io";
/// Its version.
pub const VERSION: &str = "v1beta1";
const BOTH: &str = "metrics.k8s.io/v1beta1";
/// What rates are over.
const WINDOW: &str = "1m0s";

/// Processors and bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Used {
    pub cpu: Option<f64>,
    pub memory: Option<f64>,
}

impl Used {
    /// As quantities; none where one of the two is not known yet.
    pub fn quantities(&self) -> Option<Value> {
        let nano = (self.cpu?.max(0.0) * 1e9).round() as u64;
        let kibi = (self.memory?.max(0.0) / 1024.0).round() as u64;
        Some(json!({"cpu": format!("{nano}n"), "memory": format!("{kibi}Ki")}))
    }
}

/// Figures by what the labels name.
pub(super) fn gathered<K: Ord>(
    cpu: Vec<(Labels, f64)>,
    memory: Vec<(Labels, f64)>,
    key: impl Fn(&Labels) -> K,
) -> BTreeMap<K, Used> {
    let mut all: BTreeMap<K, Used> = BTreeMap::new();
    for (labels, value) in cpu {
        all.entry(key(&labels)).or_default().cpu = Some(value);
    }
    for (labels, value) in memory {
        all.entry(key(&labels)).or_default().memory = Some(value);
    }
    all
}

/// The containers of a pod; none where one of them has no figures yet.
fn containers(used: &BTreeMap<(String, String), Used>, pod: &str) -> Option<Vec<Value>> {
    let own = used.range((pod.to_owned(), String::new())..).take_while(|((name, _), _)| name == pod);
    let all: Option<Vec<Value>> =
        own.map(|((_, container), used)| Some(json!({"name": container, "usage": used.quantities()?}))).collect();
    all.filter(|all| !all.is_empty())
}

impl Adapter {
    pub(super) async fn usage(&self, path: &[&str], query: &Query) -> Result<Value, Failure> {
        let selector = query.get("labelSelector");
        match path {
            [] => {
                let resource = |name: &str, kind: &str, namespaced: bool| json!({"name": name, "singularName": "", "namespaced": namespaced, "kind": kind, "verbs": ["get", "list"]});
                let all = vec![resource("nodes", "NodeMetrics", false), resource("pods", "PodMetrics", true)];
                Ok(resources(BOTH, all))
            }
            ["nodes"] => Ok(list(BOTH, "NodeMetricsList", self.nodes(None, selector).await?)),
            ["nodes", name] => one(self.nodes(Some(name), "").await?, "nodes", name),
            ["pods"] => Ok(list(BOTH, "PodMetricsList", self.pods(None, None, selector).await?)),
            ["namespaces", namespace, "pods"] => {
                Ok(list(BOTH, "PodMetricsList", self.pods(Some(namespace), None, selector).await?))
            }
            ["namespaces", namespace, "pods", name] => {
                let name_in = format!("{namespace}/{name}");
                one(self.pods(Some(namespace), Some(name), "").await?, "pods", &name_in)
            }
            _ => Err(Failure::missing("the server could not find the requested resource")),
        }
    }

    async fn nodes(&self, name: Option<&str>, selector: &str) -> Result<Vec<Value>, Failure> {
        let nodes = self.objects(("", "v1", "Node"), None, (name, selector)).await?;
        let cpu = self.figures(r#"sum by (node) (rate(container_cpu_usage_seconds_total{id="/"}[1m]))"#).await?;
        let memory = self.figures(r#"sum by (node) (container_memory_working_set_bytes{id="/"})"#).await?;
        let used = gathered(cpu, memory, |labels| labels.get("node").to_owned());
        let now = stamp(Timestamp::now());
        let metrics = |node: Named| {
            let usage = used.get(&node.name)?.quantities()?;
            Some(json!({
                "kind": "NodeMetrics", "apiVersion": BOTH,
                "metadata": {"name": node.name, "creationTimestamp": now, "labels": node.labels},
                "timestamp": now, "window": WINDOW, "usage": usage,
            }))
        };
        Ok(nodes.into_iter().filter_map(metrics).collect())
    }

    async fn pods(&self, namespace: Option<&str>, name: Option<&str>, selector: &str) -> Result<Vec<Value>, Failure> {
        let pods = self.objects(("", "v1", "Pod"), namespace, (name, selector)).await?;
        let mut matchers = r#"container!="",pod!="""#.to_owned();
        for (label, value) in [("namespace", namespace), ("pod", name)] {
            if let Some(value) = value {
                matchers += &format!(",{label}={}", quoted(value));
            }
        }
        let by = "sum by (namespace, pod, container)";
        let cpu = self.figures(&format!("{by} (rate(container_cpu_usage_seconds_total{{{matchers}}}[1m]))")).await?;
        let memory = self.figures(&format!("{by} (container_memory_working_set_bytes{{{matchers}}})")).await?;
        let used = gathered(cpu, memory, |labels| {
            let pod = match namespace {
                Some(_) => labels.get("pod").to_owned(),
                None => format!("{}/{}", labels.get("namespace"), labels.get("pod")),
            };
            (pod, labels.get("container").to_owned())
        });
        let now = stamp(Timestamp::now());
        let metrics = |pod: Named| {
            let containers = containers(&used, &pod.name)?;
            let (namespace, name) = match namespace {
                Some(namespace) => (namespace, pod.name.as_str()),
                None => pod.name.split_once('/')?,
            };
            Some(json!({
                "kind": "PodMetrics", "apiVersion": BOTH,
                "metadata": {"name": name, "namespace": namespace, "creationTimestamp": now, "labels": pod.labels},
                "timestamp": now, "window": WINDOW, "containers": containers,
            }))
        };
        Ok(pods.into_iter().filter_map(metrics).collect())
    }
}

fn one(mut all: Vec<Value>, resource: &str, name: &str) -> Result<Value, Failure> {
    all.pop().ok_or_else(|| Failure::missing(format!("{resource}.metrics.k8s.io \"{name}\" not found")))
}
