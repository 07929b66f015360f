//! Roles and bindings: what they allow, worked out from the cache and kept until one of them changes.
//!
//! ```text
//! user, groups ──> bindings that name them ──> roles ──> rules ──> does one cover the request?
//! ```
//!
//! <https://kubernetes.io/docs/reference/access-authn-authz/rbac/>

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use api::meta::View;
use serde_json::{Value, json};

use super::User;
use crate::{object::Object, path::RequestInfo, registry::Registry, selection::Selection};

/// The group of roles and bindings.
pub const GROUP: &str = "rbac.authorization.k8s.io";

/// What somebody wants to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wanted<'a> {
    /// `get`, `list`, ...
    pub verb: &'a str,
    /// API group.
    pub group: &'a str,
    /// Plural of the resource; empty for a path.
    pub resource: &'a str,
    /// Sub-resource, or "".
    pub subresource: &'a str,
    /// Namespace, or "" for none or all.
    pub namespace: &'a str,
    /// Name, or "".
    pub name: &'a str,
    /// The path, where it names no resource.
    pub path: &'a str,
}

impl<'a> Wanted<'a> {
    /// What a request wants.
    pub fn of(info: &'a RequestInfo) -> Self {
        if !info.is_resource {
            let none = "";
            return Self {
                verb: &info.verb,
                group: none,
                resource: none,
                subresource: none,
                namespace: none,
                name: none,
                path: &info.path,
            };
        }
        Self {
            verb: &info.verb,
            group: &info.group,
            resource: &info.resource,
            subresource: &info.subresource,
            namespace: &info.namespace,
            name: &info.name,
            path: "",
        }
    }
}

/// One rule of a role.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rule {
    /// Verbs, or `*`.
    pub verbs: Vec<String>,
    /// Groups, or `*`.
    pub groups: Vec<String>,
    /// Resources: `pods`, `pods/log`, `*/scale`, `*`.
    pub resources: Vec<String>,
    /// Names; none for all.
    pub names: Vec<String>,
    /// Paths, with `*` at the end for what begins so.
    pub paths: Vec<String>,
}

impl Rule {
    /// From a rule of a role.
    pub fn read(view: View<'_>) -> Self {
        let texts = |key: &str| view.list(key).map(|item| item.string().to_owned()).collect();
        Self {
            verbs: texts("verbs"),
            groups: texts("apiGroups"),
            resources: texts("resources"),
            names: texts("resourceNames"),
            paths: texts("nonResourceURLs"),
        }
    }

    /// Every verb on every resource.
    pub fn everything() -> Self {
        let all = || vec!["*".to_owned()];
        Self { verbs: all(), groups: all(), resources: all(), names: Vec::new(), paths: Vec::new() }
    }

    /// As `ResourceRule` or `NonResourceRule` of a rules review.
    pub fn to_value(&self) -> Value {
        if !self.paths.is_empty() {
            return json!({ "verbs": self.verbs, "nonResourceURLs": self.paths });
        }
        let mut value = json!({ "verbs": self.verbs, "apiGroups": self.groups, "resources": self.resources });
        if !self.names.is_empty() {
            value["resourceNames"] = json!(self.names);
        }
        value
    }

    /// Whether the rule allows it.
    pub fn allows(&self, wanted: &Wanted<'_>) -> bool {
        if !has(&self.verbs, wanted.verb) {
            return false;
        }
        if wanted.resource.is_empty() {
            return self.paths.iter().any(|path| {
                path == "*"
                    || path == wanted.path
                    || path.strip_suffix('*').is_some_and(|start| wanted.path.starts_with(start.trim_end_matches('*')))
            });
        }
        has(&self.groups, wanted.group)
            && self.has_resource(wanted)
            && (self.names.is_empty() || self.names.iter().any(|name| name == wanted.name))
    }

    fn has_resource(&self, wanted: &Wanted<'_>) -> bool {
        self.resources.iter().any(|own| {
            if own == "*" {
                return true;
            }
            if wanted.subresource.is_empty() {
                return own == wanted.resource;
            }
            match own.split_once('/') {
                Some((resource, sub)) => (resource == "*" || resource == wanted.resource) && sub == wanted.subresource,
                None => false,
            }
        })
    }

    /// The rule taken apart into single grants.
    fn single(&self) -> Vec<Rule> {
        let none = [String::new()];
        let or_none =
            |list: &'_ [String]| -> Vec<String> { if list.is_empty() { none.to_vec() } else { list.to_vec() } };
        let listed = |one: &String| if one.is_empty() { Vec::new() } else { vec![one.clone()] };
        let mut all = Vec::new();
        for verb in &self.verbs {
            for path in &self.paths {
                all.push(Rule { verbs: vec![verb.clone()], paths: vec![path.clone()], ..Rule::default() });
            }
            for group in &self.groups {
                for resource in &self.resources {
                    for name in or_none(&self.names) {
                        all.push(Rule {
                            verbs: vec![verb.clone()],
                            groups: vec![group.clone()],
                            resources: vec![resource.clone()],
                            names: listed(&name),
                            paths: Vec::new(),
                        });
                    }
                }
            }
        }
        all
    }

    /// In upstream's short form: `{APIGroups:[""], Resources:["pods"], Verbs:["get"]}`.
    fn short(&self) -> String {
        let list = |name: &str, list: &[String]| {
            let items: Vec<String> = list.iter().map(|item| format!("{item:?}")).collect();
            (!list.is_empty()).then(|| format!("{name}:[{}]", items.join(" ")))
        };
        let parts = [
            list("APIGroups", &self.groups),
            list("Resources", &self.resources),
            list("NonResourceURLs", &self.paths),
            list("ResourceNames", &self.names),
            list("Verbs", &self.verbs),
        ];
        format!("{{{}}}", parts.into_iter().flatten().collect::<Vec<_>>().join(", "))
    }

    /// Whether all that the rule allows is allowed by `owned`: the check against giving away more than one has.
    pub fn covered(&self, owned: &[Arc<Rule>]) -> bool {
        let verbs = &self.verbs;
        if !self.paths.is_empty() {
            return self.paths.iter().all(|path| {
                verbs.iter().all(|verb| {
                    owned.iter().any(|rule| {
                        has(&rule.verbs, verb)
                            && rule.paths.iter().any(|own| {
                                own == path
                                    || own == "*"
                                    || own.strip_suffix('*').is_some_and(|start| path.starts_with(start))
                            })
                    })
                })
            });
        }
        let no_name = [String::new()];
        let names: &[String] = if self.names.is_empty() { &no_name } else { &self.names };
        self.groups.iter().all(|group| {
            self.resources.iter().all(|resource| {
                names.iter().all(|name| {
                    verbs.iter().all(|verb| {
                        owned.iter().any(|rule| {
                            let sub = resource.split_once('/').map(|(_, sub)| format!("*/{sub}"));
                            has(&rule.verbs, verb)
                                && has(&rule.groups, group)
                                && (has(&rule.resources, resource)
                                    || sub.is_some_and(|sub| rule.resources.contains(&sub)))
                                && (rule.names.is_empty() || !name.is_empty() && rule.names.contains(name))
                        })
                    })
                })
            })
        })
    }
}

/// Why a user may not grant `rules`: what is missing of them among `owned`. `None` if nothing is.
pub fn escalation(user: &User, owned: &[Arc<Rule>], rules: &[Arc<Rule>]) -> Option<String> {
    let mut missing: Vec<Rule> = Vec::new();
    for rule in rules.iter().flat_map(|rule| rule.single()).filter(|rule| !rule.covered(owned)) {
        let same = |own: &&mut Rule| {
            (&own.groups, &own.resources, &own.names, &own.paths)
                == (&rule.groups, &rule.resources, &rule.names, &rule.paths)
        };
        match missing.iter_mut().find(same) {
            Some(own) => own.verbs.extend(rule.verbs),
            None => missing.push(rule),
        }
    }
    if missing.is_empty() {
        return None;
    }
    let mut lines: Vec<String> = missing.iter().map(Rule::short).collect();
    lines.sort();
    lines.dedup();
    let groups: Vec<String> = user.groups.iter().map(|group| format!("{group:?}")).collect();
    Some(format!(
        "user {:?} (groups=[{}]) is attempting to grant RBAC permissions not currently held:\n{}",
        user.name,
        groups.join(" "),
        lines.join("\n")
    ))
}

fn has(list: &[String], wanted: &str) -> bool {
    list.iter().any(|own| own == "*" || own == wanted)
}

/// The rules of a role.
pub fn rules(role: &Value) -> Vec<Arc<Rule>> {
    View::new(role).list("rules").map(|rule| Arc::new(Rule::read(rule))).collect()
}

/// Whoever a binding names.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Subject {
    User(String),
    Group(String),
}

type Rules = Arc<[Arc<Rule>]>;

#[derive(Debug)]
struct Grant {
    /// Where it counts; everywhere if empty.
    namespace: String,
    rules: Rules,
}

/// All that is granted, by subject.
#[derive(Debug, Default)]
struct Grants {
    by_subject: HashMap<Subject, Vec<Grant>>,
}

/// The authorizer.
#[derive(Debug, Default)]
pub struct Rbac {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    seen: [u64; 4],
    grants: Arc<Grants>,
    /// Rules of roles, by key, with the revision that they were read from.
    roles: HashMap<Arc<str>, (u64, Rules)>,
}

const KINDS: [&str; 4] = ["roles", "clusterroles", "rolebindings", "clusterrolebindings"];

impl Rbac {
    /// Whether a binding grants it.
    pub fn allows(&self, registry: &Registry, user: &User, wanted: &Wanted<'_>) -> bool {
        let grants = self.grants(registry);
        let mut found = false;
        grants.visit(user, wanted.namespace, |rule| {
            found = found || rule.allows(wanted);
            !found
        });
        found
    }

    /// Everything that a user may do in a namespace, cluster-wide grants included.
    pub fn rules(&self, registry: &Registry, user: &User, namespace: &str) -> Vec<Arc<Rule>> {
        let mut rules = Vec::new();
        self.grants(registry).visit(user, namespace, |rule| {
            rules.push(rule.clone());
            true
        });
        rules
    }

    fn grants(&self, registry: &Registry) -> Arc<Grants> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let mut seen = [0; 4];
        for (seen, plural) in seen.iter_mut().zip(KINDS) {
            *seen = registry.resource(GROUP, plural).map_or(0, |resource| resource.cache.generation());
        }
        if seen != state.seen {
            state.rebuild(registry);
            state.seen = seen;
        }
        state.grants.clone()
    }
}

impl State {
    fn rebuild(&mut self, registry: &Registry) {
        let all = |plural: &str| -> Vec<Arc<Object>> {
            registry
                .resource(GROUP, plural)
                .map(|resource| resource.cache.all(&Selection::everything(&resource.prefix)))
                .unwrap_or_default()
        };
        let mut roles = HashMap::new();
        for role in all("roles").into_iter().chain(all("clusterroles")) {
            let rules = match self.roles.get(role.key()) {
                Some((revision, rules)) if *revision == role.revision() => rules.clone(),
                _ => rules(&role.value()).into(),
            };
            roles.insert(role.key().clone(), (role.revision(), rules));
        }
        self.roles = roles;
        let mut grants = Grants::default();
        for binding in all("clusterrolebindings").into_iter().chain(all("rolebindings")) {
            let value = binding.value();
            let namespace = api::meta::namespace(&value);
            let role = View::new(&value).at("roleRef");
            let key = match role.text("kind") {
                "ClusterRole" => registry.resource(GROUP, "clusterroles").map(|own| own.key("", role.text("name"))),
                _ => registry.resource(GROUP, "roles").map(|own| own.key(namespace, role.text("name"))),
            };
            let Some((_, rules)) = key.and_then(|key| self.roles.get(key.as_str())) else { continue };
            for subject in View::new(&value).list("subjects") {
                let name = subject.text("name");
                let subject = match subject.text("kind") {
                    "User" => Subject::User(name.to_owned()),
                    "Group" => Subject::Group(name.to_owned()),
                    "ServiceAccount" => {
                        let own = subject.text("namespace");
                        let own = if own.is_empty() { namespace } else { own };
                        Subject::User(format!("system:serviceaccount:{own}:{name}"))
                    }
                    _ => continue,
                };
                let grant = Grant { namespace: namespace.to_owned(), rules: rules.clone() };
                grants.by_subject.entry(subject).or_default().push(grant);
            }
        }
        self.grants = Arc::new(grants);
    }
}

impl Grants {
    /// Calls `visit` with every rule that counts for a user there, until it returns false.
    fn visit(&self, user: &User, namespace: &str, mut visit: impl FnMut(&Arc<Rule>) -> bool) {
        let own = std::iter::once(Subject::User(user.name.clone()));
        let groups = user.groups.iter().map(|group| Subject::Group(group.clone()));
        for subject in own.chain(groups) {
            for grant in self.by_subject.get(&subject).into_iter().flatten() {
                if (grant.namespace.is_empty() || grant.namespace == namespace) && !grant.rules.iter().all(&mut visit) {
                    return;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(value: Value) -> Rule {
        Rule::read(View::new(&value))
    }

    fn wanted<'a>(verb: &'a str, group: &'a str, resource: &'a str, subresource: &'a str, name: &'a str) -> Wanted<'a> {
        Wanted { verb, group, resource, subresource, namespace: "web", name, path: "" }
    }

    #[test]
    fn rules_match_as_upstreams_do() {
        let read = rule(json!({"verbs": ["get", "list"], "apiGroups": [""], "resources": ["pods", "pods/log"]}));
        assert!(read.allows(&wanted("get", "", "pods", "", "a")));
        assert!(read.allows(&wanted("get", "", "pods", "log", "a")));
        assert!(!read.allows(&wanted("get", "", "pods", "exec", "a")));
        assert!(!read.allows(&wanted("delete", "", "pods", "", "a")));
        assert!(!read.allows(&wanted("get", "apps", "pods", "", "a")));
        let scale = rule(json!({"verbs": ["*"], "apiGroups": ["*"], "resources": ["*/scale"]}));
        assert!(scale.allows(&wanted("patch", "apps", "deployments", "scale", "a")));
        assert!(!scale.allows(&wanted("patch", "apps", "deployments", "", "a")));
        let named =
            rule(json!({"verbs": ["get"], "apiGroups": [""], "resources": ["secrets"], "resourceNames": ["a"]}));
        assert!(named.allows(&wanted("get", "", "secrets", "", "a")));
        assert!(!named.allows(&wanted("get", "", "secrets", "", "b")));
        assert!(!named.allows(&wanted("list", "", "secrets", "", "")));
        let paths = rule(json!({"verbs": ["get"], "nonResourceURLs": ["/healthz", "/api/*"]}));
        let path = |path| Wanted { path, ..wanted("get", "", "", "", "") };
        assert!(paths.allows(&path("/healthz")) && paths.allows(&path("/api/v1")) && !paths.allows(&path("/metrics")));
    }

    #[test]
    fn a_rule_is_covered_by_what_one_has() {
        let owned = [
            Arc::new(rule(json!({"verbs": ["get", "list"], "apiGroups": [""], "resources": ["pods"]}))),
            Arc::new(rule(json!({"verbs": ["watch"], "apiGroups": [""], "resources": ["*"]}))),
            Arc::new(rule(
                json!({"verbs": ["get"], "apiGroups": [""], "resources": ["secrets"], "resourceNames": ["a"]}),
            )),
        ];
        let covered = |value: Value| rule(value).covered(&owned);
        assert!(covered(json!({"verbs": ["get", "watch"], "apiGroups": [""], "resources": ["pods"]})));
        assert!(!covered(json!({"verbs": ["delete"], "apiGroups": [""], "resources": ["pods"]})));
        assert!(!covered(json!({"verbs": ["*"], "apiGroups": [""], "resources": ["pods"]})));
        assert!(covered(
            json!({"verbs": ["get"], "apiGroups": [""], "resources": ["secrets"], "resourceNames": ["a"]})
        ));
        assert!(!covered(json!({"verbs": ["get"], "apiGroups": [""], "resources": ["secrets"]})));
    }
}
