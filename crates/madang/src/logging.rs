//! Log lines on standard error, a line an event; `MADANG_LOG` (error, warn, info, debug, trace) sets how much.

use std::{io::IsTerminal, str::FromStr};

use tracing::level_filters::LevelFilter;
use tracing_subscriber::{Layer, filter::Targets, layer::SubscriberExt};

/// Starts logging for this process.
pub fn start(part: &str) {
    let wanted = std::env::var("MADANG_LOG").ok();
    let level = wanted.as_deref().and_then(|level| LevelFilter::from_str(level).ok());
    // Failed watches are reported once, by the crate `client`.
    let filter =
        Targets::new().with_default(level.unwrap_or(LevelFilter::INFO)).with_target("kube_runtime", LevelFilter::OFF);
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_filter(filter);
    // A second call, in tests, keeps the first one's settings.
    let _ = tracing::subscriber::set_global_default(tracing_subscriber::registry().with(lines));
    if let (Some(wanted), None) = (wanted, level) {
        tracing::warn!(part, wanted, "MADANG_LOG names no level: there are error, warn, info, debug and trace");
    }
    tracing::debug!(part, "log starts");
}
