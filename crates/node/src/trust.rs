//! What pods are given of the cluster's public keys: trust bundles, and the requests by which signers issue certificates to
//! pods.
//!
//! Both kinds are watched only once a pod needs them: most nodes never do. Each pod that holds something of a kind is told
//! when that changes. <https://kubernetes.io/docs/concepts/storage/projected-volumes/#clustertrustbundle>

use std::{
    collections::{BTreeSet, HashMap},
    sync::{Arc, Mutex, MutexGuard, Once, PoisonError},
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use client::{
    cache::{Cache, Key, Scope},
    selector,
};
use k8s_openapi::api::{
    certificates::v1::{ClusterTrustBundle, PodCertificateRequest},
    core::v1::{ClusterTrustBundleProjection, Pod, VolumeProjection},
};
use kube::Api;
use rustls::pki_types::{CertificateDer, pem::PemObject as _};
use task::Task;
use tokio::sync::watch;

use crate::objects::Notify;

/// How long a pod waits for the first list of a kind.
const PATIENCE: Duration = Duration::from_secs(30);
/// Characters a line of PEM.
const LINE: usize = 64;

/// What a pod needs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Needs {
    /// Trust bundles.
    pub bundles: bool,
    /// Certificates.
    pub certificates: bool,
}

/// Sources of all projected volumes of a pod: name of the volume, position in it, source.
pub fn sources(pod: &Pod) -> impl Iterator<Item = (&str, usize, &VolumeProjection)> {
    let volumes = pod.spec.as_ref().and_then(|spec| spec.volumes.as_deref()).unwrap_or_default();
    volumes.iter().flat_map(|volume| {
        let sources = volume.projected.iter().flat_map(|projected| projected.sources.iter().flatten());
        sources.enumerate().map(|(index, source)| (volume.name.as_str(), index, source))
    })
}

/// What a pod needs of this.
pub fn needs(pod: &Pod) -> Needs {
    sources(pod).fold(Needs::default(), |needs, (_, _, source)| Needs {
        bundles: needs.bundles || source.cluster_trust_bundle.is_some(),
        certificates: needs.certificates || source.pod_certificate.is_some(),
    })
}

/// The node's view of both kinds. Clones are the same.
#[derive(Clone)]
pub struct Trust(Arc<Inner>);

struct Inner {
    task: Task,
    client: kube::Client,
    node: String,
    bundles: Watched<ClusterTrustBundle>,
    requests: Watched<PodCertificateRequest>,
    holders: Arc<Mutex<HashMap<String, (Needs, Notify)>>>,
    /// Told at each change of a request.
    answered: Arc<watch::Sender<()>>,
}

struct Watched<K> {
    cache: Cache<K>,
    once: Once,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl std::fmt::Debug for Trust {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Trust({})", self.0.node)
    }
}

impl Trust {
    /// Nothing watched yet; requests are those for pods of `node`.
    pub fn new(task: &Task, client: &kube::Client, node: &str) -> Self {
        let holders: Arc<Mutex<HashMap<String, (Needs, Notify)>>> = Arc::default();
        let answered = Arc::new(watch::Sender::new(()));
        let bundles: Cache<ClusterTrustBundle> = Cache::idle();
        let told = holders.clone();
        bundles.listen(move |_| tell(&told, |_, needs| needs.bundles));
        let requests: Cache<PodCertificateRequest> = Cache::idle();
        let (told, bell) = (holders.clone(), answered.clone());
        requests.listen(move |change| {
            if let Some(request) = change.new.as_ref().or(change.old.as_ref()) {
                tell(&told, |uid, needs| needs.certificates && *uid == request.spec.pod_uid);
            }
            bell.send_replace(());
        });
        Self(Arc::new(Inner {
            task: task.child("trust"),
            client: client.clone(),
            node: node.to_owned(),
            bundles: Watched { cache: bundles, once: Once::new() },
            requests: Watched { cache: requests, once: Once::new() },
            holders,
            answered,
        }))
    }

    /// Tells the pod `uid` of changes from now on, and begins to watch what it needs.
    pub fn hold(&self, uid: &str, needs: Needs, notify: &Notify) {
        let inner = &self.0;
        if needs == Needs::default() {
            return;
        }
        lock(&inner.holders).insert(uid.to_owned(), (needs, notify.clone()));
        if needs.bundles {
            let start = || inner.bundles.cache.start(&inner.task, Api::all(inner.client.clone()), Scope::default());
            inner.bundles.once.call_once(start);
        }
        if needs.certificates {
            let scope = Scope::fields(format!("spec.nodeName={}", inner.node));
            let start = || inner.requests.cache.start(&inner.task, Api::all(inner.client.clone()), scope);
            inner.requests.once.call_once(start);
        }
    }

    /// Tells the pod `uid` no more.
    pub fn release(&self, uid: &str) {
        lock(&self.0.holders).remove(uid);
    }

    /// Resolves once everything that is needed has been listed.
    ///
    /// # Errors
    /// It cannot be read.
    pub async fn ready(&self, needs: Needs) -> Result<()> {
        let all = async {
            if needs.bundles {
                self.0.bundles.cache.ready().await;
            }
            if needs.certificates {
                self.0.requests.cache.ready().await;
            }
        };
        tokio::time::timeout(PATIENCE, all).await.context("trust bundles and certificate requests cannot be read yet")
    }

    /// The certificates that a projection of trust bundles asks for, as PEM.
    ///
    /// # Errors
    /// There is no such bundle, and it is not optional.
    pub fn anchors(&self, source: &ClusterTrustBundleProjection) -> Result<String> {
        let cache = &self.0.bundles.cache;
        let named = source.name.as_deref().and_then(|name| cache.get(&Key::new("", name)));
        let all = if source.name.is_some() { named.into_iter().collect() } else { cache.list() };
        anchors(source, &all)
    }

    /// A request by name.
    pub fn request(&self, namespace: &str, name: &str) -> Option<Arc<PodCertificateRequest>> {
        self.0.requests.cache.get(&Key::new(namespace, name))
    }

    /// Changes whenever a request does.
    pub fn answered(&self) -> watch::Receiver<()> {
        self.0.answered.subscribe()
    }
}

fn tell(holders: &Mutex<HashMap<String, (Needs, Notify)>>, concerns: impl Fn(&String, Needs) -> bool) {
    let notify: Vec<Notify> = {
        let holders = lock(holders);
        let concerned = holders.iter().filter(|(uid, (needs, _))| concerns(uid, *needs));
        concerned.map(|(_, (_, notify))| notify.clone()).collect()
    };
    notify.iter().for_each(|notify| notify());
}

/// The certificates of the bundles among `all` that `source` means: each once, in a stable order.
fn anchors(source: &ClusterTrustBundleProjection, all: &[Arc<ClusterTrustBundle>]) -> Result<String> {
    let optional = source.optional == Some(true);
    let chosen: Vec<&Arc<ClusterTrustBundle>> = if let Some(name) = &source.name {
        let found = all.iter().find(|bundle| bundle.metadata.name.as_ref() == Some(name));
        if found.is_none() && !optional {
            bail!("clustertrustbundle.certificates.k8s.io {name:?} not found");
        }
        found.into_iter().collect()
    } else if let Some(signer) = &source.signer_name {
        // No selector matches nothing, an empty one everything.
        let matches = |bundle: &&Arc<ClusterTrustBundle>| {
            bundle.spec.signer_name.as_ref() == Some(signer)
                && source
                    .label_selector
                    .as_ref()
                    .is_some_and(|selector| selector::matches(selector, bundle.metadata.labels.as_ref()))
        };
        let found: Vec<_> = all.iter().filter(matches).collect();
        if found.is_empty() && !optional {
            bail!("combination of signerName and labelSelector matched zero ClusterTrustBundles");
        }
        found
    } else {
        bail!("ClusterTrustBundle projection requires either name or signerName to be set");
    };
    let mut certificates = BTreeSet::new();
    for bundle in chosen {
        for certificate in CertificateDer::pem_slice_iter(bundle.spec.trust_bundle.as_bytes()) {
            let name = bundle.metadata.name.as_deref().unwrap_or("");
            certificates.insert(certificate.with_context(|| format!("trust bundle {name:?}"))?.to_vec());
        }
    }
    Ok(certificates.iter().map(|der| pem(der)).collect())
}

/// The certificates of a chain, as PEM without anything between them.
///
/// # Errors
/// It is no PEM.
pub fn chain(text: &str) -> Result<String> {
    let mut clean = String::new();
    for certificate in CertificateDer::pem_slice_iter(text.as_bytes()) {
        clean.push_str(&pem(&certificate.context("certificate chain")?));
    }
    Ok(clean)
}

fn pem(der: &[u8]) -> String {
    let text = STANDARD.encode(der);
    let mut out = String::from("-----BEGIN CERTIFICATE-----\n");
    for line in text.as_bytes().chunks(LINE) {
        out.push_str(&String::from_utf8_lossy(line));
        out.push('\n');
    }
    out.push_str("-----END CERTIFICATE-----\n");
    out
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn bundle(name: &str, signer: Option<&str>, label: &str, ders: &[&[u8]]) -> Arc<ClusterTrustBundle> {
        let text: String = ders.iter().map(|der| format!("between\n{}", pem(der))).collect();
        let object = json!({"metadata": {"name": name, "labels": {"set": label}},
            "spec": {"signerName": signer, "trustBundle": text}});
        Arc::new(serde_json::from_value(object).unwrap())
    }

    #[test]
    fn bundles_are_found_by_name_and_by_signer_and_each_certificate_comes_once() {
        let all = [
            bundle("a", None, "x", &[b"one", b"two"]),
            bundle("s1", Some("sign.er/x"), "x", &[b"three", b"one"]),
            bundle("s2", Some("sign.er/x"), "y", &[b"one"]),
            bundle("s3", Some("other.er/x"), "x", &[b"four"]),
        ];
        let of = |source: Value| {
            let source: ClusterTrustBundleProjection = serde_json::from_value(source).unwrap();
            anchors(&source, &all).map_err(|error| error.to_string())
        };
        let text = |ders: &[&[u8]]| Ok(ders.iter().map(|der| pem(der)).collect::<String>());
        assert_eq!(of(json!({"path": "p", "name": "a"})), text(&[b"one", b"two"]));
        assert_eq!(of(json!({"path": "p", "signerName": "sign.er/x", "labelSelector": {}})), text(&[b"one", b"three"]));
        let labelled = json!({"path": "p", "signerName": "sign.er/x", "labelSelector": {"matchLabels": {"set": "y"}}});
        assert_eq!(of(labelled), text(&[b"one"]));
        assert!(of(json!({"path": "p", "signerName": "sign.er/x"})).unwrap_err().contains("matched zero"));
        assert_eq!(of(json!({"path": "p", "signerName": "sign.er/x", "optional": true})), text(&[]));
        assert!(of(json!({"path": "p", "name": "none"})).unwrap_err().contains("\"none\" not found"));
        assert_eq!(of(json!({"path": "p", "name": "none", "optional": true})), text(&[]));
    }

    #[test]
    fn pem_is_broken_into_lines_and_read_back() {
        let der = vec![7; 100];
        let text = pem(&der);
        assert!(text.lines().all(|line| line.len() <= LINE));
        assert_eq!(chain(&format!("comment\n{text}\n{text}")).unwrap(), format!("{text}{text}"));
    }
}
