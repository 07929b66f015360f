//! Acting as somebody else, with the headers `Impersonate-User`, `-Group`, `-Uid` and `-Extra-*`; each needs the verb
//! `impersonate`.
//!
//! <https://kubernetes.io/docs/reference/access-authn-authz/user-impersonation/>

use std::{collections::BTreeMap, sync::Arc};

use api::status::{Reason, Status};
use http::HeaderMap;

use super::{ANONYMOUS, AUTHENTICATED, UNAUTHENTICATED, User, rbac::Wanted};
use crate::{path, server::Server};

/// The user as whom a request is to be treated.
pub async fn user(server: &Server, user: Arc<User>, headers: &HeaderMap) -> Result<Arc<User>, Status> {
    let all = |name: &str| -> Vec<String> {
        headers.get_all(name).iter().filter_map(|value| value.to_str().ok()).map(str::to_owned).collect()
    };
    let name = all("impersonate-user").into_iter().next().unwrap_or_default();
    let uid = all("impersonate-uid").into_iter().next().unwrap_or_default();
    let mut groups = all("impersonate-group");
    let mut extra: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for key in headers.keys() {
        if let Some(rest) = key.as_str().strip_prefix("impersonate-extra-") {
            extra.insert(path::decode(rest), all(key.as_str()));
        }
    }
    if name.is_empty() && uid.is_empty() && groups.is_empty() && extra.is_empty() {
        return Ok(user);
    }
    if name.is_empty() {
        let text = "requested impersonation without impersonating a user name";
        return Err(Status::new(500, Reason::InternalError, format!("Internal error occurred: {text}"), None));
    }
    let mut asked = Vec::new();
    let account = name.strip_prefix("system:serviceaccount:").and_then(|rest| rest.split_once(':'));
    match account {
        Some((namespace, account)) => asked.push(("", "serviceaccounts", namespace, account, "")),
        None => asked.push(("", "users", "", name.as_str(), "")),
    }
    for group in &groups {
        asked.push(("", "groups", "", group.as_str(), ""));
    }
    if !uid.is_empty() {
        asked.push(("authentication.k8s.io", "uids", "", uid.as_str(), ""));
    }
    for (key, values) in &extra {
        for value in values {
            asked.push(("authentication.k8s.io", "userextras", "", value.as_str(), key.as_str()));
        }
    }
    for (group, resource, namespace, name, subresource) in asked {
        let wanted = Wanted { verb: "impersonate", group, resource, subresource, namespace, name, path: "" };
        server.authorize(&user, &wanted).await?;
    }
    if groups.is_empty()
        && let Some((namespace, _)) = account
    {
        groups = vec!["system:serviceaccounts".to_owned(), format!("system:serviceaccounts:{namespace}")];
    }
    let general = if name == ANONYMOUS { UNAUTHENTICATED } else { AUTHENTICATED };
    if !groups.iter().any(|own| own == AUTHENTICATED || own == UNAUTHENTICATED) {
        groups.push(general.to_owned());
    }
    Ok(Arc::new(User { name, uid, groups, extra }))
}
