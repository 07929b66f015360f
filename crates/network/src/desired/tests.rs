//! Tests of `desired`: cases as data where there are many.

use std::net::{Ipv4Addr, SocketAddrV4};

use super::*;
use crate::{Protocol, table::Place};

fn service(address: u8, endpoints: &[u8]) -> Arc<[ServicePort]> {
    let endpoints: Vec<SocketAddrV4> =
        endpoints.iter().map(|last| SocketAddrV4::new(Ipv4Addr::new(10, 42, 0, *last), 80)).collect();
    Arc::from([ServicePort {
        cluster_ips: vec![Ipv4Addr::new(10, 43, 0, address)],
        external_ips: vec![],
        port: 80,
        node_port: None,
        protocol: Protocol::Tcp,
        local_endpoints: vec![],
        endpoints,
        affinity: None,
        internal_local: false,
        external_local: false,
    }])
}

/// Applies a change and gives how many elements went out and in, and which chains were made and removed.
fn apply(desired: &mut Desired, changes: &[(&str, Option<Arc<[ServicePort]>>)]) -> (usize, usize, String) {
    let changes = changes.iter().map(|(name, ports)| (Arc::from(*name), ports.clone()));
    let plan = desired.plan(changes, vec![], vec![]);
    let made = plan.new_chains.iter().map(|chain| format!("+{chain}"));
    let chains = made.chain(plan.old_chains.iter().map(|chain| format!("-{chain}"))).collect::<Vec<_>>().join(" ");
    let counts = (plan.changes.remove.len(), plan.changes.add.len(), chains);
    desired.commit(plan);
    counts
}

fn endpoints(desired: &Desired, address: u8) -> Option<String> {
    let key = Key { address: Ipv4Addr::new(10, 43, 0, address), protocol: Protocol::Tcp, port: 80 };
    match &desired.front(key)?.inside {
        crate::service::Fate::Pick(endpoints) => {
            Some(endpoints.iter().map(|endpoint| endpoint.ip().octets()[3].to_string()).collect::<Vec<_>>().join(" "))
        }
        other => Some(format!("{other:?}")),
    }
}

#[test]
fn a_change_touches_only_what_differs() {
    let mut desired = Desired::default();
    for (case, endpoints, want) in [
        ("first", Some(&[1, 2, 3][..]), (0, 4, "+pick-3")),
        ("the same", Some(&[1, 2, 3]), (0, 0, "")),
        ("the same in another order", Some(&[3, 2, 1]), (0, 0, "")),
        ("one replaced", Some(&[1, 9, 3]), (1, 1, "")),
        ("one less: the last takes its place", Some(&[9, 3]), (3, 2, "+pick-2")),
        ("one more", Some(&[9, 3, 4]), (1, 2, "")),
        ("none left", Some(&[]), (4, 1, "")),
        ("removed", None, (1, 0, "")),
        ("removed again", None, (0, 0, "")),
    ] {
        let ports = endpoints.map(|endpoints| service(1, endpoints));
        let done = apply(&mut desired, &[("a", ports)]);
        assert_eq!((done.0, done.1, done.2.as_str()), want, "{case}");
    }
}

#[test]
fn a_large_chain_goes_with_the_last_service_that_needs_it() {
    let many: Vec<u8> = (0..100).collect();
    let mut desired = Desired::default();
    assert_eq!(apply(&mut desired, &[("a", Some(service(1, &many)))]).2, "+pick-100");
    assert_eq!(apply(&mut desired, &[("b", Some(service(2, &many)))]).2, "");
    assert_eq!(apply(&mut desired, &[("a", None)]).2, "");
    assert_eq!(apply(&mut desired, &[("b", None), ("c", Some(service(3, &many)))]).2, "", "from one to another");
    assert_eq!(apply(&mut desired, &[("c", Some(service(3, &[1])))]).2, "+pick-1 -pick-100");
    assert_eq!(apply(&mut desired, &[("c", None)]).2, "", "small ones stay");
}

#[test]
fn an_address_that_two_claim_goes_from_one_to_the_other() {
    let mut desired = Desired::default();
    apply(&mut desired, &[("a", Some(service(1, &[1])))]);
    apply(&mut desired, &[("b", Some(service(1, &[2]))), ("c", Some(service(1, &[3])))]);
    assert_eq!(endpoints(&desired, 1).as_deref(), Some("1"));
    apply(&mut desired, &[("b", Some(service(1, &[4])))]);
    apply(&mut desired, &[("a", Some(service(9, &[1])))]);
    assert_eq!(endpoints(&desired, 1).as_deref(), Some("4"), "as it is now, not as it was when it came");
    apply(&mut desired, &[("c", None)]);
    apply(&mut desired, &[("b", None)]);
    assert_eq!(endpoints(&desired, 1), None);
    assert!(desired.waiting.is_empty());
}

#[test]
fn a_swap_of_addresses_in_one_change_works_in_any_order() {
    for swapped in [["a", "b"], ["b", "a"]] {
        let mut desired = Desired::default();
        apply(&mut desired, &[("a", Some(service(1, &[1]))), ("b", Some(service(2, &[2])))]);
        let new = |name| if name == "a" { service(2, &[1]) } else { service(1, &[2]) };
        apply(&mut desired, &swapped.map(|name| (name, Some(new(name)))));
        assert_eq!((endpoints(&desired, 1).as_deref(), endpoints(&desired, 2).as_deref()), (Some("2"), Some("1")));
        assert!(desired.waiting.is_empty());
    }
}

#[test]
fn differences_are_what_is_gone_and_what_is_other() {
    let mut desired = Desired::default();
    let (a, b) = (service(1, &[1]), service(2, &[2]));
    apply(&mut desired, &[("a", Some(a.clone())), ("b", Some(b))]);
    let wanted: Services = [("a", service(1, &[1])), ("c", service(3, &[3]))].map(|(n, s)| (Arc::from(n), s)).into();
    let mut found: Vec<_> =
        desired.differences(&wanted).into_iter().map(|(name, ports)| (name.to_string(), ports.is_some())).collect();
    found.sort();
    assert_eq!(found, [("b".to_owned(), false), ("c".to_owned(), true)]);
}

#[test]
fn elements_that_are_of_no_service_are_put_in_and_taken_out_once() {
    let mut desired = Desired::default();
    let element = Element::own(Ipv4Addr::new(10, 43, 0, 10));
    for (remove, add, want) in [
        (false, true, (0, 1)),
        (false, true, (0, 0)),
        (true, true, (1, 1)),
        (true, false, (1, 0)),
        (true, false, (0, 0)),
    ] {
        let list = |wanted: bool| wanted.then_some(element).into_iter().collect();
        let plan = desired.plan(vec![], list(remove), list(add));
        assert_eq!((plan.changes.remove.len(), plan.changes.add.len()), want, "{remove} {add}");
        desired.commit(plan);
    }
    apply(&mut desired, &[("a", Some(service(1, &[1])))]);
    desired.commit(desired.plan(vec![], vec![], vec![element]));
    let (all, chains) = desired.all();
    assert_eq!((all.add.len(), chains.len()), (3, 1));
    assert_eq!(all.add[0].place, Place::Own);
}
