//! A client's terminal or pipes, joined with a container's streams.

use std::io::{IsTerminal as _, Write as _};

use anyhow::Result;
use http::Method;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use rustix::termios::{OptionalActions, Termios};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    signal::unix::{SignalKind, signal},
};

use super::client::{Client, Frames};

/// The terminal as it was, given back when dropped.
struct Raw(Termios);

impl Raw {
    /// Passes every key on; none where standard input is no terminal.
    fn new() -> Result<Option<Self>> {
        let stdin = rustix::stdio::stdin();
        if !std::io::stdin().is_terminal() {
            return Ok(None);
        }
        let before = rustix::termios::tcgetattr(stdin)?;
        let mut raw = before.clone();
        raw.make_raw();
        rustix::termios::tcsetattr(stdin, OptionalActions::Now, &raw)?;
        Ok(Some(Self(before)))
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        if let Err(error) = rustix::termios::tcsetattr(rustix::stdio::stdin(), OptionalActions::Now, &self.0) {
            tracing::debug!(%error, "give the terminal back");
        }
    }
}

/// What of a session is wanted.
#[derive(Clone, Debug)]
pub struct Session {
    /// Whether input is passed on.
    pub input: bool,
    /// Whether there is a terminal in between.
    pub terminal: bool,
    /// Where the size of the terminal is told: `/containers/ID` or `/exec/ID`.
    pub path: String,
    /// Whether signals that come here go to the container.
    pub signals: bool,
}

/// The size of the terminal: rows, columns.
pub fn size() -> Option<(u16, u16)> {
    let size = rustix::termios::tcgetwinsize(rustix::stdio::stdout()).ok()?;
    (size.ws_row > 0 && size.ws_col > 0).then_some((size.ws_row, size.ws_col))
}

async fn resize(client: &Client, path: &str) {
    let Some((rows, columns)) = size() else { return };
    let path = format!("{path}/resize?h={rows}&w={columns}");
    if let Err(error) = client.json(Method::POST, &path, None).await {
        tracing::debug!(error = format!("{error:#}"), "size of the terminal");
    }
}

/// Standard input, by a thread of its own that nobody waits for: a read of a terminal ends when somebody types.
fn input() -> tokio::sync::mpsc::Receiver<Vec<u8>> {
    let (sender, receiver) = tokio::sync::mpsc::channel(16);
    std::thread::spawn(move || {
        let mut buffer = vec![0; 16 << 10];
        while let Ok(read @ 1..) = std::io::Read::read(&mut std::io::stdin(), &mut buffer) {
            if sender.blocking_send(buffer[..read].to_vec()).is_err() {
                return;
            }
        }
    });
    receiver
}

/// Moves bytes until the other side ends.
pub async fn run(client: &Client, connection: TokioIo<Upgraded>, session: &Session) -> Result<()> {
    let _raw = if session.terminal && session.input { Raw::new()? } else { None };
    let (mut reader, mut writer) = tokio::io::split(connection);
    if session.input {
        client.task().spawn("input", async move {
            let mut typed = input();
            while let Some(piece) = typed.recv().await {
                if writer.write_all(&piece).await.is_err() {
                    return;
                }
            }
            let _ = writer.shutdown().await;
        });
    }
    if session.terminal {
        let (resizing, path) = (client.clone(), session.path.clone());
        client.task().spawn("size", async move {
            resize(&resizing, &path).await;
            let Ok(mut changes) = signal(SignalKind::window_change()) else { return };
            while changes.recv().await.is_some() {
                resize(&resizing, &path).await;
            }
        });
    } else if session.signals {
        for (kind, name) in [(SignalKind::interrupt(), "INT"), (SignalKind::terminate(), "TERM")] {
            let (signalling, path) = (client.clone(), format!("{}/kill?signal={name}", session.path));
            let mut signals = signal(kind)?;
            client.task().spawn("signals", async move {
                while signals.recv().await.is_some() {
                    if let Err(error) = signalling.json(Method::POST, &path, None).await {
                        eprintln!("madang: {error:#}");
                    }
                }
            });
        }
    }
    let mut frames = Frames::default();
    let mut piece = vec![0; 32 * 1024];
    loop {
        let count = match reader.read(&mut piece).await {
            Ok(0) | Err(_) => return Ok(()),
            Ok(count) => count,
        };
        if session.terminal {
            let mut stdout = std::io::stdout().lock();
            stdout.write_all(&piece[..count])?;
            stdout.flush()?;
        } else {
            show(&mut frames, &piece[..count])?;
        }
    }
}

/// Writes frames to where they belong.
pub fn show(frames: &mut Frames, bytes: &[u8]) -> Result<()> {
    for (stream, piece) in frames.add(bytes) {
        if stream == 2 {
            std::io::stderr().lock().write_all(&piece)?;
        } else {
            let mut stdout = std::io::stdout().lock();
            stdout.write_all(&piece)?;
            stdout.flush()?;
        }
    }
    Ok(())
}
