//! Commands in containers, their standard streams, and connections to their ports, over the API server's upgrades.

use bytes::Bytes;
use container::shim::{self, Exec};
use http::{Request, Response};
use runtime::Runtime;
use serde_json::json;
use serve::{
    Body,
    stream::{
        Output,
        command::{self, Command, Wanted},
        portforward,
    },
};
use task::Task;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};

use crate::api::{Failure, text};

/// Which streams a query asks for, in the API server's words and in the node's own.
pub fn wanted(query: &[(String, String)]) -> Wanted {
    let on = |names: [&str; 2]| {
        query
            .iter()
            .any(|(key, value)| names.contains(&key.as_str()) && matches!(value.as_str(), "1" | "true" | "True" | ""))
    };
    let tty = on(["tty", "tty"]);
    Wanted {
        stdin: on(["stdin", "input"]),
        stdout: on(["stdout", "output"]),
        stderr: on(["stderr", "error"]) && !tty,
        tty,
    }
}

/// Runs a command in the container `id`.
pub fn exec(
    task: &Task,
    runtime: &Runtime,
    mut request: Request<Body>,
    id: String,
    command: Vec<String>,
    wanted: Wanted,
) -> Result<Response<Body>, Failure> {
    let (response, pending) = accept(&mut request, wanted)?;
    let (task, runtime) = (task.child("exec"), runtime.clone());
    task.clone().spawn("exec", async move {
        let streams = match pending.open(&task).await {
            Ok(streams) => streams,
            Err(error) => return tracing::debug!(%error, "exec streams"),
        };
        let exec = match runtime.exec(&id, command, wanted.tty, wanted.stdin).await {
            Ok(exec) => exec,
            Err(error) => {
                let message = format!("failed to exec in container: {error}");
                return streams.status.finish(failure(&message), &message).await;
            }
        };
        let name = exec.id.clone();
        let code = copy(&task, streams, exec, None);
        let Some((status, code)) = task.until_cancelled(code).await else { return };
        match code {
            Some(Ok(0)) => status.finish(success(), "").await,
            Some(Ok(code)) => {
                let message = format!("command terminated with non-zero exit code: exit status {code}");
                status.finish(exit_code(code, &message), &message).await;
            }
            Some(Err(error)) => {
                let message = error.to_string();
                status.finish(failure(&message), &message).await;
            }
            // The client has gone: upstream leaves the process alone, and so it stays until its input ends.
            None => {
                tracing::debug!(container = id, exec = name, "client of a command has gone");
            }
        }
    });
    Ok(response)
}

/// Joins the streams of the container `id`, until it ends or the client goes.
pub fn attach(
    task: &Task,
    runtime: &Runtime,
    mut request: Request<Body>,
    id: String,
    wanted: Wanted,
) -> Result<Response<Body>, Failure> {
    let (response, pending) = accept(&mut request, wanted)?;
    let (task, runtime) = (task.child("attach"), runtime.clone());
    task.clone().spawn("attach", async move {
        let streams = match pending.open(&task).await {
            Ok(streams) => streams,
            Err(error) => return tracing::debug!(%error, "attach streams"),
        };
        let attached = match runtime.attach(&id, wanted.stdin).await {
            Ok(attached) => attached,
            Err(error) => {
                let message = format!("failed to attach to container: {error:#}");
                return streams.status.finish(failure(&message), &message).await;
            }
        };
        let resize = wanted.tty.then(|| (runtime.clone(), id.clone()));
        let ended = copy(&task, streams, attached, resize);
        let Some((status, _)) = task.until_cancelled(ended).await else { return };
        status.finish(success(), "").await;
    });
    Ok(response)
}

fn accept(request: &mut Request<Body>, wanted: Wanted) -> Result<(Response<Body>, command::Pending), Failure> {
    if !(wanted.stdin || wanted.stdout || wanted.stderr) {
        return Err(Failure::Bad("you must specify at least 1 of stdin, stdout, stderr".into()));
    }
    command::accept(request, wanted).map_err(|error| Failure::Bad(error.to_string()))
}

/// Copies between a client and a process until the process has ended and everything it said was sent. `None` where the
/// client went first.
async fn copy(
    task: &Task,
    streams: Command,
    mut exec: Exec,
    resize: Option<(Runtime, String)>,
) -> (command::Ending, Option<Result<i32, shim::Error>>) {
    let Command { stdin, stdout, stderr, resize: sizes, status } = streams;
    let input = exec.stdin.take();
    let terminal = exec.terminal();
    if let (Some(mut from), Some(mut to)) = (stdin, input) {
        task.spawn("input", async move {
            while let Some(bytes) = from.next().await {
                if to.write_all(&bytes).await.is_err() {
                    break;
                }
            }
        });
    }
    if let Some(mut sizes) = sizes {
        task.spawn("resize", async move {
            while let Some(size) = sizes.next().await {
                match (&terminal, &resize) {
                    (Some(terminal), _) => {
                        let _ = terminal.resize(size.height, size.width);
                    }
                    (None, Some((runtime, id))) => {
                        let _ = runtime.resize(id, size.height, size.width).await;
                    }
                    (None, None) => {}
                }
            }
        });
    }
    let (out, err) = (exec.stdout.take(), exec.stderr.take());
    let (out, err) = tokio::join!(pump(out, stdout.as_ref()), pump(err, stderr.as_ref()));
    if !(out && err) {
        return (status, None);
    }
    let attached = exec.id.is_empty();
    let code = if attached { Ok(0) } else { exec.exit().await.map(|exit| exit.code) };
    (status, Some(code))
}

/// Sends what comes from `from`; false where the client has gone. Output that nobody wants is read and dropped. The streams of
/// a command end with its connection: a server that closes single ones confuses clients.
async fn pump<R: AsyncRead + Unpin>(from: Option<R>, to: Option<&Output>) -> bool {
    let Some(mut from) = from else {
        return true;
    };
    let mut buffer = vec![0; 16 * 1024];
    while let Ok(read) = from.read(&mut buffer).await {
        if read == 0 {
            break;
        }
        if let Some(to) = to
            && to.write(Bytes::copy_from_slice(&buffer[..read])).await.is_err()
        {
            return false;
        }
    }
    true
}

fn success() -> Bytes {
    json!({"metadata": {}, "status": "Success"}).to_string().into()
}

fn failure(message: &str) -> Bytes {
    json!({"metadata": {}, "status": "Failure", "message": message, "reason": "InternalError", "code": 500})
        .to_string()
        .into()
}

fn exit_code(code: i32, message: &str) -> Bytes {
    json!({
        "metadata": {}, "status": "Failure", "message": message, "reason": "NonZeroExitCode",
        "details": {"causes": [{"reason": "ExitCode", "message": code.to_string()}]},
    })
    .to_string()
    .into()
}

/// Runs a command and answers with what it printed.
pub async fn run(runtime: &Runtime, id: &str, command: Vec<String>) -> Result<Response<Body>, Failure> {
    let limit = std::time::Duration::from_secs(3600);
    match crate::command::run(runtime, id, command, limit).await {
        Ok(outcome) => Ok(text(http::StatusCode::OK, outcome.output)),
        Err(message) => Err(Failure::Internal(message)),
    }
}

/// Connects a client to ports of a sandbox.
pub fn port_forward(
    task: &Task,
    runtime: &Runtime,
    mut request: Request<Body>,
    sandbox: Option<String>,
    ports: Vec<u16>,
) -> Result<Response<Body>, Failure> {
    let (response, pending) =
        portforward::accept(&mut request, ports).map_err(|error| Failure::Bad(error.to_string()))?;
    let (task, runtime) = (task.child("port-forward"), runtime.clone());
    task.clone().spawn("port-forward", async move {
        let mut forwards = match pending.open(&task).await {
            Ok(forwards) => forwards,
            Err(error) => return tracing::debug!(%error, "port-forward streams"),
        };
        while let Some(Some(mut forward)) = task.until_cancelled(forwards.next()).await {
            let (runtime, sandbox) = (runtime.clone(), sandbox.clone());
            task.spawn("forward", async move {
                let port = forward.port;
                let dialled = match &sandbox {
                    Some(sandbox) => runtime.dial(sandbox, port).await,
                    // In the machine's network the machine's loopback is the pod's.
                    None => tokio::net::TcpStream::connect(("127.0.0.1", port)).await.map_err(Into::into),
                };
                let socket = match dialled {
                    Ok(socket) => socket,
                    Err(error) => {
                        let message = format!("error forwarding port {port} to pod: {error:#}");
                        let _ = forward.error.write(message.into()).await;
                        let _ = forward.error.close().await;
                        let _ = forward.output.close().await;
                        return;
                    }
                };
                let (from, mut to) = socket.into_split();
                let up = async {
                    while let Some(bytes) = forward.input.next().await {
                        if to.write_all(&bytes).await.is_err() {
                            return;
                        }
                    }
                    let _ = to.shutdown().await;
                };
                let down = async {
                    pump(Some(from), Some(&forward.output)).await;
                    let _ = forward.output.close().await;
                };
                tokio::join!(up, down);
                let _ = forward.error.close().await;
            });
        }
    });
    Ok(response)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_are_asked_for_in_two_languages() {
        let query = |pairs: &[(&str, &str)]| -> Vec<(String, String)> {
            pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
        };
        let all = Wanted { stdin: true, stdout: true, stderr: true, tty: false };
        assert_eq!(wanted(&query(&[("stdin", "true"), ("stdout", "true"), ("stderr", "true")])), all);
        assert_eq!(wanted(&query(&[("input", "1"), ("output", "1"), ("error", "1")])), all);
        let tty = wanted(&query(&[("output", "1"), ("error", "1"), ("tty", "1")]));
        assert_eq!(tty, Wanted { stdin: false, stdout: true, stderr: false, tty: true });
    }
}
