//! Certificates of one pod: a key is made, a signer is asked, and asked again in time before the certificate ends.
//!
//! ```text
//! (none) ─ ask ─▶ waiting ─┬─ issued ─▶ fresh ─ refresh time ─▶ fresh, renewal asked for ─┐
//!                  ▲       ├─ denied ─▶ refused for good             ▲                    │
//!                  │       └─ failed ─▶ refused for good             └─ issued, or given up
//!                  └─ not there any more after ten minutes
//! ```
//!
//! Nothing of it is on disk: a node that starts again asks again.
//! <https://kubernetes.io/docs/concepts/storage/projected-volumes/#podcertificate>

use std::{
    collections::{BTreeMap, HashMap},
    hash::{DefaultHasher, Hash as _, Hasher as _},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use jiff::Timestamp;
use k8s_openapi::{
    ByteString,
    api::{
        certificates::v1::{PodCertificateRequest, PodCertificateRequestSpec},
        core::v1::{Pod, PodCertificateProjection, ServiceAccount},
    },
    apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference},
};
use kube::{Api, api::PostParams};

use crate::{
    config::{Shared, now},
    key,
    trust::{self, Trust},
};

/// How long setting up volumes waits for the first certificate before it says so and begins again.
const PATIENCE: Duration = Duration::from_secs(60);
/// A request that is not seen for so long was deleted.
const ABANDONED: Duration = Duration::from_secs(600);
/// Renewals are spread over this much time.
const SPREAD_SECONDS: u64 = 300;
/// Delay of a renewal that could not be asked for.
const RETRY: Duration = Duration::from_secs(30);

/// Which source: name of the volume, position in it.
pub type Place = (String, usize);

/// A key and its certificates, as PEM.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bundle {
    /// PKCS#8.
    pub key: String,
    /// The certificate, then intermediates.
    pub chain: String,
}

/// A request that a signer has to answer.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Asked {
    name: String,
    key: String,
    at: Timestamp,
}

/// What is known of one source.
#[derive(Clone, Debug, PartialEq, Eq)]
enum State {
    Waiting(Asked),
    Fresh { bundle: Bundle, refresh_at: Timestamp, renewal: Option<Asked> },
    Refused(String),
}

/// What a signer has said.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Answer {
    Pending,
    Issued { chain: String, refresh_at: Timestamp },
    Refused(String),
}

/// The certificates of one pod. Clones are the same.
#[derive(Clone, Debug, Default)]
pub struct Certificates(Arc<Mutex<HashMap<Place, State>>>);

/// Reads an answer. Errors are a signer's mistakes, which are as final as its refusals.
fn answer(request: &PodCertificateRequest) -> Answer {
    let status = request.status.clone().unwrap_or_default();
    for condition in status.conditions.iter().flatten().filter(|condition| condition.status == "True") {
        let words = format!("reason={:?} message={:?}", condition.reason, condition.message);
        match condition.type_.as_str() {
            "Denied" => return Answer::Refused(format!("PodCertificateRequest was permanently denied: {words}")),
            "Failed" => return Answer::Refused(format!("PodCertificateRequest was permanently failed: {words}")),
            "Issued" => {
                let chain = trust::chain(status.certificate_chain.as_deref().unwrap_or(""));
                return match (chain, &status.begin_refresh_at) {
                    (Ok(chain), Some(refresh)) if !chain.is_empty() => {
                        Answer::Issued { chain, refresh_at: refresh.0 + spread(request) }
                    }
                    (Err(error), _) => Answer::Refused(format!("PodCertificateRequest was issued badly: {error:#}")),
                    _ => Answer::Refused("PodCertificateRequest was issued without certificate or times".into()),
                };
            }
            _ => {}
        }
    }
    Answer::Pending
}

/// A delay of the request's own, so that certificates of equal age are not all renewed at once.
fn spread(request: &PodCertificateRequest) -> Duration {
    let mut hasher = DefaultHasher::new();
    request.metadata.name.hash(&mut hasher);
    Duration::from_secs(hasher.finish() % SPREAD_SECONDS)
}

/// What becomes of `state` by what is known of its request (none: it is not there). `None`: a new one has to be made.
fn advance(state: State, request: Option<&PodCertificateRequest>, now: Timestamp) -> Option<State> {
    let abandoned = |asked: &Asked| request.is_none() && asked.at + ABANDONED <= now;
    match state {
        State::Waiting(asked) if abandoned(&asked) => None,
        State::Waiting(asked) => match request.map_or(Answer::Pending, answer) {
            Answer::Pending => Some(State::Waiting(asked)),
            Answer::Refused(why) => Some(State::Refused(why)),
            Answer::Issued { chain, refresh_at } => {
                let bundle = Bundle { key: asked.key, chain };
                Some(State::Fresh { bundle, refresh_at, renewal: None })
            }
        },
        State::Fresh { bundle, refresh_at, renewal: Some(asked) } => {
            if abandoned(&asked) {
                return Some(State::Fresh { bundle, refresh_at, renewal: None });
            }
            match request.map_or(Answer::Pending, answer) {
                Answer::Pending => Some(State::Fresh { bundle, refresh_at, renewal: Some(asked) }),
                Answer::Refused(why) => Some(State::Refused(why)),
                Answer::Issued { chain, refresh_at } => {
                    let bundle = Bundle { key: asked.key, chain };
                    Some(State::Fresh { bundle, refresh_at, renewal: None })
                }
            }
        }
        settled => Some(settled),
    }
}

impl State {
    fn asked(&self) -> Option<&Asked> {
        match self {
            Self::Waiting(asked) | Self::Fresh { renewal: Some(asked), .. } => Some(asked),
            _ => None,
        }
    }
}

impl Certificates {
    fn lock(&self) -> MutexGuard<'_, HashMap<Place, State>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// When something has to be renewed, or looked for again.
    pub fn due(&self) -> Option<Timestamp> {
        let of = |state: &State| match state {
            State::Fresh { refresh_at, renewal: None, .. } => Some(*refresh_at),
            State::Fresh { renewal: Some(asked), .. } => Some(asked.at + ABANDONED),
            _ => None,
        };
        self.lock().values().filter_map(of).min()
    }

    /// The certificates of all sources of `pod`. Waits for those that were never issued; renewals go on meanwhile, and a
    /// change of their requests is a reason to come again.
    ///
    /// # Errors
    /// A signer has refused, or says nothing.
    pub async fn all(&self, shared: &Shared, pod: &Pod) -> Result<BTreeMap<Place, Bundle>> {
        let mut found = BTreeMap::new();
        for (volume, index, source) in trust::sources(pod) {
            let Some(source) = &source.pod_certificate else { continue };
            let place = (volume.to_owned(), index);
            let bundle = tokio::time::timeout(PATIENCE, self.one(shared, pod, source, &place)).await;
            found.insert(place, bundle.context("credential bundle is not issued yet")??);
        }
        Ok(found)
    }

    async fn one(
        &self,
        shared: &Shared,
        pod: &Pod,
        source: &PodCertificateProjection,
        place: &Place,
    ) -> Result<Bundle> {
        let namespace = pod.metadata.namespace.as_deref().unwrap_or("default");
        let mut answered = shared.trust.answered();
        loop {
            answered.borrow_and_update();
            match self.look(&shared.trust, namespace, place) {
                None => {
                    let asked = ask(shared, pod, namespace, source).await?;
                    self.lock().insert(place.clone(), State::Waiting(asked));
                }
                Some(State::Refused(why)) => bail!(why),
                Some(State::Fresh { bundle, refresh_at, renewal: None }) if refresh_at <= now() => {
                    let state = match ask(shared, pod, namespace, source).await {
                        Ok(asked) => State::Fresh { bundle: bundle.clone(), refresh_at, renewal: Some(asked) },
                        Err(error) => {
                            tracing::warn!(namespace, error = format!("{error:#}"), "renew the certificate of a pod");
                            State::Fresh { bundle: bundle.clone(), refresh_at: now() + RETRY, renewal: None }
                        }
                    };
                    self.lock().insert(place.clone(), state);
                    return Ok(bundle);
                }
                Some(State::Fresh { bundle, .. }) => return Ok(bundle),
                Some(State::Waiting(_)) => {
                    answered.changed().await.context("the node is ending")?;
                }
            }
        }
    }

    /// The state of a source, brought up to date; none where nobody was asked.
    fn look(&self, trust: &Trust, namespace: &str, place: &Place) -> Option<State> {
        let mut states = self.lock();
        let state = states.remove(place)?;
        let request = state.asked().and_then(|asked| trust.request(namespace, &asked.name));
        let state = advance(state, request.as_deref(), now())?;
        states.insert(place.clone(), state.clone());
        Some(state)
    }
}

/// Makes a key and asks the signer.
async fn ask(shared: &Shared, pod: &Pod, namespace: &str, source: &PodCertificateProjection) -> Result<Asked> {
    let kind = source.key_type.clone();
    let made = tokio::task::spawn_blocking(move || key::make(&kind)).await.context("make a key")??;
    let account = pod.spec.as_ref().and_then(|spec| spec.service_account_name.clone());
    let account = account.filter(|name| !name.is_empty()).unwrap_or_else(|| "default".into());
    let accounts: Api<ServiceAccount> = Api::namespaced(shared.client.clone(), namespace);
    let found = accounts.get(&account).await.with_context(|| format!("get service account {namespace}/{account}"))?;
    let node = shared.node().context("the node is not registered yet")?;
    let (name, uid) = (pod.metadata.name.clone().unwrap_or_default(), pod.metadata.uid.clone().unwrap_or_default());
    let request = PodCertificateRequest {
        metadata: ObjectMeta {
            generate_name: Some("req-".into()),
            namespace: Some(namespace.to_owned()),
            owner_references: Some(vec![OwnerReference {
                api_version: "v1".into(),
                kind: "Pod".into(),
                name: name.clone(),
                uid: uid.clone(),
                ..Default::default()
            }]),
            ..Default::default()
        },
        spec: PodCertificateRequestSpec {
            max_expiration_seconds: source.max_expiration_seconds,
            node_name: shared.config.name.clone(),
            node_uid: node.metadata.uid.clone().unwrap_or_default(),
            pod_name: name,
            pod_uid: uid,
            service_account_name: account,
            service_account_uid: found.metadata.uid.unwrap_or_default(),
            signer_name: source.signer_name.clone(),
            stub_pkc_s10_request: ByteString(made.request),
            unverified_user_annotations: source.user_annotations.clone(),
        },
        status: None,
    };
    let api: Api<PodCertificateRequest> = Api::namespaced(shared.client.clone(), namespace);
    let request =
        api.create(&PostParams::default(), &request).await.context("create a certificate request for the pod")?;
    Ok(Asked { name: request.metadata.name.unwrap_or_default(), key: made.pem, at: now() })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + seconds).unwrap()
    }

    fn request(conditions: Value, chain: &str) -> PodCertificateRequest {
        serde_json::from_value(json!({
            "metadata": {"name": "req-1"},
            "spec": {"nodeName": "n", "nodeUID": "", "podName": "p", "podUID": "u", "serviceAccountName": "",
                "serviceAccountUID": "", "signerName": "s", "stubPKCS10Request": ""},
            "status": {"conditions": conditions, "certificateChain": chain, "beginRefreshAt": at(100).to_string()},
        }))
        .unwrap()
    }

    fn condition(kind: &str) -> Value {
        json!([{"type": kind, "status": "True", "reason": "R", "message": "M",
            "lastTransitionTime": "2026-01-01T00:00:00Z"}])
    }

    fn asked(seconds: i64) -> Asked {
        Asked { name: "req-1".into(), key: format!("key {seconds}"), at: at(seconds) }
    }

    const CHAIN: &str = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";

    #[test]
    fn what_is_issued_is_used_until_the_next_is() {
        let issued = request(condition("Issued"), &format!("noise\n{CHAIN}"));
        let state = advance(State::Waiting(asked(0)), Some(&issued), at(1)).unwrap();
        let bundle = Bundle { key: "key 0".into(), chain: CHAIN.into() };
        let State::Fresh { bundle: first, refresh_at, renewal: None } = &state else { panic!("{state:?}") };
        assert_eq!(*first, bundle);
        assert!(*refresh_at >= at(100) && *refresh_at < at(100 + 300));
        let renewing = State::Fresh { bundle: bundle.clone(), refresh_at: at(100), renewal: Some(asked(100)) };
        let pending = request(json!([]), "");
        assert_eq!(advance(renewing.clone(), Some(&pending), at(101)), Some(renewing.clone()));
        let State::Fresh { bundle: second, .. } = advance(renewing.clone(), Some(&issued), at(101)).unwrap() else {
            panic!("not fresh")
        };
        assert_eq!(second.key, "key 100");
        // A renewal that was deleted is asked for again.
        let again = State::Fresh { bundle, refresh_at: at(100), renewal: None };
        assert_eq!(advance(renewing, None, at(100 + 600)), Some(again));
    }

    #[test]
    fn refusals_are_final_and_say_why() {
        for (kind, word) in [("Denied", "denied"), ("Failed", "failed")] {
            let refused = request(condition(kind), "");
            let state = advance(State::Waiting(asked(0)), Some(&refused), at(1)).unwrap();
            let wanted = format!("PodCertificateRequest was permanently {word}: reason=\"R\" message=\"M\"");
            assert_eq!(state, State::Refused(wanted.clone()));
            assert_eq!(advance(state, None, at(10_000)), Some(State::Refused(wanted)));
        }
        let empty = request(condition("Issued"), "");
        assert!(matches!(advance(State::Waiting(asked(0)), Some(&empty), at(1)), Some(State::Refused(_))));
    }

    #[test]
    fn a_request_that_disappeared_is_made_again_after_a_while() {
        let waiting = State::Waiting(asked(0));
        assert_eq!(advance(waiting.clone(), None, at(599)), Some(waiting.clone()));
        assert_eq!(advance(waiting, None, at(600)), None);
    }
}
