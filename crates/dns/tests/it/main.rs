//! The server over real sockets on loopback, before a server outside that each test makes.

use std::{
    collections::HashMap,
    io::{Read, Write},
    net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use dns::{Addresses, Config, Endpoint, Port, Protocol, Server, Service, Zone};
use hickory_proto::{
    op::{Edns, Message, MessageType, Query, ResponseCode},
    rr::{
        Name, RData, Record, RecordType,
        rdata::{A, SOA},
    },
};
use task::Task;

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// A server outside that knows a few names and remembers what it was asked.
#[derive(Clone)]
struct Outside {
    address: SocketAddr,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Outside {
    /// Names without addresses exist all the same; names that begin with `long` have so many that UDP does not do, and
    /// those with `mute` get no answer.
    fn start(names: &[(&str, &[&str])]) -> Self {
        let names: HashMap<String, Vec<std::net::Ipv4Addr>> = names
            .iter()
            .map(|(name, ips)| (format!("{name}."), ips.iter().map(|ip| ip.parse().unwrap()).collect()))
            .collect();
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = tcp.local_addr().unwrap();
        let udp = UdpSocket::bind(address).unwrap();
        let outside = Self { address, asked: Arc::default() };
        let (by_udp, by_tcp, tcp_names) = (outside.clone(), outside.clone(), names.clone());
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok((length, client)) = udp.recv_from(&mut buffer) {
                if let Some(answer) = by_udp.answer(&buffer[..length], &names, true) {
                    let _ = udp.send_to(&answer, client);
                }
            }
        });
        std::thread::spawn(move || {
            for mut stream in tcp.incoming().flatten() {
                let mut length = [0; 2];
                stream.read_exact(&mut length).unwrap();
                let mut query = vec![0; u16::from_be_bytes(length).into()];
                stream.read_exact(&mut query).unwrap();
                let answer = by_tcp.answer(&query, &tcp_names, false).unwrap();
                stream.write_all(&(answer.len() as u16).to_be_bytes()).unwrap();
                stream.write_all(&answer).unwrap();
            }
        });
        outside
    }

    fn answer(&self, query: &[u8], names: &HashMap<String, Vec<std::net::Ipv4Addr>>, udp: bool) -> Option<Vec<u8>> {
        let mut message = Message::from_vec(query).unwrap();
        let question = message.queries[0].clone();
        let name = question.name.to_ascii().to_lowercase();
        self.asked.lock().unwrap().push(format!("{name} {}", question.query_type));
        if name.starts_with("mute") {
            return None;
        }
        message.metadata.message_type = MessageType::Response;
        message.metadata.recursion_available = true;
        match names.get(&name) {
            None => message.metadata.response_code = ResponseCode::NXDomain,
            Some(_) if udp && name.starts_with("long") => message.metadata.truncation = true,
            Some(ips) if question.query_type == RecordType::A => {
                message
                    .answers
                    .extend(ips.iter().map(|ip| Record::from_rdata(question.name.clone(), 300, RData::A(A(*ip)))));
            }
            Some(_) => {}
        }
        if message.answers.is_empty() {
            let root = Name::root();
            let soa = SOA::new(root.clone(), root.clone(), 1, 1, 1, 1, 60);
            message.authorities = vec![Record::from_rdata(root, 60, RData::SOA(soa))];
        }
        Some(message.to_vec().unwrap())
    }

    fn asked(&self) -> Vec<String> {
        std::mem::take(&mut self.asked.lock().unwrap())
    }
}

struct Inside {
    udp: SocketAddr,
    tcp: SocketAddr,
    zone: Arc<Zone>,
    _task: Task,
    _runtime: tokio::runtime::Runtime,
}

impl Inside {
    fn start(upstreams: &[SocketAddr], search: &[&str]) -> Self {
        let inside = Self::begin(upstreams, search);
        inside.zone.complete();
        inside
    }

    /// Serves before it knows everything.
    fn begin(upstreams: &[SocketAddr], search: &[&str]) -> Self {
        let zone = Arc::new(Zone::new("cluster.local"));
        zone.set_namespace("shop");
        zone.set_namespace("dev");
        let port = |port| Port { name: "http".into(), port, protocol: Protocol::Tcp };
        let service =
            |address: &str| Service { addresses: Addresses::Cluster(vec![ip(address)]), ports: vec![port(80)] };
        zone.set_service("shop", "web", service("10.43.0.1"));
        zone.set_service("dev", "api", service("10.43.0.2"));
        zone.set_service("shop", "db", Service { addresses: Addresses::Headless, ports: vec![port(80)] });
        zone.set_endpoints(
            "shop",
            "db",
            vec![Endpoint { ip: ip("10.42.0.5"), hostname: Some("db-0".into()), ports: vec![port(8080)] }],
        );
        for (name, target) in [
            ("out", "www.example.test"),
            ("near", "web.shop.svc.cluster.local"),
            ("round", "round.shop.svc.cluster.local"),
        ] {
            let addresses = Addresses::External(target.into());
            zone.set_service("shop", name, Service { addresses, ports: vec![] });
        }
        // The test itself asks from 127.0.0.1 as a pod of `shop`, and from 127.0.0.2 as nobody.
        zone.set_pod(ip("127.0.0.1"), "shop");
        let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        let config = Config {
            upstreams: upstreams.iter().copied().chain([udp.local_addr().unwrap()]).collect(),
            search: search.iter().map(|domain| (*domain).to_owned()).collect(),
            reverse: vec![(ip("10.42.0.0"), 16), (ip("10.43.0.0"), 16)],
            names: None,
        };
        let (udp_address, tcp_address) = (udp.local_addr().unwrap(), tcp.local_addr().unwrap());
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let task = Task::root("test");
        runtime.block_on(async { Server::run(&task, vec![udp], vec![tcp], config, zone.clone()).unwrap() });
        Self { udp: udp_address, tcp: tcp_address, zone, _task: task, _runtime: runtime }
    }

    fn ask_from(&self, client: &str, name: &str, kind: RecordType) -> Message {
        let socket = UdpSocket::bind((client, 0)).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let query = query(name, kind);
        socket.send_to(&query.to_vec().unwrap(), self.udp).unwrap();
        let mut buffer = [0; 4096];
        let (length, _) = socket.recv_from(&mut buffer).unwrap();
        let answer = Message::from_vec(&buffer[..length]).unwrap();
        assert_eq!((answer.metadata.id, &answer.queries), (query.metadata.id, &query.queries));
        answer
    }

    fn ask(&self, name: &str, kind: RecordType) -> String {
        show(&self.ask_from("127.0.0.1", name, kind))
    }
}

fn query(name: &str, kind: RecordType) -> Message {
    let mut message = Message::query();
    message.metadata.recursion_desired = true;
    message.queries = vec![Query::query(Name::from_ascii(format!("{name}.")).unwrap(), kind)];
    let mut edns = Edns::new();
    edns.set_max_payload(4096);
    message.edns = Some(edns);
    message
}

/// Code and answers in short; `soa` where the answer is that there is none.
fn show(answer: &Message) -> String {
    let mut words = match answer.metadata.response_code {
        ResponseCode::NoError => vec![],
        code => vec![format!("{code:?}")],
    };
    words.extend(answer.answers.iter().map(|record| match &record.data {
        RData::CNAME(target) => format!("{} ->", target.0.to_ascii().trim_end_matches('.')),
        data => data.to_string(),
    }));
    words.extend(answer.authorities.iter().map(|record| record.record_type().to_string().to_lowercase()));
    words.join(" ")
}

fn check(inside: &Inside, cases: &[(&str, RecordType, &str)]) {
    for (name, kind, want) in cases {
        assert_eq!(inside.ask(name, *kind), *want, "{name} {kind}");
    }
}

#[test]
fn names_of_the_cluster_are_answered() {
    let inside = Inside::start(&[], &[]);
    check(
        &inside,
        &[
            ("web.shop.svc.cluster.local", RecordType::A, "10.43.0.1"),
            ("WEB.Shop.svc.Cluster.local", RecordType::A, "10.43.0.1"),
            ("web.shop.svc.cluster.local", RecordType::AAAA, "soa"),
            ("db-0.db.shop.svc.cluster.local", RecordType::A, "10.42.0.5"),
            ("_http._tcp.db.shop.svc.cluster.local", RecordType::SRV, "0 100 8080 db-0.db.shop.svc.cluster.local."),
            ("none.dev.svc.cluster.local", RecordType::A, "NXDomain soa"),
            ("10-1-2-3.shop.pod.cluster.local", RecordType::A, "10.1.2.3"),
            ("dns-version.cluster.local", RecordType::TXT, "1.1.0"),
            ("1.0.43.10.in-addr.arpa", RecordType::PTR, "web.shop.svc.cluster.local."),
            ("5.0.42.10.in-addr.arpa", RecordType::PTR, "db-0.db.shop.svc.cluster.local."),
            ("9.0.42.10.in-addr.arpa", RecordType::PTR, "NXDomain soa"),
            ("1.0.43.10.in-addr.arpa", RecordType::A, "soa"),
            ("near.shop.svc.cluster.local", RecordType::A, "web.shop.svc.cluster.local -> 10.43.0.1"),
            ("near.shop.svc.cluster.local", RecordType::CNAME, "web.shop.svc.cluster.local ->"),
            ("round.shop.svc.cluster.local", RecordType::CNAME, "round.shop.svc.cluster.local ->"),
        ],
    );
    let round = inside.ask_from("127.0.0.1", "round.shop.svc.cluster.local", RecordType::A);
    assert_eq!(round.metadata.response_code, ResponseCode::ServFail, "an alias of itself");
    let answer = inside.ask_from("127.0.0.1", "web.shop.svc.cluster.local", RecordType::A);
    assert!(answer.metadata.authoritative && answer.metadata.recursion_available);
    assert!((5..=30).contains(&answer.answers[0].ttl));
}

#[test]
fn a_change_is_seen_by_the_next_query() {
    let inside = Inside::start(&[], &[]);
    check(&inside, &[("web.shop.svc.cluster.local", RecordType::A, "10.43.0.1")]);
    inside.zone.remove_service("shop", "web");
    check(&inside, &[("web.shop.svc.cluster.local", RecordType::A, "NXDomain soa")]);
}

#[test]
fn nothing_is_denied_before_everything_is_known() {
    let outside = Outside::start(&[("www.example.test", &["192.0.2.1"])]);
    let inside = Inside::begin(&[outside.address], &["example.test"]);
    check(&inside, &[("www.example.test", RecordType::A, "192.0.2.1")]);
    assert_eq!(outside.asked(), ["www.example.test. A"]);
    let early = ["late.shop.svc.cluster.local", "web.shop.svc.cluster.local", "1.0.43.10.in-addr.arpa"];
    std::thread::scope(|scope| {
        let kind = |name: &str| if name.ends_with("arpa") { RecordType::PTR } else { RecordType::A };
        let inside = &inside;
        let answers: Vec<_> = early.iter().map(|name| scope.spawn(move || inside.ask(name, kind(name)))).collect();
        // Nobody waits longer than a resolver does.
        for answer in answers {
            assert_eq!(answer.join().unwrap(), "ServFail");
        }
        let late = scope.spawn(move || inside.ask(early[0], RecordType::A));
        let address = Addresses::Cluster(vec![ip("10.43.0.9")]);
        inside.zone.set_service("shop", "late", Service { addresses: address, ports: vec![] });
        inside.zone.complete();
        assert_eq!(late.join().unwrap(), "10.43.0.9");
    });
    assert!(outside.asked().is_empty(), "names of the cluster are no question for others");
}

#[test]
fn other_names_are_asked_for_outside_and_remembered() {
    let outside = Outside::start(&[("www.example.test", &["192.0.2.1"]), ("empty.test", &[])]);
    let inside = Inside::start(&[outside.address], &[]);
    for _ in 0..3 {
        check(
            &inside,
            &[
                ("www.example.test", RecordType::A, "192.0.2.1"),
                ("none.test", RecordType::A, "NXDomain soa"),
                ("empty.test", RecordType::A, "soa"),
                ("out.shop.svc.cluster.local", RecordType::A, "www.example.test -> 192.0.2.1"),
                ("8.8.8.8.in-addr.arpa", RecordType::PTR, "NXDomain soa"),
            ],
        );
    }
    let asked = outside.asked();
    assert_eq!(asked, ["www.example.test. A", "none.test. A", "empty.test. A", "8.8.8.8.in-addr.arpa. PTR"]);
}

#[test]
fn an_answer_too_long_for_udp_is_fetched_by_tcp() {
    let many: Vec<String> = (0..60).map(|n| format!("192.0.2.{n}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let outside = Outside::start(&[("long.test", &many)]);
    let inside = Inside::start(&[outside.address], &[]);
    let answer = inside.ask_from("127.0.0.1", "long.test", RecordType::A);
    assert_eq!((answer.answers.len(), answer.metadata.truncation), (60, false));
    assert_eq!(outside.asked().len(), 2);
}

#[test]
fn a_server_that_does_not_answer_is_passed_over() {
    let silent = UdpSocket::bind("127.0.0.1:0").unwrap();
    let outside = Outside::start(&[("a.test", &["192.0.2.1"]), ("b.test", &["192.0.2.2"])]);
    let inside = Inside::start(&[silent.local_addr().unwrap(), outside.address], &[]);
    let start = Instant::now();
    check(&inside, &[("a.test", RecordType::A, "192.0.2.1")]);
    assert!(start.elapsed() > Duration::from_secs(1), "the first is asked first");
    let start = Instant::now();
    check(&inside, &[("b.test", RecordType::A, "192.0.2.2")]);
    assert!(start.elapsed() < Duration::from_secs(1), "and then last");
    let start = Instant::now();
    check(&inside, &[("mute.test", RecordType::A, "ServFail")]);
    assert!(start.elapsed() < Duration::from_secs(5), "before resolvers give up");
}

#[test]
fn without_servers_outside_there_is_an_answer_all_the_same() {
    // Its own address is always among its upstreams here.
    let inside = Inside::start(&[], &[]);
    let start = Instant::now();
    check(&inside, &[("a.test", RecordType::A, "ServFail")]);
    assert!(start.elapsed() < Duration::from_millis(500));
}

#[test]
fn the_first_question_of_a_pod_is_answered_for_the_whole_search_list() {
    let outside = Outside::start(&[
        ("api.example.test", &["192.0.2.1"]),
        ("intra.corp.test", &["192.0.2.2"]),
        ("x.intra.corp.test", &["192.0.2.3"]),
        // Names outside that look like names of the cluster.
        ("none", &["192.0.2.66"]),
        ("db-1.db", &["192.0.2.66"]),
        ("none.dev", &["192.0.2.66"]),
        ("db-0.none.dev", &["192.0.2.66"]),
        ("web.shop.svc", &["192.0.2.66"]),
    ]);
    let inside = Inside::start(&[outside.address], &["corp.test"]);
    check(
        &inside,
        &[
            ("api.example.test.shop.svc.cluster.local", RecordType::A, "api.example.test -> 192.0.2.1"),
            ("api.example.test.shop.svc.cluster.local", RecordType::AAAA, "api.example.test -> soa"),
            ("x.intra.shop.svc.cluster.local", RecordType::A, "x.intra.corp.test -> 192.0.2.3"),
            ("api.dev.shop.svc.cluster.local", RecordType::A, "api.dev.svc.cluster.local -> 10.43.0.2"),
            ("api.dev.svc.shop.svc.cluster.local", RecordType::A, "api.dev.svc.cluster.local -> 10.43.0.2"),
            (
                "api.dev.svc.cluster.local.shop.svc.cluster.local",
                RecordType::A,
                "api.dev.svc.cluster.local -> 10.43.0.2",
            ),
            ("api.example.test.shop.svc.cluster.local", RecordType::SRV, "NXDomain soa"),
            ("nowhere.example.test.shop.svc.cluster.local", RecordType::A, "NXDomain soa"),
        ],
    );
    let asked = outside.asked();
    assert_eq!(
        asked[..3],
        ["api.example.test.corp.test. A", "api.example.test. A", "api.example.test.corp.test. AAAA"]
    );
    // The resolver goes on by itself after names that belong to the cluster.
    check(
        &inside,
        &[
            ("none.shop.svc.cluster.local", RecordType::A, "NXDomain soa"),
            ("intra.shop.svc.cluster.local", RecordType::A, "NXDomain soa"),
            ("db-1.db.shop.svc.cluster.local", RecordType::A, "NXDomain soa"),
            ("none.dev.shop.svc.cluster.local", RecordType::A, "NXDomain soa"),
            ("db-0.none.dev.shop.svc.cluster.local", RecordType::A, "NXDomain soa"),
            ("api.example.test.svc.cluster.local", RecordType::A, "NXDomain soa"),
            ("api.example.test.dev.svc.cluster.local", RecordType::A, "NXDomain soa"),
        ],
    );
    assert_eq!(outside.asked(), Vec::<String>::new());
    let stranger = inside.ask_from("127.0.0.2", "api.example.test.shop.svc.cluster.local", RecordType::A);
    assert_eq!(show(&stranger), "NXDomain soa", "whose namespace is not known");
}

#[test]
fn several_queries_go_over_one_connection() {
    let inside = Inside::start(&[], &[]);
    let mut stream = TcpStream::connect(inside.tcp).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    for (name, want) in [("web.shop.svc.cluster.local", "10.43.0.1"), ("none.shop.svc.cluster.local", "NXDomain soa")] {
        let bytes = query(name, RecordType::A).to_vec().unwrap();
        stream.write_all(&(bytes.len() as u16).to_be_bytes()).unwrap();
        // In two parts.
        stream.write_all(&bytes[..5]).unwrap();
        std::thread::sleep(Duration::from_millis(20));
        stream.write_all(&bytes[5..]).unwrap();
        let mut length = [0; 2];
        stream.read_exact(&mut length).unwrap();
        let mut answer = vec![0; u16::from_be_bytes(length).into()];
        stream.read_exact(&mut answer).unwrap();
        assert_eq!(show(&Message::from_vec(&answer).unwrap()), want);
    }
}

#[test]
fn a_long_list_of_endpoints_is_cut_short_by_udp_and_turns() {
    let inside = Inside::start(&[], &[]);
    let endpoint = |n: u32| Endpoint { ip: IpAddr::V4((0x0a2a_0100 + n).into()), hostname: None, ports: vec![] };
    inside.zone.set_endpoints("shop", "db", (0..500).map(endpoint).collect());
    let first = inside.ask_from("127.0.0.1", "db.shop.svc.cluster.local", RecordType::A);
    let second = inside.ask_from("127.0.0.1", "db.shop.svc.cluster.local", RecordType::A);
    assert!(first.metadata.truncation && first.answers.len() > 50);
    assert_ne!(first.answers[0], second.answers[0]);
}

#[test]
#[ignore = "a measurement"]
fn queries_a_second() {
    let inside = Inside::start(&[], &[]);
    let clients: Vec<_> = (0..2)
        .map(|_| {
            let server = inside.udp;
            std::thread::spawn(move || {
                let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
                socket.connect(server).unwrap();
                let query = query("web.shop.svc.cluster.local", RecordType::A).to_vec().unwrap();
                let mut buffer = [0; 512];
                let (start, mut count) = (Instant::now(), 0u32);
                for _ in 0..32 {
                    socket.send(&query).unwrap();
                }
                while start.elapsed() < Duration::from_secs(3) {
                    socket.recv(&mut buffer).unwrap();
                    socket.send(&query).unwrap();
                    count += 1;
                }
                count / 3
            })
        })
        .collect();
    let total: u32 = clients.into_iter().map(|client| client.join().unwrap()).sum();
    println!("{total} queries a second, clients included");
}
