//! Room in mounted file systems. One that does not answer, as a network's whose server is gone, holds nobody up: it is asked on
//! a thread of its own and told as stuck until that thread comes back.
//! <https://docs.kernel.org/filesystems/proc.html#proc-pid-mountinfo-information-about-mounts>

use std::{
    collections::{HashSet, VecDeque},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError, mpsc},
    thread,
    time::Duration,
};

use counts::page::{Number, Page};
use rustix::{fs::StatVfs, io::Errno};

use crate::{
    machine::{Settings, Work},
    source::Failure,
};

const TIMEOUT: Duration = Duration::from_secs(5);
/// More mounts are not looked at.
const MOUNTS: usize = 5000;

/// Upstream's default: what holds no data of users.
const HIDDEN_TYPES: [&str; 26] = [
    "autofs",
    "binfmt_misc",
    "bpf",
    "cgroup",
    "cgroup2",
    "configfs",
    "debugfs",
    "devpts",
    "devtmpfs",
    "fusectl",
    "hugetlbfs",
    "iso9660",
    "mqueue",
    "nsfs",
    "overlay",
    "proc",
    "procfs",
    "pstore",
    "rpc_pipefs",
    "securityfs",
    "selinuxfs",
    "squashfs",
    "erofs",
    "sysfs",
    "tracefs",
    "fuse.lxcfs",
];
/// Upstream's default: directories, and directories of which only what is below is hidden.
const HIDDEN_DIRECTORIES: [&str; 3] = ["/dev", "/proc", "/sys"];
const HIDDEN_BELOW: [&str; 3] = ["/run/credentials/", "/var/lib/docker/", "/var/lib/containers/storage/"];

/// Mounts that have not answered yet.
#[derive(Clone, Debug, Default)]
pub(crate) struct Stuck(Arc<Mutex<HashSet<PathBuf>>>);

impl Stuck {
    fn change(&self, change: impl FnOnce(&mut HashSet<PathBuf>)) {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }

    fn has(&self, path: &Path) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).contains(path)
    }
}

/// One line of `mountinfo`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Mount {
    major: String,
    minor: String,
    point: String,
    kind: String,
    device: String,
    read_only: bool,
}

pub(crate) fn mounts(work: &Work<'_>, page: &mut Page) -> Result<(), Failure> {
    let text = work.source.proc("1/mountinfo").or_else(|_| work.source.proc("self/mountinfo"))?;
    let mut list: Vec<Mount> = Vec::new();
    for mount in text.lines().take(MOUNTS).filter_map(parse).filter(|mount| !is_hidden(work.settings, mount)) {
        if !list.contains(&mount) {
            list.push(mount);
        }
    }
    let paths = list.iter().map(|mount| work.source.root.join(mount.point.trim_start_matches('/'))).collect();
    let timeout = work.settings.mount_timeout.unwrap_or(TIMEOUT);
    for (mount, answer) in list.iter().zip(ask(paths, work.mounts, timeout)) {
        tell(mount, answer, page);
    }
    Ok(())
}

fn tell(mount: &Mount, answer: Option<Result<StatVfs, Errno>>, page: &mut Page) {
    let error = match &answer {
        Some(Ok(_)) => String::new(),
        Some(Err(error)) => message(*error),
        None => "mountpoint timeout".to_owned(),
    };
    let labels = [
        ("device", mount.device.as_str()),
        ("device_error", &error),
        ("fstype", &mount.kind),
        ("mountpoint", &mount.point),
    ];
    page.gauge("node_filesystem_device_error", &labels, u8::from(!error.is_empty()));
    if answer.is_some() {
        page.gauge("node_filesystem_readonly", &labels, u8::from(mount.read_only));
    }
    let Some(Ok(room)) = answer else { return };
    let block = room.f_frsize as f64;
    for (name, value) in [
        ("node_filesystem_size_bytes", room.f_blocks as f64 * block),
        ("node_filesystem_free_bytes", room.f_bfree as f64 * block),
        ("node_filesystem_avail_bytes", room.f_bavail as f64 * block),
        ("node_filesystem_files", room.f_files as f64),
        ("node_filesystem_files_free", room.f_ffree as f64),
        ("node_filesystem_purgeable_bytes", 0.0),
    ] {
        page.gauge(name, &labels, Number(value));
    }
    let labels = [
        ("device", mount.device.as_str()),
        ("major", &mount.major),
        ("minor", &mount.minor),
        ("mountpoint", &mount.point),
    ];
    page.gauge("node_filesystem_mount_info", &labels, 1);
}

/// An error as the C library words it, in lower case, as upstream does.
fn message(error: Errno) -> String {
    let text = std::io::Error::from_raw_os_error(error.raw_os_error()).to_string();
    let text = text.split(" (os error").next().unwrap_or_default().to_owned();
    let mut letters = text.chars();
    letters.next().map(|first| first.to_lowercase().chain(letters).collect()).unwrap_or_default()
}

/// Asks every file system for its room; `None` for one that has not answered in time, now or earlier.
fn ask(paths: Vec<PathBuf>, stuck: &Stuck, timeout: Duration) -> Vec<Option<Result<StatVfs, Errno>>> {
    let mut answers: Vec<_> = paths.iter().map(|_| None).collect();
    let mut waiting: VecDeque<(usize, PathBuf)> =
        paths.into_iter().enumerate().filter(|(_, path)| !stuck.has(path)).collect();
    while !waiting.is_empty() {
        let (sender, receiver) = mpsc::channel();
        let (work, own) = (waiting.clone(), stuck.clone());
        let worker = thread::Builder::new().name("mounts".into()).spawn(move || {
            for (index, path) in work {
                let answer = rustix::fs::statvfs(&path);
                own.change(|stuck| {
                    stuck.remove(&path);
                });
                // Whoever asked has gone on: the rest is another's.
                if sender.send((index, answer)).is_err() {
                    return;
                }
            }
        });
        if worker.is_err() {
            return answers;
        }
        while let Some((_, path)) = waiting.front() {
            match receiver.recv_timeout(timeout) {
                Ok((index, answer)) => answers[index] = Some(answer),
                Err(_) => {
                    stuck.change(|stuck| {
                        stuck.insert(path.clone());
                    });
                    waiting.pop_front();
                    break;
                }
            }
            waiting.pop_front();
        }
    }
    answers
}

fn parse(line: &str) -> Option<Mount> {
    let (left, right) = line.split_once(" - ")?;
    let mut left = left.split(' ').skip(2);
    let (major, minor) = left.next()?.split_once(':')?;
    let _root = left.next()?;
    let point = unescape(left.next()?);
    let options = left.next()?;
    let mut right = right.split(' ');
    let (kind, device, whole) = (right.next()?, right.next()?, right.next().unwrap_or(""));
    let has = |options: &str, wanted: &str| options.split(',').any(|option| option == wanted);
    Some(Mount {
        major: major.to_owned(),
        minor: minor.to_owned(),
        point,
        kind: kind.to_owned(),
        device: device.to_owned(),
        read_only: has(options, "ro") || has(whole, "ro") || has(whole, "emergency_ro"),
    })
}

/// Spaces and tabs stand as octal numbers.
fn unescape(text: &str) -> String {
    text.replace("\\040", " ").replace("\\011", "\t")
}

fn is_hidden(settings: &Settings, mount: &Mount) -> bool {
    let point = mount.point.as_str();
    let below =
        |directory: &&str| point.strip_prefix(directory).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    HIDDEN_TYPES.contains(&mount.kind.as_str())
        || HIDDEN_DIRECTORIES.iter().any(below)
        || HIDDEN_BELOW.iter().any(|prefix| point.strip_prefix(prefix).is_some_and(|rest| !rest.is_empty()))
        || settings.hidden_mounts.iter().any(|directory| Path::new(point).starts_with(directory))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mounts_are_read_with_their_odd_names() {
        let line = "36 35 98:0 /mnt1 /my\\040disk rw,noatime master:1 shared:2 - ext3 /dev/root ro,errors=continue";
        let mount = parse(line).unwrap();
        assert_eq!((mount.point.as_str(), mount.kind.as_str(), mount.read_only), ("/my disk", "ext3", true));
        for garbage in ["", " - ", "1 2 3", "36 35 98 / / rw - ext3 /dev/root rw", "36 35 98:0 /"] {
            assert_eq!(parse(garbage), None, "{garbage}");
        }
    }

    #[test]
    fn pods_and_what_holds_no_data_are_hidden() {
        let settings = Settings { hidden_mounts: vec!["/data/pods".into()], ..Settings::default() };
        let mount = |kind: &str, point: &str| Mount {
            major: "0".into(),
            minor: "1".into(),
            point: point.into(),
            kind: kind.into(),
            device: "tmpfs".into(),
            read_only: false,
        };
        for (kind, point) in [
            ("tmpfs", "/dev/shm"),
            ("ext4", "/proc"),
            ("tmpfs", "/data/pods/x"),
            ("overlay", "/x"),
            ("xfs", "/var/lib/docker/a"),
        ] {
            assert!(is_hidden(&settings, &mount(kind, point)), "{point}");
        }
        for (kind, point) in [("tmpfs", "/devices"), ("ext4", "/"), ("tmpfs", "/data"), ("xfs", "/var/lib/docker")] {
            assert!(!is_hidden(&settings, &mount(kind, point)), "{point}");
        }
    }

    #[test]
    fn what_is_stuck_is_told_so_and_not_asked_again() {
        let stuck = Stuck::default();
        let here = || vec![PathBuf::from("/"), PathBuf::from("/nowhere at all")];
        let answers = ask(here(), &stuck, TIMEOUT);
        assert!(matches!(answers[0], Some(Ok(_))) && matches!(answers[1], Some(Err(Errno::NOENT))));
        assert_eq!(message(Errno::NOENT), "no such file or directory");
        stuck.change(|stuck| {
            stuck.insert("/".into());
        });
        assert!(ask(here(), &stuck, TIMEOUT)[0].is_none());
    }
}
