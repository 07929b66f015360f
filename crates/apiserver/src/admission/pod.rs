//! Rules for pods: the number behind a priority class, and tolerance of nodes that fail for a while.

use api::{
    meta::{self, View},
    status::Status,
};
use serde_json::{Value, json};

use super::{Attributes, Operation};
use crate::{selection::Selection, server::Server};

/// Seconds for which a pod stays on a node that is not ready or not reachable, unless it says otherwise.
const TOLERATED: u64 = 300;
/// The largest priority that users may give.
const HIGHEST_USER_PRIORITY: i64 = 1_000_000_000;

/// Fills in `priority` and `preemptionPolicy` from the class.
pub async fn priority(
    server: &Server,
    attributes: &Attributes<'_>,
    pod: &mut Value,
    old: Option<&Value>,
) -> Result<(), Status> {
    let resource = server.resource("scheduling.k8s.io", "priorityclasses")?;
    if let Some(old) = old {
        let old = View::new(old).at("spec");
        let spec = meta::object_at(pod, "spec");
        for field in ["priority", "preemptionPolicy"] {
            if !spec.contains_key(field) && old.has(field) {
                spec.insert(field.to_owned(), old.at(field).value().clone());
            }
        }
        return Ok(());
    }
    if attributes.operation != Operation::Create {
        return Ok(());
    }
    let name = View::new(pod).at("spec").text("priorityClassName").to_owned();
    let (class, name) = if name.is_empty() {
        let default = resource
            .cache
            .all(&Selection::everything(&resource.prefix))
            .into_iter()
            .find(|class| memchr::memmem::find(class.bytes(), b"\"globalDefault\":true").is_some());
        match default {
            Some(class) => (Some(class.value()), class.name().to_owned()),
            None => (None, String::new()),
        }
    } else {
        let Some(class) = server.find("scheduling.k8s.io", "priorityclasses", "", &name).await? else {
            return Err(attributes.refuse(format!("no PriorityClass with name {name} was found")));
        };
        (Some(class.value()), name)
    };
    let (value, policy) = match &class {
        None => (0, "PreemptLowerPriority"),
        Some(class) => {
            let view = View::new(class);
            let policy = view.at("preemptionPolicy").as_str().unwrap_or("PreemptLowerPriority");
            (view.int("value").unwrap_or(0), policy)
        }
    };
    let spec = meta::object_at(pod, "spec");
    if let Some(own) = spec.get("priority").and_then(Value::as_i64).filter(|own| *own != value) {
        return Err(attributes.refuse(format!(
            "the integer value of priority ({own}) must not be provided in pod spec; priority admission controller computed \
             {value} from the given PriorityClass name"
        )));
    }
    if let Some(own) = spec.get("preemptionPolicy").and_then(Value::as_str).filter(|own| *own != policy) {
        return Err(attributes.refuse(format!(
            "the string value of PreemptionPolicy ({own}) must not be provided in pod spec; priority admission controller \
             computed {policy} from the given PriorityClass name"
        )));
    }
    spec.insert("priority".to_owned(), value.into());
    spec.insert("preemptionPolicy".to_owned(), policy.into());
    if !name.is_empty() {
        spec.insert("priorityClassName".to_owned(), name.into());
    }
    Ok(())
}

/// A class of users has no system name and no system value, and only one is the default.
pub fn priority_class(server: &Server, attributes: &Attributes<'_>, object: Option<&Value>) -> Result<(), Status> {
    let (Some(class), true) = (object, attributes.is("scheduling.k8s.io", "PriorityClass")) else { return Ok(()) };
    let view = View::new(class);
    let value = view.int("value").unwrap_or(0);
    let name = meta::name(class);
    if attributes.operation == Operation::Create && value > HIGHEST_USER_PRIORITY && !name.starts_with("system-") {
        return Err(
            attributes.refuse(format!("maximum allowed value of a user defined priority is {HIGHEST_USER_PRIORITY}"))
        );
    }
    if view.is("globalDefault") {
        let resource = server.resource("scheduling.k8s.io", "priorityclasses")?;
        for other in resource.cache.all(&Selection::everything(&resource.prefix)) {
            if other.name() != name && View::new(&other.value()).is("globalDefault") {
                let why =
                    format!("PriorityClass {} is already marked as default. Only one default can exist", other.name());
                return Err(attributes.refuse(why));
            }
        }
    }
    Ok(())
}

/// Adds the tolerations that every pod has.
pub fn tolerations(attributes: &Attributes<'_>, pod: &mut Value) {
    if !matches!(attributes.operation, Operation::Create | Operation::Update) {
        return;
    }
    let spec = meta::object_at(pod, "spec");
    let tolerations = spec.entry("tolerations").or_insert_with(|| json!([]));
    let Some(tolerations) = tolerations.as_array_mut() else { return };
    for taint in ["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"] {
        let tolerated = tolerations.iter().any(|toleration| {
            let view = View::new(toleration);
            let (key, effect) = (view.text("key"), view.text("effect"));
            (key == taint || key.is_empty()) && matches!(effect, "NoExecute" | "")
        });
        if !tolerated {
            tolerations.push(json!({
                "key": taint, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": TOLERATED,
            }));
        }
    }
}
