//! What a container has said: `GET /containers/ID/logs`.
//!
//! The shim writes CRI's format; rotated files are beside the current one with `.1`, `.2` ... behind.
//!
//! ```text
//! 2026-01-01T00:00:00.000000000Z stdout F text        F: a whole line, P: part of one
//! ```
//!
//! Following waits for the kernel to say that the directory has changed; nothing is polled.

use std::{
    fs::{self, File},
    io::{self, Read as _, Seek as _, SeekFrom},
    os::{fd::OwnedFd, unix::fs::MetadataExt as _},
    path::{Path, PathBuf},
    sync::Arc,
};

use bytes::Bytes;
use http::Response;
use jiff::Timestamp;
use rustix::fs::inotify;
use serve::{Body, body};
use tokio::{
    io::{AsyncWrite, AsyncWriteExt as _, unix::AsyncFd},
    sync::mpsc,
};

use crate::{
    Engine, answer,
    call::Call,
    container::{
        Container,
        attach::{MULTIPLEXED, RAW},
    },
    error::{Error, Result},
    filter,
};

/// Bytes read at once.
const CHUNK: usize = 64 * 1024;
/// Bytes of a record that are kept while its end is awaited: the shim's lines are shorter.
const RECORD: usize = 256 * 1024;

/// What is wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Options {
    pub(crate) follow: bool,
    pub(crate) stdout: bool,
    pub(crate) stderr: bool,
    pub(crate) timestamps: bool,
    /// Labels that the log options name, in front of each line.
    pub(crate) details: String,
    pub(crate) since: Option<Timestamp>,
    pub(crate) until: Option<Timestamp>,
    /// Lines from the end.
    pub(crate) tail: Option<u64>,
}

impl Options {
    fn of(call: &Call, container: &Container) -> Result<Self> {
        let query = &call.query;
        let (stdout, stderr) = (query.flag("stdout"), query.flag("stderr"));
        if !stdout && !stderr {
            return Err(Error::invalid("Bad parameters: you must choose at least one stream"));
        }
        let now = Timestamp::now();
        let time = |name: &str| -> Result<Option<Timestamp>> {
            let Some(text) = query.filled(name).filter(|text| *text != "0") else { return Ok(None) };
            filter::moment(text, now).map(Some)
        };
        let tail = query.filled("tail").and_then(|text| text.parse::<i64>().ok());
        let details = if query.flag("details") { details(container) } else { String::new() };
        Ok(Self {
            follow: query.flag("follow"),
            stdout,
            stderr,
            timestamps: query.flag("timestamps"),
            details,
            since: time("since")?,
            until: time("until")?,
            // Anything but a number means all, as upstream has it.
            tail: tail.and_then(|lines| u64::try_from(lines).ok()),
        })
    }
}

/// Labels and variables that the log options `labels` and `env` name.
fn details(container: &Container) -> String {
    container.look(|record| {
        let names = |option: &str| {
            let list = record.host.log_config.config.get(option).cloned().unwrap_or_default();
            list.split(',').map(str::to_owned).collect::<Vec<_>>()
        };
        let labels = names("labels");
        let variables = names("env");
        let labels = record.config.labels.iter().filter(|(name, _)| labels.contains(name));
        let labels = labels.map(|(name, value)| format!("{name}={value}"));
        let pairs =
            record.config.env.iter().filter(|pair| {
                pair.split_once('=').is_some_and(|(name, _)| variables.iter().any(|wanted| wanted == name))
            });
        let mut all: Vec<String> = labels.chain(pairs.cloned()).collect();
        all.sort();
        all.join(",")
    })
}

/// Where a container logs.
pub(crate) fn path(engine: &Engine, id: &str) -> PathBuf {
    engine.container_dir(id).join("logs").join("log")
}

/// `GET /containers/ID/logs`.
pub(crate) fn answer(engine: &Engine, container: &Arc<Container>, call: &Call) -> Result<Response<Body>> {
    let options = Options::of(call, container)?;
    let (kind, terminal) = container.look(|record| (record.host.log_config.kind.clone(), record.config.tty));
    if kind == "none" {
        return Err(Error::unsupported("configured logging driver does not support reading"));
    }
    let log = path(engine, &container.id);
    let (sender, body) = body::channel(4);
    let container = container.clone();
    engine.task().spawn_until_cancelled("logs", async move {
        let done = tokio::select! {
            done = read(&container, log, options, &sender, terminal) => done,
            () = sender.closed() => Ok(()),
        };
        if let Err(error) = done {
            let _ = sender.send(Err(format!("read the log of container {}: {error}", container.id).into())).await;
        }
    });
    Ok(answer::typed(body, if terminal || call.version < 42 { RAW } else { MULTIPLEXED }))
}

/// Writes what there is of a log to a client that attaches.
pub(crate) async fn replay(
    engine: &Engine,
    container: &Arc<Container>,
    options: &Options,
    terminal: bool,
    writer: &mut (impl AsyncWrite + Unpin),
) -> io::Result<()> {
    let mut reader = Reader::open(path(engine, &container.id), options.clone())?;
    loop {
        let pieces = reader.next()?;
        if pieces.is_empty() {
            return Ok(());
        }
        for piece in pieces {
            writer.write_all(&piece.framed(terminal)).await?;
        }
    }
}

/// Reads a log to its end, and on while the container runs if that is wanted.
async fn read(
    container: &Arc<Container>,
    log: PathBuf,
    options: Options,
    sender: &mpsc::Sender<std::result::Result<Bytes, body::Error>>,
    terminal: bool,
) -> io::Result<()> {
    let follow = options.follow;
    if !log.exists() && !follow {
        return Ok(());
    }
    let directory = log.parent().unwrap_or(Path::new("/")).to_owned();
    if follow {
        fs::create_dir_all(&directory)?;
    }
    let changes = if follow { Some(Changes::of(&directory)?) } else { None };
    let mut progress = container.progress();
    let mut reader =
        tokio::task::spawn_blocking(move || Reader::open(log, options)).await.map_err(io::Error::other)??;
    loop {
        // Before the look, so that an end between the two is not missed.
        let (exits, removed) = {
            let now = progress.borrow_and_update();
            (now.exits, now.removed)
        };
        let live = container.look(|record| record.state.is_running()) && !removed;
        loop {
            let (back, pieces) = tokio::task::spawn_blocking(move || {
                let pieces = reader.next();
                (reader, pieces)
            })
            .await
            .map_err(io::Error::other)?;
            reader = back;
            let pieces = pieces?;
            if pieces.is_empty() {
                break;
            }
            for piece in pieces {
                if sender.send(Ok(piece.framed(terminal))).await.is_err() {
                    return Ok(());
                }
            }
        }
        let Some(changes) = changes.as_ref().filter(|_| live && !reader.is_over()) else { return Ok(()) };
        let deadline = reader.options.until.map(|until| until.duration_since(Timestamp::now()));
        let late = async {
            match deadline {
                Some(left) => tokio::time::sleep(std::time::Duration::try_from(left).unwrap_or_default()).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            changed = changes.next() => changed?,
            _ = progress.wait_for(|now| now.exits != exits || now.removed) => {}
            () = late => return Ok(()),
        }
    }
}

/// A line, or a part of one.
#[derive(Debug, PartialEq, Eq)]
struct Piece {
    stream: u8,
    bytes: Vec<u8>,
}

impl Piece {
    fn framed(self, raw: bool) -> Bytes {
        if raw {
            return self.bytes.into();
        }
        let length = u32::try_from(self.bytes.len()).unwrap_or(u32::MAX).to_be_bytes();
        let mut out = Vec::with_capacity(self.bytes.len() + 8);
        out.extend_from_slice(&[self.stream, 0, 0, 0]);
        out.extend_from_slice(&length);
        out.extend_from_slice(&self.bytes);
        out.into()
    }
}

/// Reads a log's files, the oldest first.
struct Reader {
    log: PathBuf,
    options: Options,
    file: Option<File>,
    queue: Vec<PathBuf>,
    /// The beginning of a record whose end is not there yet.
    begun: Vec<u8>,
    /// Whether the last piece of a stream was part of a line.
    partial: [bool; 2],
    over: bool,
}

impl Reader {
    fn open(log: PathBuf, options: Options) -> io::Result<Self> {
        let all = files(&log);
        let (first, offset) = match options.tail {
            Some(lines) => from_end(&all, lines)?,
            None => (0, 0),
        };
        let mut queue: Vec<PathBuf> = all.into_iter().skip(first).collect();
        let mut file = None;
        if !queue.is_empty() {
            let mut opened = File::open(queue.remove(0))?;
            opened.seek(SeekFrom::Start(offset))?;
            file = Some(opened);
        }
        Ok(Self { log, options, file, queue, begun: Vec::new(), partial: [false; 2], over: false })
    }

    /// Whether nothing that may come is wanted.
    fn is_over(&self) -> bool {
        self.over
    }

    /// The next pieces; none at the end, for now.
    fn next(&mut self) -> io::Result<Vec<Piece>> {
        let mut pieces = Vec::new();
        let mut chunk = vec![0; CHUNK];
        while pieces.is_empty() && !self.over {
            let count = match &mut self.file {
                Some(file) => file.read(&mut chunk)?,
                None => 0,
            };
            if count == 0 {
                if !self.turn()? {
                    break;
                }
                continue;
            }
            self.begun.extend_from_slice(&chunk[..count]);
            let Some(end) = self.begun.iter().rposition(|byte| *byte == b'\n') else {
                if self.begun.len() > RECORD {
                    self.begun.clear();
                }
                continue;
            };
            let rest = self.begun.split_off(end + 1);
            let whole = std::mem::replace(&mut self.begun, rest);
            for line in whole.split_inclusive(|byte| *byte == b'\n') {
                pieces.extend(self.piece(line));
                if self.over {
                    break;
                }
            }
        }
        Ok(pieces)
    }

    /// Goes on to the next file, if there is one: a queued one, or the current one after a rotation.
    fn turn(&mut self) -> io::Result<bool> {
        if !self.queue.is_empty() {
            self.file = Some(File::open(self.queue.remove(0))?);
            return Ok(true);
        }
        let all = files(&self.log);
        let newer: Vec<PathBuf> = match &self.file {
            None => all,
            Some(file) => {
                let here = file.metadata()?.ino();
                let count = all.len();
                let is_other = |path: &&PathBuf| fs::metadata(path).is_ok_and(|found| found.ino() != here);
                let newer: Vec<_> = all.iter().rev().take_while(is_other).cloned().collect();
                // One that is not among them was removed by rotation; all others came after it.
                if newer.len() == count && !self.log.exists() {
                    return Ok(false);
                }
                newer.into_iter().rev().collect()
            }
        };
        self.queue = newer;
        if self.queue.is_empty() {
            return Ok(false);
        }
        self.file = Some(File::open(self.queue.remove(0))?);
        Ok(true)
    }

    /// A record as the client gets it.
    fn piece(&mut self, line: &[u8]) -> Option<Piece> {
        let mut fields = line.splitn(4, |byte| *byte == b' ');
        let (time, stream, tag, text) = (fields.next()?, fields.next()?, fields.next()?, fields.next()?);
        let (stream, wanted) = match stream {
            b"stdout" => (1u8, self.options.stdout),
            b"stderr" => (2, self.options.stderr),
            _ => return None,
        };
        if !wanted {
            return None;
        }
        let options = &self.options;
        if options.since.is_some() || options.until.is_some() {
            let at: Timestamp = std::str::from_utf8(time).ok()?.parse().ok()?;
            if options.since.is_some_and(|since| at < since) {
                return None;
            }
            if options.until.is_some_and(|until| at > until) {
                self.over = true;
                return None;
            }
        }
        let mut bytes = Vec::with_capacity(line.len());
        let before = &mut self.partial[usize::from(stream - 1)];
        if !*before {
            if options.timestamps {
                bytes.extend_from_slice(time);
                bytes.push(b' ');
            }
            if !options.details.is_empty() {
                bytes.extend_from_slice(options.details.as_bytes());
                bytes.push(b' ');
            }
        }
        *before = tag.first() == Some(&b'P');
        bytes.extend_from_slice(if *before { text.strip_suffix(b"\n").unwrap_or(text) } else { text });
        Some(Piece { stream, bytes })
    }
}

/// The files of a log, the oldest first.
fn files(log: &Path) -> Vec<PathBuf> {
    let name = log.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let mut numbers: Vec<u32> = fs::read_dir(log.parent().unwrap_or(Path::new("/")))
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.strip_prefix(&name)?.strip_prefix('.')?.parse().ok())
        .collect();
    numbers.sort_unstable_by(|one, other| other.cmp(one));
    let mut found: Vec<PathBuf> =
        numbers.into_iter().map(|number| log.with_file_name(format!("{name}.{number}"))).collect();
    if log.exists() {
        found.push(log.to_owned());
    }
    found
}

/// The file (by position) and the offset in it at which the last `lines` records begin.
fn from_end(files: &[PathBuf], lines: u64) -> io::Result<(usize, u64)> {
    if lines == 0 {
        let last = files.len().saturating_sub(1);
        return Ok((last, files.last().map_or(Ok(0), |path| fs::metadata(path).map(|found| found.len()))?));
    }
    let mut wanted = lines;
    let mut buffer = vec![0; CHUNK];
    for (index, path) in files.iter().enumerate().rev() {
        let mut file = File::open(path)?;
        let length = file.seek(SeekFrom::End(0))?;
        let mut end = length;
        while end > 0 {
            let begin = end.saturating_sub(CHUNK as u64);
            let size = usize::try_from(end - begin).unwrap_or(CHUNK);
            file.seek(SeekFrom::Start(begin))?;
            file.read_exact(&mut buffer[..size])?;
            for position in (0..size).rev() {
                let after = begin + position as u64 + 1;
                // The newline that ends the last record does not begin another.
                if buffer[position] == b'\n' && after != length {
                    wanted -= 1;
                    if wanted == 0 {
                        return Ok((index, after));
                    }
                }
            }
            end = begin;
        }
        if length > 0 {
            wanted -= 1;
            if wanted == 0 {
                return Ok((index, 0));
            }
        }
    }
    Ok((0, 0))
}

/// Tells when a directory has changed.
struct Changes(AsyncFd<OwnedFd>);

impl Changes {
    #[expect(deprecated, reason = "its successor is unsafe, and an owned descriptor needs no such promise")]
    fn of(directory: &Path) -> io::Result<Self> {
        let descriptor = inotify::init(inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK)?;
        let flags = inotify::WatchFlags::MODIFY | inotify::WatchFlags::CREATE | inotify::WatchFlags::MOVE;
        inotify::add_watch(&descriptor, directory, flags)?;
        Ok(Self(AsyncFd::new(descriptor)?))
    }

    /// Resolves once something has changed since the last call.
    async fn next(&self) -> io::Result<()> {
        let mut buffer = [0; 4096];
        loop {
            let mut guard = self.0.readable().await?;
            let mut seen = false;
            loop {
                match rustix::io::read(self.0.get_ref(), &mut buffer) {
                    Ok(0) | Err(rustix::io::Errno::AGAIN) => break,
                    Ok(_) => seen = true,
                    Err(error) => return Err(error.into()),
                }
            }
            guard.clear_ready();
            if seen {
                return Ok(());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(log: &Path, options: Options) -> String {
        let options = Options { stdout: true, ..options };
        let mut reader = Reader::open(log.to_owned(), options).unwrap();
        let mut text = Vec::new();
        loop {
            let pieces = reader.next().unwrap();
            if pieces.is_empty() {
                return String::from_utf8(text).unwrap();
            }
            pieces.into_iter().for_each(|piece| text.extend(piece.bytes));
        }
    }

    #[test]
    fn lines_come_from_all_files_from_the_end_since_and_until() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("log");
        let line = |second: u32, stream: &str, tag: &str, text: &str| {
            format!("2026-01-01T00:00:{second:02}.000000000Z {stream} {tag} {text}\n")
        };
        fs::write(dir.path().join("log.1"), line(1, "stdout", "F", "one") + &line(2, "stderr", "F", "two")).unwrap();
        fs::write(
            &log,
            line(3, "stdout", "P", "thr") + &line(3, "stdout", "F", "ee") + &line(4, "stdout", "F", "four"),
        )
        .unwrap();
        let none = Options::default;
        assert_eq!(all(&log, none()), "one\nthree\nfour\n");
        assert_eq!(all(&log, Options { stderr: true, ..none() }), "one\ntwo\nthree\nfour\n");
        assert_eq!(all(&log, Options { tail: Some(1), ..none() }), "four\n");
        assert_eq!(all(&log, Options { tail: Some(0), ..none() }), "");
        assert_eq!(all(&log, Options { tail: Some(99), ..none() }), "one\nthree\nfour\n");
        let time = |text: &str| Some(text.parse().unwrap());
        assert_eq!(all(&log, Options { since: time("2026-01-01T00:00:04Z"), ..none() }), "four\n");
        assert_eq!(all(&log, Options { until: time("2026-01-01T00:00:02Z"), ..none() }), "one\n");
        let stamped = all(&log, Options { timestamps: true, ..none() });
        assert!(stamped.contains("2026-01-01T00:00:03.000000000Z three\n"), "{stamped}");
    }
}
