//! Removing names and images: `DELETE /images/NAME`, `POST /images/prune`.
//!
//! What is to be done is decided first, from what is known ([`decide`]), then done.
//!
//! <https://github.com/moby/moby/blob/v28.2.2/daemon/images/image_delete.go>

use std::collections::BTreeMap;

use ::image::Image;
use http::Response;
use oci::Reference;
use serde_json::{Value, json};
use serve::Body;

use super::{find, list};
use crate::{
    Engine, answer,
    call::Call,
    error::{Error, Result},
    filter::Filters,
};

/// Who holds an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Holder {
    /// Its container, or a pod's.
    pub id: String,
    /// Whether it runs, and so keeps the image whatever is asked.
    pub running: bool,
}

/// What to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Deed {
    /// Take this name away; the image stays.
    Untag(String),
    /// Remove the image with all its names.
    Delete,
}

/// What a request means. `named` is the full name that was given, none for an id.
pub(crate) fn decide(
    image: &Image,
    named: Option<&str>,
    holders: &[Holder],
    force: bool,
) -> std::result::Result<Deed, String> {
    let short = |id: &str| -> String { id.trim_start_matches("sha256:").chars().take(12).collect() };
    let running = holders.iter().find(|holder| holder.running);
    let stopped = holders.iter().find(|holder| !holder.running);
    let id = short(image.id.as_str());
    if let Some(name) = named {
        let is_digest = name.contains('@');
        let others = image.names.iter().any(|other| other != name);
        if (is_digest && !image.names.is_empty()) || (!is_digest && others) {
            return Ok(Deed::Untag(name.to_owned()));
        }
        // The last name: the image goes with it, unless somebody needs it.
        return match (running.or(stopped), force) {
            (None, _) => Ok(Deed::Delete),
            (Some(_), true) => Ok(Deed::Untag(name.to_owned())),
            (Some(holder), false) => {
                let name = Reference::parse(name).map_or_else(|_| name.to_owned(), |name| name.familiar());
                Err(format!(
                    "conflict: unable to remove repository reference \"{name}\" (must force) - container {} is using its referenced image {id}",
                    short(&holder.id)
                ))
            }
        };
    }
    if let Some(holder) = running {
        return Err(format!(
            "conflict: unable to delete {id} (cannot be forced) - image is being used by running container {}",
            short(&holder.id)
        ));
    }
    if force {
        return Ok(Deed::Delete);
    }
    let mut repositories: Vec<&str> =
        image.names.iter().filter_map(|name| name.rsplit_once(':')).map(|(repository, _)| repository).collect();
    repositories.dedup();
    if repositories.len() > 1 {
        return Err(format!(
            "conflict: unable to delete {id} (must be forced) - image is referenced in multiple repositories"
        ));
    }
    match stopped {
        Some(holder) => Err(format!(
            "conflict: unable to delete {id} (must be forced) - image is being used by stopped container {}",
            short(&holder.id)
        )),
        None => Ok(Deed::Delete),
    }
}

/// Containers that are made from an image. Those of pods may start again at any time, and count as running.
fn holders(engine: &Engine, image: &Image) -> Vec<Holder> {
    let snapshots = engine.images().snapshots_of(&image.id).into_iter();
    let holder = |snapshot: String| match snapshot.strip_prefix("engine-") {
        Some(id) => {
            let container = engine.containers().by_id(id);
            let running = container.is_some_and(|container| container.look(|record| record.state.is_running()));
            Holder { id: id.to_owned(), running }
        }
        None => Holder { id: snapshot, running: true },
    };
    snapshots.map(holder).collect()
}

/// `DELETE /images/NAME`.
pub(crate) async fn answer(engine: &Engine, call: Call, name: &str) -> Result<Response<Body>> {
    let image = find(engine, name)?;
    let force = call.query.flag("force");
    let named = full_name(&image, name);
    let deed = decide(&image, named.as_deref(), &holders(engine, &image), force).map_err(Error::conflict)?;
    answer::json(&carry_out(engine, &image, deed).await?)
}

/// The full name among an image's that a client's text stands for; none for an id.
fn full_name(image: &Image, text: &str) -> Option<String> {
    let reference = Reference::parse(text).ok()?;
    let name = match reference.digest() {
        Some(digest) => reference.with_digest(digest.clone()).to_string(),
        None => reference.to_string(),
    };
    (image.names.contains(&name) || image.digests.contains(&name)).then_some(name)
}

async fn carry_out(engine: &Engine, image: &Image, deed: Deed) -> Result<Vec<Value>> {
    let removed = match deed {
        Deed::Untag(name) => engine.images().untag(&super::reference(&name)?).await?,
        Deed::Delete => engine.images().remove(image.id.as_str()).await?,
    };
    let mut done = Vec::new();
    let id = image.id.as_str();
    for name in &removed.untagged {
        super::tell(engine, Some(image), "untag", id, id);
        let name = Reference::parse(name).map_or_else(|_| name.clone(), |name| name.familiar());
        done.push(json!({ "Untagged": name }));
    }
    for id in &removed.deleted {
        super::tell(engine, Some(image), "delete", &id.to_string(), &id.to_string());
        done.push(json!({ "Deleted": id }));
    }
    Ok(done)
}

/// `POST /images/prune`.
pub(crate) async fn prune(engine: &Engine, call: Call) -> Result<Response<Body>> {
    let filters = Filters::of(&call.query, &["dangling", "label", "label!", "until"])?;
    let dangling = filters.flag("dangling")?.unwrap_or(true);
    let until = filters.until()?;
    let (mut done, mut bytes) = (Vec::new(), 0);
    for image in engine.images().list() {
        let named = !image.names.is_empty();
        let fits = !(dangling && named)
            && until.is_none_or(|until| list::created(&image) < until)
            && filters.labels(&list::labels(&image));
        if !fits || !holders(engine, &image).is_empty() {
            continue;
        }
        let before = engine.images().layers(&image);
        let removed = carry_out(engine, &image, Deed::Delete).await?;
        // Layers of others stay.
        let shared: std::collections::HashSet<_> = engine
            .images()
            .list()
            .iter()
            .flat_map(|other| engine.images().layers(other))
            .map(|(chain, _)| chain)
            .collect();
        bytes += before.iter().filter(|(chain, _)| !shared.contains(chain)).map(|(_, bytes)| bytes).sum::<u64>();
        done.extend(removed);
    }
    let attributes = BTreeMap::from([("reclaimed".to_owned(), bytes.to_string())]);
    engine.events().tell("image", "prune", "", attributes);
    answer::json(&json!({ "ImagesDeleted": done, "SpaceReclaimed": bytes }))
}
