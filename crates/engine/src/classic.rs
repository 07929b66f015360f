//! `POST /build`: builds as clients without BuildKit ask for them — a context in the body, options in the query, lines back.
//!
//! ```text
//! tar, or `remote=URL` ─▶ build::Builder ─▶ {"stream": "Step 1/2 : FROM a\n"} ... {"aux": {"ID": "sha256:..."}}
//! ```
//!
//! Steps are the same as everywhere, and told as the older builder told them: each when it begins, then what it writes.
//!
//! <https://docs.docker.com/reference/api/engine/version/v1.50/#tag/Image/operation/ImageBuild>

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use ::image::pull::Credentials;
use build::{
    cache::Prune,
    client::Given,
    progress::{Event, Outcome, Progress},
    request::{Compression, Context, File, NetworkMode, Options, Output, Request, Ulimit},
};
use futures::TryStreamExt as _;
use http::{Method, Response};
use http_body_util::BodyExt as _;
use oci::Reference;
use serde_json::{Value, json};
use serve::Body;

use crate::{
    Engine, answer,
    call::{Call, Query},
    error::{Error, Result},
    filter::{Filters, go_duration},
    image::{self, message},
    route,
};

/// Answers.
pub(crate) async fn answer(engine: &Engine, mut call: Call) -> Result<Response<Body>> {
    let path = call.path.clone();
    let path: Vec<&str> = path.iter().map(String::as_str).collect();
    let method = call.method.clone();
    match (&method, path.as_slice()) {
        (&Method::POST, ["build"]) => {}
        (&Method::POST, ["build", "prune"]) => {
            let query = call.query.clone();
            drop(call);
            return prune(engine, &query).await;
        }
        _ => return Err(route::unknown()),
    }
    if call.query.get("version") == Some("2") {
        return Err(Error::unsupported("builds with BuildKit come over /grpc and /session: install docker buildx"));
    }
    let options = engine.allowed(options(&call.query)?).map_err(|error| Error::forbidden(format!("{error:#}")))?;
    let names = call.query.all("t").filter(|name| !name.is_empty());
    let names: Vec<Reference> = names.map(image::reference).collect::<Result<_>>()?;
    let credentials = registries(call.header("x-registry-config"))?;
    let remote = call.query.filled("remote").map(str::to_owned);
    let context = match &remote {
        Some(url) if url == "client-session" => {
            return Err(Error::unsupported("a context in a session comes with BuildKit"));
        }
        Some(url) => Context::Remote(url.clone()),
        None => {
            let pieces = call.take_body().into_data_stream().map_err(std::io::Error::other);
            Context::Archive(Box::new(tokio_util::io::StreamReader::new(pieces)))
        }
    };
    let dockerfile = call.query.filled("dockerfile").unwrap_or("Dockerfile").to_owned();
    let quiet = call.query.flag("q");
    let request = Request {
        options,
        context,
        dockerfile: File::InContext(dockerfile),
        named: BTreeMap::new(),
        client: engine.asking(Arc::new(Given { credentials, ..Given::default() })),
        outputs: vec![Output::Image { names: names.clone(), push: false, compression: Compression::default() }],
        realm: engine.realm(),
    };
    let engine = engine.clone();
    let worker = engine.clone();
    message::stream(&engine, "build", move |messages| async move {
        let (progress, mut events) = Progress::channel();
        let builder = worker.builder().clone();
        let building = async move { builder.build(request, &progress).await };
        let telling = async {
            let mut told = Told::default();
            while let Some(event) = events.recv().await {
                for line in told.lines(event) {
                    if !quiet {
                        messages.tell(json!({ "stream": line })).await;
                    }
                }
            }
        };
        let (built, ()) = tokio::join!(building, telling);
        let built = built.map_err(|error| Error::failed(error.to_string()))?;
        let id = built.image.ok_or_else(|| Error::failed("the build has made no image"))?;
        if worker.view().is_some() {
            worker.name_image(&id, None).await?;
            for name in &names {
                worker.name_image(&id, Some(name)).await?;
            }
        }
        if quiet {
            messages.tell(json!({ "stream": format!("{id}\n") })).await;
            return Ok(());
        }
        messages.tell(json!({ "aux": { "ID": id } })).await;
        messages.tell(json!({ "stream": format!("Successfully built {}\n", &id.hex()[..12]) })).await;
        for name in names {
            messages.tell(json!({ "stream": format!("Successfully tagged {}\n", name.familiar()) })).await;
        }
        Ok(())
    })
    .await
}

/// `POST /build/prune`: makes room in the cache of builds.
async fn prune(engine: &Engine, query: &Query) -> Result<Response<Body>> {
    let filters = Filters::of(query, &["until", "unused-for"])?;
    let unused_for = match (filters.get("unused-for").first(), filters.until()?) {
        (Some(text), _) => {
            go_duration(text).ok_or_else(|| Error::invalid(format!("invalid filter 'unused-for={text}'")))?
        }
        (None, Some(until)) => jiff::Timestamp::now().duration_since(until).unsigned_abs(),
        (None, None) => std::time::Duration::ZERO,
    };
    let bound = ["max-used-space", "reserved-space", "keep-storage"];
    let bounds: Vec<u64> = bound.iter().filter_map(|name| query.number(name).transpose()).collect::<Result<_>>()?;
    let keep = bounds.into_iter().max().filter(|bytes| *bytes > 0);
    let pruned = engine.builder().cache().prune(Prune { keep, unused_for }).await?;
    let keys: Vec<String> = pruned.keys.iter().map(ToString::to_string).collect();
    answer::json(&json!({ "CachesDeleted": keys, "SpaceReclaimed": pruned.bytes }))
}

/// The options of a query.
fn options(query: &Query) -> Result<Options> {
    let pairs = |name: &str| -> Result<BTreeMap<String, String>> {
        let given: HashMap<String, Option<String>> = query.json(name)?.unwrap_or_default();
        // An argument without a value is what the client's environment has, and it has none.
        Ok(given.into_iter().filter_map(|(name, value)| Some((name, value?))).collect())
    };
    let mut options = Options {
        target: query.filled("target").map(str::to_owned),
        arguments: pairs("buildargs")?,
        labels: pairs("labels")?,
        platform: query.filled("platform").map(str::to_owned),
        no_cache: query.flag("nocache"),
        pull: query.flag("pull"),
        shm_size: query.number("shmsize")?.filter(|size| *size > 0),
        memory: query.number("memory")?.filter(|bytes| *bytes > 0),
        cpu_quota: query.number("cpuquota")?.filter(|quota| *quota > 0),
        cpu_period: query.number("cpuperiod")?.filter(|period| *period > 0),
        cpu_shares: query.number("cpushares")?.filter(|shares| *shares > 0),
        cgroup_parent: query.get("cgroupparent").unwrap_or_default().to_owned(),
        ..Options::default()
    };
    options.network = match query.get("networkmode").unwrap_or_default() {
        "" | "default" | "bridge" => NetworkMode::Default,
        "none" => NetworkMode::None,
        "host" => {
            options.allow_host_network = true;
            NetworkMode::Host
        }
        other => {
            return Err(Error::invalid(format!("build steps cannot be in the network {other}: default, host or none")));
        }
    };
    for host in query.all("extrahosts").flat_map(|hosts| hosts.split(',')).filter(|host| !host.is_empty()) {
        let parts = host.split_once('=').or_else(|| host.split_once(':'));
        let (name, address) = parts.ok_or_else(|| Error::invalid(format!("bad format for add-host: {host:?}")))?;
        let address =
            address.parse().map_err(|_| Error::invalid(format!("invalid IP address in add-host: {address:?}")))?;
        options.hosts.push((name.to_owned(), address));
    }
    let limits: Option<Vec<Value>> = query.json("ulimits")?;
    for limit in limits.unwrap_or_default() {
        let bound = |name: &str| limit[name].as_i64().map(|number| u64::try_from(number).unwrap_or(u64::MAX));
        let (Some(soft), Some(hard)) = (bound("Soft"), bound("Hard")) else {
            return Err(Error::invalid(format!("ulimit {limit}: Soft and Hard are wanted")));
        };
        let name = limit["Name"].as_str().unwrap_or_default();
        options.ulimits.push(Ulimit::new(name, soft, hard).map_err(Error::invalid)?);
    }
    if query.flag("squash") {
        return Err(Error::unsupported("layers are not squashed here: begin a stage FROM scratch and copy into it"));
    }
    Ok(options)
}

/// Credentials by registry, as the header has them.
fn registries(header: Option<&str>) -> Result<BTreeMap<String, Credentials>> {
    let Some(text) = header.filter(|text| !text.is_empty()) else { return Ok(BTreeMap::new()) };
    let bad = || Error::invalid("the header X-Registry-Config cannot be read");
    let document = image::decoded(text).ok_or_else(bad)?;
    let entries: Option<HashMap<String, Value>> = serde_json::from_slice(&document).map_err(|_| bad())?;
    let mut found = BTreeMap::new();
    for (location, entry) in entries.unwrap_or_default() {
        let known = Credentials::parse(&serde_json::to_vec(&entry).map_err(|_| bad())?);
        if let Some(known) = known.map_err(|error| Error::invalid(format!("credentials for {location}: {error:#}")))? {
            let host = location.split_once("://").map_or(location.as_str(), |(_, rest)| rest);
            let host = host.split('/').next().unwrap_or_default();
            let host = if host == "index.docker.io" { "docker.io" } else { host };
            found.insert(host.to_owned(), known);
        }
    }
    Ok(found)
}

/// What was told of a build.
#[derive(Default)]
struct Told {
    /// Names of steps, without their place in the stage.
    names: HashMap<u32, String>,
    begun: usize,
}

impl Told {
    /// The lines that an event is to older clients.
    fn lines(&mut self, event: Event) -> Vec<String> {
        match event {
            Event::Known(vertex) if !vertex.name.starts_with("[internal]") => {
                let name = match vertex.name.strip_prefix('[').and_then(|rest| rest.split_once("] ")) {
                    Some((_, name)) => name.to_owned(),
                    None => vertex.name,
                };
                self.names.insert(vertex.id, name);
                Vec::new()
            }
            Event::Started { vertex, .. } => self.begin(vertex).into_iter().collect(),
            Event::Finished { vertex, outcome: Outcome::Cached, .. } if self.names.contains_key(&vertex) => {
                let mut lines: Vec<String> = self.begin(vertex).into_iter().collect();
                lines.push(" ---> Using cache\n".to_owned());
                lines
            }
            Event::Log { vertex, bytes, .. } if !bytes.is_empty() => {
                let mut lines: Vec<String> = self.begin(vertex).into_iter().collect();
                lines.push(String::from_utf8_lossy(&bytes).into_owned());
                lines
            }
            Event::Warning { message, .. } => vec![format!("[Warning] {message}\n")],
            _ => Vec::new(),
        }
    }

    /// A step begins: told once.
    fn begin(&mut self, vertex: u32) -> Option<String> {
        let name = self.names.get_mut(&vertex).filter(|name| !name.is_empty()).map(std::mem::take)?;
        self.begun += 1;
        Some(format!("Step {}/{} : {name}\n", self.begun, self.names.len()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use build::progress::Vertex;
    use jiff::Timestamp;

    #[test]
    fn steps_are_told_as_the_older_builder_told_them() {
        let mut told = Told::default();
        let known = |id, name: &str| Event::Known(Vertex { id, name: name.to_owned(), ..Vertex::default() });
        let at = Timestamp::UNIX_EPOCH;
        let events = [
            known(1, "[internal] load build context"),
            known(2, "[1/2] FROM a"),
            known(3, "[2/2] RUN x"),
            Event::Started { vertex: 1, at },
            Event::Finished { vertex: 2, at, outcome: Outcome::Cached },
            Event::Started { vertex: 3, at },
            Event::Log { vertex: 3, at, stream: build::progress::Stream::Out, bytes: b"hi\n".to_vec() },
            Event::Finished { vertex: 3, at, outcome: Outcome::Done },
        ];
        let lines: Vec<String> = events.into_iter().flat_map(|event| told.lines(event)).collect();
        assert_eq!(lines, ["Step 1/2 : FROM a\n", " ---> Using cache\n", "Step 2/2 : RUN x\n", "hi\n"]);
    }

    #[test]
    fn queries_become_options() {
        let query = Query::parse(
            "buildargs=%7B%22A%22%3A%221%22%2C%22B%22%3Anull%7D&labels=%7B%7D&nocache=1&target=x&extrahosts=a:1.2.3.4&extrahosts=b%3D::1&networkmode=host",
        );
        let options = options(&query).unwrap();
        assert_eq!(options.arguments, BTreeMap::from([("A".to_owned(), "1".to_owned())]));
        assert!(options.no_cache && options.allow_host_network && options.network == NetworkMode::Host);
        assert_eq!(options.hosts[1], ("b".to_owned(), "::1".parse().unwrap()));
        for bad in ["squash=1", "networkmode=container:x", "extrahosts=a", "ulimits=%5B%7B%7D%5D", "buildargs=x"] {
            assert!(super::options(&Query::parse(bad)).is_err(), "{bad}");
        }
    }

    #[test]
    fn credentials_are_found_by_registry() {
        use base64::{Engine as _, engine::general_purpose::URL_SAFE};
        let header = URL_SAFE.encode(
            r#"{"https://index.docker.io/v1/":{"username":"u","password":"p"},"r.io":{"auth":"dTpw"},"e.io":{}}"#,
        );
        let found = registries(Some(&header)).unwrap();
        assert_eq!(found.keys().collect::<Vec<_>>(), ["docker.io", "r.io"]);
        assert!(registries(Some("%")).is_err() && registries(None).unwrap().is_empty());
    }
}
