//! `madang token`: what git, docker and Jenkins' clients are given for a password.
//!
//! ```text
//! administrator's certificate ─► TokenRequest for an account ─► a token on standard output
//! ```
//!
//! Whoever asks with it may what the account may: without `--account` everything, as whoever reads the administrator's key
//! may anyway.

use anyhow::{Result, bail};
use clap::Args;

use crate::{
    app::{CONSOLE, NAMESPACE},
    config::{Config, Place},
    login,
};

/// Print a password for git, docker and Jenkins clients; the user's name beside it is anything.
#[derive(Args, Debug)]
pub struct Token {
    #[command(flatten)]
    place: Place,
    /// Service account whose rights it has, as NAMESPACE/NAME; without it, all rights
    #[arg(long, value_name = "ACCOUNT")]
    account: Option<String>,
    /// How long it is good for, in hours
    #[arg(long, value_name = "HOURS", default_value_t = 24, value_parser = clap::value_parser!(u32).range(1..=8760))]
    hours: u32,
}

impl Token {
    /// Runs the command.
    pub fn run(self) -> Result<()> {
        let Some(config) = Config::of_instance(&self.place.data_dir)? else {
            bail!("no server has run with --data-dir {}", self.place.data_dir.display());
        };
        let account = match self.account.as_deref().map(|account| account.split_once('/')) {
            None => (NAMESPACE, CONSOLE),
            Some(Some(account)) => account,
            Some(None) => bail!("--account takes NAMESPACE/NAME"),
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        println!("{}", runtime.block_on(login::token(&config, account, i64::from(self.hours) * 3600))?);
        Ok(())
    }
}
