//! Images of a script: what `docker` in it stands for.
//!
//! | ask | arguments | answer |
//! |---|---|---|
//! | `docker.build` | `image`, `arguments`, `registry` | `image`, by digest; `tags` of further names; `staged` |
//! | `docker.push`, `docker.pull` | `image`, `to`, `registry` | `image` |
//! | `docker.container` | `image`, `args`, `service`, `command`, `registry` | `container`, `id` |
//! | `docker.container.end` | `id`, `service` | |
//! | `docker.login` | `registry` | `variables`, `directory` |
//!
//! Building and pushing are `Build` objects ([`super::builds`]): an image that is built is staged in the cluster's registry, pushing is a
//! build from there that changes nothing. `image.inside` puts a container of the image beside those of the agent's Pod, with the same
//! workspace: an ephemeral one, which ends with the Pod; `withRun` one that runs what its image says, and is asked to end after the block.
//! <https://kubernetes.io/docs/concepts/workloads/pods/ephemeral-containers/>

use std::sync::Arc;

use client::cache::Key;
use k8s_openapi::api::core::v1::{ContainerState, Pod};
use kube::{
    Api,
    api::{Patch, PatchParams},
};
use serde_json::{Map, Value as Json, json};

use super::{
    Failure, Far, at,
    builds::{self, Context, Job, Login},
    directory, failed, flag, lost, text,
};
use crate::{
    book,
    docker::{
        build::{Wanted, within},
        name::Name,
        run,
    },
    drive::Drive,
    hand::{At, Step, named},
    pod::{PLACE, STEP, WORKSPACE},
    record::log::number,
    run::world::Ask,
};

/// The image of `agent { dockerfile ... }`, built from the run's own sources.
pub(super) async fn of_dockerfile(drive: &Arc<Drive>, ask: &Ask) -> Result<String, Failure> {
    if drive.begun.commit.is_none() {
        return Err(failed("an agent from a Dockerfile needs sources: the script does not come from a repository"));
    }
    let wanted = Wanted::parse(text(ask, "additionalBuildArgs"), false).map_err(failed)?;
    let mut spec = wanted.spec(|name| variable(ask, name));
    let file = Some(text(ask, "filename")).filter(|file| !file.is_empty()).unwrap_or("Dockerfile");
    // Named from within the context.
    let file = wanted.file.as_deref().unwrap_or(file).trim_start_matches("./");
    spec.insert("dockerfile".into(), file.into());
    let place = builds::place(drive, ask, &drive.object().borrow().spec.pipeline_ref.name.to_lowercase());
    spec.insert("tags".into(), json!([place.to_string()]));
    let login = Login {
        host: crate::docker::name::registry(text(ask, "registryUrl")),
        credentials: text(ask, "registryCredentialsId").to_owned(),
    };
    let job = Job { part: IMAGE, spec, context: Context::Sources(text(ask, "dir").to_owned()), login };
    builds::made(&place, &builds::carry_out(drive, ask, job).await?)
}

/// What tells the build of an agent's image from others.
pub(super) const IMAGE: &str = "image";

fn variable(ask: &Ask, name: &str) -> Option<String> {
    ask.place.environment.iter().rev().find(|(known, _)| known == name).map(|(_, value)| value.clone())
}

/// What a script asks of `docker`.
pub(super) async fn docker(drive: &Arc<Drive>, ask: &Ask) -> Far {
    match ask.name.as_str() {
        "docker.build" => build(drive, ask).await,
        "docker.push" => push(drive, ask).await,
        "docker.pull" => pull(drive, ask).await,
        "docker.container" => container(drive, ask).await,
        "docker.container.end" if flag(ask, "service") => end(drive, ask).await,
        // It ends with its Pod.
        "docker.container.end" => Ok(Json::Null),
        "docker.login" => login(drive, ask).await,
        "docker.login.end" => logout(drive, ask).await,
        name => Err(failed(format!("there is no {name} here"))),
    }
}

/// `docker.build`
async fn build(drive: &Arc<Drive>, ask: &Ask) -> Far {
    let image = text(ask, "image");
    Name::parse(image).map_err(failed)?;
    let wanted = Wanted::parse(text(ask, "arguments"), true).map_err(failed)?;
    let mut spec = wanted.spec(|name| variable(ask, name));
    let at = at(drive, ask)?;
    let context = builds::below(ask, &wanted.context)?;
    if let Some(file) = &wanted.file {
        match within(&directory(ask), &wanted.context, file) {
            Some(file) => spec.insert("dockerfile".into(), file.into()),
            None => {
                let bytes = super::files::content(drive, ask, file).await?;
                let bytes =
                    String::from_utf8(bytes).map_err(|_| failed(format!("docker.build: {file} is no UTF-8")))?;
                spec.insert("dockerfileText".into(), bytes.into())
            }
        };
    }
    let place = builds::place(drive, ask, image);
    spec.insert("tags".into(), json!([place.to_string()]));
    let job = Job { part: "", spec, context: Context::Workspace(at, context), login: Login::of(ask) };
    let staged = builds::made(&place, &builds::carry_out(drive, ask, job).await?)?;
    Ok(json!({"image": staged, "staged": staged, "tags": wanted.tags}))
}

/// `image.push`: a build of nothing but the image, under the name that it is to have.
async fn push(drive: &Arc<Drive>, ask: &Ask) -> Far {
    let to = text(ask, "to");
    Name::parse(to).map_err(failed)?;
    let mut spec = Map::new();
    spec.insert("dockerfileText".into(), builds::from(text(ask, "image"))?.into());
    spec.insert("tags".into(), json!([to]));
    let job = Job { part: "", spec, context: Context::Nothing, login: Login::of(ask) };
    let status = builds::carry_out(drive, ask, job).await?;
    Ok(json!({"image": to, "digest": status.digest}))
}

/// `image.pull`: whether the registry gives it to the run's account, and into the node's cache.
async fn pull(drive: &Arc<Drive>, ask: &Ask) -> Far {
    let mut spec = Map::new();
    spec.insert("dockerfileText".into(), builds::from(text(ask, "image"))?.into());
    let job = Job { part: "", spec, context: Context::Nothing, login: Login::of(ask) };
    builds::carry_out(drive, ask, job).await?;
    Ok(json!({"image": text(ask, "image")}))
}

/// `docker.withRegistry`: a docker client in `sh` finds the credentials, too.
async fn login(drive: &Arc<Drive>, ask: &Ask) -> Far {
    let login = Login::of(ask);
    if login.credentials.is_empty() {
        return Ok(json!({"variables": {}}));
    }
    let (user, password) = super::secrets::password(drive, &login.credentials).await?;
    drive.book.secret(&password);
    let answer = json!({"variables": {}, "secrets": [password]});
    if ask.place.agent.is_none() {
        return Ok(answer);
    }
    let place = format!("{WORKSPACE}@tmp/docker/{}", named(&ask.key));
    let host = if login.host == "docker.io" { "https://index.docker.io/v1/" } else { &login.host };
    let file = builds::configuration(host, &user, &password);
    drive.inner.hand.call(&at(drive, ask)?, &["write", &format!("{place}/config.json")], Some(file.as_bytes())).await?;
    Ok(json!({"variables": {"DOCKER_CONFIG": place}, "secrets": answer["secrets"], "directory": place}))
}

async fn logout(drive: &Arc<Drive>, ask: &Ask) -> Far {
    let place = text(ask, "directory");
    if !place.is_empty() && ask.place.agent.is_some() {
        drive.inner.hand.call(&at(drive, ask)?, &["delete", place], None).await?;
    }
    Ok(Json::Null)
}

/// The state of an ephemeral container.
fn state(pod: &Pod, name: &str) -> Option<ContainerState> {
    let status = pod.status.as_ref()?;
    status.ephemeral_container_statuses.iter().flatten().find(|one| one.name == name)?.state.clone()
}

/// An ephemeral container, as a patch of its Pod has it.
fn described(name: &str, image: &str, wanted: &run::Wanted, service: bool, command: &[String]) -> Json {
    let mut container = json!({
        "name": name, "image": image,
        "volumeMounts": [{"name": "madang", "mountPath": PLACE}],
        "env": wanted.environment.iter().map(|(name, value)| json!({"name": name, "value": value})).collect::<Vec<_>>(),
    });
    let entrypoint = wanted.entrypoint.as_deref().unwrap_or_default();
    match (service, entrypoint, command) {
        (false, ..) => {
            container["command"] = json!([STEP, "step", "wait"]);
            container["workingDir"] = WORKSPACE.into();
        }
        (true, "", []) => {}
        (true, "", command) if wanted.entrypoint.is_some() => container["command"] = json!(command),
        (true, "", command) => container["args"] = json!(command),
        (true, entrypoint, command) => {
            container["command"] = json!([entrypoint]);
            container["args"] = json!(command);
        }
    }
    let mut security = Map::new();
    if let Some(user) = wanted.user {
        security.insert("runAsUser".into(), user.into());
    }
    if let Some(group) = wanted.group {
        security.insert("runAsGroup".into(), group.into());
    }
    if !security.is_empty() {
        container["securityContext"] = Json::Object(security);
    }
    container
}

/// A container of an image beside those of the agent's Pod.
async fn container(drive: &Arc<Drive>, ask: &Ask) -> Far {
    let service = flag(ask, "service");
    let what = if service { "withRun" } else { "inside" };
    let pod = ask.place.agent.clone().ok_or_else(|| failed(format!("image.{what} needs an agent")))?;
    let wanted = run::Wanted::parse(text(ask, "args"), |name| variable(ask, name)).map_err(failed)?;
    let command = run::command(text(ask, "command")).map_err(failed)?;
    let (mut image, registry, mut staged) = (text(ask, "image").to_owned(), Login::of(ask), Json::Null);
    Name::parse(&image).map_err(failed)?;
    // The node asks registries in its own way, which knows nothing of a script's credentials.
    if !registry.credentials.is_empty() && !image.starts_with(&format!("{}/", drive.inner.settings.registry)) {
        image = builds::stage(drive, ask, &image, registry).await?;
        staged = image.as_str().into();
    }
    let name = format!("{}-{:08x}", if service { "service" } else { "inside" }, number(&ask.key) & 0xffff_ffff);
    let key = Key::new(&drive.key.namespace, &pod);
    let gone = || lost(format!("the Pod {pod} is gone"));
    let mut changes = drive.inner.waiters.wait("pod", &key);
    let there = drive.inner.hand.pods.get(&key).ok_or_else(gone)?;
    let known = there.spec.iter().flat_map(|spec| spec.ephemeral_containers.iter().flatten());
    if !known.into_iter().any(|one| one.name == name) {
        let container = described(&name, &image, &wanted, service, &command);
        let patch = json!({"spec": {"ephemeralContainers": [container]}});
        let api: Api<Pod> = Api::namespaced(drive.inner.client.clone(), &drive.key.namespace);
        api.patch_subresource("ephemeralcontainers", &pod, &PatchParams::default(), &Patch::Strategic(patch)).await?;
    }
    let inner = At { pod: key.clone(), container: name.clone() };
    loop {
        changes.mark_unchanged();
        let there = drive.inner.hand.pods.get(&key).ok_or_else(gone)?;
        match state(&there, &name) {
            Some(ContainerState { running: Some(_), .. }) => break,
            Some(ContainerState { terminated: Some(ended), .. }) => {
                let why = ended.message.or(ended.reason).unwrap_or_default();
                return Err(failed(format!("a container of {image} ended with {}: {why}", ended.exit_code)));
            }
            Some(ContainerState { waiting: Some(waiting), .. })
                if matches!(waiting.reason.as_deref(), Some("InvalidImageName" | "CreateContainerConfigError")) =>
            {
                let why = waiting.message.or(waiting.reason).unwrap_or_default();
                return Err(failed(format!("a container of {image} does not start: {why}")));
            }
            _ => {}
        }
        if let Some(why) = drive.inner.hand.gone(&inner) {
            return Err(lost(why));
        }
        changes.changed().await.map_err(|_| failed("the cluster is not watched any more"))?;
    }
    names(drive, ask, &wanted, inner).await?;
    Ok(json!({"container": name, "id": name, "service": service, "staged": staged}))
}

/// Gives addresses names, in the file that all containers of a Pod have in common.
async fn names(drive: &Arc<Drive>, ask: &Ask, wanted: &run::Wanted, inner: At) -> Result<(), Failure> {
    let own = wanted.aliases.iter().map(|name| ("127.0.0.1", name));
    let given = wanted.hosts.iter().map(|(name, address)| (address.as_str(), name));
    let lines: Vec<String> = own.chain(given).map(|(address, name)| format!("{address} {name}")).collect();
    if lines.is_empty() {
        return Ok(());
    }
    let script = format!(
        "printf '%s\\n' {} >> /etc/hosts",
        lines.iter().map(|line| format!("'{line}'")).collect::<Vec<_>>().join(" ")
    );
    let outer = drive.container(&inner.pod.name).map(|container| At { container, ..inner.clone() });
    let mut code = 0;
    // The agent's own container may be a user's that may not write there, or the other way about.
    for (number, at) in outer.into_iter().chain([inner]).enumerate() {
        let step = Step {
            key: format!("{}_hosts{number}", named(&ask.key)),
            directory: "/".into(),
            script: format!("{{ {script}; }} 2>/dev/null"),
            ..Step::default()
        };
        let writer = book::of_step(&format!("{}/hosts{number}", ask.key), ask.place.stage_id.as_deref());
        code = drive.inner.hand.run(&at, &step, &drive.book, writer).await?.code;
        if code == 0 {
            return Ok(());
        }
    }
    Err(failed(format!(
        "docker args: /etc/hosts of the agent cannot be written, for {}: exit code {code}",
        lines.join(", ")
    )))
}

/// A service's block has ended: so does the service.
async fn end(drive: &Arc<Drive>, ask: &Ask) -> Far {
    let (Some(pod), name) = (ask.place.agent.clone(), text(ask, "id")) else { return Ok(Json::Null) };
    let at = At { pod: Key::new(&drive.key.namespace, &pod), container: name.to_owned() };
    let mut changes = drive.inner.waiters.wait("pod", &at.pod);
    if drive.inner.hand.gone(&at).is_some() {
        return Ok(Json::Null);
    }
    let (hand, asked) = (drive.inner.hand.clone(), at.clone());
    // It ends with the process that it ends.
    drive.task.spawn_until_cancelled("end a service", async move {
        if let Err(error) = hand.call(&asked, &["end"], None).await {
            tracing::debug!(%error, container = asked.container, "end a service");
        }
    });
    let ended = async {
        loop {
            changes.mark_unchanged();
            if drive.inner.hand.gone(&at).is_some() || changes.changed().await.is_err() {
                return;
            }
        }
    };
    if tokio::time::timeout(ENDING, ended).await.is_err() {
        let text = format!("The container {name} did not end when it was asked to: it ends with the agent\n");
        drive.book.text(&format!("service {}", ask.key), 1, ask.place.stage_id.as_deref(), &text)?;
    }
    Ok(Json::Null)
}

/// How long a service may take to end.
const ENDING: std::time::Duration = std::time::Duration::from_secs(15);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_runs_what_its_image_says_unless_it_is_told_otherwise() {
        let of = |args: &str, command: &str, service: bool| {
            let wanted = run::Wanted::parse(args, |_| None).unwrap();
            let made = described("c", "i", &wanted, service, &run::command(command).unwrap());
            (made["command"].clone(), made["args"].clone())
        };
        assert_eq!(of("", "", true), (Json::Null, Json::Null));
        assert_eq!(of("", "serve 'a b'", true), (Json::Null, json!(["serve", "a b"])));
        assert_eq!(of("--entrypoint /run", "a", true), (json!(["/run"]), json!(["a"])));
        assert_eq!(of("--entrypoint ''", "a b", true), (json!(["a", "b"]), Json::Null));
        assert_eq!(of("--entrypoint ''", "", false), (json!([STEP, "step", "wait"]), Json::Null));
        let user = described("c", "i", &run::Wanted::parse("-u 7:8 -e A=b", |_| None).unwrap(), false, &[]);
        assert_eq!(user["securityContext"], json!({"runAsUser": 7, "runAsGroup": 8}));
        assert_eq!(user["env"], json!([{"name": "A", "value": "b"}]));
    }
}
