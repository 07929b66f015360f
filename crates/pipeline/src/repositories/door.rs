//! The way in: who asks for which repository, whether they may, and what they are answered.
//!
//! A user's name is not looked at where a password is a token of Kubernetes: `git` always sends one.

use std::sync::Arc;

use access::gate::{Refusal, User};
use base64::{Engine, engine::general_purpose::STANDARD};
use client::cache::Key;
use futures::{StreamExt, TryStreamExt};
use git::smart::{self, Service};
use http::{HeaderMap, Request, Response, StatusCode, header, request::Parts};
use http_body_util::BodyExt;
use k8s_openapi::api::authorization::v1::ResourceAttributes;
use kube::{Api, api::PostParams};
use serve::{Body, Peer, body};

use super::{
    Inner, Repositories,
    kind::{CONTENT, GROUP, PLURAL, Repository},
    record::{self, Pusher},
};

/// What is not answered with content.
struct No(StatusCode, String);

impl From<Refusal> for No {
    fn from(refusal: Refusal) -> Self {
        Self(refusal.status(), refusal.to_string())
    }
}

impl From<anyhow::Error> for No {
    fn from(error: anyhow::Error) -> Self {
        tracing::warn!(error = format!("{error:#}"), "serve a repository");
        Self(StatusCode::INTERNAL_SERVER_ERROR, format!("{error:#}"))
    }
}

/// Namespace and name of `/NAMESPACE/NAME.git`; the ending may be left out.
fn named(path: &str) -> Option<Key> {
    let (namespace, name) = path.strip_prefix('/')?.split_once('/')?;
    let name = name.strip_suffix(".git").unwrap_or(name);
    let plain = |text: &str, dots: bool| {
        let inner =
            |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-' || dots && byte == b'.';
        !text.is_empty() && text.len() <= 253 && text.bytes().all(inner) && !text.starts_with(['-', '.'])
    };
    (plain(namespace, false) && plain(name, true)).then(|| Key::new(namespace, name))
}

/// The token that a request shows: as a bearer's, or as a password.
fn token(headers: &HeaderMap) -> Option<String> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, rest) = value.split_once(' ')?;
    if scheme.eq_ignore_ascii_case("bearer") {
        return Some(rest.trim().to_owned());
    }
    let basic = scheme.eq_ignore_ascii_case("basic").then(|| STANDARD.decode(rest.trim()).ok())??;
    let (_, password) = std::str::from_utf8(&basic).ok()?.split_once(':')?;
    Some(password.to_owned()).filter(|password| !password.is_empty())
}

impl Repositories {
    /// Answers a request whose path, without what stands before `/NAMESPACE/NAME.git`, is `path`.
    pub async fn answer(&self, path: &str, request: Request<Body>) -> Response<Body> {
        let (parts, body) = request.into_parts();
        let answer = match smart::route(&parts.method, path, parts.uri.query()) {
            // A browser adds a password that it knows to what any page asks for.
            _ if parts.headers.contains_key(header::ORIGIN) || parts.headers.contains_key("sec-fetch-site") => {
                Err(No(StatusCode::FORBIDDEN, "pages are shown no repositories: git clone this address".to_owned()))
            }
            Some((repository, service)) => match named(repository) {
                Some(key) => self.0.serve(&key, service, &parts, body).await,
                None => {
                    Err(No(StatusCode::NOT_FOUND, format!("{repository} is no repository: /NAMESPACE/NAME.git is")))
                }
            },
            None => Err(No(StatusCode::NOT_FOUND, "repositories are asked by git: git clone this address".to_owned())),
        };
        let answer = answer.unwrap_or_else(|No(status, text)| {
            let mut response = smart::refuse(status, &text);
            if status == StatusCode::UNAUTHORIZED {
                let challenge = header::HeaderValue::from_static("Basic realm=\"madang token\"");
                response.headers_mut().insert(header::WWW_AUTHENTICATE, challenge);
            }
            response
        });
        answer.map(|pieces| body::stream(pieces.map_err(Into::into)))
    }
}

impl Inner {
    async fn who(&self, parts: &Parts) -> Result<User, No> {
        match token(&parts.headers) {
            Some(token) => Ok(self.gate.who_has(&token).await?),
            None => Ok(self.gate.who(parts.extensions.get::<Peer>(), &parts.headers).await?),
        }
    }

    fn right(key: &Key, verb: &str, part: Option<&str>) -> ResourceAttributes {
        ResourceAttributes {
            group: Some(GROUP.to_owned()),
            resource: Some(PLURAL.to_owned()),
            subresource: part.map(str::to_owned),
            namespace: Some(key.namespace.to_string()),
            name: Some(key.name.to_string()),
            verb: Some(verb.to_owned()),
            ..ResourceAttributes::default()
        }
    }

    async fn serve(
        self: &Arc<Self>,
        key: &Key,
        service: Service,
        parts: &Parts,
        body: Body,
    ) -> Result<Response<git::remote::Body>, No> {
        let user = self.who(parts).await?;
        let verb = if service.writes() { "update" } else { "get" };
        self.gate.may_do(&user, Self::right(key, verb, Some(CONTENT))).await?;
        self.objects.ready().await;
        let object = match self.objects.get(key) {
            Some(object) => object,
            None if service.writes() => self.create(key, &user).await?,
            None => return Err(No(StatusCode::NOT_FOUND, format!("there is no repository {key}"))),
        };
        if object.metadata.deletion_timestamp.is_some() {
            return Err(No(StatusCode::NOT_FOUND, format!("repository {key} is being deleted")));
        }
        let repository = self.open(&object).await?;
        let pieces = body.into_data_stream().map(|piece| piece.map_err(std::io::Error::other)).boxed();
        let done = match service {
            Service::Fetchable | Service::Pushable => Ok(smart::advertise(&repository, service, &parts.headers)),
            Service::Fetch => smart::fetch(repository, &parts.headers, pieces).await,
            Service::Push => self.push(key, &object, user, repository, &parts.headers, pieces).await,
        };
        done.map_err(|error| match error {
            git::Error::Io(error) => No::from(anyhow::Error::from(error)),
            git::Error::TooLarge { .. } => No(StatusCode::PAYLOAD_TOO_LARGE, error.to_string()),
            error => No(StatusCode::BAD_REQUEST, error.to_string()),
        })
    }

    async fn push(
        self: &Arc<Self>,
        key: &Key,
        object: &Repository,
        user: User,
        repository: Arc<git::repository::Repository>,
        headers: &HeaderMap,
        pieces: git::remote::Body,
    ) -> Result<Response<git::remote::Body>, git::Error> {
        let (inner, key, uid) = (self.clone(), key.clone(), object.metadata.uid.clone().unwrap_or_default());
        let (protected, judged) = (object.spec.protected.clone(), repository.clone());
        let refused = move |update: &git::repository::Update| {
            if !record::is_protected(&protected, &update.name) {
                return None;
            }
            let (Some(old), Some(new)) = (update.old, update.new) else {
                return update.new.is_none().then(|| "the branch is protected: it cannot be deleted".to_owned());
            };
            match git::walk::leads_to(&mut judged.reader(), &new, &old) {
                Ok(true) => None,
                Ok(false) => Some("the branch is protected: it cannot be set back".to_owned()),
                Err(error) => Some(error.to_string()),
            }
        };
        let changed = move |updates: &[git::repository::Update], options: &[String]| {
            let pusher = Pusher { user: user.name, options: options.to_vec(), updates: updates.to_vec() };
            inner.pushers.lock().expect("pushers lock").entry(uid).or_default().push(pusher);
            inner.queue.add(key);
        };
        smart::push(repository, headers, pieces, refused, changed).await
    }

    /// A push to a repository that is not there makes it, where the user may.
    async fn create(&self, key: &Key, user: &User) -> Result<Arc<Repository>, No> {
        self.gate.may_do(user, Self::right(key, "create", None)).await?;
        let mut object = Repository::default();
        object.metadata.name = Some(key.name.to_string());
        object.metadata.namespace = Some(key.namespace.to_string());
        let api: Api<Repository> = Api::namespaced(self.client.clone(), &key.namespace);
        let made = match api.create(&PostParams::default(), &object).await {
            // Another request of the same push was faster.
            Err(kube::Error::Api(status)) if status.code == 409 => api.get(&key.name).await,
            made => made,
        };
        match made {
            Ok(object) => Ok(Arc::new(object)),
            Err(kube::Error::Api(status)) => {
                let code = StatusCode::from_u16(status.code).unwrap_or(StatusCode::BAD_REQUEST);
                Err(No(code, format!("make repository {key}: {}", status.message)))
            }
            Err(error) => Err(anyhow::Error::from(error).context(format!("make repository {key}")).into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repositories_are_named_by_namespace_and_name() {
        for (path, found) in [
            ("/shop/shop.git", Some("shop/shop")),
            ("/shop/a.b", Some("shop/a.b")),
            ("/shop", None),
            ("/shop/../x.git", None),
            ("/Shop/x.git", None),
            ("/shop/x/y.git", None),
            ("/shop/.git", None),
            ("/shop/%2e%2e.git", None),
            ("//x.git", None),
        ] {
            assert_eq!(named(path).map(|key| key.to_string()).as_deref(), found, "{path}");
        }
    }

    #[test]
    fn a_password_is_a_token() {
        for (value, found) in [
            ("Bearer abc", Some("abc")),
            ("Basic a2ltOmFiYw==", Some("abc")),
            ("Basic a2ltOg==", None),
            ("Basic !", None),
            ("Digest x", None),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(header::AUTHORIZATION, value.parse().unwrap());
            assert_eq!(token(&headers).as_deref(), found, "{value}");
        }
    }
}
