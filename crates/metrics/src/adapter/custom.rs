//! `custom.metrics.k8s.io`: any metric of an object; `external.metrics.k8s.io`: any metric at all.
//!
//! An object's metric is the sum of the series whose labels `namespace` and `pod`, `service`, `node` ... name it; of counters it is
//! the rate over two minutes, so that `requests` means the requests a second of `requests_total`.
//! <https://github.com/kubernetes/design-proposals-archive/blob/main/instrumentation/custom-metrics-api.md>

use jiff::Timestamp;
use serde_json::{Value, json};
use tsdb::labels::{self, Labels};

use super::{
    Adapter, Failure, Query, list,
    matcher::{any_of, described, of_selector, quoted, series},
    resources, stamp,
};

/// The group of metrics of objects.
pub const GROUP: &str = "custom.metrics.k8s.io";
/// The group of other metrics.
pub const EXTERNAL: &str = "external.metrics.k8s.io";
/// Seconds that rates are over.
const WINDOW: u32 = 120;
/// Metrics that are listed.
const MOST: usize = 2_000;

/// A number as a quantity, in thousandths where it is no whole one.
pub(super) fn quantity(value: f64) -> String {
    let milli = (value * 1000.0).round();
    if milli % 1000.0 == 0.0 { format!("{}", milli / 1000.0) } else { format!("{milli}m") }
}

/// The query of one candidate.
fn text(name: &str, counter: bool, matchers: &[String]) -> String {
    let selected = format!("{name}{{{}}}", matchers.join(","));
    if counter { format!("rate({selected}[{WINDOW}s])") } else { selected }
}

impl Adapter {
    /// What the first candidate has that has anything; `by` are the labels that stay.
    async fn metric(&self, metric: &str, matchers: &[String], by: Option<&str>) -> Result<Vec<(Labels, f64)>, Failure> {
        if !labels::is_plain_metric(metric) {
            return Err(Failure::bad(format!("{metric:?} is no name of a metric")));
        }
        for (name, counter) in series(metric) {
            let inner = text(&name, counter, matchers);
            let found = match by {
                Some(label) => self.figures(&format!("sum by ({label}) ({inner})")).await?,
                None => self.figures(&inner).await?,
            };
            if !found.is_empty() {
                return Ok(found);
            }
        }
        Ok(Vec::new())
    }

    pub(super) async fn custom(&self, version: &str, path: &[&str], query: &Query) -> Result<Value, Failure> {
        let group_version = format!("{GROUP}/{version}");
        let (namespace, resource, name, metric) = match path {
            [] => return self.listed(&group_version).await,
            ["namespaces", namespace, "metrics", metric] => (None, "namespaces", *namespace, *metric),
            ["namespaces", namespace, resource, name, metric] => (Some(*namespace), *resource, *name, *metric),
            [resource, name, metric] => (None, *resource, *name, *metric),
            _ => return Err(Failure::missing("the server could not find the requested resource")),
        };
        let (label, kind) = described(resource);
        let mut matchers = of_selector(query.get("metricLabelSelector")).map_err(Failure::bad)?;
        if let Some(namespace) = namespace {
            matchers.push(format!("namespace={}", quoted(namespace)));
        }
        if name == "*" {
            let (group, own_version) = group_of(resource);
            let wanted = (None, query.get("labelSelector"));
            let objects = self.objects((group, own_version, &kind), namespace, wanted).await?;
            let names = objects.iter().map(|object| object.name.rsplit('/').next().unwrap_or_default());
            matchers.push(format!("{label}=~{}", any_of(names)));
        } else {
            matchers.push(format!("{label}={}", quoted(name)));
        }
        let found = self.metric(metric, &matchers, Some(&label)).await?;
        if found.is_empty() {
            let message = format!("the server could not find the metric {metric} for {resource} {name}");
            return Err(Failure::missing(message));
        }
        let now = stamp(Timestamp::now());
        let (group, own_version) = group_of(resource);
        let api_version = if group.is_empty() { own_version.to_owned() } else { format!("{group}/{own_version}") };
        let item = |(labels, value): (Labels, f64)| {
            let mut object = json!({"kind": kind, "name": labels.get(&label), "apiVersion": format!("/{api_version}")});
            if let Some(namespace) = namespace {
                object["namespace"] = namespace.into();
            }
            let mut item = json!({
                "describedObject": object, "timestamp": now, "windowSeconds": WINDOW, "value": quantity(value),
            });
            match version {
                "v1beta1" => item["metricName"] = metric.into(),
                _ => item["metric"] = json!({"name": metric, "selector": null}),
            }
            item
        };
        Ok(list(&group_version, "MetricValueList", found.into_iter().map(item).collect()))
    }

    /// Which metrics pods have.
    async fn listed(&self, group_version: &str) -> Result<Value, Failure> {
        let text = r#"group by (__name__) ({__name__!~"container_.*|kube_.*",namespace!="",pod!=""})"#;
        let mut names: Vec<String> =
            self.figures(text).await?.into_iter().map(|(labels, _)| labels.metric().to_owned()).collect();
        names.sort_unstable();
        let resource = |name: &String| {
            json!({
                "name": format!("pods/{}", name.strip_suffix("_total").unwrap_or(name)), "singularName": "",
                "namespaced": true, "kind": "MetricValueList", "verbs": ["get"],
            })
        };
        Ok(resources(group_version, names.iter().take(MOST).map(resource).collect()))
    }

    pub(super) async fn external(&self, path: &[&str], query: &Query) -> Result<Value, Failure> {
        let group_version = format!("{EXTERNAL}/v1beta1");
        let (namespace, metric) = match path {
            // Any metric is one: none is named before it is asked for.
            [] => return Ok(resources(&group_version, Vec::new())),
            ["namespaces", namespace, metric] => (*namespace, *metric),
            _ => return Err(Failure::missing("the server could not find the requested resource")),
        };
        let mut matchers = of_selector(query.get("labelSelector")).map_err(Failure::bad)?;
        matchers.push(format!("namespace={}", quoted(namespace)));
        let now = stamp(Timestamp::now());
        let item = |(labels, value): (Labels, f64)| {
            let named: serde_json::Map<String, Value> = labels
                .iter()
                .filter(|(name, _)| *name != "__name__")
                .map(|(name, value)| (name.to_owned(), value.into()))
                .collect();
            json!({
                "metricName": metric, "metricLabels": named, "timestamp": now, "window": WINDOW, "value": quantity(value),
            })
        };
        let found = self.metric(metric, &matchers, None).await?;
        Ok(list(&group_version, "ExternalMetricValueList", found.into_iter().map(item).collect()))
    }
}

/// Group and version of a resource, which is `PLURAL` or `PLURAL.GROUP`.
fn group_of(resource: &str) -> (&str, &str) {
    let (plural, group) = resource.split_once('.').unwrap_or((resource, ""));
    let known =
        api::kinds::all().iter().find(|kind| kind.plural == plural && (group.is_empty() || kind.group == group));
    known.map_or((group, "v1"), |kind| (kind.group, kind.version))
}
