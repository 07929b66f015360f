//! RuntimeClass: what a pod takes over from the class that it names. Each answer is upstream's refusal or the pod, completed.
//!
//! <https://kubernetes.io/docs/concepts/containers/runtime-class/>

use serde_json::Value;

use crate::amount;
use crate::meta::{self, View};

/// Gives a pod the overhead and the scheduling of its class; none for a pod that names no class.
pub fn complete(pod: &mut Value, class: Option<&Value>) -> Result<(), String> {
    let Some(class) = class else { return Ok(()) };
    let overhead = View::new(class).at("overhead").at("podFixed");
    if View::new(class).has("overhead") {
        let own = View::new(pod).at("spec").at("overhead");
        if own.as_map().is_some_and(|map| !map.is_empty()) && amount::read(own) != amount::read(overhead) {
            return Err("pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead".to_owned());
        }
        let overhead = overhead.value().clone();
        if overhead.is_object() {
            meta::object_at(pod, "spec").insert("overhead".to_owned(), overhead);
        }
    }
    let scheduling = View::new(class).at("scheduling");
    let spec = meta::object_at(pod, "spec");
    for (key, value) in scheduling.entries("nodeSelector") {
        let selector = meta::entry_object(spec, "nodeSelector");
        match selector.get(key).and_then(Value::as_str) {
            Some(own) if own != value.string() => {
                return Err(format!(
                    "conflict: runtimeClass.scheduling.nodeSelector[{key}] = {}; pod.spec.nodeSelector[{key}] = {own}",
                    value.string()
                ));
            }
            _ => _ = selector.insert(key.to_owned(), value.value().clone()),
        }
    }
    let more = scheduling.slice("tolerations");
    if !more.is_empty() {
        let own = spec.get("tolerations").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
        let merged = merge_tolerations(own, more);
        spec.insert("tolerations".to_owned(), merged.into());
    }
    Ok(())
}

/// Refuses a pod whose overhead is not that of its class.
pub fn check(pod: &Value, class: Option<&Value>) -> Result<(), String> {
    let own = View::new(pod).at("spec").at("overhead");
    let defined = class.map(View::new).filter(|class| class.has("overhead"));
    match defined {
        Some(class) if amount::read(own) != amount::read(class.at("overhead").at("podFixed")) => {
            Err("pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead".to_owned())
        }
        None if own.exists() => {
            Err("pod rejected: Pod Overhead set without corresponding RuntimeClass defined Overhead".to_owned())
        }
        _ => Ok(()),
    }
}

/// Both lists, without those that another one covers.
fn merge_tolerations(first: &[Value], second: &[Value]) -> Vec<Value> {
    let all: Vec<&Value> = first.iter().chain(second).collect();
    let mut kept = Vec::new();
    for (position, one) in all.iter().enumerate() {
        let later = all[position + 1..].iter().any(|other| covers(other, one));
        let before = kept.iter().any(|other: &Value| covers(other, one));
        if !later && !before {
            kept.push((*one).clone());
        }
    }
    kept
}

/// Whether one toleration tolerates all that another does.
fn covers(one: &Value, other: &Value) -> bool {
    let (one, other) = (View::new(one), View::new(other));
    if one.same(other) {
        return true;
    }
    if one.text("key") != other.text("key") && !one.text("key").is_empty()
        || one.text("effect") != other.text("effect") && !one.text("effect").is_empty()
    {
        return false;
    }
    if one.text("effect") == "NoExecute" {
        match (one.int("tolerationSeconds"), other.int("tolerationSeconds")) {
            (Some(_), None) => return false,
            (Some(mine), Some(theirs)) if mine < theirs => return false,
            _ => {}
        }
    }
    match one.text("operator") {
        "Exists" => true,
        "" | "Equal" => matches!(other.text("operator"), "" | "Equal") && one.text("value") == other.text("value"),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_pod_takes_over_what_its_class_says() {
        let class = json!({
            "overhead": {"podFixed": {"cpu": "250m"}},
            "scheduling": {"nodeSelector": {"a": "1"}, "tolerations": [{"key": "k", "operator": "Exists"}]},
        });
        let mut pod = json!({"spec": {"tolerations": [{"key": "k", "value": "v"}]}});
        complete(&mut pod, Some(&class)).unwrap();
        assert_eq!(pod["spec"]["overhead"], json!({"cpu": "250m"}));
        assert_eq!(pod["spec"]["nodeSelector"], json!({"a": "1"}));
        assert_eq!(pod["spec"]["tolerations"], json!([{"key": "k", "operator": "Exists"}]));
        assert_eq!(check(&pod, Some(&class)), Ok(()));
        let mut other = json!({"spec": {"nodeSelector": {"a": "2"}}});
        assert!(complete(&mut other, Some(&class)).unwrap_err().contains("nodeSelector[a] = 1"));
        let mut more = json!({"spec": {"overhead": {"cpu": "1"}}});
        assert!(complete(&mut more, Some(&class)).is_err());
        assert!(check(&more, None).is_err(), "overhead needs a class");
    }
}
