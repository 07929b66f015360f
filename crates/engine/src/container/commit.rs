//! `POST /commit`: an image of what a container has become.
//!
//! ```text
//! what it wrote ─────────────────────────────────────────▶ a layer    ┐
//! configuration: the request's, changes, the container's ─▶ completed ┴─▶ image, perhaps with a name
//! ```
//!
//! Specification: <https://docs.docker.com/reference/api/engine/version/v1.50/#tag/Image/operation/ImageCommit>; which
//! configuration wins: <https://github.com/moby/moby/blob/v28.2.2/daemon/commit.go>.

use std::{os::fd::OwnedFd, path::Path, sync::Arc};

use ::image::commit::{Changes, TreeOptions};
use anyhow::Context as _;
use http::Response;
use rustix::fs::{Mode, OFlags};
use serde_json::{Value, json};
use serve::Body;

use crate::{
    Engine, answer,
    call::Call,
    container::{Container, life},
    disk,
    error::{Error, Result},
    image::{self, changes},
    model::{
        self,
        config::Config,
        record::{Record, Status},
    },
};

/// Fields of a container's configuration that an image has too.
const OF_IMAGES: [&str; 12] = [
    "User",
    "ExposedPorts",
    "Env",
    "Entrypoint",
    "Cmd",
    "Volumes",
    "WorkingDir",
    "Labels",
    "StopSignal",
    "Shell",
    "Healthcheck",
    "OnBuild",
];

/// Answers.
pub(crate) async fn answer(engine: &Engine, mut call: Call) -> Result<Response<Body>> {
    let container = engine.containers().find(call.query.get("container").unwrap_or_default())?;
    let name = match call.query.filled("repo") {
        None => None,
        Some(repository) => {
            Some(image::tagged(repository, call.query.filled("tag"), "cannot commit to digest reference")?)
        }
    };
    let given: Value = call.json_or_default().await?;
    let given: Option<Config> = if given.is_null() { None } else { Some(model::lenient(given)?) };
    let wanted: Vec<String> = call.query.all("changes").map(str::to_owned).collect();
    let record = container.record();
    if matches!(record.state.status, Status::Removing | Status::Dead) {
        return Err(Error::conflict(format!("You cannot commit container {} which is being removed", record.id)));
    }
    let config = configuration(given, &wanted, &record.config)?;
    let text = |name: &str| call.query.get(name).unwrap_or_default().to_owned();
    let (comment, author) = (text("comment"), text("author"));

    let freeze = call.query.flag_or("pause", true) && record.state.is_running() && !record.state.paused;
    if freeze {
        life::pause(engine, &container, true).await?;
    }
    let made = make(engine, &record, config, &comment, &author, name.as_ref()).await;
    if freeze {
        thaw(engine, &container).await;
    }
    let made = made?;
    let shown = name.as_ref().map(oci::Reference::familiar).unwrap_or_default();
    image::tell(engine, Some(&made), "create", made.id.as_str(), made.id.as_str());
    if !shown.is_empty() {
        image::tell(engine, Some(&made), "tag", made.id.as_str(), &shown);
    }
    container.tell(engine, "commit", &[("comment", comment), ("imageID", made.id.to_string()), ("imageRef", shown)]);
    answer::created(&json!({ "Id": made.id }))
}

/// Lets a container go on, unless it has ended or somebody else did meanwhile.
async fn thaw(engine: &Engine, container: &Arc<Container>) {
    if container.look(|record| record.state.is_running() && record.state.paused)
        && let Err(error) = life::pause(engine, container, false).await
    {
        tracing::warn!(container = container.id, %error, "let a container go on after its commit");
    }
}

async fn make(
    engine: &Engine,
    record: &Record,
    config: Value,
    comment: &str,
    author: &str,
    name: Option<&oci::Reference>,
) -> Result<::image::Image> {
    let base = engine.images().get(&record.image);
    let base = base.ok_or_else(|| Error::missing(format!("No such image: {}", record.image)))?;
    let of_base = image::list::document(engine, &base)?;
    let snapshot = engine.images().find_snapshot(&Engine::snapshot_name(&record.id));
    let snapshot = snapshot.ok_or_else(|| Error::failed(format!("the files of container {} are gone", record.id)))?;
    let directory = disk::blocking(move || written(&snapshot.upper)).await?;
    let words = |list: &Option<Vec<String>>| list.clone().unwrap_or_default();
    let line = [words(&record.config.entrypoint), words(&record.config.cmd)].concat().join(" ");
    let document = document(&of_base, config, &line, comment, author, directory.is_none());
    let changes = Changes { directory, options: TreeOptions { overlay: true, newest: None } };
    let names: Vec<oci::Reference> = name.cloned().into_iter().collect();
    Ok(engine.images().commit(Some(&base), changes, document, &names).await?)
}

/// What a container wrote; none where that is nothing.
fn written(upper: &Path) -> anyhow::Result<Option<OwnedFd>> {
    let what = || format!("open {}", upper.display());
    if std::fs::read_dir(upper).with_context(what)?.next().is_none() {
        return Ok(None);
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(Some(rustix::fs::open(upper, flags, Mode::empty()).with_context(what)?))
}

/// The image's configuration: what the base says of the machine, and one more line of history.
fn document(of_base: &Value, config: Value, line: &str, comment: &str, author: &str, empty: bool) -> Value {
    let now = jiff::Timestamp::now().to_string();
    let mut history = of_base["history"].as_array().cloned().unwrap_or_default();
    let mut latest = json!({ "created": now, "created_by": line });
    if !author.is_empty() {
        latest["author"] = author.into();
    }
    if !comment.is_empty() {
        latest["comment"] = comment.into();
    }
    if empty {
        latest["empty_layer"] = true.into();
    }
    history.push(latest);
    let mut document = json!({ "created": now, "config": config, "history": history });
    if !author.is_empty() {
        document["author"] = author.into();
    }
    for name in ["architecture", "os", "variant", "os.version", "os.features"] {
        if !of_base[name].is_null() {
            document[name] = of_base[name].clone();
        }
    }
    document
}

/// The configuration of the image: the request's, or else the container's, with changes; what is left out is the container's.
fn configuration(given: Option<Config>, wanted: &[String], own: &Config) -> Result<Value> {
    let begun = shown(&given.unwrap_or_else(|| own.clone()))?;
    let changed: Config = model::lenient(changes::changed(begun, wanted)?)?;
    shown(&completed(changed, own))
}

/// The fields of a configuration that an image has.
fn shown(config: &Config) -> Result<Value> {
    let value = serde_json::to_value(config).map_err(|error| Error::failed(format!("encode: {error}")))?;
    let Value::Object(mut fields) = model::lenient(value)? else { return Err(Error::failed("encode: no object")) };
    let empty = |value: &Value| match value {
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        _ => false,
    };
    fields.retain(|name, value| OF_IMAGES.contains(&name.as_str()) && !empty(value));
    Ok(fields.into())
}

/// Fills in what a configuration leaves out.
fn completed(mut config: Config, own: &Config) -> Config {
    let text = |field: &mut String, value: &String| {
        if field.is_empty() {
            field.clone_from(value);
        }
    };
    text(&mut config.user, &own.user);
    text(&mut config.working_dir, &own.working_dir);
    text(&mut config.stop_signal, &own.stop_signal);
    let name = |pair: &String| pair.split('=').next().unwrap_or_default().to_owned();
    let known: Vec<String> = config.env.iter().map(name).collect();
    config.env.extend(own.env.iter().filter(|pair| !known.contains(&name(pair))).cloned());
    for (port, member) in &own.exposed_ports {
        config.exposed_ports.entry(port.clone()).or_insert(*member);
    }
    for (path, member) in &own.volumes {
        config.volumes.entry(path.clone()).or_insert(*member);
    }
    for (label, value) in &own.labels {
        config.labels.entry(label.clone()).or_insert_with(|| value.clone());
    }
    if config.entrypoint.as_ref().is_none_or(Vec::is_empty) {
        if config.cmd.as_ref().is_none_or(Vec::is_empty) {
            config.cmd.clone_from(&own.cmd);
        }
        if config.entrypoint.is_none() {
            config.entrypoint.clone_from(&own.entrypoint);
        }
    }
    config.healthcheck = config.healthcheck.or_else(|| own.healthcheck.clone());
    config.shell = config.shell.or_else(|| own.shell.clone());
    config
}

#[cfg(test)]
mod tests {
    use super::*;

    fn own() -> Config {
        Config {
            hostname: "h".into(),
            tty: true,
            env: vec!["A=1".into(), "B=2".into()],
            cmd: Some(vec!["sh".into()]),
            labels: [("a".to_owned(), "b".to_owned())].into(),
            ..Config::default()
        }
    }

    #[test]
    fn what_the_request_leaves_out_is_the_containers() {
        let given = Config { env: vec!["A=9".into()], ..Config::default() };
        let made = configuration(Some(given), &["CMD [\"ls\"]".into(), "USER me".into()], &own()).unwrap();
        let expected = json!({"Env": ["A=9", "B=2"], "Cmd": ["ls"], "User": "me", "Labels": {"a": "b"}});
        assert_eq!(made, expected);
    }

    #[test]
    fn without_a_request_it_is_the_containers_but_for_what_images_do_not_have() {
        let made = configuration(None, &[], &own()).unwrap();
        assert_eq!(made, json!({"Env": ["A=1", "B=2"], "Cmd": ["sh"], "Labels": {"a": "b"}}));
        assert!(configuration(None, &["RUN ls".into()], &own()).is_err());
    }

    #[test]
    fn an_entrypoint_of_the_request_keeps_the_containers_command_out() {
        let made = configuration(None, &["ENTRYPOINT [\"a\"]".into()], &own()).unwrap();
        assert_eq!((&made["Entrypoint"], &made["Cmd"]), (&json!(["a"]), &Value::Null));
    }

    #[test]
    fn history_goes_on_and_the_machine_stays() {
        let base = json!({"architecture": "amd64", "os": "linux", "history": [{"created_by": "x"}]});
        let made = document(&base, json!({}), "sh", "why", "who", true);
        assert_eq!((&made["architecture"], &made["author"]), (&json!("amd64"), &json!("who")));
        assert_eq!(made["history"].as_array().unwrap().len(), 2);
        assert_eq!(made["history"][1]["empty_layer"], true);
    }
}
