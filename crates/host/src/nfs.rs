//! NFS, both ends. <https://docs.kernel.org/filesystems/nfs/index.html>

use counts::page::{Number, Page};

use crate::{disks::line, machine::Work, source::Failure};

const V2: [&str; 18] = [
    "Null", "GetAttr", "SetAttr", "Root", "Lookup", "ReadLink", "Read", "WrCache", "Write", "Create", "Remove",
    "Rename", "Link", "SymLink", "MkDir", "RmDir", "ReadDir", "FsStat",
];
const V3: [&str; 22] = [
    "Null",
    "GetAttr",
    "SetAttr",
    "Lookup",
    "Access",
    "ReadLink",
    "Read",
    "Write",
    "Create",
    "MkDir",
    "SymLink",
    "MkNod",
    "Remove",
    "RmDir",
    "Rename",
    "Link",
    "ReadDir",
    "ReadDirPlus",
    "FsStat",
    "FsInfo",
    "PathConf",
    "Commit",
];
const CLIENT_V4: [&str; 59] = [
    "Null",
    "Read",
    "Write",
    "Commit",
    "Open",
    "OpenConfirm",
    "OpenNoattr",
    "OpenDowngrade",
    "Close",
    "Setattr",
    "FsInfo",
    "Renew",
    "SetClientID",
    "SetClientIDConfirm",
    "Lock",
    "Lockt",
    "Locku",
    "Access",
    "Getattr",
    "Lookup",
    "LookupRoot",
    "Remove",
    "Rename",
    "Link",
    "Symlink",
    "Create",
    "Pathconf",
    "StatFs",
    "ReadLink",
    "ReadDir",
    "ServerCaps",
    "DelegReturn",
    "GetACL",
    "SetACL",
    "FsLocations",
    "ReleaseLockowner",
    "Secinfo",
    "FsidPresent",
    "ExchangeID",
    "CreateSession",
    "DestroySession",
    "Sequence",
    "GetLeaseTime",
    "ReclaimComplete",
    "GetDeviceInfo",
    "LayoutGet",
    "LayoutCommit",
    "LayoutReturn",
    "SecinfoNoName",
    "TestStateID",
    "FreeStateID",
    "GetDeviceList",
    "BindConnToSession",
    "DestroyClientID",
    "Seek",
    "Allocate",
    "DeAllocate",
    "LayoutStats",
    "Clone",
];
/// Operations of version 4 that servers count, from the third number on; empty ones are not shown.
const SERVER_V4: [&str; 37] = [
    "Access",
    "Close",
    "Commit",
    "Create",
    "DelegPurge",
    "DelegReturn",
    "GetAttr",
    "GetFH",
    "Link",
    "Lock",
    "Lockt",
    "Locku",
    "Lookup",
    "LookupRoot",
    "Nverify",
    "Open",
    "OpenAttr",
    "OpenConfirm",
    "OpenDgrd",
    "PutFH",
    "",
    "",
    "Read",
    "ReadDir",
    "ReadLink",
    "Remove",
    "Rename",
    "Renew",
    "RestoreFH",
    "SaveFH",
    "SecInfo",
    "SetAttr",
    "SetClientID",
    "SetClientIDConfirm",
    "Verify",
    "Write",
    "RelLockOwner",
];

pub(crate) fn client(work: &Work<'_>, page: &mut Page) -> Result<(), Failure> {
    let text = work.source.proc("net/rpc/nfs")?;
    let at = |key: &str, index: usize| line(&text, key).and_then(|line| line.get(index).copied()).unwrap_or(0.0);
    page.counter("node_nfs_packets_total", &[("protocol", "udp")], Number(at("net", 1)));
    page.counter("node_nfs_packets_total", &[("protocol", "tcp")], Number(at("net", 2)));
    page.counter("node_nfs_connections_total", &[], Number(at("net", 3)));
    page.counter("node_nfs_rpcs_total", &[], Number(at("rpc", 0)));
    page.counter("node_nfs_rpc_retransmissions_total", &[], Number(at("rpc", 1)));
    page.counter("node_nfs_rpc_authentication_refreshes_total", &[], Number(at("rpc", 2)));
    requests("node_nfs_requests_total", &text, "proc2", "2", 1, &V2, page);
    requests("node_nfs_requests_total", &text, "proc3", "3", 1, &V3, page);
    requests("node_nfs_requests_total", &text, "proc4", "4", 1, &CLIENT_V4, page);
    Ok(())
}

/// Counts of one line; those that an older kernel does not have are 0.
fn requests(
    name: &'static str,
    text: &str,
    key: &str,
    version: &str,
    skipped: usize,
    methods: &[&str],
    page: &mut Page,
) {
    let counts = line(text, key).unwrap_or_default();
    let counts = counts.into_iter().skip(skipped).chain(std::iter::repeat(0.0));
    for (method, count) in methods.iter().zip(counts).filter(|(method, _)| !method.is_empty()) {
        page.counter(name, &[("method", method), ("proto", version)], Number(count));
    }
}

pub(crate) fn server(work: &Work<'_>, page: &mut Page) -> Result<(), Failure> {
    let text = work.source.proc("net/rpc/nfsd")?;
    let at = |key: &str, index: usize| line(&text, key).and_then(|line| line.get(index).copied()).unwrap_or(0.0);
    let totals: [(&'static str, f64); 9] = [
        ("node_nfsd_reply_cache_hits_total", at("rc", 0)),
        ("node_nfsd_reply_cache_misses_total", at("rc", 1)),
        ("node_nfsd_reply_cache_nocache_total", at("rc", 2)),
        ("node_nfsd_file_handles_stale_total", at("fh", 0)),
        ("node_nfsd_disk_bytes_read_total", at("io", 0)),
        ("node_nfsd_disk_bytes_written_total", at("io", 1)),
        ("node_nfsd_read_ahead_cache_not_found_total", at("ra", 11)),
        ("node_nfsd_connections_total", at("net", 3)),
        ("node_nfsd_server_rpcs_total", at("rpc", 0)),
    ];
    for (name, value) in totals {
        page.counter(name, &[], Number(value));
    }
    page.gauge("node_nfsd_server_threads", &[], Number(at("th", 0)));
    page.gauge("node_nfsd_read_ahead_cache_size_blocks", &[], Number(at("ra", 0)));
    page.counter("node_nfsd_packets_total", &[("proto", "udp")], Number(at("net", 1)));
    page.counter("node_nfsd_packets_total", &[("proto", "tcp")], Number(at("net", 2)));
    for (index, error) in ["fmt", "auth", "cInt"].into_iter().enumerate() {
        page.counter("node_nfsd_rpc_errors_total", &[("error", error)], Number(at("rpc", index + 2)));
    }
    let name = "node_nfsd_requests_total";
    requests(name, &text, "proc2", "2", 2, &V2[1..], page);
    requests(name, &text, "proc3", "3", 2, &V3[1..], page);
    requests(name, &text, "proc4ops", "4", 4, &SERVER_V4, page);
    let delegated = at("wdeleg_getattr", 0);
    page.counter(name, &[("method", "WdelegGetattr"), ("proto", "4")], Number(delegated));
    Ok(())
}
