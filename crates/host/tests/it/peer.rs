//! Upstream's exporter as the judge: same series, same types, and same values where nothing changes between two readings.
//!
//! `MADANG_NODE_EXPORTER` names its program; without it these tests do not run. `MADANG_NODE_EXPORTER_TREE` names a directory
//! with `proc`, `sys` and `udev` to compare over, such as upstream's own fixtures, unpacked.

use std::{
    collections::BTreeMap,
    env,
    io::{Read as _, Write as _},
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};

use host::{
    machine::{Machine, Settings},
    source::Source,
};

use crate::tree;

/// Collectors that are left out here, with all that they export; the crate's page says why.
const LEFT_OUT: [&str; 3] = ["bcache", "bcachefs", "dmmultipath"];
/// Series that only one of the two can have, or that tell of the exporter itself.
const OWN: [&str; 7] =
    ["go_", "process_", "promhttp_", "node_exporter_build_info", "node_scrape_", "node_timex_", "node_uname_info"];
/// Families whose values are the same only in a tree that does not change.
const STEADY: [&str; 16] = [
    "node_boot_time_seconds",
    "node_cpu_scaling_governor",
    "node_disk_info",
    "node_dmi_info",
    "node_entropy_pool_size_bits",
    "node_filefd_maximum",
    "node_filesystem_files",
    "node_filesystem_mount_info",
    "node_filesystem_readonly",
    "node_filesystem_size_bytes",
    "node_memory_MemTotal_bytes",
    "node_network_flags",
    "node_network_info",
    "node_network_mtu_bytes",
    "node_nf_conntrack_entries_limit",
    "node_os_info",
];

struct Exporter(Child, u16);

impl Exporter {
    fn start(program: &str, tree: Option<&Path>) -> Self {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut command = Command::new(program);
        command.arg(format!("--web.listen-address=127.0.0.1:{port}")).stdout(Stdio::null()).stderr(Stdio::null());
        command.args(LEFT_OUT.map(|name| format!("--no-collector.{name}")));
        if let Some(tree) = tree {
            for (flag, directory) in [("procfs", "proc"), ("sysfs", "sys"), ("udev.data", "udev")] {
                command.arg(format!("--path.{flag}={}", tree.join(directory).display()));
            }
        }
        Self(command.spawn().unwrap(), port)
    }

    fn page(&self) -> String {
        for _ in 0..100 {
            if let Ok(mut socket) = TcpStream::connect(("127.0.0.1", self.1)) {
                socket.write_all(b"GET /metrics HTTP/1.0\r\n\r\n").unwrap();
                let mut text = String::new();
                socket.read_to_string(&mut text).unwrap();
                return text.split_once("\r\n\r\n").unwrap().1.to_owned();
            }
            thread::sleep(Duration::from_millis(50));
        }
        panic!("the exporter does not answer");
    }
}

impl Drop for Exporter {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Samples and families' types of a page.
fn parse(text: &str) -> (BTreeMap<String, f64>, BTreeMap<String, String>) {
    let (mut samples, mut types) = (BTreeMap::new(), BTreeMap::new());
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').unwrap();
            types.insert(name.to_owned(), kind.to_owned());
        } else if !line.starts_with('#') && !line.is_empty() {
            let (series, value) = line.rsplit_once(' ').unwrap();
            if !OWN.iter().any(|prefix| series.starts_with(prefix)) {
                samples.insert(series.to_owned(), value.parse().unwrap());
            }
        }
    }
    types.retain(|name, _| !OWN.iter().any(|prefix| name.starts_with(prefix)));
    (samples, types)
}

fn compare(ours: &str, theirs: &str, same_value: impl Fn(&str) -> bool) -> Vec<String> {
    let ((ours, our_types), (theirs, their_types)) = (parse(ours), parse(theirs));
    let mut wrong = Vec::new();
    for (series, value) in &theirs {
        match ours.get(series) {
            None => wrong.push(format!("missing {series} {value}")),
            Some(own) if same_value(series) && (own - value).abs() > value.abs() * 1e-9 => {
                wrong.push(format!("{series}: {own} instead of {value}"));
            }
            Some(_) => {}
        }
    }
    wrong.extend(
        ours.iter().filter(|(series, _)| !theirs.contains_key(*series)).map(|(series, _)| format!("extra {series}")),
    );
    for (name, kind) in &their_types {
        if our_types.get(name).is_some_and(|own| own != kind) {
            wrong.push(format!("{name} is a {} instead of a {kind}", our_types[name]));
        }
    }
    wrong
}

fn program() -> Option<String> {
    let program = env::var("MADANG_NODE_EXPORTER").ok();
    if program.is_none() {
        eprintln!("not compared: MADANG_NODE_EXPORTER names no program");
    }
    program
}

#[test]
fn upstream_exports_the_same_of_this_machine() {
    let Some(program) = program() else { return };
    let exporter = Exporter::start(&program, None);
    let theirs = exporter.page();
    // With the exporter still there: it changes what there is of sockets.
    let ours = Machine::new(Settings::default()).page(None).text();
    let family = |series: &str| series.split('{').next().unwrap_or("").to_owned();
    let wrong = compare(&ours, &theirs, |series| STEADY.contains(&family(series).as_str()));
    // Without the kernel's clock there is nothing of its steering, which is left out of the comparison.
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn upstream_exports_the_same_of_a_tree() {
    let Some(program) = program() else { return };
    let made = tempfile::tempdir().unwrap();
    let path = match env::var("MADANG_NODE_EXPORTER_TREE") {
        Ok(path) => PathBuf::from(path),
        Err(_) => {
            tree::write(made.path());
            made.path().to_owned()
        }
    };
    let exporter = Exporter::start(&program, Some(&path));
    let theirs = exporter.page();
    let source = Source { proc: path.join("proc"), sys: path.join("sys"), udev: path.join("udev"), root: "/".into() };
    let ours = Machine::new(Settings { source, ..Settings::default() }).page(None).text();
    // Time and room on disks are the machine's own in both.
    let own = ["node_time_seconds", "node_filesystem_", "node_network_receive_", "node_network_transmit_", "node_arp_"];
    let moves = |series: &str| own.iter().any(|prefix| series.starts_with(prefix));
    let mut wrong = compare(&ours, &theirs, |series| !moves(series));
    // Traffic and neighbours are read over netlink there, past any tree; mounts that are not there cannot be asked.
    wrong.retain(|line| {
        let series = line.trim_start_matches("missing ").trim_start_matches("extra ");
        !moves(series) || series.starts_with("node_network_transmit_queue_length")
    });
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
