//! Images of pods: present, to be pulled, or not to be had.
//! <https://kubernetes.io/docs/concepts/containers/images/>

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, Weak},
    time::Instant,
};

use base64::Engine as _;
use counts::counter::Counts;
use image::{
    Image, Store,
    pull::{Credentials, Pull},
};
use k8s_openapi::api::core::v1::{Pod, Secret};
use kube::Api;
use oci::Reference;

use crate::{
    event::Recorder,
    pod::{decide::ImageFailure, state::ImageRef},
};

/// Pulls for all pods. Clones are the same.
#[derive(Clone)]
pub struct Images {
    store: Store,
    client: kube::Client,
    recorder: Recorder,
    counts: Counts,
    /// How to pull, but for credentials.
    how: Arc<Pull>,
    /// One pull of a name at a time.
    pulling: Arc<Mutex<HashMap<String, Weak<tokio::sync::Mutex<()>>>>>,
}

impl Images {
    /// Pulls into `store`.
    pub fn new(store: Store, client: kube::Client, recorder: Recorder, counts: Counts, how: Pull) -> Self {
        Self { store, client, recorder, counts, how: Arc::new(how), pulling: Arc::default() }
    }

    /// Has the image `name` as `policy` wants it, for a container of `pod`.
    pub async fn ensure(
        &self,
        pod: &Pod,
        container: Option<&str>,
        name: &str,
        policy: &str,
    ) -> Result<(ImageRef, Image), ImageFailure> {
        let failure = |reason: &str, message: String, again| ImageFailure { reason: reason.into(), message, again };
        let record = |warning, reason: &str, message: String| {
            self.recorder.pod(pod, container, warning, reason, message);
        };
        let reference = match Reference::parse(name) {
            Ok(reference) => reference,
            Err(error) => {
                let message =
                    format!("Failed to apply default image tag {name:?}: couldn't parse image name {name:?}: {error}");
                record(true, "InspectFailed", message.clone());
                return Err(failure("InvalidImageName", message, false));
            }
        };
        if policy != "Always"
            && let Some(image) = self.store.get(name)
        {
            record(false, "Pulled", format!("Container image {name:?} already present on machine"));
            return Ok((image_ref(&image, name), image));
        }
        if policy == "Never" {
            let message = format!("Container image {name:?} is not present with pull policy of Never");
            record(true, "ErrImageNeverPull", message.clone());
            return Err(failure("ErrImageNeverPull", message, true));
        }
        let asked = Instant::now();
        let turn = self.turn(name);
        let _turn = turn.lock().await;
        if policy != "Always"
            && let Some(image) = self.store.get(name)
        {
            record(false, "Pulled", format!("Container image {name:?} already present on machine"));
            return Ok((image_ref(&image, name), image));
        }
        record(false, "Pulling", format!("Pulling image {name:?}"));
        let began = Instant::now();
        let pull = Pull { credentials: self.credentials(pod, &reference).await, ..(*self.how).clone() };
        let pulled = self.store.pull(&reference, &pull).await;
        self.counts.operation("pull_image", began.elapsed(), pulled.is_ok());
        self.counts.took("kubelet_image_pull_duration_seconds", &[("image_size_in_bytes", "N/A")], began.elapsed());
        match pulled {
            Ok(image) => {
                let message = format!(
                    "Successfully pulled image {name:?} in {:.3?} ({:.3?} including waiting). Image size: {} bytes.",
                    began.elapsed(),
                    asked.elapsed(),
                    image.size
                );
                record(false, "Pulled", message);
                Ok((image_ref(&image, name), image))
            }
            Err(error) => {
                let text = format!("failed to pull and unpack image {:?}: {error:#}", reference.to_string());
                record(true, "Failed", format!("Failed to pull image {name:?}: {text}"));
                Err(failure("ErrImagePull", text, true))
            }
        }
    }

    fn turn(&self, name: &str) -> Arc<tokio::sync::Mutex<()>> {
        let mut pulling = self.pulling.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        pulling.retain(|_, turn| turn.strong_count() > 0);
        if let Some(turn) = pulling.get(name).and_then(Weak::upgrade) {
            return turn;
        }
        let turn = Arc::new(tokio::sync::Mutex::new(()));
        pulling.insert(name.to_owned(), Arc::downgrade(&turn));
        turn
    }

    /// Credentials of the pod's pull secrets for the registry of `reference`, in order. Secrets that are missing or
    /// unreadable are passed over, as upstream does.
    async fn credentials(&self, pod: &Pod, reference: &Reference) -> Vec<Credentials> {
        let namespace = pod.metadata.namespace.as_deref().unwrap_or("default");
        let api: Api<Secret> = Api::namespaced(self.client.clone(), namespace);
        let names = pod.spec.as_ref().and_then(|spec| spec.image_pull_secrets.as_deref()).unwrap_or_default();
        let mut found = Vec::new();
        for name in names.iter().map(|reference| &reference.name).filter(|name| !name.is_empty()) {
            match api.get_opt(name).await {
                Ok(Some(secret)) => found.extend(from_secret(&secret, reference)),
                Ok(None) => {
                    let message = format!(
                        "Unable to retrieve some image pull secrets ({name}); attempting to pull the image may not succeed."
                    );
                    self.recorder.pod(pod, None, true, "FailedToRetrieveImagePullSecret", message);
                }
                Err(error) => tracing::warn!(namespace, name, %error, "read pull secret"),
            }
        }
        found
    }
}

/// What the status shows of an image.
pub fn image_ref(image: &Image, name: &str) -> ImageRef {
    let repository = Reference::parse(name).map(|reference| reference.repository()).unwrap_or_default();
    let of_name = image.digests.iter().find(|digest| digest.split('@').next() == Some(repository.as_str()));
    let user = image.config.config().as_ref().and_then(|config| config.user().clone()).unwrap_or_default();
    ImageRef {
        id: image.id.to_string(),
        reference: of_name.or(image.digests.first()).cloned().unwrap_or_else(|| image.id.to_string()),
        name: name.to_owned(),
        user,
    }
}

/// The entries of a `kubernetes.io/dockerconfigjson` or `kubernetes.io/dockercfg` secret for a registry, the most specific
/// first.
pub fn from_secret(secret: &Secret, reference: &Reference) -> Vec<Credentials> {
    let data = secret.data.as_ref();
    let parsed = |key: &str| -> Option<serde_json::Value> { serde_json::from_slice(&data?.get(key)?.0).ok() };
    let auths = parsed(".dockerconfigjson").map(|config| config["auths"].clone()).or_else(|| parsed(".dockercfg"));
    let Some(serde_json::Value::Object(auths)) = auths else { return Vec::new() };
    let repository = reference.repository();
    let mut matching: Vec<(usize, Credentials)> = Vec::new();
    for (server, entry) in &auths {
        let place = server.trim_start_matches("https://").trim_start_matches("http://").trim_end_matches('/');
        let place = place.trim_end_matches("/v1").trim_end_matches("/v2");
        let place = if matches!(place, "index.docker.io" | "registry-1.docker.io") { "docker.io" } else { place };
        let covers = place == reference.domain()
            || repository == place
            || repository.strip_prefix(place).is_some_and(|rest| rest.starts_with('/'))
            || place
                .strip_prefix("*.")
                .is_some_and(|suffix| reference.domain().split_once('.').is_some_and(|(_, rest)| rest == suffix));
        if covers && let Some(credentials) = entry_credentials(entry) {
            matching.push((place.len(), credentials));
        }
    }
    matching.sort_by_key(|(length, _)| std::cmp::Reverse(*length));
    matching.into_iter().map(|(_, credentials)| credentials).collect()
}

fn entry_credentials(entry: &serde_json::Value) -> Option<Credentials> {
    let text = |key: &str| entry[key].as_str().filter(|text| !text.is_empty()).map(str::to_owned);
    if let Some(token) = text("identitytoken") {
        return Some(Credentials::Identity(token));
    }
    if let Some(token) = text("registrytoken") {
        return Some(Credentials::Token(token));
    }
    if let (Some(username), Some(password)) = (text("username"), text("password")) {
        return Some(Credentials::Password { username, password });
    }
    let decoded = base64::engine::general_purpose::STANDARD.decode(text("auth")?.trim()).ok()?;
    let decoded = String::from_utf8(decoded).ok()?;
    let (username, password) = decoded.split_once(':')?;
    Some(Credentials::Password { username: username.to_owned(), password: password.trim_matches('\0').to_owned() })
}

#[cfg(test)]
mod tests {
    use k8s_openapi::ByteString;

    use super::*;

    #[test]
    fn pull_secrets_apply_to_their_registry_alone() {
        let config = serde_json::json!({"auths": {
            "https://index.docker.io/v1/": {"auth": "YTpi"},
            "registry.example:5000": {"username": "u", "password": "p"},
            "registry.example:5000/team": {"username": "t", "password": "p"},
            "*.example": {"identitytoken": "x"},
        }});
        let data = [(".dockerconfigjson".to_owned(), ByteString(config.to_string().into_bytes()))];
        let secret = Secret { data: Some(data.into()), ..Default::default() };
        let names = |image: &str| -> Vec<String> {
            let found = from_secret(&secret, &Reference::parse(image).unwrap()).into_iter();
            found
                .map(|credentials| match credentials {
                    Credentials::Password { username, .. } => username,
                    Credentials::Identity(token) | Credentials::Token(token) => token,
                })
                .collect()
        };
        assert_eq!(names("nginx"), ["a"]);
        assert_eq!(names("registry.example:5000/team/app"), ["t", "u"]);
        assert_eq!(names("registry.example:5000/other"), ["u"]);
        assert_eq!(names("quay.example/x"), ["x"]);
        assert!(names("ghcr.io/x/y").is_empty());
    }
}
