//! `madang console`: a link that signs a browser in, once and within ten minutes.
//!
//! ```text
//! administrator's certificate ─► TokenRequest for madang-system/console-login ─► file that only the console reads
//! link with the file's code ─► browser ─► console takes the file away, and seals the token in a cookie
//! ```
//!
//! The code stands behind `#`, so that it is sent to no server by itself and stands in no log.

use ::console::session::Place as Links;
use anyhow::{Result, bail};
use clap::Args;

use crate::{
    app::{CONSOLE, NAMESPACE},
    config::{Config, Place},
    login,
};

/// Print a link that signs a browser in to the web interface, once.
#[derive(Args, Debug)]
pub struct Console {
    #[command(flatten)]
    place: Place,
    /// How long the session is good for, in hours
    #[arg(long, value_name = "HOURS", default_value_t = 168, value_parser = clap::value_parser!(u32).range(1..=720))]
    hours: u32,
    /// Print a token to sign in with instead of a link
    #[arg(long)]
    token: bool,
}

impl Console {
    /// Runs the command.
    pub fn run(self) -> Result<()> {
        let Some(config) = Config::of_instance(&self.place.data_dir)? else {
            bail!("no server has run with --data-dir {}", self.place.data_dir.display());
        };
        if !config.with("console") {
            bail!("the server runs without its console");
        }
        let seconds = i64::from(self.hours) * 3600;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let token = runtime.block_on(login::token(&config, (NAMESPACE, CONSOLE), seconds))?;
        if self.token {
            println!("{token}");
            return Ok(());
        }
        let code = Links::of(&config.data_dir).leave(&token, Some(config.edge_uid))?;
        println!("http://127.0.0.1:{}/sign-in#{code}", config.port("console"));
        Ok(())
    }
}
