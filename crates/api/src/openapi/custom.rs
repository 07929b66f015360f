//! Definitions of custom resources.

use serde_json::{Map, Value, json};

use super::descriptions::Descriptions;
use super::writer::Writer;
use super::{Form, Resource, definition_name};

const OBJECT_META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta";
const LIST_META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.ListMeta";

/// Writes the definitions of a custom resource and of its list.
pub(super) fn write(out: &mut Writer, resource: &Resource<'_>, descriptions: &Descriptions, form: Form) {
    let kind = resource.kind;
    let texts = Texts { descriptions, form };
    // It was an object when its definition was taken.
    let schema: Option<Value> = resource.schema.and_then(|text| serde_json::from_slice(text).ok());
    let preserved = schema.as_ref().is_some_and(|s| s["x-kubernetes-preserve-unknown-fields"] == true);
    let mut schema = match schema {
        // Clients of v2 take what is listed for all there is: an open object lists nothing.
        None => json!({"type": "object"}),
        Some(_) if preserved && form == Form::V2 => json!({"type": "object"}),
        Some(mut schema) => {
            unfold(&mut schema);
            if form == Form::V2 {
                downgrade(&mut schema);
            }
            texts.embed(&mut schema);
            texts.add_type(&mut schema, OBJECT_META);
            schema
        }
    };
    extend(&mut schema, resource, kind.kind);
    out.key(&definition_name(kind, kind.kind)).value(&schema);
    if kind.list_kind.is_empty() {
        return;
    }
    let item = json!({"$ref": form.reference(&definition_name(kind, kind.kind))});
    let mut list =
        json!({"type": "object", "required": ["items"], "properties": {"items": {"type": "array", "items": item}}});
    list["description"] = format!("{} is a list of {}", kind.list_kind, kind.kind).into();
    texts.add_type(&mut list, LIST_META);
    extend(&mut list, resource, kind.list_kind);
    out.key(&definition_name(kind, kind.list_kind)).value(&list);
}

fn extend(schema: &mut Value, resource: &Resource<'_>, kind: &str) {
    let kind = json!({"group": resource.kind.group, "version": resource.kind.version, "kind": kind});
    schema["x-kubernetes-group-version-kind"] = json!([kind]);
    if !resource.selectable.is_empty() {
        let paths = resource.selectable.iter().map(|p| json!({"fieldPath": p.strip_prefix('.').unwrap_or(p)}));
        schema["x-kubernetes-selectable-fields"] = paths.collect();
    }
}

/// Calls `change` with every schema of the structure, outer ones first.
fn visit(schema: &mut Value, change: &mut impl FnMut(&mut Map<String, Value>)) {
    let Value::Object(map) = schema else { return };
    change(map);
    for word in ["items", "additionalProperties"] {
        if let Some(inner) = map.get_mut(word) {
            visit(inner, change);
        }
    }
    if let Some(Value::Object(properties)) = map.get_mut("properties") {
        properties.values_mut().for_each(|inner| visit(inner, change));
    }
}

/// Says with `anyOf` what `x-kubernetes-int-or-string` means.
fn unfold(schema: &mut Value) {
    visit(schema, &mut |map| {
        let either = json!([{"type": "integer"}, {"type": "string"}]);
        let said = map.get("anyOf") == Some(&either) || map.get("allOf").is_some_and(|all| all[0]["anyOf"] == either);
        if map.get("x-kubernetes-int-or-string") != Some(&Value::Bool(true)) || said {
            return;
        }
        if !map.contains_key("anyOf") {
            map.insert("anyOf".to_owned(), either);
            return;
        }
        let all = map.entry("allOf").or_insert_with(|| json!([]));
        if let Value::Array(all) = all {
            all.insert(0, json!({ "anyOf": either }));
        }
    });
}

/// Takes out what v2 does not know, and what its clients trip over.
fn downgrade(schema: &mut Value) {
    visit(schema, &mut |map| {
        for word in ["allOf", "oneOf", "anyOf", "not"] {
            map.remove(word);
        }
        if map.remove("nullable") == Some(Value::Bool(true)) {
            for word in ["type", "items", "properties"] {
                map.remove(word);
            }
        }
        let preserve = map.get("x-kubernetes-preserve-unknown-fields") == Some(&Value::Bool(true));
        if preserve {
            map.remove("items");
            map.remove("properties");
        }
        let kind = map.get("type").and_then(Value::as_str).unwrap_or_default();
        if kind == "array" && !map.contains_key("items") || kind == "object" && preserve {
            map.remove("type");
        }
        let nullable: Vec<String> = match map.get("properties") {
            Some(Value::Object(properties)) => {
                properties.iter().filter(|(_, s)| s["nullable"] == true).map(|(k, _)| k.clone()).collect()
            }
            _ => Vec::new(),
        };
        if let Some(Value::Array(required)) = map.get_mut("required") {
            required.retain(|name| !nullable.iter().any(|n| name == n));
            if required.is_empty() {
                map.remove("required");
            }
        }
        if map.get("additionalProperties").is_some_and(|s| s["nullable"] == true) {
            map.remove("required");
        }
    });
}

struct Texts<'a> {
    descriptions: &'a Descriptions,
    form: Form,
}

impl Texts<'_> {
    /// Adds `apiVersion`, `kind` and `metadata`.
    fn add_type(&self, schema: &mut Value, metadata: &str) {
        let Value::Object(map) = schema else { return };
        let properties = map.entry("properties").or_insert_with(|| json!({}));
        let text = |name: &str| match (name, metadata) {
            // What an object's metadata is described as does not fit a list's.
            ("metadata", LIST_META) => None,
            _ => self.descriptions.of_field(super::descriptions::EXAMPLE, name),
        };
        for name in ["apiVersion", "kind"] {
            properties[name] = json!({"type": "string"});
            if let Some(text) = text(name) {
                properties[name]["description"] = text.into();
            }
        }
        let reference = json!({"$ref": self.form.reference(metadata)});
        properties["metadata"] = match (text("metadata"), self.form) {
            (Some(text), Form::V3) => json!({"allOf": [reference], "description": text}),
            (Some(text), Form::V2) => json!({"$ref": reference["$ref"], "description": text}),
            (None, _) => reference,
        };
    }

    /// Adds them to embedded resources too.
    fn embed(&self, schema: &mut Value) {
        visit(schema, &mut |map| {
            let flag = |word: &str| map.get(word) == Some(&Value::Bool(true));
            let open = flag("x-kubernetes-preserve-unknown-fields") && self.form == Form::V2;
            if open || !flag("x-kubernetes-embedded-resource") {
                return;
            }
            let mut schema = Value::Object(std::mem::take(map));
            self.add_type(&mut schema, OBJECT_META);
            if let Value::Object(filled) = schema {
                *map = filled;
            }
            let required = map.entry("required").or_insert_with(|| json!([]));
            if let Value::Array(required) = required {
                for name in ["kind", "apiVersion"] {
                    if !required.iter().any(|r| r == name) {
                        required.push(name.into());
                    }
                }
            }
        });
    }
}
