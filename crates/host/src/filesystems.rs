//! What file systems count of themselves: XFS and Btrfs. <https://xfs.org/index.php/Runtime_Stats>,
//! <https://btrfs.readthedocs.io/en/latest/ch-sysfs.html>

use std::path::Path;

use counts::page::{Number, Page};

use crate::{
    disks::line,
    machine::Work,
    source::{Entry, Failure, entries, number, read},
};

/// Lines of XFS' `stats`, and what their numbers are called.
const XFS: [(&str, &[&str]); 8] = [
    (
        "extent_alloc",
        &[
            "extent_allocation_extents_allocated",
            "extent_allocation_blocks_allocated",
            "extent_allocation_extents_freed",
            "extent_allocation_blocks_freed",
        ],
    ),
    (
        "abt",
        &[
            "allocation_btree_lookups",
            "allocation_btree_compares",
            "allocation_btree_records_inserted",
            "allocation_btree_records_deleted",
        ],
    ),
    (
        "blk_map",
        &[
            "block_mapping_reads",
            "block_mapping_writes",
            "block_mapping_unmaps",
            "block_mapping_extent_list_insertions",
            "block_mapping_extent_list_deletions",
            "block_mapping_extent_list_lookups",
            "block_mapping_extent_list_compares",
        ],
    ),
    (
        "bmbt",
        &[
            "block_map_btree_lookups",
            "block_map_btree_compares",
            "block_map_btree_records_inserted",
            "block_map_btree_records_deleted",
        ],
    ),
    (
        "dir",
        &[
            "directory_operation_lookup",
            "directory_operation_create",
            "directory_operation_remove",
            "directory_operation_getdents",
        ],
    ),
    (
        "ig",
        &[
            "inode_operation_attempts",
            "inode_operation_found",
            "inode_operation_recycled",
            "inode_operation_missed",
            "inode_operation_duplicates",
            "inode_operation_reclaims",
            "inode_operation_attribute_changes",
        ],
    ),
    ("rw", &["write_calls", "read_calls"]),
    (
        "vnodes",
        &[
            "vnode_active",
            "vnode_allocate",
            "vnode_get",
            "vnode_hold",
            "vnode_release",
            "vnode_reclaim",
            "vnode_remove",
        ],
    ),
];

pub(crate) fn xfs(work: &Work<'_>, page: &mut Page) -> Result<(), Failure> {
    for system in work.source.sys_entries("fs/xfs").unwrap_or_default() {
        // Beside the file systems stand their sums and settings.
        let Ok(text) = read(&system.path.join("stats/stats")) else { continue };
        if system.name == "stats" {
            continue;
        }
        for (key, names) in XFS {
            for (name, value) in names.iter().zip(line(&text, key).unwrap_or_default()) {
                page.counter(format!("node_xfs_{name}_total"), &[("device", &system.name)], Number(value));
            }
        }
    }
    Ok(())
}

pub(crate) fn btrfs(work: &Work<'_>, page: &mut Page) -> Result<(), Failure> {
    for system in work.source.sys_entries("fs/btrfs").unwrap_or_default() {
        if !system.path.join("allocation").is_dir() {
            continue;
        }
        let uuid = system.text("metadata_uuid").unwrap_or_else(|| system.name.clone());
        let label = system.text("label").unwrap_or_default();
        page.gauge("node_btrfs_info", &[("label", &label), ("uuid", &uuid)], 1);
        let own = [("uuid", uuid.as_str())];
        let reserved = system.number("allocation/global_rsv_size").unwrap_or(0.0);
        page.gauge("node_btrfs_global_rsv_size_bytes", &own, Number(reserved));
        let devices = entries(&system.path.join("devices")).unwrap_or_default();
        for device in &devices {
            let bytes = device.number("size").unwrap_or(0.0) * 512.0;
            page.gauge("node_btrfs_device_size_bytes", &[("device", &device.name), ("uuid", &uuid)], Number(bytes));
        }
        commits(&system, &own, page);
        for kind in ["data", "metadata", "system"] {
            allocation(&system.path.join("allocation").join(kind), kind, &uuid, devices.len() as f64, page);
        }
    }
    Ok(())
}

fn commits(system: &Entry, own: &[(&str, &str)], page: &mut Page) {
    let text = read(&system.path.join("commit_stats")).unwrap_or_default();
    let value = |key: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' '));
        line.and_then(|rest| rest.trim().parse::<f64>().ok()).unwrap_or(0.0)
    };
    page.counter("node_btrfs_commits_total", own, Number(value("commits")));
    page.gauge("node_btrfs_last_commit_seconds", own, Number(value("last_commit_ms") / 1000.0));
    page.gauge("node_btrfs_max_commit_seconds", own, Number(value("max_commit_ms") / 1000.0));
    page.counter("node_btrfs_commit_seconds_total", own, Number(value("total_commit_ms") / 1000.0));
}

fn allocation(directory: &Path, kind: &str, uuid: &str, devices: f64, page: &mut Page) {
    let Some(reserved) = number(&directory.join("bytes_reserved")) else { return };
    page.gauge("node_btrfs_reserved_bytes", &[("block_group_type", kind), ("uuid", uuid)], Number(reserved));
    for layout in entries(directory).unwrap_or_default().into_iter().filter(|entry| entry.path.is_dir()) {
        let labels = [("block_group_type", kind), ("mode", layout.name.as_str()), ("uuid", uuid)];
        let bytes = |file: &str| layout.number(file).unwrap_or(0.0);
        page.gauge("node_btrfs_used_bytes", &labels, Number(bytes("used_bytes")));
        page.gauge("node_btrfs_size_bytes", &labels, Number(bytes("total_bytes")));
        page.gauge("node_btrfs_allocation_ratio", &labels, Number(ratio(&layout.name, devices)));
    }
}

/// Bytes on disks for each byte stored.
fn ratio(layout: &str, devices: f64) -> f64 {
    match layout {
        "dup" | "raid1" | "raid10" => 2.0,
        "raid1c3" => 3.0,
        "raid1c4" => 4.0,
        "raid5" if devices > 1.0 => devices / (devices - 1.0),
        "raid6" if devices > 2.0 => devices / (devices - 2.0),
        _ => 1.0,
    }
}
