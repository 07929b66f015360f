//! Images: listed, looked at, fetched, sent, named, removed, packed.
//!
//! ```text
//! call ─┬─ list     all of them, one of them, how it came to be
//!       ├─ create   from a registry, from an archive of files
//!       ├─ push     to a registry
//!       ├─ remove   names, and images that nothing has a name for or uses
//!       ├─ archive  save and load
//!       ├─ changes  of configurations, written as instructions
//!       └─ remote   registries: login, search, what a name leads to
//! ```
//!
//! The images are the machine's, shared with the cluster. Specification:
//! <https://docs.docker.com/reference/api/engine/version/v1.50/#tag/Image>.

use ::image::{
    Image,
    pull::{self, Credentials},
};
use base64::{Engine as _, engine::general_purpose};
use http::{Method, Response, StatusCode};
use oci::Reference;
use serve::Body;

use crate::{
    Engine,
    call::Call,
    error::{Error, Result},
    route,
};

pub mod list;

pub mod create;

pub mod push;

pub mod remove;

pub mod archive;

pub mod changes;

pub mod remote;

pub mod message;

/// Answers calls of `/images`, `/auth` and `/distribution`.
pub(crate) async fn answer(engine: &Engine, call: Call) -> Result<Response<Body>> {
    let path = call.path.clone();
    let path: Vec<&str> = path.iter().map(String::as_str).collect();
    match (&call.method, path.as_slice()) {
        (&Method::GET, ["images", "json"]) => list::all(engine, &call),
        (&Method::POST, ["images", "create"]) => create::answer(engine, call).await,
        (&Method::POST, ["images", "load"]) => archive::load(engine, call).await,
        (&Method::GET, ["images", "get"]) => archive::save(engine, &call, None),
        (&Method::POST, ["images", "prune"]) => remove::prune(engine, call).await,
        (&Method::GET, ["images", "search"]) => remote::search(engine, call).await,
        (&Method::POST, ["auth"]) => remote::login(engine, call).await,
        (&Method::GET, ["distribution", name @ .., "json"]) => {
            remote::distribution(engine, call, &name.join("/")).await
        }
        (&Method::GET, ["images", name @ .., "json"]) => list::one(engine, &call, &name.join("/")),
        (&Method::GET, ["images", name @ .., "history"]) => list::history(engine, &name.join("/")),
        (&Method::GET, ["images", name @ .., "get"]) => archive::save(engine, &call, Some(name.join("/"))),
        (&Method::POST, ["images", name @ .., "push"]) => push::answer(engine, call, &name.join("/")).await,
        (&Method::POST, ["images", name @ .., "tag"]) => tag(engine, call, &name.join("/")).await,
        (&Method::DELETE, ["images", name @ ..]) => remove::answer(engine, call, &name.join("/")).await,
        _ => Err(route::unknown()),
    }
}

/// An image by whatever a client calls it: a name, an id, or the beginning of one.
pub(crate) fn find(engine: &Engine, name: &str) -> Result<Image> {
    let missing = || Error::missing(format!("No such image: {}", with_tag(name)));
    if name.is_empty() {
        return Err(Error::invalid("an image needs a name"));
    }
    if let Some(image) = engine.seen_image(name) {
        return Ok(image);
    }
    // Docker takes beginnings of any length, if only one image has it.
    let hex = name.strip_prefix("sha256:").unwrap_or(name);
    if hex.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')) {
        let images = engine.seen_images();
        let mut fits = images.into_iter().filter(|image| image.id.hex().starts_with(hex));
        return match (fits.next(), fits.next()) {
            (Some(image), None) => Ok(image),
            _ => Err(missing()),
        };
    }
    // What is no name of anything cannot be there.
    Err(match Reference::parse(name) {
        Ok(_) => missing(),
        Err(error) => Error::invalid(error.to_string()),
    })
}

/// The name with the tag that is meant without one, as clients are told.
fn with_tag(name: &str) -> String {
    let is_id = name.bytes().all(|byte| byte.is_ascii_hexdigit()) || name.starts_with("sha256:");
    match Reference::parse(name) {
        Ok(reference) if !is_id => reference.familiar(),
        _ => name.to_owned(),
    }
}

/// A reference as clients give it.
pub(crate) fn reference(name: &str) -> Result<Reference> {
    Reference::parse(name).map_err(|error| Error::invalid(error.to_string()))
}

/// `POST /images/NAME/tag`.
async fn tag(engine: &Engine, call: Call, name: &str) -> Result<Response<Body>> {
    let image = find(engine, name)?;
    let repository = call.query.get("repo").unwrap_or_default();
    let name = tagged(repository, call.query.filled("tag"), "refusing to create a tag with a digest reference")?;
    engine.name_image(&image.id, Some(&name)).await?;
    tell(engine, Some(&image), "tag", image.id.as_str(), &name.familiar());
    Ok(crate::answer::empty(StatusCode::CREATED))
}

/// A name that an image is to get, from a repository, which may bring a tag, and perhaps a tag beside it. `refusal` is said of
/// digests.
pub(crate) fn tagged(repository: &str, tag: Option<&str>, refusal: &str) -> Result<Reference> {
    if repository.contains('@') {
        return Err(Error::invalid(refusal));
    }
    let bare = reference(repository)?;
    match tag {
        Some(tag) => reference(&format!("{}:{tag}", bare.repository())),
        None => Ok(bare),
    }
}

/// Tells of what happened to an image. `actor` is its id or the name that was asked for, `name` what it is called.
pub(crate) fn tell(engine: &Engine, image: Option<&Image>, action: &str, actor: &str, name: &str) {
    let mut attributes = image.map(list::labels).unwrap_or_default();
    attributes.insert("name".into(), name.to_owned());
    engine.events().tell("image", action, actor, attributes);
}

/// Credentials that a request brings for the registry that it is about.
pub(crate) fn credentials(call: &Call) -> Result<Vec<Credentials>> {
    let Some(text) = call.header("x-registry-auth").filter(|text| !text.is_empty()) else { return Ok(Vec::new()) };
    let document = decoded(text).ok_or_else(|| Error::invalid("the header X-Registry-Auth is not base64"))?;
    if document.iter().all(u8::is_ascii_whitespace) {
        return Ok(Vec::new());
    }
    let known = Credentials::parse(&document);
    Ok(known.map_err(|error| Error::invalid(format!("the header X-Registry-Auth: {error:#}")))?.into_iter().collect())
}

/// Base64 as clients write it: for URLs, and with or without padding.
pub(crate) fn decoded(text: &str) -> Option<Vec<u8>> {
    let text = text.trim_end_matches('=');
    general_purpose::URL_SAFE_NO_PAD.decode(text).or_else(|_| general_purpose::STANDARD_NO_PAD.decode(text)).ok()
}

/// How a registry is asked for a client.
pub(crate) fn access(engine: &Engine, credentials: Vec<Credentials>) -> pull::Pull {
    engine.pull(credentials)
}

/// A familiar name without its tag and digest.
pub(crate) fn bare(familiar: &str) -> &str {
    let repository = familiar.split('@').next().unwrap_or_default();
    match repository.rsplit_once(':') {
        Some((name, tag)) if !tag.contains('/') => name,
        _ => repository,
    }
}

/// What a registry's refusal is to a client, in upstream's words where it has some.
pub(crate) fn refused(error: &pull::Error, reference: &Reference) -> Error {
    let familiar = reference.familiar();
    let repository = bare(&familiar);
    match error {
        pull::Error::NotFound(text) if text.contains("image for ") => Error::missing(format!(
            "no matching manifest for {} in the manifest list entries",
            text.rsplit("image for ").next().unwrap_or_default().trim_end_matches(": not found")
        )),
        pull::Error::NotFound(_) => {
            Error::missing(format!("manifest for {familiar} not found: manifest unknown: manifest unknown"))
        }
        pull::Error::Denied(text) => Error::missing(format!(
            "pull access denied for {repository}, repository does not exist or may require 'docker login': {text}"
        )),
        error @ (pull::Error::Unavailable(_) | pull::Error::Other(_)) => Error::failed(format!("{error:#}")),
    }
}

#[cfg(test)]
mod tests;
