//! Volumes and what is stored in objects: claims, classes, attachments, config maps, secrets.
//! <https://github.com/kubernetes/kube-state-metrics/tree/main/docs/metrics/storage>

use counts::page::Page;
use k8s_openapi::api::{
    core::v1::{ConfigMap, PersistentVolume, PersistentVolumeClaim, PersistentVolumeSpec, Secret},
    storage::v1::{StorageClass, VolumeAttachment},
};

use super::{
    Allowed,
    rows::{Rows, amount_of, number, text},
};

/// Where a claim's class stood before it had a field.
const OLD_CLASS: &str = "volume.beta.kubernetes.io/storage-class";

pub(super) fn config_map(page: &mut Page, allowed: &Allowed, object: &ConfigMap) {
    let meta = &object.metadata;
    let mut rows = Rows::new(page, &[("namespace", text(&meta.namespace)), ("configmap", text(&meta.name))]);
    rows.life("kube_configmap_created", None, meta);
    rows.version("kube_configmap_metadata_resource_version", meta);
    rows.allowed("kube_configmap_labels", "kube_configmap_annotations", allowed, meta);
    rows.info("kube_configmap_info", &[]);
}

pub(super) fn secret(page: &mut Page, allowed: &Allowed, object: &Secret) {
    let meta = &object.metadata;
    let mut rows = Rows::new(page, &[("namespace", text(&meta.namespace)), ("secret", text(&meta.name))]);
    rows.life("kube_secret_created", None, meta);
    rows.version("kube_secret_metadata_resource_version", meta);
    rows.allowed("kube_secret_labels", "kube_secret_annotations", allowed, meta);
    rows.owners("kube_secret_owner", &meta.owner_references, true);
    rows.info("kube_secret_info", &[]);
    rows.info("kube_secret_type", &[("type", text(&object.type_))]);
}

pub(super) fn claim(page: &mut Page, allowed: &Allowed, object: &PersistentVolumeClaim) {
    let meta = &object.metadata;
    let mut rows =
        Rows::new(page, &[("namespace", text(&meta.namespace)), ("persistentvolumeclaim", text(&meta.name))]);
    rows.life("kube_persistentvolumeclaim_created", Some("kube_persistentvolumeclaim_deletion_timestamp"), meta);
    rows.allowed("kube_persistentvolumeclaim_labels", "kube_persistentvolumeclaim_annotations", allowed, meta);
    let (spec, status) = (object.spec.clone().unwrap_or_default(), object.status.clone().unwrap_or_default());
    let annotated = meta.annotations.as_ref().and_then(|map| map.get(OLD_CLASS));
    rows.info(
        "kube_persistentvolumeclaim_info",
        &[
            ("storageclass", annotated.or(spec.storage_class_name.as_ref()).map_or("", String::as_str)),
            ("volumename", text(&spec.volume_name)),
            ("volumemode", text(&spec.volume_mode)),
        ],
    );
    let phases = ["Lost", "Bound", "Pending"];
    rows.one_of("kube_persistentvolumeclaim_status_phase", "phase", &phases, status.phase.as_deref());
    let requests = spec.resources.as_ref().and_then(|resources| resources.requests.as_ref());
    let bytes = requests.and_then(|requests| requests.get("storage")).map(amount_of);
    rows.numbers([("kube_persistentvolumeclaim_resource_requests_storage_bytes", bytes)]);
    for mode in spec.access_modes.iter().flatten() {
        rows.info("kube_persistentvolumeclaim_access_mode", &[("access_mode", mode)]);
    }
    for condition in status.conditions.iter().flatten() {
        let labels = [("condition", text(&condition.type_))];
        rows.condition("kube_persistentvolumeclaim_status_condition", "status", &labels, text(&condition.status));
    }
}

pub(super) fn volume(page: &mut Page, allowed: &Allowed, object: &PersistentVolume) {
    let meta = &object.metadata;
    let mut rows = Rows::new(page, &[("persistentvolume", text(&meta.name))]);
    rows.life("kube_persistentvolume_created", Some("kube_persistentvolume_deletion_timestamp"), meta);
    rows.allowed("kube_persistentvolume_labels", "kube_persistentvolume_annotations", allowed, meta);
    let phase = object.status.as_ref().and_then(|status| status.phase.as_deref());
    let phases = ["Pending", "Available", "Bound", "Released", "Failed"];
    rows.one_of("kube_persistentvolume_status_phase", "phase", &phases, phase);
    let spec = object.spec.clone().unwrap_or_default();
    if let Some(claim) = &spec.claim_ref {
        let labels = [("name", text(&claim.name)), ("claim_namespace", text(&claim.namespace))];
        rows.info("kube_persistentvolume_claim_ref", &labels);
    }
    let bytes = spec.capacity.as_ref().and_then(|capacity| capacity.get("storage")).map(amount_of);
    rows.numbers([("kube_persistentvolume_capacity_bytes", bytes)]);
    if let Some(mode) = &spec.volume_mode {
        rows.info("kube_persistentvolume_volume_mode", &[("volumemode", mode)]);
    }
    source(&mut rows, &spec);
}

/// What a volume is made of: one of many, and all of them have labels.
fn source(rows: &mut Rows<'_>, spec: &PersistentVolumeSpec) {
    let channel = spec.fc.clone().unwrap_or_default();
    let joined = |list: Option<Vec<String>>| list.unwrap_or_default().join(",");
    let channel_lun = channel.lun.map(|lun| lun.to_string()).unwrap_or_default();
    let (ids, targets) = (joined(channel.wwids), joined(channel.target_wwns));
    let iscsi = spec.iscsi.as_ref();
    let lun = iscsi.map(|iscsi| iscsi.lun.to_string()).unwrap_or_default();
    let (nfs, csi) = (spec.nfs.as_ref(), spec.csi.as_ref());
    let (local, host) = (spec.local.as_ref(), spec.host_path.as_ref());
    rows.info(
        "kube_persistentvolume_info",
        &[
            ("storageclass", text(&spec.storage_class_name)),
            ("gce_persistent_disk_name", spec.gce_persistent_disk.as_ref().map_or("", |disk| &disk.pd_name)),
            ("ebs_volume_id", spec.aws_elastic_block_store.as_ref().map_or("", |disk| &disk.volume_id)),
            ("azure_disk_name", spec.azure_disk.as_ref().map_or("", |disk| &disk.disk_name)),
            ("fc_wwids", &ids),
            ("fc_lun", &channel_lun),
            ("fc_target_wwns", &targets),
            ("iscsi_target_portal", iscsi.map_or("", |iscsi| &iscsi.target_portal)),
            ("iscsi_iqn", iscsi.map_or("", |iscsi| &iscsi.iqn)),
            ("iscsi_lun", &lun),
            ("iscsi_initiator_name", iscsi.map_or("", |iscsi| text(&iscsi.initiator_name))),
            ("nfs_server", nfs.map_or("", |nfs| &nfs.server)),
            ("nfs_path", nfs.map_or("", |nfs| &nfs.path)),
            ("csi_driver", csi.map_or("", |csi| &csi.driver)),
            ("csi_volume_handle", csi.map_or("", |csi| &csi.volume_handle)),
            ("local_path", local.map_or("", |local| &local.path)),
            ("local_fs", local.map_or("", |local| text(&local.fs_type))),
            ("host_path", host.map_or("", |host| &host.path)),
            ("host_path_type", host.map_or("", |host| text(&host.type_))),
            ("reclaim_policy", text(&spec.persistent_volume_reclaim_policy)),
        ],
    );
}

pub(super) fn class(page: &mut Page, allowed: &Allowed, object: &StorageClass) {
    let meta = &object.metadata;
    let mut rows = Rows::new(page, &[("storageclass", text(&meta.name))]);
    rows.life("kube_storageclass_created", None, meta);
    rows.allowed("kube_storageclass_labels", "kube_storageclass_annotations", allowed, meta);
    rows.info(
        "kube_storageclass_info",
        &[
            ("provisioner", &object.provisioner),
            ("reclaim_policy", object.reclaim_policy.as_deref().unwrap_or("Delete")),
            ("volume_binding_mode", object.volume_binding_mode.as_deref().unwrap_or("Immediate")),
        ],
    );
}

pub(super) fn attachment(page: &mut Page, _: &Allowed, object: &VolumeAttachment) {
    let meta = &object.metadata;
    let mut rows = Rows::new(page, &[("volumeattachment", text(&meta.name))]);
    rows.life("kube_volumeattachment_created", None, meta);
    rows.mapped("kube_volumeattachment_labels", "label", meta.labels.iter().flatten());
    let spec = &object.spec;
    rows.info("kube_volumeattachment_info", &[("attacher", &spec.attacher), ("node", &spec.node_name)]);
    if let Some(volume) = &spec.source.persistent_volume_name {
        rows.info("kube_volumeattachment_spec_source_persistentvolume", &[("volumename", volume)]);
    }
    let status = object.status.clone().unwrap_or_default();
    rows.value("kube_volumeattachment_status_attached", &[], number(status.attached));
    let metadata = status.attachment_metadata.iter().flatten();
    rows.mapped("kube_volumeattachment_status_attachment_metadata", "metadata", metadata);
}
