//! Manifests and blobs of one image, from the first endpoint that has them.

use anyhow::anyhow;
use bytes::Bytes;
use http::{Method, Response, StatusCode, header::CONTENT_RANGE};
use hyper::body::Incoming;
use oci::{
    Digest, Reference,
    digest::{Algorithm, Verifier},
    media,
};

use super::{
    Error, Progress, Pull,
    connect::Connector,
    session::{Ask, Session},
};
use crate::manifest::{Address, MANIFEST_LIMIT};

/// How much longer than for a piece of it a whole document is waited for.
const PIECES: u32 = 15;

/// All endpoints of one image.
pub(crate) struct Fetcher<'a> {
    reference: &'a Reference,
    pull: &'a Pull,
    /// In the order to try. At least one.
    sessions: Vec<Session>,
}

impl<'a> Fetcher<'a> {
    /// Finds out where to ask.
    pub async fn new(reference: &'a Reference, pull: &'a Pull) -> Result<Self, Error> {
        let connector = Connector::new(pull)?;
        let client = Session::client(connector.clone());
        let mut sessions = Vec::new();
        let mut problem = None;
        for endpoint in pull.registries.endpoints(reference) {
            let mut credentials = match endpoint.mirror_of {
                None => pull.credentials.clone(),
                Some(_) => Vec::new(),
            };
            credentials.extend(endpoint.credentials.clone());
            let session =
                Session::open(client.clone(), connector.clone(), pull.patience.clone(), endpoint, credentials).await;
            match session {
                Ok(session) => sessions.push(session),
                Err(error) => problem = Some(error),
            }
        }
        match problem {
            Some(error) if sessions.is_empty() => Err(named(error, reference)),
            _ => Ok(Self { reference, pull, sessions }),
        }
    }

    /// The image.
    pub fn reference(&self) -> &Reference {
        self.reference
    }

    /// The digest that a tag has at present; nothing where the registry does not say.
    pub async fn current_digest(&self, target: &str) -> Result<Option<Digest>, Error> {
        let ask = Ask {
            method: Method::HEAD,
            path: format!("manifests/{target}"),
            accept: Some(media::ACCEPT_MANIFESTS),
            ..Ask::default()
        };
        match self.first(&ask).await {
            Ok((_, answer)) => Ok(stated_digest(&answer)),
            Err(error @ (Error::Denied(_) | Error::Unavailable(_))) => Err(error),
            // Not every registry knows HEAD; GET tells more.
            Err(_) => Ok(None),
        }
    }

    /// A manifest or index with its digest.
    pub async fn manifest(&self, target: &str) -> Result<(Digest, Vec<u8>), Error> {
        let ask = Ask {
            method: Method::GET,
            path: format!("manifests/{target}"),
            accept: Some(media::ACCEPT_MANIFESTS),
            ..Ask::default()
        };
        let (session, answer) = self.first(&ask).await?;
        let stated = stated_digest(&answer);
        let bytes = read(session, answer, MANIFEST_LIMIT).await?;
        let digest = match (target.parse::<Digest>(), stated) {
            (Ok(asked), _) => asked,
            (Err(_), Some(stated)) => stated,
            (Err(_), None) => Digest::sha256(&bytes),
        };
        if !digest.matches(&bytes) {
            return Err(anyhow!("{}: manifest has another digest than {digest}", self.reference).into());
        }
        Ok((digest, bytes))
    }

    /// The tags of the repository, page by page, at most `limit` of them.
    pub async fn tags(&self, limit: usize) -> Result<Vec<String>, Error> {
        #[derive(serde::Deserialize)]
        struct Page {
            tags: Option<Vec<String>>,
        }
        let mut all: Vec<String> = Vec::new();
        loop {
            let after = all.last().map(|last| format!("&last={last}")).unwrap_or_default();
            let ask = Ask { path: format!("tags/list?n=1000{after}"), ..Ask::default() };
            let (session, answer) = self.first(&ask).await?;
            let more = answer.headers().contains_key(http::header::LINK);
            let bytes = read(session, answer, MANIFEST_LIMIT).await?;
            let page: Page = serde_json::from_slice(&bytes)
                .map_err(|error| anyhow!("{}: read the list of tags: {error}", self.reference))?;
            let page = page.tags.unwrap_or_default();
            let end = !more || page.is_empty() || all.len() + page.len() >= limit;
            all.extend(page);
            if end {
                all.truncate(limit);
                return Ok(all);
            }
        }
    }

    /// A whole small blob.
    pub async fn document(&self, address: &Address) -> Result<Vec<u8>, Error> {
        let mut stream = self.blob(&address.digest, address.size);
        stream.quiet = true;
        let mut bytes = Vec::new();
        while let Some(piece) = stream.chunk().await? {
            bytes.extend_from_slice(&piece);
        }
        let mut verifier = Verifier::new(address.digest.clone(), Some(address.size));
        let checked = verifier.update(&bytes).and_then(|()| verifier.finish());
        checked.map_err(|error| anyhow!("{}: {error}", self.reference))?;
        Ok(bytes)
    }

    /// A blob of `size` bytes as it comes. Whoever reads it has to check the digest.
    pub fn blob(&self, digest: &Digest, size: u64) -> BlobStream<'_> {
        BlobStream {
            fetcher: self,
            digest: digest.clone(),
            size,
            received: 0,
            endpoint: 0,
            tried: 0,
            open: None,
            skip: 0,
            quiet: false,
        }
    }

    /// The first endpoint that answers; of the refusals, the one of the registry itself.
    async fn first(&self, ask: &Ask) -> Result<(&Session, Response<Incoming>), Error> {
        let mut problem = None;
        for session in &self.sessions {
            match session.ask(ask).await {
                Ok(answer) => return Ok((session, answer)),
                Err(error) => {
                    tracing::debug!(image = %self.reference, endpoint = session.authority(), %error, "not from here");
                    problem = Some(error);
                }
            }
        }
        Err(named(problem.unwrap_or_else(|| Error::NotFound(ask.path.clone())), self.reference))
    }
}

/// A blob on its way.
pub(crate) struct BlobStream<'a> {
    fetcher: &'a Fetcher<'a>,
    digest: Digest,
    size: u64,
    received: u64,
    endpoint: usize,
    /// Tries without a byte.
    tried: u32,
    open: Option<Incoming>,
    /// Bytes to drop of an answer that starts from the beginning although asked not to.
    skip: u64,
    quiet: bool,
}

impl BlobStream<'_> {
    /// The next bytes; nothing once all are here.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, Error> {
        loop {
            if self.received == self.size {
                return Ok(None);
            }
            let session = &self.fetcher.sessions[self.endpoint];
            if self.open.is_none() {
                match self.connect(session).await {
                    Ok(body) => self.open = Some(body),
                    Err(error) if self.endpoint + 1 < self.fetcher.sessions.len() => {
                        tracing::debug!(blob = %self.digest, endpoint = session.authority(), %error, "not from here");
                        (self.endpoint, self.tried) = (self.endpoint + 1, 0);
                        continue;
                    }
                    Err(error) => return Err(named(error, self.fetcher.reference)),
                }
            }
            let Some(body) = &mut self.open else { continue };
            let broken = match session.piece(body).await {
                Ok(Some(mut bytes)) => {
                    let skipped = self.skip.min(bytes.len() as u64);
                    self.skip -= skipped;
                    let _ = bytes.split_to(skipped as usize);
                    if bytes.is_empty() {
                        continue;
                    }
                    self.tried = 0;
                    self.received += bytes.len() as u64;
                    if self.received > self.size {
                        return Err(anyhow!("blob {} is longer than {} bytes", self.digest, self.size).into());
                    }
                    if let Some(progress) = self.fetcher.pull.progress.as_ref().filter(|_| !self.quiet) {
                        progress(Progress { layer: self.digest.clone(), done: self.received, total: self.size });
                    }
                    return Ok(Some(bytes));
                }
                Ok(None) => "it ended early".to_owned(),
                Err(reason) => reason,
            };
            self.open = None;
            self.tried += 1;
            tracing::debug!(blob = %self.digest, received = self.received, %broken, "blob is resumed");
            if self.tried >= self.fetcher.pull.patience.tries {
                let text = format!("blob {} after {} of {} bytes: {broken}", self.digest, self.received, self.size);
                return Err(named(Error::Unavailable(text), self.fetcher.reference));
            }
            tokio::time::sleep(session.pause(self.tried, None)).await;
        }
    }

    async fn connect(&mut self, session: &Session) -> Result<Incoming, Error> {
        let path = format!("blobs/{}", self.digest);
        let answer = session.ask(&Ask { path, from: self.received, ..Ask::default() }).await?;
        self.skip = match answer.status() {
            StatusCode::PARTIAL_CONTENT => {
                let range = answer.headers().get(CONTENT_RANGE).and_then(|range| range.to_str().ok());
                let start =
                    range.and_then(|range| range.strip_prefix("bytes ")?.split('-').next()?.parse::<u64>().ok());
                match start {
                    Some(start) if start <= self.received => self.received - start,
                    _ => return Err(anyhow!("blob {}: an answer for another range", self.digest).into()),
                }
            }
            _ => {
                let length = answer.headers().get(http::header::CONTENT_LENGTH);
                let length = length.and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
                if let Some(length) = length.filter(|&length| length != self.size) {
                    return Err(anyhow!("blob {} has {length} bytes, expected {}", self.digest, self.size).into());
                }
                self.received
            }
        };
        Ok(answer.into_body())
    }
}

/// `Docker-Content-Digest`, where it can be checked.
pub(crate) fn stated_digest(answer: &Response<Incoming>) -> Option<Digest> {
    let header = answer.headers().get("docker-content-digest")?.to_str().ok()?;
    header.parse().ok().filter(|digest: &Digest| digest.algorithm() == Algorithm::Sha256)
}

async fn read(session: &Session, answer: Response<Incoming>, limit: u64) -> Result<Vec<u8>, Error> {
    let mut body = answer.into_body();
    let mut bytes = Vec::new();
    let reading = async {
        loop {
            match session.piece(&mut body).await {
                Ok(Some(piece)) => bytes.extend_from_slice(&piece),
                Ok(None) => return Ok(()),
                Err(reason) => return Err(Error::Unavailable(format!("manifest: {reason}"))),
            }
            if bytes.len() as u64 > limit {
                return Err(anyhow!("manifest is longer than {limit} bytes").into());
            }
        }
    };
    // A piece now and then is not enough.
    match tokio::time::timeout(session.patience().answer * PIECES, reading).await {
        Ok(read) => read.map(|()| bytes),
        Err(_) => Err(Error::Unavailable("manifest: it comes too slowly".into())),
    }
}

/// The error with the image that it is about.
pub(crate) fn named(error: Error, reference: &Reference) -> Error {
    match error {
        Error::NotFound(path) if path.starts_with("manifests/") => Error::NotFound(reference.to_string()),
        Error::NotFound(path) => Error::NotFound(format!("{reference}: {path}")),
        Error::Denied(text) => Error::Denied(format!("{reference}: {text}")),
        Error::Unavailable(text) => Error::Unavailable(format!("{reference}: {text}")),
        Error::Other(error) => Error::Other(error.context(reference.to_string())),
    }
}
