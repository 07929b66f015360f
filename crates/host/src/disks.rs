//! Block devices, NVMe controllers and tapes. <https://docs.kernel.org/admin-guide/iostats.html>

use std::collections::HashMap;

use counts::page::{Number, Page};

use crate::{
    machine::Work,
    source::{Entry, Failure, numbers, read},
};

/// Bytes of a sector as the kernel counts them, whatever the disk's own are.
const SECTOR: f64 = 512.0;
/// Block devices and their properties that are looked at.
const DEVICES: usize = 10_000;

const FIELDS: [(&str, &str, f64); 17] = [
    ("node_disk_reads_completed_total", "counter", 1.0),
    ("node_disk_reads_merged_total", "counter", 1.0),
    ("node_disk_read_bytes_total", "counter", SECTOR),
    ("node_disk_read_time_seconds_total", "counter", 0.001),
    ("node_disk_writes_completed_total", "counter", 1.0),
    ("node_disk_writes_merged_total", "counter", 1.0),
    ("node_disk_written_bytes_total", "counter", SECTOR),
    ("node_disk_write_time_seconds_total", "counter", 0.001),
    ("node_disk_io_now", "gauge", 1.0),
    ("node_disk_io_time_seconds_total", "counter", 0.001),
    ("node_disk_io_time_weighted_seconds_total", "counter", 0.001),
    ("node_disk_discards_completed_total", "counter", 1.0),
    ("node_disk_discards_merged_total", "counter", 1.0),
    ("node_disk_discarded_sectors_total", "counter", 1.0),
    ("node_disk_discard_time_seconds_total", "counter", 0.001),
    ("node_disk_flush_requests_total", "counter", 1.0),
    ("node_disk_flush_requests_time_seconds_total", "counter", 0.001),
];

pub(crate) fn disks(work: &Work<'_>, page: &mut Page) -> Result<(), Failure> {
    for line in work.source.proc("diskstats")?.lines().take(DEVICES) {
        let mut words = line.split_whitespace();
        let (Some(major), Some(minor), Some(device)) = (words.next(), words.next(), words.next()) else { continue };
        if is_hidden(device) {
            continue;
        }
        let udev = Properties::of(work, major, minor);
        let serial = ["SCSI_IDENT_SERIAL", "ID_SERIAL_SHORT", "ID_SERIAL"].map(|key| udev.get(key));
        let serial = serial.into_iter().find(|serial| !serial.is_empty()).unwrap_or("");
        let rotational = crate::source::text(&work.source.sys(&format!("block/{device}/queue/rotational")));
        let labels = [
            ("device", device),
            ("major", major),
            ("minor", minor),
            ("model", udev.get("ID_MODEL")),
            ("path", udev.get("ID_PATH")),
            ("revision", udev.get("ID_REVISION")),
            ("rotational", if rotational.as_deref() == Some("1") { "1" } else { "0" }),
            ("serial", serial),
            ("wwn", udev.get("ID_WWN")),
        ];
        page.gauge("node_disk_info", &labels, 1);
        let values = words.map_while(|word| word.parse::<f64>().ok());
        for ((name, kind, unit), value) in FIELDS.into_iter().zip(values) {
            page.family(name, kind).add(&[("device", device)], Number(value * unit));
        }
        udev_families(device, &udev, page);
    }
    Ok(())
}

/// What udev knows more of a device.
fn udev_families(device: &str, udev: &Properties, page: &mut Page) {
    if !udev.get("ID_FS_TYPE").is_empty() {
        let labels = [
            ("device", device),
            ("type", udev.get("ID_FS_TYPE")),
            ("usage", udev.get("ID_FS_USAGE")),
            ("uuid", udev.get("ID_FS_UUID")),
            ("version", udev.get("ID_FS_VERSION")),
        ];
        page.gauge("node_disk_filesystem_info", &labels, 1);
    }
    if !udev.get("DM_NAME").is_empty() {
        let labels = [
            ("device", device),
            ("lv_layer", udev.get("DM_LV_LAYER")),
            ("lv_name", udev.get("DM_LV_NAME")),
            ("name", udev.get("DM_NAME")),
            ("uuid", udev.get("DM_UUID")),
            ("vg_name", udev.get("DM_VG_NAME")),
        ];
        page.gauge("node_disk_device_mapper_info", &labels, 1);
    }
    if !udev.get("ID_ATA").is_empty() {
        for (key, name) in [
            ("ID_ATA_WRITE_CACHE", "node_disk_ata_write_cache"),
            ("ID_ATA_WRITE_CACHE_ENABLED", "node_disk_ata_write_cache_enabled"),
            ("ID_ATA_ROTATION_RATE_RPM", "node_disk_ata_rotation_rate_rpm"),
        ] {
            if let Ok(value) = udev.get(key).parse::<f64>() {
                page.gauge(name, &[("device", device)], Number(value));
            }
        }
    }
}

/// Upstream's default: memory as disks, loops, floppies, and partitions of disks.
fn is_hidden(device: &str) -> bool {
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if ["ram", "zram", "loop", "fd"].iter().any(|prefix| device.strip_prefix(prefix).is_some_and(digits)) {
        return true;
    }
    let partition = |prefix: &str| {
        let mut rest = device.strip_prefix(prefix)?.chars();
        rest.next().filter(char::is_ascii_lowercase)?;
        Some(digits(rest.as_str()))
    };
    if ["hd", "sd", "vd", "xvd"].iter().any(|prefix| partition(prefix) == Some(true)) {
        return true;
    }
    let nvme = || {
        let (controller, rest) = device.strip_prefix("nvme")?.split_once('n')?;
        let (namespace, part) = rest.split_once('p')?;
        Some(digits(controller) && digits(namespace) && digits(part))
    };
    nvme() == Some(true)
}

/// What udev noted of a device.
struct Properties(HashMap<String, String>);

impl Properties {
    fn of(work: &Work<'_>, major: &str, minor: &str) -> Self {
        let text = read(&work.source.udev.join(format!("b{major}:{minor}"))).unwrap_or_default();
        let pairs = text.lines().filter_map(|line| line.strip_prefix("E:")?.split_once('='));
        Self(pairs.take(1000).map(|(key, value)| (key.to_owned(), value.to_owned())).collect())
    }

    fn get(&self, key: &str) -> &str {
        self.0.get(key).map_or("", String::as_str)
    }
}

pub(crate) fn nvme(work: &Work<'_>, page: &mut Page) -> Result<(), Failure> {
    for controller in work.source.sys_entries("class/nvme")? {
        let text = |file: &str| controller.text(file).unwrap_or_default();
        let (cntlid, firmware) = (text("cntlid"), text("firmware_rev"));
        let (model, serial, state) = (text("model"), text("serial"), text("state"));
        let labels = [
            ("cntlid", cntlid.as_str()),
            ("device", &controller.name),
            ("firmware_revision", &firmware),
            ("model", &model),
            ("serial", &serial),
            ("state", &state),
        ];
        page.gauge("node_nvme_info", &labels, 1);
        for space in crate::source::entries(&controller.path).unwrap_or_default() {
            if let Some(id) = namespace_id(&controller, &space) {
                namespace(&controller, &space, &id, page);
            }
        }
    }
    Ok(())
}

/// The number of `nvme0n1` or `nvme0c0n1` in `nvme0`.
fn namespace_id(controller: &Entry, space: &Entry) -> Option<String> {
    let rest = space.name.strip_prefix(&controller.name)?;
    let (path, id) = rest.rsplit_once('n')?;
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let path_fits = path.is_empty() || path.strip_prefix('c').is_some_and(digits);
    (path_fits && !id.is_empty() && digits(id)).then(|| id.to_owned())
}

fn namespace(controller: &Entry, space: &Entry, id: &str, page: &mut Page) {
    let state = space.text("ana_state").unwrap_or_else(|| "unknown".to_owned());
    let labels = [("ana_state", state.as_str()), ("device", &controller.name), ("nsid", id)];
    page.gauge("node_nvme_namespace_info", &labels, 1);
    let block = space.number("queue/logical_block_size").unwrap_or(0.0);
    let sectors = space.number("size").unwrap_or(0.0);
    let used = space.number("nuse").unwrap_or(0.0);
    let labels = [("device", controller.name.as_str()), ("nsid", id)];
    for (name, value) in [
        ("node_nvme_namespace_capacity_bytes", sectors * block),
        ("node_nvme_namespace_size_bytes", sectors * block),
        ("node_nvme_namespace_used_bytes", used * block),
        ("node_nvme_namespace_logical_block_size_bytes", block),
    ] {
        page.gauge(name, &labels, Number(value));
    }
}

pub(crate) fn tapes(work: &Work<'_>, page: &mut Page) -> Result<(), Failure> {
    const FILES: [(&str, &str, &str, f64); 10] = [
        ("in_flight", "node_tape_io_now", "gauge", 1.0),
        ("io_ns", "node_tape_io_time_seconds_total", "counter", 1e-9),
        ("other_cnt", "node_tape_io_others_total", "counter", 1.0),
        ("read_byte_cnt", "node_tape_read_bytes_total", "counter", 1.0),
        ("read_cnt", "node_tape_reads_completed_total", "counter", 1.0),
        ("read_ns", "node_tape_read_time_seconds_total", "counter", 1e-9),
        ("resid_cnt", "node_tape_residual_total", "counter", 1.0),
        ("write_byte_cnt", "node_tape_written_bytes_total", "counter", 1.0),
        ("write_cnt", "node_tape_writes_completed_total", "counter", 1.0),
        ("write_ns", "node_tape_write_time_seconds_total", "counter", 1e-9),
    ];
    for tape in work.source.sys_entries("class/scsi_tape")? {
        // The same drive has further names, which say how it rewinds.
        let plain = tape.name.strip_prefix("st").is_some_and(|rest| rest.bytes().all(|byte| byte.is_ascii_digit()));
        for (file, name, kind, unit) in FILES.into_iter().filter(|_| plain) {
            if let Some(value) = tape.number(&format!("stats/{file}")) {
                page.family(name, kind).add(&[("device", &tape.name)], Number(value * unit));
            }
        }
    }
    Ok(())
}

/// Numbers behind a word of a line, for files that name their lines.
pub(crate) fn line<'a>(text: &'a str, key: &str) -> Option<Vec<f64>> {
    let line = text.lines().find_map(|line: &'a str| line.strip_prefix(key)?.strip_prefix(' '))?;
    Some(numbers(line))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partitions_and_memory_are_hidden_and_disks_are_not() {
        for device in ["sda1", "vda12", "xvdb1", "nvme0n1p2", "loop0", "ram3", "zram0", "fd0", "hda1"] {
            assert!(is_hidden(device), "{device}");
        }
        for device in ["sda", "vda", "nvme0n1", "dm-0", "mmcblk0p1", "md0", "sr0", "sdaa1", ""] {
            assert!(!is_hidden(device), "{device}");
        }
    }
}
