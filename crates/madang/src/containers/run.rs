//! `madang run` and `madang exec`.

use std::{collections::BTreeMap, path::PathBuf, process};

use anyhow::{Context, Result, bail};
use clap::Args;
use http::{Method, StatusCode};
use http_body_util::BodyExt as _;
use oci::query::encoded;
use serde_json::{Map, Value, json};

use super::{
    block_on,
    client::{Client, Refused},
    limits::Limits,
    session::{self, Session},
};
use crate::config::Place;

/// Exit code where the engine refuses to run something.
const REFUSED: i32 = 125;

/// Run a command in a new container.
#[derive(Args, Debug)]
#[command(disable_help_flag = true)]
pub struct Run {
    #[command(flatten)]
    place: Place,
    /// Print help
    #[arg(long, action = clap::ArgAction::Help)]
    help: Option<bool>,
    /// Leave it running in the background and print its id
    #[arg(short, long)]
    detach: bool,
    /// Keep standard input open
    #[arg(short, long)]
    interactive: bool,
    /// Give it a terminal
    #[arg(short, long)]
    tty: bool,
    /// Remove it, with its anonymous volumes, when it ends
    #[arg(long)]
    rm: bool,
    /// Only make it, do not start it
    #[arg(long, hide = true)]
    create: bool,
    /// Name of the container
    #[arg(long)]
    name: Option<String>,
    /// NAME=VALUE, or the name of a variable to pass on (repeatable)
    #[arg(short, long, value_name = "NAME=VALUE")]
    env: Vec<String>,
    /// File of such lines (repeatable)
    #[arg(long, value_name = "FILE")]
    env_file: Vec<PathBuf>,
    /// SOURCE:TARGET[:OPTIONS] (repeatable)
    #[arg(short, long, value_name = "MOUNT")]
    volume: Vec<String>,
    /// Mounts of another container (repeatable)
    #[arg(long, value_name = "CONTAINER")]
    volumes_from: Vec<String>,
    /// A file system in memory: PATH[:OPTIONS] (repeatable)
    #[arg(long, value_name = "PATH")]
    tmpfs: Vec<String>,
    /// [[ADDRESS:]PORT:]PORT[/PROTOCOL] of the machine and the container (repeatable)
    #[arg(short, long, value_name = "PORTS")]
    publish: Vec<String>,
    /// Publish all exposed ports
    #[arg(short = 'P', long)]
    publish_all: bool,
    /// PORT[/PROTOCOL] to expose (repeatable)
    #[arg(long, value_name = "PORT")]
    expose: Vec<String>,
    /// bridge, host, none, container:NAME, or a network's name
    #[arg(long, visible_alias = "net", value_name = "NETWORK")]
    network: Option<String>,
    /// A further name in the network (repeatable)
    #[arg(long, value_name = "NAME")]
    network_alias: Vec<String>,
    /// Address in the network
    #[arg(long, value_name = "ADDRESS")]
    ip: Option<String>,
    /// NAME:ADDRESS for /etc/hosts (repeatable)
    #[arg(long, value_name = "NAME:ADDRESS")]
    add_host: Vec<String>,
    /// Name server (repeatable)
    #[arg(long, value_name = "ADDRESS")]
    dns: Vec<String>,
    /// Host name inside
    #[arg(short = 'h', long)]
    hostname: Option<String>,
    /// Working directory
    #[arg(short, long, value_name = "DIR")]
    workdir: Option<String>,
    /// USER[:GROUP]
    #[arg(short, long)]
    user: Option<String>,
    /// A further group (repeatable)
    #[arg(long, value_name = "GROUP")]
    group_add: Vec<String>,
    /// Replaces the image's first words
    #[arg(long)]
    entrypoint: Option<String>,
    /// NAME=VALUE (repeatable)
    #[arg(short, long, value_name = "NAME=VALUE")]
    label: Vec<String>,
    /// Memory, such as 512m
    #[arg(short, long, value_name = "BYTES")]
    memory: Option<String>,
    /// Processors, such as 1.5
    #[arg(long, value_name = "N")]
    cpus: Option<f64>,
    /// Processes and threads
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pids_limit: Option<i64>,
    /// Bytes of /dev/shm
    #[arg(long, value_name = "BYTES")]
    shm_size: Option<String>,
    /// NAME=SOFT[:HARD] (repeatable)
    #[arg(long, value_name = "LIMIT")]
    ulimit: Vec<String>,
    /// NAME=VALUE (repeatable)
    #[arg(long, value_name = "NAME=VALUE")]
    sysctl: Vec<String>,
    /// PATH[:PATH[:rwm]] (repeatable)
    #[arg(long, value_name = "DEVICE")]
    device: Vec<String>,
    /// no, on-failure[:N], always, unless-stopped
    #[arg(long, value_name = "POLICY")]
    restart: Option<String>,
    /// All privileges
    #[arg(long)]
    privileged: bool,
    /// Capability to add (repeatable)
    #[arg(long, value_name = "NAME")]
    cap_add: Vec<String>,
    /// Capability to remove (repeatable)
    #[arg(long, value_name = "NAME")]
    cap_drop: Vec<String>,
    /// Such as no-new-privileges (repeatable)
    #[arg(long, value_name = "OPTION")]
    security_opt: Vec<String>,
    /// The root file system refuses writes
    #[arg(long)]
    read_only: bool,
    /// A first process that reaps others
    #[arg(long)]
    init: bool,
    /// host, or container:NAME
    #[arg(long, value_name = "MODE")]
    pid: Option<String>,
    /// private, shareable, host, none, or container:NAME
    #[arg(long, value_name = "MODE")]
    ipc: Option<String>,
    /// Signal that stops it
    #[arg(long, value_name = "SIGNAL")]
    stop_signal: Option<String>,
    /// Seconds until it is killed
    #[arg(long, value_name = "SECONDS", allow_negative_numbers = true)]
    stop_timeout: Option<i64>,
    /// Command that looks at its health
    #[arg(long, value_name = "COMMAND")]
    health_cmd: Option<String>,
    /// Domain name inside
    #[arg(long, value_name = "NAME", default_value = "")]
    domainname: String,
    /// Ethernet address, such as 92:d0:c6:0a:29:33
    #[arg(long, value_name = "ADDRESS", default_value = "")]
    mac_address: String,
    /// File of labels, one a line (repeatable)
    #[arg(long, value_name = "FILE")]
    label_file: Vec<PathBuf>,
    /// Write its id to a file
    #[arg(long, value_name = "FILE")]
    cidfile: Option<PathBuf>,
    /// Platform of the image, such as linux/amd64
    #[arg(long, value_name = "OS/ARCHITECTURE")]
    platform: Option<String>,
    /// Fetch the image: always, missing, never
    #[arg(long, value_name = "WHEN", default_value = "missing", value_parser = ["always", "missing", "never"])]
    pull: String,
    /// Say nothing while the image is fetched
    #[arg(short, long)]
    quiet: bool,
    /// Do not pass signals on to it
    #[arg(long = "sig-proxy", value_name = "BOOL", default_value_t = true, action = clap::ArgAction::Set)]
    signals: bool,
    #[command(flatten)]
    limits: Limits,
    /// Keys that end the session and not the process
    #[arg(long, value_name = "KEYS", default_value = "")]
    detach_keys: String,
    /// Name or id of the image
    image: String,
    /// Command and arguments
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    command: Vec<String>,
}

/// `512m`, `1.5g`, `1024`.
pub fn bytes(text: &str) -> Result<i64> {
    let lower = text.to_ascii_lowercase();
    let lower = lower.strip_suffix('b').unwrap_or(&lower);
    let digits = lower.trim_end_matches(|letter: char| letter.is_ascii_alphabetic());
    let factor = match &lower[digits.len()..] {
        "" => 1.0,
        "k" => 1024.0,
        "m" => 1_048_576.0,
        "g" => 1_073_741_824.0,
        _ => bail!("{text:?} is no size such as 512m"),
    };
    let number: f64 = digits.parse().with_context(|| format!("{text:?} is no size such as 512m"))?;
    Ok((number * factor) as i64)
}

/// Variables, in order; a name alone passes this process's own on.
fn variables(list: &[String], files: &[PathBuf]) -> Result<Vec<String>> {
    let mut lines = Vec::new();
    for file in files {
        let text = std::fs::read_to_string(file).with_context(|| format!("read {}", file.display()))?;
        let wanted = text.lines().map(str::trim_start).filter(|line| !line.is_empty() && !line.starts_with('#'));
        lines.extend(wanted.map(str::to_owned));
    }
    lines.extend(list.iter().cloned());
    let full = |line: String| match line.contains('=') {
        true => Some(line),
        false => std::env::var(&line).ok().map(|value| format!("{line}={value}")),
    };
    Ok(lines.into_iter().filter_map(full).collect())
}

/// `[[ADDRESS:]PORT:]PORT[/PROTOCOL]`: port of the container with protocol, address and port of the machine. Ranges of the
/// same length on both sides give several.
fn ports(text: &str) -> Result<Vec<(String, String, String)>> {
    let bad = || format!("--publish {text}: expected [[ADDRESS:]PORT:]PORT[/PROTOCOL]");
    let (rest, protocol) = text.rsplit_once('/').unwrap_or((text, "tcp"));
    let (rest, inside) = rest.rsplit_once(':').unwrap_or(("", rest));
    let (address, outside) = rest.rsplit_once(':').unwrap_or(("", rest));
    let range = |text: &str| -> Result<(u16, u16)> {
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        Ok((first.parse().with_context(bad)?, last.parse().with_context(bad)?))
    };
    let (first, last) = range(inside)?;
    let address = address.trim_matches(['[', ']']).to_owned();
    if outside.is_empty() {
        return Ok((first..=last).map(|port| (format!("{port}/{protocol}"), address.clone(), String::new())).collect());
    }
    let (low, high) = range(outside)?;
    if first == last && low != high {
        return Ok(vec![(format!("{first}/{protocol}"), address, outside.to_owned())]);
    }
    if last.checked_sub(first).is_none() || last - first != high.wrapping_sub(low) {
        bail!("--publish {text}: the ranges differ in length");
    }
    let pairs = (first..=last).zip(low..=high);
    Ok(pairs.map(|(inside, outside)| (format!("{inside}/{protocol}"), address.clone(), outside.to_string())).collect())
}

fn pairs(list: &[String], flag: &str) -> Result<BTreeMap<String, String>> {
    let pair = |text: &String| match text.split_once('=') {
        Some((name, value)) => Ok((name.to_owned(), value.to_owned())),
        None if flag == "--label" => Ok((text.clone(), String::new())),
        None => bail!("{flag} {text}: expected NAME=VALUE"),
    };
    list.iter().map(pair).collect()
}

/// Options of security; a profile of system calls is read here, since the file is this process's.
fn security(list: &[String]) -> Result<Vec<String>> {
    let one = |option: &String| match option.split_once(['=', ':']) {
        Some(("seccomp", file)) if !matches!(file, "unconfined" | "builtin") => {
            let text = std::fs::read_to_string(file).with_context(|| format!("read the seccomp profile {file}"))?;
            Ok(format!("seccomp={text}"))
        }
        _ => Ok(option.clone()),
    };
    list.iter().map(one).collect()
}

impl Run {
    /// The request that the flags mean.
    fn request(&self) -> Result<Value> {
        let mut bindings: BTreeMap<String, Vec<Value>> = BTreeMap::new();
        let mut exposed = Map::new();
        for text in &self.publish {
            for (port, address, outside) in ports(text)? {
                exposed.insert(port.clone(), json!({}));
                bindings.entry(port).or_default().push(json!({"HostIp": address, "HostPort": outside}));
            }
        }
        for port in &self.expose {
            exposed.insert(if port.contains('/') { port.clone() } else { format!("{port}/tcp") }, json!({}));
        }
        let (binds, volumes): (Vec<String>, Vec<String>) =
            self.volume.iter().cloned().partition(|text| text.contains(':'));
        let tmpfs: BTreeMap<&str, &str> =
            self.tmpfs.iter().map(|text| text.split_once(':').unwrap_or((text, ""))).collect();
        let restart = self.restart.as_deref().unwrap_or("no");
        let (policy, count) = restart.split_once(':').unwrap_or((restart, "0"));
        let mut ulimits = Vec::new();
        for (name, value) in pairs(&self.ulimit, "--ulimit")? {
            let (soft, hard) = value.split_once(':').unwrap_or((&value, &value));
            ulimits.push(json!({"Name": name, "Soft": soft.parse::<i64>()?, "Hard": hard.parse::<i64>()?}));
        }
        let devices: Vec<Value> = self
            .device
            .iter()
            .map(|text| {
                let parts: Vec<&str> = text.split(':').collect();
                let access = parts.get(2).copied().unwrap_or("rwm");
                json!({"PathOnHost": parts[0], "PathInContainer": parts.get(1).unwrap_or(&parts[0]),
                       "CgroupPermissions": access})
            })
            .collect();
        let network = self.network.clone().unwrap_or_else(|| "bridge".into());
        let mut host = json!({
            "Binds": binds, "VolumesFrom": self.volumes_from, "Tmpfs": tmpfs, "PortBindings": bindings,
            "PublishAllPorts": self.publish_all, "NetworkMode": network, "ExtraHosts": self.add_host, "Dns": self.dns,
            "GroupAdd": self.group_add, "AutoRemove": self.rm, "Privileged": self.privileged, "CapAdd": self.cap_add,
            "CapDrop": self.cap_drop, "SecurityOpt": security(&self.security_opt)?, "ReadonlyRootfs": self.read_only,
            "RestartPolicy": {"Name": policy, "MaximumRetryCount": count.parse::<i64>().context("--restart")?},
            "Ulimits": ulimits, "Sysctls": pairs(&self.sysctl, "--sysctl")?, "Devices": devices,
            "PidMode": self.pid.clone().unwrap_or_default(), "IpcMode": self.ipc.clone().unwrap_or_default(),
            "PidsLimit": self.pids_limit,
        });
        self.limits.put(&mut host)?;
        if let Some(memory) = &self.memory {
            host["Memory"] = bytes(memory)?.into();
        }
        if let Some(size) = &self.shm_size {
            host["ShmSize"] = bytes(size)?.into();
        }
        if let Some(cpus) = self.cpus {
            host["NanoCpus"] = ((cpus * 1e9) as i64).into();
        }
        if self.init {
            host["Init"] = true.into();
        }
        if let Some((rows, columns)) = session::size().filter(|_| self.tty) {
            host["ConsoleSize"] = json!([rows, columns]);
        }
        let mut labels = BTreeMap::new();
        for file in &self.label_file {
            let text = std::fs::read_to_string(file).with_context(|| format!("read {}", file.display()))?;
            let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
            labels.extend(pairs(&lines.map(str::to_owned).collect::<Vec<_>>(), "--label")?);
        }
        labels.extend(pairs(&self.label, "--label")?);
        let mut endpoint = json!({"Aliases": self.network_alias, "MacAddress": self.mac_address});
        if let Some(ip) = &self.ip {
            endpoint["IPAMConfig"] = json!({"IPv4Address": ip});
        }
        let attached = !self.detach;
        let mut request = json!({
            "Image": self.image, "Env": variables(&self.env, &self.env_file)?, "Tty": self.tty,
            "OpenStdin": self.interactive, "StdinOnce": self.interactive && attached,
            "AttachStdin": self.interactive && attached, "AttachStdout": attached, "AttachStderr": attached,
            "Hostname": self.hostname.clone().unwrap_or_default(), "User": self.user.clone().unwrap_or_default(),
            "WorkingDir": self.workdir.clone().unwrap_or_default(), "Labels": labels, "Domainname": self.domainname,
            "ExposedPorts": exposed, "StopSignal": self.stop_signal.clone().unwrap_or_default(),
            "StopTimeout": self.stop_timeout,
            "Volumes": volumes.into_iter().map(|path| (path, json!({}))).collect::<Map<_, _>>(),
            "HostConfig": host,
        });
        if !network.starts_with("container:")
            && (!self.network_alias.is_empty() || self.ip.is_some() || !self.mac_address.is_empty())
        {
            request["NetworkingConfig"] = json!({"EndpointsConfig": {network: endpoint}});
        }
        if !self.command.is_empty() {
            request["Cmd"] = json!(self.command);
        }
        if let Some(entrypoint) = &self.entrypoint {
            request["Entrypoint"] = json!([entrypoint]);
        }
        if let Some(check) = self.limits.health(self.health_cmd.as_deref())? {
            request["Healthcheck"] = check;
        }
        Ok(request)
    }

    /// Runs the command; ends the process with the container's exit code.
    pub fn run(self) -> Result<()> {
        let request = self.request()?;
        let code = block_on(async {
            let client = Client::new(&self.place);
            self.work(&client, &request).await
        });
        finish(code)
    }

    async fn work(&self, client: &Client, request: &Value) -> Result<i32> {
        if let Some(file) = self.cidfile.as_ref().filter(|file| file.exists()) {
            bail!("{} is there already: remove it, or name another with --cidfile", file.display());
        }
        let id = self.make(client, request).await?;
        if let Some(file) = &self.cidfile {
            std::fs::write(file, &id).with_context(|| format!("write {}", file.display()))?;
        }
        if self.create {
            println!("{id}");
            return Ok(0);
        }
        let path = format!("/containers/{id}");
        if self.detach {
            client.json(Method::POST, &format!("{path}/start"), None).await.map_err(started)?;
            println!("{id}");
            return Ok(0);
        }
        let attach = format!(
            "{path}/attach?stream=1&stdin={}&stdout=1&stderr=1&detachKeys={}",
            u8::from(self.interactive),
            encoded(&self.detach_keys)
        );
        let connection = client.upgrade(&attach, None).await?;
        let condition = if self.rm { "removed" } else { "next-exit" };
        let waiting = client.stream(Method::POST, &format!("{path}/wait?condition={condition}")).await?;
        client.json(Method::POST, &format!("{path}/start"), None).await.map_err(started)?;
        let session =
            Session { input: self.interactive, terminal: self.tty, path: path.clone(), signals: self.signals };
        session::run(client, connection, &session).await?;
        // The session may have ended by its keys, while the container runs on.
        let shown = client.json(Method::GET, &format!("{path}/json"), None).await;
        if shown.is_ok_and(|shown| shown["State"]["Running"] == true && self.tty) {
            return Ok(0);
        }
        let text = waiting.collect().await.context("wait for the container")?.to_bytes();
        let ended: Value = serde_json::from_slice(&text).context("answer of the engine")?;
        Ok(ended["StatusCode"].as_i64().and_then(|code| i32::try_from(code).ok()).unwrap_or(REFUSED))
    }

    /// Makes the container; an image that is not here is fetched first.
    async fn make(&self, client: &Client, request: &Value) -> Result<String> {
        let query = [("name", &self.name), ("platform", &self.platform)].into_iter();
        let query: Vec<String> =
            query.filter_map(|(name, value)| Some(format!("{name}={}", encoded(value.as_deref()?)))).collect();
        let path = format!("/containers/create?{}", query.join("&"));
        if self.pull == "always" {
            crate::images::fetch(&self.place, &self.image, self.quiet).await?;
        }
        let made = match client.json(Method::POST, &path, Some(request)).await {
            Err(error) if is_missing(&error) && self.pull == "missing" => {
                if !self.quiet {
                    eprintln!("image {} is not here: fetching it", self.image);
                }
                crate::images::fetch(&self.place, &self.image, self.quiet).await?;
                client.json(Method::POST, &path, Some(request)).await?
            }
            made => made?,
        };
        for warning in made["Warnings"].as_array().into_iter().flatten().filter_map(Value::as_str) {
            eprintln!("madang: {warning}");
        }
        Ok(made["Id"].as_str().context("answer of the engine: no id")?.to_owned())
    }
}

fn is_missing(error: &anyhow::Error) -> bool {
    error
        .downcast_ref::<Refused>()
        .is_some_and(|refused| refused.status == StatusCode::NOT_FOUND && refused.message.starts_with("No such image"))
}

/// The exit code that stands for a start that failed.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
struct NotStarted {
    code: i32,
    message: String,
}

fn started(error: anyhow::Error) -> anyhow::Error {
    let message = format!("{error:#}");
    let code = if message.contains("permission denied") || message.contains("not executable") {
        126
    } else if message.contains("not found") || message.contains("no such file") {
        127
    } else {
        REFUSED
    };
    NotStarted { code, message }.into()
}

/// Ends the process as the container did.
fn finish(code: Result<i32>) -> Result<()> {
    match code {
        Ok(0) => Ok(()),
        Ok(code) => process::exit(code),
        Err(error) => {
            eprintln!("madang: {error:#}");
            process::exit(error.downcast_ref::<NotStarted>().map_or(REFUSED, |failed| failed.code))
        }
    }
}

/// Run a command in a running container.
#[derive(Args, Debug)]
pub struct Exec {
    #[command(flatten)]
    place: Place,
    /// Do not wait for it
    #[arg(short, long)]
    detach: bool,
    /// Keep standard input open
    #[arg(short, long)]
    interactive: bool,
    /// Give it a terminal
    #[arg(short, long)]
    tty: bool,
    /// NAME=VALUE, or the name of a variable to pass on (repeatable)
    #[arg(short, long, value_name = "NAME=VALUE")]
    env: Vec<String>,
    /// File of such lines (repeatable)
    #[arg(long, value_name = "FILE")]
    env_file: Vec<PathBuf>,
    /// Keys that end the session and not the process
    #[arg(long, value_name = "KEYS", default_value = "")]
    detach_keys: String,
    /// USER[:GROUP]
    #[arg(short, long)]
    user: Option<String>,
    /// Working directory
    #[arg(short, long, value_name = "DIR")]
    workdir: Option<String>,
    /// With all privileges
    #[arg(long)]
    privileged: bool,
    /// Name or id
    container: String,
    /// Command and arguments
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    command: Vec<String>,
}

impl Exec {
    /// Runs the command; ends the process with its exit code.
    pub fn run(self) -> Result<()> {
        let code = block_on(async { self.work(&Client::new(&self.place)).await });
        finish(code)
    }

    async fn work(&self, client: &Client) -> Result<i32> {
        let attached = !self.detach;
        let request = json!({
            "AttachStdin": self.interactive && attached, "AttachStdout": attached, "AttachStderr": attached,
            "Tty": self.tty, "Cmd": self.command, "Env": variables(&self.env, &self.env_file)?,
            "DetachKeys": self.detach_keys,
            "User": self.user.clone().unwrap_or_default(), "WorkingDir": self.workdir.clone().unwrap_or_default(),
            "Privileged": self.privileged,
        });
        let made = client
            .json(Method::POST, &format!("/containers/{}/exec", encoded(&self.container)), Some(&request))
            .await?;
        let id = made["Id"].as_str().context("answer of the engine: no id")?;
        let path = format!("/exec/{id}");
        let start = json!({"Detach": self.detach, "Tty": self.tty});
        if self.detach {
            client.json(Method::POST, &format!("{path}/start"), Some(&start)).await?;
            return Ok(0);
        }
        let connection = client.upgrade(&format!("{path}/start"), Some(&start)).await?;
        let session = Session { input: self.interactive, terminal: self.tty, path: path.clone(), signals: false };
        session::run(client, connection, &session).await?;
        let shown = client.json(Method::GET, &format!("{path}/json"), None).await?;
        Ok(shown["ExitCode"].as_i64().and_then(|code| i32::try_from(code).ok()).unwrap_or(REFUSED))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_read_in_all_their_forms() {
        let one = |port: &str, address: &str, outside: &str| (port.to_owned(), address.to_owned(), outside.to_owned());
        assert_eq!(ports("80").unwrap(), [one("80/tcp", "", "")]);
        assert_eq!(ports("8080:80/udp").unwrap(), [one("80/udp", "", "8080")]);
        assert_eq!(ports("127.0.0.1::80").unwrap(), [one("80/tcp", "127.0.0.1", "")]);
        assert_eq!(ports("1-2:3-4").unwrap(), [one("3/tcp", "", "1"), one("4/tcp", "", "2")]);
        assert_eq!(ports("8000-9000:80").unwrap(), [one("80/tcp", "", "8000-9000")]);
        for bad in ["", "x", "1-3:4-5", "80:x"] {
            assert!(ports(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn sizes_are_read() {
        for (text, expected) in [("512m", 512 << 20), ("1g", 1 << 30), ("64kb", 64 << 10), ("7", 7), ("1.5k", 1536)] {
            assert_eq!(bytes(text).unwrap(), expected, "{text}");
        }
        assert!(bytes("much").is_err());
    }
}
