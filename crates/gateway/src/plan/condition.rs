//! Conditions of statuses, and when they last changed.
//!
//! See <https://gateway-api.sigs.k8s.io/geps/gep-1364/>.

use serde_json::{Value, json};

/// A condition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Condition {
    kind: &'static str,
    is: bool,
    /// Why, in one word.
    pub reason: &'static str,
    message: String,
}

impl Condition {
    /// It is so.
    pub fn yes(kind: &'static str, reason: &'static str) -> Self {
        Self { kind, is: true, reason, message: String::new() }
    }

    /// It is so, though not all is well.
    pub fn yes_but(kind: &'static str, reason: &'static str, message: impl Into<String>) -> Self {
        Self { kind, is: true, reason, message: message.into() }
    }

    /// It is not so.
    pub fn no(kind: &'static str, reason: &'static str, message: impl Into<String>) -> Self {
        Self { kind, is: false, reason, message: message.into() }
    }

    /// Whether it is so.
    pub fn is(&self) -> bool {
        self.is
    }

    /// As an object's status has it, without the time of its last change.
    pub fn value(&self, generation: i64) -> Value {
        json!({
            "type": self.kind,
            "status": if self.is { "True" } else { "False" },
            "reason": self.reason,
            "message": self.message,
            "observedGeneration": generation,
        })
    }
}

/// A status with the times of its conditions: what has not changed since `old` keeps its time, the rest gets `now`.
pub fn timed(old: &Value, mut new: Value, now: &str) -> Value {
    fill(old, &mut new, now);
    new
}

fn fill(old: &Value, new: &mut Value, now: &str) {
    match new {
        Value::Object(fields) => {
            for (name, value) in fields.iter_mut() {
                if name == "conditions" {
                    conditions(&old[name.as_str()], value, now);
                } else {
                    fill(&old[name.as_str()], value, now);
                }
            }
        }
        Value::Array(items) => {
            let olds = old.as_array().map(Vec::as_slice).unwrap_or_default();
            for item in items {
                // The same listener, the same parent.
                let same = |one: &&Value| {
                    ["name", "parentRef", "controllerName"].iter().all(|key| one.get(key) == item.get(key))
                };
                let before = olds.iter().find(same).cloned().unwrap_or_default();
                fill(&before, item, now);
            }
        }
        _ => {}
    }
}

fn conditions(old: &Value, new: &mut Value, now: &str) {
    let olds = old.as_array().map(Vec::as_slice).unwrap_or_default();
    for condition in new.as_array_mut().into_iter().flatten() {
        let before = olds.iter().find(|one| one["type"] == condition["type"] && one["status"] == condition["status"]);
        if condition.get("lastTransitionTime").is_some() {
            continue;
        }
        condition["lastTransitionTime"] = match before.map(|one| &one["lastTransitionTime"]) {
            Some(Value::String(time)) => time.as_str().into(),
            _ => now.into(),
        };
    }
}
