//! Makes the claims of pods' generic ephemeral volumes: each goes with its pod.
//! <https://kubernetes.io/docs/concepts/storage/ephemeral-volumes/#generic-ephemeral-volumes>

use client::{
    cache::Key,
    events::{Recorder, Severity},
    queue::{Next, Queue},
};
use k8s_openapi::{
    api::core::v1::{PersistentVolumeClaim, Pod, Volume},
    apimachinery::pkg::apis::meta::v1::OwnerReference,
};
use kube::{Api, Client, Resource, api::PostParams};
use task::Task;

use crate::{caches::Caches, hands::refusal};

/// Runs the controller.
pub fn run(task: &Task, client: &Client, caches: &Caches) {
    let queue: Queue<Key> = Queue::new(task);
    let add = queue.clone();
    caches.pods.listen(move |change| {
        let ephemeral = |pod: &Pod| {
            pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten()).any(|volume| volume.ephemeral.is_some())
        };
        if change.new.as_ref().is_some_and(|pod| pod.metadata.deletion_timestamp.is_none() && ephemeral(pod)) {
            add.add(change.key.clone());
        }
    });
    let events = Recorder::new(task, client, "ephemeral_volume", None);
    let (client, caches) = (client.clone(), caches.clone());
    queue.run("ephemeral volume", 1, move |key| {
        let (client, caches, events) = (client.clone(), caches.clone(), events.clone());
        async move {
            caches.claims.ready().await;
            let Some(pod) = caches.pods.get(&key).filter(|pod| pod.metadata.deletion_timestamp.is_none()) else {
                return Ok(Next::Done);
            };
            let api: Api<PersistentVolumeClaim> = Api::namespaced(client, &key.namespace);
            for claim in
                pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten()).filter_map(|volume| of(&pod, volume))
            {
                if caches.claims.get(&Key::of(&claim)).is_some() {
                    continue;
                }
                match api.create(&PostParams::default(), &claim).await {
                    Ok(_) => {}
                    Err(kube::Error::Api(status)) if status.code == 409 => {}
                    Err(error) => {
                        let name = claim.metadata.name.as_deref().unwrap_or_default();
                        let message = format!("ephemeral volume {name}: create PVC: {}", refusal(&error));
                        events.say(&pod.object_ref(&()), Severity::Warning, "FailedBinding", message);
                        return Err(error);
                    }
                }
            }
            Ok::<_, kube::Error>(Next::Done)
        }
    });
}

/// The claim of a volume, if it is of that kind.
fn of(pod: &Pod, volume: &Volume) -> Option<PersistentVolumeClaim> {
    let template = volume.ephemeral.as_ref()?.volume_claim_template.as_ref()?;
    let name = pod.metadata.name.clone()?;
    let mut claim = PersistentVolumeClaim { spec: Some(template.spec.clone()), ..PersistentVolumeClaim::default() };
    let meta = template.metadata.clone().unwrap_or_default();
    claim.metadata.labels = meta.labels;
    claim.metadata.annotations = meta.annotations;
    claim.metadata.name = Some(format!("{name}-{}", volume.name));
    claim.metadata.namespace = pod.metadata.namespace.clone();
    claim.metadata.owner_references = Some(vec![OwnerReference {
        api_version: "v1".into(),
        kind: "Pod".into(),
        name,
        uid: pod.metadata.uid.clone().unwrap_or_default(),
        controller: Some(true),
        block_owner_deletion: Some(true),
    }]);
    Some(claim)
}
