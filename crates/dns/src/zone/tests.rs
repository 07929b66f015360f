//! Tests of `zone`: cases as data where there are many.

use super::*;

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn port(name: &str, port: u16, protocol: Protocol) -> Port {
    Port { name: name.into(), port, protocol }
}

/// A cluster address, a headless service, one with an external name, and one of both address families.
fn zone() -> Zone {
    let zone = Zone::new("Cluster.Local.");
    zone.set_namespace("shop");
    zone.set_namespace("empty");
    let ports = vec![port("http", 80, Protocol::Tcp), port("http", 443, Protocol::Udp), port("", 9, Protocol::Tcp)];
    let web = Service { addresses: Addresses::Cluster(vec![ip("10.43.0.1")]), ports: ports.clone() };
    zone.set_service("shop", "web", web);
    zone.set_service("shop", "db", Service { addresses: Addresses::Headless, ports });
    let endpoint = |address: &str, hostname: Option<&str>| Endpoint {
        ip: ip(address),
        hostname: hostname.map(str::to_owned),
        ports: vec![port("http", 8080, Protocol::Tcp)],
    };
    zone.set_endpoints("shop", "db", vec![endpoint("10.42.0.5", Some("db-0")), endpoint("10.42.0.6", None)]);
    let out = Service { addresses: Addresses::External("Example.COM.".into()), ports: vec![] };
    zone.set_service("shop", "out", out);
    let dual = Addresses::Cluster(vec![ip("10.43.0.2"), ip("fd00::2")]);
    zone.set_service("shop", "dual", Service { addresses: dual, ports: vec![] });
    zone
}

/// What is found, in short.
fn found(zone: &Zone, name: &str, kind: Kind) -> String {
    let labels: Vec<&str> = name.split('.').filter(|label| !label.is_empty()).collect();
    match zone.look_up(&labels, kind) {
        Found::Nothing => "no such name".into(),
        Found::Alias(target) => format!("-> {target}"),
        Found::Records(records, glue) => {
            let show = |data: &Data| match data {
                Data::Address(ip) => ip.to_string(),
                Data::Srv(port, target) => format!("{target}:{port}"),
                Data::Txt(text) => (*text).to_owned(),
                Data::Ns(target) => target.clone(),
                Data::Soa => "soa".into(),
                Data::Ptr(target) => target.clone(),
            };
            let mut shown: Vec<String> = records.iter().map(show).collect();
            shown.sort();
            shown.extend(glue.iter().map(|(name, ip)| format!("+{}={ip}", name.split('.').next().unwrap())));
            shown.join(" ")
        }
    }
}

#[test]
fn names_lead_where_the_specification_says() {
    let zone = zone();
    for (name, kind, want) in [
        ("", Kind::Soa, "soa"),
        ("", Kind::A, ""),
        ("svc", Kind::A, ""),
        ("pod", Kind::A, ""),
        ("nonsense", Kind::A, "no such name"),
        ("dns-version", Kind::Txt, "1.1.0"),
        ("dns-version", Kind::A, ""),
        ("shop.svc", Kind::A, ""),
        ("empty.svc", Kind::A, ""),
        ("none.svc", Kind::A, "no such name"),
        ("web.shop.svc", Kind::A, "10.43.0.1"),
        ("web.shop.svc", Kind::Aaaa, ""),
        ("web.shop.svc", Kind::Srv, ""),
        ("web.shop.svc", Kind::Other, ""),
        ("none.shop.svc", Kind::A, "no such name"),
        ("web.none.svc", Kind::A, "no such name"),
        ("any.web.shop.svc", Kind::A, "no such name"),
        ("dual.shop.svc", Kind::A, "10.43.0.2"),
        ("dual.shop.svc", Kind::Aaaa, "fd00::2"),
        ("dual.shop.svc", Kind::Any, "10.43.0.2 fd00::2"),
        ("_http._tcp.web.shop.svc", Kind::Srv, "web.shop.svc.cluster.local:80 +web=10.43.0.1"),
        ("_http._udp.web.shop.svc", Kind::Srv, "web.shop.svc.cluster.local:443 +web=10.43.0.1"),
        ("_http._tcp.web.shop.svc", Kind::A, ""),
        ("_http._sctp.web.shop.svc", Kind::Srv, "no such name"),
        ("_https._tcp.web.shop.svc", Kind::Srv, "no such name"),
        ("_._tcp.web.shop.svc", Kind::Srv, "no such name"),
        ("_tcp.web.shop.svc", Kind::Srv, ""),
        ("_sctp.web.shop.svc", Kind::Srv, "no such name"),
        ("db.shop.svc", Kind::A, "10.42.0.5 10.42.0.6"),
        ("db-0.db.shop.svc", Kind::A, "10.42.0.5"),
        ("10-42-0-6.db.shop.svc", Kind::A, "10.42.0.6"),
        ("10-42-0-5.db.shop.svc", Kind::A, "no such name"),
        (
            "_http._tcp.db.shop.svc",
            Kind::Srv,
            "10-42-0-6.db.shop.svc.cluster.local:8080 db-0.db.shop.svc.cluster.local:8080 +db-0=10.42.0.5 +10-42-0-6=10.42.0.6",
        ),
        ("_http._udp.db.shop.svc", Kind::Srv, ""),
        ("out.shop.svc", Kind::A, "-> example.com"),
        ("a.out.shop.svc", Kind::A, "no such name"),
        ("10-42-7-9.shop.pod", Kind::A, "10.42.7.9"),
        ("10-42-7-9.shop.pod", Kind::Aaaa, ""),
        ("fd00--9.shop.pod", Kind::Aaaa, "fd00::9"),
        ("10-42-7.shop.pod", Kind::A, "no such name"),
        ("10-42-7-9.none.pod", Kind::A, "no such name"),
    ] {
        assert_eq!(found(&zone, name, kind), want, "{name} {kind:?}");
    }
}

#[test]
fn addresses_lead_back_to_names_and_follow_changes() {
    let zone = zone();
    let names = |address: &str| {
        let mut names: Vec<String> = zone.names_of(ip(address)).iter().map(|data| format!("{data:?}")).collect();
        names.sort();
        names.join(" ")
    };
    assert_eq!(names("10.43.0.1"), r#"Ptr("web.shop.svc.cluster.local")"#);
    assert_eq!(names("10.42.0.5"), r#"Ptr("db-0.db.shop.svc.cluster.local")"#);
    assert_eq!(names("10.42.0.6"), r#"Ptr("10-42-0-6.db.shop.svc.cluster.local")"#);
    assert_eq!(names("10.42.0.7"), "");
    zone.set_service("shop", "web", Service { addresses: Addresses::Cluster(vec![ip("10.43.0.9")]), ports: vec![] });
    zone.set_endpoints("shop", "db", vec![]);
    zone.remove_service("shop", "dual");
    for address in ["10.43.0.1", "10.42.0.5", "10.43.0.2", "fd00::2"] {
        assert_eq!(names(address), "", "{address}");
    }
    assert_eq!(names("10.43.0.9"), r#"Ptr("web.shop.svc.cluster.local")"#);
}

#[test]
fn nothing_is_kept_of_what_was_removed() {
    let zone = zone();
    for name in ["web", "db", "out", "dual"] {
        zone.remove_service("shop", name);
    }
    for namespace in ["shop", "empty"] {
        zone.remove_namespace(namespace);
    }
    zone.remove_pod(ip("10.42.0.5"));
    let records = zone.read();
    assert!(records.namespaces.is_empty() && records.reverse.is_empty() && records.pods.is_empty());
}

#[test]
fn endpoints_may_come_before_their_service() {
    let zone = Zone::new("cluster.local");
    let endpoint = Endpoint { ip: ip("10.42.0.5"), hostname: None, ports: vec![] };
    zone.set_endpoints("shop", "db", vec![endpoint]);
    assert_eq!(found(&zone, "db.shop.svc", Kind::A), "no such name");
    zone.set_service("shop", "db", Service { addresses: Addresses::Headless, ports: vec![] });
    assert_eq!(found(&zone, "db.shop.svc", Kind::A), "10.42.0.5");
}

#[test]
fn names_of_the_cluster_are_told_from_others_by_form() {
    let zone = zone();
    for (base, want) in [
        ("web", true),
        ("com", true),
        ("db-0.db", true),
        ("example.com", false),
        ("web.shop", true),
        ("db-0.db.shop", true),
        ("web.shop.svc", true),
        ("api.example.com", false),
        ("a.b.db", false),
        ("", true),
    ] {
        let labels: Vec<&str> = base.split('.').filter(|label| !label.is_empty()).collect();
        assert_eq!(zone.owns_suffix("shop", &labels), want, "{base}");
    }
}
