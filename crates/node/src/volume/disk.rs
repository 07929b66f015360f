//! Volumes that are directories: empty ones, the machine's, parts of a volume, and who owns them.

use std::{
    fs,
    os::{
        fd::{AsFd, AsRawFd, OwnedFd},
        unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _, lchown},
    },
    path::Path,
};

use anyhow::{Context as _, Result, bail};
use rustix::{
    fs::{AtFlags, Mode, OFlags, ResolveFlags, StatVfsMountFlags, StatxAttributes, StatxFlags},
    io::Errno,
    mount::{MountFlags, UnmountFlags},
};

/// Makes an empty directory for all, or a file system in memory of at most `size` bytes there.
pub fn empty_dir(path: &Path, memory: bool, size: Option<u64>, group: Option<u32>) -> Result<()> {
    fs::create_dir_all(path).with_context(|| format!("make {}", path.display()))?;
    if memory && !is_mount_point(path) {
        mount_memory(path, size, 0o777)?;
    }
    let mode = if group.is_some() { 0o2777 } else { 0o777 };
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).with_context(|| format!("open {}", path.display()))?;
    if let Some(group) = group {
        lchown(path, None, Some(group)).with_context(|| format!("give {} to group {group}", path.display()))?;
    }
    Ok(())
}

/// Mounts a file system in memory.
pub fn mount_memory(path: &Path, size: Option<u64>, mode: u32) -> Result<()> {
    let mut options = format!("mode={mode:o}");
    if let Some(size) = size {
        options.push_str(&format!(",size={size}"));
    }
    let options = std::ffi::CString::new(options).context("mount options")?;
    rustix::mount::mount("tmpfs", path, "tmpfs", MountFlags::NOSUID | MountFlags::NODEV, Some(options.as_c_str()))
        .with_context(|| format!("mount memory at {}", path.display()))
}

/// Whether something is mounted there, be it a part of the same file system.
pub fn is_mount_point(path: &Path) -> bool {
    let found = rustix::fs::statx(rustix::fs::CWD, path, AtFlags::SYMLINK_NOFOLLOW, StatxFlags::empty());
    found.is_ok_and(|found| found.stx_attributes.contains(StatxAttributes::MOUNT_ROOT))
}

/// Whether nothing can be written there.
pub fn is_read_only(path: &Path) -> bool {
    rustix::fs::statvfs(path).is_ok_and(|found| found.f_flag.contains(StatVfsMountFlags::RDONLY))
}

/// Makes a directory or file visible at `target` too, with what is mounted below it.
pub fn bind(source: &Path, target: &Path, read_only: bool) -> Result<()> {
    if fs::metadata(source).is_ok_and(|found| !found.is_dir()) {
        if let Some(parent) = target.parent() {
            fs::create_dir_all(parent).with_context(|| format!("make {}", parent.display()))?;
        }
        fs::write(target, "").with_context(|| format!("make {}", target.display()))?;
    } else {
        fs::create_dir_all(target).with_context(|| format!("make {}", target.display()))?;
    }
    rustix::mount::mount_bind_recursive(source, target)
        .with_context(|| format!("bind {} to {}", source.display(), target.display()))?;
    if read_only {
        let flags = MountFlags::BIND | MountFlags::RDONLY;
        rustix::mount::mount_remount(target, flags, "").with_context(|| format!("protect {}", target.display()))?;
    }
    Ok(())
}

/// Makes the directory of a volume that was made for a claim, open to all as its user is not known.
pub fn provisioned(path: &Path) -> Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    fs::create_dir_all(path).with_context(|| format!("make {}", path.display()))?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o777)).with_context(|| format!("open {}", path.display()))
}

/// Unmounts everything that is mounted at or below `dir`, deepest first.
pub fn unmount_below(dir: &Path) -> Result<()> {
    let table = fs::read_to_string("/proc/self/mountinfo").context("read /proc/self/mountinfo")?;
    let mut points: Vec<String> = table
        .lines()
        .filter_map(|line| line.split(' ').nth(4))
        .map(unescape)
        .filter(|point| Path::new(point).starts_with(dir))
        .collect();
    points.sort_by_key(|point| std::cmp::Reverse(point.len()));
    for point in points {
        match rustix::mount::unmount(point.as_str(), UnmountFlags::DETACH | UnmountFlags::NOFOLLOW) {
            Ok(()) | Err(Errno::INVAL | Errno::NOENT) => {}
            Err(error) => return Err(error).with_context(|| format!("unmount {point}")),
        }
    }
    Ok(())
}

/// `\040` and the like, as the kernel writes them.
fn unescape(text: &str) -> String {
    let mut out = Vec::new();
    let bytes = text.as_bytes();
    let mut index = 0;
    while index < bytes.len() {
        let code = (bytes[index] == b'\\')
            .then(|| text.get(index + 1..index + 4).and_then(|octal| u8::from_str_radix(octal, 8).ok()))
            .flatten();
        match code {
            Some(byte) => {
                out.push(byte);
                index += 4;
            }
            None => {
                out.push(bytes[index]);
                index += 1;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// Checks a path of the machine against the `type` of a hostPath volume, and makes what that type wants made.
pub fn host_path(path: &Path, kind: &str) -> Result<()> {
    let shown = path.display();
    let found = match fs::metadata(path) {
        Ok(found) => Some(found),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
        Err(error) => return Err(error).with_context(|| format!("look at {shown}")),
    };
    match kind {
        "" => {
            if found.is_none() {
                fs::create_dir_all(path).with_context(|| format!("make {shown}"))?;
            }
        }
        "DirectoryOrCreate" if found.is_none() => {
            fs::create_dir_all(path).with_context(|| format!("make {shown}"))?;
            fs::set_permissions(path, fs::Permissions::from_mode(0o755)).with_context(|| format!("open {shown}"))?;
        }
        "FileOrCreate" if found.is_none() => {
            let file = fs::File::create_new(path).with_context(|| format!("make {shown}"))?;
            file.set_permissions(fs::Permissions::from_mode(0o644)).with_context(|| format!("open {shown}"))?;
        }
        "DirectoryOrCreate" | "Directory" => {
            if !found.is_some_and(|found| found.is_dir()) {
                bail!("hostPath type check failed: {shown} is not a directory");
            }
        }
        "FileOrCreate" | "File" => {
            if !found.is_some_and(|found| found.is_file()) {
                bail!("hostPath type check failed: {shown} is not a file");
            }
        }
        "Socket" => {
            if !found.is_some_and(|found| found.file_type().is_socket()) {
                bail!("hostPath type check failed: {shown} is not a socket file");
            }
        }
        "CharDevice" => {
            if !found.is_some_and(|found| found.file_type().is_char_device()) {
                bail!("hostPath type check failed: {shown} is not a character device");
            }
        }
        "BlockDevice" => {
            if !found.is_some_and(|found| found.file_type().is_block_device()) {
                bail!("hostPath type check failed: {shown} is not a block device");
            }
        }
        other => bail!("hostPath type {other:?} is unknown"),
    }
    Ok(())
}

/// Opens `path` below `volume`, making directories that are missing. Links are followed as if the volume were the whole
/// file system, so that whoever writes to the volume cannot lead out of it.
fn open_below(volume: &Path, path: &str) -> Result<OwnedFd> {
    let root = rustix::fs::open(volume, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())
        .with_context(|| format!("open volume {}", volume.display()))?;
    let open = |path: &str, flags: OFlags| {
        rustix::fs::openat2(&root, path, flags | OFlags::CLOEXEC, Mode::empty(), ResolveFlags::IN_ROOT)
    };
    match open(path, OFlags::PATH) {
        Ok(found) => return Ok(found),
        Err(Errno::NOENT) => {}
        Err(error) => return Err(error).with_context(|| format!("open {path:?} in volume {}", volume.display())),
    }
    let mode = fs::metadata(volume).map_or(0o750, |found| found.mode() & 0o7777);
    let mut here = String::new();
    for part in path.split('/').filter(|part| !part.is_empty() && *part != ".") {
        let parent = if here.is_empty() { ".".to_owned() } else { here.clone() };
        if !here.is_empty() {
            here.push('/');
        }
        here.push_str(part);
        if open(&here, OFlags::PATH).is_err() {
            let parent = open(&parent, OFlags::PATH | OFlags::DIRECTORY)
                .with_context(|| format!("open {parent:?} in volume {}", volume.display()))?;
            match rustix::fs::mkdirat(&parent, part, Mode::from_raw_mode(mode)) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(error) => return Err(error).with_context(|| format!("make {here:?} in {}", volume.display())),
            }
        }
    }
    open(path, OFlags::PATH).with_context(|| format!("open {path:?} in volume {}", volume.display()))
}

/// Makes a part of a volume visible at `target`, a place that nobody but the node can change.
pub fn sub_path(volume: &Path, path: &str, target: &Path) -> Result<()> {
    if path.starts_with('/') || path.split('/').any(|part| part == "..") {
        bail!("subPath {path:?} leads out of the volume");
    }
    let opened = open_below(volume, path)?;
    let is_dir = rustix::fs::fstat(opened.as_fd())
        .is_ok_and(|found| rustix::fs::FileType::from_raw_mode(found.st_mode) == rustix::fs::FileType::Directory);
    match rustix::mount::unmount(target, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW) {
        // Mostly nothing is mounted there yet.
        Ok(()) | Err(Errno::INVAL | Errno::NOENT) => {}
        Err(error) => return Err(error).with_context(|| format!("unmount {}", target.display())),
    }
    if let Some(parent) = target.parent() {
        fs::create_dir_all(parent).with_context(|| format!("make {}", parent.display()))?;
    }
    if is_dir {
        fs::create_dir_all(target).with_context(|| format!("make {}", target.display()))?;
    } else {
        fs::write(target, "").with_context(|| format!("make {}", target.display()))?;
    }
    rustix::mount::mount_bind_recursive(format!("/proc/self/fd/{}", opened.as_raw_fd()), target)
        .with_context(|| format!("bind subPath {path:?}"))
}

/// Gives a volume to a group: readable and writable by it, new files too.
pub fn give_to_group(path: &Path, group: u32, only_on_mismatch: bool) -> Result<()> {
    let top = fs::symlink_metadata(path).with_context(|| format!("look at {}", path.display()))?;
    if only_on_mismatch && top.gid() == group && top.mode() & 0o2070 == 0o2070 {
        return Ok(());
    }
    give(path, &top, group)
}

fn give(path: &Path, found: &fs::Metadata, group: u32) -> Result<()> {
    if found.file_type().is_symlink() {
        return lchown(path, None, Some(group)).with_context(|| format!("give {} to group", path.display()));
    }
    lchown(path, None, Some(group)).with_context(|| format!("give {} to group {group}", path.display()))?;
    let more = if found.is_dir() { 0o2770 } else { 0o660 };
    fs::set_permissions(path, fs::Permissions::from_mode(found.mode() & 0o7777 | more))
        .with_context(|| format!("set mode of {}", path.display()))?;
    if found.is_dir() {
        for entry in fs::read_dir(path).with_context(|| format!("read {}", path.display()))? {
            let entry = entry.with_context(|| format!("read {}", path.display()))?;
            let found = fs::symlink_metadata(entry.path())?;
            give(&entry.path(), &found, group)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_of_the_machine_are_checked_against_their_type() {
        let dir = tempfile::tempdir().unwrap();
        let (file, none) = (dir.path().join("file"), dir.path().join("none"));
        fs::write(&file, "").unwrap();
        let cases = [
            (dir.path(), "Directory", true),
            (file.as_path(), "Directory", false),
            (file.as_path(), "File", true),
            (none.as_path(), "File", false),
            (file.as_path(), "Socket", false),
            (Path::new("/dev/null"), "CharDevice", true),
            (Path::new("/dev/null"), "BlockDevice", false),
            (none.as_path(), "FileOrCreate", true),
            (none.as_path(), "File", true),
            (dir.path(), "Nonsense", false),
        ];
        for (path, kind, good) in cases {
            assert_eq!(host_path(path, kind).is_ok(), good, "{} {kind}", path.display());
        }
    }

    #[test]
    fn a_directory_bound_elsewhere_is_a_mount_point_of_its_own_and_may_be_read_only() {
        if !rustix::process::geteuid().is_root() {
            assert!(std::env::var_os("CI").is_none(), "in CI this test needs root");
            return eprintln!("skipped: needs root");
        }
        let dir = tempfile::tempdir().unwrap();
        let (source, target) = (dir.path().join("made/here"), dir.path().join("pod/volume"));
        provisioned(&source).unwrap();
        fs::write(source.join("file"), "kept").unwrap();
        assert_eq!(fs::metadata(&source).unwrap().mode() & 0o777, 0o777);
        assert!(!is_mount_point(&source));
        bind(&source, &target, true).unwrap();
        assert!(is_mount_point(&target) && is_read_only(&target) && !is_read_only(&source));
        assert_eq!(fs::read_to_string(target.join("file")).unwrap(), "kept");
        assert!(fs::write(target.join("new"), "").is_err());
        unmount_below(dir.path()).unwrap();
        assert!(!is_mount_point(&target) && source.join("file").exists());
    }

    #[test]
    fn parts_of_a_volume_never_lead_out_of_it() {
        let dir = tempfile::tempdir().unwrap();
        let volume = dir.path().join("volume");
        fs::create_dir_all(&volume).unwrap();
        fs::write(dir.path().join("outside"), "secret").unwrap();
        std::os::unix::fs::symlink("../outside", volume.join("link")).unwrap();
        assert!(open_below(&volume, "link/x").is_err());
        open_below(&volume, "made/below").unwrap();
        assert!(volume.join("made/below").is_dir());
        assert!(sub_path(&volume, "../outside", &dir.path().join("t")).is_err());
    }

    #[test]
    fn mount_points_of_the_kernel_are_read_with_their_escapes() {
        assert_eq!(unescape(r"/a\040b\134c"), "/a b\\c");
    }
}
