//! The definitions that are carried along, and objects as the API server sends them.

use super::*;

#[test]
fn every_kind_of_the_standard_channel_is_defined() {
    let found = definitions();
    let names: Vec<&str> = found.iter().filter_map(|one| one["spec"]["names"]["kind"].as_str()).collect();
    let wanted = [
        "BackendTLSPolicy",
        "GatewayClass",
        "Gateway",
        "GRPCRoute",
        "HTTPRoute",
        "ListenerSet",
        "ReferenceGrant",
        "TCPRoute",
        "TLSRoute",
        "UDPRoute",
    ];
    assert_eq!(names, wanted);
    for definition in &found {
        assert_eq!(definition["spec"]["group"], GROUP);
        let notes = &definition["metadata"]["annotations"];
        assert_eq!(notes["gateway.networking.k8s.io/bundle-version"], "v1.6.3", "{}", definition["metadata"]);
        assert_eq!(notes["gateway.networking.k8s.io/channel"], "standard");
        let schema = &definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
        assert!(schema["properties"]["spec"]["properties"].is_object());
        assert!(schema.get("description").is_none());
    }
}

#[test]
fn the_kinds_that_are_read_are_served_in_the_version_that_is_read() {
    let found = definitions();
    let served = |plural: &str, version: &str| {
        found.iter().any(|definition| {
            let versions = definition["spec"]["versions"].as_array().cloned().unwrap_or_default();
            definition["spec"]["names"]["plural"] == plural
                && versions.iter().any(|one| one["name"] == version && one["served"] == true)
        })
    };
    for (plural, version) in [
        (ClassSpec::PLURAL, ClassSpec::VERSION),
        (GatewaySpec::PLURAL, GatewaySpec::VERSION),
        (RouteSpec::PLURAL, RouteSpec::VERSION),
        (GrantSpec::PLURAL, GrantSpec::VERSION),
    ] {
        assert!(served(plural, version), "{plural} {version}");
    }
}

#[test]
fn a_route_is_read_with_what_it_leaves_out() {
    let route: HttpRoute = serde_json::from_value(serde_json::json!({
        "metadata": {"name": "a", "namespace": "b", "generation": 3},
        "spec": {"rules": [{"backendRefs": [{"name": "shop", "port": 80}]}]},
    }))
    .unwrap();
    assert_eq!((route.name(), route.namespace(), route.generation()), ("a", "b", 3));
    assert_eq!(route.spec.rules[0].backend_refs[0].weight, None);
    assert!(route.spec.rules[0].matches.is_empty());
}

#[test]
fn the_api_server_takes_every_schema() {
    for definition in definitions() {
        for version in definition["spec"]["versions"].as_array().unwrap() {
            let compiled = api::crd::Structural::compile(&version["schema"]["openAPIV3Schema"]);
            let wrong = compiled.err().unwrap_or_default();
            assert!(wrong.is_empty(), "{} {}: {wrong:?}", definition["metadata"]["name"], version["name"]);
        }
    }
}
