//! What tests that were killed have left — control groups, mounts, directories — is removed by the next run.
//!
//! Everything that a test makes outside of its own process has its number in its name: whose process is gone, is nobody's.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Once,
    time::Duration,
};

use container::cgroup::{Group, Path as GroupPath, Version};

/// What control groups of tests begin with.
pub const GROUP: &str = "madang-build-test-";
/// What their directories begin with.
pub const DIRECTORIES: [&str; 2] = ["madang-build-", "madang-dockerfiles-"];

/// How long processes may take to die.
const DYING: Duration = Duration::from_secs(2);

/// Whether a name is that of a process which is gone: what follows `prefix` begins with its number.
fn is_left(name: &str, prefix: &str) -> bool {
    let number =
        name.strip_prefix(prefix).and_then(|rest| rest.split('-').next()).and_then(|pid| pid.parse::<u32>().ok());
    number.is_some_and(|pid| !Path::new(&format!("/proc/{pid}")).exists())
}

fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().into_string().ok()).collect()
}

/// Removes all of it, once a process. What cannot be removed is somebody else's next time.
pub fn remove() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let version = Version::detect().unwrap();
        let any = GroupPath::new(GROUP).unwrap();
        for root in version.directories(&any).iter().filter_map(|directory| directory.parent()) {
            for name in names(root).into_iter().filter(|name| is_left(name, GROUP)) {
                remove_group(&version, &GroupPath::new(&name).unwrap());
            }
        }
        let temporary = std::env::temp_dir();
        for name in names(&temporary) {
            if DIRECTORIES.iter().any(|prefix| is_left(&name, prefix)) {
                let directory = temporary.join(name);
                unmount_below(&directory);
                let _ = fs::remove_dir_all(&directory);
            }
        }
    });
}

/// Ends what runs in a group, and removes it with those below it.
pub fn remove_group(version: &Version, path: &GroupPath) {
    let group = Group::open(version, path);
    if !group.exists() {
        return;
    }
    for child in group.children() {
        remove_group(version, &path.join(&child).unwrap());
    }
    group.kill(DYING);
    let _ = group.remove(DYING);
}

fn unmount_below(directory: &Path) {
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let mounts = table.lines().filter_map(|line| line.split(' ').nth(4)).map(PathBuf::from);
    let mut mounts: Vec<PathBuf> = mounts.filter(|mount| mount.starts_with(directory)).collect();
    mounts.sort();
    for mount in mounts.into_iter().rev() {
        let _ = rustix::mount::unmount(&mount, rustix::mount::UnmountFlags::DETACH);
    }
}

#[test]
fn only_what_is_nobodys_is_removed() {
    let own = std::process::id();
    assert!(!is_left(&format!("{GROUP}{own}-0"), GROUP));
    assert!(!is_left("madang-build-x1y2z3", "madang-build-"));
    assert!(!is_left("other", "madang-build-"));
    let mut child = std::process::Command::new("true").spawn().unwrap();
    let gone = child.id();
    child.wait().unwrap();
    assert!(is_left(&format!("{GROUP}{gone}-3-between"), GROUP));
    assert!(is_left(&format!("madang-dockerfiles-{gone}-base"), "madang-dockerfiles-"));
}
