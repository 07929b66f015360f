//! Containers in a list: `GET /containers/json`.

use std::{sync::Arc, time::SystemTime};

use http::Response;
use serde_json::{Map, Value, json};
use serve::Body;

use crate::{
    Engine, answer,
    call::Query,
    container::{Container, create, inspect},
    error::{Error, Result},
    filter::Filters,
    model::record::{Record, Status},
};

const FILTERS: &[&str] = &[
    "ancestor",
    "before",
    "expose",
    "exited",
    "health",
    "id",
    "isolation",
    "is-task",
    "label",
    "label!",
    "name",
    "network",
    "publish",
    "since",
    "status",
    "volume",
];
const STATES: &[&str] = &["created", "running", "paused", "restarting", "removing", "exited", "dead"];

pub(crate) async fn answer(engine: &Engine, query: &Query) -> Result<Response<Body>> {
    let filters = Filters::of(query, FILTERS)?;
    if let Some(bad) = filters.get("status").iter().find(|state| !STATES.contains(&state.as_str())) {
        return Err(Error::invalid(format!("invalid filter 'status={bad}'")));
    }
    let limit = query.number::<i64>("limit")?.filter(|limit| *limit > 0);
    let everything = query.flag("all")
        || limit.is_some()
        || ["status", "exited", "before", "since"].iter().any(|name| filters.has(name));
    let moment = |name: &str| -> Result<Option<SystemTime>> {
        let first = filters.get(name).first().map(|other| engine.containers().find(other)).transpose()?;
        Ok(first.map(|other| other.look(|record| record.created_at)))
    };
    let (before, since) = (moment("before")?, moment("since")?);
    let names: Vec<regex::Regex> = filters
        .get("name")
        .iter()
        .map(|text| regex::Regex::new(text).map_err(|_| Error::invalid(format!("invalid filter 'name={text}'"))))
        .collect::<Result<_>>()?;
    let images: Vec<String> =
        filters.get("ancestor").iter().filter_map(|name| Some(engine.images().get(name)?.id.to_string())).collect();
    let mut list = Vec::new();
    for container in engine.containers().all() {
        let record = container.record();
        let passes = (everything || matches!(record.state.status, Status::Running))
            && before.is_none_or(|before| record.created_at < before)
            && since.is_none_or(|since| record.created_at > since)
            && (names.is_empty()
                || names.iter().any(|name| name.is_match(&record.name) || name.is_match(&format!("/{}", record.name))))
            && (!filters.has("ancestor") || images.contains(&record.image))
            && passes(&record, &filters);
        if passes {
            list.push(container);
        }
        if limit.is_some_and(|limit| list.len() as i64 >= limit) {
            break;
        }
    }
    let mut shown = Vec::new();
    for container in list {
        shown.push(summary(engine, &container, query.flag("size")).await);
    }
    answer::json(&shown)
}

fn passes(record: &Record, filters: &Filters) -> bool {
    let health = record.state.health.as_ref().map_or("none", |health| health.status.as_str());
    let port = |wanted: &str, found: &dyn Fn(u16, &str) -> bool| match wanted.split_once('-') {
        Some((first, rest)) => {
            let (last, protocol) = rest.split_once('/').unwrap_or((rest, "tcp"));
            match (first.parse::<u16>(), last.parse::<u16>()) {
                (Ok(first), Ok(last)) => (first..=last).any(|port| found(port, protocol)),
                _ => false,
            }
        }
        None => create::port_of(wanted).is_ok_and(|(port, protocol)| found(port, protocol)),
    };
    let published = |port: u16, protocol: &str| {
        record.state.ports.iter().any(|one| one.container_port == port && one.protocol == protocol)
    };
    let exposed = |port: u16, protocol: &str| {
        record.config.exposed_ports.contains_key(&format!("{port}/{protocol}")) || published(port, protocol)
    };
    filters.labels(&record.config.labels)
        && filters.any("id", |id| record.id.starts_with(id))
        && filters.any("status", |state| record.state.word() == state)
        && filters
            .any("exited", |code| record.state.status == Status::Exited && code.parse() == Ok(record.state.exit_code))
        && filters.any("health", |wanted| health == wanted)
        && filters.any("is-task", |wanted| matches!(wanted, "false" | "0"))
        && filters.any("network", |wanted| {
            record.networks.iter().any(|(name, endpoint)| name == wanted || endpoint.network_id.starts_with(wanted))
        })
        && filters.any("volume", |wanted| {
            record
                .mounts
                .iter()
                .any(|mount| mount.name == wanted || mount.destination == wanted || mount.source == wanted)
        })
        && filters.any("publish", |wanted| port(wanted, &published))
        && filters.any("expose", |wanted| port(wanted, &exposed))
}

/// A container in a list; sizes where they are asked for.
pub(crate) async fn summary(engine: &Engine, container: &Arc<Container>, sizes: bool) -> Value {
    let record = container.record();
    let words = |list: &Option<Vec<String>>| list.clone().unwrap_or_default();
    let line = [words(&record.config.entrypoint), words(&record.config.cmd)].concat();
    let networks: Map<String, Value> =
        record.networks.iter().map(|(name, endpoint)| (name.clone(), json!(endpoint))).collect();
    // The name that it was made with, as long as that leads to its image.
    let leads = engine.images().get(&record.config.image).is_some_and(|image| image.id.to_string() == record.image);
    let seconds = record.created_at.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let mut shown = json!({
        "Id": record.id,
        "Names": [format!("/{}", record.name)],
        "Image": if leads { &record.config.image } else { &record.image },
        "ImageID": record.image,
        "Command": line.iter().map(|word| quoted(word)).collect::<Vec<_>>().join(" "),
        "Created": seconds,
        "Ports": ports(&record),
        "Labels": record.config.labels,
        "State": record.state.word(),
        "Status": status(&record, SystemTime::now()),
        "HostConfig": {"NetworkMode": record.host.network_mode},
        "NetworkSettings": {"Networks": networks},
        "Mounts": record.mounts,
    });
    if sizes {
        let own = inspect::written(engine, &record.id).await;
        shown["SizeRw"] = own.into();
        shown["SizeRootFs"] = (own + inspect::image_size(engine, &record.image)).into();
    }
    shown
}

/// A word as a shell would need it.
fn quoted(word: &str) -> String {
    if word.contains(' ') { format!("'{}'", word.replace('\'', "'\\''")) } else { word.to_owned() }
}

fn ports(record: &Record) -> Vec<Value> {
    if !record.state.is_running() {
        return Vec::new();
    }
    let mut list = Vec::new();
    for one in &record.state.ports {
        list.push(json!({"IP": one.host_ip, "PrivatePort": one.container_port, "PublicPort": one.host_port,
                         "Type": one.protocol}));
    }
    for port in record.config.exposed_ports.keys() {
        if let Ok((number, protocol)) = create::port_of(port)
            && !record.state.ports.iter().any(|one| one.container_port == number && one.protocol == protocol)
        {
            list.push(json!({"PrivatePort": number, "Type": protocol}));
        }
    }
    list
}

/// `Up 5 minutes (healthy)`.
pub(crate) fn status(record: &Record, now: SystemTime) -> String {
    let state = &record.state;
    let since = |time: Option<SystemTime>| {
        let passed = time.and_then(|time| now.duration_since(time).ok()).unwrap_or_default();
        human(passed.as_secs())
    };
    match state.status {
        Status::Created => "Created".into(),
        Status::Removing => "Removal In Progress".into(),
        Status::Dead => "Dead".into(),
        Status::Restarting => format!("Restarting ({}) {} ago", state.exit_code, since(state.finished_at)),
        Status::Exited => format!("Exited ({}) {} ago", state.exit_code, since(state.finished_at)),
        Status::Running if state.paused => format!("Up {} (Paused)", since(state.started_at)),
        Status::Running => {
            let up = since(state.started_at);
            match state.health.as_ref().map(|health| health.status.as_str()) {
                Some("starting") => format!("Up {up} (health: starting)"),
                Some(health @ ("healthy" | "unhealthy")) => format!("Up {up} ({health})"),
                _ => format!("Up {up}"),
            }
        }
    }
}

/// A duration for people, as upstream says it.
fn human(seconds: u64) -> String {
    let (minutes, hours) = (seconds / 60, (seconds + 1800) / 3600);
    match () {
        () if seconds < 1 => "Less than a second".into(),
        () if seconds == 1 => "1 second".into(),
        () if seconds < 60 => format!("{seconds} seconds"),
        () if minutes == 1 => "About a minute".into(),
        () if minutes < 60 => format!("{minutes} minutes"),
        () if hours == 1 => "About an hour".into(),
        () if hours < 48 => format!("{hours} hours"),
        () if hours < 24 * 7 * 2 => format!("{} days", hours / 24),
        () if hours < 24 * 30 * 2 => format!("{} weeks", hours / 24 / 7),
        () if hours < 24 * 365 * 2 => format!("{} months", hours / 24 / 30),
        () => format!("{} years", hours / 24 / 365),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_as_upstreams() {
        for (seconds, text) in [
            (0, "Less than a second"),
            (1, "1 second"),
            (59, "59 seconds"),
            (60, "About a minute"),
            (150, "2 minutes"),
            (3600, "About an hour"),
            (7200, "2 hours"),
            (86_400 * 3, "3 days"),
            (86_400 * 20, "2 weeks"),
            (86_400 * 90, "3 months"),
            (86_400 * 1000, "2 years"),
        ] {
            assert_eq!(human(seconds), text);
        }
    }

    #[test]
    fn words_with_spaces_are_quoted() {
        assert_eq!(quoted("a b's"), "'a b'\\''s'");
        assert_eq!(quoted("-c"), "-c");
    }
}
