//! Networks of containers, and what they have of IPv6.

use std::{
    io::{Read, Write},
    net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream},
    time::Duration,
};

use network::{Bridge, Bridge4, Bridge6, Bridges, Forward, Leftover, Network, Place, Protocol};

use crate::world::{Space, ip, run};

const PATIENCE: Duration = Duration::from_millis(700);

/// The network with this number.
fn bridge(number: u8) -> Bridge {
    Bridge {
        id: format!("net-{number}"),
        link: None,
        ipv4: Some(Bridge4 {
            gateway: Ipv4Addr::new(172, 30, number, 1),
            subnet: format!("172.30.{number}.0/24").parse().unwrap(),
        }),
        ipv6: Some(Bridge6 {
            gateway: format!("fd00:{number}::1").parse().unwrap(),
            subnet: format!("fd00:{number}::/64").parse().unwrap(),
        }),
        internal: false,
        masquerade: true,
        open: true,
        mtu: None,
    }
}

/// A container in it.
async fn join(bridges: &Bridges, number: u8, host: u8) -> Space {
    let space = Space::new();
    let place = Place {
        id: format!("place-{number}-{host}"),
        bridge: format!("net-{number}"),
        netns: space.netns.clone(),
        link: "eth0".into(),
        ip: Some(Ipv4Addr::new(172, 30, number, host)),
        ipv6: Some(Ipv6Addr::new(0xfd00, number.into(), 0, 0, 0, 0, 0, host.into())),
        mac: [2, 0x42, 172, 30, number, host],
        default_route: true,
        default_route6: true,
    };
    bridges.join(place).await.unwrap();
    space
}

/// Answers connections with the address that they come from.
fn serve(space: &Space, port: u16) {
    let listener = space.run(move || TcpListener::bind((Ipv6Addr::UNSPECIFIED, port)).unwrap());
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let peer = stream.peer_addr().map(|peer| peer.ip().to_string()).unwrap_or_default();
            let _ = stream.write_all(peer.as_bytes());
        }
    });
}

/// What a server says; none where nothing answers.
fn fetch(to: &str) -> Option<String> {
    let to: SocketAddr = to.parse().unwrap();
    let mut stream = TcpStream::connect_timeout(&to, PATIENCE).ok()?;
    stream.set_read_timeout(Some(PATIENCE)).ok()?;
    let mut text = String::new();
    stream.read_to_string(&mut text).ok()?;
    Some(text)
}

fn ask(space: &Space, to: &str) -> Option<String> {
    let to = to.to_owned();
    space.run(move || fetch(&to))
}

/// A machine beyond this one's link, at fd99::2.
fn world() -> Space {
    let world = Space::new();
    let thread = world.netns.iter().nth(4).unwrap().to_str().unwrap().to_owned();
    ip("link add up0 type veth peer name up1");
    ip(&format!("link set up1 netns {thread}"));
    ip("addr add fd99::1/64 dev up0 nodad");
    ip("link set up0 up");
    world.run(|| {
        ip("link set lo up");
        ip("addr add fd99::2/64 dev up1 nodad");
        ip("link set up1 up");
        ip("route add fd00::/16 via fd99::1");
    });
    world
}

#[test]
fn containers_reach_one_another_and_the_world_by_ipv6_and_are_reached_by_published_ports_alone() {
    run(|| async {
        let bridges = Bridges::open("t-engine").await.unwrap();
        let world = world();
        for number in [1, 2] {
            bridges.make(bridge(number)).await.unwrap();
        }
        let (one, two, other) = (join(&bridges, 1, 2).await, join(&bridges, 1, 3).await, join(&bridges, 2, 2).await);
        for space in [&one, &world] {
            serve(space, 80);
        }
        // Links that are brought up carry nothing for a moment.
        let mut said = None;
        for _ in 0..10 {
            said = ask(&two, "[fd00:1::2]:80");
            if said.is_some() {
                break;
            }
        }
        assert_eq!(said.as_deref(), Some("fd00:1::3"));
        assert_eq!(ask(&two, "172.30.1.2:80").as_deref(), Some("::ffff:172.30.1.3"));
        assert_eq!(ask(&other, "[fd00:1::2]:80"), None, "networks are apart");
        // Out: with the machine's address. In: not at all, but for what is published.
        assert_eq!(ask(&one, "[fd99::2]:80").as_deref(), Some("fd99::1"));
        assert_eq!(ask(&world, "[fd00:1::2]:80"), None, "containers are reached from outside");
        let forward = |host_ip: &str, host_port: u16, to: &str| Forward {
            host_ip: host_ip.parse().unwrap(),
            host_port,
            protocol: Protocol::Tcp,
            to: to.parse().unwrap(),
        };
        let published = vec![
            forward("::", 8080, "[fd00:1::2]:80"),
            forward("0.0.0.0", 8080, "172.30.1.2:80"),
            forward("fd99::1", 8081, "[fd00:1::2]:80"),
        ];
        bridges.publish("one", published).await.unwrap();
        for to in ["[fd99::1]:8080", "[fd99::1]:8081"] {
            assert_eq!(ask(&world, to).as_deref(), Some("fd99::2"), "{to}");
        }
        assert!(fetch("[fd99::1]:8080").is_some(), "the machine itself");
        assert!(ask(&two, "[fd99::1]:8080").is_some(), "a neighbour");
        let twice = bridges.publish("two", vec![forward("::", 8080, "[fd00:1::3]:80")]).await.unwrap_err();
        assert!(twice.to_string().contains("Bind for [::]:8080 failed: port is already allocated"), "{twice}");
        bridges.publish("one", Vec::new()).await.unwrap();
        assert_eq!(ask(&world, "[fd99::1]:8080"), None);
        // An internal network leads nowhere.
        bridges.make(Bridge { internal: true, ..bridge(3) }).await.unwrap();
        let inner = join(&bridges, 3, 2).await;
        assert_eq!(ask(&inner, "[fd99::2]:80"), None);
        for place in ["place-1-2", "place-1-3", "place-2-2", "place-3-2"] {
            bridges.leave(place).await.unwrap();
        }
        for number in [1, 2, 3] {
            bridges.remove(&format!("net-{number}")).await.unwrap();
        }
        let left = Network::leftovers("t-engine").await.unwrap();
        assert!(!left.iter().any(|left| matches!(left, Leftover::Link(_))), "{left:?}");
    });
}
