//! Whether and when a container is started again: pure decisions.
//!
//! Specification: <https://docs.docker.com/engine/containers/start-containers-automatically/>.

use std::time::Duration;

use crate::model::host::RestartPolicy;

/// The first delay; each further one is twice as long.
const FIRST: Duration = Duration::from_millis(100);
/// No delay is longer.
const LONGEST: Duration = Duration::from_secs(60);
/// Who ran for this long begins with the first delay again.
const STEADY: Duration = Duration::from_secs(10);

/// How a run has ended.
#[derive(Clone, Copy, Debug)]
pub struct Ended {
    /// Exit code.
    pub code: i32,
    /// Whether somebody asked for it.
    pub by_hand: bool,
    /// For how long it ran.
    pub ran: Duration,
    /// Times that it was started again since somebody started it.
    pub restarts: u32,
    /// The delay before the last one.
    pub delay: Duration,
}

/// After which delay it is started again; `None` for not at all.
pub fn restart_after(policy: &RestartPolicy, ended: Ended) -> Option<Duration> {
    if ended.by_hand {
        return None;
    }
    let again = match policy.name.as_str() {
        "always" | "unless-stopped" => true,
        "on-failure" => {
            let left = u32::try_from(policy.maximum_retry_count).unwrap_or(0);
            ended.code != 0 && (left == 0 || ended.restarts < left)
        }
        _ => false,
    };
    again.then(|| if ended.ran >= STEADY || ended.delay.is_zero() { FIRST } else { (ended.delay * 2).min(LONGEST) })
}

/// Whether a container that does not run is started when the engine starts. `ran` says that it ran when the last one ended,
/// `booted` that the machine was started since.
pub fn start_with_engine(policy: &RestartPolicy, by_hand: bool, ran: bool, booted: bool, code: i32) -> bool {
    match policy.name.as_str() {
        "always" => ran || booted,
        "unless-stopped" => !by_hand && (ran || booted),
        "on-failure" => ran && !by_hand && code != 0,
        _ => false,
    }
}

/// Whether a policy can be followed; `auto_remove` says that the container goes when it ends.
pub fn check(policy: &RestartPolicy, auto_remove: bool) -> Result<(), String> {
    let RestartPolicy { name, maximum_retry_count: count } = policy;
    match name.as_str() {
        "" | "no" | "always" | "unless-stopped" if *count > 0 => {
            return Err("invalid restart policy: maximum retry count can only be used with 'on-failure'".into());
        }
        "" | "no" | "always" | "unless-stopped" => {}
        "on-failure" if *count < 0 => {
            return Err("invalid restart policy: maximum retry count cannot be negative".into());
        }
        "on-failure" => {}
        other => {
            return Err(format!(
                "invalid restart policy: unknown policy '{other}'; use one of 'no', 'always', 'on-failure', or \
                 'unless-stopped'"
            ));
        }
    }
    if auto_remove && !matches!(name.as_str(), "" | "no") {
        return Err("can't create 'AutoRemove' container with restart policy".into());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(name: &str, count: i64) -> RestartPolicy {
        RestartPolicy { name: name.into(), maximum_retry_count: count }
    }

    fn ended(code: i32) -> Ended {
        Ended { code, by_hand: false, ran: Duration::ZERO, restarts: 0, delay: Duration::ZERO }
    }

    #[test]
    fn policies_say_who_is_started_again() {
        for (name, count, code, restarts, expected) in [
            ("no", 0, 1, 0, false),
            ("", 0, 1, 0, false),
            ("always", 0, 0, 9, true),
            ("unless-stopped", 0, 0, 9, true),
            ("on-failure", 0, 0, 0, false),
            ("on-failure", 0, 1, 99, true),
            ("on-failure", 3, 1, 2, true),
            ("on-failure", 3, 1, 3, false),
        ] {
            let again = restart_after(&policy(name, count), Ended { restarts, ..ended(code) });
            assert_eq!(again.is_some(), expected, "{name} {count} {code} {restarts}");
        }
        assert!(restart_after(&policy("always", 0), Ended { by_hand: true, ..ended(0) }).is_none());
    }

    #[test]
    fn delays_double_up_to_a_minute_and_begin_anew_after_a_steady_run() {
        let always = policy("always", 0);
        let mut delay = Duration::ZERO;
        let mut seen = Vec::new();
        for _ in 0..12 {
            delay = restart_after(&always, Ended { delay, ..ended(1) }).unwrap();
            seen.push(delay.as_millis());
        }
        assert_eq!(seen[..4], [100, 200, 400, 800]);
        assert_eq!(seen[11], 60_000);
        let steady = Ended { delay, ran: Duration::from_secs(11), ..ended(1) };
        assert_eq!(restart_after(&always, steady), Some(FIRST));
    }

    #[test]
    fn the_engines_own_start_starts_whom_the_policy_names() {
        for (name, by_hand, ran, booted, code, expected) in [
            ("no", false, true, true, 1, false),
            ("always", true, false, true, 0, true),
            ("always", true, false, false, 0, false),
            ("always", false, true, false, 137, true),
            ("unless-stopped", true, false, true, 0, false),
            ("unless-stopped", false, true, false, 0, true),
            ("on-failure", false, true, false, 0, false),
            ("on-failure", false, true, true, 137, true),
        ] {
            let starts = start_with_engine(&policy(name, 0), by_hand, ran, booted, code);
            assert_eq!(starts, expected, "{name} {by_hand} {ran} {booted} {code}");
        }
    }

    #[test]
    fn policies_that_cannot_be_followed_are_refused() {
        for (name, count, auto_remove, good) in [
            ("", 0, true, true),
            ("always", 0, false, true),
            ("always", 2, false, false),
            ("on-failure", 2, false, true),
            ("on-failure", -1, false, false),
            ("sometimes", 0, false, false),
            ("always", 0, true, false),
        ] {
            assert_eq!(check(&policy(name, count), auto_remove).is_ok(), good, "{name} {count} {auto_remove}");
        }
    }
}
