//! Fibre channel and InfiniBand. <https://docs.kernel.org/infiniband/sysfs.html>

use counts::page::{Number, Page};

use crate::{
    machine::Work,
    source::{Entry, Failure, entries, parse},
};

pub(crate) fn fibre_channel(work: &Work<'_>, page: &mut Page) -> Result<(), Failure> {
    const FILES: [(&str, &str); 14] = [
        ("dumped_frames", "node_fibrechannel_dumped_frames_total"),
        ("error_frames", "node_fibrechannel_error_frames_total"),
        ("fcp_packet_aborts", "node_fibrechannel_fcp_packet_aborts_total"),
        ("invalid_crc_count", "node_fibrechannel_invalid_crc_total"),
        ("invalid_tx_word_count", "node_fibrechannel_invalid_tx_words_total"),
        ("link_failure_count", "node_fibrechannel_link_failure_total"),
        ("loss_of_signal_count", "node_fibrechannel_loss_of_signal_total"),
        ("loss_of_sync_count", "node_fibrechannel_loss_of_sync_total"),
        ("nos_count", "node_fibrechannel_nos_total"),
        ("rx_frames", "node_fibrechannel_rx_frames_total"),
        ("rx_words", "node_fibrechannel_rx_words_total"),
        ("seconds_since_last_reset", "node_fibrechannel_seconds_since_last_reset_total"),
        ("tx_frames", "node_fibrechannel_tx_frames_total"),
        ("tx_words", "node_fibrechannel_tx_words_total"),
    ];
    for port in work.source.sys_entries("class/fc_host")? {
        let text = |file: &str| port.text(file).unwrap_or_default();
        let bare = |file: &str| text(file).trim_start_matches("0x").to_owned();
        let values = [
            ("dev_loss_tmo", text("dev_loss_tmo")),
            ("fabric_name", bare("fabric_name")),
            ("fc_host", port.name.clone()),
            ("port_id", bare("port_id")),
            ("port_name", bare("port_name")),
            ("port_state", text("port_state")),
            ("port_type", text("port_type")),
            ("speed", text("speed")),
            ("supported_classes", text("supported_classes")),
            ("supported_speeds", text("supported_speeds")),
            ("symbolic_name", text("symbolic_name")),
        ];
        let labels = values.each_ref().map(|(name, value)| (*name, value.as_str()));
        page.gauge("node_fibrechannel_info", &labels, 1);
        for (file, name) in FILES {
            // All ones stand for "not counted".
            let value = port.number(&format!("statistics/{file}")).filter(|value| *value < u64::MAX as f64);
            if let Some(value) = value {
                page.counter(name, &[("fc_host", &port.name)], Number(value));
            }
        }
    }
    Ok(())
}

/// Counters of a port: directory, file, name, and how many of its unit the kernel counts as one.
const COUNTERS: [(&str, &str, &str, f64); 32] = [
    ("counters", "excessive_buffer_overrun_errors", "excessive_buffer_overrun_errors_total", 1.0),
    ("counters", "link_downed", "link_downed_total", 1.0),
    ("counters", "link_error_recovery", "link_error_recovery_total", 1.0),
    ("counters", "local_link_integrity_errors", "local_link_integrity_errors_total", 1.0),
    ("counters", "multicast_rcv_packets", "multicast_packets_received_total", 1.0),
    ("counters", "multicast_xmit_packets", "multicast_packets_transmitted_total", 1.0),
    ("counters", "port_rcv_constraint_errors", "port_constraint_errors_received_total", 1.0),
    ("counters", "port_xmit_constraint_errors", "port_constraint_errors_transmitted_total", 1.0),
    ("counters", "port_rcv_data", "port_data_received_bytes_total", 4.0),
    ("counters", "port_xmit_data", "port_data_transmitted_bytes_total", 4.0),
    ("counters", "port_rcv_discards", "port_discards_received_total", 1.0),
    ("counters", "port_xmit_discards", "port_discards_transmitted_total", 1.0),
    ("counters", "port_rcv_errors", "port_errors_received_total", 1.0),
    ("counters", "port_rcv_packets", "port_packets_received_total", 1.0),
    ("counters", "port_xmit_packets", "port_packets_transmitted_total", 1.0),
    ("counters", "port_xmit_wait", "port_transmit_wait_total", 1.0),
    ("counters", "unicast_rcv_packets", "unicast_packets_received_total", 1.0),
    ("counters", "unicast_xmit_packets", "unicast_packets_transmitted_total", 1.0),
    ("counters", "port_rcv_remote_physical_errors", "port_receive_remote_physical_errors_total", 1.0),
    ("counters", "port_rcv_switch_relay_errors", "port_receive_switch_relay_errors_total", 1.0),
    ("counters", "symbol_error", "symbol_error_total", 1.0),
    ("counters", "VL15_dropped", "vl15_dropped_total", 1.0),
    ("counters_ext", "port_multicast_rcv_packets", "legacy_multicast_packets_received_total", 1.0),
    ("counters_ext", "port_multicast_xmit_packets", "legacy_multicast_packets_transmitted_total", 1.0),
    ("counters_ext", "port_rcv_data_64", "legacy_data_received_bytes_total", 4.0),
    ("counters_ext", "port_rcv_packets_64", "legacy_packets_received_total", 1.0),
    ("counters_ext", "port_unicast_rcv_packets", "legacy_unicast_packets_received_total", 1.0),
    ("counters_ext", "port_unicast_xmit_packets", "legacy_unicast_packets_transmitted_total", 1.0),
    ("counters_ext", "port_xmit_data_64", "legacy_data_transmitted_bytes_total", 4.0),
    ("counters_ext", "port_xmit_packets_64", "legacy_packets_transmitted_total", 1.0),
    ("hw_counters", "out_of_buffer", "out_of_buffer_drops_total", 1.0),
    ("hw_counters", "duplicate_request", "duplicate_requests_packets_total", 1.0),
];

/// Further counters of the hardware itself, whose files and metrics are nearly called the same.
const HARDWARE: [(&str, &str); 26] = [
    ("implied_nak_seq_err", "implied_nak_seq_errors_total"),
    ("local_ack_timeout_err", "local_ack_timeout_errors_total"),
    ("np_cnp_sent", "np_cnp_packets_sent_total"),
    ("np_ecn_marked_roce_packets", "np_ecn_marked_roce_packets_received_total"),
    ("out_of_sequence", "out_of_sequence_packets_received_total"),
    ("packet_seq_err", "packet_sequence_errors_total"),
    ("req_cqe_error", "req_cqes_errors_total"),
    ("req_cqe_flush_error", "req_cqes_flush_errors_total"),
    ("req_remote_access_errors", "req_remote_access_errors_total"),
    ("req_remote_invalid_request", "req_remote_invalid_request_errors_total"),
    ("resp_cqe_error", "resp_cqes_errors_total"),
    ("resp_cqe_flush_error", "resp_cqes_flush_errors_total"),
    ("resp_local_length_error", "resp_local_length_errors_total"),
    ("resp_remote_access_errors", "resp_remote_access_errors_total"),
    ("rnr_nak_retry_err", "rnr_nak_retry_packets_received_total"),
    ("roce_adp_retrans", "roce_adp_retransmits_total"),
    ("roce_adp_retrans_to", "roce_adp_retransmits_timeout_total"),
    ("roce_slow_restart", "roce_slow_restart_used_total"),
    ("roce_slow_restart_cnps", "roce_slow_restart_cnps_total"),
    ("roce_slow_restart_trans", "roce_slow_restart_total"),
    ("rp_cnp_handled", "rp_cnp_packets_handled_total"),
    ("rp_cnp_ignored", "rp_cnp_ignored_packets_received_total"),
    ("rx_atomic_requests", "rx_atomic_requests_total"),
    ("rx_dct_connect", "rx_dct_connect_requests_total"),
    ("rx_read_requests", "rx_read_requests_total"),
    ("rx_write_requests", "rx_write_requests_total"),
];

pub(crate) fn infiniband(work: &Work<'_>, page: &mut Page) -> Result<(), Failure> {
    for device in work.source.sys_entries("class/infiniband")? {
        let text = |file: &str| device.text(file).unwrap_or_default();
        let (board, firmware, kind) = (text("board_id"), text("fw_ver"), text("hca_type"));
        let labels = [
            ("board_id", board.as_str()),
            ("device", &device.name),
            ("firmware_version", &firmware),
            ("hca_type", &kind),
        ];
        page.gauge("node_infiniband_info", &labels, 1);
        for port in entries(&device.path.join("ports")).unwrap_or_default() {
            self::port(&device, &port, page);
        }
    }
    Ok(())
}

fn port(device: &Entry, port: &Entry, page: &mut Page) {
    let labels = [("device", device.name.as_str()), ("port", port.name.as_str())];
    // `4: ACTIVE`
    let id = |file: &str| parse(port.text(file)?.split(':').next()?.trim());
    if let Some(state) = id("state") {
        page.gauge("node_infiniband_state_id", &labels, Number(state));
    }
    if let Some(state) = id("phys_state") {
        page.gauge("node_infiniband_physical_state_id", &labels, Number(state));
    }
    // `40 Gb/sec (4X QDR)`
    if let Some(rate) = port.text("rate").and_then(|text| parse(text.split(' ').next()?)) {
        page.gauge("node_infiniband_rate_bytes_per_second", &labels, Number(rate * 1e9 / 8.0));
    }
    for (directory, file, name, unit) in COUNTERS {
        if let Some(value) = port.number(&format!("{directory}/{file}")) {
            page.counter(format!("node_infiniband_{name}"), &labels, Number(value * unit));
        }
    }
    for (file, name) in HARDWARE {
        if let Some(value) = port.number(&format!("hw_counters/{file}")) {
            page.counter(format!("node_infiniband_{name}"), &labels, Number(value));
        }
    }
    if let Some(millis) = port.number("hw_counters/lifespan") {
        page.gauge("node_infiniband_lifespan_seconds", &labels, Number((millis / 1000.0).trunc()));
    }
}
