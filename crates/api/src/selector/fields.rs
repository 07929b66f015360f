//! Field selectors: which fields each kind offers, parsing, matching.

use std::borrow::Cow;
use std::fmt;

use serde_json::Value;

use crate::kinds::Kind;
use crate::meta::View;
use crate::status::quote;

/// Fields that can be selected by, beyond `metadata.name` and `metadata.namespace`.
struct Row {
    group: &'static str,
    kind: &'static str,
    fields: &'static [&'static str],
    /// Whether `metadata.namespace` can be selected by.
    namespace: bool,
}

const ROWS: &[Row] = &[
    Row {
        group: "",
        kind: "Pod",
        fields: &[
            "spec.nodeName",
            "spec.restartPolicy",
            "spec.schedulerName",
            "spec.serviceAccountName",
            "spec.hostNetwork",
            "status.phase",
            "status.podIP",
            "status.podIPs",
            "status.nominatedNodeName",
        ],
        namespace: true,
    },
    Row { group: "", kind: "Node", fields: &["spec.unschedulable"], namespace: false },
    Row { group: "", kind: "ReplicationController", fields: &["status.replicas"], namespace: true },
    Row {
        group: "",
        kind: "Event",
        fields: &[
            "involvedObject.kind",
            "involvedObject.namespace",
            "involvedObject.name",
            "involvedObject.uid",
            "involvedObject.apiVersion",
            "involvedObject.resourceVersion",
            "involvedObject.fieldPath",
            "reason",
            "reportingComponent",
            "source",
            "type",
        ],
        namespace: true,
    },
    Row {
        group: "events.k8s.io",
        kind: "Event",
        fields: &[
            "reason",
            "regarding.kind",
            "regarding.namespace",
            "regarding.name",
            "regarding.uid",
            "regarding.apiVersion",
            "regarding.resourceVersion",
            "regarding.fieldPath",
            "reportingController",
            "type",
        ],
        namespace: true,
    },
    Row { group: "", kind: "Namespace", fields: &["status.phase"], namespace: false },
    Row { group: "", kind: "Secret", fields: &["type"], namespace: true },
    Row { group: "", kind: "Service", fields: &["spec.clusterIP", "spec.type"], namespace: true },
    Row { group: "batch", kind: "Job", fields: &["status.successful"], namespace: true },
    Row {
        group: "certificates.k8s.io",
        kind: "CertificateSigningRequest",
        fields: &["spec.signerName"],
        namespace: false,
    },
    Row { group: "certificates.k8s.io", kind: "ClusterTrustBundle", fields: &["spec.signerName"], namespace: false },
    Row {
        group: "certificates.k8s.io",
        kind: "PodCertificateRequest",
        fields: &["spec.signerName", "spec.podName", "spec.nodeName"],
        namespace: true,
    },
    Row {
        group: "resource.k8s.io",
        kind: "ResourceSlice",
        fields: &["spec.nodeName", "spec.driver", "spec.pool.name"],
        namespace: false,
    },
];

#[derive(Debug, Clone, PartialEq, Eq)]
struct Term {
    field: String,
    equal: bool,
    value: String,
}

/// A field selector: terms that must all hold.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Fields {
    terms: Vec<Term>,
}

impl Fields {
    /// Selects everything.
    pub fn everything() -> Fields {
        Fields::default()
    }

    /// Reads the text form for objects of a kind. The error is upstream's message, also for a field that the kind does not
    /// offer.
    pub fn parse(kind: &Kind, text: &str) -> Result<Fields, String> {
        Fields::parse_custom::<&str>(kind, text, &[])
    }

    /// The same for a custom resource whose definition lists fields to select by (`selectableFields[].jsonPath`, `.spec.a`).
    pub fn parse_custom<S: AsRef<str>>(kind: &Kind, text: &str, selectable: &[S]) -> Result<Fields, String> {
        let mut parts = split_terms(text);
        parts.sort_unstable();
        let mut terms = Vec::new();
        for part in parts.into_iter().filter(|part| !part.is_empty()) {
            let (field, equal, value) =
                split_term(part).ok_or_else(|| format!("invalid selector: '{text}'; can't understand '{part}'"))?;
            let value = unescape(value)?;
            let field = supported(kind, field, selectable)?;
            terms.push(Term { field: field.to_owned(), equal, value: value.into_owned() });
        }
        Ok(Fields { terms })
    }

    /// Whether it selects everything.
    pub fn is_everything(&self) -> bool {
        self.terms.is_empty()
    }

    /// The value that a field must have, if it must have a single one: `metadata.name=a` needs only one object.
    pub fn exact(&self, field: &str) -> Option<&str> {
        self.terms.iter().find(|term| term.equal && term.field == field).map(|term| term.value.as_str())
    }

    /// Whether an object of that kind satisfies every term.
    pub fn matches(&self, kind: &Kind, object: &Value) -> bool {
        self.terms.iter().all(|term| {
            let value = field_value(kind, object, &term.field);
            (value == term.value) == term.equal
        })
    }
}

impl fmt::Display for Fields {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, term) in self.terms.iter().enumerate() {
            let comma = if position > 0 { "," } else { "" };
            let operator = if term.equal { "=" } else { "!=" };
            let value = term.value.replace('\\', "\\\\").replace(',', "\\,").replace('=', "\\=");
            write!(f, "{comma}{}{operator}{value}", term.field)?;
        }
        Ok(())
    }
}

fn supported<'a, S: AsRef<str>>(kind: &Kind, field: &'a str, selectable: &[S]) -> Result<&'a str, String> {
    let unsupported = || format!("field label not supported: {field}");
    if kind.is_custom() {
        let own = selectable.iter().any(|path| path.as_ref().trim_start_matches('.') == field);
        let known = field == "metadata.name" || (field == "metadata.namespace" && kind.namespaced) || own;
        return if known { Ok(field) } else { Err(unsupported()) };
    }
    match ROWS.iter().find(|row| row.group == kind.group && row.kind == kind.kind) {
        None if matches!(field, "metadata.name" | "metadata.namespace") => Ok(field),
        None => Err(format!(
            "{} is not a known field selector: only \"metadata.name\", \"metadata.namespace\"",
            quote(field)
        )),
        Some(row) => match field {
            "metadata.name" => Ok(field),
            "metadata.namespace" if row.namespace => Ok(field),
            "spec.host" if row.kind == "Pod" => Ok("spec.nodeName"),
            field if row.fields.contains(&field) => Ok(field),
            _ => Err(unsupported()),
        },
    }
}

fn field_value<'a>(kind: &Kind, object: &'a Value, field: &str) -> Cow<'a, str> {
    let view = View::new(object);
    match (kind.kind, field) {
        ("Pod", "status.podIPs") => {
            let addresses: Vec<&str> = view.at("status").list("podIPs").map(|ip| ip.text("ip")).collect();
            addresses.join(",").into()
        }
        ("Pod", "spec.hostNetwork") => flag(view.at("spec").is("hostNetwork")),
        ("Node", "spec.unschedulable") => flag(view.at("spec").is("unschedulable")),
        ("Job", "status.successful") => view.at("status").int("succeeded").unwrap_or(0).to_string().into(),
        ("ReplicationController", "status.replicas") => {
            view.at("status").int("replicas").unwrap_or(0).to_string().into()
        }
        ("Event", "source") => match view.at("source").text("component") {
            "" => view.text("reportingComponent").into(),
            component => component.into(),
        },
        _ => {
            let mut value = view;
            for part in field.split('.') {
                value = value.at(part);
            }
            match value.value() {
                Value::String(text) => text.as_str().into(),
                Value::Bool(value) => flag(*value),
                Value::Number(number) => number.to_string().into(),
                _ => "".into(),
            }
        }
    }
}

fn flag(value: bool) -> Cow<'static, str> {
    if value { "true".into() } else { "false".into() }
}

/// Terms between commas that no backslash precedes.
fn split_terms(text: &str) -> Vec<&str> {
    let (mut terms, mut start, mut escaped) = (Vec::new(), 0, false);
    for (position, byte) in text.bytes().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b',' => {
                terms.push(&text[start..position]);
                start = position + 1;
            }
            _ => {}
        }
    }
    terms.push(&text[start..]);
    terms
}

fn split_term(term: &str) -> Option<(&str, bool, &str)> {
    for (position, _) in term.char_indices() {
        let rest = &term[position..];
        for (operator, equal) in [("!=", false), ("==", true), ("=", true)] {
            if let Some(value) = rest.strip_prefix(operator) {
                return Some((&term[..position], equal, value));
            }
        }
    }
    None
}

fn unescape(value: &str) -> Result<Cow<'_, str>, String> {
    if !value.contains(['\\', ',', '=']) {
        return Ok(value.into());
    }
    let (mut plain, mut escaped) = (String::with_capacity(value.len()), false);
    for letter in value.chars() {
        match letter {
            '\\' | ',' | '=' if escaped => {
                plain.push(letter);
                escaped = false;
            }
            other if escaped => return Err(format!("invalid field selector: invalid escape sequence: \\{other}")),
            '\\' => escaped = true,
            ',' | '=' => {
                return Err(format!("invalid field selector: unescaped character in value: {}", letter as u32));
            }
            other => plain.push(other),
        }
    }
    if escaped {
        return Err("invalid field selector: invalid escape sequence: \\".to_owned());
    }
    Ok(plain.into())
}
