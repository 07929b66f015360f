//! What files a volume made of API data holds: ConfigMaps, Secrets, the downward API, tokens, trust bundles, certificates,
//! and projections of them.
//! Pure. <https://kubernetes.io/docs/concepts/storage/projected-volumes/>

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, bail};
use k8s_openapi::api::core::v1::{
    ClusterTrustBundleProjection, ConfigMap, ConfigMapVolumeSource, DownwardAPIVolumeFile, DownwardAPIVolumeSource,
    KeyToPath, ProjectedVolumeSource, Secret, SecretVolumeSource,
};

use crate::{env::Objects, field::Source, pod::certificate::Bundle};

/// A file of a volume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct File {
    /// Contents.
    pub bytes: Vec<u8>,
    /// Permission bits.
    pub mode: u32,
    /// Owner, where it is not root.
    pub owner: Option<u32>,
}

/// Files by relative path.
pub type Files = BTreeMap<String, File>;

/// Where credentials come from that are made for the pod.
#[derive(Clone, Copy)]
pub struct Credentials<'a> {
    /// Audience and seconds of a request to the token itself.
    pub token: &'a dyn Fn(&str, i64) -> Result<String>,
    /// A projection of trust bundles to certificates in PEM.
    pub anchors: &'a dyn Fn(&ClusterTrustBundleProjection) -> Result<String>,
    /// Name of a projected volume and position of a source in it to a key and its certificates.
    pub certificate: &'a dyn Fn(&str, usize) -> Result<Bundle>,
}

const MODE: u32 = 0o644;

fn mode(own: Option<i32>, default: Option<i32>) -> u32 {
    own.or(default).and_then(|mode| u32::try_from(mode).ok()).map_or(MODE, |mode| mode & 0o777)
}

/// A path that stays below the volume.
fn checked(path: &str) -> Result<String> {
    let inside = !path.is_empty()
        && !path.starts_with('/')
        && path.split('/').all(|part| !part.is_empty() && part != "." && part != "..")
        && !path.starts_with("..");
    if inside { Ok(path.to_owned()) } else { bail!("invalid path {path:?}") }
}

fn picked(
    data: &BTreeMap<String, Vec<u8>>,
    items: Option<&[KeyToPath]>,
    default: Option<i32>,
    optional: bool,
    missing: impl Fn(&str) -> String,
) -> Result<Files> {
    let mut files = Files::new();
    let mut put = |path: &str, bytes: &[u8], mode: u32| -> Result<()> {
        files.insert(checked(path)?, File { bytes: bytes.to_vec(), mode, owner: None });
        Ok(())
    };
    match items.filter(|items| !items.is_empty()) {
        None => {
            for (key, bytes) in data {
                put(key, bytes, mode(None, default))?;
            }
        }
        Some(items) => {
            for item in items {
                match data.get(&item.key) {
                    Some(bytes) => put(&item.path, bytes, mode(item.mode, default))?,
                    None if optional => {}
                    None => bail!("{}", missing(&item.key)),
                }
            }
        }
    }
    Ok(files)
}

fn config_map_data(map: &ConfigMap) -> BTreeMap<String, Vec<u8>> {
    let text = map.data.iter().flatten().map(|(key, value)| (key.clone(), value.clone().into_bytes()));
    let binary = map.binary_data.iter().flatten().map(|(key, value)| (key.clone(), value.0.clone()));
    text.chain(binary).collect()
}

fn secret_data(secret: &Secret) -> BTreeMap<String, Vec<u8>> {
    secret.data.iter().flatten().map(|(key, value)| (key.clone(), value.0.clone())).collect()
}

/// Files of a `configMap` volume.
pub fn config_map(source: &ConfigMapVolumeSource, objects: &dyn Objects) -> Result<Files> {
    from_config_map(&source.name, source.items.as_deref(), source.default_mode, source.optional, objects)
}

fn from_config_map(
    name: &str,
    items: Option<&[KeyToPath]>,
    default: Option<i32>,
    optional: Option<bool>,
    objects: &dyn Objects,
) -> Result<Files> {
    let optional = optional == Some(true);
    let Some(map) = objects.config_map(name) else {
        return if optional { Ok(Files::new()) } else { bail!("configmap {name:?} not found") };
    };
    picked(&config_map_data(&map), items, default, optional, |key| {
        format!("configmap references non-existent config key: {key}")
    })
}

/// Files of a `secret` volume.
pub fn secret(source: &SecretVolumeSource, objects: &dyn Objects) -> Result<Files> {
    let name = source.secret_name.as_deref().unwrap_or("");
    from_secret(name, source.items.as_deref(), source.default_mode, source.optional, objects)
}

fn from_secret(
    name: &str,
    items: Option<&[KeyToPath]>,
    default: Option<i32>,
    optional: Option<bool>,
    objects: &dyn Objects,
) -> Result<Files> {
    let optional = optional == Some(true);
    let Some(secret) = objects.secret(name) else {
        return if optional { Ok(Files::new()) } else { bail!("secret {name:?} not found") };
    };
    picked(&secret_data(&secret), items, default, optional, |key| format!("references non-existent secret key: {key}"))
}

/// Files of a `downwardAPI` volume.
pub fn downward(source: &DownwardAPIVolumeSource, fields: Source<'_>) -> Result<Files> {
    from_downward(source.items.as_deref().unwrap_or_default(), source.default_mode, fields)
}

fn from_downward(items: &[DownwardAPIVolumeFile], default: Option<i32>, fields: Source<'_>) -> Result<Files> {
    let mut files = Files::new();
    for item in items {
        let value = if let Some(field) = &item.field_ref {
            fields.field(&field.field_path)?
        } else if let Some(resource) = &item.resource_field_ref {
            fields.resource(resource, None)?
        } else {
            continue;
        };
        let file = File { bytes: value.into_bytes(), mode: mode(item.mode, default), owner: None };
        files.insert(checked(&item.path)?, file);
    }
    Ok(files)
}

/// Who may read tokens beside root.
#[derive(Clone, Copy, Debug, Default)]
pub struct Readers {
    /// The user that all containers of the pod run as, where it is one.
    pub user: Option<u32>,
    /// Whether the pod has a group for its volumes.
    pub group: bool,
}

/// Files of a `projected` volume.
pub fn projected(
    name: &str,
    source: &ProjectedVolumeSource,
    objects: &dyn Objects,
    fields: Source<'_>,
    credentials: Credentials<'_>,
    readers: Readers,
) -> Result<Files> {
    let mut files = Files::new();
    let default = source.default_mode;
    let private = readers.user.is_some() || readers.group;
    let secret_mode = if private { 0o600 } else { mode(None, default) };
    let file = |text: String| File { bytes: text.into_bytes(), mode: secret_mode, owner: readers.user };
    for (index, part) in source.sources.iter().flatten().enumerate() {
        if let Some(map) = &part.config_map {
            files.extend(from_config_map(&map.name, map.items.as_deref(), default, map.optional, objects)?);
        }
        if let Some(secret) = &part.secret {
            files.extend(from_secret(&secret.name, secret.items.as_deref(), default, secret.optional, objects)?);
        }
        if let Some(downward) = &part.downward_api {
            files.extend(from_downward(downward.items.as_deref().unwrap_or_default(), default, fields)?);
        }
        if let Some(token) = &part.service_account_token {
            let audience = token.audience.as_deref().unwrap_or("");
            let text = (credentials.token)(audience, token.expiration_seconds.unwrap_or(3600));
            files.insert(checked(&token.path)?, file(text.context("failed to fetch token")?));
        }
        if let Some(bundle) = &part.cluster_trust_bundle {
            files.insert(checked(&bundle.path)?, file((credentials.anchors)(bundle)?));
        }
        if let Some(certificate) = &part.pod_certificate {
            let bundle = (credentials.certificate)(name, index)?;
            let both = format!("{}{}", bundle.key, bundle.chain);
            let parts = [
                (&certificate.credential_bundle_path, both),
                (&certificate.key_path, bundle.key),
                (&certificate.certificate_chain_path, bundle.chain),
            ];
            for (path, text) in parts {
                if let Some(path) = path.as_deref().filter(|path| !path.is_empty()) {
                    files.insert(checked(path)?, file(text));
                }
            }
        }
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use k8s_openapi::api::core::v1::{Pod, PodStatus};
    use serde_json::json;

    use super::*;
    use crate::field::Allocatable;

    struct Fixed;

    impl Objects for Fixed {
        fn config_map(&self, name: &str) -> Option<Arc<ConfigMap>> {
            let map = json!({"data": {"a": "1", "b": "2"}, "binaryData": {"c": "/wA="}});
            (name == "config").then(|| Arc::new(serde_json::from_value(map).unwrap()))
        }
        fn secret(&self, name: &str) -> Option<Arc<Secret>> {
            let secret = json!({"data": {"password": "c2VjcmV0"}});
            (name == "secret").then(|| Arc::new(serde_json::from_value(secret).unwrap()))
        }
    }

    fn shown(files: &Files) -> Vec<(String, String, u32)> {
        files
            .iter()
            .map(|(path, file)| (path.clone(), String::from_utf8_lossy(&file.bytes).into_owned(), file.mode))
            .collect()
    }

    #[test]
    fn a_config_map_gives_all_keys_or_those_picked() {
        let source = serde_json::from_value(json!({"name": "config", "defaultMode": 0o400})).unwrap();
        let files = config_map(&source, &Fixed).unwrap();
        assert_eq!(files.len(), 3);
        assert_eq!(files["c"].bytes, [0xff, 0]);
        assert_eq!(files["a"].mode, 0o400);
        let items = json!({"name": "config", "items": [{"key": "a", "path": "x/y", "mode": 0o600}]});
        let files = config_map(&serde_json::from_value(items).unwrap(), &Fixed).unwrap();
        assert_eq!(shown(&files), [("x/y".into(), "1".into(), 0o600)]);
    }

    #[test]
    fn what_is_missing_is_an_error_unless_optional() {
        let cases = [
            (json!({"name": "none"}), Some("configmap \"none\" not found")),
            (json!({"name": "none", "optional": true}), None),
            (
                json!({"name": "config", "items": [{"key": "z", "path": "z"}]}),
                Some("configmap references non-existent config key: z"),
            ),
            (json!({"name": "config", "optional": true, "items": [{"key": "z", "path": "z"}]}), None),
        ];
        for (source, wanted) in cases {
            let result = config_map(&serde_json::from_value(source).unwrap(), &Fixed);
            match wanted {
                None => assert!(result.unwrap().is_empty()),
                Some(message) => assert_eq!(result.unwrap_err().to_string(), message),
            }
        }
    }

    #[test]
    fn paths_stay_below_the_volume() {
        for path in ["../x", "/x", "a/../b", "a//b", "", "..data"] {
            assert!(checked(path).is_err(), "{path}");
        }
        assert!(checked("a/b.c").is_ok());
    }

    #[test]
    fn projections_come_together() {
        let pod: Pod = serde_json::from_value(json!({"metadata": {"namespace": "shop"}})).unwrap();
        let (status, allocatable) = (PodStatus::default(), Allocatable::new());
        let fields = Source { pod: &pod, status: &status, allocatable: &allocatable };
        let source: ProjectedVolumeSource = serde_json::from_value(json!({"sources": [
            {"configMap": {"name": "config", "items": [{"key": "a", "path": "a"}]}},
            {"secret": {"name": "secret"}},
            {"serviceAccountToken": {"path": "token", "expirationSeconds": 3607}},
            {"downwardAPI": {"items": [{"path": "namespace", "fieldRef": {"fieldPath": "metadata.namespace"}}]}},
            {"clusterTrustBundle": {"path": "ca.pem", "name": "roots"}},
            {"podCertificate": {"signerName": "s", "keyType": "ED25519", "credentialBundlePath": "tls/both",
                "certificateChainPath": "tls/chain"}},
        ]}))
        .unwrap();
        let credentials = Credentials {
            token: &|audience, seconds| Ok(format!("{audience}/{seconds}")),
            anchors: &|source| Ok(source.name.clone().unwrap_or_default()),
            certificate: &|volume, index| Ok(Bundle { key: format!("{volume}:"), chain: index.to_string() }),
        };
        let readers = Readers { user: Some(7), group: false };
        let files = projected("v", &source, &Fixed, fields, credentials, readers).unwrap();
        let names: Vec<_> = shown(&files).into_iter().map(|(path, text, _)| format!("{path}={text}")).collect();
        let wanted = ["a=1", "ca.pem=roots", "namespace=shop", "password=secret", "tls/both=v:5", "tls/chain=5"];
        assert_eq!(names[..6], wanted);
        assert_eq!(names[6..], ["token=/3607"]);
        assert_eq!((files["token"].mode, files["token"].owner), (0o600, Some(7)));
    }
}
