//! Values of a pod's own fields and resources, for environment variables and downward API files.
//! <https://kubernetes.io/docs/concepts/workloads/pods/downward-api/>

use std::collections::BTreeMap;

use anyhow::{Result, bail};
use k8s_openapi::{
    api::core::v1::{Container, Pod, PodStatus, ResourceFieldSelector},
    apimachinery::pkg::api::resource::Quantity as Text,
};

use crate::resources::{milli, units};

/// Capacity of the node that pods may use: what stands for a limit that a container does not have.
pub type Allocatable = BTreeMap<String, Text>;

/// Everything values are taken from.
#[derive(Clone, Copy, Debug)]
pub struct Source<'a> {
    /// The pod.
    pub pod: &'a Pod,
    /// Its status as the node knows it, which is newer than the object's.
    pub status: &'a PodStatus,
    /// The node's.
    pub allocatable: &'a Allocatable,
}

impl Source<'_> {
    /// The value of a `fieldRef`.
    pub fn field(&self, path: &str) -> Result<String> {
        let meta = &self.pod.metadata;
        let spec = self.pod.spec.as_ref();
        let text = |value: Option<&String>| value.cloned().unwrap_or_default();
        if let Some((map, key)) = subscript(path) {
            let map = match map {
                "metadata.labels" => meta.labels.as_ref(),
                "metadata.annotations" => meta.annotations.as_ref(),
                _ => bail!("unsupported fieldPath: {path}"),
            };
            return Ok(text(map.and_then(|map| map.get(key))));
        }
        let joined = |ips: Vec<&str>| ips.join(",");
        Ok(match path {
            "metadata.name" => text(meta.name.as_ref()),
            "metadata.namespace" => text(meta.namespace.as_ref()),
            "metadata.uid" => text(meta.uid.as_ref()),
            "metadata.labels" => map_text(meta.labels.as_ref()),
            "metadata.annotations" => map_text(meta.annotations.as_ref()),
            "spec.nodeName" => text(spec.and_then(|spec| spec.node_name.as_ref())),
            "spec.serviceAccountName" => text(spec.and_then(|spec| spec.service_account_name.as_ref())),
            "status.hostIP" => text(self.status.host_ip.as_ref()),
            "status.hostIPs" => {
                joined(self.status.host_ips.iter().flatten().map(|address| address.ip.as_str()).collect())
            }
            "status.podIP" => text(self.status.pod_ip.as_ref()),
            "status.podIPs" => {
                joined(self.status.pod_ips.iter().flatten().map(|address| address.ip.as_str()).collect())
            }
            _ => bail!("unsupported fieldPath: {path}"),
        })
    }

    /// The value of a `resourceFieldRef` of `container`, which is the selector's own where it names one.
    pub fn resource(&self, selector: &ResourceFieldSelector, container: Option<&Container>) -> Result<String> {
        let own = selector.container_name.as_deref().filter(|name| !name.is_empty()).and_then(|name| {
            let spec = self.pod.spec.as_ref()?;
            spec.containers.iter().chain(spec.init_containers.iter().flatten()).find(|other| other.name == name)
        });
        let Some(container) = own.or(container) else {
            bail!("container {} not found", selector.container_name.as_deref().unwrap_or(""));
        };
        let resources = container.resources.as_ref();
        let Some((kind, name)) = selector.resource.split_once('.') else {
            bail!("unsupported container resource : {}", selector.resource);
        };
        let list = match kind {
            "limits" => resources.and_then(|resources| resources.limits.as_ref()),
            "requests" => resources.and_then(|resources| resources.requests.as_ref()),
            _ => bail!("unsupported container resource : {}", selector.resource),
        };
        let mut value = list.and_then(|list| list.get(name));
        if kind == "limits" && matches!(name, "cpu" | "memory" | "ephemeral-storage") {
            value = value.or_else(|| self.allocatable.get(name));
        }
        let divisor = selector.divisor.as_ref().filter(|divisor| milli(Some(divisor)) != 0);
        let (amount, by) = if name == "cpu" {
            (milli(value), divisor.map_or(1000, |divisor| milli(Some(divisor))))
        } else {
            (units(value), divisor.map_or(1, |divisor| units(Some(divisor)).max(1)))
        };
        Ok(amount.div_euclid(by).saturating_add(i64::from(amount.rem_euclid(by) != 0)).to_string())
    }
}

/// `metadata.labels['key']` as map and key.
fn subscript(path: &str) -> Option<(&str, &str)> {
    let (map, rest) = path.split_once("['")?;
    Some((map, rest.strip_suffix("']")?))
}

/// A map as upstream writes it into one file: `key="value"`, ordered, values escaped as Go does.
pub fn map_text(map: Option<&BTreeMap<String, String>>) -> String {
    let lines = map.into_iter().flatten().map(|(key, value)| format!("{key}={}", quoted(value)));
    lines.collect::<Vec<_>>().join("\n")
}

/// Go's `strconv.Quote`.
fn quoted(text: &str) -> String {
    use std::fmt::Write as _;
    let mut out = String::from("\"");
    for character in text.chars() {
        let _ = match character {
            '"' => write!(out, "\\\""),
            '\\' => write!(out, "\\\\"),
            '\n' => write!(out, "\\n"),
            '\r' => write!(out, "\\r"),
            '\t' => write!(out, "\\t"),
            '\u{7}' => write!(out, "\\a"),
            '\u{8}' => write!(out, "\\b"),
            '\u{b}' => write!(out, "\\v"),
            '\u{c}' => write!(out, "\\f"),
            other if (other as u32) < 0x20 || other as u32 == 0x7f => write!(out, "\\x{:02x}", other as u32),
            other if other.is_control() => write!(out, "\\u{:04x}", other as u32),
            other => write!(out, "{other}"),
        };
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod() -> Pod {
        serde_json::from_value(json!({
            "metadata": {"name": "web", "namespace": "shop", "uid": "u1", "labels": {"app": "web", "tier": "a\"b"}},
            "spec": {"nodeName": "n1", "serviceAccountName": "sa", "containers": [
                {"name": "a", "resources": {"limits": {"cpu": "1500m", "memory": "64Mi"}, "requests": {"cpu": "250m"}}},
                {"name": "b"},
            ]},
        }))
        .unwrap()
    }

    fn check(run: impl FnOnce(Source<'_>)) {
        let (pod, allocatable) = (pod(), Allocatable::from([("cpu".into(), Text("4".into()))]));
        let status = serde_json::from_value(json!({"podIP": "10.42.0.5", "hostIP": "192.0.2.1",
            "podIPs": [{"ip": "10.42.0.5"}, {"ip": "fd00::5"}]}))
        .unwrap();
        run(Source { pod: &pod, status: &status, allocatable: &allocatable });
    }

    #[test]
    fn fields_are_found() {
        check(|source| {
            let cases = [
                ("metadata.name", "web"),
                ("metadata.uid", "u1"),
                ("metadata.labels['app']", "web"),
                ("metadata.labels['none']", ""),
                ("metadata.labels", "app=\"web\"\ntier=\"a\\\"b\""),
                ("spec.nodeName", "n1"),
                ("spec.serviceAccountName", "sa"),
                ("status.podIP", "10.42.0.5"),
                ("status.podIPs", "10.42.0.5,fd00::5"),
                ("status.hostIP", "192.0.2.1"),
            ];
            for (path, value) in cases {
                assert_eq!(source.field(path).unwrap(), value, "{path}");
            }
            assert!(source.field("spec.containers").is_err());
        });
    }

    #[test]
    fn resources_are_divided_and_rounded_up() {
        check(|source| {
            let cases = [
                ("a", "limits.cpu", None, "2"),
                ("a", "limits.cpu", Some("1m"), "1500"),
                ("a", "limits.memory", None, "67108864"),
                ("a", "limits.memory", Some("1Mi"), "64"),
                ("a", "requests.cpu", Some("1m"), "250"),
                ("a", "requests.memory", None, "0"),
                ("b", "limits.cpu", None, "4"),
            ];
            for (container, resource, divisor, value) in cases {
                let selector = ResourceFieldSelector {
                    container_name: Some(container.into()),
                    resource: resource.into(),
                    divisor: divisor.map(|text| Text(text.into())),
                };
                assert_eq!(source.resource(&selector, None).unwrap(), value, "{container} {resource}");
            }
        });
    }
}
