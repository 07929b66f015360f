//! Server-side apply, and who owns which fields after every other write.
//!
//! ```text
//! creation             ── created ──┐
//! update, patch, status ─ updated ──┤ entries ── beside the object, as bytes ── metadata.managedFields of what is stored
//! apply                ── patch ────┘
//! ```
//!
//! An update whose entries differ from the stored ones in nothing but times, of an object that does not differ at all, changes
//! nothing. What the server writes of its own accord leaves entries as they are.
//!
//! <https://kubernetes.io/docs/reference/using-api/server-side-apply/>

use std::sync::Arc;

use api::{
    apply::{
        self, ApplyError, Versions, Writer,
        entries::{self, Entry},
        form::Form,
        reset,
        set::Set,
    },
    json, meta,
    schema::Type,
    status::{Cause, Reason, Status},
};
use bytes::Bytes;
use http::Response;
use jiff::Timestamp;
use serde_json::Value;
use serve::body::Body;

use crate::{
    call::Call,
    options::{FieldValidation, WriteOptions},
    patch, read,
    registry::{Resource, Served},
    scan,
    server::Server,
    write::{self, Manner, Target},
};

/// The media type of a configuration to apply.
pub const MEDIA: &str = "application/apply-patch+yaml";

/// Whether a call brings a configuration to apply.
pub fn is_apply(call: &Call) -> bool {
    call.header(http::header::CONTENT_TYPE).split(';').next().unwrap_or_default().trim() == MEDIA
}

/// The name under which a call owns what it writes.
pub fn manager(call: &Call, options: &WriteOptions) -> String {
    if options.field_manager.is_empty() {
        apply::manager_of_agent(call.user_agent())
    } else {
        options.field_manager.clone()
    }
}

/// The type of a version's objects; none where it is not served.
fn form<'r>(resource: &'r Resource, served: &Served) -> Option<Form<'r>> {
    match (&resource.definition, served.schema) {
        (Some(definition), _) => Some(Form::resource(definition.version(served.kind.version)?.structural())),
        (None, schema) => schema.map(Form::Type),
    }
}

fn forms(resource: &Resource) -> Vec<(String, Form<'_>)> {
    let of = |served: &Served| Some((served.kind.api_version(), form(resource, served)?));
    resource.versions.iter().filter_map(of).collect()
}

/// An object of one served version in another, as fields are owned in it. Where a webhook converts, nobody is asked: fields
/// that have the same names in both versions are compared, others are taken for unchanged.
fn converted(resource: &Resource, from: &Served, object: &Value, to: &str) -> Value {
    let of = |version: &str| resource.versions.iter().find(|served| served.kind.api_version() == version);
    let mut object = object.clone();
    let Some(to) = of(to) else { return object };
    let from = object.get("apiVersion").and_then(Value::as_str).and_then(of).unwrap_or(from);
    match &resource.definition {
        Some(_) => meta::set_type(&mut object, &to.kind.gvk()),
        None => api::kinds::convert(&from.kind, &to.kind, &mut object),
    }
    object
}

/// Entries of a new object; `sent` is what the request has there, or what a change brings that knows.
pub fn created(
    call: &Call,
    target: Target<'_>,
    value: &Value,
    sent: Option<Value>,
    options: &WriteOptions,
    manner: Manner,
    now: Timestamp,
) -> Tracked {
    let (resource, served) = (target.resource, target.served());
    let (manager, version, now) = (manager(call, options), served.kind.api_version(), meta::rfc3339(now));
    let writer = Writer { manager: &manager, api_version: &version, subresource: target.sub, now: &now };
    let reset = reset::fields(&served.kind, target.sub);
    let sent = sent.filter(|sent| !entries::is_reset(sent)).and_then(|sent| entries::parse(&sent).ok());
    let bytes = match sent.filter(|sent| !sent.is_empty()) {
        Some(sent) if manner.tracked => entries::write(&sent),
        None if manner.tracked => Vec::new(),
        None => form(resource, served).map(|form| apply::created(form, value, &reset, &writer)).unwrap_or_default(),
        Some(sent) => {
            let convert = |object: &Value, to: &str| converted(resource, served, object, to);
            let versions = Versions { served: forms(resource), convert: &convert, reset: &reset };
            entries::write(&apply::update(&versions, &Value::Null, value, sent, &writer))
        }
    };
    Tracked { bytes, same: false }
}

/// Entries of an object after an update.
#[derive(Debug)]
pub struct Tracked {
    /// `metadata.managedFields` as JSON bytes; none where there are no entries.
    bytes: Vec<u8>,
    /// They differ from the stored ones in nothing but times.
    same: bool,
}

/// What an update makes of the entries `stored`; `sent` is what the request has there, or what a change brings that knows.
pub fn updated(
    call: &Call,
    target: Target<'_>,
    (old, new): (&Value, &Value),
    (stored, sent): (Option<Value>, Option<Value>),
    options: &WriteOptions,
    manner: Manner,
    now: Timestamp,
) -> Tracked {
    let sent = sent.filter(|sent| manner.tracked || stored.as_ref() != Some(sent));
    let stored = stored.map(|stored| entries::parse(&stored).unwrap_or_default()).unwrap_or_default();
    let after = if manner.plain {
        stored.clone()
    } else if manner.tracked {
        sent.and_then(|sent| entries::parse(&sent).ok()).unwrap_or_default()
    } else {
        let (resource, served) = (target.resource, target.served());
        let (manager, version, now) = (manager(call, options), served.kind.api_version(), meta::rfc3339(now));
        let writer = Writer { manager: &manager, api_version: &version, subresource: target.sub, now: &now };
        let convert = |object: &Value, to: &str| converted(resource, served, object, to);
        let reset = reset::fields(&served.kind, target.sub);
        let versions = Versions { served: forms(resource), convert: &convert, reset: &reset };
        apply::update(&versions, old, new, before(&stored, sent, target.sub), &writer)
    };
    Tracked { same: entries::same_but_times(&stored, &after), bytes: entries::write(&after) }
}

/// The entries that hold before an update: those that the request sends, if it may and they say anything.
fn before(stored: &[Entry], sent: Option<Value>, sub: &str) -> Vec<Entry> {
    match sent.filter(|_| sub.is_empty()) {
        Some(sent) if entries::is_reset(&sent) => Vec::new(),
        Some(sent) => match entries::parse(&sent) {
            Ok(sent) if !sent.is_empty() => sent,
            _ => stored.to_vec(),
        },
        None => stored.to_vec(),
    }
}

const PLACE: [&str; 2] = ["metadata", "managedFields"];

impl Tracked {
    /// The bytes that are stored of `object`; the present ones where nothing but a time would change.
    pub fn stored(&self, object: &Value, current: Option<&Bytes>) -> Bytes {
        let Some(current) = current.filter(|_| self.same) else {
            return json::to_canonical_with(object, &self.bytes);
        };
        let before = scan::find(current, &PLACE).unwrap_or_default();
        let unchanged = json::to_canonical_with(object, before);
        if unchanged == *current || before == self.bytes {
            return unchanged;
        }
        let Some(place) = scan::find(&unchanged, &PLACE) else { return unchanged };
        let start = place.as_ptr() as usize - unchanged.as_ptr() as usize;
        let mut bytes = Vec::with_capacity(unchanged.len());
        bytes.extend_from_slice(&unchanged[..start]);
        bytes.extend_from_slice(&self.bytes);
        bytes.extend_from_slice(&unchanged[start + before.len()..]);
        bytes.into()
    }
}

/// PATCH with a configuration: of an object, which it creates where there is none, or of a sub-resource that has its form.
pub async fn patch(
    server: &Server,
    call: &Call,
    resource: &Arc<Resource>,
    version: usize,
) -> Result<Response<Body>, Status> {
    let served = &resource.versions[version];
    read::wire(call, served, version)?;
    let config = call.read_body().await?;
    let options = WriteOptions::parse_patch(&call.query, true)?;
    let config = configuration(call, &config, options.field_validation)?;
    let kind = &served.kind;
    check_type(&config, &kind.gvk())?;
    let target = Target::of(call, resource, version);
    let convert = |object: &Value, to: &str| converted(resource, served, object, to);
    let reset = reset::fields(kind, target.sub);
    let versions = Versions { served: forms(resource), convert: &convert, reset: &reset };
    let now = meta::rfc3339(server.now());
    let api_version = kind.api_version();
    let writer =
        Writer { manager: &options.field_manager, api_version: &api_version, subresource: target.sub, now: &now };
    let change = |old: &Value| {
        let (mut object, entries) = applied(&versions, old, &config, &writer, options.force)?;
        write::fit_namespace(target.namespace, &mut object)?;
        if old.is_null() && !meta::uid(&object).is_empty() {
            let uid = meta::uid(&object);
            let why =
                format!("uid mismatch: the provided object specified uid {uid}, and no existing object was found");
            return Err(Status::conflict(kind.resource(), target.name, &why));
        }
        let mut new = patch::complete(call, resource, served, object, FieldValidation::Ignore)?;
        meta::metadata_mut(&mut new).insert("managedFields".to_owned(), entries::to_value(&entries));
        Ok(new)
    };
    let manner = Manner { upsert: target.sub.is_empty(), retry: true, tracked: true, ..Manner::default() };
    let updated = write::update(server, call, target, &change, &options, manner).await?;
    read::shown(server, call, resource, version, &updated.object, if updated.created { 201 } else { 200 }).await
}

/// Applies a configuration to an object as it is stored, null where there is none.
pub fn applied(
    versions: &Versions<'_>,
    old: &Value,
    config: &Value,
    writer: &Writer<'_>,
    force: bool,
) -> Result<(Value, Vec<Entry>), Status> {
    let stored = old.pointer("/metadata/managedFields").unwrap_or(&Value::Null);
    let managed = entries::parse(stored).map_err(|error| {
        Status::new(500, Reason::Unknown, format!("failed to decode managed fields: {error}"), None)
    })?;
    let applied = apply::apply(versions, old, config, managed, writer, force).map_err(refused)?;
    Ok((applied.object, applied.entries))
}

fn refused(error: ApplyError) -> Status {
    match error {
        ApplyError::Type(text) => Status::new(500, Reason::Unknown, text, None),
        ApplyError::Conflicts(conflicts) => {
            let cause = |conflict: &apply::Conflict| Cause {
                reason: "FieldManagerConflict".to_owned(),
                message: format!("conflict with {}", conflict.owner.shown()),
                field: conflict.field(),
            };
            let causes = conflicts.iter().map(cause).collect();
            Status::apply_conflict(&apply::conflict_message(&conflicts), causes)
        }
    }
}

/// Reads a configuration: YAML, of which JSON is a part. Keys that come twice are told or refused.
pub fn configuration(call: &Call, bytes: &Bytes, validation: FieldValidation) -> Result<Value, Status> {
    let refused = |error: String| Status::bad_request(format!("error decoding patch: {error}"));
    // Clients send JSON, which is parsed faster and bounded in depth.
    let plain = bytes.trim_ascii_start().starts_with(b"{").then(|| json::parse(bytes).ok()).flatten();
    let (value, repeated) = match plain {
        Some(parsed) if parsed.duplicates.is_empty() => (parsed.value, None),
        Some(parsed) => (parsed.value, strict(bytes).err()),
        None => match strict(bytes) {
            Ok(value) => (value, None),
            Err(error) => (lenient(bytes).map_err(refused)?, Some(error)),
        },
    };
    if !value.is_object() {
        let text = "json: cannot unmarshal into Go value of type map[string]interface {}";
        return Err(refused(format!("error unmarshaling JSON: while decoding JSON: {text}")));
    }
    match (repeated, validation) {
        (Some(error), FieldValidation::Strict) => {
            Err(Status::bad_request(format!("error strict decoding patch: {error}")))
        }
        (Some(error), FieldValidation::Warn) => {
            call.warn(error);
            Ok(value)
        }
        _ => Ok(value),
    }
}

/// Refuses keys that come twice, in upstream's words.
fn strict(bytes: &[u8]) -> Result<Value, String> {
    yaml(bytes, serde_saphyr::DuplicateKeyPolicy::Error).map_err(|error| {
        let error = match error.without_snippet() {
            serde_saphyr::Error::DuplicateMappingKey { key, location } => {
                let key = key.clone().unwrap_or_default();
                format!("unmarshal errors:\n  line {}: key {key:?} already set in map", location.line())
            }
            other => other.to_string(),
        };
        format!("error converting YAML to JSON: yaml: {error}")
    })
}

fn lenient(bytes: &[u8]) -> Result<Value, String> {
    yaml(bytes, serde_saphyr::DuplicateKeyPolicy::LastWins)
        .map_err(|error| format!("error converting YAML to JSON: yaml: {error}"))
}

fn yaml(bytes: &[u8], duplicates: serde_saphyr::DuplicateKeyPolicy) -> Result<Value, serde_saphyr::Error> {
    let options = serde_saphyr::options! { duplicate_keys: duplicates };
    serde_saphyr::from_slice_with_options(bytes, options)
}

/// A configuration names the type that it is applied to, and no entries.
pub fn check_type(config: &Value, expected: &meta::Gvk) -> Result<(), Status> {
    let own = meta::Gvk::of(config).unwrap_or_default();
    if own != *expected {
        return Err(Status::bad_request(format!("invalid object type: {}", apply::go_kind(&own))));
    }
    if config.pointer("/metadata/managedFields").is_some_and(|entries| !entries.is_null()) {
        return Err(Status::bad_request("metadata.managedFields must be nil"));
    }
    Ok(())
}

/// The Scale's own type, for ownership of a workload's size.
pub fn scale_versions<'a>(none: &'a Set, same: &'a (dyn Fn(&Value, &str) -> Value + Sync)) -> Versions<'a> {
    let schema = Type::named("io.k8s.api.autoscaling.v1.Scale");
    let served = schema.map(|schema| (apply::scale::VERSION.to_owned(), Form::Type(schema)));
    Versions { served: served.into_iter().collect(), convert: same, reset: none }
}
