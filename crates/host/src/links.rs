//! Network links: what they carry, how they are set up, bonds, neighbours.
//! <https://docs.kernel.org/networking/statistics.html>, <https://www.kernel.org/doc/Documentation/ABI/testing/sysfs-class-net>

use std::collections::BTreeMap;

use counts::page::{Number, Page};

use crate::{
    machine::Work,
    source::{Entry, Failure, numbers, text},
};

/// Columns of `/proc/net/dev`.
const COLUMNS: [&str; 16] = [
    "node_network_receive_bytes_total",
    "node_network_receive_packets_total",
    "node_network_receive_errs_total",
    "node_network_receive_drop_total",
    "node_network_receive_fifo_total",
    "node_network_receive_frame_total",
    "node_network_receive_compressed_total",
    "node_network_receive_multicast_total",
    "node_network_transmit_bytes_total",
    "node_network_transmit_packets_total",
    "node_network_transmit_errs_total",
    "node_network_transmit_drop_total",
    "node_network_transmit_fifo_total",
    "node_network_transmit_colls_total",
    "node_network_transmit_carrier_total",
    "node_network_transmit_compressed_total",
];

pub(crate) fn traffic(work: &Work<'_>, page: &mut Page) -> Result<(), Failure> {
    for line in work.source.proc("net/dev")?.lines() {
        let Some((name, rest)) = line.split_once(':') else { continue };
        let name = name.trim();
        if work.settings.hides_link(name) {
            continue;
        }
        for (column, value) in COLUMNS.into_iter().zip(numbers(rest)) {
            page.counter(column, &[("device", name)], Number(value));
        }
        let path = work.source.sys(&format!("class/net/{name}/statistics/rx_nohandler"));
        if let Some(value) = crate::source::number(&path) {
            page.counter("node_network_receive_nohandler_total", &[("device", name)], Number(value));
        }
    }
    Ok(())
}

pub(crate) fn properties(work: &Work<'_>, page: &mut Page) -> Result<(), Failure> {
    const FILES: [(&str, &str, &str); 16] = [
        ("addr_assign_type", "node_network_address_assign_type", "gauge"),
        ("carrier", "node_network_carrier", "gauge"),
        ("carrier_changes", "node_network_carrier_changes_total", "counter"),
        ("carrier_up_count", "node_network_carrier_up_changes_total", "counter"),
        ("carrier_down_count", "node_network_carrier_down_changes_total", "counter"),
        ("dev_id", "node_network_device_id", "gauge"),
        ("dormant", "node_network_dormant", "gauge"),
        ("flags", "node_network_flags", "gauge"),
        ("ifindex", "node_network_iface_id", "gauge"),
        ("iflink", "node_network_iface_link", "gauge"),
        ("link_mode", "node_network_iface_link_mode", "gauge"),
        ("mtu", "node_network_mtu_bytes", "gauge"),
        ("name_assign_type", "node_network_name_assign_type", "gauge"),
        ("netdev_group", "node_network_net_dev_group", "gauge"),
        ("tx_queue_len", "node_network_transmit_queue_length", "gauge"),
        ("type", "node_network_protocol_type", "gauge"),
    ];
    let mut links = work.source.sys_entries("class/net")?;
    links.retain(|link| link.path.is_dir() && !work.settings.hides_link(&link.name));
    for link in links {
        let state = link.text("operstate").unwrap_or_default();
        page.gauge("node_network_up", &[("device", &link.name)], u8::from(state == "up"));
        for (file, name, kind) in FILES {
            if let Some(value) = link.number(file) {
                page.family(name, kind).add(&[("device", &link.name)], Number(value));
            }
        }
        if let Some(megabits) = link.number("speed") {
            page.gauge("node_network_speed_bytes", &[("device", &link.name)], Number((megabits * 1e6 / 8.0).trunc()));
        }
        information(&link, &state, page);
    }
    Ok(())
}

fn information(link: &Entry, state: &str, page: &mut Page) {
    let text = |file: &str| link.text(file).unwrap_or_default();
    let administered = match link.number("flags") {
        // IFF_UP is the lowest bit.
        Some(flags) if flags as u64 & 1 == 1 => "up",
        Some(_) => "down",
        None => "unknown",
    };
    let (address, broadcast, duplex, alias) = (text("address"), text("broadcast"), text("duplex"), text("ifalias"));
    let labels = [
        ("address", address.as_str()),
        ("adminstate", administered),
        ("broadcast", &broadcast),
        ("device", &link.name),
        ("duplex", &duplex),
        ("ifalias", &alias),
        ("operstate", state),
    ];
    page.gauge("node_network_info", &labels, 1);
}

pub(crate) fn bonding(work: &Work<'_>, page: &mut Page) -> Result<(), Failure> {
    let directory = work.source.sys("class/net");
    let bonds = text(&directory.join("bonding_masters")).ok_or(Failure::NoData)?;
    for bond in bonds.split_whitespace().filter(|name| !name.contains('/')) {
        let own = directory.join(bond);
        let (mut all, mut active) = (0, 0);
        for link in text(&own.join("bonding/slaves")).unwrap_or_default().split_whitespace() {
            // Older kernels name them otherwise.
            let states = ["lower", "slave"].map(|prefix| own.join(format!("{prefix}_{link}/bonding_slave/mii_status")));
            all += 1;
            active += u32::from(states.iter().find_map(|path| text(path)).as_deref() == Some("up"));
        }
        page.gauge("node_bonding_slaves", &[("master", bond)], all);
        page.gauge("node_bonding_active", &[("master", bond)], active);
    }
    Ok(())
}

pub(crate) fn arp(work: &Work<'_>, page: &mut Page) -> Result<(), Failure> {
    let text = work.source.proc("net/arp")?;
    let mut counts = BTreeMap::<&str, u32>::new();
    for link in text.lines().skip(1).filter_map(|line| line.split_whitespace().nth(5)) {
        if !work.settings.hides_link(link) {
            *counts.entry(link).or_default() += 1;
        }
    }
    for (link, count) in counts {
        page.gauge("node_arp_entries", &[("device", link)], count);
    }
    Ok(())
}
