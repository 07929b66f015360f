//! A CustomResourceDefinition as the server works with it: names, versions, schemas, sub-resources, columns.
//!
//! <https://kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definitions/>

use std::sync::Arc;

use api::{
    kinds::{Custom, Kind},
    meta::{Gvk, View},
    validate::FieldError,
};
use jiff::Timestamp;
use serde_json::{Value, json};

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
    pub scale: Option<Scale>,
    columns: Vec<Column>,
}

/// Where the scale sub-resource finds its numbers: paths of member names.
#[derive(Debug, Clone)]
pub struct Scale {
    /// `specReplicasPath`
    pub spec_replicas: Vec<String>,
    /// `statusReplicasPath`
    pub status_replicas: Vec<String>,
    /// `labelSelectorPath`
    pub selector: Option<Vec<String>>,
}

#[derive(Debug)]
struct Column {
    name: String,
    kind: String,
    format: String,
    description: String,
    priority: i64,
    path: String,
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
    pub fn prepare_create(&self, _version: &str, _value: &mut Value) {}

    /// Readies an update.
    pub fn prepare_update(&self, _version: &str, _sub: &str, _new: &mut Value, _old: &Value) {}

    /// What is wrong with an object.
    pub fn validate(&self, _version: &str, _new: &Value, _old: Option<&Value>, _sub: &str) -> Vec<FieldError> {
        Vec::new()
    }

    /// Paths that can be selected by.
    pub fn selectable(&self, _version: &str) -> Vec<String> {
        Vec::new()
    }

    /// The cells of a table.
    pub fn row(&self, version: &str, object: &Value, now: Timestamp) -> Vec<Value> {
        let mut cells = vec![Value::from(api::meta::name(object))];
        for column in self.version(version).map_or(&[][..], |version| &version.columns) {
            cells.push(column.cell(object, now));
        }
        cells
    }

    /// The columns of a table.
    pub fn columns(&self, version: &str) -> Value {
        let mut columns = vec![json!({
            "name": "Name", "type": "string", "format": "name", "priority": 0,
            "description": "Name must be unique within a namespace.",
        })];
        for column in self.version(version).map_or(&[][..], |version| &version.columns) {
            columns.push(json!({
                "name": column.name, "type": column.kind, "format": column.format,
                "description": column.description, "priority": column.priority,
            }));
        }
        columns.into()
    }
}

impl Version {
    fn read(view: View<'_>) -> Self {
        let sub = view.at("subresources");
        let path = |text: &str| -> Vec<String> { text.trim_start_matches('.').split('.').map(str::to_owned).collect() };
        let scale = sub.at("scale");
        let mut columns: Vec<Column> = view.list("additionalPrinterColumns").map(Column::read).collect();
        if columns.is_empty() {
            columns.push(Column {
                name: "Age".to_owned(),
                kind: "date".to_owned(),
                format: String::new(),
                description: "CreationTimestamp is the time when the object was created.".to_owned(),
                priority: 0,
                path: ".metadata.creationTimestamp".to_owned(),
            });
        }
        Self {
            name: view.text("name").to_owned(),
            status: sub.has("status"),
            scale: scale.exists().then(|| Scale {
                spec_replicas: path(scale.text("specReplicasPath")),
                status_replicas: path(scale.text("statusReplicasPath")),
                selector: Some(scale.text("labelSelectorPath")).filter(|text| !text.is_empty()).map(path),
            }),
            columns,
        }
    }
}

impl Column {
    fn read(view: View<'_>) -> Self {
        let text = |key: &str| view.text(key).to_owned();
        Self {
            name: text("name"),
            kind: text("type"),
            format: text("format"),
            description: text("description"),
            priority: view.int("priority").unwrap_or(0),
            path: text("jsonPath"),
        }
    }

    fn cell(&self, object: &Value, now: Timestamp) -> Value {
        let found = json_path(object, &self.path);
        let Some(value) = found.first().copied() else { return Value::Null };
        match (self.kind.as_str(), value) {
            ("date", Value::String(text)) => crate::print_pending::age(text, now).into(),
            ("string", Value::String(_)) | ("integer" | "number", Value::Number(_)) | ("boolean", Value::Bool(_)) => {
                value.clone()
            }
            ("string", other) => other.to_string().into(),
            _ => Value::Null,
        }
    }
}

/// The values at a JSON path of the kind that printer columns use: members, `['name']`, indices, `[*]`, and
/// `[?(@.name=="value")]`.
pub fn json_path<'a>(root: &'a Value, path: &str) -> Vec<&'a Value> {
    let mut here = vec![root];
    let mut left = path.trim_start_matches('$');
    while !left.is_empty() {
        if let Some(rest) = left.strip_prefix('.') {
            let end = rest.find(['.', '[']).unwrap_or(rest.len());
            let name = &rest[..end];
            left = &rest[end..];
            if !name.is_empty() {
                here = here.into_iter().filter_map(|value| value.get(name)).collect();
            }
        } else if let Some(rest) = left.strip_prefix('[') {
            let Some(end) = closing(rest) else { return Vec::new() };
            let inner = rest[..end].trim();
            left = &rest[end + 1..];
            here = here.into_iter().flat_map(|value| step(value, inner)).collect();
        } else {
            return Vec::new();
        }
    }
    here.retain(|value| !value.is_null());
    here
}

fn closing(text: &str) -> Option<usize> {
    let mut quote = None;
    for (at, letter) in text.char_indices() {
        match (quote, letter) {
            (Some(open), letter) if letter == open => quote = None,
            (Some(_), _) => {}
            (None, '"' | '\'') => quote = Some(letter),
            (None, ']') => return Some(at),
            (None, _) => {}
        }
    }
    None
}

fn step<'a>(value: &'a Value, inner: &str) -> Vec<&'a Value> {
    let unquoted = |text: &str| text.trim().trim_matches(['"', '\'']).to_owned();
    if inner == "*" {
        return match value {
            Value::Array(items) => items.iter().collect(),
            Value::Object(map) => map.values().collect(),
            _ => Vec::new(),
        };
    }
    if let Some(filter) = inner.strip_prefix("?(").and_then(|text| text.strip_suffix(')')) {
        let (left, right, equal) = match (filter.split_once("=="), filter.split_once("!=")) {
            (Some((left, right)), _) => (left, right, true),
            (None, Some((left, right))) => (left, right, false),
            (None, None) => return Vec::new(),
        };
        let (left, right) = (left.trim().trim_start_matches('@').to_owned(), unquoted(right));
        let items = value.as_array().map(Vec::as_slice).unwrap_or_default();
        let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        return items
            .iter()
            .filter(|item| json_path(item, &left).iter().any(|value| text(value) == right) == equal)
            .collect();
    }
    if let Ok(index) = inner.parse::<i64>() {
        let items = value.as_array().map(Vec::as_slice).unwrap_or_default();
        let at = if index < 0 { items.len() as i64 + index } else { index };
        return usize::try_from(at).ok().and_then(|at| items.get(at)).into_iter().collect();
    }
    value.get(unquoted(inner)).into_iter().collect()
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

    #[test]
    fn printer_columns_follow_their_paths() {
        let object = json!({
            "spec": {"a": 1, "list": [{"name": "x", "v": 1}, {"name": "y", "v": 2}], "odd.key": "k"},
            "status": {"conditions": [{"type": "Ready", "status": "True"}]},
        });
        let cases = [
            (".spec.a", vec![json!(1)]),
            (".spec.list[0].v", vec![json!(1)]),
            (".spec.list[-1].v", vec![json!(2)]),
            (".spec.list[*].name", vec![json!("x"), json!("y")]),
            (".spec['odd.key']", vec![json!("k")]),
            (".status.conditions[?(@.type==\"Ready\")].status", vec![json!("True")]),
            (".status.conditions[?(@.type=='Other')].status", vec![]),
            (".spec.missing.deeper", vec![]),
            (".spec[", vec![]),
        ];
        for (path, expected) in cases {
            assert_eq!(json_path(&object, path).into_iter().cloned().collect::<Vec<_>>(), expected, "{path}");
        }
    }
}
