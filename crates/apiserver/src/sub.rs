//! Sub-resources that have a body: views of an object that may change a part of it, and actions on it.
//!
//! | sub-resource | is |
//! |---|---|
//! | status, resize, ephemeralcontainers, finalize, approval | the object itself, of which only a part is taken |
//! | scale | the size of a workload as a Scale |
//! | binding, eviction, token | an action, posted |

use std::sync::Arc;

use api::{
    defaults,
    kinds::Sub,
    meta::{self, Gvk, Qualified},
    schema::Type,
    status::Status,
    structural, validate,
};
use http::Response;
use serde_json::Value;
use serve::body::Body;

use crate::{
    call::Call,
    decode, encode,
    negotiate::{Accepted, Format, Offer},
    options::FieldValidation,
    patch, read,
    registry::Resource,
    server::Server,
    write,
};

pub mod binding;
mod eviction;
mod scale;
mod token;

/// Answers a request for a sub-resource; its verb is one that the sub-resource has.
pub async fn answer(
    server: &Arc<Server>,
    call: &Call,
    resource: &Arc<Resource>,
    version: usize,
    sub: &Sub,
) -> Result<Response<Body>, Status> {
    match (sub.name, call.info.verb.as_str()) {
        ("scale", verb) => scale::answer(server, call, resource, version, verb).await,
        ("binding", _) => binding::answer(server, call, &call.info.name).await,
        ("eviction", _) => eviction::answer(server, call, resource, version, sub).await,
        ("token", _) => token::answer(server, call, sub).await,
        (_, "get") => read::get(server, call, resource, version).await,
        (_, "update") => write::replace(server, call, resource, version).await,
        (_, "patch") => patch::patch_object(server, call, resource, version).await,
        _ => Err(Status::no_such_resource()),
    }
}

/// Reads the body of an action: an object of that type, checked against its schema, with its defaults. An empty body reads as
/// an empty object.
pub async fn body(call: &Call, gvk: &Gvk, schema: &str, validation: FieldValidation) -> Result<Value, Status> {
    let bytes = call.read_body().await?;
    let mut document = if bytes.is_empty() {
        decode::Document { value: Value::Object(serde_json::Map::new()), duplicates: Vec::new() }
    } else {
        decode::parse(decode::format(call, true)?, &bytes).map_err(|error| {
            let kind = &gvk.kind;
            Status::bad_request(format!(
                "the object provided is unrecognized (must be of type {kind}): couldn't get version/kind; json parse error: \
                 {error}"
            ))
        })?
    };
    let own = |key: &str| document.value.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    let (api_version, kind) = (own("apiVersion"), own("kind"));
    if !document.value.is_object() || !kind.is_empty() && kind != gvk.kind {
        return Err(Status::bad_request(format!(
            "{kind} in version {api_version:?} cannot be handled as a {}",
            gvk.kind
        )));
    }
    if !api_version.is_empty() && api_version != gvk.api_version() {
        return Err(Status::bad_request(format!(
            "the API version in the data ({api_version}) does not match the expected API version ({})",
            gvk.api_version()
        )));
    }
    meta::set_type(&mut document.value, gvk);
    let schema = Type::named(schema).ok_or_else(|| Status::internal(format!("no schema of {schema}")))?;
    let warnings =
        structural::check_parsed(schema, &mut document.value, &document.duplicates, decode::unknown(validation))
            .map_err(|error| {
                let (kind, version) = (&gvk.kind, &gvk.version);
                Status::bad_request(format!("{kind} in version {version:?} cannot be handled as a {kind}: {error}"))
            })?;
    for warning in warnings {
        call.warn(warning);
    }
    defaults::apply_type(&gvk.group, &gvk.version, &gvk.kind, &mut document.value);
    Ok(document.value)
}

/// Refuses the body of an action that breaks the rules of its kind.
pub fn check(kind: Qualified<'_>, name: &str, object: &Value) -> Result<(), Status> {
    let errors = validate::body(kind, object);
    if errors.is_empty() { Ok(()) } else { Err(Status::invalid(kind, name, &errors)) }
}

/// An object that is not stored, as the answer.
pub fn shown(call: &Call, code: u16, gvk: &Gvk, schema: &str, value: &Value) -> Result<Response<Body>, Status> {
    let accepted = call.accepted(Offer::PLAIN).unwrap_or(Accepted::JSON);
    let bytes = match (accepted.format, Type::named(schema)) {
        (Format::Protobuf, Some(schema)) => {
            api::proto::encode_envelope(gvk, schema, value).map_err(Status::internal)?.into()
        }
        (Format::Yaml, _) => encode::text(Format::Yaml, value),
        _ => encode::json(value, accepted.pretty),
    };
    Ok(call.answer(code, accepted.format.content_type(), bytes))
}
