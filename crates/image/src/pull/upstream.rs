//! Single documents and blobs of an image elsewhere, for a registry that keeps copies.

use std::sync::Arc;

use bytes::Bytes;
use oci::{Digest, Reference};
use tokio::sync::mpsc;

use super::{Credentials, Error, Pull, connect::Connector, fetch::Fetcher, session::Session};

/// The digest that the tag of `reference` has at present; nothing where the registry does not say.
pub async fn digest(reference: &Reference, pull: &Pull) -> Result<Option<Digest>, Error> {
    Fetcher::new(reference, pull).await?.current_digest(reference.target()).await
}

/// The manifest or index that `reference` leads to, checked against its digest.
pub async fn manifest(reference: &Reference, pull: &Pull) -> Result<(Digest, Vec<u8>), Error> {
    Fetcher::new(reference, pull).await?.manifest(reference.target()).await
}

/// The tags of a repository, at most `limit` of them.
pub async fn tags(reference: &Reference, pull: &Pull, limit: usize) -> Result<Vec<String>, Error> {
    Fetcher::new(reference, pull).await?.tags(limit).await
}

/// Whether the registry of `reference` takes these credentials; one that wants none takes all.
pub async fn login(reference: &Reference, pull: &Pull, credentials: Credentials) -> Result<(), Error> {
    // A certificate would be good for any credentials.
    let registries = Arc::new(pull.registries.without_node());
    let connector = Connector::new(&Pull { registries, ..pull.clone() })?;
    let endpoint = pull.registries.home(reference);
    let client = Session::client(connector.clone());
    let session = Session::open(client, connector, pull.patience.clone(), endpoint, vec![credentials]).await?;
    session.knock().await
}

/// Sends a blob of `size` bytes of the image's repository piece by piece, and at last, if there was one, the error that
/// ended it. Whoever receives it has to check the digest. Ends early when nobody receives.
pub async fn blob(
    reference: &Reference,
    pull: &Pull,
    digest: &Digest,
    size: u64,
    sender: mpsc::Sender<Result<Bytes, Error>>,
) {
    let copy = async {
        let fetcher = Fetcher::new(reference, pull).await?;
        let mut stream = fetcher.blob(digest, size);
        while let Some(piece) = stream.chunk().await? {
            if sender.send(Ok(piece)).await.is_err() {
                break;
            }
        }
        Ok(())
    };
    if let Err(error) = copy.await {
        let _ = sender.send(Err(error)).await;
    }
}
