//! One connection to a shim: requests are numbered, responses find their request, events go to whoever listens.

use std::{
    collections::HashMap,
    os::fd::{BorrowedFd, OwnedFd},
    os::unix::net::UnixStream,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
};

use task::Task;
use tokio::{
    io::{Interest, unix::AsyncFd},
    sync::{Mutex as AsyncMutex, mpsc, oneshot, watch},
};

use super::{Error, Event, Exit};
use crate::protocol::{self, Call, Incoming, Reply, Request, Response};

type Answer = oneshot::Sender<(Response, Vec<OwnedFd>)>;

/// What the reader and the callers share.
#[derive(Debug, Default)]
struct Waiting {
    answers: HashMap<u64, Answer>,
    exits: HashMap<String, oneshot::Sender<Exit>>,
    listeners: Vec<mpsc::UnboundedSender<Event>>,
    closed: bool,
}

#[derive(Debug)]
pub struct Connection {
    name: String,
    socket: Arc<AsyncFd<UnixStream>>,
    writing: AsyncMutex<()>,
    numbers: AtomicU64,
    waiting: Arc<Mutex<Waiting>>,
    closed: watch::Receiver<bool>,
    reader: task::Running,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

/// Events of a shim, in order.
#[derive(Debug)]
pub struct Events(mpsc::UnboundedReceiver<Event>);

impl Events {
    /// The next event; `None` when the shim or the connection has ended.
    pub async fn next(&mut self) -> Option<Event> {
        self.0.recv().await
    }
}

impl Connection {
    /// `name` says what this is for, in errors.
    pub fn open(task: &Task, stream: UnixStream, name: &str) -> Result<Self, Error> {
        let socket = stream
            .set_nonblocking(true)
            .and_then(|()| super::stream::register(stream))
            .map(Arc::new)
            .map_err(Error::io(name.to_owned()))?;
        let waiting = Arc::<Mutex<Waiting>>::default();
        let (ended, closed) = watch::channel(false);
        let reader = task.spawn_until_cancelled("shim connection", read(socket.clone(), waiting.clone(), ended));
        let (writing, numbers) = (AsyncMutex::new(()), AtomicU64::new(1));
        Ok(Self { name: name.into(), socket, writing, numbers, waiting, closed, reader })
    }

    pub async fn call(&self, call: Call, descriptors: &[BorrowedFd<'_>]) -> Result<Response, Error> {
        Ok(self.call_with_descriptors(call, descriptors).await?.0)
    }

    pub async fn call_with_descriptors(
        &self,
        call: Call,
        descriptors: &[BorrowedFd<'_>],
    ) -> Result<(Response, Vec<OwnedFd>), Error> {
        let number = self.numbers.fetch_add(1, Ordering::Relaxed);
        let frame = protocol::encode(&Request { number, call: Some(call) }, descriptors.len());
        if frame.len() > protocol::MAX_MESSAGE {
            return Err(Error::Failed(format!("{}: request of {} bytes is too large", self.name, frame.len())));
        }
        let (sender, receiver) = oneshot::channel();
        {
            let mut waiting = self.waiting.lock().expect("shim connection lock");
            if waiting.closed {
                return Err(Error::Gone(self.name.clone()));
            }
            waiting.answers.insert(number, sender);
        }
        if self.write(&frame, descriptors).await.is_err() {
            self.waiting.lock().expect("shim connection lock").answers.remove(&number);
            return Err(Error::Gone(self.name.clone()));
        }
        let (mut response, descriptors) = receiver.await.map_err(|_| Error::Gone(self.name.clone()))?;
        match response.fault.take() {
            Some(fault) => Err(Error::from_fault(fault)),
            None => Ok((response, descriptors)),
        }
    }

    /// Writes a whole frame. Dropped half-way it would leave the stream out of step, so it then ends the connection.
    async fn write(&self, frame: &[u8], descriptors: &[BorrowedFd<'_>]) -> std::io::Result<()> {
        let _turn = self.writing.lock().await;
        let mut whole = EndUnlessDone { socket: self.socket.get_ref(), begun: false };
        let mut sent = 0;
        while sent < frame.len() {
            let rights = if sent == 0 { descriptors } else { &[] };
            let write = |socket: &UnixStream| protocol::send(socket, &frame[sent..], rights);
            sent += self.socket.async_io(Interest::WRITABLE, write).await?;
            whole.begun = true;
        }
        whole.begun = false;
        Ok(())
    }

    pub fn expect_exit(&self, exec: &str) -> oneshot::Receiver<Exit> {
        let (sender, receiver) = oneshot::channel();
        self.waiting.lock().expect("shim connection lock").exits.insert(exec.into(), sender);
        receiver
    }

    pub fn forget_exit(&self, exec: &str) {
        self.waiting.lock().expect("shim connection lock").exits.remove(exec);
    }

    pub fn events(&self) -> Events {
        let (sender, receiver) = mpsc::unbounded_channel();
        let mut waiting = self.waiting.lock().expect("shim connection lock");
        if !waiting.closed {
            waiting.listeners.push(sender);
        }
        Events(receiver)
    }

    pub async fn closed(&self) {
        let mut closed = self.closed.clone();
        // An error says that the reader is gone, which is the same.
        let _ = closed.wait_for(|&closed| closed).await;
    }
}

struct EndUnlessDone<'a> {
    socket: &'a UnixStream,
    begun: bool,
}

impl Drop for EndUnlessDone<'_> {
    fn drop(&mut self) {
        if self.begun {
            let _ = self.socket.shutdown(std::net::Shutdown::Both);
        }
    }
}

/// Ends what waits for the connection, also when the task is dropped.
struct Close(Arc<Mutex<Waiting>>, watch::Sender<bool>);

impl Drop for Close {
    fn drop(&mut self) {
        if let Ok(mut waiting) = self.0.lock() {
            *waiting = Waiting { closed: true, ..Waiting::default() };
        }
        self.1.send_replace(true);
    }
}

async fn read(socket: Arc<AsyncFd<UnixStream>>, waiting: Arc<Mutex<Waiting>>, ended: watch::Sender<bool>) {
    let close = Close(waiting, ended);
    let mut incoming = Incoming::default();
    loop {
        match socket.async_io(Interest::READABLE, |socket| incoming.receive(socket)).await {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
        loop {
            match incoming.take::<Response>() {
                Ok(Some((response, descriptors))) => deliver(&close.0, response, descriptors),
                Ok(None) => break,
                Err(_) => return,
            }
        }
    }
}

fn deliver(waiting: &Mutex<Waiting>, response: Response, descriptors: Vec<OwnedFd>) {
    let mut waiting = waiting.lock().expect("shim connection lock");
    if response.number != 0 {
        if let Some(answer) = waiting.answers.remove(&response.number) {
            let _ = answer.send((response, descriptors));
        }
        return;
    }
    let Some(Reply::Event(event)) = response.reply else { return };
    let exit = event.exit.map(Exit::from);
    if !event.exec.is_empty() {
        if let (Some(exit), Some(sender)) = (exit, waiting.exits.remove(&event.exec)) {
            let _ = sender.send(exit);
        }
        return;
    }
    let event = match exit {
        Some(exit) => Event::Exited { id: event.id, exit },
        None => Event::Oom { id: event.id },
    };
    waiting.listeners.retain(|listener| listener.send(event.clone()).is_ok());
}
