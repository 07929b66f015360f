//! PATCH: JSON patch, merge patch, strategic merge patch. Server-side apply has a module of its own.
//!
//! A patch is applied to the present object and again if someone else was faster, so that it fails only where it contradicts
//! what is there.

use std::sync::Arc;

use api::{
    defaults, json, meta,
    meta::Qualified,
    patch,
    patch::PatchError,
    schema::Type,
    status::{Reason, Status},
    structural,
    validate::FieldError,
};
use bytes::Bytes;
use http::{Response, header};
use serde_json::Value;
use serve::body::Body;

use crate::{
    apply,
    call::Call,
    decode,
    options::{FieldValidation, WriteOptions},
    read,
    registry::{Resource, Served},
    server::Server,
    write::{self, Manner, Target},
};

/// The kinds of patch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// RFC 6902.
    Json,
    /// RFC 7386.
    Merge,
    /// Kubernetes' own, which knows how to merge lists.
    Strategic,
}

/// A patch as it arrived.
#[derive(Debug)]
pub struct Patch {
    kind: Kind,
    value: Value,
}

impl Patch {
    /// Reads the patch of a call. Custom resources have no strategic merge.
    pub async fn read(call: &Call, strategic: bool) -> Result<Self, Status> {
        const ALL: [&str; 4] = [
            "application/json-patch+json",
            "application/merge-patch+json",
            "application/strategic-merge-patch+json",
            apply::MEDIA,
        ];
        const CUSTOM: [&str; 3] = [ALL[0], ALL[1], ALL[3]];
        let media = call.header(header::CONTENT_TYPE).split(';').next().unwrap_or_default().trim().to_owned();
        let kind = match media.as_str() {
            "application/json-patch+json" => Kind::Json,
            "application/merge-patch+json" => Kind::Merge,
            "application/strategic-merge-patch+json" if strategic => Kind::Strategic,
            _ => return Err(Status::unsupported_media_type(if strategic { &ALL } else { &CUSTOM })),
        };
        let bytes = call.read_body().await?;
        Ok(Self { kind, value: parse(kind, &bytes)? })
    }

    /// The object after the patch.
    pub fn apply(&self, served: &Served, old: &Value) -> Result<Value, Status> {
        self.apply_as(served.schema, old)
    }

    /// The same for something of that type.
    pub fn apply_as(&self, schema: Option<Type>, old: &Value) -> Result<Value, Status> {
        let mut new = old.clone();
        let applied = match (self.kind, schema) {
            (Kind::Json, schema) => {
                // Paths of a JSON patch may lead through what upstream prints although nobody set it (`status: {}`).
                if let Some(schema) = schema {
                    structural::complete(schema, &mut new);
                }
                patch::json(&mut new, &self.value)
            }
            (Kind::Merge, _) => patch::merge(&mut new, &self.value),
            (Kind::Strategic, Some(schema)) => patch::strategic(schema, &mut new, &self.value),
            (Kind::Strategic, None) => Err(PatchError::Internal("no schema to merge by".to_owned())),
        };
        applied.map_err(refused)?;
        Ok(new)
    }
}

fn refused(error: PatchError) -> Status {
    match error {
        PatchError::BadRequest(text) => Status::bad_request(text),
        PatchError::Unprocessable(text) => Status::generic(422, "", Qualified { group: "", name: "" }, "", &text),
        PatchError::TooLarge(text) => Status::too_large(&text),
        PatchError::Internal(text) => Status::new(500, Reason::Unknown, text, None),
    }
}

fn parse(kind: Kind, bytes: &Bytes) -> Result<Value, Status> {
    let parsed = json::parse(bytes).map_err(|error| Status::bad_request(format!("error decoding patch: {error}")))?;
    let fits = match kind {
        Kind::Json => parsed.value.is_array(),
        Kind::Merge | Kind::Strategic => parsed.value.is_object(),
    };
    if fits {
        return Ok(parsed.value);
    }
    let into = if kind == Kind::Json { "jsonpatch.Patch" } else { "map[string]interface {}" };
    let what = match parsed.value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    Err(Status::bad_request(format!(
        "error decoding patch: json: cannot unmarshal {what} into Go value of type {into}"
    )))
}

/// PATCH of an object or of a sub-resource that has its form.
pub async fn patch_object(
    server: &Server,
    call: &Call,
    resource: &Arc<Resource>,
    version: usize,
) -> Result<Response<Body>, Status> {
    if apply::is_apply(call) {
        return apply::patch(server, call, resource, version).await;
    }
    let served = &resource.versions[version];
    read::wire(call, served, version)?;
    let patch = Patch::read(call, served.schema.is_some()).await?;
    let options = WriteOptions::parse_patch(&call.query, false)?;
    let target = Target::of(call, resource, version);
    let change = |old: &Value| {
        let new = patch.apply(served, old)?;
        complete(call, resource, served, new, options.field_validation)
    };
    let manner = Manner { retry: true, ..Manner::default() };
    let updated = write::update(server, call, target, &change, &options, manner).await?;
    read::shown(server, call, resource, version, &updated.object, 200).await
}

/// What a patch made is checked against the schema and completed with defaults, as a body would be.
pub fn complete(
    call: &Call,
    resource: &Resource,
    served: &Served,
    mut new: Value,
    validation: FieldValidation,
) -> Result<Value, Status> {
    let kind = &served.kind;
    let own = |key: &str| new.get(key).and_then(Value::as_str).unwrap_or_default();
    if own("kind") != kind.kind || own("apiVersion") != kind.api_version() {
        return Err(Status::bad_request(format!(
            "the API version and kind in the patch ({}, {}) do not match the object's ({}, {})",
            own("apiVersion"),
            own("kind"),
            kind.api_version(),
            kind.kind
        )));
    }
    let Some(schema) = served.schema else {
        let document = decode::Document { value: new, duplicates: Vec::new() };
        return decode::typed(call, resource, served, document, validation);
    };
    let warnings = structural::check(schema, &mut new, decode::unknown(validation)).map_err(|error| {
        let error = FieldError::invalid("patch", Value::String(String::new()), error);
        Status::invalid(kind.group_kind(), meta::name(&new), &[error])
    })?;
    for warning in warnings {
        call.warn(warning);
    }
    defaults::apply(kind, &mut new);
    Ok(new)
}
