//! The Pod that an agent is.
//!
//! ```text
//! init container  madang-step     the step image ─► step install /madang
//! container       as said, or one that `step wait` keeps                     working directory /madang/workspace
//! volume          madang          /madang: bin/step  steps/KEY  workspace
//! ```
//!
//! What is described in words (`agent any`, a label, `docker`) becomes one container; YAML is a Pod's own, and each of its containers is
//! given the volume. A Pod is named by the run and the key of the ask: asked for again, it is the same one. It runs as the pipeline's
//! ServiceAccount, whatever a description says.
//!
//! Descriptions follow Jenkins' kubernetes plugin (<https://plugins.jenkins.io/kubernetes/>) and docker-workflow
//! (<https://www.jenkins.io/doc/book/pipeline/docker/>).

use k8s_openapi::{
    api::core::v1::{
        Container, EmptyDirVolumeSource, EnvVar, HostAlias, LocalObjectReference, Pod, PodSecurityContext, PodSpec,
        Volume, VolumeMount,
    },
    apimachinery::pkg::apis::meta::v1::OwnerReference,
};
use serde_json::Value as Json;

use crate::{
    docker::run,
    kind::{AgentPod, PIPELINE, RUN, label},
    record::log::number,
};

/// Where the volume is in each container.
pub const PLACE: &str = "/madang";
/// The step runner.
pub const STEP: &str = "/madang/bin/step";
/// Where steps run.
pub const WORKSPACE: &str = "/madang/workspace";
/// What serves where nothing says which image.
pub const IMAGE: &str = "docker.io/library/alpine:3";
/// Names that are this page's own.
const VOLUME: &str = "madang";
const INSTALL: &str = "madang-step";
/// Bytes of a description.
const LONGEST: usize = 256 << 10;
/// Seconds that containers are given to end.
const GRACE: i64 = 5;

/// What a Pod is made from.
#[derive(Clone, Debug)]
pub struct Wanted<'a> {
    /// The run's name.
    pub run: &'a str,
    /// The run's UID.
    pub uid: &'a str,
    /// The pipeline's name.
    pub pipeline: &'a str,
    /// The ask's key.
    pub key: &'a str,
    /// The run, which owns it.
    pub owner: OwnerReference,
    /// In whose name it runs.
    pub account: &'a str,
    /// The image of the step runner.
    pub image: &'a str,
    /// Pods that serve as agents, by label.
    pub agents: &'a [AgentPod],
    /// The description of a `podTemplate` around it.
    pub template: Option<&'a Json>,
    /// The agent's kind and settings.
    pub asked: &'a Json,
}

/// A Pod that is to be made.
#[derive(Clone, Debug, PartialEq)]
pub struct Made {
    /// The Pod.
    pub pod: Pod,
    /// Where steps run that name no container.
    pub container: String,
    /// What it was asked by.
    pub label: Option<String>,
}

/// The name of an agent's Pod.
pub fn name(run: &str, uid: &str, key: &str) -> String {
    let cut: String = run.chars().take(48).collect();
    format!("{}-{:08x}", cut.trim_end_matches(['-', '.']), number(&format!("{uid}/{key}")) & 0xffff_ffff)
}

/// The Pod of an agent.
///
/// # Errors
/// The description is wrong; in words for whoever wrote it.
pub fn made(wanted: &Wanted<'_>) -> Result<Made, String> {
    let asked = wanted.asked;
    let text = |name: &str| asked.get(name).and_then(Json::as_str).filter(|text| !text.is_empty());
    let kind = text("kind").unwrap_or("any");
    let asked_label = text("label").map(str::to_owned);
    let (mut pod, container) = match kind {
        "any" | "label" | "node" => match (wanted.template, &asked_label) {
            (Some(template), _) => described(template)?,
            (None, label) => (of_label(wanted.agents, label.as_deref())?, preferred(wanted.agents, label.as_deref())),
        },
        "docker" => (of_docker(asked)?, None),
        "kubernetes" => match asked.get("inheritFrom").and_then(Json::as_str) {
            Some(inherited) if text("yaml").is_none() => {
                (of_label(wanted.agents, Some(inherited))?, preferred(wanted.agents, Some(inherited)))
            }
            _ => described(asked)?,
        },
        other => return Err(format!("there are no agents of the kind {other:?}")),
    };
    let spec = pod.spec.get_or_insert_default();
    if spec.containers.is_empty() {
        spec.containers.push(Container { name: "main".into(), ..Container::default() });
    }
    let first = spec.containers.iter().find(|container| container.name == "jnlp").unwrap_or(&spec.containers[0]);
    let container = container.unwrap_or_else(|| first.name.clone());
    if !spec.containers.iter().any(|one| one.name == container) {
        return Err(format!("the agent's Pod has no container {container:?}"));
    }
    dress(&mut pod, wanted, &container);
    Ok(Made { pod, container, label: asked_label })
}

/// Whether a Pod's labels have all that an expression asks for.
fn fits(labels: &str, asked: &str) -> bool {
    let has = |name: &str| labels.split_whitespace().any(|own| own == name.trim());
    asked.split("||").any(|side| {
        side.split("&&").all(|name| match name.trim().strip_prefix('!') {
            Some(name) => !has(name),
            None => has(name),
        })
    })
}

fn chosen<'a>(agents: &'a [AgentPod], label: Option<&str>) -> Option<&'a AgentPod> {
    match label {
        None => agents.first(),
        Some(label) => agents.iter().find(|agent| fits(&agent.labels, label)),
    }
}

fn preferred(agents: &[AgentPod], label: Option<&str>) -> Option<String> {
    chosen(agents, label)?.container.clone()
}

fn of_label(agents: &[AgentPod], label: Option<&str>) -> Result<Pod, String> {
    let agent = match (chosen(agents, label), label) {
        (Some(agent), _) => agent,
        (None, None) => return Ok(of_image(IMAGE)),
        // Without any of its own, a pipeline written for others runs all the same.
        (None, Some(_)) if agents.is_empty() => return Ok(of_image(IMAGE)),
        (None, Some(label)) => {
            let known: Vec<&str> = agents.iter().map(|agent| agent.labels.as_str()).collect();
            return Err(format!("no agent of the pipeline has the label {label:?}; there are {known:?}"));
        }
    };
    let mut pod = match &agent.yaml {
        Some(yaml) => of_yaml(yaml)?,
        None => of_image(agent.image.as_deref().unwrap_or(IMAGE)),
    };
    if let (Some(image), Some(_)) = (&agent.image, &agent.yaml)
        && let Some(first) = pod.spec.get_or_insert_default().containers.first_mut()
    {
        first.image = Some(image.clone());
    }
    Ok(pod)
}

fn of_image(image: &str) -> Pod {
    let container = Container { name: "main".into(), image: Some(image.into()), ..Container::default() };
    Pod { spec: Some(PodSpec { containers: vec![container], ..PodSpec::default() }), ..Pod::default() }
}

fn of_yaml(yaml: &str) -> Result<Pod, String> {
    if yaml.len() > LONGEST {
        return Err(format!("the agent's YAML has more than {LONGEST} bytes"));
    }
    let mut value: Json = serde_saphyr::from_str(yaml).map_err(|error| format!("the agent's YAML: {error}"))?;
    // Plugins leave these out.
    if let Some(spec) = value.get_mut("spec").and_then(Json::as_object_mut) {
        spec.entry("containers").or_insert_with(|| Json::Array(Vec::new()));
    }
    serde_json::from_value(value).map_err(|error| format!("the agent's YAML is no Pod: {error}"))
}

/// `agent { docker { image ...; args ... } }`
fn of_docker(asked: &Json) -> Result<Pod, String> {
    let image = asked.get("image").and_then(Json::as_str).unwrap_or_default();
    if image.is_empty() {
        return Err("a docker agent needs an image".into());
    }
    let image = match asked.get("registryUrl").and_then(Json::as_str).filter(|url| !url.is_empty()) {
        Some(url) => {
            let host = url.split("://").last().unwrap_or(url).trim_end_matches('/').trim_end_matches("/v1");
            if image.starts_with(host) { image.to_owned() } else { format!("{host}/{image}") }
        }
        None => image.to_owned(),
    };
    let mut pod = of_image(&image);
    let spec = pod.spec.get_or_insert_default();
    if asked.get("alwaysPull").and_then(Json::as_bool).unwrap_or_default() {
        spec.containers[0].image_pull_policy = Some("Always".into());
    }
    if let Some(secret) = asked.get("registryCredentialsId").and_then(Json::as_str).filter(|id| !id.is_empty()) {
        spec.image_pull_secrets = Some(vec![LocalObjectReference { name: secret.into() }]);
    }
    arguments(spec, asked.get("args").and_then(Json::as_str).unwrap_or_default())?;
    Ok(pod)
}

/// What of `docker run`'s arguments a Pod can have.
fn arguments(spec: &mut PodSpec, given: &str) -> Result<(), String> {
    let wanted = run::Wanted::parse(given, |_| None)?;
    if wanted.user.is_some() || wanted.group.is_some() {
        let security = spec.security_context.get_or_insert_with(PodSecurityContext::default);
        (security.run_as_user, security.run_as_group) = (wanted.user, wanted.group);
    }
    if !wanted.environment.is_empty() {
        let variables = spec.containers[0].env.get_or_insert_default();
        variables.extend(wanted.environment.into_iter().map(|(name, value)| EnvVar {
            name,
            value: Some(value),
            ..EnvVar::default()
        }));
    }
    if !wanted.hosts.is_empty() {
        let aliases = wanted.hosts.into_iter().map(|(name, ip)| HostAlias { ip, hostnames: Some(vec![name]) });
        spec.host_aliases = Some(aliases.collect());
    }
    Ok(())
}

/// `agent { kubernetes { yaml ... } }`, `podTemplate(containers: [containerTemplate(...)])`
fn described(asked: &Json) -> Result<(Pod, Option<String>), String> {
    let text = |name: &str| asked.get(name).and_then(Json::as_str).filter(|text| !text.trim().is_empty());
    let mut pod = match text("yaml") {
        Some(yaml) => of_yaml(yaml)?,
        None => Pod { spec: Some(PodSpec::default()), ..Pod::default() },
    };
    let spec = pod.spec.get_or_insert_default();
    let templates =
        ["containers", "containerTemplates"].iter().filter_map(|name| asked.get(name)?.as_array()).flatten();
    for template in templates.chain(asked.get("containerTemplate")) {
        let field = |name: &str| template.get(name).and_then(Json::as_str).filter(|text| !text.is_empty());
        let words = |name: &str| field(name).map(|text| text.split_whitespace().map(str::to_owned).collect());
        let (Some(name), Some(image)) = (field("name"), field("image")) else {
            return Err("a containerTemplate has a name and an image".into());
        };
        let variables = template.get("envVars").and_then(Json::as_array).into_iter().flatten();
        let env: Vec<EnvVar> = variables
            .filter_map(|one| {
                let field = |name: &str| one.get(name).and_then(Json::as_str).map(str::to_owned);
                Some(EnvVar {
                    name: field("key").or_else(|| field("name"))?,
                    value: field("value"),
                    ..EnvVar::default()
                })
            })
            .collect();
        spec.containers.retain(|known| known.name != name);
        spec.containers.push(Container {
            name: name.into(),
            image: Some(image.into()),
            command: words("command"),
            args: words("args"),
            env: Some(env).filter(|env| !env.is_empty()),
            tty: template.get("ttyEnabled").and_then(Json::as_bool),
            working_dir: field("workingDir").map(str::to_owned),
            ..Container::default()
        });
    }
    if let Some(selector) = text("nodeSelector") {
        let pairs = selector.split(',').filter_map(|pair| pair.split_once('='));
        let pairs = pairs.map(|(name, value)| (name.trim().to_owned(), value.trim().to_owned()));
        spec.node_selector.get_or_insert_default().extend(pairs);
    }
    if let Some(seconds) = asked.get("activeDeadlineSeconds").and_then(Json::as_i64).filter(|seconds| *seconds > 0) {
        spec.active_deadline_seconds = Some(seconds);
    }
    let container = text("defaultContainer").or_else(|| {
        let annotations = pod.metadata.annotations.as_ref()?;
        annotations.get("kubectl.kubernetes.io/default-container").map(String::as_str)
    });
    let container = container.map(str::to_owned);
    Ok((pod, container))
}

/// Gives a Pod what steps need of it.
fn dress(pod: &mut Pod, wanted: &Wanted<'_>, default: &str) {
    let meta = &mut pod.metadata;
    meta.name = Some(name(wanted.run, wanted.uid, wanted.key));
    (meta.namespace, meta.generate_name) = (None, None);
    meta.owner_references = Some(vec![wanted.owner.clone()]);
    let labels = meta.labels.get_or_insert_default();
    labels.insert(PIPELINE.to_owned(), label(wanted.pipeline));
    labels.insert(RUN.to_owned(), label(wanted.run));
    meta.annotations
        .get_or_insert_default()
        .insert("kubectl.kubernetes.io/default-container".into(), default.to_owned());
    let spec = pod.spec.get_or_insert_default();
    spec.restart_policy = Some("Never".into());
    spec.service_account_name = Some(wanted.account.to_owned());
    spec.service_account = None;
    spec.termination_grace_period_seconds.get_or_insert(GRACE);
    let volumes = spec.volumes.get_or_insert_default();
    volumes.retain(|volume| volume.name != VOLUME);
    let empty_dir = Some(EmptyDirVolumeSource::default());
    volumes.push(Volume { name: VOLUME.into(), empty_dir, ..Volume::default() });
    let mount = VolumeMount { name: VOLUME.into(), mount_path: PLACE.into(), ..VolumeMount::default() };
    for container in &mut spec.containers {
        let mounts = container.volume_mounts.get_or_insert_default();
        mounts.retain(|known| known.mount_path != PLACE && known.name != VOLUME);
        mounts.push(mount.clone());
        if container.working_dir.as_deref().is_none_or(str::is_empty) || container.name == "jnlp" {
            container.working_dir = Some(WORKSPACE.into());
        }
        let own = container.command.as_ref().is_some_and(|words| !words.is_empty())
            || container.args.as_ref().is_some_and(|words| !words.is_empty());
        // What has no command of its own would run its image's, and end.
        let waits = container.name == default && !own || container.name == "jnlp" || container.name == "main" && !own;
        if waits {
            container.command = Some(vec![STEP.into(), "step".into(), "wait".into()]);
            container.args = None;
        }
    }
    let install = Container {
        name: INSTALL.into(),
        image: Some(wanted.image.into()),
        args: Some(["step", "install", PLACE].map(str::to_owned).to_vec()),
        volume_mounts: Some(vec![mount]),
        ..Container::default()
    };
    let before = spec.init_containers.get_or_insert_default();
    before.retain(|container| container.name != INSTALL);
    before.insert(0, install);
}

#[cfg(test)]
mod tests;
