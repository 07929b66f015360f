//! How long things take with as many services as a large cluster has. Figures: `cargo test -p network --release -- scale --ignored --nocapture`.

use std::{net::Ipv4Addr, net::SocketAddrV4, sync::Arc, time::Instant};

use network::{Network, Protocol, ServicePort, Services};

use crate::world::{Pod, Space, config, ip, run};

fn port(number: u32, endpoints: u32, first: u32) -> ServicePort {
    let endpoints: Vec<SocketAddrV4> = (0..endpoints)
        .map(|n| SocketAddrV4::new(Ipv4Addr::from_bits(0x0a2a_0000 | ((number * 3 + n + first) & 0xffff)), 8080))
        .collect();
    ServicePort {
        cluster_ips: vec![Ipv4Addr::from_bits(0x0a2b_0100 + number)],
        external_ips: vec![],
        port: 80,
        node_port: None,
        protocol: Protocol::Tcp,
        local_endpoints: vec![],
        endpoints,
        affinity: None,
        internal_local: false,
        external_local: false,
    }
}

fn services(count: u32) -> Services {
    (0..count).map(|n| (Arc::from(format!("ns/service-{n}")), Arc::from([port(n, 3, 0)]))).collect()
}

#[test]
#[ignore = "a measurement"]
fn thirty_thousand_services() {
    run(async || {
        ip("addr add 203.0.113.1/32 dev lo");
        let network = Network::open(config("t")).await.unwrap();
        let all = services(30_000);
        let start = Instant::now();
        network.services(all.clone()).await.unwrap();
        println!("full load of 30,000 services with 3 endpoints: {:?}", start.elapsed());

        let start = Instant::now();
        network.services(all.clone()).await.unwrap();
        println!("the same again: {:?}", start.elapsed());

        let rounds = 2_000u32;
        let mut times = Vec::new();
        for n in 0..rounds {
            let number = n * 13 % 30_000;
            let name: Arc<str> = Arc::from(format!("ns/service-{number}"));
            let ports: Arc<[ServicePort]> = Arc::from([port(number, 3, 1)]);
            let start = Instant::now();
            network.change(vec![(name, Some(ports))]).await.unwrap();
            times.push(start.elapsed());
        }
        times.sort();
        println!("replace one endpoint: p50 {:?} p99 {:?}", times[times.len() / 2], times[times.len() * 99 / 100]);

        let mut times = Vec::new();
        for n in 0..500u32 {
            let number = n * 13 % 30_000;
            let name: Arc<str> = Arc::from(format!("ns/service-{number}"));
            let ports: Arc<[ServicePort]> = Arc::from([port(number, 2 + n % 2, 1)]);
            let start = Instant::now();
            network.change(vec![(name, Some(ports))]).await.unwrap();
            times.push(start.elapsed());
        }
        times.sort();
        println!("add or remove an endpoint: p50 {:?} p99 {:?}", times[250], times[495]);

        drop(network);
        let network = Network::open(config("t")).await.unwrap();
        let start = Instant::now();
        network.services(all).await.unwrap();
        println!("full load over a former process's table: {:?}", start.elapsed());
    });
}

#[test]
#[ignore = "a measurement"]
fn two_hundred_pods() {
    run(async || {
        ip("addr add 203.0.113.1/32 dev lo");
        let network = Network::open(config("t")).await.unwrap();
        let pods: Vec<Pod> = (0..200u32)
            .map(|n| Pod { space: Space::new(), id: format!("pod-{n}"), ip: Ipv4Addr::from_bits(0x0a2a_0005 + n) })
            .collect();
        for verb in ["attach", "detach"] {
            let mut times = Vec::new();
            for pod in &pods {
                let start = Instant::now();
                if verb == "attach" {
                    network.attach(pod.sandbox(&[])).await.unwrap();
                } else {
                    network.detach(&pod.id).await.unwrap();
                }
                times.push(start.elapsed());
            }
            times.sort();
            println!("{verb}: p50 {:?} p99 {:?}", times[100], times[198]);
        }
    });
}
