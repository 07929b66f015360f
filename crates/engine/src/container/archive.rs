//! Files in and out of a container as tar archives: `docker cp` and `docker export`.
//!
//! ```text
//! GET  archive?path=P   the file or directory P, under its own name; what it is, in a header
//! HEAD archive?path=P   the header alone
//! PUT  archive?path=P   an archive, unpacked into the directory P
//! GET  export           the whole root file system, without what is mounted in it
//! ```
//!
//! Every directory is opened by descriptor and no link is followed on the way, so that a container that changes its files
//! meanwhile leads nobody elsewhere. Specification:
//! <https://docs.docker.com/reference/api/engine/version/v1.50/#tag/Container/operation/ContainerArchive>.

use std::{
    collections::HashMap,
    ffi::OsStr,
    fs::File,
    io::{self, Read, Write},
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::ffi::OsStrExt as _,
    },
    path::{Component, Path, PathBuf},
    sync::Arc,
};

use anyhow::Context as _;
use base64::Engine as _;
use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode};
use http_body_util::BodyExt as _;
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, Stat, Timespec, Timestamps};
use serde_json::json;
use serve::{Body, body};
use tar::{Archive, Builder, EntryType, Header};
use tokio::sync::mpsc;

use crate::{
    Engine, answer,
    call::{Call, Query},
    container::{
        Container,
        files::{self, Root},
        mounts, start,
    },
    disk,
    error::{Error, Result},
    system::timestamp,
};

const STAT: &str = "x-docker-container-path-stat";
/// Bytes of a piece of an archive.
const PIECE: usize = 64 * 1024;
/// Levels of directories.
const DEPTH: usize = 1000;

/// `GET` and `HEAD /containers/ID/archive`.
pub(crate) async fn get(
    engine: &Engine,
    container: &Arc<Container>,
    query: &Query,
    only_head: bool,
) -> Result<Response<Body>> {
    let path = query.filled("path").ok_or_else(|| Error::invalid("bad parameter: path is empty"))?.to_owned();
    let turn = container.clone();
    let turn = turn.turn.lock().await;
    let (looked, shown) = (engine.clone(), container.clone());
    let (found, root) = disk::blocking(move || {
        let root = files::root_of(&looked, &shown)?;
        let found = look(&root, &path, &shown.id)?;
        Ok((found, root))
    })
    .await?;
    let head = json!({
        "name": found.name, "size": found.stat.st_size, "mode": go_mode(&found.stat),
        "mtime": timestamp(modified(&found.stat)), "linkTarget": found.target,
    });
    let head = base64::engine::general_purpose::STANDARD.encode(head.to_string());
    let body = if only_head {
        body::empty()
    } else {
        let (sender, body) = body::channel(4);
        // The container is not started while its files are read from outside.
        let keep = if container.look(|record| record.state.is_running()) { None } else { Some(container.clone()) };
        drop(turn);
        engine.task().spawn("archive", async move {
            let _turn = match &keep {
                Some(container) => Some(container.turn.lock().await),
                None => None,
            };
            let done = tokio::task::spawn_blocking(move || {
                let mut archive = Builder::new(Pieces(sender));
                let mut writer = Tree { root: root.directory(), same_device: None, links: HashMap::new() };
                let top = if found.name == "/" { PathBuf::from("./") } else { PathBuf::from(&found.name) };
                let done = writer.add(&mut archive, found.parent.as_fd(), &found.entry, &top, 0);
                done.and_then(|()| archive.finish())
            });
            if let Ok(Err(error)) = done.await {
                tracing::debug!(%error, "archive of a container's files");
            }
        });
        body
    };
    let mut response = answer::typed(body, "application/x-tar");
    if let Ok(value) = HeaderValue::from_str(&head) {
        response.headers_mut().insert(STAT, value);
    }
    Ok(response)
}

/// What a path leads to.
struct Found {
    parent: OwnedFd,
    entry: Vec<u8>,
    name: String,
    stat: Stat,
    /// Where a link leads.
    target: String,
}

fn look(root: &Root, path: &str, id: &str) -> anyhow::Result<Found> {
    let missing = || Error::missing(format!("Could not find the file {path} in container {id}"));
    let clean = mounts::clean(path);
    let directory = path.ends_with('/') || path.ends_with("/.") || clean == "/";
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let (parent, entry) = if directory {
        let opened = root.open(&clean, flags | OFlags::DIRECTORY, Mode::empty()).map_err(|error| match error {
            rustix::io::Errno::NOTDIR => anyhow::Error::from(Error::invalid(format!("not a directory: {path}"))),
            _ => missing().into(),
        })?;
        (opened, b".".to_vec())
    } else {
        let (above, name) = clean.rsplit_once('/').unwrap_or(("", &clean));
        let mounted = root.open(&clean, flags | OFlags::NOFOLLOW, Mode::empty()).map_err(|_| missing())?;
        let above = root.open(above, flags | OFlags::DIRECTORY, Mode::empty()).map_err(|_| missing())?;
        // What is mounted there is not in the directory above, where the container does not run.
        match rustix::fs::statat(&above, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(seen) if same(&seen, &rustix::fs::fstat(&mounted)?) => (above, name.as_bytes().to_vec()),
            _ => (mounted, b".".to_vec()),
        }
    };
    let stat =
        rustix::fs::statat(&parent, OsStr::from_bytes(&entry), AtFlags::SYMLINK_NOFOLLOW).map_err(|_| missing())?;
    let is_link = FileType::from_raw_mode(stat.st_mode) == FileType::Symlink;
    let target = if is_link {
        let target = rustix::fs::readlinkat(&parent, OsStr::from_bytes(&entry), Vec::new())?;
        let target = target.to_string_lossy().into_owned();
        let above = clean.rsplit_once('/').map_or("", |(above, _)| above);
        if target.starts_with('/') { mounts::clean(&target) } else { mounts::clean(&format!("{above}/{target}")) }
    } else {
        String::new()
    };
    let name = clean.rsplit('/').next().filter(|name| !name.is_empty()).unwrap_or("/").to_owned();
    Ok(Found { parent, entry, name, stat, target })
}

fn same(one: &Stat, other: &Stat) -> bool {
    (one.st_dev, one.st_ino) == (other.st_dev, other.st_ino)
}

fn modified(stat: &Stat) -> std::time::SystemTime {
    let seconds = u64::try_from(stat.st_mtime).unwrap_or(0);
    let nanoseconds = u32::try_from(stat.st_mtime_nsec).unwrap_or(0).min(999_999_999);
    std::time::SystemTime::UNIX_EPOCH + std::time::Duration::new(seconds, nanoseconds)
}

/// A mode as Go numbers it.
fn go_mode(stat: &Stat) -> u32 {
    let kind = match FileType::from_raw_mode(stat.st_mode) {
        FileType::Directory => 1 << 31,
        FileType::Symlink => 1 << 27,
        FileType::BlockDevice => 1 << 26,
        FileType::Fifo => 1 << 25,
        FileType::Socket => 1 << 24,
        FileType::CharacterDevice => 1 << 26 | 1 << 21,
        _ => 0,
    };
    let bits = [(0o4000, 23), (0o2000, 22), (0o1000, 20)];
    let special = bits.iter().filter(|(bit, _)| stat.st_mode & bit != 0).fold(0, |sum, (_, place)| sum | 1u32 << place);
    kind | special | stat.st_mode & 0o777
}

/// Sends what is written, in pieces.
struct Pieces(mpsc::Sender<Result<Bytes, body::Error>>);

impl Write for Pieces {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = bytes.len().min(PIECE);
        let sent = self.0.blocking_send(Ok(Bytes::copy_from_slice(&bytes[..count])));
        sent.map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe))?;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Writes a tree into an archive.
struct Tree<'a> {
    #[expect(dead_code, reason = "keeps the root open as long as its files are read")]
    root: BorrowedFd<'a>,
    /// Only directories of this device are entered.
    same_device: Option<u64>,
    /// Where files with several names were written first.
    links: HashMap<(u64, u64), PathBuf>,
}

impl Tree<'_> {
    fn add<W: Write>(
        &mut self,
        archive: &mut Builder<W>,
        parent: BorrowedFd<'_>,
        entry: &[u8],
        path: &Path,
        depth: usize,
    ) -> io::Result<()> {
        if depth > DEPTH {
            return Err(io::Error::other("directories are nested too deeply"));
        }
        let name = OsStr::from_bytes(entry);
        let stat = match rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => stat,
            // It went away meanwhile.
            Err(rustix::io::Errno::NOENT) if depth > 0 => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        let mut header = header(&stat);
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => {
                header.set_entry_type(EntryType::Directory);
                archive.append_data(&mut header, path.join(""), io::empty())?;
                if self.same_device.is_some_and(|device| device != stat.st_dev) {
                    return Ok(());
                }
                let directory = rustix::fs::openat(parent, name, flags | OFlags::DIRECTORY, Mode::empty())?;
                for name in names(directory.as_fd())? {
                    let below = path.join(OsStr::from_bytes(&name));
                    self.add(archive, directory.as_fd(), &name, &below, depth + 1)?;
                }
                Ok(())
            }
            FileType::RegularFile => {
                if stat.st_nlink > 1 {
                    if let Some(first) = self.links.get(&(stat.st_dev, stat.st_ino)) {
                        header.set_entry_type(EntryType::Link);
                        return archive.append_link(&mut header, path, first);
                    }
                    self.links.insert((stat.st_dev, stat.st_ino), path.to_owned());
                }
                // A mounted file is its own directory.
                let file = if entry == b"." {
                    use std::os::fd::AsRawFd as _;
                    File::open(format!("/proc/self/fd/{}", parent.as_raw_fd()))?
                } else {
                    File::from(rustix::fs::openat(parent, name, flags, Mode::empty())?)
                };
                let size = u64::try_from(stat.st_size).unwrap_or(0);
                header.set_entry_type(EntryType::Regular);
                header.set_size(size);
                // Exactly as long as announced, whatever becomes of the file meanwhile.
                archive.append_data(&mut header, path, file.chain(io::repeat(0)).take(size))
            }
            FileType::Symlink => {
                let target = rustix::fs::readlinkat(parent, name, Vec::new())?;
                header.set_entry_type(EntryType::Symlink);
                archive.append_link(&mut header, path, OsStr::from_bytes(target.as_bytes()))
            }
            kind @ (FileType::CharacterDevice | FileType::BlockDevice | FileType::Fifo) => {
                header.set_entry_type(match kind {
                    FileType::CharacterDevice => EntryType::Char,
                    FileType::BlockDevice => EntryType::Block,
                    _ => EntryType::Fifo,
                });
                header.set_device_major(rustix::fs::major(stat.st_rdev))?;
                header.set_device_minor(rustix::fs::minor(stat.st_rdev))?;
                archive.append_data(&mut header, path, io::empty())
            }
            _ => Ok(()),
        }
    }
}

/// What is in a directory, in order.
fn names(directory: BorrowedFd<'_>) -> io::Result<Vec<Vec<u8>>> {
    let mut names = Vec::new();
    for found in Dir::read_from(directory)? {
        let found = found?;
        if !matches!(found.file_name().to_bytes(), b"." | b"..") {
            names.push(found.file_name().to_bytes().to_vec());
        }
    }
    names.sort();
    Ok(names)
}

fn header(stat: &Stat) -> Header {
    let mut header = Header::new_gnu();
    header.set_mode(stat.st_mode & 0o7777);
    header.set_uid(stat.st_uid.into());
    header.set_gid(stat.st_gid.into());
    header.set_mtime(u64::try_from(stat.st_mtime).unwrap_or(0));
    header.set_size(0);
    header
}

/// `GET /containers/ID/export`.
pub(crate) async fn export(engine: &Engine, container: &Arc<Container>) -> Result<Response<Body>> {
    let (looked, shown) = (engine.clone(), container.clone());
    let root = {
        let _turn = container.turn.lock().await;
        disk::blocking(move || {
            let record = shown.record();
            if record.state.is_running() && record.state.pid > 0 {
                return Root::of_process(record.state.pid);
            }
            let snapshot = looked.images().find_snapshot(&Engine::snapshot_name(&shown.id));
            Root::of_snapshot(&snapshot.with_context(|| format!("the files of container {} are gone", shown.id))?)
        })
        .await?
    };
    container.tell(engine, "export", &[]);
    let (sender, body) = body::channel(4);
    engine.task().spawn("export", async move {
        let done = tokio::task::spawn_blocking(move || {
            let mut archive = Builder::new(Pieces(sender));
            let device = rustix::fs::fstat(root.directory())?.st_dev;
            let mut writer = Tree { root: root.directory(), same_device: Some(device), links: HashMap::new() };
            let directory = root.open("/", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
            for name in names(directory.as_fd())? {
                writer.add(&mut archive, directory.as_fd(), &name, Path::new(OsStr::from_bytes(&name)), 1)?;
            }
            archive.finish()
        });
        if let Ok(Err(error)) = done.await {
            tracing::debug!(%error, "export of a container");
        }
    });
    Ok(answer::typed(body, "application/octet-stream"))
}

/// `PUT /containers/ID/archive`.
pub(crate) async fn put(engine: &Engine, container: &Arc<Container>, mut call: Call) -> Result<Response<Body>> {
    let path = call.query.filled("path").ok_or_else(|| Error::invalid("bad parameter: path is empty"))?.to_owned();
    let careful = call.query.flag("noOverwriteDirNonDir");
    let owner = if call.query.flag("copyUIDGID") {
        let record = container.record();
        let security = runtime::description::Security::default();
        let databases = start::databases(engine, &record)?;
        let user = runtime::user::resolve(&record.config.user, &security, &databases)?;
        Some((user.uid, user.gid))
    } else {
        None
    };
    let record = container.record();
    let clean = mounts::clean(&path);
    let mount = record
        .mounts
        .iter()
        .filter(|mount| clean == mount.destination || clean.starts_with(&format!("{}/", mount.destination)));
    match mount.max_by_key(|mount| mount.destination.len()) {
        Some(mount) if !mount.rw => return Err(Error::forbidden("mounted volume is marked read-only")),
        None if record.host.readonly_rootfs => return Err(Error::forbidden("container rootfs is marked read-only")),
        _ => {}
    }
    let told = path.clone();
    let (sender, receiver) = mpsc::channel::<io::Result<Bytes>>(4);
    let mut body = call.take_body();
    let feed = async move {
        while let Some(frame) = body.frame().await {
            let piece = match frame {
                Ok(frame) => match frame.into_data() {
                    Ok(piece) => Ok(piece),
                    Err(_) => continue,
                },
                Err(error) => Err(io::Error::other(error)),
            };
            let failed = piece.is_err();
            if sender.send(piece).await.is_err() || failed {
                return;
            }
        }
    };
    let _turn = container.turn.lock().await;
    let (looked, shown) = (engine.clone(), container.clone());
    let work = disk::blocking(move || {
        let root = files::root_of(&looked, &shown)?;
        let found = root.open(&clean, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty());
        match found {
            Ok(_) => {}
            Err(rustix::io::Errno::NOTDIR) => anyhow::bail!(Error::invalid("extraction point is not a directory")),
            Err(_) => {
                anyhow::bail!(Error::missing(format!("Could not find the file {path} in container {}", shown.id)))
            }
        }
        let input = decompressed(Input { receiver, piece: Bytes::new() })?;
        unpack(&root, &clean, input, careful, owner)
    });
    let (_, done) = tokio::join!(feed, work);
    done?;
    container.tell(engine, "extract-to-dir", &[("path", told)]);
    Ok(answer::empty(StatusCode::OK))
}

/// Reads a request's body on a thread that may wait.
struct Input {
    receiver: mpsc::Receiver<io::Result<Bytes>>,
    piece: Bytes,
}

impl Read for Input {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.piece.is_empty() {
            match self.receiver.blocking_recv() {
                Some(piece) => self.piece = piece?,
                None => return Ok(0),
            }
        }
        let count = self.piece.len().min(buffer.len());
        buffer[..count].copy_from_slice(&self.piece.split_to(count));
        Ok(count)
    }
}

/// The archive itself: it may be compressed with gzip or zstd.
fn decompressed(mut input: Input) -> io::Result<Box<dyn Read>> {
    let mut start = Vec::new();
    input.by_ref().take(4).read_to_end(&mut start)?;
    let gzip = start.starts_with(&[0x1f, 0x8b]);
    let zstd = start.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]);
    let whole = io::Cursor::new(start).chain(input);
    Ok(match (gzip, zstd) {
        (true, _) => Box::new(flate2::read::MultiGzDecoder::new(whole)),
        (_, true) => Box::new(zstd::Decoder::new(whole)?),
        _ => Box::new(whole),
    })
}

/// Unpacks an archive into a directory of the container.
fn unpack(root: &Root, into: &str, input: impl Read, careful: bool, owner: Option<(u32, u32)>) -> anyhow::Result<()> {
    let mut archive = Archive::new(input);
    let mut times: Vec<(String, u64)> = Vec::new();
    for entry in archive.entries()? {
        let mut entry = entry.map_err(|error| Error::invalid(format!("read archive: {error}")))?;
        let path = entry.path()?.into_owned();
        let bad = |component: Component<'_>| matches!(component, Component::ParentDir | Component::Prefix(_));
        if path.components().any(bad) || path.components().count() > DEPTH {
            anyhow::bail!(Error::invalid(format!("archive: {} leads elsewhere", path.display())));
        }
        let Some(path) = path.to_str() else { anyhow::bail!(Error::invalid("archive: a name is not UTF-8")) };
        let whole = mounts::clean(&format!("{into}/{path}"));
        if whole == *into {
            continue;
        }
        let (above, name) = whole.rsplit_once('/').unwrap_or(("", &whole));
        let parent = make_directories(root, above)?;
        let modified = entry.header().mtime().unwrap_or(0);
        put_entry(root, &parent, name, &whole, into, &mut entry, careful, owner)
            .with_context(|| format!("unpack {whole}"))?;
        if entry.header().entry_type().is_dir() {
            times.push((whole, modified));
        } else if !entry.header().entry_type().is_hard_link() {
            set_time(&parent, name, modified)?;
        }
    }
    for (path, modified) in times.into_iter().rev() {
        let (above, name) = path.rsplit_once('/').unwrap_or(("", &path));
        let parent = root.open(above, OFlags::PATH | OFlags::DIRECTORY, Mode::empty())?;
        set_time(&parent, name, modified)?;
    }
    Ok(())
}

/// The directory of that path, made with those above it where it is missing.
fn make_directories(root: &Root, path: &str) -> anyhow::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    match root.open(path, flags, Mode::empty()) {
        Ok(found) => return Ok(found),
        Err(rustix::io::Errno::NOENT) if !path.is_empty() => {}
        Err(error) => return Err(error).with_context(|| format!("open {path}")),
    }
    let (above, name) = path.rsplit_once('/').unwrap_or(("", path));
    let parent = make_directories(root, above)?;
    rustix::fs::mkdirat(&parent, name, Mode::from_raw_mode(0o755)).with_context(|| format!("make {path}"))?;
    root.open(path, flags, Mode::empty()).with_context(|| format!("open {path}"))
}

fn set_time(parent: &OwnedFd, name: &str, seconds: u64) -> anyhow::Result<()> {
    let time = Timespec { tv_sec: i64::try_from(seconds).unwrap_or(0), tv_nsec: 0 };
    let times = Timestamps { last_access: time, last_modification: time };
    match rustix::fs::utimensat(parent, name, &times, AtFlags::SYMLINK_NOFOLLOW) {
        Err(error) if error != rustix::io::Errno::NOENT => {
            Err(error).with_context(|| format!("set the time of {name}"))
        }
        _ => Ok(()),
    }
}

#[expect(clippy::too_many_arguments, reason = "one entry in all its parts, used once")]
fn put_entry<R: Read>(
    root: &Root,
    parent: &OwnedFd,
    name: &str,
    whole: &str,
    into: &str,
    entry: &mut tar::Entry<'_, R>,
    careful: bool,
    owner: Option<(u32, u32)>,
) -> anyhow::Result<()> {
    let kind = entry.header().entry_type();
    let existing = rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW).ok();
    let is_dir = existing.is_some_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Directory);
    if careful && existing.is_some() && is_dir != kind.is_dir() {
        let (old, new) = if is_dir { ("directory", "non-directory") } else { ("non-directory", "directory") };
        anyhow::bail!(Error::invalid(format!("cannot overwrite {old} {whole:?} with {new} {whole:?}")));
    }
    if existing.is_some() && !(is_dir && kind.is_dir()) {
        remove(parent, name, 0)?;
    }
    let mode = Mode::from_raw_mode(entry.header().mode().unwrap_or(0o644) & 0o7777);
    match kind {
        EntryType::Directory => {
            if !is_dir || existing.is_none() {
                rustix::fs::mkdirat(parent, name, mode)?;
            }
        }
        EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => {
            let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let mut file = File::from(rustix::fs::openat(parent, name, flags, mode)?);
            io::copy(entry, &mut file)?;
        }
        EntryType::Symlink => {
            let target = entry.link_name()?.context("a link that leads nowhere")?;
            rustix::fs::symlinkat(target.as_os_str(), parent, name)?;
        }
        EntryType::Link => {
            let target = entry.link_name()?.context("a link that leads nowhere")?;
            let target = mounts::clean(&format!("{into}/{}", target.display()));
            let (above, first) = target.rsplit_once('/').unwrap_or(("", &target));
            let directory = root.open(above, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
            rustix::fs::linkat(&directory, first, parent, name, AtFlags::empty())?;
            return Ok(());
        }
        EntryType::Char | EntryType::Block | EntryType::Fifo => {
            let file = match kind {
                EntryType::Char => FileType::CharacterDevice,
                EntryType::Block => FileType::BlockDevice,
                _ => FileType::Fifo,
            };
            let number = |part: io::Result<Option<u32>>| part.ok().flatten().unwrap_or(0);
            let device =
                rustix::fs::makedev(number(entry.header().device_major()), number(entry.header().device_minor()));
            rustix::fs::mknodat(parent, name, file, mode, device)?;
        }
        _ => return Ok(()),
    }
    let (uid, gid) = match owner {
        Some(owner) => owner,
        None => (u32::try_from(entry.header().uid()?)?, u32::try_from(entry.header().gid()?)?),
    };
    let (user, group) = (rustix::fs::Uid::from_raw(uid), rustix::fs::Gid::from_raw(gid));
    rustix::fs::chownat(parent, name, Some(user), Some(group), AtFlags::SYMLINK_NOFOLLOW)?;
    if kind != EntryType::Symlink {
        // After the change of owner, which takes bits away; what was just made is no link.
        rustix::fs::chmodat(parent, name, mode, AtFlags::empty())?;
    }
    Ok(())
}

/// Removes a file, or a directory with all in it.
fn remove(parent: &OwnedFd, name: &str, depth: usize) -> anyhow::Result<()> {
    anyhow::ensure!(depth <= DEPTH, "directories are nested too deeply");
    match rustix::fs::unlinkat(parent, name, AtFlags::empty()) {
        Ok(()) => return Ok(()),
        Err(rustix::io::Errno::ISDIR | rustix::io::Errno::PERM) => {}
        Err(error) => return Err(error.into()),
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let directory = rustix::fs::openat(parent, name, flags, Mode::empty())?;
    for found in Dir::read_from(&directory)? {
        let found = found?;
        if let Ok(below) = found.file_name().to_str()
            && !matches!(below, "." | "..")
        {
            remove(&directory, below, depth + 1)?;
        }
    }
    Ok(rustix::fs::unlinkat(parent, name, AtFlags::REMOVEDIR)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packed(dir: &Path, name: &str) -> Vec<u8> {
        let parent = rustix::fs::openat(rustix::fs::CWD, dir, OFlags::PATH | OFlags::DIRECTORY, Mode::empty()).unwrap();
        let mut archive = Builder::new(Vec::new());
        let mut tree = Tree { root: parent.as_fd(), same_device: None, links: HashMap::new() };
        tree.add(&mut archive, parent.as_fd(), name.as_bytes(), Path::new(name), 0).unwrap();
        archive.into_inner().unwrap()
    }

    #[test]
    fn a_tree_comes_out_as_it_went_in() {
        let dir = tempfile::tempdir().unwrap();
        let from = dir.path().join("from/sub");
        std::fs::create_dir_all(&from).unwrap();
        std::fs::write(from.join("file"), "text").unwrap();
        std::fs::hard_link(from.join("file"), from.join("same")).unwrap();
        std::os::unix::fs::symlink("file", from.join("link")).unwrap();
        let bytes = packed(dir.path(), "from");
        let to = dir.path().join("to");
        std::fs::create_dir(&to).unwrap();
        let root = Root::of_directory(dir.path()).unwrap();
        let owner = Some((rustix::process::getuid().as_raw(), rustix::process::getgid().as_raw()));
        unpack(&root, "/to", bytes.as_slice(), false, owner).unwrap();
        assert_eq!(std::fs::read_to_string(to.join("from/sub/same")).unwrap(), "text");
        assert_eq!(std::fs::read_link(to.join("from/sub/link")).unwrap(), Path::new("file"));
        // Again, over what is there.
        unpack(&root, "/to", bytes.as_slice(), true, owner).unwrap();
    }

    #[test]
    fn an_archive_leads_nowhere_else() {
        let dir = tempfile::tempdir().unwrap();
        let inside = dir.path().join("root/in");
        std::fs::create_dir_all(&inside).unwrap();
        std::os::unix::fs::symlink("/", inside.join("up")).unwrap();
        let root = Root::of_directory(&dir.path().join("root")).unwrap();
        let owner = Some((rustix::process::getuid().as_raw(), rustix::process::getgid().as_raw()));
        let archive = |path: &str| {
            let mut builder = Builder::new(Vec::new());
            let mut header = Header::new_gnu();
            header.set_size(1);
            header.set_mode(0o644);
            header.as_gnu_mut().unwrap().name[..path.len()].copy_from_slice(path.as_bytes());
            header.set_cksum();
            builder.append(&header, b"x".as_slice()).unwrap();
            builder.into_inner().unwrap()
        };
        assert!(unpack(&root, "/in", archive("../../evil").as_slice(), false, owner).is_err());
        unpack(&root, "/in", archive("up/file").as_slice(), false, owner).unwrap();
        assert!(dir.path().join("root/file").exists(), "a link to / leads to the container's own root");
        assert!(!dir.path().join("evil").exists());
    }
}
