//! Who asks, and what they may: Kubernetes' users and RBAC.
//!
//! ```text
//! certificate ───────────────────────────┐
//! Bearer: a Kubernetes token ─ review ───┤
//! Basic: the same as the password ───────┴► user ─ SubjectAccessReview ─► may, or may not
//! Bearer: a token of this registry ──────► what /token has granted after the same questions, for five minutes
//! nothing ───────────────────────────────► may pull where the door says so, else is told where tokens are
//! ```
//!
//! A repository `team/app` is the object `app` of resource `repositories` in group `registry.madang.dev`, in namespace
//! `team`; `app`, and `docker.io/library/app` because no namespace has a dot, are objects outside of namespaces. Verbs:
//! `get` to pull, `update` to push, `delete`, `list` for the catalog.
//!
//! Token protocol: <https://distribution.github.io/distribution/spec/auth/token/> and `oauth` beside it.

use std::{sync::Arc, time::Duration};

use access::gate::{self, Gate, User};
use base64::{Engine, engine::general_purpose::STANDARD};
use http::{HeaderName, Method, StatusCode, header, request::Parts};
use k8s_openapi::api::authorization::v1::ResourceAttributes;
use oci::{distribution as codes, reference::is_repository};
use serde::{Deserialize, Serialize};
use serve::{Body, Peer, body};

use crate::{
    answer::{Answer, Refusal, json},
    route::{form, parameter},
};
use token::{Claims, Tokens};

mod token;

#[cfg(test)]
mod tests;

/// The API group of the resource `repositories`.
pub const GROUP: &str = "registry.madang.dev";
const RESOURCE: &str = "repositories";
/// How long a granted token is good for.
const LIFETIME: Duration = Duration::from_secs(300);
/// Largest request for a token, in bytes.
const FORM: usize = 64 << 10;
/// Scopes asked for at once.
const SCOPES: usize = 32;

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// Read manifests, blobs and tags.
    Pull,
    /// Write them.
    Push,
    /// Remove them.
    Delete,
    /// See which repositories there are.
    List,
}

impl Action {
    fn verb(self) -> &'static str {
        match self {
            Self::Pull => "get",
            Self::Push => "update",
            Self::Delete => "delete",
            Self::List => "list",
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Pull => "pull",
            Self::Push => "push",
            Self::Delete => "delete",
            Self::List => "*",
        }
    }
}

/// An action and what it is done to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Scope {
    /// The repository; none for the catalog.
    pub repository: Option<String>,
    /// What is done.
    pub action: Action,
}

impl Scope {
    /// An action in one repository.
    pub fn repository(name: &str, action: Action) -> Self {
        Self { repository: Some(name.to_owned()), action }
    }

    /// Listing all repositories.
    pub fn catalog() -> Self {
        Self { repository: None, action: Action::List }
    }

    /// As clients ask for it: `repository:team/app:pull,push`, `registry:catalog:*`. Unknown parts are left out.
    fn parse(text: &str) -> Vec<Self> {
        let Some((kind, rest)) = text.split_once(':') else { return Vec::new() };
        let Some((name, actions)) = rest.rsplit_once(':') else { return Vec::new() };
        match kind {
            "registry" if name == "catalog" => vec![Self::catalog()],
            "repository" if is_repository(name) => {
                let all = [Action::Pull, Action::Push, Action::Delete];
                let asked = |action: &Action| actions.split(',').any(|text| text == action.name() || text == "*");
                all.into_iter().filter(asked).map(|action| Self::repository(name, action)).collect()
            }
            _ => Vec::new(),
        }
    }

    /// As challenges name it.
    fn text(&self) -> String {
        match &self.repository {
            None => "registry:catalog:*".to_owned(),
            // Whoever pushes asks what is there already.
            Some(name) if self.action == Action::Push => format!("repository:{name}:pull,push"),
            Some(name) => format!("repository:{name}:{}", self.action.name()),
        }
    }

    /// What RBAC is asked.
    fn attributes(&self) -> ResourceAttributes {
        let (namespace, name) = match self.repository.as_deref() {
            None => (None, None),
            Some(repository) => match repository.split_once('/') {
                Some((namespace, name)) if is_namespace(namespace) => (Some(namespace), Some(name)),
                _ => (None, Some(repository)),
            },
        };
        ResourceAttributes {
            group: Some(GROUP.to_owned()),
            version: Some("v1".to_owned()),
            resource: Some(RESOURCE.to_owned()),
            verb: Some(self.action.verb().to_owned()),
            namespace: namespace.map(str::to_owned),
            name: name.map(str::to_owned),
            ..ResourceAttributes::default()
        }
    }
}

/// Whether a part of a name can be a namespace: a DNS label.
fn is_namespace(text: &str) -> bool {
    text.len() <= 63 && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
}

/// One way in: a listener and its rules.
#[derive(Clone, Debug)]
pub struct Door {
    /// Who is asked; without a guard everybody may do everything.
    pub guard: Option<Guard>,
    /// Whether pulling needs no login.
    pub anonymous_pull: bool,
    /// Whether only requests meant for this machine's loopback are answered.
    pub local_only: bool,
    /// `http` or `https`: how clients reach it.
    pub scheme: &'static str,
}

/// Asks the API server, and remembers for a short time by tokens of its own.
#[derive(Clone)]
pub struct Guard(Arc<Watch>);

struct Watch {
    gate: Gate,
    tokens: Tokens,
    service: String,
}

impl std::fmt::Debug for Guard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Guard").field("service", &self.0.service).finish()
    }
}

impl Guard {
    /// A guard that asks through `gate`; tokens are for `service`, the registry's name.
    pub fn new(gate: Gate, service: impl Into<String>) -> anyhow::Result<Self> {
        Ok(Self(Arc::new(Watch { gate, tokens: Tokens::new()?, service: service.into() })))
    }
}

/// What a request shows.
enum Shown {
    User(User),
    Granted(Claims),
    Nothing,
}

impl Door {
    /// Without any rules: for a registry that is closed off by other means.
    pub fn open() -> Self {
        Self { guard: None, anonymous_pull: true, local_only: false, scheme: "http" }
    }

    /// Refuses what a page in a browser may have sent.
    pub(crate) fn check_origin(&self, parts: &Parts) -> Result<(), Refusal> {
        if !self.local_only || access::origin::is_local(&parts.headers, &parts.uri) {
            return Ok(());
        }
        let reason = "this door is for programs on this machine: ask 127.0.0.1 or localhost";
        Err(Refusal::new(StatusCode::FORBIDDEN, codes::DENIED, reason))
    }

    /// Lets a request in that may do `scope`; without one, anybody who is somebody.
    pub(crate) async fn admit(&self, parts: &Parts, scope: Option<Scope>) -> Result<(), Refusal> {
        let Some(guard) = &self.guard else { return Ok(()) };
        let shown = match guard.shown(parts).await {
            Ok(shown) => shown,
            Err(refusal) => return Err(self.challenged(parts, scope.as_ref(), None, refusal.into())),
        };
        let open = scope.as_ref().is_some_and(|scope| self.is_open(scope));
        match (shown, scope) {
            (_, Some(_)) if open => Ok(()),
            (Shown::Nothing, scope) => {
                let refusal = Refusal::new(StatusCode::UNAUTHORIZED, codes::UNAUTHORIZED, "log in first");
                Err(self.challenged(parts, scope.as_ref(), None, refusal))
            }
            (_, None) => Ok(()),
            (Shown::User(user), Some(scope)) => Ok(guard.0.gate.may_do(&user, scope.attributes()).await?),
            (Shown::Granted(claims), Some(scope)) if claims.scopes.contains(&scope) => Ok(()),
            (Shown::Granted(claims), scope) => {
                let (code, reason) = match claims.user.as_str() {
                    "" => (codes::UNAUTHORIZED, "log in first".to_owned()),
                    user => (codes::DENIED, format!("the token of {user} does not allow it")),
                };
                let refusal = Refusal::new(StatusCode::UNAUTHORIZED, code, reason);
                Err(self.challenged(parts, scope.as_ref(), Some("insufficient_scope"), refusal))
            }
        }
    }

    /// Lets a request in for a page that is no part of the protocol: whoever may get it, or anybody where pulling is open.
    pub(crate) async fn admit_page(&self, parts: &Parts, path: &str) -> Result<(), Refusal> {
        let Some(guard) = self.guard.as_ref().filter(|_| !self.anonymous_pull) else { return Ok(()) };
        match guard.shown(parts).await? {
            Shown::User(user) => Ok(guard.0.gate.may_get(&user, path).await?),
            Shown::Granted(_) | Shown::Nothing => Err(gate::Refusal::Unauthorized.into()),
        }
    }

    fn is_open(&self, scope: &Scope) -> bool {
        self.anonymous_pull && matches!(scope.action, Action::Pull | Action::List)
    }

    /// Adds where tokens are to a refusal that a token may change.
    fn challenged(&self, parts: &Parts, scope: Option<&Scope>, error: Option<&str>, refusal: Refusal) -> Refusal {
        let Some(guard) = self.guard.as_ref().filter(|_| refusal.status == StatusCode::UNAUTHORIZED) else {
            return refusal;
        };
        let host = parts.headers.get(header::HOST).and_then(|host| host.to_str().ok());
        let host = host.or_else(|| parts.uri.authority().map(|authority| authority.as_str())).unwrap_or_default();
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || b".-_:[]".contains(&byte);
        let challenge = match !host.is_empty() && host.bytes().all(fits) {
            true => {
                let mut text =
                    format!("Bearer realm=\"{}://{host}/token\",service=\"{}\"", self.scheme, guard.0.service);
                if let Some(scope) = scope {
                    text += &format!(",scope=\"{}\"", scope.text());
                }
                if let Some(error) = error {
                    text += &format!(",error=\"{error}\"");
                }
                text
            }
            false => format!("Basic realm=\"{}\"", guard.0.service),
        };
        refusal.with(header::WWW_AUTHENTICATE, challenge)
    }

    /// `GET` and `POST` of `/token`: grants what may be done of what was asked.
    pub(crate) async fn token(&self, parts: &Parts, query: &[(String, String)], body: Body) -> Answer {
        let Some(guard) = &self.guard else {
            return Err(Refusal::missing(codes::UNSUPPORTED, "this registry asks for no tokens"));
        };
        let mut asked = query.to_vec();
        let mut shown = match guard.shown(parts).await {
            Ok(shown) => shown,
            Err(refusal) => return Err(basic(guard, refusal.into())),
        };
        match parts.method {
            Method::GET => {}
            Method::POST => {
                let text = body::read(body, FORM).await;
                let text = text.map_err(|error| Refusal::invalid(codes::UNSUPPORTED, error.to_string()))?;
                asked = form(&String::from_utf8_lossy(&text));
                let secret = match parameter(&asked, "grant_type") {
                    Some("password") => parameter(&asked, "password"),
                    Some("refresh_token") => parameter(&asked, "refresh_token"),
                    other => {
                        let reason = format!("grant type {:?} is not known", other.unwrap_or_default());
                        return Err(Refusal::invalid(codes::UNSUPPORTED, reason));
                    }
                };
                let secret = secret.ok_or_else(|| Refusal::invalid(codes::UNAUTHORIZED, "there is no password"))?;
                shown = Shown::User(guard.0.gate.who_has(secret).await?);
            }
            _ => return Err(Refusal::method("tokens are got or posted for")),
        }
        let texts = asked.iter().filter(|(key, _)| key == "scope").flat_map(|(_, value)| value.split(' '));
        let wanted: Vec<Scope> = texts.flat_map(Scope::parse).take(SCOPES).collect();
        let mut scopes = Vec::new();
        for scope in wanted {
            let granted = self.is_open(&scope)
                || match &shown {
                    Shown::Nothing => false,
                    Shown::Granted(claims) => claims.scopes.contains(&scope),
                    Shown::User(user) => match guard.0.gate.may_do(user, scope.attributes()).await {
                        Ok(()) => true,
                        Err(gate::Refusal::Unavailable(error)) => {
                            return Err(gate::Refusal::Unavailable(error).into());
                        }
                        Err(_) => false,
                    },
                };
            if granted {
                scopes.push(scope);
            }
        }
        let user = match &shown {
            Shown::User(user) => user.name.clone(),
            Shown::Granted(claims) => claims.user.clone(),
            Shown::Nothing if self.anonymous_pull => String::new(),
            Shown::Nothing => {
                let refusal = Refusal::new(StatusCode::UNAUTHORIZED, codes::UNAUTHORIZED, "log in first");
                return Err(basic(guard, refusal));
            }
        };
        let scope: Vec<String> = scopes.iter().map(Scope::text).collect();
        let token = guard.0.tokens.grant(user, scopes, LIFETIME)?;
        let headers: [(HeaderName, String); 1] = [(header::CACHE_CONTROL, "no-store".to_owned())];
        let grant = serde_json::json!({
            "token": token, "access_token": token, "token_type": "Bearer",
            "expires_in": LIFETIME.as_secs(), "scope": scope.join(" "),
        });
        json(StatusCode::OK, &headers, &grant)
    }
}

fn basic(guard: &Guard, refusal: Refusal) -> Refusal {
    match refusal.status {
        StatusCode::UNAUTHORIZED => {
            refusal.with(header::WWW_AUTHENTICATE, format!("Basic realm=\"{}\"", guard.0.service))
        }
        _ => refusal,
    }
}

impl Guard {
    async fn shown(&self, parts: &Parts) -> Result<Shown, gate::Refusal> {
        if let Some(user) = parts.extensions.get::<Peer>().and_then(gate::shown) {
            return Ok(Shown::User(user));
        }
        let Some(value) = parts.headers.get(header::AUTHORIZATION) else { return Ok(Shown::Nothing) };
        let (scheme, secret) =
            value.to_str().ok().and_then(|value| value.split_once(' ')).ok_or(gate::Refusal::Unauthorized)?;
        let secret = secret.trim();
        if scheme.eq_ignore_ascii_case("bearer") {
            if let Some(claims) = self.0.tokens.read(secret) {
                // Nobody in particular, who may still do what was granted.
                return Ok(Shown::Granted(claims));
            }
            return Ok(Shown::User(self.0.gate.who_has(secret).await?));
        }
        if scheme.eq_ignore_ascii_case("basic") {
            let pair = STANDARD.decode(secret).ok().and_then(|bytes| String::from_utf8(bytes).ok());
            let (_, password) =
                pair.as_deref().and_then(|pair| pair.split_once(':')).ok_or(gate::Refusal::Unauthorized)?;
            if password.is_empty() {
                return Err(gate::Refusal::Unauthorized);
            }
            return Ok(Shown::User(self.0.gate.who_has(password).await?));
        }
        Err(gate::Refusal::Unauthorized)
    }
}
