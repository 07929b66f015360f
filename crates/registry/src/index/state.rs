//! The index in memory, and how changes change it. Pure.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use oci::Digest;
use serde::{Deserialize, Serialize};

use super::Change;
use crate::manifest::Entry;

/// All repositories.
#[derive(Debug, Default)]
pub(crate) struct State {
    pub repositories: BTreeMap<String, Repository>,
    /// In how many repositories a blob or manifest is.
    uses: HashMap<Digest, usize>,
}

/// What one repository has.
#[derive(Debug, Default)]
pub(crate) struct Repository {
    pub tags: BTreeMap<String, Digest>,
    pub manifests: BTreeMap<Digest, Manifest>,
    /// Blobs and their sizes.
    pub blobs: BTreeMap<Digest, u64>,
    /// Manifests by the one that they are about.
    pub referrers: BTreeMap<Digest, BTreeSet<Digest>>,
}

/// What is known of a manifest without reading it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Manifest {
    pub media_type: String,
    pub size: u64,
    /// Everything that it refers to, the subject excepted.
    pub refers: Vec<Entry>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<Digest>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
}

impl Repository {
    fn is_empty(&self) -> bool {
        self.tags.is_empty() && self.manifests.is_empty() && self.blobs.is_empty()
    }

    /// Blobs that no manifest refers to.
    pub fn loose(&self) -> Vec<Digest> {
        let referred: HashSet<&Digest> =
            self.manifests.values().flat_map(|manifest| &manifest.refers).map(|entry| &entry.digest).collect();
        self.blobs.keys().filter(|digest| !referred.contains(digest)).cloned().collect()
    }

    /// How large a blob is that one of the manifests refers to.
    pub fn promised(&self, digest: &Digest) -> Option<u64> {
        let mut entries = self.manifests.values().flat_map(|manifest| &manifest.refers);
        entries.find(|entry| entry.digest == *digest).map(|entry| entry.size)
    }
}

impl State {
    /// Whether anybody has that blob or manifest.
    pub fn uses(&self, digest: &Digest) -> bool {
        self.uses.contains_key(digest)
    }

    /// Whether a change would change anything.
    pub fn lacks(&self, change: &Change) -> bool {
        let of = |name: &String| self.repositories.get(name);
        match change {
            Change::Link { repository, blob } => {
                of(repository).is_none_or(|repository| !repository.blobs.contains_key(&blob.digest))
            }
            Change::Unlink { repository, digest } => {
                of(repository).is_some_and(|repository| repository.blobs.contains_key(digest))
            }
            Change::Store { repository, digest, manifest } => {
                of(repository).is_none_or(|repository| repository.manifests.get(digest) != Some(manifest))
            }
            Change::Forget { repository, digest } => {
                of(repository).is_some_and(|repository| repository.manifests.contains_key(digest))
            }
            Change::Tag { repository, tag, digest } => {
                of(repository).is_none_or(|repository| repository.tags.get(tag) != Some(digest))
            }
            Change::Untag { repository, tag } => {
                of(repository).is_some_and(|repository| repository.tags.contains_key(tag))
            }
        }
    }

    /// Makes a change.
    pub fn apply(&mut self, change: Change) {
        match change {
            Change::Link { repository, blob } => {
                let repository = self.repositories.entry(repository).or_default();
                if repository.blobs.insert(blob.digest.clone(), blob.size).is_none() {
                    *self.uses.entry(blob.digest).or_default() += 1;
                }
            }
            Change::Unlink { repository: name, digest } => {
                let Some(repository) = self.repositories.get_mut(&name) else { return };
                if repository.blobs.remove(&digest).is_some() {
                    self.release(&digest);
                }
                self.tidy(&name);
            }
            Change::Store { repository, digest, manifest } => {
                let repository = self.repositories.entry(repository).or_default();
                if let Some(subject) = &manifest.subject {
                    repository.referrers.entry(subject.clone()).or_default().insert(digest.clone());
                }
                if repository.manifests.insert(digest.clone(), manifest).is_none() {
                    *self.uses.entry(digest).or_default() += 1;
                }
            }
            Change::Forget { repository: name, digest } => {
                let Some(repository) = self.repositories.get_mut(&name) else { return };
                repository.tags.retain(|_, tagged| *tagged != digest);
                if let Some(manifest) = repository.manifests.remove(&digest) {
                    if let Some(subject) = manifest.subject
                        && let Some(about) = repository.referrers.get_mut(&subject)
                    {
                        about.remove(&digest);
                        if about.is_empty() {
                            repository.referrers.remove(&subject);
                        }
                    }
                    self.release(&digest);
                }
                self.tidy(&name);
            }
            Change::Tag { repository, tag, digest } => {
                self.repositories.entry(repository).or_default().tags.insert(tag, digest);
            }
            Change::Untag { repository: name, tag } => {
                if let Some(repository) = self.repositories.get_mut(&name) {
                    repository.tags.remove(&tag);
                }
                self.tidy(&name);
            }
        }
    }

    /// Changes that make this state from nothing.
    pub fn changes(&self) -> Vec<Change> {
        let mut changes = Vec::new();
        for (name, repository) in &self.repositories {
            let repository_of = || name.clone();
            changes.extend(repository.blobs.iter().map(|(digest, size)| Change::Link {
                repository: repository_of(),
                blob: Entry { digest: digest.clone(), size: *size },
            }));
            changes.extend(repository.manifests.iter().map(|(digest, manifest)| Change::Store {
                repository: repository_of(),
                digest: digest.clone(),
                manifest: manifest.clone(),
            }));
            changes.extend(repository.tags.iter().map(|(tag, digest)| Change::Tag {
                repository: repository_of(),
                tag: tag.clone(),
                digest: digest.clone(),
            }));
        }
        changes
    }

    fn release(&mut self, digest: &Digest) {
        if let Some(count) = self.uses.get_mut(digest) {
            *count -= 1;
            if *count == 0 {
                self.uses.remove(digest);
            }
        }
    }

    /// A repository that has nothing is none.
    fn tidy(&mut self, name: &str) {
        if self.repositories.get(name).is_some_and(Repository::is_empty) {
            self.repositories.remove(name);
        }
    }
}
