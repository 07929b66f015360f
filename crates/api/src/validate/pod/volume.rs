//! Volumes of a pod, and the sources that persistent volumes share with them.

use std::collections::BTreeSet;

use super::super::certificate::longest_lifetime;
use super::super::check::require;
use super::super::metadata::{self, label_selector};
use super::super::{Errors, Path, format};
use crate::meta::View;
use crate::quantity::Quantity;

const MODE: &str = "must be a number between 0 and 0777 (octal), both inclusive";

/// Members of a volume that hold its source, in upstream's order, with the name in the path of their errors.
const SOURCES: &[(&str, &str)] = &[
    ("emptyDir", "emptyDir"),
    ("hostPath", "hostPath"),
    ("gitRepo", "gitRepo"),
    ("gcePersistentDisk", "persistentDisk"),
    ("awsElasticBlockStore", "awsElasticBlockStore"),
    ("secret", "secret"),
    ("nfs", "nfs"),
    ("iscsi", "iscsi"),
    ("glusterfs", "glusterfs"),
    ("flocker", "flocker"),
    ("persistentVolumeClaim", "persistentVolumeClaim"),
    ("rbd", "rbd"),
    ("cinder", "cinder"),
    ("cephfs", "cephfs"),
    ("quobyte", "quobyte"),
    ("downwardAPI", "downwardAPI"),
    ("fc", "fc"),
    ("flexVolume", "flexVolume"),
    ("configMap", "configMap"),
    ("azureFile", "azureFile"),
    ("vsphereVolume", "vsphereVolume"),
    ("photonPersistentDisk", "photonPersistentDisk"),
    ("portworxVolume", "portworxVolume"),
    ("azureDisk", "azureDisk"),
    ("storageos", "storageos"),
    ("projected", "projected"),
    ("scaleIO", "scaleIO"),
    ("csi", "csi"),
    ("ephemeral", "ephemeral"),
    ("image", "image"),
];

/// Checks a pod's volumes; `pod_name` is "" for a template. Returns the volumes that are well-formed, by name.
pub fn volumes<'a>(
    spec: View<'a>,
    pod_name: &str,
    path: &Path<'_>,
    errors: &mut Errors,
) -> std::collections::BTreeMap<&'a str, View<'a>> {
    let mut known = std::collections::BTreeMap::new();
    let ephemeral_claims: BTreeSet<String> = spec
        .list("volumes")
        .filter(|volume| !pod_name.is_empty() && volume.has("ephemeral"))
        .map(|volume| format!("{pod_name}-{}", volume.text("name")))
        .collect();
    for (position, volume) in spec.list("volumes").enumerate() {
        let at = path.index(position);
        let name = volume.text("name");
        let before = errors.len();
        source(volume, name, pod_name, &at, errors);
        if name.is_empty() {
            errors.required(&at.child("name"), "");
        } else {
            for fault in format::dns_label(name) {
                errors.invalid(&at.child("name"), name, fault);
            }
        }
        if known.contains_key(name) {
            errors.duplicate(&at.child("name"), name);
        }
        if errors.len() == before {
            known.insert(name, volume);
        }
        let claim = volume.at("persistentVolumeClaim").text("claimName");
        if volume.has("persistentVolumeClaim") && ephemeral_claims.contains(claim) {
            let detail = "must not reference a PVC that gets created for an ephemeral volume";
            errors.invalid(&at.child("persistentVolumeClaim").child("claimName"), claim, detail);
        }
    }
    known
}

fn source(volume: View<'_>, name: &str, pod_name: &str, path: &Path<'_>, errors: &mut Errors) {
    let mut found = false;
    for (member, place) in SOURCES {
        let source = volume.at(member);
        if !source.exists() {
            continue;
        }
        if found {
            errors.forbidden(&path.child(member), "may not specify more than 1 volume type");
            continue;
        }
        found = true;
        one_source(member, source, &path.child(place), errors);
        if *member == "ephemeral" && !pod_name.is_empty() && !name.is_empty() {
            let claim = format!("{pod_name}-{name}");
            for fault in format::dns_subdomain(&claim) {
                let detail = format!("PVC name {}: {fault}", crate::status::quote(&claim));
                errors.invalid(&path.child("name"), name, detail);
            }
        }
        if *member == "iscsi" && source.has("initiatorName") && name.len() + 1 + source.text("targetPortal").len() > 64
        {
            let detail = "Total length of <volume name>:<iscsi.targetPortal> must be under 64 characters if \
                          iscsi.initiatorName is specified.";
            errors.invalid(&path.child("name"), name, detail);
        }
    }
    if !found {
        errors.required(path, "must specify a volume type");
    }
}

fn one_source(member: &str, source: View<'_>, path: &Path<'_>, errors: &mut Errors) {
    match member {
        "emptyDir" => {
            if Quantity::of(source.at("sizeLimit").value()).sign() < 0 {
                errors.forbidden(&path.child("sizeLimit"), "SizeLimit field must be a valid resource quantity");
            }
        }
        "secret" => {
            require(source, "secretName", path, errors);
            keys(source, path, errors);
        }
        "configMap" => {
            require(source, "name", path, errors);
            keys(source, path, errors);
        }
        "persistentVolumeClaim" => require(source, "claimName", path, errors),
        "downwardAPI" => {
            mode(source, "defaultMode", path, errors);
            for item in source.list("items") {
                downward_file(item, path, errors);
            }
        }
        "projected" => {
            mode(source, "defaultMode", path, errors);
            projected(source, path, errors);
        }
        "csi" => {
            driver_name(source.text("driver"), &path.child("driver"), errors);
            let secret = source.at("nodePublishSecretRef");
            if secret.exists() {
                let name = secret.text("name");
                if name.is_empty() {
                    errors.required(&path.child("nodePublishSecretRef").child("name"), "");
                } else {
                    for fault in format::dns_subdomain(name) {
                        errors.invalid(&path.child("name"), name, fault);
                    }
                }
            }
        }
        "ephemeral" => {
            let template = source.at("volumeClaimTemplate");
            let at = path.child("volumeClaimTemplate");
            if !template.exists() {
                errors.required(&at, "");
            } else {
                metadata::template(template.at("metadata"), &at.child("metadata"), errors);
                super::super::storage::claim_spec(template.at("spec"), &at.child("spec"), errors);
            }
        }
        "image" => {
            require(source, "reference", path, errors);
            super::container::pull_policy(source.text("pullPolicy"), &path.child("pullPolicy"), errors);
        }
        _ => shared_source(member, source, path, errors),
    }
}

/// A source that persistent volumes have too.
pub fn shared_source(member: &str, source: View<'_>, path: &Path<'_>, errors: &mut Errors) {
    match member {
        "hostPath" => {
            let host = source.text("path");
            if host.is_empty() {
                errors.required(&path.child("path"), "");
                return;
            }
            no_backsteps(host, &path.child("path"), errors);
            const TYPES: [&str; 8] =
                ["", "BlockDevice", "CharDevice", "Directory", "DirectoryOrCreate", "File", "FileOrCreate", "Socket"];
            if !TYPES.contains(&source.text("type")) {
                errors.not_supported(&path.child("type"), source.text("type"), &TYPES);
            }
        }
        "gitRepo" => {
            require(source, "repository", path, errors);
            local_path(source.text("directory"), &path.child("directory"), errors);
        }
        "nfs" => {
            require(source, "server", path, errors);
            require(source, "path", path, errors);
            if !source.text("path").starts_with('/') {
                errors.invalid(&path.child("path"), source.text("path"), "must be an absolute path");
            }
        }
        "iscsi" => {
            require(source, "targetPortal", path, errors);
            require(source, "iqn", path, errors);
            let lun = source.int("lun").unwrap_or(0);
            if !(0..=255).contains(&lun) {
                errors.invalid(&path.child("lun"), lun, format::between(0, 255));
            }
            let chap = source.is("chapAuthDiscovery") || source.is("chapAuthSession");
            if chap && !source.has("secretRef") {
                errors.required(&path.child("secretRef"), "");
            }
        }
        "glusterfs" => {
            require(source, "endpoints", path, errors);
            require(source, "path", path, errors);
        }
        "gcePersistentDisk" => {
            require(source, "pdName", path, errors);
            partition(source, path, errors);
        }
        "awsElasticBlockStore" => {
            require(source, "volumeID", path, errors);
            partition(source, path, errors);
        }
        "rbd" => {
            if source.slice("monitors").is_empty() {
                errors.required(&path.child("monitors"), "");
            }
            require(source, "image", path, errors);
        }
        "cephfs" if source.slice("monitors").is_empty() => errors.required(&path.child("monitors"), ""),
        "cinder" => require(source, "volumeID", path, errors),
        "quobyte" => {
            require(source, "registry", path, errors);
            require(source, "volume", path, errors);
        }
        "fc" => {
            let (names, ids) = (!source.slice("targetWWNs").is_empty(), !source.slice("wwids").is_empty());
            if !names && !ids {
                errors.required(&path.child("targetWWNs"), "must specify either targetWWNs or wwids, but not both");
            }
            if names && ids {
                let detail = "targetWWNs and wwids can not be specified simultaneously";
                errors.invalid(&path.child("targetWWNs"), source.at("targetWWNs").value().clone(), detail);
            }
            if names && !source.has("lun") {
                errors.required(&path.child("lun"), "lun is required if targetWWNs is specified");
            }
        }
        "flexVolume" => require(source, "driver", path, errors),
        "azureFile" => {
            require(source, "secretName", path, errors);
            require(source, "shareName", path, errors);
        }
        "azureDisk" => {
            require(source, "diskName", path, errors);
            require(source, "diskURI", path, errors);
        }
        "vsphereVolume" => require(source, "volumePath", path, errors),
        "photonPersistentDisk" => require(source, "pdID", path, errors),
        "portworxVolume" => require(source, "volumeID", path, errors),
        "scaleIO" => {
            for member in ["gateway", "system", "volumeName"] {
                require(source, member, path, errors);
            }
        }
        "storageos" => require(source, "volumeName", path, errors),
        _ => {}
    }
}

fn partition(source: View<'_>, path: &Path<'_>, errors: &mut Errors) {
    let number = source.int("partition").unwrap_or(0);
    if !(0..=255).contains(&number) {
        errors.invalid(&path.child("partition"), number, format::between(1, 255));
    }
}

/// The name of a CSI driver.
pub fn driver_name(name: &str, path: &Path<'_>, errors: &mut Errors) {
    if name.is_empty() {
        errors.required(path, "");
        return;
    }
    if name.len() > 63 {
        errors.too_long(path, 63);
    }
    for fault in format::dns_subdomain(&name.to_lowercase()) {
        errors.invalid(path, name, fault);
    }
}

fn mode(holder: View<'_>, member: &str, path: &Path<'_>, errors: &mut Errors) {
    if let Some(mode) = holder.int(member).filter(|mode| !(0..=0o777).contains(mode)) {
        errors.invalid(&path.child(member), mode, MODE);
    }
}

fn keys(source: View<'_>, path: &Path<'_>, errors: &mut Errors) {
    mode(source, "defaultMode", path, errors);
    let items = path.child("items");
    for (position, item) in source.list("items").enumerate() {
        key(item, &items.index(position), errors);
    }
}

fn key(item: View<'_>, path: &Path<'_>, errors: &mut Errors) {
    require(item, "key", path, errors);
    require(item, "path", path, errors);
    local_unreserved_path(item.text("path"), &path.child("path"), errors);
    mode(item, "mode", path, errors);
}

fn downward_file(file: View<'_>, path: &Path<'_>, errors: &mut Errors) {
    const FIELDS: [&str; 5] =
        ["metadata.annotations", "metadata.labels", "metadata.name", "metadata.namespace", "metadata.uid"];
    require(file, "path", path, errors);
    local_unreserved_path(file.text("path"), &path.child("path"), errors);
    let (field, resource) = (file.at("fieldRef"), file.at("resourceFieldRef"));
    if field.exists() {
        super::container::field_ref(field, &FIELDS, &path.child("fieldRef"), errors);
        if resource.exists() {
            let detail = "fieldRef and resourceFieldRef can not be specified simultaneously";
            errors.invalid(path, "resource", detail);
        }
    } else if resource.exists() {
        super::container::resource_field_ref(resource, true, &path.child("resourceFieldRef"), errors);
    } else {
        errors.required(path, "one of fieldRef and resourceFieldRef is required");
    }
    mode(file, "mode", path, errors);
}

fn projected(volume: View<'_>, path: &Path<'_>, errors: &mut Errors) {
    let mut paths: BTreeSet<&str> = BTreeSet::new();
    let sources = path.child("sources");
    for (position, source) in volume.list("sources").enumerate() {
        let at = sources.index(position);
        let mut kinds = 0;
        for member in ["secret", "configMap"] {
            let one = source.at(member);
            if !one.exists() {
                continue;
            }
            kinds += 1;
            let at = at.child(member);
            require(one, "name", &at, errors);
            let items = at.child("items");
            for (position, item) in one.list("items").enumerate() {
                key(item, &items.index(position), errors);
                if !item.text("path").is_empty() && !paths.insert(item.text("path")) {
                    errors.invalid(path, one.text("name"), "conflicting duplicate paths");
                }
            }
        }
        if source.has("downwardAPI") {
            kinds += 1;
            for item in source.at("downwardAPI").list("items") {
                downward_file(item, &at.child("downwardAPI"), errors);
                if !item.text("path").is_empty() && !paths.insert(item.text("path")) {
                    errors.invalid(path, item.text("path"), "conflicting duplicate paths");
                }
            }
        }
        let token = source.at("serviceAccountToken");
        if token.exists() {
            kinds += 1;
            let at = at.child("serviceAccountToken");
            match token.int("expirationSeconds") {
                None => errors.required(&at.child("expirationSeconds"), ""),
                Some(seconds) => {
                    if seconds < 600 {
                        let detail = "may not specify a duration less than 10 minutes";
                        errors.invalid(&at.child("expirationSeconds"), seconds, detail);
                    }
                    if seconds > 1 << 32 {
                        let detail = "may not specify a duration larger than 2^32 seconds";
                        errors.invalid(&at.child("expirationSeconds"), seconds, detail);
                    }
                }
            }
            require(token, "path", path, errors);
            if !token.text("path").is_empty() {
                local_unreserved_path(token.text("path"), &path.child("path"), errors);
            }
        }
        if source.has("clusterTrustBundle") {
            kinds += 1;
            trust_bundle(source.at("clusterTrustBundle"), &at.child("clusterTrustBundle"), errors);
            let bundle = source.at("clusterTrustBundle").text("path");
            if !paths.insert(bundle) {
                errors.invalid(path, bundle, "conflicting duplicate paths");
            }
        }
        if source.has("podCertificate") {
            kinds += 1;
            let certificate = source.at("podCertificate");
            pod_certificate(certificate, &at.child("podCertificate"), errors);
            for member in ["credentialBundlePath", "keyPath", "certificateChainPath"] {
                let file = certificate.text(member);
                if !file.is_empty() && !paths.insert(file) {
                    errors.invalid(path, file, "conflicting duplicate paths");
                }
            }
        }
        if kinds > 1 {
            errors.forbidden(&at, "may not specify more than 1 volume type per source");
        }
    }
}

fn trust_bundle(bundle: View<'_>, path: &Path<'_>, errors: &mut Errors) {
    match (bundle.has("name"), bundle.has("signerName")) {
        (true, true) => {
            errors.invalid(path, bundle.value().clone(), "only one of name and signerName may be used");
        }
        (true, false) => {
            if bundle.text("name").is_empty() {
                errors.required(&path.child("name"), "must be a valid object name");
            }
            if bundle.has("labelSelector") {
                let selector = bundle.at("labelSelector").value().clone();
                errors.invalid(
                    &path.child("labelSelector"),
                    selector,
                    "labelSelector must be unset if name is specified",
                );
            }
        }
        (false, true) => {
            if bundle.text("signerName").is_empty() {
                errors.required(&path.child("signerName"), "must be a valid signer name");
            }
            label_selector(bundle.at("labelSelector"), &path.child("labelSelector"), errors);
        }
        (false, false) => errors.required(path, "either name or signerName must be specified"),
    }
    require(bundle, "path", path, errors);
    local_unreserved_path(bundle.text("path"), &path.child("path"), errors);
}

fn pod_certificate(certificate: View<'_>, path: &Path<'_>, errors: &mut Errors) {
    const TYPES: [&str; 6] = ["RSA3072", "RSA4096", "ECDSAP256", "ECDSAP384", "ECDSAP521", "ED25519"];
    require(certificate, "signerName", path, errors);
    if !TYPES.contains(&certificate.text("keyType")) {
        errors.not_supported(&path.child("keyType"), certificate.text("keyType"), &TYPES);
    }
    if let Some(seconds) = certificate.int("maxExpirationSeconds").filter(|seconds| *seconds < 3600) {
        let detail = "if provided, maxExpirationSeconds must be >= 3600";
        errors.invalid(&path.child("maxExpirationSeconds"), seconds, detail);
    }
    let longest = longest_lifetime(certificate.text("signerName"));
    if let Some(seconds) = certificate.int("maxExpirationSeconds").filter(|seconds| *seconds > longest) {
        let detail = format!("if provided, maxExpirationSeconds must be <= {longest}");
        errors.invalid(&path.child("maxExpirationSeconds"), seconds, detail);
    }
    let mut files = 0;
    for member in ["credentialBundlePath", "keyPath", "certificateChainPath"] {
        if !certificate.text(member).is_empty() {
            files += 1;
            local_unreserved_path(certificate.text(member), &path.child(member), errors);
        }
    }
    if files == 0 {
        let detail = "specify at least one of credentialBundlePath, keyPath, and certificateChainPath";
        errors.required(path, detail);
    }
}

/// A path below some directory: relative, without `..`.
pub fn local_path(text: &str, path: &Path<'_>, errors: &mut Errors) {
    if text.starts_with('/') {
        errors.invalid(path, text, "must be a relative path");
    }
    no_backsteps(text, path, errors);
}

/// The same, whose first part does not begin with `..` either: such names are the kubelet's.
fn local_unreserved_path(text: &str, path: &Path<'_>, errors: &mut Errors) {
    local_path(text, path, errors);
    if text.starts_with("..") && !text.starts_with("../") {
        errors.invalid(path, text, "must not start with '..'");
    }
}

/// A path without `..`.
pub fn no_backsteps(text: &str, path: &Path<'_>, errors: &mut Errors) {
    if has_backsteps(text) {
        errors.invalid(path, text, "must not contain '..'");
    }
}

/// Whether a path leads upwards.
pub fn has_backsteps(text: &str) -> bool {
    text.split('/').any(|part| part == "..")
}
