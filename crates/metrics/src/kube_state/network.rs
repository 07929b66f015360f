//! Services and what leads to them: endpoints, slices, ingresses, network policies.
//! <https://github.com/kubernetes/kube-state-metrics/tree/main/docs/metrics/service>

use counts::page::Page;
use k8s_openapi::api::{
    core::v1::{Endpoints, Service},
    discovery::v1::{Endpoint, EndpointSlice},
    networking::v1::{HTTPIngressPath, Ingress, NetworkPolicy},
};

use super::{
    Allowed,
    rows::{Rows, flag, text},
};

pub(super) fn service(page: &mut Page, allowed: &Allowed, object: &Service) {
    let meta = &object.metadata;
    let own = [("namespace", text(&meta.namespace)), ("service", text(&meta.name)), ("uid", text(&meta.uid))];
    let mut rows = Rows::new(page, &own);
    rows.life("kube_service_created", Some("kube_service_deletion_timestamp"), meta);
    rows.allowed("kube_service_labels", "kube_service_annotations", allowed, meta);
    let spec = object.spec.clone().unwrap_or_default();
    rows.info(
        "kube_service_info",
        &[
            ("cluster_ip", text(&spec.cluster_ip)),
            ("external_name", text(&spec.external_name)),
            ("load_balancer_ip", text(&spec.load_balancer_ip)),
            ("external_traffic_policy", text(&spec.external_traffic_policy)),
        ],
    );
    rows.info("kube_service_spec_type", &[("type", text(&spec.type_))]);
    for address in spec.external_ips.iter().flatten() {
        rows.info("kube_service_spec_external_ip", &[("external_ip", address)]);
    }
    let balancer = object.status.as_ref().and_then(|status| status.load_balancer.as_ref());
    for ingress in balancer.and_then(|balancer| balancer.ingress.as_ref()).into_iter().flatten() {
        let labels = [("ip", text(&ingress.ip)), ("hostname", text(&ingress.hostname))];
        rows.info("kube_service_status_load_balancer_ingress", &labels);
    }
}

pub(super) fn endpoints(page: &mut Page, allowed: &Allowed, object: &Endpoints) {
    let meta = &object.metadata;
    let mut rows = Rows::new(page, &[("namespace", text(&meta.namespace)), ("endpoint", text(&meta.name))]);
    rows.life("kube_endpoint_created", None, meta);
    rows.allowed("kube_endpoint_labels", "kube_endpoint_annotations", allowed, meta);
    rows.info("kube_endpoint_info", &[]);
    for subset in object.subsets.iter().flatten() {
        for port in subset.ports.iter().flatten() {
            let number = port.port.to_string();
            let own = [
                ("port_protocol", text(&port.protocol)),
                ("port_number", number.as_str()),
                ("port_name", text(&port.name)),
            ];
            rows.info("kube_endpoint_ports", &own);
            for (addresses, ready) in [(&subset.addresses, "true"), (&subset.not_ready_addresses, "false")] {
                for address in addresses.iter().flatten() {
                    let [protocol, number, name] = own;
                    let labels = [protocol, number, name, ("ip", &address.ip), ("ready", ready)];
                    rows.info("kube_endpoint_address", &labels);
                }
            }
        }
    }
}

pub(super) fn slice(page: &mut Page, allowed: &Allowed, object: &EndpointSlice) {
    let meta = &object.metadata;
    let mut rows = Rows::new(page, &[("endpointslice", text(&meta.name)), ("namespace", text(&meta.namespace))]);
    rows.life("kube_endpointslice_created", None, meta);
    rows.allowed("kube_endpointslice_labels", "kube_endpointslice_annotations", allowed, meta);
    rows.info("kube_endpointslice_info", &[("addresstype", &object.address_type)]);
    for port in object.ports.iter().flatten() {
        let number = port.port.map(|port| port.to_string()).unwrap_or_default();
        rows.info(
            "kube_endpointslice_ports",
            &[("port_name", text(&port.name)), ("port_protocol", text(&port.protocol)), ("port_number", &number)],
        );
    }
    object.endpoints.iter().flatten().for_each(|endpoint| self::endpoint(&mut rows, endpoint));
}

fn endpoint(rows: &mut Rows<'_>, endpoint: &Endpoint) {
    let conditions = endpoint.conditions.clone().unwrap_or_default();
    let state = |state: Option<bool>| state.map_or("", flag);
    let target = endpoint.target_ref.clone().unwrap_or_default();
    for address in endpoint.addresses.iter() {
        rows.info(
            "kube_endpointslice_endpoints",
            &[
                ("ready", state(conditions.ready)),
                ("serving", state(conditions.serving)),
                ("hostname", text(&endpoint.hostname)),
                ("terminating", state(conditions.terminating)),
                ("targetref_kind", text(&target.kind)),
                ("targetref_name", text(&target.name)),
                ("targetref_namespace", text(&target.namespace)),
                ("endpoint_nodename", text(&endpoint.node_name)),
                ("endpoint_zone", text(&endpoint.zone)),
                ("address", address),
            ],
        );
    }
    let zones = endpoint.hints.as_ref().and_then(|hints| hints.for_zones.as_ref());
    for zone in zones.into_iter().flatten() {
        if let Some(address) = endpoint.addresses.first() {
            let labels = [("address", address.as_str()), ("for_zone", &zone.name)];
            rows.info("kube_endpointslice_endpoints_hints", &labels);
        }
    }
}

pub(super) fn ingress(page: &mut Page, allowed: &Allowed, object: &Ingress) {
    let meta = &object.metadata;
    let mut rows = Rows::new(page, &[("namespace", text(&meta.namespace)), ("ingress", text(&meta.name))]);
    rows.life("kube_ingress_created", None, meta);
    rows.version("kube_ingress_metadata_resource_version", meta);
    rows.allowed("kube_ingress_labels", "kube_ingress_annotations", allowed, meta);
    let spec = object.spec.clone().unwrap_or_default();
    let annotated = meta.annotations.as_ref().and_then(|map| map.get("kubernetes.io/ingress.class"));
    let class = annotated.or(spec.ingress_class_name.as_ref()).map_or("_default", String::as_str);
    rows.info("kube_ingress_info", &[("ingressclass", class)]);
    for rule in spec.rules.iter().flatten() {
        for path in rule.http.iter().flat_map(|http| &http.paths) {
            self::path(&mut rows, text(&rule.host), path);
        }
    }
    for tls in spec.tls.iter().flatten() {
        for host in tls.hosts.iter().flatten() {
            rows.info("kube_ingress_tls", &[("tls_host", host), ("secret", text(&tls.secret_name))]);
        }
    }
}

fn path(rows: &mut Rows<'_>, host: &str, path: &HTTPIngressPath) {
    let own = [("host", host), ("path", text(&path.path)), ("path_type", path.path_type.as_str())];
    let [host, place, kind] = own;
    if let Some(service) = &path.backend.service {
        let port = service.port.as_ref().and_then(|port| port.number).unwrap_or(0).to_string();
        let labels = [host, place, kind, ("service_name", service.name.as_str()), ("service_port", &port)];
        rows.info("kube_ingress_path", &labels);
    } else if let Some(resource) = &path.backend.resource {
        let group = ("resource_api_group", text(&resource.api_group));
        let labels = [host, place, kind, group, ("resource_kind", &resource.kind), ("resource_name", &resource.name)];
        rows.info("kube_ingress_path", &labels);
    }
}

pub(super) fn policy(page: &mut Page, allowed: &Allowed, object: &NetworkPolicy) {
    let meta = &object.metadata;
    let mut rows = Rows::new(page, &[("namespace", text(&meta.namespace)), ("networkpolicy", text(&meta.name))]);
    rows.life("kube_networkpolicy_created", None, meta);
    rows.allowed("kube_networkpolicy_labels", "kube_networkpolicy_annotations", allowed, meta);
    let spec = object.spec.clone().unwrap_or_default();
    rows.numbers([
        ("kube_networkpolicy_spec_ingress_rules", Some(spec.ingress.map_or(0, |rules| rules.len()) as f64)),
        ("kube_networkpolicy_spec_egress_rules", Some(spec.egress.map_or(0, |rules| rules.len()) as f64)),
    ]);
}
