//! From the JSON of a schema to [`Node`]s.

use serde_json::Value;

use super::{Additional, Checks, JsonType, Node, Pattern, Types};
use crate::schema::ListType;

/// Compiles a schema; what it may not have was refused before, and is ignored.
pub(super) fn node(schema: &Value) -> Node {
    let flag = |name: &str| schema[name] == true;
    let properties = schema["properties"].as_object();
    let mut properties: Box<[(Box<str>, Node)]> =
        properties.into_iter().flatten().map(|(k, v)| (k.as_str().into(), node(v))).collect();
    properties.sort_by(|a, b| a.0.cmp(&b.0));
    Node {
        types: types(schema),
        nullable: flag("nullable"),
        preserve: flag("x-kubernetes-preserve-unknown-fields"),
        embedded: flag("x-kubernetes-embedded-resource"),
        atomic_map: schema["x-kubernetes-map-type"] == "atomic",
        list_type: match schema["x-kubernetes-list-type"].as_str() {
            Some("atomic") => Some(ListType::Atomic),
            Some("set") => Some(ListType::Set),
            Some("map") => Some(ListType::Map),
            _ => None,
        },
        items: schema.get("items").filter(|i| i.is_object()).map(|i| Box::new(node(i))),
        properties,
        additional: match &schema["additionalProperties"] {
            Value::Bool(true) => Additional::Allowed,
            Value::Bool(false) => Additional::Forbidden,
            schema @ Value::Object(_) => Additional::Schema(Box::new(node(schema))),
            _ => Additional::Unset,
        },
        default: schema.get("default").filter(|d| !d.is_null()).map(|d| Box::new(d.clone())),
        checks: checks(schema),
    }
}

fn types(schema: &Value) -> Types {
    if schema["x-kubernetes-int-or-string"] == true {
        return Types::IntOrString;
    }
    match schema["type"].as_str() {
        Some("array") => Types::One(JsonType::Array),
        Some("boolean") => Types::One(JsonType::Boolean),
        Some("integer") => Types::One(JsonType::Integer),
        Some("number") => Types::One(JsonType::Number),
        Some("object") => Types::One(JsonType::Object),
        Some("string") => Types::One(JsonType::String),
        _ => Types::Any,
    }
}

fn checks(schema: &Value) -> Option<Box<Checks>> {
    const WORDS: [&str; 22] = [
        "format",
        "maximum",
        "exclusiveMaximum",
        "minimum",
        "exclusiveMinimum",
        "multipleOf",
        "maxLength",
        "minLength",
        "pattern",
        "maxItems",
        "minItems",
        "uniqueItems",
        "maxProperties",
        "minProperties",
        "required",
        "enum",
        "allOf",
        "anyOf",
        "oneOf",
        "not",
        "x-kubernetes-list-map-keys",
        "x-kubernetes-validations",
    ];
    if !schema.as_object()?.keys().any(|k| WORDS.contains(&k.as_str())) {
        return None;
    }
    let number = |name: &str| schema[name].as_f64();
    let count = |name: &str| schema[name].as_i64();
    let words = |name: &str| -> Box<[Box<str>]> {
        schema[name].as_array().into_iter().flatten().filter_map(Value::as_str).map(Into::into).collect()
    };
    let nodes = |name: &str| -> Box<[Node]> { schema[name].as_array().into_iter().flatten().map(node).collect() };
    Some(Box::new(Checks {
        format: super::format::supported(schema).map(Into::into),
        maximum: number("maximum"),
        exclusive_maximum: schema["exclusiveMaximum"] == true,
        minimum: number("minimum"),
        exclusive_minimum: schema["exclusiveMinimum"] == true,
        multiple_of: number("multipleOf"),
        max_length: count("maxLength"),
        min_length: count("minLength"),
        pattern: schema["pattern"].as_str().filter(|p| !p.is_empty()).map(Pattern::new),
        max_items: count("maxItems"),
        min_items: count("minItems"),
        unique_items: schema["uniqueItems"] == true,
        max_properties: count("maxProperties"),
        min_properties: count("minProperties"),
        required: words("required"),
        enumeration: schema["enum"].as_array().into_iter().flatten().cloned().collect(),
        list_map_keys: words("x-kubernetes-list-map-keys"),
        all_of: nodes("allOf"),
        any_of: nodes("anyOf"),
        one_of: nodes("oneOf"),
        not: schema.get("not").filter(|n| n.is_object()).map(|n| Box::new(node(n))),
    }))
}
