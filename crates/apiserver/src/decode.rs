//! From the bytes of a request to an object that is of the right type, free of unknown fields, and complete with defaults.

use api::{
    defaults, json,
    meta::{self, Gvk},
    proto,
    status::Status,
    structural::{self, UnknownFields},
};
use bytes::Bytes;
use serde_json::Value;

use crate::{
    call::Call,
    negotiate::{self, Format},
    options::FieldValidation,
    registry::{Resource, Served},
};

/// A body that was parsed, but not yet compared with a schema.
#[derive(Debug)]
pub struct Document {
    /// The tree.
    pub value: Value,
    /// Paths of keys that came more than once.
    pub duplicates: Vec<String>,
}

const MEDIA: &[&str] = &["application/json", "application/yaml", "application/vnd.kubernetes.protobuf"];

/// The format of a call's body.
pub fn format(call: &Call, protobuf: bool) -> Result<Format, Status> {
    match negotiate::body(call.headers()) {
        Ok(Format::Protobuf) if !protobuf => Err(Status::unsupported_media_type(&MEDIA[..2])),
        Ok(format) => Ok(format),
        Err(_) => Err(Status::unsupported_media_type(if protobuf { MEDIA } else { &MEDIA[..2] })),
    }
}

/// Parses a body. The error is the decoder's text, and the kind of the object if it got that far.
pub fn parse(format: Format, bytes: &Bytes) -> Result<Document, String> {
    match format {
        Format::Json => {
            let parsed = json::parse(bytes).map_err(|error| error.to_string())?;
            Ok(Document { value: parsed.value, duplicates: parsed.duplicates })
        }
        Format::Yaml => {
            let text = std::str::from_utf8(bytes).map_err(|error| format!("error converting YAML to JSON: {error}"))?;
            let value = serde_saphyr::from_str(text)
                .map_err(|error| format!("error converting YAML to JSON: yaml: {error}"))?;
            Ok(Document { value, duplicates: Vec::new() })
        }
        Format::Protobuf => {
            let (gvk, mut value) = proto::decode_envelope(bytes).map_err(|error| error.to_string())?;
            meta::set_type(&mut value, &gvk);
            Ok(Document { value, duplicates: Vec::new() })
        }
    }
}

/// The first bytes of a body, as upstream shows them in errors.
fn summary(bytes: &[u8]) -> String {
    const SHOWN: usize = 30;
    if bytes.is_empty() {
        return "<empty>".to_owned();
    }
    if bytes.first() == Some(&b'{') {
        let end = bytes.len().min(SHOWN);
        let more = if bytes.len() > SHOWN { " ..." } else { "" };
        return format!("{}{more}", String::from_utf8_lossy(&bytes[..end]));
    }
    let hex: String = bytes.iter().take(SHOWN).map(|byte| format!("{byte:02x}")).collect();
    if bytes.len() > SHOWN { format!("{hex} ...") } else { hex }
}

/// Reads the body of a creation or update of `served`.
pub async fn object(
    call: &Call,
    resource: &Resource,
    served: &Served,
    validation: FieldValidation,
) -> Result<Value, Status> {
    let format = format(call, served.schema.is_some())?;
    let bytes = call.read_body().await?;
    let document = parse(format, &bytes).map_err(|error| {
        let kind = served.kind.kind;
        let why = format!("couldn't get version/kind; json parse error: {error}");
        let shown = summary(&bytes);
        Status::bad_request(format!("the object provided is unrecognized (must be of type {kind}): {why} ({shown})"))
    })?;
    typed(call, resource, served, document, validation)
}

/// Makes a parsed body an object of `served`.
pub fn typed(
    call: &Call,
    resource: &Resource,
    served: &Served,
    mut document: Document,
    validation: FieldValidation,
) -> Result<Value, Status> {
    let kind = &served.kind;
    if !document.value.is_object() {
        let shown = summary(document.value.to_string().as_bytes());
        let why = "couldn't get version/kind; json parse error: json: cannot unmarshal into Go value of type struct { \
                   APIVersion string \"json:\\\"apiVersion,omitempty\\\"\"; Kind string \"json:\\\"kind,omitempty\\\"\" }";
        return Err(Status::bad_request(format!(
            "the object provided is unrecognized (must be of type {}): {why} ({shown})",
            kind.kind
        )));
    }
    check_type(served, &mut document.value)?;
    let value = &mut document.value;
    let warnings = match (served.schema, &resource.definition) {
        (Some(schema), _) => structural::check_parsed(schema, value, &document.duplicates, unknown(validation)),
        (None, Some(definition)) => definition.decode(kind.version, value, &document.duplicates, unknown(validation)),
        (None, None) => Err(format!("no schema of {}", kind.kind)),
    };
    let warnings = warnings.map_err(|error| {
        let Gvk { version, .. } = kind.gvk();
        Status::bad_request(format!(
            "{} in version {version:?} cannot be handled as a {}: {error}",
            kind.kind, kind.kind
        ))
    })?;
    for warning in warnings {
        call.warn(warning);
    }
    if resource.definition.is_none() {
        defaults::apply(kind, value);
    }
    Ok(document.value)
}

/// How the schema treats unknown fields.
pub fn unknown(validation: FieldValidation) -> UnknownFields {
    match validation {
        FieldValidation::Ignore => UnknownFields::Ignore,
        FieldValidation::Warn => UnknownFields::Warn,
        FieldValidation::Strict => UnknownFields::Strict,
    }
}

/// Fills in kind and apiVersion, or refuses those of another type.
fn check_type(served: &Served, value: &mut Value) -> Result<(), Status> {
    let expected = served.kind.gvk();
    let own = |key: &str| value.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    let (api_version, kind) = (own("apiVersion"), own("kind"));
    if !kind.is_empty() && kind != expected.kind {
        let version = if api_version.is_empty() { expected.api_version() } else { api_version };
        let version = version.rsplit('/').next().unwrap_or_default();
        return Err(Status::bad_request(format!(
            "{kind} in version {version:?} cannot be handled as a {}: no kind {kind:?} is registered for this resource",
            expected.kind
        )));
    }
    if !api_version.is_empty() && api_version != expected.api_version() {
        return Err(Status::bad_request(format!(
            "the API version in the data ({api_version}) does not match the expected API version ({})",
            expected.api_version()
        )));
    }
    meta::set_type(value, &expected);
    Ok(())
}

/// Reads an optional body of a small type that is no resource (`DeleteOptions`, `TokenRequest`), from JSON, YAML or
/// protobuf; `None` where there is no body.
pub async fn plain(call: &Call, kind: &str) -> Result<Option<Value>, Status> {
    let bytes = call.read_body().await?;
    if bytes.is_empty() {
        return Ok(None);
    }
    let document = parse(format(call, true)?, &bytes)
        .map_err(|error| Status::bad_request(format!("couldn't get version/kind; json parse error: {error}")))?;
    let own = document.value.get("kind").and_then(Value::as_str).unwrap_or_default();
    if !document.value.is_object() || !matches!(own, "" | "Status") && own != kind {
        return Err(Status::bad_request(format!("decoded object cannot be converted to {kind}")));
    }
    Ok(Some(document.value))
}
