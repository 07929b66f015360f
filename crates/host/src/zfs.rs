//! ZFS: every statistic that its module shows, named as it names them. <https://openzfs.github.io/openzfs-docs/>

use counts::page::{Number, Page};

use crate::{
    machine::Work,
    memory::plain,
    source::{Entry, Failure, entries, read},
};

/// Files of `/proc/spl/kstat/zfs` and what stands in the middle of their metrics' names.
const FILES: [(&str, &str); 13] = [
    ("abdstats", "abd"),
    ("arcstats", "arc"),
    ("dbufstats", "dbuf"),
    ("dbuf_stats", "dbuf"),
    ("dmu_tx", "dmu_tx"),
    ("dnodestats", "dnode"),
    ("fm", "fm"),
    ("vdev_cache_stats", "vdev_cache"),
    ("vdev_mirror_stats", "vdev_mirror"),
    ("xuio_stats", "xuio"),
    ("zfetchstats", "zfetch"),
    ("zil", "zil"),
    ("zstd", "zstd"),
];
const STATES: [&str; 7] = ["online", "degraded", "faulted", "offline", "removed", "unavail", "suspended"];
/// Types of values: signed and unsigned, 32 and 64 bits. Others are text.
const NUMBERS: [&str; 4] = ["1", "2", "3", "4"];

pub(crate) fn zfs(work: &Work<'_>, page: &mut Page) -> Result<(), Failure> {
    let directory = work.source.proc.join("spl/kstat/zfs");
    let found = entries(&directory)?;
    for (file, name) in FILES {
        let Ok(text) = read(&directory.join(file)) else { continue };
        for (key, value) in statistics(&text) {
            page.untyped(format!("node_zfs_{name}_{key}"), &[], Number(value));
        }
    }
    for pool in found.into_iter().filter(|entry| entry.path.is_dir()) {
        self::pool(&pool, page);
    }
    Ok(())
}

/// Lines of a name, a type and a number, below two lines that head them.
fn statistics(text: &str) -> Vec<(String, f64)> {
    let statistic = |line: &str| {
        let mut words = line.split_whitespace();
        let (name, kind, value) = (words.next()?, words.next()?, words.next()?);
        let name = name.replace(['-', '.'], "_");
        (NUMBERS.contains(&kind) && plain(&name)).then_some((name, value.parse().ok()?))
    };
    text.lines().skip(2).filter_map(statistic).collect()
}

fn pool(pool: &Entry, page: &mut Page) {
    let own = ("zpool", pool.name.as_str());
    if let Some(state) = pool.text("state") {
        for known in STATES {
            let is = u8::from(state.eq_ignore_ascii_case(known));
            page.gauge("node_zfs_zpool_state", &[("state", known), own], is);
        }
    }
    if let Ok(text) = read(&pool.path.join("io")) {
        let mut lines = text.lines().skip(1);
        let (names, values) = (lines.next().unwrap_or(""), lines.next().unwrap_or(""));
        for (name, value) in names.split_whitespace().zip(values.split_whitespace()) {
            if let Some(value) = value.parse::<f64>().ok().filter(|_| plain(name)) {
                page.untyped(format!("node_zfs_zpool_{name}"), &[own], Number(value));
            }
        }
    }
    for set in entries(&pool.path).unwrap_or_default().into_iter().filter(|entry| entry.name.starts_with("objset-")) {
        let Ok(text) = read(&set.path) else { continue };
        let name = text.lines().find_map(|line| {
            let rest = line.strip_prefix("dataset_name")?.trim_start();
            // The type stands between, and a name may hold spaces.
            rest.split_once(char::is_whitespace).map(|(_, name)| name.trim_start().to_owned())
        });
        let Some(name) = name else { continue };
        for (key, value) in statistics(&text) {
            page.untyped(format!("node_zfs_zpool_dataset_{key}"), &[("dataset", &name), own], Number(value));
        }
    }
}
