//! Endpoints from slices, and what of them lasts.

use k8s_openapi::{
    api::{
        core::v1::{ServicePort, ServiceSpec},
        discovery::v1::{Endpoint as SliceEndpoint, EndpointConditions, EndpointPort},
    },
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};

use super::*;

fn service(ports: &[(&str, i32, Option<&str>)]) -> Service {
    let port = |(name, port, protocol): &(&str, i32, Option<&str>)| ServicePort {
        name: Some((*name).to_owned()).filter(|name| !name.is_empty()),
        port: *port,
        app_protocol: protocol.map(str::to_owned),
        ..ServicePort::default()
    };
    let spec = ServiceSpec { ports: Some(ports.iter().map(port).collect()), ..ServiceSpec::default() };
    Service { spec: Some(spec), ..Service::default() }
}

fn slice(port: (&str, i32), endpoints: &[(&str, bool, bool)]) -> Arc<EndpointSlice> {
    let endpoint = |(address, ready, serving): &(&str, bool, bool)| SliceEndpoint {
        addresses: vec![(*address).to_owned()],
        conditions: Some(EndpointConditions {
            ready: Some(*ready),
            serving: Some(*serving),
            terminating: Some(!ready),
        }),
        ..SliceEndpoint::default()
    };
    Arc::new(EndpointSlice {
        address_type: "IPv4".into(),
        endpoints: Some(endpoints.iter().map(endpoint).collect()),
        metadata: ObjectMeta::default(),
        ports: Some(vec![EndpointPort { name: Some(port.0.into()), port: Some(port.1), ..EndpointPort::default() }]),
    })
}

#[test]
fn endpoints_that_are_ready_go_before_those_that_end() {
    let service = service(&[("web", 80, None), ("grpc", 81, Some("kubernetes.io/h2c"))]);
    let web = |endpoints| slice(("web", 3000), endpoints);
    let all = [web(&[("10.0.0.2", true, true), ("10.0.0.1", false, true)]), slice(("grpc", 3001), &[])];
    let text = |found: &(Vec<SocketAddr>, bool)| {
        (found.0.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "), found.1)
    };
    assert_eq!(text(&addresses(&service, 80, &all)), ("10.0.0.2:3000".into(), false));
    assert_eq!(text(&addresses(&service, 81, &all)), (String::new(), true));
    assert_eq!(text(&addresses(&service, 82, &all)), (String::new(), false));
    let ending = [web(&[("10.0.0.1", false, true), ("10.0.0.3", false, false)])];
    assert_eq!(text(&addresses(&service, 80, &ending)), ("10.0.0.1:3000".into(), false));
}

#[test]
fn an_endpoint_lasts_while_slices_change() {
    let backends = Backends::default();
    let key = Key { namespace: "a".into(), service: "b".into(), port: 80 };
    let (backend, new) = backends.get(&key);
    assert!(new && !backends.get(&key).1);
    assert!(backend.turn(&[]).is_none());
    let [one, two]: [SocketAddr; 2] = ["10.0.0.1:80".parse().unwrap(), "10.0.0.2:80".parse().unwrap()];
    backends.set(&backend, &[one], false);
    let turn = backend.turn(&[]).unwrap();
    backends.set(&backend, &[one, two], false);
    // The first is busy: the second gets the next.
    assert_eq!(backend.turn(&[]).unwrap().endpoint().address, two);
    backends.set(&backend, &[two], false);
    drop(turn);
    assert_eq!(backend.turn(&[two]).unwrap().endpoint().address, two);
    assert_eq!(backends.of_service("a", "b").len(), 1);
    drop(backend);
    backends.prune();
    assert!(backends.of_service("a", "b").is_empty());
}

#[test]
fn an_endpoint_that_fails_again_and_again_gets_nothing_for_a_while() {
    let backends = Backends::default();
    let (backend, _) = backends.get(&Key { namespace: "a".into(), service: "b".into(), port: 80 });
    let addresses: Vec<SocketAddr> = (1..=3).map(|last| SocketAddr::from(([10, 0, 0, last], 80))).collect();
    backends.set(&backend, &addresses, false);
    let ill = backend.turn(&[]).unwrap().endpoint().clone();
    (0..3).for_each(|_| ill.learn(Outcome::Lost));
    for _ in 0..50 {
        assert_ne!(backend.turn(&[]).unwrap().endpoint().address, ill.address);
    }
}

#[test]
fn ports_are_found_by_number_and_name() {
    let service = service(&[("web", 80, None), ("", 81, None)]);
    assert_eq!(port_number(&service, &IntOrString::Int(81)), Some(81));
    assert_eq!(port_number(&service, &IntOrString::String("web".into())), Some(80));
    assert_eq!(port_number(&service, &IntOrString::String("x".into())), None);
    assert_eq!(port_number(&service, &IntOrString::Int(82)), None);
}
