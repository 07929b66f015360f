//! One container in full: `GET /containers/ID/json`.

use std::{collections::BTreeMap, sync::Arc, time::SystemTime};

use serde_json::{Map, Value, json};

use crate::{
    Engine,
    container::{Container, logs},
    disk,
    model::record::{Endpoint, Published, Record, State},
    system::timestamp,
};

/// What upstream shows where there is no time.
const NEVER: &str = "0001-01-01T00:00:00Z";

/// A time, or none.
fn time(time: Option<SystemTime>) -> String {
    time.map_or_else(|| NEVER.to_owned(), timestamp)
}

/// Bytes that a container has written to its root file system.
pub(crate) async fn written(engine: &Engine, id: &str) -> u64 {
    let Some(snapshot) = engine.images().find_snapshot(&Engine::snapshot_name(id)) else { return 0 };
    disk::blocking(move || Ok(image::image::Usage::below(&snapshot.upper).bytes)).await.unwrap_or(0)
}

/// Bytes of the image of a container.
pub(crate) fn image_size(engine: &Engine, image: &str) -> u64 {
    engine.images().get(image).map_or(0, |image| image.size)
}

fn state(state: &State) -> Value {
    let mut shown = json!({
        "Status": state.word(),
        "Running": matches!(state.word(), "running" | "paused" | "restarting"),
        "Paused": state.paused,
        "Restarting": state.word() == "restarting",
        "OOMKilled": state.oom_killed,
        "Dead": state.word() == "dead",
        "Pid": state.pid,
        "ExitCode": state.exit_code,
        "Error": state.error,
        "StartedAt": time(state.started_at),
        "FinishedAt": time(state.finished_at),
    });
    if let Some(health) = &state.health {
        shown["Health"] = json!(health);
    }
    shown
}

/// Ports by `PORT/PROTOCOL`: those exposed, and where of the machine they are found.
pub(crate) fn ports(record: &Record) -> Map<String, Value> {
    let mut shown: BTreeMap<String, Option<Vec<Value>>> = BTreeMap::new();
    for port in record.config.exposed_ports.keys().chain(record.host.port_bindings.keys()) {
        shown.entry(port.clone()).or_default();
    }
    for Published { container_port, protocol, host_ip, host_port } in &record.state.ports {
        let bound = json!({"HostIp": host_ip, "HostPort": host_port.to_string()});
        shown.entry(format!("{container_port}/{protocol}")).or_default().get_or_insert_default().push(bound);
    }
    shown.into_iter().map(|(port, bound)| (port, bound.map_or(Value::Null, Value::from))).collect()
}

fn networks(record: &Record) -> Value {
    let running = record.state.is_running();
    let endpoints: BTreeMap<&String, &Endpoint> = record.networks.iter().collect();
    let of_default = record.networks.get("bridge").cloned().unwrap_or_default();
    json!({
        "Bridge": "",
        "SandboxID": record.state.sandbox,
        "SandboxKey": if running { format!("/proc/{}/ns/net", record.state.pid) } else { String::new() },
        "Ports": if running { Value::Object(ports(record)) } else { json!({}) },
        "HairpinMode": false,
        "LinkLocalIPv6Address": "", "LinkLocalIPv6PrefixLen": 0,
        "SecondaryIPAddresses": null, "SecondaryIPv6Addresses": null,
        "EndpointID": of_default.endpoint_id,
        "Gateway": of_default.gateway,
        "GlobalIPv6Address": of_default.global_ipv6_address, "GlobalIPv6PrefixLen": of_default.global_ipv6_prefix_len,
        "IPAddress": of_default.ip_address,
        "IPPrefixLen": of_default.ip_prefix_len,
        "IPv6Gateway": of_default.ipv6_gateway,
        "MacAddress": of_default.mac_address,
        "Networks": endpoints,
    })
}

/// A container as `docker inspect` shows it; sizes where they are asked for.
pub(crate) async fn shown(engine: &Engine, container: &Arc<Container>, sizes: bool) -> Value {
    let record = container.record();
    let dir = engine.container_dir(&container.id);
    let file = |name: &str| {
        if record.state.sandbox.is_empty() { String::new() } else { dir.join(name).to_string_lossy().into_owned() }
    };
    let words = |list: &Option<Vec<String>>| list.clone().unwrap_or_default();
    let line = [words(&record.config.entrypoint), words(&record.config.cmd)].concat();
    let snapshot = engine.images().find_snapshot(&Engine::snapshot_name(&container.id));
    let graph = snapshot.map(|snapshot| {
        let lowers: Vec<String> = snapshot.lowers.iter().map(|path| path.to_string_lossy().into_owned()).collect();
        json!({"LowerDir": lowers.join(":"), "UpperDir": snapshot.upper, "WorkDir": snapshot.work})
    });
    let execs = engine.execs().running(&container.id);
    let log = if record.host.log_config.kind == "none" {
        String::new()
    } else {
        logs::path(engine, &container.id).to_string_lossy().into_owned()
    };
    let mut shown = json!({
        "Id": record.id,
        "Created": timestamp(record.created_at),
        "Path": line.first().cloned().unwrap_or_default(),
        "Args": line.get(1..).unwrap_or_default(),
        "State": state(&record.state),
        "Image": record.image,
        "ResolvConfPath": file("resolv.conf"),
        "HostnamePath": file("hostname"),
        "HostsPath": file("hosts"),
        "LogPath": log,
        "Name": format!("/{}", record.name),
        "RestartCount": record.state.restarts,
        "Driver": "overlay2",
        "Platform": "linux",
        "MountLabel": "", "ProcessLabel": "", "AppArmorProfile": "",
        "ExecIDs": if execs.is_empty() { Value::Null } else { json!(execs) },
        "HostConfig": record.host,
        "GraphDriver": {"Data": graph, "Name": "overlay2"},
        "Mounts": record.mounts,
        "Config": record.config,
        "NetworkSettings": networks(&record),
    });
    if sizes {
        let own = written(engine, &container.id).await;
        shown["SizeRw"] = own.into();
        shown["SizeRootFs"] = (own + image_size(engine, &record.image)).into();
    }
    shown
}
