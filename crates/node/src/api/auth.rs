//! Who may use the node's API: client certificates of the cluster's authority, or bearer tokens that the API server
//! reviews; and for both the API server says what they may do. Answers are remembered for a while.
//! <https://kubernetes.io/docs/reference/access-authn-authz/kubelet-authn-authz/>

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use http::{HeaderMap, Method, header};
use k8s_openapi::api::{
    authentication::v1::{TokenReview, TokenReviewSpec},
    authorization::v1::{ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec},
};
use kube::{Api, api::PostParams};
use serve::Peer;

/// How long a yes and a no hold.
const YES: Duration = Duration::from_secs(300);
const NO: Duration = Duration::from_secs(30);
/// Answers remembered.
const MEMORY: usize = 2048;
/// Members may do anything.
const MASTERS: &str = "system:masters";

/// Who asks.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct User {
    /// Name.
    pub name: String,
    /// Groups.
    pub groups: Vec<String>,
}

/// Why somebody may not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Nobody knows who it is.
    Unauthorized,
    /// It is known who it is.
    Forbidden(String),
    /// The API server cannot be asked.
    Unavailable(String),
}

/// Asks the API server and remembers.
#[derive(Clone)]
pub struct Gate {
    client: kube::Client,
    node: Arc<str>,
    users: Arc<Mutex<HashMap<String, (Instant, Option<User>)>>>,
    verdicts: Arc<Mutex<HashMap<(User, String, String), (Instant, bool)>>>,
}

impl Gate {
    /// The gate of the node `node`.
    pub fn new(client: kube::Client, node: &str) -> Self {
        Self { client, node: node.into(), users: Arc::default(), verdicts: Arc::default() }
    }

    /// Lets a request pass, or refuses it.
    pub async fn pass(
        &self,
        peer: Option<&Peer>,
        headers: &HeaderMap,
        method: &Method,
        path: &str,
    ) -> Result<User, Refusal> {
        let user = match peer.and_then(|peer| peer.certificates.first()).and_then(|certificate| subject(certificate)) {
            Some(user) => user,
            None => {
                let token = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
                let token = token.and_then(|value| value.strip_prefix("Bearer ")).ok_or(Refusal::Unauthorized)?;
                self.review(token).await?
            }
        };
        if user.groups.iter().any(|group| group == MASTERS) {
            return Ok(user);
        }
        let (verb, resource) = (verb(method), subresource(path));
        if self.allowed(&user, verb, resource).await? {
            return Ok(user);
        }
        let message =
            format!("Forbidden (user={}, verb={verb}, resource=nodes, subresource(s)=[{resource}])", user.name);
        Err(Refusal::Forbidden(message))
    }

    async fn review(&self, token: &str) -> Result<User, Refusal> {
        let known = lock(&self.users).get(token).cloned();
        if let Some((until, user)) = known.filter(|(until, _)| *until > Instant::now()) {
            tracing::trace!(?until, "token known");
            return user.ok_or(Refusal::Unauthorized);
        }
        let review = TokenReview {
            spec: TokenReviewSpec { token: token.to_owned(), ..Default::default() },
            ..Default::default()
        };
        let api: Api<TokenReview> = Api::all(self.client.clone());
        let answer = api.create(&PostParams::default(), &review).await;
        let status = answer.map_err(|error| Refusal::Unavailable(error.to_string()))?.status.unwrap_or_default();
        let user = status
            .user
            .filter(|_| status.authenticated == Some(true))
            .map(|user| User { name: user.username.unwrap_or_default(), groups: user.groups.unwrap_or_default() });
        let until = Instant::now() + if user.is_some() { YES.min(Duration::from_secs(120)) } else { NO };
        let mut users = lock(&self.users);
        if users.len() >= MEMORY {
            users.clear();
        }
        users.insert(token.to_owned(), (until, user.clone()));
        user.ok_or(Refusal::Unauthorized)
    }

    async fn allowed(&self, user: &User, verb: &str, resource: &str) -> Result<bool, Refusal> {
        let key = (user.clone(), verb.to_owned(), resource.to_owned());
        let known = lock(&self.verdicts).get(&key).copied();
        if let Some((_, verdict)) = known.filter(|(until, _)| *until > Instant::now()) {
            return Ok(verdict);
        }
        let review = SubjectAccessReview {
            spec: SubjectAccessReviewSpec {
                user: Some(user.name.clone()),
                groups: Some(user.groups.clone()),
                resource_attributes: Some(ResourceAttributes {
                    verb: Some(verb.to_owned()),
                    version: Some("v1".into()),
                    resource: Some("nodes".into()),
                    subresource: Some(resource.to_owned()),
                    name: Some(self.node.to_string()),
                    ..Default::default()
                }),
                ..Default::default()
            },
            ..Default::default()
        };
        let api: Api<SubjectAccessReview> = Api::all(self.client.clone());
        let answer = api.create(&PostParams::default(), &review).await;
        let answer = answer.map_err(|error| Refusal::Unavailable(error.to_string()))?;
        let verdict = answer.status.is_some_and(|status| status.allowed);
        let mut verdicts = lock(&self.verdicts);
        if verdicts.len() >= MEMORY {
            verdicts.clear();
        }
        verdicts.insert(key, (Instant::now() + if verdict { YES } else { NO }, verdict));
        Ok(verdict)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// Common name and organisations of a certificate that TLS has already verified.
fn subject(certificate: &[u8]) -> Option<User> {
    let (_, parsed) = x509_parser::parse_x509_certificate(certificate).ok()?;
    let name = parsed.subject().iter_common_name().next()?.as_str().ok()?.to_owned();
    let groups = parsed.subject().iter_organization().filter_map(|group| group.as_str().ok().map(str::to_owned));
    Some(User { name, groups: groups.collect() })
}

fn verb(method: &Method) -> &'static str {
    match *method {
        Method::POST => "create",
        Method::PUT => "update",
        Method::PATCH => "patch",
        Method::DELETE => "delete",
        _ => "get",
    }
}

/// Which part of `nodes` a path belongs to.
fn subresource(path: &str) -> &'static str {
    let first = path.trim_start_matches('/').split('/').next().unwrap_or("");
    match first {
        "stats" => "stats",
        "metrics" => "metrics",
        "logs" => "log",
        "healthz" => "healthz",
        "configz" => "configz",
        "pods" | "runningpods" => "pods",
        _ => "proxy",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_belong_to_subresources_as_upstream_documents() {
        let cases = [
            ("/stats/summary", "stats"),
            ("/metrics/resource", "metrics"),
            ("/pods", "pods"),
            ("/exec/a/b/c", "proxy"),
            ("/containerLogs/a/b/c", "proxy"),
            ("/healthz", "healthz"),
        ];
        for (path, wanted) in cases {
            assert_eq!(subresource(path), wanted);
        }
        assert_eq!((verb(&Method::POST), verb(&Method::GET), verb(&Method::HEAD)), ("create", "get", "get"));
    }
}
