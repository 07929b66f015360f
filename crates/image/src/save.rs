//! Writing images as an archive that `docker load` and every reader of OCI layouts understand.

use std::{
    collections::BTreeSet,
    fs::File,
    io::{BufWriter, Read},
};

use anyhow::{Context, bail};
use oci::{
    Digest,
    archive::{self, DockerImage},
    media,
};
use tokio::io::AsyncWrite;

use crate::{
    image::Image,
    manifest::Manifest,
    store::{Store, blocking},
    tar::write::Writer,
};

impl Store {
    /// Writes images, given by name or id, as an archive that is both `docker save`'s and an OCI layout. A name given
    /// is the only one written; by id, all names are.
    pub async fn save(&self, images: &[String], out: impl AsyncWrite + Unpin + Send + 'static) -> anyhow::Result<()> {
        let mut chosen: Vec<(Image, Vec<String>)> = Vec::new();
        for wanted in images {
            let Some(image) = self.get(wanted) else { bail!("save {wanted}: no such image") };
            let named = oci::Reference::parse(wanted).ok().and_then(|name| name.without_digest());
            let named = named.map(|name| name.to_string()).filter(|name| image.names.contains(name));
            let names = named.map_or_else(|| image.names.clone(), |name| vec![name]);
            match chosen.iter_mut().find(|(other, _)| other.id == image.id) {
                Some((_, all)) => all.extend(names),
                None => chosen.push((image, names)),
            }
        }
        self.write_images(chosen, out).await
    }

    /// The same with names of its own for each image, which need not be known here.
    pub async fn save_as(
        &self,
        images: Vec<(String, Vec<String>)>,
        out: impl AsyncWrite + Unpin + Send + 'static,
    ) -> anyhow::Result<()> {
        let mut chosen = Vec::new();
        for (wanted, names) in images {
            let Some(image) = self.get(&wanted) else { bail!("save {wanted}: no such image") };
            chosen.push((image, names));
        }
        self.write_images(chosen, out).await
    }

    async fn write_images(
        &self,
        chosen: Vec<(Image, Vec<String>)>,
        out: impl AsyncWrite + Unpin + Send + 'static,
    ) -> anyhow::Result<()> {
        let lease = self.lease();
        for (image, _) in &chosen {
            lease.hold(&image.id);
        }
        let store = self.clone();
        let mut out = tokio_util::io::SyncIoBridge::new(out);
        blocking(move || {
            let _lease = lease;
            let writer = Writer::new(BufWriter::with_capacity(256 << 10, &mut out));
            write(&store, &chosen, writer).context("save images")?;
            out.shutdown().context("save images")
        })
        .await
    }
}

fn write<W: std::io::Write>(
    store: &Store,
    images: &[(Image, Vec<String>)],
    mut archive: Writer<W>,
) -> anyhow::Result<()> {
    let mut blobs = BTreeSet::new();
    let (mut docker, mut entries) = (Vec::new(), Vec::new());
    for (image, names) in images {
        let bytes = store.files().read_blob(&image.manifest)?;
        let manifest = Manifest::parse(&image.manifest, &bytes)?;
        let media_type = serde_json::from_slice::<serde_json::Value>(&bytes)?
            .get("mediaType")
            .and_then(|media_type| media_type.as_str())
            .unwrap_or(media::OCI_MANIFEST)
            .to_owned();
        let familiar =
            |name: &String| oci::Reference::parse(name).map_or_else(|_| name.clone(), |name| name.familiar());
        docker.push(DockerImage {
            config: path(&image.id),
            repo_tags: names.iter().map(familiar).collect(),
            layers: manifest.layers.iter().map(|layer| path(&layer.digest)).collect(),
        });
        let described: Vec<Option<&String>> = match names.is_empty() {
            true => vec![None],
            false => names.iter().map(Some).collect(),
        };
        for name in described {
            let mut entry = serde_json::json!({
                "mediaType": media_type, "digest": image.manifest, "size": bytes.len(),
            });
            if let Some(name) = name {
                let tag = name.rsplit(':').next().unwrap_or_default();
                entry["annotations"] =
                    serde_json::json!({archive::ANNOTATION_NAME: name, archive::ANNOTATION_REF_NAME: tag});
            }
            entries.push(entry);
        }
        blobs.insert(image.manifest.clone());
        blobs.insert(image.id.clone());
        blobs.extend(manifest.layers.into_iter().map(|layer| layer.digest));
    }
    let index = serde_json::json!({"schemaVersion": 2, "mediaType": media::OCI_INDEX, "manifests": entries});
    archive.file(archive::OCI_LAYOUT, archive::OCI_LAYOUT_CONTENT.as_bytes())?;
    archive.directory("blobs/")?;
    let mut algorithm = None;
    for digest in &blobs {
        if algorithm != Some(digest.algorithm()) {
            algorithm = Some(digest.algorithm());
            archive.directory(&format!("blobs/{}/", digest.algorithm().name()))?;
        }
        blob(store, digest, &mut archive).with_context(|| format!("write blob {digest}"))?;
    }
    archive.file(archive::OCI_INDEX, &serde_json::to_vec(&index)?)?;
    archive.file(archive::DOCKER_MANIFEST, &serde_json::to_vec(&docker)?)?;
    archive.finish()?;
    Ok(())
}

fn blob<W: std::io::Write>(store: &Store, digest: &Digest, archive: &mut Writer<W>) -> anyhow::Result<()> {
    let mut file = File::open(store.files().blob(digest))?;
    let size = file.metadata()?.len();
    archive.begin_file(&path(digest), size)?;
    let mut buffer = vec![0; 256 << 10];
    let mut left = size;
    while left > 0 {
        let length = file.read(&mut buffer)?;
        if length == 0 {
            bail!("it is shorter than it was");
        }
        archive.content(&buffer[..length])?;
        left -= length as u64;
    }
    Ok(archive.end_file(size)?)
}

fn path(digest: &Digest) -> String {
    format!("blobs/{}/{}", digest.algorithm().name(), digest.hex())
}
