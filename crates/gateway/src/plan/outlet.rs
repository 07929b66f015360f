//! Addresses of their own, for gateways that cannot be told apart from an older one at the address that all share: a Service
//! whose address the cluster gives, and a slice that leads it to ports of this machine.
//!
//! Names and labels are those of <https://gateway-api.sigs.k8s.io/geps/gep-1762/>.

use std::collections::BTreeMap;

use client::cache::Key;
use serde_json::{Value, json};

use super::{Settings, World};
use crate::kinds::{GROUP, Gateway};

/// The longest name that a Service may have.
const LONGEST: usize = 63;

/// Name and namespace of a gateway's Service and slice: the gateway's name and its class'.
pub fn key(gateway: &Gateway) -> Key {
    let whole = format!("{}-{}", gateway.name(), gateway.spec.gateway_class_name).replace('.', "-");
    let first = whole.starts_with(|letter: char| letter.is_ascii_lowercase());
    let name = if first && whole.len() <= LONGEST {
        whole
    } else {
        // FNV-1a: it only has to tell one gateway from the next.
        let sum = whole.bytes().fold(0x811c_9dc5_u32, |sum, byte| (sum ^ u32::from(byte)).wrapping_mul(0x0100_0193));
        let cut: String = whole.chars().take(LONGEST - 11).collect();
        format!("g-{cut}-{sum:08x}")
    };
    Key::new(gateway.namespace(), &name)
}

/// Whether a gateway's Service is there.
pub fn is_there(world: &World, gateway: &Gateway) -> bool {
    world.services.get(&key(gateway)).is_some_and(|service| {
        let owners = service.metadata.owner_references.iter().flatten();
        owners.into_iter().any(|owner| Some(&owner.uid) == gateway.metadata.uid.as_ref())
    })
}

/// A gateway's own address, once the cluster has given it.
pub fn address<'a>(world: &'a World, gateway: &Gateway) -> Option<&'a str> {
    let spec = world.services.get(&key(gateway)).filter(|_| is_there(world, gateway))?.spec.as_ref()?;
    spec.cluster_ip.as_deref().filter(|address| address.parse::<std::net::IpAddr>().is_ok())
}

/// Service and slice of a gateway whose listeners have these ports; `None` until all of their doors are open.
pub fn objects(settings: &Settings, gateway: &Gateway, ports: &BTreeMap<u16, bool>) -> Option<(Value, Value)> {
    let own = Key::new(gateway.namespace(), gateway.name());
    let mut outside = Vec::new();
    let mut inside = Vec::new();
    if ports.is_empty() {
        return None;
    }
    for (port, secure) in ports {
        let door = settings.doors.get(&(own.clone(), *port))?;
        let (name, speaks) = (format!("port-{port}"), if *secure { "https" } else { "http" });
        outside.push(json!({"name": name, "port": port, "targetPort": door, "protocol": "TCP", "appProtocol": speaks}));
        inside.push(json!({"name": name, "port": door, "protocol": "TCP", "appProtocol": speaks}));
    }
    let key = key(gateway);
    let metadata = |more: (&str, &str)| {
        let mut labels = json!({"app.kubernetes.io/managed-by": "madang-gateway", (more.0): more.1});
        if gateway.name().len() <= LONGEST {
            labels["gateway.networking.k8s.io/gateway-name"] = gateway.name().into();
        }
        json!({
            "name": &*key.name, "namespace": &*key.namespace, "labels": labels,
            "ownerReferences": [{
                "apiVersion": format!("{GROUP}/v1"), "kind": "Gateway", "name": gateway.name(),
                "uid": gateway.metadata.uid, "controller": true,
            }],
        })
    };
    let service = json!({
        "apiVersion": "v1", "kind": "Service", "metadata": metadata(("gateway.networking.k8s.io/gateway-class-name", &gateway.spec.gateway_class_name)),
        "spec": {"type": "ClusterIP", "ports": outside},
    });
    let mut slice = json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "metadata": metadata(("endpointslice.kubernetes.io/managed-by", "madang-gateway")),
        "addressType": if settings.address.is_ipv6() { "IPv6" } else { "IPv4" },
        "endpoints": [{"addresses": [settings.address.to_string()], "conditions": {"ready": true}}],
        "ports": inside,
    });
    slice["metadata"]["labels"]["kubernetes.io/service-name"] = (&*key.name).into();
    Some((service, slice))
}
