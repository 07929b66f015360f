//! Kinds of the groups `networking.k8s.io` and `discovery.k8s.io`.

use std::collections::BTreeSet;

use serde_json::Value;

use super::check::{domain_prefixed_path, faults, path_segment};
use super::metadata::{IMMUTABLE, immutable, label_selector, labels, unchanging};
use super::service::host_name;
use super::{Errors, Path, address, format};
use crate::meta::View;

const METADATA: Path<'static> = Path::new("metadata");
const SPEC: Path<'static> = Path::new("spec");
const PROTOCOLS: &[&str] = &["TCP", "UDP", "SCTP"];

/// A kind of the group `networking.k8s.io`.
pub fn networking(kind: &str, subresource: &str, new: View<'_>, old: Option<View<'_>>, errors: &mut Errors) {
    match (kind, subresource) {
        ("Ingress", "status") => ingress_status(new, old.unwrap_or(View::nothing()), errors),
        ("Ingress", "") => ingress(new, old.is_none(), errors),
        ("IngressClass", _) => ingress_class(new, old, errors),
        ("NetworkPolicy", _) => policy(new.at("spec"), old.map(|old| old.at("spec")), errors),
        ("IPAddress", _) => ip_address(new, old, errors),
        ("ServiceCIDR", "") => service_network(new.at("spec"), old.map(|old| old.at("spec")), errors),
        _ => {}
    }
}

fn ingress(new: View<'_>, is_new: bool, errors: &mut Errors) {
    const CLASS: &str = "kubernetes.io/ingress.class";
    let spec = new.at("spec");
    let (rules, backend) = (spec.slice("rules"), spec.at("defaultBackend"));
    if rules.is_empty() && !backend.exists() {
        errors.invalid(&SPEC, Value::Null, "either `defaultBackend` or `rules` must be specified");
    }
    if backend.exists() {
        ingress_backend(backend, &SPEC.child("defaultBackend"), errors);
    }
    let path = SPEC.child("rules");
    for (position, rule) in rules.iter().map(View::new).enumerate() {
        let at = path.index(position);
        let host = rule.text("host");
        if !host.is_empty() {
            let here = at.child("host");
            if host.parse::<std::net::IpAddr>().is_ok() {
                errors.invalid(&here, host, "must be a DNS name, not an IP address");
            }
            faults(host_faults(host), host, &here, errors);
        }
        if rule.has("http") {
            let paths = rule.at("http").slice("paths");
            let at = at.child("http");
            let at = at.child("paths");
            if paths.is_empty() {
                errors.required(&at, "");
            }
            for (position, entry) in paths.iter().map(View::new).enumerate() {
                ingress_path(entry, &at.index(position), errors);
            }
        }
    }
    let path = SPEC.child("tls");
    for (position, tls) in spec.list("tls").enumerate() {
        let at = path.index(position);
        let hosts = at.child("hosts");
        for (position, host) in tls.list("hosts").map(View::string).enumerate() {
            faults(host_faults(host), host, &hosts.index(position), errors);
        }
        let secret = tls.text("secretName");
        if !secret.is_empty() {
            faults(format::dns_subdomain(secret), secret, &at.child("secretName"), errors);
        }
    }
    if let Some(class) = spec.at("ingressClassName").as_str() {
        faults(format::dns_subdomain(class), class, &SPEC.child("ingressClassName"), errors);
        let annotation = new.at("metadata").at("annotations").at(CLASS).as_str();
        if let Some(other) = annotation.filter(|other| is_new && *other != class) {
            let detail = "must match `ingressClassName` when both are specified";
            errors.invalid(&Path::new("annotations").child(CLASS), other, detail);
        }
    }
}

fn host_faults(host: &str) -> format::Faults {
    if host.contains('*') { format::wildcard_dns_subdomain(host) } else { format::dns_subdomain(host) }
}

fn ingress_path(entry: View<'_>, path: &Path<'_>, errors: &mut Errors) {
    let text = entry.text("path");
    let at = path.child("path");
    let absolute = |errors: &mut Errors| {
        if !text.starts_with('/') {
            errors.invalid(&at, text, "must be an absolute path");
        }
    };
    match entry.at("pathType").as_str() {
        None => {
            errors.required(&path.child("pathType"), "pathType must be specified");
            return;
        }
        Some("Exact" | "Prefix") => {
            absolute(errors);
            for part in ["//", "/./", "/../", "%2f", "%2F"].into_iter().filter(|part| text.contains(part)) {
                errors.invalid(&at, text, format!("must not contain '{part}'"));
            }
            for end in ["/..", "/."].into_iter().filter(|end| text.ends_with(end)) {
                errors.invalid(&at, text, format!("cannot end with '{end}'"));
            }
        }
        Some("ImplementationSpecific") => {
            if !text.is_empty() {
                absolute(errors);
            }
        }
        Some(other) => {
            errors.not_supported(&path.child("pathType"), other, &["Exact", "ImplementationSpecific", "Prefix"]);
        }
    }
    ingress_backend(entry.at("backend"), &path.child("backend"), errors);
}

fn ingress_backend(backend: View<'_>, path: &Path<'_>, errors: &mut Errors) {
    let (resource, service) = (backend.at("resource"), backend.at("service"));
    match (resource.exists(), service.exists()) {
        (true, true) => errors.invalid(path, "", "cannot set both resource and service backends"),
        (false, false) => errors.invalid(path, "", "resource or service backend is required"),
        (true, false) => typed_reference(resource, &path.child("resource"), errors),
        (false, true) => {
            let at = path.child("service");
            let name = service.text("name");
            if name.is_empty() {
                errors.required(&at.child("name"), "");
            } else {
                faults(format::dns_label(name), name, &at.child("name"), errors);
            }
            let at = at.child("port");
            let (name, number) = (service.at("port").text("name"), service.at("port").int("number").unwrap_or(0));
            if !name.is_empty() && number != 0 {
                errors.invalid(path, "", "cannot set both port name & port number");
            } else if !name.is_empty() {
                faults(format::port_name(name), name, &at.child("name"), errors);
            } else if number != 0 {
                for fault in format::port_number(number) {
                    errors.invalid(&at.child("number"), number, fault);
                }
            } else {
                errors.required(path, "port name or number is required");
            }
        }
    }
}

fn typed_reference(reference: View<'_>, path: &Path<'_>, errors: &mut Errors) {
    if let Some(group) = reference.at("apiGroup").as_str() {
        faults(format::dns_subdomain(group), group, &path.child("apiGroup"), errors);
    }
    for member in ["kind", "name"] {
        path_segment(reference, member, path, errors);
    }
}

fn ingress_status(new: View<'_>, old: View<'_>, errors: &mut Errors) {
    let path = Path::new("status");
    let path = path.child("loadBalancer");
    let path = path.child("ingress");
    let entries = |object: View<'_>| -> Vec<Value> { object.at("status").at("loadBalancer").slice("ingress").to_vec() };
    let before = entries(old);
    let known: Vec<&str> = before.iter().map(|entry| View::new(entry).text("ip")).collect();
    for (position, entry) in entries(new).iter().map(View::new).enumerate() {
        let at = path.index(position);
        if !entry.text("ip").is_empty() {
            address::ip(&at.child("ip"), entry.text("ip"), &known, errors);
        }
        host_name(entry.text("hostname"), &at.child("hostname"), errors);
    }
}

fn ingress_class(new: View<'_>, old: Option<View<'_>>, errors: &mut Errors) {
    let spec = new.at("spec");
    let path = SPEC.child("controller");
    let controller = spec.text("controller");
    if let Some(old) = old {
        immutable(spec.at("controller"), old.at("spec").at("controller"), &path, errors);
    }
    if controller.len() > 250 {
        errors.too_long(&path, 250);
    }
    domain_prefixed_path(controller, &path, errors);
    let parameters = spec.at("parameters");
    if !parameters.exists() {
        return;
    }
    let path = SPEC.child("parameters");
    typed_reference(parameters, &path, errors);
    let at = path.child("namespace");
    match (parameters.at("scope").as_str(), parameters.at("namespace").as_str()) {
        (None, _) => errors.required(&path.child("scope"), ""),
        (Some("Namespace"), None) => errors.required(&at, "`parameters.scope` is set to 'Namespace'"),
        (Some("Namespace"), Some(name)) => faults(format::dns_label(name), name, &at, errors),
        (Some("Cluster"), Some(_)) => errors.forbidden(&at, "`parameters.scope` is set to 'Cluster'"),
        (Some("Cluster"), None) => {}
        (Some(other), _) => errors.not_supported(&path.child("scope"), other, &["Cluster", "Namespace"]),
    }
}

fn policy(spec: View<'_>, old: Option<View<'_>>, errors: &mut Errors) {
    label_selector(spec.at("podSelector"), &SPEC.child("podSelector"), errors);
    let known: Vec<String> = old.map(networks).unwrap_or_default();
    for (direction, peers) in [("ingress", "from"), ("egress", "to")] {
        let path = SPEC.child(direction);
        for (position, rule) in spec.list(direction).enumerate() {
            let at = path.index(position);
            let ports = at.child("ports");
            for (position, port) in rule.list("ports").enumerate() {
                policy_port(port, &ports.index(position), errors);
            }
            let at = at.child(peers);
            for (position, peer) in rule.list(peers).enumerate() {
                policy_peer(peer, &known, &at.index(position), errors);
            }
        }
    }
    let path = SPEC.child("policyTypes");
    let kinds = spec.slice("policyTypes");
    if kinds.len() > 2 {
        errors.invalid(&path, kinds.to_vec(), "may not specify more than two policyTypes");
        return;
    }
    for (position, kind) in spec.list("policyTypes").map(View::string).enumerate() {
        if !matches!(kind, "Ingress" | "Egress") {
            errors.not_supported(&path.index(position), kind, &["Ingress", "Egress"]);
        }
    }
}

/// All networks that a policy names, which may stay as they are.
fn networks(spec: View<'_>) -> Vec<String> {
    let mut found = Vec::new();
    for (direction, peers) in [("ingress", "from"), ("egress", "to")] {
        for block in spec.list(direction).flat_map(|rule| rule.list(peers)).map(|peer| peer.at("ipBlock")) {
            if !block.exists() {
                continue;
            }
            found.push(block.text("cidr").to_owned());
            found.extend(block.list("except").map(|except| except.string().to_owned()));
        }
    }
    found
}

fn policy_port(entry: View<'_>, path: &Path<'_>, errors: &mut Errors) {
    super::check::option(entry, "protocol", PROTOCOLS, path, errors);
    let (port, end) = (entry.at("port"), entry.int("endPort"));
    let (at, end_at) = (path.child("port"), path.child("endPort"));
    if let Some(number) = port.as_int() {
        for fault in format::port_number(number) {
            errors.invalid(&at, number, fault);
        }
        let Some(end) = end else { return };
        if end < number {
            errors.invalid(&end_at, end, "must be greater than or equal to `port`");
        }
        for fault in format::port_number(end) {
            errors.invalid(&end_at, end, fault);
        }
    } else if let Some(name) = port.as_str() {
        if let Some(end) = end {
            errors.invalid(&end_at, end, "may not be specified when `port` is non-numeric");
        }
        faults(format::port_name(name), name, &at, errors);
    } else if let Some(end) = end {
        errors.invalid(&end_at, end, "may not be specified when `port` is not specified");
    }
}

fn policy_peer(peer: View<'_>, known: &[String], path: &Path<'_>, errors: &mut Errors) {
    let mut count = 0;
    for selector in ["podSelector", "namespaceSelector"] {
        if peer.has(selector) {
            count += 1;
            label_selector(peer.at(selector), &path.child(selector), errors);
        }
    }
    let block = peer.at("ipBlock");
    if block.exists() {
        ip_block(block, known, &path.child("ipBlock"), errors);
        if count > 0 {
            errors.forbidden(path, "may not specify both ipBlock and another peer");
        }
    } else if count == 0 {
        errors.required(path, "must specify a peer");
    }
}

fn ip_block(block: View<'_>, known: &[String], path: &Path<'_>, errors: &mut Errors) {
    let known: Vec<&str> = known.iter().map(String::as_str).collect();
    let text = block.text("cidr");
    if text.is_empty() {
        errors.required(&path.child("cidr"), "");
        return;
    }
    address::cidr(&path.child("cidr"), text, &known, errors);
    let Some(network) = address::network(text) else { return };
    let path = path.child("except");
    for (position, except) in block.list("except").map(View::string).enumerate() {
        let at = path.index(position);
        address::cidr(&at, except, &known, errors);
        let Some(inner) = address::network(except) else { continue };
        if !address::contains(network, inner) || network.1 >= inner.1 {
            errors.invalid(&at, except, "must be a strict subset of `cidr`");
        }
    }
}

fn ip_address(new: View<'_>, old: Option<View<'_>>, errors: &mut Errors) {
    let spec = new.at("spec");
    let path = SPEC.child("parentRef");
    let parent = spec.at("parentRef");
    if let Some(old) = old {
        unchanging(parent, old.at("spec").at("parentRef"), &path, errors);
    }
    let name = new.at("metadata").text("name");
    if !name.is_empty() {
        address::canonical_ip(&METADATA.child("name"), name, errors);
    }
    if !parent.exists() {
        errors.required(&path, "");
        return;
    }
    let group = parent.text("group");
    if !group.is_empty() {
        faults(format::dns_subdomain(group), group, &path.child("group"), errors);
    }
    for member in ["resource", "name"] {
        path_segment(parent, member, &path, errors);
    }
    let namespace = parent.text("namespace");
    faults(format::path_segment(namespace), namespace, &path.child("namespace"), errors);
}

fn service_network(spec: View<'_>, old: Option<View<'_>>, errors: &mut Errors) {
    let path = SPEC.child("cidrs");
    let now: Vec<&str> = spec.list("cidrs").map(View::string).collect();
    let shown = || spec.at("cidrs").value().clone();
    let Some(old) = old else {
        service_networks(&now, &path, errors);
        return;
    };
    let before: Vec<&str> = old.list("cidrs").map(View::string).collect();
    match (before.len(), now.len()) {
        (a, b) if a == b => {
            for (position, (_, is)) in before.iter().zip(&now).enumerate().filter(|(_, (was, is))| was != is) {
                errors.invalid(&path.index(position), *is, IMMUTABLE);
            }
        }
        (1, 2) => {
            if now[0] != before[0] {
                errors.invalid(&path.index(0), now[0], IMMUTABLE);
            }
            service_networks(&now, &path, errors);
        }
        _ => errors.invalid(&path, shown(), IMMUTABLE),
    }
}

fn service_networks(networks: &[&str], path: &Path<'_>, errors: &mut Errors) {
    if networks.is_empty() {
        errors.required(path, "at least one CIDR required");
        return;
    }
    let shown = || Value::from(networks.to_vec());
    if networks.len() > 2 {
        errors.invalid(path, shown(), "may only hold up to 2 values");
        return;
    }
    for (position, network) in networks.iter().enumerate() {
        address::canonical_cidr(&path.index(position), network, errors);
    }
    let families: Vec<Option<bool>> =
        networks.iter().map(|network| address::network(network).map(|(address, _)| address.is_ipv4())).collect();
    if families.len() == 2 && families[0].is_some() && families[0] == families[1] {
        let detail = "may specify no more than one IP for each IP family, i.e 192.168.0.0/24 and 2001:db8::/64";
        errors.invalid(path, shown(), detail);
    }
}

/// An EndpointSlice.
pub fn endpoint_slice(new: View<'_>, old: Option<View<'_>>, errors: &mut Errors) {
    let kind = new.text("addressType");
    super::check::choice(kind, &["FQDN", "IPv4", "IPv6"], &Path::new("addressType"), errors);
    endpoint_ports(new, errors);
    if !old.is_some_and(|old| old.at("endpoints").same(new.at("endpoints"))) {
        endpoints(new, kind, errors);
    }
    if let Some(old) = old {
        unchanging(new.at("addressType"), old.at("addressType"), &Path::new("addressType"), errors);
    }
}

fn endpoint_ports(slice: View<'_>, errors: &mut Errors) {
    const MOST: usize = 20_000;
    let path = Path::new("ports");
    let ports = slice.slice("ports");
    if ports.len() > MOST {
        errors.too_many(&path, ports.len(), MOST);
        return;
    }
    let mut names = BTreeSet::new();
    for (position, port) in ports.iter().map(View::new).enumerate() {
        let at = path.index(position);
        let name = port.text("name");
        if !name.is_empty() {
            faults(format::dns_label(name), name, &at.child("name"), errors);
        }
        if !names.insert(name) {
            errors.duplicate(&at.child("name"), name);
        }
        if port.has("protocol") {
            super::check::option(port, "protocol", &["SCTP", "TCP", "UDP"], &at, errors);
        } else {
            errors.required(&at.child("protocol"), "");
        }
        if let Some(protocol) = port.at("appProtocol").as_str() {
            faults(format::qualified_name(protocol), protocol, &at.child("appProtocol"), errors);
        }
    }
}

fn endpoints(slice: View<'_>, kind: &str, errors: &mut Errors) {
    const MOST: usize = 1000;
    const MOST_ADDRESSES: usize = 100;
    const MOST_LABELS: usize = 16;
    let path = Path::new("endpoints");
    let endpoints = slice.slice("endpoints");
    if endpoints.len() > MOST {
        errors.too_many(&path, endpoints.len(), MOST);
        return;
    }
    for (position, endpoint) in endpoints.iter().map(View::new).enumerate() {
        let at = path.index(position);
        let addresses = at.child("addresses");
        let count = endpoint.slice("addresses").len();
        if count == 0 {
            errors.required(&addresses, "");
        } else if count > MOST_ADDRESSES {
            errors.too_many(&addresses, count, MOST_ADDRESSES);
        }
        for (position, text) in endpoint.list("addresses").map(View::string).enumerate() {
            endpoint_address(text, kind, &addresses, position, errors);
        }
        if let Some(node) = endpoint.at("nodeName").as_str() {
            faults(format::dns_subdomain(node), node, &at.child("nodeName"), errors);
        }
        let topology = at.child("deprecatedTopology");
        let count = endpoint.map("deprecatedTopology").map_or(0, |labels| labels.len());
        if count > MOST_LABELS {
            errors.too_many(&topology, count, MOST_LABELS);
        }
        labels(endpoint.at("deprecatedTopology"), &topology, errors);
        if let Some(name) = endpoint.at("hostname").as_str() {
            faults(format::dns_label(name), name, &at.child("hostname"), errors);
        }
        hints(endpoint.at("hints"), &at.child("hints"), errors);
    }
}

fn endpoint_address(text: &str, kind: &str, list: &Path<'_>, position: usize, errors: &mut Errors) {
    let at = list.index(position);
    let before = errors.len();
    match kind {
        "IPv4" => address::ip(&at, text, &[], errors),
        "IPv6" => address::canonical_ip(&at, text, errors),
        "FQDN" => {
            full_name(text, &at, errors);
            return;
        }
        _ => return,
    }
    if errors.len() > before {
        return;
    }
    if text.contains(':') != (kind == "IPv6") {
        errors.invalid(list, text, format!("must be an {kind} address"));
    }
    address::endpoint(&at, text, errors);
}

fn full_name(text: &str, path: &Path<'_>, errors: &mut Errors) {
    if text.is_empty() {
        errors.required(path, "");
        return;
    }
    let name = text.strip_suffix('.').unwrap_or(text);
    let found = format::dns_subdomain(name);
    if !found.is_empty() {
        errors.invalid(path, name, found.join(","));
    } else if !name.contains('.') {
        errors.invalid(path, name, "should be a domain with at least two segments separated by dots");
    } else if let Some(label) = name.split('.').find(|label| !format::dns_label(label).is_empty()) {
        errors.invalid(path, label, format::dns_label(label).join(","));
    }
}

fn hints(hints: View<'_>, path: &Path<'_>, errors: &mut Errors) {
    const MOST: usize = 8;
    for (list, form) in
        [("forZones", format::label_value as fn(&str) -> format::Faults), ("forNodes", format::dns_subdomain)]
    {
        let at = path.child(list);
        let count = hints.slice(list).len();
        if count > MOST {
            errors.too_many(&at, count, MOST);
            return;
        }
        let mut seen = BTreeSet::new();
        for (position, hint) in hints.list(list).enumerate() {
            let here = at.index(position);
            let name = hint.text("name");
            if !seen.insert(name) {
                errors.duplicate(&here.child("name"), name);
            }
            faults(form(name), name, &here.child("name"), errors);
        }
    }
}
