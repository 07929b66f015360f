//! Which nodes a pod's own words allow: node selectors, required node affinity, taints and tolerations.
//! <https://kubernetes.io/docs/concepts/scheduling-eviction/assign-pod-node/>

use k8s_openapi::api::core::v1::{
    Node, NodeSelector, NodeSelectorRequirement, NodeSelectorTerm, PodSpec, Taint, Toleration,
};

use crate::selector::holds;

/// Whether the pod's node selector and its required node affinity allow the node.
pub fn allows(spec: &PodSpec, node: &Node) -> bool {
    let selected = spec.node_selector.as_ref().is_none_or(|wanted| holds(wanted, node.metadata.labels.as_ref()));
    let required = spec
        .affinity
        .as_ref()
        .and_then(|affinity| affinity.node_affinity.as_ref())
        .and_then(|affinity| affinity.required_during_scheduling_ignored_during_execution.as_ref());
    selected && required.is_none_or(|required| selector_matches(required, node))
}

/// Whether any term of a node selector holds.
pub fn selector_matches(selector: &NodeSelector, node: &Node) -> bool {
    selector.node_selector_terms.iter().any(|term| term_matches(term, node))
}

/// Whether one term of a node selector holds. A term without requirements holds for no node.
pub fn term_matches(term: &NodeSelectorTerm, node: &Node) -> bool {
    let labels = node.metadata.labels.as_ref();
    let expressions = term.match_expressions.as_deref().unwrap_or_default();
    let fields = term.match_fields.as_deref().unwrap_or_default();
    if expressions.is_empty() && fields.is_empty() {
        return false;
    }
    expressions.iter().all(|requirement| {
        let found = labels.and_then(|labels| labels.get(&requirement.key)).map(String::as_str);
        requirement_holds(requirement, found)
    }) && fields.iter().all(|requirement| {
        requirement.key == "metadata.name" && requirement_holds(requirement, node.metadata.name.as_deref())
    })
}

fn requirement_holds(requirement: &NodeSelectorRequirement, found: Option<&str>) -> bool {
    let values = requirement.values.as_deref().unwrap_or_default();
    let listed = || found.is_some_and(|found| values.iter().any(|value| value == found));
    let compared = |larger: bool| {
        let (Some(Ok(found)), Some(Ok(bound))) =
            (found.map(str::parse::<i64>), values.first().map(|value| value.parse::<i64>()))
        else {
            return false;
        };
        if larger { found > bound } else { found < bound }
    };
    match requirement.operator.as_str() {
        "In" => listed(),
        "NotIn" => !listed(),
        "Exists" => found.is_some(),
        "DoesNotExist" => found.is_none(),
        "Gt" => compared(true),
        "Lt" => compared(false),
        _ => false,
    }
}

/// The first of the node's taints with one of these effects that no toleration covers.
pub fn untolerated<'a>(node: &'a Node, effects: &[&str], tolerations: &[Toleration]) -> Option<&'a Taint> {
    let taints = node.spec.as_ref()?.taints.as_deref()?;
    taints.iter().find(|taint| effects.contains(&taint.effect.as_str()) && !tolerated(taint, tolerations))
}

/// Whether any of `tolerations` covers `taint`.
pub fn tolerated(taint: &Taint, tolerations: &[Toleration]) -> bool {
    tolerations.iter().any(|toleration| {
        let effect = toleration.effect.as_deref().unwrap_or_default();
        let key = toleration.key.as_deref().unwrap_or_default();
        let (wanted, given) =
            (toleration.value.as_deref().unwrap_or_default(), taint.value.as_deref().unwrap_or_default());
        let value = match toleration.operator.as_deref().unwrap_or("Equal") {
            "Exists" => true,
            "Equal" | "" => !key.is_empty() && wanted == given,
            // Whole numbers, compared as such: the taint's against the toleration's.
            "Gt" | "Lt" if toleration.operator.is_some() => match (given.parse::<i64>(), wanted.parse::<i64>()) {
                (Ok(given), Ok(wanted)) if toleration.operator.as_deref() == Some("Gt") => given > wanted,
                (Ok(given), Ok(wanted)) => given < wanted,
                _ => false,
            },
            _ => false,
        };
        (effect.is_empty() || effect == taint.effect) && (key.is_empty() || key == taint.key) && value
    })
}
