//! Instances begin, begin again, live side by side, and end without a trace.

use std::sync::Arc;

use network::{Leftover, Network, Protocol, ServicePort};

use crate::world::{Pod, config, fetch, host_port, ip, outside, run, who};

fn service(address: &str, pod: &Pod) -> (Arc<str>, Arc<[ServicePort]>) {
    let port = ServicePort {
        cluster_ips: vec![address.parse().unwrap()],
        external_ips: vec![],
        port: 80,
        node_port: None,
        protocol: Protocol::Tcp,
        endpoints: vec![pod.endpoint()],
        local_endpoints: vec![pod.endpoint()],
        affinity: None,
        internal_local: false,
        external_local: false,
    };
    (Arc::from(format!("service of {}", pod.id)), Arc::from([port]))
}

#[test]
fn a_later_process_finds_pods_and_services_work_meanwhile() {
    run(async || {
        let world = outside();
        let port = [host_port("0.0.0.0", 9000, Protocol::Tcp)];
        let first = Network::open(config("t")).await.unwrap();
        let a = Pod::with_ports(&first, "a", "10.42.0.5", &port).await;
        let b = Pod::start(&first, "b", "10.42.0.6").await;
        first.services([service("10.43.0.1", &a)].into()).await.unwrap();
        drop(first);

        let second = Network::open(config("t")).await.unwrap();
        let mut pods = second.pods();
        pods.sort_by(|a, b| a.id.cmp(&b.id));
        assert_eq!(
            pods.iter().map(|pod| (pod.id.as_str(), pod.ip)).collect::<Vec<_>>(),
            [("sandbox-a", a.ip), ("sandbox-b", b.ip)]
        );
        assert_eq!(pods[0].host_ports, port);
        assert_eq!(who(&b.space.fetch("10.43.0.1:80").unwrap()), "a");
        assert_eq!(who(&world.fetch("203.0.113.1:9000").unwrap()), "a");

        let c = Pod::start(&second, "c", "10.42.0.7").await;
        assert_eq!(who(&b.space.fetch("10.43.0.1:80").unwrap()), "a", "a new pod leaves services alone");
        second.attach(a.sandbox(&port)).await.unwrap();
        second.services([service("10.43.0.2", &b)].into()).await.unwrap();
        assert!(c.space.fetch("10.43.0.1:80").is_err(), "a service that is gone");
        assert_eq!(who(&b.space.fetch("10.43.0.2:80").unwrap()), "b", "hairpin of a pod that was found");
        assert_eq!(who(&a.space.fetch("203.0.113.1:9000").unwrap()), "a");

        second.detach(&a.id).await.unwrap();
        second.detach(&a.id).await.unwrap();
        assert!(world.fetch("203.0.113.1:9000").is_err());
        assert_eq!(second.pods().len(), 2);
    });
}

#[test]
fn another_configuration_makes_the_table_anew() {
    run(async || {
        let _world = outside();
        let first = Network::open(config("t")).await.unwrap();
        let a = Pod::start(&first, "a", "10.42.0.5").await;
        first.add_address("10.43.0.10".parse().unwrap()).await.unwrap();
        first.services([service("10.43.0.1", &a)].into()).await.unwrap();
        drop(first);
        let other = network::Config { cluster_cidr: "10.42.0.0/20".parse().unwrap(), ..config("t") };
        let second = Network::open(other).await.unwrap();
        second.services([service("10.43.0.1", &a)].into()).await.unwrap();
        assert_eq!(who(&a.space.fetch("10.43.0.1:80").unwrap()), "a");
    });
}

#[test]
fn attaching_again_mends() {
    run(async || {
        ip("addr add 203.0.113.1/32 dev lo");
        let network = Network::open(config("t")).await.unwrap();
        let a = Pod::start(&network, "a", "10.42.0.5").await;
        a.space.run(|| ip("route del default"));
        ip("route del 10.42.0.5/32");
        assert!(fetch("10.42.0.5:8080").is_err());
        network.attach(a.sandbox(&[])).await.unwrap();
        assert_eq!(who(&fetch("10.42.0.5:8080").unwrap()), "a");
        // The sandbox begins anew in another namespace, and the old one is still there.
        let again = Pod { space: crate::world::Space::new(), id: a.id.clone(), ip: a.ip };
        network.attach(again.sandbox(&[])).await.unwrap();
        again.space.serve(8080, "again");
        assert_eq!(who(&fetch("10.42.0.5:8080").unwrap()), "again");
    });
}

#[test]
fn a_table_that_was_flushed_is_made_anew_by_the_next_change() {
    run(async || {
        ip("addr add 203.0.113.1/32 dev lo");
        let network = Network::open(config("t")).await.unwrap();
        let a = Pod::start(&network, "a", "10.42.0.5").await;
        let b = Pod::start(&network, "b", "10.42.0.6").await;
        network.services([service("10.43.0.1", &a)].into()).await.unwrap();
        assert_eq!(Network::remove_leftovers("t").await.unwrap().len(), 5);
        let (name, ports) = service("10.43.0.2", &b);
        network.change(vec![(name, Some(ports))]).await.unwrap();
        assert!(Network::leftovers("t").await.unwrap().contains(&Leftover::Table("t".into())));
        drop((a, b));
    });
}

#[test]
fn two_instances_do_not_meet_and_each_ends_without_a_trace() {
    run(async || {
        let world = outside();
        let before = (ip("-4 -o addr"), ip("route"));
        let other = network::Config {
            pod_cidr: "10.52.0.0/22".parse().unwrap(),
            cluster_cidr: "10.52.0.0/16".parse().unwrap(),
            service_cidr: "10.53.0.0/16".parse().unwrap(),
            ..config("other")
        };
        let first = Network::open(config("t")).await.unwrap();
        let second = Network::open(other).await.unwrap();
        let port = [host_port("0.0.0.0", 9000, Protocol::Tcp)];
        let a = Pod::with_ports(&first, "a", "10.42.0.5", &port).await;
        let b = Pod::start(&second, "b", "10.52.0.5").await;
        first.services([service("10.43.0.1", &a)].into()).await.unwrap();
        second.services([service("10.53.0.1", &b)].into()).await.unwrap();
        first.add_address("10.43.0.10".parse().unwrap()).await.unwrap();
        second.add_address("10.53.0.10".parse().unwrap()).await.unwrap();
        for pod in [&a, &b] {
            assert_eq!(who(&pod.space.fetch("10.43.0.1:80").unwrap()), "a");
            assert_eq!(who(&pod.space.fetch("10.53.0.1:80").unwrap()), "b");
        }
        assert_eq!(who(&world.fetch("203.0.113.1:9000").unwrap()), "a");

        first.cleanup().await.unwrap();
        assert_eq!(Network::leftovers("t").await.unwrap(), []);
        assert_eq!(who(&b.space.fetch("10.53.0.1:80").unwrap()), "b", "the other goes on");
        assert!(Network::leftovers("other").await.unwrap().len() >= 4);
        second.cleanup().await.unwrap();
        second.cleanup().await.unwrap();
        assert_eq!(Network::leftovers("other").await.unwrap(), []);
        assert_eq!((ip("-4 -o addr"), ip("route")), before);
    });
}

#[test]
fn a_configuration_that_cannot_work_is_refused() {
    run(async || {
        let bad = |change: fn(&mut network::Config)| {
            let mut config = config("t");
            change(&mut config);
            config
        };
        for (config, want) in [
            (bad(|config| config.name = String::new()), "name"),
            (bad(|config| config.name = "a/b".into()), "name"),
            (bad(|config| config.name = "x".repeat(33)), "name"),
            (bad(|config| config.mtu = Some(20)), "mtu"),
            (bad(|config| config.service_cidr = config.cluster_cidr), "share"),
        ] {
            let error = Network::open(config).await.unwrap_err().to_string();
            assert!(error.contains(want), "{error}");
        }
    });
}

#[test]
fn pods_are_let_through_where_the_machine_drops_what_it_forwards() {
    run(async || {
        let nft = |line: &str| {
            let output = std::process::Command::new("nft").args(line.split_whitespace()).output().ok()?;
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            Some(String::from_utf8_lossy(&output.stdout).into_owned())
        };
        let world = outside();
        world.serve(80, "world");
        let network = Network::open(config("t")).await.unwrap();
        let a = Pod::start(&network, "a", "10.42.0.5").await;
        assert_eq!(who(&a.space.fetch("198.51.100.1:80").unwrap()), "world");
        // Docker, say, is started. Without nft there is nothing to make its rules with.
        if nft("add table ip filter").is_none() {
            return;
        }
        nft("add chain ip filter FORWARD { type filter hook forward priority 0 ; policy drop ; }");
        let before = nft("list table ip filter");
        assert!(a.space.fetch("198.51.100.1:80").is_err());
        let b = Pod::start(&network, "b", "10.42.0.6").await;
        for _ in 0..2 {
            assert_eq!(who(&a.space.fetch("198.51.100.1:80").unwrap()), "world");
            assert_eq!(who(&a.space.fetch("10.42.0.6:8080").unwrap()), "b");
            network.attach(b.sandbox(&[])).await.unwrap();
        }
        assert_eq!(nft("list table ip filter").unwrap().matches("accept").count(), 2);
        if let Ok(listed) = std::process::Command::new("iptables").args(["-S", "FORWARD"]).output() {
            let text = String::from_utf8_lossy(&listed.stdout);
            assert!(text.matches("-j ACCEPT").count() == 2 || !text.contains("DROP"), "{text}");
        }
        network.cleanup().await.unwrap();
        assert_eq!(nft("list table ip filter"), before);
        assert_eq!(Network::leftovers("t").await.unwrap(), []);
    });
}
