//! What is written in CEL is kept and not evaluated yet; whoever relies on it is told so when they write it.
//!
//! Webhooks with match conditions need no word here: their requests are refused (see `webhook`).

use serde_json::Value;

use super::{Attributes, Operation};

/// The field of a structural schema that holds rules.
const RULES: &str = "x-kubernetes-validations";

/// Warns of a policy, or of rules in a schema, that will not take effect.
pub fn warn(attributes: &Attributes<'_>, object: Option<&Value>) {
    let (Some(call), Some(object), Operation::Create | Operation::Update) =
        (attributes.call, object, attributes.operation)
    else {
        return;
    };
    if attributes.kind.group == "admissionregistration.k8s.io" && attributes.kind.kind.contains("AdmissionPolicy") {
        call.warn(format!(
            "{} is kept but not evaluated by this server yet: it protects nothing",
            attributes.kind.kind
        ));
    }
    if attributes.is("apiextensions.k8s.io", "CustomResourceDefinition") && has_rules(&object["spec"]) {
        call.warn(format!(
            "{RULES} are kept but not evaluated by this server yet: objects that break them are accepted"
        ));
    }
}

/// Whether there are rules anywhere in a definition, whose depth was bounded when it was read.
fn has_rules(value: &Value) -> bool {
    match value {
        Value::Object(fields) => {
            fields.get(RULES).is_some_and(|rules| rules.as_array().is_some_and(|rules| !rules.is_empty()))
                || fields.values().any(has_rules)
        }
        Value::Array(items) => items.iter().any(has_rules),
        _ => false,
    }
}
