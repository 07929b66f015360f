//! The kind `Build`: what an object says, what its status says, and the definition that is installed at start.

use std::{borrow::Cow, collections::BTreeMap};

use anyhow::Context as _;
use k8s_openapi::apimachinery::pkg::{
    api::resource::Quantity,
    apis::meta::v1::{Condition, ObjectMeta},
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// The group of Madang's own kinds.
pub const GROUP: &str = "madang.dev";
const VERSION: &str = "v1alpha1";
const PLURAL: &str = "builds";
const DEFINITION: &str = include_str!("definition.yaml");

/// An object.
#[derive(Clone, Debug, Deserialize)]
pub struct Build {
    /// Name, namespace, UID.
    pub metadata: ObjectMeta,
    /// What is wanted.
    #[serde(default)]
    pub spec: Spec,
    /// How far it is.
    #[serde(default)]
    pub status: Status,
}

/// What is wanted. The definition says what each field means.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[expect(missing_docs, reason = "definition.yaml documents the fields")]
pub struct Spec {
    pub node_name: Option<String>,
    pub service_account_name: Option<String>,
    pub context: Context,
    pub dockerfile: Option<String>,
    pub dockerfile_text: Option<String>,
    pub target: Option<String>,
    pub args: Vec<Argument>,
    pub labels: BTreeMap<String, String>,
    pub secrets: Vec<SecretKey>,
    pub image_pull_secrets: Vec<Named>,
    pub tags: Vec<String>,
    pub platform: Option<String>,
    pub network: Option<String>,
    pub no_cache: bool,
    pub cache_from: Vec<String>,
    pub cache_to: Option<String>,
    pub resources: Bounds,
    pub active_deadline_seconds: Option<u64>,
    pub ttl_seconds_after_finished: Option<u64>,
    pub cancel: bool,
}

/// Where files come from.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "lowercase", default)]
pub struct Context {
    /// A repository.
    pub git: Option<Git>,
    /// A volume.
    pub volume: Option<Volume>,
    /// What is sent to the node.
    pub upload: Option<Upload>,
}

/// A repository.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[expect(missing_docs, reason = "definition.yaml documents the fields")]
pub struct Git {
    pub url: String,
    #[serde(rename = "ref")]
    pub reference: Option<String>,
    pub path: Option<String>,
    pub secret_name: Option<String>,
}

/// A directory of a claim's volume.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[expect(missing_docs, reason = "definition.yaml documents the fields")]
pub struct Volume {
    pub claim_name: String,
    pub path: Option<String>,
}

/// An archive that somebody sends.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
pub struct Upload {}

/// `ARG`.
#[derive(Clone, Debug, Default, Deserialize)]
#[expect(missing_docs, reason = "definition.yaml documents the fields")]
pub struct Argument {
    pub name: String,
    #[serde(default)]
    pub value: String,
}

/// A key of a Secret.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
#[expect(missing_docs, reason = "definition.yaml documents the fields")]
pub struct SecretKey {
    pub id: String,
    pub secret_name: String,
    pub key: String,
}

/// A Secret by its name.
#[derive(Clone, Debug, Default, Deserialize)]
#[expect(missing_docs, reason = "definition.yaml documents the fields")]
pub struct Named {
    #[serde(default)]
    pub name: String,
}

/// Bounds of all steps together.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
#[expect(missing_docs, reason = "definition.yaml documents the fields")]
pub struct Bounds {
    pub cpu: Option<Quantity>,
    pub memory: Option<Quantity>,
}

/// How far it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Phase {
    /// It has not begun.
    #[default]
    Pending,
    /// It is being built.
    Running,
    /// The image is there.
    Succeeded,
    /// It has failed; why is in the message.
    Failed,
    /// Somebody has ended it.
    Cancelled,
}

impl Phase {
    /// Whether nothing will happen any more.
    pub fn is_over(self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed | Self::Cancelled)
    }
}

/// What is known of it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[expect(missing_docs, reason = "definition.yaml documents the fields")]
pub struct Status {
    pub phase: Phase,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node_name: Option<String>,
    pub attempts: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub start_time: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub completion_time: Option<String>,
    #[serde(rename = "imageID", skip_serializing_if = "Option::is_none")]
    pub image_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub steps: Option<Steps>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log_bytes: Option<u64>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
}

/// Steps that were carried out, and those whose results were there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the type's own words")]
pub struct Steps {
    pub done: usize,
    pub cached: usize,
}

impl kube::Resource for Build {
    type DynamicType = ();
    type Scope = k8s_openapi::NamespaceResourceScope;

    fn kind((): &()) -> Cow<'_, str> {
        "Build".into()
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

/// What is installed in a cluster: the definition, who may do what with builds, and what `user`, by which engines are known, may.
///
/// # Errors
/// The definition cannot be read, which a test makes sure of.
pub fn installed(user: &str) -> anyhow::Result<Vec<Value>> {
    let definition: Value = serde_saphyr::from_str(DEFINITION).context("read the definition of builds")?;
    let role = |name: &str, labels: Value, rules: Value| {
        json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole",
            "metadata": {"name": name, "labels": labels}, "rules": rules,
        })
    };
    let rule = |group: &str, resources: &[&str], verbs: &[&str]| json!({"apiGroups": [group], "resources": resources, "verbs": verbs});
    let to = |role: &str| json!({format!("rbac.authorization.k8s.io/aggregate-to-{role}"): "true"});
    let all = ["create", "update", "patch", "delete", "deletecollection"];
    Ok(vec![
        definition,
        role(
            "madang:builds:view",
            to("view"),
            json!([rule(GROUP, &[PLURAL, "builds/log"], &["get", "list", "watch"])]),
        ),
        role("madang:builds:edit", to("edit"), json!([rule(GROUP, &[PLURAL, "builds/context"], &all)])),
        role(
            "madang:engine",
            json!({}),
            json!([
                rule(GROUP, &[PLURAL], &["get", "list", "watch", "delete"]),
                rule(GROUP, &["builds/status"], &["get", "update", "patch"]),
                rule(
                    "",
                    &["secrets", "serviceaccounts", "persistentvolumeclaims", "persistentvolumes", "nodes"],
                    &["get"]
                ),
                rule("", &["serviceaccounts/token"], &["create"]),
                rule("", &["events"], &["create", "patch"]),
            ]),
        ),
        json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding",
            "metadata": {"name": "madang:engine"},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "madang:engine"},
            "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": user}],
        }),
    ])
}
