//! Pods that a controller's selector names: found, adopted, released.
//! <https://kubernetes.io/docs/concepts/workloads/controllers/replicaset/#how-a-replicaset-works>

use std::sync::Arc;

use client::selector::matches;
use k8s_openapi::{
    api::core::v1::Pod,
    apimachinery::pkg::apis::meta::v1::{LabelSelector, OwnerReference},
};
use kube::{
    Api, Client,
    api::{ApiResource, DynamicObject, Patch, PatchParams},
};
use serde_json::json;

use crate::pods::{Claim, claim, forgive_missing};

/// A controller's object that owns pods.
#[derive(Clone, Copy, Debug)]
pub struct Owner<'a> {
    /// The reference that its pods carry.
    pub reference: &'a OwnerReference,
    /// The resource name of its kind.
    pub plural: &'static str,
    /// Its namespace.
    pub namespace: &'a str,
    /// The pods that it may have.
    pub selector: &'a LabelSelector,
    /// Whether it is being deleted: then it adopts nothing.
    pub leaving: bool,
    /// A finalizer that adopted pods get.
    pub finalizer: Option<&'static str>,
}

impl Owner<'_> {
    /// Those of `pods` that are the owner's, orphans adopted and strangers released. `fits` narrows the selector.
    pub async fn claim(
        &self,
        client: &Client,
        pods: Vec<Arc<Pod>>,
        fits: impl Fn(&Pod) -> bool,
    ) -> kube::Result<Vec<Arc<Pod>>> {
        let api: Api<Pod> = Api::namespaced(client.clone(), self.namespace);
        let uid = self.reference.uid.as_str();
        let mut mine = Vec::new();
        let mut stays = None;
        for pod in pods {
            let selected = matches(self.selector, pod.metadata.labels.as_ref()) && fits(&pod);
            let leaving = pod.metadata.deletion_timestamp.is_some();
            let name = pod.metadata.name.as_deref().unwrap_or_default();
            match claim(pod.metadata.owner_references.as_ref(), uid, selected, leaving) {
                Claim::Mine => mine.push(pod),
                Claim::Foreign => {}
                Claim::Adopt if self.leaving => {}
                Claim::Adopt => {
                    // The cache may lag: an owner that was just told to leave its pods behind must not take them back.
                    let stays = match stays {
                        Some(known) => known,
                        None => *stays.insert(self.stays(client).await?),
                    };
                    if !stays {
                        continue;
                    }
                    let mut metadata = json!({"uid": pod.metadata.uid, "ownerReferences": [self.reference]});
                    if let Some(finalizer) = self.finalizer {
                        metadata["finalizers"] = json!([finalizer]);
                    }
                    let patch = Patch::Strategic(json!({ "metadata": metadata }));
                    if let Some(pod) = forgive_missing(api.patch(name, &PatchParams::default(), &patch).await)? {
                        mine.push(Arc::new(pod));
                    }
                }
                Claim::Release => {
                    let mut metadata =
                        json!({"uid": pod.metadata.uid, "ownerReferences": [{"$patch": "delete", "uid": uid}]});
                    if let Some(finalizer) = self.finalizer {
                        metadata["$deleteFromPrimitiveList/finalizers"] = json!([finalizer]);
                    }
                    let patch = Patch::Strategic(json!({ "metadata": metadata }));
                    forgive_missing(api.patch(name, &PatchParams::default(), &patch).await)?;
                }
            }
        }
        Ok(mine)
    }

    /// Asks the API server whether the owner is there and not being deleted.
    async fn stays(&self, client: &Client) -> kube::Result<bool> {
        let (group, version) = self.reference.api_version.split_once('/').unwrap_or(("", &self.reference.api_version));
        let resource = ApiResource {
            group: group.to_owned(),
            version: version.to_owned(),
            api_version: self.reference.api_version.clone(),
            kind: self.reference.kind.clone(),
            plural: self.plural.to_owned(),
        };
        let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), self.namespace, &resource);
        match api.get_metadata(&self.reference.name).await {
            Ok(found) => Ok(found.metadata.uid.as_deref() == Some(self.reference.uid.as_str())
                && found.metadata.deletion_timestamp.is_none()),
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(false),
            Err(error) => Err(error),
        }
    }
}
