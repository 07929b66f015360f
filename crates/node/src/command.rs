//! A short command in a container, with its output: exec probes and hooks.

use std::time::Duration;

use runtime::Runtime;
use tokio::io::AsyncReadExt as _;

/// Bytes of output that are kept; the rest is read and dropped.
const LIMIT: usize = 10 * 1024;

/// How a command ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Its exit code.
    pub code: i32,
    /// The beginning of what it printed, errors behind output.
    pub output: String,
}

/// Runs a command for at most `limit`, then kills it. The error says why there is no outcome.
pub async fn run(runtime: &Runtime, id: &str, command: Vec<String>, limit: Duration) -> Result<Outcome, String> {
    let shown = command.join(" ");
    let mut exec = match runtime.exec(id, command, false, false).await {
        Ok(exec) => exec,
        Err(error) => return Err(format!("failed to exec in container: {error}")),
    };
    let name = exec.id.clone();
    let (mut stdout, mut stderr) = (exec.stdout.take(), exec.stderr.take());
    let work = async {
        let (output, errors, exit) = tokio::join!(drain(stdout.as_mut()), drain(stderr.as_mut()), exec.exit());
        (output, errors, exit)
    };
    match tokio::time::timeout(limit, work).await {
        Ok((mut output, errors, Ok(exit))) => {
            output.extend(errors);
            output.truncate(LIMIT);
            Ok(Outcome { code: exit.code, output: String::from_utf8_lossy(&output).into_owned() })
        }
        Ok((_, _, Err(error))) => Err(format!("failed to exec in container: {error}")),
        Err(_) => {
            if let Err(error) = runtime.kill_exec(id, &name).await {
                tracing::debug!(container = id, %error, "kill a command that took too long");
            }
            Err(format!("command {shown:?} timed out after {}", crate::pod::backoff::in_words(limit)))
        }
    }
}

async fn drain<R: tokio::io::AsyncRead + Unpin>(stream: Option<&mut R>) -> Vec<u8> {
    let (mut kept, mut buffer) = (Vec::new(), [0; 4096]);
    let Some(stream) = stream else { return kept };
    while let Ok(read) = stream.read(&mut buffer).await {
        if read == 0 {
            break;
        }
        let room = LIMIT.saturating_sub(kept.len()).min(read);
        kept.extend_from_slice(&buffer[..room]);
    }
    kept
}
