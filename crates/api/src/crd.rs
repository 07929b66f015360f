//! Custom resources: their schemas and what is done with objects of them.
//!
//! A CustomResourceDefinition is checked ([`definition_errors`]), its `openAPIV3Schema` too ([`schema_errors`]), which is then
//! compiled ([`Structural`]). An object
//! then goes, in this order, through
//!
//! ```text
//! body -- default (nulls, defaults) -- coerce (metadata) -- prune --> stored form --> validate --> errors
//!         '------------------- Structural::decode -----------------'
//! ```
//!
//! [`Structural`] is compact and keeps patterns uncompiled until they are needed, because some definitions have ten
//! thousand nodes. [`column`] evaluates the JSONPath of printer columns.
//!
//! Specification: <https://kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definitions/>.

mod check;
pub mod column;
mod compile;
mod definition;
mod format;
mod list;
mod pattern;
mod prune;
mod rules;
#[cfg(test)]
mod tests;

use serde_json::{Map, Value};

use crate::schema::{ListType, Type};
use crate::structural::{self, UnknownFields};
use crate::validate::{FieldError, Path};

pub use definition::definition_errors;
pub use rules::schema_errors;

use pattern::Pattern;

/// A compiled structural schema.
#[derive(Debug)]
pub struct Structural {
    root: Node,
}

/// The schema of one value.
#[derive(Debug, Default)]
pub(crate) struct Node {
    pub(crate) types: Types,
    nullable: bool,
    pub(crate) preserve: bool,
    pub(crate) embedded: bool,
    pub(crate) atomic_map: bool,
    pub(crate) list_type: Option<ListType>,
    pub(crate) items: Option<Box<Node>>,
    /// Sorted by name.
    pub(crate) properties: Box<[(Box<str>, Node)]>,
    pub(crate) additional: Additional,
    pub(crate) default: Option<Box<Value>>,
    checks: Option<Box<Checks>>,
}

/// `additionalProperties`.
#[derive(Debug, Default)]
pub(crate) enum Additional {
    #[default]
    Unset,
    Allowed,
    Forbidden,
    Schema(Box<Node>),
}

/// The types that a value may have; none means any.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Types {
    #[default]
    Any,
    One(JsonType),
    IntOrString,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum JsonType {
    Array,
    Boolean,
    Integer,
    Number,
    Object,
    String,
}

/// What few schemas have.
#[derive(Debug, Default)]
struct Checks {
    format: Option<Box<str>>,
    maximum: Option<f64>,
    exclusive_maximum: bool,
    minimum: Option<f64>,
    exclusive_minimum: bool,
    multiple_of: Option<f64>,
    max_length: Option<i64>,
    min_length: Option<i64>,
    pattern: Option<Pattern>,
    max_items: Option<i64>,
    min_items: Option<i64>,
    unique_items: bool,
    max_properties: Option<i64>,
    min_properties: Option<i64>,
    required: Box<[Box<str>]>,
    enumeration: Box<[Value]>,
    list_map_keys: Box<[Box<str>]>,
    all_of: Box<[Node]>,
    any_of: Box<[Node]>,
    one_of: Box<[Node]>,
    not: Option<Box<Node>>,
}

impl Node {
    pub(crate) fn property(&self, name: &str) -> Option<&Node> {
        let at = self.properties.binary_search_by(|(k, _)| k.as_ref().cmp(name)).ok()?;
        Some(&self.properties[at].1)
    }

    fn additional(&self) -> Option<&Node> {
        match &self.additional {
            Additional::Schema(node) => Some(node),
            _ => None,
        }
    }

    /// Keys of a list of type map.
    pub(crate) fn list_map_keys(&self) -> &[Box<str>] {
        self.checks.as_ref().map_or(&[], |checks| &checks.list_map_keys)
    }

    /// Whether a format is named that is checked.
    pub(crate) fn has_format(&self) -> bool {
        self.checks.as_ref().is_some_and(|checks| checks.format.is_some())
    }

    /// The schema of a member: its property's, else that of additional properties.
    fn member(&self, name: &str) -> Option<&Node> {
        self.property(name).or_else(|| self.additional())
    }
}

const METADATA: [&str; 3] = ["apiVersion", "kind", "metadata"];

impl Structural {
    /// Compiles an `openAPIV3Schema`; the errors are those that upstream finds in the schema.
    ///
    /// Paths of errors begin with `openAPIV3Schema`.
    pub fn compile(schema: &Value) -> Result<Structural, Vec<FieldError>> {
        let errors = schema_errors(schema, &Path::new("openAPIV3Schema"), false);
        if errors.is_empty() { Ok(Structural::of_checked(schema)) } else { Err(errors) }
    }

    /// Compiles a schema that was checked when its definition was stored.
    pub fn of_checked(schema: &Value) -> Structural {
        Structural { root: compile::node(schema) }
    }

    /// The schema of the object itself.
    pub(crate) fn root(&self) -> &Node {
        &self.root
    }

    /// Drops what the schema does not have; metadata of the root and of embedded resources stays. Returns the paths of
    /// what was dropped, sorted.
    pub fn prune(&self, object: &mut Value) -> Vec<String> {
        let mut dropped = Vec::new();
        prune::prune(object, Some(&self.root), true, &mut dropped);
        dropped.sort();
        dropped
    }

    /// Sets what is missing to its default, also in place of nulls that are not allowed; other such nulls go.
    pub fn default(&self, object: &mut Value) {
        prune::drop_nulls(object, Some(&self.root));
        prune::default(object, &self.root);
    }

    /// Everything between the body of a request and the stored form: defaults, metadata, pruning.
    ///
    /// Returns warnings, or the decoder's error, as [`structural::check_parsed`] does.
    pub fn decode(
        &self,
        object: &mut Value,
        duplicates: &[String],
        unknown: UnknownFields,
    ) -> Result<Vec<String>, String> {
        self.default(object);
        let mut dropped = Vec::new();
        coerce(object, &self.root, true, &Path::ROOT, &mut dropped).map_err(|e| e.to_string())?;
        dropped.extend(self.prune(object));
        if unknown == UnknownFields::Ignore {
            return Ok(Vec::new());
        }
        let mut reports: Vec<_> = duplicates.iter().map(|path| structural::report("duplicate", path)).collect();
        reports.extend(dropped.iter().map(|path| structural::report("unknown", path)));
        if unknown == UnknownFields::Strict && !reports.is_empty() {
            return Err(format!("strict decoding error: {}", reports.join(", ")));
        }
        Ok(reports)
    }

    /// What upstream finds wrong with a new object: against the schema, in embedded metadata, in lists of type set and map.
    pub fn validate(&self, object: &Value) -> Vec<FieldError> {
        self.validate_against(object, None)
    }

    /// What upstream finds wrong with an update: faults of parts that did not change are let pass.
    pub fn validate_update(&self, new: &Value, old: &Value) -> Vec<FieldError> {
        self.validate_against(new, Some(old))
    }

    fn validate_against(&self, new: &Value, old: Option<&Value>) -> Vec<FieldError> {
        let mut errors = check::validate(&self.root, new, old, None);
        list::embedded(&self.root, new, false, &Path::ROOT, &mut errors);
        let mut before = Vec::new();
        if let Some(old) = old {
            list::duplicates(&self.root, old, &Path::ROOT, &mut before);
        }
        if before.is_empty() {
            list::duplicates(&self.root, new, &Path::ROOT, &mut errors);
        }
        errors
    }
}

/// Checks `apiVersion`, `kind` and `metadata` of the root and of embedded resources, and normalises the metadata.
fn coerce(
    value: &mut Value,
    node: &Node,
    root: bool,
    path: &Path<'_>,
    dropped: &mut Vec<String>,
) -> Result<(), Box<FieldError>> {
    match value {
        Value::Object(map) => {
            if root || node.embedded {
                coerce_metadata(map, path, dropped)?;
            }
            for (key, value) in map.iter_mut() {
                let place = if node.property(key).is_some() { path.child(key) } else { path.key(key) };
                if let Some(node) = node.member(key) {
                    coerce(value, node, false, &place, dropped)?;
                }
            }
        }
        Value::Array(items) => {
            let Some(node) = &node.items else { return Ok(()) };
            for (i, item) in items.iter_mut().enumerate() {
                coerce(item, node, false, &path.index(i), dropped)?;
            }
        }
        _ => {}
    }
    Ok(())
}

fn coerce_metadata(
    map: &mut Map<String, Value>,
    path: &Path<'_>,
    dropped: &mut Vec<String>,
) -> Result<(), Box<FieldError>> {
    for key in ["apiVersion", "kind"] {
        if let Some(value) = map.get(key).filter(|v| !v.is_string()) {
            return Err(Box::new(FieldError::invalid(path.child(key), value.clone(), "must be a string")));
        }
    }
    let of = Type::named("io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta");
    if let (Some(metadata), Some(of)) = (map.get_mut("metadata"), of) {
        let before = metadata.clone();
        let place = path.child("metadata");
        let checked = structural::check(of, metadata, UnknownFields::Warn);
        let reports = checked.map_err(|e| Box::new(FieldError::invalid(place, before, e)))?;
        for report in reports {
            let field = report.strip_prefix("unknown field \"").and_then(|r| r.strip_suffix('"'));
            dropped.extend(field.map(|f| format!("{place}.{f}")));
        }
    }
    Ok(())
}
