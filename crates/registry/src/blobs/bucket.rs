//! Blobs in a bucket of S3 or of what speaks as it does.
//!
//! ```text
//! upload ─► staging, a content store on this machine: hashed, resumed ─ finish ─► PREFIX/blobs/sha256/HEX ─► 201
//! pull   ◄─ pieces as they come from the bucket, a part of them where a part is asked for
//! ```
//!
//! What is in the bucket is whole: an object is there when its last part is, and its digest was checked before. The index stays
//! on this machine. Region, endpoint and credentials are what the environment's `AWS_*` say, as with AWS' own tools.
//!
//! <https://docs.aws.amazon.com/AmazonS3/latest/API/Welcome.html>

use std::{
    fmt,
    fs::File,
    io,
    os::unix::fs::FileExt,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
};

use anyhow::{Context as _, anyhow, bail};
use bytes::Bytes;
use futures::{
    StreamExt, TryStreamExt,
    stream::{Fuse, FuturesUnordered},
};
use http::Request;
use http_body_util::BodyExt;
use hyper::body::Frame;
use image::{
    content::{Content, Error},
    pull::{Pull, web::Web},
};
use object_store::{
    ClientOptions, GetOptions, GetRange, MultipartUpload, ObjectStore, ObjectStoreExt,
    aws::{AmazonS3Builder, AmazonS3ConfigKey},
    client::{
        HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpResponse, HttpResponseBody, HttpService,
    },
    path::Path,
};
use oci::{Digest, digest::Algorithm};
use serve::{Body, body};

/// Bytes of a part of an upload, if that makes no more than [`PARTS`]; those under way are held in memory.
const PART: u64 = 8 << 20;
/// Parts of an upload at most.
const PARTS: u64 = 9000;
/// Parts under way at once.
const AT_ONCE: usize = 2;

/// Where blobs are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    bucket: String,
    prefix: String,
}

impl std::str::FromStr for Place {
    type Err = anyhow::Error;

    /// Reads `s3://BUCKET/PREFIX`.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let Some(rest) = text.strip_prefix("s3://") else { bail!("{text:?} is no s3://BUCKET/PREFIX") };
        let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        let fits = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b".-_".contains(&byte);
        if bucket.is_empty() || !bucket.bytes().all(fits) {
            bail!("{bucket:?} is no name of a bucket");
        }
        Path::parse(prefix).with_context(|| format!("prefix {prefix:?} of bucket {bucket}"))?;
        Ok(Self { bucket: bucket.to_owned(), prefix: prefix.trim_matches('/').to_owned() })
    }
}

/// A bucket, and the directory where uploads wait until they are whole. Clones are the same.
#[derive(Clone, Debug)]
pub struct Bucket {
    staging: Content,
    store: Arc<dyn ObjectStore>,
    prefix: Path,
}

impl Bucket {
    /// The bucket at `place`, reached as pulls reach registries, with settings from the environment and then `settings`.
    pub fn open(place: &Place, settings: &[(String, String)], pull: &Pull, staging: Content) -> anyhow::Result<Self> {
        let named = || format!("bucket {}", place.bucket);
        let mut builder = AmazonS3Builder::from_env().with_bucket_name(&place.bucket);
        for (key, value) in settings {
            let key: AmazonS3ConfigKey = key.parse().with_context(named)?;
            builder = builder.with_config(key, value);
        }
        // What an endpoint says it speaks is spoken.
        let plain = builder.get_config_value(&AmazonS3ConfigKey::Endpoint).is_some_and(|at| at.starts_with("http://"));
        let store = builder
            .with_config(AmazonS3ConfigKey::DisableBulkDelete, "true")
            .with_client_options(ClientOptions::new().with_allow_http(plain))
            .with_http_connector(Requests(Web::new(pull)?))
            .build()
            .with_context(named)?;
        Ok(Self { staging, store: Arc::new(store), prefix: Path::parse(&place.prefix).with_context(named)? })
    }

    fn folder(&self) -> Path {
        self.prefix.clone().join("blobs")
    }

    fn key(&self, digest: &Digest) -> Path {
        self.folder().join(digest.algorithm().name()).join(digest.hex())
    }

    /// Where uploads wait.
    pub(super) fn staging(&self) -> &Content {
        &self.staging
    }

    pub(super) async fn finish(&self, id: &str, digest: &Digest) -> Result<u64, Error> {
        let size = self.staging.finish(id, digest).await?;
        let sent = self.send(digest, size).await;
        // Somebody else who sends the same has it open, or finds it in the bucket.
        self.staging.remove(digest).await?;
        sent.map(|()| size)
    }

    async fn send(&self, digest: &Digest, size: u64) -> Result<(), Error> {
        if self.size(digest).await? == Some(size) {
            return Ok(());
        }
        let path = self.staging.path(digest);
        let opened = away(move || File::open(path)).await;
        let file = match opened {
            Err(error) if error.kind() == io::ErrorKind::NotFound && self.size(digest).await? == Some(size) => {
                return Ok(());
            }
            opened => Arc::new(opened?),
        };
        let key = self.key(digest);
        let part = PART.max(size.div_ceil(PARTS));
        if size <= part {
            let bytes = read(file, 0, size).await?;
            return self
                .store
                .put(&key, bytes.into())
                .await
                .map(drop)
                .map_err(|error| failed("put a blob into", error));
        }
        let mut upload = self.store.put_multipart(&key).await.map_err(|error| failed("begin an upload to", error))?;
        let sent = match parts(&mut *upload, file, size, part).await {
            Ok(()) => upload.complete().await.map(drop).map_err(|error| failed("end an upload to", error)),
            Err(error) => Err(error),
        };
        if sent.is_err()
            && let Err(error) = upload.abort().await
        {
            tracing::warn!(%error, %digest, "parts of a blob stay in the bucket");
        }
        sent
    }

    /// The size of a blob that is there.
    async fn size(&self, digest: &Digest) -> Result<Option<u64>, Error> {
        match self.store.head(&self.key(digest)).await {
            Ok(found) => Ok(Some(found.size)),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(failed("look for a blob in", error)),
        }
    }

    pub(super) async fn put(&self, digest: &Digest, bytes: Bytes) -> Result<(), Error> {
        if !digest.matches(&bytes) {
            let actual = Digest::of(digest.algorithm(), &bytes);
            return Err(Error::Digest { expected: digest.clone(), actual });
        }
        let put = self.store.put(&self.key(digest), bytes.into()).await;
        put.map(drop).map_err(|error| failed("put a document into", error))
    }

    pub(super) async fn remove(&self, digest: &Digest) -> Result<(), Error> {
        match self.store.delete(&self.key(digest)).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(failed("remove a blob from", error)),
        }
    }

    pub(super) async fn list(&self) -> Result<Vec<Digest>, Error> {
        let mut all = Vec::new();
        for algorithm in [Algorithm::Sha256, Algorithm::Sha512] {
            let folder = self.folder().join(algorithm.name());
            let mut found = self.store.list(Some(&folder));
            while let Some(object) = found.try_next().await.map_err(|error| failed("list", error))? {
                let hex = object.location.filename().unwrap_or_default();
                all.extend(format!("{}:{hex}", algorithm.name()).parse::<Digest>().ok());
            }
        }
        Ok(all)
    }

    /// A blob that is a document of `limit` bytes at most.
    pub(super) async fn read(&self, digest: &Digest, limit: usize) -> io::Result<Bytes> {
        let found = self.store.get(&self.key(digest)).await.map_err(io::Error::other)?;
        if found.meta.size > limit as u64 {
            return Err(io::Error::other(format!("{digest} has {} bytes, more than {limit}", found.meta.size)));
        }
        found.bytes().await.map_err(io::Error::other)
    }

    /// A part of a blob, as it comes.
    pub(super) async fn part(&self, digest: &Digest, from: u64, end: u64) -> io::Result<Body> {
        if from == end {
            return Ok(body::empty());
        }
        let options = GetOptions { range: Some(GetRange::Bounded(from..end)), ..GetOptions::default() };
        let found = self.store.get_opts(&self.key(digest), options).await.map_err(io::Error::other)?;
        if found.range != (from..end) {
            return Err(io::Error::other(format!("the bucket has only bytes {:?} of {digest}", found.range)));
        }
        Ok(body::stream(found.into_stream().map_err(body::Error::from)))
    }
}

/// Sends a file in parts, a few at a time.
async fn parts(upload: &mut dyn MultipartUpload, file: Arc<File>, size: u64, part: u64) -> Result<(), Error> {
    let mut sending = FuturesUnordered::new();
    let mut at = 0;
    while at < size {
        let bytes = read(file.clone(), at, part.min(size - at)).await?;
        at += bytes.len() as u64;
        // Parts are numbered as they are begun.
        sending.push(upload.put_part(bytes.into()));
        if sending.len() == AT_ONCE {
            sending.try_next().await.map_err(|error| failed("put a part into", error))?;
        }
    }
    sending.try_collect::<Vec<()>>().await.map(drop).map_err(|error| failed("put a part into", error))
}

async fn read(file: Arc<File>, at: u64, length: u64) -> io::Result<Bytes> {
    away(move || {
        let mut bytes = vec![0; usize::try_from(length).map_err(io::Error::other)?];
        file.read_exact_at(&mut bytes, at)?;
        Ok(bytes.into())
    })
    .await
}

async fn away<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(io::Error::other)?
}

fn failed(doing: &str, error: object_store::Error) -> Error {
    Error::Disk(anyhow!(error).context(format!("{doing} the bucket")))
}

/// Requests as pulls send them: proxies, certificates and names of this machine.
#[derive(Clone)]
struct Requests(Web);

impl fmt::Debug for Requests {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Requests")
    }
}

impl HttpConnector for Requests {
    fn connect(&self, _: &ClientOptions) -> object_store::Result<HttpClient> {
        Ok(HttpClient::new(self.clone()))
    }
}

#[async_trait::async_trait]
impl HttpService for Requests {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let (parts, content) = request.into_parts();
        let content = content.collect().await?.to_bytes();
        let answer = self.0.send(Request::from_parts(parts, content)).await;
        let (_, answer) = answer.map_err(|error| HttpError::new_boxed(HttpErrorKind::Request, error.into()))?;
        Ok(answer.map(|pieces| HttpResponseBody::new(Pieces(Mutex::new(pieces.fuse())))))
    }
}

/// The body of an answer, which several threads may know, one at a time, and which may be asked again after its end.
struct Pieces(Mutex<Fuse<image::pull::web::Body>>);

impl http_body::Body for Pieces {
    type Data = Bytes;
    type Error = HttpError;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, HttpError>>> {
        let pieces = self.get_mut().0.get_mut().unwrap_or_else(PoisonError::into_inner);
        pieces.poll_next_unpin(context).map(|next| {
            next.map(|piece| piece.map(Frame::data).map_err(|error| HttpError::new(HttpErrorKind::Interrupted, error)))
        })
    }
}
