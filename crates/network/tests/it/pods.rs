//! Pods reach what they should, by links and routes alone.

use std::io::ErrorKind;

use network::{Network, Protocol};

use crate::world::{Pod, ask, client, config, fetch, host_port, ip, outside, run, who};

#[test]
fn pods_reach_each_other_the_node_and_the_world() {
    run(async || {
        let world = outside();
        world.serve(80, "world");
        let network = Network::open(config("t")).await.unwrap();
        let a = Pod::start(&network, "a", "10.42.0.5").await;
        let b = Pod::start(&network, "b", "10.42.0.6").await;

        assert_eq!(a.space.fetch("10.42.0.6:8080").unwrap(), "b 10.42.0.5");
        assert_eq!(b.space.ask("10.42.0.5:8080").unwrap(), "a 10.42.0.6");
        assert_eq!(fetch("10.42.0.5:8080").unwrap(), "a 203.0.113.1", "the node to a pod");
        assert_eq!(a.space.fetch("198.51.100.1:80").unwrap(), "world 203.0.113.1", "masqueraded");
        assert_eq!(a.space.run(|| fetch("127.0.0.1:8080")).unwrap(), "a 127.0.0.1", "loopback is up");
        let links = a.space.run(|| ip("-o link"));
        assert!(links.lines().any(|line| line.contains("eth0") && line.contains("mtu 1400")), "{links}");
    });
}

#[test]
fn a_pod_without_masquerade_keeps_its_address() {
    run(async || {
        let world = outside();
        world.serve(80, "world");
        world.run(|| ip("route add 10.42.0.0/16 via 203.0.113.1"));
        let network = Network::open(network::Config { masquerade: false, ..config("t") }).await.unwrap();
        let a = Pod::start(&network, "a", "10.42.0.5").await;
        assert_eq!(a.space.fetch("198.51.100.1:80").unwrap(), "world 10.42.0.5");
    });
}

#[test]
fn an_address_without_a_pod_is_unreachable_at_once() {
    run(async || {
        let _world = outside();
        let network = Network::open(config("t")).await.unwrap();
        let a = Pod::start(&network, "a", "10.42.0.5").await;
        assert_eq!(a.space.fetch("10.42.0.77:80"), Err(ErrorKind::HostUnreachable));
        assert_eq!(fetch("10.42.0.77:80"), Err(ErrorKind::HostUnreachable));
    });
}

#[test]
fn a_pod_cannot_send_from_an_address_that_is_not_its_own() {
    run(async || {
        ip("addr add 203.0.113.1/32 dev lo");
        let network = Network::open(config("t")).await.unwrap();
        let a = Pod::start(&network, "a", "10.42.0.5").await;
        let listener = std::net::UdpSocket::bind("203.0.113.1:7777").unwrap();
        listener.set_read_timeout(Some(std::time::Duration::from_millis(300))).unwrap();
        let heard = |from: &'static str| {
            a.space.run(move || {
                let socket = std::net::UdpSocket::bind((from, 0)).unwrap();
                socket.send_to(b"?", "203.0.113.1:7777").unwrap();
            });
            listener.recv_from(&mut [0; 8]).ok().map(|(_, client)| client.ip().to_string())
        };
        a.space.run(|| ip("addr add 10.42.0.6/32 dev eth0"));
        assert_eq!(heard("10.42.0.5").as_deref(), Some("10.42.0.5"));
        assert_eq!(heard("10.42.0.6"), None);
    });
}

#[test]
fn host_ports_lead_to_the_pod_by_address_and_protocol() {
    run(async || {
        let world = outside();
        ip("addr add 203.0.113.10/24 dev uplink");
        let network = Network::open(config("t")).await.unwrap();
        let ports = [host_port("0.0.0.0", 9000, Protocol::Tcp), host_port("203.0.113.10", 9001, Protocol::Tcp)];
        let a = Pod::with_ports(&network, "a", "10.42.0.5", &ports).await;
        let ports = [host_port("0.0.0.0", 9000, Protocol::Udp), host_port("203.0.113.1", 9001, Protocol::Tcp)];
        let b = Pod::with_ports(&network, "b", "10.42.0.6", &ports).await;

        for (to, want) in [
            ("203.0.113.1:9000", Ok("a 203.0.113.2")),
            ("203.0.113.10:9000", Ok("a 203.0.113.2")),
            ("203.0.113.10:9001", Ok("a 203.0.113.2")),
            ("203.0.113.1:9001", Ok("b 203.0.113.2")),
            ("203.0.113.1:9002", Err(ErrorKind::ConnectionRefused)),
        ] {
            assert_eq!(world.fetch(to), want.map(str::to_owned), "{to} from outside");
        }
        assert_eq!(who(&world.ask("203.0.113.1:9000").unwrap()), "b", "udp has its own");
        assert_eq!(who(&fetch("203.0.113.1:9000").unwrap()), "a", "from the node");
        assert_eq!(who(&fetch("127.0.0.1:9000").unwrap()), "a", "by loopback");
        assert_eq!(who(&b.space.fetch("203.0.113.1:9000").unwrap()), "a", "from another pod");
        assert_eq!(who(&a.space.fetch("203.0.113.1:9000").unwrap()), "a", "from the pod itself");

        network.detach(&a.id).await.unwrap();
        assert_eq!(world.fetch("203.0.113.1:9000"), Err(ErrorKind::ConnectionRefused));
        assert_eq!(who(&world.ask("203.0.113.1:9000").unwrap()), "b", "the other's are still there");
    });
}

#[test]
fn an_ongoing_udp_flow_follows_the_host_port_to_its_next_pod() {
    run(async || {
        let world = outside();
        let network = Network::open(config("t")).await.unwrap();
        let port = [host_port("0.0.0.0", 9000, Protocol::Udp)];
        let a = Pod::with_ports(&network, "a", "10.42.0.5", &port).await;
        let socket = world.run(client);
        assert_eq!(who(&ask(&socket, "203.0.113.1:9000").unwrap()), "a");
        network.detach(&a.id).await.unwrap();
        let _b = Pod::with_ports(&network, "b", "10.42.0.6", &port).await;
        assert_eq!(who(&ask(&socket, "203.0.113.1:9000").unwrap()), "b");
    });
}

#[test]
fn an_address_or_a_host_port_is_given_once() {
    run(async || {
        let network = Network::open(config("t")).await.unwrap();
        let port = [host_port("0.0.0.0", 9000, Protocol::Tcp)];
        let a = Pod::with_ports(&network, "a", "10.42.0.5", &port).await;
        let other = crate::world::Space::new();
        let check = async |id: &str, ip: &str, ports: &[network::HostPort], want: &str| {
            let sandbox = network::SandboxNet {
                id: id.into(),
                netns: other.netns.clone(),
                ip: ip.parse().unwrap(),
                host_ports: ports.to_vec(),
            };
            let error = network.attach(sandbox).await.unwrap_err().to_string();
            assert!(error.contains(want), "{error}");
        };
        check("b", "10.42.0.5", &[], "address 10.42.0.5 belongs to sandbox sandbox-a").await;
        check("b", "10.42.0.6", &port, "host port 0.0.0.0:9000/tcp belongs to sandbox sandbox-a").await;
        check("b", "10.50.0.6", &[], "10.50.0.6 is not in 10.42.0.0/22").await;
        check("", "10.42.0.6", &[], "identifier").await;
        assert_eq!(network.pods().len(), 1);
        assert_eq!(a.space.run(|| ip("-o link").lines().count()), 2);
    });
}

#[test]
fn a_pod_cannot_reach_what_the_node_keeps_to_itself() {
    run(async || {
        let network = Network::open(config("t")).await.unwrap();
        let a = Pod::start(&network, "a", "10.42.0.5").await;
        let _private = std::net::TcpListener::bind("127.0.0.1:7777").unwrap();
        let reached = a.space.run(|| {
            std::fs::write("/proc/sys/net/ipv4/conf/all/route_localnet", "1").unwrap();
            ip("addr del 127.0.0.1/8 dev lo");
            ip("route add 127.0.0.1/32 via 169.254.1.1 dev eth0");
            std::net::TcpStream::connect_timeout(
                &"127.0.0.1:7777".parse().unwrap(),
                std::time::Duration::from_millis(500),
            )
        });
        assert!(reached.is_err(), "{reached:?}");
    });
}

#[test]
fn a_sandbox_that_comes_back_with_another_address_leaves_the_old_one() {
    run(async || {
        ip("addr add 203.0.113.1/32 dev lo");
        let network = Network::open(config("t")).await.unwrap();
        let a = Pod::start(&network, "a", "10.42.0.5").await;
        let again = Pod { space: crate::world::Space::new(), id: a.id.clone(), ip: "10.42.0.9".parse().unwrap() };
        network.attach(again.sandbox(&[])).await.unwrap();
        again.space.serve(8080, "again");
        assert_eq!(who(&fetch("10.42.0.9:8080").unwrap()), "again");
        assert_eq!(fetch("10.42.0.5:8080"), Err(ErrorKind::HostUnreachable));
        assert_eq!(network.pods().len(), 1);
    });
}

#[test]
fn many_pods_are_attached_at_once() {
    run(async || {
        ip("addr add 203.0.113.1/32 dev lo");
        let network = Network::open(config("t")).await.unwrap();
        let pods: Vec<Pod> = (0..24u32)
            .map(|n| Pod {
                space: crate::world::Space::new(),
                id: format!("pod-{n}"),
                ip: std::net::Ipv4Addr::from_bits(0x0a2a_0005 + n),
            })
            .collect();
        let attached = futures::future::join_all(pods.iter().map(|pod| network.attach(pod.sandbox(&[])))).await;
        for (pod, attached) in pods.iter().zip(attached) {
            assert_eq!(attached.unwrap().ip, pod.ip);
            pod.space.serve(8080, &pod.id);
        }
        for pod in &pods {
            assert_eq!(who(&pods[0].space.fetch(&pod.endpoint().to_string()).unwrap()), pod.id);
        }
        let detached = futures::future::join_all(pods.iter().map(|pod| network.detach(&pod.id))).await;
        assert!(detached.iter().all(Result::is_ok));
        assert_eq!(ip("-o link").lines().count(), 1);
    });
}
