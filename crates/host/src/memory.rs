//! Memory, and what moves pages. <https://docs.kernel.org/filesystems/proc.html#meminfo>

use counts::page::{Number, Page};

use crate::{machine::Work, source::Failure};

/// Lines that upstream knows; further ones of new kernels are left out, as it does.
const KNOWN: [&str; 51] = [
    "Active",
    "Active(anon)",
    "Active(file)",
    "AnonHugePages",
    "AnonPages",
    "Bounce",
    "Buffers",
    "Cached",
    "CmaFree",
    "CmaTotal",
    "CommitLimit",
    "Committed_AS",
    "DirectMap1G",
    "DirectMap2M",
    "DirectMap4k",
    "Dirty",
    "HardwareCorrupted",
    "HugePages_Free",
    "HugePages_Rsvd",
    "HugePages_Surp",
    "HugePages_Total",
    "Hugepagesize",
    "Inactive",
    "Inactive(anon)",
    "Inactive(file)",
    "KernelStack",
    "Mapped",
    "MemAvailable",
    "MemFree",
    "MemTotal",
    "Mlocked",
    "NFS_Unstable",
    "PageTables",
    "Percpu",
    "SReclaimable",
    "SUnreclaim",
    "Shmem",
    "ShmemHugePages",
    "ShmemPmdMapped",
    "Slab",
    "SwapCached",
    "SwapFree",
    "SwapTotal",
    "Unevictable",
    "VmallocChunk",
    "VmallocTotal",
    "VmallocUsed",
    "Writeback",
    "WritebackTmp",
    "Zswap",
    "Zswapped",
];

pub(crate) fn memory(work: &Work<'_>, page: &mut Page) -> Result<(), Failure> {
    for line in work.source.proc("meminfo")?.lines() {
        let Some((key, rest)) = line.split_once(':').filter(|(key, _)| KNOWN.contains(key)) else { continue };
        let mut words = rest.split_whitespace();
        let Some(value) = words.next().and_then(|word| word.parse::<f64>().ok()) else { continue };
        // `Active(anon)` is `Active_anon` where brackets are not allowed.
        let key = key.replace('(', "_").replace(')', "");
        match words.next() {
            Some("kB") => page.gauge(format!("node_memory_{key}_bytes"), &[], Number(value * 1024.0)),
            _ => page.gauge(format!("node_memory_{key}"), &[], Number(value)),
        }
    }
    Ok(())
}

pub(crate) fn virtual_memory(work: &Work<'_>, page: &mut Page) -> Result<(), Failure> {
    for line in work.source.proc("vmstat")?.lines() {
        let Some((name, value)) = line.split_once(' ') else { continue };
        let fault = name.strip_prefix("pg").is_some_and(|rest| rest.contains("fault"));
        let wanted = fault || ["oom_kill", "pgpg", "pswp"].iter().any(|prefix| name.starts_with(prefix));
        if let Some(value) = value.trim().parse::<f64>().ok().filter(|_| wanted && plain(name)) {
            page.untyped(format!("node_vmstat_{name}"), &[], Number(value));
        }
    }
    Ok(())
}

/// Whether a word can stand in a metric's name.
pub(crate) fn plain(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}
