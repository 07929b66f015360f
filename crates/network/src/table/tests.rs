//! Tests of `table`: cases as data where there are many.

use std::net::Ipv4Addr;

use super::*;
use crate::Protocol;

fn key(address: [u8; 4], port: u16) -> Key {
    Key { address: Ipv4Addr::from(address), protocol: Protocol::Tcp, port }
}

fn endpoint(last: u8) -> SocketAddrV4 {
    SocketAddrV4::new(Ipv4Addr::new(10, 42, 0, last), 0x1f90)
}

/// Set, key and value of the elements of a front.
fn shown(key: Key, front: &Front) -> Vec<String> {
    let mut found = Vec::new();
    elements(key, front, &mut found);
    assert!(found.is_sorted());
    let show = |element: &Element| {
        let value = match element.value {
            Value::Nothing => String::new(),
            Value::Refuse => " refuse".into(),
            Value::Drop => " drop".into(),
            Value::Chain(chain) => format!(" {chain}"),
            Value::Endpoint(bytes) => format!(" {}", bytes[3]),
        };
        format!("{} {}{value}", element.place.set().name, element.key_bytes().len())
    };
    // The order of numbers is the machine's.
    let mut shown: Vec<String> = found.iter().map(show).collect();
    shown.sort();
    shown
}

fn front(inside: Fate) -> Front {
    Front { inside, outside: None, masquerade: false, affinity: None }
}

#[test]
fn a_front_is_a_few_elements() {
    let two = || Fate::Pick(vec![endpoint(1), endpoint(2)]);
    let cluster = key([10, 43, 0, 1], 80);
    assert_eq!(shown(cluster, &front(two())), ["endpoints 16 1", "endpoints 16 2", "services 12 pick-2"]);
    assert_eq!(shown(cluster, &front(Fate::Refuse)), ["unserved 12 refuse"]);
    assert_eq!(shown(cluster, &front(Fate::Drop)), ["unserved 12 drop"]);
    let node = Front { masquerade: true, ..front(two()) };
    let wanted = ["endpoints 16 1", "endpoints 16 2", "masqueraded 12", "services 12 pick-node-2"];
    assert_eq!(shown(key([0; 4], 30080), &node), wanted);
    let outside =
        Front { outside: Some(Fate::Pick(vec![endpoint(1)])), affinity: Some(Duration::from_secs(2)), ..front(two()) };
    assert_eq!(
        shown(cluster, &outside),
        [
            "endpoints 16 1",
            "endpoints 16 1",
            "endpoints 16 2",
            "outside 12 stick-2000-outside-1",
            "services 12 stick-2000-2",
        ]
    );
    let dropped = Front { outside: Some(Fate::Drop), ..front(two()) };
    assert_eq!(shown(cluster, &dropped)[2], "outside 12 drop");
}

#[test]
fn keys_are_padded_as_the_kernel_pads_them() {
    assert_eq!(key([10, 43, 0, 1], 80).bytes()[..12], [10, 43, 0, 1, 6, 0, 0, 0, 0, 80, 0, 0]);
    assert_eq!(endpoint_bytes(endpoint(7)), [10, 42, 0, 7, 0x1f, 0x90, 0, 0]);
}

#[test]
fn comparing_gives_what_goes_and_what_comes() {
    let list = |text: &str| -> Vec<Element> {
        let element = |c: char| Element::own(Ipv4Addr::new(10, 0, 0, c as u8));
        text.chars().map(element).collect()
    };
    for (old, new, remove, add) in
        [("", "", "", ""), ("abc", "abc", "", ""), ("abc", "acd", "b", "d"), ("", "ab", "", "ab"), ("ab", "", "ab", "")]
    {
        let mut changes = Changes::default();
        changes.compare(&list(old), &list(new));
        assert_eq!((changes.remove, changes.add), (list(remove), list(add)), "{old} {new}");
    }
}
