//! Definitions of the built-in types.

use std::collections::BTreeSet;

use super::Form;
use super::descriptions::Descriptions;
use super::writer::Writer;
use crate::schema::{Field, Kind, Shape, Type};

const META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.";

/// Types that operations of every resource refer to.
pub(super) const ALWAYS: &[&str] = &[
    "io.k8s.apimachinery.pkg.apis.meta.v1.APIResourceList",
    "io.k8s.apimachinery.pkg.apis.meta.v1.DeleteOptions",
    "io.k8s.apimachinery.pkg.apis.meta.v1.ListMeta",
    "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta",
    "io.k8s.apimachinery.pkg.apis.meta.v1.Patch",
    "io.k8s.apimachinery.pkg.apis.meta.v1.Status",
    "io.k8s.apimachinery.pkg.apis.meta.v1.WatchEvent",
];

/// Definitions of types that are not structs in JSON: name, v2 form, v3 form.
const SCALARS: &[(&str, &str, &str)] = &[
    ("io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSON", "{}", "{}"),
    ("io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaPropsOrArray", "{}", "{}"),
    ("io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaPropsOrBool", "{}", "{}"),
    ("io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaPropsOrStringArray", "{}", "{}"),
    (
        "io.k8s.apimachinery.pkg.api.resource.Quantity",
        r#"{"type":"string"}"#,
        r#"{"oneOf":[{"type":"string"},{"type":"number"}]}"#,
    ),
    ("io.k8s.apimachinery.pkg.apis.meta.v1.FieldsV1", r#"{"type":"object"}"#, r#"{"type":"object"}"#),
    (
        "io.k8s.apimachinery.pkg.apis.meta.v1.MicroTime",
        r#"{"format":"date-time","type":"string"}"#,
        r#"{"format":"date-time","type":"string"}"#,
    ),
    ("io.k8s.apimachinery.pkg.apis.meta.v1.Patch", r#"{"type":"object"}"#, r#"{"type":"object"}"#),
    (
        "io.k8s.apimachinery.pkg.apis.meta.v1.Time",
        r#"{"format":"date-time","type":"string"}"#,
        r#"{"format":"date-time","type":"string"}"#,
    ),
    ("io.k8s.apimachinery.pkg.runtime.RawExtension", r#"{"type":"object"}"#, r#"{"type":"object"}"#),
    (
        "io.k8s.apimachinery.pkg.util.intstr.IntOrString",
        r#"{"format":"int-or-string","type":"string"}"#,
        r#"{"format":"int-or-string","oneOf":[{"type":"integer"},{"type":"string"}]}"#,
    ),
];

/// The definition that a shape refers to, if it is not written where it stands.
fn referred(shape: Shape) -> Option<&'static str> {
    const EXTENSIONS: &str = "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.";
    let named = |name: &str| SCALARS.iter().map(|(n, ..)| *n).find(|n| *n == name);
    match shape.kind() {
        Kind::Ref => shape.reference().map(Type::name),
        Kind::Quantity => named("io.k8s.apimachinery.pkg.api.resource.Quantity"),
        Kind::Time => named(&format!("{META}Time")),
        Kind::MicroTime => named(&format!("{META}MicroTime")),
        Kind::FieldsV1 => named(&format!("{META}FieldsV1")),
        Kind::RawExtension => named("io.k8s.apimachinery.pkg.runtime.RawExtension"),
        Kind::IntOrString => named("io.k8s.apimachinery.pkg.util.intstr.IntOrString"),
        Kind::Json => named(&format!("{EXTENSIONS}JSON")),
        Kind::SchemaOrArray => named(&format!("{EXTENSIONS}JSONSchemaPropsOrArray")),
        Kind::SchemaOrBool => named(&format!("{EXTENSIONS}JSONSchemaPropsOrBool")),
        Kind::SchemaOrStringArray => named(&format!("{EXTENSIONS}JSONSchemaPropsOrStringArray")),
        _ => None,
    }
}

/// Adds a type and all that it refers to.
pub(super) fn reach(name: &str, names: &mut BTreeSet<&'static str>) {
    let mut open: Vec<&'static str> = Vec::new();
    open.extend(SCALARS.iter().map(|(n, ..)| *n).find(|n| *n == name).or_else(|| Type::named(name).map(Type::name)));
    while let Some(name) = open.pop() {
        if !names.insert(name) {
            continue;
        }
        for field in Type::named(name).into_iter().flat_map(Type::properties) {
            let mut shape = field.shape();
            while let Some(elem) = shape.elem() {
                shape = elem;
            }
            open.extend(referred(shape));
        }
    }
}

/// Writes one definition.
pub(super) fn write(out: &mut Writer, name: &str, descriptions: &Descriptions, form: Form) {
    if let Some((_, v2, v3)) = SCALARS.iter().find(|(n, ..)| *n == name) {
        let text = if form == Form::V2 { v2 } else { v3 };
        out.raw(text.as_bytes());
        return;
    }
    let Some(of) = Type::named(name) else { return out.raw(b"{}") };
    let mut properties = of.properties();
    properties.sort_by_key(|f| f.name());
    out.object(|out| {
        if let Some(text) = descriptions.of_type(name) {
            out.key("description").string(text);
        }
        if !properties.is_empty() {
            out.key("properties").object(|out| {
                for field in &properties {
                    out.key(field.name());
                    property(out, *field, descriptions.of_field(name, field.name()), form);
                }
            });
        }
        let required: Vec<_> = properties.iter().filter(|f| f.required()).collect();
        if !required.is_empty() {
            out.key("required").array(|out| required.iter().for_each(|f| out.string(f.name())));
        }
        out.key("type").string("object");
        let mut kinds = of.kinds().peekable();
        if kinds.peek().is_some() {
            out.key("x-kubernetes-group-version-kind").array(|out| {
                kinds.for_each(|(group, version, kind)| super::paths::group_version_kind(out, group, version, kind));
            });
        }
        if !of.map_type().is_empty() {
            out.key("x-kubernetes-map-type").string(of.map_type());
        }
        if !of.unions().is_empty() {
            out.key("x-kubernetes-unions").raw(of.unions().as_bytes());
        }
    });
}

fn property(out: &mut Writer, field: Field, description: Option<&str>, form: Form) {
    let shape = field.shape();
    let default = field.default();
    out.object(|out| {
        match referred(shape) {
            Some(name) if form == Form::V3 && (description.is_some() || !default.is_empty()) => {
                // Nothing may stand beside a reference in v3.
                out.key("allOf").array(|out| out.object(|out| out.key("$ref").string(&form.reference(name))));
            }
            Some(name) => out.key("$ref").string(&form.reference(name)),
            None => inline(out, shape, form),
        }
        if form == Form::V3 && !default.is_empty() {
            out.key("default").raw(default.as_bytes());
        }
        if let Some(text) = description {
            out.key("description").string(text);
        }
        let mut values = field.enumeration().peekable();
        if values.peek().is_some() {
            out.key("enum").array(|out| values.for_each(|v| out.string(v)));
        }
        extensions(out, field);
    });
}

fn extensions(out: &mut Writer, field: Field) {
    let mut keys = field.map_keys().peekable();
    if keys.peek().is_some() {
        out.key("x-kubernetes-list-map-keys").array(|out| keys.for_each(|k| out.string(k)));
    }
    let words = [
        ("x-kubernetes-list-type", field.list_type().word()),
        ("x-kubernetes-map-type", field.map_type()),
        ("x-kubernetes-patch-merge-key", field.merge_key()),
        ("x-kubernetes-patch-strategy", field.patch_strategy_word()),
    ];
    for (name, word) in words.into_iter().filter(|(_, word)| !word.is_empty()) {
        out.key(name).string(word);
    }
}

/// Writes the members of a schema that is no reference.
fn inline(out: &mut Writer, shape: Shape, form: Form) {
    let (kind, format) = match shape.kind() {
        Kind::Bool => ("boolean", ""),
        Kind::Int32 => ("integer", "int32"),
        Kind::Int64 => ("integer", "int64"),
        Kind::Double => ("number", "double"),
        Kind::Bytes => ("string", "byte"),
        Kind::List => ("array", ""),
        Kind::Map => ("object", ""),
        Kind::Any => ("object", ""),
        _ => ("string", ""),
    };
    if !format.is_empty() {
        out.key("format").string(format);
    }
    if let Some(elem) = shape.elem() {
        let word = if kind == "array" { "items" } else { "additionalProperties" };
        out.key(word).object(|out| match referred(elem) {
            Some(name) => out.key("$ref").string(&form.reference(name)),
            None => inline(out, elem, form),
        });
    }
    out.key("type").string(kind);
}
