//! Remote commands: the streams of `exec` and `attach`.
//!
//! ```text
//! request ─ accept ─> (101, Pending) ─ Pending::open ─> Command { stdin, stdout, stderr, resize, status }
//! ```
//!
//! Which streams there are is said by the request's query, and by the client's opening them. At the end the server
//! writes a `Status` object to the error channel, from which the client learns the exit code.

use std::time::Duration;

use ::http::{Request, Response};
use bytes::Bytes;
use futures::{SinkExt, StreamExt};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use task::Task;
use tokio::sync::mpsc;

use super::{
    Error, Input, Output, QUEUE, STREAM_PROTOCOL, Sink, choose, is_spdy, offers,
    spdy::Connection,
    switch_to_spdy,
    websocket::{Framing, Handshake, Message, handshake, is_websocket},
};
use crate::body::Body;

const WEBSOCKET: &[&str] = &[
    "v5.channel.k8s.io",
    "v4.channel.k8s.io",
    "v4.base64.channel.k8s.io",
    "v3.channel.k8s.io",
    "v3.base64.channel.k8s.io",
    "v2.channel.k8s.io",
    "channel.k8s.io",
    "base64.channel.k8s.io",
];
const SPDY: &[&str] = &["v4.channel.k8s.io", "v3.channel.k8s.io", "v2.channel.k8s.io", "channel.k8s.io"];

/// How long an SPDY client may take to open its streams.
const OPEN: Duration = Duration::from_secs(30);

const STDIN: u8 = 0;
const STDOUT: u8 = 1;
const STDERR: u8 = 2;
const ERROR: u8 = 3;
const RESIZE: u8 = 4;
const CLOSE: u8 = 255;

/// Which streams the request asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// The client sends input.
    pub stdin: bool,
    /// The client reads output.
    pub stdout: bool,
    /// The client reads errors; never with a terminal.
    pub stderr: bool,
    /// The command has a terminal, whose size the client sends.
    pub tty: bool,
}

/// The size of a terminal, as the client sends it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    /// Columns.
    pub width: u16,
    /// Rows.
    pub height: u16,
}

/// The open streams of one command.
#[derive(Debug)]
pub struct Command {
    /// Input, if wanted.
    pub stdin: Option<Input>,
    /// Output, if wanted.
    pub stdout: Option<Output>,
    /// Errors, if wanted.
    pub stderr: Option<Output>,
    /// Sizes of the terminal, if there is one.
    pub resize: Option<Resizes>,
    /// How the command ended.
    pub status: Ending,
}

/// Sizes of the client's terminal as they change.
#[derive(Debug)]
pub struct Resizes(Input);

impl Resizes {
    /// The next size; `None` when the client has gone.
    pub async fn next(&mut self) -> Option<Size> {
        loop {
            if let Some(size) = size(&self.0.next().await?) {
                return Some(size);
            }
        }
    }
}

/// The error channel, and with it the end of the connection.
#[derive(Debug)]
pub struct Ending {
    output: Output,
    structured: bool,
    end: End,
}

#[derive(Debug)]
enum End {
    WebSocket(mpsc::Sender<Message>),
    Spdy(Connection),
}

impl Ending {
    /// Sends the `Status` object (its JSON) and ends the connection once all is sent. Protocols before version 4 know only
    /// `message`, sent when it is not empty.
    pub async fn finish(self, status: Bytes, message: &str) {
        let text = if self.structured { status } else { Bytes::copy_from_slice(message.as_bytes()) };
        if !text.is_empty() {
            let _ = self.output.write(text).await;
        }
        match self.end {
            End::WebSocket(messages) => {
                let _ = messages.send(Message::End).await;
            }
            End::Spdy(connection) => {
                let _ = self.output.close().await;
                connection.close().await;
            }
        }
    }
}

/// An upgrade that was answered; the streams open once the answer has reached the client.
#[derive(Debug)]
pub struct Pending {
    upgrade: OnUpgrade,
    wanted: Wanted,
    transport: Transport,
}

#[derive(Debug)]
enum Transport {
    WebSocket { framing: Framing, structured: bool },
    Spdy { protocol: &'static str },
}

/// Why the streams did not open.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The connection ended before it was upgraded.
    #[error("upgrade: {0}")]
    Upgrade(#[from] hyper::Error),
    /// The client did not open all streams in time.
    #[error("timed out waiting for client to create streams")]
    Streams,
}

/// Answers the upgrade of an exec or attach request.
pub fn accept(request: &mut Request<Body>, wanted: Wanted) -> Result<(Response<Body>, Pending), Error> {
    if is_websocket(request.headers()) {
        let Handshake { response, upgrade, protocol } = handshake(request, WEBSOCKET)?;
        let protocol = protocol.unwrap_or("channel.k8s.io");
        let framing = Framing { base64: protocol.contains("base64"), closes_channels: protocol == "v5.channel.k8s.io" };
        let structured = protocol.starts_with("v4") || protocol.starts_with("v5");
        return Ok((response, Pending { upgrade, wanted, transport: Transport::WebSocket { framing, structured } }));
    }
    if !is_spdy(request.headers()) {
        return Err(Error::NotAnUpgrade);
    }
    let offered = offers(request.headers(), STREAM_PROTOCOL);
    let protocol = if offered.is_empty() { "channel.k8s.io" } else { choose(offered, SPDY)? };
    let upgrade = hyper::upgrade::on(request);
    Ok((switch_to_spdy(protocol), Pending { upgrade, wanted, transport: Transport::Spdy { protocol } }))
}

impl Pending {
    /// Waits for the connection and its streams; the tasks that carry them run below `task`.
    pub async fn open(self, task: &Task) -> Result<Command, OpenError> {
        match self.transport {
            Transport::WebSocket { framing, structured } => {
                let socket = Handshake::socket(self.upgrade).await?;
                Ok(over_websocket(task, socket, self.wanted, framing, structured))
            }
            Transport::Spdy { protocol } => {
                let stream = TokioIo::new(self.upgrade.await?);
                let connection = Connection::start(task, stream);
                tokio::time::timeout(OPEN, over_spdy(connection, self.wanted, protocol))
                    .await
                    .ok()
                    .flatten()
                    .ok_or(OpenError::Streams)
            }
        }
    }
}

fn over_websocket(
    task: &Task,
    socket: super::websocket::Socket,
    wanted: Wanted,
    framing: Framing,
    structured: bool,
) -> Command {
    let (mut sender, mut receiver) = socket.split();
    let (messages, mut outgoing) = mpsc::channel(QUEUE);
    task.spawn("command writer", async move {
        while let Some(message) = outgoing.recv().await {
            let last = matches!(message, Message::End);
            if sender.send(framing.encode(message)).await.is_err() {
                return;
            }
            if last {
                break;
            }
        }
        let _ = sender.close().await;
    });
    let (mut stdin, input) = channel_if(wanted.stdin);
    let (mut resize, sizes) = channel_if(wanted.tty);
    let reader = task.clone();
    task.spawn("command reader", async move {
        while let Some(Some(Ok(message))) = reader.until_cancelled(receiver.next()).await {
            let Some((channel, bytes)) = framing.decode(message) else { continue };
            let target = match channel {
                STDIN => &mut stdin,
                RESIZE => &mut resize,
                CLOSE if framing.closes_channels => {
                    if bytes.first() == Some(&STDIN) {
                        stdin = None;
                    }
                    continue;
                }
                _ => continue,
            };
            if let Some(sender) = target
                && !bytes.is_empty()
                && sender.send(bytes).await.is_err()
            {
                *target = None;
            }
        }
    });
    let output = |channel| Output(Sink::Channel { channel, messages: messages.clone() });
    Command {
        stdin: input.map(Input),
        stdout: wanted.stdout.then(|| output(STDOUT)),
        stderr: wanted.stderr.then(|| output(STDERR)),
        resize: sizes.map(|sizes| Resizes(Input(sizes))),
        status: Ending { output: output(ERROR), structured, end: End::WebSocket(messages.clone()) },
    }
}

type Channel = (Option<mpsc::Sender<Bytes>>, Option<mpsc::Receiver<Bytes>>);

fn channel_if(wanted: bool) -> Channel {
    if !wanted {
        return (None, None);
    }
    let (sender, receiver) = mpsc::channel(QUEUE);
    (Some(sender), Some(receiver))
}

async fn over_spdy(mut connection: Connection, wanted: Wanted, protocol: &str) -> Option<Command> {
    let resizes = wanted.tty && matches!(protocol, "v4.channel.k8s.io" | "v3.channel.k8s.io");
    let (mut stdin, mut stdout, mut stderr, mut resize, mut error) = (None, None, None, None, None);
    loop {
        let complete = error.is_some()
            && (!wanted.stdin || stdin.is_some())
            && (!wanted.stdout || stdout.is_some())
            && (!wanted.stderr || stderr.is_some())
            && (!resizes || resize.is_some());
        if complete {
            break;
        }
        let stream = connection.accept().await?;
        let output = Output(Sink::Spdy(stream.writer.clone()));
        match stream.headers.get("streamtype").map(String::as_str) {
            Some("error") => error = Some(output),
            Some("stdin") => stdin = Some(Input(stream.input)),
            Some("stdout") => stdout = Some(output),
            Some("stderr") => stderr = Some(output),
            Some("resize") => resize = Some(Resizes(Input(stream.input))),
            _ => {
                let _ = stream.writer.reset().await;
            }
        }
    }
    Some(Command {
        stdin,
        stdout,
        stderr,
        resize,
        status: Ending { output: error?, structured: protocol == "v4.channel.k8s.io", end: End::Spdy(connection) },
    })
}

/// Reads `{"Width":80,"Height":24}`, the one message of the resize channel.
fn size(message: &[u8]) -> Option<Size> {
    let text = std::str::from_utf8(message).ok()?;
    let field = |name: &str| -> Option<u16> {
        let rest = &text[text.find(&format!("\"{name}\""))? + name.len() + 2..];
        let rest = rest.trim_start().strip_prefix(':')?.trim_start();
        let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        rest[..end].parse().ok()
    };
    Some(Size { width: field("Width")?, height: field("Height")? })
}

#[cfg(test)]
mod tests;
