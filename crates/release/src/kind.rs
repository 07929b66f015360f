//! The kind `Release`: what an object says, and what is said of it. `definition.yaml` says what each field means.

use std::{borrow::Cow, collections::BTreeMap};

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The group of Madang's own kinds.
pub const GROUP: &str = "madang.dev";
/// The version of this kind.
pub const VERSION: &str = "v1alpha1";
/// Its resource.
pub const PLURAL: &str = "releases";

const DEFINITION: &str = include_str!("definition.yaml");

/// The definition of the kind.
pub fn definition() -> anyhow::Result<Value> {
    Ok(serde_saphyr::from_str(DEFINITION)?)
}

/// An object.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub struct Release {
    /// Name, namespace, generation.
    pub metadata: ObjectMeta,
    /// What is wanted.
    #[serde(default)]
    pub spec: Spec,
    /// How far it is.
    #[serde(default)]
    pub status: Option<Status>,
}

impl kube::Resource for Release {
    type DynamicType = ();
    type Scope = k8s_openapi::NamespaceResourceScope;

    fn kind((): &()) -> Cow<'_, str> {
        "Release".into()
    }

    fn group((): &()) -> Cow<'_, str> {
        GROUP.into()
    }

    fn version((): &()) -> Cow<'_, str> {
        VERSION.into()
    }

    fn plural((): &()) -> Cow<'_, str> {
        PLURAL.into()
    }

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

/// What is wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
#[expect(missing_docs, reason = "definition.yaml documents the fields")]
pub struct Spec {
    pub route: RouteRef,
    pub stable: Backend,
    pub canary: Backend,
    pub steps: Vec<Step>,
    pub metrics: Vec<Metric>,
    pub paused: bool,
    pub abort: bool,
    pub promote: bool,
    pub approved_step: u32,
}

/// A route, and perhaps one rule of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default)]
#[expect(missing_docs, reason = "definition.yaml documents the fields")]
pub struct RouteRef {
    pub name: String,
    pub rule: Option<String>,
}

/// A Service's port.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default)]
#[expect(missing_docs, reason = "definition.yaml documents the fields")]
pub struct Backend {
    pub name: String,
    pub port: u16,
}

/// A step.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default)]
#[expect(missing_docs, reason = "definition.yaml documents the fields")]
pub struct Step {
    pub weight: u32,
    pub pause: Option<String>,
    pub approve: bool,
}

/// What judges steps.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default)]
#[expect(missing_docs, reason = "definition.yaml documents the fields")]
pub struct Metric {
    pub name: String,
    pub success: Option<String>,
    pub failure: Option<String>,
    pub interval: Option<String>,
    pub delay: Option<String>,
    pub successes: Option<u32>,
    pub failures: Option<u32>,
    pub unknowns: Option<u32>,
}

/// Where a release is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub enum Phase {
    /// On its way.
    #[default]
    Progressing,
    /// Stopped by somebody, or waiting for approval.
    Paused,
    /// All traffic goes to the canary.
    Succeeded,
    /// All traffic went back.
    RolledBack,
}

impl Phase {
    /// Whether nothing more happens.
    pub fn is_final(self) -> bool {
        matches!(self, Self::Succeeded | Self::RolledBack)
    }
}

/// How far a release is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
#[expect(missing_docs, reason = "definition.yaml documents the fields")]
pub struct Status {
    pub phase: Phase,
    pub message: String,
    pub step: u32,
    pub weight: u32,
    pub began: Option<Timestamp>,
    pub step_began: Option<Timestamp>,
    pub ended: Option<Timestamp>,
    pub observed_generation: i64,
    pub plan: String,
    pub metrics: Vec<Judged>,
    #[serde(flatten)]
    pub more: BTreeMap<String, Value>,
}

/// What a metric has said in the present step.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default)]
#[expect(missing_docs, reason = "definition.yaml documents the fields")]
pub struct Judged {
    pub name: String,
    pub successes: u32,
    pub failures: u32,
    pub unknowns: u32,
    pub asked: Option<Timestamp>,
    pub verdict: Option<Verdict>,
    pub message: String,
}

/// What a metric says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub enum Verdict {
    /// All is well.
    Success,
    /// Something is wrong.
    Failure,
    /// Neither, or nobody answered.
    Unknown,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_definition_is_whole() {
        let definition = definition().unwrap();
        assert_eq!(definition["metadata"]["name"], format!("{PLURAL}.{GROUP}"));
        assert_eq!(definition["spec"]["versions"][0]["name"], VERSION);
        // Every field of a status that is written is in the schema, or the API server would drop it.
        let whole = &definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
        let wrong = api::crd::Structural::compile(whole).err().unwrap_or_default();
        assert!(wrong.is_empty(), "{wrong:?}");
        let schema = &whole["properties"];
        let status = Status { metrics: vec![Judged::default()], ..Status::default() };
        let written = serde_json::to_value(status).unwrap();
        for name in written.as_object().unwrap().keys() {
            assert!(schema["status"]["properties"].get(name).is_some(), "{name}");
        }
        for name in serde_json::to_value(Spec::default()).unwrap().as_object().unwrap().keys() {
            assert!(schema["spec"]["properties"].get(name).is_some(), "{name}");
        }
    }
}
