//! Kinds of the core group.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{NONE, Row, UNKNOWN, UNSET, labels, number, or, some};
use crate::meta::View;
use crate::quantity::Quantity;

pub fn core(kind: &str, row: &Row<'_>) -> Vec<Value> {
    let (object, spec, status) = (row.object, row.spec, row.status);
    match kind {
        "Namespace" => row.aged([status.text("phase").into()]),
        "ServiceAccount" => row.aged([]),
        "Secret" => row.aged([object.text("type").into(), object.map("data").map_or(0, |data| data.len()).into()]),
        "ConfigMap" => {
            let size = |member| object.map(member).map_or(0, |data| data.len());
            row.aged([(size("data") + size("binaryData")).into()])
        }
        "Service" => {
            let mut cells = row.aged([
                spec.text("type").into(),
                or(spec.list("clusterIPs").next().map_or("", |ip| ip.string()), NONE).into(),
                external_addresses(spec, status).into(),
                service_ports(spec).into(),
            ]);
            cells.push(labels(spec.at("selector")).into());
            cells
        }
        "Endpoints" => row.aged([endpoints(object).into()]),
        "Node" => node(row),
        "Event" => event(row),
        "PodTemplate" => {
            let template = object.at("template");
            let [names, images] = row.containers(template.at("spec"));
            row.named([names, images, labels(template.at("metadata").at("labels")).into()])
        }
        "ReplicationController" => {
            let mut cells =
                row.aged([number(spec, "replicas"), number(status, "replicas"), number(status, "readyReplicas")]);
            cells.extend(row.template());
            cells.push(labels(spec.at("selector")).into());
            cells
        }
        "ResourceQuota" => {
            let (mut requests, mut limits) = (Vec::new(), Vec::new());
            for (name, hard) in status.entries("hard") {
                let used = Quantity::of(status.at("used").at(name).value());
                let text = format!("{name}: {used}/{}", Quantity::of(hard.value()));
                let list = if name.starts_with("limits.") { &mut limits } else { &mut requests };
                list.push(text);
            }
            row.aged([requests.join(", ").into(), limits.join(", ").into()])
        }
        "PersistentVolume" => {
            let claim = spec.at("claimRef");
            let claim_text = if claim.exists() {
                format!("{}/{}", claim.text("namespace"), claim.text("name"))
            } else {
                String::new()
            };
            let mut cells = row.aged([
                Quantity::of(spec.at("capacity").at("storage").value()).to_string().into(),
                access_modes(spec).into(),
                spec.text("persistentVolumeReclaimPolicy").into(),
                volume_phase(row).into(),
                claim_text.into(),
                storage_class(row).into(),
                or(spec.text("volumeAttributesClassName"), UNSET).into(),
                status.text("reason").into(),
            ]);
            cells.push(or(spec.text("volumeMode"), UNSET).into());
            cells
        }
        "PersistentVolumeClaim" => {
            let bound = !spec.text("volumeName").is_empty();
            let capacity = Quantity::of(status.at("capacity").at("storage").value()).to_string();
            let mut cells = row.aged([
                volume_phase(row).into(),
                spec.text("volumeName").into(),
                if bound { capacity } else { String::new() }.into(),
                if bound { access_modes(status) } else { String::new() }.into(),
                storage_class(row).into(),
                or(spec.text("volumeAttributesClassName"), UNSET).into(),
            ]);
            cells.push(or(spec.text("volumeMode"), UNSET).into());
            cells
        }
        _ => row.named([]),
    }
}

fn volume_phase(row: &Row<'_>) -> String {
    let deleted = row.object.at("metadata").has("deletionTimestamp");
    if deleted { "Terminating".to_owned() } else { row.status.text("phase").to_owned() }
}

fn storage_class(row: &Row<'_>) -> String {
    let annotation = row.object.at("metadata").at("annotations").at("volume.beta.kubernetes.io/storage-class");
    annotation.as_str().unwrap_or(row.spec.text("storageClassName")).to_owned()
}

fn access_modes(view: View<'_>) -> String {
    let modes =
        [("ReadWriteOnce", "RWO"), ("ReadOnlyMany", "ROX"), ("ReadWriteMany", "RWX"), ("ReadWriteOncePod", "RWOP")];
    let has = |mode: &str| view.list("accessModes").any(|given| given.string() == mode);
    let shown: Vec<&str> = modes.into_iter().filter(|(mode, _)| has(mode)).map(|(_, short)| short).collect();
    shown.join(",")
}

pub fn balancer_addresses(status: View<'_>) -> String {
    let addresses: BTreeSet<&str> = status
        .at("loadBalancer")
        .list("ingress")
        .map(|ingress| or(ingress.text("ip"), ingress.text("hostname")))
        .filter(|address| !address.is_empty())
        .collect();
    addresses.into_iter().collect::<Vec<_>>().join(",")
}

fn external_addresses(spec: View<'_>, status: View<'_>) -> String {
    let external: Vec<&str> = spec.list("externalIPs").map(|ip| ip.string()).collect();
    match spec.text("type") {
        "ClusterIP" | "NodePort" if external.is_empty() => NONE.to_owned(),
        "ClusterIP" | "NodePort" => external.join(","),
        "LoadBalancer" => {
            let balancer = balancer_addresses(status);
            let all: Vec<&str> =
                std::iter::once(balancer.as_str()).filter(|text| !text.is_empty()).chain(external).collect();
            if all.is_empty() { "<pending>".to_owned() } else { all.join(",") }
        }
        "ExternalName" => spec.text("externalName").to_owned(),
        _ => UNKNOWN.to_owned(),
    }
}

fn service_ports(spec: View<'_>) -> String {
    let ports: Vec<String> = spec
        .list("ports")
        .map(|port| {
            let (number, protocol) = (port.int("port").unwrap_or(0), port.text("protocol"));
            match port.int("nodePort").unwrap_or(0) {
                0 => format!("{number}/{protocol}"),
                node => format!("{number}:{node}/{protocol}"),
            }
        })
        .collect();
    or(&ports.join(","), NONE).to_owned()
}

fn endpoints(object: View<'_>) -> String {
    let mut all = Vec::new();
    if object.slice("subsets").is_empty() {
        return NONE.to_owned();
    }
    for subset in object.list("subsets") {
        let addresses = || subset.list("addresses").map(|address| address.text("ip"));
        if subset.slice("ports").is_empty() {
            all.extend(addresses().map(str::to_owned));
        }
        for port in subset.list("ports") {
            let number = port.int("port").unwrap_or(0);
            all.extend(addresses().map(|address| match address.contains(':') {
                true => format!("[{address}]:{number}"),
                false => format!("{address}:{number}"),
            }));
        }
    }
    some(all.iter().map(String::as_str), 3)
}

fn node(row: &Row<'_>) -> Vec<Value> {
    let (info, labels) = (row.status.at("nodeInfo"), row.object.at("metadata").map("labels"));
    let ready = row.status.list("conditions").find(|condition| condition.text("type") == "Ready");
    let mut status = match ready.map(|condition| condition.text("status")) {
        None => "Unknown",
        Some("True") => "Ready",
        Some(_) => "NotReady",
    }
    .to_owned();
    if row.spec.is("unschedulable") {
        status.push_str(",SchedulingDisabled");
    }
    let mut roles = BTreeSet::new();
    for (key, value) in labels.into_iter().flatten() {
        let role = match key.strip_prefix("node-role.kubernetes.io/") {
            Some(role) => role,
            None if key == "kubernetes.io/role" => value.as_str().unwrap_or(""),
            None => "",
        };
        if !role.is_empty() {
            roles.insert(role);
        }
    }
    let roles = roles.into_iter().collect::<Vec<_>>().join(",");
    let address = |kind: &str| {
        let address = row.status.list("addresses").find(|address| address.text("type") == kind);
        address.map_or(NONE, |address| address.text("address"))
    };
    let mut kernel = or(info.text("kernelVersion"), UNKNOWN).to_owned();
    if !info.text("architecture").is_empty() {
        kernel = format!("{kernel} ({})", info.text("architecture"));
    }
    row.named([
        status.into(),
        or(&roles, NONE).into(),
        row.age.as_str().into(),
        info.text("kubeletVersion").into(),
        address("InternalIP").into(),
        address("ExternalIP").into(),
        or(info.text("osImage"), UNKNOWN).into(),
        kernel.into(),
        or(info.text("containerRuntimeVersion"), UNKNOWN).into(),
    ])
}

fn event(row: &Row<'_>) -> Vec<Value> {
    let object = row.object;
    let about = object.at("involvedObject");
    let first = row.since(or(object.text("firstTimestamp"), object.text("eventTime")));
    let mut last = match object.text("lastTimestamp") {
        "" => first.clone(),
        time => row.since(time),
    };
    let mut count = object.int("count").unwrap_or(0).max(1);
    let series = object.at("series");
    if series.exists() {
        last = row.since(series.text("lastObservedTime"));
        count = series.int("count").unwrap_or(0);
    }
    let kind = about.text("kind").to_lowercase();
    let target = match about.text("name") {
        "" => kind,
        name => format!("{kind}/{name}"),
    };
    let component = or(object.at("source").text("component"), object.text("reportingComponent"));
    let host = or(object.at("source").text("host"), object.text("reportingInstance"));
    let source = if host.is_empty() { component.to_owned() } else { format!("{component}, {host}") };
    vec![
        last.into(),
        object.text("type").into(),
        object.text("reason").into(),
        target.into(),
        about.text("fieldPath").into(),
        source.into(),
        object.text("message").trim().into(),
        first.into(),
        count.into(),
        row.name.into(),
    ]
}
