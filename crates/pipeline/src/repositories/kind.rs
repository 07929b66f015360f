//! The kind `Repository`: what an object says, what its status says, and what is installed at start.

use std::{borrow::Cow, collections::BTreeMap};

use anyhow::Context as _;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, ObjectMeta};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// The group of Madang's own kinds.
pub const GROUP: &str = "madang.dev";
/// The version of this kind.
pub const VERSION: &str = "v1alpha1";
/// Its resource.
pub const PLURAL: &str = "repositories";
/// What is in a repository, for which there are rights of their own.
pub const CONTENT: &str = "content";
const DEFINITION: &str = include_str!("definition.yaml");

/// An object.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Repository {
    /// Name, namespace, UID.
    pub metadata: ObjectMeta,
    /// What is wanted.
    #[serde(default)]
    pub spec: Spec,
    /// What there is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<Status>,
}

/// What is wanted. The definition says what each field means.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[expect(missing_docs, reason = "definition.yaml documents the fields")]
pub struct Spec {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub default_branch: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub object_format: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub protected: Vec<String>,
}

impl Spec {
    /// The branch that a clone checks out.
    pub fn branch(&self) -> &str {
        self.default_branch.as_deref().unwrap_or("main")
    }
}

/// What there is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[expect(missing_docs, reason = "definition.yaml documents the fields")]
pub struct Status {
    pub path: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub head: Option<String>,
    pub bytes: u64,
    pub sequence: u64,
    pub references: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub truncated: bool,
    pub pushes: Vec<Push>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
}

/// One push.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[expect(missing_docs, reason = "definition.yaml documents the fields")]
pub struct Push {
    pub number: u64,
    pub time: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub options: Vec<String>,
    pub updates: Vec<Change>,
}

/// A reference that a push has changed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[expect(missing_docs, reason = "definition.yaml documents the fields")]
pub struct Change {
    pub reference: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub old: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub new: Option<String>,
}

impl kube::Resource for Repository {
    type DynamicType = ();
    type Scope = k8s_openapi::NamespaceResourceScope;

    fn kind((): &()) -> Cow<'_, str> {
        "Repository".into()
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

/// What is installed in a cluster: the definition, who may do what with repositories, and what `user`, who serves them, may.
///
/// # Errors
/// The definition cannot be read, which a test makes sure of.
pub fn installed(user: &str) -> anyhow::Result<Vec<Value>> {
    let definition: Value = serde_saphyr::from_str(DEFINITION).context("read the definition of repositories")?;
    let role = |name: &str, labels: Value, rules: Value| {
        json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole",
            "metadata": {"name": name, "labels": labels}, "rules": rules,
        })
    };
    let rule =
        |resources: &[&str], verbs: &[&str]| json!({"apiGroups": [GROUP], "resources": resources, "verbs": verbs});
    let to = |role: &str| json!({format!("rbac.authorization.k8s.io/aggregate-to-{role}"): "true"});
    let content = "repositories/content";
    let all = ["create", "update", "patch", "delete", "deletecollection"];
    Ok(vec![
        definition,
        role("madang:repositories:view", to("view"), json!([rule(&[PLURAL, content], &["get", "list", "watch"])])),
        role("madang:repositories:edit", to("edit"), json!([rule(&[PLURAL, content], &all)])),
        role(
            "madang:repositories",
            json!({}),
            json!([
                rule(&[PLURAL], &["get", "list", "watch", "create", "update", "patch"]),
                rule(&["repositories/status"], &["get", "update", "patch"]),
            ]),
        ),
        json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding",
            "metadata": {"name": "madang:repositories"},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "madang:repositories"},
            "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": user}],
        }),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_definition_is_one_of_this_kind() {
        let all = installed("edge").unwrap();
        assert_eq!(all[0]["metadata"]["name"], format!("{PLURAL}.{GROUP}"));
        assert_eq!(all[0]["spec"]["versions"][0]["name"], VERSION);
        assert_eq!(all[4]["subjects"][0]["name"], "edge");
    }

    #[test]
    fn an_object_without_anything_has_a_branch() {
        let object: Repository = serde_json::from_value(json!({"metadata": {"name": "a"}})).unwrap();
        assert_eq!((object.spec.branch(), object.status), ("main", None));
    }
}
