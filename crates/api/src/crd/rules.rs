//! What a schema of a CustomResourceDefinition must obey: structural, complete, and nothing that upstream refuses.

use serde_json::{Map, Value, json};

use super::{METADATA, Structural, check, compile, pattern, prune};
use crate::validate::{FieldError, Path};

/// Checks an `openAPIV3Schema` at `path`; `status` says that the version has a status subresource.
pub fn schema_errors(schema: &Value, path: &Path<'_>, status: bool) -> Vec<FieldError> {
    let mut errors = Vec::new();
    if status {
        root_with_status(schema, path, &mut errors);
    }
    if schema["nullable"] == true {
        // Upstream writes the last two members as one.
        errors.push(FieldError::forbidden(path.child("nullable"), "nullable cannot be true at the root"));
    }
    let unsupported = unsupported(schema);
    if unsupported.is_none() {
        let mut found = Vec::new();
        invariants(schema, Level::Root, path, &mut found);
        complete_values(schema, schema, path, path, &mut found);
        found.sort_by_key(|e| e.to_string());
        if found.is_empty() {
            defaults(schema, true, path, &mut found);
        }
        errors.extend(found);
    }
    let standing = Standing { forbidden_defaults: None, inside_metadata: false };
    standard(schema, path, &standing, true, &mut errors);
    if let (true, Some(reason)) = (errors.is_empty(), unsupported) {
        errors.push(FieldError::invalid(path, "", reason));
    }
    errors
}

/// With a status subresource only some fields may stand at the root.
fn root_with_status(schema: &Value, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    const ALLOWED: [&str; 8] =
        ["description", "type", "format", "title", "maximum", "exclusiveMaximum", "minimum", "exclusiveMinimum"];
    const ALSO: [&str; 15] = [
        "maxLength",
        "minLength",
        "pattern",
        "maxItems",
        "minItems",
        "uniqueItems",
        "multipleOf",
        "required",
        "enum",
        "items",
        "properties",
        "externalDocs",
        "example",
        "x-kubernetes-preserve-unknown-fields",
        "x-kubernetes-validations",
    ];
    if let Some(kind) = schema["type"].as_str().filter(|k| *k != "object") {
        let detail =
            "only \"object\" is allowed as the type at the root of the schema if the status subresource is enabled";
        errors.push(FieldError::invalid(path.child("type"), kind, detail));
        return;
    }
    let other = |key: &&String| !ALLOWED.contains(&key.as_str()) && !ALSO.contains(&key.as_str());
    if schema.as_object().into_iter().flat_map(Map::keys).any(|k| other(&k)) {
        let detail = "only [Description Type Format Title Maximum ExclusiveMaximum Minimum ExclusiveMinimum MaxLength MinLength \
                      Pattern MaxItems MinItems UniqueItems MultipleOf Required Items Properties ExternalDocs Example \
                      XPreserveUnknownFields XValidations] fields are allowed at the root of the schema if the status subresource \
                      is enabled";
        errors.push(FieldError::invalid(path, schema.clone(), detail));
    }
}

/// Schemas within a schema, by what holds them.
fn nested<'v>(schema: &'v Value, word: &str) -> impl Iterator<Item = (usize, &'v Value)> {
    schema[word].as_array().into_iter().flatten().enumerate()
}

fn properties(schema: &Value) -> impl Iterator<Item = (&String, &Value)> {
    schema["properties"].as_object().into_iter().flatten()
}

fn text<'v>(schema: &'v Value, word: &str) -> &'v str {
    schema[word].as_str().unwrap_or_default()
}

fn flag(schema: &Value, word: &str) -> bool {
    schema[word] == true
}

/// The first thing of which no structural schema can be made.
fn unsupported(schema: &Value) -> Option<String> {
    let fields = ["id", "$schema", "$ref", "patternProperties", "dependencies", "additionalItems", "definitions"];
    let filled = |value: &Value| match value {
        Value::Null => false,
        Value::String(s) => !s.is_empty(),
        Value::Object(map) => !map.is_empty(),
        _ => true,
    };
    if let Some(field) = fields.iter().find(|f| filled(&schema[**f])) {
        let field = if *field == "$schema" { "schema" } else { field };
        return Some(format!("OpenAPIV3Schema '{field}' is not supported"));
    }
    if schema["items"].is_array() {
        return Some("OpenAPIV3Schema 'items' must be a schema, but is an array".to_owned());
    }
    if schema["x-kubernetes-preserve-unknown-fields"] == false {
        return Some("internal error: 'x-kubernetes-preserve-unknown-fields' must be true or undefined".to_owned());
    }
    let lists = ["allOf", "anyOf", "oneOf"].into_iter().flat_map(|word| nested(schema, word).map(|(_, s)| s));
    let single = ["not", "items", "additionalProperties"].into_iter().map(|word| &schema[word]);
    let all = single.chain(lists).chain(properties(schema).map(|(_, s)| s));
    all.filter(|s| s.is_object()).find_map(unsupported)
}

#[derive(Clone, Copy, PartialEq)]
enum Level {
    Root,
    Item,
    Field,
}

fn is_int_or_string(any_of: &Value) -> bool {
    *any_of == json!([{"type": "integer"}, {"type": "string"}])
}

fn invariants(schema: &Value, level: Level, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    let kind = text(schema, "type");
    if kind == "array" && !schema["items"].is_object() {
        errors.push(FieldError::required(path.child("items"), "must be specified"));
    }
    if schema["items"].is_object() {
        invariants(&schema["items"], Level::Item, &path.child("items"), errors);
    }
    for (name, property) in properties(schema) {
        invariants(property, Level::Field, &path.child("properties").key(name), errors);
    }
    let additional = &schema["additionalProperties"];
    if !additional.is_null() && level == Level::Root {
        errors.push(FieldError::forbidden(path.child("additionalProperties"), "must not be used at the root"));
    }
    if additional.is_object() {
        invariants(additional, Level::Field, &path.child("additionalProperties"), errors);
    }
    let int_or_string = flag(schema, "x-kubernetes-int-or-string");
    let preserve = flag(schema, "x-kubernetes-preserve-unknown-fields");
    let embedded = flag(schema, "x-kubernetes-embedded-resource");
    for (set, word) in
        [(preserve, "x-kubernetes-preserve-unknown-fields"), (embedded, "x-kubernetes-embedded-resource")]
    {
        if int_or_string && set {
            let detail = "must be false if x-kubernetes-int-or-string is true";
            errors.push(FieldError::invalid(path.child(word), true, detail));
        }
    }
    let skip_any = is_int_or_string(&schema["anyOf"]);
    let skip_first = is_int_or_string(&schema["allOf"][0]["anyOf"]);
    value_validation(schema, skip_any, skip_first, path, errors);
    types(schema, level, path, errors);
    let about_metadata = level == Level::Root || embedded;
    for name in ["kind", "apiVersion"] {
        let property = &schema["properties"][name];
        if about_metadata && property.is_object() && property["type"] != "string" {
            let properties = path.child("properties");
            errors.push(FieldError::invalid(
                properties.key(name).child("type"),
                text(property, "type"),
                "must be string",
            ));
        }
    }
    if schema["properties"]["metadata"].is_object() {
        let properties = path.child("properties");
        metadata(&schema["properties"]["metadata"], about_metadata, level, &properties.key("metadata"), errors);
    }
    if embedded && !preserve && properties(schema).next().is_none() {
        let detail =
            "must not be empty if x-kubernetes-embedded-resource is true without x-kubernetes-preserve-unknown-fields";
        errors.push(FieldError::required(path.child("properties"), detail));
    }
}

fn types(schema: &Value, level: Level, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    let kind = text(schema, "type");
    let place = path.child("type");
    let any = flag(schema, "x-kubernetes-int-or-string") || flag(schema, "x-kubernetes-preserve-unknown-fields");
    let embedded = flag(schema, "x-kubernetes-embedded-resource");
    if embedded && kind != "object" {
        let detail = "must be object if x-kubernetes-embedded-resource is true";
        errors.push(match kind {
            "" => FieldError::required(place, detail),
            kind => FieldError::invalid(place, kind, detail),
        });
    } else if kind.is_empty() && !any {
        let detail = match level {
            Level::Root => "must not be empty at the root",
            Level::Item => "must not be empty for specified array items",
            Level::Field => "must not be empty for specified object fields",
        };
        errors.push(FieldError::required(place, detail));
    }
    if embedded && !schema["additionalProperties"].is_null() {
        let detail = "must not be used if x-kubernetes-embedded-resource is set";
        errors.push(FieldError::forbidden(path.child("additionalProperties"), detail));
    }
    if level == Level::Root && !kind.is_empty() && kind != "object" {
        errors.push(FieldError::invalid(place, kind, "must be object at the root"));
    }
}

/// The root's metadata may only be restricted in its names.
fn metadata(schema: &Value, checked: bool, level: Level, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    if checked && schema["type"] != "object" {
        errors.push(FieldError::invalid(path.child("type"), text(schema, "type"), "must be object"));
    }
    if level != Level::Root {
        return;
    }
    let names_only = properties(schema).all(|(name, _)| name == "name" || name == "generateName");
    let other = |key: &String| !matches!(key.as_str(), "type" | "default" | "properties");
    if !names_only || schema.as_object().into_iter().flat_map(Map::keys).any(other) {
        let detail = "must not specify anything other than name and generateName, but metadata is implicitly specified";
        errors.push(FieldError::forbidden(path, detail));
    }
}

fn value_validation(schema: &Value, skip_any: bool, skip_first: bool, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    let any = nested(schema, "anyOf").filter(|_| !skip_any);
    for (i, schema) in any {
        nested_validation(schema, false, &path.child("anyOf").index(i), errors);
    }
    for (i, schema) in nested(schema, "allOf") {
        nested_validation(schema, skip_first && i == 0, &path.child("allOf").index(i), errors);
    }
    for (i, schema) in nested(schema, "oneOf") {
        nested_validation(schema, false, &path.child("oneOf").index(i), errors);
    }
    if schema["not"].is_object() {
        nested_validation(&schema["not"], false, &path.child("not"), errors);
    }
    let source = text(schema, "pattern");
    if let Err(error) = pattern::compile(source) {
        let detail = format!("must be a valid regular expression, but isn't: {error}");
        errors.push(FieldError::invalid(path.child("pattern"), source, detail));
    }
}

/// Below `allOf`, `anyOf`, `oneOf` and `not` nothing may be said of the structure.
fn nested_validation(schema: &Value, skip_any: bool, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    value_validation(schema, skip_any, false, path, errors);
    if schema["items"].is_object() {
        nested_validation(&schema["items"], false, &path.child("items"), errors);
    }
    for (name, property) in properties(schema) {
        nested_validation(property, false, &path.child("properties").key(name), errors);
    }
    let additional = &schema["additionalProperties"];
    let rules: [(bool, &str, &str); 12] = [
        (!text(schema, "type").is_empty(), "type", "empty"),
        (additional.is_object() || *additional == true, "additionalProperties", "undefined"),
        (!schema["default"].is_null(), "default", "undefined"),
        (!text(schema, "title").is_empty(), "title", "empty"),
        (!text(schema, "description").is_empty(), "description", "empty"),
        (flag(schema, "nullable"), "nullable", "false"),
        (flag(schema, "x-kubernetes-preserve-unknown-fields"), "x-kubernetes-preserve-unknown-fields", "false"),
        (flag(schema, "x-kubernetes-embedded-resource"), "x-kubernetes-embedded-resource", "false"),
        (flag(schema, "x-kubernetes-int-or-string"), "x-kubernetes-int-or-string", "false"),
        (!schema["x-kubernetes-list-map-keys"].is_null(), "x-kubernetes-list-map-keys", "empty"),
        (!schema["x-kubernetes-list-type"].is_null(), "x-kubernetes-list-type", "undefined"),
        (!schema["x-kubernetes-map-type"].is_null(), "x-kubernetes-map-type", "undefined"),
    ];
    for (broken, word, wanted) in rules {
        if broken {
            errors.push(FieldError::forbidden(path.child(word), format!("must be {wanted} to be structural")));
        }
    }
    if nested(schema, "x-kubernetes-validations").next().is_some() {
        errors.push(FieldError::forbidden(path.child("x-kubernetes-validations"), "must be empty to be structural"));
    }
    if !schema["properties"]["metadata"].is_null() {
        let properties = path.child("properties");
        errors.push(FieldError::forbidden(properties.key("metadata"), "must not be specified in a nested context"));
    }
}

/// Whatever is validated below `allOf` and the like must be in the structure too.
fn complete_values(
    value: &Value,
    schema: &Value,
    schema_path: &Path<'_>,
    value_path: &Path<'_>,
    errors: &mut Vec<FieldError>,
) {
    if value["not"].is_object() {
        complete(&value["not"], schema, schema_path, &value_path.child("not"), errors);
    }
    for word in ["allOf", "anyOf", "oneOf"] {
        for (i, inner) in nested(value, word) {
            complete(inner, schema, schema_path, &value_path.child(word).index(i), errors);
        }
    }
}

fn complete(
    value: &Value,
    schema: &Value,
    schema_path: &Path<'_>,
    value_path: &Path<'_>,
    errors: &mut Vec<FieldError>,
) {
    if !schema.is_object() {
        errors.push(FieldError::required(schema_path, format!("because it is defined in {value_path}")));
        return;
    }
    complete_values(value, schema, schema_path, value_path, errors);
    if value["items"].is_object() {
        let (schema_path, value_path) = (schema_path.child("items"), value_path.child("items"));
        complete(&value["items"], &schema["items"], &schema_path, &value_path, errors);
    }
    let (in_schema, in_value) = (schema_path.child("properties"), value_path.child("properties"));
    for (name, inner) in properties(value) {
        let (schema_path, value_path) = (in_schema.key(name), in_value.key(name));
        complete(inner, &schema["properties"][name.as_str()], &schema_path, &value_path, errors);
    }
}

/// Defaults must have no unknown fields and be valid.
fn defaults(schema: &Value, root: bool, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    if let Some(value) = schema.get("default").filter(|d| !d.is_null()) {
        let compiled = Structural { root: compile::node(schema) };
        let place = path.child("default");
        let mut pruned = value.clone();
        let embedded = flag(schema, "x-kubernetes-embedded-resource");
        prune::prune(&mut pruned, Some(&compiled.root), embedded, &mut Vec::new());
        if pruned != *value {
            errors.push(FieldError::invalid(place, value.clone(), "must not have unknown fields"));
        }
        let base = place.to_string();
        let mut found = Vec::new();
        super::list::embedded(&compiled.root, value, embedded, &place, &mut found);
        if found.is_empty() {
            found = check::validate(&compiled.root, value, None, Some(&base));
        }
        errors.extend(found);
    }
    if schema["items"].is_object() {
        defaults(&schema["items"], false, &path.child("items"), errors);
    }
    let in_metadata = |name: &str| root && METADATA.contains(&name);
    for (name, property) in properties(schema).filter(|(name, _)| !in_metadata(name)) {
        defaults(property, false, &path.child("properties").key(name), errors);
    }
}

/// Where a schema stands.
struct Standing {
    /// Why defaults are not allowed, if they are not.
    forbidden_defaults: Option<String>,
    inside_metadata: bool,
}

const TYPES: [&str; 6] = ["array", "boolean", "integer", "number", "object", "string"];

/// What upstream asks of every schema within.
fn standard(schema: &Value, path: &Path<'_>, standing: &Standing, root: bool, errors: &mut Vec<FieldError>) {
    own_fields(schema, path, standing, errors);
    if flag(schema, "uniqueItems") {
        let detail = "uniqueItems cannot be set to true since the runtime complexity becomes quadratic";
        errors.push(FieldError::forbidden(path.child("uniqueItems"), detail));
    }
    let additional = &schema["additionalProperties"];
    if properties(schema).next().is_some() && (additional.is_object() || *additional == false) {
        let detail = "additionalProperties and properties are mutual exclusive";
        errors.push(FieldError::forbidden(path.child("additionalProperties"), detail));
    }
    if additional.is_object() {
        let reason = "inside additionalProperties applying to object metadata".to_owned();
        let forbidden = standing.forbidden_defaults.clone().or(standing.inside_metadata.then_some(reason));
        let below = Standing { forbidden_defaults: forbidden, inside_metadata: standing.inside_metadata };
        standard(additional, &path.child("additionalProperties"), &below, false, errors);
    }
    for (name, property) in properties(schema) {
        let resource = root || flag(schema, "x-kubernetes-embedded-resource");
        let metadata = resource && METADATA.contains(&name.as_str());
        let reason = format!("in top-level {name}");
        let below = Standing {
            forbidden_defaults: standing.forbidden_defaults.clone().or((metadata && root).then_some(reason)),
            inside_metadata: standing.inside_metadata || metadata,
        };
        standard(property, &path.child("properties").key(name), &below, false, errors);
    }
    if schema["not"].is_object() {
        standard(&schema["not"], &path.child("not"), standing, false, errors);
    }
    for word in ["allOf", "oneOf", "anyOf"] {
        for (i, inner) in nested(schema, word) {
            standard(inner, &path.child(word).index(i), standing, false, errors);
        }
    }
    if schema["items"].is_object() {
        standard(&schema["items"], &path.child("items"), standing, false, errors);
    }
    if schema["x-kubernetes-preserve-unknown-fields"] == false {
        let place = path.child("x-kubernetes-preserve-unknown-fields");
        errors.push(FieldError::invalid(place, false, "must be true or undefined"));
    }
    list_and_map_types(schema, path, errors);
    validation_rules(schema, path, errors);
}

fn own_fields(schema: &Value, path: &Path<'_>, standing: &Standing, errors: &mut Vec<FieldError>) {
    let kind = text(schema, "type");
    if !kind.is_empty() && !TYPES.contains(&kind) {
        errors.push(FieldError::not_supported(path.child("type"), kind, &TYPES));
    }
    if let (false, Some(reason)) = (schema["default"].is_null(), &standing.forbidden_defaults) {
        errors.push(FieldError::forbidden(path.child("default"), format!("must not be set {reason}")));
    }
    for word in ["id", "additionalItems", "patternProperties", "definitions", "dependencies", "$ref"] {
        let filled = match &schema[word] {
            Value::Null => false,
            Value::String(s) => !s.is_empty() || word == "$ref",
            Value::Object(map) => !map.is_empty() || word == "additionalItems" || word == "dependencies",
            _ => true,
        };
        if filled {
            errors.push(FieldError::forbidden(path.child(word), format!("{word} is not supported")));
        }
    }
    if kind == "null" {
        let detail = "type cannot be set to null, use nullable as an alternative";
        errors.push(FieldError::forbidden(path.child("type"), detail));
    }
    if schema["items"].as_array().is_some_and(|i| !i.is_empty()) {
        errors.push(FieldError::forbidden(path.child("items"), "items must be a schema object and not an array"));
    }
    if standing.inside_metadata && flag(schema, "x-kubernetes-embedded-resource") {
        let place = path.child("x-kubernetes-embedded-resource");
        errors.push(FieldError::forbidden(place, "must not be used inside of resource meta"));
    }
}

fn list_and_map_types(schema: &Value, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    let kind = text(schema, "type");
    let (list_place, map_place) = (path.child("x-kubernetes-list-type"), path.child("x-kubernetes-map-type"));
    let mut needs = |wanted: &str, word: &str| {
        let detail = format!("must be {wanted} if {word} is specified");
        errors.push(match kind {
            "" => FieldError::required(path.child("type"), detail),
            kind => FieldError::invalid(path.child("type"), kind, detail),
        });
    };
    let map_type = schema["x-kubernetes-map-type"].as_str();
    let list_type = schema["x-kubernetes-list-type"].as_str();
    if map_type.is_some() && kind != "object" {
        needs("object", "x-kubernetes-map-type");
    }
    if list_type.is_some() && kind != "array" {
        needs("array", "x-kubernetes-list-type");
    }
    if let Some(word) = map_type.filter(|w| !matches!(*w, "atomic" | "granular")) {
        errors.push(FieldError::not_supported(map_place, word, &["atomic", "granular"]));
    }
    let items = &schema["items"];
    let in_items = path.child("items");
    if kind == "array" && list_type == Some("set") {
        let detail = "must be atomic as item of a list with x-kubernetes-list-type=set";
        let inner = items["x-kubernetes-list-type"].as_str();
        if text(items, "type") == "array" && inner.is_some_and(|w| w != "atomic") {
            let place = in_items.child("x-kubernetes-list-type");
            errors.push(FieldError::invalid(place, inner.unwrap_or_default(), detail));
        }
        if text(items, "type") == "object" && items["x-kubernetes-map-type"] != "atomic" {
            let value = inner.map_or(Value::Null, Value::from);
            errors.push(FieldError::invalid(in_items.child("x-kubernetes-map-type"), value, detail));
        }
    }
    if let Some(word) = list_type.filter(|w| !matches!(*w, "atomic" | "set" | "map")) {
        errors.push(FieldError::not_supported(list_place, word, &["atomic", "set", "map"]));
    }
    let keys: Vec<&str> =
        schema["x-kubernetes-list-map-keys"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    if !keys.is_empty() && list_type != Some("map") {
        let detail = "must be map if x-kubernetes-list-map-keys is non-empty";
        errors.push(match list_type {
            None => FieldError::required(list_place, detail),
            Some(word) => FieldError::invalid(list_place, word, detail),
        });
    }
    if list_type == Some("map") {
        map_list(schema, &keys, path, errors);
    }
    if matches!(list_type, Some("map" | "set")) && items.is_object() {
        if flag(items, "nullable") {
            let detail = format!("cannot be nullable when x-kubernetes-list-type is {}", list_type.unwrap_or_default());
            errors.push(FieldError::forbidden(in_items.child("nullable"), detail));
        }
        let required = |key: &str| items["required"].as_array().is_some_and(|r| r.iter().any(|v| v == key));
        for key in keys.iter().filter(|_| list_type == Some("map")) {
            let property = &items["properties"][*key];
            let (properties, part) = (in_items.child("properties"), "this property is in x-kubernetes-list-map-keys");
            if property.is_object() && !required(key) && property["default"].is_null() {
                let detail = format!("{part}, so it must have a default or be a required property");
                errors.push(FieldError::required(properties.key(key).child("default"), detail));
            }
            if flag(property, "nullable") {
                let detail = format!("{part}, so it cannot be nullable");
                errors.push(FieldError::forbidden(properties.key(key).child("nullable"), detail));
            }
        }
    }
}

fn map_list(schema: &Value, keys: &[&str], path: &Path<'_>, errors: &mut Vec<FieldError>) {
    let keys_place = path.child("x-kubernetes-list-map-keys");
    let items = &schema["items"];
    let in_items = path.child("items");
    if keys.is_empty() {
        errors.push(FieldError::required(keys_place, "must not be empty if x-kubernetes-list-type is map"));
    }
    if items.is_null() {
        errors.push(FieldError::required(in_items, "must have a schema if x-kubernetes-list-type is map"));
        return;
    }
    if !items.is_object() {
        let detail = "must only have a single schema if x-kubernetes-list-type is map";
        errors.push(FieldError::invalid(in_items, items.clone(), detail));
        return;
    }
    if items["type"] != "object" {
        let detail = "must be object if parent array's x-kubernetes-list-type is map";
        errors.push(FieldError::invalid(in_items.child("type"), text(items, "type"), detail));
        return;
    }
    for (i, key) in keys.iter().enumerate() {
        let property = &items["properties"][*key];
        let all = || Value::from(keys.to_vec());
        if property.is_null() {
            let detail = "entries must all be names of item properties";
            errors.push(FieldError::invalid(keys_place, all(), detail));
        } else if matches!(text(property, "type"), "array" | "object") {
            let place = in_items.child("properties");
            let detail = "must be a scalar type if parent array's x-kubernetes-list-type is map";
            errors.push(FieldError::invalid(place.key(key).child("type"), text(items, "type"), detail));
        }
        if keys[..i].contains(key) {
            errors.push(FieldError::invalid(keys_place, all(), "must not contain duplicate entries"));
        }
    }
}

/// The form of `x-kubernetes-validations`; their expressions are not looked into.
fn validation_rules(schema: &Value, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    const REASONS: [&str; 4] =
        ["FieldValueDuplicate", "FieldValueForbidden", "FieldValueInvalid", "FieldValueRequired"];
    let has_newline = |s: &str| s.contains(['\n', '\r']);
    let rules = path.child("x-kubernetes-validations");
    for (i, rule) in nested(schema, "x-kubernetes-validations") {
        let place = rules.index(i);
        let (expression, message) = (text(rule, "rule").trim(), text(rule, "message"));
        let message_place = place.child("message");
        if expression.is_empty() {
            errors.push(FieldError::required(place.child("rule"), "rule is not specified"));
        } else if !message.is_empty() && message.trim().is_empty() {
            errors.push(FieldError::invalid(message_place, message, "must be non-empty if specified"));
        } else if has_newline(message.trim()) {
            errors.push(FieldError::invalid(message_place, message, "must not contain line breaks"));
        } else if has_newline(expression) && message.trim().is_empty() {
            let detail = "message must be specified if rule contains line breaks";
            errors.push(FieldError::required(message_place, detail));
        }
        let expression = text(rule, "messageExpression");
        if !expression.is_empty() && expression.trim().is_empty() {
            let detail = "messageExpression must be non-empty if specified";
            errors.push(FieldError::required(place.child("messageExpression"), detail));
        }
        if let Some(reason) = rule["reason"].as_str().filter(|r| !REASONS.contains(r)) {
            errors.push(FieldError::not_supported(place.child("reason"), reason, &REASONS));
        }
        let field = text(rule, "fieldPath");
        if !field.is_empty() && field.trim().is_empty() {
            let detail = "must be non-empty if specified";
            errors.push(FieldError::invalid(place.child("fieldPath"), field, detail));
        }
        if has_newline(field) {
            errors.push(FieldError::invalid(place.child("fieldPath"), field, "must not contain line breaks"));
        }
    }
}
