//! Finds out who asks, and asks the API server whether they may.

use std::collections::BTreeMap;

use http::{HeaderMap, StatusCode, header};
use k8s_openapi::api::{
    authentication::v1::{TokenReview, TokenReviewSpec},
    authorization::v1::{NonResourceAttributes, ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec},
};
use kube::{Api, Client, api::PostParams};
use serve::Peer;

use crate::certificate;

/// Somebody, as the API server knows them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct User {
    /// The name.
    pub name: String,
    /// A uid, if there is one.
    pub uid: Option<String>,
    /// The groups.
    pub groups: Vec<String>,
    /// What else is known.
    pub extra: BTreeMap<String, Vec<String>>,
}

/// Why a request goes no further.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// Nobody that is known.
    #[error("Unauthorized")]
    Unauthorized,
    /// Known, but not allowed.
    #[error("Forbidden (user={user}, verb={verb}, resource={resource}, subresource={subresource})")]
    Forbidden {
        /// Who.
        user: String,
        /// What they wanted to do.
        verb: String,
        /// With which kind of object.
        resource: String,
        /// With which part of it.
        subresource: String,
    },
    /// The API server did not answer.
    #[error("ask the API server: {0}")]
    Unavailable(Box<kube::Error>),
}

impl Refusal {
    /// The HTTP status that says it.
    pub fn status(&self) -> StatusCode {
        match self {
            Self::Unauthorized => StatusCode::UNAUTHORIZED,
            Self::Forbidden { .. } => StatusCode::FORBIDDEN,
            Self::Unavailable(_) => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }
}

/// Groups that may do everything, as on the API server.
const MASTERS: &str = "system:masters";

/// Who shows this certificate, which TLS has verified.
pub fn shown(peer: &Peer) -> Option<User> {
    peer.certificates.first().and_then(|der| certificate::user(der))
}

/// Whether the certificate shown, which TLS has verified, comes from the authority of this name.
pub fn is_from(peer: &Peer, authority: &str) -> bool {
    peer.certificates.first().and_then(|der| certificate::issuer(der)).is_some_and(|issuer| issuer == authority)
}

/// The gate of one listener.
#[derive(Clone)]
pub struct Gate {
    client: Client,
}

impl std::fmt::Debug for Gate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Gate")
    }
}

impl Gate {
    /// A gate that asks through `client`.
    pub fn new(client: Client) -> Self {
        Self { client }
    }

    /// Who asks: a verified certificate goes before a token.
    pub async fn who(&self, peer: Option<&Peer>, headers: &HeaderMap) -> Result<User, Refusal> {
        if let Some(user) = peer.and_then(shown) {
            return Ok(user);
        }
        self.who_has(bearer(headers).ok_or(Refusal::Unauthorized)?).await
    }

    /// Who has the token `token`.
    pub async fn who_has(&self, token: &str) -> Result<User, Refusal> {
        let review = TokenReview {
            spec: TokenReviewSpec { token: token.to_owned(), audiences: None },
            ..TokenReview::default()
        };
        let api: Api<TokenReview> = Api::all(self.client.clone());
        let answer =
            api.create(&PostParams::default(), &review).await.map_err(|error| Refusal::Unavailable(Box::new(error)))?;
        let status = answer.status.filter(|status| status.authenticated == Some(true)).ok_or(Refusal::Unauthorized)?;
        let user = status.user.ok_or(Refusal::Unauthorized)?;
        Ok(User {
            name: user.username.unwrap_or_default(),
            uid: user.uid,
            groups: user.groups.unwrap_or_default(),
            extra: user.extra.unwrap_or_default(),
        })
    }

    /// Whether `user` may do `verb` to `name`'s part `subresource` of the cluster-wide kind `resource`.
    pub async fn may(
        &self,
        user: &User,
        verb: &str,
        resource: &str,
        name: &str,
        subresource: &str,
    ) -> Result<(), Refusal> {
        let attributes = ResourceAttributes {
            verb: Some(verb.to_owned()),
            version: Some("v1".into()),
            resource: Some(resource.to_owned()),
            name: Some(name.to_owned()),
            subresource: Some(subresource.to_owned()),
            ..ResourceAttributes::default()
        };
        self.may_do(user, attributes).await
    }

    /// Whether `user` may do what `attributes` say.
    pub async fn may_do(&self, user: &User, attributes: ResourceAttributes) -> Result<(), Refusal> {
        if user.groups.iter().any(|group| group == MASTERS) {
            return Ok(());
        }
        let text = |part: &Option<String>| part.clone().unwrap_or_default();
        let refusal = Refusal::Forbidden {
            user: user.name.clone(),
            verb: text(&attributes.verb),
            resource: text(&attributes.resource),
            subresource: text(&attributes.subresource),
        };
        let spec =
            SubjectAccessReviewSpec { resource_attributes: Some(attributes), ..SubjectAccessReviewSpec::default() };
        self.review(user, spec, refusal).await
    }

    /// Whether `user` may get the page at `path`, which is no object.
    pub async fn may_get(&self, user: &User, path: &str) -> Result<(), Refusal> {
        if user.groups.iter().any(|group| group == MASTERS) {
            return Ok(());
        }
        let attributes = NonResourceAttributes { path: Some(path.to_owned()), verb: Some("get".to_owned()) };
        let refusal = Refusal::Forbidden {
            user: user.name.clone(),
            verb: "get".to_owned(),
            resource: path.to_owned(),
            subresource: String::new(),
        };
        let spec =
            SubjectAccessReviewSpec { non_resource_attributes: Some(attributes), ..SubjectAccessReviewSpec::default() };
        self.review(user, spec, refusal).await
    }

    async fn review(&self, user: &User, spec: SubjectAccessReviewSpec, refusal: Refusal) -> Result<(), Refusal> {
        let review = SubjectAccessReview {
            spec: SubjectAccessReviewSpec {
                user: Some(user.name.clone()),
                uid: user.uid.clone(),
                groups: Some(user.groups.clone()),
                extra: Some(user.extra.clone()).filter(|extra| !extra.is_empty()),
                ..spec
            },
            ..SubjectAccessReview::default()
        };
        let api: Api<SubjectAccessReview> = Api::all(self.client.clone());
        let answer =
            api.create(&PostParams::default(), &review).await.map_err(|error| Refusal::Unavailable(Box::new(error)))?;
        if answer.status.is_some_and(|status| status.allowed) {
            return Ok(());
        }
        Err(refusal)
    }
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    Some(token.trim()).filter(|token| scheme.eq_ignore_ascii_case("bearer") && !token.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_bearer_tokens_are_taken() {
        let cases = [
            ("Bearer abc", Some("abc")),
            ("bearer  abc ", Some("abc")),
            ("Bearer ", None),
            ("Basic abc", None),
            ("abc", None),
        ];
        for (value, expected) in cases {
            let mut headers = HeaderMap::new();
            headers.insert(header::AUTHORIZATION, value.parse().unwrap());
            assert_eq!(bearer(&headers), expected, "{value}");
        }
    }

    #[test]
    fn certificates_name_user_and_groups() {
        let mut params = rcgen::CertificateParams::default();
        params.distinguished_name.push(rcgen::DnType::CommonName, "system:node:a");
        params.distinguished_name.push(rcgen::DnType::OrganizationName, "system:nodes");
        let key = rcgen::KeyPair::generate().unwrap();
        let user = certificate::user(params.self_signed(&key).unwrap().der()).unwrap();
        assert_eq!(user.name, "system:node:a");
        assert_eq!(user.groups, ["system:nodes", "system:authenticated"]);
        assert_eq!(certificate::user(b"nonsense"), None);
    }
}
