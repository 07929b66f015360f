//! Standard streams between a client and a container or a process in it.
//!
//! ```text
//! client ══ connection ══▶ input, detach keys looked for ══▶ pipe ══▶ process
//!        ◀═ with a terminal: raw; else 8 bytes before each piece: stream 1 or 2, 0 0 0, length ═ pipes ◀═
//! ```
//!
//! Who attaches before the start gets the streams between making the container and running its program, so that not a byte
//! is missed.

use std::{io, sync::Arc, time::Duration};

use bytes::Bytes;
use container::shim::{Exec, Input, Output};
use futures::{StreamExt as _, future::Either};
use http::Response;
use http_body_util::BodyExt as _;
use serve::{Body, body};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    sync::oneshot,
};

use crate::{
    Engine, answer,
    call::Call,
    container::{Container, lock, logs},
    error::{Error, Result},
    upgrade,
};

/// Media types of what follows.
pub(crate) const RAW: &str = "application/vnd.docker.raw-stream";
pub(crate) const MULTIPLEXED: &str = "application/vnd.docker.multiplexed-stream";

/// Bytes read at once.
const PIECE: usize = 32 * 1024;
/// Clients that wait for one container to start.
const EARLY: usize = 64;
/// How long output may take to come to its end after the process has.
const DRAIN: Duration = Duration::from_secs(2);

/// Who attached before the start.
#[derive(Debug)]
pub(crate) struct Early {
    /// Whether there is input.
    pub(crate) stdin: bool,
    /// Where the streams go.
    pub(crate) sender: oneshot::Sender<Exec>,
}

/// Which streams a client wants.
#[derive(Clone, Debug, Default)]
pub(crate) struct Wants {
    pub(crate) stdin: bool,
    pub(crate) stdout: bool,
    pub(crate) stderr: bool,
    pub(crate) terminal: bool,
    /// Keys that end the session and not the process; empty for none.
    pub(crate) detach: Vec<u8>,
}

/// How a session ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// All output is through.
    Output,
    /// The client typed the keys.
    Detached,
    /// The client has gone.
    Client,
}

/// `POST /containers/ID/attach`, and `GET /containers/ID/attach/ws` where `web` is: a WebSocket, which never has headers between
/// pieces of output.
pub(crate) async fn answer(
    engine: &Engine,
    container: &Arc<Container>,
    mut call: Call,
    web: bool,
) -> Result<Response<Body>> {
    let query = &call.query;
    let (stream, past) = (query.flag("stream"), query.flag("logs"));
    let record = container.record();
    if record.state.paused {
        return Err(Error::conflict(format!(
            "container {} is paused, unpause the container before attach",
            container.id
        )));
    }
    // Until 1.42 a WebSocket had all streams.
    let wanted = |name: &str| query.flag(name) || (web && call.version < 42);
    let wants = Wants {
        stdin: wanted("stdin") && stream,
        stdout: wanted("stdout"),
        stderr: wanted("stderr"),
        terminal: record.config.tty || web,
        detach: keys(query.get("detachKeys").unwrap_or_default())?,
    };
    let streams = if stream { Some(join(container, wants.stdin).await?) } else { None };
    let kind = if wants.terminal || call.version < 42 { RAW } else { MULTIPLEXED };
    let (response, connection) = if web {
        let (response, connection) = upgrade::accept_web(&mut call)?;
        (response, Either::Left(connection))
    } else {
        let (response, connection) = take_over(engine, &mut call, kind)?;
        (response, Either::Right(connection))
    };
    let (engine, container) = (engine.clone(), container.clone());
    engine.task().clone().spawn_until_cancelled("attach", async move {
        let Some(mut connection) = connection.await else { return };
        if past {
            let options = logs::Options { stdout: wants.stdout, stderr: wants.stderr, ..logs::Options::default() };
            if let Err(error) = logs::replay(&engine, &container, &options, wants.terminal, &mut connection).await {
                tracing::debug!(container = container.id, %error, "logs before attach");
                return;
            }
        }
        let Some(streams) = streams else { return drop(connection.shutdown().await) };
        container.tell(&engine, "attach", &[]);
        // Without a start there is nothing to wait for.
        let Ok(streams) = streams.await else { return drop(connection.shutdown().await) };
        if pump(&mut connection, streams, &wants).await == Ended::Detached {
            container.tell(&engine, "detach", &[]);
        }
        let _ = connection.shutdown().await;
    });
    Ok(response)
}

/// The streams of a container, now or when it starts.
async fn join(container: &Arc<Container>, stdin: bool) -> Result<oneshot::Receiver<Exec>> {
    let (sender, receiver) = oneshot::channel();
    // While it is being started, what it will be is not known.
    let _turn = container.turn.lock().await;
    match container.running() {
        Ok((shim, name)) => {
            let streams = shim.attach(&name, stdin).await.map_err(|error| Error::failed(error.to_string()))?;
            drop(sender.send(streams));
        }
        Err(_) => {
            let mut early = lock(&container.early);
            early.retain(|early| !early.sender.is_closed());
            if early.len() >= EARLY {
                return Err(Error::conflict(format!("too many clients wait for container {}", container.id)));
            }
            early.push(Early { stdin, sender });
        }
    }
    Ok(receiver)
}

/// Both directions of a connection.
pub(crate) type Both = Box<dyn Duplex>;

/// What can be read and written.
pub(crate) trait Duplex: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Duplex for T {}

/// Takes the connection over, by an upgrade where the client asks for one, else through the bodies of request and answer.
pub(crate) fn take_over(
    engine: &Engine,
    call: &mut Call,
    kind: &'static str,
) -> Result<(Response<Body>, impl Future<Output = Option<Both>> + Send + 'static)> {
    if upgrade::is_wanted(call, "tcp") {
        let (response, connection) = upgrade::accept(call, "tcp", Some(kind))?;
        let connection = async move {
            match connection.await {
                Ok(connection) => Some(upgrade::settled(connection).await),
                Err(error) => {
                    tracing::debug!(%error, "take a connection over");
                    None
                }
            }
        };
        return Ok((response, Either::Left(connection)));
    }
    let (ours, theirs) = tokio::io::duplex(PIECE);
    let (mut output, mut input) = tokio::io::split(theirs);
    let (sender, answer) = body::channel(4);
    let mut request = call.take_body();
    engine.task().spawn_until_cancelled("attached output", async move {
        let mut piece = vec![0; PIECE];
        while let Ok(count @ 1..) = output.read(&mut piece).await {
            if sender.send(Ok(Bytes::copy_from_slice(&piece[..count]))).await.is_err() {
                return;
            }
        }
    });
    engine.task().spawn_until_cancelled("attached input", async move {
        while let Some(Ok(frame)) = request.frame().await {
            if let Ok(piece) = frame.into_data()
                && input.write_all(&piece).await.is_err()
            {
                return;
            }
        }
        // A body that has ended is the end of the input, not of the client.
    });
    let connection = futures::future::ready(Some(Box::new(ours) as Both));
    Ok((answer::typed(answer, kind), Either::Right(connection)))
}

/// Moves bytes until the output has ended, the client has gone or detached.
pub(crate) async fn pump(connection: &mut Both, streams: Exec, wants: &Wants) -> Ended {
    let (reader, mut writer) = tokio::io::split(connection);
    let Exec { stdin, stdout, stderr, .. } = streams;
    let pieces = futures::stream::select(pieces(stdout, 1), pieces(stderr, 2));
    let output = async {
        tokio::pin!(pieces);
        while let Some((stream, piece)) = pieces.next().await {
            let wanted = if stream == 1 { wants.stdout } else { wants.stderr };
            if wanted && write(&mut writer, stream, &piece, wants.terminal).await.is_err() {
                return Ended::Client;
            }
        }
        Ended::Output
    };
    let input = feed(reader, if wants.stdin { stdin } else { None }, &wants.detach);
    tokio::pin!(output, input);
    let mut fed = false;
    loop {
        tokio::select! {
            ended = &mut output => return ended,
            ended = &mut input, if !fed => match ended {
                Some(ended) => return ended,
                None => fed = true,
            },
        }
    }
}

/// The same for a process with an exit: returns what ended the session. Output that others hold open is not waited for long.
pub(crate) async fn pump_until(
    connection: &mut Both,
    streams: Exec,
    wants: &Wants,
    exit: impl Future<Output = ()>,
) -> Ended {
    let pump = pump(connection, streams, wants);
    tokio::pin!(pump, exit);
    tokio::select! {
        ended = &mut pump => ended,
        () = &mut exit => tokio::time::timeout(DRAIN, pump).await.unwrap_or(Ended::Output),
    }
}

/// Pieces of an output with its number.
fn pieces(output: Option<Output>, stream: u8) -> impl futures::Stream<Item = (u8, Bytes)> {
    futures::stream::unfold(output, move |output| async move {
        let mut output = output?;
        let mut piece = vec![0; PIECE];
        match output.read(&mut piece).await {
            Ok(count @ 1..) => {
                piece.truncate(count);
                Some(((stream, Bytes::from(piece)), Some(output)))
            }
            _ => None,
        }
    })
}

/// Writes a piece of output, with its header unless it is a terminal's.
pub(crate) async fn write(
    writer: &mut (impl AsyncWrite + Unpin),
    stream: u8,
    piece: &[u8],
    raw: bool,
) -> io::Result<()> {
    if !raw {
        let length = u32::try_from(piece.len()).map_err(io::Error::other)?.to_be_bytes();
        let header = [stream, 0, 0, 0, length[0], length[1], length[2], length[3]];
        writer.write_all(&header).await?;
    }
    writer.write_all(piece).await?;
    writer.flush().await
}

/// Takes input until it ends; `Some` where that ends the session.
async fn feed(mut reader: impl AsyncRead + Unpin, stdin: Option<Input>, detach: &[u8]) -> Option<Ended> {
    let mut stdin = stdin;
    let mut piece = vec![0; PIECE];
    let mut keys = Keys::new(detach);
    loop {
        match reader.read(&mut piece).await {
            Ok(0) => return None,
            Err(_) => return Some(Ended::Client),
            Ok(count) => {
                let (passed, detached) = keys.pass(&piece[..count]);
                if let Some(input) = &mut stdin
                    && input.write_all(&passed).await.is_err()
                {
                    // The process takes no more; the rest is read to notice when the client goes.
                    stdin = None;
                }
                if detached {
                    return Some(Ended::Detached);
                }
            }
        }
    }
}

/// Looks for a sequence of keys in what is typed.
struct Keys<'a> {
    wanted: &'a [u8],
    seen: usize,
}

impl<'a> Keys<'a> {
    fn new(wanted: &'a [u8]) -> Self {
        Self { wanted, seen: 0 }
    }

    /// What of `bytes` passes, and whether the sequence is complete. Keys that began it without going on pass then.
    fn pass(&mut self, bytes: &[u8]) -> (Vec<u8>, bool) {
        if self.wanted.is_empty() {
            return (bytes.to_vec(), false);
        }
        let mut passed = Vec::with_capacity(bytes.len());
        for &byte in bytes {
            if byte == self.wanted[self.seen] {
                self.seen += 1;
                if self.seen == self.wanted.len() {
                    return (passed, true);
                }
                continue;
            }
            passed.extend_from_slice(&self.wanted[..self.seen]);
            self.seen = usize::from(byte == self.wanted[0]);
            if self.seen == 0 {
                passed.push(byte);
            }
        }
        (passed, false)
    }
}

/// `ctrl-p,ctrl-q`, which is also what nothing means.
pub(crate) fn keys(text: &str) -> Result<Vec<u8>> {
    let text = if text.is_empty() { "ctrl-p,ctrl-q" } else { text };
    let bad = || Error::invalid(format!("Invalid detach keys ({text}) provided"));
    text.split(',')
        .map(|key| match key.strip_prefix("ctrl-").map(str::as_bytes) {
            Some([letter @ b'a'..=b'z']) => Ok(letter - b'a' + 1),
            Some(b"@") => Ok(0),
            Some([sign @ b'['..=b'_']) => Ok(sign - b'[' + 27),
            Some(_) => Err(bad()),
            None => match key.as_bytes() {
                [byte] => Ok(*byte),
                _ => Err(bad()),
            },
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn detach_keys_are_found_across_pieces_and_false_starts_pass() {
        let wanted = keys("").unwrap();
        assert_eq!(wanted, [16, 17]);
        let mut found = Keys::new(&wanted);
        assert_eq!(found.pass(b"a\x10"), (b"a".to_vec(), false));
        assert_eq!(found.pass(b"b\x10\x10"), (b"\x10b\x10".to_vec(), false));
        assert_eq!(found.pass(b"\x11rest"), (b"".to_vec(), true));
    }

    #[test]
    fn names_of_keys_are_read() {
        assert_eq!(keys("ctrl-a,x,ctrl-@,ctrl-[,ctrl-_").unwrap(), [1, b'x', 0, 27, 31]);
        for bad in ["ctrl-", "ctrl-1", "xx", "a,,b"] {
            assert!(keys(bad).is_err(), "{bad}");
        }
    }

    #[tokio::test]
    async fn pieces_have_headers_unless_they_are_a_terminals() {
        let mut out = Vec::new();
        write(&mut out, 2, b"abc", false).await.unwrap();
        assert_eq!(out, b"\x02\0\0\0\0\0\0\x03abc");
        out.clear();
        write(&mut out, 1, b"abc", true).await.unwrap();
        assert_eq!(out, b"abc");
    }
}
