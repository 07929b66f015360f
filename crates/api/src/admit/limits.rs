//! LimitRange: defaults for containers, and how little or much containers, pods and claims may ask for.
//!
//! <https://kubernetes.io/docs/concepts/policy/limit-range/>

use serde_json::{Value, json};

use crate::amount::{self, Amounts, Side};
use crate::meta::{self, View};
use crate::quantity::Quantity;

/// Where a pod says what was filled in.
const ANNOTATION: &str = "kubernetes.io/limit-ranger";

/// Fills in what the containers of a pod leave out.
pub fn complete(pod: &mut Value, range: &Value) {
    let mut defaults = [Amounts::new(), Amounts::new()];
    for limit in View::new(range).at("spec").list("limits").filter(|limit| limit.text("type") == "Container") {
        defaults[0].extend(amount::read(limit.at("defaultRequest")));
        defaults[1].extend(amount::read(limit.at("default")));
    }
    let mut notes = Vec::new();
    for (list, what) in [("containers", "container"), ("initContainers", "init container")] {
        let spec = meta::object_at(pod, "spec");
        for container in spec.get_mut(list).and_then(Value::as_array_mut).into_iter().flatten() {
            let name = View::new(container).text("name").to_owned();
            for (side, word, defaults) in
                [(Side::Requests, "request", &defaults[0]), (Side::Limits, "limit", &defaults[1])]
            {
                let set = fill(container, side, defaults);
                if !set.is_empty() {
                    notes.push(format!("{} {word} for {what} {name}", set.join(", ")));
                }
            }
        }
    }
    if !notes.is_empty() {
        meta::set_annotation(pod, ANNOTATION, &format!("LimitRanger plugin set: {}", notes.join("; ")));
    }
}

/// Adds what is missing in one of a container's lists; the names of it.
fn fill(container: &mut Value, side: Side, defaults: &Amounts) -> Vec<String> {
    let missing: Vec<_> = {
        let own = View::new(container).at("resources").at(side.member());
        defaults
            .iter()
            .filter(|(name, _)| !own.has(name))
            .map(|(name, amount)| (name.clone(), amount.clone()))
            .collect()
    };
    if missing.is_empty() {
        return Vec::new();
    }
    let list = meta::entry_object(meta::object_at(container, "resources"), side.member());
    for (name, amount) in &missing {
        list.insert(name.clone(), json!(amount.to_string()));
    }
    missing.into_iter().map(|(name, _)| name).collect()
}

/// What a pod breaks, as one sentence.
pub fn check_pod(pod: &Value, range: &Value) -> Result<(), String> {
    let pod = View::new(pod);
    let mut faults = Vec::new();
    for limit in View::new(range).at("spec").list("limits") {
        match limit.text("type") {
            "Container" => {
                let spec = pod.at("spec");
                for container in spec.list("containers").chain(spec.list("initContainers")) {
                    let own = |side| amount::container(container, side);
                    check(limit, &own(Side::Requests), &own(Side::Limits), &mut faults);
                }
            }
            "Pod" => {
                let own = |side| amount::of_spec(pod, side);
                check(limit, &own(Side::Requests), &own(Side::Limits), &mut faults);
            }
            _ => {}
        }
    }
    aggregate(faults)
}

/// What a claim breaks.
pub fn check_claim(claim: &Value, range: &Value) -> Result<(), String> {
    let requests = amount::read(View::new(claim).at("spec").at("resources").at("requests"));
    let mut faults = Vec::new();
    for limit in
        View::new(range).at("spec").list("limits").filter(|limit| limit.text("type") == "PersistentVolumeClaim")
    {
        for (name, enforced) in amount::read(limit.at("min")) {
            at_least(limit.text("type"), &name, &enforced, &requests, &Amounts::new(), &mut faults);
        }
        for (name, enforced) in amount::read(limit.at("max")) {
            match requests.get(&name) {
                None => faults.push(missing("maximum", limit.text("type"), &name, &enforced, "request")),
                Some(own) if own > &enforced => {
                    faults.push(beyond("maximum", limit.text("type"), &name, &enforced, "request", own));
                }
                Some(_) => {}
            }
        }
    }
    aggregate(faults)
}

fn check(limit: View<'_>, requests: &Amounts, limits: &Amounts, faults: &mut Vec<String>) {
    let kind = limit.text("type");
    for (name, enforced) in amount::read(limit.at("min")) {
        at_least(kind, &name, &enforced, requests, limits, faults);
    }
    for (name, enforced) in amount::read(limit.at("max")) {
        let (request, own) = (requests.get(&name), limits.get(&name));
        match own {
            None => faults.push(missing("maximum", kind, &name, &enforced, "limit")),
            Some(own) if own > &enforced => {
                faults.push(beyond("maximum", kind, &name, &enforced, "limit", own));
            }
            Some(_) => {
                if let Some(request) = request.filter(|request| **request > enforced) {
                    faults.push(beyond("maximum", kind, &name, &enforced, "request", request));
                }
            }
        }
    }
    for (name, enforced) in amount::read(limit.at("maxLimitRequestRatio")) {
        let head = format!("{name} max limit to request ratio per {kind} is {enforced}, but");
        let (request, own) = (requests.get(&name), limits.get(&name));
        let Some(request) = request.filter(|request| !request.is_zero()) else {
            faults.push(format!("{head} no request is specified or request is 0"));
            continue;
        };
        let Some(own) = own.filter(|own| !own.is_zero()) else {
            faults.push(format!("{head} no limit is specified or limit is 0"));
            continue;
        };
        let ratio = own.approximate() / request.approximate();
        if ratio > enforced.approximate() {
            faults.push(format!("{head} provided ratio is {ratio:.6}"));
        }
    }
}

fn at_least(
    kind: &str,
    name: &str,
    enforced: &Quantity,
    requests: &Amounts,
    limits: &Amounts,
    faults: &mut Vec<String>,
) {
    match (requests.get(name), limits.get(name)) {
        (None, _) => faults.push(missing("minimum", kind, name, enforced, "request")),
        (Some(own), _) if own < enforced => faults.push(beyond("minimum", kind, name, enforced, "request", own)),
        (_, Some(own)) if own < enforced => faults.push(beyond("minimum", kind, name, enforced, "limit", own)),
        _ => {}
    }
}

fn missing(bound: &str, kind: &str, name: &str, enforced: &Quantity, what: &str) -> String {
    format!("{bound} {name} usage per {kind} is {enforced}.  No {what} is specified")
}

fn beyond(bound: &str, kind: &str, name: &str, enforced: &Quantity, what: &str, own: &Quantity) -> String {
    format!("{bound} {name} usage per {kind} is {enforced}, but {what} is {own}")
}

fn aggregate(mut faults: Vec<String>) -> Result<(), String> {
    let mut seen = Vec::new();
    faults.retain(|fault| {
        let fresh = !seen.contains(fault);
        seen.push(fault.clone());
        fresh
    });
    match &faults[..] {
        [] => Ok(()),
        [only] => Err(only.clone()),
        all => Err(format!("[{}]", all.join(", "))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range() -> Value {
        json!({"spec": {"limits": [
            {"type": "Container", "min": {"cpu": "50m"}, "max": {"cpu": "1"}, "default": {"cpu": "500m"},
             "defaultRequest": {"cpu": "100m"}, "maxLimitRequestRatio": {"cpu": "5"}},
            {"type": "Pod", "max": {"cpu": "2"}},
            {"type": "PersistentVolumeClaim", "min": {"storage": "1Gi"}, "max": {"storage": "2Gi"}},
        ]}})
    }

    fn pod(resources: Value) -> Value {
        json!({"metadata": {}, "spec": {"containers": [{"name": "c", "resources": resources}]}})
    }

    #[test]
    fn what_is_left_out_is_filled_in_and_noted() {
        let mut made = pod(json!({"requests": {"cpu": "200m"}}));
        complete(&mut made, &range());
        let resources = &made["spec"]["containers"][0]["resources"];
        assert_eq!(*resources, json!({"requests": {"cpu": "200m"}, "limits": {"cpu": "500m"}}));
        assert_eq!(meta::annotation(&made, ANNOTATION), "LimitRanger plugin set: cpu limit for container c");
        assert_eq!(check_pod(&made, &range()), Ok(()));
    }

    #[test]
    fn bounds_are_kept() {
        for (resources, why) in [
            (json!({}), "minimum cpu usage per Container is 50m.  No request is specified"),
            (
                json!({"requests": {"cpu": "10m"}, "limits": {"cpu": "50m"}}),
                "minimum cpu usage per Container is 50m, but request is 10m",
            ),
            (
                json!({"requests": {"cpu": "500m"}, "limits": {"cpu": "1500m"}}),
                "maximum cpu usage per Container is 1, but limit is 1500m",
            ),
            (
                json!({"requests": {"cpu": "100m"}, "limits": {"cpu": "1"}}),
                "cpu max limit to request ratio per Container is 5, but provided ratio is 10.000000",
            ),
            (
                json!({"limits": {"cpu": "3"}, "requests": {"cpu": "3"}}),
                "maximum cpu usage per Pod is 2, but limit is 3",
            ),
        ] {
            let error = check_pod(&pod(resources), &range()).unwrap_err();
            assert!(error.contains(why), "{error}");
        }
        let claim = |size: &str| json!({"spec": {"resources": {"requests": {"storage": size}}}});
        assert_eq!(check_claim(&claim("1536Mi"), &range()), Ok(()));
        assert!(check_claim(&claim("1Mi"), &range()).unwrap_err().contains("minimum storage usage"));
        assert!(check_claim(&claim("3Gi"), &range()).unwrap_err().contains("but request is 3Gi"));
    }
}
