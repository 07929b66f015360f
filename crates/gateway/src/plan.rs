//! What is to be served, and what is to be said of it: a pure function of the objects as they are now.
//!
//! ```text
//! classes ─► gateways ─► listeners (ports, certificates) ─┐
//!                routes ─► what they attach to, rules ────┼─► table, certificates, statuses
//!                ingresses ─► rules, certificates ────────┘
//! ```
//!
//! All gateways share this machine's address: listeners of different gateways at one port are told apart by their hosts. A gateway
//! that comes too late for that gets an address of its own beside it, which comes first in its status: see [`outlet`].

pub mod certificate;

pub mod condition;

pub mod grant;

pub mod listener;

pub mod outlet;

pub mod route;

pub mod compile;

pub mod ingress;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    net::IpAddr,
    sync::Arc,
};

use client::cache::Key;
use k8s_openapi::api::{
    core::v1::{Namespace, Secret, Service},
    networking::v1::{Ingress, IngressClass},
};
use rustls::sign::CertifiedKey;
use serde_json::{Value, json};

use self::condition::Condition;
use crate::{
    backend::Backends,
    hosts::Hosts,
    kinds::{Gateway, GatewayClass, HttpRoute, ReferenceGrant},
    table::Table,
    tally::Tally,
};

/// The name by which classes of gateways ask for this controller.
pub const CONTROLLER: &str = "madang.dev/gateway";
/// The name by which classes of ingresses do.
pub const INGRESS_CONTROLLER: &str = "madang.dev/ingress";

/// The objects as they are now.
#[derive(Debug, Default)]
pub struct World {
    /// Classes of gateways.
    pub classes: Vec<Arc<GatewayClass>>,
    /// Gateways.
    pub gateways: Vec<Arc<Gateway>>,
    /// Routes.
    pub routes: Vec<Arc<HttpRoute>>,
    /// Leaves to refer.
    pub grants: Vec<Arc<ReferenceGrant>>,
    /// Services.
    pub services: HashMap<Key, Arc<Service>>,
    /// Certificates.
    pub secrets: HashMap<Key, Arc<Secret>>,
    /// Namespaces.
    pub namespaces: HashMap<Key, Arc<Namespace>>,
    /// Ingresses.
    pub ingresses: Vec<Arc<Ingress>>,
    /// Their classes.
    pub ingress_classes: Vec<Arc<IngressClass>>,
}

/// What this instance can do.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The address by which clients reach it.
    pub address: IpAddr,
    /// The machine's port in the place of a listener's; others are as they are.
    pub ports: BTreeMap<u16, u16>,
    /// Ports of the machine that could not be opened.
    pub refused: BTreeSet<u16>,
    /// Ports of the machine that were opened behind gateways' own addresses, by gateway and port of the listener.
    pub doors: BTreeMap<(Key, u16), u16>,
}

impl Settings {
    /// The machine's port for a listener's; `None` where it cannot be had.
    pub fn port(&self, listener: u16) -> Option<u16> {
        let port = self.ports.get(&listener).copied().unwrap_or(listener);
        let given = self.ports.values().any(|given| *given == port);
        // What stands for another listener's port is taken, and below 1024 only what was opened at start is there.
        let own = self.ports.contains_key(&listener) || (!given && port >= 1024);
        (own && !self.refused.contains(&port)).then_some(port)
    }
}

/// What lasts from plan to plan.
#[derive(Debug)]
pub struct Lasting<'a> {
    /// Endpoints.
    pub backends: &'a Backends,
    /// Counts.
    pub tally: &'a Tally,
    /// Certificates that were read.
    pub keys: &'a mut certificate::Keys,
}

/// What is to be.
#[derive(Debug, Default)]
pub struct Plan {
    /// Which rule a request gets.
    pub table: Table,
    /// Ports of the machine to listen at, and whether with TLS.
    pub ports: BTreeMap<u16, bool>,
    /// Certificates by port and host.
    pub certificates: BTreeMap<u16, Hosts<Arc<CertifiedKey>>>,
    /// What is to be said.
    pub statuses: Vec<Said>,
    /// Backends that are new: nobody has said yet where their endpoints are.
    pub new: Vec<Arc<crate::backend::Backend>>,
    /// Gateways with an address of their own, with the ports of their listeners and whether those are with TLS.
    pub apart: BTreeMap<Key, BTreeMap<u16, bool>>,
}

/// Whose status it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// A class of gateways.
    Class,
    /// A gateway.
    Gateway,
    /// A route.
    Route,
    /// An ingress.
    Ingress,
}

/// What is to be said of an object.
#[derive(Clone, Debug)]
pub struct Said {
    /// Of which kind.
    pub kind: Kind,
    /// Its name.
    pub key: Key,
    /// Its version, of which this is said.
    pub version: String,
    /// Its status now.
    pub old: Value,
    /// What it is to be; times of conditions are missing.
    pub new: Value,
}

/// Features of Gateway API that the conformance suite knows by name, in the order of the alphabet.
pub const FEATURES: &[&str] = &[
    "Gateway",
    "GatewayAddressEmpty",
    "GatewayHTTPListenerIsolation",
    "GatewayPort8080",
    "HTTPRoute",
    "HTTPRoute303RedirectStatusCode",
    "HTTPRoute307RedirectStatusCode",
    "HTTPRoute308RedirectStatusCode",
    "HTTPRouteBackendProtocolH2C",
    "HTTPRouteBackendProtocolWebSocket",
    "HTTPRouteBackendRequestHeaderModification",
    "HTTPRouteBackendTimeout",
    "HTTPRouteCORS",
    "HTTPRouteDestinationPortMatching",
    "HTTPRouteHostRewrite",
    "HTTPRouteMethodMatching",
    "HTTPRouteNamedRouteRule",
    "HTTPRouteParentRefPort",
    "HTTPRoutePathRedirect",
    "HTTPRoutePathRewrite",
    "HTTPRoutePortRedirect",
    "HTTPRouteQueryParamMatching",
    "HTTPRouteRequestMirror",
    "HTTPRouteRequestMultipleMirrors",
    "HTTPRouteRequestPercentageMirror",
    "HTTPRouteRequestTimeout",
    "HTTPRouteResponseHeaderModification",
    "HTTPRouteSchemeRedirect",
    "ReferenceGrant",
];

/// Plans.
pub fn plan(world: &World, settings: &Settings, lasting: &mut Lasting<'_>) -> Plan {
    let mut plan = Plan::default();
    let ours = classes(world, &mut plan);
    let mut gateways: Vec<&Arc<Gateway>> =
        world.gateways.iter().filter(|gateway| ours.contains(&*gateway.spec.gateway_class_name)).collect();
    gateways.sort_by_cached_key(|gateway| gateway.age());
    let listener::Stand { listeners: mut standing, apart } = listener::stand(world, settings, lasting, &gateways);
    plan.apart = apart;
    for site in standing.values().flatten().filter(|listener| listener.is_programmed()) {
        for port in site.port.into_iter().chain(site.own) {
            plan.ports.insert(port, site.secure);
            plan.table.listen(port, &site.host);
            if let Some(Ok(key)) = &site.certificate {
                let hosts = plan.certificates.entry(port).or_default();
                hosts.entry(site.host.clone(), || key.clone());
            }
        }
    }
    let mut routes: Vec<&Arc<HttpRoute>> = world.routes.iter().collect();
    routes.sort_by_cached_key(|route| route.age());
    for route in routes {
        route::attach(world, lasting, route, &mut standing, &mut plan);
    }
    for gateway in gateways {
        let listeners = standing.get(&Key::of(&**gateway)).map(Vec::as_slice).unwrap_or_default();
        let own = plan.apart.contains_key(&Key::of(&**gateway)).then(|| outlet::address(world, gateway));
        let status = listener::status(settings, gateway, listeners, own);
        plan.say(Kind::Gateway, &gateway.metadata, &gateway.status, status);
    }
    ingress::add(world, settings, lasting, &mut plan);
    plan.table.order();
    plan
}

impl Plan {
    fn say(
        &mut self,
        kind: Kind,
        metadata: &k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta,
        old: &Value,
        new: Value,
    ) {
        let text = |text: &Option<String>| text.clone().unwrap_or_default();
        self.statuses.push(Said {
            kind,
            key: Key::new(&text(&metadata.namespace), &text(&metadata.name)),
            version: text(&metadata.resource_version),
            old: old.clone(),
            new,
        });
    }
}

/// Names of the classes that are ours and usable; says so of them.
fn classes<'a>(world: &'a World, plan: &mut Plan) -> BTreeSet<&'a str> {
    let mut ours = BTreeSet::new();
    for class in world.classes.iter().filter(|class| class.spec.controller_name == CONTROLLER) {
        let generation = class.generation();
        let condition = if class.spec.parameters_ref.is_none() {
            ours.insert(class.name());
            Condition::yes("Accepted", "Accepted")
        } else {
            Condition::no("Accepted", "InvalidParameters", "classes have no parameters here")
        };
        let features: Vec<Value> = FEATURES.iter().map(|name| json!({"name": name})).collect();
        let status = json!({"conditions": [condition.value(generation)], "supportedFeatures": features});
        plan.say(Kind::Class, &class.metadata, &class.status, status);
    }
    ours
}

#[cfg(test)]
mod tests;
