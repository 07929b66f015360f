//! Services. Addresses are of one family in this cluster, IPv4.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::check::{choice, faults};
use super::metadata;
use super::pod::container::{port_or_name, protocol};
use super::{Errors, Path, address, format};
use crate::meta::View;
use crate::strategy::service::{HEADLESS, externally_accessible};

const SPEC: Path<'static> = Path::new("spec");
const ONLY_BALANCERS: &str = "may only be used when `type` is 'LoadBalancer'";
const UNCHANGING: &str = "may not change once set";
const FAMILIES: &[&str] = &["IPv4", "IPv6"];

/// A Service, new or changed.
pub fn service(subresource: &str, new: View<'_>, old: Option<View<'_>>, errors: &mut Errors) {
    if subresource == "status" {
        let before = old.map_or(View::nothing(), |old| old.at("status").at("loadBalancer"));
        let at = Path::new("status");
        balancer_status(
            new.at("status").at("loadBalancer"),
            before,
            &at.child("loadBalancer"),
            new.at("spec").text("type"),
            errors,
        );
        return;
    }
    if let Some(old) = old {
        let (now, before) = (new.at("spec"), old.at("spec"));
        addresses_update(now, before, errors);
        families_update(now, before, errors);
        let balancers = now.text("type") == "LoadBalancer" && before.text("type") == "LoadBalancer";
        if balancers && now.at("loadBalancerClass") != before.at("loadBalancerClass") {
            let shown = now.at("loadBalancerClass").value().clone();
            errors.invalid(&SPEC.child("loadBalancerClass"), shown, UNCHANGING);
        }
        if has_health_checks(now)
            && has_health_checks(before)
            && !now.at("healthCheckNodePort").same(before.at("healthCheckNodePort"))
        {
            errors.forbidden(&SPEC.child("healthCheckNodePort"), metadata::IMMUTABLE);
        }
    }
    main(new, old, errors);
}

fn is_headless(spec: View<'_>) -> bool {
    let addresses = spec.slice("clusterIPs");
    addresses.len() == 1 && addresses[0] == HEADLESS
}

fn has_health_checks(spec: View<'_>) -> bool {
    spec.text("type") == "LoadBalancer" && spec.text("externalTrafficPolicy") == "Local"
}

fn main(new: View<'_>, old: Option<View<'_>>, errors: &mut Errors) {
    const HINTS: &str = "service.kubernetes.io/topology-aware-hints";
    const MODE: &str = "service.kubernetes.io/topology-mode";
    let annotations = new.at("metadata").at("annotations");
    if annotations.has(HINTS) && annotations.has(MODE) && annotations.text(HINTS) != annotations.text(MODE) {
        let at = Path::new("metadata");
        let at = at.child("annotations");
        let detail = format!("must match annotations[{HINTS}] when both are specified");
        errors.invalid(&at.key(MODE), annotations.text(MODE), detail);
    }
    let spec = new.at("spec");
    let kind = spec.text("type");
    if spec.slice("ports").is_empty() && !is_headless(spec) && kind != "ExternalName" {
        errors.required(&SPEC.child("ports"), "");
    }
    if matches!(kind, "LoadBalancer" | "NodePort") && is_headless(spec) {
        let detail = format!("may not be set to 'None' for {kind} services");
        errors.invalid(&SPEC.child("clusterIPs").index(0), HEADLESS, detail);
    }
    if kind == "ExternalName" {
        external_name(spec, errors);
    }
    ports(spec, errors);
    metadata::labels(spec.at("selector"), &SPEC.child("selector"), errors);
    affinity(spec, errors);
    if kind != "ExternalName" {
        addresses(spec, old.map_or(View::nothing(), |old| old.at("spec")), errors);
    }
    let path = SPEC.child("externalIPs");
    let known: Vec<&str> =
        old.map_or(View::nothing(), |old| old.at("spec")).list("externalIPs").map(View::string).collect();
    for (position, text) in spec.list("externalIPs").map(View::string).enumerate() {
        let before = errors.len();
        address::ip(&path.index(position), text, &known, errors);
        if errors.len() == before {
            address::endpoint(&path.index(position), text, errors);
        }
    }
    choice(kind, &["ClusterIP", "ExternalName", "LoadBalancer", "NodePort"], &SPEC.child("type"), errors);
    port_numbers(spec, errors);
    source_ranges(new, old, errors);
    const ALLOCATE: &str = "allocateLoadBalancerNodePorts";
    if spec.has(ALLOCATE) && kind != "LoadBalancer" {
        errors.forbidden(&SPEC.child(ALLOCATE), ONLY_BALANCERS);
    }
    if !spec.has(ALLOCATE) && kind == "LoadBalancer" {
        errors.required(&Path::new(ALLOCATE), "");
    }
    if let Some(class) = spec.at("loadBalancerClass").as_str() {
        let at = SPEC.child("loadBalancerClass");
        if kind == "LoadBalancer" {
            faults(format::qualified_name(class), class, &at, errors);
        } else {
            errors.forbidden(&at, ONLY_BALANCERS);
        }
    }
    traffic(new, errors);
}

fn external_name(spec: View<'_>, errors: &mut Errors) {
    const DETAIL: &str = "may not be set for ExternalName services";
    for member in ["clusterIPs", "ipFamilies", "ipFamilyPolicy"] {
        if !spec.at(member).is_zero() {
            errors.forbidden(&SPEC.child(member), DETAIL);
        }
    }
    let name = spec.text("externalName");
    let name = name.strip_suffix('.').unwrap_or(name);
    if name.is_empty() {
        errors.required(&SPEC.child("externalName"), "");
    } else {
        faults(format::dns_subdomain(name), name, &SPEC.child("externalName"), errors);
    }
}

fn ports(spec: View<'_>, errors: &mut Errors) {
    let path = SPEC.child("ports");
    let mut names = BTreeSet::new();
    let several = spec.slice("ports").len() > 1;
    for (position, port) in spec.list("ports").enumerate() {
        let at = path.index(position);
        let name = port.text("name");
        if name.is_empty() {
            if several {
                errors.required(&at.child("name"), "");
            }
        } else {
            faults(format::dns_label(name), name, &at.child("name"), errors);
            if !names.insert(name) {
                errors.duplicate(&at.child("name"), name);
            }
        }
        let number = port.int("port").unwrap_or(0);
        for fault in format::port_number(number) {
            errors.invalid(&at.child("port"), number, fault);
        }
        protocol(port.text("protocol"), &at.child("protocol"), errors);
        port_or_name(port.at("targetPort"), &at.child("targetPort"), errors);
        if let Some(protocol) = port.at("appProtocol").as_str() {
            faults(format::qualified_name(protocol), protocol, &at.child("appProtocol"), errors);
        }
    }
}

fn affinity(spec: View<'_>, errors: &mut Errors) {
    let kind = spec.text("sessionAffinity");
    choice(kind, &["ClientIP", "None"], &SPEC.child("sessionAffinity"), errors);
    let config = spec.at("sessionAffinityConfig");
    let path = SPEC.child("sessionAffinityConfig");
    if kind == "None" && config.exists() {
        errors.forbidden(&path, "must not be set when session affinity is None");
    }
    if kind != "ClientIP" {
        return;
    }
    const MOST: i64 = 86400;
    if !config.exists() {
        errors.required(&path, "when session affinity type is ClientIP");
        return;
    }
    let client = config.at("clientIP");
    let path = path.child("clientIP");
    if !client.exists() {
        errors.required(&path, "when session affinity type is ClientIP");
        return;
    }
    match client.int("timeoutSeconds") {
        None => errors.required(&path.child("timeoutSeconds"), "when session affinity type is ClientIP"),
        Some(seconds) if !(1..=MOST).contains(&seconds) => {
            let detail = format!("must be greater than 0 and less than {MOST}");
            errors.invalid(&path.child("timeoutSeconds"), seconds, detail);
        }
        Some(_) => {}
    }
}

/// `clusterIP`, `clusterIPs`, `ipFamilies` and `ipFamilyPolicy` among each other.
fn addresses(spec: View<'_>, old: View<'_>, errors: &mut Errors) {
    let (one, all) = (spec.text("clusterIP"), spec.slice("clusterIPs"));
    let path = SPEC.child("clusterIPs");
    let shown = || Value::from(all.to_vec());
    if one.is_empty() && !all.is_empty() {
        errors.invalid(&path, shown(), "must be empty when `clusterIP` is not specified");
    } else if !one.is_empty() && all.is_empty() {
        errors.required(&path, "");
    } else if !one.is_empty() && all[0] != one {
        errors.invalid(&path, shown(), "first value must match `clusterIP`");
    }
    let families: Vec<&str> = spec.list("ipFamilies").map(View::string).collect();
    let family_path = SPEC.child("ipFamilies");
    for (position, family) in families.iter().enumerate() {
        if !FAMILIES.contains(family) {
            errors.not_supported(&family_path.index(position), *family, FAMILIES);
        }
        if families[..position].contains(family) {
            errors.duplicate(&family_path.index(position), *family);
        }
    }
    let policy = spec.text("ipFamilyPolicy");
    const POLICIES: &[&str] = &["PreferDualStack", "RequireDualStack", "SingleStack"];
    if spec.has("ipFamilyPolicy") && !POLICIES.contains(&policy) {
        errors.not_supported(&SPEC.child("ipFamilyPolicy"), policy, POLICIES);
    }
    let known: Vec<&str> = old.list("clusterIPs").map(View::string).collect();
    let before = errors.len();
    for (position, text) in spec.list("clusterIPs").map(View::string).enumerate() {
        if position == 0 && text == HEADLESS {
            if all.len() > 1 {
                errors.invalid(&path, shown(), "'None' must be the first and only value");
            }
        } else {
            address::ip(&path.index(position), text, &known, errors);
        }
    }
    let malformed = errors.len() > before;
    if all.len() > 2 {
        errors.invalid(&path, shown(), "may only hold up to 2 values");
    }
    if malformed {
        return;
    }
    let is_v6 = |text: &str| text.contains(':');
    let texts: Vec<&str> = spec.list("clusterIPs").map(View::string).collect();
    if texts.len() > 1 && texts.iter().all(|text| is_v6(text) == is_v6(texts[0])) {
        errors.invalid(&path, shown(), "may specify no more than one IP for each IP family");
    }
    if !is_headless(spec) {
        for (position, (text, family)) in texts.iter().zip(&families).enumerate() {
            if FAMILIES.contains(family) && (*family == "IPv6") != is_v6(text) {
                let detail = format!("expected an {family} value as indicated by `ipFamilies[{position}]`");
                errors.invalid(&path.index(position), *text, detail);
            }
        }
    }
    one_family(spec, &families, errors);
}

/// What a cluster of one family cannot offer.
fn one_family(spec: View<'_>, families: &[&str], errors: &mut Errors) {
    let policy = spec.text("ipFamilyPolicy");
    let path = SPEC.child("ipFamilyPolicy");
    if policy == "SingleStack" {
        const DETAIL: &str = "must be 'RequireDualStack' or 'PreferDualStack' when multiple";
        if spec.slice("clusterIPs").len() == 2 {
            errors.invalid(&path, policy, format!("{DETAIL} cluster IPs are specified"));
        }
        if families.len() == 2 {
            errors.invalid(&path, policy, format!("{DETAIL} IP families are specified"));
        }
    }
    if is_headless(spec) && spec.at("selector").is_zero() {
        return;
    }
    if policy == "RequireDualStack" {
        errors.invalid(&path, policy, "this cluster is not configured for dual-stack services");
    }
    let path = SPEC.child("ipFamilies");
    for (position, family) in families.iter().enumerate().filter(|(_, family)| **family == "IPv6") {
        errors.invalid(&path.index(position), *family, "not configured on this cluster");
    }
}

fn port_numbers(spec: View<'_>, errors: &mut Errors) {
    let path = SPEC.child("ports");
    if spec.text("type") == "ClusterIP" {
        for (position, port) in spec.list("ports").enumerate() {
            if port.int("nodePort").unwrap_or(0) != 0 {
                let detail = "may not be used when `type` is 'ClusterIP'";
                errors.forbidden(&path.index(position).child("nodePort"), detail);
            }
        }
    }
    let mut seen = BTreeSet::new();
    for (position, port) in spec.list("ports").enumerate() {
        let number = port.int("nodePort").unwrap_or(0);
        if number != 0 && !seen.insert((port.text("protocol"), number)) {
            errors.duplicate(&path.index(position).child("nodePort"), number);
        }
    }
    let mut seen = BTreeSet::new();
    for (position, port) in spec.list("ports").enumerate() {
        let (protocol, number) = (port.text("protocol"), port.int("port").unwrap_or(0));
        if !seen.insert((protocol, number)) {
            let shown = json!({
                "Name": "", "Protocol": protocol, "AppProtocol": null, "Port": number, "TargetPort": 0, "NodePort": 0,
            });
            errors.duplicate(&path.index(position), shown);
        }
    }
}

fn source_ranges(new: View<'_>, old: Option<View<'_>>, errors: &mut Errors) {
    const ANNOTATION: &str = "service.beta.kubernetes.io/load-balancer-source-ranges";
    const MEMBER: &str = "loadBalancerSourceRanges";
    let spec = new.at("spec");
    let balancer = spec.text("type") == "LoadBalancer";
    let old = old.unwrap_or(View::nothing());
    let at = Path::new("metadata");
    let at = at.child("annotations");
    let (path, annotation) = (SPEC.child("LoadBalancerSourceRanges"), at.key(ANNOTATION));
    let annotations = new.at("metadata").at("annotations");
    if !spec.slice(MEMBER).is_empty() {
        if !balancer {
            errors.forbidden(&path, ONLY_BALANCERS);
        }
        let known: Vec<&str> = old.at("spec").list(MEMBER).map(|range| range.string().trim()).collect();
        for (position, range) in spec.list(MEMBER).map(View::string).enumerate() {
            address::cidr(&path.index(position), range.trim(), &known, errors);
        }
    } else if let Some(ranges) = annotations.at(ANNOTATION).as_str() {
        if !balancer {
            errors.forbidden(&annotation, ONLY_BALANCERS);
        }
        let before = old.at("metadata").at("annotations").at(ANNOTATION).as_str();
        if before != Some(ranges) && !ranges.trim().is_empty() {
            for range in ranges.split(',') {
                address::cidr(&annotation, range.trim(), &[], errors);
            }
        }
    }
}

fn traffic(new: View<'_>, errors: &mut Errors) {
    const POLICIES: &[&str] = &["Cluster", "Local"];
    let spec = new.at("spec");
    let path = SPEC.child("externalTrafficPolicy");
    let policy = spec.text("externalTrafficPolicy");
    if externally_accessible(new.value()) {
        choice(policy, POLICIES, &path, errors);
    } else if !policy.is_empty() {
        errors.invalid(&path, policy, "may only be set for externally-accessible services");
    }
    let path = SPEC.child("healthCheckNodePort");
    let port = spec.int("healthCheckNodePort").unwrap_or(0);
    if has_health_checks(spec) {
        if port == 0 {
            errors.required(&path, "");
        } else {
            for fault in format::port_number(port) {
                errors.invalid(&path, port, fault);
            }
        }
    } else if port != 0 {
        let detail = "may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'";
        errors.invalid(&path, port, detail);
    }
    let path = SPEC.child("internalTrafficPolicy");
    match spec.at("internalTrafficPolicy").as_str() {
        None if matches!(spec.text("type"), "NodePort" | "LoadBalancer" | "ClusterIP") => errors.required(&path, ""),
        Some(policy) if !POLICIES.contains(&policy) => errors.not_supported(&path, policy, POLICIES),
        _ => {}
    }
    super::check::option(
        spec,
        "trafficDistribution",
        &["PreferClose", "PreferSameZone", "PreferSameNode"],
        &SPEC,
        errors,
    );
}

/// What may become of addresses: a second one may come and go, the first one stays.
fn addresses_update(new: View<'_>, old: View<'_>, errors: &mut Errors) {
    let external = |spec: View<'_>| spec.text("type") == "ExternalName";
    if external(new) || external(old) || (is_headless(new) && is_headless(old)) {
        return;
    }
    let (now, before) = (new.slice("clusterIPs"), old.slice("clusterIPs"));
    let path = SPEC.child("clusterIPs");
    let shown = || Value::from(now.to_vec());
    if now.len() == before.len() {
        for (position, _) in before.iter().zip(now).enumerate().filter(|(_, (was, is))| was != is) {
            errors.invalid(&path.index(position), shown(), UNCHANGING);
        }
        return;
    }
    if now.is_empty() {
        errors.invalid(&path.index(0), shown(), "primary clusterIP can not be unset");
    }
    if let (Some(was), Some(is)) = (before.first(), now.first())
        && was != is
    {
        errors.invalid(&path.index(0), shown(), UNCHANGING);
    }
    if before.len() > now.len() && now.len() == 1 && new.text("ipFamilyPolicy") != "SingleStack" {
        let detail = "must be set to 'SingleStack' when releasing the secondary clusterIP";
        errors.invalid(&SPEC.child("ipFamilyPolicy"), new.at("ipFamilyPolicy").value().clone(), detail);
    }
}

fn families_update(new: View<'_>, old: View<'_>, errors: &mut Errors) {
    let external = |spec: View<'_>| spec.text("type") == "ExternalName";
    if external(new) || external(old) || is_headless(new) || is_headless(old) {
        return;
    }
    let (now, before) = (new.slice("ipFamilies"), old.slice("ipFamilies"));
    let at = SPEC.child("ipFamilies");
    let path = at.index(0);
    let shown = || Value::from(now.to_vec());
    if now.len() == before.len() {
        for _ in before.iter().zip(now).filter(|(was, is)| was != is) {
            errors.invalid(&path, shown(), UNCHANGING);
        }
        return;
    }
    let addresses = || Value::from(new.slice("clusterIPs").to_vec());
    if before.len() > now.len() && new.slice("clusterIPs").is_empty() {
        errors.invalid(&path, shown(), "primary ipFamily can not be unset");
    }
    if let (Some(was), Some(is)) = (before.first(), now.first())
        && was != is
    {
        errors.invalid(&path, addresses(), UNCHANGING);
    }
    if before.len() > now.len() && now.len() == 1 && new.text("ipFamilyPolicy") != "SingleStack" {
        let detail = "must be set to 'SingleStack' when releasing the secondary ipFamily";
        errors.invalid(&SPEC.child("ipFamilyPolicy"), new.at("ipFamilyPolicy").value().clone(), detail);
    }
}

/// Where a load balancer takes traffic in, of a Service or an Ingress.
pub fn balancer_status(status: View<'_>, old: View<'_>, path: &Path<'_>, kind: &str, errors: &mut Errors) {
    let path = path.child("ingress");
    if kind != "LoadBalancer" && !status.slice("ingress").is_empty() {
        errors.forbidden(&path, "may only be used when `spec.type` is 'LoadBalancer'");
        return;
    }
    let known: Vec<&str> = old.list("ingress").map(|ingress| ingress.text("ip")).collect();
    for (position, ingress) in status.list("ingress").enumerate() {
        let at = path.index(position);
        let text = ingress.text("ip");
        if !text.is_empty() {
            address::ip(&at.child("ip"), text, &known, errors);
        }
        const MODES: &[&str] = &["Proxy", "VIP"];
        let mode = at.child("ipMode");
        match (ingress.at("ipMode").as_str(), text.is_empty()) {
            (None, false) => errors.required(&mode, "must be specified when `ip` is set"),
            (Some(_), true) => errors.forbidden(&mode, "may not be specified when `ip` is not set"),
            (Some(text), _) if !MODES.contains(&text) => errors.not_supported(&mode, text, MODES),
            _ => {}
        }
        host_name(ingress.text("hostname"), &at.child("hostname"), errors);
    }
}

/// A load balancer's host name, if it has one.
pub fn host_name(name: &str, path: &Path<'_>, errors: &mut Errors) {
    if name.is_empty() {
        return;
    }
    faults(format::dns_subdomain(name), name, path, errors);
    if name.parse::<std::net::IpAddr>().is_ok() {
        errors.invalid(path, name, "must be a DNS name, not an IP address");
    }
}
