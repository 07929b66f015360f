//! Services: cluster addresses and node ports that a request need not repeat, or that its type no longer has.
//!
//! Addresses are of one family, IPv4. What must be allocated afterwards is told by [`needs_cluster_ip`], [`node_ports_wanted`]
//! and [`needs_health_check_port`].

use std::collections::HashMap;

use serde_json::{Value, json};

use crate::meta::{self, View};

/// What a headless Service has for an address.
pub const HEADLESS: &str = "None";

fn spec(service: &Value) -> View<'_> {
    View::new(service).at("spec")
}

fn kind(service: &Value) -> &str {
    match spec(service).text("type") {
        "" => "ClusterIP",
        kind => kind,
    }
}

/// Whether a Service of its type has a cluster address at all (`None` counts as one).
pub fn needs_cluster_ip(service: &Value) -> bool {
    kind(service) != "ExternalName"
}

/// Whether a cluster address is still to be allocated.
pub fn wants_cluster_ip(service: &Value) -> bool {
    needs_cluster_ip(service) && spec(service).text("clusterIP").is_empty()
}

/// Whether a Service of its type has node ports.
pub fn needs_node_port(service: &Value) -> bool {
    match kind(service) {
        "NodePort" => true,
        "LoadBalancer" => spec(service).bool("allocateLoadBalancerNodePorts") != Some(false),
        _ => false,
    }
}

/// Positions in `spec.ports` of ports for which a node port is still to be allocated.
pub fn node_ports_wanted(service: &Value) -> Vec<usize> {
    if !needs_node_port(service) {
        return Vec::new();
    }
    let ports = spec(service).list("ports").enumerate();
    ports.filter(|(_, port)| port.int("nodePort").unwrap_or(0) == 0).map(|(position, _)| position).collect()
}

/// Whether a port for health checks is still to be allocated.
pub fn needs_health_check_port(service: &Value) -> bool {
    has_health_check_port(service) && spec(service).int("healthCheckNodePort").unwrap_or(0) == 0
}

fn has_health_check_port(service: &Value) -> bool {
    kind(service) == "LoadBalancer" && spec(service).text("externalTrafficPolicy") == "Local"
}

pub(super) fn prepare_create(service: &mut Value) {
    let address = spec(service).text("clusterIP").to_owned();
    if !address.is_empty() && spec(service).slice("clusterIPs").is_empty() {
        meta::object_at(service, "spec").insert("clusterIPs".to_owned(), json!([address]));
    }
    families(service, None);
}

pub(super) fn prepare_update(new: &mut Value, old: &Value) {
    keep_allocated(new, old);
    align_addresses(new, old);
    families(new, Some(old));
    drop_what_the_type_has_not(new, old);
}

/// A client that sends a Service as it first wrote it keeps what was allocated.
fn keep_allocated(new: &mut Value, old: &Value) {
    let (new_view, old_view) = (spec(new), spec(old));
    let mut set = Vec::new();
    if needs_cluster_ip(old) && needs_cluster_ip(new) {
        if new_view.text("clusterIP").is_empty() && !old_view.text("clusterIP").is_empty() {
            set.push(("clusterIP", old_view.at("clusterIP").value().clone()));
        }
        if new_view.slice("clusterIPs").is_empty() && !old_view.slice("clusterIPs").is_empty() {
            set.push(("clusterIPs", old_view.at("clusterIPs").value().clone()));
        }
    }
    if has_health_check_port(old) && has_health_check_port(new) && new_view.at("healthCheckNodePort").is_zero() {
        set.push(("healthCheckNodePort", old_view.at("healthCheckNodePort").value().clone()));
    }
    let node_ports = needs_node_port(old) && needs_node_port(new);
    let map = meta::object_at(new, "spec");
    for (member, value) in set.into_iter().filter(|(_, value)| !value.is_null()) {
        map.insert(member.to_owned(), value);
    }
    if node_ports {
        keep_node_ports(new, old);
    }
}

fn keep_node_ports(new: &mut Value, old: &Value) {
    let used = |service: &Value| -> Vec<i64> {
        spec(service).list("ports").filter_map(|port| port.int("nodePort")).filter(|port| *port != 0).collect()
    };
    let new_used = used(new);
    let both: Vec<i64> = used(old).into_iter().filter(|port| new_used.contains(port)).collect();
    let by_name: HashMap<String, i64> =
        spec(old).list("ports").map(|port| (port.text("name").to_owned(), port.int("nodePort").unwrap_or(0))).collect();
    let Some(ports) = new.pointer_mut("/spec/ports").and_then(Value::as_array_mut) else { return };
    for port in ports {
        let view = View::new(port);
        if view.int("nodePort").unwrap_or(0) != 0 {
            continue;
        }
        let known = by_name.get(view.text("name")).copied().filter(|known| *known != 0 && !both.contains(known));
        if let (Some(known), Some(port)) = (known, port.as_object_mut()) {
            port.insert("nodePort".to_owned(), known.into());
        }
    }
}

fn align_addresses(new: &mut Value, old: &Value) {
    let (new_view, old_view) = (spec(new), spec(old));
    let (new_one, old_one) = (new_view.text("clusterIP"), old_view.text("clusterIP"));
    let (new_all, old_all) = (new_view.slice("clusterIPs"), old_view.slice("clusterIPs"));
    let aligned = if new_one == old_one {
        if new_all.is_empty() && !old_all.is_empty() { Some(old_all.to_vec()) } else { None }
    } else if new_all != old_all {
        None
    } else if new_one.is_empty() {
        Some(Vec::new())
    } else {
        Some(vec![new_one.into()])
    };
    if let Some(aligned) = aligned {
        let map = meta::object_at(new, "spec");
        if aligned.is_empty() {
            map.remove("clusterIPs");
        } else {
            map.insert("clusterIPs".to_owned(), aligned.into());
        }
    }
}

/// `ipFamilyPolicy` and `ipFamilies`, where the user leaves them open.
fn families(service: &mut Value, old: Option<&Value>) {
    if !needs_cluster_ip(service) {
        return;
    }
    let view = spec(service);
    let headless_without_selector = view.text("clusterIP") == HEADLESS && view.at("selector").is_zero();
    let policy = match view.at("ipFamilyPolicy").as_str() {
        None => match old.map(|old| spec(old).text("ipFamilyPolicy")).unwrap_or("") {
            "" if headless_without_selector => "RequireDualStack",
            "" => "SingleStack",
            old => old,
        },
        Some(policy) => policy,
    }
    .to_owned();
    let mut families: Vec<Value> = view.slice("ipFamilies").to_vec();
    if families.is_empty() {
        let addresses = view.list("clusterIPs").filter_map(|address| address.as_str());
        families = addresses
            .filter(|address| *address != HEADLESS)
            .map(|address| if address.contains(':') { "IPv6".into() } else { "IPv4".into() })
            .collect();
    }
    if families.is_empty() {
        families.push("IPv4".into());
    }
    if headless_without_selector && families.len() == 1 && policy != "SingleStack" {
        let other = if families[0] == "IPv4" { "IPv6" } else { "IPv4" };
        families.push(other.into());
    }
    let map = meta::object_at(service, "spec");
    map.insert("ipFamilyPolicy".to_owned(), policy.into());
    map.insert("ipFamilies".to_owned(), families.into());
}

fn drop_what_the_type_has_not(new: &mut Value, old: &Value) {
    let (new_view, old_view) = (spec(new), spec(old));
    let same = |member: &str| new_view.at(member).same(old_view.at(member));
    let mut drop: Vec<&str> = Vec::new();
    if needs_cluster_ip(old) && !needs_cluster_ip(new) {
        if same("clusterIP") && same("clusterIPs") {
            drop.extend(["clusterIP", "clusterIPs"]);
        }
        drop.extend(["ipFamilies", "ipFamilyPolicy"].into_iter().filter(|member| same(member)));
    }
    if has_health_check_port(old) && !has_health_check_port(new) && same("healthCheckNodePort") {
        drop.push("healthCheckNodePort");
    }
    let was_balancer = kind(old) == "LoadBalancer" && kind(new) != "LoadBalancer";
    if was_balancer {
        let members = ["allocateLoadBalancerNodePorts", "loadBalancerClass"];
        drop.extend(members.into_iter().filter(|member| same(member)));
    }
    if externally_accessible(old) && !externally_accessible(new) && same("externalTrafficPolicy") {
        drop.push("externalTrafficPolicy");
    }
    let typed_ports = |service: &Value| matches!(kind(service), "NodePort" | "LoadBalancer");
    let ports = |view: View<'_>| -> Vec<i64> {
        view.list("ports").filter_map(|port| port.int("nodePort")).filter(|port| *port != 0).collect()
    };
    let old_ports = ports(old_view);
    let drop_node_ports =
        typed_ports(old) && !typed_ports(new) && ports(new_view).iter().all(|port| old_ports.contains(port));
    let clear_balancer = kind(new) != "LoadBalancer";
    let map = meta::object_at(new, "spec");
    for member in drop {
        map.remove(member);
    }
    if drop_node_ports && let Some(ports) = map.get_mut("ports").and_then(Value::as_array_mut) {
        for port in ports.iter_mut().filter_map(Value::as_object_mut) {
            port.remove("nodePort");
        }
    }
    if clear_balancer {
        meta::object_at(new, "status").insert("loadBalancer".to_owned(), json!({}));
    }
}

/// Whether a Service is reached from outside the cluster.
pub fn externally_accessible(service: &Value) -> bool {
    match kind(service) {
        "NodePort" | "LoadBalancer" => true,
        "ClusterIP" => !spec(service).slice("externalIPs").is_empty(),
        _ => false,
    }
}
