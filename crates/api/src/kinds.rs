//! The kinds that are served, as data: one row a resource, in the order of upstream's discovery.
//!
//! Routes, discovery, storage, printing and validation all read these rows; a kind is added by adding a row. Rows of one
//! group and version follow each other, and groups stand in upstream's order of priority. What two rows store under the same
//! [`Kind::storage_group`] and [`Kind::plural`] is one set of objects seen through two versions or groups (`events`,
//! `horizontalpodautoscalers`). Custom resources get a [`Kind`] of their own from [`Kind::custom`].
//!
//! Facts from upstream's published discovery documents (`api/discovery` of k8s.io/kubernetes v1.37.1); concepts:
//! <https://kubernetes.io/docs/reference/using-api/api-concepts/>.

use std::collections::HashSet;
use std::sync::{LazyLock, Mutex};

use crate::meta::{Gvk, Qualified};

pub use convert::convert;

mod convert;
mod table;
#[cfg(test)]
mod tests;

/// Sets of verbs as rows name them, each in upstream's (alphabetical) order.
pub mod verbs {
    /// Every verb of a stored resource.
    pub const ALL: &[&str] = &["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"];
    /// Every verb but `deletecollection`.
    pub const NO_COLLECTION: &[&str] = &["create", "delete", "get", "list", "patch", "update", "watch"];
    /// A virtual resource that only answers what is posted.
    pub const CREATE: &[&str] = &["create"];
    /// A sub-resource that shows and changes a part of its object.
    pub const READ_WRITE: &[&str] = &["get", "patch", "update"];
    /// A sub-resource that is only read.
    pub const GET: &[&str] = &["get"];
    /// A sub-resource that is only written.
    pub const UPDATE: &[&str] = &["update"];
    /// A stream: GET (WebSocket) or POST (SPDY).
    pub const CONNECT: &[&str] = &["create", "get"];
    /// A proxy: every HTTP method, under the verbs that they are authorised as.
    pub const PROXY: &[&str] = &["create", "delete", "get", "patch", "update"];
}

/// One served resource: a row of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kind {
    /// API group; empty for the core group.
    pub group: &'static str,
    /// Version in which this row is served.
    pub version: &'static str,
    /// Name of the type, `Deployment`.
    pub kind: &'static str,
    /// Name of its list type, `DeploymentList`; empty for virtual kinds that cannot be listed.
    pub list_kind: &'static str,
    /// Resource name in paths, `deployments`.
    pub plural: &'static str,
    /// Name for one of them, `deployment`.
    pub singular: &'static str,
    /// Short names that clients may use, `deploy`.
    pub short_names: &'static [&'static str],
    /// Categories, such as `all`.
    pub categories: &'static [&'static str],
    /// Whether objects live in a namespace.
    pub namespaced: bool,
    /// Verbs served on the resource itself, in alphabetical order.
    pub verbs: &'static [&'static str],
    /// Sub-resources.
    pub subresources: &'static [Sub],
    /// Name of the type in the schema table, `io.k8s.api.apps.v1.Deployment`; empty for custom resources.
    pub schema: &'static str,
    /// Group under which objects are stored. With [`Kind::plural`] it names the set of objects.
    pub storage_group: &'static str,
    /// Version in which objects are stored.
    pub storage_version: &'static str,
    /// Upstream's `storageVersionHash` in discovery; empty where upstream shows none.
    pub storage_hash: &'static str,
}

/// One sub-resource of a kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sub {
    /// Path segment, `status`.
    pub name: &'static str,
    /// Group of the body's type.
    pub group: &'static str,
    /// Version of the body's type.
    pub version: &'static str,
    /// Kind of the body, `Scale`; for streams upstream's option type, `PodExecOptions`.
    pub kind: &'static str,
    /// Name of the body's type in the schema table; empty for streams, which have no body.
    pub schema: &'static str,
    /// Verbs served, in alphabetical order.
    pub verbs: &'static [&'static str],
}

/// What a custom resource's [`Kind`] is made of: one served version of a CustomResourceDefinition.
#[derive(Debug, Clone)]
pub struct Custom<'a> {
    /// `spec.group`.
    pub group: &'a str,
    /// `spec.versions[].name`.
    pub version: &'a str,
    /// `spec.names.kind`.
    pub kind: &'a str,
    /// `spec.names.listKind`.
    pub list_kind: &'a str,
    /// `spec.names.plural`.
    pub plural: &'a str,
    /// `spec.names.singular`.
    pub singular: &'a str,
    /// `spec.names.shortNames`.
    pub short_names: Vec<&'a str>,
    /// `spec.names.categories`.
    pub categories: Vec<&'a str>,
    /// `spec.scope` is `Namespaced`.
    pub namespaced: bool,
    /// `spec.versions[].subresources.status` is there.
    pub status: bool,
    /// `spec.versions[].subresources.scale` is there.
    pub scale: bool,
    /// The version with `storage: true`.
    pub storage_version: &'a str,
}

impl Kind {
    /// Group, version and kind of its objects.
    pub fn gvk(&self) -> Gvk {
        Gvk::new(self.group, self.version, self.kind)
    }

    /// `apiVersion` of its objects: `v1`, `apps/v1`.
    pub fn api_version(&self) -> String {
        self.gvk().api_version()
    }

    /// Group and plural, as messages about a resource name it: `deployments.apps`.
    pub fn resource(&self) -> Qualified<'static> {
        Qualified { group: self.group, name: self.plural }
    }

    /// Group and kind, as messages about an invalid object name it: `Deployment.apps`.
    pub fn group_kind(&self) -> Qualified<'static> {
        Qualified { group: self.group, name: self.kind }
    }

    /// The sub-resource of that name, if the kind has it.
    pub fn subresource(&self, name: &str) -> Option<&'static Sub> {
        self.subresources.iter().find(|sub| sub.name == name)
    }

    /// Whether a verb (`list`, `deletecollection` ...) is served on the resource itself.
    pub fn allows(&self, verb: &str) -> bool {
        self.verbs.contains(&verb)
    }

    /// Whether objects of the kind are stored. Reviews and the like are only answered.
    pub fn is_stored(&self) -> bool {
        self.allows("list")
    }

    /// Whether it is that kind of that group, in any version.
    pub fn is(&self, group: &str, kind: &str) -> bool {
        self.group == group && self.kind == kind
    }

    /// Whether the kind comes from a CustomResourceDefinition.
    pub fn is_custom(&self) -> bool {
        self.schema.is_empty()
    }

    /// The other rows that show the same stored objects.
    pub fn equivalents(&self) -> impl Iterator<Item = &'static Kind> {
        let own = *self;
        all().iter().filter(move |other| {
            other.storage_group == own.storage_group
                && other.plural == own.plural
                && own.is_stored()
                && (other.group, other.version) != (own.group, own.version)
        })
    }

    /// The kind of one version of a CustomResourceDefinition.
    ///
    /// Its strings live as long as the process; each distinct one is kept once, so that defining the same resource again and
    /// again takes no memory.
    pub fn custom(of: &Custom<'_>) -> Kind {
        const STATUS: fn(&Custom<'_>) -> Sub = |of| Sub {
            name: "status",
            group: keep(of.group),
            version: keep(of.version),
            kind: keep(of.kind),
            schema: "",
            verbs: verbs::READ_WRITE,
        };
        const SCALE: Sub = Sub {
            name: "scale",
            group: "autoscaling",
            version: "v1",
            kind: "Scale",
            schema: "io.k8s.api.autoscaling.v1.Scale",
            verbs: verbs::READ_WRITE,
        };
        let mut subresources = Vec::new();
        if of.status {
            subresources.push(STATUS(of));
        }
        if of.scale {
            subresources.push(SCALE);
        }
        Kind {
            group: keep(of.group),
            version: keep(of.version),
            kind: keep(of.kind),
            list_kind: keep(of.list_kind),
            plural: keep(of.plural),
            singular: keep(of.singular),
            short_names: keep_list(&of.short_names),
            categories: keep_list(&of.categories),
            namespaced: of.namespaced,
            verbs: verbs::ALL,
            subresources: keep_subs(subresources),
            schema: "",
            storage_group: keep(of.group),
            storage_version: keep(of.storage_version),
            storage_hash: "",
        }
    }
}

/// Every built-in kind, groups and versions in discovery order.
pub fn all() -> &'static [Kind] {
    table::KINDS
}

/// The built-in kind served at that group, version and plural.
pub fn find(group: &str, version: &str, plural: &str) -> Option<&'static Kind> {
    all().iter().find(|kind| kind.plural == plural && kind.group == group && kind.version == version)
}

/// The built-in kind whose objects have that group, version and kind.
pub fn find_kind(group: &str, version: &str, kind: &str) -> Option<&'static Kind> {
    all().iter().find(|row| row.kind == kind && row.group == group && row.version == version)
}

/// Groups with their versions in order of preference, as discovery lists them; the core group first.
pub fn groups() -> Vec<(&'static str, Vec<&'static str>)> {
    let mut groups: Vec<(&'static str, Vec<&'static str>)> = Vec::new();
    for kind in all() {
        match groups.iter_mut().find(|(group, _)| *group == kind.group) {
            Some((_, versions)) if versions.contains(&kind.version) => {}
            Some((_, versions)) => versions.push(kind.version),
            None => groups.push((kind.group, vec![kind.version])),
        }
    }
    groups
}

static STRINGS: LazyLock<Mutex<HashSet<&'static str>>> = LazyLock::new(Mutex::default);
static LISTS: LazyLock<Mutex<HashSet<&'static [&'static str]>>> = LazyLock::new(Mutex::default);
static SUBS: LazyLock<Mutex<Vec<&'static [Sub]>>> = LazyLock::new(Mutex::default);

fn keep(text: &str) -> &'static str {
    let mut kept = STRINGS.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    if let Some(found) = kept.get(text) {
        return found;
    }
    let leaked: &'static str = Box::leak(text.to_owned().into_boxed_str());
    kept.insert(leaked);
    leaked
}

fn keep_list(texts: &[&str]) -> &'static [&'static str] {
    let list: Vec<&'static str> = texts.iter().map(|text| keep(text)).collect();
    let mut kept = LISTS.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    if let Some(found) = kept.get(list.as_slice()) {
        return found;
    }
    let leaked: &'static [&'static str] = Box::leak(list.into_boxed_slice());
    kept.insert(leaked);
    leaked
}

fn keep_subs(subs: Vec<Sub>) -> &'static [Sub] {
    if subs.is_empty() {
        return &[];
    }
    let mut kept = SUBS.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    if let Some(found) = kept.iter().find(|found| **found == subs.as_slice()) {
        return found;
    }
    let leaked: &'static [Sub] = Box::leak(subs.into_boxed_slice());
    kept.push(leaked);
    leaked
}
