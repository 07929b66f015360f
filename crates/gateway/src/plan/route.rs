//! Routes: what they attach to, and what is said of them.
//!
//! See <https://gateway-api.sigs.k8s.io/reference/spec/#parentreference>.

use std::{collections::BTreeMap, sync::Arc};

use client::{cache::Key, selector};
use serde_json::{Value, json};

use super::{CONTROLLER, Kind, Lasting, Plan, World, compile, condition::Condition, listener::Standing};
use crate::{
    hosts::Pattern,
    kinds::{GROUP, HttpRoute, Parent},
    table::Entry,
};

/// Attaches a route to the listeners that it names and that take it.
pub fn attach(
    world: &World,
    lasting: &mut Lasting<'_>,
    route: &Arc<HttpRoute>,
    standing: &mut BTreeMap<Key, Vec<Standing>>,
    plan: &mut Plan,
) {
    let parents = &route.spec.parent_refs;
    let ours = |parent: &&Parent| is_gateway(parent) && standing.contains_key(&key(route, parent));
    let told_before = own(&route.status).next().is_some();
    if !parents.iter().any(|parent| ours(&parent)) {
        if told_before {
            plan.say(Kind::Route, &route.metadata, &route.status, status(&route.status, Vec::new()));
        }
        return;
    }
    let compiled = compile::route(world, lasting, route, &mut plan.new);
    let mut told = Vec::new();
    let hosts: Vec<Pattern> = match route.spec.hostnames.as_slice() {
        [] => vec![Pattern::Any],
        names => names.iter().map(|name| Pattern::of(Some(name))).collect(),
    };
    // Two parents that name the same listener are one attachment.
    let mut attached: Vec<(Key, String)> = Vec::new();
    for parent in parents.iter().filter(|parent| is_gateway(parent)) {
        let gateway = key(route, parent);
        let Some(listeners) = standing.get_mut(&gateway) else { continue };
        let fits = |listener: &&mut Standing| {
            parent.section_name.as_ref().is_none_or(|name| *name == listener.name)
                && parent.port.is_none_or(|port| port == listener.number)
        };
        let (mut named, mut allowed, mut meant) = (false, false, false);
        for listener in listeners.iter_mut().filter(fits) {
            named = true;
            if !listener.takes_http || !takes_namespace(world, listener, &gateway, route.namespace()) {
                continue;
            }
            allowed = true;
            let shared: Vec<Pattern> = hosts.iter().filter_map(|host| host.and(&listener.host)).collect();
            if shared.is_empty() {
                continue;
            }
            meant = true;
            let once = (gateway.clone(), listener.name.clone());
            if compiled.accepted.is_err() || attached.contains(&once) {
                continue;
            }
            attached.push(once);
            listener.attached += 1;
            if !listener.is_programmed() {
                continue;
            }
            // At the address that all share, who was there first goes first.
            let late = plan.apart.contains_key(&gateway);
            for (port, late) in
                listener.port.map(|port| (port, late)).into_iter().chain(listener.own.map(|own| (own, false)))
            {
                for host in &shared {
                    for entry in &compiled.entries {
                        let mut entry = Entry::clone(entry);
                        entry.order.0 = late;
                        plan.table.add(port, &listener.host, host.clone(), entry);
                    }
                }
            }
        }
        let accepted = match (&compiled.accepted, named, allowed, meant) {
            (_, false, ..) => Condition::no("Accepted", "NoMatchingParent", "the gateway has no such listener"),
            (_, _, false, _) => Condition::no(
                "Accepted",
                "NotAllowedByListeners",
                "no listener takes routes of this kind and namespace",
            ),
            (_, _, _, false) => {
                Condition::no("Accepted", "NoMatchingListenerHostname", "no listener has one of these hostnames")
            }
            (Err(condition), ..) => condition.clone(),
            (Ok(()), ..) => Condition::yes("Accepted", "Accepted"),
        };
        let generation = route.generation();
        told.push(json!({
            "parentRef": reference(parent),
            "controllerName": CONTROLLER,
            "conditions": [accepted.value(generation), compiled.resolved.value(generation)],
        }));
    }
    plan.say(Kind::Route, &route.metadata, &route.status, status(&route.status, told));
}

fn is_gateway(parent: &Parent) -> bool {
    parent.group.as_deref().unwrap_or(GROUP) == GROUP && parent.kind.as_deref().unwrap_or("Gateway") == "Gateway"
}

fn key(route: &HttpRoute, parent: &Parent) -> Key {
    Key::new(parent.namespace.as_deref().unwrap_or(route.namespace()), &parent.name)
}

fn takes_namespace(world: &World, listener: &Standing, gateway: &Key, namespace: &str) -> bool {
    let allowed = listener.namespaces.clone().unwrap_or_default();
    match allowed.from.as_deref().unwrap_or("Same") {
        "All" => true,
        "Same" => *gateway.namespace == *namespace,
        "Selector" => {
            let labels = world.namespaces.get(&Key::new("", namespace)).map(|found| found.metadata.labels.as_ref());
            let Some((labels, selector)) = labels.zip(allowed.selector.as_ref()) else { return false };
            selector::matches(selector, labels)
        }
        _ => false,
    }
}

fn reference(parent: &Parent) -> Value {
    let mut value = json!({"name": parent.name});
    let texts = [
        ("group", &parent.group),
        ("kind", &parent.kind),
        ("namespace", &parent.namespace),
        ("sectionName", &parent.section_name),
    ];
    for (name, text) in texts {
        if let Some(text) = text {
            value[name] = text.as_str().into();
        }
    }
    if let Some(port) = parent.port {
        value["port"] = port.into();
    }
    value
}

/// What this controller has said of a route.
fn own(status: &Value) -> impl Iterator<Item = &Value> {
    status["parents"].as_array().into_iter().flatten().filter(|parent| parent["controllerName"] == CONTROLLER)
}

/// A route's status: what others have said stays.
fn status(old: &Value, told: Vec<Value>) -> Value {
    let others = old["parents"].as_array().into_iter().flatten();
    let others = others.filter(|parent| parent["controllerName"] != CONTROLLER).cloned();
    json!({"parents": others.chain(told).collect::<Vec<_>>()})
}
