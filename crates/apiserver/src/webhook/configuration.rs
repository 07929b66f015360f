//! Webhooks as their configurations describe them, read once after each change.

use std::time::Duration;

use api::{meta, meta::View, selector::Labels};

use crate::{admission::Operation, registry::Resource, remote::Remote, selection::Selection};

/// One webhook.
#[derive(Debug)]
pub struct Hook {
    /// Configuration and name.
    pub uid: String,
    /// `name`
    pub name: String,
    /// `rules`
    pub rules: Vec<Rule>,
    /// `failurePolicy` is `Fail`.
    pub fails: bool,
    /// `matchPolicy` is `Equivalent`.
    pub equivalent: bool,
    /// `namespaceSelector`
    pub namespaces: Labels,
    /// `objectSelector`
    pub objects: Labels,
    /// `sideEffects` allow dry runs.
    pub without_side_effects: bool,
    /// `reinvocationPolicy` is `IfNeeded`.
    pub reinvoked: bool,
    /// The first of `admissionReviewVersions` that is known.
    pub review: Option<&'static str>,
    /// `timeoutSeconds`
    pub timeout: Duration,
    /// The name of the first of `matchConditions`.
    pub condition: Option<String>,
    /// `clientConfig`
    pub remote: Remote,
}

/// What a webhook is interested in.
#[derive(Debug, Default)]
pub struct Rule {
    operations: Vec<String>,
    groups: Vec<String>,
    versions: Vec<String>,
    resources: Vec<(String, String)>,
    scope: String,
}

fn texts(view: View<'_>, member: &str) -> Vec<String> {
    view.list(member).map(|item| item.string().to_owned()).collect()
}

/// The webhooks of all configurations, in the order of the configurations' names.
pub fn read(resource: &Resource) -> Vec<Hook> {
    let mut hooks = Vec::new();
    for object in resource.cache.all(&Selection::everything(&resource.prefix)) {
        let configuration = object.value();
        let name = meta::name(&configuration);
        for view in View::new(&configuration).list("webhooks") {
            hooks.push(hook(name, view));
        }
    }
    hooks
}

fn hook(configuration: &str, view: View<'_>) -> Hook {
    let name = view.text("name").to_owned();
    // Validated when the configuration was stored; one that is wrong all the same selects nothing.
    let selector = |member: &str| {
        let selector = view.at(member);
        let absent = !selector.exists();
        if absent { Labels::everything() } else { Labels::from_value(selector.value()).unwrap_or(Labels::nothing()) }
    };
    let known = |version: View<'_>| ["v1", "v1beta1"].into_iter().find(|known| *known == version.string());
    let seconds = view.int("timeoutSeconds").and_then(|seconds| u64::try_from(seconds).ok()).unwrap_or(10);
    Hook {
        uid: format!("{configuration}/{name}"),
        rules: view.list("rules").map(Rule::read).collect(),
        fails: view.text("failurePolicy") != "Ignore",
        equivalent: view.text("matchPolicy") != "Exact",
        namespaces: selector("namespaceSelector"),
        objects: selector("objectSelector"),
        without_side_effects: matches!(view.text("sideEffects"), "None" | "NoneOnDryRun"),
        reinvoked: view.text("reinvocationPolicy") == "IfNeeded",
        review: view.list("admissionReviewVersions").find_map(known),
        timeout: Duration::from_secs(seconds),
        condition: view.list("matchConditions").next().map(|condition| condition.text("name").to_owned()),
        remote: Remote::read(view.at("clientConfig")),
        name,
    }
}

impl Rule {
    fn read(view: View<'_>) -> Self {
        let split = |text: String| match text.split_once('/') {
            Some((resource, sub)) => (resource.to_owned(), sub.to_owned()),
            None => (text, String::new()),
        };
        Self {
            operations: texts(view, "operations"),
            groups: texts(view, "apiGroups"),
            versions: texts(view, "apiVersions"),
            resources: texts(view, "resources").into_iter().map(split).collect(),
            scope: view.text("scope").to_owned(),
        }
    }

    /// Whether a request is of interest.
    pub fn matches(
        &self,
        operation: Operation,
        namespaced: bool,
        group: &str,
        version: &str,
        plural: &str,
        sub: &str,
    ) -> bool {
        let one = |list: &[String], own: &str| list.iter().any(|item| item == "*" || item == own);
        let scope = match self.scope.as_str() {
            "Namespaced" => namespaced,
            "Cluster" => !namespaced,
            _ => true,
        };
        scope
            && one(&self.operations, operation.name())
            && one(&self.groups, group)
            && one(&self.versions, version)
            && self
                .resources
                .iter()
                .any(|(resource, own)| (resource == "*" || resource == plural) && (own == "*" || own == sub))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn rules_name_what_they_are_about() {
        let rule = |resources: &[&str], scope: &str| {
            let value = json!({
                "operations": ["CREATE", "UPDATE"], "apiGroups": ["apps", ""], "apiVersions": ["v1"],
                "resources": resources, "scope": scope,
            });
            Rule::read(View::new(&value))
        };
        let pods = |rule: &Rule, sub: &str| rule.matches(Operation::Create, true, "", "v1", "pods", sub);
        assert!(pods(&rule(&["pods"], "*"), "") && !pods(&rule(&["pods"], "*"), "status"));
        assert!(pods(&rule(&["*/*"], "*"), "status") && pods(&rule(&["pods/*"], "*"), "status"));
        assert!(!pods(&rule(&["*"], "*"), "status") && pods(&rule(&["*/status"], "*"), "status"));
        assert!(pods(&rule(&["pods"], "Namespaced"), "") && !pods(&rule(&["pods"], "Cluster"), ""));
        let all = rule(&["*"], "*");
        assert!(!all.matches(Operation::Delete, true, "", "v1", "pods", ""));
        assert!(!all.matches(Operation::Create, true, "batch", "v1", "jobs", ""));
        assert!(!all.matches(Operation::Create, true, "apps", "v1beta1", "deployments", ""));
    }
}
