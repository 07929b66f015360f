//! `docker run`: what of its options a container in a Pod can have.
//!
//! Containers of a Pod share its network: a port is the container's own, and `--link` gives the Pod's own address a name.

use super::words::{Options, Word, words};

const WHAT: &str = "docker args";

/// What a container is to have.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// The number of its user, and of its group.
    pub user: Option<i64>,
    /// As above.
    pub group: Option<i64>,
    /// Its variables.
    pub environment: Vec<(String, String)>,
    /// What is run instead of the image's own; empty where `--entrypoint ''` says so.
    pub entrypoint: Option<String>,
    /// Names by which the Pod knows itself.
    pub aliases: Vec<String>,
    /// Names with addresses.
    pub hosts: Vec<(String, String)>,
    /// Ports on both sides.
    pub ports: Vec<(String, String)>,
}

impl Wanted {
    /// What a line of arguments says; `variable` has the values of variables that are named without one.
    ///
    /// # Errors
    /// An option is not known, or cannot be had here.
    pub fn parse(line: &str, variable: impl Fn(&str) -> Option<String>) -> Result<Self, String> {
        let mut options = Options::new(line, WHAT)?;
        let mut wanted = Self::default();
        while let Some(word) = options.next() {
            let (name, given) = match word {
                Word::Plain(word) => return Err(format!("{WHAT}: {word:?} is no option")),
                Word::Option(name, given) => (name, given),
            };
            match &*name {
                "-u" | "--user" => {
                    let value = options.value(&name, given)?;
                    let (user, group) = match value.split_once(':') {
                        Some((user, group)) => (user, Some(group)),
                        None => (&*value, None),
                    };
                    (wanted.user, wanted.group) = (Some(number(user)?), group.map(number).transpose()?);
                }
                "-e" | "--env" => {
                    let value = options.value(&name, given)?;
                    match value.split_once('=') {
                        Some((name, value)) => wanted.environment.push((name.to_owned(), value.to_owned())),
                        None => wanted.environment.extend(variable(&value).map(|found| (value, found))),
                    }
                }
                "--entrypoint" => wanted.entrypoint = Some(options.value(&name, given)?),
                "--link" => {
                    let value = options.value(&name, given)?;
                    wanted.aliases.push(host(value.split_once(':').map_or(&*value, |(_, alias)| alias))?);
                }
                "--name" | "--network-alias" | "--hostname" | "-h" => {
                    wanted.aliases.push(host(&options.value(&name, given)?)?);
                }
                "--add-host" => {
                    let value = options.value(&name, given)?;
                    let (name, address) = value
                        .split_once([':', '='])
                        .ok_or_else(|| format!("{WHAT}: --add-host {value:?} is no NAME:ADDRESS"))?;
                    let address = match address {
                        "host-gateway" => "127.0.0.1",
                        address if address.parse::<std::net::IpAddr>().is_ok() => address,
                        address => return Err(format!("{WHAT}: --add-host: {address:?} is no address")),
                    };
                    wanted.hosts.push((host(name)?, address.to_owned()));
                }
                "-p" | "--publish" => {
                    let value = options.value(&name, given)?;
                    let value = value.split('/').next().unwrap_or_default();
                    let mut parts = value.rsplit(':');
                    let inner = parts.next().unwrap_or_default().to_owned();
                    let outer = parts.next().filter(|port| !port.is_empty()).unwrap_or(&inner).to_owned();
                    wanted.ports.push((outer, inner));
                }
                "--privileged" | "--cap-add" | "--device" | "--pid" | "--ipc" | "--security-opt" => {
                    return Err(format!(
                        "{WHAT}: {name}: describe such an agent as a Pod, where admission can judge it"
                    ));
                }
                "--init" | "--rm" | "-i" | "-t" | "-it" | "-d" | "--interactive" | "--tty" | "--detach" | "-P" => {}
                // Caches between runs, mostly: they are not there, and nothing fails without them.
                "-v" | "--volume" | "--mount" | "--tmpfs" | "--volumes-from" => drop(options.value(&name, given)?),
                "--network" | "--net" | "-w" | "--workdir" | "-m" | "--memory" | "--cpus" | "--shm-size"
                | "--ulimit" | "--group-add" | "-l" | "--label" | "--restart" | "--pull" | "--platform"
                | "--log-driver" | "--log-opt" | "--expose" | "--health-cmd" | "--stop-signal" | "--memory-swap"
                | "--dns" => {
                    drop(options.value(&name, given)?);
                }
                other => return Err(format!("{WHAT}: {other} is not known here")),
            }
        }
        for (outer, inner) in &wanted.ports {
            if outer != inner && outer.parse::<u16>().is_ok_and(|port| port != 0) {
                return Err(format!(
                    "{WHAT}: -p {outer}:{inner}: the container shares the agent's network: it answers at port {inner}"
                ));
            }
        }
        Ok(wanted)
    }
}

/// The words of a command.
///
/// # Errors
/// A quote has no end.
pub fn command(line: &str) -> Result<Vec<String>, String> {
    words(line)
}

fn number(text: &str) -> Result<i64, String> {
    match text {
        "root" => Ok(0),
        _ => text.parse().map_err(|_| format!("{WHAT}: {text:?} is no number of a user")),
    }
}

/// A host's name, which will stand in a script.
fn host(text: &str) -> Result<String, String> {
    let plain = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte));
    if text.is_empty() || text.len() > 253 || !plain || text.starts_with('-') {
        return Err(format!("{WHAT}: {text:?} is no name of a host"));
    }
    Ok(text.to_owned())
}
