//! Kinds of our own: what their objects consist of, and what a cluster has for each.
//!
//! A kind is a type that names itself ([`Kind`]); its objects are [`Object`]s of it, which caches and [`kube::Api`] take. What the
//! cluster is told of the kind ([`installed`]) is its definition, rights for who reads and changes objects (they go into the usual
//! roles `view` and `edit`), and the rights of whoever acts on them.
//!
//! <https://kubernetes.io/docs/reference/access-authn-authz/rbac/#aggregated-clusterroles>

use std::{borrow::Cow, fmt::Debug};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::{Value, json};

/// The group of Madang's own kinds.
pub const GROUP: &str = "madang.dev";
/// The version of those that are young.
pub const VERSION: &str = "v1alpha1";

/// A kind of objects in a namespace.
pub trait Kind: Clone + Debug + Default + PartialEq + Send + Sync + 'static {
    /// Its name: `Pipeline`.
    const KIND: &'static str;
    /// Its resource: `pipelines`.
    const PLURAL: &'static str;
    /// What is wanted.
    type Spec: Clone + Debug + Default + PartialEq + Serialize + DeserializeOwned + Send + Sync;
    /// What there is.
    type Status: Clone + Debug + Default + PartialEq + Serialize + DeserializeOwned + Send + Sync;
}

/// An object of a kind.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(bound = "")]
pub struct Object<K: Kind> {
    /// Name, namespace, UID.
    pub metadata: ObjectMeta,
    /// What is wanted.
    #[serde(default)]
    pub spec: K::Spec,
    /// What there is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<K::Status>,
}

impl<K: Kind> kube::Resource for Object<K> {
    type DynamicType = ();
    type Scope = k8s_openapi::NamespaceResourceScope;

    fn kind((): &()) -> Cow<'_, str> {
        K::KIND.into()
    }

    fn group((): &()) -> Cow<'_, str> {
        GROUP.into()
    }

    fn version((): &()) -> Cow<'_, str> {
        VERSION.into()
    }

    fn plural((): &()) -> Cow<'_, str> {
        K::PLURAL.into()
    }

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

/// What a cluster has for kinds with these definitions: the definitions, roles `NAME:view` and `NAME:edit` over them and their
/// `parts` (subresources that are no objects: `pipelineruns/log`), and the role `NAME`, whose `rules` `user` has.
pub fn installed(name: &str, definitions: Vec<Value>, parts: &[&str], rules: Value, user: &str) -> Vec<Value> {
    let role = |name: String, labels: Value, rules: Value| {
        json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole",
            "metadata": {"name": name, "labels": labels}, "rules": rules,
        })
    };
    let plurals = definitions.iter().filter_map(|definition| definition["spec"]["names"]["plural"].as_str());
    let resources: Vec<&str> = plurals.chain(parts.iter().copied()).collect();
    let given = |verbs: &[&str]| json!([{"apiGroups": [GROUP], "resources": resources, "verbs": verbs}]);
    let to = |role: &str| json!({format!("rbac.authorization.k8s.io/aggregate-to-{role}"): "true"});
    let roles = [
        role(format!("{name}:view"), to("view"), given(&["get", "list", "watch"])),
        role(format!("{name}:edit"), to("edit"), given(&["create", "update", "patch", "delete", "deletecollection"])),
        role(name.to_owned(), json!({}), rules),
        json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding", "metadata": {"name": name},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": name},
            "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": user}],
        }),
    ];
    definitions.into_iter().chain(roles).collect()
}
