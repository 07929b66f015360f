//! Services lead to endpoints, refuse without, and follow changes.

use std::{
    collections::{BTreeSet, HashMap},
    io::ErrorKind,
    net::Ipv4Addr,
    sync::Arc,
    time::Duration,
};

use network::{Network, Protocol, ServicePort, Services};

use crate::world::{Pod, ask, client, config, fetch, ip, outside, run, who};

fn service(address: &str, pods: &[&Pod]) -> ServicePort {
    let endpoints: Vec<_> = pods.iter().map(|pod| pod.endpoint()).collect();
    ServicePort {
        cluster_ips: vec![address.parse().unwrap()],
        external_ips: vec![],
        port: 80,
        node_port: None,
        protocol: Protocol::Tcp,
        local_endpoints: endpoints.clone(),
        endpoints,
        affinity: None,
        internal_local: false,
        external_local: false,
    }
}

fn both(service: ServicePort) -> Vec<ServicePort> {
    vec![ServicePort { protocol: Protocol::Udp, ..service.clone() }, service]
}

fn all(services: &[(&str, Vec<ServicePort>)]) -> Services {
    services.iter().map(|(name, ports)| (Arc::from(*name), Arc::from(ports.as_slice()))).collect()
}

/// Who answers when asked often enough that all of a few do.
fn names(mut fetch: impl FnMut() -> Result<String, ErrorKind>) -> BTreeSet<String> {
    (0..40).map(|_| fetch().map_or_else(|kind| kind.to_string(), |answer| who(&answer).to_owned())).collect()
}

fn set(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

#[test]
fn a_service_leads_pods_and_the_node_to_all_endpoints() {
    run(async || {
        let _world = outside();
        let network = Network::open(config("t")).await.unwrap();
        let a = Pod::start(&network, "a", "10.42.0.5").await;
        let b = Pod::start(&network, "b", "10.42.0.6").await;
        let c = Pod::start(&network, "c", "10.42.0.7").await;
        network.services(all(&[("web", both(service("10.43.0.1", &[&a, &b])))])).await.unwrap();

        assert_eq!(names(|| c.space.fetch("10.43.0.1:80")), set(&["a", "b"]));
        assert_eq!(names(|| c.space.ask("10.43.0.1:80")), set(&["a", "b"]));
        assert_eq!(names(|| fetch("10.43.0.1:80")), set(&["a", "b"]), "from the node");
        assert_eq!(names(|| a.space.fetch("10.43.0.1:80")), set(&["a", "b"]), "from an endpoint, hairpin included");
        assert_eq!(names(|| a.space.ask("10.43.0.1:80")), set(&["a", "b"]), "hairpin by udp");
        let sees = c.space.fetch("10.43.0.1:80").unwrap();
        assert!(sees.ends_with(" 10.42.0.7"), "endpoints see the client: {sees}");
        assert_eq!(c.space.fetch("10.43.0.1:81"), Err(ErrorKind::ConnectionRefused), "another port");
        assert_eq!(c.space.fetch("10.43.0.99:80"), Err(ErrorKind::ConnectionRefused), "another address");
    });
}

#[test]
fn a_service_without_endpoints_refuses() {
    run(async || {
        let world = outside();
        let network = Network::open(config("t")).await.unwrap();
        let a = Pod::start(&network, "a", "10.42.0.5").await;
        let none = ServicePort {
            node_port: Some(30080),
            external_ips: vec![Ipv4Addr::new(198, 51, 100, 9)],
            ..service("10.43.0.1", &[])
        };
        network.services(all(&[("web", both(none))])).await.unwrap();
        for to in ["10.43.0.1:80", "203.0.113.1:30080", "198.51.100.9:80"] {
            assert_eq!(a.space.fetch(to), Err(ErrorKind::ConnectionRefused), "{to} from a pod");
            assert_eq!(a.space.ask(to), Err(ErrorKind::ConnectionRefused), "{to} from a pod, udp");
            assert_eq!(fetch(to), Err(ErrorKind::ConnectionRefused), "{to} from the node");
            // Where the packet is refused before it leaves, sending itself fails.
            let refused = ask(&client(), to).unwrap_err();
            assert!([ErrorKind::ConnectionRefused, ErrorKind::PermissionDenied].contains(&refused), "{to}: {refused}");
        }
        assert_eq!(world.fetch("203.0.113.1:30080"), Err(ErrorKind::ConnectionRefused));
    });
}

#[test]
fn endpoints_come_and_go() {
    run(async || {
        let network = Network::open(config("t")).await.unwrap();
        ip("addr add 203.0.113.1/32 dev lo");
        let a = Pod::start(&network, "a", "10.42.0.5").await;
        let b = Pod::start(&network, "b", "10.42.0.6").await;
        let c = Pod::start(&network, "c", "10.42.0.7").await;
        let client = c.space.run(client);
        for (pods, want) in [
            (vec![&a], vec!["a"]),
            (vec![&a, &b], vec!["a", "b"]),
            (vec![&b], vec!["b"]),
            (vec![], vec![]),
            (vec![&c, &a, &b], vec!["a", "b", "c"]),
            (vec![&c, &b], vec!["b", "c"]),
        ] {
            let ports = both(service("10.43.0.1", &pods));
            network.change(vec![(Arc::from("web"), Some(Arc::from(ports)))]).await.unwrap();
            let want = if want.is_empty() { set(&["connection refused"]) } else { set(&want) };
            assert_eq!(names(|| c.space.fetch("10.43.0.1:80")), want);
            // A flow that goes on is led elsewhere when its endpoint is gone, and refused when all are.
            let flow = ask(&client, "10.43.0.1:80").map_or_else(|kind| kind.to_string(), |text| who(&text).to_owned());
            assert!(want.contains(&flow), "{flow} of {want:?}");
        }
        network.change(vec![(Arc::from("web"), None)]).await.unwrap();
        assert_eq!(c.space.fetch("10.43.0.1:80"), Err(ErrorKind::ConnectionRefused));
    });
}

#[test]
fn a_node_port_leads_from_everywhere() {
    run(async || {
        let world = outside();
        let network = Network::open(config("t")).await.unwrap();
        let a = Pod::start(&network, "a", "10.42.0.5").await;
        let b = Pod::start(&network, "b", "10.42.0.6").await;
        let web = ServicePort {
            node_port: Some(30080),
            external_ips: vec![Ipv4Addr::new(198, 51, 100, 9)],
            ..service("10.43.0.1", &[&a, &b])
        };
        network.services(all(&[("web", both(web))])).await.unwrap();
        world.run(|| ip("route add 198.51.100.9 via 203.0.113.1"));

        assert_eq!(names(|| world.fetch("203.0.113.1:30080")), set(&["a", "b"]));
        assert_eq!(names(|| world.ask("203.0.113.1:30080")), set(&["a", "b"]));
        assert_eq!(names(|| world.fetch("198.51.100.9:80")), set(&["a", "b"]), "external address");
        let sees = world.fetch("203.0.113.1:30080").unwrap();
        assert!(sees.ends_with(" 203.0.113.1"), "endpoints see the node: {sees}");
        for to in ["203.0.113.1:30080", "127.0.0.1:30080", "198.51.100.9:80"] {
            assert_eq!(names(|| fetch(to)), set(&["a", "b"]), "{to} from the node");
        }
        assert_eq!(names(|| a.space.fetch("203.0.113.1:30080")), set(&["a", "b"]), "from an endpoint");
        assert_eq!(names(|| a.space.fetch("198.51.100.9:80")), set(&["a", "b"]), "from an endpoint, external address");
    });
}

#[test]
fn local_policies_keep_the_client_and_drop_elsewhere() {
    run(async || {
        let world = outside();
        let network = Network::open(config("t")).await.unwrap();
        let a = Pod::start(&network, "a", "10.42.0.5").await;
        // A pod of another node, as far as the service knows.
        let b = Pod::start(&network, "b", "10.42.0.6").await;
        let near = ServicePort {
            node_port: Some(30080),
            local_endpoints: vec![a.endpoint()],
            internal_local: true,
            external_local: true,
            ..service("10.43.0.1", &[&a, &b])
        };
        let far = ServicePort {
            cluster_ips: vec![Ipv4Addr::new(10, 43, 0, 2)],
            node_port: Some(30081),
            local_endpoints: vec![],
            ..near.clone()
        };
        network.services(all(&[("near", vec![near]), ("far", vec![far])])).await.unwrap();

        assert_eq!(world.fetch("203.0.113.1:30080").unwrap(), "a 203.0.113.2");
        assert_eq!(names(|| world.fetch("203.0.113.1:30080")), set(&["a"]));
        assert_eq!(names(|| b.space.fetch("203.0.113.1:30080")), set(&["a", "b"]), "pods reach all");
        assert_eq!(names(|| fetch("203.0.113.1:30080")), set(&["a", "b"]), "the node reaches all");
        assert_eq!(names(|| b.space.fetch("10.43.0.1:80")), set(&["a"]));
        assert_eq!(world.fetch("203.0.113.1:30081"), Err(ErrorKind::TimedOut));
        assert_eq!(b.space.fetch("10.43.0.2:80"), Err(ErrorKind::TimedOut));
        assert_eq!(names(|| b.space.fetch("203.0.113.1:30081")), set(&["a", "b"]), "pods reach all");
    });
}

#[test]
fn a_client_stays_with_its_endpoint_until_that_is_gone_or_the_time_is_up() {
    run(async || {
        let network = Network::open(config("t")).await.unwrap();
        let a = Pod::start(&network, "a", "10.42.0.5").await;
        let b = Pod::start(&network, "b", "10.42.0.6").await;
        let c = Pod::start(&network, "c", "10.42.0.7").await;
        let pods = HashMap::from([("a", &a), ("b", &b), ("c", &c)]);
        let sticky = |pods: &[&Pod], seconds| {
            let port = ServicePort { affinity: Some(Duration::from_secs(seconds)), ..service("10.43.0.1", pods) };
            all(&[("web", both(port))])
        };
        network.services(sticky(&[&a, &b, &c], 600)).await.unwrap();
        let first = names(|| c.space.fetch("10.43.0.1:80"));
        assert_eq!(first.len(), 1, "{first:?}");
        let first = first.first().unwrap().clone();

        let rest: Vec<&Pod> = pods.iter().filter(|(name, _)| **name != first).map(|(_, pod)| *pod).collect();
        network.services(sticky(&rest, 600)).await.unwrap();
        let second = names(|| c.space.fetch("10.43.0.1:80"));
        assert_eq!(second.len(), 1, "{second:?}");
        assert!(!second.contains(&first), "{second:?}");

        network.services(sticky(&[&a, &b, &c], 1)).await.unwrap();
        let mut seen = BTreeSet::new();
        for _ in 0..12 {
            seen.insert(who(&a.space.fetch("10.43.0.1:80").unwrap()).to_owned());
            if seen.len() > 1 {
                return;
            }
            std::thread::sleep(Duration::from_millis(1300));
        }
        panic!("only {seen:?} in 12 seconds");
    });
}

#[test]
fn the_nodes_own_service_address_is_never_led_away() {
    run(async || {
        let network = Network::open(config("t")).await.unwrap();
        let a = Pod::start(&network, "a", "10.42.0.5").await;
        network.add_address(Ipv4Addr::new(10, 43, 0, 10)).await.unwrap();
        network.add_address(Ipv4Addr::new(10, 43, 0, 10)).await.unwrap();
        let listener = std::net::UdpSocket::bind("10.43.0.10:80").unwrap();
        std::thread::spawn(move || {
            while let Ok((_, peer)) = listener.recv_from(&mut [0; 16]) {
                let _ = listener.send_to(format!("node {}", peer.ip()).as_bytes(), peer);
            }
        });
        let check = |case: &str| {
            assert_eq!(a.space.ask("10.43.0.10:80").unwrap(), "node 10.42.0.5", "{case}");
            assert_eq!(who(&ask(&client(), "10.43.0.10:80").unwrap()), "node", "{case}");
        };
        check("no service");
        network.services(all(&[("dns", both(service("10.43.0.10", &[])))])).await.unwrap();
        check("a service without endpoints");
        network.services(all(&[("dns", both(service("10.43.0.10", &[&a])))])).await.unwrap();
        check("a service with endpoints");
    });
}

#[test]
fn of_two_services_that_claim_an_address_the_first_has_it_and_then_the_second() {
    run(async || {
        let network = Network::open(config("t")).await.unwrap();
        let a = Pod::start(&network, "a", "10.42.0.5").await;
        let b = Pod::start(&network, "b", "10.42.0.6").await;
        network.services(all(&[("one", vec![service("10.43.0.1", &[&a])])])).await.unwrap();
        let two: Arc<[ServicePort]> = Arc::from([service("10.43.0.1", &[&b])]);
        network.change(vec![(Arc::from("two"), Some(two))]).await.unwrap();
        assert_eq!(names(|| a.space.fetch("10.43.0.1:80")), set(&["a"]));
        network.change(vec![(Arc::from("one"), None)]).await.unwrap();
        assert_eq!(names(|| a.space.fetch("10.43.0.1:80")), set(&["b"]));
        network.change(vec![(Arc::from("two"), None)]).await.unwrap();
        assert_eq!(a.space.fetch("10.43.0.1:80"), Err(ErrorKind::ConnectionRefused));
    });
}

#[test]
fn many_endpoints_get_a_chain_of_their_own() {
    run(async || {
        let network = Network::open(config("t")).await.unwrap();
        let a = Pod::start(&network, "a", "10.42.0.5").await;
        let mut web = service("10.43.0.1", &[]);
        // All ports of one pod: 200 endpoints, of which one answers.
        let wide = |count: u16| (0..count).map(|n| std::net::SocketAddrV4::new(a.ip, 8080 + n)).collect::<Vec<_>>();
        for count in [64, 65, 200, 199, 1] {
            web.endpoints = wide(count);
            web.local_endpoints = wide(count);
            network.change(vec![(Arc::from("web"), Some(Arc::from([web.clone()])))]).await.unwrap();
        }
        assert_eq!(names(|| a.space.fetch("10.43.0.1:80")), set(&["a"]));
    });
}

#[test]
fn endpoints_may_be_the_node_itself_or_outside_the_cluster() {
    run(async || {
        let world = outside();
        world.serve(8080, "world");
        let network = Network::open(config("t")).await.unwrap();
        let a = Pod::start(&network, "a", "10.42.0.5").await;
        let node = std::net::TcpListener::bind("203.0.113.1:6443").unwrap();
        std::thread::spawn(move || {
            for (mut stream, peer) in std::iter::from_fn(|| node.accept().ok()) {
                let _ = std::io::Write::write_all(&mut stream, format!("node {}", peer.ip()).as_bytes());
            }
        });
        let to = |address: &str, endpoint: &str| ServicePort {
            endpoints: vec![endpoint.parse().unwrap()],
            node_port: Some(30000 + u16::from(address.ends_with('2'))),
            ..service(address, &[])
        };
        network
            .services(all(&[
                ("kubernetes", vec![to("10.43.0.1", "203.0.113.1:6443")]),
                ("elsewhere", vec![to("10.43.0.2", "198.51.100.1:8080")]),
            ]))
            .await
            .unwrap();
        assert_eq!(a.space.fetch("10.43.0.1:80").unwrap(), "node 10.42.0.5");
        assert_eq!(who(&fetch("10.43.0.1:80").unwrap()), "node");
        assert_eq!(world.fetch("203.0.113.1:30000").unwrap(), "node 203.0.113.2");
        assert_eq!(a.space.fetch("10.43.0.2:80").unwrap(), "world 203.0.113.1");
        assert_eq!(fetch("10.43.0.2:80").unwrap(), "world 203.0.113.1");
    });
}

#[test]
fn names_of_two_processes_are_told_apart_by_their_first_change() {
    run(async || {
        let first = Network::open(config("t")).await.unwrap();
        let a = Pod::start(&first, "a", "10.42.0.5").await;
        first.services(all(&[("old", vec![service("10.43.0.1", &[&a])])])).await.unwrap();
        drop(first);
        let second = Network::open(config("t")).await.unwrap();
        assert_eq!(who(&a.space.fetch("10.43.0.1:80").unwrap()), "a", "until services are given");
        let new: Arc<[ServicePort]> = Arc::from([service("10.43.0.2", &[&a])]);
        second.change(vec![(Arc::from("new"), Some(new))]).await.unwrap();
        assert!(a.space.fetch("10.43.0.1:80").is_err());
        assert_eq!(who(&a.space.fetch("10.43.0.2:80").unwrap()), "a");
        drop(second);
        let third = Network::open(config("t")).await.unwrap();
        third.services(Services::new()).await.unwrap();
        assert!(a.space.fetch("10.43.0.2:80").is_err(), "no services are given, and none are there");
    });
}

#[test]
fn the_table_can_be_listed() {
    run(async || {
        let network = Network::open(config("t")).await.unwrap();
        let a = Pod::start(&network, "a", "10.42.0.5").await;
        let sticky = ServicePort {
            affinity: Some(Duration::from_secs(5)),
            node_port: Some(30080),
            external_local: true,
            ..service("10.43.0.1", &[&a])
        };
        let none = service("10.43.0.2", &[]);
        network.services(all(&[("sticky", both(sticky)), ("none", vec![none])])).await.unwrap();
        a.space.fetch("10.43.0.1:80").unwrap();
        // People look with nft, and it must not fall over what other programs wrote.
        let Ok(listed) = std::process::Command::new("nft").args(["list", "ruleset"]).output() else { return };
        assert!(listed.status.success(), "{}", String::from_utf8_lossy(&listed.stderr));
        let text = String::from_utf8_lossy(&listed.stdout);
        assert!(text.contains("10.43.0.1 . tcp . 80 : goto stick-5000-1"), "{text}");
    });
}
