//! Which requests a pod's socket answers: those of `docker build`, `buildx`, `pull`, `push`, `tag`, `images` and `rmi`.
//!
//! A list of what is let through, not of what is kept out: whatever the engine learns later is refused here until somebody adds it.

use http::{Method, Response};
use serde_json::{Value, json};
use serve::Body;

use crate::{
    Engine, answer, buildkit,
    call::{Call, Query},
    classic,
    error::{Error, Result},
    image, system,
};

/// What a request is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Let {
    /// Ping and version.
    System,
    /// `GET /info`: what clients look at before they do anything.
    Info,
    /// `POST /build`.
    Build,
    /// BuildKit's session and control.
    BuildKit,
    /// Images: those that the pod has built or pulled.
    Images,
    /// Names and images of the pod.
    Remove,
}

/// Whether a request is let through.
pub(crate) fn decide(method: &Method, path: &[&str], query: &Query) -> Option<Let> {
    let reading = matches!(*method, Method::GET | Method::HEAD);
    match path {
        ["_ping" | "version"] if reading => Some(Let::System),
        ["info"] if reading => Some(Let::Info),
        ["build"] if *method == Method::POST => Some(Let::Build),
        ["session" | "grpc"] if *method == Method::POST => Some(Let::BuildKit),
        ["auth"] if *method == Method::POST => Some(Let::Images),
        ["distribution", _, .., "json"] if reading => Some(Let::Images),
        ["images", "json"] if reading => Some(Let::Images),
        // From a registry, not from an archive.
        ["images", "create"] if *method == Method::POST => {
            (query.filled("fromImage").is_some() && query.filled("fromSrc").is_none()).then_some(Let::Images)
        }
        ["images", "get" | "load" | "prune" | "search", ..] => None,
        ["images", _, .., "json" | "history"] if reading => Some(Let::Images),
        ["images", _, .., "push" | "tag"] if *method == Method::POST => Some(Let::Images),
        ["images", _, ..] if *method == Method::DELETE => Some(Let::Remove),
        _ => None,
    }
}

/// Answers.
pub(crate) async fn answer(engine: &Engine, call: Call) -> Result<Response<Body>> {
    let path = call.path.clone();
    let path: Vec<&str> = path.iter().map(String::as_str).collect();
    match decide(&call.method, &path, &call.query) {
        Some(Let::System) => system::answer(engine, call).await,
        Some(Let::Info) => answer::json(&info(engine)),
        Some(Let::Build) => classic::answer(engine, call).await,
        Some(Let::BuildKit) => buildkit::answer(engine, call).await,
        Some(Let::Images) => image::answer(engine, call).await,
        Some(Let::Remove) => remove(engine, &path[1..].join("/")).await,
        None => Err(Error::forbidden(format!(
            "{} /{} is not allowed: this socket builds, pulls and pushes images, and does nothing else",
            call.method,
            path.join("/")
        ))),
    }
}

/// Nothing of the machine but what builds are for.
fn info(engine: &Engine) -> Value {
    json!({
        "ID": engine.view().map(|view| view.id.clone()).unwrap_or_default(),
        "Name": "madang", "ServerVersion": engine.settings().version,
        "Containers": 0, "ContainersRunning": 0, "ContainersPaused": 0, "ContainersStopped": 0,
        "Images": engine.seen_images().len(),
        "OSType": "linux", "Architecture": std::env::consts::ARCH, "OperatingSystem": "Madang",
        "Driver": "overlay2", "DriverStatus": [], "Plugins": {"Volume": [], "Network": [], "Authorization": null, "Log": []},
        "RegistryConfig": {"InsecureRegistryCIDRs": [], "IndexConfigs": {}, "Mirrors": []},
        "Swarm": {"LocalNodeState": "inactive", "ControlAvailable": false},
        "SecurityOptions": [], "Warnings": [],
    })
}

async fn remove(engine: &Engine, name: &str) -> Result<Response<Body>> {
    let gone = engine.unname_image(name).await?;
    let (untagged, deleted) = gone.ok_or_else(|| Error::missing(format!("No such image: {name}")))?;
    let familiar = |name: &String| oci::Reference::parse(name).map_or_else(|_| name.clone(), |name| name.familiar());
    let untagged = untagged.iter().map(|name| json!({ "Untagged": familiar(name) }));
    let deleted = deleted.iter().map(|id| json!({ "Deleted": id }));
    answer::json(&untagged.chain(deleted).collect::<Vec<_>>())
}
