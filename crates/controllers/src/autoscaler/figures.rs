//! Figures for autoscalers, from the APIs that others serve: `metrics.k8s.io`, `custom.metrics.k8s.io` and
//! `external.metrics.k8s.io`.
//! <https://github.com/kubernetes/metrics>

use api::quantity::Quantity as Exact;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::Client;
use serde_json::Value;

use super::replicas::{Sample, Samples};
use crate::hands::refusal;

/// Figures that were asked for at most: a reply with more is cut.
const MOST: usize = 10_000;

fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

fn milli(value: &Value) -> Option<i64> {
    Exact::parse(value.as_str()?).ok().map(|exact| exact.milli())
}

fn items(list: &Value) -> impl Iterator<Item = &Value> {
    list["items"].as_array().into_iter().flatten().take(MOST)
}

fn time(item: &Value) -> Timestamp {
    text(item, "/timestamp").parse().unwrap_or(Timestamp::UNIX_EPOCH)
}

/// Percent-encodes what a path or query may not hold.
fn encode(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~');
    text.bytes().map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}

async fn get(client: &Client, path: &str) -> Result<Value, String> {
    let request = http::Request::get(path).body(Vec::new()).map_err(|error| error.to_string())?;
    client.request(request).await.map_err(|error| refusal(&error))
}

/// The version of a group that its server prefers.
async fn version(client: &Client, group: &str) -> Result<String, String> {
    let found = get(client, &format!("/apis/{group}")).await?;
    Ok(text(&found, "/preferredVersion/version").to_owned())
}

/// A label selector as text.
pub fn selector_text(selector: Option<&LabelSelector>) -> String {
    let Some(selector) = selector else { return String::new() };
    let equal = selector.match_labels.iter().flatten().map(|(key, value)| format!("{key}={value}"));
    let expressions = selector.match_expressions.iter().flatten().map(|wanted| {
        let values = wanted.values.as_deref().unwrap_or_default().join(",");
        match wanted.operator.as_str() {
            "In" => format!("{} in ({values})", wanted.key),
            "NotIn" => format!("{} notin ({values})", wanted.key),
            "DoesNotExist" => format!("!{}", wanted.key),
            _ => wanted.key.clone(),
        }
    });
    equal.chain(expressions).collect::<Vec<_>>().join(",")
}

/// What pods use of a resource, or one container of each.
///
/// # Errors
/// Why there are no figures.
pub async fn resource(
    client: &Client,
    namespace: &str,
    selector: &str,
    resource: &str,
    container: Option<&str>,
) -> Result<Samples, String> {
    let path = format!("/apis/metrics.k8s.io/v1beta1/namespaces/{namespace}/pods?labelSelector={}", encode(selector));
    let failed = |error| format!("unable to fetch metrics from resource metrics API: {error}");
    let list = get(client, &path).await.map_err(failed)?;
    let samples = pods(&list, resource, container);
    if items(&list).next().is_none() {
        return Err("no metrics returned from resource metrics API".into());
    }
    Ok(samples)
}

fn pods(list: &Value, resource: &str, container: Option<&str>) -> Samples {
    let sample = |pod: &Value| {
        let containers = pod["containers"].as_array()?;
        let own = containers.iter().filter(|own| container.is_none_or(|name| text(own, "/name") == name));
        // A pod of which one container is missing has no figure.
        let amounts: Option<Vec<i64>> = own.map(|own| milli(&own["usage"][resource])).collect();
        let amounts = amounts.filter(|all| !all.is_empty())?;
        let value = amounts.into_iter().fold(0_i64, i64::saturating_add);
        let window = text(pod, "/window").parse().unwrap_or(SignedDuration::from_secs(60));
        Some((text(pod, "/metadata/name").to_owned(), Sample { value, at: time(pod), window }))
    };
    items(list).filter_map(sample).collect()
}

/// A metric of each pod.
///
/// # Errors
/// Why there are no figures.
pub async fn of_pods(
    client: &Client,
    namespace: &str,
    selector: &str,
    metric: &str,
    labels: Option<&LabelSelector>,
) -> Result<Samples, String> {
    let failed = |error| format!("unable to fetch metrics from custom metrics API: {error}");
    let version = version(client, "custom.metrics.k8s.io").await.map_err(failed)?;
    let path = format!(
        "/apis/custom.metrics.k8s.io/{version}/namespaces/{namespace}/pods/*/{}?labelSelector={}&metricLabelSelector={}",
        encode(metric),
        encode(selector),
        encode(&selector_text(labels))
    );
    let list = get(client, &path).await.map_err(failed)?;
    let sample = |item: &Value| {
        let window = SignedDuration::from_secs(item["windowSeconds"].as_i64().unwrap_or(60));
        let value = milli(&item["value"])?;
        Some((text(item, "/describedObject/name").to_owned(), Sample { value, at: time(item), window }))
    };
    let samples: Samples = items(&list).filter_map(sample).collect();
    if samples.is_empty() {
        return Err("no metrics returned from custom metrics API".into());
    }
    Ok(samples)
}

/// A metric of one object, in thousandths; `resource` is its `PLURAL.GROUP`.
///
/// # Errors
/// Why there is no figure.
pub async fn of_object(
    client: &Client,
    namespace: &str,
    resource: &str,
    name: &str,
    metric: &str,
    labels: Option<&LabelSelector>,
) -> Result<i64, String> {
    let failed = |error| format!("unable to fetch metrics from custom metrics API: {error}");
    let version = version(client, "custom.metrics.k8s.io").await.map_err(failed)?;
    let object = match resource {
        "namespaces" => format!("namespaces/{namespace}/metrics"),
        _ => format!("namespaces/{namespace}/{resource}/{}", encode(name)),
    };
    let labels = encode(&selector_text(labels));
    let metric = encode(metric);
    let path = format!("/apis/custom.metrics.k8s.io/{version}/{object}/{metric}?metricLabelSelector={labels}");
    let list = get(client, &path).await.map_err(failed)?;
    let value = items(&list).next().and_then(|item| milli(&item["value"]));
    value.ok_or_else(|| failed("the server could not find the metric".to_owned()))
}

/// The sum of a metric that belongs to no object, in thousandths.
///
/// # Errors
/// Why there is no figure.
pub async fn external(
    client: &Client,
    namespace: &str,
    metric: &str,
    labels: Option<&LabelSelector>,
) -> Result<i64, String> {
    let labels = encode(&selector_text(labels));
    let metric = encode(metric);
    let path = format!("/apis/external.metrics.k8s.io/v1beta1/namespaces/{namespace}/{metric}?labelSelector={labels}");
    let failed = |error| format!("unable to fetch metrics from external metrics API: {error}");
    let list = get(client, &path).await.map_err(failed)?;
    let values: Vec<i64> = items(&list).filter_map(|item| milli(&item["value"])).collect();
    if values.is_empty() {
        return Err("no metrics returned from external metrics API".into());
    }
    Ok(values.into_iter().fold(0, i64::saturating_add))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_pod_with_a_container_missing_has_no_figure() {
        let list = json!({"items": [
            {"metadata": {"name": "a"}, "timestamp": "2026-01-01T00:00:00Z", "window": "30s", "containers": [
                {"name": "x", "usage": {"cpu": "250m"}}, {"name": "y", "usage": {"cpu": "1"}}]},
            {"metadata": {"name": "b"}, "containers": [{"name": "x", "usage": {"cpu": "1"}}, {"name": "y", "usage": {}}]},
        ]});
        let all = pods(&list, "cpu", None);
        assert_eq!(all.iter().map(|(name, sample)| (name.as_str(), sample.value)).collect::<Vec<_>>(), [("a", 1250)]);
        assert_eq!(all["a"].window, SignedDuration::from_secs(30));
        assert_eq!(pods(&list, "cpu", Some("x")).len(), 2);
    }

    #[test]
    fn selectors_become_text() {
        let selector: LabelSelector = serde_json::from_value(json!({"matchLabels": {"a": "b"}, "matchExpressions": [
            {"key": "c", "operator": "In", "values": ["d", "e"]}, {"key": "f", "operator": "DoesNotExist"}]}))
        .unwrap();
        assert_eq!(selector_text(Some(&selector)), "a=b,c in (d,e),!f");
        assert_eq!(encode("a=b,c in (d)"), "a%3Db%2Cc%20in%20%28d%29");
    }
}
