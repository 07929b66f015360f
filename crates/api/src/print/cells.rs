//! The cells of each built-in kind, in the order of its columns.

use std::collections::BTreeSet;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{age, columns, pod};
use crate::kinds::Kind;
use crate::meta::{self, View};
use crate::quantity::Quantity;
use crate::selector::Labels;

mod core;
mod workload;

pub(super) const NONE: &str = "<none>";
const UNSET: &str = "<unset>";
pub(super) const UNKNOWN: &str = "<unknown>";

/// An object with what most of its cells need.
struct Row<'a> {
    object: View<'a>,
    spec: View<'a>,
    status: View<'a>,
    name: &'a str,
    age: String,
    now: Timestamp,
}

impl Row<'_> {
    /// The name, the given cells, the age.
    fn aged<const N: usize>(&self, cells: [Value; N]) -> Vec<Value> {
        let mut all = vec![self.name.into()];
        all.extend(cells);
        all.push(self.age.as_str().into());
        all
    }

    /// The name and the given cells.
    fn named<const N: usize>(&self, cells: [Value; N]) -> Vec<Value> {
        let mut all = vec![self.name.into()];
        all.extend(cells);
        all
    }

    fn since(&self, time: &str) -> String {
        age::since(time, self.now)
    }

    /// Names and images of a template's containers.
    fn containers(&self, spec: View<'_>) -> [Value; 2] {
        let join = |member: &str| {
            let texts: Vec<&str> = spec.list("containers").map(|container| container.text(member)).collect();
            Value::from(texts.join(","))
        };
        [join("name"), join("image")]
    }

    fn template(&self) -> [Value; 2] {
        self.containers(self.spec.at("template").at("spec"))
    }
}

/// The cells of an object.
pub fn of(kind: &Kind, object: &Value, now: Timestamp) -> Vec<Value> {
    let view = View::new(object);
    let created = meta::creation_timestamp(object).unwrap_or("");
    let row = Row {
        object: view,
        spec: view.at("spec"),
        status: view.at("status"),
        name: meta::name(object),
        age: age::since(created, now),
        now,
    };
    if !columns::has_own(kind) {
        return row.named([created.into()]);
    }
    match kind.group {
        "" if kind.kind == "Pod" => pod::cells(object, now),
        "" => core::core(kind.kind, &row),
        "apps" | "batch" | "policy" | "autoscaling" => workload::workload(kind.kind, &row),
        "storage.k8s.io" => storage(kind.kind, &row),
        "networking.k8s.io" | "discovery.k8s.io" => network(kind.kind, &row),
        _ => other(kind.kind, &row),
    }
}

fn number(view: View<'_>, member: &str) -> Value {
    view.int(member).unwrap_or(0).into()
}

fn or<'a>(text: &'a str, otherwise: &'a str) -> &'a str {
    if text.is_empty() { otherwise } else { text }
}

fn labels(map: View<'_>) -> String {
    let entries: BTreeSet<String> = map
        .as_map()
        .into_iter()
        .flatten()
        .map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or("")))
        .collect();
    if entries.is_empty() { NONE.to_owned() } else { entries.into_iter().collect::<Vec<_>>().join(",") }
}

fn selector(selector: View<'_>) -> String {
    match Labels::from_value(selector.value()) {
        Err(_) => "<error>".to_owned(),
        Ok(labels) => or(&labels.to_string(), NONE).to_owned(),
    }
}

/// The first few of a list, and how many more there are.
fn some<'a>(texts: impl Iterator<Item = &'a str>, most: usize) -> String {
    let texts: Vec<&str> = texts.collect();
    let shown = texts[..texts.len().min(most)].join(",");
    if texts.len() > most { format!("{shown} + {} more...", texts.len() - most) } else { shown }
}

fn storage(kind: &str, row: &Row<'_>) -> Vec<Value> {
    let (object, spec) = (row.object, row.spec);
    match kind {
        "StorageClass" => row.aged([
            object.text("provisioner").into(),
            or(object.text("reclaimPolicy"), "Delete").into(),
            or(object.text("volumeBindingMode"), "Immediate").into(),
            object.is("allowVolumeExpansion").into(),
        ]),
        "VolumeAttributesClass" => row.aged([object.text("driverName").into()]),
        "VolumeAttachment" => row.aged([
            spec.text("attacher").into(),
            spec.at("source").text("persistentVolumeName").into(),
            spec.text("nodeName").into(),
            row.status.is("attached").into(),
        ]),
        "CSINode" => row.aged([spec.slice("drivers").len().into()]),
        "CSIDriver" => {
            let join = |list: &str, member: Option<&str>| {
                let texts: Vec<&str> =
                    spec.list(list).map(|item| member.map_or(item.string(), |member| item.text(member))).collect();
                texts.join(",")
            };
            let requests =
                if spec.has("tokenRequests") { join("tokenRequests", Some("audience")) } else { UNSET.to_owned() };
            row.aged([
                spec.bool("attachRequired").unwrap_or(true).into(),
                spec.is("podInfoOnMount").into(),
                spec.is("storageCapacity").into(),
                requests.into(),
                spec.is("requiresRepublish").into(),
                or(&join("volumeLifecycleModes", None), NONE).into(),
            ])
        }
        "CSIStorageCapacity" => {
            let capacity = object.at("capacity");
            let shown = if capacity.exists() { Quantity::of(capacity.value()).to_string() } else { UNSET.to_owned() };
            row.named([object.text("storageClassName").into(), shown.into()])
        }
        _ => row.named([]),
    }
}

fn network(kind: &str, row: &Row<'_>) -> Vec<Value> {
    let (object, spec) = (row.object, row.spec);
    match kind {
        "Ingress" => {
            let rules = spec.slice("rules").len();
            let hosts: Vec<&str> =
                spec.list("rules").map(|rule| rule.text("host")).filter(|host| !host.is_empty()).collect();
            let shown = match hosts.len() {
                0 => "*".to_owned(),
                count if count > 3 => format!("{} + {} more...", hosts[..3].join(","), rules - 3),
                _ => hosts.join(","),
            };
            row.aged([
                or(spec.text("ingressClassName"), NONE).into(),
                shown.into(),
                core::balancer_addresses(row.status).into(),
                if spec.slice("tls").is_empty() { "80" } else { "80, 443" }.into(),
            ])
        }
        "IngressClass" => {
            let annotations = object.at("metadata").at("annotations");
            let default = annotations.text("ingressclass.kubernetes.io/is-default-class") == "true";
            let parameters = spec.at("parameters");
            let shown = if parameters.exists() {
                let dot = if parameters.has("apiGroup") { "." } else { "" };
                let (kind, group) = (parameters.text("kind"), parameters.text("apiGroup"));
                format!("{kind}{dot}{group}/{}", parameters.text("name"))
            } else {
                NONE.to_owned()
            };
            let mut cells = row.aged([spec.text("controller").into(), shown.into()]);
            if default {
                cells[0] = format!("{} (default)", row.name).into();
            }
            cells
        }
        "NetworkPolicy" => row.aged([selector(spec.at("podSelector")).into()]),
        "ServiceCIDR" => {
            let cidrs: Vec<&str> = spec.list("cidrs").map(|cidr| cidr.string()).collect();
            row.aged([cidrs.join(",").into()])
        }
        "IPAddress" => {
            let parent = spec.at("parentRef");
            let mut shown = NONE.to_owned();
            if parent.exists() {
                let resource = meta::Qualified { group: parent.text("group"), name: parent.text("resource") };
                shown = resource.to_string().to_lowercase();
                for part in [parent.text("namespace"), parent.text("name")] {
                    if !part.is_empty() {
                        shown = format!("{shown}/{part}");
                    }
                }
            }
            row.named([shown.into()])
        }
        "EndpointSlice" => {
            let ports: Vec<String> = object
                .list("ports")
                .map(|port| match port.int("port") {
                    Some(number) => number.to_string(),
                    None => port.at("name").as_str().unwrap_or("*").to_owned(),
                })
                .collect();
            let addresses = object.list("endpoints").flat_map(|endpoint| endpoint.list("addresses"));
            let addresses = some(addresses.map(|address| address.string()), 3);
            row.aged([
                object.text("addressType").into(),
                or(&some(ports.iter().map(String::as_str), 3), UNSET).into(),
                or(&addresses, UNSET).into(),
            ])
        }
        _ => row.named([]),
    }
}

fn other(kind: &str, row: &Row<'_>) -> Vec<Value> {
    let (object, spec, status) = (row.object, row.spec, row.status);
    match kind {
        "RoleBinding" | "ClusterRoleBinding" => {
            let role = object.at("roleRef");
            let subjects = |kind: &str| {
                let of_kind = object.list("subjects").filter(|subject| subject.text("kind") == kind);
                let names: Vec<String> = of_kind
                    .map(|subject| match kind {
                        "ServiceAccount" => format!("{}/{}", subject.text("namespace"), subject.text("name")),
                        _ => subject.text("name").to_owned(),
                    })
                    .collect();
                Value::from(names.join(", "))
            };
            let mut cells = row.aged([format!("{}/{}", role.text("kind"), role.text("name")).into()]);
            cells.extend([subjects("User"), subjects("Group"), subjects("ServiceAccount")]);
            cells
        }
        "Lease" => row.aged([spec.text("holderIdentity").into()]),
        "PriorityClass" => {
            let mut cells = row.aged([number(object, "value"), object.is("globalDefault").into()]);
            cells.push(object.text("preemptionPolicy").into());
            cells
        }
        "RuntimeClass" => row.aged([object.text("handler").into()]),
        "MutatingWebhookConfiguration" | "ValidatingWebhookConfiguration" => {
            row.aged([object.slice("webhooks").len().into()])
        }
        "ValidatingAdmissionPolicy" | "MutatingAdmissionPolicy" => {
            let list = if kind.starts_with('V') { "validations" } else { "mutations" };
            let parameter = spec.at("paramKind");
            let shown = if parameter.exists() {
                format!("{}/{}", parameter.text("apiVersion"), parameter.text("kind"))
            } else {
                UNSET.to_owned()
            };
            row.aged([spec.slice(list).len().into(), shown.into()])
        }
        "ValidatingAdmissionPolicyBinding" | "MutatingAdmissionPolicyBinding" => {
            let parameter = spec.at("paramRef");
            let shown = match (parameter.text("name"), parameter.at("selector")) {
                ("", selected) if selected.exists() => selector(selected),
                ("", _) => UNSET.to_owned(),
                (name, _) => format!("{}/{name}", or(parameter.text("namespace"), "*")),
            };
            row.aged([spec.text("policyName").into(), shown.into()])
        }
        "CertificateSigningRequest" => {
            let expiration = spec.int("expirationSeconds").map_or(NONE.to_owned(), age::human);
            row.named([
                row.age.as_str().into(),
                or(spec.text("signerName"), NONE).into(),
                spec.text("username").into(),
                expiration.into(),
                signing_state(status).into(),
            ])
        }
        "ClusterTrustBundle" => row.named([or(spec.text("signerName"), NONE).into()]),
        "PodCertificateRequest" => {
            let kinds = ["Issued", "Denied", "Failed"];
            let last = status.list("conditions").rfind(|condition| kinds.contains(&condition.text("type")));
            row.named([
                spec.text("podName").into(),
                spec.text("serviceAccountName").into(),
                spec.text("nodeName").into(),
                spec.text("signerName").into(),
                last.map_or("Pending", |condition| condition.text("type")).into(),
                labels(spec.at("unverifiedUserAnnotations")).into(),
            ])
        }
        "FlowSchema" => {
            let dangling = status.list("conditions").find(|condition| condition.text("type") == "Dangling");
            let mut cells = row.aged([
                spec.at("priorityLevelConfiguration").text("name").into(),
                number(spec, "matchingPrecedence"),
                or(spec.at("distinguisherMethod").text("type"), NONE).into(),
            ]);
            cells.push(dangling.map_or("?", |condition| condition.text("status")).into());
            cells
        }
        "PriorityLevelConfiguration" => {
            let limited = spec.at("limited");
            let queuing = limited.at("limitResponse").at("queuing");
            let shown = |view: View<'_>, member: &str| view.int(member).map_or(json!(NONE), Value::from);
            row.aged([
                spec.text("type").into(),
                shown(limited, "nominalConcurrencyShares"),
                shown(queuing, "queues"),
                shown(queuing, "handSize"),
                shown(queuing, "queueLengthLimit"),
            ])
        }
        "DeviceClass" | "ResourceClaimTemplate" => row.aged([]),
        "ResourceClaim" => {
            let mut states = Vec::new();
            let deleted = object.at("metadata").has("deletionTimestamp");
            if deleted {
                states.push("deleted");
            }
            if status.has("allocation") {
                states.push("allocated");
                if !status.slice("reservedFor").is_empty() {
                    states.push("reserved");
                }
            } else if !deleted {
                states.push("pending");
            }
            row.aged([states.join(",").into()])
        }
        "ResourceSlice" => {
            row.aged([spec.text("nodeName").into(), spec.text("driver").into(), spec.at("pool").text("name").into()])
        }
        "DeviceTaintRule" => {
            let taint = spec.at("taint");
            let added = match taint.text("timeAdded") {
                "" => String::new(),
                time => row.since(time),
            };
            row.aged([taint.text("key").into(), taint.text("value").into(), taint.text("effect").into(), added.into()])
        }
        "StorageVersionMigration" => {
            let resource = meta::Qualified {
                group: spec.at("resource").text("group"),
                name: spec.at("resource").text("resource"),
            };
            let kinds = ["Running", "Failed", "Succeeded"];
            let state = status
                .list("conditions")
                .rfind(|condition| condition.text("status") == "True" && kinds.contains(&condition.text("type")));
            row.named([resource.to_string().into(), state.map_or("Unknown", |condition| condition.text("type")).into()])
        }
        "CustomResourceDefinition" => {
            let names = spec.at("names");
            let mut versions: Vec<String> = spec
                .list("versions")
                .filter(|version| version.is("served"))
                .map(|version| {
                    let stored = if version.is("storage") { "(storage)" } else { "" };
                    format!("{}{stored}", version.text("name"))
                })
                .collect();
            versions.sort();
            let short: Vec<&str> = names.list("shortNames").map(|name| name.string()).collect();
            let established = status
                .list("conditions")
                .any(|condition| condition.text("type") == "Established" && condition.text("status") == "True");
            row.named([
                spec.text("scope").into(),
                versions.join(",").into(),
                object.at("metadata").text("creationTimestamp").into(),
                spec.text("group").into(),
                names.text("kind").into(),
                short.join(",").into(),
                established.into(),
            ])
        }
        "APIService" => {
            let service = spec.at("service");
            let shown = if service.exists() {
                format!("{}/{}", service.text("namespace"), service.text("name"))
            } else {
                "Local".to_owned()
            };
            let available = status.list("conditions").find(|condition| condition.text("type") == "Available");
            let state = match available {
                None => "Unknown".to_owned(),
                Some(condition) => match (condition.text("status"), condition.text("reason")) {
                    ("True", _) => "True".to_owned(),
                    (status, "") => status.to_owned(),
                    (status, reason) => format!("{status} ({reason})"),
                },
            };
            row.aged([shown.into(), state.into()])
        }
        _ => row.named([]),
    }
}

fn signing_state(status: View<'_>) -> String {
    let has = |kind: &str| status.list("conditions").any(|condition| condition.text("type") == kind);
    let mut state = if has("Denied") {
        "Denied"
    } else if has("Approved") {
        "Approved"
    } else {
        "Pending"
    }
    .to_owned();
    if has("Failed") {
        state.push_str(",Failed");
    }
    if !status.text("certificate").is_empty() {
        state.push_str(",Issued");
    }
    state
}
