//! Ingresses as rules of the same table, at ports 80 and 443.
//!
//! See <https://kubernetes.io/docs/concepts/services-networking/ingress/>.

use std::{collections::BTreeSet, sync::Arc};

use client::cache::Key;
use http::StatusCode;
use k8s_openapi::{
    api::networking::v1::{HTTPIngressPath, Ingress, IngressBackend},
    apimachinery::pkg::util::intstr::IntOrString,
};
use serde_json::{Value, json};

use super::{INGRESS_CONTROLLER, Kind, Lasting, Plan, Settings, World};
use crate::{
    backend,
    hosts::Pattern,
    path::{self, PathMatch},
    rule::{Conditions, Rule, Target},
    table::Entry,
    tally::Route,
};

const HTTP: u16 = 80;
const HTTPS: u16 = 443;
const CLASS: &str = "kubernetes.io/ingress.class";
const DEFAULT: &str = "ingressclass.kubernetes.io/is-default-class";

/// Adds the ingresses that are ours.
pub fn add(world: &World, settings: &Settings, lasting: &mut Lasting<'_>, plan: &mut Plan) {
    let classes = world
        .ingress_classes
        .iter()
        .filter(|class| class.spec.as_ref().and_then(|spec| spec.controller.as_deref()) == Some(INGRESS_CONTROLLER));
    let mut ours = BTreeSet::new();
    let mut takes_others = false;
    for class in classes {
        ours.extend(class.metadata.name.as_deref());
        let notes = class.metadata.annotations.as_ref();
        takes_others |= notes.and_then(|notes| notes.get(DEFAULT)).is_some_and(|value| value == "true");
    }
    let mut ingresses: Vec<&Arc<Ingress>> = world
        .ingresses
        .iter()
        .filter(|ingress| class_of(ingress).map_or(takes_others, |class| ours.contains(class)))
        .collect();
    ingresses.sort_by_cached_key(|ingress| age(ingress));
    for ingress in ingresses {
        let address = json!({"loadBalancer": {"ingress": [{"ip": settings.address.to_string()}]}});
        let old = serde_json::to_value(&ingress.status).unwrap_or_default();
        add_one(world, settings, lasting, ingress, plan);
        plan.say(Kind::Ingress, &ingress.metadata, &old, merged(&old, address));
    }
}

/// The load balancer's ports, which the API server keeps as they are, aside.
fn merged(old: &Value, new: Value) -> Value {
    let same = old["loadBalancer"]["ingress"]
        .as_array()
        .is_some_and(|known| known.len() == 1 && known[0]["ip"] == new["loadBalancer"]["ingress"][0]["ip"]);
    if same { old.clone() } else { new }
}

fn class_of(ingress: &Ingress) -> Option<&str> {
    let spec = ingress.spec.as_ref()?.ingress_class_name.as_deref();
    spec.or_else(|| ingress.metadata.annotations.as_ref()?.get(CLASS).map(String::as_str))
}

fn age(ingress: &Ingress) -> (i64, String) {
    let created = ingress.metadata.creation_timestamp.as_ref().map_or(i64::MAX, |time| time.0.as_second());
    (created, Key::of(ingress).to_string())
}

fn add_one(world: &World, settings: &Settings, lasting: &mut Lasting<'_>, ingress: &Ingress, plan: &mut Plan) {
    let Some(spec) = &ingress.spec else { return };
    let secured = certificates(world, settings, lasting, ingress, plan);
    let mut place = 0;
    let mut put = |plan: &mut Plan, lasting: &mut Lasting<'_>, host: Pattern, path: PathMatch, to: &IngressBackend| {
        let rule = Arc::new(rule(world, lasting, ingress, to, plan));
        let conditions = Conditions { path, method: None, headers: Vec::new(), query: Vec::new() };
        let entry = Entry { conditions, order: (false, age(ingress), place, 0), rule };
        place += 1;
        for (number, with_tls) in [(HTTP, false), (HTTPS, true)] {
            let Some(port) = settings.port(number) else { continue };
            let is_other = plan.ports.get(&port).is_some_and(|tls| *tls != with_tls);
            if is_other || (with_tls && !secured.iter().any(|known| known.and(&host).is_some())) {
                continue;
            }
            plan.ports.insert(port, with_tls);
            plan.table.add(port, &Pattern::Any, host.clone(), entry.clone());
        }
    };
    if let Some(backend) = &spec.default_backend {
        put(plan, lasting, Pattern::Any, path::prefix("/"), backend);
    }
    for rule in spec.rules.iter().flatten() {
        let host = Pattern::of(rule.host.as_deref());
        for one in rule.http.iter().flat_map(|http| &http.paths) {
            put(plan, lasting, host.clone(), path_of(one), &one.backend);
        }
    }
}

fn path_of(path: &HTTPIngressPath) -> PathMatch {
    let text = path.path.as_deref().unwrap_or("/");
    match path.path_type.as_str() {
        "Exact" => PathMatch::Exact(text.to_owned()),
        // What is left to the implementation is a prefix here.
        _ => path::prefix(text),
    }
}

/// Adds an ingress' certificates; which hosts it has some for.
fn certificates(
    world: &World,
    settings: &Settings,
    lasting: &mut Lasting<'_>,
    ingress: &Ingress,
    plan: &mut Plan,
) -> Vec<Pattern> {
    let namespace = ingress.metadata.namespace.as_deref().unwrap_or_default();
    let mut secured = Vec::new();
    for tls in ingress.spec.iter().flat_map(|spec| spec.tls.iter().flatten()) {
        let secret = tls.secret_name.as_deref().and_then(|name| world.secrets.get(&Key::new(namespace, name)));
        let (Some(secret), Some(port)) = (secret, settings.port(HTTPS)) else { continue };
        let key = match lasting.keys.get(secret) {
            Ok(key) => key,
            Err(error) => {
                tracing::warn!(ingress = %Key::of(ingress), error, "certificate cannot be used");
                continue;
            }
        };
        let hosts: Vec<Pattern> = match tls.hosts.as_deref().unwrap_or_default() {
            [] => vec![Pattern::Any],
            hosts => hosts.iter().map(|host| Pattern::of(Some(host))).collect(),
        };
        for host in hosts {
            plan.certificates.entry(port).or_default().entry(host.clone(), || key.clone());
            secured.push(host);
        }
    }
    secured
}

fn rule(world: &World, lasting: &mut Lasting<'_>, ingress: &Ingress, to: &IngressBackend, plan: &mut Plan) -> Rule {
    let namespace = ingress.metadata.namespace.as_deref().unwrap_or_default();
    let name = ingress.metadata.name.as_deref().unwrap_or_default();
    let route = Route { kind: "Ingress", namespace, name };
    let found = to.service.as_ref().and_then(|wanted| {
        let service = world.services.get(&Key::new(namespace, &wanted.name))?;
        let port = wanted.port.as_ref()?;
        let port = match (&port.name, port.number) {
            (Some(name), _) => IntOrString::String(name.clone()),
            (None, number) => IntOrString::Int(number?),
        };
        let port = backend::port_number(service, &port)?;
        Some(backend::Key { namespace: namespace.to_owned(), service: wanted.name.clone(), port })
    });
    let named = found.as_ref().map(|key| (namespace, key.service.as_str(), key.port));
    let series = lasting.tally.series(route, named);
    let backend = match found {
        // As other controllers answer where the Service is not there.
        None => Err(StatusCode::SERVICE_UNAVAILABLE),
        Some(key) => {
            let (backend, is_new) = lasting.backends.get(&key);
            if is_new {
                plan.new.push(backend.clone());
            }
            Ok(backend)
        }
    };
    let target =
        Target { weight: 1, backend, request: <_>::default(), response: <_>::default(), mirrors: Vec::new(), series };
    Rule { targets: vec![target], series: lasting.tally.series(route, None), ..Rule::default() }
}
