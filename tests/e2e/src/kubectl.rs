//! `kubectl`, unmodified, against a cluster.

use std::{
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    time::{Duration, Instant},
};

use crate::Place;

/// kubectl with a kubeconfig and a namespace.
#[derive(Debug)]
pub struct Kubectl<'a> {
    place: Option<&'a Place>,
    kubeconfig: PathBuf,
    namespace: String,
}

/// What a command printed, and whether it succeeded.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Standard output.
    pub out: String,
    /// Standard error.
    pub err: String,
    /// Whether the exit code was 0.
    pub ok: bool,
}

impl Answer {
    fn of(output: Output) -> Self {
        Self {
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
            ok: output.status.success(),
        }
    }

    /// The output of a command that must have succeeded.
    #[track_caller]
    pub fn good(self) -> String {
        assert!(self.ok, "failed: {}{}", self.out, self.err);
        self.out
    }

    /// The error of a command that must have failed.
    #[track_caller]
    pub fn bad(self) -> String {
        assert!(!self.ok, "succeeded: {}", self.out);
        self.err
    }
}

impl<'a> Kubectl<'a> {
    pub(crate) fn new(place: Option<&'a Place>, kubeconfig: PathBuf, namespace: &str) -> Self {
        Self { place, kubeconfig, namespace: namespace.to_owned() }
    }

    /// The command itself.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let program = std::env::var_os("MADANG_KUBECTL").unwrap_or_else(|| "kubectl".into());
        let mut command = match self.place {
            Some(place) => place.command(PathBuf::from(program)),
            None => Command::new(program),
        };
        command.env("KUBECONFIG", &self.kubeconfig).env_remove("HTTPS_PROXY").arg("--namespace").arg(&self.namespace);
        command.args(arguments).stdin(Stdio::null());
        command
    }

    /// Runs it.
    #[track_caller]
    pub fn run(&self, arguments: &[&str]) -> Answer {
        Answer::of(self.command(arguments).output().expect("run kubectl"))
    }

    /// Runs it with `input` on standard input.
    #[track_caller]
    pub fn with_input(&self, arguments: &[&str], input: &str) -> Answer {
        let mut command = self.command(arguments);
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("run kubectl");
        let mut stdin = child.stdin.take().expect("standard input is a pipe");
        stdin.write_all(input.as_bytes()).expect("feed kubectl");
        drop(stdin);
        Answer::of(child.wait_with_output().expect("wait for kubectl"))
    }

    /// Applies a manifest.
    #[track_caller]
    pub fn apply(&self, manifest: &str) -> String {
        self.with_input(&["apply", "--filename", "-"], manifest).good()
    }

    /// Runs it again and again until what it prints satisfies `test`.
    #[track_caller]
    pub fn until(&self, arguments: &[&str], test: impl Fn(&str) -> bool) -> String {
        let (started, limit) = (Instant::now(), Duration::from_secs(60));
        loop {
            let answer = self.run(arguments);
            if answer.ok && test(&answer.out) {
                return answer.out;
            }
            assert!(started.elapsed() < limit, "kubectl {}: {}{}", arguments.join(" "), answer.out, answer.err);
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// One field by JSONPath.
    #[track_caller]
    pub fn field(&self, object: &str, path: &str) -> String {
        self.run(&["get", object, &format!("--output=jsonpath={path}")]).good()
    }

    /// Where its kubeconfig is.
    pub fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }
}
