//! What registries say: whether a login is good, what a name leads to, which images there are.

use std::time::Duration;

use ::image::pull::{Credentials, upstream, web::Web};
use bytes::Bytes;
use futures::StreamExt as _;
use http::{Method, Request, Response, StatusCode};
use oci::{Reference, media::Document, query::encoded};
use serde::Deserialize;
use serde_json::{Value, json};
use serve::Body;

use super::{access, credentials, reference, refused};
use crate::{
    Engine, answer,
    call::Call,
    error::{Error, Result},
    filter::Filters,
};

/// Docker Hub, as clients call it when they log in.
const HUB: &str = "https://index.docker.io/v1/";
/// Where Docker Hub is searched.
const SEARCH: &str = "https://index.docker.io/v1/search";
/// Results of a search without a limit, and the most of one.
const RESULTS: (u32, u32) = (25, 100);
/// Largest answer of a search.
const LARGEST: usize = 4 << 20;
/// How long a search may take.
const PATIENCE: Duration = Duration::from_secs(60);

#[derive(Default, Deserialize)]
#[serde(default)]
struct Login {
    username: String,
    password: String,
    serveraddress: String,
    identitytoken: String,
}

/// `POST /auth`: whether a registry takes the credentials.
pub(crate) async fn login(engine: &Engine, mut call: Call) -> Result<Response<Body>> {
    let login: Login = call.json().await?;
    let address = match login.serveraddress.as_str() {
        "" | HUB => "docker.io",
        address => address,
    };
    let host = address.split_once("://").map_or(address, |(_, rest)| rest);
    let host = host.split('/').next().unwrap_or_default();
    // No repository is asked for: only the registry's front door.
    let place = reference(&format!("{host}/madang/login"))?;
    if place.domain() != host {
        return Err(Error::invalid(format!("{address} is no registry")));
    }
    let known = match (login.identitytoken.is_empty(), login.username.is_empty()) {
        (false, _) => Credentials::Identity(login.identitytoken),
        (true, false) => Credentials::Password { username: login.username, password: login.password },
        (true, true) => return Err(Error::invalid("a login needs a name and a password")),
    };
    let checked = upstream::login(&place, &access(engine, Vec::new()), known).await;
    checked.map_err(|error| match error {
        ::image::pull::Error::Denied(text) => {
            Error::new(StatusCode::UNAUTHORIZED, format!("login attempt to https://{host}/v2/ failed: {text}"))
        }
        error => Error::failed(format!("{error:#}")),
    })?;
    answer::json(&json!({"Status": "Login Succeeded", "IdentityToken": ""}))
}

/// `GET /distribution/NAME/json`.
pub(crate) async fn distribution(engine: &Engine, call: Call, name: &str) -> Result<Response<Body>> {
    let wanted = reference(name)?;
    let how = access(engine, engine.credentials(wanted.domain(), credentials(&call)?).await?);
    let said = |error: ::image::pull::Error| match &error {
        ::image::pull::Error::Denied(text) => Error::new(StatusCode::UNAUTHORIZED, text.clone()),
        error => refused(error, &wanted),
    };
    let (digest, bytes) = upstream::manifest(&wanted, &how).await.map_err(said)?;
    let document: Value = serde_json::from_slice(&bytes)
        .map_err(|error| Error::failed(format!("read the manifest of {}: {error}", wanted.familiar())))?;
    let (shape, usual) = match Document::of_content(&document) {
        Some(Document::Index) => (Document::Index, oci::media::OCI_INDEX),
        Some(Document::Manifest) => (Document::Manifest, oci::media::OCI_MANIFEST),
        _ => return Err(Error::invalid(format!("{} is no image", wanted.familiar()))),
    };
    let platforms: Vec<Value> = match shape {
        Document::Index => {
            let entries = document["manifests"].as_array().map(Vec::as_slice).unwrap_or_default();
            entries.iter().map(|entry| entry["platform"].clone()).filter(Value::is_object).collect()
        }
        _ => vec![platform(&wanted, &how, &document).await?],
    };
    answer::json(&json!({
        "Descriptor": {
            "mediaType": document["mediaType"].as_str().unwrap_or(usual), "digest": digest, "size": bytes.len(),
        },
        "Platforms": platforms,
    }))
}

/// What a manifest's configuration says that it is for.
async fn platform(wanted: &Reference, how: &::image::pull::Pull, manifest: &Value) -> Result<Value> {
    let digest = manifest["config"]["digest"].as_str().and_then(|digest| digest.parse().ok());
    let (Some(digest), Some(size)) = (digest, manifest["config"]["size"].as_u64()) else {
        return Err(Error::failed(format!("the manifest of {} names no configuration", wanted.familiar())));
    };
    let size = usize::try_from(size).unwrap_or(usize::MAX);
    if size > LARGEST {
        return Err(Error::failed(format!("the configuration of {} has {size} bytes", wanted.familiar())));
    }
    let (sender, mut pieces) = tokio::sync::mpsc::channel(4);
    let fetch = upstream::blob(wanted, how, &digest, size as u64, sender);
    let read = async {
        let mut bytes = Vec::new();
        while let Some(piece) = pieces.recv().await {
            bytes.extend_from_slice(&piece.map_err(|error| refused(&error, wanted))?);
        }
        Ok::<_, Error>(bytes)
    };
    let ((), bytes) = tokio::join!(fetch, read);
    let bytes = bytes?;
    if !digest.matches(&bytes) {
        return Err(Error::failed(format!("the configuration of {} has another digest", wanted.familiar())));
    }
    let config: Value = serde_json::from_slice(&bytes).unwrap_or_default();
    let mut platform = json!({"architecture": config["architecture"], "os": config["os"]});
    if config["variant"].is_string() {
        platform["variant"] = config["variant"].clone();
    }
    Ok(platform)
}

/// `GET /images/search`.
pub(crate) async fn search(engine: &Engine, call: Call) -> Result<Response<Body>> {
    let filters = Filters::of(&call.query, &["is-automated", "is-official", "stars"])?;
    let term = call.query.filled("term").ok_or_else(|| Error::invalid("no search term given"))?;
    let limit = call.query.number::<u32>("limit")?.filter(|limit| *limit > 0).unwrap_or(RESULTS.0);
    if limit > RESULTS.1 {
        return Err(Error::invalid(format!("limit {limit} is outside the range of [1, {}]", RESULTS.1)));
    }
    if term.contains("://")
        || term.split('/').next().is_some_and(|first| first.contains(['.', ':'])) && term.contains('/')
    {
        return Err(Error::invalid(format!("{term}: only Docker Hub can be searched, leave out the registry")));
    }
    let url = format!("{SEARCH}?q={}&n={limit}", encoded(term.trim_start_matches("library/")));
    let web = Web::new(&access(engine, Vec::new()))?;
    let request = Request::builder().method(Method::GET).uri(&url).header("x-docker-token", "true").body(Bytes::new());
    let request = request.map_err(|error| Error::invalid(format!("{term}: {error}")))?;
    let asking = async {
        let (_, answer) = web.send(request).await?;
        let status = answer.status();
        let mut pieces = answer.into_body();
        let mut bytes = Vec::new();
        while let Some(piece) = pieces.next().await {
            bytes.extend_from_slice(&piece?);
            if bytes.len() > LARGEST {
                anyhow::bail!("the answer is longer than {LARGEST} bytes");
            }
        }
        if !status.is_success() {
            anyhow::bail!("it answers {status}");
        }
        Ok(bytes)
    };
    let asked = tokio::time::timeout(PATIENCE, asking).await;
    let bytes = match asked {
        Ok(Ok(bytes)) => bytes,
        Ok(Err(error)) => return Err(Error::failed(format!("search Docker Hub for {term}: {error:#}"))),
        Err(_) => return Err(Error::failed(format!("search Docker Hub for {term}: no answer in time"))),
    };
    let found: Value = serde_json::from_slice(&bytes)
        .map_err(|error| Error::failed(format!("search Docker Hub for {term}: {error}")))?;
    let stars = filters.get("stars").iter().filter_map(|stars| stars.parse::<i64>().ok()).max().unwrap_or(0);
    let (official, automated) = (filters.flag("is-official")?, filters.flag("is-automated")?);
    let fits = |result: &&Value| {
        result["star_count"].as_i64().unwrap_or(0) >= stars
            && official.is_none_or(|wanted| (result["is_official"] == true) == wanted)
            && automated.is_none_or(|wanted| (result["is_automated"] == true) == wanted)
    };
    let results = found["results"].as_array().map(Vec::as_slice).unwrap_or_default();
    let shown: Vec<Value> = results
        .iter()
        .filter(fits)
        .map(|result| {
            json!({
                "name": result["name"], "description": result["description"].as_str().unwrap_or_default(),
                "star_count": result["star_count"], "is_official": result["is_official"] == true,
                "is_automated": result["is_automated"] == true,
            })
        })
        .collect();
    answer::json(&shown)
}
