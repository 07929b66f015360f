//! The entries of `metadata.managedFields`: who owns which fields, since when, in which version.

use std::borrow::Cow;

use serde_json::{Value, json};

use super::set::Set;
use crate::json;
use crate::meta::View;

/// How somebody came to own fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Operation {
    /// By server-side apply.
    Apply,
    /// By any other write.
    Update,
}

impl Operation {
    /// As it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            Operation::Apply => "Apply",
            Operation::Update => "Update",
        }
    }
}

/// One entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Name of the manager; may be empty.
    pub manager: String,
    /// How the fields came to be owned.
    pub operation: Operation,
    /// Version of the object in which the fields are named.
    pub api_version: String,
    /// Sub-resource through which they were written, or "".
    pub subresource: String,
    /// When the entry changed last, RFC 3339 to the second; may be missing.
    pub time: Option<String>,
    /// The fields.
    pub fields: Set,
}

impl Entry {
    /// Whether both are of the same manager in the same role: there is one entry of each.
    pub fn is_of(&self, other: &Entry) -> bool {
        self.manager == other.manager
            && self.operation == other.operation
            && self.subresource == other.subresource
            // What is applied belongs to the manager whatever the version.
            && (self.operation == Operation::Apply || self.api_version == other.api_version)
    }

    /// What upstream tells managers apart and sorts them by: the entry without fields and time, as JSON.
    pub fn identity(&self) -> String {
        let mut out = b"{".to_vec();
        let version = if self.operation == Operation::Apply { "" } else { self.api_version.as_str() };
        let members = [
            ("manager", self.manager.as_str()),
            ("operation", self.operation.as_str()),
            ("apiVersion", version),
            ("subresource", &self.subresource),
        ];
        for (name, text) in members.into_iter().filter(|(_, text)| !text.is_empty()) {
            if out.len() > 1 {
                out.push(b',');
            }
            write_member(&mut out, name, text);
        }
        out.push(b'}');
        String::from_utf8_lossy(&out).into_owned()
    }

    /// As conflicts name it.
    pub fn shown(&self) -> String {
        let mut text = crate::status::quote(&self.manager);
        if !self.subresource.is_empty() {
            text.push_str(" with subresource ");
            text.push_str(&crate::status::quote(&self.subresource));
        }
        if self.operation == Operation::Update {
            text.push_str(" using ");
            text.push_str(&self.api_version);
        }
        text
    }

    /// Whether it says the same but for the time.
    fn same_but_time(&self, other: &Entry) -> bool {
        self.is_of(other) && self.api_version == other.api_version && self.fields == other.fields
    }
}

/// Whether two lists say the same but for the times.
pub fn same_but_times(left: &[Entry], right: &[Entry]) -> bool {
    left.len() == right.len() && left.iter().zip(right).all(|(left, right)| left.same_but_time(right))
}

/// Whether `metadata.managedFields` asks for all entries to be dropped: an empty list, or one with one empty entry.
pub fn is_reset(managed: &Value) -> bool {
    match managed.as_array().map(Vec::as_slice) {
        Some([]) => true,
        Some([only]) => only.as_object().is_some_and(|entry| entry.values().all(|value| View::new(value).is_zero())),
        _ => false,
    }
}

/// Reads `metadata.managedFields`; the error is upstream's.
pub fn parse(managed: &Value) -> Result<Vec<Entry>, String> {
    let mut entries: Vec<Entry> = Vec::new();
    for (i, item) in managed.as_array().into_iter().flatten().enumerate() {
        let view = View::new(item);
        let operation = match view.text("operation") {
            "Apply" => Operation::Apply,
            "Update" => Operation::Update,
            _ => return Err("operation must be `Apply` or `Update`".to_owned()),
        };
        let api_version = view.text("apiVersion").to_owned();
        if api_version.is_empty() {
            return Err("apiVersion must not be empty".to_owned());
        }
        match view.text("fieldsType") {
            "FieldsV1" => {}
            "" => return Err(format!("missing fieldsType in managed fields entry {i}")),
            other => return Err(format!("invalid fieldsType {other:?} in managed fields entry {i}")),
        }
        let fields = Set::parse(item.get("fieldsV1").unwrap_or(&Value::Null))
            .map_err(|error| format!("error decoding set: {error}"))?;
        let entry = Entry {
            manager: view.text("manager").to_owned(),
            operation,
            api_version,
            subresource: view.text("subresource").to_owned(),
            time: Some(view.text("time")).filter(|time| !time.is_empty()).map(str::to_owned),
            fields,
        };
        match entries.iter_mut().find(|other| other.is_of(&entry)) {
            Some(other) => *other = entry,
            None => entries.push(entry),
        }
    }
    Ok(entries)
}

/// Sorts entries as they are stored: by operation, time, manager, version and sub-resource.
pub fn sort(entries: &mut [Entry]) {
    entries.sort_by(|left, right| {
        let key = |entry: &Entry| {
            // Times are all of one form, so that their order is that of their texts.
            (entry.operation, Cow::Owned::<'static, str>(entry.time.clone().unwrap_or_default()))
        };
        let rest = |entry: &Entry| [entry.manager.clone(), entry.api_version.clone(), entry.subresource.clone()];
        key(left).cmp(&key(right)).then_with(|| rest(left).cmp(&rest(right)))
    });
}

/// `metadata.managedFields` as JSON bytes; empty for no entries.
pub fn write(entries: &[Entry]) -> Vec<u8> {
    let mut out = Vec::with_capacity(256 * entries.len());
    for entry in entries {
        let head = Head {
            manager: &entry.manager,
            operation: entry.operation,
            api_version: &entry.api_version,
            subresource: &entry.subresource,
            time: entry.time.as_deref(),
        };
        out.push(if out.is_empty() { b'[' } else { b',' });
        head.write(&mut out, |out| entry.fields.write(out));
    }
    if !out.is_empty() {
        out.push(b']');
    }
    out
}

/// The same as a tree.
pub fn to_value(entries: &[Entry]) -> Value {
    let bytes = write(entries);
    if bytes.is_empty() { json!([]) } else { serde_json::from_slice(&bytes).unwrap_or_default() }
}

/// An entry without its fields.
#[derive(Clone, Copy, Debug)]
pub(super) struct Head<'a> {
    pub manager: &'a str,
    pub operation: Operation,
    pub api_version: &'a str,
    pub subresource: &'a str,
    pub time: Option<&'a str>,
}

impl Head<'_> {
    /// Appends an entry as JSON, members sorted; `fields` appends the set.
    pub(super) fn write(&self, out: &mut Vec<u8>, fields: impl FnOnce(&mut Vec<u8>)) {
        out.push(b'{');
        write_member(out, "apiVersion", self.api_version);
        out.extend_from_slice(br#","fieldsType":"FieldsV1","fieldsV1":"#);
        fields(out);
        out.push(b',');
        if !self.manager.is_empty() {
            write_member(out, "manager", self.manager);
            out.push(b',');
        }
        write_member(out, "operation", self.operation.as_str());
        if !self.subresource.is_empty() {
            out.push(b',');
            write_member(out, "subresource", self.subresource);
        }
        if let Some(time) = self.time {
            out.push(b',');
            write_member(out, "time", time);
        }
        out.push(b'}');
    }
}

fn write_member(out: &mut Vec<u8>, name: &str, text: &str) {
    json::write_string(out, name);
    out.push(b':');
    json::write_string(out, text);
}
