//! `cargo xtask conformance remote-write`: the suite of Prometheus' compliance project, version 2 of remote write, against
//! `madang metrics` as the receiver and as the sender.
//!
//! ```text
//! suite (Go modules below $MADANG_SUITES), copied ─┬─ receiver ─▶ madang metrics, which takes what is written
//!                                                  └─ sender ─── madang metrics, once a test ─▶ receiver of the suite
//! ```
//!
//! The suite starts senders through a package that it downloads programs with; here that package starts the binary.

use std::{
    collections::BTreeMap,
    fs,
    net::{Ipv4Addr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use clap::Args;
use serde_json::Value;

use crate::{binary, host, up};

#[derive(Args)]
pub struct Arguments {
    /// Where reports go
    #[arg(long, value_name = "DIR")]
    output: Option<PathBuf>,
    /// The binary to test instead of a new build
    #[arg(long, value_name = "FILE")]
    binary: Option<PathBuf>,
    /// Only one side: receiver or sender
    #[arg(long, value_name = "SIDE")]
    only: Option<String>,
    /// Only tests whose names match this, as in `go test -run`
    #[arg(long, value_name = "PATTERN")]
    run: Option<String>,
}

/// The package that starts senders, with the names that the suite calls.
const TARGETS: &str = r#"// Package targets starts what sends.
package targets

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// TargetOptions says what is scraped, where samples go and for how long.
type TargetOptions struct {
	ScrapeTarget    string
	ReceiveEndpoint string
	Timeout         time.Duration
}

// Target is a sender.
type Target func(TargetOptions) error

const config = `
global:
  scrape_interval: 1s
remote_write:
  - url: '%s'
    protobuf_message: "io.prometheus.write.v2.Request"
    send_exemplars: true
    send_native_histograms: true
    queue_config:
      retry_on_http_429: true
scrape_configs:
  - job_name: "test"
    scrape_protocols: [OpenMetricsText1.0.0, PrometheusProto, PrometheusText0.0.4]
    always_scrape_classic_histograms: true
    scrape_native_histograms: true
    static_configs:
      - targets: ['%s']
`

// RunPrometheus runs the binary that is tested.
func RunPrometheus(opts TargetOptions) error {
	dir, err := os.MkdirTemp("", "remote-write-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	file := filepath.Join(dir, "prometheus.yml")
	target := strings.TrimPrefix(opts.ScrapeTarget, "http://")
	if err := os.WriteFile(file, []byte(fmt.Sprintf(config, opts.ReceiveEndpoint, target)), 0o600); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), opts.Timeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, os.Getenv("MADANG"), "metrics", "--config.file="+file,
		"--storage.tsdb.path="+filepath.Join(dir, "data"), "--web.listen-address=127.0.0.1:0")
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = 10 * time.Second
	if err := cmd.Run(); err != nil && ctx.Err() == nil {
		return fmt.Errorf("%w: %s", err, said.String())
	}
	return nil
}
"#;

/// Runs the suite; an error if anything fails.
pub fn run(arguments: &Arguments) -> Result<()> {
    let Some(suites) = std::env::var_os("MADANG_SUITES") else {
        bail!("MADANG_SUITES names no directory: the suite is looked for in its remote-write/remotewrite");
    };
    if host::find("go").is_none() {
        bail!("no Go here: install Go 1.25 or newer, from which the suite is built");
    }
    host::install(up::BUILD)?;
    let output = arguments.output.clone().unwrap_or_else(|| binary::target_dir().join("conformance/remote-write"));
    let output = std::path::absolute(output)?;
    fs::create_dir_all(&output)?;
    let suite = output.join("suite");
    copy(&Path::new(&suites).join("remote-write/remotewrite"), &suite)?;
    let targets = suite.join("sender/targets");
    fs::remove_dir_all(&targets).with_context(|| format!("remove {}", targets.display()))?;
    fs::create_dir_all(&targets)?;
    fs::write(targets.join("targets.go"), TARGETS)?;
    let madang = match &arguments.binary {
        Some(path) => path.canonicalize().with_context(|| format!("find {}", path.display()))?,
        None => binary::release()?,
    };
    let mut failed = 0;
    for side in ["receiver", "sender"] {
        if arguments.only.as_ref().is_none_or(|only| only == side) {
            failed += one(side, &suite, &output, &madang, arguments)?;
        }
    }
    if failed > 0 {
        bail!("{failed} tests failed; reports: {}", output.display());
    }
    Ok(())
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from).with_context(|| format!("list {}", from.display()))? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy(&entry.path(), &target)?;
        } else {
            fs::write(&target, fs::read(entry.path())?).with_context(|| format!("write {}", target.display()))?;
        }
    }
    Ok(())
}

/// What ends with the test.
struct Receiver(Child);

impl Drop for Receiver {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// `madang metrics` on a port of its own, once it answers.
fn receiver(madang: &Path, data: &Path, port: u16) -> Result<Receiver> {
    let child = Command::new(madang)
        .args(["metrics", "--web.enable-remote-write-receiver"])
        .arg(format!("--storage.tsdb.path={}", data.display()))
        .arg(format!("--web.listen-address=127.0.0.1:{port}"))
        .stdin(Stdio::null())
        .spawn()
        .with_context(|| format!("start {}", madang.display()))?;
    let receiver = Receiver(child);
    let until = Instant::now() + Duration::from_secs(20);
    while TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err() {
        if Instant::now() > until {
            bail!("`madang metrics` does not answer on port {port}");
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(receiver)
}

fn one(side: &str, suite: &Path, output: &Path, madang: &Path, arguments: &Arguments) -> Result<usize> {
    let dir = suite.join(side);
    let mut command = Command::new("go");
    command.current_dir(&dir).args(["test", "-json", "-count=1", "-timeout=60m"]).env("MADANG", madang);
    if let Some(pattern) = &arguments.run {
        command.arg(format!("-run={pattern}"));
    }
    let mut _receiver = None;
    if side == "receiver" {
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
        let data = output.join("data");
        if data.exists() {
            fs::remove_dir_all(&data)?;
        }
        _receiver = Some(receiver(madang, &data, port)?);
        let config = format!("remote_write:\n  - name: madang\n    url: http://127.0.0.1:{port}/api/v1/write\n");
        let file = output.join("receiver.yml");
        fs::write(&file, config)?;
        command.env("PROMETHEUS_RW2_COMPLIANCE_CONFIG_FILE", file);
    } else {
        command.env("PROMETHEUS_RW2_COMPLIANCE_SENDERS", "prometheus");
    }
    let done = command.output().context("run the suite")?;
    let text = String::from_utf8_lossy(&done.stdout);
    fs::write(output.join(format!("{side}.json")), text.as_bytes())?;
    fs::write(output.join(format!("{side}.txt")), &done.stderr)?;
    let counts = counts(&text);
    let count = |action: &str| counts.get(action).map_or(0, Vec::len);
    println!("{side}: {} passed, {} failed, {} skipped", count("pass"), count("fail"), count("skip"));
    for name in counts.get("fail").into_iter().flatten() {
        println!("  failed: {name}");
    }
    if count("pass") == 0 {
        bail!("{side}: no test ran: {}", String::from_utf8_lossy(&done.stderr));
    }
    Ok(count("fail"))
}

/// Names of the tests without tests below them, by what became of them.
fn counts(text: &str) -> BTreeMap<String, Vec<String>> {
    let mut found: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let events = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let ended: Vec<(String, String)> = events
        .filter_map(|event| Some((event["Action"].as_str()?.to_owned(), event["Test"].as_str()?.to_owned())))
        .filter(|(action, _)| matches!(action.as_str(), "pass" | "fail" | "skip"))
        .collect();
    for (action, name) in &ended {
        let below = format!("{name}/");
        if !ended.iter().any(|(_, other)| other.starts_with(&below)) {
            found.entry(action.clone()).or_default().push(name.clone());
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_innermost_tests_count() {
        let text = r#"{"Action":"run","Test":"A"}
{"Action":"pass","Test":"A/one"}
{"Action":"fail","Test":"A/two"}
{"Action":"fail","Test":"A"}
{"Action":"fail","Package":"p"}
no json"#;
        let counts = counts(text);
        assert_eq!(counts["pass"], ["A/one"]);
        assert_eq!(counts["fail"], ["A/two"]);
    }
}
