//! Gateways' listeners: which stand, which do not and why, and what is said of them.
//!
//! See <https://gateway-api.sigs.k8s.io/reference/spec/#listener>.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use client::cache::Key;
use rustls::sign::CertifiedKey;
use serde_json::{Value, json};

use super::{Lasting, Settings, World, condition::Condition, grant, outlet};
use crate::{
    hosts::Pattern,
    kinds::{self, GROUP, Gateway, Reference},
};

/// A listener, judged.
#[derive(Debug)]
pub struct Standing {
    /// Its name.
    pub name: String,
    /// Its port as the gateway names it.
    pub number: u16,
    /// The machine's port; `None` where it cannot be had.
    pub port: Option<u16>,
    /// The machine's port behind the gateway's own address, where it has one and that is open.
    pub own: Option<u16>,
    /// Whether with TLS.
    pub secure: bool,
    /// Which hosts.
    pub host: Pattern,
    /// What it shows, or why it cannot.
    pub certificate: Option<Result<Arc<CertifiedKey>, Condition>>,
    /// Whether routes of HTTP may attach.
    pub takes_http: bool,
    /// Which namespaces routes may be in.
    pub namespaces: Option<kinds::RouteNamespaces>,
    /// How many routes have attached.
    pub attached: u32,
    accepted: Condition,
    resolved: Condition,
    conflict: Option<&'static str>,
}

impl Standing {
    /// Whether requests reach it.
    pub fn is_programmed(&self) -> bool {
        self.accepted.is() && self.certificate.as_ref().is_none_or(Result::is_ok)
    }
}

/// Listeners by gateway, and what gateways with an address of their own need.
#[derive(Debug, Default)]
pub struct Stand {
    /// Listeners, judged.
    pub listeners: BTreeMap<Key, Vec<Standing>>,
    /// Gateways with an address of their own, with the ports of their listeners and whether those are with TLS.
    pub apart: BTreeMap<Key, BTreeMap<u16, bool>>,
}

/// Judges all listeners of `gateways`, which come in the order of their precedence.
pub fn stand(world: &World, settings: &Settings, lasting: &mut Lasting<'_>, gateways: &[&Arc<Gateway>]) -> Stand {
    let mut all = Stand::default();
    let mut taken: BTreeMap<u16, bool> = BTreeMap::new();
    let mut held: BTreeSet<(u16, Pattern)> = BTreeSet::new();
    for gateway in gateways {
        let key = Key::of(&***gateway);
        let mut standing: Vec<Standing> =
            gateway.spec.listeners.iter().map(|listener| judge(world, settings, lasting, gateway, listener)).collect();
        conflicts(&gateway.spec.listeners, &mut standing);
        for listener in standing.iter_mut().filter(|listener| listener.accepted.is()) {
            let Some(port) = listener.port else { continue };
            if *taken.entry(port).or_insert(listener.secure) != listener.secure {
                let why = "another gateway listens there with another protocol";
                listener.accepted = Condition::no("Accepted", "PortUnavailable", why);
            }
        }
        let sites = |listener: &Standing| Some((listener.port?, listener.host.clone()));
        let sites: Vec<_> = standing.iter().filter(|listener| listener.accepted.is()).filter_map(sites).collect();
        // One address serves all gateways whose listeners can be told apart. Who comes too late gets another one, and keeps it.
        let late = sites.iter().any(|site| held.contains(site));
        held.extend(sites);
        if (late || outlet::is_there(world, gateway))
            && gateway.spec.addresses.iter().all(|asked| asked.value.is_empty())
        {
            let mut doors = BTreeMap::new();
            for listener in standing.iter_mut().filter(|listener| listener.is_programmed()) {
                doors.insert(listener.number, listener.secure);
                listener.own = settings.doors.get(&(key.clone(), listener.number)).copied();
            }
            all.apart.insert(key.clone(), doors);
        }
        all.listeners.insert(key, standing);
    }
    all
}

fn judge(
    world: &World,
    settings: &Settings,
    lasting: &mut Lasting<'_>,
    gateway: &Gateway,
    listener: &kinds::Listener,
) -> Standing {
    let allowed = listener.allowed_routes.clone().unwrap_or_default();
    let is_http = |kind: &kinds::RouteKind| kind.group.as_deref().unwrap_or(GROUP) == GROUP && kind.kind == "HTTPRoute";
    let protocol = matches!(listener.protocol.as_str(), "HTTP" | "HTTPS");
    let secure = listener.protocol == "HTTPS";
    let mode = listener.tls.as_ref().and_then(|tls| tls.mode.as_deref()).unwrap_or("Terminate");
    let port = settings.port(listener.port);
    let accepted = if !protocol {
        let why = format!("{} is not served; HTTP and HTTPS are", listener.protocol);
        Condition::no("Accepted", "UnsupportedProtocol", why)
    } else if secure && mode != "Terminate" {
        Condition::no("Accepted", "UnsupportedValue", "HTTPS is terminated here")
    } else if port.is_none() {
        let why = format!("port {} cannot be had on this machine", listener.port);
        Condition::no("Accepted", "PortUnavailable", why)
    } else {
        Condition::yes("Accepted", "Accepted")
    };
    let certificate = secure.then(|| {
        let references = listener.tls.as_ref().map(|tls| tls.certificate_refs.as_slice()).unwrap_or_default();
        // One is shown a host; the others are looked at all the same.
        let mut read = references.iter().map(|reference| certificate(world, lasting, gateway.namespace(), reference));
        let missing = || Condition::no("ResolvedRefs", "InvalidCertificateRef", "no certificate is named");
        let first = read.next().unwrap_or_else(|| Err(missing()));
        read.fold(first, |first, next| first.and_then(|key| next.map(|_| key)))
    });
    let resolved = if allowed.kinds.iter().any(|kind| !is_http(kind)) && protocol {
        Condition::no("ResolvedRefs", "InvalidRouteKinds", "of these kinds only HTTPRoute is served here")
    } else if let Some(Err(condition)) = &certificate {
        condition.clone()
    } else {
        Condition::yes("ResolvedRefs", "ResolvedRefs")
    };
    Standing {
        name: listener.name.clone(),
        number: listener.port,
        port,
        own: None,
        secure,
        host: Pattern::of(listener.hostname.as_deref()),
        certificate,
        takes_http: protocol && (allowed.kinds.is_empty() || allowed.kinds.iter().any(is_http)),
        namespaces: allowed.namespaces,
        attached: 0,
        accepted,
        resolved,
        conflict: None,
    }
}

/// Certificate and key that a gateway in `namespace` refers to.
fn certificate(
    world: &World,
    lasting: &mut Lasting<'_>,
    namespace: &str,
    reference: &Reference,
) -> Result<Arc<CertifiedKey>, Condition> {
    let invalid = |why: String| Condition::no("ResolvedRefs", "InvalidCertificateRef", why);
    let name = &reference.name;
    if !reference.is("", "Secret") {
        return Err(invalid(format!("{name}: certificates come from Secrets")));
    }
    let other = reference.namespace.as_deref().unwrap_or(namespace);
    if !grant::allows(&world.grants, ("Gateway", namespace), ("Secret", other, name)) {
        let why = format!("no ReferenceGrant in {other} lets gateways of {namespace} refer to the Secret {name}");
        return Err(Condition::no("ResolvedRefs", "RefNotPermitted", why));
    }
    let Some(secret) = world.secrets.get(&Key::new(other, name)) else {
        return Err(invalid(format!("there is no Secret {name} of type kubernetes.io/tls in {other}")));
    };
    lasting.keys.get(secret).map_err(|why| invalid(format!("Secret {other}/{name}: {why}")))
}

/// Finds listeners of one gateway that cannot be told apart.
fn conflicts(listeners: &[kinds::Listener], standing: &mut [Standing]) {
    // TCP and TLS listeners are none of ours, but their ports are theirs.
    let mut protocols: BTreeMap<u16, BTreeSet<&str>> = BTreeMap::new();
    let mut hosts: BTreeMap<(u16, &str, Pattern), usize> = BTreeMap::new();
    for listener in listeners {
        protocols.entry(listener.port).or_default().insert(&listener.protocol);
        let host = Pattern::of(listener.hostname.as_deref());
        *hosts.entry((listener.port, &listener.protocol, host)).or_default() += 1;
    }
    for (listener, standing) in listeners.iter().zip(standing) {
        let both = |one: &str, other: &str| {
            let at = protocols.get(&listener.port);
            at.is_some_and(|known| known.contains(one) && known.contains(other))
        };
        let host = (listener.port, listener.protocol.as_str(), standing.host.clone());
        let (reason, why) = if both("HTTP", "HTTPS") || both("HTTP", "TLS") {
            ("ProtocolConflict", "another listener has that port with another protocol")
        } else if hosts.get(&host).is_some_and(|count| *count > 1) {
            ("HostnameConflict", "another listener has that port and hostname")
        } else {
            continue;
        };
        standing.conflict = Some(reason);
        if standing.accepted.is() {
            standing.accepted = Condition::no("Accepted", reason, why);
        }
    }
}

/// What is said of a gateway. `own` is its own address where it is to have one, which may not be there yet.
pub fn status(settings: &Settings, gateway: &Gateway, listeners: &[Standing], own: Option<Option<&str>>) -> Value {
    let generation = gateway.generation();
    let told: Vec<Value> = listeners.iter().map(|listener| told(listener, generation)).collect();
    let accepted = listeners.iter().filter(|listener| listener.accepted.is()).count();
    let programmed = listeners.iter().any(Standing::is_programmed);
    let asked = &gateway.spec.addresses;
    let other_kind = asked.iter().any(|address| address.kind.as_deref().unwrap_or("IPAddress") != "IPAddress");
    let elsewhere =
        asked.iter().any(|address| !address.value.is_empty() && address.value.parse() != Ok(settings.address));
    let parameters = gateway.spec.infrastructure.as_ref().is_some_and(|more| more.parameters_ref.is_some());
    let acceptance = if parameters {
        Condition::no("Accepted", "InvalidParameters", "gateways have no parameters here")
    } else if other_kind {
        Condition::no("Accepted", "UnsupportedAddress", "only addresses of type IPAddress can be had")
    } else if accepted == 0 {
        Condition::no("Accepted", "ListenersNotValid", "no listener is valid")
    } else if accepted < listeners.len() {
        Condition::yes_but("Accepted", "ListenersNotValid", "not all listeners are valid")
    } else {
        Condition::yes("Accepted", "Accepted")
    };
    let programming = if !acceptance.is() {
        Condition::no("Programmed", "Invalid", "the gateway is not accepted")
    } else if elsewhere {
        let why = format!("this machine's address is {}", settings.address);
        Condition::no("Programmed", "AddressNotUsable", why)
    } else if !programmed {
        Condition::no("Programmed", "Invalid", "no listener can be programmed")
    } else if own == Some(None) {
        let why = "an older gateway has these ports and hostnames; this one's own address is not there yet";
        Condition::no("Programmed", "AddressNotAssigned", why)
    } else {
        Condition::yes("Programmed", "Programmed")
    };
    let shared = settings.address.to_string();
    let addresses: Vec<&str> = match (acceptance.is(), own) {
        (false, _) | (true, Some(None)) => Vec::new(),
        (true, None) => vec![&shared],
        (true, Some(Some(own))) => vec![own, &shared],
    };
    let addresses: Vec<Value> =
        addresses.iter().map(|address| json!({"type": "IPAddress", "value": address})).collect();
    json!({
        "addresses": addresses,
        "conditions": [acceptance.value(generation), programming.value(generation)],
        "listeners": told,
    })
}

fn told(listener: &Standing, generation: i64) -> Value {
    let kinds = if listener.takes_http { json!([{"group": GROUP, "kind": "HTTPRoute"}]) } else { json!([]) };
    let programmed = if listener.is_programmed() {
        Condition::yes("Programmed", "Programmed")
    } else {
        Condition::no("Programmed", "Invalid", "see the other conditions")
    };
    let conflicted = match listener.conflict {
        Some(reason) => Condition::yes_but("Conflicted", reason, "see Accepted"),
        None => Condition::no("Conflicted", "NoConflicts", ""),
    };
    let conditions = [&listener.accepted, &programmed, &listener.resolved, &conflicted];
    json!({
        "name": listener.name,
        "supportedKinds": kinds,
        "attachedRoutes": listener.attached,
        "conditions": conditions.map(|condition| condition.value(generation)),
    })
}
