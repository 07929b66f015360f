//! Looking at a container's health: a command, run again and again.
//!
//! ```text
//! starting ──success──▶ healthy ◀──success── unhealthy
//!     └──── retries failures, after the start period ────▶┘   (from healthy too)
//! ```
//!
//! Specification: <https://docs.docker.com/reference/dockerfile/#healthcheck>.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use crate::{
    Engine,
    container::{Container, exec, lock},
    model::{
        config::{Config, Healthcheck},
        record::{Health, Look},
    },
    system::timestamp,
};

const INTERVAL: Duration = Duration::from_secs(30);
const TIMEOUT: Duration = Duration::from_secs(30);
const START_INTERVAL: Duration = Duration::from_secs(5);
const RETRIES: i64 = 3;
/// Looks that are remembered.
const REMEMBERED: usize = 5;
/// Bytes of what a look said.
const OUTPUT: usize = 4096;

/// Begins to look, where there is anything to look at. `again` is what is known of a run that was found again.
pub(crate) fn watch(engine: &Engine, container: &Arc<Container>, again: Option<Health>) {
    let config = container.look(|record| record.config.clone());
    let Some(check) = config.healthcheck.clone().filter(Healthcheck::is_some) else { return };
    let Some(command) = command(&check, &config) else { return };
    let looks = engine.task().child("health");
    *lock(&container.run) = Some(looks.clone());
    let sandbox = container.change(|record| {
        let sandbox = record.state.sandbox.clone();
        // One that was found again keeps what is known of it.
        if again.is_none_or(|health| health.status == "starting") {
            record.state.health = Some(Health { status: "starting".into(), ..Health::default() });
        }
        sandbox
    });
    let (engine, container) = (engine.clone(), container.clone());
    looks.clone().spawn_until_cancelled("health", async move {
        let started = container.look(|record| record.state.started_at).unwrap_or_else(SystemTime::now);
        loop {
            let age = SystemTime::now().duration_since(started).unwrap_or_default();
            let early = age < Healthcheck::duration(check.start_period, Duration::ZERO);
            let starting =
                container.look(|record| record.state.health.as_ref().is_some_and(|health| health.status == "starting"));
            tokio::time::sleep(pause(&check, early && starting)).await;
            let begun = SystemTime::now();
            let wanted = exec::Wanted {
                cmd: command.clone(),
                attach_stdout: true,
                attach_stderr: true,
                ..exec::Wanted::default()
            };
            let timeout = Healthcheck::duration(check.timeout, TIMEOUT);
            let look = match exec::run(&engine, &container, wanted, OUTPUT, timeout).await {
                Ok(Some((code, said))) => (code, String::from_utf8_lossy(&said).into_owned()),
                Ok(None) => (-1, format!("Health check exceeded timeout ({timeout:?})")),
                Err(error) => (-1, error.message),
            };
            let running = container
                .look(|record| record.state.sandbox == sandbox && record.state.is_running() && !record.state.paused);
            if !running {
                continue;
            }
            let age = begun.duration_since(started).unwrap_or_default();
            let look =
                Look { start: timestamp(begun), end: timestamp(SystemTime::now()), exit_code: look.0, output: look.1 };
            let (before, after) = container.change(|record| {
                let health = record.state.health.get_or_insert_default();
                let before = health.status.clone();
                note(health, look, &check, age);
                (before, health.status.clone())
            });
            if before != after {
                container.save_or_warn(&engine).await;
                container.tell(&engine, &format!("health_status: {after}"), &[]);
            }
        }
    });
}

/// How long until the next look.
fn pause(check: &Healthcheck, early: bool) -> Duration {
    if early {
        Healthcheck::duration(check.start_interval, START_INTERVAL)
    } else {
        Healthcheck::duration(check.interval, INTERVAL)
    }
}

/// What is run.
fn command(check: &Healthcheck, config: &Config) -> Option<Vec<String>> {
    let (kind, rest) = check.test.split_first()?;
    match kind.as_str() {
        "CMD" => Some(rest.to_vec()).filter(|words| !words.is_empty()),
        "CMD-SHELL" => {
            let shell = config.shell.clone().filter(|shell| !shell.is_empty());
            let mut line = shell.unwrap_or_else(|| vec!["/bin/sh".into(), "-c".into()]);
            line.push(rest.first()?.clone());
            Some(line)
        }
        _ => None,
    }
}

/// Takes a look into account; `age` is for how long the container had run then.
fn note(health: &mut Health, look: Look, check: &Healthcheck, age: Duration) {
    let retries = if check.retries > 0 { check.retries } else { RETRIES };
    let starting = health.status == "starting";
    if look.exit_code == 0 {
        health.failing_streak = 0;
        health.status = "healthy".into();
    } else if !(starting && age < Healthcheck::duration(check.start_period, Duration::ZERO)) {
        health.failing_streak += 1;
        if health.failing_streak >= retries {
            health.status = "unhealthy".into();
        }
    }
    health.log.push(look);
    let excess = health.log.len().saturating_sub(REMEMBERED);
    health.log.drain(..excess);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn look(exit_code: i32) -> Look {
        Look { exit_code, ..Look::default() }
    }

    #[test]
    fn failures_count_only_after_the_start_period_and_in_a_row() {
        let check = Healthcheck { retries: 2, start_period: 10_000_000_000, ..Healthcheck::default() };
        let mut health = Health { status: "starting".into(), ..Health::default() };
        let mut seen = Vec::new();
        for (code, seconds) in [(1, 1), (1, 2), (1, 3), (1, 11), (0, 12), (1, 13), (0, 14), (1, 15), (1, 16), (0, 17)] {
            note(&mut health, look(code), &check, Duration::from_secs(seconds));
            seen.push(health.status.clone());
        }
        let expected = [
            "starting",
            "starting",
            "starting",
            "starting",
            "healthy",
            "healthy",
            "healthy",
            "healthy",
            "unhealthy",
            "healthy",
        ];
        assert_eq!(seen, expected);
        assert_eq!(health.log.len(), REMEMBERED);
    }

    #[test]
    fn a_line_is_run_by_the_images_shell() {
        let check = |words: &[&str]| Healthcheck {
            test: words.iter().map(|word| (*word).to_owned()).collect(),
            ..Healthcheck::default()
        };
        let config = Config { shell: Some(vec!["/bin/bash".into(), "-c".into()]), ..Config::default() };
        assert_eq!(command(&check(&["CMD-SHELL", "a b"]), &config).unwrap(), ["/bin/bash", "-c", "a b"]);
        assert_eq!(command(&check(&["CMD", "a", "b"]), &config).unwrap(), ["a", "b"]);
        assert!(command(&check(&["NONE"]), &config).is_none());
    }
}
