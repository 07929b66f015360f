//! Binds claims and volumes to each other.
//!
//! ```text
//! claim:   Pending ─► Bound ─► Lost (its volume is gone)
//! volume:  Available ─► Bound ─► Released (its claim is gone)
//! ```
//! Both name each other once they are bound: the volume first, so that no other claim gets it, then the claim. What a crash
//! leaves half done is taken up where it stands.

use std::sync::Arc;

use client::{
    cache::Key,
    events::{Recorder, Severity},
    queue::{Next, Queue},
    volumes::{BIND_COMPLETED, BOUND_BY_CONTROLLER, SELECTED_NODE, annotation, class_of_claim, find, is_bound, is_for},
};
use jiff::Timestamp;
use k8s_openapi::{
    api::core::v1::{
        ObjectReference, PersistentVolume, PersistentVolumeClaim, PersistentVolumeClaimStatus, PersistentVolumeStatus,
    },
    apimachinery::pkg::apis::meta::v1::Time,
};
use kube::{Api, Client, Resource, api::PostParams};
use task::Task;

use crate::caches::Caches;

/// The annotation that names who is to make a volume for a claim.
pub const PROVISIONER: &str = "volume.kubernetes.io/storage-provisioner";
const OLD_PROVISIONER: &str = "volume.beta.kubernetes.io/storage-provisioner";
/// What a class names as its provisioner if nobody makes its volumes.
const NOBODY: &str = "kubernetes.io/no-provisioner";

#[derive(Clone)]
struct Binder {
    client: Client,
    caches: Caches,
    events: Recorder,
    claims: Queue<Key>,
}

/// Runs the binder.
pub fn run(task: &Task, client: &Client, caches: &Caches) {
    let claims: Queue<Key> = Queue::new(task);
    let volumes: Queue<Key> = Queue::new(task);
    let (add, other) = (claims.clone(), volumes.clone());
    caches.claims.listen(move |change| {
        add.add(change.key.clone());
        let named = |claim: &Option<Arc<PersistentVolumeClaim>>| {
            let name = claim.as_ref()?.spec.as_ref()?.volume_name.clone()?;
            Some(Key::new("", &name))
        };
        named(&change.old).into_iter().chain(named(&change.new)).for_each(|key| other.add(key));
    });
    let (add, other, all) = (volumes.clone(), claims.clone(), caches.claims.clone());
    caches.volumes.listen(move |change| {
        add.add(change.key.clone());
        match change.new.as_ref().or(change.old.as_ref()).and_then(|volume| claim_key(volume)) {
            Some(key) => other.add(key),
            // A volume that is free may be what a claim waits for.
            None => all.list().iter().filter(|claim| !is_bound(claim)).for_each(|claim| other.add(Key::of(&**claim))),
        }
    });
    let (other, all) = (claims.clone(), caches.claims.clone());
    caches.classes.listen(move |change| {
        let waits =
            |claim: &&Arc<PersistentVolumeClaim>| !is_bound(claim) && class_of_claim(claim) == &*change.key.name;
        all.list().iter().filter(waits).for_each(|claim| other.add(Key::of(&**claim)));
    });
    let binder = Binder {
        client: client.clone(),
        caches: caches.clone(),
        events: Recorder::new(task, client, "persistentvolume-controller", None),
        claims: claims.clone(),
    };
    let mine = binder.clone();
    // One worker each: two claims must not be given the same volume.
    claims.run("claim", 1, move |key| {
        let binder = mine.clone();
        async move { binder.claim(&key).await }
    });
    volumes.run("volume", 1, move |key| {
        let binder = binder.clone();
        async move { binder.volume(&key).await }
    });
}

/// The claim that a volume is bound to or set aside for.
fn claim_key(volume: &PersistentVolume) -> Option<Key> {
    let reference = volume.spec.as_ref()?.claim_ref.as_ref()?;
    Some(Key::new(reference.namespace.as_deref()?, reference.name.as_deref()?))
}

/// What becomes of a claim.
#[derive(Debug, PartialEq, Eq)]
enum Step {
    /// It is bound to this volume, or is to be.
    Bind(String),
    /// It waits, for this reason and message.
    Wait(Option<(&'static str, String)>),
    /// This provisioner is to make a volume.
    Provision(String),
    /// Its volume is gone or another's.
    Lost(&'static str, &'static str),
}

/// Decides. `delayed` tells whether the claim's class waits for a pod; `provisioner` who makes its volumes.
fn step(
    claim: &PersistentVolumeClaim,
    volumes: &[Arc<PersistentVolume>],
    delayed: bool,
    provisioner: Option<&str>,
) -> Step {
    let named = claim.spec.as_ref().and_then(|spec| spec.volume_name.as_deref()).filter(|name| !name.is_empty());
    let holder = |volume: &PersistentVolume| volume.spec.as_ref().is_some_and(|spec| spec.claim_ref.is_some());
    if let Some(name) = named {
        let volume = volumes.iter().find(|volume| volume.metadata.name.as_deref() == Some(name));
        let completed = annotation(claim, BIND_COMPLETED).is_some();
        return match volume {
            Some(volume) if is_for(volume, claim) || !holder(volume) => Step::Bind(name.to_owned()),
            Some(_) if completed => {
                Step::Lost("ClaimMisbound", "Two claims are bound to the same volume, this one is bound incorrectly")
            }
            Some(_) => {
                let message = format!("volume {name:?} already bound to a different claim.");
                Step::Wait(Some(("FailedBinding", message)))
            }
            None if completed => {
                Step::Lost("ClaimLost", "Bound claim has lost its PersistentVolume. Data on the volume is lost!")
            }
            None => Step::Wait(None),
        };
    }
    let chosen = annotation(claim, SELECTED_NODE).is_some();
    let found = find(claim, volumes, None, |_| false).filter(|volume| is_for(volume, claim) || !delayed);
    if let Some(volume) = found {
        return Step::Bind(volume.metadata.name.clone().unwrap_or_default());
    }
    if delayed && !chosen {
        let message = "waiting for first consumer to be created before binding";
        return Step::Wait(Some(("WaitForFirstConsumer", message.into())));
    }
    match provisioner {
        Some(provisioner) if provisioner != NOBODY => Step::Provision(provisioner.to_owned()),
        _ => {
            let message = "no persistent volumes available for this claim and no storage class is set";
            Step::Wait(class_of_claim(claim).is_empty().then(|| ("FailedBinding", message.into())))
        }
    }
}

impl Binder {
    async fn claim(&self, key: &Key) -> kube::Result<Next> {
        self.caches.claims.ready().await;
        self.caches.volumes.ready().await;
        self.caches.classes.ready().await;
        let Some(claim) = self.caches.claims.get(key) else { return Ok(Next::Done) };
        let volumes = self.caches.volumes.list();
        let class = self.caches.classes.get(&Key::new("", class_of_claim(&claim)));
        let delayed =
            class.as_ref().is_some_and(|class| class.volume_binding_mode.as_deref() == Some("WaitForFirstConsumer"));
        let provisioner = class.as_ref().map(|class| class.provisioner.as_str());
        let about = claim.object_ref(&());
        match step(&claim, &volumes, delayed, provisioner) {
            Step::Bind(name) => {
                let volume = volumes.iter().find(|volume| volume.metadata.name.as_ref() == Some(&name));
                if let Some(volume) = volume {
                    self.bind(&claim, volume).await?;
                }
            }
            Step::Wait(said) => {
                if let Some((reason, message)) = said {
                    self.events.say(&about, Severity::Normal, reason, message);
                }
                self.claim_status(&claim, "Pending", None).await?;
            }
            Step::Provision(provisioner) => {
                let claim = self.ask(&claim, &provisioner).await?;
                let message = format!(
                    "Waiting for a volume to be created either by the external provisioner '{provisioner}' or manually by the system administrator. If volume creation is delayed, please verify that the provisioner is running and correctly registered."
                );
                self.events.say(&about, Severity::Normal, "ExternalProvisioning", message);
                self.claim_status(&claim, "Pending", None).await?;
            }
            Step::Lost(reason, message) => {
                if phase(&claim) != "Lost" {
                    self.events.say(&about, Severity::Warning, reason, message);
                }
                self.claim_status(&claim, "Lost", None).await?;
            }
        }
        Ok(Next::Done)
    }

    fn claims_api(&self, claim: &PersistentVolumeClaim) -> Api<PersistentVolumeClaim> {
        Api::namespaced(self.client.clone(), claim.metadata.namespace.as_deref().unwrap_or_default())
    }

    /// Names the provisioner on the claim, by which that one knows it.
    async fn ask(&self, claim: &PersistentVolumeClaim, provisioner: &str) -> kube::Result<PersistentVolumeClaim> {
        if annotation(claim, PROVISIONER) == Some(provisioner) {
            return Ok(claim.clone());
        }
        let mut changed = claim.clone();
        let annotations = changed.metadata.annotations.get_or_insert_default();
        for name in [PROVISIONER, OLD_PROVISIONER] {
            annotations.insert(name.into(), provisioner.to_owned());
        }
        let name = claim.metadata.name.as_deref().unwrap_or_default();
        self.claims_api(claim).replace(name, &PostParams::default(), &changed).await
    }

    async fn bind(&self, claim: &PersistentVolumeClaim, volume: &PersistentVolume) -> kube::Result<()> {
        let volumes: Api<PersistentVolume> = Api::all(self.client.clone());
        let volume_name = volume.metadata.name.clone().unwrap_or_default();
        let mut volume = volume.clone();
        let spec = volume.spec.get_or_insert_default();
        let holder = spec.claim_ref.as_ref();
        let known = holder.and_then(|holder| holder.uid.as_ref()) == claim.metadata.uid.as_ref();
        if !known {
            let by_user = holder.is_some();
            spec.claim_ref = Some(ObjectReference {
                api_version: Some("v1".into()),
                kind: Some("PersistentVolumeClaim".into()),
                namespace: claim.metadata.namespace.clone(),
                name: claim.metadata.name.clone(),
                uid: claim.metadata.uid.clone(),
                resource_version: claim.metadata.resource_version.clone(),
                field_path: None,
            });
            if !by_user {
                let annotations = volume.metadata.annotations.get_or_insert_default();
                annotations.insert(BOUND_BY_CONTROLLER.into(), "yes".into());
            }
            volume = volumes.replace(&volume_name, &PostParams::default(), &volume).await?;
        }
        self.volume_status(&volume, "Bound").await?;
        let mut claim = claim.clone();
        let api = self.claims_api(&claim);
        let name = claim.metadata.name.clone().unwrap_or_default();
        let spec = claim.spec.get_or_insert_default();
        let by_user = spec.volume_name.as_ref().is_some_and(|name| !name.is_empty());
        if !by_user || annotation(&claim, BIND_COMPLETED).is_none() {
            claim.spec.get_or_insert_default().volume_name = Some(volume_name);
            let annotations = claim.metadata.annotations.get_or_insert_default();
            annotations.insert(BIND_COMPLETED.into(), "yes".into());
            if !by_user {
                annotations.insert(BOUND_BY_CONTROLLER.into(), "yes".into());
            }
            claim = api.replace(&name, &PostParams::default(), &claim).await?;
        }
        self.claim_status(&claim, "Bound", Some(&volume)).await
    }

    async fn claim_status(
        &self,
        claim: &PersistentVolumeClaim,
        phase: &str,
        volume: Option<&PersistentVolume>,
    ) -> kube::Result<()> {
        let mut status: PersistentVolumeClaimStatus = claim.status.clone().unwrap_or_default();
        status.phase = Some(phase.to_owned());
        let spec = volume.and_then(|volume| volume.spec.as_ref());
        // What a bound claim has is the node's to say once the volume has grown.
        if status.capacity.is_none() || volume.is_none() {
            status.capacity = spec.and_then(|spec| spec.capacity.clone());
        }
        status.access_modes = spec.and_then(|spec| spec.access_modes.clone());
        if claim.status.as_ref() == Some(&status) {
            return Ok(());
        }
        let mut whole = claim.clone();
        whole.status = Some(status);
        let name = claim.metadata.name.as_deref().unwrap_or_default();
        match self.claims_api(claim).replace_status(name, &PostParams::default(), &whole).await {
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
            other => other.map(drop),
        }
    }

    async fn volume_status(&self, volume: &PersistentVolume, phase: &str) -> kube::Result<()> {
        let old = volume.status.as_ref();
        if old.and_then(|status| status.phase.as_deref()) == Some(phase) {
            return Ok(());
        }
        let mut whole = volume.clone();
        whole.status = Some(PersistentVolumeStatus {
            phase: Some(phase.to_owned()),
            last_phase_transition_time: Some(Time(Timestamp::now())),
            message: None,
            reason: None,
        });
        let api: Api<PersistentVolume> = Api::all(self.client.clone());
        let name = volume.metadata.name.as_deref().unwrap_or_default();
        match api.replace_status(name, &PostParams::default(), &whole).await {
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
            other => other.map(drop),
        }
    }

    async fn volume(&self, key: &Key) -> kube::Result<Next> {
        self.caches.claims.ready().await;
        self.caches.volumes.ready().await;
        let Some(volume) = self.caches.volumes.get(key) else { return Ok(Next::Done) };
        let reference = volume.spec.as_ref().and_then(|spec| spec.claim_ref.as_ref());
        let uid = reference.and_then(|reference| reference.uid.as_deref()).filter(|uid| !uid.is_empty());
        let Some(uid) = uid else {
            self.volume_status(&volume, "Available").await?;
            return Ok(Next::Done);
        };
        let claim_key = claim_key(&volume).unwrap_or_else(|| Key::new("", ""));
        let same = |claim: &PersistentVolumeClaim| claim.metadata.uid.as_deref() == Some(uid);
        let claim = match self.caches.claims.get(&claim_key).filter(|claim| same(claim)) {
            Some(claim) => Some(claim),
            // The cache may lag behind the volume's, and what is released may be deleted for good.
            None => {
                let api: Api<PersistentVolumeClaim> = Api::namespaced(self.client.clone(), &claim_key.namespace);
                api.get_opt(&claim_key.name).await?.filter(same).map(Arc::new)
            }
        };
        match claim {
            None => {
                let phase = volume.status.as_ref().and_then(|status| status.phase.as_deref());
                if phase != Some("Failed") {
                    self.volume_status(&volume, "Released").await?;
                }
            }
            Some(claim) => {
                let named = claim.spec.as_ref().and_then(|spec| spec.volume_name.as_deref()).unwrap_or_default();
                if named.is_empty() {
                    self.claims.add(claim_key);
                } else if named == &*key.name {
                    self.volume_status(&volume, "Bound").await?;
                } else if annotation(&*volume, BOUND_BY_CONTROLLER).is_some() {
                    // The claim went to another volume meanwhile: this one is free again.
                    let mut freed = (*volume).clone();
                    freed.spec.get_or_insert_default().claim_ref = None;
                    freed.metadata.annotations.get_or_insert_default().remove(BOUND_BY_CONTROLLER);
                    let api: Api<PersistentVolume> = Api::all(self.client.clone());
                    api.replace(&key.name, &PostParams::default(), &freed).await?;
                }
            }
        }
        Ok(Next::Done)
    }
}

fn phase(claim: &PersistentVolumeClaim) -> &str {
    claim.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn claim(volume: Option<&str>, annotations: Value) -> PersistentVolumeClaim {
        serde_json::from_value(
            json!({"metadata": {"name": "c", "namespace": "n", "uid": "u", "annotations": annotations},
            "spec": {"volumeName": volume, "storageClassName": "fast"}}),
        )
        .unwrap()
    }

    fn volume(holder: Option<&str>) -> Arc<PersistentVolume> {
        let reference = holder.map(|uid| json!({"namespace": "n", "name": "c", "uid": uid}));
        Arc::new(
            serde_json::from_value(json!({"metadata": {"name": "v"}, "status": {"phase": "Available"},
                "spec": {"storageClassName": "fast", "claimRef": reference}}))
            .unwrap(),
        )
    }

    #[test]
    fn a_claim_is_bound_waits_or_is_lost() {
        let none = json!({});
        let done = json!({BIND_COMPLETED: "yes"});
        let chosen = json!({SELECTED_NODE: "a"});
        let bind = || Step::Bind("v".into());
        let waits = |reason: Option<&str>| reason.map(str::to_owned);
        let cases: [(Option<&str>, &Value, Vec<Arc<PersistentVolume>>, bool, Option<&str>, Step); 9] = [
            (None, &none, vec![volume(None)], false, None, bind()),
            (None, &none, vec![volume(Some("u"))], true, None, bind()),
            (Some("v"), &none, vec![volume(None)], false, None, bind()),
            (Some("v"), &done, vec![volume(Some("u"))], false, None, bind()),
            (None, &none, vec![], false, Some("p"), Step::Provision("p".into())),
            (None, &chosen, vec![volume(None)], true, Some("p"), Step::Provision("p".into())),
            (None, &none, vec![], false, Some(NOBODY), Step::Wait(None)),
            (Some("v"), &none, vec![], false, None, Step::Wait(None)),
            (
                Some("v"),
                &done,
                vec![],
                false,
                None,
                Step::Lost("ClaimLost", "Bound claim has lost its PersistentVolume. Data on the volume is lost!"),
            ),
        ];
        for (name, annotations, volumes, delayed, provisioner, expected) in cases {
            let found = step(&claim(name, annotations.clone()), &volumes, delayed, provisioner);
            assert_eq!(found, expected, "{name:?} {annotations} {delayed}");
        }
        let reason = |step: Step| match step {
            Step::Wait(Some((reason, _))) => Some(reason.to_owned()),
            _ => None,
        };
        let delayed = step(&claim(None, none.clone()), &[volume(None)], true, Some("p"));
        assert_eq!(reason(delayed), waits(Some("WaitForFirstConsumer")));
        let taken = step(&claim(Some("v"), none), &[volume(Some("other"))], false, None);
        assert_eq!(reason(taken), waits(Some("FailedBinding")));
        assert!(matches!(
            step(&claim(Some("v"), done), &[volume(Some("other"))], false, None),
            Step::Lost("ClaimMisbound", _)
        ));
    }
}
