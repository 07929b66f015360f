//! The client's own part of a build: it asks for results, looks into them, and hands one over to be exported.
//!
//! Calls name their build in metadata. <https://github.com/moby/buildkit/blob/v0.34.0/frontend/gateway/pb/gateway.proto>

use std::{collections::HashMap, path::Path, sync::Arc};

use build::tree::{Root, Tree};
use http::{Request, Response};
use hyper::body::Incoming;
use tonic::{Code, Status, body::Body};

use super::{
    attributes::{self, Place},
    control, filesync,
    frontend::{self, Asked, RESULTS},
    grpc::{refuse, unary},
    jobs::{Job, Made},
    wire::{
        BridgeResult, BridgeSolveRequest, BridgeSolveResponse, Capability, Definition, Empty, InputsResponse,
        PathRequest, PongResponse, ReadDirResponse, ReadFileRequest, ReadFileResponse, Ref, RefMap,
        ResolveImageRequest, ResolveImageResponse, ReturnRequest, StatFileResponse,
    },
};
use crate::Engine;

/// Names of the build that a call is part of.
const BUILD: &str = "buildkit-controlapi-buildid";
/// Metadata of results: an image's configuration, and which platforms there are.
const CONFIG: &str = "containerimage.config";
const PLATFORMS: &str = "refs.platforms";
/// Largest part of a file that is read at once.
const FILE: u64 = 8 << 20;

/// What this bridge does: <https://github.com/moby/buildkit/blob/v0.34.0/frontend/gateway/pb/caps.go>.
const BRIDGE_CAPS: [&str; 12] = [
    "solve.base",
    "solve.inlinereturn",
    "resolveimage",
    "readfile",
    "return",
    "returnmap",
    "readdir",
    "statfile",
    "importcaches",
    "proto.refarray",
    "reference.output",
    "frontend.inputs",
];

/// What definitions may use, and builds do: <https://github.com/moby/buildkit/blob/v0.34.0/solver/pb/caps.go>.
const BUILD_CAPS: [&str; 28] = [
    "source.image",
    "source.image.resolvemode",
    "source.local",
    "source.local.unique",
    "source.local.sessionid",
    "source.local.includepatterns",
    "source.local.followpaths",
    "source.local.excludepatterns",
    "source.local.sharedkeyhint",
    "source.local.differ",
    "source.git",
    "source.git.fullurl",
    "source.git.subdir",
    "source.git.keepgitdir",
    "source.git.knownsshhosts",
    "source.git.mountsshsock",
    "source.git.httpauth",
    "source.git.checksum",
    "source.http",
    "source.http.checksum",
    "file.base",
    "constraints",
    "platform",
    "meta.ignorecache",
    "meta.description",
    "meta.exportcache",
    "exporter.multiple",
    "exporter.sourcedateepoch",
];

/// Answers a call of the service `moby.buildkit.v1.frontend.LLBBridge`.
pub async fn answer(engine: Engine, method: &str, request: Request<Incoming>) -> Response<Body> {
    let named = request.headers().get(BUILD).and_then(|id| id.to_str().ok()).unwrap_or_default().to_owned();
    let job = match engine.buildkit().jobs.wait(&named).await {
        Ok(job) => job,
        Err(status) => return refuse(&status),
    };
    match method {
        "Ping" => unary(request, |_: tonic::Request<Empty>| async move { Ok(ping()) }).await,
        "Solve" => {
            unary(request, |asked: tonic::Request<BridgeSolveRequest>| async move {
                solve(&engine, &job, asked.into_inner()).await
            })
            .await
        }
        "Return" => {
            unary(request, |returned: tonic::Request<ReturnRequest>| async move {
                let ReturnRequest { result, error } = returned.into_inner();
                // A client may fail without having a code for it.
                let error = error.filter(|error| error.code != Code::Ok as i32 || !error.message.is_empty());
                job.hand_over(match error {
                    Some(error) => Err(error),
                    None => Ok(result.unwrap_or_default()),
                });
                Ok(Empty {})
            })
            .await
        }
        "Inputs" => {
            unary(request, |_: tonic::Request<Empty>| async move {
                Ok(InputsResponse { definitions: job.request.inputs.clone() })
            })
            .await
        }
        // Results are made before they are handed out.
        "Evaluate" => {
            unary(request, |asked: tonic::Request<super::wire::StatusRequest>| async move {
                job.made(&asked.get_ref().reference).map(|_| Empty {})
            })
            .await
        }
        "ReadFile" => {
            unary(request, |asked: tonic::Request<ReadFileRequest>| async move {
                let ReadFileRequest { reference, path, range } = asked.into_inner();
                let read = move |root: &Root| {
                    read_file(root, &path, range.map_or((0, 0), |range| (range.offset, range.length)))
                };
                look(&engine, &job, &reference, read).await.map(|data| ReadFileResponse { data })
            })
            .await
        }
        "ReadDir" => {
            unary(request, |asked: tonic::Request<PathRequest>| async move {
                let PathRequest { reference, path } = asked.into_inner();
                let read = move |root: &Root| {
                    let names = root.names(Path::new(&path)).map_err(io(&path))?;
                    let stat = |name: std::ffi::CString| {
                        let name = name.to_string_lossy().into_owned();
                        let mut found = filesync::stat(root, &Path::new(&path).join(&name)).map_err(io(&path))?;
                        if let Some(stat) = &mut found {
                            stat.path = name;
                        }
                        Ok::<_, Status>(found)
                    };
                    let entries: Result<Vec<_>, Status> = names.into_iter().map(stat).collect();
                    Ok(entries?.into_iter().flatten().collect())
                };
                look(&engine, &job, &reference, read).await.map(|entries| ReadDirResponse { entries })
            })
            .await
        }
        "StatFile" => {
            unary(request, |asked: tonic::Request<PathRequest>| async move {
                let PathRequest { reference, path } = asked.into_inner();
                let read = move |root: &Root| {
                    let stat = filesync::stat(root, Path::new(&path)).map_err(io(&path))?;
                    stat.map(Some).ok_or_else(|| Status::not_found(format!("{path}: no such file or directory")))
                };
                look(&engine, &job, &reference, read).await.map(|stat| StatFileResponse { stat })
            })
            .await
        }
        "ResolveImageConfig" => {
            unary(request, |asked: tonic::Request<ResolveImageRequest>| async move {
                resolve_image(&engine, &job, asked.into_inner()).await
            })
            .await
        }
        "Warn" => unary(request, |_: tonic::Request<Empty>| async move { Ok(Empty {}) }).await,
        other => refuse(&Status::unimplemented(format!("{other} of a build is not there"))),
    }
}

fn ping() -> PongResponse {
    let caps = |ids: &[&str]| ids.iter().map(|id| Capability { id: (*id).to_owned(), enabled: true }).collect();
    PongResponse { frontend_caps: caps(&BRIDGE_CAPS), llb_caps: caps(&BUILD_CAPS), workers: vec![control::worker()] }
}

async fn solve(engine: &Engine, job: &Arc<Job>, asked: BridgeSolveRequest) -> Result<BridgeSolveResponse, Status> {
    let session = job.request.session.clone();
    let result = match (asked.frontend.as_str(), &asked.definition) {
        ("", Some(definition)) => result_of(job, of_definition(engine, job, definition).await?, false),
        ("", None) => BridgeResult::default(),
        _ => {
            let asked = Asked {
                frontend: asked.frontend,
                attributes: asked.attributes,
                inputs: asked.inputs,
                entitlements: job.request.entitlements.clone(),
                session,
                cache_imports: asked.cache_imports,
            };
            result_of(job, frontend::build(engine, job, asked).await?, true)
        }
    };
    Ok(BridgeSolveResponse { result: Some(result) })
}

/// What clients get of results, which are kept for later calls: one, or one a platform, by the platforms' names; with the images'
/// configurations where they are images. <https://github.com/moby/buildkit/blob/v0.34.0/exporter/containerimage/exptypes/types.go>
pub fn result_of(job: &Arc<Job>, made: Vec<Made>, images: bool) -> BridgeResult {
    let mut result = BridgeResult::default();
    if let [one] = made.as_slice() {
        if images {
            result.metadata.insert(CONFIG.to_owned(), one.config.clone());
        }
        result.reference = made.into_iter().next().map(|one| keep(job, one));
        return result;
    }
    let (mut platforms, mut refs) = (Vec::new(), HashMap::new());
    for one in made {
        let Some(platform) = one.platform.clone() else { continue };
        let id = platform.to_string();
        let mut shown = serde_json::json!({"architecture": platform.architecture, "os": platform.os});
        if !platform.variant.is_empty() {
            shown["variant"] = platform.variant.into();
        }
        platforms.push(serde_json::json!({"ID": id, "Platform": shown}));
        if images {
            result.metadata.insert(format!("{CONFIG}/{id}"), one.config.clone());
        }
        refs.insert(id, keep(job, one));
    }
    result.metadata.insert(PLATFORMS.to_owned(), serde_json::json!({"Platforms": platforms}).to_string().into_bytes());
    result.references = Some(RefMap { refs });
    result
}

/// The names of a result's parts, in the order of its platforms; of those that it does not name, by name.
pub fn names_of(result: &BridgeResult) -> Vec<String> {
    let Some(map) = &result.references else { return Vec::new() };
    let document =
        result.metadata.get(PLATFORMS).and_then(|text| serde_json::from_slice::<serde_json::Value>(text).ok());
    let listed = document.iter().flat_map(|document| document["Platforms"].as_array()).flatten();
    let mut names: Vec<String> = listed.filter_map(|platform| platform["ID"].as_str().map(str::to_owned)).collect();
    names.retain(|name| map.refs.contains_key(name));
    let mut others: Vec<String> = map.refs.keys().filter(|name| !names.contains(name)).cloned().collect();
    others.sort();
    names.extend(others);
    names
}

/// Keeps a result for later calls, by a name of its own.
pub fn keep(job: &Arc<Job>, made: Made) -> Ref {
    let definition = attributes::of_image(&format!("{RESULTS}:{}", made.id.hex()));
    let id = oci::Digest::sha256(format!("{}/{}", job.request.reference, made.id).as_bytes()).hex()[..25].to_owned();
    job.keep(&id, Arc::new(made));
    Ref { id, definition: Some(definition) }
}

/// The files of a definition's one source, as an image: by a Dockerfile that holds nothing else.
async fn of_definition(engine: &Engine, job: &Arc<Job>, definition: &Definition) -> Result<Vec<Made>, Status> {
    let place = attributes::source(definition).map_err(|invalid| Status::invalid_argument(invalid.0))?;
    let text = match &place {
        Place::Nothing => "FROM scratch\n".to_owned(),
        Place::Image(image) => format!("FROM {image}\n"),
        Place::Remote(url) => {
            let name = url.split(['?', '#']).next().unwrap_or_default().rsplit('/').next().unwrap_or_default();
            match url.starts_with("http") && !name.ends_with(".git") {
                true => format!("FROM scratch\nADD [\"{url}\", \"/{name}\"]\n"),
                false => format!("FROM scratch\nADD [\"{url}\", \"/\"]\n"),
            }
        }
        Place::Local { .. } | Place::Upload(_) => "FROM scratch\nCOPY . /\n".to_owned(),
        Place::Layout { .. } => return Err(Status::unimplemented("a layout is used as a named context alone")),
    };
    if text.lines().count() > 2 || text.contains(['\r', '\0']) {
        return Err(Status::invalid_argument("a source's name holds a line's end"));
    }
    frontend::build_text(engine, job, place, text).await
}

/// Reads from a result in a thread that may wait for the disk.
async fn look<T: Send + 'static>(
    engine: &Engine,
    job: &Job,
    reference: &str,
    read: impl FnOnce(&Root) -> Result<T, Status> + Send + 'static,
) -> Result<T, Status> {
    let made = job.made(reference)?;
    let image =
        engine.images().get(made.id.as_str()).ok_or_else(|| Status::not_found(format!("image {} is gone", made.id)))?;
    let reading = tokio::task::spawn_blocking(move || {
        if image.layers.is_empty() {
            return Err(Status::not_found("no such file or directory"));
        }
        let tree = Tree::layers(image.layers, image.id.to_string(), Vec::new());
        let root = tree.open().map_err(io("/"))?;
        read(&root)
    });
    reading.await.map_err(|error| Status::internal(error.to_string()))?
}

fn io(path: &str) -> impl Fn(std::io::Error) -> Status {
    let path = path.to_owned();
    move |error| match error.kind() {
        std::io::ErrorKind::NotFound => Status::not_found(format!("open {path}: no such file or directory")),
        _ => Status::unknown(format!("read {path}: {error}")),
    }
}

fn read_file(root: &Root, path: &str, (offset, length): (i64, i64)) -> Result<Vec<u8>, Status> {
    use std::io::{Read, Seek};
    let flags = rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::NONBLOCK;
    let opened = root.open(Path::new(path), flags).map_err(|error| io(path)(error.into()))?;
    let mut file = std::fs::File::from(opened);
    let metadata = file.metadata().map_err(io(path))?;
    if !metadata.is_file() {
        return Err(Status::invalid_argument(format!("read {path}: it is no file")));
    }
    let limit = match u64::try_from(length) {
        Ok(length @ 1..) => length.min(FILE),
        _ if metadata.len() > FILE => return Err(Status::out_of_range(format!("read {path}: more than {FILE} bytes"))),
        _ => FILE,
    };
    file.seek(std::io::SeekFrom::Start(u64::try_from(offset).unwrap_or(0))).map_err(io(path))?;
    let mut bytes = Vec::new();
    file.take(limit).read_to_end(&mut bytes).map_err(io(path))?;
    Ok(bytes)
}

/// The configuration of an image, which is pulled for it where it is not here.
async fn resolve_image(engine: &Engine, job: &Job, asked: ResolveImageRequest) -> Result<ResolveImageResponse, Status> {
    let reference = oci::Reference::parse(&asked.reference);
    let reference = reference.map_err(|error| Status::invalid_argument(format!("{}: {error}", asked.reference)))?;
    let here = engine.images().get(&reference.to_string());
    let here = here.filter(|_| asked.mode != "pull" && engine.view().is_none());
    let image = match here {
        Some(image) => image,
        None => {
            let session = engine.buildkit().sessions.wait(&job.request.session).await?;
            let known = engine.asking(Arc::new(session)).credentials(reference.domain()).await;
            let known = known.map_err(|error| Status::unknown(format!("{error:#}")))?;
            let how = engine.pull(known.into_iter().collect());
            let pulled = engine.images().pull(&reference, &how).await;
            pulled.map_err(|error| match error {
                image::pull::Error::NotFound(_) => Status::not_found(format!("{}: not found", asked.reference)),
                error => Status::unknown(format!("{error:#}")),
            })?
        }
    };
    let path =
        engine.images().blob(&image.id).ok_or_else(|| Status::not_found(format!("image {} is gone", image.id)))?;
    let config = tokio::fs::read(path).await.map_err(io(image.id.as_str()))?;
    Ok(ResolveImageResponse { digest: image.manifest.to_string(), config, reference: reference.to_string() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_a_result_come_in_the_order_of_its_platforms() {
        let reference = |id: &str| (id.to_owned(), Ref::default());
        let refs = HashMap::from(["linux/amd64", "linux/arm64", "other", "another"].map(reference));
        let listed = br#"{"Platforms": [{"ID": "linux/arm64"}, {"ID": "linux/s390x"}, {"ID": "linux/amd64"}]}"#;
        let mut result = BridgeResult { references: Some(RefMap { refs }), ..BridgeResult::default() };
        assert_eq!(names_of(&result), ["another", "linux/amd64", "linux/arm64", "other"]);
        result.metadata.insert(PLATFORMS.to_owned(), listed.to_vec());
        assert_eq!(names_of(&result), ["linux/arm64", "linux/amd64", "another", "other"]);
        result.metadata.insert(PLATFORMS.to_owned(), b"[".to_vec());
        assert_eq!(names_of(&result).len(), 4);
        assert!(names_of(&BridgeResult::default()).is_empty());
    }
}
