//! Kinds of the core group that are neither pods, Services, volumes nor quotas.

use std::collections::BTreeSet;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value};

use super::check::faults;
use super::metadata::{self, immutable, standard_finalizer};
use super::pod::container::protocol;
use super::pod::scheduling::taint_effect;
use super::{Errors, FieldError, FieldErrorKind, Path, address, format, resources};
use crate::kinds::Kind;
use crate::meta::View;

const METADATA: Path<'static> = Path::new("metadata");
const SPEC: Path<'static> = Path::new("spec");
const STATUS: Path<'static> = Path::new("status");
const LARGEST: usize = 1024 * 1024;
const FROZEN: &str = "field is immutable when `immutable` is set";

/// A Namespace.
pub fn namespace(subresource: &str, new: View<'_>, old: Option<View<'_>>, errors: &mut Errors) {
    let path = SPEC.child("finalizers");
    match (subresource, old) {
        ("status", _) => {
            let phase = new.at("status").text("phase");
            let path = STATUS.child("Phase");
            if new.at("metadata").has("deletionTimestamp") {
                if phase != "Terminating" {
                    let detail = "may only be 'Terminating' if `deletionTimestamp` is not empty";
                    errors.invalid(&path, phase, detail);
                }
            } else if phase != "Active" {
                errors.invalid(&path, phase, "may only be 'Active' if `deletionTimestamp` is empty");
            }
        }
        ("finalize", _) => {
            for (position, name) in new.at("spec").list("finalizers").map(View::string).enumerate() {
                finalizer(name, &path.index(position), errors);
            }
        }
        (_, None) => {
            for name in new.at("spec").list("finalizers").map(View::string) {
                finalizer(name, &path, errors);
            }
        }
        _ => {}
    }
}

fn finalizer(name: &str, path: &Path<'_>, errors: &mut Errors) {
    faults(format::qualified_name(name), name, path, errors);
    standard_finalizer(name, path, errors);
}

/// A Node.
pub fn node(new: View<'_>, old: Option<View<'_>>, errors: &mut Errors) {
    let (spec, status) = (new.at("spec"), new.at("status"));
    let taint_path = METADATA.child("taints");
    taints(spec, &taint_path, errors);
    for list in ["capacity", "allocatable"] {
        let at = STATUS.child(list);
        for (resource, value) in status.entries(list) {
            resources::amount(resource, value.value(), &at.child(resource), errors);
        }
    }
    let networks: Vec<&str> = spec.list("podCIDRs").map(View::string).collect();
    let path = SPEC.child("podCIDRs");
    {
        for (position, network) in networks.iter().enumerate() {
            address::cidr(&path.index(position), network, &[], errors);
        }
        let both = networks.len() == 2 && networks[0].contains(':') != networks[1].contains(':');
        if networks.len() > 1 && !both {
            let detail = "may specify no more than one CIDR for each IP family";
            errors.invalid(&path, spec.at("podCIDRs").value().clone(), detail);
        }
    }
    let Some(old) = old else { return };
    let addresses = STATUS.child("addresses");
    let list = status.slice("addresses");
    for (position, address) in list.iter().enumerate() {
        if list[..position].contains(address) {
            errors.duplicate(&addresses.index(position), address.clone());
        }
    }
    let before: Vec<&str> = old.at("spec").list("podCIDRs").map(View::string).collect();
    if !before.is_empty() && before != networks {
        errors.forbidden(&path, "node updates may not change podCIDR except from \"\" to valid");
    }
    let (was, is) = (old.at("spec").text("providerID"), spec.text("providerID"));
    if !was.is_empty() && was != is {
        let change = if is.is_empty() { "cleared" } else { "modified" };
        let detail = format!("field cannot be {change} once set");
        errors.invalid(&SPEC.child("providerID"), Value::Null, detail);
    }
    if spec.text("externalID") != old.at("spec").text("externalID") {
        errors.forbidden(&SPEC.child("externalID"), "may not be updated");
    }
}

fn taints(spec: View<'_>, path: &Path<'_>, errors: &mut Errors) {
    let mut seen = BTreeSet::new();
    for (position, taint) in spec.list("taints").enumerate() {
        let at = path.index(position);
        let (key, value, effect) = (taint.text("key"), taint.text("value"), taint.text("effect"));
        faults(format::qualified_name(key), key, &at.child("key"), errors);
        let found = format::label_value(value);
        if !found.is_empty() {
            errors.invalid(&at.child("value"), value, found.join(";"));
        }
        if effect.is_empty() {
            errors.required(&at.child("effect"), "");
        } else {
            taint_effect(effect, &at.child("effect"), errors);
        }
        if !seen.insert((key, effect)) {
            let shown = Some(taint.value().clone());
            let detail = "taints must be unique by key and effect pair";
            errors.push(FieldError::new(FieldErrorKind::Duplicate, at, shown, detail));
        }
    }
}

fn decoded(value: View<'_>) -> Vec<u8> {
    STANDARD.decode(value.string()).unwrap_or_default()
}

fn keys(map: Option<&Map<String, Value>>, path: &Path<'_>, errors: &mut Errors) {
    let mut keys: Vec<&String> = map.into_iter().flat_map(Map::keys).collect();
    keys.sort();
    for key in keys {
        faults(format::config_key(key), key, &path.key(key), errors);
    }
}

/// A ConfigMap.
pub fn config_map(new: View<'_>, old: Option<View<'_>>, errors: &mut Errors) {
    if let Some(old) = old {
        frozen(new, old, &["data", "binaryData"], errors);
    }
    let mut size = 0;
    let path = Path::new("data");
    for (key, value) in new.entries("data") {
        faults(format::config_key(key), key, &path.key(key), errors);
        if new.at("binaryData").has(key) {
            errors.invalid(&path.key(key), key, "duplicate of key present in binaryData");
        }
        size += value.string().len();
    }
    keys(new.map("binaryData"), &Path::new("binaryData"), errors);
    size += new.entries("binaryData").map(|(_, value)| decoded(value).len()).sum::<usize>();
    if size > LARGEST {
        errors.too_long(&Path::new("[]"), LARGEST);
    }
}

/// What was declared unchanging.
fn frozen(new: View<'_>, old: View<'_>, members: &[&str], errors: &mut Errors) {
    if !old.is("immutable") {
        return;
    }
    if !new.is("immutable") {
        errors.forbidden(&Path::new("immutable"), FROZEN);
    }
    for member in members.iter().filter(|member| !new.at(member).same(old.at(member))) {
        errors.forbidden(&Path::new(member), FROZEN);
    }
}

/// A Secret.
pub fn secret(new: View<'_>, old: Option<View<'_>>, errors: &mut Errors) {
    if let Some(old) = old {
        immutable(new.at("type"), old.at("type"), &Path::new("type"), errors);
        frozen(new, old, &["data"], errors);
    }
    let path = Path::new("data");
    keys(new.map("data"), &path, errors);
    let size: usize = new.entries("data").map(|(_, value)| decoded(value).len()).sum();
    if size > LARGEST {
        errors.too_long(&path, LARGEST);
    }
    let data = new.map("data");
    let has = |key: &str| data.is_some_and(|data| data.contains_key(key));
    match new.text("type") {
        "kubernetes.io/service-account-token" => {
            const NAME: &str = "kubernetes.io/service-account.name";
            if new.at("metadata").at("annotations").text(NAME).is_empty() {
                errors.required(&METADATA.child("annotations").key(NAME), "");
            }
        }
        "kubernetes.io/dockercfg" => json_data(new, ".dockercfg", errors),
        "kubernetes.io/dockerconfigjson" => json_data(new, ".dockerconfigjson", errors),
        "kubernetes.io/basic-auth" if !has("username") && !has("password") => {
            errors.required(&path.key("username"), "");
            errors.required(&path.key("password"), "");
        }
        "kubernetes.io/ssh-auth" if new.at("data").text("ssh-privatekey").is_empty() => {
            errors.required(&path.key("ssh-privatekey"), "");
        }
        "kubernetes.io/tls" => {
            for key in ["tls.crt", "tls.key"].into_iter().filter(|key| !has(key)) {
                errors.required(&path.key(key), "");
            }
        }
        _ => {}
    }
}

fn json_data(secret: View<'_>, key: &str, errors: &mut Errors) {
    let path = Path::new("data");
    let Some(value) = secret.map("data").and_then(|data| data.get(key)) else {
        errors.required(&path.key(key), "");
        return;
    };
    let bytes = decoded(View::new(value));
    if let Err(fault) = serde_json::from_slice::<Map<String, Value>>(&bytes) {
        let first = String::from_utf8_lossy(&bytes).chars().next();
        let detail = match fault.classify() {
            serde_json::error::Category::Syntax if fault.column() <= 1 && first.is_some() => {
                format!("invalid character '{}' looking for beginning of value", first.unwrap_or_default())
            }
            serde_json::error::Category::Eof => "unexpected end of JSON input".to_owned(),
            _ => fault.to_string(),
        };
        errors.invalid(&path.key(key), "<secret contents redacted>", detail);
    }
}

/// Endpoints.
pub fn endpoints(new: View<'_>, old: Option<View<'_>>, errors: &mut Errors) {
    const TRIGGER: &str = "endpoints.kubernetes.io/last-change-trigger-time";
    if let Some(time) = new.at("metadata").at("annotations").at(TRIGGER).as_str()
        && time.parse::<jiff::Timestamp>().is_err()
    {
        let detail = format!("must be an RFC3339 timestamp: {time}");
        errors.invalid(&Path::new("annotations").key(TRIGGER), time, detail);
    }
    if old.is_some_and(|old| old.at("subsets").same(new.at("subsets"))) {
        return;
    }
    let path = Path::new("subsets");
    for (position, subset) in new.list("subsets").enumerate() {
        let at = path.index(position);
        if subset.slice("addresses").is_empty() && subset.slice("notReadyAddresses").is_empty() {
            errors.required(&at, "must specify `addresses` or `notReadyAddresses`");
        }
        for list in ["addresses", "notReadyAddresses"] {
            let at = at.child(list);
            for (position, entry) in subset.list(list).enumerate() {
                endpoint_address(entry, &at.index(position), errors);
            }
        }
        let several = subset.slice("ports").len() > 1;
        let at = at.child("ports");
        for (position, port) in subset.list("ports").enumerate() {
            endpoint_port(port, several, &at.index(position), errors);
        }
    }
}

fn endpoint_address(entry: View<'_>, path: &Path<'_>, errors: &mut Errors) {
    let text = entry.text("ip");
    let at = path.child("ip");
    address::ip(&at, text, &[], errors);
    let host = entry.text("hostname");
    if !host.is_empty() {
        faults(format::dns_label(host), host, &path.child("hostname"), errors);
    }
    if let Some(node) = entry.at("nodeName").as_str() {
        faults(format::dns_subdomain(node), node, &path.child("nodeName"), errors);
    }
    address::endpoint(&at, text, errors);
}

fn endpoint_port(port: View<'_>, needs_name: bool, path: &Path<'_>, errors: &mut Errors) {
    let name = port.text("name");
    if !name.is_empty() {
        faults(format::dns_label(name), name, &path.child("name"), errors);
    } else if needs_name {
        errors.required(&path.child("name"), "");
    }
    let number = port.int("port").unwrap_or(0);
    for fault in format::port_number(number) {
        errors.invalid(&path.child("port"), number, fault);
    }
    protocol(port.text("protocol"), &path.child("protocol"), errors);
    if let Some(protocol) = port.at("appProtocol").as_str() {
        faults(format::qualified_name(protocol), protocol, &path.child("appProtocol"), errors);
    }
}

/// An Event in the form of its kind. Upstream names members as the core group does in errors, whatever was sent.
pub fn event(kind: &Kind, new: View<'_>, old: Option<View<'_>>, errors: &mut Errors) {
    let newer = !kind.group.is_empty();
    let member = |core: &'static str| -> &'static str {
        if !newer {
            return core;
        }
        match core {
            "involvedObject" => "regarding",
            "message" => "note",
            "source" => "deprecatedSource",
            "firstTimestamp" => "deprecatedFirstTimestamp",
            "lastTimestamp" => "deprecatedLastTimestamp",
            "count" => "deprecatedCount",
            "reportingComponent" => "reportingController",
            other => other,
        }
    };
    event_basics(new, &member, errors);
    if !newer {
        if old.is_none() && errors.is_empty() {
            metadata::object_metadata(new.value(), true, path_name, &METADATA, errors);
        }
        return;
    }
    let series = |errors: &mut Errors| {
        let series = new.at("series");
        if series.exists() {
            if series.int("count").unwrap_or(0) < 2 {
                errors.invalid(&Path::new("series.count"), "", "should be at least 2");
            }
            if !series.has("lastObservedTime") {
                errors.required(&Path::new("series.lastObservedTime"), "");
            }
        }
    };
    let Some(old) = old else {
        metadata::object_metadata(new.value(), true, subdomain_name, &METADATA, errors);
        series(errors);
        if !new.has("eventTime") {
            errors.required(&Path::new("eventTime"), "");
        }
        let kind = new.text("type");
        if !matches!(kind, "Normal" | "Warning") {
            errors.invalid(&Path::new("type"), "", format!("has invalid value: {kind}"));
        }
        for core in ["firstTimestamp", "lastTimestamp", "count", "source"] {
            if !new.at(member(core)).is_zero() {
                errors.invalid(&Path::new(core), "", "needs to be unset");
            }
        }
        return;
    };
    if !new.at("series").same(old.at("series")) {
        series(errors);
    }
    const UNCHANGING: [&str; 14] = [
        "involvedObject",
        "reason",
        "message",
        "source",
        "firstTimestamp",
        "lastTimestamp",
        "count",
        "reason",
        "type",
        "eventTime",
        "action",
        "related",
        "reportingComponent",
        "reportingInstance",
    ];
    for core in UNCHANGING {
        let shown = if core == "reportingComponent" { "reportingController" } else { core };
        let (now, before) = (new.at(member(core)), old.at(member(core)));
        let moment =
            |view: View<'_>| view.string().parse::<jiff::Timestamp>().ok().map(|moment| moment.as_microsecond());
        if core == "eventTime" {
            if moment(now) != moment(before) {
                errors.invalid(&Path::new(shown), now.value().clone(), metadata::IMMUTABLE);
            }
            continue;
        }
        immutable(now, before, &Path::new(shown), errors);
    }
}

fn path_name(name: &str, prefix: bool) -> format::Faults {
    if prefix { format::path_segment_prefix(name) } else { format::path_segment(name) }
}

fn subdomain_name(name: &str, prefix: bool) -> format::Faults {
    if prefix { format::dns_subdomain(&format::without_trailing_dash(name)) } else { format::dns_subdomain(name) }
}

fn event_basics(new: View<'_>, member: &dyn Fn(&'static str) -> &'static str, errors: &mut Errors) {
    let namespace = new.at("metadata").text("namespace");
    let about = new.at(member("involvedObject")).text("namespace");
    let path = Path::new("involvedObject");
    let path = path.child("namespace");
    const MISMATCH: &str = "does not match event.namespace";
    if !new.has("eventTime") {
        let fine = if about.is_empty() { matches!(namespace, "" | "default") } else { namespace == about };
        if !fine {
            errors.invalid(&path, about, MISMATCH);
        }
        return;
    }
    if about.is_empty() && !matches!(namespace, "default" | "kube-system") {
        errors.invalid(&path, about, MISMATCH);
    }
    let controller = new.text(member("reportingComponent"));
    let path = Path::new(member("reportingComponent"));
    if controller.is_empty() {
        errors.required(&path, "");
    }
    faults(format::qualified_name(controller), controller, &path, errors);
    for name in ["reportingInstance", "action", "reason"] {
        let text = new.text(name);
        if text.is_empty() {
            errors.required(&Path::new(name), "");
        }
        if text.len() > 128 {
            errors.invalid(&Path::new(name), "", "can have at most 128 characters");
        }
    }
    if new.text(member("message")).len() > 1024 {
        errors.invalid(&Path::new("message"), "", "can have at most 1024 characters");
    }
}

/// A PodTemplate.
pub fn pod_template(new: View<'_>, errors: &mut Errors) {
    super::pod::template(new.at("template"), &Path::new("template"), errors);
}
