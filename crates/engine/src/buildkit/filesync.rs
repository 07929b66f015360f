//! Files from and to a client, by fsutil's protocol over a session.
//!
//! ```text
//! sender ── Stat, Stat, ... Stat without a path ──▶ receiver     the tree, sorted, each entry counted from 0
//!        ◀── Request (number) ──────────────────────────────     a file whose content is wanted
//!        ── Data (number, bytes) ... Data (number, nothing) ──▶  its content
//!        ◀── End ── all is here          ── End ──▶
//! ```
//!
//! What a client sends is taken apart entry by entry into a directory of our own: no path is absolute or leads upward, and what is
//! above an entry has to be a directory that was sent before, so that nothing goes through a link.
//!
//! <https://github.com/tonistiigi/fsutil/blob/master/receive.go>,
//! <https://github.com/moby/buildkit/blob/v0.34.0/session/filesync/filesync.proto>

use std::{
    collections::{HashMap, HashSet, VecDeque},
    fs::{File, OpenOptions, Permissions},
    io::{self, Read, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt, symlink},
    path::{Component, Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, anyhow, bail};
use build::tree::Root;
use bytes::Bytes;
use futures::TryStreamExt as _;
use oci::query::encoded;
use rustix::fs::{AtFlags, FileType, Mode, OFlags, Timespec, Timestamps};
use tokio::sync::mpsc;
use tonic::metadata::MetadataMap;

use super::{
    grpc::{self, Answers},
    session::{Session, ascii},
    wire::{BytesMessage, Packet, PacketType, Stat},
};

const RECEIVE: &str = "/moby.filesync.v1.FileSync/DiffCopy";
const SEND: &str = "/moby.filesync.v1.FileSend/DiffCopy";

/// Most entries of a tree.
const ENTRIES: usize = 2_000_000;
/// Files on their way at a time, each an open descriptor.
const OPEN: usize = 48;
/// Bytes of content in a message that is sent.
const PIECE: usize = 64 << 10;
/// Messages that wait.
const WAITING: usize = 64;
/// How long the other side may say nothing.
const SILENCE: Duration = Duration::from_secs(300);
/// Deepest directory that is sent.
const DEPTH: usize = 1000;

/// Bits of Go's `fs.FileMode`: <https://pkg.go.dev/io/fs#FileMode>.
mod mode {
    pub const DIRECTORY: u32 = 1 << 31;
    pub const SYMLINK: u32 = 1 << 27;
    pub const DEVICE: u32 = 1 << 26;
    pub const PIPE: u32 = 1 << 25;
    pub const SOCKET: u32 = 1 << 24;
    pub const SETUID: u32 = 1 << 23;
    pub const SETGID: u32 = 1 << 22;
    pub const CHARACTER: u32 = 1 << 21;
    pub const STICKY: u32 = 1 << 20;
    pub const IRREGULAR: u32 = 1 << 19;
    pub const TYPE: u32 = DIRECTORY | SYMLINK | PIPE | SOCKET | DEVICE | CHARACTER | IRREGULAR;
}

/// Which files of a client.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// What the client calls the directory: `context`, `dockerfile`.
    pub name: String,
    /// Only these; all without any.
    pub follow: Vec<String>,
    /// Not these, as `.dockerignore` writes them.
    pub exclude: Vec<String>,
}

/// How much came.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Received {
    /// Files, directories and the rest.
    pub entries: usize,
    /// Bytes of files.
    pub bytes: u64,
}

/// Fetches files into an empty directory. `told` hears of bytes as they come.
pub async fn receive(
    session: &Session,
    wanted: &Wanted,
    into: &Path,
    told: impl Fn(u64) + Send + 'static,
) -> anyhow::Result<Received> {
    let named = || format!("transfer {} from the client", wanted.name);
    if !session.has(RECEIVE) {
        bail!("{}: it offers no files", named());
    }
    let metadata = metadata(&[
        ("dir-name", std::slice::from_ref(&wanted.name)),
        ("followpaths", &wanted.follow),
        ("exclude-patterns", &wanted.exclude),
    ])?;
    let (sender, messages) = mpsc::channel(WAITING);
    let mut answers = session.channel().streaming(RECEIVE, metadata, grpc::from_channel(messages));
    let (packets, arrived) = mpsc::channel(WAITING);
    let receiver = Receiver::new(into.to_owned(), sender.clone());
    let working = tokio::task::spawn_blocking(move || receiver.run(arrived, told));
    let forwarded = forward(&mut answers, packets).await;
    let received = working.await.context("a thread that writes files")?;
    if let Err(error) = &received {
        let data = Bytes::from(format!("{error:#}"));
        let _ = sender.send(Packet { kind: PacketType::Error.into(), data, ..Packet::default() }).await;
    }
    // What was written has the better reason; of the connection only that it ended.
    let received = received.and_then(|received| forwarded.map(|()| received)).with_context(named)?;
    drop(sender);
    // The client ends the stream once it has heard that all is here.
    let _ = tokio::time::timeout(SILENCE, answers.try_next()).await;
    Ok(received)
}

/// Hands packets over until the sender's end.
async fn forward(answers: &mut Answers<Packet>, packets: mpsc::Sender<Packet>) -> anyhow::Result<()> {
    loop {
        let Ok(next) = tokio::time::timeout(SILENCE, answers.try_next()).await else {
            bail!("nothing has come for {} seconds", SILENCE.as_secs());
        };
        let Some(packet) = next.map_err(|status| anyhow!("{}", status.message()))? else { return Ok(()) };
        let end = packet.kind == i32::from(PacketType::End);
        if packets.send(packet).await.is_err() || end {
            return Ok(());
        }
    }
}

/// Metadata of lists; what is not ASCII is encoded, with a flag that says so.
fn metadata(lists: &[(&'static str, &[String])]) -> anyhow::Result<MetadataMap> {
    let mut metadata = MetadataMap::new();
    for (key, values) in lists {
        let encode = values.iter().any(|value| !value.is_ascii());
        for value in *values {
            let text = if encode { encoded(value) } else { value.clone() };
            metadata.append(*key, ascii(&text).map_err(|status| anyhow!("{}", status.message()))?);
        }
        if encode {
            let flag = tonic::metadata::AsciiMetadataKey::from_bytes(format!("{key}-encoded").as_bytes())?;
            metadata.insert(flag, ascii("1").map_err(|status| anyhow!("{}", status.message()))?);
        }
    }
    Ok(metadata)
}

/// Takes packets apart into files.
struct Receiver {
    root: PathBuf,
    sender: mpsc::Sender<Packet>,
    /// Directories that were sent, by their paths.
    directories: HashSet<PathBuf>,
    /// To be set once nothing is written into them any more.
    finishing: Vec<(PathBuf, Stat)>,
    /// Links to files that may not be whole yet: made at the end.
    entries: usize,
    bytes: u64,
    /// Files that are wanted, and not asked for yet.
    queue: VecDeque<(u32, PathBuf, Stat)>,
    open: HashMap<u32, (File, PathBuf, Stat)>,
    listed: bool,
}

impl Receiver {
    fn new(root: PathBuf, sender: mpsc::Sender<Packet>) -> Self {
        Self {
            root,
            sender,
            directories: HashSet::from([PathBuf::new()]),
            finishing: Vec::new(),
            entries: 0,
            bytes: 0,
            queue: VecDeque::new(),
            open: HashMap::new(),
            listed: false,
        }
    }

    fn run(mut self, mut packets: mpsc::Receiver<Packet>, told: impl Fn(u64)) -> anyhow::Result<Received> {
        while let Some(packet) = packets.blocking_recv() {
            match PacketType::try_from(packet.kind) {
                Ok(PacketType::Stat) => match packet.stat {
                    Some(stat) => self.entry(stat)?,
                    None => self.listed = true,
                },
                Ok(PacketType::Data) => {
                    self.content(packet.id, &packet.data)?;
                    told(self.bytes);
                }
                Ok(PacketType::Error) => bail!("the client says: {}", String::from_utf8_lossy(&packet.data)),
                // All was asked for and came.
                Ok(PacketType::End) => return Ok(Received { entries: self.entries, bytes: self.bytes }),
                Ok(PacketType::Request) | Err(_) => bail!("the client sends packets of kind {}", packet.kind),
            }
            self.ask()?;
            if self.listed && self.queue.is_empty() && self.open.is_empty() {
                self.finish()?;
                self.listed = false;
                self.say(Packet { kind: PacketType::End.into(), ..Packet::default() })?;
            }
        }
        bail!("the connection ended early")
    }

    fn say(&self, packet: Packet) -> anyhow::Result<()> {
        self.sender.blocking_send(packet).map_err(|_| anyhow!("the connection has ended"))
    }

    /// Makes an entry, or queues it where its content has to be asked for.
    fn entry(&mut self, stat: Stat) -> anyhow::Result<()> {
        let number = u32::try_from(self.entries).unwrap_or(u32::MAX);
        self.entries += 1;
        if self.entries > ENTRIES {
            bail!("more than {ENTRIES} files");
        }
        let path = self.place(&stat.path)?;
        let full = self.root.join(&path);
        let named = || format!("write {}", stat.path);
        match stat.mode & mode::TYPE {
            mode::DIRECTORY => {
                std::fs::DirBuilder::new().mode(0o700).create(&full).with_context(named)?;
                self.directories.insert(path);
                self.finishing.push((full, stat));
            }
            mode::SYMLINK => {
                symlink(&stat.link, &full).with_context(named)?;
                times(&full, stat.modified).with_context(named)?;
            }
            0 if !stat.link.is_empty() => {
                let target = self.root.join(self.place(&stat.link)?);
                let is_file = target.symlink_metadata().with_context(named)?.is_file();
                if !is_file {
                    bail!("{} is a link to {}, which is no file", stat.path, stat.link);
                }
                std::fs::hard_link(&target, &full).with_context(named)?;
            }
            0 => {
                let file =
                    OpenOptions::new().write(true).create_new(true).mode(0o600).open(&full).with_context(named)?;
                match stat.size {
                    0 => dress(&file, &stat).with_context(named)?,
                    _ => self.queue.push_back((number, full, stat)),
                }
            }
            // Sockets are files without a type and content by now; what is left has a number or is a pipe.
            mode::PIPE | mode::DEVICE => node(&full, &stat).with_context(named)?,
            kind if kind == mode::DEVICE | mode::CHARACTER => node(&full, &stat).with_context(named)?,
            kind => bail!("{} is of a type that is not known: {kind:#x}", stat.path),
        }
        Ok(())
    }

    /// The path of an entry, which stays below directories that were sent.
    fn place(&self, path: &str) -> anyhow::Result<PathBuf> {
        let place = Path::new(path);
        let plain = place.components().all(|part| matches!(part, Component::Normal(_)));
        let clean: PathBuf = place.components().collect();
        if path.is_empty() || !plain || clean.as_os_str() != place.as_os_str() || path.contains('\0') {
            bail!("the client sends the path {path:?}, which may lead elsewhere");
        }
        let above = clean.parent().unwrap_or(Path::new(""));
        if !self.directories.contains(above) {
            bail!("the client sends {path:?}, but not the directory that it is in");
        }
        Ok(clean)
    }

    /// Asks for the content of as many files as may be open.
    fn ask(&mut self) -> anyhow::Result<()> {
        while self.open.len() < OPEN
            && let Some((number, path, stat)) = self.queue.pop_front()
        {
            let file = OpenOptions::new().write(true).open(&path).with_context(|| format!("write {}", stat.path))?;
            self.open.insert(number, (file, path, stat));
            self.say(Packet { kind: PacketType::Request.into(), id: number, ..Packet::default() })?;
        }
        Ok(())
    }

    fn content(&mut self, number: u32, data: &[u8]) -> anyhow::Result<()> {
        if data.is_empty() {
            let Some((file, _, stat)) = self.open.remove(&number) else { bail!("nobody asked for file {number}") };
            return dress(&file, &stat).with_context(|| format!("write {}", stat.path));
        }
        let Some((file, _, stat)) = self.open.get_mut(&number) else { bail!("nobody asked for file {number}") };
        self.bytes += data.len() as u64;
        file.write_all(data).with_context(|| format!("write {}", stat.path))
    }

    /// Modes and times of directories, the innermost first.
    fn finish(&mut self) -> anyhow::Result<()> {
        for (path, stat) in self.finishing.drain(..).rev() {
            let directory = File::open(&path).with_context(|| format!("write {}", stat.path))?;
            dress(&directory, &stat).with_context(|| format!("write {}", stat.path))?;
        }
        Ok(())
    }
}

/// Gives a file its attributes, mode and time.
fn dress(file: &File, stat: &Stat) -> io::Result<()> {
    for (name, value) in &stat.attributes {
        // Others mean something to this machine only.
        if name.starts_with("user.") || name == "security.capability" {
            rustix::fs::fsetxattr(file, name.as_str(), value, rustix::fs::XattrFlags::empty())?;
        }
    }
    file.set_permissions(Permissions::from_mode(permissions(stat.mode)))?;
    rustix::fs::futimens(file, &moments(stat.modified))?;
    Ok(())
}

fn times(path: &Path, modified: i64) -> io::Result<()> {
    Ok(rustix::fs::utimensat(rustix::fs::CWD, path, &moments(modified), AtFlags::SYMLINK_NOFOLLOW)?)
}

fn moments(nanoseconds: i64) -> Timestamps {
    let time =
        Timespec { tv_sec: nanoseconds.div_euclid(1_000_000_000), tv_nsec: nanoseconds.rem_euclid(1_000_000_000) };
    Timestamps { last_access: time, last_modification: time }
}

fn node(path: &Path, stat: &Stat) -> io::Result<()> {
    let kind = match stat.mode & mode::TYPE {
        mode::PIPE => FileType::Fifo,
        mode::DEVICE => FileType::BlockDevice,
        _ => FileType::CharacterDevice,
    };
    let number = |number: i64| u32::try_from(number).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput));
    let device = rustix::fs::makedev(number(stat.device_major)?, number(stat.device_minor)?);
    rustix::fs::mknodat(rustix::fs::CWD, path, kind, Mode::from_raw_mode(permissions(stat.mode)), device)?;
    std::fs::set_permissions(path, Permissions::from_mode(permissions(stat.mode)))?;
    times(path, stat.modified)
}

/// Go's bits as the system's.
fn permissions(bits: u32) -> u32 {
    let mut mode = bits & 0o777;
    for (theirs, ours) in [(mode::SETUID, 0o4000), (mode::SETGID, 0o2000), (mode::STICKY, 0o1000)] {
        if bits & theirs != 0 {
            mode |= ours;
        }
    }
    mode
}

/// The system's bits as Go's.
fn go_mode(raw: u32) -> u32 {
    let mut bits = raw & 0o777;
    for (theirs, ours) in [(mode::SETUID, 0o4000), (mode::SETGID, 0o2000), (mode::STICKY, 0o1000)] {
        if raw & ours != 0 {
            bits |= theirs;
        }
    }
    bits | match FileType::from_raw_mode(raw) {
        FileType::Directory => mode::DIRECTORY,
        FileType::Symlink => mode::SYMLINK,
        FileType::Fifo => mode::PIPE,
        FileType::BlockDevice => mode::DEVICE,
        FileType::CharacterDevice => mode::DEVICE | mode::CHARACTER,
        FileType::Socket => mode::SOCKET,
        _ => 0,
    }
}

/// The status of a file as clients read it.
pub fn stat(root: &Root, path: &Path) -> io::Result<Option<Stat>> {
    let Some(status) = root.status(path, false)? else { return Ok(None) };
    Ok(Some(described(root, path, &status)?))
}

fn described(root: &Root, path: &Path, status: &rustix::fs::Stat) -> io::Result<Stat> {
    let kind = FileType::from_raw_mode(status.st_mode);
    let link = match kind {
        FileType::Symlink => {
            let found = root.open(path, OFlags::PATH | OFlags::NOFOLLOW)?;
            rustix::fs::readlinkat(&found, "", Vec::new())?.to_string_lossy().into_owned()
        }
        _ => String::new(),
    };
    let is_device = matches!(kind, FileType::BlockDevice | FileType::CharacterDevice);
    let device = |part: fn(u64) -> u32| if is_device { i64::from(part(status.st_rdev)) } else { 0 };
    Ok(Stat {
        path: path.to_string_lossy().trim_start_matches('/').to_owned(),
        mode: go_mode(status.st_mode),
        uid: status.st_uid,
        gid: status.st_gid,
        size: if kind == FileType::Directory { 0 } else { status.st_size },
        modified: status.st_mtime.saturating_mul(1_000_000_000).saturating_add(status.st_mtime_nsec as i64),
        link,
        device_major: device(rustix::fs::major),
        device_minor: device(rustix::fs::minor),
        attributes: HashMap::new(),
    })
}

/// Where an exporter's result goes.
fn target(exporter: usize, more: &[(String, String)]) -> anyhow::Result<MetadataMap> {
    let mut metadata = MetadataMap::new();
    let value = |text: &str| ascii(text).map_err(|status| anyhow!("{}", status.message()));
    metadata.insert("buildkit-attachable-exporter-id", value(&exporter.to_string())?);
    metadata.insert("buildkit-exporter-multi-platform", value("1")?);
    for (key, text) in more {
        let key = format!("exporter-md-{}", key.to_ascii_lowercase());
        let Ok(key) = tonic::metadata::AsciiMetadataKey::from_bytes(key.as_bytes()) else { continue };
        metadata.insert(key, value(text)?);
    }
    Ok(metadata)
}

/// Sends a stream of bytes as the result of an exporter, by its number; the client writes it to a file.
pub async fn send_file(
    session: &Session,
    exporter: usize,
    about: &[(String, String)],
    mut file: impl tokio::io::AsyncRead + Unpin,
) -> anyhow::Result<u64> {
    use tokio::io::AsyncReadExt as _;
    require_sink(session)?;
    let (sender, messages) = mpsc::channel(WAITING);
    let metadata = target(exporter, about)?;
    let mut answers: Answers<BytesMessage> = session.channel().streaming(SEND, metadata, grpc::from_channel(messages));
    let sending = async move {
        let mut sent = 0;
        loop {
            let mut piece = bytes::BytesMut::with_capacity(4 * PIECE);
            let length = file.read_buf(&mut piece).await.context("send to the client")?;
            if length == 0 {
                return anyhow::Ok(sent);
            }
            sent += length as u64;
            // Why it hears no more is in its answer.
            if sender.send(BytesMessage { data: piece.freeze() }).await.is_err() {
                return Ok(sent);
            }
        }
    };
    // It ends the stream when all is written.
    let (sent, answer) = tokio::join!(sending, answers.try_next());
    answer.map_err(|status| anyhow!("send to the client: {}", status.message()))?;
    sent
}

fn require_sink(session: &Session) -> anyhow::Result<()> {
    match session.has(SEND) {
        true => Ok(()),
        false => bail!("the client takes no files: it has not said where the result goes"),
    }
}

/// Sends all files of a tree as the result of an exporter; the client writes them to a directory.
pub async fn send_tree(session: &Session, exporter: usize, root: Root) -> anyhow::Result<u64> {
    require_sink(session)?;
    let (sender, messages) = mpsc::channel::<Packet>(WAITING);
    let metadata = target(exporter, &[])?;
    let mut answers: Answers<Packet> = session.channel().streaming(SEND, metadata, grpc::from_channel(messages));
    // The client asks while it still hears of files: were it held up, it would hold up what it hears.
    let (requests, wanted) = mpsc::channel(ENTRIES);
    let working =
        tokio::task::spawn_blocking(move || Sender { root, sender, files: HashMap::new(), number: 0 }.run(wanted));
    let heard = async {
        loop {
            match answers.try_next().await {
                Ok(Some(packet)) => {
                    if requests.send(packet).await.is_err() {
                        return Ok(());
                    }
                }
                Ok(None) => return Ok(()),
                Err(status) => return Err(anyhow!("send to the client: {}", status.message())),
            }
        }
    };
    let heard = heard.await;
    drop(requests);
    let sent = working.await.context("a thread that reads files")?;
    heard.and(sent)
}

/// Reads a tree, and the content of what is asked for.
struct Sender {
    root: Root,
    sender: mpsc::Sender<Packet>,
    files: HashMap<u32, PathBuf>,
    number: u32,
}

impl Sender {
    fn run(mut self, mut wanted: mpsc::Receiver<Packet>) -> anyhow::Result<u64> {
        let mut first = HashMap::new();
        self.walk(Path::new("/"), 0, &mut first)?;
        self.say(Packet { kind: PacketType::Stat.into(), ..Packet::default() })?;
        let mut sent = 0;
        while let Some(packet) = wanted.blocking_recv() {
            match PacketType::try_from(packet.kind) {
                Ok(PacketType::Request) => sent += self.content(packet.id)?,
                Ok(PacketType::End) => {
                    self.say(Packet { kind: PacketType::End.into(), ..Packet::default() })?;
                    return Ok(sent);
                }
                Ok(PacketType::Error) => bail!("the client says: {}", String::from_utf8_lossy(&packet.data)),
                _ => bail!("the client sends packets of kind {}", packet.kind),
            }
        }
        bail!("the connection ended early")
    }

    fn say(&self, packet: Packet) -> anyhow::Result<()> {
        self.sender.blocking_send(packet).map_err(|_| anyhow!("the client has gone"))
    }

    fn walk(&mut self, directory: &Path, depth: usize, first: &mut HashMap<(u64, u64), String>) -> anyhow::Result<()> {
        if depth > DEPTH {
            bail!("directories are nested deeper than {DEPTH}");
        }
        let names = self.root.names(directory).with_context(|| format!("read {}", directory.display()))?;
        for name in names {
            use std::os::unix::ffi::OsStrExt as _;
            let path = directory.join(std::ffi::OsStr::from_bytes(name.to_bytes()));
            let named = || format!("read {}", path.display());
            let Some(status) = self.root.status(&path, false).with_context(named)? else { continue };
            let kind = FileType::from_raw_mode(status.st_mode);
            if kind == FileType::Socket {
                continue;
            }
            let mut stat = described(&self.root, &path, &status).with_context(named)?;
            if kind == FileType::RegularFile && status.st_nlink > 1 {
                match first.get(&(status.st_dev, status.st_ino)) {
                    Some(other) => stat.link.clone_from(other),
                    None => drop(first.insert((status.st_dev, status.st_ino), stat.path.clone())),
                }
            }
            if stat.mode & mode::TYPE == 0 {
                self.files.insert(self.number, path.clone());
            }
            self.number = self.number.checked_add(1).ok_or_else(|| anyhow!("there are too many files"))?;
            self.say(Packet { kind: PacketType::Stat.into(), stat: Some(stat), ..Packet::default() })?;
            if kind == FileType::Directory {
                self.walk(&path, depth + 1, first)?;
            }
        }
        Ok(())
    }

    fn content(&mut self, number: u32) -> anyhow::Result<u64> {
        let Some(path) = self.files.remove(&number) else {
            bail!("the client asks for file {number}, which there is not")
        };
        let named = || format!("read {}", path.display());
        let mut file = File::from(self.root.open(&path, OFlags::RDONLY | OFlags::NOFOLLOW).with_context(named)?);
        let mut sent = 0;
        let mut buffer = vec![0; PIECE];
        loop {
            let length = file.read(&mut buffer).with_context(named)?;
            let data = Bytes::copy_from_slice(&buffer[..length]);
            self.say(Packet { kind: PacketType::Data.into(), id: number, data, ..Packet::default() })?;
            if length == 0 {
                return Ok(sent);
            }
            sent += length as u64;
        }
    }
}

#[cfg(test)]
mod tests;
