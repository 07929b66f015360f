//! Smart HTTP: how requests get to a server, and answers back.
//!
//! Specification: <https://git-scm.com/docs/http-protocol>.

use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use http::{Method, Request, header};

use super::{Body, Exchange, decode};
use crate::{Error, packet::Packets};

/// The path and query that a server is asked first.
const FIRST: &str = "/info/refs?service=git-upload-pack";

/// A server.
pub(super) struct Web {
    exchange: Exchange,
    authorization: Option<header::HeaderValue>,
    /// Without user and password.
    pub url: String,
}

impl Web {
    pub fn new(url: &str, authorization: Option<&str>, exchange: Exchange) -> Result<Self, Error> {
        let (url, basic) = without_user(url)?;
        let authorization = match authorization.map(str::to_owned).or(basic) {
            None => None,
            Some(text) => {
                let mut value = header::HeaderValue::from_str(&text)
                    .map_err(|_| Error::invalid("the credentials for the repository are no header's value"))?;
                value.set_sensitive(true);
                Some(value)
            }
        };
        Ok(Self { exchange, authorization, url })
    }

    /// What the server says first.
    pub async fn hello(&mut self) -> Result<Packets<Body>, Error> {
        let (last, body) = self.send(Method::GET, &format!("{}{FIRST}", self.url), Bytes::new()).await?;
        // Where a server moved, what follows goes to the new place.
        if let Some(base) = last.to_string().strip_suffix(FIRST) {
            if base != self.url && !same_origin(base, &self.url) {
                self.authorization = None;
            }
            base.clone_into(&mut self.url);
        }
        Ok(Packets::new(body))
    }

    /// The answer to a request.
    pub async fn ask(&self, request: Vec<u8>) -> Result<Packets<Body>, Error> {
        let address = format!("{}/git-upload-pack", self.url);
        Ok(Packets::new(self.send(Method::POST, &address, request.into()).await?.1))
    }

    async fn send(&self, method: Method, address: &str, body: Bytes) -> Result<(http::Uri, Body), Error> {
        let mut request = Request::builder().method(&method).uri(address).header("git-protocol", "version=2");
        if method == Method::POST {
            request = request.header(header::CONTENT_TYPE, "application/x-git-upload-pack-request");
        }
        if let Some(authorization) = &self.authorization {
            request = request.header(header::AUTHORIZATION, authorization);
        }
        let request = request.body(body).map_err(|error| Error::invalid(format!("{}: {error}", self.url)))?;
        let (last, answer) = (self.exchange)(request).await?;
        if !answer.status().is_success() {
            return Err(Error::Refused { url: self.url.clone(), status: answer.status() });
        }
        Ok((last, answer.into_body()))
    }
}

/// The URL without user and password, and those as a header's value.
pub(super) fn without_user(url: &str) -> Result<(String, Option<String>), Error> {
    let (scheme, rest) = url.split_once("://").unwrap_or(("", url));
    if !["http", "https"].contains(&scheme.to_ascii_lowercase().as_str()) {
        let what = if scheme.is_empty() { url } else { scheme };
        return Err(Error::invalid(format!("{what}: repositories are fetched over https, ssh or http")));
    }
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    let (user, host) = match authority.rsplit_once('@') {
        None => (None, authority),
        Some((user, host)) => (Some(user), host),
    };
    let basic = user.map(|user| {
        let (name, password) = user.split_once(':').unwrap_or((user, ""));
        format!("Basic {}", STANDARD.encode([&decode(name)[..], b":", &decode(password)].concat()))
    });
    Ok((format!("{scheme}://{host}/{}", path.trim_end_matches('/')), basic))
}

fn same_origin(left: &str, right: &str) -> bool {
    let origin = |url: &str| url.parse::<http::Uri>().ok().map(|uri| (uri.scheme().cloned(), uri.authority().cloned()));
    origin(left).is_some() && origin(left) == origin(right)
}
