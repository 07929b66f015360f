//! What the owner of a pod knows: everything that [`super::decide`] looks at and [`super::status`] shows.

use std::{collections::BTreeMap, net::IpAddr, sync::Arc, time::Duration};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, EphemeralContainer, Pod, PodStatus, ResourceRequirements};

use super::backoff::Backoff;

/// One pod, as its owner knows it.
#[derive(Clone, Debug)]
pub struct State {
    /// The newest object from the API server.
    pub pod: Arc<Pod>,
    /// Address of the node.
    pub host_ip: IpAddr,
    /// When the pod was taken on.
    pub start_time: Timestamp,
    /// Whether the node took the pod.
    pub admission: Admission,
    /// Volumes.
    pub volumes: Step,
    /// Whether they are being taken down.
    pub unmounting: bool,
    /// Whether taking them down was tried, so that the next time waits.
    pub unmount_failed: bool,
    /// The sandbox.
    pub sandbox: Sandbox,
    /// Sandboxes made so far.
    pub sandboxes: u32,
    /// All containers: init containers first, then the others, then the ephemeral ones, each in the order of the spec.
    pub containers: Vec<ContainerState>,
    /// Why the pod is ending; none while it should run.
    pub ending: Option<Ending>,
    /// Whether everything of the pod outside of the API is gone.
    pub cleaned: Step,
    /// Whether the object was deleted for good.
    pub removed: bool,
    /// Whether deletion was asked of the API server.
    pub deleting: bool,
    /// The status as it was last computed.
    pub status: PodStatus,
    /// Resources that the node has granted, by container: those of the spec, or older ones while a change of them waits.
    pub granted: BTreeMap<String, ResourceRequirements>,
    /// Resources that the node was asked to grant last.
    pub asked: BTreeMap<String, ResourceRequirements>,
    /// A change of resources that is not in force.
    pub resize: Option<Resize>,
    /// Whether the pod begins once more from its init containers.
    pub restarting: Option<Restart>,
}

/// Whether the node took the pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Admission {
    /// It is being decided.
    Pending,
    /// It did.
    Admitted,
    /// It did not.
    Rejected {
        /// CamelCase.
        reason: String,
        /// For people.
        message: String,
    },
}

/// Something that is done once, and tried again when it fails.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Not begun.
    Todo,
    /// Under way.
    Busy,
    /// Done.
    Done,
    /// Tried in vain.
    Failed {
        /// Why.
        message: String,
        /// When to try again.
        retry: Timestamp,
    },
}

/// The sandbox of a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sandbox {
    /// There is none.
    None,
    /// It is being made.
    Creating,
    /// It is there.
    Ready {
        /// Its id.
        id: String,
        /// Its address; none in the machine's network.
        ip: Option<IpAddr>,
    },
    /// It could not be made.
    Failed {
        /// Why.
        message: String,
        /// When to try again.
        retry: Timestamp,
    },
    /// It is being stopped.
    Stopping {
        /// Its id.
        id: String,
    },
    /// It was stopped; its containers' logs remain.
    Stopped {
        /// Its id.
        id: String,
    },
}

/// What a container is to its pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Runs to its end before the next one begins.
    Init,
    /// An init container that stays.
    Sidecar,
    /// One of the pod's purpose.
    Main,
    /// Added by hand, never restarted.
    Ephemeral,
}

/// One container, as the owner of its pod knows it.
#[derive(Clone, Debug)]
pub struct ContainerState {
    /// Its name.
    pub name: String,
    /// What it is to its pod.
    pub kind: Kind,
    /// Its image.
    pub image: Image,
    /// What it is doing.
    pub run: Run,
    /// Containers made so far: the attempt of the next one, and one more than the restarts.
    pub attempts: u32,
    /// How the attempt before the present one ended.
    pub last: Option<Ended>,
    /// The end of a container whose start has not been reported yet.
    pub early: Option<Ended>,
    /// When it may be started again.
    pub backoff: Backoff,
    /// Delays of pulling its image.
    pub pull_backoff: Backoff,
    /// Newest verdict of the readiness probe.
    pub ready: bool,
    /// Whether the startup probe has passed.
    pub started: bool,
}

/// The image of a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Image {
    /// Nobody has looked.
    Unknown,
    /// Being looked for or pulled.
    Busy,
    /// Present.
    Present(ImageRef),
    /// Not to be had.
    Failed {
        /// `ErrImagePull`, `ImagePullBackOff`, `InvalidImageName`, `ErrImageNeverPull` ...
        reason: String,
        /// For people.
        message: String,
        /// When to try again; never for a name that cannot be one.
        retry: Option<Timestamp>,
    },
}

/// An image that is present.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ImageRef {
    /// Config digest.
    pub id: String,
    /// What the status shows as `imageID`: `NAME@DIGEST` where the image came from a registry.
    pub reference: String,
    /// The name that was asked for.
    pub name: String,
    /// User string of the image.
    pub user: String,
}

/// What a container is doing.
#[derive(Clone, Debug, PartialEq)]
pub enum Run {
    /// Nothing yet.
    Idle,
    /// Being created and started.
    Starting,
    /// Running.
    Running(Running),
    /// Being stopped.
    Stopping(Running, Stop),
    /// Ended.
    Ended(Ended),
    /// Could not be created.
    Unable {
        /// `CreateContainerConfigError`, `CreateContainerError` ...
        reason: String,
        /// For people.
        message: String,
        /// When to try again.
        retry: Timestamp,
    },
}

/// A running container.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Running {
    /// Its id.
    pub id: String,
    /// Since when.
    pub started_at: Timestamp,
    /// Its image.
    pub image: ImageRef,
    /// Whether its limits are being changed.
    pub resizing: bool,
    /// Whether those of its pod were changed since.
    pub stale: bool,
    /// Whether its postStart hook is still running.
    pub hook: bool,
    /// User, group, further groups of its first process.
    pub user: Option<(i64, i64, Vec<i64>)>,
    /// The limits in force.
    pub resources: Option<ResourceRequirements>,
}

/// Why and how a container is being stopped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stop {
    /// When it is killed, apart from its preStop hook's two extra seconds.
    pub deadline: Timestamp,
    /// Started again whatever the restart policy says (its image changed).
    pub replace: bool,
}

/// How a container ended.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Ended {
    /// Its id.
    pub id: String,
    /// Exit code.
    pub code: i32,
    /// Signal that ended it.
    pub signal: Option<i32>,
    /// `Completed`, `Error`, `OOMKilled`, `StartError`, `ContainerStatusUnknown` ...
    pub reason: String,
    /// Its last words.
    pub message: Option<String>,
    /// When it began; none for one that never did.
    pub started_at: Option<Timestamp>,
    /// When it ended.
    pub finished_at: Timestamp,
    /// Its image.
    pub image: ImageRef,
    /// Its user.
    pub user: Option<(i64, i64, Vec<i64>)>,
    /// Started again whatever the restart policy says.
    pub replace: bool,
}

/// Why a pod is ending.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ending {
    /// Why.
    pub why: Why,
    /// Time for its containers to end by themselves.
    pub grace: Duration,
    /// Since when.
    pub since: Timestamp,
}

/// Why a pod is ending.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Why {
    /// Someone deleted it.
    Deleted,
    /// All that it was for is done, or has failed for good.
    Finished,
    /// The node ends it: a deadline, or want of something.
    Failed {
        /// CamelCase, for the status.
        reason: String,
        /// For people.
        message: String,
        /// Whether it was none of the pod's own doing, and others should start it elsewhere.
        disrupted: bool,
    },
}

/// Why a pod begins once more from its init containers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Restart {
    /// Its sandbox is a new one.
    Sandbox,
    /// A container has ended with a code for which its rules want that.
    Rule,
}

/// A resize that is not in force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Resize {
    /// Waits for room: why.
    Deferred(String),
    /// Can never be on this node: why.
    Infeasible(String),
    /// Is being applied; with what went wrong.
    InProgress(Option<String>),
}

/// Stands for the pod itself where resources are kept by container: no container has this name.
pub const WHOLE: &str = "";

/// Fields that all three kinds of containers in a pod share.
#[derive(Clone, Copy, Debug)]
pub enum Spec<'a> {
    /// Init, sidecar or main.
    Container(&'a Container),
    /// Ephemeral.
    Ephemeral(&'a EphemeralContainer),
}

impl State {
    /// The state of a pod that was just seen.
    pub fn new(pod: Arc<Pod>, host_ip: IpAddr, now: Timestamp) -> Self {
        let status = pod.status.clone().unwrap_or_default();
        let start_time = status.start_time.as_ref().map_or(now, |time| time.0);
        let mut state = Self {
            pod,
            host_ip,
            start_time,
            admission: Admission::Pending,
            volumes: Step::Todo,
            unmounting: false,
            unmount_failed: false,
            sandbox: Sandbox::None,
            sandboxes: 0,
            containers: Vec::new(),
            ending: None,
            cleaned: Step::Todo,
            removed: false,
            deleting: false,
            status,
            granted: BTreeMap::new(),
            asked: BTreeMap::new(),
            resize: None,
            restarting: None,
        };
        state.follow_spec();
        state.granted = state.wanted_resources();
        state.asked = state.granted.clone();
        state
    }

    /// Takes up containers of the spec that are new (ephemeral ones come while the pod runs).
    pub fn follow_spec(&mut self) {
        let Some(spec) = self.pod.spec.clone() else { return };
        let init = spec.init_containers.iter().flatten().map(|container| {
            let stays = container.restart_policy.as_deref() == Some("Always");
            (&container.name, if stays { Kind::Sidecar } else { Kind::Init })
        });
        let main = spec.containers.iter().map(|container| (&container.name, Kind::Main));
        let ephemeral = spec.ephemeral_containers.iter().flatten().map(|container| (&container.name, Kind::Ephemeral));
        for (name, kind) in init.chain(main).chain(ephemeral) {
            if self.container(name).is_none() {
                self.containers.push(ContainerState::new(name, kind));
            }
        }
    }

    /// The resources that the spec asks for, by container; those of the pod itself under [`WHOLE`].
    pub fn wanted_resources(&self) -> BTreeMap<String, ResourceRequirements> {
        let Some(spec) = &self.pod.spec else { return BTreeMap::new() };
        let all = spec.init_containers.iter().flatten().chain(&spec.containers);
        let own = all.map(|container| (container.name.clone(), container.resources.clone().unwrap_or_default()));
        own.chain(spec.resources.clone().map(|whole| (WHOLE.to_owned(), whole))).collect()
    }

    /// The pod with the resources that the node has granted in place of those of the spec.
    pub fn granted_pod(&self) -> Arc<Pod> {
        if self.wanted_resources() == self.granted {
            return self.pod.clone();
        }
        let mut pod = (*self.pod).clone();
        if let Some(spec) = &mut pod.spec {
            if let Some(granted) = self.granted.get(WHOLE) {
                spec.resources = Some(granted.clone());
            }
            for container in spec.init_containers.iter_mut().flatten().chain(&mut spec.containers) {
                if let Some(granted) = self.granted.get(&container.name) {
                    container.resources = Some(granted.clone());
                }
            }
        }
        Arc::new(pod)
    }

    /// A container by name.
    pub fn container(&self, name: &str) -> Option<&ContainerState> {
        self.containers.iter().find(|container| container.name == name)
    }

    /// A container by name.
    pub fn container_mut(&mut self, name: &str) -> Option<&mut ContainerState> {
        self.containers.iter_mut().find(|container| container.name == name)
    }

    /// The part of the pod's spec that describes a container.
    pub fn spec(&self, name: &str) -> Option<Spec<'_>> {
        container_spec(&self.pod, name)
    }

    /// The pod's restart policy.
    pub fn restart_policy(&self) -> &str {
        self.pod.spec.as_ref().and_then(|spec| spec.restart_policy.as_deref()).unwrap_or("Always")
    }

    /// The time that the pod's containers get to end by themselves.
    pub fn spec_grace(&self) -> Duration {
        let seconds = self.pod.spec.as_ref().and_then(|spec| spec.termination_grace_period_seconds).unwrap_or(30);
        Duration::from_secs(seconds.max(0).unsigned_abs())
    }

    /// `NAME_NAMESPACE(UID)`, as messages name pods.
    pub fn full_name(&self) -> String {
        let meta = &self.pod.metadata;
        let text = |value: &Option<String>| value.clone().unwrap_or_default();
        format!("{}_{}({})", text(&meta.name), text(&meta.namespace), text(&meta.uid))
    }

    /// Whether every init container has done its part: regular ones succeeded, sidecars started.
    pub fn initialized(&self) -> bool {
        let begun = || self.containers.iter().any(|container| container.kind == Kind::Main && container.attempts > 0);
        self.containers.iter().all(ContainerState::init_done) || (self.restarting.is_none() && begun())
    }
}

/// The part of a pod's spec that describes a container.
pub fn container_spec<'a>(pod: &'a Pod, name: &str) -> Option<Spec<'a>> {
    let spec = pod.spec.as_ref()?;
    let plain = spec.init_containers.iter().flatten().chain(&spec.containers);
    plain.clone().find(|container| container.name == name).map(Spec::Container).or_else(|| {
        let mut ephemeral = spec.ephemeral_containers.iter().flatten();
        ephemeral.find(|container| container.name == name).map(Spec::Ephemeral)
    })
}

impl ContainerState {
    /// A container that nobody has done anything for.
    pub fn new(name: &str, kind: Kind) -> Self {
        Self {
            name: name.to_owned(),
            kind,
            image: Image::Unknown,
            run: Run::Idle,
            attempts: 0,
            last: None,
            early: None,
            backoff: Backoff::default(),
            pull_backoff: Backoff::default(),
            ready: false,
            started: false,
        }
    }

    /// Whether a process of it may exist.
    pub fn is_active(&self) -> bool {
        matches!(self.run, Run::Starting | Run::Running(_) | Run::Stopping(..))
    }

    /// The process, if there is one.
    pub fn running(&self) -> Option<&Running> {
        match &self.run {
            Run::Running(running) | Run::Stopping(running, _) => Some(running),
            _ => None,
        }
    }

    /// Whether what comes after this init container may begin; true for containers of other kinds.
    pub fn init_done(&self) -> bool {
        match self.kind {
            Kind::Init => matches!(&self.run, Run::Ended(ended) if ended.code == 0 && !ended.replace),
            Kind::Sidecar => self.running().is_some_and(|running| !running.hook) && self.started,
            Kind::Main | Kind::Ephemeral => true,
        }
    }
}

impl<'a> Spec<'a> {
    /// The image that is asked for.
    pub fn image(self) -> &'a str {
        match self {
            Spec::Container(container) => container.image.as_deref(),
            Spec::Ephemeral(container) => container.image.as_deref(),
        }
        .unwrap_or("")
    }

    /// When to pull it.
    pub fn pull_policy(self) -> &'a str {
        let policy = match self {
            Spec::Container(container) => container.image_pull_policy.as_deref(),
            Spec::Ephemeral(container) => container.image_pull_policy.as_deref(),
        };
        policy.unwrap_or("IfNotPresent")
    }

    /// The container as a plain one: an ephemeral container has the same fields but for some that it may not have.
    pub fn to_container(self) -> Container {
        match self {
            Spec::Container(container) => container.clone(),
            Spec::Ephemeral(container) => Container {
                name: container.name.clone(),
                image: container.image.clone(),
                command: container.command.clone(),
                args: container.args.clone(),
                working_dir: container.working_dir.clone(),
                env: container.env.clone(),
                env_from: container.env_from.clone(),
                resources: container.resources.clone(),
                volume_mounts: container.volume_mounts.clone(),
                termination_message_path: container.termination_message_path.clone(),
                termination_message_policy: container.termination_message_policy.clone(),
                image_pull_policy: container.image_pull_policy.clone(),
                security_context: container.security_context.clone(),
                stdin: container.stdin,
                stdin_once: container.stdin_once,
                tty: container.tty,
                ..Default::default()
            },
        }
    }

    /// A plain container; ephemeral ones have no probes, hooks or restart policy.
    pub fn plain(self) -> Option<&'a Container> {
        match self {
            Spec::Container(container) => Some(container),
            Spec::Ephemeral(_) => None,
        }
    }
}
