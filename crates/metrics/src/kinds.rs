//! The Prometheus operator's kinds: their definitions, which are installed in the cluster at start, and their objects.
//!
//! `cargo xtask schema` derives the definitions from the operator's Go module (v0.88.0).
//!
//! See <https://prometheus-operator.dev/docs/api-reference/api/>.

use std::{borrow::Cow, fmt::Debug, io::Read, marker::PhantomData};

use flate2::read::GzDecoder;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::Deserialize;
use serde_json::Value;

/// The group of the kinds.
pub const GROUP: &str = "monitoring.coreos.com";

const PACKED: &[u8] = include_bytes!("kinds/operator.json.gz");

/// The definitions: AlertmanagerConfig, PodMonitor, Probe, PrometheusRule, ScrapeConfig, ServiceMonitor.
pub fn definitions() -> Vec<Value> {
    let mut text = String::new();
    // What is packed was packed by our own hand, and a test reads it.
    let read = GzDecoder::new(PACKED).read_to_string(&mut text);
    debug_assert!(read.is_ok(), "definitions of kinds are damaged");
    text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

/// Names a kind.
pub trait Named: Clone + Debug + Send + Sync + 'static {
    /// The kind.
    const KIND: &'static str;
    /// Its name in paths.
    const PLURAL: &'static str;
    /// Its version.
    const VERSION: &'static str;
}

/// An object of one of the kinds; its specification is read by whoever needs it.
#[derive(Clone, Debug, Deserialize)]
#[serde(bound = "")]
pub struct Object<N> {
    /// Name, namespace, labels.
    pub metadata: ObjectMeta,
    /// What it says.
    #[serde(default)]
    pub spec: Value,
    #[serde(skip)]
    named: PhantomData<N>,
}

impl<N> Object<N> {
    /// An object that was read elsewhere.
    pub fn new(metadata: ObjectMeta, spec: Value) -> Self {
        Self { metadata, spec, named: PhantomData }
    }

    /// Namespace and name.
    pub fn names(&self) -> (&str, &str) {
        (self.metadata.namespace.as_deref().unwrap_or_default(), self.metadata.name.as_deref().unwrap_or_default())
    }
}

impl<N: Named> kube::Resource for Object<N> {
    type DynamicType = ();
    type Scope = k8s_openapi::NamespaceResourceScope;

    fn kind((): &()) -> Cow<'_, str> {
        N::KIND.into()
    }

    fn group((): &()) -> Cow<'_, str> {
        GROUP.into()
    }

    fn version((): &()) -> Cow<'_, str> {
        N::VERSION.into()
    }

    fn plural((): &()) -> Cow<'_, str> {
        N::PLURAL.into()
    }

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

/// Services whose pods are scraped.
#[derive(Clone, Debug)]
pub struct ServiceMonitor;

impl Named for ServiceMonitor {
    const KIND: &'static str = "ServiceMonitor";
    const PLURAL: &'static str = "servicemonitors";
    const VERSION: &'static str = "v1";
}

/// Pods that are scraped.
#[derive(Clone, Debug)]
pub struct PodMonitor;

impl Named for PodMonitor {
    const KIND: &'static str = "PodMonitor";
    const PLURAL: &'static str = "podmonitors";
    const VERSION: &'static str = "v1";
}

/// Addresses that somebody else looks at, whose findings are scraped.
#[derive(Clone, Debug)]
pub struct Probe;

impl Named for Probe {
    const KIND: &'static str = "Probe";
    const PLURAL: &'static str = "probes";
    const VERSION: &'static str = "v1";
}

/// A job, nearly as the configuration writes it.
#[derive(Clone, Debug)]
pub struct ScrapeConfig;

impl Named for ScrapeConfig {
    const KIND: &'static str = "ScrapeConfig";
    const PLURAL: &'static str = "scrapeconfigs";
    const VERSION: &'static str = "v1alpha1";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_is_defined_and_says_of_which_version_it_is() {
        let found = definitions();
        let names: Vec<&str> = found.iter().filter_map(|one| one["spec"]["names"]["kind"].as_str()).collect();
        assert_eq!(
            names,
            ["AlertmanagerConfig", "PodMonitor", "Probe", "PrometheusRule", "ScrapeConfig", "ServiceMonitor"]
        );
        for definition in &found {
            assert_eq!(definition["kind"], "CustomResourceDefinition");
            assert_eq!(definition["spec"]["group"], GROUP);
            let notes = &definition["metadata"]["annotations"];
            assert_eq!(notes["operator.prometheus.io/version"], "0.88.0", "{}", definition["metadata"]);
            let schema = &definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
            assert!(schema["properties"]["spec"]["properties"].is_object());
            assert!(schema.get("description").is_none());
        }
    }
}
