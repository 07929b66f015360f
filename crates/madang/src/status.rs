//! What `madang status` tells: which roles run, which answer, on which ports.
//!
//! The supervisor writes one JSON line to each client of `<run-dir>/status.sock`, and another at each change.

use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader},
    os::unix::net::UnixStream,
    path::Path,
};

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};
use task::Task;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    sync::watch,
};

use crate::sockets;

const SOCKET: &str = "status.sock";

/// The state of an instance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// Whether every role answers.
    pub ready: bool,
    /// Each role by name.
    pub roles: BTreeMap<String, RoleState>,
    /// Ports in use by name.
    pub ports: BTreeMap<String, u16>,
}

/// The state of a role.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RoleState {
    /// It was started and does not answer yet.
    Starting,
    /// It answers.
    Ready,
}

impl Status {
    /// Notes the state of one role.
    pub fn set(&mut self, role: &str, state: RoleState) {
        self.roles.insert(role.to_owned(), state);
        self.ready = self.roles.values().all(|state| *state == RoleState::Ready);
    }
}

/// Answers clients until `task` ends.
pub fn serve(task: &Task, run_dir: &Path, status: watch::Receiver<Status>) -> Result<()> {
    let path = run_dir.join(SOCKET);
    let listener = sockets::listen_on(&path)?;
    let parent = task.clone();
    task.spawn("status", async move {
        while let Some(Ok((mut client, _))) = parent.until_cancelled(listener.accept()).await {
            let (mut status, client_task) = (status.clone(), parent.clone());
            parent.spawn("status client", async move {
                loop {
                    let Ok(mut line) = serde_json::to_vec(&*status.borrow_and_update()) else { return };
                    line.push(b'\n');
                    if client.write_all(&line).await.is_err() {
                        return;
                    }
                    // Whatever the client sends, its end above all, ends the connection.
                    let mut ignored = [0];
                    tokio::select! {
                        changed = status.changed() => if changed.is_err() { return },
                        _ = client.read(&mut ignored) => return,
                        () = client_task.cancelled() => return,
                    }
                }
            });
        }
    });
    Ok(())
}

/// Prints the state of the instance with that run directory; with `wait`, once everything answers.
pub fn print(run_dir: &Path, wait: bool) -> Result<()> {
    let path = run_dir.join(SOCKET);
    let lines = loop {
        match UnixStream::connect(&path) {
            Ok(stream) => break BufReader::new(stream).lines(),
            Err(_) if wait => std::thread::sleep(std::time::Duration::from_millis(20)),
            Err(error) => {
                return Err(error).with_context(|| {
                    format!("no server answers at {}: is `madang server` running, with this --run-dir?", path.display())
                });
            }
        }
    };
    for line in lines {
        let status: Status = serde_json::from_str(&line?).context("answer of the server")?;
        if status.ready || !wait {
            println!("{}", if status.ready { "ready" } else { "starting" });
            for (role, state) in &status.roles {
                println!("  {role:<10} {}", if *state == RoleState::Ready { "ready" } else { "starting" });
            }
            for (name, port) in &status.ports {
                println!("  {name:<10} port {port}");
            }
            if !status.ready {
                bail!("not everything answers yet: `madang status --wait` waits for it");
            }
            return Ok(());
        }
    }
    bail!("the server ended while starting")
}
