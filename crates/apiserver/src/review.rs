//! Kinds that are not stored but answered: who a token belongs to, who somebody is, and who may do what.
//!
//! <https://kubernetes.io/docs/reference/access-authn-authz/authorization/#checking-api-access>

use std::{collections::BTreeMap, sync::Arc};

use api::{
    kinds::Kind,
    meta::{self, View},
    status::Status,
    validate::FieldError,
};
use http::Response;
use serde_json::{Map, Value, json};
use serve::body::Body;

use crate::{
    auth::{self, User, rbac::Wanted},
    call::Call,
    negotiate::Offer,
    options::WriteOptions,
    server::Server,
    sub,
};

/// Answers a POST.
pub async fn answer(server: &Arc<Server>, call: &Call, kind: &Kind) -> Result<Response<Body>, Status> {
    if call.info.verb != "create" || !call.info.name.is_empty() {
        return Err(Status::method_not_supported(kind.resource(), &call.info.verb));
    }
    if kind.kind == "Binding" {
        return sub::binding::answer(server, call, "").await;
    }
    call.accepted(Offer::PLAIN)?;
    let options = WriteOptions::parse(&call.query, "CreateOptions")?;
    let mut review = sub::body(call, &kind.gvk(), kind.schema, options.field_validation).await?;
    let status = match kind.kind {
        "TokenReview" => token(server, &review).await?,
        "SelfSubjectReview" => json!({ "userInfo": call.user.to_value() }),
        "SelfSubjectAccessReview" => {
            let spec = View::new(&review).at("spec");
            checked(kind, &review, spec, None)?;
            access(server, &call.user, spec).await
        }
        "SubjectAccessReview" | "LocalSubjectAccessReview" => {
            let spec = View::new(&review).at("spec");
            let local = (kind.kind == "LocalSubjectAccessReview").then_some(call.info.namespace.as_str());
            checked(kind, &review, spec, Some(local))?;
            access(server, &subject(spec), spec).await
        }
        "SelfSubjectRulesReview" => {
            let namespace = View::new(&review).at("spec").text("namespace");
            if namespace.is_empty() {
                return Err(Status::bad_request("no namespace on request"));
            }
            rules(server, &call.user, namespace)
        }
        _ => return Err(Status::method_not_supported(kind.resource(), "create")),
    };
    if kind.kind == "LocalSubjectAccessReview" {
        meta::set_namespace(&mut review, &call.info.namespace);
    }
    if kind.kind == "SelfSubjectReview" {
        meta::set_creation_timestamp(&mut review, server.now());
    }
    review["status"] = status;
    sub::shown(call, 201, &kind.gvk(), kind.schema, &review)
}

async fn token(server: &Server, review: &Value) -> Result<Value, Status> {
    let spec = View::new(review).at("spec");
    let token = spec.text("token");
    if token.is_empty() {
        return Err(Status::bad_request("token is required for TokenReview in authentication"));
    }
    let mut audiences: Vec<String> = spec.list("audiences").map(|item| item.string().to_owned()).collect();
    if audiences.is_empty() {
        audiences = server.tokens.audiences().to_vec();
    }
    Ok(match server.tokens.user_for(server, token, &audiences).await {
        Some((user, matched)) => json!({ "authenticated": true, "user": user.to_value(), "audiences": matched }),
        None => json!({ "user": {}, "error": "invalid bearer token" }),
    })
}

/// What must hold of any review of access. `subject` is none for reviews of oneself, else the namespace of a local one.
fn checked(kind: &Kind, review: &Value, spec: View<'_>, subject: Option<Option<&str>>) -> Result<(), Status> {
    let mut errors = Vec::new();
    let (resource, path) = (spec.at("resourceAttributes"), spec.at("nonResourceAttributes"));
    if resource.exists() && path.exists() {
        let detail = "cannot be specified in combination with resourceAttributes";
        errors.push(FieldError::invalid("spec.nonResourceAttributes", path.value().clone(), detail));
    }
    if !resource.exists() && !path.exists() {
        let detail = "exactly one of nonResourceAttributes or resourceAttributes must be specified";
        errors.push(FieldError::invalid("spec.resourceAttributes", resource.value().clone(), detail));
    }
    if let Some(local) = subject {
        if spec.text("user").is_empty() && spec.slice("groups").is_empty() {
            errors.push(FieldError::invalid("spec.user", "", "at least one of user or group must be specified"));
        }
        if let Some(namespace) = local {
            let own = meta::namespace(review);
            if !own.is_empty() && own != namespace {
                return Err(Status::bad_request(
                    "the namespace of the provided object does not match the namespace sent on the request",
                ));
            }
            if path.exists() {
                let detail = "disallowed on this kind of request";
                errors.push(FieldError::invalid("spec.nonResourceAttributes", path.value().clone(), detail));
            }
            if resource.exists() && resource.text("namespace") != namespace {
                let detail = "must match metadata.namespace";
                errors.push(FieldError::invalid(
                    "spec.resourceAttributes.namespace",
                    resource.text("namespace"),
                    detail,
                ));
            }
        }
    }
    if errors.is_empty() { Ok(()) } else { Err(Status::invalid(kind.group_kind(), "", &errors)) }
}

fn subject(spec: View<'_>) -> User {
    let extra: BTreeMap<String, Vec<String>> = spec
        .entries("extra")
        .map(|(key, values)| {
            let values = values.items_slice().iter().filter_map(Value::as_str).map(str::to_owned).collect();
            (key.to_owned(), values)
        })
        .collect();
    User {
        name: spec.text("user").to_owned(),
        uid: spec.text("uid").to_owned(),
        groups: spec.list("groups").map(|item| item.string().to_owned()).collect(),
        extra,
    }
}

async fn access(server: &Server, user: &User, spec: View<'_>) -> Value {
    let resource = spec.at("resourceAttributes");
    let path = spec.at("nonResourceAttributes");
    let wanted = if resource.exists() {
        Wanted {
            verb: resource.text("verb"),
            group: resource.text("group"),
            resource: resource.text("resource"),
            subresource: resource.text("subresource"),
            namespace: resource.text("namespace"),
            name: resource.text("name"),
            path: "",
        }
    } else {
        Wanted {
            verb: path.text("verb"),
            group: "",
            resource: "",
            subresource: "",
            namespace: "",
            name: "",
            path: path.text("path"),
        }
    };
    let allowed = server.allows(user, &wanted).await;
    let mut status = Map::new();
    status.insert("allowed".to_owned(), allowed.into());
    if allowed && user.is_in(auth::MASTERS) {
        status.insert("reason".to_owned(), format!("user is in group {}", auth::MASTERS).into());
    }
    status.into()
}

fn rules(server: &Server, user: &User, namespace: &str) -> Value {
    let registry = server.feed.registry();
    let mut all = server.rbac.rules(&registry, user, namespace);
    if user.is_in(auth::MASTERS) {
        all.push(Arc::new(auth::rbac::Rule::everything()));
    }
    let (paths, resources): (Vec<_>, Vec<_>) = all.iter().partition(|rule| !rule.paths.is_empty());
    json!({
        "resourceRules": resources.iter().map(|rule| rule.to_value()).collect::<Vec<_>>(),
        "nonResourceRules": paths.iter().map(|rule| rule.to_value()).collect::<Vec<_>>(),
        "incomplete": user.node().is_some(),
    })
}
