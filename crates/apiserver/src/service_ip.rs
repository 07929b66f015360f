//! Addresses and ports of Services: taken and freed in the commit that writes the Service, so that none is ever lost or given
//! twice.
//!
//! ```text
//! create   Service  +  IPAddress 10.43.7.9 (must not exist)  +  ranges/servicenodeports/30123 (must not exist)
//! delete   Service  -  IPAddress                             -  port
//! ```
//!
//! An address that nobody asked for is taken from the upper part of the range, which leaves the lower part to those who ask
//! for a certain one, as upstream has it.
//!
//! <https://kubernetes.io/docs/concepts/services-networking/cluster-ip-allocation/>

use std::{collections::BTreeSet, net::Ipv4Addr, sync::Arc};

use api::{
    json,
    meta::{self, View},
    status::Status,
    strategy::service as rules,
    validate::FieldError,
};
use bytes::Bytes;
use serde_json::{Value, json};
use store::{Compare, Op, Revision};

use crate::{admission::Attributes, commit::Extra, registry::Resource, server::Server};

/// Where node ports that are taken lie in the store: group and plural of a resource without versions.
pub const PORTS: (&str, &str) = ("ranges", "servicenodeports");

/// How often a free address or port is guessed before the range is searched.
const GUESSES: u32 = 64;

/// The object that says that an address is taken.
pub fn address(ip: &str, namespace: &str, name: &str) -> Value {
    json!({
        "kind": "IPAddress", "apiVersion": "networking.k8s.io/v1",
        "metadata": { "name": ip, "labels": {
            "ipaddress.kubernetes.io/ip-family": "IPv4", "ipaddress.kubernetes.io/managed-by": "ipallocator.k8s.io",
        } },
        "spec": { "parentRef": { "group": "", "resource": "services", "namespace": namespace, "name": name } },
    })
}

/// Takes what a Service needs and frees what it no longer has. `new` is none for a deletion, `old` for a creation.
pub fn allocate(
    server: &Server,
    attributes: &Attributes<'_>,
    new: Option<&mut Value>,
    old: Option<&Value>,
) -> Result<Extra, Status> {
    let mut work = Work {
        server,
        addresses: server.resource("networking.k8s.io", "ipaddresses")?,
        ports: server.resource(PORTS.0, PORTS.1)?,
        owner: (attributes.namespace.to_owned(), attributes.name.to_owned()),
        extra: Extra::default(),
    };
    let (had_addresses, had_ports) = (old.map(addresses).unwrap_or_default(), old.map(ports).unwrap_or_default());
    let (mut has_addresses, mut has_ports) = (BTreeSet::new(), BTreeSet::new());
    if let Some(new) = new {
        let errors = families(new);
        if !errors.is_empty() {
            return Err(invalid(attributes, &errors));
        }
        work.take_address(new, &had_addresses).map_err(|error| invalid(attributes, &[error]))?;
        work.take_ports(new, &had_ports).map_err(|error| invalid(attributes, &[error]))?;
        (has_addresses, has_ports) = (addresses(new), ports(new));
    }
    for ip in had_addresses.difference(&has_addresses) {
        let key: Arc<str> = work.addresses.key("", ip).into();
        work.extra.ops.push(Op::Delete { key });
    }
    for port in had_ports.difference(&has_ports) {
        let key: Arc<str> = work.ports.key("", &port.to_string()).into();
        work.extra.ops.push(Op::Delete { key });
    }
    Ok(work.extra)
}

fn invalid(attributes: &Attributes<'_>, errors: &[FieldError]) -> Status {
    Status::invalid(attributes.kind.group_kind(), attributes.name, errors)
}

/// Cluster addresses that a Service has.
fn addresses(service: &Value) -> BTreeSet<String> {
    if !rules::needs_cluster_ip(service) {
        return BTreeSet::new();
    }
    let spec = View::new(service).at("spec");
    let all = spec.list("clusterIPs").map(View::string).chain([spec.text("clusterIP")]);
    all.filter(|ip| !matches!(*ip, "" | rules::HEADLESS)).map(str::to_owned).collect()
}

/// Node ports that a Service has.
fn ports(service: &Value) -> BTreeSet<u16> {
    let spec = View::new(service).at("spec");
    let own = spec.list("ports").filter_map(|port| port.int("nodePort"));
    let all = own.chain(spec.int("healthCheckNodePort"));
    all.filter_map(|port| u16::try_from(port).ok()).filter(|port| *port != 0).collect()
}

/// What the cluster, which has one family, cannot give.
fn families(service: &Value) -> Vec<FieldError> {
    let spec = View::new(service).at("spec");
    let mut errors = Vec::new();
    if !rules::needs_cluster_ip(service) {
        return errors;
    }
    let policy = spec.text("ipFamilyPolicy");
    let (ips, families) = (spec.slice("clusterIPs"), spec.slice("ipFamilies"));
    if policy == "SingleStack" {
        for (list, what) in [(ips, "cluster IPs"), (families, "IP families")] {
            if list.len() == 2 {
                let detail =
                    format!("must be 'RequireDualStack' or 'PreferDualStack' when multiple {what} are specified");
                errors.push(FieldError::invalid("spec.ipFamilyPolicy", policy, detail));
            }
        }
    }
    if spec.text("clusterIP") == rules::HEADLESS && spec.at("selector").is_zero() {
        return errors;
    }
    if policy == "RequireDualStack" {
        let detail = "this cluster is not configured for dual-stack services";
        errors.push(FieldError::invalid("spec.ipFamilyPolicy", policy, detail));
    }
    for (at, family) in families.iter().enumerate().filter(|(_, family)| *family != "IPv4") {
        let path = format!("spec.ipFamilies[{at}]");
        errors.push(FieldError::invalid(path, family.clone(), "not configured on this cluster"));
    }
    errors
}

struct Work<'a> {
    server: &'a Server,
    addresses: Arc<Resource>,
    ports: Arc<Resource>,
    /// Namespace and name of the Service.
    owner: (String, String),
    extra: Extra,
}

impl Work<'_> {
    fn put(&mut self, key: Arc<str>, value: Bytes) {
        self.extra.compare.push(Compare { key: key.clone(), mod_revision: Revision::ABSENT });
        self.extra.ops.push(Op::Put { key, value });
    }

    fn take_address(&mut self, service: &mut Value, had: &BTreeSet<String>) -> Result<(), FieldError> {
        if !rules::needs_cluster_ip(service) {
            return Ok(());
        }
        let spec = View::new(service).at("spec");
        let wanted = match spec.text("clusterIP") {
            "" => spec.list("clusterIPs").next().map_or("", View::string),
            own => own,
        };
        if wanted == rules::HEADLESS || had.contains(wanted) {
            return Ok(());
        }
        let (network, length) = self.server.config.service_cidr;
        let ip = if wanted.is_empty() {
            self.free_address().ok_or_else(|| {
                FieldError::invalid(
                    "spec.clusterIPs",
                    spec.at("clusterIPs").value().clone(),
                    "failed to allocate IP: range is full",
                )
            })?
        } else {
            let refused = |why: String| {
                let ips = json!([wanted]);
                FieldError::invalid("spec.clusterIPs", ips, format!("failed to allocate IP {wanted}: {why}"))
            };
            // What is no address is refused by validation.
            let Ok(ip) = wanted.parse::<Ipv4Addr>() else { return Ok(()) };
            let offset =
                u32::from(ip).checked_sub(u32::from(network)).filter(|offset| (1..size(length)).contains(offset));
            if offset.is_none() {
                let range = format!("{network}/{length}");
                return Err(refused(format!(
                    "the provided IP ({ip}) is not in the valid range. The range of valid IPs is {range}"
                )));
            }
            if self.addresses.cache.get(&self.addresses.key("", wanted)).is_some() {
                return Err(refused("provided IP is already allocated".to_owned()));
            }
            ip
        };
        let ip = ip.to_string();
        let (namespace, name) = self.owner.clone();
        let mut object = address(&ip, &namespace, &name);
        meta::set_uid(&mut object, &self.server.new_uid());
        meta::set_creation_timestamp(&mut object, self.server.now());
        meta::set_generation(&mut object, 1);
        let key: Arc<str> = self.addresses.key("", &ip).into();
        self.put(key, json::to_canonical(&object));
        let spec = meta::object_at(service, "spec");
        spec.insert("clusterIP".to_owned(), ip.as_str().into());
        spec.insert("clusterIPs".to_owned(), json!([ip]));
        Ok(())
    }

    fn free_address(&self) -> Option<Ipv4Addr> {
        let (network, length) = self.server.config.service_cidr;
        let size = size(length);
        // Upstream's bands: the lower sixteenth, at least 16 and at most 256 addresses, is for those who ask.
        let low = (size / 16).clamp(16, 256).min(size / 2);
        let at = |offset: u32| Ipv4Addr::from(u32::from(network) + offset);
        let free = |offset: &u32| self.addresses.cache.get(&self.addresses.key("", &at(*offset).to_string())).is_none();
        for _ in 0..GUESSES {
            let offset = low + self.server.random() % (size - low);
            if offset < size && free(&offset) {
                return Some(at(offset));
            }
        }
        (low..size).chain(1..low).find(free).map(at)
    }

    fn take_ports(&mut self, service: &mut Value, had: &BTreeSet<u16>) -> Result<(), FieldError> {
        let mut taken: BTreeSet<u16> = BTreeSet::new();
        let spec = View::new(service).at("spec");
        let typed = matches!(spec.text("type"), "NodePort" | "LoadBalancer");
        if typed {
            for (at, port) in spec.list("ports").enumerate() {
                let Some(port) = port.int("nodePort").filter(|port| *port != 0) else { continue };
                // The same number under another protocol is the same allocation.
                if u16::try_from(port).is_ok_and(|port| taken.contains(&port)) {
                    continue;
                }
                taken.insert(self.claim(port, &format!("spec.ports[{at}].nodePort"), had)?);
            }
        }
        let health = spec.int("healthCheckNodePort").filter(|port| *port != 0);
        if let Some(port) = health.filter(|_| spec.text("externalTrafficPolicy") == "Local" && typed) {
            taken.insert(self.claim(port, "spec.healthCheckNodePort", had)?);
        }
        let full = |path: &str| FieldError::invalid(path, 0, "failed to allocate a nodePort: range is full");
        for at in rules::node_ports_wanted(service) {
            // Ports of one number and different protocols share a node port.
            let list = View::new(service).at("spec").slice("ports");
            let number = |at: usize| list.get(at).and_then(|port| View::new(port).int("port"));
            let protocol = |at: usize| list.get(at).map(|port| View::new(port).text("protocol").to_owned());
            let shared = (0..list.len()).find_map(|other| {
                let port = View::new(&list[other]).int("nodePort").filter(|port| *port != 0)?;
                let clash = (0..list.len())
                    .any(|any| View::new(&list[any]).int("nodePort") == Some(port) && protocol(any) == protocol(at));
                (number(other) == number(at) && protocol(other) != protocol(at) && !clash).then_some(port)
            });
            let port = match shared {
                Some(port) => port,
                None => {
                    let port = self.free_port(&taken).ok_or_else(|| full(&format!("spec.ports[{at}].nodePort")))?;
                    taken.insert(port);
                    self.put_port(port);
                    i64::from(port)
                }
            };
            if let Some(slot) = service.pointer_mut(&format!("/spec/ports/{at}")).and_then(Value::as_object_mut) {
                slot.insert("nodePort".to_owned(), port.into());
            }
        }
        if rules::needs_health_check_port(service) {
            let port = self.free_port(&taken).ok_or_else(|| full("spec.healthCheckNodePort"))?;
            self.put_port(port);
            meta::object_at(service, "spec").insert("healthCheckNodePort".to_owned(), port.into());
        }
        Ok(())
    }

    /// Takes a certain port, unless the Service has it already.
    fn claim(&mut self, port: i64, path: &str, had: &BTreeSet<u16>) -> Result<u16, FieldError> {
        let (first, last) = self.server.config.node_ports;
        let Some(number) = u16::try_from(port).ok().filter(|port| (first..=last).contains(port)) else {
            let detail = format!("provided port is not in the valid range. The range of valid ports is {first}-{last}");
            return Err(FieldError::invalid(path, port, detail));
        };
        if had.contains(&number) {
            return Ok(number);
        }
        if self.ports.cache.get(&self.ports.key("", &number.to_string())).is_some() {
            return Err(FieldError::invalid(path, port, "provided port is already allocated"));
        }
        self.put_port(number);
        Ok(number)
    }

    fn put_port(&mut self, port: u16) {
        let key: Arc<str> = self.ports.key("", &port.to_string()).into();
        let value = format!("{}/{}", self.owner.0, self.owner.1);
        self.put(key, value.into());
    }

    fn free_port(&self, taken: &BTreeSet<u16>) -> Option<u16> {
        let (first, last) = self.server.config.node_ports;
        let count = u32::from(last.saturating_sub(first)) + 1;
        let free = |port: &u16| {
            !taken.contains(port) && self.ports.cache.get(&self.ports.key("", &port.to_string())).is_none()
        };
        let at = |offset: u32| u16::try_from(u32::from(first) + offset).unwrap_or(last);
        for _ in 0..GUESSES {
            let port = at(self.server.random() % count);
            if free(&port) {
                return Some(port);
            }
        }
        (0..count).map(at).find(free)
    }
}

/// Usable addresses of a network: all but the last, counted from the first, which is never used.
fn size(length: u8) -> u32 {
    let bits = 32u32.saturating_sub(u32::from(length)).clamp(2, 31);
    (1u32 << bits) - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_and_ports_of_a_service_are_found() {
        let service = json!({"spec": {
            "type": "NodePort", "clusterIP": "10.43.0.9", "clusterIPs": ["10.43.0.9"],
            "ports": [{"nodePort": 30001}, {"nodePort": 0}, {}], "healthCheckNodePort": 30002,
        }});
        assert_eq!(addresses(&service).into_iter().collect::<Vec<_>>(), ["10.43.0.9"]);
        assert_eq!(ports(&service).into_iter().collect::<Vec<_>>(), [30001, 30002]);
        assert!(addresses(&json!({"spec": {"clusterIP": "None"}})).is_empty());
        assert!(addresses(&json!({"spec": {"type": "ExternalName", "clusterIP": "10.43.0.9"}})).is_empty());
    }

    #[test]
    fn two_families_are_refused() {
        let errors = |spec: Value| families(&json!({ "spec": spec })).len();
        assert_eq!(errors(json!({"ipFamilyPolicy": "RequireDualStack", "ipFamilies": ["IPv4"]})), 1);
        assert_eq!(errors(json!({"ipFamilyPolicy": "SingleStack", "ipFamilies": ["IPv6"]})), 1);
        assert_eq!(errors(json!({"ipFamilyPolicy": "PreferDualStack", "ipFamilies": ["IPv4"]})), 0);
        assert_eq!(
            errors(json!({"ipFamilyPolicy": "RequireDualStack", "clusterIP": "None", "ipFamilies": ["IPv4", "IPv6"]})),
            0
        );
    }
}
