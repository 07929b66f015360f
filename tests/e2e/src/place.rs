//! A network namespace with an uplink, so that a wrong rule harms nobody else.

use std::{
    path::PathBuf,
    process::{Command, Stdio},
};

use anyhow::{Context, Result, bail};

/// A network namespace. The cluster in it removes it.
#[derive(Debug)]
pub struct Place {
    name: String,
    link: String,
    /// Address of its end of the uplink.
    pub address: String,
    /// Address of the machine's end: from inside, another machine.
    pub machine: String,
}

impl Place {
    /// Makes the namespace number `n` of this process. Its uplink leads to the machine alone.
    pub fn new(n: u32) -> Result<Self> {
        let id = std::process::id();
        let name = format!("e2e-{id}-{n}");
        let link = format!("e{}n{n}", id % 1_000_000);
        // 198.18.0.0/15 is set aside for tests between networks (RFC 2544).
        let subnet = format!("198.18.{}", (id + n) % 250);
        let near = format!("{subnet}.1");
        let address = format!("{subnet}.2");
        let place = Self { name: name.clone(), link: link.clone(), address, machine: near.clone() };
        let peer = format!("{link}p");
        ip(&["netns", "add", &name])?;
        ip(&["-n", &name, "link", "set", "lo", "up"])?;
        ip(&["link", "add", &link, "type", "veth", "peer", "name", &peer, "netns", &name])?;
        ip(&["addr", "add", &format!("{near}/24"), "dev", &link])?;
        ip(&["link", "set", &link, "up"])?;
        ip(&["-n", &name, "addr", "add", &format!("{}/24", place.address), "dev", &peer])?;
        ip(&["-n", &name, "link", "set", &peer, "up"])?;
        ip(&["-n", &name, "route", "add", "default", "via", &near])?;
        Ok(place)
    }

    /// The namespace's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The machine's end of the uplink.
    pub fn link(&self) -> &str {
        &self.link
    }

    /// A command that runs inside.
    pub fn command(&self, program: impl Into<PathBuf>) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net=/run/netns/{}", self.name)).arg(program.into());
        command
    }
}

fn ip(arguments: &[&str]) -> Result<()> {
    let output = Command::new("ip").args(arguments).stdin(Stdio::null()).output().context("run ip")?;
    if !output.status.success() {
        bail!("ip {}: {}", arguments.join(" "), String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}
