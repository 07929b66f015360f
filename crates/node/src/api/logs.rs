//! Reading a container's log: CRI's line format, over rotated files, from the end, since a time, and on and on.
//!
//! ```text
//! N.log.2  N.log.1  N.log          oldest to newest
//! 2026-01-01T00:00:00.000000000Z stdout F text        F: a whole line, P: part of one
//! ```
//!
//! Following waits for the kernel to say that the directory has changed; nothing is polled.
//! <https://github.com/kubernetes/design-proposals-archive/blob/main/node/kubelet-cri-logging.md>

use std::{
    fs::{self, File},
    io::{self, Read as _, Seek as _, SeekFrom},
    os::fd::OwnedFd,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use jiff::Timestamp;
use rustix::fs::inotify;
use tokio::io::unix::AsyncFd;

/// Bytes read at once.
const CHUNK: usize = 64 * 1024;

/// What of a log is wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// Go on with what comes.
    pub follow: bool,
    /// The container before the present one.
    pub previous: bool,
    /// Put each line's time in front of it.
    pub timestamps: bool,
    /// Lines from the end; none for all.
    pub tail: Option<u64>,
    /// Nothing older.
    pub since: Option<Timestamp>,
    /// Bytes at most.
    pub limit: Option<u64>,
    /// `stdout` or `stderr` only.
    pub stream: Option<&'static str>,
}

impl Options {
    /// Reads them from a query. The error is for the client.
    pub fn parse(query: &[(String, String)], now: Timestamp) -> Result<Self, String> {
        let mut options = Self::default();
        for (key, value) in query {
            let flag = || match value.as_str() {
                "" | "true" | "1" => Ok(true),
                "false" | "0" => Ok(false),
                _ => Err(format!("invalid value {value:?} of {key}")),
            };
            let number = || value.parse::<i64>().map_err(|_| format!("invalid value {value:?} of {key}"));
            match key.as_str() {
                "follow" => options.follow = flag()?,
                "previous" => options.previous = flag()?,
                "timestamps" => options.timestamps = flag()?,
                "tailLines" => {
                    options.tail = Some(u64::try_from(number()?).map_err(|_| "tailLines must not be negative")?);
                }
                "limitBytes" => {
                    let limit = u64::try_from(number()?).ok().filter(|limit| *limit > 0);
                    options.limit = Some(limit.ok_or("limitBytes must be greater than 0")?);
                }
                "sinceSeconds" => {
                    let seconds = number()?;
                    if seconds < 1 {
                        return Err("sinceSeconds must be greater than 0".into());
                    }
                    let since = now.checked_sub(jiff::SignedDuration::from_secs(seconds));
                    options.since = Some(since.unwrap_or(Timestamp::UNIX_EPOCH));
                }
                "sinceTime" => {
                    options.since = Some(value.parse().map_err(|_| format!("invalid value {value:?} of sinceTime"))?);
                }
                "stream" => {
                    options.stream = match value.as_str() {
                        "Stdout" | "stdout" => Some("stdout"),
                        "Stderr" | "stderr" => Some("stderr"),
                        "" | "All" | "all" => None,
                        _ => return Err(format!("invalid value {value:?} of stream")),
                    };
                }
                _ => {}
            }
        }
        Ok(options)
    }
}

/// All files of a log, oldest first, those that do not exist left out.
pub fn files(log: &Path) -> Vec<PathBuf> {
    let (Some(dir), Some(name)) = (log.parent(), log.file_name().map(|name| name.to_string_lossy().into_owned()))
    else {
        return Vec::new();
    };
    let mut found: Vec<(u32, PathBuf)> = fs::read_dir(dir)
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| {
            let other = entry.file_name().to_string_lossy().into_owned();
            let rest = other.strip_prefix(&name)?;
            let number = if rest.is_empty() { 0 } else { rest.strip_prefix('.')?.parse().ok()? };
            Some((number, entry.path()))
        })
        .collect();
    found.sort_by_key(|(number, _)| std::cmp::Reverse(*number));
    found.into_iter().map(|(_, path)| path).collect()
}

/// Reads a log piece by piece.
#[derive(Debug)]
pub struct Reader {
    log: PathBuf,
    options: Options,
    /// Files to come after the present one, newest last.
    queue: Vec<PathBuf>,
    file: Option<File>,
    /// The beginning of a line whose end has not been read.
    rest: Vec<u8>,
    left: Option<u64>,
}

impl Reader {
    /// A reader that stands where `options` say.
    pub fn open(log: &Path, options: Options) -> io::Result<Self> {
        let mut queue = files(log);
        if queue.is_empty() {
            return Err(io::Error::new(io::ErrorKind::NotFound, format!("no log {}", log.display())));
        }
        let mut start = 0;
        if let Some(tail) = options.tail {
            let (skip, offset) = from_end(&queue, tail)?;
            queue.drain(..skip);
            start = offset;
        }
        let mut file = match queue.is_empty() {
            true => None,
            false => Some(File::open(queue.remove(0))?),
        };
        if let Some(file) = &mut file {
            file.seek(SeekFrom::Start(start))?;
        }
        Ok(Self { log: log.to_owned(), left: options.limit, options, queue, file, rest: Vec::new() })
    }

    /// The next piece, formatted; empty when there is no more for now.
    pub fn piece(&mut self) -> io::Result<Vec<u8>> {
        let mut out = Vec::new();
        let mut chunk = vec![0; CHUNK];
        while out.is_empty() && self.left != Some(0) {
            let Some(file) = &mut self.file else { break };
            let read = file.read(&mut chunk)?;
            if read == 0 {
                if !self.turn()? {
                    break;
                }
                continue;
            }
            self.rest.extend_from_slice(&chunk[..read]);
            let lines = std::mem::take(&mut self.rest);
            let end = lines.iter().rposition(|byte| *byte == b'\n').map_or(0, |position| position + 1);
            for line in lines[..end].split_inclusive(|byte| *byte == b'\n') {
                self.format(line, &mut out);
            }
            self.rest = lines[end..].to_vec();
        }
        if let Some(left) = &mut self.left {
            out.truncate(usize::try_from(*left).unwrap_or(usize::MAX));
            *left -= out.len() as u64;
        }
        Ok(out)
    }

    /// Whether nothing more will be given.
    pub fn is_full(&self) -> bool {
        self.left == Some(0)
    }

    /// Goes on to the next file, if there is one: a queued one, or the current one after a rotation.
    fn turn(&mut self) -> io::Result<bool> {
        if !self.queue.is_empty() {
            self.file = Some(File::open(self.queue.remove(0))?);
            return Ok(true);
        }
        let Some(file) = &self.file else { return Ok(false) };
        let here = file.metadata()?.ino();
        // The file being read may have been moved away meanwhile: newer ones follow it.
        let newer: Vec<PathBuf> = files(&self.log)
            .into_iter()
            .rev()
            .take_while(|path| fs::metadata(path).is_ok_and(|found| found.ino() != here))
            .collect();
        if newer.is_empty() || newer.len() == files(&self.log).len() && !self.log.exists() {
            return Ok(false);
        }
        self.queue = newer.into_iter().rev().collect();
        self.file = Some(File::open(self.queue.remove(0))?);
        Ok(true)
    }

    fn format(&self, line: &[u8], out: &mut Vec<u8>) {
        let mut fields = line.splitn(4, |byte| *byte == b' ');
        let (Some(time), Some(stream), Some(tag), Some(text)) =
            (fields.next(), fields.next(), fields.next(), fields.next())
        else {
            return;
        };
        if self.options.stream.is_some_and(|wanted| wanted.as_bytes() != stream) {
            return;
        }
        if let Some(since) = self.options.since {
            let at = std::str::from_utf8(time).ok().and_then(|time| time.parse::<Timestamp>().ok());
            if at.is_none_or(|at| at < since) {
                return;
            }
        }
        if self.options.timestamps {
            out.extend_from_slice(time);
            out.push(b' ');
        }
        let partial = tag.split(|byte| *byte == b':').next() == Some(b"P");
        out.extend_from_slice(if partial { text.strip_suffix(b"\n").unwrap_or(text) } else { text });
    }
}

/// The file (by position) and the offset in it at which the last `lines` lines begin.
fn from_end(files: &[PathBuf], lines: u64) -> io::Result<(usize, u64)> {
    if lines == 0 {
        let last = files.len().saturating_sub(1);
        let length = files.last().map_or(Ok(0), |path| fs::metadata(path).map(|found| found.len()))?;
        return Ok((last, length));
    }
    let mut wanted = lines;
    for (index, path) in files.iter().enumerate().rev() {
        let mut file = File::open(path)?;
        let length = file.seek(SeekFrom::End(0))?;
        let mut end = length;
        let mut buffer = vec![0; CHUNK];
        while end > 0 {
            let begin = end.saturating_sub(CHUNK as u64);
            let size = usize::try_from(end - begin).unwrap_or(CHUNK);
            file.seek(SeekFrom::Start(begin))?;
            file.read_exact(&mut buffer[..size])?;
            for position in (0..size).rev() {
                let at = begin + position as u64;
                // The newline that ends the last line does not begin another.
                if buffer[position] == b'\n' && at + 1 != length {
                    wanted -= 1;
                    if wanted == 0 {
                        return Ok((index, at + 1));
                    }
                }
            }
            end = begin;
        }
        // The first line of a file has no newline before it.
        if length > 0 {
            wanted -= 1;
            if wanted == 0 {
                return Ok((index, 0));
            }
        }
    }
    Ok((0, 0))
}

/// Tells when a log's directory has changed.
#[derive(Debug)]
pub struct Changes(AsyncFd<OwnedFd>);

impl Changes {
    /// Watches the directory of `log`.
    #[expect(deprecated, reason = "its successor is unsafe, and an owned descriptor needs no such promise")]
    pub fn of(log: &Path) -> io::Result<Self> {
        let descriptor = inotify::init(inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK)?;
        let dir = log.parent().unwrap_or(Path::new("/"));
        let flags = inotify::WatchFlags::MODIFY | inotify::WatchFlags::CREATE | inotify::WatchFlags::MOVE;
        inotify::add_watch(&descriptor, dir, flags)?;
        Ok(Self(AsyncFd::new(descriptor)?))
    }

    /// Resolves once something has changed since the last call.
    pub async fn next(&self) -> io::Result<()> {
        let mut buffer = [0; 4096];
        loop {
            let mut guard = self.0.readable().await?;
            let mut seen = false;
            loop {
                match rustix::io::read(self.0.get_ref(), &mut buffer) {
                    Ok(0) => break,
                    Ok(_) => seen = true,
                    Err(rustix::io::Errno::AGAIN) => break,
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
    use std::io::Write as _;

    use super::*;

    fn line(second: u32, stream: &str, tag: &str, text: &str) -> String {
        format!("2026-01-01T00:00:{second:02}.000000000Z {stream} {tag} {text}\n")
    }

    fn read(log: &Path, options: Options) -> String {
        let mut reader = Reader::open(log, options).unwrap();
        let mut all = Vec::new();
        loop {
            let piece = reader.piece().unwrap();
            if piece.is_empty() {
                return String::from_utf8(all).unwrap();
            }
            all.extend(piece);
        }
    }

    fn rotated(dir: &Path) -> PathBuf {
        let log = dir.join("0.log");
        let text = |seconds: std::ops::Range<u32>| -> String {
            seconds.map(|second| line(second, "stdout", "F", &format!("line {second}"))).collect()
        };
        fs::write(dir.join("0.log.2"), text(0..3)).unwrap();
        fs::write(dir.join("0.log.1"), text(3..6)).unwrap();
        fs::write(&log, text(6..8)).unwrap();
        fs::write(dir.join("1.log"), line(9, "stdout", "F", "another")).unwrap();
        log
    }

    #[test]
    fn a_rotated_log_is_read_whole_and_in_order() {
        let dir = tempfile::tempdir().unwrap();
        let log = rotated(dir.path());
        let wanted: String = (0..8).map(|number| format!("line {number}\n")).collect();
        assert_eq!(read(&log, Options::default()), wanted);
    }

    #[test]
    fn the_tail_may_begin_in_any_file() {
        let dir = tempfile::tempdir().unwrap();
        let log = rotated(dir.path());
        for tail in 0..10u32 {
            let first = 8u32.saturating_sub(tail);
            let wanted: String = (first..8).map(|number| format!("line {number}\n")).collect();
            assert_eq!(read(&log, Options { tail: Some(tail.into()), ..Default::default() }), wanted, "{tail}");
        }
    }

    #[test]
    fn lines_are_picked_and_shown_as_asked() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("0.log");
        let text = [
            line(1, "stdout", "F", "one"),
            line(2, "stderr", "F", "two"),
            line(3, "stdout", "P", "thr"),
            line(3, "stdout", "F", "ee"),
            "garbage\n".to_owned(),
        ];
        fs::write(&log, text.concat()).unwrap();
        let since = Some("2026-01-01T00:00:02Z".parse().unwrap());
        let cases = [
            (Options::default(), "one\ntwo\nthree\n"),
            (Options { since, ..Default::default() }, "two\nthree\n"),
            (Options { stream: Some("stderr"), ..Default::default() }, "two\n"),
            (Options { limit: Some(5), ..Default::default() }, "one\nt"),
            (
                Options { timestamps: true, stream: Some("stderr"), ..Default::default() },
                "2026-01-01T00:00:02.000000000Z two\n",
            ),
        ];
        for (options, wanted) in cases {
            assert_eq!(read(&log, options.clone()), wanted, "{options:?}");
        }
    }

    #[tokio::test]
    async fn following_goes_on_over_a_rotation() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("0.log");
        fs::write(&log, line(1, "stdout", "F", "one")).unwrap();
        let changes = Changes::of(&log).unwrap();
        let mut reader = Reader::open(&log, Options { follow: true, ..Default::default() }).unwrap();
        assert_eq!(reader.piece().unwrap(), b"one\n");
        assert!(reader.piece().unwrap().is_empty());
        let mut file = fs::OpenOptions::new().append(true).open(&log).unwrap();
        write!(file, "{}", line(2, "stdout", "F", "two")).unwrap();
        fs::rename(&log, dir.path().join("0.log.1")).unwrap();
        fs::write(&log, line(3, "stdout", "F", "three")).unwrap();
        changes.next().await.unwrap();
        assert_eq!(reader.piece().unwrap(), b"two\n");
        assert_eq!(reader.piece().unwrap(), b"three\n");
        assert!(reader.piece().unwrap().is_empty());
    }

    #[test]
    fn queries_are_checked() {
        let parse = |key: &str, value: &str| Options::parse(&[(key.into(), value.into())], Timestamp::UNIX_EPOCH);
        assert!(parse("follow", "true").unwrap().follow);
        assert_eq!(parse("tailLines", "5").unwrap().tail, Some(5));
        for (key, value) in
            [("tailLines", "-1"), ("tailLines", "x"), ("limitBytes", "0"), ("sinceSeconds", "0"), ("sinceTime", "x")]
        {
            assert!(parse(key, value).is_err(), "{key}={value}");
        }
    }
}
