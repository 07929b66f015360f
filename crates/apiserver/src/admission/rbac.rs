//! Nobody gives away more than they have: roles and bindings may hold what their author holds, unless the author may
//! `escalate` or `bind`.
//!
//! <https://kubernetes.io/docs/reference/access-authn-authz/rbac/#privilege-escalation-prevention-and-bootstrapping>

use std::sync::Arc;

use api::{
    meta::{self, View},
    status::Status,
};
use serde_json::Value;

use super::{Attributes, Operation};
use crate::{
    auth::{
        self,
        rbac::{self, GROUP, Rule, Wanted},
    },
    server::Server,
};

/// On creations and updates of roles and bindings.
pub async fn validate(
    server: &Server,
    attributes: &Attributes<'_>,
    object: Option<&Value>,
    old: Option<&Value>,
) -> Result<(), Status> {
    let (Some(new), true) = (object, attributes.kind.group == GROUP) else { return Ok(()) };
    if attributes.user.is_in(auth::MASTERS)
        || !matches!(attributes.operation, Operation::Create | Operation::Update)
        || old.is_some_and(|old| only_collected(new, old))
    {
        return Ok(());
    }
    let kind = attributes.kind;
    match kind.kind {
        "Role" | "ClusterRole" => {
            let wanted = wanted("escalate", kind.plural, attributes.namespace, attributes.name);
            if server.allows(attributes.user, &wanted).await {
                return Ok(());
            }
            held(server, attributes, &rbac::rules(new))?;
            let gathers =
                |role: &Value| !View::new(role).at("aggregationRule").slice("clusterRoleSelectors").is_empty();
            if gathers(new) || old.is_some_and(gathers) {
                let paths = Rule { paths: vec!["*".to_owned()], verbs: vec!["*".to_owned()], ..Rule::default() };
                if held(server, attributes, &[Arc::new(Rule::everything()), Arc::new(paths)]).is_err() {
                    return Err(attributes.refuse("must have cluster-admin privileges to use the aggregationRule"));
                }
            }
            Ok(())
        }
        _ => {
            let role = View::new(new).at("roleRef");
            let (role_kind, name) = (role.text("kind"), role.text("name"));
            let (plural, namespace) =
                if role_kind == "Role" { ("roles", attributes.namespace) } else { ("clusterroles", "") };
            let wanted = wanted("bind", plural, attributes.namespace, name);
            if server.allows(attributes.user, &wanted).await {
                return Ok(());
            }
            let Some(role) = server.find(GROUP, plural, namespace, name).await? else {
                return Err(Status::not_found(meta::Qualified { group: GROUP, name: plural }, name));
            };
            held(server, attributes, &rbac::rules(&role.value()))
        }
    }
}

fn wanted<'a>(verb: &'a str, resource: &'a str, namespace: &'a str, name: &'a str) -> Wanted<'a> {
    Wanted { verb, group: GROUP, resource, subresource: "", namespace, name, path: "" }
}

fn held(server: &Server, attributes: &Attributes<'_>, rules: &[Arc<Rule>]) -> Result<(), Status> {
    let registry = server.feed.registry();
    let owned = server.rbac.rules(&registry, attributes.user, attributes.namespace);
    match rbac::escalation(attributes.user, &owned, rules) {
        None => Ok(()),
        Some(why) => Err(attributes.refuse(why)),
    }
}

/// Whether only owners and finalizers change, as the garbage collector does.
fn only_collected(new: &Value, old: &Value) -> bool {
    let mut new = new.clone();
    let (before, after) = (meta::metadata(old), meta::metadata_mut(&mut new));
    for member in ["ownerReferences", "finalizers"] {
        match before.at(member).value() {
            Value::Null => _ = after.remove(member),
            value => _ = after.insert(member.to_owned(), value.clone()),
        }
    }
    View::new(&new).same(View::new(old))
}
