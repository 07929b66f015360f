//! A CustomResourceDefinition as the server works with it: names, versions, schemas, sub-resources, columns.
//!
//! <https://kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definitions/>

use std::sync::Arc;

use api::{
    kinds::{Custom, Kind},
    meta::{Gvk, View},
    strategy,
    strategy::scale::Places,
    validate,
    validate::FieldError,
};
use serde_json::Value;

use crate::{object::Object, registry};

/// An established definition.
#[derive(Debug)]
pub struct Definition {
    /// `metadata.name`.
    pub name: String,
    /// The revision that it was read from.
    pub source: u64,
    /// Where its objects lie.
    pub prefix: Arc<str>,
    /// `spec.group`.
    pub group: String,
    /// Whether deletion was asked for: no objects are created any more.
    pub terminating: bool,
    /// The tree.
    pub value: Value,
    names: Names,
    namespaced: bool,
    storage_version: String,
    /// Served versions, most stable first.
    pub versions: Vec<Version>,
}

#[derive(Debug)]
struct Names {
    kind: String,
    list_kind: String,
    plural: String,
    singular: String,
    short: Vec<String>,
    categories: Vec<String>,
}

/// One served version.
#[derive(Debug)]
pub struct Version {
    /// `v1`.
    pub name: String,
    /// `subresources.status` is there.
    pub status: bool,
    /// `subresources.scale`, if there.
    pub scale: Option<Places>,
    columns: Value,
}

impl Definition {
    /// Reads a definition; `None` unless it is established.
    pub fn read(object: &Object) -> Option<Self> {
        let value = object.owned();
        let view = View::new(&value);
        let condition = |kind: &str| {
            view.at("status").list("conditions").any(|item| item.text("type") == kind && item.text("status") == "True")
        };
        if !condition("Established") {
            return None;
        }
        let spec = view.at("spec");
        let names = view.at("status").at("acceptedNames");
        let texts = |key: &str| names.list(key).map(|item| item.string().to_owned()).collect::<Vec<_>>();
        let names = Names {
            kind: names.text("kind").to_owned(),
            list_kind: names.text("listKind").to_owned(),
            plural: names.text("plural").to_owned(),
            singular: names.text("singular").to_owned(),
            short: texts("shortNames"),
            categories: texts("categories"),
        };
        let group = spec.text("group").to_owned();
        let mut versions: Vec<Version> =
            spec.list("versions").filter(|version| version.is("served")).map(Version::read).collect();
        versions.sort_by(|a, b| compare_versions(&b.name, &a.name));
        let storage = spec.list("versions").find(|version| version.is("storage"));
        Some(Self {
            name: object.name().to_owned(),
            source: object.revision(),
            prefix: registry::prefix(&group, &names.plural),
            terminating: api::meta::deletion_timestamp(&value).is_some(),
            namespaced: spec.text("scope") == "Namespaced",
            storage_version: storage.map_or("", |version| version.text("name")).to_owned(),
            group,
            names,
            versions,
            value,
        })
    }

    /// A row of the kinds table for each served version.
    pub fn kinds(&self) -> Vec<Kind> {
        let refs = |texts: &'_ [String]| -> Vec<String> { texts.to_vec() };
        let (short, categories) = (refs(&self.names.short), refs(&self.names.categories));
        self.versions
            .iter()
            .map(|version| {
                Kind::custom(&Custom {
                    group: &self.group,
                    version: &version.name,
                    kind: &self.names.kind,
                    list_kind: &self.names.list_kind,
                    plural: &self.names.plural,
                    singular: &self.names.singular,
                    short_names: short.iter().map(String::as_str).collect(),
                    categories: categories.iter().map(String::as_str).collect(),
                    namespaced: self.namespaced,
                    status: version.status,
                    scale: version.scale.is_some(),
                    storage_version: &self.storage_version,
                })
            })
            .collect()
    }

    /// A served version.
    pub fn version(&self, name: &str) -> Option<&Version> {
        self.versions.iter().find(|version| version.name == name)
    }

    /// Type of the objects as they are stored.
    pub fn stored_type(&self) -> Gvk {
        Gvk::new(self.group.as_str(), self.storage_version.as_str(), self.names.kind.as_str())
    }

    /// Whether versions differ in their `apiVersion` only.
    pub fn converts_by_head(&self) -> bool {
        true
    }

    /// Fills in the schema's defaults.
    pub fn default(&self, _version: &str, _value: &mut Value) {}

    /// Drops what the schema does not know, and tells the paths.
    pub fn prune(&self, _version: &str, _value: &mut Value) -> Vec<String> {
        Vec::new()
    }

    /// Readies an object for creation.
    pub fn prepare_create(&self, kind: &Kind, value: &mut Value) {
        strategy::prepare_create(kind, value);
    }

    /// Readies an update.
    pub fn prepare_update(&self, kind: &Kind, sub: &str, new: &mut Value, old: &Value) {
        strategy::prepare_update(kind, sub, new, old);
    }

    /// What is wrong with an object.
    pub fn validate(&self, kind: &Kind, sub: &str, new: &Value, old: Option<&Value>) -> Vec<FieldError> {
        match old {
            None => validate::create(kind, new),
            Some(old) => validate::update(kind, sub, new, old),
        }
    }

    /// Paths that can be selected by.
    pub fn selectable(&self, _version: &str) -> Vec<String> {
        Vec::new()
    }

    /// `additionalPrinterColumns` of a version.
    pub fn columns(&self, version: &str) -> &Value {
        self.version(version).map_or(&Value::Null, |version| &version.columns)
    }
}

impl Version {
    fn read(view: View<'_>) -> Self {
        let sub = view.at("subresources");
        let scale = sub.at("scale");
        Self {
            name: view.text("name").to_owned(),
            status: sub.has("status"),
            scale: scale.exists().then(|| Places::custom(scale.value())),
            columns: view.at("additionalPrinterColumns").value().clone(),
        }
    }
}

/// Upstream's order of versions: `v2` after `v1` after `v1beta2` after `v1beta1` after `v1alpha1` after any other name.
pub fn compare_versions(left: &str, right: &str) -> std::cmp::Ordering {
    fn rank(version: &str) -> Option<(u8, u64, u64)> {
        let rest = version.strip_prefix('v')?;
        let digits = rest.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(rest.len());
        let major = rest[..digits].parse().ok()?;
        let (stage, minor) = match &rest[digits..] {
            "" => (3, 0),
            stage if stage.starts_with("beta") => (2, stage[4..].parse().ok()?),
            stage if stage.starts_with("alpha") => (1, stage[5..].parse().ok()?),
            _ => return None,
        };
        Some((stage, major, minor))
    }
    match (rank(left), rank(right)) {
        (Some(left), Some(right)) => left.cmp(&right),
        (Some(_), None) => std::cmp::Ordering::Greater,
        (None, Some(_)) => std::cmp::Ordering::Less,
        (None, None) => right.cmp(left),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_ordered_by_stability() {
        let mut versions = ["foo1", "v1alpha1", "v10", "v1", "v1beta2", "v2", "v1beta10", "foo10"];
        versions.sort_by(|a, b| compare_versions(b, a));
        assert_eq!(versions, ["v10", "v2", "v1", "v1beta10", "v1beta2", "v1alpha1", "foo1", "foo10"]);
    }
}
