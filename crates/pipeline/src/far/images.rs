//! Images of a script: what `docker` in it stands for.
//!
//! `image.inside` puts a container of the image beside those of the agent's Pod, with the same workspace: an ephemeral one, which ends
//! with the Pod (<https://kubernetes.io/docs/concepts/workloads/pods/ephemeral-containers/>). Building and pushing are the docker client's,
//! in `sh`: a script that says `docker` has a socket to build through, within the rights of its ServiceAccount.

use std::sync::Arc;

use client::cache::Key;
use k8s_openapi::api::core::v1::{ContainerState, Pod};
use kube::{
    Api,
    api::{Patch, PatchParams},
};
use serde_json::{Value as Json, json};

use super::{Failure, Far, failed, flag, text};
use crate::{
    drive::Drive,
    pod::{PLACE, STEP, WORKSPACE},
    record::log::number,
    run::world::Ask,
};

/// The image of `agent { dockerfile ... }`.
pub(super) async fn of_dockerfile(_drive: &Arc<Drive>, _ask: &Ask) -> Result<String, Failure> {
    Err(failed(
        "an agent from a Dockerfile cannot be made here: build its image in a stage before, push it, and name it",
    ))
}

/// What a script asks of `docker`.
pub(super) async fn docker(drive: &Arc<Drive>, ask: &Ask) -> Far {
    match ask.name.as_str() {
        "docker.container" if flag(ask, "service") => {
            Err(failed("image.withRun: describe the service as another container of the agent's Pod"))
        }
        "docker.container" => inside(drive, ask).await,
        // It ends with its Pod.
        "docker.container.end" => Ok(Json::Null),
        // Whose credentials count is the ServiceAccount's matter.
        "docker.login" => Ok(json!({"url": text(ask, "url")})),
        "docker.login.end" => Ok(Json::Null),
        name => Err(failed(format!(
            "{name} cannot be done here: run the docker client in sh, which has a socket to build through"
        ))),
    }
}

/// A container of an image beside those of the agent's Pod.
async fn inside(drive: &Arc<Drive>, ask: &Ask) -> Far {
    let pod = ask.place.agent.clone().ok_or_else(|| failed("image.inside needs an agent"))?;
    let image = text(ask, "image");
    let name = format!("inside-{:08x}", number(&ask.key) & 0xffff_ffff);
    let key = Key::new(&drive.key.namespace, &pod);
    let mut changes = drive.inner.waiters.wait("pod", &key);
    let running = |pod: &Pod| {
        let status = pod.status.as_ref()?;
        let one = status.ephemeral_container_statuses.iter().flatten().find(|one| one.name == name)?;
        one.state.clone()
    };
    let there = drive.inner.hand.pods.get(&key).ok_or_else(|| failed(format!("the Pod {pod} is gone")))?;
    let known = there.spec.iter().flat_map(|spec| spec.ephemeral_containers.iter().flatten());
    if !known.into_iter().any(|one| one.name == name) {
        let container = json!({
            "name": name, "image": image, "command": [STEP, "step", "wait"], "workingDir": WORKSPACE,
            "volumeMounts": [{"name": "madang", "mountPath": PLACE}],
        });
        let patch = json!({"spec": {"ephemeralContainers": [container]}});
        let api: Api<Pod> = Api::namespaced(drive.inner.client.clone(), &drive.key.namespace);
        api.patch_subresource("ephemeralcontainers", &pod, &PatchParams::default(), &Patch::Strategic(patch)).await?;
    }
    loop {
        changes.mark_unchanged();
        let there = drive.inner.hand.pods.get(&key).ok_or_else(|| failed(format!("the Pod {pod} is gone")))?;
        match running(&there) {
            Some(ContainerState { running: Some(_), .. }) => return Ok(json!({"container": name, "id": name})),
            Some(ContainerState { terminated: Some(ended), .. }) => {
                let why = ended.message.or(ended.reason).unwrap_or_default();
                return Err(failed(format!("a container of {image} ended with {}: {why}", ended.exit_code)));
            }
            _ => {}
        }
        changes.changed().await.map_err(|_| failed("the cluster is not watched any more"))?;
    }
}
