//! `docker save` and `docker load`.

use futures::TryStreamExt as _;
use http::Response;
use http_body_util::BodyExt as _;
use oci::Reference;
use serde_json::json;
use serve::{Body, body};
use tokio::io::AsyncReadExt as _;

use super::{find, message};
use crate::{
    Engine, answer,
    call::Call,
    error::{Error, Result},
};

/// Bytes of an archive that wait for a slow client.
const WAITING: usize = 1 << 20;
/// Bytes of a piece of an archive.
const PIECE: usize = 256 << 10;

/// `GET /images/get?names=...`, `GET /images/NAME/get`.
pub(crate) fn save(engine: &Engine, call: &Call, one: Option<String>) -> Result<Response<Body>> {
    let names: Vec<String> = match one {
        Some(name) => vec![name],
        None => call.query.all("names").flat_map(|names| names.split(',')).map(str::to_owned).collect(),
    };
    if names.is_empty() {
        return Err(Error::invalid("name the images to save"));
    }
    let mut chosen: Vec<(String, Vec<String>)> = Vec::new();
    for name in &names {
        let image = find(engine, name)?;
        let full = Reference::parse(name).ok().map(|name| name.to_string());
        // An image by its id has no name in the archive; a repository without a tag means all its tags.
        let bare = !name.rsplit('/').next().is_some_and(|last| last.contains([':', '@']));
        let names: Vec<String> = match full.filter(|full| image.names.contains(full)) {
            Some(full) if !bare => vec![full],
            Some(full) => {
                let repository = full.rsplit_once(':').map_or(full.as_str(), |(repository, _)| repository).to_owned();
                let same = |name: &&String| name.rsplit_once(':').is_some_and(|(other, _)| other == repository);
                image.names.iter().filter(same).cloned().collect()
            }
            None => Vec::new(),
        };
        let id = image.id.to_string();
        super::tell(engine, Some(&image), "save", &id, &id);
        match chosen.iter_mut().find(|(other, _)| *other == id) {
            Some((_, all)) => all.extend(names),
            None => chosen.push((id, names)),
        }
    }
    let (writer, mut reader) = tokio::io::duplex(WAITING);
    let (sender, body) = body::channel(4);
    let store = engine.images().clone();
    engine.task().spawn_until_cancelled("save", async move {
        let reading = async {
            loop {
                let mut piece = bytes::BytesMut::with_capacity(PIECE);
                match reader.read_buf(&mut piece).await {
                    Ok(0) => return Ok(()),
                    Ok(_) => {
                        if sender.send(Ok(piece.freeze())).await.is_err() {
                            return Ok(());
                        }
                    }
                    Err(error) => return Err(error),
                }
            }
        };
        let (saved, read) = tokio::join!(store.save_as(chosen, writer), reading);
        // The answer has begun: an early end is all that can be told.
        if let Err(error) = saved.and(read.map_err(anyhow::Error::from)) {
            tracing::warn!(error = format!("{error:#}"), "save images");
            let _ = sender.send(Err(error.into())).await;
        }
    });
    Ok(answer::typed(body, "application/x-tar"))
}

/// `POST /images/load`.
pub(crate) async fn load(engine: &Engine, mut call: Call) -> Result<Response<Body>> {
    let body = call.take_body();
    let engine = engine.clone();
    let worker = engine.clone();
    message::stream(&engine, "load", move |messages| async move {
        let archive = tokio_util::io::StreamReader::new(body.into_data_stream().map_err(std::io::Error::other));
        let images = worker.images().load(archive).await.map_err(|error| Error::invalid(format!("{error:#}")))?;
        for image in images {
            super::tell(&worker, Some(&image), "load", image.id.as_str(), image.id.as_str());
            let lines: Vec<String> = match image.names.as_slice() {
                [] => vec![format!("Loaded image ID: {}", image.id)],
                names => {
                    let familiar =
                        |name: &String| Reference::parse(name).map_or_else(|_| name.clone(), |name| name.familiar());
                    names.iter().map(|name| format!("Loaded image: {}", familiar(name))).collect()
                }
            };
            for line in lines {
                messages.tell(json!({ "stream": line + "\n" })).await;
            }
        }
        Ok(())
    })
    .await
}
