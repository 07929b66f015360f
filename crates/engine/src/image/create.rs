//! `POST /images/create`: images from registries, and from archives of files.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use ::image::pull::{Progress, Pull, upstream};
use anyhow::Context as _;
use build::source::{Fetching, Remote};
use futures::TryStreamExt as _;
use http::Response;
use http_body_util::BodyExt as _;
use oci::{Digest, Reference, index::Machine};
use serde_json::{Value, json};
use serve::Body;
use tokio::io::AsyncRead;

use super::{
    access, changes, credentials,
    message::{self, Messages, progress, status},
    reference, refused,
};
use crate::{
    Engine,
    call::Call,
    error::{Error, Result},
};

/// Most tags of a repository that are pulled at once.
const TAGS: usize = 10_000;

/// Answers.
pub(crate) async fn answer(engine: &Engine, call: Call) -> Result<Response<Body>> {
    match (call.query.filled("fromImage"), call.query.filled("fromSrc")) {
        (Some(name), _) => {
            let name = name.to_owned();
            pull(engine, call, &name).await
        }
        (None, Some(source)) => {
            let source = source.to_owned();
            import(engine, call, &source).await
        }
        (None, None) => Err(Error::invalid("name an image (fromImage) or an archive (fromSrc)")),
    }
}

/// The first letters of a layer's digest, by which clients know its line.
pub(crate) fn short(digest: &Digest) -> String {
    digest.hex().chars().take(12).collect()
}

async fn pull(engine: &Engine, call: Call, name: &str) -> Result<Response<Body>> {
    let tag = call.query.filled("tag");
    let wanted = match tag {
        Some(digest) if digest.contains(':') => reference(&format!("{name}@{digest}"))?,
        Some(tag) => reference(&format!("{name}:{tag}"))?,
        None => reference(name)?,
    };
    // Without a tag all of them are meant.
    let named = name.contains('@') || name.rsplit('/').next().is_some_and(|last| last.contains(':'));
    let all = tag.is_none() && !named;
    let mut how = access(engine, engine.credentials(wanted.domain(), credentials(&call)?).await?);
    if let Some(platform) = call.query.filled("platform") {
        let machine = Machine::parse(platform);
        how.machine = Some(machine.ok_or_else(|| Error::invalid(format!("invalid platform {platform:?}")))?);
    }
    let engine = engine.clone();
    let worker = engine.clone();
    message::stream(&engine, "pull", move |messages| async move {
        if !all {
            return fetch(&worker, &wanted, how, &messages).await;
        }
        let tags = upstream::tags(&wanted, &how, TAGS).await.map_err(|error| refused(&error, &wanted))?;
        for tag in tags {
            let one = reference(&format!("{}:{tag}", wanted.repository()))?;
            fetch(&worker, &one, how.clone(), &messages).await?;
        }
        Ok(())
    })
    .await
}

/// Fetches one image, and tells as docker does.
pub(crate) async fn fetch(engine: &Engine, wanted: &Reference, mut how: Pull, messages: &Messages) -> Result<()> {
    let told = Arc::new(Mutex::new(BTreeMap::<Digest, bool>::new()));
    let (begun, telling, known) = (pulling(wanted), messages.clone(), told.clone());
    how.progress = Some(Arc::new(move |Progress { layer, done, total }: Progress| {
        let mut known = known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.is_empty() {
            telling.hint(begun.clone());
        }
        let id = short(&layer);
        if !known.contains_key(&layer) {
            telling.hint(status("Pulling fs layer", &id));
        }
        let whole = done >= total;
        match whole {
            true => telling.hint(status("Download complete", &id)),
            false => telling.hint(progress("Downloading", &id, done, total)),
        }
        known.insert(layer, whole);
    }));
    let pulled = engine.images().fetch(wanted, &how).await.map_err(|error| refused(&error, wanted))?;
    let familiar = wanted.familiar();
    let image = engine.images().get(&wanted.to_string());
    super::tell(engine, image.as_ref(), "pull", &familiar, super::bare(&familiar));
    if engine.view().is_some() {
        engine.name_image(&pulled.image.id, Some(wanted)).await?;
    }
    let fetched = std::mem::take(&mut *told.lock().unwrap_or_else(PoisonError::into_inner));
    if fetched.is_empty() {
        messages.tell(pulling(wanted)).await;
    }
    for layer in fetched.keys() {
        messages.tell(status("Pull complete", &short(layer))).await;
    }
    messages.tell(status(format!("Digest: {}", pulled.digest), "")).await;
    let outcome = match pulled.is_new {
        true => "Downloaded newer image for",
        false => "Image is up to date for",
    };
    messages.tell(status(format!("Status: {outcome} {}", wanted.familiar()), "")).await;
    Ok(())
}

fn pulling(wanted: &Reference) -> Value {
    let from = if wanted.domain() == "docker.io" { wanted.path().to_owned() } else { wanted.repository() };
    json!({ "status": format!("Pulling from {from}"), "id": wanted.target() })
}

async fn import(engine: &Engine, mut call: Call, source: &str) -> Result<Response<Body>> {
    let repository = call.query.filled("repo").map(str::to_owned);
    let name = match (&repository, call.query.filled("tag")) {
        (None, _) => None,
        (Some(repository), None) => Some(reference(repository)?),
        (Some(repository), Some(tag)) => Some(reference(&format!("{repository}:{tag}"))?),
    };
    if name.as_ref().is_some_and(|name| name.digest().is_some()) {
        return Err(Error::invalid("cannot import digest reference"));
    }
    let platform = call
        .query
        .filled("platform")
        .map(|text| Machine::parse(text).ok_or_else(|| Error::invalid(format!("invalid platform {text:?}"))));
    let machine = platform.transpose()?.unwrap_or_else(Machine::host);
    let wanted: Vec<String> = call.query.all("changes").map(str::to_owned).collect();
    let config = changes::changed(json!({}), &wanted)?;
    let comment = call.query.filled("message").unwrap_or("Imported from -").to_owned();
    let comment = if comment == "Imported from -" { format!("Imported from {source}") } else { comment };
    let now = jiff::Timestamp::now().to_string();
    let document = json!({
        "created": now, "architecture": machine.architecture, "os": machine.os, "config": config,
        "history": [{"created": now, "comment": comment}],
    });
    let (source, body) = (source.to_owned(), call.take_body());
    let engine = engine.clone();
    let worker = engine.clone();
    message::stream(&engine, "import", move |messages| async move {
        let (archive, _guard): (Box<dyn AsyncRead + Send + Unpin>, _) = match source.as_str() {
            "-" => {
                let pieces = body.into_data_stream().map_err(std::io::Error::other);
                (Box::new(tokio_util::io::StreamReader::new(pieces)), None)
            }
            url => {
                messages.tell(status(format!("Downloading from {url}"), "")).await;
                let (file, guard) = download(&worker, url).await?;
                (Box::new(file), Some(guard))
            }
        };
        let names: Vec<Reference> = name.into_iter().collect();
        let image = worker.images().import(archive, document, &names).await?;
        super::tell(&worker, Some(&image), "import", image.id.as_str(), image.id.as_str());
        messages.tell(status(image.id.to_string(), "")).await;
        Ok(())
    })
    .await
}

/// Fetches a file of the web.
async fn download(engine: &Engine, url: &str) -> Result<(tokio::fs::File, build::source::Fetched)> {
    let url = if url.contains("://") { url.to_owned() } else { format!("http://{url}") };
    if !url.starts_with("http://") && !url.starts_with("https://") {
        return Err(Error::invalid(format!("{url} is no URL of the web")));
    }
    let how = Fetching {
        directory: engine.settings().dir.join("imports"),
        trust: ::image::pull::Trust::Host,
        registries: Arc::default(),
        client: Arc::new(build::client::Given::default()),
        abroad: engine.view().is_some(),
    };
    let fetched = build::source::fetch(&how, &Remote { text: url.clone(), ..Remote::default() }).await?;
    let name = fetched.file.clone().with_context(|| format!("{url} is no file"))?;
    let path = fetched.directory.join(name);
    let file = tokio::fs::File::open(&path).await.with_context(|| format!("open {}", path.display()))?;
    Ok((file, fetched))
}
