//! What a registry has to know of a manifest: that it is one, what it refers to, and what it is about. Pure.
//!
//! <https://github.com/opencontainers/image-spec/blob/main/manifest.md>, `image-index.md`, `descriptor.md`.

use std::collections::BTreeMap;

use base64::{Engine, engine::general_purpose::STANDARD};
use oci::{
    Digest,
    media::{self, Document},
};
use serde::{Deserialize, Serialize};

#[cfg(test)]
mod tests;

/// A manifest or index, read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Parsed {
    /// Its own media type.
    pub media_type: String,
    /// Blobs that have to be in the repository.
    pub blobs: Vec<Entry>,
    /// Blobs that may be elsewhere.
    pub foreign: Vec<Entry>,
    /// Manifests that have to be in the repository.
    pub manifests: Vec<Entry>,
    /// The manifest that this one is about; it may be missing.
    pub subject: Option<Digest>,
    /// What kind of artifact it says it is.
    pub artifact_type: Option<String>,
    /// What its author notes.
    pub annotations: BTreeMap<String, String>,
}

/// What a descriptor promises.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Entry {
    pub digest: Digest,
    pub size: u64,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Written {
    schema_version: Option<u32>,
    media_type: Option<String>,
    artifact_type: Option<String>,
    config: Option<Descriptor>,
    #[serde(default)]
    layers: Vec<Descriptor>,
    #[serde(default)]
    manifests: Vec<Descriptor>,
    subject: Option<Descriptor>,
    annotations: Option<BTreeMap<String, String>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Descriptor {
    media_type: String,
    digest: Digest,
    size: u64,
    #[serde(default)]
    urls: Vec<String>,
    data: Option<String>,
}

impl Descriptor {
    fn entry(&self) -> Entry {
        Entry { digest: self.digest.clone(), size: self.size }
    }

    /// Content that comes with the descriptor has to be what the descriptor promises.
    fn check(&self) -> Result<(), String> {
        let Some(data) = &self.data else { return Ok(()) };
        let data = STANDARD.decode(data).map_err(|_| format!("data of {} is not base64", self.digest))?;
        if data.len() as u64 != self.size || !self.digest.matches(&data) {
            return Err(format!("data of {} is something else", self.digest));
        }
        Ok(())
    }

    /// Whether the content need not be pushed.
    fn is_foreign(&self) -> bool {
        !self.urls.is_empty()
            || self.media_type.contains(".nondistributable.")
            || self.media_type.contains(".rootfs.foreign.")
    }
}

impl Parsed {
    /// Reads `bytes`, which a client calls `content_type`; the error says what is wrong.
    pub fn read(bytes: &[u8], content_type: Option<&str>) -> Result<Self, String> {
        let neither = "neither a manifest nor an index";
        // An array would be read as the fields of an object in their order.
        if bytes.trim_ascii_start().starts_with(b"[") {
            return Err(neither.to_owned());
        }
        let document = Document::of_bytes(bytes).map_err(|error| format!("no JSON object of its form: {error}"))?;
        let document = document.ok_or(neither)?;
        if document == Document::Schema1 {
            return Err("schema 1 is no longer supported: push it anew with a current client".to_owned());
        }
        let written: Written = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
        if written.schema_version != Some(2) {
            return Err("schemaVersion is not 2".to_owned());
        }
        let called = content_type.map(|text| text.split(';').next().unwrap_or_default().trim());
        let called = called.filter(|text| !text.is_empty() && *text != "application/octet-stream");
        let media_type = match (called, written.media_type.as_deref()) {
            (Some(called), Some(own)) if called != own => {
                return Err(format!("the content type is {called}, the manifest's own media type {own}"));
            }
            (Some(called), _) => called.to_owned(),
            (None, Some(own)) => own.to_owned(),
            (None, None) if document == Document::Index => media::OCI_INDEX.to_owned(),
            (None, None) => media::OCI_MANIFEST.to_owned(),
        };
        if Document::of_media_type(&media_type) != Some(document) {
            return Err(format!("{media_type} is not what this is"));
        }
        let mut parsed = Self {
            media_type,
            blobs: Vec::new(),
            foreign: Vec::new(),
            manifests: Vec::new(),
            subject: written.subject.as_ref().map(|subject| subject.digest.clone()),
            artifact_type: written.artifact_type.filter(|text| !text.is_empty()),
            annotations: written.annotations.unwrap_or_default(),
        };
        for descriptor in written.config.iter().chain(&written.layers).chain(&written.manifests).chain(&written.subject)
        {
            descriptor.check()?;
        }
        match document {
            Document::Index => parsed.manifests = written.manifests.iter().map(Descriptor::entry).collect(),
            _ => {
                let config = written.config.ok_or("there is no config")?;
                if parsed.artifact_type.is_none() {
                    parsed.artifact_type = Some(config.media_type.clone());
                }
                parsed.blobs.push(config.entry());
                for layer in &written.layers {
                    let list = if layer.is_foreign() { &mut parsed.foreign } else { &mut parsed.blobs };
                    list.push(layer.entry());
                }
            }
        }
        Ok(parsed)
    }

    /// Everything that it refers to, the subject excepted.
    pub fn refers(&self) -> Vec<Entry> {
        self.blobs.iter().chain(&self.foreign).chain(&self.manifests).cloned().collect()
    }
}
