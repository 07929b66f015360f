//! Agents: Pods that come, are waited for, and go.

use std::sync::Arc;

use client::cache::Key;
use k8s_openapi::api::core::v1::{ContainerState, Pod};
use kube::{
    Api,
    api::{DeleteParams, PostParams},
};
use serde_json::{Value as Json, json};

use super::{Failure, Far, failed, lost, text};
use crate::{
    drive::Drive,
    kind::AgentPhase,
    pod::{self, Made, WORKSPACE, Wanted},
    run::world::Ask,
};

/// How long a Pod may take to be ready, in seconds: an image may have to come from far.
const READY: u64 = 1800;
/// Reasons of Pods that the cluster has ended, and not what runs in them.
const TAKEN_AWAY: &[&str] =
    &["Evicted", "Preempting", "NodeLost", "Shutdown", "Terminated", "NodeShutdown", "NodeAffinity"];
/// Volumes' driver through which a Pod gets a socket to build through.
const BUILDS: &str = "build.madang.dev";

/// Makes an agent's Pod, and waits for it.
pub(super) async fn open(drive: &Arc<Drive>, ask: &Ask) -> Far {
    let template = ask.place.environment.iter().rev().find(|(name, _)| name == "POD_TEMPLATE");
    let template: Option<Json> = template.and_then(|(_, text)| serde_json::from_str(text).ok());
    let (mut asked, mut staged) = (ask.arguments.clone(), Json::Null);
    if asked.get("kind").and_then(Json::as_str) == Some("dockerfile") {
        let image = super::images::of_dockerfile(drive, ask).await?;
        asked["kind"] = "docker".into();
        asked["image"] = image.as_str().into();
        // Its name is whole, and the node may have it.
        asked["registryUrl"] = Json::Null;
        asked["registryCredentialsId"] = Json::Null;
        staged = image.into();
    }
    if let Some(file) = asked.get("yamlFile").and_then(Json::as_str).filter(|file| !file.is_empty()) {
        let yaml = super::files::of_sources(drive, file).await?;
        asked["yaml"] = yaml.into();
    }
    let pipeline = drive.object().borrow().spec.pipeline_ref.name.clone();
    let mut made = pod::made(&Wanted {
        run: &drive.key.name,
        uid: &drive.uid,
        pipeline: &pipeline,
        key: &ask.key,
        owner: drive.owner.clone(),
        account: &drive.begun.account,
        image: &drive.inner.settings.step_image,
        agents: &drive.begun.agents,
        template: template.as_ref(),
        asked: &asked,
    })
    .map_err(failed)?;
    if drive.inner.settings.builds && drive.begun.start.script.contains("docker") {
        give_socket(&mut made.pod);
    }
    let Made { pod, container, .. } = made;
    let name = pod.metadata.name.clone().unwrap_or_default();
    let key = Key::new(&drive.key.namespace, &name);
    let stage = ask.place.stage_id.as_deref();
    drive.container_is(&name, &container);
    drive.agent(stage, &name, AgentPhase::Starting, None);
    // Before it is made: the change that tells of it may come first.
    let mut changes = drive.inner.waiters.wait("pod", &key);
    let api: Api<Pod> = Api::namespaced(drive.inner.client.clone(), &drive.key.namespace);
    match api.create(&PostParams::default(), &pod).await {
        Ok(_) => {}
        // Made before the server was started again.
        Err(kube::Error::Api(status)) if status.code == 409 => {
            let there = api.get_opt(&name).await?;
            let own = there.and_then(|pod| pod.metadata.owner_references).unwrap_or_default();
            if !own.iter().any(|owner| owner.uid == drive.uid) {
                return Err(failed(format!("there is a Pod {name} that is not this run's")));
            }
        }
        Err(error) => return Err(Failure::from(error)),
    }
    let late = tokio::time::sleep(std::time::Duration::from_secs(READY));
    tokio::pin!(late);
    let mut seen = false;
    loop {
        changes.mark_unchanged();
        if let Some(pod) = drive.inner.hand.pods.get(&key) {
            match readiness(&pod) {
                Readiness::Ready(node) => {
                    drive.agent(stage, &name, AgentPhase::Ready, Some(&node));
                    return Ok(json!({
                        "id": name, "workspace": WORKSPACE, "name": node, "container": container, "staged": staged,
                    }));
                }
                Readiness::Never(why) => {
                    drive.agent(stage, &name, AgentPhase::Lost, None);
                    return Err(failed(format!("the agent {name} does not start: {why}")));
                }
                Readiness::Lost(why) => {
                    drive.agent(stage, &name, AgentPhase::Lost, None);
                    return Err(lost(format!("the agent {name} does not start: {why}")));
                }
                Readiness::NotYet => {}
            }
            seen = true;
        } else if seen {
            drive.agent(stage, &name, AgentPhase::Lost, None);
            return Err(lost(format!("the agent {name} does not start: it was deleted")));
        }
        tokio::select! {
            changed = changes.changed() => changed.map_err(|_| failed("the cluster is not watched any more"))?,
            () = &mut late => return Err(failed(format!("the agent {name} was not ready in {READY} seconds"))),
        }
    }
}

#[derive(Debug, PartialEq)]
enum Readiness {
    Ready(String),
    NotYet,
    /// It cannot start.
    Never(String),
    /// It could have, and was taken away.
    Lost(String),
}

/// Whether all containers of a Pod run.
fn readiness(pod: &Pod) -> Readiness {
    let Some(status) = &pod.status else { return Readiness::NotYet };
    if pod.metadata.deletion_timestamp.is_some() {
        return Readiness::Lost("it was deleted".into());
    }
    if status.reason.as_deref().is_some_and(|reason| TAKEN_AWAY.contains(&reason)) {
        return Readiness::Lost(status.message.clone().or(status.reason.clone()).unwrap_or_default());
    }
    if let Some("Failed" | "Succeeded") = status.phase.as_deref() {
        let init = status.init_container_statuses.iter().flatten();
        let ended = init.chain(status.container_statuses.iter().flatten()).find_map(|one| match &one.state {
            Some(ContainerState { terminated: Some(ended), .. }) if ended.exit_code != 0 => {
                let why = ended.message.clone().or(ended.reason.clone()).unwrap_or_default();
                Some(format!("container {} ended with {}: {why}", one.name, ended.exit_code))
            }
            _ => None,
        });
        let why = ended.or(status.message.clone()).unwrap_or_else(|| "its containers have ended".into());
        return Readiness::Never(why);
    }
    let waiting = status.init_container_statuses.iter().flatten().chain(status.container_statuses.iter().flatten());
    for one in waiting {
        let Some(ContainerState { waiting: Some(waiting), .. }) = &one.state else { continue };
        let reason = waiting.reason.as_deref().unwrap_or_default();
        if matches!(reason, "InvalidImageName" | "ErrImageNeverPull" | "CreateContainerConfigError") {
            let message = waiting.message.as_deref().unwrap_or_default();
            return Readiness::Never(format!("container {}: {reason}: {message}", one.name));
        }
    }
    let containers = status.container_statuses.as_deref().unwrap_or_default();
    let wanted = pod.spec.as_ref().map_or(0, |spec| spec.containers.len());
    let running = containers.iter().filter(|one| one.state.as_ref().is_some_and(|state| state.running.is_some()));
    if wanted > 0 && running.count() == wanted {
        let node = pod.spec.as_ref().and_then(|spec| spec.node_name.clone()).unwrap_or_default();
        return Readiness::Ready(node);
    }
    Readiness::NotYet
}

/// Has the node give a Pod a socket to build through.
fn give_socket(pod: &mut Pod) {
    use k8s_openapi::api::core::v1::{CSIVolumeSource, EnvVar, Volume, VolumeMount};
    const NAME: &str = "madang-builds";
    const PLACE: &str = "/run/madang-builds";
    let spec = pod.spec.get_or_insert_default();
    let csi = Some(CSIVolumeSource { driver: BUILDS.into(), ..CSIVolumeSource::default() });
    spec.volumes.get_or_insert_default().push(Volume { name: NAME.into(), csi, ..Volume::default() });
    for container in &mut spec.containers {
        let mount = VolumeMount { name: NAME.into(), mount_path: PLACE.into(), ..VolumeMount::default() };
        container.volume_mounts.get_or_insert_default().push(mount);
        let variables = container.env.get_or_insert_default();
        if !variables.iter().any(|variable| variable.name == "DOCKER_HOST") {
            let value = Some(format!("unix://{PLACE}/docker.sock"));
            variables.push(EnvVar { name: "DOCKER_HOST".into(), value, ..EnvVar::default() });
        }
    }
}

/// Gives an agent back.
pub(super) async fn give_back(drive: &Arc<Drive>, ask: &Ask) -> Far {
    let name = text(ask, "id");
    let api: Api<Pod> = Api::namespaced(drive.inner.client.clone(), &drive.key.namespace);
    match api.delete(name, &DeleteParams::default()).await {
        Ok(_) => {}
        Err(kube::Error::Api(status)) if status.code == 404 => {}
        Err(error) => return Err(Failure::from(error)),
    }
    drive.agent(ask.place.stage_id.as_deref(), name, AgentPhase::Released, None);
    Ok(Json::Null)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(status: Json) -> Pod {
        let pod = json!({
            "metadata": {"name": "a"},
            "spec": {"nodeName": "n", "containers": [{"name": "main"}, {"name": "tools"}]},
            "status": status,
        });
        serde_json::from_value(pod).unwrap()
    }

    fn container(name: &str, state: Json) -> Json {
        json!({"name": name, "image": "", "imageID": "", "ready": false, "restartCount": 0, "state": state})
    }

    #[test]
    fn an_agent_is_ready_when_all_its_containers_run() {
        let running = json!({"running": {}});
        let waiting = json!({"waiting": {"reason": "ContainerCreating"}});
        let both = |second: &Json| json!({"phase": "Running", "containerStatuses": [container("main", running.clone()), container("tools", second.clone())]});
        assert_eq!(readiness(&pod(both(&running))), Readiness::Ready("n".into()));
        assert_eq!(readiness(&pod(both(&waiting))), Readiness::NotYet);
        assert_eq!(readiness(&pod(json!({}))), Readiness::NotYet);
    }

    #[test]
    fn an_agent_that_never_will_be_ready_says_why() {
        let ended = json!({"terminated": {"exitCode": 3, "reason": "Error"}});
        let failed = json!({"phase": "Failed", "containerStatuses": [container("main", ended)]});
        assert_eq!(readiness(&pod(failed)), Readiness::Never("container main ended with 3: Error".into()));
        let evicted = json!({"phase": "Failed", "reason": "Evicted", "message": "no room"});
        assert_eq!(readiness(&pod(evicted)), Readiness::Lost("no room".into()));
        let image = json!({"waiting": {"reason": "InvalidImageName", "message": "A"}});
        let pending = json!({"phase": "Pending", "containerStatuses": [container("main", image)]});
        assert_eq!(readiness(&pod(pending)), Readiness::Never("container main: InvalidImageName: A".into()));
    }
}
