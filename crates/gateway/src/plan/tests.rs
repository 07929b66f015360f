//! Plans of small worlds: what is said of classes, gateways and routes, and why.

use super::*;
use crate::plan::certificate::Keys;

fn settings() -> Settings {
    Settings {
        address: IpAddr::from([192, 0, 2, 1]),
        ports: BTreeMap::from([(80, 8080), (443, 8443)]),
        refused: BTreeSet::new(),
        doors: BTreeMap::new(),
    }
}

fn read<K: serde::de::DeserializeOwned>(object: Value) -> Arc<K> {
    Arc::new(serde_json::from_value(object).unwrap())
}

fn world(gateways: &[Value], routes: &[Value], grants: &[Value]) -> World {
    let class = json!({"metadata": {"name": "c", "generation": 1}, "spec": {"controllerName": CONTROLLER}});
    let service = |namespace: &str| {
        let service = json!({"metadata": {"name": "web", "namespace": namespace}, "spec": {"ports": [{"port": 80}]}});
        (Key::new(namespace, "web"), read(service))
    };
    let namespace = json!({"metadata": {"name": "other", "labels": {"team": "blue"}}});
    World {
        classes: vec![read(class)],
        gateways: gateways.iter().cloned().map(read).collect(),
        routes: routes.iter().cloned().map(read).collect(),
        grants: grants.iter().cloned().map(read).collect(),
        services: HashMap::from([service("shop"), service("other")]),
        namespaces: HashMap::from([(Key::new("", "other"), read(namespace))]),
        ..World::default()
    }
}

fn gateway(listeners: Value) -> Value {
    json!({
        "metadata": {"name": "g", "namespace": "shop", "generation": 7},
        "spec": {"gatewayClassName": "c", "listeners": listeners},
    })
}

fn http(name: &str) -> Value {
    json!({"name": name, "port": 80, "protocol": "HTTP"})
}

fn route(namespace: &str, parent: Value, rules: Value) -> Value {
    json!({
        "metadata": {"name": "r", "namespace": namespace, "generation": 3},
        "spec": {"parentRefs": [parent], "hostnames": ["www.a.com"], "rules": rules},
    })
}

fn planned(world: &World) -> Plan {
    let (backends, tally, mut keys) = (Backends::default(), Tally::default(), Keys::default());
    plan(world, &settings(), &mut Lasting { backends: &backends, tally: &tally, keys: &mut keys })
}

/// What is said of the first object of a kind.
fn said(plan: &Plan, kind: Kind) -> Value {
    plan.statuses.iter().find(|said| said.kind == kind).map(|said| said.new.clone()).unwrap_or_default()
}

/// A condition as `True Reason`.
fn condition(of: &Value, kind: &str) -> String {
    let found = of["conditions"].as_array().into_iter().flatten().find(|one| one["type"] == kind);
    let found = found.unwrap_or_else(|| panic!("no {kind} in {of}"));
    format!("{} {}", found["status"].as_str().unwrap(), found["reason"].as_str().unwrap())
}

#[test]
fn a_gateway_that_can_be_served_says_where() {
    let rules = json!([{"backendRefs": [{"name": "web", "port": 80}]}]);
    let plan = planned(&world(&[gateway(json!([http("web")]))], &[route("shop", json!({"name": "g"}), rules)], &[]));
    let gateway = said(&plan, Kind::Gateway);
    assert_eq!(gateway["addresses"], json!([{"type": "IPAddress", "value": "192.0.2.1"}]));
    assert_eq!(condition(&gateway, "Accepted"), "True Accepted");
    assert_eq!(condition(&gateway, "Programmed"), "True Programmed");
    assert_eq!(gateway["conditions"][0]["observedGeneration"], 7);
    let listener = &gateway["listeners"][0];
    assert_eq!((&listener["name"], &listener["attachedRoutes"]), (&json!("web"), &json!(1)));
    assert_eq!(listener["supportedKinds"][0]["kind"], "HTTPRoute");
    let parent = said(&plan, Kind::Route)["parents"][0].clone();
    assert_eq!(parent["parentRef"], json!({"name": "g"}));
    assert_eq!(condition(&parent, "Accepted"), "True Accepted");
    assert_eq!(condition(&parent, "ResolvedRefs"), "True ResolvedRefs");
    assert_eq!(parent["conditions"][0]["observedGeneration"], 3);
    assert_eq!(plan.ports, BTreeMap::from([(8080, false)]));
    assert_eq!(plan.new.len(), 1);
    let class = said(&plan, Kind::Class);
    assert_eq!(condition(&class, "Accepted"), "True Accepted");
}

#[test]
fn listeners_say_why_they_do_not_stand() {
    let cases = [
        (
            json!([{"name": "a", "port": 80, "protocol": "TCP"}]),
            "Accepted",
            "False UnsupportedProtocol",
            "False ListenersNotValid",
        ),
        (
            json!([{"name": "a", "port": 90, "protocol": "HTTP"}]),
            "Accepted",
            "False PortUnavailable",
            "False ListenersNotValid",
        ),
        (
            json!([{"name": "a", "port": 8080, "protocol": "HTTP"}]),
            "Accepted",
            "False PortUnavailable",
            "False ListenersNotValid",
        ),
        (json!([{"name": "a", "port": 9000, "protocol": "HTTP"}]), "Accepted", "True Accepted", "True Accepted"),
        (
            json!([http("a"), {"name": "b", "port": 80, "protocol": "TCP"}, http("c")]),
            "Conflicted",
            "True HostnameConflict",
            "False ListenersNotValid",
        ),
        (
            json!([http("a"), {"name": "b", "port": 80, "protocol": "HTTPS", "hostname": "b"}]),
            "Accepted",
            "False ProtocolConflict",
            "False ListenersNotValid",
        ),
        (
            json!([http("a"), {"name": "b", "port": 9000, "protocol": "TCP"}]),
            "Accepted",
            "True Accepted",
            "True ListenersNotValid",
        ),
        (
            json!([{"name": "a", "port": 80, "protocol": "HTTP", "allowedRoutes": {"kinds": [{"kind": "TCPRoute"}]}}]),
            "ResolvedRefs",
            "False InvalidRouteKinds",
            "True Accepted",
        ),
        (
            json!([{"name": "a", "port": 443, "protocol": "HTTPS", "tls": {"certificateRefs": [{"name": "none"}]}}]),
            "ResolvedRefs",
            "False InvalidCertificateRef",
            "True Accepted",
        ),
        (
            json!([{"name": "a", "port": 443, "protocol": "HTTPS", "tls": {"certificateRefs": [{"kind": "Other", "name": "x"}]}}]),
            "Programmed",
            "False Invalid",
            "True Accepted",
        ),
        (
            json!([{"name": "a", "port": 443, "protocol": "HTTPS", "tls": {"certificateRefs": [{"name": "x", "namespace": "other"}]}}]),
            "ResolvedRefs",
            "False RefNotPermitted",
            "True Accepted",
        ),
    ];
    for (listeners, kind, expected, whole) in cases {
        let status = said(&planned(&world(&[gateway(listeners.clone())], &[], &[])), Kind::Gateway);
        assert_eq!(condition(&status["listeners"][0], kind), expected, "{listeners}");
        assert_eq!(condition(&status, "Accepted"), whole, "{listeners}");
    }
}

#[test]
fn routes_say_why_they_do_not_attach() {
    let good = json!([{"backendRefs": [{"name": "web", "port": 80}]}]);
    let gateway = gateway(json!([
        {"name": "web", "port": 80, "protocol": "HTTP", "hostname": "*.a.com"},
        {"name": "blue", "port": 9000, "protocol": "HTTP", "allowedRoutes": {"namespaces": {
            "from": "Selector", "selector": {"matchLabels": {"team": "blue"}}}}},
        {"name": "b", "port": 9001, "protocol": "HTTP", "hostname": "b.com"},
    ]));
    let parent = |more: Value| {
        let mut parent = json!({"name": "g", "namespace": "shop"});
        parent.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        parent
    };
    let cases = [
        ("shop", parent(json!({})), good.clone(), "True Accepted", "True ResolvedRefs"),
        ("shop", parent(json!({"sectionName": "x"})), good.clone(), "False NoMatchingParent", "True ResolvedRefs"),
        ("shop", parent(json!({"port": 81})), good.clone(), "False NoMatchingParent", "True ResolvedRefs"),
        (
            "shop",
            parent(json!({"sectionName": "b"})),
            good.clone(),
            "False NoMatchingListenerHostname",
            "True ResolvedRefs",
        ),
        (
            "other",
            parent(json!({"sectionName": "web"})),
            good.clone(),
            "False NotAllowedByListeners",
            "True ResolvedRefs",
        ),
        ("other", parent(json!({"sectionName": "blue"})), good, "True Accepted", "True ResolvedRefs"),
        (
            "shop",
            parent(json!({})),
            json!([{"backendRefs": [{"name": "no", "port": 80}]}]),
            "True Accepted",
            "False BackendNotFound",
        ),
        (
            "shop",
            parent(json!({})),
            json!([{"backendRefs": [{"name": "web", "port": 81}]}]),
            "True Accepted",
            "False BackendNotFound",
        ),
        (
            "shop",
            parent(json!({})),
            json!([{"backendRefs": [{"kind": "X", "name": "web"}]}]),
            "True Accepted",
            "False InvalidKind",
        ),
        (
            "shop",
            parent(json!({})),
            json!([{"backendRefs": [{"name": "web", "namespace": "other", "port": 80}]}]),
            "True Accepted",
            "False RefNotPermitted",
        ),
        (
            "shop",
            parent(json!({})),
            json!([{"matches": [{"path": {"type": "RegularExpression", "value": "("}}]}]),
            "False UnsupportedValue",
            "True ResolvedRefs",
        ),
        (
            "shop",
            parent(json!({})),
            json!([{"filters": [{"type": "RequestRedirect", "requestRedirect": {}}, {"type": "URLRewrite", "urlRewrite": {}}]}]),
            "False IncompatibleFilters",
            "True ResolvedRefs",
        ),
        (
            "shop",
            parent(json!({})),
            json!([{"filters": [{"type": "ExtensionRef"}]}]),
            "False UnsupportedValue",
            "True ResolvedRefs",
        ),
    ];
    for (namespace, parent, rules, accepted, resolved) in cases {
        let route = route(namespace, parent.clone(), rules.clone());
        let plan = planned(&world(std::slice::from_ref(&gateway), &[route], &[]));
        let told = said(&plan, Kind::Route)["parents"][0].clone();
        assert_eq!(condition(&told, "Accepted"), accepted, "{namespace} {parent} {rules}");
        assert_eq!(condition(&told, "ResolvedRefs"), resolved, "{namespace} {parent} {rules}");
        assert_eq!(told["parentRef"], parent);
    }
}

#[test]
fn grants_open_what_they_name() {
    let rules = json!([{"backendRefs": [{"name": "web", "namespace": "other", "port": 80}]}]);
    let grant = |namespace: &str, from: Value, to: Value| json!({"metadata": {"name": "x", "namespace": namespace}, "spec": {"from": [from], "to": [to]}});
    let from =
        |kind: &str, namespace: &str| json!({"group": crate::kinds::GROUP, "kind": kind, "namespace": namespace});
    let to = |kind: &str, name: Option<&str>| json!({"group": "", "kind": kind, "name": name});
    let cases = [
        (grant("other", from("HTTPRoute", "shop"), to("Service", None)), true),
        (grant("other", from("HTTPRoute", "shop"), to("Service", Some("web"))), true),
        (grant("other", from("HTTPRoute", "shop"), to("Service", Some("db"))), false),
        (grant("other", from("HTTPRoute", "shop"), to("Secret", None)), false),
        (grant("other", from("Gateway", "shop"), to("Service", None)), false),
        (grant("other", from("HTTPRoute", "else"), to("Service", None)), false),
        (grant("shop", from("HTTPRoute", "shop"), to("Service", None)), false),
    ];
    for (grant, expected) in cases {
        let route = route("shop", json!({"name": "g"}), rules.clone());
        let plan = planned(&world(&[gateway(json!([http("a")]))], &[route], std::slice::from_ref(&grant)));
        let told = said(&plan, Kind::Route)["parents"][0].clone();
        assert_eq!(condition(&told, "ResolvedRefs").starts_with("True"), expected, "{grant}");
    }
}

#[test]
fn what_others_say_of_a_route_stays_and_what_was_said_here_goes_when_it_leaves() {
    let other = json!({"parentRef": {"name": "x"}, "controllerName": "example.com/other", "conditions": []});
    let own = json!({"parentRef": {"name": "g"}, "controllerName": CONTROLLER, "conditions": []});
    let mut leaving = route("shop", json!({"name": "elsewhere"}), json!([]));
    leaving["status"] = json!({"parents": [other.clone(), own]});
    let plan = planned(&world(&[gateway(json!([http("a")]))], &[leaving], &[]));
    assert_eq!(said(&plan, Kind::Route), json!({"parents": [other]}));
    // Of a route that never was ours nothing is said at all.
    let stranger = route("shop", json!({"name": "elsewhere"}), json!([]));
    let plan = planned(&world(&[gateway(json!([http("a")]))], &[stranger], &[]));
    assert_eq!(said(&plan, Kind::Route), Value::Null);
}

#[test]
fn conditions_keep_the_time_of_their_last_change() {
    let one = |status: &str, time: Option<&str>| {
        let mut one = json!({"type": "Accepted", "status": status, "reason": "R"});
        if let Some(time) = time {
            one["lastTransitionTime"] = time.into();
        }
        json!({"parents": [{"parentRef": {"name": "g"}, "conditions": [one]}]})
    };
    let cases = [
        (one("True", Some("then")), one("True", None), "then"),
        (one("False", Some("then")), one("True", None), "now"),
        (json!({}), one("True", None), "now"),
    ];
    for (old, new, expected) in cases {
        let timed = condition::timed(&old, new, "now");
        assert_eq!(timed["parents"][0]["conditions"][0]["lastTransitionTime"], expected, "{old}");
    }
}

/// The schema of a kind in the version that is read.
fn schema(kind: &str) -> api::crd::Structural {
    let found = crate::kinds::definitions().into_iter().find(|one| one["spec"]["names"]["kind"] == kind).unwrap();
    let versions = found["spec"]["versions"].as_array().unwrap().clone();
    let version = versions.into_iter().find(|one| one["name"] == "v1").unwrap();
    api::crd::Structural::compile(&version["schema"]["openAPIV3Schema"]).unwrap()
}

#[test]
fn what_is_said_is_what_the_definitions_allow() {
    let rules = json!([{"backendRefs": [{"name": "web", "port": 80}]}]);
    let route = route("shop", json!({"name": "g", "sectionName": "web", "port": 80}), rules);
    let listeners = json!([http("web"), {"name": "b", "port": 90, "protocol": "TCP"}]);
    let plan = planned(&world(&[gateway(listeners)], &[route], &[]));
    for (kind, name) in [(Kind::Class, "GatewayClass"), (Kind::Gateway, "Gateway"), (Kind::Route, "HTTPRoute")] {
        let status = condition::timed(&Value::Null, said(&plan, kind), "2026-01-01T00:00:00Z");
        let schema = schema(name);
        let mut object = json!({"apiVersion": "gateway.networking.k8s.io/v1", "kind": name, "metadata": {"name": "x"}, "status": status});
        assert_eq!(schema.prune(&mut object), Vec::<String>::new(), "{name}");
        let wrong: Vec<String> = schema
            .validate(&object)
            .iter()
            .map(ToString::to_string)
            // The specification is left out here.
            .filter(|wrong| !wrong.starts_with("spec"))
            .collect();
        assert!(wrong.is_empty(), "{name}: {wrong:?}\n{object}");
    }
    assert!(FEATURES.is_sorted() && FEATURES.len() <= 64);
}

#[test]
fn a_gateway_that_comes_too_late_gets_an_address_of_its_own() {
    let rules = |name: &str| json!([{"name": name, "backendRefs": [{"name": "web", "port": 80}]}]);
    let late = |address: Option<&str>| {
        let mut late = gateway(json!([http("web"), {"name": "more", "port": 9000, "protocol": "HTTP"}]));
        late["metadata"] = json!({"name": "h", "namespace": "shop", "uid": "u"});
        late["spec"]["addresses"] = address.map_or(json!([]), |address| json!([{"value": address}]));
        late
    };
    let mut second = route("shop", json!({"name": "h"}), rules("second"));
    second["metadata"]["name"] = "a".into();
    let routes = [route("shop", json!({"name": "g"}), rules("first")), second];
    let mut world = world(&[gateway(json!([http("web")])), late(None)], &routes, &[]);
    let planned = |world: &World, settings: &Settings| {
        let (backends, tally, mut keys) = (Backends::default(), Tally::default(), Keys::default());
        plan(world, settings, &mut Lasting { backends: &backends, tally: &tally, keys: &mut keys })
    };
    let status = |plan: &Plan, name: &str| {
        plan.statuses.iter().find(|said| said.kind == Kind::Gateway && *said.key.name == *name).unwrap().new.clone()
    };
    let mut settings = settings();

    // The doors first: without them there is no Service, and without a Service no address.
    let plan = planned(&world, &settings);
    let key = Key::new("shop", "h");
    assert_eq!(plan.apart, BTreeMap::from([(key.clone(), BTreeMap::from([(80, false), (9000, false)]))]));
    assert_eq!(condition(&status(&plan, "h"), "Programmed"), "False AddressNotAssigned");
    assert_eq!(condition(&status(&plan, "g"), "Programmed"), "True Programmed");
    assert_eq!(outlet::objects(&settings, &world.gateways[1], &plan.apart[&key]), None);

    settings.doors = BTreeMap::from([((key.clone(), 80), 40001), ((key.clone(), 9000), 40002)]);
    let (mut service, slice) = outlet::objects(&settings, &world.gateways[1], &plan.apart[&key]).unwrap();
    assert_eq!(service["metadata"]["name"], "h-c");
    assert_eq!(service["spec"]["ports"][0]["targetPort"], slice["ports"][0]["port"]);
    service["spec"]["clusterIP"] = "10.43.0.99".into();
    world.services.insert(Key::new("shop", "h-c"), read(service));
    let plan = planned(&world, &settings);
    let addresses = json!([{"type": "IPAddress", "value": "10.43.0.99"}, {"type": "IPAddress", "value": "192.0.2.1"}]);
    assert_eq!(status(&plan, "h")["addresses"], addresses);
    assert_eq!(plan.ports, BTreeMap::from([(8080, false), (9000, false), (40001, false), (40002, false)]));

    // At the shared address the older gateway's route is the first of two that match alike, at its own address only the younger's.
    let parts = http::Request::get("/").body(()).unwrap().into_parts().0;
    let found = |port: u16| plan.table.find(port, "www.a.com", "/", &parts).map(|entry| entry.order.1.1.clone());
    assert_eq!(found(8080).as_deref(), Some("shop/r"));
    assert_eq!(found(40001).as_deref(), Some("shop/a"));

    // It keeps the address though the older one goes, and has none where it asks for the shared one.
    world.gateways.remove(0);
    assert_eq!(planned(&world, &settings).apart.len(), 1);
    let asks =
        super::World { gateways: vec![read(gateway(json!([http("web")]))), read(late(Some("192.0.2.1")))], ..world };
    assert!(planned(&asks, &settings).apart.is_empty());
}

#[test]
fn services_of_gateways_have_names_that_services_can_have() {
    for (name, expected) in [("web", "web-madang"), ("a.b", "a-b-madang"), ("1st", "g-1st-madang-")] {
        let object = json!({"metadata": {"name": name, "namespace": "n"}, "spec": {"gatewayClassName": "madang"}});
        let key = outlet::key(&read::<Gateway>(object));
        assert!(key.name.starts_with(expected), "{}", key.name);
    }
    let long = "a".repeat(200);
    let object = json!({"metadata": {"name": long}, "spec": {"gatewayClassName": "madang"}});
    assert_eq!(outlet::key(&read::<Gateway>(object)).name.len(), 63);
}
