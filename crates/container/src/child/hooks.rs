//! Programs that a specification has run at moments of a container's life, with the container's state on their input.

use std::{
    io::{self, Write},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use super::{Context, Failure};
use crate::plan::{Hook, Moment, Plan};

/// Runs the hooks of a moment, in order; the first that fails ends it.
pub fn run(plan: &Plan, moment: Moment, status: &str, pid: i32) -> Result<(), Failure> {
    for hook in plan.hooks.iter().filter(|hook| hook.moment() == moment) {
        one(plan, hook, status, pid).context(|| format!("{moment:?} hook {}", hook.path))?;
    }
    Ok(())
}

fn one(plan: &Plan, hook: &Hook, status: &str, pid: i32) -> io::Result<()> {
    use std::os::unix::process::CommandExt;
    let mut command = Command::new(&hook.path);
    if let Some(name) = hook.args.first() {
        command.arg0(name);
    }
    command
        .args(hook.args.iter().skip(1))
        .env_clear()
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    command.envs(hook.env.iter().filter_map(|variable| variable.split_once('=')));
    let mut child = command.spawn()?;
    if let Some(mut stdin) = child.stdin.take() {
        // A hook need not read it.
        let _ = stdin.write_all(state(plan, status, pid).as_bytes());
    }
    let deadline = (hook.timeout > 0).then(|| Instant::now() + Duration::from_secs(hook.timeout.into()));
    let result = loop {
        if let Some(result) = child.try_wait()? {
            break result;
        }
        if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
            child.kill()?;
            child.wait()?;
            return Err(io::Error::new(io::ErrorKind::TimedOut, format!("did not end within {} s", hook.timeout)));
        }
        std::thread::sleep(Duration::from_millis(1));
    };
    if result.success() {
        return Ok(());
    }
    let mut text = String::new();
    if let Some(stderr) = child.stderr.take() {
        let _ = io::Read::read_to_string(&mut io::Read::take(stderr, 4096), &mut text);
    }
    Err(io::Error::other(format!("{result}: {}", text.trim_end())))
}

/// The state as the specification shows it: the plan's fixed part, and what changes.
fn state(plan: &Plan, status: &str, pid: i32) -> String {
    let annotations = if plan.annotations.is_empty() { "{}" } else { &plan.annotations };
    format!("{{{},\"status\":\"{status}\",\"pid\":{pid},\"annotations\":{annotations}}}", plan.bundle)
}
