//! Weights in an HTTPRoute: of each rule that leads to the stable backend, the canary gets its part.
//!
//! See <https://gateway-api.sigs.k8s.io/guides/traffic-splitting/>.

use serde_json::{Value, json};

use crate::kind::{Backend, Spec};

/// The route with `percent` of the traffic for the canary; `None` where it is so already.
///
/// # Errors
/// No rule leads to the stable backend.
pub fn weighed(route: &Value, spec: &Spec, percent: u32) -> Result<Option<Value>, String> {
    let mut changed = route.clone();
    let mut found = false;
    for rule in changed["spec"]["rules"].as_array_mut().into_iter().flatten() {
        if spec.route.rule.as_deref().is_some_and(|name| rule["name"] != name) {
            continue;
        }
        let Some(backends) = rule["backendRefs"].as_array_mut() else { continue };
        let of = |backends: &[Value], wanted: &Backend| backends.iter().position(|one| is(one, wanted));
        let (Some(stable), canary) = (of(backends, &spec.stable), of(backends, &spec.canary)) else { continue };
        found = true;
        let canary = canary.unwrap_or_else(|| {
            backends.push(json!({"group": "", "kind": "Service", "name": spec.canary.name, "port": spec.canary.port}));
            backends.len() - 1
        });
        backends[stable]["weight"] = (100 - percent.min(100)).into();
        backends[canary]["weight"] = percent.min(100).into();
    }
    if !found {
        let rule = spec.route.rule.as_deref().map(|rule| format!(" of name {rule}")).unwrap_or_default();
        let Backend { name, port } = &spec.stable;
        return Err(format!(
            "HTTPRoute {} has no rule{rule} that leads to Service {name}, port {port}",
            spec.route.name
        ));
    }
    Ok((changed != *route).then_some(changed))
}

fn is(backend: &Value, wanted: &Backend) -> bool {
    let kind = backend["kind"].as_str().unwrap_or("Service");
    backend["name"] == wanted.name
        && kind == "Service"
        && backend["port"].as_u64() == Some(u64::from(wanted.port))
        && backend.get("namespace").is_none_or(Value::is_null)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kind::RouteRef;

    fn spec(rule: Option<&str>) -> Spec {
        let backend = |name: &str| Backend { name: name.into(), port: 80 };
        Spec {
            route: RouteRef { name: "shop".into(), rule: rule.map(Into::into) },
            stable: backend("v1"),
            canary: backend("v2"),
            ..Spec::default()
        }
    }

    fn weights(route: &Value) -> Vec<Vec<(String, u64)>> {
        let one =
            |backend: &Value| (backend["name"].as_str().unwrap().to_owned(), backend["weight"].as_u64().unwrap_or(1));
        let rules = route["spec"]["rules"].as_array().unwrap();
        rules.iter().map(|rule| rule["backendRefs"].as_array().unwrap().iter().map(one).collect()).collect()
    }

    fn route() -> Value {
        json!({"metadata": {"name": "shop", "resourceVersion": "7"}, "spec": {"rules": [
            {"name": "a", "backendRefs": [{"name": "v1", "port": 80}]},
            {"name": "b", "backendRefs": [{"name": "v1", "port": 80, "weight": 3}, {"name": "v2", "port": 80, "weight": 2}]},
            {"name": "c", "backendRefs": [{"name": "v1", "port": 81}, {"name": "other", "port": 80}]},
        ]}})
    }

    fn pairs(all: &[&[(&str, u64)]]) -> Vec<Vec<(String, u64)>> {
        all.iter().map(|rule| rule.iter().map(|(name, weight)| ((*name).to_owned(), *weight)).collect()).collect()
    }

    #[test]
    fn every_rule_that_leads_to_the_stable_backend_is_weighed() {
        let changed = weighed(&route(), &spec(None), 10).unwrap().unwrap();
        let expected: &[&[(&str, u64)]] =
            &[&[("v1", 90), ("v2", 10)], &[("v1", 90), ("v2", 10)], &[("v1", 1), ("other", 1)]];
        assert_eq!(weights(&changed), pairs(expected));
        assert_eq!(changed["metadata"]["resourceVersion"], "7");
        assert_eq!(weighed(&changed, &spec(None), 10), Ok(None));
        let back = weighed(&changed, &spec(None), 0).unwrap().unwrap();
        assert_eq!(weights(&back)[0], pairs(&[&[("v1", 100), ("v2", 0)]])[0]);
    }

    #[test]
    fn one_rule_is_weighed_where_it_is_named() {
        let changed = weighed(&route(), &spec(Some("b")), 100).unwrap().unwrap();
        let expected: &[&[(&str, u64)]] = &[&[("v1", 1)], &[("v1", 0), ("v2", 100)], &[("v1", 1), ("other", 1)]];
        assert_eq!(weights(&changed), pairs(expected));
        assert!(weighed(&route(), &spec(Some("c")), 10).is_err());
        assert!(weighed(&json!({}), &spec(None), 10).is_err());
    }
}
