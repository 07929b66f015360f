//! Further processes in a running container: `docker exec`.
//!
//! An exec is made, started once, and inspected as long as its container is there. It is in memory only: after a restart of the
//! engine the process runs on, without anyone attached to it.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
};

use container::shim::{self, Shim, Terminal};
use http::{Method, Response, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};
use serve::Body;
use tokio::io::AsyncWriteExt as _;

use crate::{
    Engine, answer,
    call::Call,
    container::{
        Container,
        attach::{self, MULTIPLEXED, RAW, Wants},
        lock, spec, start,
    },
    error::{Error, Result},
    model, route,
};

/// Execs of one container that are remembered.
const REMEMBERED: usize = 1000;

/// What is to be run.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Wanted {
    /// `USER[:GROUP]`; empty for the container's.
    pub user: String,
    /// With all privileges.
    pub privileged: bool,
    /// With a terminal.
    pub tty: bool,
    /// Height and width of that.
    pub console_size: Option<[u32; 2]>,
    /// Attached streams.
    pub attach_stdin: bool,
    /// Attached streams.
    pub attach_stdout: bool,
    /// Attached streams.
    pub attach_stderr: bool,
    /// Keys that end the session and not the process.
    pub detach_keys: String,
    /// `NAME=VALUE`.
    pub env: Vec<String>,
    /// Working directory; empty for the container's.
    pub working_dir: String,
    /// The command line.
    pub cmd: Vec<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct StartRequest {
    detach: bool,
    tty: Option<bool>,
    console_size: Option<[u32; 2]>,
}

/// A process that was asked for.
#[derive(Debug)]
pub struct Process {
    id: String,
    container: Arc<Container>,
    wanted: Wanted,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    started: bool,
    running: bool,
    pid: i32,
    code: Option<i32>,
    terminal: Option<Terminal>,
}

/// All execs.
#[derive(Debug, Default)]
pub struct Execs(Mutex<HashMap<String, Arc<Process>>>);

impl Execs {
    fn find(&self, id: &str) -> Result<Arc<Process>> {
        let missing = || Error::missing(format!("No such exec instance: {id}"));
        lock(&self.0).get(id).cloned().ok_or_else(missing)
    }

    /// Ids of a container's execs that run.
    pub fn running(&self, container: &str) -> Vec<String> {
        let all = lock(&self.0);
        let of = all.values().filter(|process| process.container.id == container && lock(&process.state).running);
        of.map(|process| process.id.clone()).collect()
    }

    /// Forgets those of a container.
    pub(crate) fn forget(&self, container: &str) {
        lock(&self.0).retain(|_, process| process.container.id != container);
    }
}

/// `POST /containers/ID/exec`.
pub(crate) async fn create(engine: &Engine, container: &Arc<Container>, call: &mut Call) -> Result<Response<Body>> {
    let wanted: Wanted = model::lenient(call.json().await?)?;
    let process = make(engine, container, wanted)?;
    answer::created(&json!({"Id": process.id}))
}

fn make(engine: &Engine, container: &Arc<Container>, wanted: Wanted) -> Result<Arc<Process>> {
    if wanted.cmd.first().is_none_or(String::is_empty) {
        return Err(Error::invalid("No exec command specified"));
    }
    attach::keys(&wanted.detach_keys)?;
    container.running()?;
    if container.look(|record| record.state.paused) {
        return Err(Error::conflict(format!(
            "container {} is paused, unpause the container before exec",
            container.id
        )));
    }
    let process = Arc::new(Process {
        id: runtime::record::new_id()?,
        container: container.clone(),
        wanted,
        state: Mutex::default(),
    });
    let mut all = lock(&engine.execs().0);
    if all.values().filter(|other| other.container.id == container.id).count() >= REMEMBERED {
        all.retain(|_, other| other.container.id != container.id || lock(&other.state).code.is_none());
    }
    all.insert(process.id.clone(), process.clone());
    drop(all);
    container.tell(
        engine,
        &format!("exec_create: {}", process.wanted.cmd.join(" ")),
        &[("execID", process.id.clone())],
    );
    Ok(process)
}

/// Answers requests below `/exec`.
pub(crate) async fn answer(engine: &Engine, mut call: Call) -> Result<Response<Body>> {
    let path: Vec<String> = call.path.split_off(1);
    let path: Vec<&str> = path.iter().map(String::as_str).collect();
    match (&call.method, path.as_slice()) {
        (&Method::GET, [id, "json"]) => answer::json(&shown(&*engine.execs().find(id)?)),
        (&Method::POST, [id, "start"]) => {
            let process = engine.execs().find(id)?;
            answer_start(engine, process, call).await
        }
        (&Method::POST, [id, "resize"]) => {
            let process = engine.execs().find(id)?;
            let (rows, columns) = size(&call)?;
            let terminal = lock(&process.state).terminal.clone();
            let terminal = terminal.ok_or_else(|| Error::conflict(format!("exec {id} has no terminal")))?;
            terminal.resize(rows, columns).map_err(|error| Error::failed(format!("resize exec {id}: {error}")))?;
            Ok(answer::empty(StatusCode::OK))
        }
        _ => Err(route::unknown()),
    }
}

/// Rows and columns of a request for another size.
pub(crate) fn size(call: &Call) -> Result<(u16, u16)> {
    let number = |name| call.query.number::<u16>(name);
    match (number("h")?, number("w")?) {
        (Some(rows), Some(columns)) => Ok((rows, columns)),
        _ => Err(Error::invalid("a size has height and width: h and w")),
    }
}

fn shown(process: &Process) -> Value {
    let state = lock(&process.state);
    let Wanted { cmd, tty, user, privileged, attach_stdin, attach_stdout, attach_stderr, .. } = &process.wanted;
    json!({
        "ID": process.id,
        "Running": state.running,
        "ExitCode": state.code,
        "ProcessConfig": {
            "tty": tty, "entrypoint": cmd.first(), "arguments": cmd.get(1..).unwrap_or_default(),
            "privileged": privileged, "user": user,
        },
        "OpenStdin": attach_stdin,
        "OpenStderr": attach_stderr,
        "OpenStdout": attach_stdout,
        "CanRemove": false,
        "ContainerID": process.container.id,
        "DetachKeys": "",
        "Pid": state.pid,
    })
}

async fn answer_start(engine: &Engine, process: Arc<Process>, mut call: Call) -> Result<Response<Body>> {
    // Where the connection is taken over without an upgrade the body is the input behind the document.
    let request: StartRequest = model::lenient(call.json_or_default().await?)?;
    if std::mem::replace(&mut lock(&process.state).started, true) {
        return Err(Error::conflict(format!("Error: Exec command {} is already running", process.id)));
    }
    let terminal = request.tty.unwrap_or(process.wanted.tty);
    let size = request.console_size.or(process.wanted.console_size);
    if request.detach {
        let (streams, _) = launch(engine, &process, terminal, false, size).await.map_err(|(_, error)| error)?;
        let (engine, running) = (engine.clone(), process.clone());
        engine.task().clone().spawn_until_cancelled("exec", async move { settle(&engine, &running, streams).await });
        return Ok(answer::empty(StatusCode::OK));
    }
    process.container.running()?;
    let wants = Wants {
        stdin: process.wanted.attach_stdin,
        stdout: process.wanted.attach_stdout,
        stderr: process.wanted.attach_stderr,
        terminal,
        detach: attach::keys(&process.wanted.detach_keys)?,
    };
    let kind = if terminal || call.version < 42 { RAW } else { MULTIPLEXED };
    let (response, connection) = attach::take_over(engine, &mut call, kind)?;
    let engine = engine.clone();
    engine.task().clone().spawn_until_cancelled("exec", async move {
        let Some(mut connection) = connection.await else { return };
        match launch(&engine, &process, terminal, wants.stdin, size).await {
            Ok((streams, _)) => session(&engine, &process, streams, &wants, &mut connection).await,
            Err((_, error)) => {
                let _ = attach::write(&mut connection, 2, format!("{error}\r\n").as_bytes(), terminal).await;
            }
        }
        let _ = connection.shutdown().await;
    });
    Ok(response)
}

/// Starts the process; the error comes with the exit code that stands for it.
async fn launch(
    engine: &Engine,
    process: &Arc<Process>,
    terminal: bool,
    stdin: bool,
    size: Option<[u32; 2]>,
) -> Result<(shim::Exec, Shim), (i32, Error)> {
    let launched = try_launch(engine, process, terminal, stdin, size).await;
    match launched {
        Ok((streams, shim)) => {
            let mut state = lock(&process.state);
            state.running = true;
            state.pid = streams.pid;
            state.terminal = streams.terminal();
            drop(state);
            let action = format!("exec_start: {}", process.wanted.cmd.join(" "));
            process.container.tell(engine, &action, &[("execID", process.id.clone())]);
            Ok((streams, shim))
        }
        Err((code, error)) => {
            lock(&process.state).code = Some(code);
            Err((code, error))
        }
    }
}

async fn try_launch(
    engine: &Engine,
    process: &Arc<Process>,
    terminal: bool,
    stdin: bool,
    size: Option<[u32; 2]>,
) -> Result<(shim::Exec, Shim), (i32, Error)> {
    let failed = |error: Error| (126, error);
    let (shim, name) = process.container.running().map_err(failed)?;
    let record = process.container.record();
    let wanted = &process.wanted;
    let run = spec::Run {
        args: wanted.cmd.clone(),
        env: &wanted.env,
        cwd: &wanted.working_dir,
        user: Some(&wanted.user),
        terminal,
        privileged: wanted.privileged,
    };
    let built = start::databases(engine, &record)
        .and_then(|databases| spec::process(engine, &record, &run, &databases))
        .map_err(|error| failed(Error::invalid(format!("unable to find user or build the process: {error:#}"))))?;
    let streams = shim.exec(&name, &built, terminal, stdin).await.map_err(|error| {
        let code = match error {
            shim::Error::ProgramNotFound(_) => 127,
            _ => 126,
        };
        let message = format!("OCI runtime exec failed: exec failed: unable to start container process: {error}");
        (code, Error::invalid(message))
    })?;
    if let (Some(terminal), Some([rows, columns])) = (streams.terminal(), size) {
        let number = |size: u32| u16::try_from(size).unwrap_or(u16::MAX);
        if rows > 0
            && columns > 0
            && let Err(error) = terminal.resize(number(rows), number(columns))
        {
            tracing::debug!(%error, "size of an exec's terminal");
        }
    }
    Ok((streams, shim))
}

/// Moves the streams of a process until it has ended, and notes how.
async fn session(
    engine: &Engine,
    process: &Arc<Process>,
    mut streams: shim::Exec,
    wants: &Wants,
    connection: &mut attach::Both,
) {
    let exit = streams.take_exit();
    let (told, ended) = tokio::sync::oneshot::channel();
    let (noted, running) = (engine.clone(), process.clone());
    // Goes on where the client does not.
    engine.task().spawn_until_cancelled("exec exit", async move {
        let code = match exit {
            Some(exit) => exit.await.map_or(137, |exit| exit.code),
            None => 137,
        };
        finish(&noted, &running, code);
        let _ = told.send(());
    });
    let mut ended = std::pin::pin!(async move { drop(ended.await) });
    let how = attach::pump_until(connection, streams, wants, &mut ended).await;
    if how == attach::Ended::Output && lock(&process.state).running {
        // Clients ask for the exit code as soon as the streams have ended.
        let _ = tokio::time::timeout(std::time::Duration::from_secs(10), ended).await;
    }
    if how == attach::Ended::Detached {
        process.container.tell(engine, "exec_detach", &[("execID", process.id.clone())]);
    }
}

/// Waits for a process that nobody is attached to.
async fn settle(engine: &Engine, process: &Arc<Process>, mut streams: shim::Exec) {
    // What it says is read and dropped: a full pipe would stop it.
    let drain = |output: Option<shim::Output>| async move {
        if let Some(mut output) = output {
            let _ = tokio::io::copy(&mut output, &mut tokio::io::sink()).await;
        }
    };
    let (stdout, stderr) = (streams.stdout.take(), streams.stderr.take());
    engine.task().spawn_until_cancelled("exec output", async move {
        tokio::join!(drain(stdout), drain(stderr));
    });
    let code = streams.exit().await.map_or(137, |exit| exit.code);
    finish(engine, process, code);
}

fn finish(engine: &Engine, process: &Arc<Process>, code: i32) {
    {
        let mut state = lock(&process.state);
        state.running = false;
        state.code = Some(code);
        state.terminal = None;
    }
    process.container.tell(engine, "exec_die", &[("execID", process.id.clone()), ("exitCode", code.to_string())]);
}

/// Runs a command and gathers what it says, at most `limit` bytes, for at most `time`; `None` where that was not enough.
pub(crate) async fn run(
    engine: &Engine,
    container: &Arc<Container>,
    wanted: Wanted,
    limit: usize,
    time: std::time::Duration,
) -> Result<Option<(i32, Vec<u8>)>> {
    use tokio::io::AsyncReadExt as _;
    let process = make(engine, container, wanted)?;
    lock(&process.state).started = true;
    let (mut streams, shim) = launch(engine, &process, false, false, None).await.map_err(|(_, error)| error)?;
    let name = streams.id.clone();
    let (stdout, stderr) = (streams.stdout.take(), streams.stderr.take());
    let said = Arc::new(Mutex::new(Vec::new()));
    let gather = |output: Option<shim::Output>| {
        let said = said.clone();
        async move {
            let Some(mut output) = output else { return };
            let mut piece = vec![0; 4096];
            while let Ok(count @ 1..) = output.read(&mut piece).await {
                let mut said = lock(&said);
                let room = limit.saturating_sub(said.len()).min(count);
                said.extend_from_slice(&piece[..room]);
            }
        }
    };
    let work = async {
        let code = streams.exit().await.map_or(137, |exit| exit.code);
        finish(engine, &process, code);
        code
    };
    let both = async {
        let output = async { tokio::join!(gather(stdout), gather(stderr)) };
        tokio::pin!(output);
        tokio::pin!(work);
        tokio::select! {
            code = &mut work => {
                let _ = tokio::time::timeout(std::time::Duration::from_millis(200), output).await;
                code
            }
            _ = &mut output => work.await,
        }
    };
    let done = tokio::time::timeout(time, both).await;
    let said = std::mem::take(&mut *lock(&said));
    lock(&engine.execs().0).remove(&process.id);
    match done {
        Ok(code) => Ok(Some((code, said))),
        Err(_) => {
            let (_, container_name) = container.running()?;
            if let Err(error) = shim.kill_exec(&container_name, &name, libc::SIGKILL).await {
                tracing::debug!(container = container.id, %error, "kill a command that took too long");
            }
            Ok(None)
        }
    }
}
