//! What owners have done: everything of a pod that takes time. Nothing here decides anything.

use std::{
    collections::BTreeMap,
    net::IpAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, anyhow};
use k8s_openapi::api::{
    core::v1::{Container, Pod, PodStatus},
    node::v1::RuntimeClass,
};
use kube::Api;
use runtime::{StartError, description::ContainerConfig};
use task::Task;

use super::{
    decide::{Event, ImageFailure, StartFailure},
    restore::{self, ended_of, running_of},
    state::{ImageRef, container_spec},
};
use crate::{config::Shared, env, field, hook, reach::Caller, resources, sandbox, security, volume};

/// Longest that a postStart hook may take; a container that hangs in it can be deleted at any time.
const HOOK_LIMIT: Duration = Duration::from_secs(3600);
/// Time that a container gets after its preStop hook has used up all of it.
const LAST_GRACE: Duration = Duration::from_secs(2);
/// How long a pod waits for the node's network.
const NETWORK_PATIENCE: Duration = Duration::from_secs(60);

/// Runs something that blocks.
pub async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T, String> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result.map_err(|error| format!("{error:#}")),
        Err(error) => Err(error.to_string()),
    }
}

// ---- sandbox ----------------------------------------------------------------------------------------------------------

/// Makes a pod's sandbox.
pub async fn create_sandbox(shared: &Shared, pod: &Pod, attempt: u32) -> Event {
    let own_network = pod.spec.as_ref().and_then(|spec| spec.host_network) != Some(true);
    if own_network {
        let mut ready = shared.network_ready.subscribe();
        let waiting = tokio::time::timeout(NETWORK_PATIENCE, ready.wait_for(|ready| *ready));
        if waiting.await.is_err() {
            return Event::SandboxFailed("network is not ready: the node has no pod addresses yet".into());
        }
    }
    if let Err(message) = check_handler(shared, pod).await {
        return Event::SandboxFailed(message);
    }
    let text = match tokio::fs::read_to_string(&shared.config.resolv_conf).await {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
        Err(error) => {
            let path = shared.config.resolv_conf.display();
            return Event::SandboxFailed(format!("read {path}: {error}"));
        }
    };
    let uid = pod.metadata.uid.as_deref().unwrap_or("");
    let logs = shared.pod_dir(uid).join("logs");
    let hostname = crate::register::hostname();
    let config = sandbox::describe(pod, attempt, &shared.config, &sandbox::host_dns(&text), &hostname, &logs);
    let namespace = config.namespace.clone();
    let (began, own_users) = (Instant::now(), config.own_users);
    let made = shared.runtime.run_pod_sandbox(config).await;
    shared.counts.add("kubelet_started_pods_total", &[]);
    if own_users {
        shared.counts.add("kubelet_started_user_namespaced_pods_total", &[]);
        if made.is_err() {
            shared.counts.add("kubelet_started_user_namespaced_pods_errors_total", &[]);
        }
    }
    shared.counts.took("kubelet_run_podsandbox_duration_seconds", &[("runtime_handler", "")], began.elapsed());
    shared.counts.operation("run_podsandbox", began.elapsed(), made.is_ok());
    if made.is_err() {
        shared.counts.add("kubelet_started_pods_errors_total", &[]);
        shared.counts.add("kubelet_run_podsandbox_errors_total", &[("runtime_handler", "")]);
    }
    match made {
        Ok(record) => {
            let ip: Option<IpAddr> = record.ip.map(Into::into);
            if let Some(ip) = ip {
                shared.zone.set_pod(ip, &namespace);
            }
            Event::SandboxReady(record.id, ip)
        }
        Err(error) => Event::SandboxFailed(format!("{error:#}")),
    }
}

/// Whether this node has the handler of the pod's RuntimeClass; else why not.
async fn check_handler(shared: &Shared, pod: &Pod) -> Result<(), String> {
    let name = pod.spec.as_ref().and_then(|spec| spec.runtime_class_name.as_deref()).unwrap_or("");
    if name.is_empty() {
        return Ok(());
    }
    let classes: Api<RuntimeClass> = Api::all(shared.client.clone());
    match classes.get_opt(name).await {
        Ok(Some(class)) if sandbox::HANDLERS.contains(&class.handler.as_str()) => Ok(()),
        Ok(Some(class)) => Err(format!("no runtime for {:?} is configured", class.handler)),
        Ok(None) => Err(format!("RuntimeClass.node.k8s.io {name:?} not found")),
        Err(error) => Err(format!("get RuntimeClass {name:?}: {error}")),
    }
}

/// Stops a pod's sandbox, however often that takes.
pub async fn stop_sandbox(shared: &Shared, id: &str, address: Option<IpAddr>) -> Event {
    let mut delay = Duration::from_millis(500);
    while let Err(error) = shared.runtime.stop_pod_sandbox(id).await {
        tracing::warn!(sandbox = id, error = format!("{error:#}"), "stop sandbox");
        tokio::time::sleep(delay).await;
        delay = (delay * 2).min(Duration::from_secs(30));
    }
    if let Some(ip) = address {
        shared.zone.remove_pod(ip);
    }
    Event::SandboxStopped
}

/// Removes everything of a pod from the machine.
pub async fn remove(shared: &Shared, uid: &str, namespace: &str) -> Result<(), String> {
    shared.objects.release(uid, namespace);
    shared.trust.release(uid);
    for sandbox in shared.runtime.list_sandboxes() {
        if sandbox.record.config.uid == uid {
            shared.runtime.remove_pod_sandbox(&sandbox.record.id).await.map_err(|error| format!("{error:#}"))?;
        }
    }
    let place = shared.volumes(uid);
    blocking(move || volume::remove(&place)).await
}

// ---- containers -------------------------------------------------------------------------------------------------------

/// Has the image of a container.
pub async fn fetch_image(shared: &Shared, pod: &Pod, name: String) -> Event {
    let result = match container_spec(pod, &name) {
        Some(spec) => shared.images.ensure(pod, Some(&name), spec.image(), spec.pull_policy()).await,
        None => Err(ImageFailure {
            reason: "InvalidImageName".into(),
            message: "the container is not in the spec".into(),
            again: false,
        }),
    };
    Event::Image(name, result.map(|(image, _)| image))
}

/// A container to create and start.
#[derive(Debug)]
pub struct Start {
    /// The node.
    pub shared: Shared,
    /// The pod.
    pub pod: Arc<Pod>,
    /// Its status.
    pub status: PodStatus,
    /// Id of its sandbox.
    pub sandbox: String,
    /// Name of the container.
    pub name: String,
    /// Its number.
    pub attempt: u32,
    /// Its image.
    pub image: ImageRef,
}

impl Start {
    /// Creates and starts it.
    pub async fn run(self) -> Event {
        let name = self.name.clone();
        let result = self.attempt().await;
        Event::Started(name, result)
    }

    async fn attempt(self) -> Result<super::state::Running, StartFailure> {
        self.forget_old().await;
        let (runtime, sandbox) = (self.shared.runtime.clone(), self.sandbox.clone());
        let (counts, kind) = (self.shared.counts.clone(), container_kind(&self.pod, &self.name));
        let own_users = self.pod.spec.as_ref().is_some_and(|spec| spec.host_users == Some(false));
        let config = blocking(move || self.describe()).await;
        let config = config.map_err(|message| StartFailure::Create("CreateContainerConfigError".into(), message))?;
        let began = Instant::now();
        let kind = [("container_type", kind)];
        counts.add("kubelet_started_containers_total", &kind);
        let started = runtime.run_container(&sandbox, config).await;
        counts.operation("create_and_start_container", began.elapsed(), started.is_ok());
        if let Err(error) = &started {
            let code = match error {
                StartError::Create(_) => "CreateContainerError",
                StartError::Start { .. } => "RunContainerError",
            };
            counts.add("kubelet_started_containers_errors_total", &[kind[0], ("code", code)]);
            if own_users {
                counts.add("kubelet_started_user_namespaced_pods_errors_total", &[]);
            }
        }
        match started {
            Ok(record) => Ok(running_of(&record)),
            Err(StartError::Create(error)) => {
                Err(StartFailure::Create("CreateContainerError".into(), format!("{error:#}")))
            }
            Err(StartError::Start { message, code, record }) => {
                let mut ended = ended_of(&record, None).unwrap_or_default();
                (ended.code, ended.message) = (code, Some(message));
                Err(StartFailure::Start(ended))
            }
        }
    }

    /// Of earlier containers of the name only the last one is kept, for its log and last words.
    async fn forget_old(&self) {
        let uid = self.pod.metadata.uid.as_deref().unwrap_or("");
        let sandboxes: Vec<String> = self
            .shared
            .runtime
            .list_sandboxes()
            .into_iter()
            .filter(|sandbox| sandbox.record.config.uid == uid)
            .map(|sandbox| sandbox.record.id)
            .collect();
        for id in sandboxes {
            for record in self.shared.runtime.list_containers(Some(&id)) {
                if record.config.name != self.name || record.config.attempt + 1 >= self.attempt {
                    continue;
                }
                let log = self.shared.runtime.container_log_path(&record.id);
                if let Err(error) = self.shared.runtime.remove_container(&record.id).await {
                    tracing::warn!(container = record.id, error = format!("{error:#}"), "remove old container");
                    continue;
                }
                if let Ok(log) = log {
                    let removed = blocking(move || {
                        crate::api::logs::files(&log).iter().try_for_each(|file| {
                            std::fs::remove_file(file).with_context(|| format!("remove {}", file.display()))
                        })
                    });
                    if let Err(message) = removed.await {
                        tracing::warn!(container = record.id, message, "remove the log of an old container");
                    }
                }
            }
        }
    }

    fn describe(self) -> Result<ContainerConfig> {
        let pod = &self.pod;
        let spec = container_spec(pod, &self.name).context("the container is not in the spec")?;
        let container = spec.to_container();
        let namespace = pod.metadata.namespace.as_deref().unwrap_or("default");
        let enable_links = pod.spec.as_ref().and_then(|spec| spec.enable_service_links) != Some(false);
        let services = env::linked_services(self.shared.services.list(), namespace, enable_links);
        let objects = self.shared.objects.of(namespace);
        let source = field::Source { pod, status: &self.status, allocatable: &self.shared.allocatable };
        let environment = env::build(source, &container, &objects, &services)?;
        if !environment.skipped.is_empty() {
            let keys = environment.skipped.join(", ");
            let message = format!(
                "Keys [{keys}] from envFrom were skipped since they are considered invalid environment variable names."
            );
            self.shared.recorder.pod(pod, Some(&self.name), true, "InvalidEnvironmentVariableNames", message);
        }
        let variables = environment.variables;
        let expanded = |list: &Option<Vec<String>>| -> Vec<String> {
            let value = |name: &str| variables.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone());
            list.iter().flatten().map(|text| env::expand(text, value)).collect()
        };
        let uid = pod.metadata.uid.as_deref().unwrap_or("");
        let security = security::of(pod, &container, &self.image.user, &self.shared.config.seccomp_dir)?;
        let mounts = volume::mounts(&self.shared.volumes(uid), pod, &container, &variables)?;
        let fallback = container.termination_message_policy.as_deref() == Some("FallbackToLogsOnError");
        let granted = serde_json::to_string(&container.resources.clone().unwrap_or_default())?;
        let annotations = BTreeMap::from([
            (restore::RESOURCES.to_owned(), granted),
            (restore::IMAGE_REFERENCE.to_owned(), self.image.reference.clone()),
            (restore::IMAGE_USER.to_owned(), self.image.user.clone()),
            (restore::TERMINATION_FALLBACK.to_owned(), fallback.to_string()),
        ]);
        Ok(ContainerConfig {
            name: self.name.clone(),
            attempt: self.attempt,
            image: self.image.id.clone(),
            image_name: self.image.name.clone(),
            command: expanded(&container.command),
            args: expanded(&container.args),
            working_dir: container.working_dir.clone().filter(|dir| !dir.is_empty()),
            mounts,
            devices: Vec::new(),
            resources: resources::container(pod, &container, self.shared.memory),
            security,
            stdin: container.stdin == Some(true),
            stdin_once: container.stdin_once == Some(true),
            tty: container.tty == Some(true),
            stop_signal: container.lifecycle.as_ref().and_then(|lifecycle| lifecycle.stop_signal.clone()),
            termination_message: container
                .termination_message_path
                .as_deref()
                .filter(|path| !path.is_empty())
                .map(Into::into),
            annotations,
            env: variables,
        })
    }
}

/// What a container is to its pod, as metrics call it.
fn container_kind(pod: &Pod, name: &str) -> &'static str {
    let Some(spec) = &pod.spec else { return "container" };
    if spec.init_containers.iter().flatten().any(|container| container.name == name) {
        "init_container"
    } else if spec.ephemeral_containers.iter().flatten().any(|container| container.name == name) {
        "ephemeral_container"
    } else {
        "container"
    }
}

/// Brings the limits of a running container, and of its pod, to those that `pod` says.
pub async fn resize(shared: &Shared, pod: &Pod, sandbox: &str, name: String, id: String) -> Event {
    let result = async {
        let spec = container_spec(pod, &name).context("the container is not in the spec")?;
        let container = spec.to_container();
        let whole = resources::pod(pod.spec.as_ref().context("the pod has no spec")?);
        let own = resources::container(pod, &container, shared.memory);
        let usage = shared.runtime.container_stats(&id).map_or(0, |stats| stats.memory.usage);
        if own.memory.is_some_and(|limit| limit.unsigned_abs() < usage) {
            let limit = own.memory.unwrap_or_default();
            anyhow::bail!("attempting to set container memory limit ({limit}) below current usage ({usage})");
        }
        let granted = serde_json::to_string(&container.resources.clone().unwrap_or_default())?;
        // The pod's group has to be the larger one at any time, whichever way this goes.
        // Where it becomes smaller, this fails for as long as the container's is large; then it is done below.
        if let Err(error) = shared.runtime.update_sandbox(sandbox, &whole) {
            tracing::debug!(sandbox, error = format!("{error:#}"), "the pod's group follows its containers'");
        }
        let annotations = BTreeMap::from([(restore::RESOURCES.to_owned(), granted)]);
        shared.runtime.update_container(&id, &own, annotations).await?;
        shared.runtime.update_sandbox(sandbox, &whole)
    };
    let result = result.await;
    Event::Resized(name, id, result.map_err(|error| format!("{error:#}")))
}

/// Runs the postStart hook of a container.
pub async fn post_start(task: &Task, shared: &Shared, container: Container, id: String, pod_ip: IpAddr) -> Event {
    let handler = container.lifecycle.as_ref().and_then(|lifecycle| lifecycle.post_start.as_ref());
    let result = match handler {
        Some(handler) => {
            let caller = Caller { task: task.clone(), names: shared.names.clone(), agent: hook::AGENT };
            hook::run(&caller, &shared.runtime, handler, &container, &id, pod_ip, HOOK_LIMIT).await
        }
        None => Ok(()),
    };
    Event::Hook(container.name.clone(), id, result.map_err(|error| format!("{error:#}")))
}

/// A container to stop.
#[derive(Debug)]
pub struct StopContainer {
    /// Carries its requests.
    pub task: Task,
    /// The node.
    pub shared: Shared,
    /// The pod.
    pub pod: Arc<Pod>,
    /// The container's spec; none for an ephemeral one.
    pub container: Option<Container>,
    /// Its id.
    pub id: String,
    /// Address of its pod.
    pub pod_ip: IpAddr,
    /// Time to end by itself, its hook included.
    pub grace: Duration,
    /// Whether to run its preStop hook.
    pub hook: bool,
}

impl StopContainer {
    /// Stops it. Its end is reported by the runtime.
    pub async fn run(self) {
        let began = tokio::time::Instant::now();
        let mut grace = self.grace;
        let handler = self.container.as_ref().and_then(|container| container.lifecycle.as_ref()?.pre_stop.as_ref());
        if let (true, Some(handler), Some(container)) = (self.hook, handler, &self.container) {
            let caller = Caller { task: self.task.clone(), names: self.shared.names.clone(), agent: hook::AGENT };
            let running = hook::run(&caller, &self.shared.runtime, handler, container, &self.id, self.pod_ip, grace);
            let result = match tokio::time::timeout(grace, running).await {
                Ok(result) => result,
                Err(_) => Err(anyhow!("preStop hook did not end in time")),
            };
            if let Err(error) = result {
                tracing::debug!(container = self.id, error = format!("{error:#}"), "preStop hook");
                let message = "PreStopHook failed".to_owned();
                self.shared.recorder.pod(&self.pod, Some(&container.name), true, "FailedPreStopHook", message);
            }
            grace = grace.saturating_sub(began.elapsed()).max(LAST_GRACE);
        }
        while let Err(error) = self.shared.runtime.stop_container(&self.id, grace).await {
            tracing::warn!(container = self.id, error = format!("{error:#}"), "stop container");
            grace = Duration::ZERO;
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }
}
