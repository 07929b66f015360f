//! What a pod's volumes are made of is brought here first: objects, tokens, certificates, images, claims. Then they are made.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use anyhow::{Context as _, Result};
use jiff::Timestamp;
use k8s_openapi::api::{
    authentication::v1::{BoundObjectReference, TokenRequest, TokenRequestSpec},
    core::v1::{PersistentVolume, PersistentVolumeClaim, Pod, PodStatus, ServiceAccount},
};
use kube::{Api, api::PostParams};

use super::certificate::Certificates;
use crate::{
    api::metrics::plugin,
    config::{Shared, now},
    field, trust,
    volume::{self, claim::Claimed},
};

/// Upstream's bounds of what takes with storage, seconds.
const OPERATION: &[f64] = &[0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 15.0, 25.0, 50.0, 120.0, 300.0, 600.0];

/// Delay of credentials that could not be renewed.
const RETRY: Duration = Duration::from_secs(10);

/// Tokens by audience and seconds, each with the time at which it was asked for.
type Tokens = HashMap<(String, i64), (String, Timestamp)>;

/// Tokens and certificates that one pod was given. Clones are the same.
#[derive(Clone, Debug, Default)]
pub struct Credentials {
    tokens: Arc<Mutex<Tokens>>,
    certificates: Certificates,
    /// No renewal before: the last one has failed.
    wait: Arc<Mutex<Option<Timestamp>>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Credentials {
    /// When the first of them has to be renewed; none if never.
    pub fn due(&self, pod: &Pod) -> Option<Timestamp> {
        let made = lock(&self.tokens).values().map(|(_, made)| *made).min();
        let tokens = made.and_then(|made| volume::token_refresh(pod, made));
        let due = tokens.into_iter().chain(self.certificates.due()).min()?;
        Some((*lock(&self.wait)).map_or(due, |wait| due.max(wait)))
    }

    /// Notes whether renewing went well.
    pub fn settled(&self, well: bool) {
        *lock(&self.wait) = (!well).then(|| now() + RETRY);
    }
}

/// A pod's volumes, to be made or brought up to date.
#[derive(Debug)]
pub struct Volumes {
    /// The node.
    pub shared: Shared,
    /// The pod.
    pub pod: Arc<Pod>,
    /// Its status.
    pub status: PodStatus,
    /// Its UID.
    pub uid: String,
}

impl Volumes {
    /// Makes them. Returns whether something changed.
    pub async fn make(self, credentials: &Credentials) -> Result<bool, String> {
        let made = self.all(credentials).await.map_err(|error| format!("{error:#}"));
        credentials.settled(made.is_ok());
        made
    }

    async fn all(self, credentials: &Credentials) -> Result<bool> {
        let namespace = self.pod.metadata.namespace.clone().unwrap_or_else(|| "default".into());
        let references = volume::references(&self.pod);
        let needs = trust::needs(&self.pod);
        let began = std::time::Instant::now();
        let shown = namespace.clone();
        let trusted = async {
            self.shared.trust.ready(needs).await?;
            credentials.certificates.all(&self.shared, &self.pod).await
        };
        let (tokens, certificates, images, claims, ()) = tokio::join!(
            self.fetch_tokens(&namespace, credentials),
            trusted,
            self.fetch_images(),
            self.fetch_claims(&namespace),
            self.shared.objects.ready(&namespace, &references)
        );
        let (tokens, certificates, images, claims) = (tokens?, certificates?, images?, claims?);
        let fetched = began.elapsed();
        let made = tokio::task::spawn_blocking(move || {
            let place = self.shared.volumes(&self.uid);
            let objects = self.shared.objects.of(&namespace);
            volume::make(&volume::Make {
                place: &place,
                fields: field::Source { pod: &self.pod, status: &self.status, allocatable: &self.shared.allocatable },
                objects: &objects,
                credentials: volume::files::Credentials {
                    token: &|audience, seconds| {
                        tokens.get(&(audience.to_owned(), seconds)).cloned().context("no token was given")
                    },
                    anchors: &|source| self.shared.trust.anchors(source),
                    certificate: &|name, index| {
                        certificates.get(&(name.to_owned(), index)).cloned().context("no certificate was issued")
                    },
                },
                images: &images,
                claims: &claims,
                now: now(),
                took: &|volume, took, well| {
                    let status = if well { "success" } else { "fail-unknown" };
                    let labels = [
                        ("migrated", "false"),
                        ("operation_name", "volume_mount"),
                        ("status", status),
                        ("volume_plugin", plugin(volume)),
                    ];
                    let (name, seconds) = ("storage_operation_duration_seconds", took.as_secs_f64());
                    self.shared.counts.observe(name, OPERATION, &labels, seconds);
                },
            })
        })
        .await
        .context("make volumes")?;
        tracing::debug!(namespace = shown, ?fetched, made = ?began.elapsed(), "volumes");
        made
    }

    async fn fetch_tokens(&self, namespace: &str, credentials: &Credentials) -> Result<HashMap<(String, i64), String>> {
        let mut found = HashMap::new();
        for key in volume::tokens(&self.pod) {
            let due = |made: Timestamp| volume::token_refresh(&self.pod, made).is_some_and(|at| at <= now());
            let known =
                lock(&credentials.tokens).get(&key).filter(|(_, made)| !due(*made)).map(|(token, _)| token.clone());
            let text = match known {
                Some(text) => text,
                None => {
                    let made = now();
                    let text = self.request_token(namespace, &key).await?;
                    lock(&credentials.tokens).insert(key.clone(), (text.clone(), made));
                    text
                }
            };
            found.insert(key, text);
        }
        Ok(found)
    }

    async fn request_token(&self, namespace: &str, (audience, seconds): &(String, i64)) -> Result<String> {
        let account = self.pod.spec.as_ref().and_then(|spec| spec.service_account_name.as_deref());
        let account = account.filter(|name| !name.is_empty()).unwrap_or("default");
        let request = TokenRequest {
            spec: Some(TokenRequestSpec {
                audiences: (!audience.is_empty()).then(|| vec![audience.clone()]),
                expiration_seconds: Some(*seconds),
                bound_object_ref: Some(BoundObjectReference {
                    api_version: Some("v1".into()),
                    kind: Some("Pod".into()),
                    name: self.pod.metadata.name.clone(),
                    uid: self.pod.metadata.uid.clone(),
                }),
                ..Default::default()
            }),
            ..Default::default()
        };
        let api: Api<ServiceAccount> = Api::namespaced(self.shared.client.clone(), namespace);
        let answer = api
            .create_token_request(account, &PostParams::default(), &request)
            .await
            .with_context(|| format!("failed to fetch token of service account {namespace}/{account}"))?;
        answer.status.and_then(|status| status.token).context("the answer to a token request holds no token")
    }

    async fn fetch_images(&self) -> Result<BTreeMap<String, Vec<std::path::PathBuf>>> {
        let volumes = self.pod.spec.as_ref().and_then(|spec| spec.volumes.as_deref()).unwrap_or_default();
        let mut found = BTreeMap::new();
        for volume in volumes {
            let Some(source) = &volume.image else { continue };
            let target = self.shared.pod_dir(&self.uid).join("volumes/kubernetes.io~image").join(&volume.name);
            if volume::disk::is_mount_point(&target) {
                continue;
            }
            let name = source.reference.as_deref().unwrap_or("");
            let policy = source.pull_policy.as_deref().unwrap_or("IfNotPresent");
            match self.shared.images.ensure(&self.pod, None, name, policy).await {
                Ok((_, image)) => {
                    found.insert(volume.name.clone(), image.layers);
                }
                Err(failure) => {
                    let message = format!("{}: {}", failure.reason, failure.message);
                    anyhow::bail!("MountVolume.SetUp failed for volume {:?} : {message}", volume.name);
                }
            }
        }
        Ok(found)
    }

    /// What the pod's claims are bound to, by name of the volume.
    async fn fetch_claims(&self, namespace: &str) -> Result<BTreeMap<String, Claimed>> {
        let volumes = self.pod.spec.as_ref().and_then(|spec| spec.volumes.as_deref()).unwrap_or_default();
        let claims: Api<PersistentVolumeClaim> = Api::namespaced(self.shared.client.clone(), namespace);
        let all: Api<PersistentVolume> = Api::all(self.shared.client.clone());
        let mut found = BTreeMap::new();
        for volume in volumes {
            let Some(reference) = volume::claim::reference(&self.pod, volume) else { continue };
            let work = async {
                let claim = claims.get(&reference.name).await.context("failed to fetch PVC from API server")?;
                let bound = volume::claim::bound(&self.pod, &reference, &claim)?;
                let object = all.get(&bound).await.with_context(|| format!("failed to get PV {bound:?}"))?;
                let node = self.shared.node();
                let labels = node.as_ref().and_then(|node| node.metadata.labels.as_ref());
                volume::claim::resolve(&reference, &claim, &object, &self.shared.config.name, labels)
            };
            let claimed = work
                .await
                .with_context(|| format!("error processing PVC {namespace}/{}", reference.name))
                .with_context(|| format!("MountVolume.SetUp failed for volume {:?} ", volume.name))?;
            found.insert(volume.name.clone(), claimed);
        }
        Ok(found)
    }
}
