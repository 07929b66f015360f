//! Protocols, sockets, connection tracking, virtual servers and what the kernel does with packets.
//! <https://docs.kernel.org/networking/snmp_counter.html>, <https://docs.kernel.org/networking/nf_conntrack-sysctl.html>

use std::collections::BTreeMap;

use counts::page::{Number, Page};

use crate::{
    machine::Work,
    memory::plain,
    source::{Failure, parse},
};

pub(crate) fn protocols(work: &Work<'_>, page: &mut Page) -> Result<(), Failure> {
    for file in ["net/netstat", "net/snmp"] {
        let text = work.source.proc(file)?;
        let mut lines = text.lines();
        while let (Some(names), Some(values)) = (lines.next(), lines.next()) {
            let Some((protocol, names)) = names.split_once(": ") else { continue };
            let values = values.split_once(": ").map_or("", |(_, values)| values);
            for (name, value) in names.split(' ').zip(values.split(' ')) {
                protocol_value(protocol, name, value, page);
            }
        }
    }
    // Without version 6 of the protocol the file is absent.
    for line in work.source.proc("net/snmp6").unwrap_or_default().lines() {
        let mut words = line.split_whitespace();
        let (Some(key), Some(value)) = (words.next(), words.next()) else { continue };
        if let Some(at) = key.find('6') {
            protocol_value(&key[..=at], &key[at + 1..], value, page);
        }
    }
    Ok(())
}

/// Upstream's default: some of some hundred.
fn protocol_value(protocol: &str, name: &str, value: &str, page: &mut Page) {
    let wanted = match protocol {
        _ if ["InErrors", "InErrs"].contains(&name) => true,
        "Ip" => name == "Forwarding",
        "Ip6" | "IpExt" => ["InOctets", "OutOctets"].contains(&name),
        "Icmp" | "Icmp6" => ["InMsgs", "OutMsgs"].contains(&name),
        "TcpExt" => {
            name.starts_with("Listen")
                || name.starts_with("Syncookies")
                || ["TCPSynRetrans", "TCPTimeouts", "TCPOFOQueue", "TCPRcvQDrop"].contains(&name)
        }
        "Tcp" => {
            ["ActiveOpens", "InSegs", "OutSegs", "OutRsts", "PassiveOpens", "RetransSegs", "CurrEstab"].contains(&name)
        }
        "Udp" | "Udp6" => ["InDatagrams", "OutDatagrams", "NoPorts", "RcvbufErrors", "SndbufErrors"].contains(&name),
        _ => false,
    };
    if let Some(value) = parse(value).filter(|_| wanted && plain(name) && plain(protocol)) {
        page.untyped(format!("node_netstat_{protocol}_{name}"), &[], Number(value));
    }
}

pub(crate) fn sockets(work: &Work<'_>, page: &mut Page) -> Result<(), Failure> {
    let memory_page = page_size();
    for file in ["net/sockstat", "net/sockstat6"] {
        for line in work.source.proc(file).unwrap_or_default().lines() {
            let Some((protocol, rest)) = line.split_once(": ") else { continue };
            let mut words = rest.split_whitespace();
            while let (Some(name), Some(value)) = (words.next(), words.next().and_then(parse)) {
                if protocol == "sockets" && name == "used" {
                    page.gauge("node_sockstat_sockets_used", &[], Number(value));
                } else if plain(protocol) && ["inuse", "orphan", "tw", "alloc", "mem", "memory"].contains(&name) {
                    page.gauge(format!("node_sockstat_{protocol}_{name}"), &[], Number(value));
                    if name == "mem" {
                        page.gauge(format!("node_sockstat_{protocol}_mem_bytes"), &[], Number(value * memory_page));
                    }
                }
            }
        }
    }
    Ok(())
}

/// Bytes of a page, as the kernel tells every process at its start.
fn page_size() -> f64 {
    const WORD: usize = size_of::<usize>();
    const PAGE_SIZE: usize = 6;
    let pairs = std::fs::read("/proc/self/auxv").unwrap_or_default();
    let word = |bytes: &[u8]| bytes.try_into().map_or(0, usize::from_ne_bytes);
    let found = pairs.chunks_exact(2 * WORD).find(|pair| word(&pair[..WORD]) == PAGE_SIZE);
    found.map_or(4096, |pair| word(&pair[WORD..])) as f64
}

/// Columns of a line are hexadecimal.
fn hexadecimal(line: &str) -> Vec<u64> {
    line.split_whitespace().map_while(|word| u64::from_str_radix(word, 16).ok()).collect()
}

pub(crate) fn softnet(work: &Work<'_>, page: &mut Page) -> Result<(), Failure> {
    const COLUMNS: [(usize, &str, &str); 7] = [
        (0, "node_softnet_processed_total", "counter"),
        (1, "node_softnet_dropped_total", "counter"),
        (2, "node_softnet_times_squeezed_total", "counter"),
        (8, "node_softnet_cpu_collision_total", "counter"),
        (9, "node_softnet_received_rps_total", "counter"),
        (10, "node_softnet_flow_limit_count_total", "counter"),
        (11, "node_softnet_backlog_len", "gauge"),
    ];
    for (index, line) in work.source.proc("net/softnet_stat")?.lines().enumerate() {
        let values = hexadecimal(line);
        // New kernels say which processor it is.
        let processor = values.get(12).copied().unwrap_or(index as u64).to_string();
        for (column, name, kind) in COLUMNS {
            page.family(name, kind).add(&[("cpu", &processor)], values.get(column).copied().unwrap_or(0));
        }
    }
    Ok(())
}

pub(crate) fn udp_queues(work: &Work<'_>, page: &mut Page) -> Result<(), Failure> {
    let mut found = false;
    for (file, version) in [("net/udp", "v4"), ("net/udp6", "v6")] {
        let Ok(text) = work.source.proc(file) else { continue };
        found = true;
        let (mut sent, mut received) = (0u64, 0u64);
        for line in text.lines().skip(1) {
            let Some((out, back)) = line.split_whitespace().nth(4).and_then(|word| word.split_once(':')) else {
                continue;
            };
            sent = sent.saturating_add(u64::from_str_radix(out, 16).unwrap_or(0));
            received = received.saturating_add(u64::from_str_radix(back, 16).unwrap_or(0));
        }
        page.gauge("node_udp_queues", &[("ip", version), ("queue", "tx")], sent);
        page.gauge("node_udp_queues", &[("ip", version), ("queue", "rx")], received);
    }
    if found { Ok(()) } else { Err(Failure::NoData) }
}

pub(crate) fn conntrack(work: &Work<'_>, page: &mut Page) -> Result<(), Failure> {
    let setting = |name: &str| work.source.proc_number(&format!("sys/net/netfilter/{name}"));
    page.gauge("node_nf_conntrack_entries", &[], Number(setting("nf_conntrack_count")?));
    page.gauge("node_nf_conntrack_entries_limit", &[], Number(setting("nf_conntrack_max")?));
    let text = work.source.proc("net/stat/nf_conntrack")?;
    let mut lines = text.lines();
    let names: Vec<&str> = lines.next().unwrap_or("").split_whitespace().collect();
    let mut sums = BTreeMap::<&str, u64>::new();
    for line in lines {
        for (name, value) in names.iter().zip(hexadecimal(line)) {
            let sum = sums.entry(name).or_default();
            *sum = sum.saturating_add(value);
        }
    }
    for (column, name) in [
        ("found", "node_nf_conntrack_stat_found"),
        ("invalid", "node_nf_conntrack_stat_invalid"),
        ("ignore", "node_nf_conntrack_stat_ignore"),
        ("insert", "node_nf_conntrack_stat_insert"),
        ("insert_failed", "node_nf_conntrack_stat_insert_failed"),
        ("drop", "node_nf_conntrack_stat_drop"),
        ("early_drop", "node_nf_conntrack_stat_early_drop"),
        ("search_restart", "node_nf_conntrack_stat_search_restart"),
    ] {
        // New kernels call the column of `ignore` otherwise, and count something else there; upstream shows it all the same.
        let sum = sums.get(column).or_else(|| (column == "ignore").then(|| sums.get("clashres"))?);
        page.gauge(name, &[], sum.copied().unwrap_or(0));
    }
    Ok(())
}

pub(crate) fn ipvs(work: &Work<'_>, page: &mut Page) -> Result<(), Failure> {
    let text = work.source.proc("net/ip_vs_stats")?;
    let totals = hexadecimal(text.lines().nth(2).unwrap_or(""));
    for (name, value) in [
        "node_ipvs_connections_total",
        "node_ipvs_incoming_packets_total",
        "node_ipvs_outgoing_packets_total",
        "node_ipvs_incoming_bytes_total",
        "node_ipvs_outgoing_bytes_total",
    ]
    .into_iter()
    .zip(totals)
    {
        page.counter(name, &[], value);
    }
    let text = work.source.proc("net/ip_vs")?;
    let mut server = Server::default();
    let mut sums = BTreeMap::<[String; 6], [f64; 3]>::new();
    for line in text.lines().skip(3) {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words[..] {
            ["->", remote, _, weight, active, inactive, ..] => {
                let Some((address, port)) = address(remote) else { continue };
                let key = [
                    server.address.clone(),
                    server.mark.clone(),
                    server.port.clone(),
                    server.protocol.clone(),
                    address,
                    port,
                ];
                let sum = sums.entry(key).or_default();
                for (sum, word) in sum.iter_mut().zip([active, inactive, weight]) {
                    *sum += parse(word).unwrap_or(0.0);
                }
            }
            [protocol @ ("TCP" | "UDP" | "SCTP"), local, ..] => {
                let (address, port) = address(local).unwrap_or_default();
                server = Server { protocol: protocol.to_owned(), address, port, mark: String::new() };
            }
            ["FWM", mark, ..] => {
                server =
                    Server { protocol: "FWM".into(), port: "0".into(), mark: mark.to_owned(), ..Server::default() };
            }
            _ => {}
        }
    }
    let names =
        ["node_ipvs_backend_connections_active", "node_ipvs_backend_connections_inactive", "node_ipvs_backend_weight"];
    let keys = ["local_address", "local_mark", "local_port", "proto", "remote_address", "remote_port"];
    for (values, sum) in &sums {
        let labels: Vec<(&str, &str)> = keys.into_iter().zip(values.iter().map(String::as_str)).collect();
        for (name, value) in names.into_iter().zip(sum) {
            page.gauge(name, &labels, Number(*value));
        }
    }
    Ok(())
}

/// What a line without an arrow says of the lines below it.
#[derive(Default)]
struct Server {
    protocol: String,
    address: String,
    port: String,
    mark: String,
}

/// `C0A80016:0CEA`, or a version 6 address in brackets.
fn address(text: &str) -> Option<(String, String)> {
    let (address, port) = text.rsplit_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?.to_string();
    let address = match address.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        Some(address) => address.parse::<std::net::Ipv6Addr>().ok()?.to_string(),
        None => std::net::Ipv4Addr::from(u32::from_str_radix(address, 16).ok()?).to_string(),
    };
    Some((address, port))
}
