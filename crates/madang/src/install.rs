//! `madang install` and `madang uninstall`: a systemd service, and the removal of every trace.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context, Result, bail};
use clap::Args;
use task::Task;

use crate::{
    app,
    config::{Config, Flags, Place},
    pki,
};

/// Where the binary goes.
const BINARY: &str = "/usr/local/bin/madang";
const UNITS: &str = "/etc/systemd/system";

/// Install as a systemd service and start it.
#[derive(Args, Debug)]
pub struct Install {
    /// Name of the service; a second instance on one machine needs another, and directories, networks and ports of its own
    #[arg(long, value_name = "NAME", default_value = "madang")]
    name: String,
    /// Write the unit, but do not start it
    #[arg(long)]
    no_start: bool,
    /// Flags of `madang server`, after `--`
    #[arg(last = true, value_name = "SERVER FLAGS")]
    server: Vec<String>,
}

impl Install {
    /// Runs the command.
    pub fn run(self) -> Result<()> {
        require_root()?;
        if !Path::new("/run/systemd/system").exists() {
            bail!("this machine does not run systemd: start `madang server` by the service manager that it has");
        }
        check(&self.server)?;
        let own = std::env::current_exe().context("find this binary")?;
        if own != Path::new(BINARY) {
            let new = Path::new(BINARY).with_extension("new");
            fs::copy(&own, &new).with_context(|| format!("copy {} to {}", own.display(), new.display()))?;
            fs::set_permissions(&new, fs::Permissions::from_mode(0o755))?;
            fs::rename(&new, BINARY).with_context(|| format!("put {BINARY} in place"))?;
        }
        let path = unit_path(&self.name)?;
        pki::write(&path, unit(&self.server).as_bytes(), None, 0o644)?;
        systemctl(&["daemon-reload"])?;
        if self.no_start {
            println!("{} is written; start it with: systemctl enable --now {}", path.display(), self.name);
            return Ok(());
        }
        systemctl(&["enable", "--now", &self.name])?;
        println!("{} runs; see it with: systemctl status {}", self.name, self.name);
        println!("kubectl finds it with: export KUBECONFIG=/var/lib/madang/kubeconfig");
        Ok(())
    }
}

/// Refuses flags that the server would refuse, before anything is written.
fn check(server: &[String]) -> Result<()> {
    use clap::{CommandFactory, FromArgMatches};
    #[derive(clap::Parser)]
    struct Server {
        #[command(flatten)]
        flags: Flags,
    }
    let arguments = std::iter::once("madang server".to_owned()).chain(server.iter().cloned());
    let matches = Server::command().try_get_matches_from(arguments)?;
    Server::from_arg_matches(&matches)?.flags.resolve().map(drop)
}

fn unit(server: &[String]) -> String {
    let quoted = |flag: &String| {
        format!(" \"{}\"", flag.replace('\\', "\\\\").replace('"', "\\\"").replace('%', "%%").replace('$', "$$"))
    };
    let flags: String = server.iter().map(quoted).collect();
    format!(
        "[Unit]\n\
         Description=Madang container environment\n\
         After=network-online.target\n\
         Wants=network-online.target\n\
         \n\
         [Service]\n\
         ExecStart={BINARY} server{flags}\n\
         Restart=always\n\
         RestartSec=1\n\
         # Containers outlive the server, in control groups of their own.\n\
         KillMode=process\n\
         # Keeps every controller switched on for groups beside this one.\n\
         Delegate=yes\n\
         OOMScoreAdjust=-999\n\
         LimitNOFILE=1048576\n\
         TasksMax=infinity\n\
         TimeoutStopSec=45\n\
         \n\
         [Install]\n\
         WantedBy=multi-user.target\n"
    )
}

fn unit_path(name: &str) -> Result<PathBuf> {
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    if name.is_empty() || !name.chars().all(plain) {
        bail!("{name:?} is no name for a service: use letters, digits, '-' and '_'");
    }
    Ok(Path::new(UNITS).join(format!("{name}.service")))
}

fn systemctl(arguments: &[&str]) -> Result<()> {
    let status = Command::new("systemctl").args(arguments).status().context("run systemctl")?;
    if !status.success() {
        bail!("systemctl {} failed: {status}", arguments.join(" "));
    }
    Ok(())
}

fn require_root() -> Result<()> {
    if !rustix::process::geteuid().is_root() {
        bail!("this needs root: use sudo");
    }
    Ok(())
}

/// Stop the service and remove every trace: containers, links, tables, mounts, cgroups.
#[derive(Args, Debug)]
pub struct Uninstall {
    #[command(flatten)]
    place: Place,
    /// Name of the service
    #[arg(long, value_name = "NAME", default_value = "madang")]
    name: String,
    /// Remove all data too: objects, images, volumes, keys
    #[arg(long)]
    data: bool,
}

impl Uninstall {
    /// Runs the command.
    pub fn run(self) -> Result<()> {
        require_root()?;
        let Some(config) = Config::of_instance(&self.place.data_dir)? else {
            bail!("no instance has ever run with --data-dir {}", self.place.data_dir.display());
        };
        let unit = unit_path(&self.name)?;
        let ours = fs::read_to_string(&unit).is_ok_and(|text| {
            let dir = format!("\"{}\"", config.data_dir.display());
            text.contains(&dir) || (!text.contains("--data-dir") && config.data_dir == Path::new("/var/lib/madang"))
        });
        if ours {
            systemctl(&["disable", "--now", &self.name])?;
            fs::remove_file(&unit).with_context(|| format!("remove {}", unit.display()))?;
            systemctl(&["daemon-reload"])?;
        }
        let lock = fs::File::options().write(true).open(config.data_dir.join("lock")).context("open lock")?;
        if rustix::fs::flock(&lock, rustix::fs::FlockOperation::NonBlockingLockExclusive).is_err() {
            bail!("`madang server` still runs in {}: stop it first", config.data_dir.display());
        }
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            let task = Task::root("uninstall");
            let removed = app::remove_everything(&task, &config).await;
            task.drain(Duration::from_secs(2)).await;
            removed
        })?;
        if self.data {
            fs::remove_dir_all(&config.data_dir).with_context(|| format!("remove {}", config.data_dir.display()))?;
        }
        match fs::remove_dir_all(&config.run_dir) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(error).with_context(|| format!("remove {}", config.run_dir.display()))
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_are_quoted_for_systemd_and_checked_first() {
        let flags = ["--data-dir".to_owned(), "/srv/a b\"$x%".to_owned()];
        assert!(unit(&flags).contains(r#"server "--data-dir" "/srv/a b\"$$x%%""#), "{}", unit(&flags));
        assert!(check(&flags).is_ok());
        assert!(check(&["--no-such-flag".to_owned()]).is_err());
        assert!(check(&["--without".to_owned(), "everything".to_owned()]).is_err());
        assert!(unit_path("../x").is_err());
    }
}
