//! Where content is: in a directory of the registry's own, in the node's, which only the node writes, or in a bucket.
//!
//! ```text
//! Own    registry ── writes, reads ──► directory
//! Node   registry ── socket: streams uploads ──► door (in the node's process) ── writes ──► directory
//!            └─────────────────────── reads ───────────────────────────────────────────────────┘
//! Bucket registry ── uploads wait in a directory of its own until they are whole ──► bucket of S3
//! ```

use std::{
    fs::File,
    io,
    path::{Path, PathBuf},
};

use bytes::Bytes;
use futures::Stream;
use http::request::Parts;
use http_body_util::BodyExt;
use image::content::{self, Content, Error, Rest};
use oci::{Digest, digest::Algorithm};
use serve::{
    Body, file,
    inlet::{self, Attempt},
};

pub mod bucket;
pub mod door;
mod remote;

use bucket::Bucket;

/// Bodies of at least this many bytes are left in the client's socket.
const HELD: u64 = 1 << 20;

/// Who writes content.
#[derive(Clone, Debug)]
pub enum Blobs {
    /// This process.
    Own(Content),
    /// The node.
    Node(Node),
    /// A bucket, to which this process sends what it has received.
    Bucket(Bucket),
}

/// The node's content store, seen from outside.
#[derive(Clone, Debug)]
pub struct Node {
    /// Its directory: published blobs are read there.
    dir: PathBuf,
    client: remote::Client,
}

impl Node {
    /// The store in `dir`, whose owner serves [`door::serve`] on `socket`.
    pub fn new(dir: &Path, socket: &Path) -> Self {
        Self { dir: dir.to_owned(), client: remote::Client::new(socket) }
    }
}

impl Blobs {
    /// A blob that is here.
    pub(crate) async fn open(&self, digest: &Digest, size: u64) -> io::Result<Blob<'_>> {
        let path = match self {
            Self::Own(content) => content.path(digest),
            Self::Node(node) => content::path(&node.dir, digest),
            Self::Bucket(bucket) => return Ok(Blob::Object { bucket, digest: digest.clone(), size }),
        };
        let opened = tokio::task::spawn_blocking(move || {
            let file = File::open(path)?;
            let size = file.metadata()?.len();
            Ok(Blob::File { file, size })
        });
        opened.await.map_err(io::Error::other)?
    }

    /// The bytes of a manifest or another document, at most `limit` of them.
    pub(crate) async fn read(&self, digest: &Digest, limit: usize) -> io::Result<Bytes> {
        let path = match self {
            Self::Own(content) => content.path(digest),
            Self::Node(node) => content::path(&node.dir, digest),
            Self::Bucket(bucket) => return bucket.read(digest, limit).await,
        };
        let read = tokio::task::spawn_blocking(move || std::fs::read(path)).await;
        Ok(read.map_err(io::Error::other)??.into())
    }

    pub(crate) async fn begin(&self, algorithm: Algorithm) -> Result<String, Error> {
        match self {
            Self::Own(content) => content.begin(algorithm).await,
            Self::Bucket(bucket) => bucket.staging().begin(algorithm).await,
            Self::Node(node) => node.client.begin(algorithm).await,
        }
    }

    pub(crate) async fn received(&self, id: &str) -> Result<u64, Error> {
        match self {
            Self::Own(content) => content.received(id).await,
            Self::Bucket(bucket) => bucket.staging().received(id).await,
            Self::Node(node) => node.client.received(id).await,
        }
    }

    pub(crate) async fn append<S, E>(&self, id: &str, from: Option<u64>, body: S) -> Result<u64, Error>
    where
        S: Stream<Item = Result<Bytes, E>> + Send + Unpin + 'static,
        E: std::fmt::Display + Into<serve::body::Error>,
    {
        match self {
            Self::Own(content) => content.append(id, from, body).await,
            Self::Bucket(bucket) => bucket.staging().append(id, from, body).await,
            Self::Node(node) => node.client.append(id, from, body).await,
        }
    }

    /// Appends the body of a request with these properties. What a client sends over plain HTTP goes from its socket to whoever
    /// writes content, and not through this process.
    pub(crate) async fn receive(&self, request: &Parts, id: &str, from: Option<u64>, body: Body) -> Result<u64, Error> {
        let broken = |error: serve::body::Error| Error::Broken(error.to_string());
        let mut held = match inlet::hold(request, body, HELD).await.map_err(broken)? {
            Attempt::Whole(body) => return self.append(id, from, body.into_data_stream()).await,
            Attempt::Held(held) => held,
        };
        let before = std::mem::take(&mut held.before);
        let rest = Rest { before, socket: held.socket.try_clone()?, left: held.left };
        let received = match self {
            Self::Own(content) => content.append_from(id, from, rest).await?,
            Self::Bucket(bucket) => bucket.staging().append_from(id, from, rest).await?,
            Self::Node(node) => node.client.append_from(id, from, rest).await?,
        };
        held.release().await.map_err(broken)?;
        Ok(received)
    }

    pub(crate) async fn finish(&self, id: &str, digest: &Digest) -> Result<u64, Error> {
        match self {
            Self::Own(content) => content.finish(id, digest).await,
            Self::Bucket(bucket) => bucket.finish(id, digest).await,
            Self::Node(node) => node.client.finish(id, digest).await,
        }
    }

    pub(crate) async fn cancel(&self, id: &str) -> Result<(), Error> {
        match self {
            Self::Own(content) => content.cancel(id).await,
            Self::Bucket(bucket) => bucket.staging().cancel(id).await,
            Self::Node(node) => node.client.cancel(id).await,
        }
    }

    pub(crate) async fn put(&self, digest: &Digest, bytes: Bytes) -> Result<(), Error> {
        match self {
            Self::Own(content) => content.put(digest, bytes).await,
            Self::Bucket(bucket) => bucket.put(digest, bytes).await,
            Self::Node(node) => node.client.put(digest, bytes).await,
        }
    }

    pub(crate) async fn remove(&self, digest: &Digest) -> Result<(), Error> {
        match self {
            Self::Own(content) => content.remove(digest).await,
            Self::Bucket(bucket) => bucket.remove(digest).await,
            Self::Node(node) => node.client.remove(digest).await,
        }
    }

    pub(crate) async fn list(&self) -> Result<Vec<Digest>, Error> {
        match self {
            Self::Own(content) => content.list().await,
            Self::Bucket(bucket) => bucket.list().await,
            Self::Node(node) => node.client.list().await,
        }
    }

    /// Uploads that nobody goes on with are removed. The node does this by itself.
    pub(crate) async fn expire(&self) -> Result<(), Error> {
        match self {
            Self::Own(content) => content.expire().await,
            Self::Bucket(bucket) => bucket.staging().expire().await,
            Self::Node(node) => node.client.expire().await,
        }
    }
}

/// A blob, to be sent.
pub(crate) enum Blob<'a> {
    /// A file that nobody changes.
    File {
        /// Opened for reading.
        file: File,
        /// In bytes.
        size: u64,
    },
    /// An object in a bucket.
    Object {
        /// Which.
        bucket: &'a Bucket,
        /// Its name.
        digest: Digest,
        /// In bytes, as the index has it.
        size: u64,
    },
}

impl Blob<'_> {
    /// Bytes that it has.
    pub fn size(&self) -> u64 {
        match self {
            Self::File { size, .. } | Self::Object { size, .. } => *size,
        }
    }

    /// Bytes `from..end` of it, as the answer to a request with these properties.
    pub async fn part(self, request: &Parts, from: u64, end: u64) -> io::Result<Body> {
        match self {
            Self::File { file, .. } => Ok(file::part(request, file, from, end)),
            Self::Object { bucket, digest, .. } => bucket.part(&digest, from, end).await,
        }
    }
}
