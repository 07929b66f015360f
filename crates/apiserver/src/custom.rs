//! A CustomResourceDefinition as the server works with it: names, versions, schemas, sub-resources, columns.
//!
//! An object is defaulted and pruned when it is written, and again when it is read if it was stored before the schema last
//! changed, or is read in a version whose defaults are not those that it was stored with.
//!
//! <https://kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definitions/>

use std::{
    collections::HashMap,
    sync::{Arc, OnceLock},
};

use api::{
    crd::Structural,
    kinds::{Custom, Kind},
    meta::{self, Gvk, View},
    strategy,
    strategy::scale::Places,
    structural::UnknownFields,
    validate,
    validate::FieldError,
};
use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Value, value::RawValue};

use crate::{object::Object, registry, remote::Remote};

/// An established definition.
#[derive(Debug)]
pub struct Definition {
    /// `metadata.name`.
    pub name: String,
    /// `metadata.uid`.
    pub uid: String,
    /// The revision that it was read from.
    pub source: u64,
    /// Objects of later revisions were stored under its present schemas.
    pub since: u64,
    /// Where its objects lie.
    pub prefix: Arc<str>,
    /// `spec.group`.
    pub group: String,
    /// Whether deletion was asked for: no objects are created any more.
    pub terminating: bool,
    /// Served versions, most stable first.
    pub versions: Vec<Version>,
    /// Who converts between versions; none where only `apiVersion` differs.
    pub conversion: Option<Conversion>,
    generation: i64,
    names: Names,
    namespaced: bool,
    storage_version: String,
}

/// A conversion webhook.
#[derive(Debug)]
pub struct Conversion {
    /// Where it is.
    pub remote: Remote,
    /// The version of ConversionReview that it speaks; none if none that is known.
    pub review: Option<&'static str>,
}

impl Conversion {
    fn read(conversion: View<'_>) -> Option<Self> {
        if conversion.text("strategy") != "Webhook" {
            return None;
        }
        let webhook = conversion.at("webhook");
        let known = |version: View<'_>| ["v1", "v1beta1"].into_iter().find(|known| *known == version.string());
        Some(Self {
            remote: Remote::read(webhook.at("clientConfig")),
            review: webhook.list("conversionReviewVersions").find_map(known),
        })
    }
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
    /// `deprecationWarning`, or upstream's own where the version is deprecated without one.
    pub warning: Option<String>,
    /// `schema.openAPIV3Schema` where it has one: text within the stored definition, of which there is no second copy.
    pub schema: Option<Bytes>,
    columns: Value,
    selectable: Vec<String>,
    /// Whether its objects differ from the stored ones in nothing but `apiVersion`.
    plain: bool,
    structural: OnceLock<Structural>,
}

impl Definition {
    /// Reads a definition; `None` unless it is established. `previous` is what was known of it.
    pub fn read(object: &Object, previous: Option<&Definition>) -> Option<Self> {
        let value = object.value();
        let view = View::new(&value);
        let established = view
            .at("status")
            .list("conditions")
            .any(|item| item.text("type") == "Established" && item.text("status") == "True");
        if !established {
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
        let storage = spec.list("versions").find(|version| version.is("storage")).unwrap_or(View::nothing());
        let mut schemas = schemas(object.bytes());
        let mut versions: Vec<Version> = spec
            .list("versions")
            .filter(|version| version.is("served"))
            .map(|version| Version {
                schema: schemas.remove(version.text("name")),
                ..Version::read(version, storage, &group, &names.kind)
            })
            .collect();
        versions.sort_by(|a, b| compare_versions(&b.name, &a.name));
        let (uid, generation) = (meta::uid(&value).to_owned(), meta::generation(&value));
        let same = previous.filter(|previous| previous.uid == uid && previous.generation == generation);
        Some(Self {
            name: object.name().to_owned(),
            source: object.revision(),
            since: same.map_or(object.revision(), |same| same.since),
            prefix: registry::prefix(&group, &names.plural),
            terminating: meta::deletion_timestamp(&value).is_some(),
            namespaced: spec.text("scope") == "Namespaced",
            storage_version: storage.text("name").to_owned(),
            conversion: Conversion::read(spec.at("conversion")),
            uid,
            generation,
            group,
            names,
            versions,
        })
    }

    /// A row of the kinds table for each served version.
    pub fn kinds(&self) -> Vec<Kind> {
        let of = |version: &Version| {
            Kind::custom(&Custom {
                group: &self.group,
                version: &version.name,
                kind: &self.names.kind,
                list_kind: &self.names.list_kind,
                plural: &self.names.plural,
                singular: &self.names.singular,
                short_names: self.names.short.iter().map(String::as_str).collect(),
                categories: self.names.categories.iter().map(String::as_str).collect(),
                namespaced: self.namespaced,
                status: version.status,
                scale: version.scale.is_some(),
                storage_version: &self.storage_version,
            })
        };
        self.versions.iter().map(of).collect()
    }

    /// A served version.
    pub fn version(&self, name: &str) -> Option<&Version> {
        self.versions.iter().find(|version| version.name == name)
    }

    /// Type of the objects as they are stored.
    pub fn stored_type(&self) -> Gvk {
        Gvk::new(self.group.as_str(), self.storage_version.as_str(), self.names.kind.as_str())
    }

    /// Whether an object can be sent in a version as it is stored, but for its head.
    pub fn fits(&self, version: &str, object: &Object) -> bool {
        object.revision() > self.since && self.version(version).is_some_and(|version| version.plain)
    }

    /// What reading a stored object in a version does to it.
    pub fn refresh(&self, version: &str, value: &mut Value) {
        if let Some(version) = self.version(version) {
            let structural = version.structural();
            structural.default(value);
            structural.prune(value);
        }
    }

    /// From the body of a request to an object that can be stored: defaults, metadata, pruning. Warnings, or the decoder's
    /// error.
    pub fn decode(
        &self,
        version: &str,
        value: &mut Value,
        duplicates: &[String],
        unknown: UnknownFields,
    ) -> Result<Vec<String>, String> {
        match self.version(version) {
            Some(version) => version.structural().decode(value, duplicates, unknown),
            None => Err(format!("version {version} is not served")),
        }
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
        let mut errors = match old {
            None => validate::create(kind, new),
            Some(old) => validate::update(kind, sub, new, old),
        };
        if let Some(version) = self.version(kind.version) {
            let structural = version.structural();
            errors.extend(match old {
                None => structural.validate(new),
                Some(old) => structural.validate_update(new, old),
            });
        }
        errors
    }

    /// Paths that can be selected by.
    pub fn selectable(&self, version: &str) -> &[String] {
        self.version(version).map_or(&[], |version| &version.selectable)
    }

    /// `additionalPrinterColumns` of a version.
    pub fn columns(&self, version: &str) -> &Value {
        self.version(version).map_or(&Value::Null, |version| &version.columns)
    }
}

impl Version {
    fn read(view: View<'_>, storage: View<'_>, group: &str, kind: &str) -> Self {
        let sub = view.at("subresources");
        let scale = sub.at("scale");
        let own = schema_of(view);
        let name = view.text("name").to_owned();
        let plain = name == storage.text("name") || own == schema_of(storage) || !has_default(own);
        let warning = view.is("deprecated").then(|| match view.at("deprecationWarning").as_str() {
            Some(text) => text.to_owned(),
            None => format!("{group}/{name} {kind} is deprecated"),
        });
        Self {
            status: sub.has("status"),
            scale: scale.exists().then(|| Places::custom(scale.value())),
            warning,
            columns: view.at("additionalPrinterColumns").value().clone(),
            selectable: view.list("selectableFields").map(|field| field.text("jsonPath").to_owned()).collect(),
            plain,
            schema: None,
            name,
            structural: OnceLock::new(),
        }
    }

    /// The schema, compiled when it is first needed.
    pub fn structural(&self) -> &Structural {
        self.structural.get_or_init(|| {
            let schema = self.schema.as_deref().and_then(|text| serde_json::from_slice(text).ok());
            Structural::of_checked(&schema.unwrap_or_default())
        })
    }
}

fn schema_of(version: View<'_>) -> &Value {
    version.at("schema").at("openAPIV3Schema").value()
}

/// The schemas of a stored definition, by version: slices of its bytes.
fn schemas(definition: &Bytes) -> HashMap<String, Bytes> {
    #[derive(Deserialize)]
    struct Stored<'a> {
        #[serde(borrow)]
        spec: Spec<'a>,
    }
    #[derive(Deserialize)]
    struct Spec<'a> {
        #[serde(borrow)]
        versions: Vec<Entry<'a>>,
    }
    #[derive(Deserialize)]
    struct Entry<'a> {
        name: String,
        #[serde(borrow, default)]
        schema: Option<Schema<'a>>,
    }
    #[derive(Deserialize)]
    struct Schema<'a> {
        #[serde(borrow, default, rename = "openAPIV3Schema")]
        text: Option<&'a RawValue>,
    }
    let Ok(stored) = serde_json::from_slice::<Stored<'_>>(definition) else { return HashMap::new() };
    let text = |entry: Entry<'_>| {
        let schema = entry.schema?.text?.get();
        schema.starts_with('{').then(|| (entry.name, definition.slice_ref(schema.as_bytes())))
    };
    stored.spec.versions.into_iter().filter_map(text).collect()
}

/// Whether a schema gives anything a default. `default` may also be the name of a property, which is taken for one: that
/// costs time, not truth.
fn has_default(schema: &Value) -> bool {
    match schema {
        Value::Object(map) => map.contains_key("default") || map.values().any(has_default),
        Value::Array(items) => items.iter().any(has_default),
        _ => false,
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
