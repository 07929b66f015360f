//! `POST /madang/build`: a build as `madang build` asks for it, see [`build::wire`].

use build::{
    progress::Progress,
    wire::{Ask, LARGEST, Line},
};
use bytes::Bytes;
use futures::TryStreamExt;
use http::{Method, Response};
use http_body_util::BodyExt;
use serve::{Body, body};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};

use crate::{
    Engine, answer,
    call::Call,
    error::{Error, Result},
    route,
};

/// Answers what is below `/madang`.
pub(crate) async fn answer(engine: &Engine, mut call: Call) -> Result<Response<Body>> {
    match (&call.method, call.path.get(1).map(String::as_str), call.path.len()) {
        (&Method::POST, Some("build"), 2) => start(engine, call.take_body()).await,
        _ => Err(route::unknown()),
    }
}

async fn start(engine: &Engine, body: Body) -> Result<Response<Body>> {
    let stream = tokio_util::io::StreamReader::new(body.into_data_stream().map_err(std::io::Error::other));
    let mut input = BufReader::with_capacity(64 << 10, stream);
    let mut line = Vec::new();
    (&mut input)
        .take(LARGEST as u64)
        .read_until(b'\n', &mut line)
        .await
        .map_err(|error| Error::invalid(format!("read the request: {error}")))?;
    if line.pop() != Some(b'\n') {
        return Err(Error::invalid(format!("the request's first line does not end within {LARGEST} bytes")));
    }
    let ask: Ask =
        serde_json::from_slice(&line).map_err(|error| Error::invalid(format!("understand the request: {error}")))?;
    let request = ask.request(Box::new(input)).map_err(|error| Error::invalid(error.to_string()))?;
    let (sender, lines) = body::channel(64);
    let (progress, mut events) = Progress::channel();
    let builder = engine.builder().clone();
    engine.task().spawn("build", async move {
        let say = |line: Line| -> std::result::Result<Bytes, body::Error> {
            let mut text = serde_json::to_vec(&line)?;
            text.push(b'\n');
            Ok(text.into())
        };
        let pass = async {
            while let Some(event) = events.recv().await {
                if sender.send(say(Line::Event(event))).await.is_err() {
                    return;
                }
            }
        };
        let work = async {
            let built = builder.build(request, &progress).await;
            drop(progress);
            built
        };
        // Dropping the work ends the build.
        let built = tokio::select! {
            (built, ()) = async { tokio::join!(work, pass) } => built,
            () = sender.closed() => return,
        };
        let _ = sender.send(say(Line::end(&built))).await;
    });
    Ok(answer::typed(lines, "application/x-ndjson"))
}
