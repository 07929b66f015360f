//! What every object carries: type, name, labels, versions, owners; and a safe way to read any field of it.
//!
//! Readers never fail: an absent field, a `null` and a value of the wrong type all read as "nothing" (an empty string, an empty
//! list, `None`), as they would after upstream's decoding of a zero value. Writers create `metadata` where it is missing.
//!
//! <https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/object-meta/>

use std::fmt;

use jiff::Timestamp;
use serde_json::{Map, Value};

#[cfg(test)]
mod tests;
mod view;

pub use view::{Items, View};

/// Group, version and kind of an object.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Gvk {
    /// API group; empty for the core group.
    pub group: String,
    /// Version, `v1`.
    pub version: String,
    /// Kind, `Pod`.
    pub kind: String,
}

impl Gvk {
    /// From its three parts.
    pub fn new(group: impl Into<String>, version: impl Into<String>, kind: impl Into<String>) -> Gvk {
        Gvk { group: group.into(), version: version.into(), kind: kind.into() }
    }

    /// From the two fields of an object; `None` if `apiVersion` has more than one slash.
    pub fn parse(api_version: &str, kind: &str) -> Option<Gvk> {
        let (group, version) = split_api_version(api_version)?;
        Some(Gvk::new(group, version, kind))
    }

    /// `apiVersion` and `kind` of an object; `None` if either is missing or unreadable.
    pub fn of(object: &Value) -> Option<Gvk> {
        let view = View::new(object);
        let (api_version, kind) = (view.text("apiVersion"), view.text("kind"));
        if api_version.is_empty() || kind.is_empty() { None } else { Gvk::parse(api_version, kind) }
    }

    /// `v1` or `apps/v1`.
    pub fn api_version(&self) -> String {
        if self.group.is_empty() { self.version.clone() } else { format!("{}/{}", self.group, self.version) }
    }
}

impl fmt::Display for Gvk {
    /// As upstream shows it in messages: `apps/v1, Kind=Deployment`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, Kind={}", self.api_version(), self.kind)
    }
}

/// `apps/v1` as group and version; the group of `v1` is empty. `None` if there is more than one slash.
pub fn split_api_version(api_version: &str) -> Option<(&str, &str)> {
    match api_version.split_once('/') {
        None => Some(("", api_version)),
        Some((_, version)) if version.contains('/') => None,
        Some((group, version)) => Some((group, version)),
    }
}

/// A resource or kind with its group, shown as `deployments.apps`, or `pods` in the core group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Qualified<'a> {
    /// API group; empty for the core group.
    pub group: &'a str,
    /// Plural of a resource or name of a kind.
    pub name: &'a str,
}

impl fmt::Display for Qualified<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)?;
        if self.group.is_empty() { Ok(()) } else { write!(f, ".{}", self.group) }
    }
}

/// `metadata.name`, or "".
pub fn name(object: &Value) -> &str {
    text(object, "name")
}

/// `metadata.generateName`, or "".
pub fn generate_name(object: &Value) -> &str {
    text(object, "generateName")
}

/// `metadata.namespace`, or "" (always so for cluster-scoped objects).
pub fn namespace(object: &Value) -> &str {
    text(object, "namespace")
}

/// `metadata.uid`, or "".
pub fn uid(object: &Value) -> &str {
    text(object, "uid")
}

/// `metadata.resourceVersion`, or "".
pub fn resource_version(object: &Value) -> &str {
    text(object, "resourceVersion")
}

/// `metadata.generation`, or 0.
pub fn generation(object: &Value) -> i64 {
    metadata(object).int("generation").unwrap_or(0)
}

/// `metadata.labels`.
pub fn labels(object: &Value) -> Option<&Map<String, Value>> {
    metadata(object).map("labels")
}

/// One label, or "".
pub fn label<'a>(object: &'a Value, key: &str) -> &'a str {
    metadata(object).at("labels").text(key)
}

/// `metadata.annotations`.
pub fn annotations(object: &Value) -> Option<&Map<String, Value>> {
    metadata(object).map("annotations")
}

/// One annotation, or "".
pub fn annotation<'a>(object: &'a Value, key: &str) -> &'a str {
    metadata(object).at("annotations").text(key)
}

/// `metadata.creationTimestamp`, RFC 3339.
pub fn creation_timestamp(object: &Value) -> Option<&str> {
    Some(text(object, "creationTimestamp")).filter(|text| !text.is_empty())
}

/// `metadata.deletionTimestamp`, RFC 3339; present once deletion was asked for.
pub fn deletion_timestamp(object: &Value) -> Option<&str> {
    Some(text(object, "deletionTimestamp")).filter(|text| !text.is_empty())
}

/// `metadata.deletionGracePeriodSeconds`.
pub fn deletion_grace_period_seconds(object: &Value) -> Option<i64> {
    metadata(object).int("deletionGracePeriodSeconds")
}

/// `metadata.finalizers`.
pub fn finalizers(object: &Value) -> Vec<&str> {
    metadata(object).list("finalizers").filter_map(|item| item.as_str()).collect()
}

/// `metadata.ownerReferences`, as they are.
pub fn owner_references(object: &Value) -> &[Value] {
    metadata(object).slice("ownerReferences")
}

/// The owner reference with `controller: true`.
pub fn controller_of(object: &Value) -> Option<&Value> {
    owner_references(object).iter().find(|owner| View::new(owner).bool("controller") == Some(true))
}

/// `metadata` to read from.
pub fn metadata(object: &Value) -> View<'_> {
    View::new(object).at("metadata")
}

/// `metadata` to write to; made where it is missing or not an object. An object that is no JSON object becomes one.
pub fn metadata_mut(object: &mut Value) -> &mut Map<String, Value> {
    object_at(object, "metadata")
}

/// Sets `metadata.name`.
pub fn set_name(object: &mut Value, name: &str) {
    set_text(object, "name", name);
}

/// Sets `metadata.namespace`; "" removes it.
pub fn set_namespace(object: &mut Value, namespace: &str) {
    set_text(object, "namespace", namespace);
}

/// Sets `metadata.uid`; "" removes it.
pub fn set_uid(object: &mut Value, uid: &str) {
    set_text(object, "uid", uid);
}

/// Sets `metadata.resourceVersion`; "" removes it.
pub fn set_resource_version(object: &mut Value, version: &str) {
    set_text(object, "resourceVersion", version);
}

/// Sets `metadata.generation`; 0 removes it.
pub fn set_generation(object: &mut Value, generation: i64) {
    let metadata = metadata_mut(object);
    if generation == 0 {
        metadata.remove("generation");
    } else {
        metadata.insert("generation".to_owned(), generation.into());
    }
}

/// Sets `metadata.creationTimestamp`, to the second as upstream stores it.
pub fn set_creation_timestamp(object: &mut Value, time: Timestamp) {
    set_text(object, "creationTimestamp", &rfc3339(time));
}

/// Sets `metadata.deletionTimestamp` (to the second) and `metadata.deletionGracePeriodSeconds`.
pub fn set_deletion(object: &mut Value, time: Timestamp, grace_period_seconds: i64) {
    set_text(object, "deletionTimestamp", &rfc3339(time));
    metadata_mut(object).insert("deletionGracePeriodSeconds".to_owned(), grace_period_seconds.into());
}

/// Sets `metadata.finalizers`; none removes the field.
pub fn set_finalizers<S: AsRef<str>>(object: &mut Value, finalizers: &[S]) {
    let list: Vec<Value> = finalizers.iter().map(|name| name.as_ref().into()).collect();
    set_list(object, "finalizers", list);
}

/// Sets `metadata.ownerReferences`; none removes the field.
pub fn set_owner_references(object: &mut Value, owners: Vec<Value>) {
    set_list(object, "ownerReferences", owners);
}

/// Sets one label.
pub fn set_label(object: &mut Value, key: &str, value: &str) {
    entry_object(metadata_mut(object), "labels").insert(key.to_owned(), value.into());
}

/// Sets one annotation.
pub fn set_annotation(object: &mut Value, key: &str, value: &str) {
    entry_object(metadata_mut(object), "annotations").insert(key.to_owned(), value.into());
}

/// Removes one annotation, and the map with the last.
pub fn remove_annotation(object: &mut Value, key: &str) {
    let metadata = metadata_mut(object);
    if let Some(Value::Object(annotations)) = metadata.get_mut("annotations") {
        annotations.remove(key);
        if annotations.is_empty() {
            metadata.remove("annotations");
        }
    }
}

/// Sets `apiVersion` and `kind`.
pub fn set_type(object: &mut Value, gvk: &Gvk) {
    let map = as_object(object);
    map.insert("apiVersion".to_owned(), gvk.api_version().into());
    map.insert("kind".to_owned(), gvk.kind.as_str().into());
}

/// The member of that name as a JSON object to write to; made where it is missing or something else.
pub fn object_at<'a>(value: &'a mut Value, key: &str) -> &'a mut Map<String, Value> {
    entry_object(as_object(value), key)
}

/// The same for a member of a JSON object.
pub fn entry_object<'a>(map: &'a mut Map<String, Value>, key: &str) -> &'a mut Map<String, Value> {
    if !matches!(map.get(key), Some(Value::Object(_))) {
        map.insert(key.to_owned(), Value::Object(Map::new()));
    }
    match map.get_mut(key) {
        Some(Value::Object(inner)) => inner,
        _ => unreachable!("was just made an object"),
    }
}

/// A time as upstream's `metav1.Time` is written: UTC, whole seconds, `2026-01-02T03:04:05Z`.
pub fn rfc3339(time: Timestamp) -> String {
    let seconds = Timestamp::from_second(time.as_second()).unwrap_or(time);
    seconds.to_string()
}

/// A time as upstream's `metav1.MicroTime` is written: UTC, six digits, `2026-01-02T03:04:05.000006Z`.
pub fn rfc3339_micro(time: Timestamp) -> String {
    format!("{time:.6}")
}

/// Letters and digits of generated names: no vowels, nothing that looks like another.
pub const NAME_ALPHABET: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";

/// Length of the random end of a generated name.
pub const NAME_SUFFIX: usize = 5;

/// A name from `metadata.generateName`: the base, cut so that the whole is at most 63 characters, and five letters chosen by
/// `random`, which returns any number each time it is called.
pub fn generated_name(base: &str, mut random: impl FnMut() -> u32) -> String {
    const LONGEST: usize = 63;
    let mut end = base.len().min(LONGEST - NAME_SUFFIX);
    while !base.is_char_boundary(end) {
        end -= 1;
    }
    let mut name = base[..end].to_owned();
    for _ in 0..NAME_SUFFIX {
        name.push(NAME_ALPHABET[random() as usize % NAME_ALPHABET.len()] as char);
    }
    name
}

fn text<'a>(object: &'a Value, key: &str) -> &'a str {
    metadata(object).text(key)
}

fn set_text(object: &mut Value, key: &str, value: &str) {
    let metadata = metadata_mut(object);
    if value.is_empty() {
        metadata.remove(key);
    } else {
        metadata.insert(key.to_owned(), value.into());
    }
}

fn set_list(object: &mut Value, key: &str, list: Vec<Value>) {
    let metadata = metadata_mut(object);
    if list.is_empty() {
        metadata.remove(key);
    } else {
        metadata.insert(key.to_owned(), list.into());
    }
}

fn as_object(value: &mut Value) -> &mut Map<String, Value> {
    if !value.is_object() {
        *value = Value::Object(Map::new());
    }
    match value {
        Value::Object(map) => map,
        _ => unreachable!("was just made an object"),
    }
}
