//! SPDY/3.1 framing, as far as Kubernetes' clients use it: streams opened by the client, header blocks, data, pings.
//!
//! ```text
//! reader task ── SYN_STREAM ──> accept()          writer task <── frames of all streams
//!             ── data ────────> stream's queue                <── SYN_REPLY, PING
//! ```
//!
//! Clients of Kubernetes neither send nor heed WINDOW_UPDATE, so flow control is TCP's. Header blocks are compressed
//! by one zlib stream a direction, primed with the dictionary of the protocol.
//! <https://www.chromium.org/spdy/spdy-protocol/spdy-protocol-draft3-1/>

use std::{
    collections::HashMap,
    io,
    sync::{Arc, Mutex},
};

use bytes::{BufMut, Bytes, BytesMut};
use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress};
use task::Task;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufWriter},
    sync::mpsc,
};

use super::{Gone, QUEUE};

const DICTIONARY: &[u8] = include_bytes!("spdy-dictionary.bin");
const VERSION: u16 = 3;
const FLAG_FIN: u8 = 1;
/// Bytes of one frame taken from a client.
const FRAME: usize = 1024 * 1024;
/// Bytes of a header block once decompressed.
const HEADERS: usize = 64 * 1024;
/// Streams open at a time on one connection.
const STREAMS: usize = 4096;
/// The longest data frame sent.
const DATA: usize = 32 * 1024;

mod kind {
    pub const SYN_STREAM: u16 = 1;
    pub const SYN_REPLY: u16 = 2;
    pub const RST_STREAM: u16 = 3;
    pub const PING: u16 = 6;
    pub const GOAWAY: u16 = 7;
}

/// A stream that the client opened.
#[derive(Debug)]
pub struct Stream {
    /// Its headers, names in lower case.
    pub headers: HashMap<String, String>,
    /// What the client sends on it.
    pub input: mpsc::Receiver<Bytes>,
    /// The way back.
    pub writer: Writer,
}

/// Sends data on one stream.
#[derive(Clone, Debug)]
pub struct Writer {
    id: u32,
    frames: mpsc::Sender<Outgoing>,
}

impl Writer {
    /// Queues data, in frames of bounded size; `end` closes this side of the stream.
    pub async fn data(&self, mut bytes: Bytes, end: bool) -> Result<(), Gone> {
        loop {
            let piece = bytes.split_to(bytes.len().min(DATA));
            let last = bytes.is_empty();
            let frame = Outgoing::Data { id: self.id, bytes: piece, end: end && last };
            self.frames.send(frame).await.map_err(|_| Gone)?;
            if last {
                return Ok(());
            }
        }
    }

    /// Ends the stream in both directions.
    pub async fn reset(&self) -> Result<(), Gone> {
        self.frames.send(Outgoing::Reset { id: self.id }).await.map_err(|_| Gone)
    }
}

#[derive(Debug)]
enum Outgoing {
    Reply { id: u32 },
    Data { id: u32, bytes: Bytes, end: bool },
    Reset { id: u32 },
    Ping { id: u32 },
    GoAway,
}

/// The server's end of a connection.
#[derive(Debug)]
pub struct Connection {
    accepted: mpsc::Receiver<Stream>,
    frames: mpsc::Sender<Outgoing>,
}

type Open = Arc<Mutex<HashMap<u32, mpsc::Sender<Bytes>>>>;

impl Connection {
    /// Starts the two tasks of a connection below `task`.
    pub fn start<S>(task: &Task, stream: S) -> Self
    where
        S: AsyncRead + AsyncWrite + Send + 'static,
    {
        let (read, write) = tokio::io::split(stream);
        let (accept, accepted) = mpsc::channel(QUEUE);
        let (frames, outgoing) = mpsc::channel(QUEUE * 2);
        let replies = frames.clone();
        task.spawn("spdy writer", async move {
            if let Err(error) = write_frames(write, outgoing).await {
                tracing::debug!(%error, "spdy writer");
            }
        });
        let reader = task.clone();
        task.spawn("spdy reader", async move {
            if let Some(Err(error)) = reader.until_cancelled(read_frames(read, &replies, accept)).await {
                tracing::debug!(%error, "spdy reader");
            }
        });
        Self { accepted, frames }
    }

    /// The next stream that the client opens; `None` when the connection has ended.
    pub async fn accept(&mut self) -> Option<Stream> {
        self.accepted.recv().await
    }

    /// Says goodbye once everything queued has been sent.
    pub async fn close(self) {
        let _ = self.frames.send(Outgoing::GoAway).await;
    }
}

async fn read_frames<R>(mut read: R, replies: &mpsc::Sender<Outgoing>, accept: mpsc::Sender<Stream>) -> io::Result<()>
where
    R: AsyncRead + Unpin,
{
    let open: Open = Arc::default();
    let mut inflate = Inflate::new();
    let mut head = [0; 8];
    loop {
        match read.read_exact(&mut head).await {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
            other => other?,
        };
        let word = u32::from_be_bytes([head[0], head[1], head[2], head[3]]);
        let (flags, length) = (head[4], u32::from_be_bytes([0, head[5], head[6], head[7]]) as usize);
        if length > FRAME {
            return Err(invalid(format!("frame of {length} bytes is larger than {FRAME}")));
        }
        let mut payload = BytesMut::zeroed(length);
        read.read_exact(&mut payload).await?;
        let payload = payload.freeze();
        if word >> 31 == 0 {
            data(&open, word, payload, flags).await;
            continue;
        }
        let frame_kind = word as u16;
        match frame_kind {
            kind::SYN_STREAM => {
                if payload.len() < 10 {
                    return Err(invalid("short SYN_STREAM".into()));
                }
                let id = number(&payload[..4]) & 0x7fff_ffff;
                let headers = inflate.headers(&payload[10..])?;
                if open.lock().expect("streams").len() >= STREAMS {
                    let _ = replies.send(Outgoing::Reset { id }).await;
                    continue;
                }
                let (sender, input) = mpsc::channel(QUEUE);
                if flags & FLAG_FIN == 0 {
                    open.lock().expect("streams").insert(id, sender);
                }
                let writer = Writer { id, frames: replies.clone() };
                let _ = replies.send(Outgoing::Reply { id }).await;
                if accept.send(Stream { headers, input, writer }).await.is_err() {
                    return Ok(());
                }
            }
            kind::RST_STREAM if payload.len() >= 4 => {
                open.lock().expect("streams").remove(&(number(&payload[..4]) & 0x7fff_ffff));
            }
            kind::PING if payload.len() >= 4 => {
                let _ = replies.send(Outgoing::Ping { id: number(&payload[..4]) }).await;
            }
            kind::GOAWAY => return Ok(()),
            kind::SYN_REPLY if payload.len() > 4 => drop(inflate.headers(&payload[4..])?),
            _ => {}
        }
    }
}

async fn data(open: &Open, id: u32, payload: Bytes, flags: u8) {
    let stream = open.lock().expect("streams").get(&id).cloned();
    let Some(stream) = stream else { return };
    let gone = !payload.is_empty() && stream.send(payload).await.is_err();
    if gone || flags & FLAG_FIN != 0 {
        open.lock().expect("streams").remove(&id);
    }
}

async fn write_frames<W>(write: W, mut outgoing: mpsc::Receiver<Outgoing>) -> io::Result<()>
where
    W: AsyncWrite + Unpin,
{
    let mut write = BufWriter::new(write);
    let mut deflate = Deflate::new();
    while let Some(frame) = outgoing.recv().await {
        let last = matches!(frame, Outgoing::GoAway);
        match frame {
            Outgoing::Reply { id } => {
                let block = deflate.no_headers()?;
                control(&mut write, kind::SYN_REPLY, &[&id.to_be_bytes(), &block]).await?;
            }
            Outgoing::Data { id, bytes, end } => {
                let mut head = BytesMut::with_capacity(8);
                head.put_u32(id & 0x7fff_ffff);
                head.put_u32((u32::from(end) << 24) | bytes.len() as u32);
                write.write_all(&head).await?;
                write.write_all(&bytes).await?;
            }
            Outgoing::Reset { id } => {
                const CANCEL: u32 = 5;
                control(&mut write, kind::RST_STREAM, &[&id.to_be_bytes(), &CANCEL.to_be_bytes()]).await?;
            }
            Outgoing::Ping { id } => control(&mut write, kind::PING, &[&id.to_be_bytes()]).await?,
            Outgoing::GoAway => control(&mut write, kind::GOAWAY, &[&[0; 8]]).await?,
        }
        if outgoing.is_empty() {
            write.flush().await?;
        }
        if last {
            break;
        }
    }
    write.shutdown().await
}

async fn control<W>(write: &mut W, frame_kind: u16, parts: &[&[u8]]) -> io::Result<()>
where
    W: AsyncWrite + Unpin,
{
    let length: usize = parts.iter().map(|part| part.len()).sum();
    let mut head = BytesMut::with_capacity(8 + length);
    head.put_u16(0x8000 | VERSION);
    head.put_u16(frame_kind);
    head.put_u32(length as u32);
    for part in parts {
        head.extend_from_slice(part);
    }
    write.write_all(&head).await
}

fn number(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0, |sum, byte| (sum << 8) | u32::from(*byte))
}

fn invalid(reason: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, reason)
}

/// The zlib stream of the headers that the client sends.
struct Inflate(Decompress);

impl Inflate {
    fn new() -> Self {
        Self(Decompress::new(true))
    }

    fn headers(&mut self, mut compressed: &[u8]) -> io::Result<HashMap<String, String>> {
        let mut plain = Vec::with_capacity(1024);
        loop {
            if plain.len() == plain.capacity() {
                plain.reserve(plain.len());
            }
            if plain.capacity() > 2 * HEADERS {
                return Err(invalid(format!("headers are larger than {HEADERS} bytes")));
            }
            let (taken, made) = (self.0.total_in(), self.0.total_out());
            let done = self.0.decompress_vec(compressed, &mut plain, FlushDecompress::Sync);
            compressed = &compressed[(self.0.total_in() - taken) as usize..];
            match done {
                Err(error) if error.needs_dictionary().is_some() => {
                    self.0.set_dictionary(DICTIONARY).map_err(io::Error::other)?;
                    continue;
                }
                Err(error) => return Err(invalid(format!("headers: {error}"))),
                Ok(_) => {}
            }
            let stalled = self.0.total_out() == made;
            if compressed.is_empty() && (stalled || plain.len() < plain.capacity()) {
                break;
            }
            if stalled && plain.len() < plain.capacity() {
                return Err(invalid("headers: truncated".into()));
            }
        }
        parse(&plain)
    }
}

fn parse(block: &[u8]) -> io::Result<HashMap<String, String>> {
    fn text<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
        let length = number(rest.get(..4)?) as usize;
        let found = rest.get(4..4usize.checked_add(length)?)?;
        *rest = &rest[4 + length..];
        Some(found)
    }
    let short = || invalid("headers: cut short".into());
    let mut rest = block.get(4..).ok_or_else(short)?;
    let count = number(&block[..4]);
    let mut headers = HashMap::new();
    for _ in 0..count {
        let name = text(&mut rest).ok_or_else(short)?;
        let value = text(&mut rest).ok_or_else(short)?;
        headers.insert(String::from_utf8_lossy(name).to_lowercase(), String::from_utf8_lossy(value).into_owned());
    }
    Ok(headers)
}

/// The zlib stream of the headers that the server sends: always none, since replies carry nothing.
struct Deflate(Compress);

impl Deflate {
    fn new() -> Self {
        let mut compress = Compress::new(Compression::fast(), true);
        compress.set_dictionary(DICTIONARY).expect("the dictionary is set before any data");
        Self(compress)
    }

    fn no_headers(&mut self) -> io::Result<Vec<u8>> {
        let mut block = Vec::with_capacity(64);
        self.0.compress_vec(&0u32.to_be_bytes(), &mut block, FlushCompress::Sync).map_err(io::Error::other)?;
        Ok(block)
    }
}

#[cfg(test)]
mod tests;
