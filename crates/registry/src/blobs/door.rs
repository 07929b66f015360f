//! The node's side: takes uploads from the registry's process and makes blobs of them.
//!
//! ```text
//! POST   /uploads?algorithm=sha256         ─► id
//! GET    /uploads/ID                       ─► bytes received
//! PATCH  /uploads/ID?from=N     content    ─► bytes received
//!                    &left=M    the beginning, and a socket that the other M bytes come from
//! PUT    /uploads/ID?digest=D              ─► size
//! DELETE /uploads/ID
//! PUT    /blobs?digest=D        document
//! DELETE /blobs?digest=D
//! GET    /blobs                            ─► digests, one a line
//! POST   /expire
//! ```
//!
//! HTTP over a unix socket whose mode lets nobody else in. What went wrong comes back as [`Trouble`]; how much was read from a
//! socket then, nobody says.

use futures::StreamExt;
use http::{Method, Request, Response, StatusCode};
use http_body_util::BodyExt;
use image::content::{Content, Error, Rest};
use oci::{Digest, digest::Algorithm};
use serde::{Deserialize, Serialize};
use serve::{Body, body, handed, http::Limits};
use task::Task;
use tokio::net::UnixListener;

use crate::route::{parameter, query};

/// Largest document that is put in one piece, in bytes.
const DOCUMENT: usize = 16 << 20;

/// [`Error`] on its way between processes.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Trouble {
    Unknown,
    Busy,
    Crowded,
    Offset(u64),
    Digest { expected: Digest, actual: Digest },
    TooLarge(u64),
    Broken(String),
    Full,
    Disk(String),
}

impl From<Error> for Trouble {
    fn from(error: Error) -> Self {
        match error {
            Error::Unknown => Self::Unknown,
            Error::Busy => Self::Busy,
            Error::Crowded => Self::Crowded,
            Error::Offset { here } => Self::Offset(here),
            Error::Digest { expected, actual } => Self::Digest { expected, actual },
            Error::TooLarge { limit } => Self::TooLarge(limit),
            Error::Broken(reason) => Self::Broken(reason),
            Error::Full => Self::Full,
            Error::Disk(error) => Self::Disk(format!("{error:#}")),
        }
    }
}

impl From<Trouble> for Error {
    fn from(trouble: Trouble) -> Self {
        match trouble {
            Trouble::Unknown => Self::Unknown,
            Trouble::Busy => Self::Busy,
            Trouble::Crowded => Self::Crowded,
            Trouble::Offset(here) => Self::Offset { here },
            Trouble::Digest { expected, actual } => Self::Digest { expected, actual },
            Trouble::TooLarge(limit) => Self::TooLarge { limit },
            Trouble::Broken(reason) => Self::Broken(reason),
            Trouble::Full => Self::Full,
            Trouble::Disk(error) => Self::Disk(anyhow::anyhow!(error)),
        }
    }
}

/// Takes content for `content` on `listener` until `task` ends.
pub async fn serve(task: Task, listener: UnixListener, content: Content) {
    let handler = move |request: Request<Body>| {
        let content = content.clone();
        async move {
            match answer(&content, request).await {
                Ok(text) => Response::new(body::full(text)),
                Err(error) => {
                    let text = serde_json::to_vec(&Trouble::from(error)).unwrap_or_default();
                    let mut response = Response::new(body::full(text));
                    *response.status_mut() = StatusCode::CONFLICT;
                    response
                }
            }
        }
    };
    serve::http::serve_handed(task, listener, Limits::default(), handler).await;
}

async fn answer(content: &Content, request: Request<Body>) -> Result<String, Error> {
    let (parts, body) = request.into_parts();
    let query = query(&parts.uri);
    let digest = || -> Result<Digest, Error> {
        let text = parameter(&query, "digest").unwrap_or_default();
        text.parse().map_err(|error| Error::Broken(format!("digest {text:?}: {error}")))
    };
    let path = parts.uri.path();
    let id = path.strip_prefix("/uploads/").unwrap_or_default();
    match (&parts.method, path) {
        (&Method::POST, "/uploads") => {
            let sha512 = parameter(&query, "algorithm") == Some(Algorithm::Sha512.name());
            content.begin(if sha512 { Algorithm::Sha512 } else { Algorithm::Sha256 }).await
        }
        (&Method::POST, "/expire") => content.expire().await.map(|()| String::new()),
        (&Method::GET, "/blobs") => {
            Ok(content.list().await?.iter().map(|digest| format!("{digest}\n")).collect::<String>())
        }
        (&Method::PUT, "/blobs") => {
            let bytes = body::read(body, DOCUMENT).await.map_err(|error| Error::Broken(error.to_string()))?;
            content.put(&digest()?, bytes).await.map(|()| String::new())
        }
        (&Method::DELETE, "/blobs") => content.remove(&digest()?).await.map(|()| String::new()),
        (&Method::GET, _) => content.received(id).await.map(|received| received.to_string()),
        (&Method::PATCH, _) => {
            let number = |name: &str| parameter(&query, name).and_then(|number| number.parse().ok());
            let from = number("from");
            if let Some(left) = number("left") {
                let socket = handed::take(&parts).ok_or_else(|| Error::Broken("no socket came along".to_owned()))?;
                let before = body::read(body, DOCUMENT).await.map_err(|error| Error::Broken(error.to_string()))?;
                return Ok(content
                    .append_from(id, from, Rest { before: vec![before], socket, left })
                    .await?
                    .to_string());
            }
            let pieces = body.into_data_stream().map(|piece| piece.map_err(|error: body::Error| error.to_string()));
            content.append(id, from, pieces).await.map(|received| received.to_string())
        }
        (&Method::PUT, _) => content.finish(id, &digest()?).await.map(|size| size.to_string()),
        (&Method::DELETE, _) => content.cancel(id).await.map(|()| String::new()),
        _ => Err(Error::Broken(format!("{} {path} means nothing here", parts.method))),
    }
}
