//! `serviceaccounts/NAME/token`: a token for an account, for a while, for an audience, bound to an object if wanted.

use std::sync::Arc;

use api::{
    kinds::Sub,
    meta::{self, Gvk, Qualified, View},
    status::Status,
    validate::FieldError,
};
use http::Response;
use jiff::SignedDuration;
use serde_json::json;
use serve::body::Body;

use crate::{auth::token::Claims, call::Call, options::WriteOptions, server::Server};

/// POST of a TokenRequest.
pub async fn answer(server: &Arc<Server>, call: &Call, sub: &Sub) -> Result<Response<Body>, Status> {
    let options = WriteOptions::parse(&call.query, "CreateOptions")?;
    let gvk = Gvk::new(sub.group, sub.version, sub.kind);
    let mut request = super::body(call, &gvk, sub.schema, options.field_validation).await?;
    let (namespace, name) = (call.info.namespace.as_str(), call.info.name.as_str());
    let kind = Qualified { group: sub.group, name: sub.kind };
    let mut errors = Vec::new();
    if !matches!(meta::name(&request), own if own.is_empty() || own == name) {
        let detail = "must match the service account name if specified";
        errors.push(FieldError::invalid("metadata.name", meta::name(&request), detail));
    }
    if !matches!(meta::namespace(&request), own if own.is_empty() || own == namespace) {
        let detail = "must match the service account namespace if specified";
        errors.push(FieldError::invalid("metadata.namespace", meta::namespace(&request), detail));
    }
    if !errors.is_empty() {
        return Err(Status::invalid(kind, name, &errors));
    }
    let Some(account) = server.find("", "serviceaccounts", namespace, name).await? else {
        return Err(Status::not_found(Qualified { group: "", name: "serviceaccounts" }, name));
    };
    let account = account.value();
    let uid = meta::uid(&account);
    if !matches!(meta::uid(&request), own if own.is_empty() || own == uid) {
        let why = format!(
            "the UID in the token request ({}) does not match the UID of the service account ({uid})",
            meta::uid(&request)
        );
        return Err(Status::conflict(kind, name, &why));
    }
    super::check(kind, "", &request)?;
    let view = View::new(&request).at("spec");
    let seconds = view.int("expirationSeconds").unwrap_or(3600);
    let mut audiences: Vec<String> = view.list("audiences").map(|item| item.string().to_owned()).collect();
    if audiences.is_empty() {
        audiences = server.tokens.audiences().to_vec();
    }
    let now = server.now();
    let mut claims = Claims {
        namespace: namespace.to_owned(),
        account: (name.to_owned(), uid.to_owned()),
        audiences: audiences.clone(),
        issued: now.as_second(),
        expires: now.as_second() + seconds,
        id: server.new_uid(),
        ..Claims::default()
    };
    let bound = view.at("boundObjectRef");
    if bound.exists() {
        bind(server, &mut claims, namespace, name, bound).await?;
    }
    let token =
        server.tokens.issue(&claims).map_err(|error| Status::internal(format!("failed to generate token: {error}")))?;
    meta::set_name(&mut request, name);
    meta::set_namespace(&mut request, namespace);
    meta::set_uid(&mut request, uid);
    meta::set_creation_timestamp(&mut request, now);
    let spec = meta::object_at(&mut request, "spec");
    spec.insert("audiences".to_owned(), json!(audiences));
    spec.insert("expirationSeconds".to_owned(), seconds.into());
    request["status"] = json!({
        "token": token, "expirationTimestamp": meta::rfc3339(now + SignedDuration::from_secs(seconds)),
    });
    super::shown(call, 201, &gvk, sub.schema, &request)
}

/// Binds a token to an object: it ends with it.
async fn bind(
    server: &Server,
    claims: &mut Claims,
    namespace: &str,
    account: &str,
    bound: View<'_>,
) -> Result<(), Status> {
    let (api_version, kind, name) = (bound.text("apiVersion"), bound.text("kind"), bound.text("name"));
    let (plural, namespace) = match (api_version, kind) {
        ("v1" | "", "Pod") => ("pods", namespace),
        ("v1" | "", "Secret") => ("secrets", namespace),
        ("v1" | "", "Node") => ("nodes", ""),
        _ => {
            let gvk = Gvk::parse(api_version, kind).unwrap_or_default();
            return Err(Status::bad_request(format!("cannot bind token to object of type {gvk}")));
        }
    };
    let Some(object) = server.find("", plural, namespace, name).await? else {
        return Err(Status::not_found(Qualified { group: "", name: plural }, name));
    };
    let value = object.value();
    let uid = meta::uid(&value).to_owned();
    let wanted = bound.text("uid");
    if !wanted.is_empty() && wanted != uid {
        let why = format!(
            "the UID in the bound object reference ({wanted}) does not match the UID in record. The object might have been \
             deleted and then recreated"
        );
        return Err(Status::conflict(Qualified { group: "", name: kind }, name, &why));
    }
    let own = Some((name.to_owned(), uid));
    match kind {
        "Pod" => {
            let spec = View::new(&value).at("spec");
            if spec.text("serviceAccountName") != account {
                return Err(Status::bad_request(format!(
                    "cannot bind token for serviceaccount {account:?} to pod running with different serviceaccount name."
                )));
            }
            let node = spec.text("nodeName");
            if !node.is_empty() {
                let uid = server.find("", "nodes", "", node).await?.map(|node| meta::uid(&node.value()).to_owned());
                claims.node = Some((node.to_owned(), uid.unwrap_or_default()));
            }
            claims.pod = own;
        }
        "Secret" => claims.secret = own,
        _ => claims.node = own,
    }
    Ok(())
}
