//! Port forwarding: connections that the client asks for, each a pair of streams (data, errors).

use std::{collections::HashMap, time::Duration};

use ::http::{Request, Response};
use bytes::{BufMut, Bytes, BytesMut};
use futures::{SinkExt, StreamExt};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use task::Task;
use tokio::sync::mpsc;

use super::{
    Error, Input, Output, QUEUE, STREAM_PROTOCOL, Sink, choose, is_spdy, offers,
    spdy::{Connection, Stream},
    switch_to_spdy,
    websocket::{Bytestream, Framing, Handshake, Message, handshake, is_websocket},
};
use crate::body::Body;

const TUNNELLED: &str = "SPDY/3.1+portforward.k8s.io";
const WEBSOCKET: &[&str] = &[TUNNELLED, "v4.channel.k8s.io", "v4.base64.channel.k8s.io"];
const SPDY: &[&str] = &["portforward.k8s.io"];

/// How long the second stream of a pair may be missing.
const PAIR: Duration = Duration::from_secs(30);
/// Connections of which only one stream has come.
const HALF_OPEN: usize = 1024;

/// One connection to a port of the pod.
#[derive(Debug)]
pub struct Forward {
    /// The port asked for.
    pub port: u16,
    /// From the client to the port.
    pub input: Input,
    /// From the port to the client.
    pub output: Output,
    /// Why the connection failed, as text.
    pub error: Output,
}

/// An upgrade that was answered.
#[derive(Debug)]
pub struct Pending {
    upgrade: OnUpgrade,
    transport: Transport,
}

#[derive(Debug)]
enum Transport {
    Spdy,
    Tunnelled,
    Channels { ports: Vec<u16>, framing: Framing },
}

/// The connections that a client opens, as they come.
#[derive(Debug)]
pub struct Forwards(mpsc::Receiver<Forward>);

impl Forwards {
    /// The next one; `None` when the client has gone.
    pub async fn next(&mut self) -> Option<Forward> {
        self.0.recv().await
    }
}

/// Answers the upgrade of a port-forward request; `ports` are those of its query, which only WebSocket channels use.
pub fn accept(request: &mut Request<Body>, ports: Vec<u16>) -> Result<(Response<Body>, Pending), Error> {
    if is_websocket(request.headers()) {
        let Handshake { response, upgrade, protocol } = handshake(request, WEBSOCKET)?;
        let transport = match protocol {
            Some(TUNNELLED) => Transport::Tunnelled,
            other => Transport::Channels {
                ports,
                framing: Framing { base64: other.is_some_and(|name| name.contains("base64")), closes_channels: false },
            },
        };
        return Ok((response, Pending { upgrade, transport }));
    }
    if !is_spdy(request.headers()) {
        return Err(Error::NotAnUpgrade);
    }
    let offered = offers(request.headers(), STREAM_PROTOCOL);
    let protocol = if offered.is_empty() { SPDY[0] } else { choose(offered, SPDY)? };
    let upgrade = hyper::upgrade::on(request);
    Ok((switch_to_spdy(protocol), Pending { upgrade, transport: Transport::Spdy }))
}

impl Pending {
    /// Waits for the connection; the tasks that carry it run below `task`.
    pub async fn open(self, task: &Task) -> Result<Forwards, hyper::Error> {
        let (sender, forwards) = mpsc::channel(QUEUE);
        match self.transport {
            Transport::Spdy => {
                let connection = Connection::start(task, TokioIo::new(self.upgrade.await?));
                task.spawn("port forward", pair(connection, sender));
            }
            Transport::Tunnelled => {
                let socket = Handshake::socket(self.upgrade).await?;
                let connection = Connection::start(task, Bytestream::new(socket));
                task.spawn("port forward", pair(connection, sender));
            }
            Transport::Channels { ports, framing } => {
                let socket = Handshake::socket(self.upgrade).await?;
                channels(task, socket, ports, framing, sender).await;
            }
        }
        Ok(Forwards(forwards))
    }
}

/// Joins the error and data streams that carry the same request id.
async fn pair(mut connection: Connection, forwards: mpsc::Sender<Forward>) {
    let mut waiting: HashMap<String, (tokio::time::Instant, Stream)> = HashMap::new();
    while let Some(stream) = connection.accept().await {
        waiting.retain(|_, (since, _)| since.elapsed() < PAIR);
        let id = stream.headers.get("requestid").cloned().unwrap_or_default();
        let Some((_, other)) = waiting.remove(&id) else {
            if waiting.len() < HALF_OPEN {
                waiting.insert(id, (tokio::time::Instant::now(), stream));
            }
            continue;
        };
        let is_error = |stream: &Stream| stream.headers.get("streamtype").is_some_and(|kind| kind == "error");
        let (data, error) = if is_error(&stream) { (other, stream) } else { (stream, other) };
        let port = data.headers.get("port").and_then(|port| port.parse().ok());
        let (Some(port), true) = (port, is_error(&error)) else {
            let _ = data.writer.reset().await;
            continue;
        };
        let forward = Forward {
            port,
            input: Input(data.input),
            output: Output(Sink::Spdy(data.writer)),
            error: Output(Sink::Spdy(error.writer)),
        };
        if forwards.send(forward).await.is_err() {
            return;
        }
    }
}

/// Channels 2n and 2n+1 are data and errors of the n-th port; the first message on each is the port's number.
async fn channels(
    task: &Task,
    socket: super::websocket::Socket,
    ports: Vec<u16>,
    framing: Framing,
    forwards: mpsc::Sender<Forward>,
) {
    let (mut sender, mut receiver) = socket.split();
    let (messages, mut outgoing) = mpsc::channel::<Message>(QUEUE);
    task.spawn("port forward writer", async move {
        while let Some(message) = outgoing.recv().await {
            if sender.send(framing.encode(message)).await.is_err() {
                return;
            }
        }
        let _ = sender.close().await;
    });
    let mut inputs = Vec::new();
    for (index, port) in ports.into_iter().take(64).enumerate() {
        let (input, receiver) = mpsc::channel(QUEUE);
        let output = |channel: usize| Output(Sink::Channel { channel: channel as u8, messages: messages.clone() });
        let (data, error) = (output(2 * index), output(2 * index + 1));
        let mut number = BytesMut::with_capacity(2);
        number.put_u16_le(port);
        let number: Bytes = number.freeze();
        let _ = data.write(number.clone()).await;
        let _ = error.write(number).await;
        inputs.push(input);
        let forward = Forward { port, input: Input(receiver), output: data, error };
        if forwards.send(forward).await.is_err() {
            return;
        }
    }
    drop(messages);
    let reader = task.clone();
    task.spawn("port forward reader", async move {
        while let Some(Some(Ok(message))) = reader.until_cancelled(receiver.next()).await {
            let Some((channel, bytes)) = framing.decode(message) else { continue };
            if channel % 2 == 0
                && let Some(input) = inputs.get(usize::from(channel) / 2)
            {
                let _ = input.send(bytes).await;
            }
        }
    });
}
