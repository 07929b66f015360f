//! The `scale` sub-resource: the size of a workload seen as an object of its own.

use serde_json::{Value, json};

use crate::meta::{self, View};
use crate::selector::Labels;

/// Where the parts of a scale are in an object, as JSON pointers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Places {
    /// Wanted size, `/spec/replicas`.
    pub spec_replicas: String,
    /// Size that there is, `/status/replicas`.
    pub status_replicas: String,
    /// Selector as text or as a LabelSelector; `None` if there is none.
    pub selector: Option<String>,
}

impl Places {
    /// Those of every built-in kind that has a scale.
    pub fn built_in() -> Places {
        Places {
            spec_replicas: "/spec/replicas".to_owned(),
            status_replicas: "/status/replicas".to_owned(),
            selector: Some("/spec/selector".to_owned()),
        }
    }

    /// Those of a custom resource, from `subresources.scale` of its definition (`.spec.replicas` and so on).
    pub fn custom(scale: &Value) -> Places {
        let view = View::new(scale);
        let pointer = |path: &str| path.replace('.', "/");
        Places {
            spec_replicas: pointer(view.text("specReplicasPath")),
            status_replicas: pointer(view.text("statusReplicasPath")),
            selector: Some(view.text("labelSelectorPath")).filter(|path| !path.is_empty()).map(pointer),
        }
    }
}

/// The Scale of an object.
pub fn of(places: &Places, object: &Value) -> Value {
    let number = |pointer: &str| object.pointer(pointer).and_then(Value::as_i64);
    let mut scale = json!({
        "apiVersion": "autoscaling/v1",
        "kind": "Scale",
        "metadata": {},
        "spec": {},
        "status": {"replicas": number(&places.status_replicas).unwrap_or(0)},
    });
    let old = meta::metadata(object);
    for member in ["name", "namespace", "uid", "resourceVersion", "creationTimestamp"] {
        if old.has(member) {
            scale["metadata"][member] = old.at(member).value().clone();
        }
    }
    if let Some(replicas) = number(&places.spec_replicas).filter(|replicas| *replicas != 0) {
        scale["spec"]["replicas"] = replicas.into();
    }
    let selector = match places.selector.as_deref().and_then(|pointer| object.pointer(pointer)) {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Object(map)) if map.values().all(Value::is_string) && !map.is_empty() => {
            Labels::from_map(map).to_string()
        }
        Some(selector @ Value::Object(_)) => {
            Labels::from_value(selector).map(|labels| labels.to_string()).unwrap_or_default()
        }
        _ => String::new(),
    };
    if !selector.is_empty() {
        scale["status"]["selector"] = selector.into();
    }
    scale
}

/// Writes a Scale's wanted size into an object, and its resourceVersion, so that the update is as conditional as the Scale was.
pub fn apply(places: &Places, scale: &Value, object: &mut Value) {
    let replicas = View::new(scale).at("spec").int("replicas").unwrap_or(0);
    let mut steps = places.spec_replicas.split('/').skip(1).peekable();
    let mut place = &mut *object;
    while let Some(step) = steps.next() {
        if steps.peek().is_none() {
            if !place.is_object() {
                *place = json!({});
            }
            place[step] = replicas.into();
            break;
        }
        if !place.get(step).is_some_and(Value::is_object) {
            if !place.is_object() {
                *place = json!({});
            }
            place[step] = json!({});
        }
        place = &mut place[step];
    }
    meta::set_resource_version(object, meta::resource_version(scale));
}
