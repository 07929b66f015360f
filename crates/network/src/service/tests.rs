//! Tests of `service`: cases as data where there are many.

use super::*;

fn endpoint(text: &str) -> SocketAddrV4 {
    text.parse().unwrap()
}

fn port() -> ServicePort {
    ServicePort {
        cluster_ips: vec![Ipv4Addr::new(10, 43, 0, 1)],
        external_ips: vec![Ipv4Addr::new(192, 0, 2, 9)],
        port: 80,
        node_port: Some(30080),
        protocol: Protocol::Tcp,
        endpoints: vec![endpoint("10.42.0.2:8080"), endpoint("10.42.1.2:8080")],
        local_endpoints: vec![endpoint("10.42.0.2:8080")],
        affinity: None,
        internal_local: false,
        external_local: false,
    }
}

fn front<'a>(fronts: &'a [(Key, Front)], address: &str) -> &'a Front {
    let address: Ipv4Addr = address.parse().unwrap();
    fronts.iter().find(|(key, _)| key.address == address).map(|(_, front)| front).unwrap()
}

fn count(fate: &Fate) -> Option<usize> {
    match fate {
        Fate::Pick(endpoints) => Some(endpoints.len()),
        _ => None,
    }
}

#[test]
fn a_plain_service_leads_to_all_endpoints_and_masquerades_what_comes_from_elsewhere() {
    let fronts = fronts(&[port()]);
    assert_eq!(fronts.len(), 3);
    for (address, masquerade) in [("10.43.0.1", false), ("192.0.2.9", true), ("0.0.0.0", true)] {
        let front = front(&fronts, address);
        assert_eq!((count(&front.inside), &front.outside, front.masquerade), (Some(2), &None, masquerade), "{address}");
    }
}

#[test]
fn local_policies_keep_to_this_node() {
    let fronts = fronts(&[ServicePort { internal_local: true, external_local: true, ..port() }]);
    assert_eq!(count(&front(&fronts, "10.43.0.1").inside), Some(1));
    let node = front(&fronts, "0.0.0.0");
    assert_eq!(count(&node.inside), Some(2));
    assert_eq!(node.outside.as_ref().and_then(count), Some(1));
    assert!(!node.masquerade);
}

#[test]
fn local_policies_without_an_endpoint_here_drop() {
    let ports = ServicePort { internal_local: true, external_local: true, local_endpoints: vec![], ..port() };
    let fronts = fronts(&[ports]);
    assert_eq!(front(&fronts, "10.43.0.1").inside, Fate::Drop);
    assert_eq!(front(&fronts, "0.0.0.0").outside, Some(Fate::Drop));
}

#[test]
fn a_service_without_endpoints_refuses_everywhere() {
    for local in [false, true] {
        let none = ServicePort {
            endpoints: vec![],
            local_endpoints: vec![],
            internal_local: local,
            external_local: local,
            ..port()
        };
        for (key, front) in fronts(&[none]) {
            assert_eq!((front.inside, front.outside), (Fate::Refuse, None), "{key:?}");
        }
    }
}

#[test]
fn an_address_given_twice_counts_once() {
    let twice = ServicePort { endpoints: vec![endpoint("10.42.0.2:1"), endpoint("10.42.0.2:1")], ..port() };
    let fronts = fronts(&[twice.clone(), twice]);
    assert_eq!(fronts.len(), 3);
    assert_eq!(count(&fronts[0].1.inside), Some(1));
}

#[test]
fn endpoints_keep_their_places() {
    let list = |text: &str| text.chars().map(|c| SocketAddrV4::new(Ipv4Addr::LOCALHOST, c as u16)).collect::<Vec<_>>();
    for (old, new, want) in [
        ("abc", "abc", "abc"),
        ("abc", "cba", "abc"),
        ("abc", "adc", "adc"),
        ("abc", "ac", "ac"),
        ("abc", "bc", "cb"),
        ("abc", "c", "c"),
        ("ab", "abc", "abc"),
        ("ab", "cab", "abc"),
        ("", "ab", "ab"),
        ("ab", "cd", "cd"),
    ] {
        assert_eq!(place(&list(old), list(new)), list(want), "{old} -> {new}");
    }
}
